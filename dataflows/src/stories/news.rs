//! News: what is added to views, summed up by row until it is told, at the end of a period.

use std::collections::HashMap;
use std::hash::BuildHasher;
use std::ops::Range;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use crate::near;
use crate::views::{Change, Entering, Key, Present, Renumbered, Span, Sums, View};
use crate::visit::Tick;

/// What is added to a row for a while, in a snapshot.
#[derive(Debug, Serialize, Deserialize)]
pub struct Added {
    pub view: u16,
    pub key: Key,
    pub span: Span,
    pub sums: Sums,
}

/// The numbers of some rows, as they were when this was kept.
pub type Numbers = Vec<(u32, u16, Key)>;

/// What is added to views. Keeps a row once while something is to be told of it, or somebody is in it.
pub struct News {
    views: Rc<[View]>,
    hasher: DefaultHashBuilder,
    numbers: HashTable<u32>,
    rows: Vec<Row>,
    /// What each is known by, apart from all else of it.
    names: Vec<Name>,
    free: Vec<u32>,
    /// Rows to which something was added since it was told.
    added: Vec<u32>,
    /// Where the sums of a span are, of rows that have many.
    spans: Spans,
    /// While what comes to each view counts.
    counts: Vec<Counts>,
    /// How often numbers were asked for.
    asked: u64,
    /// What changes in rows, while it is looked at.
    changes: Vec<(u32, Change)>,
}

/// So many rows ahead of the one that is told its sums are begun to be loaded, and the row twice as far.
const AHEAD: usize = 8;
/// So many bytes of a key are compared where they are next to each other; of more, the rest elsewhere.
const BEGIN: usize = 28;

/// What a row is known by: its view and its key.
struct Name {
    view: u16,
    length: u16,
    begin: [u8; BEGIN],
}

impl Name {
    fn of(view: u16, key: &str) -> Name {
        let key = key.as_bytes();
        let mut begin = [0; BEGIN];
        let length = key.len().min(BEGIN);
        begin[..length].copy_from_slice(&key[..length]);
        Name {
            view,
            length: key.len().min(usize::from(u16::MAX)) as u16,
            begin,
        }
    }

    /// Whether it is this one; `rest` is asked for a key that is longer than what is here.
    fn is<'k>(&self, view: u16, key: &str, rest: impl FnOnce() -> &'k str) -> bool {
        let length = key.len().min(BEGIN);
        self.view == view
            && usize::from(self.length) == key.len().min(usize::from(u16::MAX))
            && self.begin[..length] == key.as_bytes()[..length]
            && (key.len() <= BEGIN || rest() == key)
    }
}

/// What is added to a row.
struct Row {
    view: u16,
    key: Key,
    sums: SmallVec<[(Span, Sums); 1]>,
    /// How many entries of browsers there are: it has its number while there are any.
    entries: usize,
    is_added: bool,
    /// When its number was asked for last.
    asked: u64,
}

impl Row {
    /// Something is added to it; each is in the list once.
    fn mark(&mut self, number: u32, added: &mut Vec<u32>) {
        if !std::mem::replace(&mut self.is_added, true) {
            added.push(number);
        }
    }
}

/// So many spans of a row are looked through.
const FEW: usize = 8;

/// Where the sums of a span are in rows that have [more](FEW): a row of visits has as many as there are
/// steps in its window, which nobody should walk along for each addition.
#[derive(Default)]
struct Spans {
    hasher: DefaultHashBuilder,
    /// The row, its span, and its place there.
    places: HashTable<(u32, Span, u32)>,
}

impl Spans {
    /// Adds to the sums of a row, which has this number.
    fn add(&mut self, number: u32, row: &mut Row, span: Span, sums: Sums) {
        match self.find(number, row, span) {
            Some(at) => row.sums[at].1.plus_equals(&sums),
            None => {
                row.sums.push((span, sums));
                match row.sums.len() - 1 {
                    at if at > FEW => self.note(number, row, at),
                    FEW => (0..=FEW).for_each(|at| self.note(number, row, at)),
                    _ => {}
                }
            }
        }
    }

