//! Reading one partition, in order, from any offset: a pull interface made for a merge over many
//! partitions, and for following a writer. Every frame's CRC is checked once, records are
//! borrowed from the buffer, and nothing of a commit is seen before the whole of it.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::PathBuf;

use super::frame::{FRAME_HEADER, FrameHeader, Headers, RecordParts, find_record};
use super::segment::{
    Doubt, SEGMENT_HEADER, Segment, Step, check_header, list_segments, segment_path,
};
use super::{LogError, Topic};

/// What is read at once: two frames of the usual size.
const CHUNK: usize = 128 << 10;

/// How often damage must show before it is taken for that, since a writer may be cutting and
/// writing anew at the same time.
const PROOFS: u32 = 5;

/// A record, borrowed from its reader's buffer.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// Its place in the partition: the first record's is 0, and there are no gaps.
    pub offset: u64,
    /// When the log took it, in milliseconds UTC. May go back where an import gave it.
    pub log_time: i64,
    /// The tick of its commit, 0 if it was made without.
    pub tick: u64,
    /// The key, perhaps empty.
    pub key: &'a [u8],
    /// The value, perhaps empty.
    pub value: &'a [u8],
    headers: Headers<'a>,
}

impl<'a> Record<'a> {
    /// The headers, in their order.
    #[must_use]
    pub fn headers(&self) -> Headers<'a> {
        self.headers.clone()
    }

    /// The value of the first header of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers().find(|(n, _)| *n == name).map(|(_, v)| v)
    }
}

/// A place in a partition, from which records are pulled.
///
/// Keeps one open file and a buffer of 128 KiB, or of the largest frame met.
pub struct Reader {
    partition: PathBuf,
    /// The segments that are known to come after `segment`.
    later: VecDeque<u64>,
    /// None while the partition has no segment.
    segment: Option<Segment>,
    has_header: bool,
    /// Holds the bytes of the file from `pos` on at `start..filled`.
    buf: Vec<u8>,
    start: usize,
    filled: usize,
    pos: u64,
    /// Where the loaded frame ends; `start` if none is.
    frame_end: usize,
    /// The records of the loaded frame from `at` on.
    left: u32,
    at: usize,
    /// The offset of the next record, found or not.
    offset: u64,
    /// The log time of the record before `at`, and with one found, its own.
    time: i64,
    tick: u64,
    /// The next record, if it is found already.
    found: bool,
    parts: RecordParts,
    /// Up to where commits of several frames are known to be whole, and the tick of the last.
    whole_until: u64,
    whole_tick: u64,
    /// A torn tail that was looked through, so that each look at it does not do so again.
    torn: Option<(u64, u64)>,
}

/// What lies at a reader's place.
enum Found {
    Frame,
    End,
    Doubt(Doubt),
}

impl Reader {
    /// Opens a partition at an offset, which is between [`start_offset`] and [`end_offset`],
    /// both included. Costs a read of 56 bytes for each frame of the segment before the offset.
    ///
    /// # Errors
    /// No such partition; an offset that is not there; damage before the offset; what the file
    /// system says.
    pub fn open(topic: &Topic, partition: u32, offset: u64) -> Result<Reader, LogError> {
        let dir = topic.partition_dir(partition)?;
        let bases = list_segments(&dir)?;
        let after = bases.partition_point(|base| *base <= offset);
        let first = bases.first().copied().unwrap_or(0);
        if offset < first {
            return Err(LogError::OffsetGone {
                partition: dir,
                offset,
                earliest: first,
            });
        }
        if bases.is_empty() && offset > 0 {
            return Err(LogError::OffsetBeyond {
                partition: dir,
                offset,
                end: 0,
            });
        }
        let (segment, base) = match after.checked_sub(1) {
            None => (None, 0),
            Some(i) => (Some(Segment::open(&dir, bases[i], false)?), bases[i]),
        };
        let mut reader = Reader {
            partition: dir,
            later: bases[after..].iter().copied().collect(),
            segment,
            has_header: false,
            buf: vec![0; CHUNK],
            start: 0,
            filled: 0,
            pos: SEGMENT_HEADER as u64,
            frame_end: 0,
            left: 0,
            at: 0,
            offset: base,
            time: 0,
            tick: 0,
            found: false,
            parts: RecordParts::default(),
            whole_until: 0,
            whole_tick: 0,
            torn: None,
        };
        reader.skip_frames(offset)?;
        while reader.offset < offset {
            if !reader.find_next()? {
                return Err(LogError::OffsetBeyond {
                    offset,
                    end: reader.offset,
                    partition: reader.partition,
                });
            }
            reader.advance();
        }
        Ok(reader)
    }

