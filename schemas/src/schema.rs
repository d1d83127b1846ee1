//! A schema: Avro's JSON turned into a tree with full names, logical types and, on each field, its
//! role and privacy annotations; with its canonical form and fingerprint. Everything that compiles
//! programs over bodies (walks, columns, transcoding) starts from this tree.
//!
//! The JSON is checked by `apache-avro` first, so that a schema which others would refuse is
//! refused here, too. The tree is our own since that crate drops aliases and hashes logical types
//! differently from Java, fastavro and arrow. Schemas that contain themselves are refused: a
//! measurement is a tree of bounded depth, and its columns must be countable.

use std::collections::{HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::role::{Privacy, Role};

/// How deep a schema may nest. Avro's own limit is the stack; ours is far below it.
pub const MAX_DEPTH: usize = 64;
/// How many types a schema may have, counted at each use: a type that is used twice counts twice,
/// as it does in every program that is compiled from the schema.
pub const MAX_TYPES: u64 = 1 << 16;

/// Why text is not a schema that Visitflow takes.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SchemaError {
    /// Not JSON.
    #[error("not JSON: {0}")]
    Json(String),
    /// Not an Avro schema.
    #[error("not an Avro schema: {0}")]
    Avro(String),
    /// The outermost type is no record.
    #[error("the schema's outermost type is {0}, expected a record")]
    NotARecord(String),
    /// The schema contains itself.
    #[error("at {path}: the type {name} contains itself, expected a schema of bounded depth")]
    Recursive {
        /// Where it comes again.
        path: String,
        /// The name of the type.
        name: String,
    },
    /// Too deep.
    #[error("at {path}: nested deeper than {MAX_DEPTH} levels")]
    TooDeep {
        /// Where.
        path: String,
    },
    /// An annotation that means nothing.
    #[error("at {path}: {key} is {found:?}, expected one of {expected}")]
    Annotation {
        /// The field.
        path: String,
        /// `role` or `privacy`.
        key: &'static str,
        /// What stands there.
        found: String,
        /// What may.
        expected: String,
    },
    /// Anything else that is wrong at one place.
    #[error("at {path}: {found}, expected {expected}")]
    Wrong {
        /// The place.
        path: String,
        /// What stands there.
        found: String,
        /// What may.
        expected: &'static str,
    },
}

/// A logical type: what a primitive stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Avro's own names.
pub enum Logical {
    Date,
    TimeMillis,
    TimeMicros,
    TimestampMillis,
    TimestampMicros,
    TimestampNanos,
    LocalTimestampMillis,
    LocalTimestampMicros,
    LocalTimestampNanos,
    /// Unscaled two's complement, big-endian, in bytes or fixed.
    Decimal {
        precision: u8,
        scale: i8,
    },
    Uuid,
    /// Months, days and milliseconds, in a fixed of 12.
    Duration,
}

/// A type: what kind of value, and what it stands for.
#[derive(Clone, Debug, PartialEq)]
pub struct Type {
    /// The form on the wire.
    pub kind: Kind,
    /// What it stands for; unknown or ill-formed logical types are ignored, as Avro demands.
    pub logical: Option<Logical>,
}

/// The form of a value on the wire.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)] // Avro's own names.
pub enum Kind {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
    Fixed(Arc<Fixed>),
    Enum(Arc<Enum>),
    Array(Arc<Type>),
    Map(Arc<Type>),
    Union(Arc<[Type]>),
    Record(Arc<Record>),
}

/// A fixed: `size` bytes.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Fixed {
    pub name: String,
    pub aliases: Vec<String>,
    pub size: usize,
}

/// An enum: an index into its symbols.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Enum {
    pub name: String,
    pub aliases: Vec<String>,
    pub symbols: Vec<String>,
    /// The symbol a reader takes for one that it does not know.
    pub default: Option<String>,
}

/// A record: its fields' bodies, one after another.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Record {
    /// The full name, with its namespace.
    pub name: String,
    /// Full names.
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub doc: Option<String>,
    pub ty: Type,
    /// The default as the schema has it, in JSON.
    pub default: Option<Value>,
    /// What the field is to Visitflow, if its schema says so.
    pub role: Option<Role>,
    /// What becomes of the field in the anonymized twin, if its schema says so.
    pub privacy: Option<Privacy>,
}

