//! The chains of a visit that grows: what of its measurements has led to which, by IDs, and how often
//! what was shown was clicked and carted, by rows of views of chains. They are followed in whatever order
//! measurements come: who waits for a cause is counted on when that comes.
//!
//! Of what a page shows hardly anything is clicked. So there is no index of IDs: what was clicked is
//! looked for when it was, from one end to the other, and known from then on.

use std::hash::BuildHasher;
use std::mem::offset_of;

use differential_dataflow::difference::IsZero;
use hashbrown::{DefaultHashBuilder, HashMap, HashSet, HashTable};

use super::contributions::Fields;
use super::growing::OfVisits;
use crate::attribution::{NESTED, SHOWN, is_cart, is_order};
use crate::fact::Fact;
use crate::near;
use crate::views::{Key, SUMS, Sums};
use crate::visit::Position;

const NONE: u16 = u16::MAX;
/// Of an ID that was looked for and not found: something waits for whoever comes with it.
const MISSED: u16 = u16::MAX - 1;
/// A visit of more measurements is not followed; places and numbers have room for so many, each with a
/// cause of its own.
const MOST: usize = 30_000;
/// Nor one of more rows of chains.
const MOST_ROWS: usize = 60_000;
/// So many tags are looked at together.
const TOGETHER: usize = 64;
/// There is room for so many at first: a page shows many things at once.
const FIRST: usize = 48;

/// A measurement, as far as causes go.
#[derive(Debug)]
struct Link {
    /// Its own ID.
    id: [u64; 2],
    /// How long after the visit's first, in ms.
    after: u32,
    /// Where its cause's ID is.
    cause: u16,
    /// What it is alike to, if something was shown.
    shown: u16,
}

impl Link {
    fn is_shown(&self) -> bool {
        self.shown != NONE
    }
}

/// Things that were shown and are in the same rows: how many of them.
#[derive(Debug, Default)]
struct Alike {
    now: u32,
    counted: u32,
}

/// A measurement that was led to.
#[derive(Clone, Copy, Debug)]
struct Led {
    at: u16,
    to: To,
    /// So much of what has led to it is counted.
    counted: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Click,
    Cart,
    Order,
}

/// A row of chains: how often it was shown, clicked and carted.
#[derive(Debug)]
struct Row {
    view: u16,
    key: Key,
    now: [u32; 3],
    said: [u32; 3],
    /// The count that has met it last.
    counted: u32,
}

/// What a measurement does to chains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is one more.
    Grows,
    /// It is what others wait for, or beside what an order has come from.
    Meets,
}

/// What the things of a [kind](super::kinds) are alike to in a visit: a page shows many of one.
#[derive(Debug, Default)]
struct ByKind(Vec<(u32, u16)>);

impl ByKind {
    /// So many kinds are known at most, the latest.
    const MOST: usize = 64;

    fn get(&self, kind: u32) -> Option<u16> {
        // The latest are the likeliest.
        let mut all = self.0.iter().rev();
        all.find(|(own, _)| *own == kind).map(|(_, alike)| *alike)
    }

    fn add(&mut self, kind: u32, alike: u16) {
        if self.0.len() == ByKind::MOST {
            self.0.remove(0);
        }
        self.0.push((kind, alike));
    }
}

/// Of each of some IDs a bit is set: of nearly all others it is not.
#[derive(Debug, Default)]
struct Bits([u64; 4]);

impl Bits {
    fn place(tag: u16) -> (usize, u64) {
        (usize::from(tag >> 6) % 4, 1 << (tag % 64))
    }

    fn set(&mut self, tag: u16) {
        let (word, bit) = Bits::place(tag);
        self.0[word] |= bit;
    }

    fn may_have(&self, tag: u16) -> bool {
        let (word, bit) = Bits::place(tag);
        self.0[word] & bit != 0
    }
}

/// IDs that were looked for, and where they were found, or that they were [`MISSED`].
#[derive(Debug, Default)]
#[repr(C)]
struct Asked {
    bits: Bits,
    found: HashMap<[u64; 2], u16>,
}

