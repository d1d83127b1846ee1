//! From TOML and options to a job. Every key, of the file and of each `--set`, goes through the
//! table of settings; each thing that is wrong becomes one error, and reading goes on, so that a
//! user hears of everything at once. Reads no file but the job file, and of that at most 256 KiB.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::assign::assign;
use super::error::excerpt;
use super::gather::{Found, Gatherer, Lines, Origin};
use super::overrides::{Override, toml_or_text};
use super::settings::{self, DefaultValue, Kind, SETTINGS};
use super::{Job, JobError, JobErrors, JobFile, Place, Problem, Written, places, rules};

/// The largest job file, in bytes: far beyond any that a person writes.
const LARGEST: u64 = 256 << 10;

impl JobFile {
    /// Reads a job file, and lets the overrides replace its settings in their order.
    ///
    /// # Errors
    /// Everything that is wrong with the file's text and the overrides. The places they name are
    /// not looked at.
    pub fn load(file: &Path, overrides: &[Override]) -> Result<JobFile, JobErrors> {
        Reader::load(file, overrides).finish(false)
    }

    /// As [`JobFile::load`], for who is about to start the job: what it reads must be there, and
    /// its outputs must be possible where they are to be. Creates nothing. The salts are not looked
    /// at: who may read them is a question of the role.
    ///
    /// # Errors
    /// Everything that is wrong, the places included.
    pub fn load_to_start(file: &Path, overrides: &[Override]) -> Result<JobFile, JobErrors> {
        Reader::load(file, overrides).finish(true)
    }

    /// Reads the text of a job file; `file` is for errors and for the job's name.
    ///
    /// # Errors
    /// As [`JobFile::load`].
    pub fn parse(text: &str, file: &Path, overrides: &[Override]) -> Result<JobFile, JobErrors> {
        let mut reader = Reader::new(file);
        reader.take_text(text);
        reader.take_options(overrides);
        reader.finish(false)
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
        (Some(Lines::new(&right).at(right.len())), Problem::NotText)
    })
}

/// A job while it is read.
struct Reader {
    file: PathBuf,
    job: Job,
    written: BTreeMap<String, Written>,
    errors: Vec<JobError>,
    /// Whether the text was TOML from end to end; if not, a setting that seems missing may only be
    /// unreadable.
    whole: bool,
}

impl Reader {
    fn new(file: &Path) -> Reader {
        let mut job = Job::blank(file);
        for setting in SETTINGS {
            if let DefaultValue::Text(text) = setting.default {
                assign(&mut job, setting, None, &toml_or_text(text))
                    .expect("a default is a value of its setting");
            }
        }
        let (written, errors) = (BTreeMap::new(), Vec::new());
        Reader {
            file: file.to_owned(),
            job,
            written,
            errors,
            whole: true,
        }
    }

    fn load(file: &Path, overrides: &[Override]) -> Reader {
        let mut reader = Reader::new(file);
        match read(file) {
            Ok(text) => reader.take_text(&text),
            Err((at, problem)) => {
                // The options can be judged without the file.
                reader.whole = false;
                reader.error(Place::in_file(file, at), problem);
            }
        }
        reader.take_options(overrides);
        reader
    }

    fn error(&mut self, place: Place, problem: Problem) {
        self.errors.push(JobError { place, problem });
    }

    fn take_text(&mut self, text: &str) {
        let file = self.file.clone();
        let lines = Lines::new(text);
        let (table, syntax) = DeTable::parse_recoverable(text);
        self.whole = syntax.is_empty();
        let mut gatherer = Gatherer::new(Origin::File {
            lines: &lines,
            file: &file,
        });
        let mut views = None;
        for (key, value) in table.get_ref().iter() {
            if key.get_ref() == "view" {
                views = Some(super::views::read(value, &lines, &file));
                continue;
            }
            gatherer.gather(key.get_ref().to_string(), &key.span(), value, 0);
        }
        let Gatherer {
            found, mut errors, ..
        } = gatherer;
        if let Some(views) = views {
            self.job.views = views.views;
            errors.extend(views.errors);
        }

        // What the parser made of a line that is not TOML is a guess: of such a line only the
        // parser is heard, once.
        let mut broken = BTreeSet::new();
        for error in syntax {
            let at = error.span().map(|span| lines.at(span.start));
            if broken.insert(at.map(|(line, _)| line)) {
                let problem = syntax_problem(text, &error, &found);
                self.error(Place::in_file(&file, at), problem);
            }
        }
        let is_broken = |place: &Place| broken.contains(&place.line_number());
        self.errors
            .extend(errors.into_iter().filter(|error| !is_broken(&error.place)));

        for found in found
            .into_iter()
            .filter(|found| !is_broken(&found.written.place))
        {
            match self
                .written
                .get(&found.name)
                .and_then(|first| first.place.line_number())
            {
                Some(first) => {
                    self.error(
                        found.written.place,
                        Problem::Twice {
                            key: found.name,
                            first,
                        },
                    );
                }
                None => self.take(found),
            }
        }
    }

