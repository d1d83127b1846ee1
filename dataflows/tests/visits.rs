//! Visits are those of the plain walk, whatever the order of arrival, the steps and the workers.

use std::collections::{BTreeMap, BTreeSet};

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;

use proptest::prelude::*;
use timely::dataflow::operators::{Input, Probe, probe};
use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
use visitflow_dataflows::complete::{Complete, Measurements, NoStore, Payloads};
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::{EndReason, Position, Rules, Tick, browser_key, visit_id};
use visitflow_dataflows::visits::saved::{Copied, ShardRows};
use visitflow_dataflows::visits::{Change, Lifecycle, Open, Said, visits};

const RULES: Rules = Rules {
    inactivity: 3_000,
    max_length: 9_000,
    max_size: 4,
    max_delay: 4_000,
    max_lag: 1_000,
};

#[derive(Clone, Debug)]
struct Arrival {
    tick: Tick,
    browser: u8,
    at: Position,
    body: u8,
}

/// Arrivals that a source would accept: none lies before its tick's horizon.
fn arrivals() -> impl Strategy<Value = Vec<Arrival>> {
    let gap = prop_oneof![8 => 0..3_u64, 2 => 3..40_u64, 1 => 40..200_u64];
    let one = (
        gap,
        0..3_u8,
        prop_oneof![3 => 0..1_500_i64, 2 => 0..5_000_i64, 1 => 4_900..7_000_i64],
        0..3_u64,
        0..3_u8,
    );
    prop::collection::vec(one, 1..120).prop_map(|steps| {
        let mut tick = 10_000;
        steps
            .into_iter()
            .map(|(gap, browser, back, event, body)| {
                tick += gap * 100;
                // From the horizon to a little ahead, in coarse steps, so that positions repeat.
                let time =
                    (tick as i64 + 1_000 - back).max(tick as i64 - RULES.max_lag - RULES.max_delay);
                let time = (time + 99) / 100 * 100;
                Arrival {
                    tick,
                    browser,
                    at: Position {
                        time,
                        event: [0, event],
                    },
                    body,
                }
            })
            .collect()
    })
}

/// A visit of the reference: first position, last time, count, reason.
type Ref = (Position, i64, u32, EndReason);

/// The plain walk over a sorted set.
fn walk(set: &BTreeMap<Position, u8>) -> Vec<(Ref, Vec<Position>)> {
    let mut visits: Vec<(Position, Vec<Position>)> = vec![];
    for at in set.keys() {
        match visits.last_mut() {
            Some((first, members))
                if at.time - members.last().unwrap().time <= RULES.inactivity
                    && at.time - first.time < RULES.max_length
                    && members.len() < RULES.max_size as usize =>
            {
                members.push(*at)
            }
            _ => visits.push((*at, vec![*at])),
        }
    }
    let reason = |first: Position, last: i64, n: usize| {
        if n == RULES.max_size as usize {
            EndReason::Size
        } else if first.time + RULES.max_length <= last + RULES.inactivity {
            EndReason::Length
        } else {
            EndReason::Inactivity
        }
    };
    let row = |(first, members): (Position, Vec<Position>)| {
        let last = members.last().unwrap().time;
        (
            (
                first,
                last,
                members.len() as u32,
                reason(first, last, members.len()),
            ),
            members,
        )
    };
    visits.into_iter().map(row).collect()
}

fn seal_of(visit: &Ref) -> Tick {
    let (first, last, count, _) = *visit;
    let bound = if count == RULES.max_size {
        last
    } else {
        (last + RULES.inactivity).min(first.time + RULES.max_length - 1)
    };
    (bound + 1 + RULES.max_lag + RULES.max_delay) as u64 / 1_000 * 1_000
        + if (bound + 1 + RULES.max_lag + RULES.max_delay) % 1_000 == 0 {
            0
        } else {
            1_000
        }
}

fn browser_id(browser: u8) -> String {
    format!("browser-{browser}")
}

fn id_of(browser: u8, first: Position) -> [u64; 2] {
    visit_id(browser_id(browser).as_bytes(), first)
}

/// An end: its tick, browser, visit, first and last time, number of measurements, reason.
type Ended = (Tick, u8, [u64; 2], i64, i64, u32, EndReason);

