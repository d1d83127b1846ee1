//! The visits of a worker, as the fragments `visits` and `complete` are around the real [`Open`] and
//! [`Measurements`]: ticks are taken once the frontier has passed them, a copy is kept at each cut.

use std::collections::VecDeque;
use std::rc::Rc;

use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
use visitflow_dataflows::complete::saved as kept;
use visitflow_dataflows::complete::{Complete, Measurements, Payloads};
use visitflow_dataflows::cut::Cuts;
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::saved::{BrowserRow, ShardRows};
use visitflow_dataflows::visits::{Change, Lifecycle, Open, Said};

use crate::broker::{Message, OUTPUTS, What};
use crate::partition::Taken;
use crate::world::{RULES, World, browser_id, browser_of, key, shard};

/// How many bytes of measurements a worker holds in memory.
const LIMIT: usize = 200;

/// The partition of a shard.
pub fn partition(shard: u8) -> u32 {
    u32::from(shard) % OUTPUTS
}

/// A batch of records that were accepted.
pub fn batch(records: &[Taken]) -> Batch {
    let mut builder = BatchBuilder::default();
    for taken in records {
        let browser = taken.record.browser;
        let head = Head {
            browser: key(browser),
            at: taken.record.at,
            tick: taken.tick,
            shard: shard(browser),
            ..Head::default()
        };
        builder.push(head, &browser_id(browser), &[taken.record.body], |_| ());
    }
    builder.take()
}

/// What became known in the ticks before a frontier.
#[derive(Default)]
pub struct Known {
    pub messages: Vec<Message>,
    /// Tagged measurements, and repeated ones.
    pub batches: Vec<Batch>,
    pub ends: Vec<Lifecycle>,
    /// The state at the cuts of snapshots.
    pub copies: Vec<(Tick, Vec<ShardRows>)>,
}

/// The open visits of a worker.
pub struct Visits {
    open: Open,
    steps: Steps,
    pub cuts: Cuts,
    /// All ticks before it are taken: the capability.
    pub done: Tick,
}

/// So little is copied each time that ticks come in between.
const PART: usize = size_of::<BrowserRow>();

impl Visits {
    pub fn restore(rows: &[ShardRows]) -> Visits {
        Visits {
            open: Open::restore(RULES, rows),
            steps: Steps::default(),
            cuts: Cuts::default(),
            done: 0,
        }
    }

    /// Holds records until the frontier has passed them.
    pub fn hold(&mut self, batch: Batch) {
        self.steps.push(batch);
    }

    /// Takes all ticks before `until`.
    pub fn advance(&mut self, world: &World, until: Tick) -> Known {
        let mut known = Known::default();
        if until <= self.done {
            self.copy(PART, &mut known);
            return known;
        }
        while let Some(cut) = self.cuts.next(until) {
            if cut.snapshot {
                self.take(world, cut.tick, &mut known);
                self.copy(usize::MAX, &mut known);
                self.open.begin_copy(cut.tick);
            }
        }
        self.take(world, until, &mut known);
        self.done = until;
        let part = if until == u64::MAX { usize::MAX } else { PART };
        self.copy(part, &mut known);
        known
    }

    /// Goes on with the copy for a snapshot, while ticks go on.
    fn copy(&mut self, bytes: usize, known: &mut Known) {
        let whole = self.open.copy_some(bytes);
        let whole = whole.map(|(at, copied)| (at, copied.shards()));
        known.copies.extend(whole);
    }

    fn take(&mut self, world: &World, until: Tick, known: &mut Known) {
        let mut step = self.steps.complete(until);
        let mut said = Said::default();
        self.open.advance(&mut step, &mut said);
        while self.open.seal_before(until, &mut said) {}
        let (tagged, repeated) = step.into_batches(&mut said.repeated);
        for head in tagged.iter().flat_map(Batch::heads) {
            let of = (0..crate::world::BROWSERS).find(|browser| key(*browser) == head.browser);
            known.messages.push(Message {
                tick: head.tick,
                partition: partition(head.shard),
                what: What::Tagged {
                    browser: of.expect("all browsers are known"),
                    at: head.at,
                    visit: head.visit,
                },
            });
        }
        for mut said in said.lifecycle {
            if let Change::Ended { .. } = said.change {
                if world.mistakes.seal_when_noticed {
                    said.tick = until - 1;
                }
                known.ends.push(said.clone());
            }
            known.messages.push(Message {
                tick: said.tick,
                partition: partition(said.shard),
                what: What::Lifecycle(said),
            });
        }
        known.batches.extend(tagged);
        known.batches.extend(repeated);
    }
}

/// Where measurements of open visits are kept on the disk; durable at once.
pub struct Store {
    world: Rc<World>,
    incarnation: u64,
    worker: u64,
    next: u64,
}

