//! The open visits of all browsers of a worker, as a plain struct: no dataflow, no clock.
//!
//! [`Open::advance`] takes the measurements of each tick as a set and tags them with their visits;
//! [`Open::seal_before`] ends what is due. What is said of a tick follows from the state before and
//! the set alone, in whatever order it came.
//!
//! Nearly every measurement is the last of its browser so far: it is tagged at once, with one
//! look-up. One that comes before another waits until the tick's others are in; then that
//! browser's tail is walked again from its place on, once, and what earlier ticks said is revised.
//! The cost of that grows with the number of that browser's measurements behind the place, not
//! with the visit, nor with anybody else's.
//!
//! A copy for a snapshot is begun at a tick and made in parts while ticks go on
//! ([`Open::begin_copy`], [`Open::copy_some`]): what is about to change is copied before, so the copy
//! is of the tick at which it was begun, and nobody waits for more than a part.
//!
//! Memory: some 200 bytes an open visit (state, index, ID, timer), 40 a measurement of the last
//! `max_delay`; see `benches/visits.rs`. From the beginning of a copy until it is written, 96 more a
//! browser with its ID, and 40 a measurement.

use std::collections::HashMap;

use super::browsers::{Browser, Browsers, NOWHERE};
use super::index::Secret;
use super::saved::{Copied, ShardRows, TailRow};
use super::tail::{Key, NONE, Seq, Tail};
use super::timers::{Timer, Timers};
use crate::step::{Place, Records, Run, Step};
use crate::visit::{EndReason, Position, Rules, Tick, Visit, visit_id};

/// So many measurements are looked up together: the processor then waits for their browsers'
/// memory once, not for each.
const TOGETHER: usize = 32;
/// So many ends are passed on together when very many are due.
const ENOUGH: usize = 4_096;

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

/// What has been said beside the tags.
#[derive(Debug, Default)]
pub struct Said {
    /// Beginnings, revisions and ends of visits, in the order of ticks; within a tick, first the
    /// ends, then the beginnings, then the revisions.
    pub lifecycle: Vec<Lifecycle>,
    /// Measurements that were there already.
    pub repeated: Vec<Place>,
}

/// The open visits.
#[derive(Debug)]
pub struct Open {
    rules: Rules,
    /// By shard.
    shards: Vec<Browsers>,
    tail: Tail,
    timers: Timers,
    visits: usize,
    copying: Option<Copying>,
    // What follows belongs to the tick at hand, and is kept for its memory only.
    /// The place in the tail of the first that the tick has added,
    first_seq: Seq,
    /// and where in the step it and those behind it are.
    places: Vec<Place>,
    /// Measurements that are not their browser's last.
    disordered: Vec<Place>,
    /// Visits that the tick has begun, each with one of its browser's measurements.
    begun: Vec<(Place, Visit)>,
    /// What the tick has revised, to be said behind what it has begun.
    revised: Vec<Lifecycle>,
    walk: Vec<Walked>,
    due: Vec<Timer>,
}

/// A copy that has been begun.
#[derive(Debug)]
struct Copying {
    at: Tick,
    /// The shard and the slot to go on with, once the tail is copied.
    next: (usize, usize),
    copied: Copied,
}

/// A step of a walk: a measurement, and what the walk says of it.
#[derive(Clone, Copy, Debug)]
struct Walked {
    at: Position,
    /// Its place in the tail; `NONE` for one that has yet to get in.
    seq: Seq,
    /// Where in the step it is, if it is of this tick.
    place: Option<Place>,
    /// Index into the new list of visits.
    visit: u32,
}

impl Open {
    /// No visits yet.
    pub fn new(rules: Rules) -> Open {
        let secret = Secret::random();
        Open {
            rules,
            shards: (0..256).map(|_| Browsers::new(secret)).collect(),
            tail: Tail::default(),
            timers: Timers::default(),
            visits: 0,
            copying: None,
            first_seq: 0,
            places: Vec::new(),
            disordered: Vec::new(),
            begun: Vec::new(),
            revised: Vec::new(),
            walk: Vec::new(),
            due: Vec::new(),
        }
    }

