//! A living shop: its measurements are appended to a log as they come, each at its time.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use visitflow::generate::{Scraper, Settings, Shop, write_schemas};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::wall;
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::store::{FolderStore, SchemaStore};

pub const PARTITIONS: u32 = 4;

/// How many measurements come each second.
#[derive(Clone, Copy)]
pub enum Pace {
    /// Some 20,000.
    Usual,
    /// Some 50,000.
    Peak,
}

impl Pace {
    /// People come to the shop at this rate, which counts what they send when enough of them are there.
    fn nominal(self) -> u64 {
        match self {
            Pace::Usual => 22_000,
            Pace::Peak => 38_000,
        }
    }
}

/// How long it has been open when it is first looked at, in ms: by then it is as full as it is meant to.
const OPEN: i64 = 180_000;
/// How often what was sent is made visible.
const FLUSH: Duration = Duration::from_millis(5);
/// How often there is a marker, in ms; no part of a second, so that they lie anywhere in it.
const MARKER: i64 = 47;

/// The shop, on a thread of its own.
pub struct Feed {
    stop: Arc<AtomicBool>,
    told: Arc<Told>,
    thread: JoinHandle<()>,
}

/// What is known of it.
#[derive(Default)]
struct Told {
    sent: AtomicU64,
    /// How long after its time a measurement was sent at worst, in ms.
    late: AtomicI64,
}

impl Feed {
    /// Opens it, with a marker now and then if they are asked for: a measurement whose `entity_id` is
    /// its own scheduled time.
    pub fn start(dir: &Path, pace: Pace, markers: bool) -> Feed {
        let log = dir.join("log");
        write_schemas(&log.join("schemas")).expect("schemas");
        FolderStore::open(log.join("schemas"))
            .expect("a store")
            .put(&MEASUREMENT)
            .expect("a schema");
        let topic = Topic::create(&log, "measurements", PARTITIONS).expect("a topic");
        let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
        let settings = Settings {
            events: Settings::ENDLESS,
            start: wall::now() - OPEN,
            browsers: Some(1_000_000),
            nights: Some(false),
            scraper: Some(Scraper {
                after: i64::MAX,
                every: i64::MAX,
                pages: 0,
            }),
            schema_changes: Some([0, i64::MAX]),
            ..Settings::default()
        };
        let mut shop = Shop::new(settings.per_second(pace.nominal())).expect("a shop");
        // What came before is nobody's business here.
        while shop.next_time().is_some_and(|time| time <= wall::now()) {
            shop.next();
        }
        let (stop, told) = (Arc::<AtomicBool>::default(), Arc::<Told>::default());
        let (stopped, tell) = (stop.clone(), told.clone());
        let mut marker = if markers { wall::now() } else { i64::MAX };
        let work = move || {
            while !stopped.load(Ordering::Relaxed) {
                let now = wall::now();
                while shop.next_time().is_some_and(|time| time <= now)
                    && let Some(arrival) = shop.next()
                {
                    while marker <= arrival.log_time {
                        mark(&mut producer, marker);
                        marker += MARKER;
                    }
                    let sent = producer.send(arrival.log_time, &arrival.key, &[], &arrival.value);
                    sent.expect("a write");
                    tell.sent.fetch_add(1, Ordering::Relaxed);
                    tell.late
                        .fetch_max(wall::now() - arrival.log_time, Ordering::Relaxed);
                }
                producer.flush().expect("a write");
                std::thread::sleep(FLUSH);
            }
            producer.close().expect("a log");
        };
        let thread = std::thread::Builder::new().name("feed".into());
        let thread = thread.spawn(work).expect("a thread");
        Feed { stop, told, thread }
    }

    /// How many it has sent.
    pub fn sent(&self) -> u64 {
        self.told.sent.load(Ordering::Relaxed)
    }

    /// How long after its time a measurement was sent at worst since this was last asked, in ms.
    pub fn late(&self) -> i64 {
        self.told.late.swap(0, Ordering::Relaxed)
    }

    /// Closes it.
    pub fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("a shop that closes");
    }
}

fn mark(producer: &mut Producer, scheduled: i64) {
    let mut event_id = [0xff; 16];
    event_id[8..].copy_from_slice(&scheduled.to_be_bytes());
    let browser_id = format!("marker-{scheduled}");
    let entity_id = scheduled.to_string();
    let m = Measurement {
        event_id,
        browser_id: &browser_id,
        event_time: scheduled,
        effect: "shown",
        entity: "marker",
        entity_id: Some(&entity_id),
        ..Measurement::default()
    };
    let mut value = Vec::new();
    m.encode_message(&mut value);
    let sent = producer.send(wall::now(), browser_id.as_bytes(), &[], &value);
    sent.expect("a write");
}