    fn take_options(&mut self, overrides: &[Override]) {
        for over in overrides {
            let option = &over.option;
            let Some((name, text)) = over.split() else {
                self.error(Place::Option(option.clone()), Problem::NotAnAssignment);
                continue;
            };
            let setting = settings::find(&name);
            let value = match toml_or_text(text) {
                // A folder may be called 12.
                value if setting.is_some_and(|(s, _)| is_text(&s.kind)) && !value.is_str() => {
                    DeValue::String(text.into())
                }
                value => value,
            };
            let span = 0..text.len();
            let mut gatherer = Gatherer::new(Origin::Option {
                value: text,
                option,
            });
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
            let (key, value) = (excerpt(&name), written.value.clone());
            self.error(
                written.place.clone(),
                Problem::Value {
                    key,
                    value,
                    expected,
                },
            );
        }
        // A wrong value is noted too, so that the setting is not said to be missing.
        self.written.insert(name, written);
    }

    fn finish(mut self, look_at_places: bool) -> Result<JobFile, JobErrors> {
        for setting in SETTINGS {
            let missing = setting.default == DefaultValue::Required
                && !self.written.contains_key(setting.name);
            if missing && self.whole && !is_wrong(&self.errors, setting.name) {
                let (expected, example) = (setting.kind.expected(), setting.kind.example());
                let expected = format!("{expected}, such as {example}");
                let problem = Problem::Missing {
                    key: setting.name.to_owned(),
                    expected,
                };
                self.error(Place::in_file(&self.file, None), problem);
            }
        }
        if !self.written.contains_key("workers") {
            // Each partition of the results is written by one worker.
            let partitions = self.job.outputs.partitions.max(1) as usize;
            self.job.workers = self.job.workers.min(partitions);
        }
        let file = JobFile {
            job: self.job,
            file: self.file,
            written: self.written,
        };
        let errors = &self.errors;
        let sure =
            |name: &str| !is_wrong(errors, name) && (self.whole || file.written.contains_key(name));
        let mut more = rules::check(&file, &sure);
        if look_at_places {
            more.extend(places::check(&file, &sure));
        }
        self.errors.extend(more);
        match JobErrors::from_vec(self.errors) {
            Some(errors) => Err(errors),
            None => Ok(file),
        }
    }
}

