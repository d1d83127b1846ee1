//! Visits that were sealed of late: they are answered for until a table holds them, and nobody holds on
//! to an earlier tick.

use std::collections::BTreeMap;
use std::ops::Bound;

use hashbrown::HashMap;

use super::question::Shown;
use crate::visit::Tick;

/// The tick of a visit's seal, and its ID.
pub type Seal = (Tick, [u64; 2]);

/// Visits that were sealed of late, by the ticks of their seals.
#[derive(Debug, Default)]
pub struct Ended {
    /// With their browsers' shards.
    visits: BTreeMap<Seal, (u8, Shown)>,
    /// When each was sealed.
    ticks: HashMap<[u64; 2], Tick>,
    /// Everything that was sealed after this tick is there.
    kept: Tick,
}

impl Ended {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.visits.len()
    }

    /// Everything that was sealed after this tick is there.
    pub fn kept(&self) -> Tick {
        self.kept
    }

    /// What was sealed at or before this tick may not be there.
    pub fn keep_after(&mut self, tick: Tick) {
        self.kept = self.kept.max(tick);
    }

    /// Adds a visit of a browser of this shard.
    pub fn add(&mut self, seal: Seal, shard: u8, shown: Shown) {
        self.visits.insert(seal, (shard, shown));
        self.ticks.insert(seal.1, seal.0);
    }

    /// The visit of this ID.
    pub fn find(&self, id: [u64; 2]) -> Option<&Shown> {
        let tick = *self.ticks.get(&id)?;
        let visit = self.visits.get(&(tick, id));
        visit.map(|(_, shown)| shown)
    }

    /// Those that were sealed after this one, in order; all, after none.
    pub fn after(&self, seal: Option<Seal>) -> impl Iterator<Item = (&Seal, &(u8, Shown))> {
        let after = seal.map_or(Bound::Unbounded, Bound::Excluded);
        self.visits.range((after, Bound::Unbounded))
    }

    /// Those that were sealed after this tick, in order.
    pub fn later(&self, tick: Tick) -> impl Iterator<Item = &Shown> {
        let later = self.visits.range((tick.saturating_add(1), [0; 2])..);
        later.map(|(_, (_, shown))| shown)
    }

    /// Lets go of those that were sealed at or before this tick.
    pub fn release(&mut self, until: Tick) {
        while let Some(first) = self.visits.first_entry() {
            let (tick, id) = *first.key();
            if tick > until {
                break;
            }
            first.remove();
            self.ticks.remove(&id);
            self.kept = self.kept.max(tick);
        }
    }
}
