//! The bytes of a frame: its header, and the records in its body. For the writer and the reader
//! of segments; the format is described in the parent module.

use std::ops::Range;

/// The length of a frame's header.
pub(super) const FRAME_HEADER: usize = 56;

/// How a frame begins. F5 and C1 never occur in UTF-8, so that no text looks like a frame.
pub(super) const FRAME_MAGIC: [u8; 4] = [0xF5, b'V', b'F', 0xC1];

/// The last offset that a frame or segment may begin with; so sums never overflow.
pub(super) const MAX_OFFSET: u64 = i64::MAX as u64;

/// The flag of a frame that does not end its commit.
const FLAG_MORE: u32 = 1;

/// A frame's header. Its own CRC covers it and it holds that of the body, so that a header that
/// reads can be trusted with the frame's length before the body was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// Of the whole frame, header included.
    pub length: u32,
    pub base_offset: u64,
    pub tick: u64,
    pub first_time: i64,
    pub max_time: i64,
    pub count: u32,
    /// Whether the commit goes on with the next frame.
    pub more: bool,
    pub body_crc: u32,
}

impl FrameHeader {
    pub fn encode(&self) -> [u8; FRAME_HEADER] {
        let mut bytes = [0; FRAME_HEADER];
        bytes[0..4].copy_from_slice(&FRAME_MAGIC);
        bytes[4..8].copy_from_slice(&self.length.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.base_offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.tick.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first_time.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.max_time.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.count.to_le_bytes());
        let flags = if self.more { FLAG_MORE } else { 0 };
        bytes[44..48].copy_from_slice(&flags.to_le_bytes());
        bytes[48..52].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[0..52]);
        bytes[52..56].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header, or says what is wrong with it.
    pub fn decode(bytes: &[u8; FRAME_HEADER]) -> Result<FrameHeader, String> {
        if bytes[0..4] != FRAME_MAGIC {
            return Err("no frame begins here".to_owned());
        }
        let crc = u32_at(bytes, 52);
        let made = crc32fast::hash(&bytes[0..52]);
        if crc != made {
            return Err(format!(
                "a frame header with CRC {crc:08x} whose bytes have {made:08x}"
            ));
        }
        let header = FrameHeader {
            length: u32_at(bytes, 4),
            base_offset: u64_at(bytes, 8),
            tick: u64_at(bytes, 16),
            first_time: u64_at(bytes, 24).cast_signed(),
            max_time: u64_at(bytes, 32).cast_signed(),
            count: u32_at(bytes, 40),
            more: u32_at(bytes, 44) & FLAG_MORE != 0,
            body_crc: u32_at(bytes, 48),
        };
        let flags = u32_at(bytes, 44);
        if flags & !FLAG_MORE != 0 {
            return Err(format!("a frame with unknown flags {flags:#x}"));
        }
        if (header.length as usize) < FRAME_HEADER || header.count == 0 {
            return Err(format!(
                "a frame of {} bytes with {} records",
                header.length, header.count
            ));
        }
        if header.base_offset > MAX_OFFSET {
            return Err(format!("a frame of offset {}", header.base_offset));
        }
        Ok(header)
    }

    /// The offset after its last record.
    pub fn end_offset(&self) -> u64 {
        self.base_offset + u64::from(self.count)
    }
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut four = [0; 4];
    four.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(four)
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut eight = [0; 8];
    eight.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(eight)
}

/// The most bytes that the number of a record's field takes.
pub(super) const MAX_VARINT: usize = 10;

/// Appends `n` in groups of 7 bits, the lowest first.
#[inline]
pub(super) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// Folds the sign into the lowest bit, so that small numbers of either sign stay short.
#[inline]
pub(super) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

#[inline]
pub(super) fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

/// Where a record's parts lie in the buffer that it was found in.
#[derive(Clone, Debug, Default)]
pub(super) struct RecordParts {
    /// The step of log time from the record before.
    pub time_delta: i64,
    pub key: Range<usize>,
    pub headers: Range<usize>,
    pub header_count: u64,
    /// Ends where the next record begins.
    pub value: Range<usize>,
}

