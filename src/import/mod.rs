//! Brings what a shop already has into a log: access logs in the combined format, CSV and JSON
//! lines become measurements of the default schema. For whoever wants to see visits of their own
//! data without changing their site.
//!
//! What it promises:
//! - Every line becomes measurements, or is counted and kept with the reason under
//!   `<log>/unparsed/`; blank lines are only counted.
//! - All inputs are one. Measurements are written in order of event time, equal times in the order
//!   of the inputs, and their log time is their event time. Nothing is written before all inputs
//!   were read to their end.
//! - Memory is bounded by `memory` (and a few times `max_line`), whatever comes in; what is over it
//!   lies in files without a name in the log's directory while the import runs.
//! - The same content gives the same event IDs, so that what is imported twice counts once: eight
//!   bytes are of SHA-256 of the first 64 KiB of content, eight say the line (for `each`: 40 bits
//!   the line, 24 the item). Within one file and one millisecond, order of ID is order of line.
//!   Two files that begin with the same 64 KiB count as one file that grew.
//! - A browser of an access log is its address and user agent, byte for byte as logged, still
//!   escaped; bytes that are not UTF-8 become `\xHH` before anything else.
//!
//! What it is not: a tail of a growing file, and no cleaning: robots, images and errors come in
//! like everything else, to be told apart later.

mod combined;
mod input;
mod json;
mod kept;
mod mapping;
mod progress;
mod rows;
mod sort;
mod summary;
mod values;

use std::borrow::Cow;
use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::value::RawValue;
use thiserror::Error;
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC, Measurement};

pub use combined::{Entry, Request, Unparsed, parse as parse_combined};
pub use mapping::{Kind, Mapping, MappingError};
pub use progress::{Meter, Phase, Progress, Silent, State};
pub use summary::{Browsers, Summary};

use input::{Input, Source};
use kept::Kept;
use mapping::Values;
use sort::Sorter;
use summary::Distinct;

/// What the inputs are.
#[derive(Clone, Debug)]
pub enum Format {
    /// Access logs in the combined or common format of Apache and nginx.
    Combined,
    /// Tables with a header, by a mapping of [`Kind::Csv`].
    Csv(Mapping),
    /// JSON objects, one a line, by a mapping of [`Kind::Jsonl`].
    Jsonl(Mapping),
}

/// What to import, and where to.
#[derive(Clone, Debug)]
pub struct Options {
    /// The files, `-` for the standard input. Packed with gzip or not, each by its content.
    pub files: Vec<PathBuf>,
    /// What they are.
    pub format: Format,
    /// The log's directory; made if it is missing.
    pub log: PathBuf,
    /// The topic, for the summary.
    pub topic: String,
    /// Bytes of messages that are sorted in memory.
    pub memory: usize,
    /// The longest line, row and message, in bytes. What is longer is kept as unparsed, cut here.
    pub max_line: usize,
}

impl Options {
    /// Files into a log, with 256 MB of memory and lines of up to 1 MB.
    pub fn new(files: Vec<PathBuf>, format: Format, log: impl Into<PathBuf>) -> Options {
        Options {
            files,
            format,
            log: log.into(),
            topic: "measurements".to_owned(),
            memory: 256 << 20,
            max_line: 1 << 20,
        }
    }
}

/// Where measurements go: a topic of a log, or a test's list.
pub trait Out {
    /// Takes one message. Log times never fall; equal ones are in the order of the inputs. The key
    /// is the browser's ID, the value a message of the default schema.
    fn send(&mut self, log_time: i64, key: &[u8], value: &[u8]) -> Result<(), BoxError>;
    /// Makes durable what was sent.
    fn flush(&mut self) -> Result<(), BoxError>;
}

/// Any error of an [`Out`].
pub type BoxError = Box<dyn Error + Send + Sync>;