/// A whole schema. Cheap to clone.
#[derive(Clone, PartialEq)]
pub struct Schema(Arc<Inner>);

#[derive(PartialEq)]
struct Inner {
    json: Value,
    record: Arc<Record>,
    canonical: String,
    fingerprint: u64,
    other_fingerprints: Vec<u64>,
}

impl Schema {
    /// Reads a schema from its JSON text.
    pub fn parse(text: &str) -> Result<Schema, SchemaError> {
        let json = serde_json::from_str(text).map_err(|e| SchemaError::Json(e.to_string()))?;
        Schema::from_json(json)
    }

    /// Reads a schema from JSON.
    pub fn from_json(json: Value) -> Result<Schema, SchemaError> {
        // Ours first: it bounds depth and recursion before anyone else recurses.
        let mut names = Names::default();
        let ty = names.ty(&json, "", &mut Path::default())?;
        let types = count(&ty, &mut HashMap::new());
        if types > MAX_TYPES {
            return Err(wrong(
                &Path::default(),
                &format!("{types} types, a type counted at each use"),
                "at most 65536 (2^16)",
            ));
        }
        let avro =
            apache_avro::Schema::parse(&json).map_err(|e| SchemaError::Avro(e.to_string()))?;
        let Kind::Record(record) = ty.kind else {
            return Err(SchemaError::NotARecord(ty.to_string()));
        };
        let canonical = canonical(&record);
        let fingerprint = fingerprint(canonical.as_bytes());
        // A second opinion on the fingerprint, by which a message may name the same schema.
        let sound = serde_json::to_value(&avro).is_ok_and(|json| has_canonical_form(&json));
        let other = sound.then(|| avro.fingerprint::<apache_avro::rabin::Rabin>().bytes);
        let other = other.and_then(|bytes| bytes.try_into().ok());
        let other = other.map_or(fingerprint, u64::from_le_bytes);
        let other_fingerprints = if other == fingerprint {
            vec![]
        } else {
            vec![other]
        };
        Ok(Schema(Arc::new(Inner {
            json,
            record,
            canonical,
            fingerprint,
            other_fingerprints,
        })))
    }

    /// The outermost record.
    pub fn record(&self) -> &Arc<Record> {
        &self.0.record
    }

    /// The schema's JSON, as it was given.
    pub fn json(&self) -> &Value {
        &self.0.json
    }

    /// The Parsing Canonical Form.
    pub fn canonical(&self) -> &str {
        &self.0.canonical
    }

    /// The CRC-64-AVRO fingerprint of the canonical form: the schema's name in every message.
    pub fn fingerprint(&self) -> u64 {
        self.0.fingerprint
    }

    /// Fingerprints that other libraries compute for the same schema (apache-avro and Python's
    /// avro keep the object around a logical type in the canonical form).
    pub fn other_fingerprints(&self) -> &[u64] {
        &self.0.other_fingerprints
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Schema({} {:016x})",
            self.0.record.name, self.0.fingerprint
        )
    }
}

impl fmt::Display for Type {
    /// A word or two, for messages: `string`, `union of null and long`, `record shop.Order`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Null => f.write_str("null")?,
            Kind::Boolean => f.write_str("boolean")?,
            Kind::Int => f.write_str("int")?,
            Kind::Long => f.write_str("long")?,
            Kind::Float => f.write_str("float")?,
            Kind::Double => f.write_str("double")?,
            Kind::Bytes => f.write_str("bytes")?,
            Kind::String => f.write_str("string")?,
            Kind::Fixed(fixed) => write!(f, "fixed({}) {}", fixed.size, fixed.name)?,
            Kind::Enum(e) => write!(f, "enum {}", e.name)?,
            Kind::Array(item) => write!(f, "array of {item}")?,
            Kind::Map(value) => write!(f, "map of {value}")?,
            Kind::Union(branches) => {
                f.write_str("union of ")?;
                for (i, branch) in branches.iter().enumerate() {
                    let sep = if i == 0 {
                        ""
                    } else if i + 1 == branches.len() {
                        " and "
                    } else {
                        ", "
                    };
                    write!(f, "{sep}{branch}")?;
                }
            }
            Kind::Record(record) => write!(f, "record {}", record.name)?,
        }
        match self.logical {
            Some(Logical::Decimal { precision, scale }) => {
                write!(f, " (decimal({precision}, {scale}))")
            }
            Some(logical) => write!(f, " ({})", logical.name()),
            None => Ok(()),
        }
    }
}

