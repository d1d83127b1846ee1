//! The open visits of all browsers of a worker, as a plain struct: no dataflow, no clock.
//!
//! [`Open::apply`] takes the measurements of one tick as a set and says to which visit each
//! belongs; [`Open::seal_before`] ends what is due. What they say follows from the state before
//! and the set alone, in whatever order it came.
//!
//! Nearly every measurement is the last of its browser so far: it is tagged at once, with one
//! look-up. One that comes before another waits until the tick's others are in; then that
//! browser's tail is walked again from its place on, once, and what earlier ticks said is revised.
//! The cost of that grows with the number of that browser's measurements behind the place, not
//! with the visit, nor with anybody else's.
//!
//! Memory: some 200 bytes an open visit (state, ID, timer), 40 a measurement of the last
//! `max_delay`; see `benches/visits.rs`.

use std::collections::HashMap;

use hashbrown::HashTable;

use super::tail::{Key, NONE, Seq, Tail};
use super::timers::{Timer, Timers};
use crate::batch::{Batch, Head};
use crate::visit::{EndReason, Position, Rules, Tick, Visit, visit_id};

/// A browser with open visits.
#[derive(Debug)]
struct Browser {
    key: [u64; 2],
    /// The newest visit: the one that the next measurement may join.
    visit: Visit,
    /// Visits before it that are not sealed yet, in order. Rare.
    #[allow(clippy::box_collection)] // Eight bytes a browser, where a vector has 24.
    older: Option<Box<Vec<Visit>>>,
    /// The browser's ID, for what is said of its visits.
    id: Box<[u8]>,
    /// Its last measurement in the tail.
    last: Seq,
    /// The tick of the timer that counts; never after the oldest visit's seal.
    armed: Tick,
}

impl Browser {
    fn oldest(&self) -> &Visit {
        self.older
            .as_ref()
            .and_then(|older| older.first())
            .unwrap_or(&self.visit)
    }
}

/// Something that became known of a visit.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lifecycle {
    /// The tick at which it did.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// The browser's key.
    pub browser: [u64; 2],
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// What.
    pub change: Change,
}

/// What became known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// A visit has begun.
    Started {
        /// The visit.
        visit: [u64; 2],
        /// The event time of its first measurement.
        started: i64,
    },
    /// Measurements of one visit are now another's: those of the browser at positions from `first`
    /// on and before `until`. A visit that has lost all of its measurements is no more; nothing
    /// else is said of it.
    Revised {
        /// The visit that had them.
        from: [u64; 2],
        /// The event time of its first measurement, as it was.
        from_started: i64,
        /// The visit that has them.
        into: [u64; 2],
        /// The event time of its first measurement.
        into_started: i64,
        /// The first of them.
        first: Position,
        /// Right behind the last of them.
        until: Position,
    },
    /// A visit is sealed: nothing that is still to come can change it.
    Ended {
        /// The visit.
        visit: [u64; 2],
        /// The event time of its first measurement.
        started: i64,
        /// The event time of its last.
        last_seen: i64,
        /// How many it has.
        measurements: u32,
        /// Why.
        reason: EndReason,
    },
}

/// What has been said, in order.
#[derive(Debug, Default)]
pub struct Said {
    /// Tagged heads: `visit` is set, `extra` is the time of the visit's first measurement.
    pub tagged: Vec<Head>,
    /// Heads of measurements that were there already.
    pub repeated: Vec<Head>,
    /// Beginnings, revisions and ends of visits.
    pub lifecycle: Vec<Lifecycle>,
}

/// The open visits.
#[derive(Debug)]
pub struct Open {
    rules: Rules,
    /// Browsers by shard.
    shards: Vec<HashTable<Browser>>,
    tail: Tail,
    timers: Timers,
    visits: usize,
    // What follows belongs to the tick at hand, and is kept for its memory only.
    /// For each key that the tick has added to the tail, its place in `Said::tagged`.
    places: Vec<u32>,
    /// Measurements that are not their browser's last: indexes into the batch.
    disordered: Vec<u32>,
    /// Visits that the tick has begun: index of the first's head, the visit.
    begun: Vec<(u32, Visit)>,
    /// What the tick has revised, to be said behind what it has begun.
    revised: Vec<Lifecycle>,
    walk: Vec<Step>,
}

/// A step of a walk: a measurement, and what the walk says of it.
#[derive(Clone, Copy, Debug)]
struct Step {
    at: Position,
    /// Its place in the tail; `NONE` for one that has yet to get in.
    seq: Seq,
    /// For such a one, its index into the batch.
    head: u32,
    /// Index into the new list of visits.
    visit: u32,
}

