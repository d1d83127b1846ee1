//! The tag: what Visitflow puts in front of a measurement that belongs to a visit, and the schemas
//! of the messages that result. For those who write the outputs `tagged` and `late`, and for those
//! who read them without a schema store.
//!
//! The Avro body of a record is the concatenation of its fields' bodies. So a tagged message is a
//! tag's bytes and then the measurement's own, byte for byte as they came, under a schema derived
//! from the writer's: a record that has our fields first and then the writer's, with their JSON as
//! it was, annotations, docs, defaults and all. Nothing is decoded, no field is lost that we do
//! not know, and any Avro client reads it.
//!
//! | the body of a tagged message | bytes |
//! | --- | --- |
//! | `visit_id` | 16 |
//! | `visit_started` | a long: milliseconds since 1970 |
//! | the context: `country`, `agent`, `robot`, `browser`, `os`, `device` | see [`Context`] |
//! | the measurement's body | as it came |
//!
//! | the body of a late message | bytes |
//! | --- | --- |
//! | `late_by` | a long: milliseconds |
//! | the context | as above |
//! | the measurement's body | as it came |
//!
//! *Names.* The record of a writer's `shop.Event` is `shop.EventTagged` or `shop.EventLate`, in the
//! same namespace, so that names in it mean what they meant. A field of ours whose name the writer
//! has already is called `visitflow_` and its name (twice, where that is taken as well). A type of
//! ours whose name the writer has already has a number behind it: `visitflow.VisitId2`.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value, json};

use crate::encode;
use crate::message;
use crate::schema::{Kind, Schema, SchemaError, Type};

/// The symbols of `agent`, in the order of their indexes.
pub const AGENT_CLASSES: [&str; 3] = ["person", "robot", "unknown"];

/// What stands in front of a tagged measurement: the visit it belongs to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tag {
    /// The visit.
    pub visit_id: [u8; 16],
    /// When the first measurement of the visit was, in milliseconds since 1970.
    pub visit_started: i64,
}

/// The Avro bytes of `country`, `agent`, `robot`, `browser`, `os` and `device`, in this order: an
/// index into [`AGENT_CLASSES`] for `agent`, a union of null and string for each other.
pub type Context<'a> = &'a [u8];

impl Tag {
    /// Appends the body of a tagged message: this tag, the context and the measurement's body.
    #[inline]
    pub fn write_body(&self, context: Context, body: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.visit_id);
        encode::long(self.visit_started, out);
        out.extend_from_slice(context);
        out.extend_from_slice(body);
    }

    /// Appends the whole message; `fingerprint` is that of the [`tagged`] schema.
    #[inline]
    pub fn write_message(
        &self,
        fingerprint: u64,
        context: Context,
        body: &[u8],
        out: &mut Vec<u8>,
    ) {
        message::write_header(fingerprint, out);
        self.write_body(context, body, out);
    }
}

/// Appends the body of a late message: how many milliseconds the measurement lay before the bound,
/// the context and the measurement's body.
pub fn write_late_body(late_by: i64, context: Context, body: &[u8], out: &mut Vec<u8>) {
    encode::long(late_by, out);
    out.extend_from_slice(context);
    out.extend_from_slice(body);
}

/// Appends a whole late message; `fingerprint` is that of the [`late`] schema.
pub fn write_late_message(
    fingerprint: u64,
    late_by: i64,
    context: Context,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    message::write_header(fingerprint, out);
    write_late_body(late_by, context, body, out);
}

/// The schema of the tagged measurements of a writer's schema. An error only for a schema that
/// is itself at the limit of [`MAX_TYPES`](crate::schema::MAX_TYPES).
pub fn tagged(writer: &Schema) -> Result<Schema, SchemaError> {
    let mut names = Taken::of(writer);
    let visit_id = names.ty("VisitId");
    let mut fields = vec![
        names.field(
            "visit_id",
            json!({"type": "fixed", "name": visit_id, "namespace": "visitflow", "size": 16}),
            "pseudonymize",
            "The visit that the measurement belongs to, unless a revision says otherwise.",
        ),
        names.field(
            "visit_started",
            json!({"type": "long", "logicalType": "timestamp-millis"}),
            "generalize",
            "When the first measurement of the visit was.",
        ),
    ];
    fields.extend(context_fields(&mut names));
    derive(
        writer,
        &mut names,
        "Tagged",
        "measurements, each with the visit it belongs to",
        fields,
    )
}

