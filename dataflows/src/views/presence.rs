//! Who is in which rows: a browser counts in a row once, for as long as anything of it counts there.
//! Who watches the browsers knows that of each, so that what rows are told are plain sums, and no names.

use serde::{Deserialize, Serialize};

use crate::near;
use crate::visit::Tick;

/// While something counts: the first of the view's steps at which it does, and the first at which it does
/// not any more.
pub type Span = (Tick, Tick);

/// How often a browser comes to be in a row, or less often; and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entering {
    /// The row.
    pub row: u32,
    /// When, as [`View::counts`](super::View::counts) says.
    pub span: Span,
    /// How often.
    pub times: i64,
}

/// How often a browser is in a row until the same tick: 16 bytes, since hundreds are gone through each
/// time it is told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Stay {
    row: u32,
    leaves: Tick,
    times: i32,
}

/// What changes in a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is one entry more of it.
    Kept,
    /// There is one less.
    Gone,
    /// It counts one browser more for a time, or one less.
    Counts(Span, i64),
}

/// In which rows a browser is, and how often. Rows go by numbers that are the caller's, who counts their
/// entries to know when a number is free.
///
/// Keeps an entry (16 bytes) for each row and step of the window in which something was added. What is
/// added together costs a look at all of them, and a copy.
///
/// ```
/// use visitflow_dataflows::views::{Change, Entering, Present};
/// let (mut ann, mut said) = (Present::default(), Vec::new());
/// let mut add = |now, span, times| {
///     let mut entering = vec![Entering { row: 0, span, times }];
///     ann.add(now, &mut entering, |_| 60_000, |row, change| said.push((row, change)));
/// };
/// // In the first row of a window of a minute, and once more ten seconds later.
/// add(10_000, (10_000, 70_000), 1);
/// add(20_000, (20_000, 80_000), 1);
/// // It was not there the first time, after all; at 30,000 it is still for the second.
/// add(30_000, (30_000, 70_000), -1);
/// assert_eq!(said, [
///     (0, Change::Kept), (0, Change::Counts((10_000, 70_000), 1)),
///     (0, Change::Kept), (0, Change::Counts((70_000, 80_000), 1)),
///     (0, Change::Gone),
/// ]);
/// ```
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Present {
    /// By row, and by when they leave.
    stays: Vec<Stay>,
    /// None leaves before this, if it is known in this run.
    #[serde(skip)]
    earliest: Tick,
}

impl Present {
    /// Adds what enters, all of it found by `now` in one step of the view; forgets what has left by then. `window` says how long
    /// the window of a row is, and `give` hears what changes in rows. Nothing is left of what enters.
    pub fn add(
        &mut self,
        now: Tick,
        entering: &mut Vec<Entering>,
        window: impl Fn(u32) -> u64,
        mut give: impl FnMut(u32, Change),
    ) {
        entering.sort_unstable_by_key(|entering| (entering.row, entering.span.1));
        let before = std::mem::take(&mut self.stays);
        let all_stay = self.earliest > now || before.iter().all(|stay| stay.leaves > now);
        if self.earliest <= now {
            let left = before.iter().map(|stay| stay.leaves);
            let later = left.filter(|leaves| *leaves > now).min();
            self.earliest = later.unwrap_or(Tick::MAX);
        }
        let first = entering.iter().map(|entering| entering.span.1).min();
        self.earliest = self.earliest.min(first.unwrap_or(Tick::MAX));
        let mut before = Before {
            all_stay,
            rest: &before,
            now,
        };
        let mut stays = Vec::with_capacity(before.rest.len() + entering.len());
        for of_row in entering.chunk_by(|a, b| a.row == b.row) {
            let row = of_row[0].row;
            before.stay(|stay| stay.row < row, &mut stays, &mut give);
            let first = stays.len();
            before.stay(|stay| stay.row == row, &mut stays, &mut give);
            let window = window(row);
            for of_end in of_row.chunk_by(|a, b| a.span.1 == b.span.1) {
                let times = of_end.iter().map(|entering| entering.times).sum();
                let entering = Entering { times, ..of_end[0] };
                add(&mut stays, first, entering, window, &mut give);
            }
        }
        before.stay(|_| true, &mut stays, &mut give);
        entering.clear();
        self.stays = stays;
    }

    /// Brings near where the entries begin; what follows comes by itself.
    pub(crate) fn bring(&self) {
        if let Some(first) = self.stays.first() {
            near::bring(first);
        }
    }

    /// Forgets what has left by `now`; gives the rows of the entries that are gone.
    pub fn leave(&mut self, now: Tick, mut gone: impl FnMut(u32)) {
        self.stays.retain(|stay| {
            let stays = stay.leaves > now;
            if !stays {
                gone(stay.row);
            }
            stays
        });
    }

    /// Gives the rows other numbers; it is no more in those that have none.
    pub fn renumber(&mut self, number: impl Fn(u32) -> Option<u32>) {
        self.stays
            .retain_mut(|stay| number(stay.row).map(|own| stay.row = own).is_some());
        self.stays
            .sort_unstable_by_key(|stay| (stay.row, stay.leaves));
    }

    /// The rows of the entries.
    pub fn rows(&self) -> impl Iterator<Item = u32> {
        self.stays.iter().map(|stay| stay.row)
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.stays.len()
    }

    /// Whether it is in no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stays.is_empty()
    }
}

/// The stays that there were, as far as nobody has gone through them.
struct Before<'a> {
    rest: &'a [Stay],
    now: Tick,
    /// Whether none has left by now, as most often.
    all_stay: bool,
}

