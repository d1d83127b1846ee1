//! A day of 50 million measurements, replayed: how much faster than it went by.
//!
//! A whole day and what is made of it is too much for a small disk, so the log is made in pieces and
//! the job is stopped and started between them; what it has read and written is removed there. The
//! time that counts is that of the job, its starts and stops included.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, grouped};
use visitflow_dataflows::ledger::Entry;

use crate::{BEGIN, PARTITIONS, measurement, outputs, run_job, source, state};

/// Of a whole day.
const DAY: u64 = 50_000_000;
/// Of a piece of the log.
const PIECE: u64 = 4_000_000;
/// How many of a piece are left to the next run: the job is stopped before it has come to the log's
/// end, where its time would go on by the wall clock.
const LEFT: u64 = PIECE / 8;
/// A browser comes back every two minutes, ten times in all, and makes way for another.
const EACH: u64 = 10;
const AWAY: u64 = 2 * 60;

/// The browser of a measurement.
fn browser(number: u64) -> u64 {
    let present = DAY * AWAY / 86_400;
    let slot = number % present;
    // They do not all change at once.
    let turn = number / present + slot % EACH;
    turn / EACH * present + slot
}

/// Replays `millions` of measurements, of a day that has 50.
pub fn day(dir: &Path, millions: f64) {
    let count = (millions * 1e6) as u64;
    let text = source(dir) + &outputs(dir, "day") + &state(dir, "day", "1GB").replace("1s", "10s");
    let follow = text.replace("[schemas]", "follow = true\n[schemas]");
    let (mut made, mut tagged, mut took, mut bytes, mut runs) = (0, 0, 0.0, 0_u64, 0);
    while tagged < count {
        let until = count.min(made + PIECE - if made == 0 { 0 } else { LEFT });
        bytes += append(dir, made..until);
        made = until;
        let (text, enough) = if made == count {
            (&text, u64::MAX)
        } else {
            (&follow, made - LEFT - tagged)
        };
        let (summary, seconds) = run_job(text, move |handle: run::Handle| {
            while !handle.ended() && handle.metrics.tagged.load(Ordering::Relaxed) < enough {
                std::thread::sleep(Duration::from_millis(10));
            }
            if enough != u64::MAX {
                handle.stop.store(true, Ordering::Relaxed);
            }
        });
        assert_eq!(summary.ledger.of(Entry::Late), 0, "time has gone too far");
        tagged += summary.ledger.of(Entry::Tagged);
        took += seconds;
        runs += 1;
        eprintln!("{} of {} in {took:.0} s", grouped(tagged), grouped(count));
        make_room(dir);
    }
    assert_eq!(tagged, count);
    let share = count as f64 / DAY as f64;
    println!(
        "{} measurements of {} bytes, {:.1} h of a day of {}, in {runs} runs",
        grouped(count),
        bytes / count,
        24.0 * share,
        grouped(DAY)
    );
    println!(
        "{:.1} min, {} a second: {:.0} times as fast as it went by; the whole day takes {:.1} min so",
        took / 60.0,
        grouped((count as f64 / took) as u64),
        share * 86_400.0 / took,
        took / 60.0 / share
    );
}

/// Makes a piece of the day; its bytes.
fn append(dir: &Path, numbers: std::ops::Range<u64>) -> u64 {
    let log = dir.join("log");
    let topic = if numbers.start == 0 {
        Topic::create(&log, "measurements", PARTITIONS)
    } else {
        Topic::open(&log, "measurements")
    };
    let mut producer =
        Producer::open(&topic.expect("a topic"), WriterOptions::default()).expect("writers");
    let (mut value, mut bytes) = (Vec::new(), 0);
    for number in numbers {
        let time = BEGIN + (number * 86_400_000 / DAY) as i64;
        let browser = browser(number);
        measurement(number, browser, time, &mut value);
        bytes += value.len() as u64;
        let key = format!("browser-{browser:016x}");
        producer
            .send(time, key.as_bytes(), &[], &value)
            .expect("a write");
    }
    producer.close().expect("a log");
    bytes
}

/// Removes what nobody will read any more: the segments of the log and of topics but the last ones,
/// and the files of tables.
fn make_room(dir: &Path) {
    let entries = |dir: &Path| -> Vec<_> {
        let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
        let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
        paths.sort();
        paths
    };
    let ends = |path: &Path, with: &str| path.extension().is_some_and(|end| end == with);
    let remove = |path: &Path| std::fs::remove_file(path).expect("a file of the bench's own");
    let keep = (LEFT * 500 / u64::from(PARTITIONS)).div_ceil(64 << 20) as usize + 1;
    for (log, keep) in [("log", keep), ("day-topics", 1)] {
        for topic in entries(&dir.join(log)) {
            for partition in entries(&topic) {
                let mut segments = entries(&partition);
                segments.retain(|path| ends(path, "seg"));
                let gone = segments.len().saturating_sub(keep);
                segments[..gone].iter().for_each(|path| remove(path));
            }
        }
    }
    for table in entries(&dir.join("day-tables")) {
        let files = entries(&table);
        let files = files.iter().filter(|path| ends(path, "parquet"));
        files.for_each(|path| remove(path));
    }
}
