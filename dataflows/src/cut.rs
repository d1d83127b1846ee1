//! Cuts: ticks at which something is done with all that lies before them and nothing that lies at or
//! behind them. A cut travels as a record in the stream, on every worker, and is said by a source
//! before its own frontier has come there; so every operator learns of it in time, and a consistent
//! cut through the whole dataflow needs no barrier.

use std::collections::BTreeMap;

use crate::visit::Tick;

/// A cut.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    serde::Serialize,
    serde::Deserialize,
)]
pub struct Cut {
    /// The first tick that does not belong.
    pub tick: Tick,
    /// Tables close their files and commit them: all seals before `tick` belong to the version.
    pub files: bool,
    /// All state as of `tick` is kept, for a later start.
    pub snapshot: bool,
    /// The job stops there.
    pub stop: bool,
}

/// Cuts that an operator has heard of and not come to.
#[derive(Debug, Default)]
pub struct Cuts(BTreeMap<Tick, Cut>);

impl Cuts {
    /// Hears of one. Several at one tick become one.
    pub fn add(&mut self, cut: Cut) {
        let known = self.0.entry(cut.tick).or_insert(Cut {
            tick: cut.tick,
            ..Cut::default()
        });
        known.files |= cut.files;
        known.snapshot |= cut.snapshot;
        known.stop |= cut.stop;
    }

    /// The first cut, if it lies at or before `until`: where everything before that is complete.
    pub fn next(&mut self, until: Tick) -> Option<Cut> {
        let first = self.0.first_entry().filter(|cut| *cut.key() <= until)?;
        Some(first.remove())
    }

    /// The tick of the first cut.
    pub fn first(&self) -> Option<Tick> {
        self.0.keys().next().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cuts_come_in_order_once_and_those_of_one_tick_together() {
        let mut cuts = Cuts::default();
        let cut = |tick, files| Cut {
            tick,
            files,
            snapshot: !files,
            stop: false,
        };
        for (tick, files) in [(300, true), (100, true), (100, false)] {
            cuts.add(cut(tick, files));
        }
        assert_eq!(cuts.first(), Some(100));
        assert_eq!(cuts.next(99), None);
        let both = cuts.next(100).unwrap();
        assert!(both.files && both.snapshot && both.tick == 100);
        assert_eq!(cuts.next(299), None);
        assert_eq!(cuts.next(u64::MAX), Some(cut(300, true)));
    }
}
