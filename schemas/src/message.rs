//! The message: Avro's single-object encoding. Two bytes `C3 01`, the eight bytes of the writer's
//! schema's CRC-64-AVRO fingerprint, least first, and the body.
//! <https://avro.apache.org/docs/1.12.0/specification/#single-object-encoding>

use thiserror::Error;

/// Bytes before the body.
pub const HEADER: usize = 10;
/// What every message begins with.
pub const MARKER: [u8; 2] = [0xC3, 0x01];

/// Why bytes are not a message.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MessageError {
    /// Shorter than a header.
    #[error(
        "a message of {0} bytes, expected at least 10 (C3 01 and the fingerprint of its schema)"
    )]
    Short(usize),
    /// Another beginning.
    #[error(
        "a message that begins with {0:02X} {1:02X}, expected C3 01 (Avro single-object encoding)"
    )]
    Marker(u8, u8),
}

/// Appends the header of a message whose writer's schema has this fingerprint.
#[inline]
pub fn write_header(fingerprint: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&fingerprint.to_le_bytes());
}

/// The fingerprint and the body of a message.
#[inline]
pub fn split(message: &[u8]) -> Result<(u64, &[u8]), MessageError> {
    let Some((header, body)) = message.split_first_chunk::<HEADER>() else {
        return Err(MessageError::Short(message.len()));
    };
    if header[..2] != MARKER {
        return Err(MessageError::Marker(header[0], header[1]));
    }
    let mut fingerprint = [0; 8];
    fingerprint.copy_from_slice(&header[2..]);
    Ok((u64::from_le_bytes(fingerprint), body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_splits_into_what_it_was_made_of() {
        let mut message = Vec::new();
        write_header(0x0123_4567_89AB_CDEF, &mut message);
        message.extend_from_slice(b"body");
        assert_eq!(split(&message), Ok((0x0123_4567_89AB_CDEF, &b"body"[..])));
        assert_eq!(message[2], 0xEF);
    }

    #[test]
    fn other_bytes_are_told_from_a_message() {
        assert_eq!(split(b"\xC3\x01abc"), Err(MessageError::Short(5)));
        assert_eq!(
            split(b"{\"time\": 123456}"),
            Err(MessageError::Marker(b'{', b'"'))
        );
    }
}