/// What is said in all, in a form to compare.
#[derive(Debug, Default, PartialEq)]
struct Story {
    tagged: BTreeSet<(Tick, u8, Position, [u64; 2], u8)>,
    repeated: usize,
    ended: BTreeSet<Ended>,
}

/// What ought to be said, from whole walks after each tick.
fn reference(arrivals: &[Arrival]) -> (Story, BTreeMap<(u8, Position), [u64; 2]>) {
    let mut story = Story::default();
    let mut sets: BTreeMap<u8, BTreeMap<Position, u8>> = BTreeMap::new();
    let mut seen = 0;
    for group in arrivals.chunk_by(|a, b| a.tick == b.tick) {
        let mut new = BTreeMap::new();
        for a in group {
            seen += 1;
            if sets.entry(a.browser).or_default().contains_key(&a.at) {
                continue;
            }
            let body = new.entry((a.browser, a.at)).or_insert(a.body);
            *body = (*body).min(a.body);
        }
        for ((browser, at), body) in &new {
            sets.get_mut(browser).unwrap().insert(*at, *body);
        }
        for ((browser, at), body) in &new {
            let visits = walk(&sets[browser]);
            let visit = visits
                .iter()
                .find(|(_, members)| members.contains(at))
                .unwrap();
            story.tagged.insert((
                group[0].tick,
                *browser,
                *at,
                id_of(*browser, visit.0.0),
                *body,
            ));
        }
    }
    story.repeated = seen - story.tagged.len();
    let mut last = BTreeMap::new();
    for (browser, set) in &sets {
        for (visit, members) in walk(set) {
            let id = id_of(*browser, visit.0);
            let (first, last_seen, count, reason) = visit;
            story.ended.insert((
                seal_of(&visit),
                *browser,
                id,
                first.time,
                last_seen,
                count,
                reason,
            ));
            last.extend(members.into_iter().map(|at| ((*browser, at), id)));
        }
    }
    (story, last)
}

fn browser_of(id: &[u8]) -> u8 {
    std::str::from_utf8(id)
        .unwrap()
        .strip_prefix("browser-")
        .unwrap()
        .parse()
        .unwrap()
}

fn batch(arrivals: &[Arrival]) -> Batch {
    let mut builder = BatchBuilder::default();
    for a in arrivals {
        let id = browser_id(a.browser);
        let head = Head {
            browser: browser_key(id.as_bytes()),
            at: a.at,
            tick: a.tick,
            shard: a.browser,
            ..Head::default()
        };
        builder.push(head, id.as_bytes(), &[a.body], |_| ());
    }
    builder.take()
}

/// Tags, then revisions, tick by tick: what a consumer knows.
#[derive(Default)]
struct Consumer {
    tags: BTreeMap<(u8, Position), [u64; 2]>,
    begun: BTreeSet<[u64; 2]>,
    sealed: BTreeSet<[u64; 2]>,
}

impl Consumer {
    fn tagged(&mut self, browser: u8, head: &Head) {
        assert_eq!(
            self.tags.insert((browser, head.at), head.visit),
            None,
            "tagged twice"
        );
        assert!(
            !self.sealed.contains(&head.visit),
            "a sealed visit got another measurement"
        );
    }

    fn lifecycle(&mut self, said: &Lifecycle) {
        let browser = browser_of(&said.browser_id);
        match said.change {
            Change::Started { visit, .. } => {
                self.begun.insert(visit);
            }
            Change::Revised {
                from,
                into,
                first,
                until,
                ..
            } => {
                assert!(!self.sealed.contains(&from) && !self.sealed.contains(&into));
                let mut moved = 0;
                for (_, tag) in self.tags.range_mut((browser, first)..(browser, until)) {
                    if *tag == from {
                        moved += 1;
                    } else {
                        assert_eq!(*tag, into, "a range of one visit's measurements");
                    }
                    *tag = into;
                }
                assert!(moved > 0, "a revision of nothing");
            }
            Change::Ended {
                visit,
                measurements,
                ..
            } => {
                assert!(self.begun.contains(&visit), "ended before it began");
                let now = self.tags.values().filter(|tag| **tag == visit).count();
                assert_eq!(
                    now, measurements as usize,
                    "the end says how many there are"
                );
                self.sealed.insert(visit);
            }
        }
    }
}

/// A store for measurements, shared by all that are opened on it.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Chunks>>);

