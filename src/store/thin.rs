//! Copying forward: finds what still lives in segments of which little does, a piece at a time,
//! so that its owner can write it elsewhere and disk comes back.

use super::chunk::{Chunk, Key};
use super::error::StoreError;
use super::runs::Runs;
use super::segment::{SEGMENT_HEADER, Segment};

/// How many directories one call reads at most: a megabyte or two.
const BLOCKS: usize = 64;

/// A segment that is being copied forward, and how far its directories have been read.
pub(super) struct Walk {
    segment: Segment,
    at: u64,
}

impl Runs {
    /// Gives the next piece of what should be copied forward: chunks that live, of a closed segment
    /// of which less than a quarter does. Of a segment of an earlier incarnation, a quarter of what
    /// this worker has adopted. They are neighbours, in order of place, and may be none when none
    /// lived in what was looked at. `None` if there is no such segment.
    ///
    /// The owner reads them, frees them, and either writes them again or adds them to what it is to
    /// write next: until the next manifest, the segment stays if it is named. It asks again at
    /// once, or whenever it has time.
    ///
    /// `is_live` is asked for every chunk in a block, also for those of other workers and for those
    /// that are freed: whether the owner has this chunk for this browser.
    ///
    /// A piece is at most 4 MiB, or one chunk, and at most 16,384 chunks. A call reads a few
    /// directories, of 24 bytes a chunk, and none of the chunks.
    ///
    /// # Errors
    /// If a segment is not there or damaged.
    pub fn thin(
        &mut self,
        is_live: impl Fn(Key, Chunk) -> bool,
    ) -> Result<Option<Vec<(Key, Chunk)>>, StoreError> {
        self.progress()?;
        let Some(mut walk) = self.next_walk()? else {
            return Ok(None);
        };
        let id = walk.segment.id;
        for _ in 0..BLOCKS {
            // What lies behind the last chunk was, in a crash, maybe never written whole.
            let alive = |a: &&super::live::Account| a.live > 0 && walk.at < a.end;
            if self.live().get(id).filter(alive).is_none() {
                self.live().thinned(id);
                return Ok(Some(Vec::new()));
            }
            let (mut chunks, next) = walk.segment.block(walk.at)?;
            walk.at = next;
            chunks.retain(|&(key, chunk)| is_live(key, chunk));
            if !chunks.is_empty() {
                self.walk = Some(walk);
                return Ok(Some(chunks));
            }
        }
        self.walk = Some(walk);
        Ok(Some(Vec::new()))
    }

    fn next_walk(&mut self) -> Result<Option<Walk>, StoreError> {
        if let Some(walk) = self.walk.take() {
            return Ok(Some(walk));
        }
        let Some(id) = self.thinnest() else {
            return Ok(None);
        };
        let segment = Segment::open(self.dir(), id)?;
        segment.check()?;
        let at = SEGMENT_HEADER as u64;
        Ok(Some(Walk { segment, at }))
    }
}
