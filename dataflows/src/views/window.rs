//! The window of all views: what counts now, and when it ceases to. [`Window`] is the plain state,
//! [`window`] the operator around it.
//!
//! Contributions are summed before they become differences of a differential collection, and what leaves
//! a window is told when it leaves. If differential were given the retraction an hour ahead, it would look
//! through all that is pending whenever the frontier moves, and if it had to count browsers, it would sort
//! and merge each of them: six times the cost (`cargo bench --bench views`).

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::rc::Rc;

use differential_dataflow::difference::IsZero;
use differential_dataflow::{AsCollection, VecCollection};
use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::contribution::Contribution;
use super::numbers::{Renumbered, identities};
use super::presence::Span;
use super::row::{Key, Sums};
use super::spec::{Usual, View};
use crate::batch::worker_of;
use crate::cut::{Cut, Cuts};
use crate::durable::Durable;
use crate::hash::fnv;
use crate::near;
use crate::visit::Tick;
use crate::visits::complete_until;

/// The form in which a window is kept.
const FORMAT: u32 = 6;

/// Views change at multiples of this, in ms: as often as frontiers usually advance, so that a change
/// waits for nothing but its tick.
pub const STEP: u64 = 100;

/// The end of the step that has this tick, behind it; `u64::MAX` is the end of all ticks.
#[must_use]
pub const fn step_end(tick: Tick) -> Tick {
    (tick / STEP + 1).saturating_mul(STEP)
}

/// So many amounts may be in a list before those of a place are summed.
const FEW: usize = 64;

/// So many rows are looked for together.
const TOGETHER: usize = 32;

/// So many rows may have been there before those that are left get new numbers.
const MANY: usize = 256;

/// A row of a view: the view, by its place in the job, and the key.
pub type Counted = (u16, Key);

/// What counts in the windows of all views, on one worker: the sums of rows.
///
/// What is usual is kept as what it follows from, and on its own only once that has left.
///
/// Keeps an amount (16 bytes) for each sum of a row and step of the window in which something was added
/// to it, at most twice as many before they are summed: nothing grows with what is measured, but for keys.
#[derive(Debug)]
pub struct Window {
    /// What is usual in each view, if anything.
    usual: Box<[Option<Usual>]>,
    rows: Rows,
    entering: BTreeMap<Span, Amounts>,
    leaving: BTreeMap<Tick, Amounts>,
    /// The last tick as of which anything was to be known.
    until: Tick,
}

/// Where an amount is added: to which row, and to which of its sums.
type At = (u32, u8);

/// Amounts that enter, or leave, together.
#[derive(Debug, Default)]
struct Amounts {
    all: Vec<(At, i64)>,
    /// How many there were when those of each place were last summed.
    summed: usize,
}

impl Amounts {
    /// Adds an amount. Sorting now and then costs less than looking for its place each time, and what
    /// cancels, or comes again and again, takes no memory for long.
    fn push(&mut self, at: At, amount: i64, rows: &mut Rows) {
        rows.kept[at.0 as usize].amounts += 1;
        self.all.push((at, amount));
        self.sum_if_many(rows);
    }

    fn append(&mut self, mut others: Amounts, rows: &mut Rows) {
        if self.all.is_empty() {
            *self = others;
        } else {
            self.all.append(&mut others.all);
            self.sum_if_many(rows);
        }
    }

    fn sum_if_many(&mut self, rows: &mut Rows) {
        if self.all.len() > FEW.max(2 * self.summed) {
            self.sum(rows);
        }
    }

    fn sum(&mut self, rows: &mut Rows) {
        if self.all.len() == self.summed {
            return;
        }
        // What was summed before is a run, which this sort knows how to merge with others.
        self.all.sort_by_key(|(at, _)| *at);
        self.all.dedup_by(|(at, amount), (before, sum)| {
            let same = at == before;
            if same {
                *sum = sum.wrapping_add(*amount);
                rows.release(at.0);
            }
            same
        });
        self.all.retain(|(at, amount)| {
            if *amount == 0 {
                rows.release(at.0);
            }
            *amount != 0
        });
        self.summed = self.all.len();
        self.all.shrink_to(FEW.max(2 * self.summed));
    }
}

