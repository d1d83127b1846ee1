//! Programs: how bodies of one writer's schema fill the columns. Compiled once from the resolution
//! of the two schemas and the layout of the columns, then run for each body, in the writer's order.

use std::sync::Arc;

use super::cursor::{Broken, Cursor, Fault};
use super::default::encode_default;
use super::layout::{Layout, MAX_FIXED, Node};
use super::store::{Full, StoreRef, Stores};
use super::{ColumnsError, Ids, MAX_OPS};
use crate::resolve::Read;
use crate::schema::{Kind, Logical, Type};

/// How bodies of one writer's schema fill columns. Made by [`Columns::program`].
///
/// [`Columns::program`]: super::Columns::program
pub struct Program {
    pub(super) layout: Arc<Layout>,
    pub(super) op: Op,
}

/// One step: reads something, pushes something, or both. Numbers are those of stores.
#[derive(Clone)]
pub(super) enum Op {
    Nothing,
    Skip(Box<Type>),
    Boolean(u32),
    Int(u32),
    Long(u32),
    /// A time in another unit; the flag says that it comes as an int.
    Time(u32, Unit),
    /// An int for a long.
    Widen(u32),
    Float(u32),
    ToFloat(u32, Number),
    Double(u32),
    ToDouble(u32, Number),
    Text(u32),
    /// A union of null, the branch of this number, and text.
    MaybeText(u32, u8),
    Bytes(u32),
    /// So many bytes for a fixed, for a byte string.
    Fixed(u32, u32),
    FixedBytes(u32, u32),
    Hex(u32),
    Uuid(u32),
    /// The digits; then the size, if fixed.
    Decimal(u32, u8),
    FixedDecimal(u32, u8, u32),
    /// By the writer's index the reader's, or -1.
    Symbol(u32, Box<[i32]>),
    List(u32, Box<Op>),
    Map(u32, u32, Box<Op>),
    /// A union of the writer.
    Union(Box<[Op]>),
    /// One after another.
    All(Box<Steps>),
    Present(StoreRef),
    Absent(StoreRef),
    AbsentAll(Box<[StoreRef]>),
    /// Reads these bytes instead of the body.
    Default(Box<(Vec<u8>, Op)>),
    Refuse(Box<str>),
}

/// Steps with the names that an error in them shows; some have none.
#[derive(Clone)]
pub(super) struct Steps {
    ops: Vec<Op>,
    names: Vec<String>,
}

impl Steps {
    fn push(&mut self, name: &str, op: Op) {
        if !matches!(op, Op::Nothing) {
            self.ops.push(op);
            self.names.push(name.to_owned());
        }
    }
}

/// From what to microseconds.
#[derive(Clone, Copy)]
pub(super) enum Unit {
    /// From an `int`: a time of day always fits.
    DayMillis,
    /// From a `long`, or from an `int` that is read as one.
    Millis,
    IntMillis,
    Nanos,
    IntNanos,
}

/// What is written where something wider is read.
#[derive(Clone, Copy)]
pub(super) enum Number {
    Int,
    Long,
    Float,
}

pub(super) fn compile(layout: &Arc<Layout>, read: &Read) -> Result<Program, ColumnsError> {
    if !matches!(read, Read::Record { reader, .. } if *reader == layout.record) {
        return Err(ColumnsError::Foreign {
            path: String::new(),
        });
    }
    let mut compiler = Compiler {
        layout,
        path: vec![],
        ops: 0,
    };
    let op = compiler.op(read, &layout.root)?;
    Ok(Program {
        layout: layout.clone(),
        op,
    })
}

struct Compiler<'a> {
    layout: &'a Layout,
    path: Vec<String>,
    ops: usize,
}

