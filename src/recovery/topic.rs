//! Journals in a topic of Kafka, for jobs whose processes run on several hosts. A process appends to
//! the partition of its number; a record's key is the journal's name, its value where its bytes lie
//! in the journal (u64, little-endian) and the bytes. So a journal is the same bytes as in a file.
//!
//! What was appended is durable when all replicas in step have it. Whoever was replaced may append
//! for a while: that is no more harm than in a file, since a start notes up to where each journal
//! counts. By the places in the records, one that came twice is passed over and a hole is an error.
//!
//! Journals go from the front: a partition's records are deleted up to the first of a journal that is
//! still needed. So the topic must be kept for good by its own settings, and not be compacted.
//!
//! A start reads all of it into memory, up to the high watermarks: what came since the last snapshot.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Append, Journals, RecoveryError};
use crate::kafka::{
    Appender, Connection, Consumer, KafkaError, Options, Patience, Place, create, delete_records,
    describe, grow, offsets, settings_of,
};

/// A record holds at most so many bytes of a journal.
const PIECE: usize = 256 << 10;
/// The bytes in front of them.
const PLACE: usize = 8;
/// How often it is looked whether more has come.
const GLANCE: Duration = Duration::from_millis(2);

/// What the topic's settings must be.
const SETTINGS: [(&str, &str); 3] = [
    ("cleanup.policy", "delete"),
    ("retention.ms", "-1"),
    ("retention.bytes", "-1"),
];

/// A topic of journals. Cheap to clone.
#[derive(Clone)]
pub struct Topic(Arc<Inner>);

struct Inner {
    connection: Connection,
    topic: String,
    patience: Patience,
    known: Mutex<Known>,
}

/// What is known of the topic.
#[derive(Default)]
struct Known {
    /// Whether it has been read.
    looked: bool,
    journals: BTreeMap<String, Held>,
    /// Up to where each partition has been deleted.
    deleted: BTreeMap<i32, i64>,
    /// Once one's own journal has begun.
    appender: Option<Arc<Appender>>,
}

/// A journal, as it was when the topic was read.
struct Held {
    partition: i32,
    /// The offsets of its first record, and behind its last.
    first: i64,
    next: i64,
    bytes: Vec<u8>,
    forgotten: bool,
}

/// A journal that is appended to.
pub struct TopicFile {
    appender: Arc<Appender>,
    partition: i32,
    name: String,
    length: u64,
}

impl Topic {
    /// The topic as it is; one that is not there holds nothing.
    pub fn at(connection: Connection, topic: String, patience: Patience) -> Topic {
        Topic(Arc::new(Inner {
            connection,
            topic,
            patience,
            known: Mutex::default(),
        }))
    }

