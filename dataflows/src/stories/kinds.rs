//! Kinds of things that are shown. A page shows many for one reason, and all pages show such: so what is
//! said of a kind is found out once a visit, and not for each.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use smol_str::SmolStr;

use crate::fact::Fact;

/// So many kinds are known at most, since whoever sends chooses them: then it begins anew.
const MOST: usize = 10_000;
/// None is known with a longer word.
const LONGEST: usize = 256;

/// The kinds that were met, by numbers.
#[derive(Default)]
pub(super) struct Kinds {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    all: Vec<Kind>,
    /// The number of the first of them; no number is given to another kind.
    first: u32,
    /// The one that was met last, which is the likeliest.
    latest: u32,
}

/// Entity, reason and variant.
type Kind = (SmolStr, Option<SmolStr>, Option<SmolStr>);

fn words_of((entity, reason, variant): &Kind) -> (&str, Option<&str>, Option<&str>) {
    (entity, reason.as_deref(), variant.as_deref())
}

impl Kinds {
    /// The number of the kind of what is shown, which all that have it are of; none, if it has too long a word.
    pub fn number(&mut self, fact: &Fact<'_>) -> Option<u32> {
        let words = (fact.entity, fact.reason, fact.variant);
        let all = &self.all;
        let latest = all.get(self.latest as usize);
        if latest.is_some_and(|latest| words_of(latest) == words) {
            return Some(self.first.wrapping_add(self.latest));
        }
        let hash = self.hasher.hash_one(words);
        let same = |at: &u32| words_of(&all[*at as usize]) == words;
        if let Some(at) = self.numbers.find(hash, same) {
            self.latest = *at;
            return Some(self.first.wrapping_add(*at));
        }
        let lengths = [Some(fact.entity), fact.reason, fact.variant].map(|word| word.map(str::len));
        if lengths.iter().flatten().any(|length| *length > LONGEST) {
            return None;
        }
        if self.all.len() == MOST {
            self.numbers.clear();
            self.all.clear();
            self.first = self.first.wrapping_add(MOST as u32);
        }
        let at = self.all.len() as u32;
        self.latest = at;
        let owned = |word: Option<&str>| word.map(SmolStr::new);
        self.all
            .push((SmolStr::new(words.0), owned(words.1), owned(words.2)));
        let (all, hasher) = (&self.all, &self.hasher);
        let hash_of = |at: &u32| hasher.hash_one(words_of(&all[*at as usize]));
        self.numbers.insert_unique(hash, at, hash_of);
        Some(self.first.wrapping_add(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_alike_has_one_number() {
        let mut kinds = Kinds::default();
        let long = "x".repeat(LONGEST + 1);
        let words = [Some("a"), Some("b"), Some(""), None];
        let mut numbers = Vec::new();
        for (entity, reason, variant) in words.iter().flat_map(|entity| {
            let pairs = words
                .iter()
                .flat_map(|reason| words.map(|variant| (*reason, variant)));
            pairs.map(|(reason, variant)| (entity.unwrap_or("page"), reason, variant))
        }) {
            let fact = Fact {
                entity,
                reason,
                variant,
                ..Fact::default()
            };
            let number = kinds.number(&fact).expect("there is room");
            assert_eq!(
                kinds.number(&Fact {
                    value: Some(1),
                    ..fact
                }),
                Some(number)
            );
            assert!(!numbers.contains(&number));
            numbers.push(number);
            let long = Some(&long[..]);
            assert_eq!(
                kinds.number(&Fact {
                    reason: long,
                    ..fact
                }),
                None
            );
        }
        // Of many none has the number of another, and they do not stay.
        for n in 0..3 * MOST {
            let entity = format!("e{n}");
            let entity = &entity[..];
            let fact = Fact {
                entity,
                ..Fact::default()
            };
            assert_eq!(kinds.number(&fact), Some((n + numbers.len()) as u32));
            assert!(kinds.all.len() <= MOST && kinds.numbers.len() == kinds.all.len());
        }
    }
}