    /// Goes to the frame that holds an offset, by headers alone.
    fn skip_frames(&mut self, offset: u64) -> Result<(), LogError> {
        let Some(segment) = &self.segment else {
            return Ok(());
        };
        if self.offset == offset || segment.header()?.is_err() {
            return Ok(());
        }
        let length = segment.length()?;
        while let Step::Frame(header) = segment.step(self.pos, length, self.offset)?
            && header.end_offset() <= offset
        {
            self.pos += u64::from(header.length);
            self.offset = header.end_offset();
        }
        Ok(())
    }

    /// The next record, or `None` when there is no more at the moment: a later call looks again
    /// (a few system calls; the caller paces itself). The same record until
    /// [`advance`](Reader::advance).
    ///
    /// # Errors
    /// Damage, with file and byte, and what the file system says. Asking again gives the same
    /// error again.
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, LogError> {
        if !self.found && !self.find_next()? {
            return Ok(None);
        }
        Ok(Some(Record {
            offset: self.offset,
            log_time: self.time,
            tick: self.tick,
            key: &self.buf[self.parts.key.clone()],
            value: &self.buf[self.parts.value.clone()],
            headers: Headers::new(
                &self.buf[self.parts.headers.clone()],
                self.parts.header_count,
            ),
        }))
    }

    /// Goes past the record that [`peek`](Reader::peek) returned; without one it does nothing.
    #[inline]
    pub fn advance(&mut self) {
        if self.found {
            self.found = false;
            self.at = self.parts.value.end;
            self.left -= 1;
            self.offset += 1;
        }
    }

    /// The offset of the next record.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// About how many bytes are still to be read, for a lag; what is not committed yet counts
    /// too. Costs a listing of the partition.
    ///
    /// # Errors
    /// What the file system says.
    pub fn remaining_hint(&self) -> Result<u64, LogError> {
        let mut bytes = 0;
        let read = self.pos + (self.at.saturating_sub(self.start)) as u64;
        for base in list_segments(&self.partition)? {
            if self.segment.as_ref().is_some_and(|s| base < s.base) {
                continue;
            }
            let path = segment_path(&self.partition, base);
            let metadata = fs::metadata(&path).map_err(LogError::io("stat", &path))?;
            let skip = match &self.segment {
                Some(segment) if segment.base == base => read,
                _ => SEGMENT_HEADER as u64,
            };
            bytes += metadata.len().saturating_sub(skip);
        }
        Ok(bytes)
    }

    /// Finds the next record in the loaded frame, or loads the next frame.
    #[inline]
    fn find_next(&mut self) -> Result<bool, LogError> {
        if self.left == 0 && !self.load_frame()? {
            return Ok(false);
        }
        match find_record(&self.buf[..self.frame_end], self.at) {
            Ok(parts) if self.left == 1 && parts.value.end != self.frame_end => {
                Err(self.bad_record("bytes behind the frame's last record"))
            }
            Ok(parts) => {
                self.time = self.time.wrapping_add(parts.time_delta);
                self.parts = parts;
                self.found = true;
                Ok(true)
            }
            Err(found) => Err(self.bad_record(found)),
        }
    }

    #[cold]
    fn bad_record(&self, found: &str) -> LogError {
        let at = self.pos + (self.at - self.start) as u64;
        let expected = format!("the record of offset {}", self.offset);
        match &self.segment {
            Some(segment) => segment.damaged(at, found.to_owned(), expected),
            None => LogError::Damaged {
                file: self.partition.clone(),
                at,
                found: found.to_owned(),
                expected,
            },
        }
    }

    /// Loads the next frame; false when there is none at the moment.
    #[cold]
    fn load_frame(&mut self) -> Result<bool, LogError> {
        self.pos += (self.frame_end - self.start) as u64;
        self.start = self.frame_end;
        self.at = self.start;
        let mut doubts = 0;
        loop {
            let doubt = match self.try_frame()? {
                Found::Frame => return Ok(true),
                Found::End if self.next_segment()? => {
                    doubts = 0;
                    continue;
                }
                Found::End => return Ok(false),
                Found::Doubt(doubt) => doubt,
            };
            // A writer may have cut and written anew what was read ahead, so that only fresh
            // bytes count; and it may have finished what a proof then finds something after.
            self.drop_unread();
            doubts += 1;
            if doubts == 1 {
                continue;
            }
            match self.proof(&doubt)? {
                None => return Ok(false),
                Some(_) if doubts < PROOFS => {}
                Some(damage) => return Err(damage),
            }
        }
    }

    fn drop_unread(&mut self) {
        self.filled = self.start;
    }