#[derive(Default)]
struct Chunks {
    next: u64,
    live: BTreeMap<u64, ([u64; 2], Vec<u8>)>,
}

impl Payloads for Memory {
    type Chunk = [u64; 3];
    type Error = Infallible;

    fn length(chunk: [u64; 3]) -> usize {
        chunk[1] as usize
    }
    fn write(&mut self, chunks: Vec<([u64; 2], Vec<u8>)>) -> Result<Vec<[u64; 3]>, Infallible> {
        let mut own = self.0.borrow_mut();
        let mut places = vec![];
        for (key, bytes) in chunks {
            own.next += 1;
            let n = own.next;
            places.push([n, bytes.len() as u64, 0]);
            own.live.insert(n, (key, bytes));
        }
        Ok(places)
    }
    fn read(
        &mut self,
        chunks: &[[u64; 3]],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Infallible> {
        // In another order than they were asked for.
        for (n, chunk) in chunks.iter().enumerate().rev() {
            each(n, &self.0.borrow().live[&chunk[0]].1);
        }
        Ok(())
    }
    fn free(&mut self, chunk: [u64; 3]) -> Result<(), Infallible> {
        self.0
            .borrow_mut()
            .live
            .remove(&chunk[0])
            .expect("freed once");
        Ok(())
    }
    fn thin(
        &mut self,
        is_live: &dyn Fn([u64; 2], [u64; 3]) -> bool,
    ) -> Result<Option<Vec<([u64; 2], [u64; 3])>>, Infallible> {
        let own = self.0.borrow();
        let some = own.live.iter().filter(|(n, _)| *n % 3 == 0).take(2);
        let place =
            |(n, (key, bytes)): (&u64, &([u64; 2], Vec<u8>))| (*key, [*n, bytes.len() as u64, 0]);
        Ok(Some(
            some.map(place)
                .filter(|(key, chunk)| is_live(*key, *chunk))
                .collect(),
        ))
    }
}

/// Keeps measurements in memory, and in a store with next to no memory: both must give out the same.
struct BothWays {
    plain: Measurements<NoStore>,
    stored: Measurements<Memory>,
    memory: Memory,
    /// Seals given out that no table holds yet.
    open: Vec<(Tick, usize)>,
}

impl BothWays {
    fn new() -> BothWays {
        let memory = Memory::default();
        BothWays {
            plain: Measurements::default(),
            stored: Measurements::new(Some(memory.clone()), 20),
            memory,
            open: vec![],
        }
    }

    fn step(&mut self, batches: &[Batch], said: &[Lifecycle]) {
        for record in batches.iter().flat_map(Batch::records) {
            self.plain.add(record);
            self.stored.add(record);
        }
        self.stored.spill().unwrap();
        let whole = self.plain.complete(said).unwrap();
        let rows = |visits: &[Complete]| -> Vec<_> {
            let row = |v: &Complete| {
                let own = v.measurements().map(|m| (m.at, m.body.to_vec()));
                (
                    v.tick,
                    v.visit,
                    v.started,
                    v.last_seen,
                    own.collect::<Vec<_>>(),
                )
            };
            visits.iter().map(row).collect()
        };
        let other = self.stored.complete(said).unwrap();
        assert_eq!(rows(&other), rows(&whole));
        self.open
            .extend(whole.iter().map(|visit| (visit.tick, visit.len())));
    }

    /// A table holds what was sealed until `tick`.
    fn committed(&mut self, tick: Tick) {
        self.stored.committed(tick).unwrap();
        self.open.retain(|(sealed, _)| *sealed > tick);
    }

