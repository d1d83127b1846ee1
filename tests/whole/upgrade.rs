//! State that an earlier version has left must be read by every later one. `tests/fixtures/state-1`
//! is what a stopped job of the first version left: its log, its outputs and its state, with visits
//! open. It is never made anew when formats change: then another one is put beside it.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use visitflow::generate::{self, Judge, Limits, Settings};
use visitflow::log::{Producer, Reader, Topic, WriterOptions};
use visitflow::run::{self, Options};
use visitflow::wall;

use crate::outputs::{Reading, agree, consume, tables, visits_sha256};
use crate::place::{Place, root};

const SETTINGS: [&str; 4] = [
    "outputs.partitions=2",
    "visits.inactivity=1min",
    "state.snapshots=1h",
    "workers=1",
];

fn settings(place: &Place) -> Vec<String> {
    let mut all: Vec<String> = SETTINGS.map(str::to_owned).to_vec();
    all.push(format!("state.dir={}", place.path("state").display()));
    all
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
        }
    }
}

/// Makes a fixture in `target`'s place for them; only for a new format.
#[test]
#[ignore = "makes a fixture for a new format"]
fn make_a_fixture() {
    let place = Place::new();
    let made = Settings {
        events: 240,
        seed: 4,
        start: wall::now() - 30_000,
        partitions: 2,
        clockworks: false,
        ..Settings::default()
    };
    let options = generate::Options {
        settings: made.per_second(12),
        truth: None,
        tags: false,
        schemas: Some(place.path("log/schemas")),
    };
    let topic = Topic::create(place.path("log"), "measurements", 2).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
    producer.close().unwrap();
    let all = settings(&place);
    let mut all: Vec<&str> = all.iter().map(|setting| &**setting).collect();
    all.push("source.follow=true");
    let summary = run::run(Options::of(place.job("", "log-to-files", &all)), |handle| {
        while handle.metrics.read().0 < 240 && !handle.ended() {
            std::thread::sleep(Duration::from_millis(10));
        }
        std::thread::sleep(Duration::from_secs(1));
        handle.stop.store(true, Ordering::Relaxed);
    })
    .unwrap();
    assert!(summary.stopped && summary.visits[5] > 3, "{summary}");
    for part in ["log", "topics", "files", "state"] {
        let to = root("tests/fixtures/state-1").join(part);
        copy(&place.path(part), &to);
    }
}

#[test]
fn what_the_first_version_left_is_gone_on_from() {
    let place = Place::new();
    for part in ["log", "topics", "files", "state"] {
        let from = root("tests/fixtures/state-1").join(part);
        copy(&from, &place.path(part));
    }
    let all = settings(&place);
    let mut all: Vec<&str> = all.iter().map(|setting| &**setting).collect();
    // Another number of workers than then.
    all.push("workers=2");
    let summary = run::run(Options::of(place.job("", "log-to-files", &all)), |_| ()).unwrap();
    assert!(
        summary.visits[2] > 3,
        "visits that were open have ended: {summary}"
    );

    let limits = Limits {
        inactivity: 60_000,
        ..Limits::default()
    };
    let mut judge = Judge::new(limits, 2);
    let topic = Topic::open(place.path("log"), "measurements").unwrap();
    for partition in 0..2 {
        let mut reader = Reader::open(&topic, partition, 0).unwrap();
        while let Some(record) = reader.peek().unwrap() {
            let (time, key, value) = (record.log_time, record.key, record.value);
            judge.take(time, key, value, true).unwrap();
            reader.advance();
        }
    }
    let truth = judge.finish().unwrap();
    let consumed = consume(&place.path("topics"), &Reading::default());
    let tables = tables(&place.path("files"));
    agree(&consumed, &tables);
    assert_eq!(consumed.tags.len() as u64, truth.tagged);
    assert_eq!(visits_sha256(&tables.visits), truth.visits_sha256);
}