impl Open {
    /// No visits yet.
    pub fn new(rules: Rules) -> Open {
        Open {
            rules,
            shards: (0..256).map(|_| HashTable::new()).collect(),
            tail: Tail::default(),
            timers: Timers::default(),
            visits: 0,
            places: Vec::new(),
            disordered: Vec::new(),
            begun: Vec::new(),
            revised: Vec::new(),
            walk: Vec::new(),
        }
    }

    /// How many visits are open: begun and not sealed.
    pub fn visits(&self) -> usize {
        self.visits
    }

    /// How many measurements may still be preceded or repeated.
    pub fn tail(&self) -> usize {
        self.tail.len()
    }

    /// Applies all measurements of a tick. `order` are indexes of their heads in `batch`; ticks
    /// must not go backwards, and what is due at this tick must have been sealed.
    pub fn apply(&mut self, tick: Tick, batch: &Batch, order: &[u32], said: &mut Said) {
        self.tail.settle(self.rules.horizon(tick));
        self.places.clear();
        self.begun.clear();
        let first_seq = self.tail.next();
        for &index in order {
            self.add(index, batch, said);
        }
        let mut fresh = std::mem::take(&mut self.begun);
        if !self.disordered.is_empty() {
            self.walk_again(tick, first_seq, batch, &mut fresh, said);
        }
        said.lifecycle.extend(fresh.iter().map(|(index, visit)| {
            let record = batch.record(&batch.heads()[*index as usize]);
            Lifecycle {
                tick,
                shard: record.head.shard,
                browser: record.head.browser,
                browser_id: record.browser_id.into(),
                change: Change::Started {
                    visit: visit.id,
                    started: visit.first.time,
                },
            }
        }));
        said.lifecycle.append(&mut self.revised);
        self.begun = fresh;
    }

    /// Adds one measurement; if it is not the last of its browser, for later.
    #[inline]
    fn add(&mut self, index: u32, batch: &Batch, said: &mut Said) {
        let head = &batch.heads()[index as usize];
        let (at, rules) = (head.at, &self.rules);
        let table = &mut self.shards[usize::from(head.shard)];
        let browser = table.find_mut(head.browser[0], |b| b.key == head.browser);
        let visit = match browser {
            Some(browser) => {
                let last = browser.visit.last;
                let follows = at.time > last
                    || (at.time == last
                        && self.tail.get(browser.last).is_none_or(|key| at > key.at));
                if !follows {
                    self.disordered.push(index);
                    return;
                }
                if browser.visit.takes(at.time, rules) {
                    browser.visit.take(at.time);
                    if browser.visit.count == rules.max_size {
                        // The one case in which a measurement makes an end come earlier.
                        arm(browser, head.shard, rules, &mut self.timers);
                    }
                } else {
                    let id = visit_id(&browser.id, at);
                    let ended = std::mem::replace(&mut browser.visit, Visit::begin(at, id));
                    browser.older.get_or_insert_default().push(ended);
                    self.visits += 1;
                    self.begun.push((index, browser.visit));
                }
                browser.last = self.tail.push(Key {
                    at,
                    link: browser.last,
                    before: last,
                });
                browser.visit
            }
            None => {
                let id = batch.record(head).browser_id;
                let visit = Visit::begin(at, visit_id(id, at));
                let armed = rules.seal_tick(visit.bound(rules));
                let last = self.tail.push(Key {
                    at,
                    link: NONE,
                    before: i64::MIN,
                });
                let browser = Browser {
                    key: head.browser,
                    visit,
                    older: None,
                    id: id.into(),
                    last,
                    armed,
                };
                table.insert_unique(head.browser[0], browser, |b| b.key[0]);
                self.timers.set(
                    armed,
                    Timer {
                        browser: head.browser,
                        shard: head.shard,
                    },
                );
                self.visits += 1;
                self.begun.push((index, visit));
                visit
            }
        };
        self.places.push(said.tagged.len() as u32);
        said.tagged.push(Head {
            visit: visit.id,
            extra: visit.first.time,
            ..*head
        });
    }

    /// Walks the browsers again whose measurements came out of order in this tick.
    fn walk_again(
        &mut self,
        tick: Tick,
        first_seq: Seq,
        batch: &Batch,
        fresh: &mut Vec<(u32, Visit)>,
        said: &mut Said,
    ) {
        let heads = batch.heads();
        let mut indexes = std::mem::take(&mut self.disordered);
        // Of equal identities the one with the least bytes comes first, and stays.
        let order = |index: &u32| {
            let record = batch.record(&heads[*index as usize]);
            (
                record.head.browser,
                record.head.at,
                record.body,
                record.head.schema,
            )
        };
        indexes.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        // What these browsers have begun in this tick is said anew by their walks.
        let mut begun: HashMap<[u64; 2], Vec<(u32, Visit)>> = indexes
            .iter()
            .map(|index| (heads[*index as usize].browser, vec![]))
            .collect();
        fresh.retain(
            |begin| match begun.get_mut(&heads[begin.0 as usize].browser) {
                Some(list) => {
                    list.push(*begin);
                    false
                }
                None => true,
            },
        );
        for group in
            indexes.chunk_by(|a, b| heads[*a as usize].browser == heads[*b as usize].browser)
        {
            let begun = &begun[&heads[group[0] as usize].browser];
            self.walk_browser(tick, first_seq, batch, group, begun, fresh, said);
        }
        indexes.clear();
        self.disordered = indexes;
    }

