//! What one transaction holds: records for any topics, and how far they take which shards.

use std::collections::BTreeSet;
use std::sync::Arc;

/// Records that are committed together, with the progress that they make. All bytes lie in one
/// place and a record costs no allocation; [`clear`](Batch::clear) keeps the memory.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// How far the shards are committed with it.
    pub progress: Progress,
    bytes: Vec<u8>,
    records: Vec<Slot>,
    topics: Vec<Arc<str>>,
}

/// How far a batch takes shards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// The tick before which all output of the shards is in this batch or in earlier ones.
    pub until: u64,
    /// The shards, each with the sum that its output has then. Only shards whose progress is not
    /// beyond `until` yet.
    pub shards: Vec<(u8, u64)>,
}

/// What a record says of when it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    /// Its tick, as the header `tick`; its time is that at which it is sent.
    Tick(u64),
    /// A time, in milliseconds since 1970, and nothing else.
    Time(i64),
    /// Nothing: its time is that at which it is sent.
    None,
}

/// A record in the batch's bytes.
#[derive(Clone, Copy, Debug)]
struct Slot {
    stamp: Stamp,
    start: usize,
    key: u32,
    value: u32,
    topic: u32,
    partition: i32,
}

/// A record as it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Outgoing<'a> {
    pub(super) topic: &'a str,
    pub(super) partition: i32,
    pub(super) stamp: Stamp,
    pub(super) key: &'a [u8],
    pub(super) value: &'a [u8],
}

impl Outgoing<'_> {
    /// How many bytes its key and value have.
    pub(super) fn bytes(&self) -> usize {
        self.key.len() + self.value.len()
    }
}

impl Batch {
    /// Adds a record, its value in parts. Records of one partition keep their order; `tick`
    /// becomes the header `tick`, in decimal digits.
    pub fn push(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        tick: u64,
        key: &[u8],
        value: &[&[u8]],
    ) {
        self.add(topic, partition, Stamp::Tick(tick), key, value);
    }

    /// Adds a record that says no tick; `time`, in milliseconds since 1970, is its time, if the
    /// topic has `message.timestamp.type=CreateTime`. For those who must not be told when it was.
    pub fn push_at(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        time: i64,
        key: &[u8],
        value: &[u8],
    ) {
        self.add(topic, partition, Stamp::Time(time), key, &[value]);
    }

    fn add(&mut self, topic: &Arc<str>, partition: i32, stamp: Stamp, key: &[u8], value: &[&[u8]]) {
        let known = self.topics.iter().position(|known| known == topic);
        let topic = known.unwrap_or_else(|| {
            self.topics.push(topic.clone());
            self.topics.len() - 1
        });
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        for part in value {
            self.bytes.extend_from_slice(part);
        }
        // Brokers take no record that does not fit into 31 bits.
        let value = (self.bytes.len() - start - key.len()) as u32;
        self.records.push(Slot {
            stamp,
            start,
            key: key.len() as u32,
            value,
            topic: topic as u32,
            partition,
        });
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has no records. Such a batch makes progress nevertheless.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// How many bytes of keys and values it has.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Makes it empty, with no progress, and keeps its memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.progress.until = 0;
        self.progress.shards.clear();
    }

    /// The partitions that it has records for, by topic, in order.
    pub(super) fn partitions(&self) -> impl Iterator<Item = (&str, BTreeSet<i32>)> {
        let mut found = vec![BTreeSet::new(); self.topics.len()];
        let mut last = None;
        for slot in &self.records {
            // Records mostly come in runs.
            if last.replace((slot.topic, slot.partition)) != Some((slot.topic, slot.partition)) {
                found[slot.topic as usize].insert(slot.partition);
            }
        }
        let topics = self.topics.iter().map(|topic| &**topic);
        topics.zip(found)
    }

    /// Its records in the order in which they came.
    pub(super) fn records(&self) -> impl Iterator<Item = Outgoing<'_>> {
        self.records.iter().map(|slot| {
            let bytes = &self.bytes[slot.start..];
            let (key, rest) = bytes.split_at(slot.key as usize);
            Outgoing {
                topic: &self.topics[slot.topic as usize],
                partition: slot.partition,
                stamp: slot.stamp,
                key,
                value: &rest[..slot.value as usize],
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_as_they_went_in() {
        let (visits, tagged): (Arc<str>, Arc<str>) = ("visits".into(), "tagged".into());
        let mut batch = Batch::default();
        for _ in 0..2 {
            batch.clear();
            batch.push(&visits, 3, 100, b"key", &[b"a", b"", b"value"]);
            batch.push(&tagged, 1, 200, b"", &[]);
            batch.push_at(&visits, 0, 300, b"k", b"v");
            let outgoing = |topic, partition, stamp, key, value| Outgoing {
                topic,
                partition,
                stamp,
                key,
                value,
            };
            let expected = [
                outgoing("visits", 3, Stamp::Tick(100), &b"key"[..], &b"avalue"[..]),
                outgoing("tagged", 1, Stamp::Tick(200), b"", b""),
                outgoing("visits", 0, Stamp::Time(300), b"k", b"v"),
            ];
            assert!(batch.records().eq(expected));
            assert_eq!((batch.len(), batch.bytes()), (3, 11));
            let visits = ("visits", BTreeSet::from([0, 3]));
            let tagged = ("tagged", BTreeSet::from([1]));
            assert!(batch.partitions().eq([visits, tagged]));
        }
    }
}