    fn restart(&mut self) {
        let whole = self.stored.save().unwrap();
        let (mut saving, mut collected) = (None, None);
        while collected.is_none() {
            collected = self.stored.save_some(&mut saving, 60).unwrap();
        }
        let rows = collected.unwrap().shards();
        assert_eq!(rows, whole, "the same in parts");
        self.stored = Measurements::restore(self.memory.clone(), 20, &rows);
        let (_, again) = self.stored.again(0, usize::MAX).unwrap();
        let mut again: Vec<_> = again
            .iter()
            .map(|visit| (visit.tick, visit.len()))
            .collect();
        again.sort_unstable();
        self.open.sort_unstable();
        assert_eq!(again, self.open, "sealed and in no table");
    }
}

/// Runs the state over arrivals whose ticks become complete in steps of `step` ms; after each step
/// for which `restart` says so, it is saved, dropped and restored.
fn run(arrivals: &[Arrival], step: u64, mut restart: impl FnMut() -> bool) -> (Story, Consumer) {
    let mut open = Open::new(RULES);
    let mut kept = BothWays::new();
    let (mut story, mut consumer) = (Story::default(), Consumer::default());
    let mut steps = Steps::default();
    let mut rest = arrivals;
    let mut frontier = 0;
    while !rest.is_empty() || frontier < u64::MAX {
        frontier = if rest.is_empty() {
            u64::MAX
        } else {
            (rest[0].tick / step + 1) * step
        };
        let n = rest.iter().take_while(|a| a.tick < frontier).count();
        // Several batches, as partitions send them.
        let (one, other) = rest[..n].split_at(n / 3);
        steps.push(batch(other));
        steps.push(batch(one));
        rest = &rest[n..];
        let mut complete = steps.complete(frontier);
        let mut said = Said::default();
        open.advance(&mut complete, &mut said);
        while open.seal_before(frontier, &mut said) {}
        let (batches, repeated) = complete.into_batches(&mut said.repeated);
        story.repeated += repeated.iter().flat_map(Batch::heads).count();
        kept.step(&batches, &[]);
        kept.step(&repeated, &said.lifecycle);
        if restart() && frontier < u64::MAX {
            open = Open::restore(RULES, &open.copy(frontier).shards());
            kept.committed(frontier - frontier % 7_000);
            kept.restart();
        }
        // What leaves is put in order by whoever reads it, as before.
        let mut steps = Steps::default();
        batches.into_iter().for_each(|batch| steps.push(batch));
        let tagged = steps.complete(frontier);
        let tagged: Vec<_> = tagged.in_order().collect();

        // Apply in the order of ticks, tags before revisions; ends come first in their tick.
        let mut ticks: BTreeSet<Tick> = tagged.iter().map(|record| record.head.tick).collect();
        ticks.extend(said.lifecycle.iter().map(|l| l.tick));
        assert!(said.lifecycle.is_sorted_by_key(|l| l.tick));
        for tick in ticks {
            let of = |l: &&Lifecycle| l.tick == tick;
            let ended = |l: &&Lifecycle| matches!(l.change, Change::Ended { .. });
            said.lifecycle
                .iter()
                .filter(of)
                .filter(ended)
                .for_each(|l| consumer.lifecycle(l));
            for record in tagged.iter().filter(|record| record.head.tick == tick) {
                let head = record.head;
                consumer.tagged(browser_of(record.browser_id), head);
                story.tagged.insert((
                    tick,
                    browser_of(record.browser_id),
                    head.at,
                    head.visit,
                    record.body[0],
                ));
            }
            said.lifecycle
                .iter()
                .filter(of)
                .filter(|l| !ended(l))
                .for_each(|l| consumer.lifecycle(l));
        }
        for l in &said.lifecycle {
            if let Change::Ended {
                visit,
                started,
                last_seen,
                measurements,
                reason,
            } = l.change
            {
                story.ended.insert((
                    l.tick,
                    browser_of(&l.browser_id),
                    visit,
                    started,
                    last_seen,
                    measurements,
                    reason,
                ));
            }
        }
        // A browser's own measurements leave in order within a tick.
        for group in tagged.chunk_by(|a, b| a.head.tick == b.head.tick) {
            for browser in group
                .iter()
                .map(|record| record.head.browser)
                .collect::<BTreeSet<_>>()
            {
                assert!(
                    group
                        .iter()
                        .map(|record| record.head)
                        .filter(|head| head.browser == browser)
                        .is_sorted_by_key(|head| head.at)
                );
            }
        }
    }
    assert_eq!(open.visits(), 0, "the end of input ends all visits");
    kept.committed(Tick::MAX);
    assert_eq!([kept.plain.bytes(), kept.stored.bytes()], [0; 2]);
    assert!(kept.memory.0.borrow().live.is_empty(), "the store is empty");
    (story, consumer)
}

/// Takes the arrivals on top of what is open; after each step, `between` may do something to the
/// state as of the tick that it is given.
fn tell(
    mut open: Open,
    arrivals: &[Arrival],
    step: u64,
    mut between: impl FnMut(&mut Open, Tick),
) -> Story {
    let mut story = Story::default();
    let mut rest = arrivals;
    loop {
        let frontier = rest
            .first()
            .map_or(u64::MAX, |a| (a.tick / step + 1) * step);
        let n = rest.iter().take_while(|a| a.tick < frontier).count();
        let mut steps = Steps::default();
        steps.push(batch(&rest[..n]));
        rest = &rest[n..];
        let mut complete = steps.complete(frontier);
        let mut said = Said::default();
        open.advance(&mut complete, &mut said);
        while open.seal_before(frontier, &mut said) {}
        let (batches, _) = complete.into_batches(&mut said.repeated);
        story.repeated += said.repeated.len();
        for record in batches.iter().flat_map(Batch::records) {
            let (head, browser) = (record.head, browser_of(record.browser_id));
            let tag = (head.tick, browser, head.at, head.visit, record.body[0]);
            story.tagged.insert(tag);
        }
        for said in said.lifecycle {
            if let Change::Ended {
                visit,
                started,
                last_seen,
                measurements,
                reason,
            } = said.change
            {
                story.ended.insert((
                    said.tick,
                    browser_of(&said.browser_id),
                    visit,
                    started,
                    last_seen,
                    measurements,
                    reason,
                ));
            }
        }
        between(&mut open, frontier);
        if frontier == u64::MAX {
            return story;
        }
    }
}

/// Rows in an order of their own: that in which browsers are copied says nothing.
fn in_order(rows: Vec<ShardRows>) -> BTreeMap<[u64; 2], Vec<u8>> {
    let mut browsers = BTreeMap::new();
    for rows in &rows {
        let (mut older, mut tail) = (&rows.older[..], &rows.tail[..]);
        for row in &rows.browsers {
            let (own_older, own_tail);
            (own_older, older) = older.split_at(row.older as usize);
            (own_tail, tail) = tail.split_at(row.tail as usize);
            let id = &rows.ids[row.id_start as usize..][..row.id_length as usize];
            let all = (rows.shard, row.visit, own_older, own_tail, id);
            assert_eq!(browsers.insert(row.key, format!("{all:?}").into()), None);
        }
    }
    browsers
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_copy_made_in_parts_while_ticks_go_on_is_of_the_tick_at_which_it_was_begun(
        arrivals in arrivals(),
        step in prop_oneof![Just(100), Just(1_000), Just(3_700)],
        // What is done after each step: parts of so many bytes, and whether a copy is begun.
        plan in prop::collection::vec((prop::collection::vec(1..300_usize, 0..4), prop::bool::weighted(0.3)), 1..20),
    ) {
        let (expected, _) = reference(&arrivals);
        let mut plan = plan.into_iter().cycle();
        let (mut begun, mut copies) = (vec![], vec![]);
        let story = tell(Open::new(RULES), &arrivals, step, |open, frontier| {
            let (parts, begin) = plan.next().unwrap();
            let parts = parts.into_iter().chain((frontier == u64::MAX).then_some(usize::MAX));
            parts.for_each(|bytes| copies.extend(open.copy_some(bytes)));
            if begin && !open.is_copying() && frontier < u64::MAX {
                // As it is now: at once.
                let now = open.copy(frontier);
                begun.push((frontier, in_order(now.shards())));
                open.begin_copy(frontier);
            }
        });
        prop_assert_eq!(&story, &expected, "a copy changes nothing");
        prop_assert_eq!(copies.len(), begun.len());
        for ((at, copied), (begun_at, begun)) in copies.into_iter().zip(begun) {
            prop_assert_eq!(at, begun_at);
            let rows = copied.shards();
            let open = Open::restore(RULES, &rows);
            prop_assert_eq!(in_order(rows), begun);
            let later = &arrivals[arrivals.partition_point(|a| a.tick < at)..];
            let story = tell(open, later, step, |_, _| ());
            let tagged = expected.tagged.range((at, 0, Position::default(), [0; 2], 0)..);
            let ended = expected.ended.iter().filter(|end| end.0 >= at);
            let expected = Story {
                repeated: later.len() - tagged.clone().count(),
                tagged: tagged.cloned().collect(),
                ended: ended.cloned().collect(),
            };
            prop_assert_eq!(story, expected, "it goes on as if nothing had been");
        }
    }

    #[test]
    fn tags_revisions_and_ends_are_those_of_whole_walks(arrivals in arrivals(), step in prop_oneof![Just(100), Just(1_000), Just(3_700), Just(36_000_000)]) {
        let (expected, last) = reference(&arrivals);
        let (story, consumer) = run(&arrivals, step, || false);
        prop_assert_eq!(&story, &expected);
        prop_assert_eq!(&consumer.tags, &last, "tags and revisions, in order of ticks, are the files");
    }

    #[test]
    fn a_state_that_is_saved_and_restored_says_the_same(arrivals in arrivals(), step in prop_oneof![Just(100), Just(1_000), Just(3_700)], seed in any::<u64>()) {
        let mut state = seed;
        let restart = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 63 == 1 };
        let ((a, x), (b, y)) = (run(&arrivals, step, || false), run(&arrivals, step, restart));
        prop_assert_eq!(a, b);
        prop_assert_eq!(x.tags, y.tags);
    }

