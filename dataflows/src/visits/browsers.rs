//! The browsers of a shard that have open visits: a slab of their state, and an index into it.
//!
//! A browser keeps its slot as long as it has an open visit, so whoever knows the slot (a timer, a
//! look-up ahead of time) gets at the state with no further search. The least vacant slot is taken
//! first and vacant ones at the end are given back, so the slab shrinks again behind a burst.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::index::{Index, Secret};
use super::saved::{BrowserRow, ShardRows, VisitRow};
use super::tail::Seq;
use crate::near;
use crate::visit::{Tick, Visit};

/// No slot.
pub const NOWHERE: u32 = u32::MAX;

/// What `Browser::armed` says in a vacant slot: no timer counts there.
const VACANT: Tick = Tick::MAX;

/// A browser with open visits: two lines of the cache.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Browser {
    /// Its key.
    pub key: [u64; 2],
    /// The newest visit: the one that the next measurement may join.
    pub visit: Visit,
    /// Its last measurement in the tail.
    pub last: Seq,
    /// The tick of the timer that counts; never after the oldest visit's seal.
    pub armed: Tick,
    /// Visits before it that are not sealed yet, in order. Rare.
    #[allow(clippy::box_collection)] // Eight bytes a browser, where a vector has 24.
    pub older: Option<Box<Vec<Visit>>>,
    /// Where in the shard's IDs its own is.
    pub id: IdPlace,
    /// The number of the newest copy that has it, or that it came after; see [`Browsers::copy`].
    pub copied: u64,
}

/// Where in a shard's [`Ids`] one lies.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdPlace {
    start: u32,
    length: u32,
}

impl Browser {
    /// Its oldest visit that is not sealed.
    pub fn oldest(&self) -> &Visit {
        self.older
            .as_ref()
            .and_then(|older| older.first())
            .unwrap_or(&self.visit)
    }
}

/// The IDs of a shard's browsers, one behind the other: they are only read when something is said of
/// a visit, or when it is copied.
#[derive(Debug, Default)]
pub struct Ids {
    bytes: Vec<u8>,
    /// How many of the bytes belong to browsers that are there.
    live: usize,
}

impl Ids {
    fn add(&mut self, id: &[u8]) -> IdPlace {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(id);
        self.live += id.len();
        IdPlace {
            start,
            length: id.len() as u32,
        }
    }

    /// The ID at a place.
    #[inline]
    pub fn get(&self, place: IdPlace) -> &[u8] {
        &self.bytes[place.start as usize..][..place.length as usize]
    }
}

/// The browsers of a shard. 128 bytes each, 11 to 22 for the index, and their ID's.
#[derive(Debug)]
pub struct Browsers {
    index: Index,
    slots: Vec<Browser>,
    vacant: BinaryHeap<Reverse<u32>>,
    ids: Ids,
    /// How many copies have been begun.
    copies: u64,
    /// What the newest of them has so far, until it is taken. Many short lists: of one that grows
    /// long in each shard, all would be moved at about the same time.
    copied: Vec<ShardRows>,
}

/// So many copies of browsers are in one list.
const TOGETHER: usize = 64;

/// IDs of browsers that have gone may take as much room as those of the others, and this.
const SPARE_IDS: usize = 4 << 10;

impl Browsers {
    /// None.
    pub fn new(secret: Secret) -> Browsers {
        Browsers {
            index: Index::new(secret),
            slots: Vec::new(),
            vacant: BinaryHeap::new(),
            ids: Ids::default(),
            copies: 0,
            copied: Vec::new(),
        }
    }

    /// Adds an ID, for a browser that is then added.
    pub fn add_id(&mut self, id: &[u8]) -> IdPlace {
        self.ids.add(id)
    }

    /// Begins a copy of all browsers as they are now. It copies nothing yet: [`Browsers::copy`]
    /// does, slot by slot, and each browser is copied before that when it is about to change. So a
    /// change costs the copy of one browser at most, and what is copied is of this moment.
    pub fn begin_copy(&mut self) {
        self.copies += 1;
        self.copied.clear();
    }

