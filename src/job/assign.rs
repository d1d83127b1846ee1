//! One value into one setting: is it of the right form, and in range? For the reader of job files
//! alone.

use toml::de::{DeInteger, DeValue};
use visitflow_schemas::role::{Privacy, Role};

use super::nearest::nearest_word;
use super::quantity::{QuantityError, parse_duration, parse_size};
use super::settings::{Kind, Setting, is_name};
use super::{Clock, Job};

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
        Kind::Clock { slot } => *slot(job) = one_of(value, Clock::ALL, Clock::word)?,
        Kind::Brokers { slot } => {
            let brokers = value.as_str().filter(|text| are_brokers(text));
            *slot(job) = Some(brokers.ok_or_else(form)?.to_owned());
        }
        Kind::Address { slot } => {
            let address = value.as_str().filter(|text| is_address(text));
            *slot(job) = Some(address.ok_or_else(form)?.to_owned());
        }
        Kind::Properties { slot } => {
            let name = below
                .filter(|name| !name.is_empty())
                .ok_or_else(form)?
                .to_owned();
            let value = value.as_str().ok_or_else(form)?.to_owned();
            slot(job).insert(name, value);
        }
        Kind::Folder { slot } | Kind::File { slot } => *slot(job) = Some(path(value, form)?.into()),
        Kind::Roles { slot } => {
            let path = field_path(below).ok_or_else(form)?;
            let role = one_of(value, Role::ALL, Role::word)?;
            slot(job).insert(path.to_owned(), role);
        }
        Kind::Privacies { slot } => {
            let path = field_path(below).ok_or_else(form)?;
            let privacy = one_of(value, Privacy::ALL, Privacy::word)?;
            slot(job).insert(path.to_owned(), privacy);
        }
    }
    Ok(())
}

/// Whether a text is `HOST:PORT`.
fn is_address(text: &str) -> bool {
    let parts = text.rsplit_once(':');
    parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
}

/// Whether a text is `HOST:PORT`, or several.
fn are_brokers(text: &str) -> bool {
    text.split(',').all(|broker| {
        broker.rsplit_once(':').is_some_and(|(host, port)| {
            !host.trim().is_empty() && port.trim().parse::<u16>().is_ok_and(|port| port > 0)
        })
    })
}

fn within<T: PartialOrd>(value: T, least: T, most: T) -> Option<T> {
    (least <= value && value <= most).then_some(value)
}

/// The number, if it is not negative and not larger than 64 bits.
fn whole(number: &DeInteger<'_>) -> Option<u64> {
    u64::from_str_radix(number.as_str(), number.radix()).ok()
}

/// The thing whose word is written, of a few.
fn one_of<T: Copy>(
    value: &DeValue<'_>,
    all: &[T],
    word: fn(T) -> &'static str,
) -> Result<T, String> {
    let written = value.as_str();
    if let Some(one) = all.iter().find(|one| Some(word(**one)) == written) {
        return Ok(*one);
    }
    let words: Vec<&str> = all.iter().map(|one| word(*one)).collect();
    let expected = format!("one of {}", words.join(", "));
    Err(
        match written.and_then(|written| nearest_word(written, &words)) {
            Some(right) => format!("{expected}; did you mean {right}?"),
            None => expected,
        },
    )
}

/// The path of a field, if one is there and has no empty part.
fn field_path(below: Option<&str>) -> Option<&str> {
    below.filter(|path| !path.split('.').any(str::is_empty))
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