impl Before<'_> {
    /// Those of the next that `are` so stay, if they have not left.
    fn stay(
        &mut self,
        are: impl Fn(&Stay) -> bool,
        stays: &mut Vec<Stay>,
        give: &mut impl FnMut(u32, Change),
    ) {
        let others = self.rest.iter().position(|stay| !are(stay));
        let (those, rest) = self.rest.split_at(others.unwrap_or(self.rest.len()));
        self.rest = rest;
        if self.all_stay {
            stays.extend_from_slice(those);
            return;
        }
        for stay in those {
            if stay.leaves > self.now {
                stays.push(*stay);
            } else {
                give(stay.row, Change::Gone);
            }
        }
    }
}

/// Adds to the stays in a row, which begin at `first` and are the last.
///
/// All of them last for the length of the window, so that only two others say when the browser is in the
/// row anyhow: the one that leaves last before this one's end, and the first that leaves after it.
fn add(
    stays: &mut Vec<Stay>,
    first: usize,
    entering: Entering,
    window: u64,
    give: &mut impl FnMut(u32, Change),
) {
    let Entering { row, span, times } = entering;
    let (enters, leaves) = span;
    if times == 0 {
        return;
    }
    let n = first + stays[first..].partition_point(|stay| stay.leaves < leaves);
    let is_new = stays.get(n).is_none_or(|stay| stay.leaves != leaves);
    if is_new {
        give(row, Change::Kept);
        let times = 0;
        stays.insert(n, Stay { row, leaves, times });
    }
    let before = stays[n].times;
    // In one row and step it has fewer measurements than 2^31.
    let after = before.wrapping_add(times as i32);
    stays[n].times = after;
    let once = i64::from(after > 0) - i64::from(before > 0);
    if once != 0 {
        let is_there = |stay: &&Stay| stay.times > 0;
        let earlier = stays[first..n].iter().rev().find(is_there);
        let until = earlier.map_or(enters, |stay| stay.leaves.max(enters));
        let later = stays[n + 1..].iter().find(is_there);
        let begins = |stay: &Stay| stay.leaves.saturating_sub(window).max(enters);
        let from = later.map_or(leaves, |stay| begins(stay).min(leaves));
        if until < from {
            give(row, Change::Counts((until, from), once));
        }
    }
    if after == 0 {
        give(row, Change::Gone);
        stays.remove(n);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::views::View;

    /// In which row, how long after the one before, of which time, and how often.
    type Added = (u32, u64, i64, i64);

    fn added() -> impl Strategy<Value = Vec<Added>> {
        let gap = prop_oneof![4 => Just(0_u64), 4 => 1_u64..30, 1 => 30_u64..200];
        prop::collection::vec((0_u32..3, gap, -40_i64..30, -1_i64..3), 0..120)
    }

    proptest! {
        /// A browser is in a row at a step if anything of it counts there, however it came to that.
        #[test]
        fn a_browser_counts_once_while_anything_of_it_counts(
            all in added(), leaves in prop::collection::vec(any::<bool>(), 120), restart in 0_usize..120,
        ) {
            let view = View { window: 50, step: 10, ..View::default() };
            let mut present = Present::default();
            let mut entries = [0_i64; 3];
            // How often rows count it, by what was said; and what was added, by row.
            let mut said: HashMap<(u32, Tick), i64> = HashMap::new();
            let mut counts: HashMap<u32, Vec<(Span, i64)>> = HashMap::new();
            let (mut at, mut until) = (100, 100);
            let mut entering = Vec::new();
            for (n, (row, gap, off, times)) in all.into_iter().enumerate() {
                // At the end of each step what enters is added together.
                let now = (at + gap).next_multiple_of(view.step);
                if now > until {
                    present.add(until, &mut entering, |_| view.window, |row, change| match change {
                        Change::Kept => entries[row as usize] += 1,
                        Change::Gone => entries[row as usize] -= 1,
                        Change::Counts((from, to), once) => {
                            assert!(until <= from && from < to);
                            for step in (from..to).step_by(10) {
                                *said.entry((row, step)).or_default() += once;
                            }
                        }
                    });
                    prop_assert_eq!(entries.iter().sum::<i64>(), present.len() as i64);
                }
                // What was said of steps that are over stays said; what is to come is told anew.
                for (step, row) in (until..now).step_by(10).flat_map(|step| (0..3).map(move |row| (step, row))) {
                    let own = counts.get(&row).into_iter().flatten();
                    let mut ends: HashMap<Tick, i64> = HashMap::new();
                    let here = own.filter(|((enters, leaves), _)| (*enters..*leaves).contains(&step));
                    here.for_each(|((_, leaves), times)| *ends.entry(*leaves).or_default() += times);
                    let expected = i64::from(ends.values().any(|times| *times > 0));
                    prop_assert_eq!(said.get(&(row, step)).copied().unwrap_or(0), expected);
                }
                at += gap;
                until = until.max(now);
                if n == restart {
                    let bytes = postcard::to_allocvec(&present).unwrap();
                    present = postcard::from_bytes(&bytes).unwrap();
                    present.renumber(|row| Some(2 - row));
                    present.renumber(|row| Some(2 - row));
                }
                if leaves[n] {
                    present.leave(now, |row| entries[row as usize] -= 1);
                }
                let Some(span) = view.counts(view.window, at, at as i64 + off) else { continue };
                entering.push(Entering { row, span, times });
                counts.entry(row).or_default().push((span, times));
            }
            let mut gone = |row, change| if change == Change::Kept { entries[row as usize] += 1 }
                else if change == Change::Gone { entries[row as usize] -= 1 };
            present.add(until, &mut entering, |_| view.window, &mut gone);
            present.add(until + 1_000, &mut entering, |_| view.window, &mut gone);
            prop_assert!(present.is_empty());
            prop_assert_eq!(entries, [0; 3]);
        }
    }
}
