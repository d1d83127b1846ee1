//! The twin of a topic of the embedded log. Reads whole ticks, anonymizes their records one by one, sorts each tick's
//! by browser and writes them by the pseudonyms' shards; keeps nothing between batches.
//!
//! *Whole ticks.* The sink of a topic commits whole ticks, and a commit is seen whole or not at
//! all. So what a reader sees of a partition at any moment is whole ticks, and the last of them is
//! as complete as the others; a batch ends between ticks.
//!
//! *Once.* A batch is a function of the offsets that it goes from and to. They are put into a file
//! beside the twin's partitions before the batch is written, with the offsets at which the twin's
//! partitions stood. Whoever starts reads that batch again, and writes it to those partitions that
//! still stand there: a commit of a partition is there whole or not at all. The file says source
//! positions, so its mode is 0600; it goes with the twin when that is removed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use visitflow_schemas::pseudonym::hex;
use visitflow_schemas::store::FolderStore;

use super::salts::SaltFile;
use super::transcode::{Transcoder, hour, partition};
use super::{AnonymizeError, RecordProblem, Step, Stream, Tagged};
use crate::log::{Reader, Record, Topic, Writer, WriterOptions, start_offset};

/// A batch ends with the first tick at which it has so many records or bytes.
const RECORDS: usize = 64 << 10;
const BYTES: usize = 32 << 20;

/// The last batch, so that it can be done again. By partition.
#[derive(Debug, Serialize, Deserialize)]
struct Batch {
    /// The offsets of the source that it goes from.
    from: Vec<u64>,
    /// And to, exclusive.
    to: Vec<u64>,
    /// Where the twin's partitions ended before it.
    ends: Vec<u64>,
    /// The CRC-32 of what was read: another source has another.
    read: u32,
}

/// A record that is to be written.
struct Item {
    tick: u64,
    browser: [u8; 16],
    value: Range<usize>,
}

/// The twin of one topic, and the topic.
pub(super) struct Twin<'a> {
    topic: Topic,
    twin: Topic,
    transcoder: Transcoder<'a>,
    readers: Vec<Reader>,
    writers: Vec<Writer>,
    items: Vec<Item>,
    bytes: Vec<u8>,
    records: u64,
}

