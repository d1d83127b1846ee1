//! Pseudonyms: what stands in the anonymized twins for an ID, and the secret salts, one a year,
//! that they are made with. For the role that anonymizes, and for nobody else: whoever has a salt
//! and an ID can compute its pseudonym.
//!
//! A pseudonym is the first 16 bytes of HMAC-SHA-256(salt, kind ‖ 0 ‖ value). The salt is that of
//! the UTC year in which the visit began, for every ID of a record, so that within a year equal
//! IDs have equal pseudonyms in all twins, and across years nothing is equal.
//!
//! | kind | word | value |
//! | --- | --- | --- |
//! | [`Kind::Browser`] | `browser` | the canonical bytes of the ID if they are UTF-8, else their hexadecimal digits |
//! | [`Kind::Customer`] | `customer` | the same |
//! | [`Kind::Visit`] | `visit` | the 16 bytes of the visit's ID |
//! | [`Kind::Event`] | `event` | the 16 bytes of the [`EventKey`](crate::key::EventKey), of an event as of a cause |
//! | [`Kind::Field`] | `field:` and the field's path | the canonical bytes |
//!
//! This module reads and writes no files; it has the file's text:
//!
//! ```
//! use visitflow_schemas::pseudonym::{Kind, Salts, year_of};
//!
//! let text = format!("# secret\n2026 = \"{}\"\n", "00".repeat(32));
//! let salts = Salts::parse(&text)?;
//! let salt = salts.get(year_of(1_767_225_600_000)).unwrap();
//! assert_eq!(salt.pseudonym(&Kind::Browser, b"b-1").len(), 16);
//! assert_ne!(salt.pseudonym(&Kind::Browser, b"b-1"), salt.pseudonym(&Kind::Customer, b"b-1"));
//! # Ok::<(), visitflow_schemas::pseudonym::SaltsError>(())
//! ```

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

use crate::records::browser_text;

/// Bytes of a salt.
pub const SALT_BYTES: usize = 32;

/// What an ID names. IDs of different kinds have different pseudonyms, though they be equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A browser.
    Browser,
    /// A customer.
    Customer,
    /// A visit.
    Visit,
    /// An event, as itself or as the cause of another.
    Event,
    /// What is in the field at this path, which has no role.
    Field(Arc<str>),
}

impl Kind {
    fn feed(&self, mac: &mut Hmac<Sha256>) {
        match self {
            Kind::Browser => mac.update(b"browser"),
            Kind::Customer => mac.update(b"customer"),
            Kind::Visit => mac.update(b"visit"),
            Kind::Event => mac.update(b"event"),
            Kind::Field(path) => {
                mac.update(b"field:");
                mac.update(path.as_bytes());
            }
        }
    }
}

/// The value of a browser or a customer for its pseudonym, from the canonical bytes of its ID: the
/// text that the outputs have for it. The ID of a browser is in some of them as text and in others
/// as bytes; its pseudonym is one.
pub fn text_value(canonical: &[u8]) -> Cow<'_, str> {
    browser_text(canonical)
}

/// The secret of one year. It is wiped when it is dropped, as far as that can be done without
/// `unsafe`: the state of the HMAC that is made of it is not.
#[derive(Clone)]
pub struct Salt {
    bytes: [u8; SALT_BYTES],
    keyed: Hmac<Sha256>,
}

impl Salt {
    /// From 32 bytes of chance.
    pub fn new(bytes: [u8; SALT_BYTES]) -> Salt {
        // Keys of any length are taken; the sole error is of other algorithms.
        let keyed = Hmac::new_from_slice(&bytes).expect("HMAC takes keys of any length");
        Salt { bytes, keyed }
    }

    /// The pseudonym of a value. Two blocks of SHA-256, some 0.2 µs.
    pub fn pseudonym(&self, kind: &Kind, value: &[u8]) -> [u8; 16] {
        let mut mac = self.keyed.clone();
        kind.feed(&mut mac);
        mac.update(&[0]);
        mac.update(value);
        let mut first = [0; 16];
        first.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        first
    }
}

impl Drop for Salt {
    fn drop(&mut self) {
        self.bytes.fill(0);
        std::hint::black_box(&self.bytes);
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt(secret)")
    }
}

