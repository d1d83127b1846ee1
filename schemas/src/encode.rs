//! Avro's primitive forms, written: zig-zag varints, lengths before bytes, optional values.
//! For every part of Visitflow that writes a body by hand.

/// Appends a `long` or an `int`: zig-zag, seven bits a byte, least first.
#[inline]
pub fn long(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// Appends `bytes` or a `string`: its length, then itself.
#[inline]
pub fn bytes(value: &[u8], out: &mut Vec<u8>) {
    long(value.len() as i64, out);
    out.extend_from_slice(value);
}

/// Appends an array: one block of all items, if there are any, and the block of none that ends it.
pub fn array<T>(items: &[T], out: &mut Vec<u8>, write: impl Fn(&T, &mut Vec<u8>)) {
    if !items.is_empty() {
        long(items.len() as i64, out);
        items.iter().for_each(|item| write(item, out));
    }
    long(0, out);
}

/// Appends a value of the union `["null", T]`, in this order; `write` appends the `T`.
#[inline]
pub fn optional<T>(value: Option<T>, out: &mut Vec<u8>, write: impl FnOnce(T, &mut Vec<u8>)) {
    match value {
        None => out.push(0),
        Some(value) => {
            out.push(2);
            write(value, out);
        }
    }
}