impl Asked {
    #[inline]
    fn get(&self, id: [u64; 2]) -> Option<u16> {
        let maybe = self.bits.may_have(tag_of(id));
        maybe.then(|| self.found.get(&id).copied()).flatten()
    }

    fn set(&mut self, id: [u64; 2], found: u16) {
        self.bits.set(tag_of(id));
        self.found.insert(id, found);
    }
}

/// Of the IDs of a visit nearly all have another one, unless it is very long.
fn tag_of(id: [u64; 2]) -> u16 {
    let mixed = id[0].rotate_left(32) ^ id[1];
    (mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 48) as u16
}

/// The chains of a visit: some 25 bytes a measurement, and its rows. Up to what is [`Asked`] lies what each
/// measurement needs.
#[repr(C)]
pub struct Chains {
    links: Vec<Link>,
    /// Of each measurement's ID, by which it is looked for.
    tags: Vec<u16>,
    /// IDs of causes; what a page shows comes together, and all of it has been caused by the page.
    causes: Vec<[u64; 2]>,
    by_kind: ByKind,
    alike: Vec<Alike>,
    /// Where more was shown since it was counted.
    uncounted: Vec<u16>,
    /// Clicks, carts and orders that are not counted yet.
    led: Vec<Led>,
    /// The IDs of the causes of what orders came from: what else they have caused is said with them.
    beside: Vec<[u64; 2]>,
    asked: Asked,
    /// Of all that are alike and each view of chains, the row.
    of: Vec<u16>,
    /// Those of which a cause was not there, with its ID.
    waiting: Vec<([u64; 2], Led)>,
    /// Where carts and orders are among the links.
    ends: Vec<u16>,
    rows: Vec<Row>,
    places: HashTable<u16>,
    hasher: DefaultHashBuilder,
    counts: u32,
    /// Rows that have changed since they were said.
    changed: Vec<u16>,
}

impl Chains {
    /// Of nothing yet.
    pub fn new() -> Chains {
        Chains {
            links: Vec::with_capacity(FIRST),
            tags: Vec::with_capacity(FIRST),
            causes: Vec::new(),
            by_kind: ByKind::default(),
            alike: Vec::new(),
            uncounted: Vec::new(),
            led: Vec::new(),
            beside: Vec::new(),
            asked: Asked::default(),
            of: Vec::new(),
            waiting: Vec::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            counts: 0,
            changed: Vec::new(),
        }
    }

    /// Up to this byte of chains each measurement needs them.
    pub const NEEDED: usize = offset_of!(Chains, asked) + offset_of!(Asked, found);

    /// Brings near what a measurement needs of what they point to.
    pub fn bring(&self) {
        near::bring_end(&self.links);
        near::bring_end(&self.tags);
        near::bring_end(&self.causes);
        near::bring_list(&self.by_kind.0);
        near::bring_list(&self.alike);
    }

    /// Brings near what is needed to tell of them.
    pub fn bring_told(&self) {
        near::bring_list(&self.uncounted);
        near::bring_list(&self.alike);
        near::bring_list(&self.of);
        near::bring_list(&self.rows);
        near::bring_list(&self.led);
        if !self.led.is_empty() {
            near::bring_list(&self.tags);
        }
    }

