//! Holds everything that was committed against what must come out, by plain sequential code over
//! the records that came.

use std::collections::{BTreeMap, BTreeSet};

use visitflow_dataflows::clock::Verdict;
use visitflow_dataflows::visit::{EndReason, Position, Tick, bytes_of_words, visit_id};
use visitflow_dataflows::visits::{Change, Lifecycle};

use crate::broker::{Message, OUTPUTS, What};
use crate::partition::clock;
use crate::table::{Row, TABLES};
use crate::world::{RULES, World, browser_id, browser_of, key};

/// A browser's measurement.
type Place = (u8, Position);

/// A visit as the plain walk has it.
struct Visit {
    browser: u8,
    id: [u64; 2],
    members: Vec<(Position, u8)>,
    seal: Tick,
    reason: EndReason,
}

/// What must come out.
struct Expected {
    /// Partition and offset of what came too late.
    late: BTreeSet<(u32, u64)>,
    visits: Vec<Visit>,
}

/// What the records that came must lead to: a record is late by its partition's prefix alone.
fn expected(world: &World) -> Expected {
    let mut late = BTreeSet::new();
    let mut sets: BTreeMap<u8, BTreeMap<Position, u8>> = BTreeMap::new();
    for (partition, records) in world.brokers.borrow().input.iter().enumerate() {
        let mut clock = clock();
        for (offset, record) in records.iter().enumerate() {
            clock.log_time(record.log_time);
            match clock.judge(record.at.time, key(record.browser)) {
                Verdict::Now => {
                    let body = sets.entry(record.browser).or_default().entry(record.at);
                    let body = body.or_insert(record.body);
                    *body = record.body.min(*body);
                }
                _ => {
                    late.insert((partition as u32, offset as u64));
                }
            }
        }
    }
    let visits = sets.iter().flat_map(|(browser, set)| walk(*browser, set));
    Expected {
        visits: visits.collect(),
        late,
    }
}

/// The plain walk over a sorted set.
fn walk(browser: u8, set: &BTreeMap<Position, u8>) -> Vec<Visit> {
    let mut visits: Vec<Vec<(Position, u8)>> = vec![];
    for (at, body) in set {
        match visits.last_mut() {
            Some(own)
                if at.time - own[own.len() - 1].0.time <= RULES.inactivity
                    && at.time - own[0].0.time < RULES.max_length
                    && own.len() < RULES.max_size as usize =>
            {
                own.push((*at, *body));
            }
            _ => visits.push(vec![(*at, *body)]),
        }
    }
    let visit = |members: Vec<(Position, u8)>| {
        let (first, last) = (members[0].0, members[members.len() - 1].0.time);
        let inactive = last + RULES.inactivity;
        let (bound, reason) = if members.len() == RULES.max_size as usize {
            (last, EndReason::Size)
        } else if first.time + RULES.max_length <= inactive {
            (first.time + RULES.max_length - 1, EndReason::Length)
        } else {
            (inactive, EndReason::Inactivity)
        };
        let passed = (bound + 1 + RULES.max_lag + RULES.max_delay) as u64;
        Visit {
            browser,
            id: visit_id(&browser_id(browser), first),
            members,
            seal: passed.div_ceil(1_000) * 1_000,
            reason,
        }
    };
    visits.into_iter().map(visit).collect()
}

/// Judges what was committed; fails the world for the first thing that is wrong.
pub fn judge(world: &World) {
    let expected = expected(world);
    world.seen_all(|seen| {
        seen.visits = expected.visits.len();
        seen.late = expected.late.len();
        let brokers = world.brokers.borrow();
        seen.records = brokers.input.iter().map(Vec::len).sum();
        seen.transactions = brokers.committed.len();
    });
    let checks = [
        whole_ticks(world),
        topics(world, &expected),
        tables(world, &expected),
    ];
    if let Some(wrong) = checks.into_iter().find_map(Result::err) {
        world.fail(wrong);
    }
}

/// A partition's ticks are committed whole, in order, each once.
fn whole_ticks(world: &World) -> Result<(), String> {
    let mut last = [0; OUTPUTS as usize];
    for messages in &world.brokers.borrow().committed {
        let before = last;
        for message in messages {
            let partition = message.partition as usize;
            if message.tick <= before[partition] {
                return Err(format!(
                    "tick {} of partition {partition} is committed when {} was: {message:?}",
                    message.tick, before[partition]
                ));
            }
            last[partition] = last[partition].max(message.tick);
        }
    }
    Ok(())
}

