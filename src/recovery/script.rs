//! Scripts: what a partition must read again after a start, at which ticks, before it may go on by
//! the clock.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use visitflow_dataflows::clock::ClockState;
use visitflow_dataflows::visit::Tick;

use super::RecoveryError;
use super::journal::{Closed, Entry, hash};

/// Where a partition goes on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resume {
    /// The offset of the first record that is read.
    pub offset: u64,
    /// Its clock in front of that.
    pub clock: ClockState,
    /// The schemas that were known there.
    pub schemas: BTreeSet<u64>,
    /// What is read again.
    pub script: Script,
    /// Behind the script no tick lies below this.
    pub floor: Tick,
    /// Whether nothing comes behind the script.
    pub closed: bool,
    /// The last entry's state behind the script, for the next journal.
    pub behind: Closed,
}

/// What is read again.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Script {
    partition: u32,
    parts: VecDeque<Part>,
}

/// What one entry says of the partition.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    next: u64,
    ticks: VecDeque<(Tick, u32)>,
    hash: u64,
    seen: u64,
    schemas: Vec<(u64, u64)>,
}

impl Script {
    /// The tick of the next record; `None` behind the last.
    #[must_use]
    pub fn tick(&self) -> Option<Tick> {
        Some(self.parts.front()?.ticks.front()?.0)
    }

    /// The schemas that became known with a record of this offset.
    pub fn schemas(&self, offset: u64) -> impl Iterator<Item = u64> + '_ {
        let part = self.parts.front();
        let named = part.into_iter().flat_map(|part| &part.schemas);
        named
            .filter(move |(_, at)| *at == offset)
            .map(|(fingerprint, _)| *fingerprint)
    }

    /// Goes past a record, which must be the one that was read before.
    ///
    /// # Errors
    /// [`RecoveryError::OtherRecords`], at the latest with an entry's last record.
    pub fn take(&mut self, offset: u64, length: usize) -> Result<(), RecoveryError> {
        let Some(part) = self.parts.front_mut() else {
            return Ok(());
        };
        part.seen = hash(part.seen, offset, length);
        if let Some((_, count)) = part.ticks.front_mut() {
            *count -= 1;
            if *count == 0 {
                part.ticks.pop_front();
            }
        }
        let wrong = |detail: String| RecoveryError::OtherRecords {
            partition: self.partition,
            offset,
            detail,
        };
        if offset >= part.next {
            return Err(wrong(format!(
                "offset {offset}, expected one below {}",
                part.next
            )));
        }
        if part.ticks.is_empty() {
            if part.seen != part.hash {
                return Err(wrong("other offsets or lengths".to_owned()));
            }
            self.parts.pop_front();
        }
        Ok(())
    }

    /// How many records are still to be read again.
    #[must_use]
    pub fn left(&self) -> u64 {
        let ticks = self.parts.iter().flat_map(|part| &part.ticks);
        ticks.map(|(_, count)| u64::from(*count)).sum()
    }
}

