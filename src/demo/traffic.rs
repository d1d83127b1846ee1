//! The demo's visitors: the made shop of `visitflow generate`, appended to a log as time goes by.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::DemoError;
use crate::generate::{Scraper, Settings, Shop, write_schemas};
use crate::log::{Producer, Topic, WriterOptions};
use crate::wall;

/// How often what was sent is made visible.
const FLUSH: Duration = Duration::from_millis(20);

/// A shop that is about to open.
pub struct Traffic {
    shop: Shop,
    producer: Producer,
}

/// Makes the topic, and the shop that opened at `start`, wall time in ms.
pub fn open(log: &Path, partitions: u32, rate: u32, start: i64) -> Result<Traffic, DemoError> {
    write_schemas(&log.join("schemas"))?;
    let topic = Topic::create(log, "measurements", partitions)?;
    let producer = Producer::open(&topic, WriterOptions::default())?;
    let settings = Settings {
        seed: start as u64,
        events: Settings::ENDLESS,
        start,
        partitions,
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
        producer,
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
                    self.producer
                        .send(arrival.log_time, &arrival.key, &[], &arrival.value)?;
                }
                self.producer.flush()?;
                std::thread::sleep(FLUSH);
            }
            Ok(())
        })
    }
}