    /// The visits that a snapshot of tick `at` holds, for a worker that has these shards.
    ///
    /// # Panics
    /// If a row points outside of its shard's: checksums have told them from damage before.
    pub fn restore(rules: Rules, rows: &[ShardRows]) -> Open {
        let mut open = Open::new(rules);
        // The tail is one ring in order of time, so that what settles leaves at its front.
        let mut order: Vec<(i64, u32, u32)> = Vec::new();
        let mut places: Vec<Vec<Seq>> = Vec::new();
        for (shard, rows) in rows.iter().enumerate() {
            let at = |(n, row): (usize, &TailRow)| (row.at.time, shard as u32, n as u32);
            order.extend(rows.tail.iter().enumerate().map(at));
            places.push(vec![NONE; rows.tail.len()]);
        }
        // Stable by time: a browser's own stay in order.
        order.sort_by_key(|(time, ..)| *time);
        for (_, shard, n) in &order {
            let row = &rows[*shard as usize].tail[*n as usize];
            places[*shard as usize][*n as usize] = open.tail.push(Key {
                at: row.at,
                link: NONE,
                before: row.before,
            });
        }
        for (rows, places) in rows.iter().zip(&places) {
            let (mut older, mut tail) = (&rows.older[..], &places[..]);
            for row in &rows.browsers {
                let (own_older, rest) = older.split_at(row.older as usize);
                older = rest;
                let (own_tail, rest) = tail.split_at(row.tail as usize);
                tail = rest;
                for pair in own_tail.windows(2) {
                    if let Some(key) = open.tail.get_mut(pair[1]) {
                        key.link = pair[0];
                    }
                }
                let id = &rows.ids[row.id_start as usize..][..row.id_length as usize];
                let own_older: Vec<Visit> = own_older.iter().map(Visit::from).collect();
                open.visits += 1 + own_older.len();
                let browsers = &mut open.shards[usize::from(rows.shard)];
                let mut browser = Browser {
                    key: row.key,
                    visit: (&row.visit).into(),
                    last: own_tail.last().copied().unwrap_or(NONE),
                    armed: 0,
                    older: (!own_older.is_empty()).then(|| Box::new(own_older)),
                    id: browsers.add_id(id),
                    copied: 0,
                };
                let due = rules.seal_tick(browser.oldest().bound(&rules));
                browser.armed = due;
                let (slot, shard) = (browsers.add(browser), rows.shard);
                open.timers.set(due, Timer { slot, shard });
            }
        }
        open
    }

    /// Begins a copy of all there is, for a snapshot of tick `at`: all ticks before it have been
    /// taken, and all seals before it. What is taken from now on is not in it. One that has been
    /// begun and is not whole is given up.
    pub fn begin_copy(&mut self, at: Tick) {
        self.tail.begin_copy();
        self.shards.iter_mut().for_each(Browsers::begin_copy);
        self.copying = Some(Copying {
            at,
            next: (0, 0),
            copied: Copied {
                horizon: self.rules.horizon(at),
                ..Copied::default()
            },
        });
    }

    /// Whether a copy has been begun and is not whole.
    pub fn is_copying(&self) -> bool {
        self.copying.is_some()
    }

    /// Goes on with the copy that has been begun, by about `bytes`; when it is whole, the tick that
    /// it is of, and the copy.
    pub fn copy_some(&mut self, mut bytes: usize) -> Option<(Tick, Copied)> {
        let Copying { next, copied, .. } = self.copying.as_mut()?;
        if let Some(tail) = self.tail.copy(&mut bytes) {
            copied.tail = tail;
        }
        while bytes > 0
            && let Some(browsers) = self.shards.get_mut(next.0)
        {
            match browsers.copy(next.1, &mut bytes) {
                Some(slot) => next.1 = slot,
                None => {
                    copied.lists.extend(browsers.take_copy(next.0 as u8));
                    *next = (next.0 + 1, 0);
                }
            }
        }
        if next.0 < self.shards.len() {
            return None;
        }
        let Copying { at, copied, .. } = self.copying.take()?;
        Some((at, copied))
    }