    /// The error that a doubt is, unless it is a torn tail.
    fn proof(&mut self, doubt: &Doubt) -> Result<Option<LogError>, LogError> {
        let Some(segment) = &self.segment else {
            return Ok(None);
        };
        let mut later = list_segments(&self.partition)?;
        later.retain(|base| *base > segment.base);
        if let Some(next) = later.first() {
            let proof = format!("the segment of offset {next} follows");
            return Ok(Some(segment.no_tail(doubt, &proof)));
        }
        let seen = (doubt.at, segment.length()?);
        if self.torn == Some(seen) {
            return Ok(None);
        }
        let proof = segment.proof(doubt, seen.1)?;
        if proof.is_none() {
            self.torn = Some(seen);
        }
        Ok(proof.map(|proof| segment.no_tail(doubt, &proof)))
    }

    /// Goes on to the segment after the one that was read to its end, if there is one.
    fn next_segment(&mut self) -> Result<bool, LogError> {
        let known = self.later.front().copied();
        if let (Some(next), Some(segment)) = (known, &self.segment)
            && next != self.offset
        {
            return Err(segment.damaged(
                self.pos,
                format!("the segment's end, and the next segment has offset {next}"),
                format!("a frame or a segment of offset {}", self.offset),
            ));
        }
        if self.segment.as_ref().is_some_and(|s| s.base == self.offset) {
            // An empty segment: the next one would have its name.
            return Ok(false);
        }
        match Segment::open(&self.partition, self.offset, false) {
            Ok(segment) => {
                self.later.pop_front();
                self.segment = Some(segment);
                self.has_header = false;
                self.pos = SEGMENT_HEADER as u64;
                (self.start, self.filled, self.frame_end, self.at) = (0, 0, 0, 0);
                self.whole_until = 0;
                self.torn = None;
                Ok(true)
            }
            Err(LogError::Io { source, .. })
                if source.kind() == io::ErrorKind::NotFound && known.is_none() =>
            {
                Ok(false)
            }
            Err(e) => Err(e),
        }
    }

    /// Looks for a frame at `pos`.
    fn try_frame(&mut self) -> Result<Found, LogError> {
        let Some(segment) = &self.segment else {
            return Ok(Found::End);
        };
        if !self.has_header {
            if let Err(doubt) = segment.header()? {
                return Ok(Found::Doubt(doubt));
            }
            self.has_header = true;
        }
        let read = self.fill(FRAME_HEADER)?;
        if read == 0 {
            return self.file_end();
        }
        if read < FRAME_HEADER {
            let doubt = Doubt::cut_header(self.pos, self.offset, read);
            return Ok(Found::Doubt(doubt));
        }
        let mut bytes = [0; FRAME_HEADER];
        bytes.copy_from_slice(&self.buf[self.start..self.start + FRAME_HEADER]);
        let header = match check_header(&bytes, self.pos, self.offset) {
            Ok(header) => header,
            Err(doubt) => return Ok(Found::Doubt(doubt)),
        };
        let tick = if header.more || self.pos < self.whole_until {
            match self.whole_commit(&header)? {
                Ok(tick) => tick,
                Err(doubt) => return Ok(Found::Doubt(doubt)),
            }
        } else {
            header.tick
        };
        let length = header.length as usize;
        let read = self.fill(length)?;
        if read < length {
            let doubt = Doubt::cut_frame(self.pos, &header, self.pos + read as u64);
            return Ok(Found::Doubt(doubt));
        }
        let body = self.start + FRAME_HEADER..self.start + length;
        if crc32fast::hash(&self.buf[body.clone()]) != header.body_crc {
            return Ok(Found::Doubt(Doubt::bad_body(self.pos, &header)));
        }
        self.at = body.start;
        self.frame_end = body.end;
        self.left = header.count;
        self.time = header.first_time;
        self.tick = tick;
        Ok(Found::Frame)
    }

    /// The end of the file, which must not lie before what was read.
    fn file_end(&self) -> Result<Found, LogError> {
        if let Some(segment) = &self.segment {
            let length = segment.length()?;
            if length < self.pos {
                return Err(segment.damaged(
                    length,
                    "the end of the file, before what was read from it already".to_owned(),
                    format!("{} bytes or more", self.pos),
                ));
            }
        }
        Ok(Found::End)
    }

