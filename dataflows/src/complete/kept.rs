//! The measurements of open visits, as a plain struct: no dataflow. In memory, and beyond a limit in
//! a [`Payloads`].
//!
//! Measurements are only ever added, by browser; since a browser's visits are sealed in order, a
//! visit's are the first of what its browser has. So revisions need not be followed. Of those with
//! one identity the one with the least bytes is kept.
//!
//! Where there is a store, a sealed visit's are kept on until a table holds them for sure: until
//! then they are all there is of it.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::ops::Range;
use std::sync::Arc;

use super::by_browser::{self, ByBrowser, Key, PARTS};
use super::saved::{ChunkRow, Collected, KeptRow, Part, SealedRow, ShardRows};
use super::whole::{Complete, Looked, append, copied, entries, in_order};
use crate::batch::Record;
use crate::visit::{Position, Tick, bytes_of_words};
use crate::visits::{Change, Lifecycle};

/// Chunks with the browsers that they are of.
pub type Chunks<C> = Vec<(Key, C)>;

/// A store for measurements that memory has no room for: groups of chunks, each of one browser.
pub trait Payloads {
    /// Where a chunk is; as three words, for a snapshot.
    type Chunk: Copy + PartialEq + Into<[u64; 3]> + From<[u64; 3]>;
    /// What goes wrong.
    type Error;

    /// How many bytes a chunk has.
    fn length(chunk: Self::Chunk) -> usize;
    /// Writes a group; each chunk's place, in order. They can be read at once.
    ///
    /// # Errors
    /// What the store meets.
    fn write(&mut self, chunks: Vec<(Key, Vec<u8>)>) -> Result<Vec<Self::Chunk>, Self::Error>;
    /// Reads chunks, in any order; `each` is told which one it is given.
    ///
    /// # Errors
    /// What the store meets.
    fn read(
        &mut self,
        chunks: &[Self::Chunk],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Self::Error>;
    /// A chunk is not needed any more.
    ///
    /// # Errors
    /// What the store meets.
    fn free(&mut self, chunk: Self::Chunk) -> Result<(), Self::Error>;
    /// Some live chunks of a segment that is to be emptied; `None` if there is none.
    ///
    /// # Errors
    /// What the store meets.
    fn thin(
        &mut self,
        is_live: &dyn Fn(Key, Self::Chunk) -> bool,
    ) -> Result<Option<Chunks<Self::Chunk>>, Self::Error>;
}

/// No store: memory must do.
#[derive(Clone, Copy, Debug)]
pub enum NoStore {}

impl Payloads for NoStore {
    type Chunk = [u64; 3];
    type Error = Infallible;

    fn length(_: [u64; 3]) -> usize {
        0
    }
    fn write(&mut self, _: Vec<(Key, Vec<u8>)>) -> Result<Vec<[u64; 3]>, Infallible> {
        match *self {}
    }
    fn read(&mut self, _: &[[u64; 3]], _: &mut dyn FnMut(usize, &[u8])) -> Result<(), Infallible> {
        match *self {}
    }
    fn free(&mut self, _: [u64; 3]) -> Result<(), Infallible> {
        match *self {}
    }
    fn thin(
        &mut self,
        _: &dyn Fn(Key, [u64; 3]) -> bool,
    ) -> Result<Option<Chunks<[u64; 3]>>, Infallible> {
        match *self {}
    }
}

/// A chunk in the store, and the time of the earliest measurement in it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Stored<C> {
    chunk: C,
    first: i64,
}

/// What is kept of a browser.
#[derive(Debug)]
struct Kept<C> {
    shard: u8,
    /// In memory,
    fresh: Vec<u8>,
    /// and the time of the earliest measurement there: to look for it would load all of them.
    first: i64,
    /// In the store.
    stored: Vec<Stored<C>>,
}

impl<C> Kept<C> {
    fn of(shard: u8) -> Kept<C> {
        Kept {
            shard,
            fresh: Vec::new(),
            first: i64::MAX,
            stored: Vec::new(),
        }
    }

    /// What it costs a snapshot, in bytes.
    fn cost(&self) -> usize {
        let rows = size_of::<KeptRow>() + self.stored.len() * size_of::<ChunkRow>();
        rows + self.fresh.len()
    }
}