    fn find(&self, number: u32, row: &Row, span: Span) -> Option<usize> {
        if row.sums.len() <= FEW {
            // The latest are the likeliest.
            return row.sums.iter().rposition(|(own, _)| *own == span);
        }
        let hash = self.hasher.hash_one((number, span));
        let same = |(of, own, _): &(u32, Span, u32)| (*of, *own) == (number, span);
        let place = self.places.find(hash, same);
        place.map(|(.., at)| *at as usize)
    }

    fn note(&mut self, number: u32, row: &Row, at: usize) {
        let hasher = &self.hasher;
        let hash_of = |(number, span, _): &(u32, Span, u32)| hasher.hash_one((number, span));
        let place = (number, row.sums[at].0, at as u32);
        self.places.insert_unique(hash_of(&place), place, hash_of);
    }
}

/// While something counts in a view, which is the same for all that is of one step and is found in one:
/// to find it out takes three divisions.
#[derive(Clone, Default)]
struct Counts {
    found: Tick,
    times: Range<i64>,
    span: Option<Span>,
}

impl Counts {
    fn find(&mut self, view: &View, at: Tick, time: i64) -> Option<Span> {
        if self.found != at || !self.times.contains(&time) {
            let since = i64::try_from(view.since).unwrap_or(i64::MAX);
            if time < since {
                return None;
            }
            let step = view.step as i64;
            let begins = time - time % step;
            self.found = at;
            self.times = begins.max(since)..begins.saturating_add(step);
            self.span = view.counts(view.window, at, time);
        }
        self.span
    }
}

impl News {
    /// None yet, of these views.
    pub fn new(views: Rc<[View]>) -> News {
        News {
            hasher: DefaultHashBuilder::default(),
            numbers: HashTable::new(),
            rows: Vec::new(),
            names: Vec::new(),
            free: Vec::new(),
            added: Vec::new(),
            spans: Spans::default(),
            counts: vec![Counts::default(); views.len()],
            asked: 0,
            changes: Vec::new(),
            views,
        }
    }

    /// How many rows something is to be told of.
    pub fn len(&self) -> usize {
        self.added.len()
    }

    /// Adds to a row of this number something that is of this `time` and was found `at`: to its sums, and
    /// how often a browser is in it, of which it is said what enters, for [`News::settle`].
    pub fn add(
        &mut self,
        number: u32,
        (at, time): (Tick, i64),
        sums: Sums,
        browser: Option<(&mut Vec<Entering>, i64)>,
    ) {
        let row = &mut self.rows[number as usize];
        let view = &self.views[usize::from(row.view)];
        let counts = self.counts[usize::from(row.view)].find(view, at, time);
        let still_usual = || view.still_usual(at, time, &sums);
        let Some((span, sums)) = counts.map(|span| (span, sums)).or_else(still_usual) else {
            return;
        };
        row.mark(number, &mut self.added);
        if !sums.is_zero() {
            self.spans.add(number, row, span, sums);
        }
        if let Some((span, (entering, times))) = counts.zip(browser) {
            entering.push(Entering {
                row: number,
                span,
                times,
            });
        }
    }

    /// Adds what enters to the rows in which a browser is, and forgets what has left by `now`. All that
    /// enters was found in one step of the views, and it must be settled before what is added is
    /// [taken](News::take). Nothing is left of it.
    pub fn settle(&mut self, now: Tick, present: &mut Present, entering: &mut Vec<Entering>) {
        if entering.is_empty() {
            return;
        }
        entering
            .iter()
            .for_each(|entering| self.bring(entering.row));
        entering
            .iter()
            .for_each(|entering| self.bring_sums(entering.row));
        let (views, rows) = (&self.views, &self.rows);
        let view = |row: u32| &views[usize::from(rows[row as usize].view)];
        let mut changes = std::mem::take(&mut self.changes);
        let give = |row, change| changes.push((row, change));
        present.add(now, entering, |row| view(row).window, give);
        for (number, change) in changes.drain(..) {
            let row = &mut self.rows[number as usize];
            match change {
                Change::Kept => row.entries += 1,
                Change::Gone => self.release(number),
                Change::Counts(span, once) => {
                    let value = self.views[usize::from(row.view)].browsers();
                    self.spans.add(number, row, span, Sums::one(value, once));
                    row.mark(number, &mut self.added);
                }
            }
        }
        self.changes = changes;
    }

