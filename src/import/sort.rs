//! Puts messages into the order of their time, in bounded memory: an external merge sort that
//! keeps messages of one time in the order in which they came.
//!
//! Messages are gathered up to the memory limit, sorted and written as a *run* to a file without
//! a name, which is gone when the program ends in whatever way. At the end the runs are merged;
//! 64 runs are merged into one before there are more, so files and read buffers stay few. Each
//! message is written once for each 64-fold of the memory limit, and not at all below it.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, Write};
use std::path::{Path, PathBuf};

/// How many runs of one size are kept before they become one.
const FAN_IN: usize = 64;
/// What a run's file is read and written by.
const BUFFER: usize = 64 * 1024;
/// In memory and in files, before a message: the lengths of key and value.
const LENGTHS: usize = 8;

/// A message: its time, key and value.
pub(super) type Message<'a> = (i64, &'a [u8], &'a [u8]);

/// Takes messages in any order.
pub(super) struct Sorter {
    memory: usize,
    fan_in: usize,
    dir: PathBuf,
    batch: Batch,
    /// Runs of the same size each; those of a later level are larger and older.
    levels: Vec<Vec<File>>,
}

/// Messages in memory: their bytes in the order they came, and their times and places.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    index: Vec<(i64, u32)>,
}

impl Batch {
    /// The message at a place: key and value.
    fn get(&self, at: u32) -> (&[u8], &[u8]) {
        split(&self.bytes[at as usize..])
    }

    fn sort(&mut self) {
        // The place breaks ties, so this is stable, and in place.
        self.index.sort_unstable();
    }
}

fn length(bytes: &[u8], at: usize) -> usize {
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(length) as usize
}

fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    let (key, value) = (length(bytes, 0), length(bytes, 4));
    (
        &bytes[LENGTHS..LENGTHS + key],
        &bytes[LENGTHS + key..LENGTHS + key + value],
    )
}

impl Sorter {
    /// Keeps at most about `memory` bytes (up to 2 GiB), or one message if that is longer. Runs go
    /// to `dir`.
    pub fn new(memory: usize, dir: &Path) -> Sorter {
        Sorter {
            memory: memory.min(1 << 31),
            fan_in: FAN_IN,
            dir: dir.to_owned(),
            batch: Batch::default(),
            levels: Vec::new(),
        }
    }

    /// Takes one message. Key and value together must be under 1 GiB.
    pub fn push(&mut self, time: i64, key: &[u8], value: &[u8]) -> io::Result<()> {
        let batch = &mut self.batch;
        let size = LENGTHS + key.len() + value.len();
        let index = (batch.index.len() + 1) * size_of::<(i64, u32)>();
        if batch.bytes.len() + size + index > self.memory && !batch.index.is_empty() {
            self.spill()?;
        }
        let batch = &mut self.batch;
        let at = u32::try_from(batch.bytes.len()).map_err(io::Error::other)?;
        if batch.bytes.capacity() - batch.bytes.len() < size {
            // Doubles, but not over the limit.
            let room = batch.bytes.len().max(1 << 16);
            let room = room.min(self.memory.saturating_sub(batch.bytes.len()));
            batch.bytes.reserve_exact(room.max(size));
        }
        for part in [key, value] {
            let length = u32::try_from(part.len()).map_err(io::Error::other)?;
            batch.bytes.extend_from_slice(&length.to_le_bytes());
        }
        batch.bytes.extend_from_slice(key);
        batch.bytes.extend_from_slice(value);
        batch.index.push((time, at));
        Ok(())
    }

    fn spill(&mut self) -> io::Result<()> {
        self.batch.sort();
        let mut run = Run::create(&self.dir)?;
        for &(time, at) in &self.batch.index {
            let (key, value) = self.batch.get(at);
            run.write(time, key, value)?;
        }
        self.batch.bytes.clear();
        self.batch.index.clear();
        let mut file = run.finish()?;
        for level in 0.. {
            if level == self.levels.len() {
                self.levels.push(Vec::new());
            }
            self.levels[level].push(file);
            if self.levels[level].len() < self.fan_in {
                break;
            }
            let files = std::mem::take(&mut self.levels[level]);
            let mut merged = Sorted::merge(files, Batch::default())?;
            let mut run = Run::create(&self.dir)?;
            while let Some((time, key, value)) = merged.next()? {
                run.write(time, key, value)?;
            }
            file = run.finish()?;
        }
        Ok(())
    }

    /// All messages, in order.
    pub fn finish(mut self) -> io::Result<Sorted> {
        self.batch.sort();
        // Oldest first, as ties are broken by the place of a run.
        let files = std::mem::take(&mut self.levels).into_iter().rev().flatten();
        Sorted::merge(files.collect(), std::mem::take(&mut self.batch))
    }
}

/// A run while it is written.
struct Run(BufWriter<File>);

