//! The walk: one pass over the bytes of a body that finds the values of the roles and steps over
//! the rest, for the source, which meets every measurement once. It is compiled once for each
//! writer's schema and never builds a tree.
//!
//! It promises that a body which it accepts is one that every later reader can read: lengths lie
//! within the body, strings and map keys are UTF-8, booleans are 0 or 1, indexes of unions and
//! enums exist (and are not refused by the reader it was compiled for), blocks are as long as they
//! say, numbers and times fit, UUIDs and decimals are such, items without bytes are few, and nothing comes
//! after the end. It allocates nothing, does work linear in the body, and never panics.
//!
//! It is not a decoder: whoever wants fields without a role reads the body again, later.
//!
//! ```
//! use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
//! use visitflow_schemas::role::Role;
//! use visitflow_schemas::roles::{Overrides, Roles};
//! use visitflow_schemas::walk::{Found, Walk};
//!
//! let roles = Roles::find(&MEASUREMENT, &Overrides::default()).unwrap();
//! let walk = Walk::compile(&MEASUREMENT, &roles, None).unwrap();
//! let mut body = vec![];
//! Measurement { browser_id: "b-1", event_time: 1_700_000_000_000, ..Default::default() }
//!     .encode_body(&mut body);
//!
//! let mut found = Found::default();
//! walk.run(&body, &mut found).unwrap();
//! assert_eq!(found.text(&body, Role::BrowserId), Some("b-1"));
//! assert_eq!(found.event_time_ms(), Some(1_700_000_000_000));
//! assert_eq!(found.text(&body, Role::Ip), None);
//!
//! let error = walk.run(&body[..20], &mut found).unwrap_err();
//! assert_eq!(walk.explain(error), "at byte 20, event_time (long (timestamp-millis)): the body ends here");
//! ```

mod bytes;
mod compile;
mod run;

use std::fmt;

use thiserror::Error;

use crate::resolve::Read;
use crate::role::Role;
use crate::roles::{Form, Roles};
use crate::schema::Schema;

pub(crate) use bytes::{block, length, long, some};
use compile::Compiler;
use run::{NOWHERE, Op, Run, SLOTS};

/// How many items without bytes (of an array of nulls, say) a body may have: they cost a reader
/// memory and the writer nothing.
pub const MAX_EMPTY_ITEMS: u32 = 1_024;

/// A place in the schema, to explain errors.
#[derive(Clone, Debug)]
struct Spot {
    path: String,
    what: String,
}

/// The program of one writer's schema. Some 8 bytes a field, and its names.
#[derive(Clone, Debug)]
pub struct Walk {
    ops: Vec<Op>,
    unions: Vec<Box<[u32]>>,
    symbols: Vec<Box<[bool]>>,
    forms: Forms,
    whole: bool,
    spots: Vec<Spot>,
    /// For each op its spot.
    spot_of: Vec<u32>,
    /// For each op that steps over several fields: the op, and for each field its length and spot.
    merged: Vec<(usize, Vec<(u32, u32)>)>,
}

/// Which roles there are and what they are on the wire, one bit a role.
#[derive(Clone, Copy, Debug, Default)]
struct Forms {
    text: u16,
    bytes: u16,
    integer: u16,
    /// How many of the event time's units a millisecond has: 1, 1,000 or 1,000,000.
    per_milli: i64,
}

/// What a walk found in a body: where the values of the roles lie. Valid for that body only; with
/// another one it gives other bytes, or nothing. Reuse it from body to body.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Integers themselves; texts and bytes as offset and, in the upper half, length.
    slots: [u64; SLOTS],
    /// One bit a role.
    present: u16,
    forms: Forms,
}

/// Why a walk cannot be compiled: its parts are not of one schema.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum WalkError {
    /// A role at a place that the schema has not.
    #[error("the role {role} lies at {path}, which the schema {schema} has not")]
    Role {
        /// The role.
        role: Role,
        /// Its place by the roles.
        path: String,
        /// The schema's name.
        schema: String,
    },
    /// The reader's way through the schema is one through another schema.
    #[error("at {path}: the reader expects {expected}, the schema has {found}")]
    Reader {
        /// The place.
        path: String,
        /// What the reader goes through.
        expected: &'static str,
        /// The schema's type.
        found: String,
    },
}