    /// Forgets the rows that a browser has left by `now`.
    pub fn leave(&mut self, now: Tick, present: &mut Present) {
        present.leave(now, |row| self.release(row));
    }

    /// There is one entry less of a row.
    fn release(&mut self, number: u32) {
        self.rows[number as usize].entries -= 1;
        self.forget_unused(number);
    }

    /// The number of a row, which it has until what is added is [taken](News::take), and as long as
    /// somebody is in it. Costs a look-up.
    pub fn number(&mut self, view: u16, key: &str) -> u32 {
        self.number_of(self.hash(view, key), view, key)
    }

    /// The hash of a row, for [`News::number_of`].
    pub fn hash(&self, view: u16, key: &str) -> u64 {
        self.hasher.hash_one((view, key))
    }

    /// The [number](News::number) of a row with this hash.
    pub fn number_of(&mut self, hash: u64, view: u16, key: &str) -> u32 {
        let (rows, names) = (&self.rows, &self.names);
        let same = |number: &u32| {
            let n = *number as usize;
            names[n].is(view, key, || rows[n].key.text())
        };
        if let Some(number) = self.numbers.find(hash, same) {
            return *number;
        }
        let row = Row {
            view,
            key: Key::of_text(key),
            sums: SmallVec::new(),
            entries: 0,
            is_added: true,
            asked: 0,
        };
        let number = match self.free.pop() {
            Some(number) => {
                self.rows[number as usize] = row;
                self.names[number as usize] = Name::of(view, key);
                number
            }
            None => {
                self.rows.push(row);
                self.names.push(Name::of(view, key));
                (self.rows.len() - 1) as u32
            }
        };
        let (rows, hasher) = (&self.rows, &self.hasher);
        let hash_of = |number: &u32| {
            let row = &rows[*number as usize];
            hasher.hash_one((row.view, row.key.text()))
        };
        self.numbers.insert_unique(hash, number, hash_of);
        self.added.push(number);
        number
    }

    /// Brings near what is needed to find the row with this hash.
    pub fn bring_name(&self, hash: u64) {
        let bring = |number: &u32| {
            near::bring(&self.names[*number as usize]);
            false
        };
        // To look whether anything has this hash loads where it would be.
        std::hint::black_box(self.numbers.find(hash, bring));
    }

    /// Brings near a row,
    pub fn bring(&self, number: u32) {
        near::bring_all(&self.rows[number as usize]);
    }

    /// and what an addition to it needs.
    pub fn bring_sums(&self, number: u32) {
        let sums = &self.rows[number as usize].sums;
        let first = sums.len().saturating_sub(FEW / 2);
        sums[first..].iter().for_each(near::bring);
        near::bring_end(sums);
    }

    /// Forgets a row if nothing is to be told of it and nobody is in it.
    fn forget_unused(&mut self, number: u32) {
        let row = &mut self.rows[number as usize];
        if row.is_added || row.entries > 0 {
            return;
        }
        let hash = self.hasher.hash_one((row.view, row.key.text()));
        if let Ok(own) = self.numbers.find_entry(hash, |own| *own == number) {
            own.remove();
            row.key = Key::default();
            row.sums = SmallVec::new();
            self.free.push(number);
        }
    }

