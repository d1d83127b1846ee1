//! The three schemas that a made shop has written in, one after the other, and their bytes: the
//! first lacks `variant` and `attributes`, the second is the default schema, the third has a field
//! `experiment` of which the default schema knows nothing.

use std::sync::LazyLock;

use serde_json::{Value, json};
use visitflow_schemas::encode::{bytes, optional};
use visitflow_schemas::measurement::{MEASUREMENT_AVSC, Measurement};
use visitflow_schemas::message::write_header;
use visitflow_schemas::schema::Schema;

/// A version of the site's script, by the schema it writes in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    First,
    Second,
    Third,
}

/// The schemas in the order of their use: a file's name, and the schema.
static SCHEMAS: LazyLock<[(&str, Schema); 3]> = LazyLock::new(|| {
    let with_fields = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut json: Value = serde_json::from_str(MEASUREMENT_AVSC)
            .expect("measurement.avsc is JSON, as its crate's tests hold");
        change(json["fields"].as_array_mut().expect("a record has fields"));
        Schema::from_json(json).expect("the default schema with a field more or less is a schema")
    };
    [
        (
            "measurement-1.avsc",
            with_fields(&|fields| {
                fields.retain(|field| field["name"] != "variant" && field["name"] != "attributes");
            }),
        ),
        ("measurement-2.avsc", with_fields(&|_| ())),
        (
            "measurement-3.avsc",
            // In front, so that who counts on the places of fields is found out.
            with_fields(&|fields| {
                fields.insert(
                    0,
                    json!({
                        "name": "experiment", "type": ["null", "string"], "default": null,
                        "privacy": "keep", "doc": "The experiments that the page was part of."
                    }),
                );
            }),
        ),
    ]
});

/// The schemas that a made shop writes in, in the order of their use: a file name and the text.
pub fn schemas() -> impl Iterator<Item = (&'static str, &'static Schema)> {
    SCHEMAS.iter().map(|(name, schema)| (*name, schema))
}

/// Appends the message of `m` in this version. `experiment` is left out where there is no field
/// for it, as are `variant` and `attributes`.
pub(super) fn encode(version: Version, m: &Measurement, experiment: &str, out: &mut Vec<u8>) {
    write_header(SCHEMAS[version as usize].1.fingerprint(), out);
    match version {
        Version::First => {
            Measurement {
                variant: None,
                attributes: &[],
                ..*m
            }
            .encode_body(out);
            // The two bytes of an absent variant and an empty map, the last of the record.
            out.truncate(out.len() - 2);
        }
        Version::Second => m.encode_body(out),
        Version::Third => {
            optional(Some(experiment), out, |text, out| {
                bytes(text.as_bytes(), out)
            });
            m.encode_body(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apache_avro_reads_every_version_and_resolves_it_to_the_default_schema() {
        let m = Measurement {
            event_id: [7; 16],
            browser_id: "b-1",
            event_time: 1_700_000_000_123,
            effect: "shown",
            entity: "page",
            value: Some(17),
            variant: Some("ranking:b"),
            attributes: &[("title", "Süße Hosen")],
            ..Default::default()
        };
        let reader = apache_avro::Schema::parse_str(MEASUREMENT_AVSC).unwrap();
        for (version, (_, schema)) in [Version::First, Version::Second, Version::Third]
            .into_iter()
            .zip(schemas())
        {
            let mut message = Vec::new();
            encode(version, &m, "checkout:new", &mut message);
            assert_eq!(message[2..10], schema.fingerprint().to_le_bytes());
            let writer = apache_avro::Schema::parse(schema.json()).unwrap();
            let mut body = &message[10..];
            let value = apache_avro::reader::datum::GenericDatumReader::builder(&writer)
                .reader_schema(&reader)
                .build()
                .unwrap()
                .read_value(&mut body)
                .unwrap();
            assert!(body.is_empty());
            let text = format!("{value:?}");
            assert!(text.contains("Long(17)"), "{text}");
            assert_eq!(text.contains("ranking:b"), version != Version::First);
            assert_eq!(text.contains("Süße Hosen"), version != Version::First);
            assert!(!text.contains("checkout:new"));
        }
    }
}