/// What is wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Over 4 GiB.
    TooLong,
    /// It ends within or before a value.
    Ends,
    /// The length of a string or of bytes is negative or goes beyond the body.
    Length,
    /// A number of over 10 bytes or 64 bits.
    Number,
    /// An int of over 32 bits.
    Int,
    /// A string or a map's key that is no UTF-8.
    Utf8,
    /// A boolean that is neither 0 nor 1.
    Boolean,
    /// A branch that the union has not.
    Branch,
    /// A symbol that the enum has not.
    Symbol,
    /// A branch or symbol that the reader has no place for.
    Refused,
    /// A block of more items than there can be.
    Count,
    /// A block that is not as long as it says.
    BlockSize,
    /// Over [`MAX_EMPTY_ITEMS`] items without bytes.
    EmptyItems,
    /// A time in milliseconds that does not fit into 64 bits of microseconds, as which it is filed.
    Time,
    /// A string that is no UUID in its 36 characters.
    Uuid,
    /// A decimal of no byte or of more digits than its precision.
    Decimal,
    /// Bytes after the end.
    Trailing,
}

/// Why a body was not accepted. [`Walk::explain`] adds the field's path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyError {
    /// What is wrong.
    pub fault: Fault,
    /// At which byte of the body: where the value begins that is wrong, or where the body ends.
    pub at: u32,
    spot: u32,
}

const NO_SPOT: u32 = u32::MAX;

impl Fault {
    /// The fault in words.
    pub fn words(self) -> &'static str {
        match self {
            Fault::TooLong => "the body is over 4 GiB",
            Fault::Ends => "the body ends here",
            Fault::Length => "a length that is negative or goes beyond the body's end",
            Fault::Number => "a number of over 10 bytes or 64 bits",
            Fault::Int => "an int of over 32 bits",
            Fault::Utf8 => "a string that is not UTF-8",
            Fault::Boolean => "a boolean that is neither 0 nor 1",
            Fault::Branch => "a branch that the union has not",
            Fault::Symbol => "a symbol that the enum has not",
            Fault::Refused => "a branch or symbol that the reader has no place for",
            Fault::Count => "a block of more than 2^63 - 1 items",
            Fault::BlockSize => "a block that is not as long as it says",
            Fault::EmptyItems => "over 1,024 items without bytes",
            Fault::Time => "a time over 292,271 years from 1970",
            Fault::Uuid => "a string that is no UUID of 36 characters",
            Fault::Decimal => "a decimal without bytes or of more digits than its precision",
            Fault::Trailing => "bytes after the end of the record",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.at, self.fault.words())
    }
}

impl std::error::Error for BodyError {}

impl Walk {
    /// The walk for bodies of `schema`, which finds `roles`. With a `reader` (what
    /// [`resolve`](crate::resolve::resolve) gave for this schema) it refuses what that reader
    /// could not read.
    pub fn compile(
        schema: &Schema,
        roles: &Roles,
        reader: Option<&Read>,
    ) -> Result<Walk, WalkError> {
        Compiler::new(schema, roles).compile(reader, usize::MAX)
    }

    /// A walk that stops after the last of `wanted`, without a look at what follows, or at whether
    /// strings are UTF-8 that nobody asks for: for bodies that a whole walk has accepted before. It
    /// costs what lies before that field.
    pub fn up_to(schema: &Schema, roles: &Roles, wanted: &[Role]) -> Result<Walk, WalkError> {
        let last = wanted.iter().filter_map(|role| roles.path(*role)?.first());
        let fields = last.max().map_or(0, |last| last + 1);
        let mut walk = Compiler::new(schema, roles).compile(None, fields)?;
        for op in &mut walk.ops {
            *op = match *op {
                Op::Text { slot } => Op::Bytes { slot },
                Op::OptionalText { null, slot } => Op::OptionalBytes { null, slot },
                other => other,
            };
        }
        Ok(walk)
    }