/// The rows of which there are amounts, by numbers, which are given anew when nothing of a row is left.
#[derive(Debug, Default)]
struct Rows {
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    kept: Vec<Kept>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Kept {
    row: Option<Counted>,
    /// How many amounts there are of it.
    amounts: usize,
    /// What the tick at hand adds, if anything.
    change: Option<Sums>,
}

/// The hash of the row that has this number.
fn hash_of(number: u32, all: &[Kept], hasher: &DefaultHashBuilder) -> u64 {
    let row = all[number as usize].row.as_ref();
    row.map_or(0, |row| hasher.hash_one(row))
}

impl Rows {
    /// Brings near what is needed to find the row with this hash.
    fn bring(&self, hash: u64) {
        let bring = |number: &u32| {
            near::bring_all(&self.kept[*number as usize]);
            false
        };
        // To look whether anything has this hash loads where it would be.
        std::hint::black_box(self.numbers.find(hash, bring));
    }

    /// The number of a row, which has this hash. Until it is released it stays, as if it were another amount.
    fn hold(&mut self, hash: u64, row: Counted) -> u32 {
        let all = &mut self.kept;
        let same = |number: &u32| all[*number as usize].row.as_ref() == Some(&row);
        if let Some(number) = self.numbers.find(hash, same) {
            all[*number as usize].amounts += 1;
            return *number;
        }
        let kept = Kept {
            row: Some(row),
            amounts: 1,
            change: None,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.kept[number as usize] = kept;
                number
            }
            None => {
                self.kept.push(kept);
                (self.kept.len() - 1) as u32
            }
        };
        let (all, hasher) = (&self.kept, &self.hasher);
        let hash_of = |number: &u32| hash_of(*number, all, hasher);
        self.numbers.insert_unique(hash, number, hash_of);
        number
    }

    /// Where an amount is added, too, since it is usual, and how much longer it is.
    fn usual(&self, at: At, of: &[Option<Usual>]) -> Option<(At, u64)> {
        let (view, _) = self.row(at.0);
        let usual = of[usize::from(*view)].filter(|usual| usual.of == at.1)?;
        Some(((at.0, usual.at), usual.longer))
    }

    fn row(&self, number: u32) -> &Counted {
        let row = &self.kept[number as usize].row;
        row.as_ref().expect("something is left of this row")
    }

    fn change(&mut self, at: At, amount: i64, changed: &mut Vec<u32>) {
        let change = &mut self.kept[at.0 as usize].change;
        let change = change.get_or_insert_with(|| {
            changed.push(at.0);
            Sums::default()
        });
        let sum = &mut change.0[usize::from(at.1)];
        *sum = sum.wrapping_add(amount);
    }

    /// The new number of each old one.
    fn renumber(&mut self) -> Vec<u32> {
        let mut next = 0;
        let new = self.kept.iter().map(|kept| {
            let number = next;
            next += u32::from(kept.row.is_some());
            number
        });
        let new: Vec<u32> = new.collect();
        self.kept.retain(|kept| kept.row.is_some());
        self.kept.shrink_to_fit();
        self.free = Vec::new();
        let numbers = self.numbers.iter_mut();
        numbers.for_each(|number| *number = new[*number as usize]);
        let (all, hasher) = (&self.kept, &self.hasher);
        let hash_of = |number: &u32| hash_of(*number, all, hasher);
        self.numbers.shrink_to_fit(hash_of);
        new
    }

    /// There is an amount less.
    fn release(&mut self, number: u32) {
        self.kept[number as usize].amounts -= 1;
        self.forget_unused(number);
    }

    fn forget_unused(&mut self, number: u32) {
        let kept = &mut self.kept[number as usize];
        if kept.amounts == 0
            && kept.change.is_none()
            && let Some(row) = kept.row.take()
        {
            let hash = self.hasher.hash_one(&row);
            if let Ok(own) = self.numbers.find_entry(hash, |own| *own == number) {
                own.remove();
            }
            self.free.push(number);
        }
    }
}