    /// Goes on with the copy at a slot until it has gone over `bytes` of rows, of which it takes off
    /// what it has; the slot to go on with, `None` behind the last.
    pub fn copy(&mut self, from: usize, bytes: &mut usize) -> Option<usize> {
        for slot in from..self.slots.len() {
            if *bytes == 0 {
                return Some(slot);
            }
            let browser = &self.slots[slot];
            let mut cost = size_of::<BrowserRow>();
            if browser.armed != VACANT && browser.copied != self.copies {
                cost += browser.id.length as usize;
                let older = browser.older.as_ref();
                cost += older.map_or(0, |older| older.len() * size_of::<VisitRow>());
                self.copy_one(slot);
            }
            *bytes = bytes.saturating_sub(cost);
        }
        None
    }

    /// What is copied, without tails.
    pub fn take_copy(&mut self, shard: u8) -> impl Iterator<Item = ShardRows> {
        let copied = std::mem::take(&mut self.copied).into_iter();
        copied.map(move |rows| ShardRows { shard, ..rows })
    }

    /// Copies the browser in a slot, which is not vacant and in no copy of that number yet.
    #[cold]
    fn copy_one(&mut self, slot: usize) {
        if self
            .copied
            .last()
            .is_none_or(|rows| rows.browsers.len() == TOGETHER)
        {
            self.copied.push(ShardRows {
                browsers: Vec::with_capacity(TOGETHER),
                ..ShardRows::default()
            });
        }
        let Some(rows) = self.copied.last_mut() else {
            return;
        };
        let browser = &mut self.slots[slot];
        browser.copied = self.copies;
        let id = self.ids.get(browser.id);
        let older = browser.older.as_ref();
        rows.browsers.push(BrowserRow {
            key: browser.key,
            visit: (&browser.visit).into(),
            tail: browser.last,
            id_start: rows.ids.len() as u32,
            id_length: id.len() as u32,
            older: older.map_or(0, |older| older.len() as u32),
            spare: 0,
        });
        rows.ids.extend_from_slice(id);
        rows.older
            .extend(older.iter().flat_map(|o| o.iter()).map(VisitRow::from));
    }

    /// What may be changed is copied first, if a copy has been begun and does not have it. To be
    /// called before a browser is given to anybody who may change it, and before it is removed.
    #[inline]
    fn before_change(&mut self, slot: usize) {
        if self.slots[slot].copied != self.copies {
            self.copy_one(slot);
        }
    }

    /// Brings near where a guess at this key begins.
    #[inline]
    pub fn bring_index(&self, key: [u64; 2]) {
        self.index.bring(key);
    }

    /// A slot that probably is the browser's, without a look at it; `NOWHERE` if it has none.
    #[inline]
    pub fn guess(&self, key: [u64; 2]) -> u32 {
        self.index.candidates(key).next().unwrap_or(NOWHERE)
    }

    /// Brings a slot's state near.
    #[inline]
    pub fn bring(&self, slot: u32) {
        if let Some(browser) = self.slots.get(slot as usize) {
            near::bring(&browser.key);
            near::bring(&browser.armed);
        }
    }

    /// The slot of the browser of this key, if it has open visits. Faster with a good guess.
    #[inline]
    pub fn slot(&self, key: [u64; 2], guess: u32) -> Option<u32> {
        let there = |slot: &u32| {
            let browser = self.slots.get(*slot as usize);
            browser.is_some_and(|browser| browser.key == key && browser.armed != VACANT)
        };
        if there(&guess) {
            return Some(guess);
        }
        self.index.candidates(key).find(there)
    }

    /// The browser of this key, if it has open visits, and where its ID is found. Faster with a
    /// good guess.
    #[inline]
    pub fn find(&mut self, key: [u64; 2], guess: u32) -> Option<(&mut Browser, &Ids)> {
        let slot = self.slot(key, guess)? as usize;
        self.before_change(slot);
        Some((&mut self.slots[slot], &self.ids))
    }

    /// The browser in a slot, if it is not vacant, and where its ID is found.
    #[inline]
    pub fn at(&mut self, slot: u32) -> Option<(&mut Browser, &Ids)> {
        let slot = slot as usize;
        self.slots
            .get(slot)
            .filter(|browser| browser.armed != VACANT)?;
        self.before_change(slot);
        Some((&mut self.slots[slot], &self.ids))
    }

