//! Where partitions begin and end, by asking their leaders. An end is the high watermark, behind
//! whatever is not committed yet too; where that begins has a name of its own.

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::thread;
use std::time::{Duration, Instant};

use super::context::{Context, outcome};
use super::{Connection, KafkaError, Patience};

/// One question waits so long for its answer.
pub(super) const ANSWER: Duration = Duration::from_secs(1);

/// Whether transactions have been decided is asked so often.
const GLANCE: Duration = Duration::from_millis(100);

/// A place in a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The earliest record that is still there.
    Earliest,
    /// Behind the last record.
    End,
    /// Where the first transaction begins that is still open; without any, behind the last record.
    Decided,
    /// The first record whose time, in milliseconds since 1970, is this or later; behind the last
    /// if there is none.
    At(i64),
}

/// The offsets of a place in some partitions of a topic, in their order.
pub fn offsets(
    connection: &Connection,
    topic: &str,
    partitions: &[i32],
    place: Place,
    patience: &Patience,
) -> Result<Vec<i64>, KafkaError> {
    // Who reads committed records is told another end.
    let query = connection.query(match place {
        Place::Decided => "read_committed",
        _ => "read_uncommitted",
    })?;
    patience.retry(|| ask(&query, topic, partitions, place))
}

/// Where some partitions end now, or where the first transaction begins that was open for `longest`. Brokers
/// say that a commit is done before they show its records: without a wait the last would be missing of
/// whoever has just ended.
pub fn decided(
    connection: &Connection,
    topic: &str,
    partitions: &[i32],
    longest: Duration,
    patience: &Patience,
) -> Result<Vec<i64>, KafkaError> {
    let ends = offsets(connection, topic, partitions, Place::End, patience)?;
    let query = connection.query("read_committed")?;
    let began = Instant::now();
    loop {
        let decided = patience.retry(|| ask(&query, topic, partitions, Place::Decided))?;
        let mut both = decided.iter().zip(&ends);
        if both.all(|(decided, end)| decided >= end) || began.elapsed() >= longest {
            let both = decided.into_iter().zip(ends);
            return Ok(both.map(|(decided, end)| decided.min(end)).collect());
        }
        thread::sleep(GLANCE);
    }
}

/// Asks once, of whom [`Place::Decided`] and [`Place::End`] are the same, and waits for the answers of all; one question to each leader.
pub(super) fn ask(
    query: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    place: Place,
) -> Result<Vec<i64>, KafkaError> {
    outcome(query, answers(query, topic, partitions, place))
}

fn answers(
    query: &BaseConsumer<Context>,
    topic: &str,
    partitions: &[i32],
    place: Place,
) -> Result<Vec<i64>, KafkaError> {
    let doing = || format!("ask for offsets of topic {topic:?}");
    let failed = |error| KafkaError::of(doing(), &error);
    let time = match place {
        Place::Earliest => Offset::Beginning,
        Place::End | Place::Decided => Offset::End,
        Place::At(time) => Offset::Offset(time.max(0)),
    };
    if partitions.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = TopicPartitionList::with_capacity(partitions.len());
    for partition in partitions {
        asked
            .add_partition_offset(topic, *partition, time)
            .map_err(failed)?;
    }
    let answered = query.offsets_for_times(asked, ANSWER).map_err(failed)?;
    let mut found = Vec::with_capacity(partitions.len());
    let mut behind = Vec::new();
    for (at, element) in answered.elements().iter().enumerate() {
        element.error().map_err(failed)?;
        match element.offset() {
            Offset::Offset(offset) => found.push(offset),
            // No record is that late.
            Offset::End if matches!(place, Place::At(_)) => {
                behind.push(at);
                found.push(-1);
            }
            _ => {
                return Err(KafkaError::Failed {
                    doing: doing(),
                    reason: format!("no answer for partition {}", element.partition()),
                });
            }
        }
    }
    let open: Vec<i32> = behind.iter().map(|at| partitions[*at]).collect();
    for (at, end) in behind.iter().zip(ask(query, topic, &open, Place::End)?) {
        found[*at] = end;
    }
    Ok(found)
}
