//! One transactional producer of librdkafka, from its first call to its first error: after that it
//! is of no use, and the next one begins where it is known to have ended.

use std::time::Duration;

use rdkafka::error::KafkaError as Native;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::batch::{Batch, Outgoing, Stamp};
use super::context::Context;
use super::record::Standing;
use super::{Connection, KafkaError, Patience};

/// Blocking calls return so often, so that a stop is seen. They are made again, and go on.
const TURN: Duration = Duration::from_secs(1);
/// Delivery reports are looked for so often.
const GLANCE: Duration = Duration::from_micros(500);
/// Delivery reports are taken after so many records, so that they do not pile up.
const REPORTS: usize = 1_000;
/// So many reports are taken in one go; each is of many records.
const REPORTS_AT_ONCE: usize = 8;
/// So many events are looked at in one go; a poll looks at one.
const EVENTS: usize = 64;

/// A producer whose predecessors of the same ID cannot commit any more.
pub(super) struct Producer {
    id: String,
    inner: BaseProducer<Context>,
}

impl Producer {
    /// Connects, ends the transactions of earlier producers of this ID, and fences those.
    pub(super) fn start(
        connection: &Connection,
        id: &str,
        patience: &Patience,
    ) -> Result<Producer, KafkaError> {
        let mut ours = vec![
            ("transactional.id", id),
            ("enable.idempotence", "true"),
            ("acks", "all"),
        ];
        let compressions = ["compression.codec", "compression.type"];
        let chosen = |name: &&str| connection.properties.contains_key(*name);
        if !compressions.iter().any(chosen) {
            ours.push(("compression.codec", "lz4"));
        }
        let inner: BaseProducer<Context> = connection.client(&ours, Context::default())?;
        let producer = Producer {
            id: id.to_owned(),
            inner,
        };
        producer.finish("claim", patience, || producer.inner.init_transactions(TURN))?;
        Ok(producer)
    }

    /// Writes a batch and the standing that it leads to, in one transaction.
    pub(super) fn commit(
        &self,
        batch: &Batch,
        progress_topic: &str,
        standing: &Standing,
        patience: &Patience,
    ) -> Result<(), KafkaError> {
        let mut done = self.write(batch, progress_topic, standing, patience);
        // Brokers refuse pieces of several records, and do not say which was the one.
        if let Err(KafkaError::TooLarge {
            topic,
            partition,
            bytes,
        }) = &mut done
        {
            let there = |record: &Outgoing<'_>| {
                record.topic == topic.as_str() && record.partition == *partition
            };
            let sizes = batch.records().filter(there).map(|record| record.bytes());
            *bytes = sizes.max().unwrap_or(*bytes);
        }
        done
    }

    fn write(
        &self,
        batch: &Batch,
        progress_topic: &str,
        standing: &Standing,
        patience: &Patience,
    ) -> Result<(), KafkaError> {
        let begun = self.inner.begin_transaction();
        begun.map_err(|error| self.failed("begin a transaction of", &error))?;
        // First, so that a transaction that hangs shows there too.
        let progress = Outgoing {
            topic: progress_topic,
            partition: 0,
            stamp: Stamp::None,
            key: self.id.as_bytes(),
            value: &standing.encode(),
        };
        self.send(progress, patience)?;
        for (at, record) in batch.records().enumerate() {
            if at % REPORTS == REPORTS - 1 {
                self.inner.poll(Duration::ZERO);
            }
            self.send(record, patience)?;
        }
        // By ourselves: `commit_transaction` would look for reports every 100 ms only.
        while self.inner.in_flight_count() > 0 {
            self.glance();
            self.check(patience)?;
        }
        self.check(patience)?;
        self.finish("commit", patience, || self.inner.commit_transaction(TURN))
    }

    fn send(&self, record: Outgoing<'_>, patience: &Patience) -> Result<(), KafkaError> {
        let mut base = BaseRecord::to(record.topic)
            .partition(record.partition)
            .key(record.key)
            .payload(record.value);
        match record.stamp {
            Stamp::Tick(tick) => {
                let digits = tick.to_string();
                let header = Header {
                    key: "tick",
                    value: Some(digits.as_str()),
                };
                base.headers = Some(OwnedHeaders::new_with_capacity(1).insert(header));
            }
            Stamp::Time(time) => base.timestamp = Some(time),
            Stamp::None => {}
        }
        loop {
            let (error, refused) = match self.inner.send(base) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            match error.rdkafka_error_code() {
                Some(Code::QueueFull) => {
                    base = refused;
                    self.glance();
                    self.check(patience)?;
                }
                Some(Code::MessageSizeTooLarge) => {
                    return Err(KafkaError::TooLarge {
                        topic: record.topic.to_owned(),
                        partition: record.partition,
                        bytes: record.bytes(),
                    });
                }
                _ => return Err(self.failed("send a record of", &error)),
            }
        }
    }

    /// Takes the delivery reports that are there, and rests. Of a time under a millisecond `poll`
    /// makes none, and asks again and again until it is over: two workers took both cores from the
    /// brokers which they waited for.
    fn glance(&self) {
        for _ in 0..REPORTS_AT_ONCE {
            self.inner.poll(Duration::ZERO);
        }
        std::thread::sleep(GLANCE);
    }

    /// Fails when a record could not be delivered, or on a stop.
    fn check(&self, patience: &Patience) -> Result<(), KafkaError> {
        patience.check()?;
        match self.inner.context().undelivered() {
            None => Ok(()),
            Some((
                Code::MessageSizeTooLarge | Code::MessageBatchTooLarge,
                (topic, partition, bytes),
            )) => Err(KafkaError::TooLarge {
                topic,
                partition,
                bytes,
            }),
            Some((code, (topic, partition, _))) => {
                let doing = format!("write to topic {topic:?}, partition {partition}");
                Err(KafkaError::of_code(doing, Some(code), self.why(code)))
            }
        }
    }

    /// Makes a call until it ends one way or the other. That it timed out says nothing of its
    /// outcome, and forbids all other calls.
    fn finish(
        &self,
        doing: &str,
        patience: &Patience,
        call: impl Fn() -> Result<(), Native>,
    ) -> Result<(), KafkaError> {
        patience.retry(|| match call() {
            Ok(()) => Ok(Ok(())),
            Err(Native::Transaction(error)) if error.is_retriable() => {
                for _ in 0..EVENTS {
                    self.inner.poll(Duration::ZERO);
                }
                Err(KafkaError::Failed {
                    doing: self.of_this(doing),
                    reason: self.why(error.code()),
                })
            }
            Err(error) => Ok(Err(self.failed(doing, &error))),
        })?
    }

    /// An error, with the last complaint of the client if that tells more.
    fn why(&self, code: Code) -> String {
        self.inner.context().explain(code.to_string())
    }

    fn failed(&self, doing: &str, error: &Native) -> KafkaError {
        KafkaError::of(self.of_this(doing), error)
    }

    fn of_this(&self, doing: &str) -> String {
        format!("{doing} transactional ID {:?}", self.id)
    }
}
