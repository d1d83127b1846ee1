//! Counters of a run, shared by the workers of a process: for its progress line, its summary,
//! `why`, `status`, Prometheus and the demo. Relaxed atomics; nothing is decided by them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use visitflow_dataflows::visit::EndReason;
use visitflow_dataflows::visits::{Change, Lifecycle};

use crate::source::SourceState;
use crate::wall;

/// How many of the newest tags are kept to be shown.
const NEWEST: usize = 32;
/// How old a sample of latency may be, in ms.
const RECENT: i64 = 10_000;
/// How many samples of latency are kept.
const SAMPLES: usize = 4_096;

/// Commits of a sink.
#[derive(Debug, Default)]
pub struct Commits {
    /// How many.
    pub count: AtomicU64,
    /// How long they took in all, in µs.
    pub micros: AtomicU64,
}

impl Commits {
    /// Counts one that took so long.
    pub fn took(&self, time: Duration) {
        self.count.fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }
}

/// Counters of one process, since its start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// The incarnation; 0 for a job that cannot go on where it was.
    pub incarnation: u64,
    /// When it started, wall time in ms.
    pub began: i64,
    /// Measurements tagged.
    pub tagged: AtomicU64,
    /// Measurements that came too late.
    pub late: AtomicU64,
    /// Records that are no measurements of now.
    pub rejected: AtomicU64,
    /// Measurements that had come before.
    pub repeated: AtomicU64,
    /// Visits that have begun.
    pub started: AtomicU64,
    /// Visits that have ended, in the order inactivity, length, size.
    pub ended: [AtomicU64; 3],
    /// Revisions.
    pub revised: AtomicU64,
    /// Bytes of measurements kept for open visits.
    pub kept_bytes: AtomicU64,
    /// Bytes of rows that no version of a table holds.
    pub uncommitted_bytes: Arc<AtomicU64>,
    /// Bytes of the runs on disk, by worker of this process; not those of earlier incarnations.
    pub runs_bytes: Vec<AtomicU64>,
    /// Snapshots that count, put since the start.
    pub snapshots: AtomicU64,
    /// The tick of the last snapshot that counts, and when it was put, wall time in ms; 0 if an
    /// earlier start has put it.
    pub snapshot: [AtomicU64; 2],
    /// Commits of topics.
    pub topics: Commits,
    /// Commits of tables.
    pub tables: Commits,
    /// The version and tick of each table, on the process that commits.
    pub versions: [[AtomicU64; 2]; 2],
    /// What the frontier of all sinks has come to.
    pub committed: AtomicU64,
    /// Since when it has been there, wall time in ms.
    pub committed_since: AtomicU64,
    /// Open visits by worker of this process.
    pub open: Vec<AtomicU64>,
    /// What each worker's source tells.
    pub sources: Vec<Arc<Mutex<SourceState>>>,
    live: Mutex<Live>,
}

/// What only a living view needs.
#[derive(Debug, Default)]
struct Live {
    newest: VecDeque<Newest>,
    /// When each was taken, wall time in ms, and the latency.
    latencies: VecDeque<(i64, u32)>,
}

/// A tag, to be shown.
#[derive(Clone, Debug)]
pub struct Newest {
    /// Event time in ms.
    pub time: i64,
    /// The visit's ID.
    pub visit: [u8; 16],
    /// The context.
    pub context: Vec<u8>,
    /// The body, and its writer's schema.
    pub body: (u64, Vec<u8>),
}

impl Metrics {
    /// For a process of so many workers, which starts now. `restored` is the tick of the snapshot
    /// from which it goes on.
    pub fn new(workers: usize, incarnation: u64, restored: u64) -> Metrics {
        let began = wall::now();
        let zeros = || (0..workers).map(|_| AtomicU64::new(0)).collect();
        Metrics {
            incarnation,
            began,
            committed_since: AtomicU64::new(began as u64),
            snapshot: [AtomicU64::new(restored), AtomicU64::new(0)],
            open: zeros(),
            runs_bytes: zeros(),
            sources: (0..workers).map(|_| Arc::default()).collect(),
            ..Metrics::default()
        }
    }

    /// Counts what became known of a visit.
    pub fn lifecycle(&self, said: &Lifecycle) {
        let counter = match said.change {
            Change::Started { .. } => &self.started,
            Change::Revised { .. } => &self.revised,
            Change::Ended {
                reason: EndReason::Inactivity,
                ..
            } => &self.ended[0],
            Change::Ended {
                reason: EndReason::Length,
                ..
            } => &self.ended[1],
            Change::Ended {
                reason: EndReason::Size,
                ..
            } => &self.ended[2],
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Says what the frontier of all sinks has come to.
    pub fn committed(&self, frontier: u64) {
        if self.committed.load(Ordering::Relaxed) != frontier {
            self.committed_since
                .store(wall::now() as u64, Ordering::Relaxed);
            self.committed.store(frontier, Ordering::Relaxed);
        }
    }

    /// Says that the snapshot of this tick counts.
    pub fn snapshot(&self, tick: u64) {
        self.snapshots.fetch_add(1, Ordering::Relaxed);
        self.snapshot[0].store(tick, Ordering::Relaxed);
        self.snapshot[1].store(wall::now() as u64, Ordering::Relaxed);
    }

    /// Open visits of all workers.
    pub fn open_visits(&self) -> u64 {
        self.open
            .iter()
            .map(|open| open.load(Ordering::Relaxed))
            .sum()
    }

    /// Records and bytes read by all workers.
    pub fn read(&self) -> (u64, u64) {
        let states = self
            .sources
            .iter()
            .map(|s| s.lock().unwrap_or_else(PoisonError::into_inner));
        states.fold((0, 0), |(records, bytes), s| {
            (records + s.records, bytes + s.bytes)
        })
    }

    /// Keeps a sample of a tag and of its latency, in ms from its log time until now.
    pub fn sample(&self, newest: Newest, latency: u32) {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        if live.newest.len() == NEWEST {
            live.newest.pop_front();
        }
        live.newest.push_back(newest);
        if live.latencies.len() == SAMPLES {
            live.latencies.pop_front();
        }
        live.latencies.push_back((wall::now(), latency));
    }

    /// The newest tags, the newest last.
    pub fn newest(&self) -> Vec<Newest> {
        self.live
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .newest
            .iter()
            .cloned()
            .collect()
    }

    /// Median and 99th percentile of the latencies of the last ten seconds, in ms; `None` without
    /// any.
    pub fn latency(&self) -> Option<(u32, u32)> {
        let live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = wall::now() - RECENT;
        let recent = live.latencies.iter().filter(|(at, _)| *at >= recent);
        let mut sorted: Vec<u32> = recent.map(|(_, latency)| *latency).collect();
        drop(live);
        sorted.sort_unstable();
        let at = |part: usize| {
            sorted
                .get((sorted.len() * part / 100).min(sorted.len().checked_sub(1)?))
                .copied()
        };
        Some((at(50)?, at(99)?))
    }
}
