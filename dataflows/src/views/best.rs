//! The best rows of each view. [`Best`] is the plain state, [`best`] the operator around it: it says at
//! the end of each tick how the chosen rows have changed.
//!
//! Nearly all rows that change are far from being chosen. So only the first of a group are kept in order,
//! and when too few of them are left, as many again are looked for among all: some 150 ns a change, a third
//! of what it costs to keep all in order; differential's `reduce` over all values of a group takes 100 µs.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use differential_dataflow::VecCollection;
use hashbrown::HashMap;
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
type Placed = (Reverse<i128>, Key, Sums);

/// A row of a view that comes or goes.
type Update = ((u16, Row), isize);

/// All rows of one view of those groups that are this worker's, and which of them are chosen.
#[derive(Debug, Default)]
struct Group {
    rows: HashMap<Key, Sums>,
    /// The first of them, in order: all that are not behind `last`.
    first: BTreeSet<Placed>,
    /// `None` if these are all.
    last: Option<Placed>,
    chosen: BTreeSet<Placed>,
    /// Whether what is chosen may have changed in the tick at hand.
    is_touched: bool,
}

impl Group {
    fn is_first(&self, placed: &Placed) -> bool {
        self.last.as_ref().is_none_or(|last| placed <= last)
    }

    fn come(&mut self, placed: Placed) {
        let (_, key, sums) = &placed;
        self.rows.insert(key.clone(), *sums);
        if self.is_first(&placed) {
            self.first.insert(placed);
        }
    }

    fn go(&mut self, placed: &Placed) {
        let (_, key, sums) = placed;
        // Another may have come in its place already.
        if self.rows.get(key) == Some(sums) {
            self.rows.remove(key);
        }
        if self.is_first(placed) {
            self.first.remove(placed);
        }
    }

    /// Chooses the best of its rows; gives how they have changed.
    fn choose(&mut self, view: &View, mut give: impl FnMut(Row, i8)) {
        let most = view.top.unwrap_or_default();
        self.order(most, |sums| view.score(sums));
        let chosen: BTreeSet<Placed> = self.first.iter().take(most).cloned().collect();
        for (_, key, sums) in self.chosen.difference(&chosen) {
            give((key.clone(), *sums), -1);
        }
        for (_, key, sums) in chosen.difference(&self.chosen) {
            give((key.clone(), *sums), 1);
        }
        self.chosen = chosen;
        self.is_touched = false;
    }

    /// So many are to be in order where `most` are chosen.
    fn enough(&self, most: usize) -> usize {
        4 * most.max(1) + self.rows.len() / 64
    }

    /// Sees to it that the first `most` are in order, and not many more. To look for them costs little for
    /// each that had to go before.
    fn order(&mut self, most: usize, score: impl Fn(&Sums) -> i128) {
        let enough = self.enough(most);
        if self.first.len() < most && self.last.is_some() {
            let place = |(key, sums)| (Reverse(score(sums)), key, sums);
            let mut all: Vec<(_, &Key, &Sums)> = self.rows.iter().map(place).collect();
            if all.len() > enough {
                all.select_nth_unstable(enough - 1);
                all.truncate(enough);
            }
            let first = all.into_iter();
            let first = first.map(|(score, key, sums)| (score, key.clone(), *sums));
            self.first = first.collect();
            self.cut(enough);
        } else if self.first.len() > 4 * enough {
            self.cut(enough);
        }
    }

    /// Keeps so many in order.
    fn cut(&mut self, enough: usize) {
        let is_cut = self.rows.len() > enough;
        self.last = self
            .first
            .iter()
            .nth(enough - 1)
            .filter(|_| is_cut)
            .cloned();
        if let Some(last) = &self.last {
            self.first.retain(|placed| placed <= last);
        }
    }
}

/// The rows of all views, and the best of each group.
#[derive(Debug)]
pub struct Best {
    views: Rc<[View]>,
    /// By view, and what their rows begin with.
    groups: HashMap<(u16, Key), Group>,
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

