//! The forms in which IDs are compared, hashed and stored, whatever their types in a schema: the
//! canonical bytes of an ID, the key of an event, the ID of a visit. For everyone who sorts,
//! shards or joins measurements, and for those outside who compute the same.
//!
//! * **Canonical bytes** of an ID: of a string, bytes or a fixed the bytes themselves; of an int
//!   or a long its decimal digits, as `-17`. Shards and keys of messages are made from these of
//!   the `browser_id`.
//! * [`EventKey`]: 16 bytes that stand for an `event_id` and sort as it does.
//! * [`visit_id`]: 16 bytes that name a visit.
//! * [`BrowserKey`]: 16 bytes that stand for a `browser_id` of any length.

use sha2::{Digest, Sha256};

use crate::role::Role;
use crate::roles::Form;
use crate::walk::Found;

/// The decimal digits of a number, without an allocation.
#[derive(Clone, Copy, Debug, Default)]
pub struct Digits([u8; 20]);

impl Digits {
    /// Writes the digits of `value` here: `-17`.
    pub fn of(&mut self, value: i64) -> &[u8] {
        let mut rest = value.unsigned_abs();
        let mut at = self.0.len();
        loop {
            at -= 1;
            self.0[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        if value < 0 {
            at -= 1;
            self.0[at] = b'-';
        }
        &self.0[at..]
    }
}

/// The canonical bytes of the ID of `role` in `body`, borrowed from it or from `digits`. `None`
/// when the body has none.
#[inline]
pub fn id<'a>(
    found: &Found,
    body: &'a [u8],
    role: Role,
    digits: &'a mut Digits,
) -> Option<&'a [u8]> {
    match found.long(role) {
        Some(value) => Some(digits.of(value)),
        None => found.bytes(body, role),
    }
}

/// Appends the canonical bytes of the ID of `role` in `body`; says whether the body has it.
#[inline]
pub fn write_id(found: &Found, body: &[u8], role: Role, out: &mut Vec<u8>) -> bool {
    let mut digits = Digits::default();
    match id(found, body, role, &mut digits) {
        Some(id) => {
            out.extend_from_slice(id);
            true
        }
        None => false,
    }
}

/// Sixteen bytes that stand for an `event_id`: equal keys are the same event, and the order of
/// keys is the order of measurements of equal event time in a visit.
///
/// | event_id | key | order |
/// | --- | --- | --- |
/// | bytes or fixed of 16 bytes | themselves | by bytes |
/// | string that is a UUID of 36 characters, hexadecimal of either case | its 16 bytes | as the texts in lower case |
/// | other strings and bytes, up to 15 bytes | themselves, zeros, in the last byte the length | by bytes, a prefix first |
/// | longer ones | the first 16 bytes of their SHA-256 | none that means anything, but always the same |
/// | int, long | eight bytes, big-endian, the sign bit flipped; seven zeros; 255 | by number |
///
/// Within one row different IDs have different keys, but for chance: two longer ones share a key
/// once in 2^128 pairs. UUID texts that differ only in case are one event. Across rows nothing
/// holds: the order of keys is not that of the IDs, and 16 raw bytes can be made that equal the
/// key of a short string or of a number. So the `event_id`s of one browser should be of one row;
/// where they are not, each measurement still has one key, everywhere and always, and no browser
/// can touch the measurements of another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey(pub [u8; 16]);

impl EventKey {
    /// The least key.
    pub const MIN: EventKey = EventKey([0; 16]);
    /// The greatest key.
    pub const MAX: EventKey = EventKey([0xFF; 16]);

    /// The key of the `event_id` of `body`; `None` when it has none.
    #[inline]
    pub fn of(found: &Found, body: &[u8]) -> Option<EventKey> {
        EventKey::of_role(found, body, Role::EventId)
    }

    /// The key of the ID of another role that names an event, such as [`Role::Cause`].
    #[inline]
    pub fn of_role(found: &Found, body: &[u8], role: Role) -> Option<EventKey> {
        match found.form(role)? {
            Form::Bytes => found.bytes(body, role).map(EventKey::of_bytes),
            Form::Text => found.bytes(body, role).map(EventKey::of_text_bytes),
            Form::Integer => found.long(role).map(EventKey::of_long),
        }
    }