/// The schema of the rows of measurements in a table: that of the [`tagged`] measurements and,
/// behind them, the day (UTC) on which the visit began, since many readers skip files by days but
/// not by times. Errors as in [`tagged`].
pub fn rows(writer: &Schema) -> Result<Schema, SchemaError> {
    let mut json = tagged(writer)?.json().clone();
    let taken = writer
        .record()
        .fields
        .iter()
        .any(|field| field.name == "visit_day");
    let day = json!({
        "name": if taken { "visitflow_visit_day" } else { "visit_day" },
        "type": {"type": "int", "logicalType": "date"},
        "privacy": "keep",
        "doc": "The day (UTC) on which the visit began.",
    });
    if let Some(fields) = json.get_mut("fields").and_then(Value::as_array_mut) {
        fields.push(day);
    }
    Schema::from_json(json)
}

/// The day (UTC) of a time in milliseconds since 1970, in days since then.
pub fn day_of(time: i64) -> i64 {
    time.div_euclid(86_400_000)
}

/// The schema of the late measurements of a writer's schema; errors as in [`tagged`].
pub fn late(writer: &Schema) -> Result<Schema, SchemaError> {
    let mut names = Taken::of(writer);
    let mut fields = vec![names.field(
        "late_by",
        json!("long"),
        "drop",
        "How far before the bound its event time lay, in milliseconds: it belongs to no visit.",
    )];
    fields.extend(context_fields(&mut names));
    derive(
        writer,
        &mut names,
        "Late",
        "measurements that came too late for any visit",
        fields,
    )
}

fn context_fields(names: &mut Taken) -> Vec<Value> {
    let agent = names.ty("AgentClass");
    let symbols = AGENT_CLASSES;
    let agent = json!({"type": "enum", "name": agent, "namespace": "visitflow", "symbols": symbols,
        "default": "unknown"});
    let mut text = |name, doc| {
        let mut field = names.field(name, json!(["null", "string"]), "keep", doc);
        field["default"] = Value::Null;
        field
    };
    let country = text(
        "country",
        "Where the IP address is: two letters by ISO 3166.",
    );
    let names_of_agent = [
        text("robot", "Which robot, if it is a known one."),
        text("browser", "The browser's name."),
        text("os", "The operating system's name."),
        text("device", "The device's name."),
    ];
    let agent = names.field(
        "agent",
        agent,
        "keep",
        "Whether a person or a robot sent it, by its User-Agent.",
    );
    [country, agent].into_iter().chain(names_of_agent).collect()
}

fn derive(
    writer: &Schema,
    names: &mut Taken,
    suffix: &str,
    what: &str,
    mut fields: Vec<Value>,
) -> Result<Schema, SchemaError> {
    let full = &writer.record().name;
    let (namespace, short) = match full.rsplit_once('.') {
        Some((namespace, short)) => (Some(namespace), short),
        None => (None, &full[..]),
    };
    let written = outermost(writer.json())
        .get("fields")
        .and_then(Value::as_array);
    fields.extend(written.into_iter().flatten().cloned());
    let mut record = Map::new();
    record.insert("type".into(), "record".into());
    let name = names.free(namespace, &format!("{short}{suffix}"));
    record.insert("name".into(), name.into());
    if let Some(namespace) = namespace {
        record.insert("namespace".into(), namespace.into());
    }
    record.insert(
        "doc".into(),
        format!("Visitflow: {what}. The fields of {full} follow ours.").into(),
    );
    record.insert("fields".into(), fields.into());
    Schema::from_json(record.into())
}

/// The outermost record's own JSON: a `"type"` may hold it in more brackets.
fn outermost(json: &Value) -> &Value {
    match json.get("type") {
        Some(inner @ Value::Object(_)) => outermost(inner),
        _ => json,
    }
}

