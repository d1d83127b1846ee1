//! Reads chunks back: sorted by place, neighbours as one, and the disk asked for those to come while
//! some are read, since it answers many questions in the time of one.
//!
//! One thread that asks ahead, measured with `benches/store.rs` on two cores: of what is not in the
//! page cache it reads 310 to 380 MB/s, four reading threads 120 to 280, sixteen 200 to 230, and one
//! that does not ask 120 to 170; of what is, up to a seventh less than that one.

use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

use super::chunk::Chunk;
use super::error::StoreError;
use super::segment::Segment;

/// A chunk, and which one it was in the caller's list.
pub(super) type Wanted = (usize, Chunk);

/// What is read into one slice at most: so many chunks, and so many bytes of them and of the gaps
/// between them, unless one chunk is longer.
const SLICE_CHUNKS: usize = 64;
const SLICE_BYTES: u64 = 1 << 20;

/// How many slices the disk is asked for beside the one that is read.
const AHEAD: usize = 2;

/// Neighbours that are no farther apart are read as one.
const GAP: u64 = 16 << 10;

/// How many segments stay open.
const OPEN: usize = 16;

/// The segments that were read last: who looks at a few chunks again and again must not open a file
/// each time.
#[derive(Default)]
pub(super) struct Opened(VecDeque<Segment>);

impl Opened {
    fn get(&mut self, dir: &Path, id: u64) -> Result<&Segment, StoreError> {
        let segment = match self.0.iter().position(|segment| segment.id == id) {
            Some(0) => return Ok(&self.0[0]),
            Some(at) => self.0.remove(at).expect("it was found there"),
            None => Segment::open(dir, id)?,
        };
        self.0.truncate(OPEN - 1);
        self.0.push_front(segment);
        Ok(&self.0[0])
    }

    /// Closes a segment: as long as it is open, the disk has no room for another in its place.
    pub fn close(&mut self, id: u64) {
        self.0.retain(|segment| segment.id != id);
    }
}

/// Reads these chunks of runs in `dir`, and gives each one's bytes to `each` with its index, in
/// order of place. Holds one slice.
pub(super) fn read(
    dir: &Path,
    opened: &mut Opened,
    mut wanted: Vec<Wanted>,
    each: &mut dyn FnMut(usize, &[u8]),
) -> Result<(), StoreError> {
    wanted.sort_unstable_by_key(|&(_, chunk)| chunk);
    let slices = slices(&wanted);
    let mut ahead = slices.iter().enumerate().peekable();
    let mut reader = Reader {
        dir,
        opened,
        bytes: Vec::new(),
    };
    for (number, range) in slices.iter().enumerate() {
        while let Some((_, next)) = ahead.next_if(|(next, _)| *next <= number + AHEAD) {
            reader.ask_for(&wanted[next.clone()])?;
        }
        reader.read(&wanted[range.clone()], each)?;
    }
    Ok(())
}

/// Whether two chunks that follow each other in order of place are read as one.
fn near((_, a): &Wanted, (_, b): &Wanted) -> bool {
    a.segment() == b.segment() && u64::from(b.offset()) <= a.end() + GAP
}

/// Cuts chunks in order of place into what is read as a slice.
fn slices(wanted: &[Wanted]) -> Vec<Range<usize>> {
    let mut slices = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (at, next) in wanted.iter().enumerate() {
        let length = u64::from(next.1.length());
        let gap = match at.checked_sub(1).map(|before| &wanted[before]) {
            Some(before) if near(before, next) => {
                u64::from(next.1.offset()).saturating_sub(before.1.end())
            }
            _ => 0,
        };
        bytes += gap + length;
        if at > from && (bytes > SLICE_BYTES || at - from == SLICE_CHUNKS) {
            slices.push(from..at);
            from = at;
            bytes = length;
        }
    }
    if from < wanted.len() {
        slices.push(from..wanted.len());
    }
    slices
}