impl<'a> Twin<'a> {
    /// Opens both, and finishes the last batch if it was not finished.
    pub fn open(
        log: &Path,
        name: &str,
        twin: &str,
        store: &'a FolderStore,
        salts: &mut SaltFile,
        tagged: &Tagged,
    ) -> Result<Twin<'a>, AnonymizeError> {
        let topic = Topic::open(log, name)?;
        let partitions = topic.partitions();
        let twin = Topic::open_or_create(log, twin, partitions)?;
        let writer = |partition| Writer::open(&twin, partition, WriterOptions::default());
        let writers: Vec<Writer> = (0..partitions).map(writer).collect::<Result<_, _>>()?;
        let last = read_batch(&progress_file(&twin))?;
        let from = match &last {
            Some(last) => last.from.clone(),
            None if writers.iter().any(|w| w.next_offset() > 0) => {
                let problem = format!("it has records, but no {PROGRESS}");
                return Err(other_source(&topic, &twin, problem));
            }
            None => {
                let start = |partition| start_offset(&topic, partition);
                (0..partitions).map(start).collect::<Result<_, _>>()?
            }
        };
        let lengths = |last: &Batch| [last.from.len(), last.to.len(), last.ends.len()];
        if last
            .as_ref()
            .is_some_and(|last| lengths(last) != [partitions as usize; 3])
        {
            let problem = format!("{PROGRESS} is of another number of partitions");
            return Err(other_source(&topic, &twin, problem));
        }
        let reader = |(partition, from): (u32, &u64)| Reader::open(&topic, partition, *from);
        let readers = (0..partitions).zip(&from).map(reader);
        let readers = readers
            .collect::<Result<_, _>>()
            .map_err(|error| match error {
                crate::log::LogError::OffsetGone { .. }
                | crate::log::LogError::OffsetBeyond { .. } => {
                    other_source(&topic, &twin, error.to_string())
                }
                error => error.into(),
            })?;
        let mut this = Twin {
            topic,
            twin,
            transcoder: Transcoder::new(name, store),
            readers,
            writers,
            items: vec![],
            bytes: vec![],
            records: 0,
        };
        if let Some(last) = last {
            this.finish(&last, salts, tagged)?;
        }
        Ok(this)
    }

    /// Does the last batch again where it is not done.
    fn finish(
        &mut self,
        last: &Batch,
        salts: &mut SaltFile,
        tagged: &Tagged,
    ) -> Result<(), AnonymizeError> {
        let read = self.read(Some(&last.to), salts, tagged)?;
        if read != last.read {
            let problem = "the records that it had last are others now".to_owned();
            return Err(other_source(&self.topic, &self.twin, problem));
        }
        let mut counts = vec![0_u64; self.writers.len()];
        for item in &self.items {
            counts[partition(item.browser, self.writers.len())] += 1;
        }
        let now: u64 = self.writers.iter().map(Writer::next_offset).sum();
        if now == last.ends.iter().sum::<u64>() + self.items.len() as u64 {
            // Whatever the salts were then.
            return self.write(&vec![false; self.writers.len()]);
        }
        let mut missing = vec![];
        for ((writer, count), end) in self.writers.iter().zip(counts).zip(&last.ends) {
            let now = writer.next_offset();
            if now != *end && now != end + count {
                let problem = format!(
                    "a partition ends at {now}, expected {end} or {}",
                    end + count
                );
                return Err(other_source(&self.topic, &self.twin, problem));
            }
            missing.push(now == *end);
        }
        self.write(&missing)
    }

    /// Writes the items to those partitions that `wanted` says, durably.
    fn write(&mut self, wanted: &[bool]) -> Result<(), AnonymizeError> {
        for item in &self.items {
            let partition = partition(item.browser, self.writers.len());
            if wanted[partition] {
                let value = &self.bytes[item.value.clone()];
                self.writers[partition].push(hour(item.tick), &hex(item.browser), &[], value)?;
                self.records += 1;
            }
        }
        for writer in &mut self.writers {
            if writer.buffered_bytes() > 0 {
                // No tick: a commit's is for all to read.
                writer.commit(0)?;
                writer.sync()?;
            }
        }
        self.items.clear();
        self.bytes.clear();
        Ok(())
    }

    /// Reads whole ticks and anonymizes their records: up to `to`, or else as many as there are
    /// and go into a batch. The records' CRC-32.
    fn read(
        &mut self,
        to: Option<&[u64]>,
        salts: &mut SaltFile,
        tagged: &Tagged,
    ) -> Result<u32, AnonymizeError> {
        let mut read = crc32fast::Hasher::new();
        let mut ticks = vec![];
        for partition in 0..self.readers.len() {
            ticks.push(self.tick(partition, to)?);
        }
        let mut last = None;
        loop {
            let next = ticks
                .iter()
                .enumerate()
                .filter_map(|(p, tick)| Some(((*tick)?, p)));
            let Some((tick, partition)) = next.min() else {
                break;
            };
            let full = self.items.len() >= RECORDS || self.bytes.len() >= BYTES;
            if to.is_none() && full && last != Some(tick) {
                break;
            }
            while ticks[partition] == Some(tick) {
                self.take(partition, tick, salts, tagged, &mut read)?;
                ticks[partition] = self.tick(partition, to)?;
            }
            last = Some(tick);
        }
        if let Some(to) = to
            && let Some(reader) = self
                .readers
                .iter()
                .zip(to)
                .find(|(r, to)| r.offset() != **to)
        {
            let problem = format!(
                "a partition ends at {}, expected {}",
                reader.0.offset(),
                reader.1
            );
            return Err(other_source(&self.topic, &self.twin, problem));
        }
        // A browser's own records keep their order: they come from one partition.
        self.items.sort_by_key(|item| (item.tick, item.browser));
        Ok(read.finalize())
    }

    /// The tick of the next record of a partition.
    fn tick(
        &mut self,
        partition: usize,
        to: Option<&[u64]>,
    ) -> Result<Option<u64>, AnonymizeError> {
        let reader = &mut self.readers[partition];
        if to.is_some_and(|to| reader.offset() >= to[partition]) {
            return Ok(None);
        }
        let Some(record) = reader.peek()? else {
            return Ok(None);
        };
        match tick_of(&record) {
            Some(tick) => Ok(Some(tick)),
            None => Err(wrong(
                &self.topic,
                partition,
                record.offset,
                RecordProblem::NoTick,
            )),
        }
    }

    /// Anonymizes the next record of a partition.
    fn take(
        &mut self,
        partition: usize,
        tick: u64,
        salts: &mut SaltFile,
        tagged: &Tagged,
        read: &mut crc32fast::Hasher,
    ) -> Result<(), AnonymizeError> {
        let Some(record) = self.readers[partition].peek()? else {
            return Ok(());
        };
        read.update(record.key);
        read.update(record.value);
        let start = self.bytes.len();
        let (topic, offset) = (&self.topic, record.offset);
        let wrong = |problem| wrong(topic, partition, offset, problem);
        let (key, value) = (record.key, record.value);
        let transcoder = &mut self.transcoder;
        let browser = transcoder.run(key, value, &mut self.bytes, salts, tagged, wrong)?;
        self.items.extend(browser.map(|browser| Item {
            tick,
            browser,
            value: start..self.bytes.len(),
        }));
        self.readers[partition].advance();
        Ok(())
    }
}

