//! Keys and values of a TOML tree, each brought to the setting it names, with the place where it
//! stands. For the reader of job files alone.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::error::excerpt;
use super::settings::{self, Setting};
use super::{JobError, Place, Problem, Written, nearest};

/// The deepest nesting of keys: TOML allows thousands, and a stack does not.
const DEEPEST: usize = 40;

/// A text and where its lines begin, so that a place costs a search and not a walk.
pub(super) struct Lines<'a> {
    pub(super) text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n');
        let starts = std::iter::once(0)
            .chain(newlines.map(|(i, _)| i + 1))
            .collect();
        Lines { text, starts }
    }

    /// Line and column, from 1, of a byte; the column in characters.
    pub(super) fn at(&self, byte: usize) -> (usize, usize) {
        let mut byte = byte.min(self.text.len());
        while !self.text.is_char_boundary(byte) {
            byte -= 1;
        }
        let line = self.starts.partition_point(|start| *start <= byte);
        let before = &self.text[self.starts[line - 1]..byte];
        // A byte order mark is not a column that anyone sees.
        (
            line,
            before.trim_start_matches('\u{feff}').chars().count() + 1,
        )
    }
}

/// The text that spans point into, and where that text stands.
#[derive(Clone, Copy)]
pub(super) enum Origin<'a> {
    File {
        lines: &'a Lines<'a>,
        file: &'a Path,
    },
    Option {
        value: &'a str,
        option: &'a str,
    },
}

impl Origin<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        match self {
            Origin::File { lines, file } => Place::in_file(file, Some(lines.at(span.start))),
            Origin::Option { option, .. } => Place::Option((*option).to_owned()),
        }
    }

    fn written(&self, span: &Range<usize>) -> Written {
        let text = match self {
            Origin::File { lines, .. } => lines.text,
            Origin::Option { value, .. } => value,
        };
        let value = excerpt(text.get(span.clone()).unwrap_or(text));
        Written {
            place: self.place(span),
            value,
        }
    }
}

/// One value on its way to a setting.
pub(super) struct Found<'i> {
    /// The whole name, which for a section of field paths goes on with the path.
    pub(super) name: String,
    pub(super) setting: &'static Setting,
    /// The field's path, in a section of field paths.
    pub(super) below: Option<String>,
    pub(super) value: DeValue<'i>,
    pub(super) span: Range<usize>,
    pub(super) written: Written,
}

/// Keys and values, sorted into settings and errors.
pub(super) struct Gatherer<'a, 'i> {
    pub(super) origin: Origin<'a>,
    pub(super) found: Vec<Found<'i>>,
    pub(super) errors: Vec<JobError>,
}

impl<'a, 'i> Gatherer<'a, 'i> {
    pub(super) fn new(origin: Origin<'a>) -> Self {
        Gatherer {
            origin,
            found: Vec::new(),
            errors: Vec::new(),
        }
    }

    /// Takes what stands under a name, which is a section's, a setting's, or nobody's.
    pub(super) fn gather(
        &mut self,
        name: String,
        key: &Range<usize>,
        value: &Spanned<DeValue<'i>>,
        depth: usize,
    ) {
        let setting = settings::find(&name);
        let section = settings::is_section(&name);
        if let DeValue::Table(inner) = value.get_ref() {
            let may_hold = match setting {
                Some((setting, _)) => setting.kind.is_by_path(),
                None => section || !inner.is_empty(),
            };
            if may_hold && depth < DEEPEST {
                for (key, value) in inner.iter() {
                    self.gather(join(&name, key.get_ref()), &key.span(), value, depth + 1);
                }
                return;
            }
        }
        let span = value.span();
        let written = self.origin.written(&span);
        if setting.is_some() && is_no_integer(value.get_ref()) {
            let what = format!("a text needs quotes: \"{}\"", written.value);
            let problem = Problem::ValueSyntax {
                key: excerpt(&name),
                value: written.value,
                what,
            };
            self.errors.push(JobError {
                place: written.place,
                problem,
            });
        } else if let Some((setting, below)) = setting {
            let below = below.map(str::to_owned);
            let value = value.get_ref().clone();
            self.found.push(Found {
                name,
                setting,
                below,
                value,
                span,
                written,
            });
        } else if section {
            let problem = Problem::NotASection {
                section: name,
                value: written.value,
            };
            self.errors.push(JobError {
                place: written.place,
                problem,
            });
        } else {
            let known = nearest::suggestion(&name);
            let problem = Problem::Unknown {
                key: excerpt(&name),
                known,
            };
            self.errors.push(JobError {
                place: self.origin.place(key),
                problem,
            });
        }
    }
}

/// Whether a value only claims to be an integer: the parser (toml 1.2) takes `1_000KiB` for one,
/// since it looks at the letters of a number only where the number has no `_`.
pub(super) fn is_no_integer(value: &DeValue<'_>) -> bool {
    value.as_integer().is_some_and(|number| {
        let digits = number.as_str().trim_start_matches(['+', '-']);
        digits.is_empty() || !digits.chars().all(|c| c.is_digit(number.radix()))
    })
}

/// The name of a key below another.
pub(super) fn join(prefix: &str, key: &str) -> String {
    format!("{prefix}.{key}")
}
