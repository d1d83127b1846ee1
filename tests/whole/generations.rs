//! Generations of visitors, none of whom comes again: what is kept of them goes when their visits
//! have ended, so that a job's folder is as small after the last as after the first.
//!
//! Each generation's measurements have times of the next moments, more than a step has, so that they
//! are kept for a while however fast the machine is.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, Options};
use visitflow::wall;
use visitflow_dataflows::ledger::Entry;
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::store::{FolderStore, SchemaStore};

use crate::place::Place;

const GENERATIONS: u64 = 4;
const VISITORS: u64 = 8_000;
const EACH: u64 = 5;
/// From one measurement of a visitor to the next, in milliseconds.
const AWAY: u64 = 300;

/// A generation arrives; the bytes of what it measures.
fn arrive(topic: &Topic, generation: u64) -> u64 {
    let mut producer = Producer::open(topic, WriterOptions::default()).unwrap();
    let now = wall::now();
    let (mut message, mut bytes) = (Vec::new(), 0);
    for number in 0..VISITORS * EACH {
        let browser = format!("visitor-{}", generation * VISITORS + number % VISITORS);
        let time = now + (number * AWAY / VISITORS) as i64;
        let mut event_id = [0; 16];
        event_id[..8].copy_from_slice(&(generation + 1).to_be_bytes());
        event_id[8..].copy_from_slice(&number.to_be_bytes());
        let measurement = Measurement {
            event_id,
            browser_id: &browser,
            event_time: time,
            effect: "shown",
            entity: "page",
            url: Some(&"a long way ".repeat(30)),
            ..Measurement::default()
        };
        message.clear();
        measurement.encode_message(&mut message);
        bytes += message.len() as u64;
        producer
            .send(time, browser.as_bytes(), &[], &message)
            .unwrap();
    }
    producer.close().unwrap();
    bytes
}

/// The bytes of all that is kept of visits and of the way here.
fn kept(state: &Path) -> u64 {
    ["runs", "journal", "manifests", "snapshots"]
        .iter()
        .flat_map(|folder| std::fs::read_dir(state.join(folder)).into_iter().flatten())
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum()
}

#[test]
fn a_jobs_folder_does_not_grow_with_the_visitors_that_it_has_seen() {
    let place = Place::new();
    let topic = Topic::create(place.path("log"), "measurements", 3).unwrap();
    std::fs::create_dir(place.path("log/schemas")).unwrap();
    FolderStore::open(place.path("log/schemas"))
        .unwrap()
        .put(&MEASUREMENT)
        .unwrap();
    let state = place.path("state");
    let dir = format!("state.dir={}", state.display());
    let settings = [
        &*dir,
        "state.memory=1MB",
        "state.snapshots=100ms",
        "source.follow=true",
        "visits.inactivity=600ms",
        "visits.max_delay=100ms",
        "time.max_lag=100ms",
        "workers=2",
    ];
    for generation in 0..GENERATIONS {
        let arrived = arrive(&topic, generation);
        let job = place.job("", "log-to-files", &settings);
        let (says, said) = std::sync::mpsc::channel();
        let summary = run::run(Options::of(job), move |handle| {
            let ended = || {
                let ended = &handle.metrics.ended;
                ended.iter().map(|n| n.load(Ordering::Relaxed)).sum::<u64>()
            };
            let mut most = 0;
            while ended() < VISITORS && !handle.ended() {
                let runs = handle.metrics.runs_bytes.iter();
                most = most.max(runs.map(|n| n.load(Ordering::Relaxed)).sum());
                std::thread::sleep(Duration::from_millis(5));
            }
            says.send(most).unwrap();
            handle.stop.store(true, Ordering::Relaxed);
        })
        .unwrap();
        let runs = said.recv().unwrap();
        assert!(runs > 1_000_000, "{runs} bytes in runs");
        assert_eq!(summary.ledger.of(Entry::Tagged), VISITORS * EACH);
        assert_eq!(summary.visits[5], 0, "every visit has ended");
        // One generation's that no later snapshot has let go yet, never those of two.
        let kept = kept(&state);
        assert!(kept < arrived * 3 / 2, "{kept} bytes of {arrived} arrived");
    }
}
