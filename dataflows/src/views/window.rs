//! The window of all views: what counts now, and when it ceases to. [`Window`] is the plain state,
//! [`window`] the operator around it.
//!
//! Contributions are summed before they become differences of a differential collection, and what
//! leaves a window is told when it leaves. If differential were given the retraction an hour ahead,
//! it would look through all that is pending whenever the frontier moves: 9 times the cost, in a
//! measurement with a thousand keys.

use std::collections::BTreeMap;

use differential_dataflow::difference::{IsZero, Semigroup};
use differential_dataflow::{AsCollection, VecCollection};
use hashbrown::HashMap;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::contribution::{Contribution, Place};
use super::row::{Key, Sums};
use crate::batch::worker_of;
use crate::cut::{Cut, Cuts};
use crate::durable::Durable;
use crate::visit::Tick;
use crate::visits::complete_until;

/// The form in which a window is kept.
const FORMAT: u32 = 1;

/// Views change at multiples of this, in ms.
pub const STEP: u64 = 1_000;

/// A row of a view, or of those by which its browsers are counted.
pub type Counted = (u16, Key, [u64; 2]);

/// What counts in the windows of all views, on one worker. Keeps an entry for each row and step of
/// the window in which something was added to it: nothing grows with what is measured, but for keys.
#[derive(Debug, Default)]
pub struct Window {
    entering: BTreeMap<Tick, HashMap<(Counted, Tick), Sums>>,
    leaving: BTreeMap<Tick, HashMap<Counted, Sums>>,
}

impl Window {
    /// Adds to a place. What has a sum of nothing is no entry.
    pub fn add(&mut self, place: Place, sums: Sums) {
        let Place {
            view,
            key,
            browser,
            enters,
            leaves,
        } = place;
        let step = self.entering.entry(enters).or_default();
        let entry = step.entry(((view, key, browser), leaves)).or_default();
        entry.plus_equals(&sums);
    }

    /// How many entries are kept: rows that are to enter, and rows that are to leave, step by step.
    #[must_use]
    pub fn len(&self) -> usize {
        let entering: usize = self.entering.values().map(HashMap::len).sum();
        entering + self.leaving.values().map(HashMap::len).sum::<usize>()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entering.is_empty() && self.leaving.is_empty()
    }

    /// The next tick at which something changes.
    #[must_use]
    pub fn next(&self) -> Tick {
        self.next_entering().min(first(&self.leaving))
    }

    /// The next tick at which something enters.
    #[must_use]
    pub fn next_entering(&self) -> Tick {
        first(&self.entering)
    }

    /// What changes at the next tick: rows and what is added to them.
    pub fn advance(&mut self, mut give: impl FnMut(Tick, Counted, Sums)) {
        let tick = self.next();
        let mut changes: HashMap<Counted, Sums> = HashMap::new();
        if let Some(left) = self.leaving.remove(&tick) {
            changes.extend(left.into_iter().map(|(row, sums)| (row, sums.negated())));
        }
        for ((row, leaves), sums) in self.entering.remove(&tick).unwrap_or_default() {
            if sums.is_zero() {
                continue;
            }
            changes.entry(row.clone()).or_default().plus_equals(&sums);
            let later = self.leaving.entry(leaves).or_default();
            later.entry(row).or_default().plus_equals(&sums);
        }
        for (row, sums) in changes {
            if !sums.is_zero() {
                give(tick, row, sums);
            }
        }
    }

    /// What counts now.
    #[must_use]
    pub fn contents(&self) -> HashMap<Counted, Sums> {
        let mut all: HashMap<Counted, Sums> = HashMap::new();
        for (row, sums) in self.leaving.values().flatten() {
            all.entry(row.clone()).or_default().plus_equals(sums);
        }
        all.retain(|_, sums| !sums.is_zero());
        all
    }

    /// All of it, by shard of the rows: what enters (not leaving yet), and what leaves.
    fn saved(&self) -> BTreeMap<u8, Saved<'_>> {
        let mut shards: BTreeMap<u8, Saved<'_>> = BTreeMap::new();
        for (enters, step) in &self.entering {
            for ((row, leaves), sums) in step {
                let shard = shards.entry(shard_of(row.0, row.1.bytes())).or_default();
                shard.entering.push((*enters, *leaves, row, *sums));
            }
        }
        for (leaves, step) in &self.leaving {
            for (row, sums) in step {
                let shard = shards.entry(shard_of(row.0, row.1.bytes())).or_default();
                shard.leaving.push((*leaves, row, *sums));
            }
        }
        shards
    }

    fn restore(&mut self, restored: Restored) {
        for (enters, leaves, row, sums) in restored.entering {
            let step = self.entering.entry(enters).or_default();
            step.insert((row, leaves), sums);
        }
        for (leaves, row, sums) in restored.leaving {
            self.leaving.entry(leaves).or_default().insert(row, sums);
        }
    }
}

fn first<T>(steps: &BTreeMap<Tick, T>) -> Tick {
    steps.keys().next().copied().unwrap_or(u64::MAX)
}

