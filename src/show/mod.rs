//! `visitflow show`: the records of a log, a topic or a table as JSON lines, for people and for
//! `jq`; and, by its job file, those of a job's topics, wherever they are. Bodies are read by Apache Avro's own library under their writers' schemas, so this is also
//! a second opinion on what the sinks write.

mod bodies;
mod job;
mod kafka;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};
use thiserror::Error;
use visitflow_schemas::store::StoreError;

use crate::kafka::KafkaError;
use crate::log::{LogError, Reader, Topic, start_offset};
use crate::table::{Table, TableError, to_json_lines};
use crate::why::time;
use bodies::{Bodies, text};
pub use job::show_job;

/// Why nothing, or no more, is shown.
#[derive(Debug, Error)]
pub enum ShowError {
    /// The place is neither a log, nor a topic, nor a table.
    #[error("{} is no log, topic or table{hint}", place.display())]
    Nothing {
        /// The place.
        place: PathBuf,
        /// What lies below it instead.
        hint: String,
    },
    /// A log of several topics.
    #[error("{} has the topics {}; name one with --topic", place.display(), topics.join(", "))]
    Several {
        /// The log.
        place: PathBuf,
        /// Its topics.
        topics: Vec<String>,
    },
    /// A job has several topics.
    #[error("the job {job} has the topics {}; name one with --topic", topics.join(", "))]
    JobTopics {
        /// The job.
        job: String,
        /// Its topics.
        topics: Vec<String>,
    },
    /// A job has no such topic.
    #[error("the job {job} has no topic {topic}; it has {}", topics.join(", "))]
    NoJobTopic {
        /// The job.
        job: String,
        /// What was asked for.
        topic: String,
        /// Its topics.
        topics: Vec<String>,
    },
    /// A partition that is not there.
    #[error(
        "the topic {topic} has the partitions 0 to {last}, expected one of them rather than {partition}"
    )]
    Partition {
        /// The topic.
        topic: String,
        /// Its last partition.
        last: u32,
        /// What was asked for.
        partition: u32,
    },
    /// An option that does not fit the place.
    #[error("--{option} is for logs and topics; {} is a table", place.display())]
    Option {
        /// The option.
        option: &'static str,
        /// The place.
        place: PathBuf,
    },
    /// Settings for what is no job file.
    #[error("--set is for job files; {} is none", place.display())]
    Settings {
        /// The place.
        place: PathBuf,
    },
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The schemas.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output.
    #[error("cannot write: {0}")]
    Write(#[from] io::Error),
}

/// What to show.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where.
    pub place: PathBuf,
    /// So many at most.
    pub limit: Option<u64>,
    /// Of a log, this topic.
    pub topic: Option<String>,
    /// Only this partition.
    pub partition: Option<u32>,
}

/// Shows it; returns how many.
pub fn show(options: &Options, out: &mut impl Write) -> Result<u64, ShowError> {
    let place = &options.place;
    if place.join("_delta_log").is_dir() {
        for (option, given) in [
            ("topic", options.topic.is_some()),
            ("partition", options.partition.is_some()),
        ] {
            if given {
                return Err(ShowError::Option {
                    option,
                    place: place.clone(),
                });
            }
        }
        return show_table(options, out);
    }
    if place.join("topic.json").is_file() {
        let name = place
            .file_name()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default();
        return show_topic(
            place.parent().unwrap_or(Path::new(".")),
            &name,
            None,
            options,
            out,
        );
    }
    let topics = if place.is_dir() {
        Topic::list(place)?
    } else {
        vec![]
    };
    match (&options.topic, &topics[..]) {
        (Some(name), _) => show_topic(place, name, None, options, out),
        (None, [one]) => show_topic(place, one, None, options, out),
        (None, []) => Err(ShowError::Nothing {
            place: place.clone(),
            hint: hint(place),
        }),
        (None, _) => Err(ShowError::Several {
            place: place.clone(),
            topics,
        }),
    }
}

/// Tables and topics up to two folders below, for a place that is none itself.
fn hint(place: &Path) -> String {
    let mut found = Vec::new();
    let mut look = |dir: &Path| {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.join("_delta_log").is_dir() || path.join("topic.json").is_file() {
                found.push(path.display().to_string());
            }
        }
    };
    look(place);
    for entry in std::fs::read_dir(place).into_iter().flatten().flatten() {
        look(&entry.path());
    }
    found.sort();
    match (place.exists(), found.is_empty()) {
        (false, _) => "; it does not exist".into(),
        (true, true) => String::new(),
        (true, false) => format!("; below it are {}", found.join(", ")),
    }
}

fn show_table(options: &Options, out: &mut impl Write) -> Result<u64, ShowError> {
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    for batch in Table::open(&options.place)?.read() {
        let batch = batch?;
        let rows = (batch.num_rows() as u64).min(left);
        to_json_lines(&batch.slice(0, rows as usize), out)?;
        (left, shown) = (left - rows, shown + rows);
        if left == 0 {
            break;
        }
    }
    Ok(shown)
}

/// Of a topic of the embedded log; `schemas` are the stores of its messages' schemas if not the one
/// beside it.
fn show_topic(
    log: &Path,
    name: &str,
    schemas: Option<Vec<PathBuf>>,
    options: &Options,
    out: &mut impl Write,
) -> Result<u64, ShowError> {
    let topic = Topic::open(log, name)?;
    let partitions = chosen(name, topic.partitions(), options)?;
    let mut bodies = Bodies::of(schemas.unwrap_or_else(|| vec![log.join("schemas")]))?;
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    for partition in partitions {
        let mut reader = Reader::open(&topic, partition, start_offset(&topic, partition)?)?;
        while left > 0 {
            let Some(record) = reader.peek()? else { break };
            let mut line = Map::new();
            line.insert("partition".into(), partition.into());
            line.insert("offset".into(), record.offset.into());
            line.insert("log_time".into(), time(record.log_time).into());
            line.insert("key".into(), text(record.key));
            for (name, value) in record.headers() {
                line.insert(name.to_owned(), text(value));
            }
            bodies.decode(record.value, &mut line);
            write_line(&line, out)?;
            (left, shown) = (left - 1, shown + 1);
            reader.advance();
        }
    }
    Ok(shown)
}

/// The partitions to show of a topic that has so many.
fn chosen(
    topic: &str,
    partitions: u32,
    options: &Options,
) -> Result<std::ops::Range<u32>, ShowError> {
    match options.partition {
        None => Ok(0..partitions),
        Some(partition) if partition < partitions => Ok(partition..partition + 1),
        Some(partition) => Err(ShowError::Partition {
            topic: topic.to_owned(),
            last: partitions.saturating_sub(1),
            partition,
        }),
    }
}

fn write_line(line: &Map<String, Value>, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.write_all(b"\n")
}