/// Why an import failed. Nothing was written to the topic, except in the case of `Output`.
#[derive(Debug, Error)]
pub enum ImportError {
    /// No files.
    #[error("nothing to import: expected at least one file, or - for the standard input")]
    NoFiles,
    /// The standard input can be read only once.
    #[error("- stands twice among the files, but the standard input can be read only once")]
    StdinTwice,
    /// The log's directory or a file in it cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Log {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be opened.
    #[error("cannot read {file}: {source}")]
    Open {
        /// The file.
        file: String,
        /// Why.
        source: io::Error,
    },
    /// A file cannot be read to its end: a torn gzip, a bad disk.
    #[error(
        "{file}: cannot read on after {bytes} bytes of content, in line {line}: {source}; nothing was written to the topic"
    )]
    Read {
        /// The file.
        file: String,
        /// How many bytes of content came before, unpacked.
        bytes: u64,
        /// The line, from 1.
        line: u64,
        /// Why.
        source: io::Error,
    },
    /// A CSV file whose header cannot be read.
    #[error("{file}: no header in its first line ({problem}); expected the columns' names")]
    Header {
        /// The file.
        file: String,
        /// What is wrong.
        problem: String,
    },
    /// The mapping names a column that the file does not have.
    #[error(transparent)]
    Column(Box<NoColumn>),
    /// The mapping was read for another format.
    #[error("{}: a mapping for {found:?}, used for {expected:?}", mapping.display())]
    Kind {
        /// The mapping file.
        mapping: PathBuf,
        /// What it was read for.
        found: Kind,
        /// What it is used for.
        expected: Kind,
    },
    /// Not one line could be read: most likely the wrong format or mapping.
    #[error("none of {lines} lines could be read; the first: {first} (all are kept in {})", kept.display())]
    NothingParsed {
        /// How many lines there were.
        lines: u64,
        /// What is wrong with the first.
        first: String,
        /// Where they are.
        kept: PathBuf,
    },
    /// The files for sorting cannot be written: a full disk.
    #[error("cannot sort in {}: {source}; nothing was written to the topic", dir.display())]
    Sort {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The topic cannot be written.
    #[error("cannot write to {}, topic {topic}, after {written} measurements: {source}", log.display())]
    Output {
        /// The log.
        log: PathBuf,
        /// The topic.
        topic: String,
        /// How many were taken before.
        written: u64,
        /// Why.
        source: BoxError,
    },
}

/// A mapping names a column that a file does not have.
#[derive(Debug, Error)]
#[error(
    "{}:{line}: {key}: {file} has no column {column:?}{near} (it has {columns})",
    mapping.display()
)]
pub struct NoColumn {
    /// The mapping file.
    pub mapping: PathBuf,
    /// Its line, from 1.
    pub line: usize,
    /// Its key.
    pub key: String,
    /// The file.
    pub file: String,
    /// The column that is missing.
    pub column: String,
    /// The nearest name, in words.
    pub near: String,
    /// The columns that there are.
    pub columns: String,
}

/// How many bytes of content lie between two reports.
const REPORT_EVERY: u64 = 256 * 1024;
/// The messages of one line may take this many times the longest line, so that a line whose items
/// all repeat a long value of their parent cannot fill a disk.
const UNFOLDED: usize = 64;

/// Imports files into a log. Writes the schema to `<log>/schemas/`, what cannot be read to
/// `<log>/unparsed/`, and the measurements to `out`, in order of time. One thread; a
/// measurement costs a hash of its browser (access logs) and about three copies of its bytes.
pub fn import(
    options: &Options,
    out: &mut dyn Out,
    progress: &mut dyn Progress,
) -> Result<Summary, ImportError> {
    let sources = sources(options)?;
    write_schema(&options.log)?;
    let mut intake = Intake {
        options,
        progress,
        sorter: Sorter::new(options.memory, &options.log),
        kept: Kept::new(options.log.join("unparsed")),
        browsers: Distinct::default(),
        found: match &options.format {
            Format::Combined => Vec::new(),
            Format::Csv(mapping) | Format::Jsonl(mapping) => vec![0; mapping.columns.len()],
        },
        names: Vec::new(),
        message: Vec::new(),
        state: Counts {
            total: sources.iter().map(|source| source.size).sum(),
            ..Counts::default()
        },
    };
    for source in &sources {
        intake.read(source)?;
    }
    intake.write(out)
}

