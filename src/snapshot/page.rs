//! Pages: rows of plain fixed-size records as bytes, by `abomonation`. For what this program has
//! written itself and a checksum has told from damage; never for what came from outside.

use abomonation::Abomonation;
use bytemuck::Pod;

/// A record as abomonation sees it.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Plain<T>(T);

// What the trait does by default, nothing, is right for a type without pointers.
impl<T: Pod> Abomonation for Plain<T> {}

/// The rows as bytes, a multiple of eight.
///
/// # Panics
/// For a type whose size is no multiple of eight, or that wants a greater alignment: then no page
/// could be read in place.
pub fn encode<T: Pod>(rows: &[T], to: &mut Vec<u8>) {
    assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8);
    to.reserve(size_of_val(rows));
    for row in rows {
        // SAFETY: `encode` writes the bytes of a `Plain<T>`, which is transparent to `T: Pod`: it has
        // no padding, so all of them are initialized, and no pointers, so none of them is one.
        let written = unsafe { abomonation::encode(&Plain(*row), to) };
        written.expect("a vector takes all bytes");
    }
}

/// The rows of a page, whose checksum was right; `None` if they do not come out even.
pub fn decode<T: Pod>(page: &mut [u64]) -> Option<Vec<T>> {
    assert!(size_of::<T>().is_multiple_of(8) && align_of::<T>() <= 8);
    let mut rest: &mut [u8] = bytemuck::cast_slice_mut(page);
    if size_of::<T>() == 0 || !rest.len().is_multiple_of(size_of::<T>()) {
        return None;
    }
    let mut rows = Vec::with_capacity(rest.len() / size_of::<T>());
    // SAFETY: `decode` casts the first `size_of::<T>()` bytes, if there are so many, to a `Plain<T>`.
    // They are aligned to eight, since the page is of `u64` and the size of a row is a multiple of
    // eight (both asserted above), and `T: Pod` accepts every pattern of bits.
    while let Some((row, next)) = unsafe { abomonation::decode::<Plain<T>>(rest) } {
        rows.push(row.0);
        rest = next;
    }
    Some(rows)
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable;

    use super::*;

    #[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
    #[repr(C)]
    struct Row {
        a: u64,
        b: [u32; 4],
    }

    fn aligned(bytes: &[u8]) -> Vec<u64> {
        bytemuck::allocation::pod_collect_to_vec(bytes)
    }

    #[test]
    fn rows_come_back_as_they_were() {
        let rows: Vec<_> = (0..1_000)
            .map(|n| Row {
                a: n << 40,
                b: [n as u32, 1, 2, u32::MAX],
            })
            .collect();
        let mut bytes = Vec::new();
        encode(&rows, &mut bytes);
        assert_eq!(bytes.len(), 24_000);
        assert_eq!(bytes, bytemuck::cast_slice::<Row, u8>(&rows));
        assert_eq!(decode::<Row>(&mut aligned(&bytes)), Some(rows));
    }

    #[test]
    fn a_page_of_a_part_of_a_row_is_none() {
        assert_eq!(decode::<Row>(&mut [1, 2, 3, 4]), None);
        assert_eq!(decode::<Row>(&mut []), Some(vec![]));
    }
}
