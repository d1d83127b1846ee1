//! The records of a topic in Kafka: those that were committed when it was asked for, so that it comes to
//! an end while others go on writing, and those of transactions that were open then, if they are decided
//! soon. It leaves nothing behind: no consumer group, no offsets.

use std::io::Write;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Map, Value};

use super::bodies::{Bodies, text};
use super::{Options, ShowError, chosen, write_line};
use crate::kafka::{
    Connection, Consumer, KafkaError, Options as Reading, Place, Reader, Record, decided, describe,
    offsets,
};
use crate::run::outputs::patience;
use crate::wall;
use crate::why::time;

/// What is fetched ahead, of all partitions, in bytes.
const AHEAD: usize = 32 << 20;
/// Whether something has come is looked at so often, at least.
const GLANCE: Duration = Duration::from_millis(100);
/// Brokers may be silent for so long, in ms.
const SILENT: i64 = 60_000;
/// Transactions that are open are waited for so long; those of a job that runs take a part of a second.
const OPEN: Duration = Duration::from_secs(5);

/// Shows what a topic holds, one partition after the other; returns how many records.
pub(super) fn show_topic(
    connection: &Connection,
    topic: &str,
    schemas: Vec<PathBuf>,
    options: &Options,
    out: &mut impl Write,
) -> Result<u64, ShowError> {
    connection.check()?;
    let patience = patience();
    let partitions = describe(connection, topic, &patience)?.partitions as u32;
    let partitions: Vec<i32> = chosen(topic, partitions, options)?
        .map(|partition| partition as i32)
        .collect();
    let firsts = offsets(connection, topic, &partitions, Place::Earliest, &patience)?;
    let ends = decided(connection, topic, &partitions, OPEN, &patience)?;
    let wanted: Vec<(i32, i64)> = partitions.iter().copied().zip(firsts).collect();
    let (wake, woken) = channel();
    let wake = Mutex::new(wake);
    let reading = Reading {
        queue_bytes_per_partition: AHEAD / wanted.len().max(1),
        headers: true,
        wake: Some(Arc::new(move || {
            // Whoever does not listen any more has ended.
            let _ = wake.lock().map(|wake| wake.send(()));
        })),
        ..Reading::default()
    };
    let (_consumer, readers) = Consumer::open(connection, topic, &wanted, reading, &patience)?;
    let mut bodies = Bodies::of(schemas)?;
    let mut left = options.limit.unwrap_or(u64::MAX);
    let mut shown = 0;
    for (mut reader, end) in readers.into_iter().zip(ends) {
        while left > 0 && reader.offset() < end {
            let partition = reader.partition();
            if let Some(record) = reader.peek()? {
                if record.offset >= end {
                    break;
                }
                write_line(&line(partition, &record, &mut bodies), out)?;
                (left, shown) = (left - 1, shown + 1);
                reader.advance();
                continue;
            }
            // Goes past what is no record.
            reader.behind();
            still_there(&reader, topic)?;
            if woken.recv_timeout(GLANCE) == Err(RecvTimeoutError::Disconnected) {
                break;
            }
        }
    }
    Ok(shown)
}

/// Fails when nobody has answered for too long.
fn still_there(reader: &Reader, topic: &str) -> Result<(), KafkaError> {
    let silence = reader.silence();
    if wall::now() - silence.since < SILENT {
        return Ok(());
    }
    Err(KafkaError::Failed {
        doing: format!("read topic {topic:?}, partition {}", reader.partition()),
        reason: silence.error.unwrap_or_else(|| "no answer".to_owned()),
    })
}

/// A record as in the embedded log; what it does not have is null.
fn line(partition: i32, record: &Record<'_>, bodies: &mut Bodies) -> Map<String, Value> {
    let or_null = |bytes: Option<&[u8]>| bytes.map_or(Value::Null, text);
    let mut line = Map::new();
    line.insert("partition".into(), partition.into());
    line.insert("offset".into(), record.offset.into());
    let has_time = record.log_time >= 0;
    let log_time = has_time.then(|| time(record.log_time));
    line.insert("log_time".into(), log_time.into());
    line.insert("key".into(), or_null(record.key));
    for (name, value) in record.headers {
        line.insert(name.clone(), or_null(value.as_deref()));
    }
    match record.value {
        Some(value) => bodies.decode(value, &mut line),
        None => _ = line.insert("value".into(), Value::Null),
    }
    line
}
