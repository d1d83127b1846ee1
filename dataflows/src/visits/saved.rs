//! The state of open visits as plain rows, by shard: what a snapshot holds and a start restores.
//!
//! A worker only copies ([`Copied`]), a part at a time; what belongs together is put together on
//! another thread ([`Copied::shards`]).

use bytemuck::{Pod, Zeroable};

use super::tail::CopiedTail;
use crate::visit::{Position, Tick, Visit};

/// The version of these rows; another one cannot be read.
pub const FORMAT: u32 = 1;

/// A visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct VisitRow {
    /// Its first measurement.
    pub first: Position,
    /// Its ID.
    pub id: [u64; 2],
    /// The time of its last, in ms.
    pub last: i64,
    /// How many it holds.
    pub count: u64,
}

impl From<&Visit> for VisitRow {
    fn from(visit: &Visit) -> VisitRow {
        VisitRow {
            first: visit.first,
            id: visit.id,
            last: visit.last,
            count: visit.count.into(),
        }
    }
}

impl From<&VisitRow> for Visit {
    fn from(row: &VisitRow) -> Visit {
        Visit {
            first: row.first,
            id: row.id,
            last: row.last,
            count: row.count as u32,
        }
    }
}

/// A browser with open visits. 96 bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct BrowserRow {
    /// Its key.
    pub key: [u64; 2],
    /// Its newest visit.
    pub visit: VisitRow,
    /// How many measurements it has in the tail. While it is only copied: the place of the last.
    pub tail: u64,
    /// Where its ID begins.
    pub id_start: u32,
    /// How long that is.
    pub id_length: u32,
    /// How many older visits it has open.
    pub older: u32,
    /// Zero.
    pub spare: u32,
}

/// A measurement that something still to come may precede or repeat.
#[derive(Clone, Copy, Debug, Default, PartialEq, Pod, Zeroable)]
#[repr(C)]
pub struct TailRow {
    /// Its position.
    pub at: Position,
    /// The time of its predecessor in its browser's order.
    pub before: i64,
}

/// A shard's open visits.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ShardRows {
    /// The shard.
    pub shard: u8,
    /// Browsers.
    pub browsers: Vec<BrowserRow>,
    /// Their older visits, browser by browser, in order.
    pub older: Vec<VisitRow>,
    /// Their tails, browser by browser, in order.
    pub tail: Vec<TailRow>,
    /// Their IDs.
    pub ids: Vec<u8>,
}

impl ShardRows {
    /// The time of the latest measurement of an open visit; 0 if there is none of a time behind that.
    #[must_use]
    pub fn latest(&self) -> Tick {
        let newest = self.browsers.iter().map(|browser| browser.visit.last);
        let all = newest.chain(self.older.iter().map(|visit| visit.last));
        all.filter_map(|last| Tick::try_from(last).ok())
            .max()
            .unwrap_or(0)
    }
}

/// A copy of a worker's state, as it lay at one moment.
#[derive(Debug, Default)]
pub struct Copied {
    /// Without tails, one shard behind the other, each in as many lists as it came in.
    pub(super) lists: Vec<ShardRows>,
    pub(super) tail: CopiedTail,
    /// What lies before it in the tail cannot be preceded any more.
    pub(super) horizon: i64,
}

impl Copied {
    /// The rows of each shard that has any. Follows each browser's tail: some 100 ns a measurement.
    #[must_use]
    pub fn shards(self) -> Vec<ShardRows> {
        let mut shards: Vec<ShardRows> = Vec::new();
        for list in self.lists {
            if shards.last().is_none_or(|rows| rows.shard != list.shard) {
                shards.push(ShardRows {
                    shard: list.shard,
                    ..ShardRows::default()
                });
            }
            let Some(rows) = shards.last_mut() else {
                continue;
            };
            for mut browser in list.browsers {
                browser.id_start += rows.ids.len() as u32;
                let begin = rows.tail.len();
                let mut seq = browser.tail;
                while let Some(key) = self.tail.get(seq)
                    && key.at.time >= self.horizon
                {
                    rows.tail.push(TailRow {
                        at: key.at,
                        before: key.before,
                    });
                    seq = key.link;
                }
                rows.tail[begin..].reverse();
                browser.tail = (rows.tail.len() - begin) as u64;
                rows.browsers.push(browser);
            }
            rows.older.extend(list.older);
            rows.ids.extend(list.ids);
        }
        shards
    }
}
