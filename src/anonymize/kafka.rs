//! The twin of a topic in Kafka: reads what is committed, anonymizes it record by record, and writes
//! whole ticks, each sorted by browser, to the partitions of the pseudonyms.
//!
//! *Whole ticks.* A transaction of the job holds whole ticks, and those of one partition follow one
//! another. So a partition's tick is complete when a later one has been read, or when the reader was
//! at the end of what is decided; until then its records wait here.
//!
//! *Once.* A batch is one transaction, and the record of progress in it says how far each partition
//! of the source has been read. Whoever starts takes the transactional ID over, which is the twin's
//! name, and reads on from there; whoever was replaced can commit no more. In a record of progress
//! ([`crate::kafka::read_progress`]) a shard is a partition of the source, its sum the offset of what
//! comes next, and the tick the number of the batch. It says source positions, so it lies in a topic
//! of its own, which those who read the twins need not see.
//!
//! Keeps the records of ticks that are not complete, and what is in the queues: at most
//! `QUEUE` bytes a partition, and a fetch.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use visitflow_schemas::pseudonym::hex;
use visitflow_schemas::store::FolderStore;

use super::salts::SaltFile;
use super::transcode::{Transcoder, hour, partition};
use super::{AnonymizeError, RecordProblem, Step, Stream, TOPICS, Tagged};
use crate::crash;
use crate::job::Job;
use crate::kafka::{
    Batch, Connection, Consumer, KafkaError, Options, Patience, Place, Progress, Reader,
    Transactions, create, describe, offsets, read_progress,
};
use crate::run::outputs;

/// A batch ends with the first tick at which it has so many records or bytes.
const RECORDS: usize = 32 << 10;
const BYTES: usize = 16 << 20;
/// Bytes that are fetched ahead of a partition.
const QUEUE: usize = 1 << 20;

/// The topic of progress, of one partition, for both twins of a job.
pub fn progress_topic(job: &Job) -> String {
    job.kafka_topic("progress-anonymous")
}

/// A record of the source, anonymized.
struct Item {
    tick: u64,
    /// Its place in the source.
    offset: i64,
    browser: [u8; 16],
    value: Vec<u8>,
}

/// A partition of the source.
struct Partition {
    reader: Reader,
    /// What was read and is not written.
    waiting: VecDeque<Item>,
    /// The offset of what is not written.
    next: i64,
}

impl Partition {
    /// How many of those that wait are of ticks that are complete.
    fn complete(&self) -> usize {
        match self.waiting.back() {
            Some(last) if !self.reader.drained() => {
                let of_last = |item: &&Item| item.tick == last.tick;
                self.waiting.len() - self.waiting.iter().rev().take_while(of_last).count()
            }
            _ => self.waiting.len(),
        }
    }
}

/// The twin of one topic, and the topic.
pub(super) struct Twin<'a> {
    topic: String,
    twin: Arc<str>,
    transcoder: Transcoder<'a>,
    partitions: Vec<Partition>,
    // Behind the readers, which need it.
    _consumer: Consumer,
    transactions: Transactions,
    items: Vec<Item>,
    batch: Batch,
    /// The number of the last batch.
    number: u64,
    records: u64,
}