impl Compiler<'_> {
    fn op(&mut self, read: &Read, node: &Node) -> Result<Op, ColumnsError> {
        self.ops += 1;
        if self.ops > MAX_OPS {
            return Err(ColumnsError::TooMany { path: self.path() });
        }
        Ok(match (read, node) {
            (Read::Skip(ty), _) => {
                self.weigh(ty)?;
                Op::Skip(Box::new(ty.clone()))
            }
            (Read::Refuse(why), _) => Op::Refuse(why.as_str().into()),
            (Read::Union(reads), _) => {
                let ops = reads.iter().map(|read| self.op(read, node));
                let ops = ops.collect::<Result<Box<[Op]>, _>>()?;
                match ops[..] {
                    [Op::Absent(_), Op::Text(at)] => Op::MaybeText(at, 0),
                    [Op::Text(at), Op::Absent(_)] => Op::MaybeText(at, 1),
                    _ => Op::Union(ops),
                }
            }
            (Read::Into { branch, .. }, Node::One { null, .. }) if *null == Some(*branch) => {
                absent(node)
            }
            (Read::Into { read, .. }, Node::One { node, .. }) => self.op(read, node)?,
            (
                Read::Into { branch, read, .. },
                Node::Many {
                    group,
                    branches,
                    names,
                },
            ) => {
                let mut steps = Steps {
                    ops: vec![],
                    names: vec![],
                };
                let Some(Some(chosen)) = branches.get(*branch) else {
                    return Ok(absent(node));
                };
                if let Some(group) = group {
                    steps.push("", Op::Present(StoreRef::Group(*group)));
                }
                for (at, other) in branches.iter().enumerate() {
                    if let Some(other) = other
                        && at != *branch
                    {
                        steps.push("", absent(other));
                    }
                }
                self.path.push(names[*branch].clone());
                steps.push(&names[*branch], self.op(read, chosen)?);
                self.path.pop();
                Op::All(Box::new(steps))
            }
            (
                Read::Record {
                    fields,
                    defaults,
                    reader,
                },
                Node::Struct { own, fields: nodes },
            ) if nodes.len() == reader.fields.len() => {
                let mut steps = Steps {
                    ops: vec![],
                    names: vec![],
                };
                if let Some(own) = own {
                    steps.push("", Op::Present(*own));
                }
                for (index, (to, read)) in fields.iter().enumerate() {
                    let name = match to {
                        Some(to) => reader.fields[*to].name.clone(),
                        None => format!("#{index}"),
                    };
                    self.path.push(name);
                    let node = to.map_or(&Node::Void, |to| &nodes[to]);
                    let op = self.op(read, node)?;
                    let name = self.path.pop().unwrap_or_default();
                    steps.push(&name, op);
                }
                for (to, ty, json) in defaults {
                    let name = &reader.fields[*to].name;
                    self.path.push(name.clone());
                    steps.push(name, self.default(json, ty, &nodes[*to])?);
                    self.path.pop();
                }
                Op::All(Box::new(steps))
            }
            (Read::Array(read), Node::List(at, item)) => {
                self.path.push("[]".into());
                let op = self.op(read, item)?;
                self.path.pop();
                Op::List(*at, Box::new(op))
            }
            (Read::Map(read), Node::Map { at, keys, value }) => {
                self.path.push("{}".into());
                let op = self.op(read, value)?;
                self.path.pop();
                Op::Map(*at, *keys, Box::new(op))
            }
            (Read::Enum { symbols, .. }, Node::Symbols(at, _)) => Op::Symbol(
                *at,
                symbols.iter().map(|s| s.map_or(-1, |s| s as i32)).collect(),
            ),
            (Read::Scalar { from, to }, Node::Void) => match (&from.kind, &to.kind) {
                (Kind::Null, Kind::Null) => Op::Nothing,
                (Kind::Fixed(fixed), Kind::Fixed(_)) if fixed.size == 0 => Op::Nothing,
                _ => return Err(self.foreign()),
            },
            (Read::Scalar { from, to }, Node::Leaf(store)) => {
                scalar(from, to, *store, self.layout.ids).ok_or_else(|| self.foreign())?
            }
            _ => return Err(self.foreign()),
        })
    }

    /// Reading a default is reading a body that holds it and nothing else.
    fn default(
        &mut self,
        json: &serde_json::Value,
        ty: &Type,
        node: &Node,
    ) -> Result<Op, ColumnsError> {
        let wrong = |this: &Self| ColumnsError::Default {
            path: this.path(),
            default: json.to_string(),
            ty: ty.to_string(),
        };
        let mut body = vec![];
        if !encode_default(json, ty, &mut body) {
            return Err(wrong(self));
        }
        let op = self.op(&as_itself(ty), node)?;
        // Once for all: what could go wrong with it goes wrong here.
        let mut cursor = Cursor::new(&body);
        let read = run(&mut self.layout.stores.clone(), &op, &mut cursor);
        if read.and_then(|()| cursor.end()).is_err() {
            return Err(wrong(self));
        }
        // Of a union only the branch of the default is ever read; most often it is null.
        let mut cursor = Cursor::new(&body);
        let mut op = op;
        while let Op::Union(_) | Op::MaybeText(..) = op {
            let branch = cursor.long().unwrap_or_default() as usize;
            op = match op {
                Op::Union(branches) => branches[branch].clone(),
                Op::MaybeText(at, null) if branch == usize::from(null) => {
                    Op::Absent(StoreRef::Text(at))
                }
                Op::MaybeText(at, _) => Op::Text(at),
                other => other,
            };
        }
        let body = body[cursor.at()..].to_vec();
        Ok(match op {
            Op::Nothing | Op::Absent(_) | Op::AbsentAll(_) | Op::Present(_) => op,
            op => Op::Default(Box::new((body, op))),
        })
    }

    /// A type may be named many times in another, and so on: counted, since each is walked.
    fn weigh(&mut self, ty: &Type) -> Result<(), ColumnsError> {
        self.ops += 1;
        if self.ops > MAX_OPS {
            return Err(ColumnsError::TooMany { path: self.path() });
        }
        match &ty.kind {
            Kind::Array(inner) | Kind::Map(inner) => self.weigh(inner),
            Kind::Union(branches) => branches.iter().try_for_each(|b| self.weigh(b)),
            Kind::Record(record) => record.fields.iter().try_for_each(|f| self.weigh(&f.ty)),
            _ => Ok(()),
        }
    }

    fn path(&self) -> String {
        self.path.join(".")
    }

    fn foreign(&self) -> ColumnsError {
        ColumnsError::Foreign { path: self.path() }
    }
}

