//! How a reader sees what a writer wrote: Avro's schema resolution, worked out once for a pair of
//! schemas. The result is a tree in the *writer's* order, since that is how bytes come; the walk
//! uses it to refuse at the source what a later reader could not read, the columns to fill
//! themselves.
//!
//! Rules: <https://avro.apache.org/docs/1.12.0/specification/#schema-resolution>. Fields and types
//! match by name or by the reader's aliases; numbers widen; strings and bytes are one another's;
//! fields that only the writer has are skipped, those that only the reader has take their default.
//! What can only be told from a value (a branch or a symbol which the reader lacks) becomes
//! [`Read::Refuse`] at its place.

use std::sync::Arc;

use serde_json::Value;
use thiserror::Error;

use crate::schema::{Enum, Kind, Logical, Record, Schema, Type};

/// Why a writer's schema cannot be read as a reader's, whatever the values.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("at {path}: the writer has {writer}, which cannot be read as {reader}")]
pub struct ResolveError {
    /// Where in the reader's schema.
    pub path: String,
    /// The writer's type.
    pub writer: String,
    /// The reader's.
    pub reader: String,
}

/// How to read the next bytes of a body.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// The reader has no place for it: step over a value of this (writer's) type.
    Skip(Type),
    /// A primitive, fixed or string; `from` is on the wire, `to` is wanted. The two differ by a
    /// widening (int → long → float → double), or by string against bytes.
    Scalar {
        /// The writer's type.
        from: Type,
        /// The reader's type.
        to: Type,
    },
    /// An enum: for each of the writer's symbols the reader's, or `None` to refuse it.
    Enum {
        /// By the writer's index.
        symbols: Vec<Option<u32>>,
        /// The reader's.
        reader: Arc<Enum>,
    },
    /// An array.
    Array(Box<Read>),
    /// A map.
    Map(Box<Read>),
    /// The writer has a union here: by its index, how to go on.
    Union(Vec<Read>),
    /// The reader has a union here: the value becomes this branch of it.
    Into {
        /// The reader's branch.
        branch: usize,
        /// How many branches the reader's union has.
        branches: usize,
        /// The value.
        read: Box<Read>,
    },
    /// A record: in the writer's order, each with the reader's field that it fills.
    Record {
        /// The writer's fields; `None` for the reader's field goes with [`Read::Skip`].
        fields: Vec<(Option<usize>, Read)>,
        /// The reader's fields that the writer has not, with their types and defaults.
        defaults: Vec<(usize, Type, Value)>,
        /// The reader's.
        reader: Arc<Record>,
    },
    /// The reader has nothing for this value: the message is refused. Says why.
    Refuse(String),
}

/// How to read bodies of `writer` as `reader`.
pub fn resolve(writer: &Schema, reader: &Schema) -> Result<Read, ResolveError> {
    // The outermost records match whatever their names: which schemas belong together is said by
    // the job, and several event types may share one table.
    record(writer.record(), reader.record(), &mut vec![])
}

/// How to read bodies of a schema as itself.
pub fn identity(schema: &Schema) -> Read {
    resolve(schema, schema).expect("a schema can be read as itself")
}

fn error(writer: &Type, reader: &Type, path: &[&str]) -> ResolveError {
    ResolveError {
        path: path.join("."),
        writer: writer.to_string(),
        reader: reader.to_string(),
    }
}

