//! The account of which segments live: how many bytes of each are not freed, and which ones must
//! stay on disk for a manifest. No file is touched here; it says what may be removed.
//!
//! An own segment may be removed once nothing of it is live, nothing more is written to it, the
//! newest durable manifest does not name it, and no manifest that is still to come can: one that is
//! made of a seal names only what lived at that seal. Segments of earlier incarnations, of which
//! other workers may hold a part, are never removed by this account.

use std::collections::{HashMap, HashSet};

use super::block::Block;
use super::chunk::Chunk;
use super::segment::ENTRY;

/// What is known of a segment.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// The file's length.
    pub size: u64,
    /// Bytes of it that are not freed, with their entries in directories.
    pub live: u64,
    /// What the live bytes are held against: of an own segment its length, of an adopted one what
    /// was adopted, since the rest may be another worker's.
    pub whole: u64,
    /// The byte behind the last chunk that lives or has lived: up to here it was made durable whole.
    pub end: u64,
    /// Whether this worker writes, or wrote, it.
    pub own: bool,
    open: bool,
    /// Whether it has been copied forward already.
    pub thinned: bool,
    /// Whether the newest manifest names it.
    named: bool,
    /// The newest seal at which it lived.
    sealed: u64,
}

/// The account of all segments that this worker has chunks in, or has written.
#[derive(Debug, Default)]
pub(super) struct Live {
    segments: HashMap<u64, Account>,
    /// The newest seal, and the newest whose manifest was put.
    seals: u64,
    put: u64,
}

/// What a chunk counts: so that a segment of which everything lives counts about its length, and
/// copying forward ends, however short the chunks.
pub(super) fn weight(chunk: &Chunk) -> u64 {
    u64::from(chunk.length()) + ENTRY as u64
}

impl Live {
    /// A block of an own segment has its place.
    pub fn wrote(&mut self, block: &Block) {
        let account = self.segments.entry(block.segment).or_default();
        account.own = true;
        account.open = true;
        account.size = block.end();
        account.whole = block.end();
        account.end = block.end();
        account.live += block.chunks.iter().map(weight).sum::<u64>();
    }

    /// A chunk of an earlier incarnation is this worker's.
    pub fn adopted(&mut self, chunk: &Chunk, size: u64) {
        let account = self.segments.entry(chunk.segment()).or_default();
        account.size = size;
        account.live += weight(chunk);
        account.whole += weight(chunk);
        account.end = account.end.max(chunk.end());
    }

