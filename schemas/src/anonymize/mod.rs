//! The anonymized twin of a record: its schema, and the bodies and columns of it. For the role
//! that anonymizes, which makes stream from stream by bodies and files from files by columns, from
//! one plan, so that both say the same of the same record.
//!
//! *Deny by default.* Each field has a privacy annotation, its own or that of a record, array or
//! map around it, by the schema or by the job file, which goes first; the nearest one counts. A
//! field without one is an error ([`PrivacyError`]), and so is an ID that would be kept.
//!
//! | privacy | of | becomes |
//! | --- | --- | --- |
//! | `keep` | anything but a browser, customer, event or cause, an event time, an `ip`, a `user_agent` | itself |
//! | `drop` | anything | nothing: the field is left out, and so is a record or an array of which nothing is left |
//! | `pseudonymize` | string, bytes, int, long, UUID | a string of 32 hexadecimal digits (see [`pseudonym`](crate::pseudonym)) |
//! | | fixed of 16 bytes | the same fixed; other sizes a string |
//! | | a map | keys and values, as above |
//! | `generalize` | a time of day or an instant; the event time | its hour, rounded down |
//! | | the role `url`, a text called `url`, `uri`, `href` or `…_url` | its path |
//! | | the role `referrer`, a text called `referrer`, `referer` or `…_referrer` | scheme, host and path |
//! | | the role `entity_id`, a text | itself, but for a query and a fragment |
//! | | the roles `ip` and `user_agent`, a text called so | nothing: what is to be known of them stands in the tag, as country and agent |
//!
//! Unions stay unions, and null stays null. A union of several types keeps all its branches, or
//! none; two of them cannot become strings.
//!
//! It is no proof that nobody can be recognized: a path, or a rare word in a kept field, may name
//! somebody. What may is to be dropped by its annotation.

mod address;
mod columns;
mod derive;
mod plan;
mod transcode;

use std::fmt;

use thiserror::Error;

pub use columns::Unlike;

use crate::pseudonym::{Kind as IdKind, Salt};
use crate::role::{Privacy, Role};
use crate::roles::{self, Overrides};
use crate::schema::{Kind, Logical, Schema, SchemaError};
use crate::walk::Fault;
use plan::{Plan, Planner};
use transcode::{Body, Out};

/// One thing that is wrong with the privacy of a schema's fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The field.
    pub path: String,
    /// What is wrong with it.
    pub wrong: Wrong,
}

/// What can be wrong with the privacy of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It has none.
    Missing,
    /// It says who it was, and would be let out.
    Exposed(Role),
    /// A type, in words, that has no pseudonym.
    Pseudonymize(String),
    /// A type, in words, of which there is nothing more general.
    Generalize(String),
    /// A map, whose keys cannot be generalized.
    Keys,
    /// A union of several types of which one branch would be left out and another not.
    Branch,
    /// A union of which two branches would be strings.
    SameBranches,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.wrong {
            Wrong::Missing => write!(f, "{path}  has no privacy, expected {}", Privacy::words()),
            Wrong::Exposed(role) => {
                let expected = match role {
                    Role::EventTime | Role::Ip | Role::UserAgent => {
                        "generalize, pseudonymize or drop"
                    }
                    _ => "pseudonymize or drop",
                };
                write!(f, "{path}  would let out the {role}, expected {expected}")
            }
            Wrong::Pseudonymize(ty) => write!(
                f,
                "{path}  is to be pseudonymized, but is {ty}, expected string, bytes, fixed, int or long"
            ),
            Wrong::Generalize(ty) => write!(
                f,
                "{path}  is to be generalized, but is {ty}, expected a time, the role url, referrer, entity_id, ip or user_agent, or a text with such a name"
            ),
            Wrong::Keys => write!(
                f,
                "{path}  is to be generalized, but is a map, whose keys cannot be; expected keep, pseudonymize or drop"
            ),
            Wrong::Branch => write!(
                f,
                "{path}  is a union of which one type would be left out, expected one privacy for all its types"
            ),
            Wrong::SameBranches => write!(
                f,
                "{path}  is a union of which two types would become strings, expected keep or drop"
            ),
        }
    }
}

/// Everything that is wrong with the privacy of a schema's fields, and the schema's tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivacyError {
    /// What is wrong, at least one.
    pub problems: Vec<Problem>,
    /// The outermost record's name.
    pub schema: String,
    tree: String,
}

impl fmt::Display for PrivacyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the schema {} cannot be anonymized:", self.schema)?;
        for problem in &self.problems {
            writeln!(f, "  {problem}")?;
        }
        writeln!(f, "  the schema {}:", self.schema)?;
        f.write_str(self.tree.trim_end())
    }
}

impl std::error::Error for PrivacyError {}

