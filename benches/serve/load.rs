//! A job at a living shop's pace, without readers and with them in turn.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use visitflow::run::{Handle, grouped};
use visitflow::wall;

use crate::feed::Feed;
use crate::readers::{Readers, Seen};
use crate::threads::Spent;
use crate::{at, living, start, views};

/// How long the job runs before anything counts.
const WARM: Duration = Duration::from_secs(12);
/// How long a turn takes, after some time in which readers come or go.
const TURN: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is looked how far the job is behind.
const LOOK: Duration = Duration::from_millis(10);

/// Whether there are readers: in this order what grows with time counts for both alike.
const TURNS: [bool; 6] = [false, true, true, false, false, true];

/// What was seen in a turn.
struct Turn {
    read: bool,
    /// µs of the workers a measurement.
    each: f64,
    /// Of all time, the part in which workers, and the thread that answers, had a processor.
    workers: f64,
    serving: f64,
    /// How far the commit of topics, and what readers are shown, is behind the wall clock, in ms.
    committed: Vec<i64>,
    readers: Option<(Seen, f64)>,
}

pub fn load(dir: &Path) {
    let feed = Feed::start(dir, false);
    let (handle, running) = start(&living(dir, views()));
    std::thread::sleep(WARM);
    println!(
        "{:>4}  {:>7}  {:>11}  {:>8}  {:>9}  {:>8}  {:>8}  {:>24}",
        "turn",
        "readers",
        "a second",
        "µs each",
        "2 workers",
        "serving",
        "feed late",
        "behind p50, p99, most"
    );
    let mut turns = Vec::new();
    for (n, read) in TURNS.into_iter().enumerate() {
        turns.push(turn(n, read, &handle, &feed));
    }
    println!();
    for turn in &turns {
        if let Some((seen, cpu)) = &turn.readers {
            println!(
                "readers: {}; {:.0} % of a processor for themselves",
                said(seen),
                cpu * 100.0
            );
        }
    }
    let mean = |read: bool| {
        let own = turns.iter().filter(|turn| turn.read == read);
        let (count, sum) = own.fold((0.0, 0.0), |(n, sum), turn| (n + 1.0, sum + turn.each));
        sum / count
    };
    println!(
        "CPU of the workers a measurement, with readers against without: {:.3}",
        mean(true) / mean(false)
    );
    feed.stop();
    handle.stop.store(true, Ordering::Relaxed);
    running.join().expect("a job that ends");
}

fn turn(n: usize, read: bool, handle: &Handle, feed: &Feed) -> Turn {
    let address = handle.address.expect("a job that is served");
    let mut readers = read.then(|| Readers::start(address));
    std::thread::sleep(SETTLE);
    if let Some(readers) = &mut readers {
        readers.count();
    }
    feed.late();
    let began = Instant::now();
    let (before, records) = (Spent::of(None), handle.metrics.read().0);
    let theirs = readers
        .as_ref()
        .map(|readers| Spent::of(Some(readers.id())));
    let mut committed = Vec::new();
    while began.elapsed() < TURN {
        std::thread::sleep(LOOK);
        committed.push(wall::now() - handle.metrics.committed.load(Ordering::Relaxed) as i64);
    }
    let seconds = began.elapsed().as_secs_f64();
    let spent = Spent::of(None).since(&before);
    let records = handle.metrics.read().0 - records;
    let readers = readers.map(|mut readers| {
        let cpu = Spent::of(Some(readers.id())).since(&theirs.unwrap_or_default());
        (readers.seen(), cpu.all.as_secs_f64() / seconds)
    });
    committed.sort_unstable();
    let turn = Turn {
        read,
        each: spent.workers.as_secs_f64() * 1e6 / records as f64,
        workers: spent.workers.as_secs_f64() / seconds,
        serving: spent.serving.as_secs_f64() / seconds,
        committed,
        readers,
    };
    println!(
        "{n:>4}  {:>7}  {:>11}  {:>8.2}  {:>7.0} %  {:>6.1} %  {:>6} ms  {:>6}, {:>5}, {:>5} ms",
        if read { "yes" } else { "no" },
        grouped((records as f64 / seconds) as u64),
        turn.each,
        turn.workers * 100.0,
        turn.serving * 100.0,
        feed.late(),
        at(&turn.committed, 0.5),
        at(&turn.committed, 0.99),
        at(&turn.committed, 1.0),
    );
    turn
}

/// What readers have seen, in words.
pub fn said(seen: &Seen) -> String {
    let second = |count: u64| grouped((count as f64 / seen.seconds) as u64);
    let [middle, late, most] = seen.took.map(|micros| micros as f64 / 1e3);
    format!(
        "{} reads a second of {} bytes ({} not answered with 200), p50 {middle:.1} ms, p99 {late:.1} ms, most \
         {most:.1} ms; {} events and {} kB a second",
        second(seen.reads),
        grouped(seen.read_bytes / seen.reads.max(1)),
        seen.wrong,
        second(seen.events),
        second(seen.event_bytes / 1_000),
    )
}
