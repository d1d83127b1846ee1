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

use std::fmt;

use thiserror::Error;

use crate::resolve::Read;
use crate::role::Role;
use crate::roles::{Form, Roles, nullable};
use crate::schema::{Kind, Logical, Record, Schema, Type};

/// How many items without bytes (of an array of nulls, say) a body may have: they cost a reader
/// memory and the writer nothing.
pub const MAX_EMPTY_ITEMS: u32 = 1_024;

/// Values have a slot by their role; what has none goes to the last one, which nobody reads.
const SLOTS: usize = 16;
const NOWHERE: u8 = 15;
const _: () = assert!(Role::ALL.len() <= NOWHERE as usize);

/// One step. `slot` says where the value is noted, `null` is the first byte of a union's null.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Op {
    /// So many bytes, whatever they are.
    Fixed {
        slot: u8,
        len: u32,
    },
    Int {
        slot: u8,
    },
    Long {
        slot: u8,
    },
    Text {
        slot: u8,
    },
    Bytes {
        slot: u8,
    },
    OptionalFixed {
        null: u8,
        slot: u8,
        len: u32,
    },
    OptionalInt {
        null: u8,
        slot: u8,
    },
    OptionalLong {
        null: u8,
        slot: u8,
    },
    OptionalText {
        null: u8,
        slot: u8,
    },
    OptionalBytes {
        null: u8,
        slot: u8,
    },
    /// A union of null and what stands from here to `end`.
    Optional {
        null: u8,
        end: u32,
    },
    /// A branch by its index in `unions`, to its op or, with the highest bit, to the place of why
    /// it is refused.
    Union {
        table: u32,
    },
    Jump {
        to: u32,
    },
    Boolean,
    Enum {
        symbols: u32,
    },
    /// An enum of which a reader takes only some symbols, by index in `symbols`.
    EnumOfSome {
        table: u32,
    },
    /// A long of milliseconds that fit into 64 bits of microseconds.
    Millis {
        slot: u8,
    },
    /// A string that is a UUID.
    Uuid {
        slot: u8,
    },
    Decimal {
        precision: u8,
    },
    FixedDecimal {
        precision: u8,
        len: u32,
    },
    /// An array or a map: the ops of one item follow, then `Return`, then `end`.
    Blocks {
        end: u32,
    },
    /// An array whose items have no bytes.
    EmptyBlocks,
    /// A map of strings.
    TextMap,
    /// The end of an item or of the whole.
    Return,
}

const REFUSED: u32 = 1 << 31;

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

    /// A walk that stops after the last of `wanted`, without a look at what follows: for bodies
    /// that a whole walk has accepted before. It costs what lies before that field.
    pub fn up_to(schema: &Schema, roles: &Roles, wanted: &[Role]) -> Result<Walk, WalkError> {
        let last = wanted.iter().filter_map(|role| roles.path(*role)?.first());
        let fields = last.max().map_or(0, |last| last + 1);
        Compiler::new(schema, roles).compile(None, fields)
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
        std::str::from_utf8(self.slice(body, role)?).ok()
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

/// One run over one body.
struct Run<'a> {
    walk: &'a Walk,
    body: &'a [u8],
    slots: &'a mut [u64; SLOTS],
    present: u16,
    empty_items: u32,
}

/// Takes the value of a `Result<_, Fault>`, or returns the error of the op at hand.
macro_rules! take {
    ($run:expr, $pc:expr, $at:expr, $value:expr) => {
        match $value {
            Ok(value) => value,
            Err(fault) => return Err($run.walk.error(fault, $pc, $at, $run.body)),
        }
    };
}

