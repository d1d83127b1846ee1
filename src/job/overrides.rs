//! Settings that the command line replaces: `--set key=value`, and options that stand for one
//! setting.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::gather::{is_no_integer, join};

/// A setting that the command line replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The option as it was written, for errors.
    pub(super) option: String,
    /// The key and the value's text; `None` if there is no `=`.
    assignment: Option<(String, String)>,
}

impl Override {
    /// The override of `--set key=value`, given what stands after `--set`. The value is taken as
    /// TOML if it is some, else as a text.
    pub fn set(assignment: &str) -> Override {
        let split = assignment.split_once('=');
        Override {
            option: format!("--set {assignment}"),
            assignment: split.map(|(key, value)| (key.trim().to_owned(), value.trim().to_owned())),
        }
    }

    /// The override of an option that stands for a setting, such as `--workers 4` for `workers`.
    pub fn option(option: &str, setting: &str, value: &str) -> Override {
        Override {
            option: format!("{option} {value}"),
            assignment: Some((setting.to_owned(), value.to_owned())),
        }
    }

    /// The setting's whole name and the value's text; `None` if it is not an assignment.
    pub(super) fn split(&self) -> Option<(String, &str)> {
        let (key, value) = self.assignment.as_ref()?;
        Some((name_of(key)?, value))
    }
}

/// The whole name of a key as TOML writes keys, with quotes around its parts or without; `None` if
/// it is not a key.
fn name_of(key: &str) -> Option<String> {
    let document = format!("{key} = 0");
    let table = DeTable::parse(&document).ok()?;
    let mut table = table.get_ref();
    let mut name: Option<String> = None;
    loop {
        let mut entries = table.iter();
        let (Some((key, value)), None) = (entries.next(), entries.next()) else {
            return None;
        };
        let key = key.get_ref();
        name = Some(name.map_or_else(|| key.to_string(), |name| join(&name, key)));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return name,
        }
    }
}

/// A text as a TOML value if it is one.
pub(super) fn toml_or_text(text: &str) -> DeValue<'_> {
    let value = DeValue::parse(text).map(Spanned::into_inner).ok();
    let value = value.filter(|value| !is_no_integer(value));
    value.unwrap_or_else(|| DeValue::String(text.into()))
}