    /// Gives all that is added, by row: its view, its key, and how much while. Nothing is left to be told.
    pub fn take(&mut self, mut give: impl FnMut(u16, &Key, SmallVec<[(Span, Sums); 1]>)) {
        let added = std::mem::take(&mut self.added);
        self.spans.places.clear();
        for (n, number) in added.iter().copied().enumerate() {
            // Of many rows none is near: first the row comes, then its sums.
            if let Some(next) = added.get(n + 2 * AHEAD) {
                self.bring(*next);
            }
            if let Some(next) = added.get(n + AHEAD) {
                self.bring_sums(*next);
            }
            let row = &mut self.rows[number as usize];
            row.is_added = false;
            row.sums.retain(|(_, sums)| !sums.is_zero());
            if !row.sums.is_empty() {
                give(row.view, &row.key, std::mem::take(&mut row.sums));
            }
            self.forget_unused(number);
        }
    }

    /// All that is to be told.
    pub fn added(&self) -> impl Iterator<Item = Added> {
        let rows = self.added.iter().map(|number| &self.rows[*number as usize]);
        rows.flat_map(|row| {
            let sums = row.sums.iter().filter(|(_, sums)| !sums.is_zero());
            sums.map(|(span, sums)| Added {
                view: row.view,
                key: row.key.clone(),
                span: *span,
                sums: *sums,
            })
        })
    }

