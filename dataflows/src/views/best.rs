//! The best rows of each view. [`Best`] is the plain state, [`best`] the operator around it: it says at
//! the end of each tick how the chosen rows have changed.
//!
//! An ordered set a group costs about 1 µs a change, differential's `reduce` over all values of a
//! group a hundred times as much.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;

use differential_dataflow::VecCollection;
use differential_dataflow::consolidation::consolidate;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;

use super::row::{Key, Row, Sums};
use super::spec::View;
use super::window::shard_of;
use crate::batch::worker_of;
use crate::visit::Tick;

/// A row that comes (1) or goes (-1) at a tick.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Changed {
    /// The view, by its place in the job.
    pub view: u16,
    /// As of when.
    pub tick: Tick,
    /// The row.
    pub row: Row,
    /// 1 or -1.
    pub diff: i8,
}

/// A row in the order in which rows are chosen: greatest scores first, then by key.
type Placed = (std::cmp::Reverse<i128>, Key, Sums);

/// A row of a view that comes or goes.
type Update = ((u16, Row), isize);

/// All rows of one view of those groups that are this worker's, and which of them are chosen.
#[derive(Debug, Default)]
struct Group {
    rows: BTreeSet<Placed>,
    chosen: BTreeSet<Placed>,
}

/// The rows of all views, and the best of each group.
#[derive(Debug)]
pub struct Best {
    views: Rc<[View]>,
    groups: HashMap<(u16, Box<str>), Group>,
}

impl Best {
    /// Of no rows yet.
    #[must_use]
    pub fn new(views: Rc<[View]>) -> Best {
        Best {
            views,
            groups: HashMap::new(),
        }
    }

    /// How many rows are kept: those of views that choose.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.values().map(|group| group.rows.len()).sum()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Takes the rows that come and go at a tick; gives how what is chosen changes.
    pub fn advance(&mut self, mut changes: Vec<Update>, mut give: impl FnMut(u16, Row, i8)) {
        consolidate(&mut changes);
        let views = self.views.clone();
        // By view and key as they are now, those of a group stand together.
        for changes in changes.chunk_by(|a, b| group_of(&views, a) == group_of(&views, b)) {
            let (view, first) = group_of(&views, &changes[0]);
            let spec = &views[usize::from(view)];
            let Some(most) = spec.top else {
                for ((view, row), diff) in changes {
                    give(*view, row.clone(), if *diff > 0 { 1 } else { -1 });
                }
                continue;
            };
            let place = (view, Box::from(first));
            let group = self.groups.entry(place.clone()).or_default();
            let mut touched = group.chosen.len() < most;
            for ((_, (key, sums)), diff) in changes {
                let placed = (std::cmp::Reverse(spec.score(sums)), key.clone(), *sums);
                touched |= group.chosen.last().is_some_and(|last| placed <= *last);
                if *diff > 0 {
                    group.rows.insert(placed);
                } else {
                    group.rows.remove(&placed);
                }
            }
            if !touched {
                continue;
            }
            let chosen: BTreeSet<Placed> = group.rows.iter().take(most).cloned().collect();
            for (_, key, sums) in group.chosen.difference(&chosen) {
                give(view, (key.clone(), *sums), -1);
            }
            for (_, key, sums) in chosen.difference(&group.chosen) {
                give(view, (key.clone(), *sums), 1);
            }
            group.chosen = chosen;
            if group.rows.is_empty() {
                self.groups.remove(&place);
            }
        }
    }
}

/// The view and the group that a row is of.
fn group_of<'a>(views: &[View], ((view, (key, _)), _): &'a Update) -> (u16, &'a str) {
    let by_first = views[usize::from(*view)].by_first;
    (*view, if by_first { key.first() } else { "" })
}

