//! A job at a living shop's pace, without readers and with them in turn.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use visitflow::run::{Handle, grouped};
use visitflow::wall;

use crate::feed::{Feed, Pace};
use crate::readers::{KINDS, Readers, Seen};
use crate::threads::Spent;
use crate::{at, living, start, views};

/// How long the job runs before anything counts.
const WARM: Duration = Duration::from_secs(12);
/// How long a turn takes, after some time in which readers come or go.
const TURN: Duration = Duration::from_secs(10);
const SETTLE: Duration = Duration::from_secs(1);
/// How often it is looked how far the job is behind.
const LOOK: Duration = Duration::from_millis(10);

/// Who reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Who {
    Nobody,
    /// All but visits: what workers have told before anybody asks.
    Told,
    /// Visits too, for which workers are asked.
    All,
}

/// In this order what grows with time counts for all alike.
const TURNS: [Who; 6] = [
    Who::Nobody,
    Who::Told,
    Who::All,
    Who::All,
    Who::Told,
    Who::Nobody,
];

/// What was seen in a turn.
struct Turn {
    who: Who,
    /// µs of the workers a measurement.
    each: f64,
    /// Of all time, the part in which workers, and the thread that answers, had a processor.
    workers: f64,
    serving: f64,
    /// How far the commit of topics, and what readers are shown, is behind the wall clock, in ms.
    committed: Vec<i64>,
    readers: Option<(Seen, f64)>,
}

pub fn load(dir: &Path, pace: Pace) {
    let feed = Feed::start(dir, pace, false);
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
    for (n, who) in TURNS.into_iter().enumerate() {
        turns.push(turn(n, who, &handle, &feed));
    }
    for turn in &turns {
        if let Some((seen, cpu)) = &turn.readers {
            println!(
                "{}; themselves {:.0} % of a processor",
                said(seen),
                cpu * 100.0
            );
        }
    }
    let mean = |who: Who| {
        let own = turns.iter().filter(|turn| turn.who == who);
        let (count, sum) = own.fold((0.0, 0.0), |(n, sum), turn| (n + 1.0, sum + turn.each));
        sum / count
    };
    println!(
        "CPU of the workers a measurement, against that without readers: {:.3} without visits, {:.3} with them",
        mean(Who::Told) / mean(Who::Nobody),
        mean(Who::All) / mean(Who::Nobody)
    );
    feed.stop();
    handle.stop.store(true, Ordering::Relaxed);
    running.join().expect("a job that ends");
}

fn turn(n: usize, who: Who, handle: &Handle, feed: &Feed) -> Turn {
    let address = handle.address.expect("a job that is served");
    let mut readers = match who {
        Who::Nobody => None,
        who => Some(Readers::start(address, who == Who::All)),
    };
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
        who,
        each: spent.workers.as_secs_f64() * 1e6 / records as f64,
        workers: spent.workers.as_secs_f64() / seconds,
        serving: spent.serving.as_secs_f64() / seconds,
        committed,
        readers,
    };
    println!(
        "{n:>4}  {:>7}  {:>11}  {:>8.2}  {:>7.0} %  {:>6.1} %  {:>6} ms  {:>6}, {:>5}, {:>5} ms",
        match who {
            Who::Nobody => "none",
            Who::Told => "told",
            Who::All => "all",
        },
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
    let took = KINDS.iter().zip(seen.took).filter(|(_, took)| took[2] > 0);
    let took = took.map(|(kind, took)| {
        let [middle, late, most] = took.map(|micros| micros as f64 / 1e3);
        format!("{kind} {middle:.1}, {late:.1}, {most:.1}")
    });
    let took: Vec<String> = took.collect();
    format!(
        "{} reads a second of {} bytes ({} not answered with 200), p50, p99, most in ms: {}; {} events, {} kB a second",
        second(seen.reads),
        grouped(seen.read_bytes / seen.reads.max(1)),
        seen.wrong,
        took.join("; "),
        second(seen.events),
        second(seen.event_bytes / 1_000),
    )
}