    /// The numbers of the rows that these browsers are in.
    pub fn numbers<'p>(&mut self, present: impl Iterator<Item = &'p Present>) -> Numbers {
        self.asked += 1;
        let mut numbers = Numbers::new();
        for number in present.flat_map(Present::rows) {
            let row = &mut self.rows[number as usize];
            if std::mem::replace(&mut row.asked, self.asked) != self.asked {
                numbers.push((number, row.view, row.key.clone()));
            }
        }
        numbers
    }

    /// Takes in what was to be told, of views that there are still.
    pub fn restore(&mut self, added: &Added, renumbered: &Renumbered) {
        let Some(view) = renumbered.now(added.view) else {
            return;
        };
        let number = self.number(view, added.key.text());
        let row = &mut self.rows[number as usize];
        row.mark(number, &mut self.added);
        self.spans.add(number, row, added.span, added.sums);
    }

    /// Takes in in which rows browsers were, by the numbers that these had, of views that there are still.
    pub fn restore_present<'p>(
        &mut self,
        (kept, renumbered): (&Numbers, &Renumbered),
        present: impl Iterator<Item = &'p mut Present>,
    ) {
        let numbers = kept.iter().map(|(number, view, key)| {
            let view = renumbered.now(*view);
            (*number, view.map(|view| self.number(view, key.text())))
        });
        let numbers: HashMap<u32, Option<u32>> = numbers.collect();
        for present in present {
            present.renumber(|number| numbers[&number]);
            for row in present.rows() {
                self.rows[row as usize].entries += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::views::{Value, identities};

    const STEP: Tick = 1_000;

    fn views() -> Rc<[View]> {
        let counts = View {
            values: vec![Value::Count(None), Value::Usual, Value::Browsers],
            window: 2_000,
            step: STEP,
            against: Some(5_000),
            ..View::default()
        };
        let others = View {
            values: vec![Value::Count(None)],
            against: None,
            // Within a step.
            since: 9_500,
            ..counts.clone()
        };
        [counts, others].into()
    }

    /// Something that is added: to which view and row, how long after the one before, of which time, how
    /// much; and by which browser, if it counts.
    type One = (usize, u8, u64, i64, i64, Option<u8>);

    fn added() -> impl Strategy<Value = Vec<One>> {
        let gap = prop_oneof![3 => Just(0), 1 => 0_u64..2_500];
        let one = (
            0..2_usize,
            0..3_u8,
            gap,
            -3_000..500_i64,
            -1..3_i64,
            prop::option::of(0..3_u8),
        );
        prop::collection::vec(one, 0..200)
    }

    proptest! {
        /// What is told, summed up by step, is what was added and counts there; a browser counts once.
        #[test]
        fn news_are_the_sums_of_what_was_added(
            all in added(), tells in prop::collection::vec(any::<bool>(), 200), restart in 0..200_usize,
        ) {
            let views = views();
            let mut news = News::new(views.clone());
            let mut told: HashMap<(usize, u8, Tick), Sums> = HashMap::new();
            let mut sums: HashMap<(usize, u8, Tick), Sums> = HashMap::new();
            let mut browsers: HashMap<(u8, u8, Tick), Vec<(Span, i64)>> = HashMap::new();
            let mut at = 10 * STEP;
            let (mut present, mut entering) = (vec![Present::default(); 3], vec![vec![]; 3]);
            let settle = |news: &mut News, at, present: &mut [Present], entering: &mut [Vec<Entering>]| {
                let own = present.iter_mut().zip(entering);
                own.for_each(|(present, entering)| news.settle(at, present, entering));
            };
            let tell = |news: &mut News, told: &mut HashMap<_, Sums>| news.take(|view, key, added| {
                let row = key.text().parse().unwrap();
                for ((enters, leaves), sums) in added {
                    assert!(!sums.is_zero());
                    let mut put = |leaves, sums: Sums| {
                        for step in (enters..leaves).step_by(STEP as usize) {
                            told.entry((usize::from(view), row, step)).or_default().plus_equals(&sums);
                        }
                    };
                    put(leaves, sums);
                    // What is counted is usual for longer.
                    if view == 0 {
                        put(leaves + 3_000, Sums::one(1, sums.0[0]));
                    }
                }
            });
            for (n, (view, row, gap, off, amount, browser)) in all.into_iter().enumerate() {
                if (at + gap).div_ceil(STEP) > at.div_ceil(STEP) {
                    settle(&mut news, at, &mut present, &mut entering);
                }
                at += gap;
                if n == restart {
                    settle(&mut news, at, &mut present, &mut entering);
                    let own = identities(&views);
                    let same = Renumbered::of(&own, &own);
                    let mut again = News::new(views.clone());
                    news.added().for_each(|added| again.restore(&added, &same));
                    let numbers = news.numbers(present.iter());
                    again.restore_present((&numbers, &same), present.iter_mut());
                    news = again;
                }
                let (time, text) = (at as i64 + off, row.to_string());
                let number = news.number(view as u16, &text);
                let own = Sums::one(0, amount);
                let browser = browser.filter(|_| view == 0);
                let of_browser = browser.map(|name| &mut entering[usize::from(name)]);
                news.add(number, (at, time), own, of_browser.map(|entering| (entering, amount)));
                let span = |window| views[view].counts(window, at, time);
                let mut put = |window, amount: Sums| {
                    for step in span(window).map(|(enters, leaves)| enters..leaves).into_iter().flatten().step_by(STEP as usize) {
                        sums.entry((view, row, step)).or_default().plus_equals(&amount);
                    }
                };
                put(2_000, own);
                if view == 0 {
                    put(5_000, Sums::one(1, amount));
                }
                if let (Some(name), Some(span)) = (browser, span(2_000)) {
                    for step in (span.0..span.1).step_by(STEP as usize) {
                        browsers.entry((name, row, step)).or_default().push((span, amount));
                    }
                }
                if tells[n] {
                    settle(&mut news, at, &mut present, &mut entering);
                    tell(&mut news, &mut told);
                    news.leave(at, &mut present[n % 3]);
                }
            }
            settle(&mut news, at, &mut present, &mut entering);
            tell(&mut news, &mut told);
            for ((_, row, step), own) in browsers {
                let mut ends: HashMap<Tick, i64> = HashMap::new();
                own.iter().for_each(|((_, leaves), times)| *ends.entry(*leaves).or_default() += times);
                if ends.values().any(|times| *times > 0) {
                    sums.entry((0, row, step)).or_default().plus_equals(&Sums::one(2, 1));
                }
            }
            told.retain(|_, sums| !sums.is_zero());
            sums.retain(|_, sums| !sums.is_zero());
            prop_assert_eq!(told, sums);
            // Once all has left, nothing is kept of anything.
            present.iter_mut().for_each(|present| news.leave(at + 100 * STEP, present));
            prop_assert_eq!((news.len(), news.free.len()), (0, news.rows.len()));
        }
    }
}