    /// Adds a browser that is not there; its slot.
    pub fn add(&mut self, mut browser: Browser) -> u32 {
        let key = browser.key;
        // A copy that is under way is of a moment before it came.
        browser.copied = self.copies;
        let slot = loop {
            match self.vacant.pop() {
                // A slot that was given back and taken anew may be listed still.
                Some(Reverse(slot))
                    if self
                        .slots
                        .get(slot as usize)
                        .is_none_or(|b| b.armed != VACANT) =>
                {
                    continue;
                }
                Some(Reverse(slot)) => {
                    self.slots[slot as usize] = browser;
                    break slot;
                }
                None => {
                    self.slots.push(browser);
                    break self.slots.len() as u32 - 1;
                }
            }
        };
        self.index.add(key, slot);
        slot
    }

    /// Removes the browser in a slot.
    pub fn remove(&mut self, slot: u32) {
        self.before_change(slot as usize);
        let browser = &mut self.slots[slot as usize];
        browser.armed = VACANT;
        self.ids.live -= browser.id.length as usize;
        self.index.remove(browser.key, slot);
        self.vacant.push(Reverse(slot));
        while self
            .slots
            .last()
            .is_some_and(|browser| browser.armed == VACANT)
        {
            self.slots.pop();
        }
        if self.slots.len() < self.slots.capacity() / 4 {
            let len = self.slots.len();
            self.vacant.retain(|Reverse(slot)| (*slot as usize) < len);
            self.slots.shrink_to(self.slots.len() * 2);
        }
        if self.ids.bytes.len() > 2 * self.ids.live + SPARE_IDS {
            self.compact_ids();
        }
    }

