//! A job over a log that is there, as fast as it goes, without readers and with them in turn.

use std::path::Path;
use std::time::{Duration, Instant};

use visitflow::generate::{self, Settings};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::grouped;

use crate::feed::PARTITIONS;
use crate::load::said;
use crate::readers::Readers;
use crate::threads::Spent;
use crate::{served, start, views};

const EVENTS: u64 = 800_000;
/// How often it is looked what the workers have spent.
const LOOK: Duration = Duration::from_millis(50);

pub fn replay(dir: &Path) {
    let log = dir.join("log");
    let topic = Topic::create(&log, "measurements", PARTITIONS).expect("a topic");
    let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
    let settings = Settings {
        events: EVENTS,
        schema_changes: Some([0, i64::MAX]),
        ..Settings::default()
    }
    .per_second(5_000);
    let options = generate::Options {
        settings,
        schemas: Some(log.join("schemas")),
        ..Default::default()
    };
    generate::generate(&options, &mut producer, &mut |_| ()).expect("a shop");
    producer.close().expect("a log");

    println!(
        "{:>4}  {:>7}  {:>10}  {:>9}  {:>8}  {:>8}",
        "run", "readers", "took", "a second", "µs each", "serving"
    );
    let mut all = [(0.0, 0.0); 2];
    for (n, read) in [false, true, true, false].into_iter().enumerate() {
        let began = Instant::now();
        let (handle, running) = start(&served(dir, &n.to_string(), "", views()));
        let address = handle.address.expect("a job that is served");
        let readers = std::thread::spawn(move || {
            read.then(|| {
                let mut readers = Readers::start(address, true);
                readers.count();
                readers
            })
        });
        // A thread's time is not to be had when it has ended.
        let (mut spent, mut records) = (Spent::default(), 0);
        while !running.is_finished() {
            let now = Spent::of(None);
            if now.workers > spent.workers {
                (spent, records) = (now, handle.metrics.read().0);
            }
            std::thread::sleep(LOOK);
        }
        running.join().expect("a job that ends");
        let took = began.elapsed().as_secs_f64();
        let each = spent.workers.as_secs_f64() * 1e6 / records as f64;
        println!(
            "{n:>4}  {:>7}  {took:>8.2} s  {:>9}  {each:>8.2}  {:>6.1} %",
            if read { "yes" } else { "no" },
            grouped((EVENTS as f64 / took) as u64),
            spent.serving.as_secs_f64() / took * 100.0,
        );
        if let Some(mut readers) = readers.join().expect("readers that come in time") {
            println!("      readers: {}", said(&readers.seen()));
        }
        let sums = &mut all[usize::from(read)];
        (sums.0, sums.1) = (sums.0 + took, sums.1 + each);
    }
    let [without, with] = all;
    println!(
        "with readers against without: {:.3} of the time, {:.3} of the workers' CPU a measurement",
        with.0 / without.0,
        with.1 / without.1
    );
}
