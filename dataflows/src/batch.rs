//! Batches: the containers in which measurements travel through the dataflow.
//!
//! A [`Batch`] is a list of fixed-size [`Head`]s, which say all that routing and visits need, and
//! the heaps of bytes to which they point. Heaps are shared, so a fragment that reorders records
//! or tags them copies heads only: a measurement's own bytes are written once, by the source, and
//! read again by sinks. Between processes a batch is its plain bytes, cast safely.

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use timely::Accountable;
use timely::bytes::arc::Bytes;
use timely::communication::Push;
use timely::dataflow::channels::pact::DistributorPact;
use timely::dataflow::channels::pushers::exchange::Distributor;
use timely::dataflow::channels::{ContainerBytes, Message};
use timely::progress::Stamp;

use crate::visit::{Position, Tick};

/// What the source has decided over a record, once and for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Fate {
    /// It belongs to a visit.
    Accepted = 0,
    /// It came too late for its visit; `Head::extra` says by how many ms.
    Late = 1,
    /// It is no measurement, or not one of now; the body says why.
    Rejected = 2,
}

/// All that routing and visits need to know of a record. 104 bytes, every bit pattern valid.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct Head {
    /// The browser's key: 128 bits of a cryptographic hash of its ID.
    pub browser: [u64; 2],
    /// Event time and event ID.
    pub at: Position,
    /// The visit's ID, once tagged.
    pub visit: [u64; 2],
    /// The event time of the visit's first measurement, once tagged; how late, for late ones. In ms.
    pub extra: i64,
    /// The tick at which it was read.
    pub tick: Tick,
    /// The fingerprint of its writer's schema.
    pub schema: u64,
    /// Which of the batch's heaps holds its bytes, and from where.
    pub heap: u32,
    /// Where in the heap the record begins: the browser's ID, the context, the body.
    pub start: u32,
    /// Length of the Avro body.
    pub body: u32,
    /// Length of the browser's ID.
    pub browser_id: u16,
    /// Length of the context: what enrichment has found, as Avro bytes.
    pub context: u16,
    /// The shard.
    pub shard: u8,
    /// A [`Fate`].
    pub fate: u8,
    /// Zero.
    pub spare: [u8; 2],
    /// How far, in ms, its log time lies before its tick; what latency is reckoned from.
    pub lag: u32,
}

/// A record of a batch: its head and its bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Record<'a> {
    /// The head.
    pub head: &'a Head,
    /// The browser's ID.
    pub browser_id: &'a [u8],
    /// What enrichment has found, as Avro bytes.
    pub context: &'a [u8],
    /// The Avro body, in the writer's schema.
    pub body: &'a [u8],
}

/// A container of records. Cloning it copies heads, not bytes.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    heads: Vec<Head>,
    heaps: Vec<Arc<Vec<u8>>>,
}

impl Batch {
    /// The heads, in order.
    pub fn heads(&self) -> &[Head] {
        &self.heads
    }

    /// The heads, to be changed in place. What they point to stays.
    pub fn heads_mut(&mut self) -> &mut Vec<Head> {
        &mut self.heads
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// The record of a head of this batch.
    ///
    /// # Panics
    /// If the head is of another batch.
    #[inline]
    pub fn record<'a>(&'a self, head: &'a Head) -> Record<'a> {
        let heap = &self.heaps[head.heap as usize][head.start as usize..];
        let (browser_id, heap) = heap.split_at(head.browser_id as usize);
        let (context, heap) = heap.split_at(head.context as usize);
        Record {
            head,
            browser_id,
            context,
            body: &heap[..head.body as usize],
        }
    }

    /// All records, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'_>> {
        self.heads.iter().map(|head| self.record(head))
    }

    /// The heap that a head of this batch points to.
    pub fn heap(&self, head: &Head) -> &Arc<Vec<u8>> {
        &self.heaps[head.heap as usize]
    }

