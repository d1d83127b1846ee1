//! From TOML and options to a job. Every key, of the file and of each `--set`, goes through the table of settings; each
//! thing that is wrong becomes one error, and reading goes on, so that a user hears of everything at once. Reads no
//! file but the job file, and of that at most 1 MiB.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::assign::assign;
use super::error::excerpt;
use super::settings::{self, DefaultValue, Kind, SETTINGS, Setting};
use super::{Job, JobError, JobErrors, JobFile, Place, Problem, Written, nearest, rules};

/// The largest job file, in bytes.
const LARGEST: u64 = 1 << 20;

/// The deepest nesting of keys: TOML knows no limit, but a stack does.
const DEEPEST: usize = 40;

/// A setting that the command line replaces.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Override {
    /// The option as it was written, for errors.
    option: String,
    /// The key and the value's text; `None` if there is no `=`.
    assignment: Option<(String, String)>,
}

impl Override {
    /// The override of `--set key=value`, given what stands after `--set`. The value is taken as TOML if it is some,
    /// else as a text.
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
}

impl JobFile {
    /// Reads a job file, and lets the overrides replace its settings in their order.
    ///
    /// # Errors
    /// Everything that is wrong with the file's text and the overrides. The places they name are not looked at.
    pub fn load(file: &Path, overrides: &[Override]) -> Result<JobFile, JobErrors> {
        match read(file) {
            Ok(text) => JobFile::parse(&text, file, overrides),
            Err((at, problem)) => {
                // The options can be judged without the file.
                let mut reader = Reader::new(file, "");
                reader.error(
                    Place::File {
                        file: file.to_owned(),
                        at,
                    },
                    problem,
                );
                reader.take_options(overrides);
                reader.whole = false;
                reader.finish()
            }
        }
    }

    /// Reads the text of a job file; `file` is for errors and for the job's name.
    ///
    /// # Errors
    /// As [`JobFile::load`].
    pub fn parse(text: &str, file: &Path, overrides: &[Override]) -> Result<JobFile, JobErrors> {
        let mut reader = Reader::new(file, text);
        reader.take_file();
        reader.take_options(overrides);
        reader.finish()
    }
}

/// The text of a job file, or what is wrong and at which line and column.
fn read(file: &Path) -> Result<String, (Option<(usize, usize)>, Problem)> {
    let mut bytes = Vec::new();
    let unreadable = |error| (None, Problem::Unreadable(error));
    let opened = File::open(file).map_err(unreadable)?;
    opened
        .take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if bytes.len() as u64 > LARGEST {
        return Err((None, Problem::TooLarge(LARGEST)));
    }
    String::from_utf8(bytes).map_err(|error| {
        let right = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let right = String::from_utf8_lossy(right);
        (Some(line_and_column(&right, right.len())), Problem::NotText)
    })
}

/// Line and column, from 1, of a byte in a text; the column in characters.
fn line_and_column(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(byte)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
    // A byte order mark is not a column that anyone sees.
    (
        line,
        before[line_start..]
            .trim_start_matches('\u{feff}')
            .chars()
            .count()
            + 1,
    )
}

/// The text that spans point into, and where that text stands.
#[derive(Clone, Copy)]
enum Origin<'a> {
    File { text: &'a str, file: &'a Path },
    Option { value: &'a str, option: &'a str },
}

impl Origin<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        match self {
            Origin::File { text, file } => Place::File {
                file: file.to_path_buf(),
                at: Some(line_and_column(text, span.start)),
            },
            Origin::Option { option, .. } => Place::Option((*option).to_owned()),
        }
    }

    fn written(&self, span: &Range<usize>) -> String {
        let (Origin::File { text, .. } | Origin::Option { value: text, .. }) = self;
        excerpt(text.get(span.clone()).unwrap_or(text))
    }
}

/// One value on its way to a setting.
struct Found<'i> {
    /// The whole name.
    name: String,
    setting: &'static Setting,
    /// The field's path, in a section of field paths.
    below: Option<String>,
    value: DeValue<'i>,
    span: Range<usize>,
    written: Written,
}

/// Keys and values sorted into settings and errors.
struct Gatherer<'a, 'i> {
    origin: Origin<'a>,
    found: Vec<Found<'i>>,
    errors: Vec<JobError>,
}