/// Opens the twins of all [`TOPICS`] of a job, and makes their topics if they are not there.
pub(super) fn open<'a>(
    job: &Job,
    brokers: &str,
    store: &'a FolderStore,
    stop: &Arc<AtomicBool>,
) -> Result<Vec<Twin<'a>>, AnonymizeError> {
    let most = 2 * (job.limits.max_record + outputs::SPARE);
    let mut connection = outputs::with_brokers(job, brokers);
    let most = most.max(1_048_588).to_string();
    if !job.kafka.contains_key("message.max.bytes") {
        connection = connection.with("message.max.bytes", &most);
    }
    connection.check()?;
    let first = outputs::patience_until(stop);
    let twins = TOPICS.map(|(topic, twin)| (topic, job.kafka_topic(topic), job.kafka_topic(twin)));
    for (_, topic, twin) in &twins {
        let partitions = describe(&connection, topic, &first)?.partitions;
        let settings = [
            ("message.timestamp.type", "CreateTime"),
            ("max.message.bytes", &most),
        ];
        create(&connection, twin, partitions, &settings, &first)?;
        if describe(&connection, twin, &first)?.log_append_time {
            return Err(AnonymizeError::TwinTimes(twin.clone()));
        }
    }
    let progress = progress_topic(job);
    let compact = [("cleanup.policy", "compact")];
    create(&connection, &progress, 1, &compact, &first)?;
    let patience =
        Patience::until(stop.clone()).saying(|text| eprintln!("waiting for Kafka: {text}"));
    let ids = twins.each_ref().map(|(_, _, twin)| twin.clone());
    // One for both: whoever finds a higher one has been replaced.
    let incarnation = read_progress(&connection, &progress, &ids, &patience)?.incarnation + 1;
    let twins = twins.into_iter().map(|(name, topic, twin)| {
        let transactions =
            Transactions::open(&connection, &twin, &progress, incarnation, &patience)?;
        Twin::open(
            &connection,
            topic,
            twin,
            Transcoder::new(name, store),
            transactions,
            &patience,
        )
    });
    twins.collect()
}