fn record<'a>(
    writer: &'a Record,
    reader: &'a Arc<Record>,
    path: &mut Vec<&'a str>,
) -> Result<Read, ResolveError> {
    let mut taken = vec![false; reader.fields.len()];
    let mut fields = Vec::with_capacity(writer.fields.len());
    // A field of the reader is filled by the writer's of its name, else by one of its aliases.
    let source = |name: &str, aliases: &[String]| {
        let by_name = writer.fields.iter().position(|w| w.name == name);
        by_name.or_else(|| writer.fields.iter().position(|w| aliases.contains(&w.name)))
    };
    let sources: Vec<_> = reader
        .fields
        .iter()
        .map(|f| source(&f.name, &f.aliases))
        .collect();
    for (at, field) in writer.fields.iter().enumerate() {
        match sources.iter().position(|s| *s == Some(at)) {
            Some(to) => {
                taken[to] = true;
                path.push(&reader.fields[to].name);
                fields.push((Some(to), value(&field.ty, &reader.fields[to].ty, path)?));
                path.pop();
            }
            None => fields.push((None, Read::Skip(field.ty.clone()))),
        }
    }
    let mut defaults = vec![];
    for (at, field) in reader
        .fields
        .iter()
        .enumerate()
        .filter(|(at, _)| !taken[*at])
    {
        path.push(&field.name);
        match &field.default {
            Some(default) => defaults.push((at, field.ty.clone(), default.clone())),
            None => {
                return Err(ResolveError {
                    path: path.join("."),
                    writer: "no such field".into(),
                    reader: format!("{} without a default", field.ty),
                });
            }
        }
        path.pop();
    }
    Ok(Read::Record {
        fields,
        defaults,
        reader: reader.clone(),
    })
}

fn value<'a>(
    writer: &'a Type,
    reader: &'a Type,
    path: &mut Vec<&'a str>,
) -> Result<Read, ResolveError> {
    if let Kind::Union(branches) = &writer.kind {
        let reads: Vec<Read> = branches
            .iter()
            .map(|branch| {
                value(branch, reader, path).unwrap_or_else(|e| {
                    Read::Refuse(format!(
                        "at {}: a value of {}, expected {}",
                        e.path, e.writer, e.reader
                    ))
                })
            })
            .collect();
        if reads.iter().all(|read| matches!(read, Read::Refuse(_))) {
            return Err(error(writer, reader, path));
        }
        return Ok(Read::Union(reads));
    }
    if let Kind::Union(branches) = &reader.kind {
        // The first branch of the same form, else the first that it can be read as.
        let same = branches
            .iter()
            .position(|branch| same_form(writer, branch) && value(writer, branch, path).is_ok());
        let branch = same.or_else(|| {
            branches
                .iter()
                .position(|branch| value(writer, branch, path).is_ok())
        });
        let Some(branch) = branch else {
            return Err(error(writer, reader, path));
        };
        let read = Box::new(value(writer, &branches[branch], path)?);
        return Ok(Read::Into {
            branch,
            branches: branches.len(),
            read,
        });
    }
    match (&writer.kind, &reader.kind) {
        (Kind::Record(w), Kind::Record(r)) if names_match(&w.name, &r.name, &r.aliases) => {
            record(w, r, path)
        }
        (Kind::Array(w), Kind::Array(r)) => Ok(Read::Array(Box::new(value(w, r, path)?))),
        (Kind::Map(w), Kind::Map(r)) => Ok(Read::Map(Box::new(value(w, r, path)?))),
        (Kind::Enum(w), Kind::Enum(r)) if names_match(&w.name, &r.name, &r.aliases) => {
            let index =
                |symbol: &String| r.symbols.iter().position(|s| s == symbol).map(|i| i as u32);
            let default = r.default.as_ref().and_then(index);
            let symbols = w.symbols.iter().map(|s| index(s).or(default)).collect();
            Ok(Read::Enum {
                symbols,
                reader: r.clone(),
            })
        }
        (Kind::Fixed(w), Kind::Fixed(r))
            if w.size == r.size
                && names_match(&w.name, &r.name, &r.aliases)
                && decimals_agree(writer, reader) =>
        {
            Ok(Read::Scalar {
                from: writer.clone(),
                to: reader.clone(),
            })
        }
        (w, r) if scalar(w, r) && decimals_agree(writer, reader) && units_agree(writer, reader) => {
            Ok(Read::Scalar {
                from: writer.clone(),
                to: reader.clone(),
            })
        }
        _ => Err(error(writer, reader, path)),
    }
}

/// Whether the two are of one kind, and of one name where they have names.
fn same_form(writer: &Type, reader: &Type) -> bool {
    match (&writer.kind, &reader.kind) {
        (Kind::Record(w), Kind::Record(r)) => w.name == r.name,
        (Kind::Enum(w), Kind::Enum(r)) => w.name == r.name,
        (Kind::Fixed(w), Kind::Fixed(r)) => w.name == r.name,
        (w, r) => std::mem::discriminant(w) == std::mem::discriminant(r),
    }
}

