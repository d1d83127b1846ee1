//! Segment files: their names and header, the walk over their frames, and the verdict over a
//! frame that does not read: a torn tail, which is nothing, or damage, which is an error. Shared
//! by the writer and the reader, so that they can never judge differently.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::LogError;
use super::frame::{FRAME_HEADER, FRAME_MAGIC, FrameHeader, MAX_OFFSET, u32_at, u64_at};

/// The length of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 40;
const SEGMENT_MAGIC: [u8; 8] = *b"visitlog";
const SEGMENT_FORMAT: u32 = 1;

/// What is read at once where bytes are looked at and not kept.
const CHUNK: usize = 256 << 10;

/// What a segment says of itself and of the partition before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub base_offset: u64,
    /// The partition's last tick when the segment was begun.
    pub tick: u64,
    /// The greatest log time in the partition when the segment was begun.
    pub max_time: i64,
}

/// A header that does not read.
pub(super) enum BadHeader {
    /// It was never, or not wholly, written: a crash can leave that.
    Torn(String),
    /// It was written by another format, or is not a segment's at all.
    Foreign(String),
}

impl SegmentHeader {
    pub fn encode(&self) -> [u8; SEGMENT_HEADER] {
        let mut bytes = [0; SEGMENT_HEADER];
        bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
        bytes[8..12].copy_from_slice(&SEGMENT_FORMAT.to_le_bytes());
        bytes[12..20].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[20..28].copy_from_slice(&self.tick.to_le_bytes());
        bytes[28..36].copy_from_slice(&self.max_time.to_le_bytes());
        let crc = crc32fast::hash(&bytes[0..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; SEGMENT_HEADER]) -> Result<SegmentHeader, BadHeader> {
        if *bytes == [0; SEGMENT_HEADER] {
            return Err(BadHeader::Torn("a segment header of zeros".to_owned()));
        }
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(BadHeader::Foreign("no segment of a log".to_owned()));
        }
        let (crc, made) = (u32_at(bytes, 36), crc32fast::hash(&bytes[0..36]));
        if crc != made {
            return Err(BadHeader::Foreign(format!(
                "a segment header with CRC {crc:08x} whose bytes have {made:08x}"
            )));
        }
        let format = u32_at(bytes, 8);
        if format != SEGMENT_FORMAT {
            return Err(BadHeader::Foreign(format!("a segment of format {format}")));
        }
        Ok(SegmentHeader {
            base_offset: u64_at(bytes, 12),
            tick: u64_at(bytes, 20),
            max_time: u64_at(bytes, 28).cast_signed(),
        })
    }
}

/// The file name of the segment that begins with an offset.
pub(super) fn segment_path(partition: &Path, base_offset: u64) -> PathBuf {
    partition.join(format!("{base_offset:020}.seg"))
}

/// The base offsets of a partition's segments, ascending. A partition that never had a writer has
/// none.
pub(super) fn list_segments(partition: &Path) -> Result<Vec<u64>, LogError> {
    let failed = |source| LogError::Io {
        doing: "list the segments",
        path: partition.to_owned(),
        source,
    };
    let entries = match fs::read_dir(partition) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut bases = Vec::new();
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        // What ends otherwise is not ours.
        let Some(stem) = name.to_str().and_then(|n| n.strip_suffix(".seg")) else {
            continue;
        };
        let base = Some(stem)
            .filter(|s| s.len() == 20 && s.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|s| s.parse().ok())
            .filter(|base| *base <= MAX_OFFSET);
        let Some(base) = base else {
            return Err(LogError::Damaged {
                file: partition.join(&name),
                at: 0,
                found: "a segment whose name is no offset".to_owned(),
                expected: "20 digits and .seg".to_owned(),
            });
        };
        bases.push(base);
    }
    bases.sort_unstable();
    Ok(bases)
}

/// A frame, or the reason why there is none.
pub(super) enum Step {
    Frame(FrameHeader),
    /// The file ends here, cleanly.
    End,
    Doubt(Doubt),
}

/// Something that is not a whole frame. Whether it is a torn tail or damage follows from what
/// comes after it.
pub(super) struct Doubt {
    /// Where it lies in the file.
    pub at: u64,
    /// The offset whose frame was expected there.
    pub offset: u64,
    /// What was found.
    pub found: String,
    /// What would prove that this is no tail.
    pub proof: Proof,
}

