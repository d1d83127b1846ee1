//! What is known of a partition that is being read, between its reader and the thread that asks
//! for its end.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{KafkaError, Silence};
use crate::wall;

/// A leader that is deposed, or a broker that has just started, may be behind: only so many
/// answers in a row are believed that take back what was said before.
pub(super) const BELIEVED: u32 = 3;

/// What a leader answered.
#[derive(Clone, Copy)]
pub(super) struct Answer {
    /// When it was asked.
    pub(super) sent: i64,
    /// The offset behind the last record.
    pub(super) end: i64,
}

/// What is known of a partition, between its reader and the one who asks.
pub(super) struct Watched {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    read: AtomicI64,
    failed: AtomicBool,
    doubted: AtomicBool,
    known: Mutex<Known>,
}

struct Known {
    answer: Option<Answer>,
    heard: i64,
    error: Option<String>,
    failure: Option<KafkaError>,
    below: u32,
}

impl Watched {
    pub(super) fn new(topic: Arc<str>, partition: i32, offset: i64) -> Watched {
        Watched {
            topic,
            partition,
            read: AtomicI64::new(offset),
            failed: AtomicBool::new(false),
            doubted: AtomicBool::new(false),
            known: Mutex::new(Known {
                answer: None,
                heard: wall::now(),
                error: None,
                failure: None,
                below: 0,
            }),
        }
    }

    /// The offset that the reader reads next.
    pub(super) fn read(&self) -> i64 {
        self.read.load(Ordering::Relaxed)
    }

    pub(super) fn set_read(&self, offset: i64) {
        self.read.store(offset, Ordering::Relaxed);
    }

    pub(super) fn answer(&self) -> Option<Answer> {
        self.known().answer
    }

    pub(super) fn silence(&self) -> Silence {
        let known = self.known();
        Silence {
            since: known.heard,
            error: known.error.clone(),
        }
    }

    /// Fails if the partition has.
    pub(super) fn failure(&self) -> Result<(), KafkaError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        self.known().failure.clone().map_or(Ok(()), Err)
    }

    /// Fails for good; the first reason stands.
    pub(super) fn fail(&self, error: KafkaError) {
        self.known().failure.get_or_insert(error);
        self.failed.store(true, Ordering::Release);
    }

    pub(super) fn complain(&self, reason: String) {
        self.known().error = Some(reason);
    }

    /// The offset that was asked for does not seem to be there.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Ordering::Relaxed)
    }

    /// What is wrong with an offset, if something is.
    pub(super) fn misplaced(&self, wanted: i64, earliest: i64, end: i64) -> Option<KafkaError> {
        let (topic, partition) = (self.topic.to_string(), self.partition);
        if wanted > end {
            Some(KafkaError::OffsetBeyond {
                topic,
                partition,
                wanted,
                end,
            })
        } else if wanted < earliest {
            Some(KafkaError::OffsetGone {
                topic,
                partition,
                wanted,
                earliest,
                lost: earliest.abs_diff(wanted),
            })
        } else {
            None
        }
    }

    /// Why the offset that comes next cannot be fetched, by where the partition begins and ends.
    pub(super) fn verdict(&self, earliest: i64, end: i64) -> KafkaError {
        let wanted = self.read();
        let diverged = || KafkaError::Diverged {
            topic: self.topic.to_string(),
            partition: self.partition,
            wanted,
        };
        self.misplaced(wanted, earliest, end)
            .unwrap_or_else(diverged)
    }

    /// Takes an answer to a question that was sent when the reader was at `read`. Returns what is
    /// wrong, once it is believed.
    pub(super) fn answered(&self, sent: i64, end: i64, read: i64) -> Option<KafkaError> {
        let mut known = self.known();
        known.heard = wall::now();
        known.error = None;
        if end >= read {
            known.below = 0;
            known.answer = Some(Answer { sent, end });
            return None;
        }
        known.below += 1;
        let believed = known.below >= BELIEVED;
        believed.then(|| self.misplaced(read, i64::MIN, end))?
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