/// A value that is not there, in all stores that it would have grown.
fn absent(node: &Node) -> Op {
    let mut stores = vec![];
    node.stores(&mut stores);
    match stores[..] {
        [] => Op::Nothing,
        [store] => Op::Absent(store),
        _ => Op::AbsentAll(stores.into()),
    }
}

/// How to read a value of a type as itself.
fn as_itself(ty: &Type) -> Read {
    match &ty.kind {
        Kind::Array(item) => Read::Array(Box::new(as_itself(item))),
        Kind::Map(value) => Read::Map(Box::new(as_itself(value))),
        Kind::Enum(e) => Read::Enum {
            symbols: (0..e.symbols.len() as u32).map(Some).collect(),
            reader: e.clone(),
        },
        Kind::Union(branches) => {
            let into = |(branch, ty)| Read::Into {
                branch,
                branches: branches.len(),
                read: Box::new(as_itself(ty)),
            };
            Read::Union(branches.iter().enumerate().map(into).collect())
        }
        Kind::Record(record) => Read::Record {
            fields: (record.fields.iter().enumerate())
                .map(|(at, field)| (Some(at), as_itself(&field.ty)))
                .collect(),
            defaults: vec![],
            reader: record.clone(),
        },
        _ => Read::Scalar {
            from: ty.clone(),
            to: ty.clone(),
        },
    }
}