/// The inputs, each of which can be opened.
fn sources(options: &Options) -> Result<Vec<Source>, ImportError> {
    if options.files.is_empty() {
        return Err(ImportError::NoFiles);
    }
    let stdin = |path: &&PathBuf| path.as_path() == Path::new("-");
    if options.files.iter().filter(stdin).count() > 1 {
        return Err(ImportError::StdinTwice);
    }
    let (mapping, expected) = match &options.format {
        Format::Combined => (None, Kind::Csv),
        Format::Csv(mapping) => (Some(mapping), Kind::Csv),
        Format::Jsonl(mapping) => (Some(mapping), Kind::Jsonl),
    };
    if let Some(mapping) = mapping
        && mapping.kind != expected
    {
        return Err(ImportError::Kind {
            mapping: mapping.file.clone(),
            found: mapping.kind,
            expected,
        });
    }
    let open = |path: &PathBuf| {
        Source::new(path).map_err(|source| ImportError::Open {
            file: path.display().to_string(),
            source,
        })
    };
    options.files.iter().map(open).collect()
}

/// Puts the schema where readers of the log find it. Another schema of the same name stays.
fn write_schema(log: &Path) -> Result<(), ImportError> {
    let wrong = |path: &Path| {
        let path = path.to_owned();
        move |source| ImportError::Log { path, source }
    };
    let dir = log.join("schemas");
    fs::create_dir_all(&dir).map_err(wrong(&dir))?;
    let mut file = dir.join("measurement.avsc");
    match fs::read(&file) {
        Ok(there) if there == MEASUREMENT_AVSC.as_bytes() => return Ok(()),
        Ok(_) => {
            file = dir.join(format!(
                "measurement-{:016x}.avsc",
                MEASUREMENT.fingerprint()
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(wrong(&file)(error)),
    }
    // Renamed into place, so that no reader meets half a schema.
    let mut whole = tempfile::NamedTempFile::new_in(&dir).map_err(wrong(&dir))?;
    whole
        .write_all(MEASUREMENT_AVSC.as_bytes())
        .map_err(wrong(&file))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = fs::Permissions::from_mode(0o644);
        whole
            .as_file()
            .set_permissions(mode)
            .map_err(wrong(&file))?;
    }
    whole
        .persist(&file)
        .map_err(|error| wrong(&file)(error.error))?;
    Ok(())
}

#[derive(Default)]
struct Counts {
    lines: u64,
    measurements: u64,
    blank: u64,
    span: Option<(i64, i64)>,
    total: Option<u64>,
    /// Bytes of the files before this one.
    before: u64,
    written: u64,
}

/// Everything between the inputs and the topic.
struct Intake<'o> {
    options: &'o Options,
    progress: &'o mut dyn Progress,
    sorter: Sorter,
    kept: Kept,
    browsers: Distinct,
    /// How often each column of the mapping had a value.
    found: Vec<u64>,
    /// Names that the first JSON line has, for the nearest of a name that was never found.
    names: Vec<String>,
    message: Vec<u8>,
    state: Counts,
}

/// The reader of one input: where it is, for messages and reports.
struct Place<'s> {
    source: &'s Source,
    line: u64,
    reported: u64,
}

impl Place<'_> {
    fn failed(&self, input: &Input, source: io::Error) -> ImportError {
        ImportError::Read {
            file: self.source.name.clone(),
            bytes: input.unpacked(),
            line: self.line + 1,
            source,
        }
    }

    fn here(&self) -> String {
        format!("{}:{}", self.source.name, self.line)
    }
}