impl Window {
    /// Of these views, with nothing in it.
    #[must_use]
    pub fn new(views: &[View]) -> Window {
        Window {
            usual: views.iter().map(View::usual_of).collect(),
            rows: Rows::default(),
            entering: BTreeMap::new(),
            leaving: BTreeMap::new(),
            until: 0,
        }
    }

    /// Adds to rows. What has a sum of nothing is no entry.
    pub fn add_all<S>(&mut self, added: impl IntoIterator<Item = (Counted, S)>)
    where
        S: AsRef<[(Span, Sums)]>,
    {
        let mut added = added.into_iter().peekable();
        while added.peek().is_some() {
            // Of many rows none is near: what they need is begun to be loaded for some of them together.
            let some = added.by_ref().take(TOGETHER);
            let some = some.map(|(row, sums)| (self.rows.hasher.hash_one(&row), row, sums));
            let some: Vec<_> = some.inspect(|(hash, ..)| self.rows.bring(*hash)).collect();
            for (hash, row, sums) in some {
                self.add(hash, row, sums.as_ref());
            }
        }
    }

    fn add(&mut self, hash: u64, row: Counted, added: &[(Span, Sums)]) {
        let row = self.rows.hold(hash, row);
        for (span, sums) in added.iter().filter(|(_, sums)| !sums.is_zero()) {
            let amounts = self.entering.entry(*span).or_default();
            for (value, amount) in (0..).zip(sums.0).filter(|(_, amount)| *amount != 0) {
                amounts.push((row, value), amount, &mut self.rows);
            }
        }
        self.rows.release(row);
    }

    /// How many entries are kept: rows, and amounts that are to enter or to leave.
    #[must_use]
    pub fn len(&self) -> usize {
        let all = self.entering.values().chain(self.leaving.values());
        let amounts: usize = all.map(|amounts| amounts.all.len()).sum();
        amounts + self.rows.numbers.len()
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entering.is_empty() && self.leaving.is_empty()
    }

    /// The next tick at which something changes.
    #[must_use]
    pub fn next(&self) -> Tick {
        let entering = self.entering.keys().next().map(|(enters, _)| *enters);
        let leaving = self.leaving.keys().next().copied();
        entering
            .unwrap_or(u64::MAX)
            .min(leaving.unwrap_or(u64::MAX))
    }

    /// What changes at the next tick: rows and what is added to them.
    pub fn advance(&mut self, mut give: impl FnMut(Tick, Counted, Sums)) {
        let tick = self.next();
        let mut changed = Vec::new();
        let mut still_usual: BTreeMap<Tick, Amounts> = BTreeMap::new();
        for (at, amount) in self.leaving.remove(&tick).unwrap_or_default().all {
            self.rows.change(at, amount.wrapping_neg(), &mut changed);
            if let Some((at, longer)) = self.rows.usual(at, &self.usual) {
                let stays = still_usual.entry(tick.saturating_add(longer)).or_default();
                stays.push(at, amount, &mut self.rows);
            }
            self.rows.release(at.0);
        }
        for (leaves, amounts) in still_usual {
            let later = self.leaving.entry(leaves).or_default();
            later.append(amounts, &mut self.rows);
        }
        while let Some(first) = self.entering.first_entry() {
            let (enters, leaves) = *first.key();
            if enters != tick {
                break;
            }
            let mut entered = first.remove();
            entered.sum(&mut self.rows);
            for (at, amount) in &entered.all {
                self.rows.change(*at, *amount, &mut changed);
                if let Some((at, _)) = self.rows.usual(*at, &self.usual) {
                    self.rows.change(at, *amount, &mut changed);
                }
            }
            if !entered.all.is_empty() {
                let later = self.leaving.entry(leaves).or_default();
                later.append(entered, &mut self.rows);
            }
        }
        for number in changed {
            let change = self.rows.kept[number as usize].change.take();
            if let Some(change) = change.filter(|change| !change.is_zero()) {
                give(tick, self.rows.row(number).clone(), change);
            }
            self.rows.forget_unused(number);
        }
        if self.rows.kept.len() > MANY && self.rows.numbers.len() < self.rows.kept.len() / 8 {
            self.renumber();
        }
    }

