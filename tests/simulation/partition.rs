//! One partition of a source, as `visitflow::source::Partition` is: first its script, then its
//! clock. Only what reads from the brokers is simulated.

use visitflow::recovery::RecoveryError;
use visitflow::recovery::journal::{Closed, hash};
use visitflow::recovery::script::{Resume, Script};
use visitflow_dataflows::clock::{ClockKind, PartitionClock, Verdict};
use visitflow_dataflows::visit::Tick;

use crate::broker::{Brokers, Record};
use crate::world::{RULES, TICK, World, key};

/// Records are told apart by offset and length; all have this one.
const LENGTH: usize = 10;

/// A clock of a partition that has seen nothing.
pub fn clock() -> PartitionClock {
    PartitionClock::new(ClockKind::LogTime, RULES, 1 << 40, TICK)
}

/// What has come from the brokers.
struct Reading {
    /// The offset of what comes next.
    offset: u64,
    /// Records before this one are here.
    fetched: u64,
    /// When the question on its way was asked, and where the partition ended then.
    question: Option<(i64, u64)>,
    /// The same of the last question that was answered.
    answer: Option<(i64, u64)>,
}

/// A record that was read.
pub struct Taken {
    pub record: Record,
    pub offset: u64,
    pub tick: Tick,
    /// Whether it came too late.
    pub late: bool,
}

/// A partition.
pub struct Partition {
    pub index: u32,
    /// The tick of what comes next.
    pub next: Tick,
    /// Whether there is something to be read at `next`.
    pub unread: bool,
    clock: PartitionClock,
    reading: Reading,
    script: Script,
    floor: Tick,
    restored: Tick,
    step: Closed,
}

impl Partition {
    pub fn new(index: u32, resume: Resume, restored: Tick) -> Partition {
        let mut clock = clock().at(resume.clock);
        if resume.script.tick().is_none() {
            clock.advance(resume.floor);
        }
        Partition {
            index,
            next: 0,
            unread: false,
            clock,
            reading: Reading {
                offset: resume.offset,
                fetched: resume.offset,
                question: None,
                answer: None,
            },
            script: resume.script,
            floor: resume.floor,
            restored,
            step: Closed::default(),
        }
    }

    /// Asks the brokers for what there is, or hears the answer.
    pub fn fetch(&mut self, brokers: &Brokers, wall: i64) {
        if !brokers.reachable {
            self.reading.question = None;
            return;
        }
        match self.reading.question.take() {
            None => {
                let end = brokers.input[self.index as usize].len() as u64;
                self.reading.question = Some((wall, end));
            }
            Some((asked, end)) => {
                self.reading.fetched = self.reading.fetched.max(end);
                self.reading.answer = Some((asked, end));
            }
        }
    }

    fn peek(&self, brokers: &Brokers) -> Option<Record> {
        let Reading {
            offset, fetched, ..
        } = self.reading;
        (offset < fetched).then(|| brokers.input[self.index as usize][offset as usize])
    }

    /// When the last question was asked to which the answer was that there is nothing more.
    fn answered(&self, world: &World, wall: i64) -> Option<i64> {
        if world.mistakes.time_without_answer {
            return Some(wall);
        }
        let (asked, end) = self.reading.answer?;
        (end <= self.reading.offset).then_some(asked)
    }

    /// Looks at what comes next and says at which tick that is.
    pub fn look(&mut self, world: &World, wall: i64) {
        let record = self.peek(&world.brokers.borrow());
        self.unread = record.is_some();
        if let Some(tick) = self.script.tick() {
            self.next = tick;
        } else if let Some(record) = record {
            self.next = self.clock.tick_of(record.log_time, wall);
        } else {
            self.next = match self.answered(world, wall) {
                Some(asked) => self.clock.tick_at_end(asked, wall),
                None => self.clock.tick_of(self.clock.now(), wall),
            };
            if !world.mistakes.tick_by_worker {
                self.clock.advance(self.next);
            }
        }
    }

    /// Whether it still follows its script.
    pub fn scripted(&self) -> bool {
        self.script.tick().is_some()
    }

    /// Reads all that comes at `tick`; what lies before the snapshot is passed over.
    pub fn take(
        &mut self,
        world: &World,
        tick: Tick,
        wall: i64,
    ) -> Result<Vec<Taken>, RecoveryError> {
        let mut all = Vec::new();
        self.clock.advance(tick);
        while let Some(record) = self.peek(&world.brokers.borrow()) {
            let scripted = self.script.tick();
            let mut next = scripted.unwrap_or_else(|| self.clock.tick_of(record.log_time, wall));
            if world.mistakes.tick_by_worker && scripted.is_none() {
                next = tick;
            }
            if next > tick {
                self.next = next;
                break;
            }
            let offset = self.reading.offset;
            self.clock.log_time(record.log_time);
            let verdict = self.clock.judge(record.at.time, key(record.browser));
            if tick >= self.restored {
                all.push(Taken {
                    record,
                    offset,
                    tick,
                    late: !matches!(verdict, Verdict::Now),
                });
            }
            if scripted.is_some() {
                self.script.take(offset, LENGTH)?;
                if self.script.tick().is_none() {
                    self.clock.advance(self.floor);
                }
            } else {
                self.step.hash = hash(self.step.hash, offset, LENGTH);
                match self.step.ticks.last_mut() {
                    Some((last, count)) if *last == tick => *count += 1,
                    _ => self.step.ticks.push((tick, 1)),
                }
            }
            self.reading.offset += 1;
        }
        Ok(all)
    }

    /// What was read since the last time, for the journal; `None` while the script is followed.
    pub fn close_step(&mut self) -> Option<Closed> {
        if self.scripted() {
            return None;
        }
        let step = std::mem::take(&mut self.step);
        Some(Closed {
            partition: self.index,
            next: self.reading.offset,
            clock: self.clock.state(),
            ..step
        })
    }
}
