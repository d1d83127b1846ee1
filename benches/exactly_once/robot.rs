//! A robot that never rests: all measurements are one browser's, within the length of one visit, so
//! that `max_size` alone parts them. Memory must not grow with how many there are.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use visitflow::run::{self, grouped};

use crate::watched::resident;
use crate::{BEGIN, log, outputs, run_job, source, state};

/// Measurements a second: nine millions in six hours.
const RATE: u64 = 400;

/// Runs `millions` of measurements of one browser through a job with 16 MB for open visits.
pub fn robot(dir: &Path, millions: f64) {
    let count = (millions * 1e6) as u64;
    let bytes = log(dir, count, |_| 7, RATE, BEGIN);
    println!(
        "{} measurements of {bytes:.0} bytes of one browser in {:.1} h; state.memory 16 MB",
        grouped(count),
        count as f64 / RATE as f64 / 3_600.0
    );
    let outputs = outputs(dir, "robot") + "file_age = '1s'\n";
    let text = source(dir) + &outputs + &state(dir, "robot", "16MB");
    let before = resident();
    let most = Arc::new(AtomicU64::new(0));
    let seen = most.clone();
    let watch = move |handle: run::Handle| {
        while !handle.ended() {
            seen.fetch_max(resident(), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    let (summary, took) = run_job(&text, watch);
    println!(
        "{took:.1} s, {} a second; {} visits, {} of them ended by size; resident {} MB before, {} MB at most",
        grouped((count as f64 / took) as u64),
        grouped(summary.visits[0]),
        grouped(summary.visits[4]),
        before / 1_000_000,
        most.load(Ordering::Relaxed) / 1_000_000
    );
}