    /// Makes a heap this batch's too; what heads that point to it are to say.
    pub fn add_heap(&mut self, heap: Arc<Vec<u8>>) -> u32 {
        self.heaps.push(heap);
        self.heaps.len() as u32 - 1
    }

    /// An empty batch with the same heaps.
    pub fn sharing(&self) -> Batch {
        Batch {
            heads: Vec::new(),
            heaps: self.heaps.clone(),
        }
    }

    /// Adds a head that points into one of the heaps.
    pub fn push_head(&mut self, head: Head) {
        debug_assert!((head.heap as usize) < self.heaps.len());
        self.heads.push(head);
    }

    /// Bytes of the heaps that the heads point to.
    pub fn bytes(&self) -> usize {
        self.heads
            .iter()
            .map(|h| h.browser_id as usize + h.context as usize + h.body as usize)
            .sum()
    }
}

/// Fills batches: one heap at a time.
#[derive(Debug, Default)]
pub struct BatchBuilder {
    heads: Vec<Head>,
    heap: Vec<u8>,
}

/// A batch is full with this many records,
const FULL_RECORDS: usize = 1_024;
/// or this many bytes.
const FULL_BYTES: usize = 512 << 10;

impl BatchBuilder {
    /// Adds a record. `head` says what is not lengths and places; the bytes are copied.
    /// `write_context` appends the context.
    #[inline]
    pub fn push(
        &mut self,
        head: Head,
        browser_id: &[u8],
        body: &[u8],
        write_context: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.heap.len();
        self.heap.extend_from_slice(browser_id);
        let context = self.heap.len();
        write_context(&mut self.heap);
        let context = self.heap.len() - context;
        self.heap.extend_from_slice(body);
        self.heads.push(Head {
            heap: 0,
            start: start as u32,
            body: body.len() as u32,
            browser_id: browser_id.len() as u16,
            context: context as u16,
            ..head
        });
    }

    /// Whether it is time to send.
    pub fn is_full(&self) -> bool {
        self.heads.len() >= FULL_RECORDS || self.heap.len() >= FULL_BYTES
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty()
    }

    /// What has been pushed, as a batch; the builder is empty again.
    pub fn take(&mut self) -> Batch {
        let (heads, bytes) = (self.heads.len(), self.heap.len());
        let next = BatchBuilder {
            heads: Vec::with_capacity(heads),
            heap: Vec::with_capacity(bytes + bytes / 8),
        };
        let full = std::mem::replace(self, next);
        Batch {
            heads: full.heads,
            heaps: vec![Arc::new(full.heap)],
        }
    }
}

impl Accountable for Batch {
    fn record_count(&self) -> i64 {
        self.heads.len() as i64
    }
}

/// In bytes: the number of heads, the length of the heap, the heads, the heap, padded to 8.
impl ContainerBytes for Batch {
    fn from_bytes(bytes: Bytes) -> Batch {
        let word = |at: usize| {
            u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes")) as usize
        };
        let (count, length) = (word(0), word(8));
        let heads_end = 16 + count * size_of::<Head>();
        let heads = bytemuck::allocation::pod_collect_to_vec(&bytes[16..heads_end]);
        Batch {
            heads,
            heaps: vec![Arc::new(bytes[heads_end..heads_end + length].to_vec())],
        }
    }

    fn length_in_bytes(&self) -> usize {
        (16 + self.heads.len() * size_of::<Head>() + self.bytes()).next_multiple_of(8)
    }

    fn into_bytes<W: std::io::Write>(&self, writer: &mut W) {
        let length = self.bytes();
        let mut write = |bytes: &[u8]| {
            writer
                .write_all(bytes)
                .expect("a buffer of the announced length")
        };
        write(&(self.heads.len() as u64).to_le_bytes());
        write(&(length as u64).to_le_bytes());
        let mut start = 0;
        for head in &self.heads {
            let own = Head {
                heap: 0,
                start,
                ..*head
            };
            start += u32::from(head.browser_id) + u32::from(head.context) + head.body;
            write(bytemuck::bytes_of(&own));
        }
        for record in self.records() {
            write(record.browser_id);
            write(record.context);
            write(record.body);
        }
        let end = 16 + self.heads.len() * size_of::<Head>() + length;
        write(&[0; 8][..end.next_multiple_of(8) - end]);
    }
}

