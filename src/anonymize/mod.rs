//! The role that anonymizes: writes the twins of a job's outputs, stream from stream and files from
//! files, as the one process that reads the salts. It can and should run as a user of its own.
//!
//! | of | comes | which has |
//! | --- | --- | --- |
//! | the topic `tagged` | the topic `tagged-anonymous`, beside it in the log or in Kafka | the measurements, in batches of whole ticks, sorted by browser within a tick |
//! | the topic `lifecycle` | the topic `lifecycle-anonymous` | beginnings, ends and revisions of visits, likewise; not which customers they name |
//! | the table `identified/measurements` | the table `anonymous/measurements` | version n of version n; rows sorted by visit; the column `position_in_visit`, from 1 |
//! | the table `identified/visits` | the table `anonymous/visits` | version n of version n; rows sorted by visit |
//!
//! What becomes of each field is said by its privacy: see [`visitflow_schemas::anonymize`]. All IDs
//! of a record are pseudonyms under the salt of the UTC year in which its visit began, in all four
//! twins, so that they can be joined with one another; with the originals they cannot. A visit has
//! one year: that of its beginning by its tag in the topic, and by its seal in the tables. The two
//! differ where a revision over New Year moved it, whose two visits nothing joins in the twin.
//!
//! Nothing says where in its source something was: no header `tick`; the log's time and the times
//! of measurements are hours; keys are the browsers' pseudonyms, and partitions are by them.
//!
//! # What a reader of the twin of `lifecycle` can do
//!
//! Count visits as they begin and end, by reason and length in measurements; follow one browser
//! within a year. A revision says that some measurements of the visit `from` belong to `into`, and
//! which was the first of them (`first_id`) and the first after them (`until_id`). Which others lie
//! between is not to be seen, since times are hours: for the final visits of measurements a reader
//! takes `visit_id` from the table, by `event_id`.
//!
//! `CustomerNamed` on `lifecycle` says what a customer likes and when one was seen, which would tell who
//! a pseudonym is: nothing of it goes into the twin.
//!
//! `late` and `rejected` hold what is personal and have no twin. Nor has `attribution`: an order's
//! value and chain would name it even without its number, and both follow from the twins of measurements.

pub mod kafka;
pub mod salts;
mod stream;
mod tables;
mod transcode;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;
use visitflow_schemas::anonymize::{self as schemas, Anonymizer, BodyError, Unlike};
use visitflow_schemas::resolve::resolve;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::{Kind, Logical, Schema};
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};
use visitflow_schemas::{records, tag};

use crate::job::Job;
use crate::kafka::KafkaError;
use crate::log::LogError;
use crate::progress::Progress;
use crate::run::{self, RunError, grouped, outputs};
use crate::table::TableError;
use salts::{SaltFile, SaltFileError};

/// How long to wait at the end of what is followed.
const PAUSE: Duration = Duration::from_millis(200);

/// The twins of the topics, beside them in the same log. In Kafka each has the job's name before its
/// own.
pub const TOPICS: [(&str, &str); 2] = [
    ("tagged", "tagged-anonymous"),
    ("lifecycle", "lifecycle-anonymous"),
];

/// The folder of the anonymized tables of a job.
pub fn anonymous(files: &Path) -> PathBuf {
    files.join("anonymous")
}

/// Why the twins could not be written; what is committed of them stays and is whole.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum AnonymizeError {
    #[error(
        "privacy.salts is not set: expected the path of a file, which is made if it is not there; \
         type --set privacy.salts=FILE"
    )]
    NoSalts,
    #[error("there is nothing to anonymize yet: no {}; expected what `visitflow run` writes of this job", .0.display())]
    NothingYet(PathBuf),
    #[error(transparent)]
    Salts(#[from] SaltFileError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Schema(#[from] schemas::AnonymizeError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error(
        "topic {0:?} sets the times of its records itself (message.timestamp.type=LogAppendTime); expected \
         CreateTime, since they must say no more than the hour"
    )]
    TwinTimes(String),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error("{}, {file}: {source}", table.display())]
    Columns {
        table: PathBuf,
        file: String,
        source: Unlike,
    },
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "{topic}, partition {partition}, offset {offset}: {problem}, expected a record as `visitflow run` writes it"
    )]
    Record {
        topic: String,
        partition: u32,
        offset: u64,
        problem: RecordProblem,
    },
    #[error(
        "{twin}: {problem}; the twin was begun with another source than {from} is now: remove {twin} and anonymize anew",
        twin = twin.display(),
        from = from.display()
    )]
    OtherSource {
        twin: PathBuf,
        from: PathBuf,
        problem: String,
    },
    #[error(
        "{}: version {version} takes files out, which its twin cannot follow; expected versions that add",
        table.display()
    )]
    Removes { table: PathBuf, version: u64 },
}

