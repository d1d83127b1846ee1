//! Random schemas, values of them, bodies of the values, and schemas that have evolved from others;
//! with a plain reference for what a reader sees of a writer's value. It shares nothing with the
//! crate but JSON, and is written to be obviously right rather than fast.

pub mod seen;

use std::collections::HashSet;

use serde_json::{Value, json};

/// SplitMix64: small, and the same everywhere.
pub struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    pub fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }

    pub fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ty {
    Null,
    Boolean,
    Int(Option<&'static str>),
    Long(Option<&'static str>),
    Float,
    Double,
    /// With precision and scale, if a decimal.
    Bytes(Option<(u8, u8)>),
    /// Whether it is a UUID.
    Str(bool),
    Fixed(Fixed),
    Enum(Enum),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Union(Vec<Ty>),
    Record(Record),
}

#[derive(Clone, Debug, PartialEq)]
pub struct Fixed {
    pub name: String,
    pub size: usize,
    pub logical: Option<&'static str>,
    pub decimal: Option<(u8, u8)>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Enum {
    pub name: String,
    pub aliases: Vec<String>,
    pub symbols: Vec<String>,
    pub default: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub name: String,
    pub aliases: Vec<String>,
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    pub name: String,
    pub aliases: Vec<String>,
    pub ty: Ty,
    pub default: Option<Val>,
}

/// A value; what it stands for is said by its type alone.
#[derive(Clone, Debug, PartialEq)]
pub enum Val {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Bytes and fixed.
    Bytes(Vec<u8>),
    Str(String),
    Enum(String),
    Array(Vec<Val>),
    Map(Vec<(String, Val)>),
    Union(usize, Box<Val>),
    Record(Vec<Val>),
}

/// Makes schemas; every name in one run is another.
pub struct Maker {
    pub rng: Rng,
    names: usize,
}

impl Maker {
    pub fn new(seed: u64) -> Self {
        Maker {
            rng: Rng(seed),
            names: 0,
        }
    }

    fn name(&mut self, letter: &str) -> String {
        self.names += 1;
        format!("{letter}{}", self.names)
    }

    fn full_name(&mut self, letter: &str) -> String {
        let space = *self.rng.of(&["a.", "a.b."]);
        format!("{space}{}", self.name(letter))
    }

    pub fn record(&mut self, fields: usize, depth: usize) -> Record {
        Record {
            name: self.full_name("R"),
            aliases: vec![],
            fields: (0..fields)
                .map(|_| Field {
                    name: self.name("f"),
                    aliases: vec![],
                    ty: self.ty(depth),
                    default: None,
                })
                .collect(),
        }
    }

    fn ty(&mut self, depth: usize) -> Ty {
        if depth > 0 && self.rng.percent(25) {
            let mut branches: Vec<Ty> = vec![];
            let mut kinds = HashSet::new();
            for _ in 0..*self.rng.of(&[1, 2, 2, 2, 3, 4]) {
                let ty = match self.rng.percent(35) {
                    true => Ty::Null,
                    false => self.plain(depth - 1),
                };
                if kinds.insert(kind(&ty)) {
                    branches.push(ty);
                }
            }
            return Ty::Union(branches);
        }
        self.plain(depth)
    }

    fn plain(&mut self, depth: usize) -> Ty {
        match self.rng.below(if depth > 0 { 22 } else { 16 }) {
            0 => Ty::Null,
            1 => Ty::Boolean,
            2 => Ty::Int(None),
            3 => Ty::Int(Some(*self.rng.of(&["date", "time-millis"]))),
            4 | 5 => Ty::Long(None),
            6 => Ty::Long(Some(*self.rng.of(&[
                "time-micros",
                "timestamp-millis",
                "timestamp-micros",
                "timestamp-nanos",
                "local-timestamp-millis",
                "local-timestamp-micros",
                "local-timestamp-nanos",
            ]))),
            7 => Ty::Float,
            8 => Ty::Double,
            9 => Ty::Bytes(None),
            10 => Ty::Bytes(Some(*self.rng.of(&[(1, 0), (9, 2), (38, 10)]))),
            11 | 12 => Ty::Str(false),
            13 => Ty::Str(true),
            14 => {
                let (size, logical, decimal) = match self.rng.below(6) {
                    0 => (12, Some("duration"), None),
                    1 => (16, Some("uuid"), None),
                    2 => (5, Some("decimal"), Some((11, 3))),
                    _ => (*self.rng.of(&[0, 1, 7, 16, 16, 64, 70]), None, None),
                };
                // One name for all of a size, so that types are used again; but for those that
                // stand for something, which apache-avro does not find again.
                let name = match logical {
                    Some(_) => self.full_name("D"),
                    None => format!("a.F{size}"),
                };
                Ty::Fixed(Fixed {
                    name,
                    size,
                    logical,
                    decimal,
                })
            }
            15 => Ty::Enum(Enum {
                name: self.full_name("E"),
                aliases: vec![],
                symbols: (0..1 + self.rng.below(4)).map(|_| self.name("S")).collect(),
                default: None,
            }),
            16 | 17 => Ty::Array(Box::new(self.ty(depth - 1))),
            18 => Ty::Map(Box::new(self.ty(depth - 1))),
            _ => {
                let fields = self.rng.below(4);
                Ty::Record(self.record(fields, depth - 1))
            }
        }
    }

    pub fn value(&mut self, ty: &Ty) -> Val {
        let rng = &mut self.rng;
        match ty {
            Ty::Null => Val::Null,
            Ty::Boolean => Val::Boolean(rng.percent(50)),
            Ty::Int(_) => Val::Int(long(rng) as i32),
            Ty::Long(Some(logical)) if logical.ends_with("millis") => {
                Val::Long(long(rng) % (i64::MAX / 1000))
            }
            Ty::Long(_) => Val::Long(long(rng)),
            Ty::Float => Val::Float(f32::from_bits(rng.next() as u32)),
            Ty::Double => Val::Double(f64::from_bits(rng.next())),
            Ty::Bytes(Some((precision, _))) => Val::Bytes(decimal(rng, *precision, None)),
            Ty::Bytes(None) => {
                let len = rng.below(20);
                Val::Bytes(bytes(rng, len))
            }
            Ty::Str(false) => Val::Str(text(rng)),
            Ty::Str(true) => {
                let hex = format!("{:016x}{:016x}", rng.next(), rng.next());
                let (a, b, c) = (&hex[..8], &hex[8..12], &hex[12..16]);
                Val::Str(format!("{a}-{b}-{c}-{}-{}", &hex[16..20], &hex[20..]))
            }
            Ty::Fixed(f) => Val::Bytes(match f.decimal {
                Some((precision, _)) => decimal(rng, precision, Some(f.size)),
                None => bytes(rng, f.size),
            }),
            Ty::Enum(e) => Val::Enum(rng.of(&e.symbols).clone()),
            Ty::Array(item) => {
                let len = rng.below(5);
                Val::Array((0..len).map(|_| self.value(item)).collect())
            }
            Ty::Map(value) => {
                let len = rng.below(4);
                let entry = |i| (format!("k{i}"), self.value(value));
                Val::Map((0..len).map(entry).collect())
            }
            Ty::Union(branches) => {
                let branch = rng.below(branches.len());
                Val::Union(branch, Box::new(self.value(&branches[branch])))
            }
            Ty::Record(record) => {
                Val::Record(record.fields.iter().map(|f| self.value(&f.ty)).collect())
            }
        }
    }

    /// The body of a value, as a writer may choose to write it: arrays in any blocks.
    pub fn encode(&mut self, val: &Val, ty: &Ty, out: &mut Vec<u8>) {
        match (val, ty) {
            (Val::Null, _) => {}
            (Val::Boolean(b), _) => out.push((*b).into()),
            (Val::Int(i), _) => varint((*i).into(), out),
            (Val::Long(i), _) => varint(*i, out),
            (Val::Float(x), _) => out.extend(x.to_le_bytes()),
            (Val::Double(x), _) => out.extend(x.to_le_bytes()),
            (Val::Bytes(bytes), Ty::Fixed(_)) => out.extend(bytes),
            (Val::Bytes(bytes), _) => {
                varint(bytes.len() as i64, out);
                out.extend(bytes);
            }
            (Val::Str(text), _) => {
                varint(text.len() as i64, out);
                out.extend(text.as_bytes());
            }
            (Val::Enum(symbol), Ty::Enum(e)) => {
                let index = e.symbols.iter().position(|s| s == symbol).unwrap();
                varint(index as i64, out);
            }
            (Val::Array(items), Ty::Array(ty)) => {
                let items = items.iter().map(|item| {
                    let mut out = vec![];
                    self.encode(item, ty, &mut out);
                    out
                });
                let items: Vec<_> = items.collect();
                self.blocks(&items, out);
            }
            (Val::Map(entries), Ty::Map(ty)) => {
                let items = entries.iter().map(|(key, value)| {
                    let mut out = vec![];
                    varint(key.len() as i64, &mut out);
                    out.extend(key.as_bytes());
                    self.encode(value, ty, &mut out);
                    out
                });
                let items: Vec<_> = items.collect();
                self.blocks(&items, out);
            }
            (Val::Union(branch, val), Ty::Union(branches)) => {
                varint(*branch as i64, out);
                self.encode(val, &branches[*branch], out);
            }
            (Val::Record(values), Ty::Record(record)) => {
                for (val, field) in values.iter().zip(&record.fields) {
                    self.encode(val, &field.ty, out);
                }
            }
            _ => unreachable!("{val:?} of {ty:?}"),
        }
    }

    fn blocks(&mut self, mut items: &[Vec<u8>], out: &mut Vec<u8>) {
        while !items.is_empty() {
            let (block, rest) = items.split_at(1 + self.rng.below(items.len()));
            items = rest;
            if self.rng.percent(30) {
                varint(-(block.len() as i64), out);
                varint(block.concat().len() as i64, out);
            } else {
                varint(block.len() as i64, out);
            }
            out.extend(block.concat());
        }
        out.push(0);
    }

    /// What became of a schema since: most of it can still be read, not all.
    pub fn evolve(&mut self, writer: &Record, depth: usize) -> Record {
        let mut record = writer.clone();
        if self.rng.percent(10) {
            record.name = self.full_name("R");
            record.aliases = vec![writer.name.clone()];
        }
        if self.rng.percent(30) {
            shuffle(&mut self.rng, &mut record.fields);
        }
        record.fields.retain(|_| !self.rng.percent(8));
        for field in &mut record.fields {
            if self.rng.percent(10) {
                field.aliases = vec!["other".into(), field.name.clone()];
                field.name = self.name("g");
            }
            field.ty = self.evolve_ty(&field.ty, depth);
            field.default = None;
        }
        while self.rng.percent(25) {
            let ty = self.ty(depth.min(2));
            let default = self.value(&ty);
            let default = default_json(&default, &ty).map(|_| default);
            if default.is_some() || self.rng.percent(5) {
                let at = self.rng.below(record.fields.len() + 1);
                let field = Field {
                    name: self.name("h"),
                    aliases: vec!["nothing".into()],
                    ty,
                    default,
                };
                record.fields.insert(at, field);
            }
        }
        record
    }

    fn evolve_ty(&mut self, ty: &Ty, depth: usize) -> Ty {
        if self.rng.percent(1) {
            return self.ty(depth);
        }
        // Made nullable, or a union of more; and back.
        if !matches!(ty, Ty::Union(_) | Ty::Null) && self.rng.percent(12) {
            let mut branches = vec![self.evolve_ty(ty, depth), Ty::Null];
            while self.rng.percent(25) {
                branches.push(self.plain(0));
            }
            shuffle(&mut self.rng, &mut branches);
            return union(branches);
        }
        match ty {
            Ty::Int(None) => {
                let wider = [Ty::Int(None), Ty::Long(None), Ty::Float, Ty::Double];
                let kept = [Ty::Int(None), Ty::Long(Some("timestamp-millis"))];
                let list = if self.rng.percent(50) {
                    &wider[..]
                } else {
                    &kept
                };
                self.rng.of(list).clone()
            }
            Ty::Long(None) => {
                let wider = [Ty::Long(None), Ty::Long(None), Ty::Float, Ty::Double];
                self.rng.of(&wider).clone()
            }
            Ty::Int(Some(_)) if self.rng.percent(10) => Ty::Long(None),
            Ty::Long(Some(_)) if self.rng.percent(10) => Ty::Long(None),
            Ty::Float if self.rng.percent(30) => Ty::Double,
            Ty::Str(_) if self.rng.percent(10) => Ty::Bytes(None),
            Ty::Bytes(None) if self.rng.percent(30) => Ty::Str(false),
            Ty::Enum(e) => {
                let mut e = e.clone();
                if self.rng.percent(20) {
                    e.aliases = vec![e.name];
                    e.name = self.full_name("E");
                }
                if self.rng.percent(30) {
                    e.symbols.push(self.name("S"));
                }
                if self.rng.percent(30) {
                    shuffle(&mut self.rng, &mut e.symbols);
                }
                if e.symbols.len() > 1 && self.rng.percent(30) {
                    e.symbols.pop();
                }
                let default = self.rng.of(&e.symbols).clone();
                e.default = self.rng.percent(40).then_some(default);
                Ty::Enum(e)
            }
            Ty::Array(item) => Ty::Array(Box::new(self.evolve_ty(item, depth.max(1) - 1))),
            Ty::Map(value) => Ty::Map(Box::new(self.evolve_ty(value, depth.max(1) - 1))),
            Ty::Record(record) => Ty::Record(self.evolve(record, depth.max(1) - 1)),
            Ty::Union(branches) => {
                let mut branches: Vec<Ty> = branches
                    .iter()
                    .map(|b| self.evolve_ty(b, depth.max(1) - 1))
                    .collect();
                shuffle(&mut self.rng, &mut branches);
                if branches.len() > 1 && self.rng.percent(20) {
                    branches.pop();
                }
                if branches.len() == 1 && self.rng.percent(50) {
                    return branches.remove(0);
                }
                union(branches)
            }
            same => same.clone(),
        }
    }
}

/// A union of these, flat, and of each kind only the first.
fn union(branches: Vec<Ty>) -> Ty {
    let flat = branches.into_iter().flat_map(|branch| match branch {
        Ty::Union(branches) => branches,
        other => vec![other],
    });
    let mut kinds = HashSet::new();
    Ty::Union(flat.filter(|ty| kinds.insert(kind(ty))).collect())
}

fn shuffle<T>(rng: &mut Rng, list: &mut [T]) {
    for i in (1..list.len()).rev() {
        list.swap(i, rng.below(i + 1));
    }
}

/// Of which a union may have one; also the name of a branch's column.
pub fn kind(ty: &Ty) -> String {
    let full = match ty {
        Ty::Null => "null",
        Ty::Boolean => "boolean",
        Ty::Int(_) => "int",
        Ty::Long(_) => "long",
        Ty::Float => "float",
        Ty::Double => "double",
        Ty::Bytes(_) => "bytes",
        Ty::Str(_) => "string",
        Ty::Fixed(f) => &f.name,
        Ty::Enum(e) => &e.name,
        Ty::Array(_) => "array",
        Ty::Map(_) => "map",
        Ty::Union(_) => "union",
        Ty::Record(r) => &r.name,
    };
    full.rsplit('.').next().unwrap().to_owned()
}

fn long(rng: &mut Rng) -> i64 {
    let bits = rng.next() as i64;
    bits >> rng.below(64)
}

fn bytes(rng: &mut Rng, len: usize) -> Vec<u8> {
    // Often text, so that bytes can be read as a string.
    let mask = if rng.percent(70) { 0x7F } else { 0xFF };
    (0..len).map(|_| rng.next() as u8 & mask).collect()
}

fn text(rng: &mut Rng) -> String {
    let long = rng.percent(5);
    let len = rng.below(if long { 200 } else { 12 });
    let letters = ['a', 'b', ' ', 'é', '√', '🦀', '"', '\0'];
    (0..len).map(|_| *rng.of(&letters)).collect()
}

/// Two's complement of at most so many digits, in as few bytes as it needs or more.
fn decimal(rng: &mut Rng, precision: u8, size: Option<usize>) -> Vec<u8> {
    let bits = (i128::from(rng.next()) << 64 | i128::from(rng.next())) >> rng.below(128);
    let value = bits % 10_i128.pow(precision.into());
    let bytes = value.to_be_bytes();
    let needed = (1..=16)
        .find(|n| {
            let shift = 128 - 8 * n;
            (value << shift) >> shift == value
        })
        .unwrap();
    let sign = if value < 0 { 0xFF } else { 0 };
    let size = size.unwrap_or(needed + rng.below(3));
    let mut out = vec![sign; size.saturating_sub(16)];
    out.extend(&bytes[16 - size.min(16)..]);
    out
}

fn varint(value: i64, out: &mut Vec<u8>) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest > 0x7F {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

/// The schema's JSON.
pub fn schema_json(record: &Record) -> Value {
    ty_json(&Ty::Record(record.clone()), &mut HashSet::new())
}

fn ty_json(ty: &Ty, seen: &mut HashSet<String>) -> Value {
    let logical = |ty: &str, logical: &Option<&str>| match logical {
        Some(logical) => json!({"type": ty, "logicalType": logical}),
        None => json!(ty),
    };
    match ty {
        Ty::Int(l) => logical("int", l),
        Ty::Long(l) => logical("long", l),
        Ty::Str(true) => logical("string", &Some("uuid")),
        Ty::Bytes(Some((precision, scale))) => {
            json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
        }
        Ty::Fixed(f) if !seen.insert(f.name.clone()) => json!(f.name),
        Ty::Fixed(f) => {
            let mut json = json!({"type": "fixed", "name": f.name, "size": f.size});
            if let Some(logical) = f.logical {
                json["logicalType"] = logical.into();
            }
            if let Some((precision, scale)) = f.decimal {
                json["precision"] = precision.into();
                json["scale"] = scale.into();
            }
            json
        }
        Ty::Enum(e) => {
            let mut json =
                json!({"type": "enum", "name": e.name, "symbols": e.symbols, "aliases": e.aliases});
            if let Some(default) = &e.default {
                json["default"] = default.as_str().into();
            }
            json
        }
        Ty::Array(item) => json!({"type": "array", "items": ty_json(item, seen)}),
        Ty::Map(value) => json!({"type": "map", "values": ty_json(value, seen)}),
        Ty::Union(branches) => branches.iter().map(|b| ty_json(b, seen)).collect(),
        Ty::Record(record) => {
            let fields = record.fields.iter().map(|field| {
                let mut json = json!({"name": field.name, "aliases": field.aliases, "type": ty_json(&field.ty, seen)});
                if let Some(default) = &field.default {
                    json["default"] = default_json(default, &field.ty).unwrap();
                }
                json
            });
            let fields: Vec<Value> = fields.collect();
            json!({"type": "record", "name": record.name, "aliases": record.aliases, "fields": fields})
        }
        plain => json!(kind(plain)),
    }
}

/// A value as a default in a schema; not every value can be one.
pub fn default_json(val: &Val, ty: &Ty) -> Option<Value> {
    Some(match (val, ty) {
        (Val::Null, _) => Value::Null,
        (Val::Boolean(b), _) => json!(b),
        (Val::Int(i), _) => json!(i),
        (Val::Long(i), _) => json!(i),
        (Val::Float(x), _) if x.is_finite() => json!(f64::from(*x)),
        (Val::Double(x), _) if x.is_finite() => json!(x),
        // apache-avro refuses the schema for a default of these.
        (Val::Bytes(_), Ty::Fixed(f)) if f.logical.is_some() => return None,
        (Val::Bytes(bytes), _) => json!(bytes.iter().map(|b| char::from(*b)).collect::<String>()),
        (Val::Str(text), _) => json!(text),
        (Val::Enum(symbol), _) => json!(symbol),
        (Val::Array(items), Ty::Array(ty)) => {
            let items: Option<Vec<Value>> = items.iter().map(|i| default_json(i, ty)).collect();
            items?.into()
        }
        (Val::Map(entries), Ty::Map(ty)) => {
            let entry = |(k, v): &(String, Val)| Some((k.clone(), default_json(v, ty)?));
            let entries: Option<serde_json::Map<String, Value>> =
                entries.iter().map(entry).collect();
            entries?.into()
        }
        // A default for a union is one for its first branch.
        (Val::Union(0, val), Ty::Union(branches)) => default_json(val, &branches[0])?,
        (Val::Record(values), Ty::Record(record)) => {
            let entry = |(val, field): (&Val, &Field)| {
                Some((field.name.clone(), default_json(val, &field.ty)?))
            };
            let fields = values.iter().zip(&record.fields);
            let fields: Option<serde_json::Map<String, Value>> = fields.map(entry).collect();
            fields?.into()
        }
        _ => return None,
    })
}

/// Whether a reader's type can be had of a writer's at all.
pub fn resolves(writer: &Ty, reader: &Ty) -> bool {
    match (writer, reader) {
        (Ty::Union(branches), reader) => branches.iter().any(|w| resolves(w, reader)),
        (writer, Ty::Union(branches)) => branches.iter().any(|r| resolves(writer, r)),
        (Ty::Record(w), Ty::Record(r)) => {
            named(&w.name, &r.name, &r.aliases) && fields_resolve(w, r)
        }
        (Ty::Array(w), Ty::Array(r)) | (Ty::Map(w), Ty::Map(r)) => resolves(w, r),
        (Ty::Enum(w), Ty::Enum(r)) => named(&w.name, &r.name, &r.aliases),
        (Ty::Fixed(w), Ty::Fixed(r)) => w == r,
        (Ty::Int(w), Ty::Int(r) | Ty::Long(r)) | (Ty::Long(w), Ty::Long(r)) => {
            w.is_none() || r.is_none() || w == r
        }
        (Ty::Int(_) | Ty::Long(_) | Ty::Float, Ty::Float | Ty::Double) => true,
        (Ty::Double, Ty::Double) | (Ty::Null, Ty::Null) | (Ty::Boolean, Ty::Boolean) => true,
        (Ty::Bytes(w), Ty::Bytes(r)) => r.is_none() || w == r,
        (Ty::Str(_), Ty::Bytes(r)) => r.is_none(),
        // A decimal is no UUID.
        (Ty::Bytes(w), Ty::Str(uuid)) => w.is_none() || !uuid,
        (Ty::Str(_), Ty::Str(_)) => true,
        _ => false,
    }
}

/// The outermost records are one another's whatever their names.
pub fn fields_resolve(writer: &Record, reader: &Record) -> bool {
    reader
        .fields
        .iter()
        .all(|field| match source(writer, field) {
            Some(at) => resolves(&writer.fields[at].ty, &field.ty),
            None => field.default.is_some(),
        })
}

fn source(writer: &Record, field: &Field) -> Option<usize> {
    let by_name = writer.fields.iter().position(|w| w.name == field.name);
    let by_alias = || {
        writer
            .fields
            .iter()
            .position(|w| field.aliases.contains(&w.name))
    };
    by_name.or_else(by_alias)
}

fn named(writer: &str, reader: &str, aliases: &[String]) -> bool {
    let short = |name: &str| name.rsplit('.').next().map(str::to_owned);
    short(writer) == short(reader) || aliases.iter().any(|alias| alias == writer)
}

/// What a reader sees of a writer's value; `None` if it must refuse it.
pub fn view(val: &Val, writer: &Ty, reader: &Ty) -> Option<Val> {
    if let (Val::Union(branch, val), Ty::Union(branches)) = (val, writer) {
        return view(val, &branches[*branch], reader);
    }
    if let Ty::Union(branches) = reader {
        let able = |r: &&Ty| resolves(writer, r);
        let same = |r: &&Ty| match (writer, r) {
            (Ty::Fixed(_) | Ty::Enum(_) | Ty::Record(_), _) => full(writer) == full(r),
            _ => kind(writer) == kind(r),
        };
        let chosen = branches
            .iter()
            .find(|r| same(r) && able(r))
            .or_else(|| branches.iter().find(able))?;
        let index = branches.iter().position(|r| r == chosen)?;
        return Some(Val::Union(index, Box::new(view(val, writer, chosen)?)));
    }
    if !resolves(writer, reader) {
        return None;
    }
    Some(match (val, writer, reader) {
        (Val::Int(i), _, Ty::Long(_)) => Val::Long((*i).into()),
        (Val::Int(i), _, Ty::Float) => Val::Float(*i as f32),
        (Val::Int(i), _, Ty::Double) => Val::Double((*i).into()),
        // Columns hold times in microseconds.
        (Val::Long(i), _, Ty::Long(Some(logical)))
            if logical.ends_with("millis") && i.checked_mul(1000).is_none() =>
        {
            return None;
        }
        (Val::Long(i), _, Ty::Float) => Val::Float(*i as f32),
        (Val::Long(i), _, Ty::Double) => Val::Double(*i as f64),
        (Val::Float(x), _, Ty::Double) => Val::Double((*x).into()),
        (Val::Bytes(bytes), _, Ty::Str(_)) => Val::Str(String::from_utf8(bytes.clone()).ok()?),
        (Val::Str(text), _, Ty::Bytes(_)) => Val::Bytes(text.clone().into_bytes()),
        (Val::Enum(symbol), _, Ty::Enum(e)) => match e.symbols.contains(symbol) {
            true => Val::Enum(symbol.clone()),
            false => Val::Enum(e.default.clone()?),
        },
        (Val::Array(items), Ty::Array(w), Ty::Array(r)) => {
            let items: Option<Vec<Val>> = items.iter().map(|item| view(item, w, r)).collect();
            Val::Array(items?)
        }
        (Val::Map(entries), Ty::Map(w), Ty::Map(r)) => {
            let entry = |(k, v): &(String, Val)| Some((k.clone(), view(v, w, r)?));
            let entries: Option<Vec<(String, Val)>> = entries.iter().map(entry).collect();
            Val::Map(entries?)
        }
        (Val::Record(values), Ty::Record(w), Ty::Record(r)) => view_record(values, w, r)?,
        (same, ..) => same.clone(),
    })
}

pub fn view_record(values: &[Val], writer: &Record, reader: &Record) -> Option<Val> {
    let field = |field: &Field| match source(writer, field) {
        Some(at) => view(&values[at], &writer.fields[at].ty, &field.ty),
        None => field.default.clone(),
    };
    let fields: Option<Vec<Val>> = reader.fields.iter().map(field).collect();
    Some(Val::Record(fields?))
}

fn full(ty: &Ty) -> &str {
    match ty {
        Ty::Fixed(f) => &f.name,
        Ty::Enum(e) => &e.name,
        Ty::Record(r) => &r.name,
        _ => "",
    }
}
