//! Reads the progress topic from its end backwards, until the last record of every ID is known.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::admin::leaders;
use super::context::Context;
use super::offsets::{ANSWER, ask};
use super::progress::Progresses;
use super::record::Standing;
use super::settled::held_back;
use super::{Connection, KafkaError, Patience, Place};

/// So many offsets are read first; then ten times more, and so on.
const FIRST: i64 = 1_000;
/// Transactions that are open are waited for so long before somebody is told.
const HELD_BACK: Duration = Duration::from_secs(5);

/// How far the topic is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// To the first transaction that is still open. Waits for nobody, and may miss the newest.
    Decided,
    /// To the end, which waits for the transactions that are open now.
    Everything,
}

/// Reads once; fails with a passing error when that did not go well.
pub(super) fn read(
    connection: &Connection,
    topic: &str,
    ids: &[String],
    extent: Extent,
    patience: &Patience,
) -> Result<Progresses, KafkaError> {
    let query = connection.query(match extent {
        Extent::Decided => "read_committed",
        Extent::Everything => "read_uncommitted",
    })?;
    let partitions = leaders(&query, topic, ANSWER)?.len();
    if partitions != 1 {
        return Err(KafkaError::Partitions {
            topic: topic.to_owned(),
            found: partitions,
            expected: 1,
        });
    }
    let earliest = ask(&query, topic, &[0], Place::Earliest)?[0];
    // The high watermark or the last stable offset, by the isolation of who asks.
    let end = ask(&query, topic, &[0], Place::End)?[0];
    let mut offsets = FIRST;
    loop {
        let from = end.saturating_sub(offsets).max(earliest);
        let found = read_from(connection, topic, from, end, patience)?;
        let found = Progresses::of(found);
        if from == earliest || found.knows(ids) {
            return Ok(found);
        }
        offsets = offsets.saturating_mul(10);
    }
}

/// The last standing of each ID from an offset to the end or beyond.
fn read_from(
    connection: &Connection,
    topic: &str,
    from: i64,
    end: i64,
    patience: &Patience,
) -> Result<BTreeMap<String, Standing>, KafkaError> {
    let mut found = BTreeMap::new();
    if from >= end {
        return Ok(found);
    }
    let doing = || format!("read the progress in topic {topic:?}");
    let failed = |error: &Native| KafkaError::of(doing(), error);
    let consumer = committed_from(connection, topic, from)?;
    let mut moved = Instant::now();
    loop {
        patience.check()?;
        match consumer.poll(Duration::from_millis(50)) {
            Some(Ok(message)) => {
                let offset = message.offset();
                let (id, standing) = parse(topic, &message)?;
                found.insert(id, standing);
                moved = Instant::now();
                if offset + 1 >= end {
                    return Ok(found);
                }
                continue;
            }
            Some(Err(Native::PartitionEOF(_))) | None => {}
            // Nobody needs the group.
            Some(Err(error))
                if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) => {}
            Some(Err(error)) => return Err(failed(&error)),
        }
        // The last offsets are marks of transactions, which show in the position only.
        let position = consumer.position().map_err(|error| failed(&error))?;
        let position = position.elements().first().map(|element| element.offset());
        let reached = match position {
            Some(Offset::Offset(position)) => position,
            _ => from,
        };
        if reached >= end {
            return Ok(found);
        }
        if moved.elapsed() >= HELD_BACK {
            return Err(KafkaError::Failed {
                doing: doing(),
                reason: held_back(reached, end),
            });
        }
    }
}

fn committed_from(
    connection: &Connection,
    topic: &str,
    from: i64,
) -> Result<BaseConsumer<Context>, KafkaError> {
    let ours = [
        ("group.id", "visitflow"),
        ("isolation.level", "read_committed"),
        ("enable.auto.commit", "false"),
        ("enable.auto.offset.store", "false"),
        ("auto.offset.reset", "error"),
        ("enable.partition.eof", "true"),
        ("allow.auto.create.topics", "false"),
        ("check.crcs", "true"),
        ("fetch.wait.max.ms", "10"),
        ("socket.timeout.ms", "10000"),
    ];
    let consumer: BaseConsumer<Context> = connection.client(&ours, Context::default())?;
    let failed = |error| KafkaError::of(format!("read topic {topic:?}"), &error);
    let mut assigned = TopicPartitionList::new();
    assigned
        .add_partition_offset(topic, 0, Offset::Offset(from))
        .map_err(failed)?;
    consumer.assign(&assigned).map_err(failed)?;
    Ok(consumer)
}

fn parse(topic: &str, message: &impl Message) -> Result<(String, Standing), KafkaError> {
    let bad = |reason| KafkaError::BadProgress {
        topic: topic.to_owned(),
        offset: message.offset(),
        reason,
    };
    let key = message.key().ok_or_else(|| bad("it has no key"))?;
    let id = str::from_utf8(key).map_err(|_| bad("its key is not UTF-8"))?;
    let value = message.payload().ok_or_else(|| bad("it has no value"))?;
    Ok((id.to_owned(), Standing::decode(value).map_err(bad)?))
}
