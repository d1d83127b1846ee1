//! Reading a made message the plain way: field by field, by a list. For the judge alone, so that
//! the right answer owes nothing to the code that it is held against.

/// What a message says, as far as a visit or an order needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Said<'a> {
    pub event_id: [u8; 16],
    pub browser_id: &'a str,
    pub event_time: i64,
    pub effect: &'a str,
    pub entity: &'a str,
    pub entity_id: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub cause: Option<[u8; 16]>,
    pub customer_id: Option<&'a str>,
    pub value: Option<i64>,
}

/// The form of a field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Id,
    Text,
    Long,
    MaybeId,
    MaybeText,
    MaybeInt,
    MaybeLong,
    Texts,
}

/// The fields of the default schema, in its order.
const FIELDS: [(&str, Form); 18] = [
    ("event_id", Form::Id),
    ("browser_id", Form::Text),
    ("event_time", Form::Long),
    ("effect", Form::Text),
    ("entity", Form::Text),
    ("entity_id", Form::MaybeText),
    ("reason", Form::MaybeText),
    ("cause", Form::MaybeId),
    ("url", Form::MaybeText),
    ("referrer", Form::MaybeText),
    ("customer_id", Form::MaybeText),
    ("ip", Form::MaybeText),
    ("user_agent", Form::MaybeText),
    ("position", Form::MaybeInt),
    ("quantity", Form::MaybeInt),
    ("value", Form::MaybeLong),
    ("variant", Form::MaybeText),
    ("attributes", Form::Texts),
];

/// The fields of each of the three schemas.
pub(super) fn fields() -> [Vec<(&'static str, Form)>; 3] {
    let second = FIELDS.to_vec();
    let first = second[..16].to_vec();
    let third = [&[("experiment", Form::MaybeText)], &second[..]].concat();
    [first, second, third]
}

/// Reads a body; `None` if it is not exactly these fields.
pub(super) fn read<'a>(fields: &[(&'static str, Form)], body: &'a [u8]) -> Option<Said<'a>> {
    let mut said = Said::default();
    let mut rest = Rest(body);
    for (name, form) in fields {
        let (mut id, mut text, mut number) = (None, None, None);
        match form {
            Form::Id => id = Some(rest.id()?),
            Form::Text => text = Some(rest.text()?),
            Form::Long => number = Some(rest.long()?),
            Form::Texts => rest.texts()?,
            _ => match rest.long()? {
                0 => {}
                1 => match form {
                    Form::MaybeId => id = Some(rest.id()?),
                    Form::MaybeText => text = Some(rest.text()?),
                    Form::MaybeInt => {
                        i32::try_from(rest.long()?).ok()?;
                    }
                    _ => number = Some(rest.long()?),
                },
                _ => return None,
            },
        }
        match *name {
            "event_id" => said.event_id = id?,
            "browser_id" => said.browser_id = text?,
            "event_time" => said.event_time = number?,
            "effect" => said.effect = text?,
            "entity" => said.entity = text?,
            "entity_id" => said.entity_id = text,
            "reason" => said.reason = text,
            "cause" => said.cause = id,
            "customer_id" => said.customer_id = text,
            "value" => said.value = number,
            _ => {}
        }
    }
    rest.0.is_empty().then_some(said)
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    fn id(&mut self) -> Option<[u8; 16]> {
        self.bytes(16)?.try_into().ok()
    }

    fn long(&mut self) -> Option<i64> {
        let mut value = 0_u64;
        for place in 0..10 {
            let byte = self.bytes(1)?[0];
            if place == 9 && byte > 1 {
                return None;
            }
            value |= u64::from(byte & 127) << (7 * place);
            if byte < 128 {
                return Some((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        None
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = usize::try_from(self.long()?).ok()?;
        std::str::from_utf8(self.bytes(length)?).ok()
    }

    fn texts(&mut self) -> Option<()> {
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Some(());
            }
            if count < 0 {
                count = count.checked_neg()?;
                self.long()?;
            }
            for _ in 0..count {
                self.text()?;
                self.text()?;
            }
        }
    }
}

/// The partition of a key among `partitions`: Kafka's murmur2, made positive, over 256 shards.
pub(super) fn partition(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % 256 % partitions
}

fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * place);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^ (h >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::wire::{Version, encode};
    use visitflow_schemas::measurement::{MEASUREMENT, Measurement};

    #[test]
    fn murmur2_is_kafkas() {
        // From Kafka's own UtilsTest.testMurmur2.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    #[test]
    fn the_list_of_fields_is_that_of_the_default_schema() {
        let names: Vec<&str> = MEASUREMENT
            .record()
            .fields
            .iter()
            .map(|f| &*f.name)
            .collect();
        let listed: Vec<&str> = FIELDS.iter().map(|(name, _)| *name).collect();
        assert_eq!(names, listed);
    }

    #[test]
    fn what_was_written_is_read_and_what_is_cut_or_longer_is_not() {
        let m = Measurement {
            event_id: [3; 16],
            browser_id: "b",
            event_time: -5,
            effect: "ordered",
            entity: "order",
            entity_id: Some("o"),
            cause: Some([4; 16]),
            customer_id: Some("c"),
            position: Some(-1),
            value: Some(i64::MIN),
            attributes: &[("a", "b")],
            ..Default::default()
        };
        for (version, fields) in [Version::First, Version::Second, Version::Third]
            .into_iter()
            .zip(fields())
        {
            let mut message = Vec::new();
            encode(version, &m, "x", &mut message);
            let body = &message[10..];
            let said = read(&fields, body).unwrap();
            assert_eq!(
                (said.browser_id, said.event_time, said.value),
                ("b", -5, Some(i64::MIN))
            );
            assert_eq!((said.cause, said.customer_id), (Some([4; 16]), Some("c")));
            for cut in 0..body.len() {
                assert_eq!(read(&fields, &body[..cut]), None);
            }
            assert_eq!(read(&fields, &[body, b"\0"].concat()), None);
        }
    }
}
