//! Groups of chunks on their way to the disk: each chunk's place, settled before a byte is
//! written, and the bytes in memory until they are in the file.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

use super::chunk::{Chunk, Key, segment_id};
use super::error::StoreError;
use super::segment::{BLOCK_BYTES, BLOCK_CHUNKS, BLOCK_HEADER, ENTRY, MAX_CHUNK, SEGMENT_HEADER};

/// Chunks that are written as one block, and where.
pub(super) struct Block {
    pub segment: u64,
    /// The byte of the file where the block begins.
    pub at: u64,
    pub chunks: Vec<Chunk>,
    pub bytes: Vec<(Key, Vec<u8>)>,
}

impl Block {
    /// The byte behind it.
    pub fn end(&self) -> u64 {
        match self.chunks.last() {
            Some(last) => last.end(),
            None => self.at,
        }
    }
}

/// Where the next block of a worker goes.
pub(super) struct Placement {
    incarnation: u64,
    worker: u64,
    /// What a segment does not exceed, but for a block that is longer.
    target: u64,
    /// How many segments there have been.
    numbers: u64,
    /// The segment that is written to, and its length.
    open: Option<(u64, u64)>,
}

impl Placement {
    /// # Errors
    /// If the ID of a segment cannot hold the incarnation or the worker.
    pub fn new(incarnation: u64, worker: u64, target: u64) -> Result<Placement, StoreError> {
        segment_id(incarnation, worker, 0)?;
        Ok(Placement {
            incarnation,
            worker,
            target: target.min(u64::from(u32::MAX)),
            numbers: 0,
            open: None,
        })
    }

    pub fn open(&self) -> Option<u64> {
        self.open.map(|(segment, _)| segment)
    }

    /// The next block goes to another segment.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// Gives each chunk its place, block by block, in order. Costs the CRC of all bytes.
    ///
    /// # Errors
    /// If a chunk is longer than a segment can be, before anything has a place; or if there have
    /// been too many segments.
    pub fn place(
        &mut self,
        chunks: Vec<(Key, Vec<u8>)>,
        dir: &Path,
    ) -> Result<Vec<Block>, StoreError> {
        if let Some((_, bytes)) = chunks.iter().find(|(_, b)| b.len() as u64 > MAX_CHUNK) {
            return Err(StoreError::TooLarge {
                dir: dir.to_owned(),
                bytes: bytes.len() as u64,
                most: MAX_CHUNK,
            });
        }
        let mut blocks = Vec::new();
        let mut rest = chunks.into_iter().peekable();
        while rest.peek().is_some() {
            let mut bytes: Vec<(Key, Vec<u8>)> = Vec::new();
            let mut length = 0;
            let fits = |(_, next): &(Key, Vec<u8>), count, length: usize| {
                count == 0 || count < BLOCK_CHUNKS && length + next.len() <= BLOCK_BYTES
            };
            while let Some(next) = rest.next_if(|next| fits(next, bytes.len(), length)) {
                length += next.1.len();
                bytes.push(next);
            }
            let (segment, at) =
                self.make_room((BLOCK_HEADER + bytes.len() * ENTRY + length) as u64)?;
            let mut place = at as u32 + (BLOCK_HEADER + bytes.len() * ENTRY) as u32;
            let mut chunk = |(_, bytes): &(Key, Vec<u8>)| {
                let length = bytes.len() as u32;
                let chunk = Chunk::new(segment, place, length, crc32fast::hash(bytes));
                place += length;
                chunk
            };
            blocks.push(Block {
                segment,
                at,
                chunks: bytes.iter().map(&mut chunk).collect(),
                bytes,
            });
        }
        Ok(blocks)
    }

    fn make_room(&mut self, bytes: u64) -> Result<(u64, u64), StoreError> {
        let (segment, at) = match self.open {
            Some((segment, at)) if at + bytes <= self.target => (segment, at),
            _ => {
                let segment = segment_id(self.incarnation, self.worker, self.numbers)?;
                self.numbers += 1;
                (segment, SEGMENT_HEADER as u64)
            }
        };
        self.open = Some((segment, at + bytes));
        Ok((segment, at))
    }
}

/// What is not on the file yet, and is read from memory until then.
#[derive(Default)]
pub(super) struct Pending {
    blocks: VecDeque<Arc<Block>>,
    /// How many blocks have left it.
    gone: u64,
    /// For each group, how many blocks there had been with it.
    groups: VecDeque<u64>,
}

impl Pending {
    /// Takes a group's blocks, which must lie behind those that it holds.
    pub fn push(&mut self, group: &[Arc<Block>]) {
        self.blocks.extend(group.iter().cloned());
        self.groups.push_back(self.gone + self.blocks.len() as u64);
    }