/// Why there is no twin of a schema.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum AnonymizeError {
    /// By its fields.
    #[error(transparent)]
    Privacy(#[from] PrivacyError),
    /// The anonymized schema is none that Visitflow takes.
    #[error("the anonymized schema of {schema}: {source}")]
    Derived {
        /// The name of the schema to be anonymized.
        schema: String,
        /// What is wrong with the other.
        source: SchemaError,
    },
    /// A record that does not say when its visit began.
    #[error(
        "the schema {schema} does not say when the visit began, expected a {expected} in milliseconds"
    )]
    Began {
        /// Its name.
        schema: String,
        /// What is missing.
        expected: &'static str,
    },
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("at byte {at} of the body: {}", .fault.words())]
pub struct BodyError {
    /// What.
    pub fault: Fault,
    /// At which byte.
    pub at: usize,
}

/// Anonymizes the records of one schema.
pub struct Anonymizer {
    schema: Schema,
    anonymous: Schema,
    plans: Vec<Plan>,
    began: usize,
}

impl fmt::Debug for Anonymizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Anonymizer({:?} to {:?})", self.schema, self.anonymous)
    }
}

impl Anonymizer {
    /// Of tagged measurements: `schema` was made by [`tag::tagged`](crate::tag::tagged), so that
    /// the visit's ID and beginning are its first two fields. Paths in `overrides` are those of
    /// the writer's schema.
    pub fn of_tagged(schema: &Schema, overrides: &Overrides) -> Result<Anonymizer, AnonymizeError> {
        Anonymizer::new(
            schema,
            overrides,
            &[(0, IdKind::Visit)],
            Some(1),
            "visit_started",
        )
    }

    /// Of one of the [`records`](crate::records) about visits: visits, their beginnings, their
    /// ends, revisions.
    ///
    /// A revision keeps who it was and which visits it was about, by pseudonyms, and of the places
    /// that it moves the events by theirs and the times by their hours. All are of the year in
    /// which the visit `from` began, `into` too: a revision over New Year joins nothing.
    pub fn of_record(schema: &Schema) -> Result<Anonymizer, AnonymizeError> {
        let fields = schema.record().fields.iter().enumerate();
        let ids = fields.clone().filter_map(|(index, field)| {
            let kind = match &field.name[..] {
                "visit_id" | "from" | "into" => IdKind::Visit,
                "first_id" | "until_id" => IdKind::Event,
                _ => return None,
            };
            Some((index, kind))
        });
        let ids: Vec<_> = ids.collect();
        let began = fields
            .clone()
            .find(|(_, f)| matches!(&f.name[..], "started" | "from_started"));
        let began = began.map(|(index, _)| index);
        Anonymizer::new(schema, &Overrides::default(), &ids, began, "started")
    }

    fn new(
        schema: &Schema,
        overrides: &Overrides,
        ids: &[(usize, IdKind)],
        began: Option<usize>,
        expected: &'static str,
    ) -> Result<Anonymizer, AnonymizeError> {
        let record = schema.record();
        let time = began.filter(|began| {
            record.fields.get(*began).is_some_and(|field| {
                field.ty.kind == Kind::Long && field.ty.logical == Some(Logical::TimestampMillis)
            })
        });
        let Some(began) = time else {
            let schema = record.name.clone();
            return Err(AnonymizeError::Began { schema, expected });
        };
        let mut planner = Planner {
            overrides,
            problems: vec![],
        };
        let plans = planner.root(record, ids);
        if !planner.problems.is_empty() {
            return Err(AnonymizeError::Privacy(PrivacyError {
                problems: planner.problems,
                schema: record.name.clone(),
                tree: roles::tree_of(record, overrides),
            }));
        }
        let derived = derive::derive(schema, &plans);
        let anonymous = derived.map_err(|source| AnonymizeError::Derived {
            schema: record.name.clone(),
            source,
        })?;
        Ok(Anonymizer {
            schema: schema.clone(),
            anonymous,
            plans,
            began,
        })
    }

    /// The schema of what is anonymized.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// The schema of what comes out.
    pub fn anonymous(&self) -> &Schema {
        &self.anonymous
    }

    /// When the visit of a body began, in milliseconds since 1970: it says whose year's salt is to
    /// be taken. Costs what lies before that field.
    pub fn began(&self, body: &[u8]) -> Result<i64, BodyError> {
        let mut body = Body::new(body);
        let before = &self.schema.record().fields[..self.began];
        before.iter().try_for_each(|field| body.skip(&field.ty))?;
        body.long()
    }

    /// Appends the anonymized body to `out`, to which an error adds nothing. Bodies that the
    /// source has accepted are always taken. Work and what is written are bounded by the body's
    /// length, but for 33 bytes for each number that gets a pseudonym.
    pub fn run(&self, salt: &Salt, body: &[u8], out: &mut Vec<u8>) -> Result<(), BodyError> {
        let before = out.len();
        let mut from = Body::new(body);
        let mut to = Out { salt, out };
        let done = to.record(self.schema.record(), &self.plans, &mut from);
        let done = done.and_then(|()| from.end());
        if done.is_err() {
            out.truncate(before);
        }
        done
    }
}

#[cfg(test)]
mod tests;
