//! Appends records to partitions of one topic, in order and each once while it lives, and says when
//! all replicas that are in step have them. Without transactions: whoever reads must tell by the
//! records themselves what counts. It has no second life: after an error it is of no use.

use std::time::{Duration, Instant};

use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::context::Context;
use super::{Connection, KafkaError, Patience};

/// Delivery reports are looked for so often.
const GLANCE: Duration = Duration::from_micros(500);
/// So many reports are taken in one go; each is of many records.
const REPORTS_AT_ONCE: usize = 8;
/// After so long without an answer somebody is told.
const TURN: Duration = Duration::from_secs(1);

/// Appends to one topic.
pub struct Appender {
    topic: String,
    inner: BaseProducer<Context>,
    patience: Patience,
}

impl Appender {
    /// Connects, some time: that brokers are away shows when it is flushed.
    pub fn open(
        connection: &Connection,
        topic: &str,
        patience: &Patience,
    ) -> Result<Appender, KafkaError> {
        let ours = [
            ("enable.idempotence", "true"),
            ("acks", "all"),
            // A record that was given up would leave a hole before those behind it.
            ("message.timeout.ms", "0"),
            ("linger.ms", "0"),
        ];
        Ok(Appender {
            topic: topic.to_owned(),
            inner: connection.client(&ours, Context::default())?,
            patience: patience.clone(),
        })
    }

    /// Sends a record behind all that it sent to that partition before.
    pub fn append(&self, partition: i32, key: &[u8], value: &[u8]) -> Result<(), KafkaError> {
        let mut record = BaseRecord::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(value);
        loop {
            let (error, refused) = match self.inner.send(record) {
                Ok(()) => return Ok(()),
                Err(refused) => refused,
            };
            if error.rdkafka_error_code() != Some(Code::QueueFull) {
                return Err(KafkaError::of(self.doing(), &error));
            }
            record = refused;
            self.glance();
            self.patience.check()?;
        }
    }

    /// Returns when all that was sent is there to stay. Waits for brokers that are away as long as
    /// its patience lasts.
    pub fn flush(&self) -> Result<(), KafkaError> {
        // An error of a record stays one; that there is no answer yet may pass.
        self.patience.retry(|| {
            let start = Instant::now();
            while self.inner.in_flight_count() > 0 && start.elapsed() < TURN {
                self.glance();
                if self.patience.stopped() {
                    return Err(KafkaError::Stopped);
                }
            }
            if let Some((code, _)) = self.inner.context().undelivered() {
                let reason = self.inner.context().explain(code.to_string());
                return Ok(Err(KafkaError::of_code(self.doing(), Some(code), reason)));
            }
            if self.inner.in_flight_count() > 0 {
                return Err(KafkaError::Failed {
                    doing: self.doing(),
                    reason: self.inner.context().explain("no answer yet".to_owned()),
                });
            }
            self.inner.context().forget();
            Ok(Ok(()))
        })?
    }

    /// Takes the delivery reports that are there, and rests.
    fn glance(&self) {
        for _ in 0..REPORTS_AT_ONCE {
            self.inner.poll(Duration::ZERO);
        }
        if self.inner.in_flight_count() > 0 {
            std::thread::sleep(GLANCE);
        }
    }

    fn doing(&self) -> String {
        format!("append to topic {:?}", self.topic)
    }
}