fn scalar(from: &Type, to: &Type, store: StoreRef, ids: Ids) -> Option<Op> {
    let int = from.kind == Kind::Int;
    Some(match (&from.kind, &to.kind, store) {
        (Kind::Null, Kind::Null, store) => Op::Absent(store),
        (Kind::Boolean, Kind::Boolean, StoreRef::Flag(at)) => Op::Boolean(at),
        (Kind::Int, Kind::Int, StoreRef::Int(at)) => Op::Int(at),
        (Kind::Int, Kind::Int, StoreRef::Long(at)) => Op::Time(at, Unit::DayMillis),
        (Kind::Int | Kind::Long, Kind::Long, StoreRef::Long(at)) => match to.logical {
            Some(Logical::TimestampMillis | Logical::LocalTimestampMillis) if int => {
                Op::Time(at, Unit::IntMillis)
            }
            Some(Logical::TimestampNanos | Logical::LocalTimestampNanos) if int => {
                Op::Time(at, Unit::IntNanos)
            }
            Some(Logical::TimestampMillis | Logical::LocalTimestampMillis) => {
                Op::Time(at, Unit::Millis)
            }
            Some(Logical::TimestampNanos | Logical::LocalTimestampNanos) => {
                Op::Time(at, Unit::Nanos)
            }
            _ if int => Op::Widen(at),
            _ => Op::Long(at),
        },
        (Kind::Float, Kind::Float, StoreRef::Float(at)) => Op::Float(at),
        (from, Kind::Float, StoreRef::Float(at)) => Op::ToFloat(at, number(from)?),
        (Kind::Double, Kind::Double, StoreRef::Double(at)) => Op::Double(at),
        (from, Kind::Double, StoreRef::Double(at)) => Op::ToDouble(at, number(from)?),
        (Kind::Bytes, Kind::Bytes, StoreRef::Decimal(at)) => Op::Decimal(at, digits(to)?),
        (Kind::Fixed(fixed), Kind::Fixed(_), StoreRef::Decimal(at)) => {
            Op::FixedDecimal(at, digits(to)?, fixed.size as u32)
        }
        (Kind::Bytes, Kind::Bytes, StoreRef::Text(at)) => Op::Bytes(at),
        // What was written as text is text, whatever it is read as.
        (Kind::String | Kind::Bytes, Kind::String | Kind::Bytes, StoreRef::Text(at)) => {
            Op::Text(at)
        }
        (Kind::Fixed(fixed), Kind::Fixed(_), StoreRef::Flag(_)) if fixed.size == 0 => {
            Op::Present(store)
        }
        (Kind::Fixed(fixed), Kind::Fixed(_), StoreRef::Text(at)) => {
            match (fixed.size, ids, to.logical) {
                (16, Ids::Hex, Some(Logical::Uuid)) => Op::Uuid(at),
                (16, Ids::Hex, _) => Op::Hex(at),
                (size, ..) => Op::FixedBytes(at, size as u32),
            }
        }
        (Kind::Fixed(fixed), Kind::Fixed(_), StoreRef::Fixed(at)) if fixed.size <= MAX_FIXED => {
            Op::Fixed(at, fixed.size as u32)
        }
        _ => return None,
    })
}

fn number(kind: &Kind) -> Option<Number> {
    match kind {
        Kind::Int => Some(Number::Int),
        Kind::Long => Some(Number::Long),
        Kind::Float => Some(Number::Float),
        _ => None,
    }
}

fn digits(ty: &Type) -> Option<u8> {
    match ty.logical {
        Some(Logical::Decimal { precision, .. }) => Some(precision),
        _ => None,
    }
}

