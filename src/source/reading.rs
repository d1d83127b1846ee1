//! A partition as a source reads it, of whichever log.

use super::SourceError;
use crate::{kafka, log};

/// A record.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its offset.
    pub offset: u64,
    /// When the log took it, in ms.
    pub log_time: i64,
    /// The message.
    pub value: &'a [u8],
}

/// Reads a partition.
pub enum Reading {
    /// Of the embedded log, which answers at once.
    Embedded(log::Reader),
    /// Of Kafka, where a broker must answer.
    Kafka(kafka::Reader),
}

impl Reading {
    /// The next record that is there, the same until [`advance`](Reading::advance).
    ///
    /// # Errors
    /// What the log meets.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, SourceError> {
        match self {
            Reading::Embedded(reader) => Ok(reader.peek()?.map(|record| Record {
                offset: record.offset,
                log_time: record.log_time,
                value: record.value,
            })),
            Reading::Kafka(reader) => Ok(reader.peek()?.map(|record| Record {
                offset: record.offset as u64,
                log_time: record.log_time,
                value: record.value.unwrap_or_default(),
            })),
        }
    }

    /// Goes past it.
    #[inline]
    pub fn advance(&mut self) {
        match self {
            Reading::Embedded(reader) => reader.advance(),
            Reading::Kafka(reader) => reader.advance(),
        }
    }

    /// The offset of what comes next.
    pub fn offset(&self) -> u64 {
        match self {
            Reading::Embedded(reader) => reader.offset(),
            Reading::Kafka(reader) => reader.offset() as u64,
        }
    }

    /// When the last question was asked, in ms of wall time, to which the answer was that there is
    /// nothing more; `None` while more is known to be unread, or nobody has answered. `wall` is now,
    /// and [`peek`](Reading::peek) has just found nothing.
    pub fn answered(&mut self, wall: i64) -> Option<i64> {
        match self {
            Reading::Embedded(_) => Some(wall),
            Reading::Kafka(reader) => reader.answered(),
        }
    }

    /// How many records are known to be unread, as of a broker's last answer; `None` if nobody has
    /// said so, as in a log whose end is for anyone to see.
    pub fn unread(&mut self) -> Option<u64> {
        match self {
            Reading::Embedded(_) => None,
            Reading::Kafka(reader) => reader.behind(),
        }
    }

    /// Whether its records have to be there at once when they are there at all.
    pub fn is_immediate(&self) -> bool {
        matches!(self, Reading::Embedded(_))
    }

    /// Since when nobody has answered, in ms of wall time, and the last that was heard; `None` for a
    /// log that answers at once.
    pub fn silence(&self) -> Option<(i64, Option<String>)> {
        match self {
            Reading::Embedded(_) => None,
            Reading::Kafka(reader) => {
                let silence = reader.silence();
                Some((silence.since, silence.error))
            }
        }
    }
}