/// A sealed visit that no version of a table holds for sure.
#[derive(Debug)]
struct Sealed<C> {
    row: SealedRow,
    shard: u8,
    browser_id: Box<[u8]>,
    /// Its bytes, if they are not in the store.
    fresh: Option<Arc<Vec<u8>>>,
    stored: Vec<Stored<C>>,
}

impl<C> Sealed<C> {
    /// What it costs a snapshot, in bytes.
    fn cost(&self) -> usize {
        let rows = size_of::<SealedRow>() + self.stored.len() * size_of::<ChunkRow>();
        let fresh = self.fresh.as_ref().map_or(0, |bytes| bytes.len());
        rows + self.browser_id.len() + fresh
    }
}

/// A visit that is given out, and what stays of it.
type Whole<C> = Option<(Complete, Sealed<C>)>;

/// So many parts of the browsers go to the store together when memory is short: long groups are read
/// again in fewer places.
const SPILLED: usize = 32;

/// A snapshot's rows while they are collected; see [`Measurements::save_some`].
#[derive(Debug, Default)]
pub struct Saving {
    /// The part of the browsers to go on with,
    part: usize,
    /// and behind the last the sealed visit.
    sealed: usize,
    collected: Collected,
}

/// The measurements of open visits, by browser: 40 bytes and their own, each.
#[derive(Debug)]
pub struct Measurements<P: Payloads> {
    browsers: ByBrowser<Kept<P::Chunk>>,
    /// The part that goes to the store next; behind the last, the sealed visits do.
    next: usize,
    /// In the order of seals.
    sealed: VecDeque<Sealed<P::Chunk>>,
    store: Option<P>,
    /// Bytes in memory.
    fresh: usize,
    /// How many may be.
    limit: usize,
    /// Bytes of visits that are not sealed.
    bytes: usize,
}

impl Default for Measurements<NoStore> {
    fn default() -> Measurements<NoStore> {
        Measurements::new(None, usize::MAX)
    }
}

impl<P: Payloads> Measurements<P> {
    /// None kept. With a store, at most `limit` bytes are held in memory.
    pub fn new(store: Option<P>, limit: usize) -> Measurements<P> {
        Measurements {
            browsers: ByBrowser::default(),
            next: 0,
            sealed: VecDeque::new(),
            store,
            fresh: 0,
            limit,
            bytes: 0,
        }
    }

    /// What a snapshot holds of these shards. Sealed visits come back as if they were sealed now: see
    /// [`again`](Measurements::again).
    pub fn restore(store: P, limit: usize, rows: &[ShardRows]) -> Measurements<P> {
        let mut kept = Measurements::new(Some(store), limit);
        for rows in rows {
            let mut chunks = rows.chunks.iter().map(|row| Stored {
                chunk: P::Chunk::from(row.chunk),
                first: row.first,
            });
            for row in &rows.kept {
                let mut own = Kept::of(rows.shard);
                own.stored.extend(chunks.by_ref().take(row.chunks as usize));
                kept.bytes += own.stored.iter().map(|s| P::length(s.chunk)).sum::<usize>();
                kept.browsers.insert(row.key, own);
            }
            let mut ids = &rows.ids[..];
            for row in &rows.sealed {
                let (browser_id, rest) = ids.split_at(row.id_length as usize);
                ids = rest;
                kept.sealed.push_back(Sealed {
                    row: *row,
                    shard: rows.shard,
                    browser_id: browser_id.into(),
                    fresh: None,
                    stored: chunks.by_ref().take(row.chunks as usize).collect(),
                });
            }
        }
        kept.sealed
            .make_contiguous()
            .sort_by_key(|sealed| sealed.row.tick);
        kept
    }

    /// The store, if there is one.
    pub fn store(&mut self) -> Option<&mut P> {
        self.store.as_mut()
    }

    /// Keeps a measurement.
    #[inline]
    pub fn add(&mut self, record: Record<'_>) {
        let new = || Kept::of(record.head.shard);
        let own = self.browsers.or_insert_with(record.head.browser, None, new);
        own.first = own.first.min(record.head.at.time);
        let bytes = &mut own.fresh;
        let before = bytes.len();
        append(record, bytes);
        self.fresh += bytes.len() - before;
        self.bytes += bytes.len() - before;
    }

