//! What is kept of measurements as plain rows, by shard: what a snapshot holds and a start restores.
//! Only where they lie in the store; their bytes are there.

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