    /// Looks ahead whether the commit that the frame at `pos` belongs to is whole, and which
    /// tick it has: 56 bytes are read for each of its frames, once. A commit that no frame
    /// follows is read twice, since a loss of power may have kept its headers alone, and then the
    /// next writer will cut all of it.
    fn whole_commit(&mut self, first: &FrameHeader) -> Result<Result<u64, Doubt>, LogError> {
        let Some(segment) = &self.segment else {
            return Ok(Ok(first.tick));
        };
        if self.pos < self.whole_until {
            return Ok(Ok(self.whole_tick));
        }
        let length = segment.length()?;
        let (mut at, mut offset) = (self.pos, self.offset);
        let mut frames = Vec::new();
        loop {
            match segment.step(at, length, offset)? {
                Step::Frame(header) if at == self.pos && header != *first => {
                    return Ok(Err(Doubt::open_commit(at, offset)));
                }
                Step::Frame(header) => {
                    frames.push((at, header));
                    at += u64::from(header.length);
                    offset = header.end_offset();
                    if !header.more {
                        let goes_on = matches!(segment.step(at, length, offset)?, Step::Frame(_));
                        if !goes_on && let Some((at, bad)) = segment.first_bad_body(&frames)? {
                            return Ok(Err(Doubt::bad_body(at, &bad)));
                        }
                        self.whole_until = at;
                        self.whole_tick = header.tick;
                        return Ok(Ok(header.tick));
                    }
                }
                Step::End => return Ok(Err(Doubt::open_commit(at, offset))),
                Step::Doubt(doubt) => return Ok(Err(doubt)),
            }
        }
    }

    /// Makes the buffer hold `need` bytes from `pos` on, if the file has them, and more where
    /// that costs nothing; returns how many it holds.
    fn fill(&mut self, need: usize) -> Result<usize, LogError> {
        let Some(segment) = &self.segment else {
            return Ok(0);
        };
        if self.filled - self.start >= need {
            return Ok(self.filled - self.start);
        }
        self.buf.copy_within(self.start..self.filled, 0);
        self.filled -= self.start;
        (self.start, self.frame_end, self.at) = (0, 0, 0);
        if need > self.buf.len() {
            // A length is believed only as far as there are bytes for it.
            let there = segment.length()?.saturating_sub(self.pos);
            if (need as u64) > there {
                return Ok(self.filled);
            }
            self.buf.resize(need, 0);
        }
        while self.filled < need {
            let at = self.pos + self.filled as u64;
            let read = segment.read_some(&mut self.buf[self.filled..], at)?;
            if read == 0 {
                break;
            }
            self.filled += read;
        }
        Ok(self.filled)
    }
}

/// The offset of the first record of a partition that is still there.
///
/// # Errors
/// No such partition; what the file system says.
pub fn start_offset(topic: &Topic, partition: u32) -> Result<u64, LogError> {
    let bases = list_segments(&topic.partition_dir(partition)?)?;
    Ok(bases.first().copied().unwrap_or(0))
}

/// The offset that comes after the last committed record of a partition. Reads the headers of
/// the last segment's frames, and its last commit.
///
/// # Errors
/// No such partition; damage in the headers; what the file system says.
pub fn end_offset(topic: &Topic, partition: u32) -> Result<u64, LogError> {
    let dir = topic.partition_dir(partition)?;
    match list_segments(&dir)?.last() {
        None => Ok(0),
        Some(&base) => Ok(Segment::open(&dir, base, false)?
            .walk(true, false)?
            .end_offset),
    }
}

/// The tick of the last commit of a partition, 0 if none has one. As [`end_offset`].
///
/// # Errors
/// As of [`end_offset`].
pub fn last_tick(topic: &Topic, partition: u32) -> Result<u64, LogError> {
    let dir = topic.partition_dir(partition)?;
    match list_segments(&dir)?.last() {
        None => Ok(0),
        Some(&base) => Ok(Segment::open(&dir, base, false)?.walk(true, false)?.tick),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Writer, WriterOptions};

    #[test]
    fn a_length_is_believed_only_as_far_as_the_file_goes() {
        let dir = tempfile::tempdir().unwrap();
        let topic = Topic::create(dir.path(), "t", 1).unwrap();
        let mut writer = Writer::open(&topic, 0, WriterOptions::default()).unwrap();
        writer.push(0, b"", &[], b"").unwrap();
        writer.commit(0).unwrap();
        let path = segment_path(&topic.partition_dir(0).unwrap(), 0);
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[SEGMENT_HEADER + 4..SEGMENT_HEADER + 8].copy_from_slice(&u32::MAX.to_le_bytes());
        let crc = crc32fast::hash(&bytes[SEGMENT_HEADER..SEGMENT_HEADER + 52]);
        bytes[SEGMENT_HEADER + 52..SEGMENT_HEADER + 56].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&path, bytes).unwrap();
        let mut reader = Reader::open(&topic, 0, 0).unwrap();
        assert!(reader.peek().unwrap().is_none());
        assert_eq!(reader.buf.len(), CHUNK);
    }
}
