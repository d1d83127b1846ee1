//! Appending to one partition: records are gathered in memory as frames and reach the file a
//! commit at a time. For sinks, which commit ticks, and for producers, which commit when it suits
//! them. A writer is the only one of its partition; it cuts a torn tail when it opens.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{SystemTime, UNIX_EPOCH};

use super::frame::{FRAME_HEADER, FrameHeader, MAX_VARINT, put_varint, zigzag};
use super::segment::{SEGMENT_HEADER, Segment, SegmentHeader, list_segments, segment_path};
use super::topic::sync_dir;
use super::{LogError, MAX_RECORD_BYTES, Topic};
use crate::crash;

/// After how many bytes the disk is set to work on them, so that the sync at a segment's end finds
/// little left to wait for.
const FLUSH_BYTES: u64 = 8 << 20;

/// The sizes that a writer keeps to.
#[derive(Clone, Copy, Debug)]
pub struct WriterOptions {
    /// A segment that would grow over this many bytes is closed and the next begun (64 MiB). It
    /// bounds what an open reads; a commit is never spread over two segments, so one that is
    /// larger makes a larger segment.
    pub segment_bytes: u64,
    /// A frame that would grow over this many bytes is closed and the next begun (64 KiB, so that
    /// the cache holds those of many partitions). A larger record has a frame of its own.
    pub frame_bytes: usize,
    /// When closed frames of a commit reach this many bytes they are written before the commit is
    /// done (8 MiB); no reader sees them until it is. It bounds the writer's memory.
    pub buffer_bytes: usize,
}

impl Default for WriterOptions {
    fn default() -> Self {
        WriterOptions {
            segment_bytes: 64 << 20,
            frame_bytes: 64 << 10,
            buffer_bytes: 8 << 20,
        }
    }
}

/// The one writer of a partition.
///
/// What was pushed is in memory until [`commit`](Writer::commit), which makes all of it visible
/// to readers at once, and durable only with [`sync`](Writer::sync). Dropping a writer drops what
/// was not committed.
pub struct Writer {
    partition: PathBuf,
    options: WriterOptions,
    /// Held for as long as the writer lives.
    _lock: Lock,
    segment: Segment,
    /// The length of the segment's sound part. Everything is written there, never at the file's
    /// own end, so that a failed write leaves no hole.
    end: u64,
    /// The offset after the last record in the file.
    end_offset: u64,
    /// Whether bytes may lie behind `end`, since a write failed and could not be taken back.
    dirty: bool,
    /// Whether the file's last frame is of a commit that goes on.
    in_commit: bool,
    /// What was written since the last flush.
    unflushed: u64,
    /// Whether anything was written that [`unsynced`](Writer::unsynced) has not given out.
    changed: bool,
    /// A thread that syncs what was written some time ago.
    flush: Option<JoinHandle<io::Result<()>>>,
    /// What such a thread met, for the next sync: the system tells it only once.
    flush_error: Option<io::Error>,
    /// Whether the directories may still forget the segment or the partition.
    dir_dirty: bool,
    last_tick: u64,
    max_time: i64,
    torn: u64,
    /// Frames, the last perhaps still open.
    buf: Vec<u8>,
    /// Where the last frame of `buf` begins.
    frame: usize,
    /// The number of records in the open frame; none is open while it is 0.
    count: u32,
    first_time: i64,
    last_time: i64,
    frame_max_time: i64,
    /// The greatest log time in the closed frames of `buf`.
    buf_max_time: i64,
    /// The header of the last closed frame in `buf`.
    closed: Option<FrameHeader>,
    next_offset: u64,
    /// The tick of the last closed commit in `buf`.
    closed_tick: u64,
}