    /// The key of bytes or of a fixed.
    #[inline]
    pub fn of_bytes(id: &[u8]) -> EventKey {
        match id.try_into() {
            Ok(bytes) => EventKey(bytes),
            Err(_) => EventKey::short_or_hashed(id),
        }
    }

    /// The key of a string.
    #[inline]
    pub fn of_text(id: &str) -> EventKey {
        EventKey::of_text_bytes(id.as_bytes())
    }

    /// The key of an int or a long.
    #[inline]
    pub fn of_long(id: i64) -> EventKey {
        let mut key = [0; 16];
        key[..8].copy_from_slice(&((id as u64) ^ (1 << 63)).to_be_bytes());
        key[15] = 0xFF;
        EventKey(key)
    }

    fn of_text_bytes(id: &[u8]) -> EventKey {
        match uuid(id) {
            Some(bytes) => EventKey(bytes),
            None => EventKey::short_or_hashed(id),
        }
    }

    fn short_or_hashed(id: &[u8]) -> EventKey {
        let mut key = [0; 16];
        if id.len() < key.len() {
            key[..id.len()].copy_from_slice(id);
            key[15] = id.len() as u8;
        } else {
            key.copy_from_slice(&Sha256::digest(id)[..16]);
        }
        EventKey(key)
    }
}

/// The bytes of a UUID's 36 characters.
fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let text: &[u8; 36] = text.try_into().ok()?;
    let mut bytes = [0; 16];
    let mut at = 0;
    for byte in &mut bytes {
        if matches!(at, 8 | 13 | 18 | 23) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let digit = |digit: u8| (digit as char).to_digit(16);
        *byte = (digit(text[at])? << 4 | digit(text[at + 1])?) as u8;
        at += 2;
    }
    Some(bytes)
}

/// The ID of the visit that begins with the measurement of this browser, time and event: the
/// first 16 bytes of the SHA-256 over, one after another,
///
/// 1. the number of bytes of the canonical `browser_id`, 4 bytes, least first;
/// 2. these bytes;
/// 3. the event time in milliseconds since 1970, 8 bytes, least first, two's complement;
/// 4. the 16 bytes of the measurement's [`EventKey`].
///
/// Some 0.1 to 0.4 µs; needed once a visit.
pub fn visit_id(browser_id: &[u8], event_time: i64, event: &EventKey) -> [u8; 16] {
    let mut hash = Sha256::new();
    hash.update((browser_id.len() as u32).to_le_bytes());
    hash.update(browser_id);
    hash.update(event_time.to_le_bytes());
    hash.update(event.0);
    first_16(&hash.finalize())
}

/// Sixteen bytes that stand for a `browser_id`: the first 16 bytes of the SHA-256 of its canonical
/// bytes, as two numbers, each with its least byte first. For maps keyed by browser, which then
/// need neither the text nor another hash, even against clients who choose their IDs. It is no
/// pseudonym: whoever has the ID can compute it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BrowserKey(pub [u64; 2]);

impl BrowserKey {
    /// The key of a browser by its canonical bytes.
    pub fn of(browser_id: &[u8]) -> BrowserKey {
        let bytes = u128::from_le_bytes(first_16(&Sha256::digest(browser_id)));
        BrowserKey([bytes as u64, (bytes >> 64) as u64])
    }
}

