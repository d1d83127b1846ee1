//! Points at which a process can be made to die, to show that nothing is lost or repeated by it:
//! `VISITFLOW_CRASH=NAME:N` ends the process, as a power cut would, when it comes to the point NAME
//! for the Nth time; `NAME:N:P`, of a write, when P percent of its bytes are written.
//! `scripts/torture` sets it. Without it a point costs a look at a flag.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// The points, in the order in which a tick and then a snapshot meet them.
pub const POINTS: &[&str] = &[
    "journal-entry",
    "journal-sync",
    "topics-commit",
    "topics-committed",
    "file-finished",
    "version",
    "versions-between",
    "snapshot-part",
    "manifest",
    "manifest-put",
];

/// The writes that can be torn: entries of the journal, frames of the embedded log, blocks of runs,
/// pages of snapshots, and small files that are put whole or not at all.
pub const WRITES: &[&str] = &[
    "torn-entry",
    "torn-frame",
    "torn-block",
    "torn-page",
    "torn-file",
];

/// Those of the twin of a topic in Kafka, in the order in which a batch meets them.
pub const TWIN_POINTS: &[&str] = &["twin-commit", "twin-committed"];

struct Armed {
    name: String,
    left: AtomicU64,
    percent: usize,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<Armed> {
    let said = std::env::var("VISITFLOW_CRASH").ok()?;
    let mut words = said.split(':');
    Some(Armed {
        name: words.next()?.to_owned(),
        left: AtomicU64::new(words.next()?.parse().ok()?),
        percent: words.next().map_or(Some(50), |word| word.parse().ok())?,
    })
}

#[inline]
fn due(name: &'static str) -> Option<&'static Armed> {
    let armed = ARMED.get_or_init(armed).as_ref()?;
    (armed.name == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1).then_some(armed)
}

fn die(name: &'static str) -> ! {
    eprintln!("crash: at {name}");
    std::process::abort();
}

/// Ends the process here, if it is to.
#[inline]
pub fn point(name: &'static str) {
    if due(name).is_some() {
        die(name);
    }
}

/// Ends the process in the middle of a write, if it is to: `write` gets what is still written.
#[inline]
pub fn torn<T>(name: &'static str, bytes: &[u8], write: impl FnOnce(&[u8]) -> T) {
    if let Some(armed) = due(name) {
        // What becomes of the write is told by the next start.
        let _ = write(&bytes[..bytes.len() * armed.percent.min(100) / 100]);
        die(name);
    }
}
