//! The outputs of a job, made ready before anything starts: topics and tables that are there and
//! empty, and the schemas of what will be in them.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use visitflow_schemas::columns::{Ids, arrow_schema_of};
use visitflow_schemas::records;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use super::RunError;
use crate::job::Job;
use crate::log::{Topic, end_offset};
use crate::sink::table::{TABLES, measurement_rows};
use crate::table::Table;

/// The topics of a job's output log.
pub const TOPICS: [&str; 4] = ["tagged", "lifecycle", "late", "rejected"];

/// The folder of the identified tables of a job.
pub fn identified(files: &Path) -> PathBuf {
    files.join("identified")
}

/// The folder of the schemas of an output log.
pub fn schemas(log: &Path) -> PathBuf {
    log.join("schemas")
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
    let mut dirs: Vec<&PathBuf> = job.outputs.log.iter().chain(&job.outputs.files).collect();
    dirs.dedup();
    dirs.into_iter().map(take).collect()
}

/// Makes the outputs ready. With `first`, the process that creates, replaces and refuses them; the
/// others find them once they are connected with it.
pub fn prepare(job: &Job, reader: &Schema, first: bool) -> Result<(), RunError> {
    if let Some(log) = &job.outputs.log {
        for name in if first { &TOPICS[..] } else { &[] } {
            prepare_topic(job, log, name)?;
            let topic = Topic::open_or_create(log, name, job.outputs.partitions)?;
            if topic.partitions() != job.outputs.partitions {
                return Err(RunError::Partitions {
                    topic: topic.path(),
                    found: topic.partitions(),
                    expected: job.outputs.partitions,
                });
            }
        }
        let dir = schemas(log);
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
            prepare_table(job, &dir)?;
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
