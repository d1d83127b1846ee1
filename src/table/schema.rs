//! Schemas as Delta Lake writes them, from and to Arrow's, and the rules by which a table's may grow.
//!
//! | Arrow | Delta |
//! | --- | --- |
//! | Int8, Int16, Int32, Int64 | byte, short, integer, long |
//! | Float32, Float64, Boolean, Date32 | float, double, boolean, date |
//! | Utf8, LargeUtf8, Utf8View, Dictionary of these | string |
//! | Binary, LargeBinary, BinaryView, FixedSizeBinary | binary (the width is kept beside it) |
//! | Timestamp(Millisecond or Microsecond, UTC) | timestamp (the unit is kept beside it) |
//! | Decimal128(p, s) with 0 <= s <= p | decimal(p,s) |
//! | Struct; List, LargeList; Map | struct; array; map |
//!
//! Files keep milliseconds where they are given: DuckDB, Polars, deltalake and pyarrow read them as the instants they
//! are, nested too (tested), and they take less room than microseconds.

use super::TableError;
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::HashSet;
use std::sync::Arc;

/// Field metadata by which a column comes back as the Arrow type it was declared with. Other readers ignore it.
const HINT: &str = "visitflow.arrow";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "struct")]
pub(super) struct Struct {
    pub fields: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub ty: Type,
    pub nullable: bool,
    #[serde(default)]
    pub metadata: Map<String, Value>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub(super) enum Type {
    Plain(String),
    Nested(Box<Nested>),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub(super) enum Nested {
    Struct {
        fields: Vec<Column>,
    },
    #[serde(rename_all = "camelCase")]
    Array {
        element_type: Type,
        contains_null: bool,
    },
    #[serde(rename_all = "camelCase")]
    Map {
        key_type: Type,
        value_type: Type,
        value_contains_null: bool,
    },
}

fn wrong(path: &str, problem: impl Into<String>) -> TableError {
    TableError::Schema {
        column: path.to_owned(),
        problem: problem.into(),
    }
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

impl Struct {
    pub fn from_arrow(schema: &Schema) -> Result<Struct, TableError> {
        Ok(Struct {
            fields: columns(schema.fields(), "")?,
        })
    }

    pub fn to_arrow(&self) -> Result<Schema, TableError> {
        Ok(Schema::new(fields(&self.fields, "")?))
    }

    /// The least schema that holds both what `self` and what `newer` describes. Refused are other types under an old
    /// name, new columns that are not nullable (old files have no value), and old ones, not nullable, that are missing.
    pub fn merge(&self, newer: &Struct) -> Result<Struct, TableError> {
        Ok(Struct {
            fields: merge(&self.fields, &newer.fields, "")?,
        })
    }
}

fn columns(fields: &Fields, path: &str) -> Result<Vec<Column>, TableError> {
    if fields.is_empty() {
        return Err(wrong(
            path,
            "has no columns below it; expected at least one",
        ));
    }
    let mut seen = HashSet::new();
    let mut columns = Vec::with_capacity(fields.len());
    for field in fields {
        let path = below(path, field.name());
        if field.name().is_empty()
            || field
                .name()
                .contains([' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '='])
        {
            return Err(wrong(
                &path,
                "is no name for a column: Delta forbids an empty one and any of ` ,;{}()=`, tabs and line ends",
            ));
        }
        if !seen.insert(field.name().to_lowercase()) {
            return Err(wrong(
                &path,
                "is there twice (Delta does not tell upper from lower case)",
            ));
        }
        let mut metadata = Map::new();
        if let Some(comment) = field.metadata().get("comment") {
            metadata.insert("comment".into(), comment.as_str().into());
        }
        if let Some(hint) = hint(field.data_type()) {
            metadata.insert(HINT.into(), hint.into());
        }
        columns.push(Column {
            name: field.name().clone(),
            ty: delta(field.data_type(), &path)?,
            nullable: field.is_nullable(),
            metadata,
        });
    }
    Ok(columns)
}

fn hint(ty: &DataType) -> Option<String> {
    match ty {
        DataType::FixedSizeBinary(n) => Some(format!("fixed[{n}]")),
        DataType::Timestamp(TimeUnit::Millisecond, _) => Some("timestamp[ms]".to_owned()),
        _ => None,
    }
}

fn delta(ty: &DataType, path: &str) -> Result<Type, TableError> {
    let plain = |name: &str| Ok(Type::Plain(name.to_owned()));
    match ty {
        DataType::Int8 => plain("byte"),
        DataType::Int16 => plain("short"),
        DataType::Int32 => plain("integer"),
        DataType::Int64 => plain("long"),
        DataType::Float32 => plain("float"),
        DataType::Float64 => plain("double"),
        DataType::Boolean => plain("boolean"),
        DataType::Date32 => plain("date"),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => plain("string"),
        DataType::Dictionary(_, values) => match delta(values, path)? {
            Type::Plain(name) if name == "string" => plain("string"),
            _ => Err(wrong(
                path,
                format!("{ty} cannot be stored; expected a dictionary of strings"),
            )),
        },
        DataType::Binary
        | DataType::LargeBinary
        | DataType::BinaryView
        | DataType::FixedSizeBinary(_) => plain("binary"),
        DataType::Timestamp(TimeUnit::Millisecond | TimeUnit::Microsecond, Some(zone))
            if matches!(&**zone, "UTC" | "+00:00" | "Z") =>
        {
            plain("timestamp")
        }
        DataType::Timestamp(..) => Err(wrong(
            path,
            format!("{ty} cannot be stored; expected milliseconds or microseconds in the zone UTC"),
        )),
        DataType::Decimal128(p, s) if 0 <= *s && *s as u8 <= *p => {
            plain(&format!("decimal({p},{s})"))
        }
        DataType::Struct(fields) => Ok(Type::Nested(Box::new(Nested::Struct {
            fields: columns(fields, path)?,
        }))),
        DataType::List(item) | DataType::LargeList(item) => {
            Ok(Type::Nested(Box::new(Nested::Array {
                element_type: delta(item.data_type(), &below(path, "element"))?,
                contains_null: item.is_nullable(),
            })))
        }
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(pair) if pair.len() == 2 => Ok(Type::Nested(Box::new(Nested::Map {
                key_type: delta(pair[0].data_type(), &below(path, "key"))?,
                value_type: delta(pair[1].data_type(), &below(path, "value"))?,
                value_contains_null: pair[1].is_nullable(),
            }))),
            _ => Err(wrong(path, "is a map without keys and values")),
        },
        _ => Err(wrong(path, format!("{ty} has no type in Delta tables"))),
    }
}

fn fields(columns: &[Column], path: &str) -> Result<Vec<Field>, TableError> {
    columns
        .iter()
        .map(|column| {
            let path = below(path, &column.name);
            if column.metadata.contains_key("delta.invariants") {
                return Err(wrong(&path, "has an invariant, which we would not check"));
            }
            let ty = match (
                arrow(&column.ty, &path)?,
                column.metadata.get(HINT).and_then(Value::as_str),
            ) {
                (DataType::Binary, Some(hint)) => {
                    let width = hint
                        .strip_prefix("fixed[")
                        .and_then(|rest| rest.strip_suffix(']'))
                        .and_then(|n| n.parse().ok());
                    width
                        .filter(|n| *n >= 0)
                        .map_or(DataType::Binary, DataType::FixedSizeBinary)
                }
                (DataType::Timestamp(_, zone), Some("timestamp[ms]")) => {
                    DataType::Timestamp(TimeUnit::Millisecond, zone)
                }
                (ty, _) => ty,
            };
            let field = Field::new(&column.name, ty, column.nullable);
            Ok(
                match column.metadata.get("comment").and_then(Value::as_str) {
                    Some(comment) => {
                        field.with_metadata([("comment".to_owned(), comment.to_owned())])
                    }
                    None => field,
                },
            )
        })
        .collect()
}

fn arrow(ty: &Type, path: &str) -> Result<DataType, TableError> {
    let name = match ty {
        Type::Plain(name) => name.as_str(),
        Type::Nested(nested) => {
            return Ok(match &**nested {
                Nested::Struct { fields: inner } => DataType::Struct(fields(inner, path)?.into()),
                Nested::Array {
                    element_type,
                    contains_null,
                } => DataType::List(Arc::new(Field::new(
                    "element",
                    arrow(element_type, &below(path, "element"))?,
                    *contains_null,
                ))),
                Nested::Map {
                    key_type,
                    value_type,
                    value_contains_null,
                } => {
                    let key = Field::new("key", arrow(key_type, &below(path, "key"))?, false);
                    let value = Field::new(
                        "value",
                        arrow(value_type, &below(path, "value"))?,
                        *value_contains_null,
                    );
                    DataType::Map(
                        Arc::new(Field::new(
                            "key_value",
                            DataType::Struct(vec![key, value].into()),
                            false,
                        )),
                        false,
                    )
                }
            });
        }
    };
    Ok(match name {
        "byte" => DataType::Int8,
        "short" => DataType::Int16,
        "integer" => DataType::Int32,
        "long" => DataType::Int64,
        "float" => DataType::Float32,
        "double" => DataType::Float64,
        "boolean" => DataType::Boolean,
        "date" => DataType::Date32,
        "string" => DataType::Utf8,
        "binary" => DataType::Binary,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        _ => {
            let (p, s) = decimal(name).ok_or_else(|| {
                wrong(path, format!("has the type {name:?}, which we do not know"))
            })?;
            DataType::Decimal128(p, s)
        }
    })
}

/// Precision and scale of `decimal(p,s)`.
pub(super) fn decimal(name: &str) -> Option<(u8, i8)> {
    let (p, s) = name
        .strip_prefix("decimal(")?
        .strip_suffix(')')?
        .split_once(',')?;
    let (p, s): (u8, i8) = (p.trim().parse().ok()?, s.trim().parse().ok()?);
    ((1..=38).contains(&p) && 0 <= s && s as u8 <= p).then_some((p, s))
}

fn merge(old: &[Column], newer: &[Column], path: &str) -> Result<Vec<Column>, TableError> {
    let mut merged = Vec::with_capacity(old.len().max(newer.len()));
    for column in old {
        let path = below(path, &column.name);
        let mut column = column.clone();
        match newer.iter().find(|c| c.name == column.name) {
            Some(c) => {
                column.ty = merge_types(&column.ty, &c.ty, &path)?;
                column.nullable |= c.nullable;
            }
            None if !column.nullable => {
                return Err(wrong(&path, "is missing, but the table's is not nullable"));
            }
            None => {}
        }
        merged.push(column);
    }
    for column in newer {
        if merged.iter().any(|c| c.name == column.name) {
            continue;
        }
        let path = below(path, &column.name);
        if let Some(same) = merged
            .iter()
            .find(|c| c.name.to_lowercase() == column.name.to_lowercase())
        {
            return Err(wrong(
                &path,
                format!(
                    "differs from the table's `{}` by upper and lower case only",
                    same.name
                ),
            ));
        }
        if !column.nullable {
            return Err(wrong(
                &path,
                "is new to the table and not nullable; expected nullable, since older rows have no value",
            ));
        }
        merged.push(column.clone());
    }
    Ok(merged)
}

fn merge_types(old: &Type, newer: &Type, path: &str) -> Result<Type, TableError> {
    let nested = |nested| Ok(Type::Nested(Box::new(nested)));
    match (old, newer) {
        (Type::Plain(a), Type::Plain(b)) if a == b => Ok(old.clone()),
        (Type::Nested(a), Type::Nested(b)) => match (&**a, &**b) {
            (Nested::Struct { fields: a }, Nested::Struct { fields: b }) => {
                nested(Nested::Struct {
                    fields: merge(a, b, path)?,
                })
            }
            (
                Nested::Array {
                    element_type: a,
                    contains_null: n,
                },
                Nested::Array {
                    element_type: b,
                    contains_null: m,
                },
            ) => nested(Nested::Array {
                element_type: merge_types(a, b, &below(path, "element"))?,
                contains_null: *n || *m,
            }),
            (
                Nested::Map {
                    key_type: k,
                    value_type: v,
                    value_contains_null: n,
                },
                Nested::Map {
                    key_type: l,
                    value_type: w,
                    value_contains_null: m,
                },
            ) => nested(Nested::Map {
                key_type: merge_types(k, l, &below(path, "key"))?,
                value_type: merge_types(v, w, &below(path, "value"))?,
                value_contains_null: *n || *m,
            }),
            _ => Err(wrong(
                path,
                format!("is {} in the table and {} here", name(old), name(newer)),
            )),
        },
        _ => Err(wrong(
            path,
            format!("is {} in the table and {} here", name(old), name(newer)),
        )),
    }
}

fn name(ty: &Type) -> &str {
    match ty {
        Type::Plain(name) => name,
        Type::Nested(nested) => match **nested {
            Nested::Struct { .. } => "a struct",
            Nested::Array { .. } => "an array",
            Nested::Map { .. } => "a map",
        },
    }
}