impl Logical {
    /// Avro's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Logical::Date => "date",
            Logical::TimeMillis => "time-millis",
            Logical::TimeMicros => "time-micros",
            Logical::TimestampMillis => "timestamp-millis",
            Logical::TimestampMicros => "timestamp-micros",
            Logical::TimestampNanos => "timestamp-nanos",
            Logical::LocalTimestampMillis => "local-timestamp-millis",
            Logical::LocalTimestampMicros => "local-timestamp-micros",
            Logical::LocalTimestampNanos => "local-timestamp-nanos",
            Logical::Decimal { .. } => "decimal",
            Logical::Uuid => "uuid",
            Logical::Duration => "duration",
        }
    }

    /// The logical type that `json` names for values of this kind; others mean nothing.
    fn of(json: &serde_json::Map<String, Value>, kind: &Kind) -> Option<Logical> {
        let logical = match (json.get("logicalType")?.as_str()?, kind) {
            ("date", Kind::Int) => Logical::Date,
            ("time-millis", Kind::Int) => Logical::TimeMillis,
            ("time-micros", Kind::Long) => Logical::TimeMicros,
            ("timestamp-millis", Kind::Long) => Logical::TimestampMillis,
            ("timestamp-micros", Kind::Long) => Logical::TimestampMicros,
            ("timestamp-nanos", Kind::Long) => Logical::TimestampNanos,
            ("local-timestamp-millis", Kind::Long) => Logical::LocalTimestampMillis,
            ("local-timestamp-micros", Kind::Long) => Logical::LocalTimestampMicros,
            ("local-timestamp-nanos", Kind::Long) => Logical::LocalTimestampNanos,
            ("uuid", Kind::String) => Logical::Uuid,
            ("uuid", Kind::Fixed(f)) if f.size == 16 => Logical::Uuid,
            ("duration", Kind::Fixed(f)) if f.size == 12 => Logical::Duration,
            ("decimal", Kind::Bytes | Kind::Fixed(_)) => {
                let precision = json.get("precision")?.as_u64()?;
                let scale = json.get("scale").map_or(Some(0), Value::as_u64)?;
                // Digits that fit: 38 in the 128 bits of a column, fewer in a short fixed.
                let room = match kind {
                    Kind::Fixed(f) if f.size < 16 => {
                        (f64::from(f.size as u32 * 8).max(1.0) - 1.0) * std::f64::consts::LOG10_2
                    }
                    _ => 38.0,
                };
                if precision == 0 || precision as f64 > room.floor() || scale > precision {
                    return None;
                }
                Logical::Decimal {
                    precision: precision as u8,
                    scale: scale as i8,
                }
            }
            _ => return None,
        };
        Some(logical)
    }
}

