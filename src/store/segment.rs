//! The format of a segment, and the walk over it. A segment is a header and then blocks; a block is
//! a directory of its chunks and then their bytes, side by side:
//!
//! ```text
//! header     "visitrun", format u32, segment u64, CRC-32 of these 20 bytes
//! block      "RUNB", chunks u32, bytes u32, CRC-32 of these 12 bytes and of the directory
//! directory  for each chunk: key 2 × u64, length u32, CRC-32 of its bytes
//! bytes      of each chunk, in the order of the directory
//! ```
//!
//! Numbers are little-endian. The directory stands before the bytes, not an entry before each
//! chunk, so that a walk reads a hundredth of the segment, and neighbours are read as one.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::chunk::{Chunk, Key};
use super::error::StoreError;

/// The length of a segment's header.
pub(super) const SEGMENT_HEADER: usize = 24;
const SEGMENT_MAGIC: [u8; 8] = *b"visitrun";
const SEGMENT_FORMAT: u32 = 1;

/// The length of a block's header.
pub(super) const BLOCK_HEADER: usize = 16;
const BLOCK_MAGIC: [u8; 4] = *b"RUNB";

/// The length of a chunk's entry in the directory.
pub(super) const ENTRY: usize = 24;

/// The most chunks in a block, and the most bytes of one that has more than one chunk: what a piece
/// of copying forward has at most.
pub(super) const BLOCK_CHUNKS: usize = 16 << 10;
pub(super) const BLOCK_BYTES: usize = 4 << 20;

/// The longest chunk: it still fits into a segment of its own.
pub(super) const MAX_CHUNK: u64 = u32::MAX as u64 - (SEGMENT_HEADER + BLOCK_HEADER + ENTRY) as u64;