impl Run<'_> {
    #[inline(always)]
    fn note(&mut self, slot: u8, value: u64) {
        let slot = slot & NOWHERE;
        self.slots[slot as usize] = value;
        self.present |= 1 << slot;
    }

    /// Runs the ops from `pc` to the next `Return` over the body from `at` on; gives where it
    /// came to. Calls itself once a level of arrays and maps, of which a schema has at most
    /// [`MAX_DEPTH`](crate::schema::MAX_DEPTH).
    fn ops(&mut self, mut pc: usize, mut at: usize) -> Result<usize, BodyError> {
        let body = self.body;
        let ops = &self.walk.ops[..];
        loop {
            let op = ops[pc];
            match op {
                Op::Text { slot } => {
                    let (start, end) = take!(self, pc, at, text(body, at));
                    self.note(slot, span(start, end));
                    at = end;
                }
                Op::OptionalText { null, slot } => {
                    if take!(self, pc, at, some(body, at, null)) {
                        let (start, end) = take!(self, pc, at + 1, text(body, at + 1));
                        self.note(slot, span(start, end));
                        at = end;
                    } else {
                        at += 1;
                    }
                }
                Op::Fixed { slot, len } => {
                    let end = take!(self, pc, at, fixed(body, at, len));
                    self.note(slot, span(at, end));
                    at = end;
                }
                Op::OptionalFixed { null, slot, len } => {
                    if take!(self, pc, at, some(body, at, null)) {
                        let end = take!(self, pc, at + 1, fixed(body, at + 1, len));
                        self.note(slot, span(at + 1, end));
                        at = end;
                    } else {
                        at += 1;
                    }
                }
                Op::Int { slot } => {
                    let (value, end) = take!(self, pc, at, int(body, at));
                    self.note(slot, value as u64);
                    at = end;
                }
                Op::OptionalInt { null, slot } => {
                    if take!(self, pc, at, some(body, at, null)) {
                        let (value, end) = take!(self, pc, at + 1, int(body, at + 1));
                        self.note(slot, value as u64);
                        at = end;
                    } else {
                        at += 1;
                    }
                }
                Op::Long { slot } => {
                    let (value, end) = take!(self, pc, at, long(body, at));
                    self.note(slot, value as u64);
                    at = end;
                }
                Op::OptionalLong { null, slot } => {
                    if take!(self, pc, at, some(body, at, null)) {
                        let (value, end) = take!(self, pc, at + 1, long(body, at + 1));
                        self.note(slot, value as u64);
                        at = end;
                    } else {
                        at += 1;
                    }
                }
                Op::Bytes { slot } => {
                    let (start, end) = take!(self, pc, at, length(body, at));
                    self.note(slot, span(start, end));
                    at = end;
                }
                Op::OptionalBytes { null, slot } => {
                    if take!(self, pc, at, some(body, at, null)) {
                        let (start, end) = take!(self, pc, at + 1, length(body, at + 1));
                        self.note(slot, span(start, end));
                        at = end;
                    } else {
                        at += 1;
                    }
                }
                Op::Optional { null, end } => {
                    let some = take!(self, pc, at, some(body, at, null));
                    at += 1;
                    if !some {
                        pc = end as usize;
                        continue;
                    }
                }
                Op::Union { table } => {
                    let (index, next) = take!(self, pc, at, long(body, at));
                    let branches = &self.walk.unions[table as usize];
                    let branch = usize::try_from(index).ok().and_then(|i| branches.get(i));
                    match branch {
                        None => take!(self, pc, at, Err(Fault::Branch)),
                        Some(place) if place & REFUSED != 0 => {
                            return Err(BodyError {
                                fault: Fault::Refused,
                                at: at as u32,
                                spot: place & !REFUSED,
                            });
                        }
                        Some(to) => {
                            at = next;
                            pc = *to as usize;
                            continue;
                        }
                    }
                }
                Op::Jump { to } => {
                    pc = to as usize;
                    continue;
                }
                Op::Boolean => match body.get(at) {
                    Some(0 | 1) => at += 1,
                    Some(_) => take!(self, pc, at, Err(Fault::Boolean)),
                    None => take!(self, pc, at, Err(Fault::Ends)),
                },
                Op::Enum { symbols } => {
                    let (index, end) = take!(self, pc, at, int(body, at));
                    if index < 0 || index >= i64::from(symbols) {
                        take!(self, pc, at, Err(Fault::Symbol));
                    }
                    at = end;
                }
                Op::EnumOfSome { table } => {
                    let (index, end) = take!(self, pc, at, int(body, at));
                    let symbols = &self.walk.symbols[table as usize];
                    match usize::try_from(index).ok().and_then(|i| symbols.get(i)) {
                        Some(true) => at = end,
                        Some(false) => take!(self, pc, at, Err(Fault::Refused)),
                        None => take!(self, pc, at, Err(Fault::Symbol)),
                    }
                }
                Op::Millis { slot } => {
                    let (value, end) = take!(self, pc, at, long(body, at));
                    if value.checked_mul(1_000).is_none() {
                        take!(self, pc, at, Err(Fault::Time));
                    }
                    self.note(slot, value as u64);
                    at = end;
                }
                Op::Uuid { slot } => {
                    let (start, end) = take!(self, pc, at, text(body, at));
                    if !is_uuid(&body[start..end]) {
                        take!(self, pc, at, Err(Fault::Uuid));
                    }
                    self.note(slot, span(start, end));
                    at = end;
                }
                Op::Decimal { precision } => {
                    let (start, end) = take!(self, pc, at, length(body, at));
                    if !is_decimal(&body[start..end], precision) {
                        take!(self, pc, at, Err(Fault::Decimal));
                    }
                    at = end;
                }
                Op::FixedDecimal { precision, len } => {
                    let end = take!(self, pc, at, fixed(body, at, len));
                    if !is_decimal(&body[at..end], precision) {
                        take!(self, pc, at, Err(Fault::Decimal));
                    }
                    at = end;
                }
                Op::TextMap => loop {
                    let block = take!(self, pc, at, block(body, at));
                    at = block.start;
                    if block.count == 0 {
                        break;
                    }
                    // Each pair has two bytes at least, so the count is bounded by the body.
                    for _ in 0..block.count {
                        (_, at) = take!(self, pc, at, text(body, at));
                        (_, at) = take!(self, pc, at, text(body, at));
                    }
                    take!(self, pc, at, block.ends(at));
                },
                Op::Blocks { end } => {
                    loop {
                        let block = take!(self, pc, at, block(body, at));
                        at = block.start;
                        if block.count == 0 {
                            break;
                        }
                        // Each item has a byte at least, so the count is bounded by the body.
                        for _ in 0..block.count {
                            at = self.ops(pc + 1, at)?;
                        }
                        take!(self, pc, at, block.ends(at));
                    }
                    pc = end as usize;
                    continue;
                }
                Op::EmptyBlocks => loop {
                    let block = take!(self, pc, at, block(body, at));
                    let left = MAX_EMPTY_ITEMS - self.empty_items;
                    if block.count > u64::from(left) {
                        take!(self, pc, at, Err(Fault::EmptyItems));
                    }
                    self.empty_items += block.count as u32;
                    at = block.start;
                    if block.count == 0 {
                        break;
                    }
                    take!(self, pc, at, block.ends(at));
                },
                Op::Return => return Ok(at),
            }
            pc += 1;
        }
    }
}

