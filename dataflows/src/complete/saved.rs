//! What is kept of measurements as plain rows, by shard: what a snapshot holds and a start restores.
//! Only where they lie in the store; their bytes are there.
//!
//! A worker only collects rows ([`Collected`]), a part at a time; they are dealt to their shards on
//! another thread ([`Collected::shards`]).

use bytemuck::{Pod, Zeroable};

use crate::visit::{EndReason, Position, Tick};
use crate::visits::{Change, Lifecycle};

/// The version of these rows; another one cannot be read.
pub const FORMAT: u32 = 1;

/// A browser with open visits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct KeptRow {
    /// Its key.
    pub key: [u64; 2],
    /// How many chunks it has.
    pub chunks: u64,
}

/// A chunk in the store, and the event time of the earliest measurement in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct ChunkRow {
    /// Where it is.
    pub chunk: [u64; 3],
    /// In ms.
    pub first: i64,
}

/// A visit that is sealed and that no version of a table holds for sure.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct SealedRow {
    /// The tick of the seal.
    pub tick: Tick,
    /// The browser's key.
    pub browser: [u64; 2],
    /// The visit's ID.
    pub visit: [u64; 2],
    /// Its first measurement.
    pub first: Position,
    /// The event time of its last.
    pub last_seen: i64,
    /// How many it has.
    pub measurements: u32,
    /// Why it ended: 0 inactivity, 1 length, 2 size.
    pub reason: u32,
    /// How many chunks its measurements lie in.
    pub chunks: u32,
    /// How long the browser's ID is.
    pub id_length: u32,
}

/// What is kept of a shard.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardRows {
    /// The shard.
    pub shard: u8,
    /// Browsers with open visits.
    pub kept: Vec<KeptRow>,
    /// Sealed visits, in the order of their seals.
    pub sealed: Vec<SealedRow>,
    /// Their chunks: those of the kept, then those of the sealed.
    pub chunks: Vec<ChunkRow>,
    /// The browsers' IDs of the sealed.
    pub ids: Vec<u8>,
}

/// What a worker keeps, as it was collected.
#[derive(Debug, Default)]
pub struct Collected {
    /// Sealed visits come behind all browsers. Many short lists: none of them is long to grow.
    pub(super) parts: Vec<Part>,
}

/// Some of it, each row with its shard; chunks and IDs as in [`ShardRows`].
#[derive(Debug, Default)]
pub(super) struct Part {
    pub kept: Vec<(u8, KeptRow)>,
    pub sealed: Vec<(u8, SealedRow)>,
    pub chunks: Vec<ChunkRow>,
    pub ids: Vec<u8>,
}

impl Collected {
    /// The rows of each shard that has any.
    #[must_use]
    pub fn shards(self) -> Vec<ShardRows> {
        let empty = |shard| ShardRows {
            shard,
            ..ShardRows::default()
        };
        let mut shards: Vec<ShardRows> = (0..=255).map(empty).collect();
        for part in self.parts {
            let (mut chunks, mut ids) = (&part.chunks[..], &part.ids[..]);
            for (shard, row) in part.kept {
                let rows = &mut shards[usize::from(shard)];
                let (own, others) = chunks.split_at(row.chunks as usize);
                chunks = others;
                rows.chunks.extend_from_slice(own);
                rows.kept.push(row);
            }
            for (shard, row) in part.sealed {
                let rows = &mut shards[usize::from(shard)];
                let (own, others) = chunks.split_at(row.chunks as usize);
                chunks = others;
                rows.chunks.extend_from_slice(own);
                let (id, others) = ids.split_at(row.id_length as usize);
                ids = others;
                rows.ids.extend_from_slice(id);
                rows.sealed.push(row);
            }
        }
        shards.retain(|rows| !rows.kept.is_empty() || !rows.sealed.is_empty());
        shards
    }
}

impl SealedRow {
    pub(super) fn of(end: &Lifecycle, first: Position) -> SealedRow {
        let Change::Ended {
            visit,
            last_seen,
            measurements,
            reason,
            ..
        } = end.change
        else {
            return SealedRow::default();
        };
        SealedRow {
            tick: end.tick,
            browser: end.browser,
            visit,
            first,
            last_seen,
            measurements,
            reason: match reason {
                EndReason::Inactivity => 0,
                EndReason::Length => 1,
                EndReason::Size => 2,
            },
            chunks: 0,
            id_length: end.browser_id.len() as u32,
        }
    }

    pub(super) fn end(&self, shard: u8, browser_id: &[u8]) -> Lifecycle {
        Lifecycle {
            tick: self.tick,
            shard,
            browser: self.browser,
            browser_id: browser_id.into(),
            change: Change::Ended {
                visit: self.visit,
                started: self.first.time,
                last_seen: self.last_seen,
                measurements: self.measurements,
                reason: match self.reason {
                    0 => EndReason::Inactivity,
                    1 => EndReason::Length,
                    _ => EndReason::Size,
                },
            },
        }
    }
}