    /// Gives the rows numbers without gaps, in the same order: of keys that are gone nothing is left.
    fn renumber(&mut self) {
        let new = self.rows.renumber();
        let all = self.entering.values_mut().chain(self.leaving.values_mut());
        for (at, _) in all.flat_map(|amounts| &mut amounts.all) {
            at.0 = new[at.0 as usize];
        }
    }

    /// What counts now.
    #[must_use]
    pub fn contents(&self) -> HashMap<Counted, Sums> {
        let mut all = vec![Sums::default(); self.rows.kept.len()];
        let mut add = |at: At, amount: i64| {
            let sum = &mut all[at.0 as usize].0[usize::from(at.1)];
            *sum = sum.wrapping_add(amount);
        };
        for (at, amount) in self.leaving.values().flat_map(|amounts| &amounts.all) {
            add(*at, *amount);
            if let Some((at, _)) = self.rows.usual(*at, &self.usual) {
                add(at, *amount);
            }
        }
        let rows = self.rows.kept.iter().zip(all);
        let rows = rows.filter(|(_, sums)| !sums.is_zero());
        rows.filter_map(|(kept, sums)| Some((kept.row.clone()?, sums)))
            .collect()
    }

    /// All that is kept, by shard of the rows: what enters (not leaving yet), and what leaves. `views` are
    /// their [`identities`].
    fn saved<'a>(&'a mut self, views: &'a [u64]) -> BTreeMap<u8, Saved<'a>> {
        let all = self.entering.values_mut().chain(self.leaving.values_mut());
        all.for_each(|amounts| amounts.sum(&mut self.rows));
        let mut shards: BTreeMap<u8, Saved<'a>> = BTreeMap::new();
        // Of each row its shard, and its place there.
        let mut places = vec![None; self.rows.kept.len()];
        let rows = &self.rows;
        let mut part = |amounts: &Amounts, shards: &mut BTreeMap<u8, Saved<'a>>| {
            let mut parts: BTreeMap<u8, Vec<(At, i64)>> = BTreeMap::new();
            for (at, amount) in &amounts.all {
                let (shard, row) = *places[at.0 as usize].get_or_insert_with(|| {
                    let row = rows.row(at.0);
                    let shard = shard_of(row.1.bytes());
                    let rows = &mut shards.entry(shard).or_default().rows;
                    rows.push(row);
                    (shard, (rows.len() - 1) as u32)
                });
                let part = parts.entry(shard).or_default();
                part.push(((row, at.1), *amount));
            }
            parts
        };
        for (stay, amounts) in &self.entering {
            for (shard, amounts) in part(amounts, &mut shards) {
                let shard = shards.entry(shard).or_default();
                shard.entering.push((*stay, amounts));
            }
        }
        for (leaves, amounts) in &self.leaving {
            for (shard, amounts) in part(amounts, &mut shards) {
                let shard = shards.entry(shard).or_default();
                shard.leaving.push((*leaves, amounts));
            }
        }
        for shard in shards.values_mut() {
            shard.until = self.until;
            shard.views = views;
        }
        shards
    }

    /// Takes in what was kept of those views that there are still, by their [`identities`].
    fn restore(&mut self, restored: Restored, views: &[u64]) {
        let renumbered = Renumbered::of(&restored.views, views);
        let rows = restored.rows.into_iter();
        let hold = |(view, key)| {
            let row = (renumbered.now(view)?, key);
            let hash = self.rows.hasher.hash_one(&row);
            Some(self.rows.hold(hash, row))
        };
        let numbers: Vec<Option<u32>> = rows.map(hold).collect();
        if numbers.iter().any(Option::is_some) {
            self.until = self.until.max(restored.until);
        }
        let own = |((row, value), amount): (At, i64)| {
            let row = numbers[row as usize]?;
            Some(((row, value), amount))
        };
        for (stay, amounts) in restored.entering {
            let entering = self.entering.entry(stay).or_default();
            for (at, amount) in amounts.into_iter().filter_map(own) {
                entering.push(at, amount, &mut self.rows);
            }
        }
        for (leaves, amounts) in restored.leaving {
            let leaving = self.leaving.entry(leaves).or_default();
            for (at, amount) in amounts.into_iter().filter_map(own) {
                leaving.push(at, amount, &mut self.rows);
            }
        }
        let held = numbers.into_iter().flatten();
        held.for_each(|row| self.rows.release(row));
    }
}

