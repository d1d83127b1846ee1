//! What a run shows while it goes on: a line on standard error, in place on a terminal, now and
//! then elsewhere.

use std::time::{Duration, Instant};

use super::{Handle, grouped};
use crate::progress::Progress;
use crate::why::time;

/// Shows progress until the run ends.
pub fn show(handle: &Handle) {
    for note in handle.notes.iter() {
        eprintln!("note: {note}");
    }
    let mut progress = Progress::new();
    let mut asked = false;
    let (mut last, mut before) = (Instant::now(), 0);
    while !handle.ended() {
        std::thread::sleep(Duration::from_millis(50));
        if handle.is_asked() && !asked {
            asked = true;
            progress.end();
            eprintln!(
                "stopping: visitflow stop has asked for it; what is complete is being committed"
            );
        }
        progress.say(|| {
            let (read, bytes) = handle.metrics.read();
            let rate = (read - before) as f64 / last.elapsed().as_secs_f64();
            (last, before) = (Instant::now(), read);
            let committed = handle
                .metrics
                .committed
                .load(std::sync::atomic::Ordering::Relaxed);
            let at = match committed {
                0 => "not begun".to_owned(),
                u64::MAX => "at the end".to_owned(),
                tick => time(tick as i64),
            };
            format!(
                "{} read ({} MB), {} a second; {} visits open; time {at}",
                grouped(read),
                bytes / 1_000_000,
                grouped(rate as u64),
                grouped(handle.metrics.open_visits()),
            )
        });
    }
    progress.end();
}
