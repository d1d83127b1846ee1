//! One value into one setting: is it of the right form, and in range? For the reader of job files alone.

use toml::de::{DeInteger, DeValue};

use super::Job;
use super::nearest::nearest_word;
use super::quantity::{QuantityError, parse_duration, parse_size};
use super::settings::{CLOCKS, Kind, Setting, is_name};

/// Puts a value into a job; `below` is the field's path for a section of field paths.
///
/// # Errors
/// What was expected, in words that complete "expected …". The job is unchanged then.
pub(super) fn assign(
    job: &mut Job,
    setting: &Setting,
    below: Option<&str>,
    value: &DeValue<'_>,
) -> Result<(), String> {
    let kind = &setting.kind;
    let range = || kind.expected();
    let form = || format!("{}, such as {}", kind.expected(), kind.example());
    let quantity = |error: QuantityError| match error {
        QuantityError::TooLarge(_) => range(),
        error => format!("{}; {error}", form()),
    };
    match kind {
        Kind::Duration { least, most, slot } => {
            let ms = match value {
                DeValue::String(text) => parse_duration(text).map_err(quantity)?,
                DeValue::Integer(number) => parse_duration(number.as_str()).map_err(quantity)?,
                _ => return Err(form()),
            };
            *slot(job) = within(ms, *least, *most).ok_or_else(range)?;
        }
        Kind::Size { least, most, slot } => {
            let bytes = match value {
                DeValue::String(text) => parse_size(text).map_err(quantity)?,
                DeValue::Integer(number) => whole(number).ok_or_else(range)?,
                _ => return Err(form()),
            };
            *slot(job) = within(bytes, *least, *most).ok_or_else(range)?;
        }
        Kind::Count { least, most, slot } => {
            let count = value.as_integer().ok_or_else(form)?;
            *slot(job) = whole(count)
                .and_then(|count| within(count, *least, *most))
                .ok_or_else(range)?;
        }
        Kind::Workers { most, slot } => {
            let workers =
                whole(value.as_integer().ok_or_else(form)?).and_then(|n| usize::try_from(n).ok());
            *slot(job) = workers
                .and_then(|n| within(n, 1, *most))
                .ok_or_else(range)?;
        }
        Kind::PowerOfTwo { most, slot } => {
            let number =
                whole(value.as_integer().ok_or_else(form)?).and_then(|n| u32::try_from(n).ok());
            let power = number
                .filter(|n| n.is_power_of_two())
                .and_then(|n| within(n, 1, *most));
            *slot(job) = power.ok_or_else(range)?;
        }
        Kind::Flag { slot } => *slot(job) = value.as_bool().ok_or_else(range)?,
        Kind::Name { slot } => {
            let name = value.as_str().ok_or_else(form)?;
            *slot(job) = Some(name)
                .filter(|name| is_name(name))
                .ok_or_else(range)?
                .to_owned();
        }
        Kind::Clock { slot } => {
            let word = value.as_str().ok_or_else(range)?;
            let clock = CLOCKS.iter().find(|(name, _)| *name == word);
            *slot(job) = clock
                .ok_or_else(|| with_nearest(range(), word, &CLOCKS.map(|(name, _)| name)))?
                .1;
        }
        Kind::NeededFolder { slot } => *slot(job) = path(value, form)?.into(),
        Kind::Folder { slot } | Kind::File { slot } => *slot(job) = Some(path(value, form)?.into()),
        Kind::ByPath { what, words, slot } => {
            let path = below.ok_or_else(form)?;
            if path.split('.').any(str::is_empty) {
                return Err("the path of a field before the =, such as \"visitor.id\"".to_owned());
            }
            let one = || match words {
                Some(words) => format!("{what} {}", words.join(", ")),
                None => format!("{what}, such as \"browser_id\""),
            };
            let word = value.as_str().ok_or_else(one)?;
            let known = match words {
                Some(words) => words.contains(&word),
                None => {
                    !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
                }
            };
            if !known {
                return Err(with_nearest(one(), word, words.unwrap_or(&[])));
            }
            slot(job).insert(path.to_owned(), word.to_owned());
        }
    }
    Ok(())
}

fn within<T: PartialOrd>(value: T, least: T, most: T) -> Option<T> {
    (least <= value && value <= most).then_some(value)
}

/// The number, if it is not negative and not larger than 64 bits.
fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn with_nearest(expected: String, word: &str, words: &[&'static str]) -> String {
    match nearest_word(word, words) {
        Some(right) => format!("{expected}; did you mean \"{right}\"?"),
        None => expected,
    }
}

/// A path as it is written, if the system could open it.
fn path<'a>(value: &'a DeValue<'_>, form: impl Fn() -> String) -> Result<&'a str, String> {
    let path = value.as_str().ok_or_else(&form)?;
    if path.is_empty() || path.contains('\0') {
        return Err(form());
    }
    if path == "~" || path.starts_with("~/") {
        return Err(format!("{}; only a shell knows what ~ is", form()));
    }
    Ok(path)
}