/// Runs one step. On an error the stores are in disorder above the rows that they had before.
#[inline]
pub(super) fn run(s: &mut Stores, op: &Op, c: &mut Cursor) -> Result<(), Fault> {
    // Texts are most of what comes: they take the short way, without a call.
    let at = match op {
        Op::Text(at) => *at,
        Op::MaybeText(at, null) => {
            let found = c.long()?;
            if found == i64::from(*null) {
                s.texts[*at as usize].absent();
                return Ok(());
            }
            if found != i64::from(*null ^ 1) {
                return Err(c.fault(Broken::Branch { found, branches: 2 }));
            }
            *at
        }
        _ => return other(s, op, c),
    };
    let text = c.text()?;
    push(&mut s.texts[at as usize], text, c)
}

#[inline(never)]
fn other(s: &mut Stores, op: &Op, c: &mut Cursor) -> Result<(), Fault> {
    match op {
        Op::Nothing => {}
        Op::Text(_) | Op::MaybeText(..) => run(s, op, c)?,
        Op::All(steps) => {
            for (at, op) in steps.ops.iter().enumerate() {
                run(s, op, c).map_err(|fault| within(&steps.names[at], fault))?;
            }
        }
        Op::Union(branches) => {
            let found = c.long()?;
            match usize::try_from(found).ok().and_then(|i| branches.get(i)) {
                Some(op) => return run(s, op, c),
                None => {
                    let branches = branches.len();
                    return Err(c.fault(Broken::Branch { found, branches }));
                }
            }
        }
        Op::Absent(store) => s.absent(*store),
        Op::AbsentAll(stores) => stores.iter().for_each(|store| s.absent(*store)),
        Op::Present(store) => s.present(*store),
        Op::Boolean(at) => s.flags[*at as usize].push(c.boolean()?),
        Op::Int(at) => s.ints[*at as usize].push(c.int()?),
        Op::Long(at) => s.longs[*at as usize].push(c.long()?),
        Op::Widen(at) => s.longs[*at as usize].push(c.int()?.into()),
        Op::Time(at, unit) => {
            let time = match unit {
                Unit::DayMillis | Unit::IntMillis | Unit::IntNanos => c.int()?.into(),
                Unit::Millis | Unit::Nanos => c.long()?,
            };
            let micros = match unit {
                Unit::DayMillis | Unit::IntMillis | Unit::Millis => time.checked_mul(1000),
                Unit::Nanos | Unit::IntNanos => Some(time.div_euclid(1000)),
            };
            let micros = micros.ok_or_else(|| c.fault(Broken::Time(time)))?;
            s.longs[*at as usize].push(micros);
        }
        Op::Float(at) => s.floats[*at as usize].push(f32::from_le_bytes(*c.array()?)),
        Op::ToFloat(at, from) => {
            let value = match from {
                Number::Int => c.int()? as f32,
                Number::Long => c.long()? as f32,
                Number::Float => f32::from_le_bytes(*c.array()?),
            };
            s.floats[*at as usize].push(value);
        }
        Op::Double(at) => s.doubles[*at as usize].push(f64::from_le_bytes(*c.array()?)),
        Op::ToDouble(at, from) => {
            let value = match from {
                Number::Int => c.int()?.into(),
                Number::Long => c.long()? as f64,
                Number::Float => f32::from_le_bytes(*c.array()?).into(),
            };
            s.doubles[*at as usize].push(value);
        }
        Op::Bytes(at) => {
            let bytes = c.bytes()?;
            push(&mut s.texts[*at as usize], bytes, c)?;
        }
        Op::Fixed(at, size) => s.fixeds[*at as usize].push(c.take(*size as usize)?),
        Op::FixedBytes(at, size) => {
            let bytes = c.take(*size as usize)?;
            push(&mut s.texts[*at as usize], bytes, c)?;
        }
        Op::Hex(at) => {
            let text = hex(c.array()?);
            push(&mut s.texts[*at as usize], &text, c)?;
        }
        Op::Uuid(at) => {
            let text = uuid(c.array()?);
            push(&mut s.texts[*at as usize], &text, c)?;
        }
        Op::Decimal(at, digits) => {
            let bytes = c.bytes()?;
            s.decimals[*at as usize].push(decimal(bytes, *digits, c)?);
        }
        Op::FixedDecimal(at, digits, size) => {
            let bytes = c.take(*size as usize)?;
            s.decimals[*at as usize].push(decimal(bytes, *digits, c)?);
        }
        Op::Symbol(at, symbols) => {
            let symbol = c.long()?;
            let index = usize::try_from(symbol).ok();
            match index.and_then(|i| symbols.get(i)) {
                Some(-1) => return Err(c.fault(Broken::UnknownSymbol(index.unwrap_or(0)))),
                Some(to) => s.ints[*at as usize].push(*to),
                None => {
                    return Err(c.fault(Broken::Symbol {
                        found: symbol,
                        symbols: symbols.len(),
                    }));
                }
            }
        }
        Op::List(at, item) => {
            let items = c
                .blocks(|c| run(s, item, c))
                .map_err(|fault| within("[]", fault))?;
            let pushed = s.lists[*at as usize].push(items);
            pushed.map_err(|Full| c.fault(Broken::Full))?;
        }
        Op::Map(at, keys, value) => {
            let entry = |c: &mut Cursor| {
                let key = c.text()?;
                push(&mut s.texts[*keys as usize], key, c)?;
                run(s, value, c)
            };
            let items = c.blocks(entry).map_err(|fault| within("{}", fault))?;
            let pushed = s.lists[*at as usize].push(items);
            pushed.map_err(|Full| c.fault(Broken::Full))?;
        }
        Op::Default(default) => {
            // Tried when the program was made; only a full column can still stand in its way.
            let (body, op) = &**default;
            run(s, op, &mut Cursor::new(body)).map_err(|fault| c.fault(fault.what))?;
        }
        Op::Skip(ty) => skip(ty, c)?,
        Op::Refuse(why) => return Err(c.fault(Broken::Refused(why.to_string()))),
    }
    Ok(())
}