    /// Nothing more is written to a segment.
    pub fn close(&mut self, segment: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.open = false;
        }
    }

    /// A chunk is not needed any more: says whether nothing of its segment is. `Err` says how much
    /// of the segment lives, when that is less than the chunk.
    pub fn free(&mut self, chunk: &Chunk) -> Result<bool, u64> {
        let account = self.segments.get_mut(&chunk.segment()).ok_or(0_u64)?;
        let left = account.live.checked_sub(weight(chunk));
        account.live = left.ok_or(account.live)?;
        Ok(account.live == 0)
    }

    /// Forgets a segment if nothing can need it any more. Says whether its file is to be removed.
    pub fn forget(&mut self, segment: u64) -> bool {
        let put = self.put;
        let gone = |a: &Account| a.live == 0 && !a.open && !a.named && a.sealed <= put;
        match self.segments.get(&segment) {
            Some(account) if gone(account) => self
                .segments
                .remove(&segment)
                .is_some_and(|account| account.own),
            _ => false,
        }
    }

    /// A seal: a manifest that is to come may name whatever lives now. Gives the seal's number.
    pub fn seal(&mut self) -> u64 {
        self.seals += 1;
        for account in self.segments.values_mut().filter(|a| a.live > 0) {
            account.sealed = self.seals;
        }
        self.seals
    }

    /// The manifest of a seal is durable, and names these segments and no other. Gives those whose
    /// files are to be removed. One of a seal before the newest says nothing.
    pub fn named(&mut self, seal: u64, segments: &HashSet<u64>) -> Vec<u64> {
        if seal < self.put {
            return Vec::new();
        }
        self.put = seal;
        for (id, account) in &mut self.segments {
            account.named = segments.contains(id);
        }
        let mut all: Vec<u64> = self.segments.keys().copied().collect();
        all.retain(|&segment| self.forget(segment));
        all
    }

    /// The segments of which something lives.
    pub fn living(&self) -> impl Iterator<Item = u64> {
        let living = self.segments.iter().filter(|(_, a)| a.live > 0);
        living.map(|(&segment, _)| segment)
    }

    /// All accounts.
    pub fn accounts(&self) -> impl Iterator<Item = &Account> {
        self.segments.values()
    }

    /// A segment's account.
    pub fn get(&self, segment: u64) -> Option<&Account> {
        self.segments.get(&segment)
    }

    /// Of the segments that are closed, have not been copied forward, and of which less than a
    /// quarter lives but something does, the one of which least does. Own segments from `unwritten`
    /// on are not in their files yet.
    pub fn thinnest(&self, unwritten: Option<u64>) -> Option<u64> {
        let thin = |a: &Account| !a.open && !a.thinned && a.live > 0 && a.live < a.whole / 4;
        let part = |a: &Account| a.live as f64 / a.whole as f64;
        let there = |id: &u64, a: &Account| !a.own || unwritten.is_none_or(|first| *id < first);
        let all = self.segments.iter();
        let all = all.filter(|(id, account)| thin(account) && there(id, account));
        let least = all.min_by(|(_, a), (_, b)| part(a).total_cmp(&part(b)));
        least.map(|(&segment, _)| segment)
    }

    /// All that lives in a segment has been given out to be copied forward.
    pub fn thinned(&mut self, segment: u64) {
        if let Some(account) = self.segments.get_mut(&segment) {
            account.thinned = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: u64 = 7;

    fn block(at: u64, lengths: &[u32]) -> Block {
        let mut place = at as u32;
        let chunk = |length: &u32| {
            place += length;
            Chunk::new(SEGMENT, place - length, *length, 0)
        };
        Block {
            segment: SEGMENT,
            at,
            chunks: lengths.iter().map(chunk).collect(),
            bytes: Vec::new(),
        }
    }

    #[test]
    fn a_segment_is_copied_forward_when_it_is_closed_written_and_less_than_a_quarter_lives() {
        let mut live = Live::default();
        let block = block(0, &[100, 200, 500]);
        live.wrote(&block);
        live.free(&block.chunks[1]).unwrap();
        live.close(SEGMENT);
        assert_eq!(live.thinnest(None), None);
        live.free(&block.chunks[2]).unwrap();
        assert_eq!(live.thinnest(Some(SEGMENT)), None);
        assert_eq!(live.thinnest(Some(SEGMENT + 1)), Some(SEGMENT));
        assert_eq!(live.thinnest(None), Some(SEGMENT));
        live.thinned(SEGMENT);
        assert_eq!(live.thinnest(None), None);
    }

    #[test]
    fn of_an_adopted_segment_a_quarter_is_one_of_what_was_adopted() {
        let mut live = Live::default();
        let block = block(1 << 20, &[100, 200, 500]);
        for chunk in &block.chunks {
            live.adopted(chunk, 1 << 30);
        }
        assert_eq!(live.thinnest(None), None);
        live.free(&block.chunks[1]).unwrap();
        live.free(&block.chunks[2]).unwrap();
        assert_eq!(live.thinnest(None), Some(SEGMENT));
        assert_eq!(live.thinnest(Some(0)), Some(SEGMENT));
        assert_eq!(live.free(&block.chunks[0]), Ok(true));
        assert!(!live.forget(SEGMENT));
        assert_eq!(live.accounts().count(), 0);
    }

    #[test]
    fn the_manifest_of_an_older_seal_lets_go_nothing_that_a_newer_one_may_name() {
        let mut live = Live::default();
        let block = block(0, &[100]);
        live.wrote(&block);
        let (first, second) = (live.seal(), live.seal());
        live.free(&block.chunks[0]).unwrap();
        live.close(SEGMENT);
        assert!(!live.forget(SEGMENT));
        assert!(live.named(first, &HashSet::new()).is_empty());
        assert!(live.named(second, &HashSet::from([SEGMENT])).is_empty());
        assert!(live.named(first, &HashSet::new()).is_empty());
        let third = live.seal();
        assert_eq!(live.named(third, &HashSet::new()), [SEGMENT]);
    }
}
