//! Reads chunks back: sorted by place, neighbours as one, and when there are many by several
//! threads, since a disk answers several questions in the time of one.

use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, mpsc};
use std::thread;

use super::chunk::Chunk;
use super::error::StoreError;
use super::segment::Segment;

/// A chunk, and which one it was in the caller's list.
pub(super) type Wanted = (usize, Chunk);

/// What is read into one slice at most, unless one chunk is longer: so many bytes, and so many
/// chunks, that few which lie far apart are dealt to all threads.
const SLICE_BYTES: u64 = 1 << 20;
const SLICE_CHUNKS: usize = 64;

/// Neighbours that are no farther apart are read as one.
const GAP: u64 = 16 << 10;

/// How many threads read.
const THREADS: usize = 4;

/// Chunks that have been read, one slice's. Slices are used again.
#[derive(Default)]
struct Slice {
    /// The chunks' indices in the caller's list, and where they lie in `bytes`.
    places: Vec<(usize, Range<usize>)>,
    /// Is never cut, so that only new bytes are made zero before they are read into.
    bytes: Vec<u8>,
}

/// Reads these chunks of runs in `dir`, and gives each one's bytes to `each` with its index, in any
/// order, on this thread. Holds two slices a thread.
pub(super) fn read(
    dir: &Path,
    mut wanted: Vec<Wanted>,
    each: &mut dyn FnMut(usize, &[u8]),
) -> Result<(), StoreError> {
    wanted.sort_unstable_by_key(|&(_, chunk)| chunk);
    let slices = slices(&wanted);
    let threads = std::env::var("T").map_or(THREADS, |t| t.parse().unwrap());
    if slices.len() <= 1 || threads == 1 {
        let mut reader = Reader::new(dir);
        let mut slice = Slice::default();
        for range in slices {
            reader.read(&wanted[range], &mut slice)?;
            give(&slice, each);
        }
        return Ok(());
    }
    let next = AtomicUsize::new(0);
    let used: Mutex<Vec<Slice>> = Mutex::default();
    let take_used = || used.lock().unwrap_or_else(|e| e.into_inner()).pop();
    thread::scope(|scope| {
        let (done, slices_read) = mpsc::sync_channel(threads);
        for _ in 0..threads.min(slices.len()) {
            let done = done.clone();
            scope.spawn(|| {
                let done = done;
                let mut reader = Reader::new(dir);
                while let Some(range) = slices.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let mut slice = take_used().unwrap_or_default();
                    let read = reader.read(&wanted[range.clone()], &mut slice);
                    // Nobody listens any more after an error.
                    if done.send(read.map(|()| slice)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(done);
        for slice in slices_read {
            let slice = slice?;
            give(&slice, each);
            used.lock().unwrap_or_else(|e| e.into_inner()).push(slice);
        }
        Ok(())
    })
}

fn give(slice: &Slice, each: &mut dyn FnMut(usize, &[u8])) {
    for (index, place) in &slice.places {
        each(*index, &slice.bytes[place.clone()]);
    }
}

/// Cuts chunks in order of place into what is read as a slice.
fn slices(wanted: &[Wanted]) -> Vec<Range<usize>> {
    let mut slices = Vec::new();
    let mut from = 0;
    let mut bytes = 0;
    for (at, (_, chunk)) in wanted.iter().enumerate() {
        // Gaps add to it, but no more than one for each chunk.
        bytes += u64::from(chunk.length());
        if at > from && (bytes > SLICE_BYTES || at - from == SLICE_CHUNKS) {
            slices.push(from..at);
            from = at;
            bytes = u64::from(chunk.length());
        }
    }
    if from < wanted.len() {
        slices.push(from..wanted.len());
    }
    slices
}

/// Reads slices, which mostly lie in the segment of the last one.
struct Reader<'a> {
    dir: &'a Path,
    segment: Option<Segment>,
}

impl Reader<'_> {
    fn new(dir: &Path) -> Reader<'_> {
        Reader { dir, segment: None }
    }

    fn read(&mut self, wanted: &[Wanted], slice: &mut Slice) -> Result<(), StoreError> {
        slice.places.clear();
        let mut filled = 0;
        let near = |(_, a): &Wanted, (_, b): &Wanted| {
            a.segment() == b.segment() && u64::from(b.offset()) <= u64::from(a.end()) + GAP
        };
        for span in wanted.chunk_by(near) {
            let (first, last) = (&span[0].1, &span[span.len() - 1].1);
            let segment = self.open(first.segment())?;
            let length = (last.end() - first.offset()) as usize;
            if slice.bytes.len() < filled + length {
                slice.bytes.resize(filled + length, 0);
            }
            let bytes = &mut slice.bytes[filled..filled + length];
            segment.read(bytes, u64::from(first.offset()), "chunks")?;
            for (index, chunk) in span {
                let from = (chunk.offset() - first.offset()) as usize;
                let own = &bytes[from..from + chunk.length() as usize];
                check(segment, chunk, own)?;
                slice
                    .places
                    .push((*index, filled + from..filled + from + own.len()));
            }
            filled += length;
        }
        Ok(())
    }

    fn open(&mut self, id: u64) -> Result<&Segment, StoreError> {
        let segment = match self.segment.take() {
            Some(segment) if segment.id == id => segment,
            _ => Segment::open(self.dir, id)?,
        };
        Ok(self.segment.insert(segment))
    }
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
