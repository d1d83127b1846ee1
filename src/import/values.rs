//! Texts of logs and exports into values: times, exact numbers, IDs; and texts that may be shown.
//! Nothing here goes through floats, and nothing panics on any text.

use std::borrow::Cow;
use std::fmt::Write;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::tz::Offset;
use sha2::{Digest, Sha256};

pub(super) const HEX: &[u8; 16] = b"0123456789abcdef";

/// The first and the last moment that an import takes, in ms: the years 1990 to 2099. No website
/// is older, and seconds taken for milliseconds (or the other way round) always miss it.
const YEARS: std::ops::Range<i64> = 631_152_000_000..4_102_444_800_000;

/// `time`, if a website can have measured it.
pub(super) fn plausible(time: i64) -> Option<i64> {
    YEARS.contains(&time).then_some(time)
}

/// The form of a text, at most 40 characters of it: letters as `a`, digits as `9`, the rest as it
/// is. It helps to see what is wrong and shows nobody's name or address.
pub fn shape(text: &str) -> String {
    let mut out = String::new();
    for (i, c) in text.chars().enumerate() {
        if i == 40 {
            out.push('…');
            break;
        }
        match c {
            _ if c.is_ascii_digit() => out.push('9'),
            _ if c.is_alphanumeric() => out.push('a'),
            _ if c.is_control() => out.extend(c.escape_default()),
            _ => out.push(c),
        }
    }
    out
}

/// The text in bytes; each byte that is not UTF-8 becomes `before` and two hex digits, with
/// `before` = `\x` what Apache would have logged.
pub(super) fn text<'a>(bytes: &'a [u8], before: &str) -> Cow<'a, str> {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        out.push_str(chunk.valid());
        for byte in chunk.invalid() {
            let _ = write!(out, "{before}{byte:02x}");
        }
    }
    Cow::Owned(out)
}

/// Days from 1970-01-01 to a day of the Gregorian calendar (Hinnant, "chrono-compatible low-level
/// date algorithms"), for years from 0.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// `26/Jan/2019:19:45:25 +0330` in ms since 1970. By hand, since it is read for every line.
pub(super) fn access_log_time(text: &[u8]) -> Option<i64> {
    let text: &[u8; 26] = text.try_into().ok()?;
    let number = |from: usize, len: usize| {
        text[from..from + len].iter().try_fold(0_i64, |sum, byte| {
            byte.is_ascii_digit()
                .then(|| sum * 10 + i64::from(byte - b'0'))
        })
    };
    for (at, byte) in [
        (2, b'/'),
        (6, b'/'),
        (11, b':'),
        (14, b':'),
        (17, b':'),
        (20, b' '),
    ] {
        if text[at] != byte {
            return None;
        }
    }
    let month = b"JanFebMarAprMayJunJulAugSepOctNovDec"
        .chunks(3)
        .position(|name| name == &text[3..6])? as i64
        + 1;
    let (day, year) = (number(0, 2)?, number(7, 4)?);
    let (hour, minute, second) = (number(12, 2)?, number(15, 2)?, number(18, 2)?);
    let (zone_hour, zone_minute) = (number(22, 2)?, number(24, 2)?);
    let sign = match text[21] {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let length = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    // Second 60 is a leap second: the next minute's first.
    if !(1..=length).contains(&day)
        || hour > 23
        || minute > 59
        || second > 60
        || zone_hour > 23
        || zone_minute > 59
    {
        return None;
    }
    let local = ((days(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    plausible((local - sign * (zone_hour * 60 + zone_minute) * 60) * 1000)
}

/// What to do with digits below the unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    /// They are an error.
    Exact,
    /// To the nearest, halves away from zero.
    Half,
    /// Down, as for times.
    Down,
}

/// Why a text is not a number of the wanted kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NumberFault {
    NotANumber,
    TooLarge,
    TooFine,
}

/// `text` times `scale`, exactly, by its decimal digits: `251.74` times 100 is 25174. `point` is
/// the decimal sign. Up to 27 digits and an exponent (`1.5e3`).
pub(super) fn scaled(
    text: &str,
    scale: i64,
    point: u8,
    rounding: Rounding,
) -> Result<i64, NumberFault> {
    use NumberFault::{NotANumber, TooFine, TooLarge};
    let bytes = text.trim_ascii().as_bytes();
    let (negative, mut rest) = match bytes {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, bytes),
    };
    let (mut mantissa, mut exponent, mut seen, mut after_point) = (0_i128, 0_i64, false, false);
    while let [byte, tail @ ..] = rest {
        match byte {
            b'0'..=b'9' => {
                if mantissa >= 10_i128.pow(26) {
                    return Err(TooLarge);
                }
                mantissa = mantissa * 10 + i128::from(byte - b'0');
                exponent -= i64::from(after_point);
                seen = true;
            }
            _ if *byte == point && !after_point => after_point = true,
            b'e' | b'E' if seen => break,
            _ => return Err(NotANumber),
        }
        rest = tail;
    }
    if let [_, tail @ ..] = rest {
        let tail = std::str::from_utf8(tail).map_err(|_| NotANumber)?;
        exponent += i64::from(tail.parse::<i16>().map_err(|_| NotANumber)?);
    }
    if !seen {
        return Err(NotANumber);
    }
    if mantissa == 0 {
        return Ok(0);
    }
    while mantissa % 10 == 0 {
        mantissa /= 10;
        exponent += 1;
    }
    let product = mantissa * i128::from(scale);
    let result = if exponent >= 0 {
        let power = u32::try_from(exponent)
            .ok()
            .and_then(|e| 10_i128.checked_pow(e));
        let grown = power.and_then(|power| product.checked_mul(power));
        let grown = grown.ok_or(TooLarge)?;
        if negative { -grown } else { grown }
    } else {
        let signed = if negative { -product } else { product };
        // A product is under 10^37: by 10^38 only its sign is left.
        let divisor = 10_i128.pow(u32::try_from(-exponent).unwrap_or(38).min(38));
        let remainder = signed.rem_euclid(divisor);
        match rounding {
            Rounding::Exact if remainder != 0 => return Err(TooFine),
            Rounding::Exact | Rounding::Down => signed.div_euclid(divisor),
            Rounding::Half => {
                let whole = signed / divisor;
                let half = (signed % divisor).abs() >= divisor - divisor / 2;
                whole + i128::from(half) * signed.signum()
            }
        }
    };
    i64::try_from(result).map_err(|_| TooLarge)
}

/// How a mapping file says that times are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum TimeFormat {
    Seconds,
    Milliseconds,
    Microseconds,
    Rfc3339,
    /// As of `strptime`, and the offset where the pattern has none.
    Pattern(String, Offset),
}