impl Stream for Twin<'_> {
    fn step(&mut self, salts: &mut SaltFile, tagged: &Tagged) -> Result<Step, AnonymizeError> {
        let from: Vec<u64> = self.readers.iter().map(Reader::offset).collect();
        let read = self.read(None, salts, tagged)?;
        if self.items.is_empty() {
            return Ok(Step::AtEnd);
        }
        let batch = Batch {
            from,
            to: self.readers.iter().map(Reader::offset).collect(),
            ends: self.writers.iter().map(Writer::next_offset).collect(),
            read,
        };
        put_batch(&progress_file(&self.twin), &batch)?;
        self.write(&vec![true; self.writers.len()])?;
        Ok(Step::Moved)
    }

    fn records(&self) -> u64 {
        self.records
    }
}

fn tick_of(record: &Record<'_>) -> Option<u64> {
    std::str::from_utf8(record.header("tick")?)
        .ok()?
        .parse()
        .ok()
}

fn wrong(topic: &Topic, partition: usize, offset: u64, problem: RecordProblem) -> AnonymizeError {
    AnonymizeError::Record {
        topic: topic.path().display().to_string(),
        partition: partition as u32,
        offset,
        problem,
    }
}

fn other_source(topic: &Topic, twin: &Topic, problem: String) -> AnonymizeError {
    AnonymizeError::OtherSource {
        twin: twin.path(),
        from: topic.path(),
        problem,
    }
}

const PROGRESS: &str = "progress.json";

fn progress_file(twin: &Topic) -> PathBuf {
    twin.path().join(PROGRESS)
}

fn read_batch(path: &Path) -> Result<Option<Batch>, AnonymizeError> {
    let failed = |source| AnonymizeError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    match fs::read(path) {
        Ok(text) => {
            let batch = serde_json::from_slice(&text);
            Ok(Some(
                batch.map_err(|error| failed(io::Error::other(error)))?,
            ))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Puts the file whole or not at all, durably.
fn put_batch(path: &Path, batch: &Batch) -> Result<(), AnonymizeError> {
    let draft = path.with_extension("tmp");
    let done = (|| {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&draft)?;
        serde_json::to_writer(&mut file, batch)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&draft, path)?;
        File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
    })();
    done.map_err(|source: io::Error| AnonymizeError::Io {
        what: "write",
        path: path.to_owned(),
        source,
    })
}
