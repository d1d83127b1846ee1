//! From a schema to the steps of its walk, once a schema.

use super::run::{NOWHERE, Op, REFUSED};
use super::{Forms, Spot, Walk, WalkError, bit};
use crate::resolve::Read;
use crate::role::Role;
use crate::roles::{Form, Roles, nullable};
use crate::schema::{Kind, Logical, Record, Schema, Type};

/// Compiles a schema to ops.
pub(super) struct Compiler<'a> {
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
    pub(super) fn new(schema: &'a Schema, roles: &'a Roles) -> Compiler<'a> {
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

    pub(super) fn compile(
        mut self,
        reader: Option<&Read>,
        fields: usize,
    ) -> Result<Walk, WalkError> {
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
