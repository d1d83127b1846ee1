//! Points at which a process can be made to die, to show that nothing is lost or repeated by it:
//! `VISITFLOW_CRASH=NAME:N` ends the process, as a power cut would, when it comes to the point NAME
//! for the Nth time. `scripts/torture` sets it. Without it a point costs a look at a flag.

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

/// Those of the twin of a topic in Kafka, in the order in which a batch meets them.
pub const TWIN_POINTS: &[&str] = &["twin-commit", "twin-committed"];

struct Armed {
    name: String,
    left: AtomicU64,
}

static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

fn armed() -> Option<Armed> {
    let said = std::env::var("VISITFLOW_CRASH").ok()?;
    let (name, n) = said.split_once(':')?;
    Some(Armed {
        name: name.to_owned(),
        left: AtomicU64::new(n.parse().ok()?),
    })
}

/// Ends the process here, if it is to.
#[inline]
pub fn point(name: &'static str) {
    if let Some(armed) = ARMED.get_or_init(armed)
        && armed.name == name
        && armed.left.fetch_sub(1, Ordering::Relaxed) == 1
    {
        eprintln!("crash: at {name}");
        std::process::abort();
    }
}
