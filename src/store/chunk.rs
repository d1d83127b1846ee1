//! Where bytes lie: the ID of a segment, and the reference to a chunk in it that owners keep, for
//! each chunk, in memory and in their snapshots.

use bytemuck::{Pod, Zeroable};

use super::StoreError;

/// A browser's key: what a chunk is of.
pub type Key = [u64; 2];

/// The bits of a segment's ID: the incarnation that made it, the worker, and which of its segments.
const INCARNATION_BITS: u32 = 24;
const WORKER_BITS: u32 = 12;
const NUMBER_BITS: u32 = 28;

/// The ID of a segment, which says its file's name. Of one worker of one incarnation, later
/// segments have greater IDs.
pub(super) fn segment_id(incarnation: u64, worker: u64, number: u64) -> Result<u64, StoreError> {
    let within = |what, value: u64, bits: u32| match value >> bits {
        0 => Ok(value),
        _ => Err(StoreError::Range {
            what,
            value,
            most: (1 << bits) - 1,
        }),
    };
    Ok(
        within("incarnation", incarnation, INCARNATION_BITS)? << (WORKER_BITS + NUMBER_BITS)
            | within("worker", worker, WORKER_BITS)? << NUMBER_BITS
            | within("segment", number, NUMBER_BITS)?,
    )
}

/// The incarnation that made a segment.
pub(super) fn incarnation(segment: u64) -> u64 {
    segment >> (WORKER_BITS + NUMBER_BITS)
}

/// The file name of a segment.
pub(super) fn file_name(segment: u64) -> String {
    let worker = segment >> NUMBER_BITS & ((1 << WORKER_BITS) - 1);
    let number = segment & ((1 << NUMBER_BITS) - 1);
    format!("{:08}-{worker:04}-{number:08}.run", incarnation(segment))
}

/// The segment that a file name says, if it is one.
pub(super) fn segment_of(file_name: &str) -> Option<u64> {
    let mut parts = file_name.strip_suffix(".run")?.split('-');
    let mut part = || parts.next()?.parse().ok();
    let segment = segment_id(part()?, part()?, part()?).ok()?;
    (self::file_name(segment) == file_name).then_some(segment)
}

/// Where a chunk lies: 20 bytes without padding, plain enough for pages of a snapshot. It holds as
/// long as the segment's file, in any process and incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Pod, Zeroable)]
#[repr(C)]
pub struct Chunk {
    /// The upper and the lower half of the segment's ID. As one `u64` there were four bytes of
    /// padding, in each of millions of references.
    segment: [u32; 2],
    offset: u32,
    length: u32,
    crc: u32,
}

impl Chunk {
    pub(super) fn new(segment: u64, offset: u32, length: u32, crc: u32) -> Chunk {
        Chunk {
            segment: [(segment >> 32) as u32, segment as u32],
            offset,
            length,
            crc,
        }
    }

    /// The segment that holds it: what a manifest names.
    pub fn segment(&self) -> u64 {
        u64::from(self.segment[0]) << 32 | u64::from(self.segment[1])
    }

    /// The byte of the segment's file where it begins.
    pub fn offset(&self) -> u32 {
        self.offset
    }

    /// Its length in bytes.
    pub fn length(&self) -> u32 {
        self.length
    }

    /// The CRC-32 of its bytes.
    pub fn crc(&self) -> u32 {
        self.crc
    }

    /// The byte behind it.
    pub(super) fn end(&self) -> u64 {
        u64::from(self.offset) + u64::from(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segments_id_says_its_files_name_and_the_name_its_id() {
        for (incarnation, worker, number, name) in [
            (0, 0, 0, "00000000-0000-00000000.run"),
            (3, 2, 1, "00000003-0002-00000001.run"),
            (
                (1 << 24) - 1,
                (1 << 12) - 1,
                (1 << 28) - 1,
                "16777215-4095-268435455.run",
            ),
        ] {
            let segment = segment_id(incarnation, worker, number).unwrap();
            assert_eq!(file_name(segment), name);
            assert_eq!(segment_of(name), Some(segment));
            assert_eq!(super::incarnation(segment), incarnation);
        }
        for name in ["", "1-2-3.run", "00000003-0002-00000001.tmp", "a-b-c.run"] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }

    #[test]
    fn what_an_id_cannot_hold_is_an_error_that_says_how_much_it_can() {
        let said = |id: Result<u64, StoreError>| id.unwrap_err().to_string();
        assert_eq!(
            said(segment_id(1 << 24, 0, 0)),
            "incarnation 16777216 is out of range: expected at most 16777215"
        );
        assert_eq!(
            said(segment_id(0, 1 << 12, 0)),
            "worker 4096 is out of range: expected at most 4095"
        );
        assert_eq!(
            said(segment_id(0, 0, 1 << 28)),
            "segment 268435456 is out of range: expected at most 268435455"
        );
    }
}