/// Names match unqualified, or by an alias of the reader.
fn names_match(writer: &str, reader: &str, aliases: &[String]) -> bool {
    let short = |name: &str| name.rsplit('.').next().map(str::to_owned);
    short(writer) == short(reader) || aliases.iter().any(|alias| alias == writer)
}

fn scalar(writer: &Kind, reader: &Kind) -> bool {
    use Kind::{Boolean, Bytes, Double, Float, Int, Long, Null, String};
    matches!(
        (writer, reader),
        (Null, Null)
            | (Boolean, Boolean)
            | (Int, Int | Long | Float | Double)
            | (Long, Long | Float | Double)
            | (Float, Float | Double)
            | (Double, Double)
            | (Bytes | String, Bytes | String)
    )
}

/// A decimal is only read as a decimal of its own scale and precision.
fn decimals_agree(writer: &Type, reader: &Type) -> bool {
    let decimal = |ty: &Type| match ty.logical {
        Some(Logical::Decimal { precision, scale }) => Some((precision, scale)),
        _ => None,
    };
    match (decimal(writer), decimal(reader)) {
        (_, None) => true,
        (w, r) => w == r,
    }
}

/// Milliseconds are not microseconds: where both name a unit of time, it is the same one.
fn units_agree(writer: &Type, reader: &Type) -> bool {
    match (writer.logical, reader.logical) {
        (Some(w), Some(r)) => w == r || matches!((w, r), (Logical::Uuid, Logical::Uuid)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(fields: &str) -> Schema {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"R","fields":[{fields}]}}"#
        ))
        .unwrap()
    }

    #[test]
    fn fields_match_by_name_and_alias_and_the_others_are_skipped_or_take_defaults() {
        let writer = schema(r#"{"name":"old","type":"int"},{"name":"gone","type":"string"}"#);
        let reader = schema(
            r#"{"name":"added","type":"string","default":"x"},{"name":"new","aliases":["old"],"type":"long"}"#,
        );
        let Read::Record {
            fields, defaults, ..
        } = resolve(&writer, &reader).unwrap()
        else {
            panic!()
        };
        assert!(matches!(&fields[0], (Some(1), Read::Scalar { .. })));
        assert!(matches!(&fields[1], (None, Read::Skip(_))));
        assert_eq!(defaults[0].0, 0);
    }

    #[test]
    fn a_field_without_default_that_the_writer_lacks_is_an_error_that_names_it() {
        let error = resolve(&schema(""), &schema(r#"{"name":"a","type":"string"}"#)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "at a: the writer has no such field, which cannot be read as string without a default"
        );
    }

    #[test]
    fn a_branch_which_the_reader_lacks_is_refused_only_when_it_comes() {
        let writer = schema(r#"{"name":"a","type":["null","string","long"]}"#);
        let reader = schema(r#"{"name":"a","type":["null","string"]}"#);
        let Read::Record { fields, .. } = resolve(&writer, &reader).unwrap() else {
            panic!()
        };
        let Read::Union(branches) = &fields[0].1 else {
            panic!()
        };
        assert!(matches!(branches[0], Read::Into { branch: 0, .. }));
        assert!(matches!(branches[1], Read::Into { branch: 1, .. }));
        assert!(matches!(&branches[2], Read::Refuse(why) if why.contains("long")));
    }

    #[test]
    fn an_unknown_symbol_becomes_the_default_or_is_refused() {
        let writer =
            schema(r#"{"name":"a","type":{"type":"enum","name":"E","symbols":["X","Y"]}}"#);
        for (default, expected) in [(r#","default":"Z""#, Some(1)), ("", None)] {
            let reader = schema(&format!(
                r#"{{"name":"a","type":{{"type":"enum","name":"E","symbols":["Y","Z"]{default}}}}}"#
            ));
            let Read::Record { fields, .. } = resolve(&writer, &reader).unwrap() else {
                panic!()
            };
            let Read::Enum { symbols, .. } = &fields[0].1 else {
                panic!()
            };
            assert_eq!(symbols, &[expected, Some(0)]);
        }
    }
}