/// What is wrong with a record of a topic.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum RecordProblem {
    #[error("no header `tick`")]
    NoTick,
    #[error(transparent)]
    Message(#[from] visitflow_schemas::message::MessageError),
    #[error("a message of the schema {0:016x}, which is not in the folder of schemas")]
    Schema(u64),
    #[error(transparent)]
    Body(#[from] BodyError),
}

/// What has been written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records written to the twins of topics, as [`TOPICS`] has them; `None` without topics.
    pub records: Option<[u64; 2]>,
    /// Of the tables of measurements and of visits: rows written, versions written, and the version
    /// that the twin is at; `None` without files.
    pub tables: Option<[TableSummary; 2]>,
    /// The years that have salts.
    pub years: Vec<i64>,
    /// Whether it was asked to stop before the end.
    pub stopped: bool,
}

/// What has been written of a table's twin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TableSummary {
    /// Rows.
    pub rows: u64,
    /// Versions.
    pub versions: u64,
    /// The version that the twin is at.
    pub version: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(records) = self.records {
            for ((_, twin), records) in TOPICS.iter().zip(records) {
                writeln!(f, "{twin}: {} records more", grouped(records))?;
            }
        }
        if let Some(tables) = self.tables {
            for (name, table) in crate::sink::table::TABLES.iter().zip(tables) {
                let TableSummary {
                    rows,
                    versions,
                    version,
                } = table;
                let (rows, versions) = (grouped(rows), grouped(versions));
                writeln!(
                    f,
                    "anonymous/{name}: {rows} rows more in {versions} versions; at version {version}"
                )?;
            }
        }
        let years: Vec<String> = self.years.iter().map(i64::to_string).collect();
        match years.is_empty() {
            true => write!(f, "no salts yet")?,
            false => write!(f, "salts of {}", years.join(", "))?,
        }
        if self.stopped {
            write!(f, "; stopped before the end")?;
        }
        Ok(())
    }
}

/// What a step of a stream's twin has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// It has written something.
    Moved,
    /// More may be there, and has not come yet.
    Waits,
    /// It has written all that was there.
    AtEnd,
}

/// The twin of a topic, wherever that lies. Each step writes some whole ticks, once, whenever it or
/// another before it has died.
trait Stream {
    /// Writes what has come, if something has.
    fn step(&mut self, salts: &mut SaltFile, tagged: &Tagged) -> Result<Step, AnonymizeError>;
    /// How many records it has written since it was opened.
    fn records(&self) -> u64;
}

/// The schemas of tagged measurements, with the annotations that the job's schemas have now: the
/// folder of the outputs keeps those that it got first.
struct Tagged {
    overrides: Overrides,
    known: HashMap<u64, Schema>,
    /// That of the rows.
    reader: Schema,
}

impl Tagged {
    fn of(job: &Job) -> Result<Tagged, AnonymizeError> {
        let (reader, overrides) = run::reader(job)?;
        let mut writers = vec![reader.clone()];
        // Another user's folder, perhaps; the outputs have what is needed.
        if let Ok(store) = FolderStore::open(job.schema_store().unwrap_or_default()) {
            writers.extend(store.all()?);
        }
        let fits = |writer: &Schema| {
            resolve(writer, &reader).is_ok() && Roles::find(writer, &overrides).is_ok()
        };
        let mut known = HashMap::new();
        for writer in writers.iter().filter(|writer| fits(writer)) {
            if let Ok(tagged) = tag::tagged(writer) {
                known.entry(tagged.fingerprint()).or_insert(tagged);
            }
        }
        let reader = tag::rows(&reader).map_err(|source| RunError::Schema {
            path: job.schemas.reader.clone().unwrap_or_default(),
            source,
        })?;
        Ok(Tagged {
            overrides,
            known,
            reader,
        })
    }

    /// Adds what the outputs know besides.
    fn add(&mut self, store: &dyn SchemaStore) -> Result<(), StoreError> {
        for schema in store.all()?.into_iter().filter(is_tagged) {
            self.known.entry(schema.fingerprint()).or_insert(schema);
        }
        Ok(())
    }

    /// Every schema must say the privacy of all its fields before anything is written.
    fn check(&self) -> Result<(), AnonymizeError> {
        self.anonymizer(&self.reader)?;
        let mut all: Vec<&Schema> = self.known.values().collect();
        all.sort_by_key(|schema| schema.fingerprint());
        all.iter()
            .try_for_each(|schema| self.anonymizer(schema).map(drop))
    }

    fn anonymizer(&self, schema: &Schema) -> Result<Anonymizer, AnonymizeError> {
        Ok(Anonymizer::of_tagged(schema, &self.overrides)?)
    }
}