/// Where in a schema: `Order.lines[].price`.
#[derive(Default)]
struct Path(Vec<String>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("the schema's root");
        }
        for (i, step) in self.0.iter().enumerate() {
            let dot = if i == 0 || step.starts_with(['[', '{']) {
                ""
            } else {
                "."
            };
            write!(f, "{dot}{step}")?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Names {
    known: HashMap<String, Type>,
    open: HashSet<String>,
}

impl Names {
    fn ty(&mut self, json: &Value, space: &str, path: &mut Path) -> Result<Type, SchemaError> {
        if path.0.len() > MAX_DEPTH {
            return Err(SchemaError::TooDeep {
                path: path.to_string(),
            });
        }
        match json {
            Value::String(name) => self.named(name, space, path),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.ty(branch, space, path))
                    .collect::<Result<Vec<_>, _>>()?;
                if branches.is_empty() {
                    return Err(wrong(path, "a union of nothing", "at least one branch"));
                }
                Ok(plain(Kind::Union(branches.into())))
            }
            Value::Object(object) => self.object(object, space, path),
            other => Err(wrong(
                path,
                &other.to_string(),
                "a type: a name, a list or an object",
            )),
        }
    }

    fn named(&mut self, name: &str, space: &str, path: &Path) -> Result<Type, SchemaError> {
        if let Some(kind) = primitive(name) {
            return Ok(plain(kind));
        }
        let full = full_name(name, space);
        let found = if self.known.contains_key(&full) || self.open.contains(&full) {
            &full
        } else {
            name
        };
        if self.open.contains(found) {
            return Err(SchemaError::Recursive {
                path: path.to_string(),
                name: found.to_owned(),
            });
        }
        self.known.get(found).cloned().ok_or_else(|| {
            wrong(
                path,
                &format!("the type {name:?}"),
                "a primitive type or one that is defined before",
            )
        })
    }

    fn object(
        &mut self,
        json: &serde_json::Map<String, Value>,
        space: &str,
        path: &mut Path,
    ) -> Result<Type, SchemaError> {
        let text = |key: &str| json.get(key).and_then(Value::as_str);
        let Some(kind) = json.get("type") else {
            return Err(wrong(path, "an object without \"type\"", "a \"type\""));
        };
        let Some(word) = kind.as_str() else {
            // {"type": {"type": ..}}: one more pair of brackets.
            path.0.push(String::new());
            let ty = self.ty(kind, space, path);
            path.0.pop();
            return ty;
        };
        let kind = match word {
            "array" | "map" => {
                let (key, step) = if word == "array" {
                    ("items", "[]")
                } else {
                    ("values", "{}")
                };
                let Some(inner) = json.get(key) else {
                    return Err(wrong(
                        path,
                        &format!("{word} without {key:?}"),
                        "the type of what is in it",
                    ));
                };
                path.0.push(step.to_owned());
                let inner = Arc::new(self.ty(inner, space, path)?);
                path.0.pop();
                if word == "array" {
                    Kind::Array(inner)
                } else {
                    Kind::Map(inner)
                }
            }
            "record" | "error" | "enum" | "fixed" => {
                let Some(short) = text("name") else {
                    return Err(wrong(path, &format!("{word} without a name"), "a \"name\""));
                };
                let name = full_name(short, text("namespace").unwrap_or(space));
                let own_space = name
                    .rsplit_once('.')
                    .map_or("", |(space, _)| space)
                    .to_owned();
                if self.known.contains_key(&name) || self.open.contains(&name) {
                    return Err(wrong(
                        path,
                        &format!("{name} is defined again"),
                        "each name once",
                    ));
                }
                let aliases = strings(json.get("aliases"), path, "aliases")?
                    .iter()
                    .map(|alias| full_name(alias, &own_space))
                    .collect();
                let kind = match word {
                    "enum" => Kind::Enum(Arc::new(Enum {
                        name: name.clone(),
                        aliases,
                        symbols: strings(json.get("symbols"), path, "symbols")?,
                        default: text("default").map(str::to_owned),
                    })),
                    "fixed" => {
                        let size = json
                            .get("size")
                            .and_then(Value::as_u64)
                            .filter(|s| *s <= 1 << 30);
                        let Some(size) = size else {
                            return Err(wrong(
                                path,
                                "fixed without a size",
                                "a \"size\" in bytes, at most 2^30",
                            ));
                        };
                        Kind::Fixed(Arc::new(Fixed {
                            name: name.clone(),
                            aliases,
                            size: size as usize,
                        }))
                    }
                    _ => {
                        self.open.insert(name.clone());
                        let fields = self.fields(json, &own_space, path)?;
                        self.open.remove(&name);
                        let doc = text("doc").map(str::to_owned);
                        Kind::Record(Arc::new(Record {
                            name: name.clone(),
                            aliases,
                            doc,
                            fields,
                        }))
                    }
                };
                let ty = Type {
                    logical: Logical::of(json, &kind),
                    kind,
                };
                self.known.insert(name, ty.clone());
                return Ok(ty);
            }
            other => {
                let ty = self.named(other, space, path)?;
                let logical = Logical::of(json, &ty.kind).or(ty.logical);
                return Ok(Type {
                    kind: ty.kind,
                    logical,
                });
            }
        };
        Ok(plain(kind))
    }

    fn fields(
        &mut self,
        json: &serde_json::Map<String, Value>,
        space: &str,
        path: &mut Path,
    ) -> Result<Vec<Field>, SchemaError> {
        let Some(list) = json.get("fields").and_then(Value::as_array) else {
            return Err(wrong(
                path,
                "a record without \"fields\"",
                "a list of fields",
            ));
        };
        let mut fields: Vec<Field> = Vec::with_capacity(list.len());
        for json in list {
            let Some(name) = json.get("name").and_then(Value::as_str) else {
                return Err(wrong(path, "a field without a name", "a \"name\""));
            };
            path.0.push(name.to_owned());
            if fields.iter().any(|f| f.name == name) {
                return Err(wrong(
                    path,
                    "a field of this name is there already",
                    "each name once",
                ));
            }
            let Some(ty) = json.get("type") else {
                return Err(wrong(path, "a field without a type", "a \"type\""));
            };
            let ty = self.ty(ty, space, path)?;
            let annotation = |key| {
                json.get(key)
                    .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
            };
            let role = annotation("role")
                .map(|word| {
                    word.parse().map_err(|()| SchemaError::Annotation {
                        path: path.to_string(),
                        key: "role",
                        found: word,
                        expected: Role::words(),
                    })
                })
                .transpose()?;
            let privacy = annotation("privacy")
                .map(|word| {
                    word.parse().map_err(|()| SchemaError::Annotation {
                        path: path.to_string(),
                        key: "privacy",
                        found: word,
                        expected: Privacy::words(),
                    })
                })
                .transpose()?;
            fields.push(Field {
                name: name.to_owned(),
                aliases: strings(json.get("aliases"), path, "aliases")?,
                doc: json.get("doc").and_then(Value::as_str).map(str::to_owned),
                ty,
                default: json.get("default").cloned(),
                role,
                privacy,
            });
            path.0.pop();
        }
        Ok(fields)
    }
}