#[derive(Default, serde::Serialize)]
struct Saved<'a> {
    entering: Vec<(Tick, Tick, &'a Counted, Sums)>,
    leaving: Vec<(Tick, &'a Counted, Sums)>,
}

#[derive(serde::Deserialize)]
struct Restored {
    entering: Vec<(Tick, Tick, Counted, Sums)>,
    leaving: Vec<(Tick, Counted, Sums)>,
}

/// The shard of a row: FNV-1a of its view and key, so that it is the same in every program.
#[must_use]
pub fn shard_of(view: u16, key: &[u8]) -> u8 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut step = |byte: u8| hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    view.to_le_bytes().into_iter().for_each(&mut step);
    key.iter().copied().for_each(&mut step);
    (hash ^ hash >> 32) as u8
}

/// Brings contributions to the workers that have their rows' shards, and says how the sums of all
/// rows change, step by step. `partitions` are those by which shards are dealt to workers.
///
/// At the end of input it says what still enters; nothing leaves any more.
pub fn window<'s>(
    contributions: StreamVec<'s, u64, Contribution>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    mut durable: Durable,
) -> VecCollection<'s, u64, Counted, Sums> {
    let scope = contributions.scope();
    let peers = scope.peers();
    let exchange = Exchange::new(move |c: &Contribution| {
        let shard = shard_of(c.place.view, c.place.key.bytes());
        worker_of(shard, partitions, peers) as u64
    });
    let mut builder = OperatorBuilder::new("Window".to_owned(), scope);
    let mut input = builder.new_input(contributions, exchange);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<(Counted, u64, Sums)>>>::from(output);
    let mut state = Window::default();
    durable
        .restore(FORMAT)
        .into_iter()
        .for_each(|restored| state.restore(restored));
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut cuts = Cuts::default();
        let mut found: BTreeMap<Tick, Vec<Contribution>> = BTreeMap::new();
        let mut begun = false;
        move |frontiers| {
            input.for_each(|_, contributions| {
                for contribution in contributions.drain(..) {
                    found.entry(contribution.at).or_default().push(contribution);
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let Some(held) = cap.as_mut() else { return };
            let until = complete_until(frontiers);
            let mut output = output.activate();
            if !std::mem::replace(&mut begun, true) {
                let tick = *held.time();
                let contents = state.contents().into_iter();
                output
                    .session(&*held)
                    .give_iterator(contents.map(|(row, sums)| (row, tick, sums)));
            }
            loop {
                let cut = cuts.first().filter(|cut| *cut <= until);
                let limit = cut.unwrap_or(until);
                // What was found in the step that ends at a tick is an effect before it.
                while found.first_key_value().is_some_and(|(at, _)| *at <= limit) {
                    for Contribution { place, sums, .. } in found.pop_first().unwrap_or_default().1
                    {
                        state.add(place, sums);
                    }
                }
                let last = limit == u64::MAX;
                while state.next() <= limit && (!last || state.next_entering() < u64::MAX) {
                    let mut changes = Vec::new();
                    state.advance(|tick, row, sums| changes.push((row, tick, sums)));
                    if let Some((_, tick, _)) = changes.first() {
                        let cap = held.delayed(tick);
                        output.session(&cap).give_container(&mut changes);
                    }
                }
                match cut.and_then(|cut| cuts.next(cut)) {
                    Some(cut) if cut.snapshot => durable.save(cut.tick, FORMAT, state.saved()),
                    Some(_) => {}
                    None => break,
                }
            }
            if until == u64::MAX {
                cap = None;
            } else {
                // All that changes at or before `until` is said, and the next is a step away.
                let next = (until / STEP + 1) * STEP;
                if next > *held.time() {
                    held.downgrade(&next);
                }
            }
        }
    });
    stream.as_collection()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn place(key: u8, enters: u64, leaves: u64) -> Place {
        Place {
            view: 0,
            key: Key::of([key.to_string().as_str()]),
            browser: [0; 2],
            enters,
            leaves,
        }
    }

    proptest! {
        #[test]
        fn a_window_holds_what_has_entered_and_not_left(
            added in proptest::collection::vec((0_u8..4, 1_u64..30, 1_u64..20, -2_i64..3), 0..60),
        ) {
            let mut window = Window::default();
            for (key, enters, stays, amount) in &added {
                window.add(place(*key, *enters, enters + stays), Sums::one(0, *amount));
            }
            let mut shown: HashMap<String, i64> = HashMap::new();
            for tick in 0..60 {
                while window.next() <= tick {
                    window.advance(|_, (_, key, _), sums| {
                        *shown.entry(key.to_string()).or_default() += sums.0[0];
                    });
                }
                for key in 0..4 {
                    let counts = added.iter().filter(|(k, enters, stays, _)| {
                        *k == key && *enters <= tick && tick < enters + stays
                    });
                    let sum: i64 = counts.map(|(.., amount)| amount).sum();
                    prop_assert_eq!(shown.get(&key.to_string()).copied().unwrap_or(0), sum);
                    // What is saved comes back.
                    let contents = window.contents();
                    let row = (0, Key::of([key.to_string().as_str()]), [0; 2]);
                    prop_assert_eq!(contents.get(&row).map_or(0, |sums| sums.0[0]), sum);
                }
            }
            prop_assert_eq!((window.next(), window.len()), (u64::MAX, 0));
        }
    }
}