/// Whether the outputs put it there for tagged measurements, by the tag that it begins with.
fn is_tagged(schema: &Schema) -> bool {
    let record = schema.record();
    let short = record.name.rsplit('.').next().unwrap_or_default();
    let tag = match &record.fields[..] {
        [id, started, ..] => {
            matches!(&id.ty.kind, Kind::Fixed(fixed) if fixed.size == 16)
                && started.ty.logical == Some(Logical::TimestampMillis)
        }
        _ => false,
    };
    tag && short
        .trim_end_matches(|c: char| c.is_ascii_digit())
        .ends_with("Tagged")
}

/// Whether the twins of a job could be written, as far as its schemas say: each field of each must
/// have its privacy. For the other roles, which can say so before there is anything to anonymize.
///
/// # Errors
/// The first schema that says too little, with all the fields that it says nothing of.
pub fn check(job: &Job) -> Result<(), AnonymizeError> {
    Tagged::of(job)?.check()
}

/// Writes the twins of all that the job's outputs have. With `follow` it waits for more, until
/// `stop` is set; else it ends at the end of what was committed when it came there.
///
/// It goes on where it, or another before it, has stopped or died, and writes nothing twice.
///
/// # Errors
/// What is wrong before the start (no salts, salts that others may read, a field without privacy,
/// outputs that are not there), and whatever goes wrong on the way.
pub fn anonymize(
    job: &Job,
    follow: bool,
    stop: Arc<AtomicBool>,
) -> Result<Summary, AnonymizeError> {
    let path = job.privacy.salts.as_ref().ok_or(AnonymizeError::NoSalts)?;
    let outputs_of = [
        job.output_schemas(),
        job.outputs.files.as_deref().map(outputs::identified),
    ];
    if let Some(dir) = outputs_of.into_iter().flatten().find(|dir| !dir.exists()) {
        return Err(AnonymizeError::NothingYet(dir));
    }
    let mut salts = SaltFile::open(path)?;
    let mut tagged = Tagged::of(job)?;
    let store = job.output_schemas().map(FolderStore::open).transpose()?;
    if let Some(store) = &store {
        tagged.add(store)?;
    }
    tagged.check()?;

    let mut streams: Vec<Box<dyn Stream + '_>> = vec![];
    if let (Some(log), Some(store)) = (&job.outputs.log, &store) {
        for (topic, twin) in TOPICS {
            let twin = stream::Twin::open(log, topic, twin, store, &mut salts, &tagged)?;
            streams.push(Box::new(twin));
        }
    }
    if let (Some(brokers), Some(store)) = (&job.outputs.kafka, &store) {
        for twin in kafka::open(job, brokers, store, &stop)? {
            streams.push(Box::new(twin));
        }
    }
    let mut tables = vec![];
    if let Some(files) = &job.outputs.files {
        let measurements = tagged.anonymizer(&tagged.reader)?;
        let visits = Anonymizer::of_record(&records::VISIT)?;
        let both = [(measurements, true), (visits, false)];
        for (name, (anonymizer, positions)) in crate::sink::table::TABLES.iter().zip(both) {
            let from = outputs::identified(files).join(name);
            let to = anonymous(files).join(name);
            tables.push(tables::Twin::open(
                &from, &to, anonymizer, positions, &tagged,
            )?);
        }
    }

    let began = Instant::now();
    let mut progress = Progress::new();
    let stopping = || stop.load(Ordering::Relaxed);
    while !stopping() {
        let (mut moved, mut ended) = (false, true);
        for stream in &mut streams {
            match stream.step(&mut salts, &tagged) {
                Ok(step) => {
                    moved |= step == Step::Moved;
                    ended &= step == Step::AtEnd;
                }
                // What it was writing is there whole or not at all; the next start knows.
                Err(AnonymizeError::Kafka(KafkaError::Stopped)) => break,
                Err(error) => return Err(error),
            }
        }
        for table in &mut tables {
            moved |= table.step(&mut salts, &stopping)?;
        }
        progress.say(|| {
            let records: u64 = streams.iter().map(|stream| stream.records()).sum();
            let rows: u64 = tables.iter().map(|table| table.summary.rows).sum();
            let rate = (records + rows) as f64 / began.elapsed().as_secs_f64();
            let (records, rows, rate) = (grouped(records), grouped(rows), grouped(rate as u64));
            format!("{records} records and {rows} rows anonymized, {rate} a second")
        });
        if !moved {
            if !follow && ended {
                break;
            }
            std::thread::sleep(PAUSE);
        }
    }
    progress.end();
    let summary = Summary {
        records: match &streams[..] {
            [tagged, lifecycle] => Some([tagged.records(), lifecycle.records()]),
            _ => None,
        },
        tables: match &tables[..] {
            [measurements, visits] => Some([measurements.summary, visits.summary]),
            _ => None,
        },
        years: salts.years().collect(),
        stopped: stopping() && !follow,
    };
    Ok(summary)
}