/// What is wrong with the text of a file of salts. No salt is ever in it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SaltsError {
    /// A line that says no salt.
    #[error("line {line}: {found}, expected a year and its salt: 2026 = \"64 hexadecimal digits\"")]
    Line {
        /// The line, from 1.
        line: usize,
        /// What is wrong, without the salt.
        found: &'static str,
    },
    /// Two salts for one year.
    #[error("line {line}: a second salt for {year}, expected one a year")]
    Twice {
        /// The line, from 1.
        line: usize,
        /// The year.
        year: i64,
    },
    /// One salt for two years.
    #[error(
        "line {line}: {year} has the salt of another year; expected one of its own, since equal salts join the years"
    )]
    Same {
        /// The line, from 1.
        line: usize,
        /// The year.
        year: i64,
    },
}

/// Salts by year.
///
/// As text, a line a year: `2026 = "64 hexadecimal digits"`; empty lines and what follows a `#`
/// mean nothing. The text is TOML.
#[derive(Clone, Debug, Default)]
pub struct Salts {
    years: BTreeMap<i64, Salt>,
}

impl Salts {
    /// Reads the text of a file.
    pub fn parse(text: &str) -> Result<Salts, SaltsError> {
        let mut salts = Salts::default();
        for (number, line) in text.lines().enumerate() {
            let line_number = number + 1;
            let wrong = |found| SaltsError::Line {
                line: line_number,
                found,
            };
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let (year, salt) = line.split_once('=').ok_or(wrong("no `=`"))?;
            let year = year.trim().trim_matches('"');
            let year: i64 = year.parse().map_err(|_| wrong("no year"))?;
            let digits = salt.trim().strip_prefix('"');
            let digits = digits.and_then(|digits| digits.strip_suffix('"'));
            let digits = digits.ok_or(wrong("no quotes around the salt"))?;
            if digits.len() != 2 * SALT_BYTES {
                return Err(wrong("a salt of another length"));
            }
            let mut bytes = [0; SALT_BYTES];
            for (byte, pair) in bytes.iter_mut().zip(digits.as_bytes().chunks(2)) {
                let digit = |digit: u8| (digit as char).to_digit(16);
                let value = digit(pair[0]).zip(digit(pair[1]));
                let (high, low) = value.ok_or(wrong("a salt with other characters"))?;
                *byte = (high << 4 | low) as u8;
            }
            if salts.years.values().any(|other| other.bytes == bytes) {
                let line = line_number;
                return Err(SaltsError::Same { line, year });
            }
            if salts.years.insert(year, Salt::new(bytes)).is_some() {
                let line = line_number;
                return Err(SaltsError::Twice { line, year });
            }
        }
        Ok(salts)
    }

    /// The text of a file that holds these salts, the earliest year first.
    pub fn to_text(&self) -> String {
        let mut text = String::from(
            "# Visitflow's salts: secret. Whoever has one can tell which pseudonym is whose.\n\
             # Remove a year's line when its last identified data has expired.\n",
        );
        for (year, salt) in &self.years {
            // Writing into a String cannot fail.
            let _ = write!(text, "{year} = \"");
            for byte in &salt.bytes {
                let _ = write!(text, "{byte:02x}");
            }
            text.push_str("\"\n");
        }
        text
    }

    /// The salt of a year, if there is one.
    pub fn get(&self, year: i64) -> Option<&Salt> {
        self.years.get(&year)
    }

    /// Takes 32 bytes of chance as the salt of a year, unless the year has one.
    pub fn add(&mut self, year: i64, bytes: [u8; SALT_BYTES]) -> &Salt {
        self.years.entry(year).or_insert_with(|| Salt::new(bytes))
    }

    /// The years that have salts, the earliest first.
    pub fn years(&self) -> impl Iterator<Item = i64> {
        self.years.keys().copied()
    }
}

/// The UTC year of a time in milliseconds since 1970, for every time there is (Howard Hinnant,
/// "chrono-Compatible Low-Level Date Algorithms").
pub fn year_of(ms: i64) -> i64 {
    let day = ms.div_euclid(86_400_000) + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    // Years begin in March here: the days from January 1 on belong to the next.
    year + era * 400 + i64::from(of_year >= 306)
}

