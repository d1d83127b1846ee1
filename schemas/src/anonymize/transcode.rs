//! Anonymized bodies from bodies: one pass, ranges copied, values replaced on the way.
//!
//! What is skipped and copied has been walked over at the source; here it is only made sure that
//! nothing is read beyond the body, nothing is done that the body's length does not pay for, and
//! an error leaves nothing behind.

use crate::encode;
use crate::key::{Digits, EventKey};
use crate::pseudonym::{Kind as IdKind, Salt, hex, text_value};
use crate::schema::{Kind, Logical, Record, Type};
use crate::walk::{Fault, MAX_EMPTY_ITEMS};

use super::BodyError;
use super::address::generalize;
use super::plan::{Plan, stays_fixed};

type Result<T> = std::result::Result<T, BodyError>;

/// A body that is read.
pub(super) struct Body<'a> {
    body: &'a [u8],
    at: usize,
    empty_items: u32,
}

impl<'a> Body<'a> {
    pub fn new(body: &'a [u8]) -> Body<'a> {
        Body {
            body,
            at: 0,
            empty_items: 0,
        }
    }

    pub fn end(&self) -> Result<()> {
        match self.at == self.body.len() {
            true => Ok(()),
            false => Err(self.error(Fault::Trailing)),
        }
    }

    #[cold]
    fn error(&self, fault: Fault) -> BodyError {
        BodyError { fault, at: self.at }
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64> {
        let mut value = 0_u64;
        for (i, byte) in self.body[self.at..].iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7F);
            if i == 9 && bits > 1 {
                break;
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.at += i + 1;
                return Ok((value >> 1) as i64 ^ -((value & 1) as i64));
            }
        }
        let ends = self.body.len() - self.at < 10;
        Err(self.error(if ends { Fault::Ends } else { Fault::Number }))
    }

    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(len);
        let Some(bytes) = end.and_then(|end| self.body.get(self.at..end)) else {
            return Err(self.error(Fault::Ends));
        };
        self.at += len;
        Ok(bytes)
    }

    #[inline]
    fn bytes(&mut self) -> Result<&'a [u8]> {
        let start = self.at;
        let len = self.long()?;
        match usize::try_from(len) {
            Ok(len) if len <= self.body.len() - self.at => self.take(len),
            _ => {
                self.at = start;
                Err(self.error(Fault::Length))
            }
        }
    }

    /// A branch or a symbol, of so many.
    fn index(&mut self, of: usize, fault: Fault) -> Result<usize> {
        let start = self.at;
        let index = self.long()?;
        match usize::try_from(index) {
            Ok(index) if index < of => Ok(index),
            _ => {
                self.at = start;
                Err(self.error(fault))
            }
        }
    }

    /// Steps over a value.
    pub fn skip(&mut self, ty: &Type) -> Result<()> {
        match &ty.kind {
            Kind::Null => Ok(()),
            Kind::Boolean => self.take(1).map(drop),
            Kind::Int | Kind::Long => self.long().map(drop),
            Kind::Float => self.take(4).map(drop),
            Kind::Double => self.take(8).map(drop),
            Kind::Bytes | Kind::String => self.bytes().map(drop),
            Kind::Fixed(fixed) => self.take(fixed.size).map(drop),
            Kind::Enum(e) => self.index(e.symbols.len(), Fault::Symbol).map(drop),
            Kind::Array(item) => self.items(|_, _| Ok(()), |body| body.skip(item)),
            Kind::Map(value) => self.items(
                |_, _| Ok(()),
                |body| {
                    body.bytes()?;
                    body.skip(value)
                },
            ),
            Kind::Union(branches) => {
                let branch = self.index(branches.len(), Fault::Branch)?;
                self.skip(&branches[branch])
            }
            Kind::Record(record) => record.fields.iter().try_for_each(|f| self.skip(&f.ty)),
        }
    }

    /// Goes through the blocks of an array or a map. `block` is told of each block's number of
    /// items, of the last, 0, too.
    fn items(
        &mut self,
        mut block: impl FnMut(&mut Self, i64) -> Result<()>,
        mut item: impl FnMut(&mut Self) -> Result<()>,
    ) -> Result<()> {
        loop {
            let start = self.at;
            let mut count = self.long()?;
            let mut size = None;
            if count < 0 {
                count = match count.checked_neg() {
                    Some(count) => count,
                    None => {
                        self.at = start;
                        return Err(self.error(Fault::Count));
                    }
                };
                size = Some((self.at, self.long()?));
            }
            let from = self.at;
            block(self, count)?;
            if count == 0 {
                return Ok(());
            }
            for _ in 0..count {
                let before = self.at;
                item(self)?;
                if self.at == before {
                    self.empty_items += 1;
                    if self.empty_items > MAX_EMPTY_ITEMS {
                        return Err(self.error(Fault::EmptyItems));
                    }
                }
            }
            if let Some((at, size)) = size
                && usize::try_from(size) != Ok(self.at - from)
            {
                self.at = at;
                return Err(self.error(Fault::BlockSize));
            }
        }
    }
}