/// The best rows of each view, or all where it asks for no best, and how they change.
pub fn best<'s>(
    views: Rc<[View]>,
    rows: VecCollection<'s, u64, (u16, Row), isize>,
    partitions: u32,
) -> StreamVec<'s, u64, Changed> {
    let peers = rows.inner.scope().peers();
    let specs = views.clone();
    let exchange = Exchange::new(move |((view, (key, _)), _, _): &((u16, Row), u64, isize)| {
        let spec = &specs[usize::from(*view)];
        let shard = match (spec.top, spec.by_first) {
            (None, _) => shard_of(key.bytes()),
            (Some(_), true) => shard_of(key.first().as_bytes()),
            (Some(_), false) => shard_of(&view.to_le_bytes()),
        };
        worker_of(shard, partitions, peers) as u64
    });
    type Builder = CapacityContainerBuilder<Vec<Changed>>;
    rows.inner
        .unary_frontier::<Builder, _, _, _>(exchange, "Best", move |cap, _| {
            let mut cap = Some(cap);
            let mut state = Best::new(views);
            let mut pending: BTreeMap<Tick, Vec<Update>> = BTreeMap::new();
            move |(input, frontier), output| {
                // An update's own time may lie behind that of its message.
                input.for_each(|_, updates| {
                    for (row, tick, diff) in updates.drain(..) {
                        pending.entry(tick).or_default().push((row, diff));
                    }
                });
                let Some(held) = cap.as_mut() else { return };
                let until = frontier.frontier().first().copied().unwrap_or(u64::MAX);
                while pending
                    .first_key_value()
                    .is_some_and(|(tick, _)| *tick < until)
                {
                    let Some((tick, changes)) = pending.pop_first() else {
                        break;
                    };
                    let mut said = Vec::new();
                    state.advance(changes, |view, row, diff| {
                        said.push(Changed {
                            view,
                            tick,
                            row,
                            diff,
                        });
                    });
                    if !said.is_empty() {
                        output
                            .session(&held.delayed(&tick))
                            .give_container(&mut said);
                    }
                }
                if until == u64::MAX {
                    cap = None;
                } else if until > *held.time() {
                    held.downgrade(&until);
                }
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::views::{Of, Value};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_best_of_a_group_are_its_greatest(
            changes in proptest::collection::vec((0_u8..3, 0_u8..6, 0_i64..9), 1..60),
        ) {
            let view = View {
                name: "v".into(),
                of: Of::Measurements,
                effects: vec![],
                entities: vec![],
                reasons: vec![],
                people: false,
                key: vec![],
                values: vec![Value::Count(None)],
                window: 1,
                step: 1,
                against: None,
                top: Some(2),
                by_first: true,
                since: 0,
            };
            let mut best = Best::new([view].into());
            let mut rows: BTreeMap<(u8, u8), i64> = BTreeMap::new();
            let mut chosen: BTreeSet<Row> = BTreeSet::new();
            let row = |(group, key): (u8, u8), count| {
                let fields = [group.to_string(), key.to_string()];
                (Key::of(fields.iter().map(String::as_str)), Sums::one(0, count))
            };
            for (group, key, count) in changes {
                let mut said = Vec::new();
                if let Some(before) = rows.remove(&(group, key)) {
                    said.push(((0, row((group, key), before)), -1));
                }
                if count > 0 {
                    rows.insert((group, key), count);
                    said.push(((0, row((group, key), count)), 1));
                }
                best.advance(said, |_, row, diff| {
                    let known = if diff > 0 { chosen.insert(row) } else { chosen.remove(&row) };
                    assert!(known, "a row comes and goes in turn");
                });
                let mut expected = BTreeSet::new();
                for group in 0..3 {
                    let mut own: Vec<_> = rows.iter().filter(|(place, _)| place.0 == group).collect();
                    own.sort_by_key(|(place, count)| (-**count, **place));
                    expected.extend(own.into_iter().take(2).map(|(place, count)| row(*place, *count)));
                }
                prop_assert_eq!(&chosen, &expected);
                prop_assert_eq!(best.len(), rows.len());
            }
            // Of groups without rows nothing is left.
            let gone: Vec<_> = rows.into_iter().map(|(place, count)| ((0, row(place, count)), -1)).collect();
            best.advance(gone, |_, row, diff| assert!(diff < 0 && chosen.remove(&row) || diff > 0 && chosen.insert(row)));
            prop_assert!(chosen.is_empty() && best.is_empty());
        }
    }
}
