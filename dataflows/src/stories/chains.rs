//! The chains of a visit that grows: what of its measurements has led to which, by IDs, and how often
//! what was shown was clicked and carted, by rows of views of chains. They are followed in whatever order
//! measurements come: who waits for a cause is counted on when that comes.

use std::hash::BuildHasher;

use differential_dataflow::difference::IsZero;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::contributions::Fields;
use super::growing::OfVisits;
use crate::attribution::{NESTED, SHOWN, is_cart, is_order};
use crate::fact::{Agent, Fact};
use crate::near;
use crate::views::{Key, SUMS, Sums};
use crate::visit::Position;

const NONE: u16 = u16::MAX;
/// Of an ID that was looked for and not found: something waits for whoever comes with it.
const MISSED: u16 = u16::MAX - 1;
/// A visit of more measurements is not followed; places and numbers have room for so many, each with a
/// cause of its own.
const MOST: usize = 30_000;
/// There is room for so many at first: a page shows many things at once.
const FIRST: usize = 48;
/// Nor one of more rows of chains.
const MOST_ROWS: usize = 60_000;

/// A measurement, as far as causes go.
#[derive(Debug)]
struct Link {
    /// How long after the visit's first, in ms.
    after: u32,
    /// The number of its own ID.
    own: u16,
    /// The number of its cause's ID.
    cause: u16,
    is_shown: bool,
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

/// The chains of a visit: some 50 bytes a measurement, and its rows.
pub struct Chains {
    /// IDs of measurements and of causes, by which they are known by number.
    ids: Vec<[u64; 2]>,
    numbers: HashTable<u16>,
    /// Of each ID, its measurement.
    holders: Vec<u16>,
    /// The number of the last cause.
    cause: u16,
    links: Vec<Link>,
    /// Of each measurement and view of chains, its row.
    of: Vec<u16>,
    /// Clicks, carts and orders that are not counted yet.
    led: Vec<Led>,
    /// Those of which a cause was not there, with its number.
    waiting: Vec<(u16, Led)>,
    /// Where carts and orders are among the links.
    ends: Vec<u16>,
    rows: Vec<Row>,
    places: HashTable<u16>,
    hasher: DefaultHashBuilder,
    counts: u32,
    /// Rows that have changed since they were said.
    changed: Vec<u16>,
    /// The numbers of the causes of what orders came from: what else they have caused is said with them.
    beside: Vec<u16>,
}

impl Chains {
    /// Of nothing yet.
    pub fn new(of: &OfVisits) -> Chains {
        Chains {
            ids: Vec::with_capacity(FIRST),
            numbers: HashTable::with_capacity(FIRST),
            holders: Vec::with_capacity(FIRST),
            cause: NONE,
            links: Vec::with_capacity(FIRST),
            of: Vec::with_capacity(FIRST * of.chains.len()),
            led: Vec::new(),
            waiting: Vec::new(),
            ends: Vec::new(),
            rows: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            counts: 0,
            changed: Vec::new(),
            beside: Vec::new(),
        }
    }

    /// Brings near what a measurement with this ID needs.
    pub fn bring(&self, id: [u64; 2]) {
        near::bring_end(&self.ids);
        near::bring_end(&self.holders);
        near::bring_end(&self.links);
        near::bring_end(&self.of);
        // To look whether anything has its hash loads where it would be.
        let hash = self.hasher.hash_one(id);
        std::hint::black_box(self.numbers.find(hash, |_| false));
    }

    /// Whether it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn number(&mut self, id: [u64; 2]) -> u16 {
        let (ids, hasher) = (&self.ids, &self.hasher);
        let hash = hasher.hash_one(id);
        let same = |n: &u16| ids[usize::from(*n)] == id;
        if let Some(n) = self.numbers.find(hash, same) {
            return *n;
        }
        let n = ids.len() as u16;
        let hash_of = |n: &u16| hasher.hash_one(ids[usize::from(*n)]);
        self.numbers.insert_unique(hash, n, hash_of);
        self.ids.push(id);
        self.holders.push(NONE);
        n
    }

    /// The number of a cause. What a page shows comes together, and all of it has been caused by the page.
    fn number_of_cause(&mut self, id: [u64; 2]) -> u16 {
        if self.ids.get(usize::from(self.cause)) != Some(&id) {
            self.cause = self.number(id);
        }
        self.cause
    }

