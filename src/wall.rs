//! The wall clock: the one place where it is read.

use std::time::{SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970, UTC, by this host's clock.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as i64)
}