/// The names that a writer's schema has taken.
struct Taken {
    fields: HashSet<String>,
    types: HashSet<String>,
}

impl Taken {
    fn of(writer: &Schema) -> Taken {
        let fields = writer.record().fields.iter();
        let mut types = HashSet::new();
        for field in &writer.record().fields {
            type_names(&field.ty, &mut types);
        }
        Taken {
            fields: fields.map(|f| f.name.clone()).collect(),
            types,
        }
    }

    fn field(&mut self, name: &str, ty: Value, privacy: &str, doc: &str) -> Value {
        let mut name = name.to_owned();
        while !self.fields.insert(name.clone()) {
            name.insert_str(0, "visitflow_");
        }
        json!({"name": name, "type": ty, "privacy": privacy, "doc": doc})
    }

    fn ty(&mut self, short: &str) -> String {
        self.free(Some("visitflow"), short)
    }

    /// The short name, with the least number behind it that makes the full name a new one.
    fn free(&mut self, namespace: Option<&str>, short: &str) -> String {
        let full = |short: &str| match namespace {
            Some(namespace) => format!("{namespace}.{short}"),
            None => short.to_owned(),
        };
        let numbered = (2_u32..).map(|n| format!("{short}{n}"));
        let mut names = std::iter::once(short.to_owned()).chain(numbered);
        let free = names.find(|name| self.types.insert(full(name)));
        free.unwrap_or_else(|| short.to_owned())
    }
}

fn type_names(ty: &Type, out: &mut HashSet<String>) {
    match &ty.kind {
        Kind::Fixed(fixed) => {
            out.insert(fixed.name.clone());
        }
        Kind::Enum(e) => {
            out.insert(e.name.clone());
        }
        Kind::Array(inner) | Kind::Map(inner) => type_names(inner, out),
        Kind::Union(branches) => branches.iter().for_each(|branch| type_names(branch, out)),
        // A record met before has its names in already.
        Kind::Record(record) if out.insert(record.name.clone()) => {
            let fields = record.fields.iter();
            fields.for_each(|field| type_names(&field.ty, out));
        }
        _ => {}
    }
}

/// The derived schemas of the writers' schemas met so far, by the writers' fingerprints. One map
/// look-up for a schema known; the annotations are those of the first schema of a fingerprint.
#[derive(Clone, Debug, Default)]
pub struct Derived {
    tagged: HashMap<u64, Schema>,
    late: HashMap<u64, Schema>,
}

impl Derived {
    /// As [`tagged`], from memory after the first time.
    pub fn tagged(&mut self, writer: &Schema) -> Result<&Schema, SchemaError> {
        derived(&mut self.tagged, writer, tagged)
    }

    /// As [`late`], from memory after the first time.
    pub fn late(&mut self, writer: &Schema) -> Result<&Schema, SchemaError> {
        derived(&mut self.late, writer, late)
    }
}