    /// All that is kept of a browser's open visits, in order; `None` if there is nothing. Reads what
    /// lies in the store.
    ///
    /// # Errors
    /// What the store meets.
    pub fn look(&mut self, key: &Key) -> Result<Option<Looked<'_>>, P::Error> {
        Ok(self.bytes_of(key)?.map(Looked::new))
    }

    /// The same as bytes, for [`Looked::of`] wherever there is time for it.
    ///
    /// # Errors
    /// What the store meets.
    pub fn copy(&mut self, key: &Key) -> Result<Option<Vec<u8>>, P::Error> {
        Ok(self.bytes_of(key)?.map(Cow::into_owned))
    }

    /// Those of a browser's measurements that lie at these places, which are in order. Reads all that lies
    /// in the store.
    ///
    /// # Errors
    /// What the store meets.
    pub fn look_among(
        &mut self,
        key: &Key,
        those: &[Position],
    ) -> Result<Option<Looked<'_>>, P::Error> {
        Ok(self.bytes_of(key)?.map(|bytes| Looked::among(bytes, those)))
    }

    /// Of a browser's measurements of one identity the one that stays. Looks at each entry once, but
    /// brings nothing in order.
    ///
    /// # Errors
    /// What the store meets.
    pub fn look_at(&mut self, key: &Key, at: Position) -> Result<Option<Looked<'_>>, P::Error> {
        Ok(self.bytes_of(key)?.map(|bytes| Looked::one(bytes, at)))
    }

    fn bytes_of(&mut self, key: &Key) -> Result<Option<Cow<'_, [u8]>>, P::Error> {
        let Some(own) = self.browsers.get(key) else {
            return Ok(None);
        };
        Ok(Some(
            match self.store.as_mut().filter(|_| !own.stored.is_empty()) {
                None => Cow::Borrowed(&own.fresh[..]),
                Some(store) => {
                    let chunks: Vec<P::Chunk> = own.stored.iter().map(|s| s.chunk).collect();
                    let lengths = chunks.iter().map(|chunk| P::length(*chunk));
                    let mut read = Vec::with_capacity(lengths.sum::<usize>() + own.fresh.len());
                    store.read(&chunks, &mut |_, bytes| read.extend_from_slice(bytes))?;
                    read.extend_from_slice(&own.fresh);
                    Cow::Owned(read)
                }
            },
        ))
    }

    /// Bytes kept of open visits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Brings some of what is in memory to the store, if it is more than may be; copies forward a
    /// little of what the store wants to be rid of.
    ///
    /// # Errors
    /// What the store meets.
    pub fn spill(&mut self) -> Result<(), P::Error> {
        if self.store.is_none() {
            return Ok(());
        }
        for _ in 0..=PARTS / SPILLED {
            if self.fresh <= self.limit {
                break;
            }
            if self.next < PARTS {
                self.flush(self.next..self.next + SPILLED)?;
                self.next += SPILLED;
            } else {
                self.flush_sealed(0..self.sealed.len())?;
                self.next = 0;
            }
        }
        self.thin()
    }

    /// Brings these parts of the browsers to the store, as one group.
    fn flush(&mut self, parts: Range<usize>) -> Result<(), P::Error> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        let mut group = Vec::new();
        let mut of = Vec::new();
        for kept in self.browsers.parts_mut()[parts]
            .iter_mut()
            .flat_map(by_browser::Part::iter_mut)
        {
            let (key, kept) = kept;
            if !kept.fresh.is_empty() {
                self.fresh -= kept.fresh.len();
                of.push((*key, std::mem::replace(&mut kept.first, i64::MAX)));
                group.push((*key, std::mem::take(&mut kept.fresh)));
            }
        }
        if group.is_empty() {
            return Ok(());
        }
        for (chunk, (key, first)) in store.write(group)?.into_iter().zip(of) {
            if let Some(kept) = self.browsers.get_mut(&key) {
                kept.stored.push(Stored { chunk, first });
            }
        }
        Ok(())
    }

    /// Brings these of the sealed visits to the store, as one group.
    fn flush_sealed(&mut self, range: Range<usize>) -> Result<(), P::Error> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        let mut group = Vec::new();
        let mut of = Vec::new();
        for (n, sealed) in self.sealed.range_mut(range.clone()).enumerate() {
            if let Some(bytes) = sealed.fresh.take() {
                self.fresh -= bytes.len();
                of.push((range.start + n, first(&bytes)));
                let bytes = Arc::try_unwrap(bytes).unwrap_or_else(|shared| shared.to_vec());
                group.push((sealed.row.browser, bytes));
            }
        }
        if group.is_empty() {
            return Ok(());
        }
        for (chunk, (n, first)) in store.write(group)?.into_iter().zip(of) {
            self.sealed[n].stored.push(Stored { chunk, first });
        }
        Ok(())
    }

    fn thin(&mut self) -> Result<(), P::Error> {
        let Some(store) = self.store.as_mut() else {
            return Ok(());
        };
        let browsers = &self.browsers;
        let live = |key: Key, chunk: P::Chunk| {
            let own = browsers.get(&key);
            own.is_some_and(|kept| kept.stored.iter().any(|own| own.chunk == chunk))
        };
        let Some(moved) = store.thin(&live)? else {
            return Ok(());
        };
        let chunks: Vec<P::Chunk> = moved.iter().map(|(_, chunk)| *chunk).collect();
        let browsers = &mut self.browsers;
        let mut fresh = 0;
        store.read(&chunks, &mut |n, bytes| {
            let (key, chunk) = moved[n];
            if let Some(own) = browsers.get_mut(&key) {
                own.stored.retain(|stored| stored.chunk != chunk);
                own.fresh.extend_from_slice(bytes);
                own.first = own.first.min(first(bytes));
                fresh += bytes.len();
            }
        })?;
        self.fresh += fresh;
        chunks.into_iter().try_for_each(|chunk| store.free(chunk))
    }

    /// Gives out the visits that these ends have sealed, in their order: of each browser the first
    /// of its measurements. What is no end of a visit is passed over. A browser's bytes are walked
    /// once, however many of its visits have ended.
    ///
    /// # Errors
    /// What the store meets.
    ///
    /// # Panics
    /// If there are fewer than an end says: then a measurement was tagged and not kept.
    pub fn complete(&mut self, ends: &[Lifecycle]) -> Result<Vec<Complete>, P::Error> {
        let ended = |end: &&Lifecycle| matches!(end.change, Change::Ended { .. });
        let mut ends: Vec<_> = ends.iter().filter(ended).enumerate().collect();
        let mut whole: Vec<Whole<P::Chunk>> = ends.iter().map(|_| None).collect();
        ends.sort_by_key(|(_, end)| end.browser);
        let groups: Vec<_> = ends
            .chunk_by(|(_, a), (_, b)| a.browser == b.browser)
            .collect();

        // What these browsers have in the store and these ends need, all at once.
        let mut kept: Vec<Kept<P::Chunk>> = Vec::with_capacity(groups.len());
        let mut wanted = Vec::new();
        let mut of = Vec::new();
        for (n, ends) in groups.iter().enumerate() {
            let end = ends[0].1;
            let own = self.browsers.remove(&end.browser);
            let own = own.unwrap_or_else(|| Kept::of(end.shard));
            let last = ends.iter().map(|(_, end)| last_seen(end)).max();
            for stored in own.stored.iter().filter(|s| Some(s.first) <= last) {
                wanted.push(stored.chunk);
                of.push(n);
            }
            self.bytes -= own.fresh.len();
            self.fresh -= own.fresh.len();
            kept.push(own);
        }
        let mut read: Vec<Vec<u8>> = vec![Vec::new(); kept.len()];
        if let Some(store) = self.store.as_mut()
            && !wanted.is_empty()
        {
            store.read(&wanted, &mut |n, bytes| {
                read[of[n]].extend_from_slice(bytes);
            })?;
        }
        for (n, ends) in groups.iter().enumerate() {
            let own = std::mem::replace(&mut kept[n], Kept::of(0));
            let bytes = std::mem::take(&mut read[n]);
            self.of_browser(ends, own, bytes, &mut whole)?;
        }
        let retain = self.store.is_some();
        let mut visits = Vec::with_capacity(whole.len());
        for (visit, sealed) in whole.into_iter().flatten() {
            visits.push(visit);
            if retain {
                self.fresh += sealed.fresh.as_ref().map_or(0, |bytes| bytes.len());
                self.sealed.push_back(sealed);
            }
        }
        Ok(visits)
    }

    /// Takes a browser's visits out of what is kept of it: `own`, of which `read` is what these ends
    /// need of the store.
    fn of_browser(
        &mut self,
        ends: &[(usize, &Lifecycle)],
        own: Kept<P::Chunk>,
        read: Vec<u8>,
        whole: &mut [Whole<P::Chunk>],
    ) -> Result<(), P::Error> {
        let Kept {
            fresh,
            stored,
            shard,
            ..
        } = own;
        let last = ends.iter().map(|(_, end)| last_seen(end)).max();
        let (used, later): (Vec<_>, Vec<_>) = stored
            .into_iter()
            .partition(|stored| Some(stored.first) <= last);
        self.bytes -= read.len();
        // A visit whose bytes all lie in the store, and nothing else with them, stays there.
        let in_store = fresh.is_empty() && ends.len() == 1 && self.store.is_some();
        let mut bytes = read;
        if bytes.is_empty() {
            bytes = fresh;
        } else {
            bytes.extend_from_slice(&fresh);
        }
        let mut places = in_order(&bytes);
        let mut left_in_store = false;
        for (index, end) in ends {
            let Change::Ended {
                visit,
                started,
                last_seen,
                measurements: count,
                reason,
            } = end.change
            else {
                continue;
            };
            assert!(
                places.len() >= count as usize,
                "a visit of {count} measurements, of which {} were kept",
                places.len()
            );
            let rest = places.split_off(count as usize);
            let mut own = std::mem::replace(&mut places, rest);
            let alone = places.is_empty() && ends.len() == 1;
            left_in_store = in_store && alone;
            let own_bytes = if alone {
                bytes.shrink_to_fit();
                std::mem::take(&mut bytes)
            } else {
                copied(&mut own, &bytes)
            };
            let first = own.first().map_or(Position::default(), |p| p.entry.at);
            let own_bytes = Arc::new(own_bytes);
            let sealed = Sealed {
                row: SealedRow::of(end, first),
                shard: end.shard,
                browser_id: end.browser_id.clone(),
                fresh: (!left_in_store).then(|| own_bytes.clone()),
                stored: if left_in_store {
                    used.clone()
                } else {
                    Vec::new()
                },
            };
            let complete = Complete {
                tick: end.tick,
                shard: end.shard,
                visit: bytes_of_words(visit),
                browser_id: end.browser_id.clone(),
                started,
                last_seen,
                reason,
                measurements: own,
                bytes: own_bytes,
            };
            whole[*index] = Some((complete, sealed));
        }
        if !left_in_store && let Some(store) = self.store.as_mut() {
            for stored in used {
                store.free(stored.chunk)?;
            }
        }
        if !places.is_empty() || !later.is_empty() {
            let kept = copied(&mut places, &bytes);
            self.bytes += kept.len();
            self.fresh += kept.len();
            let rest = Kept {
                shard,
                first: first(&kept),
                fresh: kept,
                stored: later,
            };
            self.browsers.insert(ends[0].1.browser, rest);
        }
        Ok(())
    }

    /// Lets go of sealed visits that a table holds: those sealed at or before `tick`.
    ///
    /// # Errors
    /// What the store meets.
    pub fn committed(&mut self, tick: Tick) -> Result<(), P::Error> {
        while self.sealed.front().is_some_and(|s| s.row.tick <= tick) {
            let Some(sealed) = self.sealed.pop_front() else {
                break;
            };
            self.fresh -= sealed.fresh.map_or(0, |bytes| bytes.len());
            if let Some(store) = self.store.as_mut() {
                for stored in sealed.stored {
                    store.free(stored.chunk)?;
                }
            }
        }
        Ok(())
    }

    /// The visits that were sealed before a snapshot and that no table holds, in the order of their
    /// seals, from the `n`th on and about `bytes` of them; how many there were.
    ///
    /// # Errors
    /// What the store meets.
    pub fn again(&mut self, n: usize, bytes: usize) -> Result<(usize, Vec<Complete>), P::Error> {
        let Some(store) = self.store.as_mut() else {
            return Ok((0, Vec::new()));
        };
        let mut whole = Vec::new();
        let mut held = 0;
        let mut seen = 0;
        for sealed in self.sealed.iter().skip(n) {
            if held > bytes {
                break;
            }
            seen += 1;
            let mut read = Vec::new();
            let chunks: Vec<P::Chunk> = sealed.stored.iter().map(|s| s.chunk).collect();
            store.read(&chunks, &mut |_, bytes| read.extend_from_slice(bytes))?;
            if let Some(bytes) = &sealed.fresh {
                read.extend_from_slice(bytes);
            }
            let mut own = in_order(&read);
            own.retain(|place| place.entry.at >= sealed.row.first);
            own.truncate(sealed.row.measurements as usize);
            held += read.len();
            let end = sealed.row.end(sealed.shard, &sealed.browser_id);
            if let Change::Ended {
                visit,
                started,
                last_seen,
                reason,
                ..
            } = end.change
            {
                whole.push(Complete {
                    tick: end.tick,
                    shard: end.shard,
                    visit: bytes_of_words(visit),
                    browser_id: end.browser_id,
                    started,
                    last_seen,
                    reason,
                    measurements: own,
                    bytes: Arc::new(read),
                });
            }
        }
        Ok((seen, whole))
    }

    /// All that is kept, as rows, with everything in the store. Costs some 100 ns a browser.
    ///
    /// # Errors
    /// What the store meets.
    pub fn save(&mut self) -> Result<Vec<ShardRows>, P::Error> {
        let mut saving = None;
        loop {
            if let Some(collected) = self.save_some(&mut saving, usize::MAX)? {
                return Ok(collected.shards());
            }
        }
    }

    /// Collects more rows of what is kept, until about `bytes` of rows and of measurements that are
    /// not in the store have been gone over; all rows when these were the last. Nothing else may be
    /// done to it in between.
    ///
    /// # Errors
    /// What the store meets.
    pub fn save_some(
        &mut self,
        saving: &mut Option<Saving>,
        bytes: usize,
    ) -> Result<Option<Collected>, P::Error> {
        let Saving {
            part,
            sealed,
            collected,
        } = saving.get_or_insert_default();
        let row = |stored: &Stored<P::Chunk>| ChunkRow {
            chunk: stored.chunk.into(),
            first: stored.first,
        };
        let mut rows = Part::default();
        let mut gone = 0;

        // As much of them as may be goes to the store together.
        let count = reach(&self.browsers.parts()[*part..], bytes, &mut gone, |part| {
            part.iter().map(|(_, kept)| kept.cost()).sum::<usize>() + size_of::<KeptRow>()
        });
        let parts = *part..*part + count;
        self.flush(parts.clone())?;
        for (key, kept) in self.browsers.parts()[parts.clone()]
            .iter()
            .flat_map(by_browser::Part::iter)
        {
            let own = KeptRow {
                key: *key,
                chunks: kept.stored.len() as u64,
            };
            rows.kept.push((kept.shard, own));
            rows.chunks.extend(kept.stored.iter().map(row));
        }
        *part = parts.end;

        if *part == PARTS {
            let rest = self.sealed.range(*sealed..);
            let range = *sealed..*sealed + reach(rest, bytes, &mut gone, Sealed::cost);
            self.flush_sealed(range.clone())?;
            for sealed in self.sealed.range(range.clone()) {
                let own = SealedRow {
                    chunks: sealed.stored.len() as u32,
                    ..sealed.row
                };
                rows.sealed.push((sealed.shard, own));
                rows.chunks.extend(sealed.stored.iter().map(row));
                rows.ids.extend_from_slice(&sealed.browser_id);
            }
            *sealed = range.end;
        }
        collected.parts.push(rows);
        if *part < PARTS || *sealed < self.sealed.len() {
            return Ok(None);
        }
        Ok(saving.take().map(|saving| saving.collected))
    }
}

/// How many of these it takes until what they cost is `bytes` in all, with what is `gone` already.
fn reach<T>(
    these: impl IntoIterator<Item = T>,
    bytes: usize,
    gone: &mut usize,
    cost: impl Fn(T) -> usize,
) -> usize {
    let mut count = 0;
    let mut these = these.into_iter();
    while *gone < bytes
        && let Some(one) = these.next()
    {
        *gone += cost(one);
        count += 1;
    }
    count
}

/// The time of the earliest measurement in these bytes.
fn first(bytes: &[u8]) -> i64 {
    let times = entries(bytes).map(|place| place.entry.at.time);
    times.min().unwrap_or(i64::MAX)
}

fn last_seen(end: &Lifecycle) -> i64 {
    match end.change {
        Change::Ended { last_seen, .. } => last_seen,
        _ => i64::MIN,
    }
}
