//! What is wrong with a job file or an option, and where. For people at a terminal: each error is
//! one line that names the place, the key, the value as it was written, and what was expected
//! instead.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where a value was written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Place {
    /// In a job file.
    File {
        /// The file, as it was named by the caller.
        file: PathBuf,
        /// Line and column, both from 1, the column in characters; `None` if it is about the file
        /// as a whole.
        at: Option<(usize, usize)>,
    },
    /// In an option of the command line, as it was written there:
    /// `--set visits.inactivity=1h`.
    Option(String),
    /// Nowhere: it is the default.
    Default,
}

impl Place {
    pub(super) fn in_file(file: &Path, at: Option<(usize, usize)>) -> Place {
        Place::File {
            file: file.to_owned(),
            at,
        }
    }

    /// The line, if it is one of a file.
    pub(super) fn line_number(&self) -> Option<usize> {
        match self {
            Place::File {
                at: Some((line, _)),
                ..
            } => Some(*line),
            _ => None,
        }
    }

    /// The place in short, for a value that is right: the line without its column, the option's
    /// name.
    pub fn short(&self) -> String {
        match self {
            Place::File { file, at } => {
                let line = at.map_or(String::new(), |(line, _)| format!(":{line}"));
                printable(&file.to_string_lossy()) + &line
            }
            Place::Option(option) => option.split(' ').next().unwrap_or_default().to_owned(),
            Place::Default => "default".to_owned(),
        }
    }

    /// In the order of a reader: the file from top to bottom, the options, the file as a whole.
    fn rank(&self) -> (u8, usize, usize) {
        match self {
            Place::File {
                at: Some((line, column)),
                ..
            } => (0, *line, *column),
            Place::Option(_) | Place::Default => (1, 0, 0),
            Place::File { at: None, .. } => (2, 0, 0),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { file, at } => {
                f.write_str(&printable(&file.to_string_lossy()))?;
                at.map_or(Ok(()), |(line, column)| write!(f, ":{line}:{column}"))
            }
            Place::Option(option) => f.write_str(&printable(option)),
            Place::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Debug)]
pub struct JobError {
    /// Where it is written.
    pub place: Place,
    /// What it is.
    pub problem: Problem,
}

impl fmt::Display for JobError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.place, &self.problem) {
            // An option that is its key and value in full need not be followed by them.
            (
                Place::Option(option),
                Problem::Value {
                    key,
                    value,
                    expected,
                },
            ) if *option == format!("--set {key}={value}")
                || *option == format!("--{key} {value}") =>
            {
                write!(f, "{}: expected {expected}", self.place)
            }
            (place, problem) => write!(f, "{place}: {problem}"),
        }
    }
}

impl std::error::Error for JobError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.problem.source()
    }
}

/// What can be wrong with a job file or an option. Values are kept as they were written, cut to a
/// line.
#[derive(Debug, Error)]
pub enum Problem {
    /// The job file cannot be read.
    #[error("expected a job file, but it cannot be read: {0}")]
    Unreadable(#[source] std::io::Error),
    /// The job file is not text.
    #[error("expected a text file in UTF-8; this byte is not")]
    NotText,
    /// The job file is larger than a job file can sensibly be.
    #[error("expected a job file of at most {0} bytes")]
    TooLarge(u64),
    /// The text is not TOML.
    #[error("not TOML: {0}")]
    Syntax(String),
    /// The value of a key is not TOML.
    #[error("{key} = {value}: not TOML: {what}")]
    ValueSyntax {
        /// The setting.
        key: String,
        /// What was written.
        value: String,
        /// What the parser says, with a hint where there is one.
        what: String,
    },
    /// There is no such setting.
    #[error("unknown setting {key}; {known}")]
    Unknown {
        /// The name that was written.
        key: String,
        /// The nearest right name, or those that can stand there.
        known: String,
    },
    /// A section's name stands where only a section can, but has a value.
    #[error("{section} = {value}: expected a section [{section}] with settings in it")]
    NotASection {
        /// The section.
        section: String,
        /// What was written.
        value: String,
    },
    /// The value cannot be that of this setting.
    #[error("{key} = {value}: expected {expected}")]
    Value {
        /// The setting.
        key: String,
        /// What was written.
        value: String,
        /// What can stand there.
        expected: String,
    },
    /// The same setting stands twice in the file, spelled in two ways.
    #[error("{key} is set twice, first in line {first}")]
    Twice {
        /// The setting.
        key: String,
        /// The line of the first.
        first: usize,
    },
    /// A setting without a default is not there.
    #[error("{key} is missing: expected {expected}")]
    Missing {
        /// The setting.
        key: String,
        /// What can stand there.
        expected: String,
    },
    /// An option does not have the form `key=value`.
    #[error("expected --set key=value, such as --set visits.inactivity=1h")]
    NotAnAssignment,
}

impl Problem {
    /// The setting that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Problem::ValueSyntax { key, .. }
            | Problem::Unknown { key, .. }
            | Problem::Value { key, .. }
            | Problem::Twice { key, .. }
            | Problem::Missing { key, .. } => Some(key),
            Problem::NotASection { section, .. } => Some(section),
            Problem::Unreadable(_)
            | Problem::NotText
            | Problem::TooLarge(_)
            | Problem::Syntax(_)
            | Problem::NotAnAssignment => None,
        }
    }
}

/// Everything that is wrong with one job, never empty, in the order of the file, then of the
/// options.
#[derive(Debug)]
pub struct JobErrors(Vec<JobError>);

impl JobErrors {
    /// Sorts errors; `None` if there are none.
    pub(super) fn from_vec(mut errors: Vec<JobError>) -> Option<JobErrors> {
        errors.sort_by_key(|error| error.place.rank());
        (!errors.is_empty()).then_some(JobErrors(errors))
    }

    /// The errors one by one.
    pub fn iter(&self) -> std::slice::Iter<'_, JobError> {
        self.0.iter()
    }
}

impl fmt::Display for JobErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for JobErrors {}

/// A text that may be shown on a terminal: control characters as escapes, so that a file cannot
/// move the cursor.
pub(super) fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// A value as it was written, in one line of at most 60 characters.
pub(super) fn excerpt(text: &str) -> String {
    const MOST: usize = 60;
    let line = text.trim().split_inclusive('\n').next().unwrap_or("");
    let mut shown: String = line.trim_end().chars().take(MOST).collect();
    if shown.len() < text.trim().len() {
        shown.push('…');
    }
    printable(&shown)
}