impl TimeFormat {
    /// The words of the mapping language; everything else is a pattern.
    pub(super) const WORDS: [&str; 4] = ["ms", "s", "us", "rfc3339"];

    /// A pattern that can be read: it is tried on a moment.
    pub(super) fn pattern(pattern: &str, offset: Offset) -> Result<TimeFormat, String> {
        let format = TimeFormat::Pattern(pattern.to_owned(), offset);
        let moment = jiff::Timestamp::UNIX_EPOCH
            .checked_add(jiff::SignedDuration::from_secs(1_700_000_000))
            .map_err(|error| error.to_string())?
            .to_zoned(jiff::tz::TimeZone::UTC);
        let written = BrokenDownTime::from(&moment)
            .to_string(pattern)
            .map_err(|error| error.to_string())?;
        read_pattern(pattern, offset, &written).map_err(|error| error.to_string())?;
        Ok(format)
    }

    /// The time in ms, rounded down; none if `text` is not of this form or no website's time.
    pub(super) fn read(&self, text: &str) -> Option<i64> {
        let number = |scale| scaled(text, scale, b'.', Rounding::Down).ok();
        plausible(match self {
            TimeFormat::Seconds => number(1000)?,
            TimeFormat::Milliseconds => number(1)?,
            TimeFormat::Microseconds => number(1)?.div_euclid(1000),
            TimeFormat::Rfc3339 => text
                .trim()
                .parse::<jiff::Timestamp>()
                .ok()?
                .as_millisecond(),
            TimeFormat::Pattern(pattern, offset) => read_pattern(pattern, *offset, text).ok()?,
        })
    }
}

fn read_pattern(pattern: &str, offset: Offset, text: &str) -> Result<i64, jiff::Error> {
    let parts = BrokenDownTime::parse(pattern, text)?;
    if let Some(timestamp) = parts.timestamp() {
        return Ok(timestamp.as_millisecond());
    }
    let local = parts.to_datetime()?;
    let offset = parts.offset().unwrap_or(offset);
    Ok(offset.to_timestamp(local)?.as_millisecond())
}

