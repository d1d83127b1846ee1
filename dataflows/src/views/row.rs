//! What a view is made of: keys, and for each key a few sums of whole numbers.

use std::fmt;

use differential_dataflow::difference::{IsZero, Monoid, Semigroup};
use serde::{Deserialize, Serialize, Serializer};
use smol_str::SmolStr;

/// How many sums a view has at most.
pub const SUMS: usize = 6;

/// What stands between two fields of a key. No field has it: it is cut out of them.
const BETWEEN: char = '\u{1f}';

/// The fields of a row's key, as texts, in the order of the view's. Of at most 23 bytes, as nearly all are,
/// they lie in the key itself: it is compared without a look elsewhere, and what one worker has made and
/// another drops is not counted by both. More are shared by all clones.
///
/// ```
/// use visitflow_dataflows::views::Key;
/// let key = Key::of(["banner", "spring-3"]);
/// assert_eq!(key.fields().collect::<Vec<_>>(), ["banner", "spring-3"]);
/// assert_eq!(key.to_string(), "banner spring-3");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(from = "Box<str>")]
pub struct Key(SmolStr);

impl Key {
    /// Of these fields.
    pub fn of<'a>(fields: impl IntoIterator<Item = &'a str>) -> Key {
        let mut text = String::new();
        Key::write(fields, &mut text);
        Key::of_text(&text)
    }

    /// Writes these fields as the text of a key, in place of what was there.
    pub(crate) fn write<'a>(fields: impl IntoIterator<Item = &'a str>, text: &mut String) {
        text.clear();
        for (n, field) in fields.into_iter().enumerate() {
            if n > 0 {
                text.push(BETWEEN);
            }
            if field.contains(BETWEEN) {
                text.extend(field.chars().filter(|c| *c != BETWEEN));
            } else {
                text.push_str(field);
            }
        }
    }

    /// Of a text that was [written](Key::write).
    pub(crate) fn of_text(text: &str) -> Key {
        Key(text.into())
    }

    /// The text, as it was written.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// Its fields.
    pub fn fields(&self) -> impl Iterator<Item = &str> {
        self.0.split(BETWEEN)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The first field, by which the best of a view are chosen, if it has several.
    #[must_use]
    pub fn first(&self) -> &str {
        self.fields().next().unwrap_or_default()
    }
}

impl Default for Key {
    fn default() -> Key {
        Key::of([])
    }
}

impl From<Box<str>> for Key {
    fn from(fields: Box<str>) -> Key {
        Key(fields.into())
    }
}

impl Serialize for Key {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.0)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = self.fields();
        f.write_str(fields.next().unwrap_or_default())?;
        fields.try_for_each(|field| write!(f, " {field}"))
    }
}

/// The sums of a key, in the order of the view's values; those that it has not are 0. As differences
/// of a differential collection they add up.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Sums(pub [i64; SUMS]);

impl Sums {
    /// One `amount` in the place `n`.
    #[must_use]
    pub fn one(n: usize, amount: i64) -> Sums {
        let mut sums = Sums::default();
        sums.0[n] = amount;
        sums
    }

    /// The same, taken back.
    #[must_use]
    pub fn negated(self) -> Sums {
        Sums(self.0.map(i64::wrapping_neg))
    }
}

impl IsZero for Sums {
    fn is_zero(&self) -> bool {
        self.0 == [0; SUMS]
    }
}

impl Semigroup for Sums {
    fn plus_equals(&mut self, other: &Sums) {
        let pairs = self.0.iter_mut().zip(other.0);
        pairs.for_each(|(sum, amount)| *sum = sum.wrapping_add(amount));
    }
}

impl Monoid for Sums {
    fn zero() -> Sums {
        Sums::default()
    }
}

/// A row of a view: its key and its sums.
pub type Row = (Key, Sums);