    /// Takes a measurement of a visit with these fields. `None` if it cannot be told any more what has led
    /// to what.
    pub fn take(&mut self, fact: &Fact<'_>, fields: &Fields<'_>, of: &OfVisits) -> Option<Taken> {
        if self.links.len() >= MOST || self.rows.len() >= MOST_ROWS {
            return None;
        }
        let place = self.links.len() as u16;
        let after = fact.at.time.saturating_sub(fields.started);
        let after = u32::try_from(after).ok()?;
        let mut taken = Taken::Grows;
        let own = usize::from(self.number(fact.at.event));
        match self.holders[own] {
            NONE => self.holders[own] = place,
            MISSED => {
                self.holders[own] = place;
                taken = Taken::Meets;
                let waited = |(id, _): &mut (u16, Led)| usize::from(*id) == own;
                let waited = self.waiting.extract_if(.., waited);
                self.led.extend(waited.map(|(_, led)| led));
            }
            // The first that has an ID is meant by it.
            holder if after < self.links[usize::from(holder)].after => return None,
            _ => {}
        }
        let cause = fact.cause.map_or(NONE, |id| self.number_of_cause(id));
        let is_shown = fact.effect == SHOWN;
        self.links.push(Link {
            after,
            own: own as u16,
            cause,
            is_shown,
        });
        let mut key = String::new();
        for n in &of.chains {
            let view = &of.views[*n];
            let row = match is_shown
                && (!view.people || fields.agent == Agent::Person)
                && fields.write_chain_key(view, fact, &mut key)
            {
                true => self.row_of(*n, &key),
                false => NONE,
            };
            self.of.push(row);
            if row != NONE {
                self.count(row, 0);
            }
        }
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

    /// Whether the last that it took changes what was beside that which an order has come from: that it
    /// is another, or one of them was chosen after all.
    fn is_beside(&self) -> bool {
        let Some(link) = self.links.last().filter(|_| !self.beside.is_empty()) else {
            return false;
        };
        let cause = if link.is_shown {
            Some(link.cause)
        } else {
            let holder = self.holders.get(usize::from(link.cause));
            let chosen = holder.and_then(|at| self.links.get(usize::from(*at)));
            chosen.map(|chosen| chosen.cause)
        };
        cause.is_some_and(|cause| self.beside.contains(&cause))
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

    fn count(&mut self, row: u16, place: usize) {
        let own = &mut self.rows[usize::from(row)];
        if own.now == own.said {
            self.changed.push(row);
        }
        own.now[place] += 1;
    }

    /// The measurement that has caused this one, if it is there.
    fn cause_of(&mut self, at: u16) -> Option<u16> {
        let cause = self.links[usize::from(at)].cause;
        let holder = self.holders.get_mut(usize::from(cause))?;
        if *holder == NONE {
            *holder = MISSED;
        }
        (*holder < MISSED).then_some(*holder)
    }

    /// Counts a click for what it was on, and for what that lay in; a cart for all that led to it. Of an
    /// order finds out what it has come from.
    fn count_led(&mut self, led: Led, of: &OfVisits) {
        self.counts += 1;
        let most = match led.to {
            To::Click => NESTED,
            To::Cart | To::Order => of.settings.longest.saturating_sub(1),
        };
        let mut at = led.at;
        for n in 0..=most as u32 {
            let was_shown = self.links[usize::from(at)].is_shown;
            let Some(cause) = self.cause_of(at) else {
                let id = self.links[usize::from(at)].cause;
                let counted = n;
                if id != NONE {
                    self.waiting.push((id, Led { counted, ..led }));
                }
                return;
            };
            // The one beyond the longest chain says only that there is one.
            if n == most as u32 {
                return;
            }
            at = cause;
            let link = &self.links[usize::from(at)];
            let place = match led.to {
                To::Click if !link.is_shown => return,
                To::Click => 1,
                To::Cart => 2,
                To::Order => {
                    if link.is_shown && !was_shown && link.cause != NONE {
                        self.beside.push(link.cause);
                    }
                    continue;
                }
            };
            let chains = of.chains.len();
            for view in 0..chains {
                let row = self.of[usize::from(at) * chains + view];
                if row != NONE && self.rows[usize::from(row)].counted != self.counts {
                    self.rows[usize::from(row)].counted = self.counts;
                    if n >= led.counted {
                        self.count(row, place);
                    }
                }
            }
        }
    }

    /// Where the measurements are, in order, of which [`trace`](crate::attribution::trace) says the same of its
    /// orders as of all: `first`, carts and orders, what has led there, what was shown beside that, and
    /// what that has led to. It must have been told of before.
    pub fn leading(&self, first: Position, longest: usize) -> Vec<Position> {
        let cause_of = |link: &Link| {
            let holder = self.holders.get(usize::from(link.cause)).copied();
            holder.map(usize::from).filter(|at| *at < self.links.len())
        };
        let mut leads = vec![false; self.links.len()];
        let mut beside = vec![false; self.ids.len()];
        for end in &self.ends {
            let mut next = Some(usize::from(*end));
            // The one beyond the longest chain says that there is one.
            for _ in 0..=longest {
                let Some(at) = next else { break };
                leads[at] = true;
                let link = &self.links[at];
                if link.is_shown && link.cause != NONE {
                    beside[usize::from(link.cause)] = true;
                }
                next = cause_of(link);
            }
        }
        let is_beside = |link: &Link| {
            link.is_shown
                && beside
                    .get(usize::from(link.cause))
                    .is_some_and(|beside| *beside)
        };
        for (link, leads) in self.links.iter().zip(&mut leads) {
            let on = cause_of(link).filter(|_| !link.is_shown);
            *leads |= is_beside(link) || on.is_some_and(|on| is_beside(&self.links[on]));
        }
        // What has an ID that is another's is known by that one.
        for at in 0..leads.len() {
            if leads[at] {
                leads[usize::from(self.holders[usize::from(self.links[at].own)])] = true;
            }
        }
        let position = |link: &Link| Position {
            time: first.time + i64::from(link.after),
            event: self.ids[usize::from(link.own)],
        };
        let leading = self.links.iter().zip(leads).filter(|(_, leads)| *leads);
        let mut leading: Vec<Position> = leading.map(|(link, _)| position(link)).collect();
        leading.push(first);
        leading.sort_unstable();
        leading.dedup();
        leading
    }

    /// Gives what has changed since it was last asked: the view's number, the key, and how much is added.
    pub fn tell(&mut self, of: &OfVisits, mut give: impl FnMut(usize, &str, Sums)) {
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