impl<'a> Twin<'a> {
    /// Goes on where the ID's last transaction has come to, or begins at the source's beginning.
    fn open(
        connection: &Connection,
        topic: String,
        twin: String,
        transcoder: Transcoder<'a>,
        mut transactions: Transactions,
        patience: &Patience,
    ) -> Result<Twin<'a>, AnonymizeError> {
        let partitions = describe(connection, &topic, patience)?.partitions;
        let all: Vec<i32> = (0..partitions as i32).collect();
        let other = |problem: String| AnonymizeError::OtherSource {
            twin: PathBuf::from(&twin),
            from: PathBuf::from(&topic),
            problem,
        };
        let mut number = 0;
        if transactions.committed().is_empty() {
            let ends = offsets(connection, &twin, &all, Place::End, patience)?;
            if ends.iter().any(|end| *end > 0) {
                return Err(other("it has records, but no progress".to_owned()));
            }
            let from = offsets(connection, &topic, &all, Place::Earliest, patience)?;
            number = 1;
            // Before the first record, so that there is none without progress.
            let mut begun = Batch::default();
            begun.progress = progress(number, &from);
            transactions.commit(&begun)?;
        }
        let committed = transactions.committed();
        number = committed.values().map(|d| d.until).fold(number, u64::max);
        let from: Vec<(i32, i64)> = committed
            .iter()
            .map(|(partition, done)| (i32::from(*partition), done.sum as i64))
            .collect();
        if from.len() != partitions {
            let problem = format!("its progress is of {} partitions", from.len());
            return Err(other(problem));
        }
        let options = Options {
            queue_bytes_per_partition: QUEUE,
            ticks: true,
            ..Options::default()
        };
        let (consumer, readers) = Consumer::open(connection, &topic, &from, options, patience)?;
        let partition = |(reader, (_, next)): (Reader, &(i32, i64))| Partition {
            reader,
            waiting: VecDeque::new(),
            next: *next,
        };
        Ok(Twin {
            topic,
            twin: twin.into(),
            transcoder,
            partitions: readers.into_iter().zip(&from).map(partition).collect(),
            _consumer: consumer,
            transactions,
            items: vec![],
            batch: Batch::default(),
            number,
            records: 0,
        })
    }

    /// Reads what has come, up to a partition's share of a batch, or else up to the end of a tick.
    fn read(&mut self, salts: &mut SaltFile, tagged: &Tagged) -> Result<(), AnonymizeError> {
        let shares = self.partitions.len();
        let Twin {
            topic,
            transcoder,
            partitions,
            ..
        } = self;
        for (number, of) in partitions.iter_mut().enumerate() {
            let mut bytes = 0;
            let mut complete = of.complete() > 0;
            while !complete || of.waiting.len() < RECORDS / shares && bytes < BYTES / shares {
                let Some(record) = of.reader.peek()? else {
                    break;
                };
                let offset = record.offset;
                let wrong = |problem| AnonymizeError::Record {
                    topic: topic.clone(),
                    partition: number as u32,
                    offset: offset as u64,
                    problem,
                };
                let tick = record.tick.ok_or_else(|| wrong(RecordProblem::NoTick))?;
                let (key, value) = (
                    record.key.unwrap_or_default(),
                    record.value.unwrap_or_default(),
                );
                let mut anonymous = Vec::with_capacity(value.len() + 64);
                let browser = transcoder.run(key, value, &mut anonymous, salts, tagged, wrong)?;
                complete |= of.waiting.back().is_some_and(|last| last.tick != tick);
                of.reader.advance();
                // What has no twin is read again after a start, if nothing is behind it.
                let Some(browser) = browser else { continue };
                bytes += anonymous.len();
                of.waiting.push_back(Item {
                    tick,
                    offset,
                    browser,
                    value: anonymous,
                });
            }
        }
        Ok(())
    }

    /// Takes whole ticks, the earliest first, until a batch is full.
    fn take(&mut self) {
        let mut complete: Vec<usize> = self.partitions.iter().map(Partition::complete).collect();
        let mut bytes = 0;
        let mut last = None;
        loop {
            let front = |(n, of): (usize, &Partition)| {
                let front = of.waiting.front().filter(|_| complete[n] > 0)?;
                Some((front.tick, n))
            };
            let next = self.partitions.iter().enumerate().filter_map(front).min();
            let Some((tick, n)) = next else { break };
            let full = self.items.len() >= RECORDS || bytes >= BYTES;
            if full && last != Some(tick) {
                break;
            }
            let of = &mut self.partitions[n];
            while complete[n] > 0 && of.waiting.front().is_some_and(|item| item.tick == tick) {
                let item = of.waiting.pop_front().expect("it was just seen");
                complete[n] -= 1;
                bytes += item.value.len();
                of.next = item.offset + 1;
                self.items.push(item);
            }
            last = Some(tick);
        }
        // A browser's own records keep their order: they come from one partition.
        self.items.sort_by_key(|item| (item.tick, item.browser));
    }

    /// Writes what was taken.
    fn write(&mut self) -> Result<(), KafkaError> {
        self.batch.clear();
        let partitions = self.partitions.len();
        for item in &self.items {
            let partition = partition(item.browser, partitions) as i32;
            let (time, key) = (hour(item.tick), hex(item.browser));
            let batch = &mut self.batch;
            batch.push_at(&self.twin, partition, time, &key, &item.value);
        }
        self.number += 1;
        let next: Vec<i64> = self.partitions.iter().map(|of| of.next).collect();
        self.batch.progress = progress(self.number, &next);
        crash::point("twin-commit");
        self.transactions.commit(&self.batch)?;
        crash::point("twin-committed");
        self.records += self.items.len() as u64;
        self.items.clear();
        Ok(())
    }
}

impl Stream for Twin<'_> {
    fn step(&mut self, salts: &mut SaltFile, tagged: &Tagged) -> Result<Step, AnonymizeError> {
        self.read(salts, tagged)?;
        self.take();
        if !self.items.is_empty() {
            self.write()?;
            return Ok(Step::Moved);
        }
        let at_end = |of: &Partition| of.waiting.is_empty() && of.reader.drained();
        Ok(match self.partitions.iter().all(at_end) {
            true => Step::AtEnd,
            false => Step::Waits,
        })
    }

    fn records(&self) -> u64 {
        self.records
    }
}

/// What a batch of a number says of how far the source's partitions have been read.
fn progress(number: u64, next: &[i64]) -> Progress {
    let partitions = next.iter().enumerate();
    Progress {
        until: number,
        shards: partitions
            .map(|(n, next)| (n as u8, *next as u64))
            .collect(),
    }
}
