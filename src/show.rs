//! `visitflow show`: the records of a log, a topic or a table as JSON lines, for people and for
//! `jq`. Bodies are read by Apache Avro's own library under their writers' schemas, so this is also
//! a second opinion on what the sinks write.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use apache_avro::Schema as AvroSchema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Map, Value, json};
use thiserror::Error;
use visitflow_schemas::message;
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};

use crate::log::{LogError, Reader, Topic, start_offset};
use crate::table::{Table, TableError, to_json_lines};
use crate::why::time;

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
        (Some(name), _) => show_topic(place, name, options, out),
        (None, [one]) => show_topic(place, one, options, out),
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

fn show_topic(
    log: &Path,
    name: &str,
    options: &Options,
    out: &mut impl Write,
) -> Result<u64, ShowError> {
    let topic = Topic::open(log, name)?;
    let last = topic.partitions() - 1;
    if let Some(partition) = options.partition.filter(|p| *p > last) {
        return Err(ShowError::Partition {
            topic: name.to_owned(),
            last,
            partition,
        });
    }
    let mut bodies = Bodies::of(log)?;
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    for partition in options.partition.map_or(0..=last, |p| p..=p) {
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
            serde_json::to_writer(&mut *out, &line).map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            (left, shown) = (left - 1, shown + 1);
            reader.advance();
        }
    }
    Ok(shown)
}

/// Decodes messages by the schemas beside a log.
struct Bodies {
    store: Option<FolderStore>,
    known: HashMap<u64, Option<(String, AvroSchema)>>,
}

impl Bodies {
    fn of(log: &Path) -> Result<Bodies, StoreError> {
        let dir = log.join("schemas");
        let store = if dir.is_dir() {
            Some(FolderStore::open(dir)?)
        } else {
            None
        };
        Ok(Bodies {
            store,
            known: HashMap::new(),
        })
    }

    /// Adds the schema's name and the value; for what is no message, why, and the bytes.
    fn decode(&mut self, value: &[u8], line: &mut Map<String, Value>) {
        let problem = match message::split(value) {
            Err(error) => error.to_string(),
            Ok((fingerprint, body)) => match self.schema(fingerprint) {
                None => format!("no schema of fingerprint {fingerprint:016x} is known"),
                Some((name, schema)) => {
                    line.insert("schema".into(), name.clone().into());
                    let mut rest = body;
                    let reader = GenericDatumReader::builder(schema).build();
                    match reader.and_then(|reader| reader.read_value(&mut rest)) {
                        Ok(value) => {
                            line.insert("value".into(), to_json(value));
                            return;
                        }
                        Err(error) => error.to_string(),
                    }
                }
            },
        };
        line.insert("problem".into(), problem.into());
        line.insert("bytes".into(), hex(value).into());
    }

    fn schema(&mut self, fingerprint: u64) -> Option<&(String, AvroSchema)> {
        let store = self.store.as_ref();
        let known = self.known.entry(fingerprint).or_insert_with(|| {
            let schema = store?.get(fingerprint).ok()??;
            let avro = AvroSchema::parse(schema.json()).ok()?;
            Some((schema.record().name.clone(), avro))
        });
        known.as_ref()
    }
}

/// Text as it is, other bytes in hexadecimal.
fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes).into(), Value::from)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An Avro value as people read it: bytes in hexadecimal, times as times.
fn to_json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(v) => v.into(),
        Avro::Int(v) | Avro::Date(v) | Avro::TimeMillis(v) => v.into(),
        Avro::Long(v) | Avro::TimeMicros(v) => v.into(),
        Avro::Float(v) => json!(v),
        Avro::Double(v) => json!(v),
        Avro::Bytes(v) | Avro::Fixed(_, v) => hex(&v).into(),
        Avro::String(v) | Avro::Enum(_, v) => v.into(),
        Avro::Union(_, v) => to_json(*v),
        Avro::Array(items) => items.into_iter().map(to_json).collect(),
        Avro::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries
                .into_iter()
                .map(|(key, value)| (key, to_json(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Avro::Record(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, to_json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Avro::TimestampMillis(v) | Avro::LocalTimestampMillis(v) => time(v).into(),
        Avro::TimestampMicros(v) | Avro::LocalTimestampMicros(v) => {
            time(v.div_euclid(1_000)).into()
        }
        Avro::TimestampNanos(v) | Avro::LocalTimestampNanos(v) => {
            time(v.div_euclid(1_000_000)).into()
        }
        Avro::Uuid(v) => v.to_string().into(),
        other => format!("{other:?}").into(),
    }
}