/// Writes an anonymized body.
pub(super) struct Out<'a> {
    pub salt: &'a Salt,
    pub out: &'a mut Vec<u8>,
}

impl Out<'_> {
    pub fn record(&mut self, record: &Record, plans: &[Plan], from: &mut Body) -> Result<()> {
        let mut fields = record.fields.iter().zip(plans);
        fields.try_for_each(|(field, plan)| self.value(&field.ty, plan, from))
    }

    fn value(&mut self, ty: &Type, plan: &Plan, from: &mut Body) -> Result<()> {
        match (plan, &ty.kind) {
            (Plan::Keep, _) => {
                let start = from.at;
                from.skip(ty)?;
                self.out.extend_from_slice(&from.body[start..from.at]);
                Ok(())
            }
            (Plan::Drop, _) => from.skip(ty),
            (Plan::Pseudonym(kind), _) => {
                let mut digits = Digits::default();
                let value = match &ty.kind {
                    Kind::Int | Kind::Long => Id::Long(from.long()?),
                    Kind::Fixed(fixed) => Id::Bytes(from.take(fixed.size)?),
                    Kind::Bytes => Id::Bytes(from.bytes()?),
                    _ => Id::Text(from.bytes()?),
                };
                let pseudonym = value.pseudonym(self.salt, kind, &mut digits);
                if stays_fixed(ty) {
                    self.out.extend_from_slice(&pseudonym);
                } else {
                    encode::bytes(&hex(pseudonym), self.out);
                }
                Ok(())
            }
            (Plan::Hour(units), _) => {
                encode::long(floor(from.long()?, *units, least(ty)), self.out);
                Ok(())
            }
            (Plan::Address(address), _) => {
                let mut left = vec![];
                generalize(*address, from.bytes()?, &mut left);
                encode::bytes(&left, self.out);
                Ok(())
            }
            (Plan::Union(plans), Kind::Union(branches)) => {
                let branch = from.index(branches.len(), Fault::Branch)?;
                encode::long(branch as i64, self.out);
                self.value(&branches[branch], &plans[branch], from)
            }
            (Plan::Array(plan), Kind::Array(item)) => {
                // Blocks stay as they are, but without their length in bytes.
                let this = std::cell::RefCell::new(self);
                from.items(
                    |_, count| {
                        encode::long(count, this.borrow_mut().out);
                        Ok(())
                    },
                    |from| this.borrow_mut().value(item, plan, from),
                )
            }
            (Plan::Map { keys, value: plan }, Kind::Map(value)) => {
                let this = std::cell::RefCell::new(self);
                from.items(
                    |_, count| {
                        encode::long(count, this.borrow_mut().out);
                        Ok(())
                    },
                    |from| {
                        let mut this = this.borrow_mut();
                        let key = from.bytes()?;
                        match keys {
                            Some(kind) => {
                                let id = Id::Text(key);
                                let pseudonym =
                                    id.pseudonym(this.salt, kind, &mut Digits::default());
                                encode::bytes(&hex(pseudonym), this.out);
                            }
                            None => encode::bytes(key, this.out),
                        }
                        this.value(value, plan, from)
                    },
                )
            }
            (Plan::Record(plans), Kind::Record(record)) => self.record(record, plans, from),
            // Plans are made of the types that they are run over.
            _ => from.skip(ty),
        }
    }
}

/// The value of an ID, in the form that its type has.
pub(super) enum Id<'a> {
    Text(&'a [u8]),
    Bytes(&'a [u8]),
    Long(i64),
}

impl Id<'_> {
    /// Its pseudonym: the same for the same ID, in whatever form the twins' sources have it.
    pub fn pseudonym(&self, salt: &Salt, kind: &IdKind, digits: &mut Digits) -> [u8; 16] {
        if *kind == IdKind::Event {
            let key = match self {
                Id::Text(text) => EventKey::of_text(&String::from_utf8_lossy(text)),
                Id::Bytes(bytes) => EventKey::of_bytes(bytes),
                Id::Long(long) => EventKey::of_long(*long),
            };
            return salt.pseudonym(kind, &key.0);
        }
        let canonical = match self {
            Id::Text(bytes) | Id::Bytes(bytes) => bytes,
            Id::Long(long) => digits.of(*long),
        };
        match kind {
            IdKind::Browser | IdKind::Customer => {
                salt.pseudonym(kind, text_value(canonical).as_bytes())
            }
            _ => salt.pseudonym(kind, canonical),
        }
    }
}

/// Rounded down to a multiple of `units`, but not below `least`.
pub(super) fn floor(value: i64, units: i64, least: i64) -> i64 {
    value.saturating_sub(value.rem_euclid(units)).max(least)
}

/// The least value of a type of times: the hour of one within an hour of it would be no value.
pub(super) fn least(ty: &Type) -> i64 {
    match (&ty.kind, ty.logical) {
        (Kind::Int, _) => i32::MIN.into(),
        // Files have times in microseconds.
        (_, Some(Logical::TimestampMillis | Logical::LocalTimestampMillis)) => i64::MIN / 1_000,
        _ => i64::MIN,
    }
}
