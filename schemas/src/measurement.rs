//! The measurement as Visitflow's own importers and generator write it: a plain struct for
//! `measurement.avsc`, and the bytes it has on the wire. Shops that bring a schema of their own
//! never meet it, and nothing that reads messages depends on it.

use std::sync::LazyLock;

use crate::message;
use crate::schema::Schema;

/// The text of the default schema of measurements, `schemas/measurement.avsc`.
pub const MEASUREMENT_AVSC: &str = include_str!("../measurement.avsc");

/// The default schema of measurements, parsed.
pub static MEASUREMENT: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(MEASUREMENT_AVSC).expect("measurement.avsc is a schema, as the tests hold")
});

/// One measurement of the default schema; the fields are documented in `measurement.avsc`.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)] // Documented field by field in measurement.avsc.
pub struct Measurement<'a> {
    pub event_id: [u8; 16],
    pub browser_id: &'a str,
    /// Milliseconds since 1970, UTC.
    pub event_time: i64,
    pub effect: &'a str,
    pub entity: &'a str,
    pub entity_id: Option<&'a str>,
    pub reason: Option<&'a str>,
    pub cause: Option<[u8; 16]>,
    pub url: Option<&'a str>,
    pub referrer: Option<&'a str>,
    pub customer_id: Option<&'a str>,
    pub ip: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub position: Option<i32>,
    pub quantity: Option<i32>,
    pub value: Option<i64>,
    pub variant: Option<&'a str>,
    pub attributes: &'a [(&'a str, &'a str)],
}

impl Measurement<'_> {
    /// Appends the whole message, header and body, to `out`.
    pub fn encode_message(&self, out: &mut Vec<u8>) {
        message::write_header(MEASUREMENT.fingerprint(), out);
        self.encode_body(out);
    }

    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        use crate::encode::{bytes, long, optional};
        out.extend_from_slice(&self.event_id);
        bytes(self.browser_id.as_bytes(), out);
        long(self.event_time, out);
        bytes(self.effect.as_bytes(), out);
        bytes(self.entity.as_bytes(), out);
        let text = |value: Option<&str>, out: &mut Vec<u8>| {
            optional(value, out, |v, out| bytes(v.as_bytes(), out))
        };
        text(self.entity_id, out);
        text(self.reason, out);
        optional(self.cause, out, |id, out| out.extend_from_slice(&id));
        text(self.url, out);
        text(self.referrer, out);
        text(self.customer_id, out);
        text(self.ip, out);
        text(self.user_agent, out);
        optional(self.position, out, |v, out| long(v.into(), out));
        optional(self.quantity, out, |v, out| long(v.into(), out));
        optional(self.value, out, long);
        text(self.variant, out);
        if !self.attributes.is_empty() {
            long(self.attributes.len() as i64, out);
            for (key, value) in self.attributes {
                bytes(key.as_bytes(), out);
                bytes(value.as_bytes(), out);
            }
        }
        out.push(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_encoded_is_what_apache_avro_reads() {
        let measurement = Measurement {
            event_id: [7; 16],
            browser_id: "b-1",
            event_time: 1_700_000_000_123,
            effect: "ordered",
            entity: "order",
            cause: Some([9; 16]),
            ip: Some("192.0.2.1"),
            quantity: Some(-3),
            value: Some(1 << 40),
            attributes: &[("status", "200"), ("bytes", "17")],
            ..Default::default()
        };
        let mut body = Vec::new();
        measurement.encode_body(&mut body);
        let schema = apache_avro::Schema::parse_str(MEASUREMENT_AVSC).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .unwrap();
        let value = format!("{:?}", reader.read_value(&mut &body[..]).unwrap());
        for part in [
            "\"b-1\"",
            "1700000000123",
            "\"192.0.2.1\"",
            "Int(-3)",
            "Long(1099511627776)",
            "\"17\"",
        ] {
            assert!(value.contains(part), "{part} is not in {value}");
        }
    }
}
