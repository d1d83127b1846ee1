//! The runs of one worker: what its owner calls.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::block::{Pending, Placement};
use super::chunk::{Chunk, Key, file_name, incarnation};
use super::error::StoreError;
use super::live::Live;
use super::reading::{self, Opened};
use super::segment::Segment;
use super::thin::Walk;
use super::writer::{Create, Job, Progress, Writer, create_new, sync_dir};

/// How many groups may wait to be written; the next write waits for one of them.
const GROUPS: usize = 2;

/// How runs are written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long a segment gets, in bytes, before the next is begun; at most 4 GiB. Great ones mean
    /// fewer files to open for a read, small ones that disk comes back sooner.
    pub segment_bytes: u64,
}

impl Default for Options {
    /// Segments of 256 MiB.
    fn default() -> Options {
        Options {
            segment_bytes: 256 << 20,
        }
    }
}

/// The runs of one worker. See the module for what they are, and in which order its calls are made.
///
/// Keeps some 100 bytes for each segment, and no handle open but those of a gigabyte that is not
/// durable yet. Any call says what went wrong in the thread that writes, if something did; then the
/// store is of no use any more, but what was durable is.
pub struct Runs {
    dir: PathBuf,
    own: u64,
    placement: Placement,
    pending: Pending,
    live: Live,
    bytes_written: u64,
    pub(super) walk: Option<Walk>,
    writer: Writer,
    opened: Opened,
}

/// A seal, which is done when everything written before it is durable. May be cloned, and asked
/// from any thread.
#[derive(Clone)]
pub struct Ticket {
    seal: u64,
    progress: Arc<Progress>,
}

impl Ticket {
    /// Whether it is done. Never waits for the disk.
    ///
    /// # Errors
    /// If the thread that writes has failed or ended before.
    pub fn is_done(&self) -> Result<bool, StoreError> {
        self.progress.sealed(self.seal)
    }

    /// Waits until it is done.
    ///
    /// # Errors
    /// As of [`Ticket::is_done`].
    pub fn wait(&self) -> Result<(), StoreError> {
        self.progress.wait(0, self.seal)
    }
}

/// How much there is, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What is written or adopted and not freed, with 24 bytes for each chunk.
    pub bytes_live: u64,
    /// Lengths of the segments that this worker has written and not removed.
    pub bytes_on_disk: u64,
    /// What this worker has written since it was opened.
    pub bytes_written: u64,
    /// What waits in memory to be written.
    pub bytes_pending: u64,
    /// Segments that this worker has written and not removed.
    pub segments: u64,
    /// Segments of earlier incarnations that it has chunks in.
    pub adopted_segments: u64,
}

impl Runs {
    /// Opens the runs of a worker of an incarnation, which have never been opened before, in the
    /// directory `runs` of `dir`. Looks at no run that is there: see [`Runs::adopt`].
    ///
    /// # Errors
    /// If the directory cannot be made; if the incarnation is over 16,777,215 or the worker over
    /// 4,095.
    pub fn open(
        dir: &Path,
        incarnation: u64,
        worker: u64,
        options: Options,
    ) -> Result<Runs, StoreError> {
        Runs::open_with(dir, incarnation, worker, options, create_new)
    }

    pub(super) fn open_with(
        dir: &Path,
        incarnation: u64,
        worker: u64,
        options: Options,
        create: Create,
    ) -> Result<Runs, StoreError> {
        let placement = Placement::new(incarnation, worker, options.segment_bytes)?;
        let runs = dir.join(super::DIR);
        if !runs.is_dir() {
            fs::create_dir_all(&runs).map_err(StoreError::io("create", &runs))?;
            sync_dir(dir)?;
        }
        Ok(Runs {
            writer: Writer::start(&runs, create)?,
            dir: runs,
            own: incarnation,
            placement,
            pending: Pending::default(),
            live: Live::default(),
            bytes_written: 0,
            walk: None,
            opened: Opened::default(),
        })
    }

    /// Writes a group of chunks, and says where each lies, in their order. Those that are of one
    /// browser, or end together, should be neighbours. Costs the CRC of the bytes; they are written
    /// by another thread, and can be read at once. When two groups are still being written, it
    /// waits until one of them is.
    ///
    /// # Errors
    /// If a chunk is longer than 4 GiB less 64 bytes, in which case nothing is written; or if the
    /// thread that writes has failed, as on a full disk.
    pub fn write(&mut self, chunks: Vec<(Key, Vec<u8>)>) -> Result<Vec<Chunk>, StoreError> {
        self.progress()?;
        let progress = &self.writer.progress;
        progress.wait(self.pending.until(GROUPS - 1), 0)?;
        self.pending.written(progress.blocks()?);
        let before = self.placement.open();
        let group: Vec<_> = self.placement.place(chunks, &self.dir)?;
        let group: Vec<_> = group.into_iter().map(Arc::new).collect();
        let mut places = Vec::with_capacity(group.iter().map(|block| block.chunks.len()).sum());
        let mut open = before;
        for block in &group {
            if let Some(closed) = open.filter(|&open| open != block.segment) {
                self.close(closed);
            }
            open = Some(block.segment);
            self.live.wrote(block);
            self.bytes_written += block.end() - block.at;
            places.extend_from_slice(&block.chunks);
            self.writer.send(Job::Block(block.clone()));
        }
        self.pending.push(&group);
        Ok(places)
    }

