//! Reads the partitions of one topic that one worker has. Every partition starts at an offset
//! that the caller names and has a queue of its own, so that one that is not read holds no other
//! up. There is no group behind it: nothing is dealt out, nothing is committed.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::admin::leaders;
use super::context::{Context, outcome};
use super::identity::topic_id;
use super::offsets::{ANSWER, ask};
use super::watch::Watch;
use super::watched::Watched;
use super::{Connection, KafkaError, Patience, Place, Reader};

/// What is fetched of a partition at a time, in bytes.
const LEAST_FETCH: usize = 64 << 10;
const MOST_FETCH: usize = 1 << 20;

/// Is called by other threads, and must not block.
pub type Wake = Arc<dyn Fn() + Send + Sync>;

/// How partitions are read.
#[derive(Clone)]
pub struct Options {
    /// What is fetched ahead for each partition, in bytes. A fetch that is under way may exceed it
    /// by as much, at least 64 KiB and at most 1 MiB, or by one batch if that is larger.
    pub queue_bytes_per_partition: usize,
    /// How often the brokers are asked where the partitions end.
    pub ask_every: Duration,
    /// Whether [`Record::tick`](super::Record::tick) is looked for, which costs a look at the headers
    /// of each record.
    pub ticks: bool,
    /// Called when records have come to a partition that had none, and when one has failed.
    pub wake: Option<Wake>,
    /// The ID of the topic whose offsets these are, as [`describe`](super::describe) says it; another
    /// topic of the same name is not read.
    pub topic_id: Option<String>,
    /// Whether records are shown with their headers. A job needs none, and they cost.
    pub headers: bool,
}

impl Default for Options {
    /// 4 MiB a partition, a question every 250 ms, no ticks, nobody to wake, whichever topic has the
    /// name, no headers.
    fn default() -> Options {
        Options {
            queue_bytes_per_partition: 4 << 20,
            ask_every: Duration::from_millis(250),
            ticks: false,
            wake: None,
            topic_id: None,
            headers: false,
        }
    }
}

/// A connection that reads partitions of one topic, and asks beside it, on a thread of its own,
/// where they end. Costs two connections to each broker and a few threads; a worker needs one.
/// Dropping it takes up to 2 s when brokers are away.
pub struct Consumer {
    topic: Arc<str>,
    options: Options,
    consumer: Arc<BaseConsumer<Context>>,
    query: Arc<BaseConsumer<Context>>,
    watch: Watch,
}

impl Consumer {
    /// Connects, checks that the offsets are there, and starts to fetch; the readers are in the
    /// order of the partitions. An offset may be the end, but not beyond. From then on it must stay
    /// the same topic.
    pub fn open(
        connection: &Connection,
        topic: &str,
        partitions: &[(i32, i64)],
        options: Options,
        patience: &Patience,
    ) -> Result<(Consumer, Vec<Reader>), KafkaError> {
        let queue = options.queue_bytes_per_partition;
        let kbytes = (queue >> 10).clamp(1, 2_097_151).to_string();
        let fetch = queue.clamp(LEAST_FETCH, MOST_FETCH).to_string();
        let ours = [
            ("group.id", "visitflow"),
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("auto.offset.reset", "error"),
            ("enable.partition.eof", "true"),
            ("allow.auto.create.topics", "false"),
            ("check.crcs", "true"),
            ("fetch.queue.backoff.ms", "10"),
            ("fetch.wait.max.ms", "100"),
            ("socket.timeout.ms", "10000"),
            ("topic.metadata.refresh.interval.ms", "5000"),
            ("max.poll.interval.ms", "86400000"),
            ("queued.min.messages", "10000000"),
            ("queued.max.messages.kbytes", &kbytes),
            ("fetch.message.max.bytes", &fetch),
        ];
        let query = Arc::new(connection.query("read_uncommitted")?);
        let consumer: Arc<BaseConsumer<Context>> =
            Arc::new(connection.client(&ours, Context::default())?);
        let topic: Arc<str> = topic.into();
        let (found, id) = patience.retry(|| {
            let found = leaders(&query, &topic, ANSWER)?;
            let id = outcome(&query, topic_id(query.client(), &topic, ANSWER))?;
            Ok((found, id))
        })?;
        same_topic(&topic, options.topic_id.as_deref(), id.as_deref())?;
        let watch = Watch::start(
            topic.clone(),
            consumer.clone(),
            query.clone(),
            found,
            id,
            &options,
        );
        let consumer = Consumer {
            topic,
            options,
            consumer,
            query,
            watch,
        };
        let readers = consumer.add(partitions, patience)?;
        Ok((consumer, readers))
    }

