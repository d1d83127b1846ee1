//! What runs cost beside the least that any store must do: append the same bytes to one file, in
//! order, and read them back in order.
//!
//! A gigabyte of records of 500 bytes, of 30,000 visits at a time, each of 15 to 20 records; what
//! is in memory is written as a group when it is 64 MB; each visit's chunks are read back when it
//! ends, those of 256 visits at once, and freed. Nothing is made durable. "Cold": the page cache
//! holds none of it, so that every chunk is read from the disk. What is not in the store's calls is
//! the gathering of records by visit, in memory.
//!
//! `cargo bench --bench store`; `-- quick` for a tenth of the records.

use std::collections::HashMap;
use std::fs::File;
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{Advice, fadvise};
use visitflow::store::{Chunk, Key, Options, Runs};

const RECORD: usize = 500;
const RECORDS: u64 = 2_000_000;
const OPEN_VISITS: u64 = 30_000;
const BUFFER: usize = 64 << 20;
/// How many visits end together.
const ENDING: usize = 256;
const PIECE: usize = 1 << 20;
const ROUNDS: usize = 3;

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick");
    let records = if quick { RECORDS / 10 } else { RECORDS };
    let bytes = records as f64 * RECORD as f64;
    println!("{} MB in records of {RECORD} bytes\n", bytes / 1e6);
    println!(
        "{:<24}  {:>14}  {:>14}  {:>6}",
        "", "one file", "runs", "ratio"
    );
    let row = |what: &str, plain: Duration, runs: Duration| {
        let rate = |took: Duration| format!("{:.0} MB/s", bytes / 1e6 / took.as_secs_f64());
        let ratio = runs.as_secs_f64() / plain.as_secs_f64();
        println!(
            "{what:<24}  {:>14}  {:>14}  {ratio:>6.2}",
            rate(plain),
            rate(runs)
        );
    };
    for _ in 0..ROUNDS {
        let dir = tempfile::tempdir().expect("a place for the bench");
        let (append, scan, scan_cold) = plain(&dir.path().join("plain"), records);
        let (whole, calls) = live(&dir.path().join("live"), records);
        row("write, read, free", append + scan, whole);
        row("  the store's calls", append + scan, calls);
        let (write, calls, read, read_cold) = all(&dir.path().join("all"), records);
        row("write", append, write);
        row("  the store's calls", append, calls);
        row("read", scan, read);
        row("read, cold", scan_cold, read_cold);
        println!();
    }
}

/// Appends, reads, and reads what is not in the page cache.
fn plain(path: &Path, records: u64) -> (Duration, Duration, Duration) {
    let record = [7_u8; RECORD];
    let began = Instant::now();
    let mut file = File::create(path).expect("a file");
    let mut buffer = Vec::with_capacity(PIECE + RECORD);
    for _ in 0..records {
        buffer.extend_from_slice(&record);
        if buffer.len() >= PIECE {
            black_box(crc32fast::hash(&buffer));
            file.write_all(&buffer).expect("a write");
            buffer.clear();
        }
    }
    file.write_all(&buffer).expect("a write");
    let append = began.elapsed();
    let scan = || {
        let began = Instant::now();
        let mut file = File::open(path).expect("a file");
        let mut piece = vec![0; PIECE];
        loop {
            let read = file.read(&mut piece).expect("a read");
            if read == 0 {
                break;
            }
            black_box(crc32fast::hash(&piece[..read]));
        }
        began.elapsed()
    };
    let warm = scan();
    forget(path);
    let cold = scan();
    std::fs::remove_file(path).expect("a file");
    (append, warm, cold)
}

/// Takes a file out of the page cache.
fn forget(path: &Path) {
    let file = File::open(path).expect("a file");
    file.sync_all().expect("a disk");
    fadvise(&file, 0, None, Advice::DontNeed).expect("a page cache");
}

/// Visits in the order in which their records come: at any time so many are open, and each ends
/// after its last record.
struct Visits {
    open: Vec<(u64, u64)>,
    seed: u64,
    next: u64,
}

impl Visits {
    fn new() -> Visits {
        let mut visits = Visits {
            open: Vec::new(),
            seed: 1,
            next: 0,
        };
        for _ in 0..OPEN_VISITS {
            let visit = visits.begin();
            // So that not all end together.
            let left = 1 + visits.random() % visit.1;
            visits.open.push((visit.0, left));
        }
        visits
    }

