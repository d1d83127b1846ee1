//! The outputs of a job, made ready before anything starts: topics and tables that are there and
//! empty, and the schemas of what will be in them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use visitflow_schemas::columns::{Ids, arrow_schema_of};
use visitflow_schemas::records;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use super::RunError;
use super::journals::JobJournals;
use crate::job::Job;
use crate::kafka::{self, Connection, Patience};
use crate::log::{Topic, end_offset};
use crate::recovery::{Folder, claim};
use crate::sink::SinkError;
use crate::sink::kafka::{progress_topic, topics};
use crate::sink::table::{TABLES, measurement_rows};
use crate::sink::topics::names;
use crate::table::Table;

pub use crate::sink::topics::TOPICS;

/// How long brokers are waited for at a start.
const BROKERS: Duration = Duration::from_secs(120);

/// The folder of the identified tables of a job.
pub fn identified(files: &Path) -> PathBuf {
    files.join("identified")
}

/// The Kafka that topics go to, if they do.
pub fn kafka(job: &Job) -> Option<Connection> {
    let brokers = job.outputs.kafka.as_ref()?;
    Some(with_brokers(job, brokers))
}

/// A Kafka with the job's properties.
pub fn with_brokers(job: &Job, brokers: &str) -> Connection {
    let mut properties = job.kafka.clone();
    properties.insert("bootstrap.servers".to_owned(), brokers.to_owned());
    // A record with its tag must fit.
    let most = job.limits.max_record + SPARE;
    properties
        .entry("message.max.bytes".to_owned())
        .or_insert_with(|| most.max(1_000_000).to_string());
    Connection { properties }
}

/// How brokers are waited for at a start.
pub fn patience() -> Patience {
    patience_until(&Arc::default())
}

/// The same, until `stop` is set.
pub fn patience_until(stop: &Arc<AtomicBool>) -> Patience {
    Patience::until(stop.clone())
        .limit(BROKERS)
        .saying(|text| eprintln!("waiting for Kafka: {text}"))
}

/// Takes the outputs for this run alone, for as long as the files are open. A second run, which could even remove what
/// this one writes, is refused.
pub fn hold(job: &Job) -> Result<Vec<File>, RunError> {
    let take = |dir: &PathBuf| {
        fs::create_dir_all(dir).map_err(RunError::io("create", dir))?;
        let lock = dir.join(".lock");
        let file = File::create(&lock).map_err(RunError::io("create", &lock))?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => Err(RunError::OutputsHeld {
                dir: dir.clone(),
                lock,
            }),
            Err(TryLockError::Error(source)) => Err(RunError::Io {
                what: "lock",
                path: lock,
                source,
            }),
        }
    };
    // With a state, a later start replaces an earlier one: tables know who may still write.
    let files = job.outputs.files.as_ref();
    let files = files.filter(|_| job.state.dir.is_none());
    let mut dirs: Vec<&PathBuf> = job.outputs.log.iter().chain(files).collect();
    dirs.dedup();
    dirs.into_iter().map(take).collect()
}

/// What a tag adds to a record at most, in bytes.
pub const SPARE: u64 = 1_024;

/// Creates the topics in Kafka that are not there, and checks that they take what will be written.
fn prepare_kafka(job: &Job, connection: &Connection) -> Result<(), RunError> {
    let patience = patience();
    let failed = |error| RunError::Sink(SinkError::Kafka(error));
    for topic in topics(job) {
        let partitions = job.outputs.partitions as usize;
        let most = (job.limits.max_record + SPARE).max(1_048_588).to_string();
        let settings = [("max.message.bytes", &*most)];
        kafka::create(connection, &topic, partitions, &settings, &patience).map_err(failed)?;
        let found = kafka::describe(connection, &topic, &patience).map_err(failed)?;
        let needed = job.limits.max_record + SPARE;
        if found.max_message_bytes < needed {
            return Err(RunError::SmallTopic {
                topic: topic.to_string(),
                found: found.max_message_bytes,
                needed,
            });
        }
    }
    let compact = [("cleanup.policy", "compact")];
    kafka::create(connection, &progress_topic(job), 1, &compact, &patience).map_err(failed)
}

/// Whether an earlier run of the job has left a state from which this one goes on.
pub fn goes_on(job: &Job) -> Result<bool, RunError> {
    match &job.state.dir {
        Some(dir) if dir.is_dir() => Ok(claim::highest(&Folder::open(dir)?)? > 0),
        _ => Ok(false),
    }
}

/// Makes the outputs ready. With `first`, the process that creates, replaces and refuses them; the
/// others find them once they are connected with it.
pub fn prepare(job: &Job, reader: &Schema, first: bool) -> Result<(), RunError> {
    let mut goes_on = goes_on(job)?;
    if job.outputs.replace && goes_on && first {
        if let Some(dir) = &job.state.dir {
            fs::remove_dir_all(dir).map_err(RunError::io("remove", dir))?;
        }
        goes_on = false;
    }
    if let (Some(dir), true) = (&job.state.dir, job.outputs.replace && first) {
        // Those in the folder are gone with it.
        JobJournals::of(job, dir, &Arc::default()).clear()?;
    }
    if let (Some(connection), true) = (kafka(job), first) {
        prepare_kafka(job, &connection)?;
    }
    if let Some(log) = &job.outputs.log {
        let names = if first { names(job) } else { Vec::new() };
        for name in &names {
            if !goes_on {
                prepare_topic(job, log, name)?;
            }
            let topic = Topic::open_or_create(log, name, job.outputs.partitions)?;
            if topic.partitions() != job.outputs.partitions {
                return Err(RunError::Partitions {
                    topic: topic.path(),
                    found: topic.partitions(),
                    expected: job.outputs.partitions,
                });
            }
        }
    }
    if let Some(dir) = job.output_schemas() {
        fs::create_dir_all(&dir).map_err(RunError::io("create", &dir))?;
        let store = FolderStore::open(dir)?;
        for schema in records::all() {
            store.put(schema)?;
        }
    }
    if let (Some(files), true) = (&job.outputs.files, first) {
        let rows = [measurement_rows(reader)?, records::VISIT.clone()];
        for (name, schema) in TABLES.iter().zip(rows) {
            let dir = identified(files).join(name);
            let columns = arrow_schema_of(&schema, Ids::Hex).map_err(RunError::Columns)?;
            if !goes_on {
                prepare_table(job, &dir)?;
            }
            let tick = job.time.tick.to_string();
            Table::open_or_create(&dir, &columns, &[("visitflow.tick_ms", &tick)])?;
        }
    }
    Ok(())
}

fn prepare_topic(job: &Job, log: &Path, name: &str) -> Result<(), RunError> {
    if !log.join(name).join("topic.json").exists() {
        return Ok(());
    }
    let topic = Topic::open(log, name)?;
    if job.outputs.replace {
        return fs::remove_dir_all(topic.path()).map_err(RunError::io("remove", &topic.path()));
    }
    for partition in 0..topic.partitions() {
        if end_offset(&topic, partition)? > 0 {
            return Err(RunError::OutputsExist {
                what: "topic",
                path: topic.path(),
            });
        }
    }
    Ok(())
}

fn prepare_table(job: &Job, dir: &Path) -> Result<(), RunError> {
    if !dir.join("_delta_log").exists() {
        return Ok(());
    }
    if job.outputs.replace {
        return fs::remove_dir_all(dir).map_err(RunError::io("remove", dir));
    }
    if Table::open(dir)?.version() > 0 {
        return Err(RunError::OutputsExist {
            what: "table",
            path: dir.to_owned(),
        });
    }
    Ok(())
}