impl Intake<'_> {
    fn read(&mut self, source: &Source) -> Result<(), ImportError> {
        let mut place = Place {
            source,
            line: 0,
            reported: 0,
        };
        let mut input = Input::open(&source.path).map_err(|error| ImportError::Read {
            file: source.name.clone(),
            bytes: 0,
            line: 1,
            source: error,
        })?;
        let begun = self.kept.begin(&source.path);
        self.keeping(begun)?;
        let options = self.options;
        match &options.format {
            Format::Combined => self.combined(&mut input, &mut place)?,
            Format::Csv(mapping) => self.csv(mapping, &mut input, &mut place)?,
            Format::Jsonl(mapping) => self.jsonl(mapping, &mut input, &mut place)?,
        }
        self.state.before += input.bytes_read();
        Ok(())
    }

    fn combined(&mut self, input: &mut Input, place: &mut Place<'_>) -> Result<(), ImportError> {
        let max = self.options.max_line;
        loop {
            let id = input.id(place.line + 1);
            let line = match input.line(max) {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => line,
                Err(error) => return Err(place.failed(input, error)),
            };
            place.line += 1;
            if line.bytes.is_empty() {
                self.state.blank += 1;
            } else {
                self.state.lines += 1;
                let text = values::text(line.bytes, "\\x");
                let parsed = match line.cut {
                    0 => parse_combined(&text).map_err(|unparsed| unparsed.to_string()),
                    _ => Err(format!("a line of over {max} bytes")),
                };
                let taken = match parsed {
                    Ok(entry) => {
                        let browser_id = entry.browser_id();
                        entry.measurement(id, &browser_id, |m| self.take(m))?
                    }
                    Err(reason) => Err(reason),
                };
                if let Err(reason) = taken {
                    self.keep(&place.here(), &reason, line.bytes, line.cut)?;
                }
            }
            self.report(input, place);
        }
    }

    fn csv(
        &mut self,
        mapping: &Mapping,
        input: &mut Input,
        place: &mut Place<'_>,
    ) -> Result<(), ImportError> {
        let max = self.options.max_line;
        let mut rows = rows::Rows::new(mapping.delimiter, mapping.quote);
        let names = match &mapping.header {
            Some(names) => {
                rows.set_width(names.len());
                names.clone()
            }
            None => match rows.next(input, max) {
                // A file of no bytes has no rows either.
                Ok(None) => return Ok(()),
                Ok(Some(row)) => match row.fields {
                    Ok(fields) => (0..fields.len())
                        .filter_map(|i| fields.get(i))
                        .map(|name| values::text(name, "\\x").trim().to_owned())
                        .collect(),
                    Err(problem) => {
                        let file = place.source.name.clone();
                        return Err(ImportError::Header { file, problem });
                    }
                },
                Err(error) => return Err(place.failed(input, error)),
            },
        };
        let mut columns = Vec::with_capacity(mapping.columns.len());
        for column in &mapping.columns {
            let Some(at) = names.iter().position(|name| *name == column.path) else {
                let shown = names.iter().take(30).map(|name| &name[..]);
                return Err(ImportError::Column(Box::new(NoColumn {
                    mapping: mapping.file.clone(),
                    line: column.line,
                    key: column.key.clone(),
                    file: place.source.name.clone(),
                    column: column.written.clone(),
                    near: mapping::did_you_mean(&column.path, names.iter().map(|name| &name[..])),
                    columns: shown.collect::<Vec<_>>().join(", "),
                })));
            };
            columns.push(at);
        }
        let name = input.id(0);
        loop {
            let row = match rows.next(input, max) {
                Ok(None) => break,
                Ok(Some(row)) => row,
                Err(error) => {
                    place.line = rows.line() - 1;
                    return Err(place.failed(input, error));
                }
            };
            place.line = row.line;
            self.state.lines += 1;
            let taken = match row.fields {
                Ok(fields) => {
                    let value = |at: &usize| {
                        let bytes = fields.get(*at).unwrap_or_default();
                        mapping.present(values::text(bytes, "\\x"))
                    };
                    let values: Values<'_> = columns.iter().map(value).collect();
                    self.mapped(mapping, &values, input_id(name, row.line))?
                }
                Err(reason) => Err(reason),
            };
            if let Err(reason) = taken {
                self.keep(&place.here(), &reason, row.raw, row.cut)?;
            }
            self.report(input, place);
        }
        self.state.blank += rows.blank();
        Ok(())
    }

    fn jsonl(
        &mut self,
        mapping: &Mapping,
        input: &mut Input,
        place: &mut Place<'_>,
    ) -> Result<(), ImportError> {
        let max = self.options.max_line;
        loop {
            let name = input.id(0);
            let line = match input.line(max) {
                Ok(None) => return Ok(()),
                Ok(Some(line)) => line,
                Err(error) => return Err(place.failed(input, error)),
            };
            place.line += 1;
            if line.bytes.trim_ascii().is_empty() {
                self.state.blank += 1;
            } else {
                self.state.lines += 1;
                // A backslash in JSON is written twice.
                let text = values::text(line.bytes, "\\\\x");
                let taken = match line.cut {
                    0 => self.json_line(mapping, &text, name, place)?,
                    _ => Err(format!("a line of over {max} bytes")),
                };
                if let Err(reason) = taken {
                    self.keep(&place.here(), &reason, line.bytes, line.cut)?;
                }
            }
            self.report(input, place);
        }
    }

    /// The measurements of one line; an error is the whole line's.
    fn json_line(
        &mut self,
        mapping: &Mapping,
        text: &str,
        name: [u8; 16],
        place: &Place<'_>,
    ) -> Result<Result<(), String>, ImportError> {
        let line: json::Object<'_> = match serde_json::from_str(text) {
            Ok(line) => line,
            Err(error) if error.is_data() => return Ok(Err("expected a JSON object".to_owned())),
            Err(error) => return Ok(Err(format!("no JSON at column {}", error.column()))),
        };
        if self.names.is_empty() {
            self.names.extend(line.names().map(str::to_owned));
        }
        let Some(each) = &mapping.each else {
            let id = input_id(name, place.line);
            return match json_values(mapping, &line, None) {
                Ok(values) => self.mapped(mapping, &values, id),
                Err(reason) => Ok(Err(reason)),
            };
        };
        let Some(items) = line.get(each).and_then(json::array) else {
            return Ok(Err(format!("{each}: expected an array")));
        };
        let most = UNFOLDED.saturating_mul(self.options.max_line);
        let mut unfolded = 0;
        for (i, item) in items.into_iter().enumerate() {
            if unfolded > most {
                return Ok(Err(format!(
                    "item {i} and later: the measurements before take over {most} bytes"
                )));
            }
            let id = input_id(name, place.line << 24 | (i as u64 + 1).min(0xFF_FFFF));
            let object = json::object(item);
            if let (0, Some(object)) = (i, &object)
                && place.line == 1
            {
                self.names.extend(object.names().map(str::to_owned));
            }
            let taken = match json_values(mapping, &line, Some((item, object))) {
                Ok(values) => self.mapped(mapping, &values, id)?,
                Err(reason) => Err(reason),
            };
            match taken {
                Ok(()) => unfolded += self.message.len(),
                Err(reason) => {
                    let here = format!("{}, item {}", place.here(), i + 1);
                    unfolded += item.get().len();
                    self.keep(&here, &reason, item.get().as_bytes(), 0)?;
                }
            }
        }
        Ok(Ok(()))
    }

    /// Takes the measurement of a row. The inner error is the row's.
    fn mapped(
        &mut self,
        mapping: &Mapping,
        values: &Values<'_>,
        id: [u8; 16],
    ) -> Result<Result<(), String>, ImportError> {
        for (found, value) in self.found.iter_mut().zip(values) {
            *found += u64::from(value.is_some());
        }
        match mapping.measurement(values, id, |measurement| self.take(measurement)) {
            Ok(taken) => taken,
            Err(reason) => Ok(Err(reason)),
        }
    }

    /// Takes a measurement to be sorted.
    fn take(&mut self, measurement: &Measurement<'_>) -> Result<Result<(), String>, ImportError> {
        self.message.clear();
        measurement.encode_message(&mut self.message);
        let max = self.options.max_line;
        if self.message.len() > max {
            return Ok(Err(format!("its measurement is over {max} bytes")));
        }
        let (time, key) = (measurement.event_time, measurement.browser_id.as_bytes());
        self.sorter
            .push(time, key, &self.message)
            .map_err(|source| ImportError::Sort {
                dir: self.options.log.clone(),
                source,
            })?;
        self.browsers.insert(key);
        self.state.measurements += 1;
        let (first, last) = self.state.span.unwrap_or((time, time));
        self.state.span = Some((first.min(time), last.max(time)));
        Ok(Ok(()))
    }

    fn keep(&mut self, place: &str, reason: &str, raw: &[u8], cut: u64) -> Result<(), ImportError> {
        let kept = self.kept.keep(place, reason, raw, cut);
        self.keeping(kept)
    }

    fn keeping(&self, result: io::Result<()>) -> Result<(), ImportError> {
        result.map_err(|source| ImportError::Log {
            path: self.kept.place().to_owned(),
            source,
        })
    }

    fn report(&mut self, input: &Input, place: &mut Place<'_>) {
        let offset = input.offset();
        if offset - place.reported >= REPORT_EVERY {
            place.reported = offset;
            self.tell(Phase::Reading, &place.source.name, input.bytes_read());
        }
    }

    fn tell(&mut self, phase: Phase, file: &str, bytes: u64) {
        self.progress.report(&State {
            phase,
            file,
            bytes: self.state.before + bytes,
            total: self.state.total,
            lines: self.state.lines,
            measurements: self.state.measurements,
            written: self.state.written,
            unparsed: self.kept.count,
        });
    }

    /// Writes all measurements in order, and sums up.
    fn write(mut self, out: &mut dyn Out) -> Result<Summary, ImportError> {
        let finished = self.kept.finish();
        self.keeping(finished)?;
        if self.state.measurements == 0 && self.kept.count > 0 {
            self.tell(Phase::Done, "", 0);
            return Err(ImportError::NothingParsed {
                lines: self.state.lines,
                first: self.kept.first.swap_remove(0),
                kept: self.kept.place().to_owned(),
            });
        }
        let sorter = std::mem::replace(&mut self.sorter, Sorter::new(0, &self.options.log));
        let sorting = |source| ImportError::Sort {
            dir: self.options.log.clone(),
            source,
        };
        let output = |written, source| ImportError::Output {
            log: self.options.log.clone(),
            topic: self.options.topic.clone(),
            written,
            source,
        };
        let mut sorted = sorter.finish().map_err(sorting)?;
        while let Some((time, key, value)) = sorted.next().map_err(sorting)? {
            out.send(time, key, value)
                .map_err(|source| output(self.state.written, source))?;
            self.state.written += 1;
            if self.state.written.is_multiple_of(1024) {
                self.tell(Phase::Writing, "", 0);
            }
        }
        out.flush()
            .map_err(|source| output(self.state.written, source))?;
        self.tell(Phase::Done, "", 0);
        Ok(Summary {
            lines: self.state.lines,
            measurements: self.state.written,
            unparsed: self.kept.count,
            blank: self.state.blank,
            span: self.state.span,
            browsers: self.browsers.count(),
            warnings: self.warnings(),
            first_unparsed: self.kept.first,
            unparsed_files: self.kept.files,
            log: self.options.log.clone(),
            topic: self.options.topic.clone(),
        })
    }

    /// What no line had, though the mapping names it.
    fn warnings(&self) -> Vec<String> {
        let mapping = match &self.options.format {
            Format::Csv(mapping) | Format::Jsonl(mapping) if self.state.lines > 0 => mapping,
            _ => return Vec::new(),
        };
        let never = mapping.columns.iter().zip(&self.found);
        never
            .filter(|(_, found)| **found == 0)
            .map(|(column, _)| {
                let names = self.names.iter().map(|name| &name[..]);
                let near = match names.clone().any(|name| name == column.path) {
                    true => String::new(),
                    false => mapping::did_you_mean(&column.path, names),
                };
                format!(
                    "{}:{}: {}: no line has a value for {:?}{near}",
                    mapping.file.display(),
                    column.line,
                    column.key,
                    column.written
                )
            })
            .collect()
    }
}

/// An input's ID with another place.
fn input_id(mut name: [u8; 16], place: u64) -> [u8; 16] {
    name[8..].copy_from_slice(&place.to_be_bytes());
    name
}

/// The values that a mapping takes from a line, or from an item of it.
fn json_values<'a>(
    mapping: &Mapping,
    line: &json::Object<'a>,
    item: Option<(&'a RawValue, Option<json::Object<'a>>)>,
) -> Result<Values<'a>, String> {
    let value = |column: &mapping::Column| {
        let found = match &item {
            Some((item, object)) if !column.parent => match (&column.path[..], object) {
                ("", _) => Some(*item),
                (path, Some(object)) => object.get(path),
                (path, None) => json::get(item, path),
            },
            _ => line.get(&column.path),
        };
        let Some(found) = found else {
            return Ok(None);
        };
        let text = json::text(found)
            .map_err(|_| format!("{}: a text that is no Unicode", column.written))?;
        Ok(text.and_then(|text: Cow<'a, str>| mapping.present(text)))
    };
    mapping.columns.iter().map(value).collect()
}
