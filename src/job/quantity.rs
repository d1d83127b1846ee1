//! Durations and sizes as people write them: `30min`, `1h 30m`, `64 MiB`, `1_000_000`. For whoever
//! reads or prints a setting. Promises that what it prints it reads back to the same number, and
//! that a number it cannot hold exactly is an error, never a rounded value. It is not a calendar: a
//! day is 24 hours, and there are no months.

use std::fmt;

use thiserror::Error;

/// Why a text is not a duration or a size.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum QuantityError {
    /// There is nothing but white space.
    #[error("nothing is written there")]
    Empty,
    /// A number was expected at this text.
    #[error("{0} is not a number")]
    NoNumber(String),
    /// A duration's number has no unit.
    #[error("{0} has no unit, which is one of ms, s, min, h, d, w")]
    NoUnit(String),
    /// The unit is not one of a duration's.
    #[error("{0} is not a unit, which is one of ms, s, min, h, d, w")]
    UnknownTimeUnit(String),
    /// The unit is not one of a size's.
    #[error("{0} is not a unit, which is one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB")]
    UnknownSizeUnit(String),
    /// The parts of a duration do not go from large to small.
    #[error("{0} comes after a part with the same or a smaller unit")]
    Unordered(String),
    /// The value is not a whole number of the smallest unit, which is named.
    #[error("{0} is not a whole number of {1}")]
    NotWhole(String, &'static str),
    /// The value does not fit into 64 bits.
    #[error("{0} is too large")]
    TooLarge(String),
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
const WEEK: u64 = 7 * DAY;

/// Reads a duration: parts of a number and a unit, from large to small, with or without spaces.
/// Returns milliseconds.
///
/// ```
/// use visitflow::job::quantity::parse_duration;
/// assert_eq!(parse_duration("1h 30m"), Ok(5_400_000));
/// assert_eq!(parse_duration("2 min"), Ok(120_000));
/// assert_eq!(parse_duration("1.5s"), Ok(1_500));
/// assert_eq!(parse_duration("30").unwrap_err().to_string(), "30 has no unit, which is one of ms, s, min, h, d, w");
/// ```
///
/// # Errors
/// What is wrong with the text; a bare number other than 0 is an error, since nobody can know which unit was meant.
pub fn parse_duration(text: &str) -> Result<u64, QuantityError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(QuantityError::Empty);
    }
    if rest == "0" {
        return Ok(0);
    }
    let mut total: u64 = 0;
    let mut unit_before = u64::MAX;
    while !rest.is_empty() {
        let part = Part::split(rest)?;
        if part.unit.is_empty() {
            return Err(QuantityError::NoUnit(part.number.to_owned()));
        }
        let unit = time_unit(part.unit)
            .ok_or_else(|| QuantityError::UnknownTimeUnit(part.unit.to_owned()))?;
        if unit >= unit_before {
            return Err(QuantityError::Unordered(part.text()));
        }
        unit_before = unit;
        total = total
            .checked_add(part.times(unit, "milliseconds")?)
            .ok_or_else(|| QuantityError::TooLarge(text.trim().to_owned()))?;
        rest = part.rest;
    }
    Ok(total)
}

/// Reads a size: a number and a unit, which may be left out for bytes. `k`, `M`, `G`, `T` are
/// powers of 1000 with or without a `B`, and powers of 1024 with an `i`. Returns bytes.
///
/// ```
/// use visitflow::job::quantity::parse_size;
/// assert_eq!(parse_size("64MB"), Ok(64_000_000));
/// assert_eq!(parse_size("64 MiB"), Ok(67_108_864));
/// assert_eq!(parse_size("1_000_000"), Ok(1_000_000));
/// assert_eq!(parse_size("512k"), Ok(512_000));
/// ```
///
/// # Errors
/// What is wrong with the text.
pub fn parse_size(text: &str) -> Result<u64, QuantityError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(QuantityError::Empty);
    }
    let part = Part::split(text)?;
    if !part.rest.is_empty() {
        let unit = format!("{} {}", part.unit, part.rest);
        return Err(QuantityError::UnknownSizeUnit(unit.trim().to_owned()));
    }
    let unit =
        size_unit(part.unit).ok_or_else(|| QuantityError::UnknownSizeUnit(part.unit.to_owned()))?;
    part.times(unit, "bytes")
}