impl Writer {
    /// Takes a partition of a topic for writing, and cuts a torn tail or an unfinished commit.
    /// Reads the last segment whole (about 25 ms for the usual 64 MiB, if it is cached).
    ///
    /// # Errors
    /// No such partition; another writer has it; damage that is no torn tail, which is left as it
    /// is; what the file system says.
    pub fn open(topic: &Topic, partition: u32, options: WriterOptions) -> Result<Writer, LogError> {
        let dir = topic.partition_dir(partition)?;
        fs::create_dir_all(&dir).map_err(LogError::io("create the partition", &dir))?;
        let lock = Lock::take(&dir)?;

        let bases = list_segments(&dir)?;
        let mut torn = 0;
        let (segment, end, header) = match bases.last() {
            None => {
                let header = SegmentHeader {
                    base_offset: 0,
                    tick: 0,
                    max_time: i64::MIN,
                };
                (create_segment(&dir, header)?, SEGMENT_HEADER as u64, header)
            }
            Some(&last) => {
                let segment = Segment::open(&dir, last, true)?;
                let walk = segment.walk(true, true)?;
                let mut header = SegmentHeader {
                    base_offset: walk.end_offset,
                    tick: walk.tick,
                    max_time: walk.max_time,
                };
                let mut end = walk.end;
                torn = walk.length - walk.end;
                if torn > 0 {
                    let cut = segment.file.set_len(walk.end);
                    cut.map_err(LogError::io("cut the torn tail", &segment.path))?;
                }
                if !walk.has_header {
                    // Its creator died early. What the header must say is in the one before.
                    if let Some(&before) = bases.iter().rev().nth(1) {
                        let before = Segment::open(&dir, before, false)?.walk(false, false)?;
                        header.tick = before.tick;
                        header.max_time = before.max_time;
                    }
                    write_header(&segment, header)?;
                    end = SEGMENT_HEADER as u64;
                }
                if torn > 0 {
                    let synced = segment.file.sync_all();
                    synced.map_err(LogError::io("sync", &segment.path))?;
                }
                (segment, end, header)
            }
        };
        Ok(Writer {
            partition: dir,
            options,
            _lock: lock,
            segment,
            end,
            end_offset: header.base_offset,
            dirty: false,
            in_commit: false,
            unflushed: 0,
            changed: false,
            flush: None,
            flush_error: None,
            // Whoever created it may have died before it synced the directories.
            dir_dirty: true,
            last_tick: header.tick,
            max_time: header.max_time,
            torn,
            buf: Vec::new(),
            frame: 0,
            count: 0,
            first_time: 0,
            last_time: 0,
            frame_max_time: i64::MIN,
            buf_max_time: i64::MIN,
            closed: None,
            next_offset: header.base_offset,
            closed_tick: header.tick,
        })
    }

    /// Appends a record to the commit that is being built, and returns its offset. `log_time` is
    /// in milliseconds UTC and is kept as it is, even when it goes back (an import's may); for
    /// the log's own time ask [`append_time`](Writer::append_time). Costs a copy and, without
    /// a header, no allocation.
    ///
    /// # Errors
    /// A record over [`MAX_RECORD_BYTES`]; or a failed write, when the buffer is full. The record
    /// was not taken then.
    #[inline]
    pub fn push(
        &mut self,
        log_time: i64,
        key: &[u8],
        headers: &[(&str, &[u8])],
        value: &[u8],
    ) -> Result<u64, LogError> {
        self.push_parts(log_time, key, headers, &[value])
    }

    /// As [`push`](Writer::push), with a value that lies in several pieces, which saves whoever
    /// has it so from copying it together.
    ///
    /// # Errors
    /// As [`push`](Writer::push).
    #[inline]
    pub fn push_parts(
        &mut self,
        log_time: i64,
        key: &[u8],
        headers: &[(&str, &[u8])],
        value: &[&[u8]],
    ) -> Result<u64, LogError> {
        let value_bytes: usize = value.iter().map(|part| part.len()).sum();
        let header_bytes: usize = headers
            .iter()
            .map(|(name, value)| name.len() + value.len() + 2 * MAX_VARINT)
            .sum();
        let most = 4 * MAX_VARINT + key.len() + header_bytes + value_bytes;
        if self.count == 0 || self.buf.len() - self.frame + most > self.frame_limit() {
            self.next_frame(log_time, most)?;
        }
        self.buf.reserve(most);
        let delta = log_time.wrapping_sub(self.last_time);
        put_varint(&mut self.buf, zigzag(delta));
        put_varint(&mut self.buf, key.len() as u64);
        self.buf.extend_from_slice(key);
        put_varint(&mut self.buf, headers.len() as u64);
        for (name, value) in headers {
            put_varint(&mut self.buf, name.len() as u64);
            self.buf.extend_from_slice(name.as_bytes());
            put_varint(&mut self.buf, value.len() as u64);
            self.buf.extend_from_slice(value);
        }
        put_varint(&mut self.buf, value_bytes as u64);
        for part in value {
            self.buf.extend_from_slice(part);
        }
        self.last_time = log_time;
        self.frame_max_time = self.frame_max_time.max(log_time);
        self.count += 1;
        let offset = self.next_offset;
        self.next_offset += 1;
        Ok(offset)
    }

