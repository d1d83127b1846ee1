//! The traffic: the made shop, as time goes by.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use visitflow::generate::{Limits, Scraper, Settings, Shop, write_schemas};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::wall;

use crate::broker::Sender;
use crate::job::Place;

/// Partitions of the input.
pub const PARTITIONS: u32 = 3;

/// How far behind its log time a record may become visible without being judged otherwise, in ms.
pub const MAX_LAG: i64 = 4_000;
/// So long had the shop been open when its traffic begins, in ms: people are about to order.
const OPEN_FOR: i64 = 240_000;

/// So short that visits begin and end between two kills.
pub const LIMITS: Limits = Limits {
    inactivity: 3_000,
    max_length: 20_000,
    max_size: 150,
    max_delay: 2_000,
    max_ahead: 60_000,
    max_record: 200_000,
};

/// Traffic that goes on until it is stopped.
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

/// Where it goes.
enum To {
    Log(Box<Producer>),
    Kafka(Sender),
}

/// Lets the shop open.
pub fn start(place: &Place, rate: u64, seed: u64) -> Traffic {
    write_schemas(&place.path("schemas")).unwrap();
    let mut to = match place.bootstrap() {
        None => {
            let topic = Topic::create(place.path("log"), "measurements", PARTITIONS).unwrap();
            let producer = Producer::open(&topic, WriterOptions::default()).unwrap();
            To::Log(Box::new(producer))
        }
        Some(bootstrap) => To::Kafka(Sender::new(bootstrap, "measurements", PARTITIONS)),
    };
    let settings = Settings {
        seed,
        events: Settings::ENDLESS,
        start: wall::now() - OPEN_FOR,
        partitions: PARTITIONS,
        nights: Some(false),
        scraper: Some(Scraper {
            after: OPEN_FOR + 30_000,
            every: 60_000,
            pages: rate,
        }),
        schema_changes: Some([OPEN_FOR + 40_000, OPEN_FOR + 80_000]),
        limits: LIMITS,
        ..Settings::default()
    };
    let mut shop = Shop::new(settings.per_second(rate)).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || {
        let mut sent = 0;
        while shop.next_time().is_some_and(|time| time <= wall::now()) {
            shop.next();
        }
        while !stopped.load(Ordering::Relaxed) {
            let now = wall::now();
            while shop.next_time().is_some_and(|time| time <= now) {
                let Some(arrival) = shop.next() else { break };
                match &mut to {
                    To::Log(producer) => {
                        producer
                            .send(now, &arrival.key, &[], &arrival.value)
                            .unwrap();
                    }
                    To::Kafka(sender) => sender.send(&arrival.key, &arrival.value),
                }
                sent += 1;
            }
            match &mut to {
                To::Log(producer) => producer.flush().unwrap(),
                To::Kafka(sender) => sender.poll(),
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        match to {
            To::Log(producer) => producer.close().unwrap(),
            To::Kafka(sender) => sender.close(),
        }
        sent
    });
    Traffic {
        stop,
        thread: Some(thread),
    }
}

impl Traffic {
    /// Ends it; how many arrivals were sent.
    pub fn stop(&mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take();
        thread.map_or(0, |thread| thread.join().unwrap())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
