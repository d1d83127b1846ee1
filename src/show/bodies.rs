//! The bodies of messages as JSON, by the schemas of their writers and by Apache Avro's own library. What
//! cannot be read is shown as what it is: why not, and its bytes.

use std::collections::HashMap;
use std::path::PathBuf;

use apache_avro::Schema as AvroSchema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use serde_json::{Map, Value, json};
use visitflow_schemas::message;
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};

use crate::why::time;

/// Decodes messages by the schemas of some stores.
pub(super) struct Bodies {
    stores: Vec<FolderStore>,
    known: HashMap<u64, Option<(String, AvroSchema)>>,
}

impl Bodies {
    /// By the stores in these folders, as far as they are there.
    pub(super) fn of(dirs: impl IntoIterator<Item = PathBuf>) -> Result<Bodies, StoreError> {
        let there = dirs.into_iter().filter(|dir| dir.is_dir());
        Ok(Bodies {
            stores: there.map(FolderStore::open).collect::<Result<_, _>>()?,
            known: HashMap::new(),
        })
    }

    /// Adds the schema's name and the value; for what is no message, why, and the bytes.
    pub(super) fn decode(&mut self, value: &[u8], line: &mut Map<String, Value>) {
        let problem = match message::split(value) {
            Err(error) => error.to_string(),
            Ok((fingerprint, body)) => match self.schema(fingerprint) {
                None => format!("no schema of fingerprint {fingerprint:016x} is known"),
                Some((name, schema)) => {
                    line.insert("schema".into(), name.clone().into());
                    let mut rest = body;
                    let reader = GenericDatumReader::builder(schema).build();
                    match reader.and_then(|reader| reader.read_value(&mut rest)) {
                        Ok(value) => {
                            line.insert("value".into(), to_json(value));
                            return;
                        }
                        Err(error) => error.to_string(),
                    }
                }
            },
        };
        line.insert("problem".into(), problem.into());
        line.insert("bytes".into(), hex(value).into());
    }

    fn schema(&mut self, fingerprint: u64) -> Option<&(String, AvroSchema)> {
        let stores = &self.stores;
        let known = self.known.entry(fingerprint).or_insert_with(|| {
            let find = |store: &FolderStore| store.get(fingerprint).ok()?;
            let schema = stores.iter().find_map(find)?;
            let avro = AvroSchema::parse(schema.json()).ok()?;
            Some((schema.record().name.clone(), avro))
        });
        known.as_ref()
    }
}

/// Text as it is, other bytes in hexadecimal.
pub(super) fn text(bytes: &[u8]) -> Value {
    std::str::from_utf8(bytes).map_or_else(|_| hex(bytes).into(), Value::from)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An Avro value as people read it: bytes in hexadecimal, times as times.
fn to_json(value: Avro) -> Value {
    match value {
        Avro::Null => Value::Null,
        Avro::Boolean(v) => v.into(),
        Avro::Int(v) | Avro::Date(v) | Avro::TimeMillis(v) => v.into(),
        Avro::Long(v) | Avro::TimeMicros(v) => v.into(),
        Avro::Float(v) => json!(v),
        Avro::Double(v) => json!(v),
        Avro::Bytes(v) | Avro::Fixed(_, v) => hex(&v).into(),
        Avro::String(v) | Avro::Enum(_, v) => v.into(),
        Avro::Union(_, v) => to_json(*v),
        Avro::Array(items) => items.into_iter().map(to_json).collect(),
        Avro::Map(entries) => {
            let mut entries: Vec<_> = entries.into_iter().collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            entries
                .into_iter()
                .map(|(key, value)| (key, to_json(value)))
                .collect::<Map<_, _>>()
                .into()
        }
        Avro::Record(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, to_json(value)))
            .collect::<Map<_, _>>()
            .into(),
        Avro::TimestampMillis(v) | Avro::LocalTimestampMillis(v) => time(v).into(),
        Avro::TimestampMicros(v) | Avro::LocalTimestampMicros(v) => {
            time(v.div_euclid(1_000)).into()
        }
        Avro::TimestampNanos(v) | Avro::LocalTimestampNanos(v) => {
            time(v.div_euclid(1_000_000)).into()
        }
        Avro::Uuid(v) => v.to_string().into(),
        other => format!("{other:?}").into(),
    }
}
