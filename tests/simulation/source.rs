//! The source of a worker, as `visitflow::source::source` is: steps of its partitions, the
//! journal's entries, cuts, and a capability that is given up once entries are durable.

use std::collections::VecDeque;

use visitflow::recovery::RecoveryError;
use visitflow::recovery::journal::Entry;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::visit::Tick;

use crate::partition::{Partition, Taken};
use crate::world::{TICK, World};

/// How many ticks a stop lies ahead.
const STOP_TICKS: u64 = 5;

/// What a source has to say.
#[derive(Default)]
pub struct Sent {
    /// Under which timestamp records are sent.
    pub open: Tick,
    pub records: Vec<Taken>,
    pub entry: Option<Entry>,
    /// A cut, and the timestamp under which it is sent.
    pub cut: Option<(Tick, Cut)>,
}

/// A worker's source.
pub struct Source {
    worker: u32,
    pub partitions: Vec<Partition>,
    /// The capability; `u64::MAX` once it is given up.
    pub held: Tick,
    open: Tick,
    /// Where closed steps end, and whether an entry must be durable before that counts.
    closing: VecDeque<(Tick, bool)>,
    /// Up to where entries are durable.
    pub durable: Tick,
    /// A step has at least so many records, if there are so many.
    step_records: usize,
    records: usize,
    pub stop: bool,
    pub stop_at: Option<Tick>,
}

impl Source {
    pub fn new(worker: usize, partitions: Vec<Partition>, step_records: usize) -> Source {
        Source {
            worker: worker as u32,
            partitions,
            held: 0,
            open: 0,
            closing: VecDeque::new(),
            durable: 0,
            step_records,
            records: 0,
            stop: false,
            stop_at: None,
        }
    }

    fn least(&self) -> Tick {
        let next = self.partitions.iter().map(|partition| partition.next);
        next.min().unwrap_or(u64::MAX)
    }

    /// Gives up the capability for what is durable.
    pub fn give_up(&mut self, world: &World) {
        let durable = match world.mistakes.capability_before_journal {
            true => u64::MAX,
            false => self.durable,
        };
        while let Some((next, entry)) = self.closing.front().copied() {
            if entry && next > durable {
                break;
            }
            self.held = self.held.max(next);
            self.closing.pop_front();
        }
    }

    /// Works once. `due` are the cuts that it is to say.
    pub fn act(
        &mut self,
        world: &World,
        wall: i64,
        due: Option<Cut>,
    ) -> Result<Sent, RecoveryError> {
        self.give_up(world);
        let stopping = self.stop_at.is_some_and(|at| self.open >= at);
        if self.open == u64::MAX || stopping {
            return Ok(Sent::default());
        }
        let mut sent = Sent {
            open: self.open,
            ..Sent::default()
        };
        self.read(world, wall, &mut sent.records)?;
        let limit = self.stop_at.unwrap_or(u64::MAX);
        let next = self.least().min(limit);
        sent.cut = self.cut(next, due).map(|cut| (self.held, cut));
        if next > self.open {
            sent.entry = self.close(next);
        }
        Ok(sent)
    }

    fn read(&mut self, world: &World, wall: i64, to: &mut Vec<Taken>) -> Result<(), RecoveryError> {
        for partition in &mut self.partitions {
            partition.look(world, wall);
        }
        let mut last = self.open;
        loop {
            let tick = self.least();
            if world.mistakes.tick_by_worker {
                let fresh = self.partitions.iter_mut().filter(|p| !p.scripted());
                fresh.for_each(|partition| partition.next = tick);
            }
            let enough = self.records >= self.step_records && tick > last;
            let stopped = tick >= self.stop_at.unwrap_or(u64::MAX);
            let unread = self
                .partitions
                .iter()
                .position(|p| p.unread && p.next == tick);
            let Some(at) = unread.filter(|_| !enough && !stopped) else {
                return Ok(());
            };
            last = tick;
            let partition = &mut self.partitions[at];
            let taken = partition.take(world, tick, wall)?;
            self.records += taken.len();
            to.extend(taken);
            if partition.next <= tick {
                partition.look(world, wall);
            }
        }
    }

    fn close(&mut self, next: Tick) -> Option<Entry> {
        self.records = 0;
        self.open = next;
        let closed = self.partitions.iter_mut();
        let partitions: Vec<_> = closed.filter_map(Partition::close_step).collect();
        let fresh = !partitions.is_empty();
        self.closing.push_back((next, fresh));
        fresh.then_some(Entry {
            worker: self.worker,
            until: next,
            partitions,
        })
    }

    fn cut(&mut self, next: Tick, due: Option<Cut>) -> Option<Cut> {
        let stop = self.stop && self.stop_at.is_none();
        if next == u64::MAX || (!stop && due.is_none()) {
            return None;
        }
        let ahead = if stop { STOP_TICKS } else { 1 };
        let tick = next.max(self.open) + ahead * TICK;
        if stop {
            self.stop_at = Some(tick);
        }
        Some(Cut {
            tick,
            stop,
            files: stop || due.is_some_and(|cut| cut.files),
            snapshot: stop || due.is_some_and(|cut| cut.snapshot),
        })
    }
}