    #[test]
    fn the_order_within_a_tick_says_nothing(arrivals in arrivals(), seed in any::<u64>()) {
        let mut shuffled = arrivals.clone();
        let mut state = seed;
        let mut random = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); state >> 33 };
        for i in (1..shuffled.len()).rev() {
            let j = (random() % (i as u64 + 1)) as usize;
            shuffled.swap(i, j);
        }
        shuffled.sort_by_key(|a| a.tick);
        let ((a, x), (b, y)) = (run(&arrivals, 100, || false), run(&shuffled, 100, || false));
        prop_assert_eq!(a, b);
        prop_assert_eq!(x.tags, y.tags);
    }
}

/// A measurement of each of very many browsers, at one tick.
fn of_many(tick: Tick) -> Batch {
    let mut builder = BatchBuilder::default();
    for n in 0..20_000_u64 {
        let id = format!("browser-{n}");
        let head = Head {
            browser: browser_key(id.as_bytes()),
            at: Position {
                time: tick as i64,
                event: [0, n],
            },
            tick,
            shard: (n % 256) as u8,
            ..Head::default()
        };
        builder.push(head, id.as_bytes(), b"", |_| ());
    }
    builder.take()
}

#[test]
fn ticks_go_on_while_a_snapshot_is_copied_and_it_is_of_its_cut() {
    // What a copy at once holds, by its tick.
    let mut expected = BTreeMap::new();
    let mut open = Open::new(RULES);
    for tick in (10_000..10_500).step_by(100) {
        let mut steps = Steps::default();
        steps.push(of_many(tick));
        open.advance(&mut steps.complete(tick + 1), &mut Said::default());
        expected.insert(tick + 100, in_order(open.copy(tick + 100).shards()));
    }

    timely::execute_directly(move |worker| {
        let saved = Rc::new(RefCell::new(vec![]));
        let done = probe::Handle::new();
        let (mut input, mut cuts) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, accepted) = scope.new_input::<Batch>();
            let (to_cut, cuts) = scope.new_input::<Vec<Cut>>();
            let saves = saved.clone();
            let save = move |at, copied: Copied| saves.borrow_mut().push((at, copied.shards()));
            let said = visits(accepted, cuts, Open::new(RULES), save);
            said.tagged.probe_with(&done);
            said.lifecycle.probe_with(&done);
            (input, to_cut)
        });
        let cut = |tick| Cut {
            tick,
            snapshot: true,
            ..Cut::default()
        };
        let mut at = 10_000;
        input.advance_to(at);
        cuts.advance_to(at);
        let mut seen = vec![];
        // Cuts come while the one before is copied; and at last the input ends.
        for wanted in [&[10_100][..], &[], &[10_300, 10_400], &[], &[10_500]] {
            cuts.send_batch(&mut wanted.iter().map(|tick| cut(*tick)).collect());
            input.send_batch(&mut of_many(at));
            at += 100;
            input.advance_to(at);
            cuts.advance_to(at);
            while done.less_than(&at) {
                worker.step();
            }
            seen.push(saved.borrow().len());
        }
        assert_eq!(seen[0], 0, "tags do not wait for a snapshot");
        drop((input, cuts));
        while worker.step() {}
        let saved = saved.take().into_iter();
        let saved: BTreeMap<_, _> = saved.map(|(at, rows)| (at, in_order(rows))).collect();
        expected.remove(&10_200);
        assert!(saved == expected, "not as of the cuts");
    });
}