    fn frame_limit(&self) -> usize {
        self.options.frame_bytes.min(MAX_RECORD_BYTES)
    }

    /// Closes the open frame, if any, and opens one for a record of up to `most` bytes.
    #[cold]
    fn next_frame(&mut self, log_time: i64, most: usize) -> Result<(), LogError> {
        if most > MAX_RECORD_BYTES {
            return Err(LogError::RecordTooLarge {
                partition: self.partition.clone(),
                bytes: most as u64,
            });
        }
        if self.count > 0 {
            self.close_frame(true, 0);
        }
        if self.buf.len() >= self.options.buffer_bytes {
            self.write()?;
        }
        self.frame = self.buf.len();
        self.buf.resize(self.frame + FRAME_HEADER, 0);
        self.first_time = log_time;
        self.last_time = log_time;
        self.frame_max_time = log_time;
        Ok(())
    }

    /// Fills in the header of the open frame.
    fn close_frame(&mut self, more: bool, tick: u64) {
        let frame = &mut self.buf[self.frame..];
        let header = FrameHeader {
            length: frame.len() as u32,
            base_offset: self.next_offset - u64::from(self.count),
            tick,
            first_time: self.first_time,
            max_time: self.frame_max_time,
            count: self.count,
            more,
            body_crc: crc32fast::hash(&frame[FRAME_HEADER..]),
        };
        frame[..FRAME_HEADER].copy_from_slice(&header.encode());
        self.buf_max_time = self.buf_max_time.max(self.frame_max_time);
        self.closed = Some(header);
        self.count = 0;
    }

    /// Commits what was pushed since the last commit: readers see all of it from now on, and
    /// before that none of it. `tick` is the tick that is complete with it, 0 for a writer
    /// without ticks; all the records will carry it. Without anything pushed nothing is written,
    /// and the tick leaves no trace.
    ///
    /// One write, of all frames; a commit over `buffer_bytes` takes several.
    ///
    /// # Errors
    /// A tick before that of the last commit; a failed write, after which nothing of the commit
    /// can be seen and it is still held: calling this again tries again.
    pub fn commit(&mut self, tick: u64) -> Result<(), LogError> {
        if tick != 0 && tick < self.closed_tick {
            return Err(LogError::TickBackwards {
                partition: self.partition.clone(),
                tick,
                last: self.closed_tick,
            });
        }
        if self.buf.is_empty() {
            return Ok(());
        }
        if self.count > 0 {
            self.close_frame(false, tick);
        } else if let Some(header) = &mut self.closed
            && header.more
        {
            // A write that failed left no frame open which could end the commit.
            header.more = false;
            header.tick = tick;
            self.buf[self.frame..self.frame + FRAME_HEADER].copy_from_slice(&header.encode());
        }
        self.closed_tick = self.closed_tick.max(tick);
        self.write()
    }

    /// Writes all frames of the buffer; none is open.
    fn write(&mut self) -> Result<(), LogError> {
        if self.dirty {
            let cut = self.segment.file.set_len(self.end);
            cut.map_err(LogError::io("take a failed write back", &self.segment.path))?;
            self.dirty = false;
        }
        let bytes = self.buf.len() as u64;
        if !self.in_commit
            && self.end > SEGMENT_HEADER as u64
            && self.end + bytes > self.options.segment_bytes
        {
            self.roll()?;
        }
        let (file, end) = (&self.segment.file, self.end);
        crash::torn("torn-frame", &self.buf, |part| file.write_all_at(part, end));
        if let Err(source) = file.write_all_at(&self.buf, end) {
            self.dirty = self.segment.file.set_len(self.end).is_err();
            return Err(LogError::Write {
                file: self.segment.path.clone(),
                at: self.end,
                bytes,
                source,
            });
        }
        self.end += bytes;
        self.changed = true;
        self.end_offset = self.next_offset;
        self.in_commit = self.closed.take().is_some_and(|header| header.more);
        self.last_tick = self.closed_tick;
        self.max_time = self.max_time.max(self.buf_max_time);
        self.buf.clear();
        // One huge commit should not be paid for ever after.
        self.buf
            .shrink_to(self.options.buffer_bytes.saturating_mul(2));
        self.frame = 0;
        self.unflushed += bytes;
        if self.unflushed >= FLUSH_BYTES {
            self.flush();
        }
        Ok(())
    }