/// The 16 bytes of an ID: a UUID's or 32 hex digits' own, else the first 16 of SHA-256 of the text.
pub(super) fn id(text: &str) -> [u8; 16] {
    let mut id = [0; 16];
    let mut count = 0;
    for (at, byte) in text.bytes().enumerate() {
        let Some(digit) = (byte as char).to_digit(16) else {
            if byte == b'-' && text.len() == 36 && matches!(at, 8 | 13 | 18 | 23) {
                continue;
            }
            count = usize::MAX;
            break;
        };
        if count == 32 {
            count = usize::MAX;
            break;
        }
        id[count / 2] = id[count / 2] << 4 | digit as u8;
        count += 1;
    }
    if count == 32 {
        return id;
    }
    id.copy_from_slice(&Sha256::digest(text)[..16]);
    id
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn prices_become_cents_by_their_digits() {
        let cents = |text: &str| scaled(text, 100, b'.', Rounding::Exact);
        assert_eq!(cents("251.74"), Ok(25174));
        assert_eq!(cents("-0.10"), Ok(-10));
        assert_eq!(cents("1.5e3"), Ok(150_000));
        assert_eq!(cents("251.7400000"), Ok(25174));
        assert_eq!(cents("90071992547409.93"), Ok(9_007_199_254_740_993));
        assert_eq!(cents("251.745"), Err(NumberFault::TooFine));
        assert_eq!(scaled("251.745", 100, b'.', Rounding::Half), Ok(25175));
        assert_eq!(scaled("-251.745", 100, b'.', Rounding::Half), Ok(-25175));
        assert_eq!(scaled("-0.1", 1, b'.', Rounding::Down), Ok(-1));
        assert_eq!(scaled("0.4", 1, b'.', Rounding::Half), Ok(0));
        assert_eq!(scaled("251,74", 100, b',', Rounding::Exact), Ok(25174));
        assert_eq!(cents("0e999"), Ok(0));
        for wrong in ["", ".", "-", "1.2.3", "1,5", "1e", "e5", "NaN", "0x10"] {
            assert_eq!(cents(wrong), Err(NumberFault::NotANumber), "{wrong}");
        }
        assert_eq!(cents("1e300"), Err(NumberFault::TooLarge));
        assert_eq!(cents(&"9".repeat(40)), Err(NumberFault::TooLarge));
        assert_eq!(cents("1e-300"), Err(NumberFault::TooFine));
    }

    #[test]
    fn times_are_read_in_every_form() {
        let seconds = 1_569_888_001;
        let pattern = |text| TimeFormat::pattern(text, Offset::UTC).unwrap();
        for (format, text) in [
            (TimeFormat::Seconds, "1569888001"),
            (TimeFormat::Seconds, "1569888001.0009"),
            (TimeFormat::Milliseconds, "1569888001000"),
            (TimeFormat::Microseconds, "1569888001000999"),
            (TimeFormat::Rfc3339, "2019-10-01T02:00:01+02:00"),
            (pattern("%Y-%m-%d %H:%M:%S UTC"), "2019-10-01 00:00:01 UTC"),
            (pattern("%d.%m.%Y %H:%M:%S %z"), "01.10.2019 02:00:01 +0200"),
        ] {
            assert_eq!(format.read(text), Some(seconds * 1000), "{format:?} {text}");
        }
        assert_eq!(
            TimeFormat::Milliseconds.read("1569888001"),
            None,
            "seconds taken for milliseconds"
        );
        assert_eq!(TimeFormat::Seconds.read("1569888001000"), None);
        assert!(TimeFormat::pattern("%H:%M", Offset::UTC).is_err());
        assert!(TimeFormat::pattern("%Y-%q", Offset::UTC).is_err());
    }

    #[test]
    fn an_id_is_its_own_bytes_or_a_hash() {
        let bytes: [u8; 16] = std::array::from_fn(|i| i as u8);
        assert_eq!(id("000102030405060708090a0b0c0d0e0f"), bytes);
        assert_eq!(id("00010203-0405-0607-0809-0A0B0C0D0E0F"), bytes);
        assert_eq!(id("a")[..4], [0xca, 0x97, 0x81, 0x12]);
        assert_ne!(id("000102030405060708090a0b0c0d0e0f00"), bytes);
        assert_ne!(id("----000102030405060708090a0b0c0d0e0f"), bytes);
    }

    #[test]
    fn bytes_that_are_not_utf8_are_escaped_as_apache_does() {
        assert_eq!(text(b"caf\xe9 \xc3\xa9\xff", "\\x"), "caf\\xe9 é\\xff");
    }

    proptest! {
        #[test]
        fn any_time_of_an_access_log_is_that_of_the_calendar(
            second in 631_238_400_i64..4_102_358_400, zone in -1439..=1439_i64
        ) {
            let offset = Offset::from_seconds((zone * 60) as i32).unwrap();
            let zoned = jiff::Timestamp::from_second(second).unwrap()
                .to_zoned(jiff::tz::TimeZone::fixed(offset));
            let text = jiff::fmt::strtime::format("%d/%b/%Y:%H:%M:%S %z", &zoned).unwrap();
            prop_assert_eq!(access_log_time(text.as_bytes()), Some(second * 1000));
        }

        #[test]
        fn numbers_scale_as_integers_do(cents in -10_i64.pow(15)..10_i64.pow(15)) {
            let sign = if cents < 0 { "-" } else { "" };
            let text = format!("{sign}{}.{:02}", cents.abs() / 100, cents.abs() % 100);
            prop_assert_eq!(scaled(&text, 100, b'.', Rounding::Exact), Ok(cents));
        }

        #[test]
        fn no_text_makes_a_panic(text in any::<String>()) {
            let _ = scaled(&text, i64::from(i32::MAX), b'.', Rounding::Half);
            let _ = TimeFormat::Rfc3339.read(&text);
            let _ = access_log_time(text.as_bytes());
            id(&text);
            shape(&text);
        }
    }
}