impl Run {
    fn create(dir: &Path) -> io::Result<Run> {
        Ok(Run(BufWriter::with_capacity(
            BUFFER,
            tempfile::tempfile_in(dir)?,
        )))
    }

    fn write(&mut self, time: i64, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.write_all(&time.to_le_bytes())?;
        self.0.write_all(&(key.len() as u32).to_le_bytes())?;
        self.0.write_all(&(value.len() as u32).to_le_bytes())?;
        self.0.write_all(key)?;
        self.0.write_all(value)
    }

    fn finish(self) -> io::Result<File> {
        let mut file = self.0.into_inner().map_err(|error| error.into_error())?;
        file.rewind()?;
        Ok(file)
    }
}

/// A run while it is read, at one message.
struct Cursor {
    file: BufReader<File>,
    time: i64,
    /// Lengths, key and value.
    message: Vec<u8>,
}

impl Cursor {
    /// Goes to the next message; false at the end.
    fn advance(&mut self) -> io::Result<bool> {
        let mut time = [0; 8];
        if self.file.fill_buf()?.is_empty() {
            return Ok(false);
        }
        self.file.read_exact(&mut time)?;
        self.time = i64::from_le_bytes(time);
        self.message.resize(LENGTHS, 0);
        self.file.read_exact(&mut self.message)?;
        let size = length(&self.message, 0) + length(&self.message, 4);
        self.message.resize(LENGTHS + size, 0);
        self.file.read_exact(&mut self.message[LENGTHS..])?;
        Ok(true)
    }
}

/// Messages in order of time, equal times in the order in which they came.
pub(super) struct Sorted {
    cursors: Vec<Cursor>,
    batch: Batch,
    /// The next message of the batch.
    next: usize,
    /// The time of each source's next message; the batch is the last source.
    heads: BinaryHeap<Reverse<(i64, usize)>>,
    /// The source whose message was given last.
    given: Option<usize>,
}

impl Sorted {
    fn merge(files: Vec<File>, batch: Batch) -> io::Result<Sorted> {
        let mut sorted = Sorted {
            cursors: Vec::with_capacity(files.len()),
            batch,
            next: 0,
            heads: BinaryHeap::new(),
            given: None,
        };
        for file in files {
            sorted.cursors.push(Cursor {
                file: BufReader::with_capacity(BUFFER, file),
                time: 0,
                message: Vec::new(),
            });
        }
        for source in 0..=sorted.cursors.len() {
            sorted.advance(source)?;
        }
        Ok(sorted)
    }

    fn advance(&mut self, source: usize) -> io::Result<()> {
        let time = match self.cursors.get_mut(source) {
            Some(cursor) => cursor.advance()?.then_some(cursor.time),
            None => self.batch.index.get(self.next).map(|(time, _)| *time),
        };
        self.heads.extend(time.map(|time| Reverse((time, source))));
        Ok(())
    }

    /// The next message.
    pub fn next(&mut self) -> io::Result<Option<Message<'_>>> {
        if let Some(source) = self.given.take() {
            if source == self.cursors.len() {
                self.next += 1;
            }
            self.advance(source)?;
        }
        let Some(Reverse((time, source))) = self.heads.pop() else {
            return Ok(None);
        };
        self.given = Some(source);
        let (key, value) = match self.cursors.get(source) {
            Some(cursor) => split(&cursor.message),
            None => self.batch.get(self.batch.index[self.next].1),
        };
        Ok(Some((time, key, value)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_order_becomes_that_of_time_then_of_arrival_in_any_memory(
            times in proptest::collection::vec(-3..20_i64, 0..300),
            memory in 0..3000_usize,
            fan_in in 2..5_usize,
            long in 0..300_usize,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut sorter = Sorter::new(memory, dir.path());
            sorter.fan_in = fan_in;
            for (i, time) in times.iter().enumerate() {
                let key = format!("k{}", i % 7);
                let value = format!("{i}{}", "x".repeat(if i % 50 == 3 { long } else { 0 }));
                sorter.push(*time, key.as_bytes(), value.as_bytes()).unwrap();
                prop_assert!(sorter.batch.bytes.len() <= memory.max(400));
                prop_assert!(sorter.levels.iter().all(|level| level.len() < fan_in));
            }
            let mut expected: Vec<_> = times.iter().copied().zip(0..).collect();
            expected.sort();
            let mut sorted = sorter.finish().unwrap();
            let mut got = Vec::new();
            while let Some((time, key, value)) = sorted.next().unwrap() {
                let text = std::str::from_utf8(value).unwrap().trim_end_matches('x');
                let i: i32 = text.parse().unwrap();
                let expected = format!("k{}", i % 7);
                prop_assert_eq!(key, expected.as_bytes());
                got.push((time, i));
            }
            prop_assert_eq!(got, expected);
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error() {
        let mut sorter = Sorter::new(10, Path::new("/nonexistent/visitflow"));
        sorter.push(1, b"k", b"value").unwrap();
        assert!(sorter.push(1, b"k", b"value").is_err());
    }
}