/// What proves that a [`Doubt`] is damage.
pub(super) enum Proof {
    /// The doubt itself.
    Itself,
    /// A whole frame from that byte on.
    FrameFrom(u64),
    /// Nothing in this segment, for it ended there when it was looked at.
    Never,
}

impl Doubt {
    fn new(at: u64, offset: u64, proof: Proof, found: String) -> Doubt {
        Doubt {
            at,
            offset,
            found,
            proof,
        }
    }

    /// A frame header that the file's end cuts off.
    pub fn cut_header(at: u64, offset: u64, read: usize) -> Doubt {
        let found = format!("{read} of a frame header's {FRAME_HEADER} bytes");
        Doubt::new(at, offset, Proof::Never, found)
    }

    /// A frame that the file's end, at `length`, cuts off. Its header is sound, so nothing can
    /// come after it.
    pub fn cut_frame(at: u64, header: &FrameHeader, length: u64) -> Doubt {
        let there = length.saturating_sub(at);
        let found = format!("{there} of a frame's {} bytes", header.length);
        Doubt::new(at, header.base_offset, Proof::Never, found)
    }

    /// A frame whose body does not have its CRC.
    pub fn bad_body(at: u64, header: &FrameHeader) -> Doubt {
        let found = format!(
            "a frame of {} bytes whose body has not its CRC, {:08x}",
            header.length, header.body_crc
        );
        {
            let proof = Proof::FrameFrom(at + u64::from(header.length));
            Doubt::new(at, header.base_offset, proof, found)
        }
    }

    /// A file that ends inside a commit.
    pub fn open_commit(at: u64, offset: u64) -> Doubt {
        let found = "the end of the file inside a commit".to_owned();
        Doubt::new(at, offset, Proof::Never, found)
    }
}

/// How far a walk over a segment came.
pub(super) struct Walk {
    /// The length of the file.
    pub length: u64,
    /// Behind the last frame of the last whole commit, in bytes and in offsets.
    pub end: u64,
    pub end_offset: u64,
    /// The last tick and the greatest log time up to there.
    pub tick: u64,
    pub max_time: i64,
    /// Whether the header reads; without one the segment is as good as not there.
    pub has_header: bool,
}

/// An open segment.
pub(super) struct Segment {
    pub base: u64,
    pub path: PathBuf,
    pub file: File,
}

impl Segment {
    pub fn open(partition: &Path, base: u64, writable: bool) -> Result<Segment, LogError> {
        let path = segment_path(partition, base);
        let file = File::options()
            .read(true)
            .write(writable)
            .open(&path)
            .map_err(LogError::io("open the segment", &path))?;
        Ok(Segment { base, path, file })
    }

    pub fn length(&self) -> Result<u64, LogError> {
        let metadata = self.file.metadata();
        Ok(metadata.map_err(LogError::io("stat", &self.path))?.len())
    }

    /// Reads at `at` until `buf` is full or the file ends; returns how much was read.
    pub fn read_at(&self, buf: &mut [u8], at: u64) -> Result<usize, LogError> {
        let mut read = 0;
        while read < buf.len() {
            match self.read_some(&mut buf[read..], at + read as u64)? {
                0 => break,
                n => read += n,
            }
        }
        Ok(read)
    }

    /// Reads at `at` what one call gives; 0 at the end of the file.
    pub fn read_some(&self, buf: &mut [u8], at: u64) -> Result<usize, LogError> {
        loop {
            match self.file.read_at(buf, at) {
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                other => return other.map_err(LogError::io("read", &self.path)),
            }
        }
    }