/// 32 hexadecimal digits: a pseudonym as text.
pub fn hex(pseudonym: [u8; 16]) -> [u8; 32] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; 32];
    for (i, byte) in pseudonym.into_iter().enumerate() {
        text[2 * i] = DIGITS[usize::from(byte >> 4)];
        text[2 * i + 1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn text_of(year: i64, byte: u8) -> String {
        format!("{year} = \"{}\"\n", format!("{byte:02x}").repeat(32))
    }

    #[test]
    fn a_pseudonym_is_an_hmac_over_kind_zero_and_value() {
        // printf 'browser\0b-1' | openssl dgst -sha256 -mac HMAC -macopt hexkey:0b0b…
        let salt = Salt::new([0x0b; 32]);
        let pseudonym = salt.pseudonym(&Kind::Browser, b"b-1");
        assert_eq!(
            std::str::from_utf8(&hex(pseudonym)).unwrap(),
            "d577ad600a38541a9e01fe48fb8c5c4c"
        );
        // Kind and value cannot be told apart otherwise than by the zero between them.
        let field = |path: &str, value: &[u8]| salt.pseudonym(&Kind::Field(path.into()), value);
        assert_ne!(field("a", b"bc"), field("ab", b"c"));
        assert_ne!(field("browser", b"b-1"), pseudonym);
    }

    #[test]
    fn salts_come_back_from_their_text() {
        let mut salts = Salts::default();
        salts.add(2026, [7; 32]);
        salts.add(-3, [8; 32]);
        let first = salts.add(2026, [9; 32]).pseudonym(&Kind::Visit, b"");
        let again = Salts::parse(&salts.to_text()).unwrap();
        assert_eq!(again.years().collect::<Vec<_>>(), [-3, 2026]);
        assert_eq!(again.get(2026).unwrap().pseudonym(&Kind::Visit, b""), first);
        assert_eq!(again.to_text(), salts.to_text());
        assert!(again.get(2027).is_none());
    }

    #[test]
    fn what_is_no_text_of_salts_is_told_by_line_and_without_a_salt() {
        let error = |text: &str| Salts::parse(text).unwrap_err().to_string();
        let two = format!("# a\n\n{}", text_of(2025, 1));
        assert_eq!(
            error(&format!("{two}2026")),
            "line 4: no `=`, expected a year and its salt: 2026 = \"64 hexadecimal digits\""
        );
        assert!(error("last = \"00\"").starts_with("line 1: no year"));
        assert!(error("2026 = 00").starts_with("line 1: no quotes"));
        assert!(error("2026 = \"00\"").starts_with("line 1: a salt of another length"));
        let odd = text_of(2026, 1).replace("01\"", "0é");
        assert!(!error(&odd).contains("01"), "{}", error(&odd));
        let odd = text_of(2026, 1).replace("01\"", "zz\"");
        assert!(error(&odd).starts_with("line 1: a salt with other"));
        assert!(error(&format!("{two}{}", text_of(2025, 2))).starts_with("line 4: a second"));
        assert!(error(&format!("{two}{}", text_of(2026, 1))).contains("salt of another year"));
    }

    #[test]
    fn a_year_begins_at_midnight_utc() {
        assert_eq!(year_of(0), 1970);
        assert_eq!(year_of(-1), 1969);
        assert_eq!(year_of(1_767_225_599_999), 2025);
        assert_eq!(year_of(1_767_225_600_000), 2026);
        // A leap year's last day.
        assert_eq!(year_of(1_735_603_200_000), 2024);
    }

    proptest! {
        #[test]
        fn years_are_those_of_the_calendar(day in -2_000_000_i64..2_000_000) {
            // Sum of years' lengths, against the formula.
            let leap = |y: i64| y % 4 == 0 && (y % 100 != 0 || y % 400 == 0);
            let year = year_of(day * 86_400_000);
            let before = |y: i64| 365 * (y - 1970) + (y - 1).div_euclid(4) - (y - 1).div_euclid(100)
                + (y - 1).div_euclid(400) - 477;
            let first = before(year);
            prop_assert!(first <= day && day < first + 365 + i64::from(leap(year)));
        }

        #[test]
        fn any_text_and_any_time_is_taken_or_refused(text: String, ms: i64) {
            let _ = Salts::parse(&text);
            let _ = year_of(ms);
        }
    }
}