    /// Some bytes more or less that they point to.
    pub fn bytes(&self) -> usize {
        let ids = self.causes.capacity() * size_of::<[u64; 2]>();
        let links =
            self.links.capacity() * size_of::<Link>() + self.tags.capacity() * size_of::<u16>();
        let asked = self.asked.found.capacity() * size_of::<([u64; 2], u16)>();
        let shown =
            self.alike.capacity() * size_of::<Alike>() + self.of.capacity() * size_of::<u16>();
        ids + links + asked + shown + self.rows.capacity() * size_of::<Row>()
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The measurement that is meant by an ID, the first that has it; from now on it is known which one
    /// that is, or that it is waited for.
    fn ask(&mut self, id: [u64; 2]) -> Option<u16> {
        let known = self.asked.get(id);
        let holder = known.unwrap_or_else(|| self.look_for(id).unwrap_or(MISSED));
        if known.is_none() {
            self.asked.set(id, holder);
        }
        (holder != MISSED).then_some(holder)
    }

    fn look_for(&self, id: [u64; 2]) -> Option<u16> {
        let tag = tag_of(id);
        let blocks = (0..).step_by(TOGETHER).zip(self.tags.chunks(TOGETHER));
        let blocks = blocks.filter(|(_, tags)| tags.contains(&tag));
        let links = blocks.flat_map(|(begin, tags)| begin..begin + tags.len());
        let own = links.filter(|at| self.links[*at].id == id);
        let first = own.min_by_key(|at| self.links[*at].after);
        first.map(|at| at as u16)
    }

    /// Takes a measurement of a visit that has begun at `started`, in ms, and has these fields. `None` if it
    /// cannot be told any more what has led to what.
    pub fn take<'f>(
        &mut self,
        fact: &Fact<'_>,
        started: i64,
        fields: impl FnOnce() -> Fields<'f>,
        of: &OfVisits,
    ) -> Option<Taken> {
        if self.links.len() >= MOST {
            return None;
        }
        let place = self.links.len() as u16;
        let after = fact.at.time.saturating_sub(started);
        let after = u32::try_from(after).ok()?;
        let mut taken = Taken::Grows;
        let id = fact.at.event;
        match self.asked.get(id) {
            Some(MISSED) => {
                self.asked.set(id, place);
                taken = Taken::Meets;
                let waited = self.waiting.extract_if(.., |(cause, _)| *cause == id);
                self.led.extend(waited.map(|(_, led)| led));
            }
            // The first that has an ID is meant by it, and another was taken for that.
            Some(holder) if after < self.links[usize::from(holder)].after => return None,
            _ => {}
        }
        if let Some(cause) = fact.cause
            && self.causes.last() != Some(&cause)
        {
            self.causes.push(cause);
        }
        let cause = fact.cause.map_or(NONE, |_| self.causes.len() as u16 - 1);
        let shown = match fact.effect == SHOWN {
            true => self.take_shown(fact, fields, of)?,
            false => NONE,
        };
        self.links.push(Link {
            id,
            after,
            cause,
            shown,
        });
        self.tags.push(tag_of(id));
        let to = if is_order(fact) {
            Some(To::Order)
        } else if is_cart(fact) {
            Some(To::Cart)
        } else {
            (fact.effect == "clicked").then_some(To::Click)
        };
        if matches!(to, Some(To::Cart | To::Order)) {
            self.ends.push(place);
        }
        self.led.extend(to.map(|to| Led {
            at: place,
            to,
            counted: 0,
        }));
        if self.is_beside() {
            taken = Taken::Meets;
        }
        Some(taken)
    }

