//! The steps of a walk, and one run of them over a body: the loop that every measurement meets.

use super::bytes::{block, fixed, int, is_decimal, is_uuid, length, long, some, text};
use super::{BodyError, Fault, MAX_EMPTY_ITEMS, Walk};
use crate::role::Role;

/// Values have a slot by their role; what has none goes to the last one, which nobody reads.
pub(super) const SLOTS: usize = 16;
pub(super) const NOWHERE: u8 = 15;
const _: () = assert!(Role::ALL.len() <= NOWHERE as usize);

/// One step. `slot` says where the value is noted, `null` is the first byte of a union's null.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Op {
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

pub(super) const REFUSED: u32 = 1 << 31;

/// One run over one body.
pub(super) struct Run<'a> {
    pub(super) walk: &'a Walk,
    pub(super) body: &'a [u8],
    pub(super) slots: &'a mut [u64; SLOTS],
    pub(super) present: u16,
    pub(super) empty_items: u32,
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
    pub(super) fn ops(&mut self, mut pc: usize, mut at: usize) -> Result<usize, BodyError> {
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