    /// Takes the rows that come and go at a tick, in any order; gives how what is chosen changes.
    pub fn advance(&mut self, changes: &[Update], mut give: impl FnMut(u16, Row, i8)) {
        let mut touched: Vec<(u16, Key)> = Vec::new();
        for of_row in changes.chunk_by(|((_, (a, _)), _), ((_, (b, _)), _)| a == b) {
            // Of what goes and comes as it was, as it does one behind the other, nothing is said.
            if let [(gone, -1), (come, 1)] = of_row
                && gone == come
            {
                continue;
            }
            for ((view, (key, sums)), diff) in of_row {
                let spec = &self.views[usize::from(*view)];
                let Some(most) = spec.top else {
                    give(*view, (key.clone(), *sums), if *diff > 0 { 1 } else { -1 });
                    continue;
                };
                let first = if spec.by_first { key.first() } else { "" };
                let place = (*view, Key::of_text(first));
                let group = self.groups.entry(place.clone()).or_default();
                let placed = (Reverse(spec.score(sums)), key.clone(), *sums);
                let last = group.chosen.last().filter(|_| group.chosen.len() == most);
                let is_chosen = last.is_none_or(|last| placed <= *last);
                if *diff > 0 {
                    group.come(placed);
                } else {
                    group.go(&placed);
                }
                let is_touched = is_chosen || group.first.len() > 4 * group.enough(most);
                if is_touched && !std::mem::replace(&mut group.is_touched, true) {
                    touched.push(place);
                }
            }
        }
        for place in touched {
            let Some(group) = self.groups.get_mut(&place) else {
                continue;
            };
            let spec = &self.views[usize::from(place.0)];
            group.choose(spec, |row, diff| give(place.0, row, diff));
            if group.rows.is_empty() {
                self.groups.remove(&place);
            }
        }
    }
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
                    state.advance(&changes, |view, row, diff| {
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
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::views::Value;

    proptest! {
        #[test]
        fn the_best_of_a_group_are_its_greatest(
            ticks in vec(vec((0_u8..3, 0_u8..60, 0_i64..9), 1..40), 1..40), most in 1_usize..4,
        ) {
            let view = |top| View { top, by_first: true, values: vec![Value::Count(None)], ..View::default() };
            let mut best = Best::new([view(Some(most)), view(None)].into());
            let mut rows: BTreeMap<(u8, u8), i64> = BTreeMap::new();
            let (mut chosen, mut all) = (BTreeSet::new(), BTreeSet::new());
            let row = |(group, key): (u8, u8), count| {
                let fields = [group.to_string(), key.to_string()];
                (Key::of(fields.iter().map(String::as_str)), Sums::one(0, count))
            };
            let mut advance = |best: &mut Best, changed: &BTreeMap<(u8, u8), i64>, rows: &mut BTreeMap<_, _>| {
                let mut said = Vec::new();
                for (place, count) in changed {
                    let before = rows.remove(place);
                    let now = (*count > 0).then_some(*count);
                    rows.extend(now.map(|count| (*place, count)));
                    for view in [0, 1] {
                        said.extend(before.map(|before| ((view, row(*place, before)), -1)));
                        said.extend(now.map(|count| ((view, row(*place, count)), 1)));
                    }
                }
                let mut known = true;
                best.advance(&said, |view, row, diff| {
                    let shown: &mut BTreeSet<Row> = if view == 0 { &mut chosen } else { &mut all };
                    known &= if diff > 0 { shown.insert(row) } else { shown.remove(&row) };
                });
                prop_assert!(known, "a row comes and goes in turn");
                let every = rows.iter().map(|(place, count)| row(*place, *count));
                prop_assert_eq!(&all, &every.collect());
                let mut expected = BTreeSet::new();
                for group in 0..3 {
                    let mut own: Vec<_> = rows.iter().filter(|(place, _)| place.0 == group).collect();
                    own.sort_by_key(|(place, count)| (-**count, row(**place, 0).0));
                    expected.extend(own.into_iter().take(most).map(|(place, count)| row(*place, *count)));
                }
                prop_assert_eq!(&chosen, &expected);
                prop_assert_eq!(best.len(), rows.len());
                let first = |group: &Group| group.first.len() <= 4 * (4 * most + 1);
                prop_assert!(best.groups.values().all(first));
                Ok(())
            };
            for changed in ticks {
                let changed = changed.into_iter().map(|(group, key, count)| ((group, key), count));
                advance(&mut best, &changed.collect(), &mut rows)?;
            }
            // Of groups without rows nothing is left.
            let gone = rows.keys().map(|place| (*place, 0)).collect();
            advance(&mut best, &gone, &mut rows)?;
            prop_assert!(best.is_empty());
        }
    }
}