#[inline(always)]
fn span(start: usize, end: usize) -> u64 {
    start as u64 | ((end - start) as u64) << 32
}

/// Whether a union of null and another type has the other one at `at`. Both indexes are one byte;
/// an index in more bytes than it needs is told from them by [`Fault::Branch`], as no writer
/// makes it.
#[inline(always)]
pub(crate) fn some(body: &[u8], at: usize, null: u8) -> Result<bool, Fault> {
    match body.get(at) {
        Some(index) if *index == null => Ok(false),
        Some(index) if *index == 2 - null => Ok(true),
        Some(_) => Err(Fault::Branch),
        None => Err(Fault::Ends),
    }
}

#[inline(always)]
pub(crate) fn fixed(body: &[u8], at: usize, len: u32) -> Result<usize, Fault> {
    if body.len() - at < len as usize {
        return Err(Fault::Ends);
    }
    Ok(at + len as usize)
}

/// An unsigned varint at `at`, and where it ends.
#[inline(always)]
fn varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    match body.get(at) {
        Some(byte) if *byte < 0x80 => Ok((u64::from(*byte), at + 1)),
        // Two bytes: the lengths of most longer strings.
        Some(byte) => match body.get(at + 1) {
            Some(next) if *next < 0x80 => {
                Ok((u64::from(*byte & 0x7F) | u64::from(*next) << 7, at + 2))
            }
            _ => long_varint(body, at),
        },
        None => Err(Fault::Ends),
    }
}

#[inline]
fn long_varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let rest = &body[at..];
    if let Some(eight) = rest.first_chunk::<8>() {
        let word = u64::from_le_bytes(*eight);
        // The first byte without its highest bit is the last of the number.
        let last = !word & 0x8080_8080_8080_8080;
        if last != 0 {
            let end = last.trailing_zeros() + 1;
            let word = word & (u64::MAX >> (64 - end));
            // Seven bits of each byte, moved together in pairs, fours and eights.
            let word = word & 0x7F7F_7F7F_7F7F_7F7F;
            let word = (word & 0x007F_007F_007F_007F) | ((word & 0x7F00_7F00_7F00_7F00) >> 1);
            let word = (word & 0x0000_3FFF_0000_3FFF) | ((word & 0x3FFF_0000_3FFF_0000) >> 2);
            let word = (word & 0x0000_0000_0FFF_FFFF) | ((word & 0x0FFF_FFFF_0000_0000) >> 4);
            return Ok((word, at + end as usize / 8));
        }
    }
    slow_varint(body, at)
}