    /// A copy of all there is, at once. See [`Open::begin_copy`].
    pub fn copy(&mut self, at: Tick) -> Copied {
        self.begin_copy(at);
        loop {
            if let Some((_, copied)) = self.copy_some(usize::MAX) {
                return copied;
            }
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

    /// Takes the ticks of a step: tags its measurements in place (`visit`, and `extra` for the time
    /// of the visit's first), seals what is due until then, and says what else became known. A
    /// browser's own measurements are put in order within their tick. Ticks must not go backwards.
    pub fn advance(&mut self, step: &mut Step, said: &mut Said) {
        let Step { records, runs } = step;
        let mut now = None;
        let mut rest = runs
            .iter()
            .flat_map(|run: &Run| run.places().map(|place| (run.tick, place)));
        let mut together = Vec::with_capacity(TOGETHER);
        loop {
            together.clear();
            together.extend(rest.by_ref().take(TOGETHER).map(|(tick, place)| {
                let head = records.head(place);
                self.shards[usize::from(head.shard)].bring_index(head.browser);
                (tick, place, NOWHERE)
            }));
            for (_, place, guess) in &mut together {
                let head = records.head(*place);
                *guess = self.shards[usize::from(head.shard)].guess(head.browser);
            }
            for (_, place, guess) in &together {
                let shard = records.head(*place).shard;
                self.shards[usize::from(shard)].bring(*guess);
            }
            for &(tick, place, guess) in &together {
                if now != Some(tick) {
                    if let Some(before) = now {
                        self.finish(before, records, said);
                    }
                    while self.seal_before(tick + 1, said) {}
                    self.tail.settle(self.rules.horizon(tick));
                    self.first_seq = self.tail.next();
                    now = Some(tick);
                }
                self.add(place, guess, records);
            }
            if together.len() < TOGETHER {
                break;
            }
        }
        if let Some(before) = now {
            self.finish(before, records, said);
        }
    }

    /// Ends a tick, once all of its measurements have been added.
    fn finish(&mut self, tick: Tick, records: &mut Records, said: &mut Said) {
        let mut begun = std::mem::take(&mut self.begun);
        if !self.disordered.is_empty() {
            self.walk_again(tick, records, &mut begun, said);
        }
        said.lifecycle.extend(begun.drain(..).map(|(place, visit)| {
            let record = records.record(place);
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
        self.begun = begun;
        self.places.clear();
    }

    /// Adds one measurement; if it is not the last of its browser, for later.
    #[inline]
    fn add(&mut self, place: Place, guess: u32, records: &mut Records) {
        let head = records.head_mut(place);
        let (at, rules) = (head.at, &self.rules);
        let browsers = &mut self.shards[usize::from(head.shard)];
        let Some((browser, ids)) = browsers.find(head.browser, guess) else {
            self.first_of(place, records);
            return;
        };
        let last = browser.visit.last;
        let follows = at.time > last
            || (at.time == last && self.tail.get(browser.last).is_none_or(|key| at > key.at));
        if !follows {
            self.disordered.push(place);
            return;
        }
        if browser.visit.takes(at.time, rules) {
            browser.visit.take(at.time);
        } else {
            let id = visit_id(ids.get(browser.id), at);
            let ended = std::mem::replace(&mut browser.visit, Visit::begin(at, id));
            browser.older.get_or_insert_default().push(ended);
            self.visits += 1;
            self.begun.push((place, browser.visit));
        }
        browser.last = self.tail.push(Key {
            at,
            link: browser.last,
            before: last,
        });
        (head.visit, head.extra) = (browser.visit.id, browser.visit.first.time);
        self.places.push(place);
        if browser.visit.count == rules.max_size {
            // The one case in which a measurement makes an end come earlier.
            self.arm(head.shard, head.browser, guess);
        }
    }

    /// Adds the first measurement of a browser without open visits.
    fn first_of(&mut self, place: Place, records: &mut Records) {
        let record = records.record(place);
        let (at, shard) = (record.head.at, record.head.shard);
        let visit = Visit::begin(at, visit_id(record.browser_id, at));
        let due = self.rules.seal_tick(visit.bound(&self.rules));
        let last = self.tail.push(Key {
            at,
            link: NONE,
            before: i64::MIN,
        });
        let browsers = &mut self.shards[usize::from(shard)];
        let id = browsers.add_id(record.browser_id);
        let slot = browsers.add(Browser {
            key: record.head.browser,
            visit,
            last,
            armed: due,
            older: None,
            id,
            copied: 0,
        });
        self.timers.set(due, Timer { slot, shard });
        self.visits += 1;
        self.begun.push((place, visit));
        self.places.push(place);
        let head = records.head_mut(place);
        (head.visit, head.extra) = (visit.id, visit.first.time);
    }

    /// Walks the browsers again whose measurements came out of order in this tick.
    fn walk_again(
        &mut self,
        tick: Tick,
        records: &mut Records,
        fresh: &mut Vec<(Place, Visit)>,
        said: &mut Said,
    ) {
        let mut places = std::mem::take(&mut self.disordered);
        // Of equal identities the one with the least bytes comes first, and stays.
        let order = |place: &Place| {
            let record = records.record(*place);
            (
                record.head.browser,
                record.head.at,
                record.body,
                record.head.schema,
            )
        };
        places.sort_unstable_by(|a, b| order(a).cmp(&order(b)));
        // What these browsers have begun in this tick is said anew by their walks.
        let mut begun: HashMap<[u64; 2], Vec<(Place, Visit)>> = places
            .iter()
            .map(|place| (records.head(*place).browser, vec![]))
            .collect();
        fresh.retain(
            |begin| match begun.get_mut(&records.head(begin.0).browser) {
                Some(list) => {
                    list.push(*begin);
                    false
                }
                None => true,
            },
        );
        let mut rest = &places[..];
        while let Some(first) = rest.first() {
            let browser = records.head(*first).browser;
            let own = rest.partition_point(|place| records.head(*place).browser == browser);
            let (group, others) = rest.split_at(own);
            self.walk_browser(tick, records, group, &begun[&browser], fresh, said);
            rest = others;
        }
        places.clear();
        self.disordered = places;
    }

    /// Puts the measurements of `group`, all of one browser and in order, into its tail, and walks
    /// it again from the first of them on.
    fn walk_browser(
        &mut self,
        tick: Tick,
        records: &mut Records,
        group: &[Place],
        begun: &[(Place, Visit)],
        fresh: &mut Vec<(Place, Visit)>,
        said: &mut Said,
    ) {
        let head = *records.head(group[0]);
        let (browser, ids) = self.shards[usize::from(head.shard)]
            .find(head.browser, NOWHERE)
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
            let own = seq.checked_sub(self.first_seq);
            walk.push(Walked {
                at: key.at,
                seq,
                place: own.map(|own| self.places[own as usize]),
                visit: 0,
            });
            (before, seq) = (key.before, key.link);
        }
        walk.reverse();

        // Put the new ones between.
        let held = walk.len();
        for &new in group {
            let at = records.head(new).at;
            let same = walk[..held].binary_search_by_key(&at, |step| step.at).ok();
            let same = same.or_else(|| (walk.last()?.at == at).then(|| walk.len() - 1));
            let Some(same) = same else {
                walk.push(Walked {
                    at,
                    seq: NONE,
                    place: Some(new),
                    visit: 0,
                });
                continue;
            };
            // Of two in one tick, the one with the least bytes is tagged.
            let bytes = |place: Place| {
                let record = records.record(place);
                (record.body, record.head.schema)
            };
            let repeated = match &mut walk[same].place {
                Some(old) if bytes(new) < bytes(*old) => std::mem::replace(old, new),
                _ => new,
            };
            let head = records.head_mut(repeated);
            (head.visit, head.extra) = ([0; 2], 0);
            said.repeated.push(repeated);
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
                    let id = known
                        .map_or_else(|| visit_id(ids.get(browser.id), step.at), |visit| visit.id);
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
                browser_id: ids.get(browser.id).into(),
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
        for step in walk.iter().filter(|step| step.place.is_none()) {
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
        let mut own = Vec::new();
        let mut previous = (link, before);
        for step in walk.iter_mut() {
            let visit = &visits[step.visit as usize];
            if step.seq == NONE {
                step.seq = self.tail.push(Key {
                    at: step.at,
                    link: previous.0,
                    before: previous.1,
                });
                self.places.extend(step.place);
            } else {
                let key = self
                    .tail
                    .get_mut(step.seq)
                    .expect("a step of the walk is in the tail");
                (key.link, key.before) = previous;
            }
            if let Some(place) = step.place {
                let tagged = records.head_mut(place);
                (tagged.visit, tagged.extra) = (visit.id, visit.first.time);
                own.push(place);
            }
            previous = (step.seq, step.at.time);
        }
        let mut ordered = own.clone();
        ordered.sort_unstable();
        records.permute(&own, &ordered);

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
        self.arm(head.shard, head.browser, NOWHERE);
    }

    /// Seals visits that are due before `until`, each at its own tick, in the order of ticks: all
    /// of a second at once, so many seconds that it is worth while. Whether there may be more.
    pub fn seal_before(&mut self, until: Tick, said: &mut Said) -> bool {
        let enough = said.lifecycle.len() + ENOUGH;
        let mut due = std::mem::take(&mut self.due);
        let mut more = true;
        while said.lifecycle.len() < enough {
            let Some(tick) = self.timers.pop_before(until, &mut due) else {
                more = false;
                break;
            };
            for timers in due.chunks(TOGETHER) {
                for timer in timers {
                    self.shards[usize::from(timer.shard)].bring(timer.slot);
                }
                for timer in timers {
                    self.seal(tick, *timer, said);
                }
            }
        }
        self.due = due;
        more
    }

    fn seal(&mut self, due: Tick, timer: Timer, said: &mut Said) {
        let browsers = &mut self.shards[usize::from(timer.shard)];
        while let Some((browser, ids)) = browsers.at(timer.slot) {
            if browser.armed != due {
                return;
            }
            let visit = *browser.oldest();
            let seal = self.rules.seal_tick(visit.bound(&self.rules));
            if seal > due {
                browser.armed = seal;
                self.timers.set(seal, timer);
                return;
            }
            self.visits -= 1;
            let (key, browser_id) = (browser.key, ids.get(browser.id).into());
            match &mut browser.older {
                Some(older) => {
                    older.remove(0);
                    if older.is_empty() {
                        browser.older = None;
                    }
                }
                None => browsers.remove(timer.slot),
            }
            said.lifecycle.push(Lifecycle {
                tick: due,
                shard: timer.shard,
                browser: key,
                browser_id,
                change: Change::Ended {
                    visit: visit.id,
                    started: visit.first.time,
                    last_seen: visit.last,
                    measurements: visit.count,
                    reason: visit.reason(&self.rules),
                },
            });
        }
    }

    /// Sets a browser's timer earlier, if its oldest visit's seal has become earlier.
    fn arm(&mut self, shard: u8, key: [u64; 2], guess: u32) {
        let browsers = &mut self.shards[usize::from(shard)];
        let Some(slot) = browsers.slot(key, guess) else {
            return;
        };
        let Some((browser, _)) = browsers.at(slot) else {
            return;
        };
        let due = self.rules.seal_tick(browser.oldest().bound(&self.rules));
        if due < browser.armed {
            browser.armed = due;
            self.timers.set(due, Timer { slot, shard });
        }
    }
}
