//! What a topic is, making one that is not there, and deleting what one holds.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{self, Poll, Wake};
use std::thread::{self, Thread};
use std::time::Duration;

use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::context::{Context, outcome};
use super::identity::topic_id;
use super::{Connection, KafkaError, Patience};

/// A request waits so long for its answer.
const ANSWER: Duration = Duration::from_secs(10);

/// What matters of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic {
    /// Which topic it is, whatever it is called: one that is deleted and created anew has another ID.
    /// None if its brokers are from before Kafka 2.8.
    pub id: Option<String>,
    /// How many partitions it has.
    pub partitions: usize,
    /// Whether its brokers stamp records when they take them (`message.timestamp.type` is
    /// `LogAppendTime`), so that the times of a partition are those of its log.
    pub log_append_time: bool,
    /// The largest batch that it takes, in bytes (`max.message.bytes`).
    pub max_message_bytes: u64,
}

/// What a topic is, by its brokers. Needs the right to describe the topic and its settings.
pub fn describe(
    connection: &Connection,
    topic: &str,
    patience: &Patience,
) -> Result<Topic, KafkaError> {
    let query = connection.query("read_uncommitted")?;
    let admin: AdminClient<Context> = connection.client(&[], Context::default())?;
    patience.retry(|| {
        Ok(Topic {
            partitions: leaders(&query, topic, ANSWER)?.len(),
            id: outcome(&query, topic_id(query.client(), topic, ANSWER))?,
            ..settings(&admin, topic)?
        })
    })
}

/// Creates a topic unless it is there, as many copies of it as the brokers make by themselves,
/// and waits until it can be written. A topic that is there keeps its settings; it is an error
/// when it has another number of partitions.
pub fn create(
    connection: &Connection,
    topic: &str,
    partitions: usize,
    settings: &[(&str, &str)],
    patience: &Patience,
) -> Result<(), KafkaError> {
    let query = connection.query("read_uncommitted")?;
    let admin: AdminClient<Context> = connection.client(&[], Context::default())?;
    let mut wanted = NewTopic::new(topic, partitions as i32, TopicReplication::Fixed(-1));
    for (name, value) in settings {
        wanted = wanted.set(name, value);
    }
    let doing = || format!("create topic {topic:?}");
    let mut made = false;
    patience.retry(|| {
        match leaders(&query, topic, ANSWER) {
            Err(KafkaError::NoTopic { .. }) if !made => {}
            // Not every broker knows of it yet.
            Err(KafkaError::NoTopic { .. }) => return Err(not_yet(doing())),
            Err(error) => return Err(error),
            Ok(found) if found.len() != partitions => {
                return Err(KafkaError::Partitions {
                    topic: topic.to_owned(),
                    found: found.len(),
                    expected: partitions,
                });
            }
            Ok(found) if found.iter().any(Option::is_none) => return Err(not_yet(doing())),
            Ok(_) => return Ok(()),
        }
        let answers = block_on(admin.create_topics([&wanted], &options()));
        let answers = answers.map_err(|error| KafkaError::of(doing(), &error))?;
        for answer in answers {
            match answer {
                // Another worker was faster.
                Ok(_) | Err((_, Code::TopicAlreadyExists)) => made = true,
                Err((_, code)) => {
                    return Err(KafkaError::of_code(doing(), Some(code), code.to_string()));
                }
            }
        }
        Err(not_yet(doing()))
    })
}

/// Adds partitions to a topic, so that it has so many, and waits until they can be written.
pub fn grow(
    connection: &Connection,
    topic: &str,
    partitions: usize,
    patience: &Patience,
) -> Result<(), KafkaError> {
    let query = connection.query("read_uncommitted")?;
    let admin: AdminClient<Context> = connection.client(&[], Context::default())?;
    let doing = || format!("add partitions to topic {topic:?}");
    patience.retry(|| {
        let found = leaders(&query, topic, ANSWER)?;
        if found.len() >= partitions && found.iter().all(Option::is_some) {
            return Ok(());
        }
        if found.len() < partitions {
            let wanted = [&NewPartitions::new(topic, partitions)];
            let answers = block_on(admin.create_partitions(wanted, &options()));
            let answers = answers.map_err(|error| KafkaError::of(doing(), &error))?;
            // Another process may have been faster, which shows the next time.
            if let Some(Err((_, code))) = answers.into_iter().find(Result::is_err)
                && code != Code::InvalidPartitions
            {
                return Err(KafkaError::of_code(doing(), Some(code), code.to_string()));
            }
        }
        Err(not_yet(doing()))
    })
}