#[cold]
fn slow_varint(body: &[u8], at: usize) -> Result<(u64, usize), Fault> {
    let mut value = 0;
    for (i, byte) in body[at..].iter().enumerate() {
        if i == 9 && *byte > 1 {
            return Err(Fault::Number);
        }
        value |= u64::from(byte & 0x7F) << (7 * i);
        if *byte < 0x80 {
            return Ok((value, at + i + 1));
        }
    }
    Err(Fault::Ends)
}

#[inline(always)]
pub(crate) fn long(body: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let (value, end) = varint(body, at)?;
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), end))
}

#[inline(always)]
fn int(body: &[u8], at: usize) -> Result<(i64, usize), Fault> {
    let (value, end) = varint(body, at)?;
    if value > u64::from(u32::MAX) {
        return Err(Fault::Int);
    }
    Ok(((value >> 1) as i64 ^ -((value & 1) as i64), end))
}

/// A length at `at` and as many bytes after it: where they begin and end.
#[inline(always)]
pub(crate) fn length(body: &[u8], at: usize) -> Result<(usize, usize), Fault> {
    let (start, bytes, _) = counted(body, at)?;
    Ok((start, start + bytes.len()))
}

/// As [`length`], for bytes that must be UTF-8.
#[inline(always)]
fn text(body: &[u8], at: usize) -> Result<(usize, usize), Fault> {
    let (start, bytes, rest) = counted(body, at)?;
    if !is_ascii(bytes, rest) && !is_utf8(bytes) {
        return Err(Fault::Utf8);
    }
    Ok((start, start + bytes.len()))
}

/// A length at `at`: where what it counts begins, the bytes, and all there are from there on.
#[inline(always)]
fn counted(body: &[u8], at: usize) -> Result<(usize, &[u8], &[u8]), Fault> {
    let (value, start) = varint(body, at)?;
    let rest = body.get(start..).ok_or(Fault::Ends)?;
    // A negative length has its lowest bit set: it becomes one that is too long.
    let len = usize::try_from(value.rotate_right(1)).map_err(|_| Fault::Length)?;
    let bytes = rest.get(..len).ok_or(Fault::Length)?;
    Ok((start, bytes, rest))
}

#[inline(never)]
fn is_utf8(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok()
}

/// Whether `bytes`, the beginning of `rest`, are all ASCII. In steps so large that the usual lengths
/// take the same way: a loop whose end cannot be foreseen costs more than some bytes read twice.
#[inline(always)]
fn is_ascii(bytes: &[u8], rest: &[u8]) -> bool {
    let high = if let (Some(first), Some(last)) = (bytes.first_chunk::<32>(), bytes.last_chunk()) {
        let mut high = high_bits(first) | high_bits::<32>(last);
        if bytes.len() > 64 {
            for middle in bytes[32..].as_chunks::<32>().0 {
                high |= high_bits(middle);
            }
        }
        high
    } else if let (Some(first), Some(last)) = (bytes.first_chunk::<8>(), bytes.last_chunk::<8>()) {
        let mut high = high_bits(first) | high_bits(last);
        if let (Some(first), Some(last)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) {
            high |= high_bits(first) | high_bits(last);
        }
        high
    } else {
        // Under eight bytes: read eight and take those of the string.
        match rest.first_chunk::<8>() {
            Some(eight) => high_bits(eight) & !(u64::MAX << (8 * bytes.len() as u32)),
            None => u64::from(!bytes.is_ascii()),
        }
    };
    high == 0
}

/// Which bytes have their highest bit set, the eights of them put together.
#[inline(always)]
fn high_bits<const N: usize>(bytes: &[u8; N]) -> u64 {
    let eights = bytes.as_chunks::<8>().0.iter();
    eights.fold(0, |all, eight| all | u64::from_le_bytes(*eight)) & 0x8080_8080_8080_8080
}

/// The head of a block of an array or a map.
struct Block {
    count: u64,
    /// Where its items begin.
    start: usize,
    /// Where they end, if it says so.
    end: Option<usize>,
}

impl Block {
    #[inline(always)]
    fn ends(&self, at: usize) -> Result<(), Fault> {
        match self.end {
            Some(end) if end != at => Err(Fault::BlockSize),
            _ => Ok(()),
        }
    }
}

#[inline(always)]
fn block(body: &[u8], at: usize) -> Result<Block, Fault> {
    let (count, start) = long(body, at)?;
    if count < 0 {
        return sized_block(body, count, start);
    }
    Ok(Block {
        count: count as u64,
        start,
        end: None,
    })
}