#[derive(Default, serde::Serialize)]
struct Saved<'a> {
    until: Tick,
    views: &'a [u64],
    rows: Vec<&'a Counted>,
    entering: Vec<(Span, Vec<(At, i64)>)>,
    leaving: Vec<(Tick, Vec<(At, i64)>)>,
}

#[derive(serde::Deserialize)]
struct Restored {
    until: Tick,
    views: Vec<u64>,
    rows: Vec<Counted>,
    entering: Vec<(Span, Vec<(At, i64)>)>,
    leaving: Vec<(Tick, Vec<(At, i64)>)>,
}

/// The shard of a row, by its key: it stays there whichever other views there are.
#[must_use]
pub fn shard_of(key: &[u8]) -> u8 {
    let hash = fnv(key);
    (hash ^ hash >> 32) as u8
}

/// Brings contributions to the workers that have their rows' shards, and says how the sums of all
/// rows change, step by step. `partitions` are those by which shards are dealt to workers.
///
/// At the end of input it goes on to the step of each view that the last of all was for, and no further.
pub fn window<'s>(
    views: Rc<[View]>,
    contributions: StreamVec<'s, u64, Contribution>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    mut durable: Durable,
) -> VecCollection<'s, u64, Counted, Sums> {
    let scope = contributions.scope();
    let peers = scope.peers();
    let exchange = Exchange::new(move |c: &Contribution| {
        let shard = shard_of(c.key.bytes());
        worker_of(shard, partitions, peers) as u64
    });
    let mut builder = OperatorBuilder::new("Window".to_owned(), scope);
    let mut input = builder.new_input(contributions, exchange);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output =
        OutputBuilder::<_, CapacityContainerBuilder<Vec<(Counted, u64, Sums)>>>::from(output);
    let mut state = Window::new(&views);
    let identities = identities(&views);
    durable
        .restore(FORMAT)
        .into_iter()
        .for_each(|restored| state.restore(restored, &identities));
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut cuts = Cuts::default();
        let mut begun = false;
        // What is added is of steps that may lie behind a cut. Containers are kept as they come: a
        // list of all would be copied as it grows.
        let mut found: BTreeMap<Tick, Vec<Vec<Contribution>>> = BTreeMap::new();
        move |frontiers| {
            input.for_each(|_, contributions| {
                while let Some(first) = contributions.first() {
                    let at = first.at;
                    let other = contributions.iter().position(|added| added.at != at);
                    let later = contributions.split_off(other.unwrap_or(contributions.len()));
                    let step = std::mem::replace(contributions, later);
                    found.entry(at).or_default().push(step);
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
                // What is found until a tick enters at it, or behind it: all of it is here when that is due.
                while let Some(step) = found.first_entry().filter(|step| *step.key() <= limit) {
                    let (at, added) = step.remove_entry();
                    for added in added {
                        for one in &added {
                            let step = views[usize::from(one.view)].step;
                            state.until = state.until.max(at.next_multiple_of(step));
                        }
                        state.add_all(added.into_iter().map(|one| ((one.view, one.key), one.sums)));
                    }
                }
                let last = if limit == u64::MAX {
                    state.until
                } else {
                    limit
                };
                while state.next() <= last {
                    let mut changes = Vec::new();
                    state.advance(|tick, row, sums| changes.push((row, tick, sums)));
                    if let Some((_, tick, _)) = changes.first() {
                        let cap = held.delayed(tick);
                        output.session(&cap).give_container(&mut changes);
                    }
                }
                match cut.and_then(|cut| cuts.next(cut)) {
                    // What was found in the step that ends at a tick is an effect before it.
                    Some(cut) if cut.snapshot => {
                        durable.save(cut.tick, FORMAT, state.saved(&identities));
                    }
                    Some(_) => {}
                    None => break,
                }
            }
            if until == u64::MAX {
                cap = None;
            } else {
                // All that changes at or before `until` is said, and the next is a step away.
                let next = step_end(until);
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
    use crate::views::Value;
    use differential_dataflow::difference::Semigroup;
    use proptest::prelude::*;

    /// How much longer what each view counts is usual, if anything is.
    const LONGER: [Option<u64>; 4] = [None, Some(7), Some(0), Some(9)];

    fn views() -> [View; 4] {
        LONGER.map(|longer| match longer {
            None => View::default(),
            Some(longer) => View {
                name: longer.to_string(),
                values: vec![Value::Count(None), Value::Usual, Value::Browsers],
                window: 20,
                against: Some(20 + longer),
                ..View::default()
            },
        })
    }

    /// Something that is added: to which view and key, to which value, when it enters, how long it stays,
    /// and how much it is.
    type Added = ((u16, u8), u8, u64, u64, i64);

    fn added() -> impl Strategy<Value = Added> {
        (
            (0_u16..4, 0_u8..4),
            0_u8..3,
            1_u64..30,
            1_u64..20,
            -2_i64..3,
        )
    }

    fn key(key: u8) -> Key {
        Key::of([key.to_string().as_str()])
    }

    fn add(window: &mut Window, ((view, n), value, enters, stays, amount): Added) {
        let span = (enters, enters + stays);
        let sums = Sums::one(usize::from(value), amount);
        window.add_all([((view, key(n)), vec![(span, sums)])]);
    }

    /// What a row's sums are at a tick: of the amounts that count then, and of counts the usual.
    fn sums(added: &[Added], row: (u16, u8), tick: Tick) -> Sums {
        let mut sums = Sums::default();
        for (_, value, enters, stays, amount) in added.iter().filter(|one| one.0 == row) {
            let counts = |longer| *enters <= tick && tick < enters + stays + longer;
            if counts(0) {
                sums.0[usize::from(*value)] += amount;
            }
            let longer = LONGER[usize::from(row.0)].filter(|_| *value == 0);
            if longer.is_some_and(counts) {
                sums.0[1] += amount;
            }
        }
        sums
    }

    /// What is kept of these windows, given to so many others by shard.
    fn restarted(windows: &mut [Window], workers: usize) -> Vec<Window> {
        let mut restored: Vec<Window> = (0..workers).map(|_| Window::new(&views())).collect();
        let own = identities(&views());
        for window in windows {
            for (shard, saved) in window.saved(&own) {
                let bytes = postcard::to_allocvec(&saved).unwrap();
                let saved = postcard::from_bytes(&bytes).unwrap();
                restored[usize::from(shard) % workers].restore(saved, &own);
            }
        }
        restored
    }

    proptest! {
        #[test]
        fn a_window_holds_what_has_entered_and_not_left(
            all in proptest::collection::vec(added(), 0..300),
            again in 1_usize..40,
            restart in 1_u64..40,
            workers in 1_usize..4,
        ) {
            let mut windows = vec![Window::new(&views())];
            let all: Vec<Added> = all.iter().flat_map(|one| vec![*one; again]).collect();
            // Until the restart only what was found by then.
            let (before, later): (Vec<Added>, _) = all.iter().partition(|one| one.2 <= restart + 1);
            before.iter().for_each(|one| add(&mut windows[0], *one));
            let mut shown: HashMap<Counted, Sums> = HashMap::new();
            for tick in 0..60 {
                if tick == restart {
                    windows = restarted(&mut windows, workers);
                    for one in &later {
                        let shard = shard_of(key(one.0.1).bytes());
                        add(&mut windows[usize::from(shard) % workers], *one);
                    }
                }
                for window in &mut windows {
                    while window.next() <= tick {
                        window.advance(|_, row, sums| {
                            shown.entry(row).or_default().plus_equals(&sums);
                        });
                    }
                }
                for (view, n) in (0..4).flat_map(|view| (0..4).map(move |n| (view, n))) {
                    let expected = sums(&all, (view, n), tick);
                    let row = (view, key(n));
                    prop_assert_eq!(shown.get(&row).copied().unwrap_or_default(), expected);
                    let contents = windows.iter().flat_map(Window::contents);
                    let mut own = contents.filter(|(own, _)| *own == row);
                    prop_assert_eq!(own.next().map_or(Sums::default(), |(_, sums)| sums), expected);
                }
            }
            for window in &windows {
                prop_assert_eq!((window.next(), window.len()), (u64::MAX, 0));
            }
        }

        #[test]
        fn what_is_added_again_or_taken_back_takes_no_memory(
            all in proptest::collection::vec(added(), 1..20),
            taken_back in any::<bool>(),
        ) {
            let mut window = Window::new(&views());
            for _ in 0..1_000 {
                for one in &all {
                    add(&mut window, *one);
                    if taken_back {
                        add(&mut window, (one.0, one.1, one.2, one.3, -one.4));
                    }
                }
            }
            let room: usize = window.entering.values().map(|amounts| amounts.all.capacity()).sum();
            prop_assert!(room <= window.entering.len() * 2 * FEW);
            prop_assert!(window.rows.kept.len() <= 16);
        }
    }

    /// Of a browser that comes again it is known how long it will stay; but at the end of input nobody asks
    /// for rows as of then.
    #[test]
    fn at_the_end_rows_are_as_of_the_step_of_what_was_found_last() {
        use timely::dataflow::operators::{Capture, Input, capture::Extract};
        let said = timely::example(|scope| {
            let view = View {
                step: 1_000,
                ..View::default()
            };
            let nothing: Rc<dyn crate::durable::Keeps> = Rc::new(crate::durable::Nothing);
            let durable = Durable::open("views", &nothing);
            let (mut input, stream) = scope.new_input::<Vec<Contribution>>();
            let cuts = timely::dataflow::operators::generic::operator::empty(scope);
            let rows = window([view].into(), stream, cuts, 8, durable);
            let rows = rows.inner.capture();
            for (at, n, enters, leaves) in [
                (900, 0, 1_000, 4_000),
                (1_400, 0, 4_000, 5_000),
                (1_400, 1, 2_000, 5_000),
            ] {
                let sums = [((enters, leaves), Sums::one(0, 1))].into();
                let (view, key) = (0, key(n));
                input.send(Contribution {
                    at,
                    view,
                    key,
                    sums,
                });
            }
            rows
        });
        let said = said.extract().into_iter().flat_map(|(_, rows)| rows);
        let mut said: Vec<_> = said
            .map(|((_, key), tick, sums)| (tick, key.to_string(), sums.0[0]))
            .collect();
        said.sort();
        assert_eq!(said, [(1_000, "0".into(), 1), (2_000, "1".into(), 1)]);
    }

    #[test]
    fn of_rows_of_which_nothing_is_left_nothing_is_kept() {
        let mut window = Window::new(&views());
        let mut shown: BTreeMap<Key, i64> = BTreeMap::new();
        let mut place = |n: u64, leaves, at: u64| {
            let row = (0, Key::of([n.to_string().as_str()]));
            window.add_all([(row, vec![((at + 1, leaves), Sums::one(0, 1))])]);
            while window.next() <= at {
                window.advance(|_, (_, key), sums| *shown.entry(key).or_default() += sums.0[0]);
            }
            window.rows.kept.len()
        };
        // One after another takes one place after another.
        for n in 0..1_000 {
            assert!(place(n, n + 2, n) < 4);
        }
        // A flood, which leaves but for every hundredth.
        for n in 0..10_000 {
            let leaves = if n % 100 == 0 { 9_000 } else { 3_000 };
            place(n, leaves, 2_000);
        }
        assert!(place(10_000, 9_000, 2_500) > 10_000);
        assert!(place(10_000, 9_000, 3_500) < 200);
        shown.retain(|_, count| *count != 0);
        // The last has just been added, the one before is there.
        assert_eq!(shown.len(), 101);
        assert!(shown.values().all(|count| *count == 1));
        while window.next() < u64::MAX {
            window.advance(|_, (_, key), sums| *shown.entry(key).or_default() += sums.0[0]);
        }
        shown.retain(|_, count| *count != 0);
        assert_eq!((shown.len(), window.len()), (0, 0));
    }
}