/// Each record leaves once, tags and revisions give the visits, and each visit ends once.
fn topics(world: &World, expected: &Expected) -> Result<(), String> {
    let brokers = world.brokers.borrow();
    let mut late = BTreeSet::new();
    let mut ticks: BTreeMap<Tick, Vec<&Message>> = BTreeMap::new();
    for message in brokers.committed.iter().flatten() {
        if let What::Late { partition, offset } = message.what
            && !late.insert((partition, offset))
        {
            return Err(format!(
                "late twice: partition {partition}, offset {offset}"
            ));
        }
        ticks.entry(message.tick).or_default().push(message);
    }
    if let Some(differs) = late.symmetric_difference(&expected.late).next() {
        return Err(format!("late, or not: partition and offset {differs:?}"));
    }
    let mut consumer = Consumer::default();
    for messages in ticks.values() {
        // As a consumer of both topics: ends, beginnings and tags, then what a tick has revised.
        let mut messages = messages.clone();
        messages.sort_by_key(|message| match &message.what {
            What::Lifecycle(said) => match said.change {
                Change::Ended { .. } => 0,
                Change::Started { .. } => 1,
                Change::Revised { .. } => 3,
            },
            _ => 2,
        });
        messages.into_iter().try_for_each(|m| consumer.take(m))?;
    }
    let mut places = BTreeMap::new();
    for visit in &expected.visits {
        let own = |(at, _): &(Position, u8)| ((visit.browser, *at), visit.id);
        places.extend(visit.members.iter().map(own));
    }
    for (place, visit) in &places {
        match consumer.tags.get(place) {
            None => return Err(format!("never tagged: {place:?}")),
            Some(tag) if tag != visit => return Err(format!("in another visit: {place:?}")),
            _ => {}
        }
    }
    if let Some(place) = consumer
        .tags
        .keys()
        .find(|place| !places.contains_key(place))
    {
        return Err(format!("tagged, and not accepted: {place:?}"));
    }
    for visit in &expected.visits {
        let change = Change::Ended {
            visit: visit.id,
            started: visit.members[0].0.time,
            last_seen: visit.members[visit.members.len() - 1].0.time,
            measurements: visit.members.len() as u32,
            reason: visit.reason,
        };
        if consumer.ended.remove(&visit.id) != Some((visit.seal, change)) {
            return Err(format!(
                "not ended as it should: {change:?} at {}",
                visit.seal
            ));
        }
    }
    match consumer.ended.values().next() {
        None => Ok(()),
        Some(other) => Err(format!("ended, and no visit: {other:?}")),
    }
}

/// What a consumer knows.
#[derive(Default)]
struct Consumer {
    tags: BTreeMap<Place, [u64; 2]>,
    begun: BTreeSet<[u64; 2]>,
    ended: BTreeMap<[u64; 2], (Tick, Change)>,
    said: BTreeSet<Lifecycle>,
}

impl Consumer {
    fn take(&mut self, message: &Message) -> Result<(), String> {
        match &message.what {
            What::Late { .. } => Ok(()),
            What::Tagged { browser, at, visit } => {
                if self.tags.insert((*browser, *at), *visit).is_some() {
                    return Err(format!("tagged twice: {message:?}"));
                }
                self.open(*visit, message)
            }
            What::Lifecycle(said) => {
                if !self.said.insert(said.clone()) {
                    return Err(format!("said twice: {said:?}"));
                }
                self.lifecycle(said, message)
            }
        }
    }

    fn open(&self, visit: [u64; 2], message: &Message) -> Result<(), String> {
        match self.ended.contains_key(&visit) {
            true => Err(format!("contradicts a sealed visit: {message:?}")),
            false => Ok(()),
        }
    }

    fn lifecycle(&mut self, said: &Lifecycle, message: &Message) -> Result<(), String> {
        let browser = browser_of(&said.browser_id);
        match said.change {
            Change::Started { visit, .. } => {
                self.begun.insert(visit);
                self.open(visit, message)
            }
            Change::Revised {
                from,
                into,
                first,
                until,
                ..
            } => {
                self.open(from, message)?;
                self.open(into, message)?;
                for tag in self.tags.range_mut((browser, first)..(browser, until)) {
                    if *tag.1 != from && *tag.1 != into {
                        return Err(format!("a revision of others' measurements: {message:?}"));
                    }
                    *tag.1 = into;
                }
                Ok(())
            }
            Change::Ended { visit, .. } => {
                if !self.begun.contains(&visit) {
                    return Err(format!("ended before it began: {message:?}"));
                }
                match self.ended.insert(visit, (said.tick, said.change)) {
                    None => Ok(()),
                    Some(_) => Err(format!("ended twice: {message:?}")),
                }
            }
        }
    }
}

/// Each visit is in each table once, and whole.
fn tables(world: &World, expected: &Expected) -> Result<(), String> {
    for (name, table) in TABLES.iter().zip(world.tables.borrow().iter()) {
        let mut rows: BTreeMap<[u8; 16], &Row> = BTreeMap::new();
        for row in table.rows() {
            if rows.insert(row.visit, row).is_some() {
                return Err(format!("twice in {name}: {row:?}"));
            }
        }
        for visit in &expected.visits {
            let row = Row {
                tick: visit.seal,
                visit: bytes_of_words(visit.id),
                browser: visit.browser,
                members: visit.members.clone(),
            };
            match rows.remove(&row.visit) {
                None => return Err(format!("not in {name}: {row:?}")),
                Some(found) if *found != row => {
                    return Err(format!("in {name}: {found:?}, expected {row:?}"));
                }
                _ => {}
            }
        }
        if let Some(row) = rows.values().next() {
            return Err(format!("in {name}, and no visit: {row:?}"));
        }
    }
    Ok(())
}
