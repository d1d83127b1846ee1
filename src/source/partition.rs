//! One partition of a source: what comes next, at which tick, and what holds it there.
//!
//! After a start it first follows its script: the same records at the same ticks. Then it goes on by
//! its clock.

use std::collections::BTreeSet;

use visitflow_dataflows::batch::Fate;
use visitflow_dataflows::clock::PartitionClock;
use visitflow_dataflows::intake::{Arrived, Intake, Outboxes};
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::message;

use super::SourceError;
use super::reading::Reading;
use crate::recovery::RecoveryError;
use crate::recovery::journal::{Closed, hash};
use crate::recovery::script::{Resume, Script};

/// After so long without an answer a partition's brokers are silent, in ms.
const SILENT: i64 = 3_000;

/// Which term of the minimum holds a partition's tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The wall clock: everything there is has been read.
    Wall,
    /// Its records' own times: there is more to read.
    Unread,
    /// Its records' own times: there is more, which has not come yet.
    Fetching,
    /// The last answer: since then no broker has said whether there is more.
    Silent,
    /// A budget: what was read and is not written yet is too much.
    Paused,
    /// It was read to its end and is not followed.
    Closed,
}

/// One partition of the source's topic.
pub struct Partition {
    /// Its number.
    pub index: u32,
    /// The tick of what comes next; `u64::MAX` once it is closed.
    pub next: Tick,
    /// What holds `next` where it is.
    pub hold: Hold,
    /// Its clock.
    pub clock: PartitionClock,
    /// Where its records come from.
    pub reading: Reading,
    script: Script,
    /// No tick behind the script lies below this.
    floor: Tick,
    /// Whether it was closed before.
    closed: bool,
    /// What lies before this tick is in the state already.
    restored: Tick,
    /// The schemas that were known when it last met them.
    known: BTreeSet<u64>,
    last_known: Option<u64>,
    /// What was read and not journaled.
    step: Closed,
}

impl Partition {
    /// Goes on where `resume` says; a clock that has seen nothing is set to where it stood.
    /// `restored` is the tick of the snapshot from which the job goes on.
    pub fn new(
        index: u32,
        reading: Reading,
        clock: PartitionClock,
        resume: Resume,
        restored: Tick,
    ) -> Partition {
        let mut clock = clock.at(resume.clock);
        if resume.script.tick().is_none() {
            clock.advance(resume.floor);
        }
        Partition {
            index,
            next: 0,
            hold: Hold::Wall,
            clock,
            reading,
            script: resume.script,
            floor: resume.floor,
            closed: resume.closed,
            restored,
            known: resume.schemas,
            last_known: None,
            step: Closed::default(),
        }
    }

    /// Looks at what comes next and says at which tick that is. `wall` is now.
    pub fn look(&mut self, follow: bool, wall: i64) -> Result<(), SourceError> {
        if self.hold == Hold::Closed {
            return Ok(());
        }
        if let Some(tick) = self.script.tick() {
            self.next = tick;
            let there = self.reading.peek()?.is_some();
            if !there && self.reading.is_immediate() {
                return Err(RecoveryError::OtherRecords {
                    partition: self.index,
                    offset: self.reading.offset(),
                    detail: format!("{} more were there", self.script.left()),
                }
                .into());
            }
            self.hold = if there { Hold::Unread } else { Hold::Fetching };
            return Ok(());
        }
        if self.closed {
            (self.next, self.hold) = (u64::MAX, Hold::Closed);
            return Ok(());
        }
        let log_time = self.reading.peek()?.map(|record| record.log_time);
        match log_time {
            Some(log_time) => {
                self.next = self.clock.tick_of(log_time, wall);
                self.hold = Hold::Unread;
            }
            None => match self.reading.answered(wall) {
                Some(_) if !follow => (self.next, self.hold) = (u64::MAX, Hold::Closed),
                Some(asked) => {
                    self.next = self.clock.tick_at_end(asked, wall);
                    self.clock.advance(self.next);
                    self.hold = Hold::Wall;
                }
                None => {
                    // More is known to be unread, or nobody has answered: time is the records' own.
                    self.next = self.clock.tick_of(self.clock.now(), wall);
                    self.clock.advance(self.next);
                    let silent = self.reading.silence();
                    let silent = silent.is_some_and(|(since, _)| wall - since > SILENT);
                    self.hold = if silent { Hold::Silent } else { Hold::Fetching };
                }
            },
        }
        Ok(())
    }

    /// Reads all that comes at `tick`. `discard` takes what the state holds already.
    pub fn take(
        &mut self,
        tick: Tick,
        wall: i64,
        topic: &str,
        intake: &mut Intake,
        outboxes: &mut Outboxes,
        discard: &mut Outboxes,
        mut took: impl FnMut(&mut Outboxes, usize),
    ) -> Result<(), SourceError> {
        self.clock.advance(tick);
        while let Some(record) = self.reading.peek()? {
            let scripted = self.script.tick();
            let next = scripted.unwrap_or_else(|| self.clock.tick_of(record.log_time, wall));
            if next > tick {
                self.next = next;
                return Ok(());
            }
            let arrived = Arrived {
                topic,
                partition: self.index,
                offset: record.offset,
                log_time: record.log_time,
                value: record.value,
            };
            let (offset, length) = (record.offset, record.value.len());
            let schema = message::split(record.value).map(|(schema, _)| schema).ok();
            let to = if tick < self.restored {
                &mut *discard
            } else {
                &mut *outboxes
            };
            let _: Fate = match (scripted, schema) {
                (Some(_), Some(schema)) => {
                    self.known.extend(self.script.schemas(offset));
                    if self.known.contains(&schema) {
                        if !intake.learn(schema)? {
                            return Err(SourceError::SchemaGone(schema));
                        }
                        intake.take(arrived, &mut self.clock, to)?
                    } else {
                        intake.take_unknown(arrived, &mut self.clock, to)?
                    }
                }
                _ => intake.take(arrived, &mut self.clock, to)?,
            };
            if scripted.is_some() {
                self.script.take(offset, length)?;
                if self.script.tick().is_none() {
                    self.clock.advance(self.floor);
                }
            } else {
                self.step.hash = hash(self.step.hash, offset, length);
                match self.step.ticks.last_mut() {
                    Some((last, count)) if *last == tick => *count += 1,
                    _ => self.step.ticks.push((tick, 1)),
                }
                if schema.is_some() && schema != self.last_known {
                    self.learnt(schema, offset, intake);
                }
            }
            self.reading.advance();
            took(outboxes, length);
        }
        Ok(())
    }

    /// Notes that a schema was known which this partition has not met, or not known, before.
    fn learnt(&mut self, schema: Option<u64>, offset: u64, intake: &Intake) {
        let Some(schema) = schema.filter(|schema| intake.knows(*schema)) else {
            return;
        };
        self.last_known = Some(schema);
        if self.known.insert(schema) {
            self.step.schemas.push((schema, offset));
        }
    }

    /// What was read since the last time, for the journal; `None` while the script is followed.
    pub fn close_step(&mut self) -> Option<Closed> {
        if self.script.tick().is_some() {
            return None;
        }
        let step = std::mem::take(&mut self.step);
        Some(Closed {
            partition: self.index,
            next: self.reading.offset(),
            clock: self.clock.state(),
            closed: self.hold == Hold::Closed,
            ..step
        })
    }
}
