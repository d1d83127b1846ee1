//! Generation after generation of new browsers, none of which comes again: what is kept of them, in
//! memory and on disk, must not grow with how many there have been.

use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use visitflow::run::{self, grouped};

use crate::watched::{bytes_below, resident};
use crate::{BEGIN, log, outputs, run_job, source, state};

/// Measurements a second of event time.
const RATE: u64 = 100;
/// Each browser's measurements, one every two minutes; then it is gone.
const EACH: u64 = 5;
/// The measurements of a generation.
const GENERATION: u64 = RATE * 120 * EACH;

/// What was seen at some moment.
#[derive(Clone, Copy, Default)]
struct Seen {
    open: u64,
    resident: u64,
    folders: [u64; 3],
}

impl Seen {
    fn most(self, other: Seen) -> Seen {
        Seen {
            open: self.open.max(other.open),
            resident: self.resident.max(other.resident),
            folders: std::array::from_fn(|n| self.folders[n].max(other.folders[n])),
        }
    }
}

const FOLDERS: [&str; 3] = ["runs", "journal", "snapshots"];

/// A browser of the generation that a measurement is of.
fn browser(number: u64) -> u64 {
    let browsers = GENERATION / EACH;
    number / GENERATION * browsers + number % browsers
}

/// Runs `millions` of measurements through a job with 16 MB for those of open visits.
pub fn flat(dir: &Path, millions: f64) {
    let count = (millions * 1e6) as u64;
    let bytes = log(dir, count, browser, RATE, BEGIN);
    println!(
        "{} measurements of {bytes:.0} bytes: {} generations of {} browsers, 10 min each; state.memory 16 MB",
        grouped(count),
        count.div_ceil(GENERATION),
        grouped(GENERATION / EACH)
    );
    let outputs = outputs(dir, "flat") + "file_age = '1s'\n";
    let text = source(dir) + &outputs + &state(dir, "flat", "16MB");
    let state = dir.join("flat-state");
    let tenths = Arc::new(Mutex::new([Seen::default(); 10]));
    let (seen, watched) = (tenths.clone(), state.clone());
    let watch = move |handle: run::Handle| {
        while !handle.ended() {
            let metrics = &handle.metrics;
            let tagged = metrics.tagged.load(Ordering::Relaxed);
            let now = Seen {
                open: metrics.open_visits(),
                resident: resident(),
                folders: FOLDERS.map(|folder| bytes_below(&watched.join(folder))),
            };
            let tenth =
                &mut seen.lock().expect("nobody panics")[(tagged * 10 / count).min(9) as usize];
            *tenth = tenth.most(now);
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let (summary, took) = run_job(&text, watch);
    println!(
        "{:>8}  {:>12}  {:>12}  {:>10}  {:>10}  {:>10}",
        "of input", "open visits", "resident", FOLDERS[0], FOLDERS[1], FOLDERS[2]
    );
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    for (n, most) in tenths.lock().expect("nobody panics").iter().enumerate() {
        println!(
            "{:>6} %  {:>12}  {:>12}  {:>10}  {:>10}  {:>10}",
            (n + 1) * 10,
            grouped(most.open),
            megabytes(most.resident),
            megabytes(most.folders[0]),
            megabytes(most.folders[1]),
            megabytes(most.folders[2])
        );
    }
    println!(
        "{took:.1} s; {} visits; when all have ended the folder has {} bytes",
        grouped(summary.visits[0]),
        grouped(
            FOLDERS
                .iter()
                .map(|folder| bytes_below(&state.join(folder)))
                .sum()
        )
    );
}