    /// Reads chunks, and calls `each` with every one's index and bytes, in any order, on this
    /// thread. However many they are, a megabyte of them is held, or one chunk that is longer, and
    /// 32 bytes for each. The disk is asked for those to come while some are read.
    ///
    /// # Errors
    /// If a file is not there, cannot be read, or does not hold what was written to it; some chunks
    /// may have been given out then.
    pub fn read(
        &mut self,
        chunks: &[Chunk],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), StoreError> {
        self.progress()?;
        let mut wanted = Vec::new();
        for (index, chunk) in chunks.iter().enumerate() {
            match self.pending.find(chunk) {
                Some(bytes) => each(index, bytes),
                None => wanted.push((index, *chunk)),
            }
        }
        reading::read(&self.dir, &mut self.opened, wanted, each)
    }

    /// A chunk is not needed any more, but by a manifest that names its segment. A segment of which
    /// nothing is needed is removed by the thread that writes.
    ///
    /// # Errors
    /// If the chunk does not live.
    pub fn free(&mut self, chunk: Chunk) -> Result<(), StoreError> {
        self.progress()?;
        let segment = chunk.segment();
        let dead = self.live.free(&chunk).map_err(|live| StoreError::NotLive {
            file: self.dir.join(file_name(segment)),
            at: u64::from(chunk.offset()),
            bytes: super::live::weight(&chunk),
            live,
        })?;
        if dead {
            if self.placement.open() == Some(segment) {
                self.placement.close();
                self.live.close(segment);
            }
            self.forget(segment);
        }
        Ok(())
    }

    /// Makes everything durable that was written so far: a manifest that names it may be put when
    /// the ticket is done. Until the manifest of this seal, or of a later one, has been
    /// [`named`](Runs::named), what lives now stays on disk. Never waits.
    ///
    /// # Errors
    /// If the thread that writes has failed.
    pub fn seal(&mut self) -> Result<Ticket, StoreError> {
        self.progress()?;
        let seal = self.live.seal();
        self.writer.send(Job::Seal);
        Ok(Ticket {
            seal,
            progress: self.writer.progress.clone(),
        })
    }

    /// The manifest of a seal has been put and is the newest: it names these segments, and no
    /// other. Segments that are freed and that only an earlier manifest named are removed now;
    /// those that it names stay, though nothing of them be live. IDs of other workers' segments are
    /// passed over. A ticket before the newest says nothing.
    ///
    /// # Errors
    /// If the thread that writes has failed.
    pub fn named(
        &mut self,
        ticket: &Ticket,
        segments: impl IntoIterator<Item = u64>,
    ) -> Result<(), StoreError> {
        self.progress()?;
        let segments: HashSet<u64> = segments.into_iter().collect();
        for segment in self.live.named(ticket.seal, &segments) {
            self.writer.send(Job::Remove(segment));
        }
        Ok(())
    }

    /// The segments of which something lives, adopted ones too, in any order: with
    /// [`Runs::seal`], what this worker's part of the manifest names.
    pub fn segments(&self) -> impl Iterator<Item = u64> {
        self.live.living()
    }

    /// Takes chunks of earlier incarnations over, as the manifest that was loaded names them. May
    /// be called again, with other chunks. Their segments may hold chunks of other workers, and are
    /// never removed by this one, but by [`Runs::sweep`]. Opens each segment once.
    ///
    /// # Errors
    /// If a segment is not of an earlier incarnation, is not there, is shorter than its chunks, or
    /// is of an unknown format.
    pub fn adopt(&mut self, chunks: impl IntoIterator<Item = Chunk>) -> Result<(), StoreError> {
        self.progress()?;
        let mut sizes: HashMap<u64, u64> = HashMap::new();
        for chunk in chunks {
            let id = chunk.segment();
            let size = match sizes.get(&id) {
                Some(size) => *size,
                None => *sizes.entry(id).or_insert(self.size_of_earlier(id)?),
            };
            if chunk.end() > size {
                return Err(StoreError::Damaged {
                    file: self.dir.join(file_name(id)),
                    at: u64::from(chunk.offset()),
                    found: format!("a file of {size} bytes"),
                    expected: format!("a chunk of {} bytes", chunk.length()),
                });
            }
            self.live.adopted(&chunk, size);
        }
        Ok(())
    }

    fn size_of_earlier(&self, id: u64) -> Result<u64, StoreError> {
        if incarnation(id) >= self.own {
            return Err(StoreError::NotEarlier {
                file: self.dir.join(file_name(id)),
                found: incarnation(id),
                own: self.own,
            });
        }
        let segment = Segment::open(&self.dir, id)?;
        segment.check()?;
        segment.length()
    }

    /// How much there is.
    pub fn counters(&self) -> Counters {
        let mut counters = Counters {
            bytes_written: self.bytes_written,
            bytes_pending: self.pending.bytes(),
            ..Counters::default()
        };
        for account in self.live.accounts() {
            counters.bytes_live += account.live;
            if account.own {
                counters.segments += 1;
                counters.bytes_on_disk += account.size;
            } else {
                counters.adopted_segments += 1;
            }
        }
        counters
    }

    /// Hears of the thread that writes: what has gone wrong, and what need not be held any more.
    pub(super) fn progress(&mut self) -> Result<(), StoreError> {
        self.pending.written(self.writer.progress.blocks()?);
        Ok(())
    }

    fn close(&mut self, segment: u64) {
        self.live.close(segment);
        self.forget(segment);
    }

    fn forget(&mut self, segment: u64) {
        self.opened.close(segment);
        if self.live.forget(segment) {
            self.writer.send(Job::Remove(segment));
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn thinnest(&self) -> Option<u64> {
        self.live.thinnest(self.pending.first_segment())
    }

    pub(super) fn live(&mut self) -> &mut Live {
        &mut self.live
    }
}