    fn random(&mut self) -> u64 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        self.seed >> 33
    }

    fn begin(&mut self) -> (u64, u64) {
        self.next += 1;
        (self.next, 15 + self.random() % 6)
    }

    /// The visit of the next record, and whether it is its last.
    fn record(&mut self) -> (Key, bool) {
        let at = (self.random() % OPEN_VISITS) as usize;
        let (visit, left) = self.open[at];
        self.open[at].1 -= 1;
        if left == 1 {
            self.open[at] = self.begin();
        }
        ([visit, visit], left == 1)
    }
}

/// What an owner of runs has in memory.
#[derive(Default)]
struct Owner {
    buffer: HashMap<Key, Vec<u8>>,
    bytes: usize,
    chunks: HashMap<Key, Vec<Chunk>>,
    /// How long it was in the calls of the store.
    in_calls: Duration,
}

impl Owner {
    fn add(&mut self, key: Key, record: &[u8], runs: &mut Runs) {
        self.buffer
            .entry(key)
            .or_default()
            .extend_from_slice(record);
        self.bytes += record.len();
        if self.bytes >= BUFFER {
            self.flush(runs);
        }
    }

    fn flush(&mut self, runs: &mut Runs) {
        self.bytes = 0;
        let group: Vec<_> = self.buffer.drain().collect();
        let keys: Vec<Key> = group.iter().map(|(key, _)| *key).collect();
        let began = Instant::now();
        let chunks = runs.write(group).expect("a write");
        self.in_calls += began.elapsed();
        for (key, chunk) in keys.into_iter().zip(chunks) {
            self.chunks.entry(key).or_default().push(chunk);
        }
    }

    fn end(&mut self, ended: &[Key], runs: &mut Runs) {
        let mut chunks = Vec::new();
        for key in ended {
            let memory = self.buffer.remove(key).unwrap_or_default();
            self.bytes -= memory.len();
            black_box(memory);
            chunks.extend(self.chunks.remove(key).unwrap_or_default());
        }
        let began = Instant::now();
        let each = &mut |_, bytes: &[u8]| {
            black_box(bytes.len());
        };
        runs.read(&chunks, each).expect("a read");
        for chunk in chunks {
            runs.free(chunk).expect("a chunk that lives");
        }
        self.in_calls += began.elapsed();
    }
}

/// Writes, and reads and frees what ends: how long it takes, and of that the store's calls.
fn live(dir: &Path, records: u64) -> (Duration, Duration) {
    let began = Instant::now();
    let mut runs = Runs::open(dir, 1, 0, Options::default()).expect("runs");
    let (mut owner, mut visits) = (Owner::default(), Visits::new());
    let mut ended = Vec::new();
    for _ in 0..records {
        let (key, last) = visits.record();
        owner.add(key, &[7; RECORD], &mut runs);
        ended.extend(last.then_some(key));
        if ended.len() == ENDING {
            owner.end(&ended, &mut runs);
            ended.clear();
        }
    }
    (began.elapsed(), owner.in_calls)
}

/// Writes everything, until the last group is handed over; then reads it visit by visit, in the
/// order of the visits: once, and once more when it is not in the page cache.
fn all(dir: &Path, records: u64) -> (Duration, Duration, Duration, Duration) {
    let mut runs = Runs::open(dir, 1, 0, Options::default()).expect("runs");
    let (mut owner, mut visits) = (Owner::default(), Visits::new());
    let began = Instant::now();
    for _ in 0..records {
        let (key, _) = visits.record();
        owner.add(key, &[7; RECORD], &mut runs);
    }
    owner.flush(&mut runs);
    let write = began.elapsed();
    runs.seal().expect("a seal").wait().expect("a disk");
    let mut visits: Vec<_> = owner.chunks.into_iter().collect();
    visits.sort_unstable();
    let mut read = || {
        let began = Instant::now();
        for ending in visits.chunks(ENDING) {
            let chunks: Vec<_> = ending
                .iter()
                .flat_map(|(_, chunks)| chunks)
                .copied()
                .collect();
            let each = &mut |_, bytes: &[u8]| {
                black_box(bytes.len());
            };
            runs.read(&chunks, each).expect("a read");
        }
        began.elapsed()
    };
    let warm = read();
    for entry in std::fs::read_dir(dir.join("runs")).expect("runs") {
        forget(&entry.expect("a run").path());
    }
    (write, owner.in_calls, warm, read())
}