    /// Walks over `body` and notes the values of the roles in `found`, which is empty after an
    /// error.
    #[inline]
    pub fn run(&self, body: &[u8], found: &mut Found) -> Result<(), BodyError> {
        found.present = 0;
        found.forms = self.forms;
        if body.len() > u32::MAX as usize {
            return Err(BodyError {
                fault: Fault::TooLong,
                at: u32::MAX,
                spot: NO_SPOT,
            });
        }
        let mut run = Run {
            walk: self,
            body,
            slots: &mut found.slots,
            present: 0,
            empty_items: 0,
        };
        let end = run.ops(0, 0)?;
        let present = run.present;
        if self.whole && end != body.len() {
            return Err(BodyError {
                fault: Fault::Trailing,
                at: end as u32,
                spot: NO_SPOT,
            });
        }
        found.present = present & !(1 << NOWHERE);
        Ok(())
    }

    /// The error with the path and the type of the field where it happened.
    pub fn explain(&self, error: BodyError) -> String {
        let words = error.fault.words();
        let Some(spot) = self.spots.get(error.spot as usize) else {
            return error.to_string();
        };
        match error.fault {
            Fault::Refused => format!("at byte {}, {}: {}", error.at, spot.path, spot.what),
            _ => format!(
                "at byte {}, {} ({}): {words}",
                error.at, spot.path, spot.what
            ),
        }
    }

    /// The path of the field where it happened, if it happened in one.
    pub fn path(&self, error: BodyError) -> Option<&str> {
        self.spots
            .get(error.spot as usize)
            .map(|spot| &spot.path[..])
    }

    /// An error in the op at `pc`, whose value begins at `at`.
    #[cold]
    #[inline(never)]
    fn error(&self, fault: Fault, pc: usize, at: usize, body: &[u8]) -> BodyError {
        let mut spot = self.spot_of.get(pc).copied().unwrap_or(NO_SPOT);
        let mut at = at;
        if fault == Fault::Ends {
            // Of fields that are stepped over at once, the one in which the body ends.
            let merged = self.merged.iter().find(|(op, _)| *op == pc);
            let mut from = at;
            for (len, of) in merged.map_or(&[][..], |(_, parts)| parts) {
                spot = *of;
                from += *len as usize;
                if from > body.len() {
                    break;
                }
            }
            at = body.len();
        }
        BodyError {
            fault,
            at: at as u32,
            spot,
        }
    }
}

impl Found {
    /// Whether the role has a value in this body.
    #[inline]
    pub fn has(&self, role: Role) -> bool {
        self.present & bit(role) != 0
    }

    /// What the role's value is on the wire; `None` when the schema has no such role.
    #[inline]
    pub fn form(&self, role: Role) -> Option<Form> {
        if self.forms.text & bit(role) != 0 {
            Some(Form::Text)
        } else if self.forms.bytes & bit(role) != 0 {
            Some(Form::Bytes)
        } else if self.forms.integer & bit(role) != 0 {
            Some(Form::Integer)
        } else {
            None
        }
    }