/// The incarnation that has written a chunk.
pub fn incarnation_of(chunk: u64) -> u64 {
    chunk >> 32
}

impl Payloads for Store {
    type Chunk = [u64; 3];
    type Error = String;

    fn length(chunk: [u64; 3]) -> usize {
        chunk[1] as usize
    }

    fn write(&mut self, chunks: Vec<([u64; 2], Vec<u8>)>) -> Result<Vec<[u64; 3]>, String> {
        let mut all = self.world.chunks.borrow_mut();
        let mut put = |(_, bytes): ([u64; 2], Vec<u8>)| {
            self.next += 1;
            let number = self.incarnation << 32 | self.worker << 24 | self.next;
            let length = bytes.len() as u64;
            all.insert(number, bytes);
            [number, length, 0]
        };
        Ok(chunks.into_iter().map(&mut put).collect())
    }

    fn read(
        &mut self,
        chunks: &[[u64; 3]],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), String> {
        let all = self.world.chunks.borrow();
        for (n, [number, ..]) in chunks.iter().enumerate() {
            let bytes = all.get(number).ok_or("measurements are gone")?;
            each(n, bytes);
        }
        Ok(())
    }

    fn free(&mut self, _: [u64; 3]) -> Result<(), String> {
        Ok(())
    }

    fn thin(
        &mut self,
        _: &dyn Fn([u64; 2], [u64; 3]) -> bool,
    ) -> Result<Option<Vec<([u64; 2], [u64; 3])>>, String> {
        Ok(None)
    }
}

/// The measurements of a worker's visits, and what is on its way into them.
pub struct Whole {
    kept: Measurements<Store>,
    again: bool,
    waiting: VecDeque<Batch>,
    pub ends: VecDeque<Lifecycle>,
    pub cuts: Cuts,
    /// All visits sealed before it are given out: the capability.
    pub done: Tick,
    /// The last tick whose seals both tables hold, as far as is known here.
    pub committed: Tick,
}

impl Whole {
    pub fn restore(
        world: &Rc<World>,
        (incarnation, worker): (u64, usize),
        rows: &[kept::ShardRows],
        committed: Tick,
    ) -> Whole {
        let store = Store {
            world: world.clone(),
            incarnation,
            worker: worker as u64,
            next: 0,
        };
        Whole {
            kept: Measurements::restore(store, LIMIT, rows),
            again: true,
            waiting: VecDeque::new(),
            ends: VecDeque::new(),
            cuts: Cuts::default(),
            done: 0,
            committed,
        }
    }

    /// Takes what the visits have said.
    pub fn hold(&mut self, known: &mut Known) {
        self.waiting.extend(known.batches.drain(..));
        self.ends.extend(known.ends.drain(..));
    }

    /// Gives out what is sealed before `until`, and keeps rows at the cuts of snapshots.
    #[allow(clippy::type_complexity)]
    pub fn advance(
        &mut self,
        world: &World,
        until: Tick,
    ) -> Result<(Vec<Complete>, Vec<(Tick, Vec<kept::ShardRows>)>), String> {
        let (mut visits, mut saved) = (Vec::new(), Vec::new());
        self.kept.committed(self.committed)?;
        if std::mem::take(&mut self.again) && !world.mistakes.sealed_not_saved {
            visits = self.kept.again(0, usize::MAX)?.1;
        }
        loop {
            let cut = self.cuts.first().filter(|cut| *cut <= until);
            let limit = cut.unwrap_or(until);
            self.keep_before(limit);
            let ready = self.ends.partition_point(|end| end.tick < limit);
            let ready: Vec<Lifecycle> = self.ends.drain(..ready).collect();
            visits.extend(self.kept.complete(&ready)?);
            match cut.and_then(|cut| self.cuts.next(cut)) {
                Some(cut) if cut.snapshot => saved.push((cut.tick, self.kept.save()?)),
                Some(_) => {}
                None => break,
            }
        }
        self.kept.spill()?;
        self.done = self.done.max(until);
        Ok((visits, saved))
    }

    fn keep_before(&mut self, limit: Tick) {
        let kept = &mut self.kept;
        self.waiting.retain_mut(|batch| {
            let ready = batch.records().filter(|record| record.head.tick < limit);
            ready.for_each(|record| kept.add(record));
            batch.heads_mut().retain(|head| head.tick >= limit);
            !batch.is_empty()
        });
    }
}

/// A sealed visit as a row.
pub fn row(visit: &Complete) -> crate::table::Row {
    crate::table::Row {
        tick: visit.tick,
        visit: visit.visit,
        browser: browser_of(&visit.browser_id),
        members: visit.measurements().map(|m| (m.at, m.body[0])).collect(),
    }
}