    /// Lets a thread sync what is written, unless one is still at it. The disk would otherwise
    /// stand idle until the segment's end and the writer then wait for all of it.
    fn flush(&mut self) {
        if self
            .flush
            .as_ref()
            .is_some_and(|thread| !thread.is_finished())
        {
            return;
        }
        self.end_flush();
        // Without a thread the segment's end takes longer, no more.
        if let Ok(file) = self.segment.file.try_clone() {
            let name = "log flush".to_owned();
            let thread = thread::Builder::new().name(name);
            self.flush = thread.spawn(move || file.sync_data()).ok();
            self.unflushed = 0;
        }
    }

    fn end_flush(&mut self) {
        if let Some(thread) = self.flush.take() {
            let met = thread
                .join()
                .unwrap_or_else(|_| Err(io::Error::other("the thread that syncs panicked")));
            self.flush_error = self.flush_error.take().or(met.err());
        }
    }

    /// Begins the next segment. The one before is durable first, so that a torn tail can only
    /// ever be in the last.
    fn roll(&mut self) -> Result<(), LogError> {
        self.sync()?;
        let header = SegmentHeader {
            base_offset: self.end_offset,
            tick: self.last_tick,
            max_time: self.max_time,
        };
        self.segment = create_segment(&self.partition, header)?;
        self.end = SEGMENT_HEADER as u64;
        self.dir_dirty = true;
        Ok(())
    }

    /// Makes everything that is committed last through a loss of power (`fdatasync`). The end of
    /// a segment and [`close`](Writer::close) do so too.
    ///
    /// # Errors
    /// What the file system says; what was written since the last sync may be lost then, and
    /// nothing tells how much: stop, and open the partition anew.
    pub fn sync(&mut self) -> Result<(), LogError> {
        self.end_flush();
        let synced = self.segment.file.sync_data();
        self.unflushed = 0;
        let synced = self.flush_error.take().map_or(synced, Err);
        synced.map_err(LogError::io("sync", &self.segment.path))?;
        if self.dir_dirty {
            sync_dir(&self.partition)?;
            if let Some(topic) = self.partition.parent() {
                sync_dir(topic)?;
            }
            self.dir_dirty = false;
        }
        Ok(())
    }

    /// What [`sync`](Writer::sync) would make durable, for another thread to do so: files and
    /// directories whose `sync_all` is still to be called. Empty if nothing was written since.
    ///
    /// # Errors
    /// What the file system says.
    pub fn unsynced(&mut self) -> Result<Vec<File>, LogError> {
        let mut files = Vec::new();
        if std::mem::take(&mut self.changed) {
            let file = self.segment.file.try_clone();
            files.push(file.map_err(LogError::io("open", &self.segment.path))?);
        }
        if std::mem::take(&mut self.dir_dirty) {
            for dir in [Some(&*self.partition), self.partition.parent()] {
                let Some(dir) = dir else { continue };
                files.push(File::open(dir).map_err(LogError::io("open", dir))?);
            }
        }
        Ok(files)
    }

    /// Gives the partition back, with everything committed durable. What was pushed and not
    /// committed is dropped.
    ///
    /// # Errors
    /// As [`sync`](Writer::sync).
    pub fn close(mut self) -> Result<(), LogError> {
        self.sync()
    }

    /// The offset that the next pushed record gets.
    #[must_use]
    pub fn next_offset(&self) -> u64 {
        self.next_offset
    }

    /// The tick of the last commit that is in the partition, 0 if none has one. It is known right
    /// after the open, for a sink that must not commit a tick twice.
    #[must_use]
    pub fn last_tick(&self) -> u64 {
        self.last_tick
    }

    /// How many bytes of a torn tail or an unfinished commit were cut at the open.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.torn
    }

    /// How many bytes wait in memory for a commit.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        self.buf.len()
    }

    /// The log's own time for the next record, in milliseconds UTC: the wall clock's, but never
    /// before a record that is there or pushed. Asks the clock: once a batch is enough.
    #[must_use]
    pub fn append_time(&self) -> i64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let wall = since.map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX));
        wall.max(self.max_time)
            .max(self.buf_max_time)
            .max(self.frame_max_time)
    }
}