    /// The value of a role that is a string. `body` is the one that was walked.
    #[inline]
    pub fn text<'a>(&self, body: &'a [u8], role: Role) -> Option<&'a str> {
        if self.present & self.forms.text & bit(role) == 0 {
            return None;
        }
        let text = self.slice(body, role)?;
        // Most are, and a look whether they are costs a fraction.
        if text.is_ascii() {
            // SAFETY: ASCII is UTF-8.
            return Some(unsafe { std::str::from_utf8_unchecked(text) });
        }
        std::str::from_utf8(text).ok()
    }

    /// The value of a role that is a string, bytes or a fixed. `body` is the one that was walked.
    #[inline]
    pub fn bytes<'a>(&self, body: &'a [u8], role: Role) -> Option<&'a [u8]> {
        if self.present & (self.forms.text | self.forms.bytes) & bit(role) == 0 {
            return None;
        }
        self.slice(body, role)
    }

    /// The value of a role that is an int or a long, in its own unit.
    #[inline]
    pub fn long(&self, role: Role) -> Option<i64> {
        if self.present & self.forms.integer & bit(role) == 0 {
            return None;
        }
        Some(self.slots[role as usize] as i64)
    }

    /// When it happened, in milliseconds since 1970, rounded down.
    #[inline]
    pub fn event_time_ms(&self) -> Option<i64> {
        let time = self.long(Role::EventTime)?;
        Some(match self.forms.per_milli {
            0 | 1 => time,
            per_milli => time.div_euclid(per_milli),
        })
    }

    #[inline]
    fn slice<'a>(&self, body: &'a [u8], role: Role) -> Option<&'a [u8]> {
        let slot = self.slots[role as usize];
        let (start, len) = (slot as u32 as usize, (slot >> 32) as usize);
        body.get(start..start.checked_add(len)?)
    }
}