#[inline(never)]
fn sized_block(body: &[u8], count: i64, at: usize) -> Result<Block, Fault> {
    let count = count.checked_neg().ok_or(Fault::Count)?;
    let (size, start) = long(body, at)?;
    if size < 0 || size as u64 > (body.len() - start) as u64 {
        return Err(Fault::BlockSize);
    }
    Ok(Block {
        count: count as u64,
        start,
        end: Some(start + size as usize),
    })
}

fn is_uuid(text: &[u8]) -> bool {
    text.len() == 36
        && text.iter().enumerate().all(|(i, byte)| match i {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// Whether a big-endian two's complement has at most `precision` (up to 38) digits.
fn is_decimal(bytes: &[u8], precision: u8) -> bool {
    let Some(first) = bytes.first() else {
        return false;
    };
    let negative = *first >= 0x80;
    let sign = if negative { 0xFF } else { 0 };
    // Bytes that only repeat the sign are no digits.
    let spare = bytes.len().saturating_sub(16);
    if bytes[..spare].iter().any(|byte| *byte != sign) {
        return false;
    }
    let mut value: i128 = if negative { -1 } else { 0 };
    for byte in &bytes[spare..] {
        value = value << 8 | i128::from(*byte);
    }
    if (value < 0) != negative {
        return false;
    }
    value.unsigned_abs() < 10_u128.pow(u32::from(precision.min(38)))
}

/// Compiles a schema to ops.
struct Compiler<'a> {
    schema: &'a Schema,
    roles: &'a Roles,
    /// The roles by their place, and whether they were met.
    wanted: Vec<(&'a [usize], Role, bool)>,
    indexes: Vec<usize>,
    path: String,
    walk: Walk,
    /// Ops before this one are jumped to: nothing may be merged into them.
    label: usize,
}

impl<'a> Compiler<'a> {
    fn new(schema: &'a Schema, roles: &'a Roles) -> Compiler<'a> {
        Compiler {
            schema,
            roles,
            wanted: roles
                .iter()
                .map(|(role, place)| (&place.indexes[..], role, false))
                .collect(),
            indexes: vec![],
            path: String::new(),
            walk: Walk {
                ops: vec![],
                unions: vec![],
                symbols: vec![],
                forms: Forms {
                    per_milli: 1,
                    ..Forms::default()
                },
                whole: true,
                spots: vec![],
                spot_of: vec![],
                merged: vec![],
            },
            label: 0,
        }
    }

    fn compile(mut self, reader: Option<&Read>, fields: usize) -> Result<Walk, WalkError> {
        let record = self.schema.record();
        self.record(record, reader, fields)?;
        self.push(Op::Return, "the record");
        self.walk.whole = fields >= record.fields.len();
        let missed = self
            .wanted
            .iter()
            .find(|(indexes, _, met)| !met && indexes.first().is_none_or(|first| *first < fields));
        if let Some((_, role, _)) = missed {
            return Err(self.foreign_role(*role));
        }
        Ok(self.walk)
    }

    fn foreign_role(&self, role: Role) -> WalkError {
        WalkError::Role {
            role,
            path: self
                .roles
                .place(role)
                .map_or(String::new(), |p| p.path.clone()),
            schema: self.schema.record().name.clone(),
        }
    }

    fn foreign_reader(&self, expected: &'static str, found: &Type) -> WalkError {
        WalkError::Reader {
            path: self.path.clone(),
            expected,
            found: found.to_string(),
        }
    }

    fn spot(&mut self, what: &str) -> u32 {
        self.walk.spots.push(Spot {
            path: self.path.clone(),
            what: what.to_owned(),
        });
        (self.walk.spots.len() - 1) as u32
    }

    fn push(&mut self, op: Op, what: &str) -> usize {
        let spot = self.spot(what);
        self.walk.ops.push(op);
        self.walk.spot_of.push(spot);
        self.walk.ops.len() - 1
    }

    /// Where the next op will be, so that it can be jumped to.
    fn mark(&mut self) -> u32 {
        self.label = self.walk.ops.len();
        self.label as u32
    }

    /// The slot for a value of this form at the place at hand.
    fn slot(&mut self, form: Form, ty: &Type) -> Result<u8, WalkError> {
        let at = self
            .wanted
            .iter()
            .position(|(indexes, ..)| *indexes == self.indexes);
        let Some(at) = at else { return Ok(NOWHERE) };
        let (_, role, met) = &mut self.wanted[at];
        let role = *role;
        // A second value at one place is one of a union of several types.
        if std::mem::replace(met, true) || self.roles.place(role).map(|p| p.form) != Some(form) {
            return Err(self.foreign_role(role));
        }
        let forms = &mut self.walk.forms;
        match form {
            Form::Text => forms.text |= bit(role),
            Form::Bytes => forms.bytes |= bit(role),
            Form::Integer => forms.integer |= bit(role),
        }
        if role == Role::EventTime {
            forms.per_milli = match ty.logical {
                Some(Logical::TimestampMicros) => 1_000,
                Some(Logical::TimestampNanos) => 1_000_000,
                _ => 1,
            };
        }
        Ok(role as u8)
    }

    fn record(
        &mut self,
        record: &Record,
        reader: Option<&Read>,
        limit: usize,
    ) -> Result<(), WalkError> {
        let reads = match reader {
            Some(Read::Record { fields, .. }) if fields.len() == record.fields.len() => {
                Some(fields)
            }
            Some(_) => {
                return Err(WalkError::Reader {
                    path: self.path.clone(),
                    expected: "something else or other fields",
                    found: format!("record {}", record.name),
                });
            }
            None => None,
        };
        let len = self.path.len();
        for (index, field) in record.fields.iter().enumerate().take(limit) {
            if !self.path.is_empty() {
                self.path.push('.');
            }
            self.path.push_str(&field.name);
            self.indexes.push(index);
            self.value(&field.ty, reads.map(|reads| &reads[index].1))?;
            self.indexes.pop();
            self.path.truncate(len);
        }
        Ok(())
    }

    fn value(&mut self, ty: &Type, reader: Option<&Read>) -> Result<(), WalkError> {
        let mut reader = reader;
        while let Some(Read::Into { read, .. }) = reader {
            reader = Some(read);
        }
        if let Some(Read::Skip(_)) = reader {
            reader = None;
        }
        if let Some(Read::Refuse(why)) = reader {
            // Nothing can be read here: a union whose every branch is refused.
            let spot = self.spot(why);
            let branches = vec![REFUSED | spot; 1].into();
            return self.refuse_all(branches);
        }
        // What the value must be for the reader, beside what it is.
        let to = match reader {
            Some(Read::Scalar { to, .. }) => Some(to),
            _ => None,
        };
        let what = ty.to_string();
        match &ty.kind {
            Kind::Null => {}
            Kind::Boolean => {
                self.push(Op::Boolean, &what);
            }
            Kind::Int => {
                let slot = self.slot(Form::Integer, ty)?;
                self.push(Op::Int { slot }, &what);
            }
            Kind::Long => {
                let slot = self.slot(Form::Integer, ty)?;
                let millis = [Some(ty), to].into_iter().flatten().any(|ty| {
                    matches!(
                        ty.logical,
                        Some(Logical::TimestampMillis | Logical::LocalTimestampMillis)
                    )
                });
                let op = if millis {
                    Op::Millis { slot }
                } else {
                    Op::Long { slot }
                };
                self.push(op, &what);
            }
            Kind::Float => self.skip(4, &what),
            Kind::Double => self.skip(8, &what),
            Kind::Fixed(fixed) => {
                let len = fixed.size as u32;
                let slot = self.slot(Form::Bytes, ty)?;
                if let Some(Logical::Decimal { precision, .. }) = ty.logical {
                    self.push(Op::FixedDecimal { precision, len }, &what);
                } else if slot == NOWHERE {
                    self.skip(len, &what);
                } else {
                    self.push(Op::Fixed { slot, len }, &what);
                }
            }
            Kind::String | Kind::Bytes => {
                let is_text = ty.kind == Kind::String;
                let form = if is_text { Form::Text } else { Form::Bytes };
                let slot = self.slot(form, ty)?;
                let wants = |kind: Kind, logical: Option<Logical>| {
                    (ty.kind == kind && (logical.is_none() || ty.logical == logical))
                        || to.is_some_and(|to| {
                            to.kind == kind && (logical.is_none() || to.logical == logical)
                        })
                };
                let op = if let Some(Logical::Decimal { precision, .. }) = ty.logical {
                    Op::Decimal { precision }
                } else if wants(Kind::String, Some(Logical::Uuid)) {
                    Op::Uuid { slot }
                } else if wants(Kind::String, None) {
                    Op::Text { slot }
                } else {
                    Op::Bytes { slot }
                };
                self.push(op, &what);
            }
            Kind::Enum(e) => match reader {
                Some(Read::Enum { symbols, .. }) if symbols.len() == e.symbols.len() => {
                    if symbols.iter().all(Option::is_some) {
                        let symbols = symbols.len() as u32;
                        self.push(Op::Enum { symbols }, &what);
                    } else {
                        let refused: Vec<&str> = e
                            .symbols
                            .iter()
                            .zip(symbols)
                            .filter_map(|(name, symbol)| symbol.is_none().then_some(&name[..]))
                            .collect();
                        let why = format!(
                            "a symbol of {what} that the reader has not: one of {}",
                            refused.join(", ")
                        );
                        let table = self.walk.symbols.len() as u32;
                        self.walk
                            .symbols
                            .push(symbols.iter().map(Option::is_some).collect());
                        self.push(Op::EnumOfSome { table }, &why);
                    }
                }
                Some(_) => return Err(self.foreign_reader("something else", ty)),
                None => {
                    let symbols = e.symbols.len() as u32;
                    self.push(Op::Enum { symbols }, &what);
                }
            },
            Kind::Array(item) => {
                let read = match reader {
                    Some(Read::Array(read)) => Some(&**read),
                    Some(_) => return Err(self.foreign_reader("something else", ty)),
                    None => None,
                };
                if is_empty(item) {
                    self.push(Op::EmptyBlocks, &what);
                } else {
                    self.blocks("[]", &what, |compiler| compiler.value(item, read))?;
                }
            }
            Kind::Map(value) => {
                let read = match reader {
                    Some(Read::Map(read)) => Some(&**read),
                    Some(_) => return Err(self.foreign_reader("something else", ty)),
                    None => None,
                };
                let blocks = self.blocks("{}", &what, |compiler| {
                    let slot = NOWHERE;
                    compiler.push(Op::Text { slot }, "the key of a map");
                    compiler.value(value, read)
                })?;
                let text = Op::Text { slot: NOWHERE };
                if self.walk.ops[blocks + 1..] == [text, text, Op::Return] {
                    self.walk.ops.truncate(blocks);
                    self.walk.spot_of.truncate(blocks);
                    self.push(Op::TextMap, &what);
                    self.mark();
                }
            }
            Kind::Union(branches) => {
                let reads = match reader {
                    Some(Read::Union(reads)) if reads.len() == branches.len() => Some(&reads[..]),
                    Some(_) => return Err(self.foreign_reader("something else", ty)),
                    None => None,
                };
                self.union(ty, branches, reads)?;
            }
            Kind::Record(record) => self.record(record, reader, usize::MAX)?,
        }
        Ok(())
    }

    fn refuse_all(&mut self, branches: Box<[u32]>) -> Result<(), WalkError> {
        let table = self.walk.unions.len() as u32;
        self.walk.unions.push(branches);
        self.push(Op::Union { table }, "nothing");
        Ok(())
    }

    /// Steps over `len` bytes, together with those before them where that can be.
    fn skip(&mut self, len: u32, what: &str) {
        let last = self.walk.ops.len().wrapping_sub(1);
        if self.walk.ops.len() > self.label
            && let Some(Op::Fixed {
                slot: NOWHERE,
                len: before,
            }) = self.walk.ops.last_mut()
            && let Some(sum) = before.checked_add(len)
        {
            let first = std::mem::replace(before, sum);
            let spot = self.spot(what);
            if self.walk.merged.last().is_none_or(|(op, _)| *op != last) {
                let first_spot = self.walk.spot_of[last];
                self.walk.merged.push((last, vec![(first, first_spot)]));
            }
            if let Some((_, parts)) = self.walk.merged.last_mut() {
                parts.push((len, spot));
            }
            return;
        }
        self.push(Op::Fixed { slot: NOWHERE, len }, what);
    }

    /// An array or a map; `item` compiles one item. Gives the place of its op.
    fn blocks(
        &mut self,
        step: &str,
        what: &str,
        item: impl FnOnce(&mut Self) -> Result<(), WalkError>,
    ) -> Result<usize, WalkError> {
        let op = self.push(Op::Blocks { end: 0 }, what);
        self.mark();
        let len = self.path.len();
        self.path.push_str(step);
        // No role lies below: no index but ours leads there.
        self.indexes.push(usize::MAX);
        item(self)?;
        self.indexes.pop();
        self.path.truncate(len);
        self.push(Op::Return, what);
        let end = self.mark();
        self.walk.ops[op] = Op::Blocks { end };
        Ok(op)
    }

    fn union(
        &mut self,
        ty: &Type,
        branches: &[Type],
        reads: Option<&[Read]>,
    ) -> Result<(), WalkError> {
        let what = ty.to_string();
        let refused = reads.is_some_and(|r| r.iter().any(|r| matches!(r, Read::Refuse(_))));
        let inner = nullable(ty);
        if !refused && !std::ptr::eq(inner, ty) {
            let (null, at) = if branches[0].kind == Kind::Null {
                (0, 1)
            } else {
                (2, 0)
            };
            let op = self.push(Op::Optional { null, end: 0 }, &what);
            self.mark();
            self.value(inner, reads.map(|reads| &reads[at]))?;
            let single = match self.walk.ops[op + 1..] {
                [Op::Text { slot }] => Some(Op::OptionalText { null, slot }),
                [Op::Bytes { slot }] => Some(Op::OptionalBytes { null, slot }),
                [Op::Int { slot }] => Some(Op::OptionalInt { null, slot }),
                [Op::Long { slot }] => Some(Op::OptionalLong { null, slot }),
                [Op::Fixed { slot, len }] => Some(Op::OptionalFixed { null, slot, len }),
                _ => None,
            };
            if let Some(single) = single {
                // Errors in a record of this one field are told by the field.
                if matches!(inner.kind, Kind::Record(_)) {
                    self.walk.spot_of[op] = self.walk.spot_of[op + 1];
                }
                for (at, _) in self.walk.merged.iter_mut().filter(|(at, _)| *at == op + 1) {
                    *at = op;
                }
                self.walk.ops.truncate(op + 1);
                self.walk.spot_of.truncate(op + 1);
                self.walk.ops[op] = single;
                self.mark();
            } else {
                let end = self.mark();
                self.walk.ops[op] = Op::Optional { null, end };
            }
            return Ok(());
        }
        let table = self.walk.unions.len();
        self.walk.unions.push(Box::default());
        self.push(
            Op::Union {
                table: table as u32,
            },
            &what,
        );
        let mut targets = vec![];
        let mut jumps = vec![];
        for (i, branch) in branches.iter().enumerate() {
            let read = reads.map(|reads| &reads[i]);
            if let Some(Read::Refuse(why)) = read {
                let at = format!("at {}: ", self.path);
                let spot = self.spot(why.strip_prefix(&at[..]).unwrap_or(why));
                targets.push(REFUSED | spot);
                continue;
            }
            targets.push(self.mark());
            self.value(branch, read)?;
            jumps.push(self.push(Op::Jump { to: 0 }, &what));
        }
        if refused {
            // Roles in a refused branch have no value in any body that is accepted.
            let at = &self.indexes;
            for (indexes, _, met) in &mut self.wanted {
                *met |= indexes.starts_with(at);
            }
        }
        let to = self.mark();
        for jump in jumps {
            self.walk.ops[jump] = Op::Jump { to };
        }
        self.walk.unions[table] = targets.into();
        Ok(())
    }
}

/// Whether values of this type have no bytes.
fn is_empty(ty: &Type) -> bool {
    match &ty.kind {
        Kind::Null => true,
        Kind::Fixed(fixed) => fixed.size == 0,
        Kind::Record(record) => record.fields.iter().all(|field| is_empty(&field.ty)),
        _ => false,
    }
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

    #[test]
    fn ascii_is_told_at_every_length_and_place() {
        for len in 0..140 {
            for high in 0..len {
                let mut body = vec![b'a'; len + 2];
                assert!(is_ascii(&body[1..1 + len], &body[1..]));
                body[0] = 0xFF;
                body[len + 1] = 0xFF;
                assert!(is_ascii(&body[1..1 + len], &body[1..]), "{len}");
                body[1 + high] = 0x80;
                assert!(!is_ascii(&body[1..1 + len], &body[1..]), "{len} {high}");
            }
        }
    }

    #[test]
    fn numbers_of_every_length_are_read_with_and_without_bytes_after_them() {
        for shift in 0..64 {
            for value in [
                1_i64 << shift,
                -(1_i64 << (shift % 63)),
                (1_i64 << shift).wrapping_sub(1),
            ] {
                let mut bytes = vec![];
                encode::long(value, &mut bytes);
                let end = bytes.len();
                assert_eq!(long(&bytes, 0), Ok((value, end)));
                bytes.extend([0xFF; 10]);
                assert_eq!(long(&bytes, 0), Ok((value, end)));
            }
        }
    }
}