    /// Lets the blocks go that the thread has written: `written` since ever.
    pub fn written(&mut self, written: u64) {
        while self.gone < written && self.blocks.pop_front().is_some() {
            self.gone += 1;
        }
        while self.groups.front().is_some_and(|&until| until <= written) {
            self.groups.pop_front();
        }
    }

    /// How many blocks must be written until only this many groups wait.
    pub fn until(&self, groups: usize) -> u64 {
        match self.groups.len().checked_sub(groups + 1) {
            Some(last) => self.groups[last],
            None => 0,
        }
    }

    /// The bytes of a chunk that waits to be written.
    pub fn find(&self, chunk: &Chunk) -> Option<&[u8]> {
        // By its first chunk: an empty one at the end of a block lies where the next block begins.
        let behind = self
            .blocks
            .partition_point(|block| block.chunks.first() <= Some(chunk));
        let block = &self.blocks[behind.checked_sub(1)?];
        let index = block.chunks.binary_search(chunk).ok()?;
        Some(&block.bytes[index].1)
    }

    /// The first segment that is not in its file as far as it has its places. All later ones of
    /// the worker are not either.
    pub fn first_segment(&self) -> Option<u64> {
        self.blocks.front().map(|block| block.segment)
    }

    /// Bytes that wait to be written.
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.end() - block.at).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(lengths: &[usize]) -> Vec<(Key, Vec<u8>)> {
        let chunk = |(i, length): (usize, &usize)| ([i as u64, 0], vec![i as u8; *length]);
        lengths.iter().enumerate().map(chunk).collect()
    }

    fn place(placement: &mut Placement, lengths: &[usize]) -> Vec<Arc<Block>> {
        let blocks = placement.place(group(lengths), Path::new("d")).unwrap();
        blocks.into_iter().map(Arc::new).collect()
    }

    #[test]
    fn blocks_follow_each_other_and_a_segment_ends_before_it_exceeds_its_size() {
        let mut placement = Placement::new(1, 0, 1000).unwrap();
        let first = place(&mut placement, &[100, 0, 300]);
        let second = place(&mut placement, &[400]);
        let third = place(&mut placement, &[400, 5000]);
        let places = |blocks: &[Arc<Block>]| -> Vec<_> {
            let places = |b: &Arc<Block>| (b.segment as u8, b.at, b.end(), b.chunks.len());
            blocks.iter().map(places).collect()
        };
        assert_eq!(places(&first), [(0, 24, 24 + 16 + 3 * 24 + 400, 3)]);
        assert_eq!(places(&second), [(0, 512, 512 + 16 + 24 + 400, 1)]);
        assert_eq!(places(&third), [(1, 24, 24 + 16 + 2 * 24 + 5400, 2)]);
        placement.close();
        assert_eq!(places(&place(&mut placement, &[1])), [(2, 24, 65, 1)]);
    }

    #[test]
    fn a_block_has_no_more_than_a_piece_of_copying_forward_may() {
        let mut placement = Placement::new(1, 0, 1 << 30).unwrap();
        let counts = |blocks: &[Arc<Block>]| -> Vec<_> {
            blocks.iter().map(|block| block.chunks.len()).collect()
        };
        let many = place(&mut placement, &vec![1; BLOCK_CHUNKS + 5]);
        assert_eq!(counts(&many), [BLOCK_CHUNKS, 5]);
        let long = place(
            &mut placement,
            &[1, BLOCK_BYTES + 1, BLOCK_BYTES / 2, BLOCK_BYTES / 2, 1],
        );
        assert_eq!(counts(&long), [1, 1, 2, 1]);
    }

    #[test]
    fn chunks_are_found_in_memory_until_their_block_is_written() {
        let mut placement = Placement::new(1, 0, 400).unwrap();
        let mut pending = Pending::default();
        let groups = [&[100, 30, 0][..], &[0], &[300], &[7]];
        let groups = groups.map(|group| place(&mut placement, group));
        assert_eq!(groups[0][0].segment, groups[1][0].segment);
        groups.iter().for_each(|group| pending.push(group));
        assert_eq!(
            (pending.until(4), pending.until(1), pending.until(0)),
            (0, 3, 4)
        );
        for written in 0..=4 {
            pending.written(written);
            for (i, group) in groups.iter().enumerate() {
                for (chunk, (_, bytes)) in group[0].chunks.iter().zip(&group[0].bytes) {
                    let waits = i as u64 >= written;
                    assert_eq!(pending.find(chunk), waits.then_some(&bytes[..]));
                }
            }
        }
        assert_eq!((pending.bytes(), pending.until(0)), (0, 0));
    }
}