/// Prints milliseconds as a duration that [`parse_duration`] reads: `30min`, `1h 30min`, `24h`, `2d
/// 1h`, `0s`.
///
/// ```
/// use visitflow::job::quantity::Milliseconds;
/// assert_eq!(Milliseconds(5_400_000).to_string(), "1h 30min");
/// ```
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Milliseconds(
    /// The number of milliseconds.
    pub u64,
);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let mut rest = self.0;
        let mut space = "";
        for (unit, name) in [
            (DAY, "d"),
            (HOUR, "h"),
            (MINUTE, "min"),
            (SECOND, "s"),
            (1, "ms"),
        ] {
            // People say 24 hours and 36 hours, but two days.
            if rest < unit || (unit == DAY && self.0 < 2 * DAY) {
                continue;
            }
            write!(f, "{space}{}{name}", rest / unit)?;
            rest %= unit;
            space = " ";
        }
        Ok(())
    }
}

/// Prints bytes as a size that [`parse_size`] reads, in the unit that makes the shortest whole
/// number: `64MB`, `64MiB`, `1_234_567`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bytes(
    /// The number of bytes.
    pub u64,
);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u64, &str); 8] = [
            (1_000_000_000_000, "TB"),
            (1 << 40, "TiB"),
            (1_000_000_000, "GB"),
            (1 << 30, "GiB"),
            (1_000_000, "MB"),
            (1 << 20, "MiB"),
            (1_000, "kB"),
            (1 << 10, "KiB"),
        ];
        let whole = UNITS
            .iter()
            .filter(|(unit, _)| self.0 != 0 && self.0.is_multiple_of(*unit));
        match whole.min_by_key(|(unit, _)| self.0 / unit) {
            Some((unit, name)) => write!(f, "{}{name}", Count(self.0 / unit)),
            None => Count(self.0).fmt(f),
        }
    }
}

/// Prints a whole number in groups of three digits: `100_000`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Count(
    /// The number.
    pub u64,
);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (i, digit) in digits.char_indices() {
            if i > 0 && (digits.len() - i).is_multiple_of(3) {
                f.write_str("_")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

/// A number, its unit and what follows them.
struct Part<'a> {
    number: &'a str,
    unit: &'a str,
    rest: &'a str,
}

impl<'a> Part<'a> {
    /// Splits the first number and unit off a text that does not begin with white space.
    fn split(text: &'a str) -> Result<Self, QuantityError> {
        let is_number = |c: char| c.is_ascii_digit() || c == '.' || c == '_';
        let (number, after) = text.split_at(text.find(|c| !is_number(c)).unwrap_or(text.len()));
        if number.is_empty() {
            return Err(QuantityError::NoNumber(text.to_owned()));
        }
        let after = after.trim_start();
        let (unit, rest) = after.split_at(
            after
                .find(|c: char| !c.is_alphabetic())
                .unwrap_or(after.len()),
        );
        if unit.is_empty() && !rest.is_empty() {
            return Err(QuantityError::NoNumber(text.to_owned()));
        }
        Ok(Part {
            number,
            unit,
            rest: rest.trim_start(),
        })
    }

    fn text(&self) -> String {
        format!("{}{}", self.number, self.unit)
    }

    /// The number times `unit`, exactly.
    fn times(&self, unit: u64, smallest: &'static str) -> Result<u64, QuantityError> {
        let not_a_number = || QuantityError::NoNumber(self.number.to_owned());
        let (whole, fraction) = self.number.split_once('.').unwrap_or((self.number, "0"));
        if !is_digits(whole) || !is_digits(fraction) {
            return Err(not_a_number());
        }
        let too_large = || QuantityError::TooLarge(self.text());
        let whole: u64 = whole.replace('_', "").parse().map_err(|_| too_large())?;
        let fraction = fraction.replace('_', "");
        let fraction = fraction.trim_end_matches('0');
        // 20 digits times a unit below 2^41 stay below 2^128; a longer fraction cannot be a whole
        // number of anything.
        let mut part = 0_u128;
        if !fraction.is_empty() {
            let not_whole = || QuantityError::NotWhole(self.text(), smallest);
            let digits = u32::try_from(fraction.len())
                .ok()
                .filter(|d| *d <= 20)
                .ok_or_else(not_whole)?;
            let numerator: u128 = fraction.parse().map_err(|_| not_a_number())?;
            let scale = 10_u128.pow(digits);
            let product = numerator * u128::from(unit);
            if !product.is_multiple_of(scale) {
                return Err(not_whole());
            }
            part = product / scale;
        }
        u64::try_from(u128::from(whole) * u128::from(unit) + part).map_err(|_| too_large())
    }
}

/// Digits with single `_` between them.
fn is_digits(text: &str) -> bool {
    text.split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()))
}