/// The lock on a partition.
struct Lock(File);

impl Lock {
    fn take(dir: &Path) -> Result<Lock, LogError> {
        let path = dir.join("writer.lock");
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(LogError::io("open the writer's lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock(file)),
            Err(TryLockError::WouldBlock) => Err(LogError::Locked {
                partition: dir.to_owned(),
            }),
            Err(TryLockError::Error(e)) => Err(LogError::io("take the writer's lock", &path)(e)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing is not enough: a child process that is just being started has the file too,
        // until it runs its own program, and would hold the lock so long.
        let _ = self.0.unlock();
    }
}

fn create_segment(dir: &Path, header: SegmentHeader) -> Result<Segment, LogError> {
    let path = segment_path(dir, header.base_offset);
    let file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .map_err(LogError::io("create the segment", &path))?;
    let segment = Segment {
        base: header.base_offset,
        path,
        file,
    };
    if let Err(e) = write_header(&segment, header) {
        // The next try would find it in its way.
        let _ = fs::remove_file(&segment.path);
        return Err(e);
    }
    Ok(segment)
}

fn write_header(segment: &Segment, header: SegmentHeader) -> Result<(), LogError> {
    let written = segment.file.write_all_at(&header.encode(), 0);
    written.map_err(|source| LogError::Write {
        file: segment.path.clone(),
        at: 0,
        bytes: SEGMENT_HEADER as u64,
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Reader, end_offset};

    /// Lets every write fail, and what is done to take it back too.
    fn refuse_writes(writer: &mut Writer) -> File {
        let readable = File::open(&writer.segment.path).unwrap();
        std::mem::replace(&mut writer.segment.file, readable)
    }

    #[test]
    fn a_failed_commit_can_be_tried_again_whole() {
        let dir = tempfile::tempdir().unwrap();
        let topic = Topic::create(dir.path(), "t", 1).unwrap();
        let options = WriterOptions {
            segment_bytes: 1 << 20,
            frame_bytes: 200,
            buffer_bytes: 500,
        };
        let mut writer = Writer::open(&topic, 0, options).unwrap();
        let good = refuse_writes(&mut writer);
        let mut taken = 0;
        let error = loop {
            match writer.push(5, b"key", &[], &[1; 50]) {
                Ok(offset) => taken = offset + 1,
                Err(e) => break e,
            }
        };
        assert!(matches!(error, LogError::Write { .. }), "{error}");
        // The record that did not fit was not taken, and nothing is visible.
        assert_eq!(writer.next_offset(), taken);
        assert!(writer.commit(100).is_err());
        assert!(writer.commit(100).is_err());
        assert!(writer.dirty);
        assert_eq!(end_offset(&topic, 0).unwrap(), 0);
        assert_eq!(writer.last_tick(), 0);

        writer.segment.file = good;
        writer
            .segment
            .file
            .write_all_at(b"half a frame", writer.end)
            .unwrap();
        writer.push(5, b"key", &[], b"next").unwrap();
        writer.commit(200).unwrap();
        assert_eq!(end_offset(&topic, 0).unwrap(), taken + 1);
        let mut reader = Reader::open(&topic, 0, taken - 1).unwrap();
        assert_eq!(reader.peek().unwrap().unwrap().tick, 100);
        reader.advance();
        assert_eq!(reader.peek().unwrap().unwrap().tick, 200);
        reader.advance();
        assert!(reader.peek().unwrap().is_none());
    }

    #[test]
    fn a_record_over_the_limit_is_refused_and_nothing_else_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let topic = Topic::create(dir.path(), "t", 1).unwrap();
        let mut writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
        writer.push(5, b"", &[], b"before").unwrap();
        let large = vec![0; 1 << 20];
        let parts = vec![large.as_slice(); 257];
        let error = writer.push_parts(5, b"", &[], &parts).unwrap_err();
        assert!(
            error.to_string().ends_with("expected at most 268435456"),
            "{error}"
        );
        writer.push(5, b"", &[], b"after").unwrap();
        writer.commit(0).unwrap();
        assert_eq!(end_offset(&topic, 0).unwrap(), 2);
    }
}