/// How many types there are in `ty`, each counted at each use. Linear in the schema's text, though
/// the count may be exponential in it.
fn count(ty: &Type, known: &mut HashMap<*const Record, u64>) -> u64 {
    let below = match &ty.kind {
        Kind::Array(inner) | Kind::Map(inner) => count(inner, known),
        Kind::Union(branches) => branches.iter().fold(0, |sum: u64, branch| {
            sum.saturating_add(count(branch, known))
        }),
        Kind::Record(record) => match known.get(&Arc::as_ptr(record)) {
            Some(count) => *count,
            None => {
                let sum = record.fields.iter().fold(0, |sum: u64, field| {
                    sum.saturating_add(count(&field.ty, known))
                });
                known.insert(Arc::as_ptr(record), sum);
                sum
            }
        },
        _ => 0,
    };
    below.saturating_add(1)
}

fn plain(kind: Kind) -> Type {
    Type {
        kind,
        logical: None,
    }
}

fn wrong(path: &Path, found: &str, expected: &'static str) -> SchemaError {
    SchemaError::Wrong {
        path: path.to_string(),
        found: found.to_owned(),
        expected,
    }
}

fn strings(json: Option<&Value>, path: &Path, key: &str) -> Result<Vec<String>, SchemaError> {
    let Some(json) = json else { return Ok(vec![]) };
    let list = json
        .as_array()
        .map(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
    match list {
        Some(Some(list)) => Ok(list),
        _ => Err(wrong(
            path,
            &format!("{key} is {json}"),
            "a list of strings",
        )),
    }
}

fn full_name(name: &str, space: &str) -> String {
    if name.contains('.') || space.is_empty() {
        name.to_owned()
    } else {
        format!("{space}.{name}")
    }
}

fn primitive(name: &str) -> Option<Kind> {
    Some(match name {
        "null" => Kind::Null,
        "boolean" => Kind::Boolean,
        "int" => Kind::Int,
        "long" => Kind::Long,
        "float" => Kind::Float,
        "double" => Kind::Double,
        "bytes" => Kind::Bytes,
        "string" => Kind::String,
        _ => return None,
    })
}

/// The Parsing Canonical Form of a record: full names, no docs, no defaults, no annotations.
/// <https://avro.apache.org/docs/1.12.0/specification/#parsing-canonical-form-for-schemas>
fn canonical(record: &Arc<Record>) -> String {
    let mut out = String::new();
    write_canonical(&Kind::Record(record.clone()), &mut HashSet::new(), &mut out);
    out
}

fn write_canonical(kind: &Kind, seen: &mut HashSet<String>, out: &mut String) {
    let quoted = |text: &str| Value::from(text).to_string();
    match kind {
        Kind::Null => out.push_str("\"null\""),
        Kind::Boolean => out.push_str("\"boolean\""),
        Kind::Int => out.push_str("\"int\""),
        Kind::Long => out.push_str("\"long\""),
        Kind::Float => out.push_str("\"float\""),
        Kind::Double => out.push_str("\"double\""),
        Kind::Bytes => out.push_str("\"bytes\""),
        Kind::String => out.push_str("\"string\""),
        Kind::Array(item) => {
            out.push_str("{\"type\":\"array\",\"items\":");
            write_canonical(&item.kind, seen, out);
            out.push('}');
        }
        Kind::Map(value) => {
            out.push_str("{\"type\":\"map\",\"values\":");
            write_canonical(&value.kind, seen, out);
            out.push('}');
        }
        Kind::Union(branches) => {
            out.push('[');
            for (i, branch) in branches.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                write_canonical(&branch.kind, seen, out);
            }
            out.push(']');
        }
        Kind::Fixed(f) if seen.contains(&f.name) => out.push_str(&quoted(&f.name)),
        Kind::Fixed(f) => {
            seen.insert(f.name.clone());
            let _ = write!(
                out,
                "{{\"name\":{},\"type\":\"fixed\",\"size\":{}}}",
                quoted(&f.name),
                f.size
            );
        }
        Kind::Enum(e) if seen.contains(&e.name) => out.push_str(&quoted(&e.name)),
        Kind::Enum(e) => {
            seen.insert(e.name.clone());
            let symbols: Vec<String> = e.symbols.iter().map(|s| quoted(s)).collect();
            let _ = write!(
                out,
                "{{\"name\":{},\"type\":\"enum\",\"symbols\":[{}]}}",
                quoted(&e.name),
                symbols.join(",")
            );
        }
        Kind::Record(r) if seen.contains(&r.name) => out.push_str(&quoted(&r.name)),
        Kind::Record(r) => {
            seen.insert(r.name.clone());
            let _ = write!(
                out,
                "{{\"name\":{},\"type\":\"record\",\"fields\":[",
                quoted(&r.name)
            );
            for (i, field) in r.fields.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                let _ = write!(out, "{{\"name\":{},\"type\":", quoted(&field.name));
                write_canonical(&field.ty.kind, seen, out);
                out.push('}');
            }
            out.push_str("]}");
        }
    }
}