    /// Puts the measurements of `group`, all of one browser and in order, into its tail, and walks
    /// it again from the first of them on.
    #[allow(clippy::too_many_arguments)]
    fn walk_browser(
        &mut self,
        tick: Tick,
        first_seq: Seq,
        batch: &Batch,
        group: &[u32],
        begun: &[(u32, Visit)],
        fresh: &mut Vec<(u32, Visit)>,
        said: &mut Said,
    ) {
        let heads = batch.heads();
        let head = heads[group[0] as usize];
        let table = &mut self.shards[usize::from(head.shard)];
        let browser = table
            .find_mut(head.browser[0], |b| b.key == head.browser)
            .expect("a browser whose measurement came out of order has one before it");

        // What the tail holds from the least of the new ones on, from the last backwards.
        let least = head.at;
        let walk = &mut self.walk;
        walk.clear();
        let (mut before, mut link, mut seq) = (browser.visit.last, NONE, browser.last);
        while let Some(key) = self.tail.get(seq) {
            if key.at < least {
                (before, link) = (key.at.time, seq);
                break;
            }
            walk.push(Step {
                at: key.at,
                seq,
                head: 0,
                visit: 0,
            });
            (before, seq) = (key.before, key.link);
        }
        walk.reverse();

        // Put the new ones between.
        let held = walk.len();
        for &index in group {
            let head = &heads[index as usize];
            let same = walk[..held]
                .binary_search_by_key(&head.at, |step| step.at)
                .ok();
            let same = same
                .map(|i| walk[i])
                .or_else(|| walk[held..].last().copied().filter(|s| s.at == head.at));
            let Some(same) = same else {
                walk.push(Step {
                    at: head.at,
                    seq: NONE,
                    head: index,
                    visit: 0,
                });
                continue;
            };
            // Tagged in this very tick: of the two, the one with the least bytes is tagged.
            let mut repeated = *head;
            if same.seq != NONE && same.seq >= first_seq {
                let place = &mut said.tagged[self.places[(same.seq - first_seq) as usize] as usize];
                let (new, old) = (batch.record(head), batch.record(place));
                if (new.body, head.schema) < (old.body, place.schema) {
                    repeated = Head {
                        visit: [0; 2],
                        extra: 0,
                        ..*place
                    };
                    *place = Head {
                        visit: place.visit,
                        extra: place.extra,
                        ..*head
                    };
                }
            }
            said.repeated.push(repeated);
        }
        if walk.len() == held {
            fresh.extend_from_slice(begun);
            return;
        }
        walk.sort_unstable_by_key(|step| step.at);

        // The visits as they were, and the fold's state right before the first step.
        let old: Vec<Visit> = browser
            .older
            .iter()
            .flat_map(|older| older.iter())
            .chain([&browser.visit])
            .copied()
            .collect();
        let start = walk[0].at;
        let kept = old.partition_point(|visit| visit.first < start);
        let mut visits = old[..kept].to_vec();
        if let Some(visit) = visits.last_mut() {
            let next = old.get(kept).map(|visit| visit.first);
            let steps = walk
                .iter()
                .filter(|s| s.seq != NONE && next.is_none_or(|next| s.at < next))
                .count();
            visit.count -= steps as u32;
            visit.last = before;
        }
        for step in walk.iter_mut() {
            match visits.last_mut() {
                Some(visit) if visit.takes(step.at.time, &self.rules) => visit.take(step.at.time),
                _ => {
                    let known = old.iter().find(|visit| visit.first == step.at);
                    let id = known.map_or_else(|| visit_id(&browser.id, step.at), |visit| visit.id);
                    visits.push(Visit::begin(step.at, id));
                }
            }
            step.visit = visits.len() as u32 - 1;
        }

        // What earlier ticks have said and is no longer so.
        let mut range: Option<(Visit, Visit, Position, Position)> = None;
        let mut revise = |range: Option<(Visit, Visit, Position, Position)>| {
            let Some((from, into, first, last)) = range else {
                return;
            };
            self.revised.push(Lifecycle {
                tick,
                shard: head.shard,
                browser: head.browser,
                browser_id: browser.id.clone(),
                change: Change::Revised {
                    from: from.id,
                    from_started: from.first.time,
                    into: into.id,
                    into_started: into.first.time,
                    first,
                    until: last.next(),
                },
            });
        };
        for step in walk
            .iter()
            .filter(|step| step.seq != NONE && step.seq < first_seq)
        {
            let from = old[old.partition_point(|visit| visit.first <= step.at) - 1];
            let into = visits[step.visit as usize];
            match &mut range {
                Some((f, i, _, last))
                    if f.id == from.id && i.id == into.id && from.id != into.id =>
                {
                    *last = step.at
                }
                _ => {
                    let changed = from.id != into.id;
                    revise(std::mem::replace(
                        &mut range,
                        changed.then_some((from, into, step.at, step.at)),
                    ));
                }
            }
        }
        revise(range);

        // The tick's own measurements get their tags now, and leave in order.
        let mut places = Vec::new();
        let mut own = Vec::new();
        let mut previous = (link, before);
        for step in walk.iter_mut() {
            let visit = &visits[step.visit as usize];
            let place = if step.seq == NONE {
                let key = Key {
                    at: step.at,
                    link: previous.0,
                    before: previous.1,
                };
                step.seq = self.tail.push(key);
                said.tagged.push(heads[step.head as usize]);
                self.places.push(said.tagged.len() as u32 - 1);
                Some(said.tagged.len() - 1)
            } else {
                let key = self
                    .tail
                    .get_mut(step.seq)
                    .expect("a step of the walk is in the tail");
                (key.link, key.before) = previous;
                let own = step.seq.checked_sub(first_seq);
                own.map(|own| self.places[own as usize] as usize)
            };
            if let Some(place) = place {
                let tagged = &mut said.tagged[place];
                (tagged.visit, tagged.extra) = (visit.id, visit.first.time);
                places.push(place);
                own.push(*tagged);
            }
            previous = (step.seq, step.at.time);
        }
        places.sort_unstable();
        for (place, tagged) in places.into_iter().zip(own) {
            said.tagged[place] = tagged;
        }

        // Begun now: what was not there before this tick.
        for visit in &visits {
            let was = old.iter().any(|old| old.id == visit.id)
                && !begun.iter().any(|(_, begun)| begun.id == visit.id);
            if !was {
                fresh.push((group[0], *visit));
            }
        }
        self.visits = self.visits + visits.len() - old.len();
        browser.last = previous.0;
        browser.visit = visits
            .pop()
            .expect("a walk of at least one step has a visit");
        browser.older = (!visits.is_empty()).then(|| Box::new(visits));
        arm(browser, head.shard, &self.rules, &mut self.timers);
    }