impl<'i> Gatherer<'_, 'i> {
    /// Takes what stands under a name, which is a section, a setting, or unknown.
    fn gather(
        &mut self,
        name: String,
        key: &Range<usize>,
        value: &Spanned<DeValue<'i>>,
        depth: usize,
    ) {
        let span = value.span();
        let setting = settings::find(&name);
        let section = settings::is_section(&name);
        if let DeValue::Table(inner) = value.get_ref() {
            let may_hold = match setting {
                Some((setting, _)) => matches!(setting.kind, Kind::ByPath { .. }),
                None => section || !inner.is_empty(),
            };
            if may_hold && depth < DEEPEST {
                for (key, value) in inner.iter() {
                    self.gather(join(&name, key.get_ref()), &key.span(), value, depth + 1);
                }
                return;
            }
        }
        let written = self.origin.written(&span);
        if let Some((setting, below)) = setting {
            self.found.push(Found {
                setting,
                below: below.map(str::to_owned),
                value: value.get_ref().clone(),
                written: Written {
                    place: self.origin.place(&span),
                    value: written,
                },
                span,
                name,
            });
        } else if section {
            let problem = Problem::NotASection {
                section: name,
                value: written,
            };
            self.errors.push(JobError {
                place: self.origin.place(&span),
                problem,
            });
        } else {
            let problem = Problem::Unknown {
                known: nearest::suggestion(&name),
                key: excerpt(&name),
            };
            self.errors.push(JobError {
                place: self.origin.place(key),
                problem,
            });
        }
    }
}

/// A job while it is read.
struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    job: Job,
    written: BTreeMap<String, Written>,
    errors: Vec<JobError>,
    /// Whether the text was TOML from end to end; if not, a setting that seems missing may only be unreadable.
    whole: bool,
}

impl<'a> Reader<'a> {
    fn new(file: &'a Path, text: &'a str) -> Self {
        let mut job = Job::blank(file);
        for setting in SETTINGS {
            if let DefaultValue::Text(text) = setting.default {
                assign(&mut job, setting, None, &toml_or_text(text))
                    .expect("a default is a value of its setting");
            }
        }
        Reader {
            file,
            text,
            job,
            written: BTreeMap::new(),
            errors: Vec::new(),
            whole: true,
        }
    }

    fn error(&mut self, place: Place, problem: Problem) {
        self.errors.push(JobError { place, problem });
    }

    fn take_file(&mut self) {
        let (table, syntax) = DeTable::parse_recoverable(self.text);
        self.whole = syntax.is_empty();
        let origin = Origin::File {
            text: self.text,
            file: self.file,
        };
        let mut gatherer = Gatherer {
            origin,
            found: Vec::new(),
            errors: Vec::new(),
        };
        for (key, value) in table.get_ref().iter() {
            gatherer.gather(key.get_ref().to_string(), &key.span(), value, 0);
        }
        let Gatherer { found, errors, .. } = gatherer;

        // What the parser made of a line that is not TOML is a guess: of such a line only the parser is heard, once.
        let mut broken = Vec::new();
        for error in syntax {
            let at = error
                .span()
                .map(|span| line_and_column(self.text, span.start));
            let line = at.map(|(line, _)| line);
            if !broken.contains(&line) {
                broken.push(line);
                let problem = syntax_problem(self.text, &error, &found);
                self.error(
                    Place::File {
                        file: self.file.to_owned(),
                        at,
                    },
                    problem,
                );
            }
        }
        let is_broken = |place: &Place| match place {
            Place::File {
                at: Some((line, _)),
                ..
            } => broken.contains(&Some(*line)),
            _ => false,
        };
        self.errors
            .extend(errors.into_iter().filter(|error| !is_broken(&error.place)));

        for found in found
            .into_iter()
            .filter(|found| !is_broken(&found.written.place))
        {
            match self.written.get(&found.name) {
                Some(Written {
                    place:
                        Place::File {
                            at: Some((first, _)),
                            ..
                        },
                    ..
                }) => {
                    let problem = Problem::Twice {
                        key: found.name,
                        first: *first,
                    };
                    self.error(found.written.place, problem);
                }
                _ => self.take(found),
            }
        }
    }