#[inline]
fn push(texts: &mut super::store::Texts, value: &[u8], c: &Cursor) -> Result<(), Fault> {
    texts.push(value).map_err(|Full| c.fault(Broken::Full))
}

#[cold]
fn within(name: &str, mut fault: Fault) -> Fault {
    if !name.is_empty() {
        let dot = if fault.path.is_empty() || fault.path.starts_with(['[', '{']) {
            ""
        } else {
            "."
        };
        fault.path = format!("{name}{dot}{}", fault.path);
    }
    fault
}

fn skip(ty: &Type, c: &mut Cursor) -> Result<(), Fault> {
    match &ty.kind {
        Kind::Null => {}
        Kind::Boolean => drop(c.boolean()?),
        Kind::Int => drop(c.int()?),
        Kind::Long => drop(c.long()?),
        Kind::Float => drop(c.take(4)?),
        Kind::Double => drop(c.take(8)?),
        Kind::Bytes | Kind::String => drop(c.bytes()?),
        Kind::Fixed(fixed) => drop(c.take(fixed.size)?),
        Kind::Enum(e) => {
            let found = c.long()?;
            if usize::try_from(found).map_or(true, |i| i >= e.symbols.len()) {
                let symbols = e.symbols.len();
                return Err(c.fault(Broken::Symbol { found, symbols }));
            }
        }
        Kind::Array(item) => drop(c.blocks(|c| skip(item, c))?),
        Kind::Map(value) => drop(c.blocks(|c| {
            c.bytes()?;
            skip(value, c)
        })?),
        Kind::Union(branches) => {
            let found = c.long()?;
            match usize::try_from(found).ok().and_then(|i| branches.get(i)) {
                Some(branch) => skip(branch, c)?,
                None => {
                    let branches = branches.len();
                    return Err(c.fault(Broken::Branch { found, branches }));
                }
            }
        }
        Kind::Record(record) => {
            for field in &record.fields {
                skip(&field.ty, c)?;
            }
        }
    }
    Ok(())
}