fn first_16(hash: &[u8]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash[..16]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use crate::roles::{Overrides, Roles};
    use crate::schema::Schema;
    use crate::walk::Walk;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_bytes_are_these_and_stay_these() {
        let key = EventKey::of_text("0188f5e2-7C3a-7000-8000-0123456789ab");
        assert_eq!(hex(&key.0), "0188f5e27c3a700080000123456789ab");
        assert_eq!(hex(&EventKey::of_bytes(&key.0).0), hex(&key.0));
        assert_eq!(
            hex(&EventKey::of_text("e-17").0),
            "652d3137000000000000000000000004"
        );
        assert_eq!(
            hex(&EventKey::of_long(-1).0),
            "7fffffffffffffff00000000000000ff"
        );
        // The hashes by Python's hashlib.
        assert_eq!(
            hex(&EventKey::of_text("sixteen bytes it").0),
            "9128e92356822cf235384c5253b1effe"
        );
        assert_eq!(
            hex(&visit_id(
                b"a browser",
                1_700_000_000_123,
                &EventKey::of_long(7)
            )),
            "4ac2c48d9c82bb943cd0829bd1404d0a"
        );
        assert_eq!(
            BrowserKey::of(b"a browser"),
            BrowserKey([0xf2d30871b814e814, 0x46303749a276aa34])
        );
    }

    #[test]
    fn what_is_nearly_a_uuid_is_a_text() {
        for text in [
            "0188f5e2-7c3a-7000-8000-0123456789aG",
            "0188f5e2-7c3a-7000-80000-123456789ab",
            "{0188f5e2-7c3a-7000-8000-0123456789}",
            "+188f5e2-7c3a-7000-8000-0123456789ab",
        ] {
            assert_eq!(uuid(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn ids_of_every_form_have_canonical_bytes() {
        let schema = Schema::parse(
            r#"{"type":"record","name":"R","fields":[
            {"name":"b","type":["null","long"],"role":"browser_id"},
            {"name":"e","type":{"type":"fixed","name":"F","size":3},"role":"event_id"},
            {"name":"c","type":["string","null"],"role":"cause"},
            {"name":"t","type":"long","role":"event_time"}]}"#,
        )
        .unwrap();
        let roles = Roles::find(&schema, &Overrides::default()).unwrap();
        let walk = Walk::compile(&schema, &roles, None).unwrap();
        let mut body = vec![];
        encode::optional(Some(i64::MIN), &mut body, encode::long);
        body.extend_from_slice(b"abc\x00\x02x\x00");
        let mut found = Found::default();
        walk.run(&body, &mut found).unwrap();
        let written = |role| {
            let mut out = vec![];
            write_id(&found, &body, role, &mut out).then(|| String::from_utf8(out).unwrap())
        };
        assert_eq!(
            written(Role::BrowserId).as_deref(),
            Some("-9223372036854775808")
        );
        assert_eq!(written(Role::EventId).as_deref(), Some("abc"));
        assert_eq!(written(Role::Cause).as_deref(), Some("x"));
        assert_eq!(written(Role::CustomerId), None);
        assert_eq!(
            EventKey::of(&found, &body),
            Some(EventKey::of_bytes(b"abc"))
        );
        assert_eq!(
            EventKey::of_role(&found, &body, Role::Cause),
            Some(EventKey::of_text("x"))
        );
        assert_eq!(EventKey::of_role(&found, &body, Role::Ip), None);
    }

    proptest! {
        #[test]
        fn digits_are_those_of_the_standard_library(value: i64) {
            let digits = Digits::default().of(value).to_vec();
            prop_assert_eq!(digits, value.to_string().into_bytes());
        }

        #[test]
        fn keys_sort_as_numbers_do(a: i64, b: i64) {
            prop_assert_eq!(EventKey::of_long(a).cmp(&EventKey::of_long(b)), a.cmp(&b));
        }

        #[test]
        fn keys_sort_as_short_ids_do(
            a in proptest::collection::vec(0_u8..3, 0..=15),
            b in proptest::collection::vec(0_u8..3, 0..=15),
        ) {
            prop_assert_eq!(EventKey::of_bytes(&a).cmp(&EventKey::of_bytes(&b)), a.cmp(&b));
        }

        #[test]
        fn keys_sort_as_uuids_do(a: u128, b: u128) {
            let text = |n: u128| {
                let h = format!("{n:032x}");
                format!("{}-{}-{}-{}-{}", &h[..8], &h[8..12], &h[12..16], &h[16..20], &h[20..])
            };
            prop_assert_eq!(EventKey::of_text(&text(a)).cmp(&EventKey::of_text(&text(b))), a.cmp(&b));
            prop_assert_eq!(EventKey::of_text(&text(a).to_uppercase()), EventKey::of_text(&text(a)));
        }

        #[test]
        fn long_ids_have_their_own_keys(a in "[a-z]{16,40}", b in "[a-z]{16,40}") {
            prop_assert_eq!(EventKey::of_text(&a) == EventKey::of_text(&b), a == b);
        }
    }
}