/// Whether an error is about a setting, or about the section it is in.
fn is_wrong(errors: &[JobError], name: &str) -> bool {
    errors
        .iter()
        .filter_map(|error| error.problem.key())
        .any(|key| {
            let rest = name.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
}

/// Whether a setting's value is a text, whatever else it may look like.
fn is_text(kind: &Kind) -> bool {
    matches!(
        kind,
        Kind::Name { .. }
            | Kind::Brokers { .. }
            | Kind::Address { .. }
            | Kind::Folder { .. }
            | Kind::File { .. }
    )
}

/// What to say of a text that is not TOML; with its key, if it stands where a setting's value does.
fn syntax_problem(text: &str, error: &toml::de::Error, found: &[Found<'_>]) -> Problem {
    let what = error.message();
    let span = error.span();
    let holds = |found: &&Found<'_>| {
        span.as_ref()
            .is_some_and(|span| found.span.start <= span.start && span.end <= found.span.end)
    };
    let Some(Found {
        name,
        setting,
        span,
        written,
        ..
    }) = found.iter().find(holds)
    else {
        return Problem::Syntax(what.to_owned());
    };
    let value = text.get(span.clone()).unwrap_or("").trim();
    let quoted = is_text(&setting.kind)
        || setting.kind.is_by_path()
        || matches!(
            setting.kind,
            Kind::Duration { .. } | Kind::Size { .. } | Kind::Clock { .. }
        );
    let what = if value.is_empty() {
        format!("a value is missing, such as {}", setting.kind.example())
    } else if quoted && !value.contains(['"', '\'']) {
        format!("a text needs quotes: \"{}\"", written.value)
    } else {
        what.to_owned()
    };
    Problem::ValueSyntax {
        key: excerpt(name),
        value: written.value.clone(),
        what,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::quantity::{Bytes, Milliseconds};
    use super::super::report::value_text;
    use super::*;

    const LEAST: &str = "[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n";

    fn parse(text: &str, sets: &[String]) -> Result<JobFile, JobErrors> {
        let sets: Vec<Override> = sets.iter().map(|set| Override::set(set)).collect();
        JobFile::parse(text, Path::new("job.toml"), &sets)
    }

    #[test]
    fn the_least_job_has_every_default() {
        let job = parse(LEAST, &[]).unwrap().job;
        let minutes = 60_000;
        assert_eq!(job.visits.inactivity, 30 * minutes);
        assert_eq!(job.visits.max_length, 24 * 60 * minutes);
        assert_eq!(
            (job.visits.max_size, job.visits.max_delay),
            (100_000, 2 * minutes)
        );
        assert_eq!(
            (job.time.tick, job.time.max_lag, job.time.max_ahead),
            (100, 5_000, 5 * minutes)
        );
        assert_eq!(
            (job.limits.max_record, job.outputs.partitions),
            (1_000_000, 16)
        );
        assert_eq!(
            (job.name.as_str(), job.source.topic.as_str()),
            ("job", "measurements")
        );
        assert!(job.workers >= 1 && !job.source.follow && !job.outputs.replace);
        assert_eq!(
            job.schema_store().as_deref(),
            Some(Path::new("log/schemas"))
        );
    }

    #[test]
    fn hostile_nesting_ends_in_errors() {
        for text in [
            "a.".repeat(100_000) + "a = 1",
            format!("{}a = 1", "a.".repeat(79)),
            format!("a = {}1{}", "{a = ".repeat(100_000), "}".repeat(100_000)),
            format!(
                "a = {}1{}",
                format!("{{ {}a = ", "a.".repeat(78)).repeat(78),
                "}".repeat(78)
            ),
            format!(
                "schemas.roles = {}'ip'{}",
                "{a = ".repeat(78),
                "}".repeat(78)
            ),
            "[".repeat(100_000),
            format!("[schemas.roles]\na = {}", "[".repeat(100_000)),
            "= \n".repeat(60_000),
            format!("visits = {{ {} }}", "a = 1, b = 2, ".repeat(4_000)),
        ] {
            assert!(parse(&text, &[]).is_err());
            assert!(parse(LEAST, &[format!("x={text}"), text]).is_err());
        }
    }

    /// A text out of what job files are made of.
    fn scribble() -> impl Strategy<Value = String> {
        const PIECES: &[&str] = &[
            "[",
            "]",
            "{",
            "}",
            "=",
            ".",
            ",",
            "\"",
            "'",
            "\n",
            " ",
            "#",
            "source",
            "log",
            "visits",
            "inactivity",
            "schemas.roles",
            "outputs",
            "30min",
            "1h",
            "\"1h\"",
            "7",
            "-",
            "_",
            "true",
            "1979-05-27",
            "ä",
            "\u{feff}",
            "\\",
            "\"\"\"",
            "\u{0}",
            "\r",
            "max_size",
            "'x'",
        ];
        let piece =
            prop_oneof![4 => proptest::sample::select(PIECES).prop_map(str::to_owned), 1 => "\\PC"];
        proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn any_text_is_a_job_or_errors_with_places(text in scribble(), set in scribble()) {
            if let Err(errors) = parse(&text, &[set]) {
                for error in errors.iter() {
                    let shown = error.to_string();
                    prop_assert!(shown.starts_with("job.toml: ") || shown.starts_with("job.toml:")
                        || shown.starts_with("--set "), "{}", shown);
                    prop_assert!(!shown.contains('\u{0}') && !shown.contains('\n'), "{}", shown);
                }
            }
        }

        #[test]
        fn what_is_printed_as_in_force_can_be_set(
            inactivity in 1..86_400_000_u64,
            more in 0..86_400_000_u64,
            max_size in 1..=10_000_000_u64,
            max_record in 1_000..=64_000_000_u64,
            power in 0..=8_u32,
            event_time: bool,
            follow: bool,
        ) {
            let clock = if event_time { "event_time" } else { "log_time" };
            let text = format!(
                "[source]\nlog = 'log'\nclock = '{clock}'\nfollow = {follow}\n[outputs]\nfiles = 'tables'\n\
                 partitions = {}\n[visits]\ninactivity = '{}'\nmax_length = '{}'\nmax_size = {max_size}\n\
                 [limits]\nmax_record = '{}'\n",
                1 << power, Milliseconds(inactivity), Milliseconds(inactivity + more), Bytes(max_record),
            );
            let job = parse(&text, &[]).unwrap().job;
            prop_assert_eq!(job.visits.inactivity, inactivity);
            prop_assert_eq!(job.visits.max_length, inactivity + more);
            let written = |setting: &&super::settings::Setting| !matches!(setting.default, DefaultValue::Derived(_));
            let sets: Vec<String> = SETTINGS
                .iter()
                .filter(written)
                .map(|setting| format!("{}={}", setting.name, value_text(&job, setting.name)))
                .collect();
            let again = parse("[source]\nlog = 'log'\n[outputs]\nfiles = 'tables'\n", &sets).unwrap().job;
            prop_assert_eq!(again, job);
        }
    }
}