/// Goes over slices.
struct Reader<'a> {
    dir: &'a Path,
    opened: &'a mut Opened,
    /// Is never cut, so that only new bytes are made zero before they are read into.
    bytes: Vec<u8>,
}

impl Reader<'_> {
    /// Has the disk bring a slice into the page cache, without waiting for it.
    fn ask_for(&mut self, slice: &[Wanted]) -> Result<(), StoreError> {
        for span in slice.chunk_by(near) {
            let (first, length) = bounds(span);
            self.opened
                .get(self.dir, first.segment())?
                .ask_for(u64::from(first.offset()), length as u64);
        }
        Ok(())
    }

    fn read(
        &mut self,
        slice: &[Wanted],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), StoreError> {
        for span in slice.chunk_by(near) {
            let (first, length) = bounds(span);
            let bytes = &mut self.bytes;
            if bytes.len() < length {
                bytes.resize(length, 0);
            }
            let segment = self.opened.get(self.dir, first.segment())?;
            segment.read(&mut bytes[..length], u64::from(first.offset()), "chunks")?;
            for (index, chunk) in span {
                let from = (chunk.offset() - first.offset()) as usize;
                let own = &bytes[from..from + chunk.length() as usize];
                check(segment, chunk, own)?;
                each(*index, own);
            }
        }
        Ok(())
    }
}

/// The first of some neighbours, and the length of all.
fn bounds(span: &[Wanted]) -> (Chunk, usize) {
    let (_, first) = span[0];
    let end = span.iter().map(|(_, chunk)| chunk.end()).max();
    let length = end.unwrap_or(0) - u64::from(first.offset());
    (first, length as usize)
}

fn check(segment: &Segment, chunk: &Chunk, bytes: &[u8]) -> Result<(), StoreError> {
    let made = crc32fast::hash(bytes);
    if made == chunk.crc() {
        return Ok(());
    }
    let found = format!("{} bytes with CRC {made:08x}", bytes.len());
    let expected = format!("a chunk with CRC {:08x}", chunk.crc());
    Err(segment.damaged(u64::from(chunk.offset()), found, &expected))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(places: &[(u64, u32, u32)]) -> Vec<Wanted> {
        let chunk = |(segment, offset, length): &(u64, u32, u32)| {
            (0, Chunk::new(*segment, *offset, *length, 0))
        };
        places.iter().map(chunk).collect()
    }

    #[test]
    fn neighbours_are_read_as_one_and_others_are_not() {
        let gap = GAP as u32;
        let wanted = wanted(&[
            (1, 0, 10),
            (1, 10, 10),
            (1, gap + 20, 5),
            (1, 2 * gap + 26, 1),
            (2, 0, 1),
        ]);
        let spans: Vec<_> = wanted
            .chunk_by(near)
            .map(|span| (span.len(), bounds(span).1))
            .collect();
        assert_eq!(spans, [(3, GAP as usize + 25), (1, 1), (1, 1)]);
    }

    #[test]
    fn a_slice_has_a_bounded_length_with_its_gaps_or_one_chunk() {
        let apart = GAP as u32 + 100;
        let near_each_other = wanted(&(0..300).map(|i| (1, i * apart, 100)).collect::<Vec<_>>());
        let slices_of_near = slices(&near_each_other);
        assert!(slices_of_near.len() > 4);
        for slice in &slices_of_near {
            assert!(bounds(&near_each_other[slice.clone()]).1 as u64 <= SLICE_BYTES);
        }
        assert_eq!(
            slices_of_near
                .iter()
                .map(ExactSizeIterator::len)
                .sum::<usize>(),
            300
        );
        let long = wanted(&[(1, 0, 9), (1, 9, 2 << 20), (1, (2 << 20) + 9, 9), (2, 0, 9)]);
        assert_eq!(slices(&long), [0..1, 1..2, 2..4]);
        assert!(slices(&[]).is_empty());
    }
}