#[inline]
fn bit(role: Role) -> u16 {
    1 << role as u16
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode;
    use crate::measurement::{MEASUREMENT, Measurement};
    use crate::resolve::resolve;
    use crate::roles::Overrides;

    const HEAD: &str = r#"{"name":"b","type":"string","role":"browser_id"},
        {"name":"e","type":"int","role":"event_id"},{"name":"t","type":"long","role":"event_time"}"#;

    fn schema(fields: &str) -> Schema {
        let json = format!(r#"{{"type":"record","name":"R","fields":[{HEAD},{fields}]}}"#);
        Schema::parse(&json).unwrap()
    }

    fn walk(schema: &Schema) -> Walk {
        let roles = Roles::find(schema, &Overrides::default()).unwrap();
        Walk::compile(schema, &roles, None).unwrap()
    }

    /// A body of [`HEAD`] and `rest`.
    fn body(rest: &[u8]) -> Vec<u8> {
        let mut body = vec![];
        encode::bytes("bröwser".as_bytes(), &mut body);
        encode::long(-7, &mut body);
        encode::long(1_700_000_000_123, &mut body);
        body.extend_from_slice(rest);
        body
    }

    /// What the walk says of the bytes after [`HEAD`], by the offset after it.
    fn verdict(fields: &str, rest: &[u8]) -> Result<(), (Fault, usize)> {
        let head = body(&[]).len();
        let result = walk(&schema(fields)).run(&body(rest), &mut Found::default());
        result.map_err(|e| (e.fault, e.at as usize - head))
    }

    #[test]
    fn the_default_measurement_gives_all_its_roles() {
        let measurement = Measurement {
            event_id: [7; 16],
            browser_id: "b-1",
            event_time: -1,
            effect: "ordered",
            entity: "order",
            cause: Some([9; 16]),
            url: Some("https://shop.example/a/very/long/path?with=a&query=in+it&und=größer"),
            ip: Some("192.0.2.1"),
            quantity: Some(-3),
            value: Some(i64::MIN),
            attributes: &[("status", "200"), ("bytes", "17")],
            ..Default::default()
        };
        let mut body = vec![];
        measurement.encode_body(&mut body);
        let mut found = Found::default();
        walk(&MEASUREMENT).run(&body, &mut found).unwrap();
        assert_eq!(found.bytes(&body, Role::EventId), Some(&[7; 16][..]));
        assert_eq!(found.text(&body, Role::BrowserId), Some("b-1"));
        assert_eq!(found.bytes(&body, Role::BrowserId), Some(&b"b-1"[..]));
        assert_eq!(found.event_time_ms(), Some(-1));
        assert_eq!(found.bytes(&body, Role::Cause), Some(&[9; 16][..]));
        assert_eq!(found.text(&body, Role::Cause), None);
        assert_eq!(found.text(&body, Role::Url), measurement.url);
        assert_eq!(found.long(Role::Value), Some(i64::MIN));
        assert!(!found.has(Role::Referrer));
        assert_eq!(found.form(Role::Referrer), Some(Form::Text));
    }

    #[test]
    fn every_truncation_of_a_measurement_is_an_error_at_its_end() {
        let mut body = vec![];
        Measurement {
            browser_id: "b",
            url: Some("/"),
            attributes: &[("a", "b")],
            ..Default::default()
        }
        .encode_body(&mut body);
        let walk = walk(&MEASUREMENT);
        let mut found = Found::default();
        assert_eq!(walk.run(&body, &mut found), Ok(()));
        for len in 0..body.len() {
            let error = walk.run(&body[..len], &mut found).unwrap_err();
            assert!(
                matches!(error.fault, Fault::Ends | Fault::Length),
                "{error}"
            );
            assert!(!found.has(Role::BrowserId));
        }
        body.push(0);
        let error = walk.run(&body, &mut found).unwrap_err();
        assert_eq!(
            (error.fault, error.at as usize),
            (Fault::Trailing, body.len() - 1)
        );
    }

    #[test]
    fn each_fault_is_told_at_its_byte() {
        let text = r#"{"name":"x","type":"string"}"#;
        let bytes = r#"{"name":"x","type":"bytes"}"#;
        let int = r#"{"name":"x","type":"int"}"#;
        let long = r#"{"name":"x","type":"long"}"#;
        let millis = r#"{"name":"x","type":{"type":"long","logicalType":"timestamp-millis"}}"#;
        let boolean = r#"{"name":"x","type":"boolean"}"#;
        let union = r#"{"name":"x","type":["int","null","string"]}"#;
        let option = r#"{"name":"x","type":["string","null"]}"#;
        let symbol = r#"{"name":"x","type":{"type":"enum","name":"E","symbols":["A","B"]}}"#;
        let array = r#"{"name":"x","type":{"type":"array","items":"boolean"}}"#;
        let map = r#"{"name":"x","type":{"type":"map","values":"long"}}"#;
        let nulls = r#"{"name":"x","type":{"type":"array","items":"null"}}"#;
        let uuid = r#"{"name":"x","type":{"type":"string","logicalType":"uuid"}}"#;
        let decimal =
            r#"{"name":"x","type":{"type":"bytes","logicalType":"decimal","precision":3}}"#;
        let uuid_text = b"\x480123abCD-0123-0123-0123-0123456789ab";
        let max = [0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        let min = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
        type Case<'a> = (&'a str, &'a [u8], Result<(), (Fault, usize)>);
        let cases: &[Case] = &[
            (text, b"\x02a", Ok(())),
            (text, b"\x04\xC3\xB6", Ok(())),
            (text, b"\x04\xC3\x28", Err((Fault::Utf8, 0))),
            (text, b"\x02\xC3\xB6", Err((Fault::Utf8, 0))),
            (text, b"\x04a", Err((Fault::Length, 0))),
            (text, b"\x01", Err((Fault::Length, 0))),
            (text, &max, Err((Fault::Length, 0))),
            (bytes, b"\x04\xC3\x28", Ok(())),
            (int, b"\xFE\xFF\xFF\xFF\x0F", Ok(())),
            (int, b"\xFE\xFF\xFF\xFF\x1F", Err((Fault::Int, 0))),
            (int, b"\x80\x00", Ok(())),
            (int, b"\x80", Err((Fault::Ends, 1))),
            (long, &max, Ok(())),
            (
                long,
                b"\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x02",
                Err((Fault::Number, 0)),
            ),
            (
                long,
                b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x00",
                Err((Fault::Number, 0)),
            ),
            (millis, b"\xFE\xFF", Err((Fault::Ends, 2))),
            (millis, &max, Err((Fault::Time, 0))),
            (boolean, b"\x01", Ok(())),
            (boolean, b"\x02", Err((Fault::Boolean, 0))),
            (boolean, b"", Err((Fault::Ends, 0))),
            (union, b"\x02", Ok(())),
            (union, b"\x04\x02a", Ok(())),
            (union, b"\x06", Err((Fault::Branch, 0))),
            (union, b"\x01", Err((Fault::Branch, 0))),
            (option, b"\x02", Ok(())),
            (option, b"\x00\x02a", Ok(())),
            (option, b"\x00\x02\xFF", Err((Fault::Utf8, 1))),
            (option, b"\x04", Err((Fault::Branch, 0))),
            (symbol, b"\x02", Ok(())),
            (symbol, b"\x04", Err((Fault::Symbol, 0))),
            (symbol, b"\x01", Err((Fault::Symbol, 0))),
            (array, b"\x04\x00\x01\x00", Ok(())),
            (array, b"\x02\x00\x02\x01\x00", Ok(())),
            (array, b"\x03\x04\x00\x01\x00", Ok(())),
            (array, b"\x03\x06\x00\x01\x00", Err((Fault::BlockSize, 4))),
            (array, b"\x03\x03\x00\x01\x00", Err((Fault::BlockSize, 0))),
            (array, &min, Err((Fault::Count, 0))),
            (array, &max, Err((Fault::Ends, 10))),
            (array, b"\x02\x02\x00", Err((Fault::Boolean, 1))),
            (map, b"\x02\x02k\x02\x00", Ok(())),
            (map, b"\x02\x02\xFF\x02\x00", Err((Fault::Utf8, 1))),
            (nulls, b"\x80\x10\x00", Ok(())),
            (nulls, b"\x82\x10\x00", Err((Fault::EmptyItems, 0))),
            (nulls, b"\x80\x10\x02\x00", Err((Fault::EmptyItems, 2))),
            (nulls, &max, Err((Fault::EmptyItems, 0))),
            (nulls, b"\x01\x02\x00", Err((Fault::BlockSize, 2))),
            (uuid, uuid_text, Ok(())),
            (uuid, b"\x02a", Err((Fault::Uuid, 0))),
            (decimal, b"\x04\x03\xE7", Ok(())),
            (decimal, b"\x04\x03\xE8", Err((Fault::Decimal, 0))),
            (decimal, b"\x04\xFC\x19", Ok(())),
            (decimal, b"\x04\xFC\x18", Err((Fault::Decimal, 0))),
            (decimal, b"\x00", Err((Fault::Decimal, 0))),
        ];
        for (fields, rest, expected) in cases {
            assert_eq!(verdict(fields, rest), *expected, "{fields} {rest:02X?}");
        }
    }

    #[test]
    fn an_error_is_explained_by_path_also_where_fields_are_stepped_over_at_once() {
        let schema = schema(
            r#"{"name":"x","type":{"type":"record","name":"X","fields":[{"name":"f","type":"float"},
            {"name":"d","type":["null",{"type":"record","name":"Y","fields":[{"name":"p","type":"double"},{"name":"q","type":"float"}]}]}]}},
            {"name":"list","type":{"type":"array","items":{"type":"map","values":"boolean"}}}"#,
        );
        let walk = walk(&schema);
        let explain = |rest: &[u8]| {
            let error = walk.run(&body(rest), &mut Found::default()).unwrap_err();
            walk.explain(error)
        };
        let ends = |at: usize, what: &str| format!("at byte {at}, {what}: the body ends here");
        assert_eq!(explain(&[0; 3]), ends(19, "x.f (float)"));
        assert_eq!(explain(&[0, 0, 0, 0, 2, 0]), ends(22, "x.d.p (double)"));
        assert_eq!(
            explain(&[0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 9]),
            ends(30, "x.d.q (float)")
        );
        assert_eq!(
            explain(&[0, 0, 0, 0, 0, 2, 2, 2, b'k', 7]),
            "at byte 25, list[]{} (boolean): a boolean that is neither 0 nor 1"
        );
    }

    #[test]
    fn roles_lie_also_in_nullable_records() {
        let json = r#"{"type":"record","name":"R","fields":[
            {"name":"n","type":["null",{"type":"record","name":"N","fields":[
                {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"},"role":"event_time"},
                {"name":"who","type":["string","null"],"role":"browser_id"}]}]},
            {"name":"e","type":"bytes","role":"event_id"}]}"#;
        let walk = walk(&Schema::parse(json).unwrap());
        let mut found = Found::default();
        let body = [2, 1, 0, 2, b'x', 4, 1, 2];
        walk.run(&body, &mut found).unwrap();
        assert_eq!(found.long(Role::EventTime), Some(-1));
        assert_eq!(found.event_time_ms(), Some(-1));
        assert_eq!(found.text(&body, Role::BrowserId), Some("x"));
        assert_eq!(found.bytes(&body, Role::EventId), Some(&[1, 2][..]));
        walk.run(&[0, 0], &mut found).unwrap();
        assert!(!found.has(Role::BrowserId) && !found.has(Role::EventTime));
    }

    #[test]
    fn what_a_reader_has_no_place_for_is_refused_with_the_reason() {
        let e = |symbols: &str| {
            format!(r#"{{"name":"s","type":{{"type":"enum","name":"E","symbols":[{symbols}]}}}}"#)
        };
        let writer = schema(&format!(
            r#"{{"name":"a","type":["null","string","long"]}},{},{{"name":"u","type":"string"}},{{"name":"y","type":"bytes"}}"#,
            e(r#""X","Y""#)
        ));
        let reader = schema(&format!(
            r#"{{"name":"a","type":["null","string"]}},{},{{"name":"u","type":{{"type":"string","logicalType":"uuid"}}}},{{"name":"y","type":"string"}}"#,
            e(r#""Y""#)
        ));
        let roles = Roles::find(&writer, &Overrides::default()).unwrap();
        let read = resolve(&writer, &reader).unwrap();
        let walk = Walk::compile(&writer, &roles, Some(&read)).unwrap();
        let explain = |rest: &[u8]| {
            let error = walk.run(&body(rest), &mut Found::default()).unwrap_err();
            walk.explain(error)
        };
        assert_eq!(
            explain(b"\x04\x00"),
            "at byte 16, a: a value of long, expected union of null and string"
        );
        assert_eq!(
            explain(b"\x00\x00"),
            "at byte 17, s: a symbol of enum E that the reader has not: one of X"
        );
        assert!(explain(b"\x00\x02\x02u\x00").contains("u (string): a string that is no UUID"));
        let uuid = b"\x00\x02\x480123abCD-0123-0123-0123-0123456789ab\x02\xFF";
        assert!(explain(uuid).contains("y (bytes): a string that is not UTF-8"));
    }

    #[test]
    fn a_walk_up_to_some_roles_stops_after_them() {
        let roles = Roles::find(&MEASUREMENT, &Overrides::default()).unwrap();
        let walk = Walk::up_to(&MEASUREMENT, &roles, Role::REQUIRED).unwrap();
        let mut body = vec![];
        Measurement {
            browser_id: "b",
            ip: Some("::1"),
            ..Default::default()
        }
        .encode_body(&mut body);
        let mut found = Found::default();
        walk.run(&body, &mut found).unwrap();
        assert_eq!(found.text(&body, Role::BrowserId), Some("b"));
        assert_eq!(found.event_time_ms(), Some(0));
        assert!(!found.has(Role::Ip));
        assert_eq!(found.form(Role::Ip), None);
    }

    #[test]
    fn parts_of_different_schemas_do_not_compile() {
        let roles = Roles::find(&MEASUREMENT, &Overrides::default()).unwrap();
        let other = schema(r#"{"name":"x","type":"int"}"#);
        assert!(matches!(
            Walk::compile(&other, &roles, None),
            Err(WalkError::Role { .. })
        ));
        let read = crate::resolve::identity(&MEASUREMENT);
        let roles = Roles::find(&other, &Overrides::default()).unwrap();
        assert!(matches!(
            Walk::compile(&other, &roles, Some(&read)),
            Err(WalkError::Reader { .. })
        ));
    }
}