fn derived<'a>(
    known: &'a mut HashMap<u64, Schema>,
    writer: &Schema,
    derive: impl Fn(&Schema) -> Result<Schema, SchemaError>,
) -> Result<&'a Schema, SchemaError> {
    use std::collections::hash_map::Entry;
    match known.entry(writer.fingerprint()) {
        Entry::Occupied(entry) => Ok(entry.into_mut()),
        Entry::Vacant(entry) => Ok(entry.insert(derive(writer)?)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{MEASUREMENT, Measurement};
    use crate::role::{Privacy, Role};
    use crate::roles::{Overrides, Roles};
    use crate::walk::{Found, Walk};

    fn names(schema: &Schema) -> Vec<&str> {
        let fields = schema.record().fields.iter();
        fields.map(|f| &f.name[..]).collect()
    }

    #[test]
    fn a_tagged_measurement_is_read_as_tag_and_measurement() {
        let schema = tagged(&MEASUREMENT).unwrap();
        assert_eq!(schema.record().name, "visitflow.MeasurementTagged");
        let mut body = vec![];
        Measurement {
            browser_id: "b-1",
            event_time: 5,
            ..Default::default()
        }
        .encode_body(&mut body);
        let mut message = vec![];
        let tag = Tag {
            visit_id: [7; 16],
            visit_started: -300,
        };
        let context = b"\x02\x04DE\x02\x02\x08curl\x00\x00\x00";
        tag.write_message(schema.fingerprint(), context, &body, &mut message);

        let (fingerprint, tagged) = message::split(&message).unwrap();
        assert_eq!(fingerprint, schema.fingerprint());
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro)
            .build()
            .unwrap();
        let value = format!("{:?}", reader.read_value(&mut &tagged[..]).unwrap());
        for part in [
            "[7, 7, 7,",
            "TimestampMillis(-300)",
            "\"DE\"",
            "\"robot\"",
            "\"curl\"",
            "\"b-1\"",
        ] {
            assert!(value.contains(part), "{part} is not in {value}");
        }

        // Roles stand as before.
        let roles = Roles::find(&schema, &Overrides::default()).unwrap();
        let mut found = Found::default();
        Walk::compile(&schema, &roles, None)
            .unwrap()
            .run(tagged, &mut found)
            .unwrap();
        assert_eq!(found.text(tagged, Role::BrowserId), Some("b-1"));
        assert_eq!(found.event_time_ms(), Some(5));
    }

    #[test]
    fn a_late_measurement_says_how_late() {
        let schema = late(&MEASUREMENT).unwrap();
        assert_eq!(schema.record().name, "visitflow.MeasurementLate");
        assert_eq!(
            names(&schema)[..8],
            [
                "late_by", "country", "agent", "robot", "browser", "os", "device", "event_id"
            ]
        );
        let mut message = vec![];
        write_late_message(
            schema.fingerprint(),
            64,
            b"\x00\x04\x00\x00\x00\x00",
            b"rest",
            &mut message,
        );
        assert_eq!(message[10..], *b"\x80\x01\x00\x04\x00\x00\x00\x00rest");
    }

    #[test]
    fn every_field_of_ours_says_its_privacy_and_the_writers_stay_as_they_were() {
        for schema in [tagged(&MEASUREMENT).unwrap(), late(&MEASUREMENT).unwrap()] {
            assert!(
                schema
                    .record()
                    .fields
                    .iter()
                    .all(|f| f.privacy.is_some() && f.doc.is_some())
            );
            assert!(
                schema
                    .record()
                    .fields
                    .ends_with(&MEASUREMENT.record().fields)
            );
        }
        let tagged = tagged(&MEASUREMENT).unwrap();
        assert_eq!(
            tagged.record().fields[0].privacy,
            Some(Privacy::Pseudonymize)
        );
    }

    #[test]
    fn names_that_the_writer_has_are_left_to_it() {
        let writer = Schema::parse(
            r#"{"type":{"type":"record","name":"E","fields":[
            {"name":"visit_id","type":{"type":"fixed","name":"VisitId","namespace":"visitflow","size":4}},
            {"name":"visitflow_visit_id","type":"string"},
            {"name":"agent","type":{"type":"record","name":"ETagged","fields":[{"name":"country","type":"int"}]}},
            {"name":"again","type":"ETagged"}]}}"#,
        )
        .unwrap();
        let schema = tagged(&writer).unwrap();
        assert_eq!(
            names(&schema),
            [
                "visitflow_visitflow_visit_id",
                "visit_started",
                "country",
                "visitflow_agent",
                "robot",
                "browser",
                "os",
                "device",
                "visit_id",
                "visitflow_visit_id",
                "agent",
                "again"
            ]
        );
        assert_eq!(schema.record().name, "ETagged2");
        assert_eq!(
            schema.record().fields[0].ty.to_string(),
            "fixed(16) visitflow.VisitId2"
        );
        // What was tagged can be tagged again.
        assert!(tagged(&schema).is_ok());
    }

    #[test]
    fn a_schema_is_derived_once() {
        let mut derived = Derived::default();
        let first = derived.tagged(&MEASUREMENT).unwrap().clone();
        assert!(std::ptr::eq(
            first.record(),
            derived.tagged(&MEASUREMENT).unwrap().record()
        ));
        assert_eq!(
            derived.late(&MEASUREMENT).unwrap(),
            &late(&MEASUREMENT).unwrap()
        );
    }
}