pub(super) fn header(segment: u64) -> [u8; SEGMENT_HEADER] {
    let mut bytes = [0; SEGMENT_HEADER];
    bytes[0..8].copy_from_slice(&SEGMENT_MAGIC);
    bytes[8..12].copy_from_slice(&SEGMENT_FORMAT.to_le_bytes());
    bytes[12..20].copy_from_slice(&segment.to_le_bytes());
    let crc = crc32fast::hash(&bytes[0..20]);
    bytes[20..24].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// The header and the directory of a block whose chunks have these keys.
pub(super) fn directory(chunks: impl ExactSizeIterator<Item = (Key, Chunk)>) -> Vec<u8> {
    let count = chunks.len();
    let mut bytes = Vec::with_capacity(BLOCK_HEADER + count * ENTRY);
    bytes.resize(BLOCK_HEADER, 0);
    let mut total = 0;
    for (key, chunk) in chunks {
        bytes.extend_from_slice(&key[0].to_le_bytes());
        bytes.extend_from_slice(&key[1].to_le_bytes());
        bytes.extend_from_slice(&chunk.length().to_le_bytes());
        bytes.extend_from_slice(&chunk.crc().to_le_bytes());
        total += chunk.length();
    }
    bytes[0..4].copy_from_slice(&BLOCK_MAGIC);
    bytes[4..8].copy_from_slice(&(count as u32).to_le_bytes());
    bytes[8..12].copy_from_slice(&total.to_le_bytes());
    let crc = block_crc(&bytes[0..12], &bytes[BLOCK_HEADER..]);
    bytes[12..16].copy_from_slice(&crc.to_le_bytes());
    bytes
}

fn block_crc(head: &[u8], directory: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(head);
    crc.update(directory);
    crc.finalize()
}

/// A segment that was opened to be walked or read.
pub(super) struct Segment {
    pub id: u64,
    pub path: PathBuf,
    pub file: File,
}

impl Segment {
    /// Opens a segment without a look at its header.
    pub fn open(dir: &Path, id: u64) -> Result<Segment, StoreError> {
        let path = dir.join(super::chunk::file_name(id));
        let file = File::open(&path).map_err(StoreError::io("open", &path))?;
        Ok(Segment { id, path, file })
    }

    /// Its length in bytes.
    pub fn length(&self) -> Result<u64, StoreError> {
        let meta = self.file.metadata();
        Ok(meta.map_err(StoreError::io("stat", &self.path))?.len())
    }

    /// Checks the header: that it is a segment, of a format that is known, and the one that its
    /// name says.
    pub fn check(&self) -> Result<(), StoreError> {
        let mut bytes = [0; SEGMENT_HEADER];
        self.read(&mut bytes, 0, "the header of a run")?;
        let damaged = |found: String| self.damaged(0, found, "the header of a run");
        if bytes[0..8] != SEGMENT_MAGIC {
            return Err(damaged(format!("the bytes {:02x?}", &bytes[0..8])));
        }
        let (crc, made) = (u32_at(&bytes, 20), crc32fast::hash(&bytes[0..20]));
        if crc != made {
            return Err(damaged(format!(
                "a header with CRC {crc:08x} whose bytes have {made:08x}"
            )));
        }
        let format = u32_at(&bytes, 8);
        if format != SEGMENT_FORMAT {
            let expected = format!("format {SEGMENT_FORMAT}");
            return Err(self.damaged(8, format!("a run of format {format}"), &expected));
        }
        let id = u64_at(&bytes, 12);
        if id != self.id {
            let found = format!("the run {}", super::chunk::file_name(id));
            return Err(self.damaged(12, found, "the run that the name says"));
        }
        Ok(())
    }

    /// The keys and places of the block that begins here, and where the next begins. Reads its
    /// directory only.
    pub fn block(&self, at: u64) -> Result<(Vec<(Key, Chunk)>, u64), StoreError> {
        let mut head = [0; BLOCK_HEADER];
        self.read(&mut head, at, "a block")?;
        let count = u32_at(&head, 4) as usize;
        if head[0..4] != BLOCK_MAGIC || count > BLOCK_CHUNKS {
            return Err(self.damaged(at, format!("the bytes {head:02x?}"), "a block"));
        }
        let mut directory = vec![0; count * ENTRY];
        let (from, length) = (at + BLOCK_HEADER as u64, self.length()?);
        if from + directory.len() as u64 > length {
            let found = format!("a block of {count} chunks in a file of {length} bytes");
            return Err(self.damaged(at, found, "a block with its directory"));
        }
        self.read(&mut directory, from, "a directory")?;
        let (crc, made) = (u32_at(&head, 12), block_crc(&head[0..12], &directory));
        if crc != made {
            let found = format!("a block with CRC {crc:08x} whose directory has {made:08x}");
            return Err(self.damaged(at, found, "a block"));
        }
        let mut place = at + (BLOCK_HEADER + directory.len()) as u64;
        let mut chunks = Vec::with_capacity(count);
        for entry in directory.chunks_exact(ENTRY) {
            let key = [u64_at(entry, 0), u64_at(entry, 8)];
            let length = u32_at(entry, 16);
            if place + u64::from(length) > u64::from(u32::MAX) {
                let found = format!("a chunk of {length} bytes at byte {place}");
                return Err(self.damaged(at, found, "a block within 4 GiB"));
            }
            let chunk = Chunk::new(self.id, place as u32, length, u32_at(entry, 20));
            chunks.push((key, chunk));
            place += u64::from(length);
        }
        Ok((chunks, place))
    }

    /// Fills `bytes` from this byte of the file on.
    pub fn read(&self, bytes: &mut [u8], at: u64, what: &str) -> Result<(), StoreError> {
        match self.file.read_exact_at(bytes, at) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                let found = match self.length() {
                    Ok(length) => format!("a file of {length} bytes"),
                    Err(_) => "the end of the file".to_owned(),
                };
                Err(self.damaged(at, found, &format!("{what}, {} bytes", bytes.len())))
            }
            read => read.map_err(StoreError::io("read", &self.path)),
        }
    }

    /// Has the disk bring these bytes into the page cache, where that can be asked for.
    pub fn ask_for(&self, at: u64, bytes: u64) {
        // It is no more than advice: what comes of it is seen by the read.
        #[cfg(target_os = "linux")]
        if let Some(bytes) = std::num::NonZeroU64::new(bytes) {
            let _ = rustix::fs::fadvise(&self.file, at, Some(bytes), rustix::fs::Advice::WillNeed);
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (at, bytes);
    }

    pub fn damaged(&self, at: u64, found: String, expected: &str) -> StoreError {
        StoreError::Damaged {
            file: self.path.clone(),
            at,
            found,
            expected: expected.to_owned(),
        }
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(word)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(word)
}
