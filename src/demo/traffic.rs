//! The demo's visitors: the made shop of `visitflow generate`, appended to a log or a topic of Kafka
//! as time goes by.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use visitflow_schemas::shard::Shard;

use super::DemoError;
use crate::generate::{Arrival, Scraper, Settings, Shop, write_schemas};
use crate::kafka::{Appender, Connection, Patience, create};
use crate::log::{Producer, Topic, WriterOptions};
use crate::run::outputs::patience_until;
use crate::wall;

/// How often what was sent is made visible.
const FLUSH: Duration = Duration::from_millis(20);
/// Partitions of the shop's topic.
const PARTITIONS: u32 = 4;

/// A shop that is about to open.
pub struct Traffic {
    shop: Shop,
    to: Destination,
}

/// Where its measurements go.
pub enum Destination {
    /// The embedded log.
    Log(Producer),
    /// A topic of Kafka, whose brokers set the times.
    Kafka(Appender),
}

impl Destination {
    /// A new topic in the log at that folder.
    pub fn log(log: &Path, topic: &str) -> Result<Destination, DemoError> {
        let topic = Topic::create(log, topic, PARTITIONS)?;
        let producer = Producer::open(&topic, WriterOptions::default())?;
        Ok(Destination::Log(producer))
    }

    /// A topic in Kafka, made if it is not there. What it waits for ends with `stop`.
    pub fn kafka(
        connection: &Connection,
        topic: &str,
        stop: &Arc<AtomicBool>,
    ) -> Result<Destination, DemoError> {
        let settings = [("message.timestamp.type", "LogAppendTime")];
        let first = patience_until(stop);
        create(connection, topic, PARTITIONS as usize, &settings, &first)?;
        let patience = Patience::until(stop.clone());
        Ok(Destination::Kafka(Appender::open(
            connection, topic, &patience,
        )?))
    }

    fn send(&mut self, arrival: &Arrival) -> Result<(), DemoError> {
        let Arrival { key, value, .. } = arrival;
        match self {
            Destination::Log(producer) => {
                producer.send(arrival.log_time, key, &[], value)?;
            }
            Destination::Kafka(appender) => {
                let partition = Shard::of(key).partition(PARTITIONS);
                appender.append(partition as i32, key, value)?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DemoError> {
        match self {
            Destination::Log(producer) => producer.flush()?,
            Destination::Kafka(appender) => appender.flush()?,
        }
        Ok(())
    }
}

/// The shop that opened at `start`, wall time in ms; its schemas are put into `schemas`.
pub fn open(to: Destination, schemas: &Path, rate: u32, start: i64) -> Result<Traffic, DemoError> {
    write_schemas(schemas)?;
    let settings = Settings {
        seed: start as u64,
        events: Settings::ENDLESS,
        start,
        partitions: PARTITIONS,
        nights: Some(false),
        // A scraper comes when the view has been seen for half a minute.
        scraper: Some(Scraper {
            after: 120_000,
            every: 300_000,
            pages: u64::from(rate) * 2,
        }),
        schema_changes: Some([150_000, 300_000]),
        ..Settings::default()
    };
    Ok(Traffic {
        shop: Shop::new(settings.per_second(rate.into()))?,
        to,
    })
}

impl Traffic {
    /// Opens the shop, on a thread of its own, until it is told to stop.
    pub fn start(mut self, stop: Arc<AtomicBool>) -> JoinHandle<Result<(), DemoError>> {
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let now = wall::now();
                while self.shop.next_time().is_some_and(|time| time <= now)
                    && !stop.load(Ordering::Relaxed)
                {
                    let Some(arrival) = self.shop.next() else {
                        break;
                    };
                    self.to.send(&arrival)?;
                }
                match self.to.flush() {
                    // Whoever stops it does not wait for brokers.
                    Err(DemoError::Kafka(_)) if stop.load(Ordering::Relaxed) => break,
                    flushed => flushed?,
                }
                std::thread::sleep(FLUSH);
            }
            Ok(())
        })
    }
}