    /// Something more was shown; what it is alike to. `None` if there is no room for more rows.
    fn take_shown<'f>(
        &mut self,
        fact: &Fact<'_>,
        fields: impl FnOnce() -> Fields<'f>,
        of: &OfVisits,
    ) -> Option<u16> {
        let kind = match of.chains.is_empty() {
            true => Some(0),
            false => of.kinds.borrow_mut().number(fact),
        };
        let known = kind.and_then(|kind| self.by_kind.get(kind));
        let at = match known {
            Some(at) => at,
            None if self.rows.len() >= MOST_ROWS => return None,
            None => {
                let at = self.alike.len() as u16;
                self.alike.push(Alike::default());
                let by_id = self.find_rows(fact, &fields(), of);
                if let Some(kind) = kind.filter(|_| !by_id) {
                    self.by_kind.add(kind, at);
                }
                at
            }
        };
        let alike = &mut self.alike[usize::from(at)];
        if alike.now == alike.counted {
            self.uncounted.push(at);
        }
        alike.now += 1;
        Some(at)
    }

    /// Finds the rows that something is in; whether which entity it is decides over them.
    fn find_rows(&mut self, fact: &Fact<'_>, fields: &Fields<'_>, of: &OfVisits) -> bool {
        let mut text = String::new();
        let mut by_id = false;
        for chain in &of.chains {
            let view = &of.views[chain.view];
            let taken =
                view.counts_agent(fields.agent) && fields.write_chain_key(view, fact, &mut text);
            let row = match taken {
                true => self.row_of(chain.view, &text),
                false => NONE,
            };
            by_id |= taken && chain.by_id;
            self.of.push(row);
        }
        by_id
    }

    /// Counts what was shown in the rows that it is in.
    fn count_shown(&mut self, of: &OfVisits) {
        let chains = of.chains.len();
        for at in std::mem::take(&mut self.uncounted) {
            let at = usize::from(at);
            let alike = &mut self.alike[at];
            let more = alike.now - std::mem::replace(&mut alike.counted, alike.now);
            for n in at * chains..(at + 1) * chains {
                if self.of[n] != NONE {
                    self.count(self.of[n], 0, more);
                }
            }
        }
    }

    /// Whether the last that it took changes what was beside that which an order has come from: that it
    /// is another, or one of them was chosen after all.
    fn is_beside(&mut self) -> bool {
        if self.beside.is_empty() {
            return false;
        }
        let last = self.links.len() - 1;
        let cause = match self.links[last].is_shown() {
            true => self.id_of_cause(last),
            false => {
                let chosen = self.cause_of(last);
                chosen.and_then(|at| self.id_of_cause(at))
            }
        };
        cause.is_some_and(|cause| self.beside.contains(&cause))
    }

    fn id_of_cause(&self, at: usize) -> Option<[u64; 2]> {
        let cause = self.links[at].cause;
        self.causes.get(usize::from(cause)).copied()
    }

    /// The measurement that has caused this one, if it is there.
    fn cause_of(&mut self, at: usize) -> Option<usize> {
        self.ask(self.id_of_cause(at)?).map(usize::from)
    }

    /// The row of this view that has this key.
    fn row_of(&mut self, n: usize, key: &str) -> u16 {
        let (rows, hasher) = (&mut self.rows, &self.hasher);
        let hash = hasher.hash_one((n as u16, key));
        let same = |at: &u16| {
            let row = &rows[usize::from(*at)];
            usize::from(row.view) == n && row.key.text() == key
        };
        if let Some(at) = self.places.find(hash, same) {
            return *at;
        }
        let at = rows.len() as u16;
        rows.push(Row {
            view: n as u16,
            key: Key::of_text(key),
            now: [0; 3],
            said: [0; 3],
            counted: 0,
        });
        let hash_of = |at: &u16| {
            let row = &rows[usize::from(*at)];
            hasher.hash_one((row.view, row.key.text()))
        };
        self.places.insert_unique(hash, at, hash_of);
        at
    }

    fn count(&mut self, row: u16, place: usize, more: u32) {
        let own = &mut self.rows[usize::from(row)];
        if own.now == own.said {
            self.changed.push(row);
        }
        own.now[place] += more;
    }

    /// Counts a click for what it was on, and for what that lay in; a cart for all that led to it. Of an
    /// order finds out what it has come from.
    fn count_led(&mut self, led: Led, of: &OfVisits) {
        self.counts += 1;
        let most = match led.to {
            To::Click => NESTED,
            To::Cart | To::Order => of.settings.longest.saturating_sub(1),
        };
        let mut at = usize::from(led.at);
        for n in 0..=most as u32 {
            let was_shown = self.links[at].is_shown();
            let Some(id) = self.id_of_cause(at) else {
                return;
            };
            let Some(cause) = self.ask(id) else {
                self.waiting.push((id, Led { counted: n, ..led }));
                return;
            };
            // The one beyond the longest chain says only that there is one.
            if n == most as u32 {
                return;
            }
            at = usize::from(cause);
            let link = &self.links[at];
            let place = match led.to {
                To::Click if !link.is_shown() => return,
                To::Click => 1,
                To::Cart => 2,
                To::Order => {
                    if link.is_shown() && !was_shown {
                        self.beside.extend(self.id_of_cause(at));
                    }
                    continue;
                }
            };
            if !link.is_shown() {
                continue;
            }
            let (alike, chains) = (usize::from(link.shown), of.chains.len());
            for place_of_row in alike * chains..(alike + 1) * chains {
                let row = self.of[place_of_row];
                if row != NONE && self.rows[usize::from(row)].counted != self.counts {
                    self.rows[usize::from(row)].counted = self.counts;
                    if n >= led.counted {
                        self.count(row, place, 1);
                    }
                }
            }
        }
    }

    /// Gives where the measurements are of which, with the visit's first, [`trace`](crate::attribution::trace)
    /// says the same of its carts as of all: these, and what has led there; and if it `has_orders` of these,
    /// too: what was shown beside that, and what that has led to. The visit has begun at `started`, and must
    /// have been told of before.
    pub fn leading(
        &mut self,
        give: &mut impl Extend<Position>,
        (started, has_orders): (i64, bool),
        longest: usize,
    ) {
        if self.ends.is_empty() {
            return;
        }
        let mut leads = vec![false; self.links.len()];
        let mut beside = HashSet::new();
        for end in 0..self.ends.len() {
            let mut next = Some(usize::from(self.ends[end]));
            // The one beyond the longest chain says that there is one.
            for _ in 0..=longest {
                let Some(at) = next else { break };
                leads[at] = true;
                let cause = self.id_of_cause(at);
                beside.extend(cause.filter(|_| has_orders && self.links[at].is_shown()));
                next = self.cause_of(at);
            }
        }
        if !beside.is_empty() {
            self.lead_beside(&beside, &mut leads);
        }
        // What has an ID that is another's is known by that one: where a chain is cut, its last link may
        // have been led on by it.
        let (mut ids, mut bits) = (HashSet::new(), Bits::default());
        for (at, link) in self.links.iter().enumerate().filter(|(at, _)| leads[*at]) {
            ids.insert(link.id);
            bits.set(self.tags[at]);
        }
        for at in 0..self.links.len() {
            let id = self.links[at].id;
            if !leads[at]
                && bits.may_have(self.tags[at])
                && ids.contains(&id)
                && let Some(first) = self.ask(id)
            {
                leads[usize::from(first)] = true;
            }
        }
        let position = |link: &Link| Position {
            time: started + i64::from(link.after),
            event: link.id,
        };
        let leading = self.links.iter().zip(leads).filter(|(_, leads)| *leads);
        give.extend(leading.map(|(link, _)| position(link)));
    }

    /// Marks what was shown for one of these causes, and what that has led to.
    fn lead_beside(&mut self, causes: &HashSet<[u64; 2]>, leads: &mut [bool]) {
        let beside: Vec<bool> = self.causes.iter().map(|id| causes.contains(id)).collect();
        let is_beside = |link: &Link| {
            let is = beside.get(usize::from(link.cause));
            link.is_shown() && is.is_some_and(|is| *is)
        };
        for (at, leads) in leads.iter_mut().enumerate() {
            let on = match self.links[at].is_shown() {
                true => Some(at),
                false => self.cause_of(at),
            };
            *leads |= on.is_some_and(|on| is_beside(&self.links[on]));
        }
    }

    /// Gives what has changed since it was last asked: the view's number, the key, and how much is added.
    pub fn tell(&mut self, of: &OfVisits, mut give: impl FnMut(usize, &str, Sums)) {
        self.count_shown(of);
        for led in std::mem::take(&mut self.led) {
            self.count_led(led, of);
        }
        for at in self.changed.drain(..) {
            let row = &mut self.rows[usize::from(at)];
            let mut sums = Sums::default();
            for (n, sum) in sums.0[..3].iter_mut().enumerate() {
                *sum = i64::from(row.now[n]) - i64::from(row.said[n]);
            }
            row.said = row.now;
            give(usize::from(row.view), row.key.text(), sums);
        }
    }

    /// Gives all that was told: the view's number, the key, and the sums.
    pub fn said(&self, mut give: impl FnMut(u16, &Key, Sums)) {
        for row in &self.rows {
            let mut sums = [0; SUMS];
            for (sum, said) in sums.iter_mut().zip(row.said) {
                *sum = i64::from(said);
            }
            if !Sums(sums).is_zero() {
                give(row.view, &row.key, Sums(sums));
            }
        }
    }
}
