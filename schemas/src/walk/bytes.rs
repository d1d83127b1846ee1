//! The values of a body, one function a form: each reads at an offset that lies in the body or at
//! its end, and gives the value and the offset after it, or what is wrong. For the walk and for
//! the records of our own.

use super::Fault;

/// Whether a union of null and another type has the other one at `at`. Both indexes are one byte;
/// an index in more bytes than it needs is told from them by [`Fault::Branch`], as no writer
/// makes it.
#[inline(always)]
pub(crate) fn some(body: &[u8], at: usize, null: u8) -> Result<bool, Fault> {
    match body.get(at) {
        Some(index) if *index == null => Ok(false),
        Some(index) if *index == 2 - null => Ok(true),
        Some(_) => Err(Fault::Branch),
        None => Err(Fault::Ends),
    }
}

#[inline(always)]
pub(crate) fn fixed(body: &[u8], at: usize, len: u32) -> Result<usize, Fault> {
    if body.len() - at < len as usize {
        return Err(Fault::Ends);
    }
    Ok(at + len as usize)
}

/// An unsigned varint at `at`, and where it ends.
#[inline(always)]
fn varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    match body.get(at) {
        Some(byte) if *byte < 0x80 => Ok((u64::from(*byte), at + 1)),
        // Two bytes: the lengths of most longer strings.
        Some(byte) => match body.get(at + 1) {
            Some(next) if *next < 0x80 => {
                Ok((u64::from(*byte & 0x7F) | u64::from(*next) << 7, at + 2))
            }
            _ => long_varint(body, at),
        },
        None => Err(Fault::Ends),
    }
}

#[inline]
fn long_varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let rest = &body[at..];
    if let Some(eight) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        // The first byte without its highest bit is the last of the number.
        let last = !word & 0x8080_8080_8080_8080;
        if last != 0 {
            let end = last.trailing_zeros() + 1;
            let word = word & (u64::MAX >> (64 - end));
            // Seven bits of each byte, moved together in pairs, fours and eights.
            let word = word & 0x7F7F_7F7F_7F7F_7F7F;
            let word = (word & 0x007F_007F_007F_007F) | ((word & 0x7F00_7F00_7F00_7F00) >> 1);
            let word = (word & 0x0000_3FFF_0000_3FFF) | ((word & 0x3FFF_0000_3FFF_0000) >> 2);
            let word = (word & 0x0000_0000_0FFF_FFFF) | ((word & 0x0FFF_FFFF_0000_0000) >> 4);
            return Ok((word, at + end as usize / 8));
        }
    }
    slow_varint(body, at)
}

#[cold]
fn slow_varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let mut value = 0;
    for (i, byte) in body[at..].iter().enumerate() {
        if i == 9 && *byte > 1 {
            return Err(Fault::Number);
        }
        value |= u64::from(byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            return Ok((value, at + i + 1));
        }
    }
    Err(Fault::Ends)
}

#[inline(always)]
pub(crate) fn long(body: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let (value, end) = varint(body, at)?;
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), end))
}

#[inline(always)]
pub(super) fn int(body: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let (value, end) = varint(body, at)?;
    if value > u64::from(u32::MAX) {
        return Err(Fault::Int);
    }
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), end))
}

/// A length at `at` and as many bytes after it: where they begin and end.
#[inline(always)]
pub(crate) fn length(body: &[u8], at: usize) -> Result<(usize, usize), Fault> {
    let (start, bytes, _) = counted(body, at)?;
    Ok((start, start + bytes.len()))
}

/// As [`length`], for bytes that must be UTF-8.
#[inline(always)]
pub(super) fn text(body: &[u8], at: usize) -> Result<(usize, usize), Fault> {
    let (start, bytes, rest) = counted(body, at)?;
    if !is_ascii(bytes, rest) && !is_utf8(bytes) {
        return Err(Fault::Utf8);
    }
    Ok((start, start + bytes.len()))
}

/// A length at `at`: where what it counts begins, the bytes, and all there are from there on.
#[inline(always)]
fn counted(body: &[u8], at: usize) -> Result<(usize, &[u8], &[u8]), Fault> {
    let (value, start) = varint(body, at)?;
    let rest = body.get(start..).ok_or(Fault::Ends)?;
    // A negative length has its lowest bit set: it becomes one that is too long.
    let len = usize::try_from(value.rotate_right(1)).map_err(|_| Fault::Length)?;
    let bytes = rest.get(..len).ok_or(Fault::Length)?;
    Ok((start, bytes, rest))
}