    fn take_options(&mut self, overrides: &[Override]) {
        for Override { option, assignment } in overrides {
            let split = assignment
                .as_ref()
                .and_then(|(key, value)| Some((name_of(key)?, value)));
            let Some((name, text)) = split else {
                self.error(Place::Option(option.clone()), Problem::NotAnAssignment);
                continue;
            };
            let takes_text =
                settings::find(&name).is_some_and(|(setting, _)| takes_text(&setting.kind));
            let value = match toml_or_text(text) {
                // A folder may be called 12.
                value if takes_text && !value.is_str() => DeValue::String(text.into()),
                value => value,
            };
            let span = 0..text.len();
            let origin = Origin::Option {
                value: text,
                option,
            };
            let mut gatherer = Gatherer {
                origin,
                found: Vec::new(),
                errors: Vec::new(),
            };
            gatherer.gather(name, &span, &Spanned::new(span.clone(), value), 0);
            let Gatherer {
                found, mut errors, ..
            } = gatherer;
            self.errors.append(&mut errors);
            for found in found {
                self.take(found);
            }
        }
    }

    /// Gives a value to its setting.
    fn take(&mut self, found: Found<'_>) {
        let Found {
            name,
            setting,
            below,
            value,
            written,
            ..
        } = found;
        if let Err(expected) = assign(&mut self.job, setting, below.as_deref(), &value) {
            let problem = Problem::Value {
                key: excerpt(&name),
                value: written.value.clone(),
                expected,
            };
            self.error(written.place.clone(), problem);
        }
        // A wrong value is noted too, so that the setting is not said to be missing.
        self.written.insert(name, written);
    }

    fn finish(mut self) -> Result<JobFile, JobErrors> {
        for setting in SETTINGS {
            let missing = setting.default == DefaultValue::Required
                && !self.written.contains_key(setting.name);
            if missing && self.whole {
                let expected = format!(
                    "{}, such as {}",
                    setting.kind.expected(),
                    setting.kind.example()
                );
                let place = Place::File {
                    file: self.file.to_owned(),
                    at: None,
                };
                self.error(
                    place,
                    Problem::Missing {
                        key: setting.name.to_owned(),
                        expected,
                    },
                );
            }
        }
        let file = JobFile {
            job: self.job,
            file: self.file.to_owned(),
            written: self.written,
        };
        let more = {
            let wrong = |name: &str| {
                self.errors
                    .iter()
                    .any(|error| error.problem.key() == Some(name))
            };
            rules::check(&file, &|name| {
                !wrong(name) && (self.whole || file.written.contains_key(name))
            })
        };
        self.errors.extend(more);
        match JobErrors::from_vec(self.errors) {
            Some(errors) => Err(errors),
            None => Ok(file),
        }
    }
}

fn join(prefix: &str, key: &str) -> String {
    format!("{prefix}.{key}")
}

/// A text as a TOML value if it is one.
fn toml_or_text(text: &str) -> DeValue<'_> {
    DeValue::parse(text).map_or_else(|_| DeValue::String(text.into()), Spanned::into_inner)
}

/// The whole name of a key as TOML writes keys, with quotes around parts or without; `None` if it is not a key.
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
        name = Some(name.map_or_else(
            || key.get_ref().to_string(),
            |name| join(&name, key.get_ref()),
        ));
        match value.get_ref() {
            DeValue::Table(inner) => table = inner,
            _ => return name,
        }
    }
}

/// Whether a setting's value is a text, whatever else it may look like.
fn takes_text(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Name { .. } | Kind::NeededFolder { .. } | Kind::Folder { .. } | Kind::File { .. }
    )
}

/// What to say of a text that is not TOML; with its key, if it stands where a setting's value does.
fn syntax_problem(text: &str, error: &toml::de::Error, found: &[Found<'_>]) -> Problem {
    let what = error.message();
    let inside = |span: &Range<usize>| {
        found
            .iter()
            .find(|found| found.span.start <= span.start && span.end <= found.span.end)
    };
    let Some(found) = error.span().as_ref().and_then(inside) else {
        return Problem::Syntax(what.to_owned());
    };
    let value = text.get(found.span.clone()).unwrap_or("").trim();
    let a_text = takes_text(&found.setting.kind)
        || matches!(
            found.setting.kind,
            Kind::Duration { .. } | Kind::Size { .. } | Kind::Clock { .. }
        );
    let what = if value.is_empty() {
        format!(
            "a value is missing, such as {}",
            found.setting.kind.example()
        )
    } else if a_text && !value.contains(['"', '\'']) {
        format!("a text needs quotes: \"{}\"", found.written.value)
    } else {
        what.to_owned()
    };
    Problem::ValueSyntax {
        key: excerpt(&found.name),
        value: found.written.value.clone(),
        what,
    }
}