    /// Reads the segment's header.
    pub fn header(&self) -> Result<Result<SegmentHeader, Doubt>, LogError> {
        let mut bytes = [0; SEGMENT_HEADER];
        let read = self.read_at(&mut bytes, 0)?;
        if read < SEGMENT_HEADER {
            let found = format!("{read} of a segment header's {SEGMENT_HEADER} bytes");
            return Ok(Err(Doubt::new(0, self.base, Proof::Never, found)));
        }
        match SegmentHeader::decode(&bytes) {
            Ok(header) if header.base_offset == self.base => Ok(Ok(header)),
            Ok(header) => Err(self.damaged(
                0,
                format!("the segment of offset {}", header.base_offset),
                format!("the segment of offset {}, as its name says", self.base),
            )),
            Err(BadHeader::Torn(found)) => {
                let proof = Proof::FrameFrom(SEGMENT_HEADER as u64);
                Ok(Err(Doubt::new(0, self.base, proof, found)))
            }
            Err(BadHeader::Foreign(found)) => Err(self.damaged(
                0,
                found,
                format!("the header of a segment of format {SEGMENT_FORMAT}"),
            )),
        }
    }

    /// Reads the header of the frame at `at`, in a file of `length` bytes.
    pub fn step(&self, at: u64, length: u64, offset: u64) -> Result<Step, LogError> {
        let mut bytes = [0; FRAME_HEADER];
        let read = self.read_at(&mut bytes, at)?;
        if read == 0 {
            return Ok(Step::End);
        }
        if read < FRAME_HEADER {
            return Ok(Step::Doubt(Doubt::cut_header(at, offset, read)));
        }
        Ok(match check_header(&bytes, at, offset) {
            Ok(header) if at + u64::from(header.length) > length => {
                Step::Doubt(Doubt::cut_frame(at, &header, length))
            }
            Ok(header) => Step::Frame(header),
            Err(doubt) => Step::Doubt(doubt),
        })
    }

    /// Whether a frame's body has the CRC that its header says.
    fn body_is_whole(
        &self,
        at: u64,
        header: &FrameHeader,
        chunk: &mut [u8],
    ) -> Result<bool, LogError> {
        let mut crc = crc32fast::Hasher::new();
        let mut at = at + FRAME_HEADER as u64;
        let mut left = header.length as usize - FRAME_HEADER;
        while left > 0 {
            let part = left.min(chunk.len());
            let read = self.read_at(&mut chunk[..part], at)?;
            crc.update(&chunk[..read]);
            if read < part {
                return Ok(false);
            }
            at += part as u64;
            left -= part;
        }
        Ok(crc.finalize() == header.body_crc)
    }

    /// The first of some frames whose body has not its CRC.
    pub fn first_bad_body(
        &self,
        frames: &[(u64, FrameHeader)],
    ) -> Result<Option<(u64, FrameHeader)>, LogError> {
        let mut chunk = vec![0; CHUNK];
        for &(at, header) in frames {
            if !self.body_is_whole(at, &header, &mut chunk)? {
                return Ok(Some((at, header)));
            }
        }
        Ok(None)
    }

    /// Walks over all frames, by their headers, with `bodies` over all their bytes too (about
    /// 0.4 ms a MiB), else over those of the last commit. A torn tail ends the walk.
    pub fn walk(&self, is_last: bool, bodies: bool) -> Result<Walk, LogError> {
        let length = self.length()?;
        let mut walk = Walk {
            length,
            end: SEGMENT_HEADER as u64,
            end_offset: self.base,
            tick: 0,
            max_time: i64::MIN,
            has_header: false,
        };
        match self.header()? {
            Ok(header) => {
                walk.tick = header.tick;
                walk.max_time = header.max_time;
                walk.has_header = true;
            }
            Err(doubt) => {
                self.judge(&doubt, is_last, length)?;
                walk.end = 0;
                return Ok(walk);
            }
        }
        let mut chunk = vec![0; if bodies { CHUNK } else { 0 }];
        let (mut at, mut offset, mut max_time) = (walk.end, walk.end_offset, walk.max_time);
        let (mut commit, mut last_commit) = (Vec::new(), Vec::new());
        let doubt = loop {
            match self.step(at, length, offset)? {
                Step::Frame(header) => {
                    if bodies && !self.body_is_whole(at, &header, &mut chunk)? {
                        break Some(Doubt::bad_body(at, &header));
                    }
                    commit.push((at, header));
                    at += u64::from(header.length);
                    offset = header.end_offset();
                    max_time = max_time.max(header.max_time);
                    if !header.more {
                        walk.end = at;
                        walk.end_offset = offset;
                        walk.tick = walk.tick.max(header.tick);
                        walk.max_time = max_time;
                        std::mem::swap(&mut commit, &mut last_commit);
                        commit.clear();
                    }
                }
                Step::End if at == walk.end => break None,
                Step::End => break Some(Doubt::open_commit(at, offset)),
                Step::Doubt(doubt) => break Some(doubt),
            }
        };
        if let Some(doubt) = doubt {
            self.judge(&doubt, is_last, length)?;
        }
        if !bodies && is_last && self.first_bad_body(&last_commit)?.is_some() {
            // A loss of power may have kept headers alone.
            return self.walk(is_last, true);
        }
        Ok(walk)
    }