/// Where each partition goes on behind the snapshot of tick `at` (0 for none), by all entries that
/// count, in order.
///
/// # Errors
/// A journal that begins in the middle, or has a hole.
pub fn resume(entries: &[Entry], at: Tick) -> Result<BTreeMap<u32, Resume>, RecoveryError> {
    let mut partitions: BTreeMap<u32, Resume> = BTreeMap::new();
    for entry in entries {
        for closed in &entry.partitions {
            let known = partitions.contains_key(&closed.partition);
            let resume = partitions.entry(closed.partition).or_default();
            resume.script.partition = closed.partition;
            if !known {
                // The first that is told of a partition is a base.
                if !closed.ticks.is_empty() {
                    return Err(RecoveryError::Hole {
                        partition: closed.partition,
                        found: closed.next,
                        expected: 0,
                    });
                }
                resume.offset = closed.next;
                resume.clock = closed.clock;
                resume.schemas = closed.schemas.iter().map(|(known, _)| *known).collect();
                resume.behind = closed.clone();
            }
            if closed.ticks.is_empty() {
                // Time went on without records; or a file's base, which repeats what is known.
                if closed.next < resume.behind.next {
                    return Err(RecoveryError::Hole {
                        partition: closed.partition,
                        found: closed.next,
                        expected: resume.behind.next,
                    });
                }
            } else if closed.ticks.iter().all(|(tick, _)| *tick < at)
                && resume.script.parts.is_empty()
            {
                resume
                    .schemas
                    .extend(closed.schemas.iter().map(|(known, _)| *known));
            } else {
                resume.script.parts.push_back(Part {
                    next: closed.next,
                    ticks: closed.ticks.iter().copied().collect(),
                    hash: closed.hash,
                    seen: 0,
                    schemas: closed.schemas.clone(),
                });
            }
            let mut schemas = std::mem::take(&mut resume.behind.schemas);
            schemas.extend_from_slice(&closed.schemas);
            schemas.sort_unstable();
            schemas.dedup_by_key(|(fingerprint, _)| *fingerprint);
            resume.behind = Closed {
                ticks: Vec::new(),
                hash: 0,
                schemas,
                ..closed.clone()
            };
            if resume.script.parts.is_empty() {
                (resume.offset, resume.clock) = (closed.next, closed.clock);
            }
            let last = closed.ticks.last().map_or(0, |(tick, _)| *tick);
            resume.floor = resume.floor.max(entry.until).max(last);
            resume.closed = closed.closed;
        }
    }
    Ok(partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(tick: Tick) -> ClockState {
        ClockState {
            now: tick as i64,
            tick,
            claim: None,
        }
    }

    fn entry(until: Tick, partition: u32, next: u64, ticks: &[(Tick, u32)]) -> Entry {
        let mut seen = 0;
        let count: u32 = ticks.iter().map(|(_, count)| count).sum();
        for offset in next - u64::from(count)..next {
            seen = hash(seen, offset, 10);
        }
        let last = ticks.last().map_or(until, |(tick, _)| *tick);
        Entry {
            worker: 0,
            until,
            partitions: vec![Closed {
                partition,
                next,
                ticks: ticks.to_vec(),
                hash: seen,
                clock: clock(last),
                ..Closed::default()
            }],
        }
    }

    #[test]
    fn what_lies_behind_the_snapshot_is_read_again_at_its_ticks() {
        let entries = [
            entry(0, 7, 100, &[]),
            entry(200, 7, 103, &[(100, 3)]),
            entry(400, 7, 106, &[(200, 1), (300, 2)]),
            entry(500, 7, 106, &[]),
        ];
        let resume = resume(&entries, 300).unwrap().remove(&7).unwrap();
        // The entry in which the snapshot's tick lies is read from its beginning.
        assert_eq!((resume.offset, resume.clock), (103, clock(100)));
        assert_eq!((resume.floor, resume.script.left()), (500, 3));
        let mut script = resume.script;
        assert_eq!(script.tick(), Some(200));
        script.take(103, 10).unwrap();
        assert_eq!(script.tick(), Some(300));
        script.take(104, 10).unwrap();
        script.take(105, 10).unwrap();
        assert_eq!(script.tick(), None);
    }

    #[test]
    fn other_records_than_before_are_an_error() {
        let entries = [entry(0, 7, 100, &[]), entry(200, 7, 102, &[(100, 2)])];
        let mut script = resume(&entries, 0).unwrap().remove(&7).unwrap().script;
        script.take(100, 10).unwrap();
        let error = script.take(101, 11).unwrap_err().to_string();
        assert!(error.contains("partition 7"), "{error}");
        let mut script = resume(&entries, 0).unwrap().remove(&7).unwrap().script;
        assert!(script.take(102, 10).is_err());
    }

    #[test]
    fn a_later_base_repeats_what_is_known_and_a_journal_without_one_is_an_error() {
        let entries = [
            entry(0, 7, 100, &[]),
            entry(200, 7, 102, &[(100, 2)]),
            entry(200, 7, 102, &[]),
            entry(300, 7, 103, &[(200, 1)]),
        ];
        let whole = resume(&entries, 0).unwrap().remove(&7).unwrap();
        assert_eq!((whole.offset, whole.script.left()), (100, 3));
        let later = resume(&entries[2..], 200).unwrap().remove(&7).unwrap();
        assert_eq!((later.offset, later.script.left()), (102, 1));
        assert!(resume(&entries[1..], 0).is_err());
    }
}