    /// Seals the visits that are due before `until`, each at its own tick, in the order of ticks.
    pub fn seal_before(&mut self, until: Tick, said: &mut Said) {
        while let Some((due, timers)) = self.timers.pop_before(until) {
            for timer in timers {
                self.seal(due, timer, said);
            }
        }
    }

    fn seal(&mut self, due: Tick, timer: Timer, said: &mut Said) {
        let table = &mut self.shards[usize::from(timer.shard)];
        let Ok(mut entry) = table.find_entry(timer.browser[0], |b| b.key == timer.browser) else {
            return;
        };
        let browser = entry.get_mut();
        if browser.armed != due {
            return;
        }
        loop {
            let visit = *browser.oldest();
            let seal = self.rules.seal_tick(visit.bound(&self.rules));
            if seal > due {
                browser.armed = seal;
                self.timers.set(seal, timer);
                return;
            }
            said.lifecycle.push(Lifecycle {
                tick: due,
                shard: timer.shard,
                browser: timer.browser,
                browser_id: browser.id.clone(),
                change: Change::Ended {
                    visit: visit.id,
                    started: visit.first.time,
                    last_seen: visit.last,
                    measurements: visit.count,
                    reason: visit.reason(&self.rules),
                },
            });
            self.visits -= 1;
            match &mut browser.older {
                Some(older) => {
                    older.remove(0);
                    if older.is_empty() {
                        browser.older = None;
                    }
                }
                None => {
                    entry.remove();
                    if table.len() < table.capacity() / 8 && table.capacity() > 64 {
                        table.shrink_to(table.len() * 2, |b| b.key[0]);
                    }
                    return;
                }
            }
        }
    }
}

/// Sets the browser's timer earlier, if its oldest visit's seal has become earlier.
fn arm(browser: &mut Browser, shard: u8, rules: &Rules, timers: &mut Timers) {
    let due = rules.seal_tick(browser.oldest().bound(rules));
    if due < browser.armed {
        browser.armed = due;
        timers.set(
            due,
            Timer {
                browser: browser.key,
                shard,
            },
        );
    }
}