fn hex(id: &[u8; 16]) -> [u8; 32] {
    let mut text = [0; 32];
    let (fours, _) = id.as_chunks();
    let (eights, _) = text.as_chunks_mut();
    for (four, eight) in fours.iter().zip(eights) {
        *eight = hex_digits(*four);
    }
    text
}

/// All eight at once: one nibble a byte of a word, then from 0 to 15 to its digit.
fn hex_digits(bytes: [u8; 4]) -> [u8; 8] {
    let mut word = u64::from(u32::from_be_bytes(bytes));
    word = (word | (word << 16)) & 0x0000_FFFF_0000_FFFF;
    word = (word | (word << 8)) & 0x00FF_00FF_00FF_00FF;
    word = (word | (word << 4)) & 0x0F0F_0F0F_0F0F_0F0F;
    let ones = 0x0101_0101_0101_0101;
    let letters = ((word + 6 * ones) >> 4) & ones;
    let past_nine = u64::from(b'a' - b'9' - 1);
    (word + u64::from(b'0') * ones + past_nine * letters).to_be_bytes()
}

/// In the groups of RFC 9562.
fn uuid(id: &[u8; 16]) -> [u8; 36] {
    let hex = hex(id);
    let mut text = [b'-'; 36];
    for (at, from, to) in [
        (0, 0, 8),
        (9, 8, 12),
        (14, 12, 16),
        (19, 16, 20),
        (24, 20, 32),
    ] {
        text[at..at + to - from].copy_from_slice(&hex[from..to]);
    }
    text
}

/// Two's complement, the first byte first, in as many bytes as the writer liked.
fn decimal(bytes: &[u8], digits: u8, c: &Cursor) -> Result<i128, Fault> {
    let wide = || c.fault(Broken::Decimal(digits));
    let negative = bytes.first().is_some_and(|first| *first >= 0x80);
    let sign = if negative { 0xFF } else { 0 };
    let (above, low) = bytes.split_at(bytes.len().saturating_sub(16));
    if above.iter().any(|byte| *byte != sign) {
        return Err(wide());
    }
    let mut whole = [sign; 16];
    whole[16 - low.len()..].copy_from_slice(low);
    let value = i128::from_be_bytes(whole);
    // Bytes above the sixteen may be a sign that the sixteen deny.
    if (value < 0) != negative || value.unsigned_abs() >= 10_u128.pow(digits.into()) {
        return Err(wide());
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_become_the_usual_text() {
        let id: [u8; 16] = std::array::from_fn(|i| (i * 17) as u8);
        assert_eq!(&hex(&id), b"00112233445566778899aabbccddeeff");
        assert_eq!(&uuid(&id), b"00112233-4455-6677-8899-aabbccddeeff");
        for byte in 0..=255_u8 {
            let text = String::from_utf8(hex(&[byte; 16]).to_vec()).unwrap();
            assert_eq!(text, format!("{byte:02x}").repeat(16));
        }
    }

    #[test]
    fn decimals_are_read_in_any_number_of_bytes_and_held_to_their_digits() {
        let c = Cursor::new(&[]);
        let read = |bytes: &[u8], digits| decimal(bytes, digits, &c).map_err(|e| e.what);
        assert_eq!(read(&[], 3), Ok(0));
        assert_eq!(read(&[0x03, 0xE7], 3), Ok(999));
        assert_eq!(read(&[0x03, 0xE8], 3), Err(Broken::Decimal(3)));
        assert_eq!(read(&[0xFC, 0x19], 3), Ok(-999));
        let mut long = [0xFF; 40];
        assert_eq!(read(&long, 1), Ok(-1));
        long[3] = 0xFE;
        assert_eq!(read(&long, 38), Err(Broken::Decimal(38)));
        let mut denied = [0xFF; 17];
        denied[1] = 0x7F;
        assert_eq!(read(&denied, 38), Err(Broken::Decimal(38)));
    }
}