    /// Reads further partitions, as [`open`](Consumer::open) does. One that is read already must
    /// not be added.
    pub fn add(
        &self,
        partitions: &[(i32, i64)],
        patience: &Patience,
    ) -> Result<Vec<Reader>, KafkaError> {
        if partitions.is_empty() {
            return Ok(Vec::new());
        }
        let watched = patience.retry(|| self.checked(partitions))?;
        let failed = |error| KafkaError::of(format!("read topic {:?}", self.topic), &error);
        let mut assigned = TopicPartitionList::with_capacity(partitions.len());
        let mut readers = Vec::with_capacity(partitions.len());
        for watched in watched {
            let (partition, offset) = (watched.partition, watched.read());
            assigned
                .add_partition_offset(&self.topic, partition, Offset::Offset(offset))
                .map_err(failed)?;
            // Before it is assigned, so that nothing of it ever gets into the common queue.
            let queue = self.consumer.split_partition_queue(&self.topic, partition);
            let mut queue = queue.ok_or_else(|| KafkaError::Client {
                reason: format!("topic {:?} cannot be read by partition", self.topic),
            })?;
            if let Some(wake) = self.options.wake.clone() {
                queue.set_nonempty_callback(move || wake());
            }
            self.watch.add(watched.clone());
            readers.push(Reader::new(
                queue,
                self.consumer.clone(),
                watched,
                self.options.headers,
                self.options.ticks,
            ));
        }
        self.consumer
            .incremental_assign(&assigned)
            .map_err(failed)?;
        Ok(readers)
    }

    /// How many partitions the topic has, as of about a second ago.
    pub fn partitions(&self) -> usize {
        self.watch.partitions()
    }

    /// Whether the offsets are there.
    fn checked(&self, partitions: &[(i32, i64)]) -> Result<Vec<Arc<Watched>>, KafkaError> {
        let leaders = leaders(&self.query, &self.topic, ANSWER)?;
        // The reading client has to learn of new partitions too.
        let known = self.consumer.fetch_metadata(Some(&self.topic), ANSWER);
        known.map_err(|error| KafkaError::of(format!("look up topic {:?}", self.topic), &error))?;
        for (partition, _) in partitions {
            if usize::try_from(*partition).map_or(true, |at| at >= leaders.len()) {
                return Err(KafkaError::NoPartition {
                    topic: self.topic.to_string(),
                    partition: *partition,
                    partitions: leaders.len(),
                });
            }
        }
        let asked: Vec<i32> = partitions.iter().map(|(partition, _)| *partition).collect();
        let earliest = ask(&self.query, &self.topic, &asked, Place::Earliest)?;
        let sent = crate::wall::now();
        let ends = ask(&self.query, &self.topic, &asked, Place::End)?;
        let mut watched = Vec::with_capacity(partitions.len());
        for ((partition, wanted), (earliest, end)) in
            partitions.iter().zip(earliest.iter().zip(&ends))
        {
            let one = Watched::new(self.topic.clone(), *partition, *wanted);
            if let Some(error) = one.misplaced(*wanted, *earliest, *end) {
                return Err(error);
            }
            one.answered(sent, *end, *wanted);
            watched.push(Arc::new(one));
        }
        Ok(watched)
    }
}

/// Fails when a name means another topic than before. Brokers that give no IDs say nothing.
pub(super) fn same_topic(
    topic: &str,
    was: Option<&str>,
    is: Option<&str>,
) -> Result<(), KafkaError> {
    match (was, is) {
        (Some(was), Some(is)) if was != is => Err(KafkaError::TopicAnew {
            topic: topic.to_owned(),
            was: was.to_owned(),
            is: is.to_owned(),
        }),
        _ => Ok(()),
    }
}
