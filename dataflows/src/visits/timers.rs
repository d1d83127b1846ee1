//! Timers: at which second which browser's oldest visit may be due. Lazy: a browser has one entry
//! that counts, which may fire early and is then set again; entries that no longer count are
//! recognized by whoever they name.

use std::collections::BTreeMap;

use crate::visit::{SEAL_STEP, Tick};

/// Entries by second. About 12 bytes an entry.
#[derive(Debug, Default)]
pub struct Timers {
    seconds: BTreeMap<u64, Vec<Timer>>,
}

/// Whom to wake: whoever has the slot by then.
#[derive(Clone, Copy, Debug)]
pub struct Timer {
    /// The browser's slot in its shard.
    pub slot: u32,
    /// The shard.
    pub shard: u8,
}

impl Timers {
    /// Sets a timer for this tick, a whole second.
    #[inline]
    pub fn set(&mut self, due: Tick, timer: Timer) {
        self.seconds.entry(due / SEAL_STEP).or_default().push(timer);
    }

    /// The timers of the earliest second that lies before `until`, and its tick.
    pub fn pop_before(&mut self, until: Tick) -> Option<(Tick, Vec<Timer>)> {
        let first = self.seconds.first_entry()?;
        let due = *first.key() * SEAL_STEP;
        (due < until).then(|| (due, first.remove()))
    }
}