    /// Makes the topic ready for so many processes: creates it if it is not there, adds partitions
    /// if it has too few, and refuses one that does not keep what it has.
    ///
    /// # Errors
    /// What the brokers say; other settings.
    pub fn prepare(&self, processes: usize) -> Result<(), RecoveryError> {
        let Inner {
            connection,
            topic,
            patience,
            ..
        } = &*self.0;
        match describe(connection, topic, patience) {
            Ok(found) if found.partitions < processes => {
                grow(connection, topic, processes, patience)?;
            }
            Ok(_) => {}
            Err(KafkaError::NoTopic { .. }) => {
                create(connection, topic, processes, &SETTINGS, patience)?;
            }
            Err(error) => return Err(error.into()),
        }
        let found = settings_of(connection, topic, patience)?;
        for (name, expected) in SETTINGS {
            let found = found.get(name).map_or("", String::as_str);
            if found != expected {
                return Err(RecoveryError::JournalTopic {
                    topic: topic.clone(),
                    setting: name,
                    found: found.to_owned(),
                    expected,
                });
            }
        }
        Ok(())
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads all of it.
    fn look(&self) -> Result<BTreeMap<String, Held>, RecoveryError> {
        loop {
            match self.read() {
                // Whoever runs has deleted something meanwhile.
                Err(RecoveryError::Kafka(KafkaError::OffsetGone { .. })) => {}
                Err(RecoveryError::Kafka(KafkaError::NoTopic { .. })) => return Ok(BTreeMap::new()),
                done => return done,
            }
        }
    }

    fn read(&self) -> Result<BTreeMap<String, Held>, RecoveryError> {
        let Inner {
            connection,
            topic,
            patience,
            ..
        } = &*self.0;
        let partitions = describe(connection, topic, patience)?.partitions;
        let all: Vec<i32> = (0..partitions as i32).collect();
        let earliest = offsets(connection, topic, &all, Place::Earliest, patience)?;
        let ends = offsets(connection, topic, &all, Place::End, patience)?;
        let bounds = all.iter().zip(earliest.into_iter().zip(ends));
        let bounds: Vec<_> = bounds.filter(|(_, (from, end))| from < end).collect();
        let from: Vec<(i32, i64)> = bounds.iter().map(|(n, (from, _))| (**n, *from)).collect();
        let mut journals = BTreeMap::new();
        if from.is_empty() {
            return Ok(journals);
        }
        let options = Options::default();
        let (_consumer, mut readers) = Consumer::open(connection, topic, &from, options, patience)?;
        for (reader, (partition, (_, end))) in readers.iter_mut().zip(bounds) {
            while reader.offset() < end {
                let Some(record) = reader.peek()? else {
                    if patience.stopped() {
                        return Err(KafkaError::Stopped.into());
                    }
                    std::thread::sleep(GLANCE);
                    continue;
                };
                let key = record.key.unwrap_or_default();
                let value = record.value.unwrap_or_default();
                take(&mut journals, *partition, record.offset, key, value)
                    .map_err(|found| self.damaged(*partition, record.offset, found))?;
                reader.advance();
            }
        }
        Ok(journals)
    }

    fn damaged(&self, partition: i32, offset: i64, found: String) -> RecoveryError {
        RecoveryError::Damaged {
            file: format!("topic {:?}, partition {partition}", self.0.topic),
            at: offset as u64,
            found,
            expected: "the next bytes of a journal".to_owned(),
        }
    }
}

/// Puts a record's bytes where they belong, or says what is wrong with it.
fn take(
    journals: &mut BTreeMap<String, Held>,
    partition: i32,
    offset: i64,
    key: &[u8],
    value: &[u8],
) -> Result<(), String> {
    let name = str::from_utf8(key).map_err(|_| "a key that is no name".to_owned())?;
    let (place, bytes) = value
        .split_first_chunk::<PLACE>()
        .ok_or("a value of less than 8 bytes")?;
    let place = u64::from_le_bytes(*place);
    let Some(held) = journals.get_mut(name) else {
        // The rest of one whose beginning was deleted, so nobody needs it.
        if place == 0 {
            let held = Held {
                partition,
                first: offset,
                next: offset + 1,
                bytes: bytes.to_vec(),
                forgotten: false,
            };
            journals.insert(name.to_owned(), held);
        }
        return Ok(());
    };
    let length = held.bytes.len() as u64;
    if place > length {
        return Err(format!("byte {place} of {name}, which ends at {length}"));
    }
    if place == length {
        held.bytes.extend_from_slice(bytes);
    }
    held.next = offset + 1;
    Ok(())
}

/// The partition of a journal: the number of the process in its name.
fn partition_of(name: &str) -> Option<i32> {
    name.rsplit('/').next()?.split('-').nth(1)?.parse().ok()
}

impl Journals for Topic {
    type File = TopicFile;

    fn names(&self) -> Result<Vec<String>, RecoveryError> {
        if self.known().appender.is_none() {
            let journals = self.look()?;
            let mut known = self.known();
            (known.journals, known.looked) = (journals, true);
        }
        let known = self.known();
        let there = known.journals.iter().filter(|(_, held)| !held.forgotten);
        Ok(there.map(|(name, _)| name.clone()).collect())
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        if !self.known().looked {
            self.names()?;
        }
        let known = self.known();
        let held = known.journals.get(name).filter(|held| !held.forgotten);
        Ok(held.map(|held| held.bytes.clone()))
    }

