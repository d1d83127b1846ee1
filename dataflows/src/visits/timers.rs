//! Timers: at which second which browser's oldest visit may be due. Lazy: a browser has one entry
//! that counts, which may fire early and is then set again; entries that no longer count are
//! recognized by whoever they name.
//!
//! A wheel of the next [`NEAR`] seconds, and a map for what lies beyond it, or behind.

use std::collections::BTreeMap;

use crate::visit::{SEAL_STEP, Tick};

/// How many seconds the wheel has: more than an hour, two visits' inactivity.
const NEAR: u64 = 4_096;

/// Entries by second. About 12 bytes an entry.
#[derive(Debug)]
pub struct Timers {
    /// Of second `s` at `s % NEAR`, where `s` is `base` or one of the `NEAR - 1` behind it.
    wheel: Vec<Vec<Timer>>,
    base: u64,
    /// How many are in the wheel.
    near: usize,
    others: BTreeMap<u64, Vec<Timer>>,
}

/// Whom to wake: whoever has the slot by then.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timer {
    /// The browser's slot in its shard.
    pub slot: u32,
    /// The shard.
    pub shard: u8,
}

impl Default for Timers {
    fn default() -> Timers {
        Timers {
            wheel: vec![Vec::new(); NEAR as usize],
            base: 0,
            near: 0,
            others: BTreeMap::new(),
        }
    }
}

impl Timers {
    /// Sets a timer for this tick, a whole second.
    #[inline]
    pub fn set(&mut self, due: Tick, timer: Timer) {
        let second = due / SEAL_STEP;
        if second.wrapping_sub(self.base) < NEAR {
            self.wheel[(second % NEAR) as usize].push(timer);
            self.near += 1;
        } else {
            self.others.entry(second).or_default().push(timer);
        }
    }

    /// Moves the timers of the earliest second that lies before `until` into `timers`, in the place
    /// of what was there; that second's tick.
    pub fn pop_before(&mut self, until: Tick, timers: &mut Vec<Timer>) -> Option<Tick> {
        timers.clear();
        let end = until.div_ceil(SEAL_STEP);
        if self.near == 0 {
            self.base = self.base.max(end);
        }
        while self.base < end && self.wheel[(self.base % NEAR) as usize].is_empty() {
            self.base += 1;
            if self.near == 0 {
                self.base = end;
            }
        }
        let other = self.others.keys().next().copied();
        let first = other.map_or(self.base, |other| other.min(self.base));
        if first >= end {
            return None;
        }
        if first == self.base {
            std::mem::swap(timers, &mut self.wheel[(first % NEAR) as usize]);
            self.near -= timers.len();
        }
        if other == Some(first) {
            timers.extend(self.others.remove(&first).into_iter().flatten());
        }
        Some(first * SEAL_STEP)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn timers_come_at_their_second_near_far_and_behind(
            steps in prop::collection::vec((prop::collection::vec(0..20_000_u64, 0..20), 0..9_000_u64), 1..40),
        ) {
            let mut timers = Timers::default();
            let mut expected: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
            let (mut now, mut slot, mut popped) = (1_000, 0, Vec::new());
            for (set, passes) in steps {
                for ahead in set {
                    // Some lie behind what has been popped.
                    let second = now + ahead / 2 - 500;
                    timers.set(second * SEAL_STEP, Timer { slot, shard: 0 });
                    expected.entry(second).or_default().push(slot);
                    slot += 1;
                }
                now += passes;
                let until = now * SEAL_STEP - passes % 2;
                while let Some(due) = timers.pop_before(until, &mut popped) {
                    let (second, slots) = expected.pop_first().unwrap();
                    prop_assert_eq!(due, second * SEAL_STEP);
                    let mut found: Vec<_> = popped.iter().map(|timer| timer.slot).collect();
                    found.sort_unstable();
                    prop_assert_eq!(found, slots);
                }
                let rest = expected.keys().next();
                prop_assert!(rest.is_none_or(|second| second * SEAL_STEP >= until));
            }
            while timers.pop_before(Tick::MAX, &mut popped).is_some() {
                expected.pop_first();
            }
            prop_assert!(expected.is_empty());
        }
    }
}