/// Finds the record that begins at `at` and must end by the end of `buf`. Checks everything that
/// is read from it later, so that a record that is found has no surprises.
#[inline]
pub(super) fn find_record(buf: &[u8], at: usize) -> Result<RecordParts, &'static str> {
    let mut cursor = Cursor { buf, at };
    let time_delta = unzigzag(cursor.varint()?);
    let key = cursor.bytes()?;
    let header_count = cursor.varint()?;
    let headers = cursor.at;
    for _ in 0..header_count {
        let name = cursor.bytes()?;
        if std::str::from_utf8(&buf[name]).is_err() {
            return Err("a header whose name is not UTF-8");
        }
        cursor.bytes()?;
    }
    let headers = headers..cursor.at;
    let value = cursor.bytes()?;
    Ok(RecordParts {
        time_delta,
        key,
        headers,
        header_count,
        value,
    })
}

struct Cursor<'a> {
    buf: &'a [u8],
    at: usize,
}

impl Cursor<'_> {
    #[inline]
    fn varint(&mut self) -> Result<u64, &'static str> {
        let mut n = 0u64;
        let mut shift = 0;
        loop {
            let Some(&byte) = self.buf.get(self.at) else {
                return Err("a record that is cut off");
            };
            self.at += 1;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err("a number of more than 64 bits");
            }
            n |= bits << shift;
            if byte < 0x80 {
                return Ok(n);
            }
            if shift == 63 {
                return Err("a number of more than 64 bits");
            }
            shift += 7;
        }
    }

    #[inline]
    fn bytes(&mut self) -> Result<Range<usize>, &'static str> {
        let length = self.varint()?;
        let left = (self.buf.len() - self.at) as u64;
        if length > left {
            return Err("a field that is longer than the rest of its frame");
        }
        let start = self.at;
        self.at += length as usize;
        Ok(start..self.at)
    }
}

/// The headers of a record, in the order in which they were given; names may repeat.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    bytes: &'a [u8],
    left: u64,
}

impl<'a> Headers<'a> {
    /// Over bytes that [`find_record`] has checked.
    pub(super) fn new(bytes: &'a [u8], count: u64) -> Headers<'a> {
        Headers { bytes, left: count }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        let bytes = self.bytes;
        let mut cursor = Cursor { buf: bytes, at: 0 };
        let name = cursor.bytes().ok()?;
        let value = cursor.bytes().ok()?;
        self.bytes = &bytes[cursor.at..];
        Some((std::str::from_utf8(&bytes[name]).ok()?, &bytes[value]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn varint(n: u64) -> Vec<u8> {
        let mut out = Vec::new();
        put_varint(&mut out, n);
        out
    }

    proptest! {
        #[test]
        fn varints_come_back(n: u64) {
            let bytes = varint(n);
            let mut cursor = Cursor { buf: &bytes, at: 0 };
            prop_assert_eq!(cursor.varint(), Ok(n));
            prop_assert_eq!(cursor.at, bytes.len());
            prop_assert!(bytes.len() <= MAX_VARINT);
        }

        #[test]
        fn signs_come_back(n: i64) {
            prop_assert_eq!(unzigzag(zigzag(n)), n);
        }

        #[test]
        fn any_bytes_are_a_record_or_an_error(bytes: Vec<u8>, at in 0usize..8) {
            if let Ok(parts) = find_record(&bytes, at.min(bytes.len())) {
                let headers = Headers::new(&bytes[parts.headers], parts.header_count);
                prop_assert_eq!(headers.count() as u64, parts.header_count);
                prop_assert!(parts.value.end <= bytes.len());
            }
        }

        #[test]
        fn headers_come_back_and_no_changed_bit_passes(
            length in 56u32.., base_offset in 0..=MAX_OFFSET, tick: u64, first_time: i64,
            max_time: i64, count in 1u32.., more: bool, body_crc: u32, bit in 0..FRAME_HEADER * 8
        ) {
            let header = FrameHeader {
                length, base_offset, tick, first_time, max_time, count, more, body_crc,
            };
            let mut bytes = header.encode();
            prop_assert_eq!(FrameHeader::decode(&bytes), Ok(header));
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(FrameHeader::decode(&bytes).is_err());
        }
    }

    #[test]
    fn numbers_over_64_bits_are_refused() {
        for bytes in [vec![0xff; 11], [vec![0xff; 9], vec![2]].concat()] {
            let mut cursor = Cursor { buf: &bytes, at: 0 };
            assert_eq!(cursor.varint(), Err("a number of more than 64 bits"));
        }
    }
}