/// Deletes the records of a partition before an offset, which must not lie behind its end. One that
/// is gone already is well.
pub fn delete_records(
    connection: &Connection,
    topic: &str,
    partition: i32,
    before: i64,
    patience: &Patience,
) -> Result<(), KafkaError> {
    let admin: AdminClient<Context> = connection.client(&[], Context::default())?;
    let failed = |error| {
        let doing = format!("delete records of topic {topic:?}, partition {partition}");
        KafkaError::of(doing, &error)
    };
    let mut asked = TopicPartitionList::new();
    asked
        .add_partition_offset(topic, partition, Offset::Offset(before))
        .map_err(failed)?;
    patience.retry(|| {
        let answered = block_on(admin.delete_records(&asked, &options())).map_err(failed)?;
        for element in answered.elements() {
            element.error().map_err(failed)?;
        }
        Ok(())
    })
}

/// All settings of a topic, by name. Needs the right to describe them.
pub fn settings_of(
    connection: &Connection,
    topic: &str,
    patience: &Patience,
) -> Result<BTreeMap<String, String>, KafkaError> {
    let admin: AdminClient<Context> = connection.client(&[], Context::default())?;
    patience.retry(|| entries(&admin, topic))
}

fn not_yet(doing: String) -> KafkaError {
    KafkaError::Failed {
        doing,
        reason: "its partitions are not there yet".to_owned(),
    }
}

/// The broker that leads each partition of a topic, if one does.
pub(super) fn leaders(
    query: &BaseConsumer<Context>,
    topic: &str,
    answer: Duration,
) -> Result<Vec<Option<i32>>, KafkaError> {
    outcome(query, look_up(query, topic, answer))
}

fn look_up(
    query: &BaseConsumer<Context>,
    topic: &str,
    answer: Duration,
) -> Result<Vec<Option<i32>>, KafkaError> {
    let doing = || format!("look up topic {topic:?}");
    let metadata = query
        .fetch_metadata(Some(topic), answer)
        .map_err(|error| KafkaError::of(doing(), &error))?;
    let missing = || KafkaError::NoTopic {
        topic: topic.to_owned(),
    };
    let found = metadata.topics().iter().find(|found| found.name() == topic);
    let found = found.ok_or_else(missing)?;
    match found.error().map(Code::from) {
        None => {}
        Some(Code::UnknownTopicOrPartition) => return Err(missing()),
        Some(code) => return Err(KafkaError::of_code(doing(), Some(code), code.to_string())),
    }
    let partitions = found.partitions();
    let mut leaders = vec![None; partitions.len()];
    for partition in partitions {
        let leader = partition.leader();
        // Numbers of partitions have no gaps.
        if let Some(of) = leaders.get_mut(partition.id() as usize) {
            *of = (leader >= 0).then_some(leader);
        }
    }
    Ok(leaders)
}

fn settings(admin: &AdminClient<Context>, topic: &str) -> Result<Topic, KafkaError> {
    let found = entries(admin, topic)?;
    let is = |name: &str, value: &str| found.get(name).is_some_and(|found| found == value);
    let most = found.get("max.message.bytes");
    Ok(Topic {
        id: None,
        partitions: 0,
        log_append_time: is("message.timestamp.type", "LogAppendTime"),
        max_message_bytes: most.and_then(|most| most.parse().ok()).unwrap_or(0),
    })
}

fn entries(
    admin: &AdminClient<Context>,
    topic: &str,
) -> Result<BTreeMap<String, String>, KafkaError> {
    let doing = || format!("read the settings of topic {topic:?}");
    let failed = |code: Code| match code {
        Code::UnknownTopicOrPartition => KafkaError::NoTopic {
            topic: topic.to_owned(),
        },
        code => KafkaError::of_code(doing(), Some(code), code.to_string()),
    };
    let asked = [ResourceSpecifier::Topic(topic)];
    let answers = block_on(admin.describe_configs(&asked, &options()))
        .map_err(|error| KafkaError::of(doing(), &error))?;
    let mut found = BTreeMap::new();
    for answer in answers {
        for entry in answer.map_err(failed)?.entries {
            found.insert(entry.name, entry.value.unwrap_or_default());
        }
    }
    Ok(found)
}

fn options() -> AdminOptions {
    AdminOptions::new()
        .request_timeout(Some(ANSWER))
        .operation_timeout(Some(ANSWER))
}

/// Waits for what a thread of rdkafka completes; there is no executor here.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Arc::new(Unpark(thread::current())).into();
    let mut context = task::Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}