fn time_unit(name: &str) -> Option<u64> {
    // A single capital letter is refused: M is as often a month as a minute.
    let name = if name.len() > 1 {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    };
    Some(match name.as_str() {
        "ms" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => SECOND,
        "m" | "min" | "mins" | "minute" | "minutes" => MINUTE,
        "h" | "hr" | "hrs" | "hour" | "hours" => HOUR,
        "d" | "day" | "days" => DAY,
        "w" | "week" | "weeks" => WEEK,
        _ => return None,
    })
}

fn size_unit(name: &str) -> Option<u64> {
    Some(match name.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "ki" | "kib" => 1 << 10,
        "mi" | "mib" => 1 << 20,
        "gi" | "gib" => 1 << 30,
        "ti" | "tib" => 1 << 40,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_as_people_write_them() {
        for (text, ms) in [
            ("30min", 1_800_000),
            ("30m", 1_800_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("1.5h", 5_400_000),
            ("24h", 86_400_000),
            ("500ms", 500),
            ("2 min", 120_000),
            ("1d", 86_400_000),
            ("2 weeks", 1_209_600_000),
            (" 1 Hour  5 SECONDS ", 3_605_000),
            ("1_000 ms", 1_000),
            ("0.001s", 1),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
    }

    #[test]
    fn durations_that_say_nothing_certain_are_refused() {
        for (text, why) in [
            ("", "nothing is written there"),
            ("30", "30 has no unit, which is one of ms, s, min, h, d, w"),
            (
                "30 parsecs",
                "parsecs is not a unit, which is one of ms, s, min, h, d, w",
            ),
            ("1M", "M is not a unit, which is one of ms, s, min, h, d, w"),
            (
                "30m 1h",
                "1h comes after a part with the same or a smaller unit",
            ),
            (
                "1h 1h",
                "1h comes after a part with the same or a smaller unit",
            ),
            ("0.5ms", "0.5ms is not a whole number of milliseconds"),
            ("-5s", "-5s is not a number"),
            ("1..5s", "1..5 is not a number"),
            (".5s", ".5 is not a number"),
            ("1__0s", "1__0 is not a number"),
            ("1h, 5m", ", 5m is not a number"),
            (
                "99999999999999999999s",
                "99999999999999999999s is too large",
            ),
            (
                "18446744073709551615d",
                "18446744073709551615d is too large",
            ),
            ("half an hour", "half an hour is not a number"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn sizes_as_people_write_them() {
        for (text, bytes) in [
            ("64MB", 64_000_000),
            ("64 MiB", 67_108_864),
            ("1_000_000", 1_000_000),
            ("512k", 512_000),
            ("1.5 GB", 1_500_000_000),
            ("1mb", 1_000_000),
            ("7 bytes", 7),
            ("2TiB", 2_199_023_255_552),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_say_nothing_certain_are_refused() {
        let units = "which is one of B, kB, MB, GB, TB, KiB, MiB, GiB, TiB";
        for (text, why) in [
            ("", "nothing is written there".to_owned()),
            ("64 furlongs", format!("furlongs is not a unit, {units}")),
            ("1MB 5kB", format!("MB 5kB is not a unit, {units}")),
            ("0.5B", "0.5B is not a whole number of bytes".to_owned()),
            ("20000000TB", "20000000TB is too large".to_owned()),
            ("MB", "MB is not a number".to_owned()),
        ] {
            assert_eq!(parse_size(text).unwrap_err().to_string(), why, "{text}");
        }
    }

    #[test]
    fn they_are_printed_as_people_say_them() {
        for (ms, text) in [
            (0, "0s"),
            (1, "1ms"),
            (100, "100ms"),
            (1_500, "1s 500ms"),
            (120_000, "2min"),
            (1_800_000, "30min"),
            (86_400_000, "24h"),
            (129_600_000, "36h"),
            (176_400_000, "2d 1h"),
        ] {
            assert_eq!(Milliseconds(ms).to_string(), text);
        }
        for (bytes, text) in [
            (0, "0"),
            (999, "999"),
            (64_000_000, "64MB"),
            (67_108_864, "64MiB"),
            (1_000_000, "1MB"),
            (1_234_567, "1_234_567"),
        ] {
            assert_eq!(Bytes(bytes).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn a_printed_duration_reads_back(ms: u64) {
            prop_assert_eq!(parse_duration(&Milliseconds(ms).to_string()), Ok(ms));
        }

        #[test]
        fn a_printed_size_reads_back(bytes in any::<u64>(), shift in 0_u32..64, scale in 0_u32..19) {
            for bytes in [bytes, (bytes >> shift) << shift, bytes / 10_u64.pow(scale) * 10_u64.pow(scale)] {
                prop_assert_eq!(parse_size(&Bytes(bytes).to_string()), Ok(bytes));
            }
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[0-9._ a-zA-Zµ-]{0,24}|\\PC{0,12}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
        }
    }
}