    fn begin(&self, name: &str) -> Result<TopicFile, RecoveryError> {
        let there = self.bytes(name)?.is_some();
        let partition = partition_of(name).filter(|_| !there);
        let partition = partition.ok_or_else(|| RecoveryError::Damaged {
            file: name.to_owned(),
            at: 0,
            found: "a journal of that name".to_owned(),
            expected: "none yet".to_owned(),
        })?;
        let Inner {
            connection,
            topic,
            patience,
            ..
        } = &*self.0;
        // All that was sent before is there, so its first record comes here or later.
        let first = offsets(connection, topic, &[partition], Place::End, patience)?[0];
        let mut known = self.known();
        let appender = match &known.appender {
            Some(appender) => appender.clone(),
            None => Arc::new(Appender::open(connection, topic, patience)?),
        };
        known.appender = Some(appender.clone());
        // What was read is used by now.
        for held in known.journals.values_mut() {
            held.bytes = Vec::new();
        }
        let held = Held {
            partition,
            first,
            next: first,
            bytes: Vec::new(),
            forgotten: false,
        };
        known.journals.insert(name.to_owned(), held);
        Ok(TopicFile {
            appender,
            partition,
            name: name.to_owned(),
            length: 0,
        })
    }

    /// What can be read is durable.
    fn harden(&self, _: &str) -> Result<(), RecoveryError> {
        Ok(())
    }

    fn forget(&self, name: &str) -> Result<(), RecoveryError> {
        let mut known = self.known();
        let Some(held) = known.journals.get_mut(name) else {
            return Ok(());
        };
        held.forgotten = true;
        let partition = held.partition;
        let here = known
            .journals
            .values()
            .filter(|held| held.partition == partition);
        let needed = here.clone().filter(|held| !held.forgotten);
        // Another process's own journal, which is not known here, lies behind all that was read.
        let before = match needed.map(|held| held.first).min() {
            Some(first) => first,
            None => here.map(|held| held.next).max().unwrap_or(0),
        };
        let deleted = known.deleted.entry(partition).or_default();
        if before > *deleted {
            *deleted = before;
            drop(known);
            let Inner {
                connection,
                topic,
                patience,
                ..
            } = &*self.0;
            delete_records(connection, topic, partition, before, patience)?;
        }
        Ok(())
    }
}

impl Append for TopicFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), RecoveryError> {
        for piece in bytes.chunks(PIECE) {
            let mut value = Vec::with_capacity(PLACE + piece.len());
            value.extend_from_slice(&self.length.to_le_bytes());
            value.extend_from_slice(piece);
            self.appender
                .append(self.partition, self.name.as_bytes(), &value)?;
            self.length += piece.len() as u64;
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        Ok(self.appender.flush()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(place: u64, bytes: &[u8]) -> Vec<u8> {
        [&place.to_le_bytes(), bytes].concat()
    }

    #[test]
    fn what_came_twice_is_passed_over_and_a_hole_is_an_error() {
        let mut journals = BTreeMap::new();
        let mut put = |offset, name: &str, place, bytes: &[u8]| {
            let value = value(place, bytes);
            take(&mut journals, 1, offset, name.as_bytes(), &value)
        };
        put(5, "journal/old", 7, b"the rest of a deleted one").unwrap();
        put(6, "journal/a", 0, b"abc").unwrap();
        put(7, "journal/a", 0, b"abc").unwrap();
        put(8, "journal/b", 0, b"x").unwrap();
        put(9, "journal/a", 3, b"de").unwrap();
        let hole = put(10, "journal/b", 2, b"z").unwrap_err();
        assert_eq!(hole, "byte 2 of journal/b, which ends at 1");
        assert!(put(11, "journal/a", 0, b"").is_ok());
        let names: Vec<_> = journals.keys().collect();
        assert_eq!(names, ["journal/a", "journal/b"]);
        let a = &journals["journal/a"];
        assert_eq!((&a.bytes[..], a.first, a.next), (&b"abcde"[..], 6, 12));
    }

    #[test]
    fn a_partition_is_its_process() {
        let name = super::super::journal::file_name(3, 12, 0);
        assert_eq!(partition_of(&name), Some(12));
        assert_eq!(partition_of("journal/text"), None);
    }
}