/// CRC-64-AVRO, the Rabin fingerprint of the specification.
pub fn fingerprint(bytes: &[u8]) -> u64 {
    const EMPTY: u64 = 0xc15d_213a_a4d7_a795;
    const TABLE: [u64; 256] = {
        let mut table = [0; 256];
        let mut i = 0;
        while i < 256 {
            let mut word = i as u64;
            let mut bit = 0;
            while bit < 8 {
                word = (word >> 1) ^ (EMPTY & (word & 1).wrapping_neg());
                bit += 1;
            }
            table[i] = word;
            i += 1;
        }
        table
    };
    bytes.iter().fold(EMPTY, |sum, byte| {
        (sum >> 8) ^ TABLE[((sum as u8) ^ byte) as usize]
    })
}

/// Whether apache-avro can put this into its canonical form. It panics where somebody's own
/// attribute has the name of one of Avro's, but not its kind: `"symbols": null` in a field.
fn has_canonical_form(json: &Value) -> bool {
    match json {
        Value::Object(map) => map.iter().all(|(key, value)| match key.as_str() {
            "name" | "type" | "fields" | "symbols" | "items" | "values" | "order" => {
                has_canonical_form(value)
            }
            "size" | "precision" | "scale" => {
                let quoted = || value.as_str()?.parse::<i64>().ok();
                value.as_i64().or_else(quoted).is_some()
            }
            _ => true,
        }),
        Value::Array(items) => items.iter().all(has_canonical_form),
        Value::String(_) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_attribute_of_ones_own_with_the_name_of_one_of_avro_s_is_no_fault() {
        for own in [
            r#""symbols": null"#,
            r#""items": 7"#,
            r#""size": "large""#,
            r#""scale": true"#,
            r#""values": [null]"#,
        ] {
            let text = format!(
                r#"{{"type": "record", "name": "R", "fields": [{{"name": "a", "type": "long", {own}}}]}}"#
            );
            let schema = super::Schema::parse(&text).unwrap();
            let plain =
                r#"{"type": "record", "name": "R", "fields": [{"name": "a", "type": "long"}]}"#;
            let plain = super::Schema::parse(plain).unwrap();
            assert_eq!(schema.fingerprint(), plain.fingerprint(), "{own}");
        }
    }

    use super::*;

    #[test]
    fn the_fingerprint_is_that_of_the_specification() {
        // From the specification's own test data (share/test/data/schema-tests.txt).
        assert_eq!(fingerprint(b"\"null\""), 7_195_948_357_588_979_594);
        assert_eq!(fingerprint(b"\"int\""), 8_247_732_601_305_521_295_u64);
    }

    #[test]
    fn annotations_docs_and_logical_types_change_no_fingerprint() {
        let rich = r#"{"type":"record","name":"M","namespace":"a.b","doc":"d","fields":[
            {"name":"t","type":{"type":"long","logicalType":"timestamp-millis"},"role":"event_time","doc":"x"},
            {"name":"e","type":{"type":"fixed","name":"Id","size":16}},
            {"name":"c","type":["null","Id"],"default":null}]}"#;
        let bare = r#"{"name":"a.b.M","type":"record","fields":[{"name":"t","type":"long"},
            {"name":"e","type":{"name":"a.b.Id","type":"fixed","size":16}},{"name":"c","type":["null","a.b.Id"]}]}"#;
        let (rich, bare) = (Schema::parse(rich).unwrap(), Schema::parse(bare).unwrap());
        assert_eq!(rich.canonical(), bare.canonical());
        assert_eq!(rich.fingerprint(), bare.fingerprint());
        assert_eq!(rich.record().fields[0].role, Some(Role::EventTime));
        assert_eq!(
            rich.record().fields[0].ty.logical,
            Some(Logical::TimestampMillis)
        );
    }

    #[test]
    fn a_schema_that_contains_itself_is_refused_where_it_does() {
        let list = r#"{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]}]}"#;
        let error = Schema::parse(list).unwrap_err();
        assert_eq!(
            error,
            SchemaError::Recursive {
                path: "next".into(),
                name: "L".into()
            }
        );
    }

    #[test]
    fn depth_is_bounded() {
        let mut json = "\"int\"".to_owned();
        for _ in 0..MAX_DEPTH + 2 {
            json = format!("{{\"type\":\"array\",\"items\":{json}}}");
        }
        let json =
            format!(r#"{{"type":"record","name":"D","fields":[{{"name":"a","type":{json}}}]}}"#);
        assert!(matches!(
            Schema::parse(&json),
            Err(SchemaError::TooDeep { .. })
        ));
    }

    #[test]
    fn a_short_text_of_exponentially_many_types_is_refused() {
        let mut ty =
            r#"{"type":"record","name":"R0","fields":[{"name":"a","type":"int"}]}"#.to_owned();
        for i in 1..40 {
            ty = format!(
                r#"{{"type":"record","name":"R{i}","fields":[{{"name":"a","type":{ty}}},{{"name":"b","type":"R{}"}}]}}"#,
                i - 1
            );
        }
        let error = Schema::parse(&ty).unwrap_err().to_string();
        assert!(
            error.contains("types, a type counted at each use"),
            "{error}"
        );
    }

    #[test]
    fn an_annotation_that_means_nothing_is_named_with_what_may_stand_there() {
        let json = r#"{"type":"record","name":"R","fields":[{"name":"a","type":"string","role":"browser"}]}"#;
        let error = Schema::parse(json).unwrap_err().to_string();
        assert!(
            error.starts_with("at a: role is \"browser\", expected one of "),
            "{error}"
        );
        assert!(error.contains("browser_id"), "{error}");
    }
}