    /// Decides over a doubt: a torn tail is fine, damage is an error.
    fn judge(&self, doubt: &Doubt, is_last: bool, length: u64) -> Result<(), LogError> {
        let proof = if is_last {
            self.proof(doubt, length)?
        } else {
            Some("a later segment follows".to_owned())
        };
        match proof {
            Some(proof) => Err(self.no_tail(doubt, &proof)),
            None => Ok(()),
        }
    }

    /// What proves, within the first `length` bytes of the last segment, that a doubt is no torn
    /// tail.
    pub fn proof(&self, doubt: &Doubt, length: u64) -> Result<Option<String>, LogError> {
        Ok(match doubt.proof {
            Proof::Itself => Some("it is sound".to_owned()),
            Proof::FrameFrom(from) => self
                .frame_after(from, length, doubt.offset)?
                .map(|at| format!("a whole frame follows at byte {at}")),
            Proof::Never => None,
        })
    }

    /// The error for a doubt that is proved to be no torn tail.
    pub fn no_tail(&self, doubt: &Doubt, proof: &str) -> LogError {
        self.damaged(
            doubt.at,
            format!("{}, and {proof}", doubt.found),
            format!("a whole frame of offset {}", doubt.offset),
        )
    }

    pub fn damaged(&self, at: u64, found: String, expected: String) -> LogError {
        LogError::Damaged {
            file: self.path.clone(),
            at,
            found,
            expected,
        }
    }

    /// The first whole frame from `from` to `length`, of an offset not under `offset`. Reads no more
    /// than a few times what is left of the file: hostile bytes which look like very many large
    /// frames are taken for frames then, since that leads to an error and never to a cut.
    fn frame_after(&self, from: u64, length: u64, offset: u64) -> Result<Option<u64>, LogError> {
        let mut budget = length.saturating_sub(from).saturating_mul(4);
        let mut window = vec![0; CHUNK.min(length.saturating_sub(from) as usize)];
        let mut chunk = Vec::new();
        let mut at = from;
        while at + FRAME_HEADER as u64 <= length {
            let read = self.read_at(&mut window, at)?;
            if read < FRAME_HEADER {
                break;
            }
            let starts = read - FRAME_HEADER + 1;
            for start in 0..starts {
                if window[start] != FRAME_MAGIC[0] {
                    continue;
                }
                let mut bytes = [0; FRAME_HEADER];
                bytes.copy_from_slice(&window[start..start + FRAME_HEADER]);
                let Ok(header) = FrameHeader::decode(&bytes) else {
                    continue;
                };
                let found = at + start as u64;
                if header.base_offset < offset || found + u64::from(header.length) > length {
                    continue;
                }
                if budget < header.length.into() {
                    return Ok(Some(found));
                }
                budget -= u64::from(header.length);
                chunk.resize(CHUNK, 0);
                if self.body_is_whole(found, &header, &mut chunk)? {
                    return Ok(Some(found));
                }
            }
            at += starts as u64;
        }
        Ok(None)
    }
}

/// Reads a frame's header that must be of `offset`.
pub(super) fn check_header(
    bytes: &[u8; FRAME_HEADER],
    at: u64,
    offset: u64,
) -> Result<FrameHeader, Doubt> {
    let header = FrameHeader::decode(bytes)
        .map_err(|found| Doubt::new(at, offset, Proof::FrameFrom(at + 1), found))?;
    if header.base_offset != offset {
        // No crash writes a sound header in the wrong place.
        let found = format!("a frame of offset {}", header.base_offset);
        return Err(Doubt::new(at, offset, Proof::Itself, found));
    }
    Ok(header)
}
