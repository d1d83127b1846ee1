//! Settings as tables: the effective ones of a job, all there are for a terminal, and the same for
//! `docs/job-file.md`.

use std::fmt::Write as _;
use std::path::Path;

use crate::kafka;

use super::error::printable;
use super::quantity::{Bytes, Count, Milliseconds};
use super::settings::{self, DefaultValue, Kind, SETTINGS, Setting};
use super::{Job, JobFile};

impl JobFile {
    /// The settings in force, one a line: name, value, and where it comes from.
    pub fn effective(&self) -> String {
        let mut rows = vec![["setting", "value", "from"].map(str::to_owned)];
        for setting in SETTINGS {
            let below = format!("{}.", setting.name);
            let by_path: Vec<&String> = self
                .written
                .keys()
                .filter(|name| name.starts_with(&below))
                .collect();
            if by_path.is_empty() {
                let from = self.place(setting.name).short();
                rows.push([
                    setting.name.to_owned(),
                    value_text(&self.job, setting.name),
                    from,
                ]);
            }
            for name in by_path {
                rows.push([
                    printable(name),
                    value_text(&self.job, name),
                    self.place(name).short(),
                ]);
            }
        }
        let width = |column: usize| {
            rows.iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        };
        let (first, second) = (width(0), width(1));
        let mut table = String::new();
        for [setting, value, from] in &rows {
            // Writing to a String cannot fail.
            let _ = writeln!(table, "{setting:first$}  {value:second$}  {from}");
        }
        table
    }
}

/// A setting's value in a job as a user would write it, without quotes; what is left out, in words.
pub fn value_text(job: &Job, name: &str) -> String {
    let Some((setting, below)) = settings::find(name) else {
        return String::new();
    };
    // The table of settings has one way into a job, for writing.
    let job = &mut job.clone();
    let shown = |path: &Path| printable(&path.to_string_lossy());
    let value = match &setting.kind {
        // The folder that may be known even if it is not written.
        Kind::Folder { .. } if name == "schemas.store" => job.schema_store().as_deref().map(shown),
        Kind::Duration { slot, .. } => Some(Milliseconds(*slot(job)).to_string()),
        Kind::Size { slot, .. } => Some(Bytes(*slot(job)).to_string()),
        Kind::Count { slot, .. } => Some(Count(*slot(job)).to_string()),
        Kind::Workers { slot, .. } => Some(slot(job).to_string()),
        Kind::PowerOfTwo { slot, .. } => Some(slot(job).to_string()),
        Kind::Flag { slot } => Some(slot(job).to_string()),
        Kind::Name { slot } => Some(slot(job).clone()),
        Kind::Clock { slot } => Some(slot(job).word().to_owned()),
        Kind::Brokers { slot } | Kind::Address { slot } => slot(job).clone(),
        Kind::Properties { slot } => below.and_then(|name| {
            let value = slot(job).get(name)?;
            Some(kafka::shown(name, value).to_owned())
        }),
        Kind::Folder { slot } | Kind::File { slot } => slot(job).as_deref().map(shown),
        Kind::Roles { slot } => below.and_then(|path| Some(slot(job).get(path)?.to_string())),
        Kind::Privacies { slot } => below.and_then(|path| Some(slot(job).get(path)?.to_string())),
    };
    value.unwrap_or_else(|| default_text(setting))
}

fn default_text(setting: &Setting) -> String {
    match setting.default {
        DefaultValue::Required => "must be written".to_owned(),
        DefaultValue::Text(text) | DefaultValue::Derived(text) => text.to_owned(),
    }
}

/// All settings with what they take, their defaults and meanings, for a terminal of 100 columns.
pub fn explain() -> String {
    let mut text = String::new();
    let mut section = "";
    for setting in SETTINGS {
        let of = setting.name.split_once('.').map_or("", |(of, _)| of);
        if of != section {
            section = of;
            let _ = writeln!(text, "[{section}]");
        }
        let _ = writeln!(text, "{}", setting.name);
        let takes = format!("{}.", setting.kind.expected());
        let default = format!("Default: {}.", default_text(setting));
        for paragraph in [setting.meaning, &capitalized(&takes), &default] {
            for line in wrapped(paragraph, 96) {
                let _ = writeln!(text, "    {line}");
            }
        }
        text.push('\n');
    }
    text
}

/// The table of all settings in `docs/job-file.md`.
pub fn settings_as_markdown() -> String {
    let mut text =
        String::from("| setting | takes | default | meaning |\n| --- | --- | --- | --- |\n");
    for setting in SETTINGS {
        let default = match setting.default {
            DefaultValue::Text(text) => format!("`{text}`"),
            DefaultValue::Required | DefaultValue::Derived(_) => default_text(setting),
        };
        let (name, takes, meaning) = (setting.name, setting.kind.expected(), setting.meaning);
        let _ = writeln!(text, "| `{name}` | {takes} | {default} | {meaning} |");
    }
    text
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or(String::new(), |first| {
        first.to_uppercase().chain(chars).collect()
    })
}

/// Breaks a text between words.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