/// Which worker has a shard: that of its output partition, so that each partition of an output is
/// written by one worker, whatever their number.
#[inline]
pub fn worker_of(shard: u8, partitions: u32, workers: usize) -> usize {
    (u32::from(shard) % partitions) as usize % workers
}

/// Sends each record to the worker that has its shard. A batch whose records all go to one worker
/// (as the source packs them) moves whole; any other is split, its bytes shared.
pub fn by_shard(partitions: u32) -> DistributorPact<impl FnOnce(usize) -> ByShard> {
    DistributorPact(move |workers| ByShard {
        to: std::array::from_fn(|shard| worker_of(shard as u8, partitions, workers)),
    })
}

/// The distributor of [`by_shard`].
#[derive(Debug)]
pub struct ByShard {
    /// The worker of each shard.
    to: [usize; 256],
}

impl Distributor<Batch> for ByShard {
    fn partition<T: Clone, P: Push<Message<T, Batch>>>(
        &mut self,
        batch: &mut Batch,
        stamp: &Stamp<T>,
        pushers: &mut [P],
    ) {
        let to = |head: &Head| self.to[usize::from(head.shard)];
        let Some(first) = batch.heads.first().map(to) else {
            return;
        };
        if pushers.len() == 1 || batch.heads.iter().all(|head| to(head) == first) {
            Message::push_at(batch, stamp.clone(), &mut pushers[first]);
            return;
        }
        let whole = std::mem::take(batch);
        let mut parts: Vec<Batch> = pushers.iter().map(|_| whole.sharing()).collect();
        for head in &whole.heads {
            parts[to(head)].heads.push(*head);
        }
        for (mut part, pusher) in parts.into_iter().zip(pushers) {
            if !part.is_empty() {
                Message::push_at(&mut part, stamp.clone(), pusher);
            }
        }
    }

    fn flush<T: Clone, P: Push<Message<T, Batch>>>(&mut self, _: &Stamp<T>, _: &mut [P]) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(records: &[(&str, &str, &str)]) -> Batch {
        let mut builder = BatchBuilder::default();
        for (i, (id, context, body)) in records.iter().enumerate() {
            let head = Head {
                tick: i as u64,
                ..Head::default()
            };
            builder.push(head, id.as_bytes(), body.as_bytes(), |out| {
                out.extend_from_slice(context.as_bytes())
            });
        }
        builder.take()
    }

    #[test]
    fn a_batch_is_the_same_behind_the_wire() {
        let mut sent = batch(&[("a", "ctx", "body"), ("", "", ""), ("browser", "", "x")]);
        let other = batch(&[("b", "c", "other heap")]);
        let head = other.heads()[0];
        let heap = sent.add_heap(other.heap(&head).clone());
        sent.push_head(Head { heap, ..head });
        let mut bytes = Vec::new();
        sent.into_bytes(&mut bytes);
        assert_eq!(bytes.len(), sent.length_in_bytes());
        let mut arc = timely::bytes::arc::BytesMut::from(bytes).freeze();
        let length = sent.length_in_bytes();
        let got = Batch::from_bytes(arc.extract_to(length));
        let plain = |b: &Batch| {
            b.records()
                .map(|r| {
                    (
                        r.head.tick,
                        r.browser_id.to_vec(),
                        r.context.to_vec(),
                        r.body.to_vec(),
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(plain(&got), plain(&sent));
    }

    #[test]
    fn every_partition_has_one_worker() {
        for workers in 1..=5 {
            for shard in 0..=255_u8 {
                let worker = worker_of(shard, 16, workers);
                assert!(worker < workers);
                assert_eq!(worker, worker_of(shard % 16, 16, workers));
            }
        }
    }
}