#[inline(never)]
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Whether `bytes`, the beginning of `rest`, are all ASCII. In steps so large that the usual lengths
/// take the same way: a loop whose end cannot be foreseen costs more than some bytes read twice.
#[inline(always)]
pub(super) fn is_ascii(bytes: &[u8], rest: &[u8]) -> bool {
    let high = if let (Some(first), Some(last)) = (bytes.first_chunk::<32>(), bytes.last_chunk()) {
        let mut high = high_bits(first) | high_bits::<32>(last);
        if bytes.len() > 64 {
            for middle in bytes[32..].as_chunks::<32>().0 {
                high |= high_bits(middle);
            }
        }
        high
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let mut high = high_bits(first) | high_bits(last);
        if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            high |= high_bits(first) | high_bits(last);
        }
        high
    } else {
        // Under eight bytes: read eight and take those of the string.
        match rest.first_chunk::<8>() {
            Some(eight) => high_bits(eight) & !(u64::MAX << (8 * bytes.len() as u32)),
            None => u64::from(!bytes.is_ascii()),
        }
    };
    high == 0
}

/// Which bytes have their highest bit set, the eights of them put together.
#[inline(always)]
fn high_bits<const N: usize>(bytes: &[u8; N]) -> u64 {
    let eights = bytes.as_chunks::<8>().0.iter();
    eights.fold(0, |all, eight| all | u64::from_le_bytes(*eight)) & 0x8080_8080_8080_8080
}

/// The head of a block of an array or a map.
pub(crate) struct Block {
    pub(crate) count: u64,
    /// Where its items begin.
    pub(crate) start: usize,
    /// Where they end, if it says so.
    end: Option<usize>,
}

impl Block {
    #[inline(always)]
    pub(crate) fn ends(&self, at: usize) -> Result<(), Fault> {
        match self.end {
            Some(end) if end != at => Err(Fault::BlockSize),
            _ => Ok(()),
        }
    }
}

#[inline(always)]
pub(crate) fn block(body: &[u8], at: usize) -> Result<Block, Fault> {
    let (count, start) = long(body, at)?;
    if count < 0 {
        return sized_block(body, count, start);
    }
    Ok(Block {
        count: count as u64,
        start,
        end: None,
    })
}

#[inline(never)]
fn sized_block(body: &[u8], count: i64, at: usize) -> Result<Block, Fault> {
    let count = count.checked_neg().ok_or(Fault::Count)?;
    let (size, start) = long(body, at)?;
    if size < 0 || size as u64 > (body.len() - start) as u64 {
        return Err(Fault::BlockSize);
    }
    Ok(Block {
        count: count as u64,
        start,
        end: Some(start + size as usize),
    })
}

pub(super) fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a big-endian two's complement has at most `precision` (up to 38) digits.
pub(super) fn is_decimal(bytes: &[u8], precision: u8) -> bool {
    let Some(first) = bytes.first() else {
        return false;
    };
    let negative = *first >= 0x80;
    let sign = if negative { 0xFF } else { 0 };
    // Bytes that only repeat the sign are no digits.
    let spare = bytes.len().saturating_sub(16);
    if bytes[..spare].iter().any(|byte| *byte != sign) {
        return false;
    }
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in &bytes[spare..] {
        value = value << 8 | i128::from(*byte);
    }
    if (value < 0) != negative {
        return false;
    }
    value.unsigned_abs() < 10_u128.pow(u32::from(precision.min(38)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;

    #[test]
    fn ascii_is_told_at_every_length_and_place() {
        for len in 0..140 {
            for high in 0..len {
                let mut body = vec![b'a'; len + 2];
                assert!(is_ascii(&body[1..1 + len], &body[1..]));
                body[0] = 0xFF;
                body[len + 1] = 0xFF;
                assert!(is_ascii(&body[1..1 + len], &body[1..]), "{len}");
                body[1 + high] = 0x80;
                assert!(!is_ascii(&body[1..1 + len], &body[1..]), "{len} {high}");
            }
        }
    }

    #[test]
    fn numbers_of_every_length_are_read_with_and_without_bytes_after_them() {
        for shift in 0..64 {
            for value in [
                1_i64 << shift,
                -(1_i64 << (shift % 63)),
                (1_i64 << shift).wrapping_sub(1),
            ] {
                let mut bytes = vec![];
                encode::long(value, &mut bytes);
                let end = bytes.len();
                assert_eq!(long(&bytes, 0), Ok((value, end)));
                bytes.extend([0xFF; 10]);
                assert_eq!(long(&bytes, 0), Ok((value, end)));
            }
        }
    }
}