    /// Lets go of the IDs of browsers that have gone. A step of the slab, as often as they have
    /// become half of all.
    #[cold]
    fn compact_ids(&mut self) {
        let mut kept = Ids::default();
        kept.bytes.reserve(self.ids.live + self.ids.live / 2);
        for browser in self.slots.iter_mut().filter(|b| b.armed != VACANT) {
            browser.id = kept.add(self.ids.get(browser.id));
        }
        self.ids = kept;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;
    use crate::visit::Position;

    fn browser(n: u64) -> Browser {
        let at = Position {
            time: n as i64,
            event: [0, n],
        };
        Browser {
            key: [n % 7, n],
            visit: Visit::begin(at, [n, n]),
            last: n,
            armed: 1,
            older: None,
            id: IdPlace::default(),
            copied: 0,
        }
    }

    #[test]
    fn browsers_are_found_whatever_the_guess_and_keep_their_slots() {
        let mut browsers = Browsers::new(Secret::random());
        let slots: Vec<_> = (0..1_000).map(|n| browsers.add(browser(n))).collect();
        for n in (0..1_000).step_by(2) {
            browsers.remove(slots[n as usize]);
        }
        for n in 0..1_000_u64 {
            for guess in [NOWHERE, browsers.guess([n % 7, n]), slots[n as usize], 0] {
                let found = browsers
                    .find([n % 7, n], guess)
                    .map(|(b, _)| b.visit.first.time);
                assert_eq!(found, (n % 2 == 1).then_some(n as i64));
            }
            assert_eq!(browsers.at(slots[n as usize]).is_some(), n % 2 == 1);
        }
    }

    #[test]
    fn ids_stay_those_of_their_browsers_and_those_of_others_go() {
        let mut browsers = Browsers::new(Secret::random());
        let add = |browsers: &mut Browsers, n: u64| {
            let id = browsers.add_id(format!("browser-{n}").as_bytes());
            browsers.add(Browser { id, ..browser(n) })
        };
        let mut slots: Vec<_> = (0..500).map(|n| add(&mut browsers, n)).collect();
        for n in 500..20_000_u64 {
            browsers.remove(slots[n as usize % 500]);
            slots[n as usize % 500] = add(&mut browsers, n);
        }
        assert!(browsers.ids.bytes.len() < 2 * 500 * 13 + SPARE_IDS + 13);
        for n in 19_500..20_000_u64 {
            let (browser, ids) = browsers.at(slots[n as usize % 500]).unwrap();
            assert_eq!(ids.get(browser.id), format!("browser-{n}").as_bytes());
        }
    }

    /// Something done to a shard.
    #[derive(Clone, Debug)]
    enum Change {
        /// Adds the browser, or gives it another measurement.
        Take(u64),
        /// Ends an older visit of it, or the last.
        End(u64),
        Begin,
        Copy(usize),
    }

    fn change() -> impl Strategy<Value = Change> {
        prop_oneof![
            8 => (0..200_u64).prop_map(Change::Take),
            3 => (0..200_u64).prop_map(Change::End),
            1 => Just(Change::Begin),
            2 => (1..3_000_usize).prop_map(Change::Copy),
        ]
    }

    /// Visits that begin so, by browser; the newest last.
    type Model = BTreeMap<[u64; 2], Vec<u32>>;

    fn model(lists: impl Iterator<Item = ShardRows>) -> Model {
        let mut model = Model::new();
        for rows in lists {
            let mut older = &rows.older[..];
            for row in &rows.browsers {
                let (own, rest) = older.split_at(row.older as usize);
                older = rest;
                let own = own.iter().chain([&row.visit]);
                let counts = own.map(|visit| visit.count as u32).collect();
                assert_eq!(model.insert(row.key, counts), None, "copied twice");
                let id = &rows.ids[row.id_start as usize..][..row.id_length as usize];
                assert_eq!(id, long_id(row.key[1]), "with its ID");
            }
            assert_eq!((older.len(), rows.shard), (0, 5));
        }
        model
    }

    /// So long that what has gone is soon let go of.
    fn long_id(n: u64) -> Vec<u8> {
        [b"browser", n.to_string().as_bytes(), &[b'.'; 500]].concat()
    }

    proptest! {
        #[test]
        fn a_copy_is_of_the_moment_at_which_it_was_begun(changes in prop::collection::vec(change(), 1..900)) {
            let mut browsers = Browsers::new(Secret::random());
            let (mut now, mut begun) = (Model::new(), None);
            let mut next = 0;
            for change in changes.into_iter().chain([Change::Copy(usize::MAX)]) {
                match change {
                    Change::Take(n) => match browsers.find([n % 7, n], NOWHERE) {
                        Some((browser, _)) => {
                            let visits = now.get_mut(&[n % 7, n]).unwrap();
                            if browser.visit.count % 3 == 0 {
                                browser.older.get_or_insert_default().push(browser.visit);
                                visits.push(browser.visit.count);
                            }
                            browser.visit.count += 1;
                            *visits.last_mut().unwrap() += 1;
                        }
                        None => {
                            let id = browsers.add_id(&long_id(n));
                            browsers.add(Browser { id, ..browser(n) });
                            now.insert([n % 7, n], vec![1]);
                        }
                    },
                    Change::End(n) => {
                        let Some(slot) = browsers.slot([n % 7, n], NOWHERE) else {
                            continue;
                        };
                        let visits = now.get_mut(&[n % 7, n]).unwrap();
                        visits.remove(0);
                        if visits.is_empty() {
                            now.remove(&[n % 7, n]);
                            browsers.remove(slot);
                        } else {
                            let (browser, _) = browsers.at(slot).unwrap();
                            browser.older.as_mut().unwrap().remove(0);
                        }
                    }
                    Change::Begin => {
                        browsers.begin_copy();
                        (begun, next) = (Some(now.clone()), 0);
                    }
                    Change::Copy(mut bytes) => {
                        let Some(then) = &begun else {
                            continue;
                        };
                        match browsers.copy(next, &mut bytes) {
                            Some(slot) => next = slot,
                            None => {
                                prop_assert_eq!(&model(browsers.take_copy(5)), then);
                                begun = None;
                            }
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn slots_are_taken_again_and_given_back() {
        let mut browsers = Browsers::new(Secret::random());
        let slots: Vec<_> = (0..1_000).map(|n| browsers.add(browser(n))).collect();
        browsers.remove(slots[10]);
        browsers.remove(slots[5]);
        assert_eq!(
            [browsers.add(browser(2_000)), browsers.add(browser(2_001))],
            [5, 10]
        );
        for slot in &slots[20..] {
            browsers.remove(*slot);
        }
        assert!(browsers.slots.capacity() < 250);
        assert_eq!(browsers.add(browser(3_000)), 20);
        for n in [0, 19, 2_000, 2_001, 3_000] {
            assert!(browsers.find([n % 7, n], NOWHERE).is_some());
        }
    }
}
