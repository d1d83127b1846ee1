//! The walk, the tag and the resolution, held against `apache-avro`: random schemas of every
//! type, random values, random evolution, and every truncation and bit flip of what was encoded.

use std::collections::HashMap;
use std::fmt::Write as _;

use apache_avro::Decimal;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use visitflow_schemas::encode;
use visitflow_schemas::resolve::{self, Read};
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Form, Overrides, Roles};
use visitflow_schemas::schema::{Kind, Logical, Schema};
use visitflow_schemas::tag::{self, Tag};
use visitflow_schemas::walk::{Fault, Found, Walk};

/// A stream of numbers from a seed: schemas and values are too intertwined for strategies, and a
/// seed in a failure message is enough to have it again.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// A number of any length in bits.
    fn long(&mut self) -> i64 {
        (self.next() as i64) >> self.below(64)
    }

    fn bytes(&mut self) -> Vec<u8> {
        let most = [0, 3, 9, 40, 100][self.below(5)];
        let len = self.below(most + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }

    fn text(&mut self) -> String {
        let alphabet: &[char] = if self.one_in(2) {
            &['a', '/', '=']
        } else {
            &['a', 'ö', '€', '𝄞', '\0']
        };
        let most = [0, 3, 9, 40, 100][self.below(5)];
        let len = self.below(most + 1);
        (0..len)
            .map(|_| alphabet[self.below(alphabet.len())])
            .collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Ty {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    Text,
    Uuid,
    Date,
    /// The name of a logical type on a long.
    Time(&'static str),
    Decimal,
    Fixed(u32, usize),
    FixedDecimal(u32, usize),
    FixedUuid(u32),
    Duration(u32),
    Enum(u32, Vec<String>, Option<String>),
    Array(Box<Ty>),
    Map(Box<Ty>),
    Union(Vec<Ty>),
    Record(u32, Vec<Field>),
}

#[derive(Clone, Debug, PartialEq)]
struct Field {
    name: String,
    ty: Ty,
    role: Option<Role>,
    default: Option<String>,
}

const PRECISION: u32 = 9;

impl Ty {
    fn random(dice: &mut Dice, depth: usize, names: &mut u32) -> Ty {
        let mut name = || {
            *names += 1;
            *names
        };
        match dice.below(if depth == 0 { 22 } else { 32 }) {
            0 => Ty::Null,
            1 => Ty::Boolean,
            2 | 3 => Ty::Int,
            4 | 5 => Ty::Long,
            6 => Ty::Float,
            7 => Ty::Double,
            8 | 9 => Ty::Bytes,
            10..=12 => Ty::Text,
            13 => Ty::Uuid,
            14 => Ty::Date,
            15 => Ty::Time(
                [
                    "timestamp-millis",
                    "timestamp-micros",
                    "timestamp-nanos",
                    "time-micros",
                ][dice.below(4)],
            ),
            16 => Ty::Decimal,
            17 => Ty::Fixed(name(), [0, 1, 4, 16, 20][dice.below(5)]),
            18 => Ty::FixedDecimal(name(), [4, 20][dice.below(2)]),
            19 => Ty::FixedUuid(name()),
            20 => Ty::Duration(name()),
            21 => {
                let symbols = 1 + dice.below(4);
                Ty::Enum(
                    name(),
                    (0..symbols).map(|i| format!("S{i}")).collect(),
                    None,
                )
            }
            22 | 23 => Ty::Array(Box::new(Ty::random(dice, depth - 1, names))),
            24 | 25 => Ty::Map(Box::new(Ty::random(dice, depth - 1, names))),
            26 | 27 => {
                let inner = Ty::random(dice, depth - 1, names);
                let nullable = if dice.one_in(2) {
                    vec![Ty::Null, inner]
                } else {
                    vec![inner, Ty::Null]
                };
                Ty::union(nullable)
            }
            28 => {
                let branches = 1 + dice.below(4);
                Ty::union(
                    (0..branches)
                        .map(|_| Ty::random(dice, depth - 1, names))
                        .collect(),
                )
            }
            _ => {
                let name = name();
                let fields = dice.below(5);
                let fields = (0..fields)
                    .map(|_| Field::of(Ty::random(dice, depth - 1, names), names))
                    .collect();
                Ty::Record(name, fields)
            }
        }
    }

    /// A union of what may stand in one: no unions, no two branches of one form.
    fn union(branches: Vec<Ty>) -> Ty {
        let mut kept: Vec<Ty> = vec![];
        let form = |ty: &Ty| match ty {
            Ty::Boolean | Ty::Null | Ty::Float | Ty::Double => std::mem::discriminant(ty),
            Ty::Int | Ty::Date => std::mem::discriminant(&Ty::Int),
            Ty::Long | Ty::Time(_) => std::mem::discriminant(&Ty::Long),
            Ty::Bytes | Ty::Decimal => std::mem::discriminant(&Ty::Bytes),
            Ty::Text | Ty::Uuid => std::mem::discriminant(&Ty::Text),
            // apache-avro takes one of each logical type over a fixed.
            other => std::mem::discriminant(other),
        };
        for branch in branches {
            let named = matches!(branch, Ty::Fixed(..) | Ty::Enum(..) | Ty::Record(..));
            if !matches!(branch, Ty::Union(_))
                && (named || kept.iter().all(|k| form(k) != form(&branch)))
            {
                kept.push(branch);
            }
        }
        if kept.is_empty() {
            Ty::Union(vec![Ty::Null])
        } else {
            Ty::Union(kept)
        }
    }

    fn json(&self) -> String {
        let logical =
            |ty: &str, logical: &str| format!(r#"{{"type":"{ty}","logicalType":"{logical}"}}"#);
        match self {
            Ty::Null => r#""null""#.into(),
            Ty::Boolean => r#""boolean""#.into(),
            Ty::Int => r#""int""#.into(),
            Ty::Long => r#""long""#.into(),
            Ty::Float => r#""float""#.into(),
            Ty::Double => r#""double""#.into(),
            Ty::Bytes => r#""bytes""#.into(),
            Ty::Text => r#""string""#.into(),
            Ty::Uuid => logical("string", "uuid"),
            Ty::Date => logical("int", "date"),
            Ty::Time(name) => logical("long", name),
            Ty::Decimal => format!(
                r#"{{"type":"bytes","logicalType":"decimal","precision":{PRECISION},"scale":2}}"#
            ),
            Ty::Fixed(n, size) => format!(r#"{{"type":"fixed","name":"N{n}","size":{size}}}"#),
            Ty::FixedDecimal(n, size) => format!(
                r#"{{"type":"fixed","name":"N{n}","size":{size},"logicalType":"decimal","precision":{PRECISION},"scale":2}}"#
            ),
            Ty::FixedUuid(n) => {
                format!(r#"{{"type":"fixed","name":"N{n}","size":16,"logicalType":"uuid"}}"#)
            }
            Ty::Duration(n) => {
                format!(r#"{{"type":"fixed","name":"N{n}","size":12,"logicalType":"duration"}}"#)
            }
            Ty::Enum(n, symbols, default) => {
                let default = default
                    .as_ref()
                    .map_or(String::new(), |d| format!(r#","default":"{d}""#));
                format!(r#"{{"type":"enum","name":"N{n}","symbols":{symbols:?}{default}}}"#)
            }
            Ty::Array(item) => format!(r#"{{"type":"array","items":{}}}"#, item.json()),
            Ty::Map(value) => format!(r#"{{"type":"map","values":{}}}"#, value.json()),
            Ty::Union(branches) => {
                let branches: Vec<_> = branches.iter().map(Ty::json).collect();
                format!("[{}]", branches.join(","))
            }
            Ty::Record(n, fields) => {
                let fields: Vec<_> = fields.iter().map(Field::json).collect();
                format!(
                    r#"{{"type":"record","name":"N{n}","fields":[{}]}}"#,
                    fields.join(",")
                )
            }
        }
    }

    fn value(&self, dice: &mut Dice) -> Value {
        let hex = |dice: &mut Dice| {
            let n = u128::from(dice.next()) << 64 | u128::from(dice.next());
            apache_avro::Uuid::from_u128(n)
        };
        let digits = |dice: &mut Dice| {
            let most = 10_i64.pow(PRECISION);
            let value = (dice.long() % most).to_be_bytes();
            // As short as its sign allows, as writers do.
            let mut from = 0;
            while from < 7
                && (value[from] == 0 && value[from + 1] < 0x80
                    || value[from] == 0xFF && value[from + 1] >= 0x80)
            {
                from += 1;
            }
            Value::Decimal(Decimal::from(&value[from..]))
        };
        match self {
            Ty::Null => Value::Null,
            Ty::Boolean => Value::Boolean(dice.one_in(2)),
            Ty::Int => Value::Int(dice.long() as i32),
            Ty::Long => Value::Long(dice.long()),
            Ty::Float => Value::Float(dice.long() as f32),
            Ty::Double => Value::Double(dice.long() as f64),
            Ty::Bytes => Value::Bytes(if dice.one_in(2) {
                dice.text().into_bytes()
            } else {
                dice.bytes()
            }),
            Ty::Text => Value::String(dice.text()),
            Ty::Uuid => Value::Uuid(hex(dice)),
            Ty::Date => Value::Date(dice.long() as i32),
            Ty::Time("timestamp-millis") => Value::TimestampMillis(dice.long() / 1_000),
            Ty::Time("timestamp-micros") => Value::TimestampMicros(dice.long()),
            Ty::Time("timestamp-nanos") => Value::TimestampNanos(dice.long()),
            Ty::Time(_) => Value::TimeMicros(dice.long()),
            Ty::Decimal | Ty::FixedDecimal(..) => digits(dice),
            Ty::Fixed(_, size) => {
                Value::Fixed(*size, (0..*size).map(|_| dice.next() as u8).collect())
            }
            Ty::FixedUuid(_) => Value::Uuid(hex(dice)),
            Ty::Duration(_) => {
                let mut bytes = [0; 12];
                bytes.fill_with(|| dice.next() as u8);
                Value::Duration(bytes.into())
            }
            Ty::Enum(_, symbols, _) => {
                let at = dice.below(symbols.len());
                Value::Enum(at as u32, symbols[at].clone())
            }
            Ty::Array(item) => {
                let len = dice.below(4);
                Value::Array((0..len).map(|_| item.value(dice)).collect())
            }
            Ty::Map(value) => {
                let len = dice.below(4);
                Value::Map((0..len).map(|_| (dice.text(), value.value(dice))).collect())
            }
            Ty::Union(branches) => {
                let at = dice.below(branches.len());
                Value::Union(at as u32, Box::new(branches[at].value(dice)))
            }
            Ty::Record(_, fields) => Value::Record(
                fields
                    .iter()
                    .map(|f| (f.name.clone(), f.ty.value(dice)))
                    .collect(),
            ),
        }
    }

    /// The types of one kind or nullable, for roles.
    fn form(&self) -> Option<Form> {
        match self {
            Ty::Text => Some(Form::Text),
            Ty::Bytes | Ty::Fixed(..) => Some(Form::Bytes),
            Ty::Int | Ty::Long => Some(Form::Integer),
            _ => None,
        }
    }

    fn nullable(&self) -> &Ty {
        match self {
            Ty::Union(branches) => match &branches[..] {
                [Ty::Null, ty] | [ty, Ty::Null] => ty,
                _ => self,
            },
            _ => self,
        }
    }

    fn nullable_mut(&mut self) -> &mut Ty {
        if std::ptr::eq(self.nullable(), self) {
            return self;
        }
        match self {
            Ty::Union(branches) => branches.iter_mut().find(|b| **b != Ty::Null).unwrap(),
            _ => unreachable!(),
        }
    }
}

impl Field {
    fn of(ty: Ty, names: &mut u32) -> Field {
        *names += 1;
        Field {
            name: format!("f{names}"),
            ty,
            role: None,
            default: None,
        }
    }

    fn json(&self) -> String {
        let mut out = format!(r#"{{"name":"{}","type":{}"#, self.name, self.ty.json());
        if let Some(role) = self.role {
            let _ = write!(out, r#","role":"{role}""#);
        }
        if let Some(default) = &self.default {
            let _ = write!(out, r#","default":{default}"#);
        }
        out + "}"
    }
}

/// A record with the required roles somewhere and some of the others.
fn random_schema(dice: &mut Dice, depth: usize) -> Ty {
    let mut names = 0;
    let width = 1 + dice.below(8);
    let mut fields: Vec<Field> = (0..width)
        .map(|_| Field::of(Ty::random(dice, depth, &mut names), &mut names))
        .collect();
    for role in Role::REQUIRED {
        let ty = match role {
            Role::EventTime => [
                Ty::Long,
                Ty::Time("timestamp-millis"),
                Ty::Time("timestamp-micros"),
                Ty::Time("timestamp-nanos"),
            ][dice.below(4)]
            .clone(),
            _ => {
                names += 1;
                [Ty::Text, Ty::Bytes, Ty::Fixed(names, 16), Ty::Int, Ty::Long][dice.below(5)]
                    .clone()
            }
        };
        let ty = match dice.below(4) {
            0 => Ty::Union(vec![Ty::Null, ty]),
            1 => Ty::Union(vec![ty, Ty::Null]),
            _ => ty,
        };
        let mut field = Field::of(ty, &mut names);
        field.role = Some(*role);
        // In a record of its own sometimes, which may be null.
        if dice.one_in(3) {
            names += 1;
            let inside = Ty::Record(names, vec![field]);
            let inside = if dice.one_in(2) {
                Ty::Union(vec![Ty::Null, inside])
            } else {
                inside
            };
            field = Field::of(inside, &mut names);
        }
        fields.insert(dice.below(fields.len() + 1), field);
    }
    // The other roles fall on what suits them.
    for role in Role::ALL
        .iter()
        .filter(|role| !Role::REQUIRED.contains(role))
    {
        let form = match role {
            Role::Value => Some(Form::Integer),
            Role::Cause | Role::CustomerId | Role::EntityId => None,
            _ => Some(Form::Text),
        };
        let mut suited = vec![];
        suiting(&mut fields, form, &mut suited);
        let at = dice.below(suited.len() + 1);
        if let Some(field) = suited.get_mut(at) {
            field.role = Some(*role);
        }
    }
    Ty::Record(0, fields)
}

fn suiting<'a>(fields: &'a mut [Field], form: Option<Form>, out: &mut Vec<&'a mut Field>) {
    for field in fields {
        let found = field.ty.nullable().form();
        if field.role.is_none() && found.is_some() && (form.is_none() || found == form) {
            out.push(field);
        } else if let Ty::Record(_, fields) = field.ty.nullable_mut() {
            suiting(fields, form, out);
        }
    }
}

/// The values of the roles in a value.
fn role_values(fields: &[Field], values: &Value, out: &mut HashMap<Role, Value>) {
    let Value::Record(values) = values else {
        panic!("{values:?}")
    };
    for (field, (_, value)) in fields.iter().zip(values) {
        let value = match value {
            // Without the union that makes it nullable.
            Value::Union(_, inner) if !std::ptr::eq(field.ty.nullable(), &field.ty) => inner,
            value => value,
        };
        if let (Some(role), false) = (field.role, *value == Value::Null) {
            out.insert(role, value.clone());
        }
        if let (Ty::Record(_, fields), Value::Record(_)) = (field.ty.nullable(), value) {
            role_values(fields, value, out);
        }
    }
}

/// Encodes with blocks of every kind, as other writers do.
fn encode_in_blocks(value: &Value, ty: &Ty, dice: &mut Dice, out: &mut Vec<u8>) {
    let mut blocks = |items: Vec<Vec<u8>>, out: &mut Vec<u8>| {
        let mut rest = &items[..];
        while !rest.is_empty() {
            let (block, after) = rest.split_at(1 + dice.below(rest.len()));
            rest = after;
            if dice.one_in(2) {
                encode::long(block.len() as i64, out);
            } else {
                encode::long(-(block.len() as i64), out);
                encode::long(block.iter().map(Vec::len).sum::<usize>() as i64, out);
            }
            out.extend(block.iter().flatten());
        }
        out.push(0);
    };
    match (value, ty) {
        (Value::Array(items), Ty::Array(ty)) => {
            let mut inner = Dice(items.len() as u64);
            let items = items.iter().map(|item| {
                let mut out = vec![];
                encode_in_blocks(item, ty, &mut inner, &mut out);
                out
            });
            blocks(items.collect(), out);
        }
        (Value::Map(pairs), Ty::Map(ty)) => {
            let mut inner = Dice(pairs.len() as u64);
            let pairs = pairs.iter().map(|(key, value)| {
                let mut out = vec![];
                encode::bytes(key.as_bytes(), &mut out);
                encode_in_blocks(value, ty, &mut inner, &mut out);
                out
            });
            blocks(pairs.collect(), out);
        }
        (Value::Union(at, value), Ty::Union(branches)) => {
            encode::long(i64::from(*at), out);
            encode_in_blocks(value, &branches[*at as usize], dice, out);
        }
        (Value::Record(values), Ty::Record(_, fields)) => {
            for ((_, value), field) in values.iter().zip(fields) {
                encode_in_blocks(value, &field.ty, dice, out);
            }
        }
        (value, ty) => {
            let schema = apache_avro::Schema::parse_str(&ty.json()).unwrap();
            out.extend(write_value(&schema, value));
        }
    }
}

fn write_value(schema: &apache_avro::Schema, value: &Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value.clone()).unwrap()
}

/// What apache-avro reads, if it reads all of the bytes and nothing beyond.
fn read_value(reader: &GenericDatumReader, bytes: &[u8]) -> Result<Value, String> {
    let mut rest = bytes;
    let value = reader.read_value(&mut rest).map_err(|e| e.to_string())?;
    if rest.is_empty() {
        Ok(value)
    } else {
        Err(format!("{} bytes are left", rest.len()))
    }
}

struct Case {
    ty: Ty,
    schema: Schema,
    avro: apache_avro::Schema,
    roles: Roles,
    value: Value,
    body: Vec<u8>,
    dice: Dice,
}

impl Case {
    fn of(seed: u64, depth: usize) -> Case {
        let mut dice = Dice(seed);
        let ty = random_schema(&mut dice, depth);
        let schema = Schema::parse(&ty.json()).unwrap_or_else(|e| panic!("{e}\n{}", ty.json()));
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let roles = Roles::find(&schema, &Overrides::default()).unwrap_or_else(|e| panic!("{e}"));
        let value = ty.value(&mut dice);
        let body = if dice.one_in(2) {
            write_value(&avro, &value)
        } else {
            let mut body = vec![];
            encode_in_blocks(&value, &ty, &mut dice, &mut body);
            body
        };
        Case {
            ty,
            schema,
            avro,
            roles,
            value,
            body,
            dice,
        }
    }

    fn walk(&self, read: Option<&Read>) -> Walk {
        Walk::compile(&self.schema, &self.roles, read).unwrap()
    }

    fn fields(&self) -> &[Field] {
        match &self.ty {
            Ty::Record(_, fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    /// That `found` has the values of the roles and no others.
    fn check(&self, found: &Found, body: &[u8]) -> Result<(), TestCaseError> {
        let mut values = HashMap::new();
        role_values(self.fields(), &self.value, &mut values);
        for role in Role::ALL {
            match values.get(role) {
                None => prop_assert!(!found.has(*role), "{role} in {}", self.ty.json()),
                Some(Value::String(text)) => {
                    prop_assert_eq!(found.text(body, *role), Some(&text[..]));
                    prop_assert_eq!(found.bytes(body, *role), Some(text.as_bytes()));
                }
                Some(Value::Bytes(bytes) | Value::Fixed(_, bytes)) => {
                    prop_assert_eq!(found.bytes(body, *role), Some(&bytes[..]));
                    prop_assert_eq!(found.text(body, *role), None);
                }
                Some(Value::Int(n)) => prop_assert_eq!(found.long(*role), Some(i64::from(*n))),
                Some(
                    Value::Long(n)
                    | Value::TimestampMillis(n)
                    | Value::TimestampMicros(n)
                    | Value::TimestampNanos(n),
                ) => prop_assert_eq!(found.long(*role), Some(*n)),
                other => panic!("{other:?}"),
            }
        }
        let millis = match values.get(&Role::EventTime) {
            Some(Value::Long(n) | Value::TimestampMillis(n)) => Some(*n),
            Some(Value::TimestampMicros(n)) => Some(n.div_euclid(1_000)),
            Some(Value::TimestampNanos(n)) => Some(n.div_euclid(1_000_000)),
            _ => None,
        };
        prop_assert_eq!(found.event_time_ms(), millis);
        Ok(())
    }
}

/// A reader's type for what a writer wrote: fields dropped, added, moved, types widened, wrapped
/// and narrowed, and now and then something else altogether.
fn evolve(ty: &Ty, dice: &mut Dice, names: &mut u32) -> Ty {
    if dice.one_in(40) {
        return Ty::random(dice, 1, names);
    }
    if dice.one_in(10) && !matches!(ty, Ty::Union(_) | Ty::Null) {
        return Ty::union(vec![Ty::Null, evolve(ty, dice, names)]);
    }
    match ty {
        Ty::Int => [Ty::Int, Ty::Int, Ty::Long, Ty::Double, Ty::Date][dice.below(5)].clone(),
        Ty::Long => {
            [Ty::Long, Ty::Long, Ty::Float, Ty::Time("timestamp-millis")][dice.below(4)].clone()
        }
        Ty::Float => [Ty::Float, Ty::Double][dice.below(2)].clone(),
        Ty::Text => [Ty::Text, Ty::Text, Ty::Text, Ty::Bytes, Ty::Uuid][dice.below(5)].clone(),
        Ty::Bytes => [Ty::Bytes, Ty::Bytes, Ty::Text][dice.below(3)].clone(),
        Ty::Enum(n, symbols, _) => {
            let mut symbols = symbols.clone();
            if dice.one_in(3) && symbols.len() > 1 {
                symbols.remove(dice.below(symbols.len()));
            }
            if dice.one_in(3) {
                symbols.reverse();
            }
            let default = dice.one_in(3).then(|| symbols[0].clone());
            Ty::Enum(*n, symbols, default)
        }
        Ty::Array(item) => Ty::Array(Box::new(evolve(item, dice, names))),
        Ty::Map(value) => Ty::Map(Box::new(evolve(value, dice, names))),
        Ty::Union(branches) => {
            let mut branches: Vec<Ty> = branches.iter().map(|b| evolve(b, dice, names)).collect();
            if dice.one_in(4) && branches.len() > 1 {
                branches.remove(dice.below(branches.len()));
            }
            if dice.one_in(4) {
                branches.reverse();
            }
            if branches.len() == 1 && dice.one_in(2) {
                return branches.remove(0);
            }
            Ty::union(branches)
        }
        Ty::Record(n, fields) => {
            let mut kept = vec![];
            for field in fields {
                if dice.one_in(8) {
                    continue;
                }
                let ty = evolve(&field.ty, dice, names);
                kept.push(Field {
                    ty,
                    role: None,
                    ..field.clone()
                });
            }
            if dice.one_in(3) {
                let mut added = Field::of(Ty::Union(vec![Ty::Null, Ty::Text]), names);
                added.name = format!("added{names}");
                added.default = Some("null".into());
                kept.insert(dice.below(kept.len() + 1), added);
            }
            if dice.one_in(4) {
                kept.reverse();
            }
            Ty::Record(*n, kept)
        }
        other => other.clone(),
    }
}

/// Whether the reader has no place for this value, by the resolution.
fn refused(value: &Value, read: &Read) -> bool {
    match (value, read) {
        (_, Read::Skip(_)) => false,
        (_, Read::Refuse(_)) => true,
        (value, Read::Into { read, .. }) => refused(value, read),
        (Value::Union(at, value), Read::Union(reads)) => refused(value, &reads[*at as usize]),
        (Value::Enum(at, _), Read::Enum { symbols, .. }) => symbols[*at as usize].is_none(),
        (Value::Array(items), Read::Array(read)) => items.iter().any(|item| refused(item, read)),
        (Value::Map(values), Read::Map(read)) => values.values().any(|value| refused(value, read)),
        (Value::Record(values), Read::Record { fields, .. }) => values
            .iter()
            .zip(fields)
            .any(|((_, value), (_, read))| refused(value, read)),
        (Value::Bytes(bytes), Read::Scalar { to, .. }) if to.kind == Kind::String => {
            let text = std::str::from_utf8(bytes);
            to.logical == Some(Logical::Uuid) || text.is_err()
        }
        (Value::String(_), Read::Scalar { to, .. }) => to.logical == Some(Logical::Uuid),
        (Value::Long(n), Read::Scalar { to, .. }) => {
            to.logical == Some(Logical::TimestampMillis) && n.checked_mul(1_000).is_none()
        }
        (_, Read::Scalar { .. }) => false,
        (value, read) => panic!("{value:?} by {read:?}"),
    }
}

/// So many cases, and as many times more as PROPTEST_CASES has 256. A failure names its seed: no
/// file of them is kept.
fn cases(cases: u32) -> ProptestConfig {
    let default = ProptestConfig::default();
    ProptestConfig {
        cases: cases * (default.cases / 256).max(1),
        failure_persistence: None,
        ..default
    }
}

proptest! {
    #![proptest_config(cases(400))]

    #[test]
    fn what_apache_avro_writes_is_accepted_and_its_roles_are_found(seed: u64, depth in 0..4_usize) {
        let case = Case::of(seed, depth);
        let reader = GenericDatumReader::builder(&case.avro).build().unwrap();
        prop_assert_eq!(read_value(&reader, &case.body), Ok(case.value.clone()));
        let walk = case.walk(None);
        let mut found = Found::default();
        let result = walk.run(&case.body, &mut found);
        prop_assert!(result.is_ok(), "{} {}", walk.explain(result.unwrap_err()), case.ty.json());
        case.check(&found, &case.body)?;

        // To be read as itself is to be read.
        let itself = case.walk(Some(&resolve::identity(&case.schema)));
        prop_assert!(itself.run(&case.body, &mut found).is_ok());
        case.check(&found, &case.body)?;

        // The short walk finds the same of the roles before its end.
        let short = Walk::up_to(&case.schema, &case.roles, Role::REQUIRED).unwrap();
        let mut first = Found::default();
        prop_assert!(short.run(&case.body, &mut first).is_ok());
        for role in Role::REQUIRED {
            prop_assert_eq!(first.bytes(&case.body, *role), found.bytes(&case.body, *role));
            prop_assert_eq!(first.long(*role), found.long(*role));
        }
    }

    #[test]
    fn a_tagged_message_is_the_tag_and_the_value(seed: u64, depth in 0..4_usize) {
        let case = Case::of(seed, depth);
        let schema = tag::tagged(&case.schema).unwrap();
        let mut body = vec![];
        let visit = Tag { visit_id: [3; 16], visit_started: 5 };
        visit.write_body(b"\x02\x04DE\x00\x00\x00\x02\x02X\x00", &case.body, &mut body);
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = GenericDatumReader::builder(&avro).build().unwrap();
        let Ok(Value::Record(read)) = read_value(&reader, &body) else {
            return Err(TestCaseError::fail(format!("{:?}", read_value(&reader, &body))));
        };
        let some = |text: &str| Value::Union(1, Box::new(Value::String(text.into())));
        let null = || Value::Union(0, Box::new(Value::Null));
        let (ours, theirs) = read.split_at(8);
        let ours: Vec<Value> = ours.iter().map(|(_, value)| value.clone()).collect();
        prop_assert_eq!(ours, vec![
            Value::Fixed(16, vec![3; 16]), Value::TimestampMillis(5), some("DE"),
            Value::Enum(0, "person".into()), null(), null(), some("X"), null(),
        ]);
        prop_assert_eq!(Value::Record(theirs.to_vec()), case.value.clone());

        let roles = Roles::find(&schema, &Overrides::default()).unwrap();
        let mut found = Found::default();
        prop_assert!(Walk::compile(&schema, &roles, None).unwrap().run(&body, &mut found).is_ok());
        case.check(&found, &body)?;
    }

    #[test]
    fn a_reader_refuses_exactly_what_it_has_no_place_for(seed: u64, depth in 0..4_usize) {
        let mut case = Case::of(seed, depth);
        let mut names = 10_000;
        // The outermost records match whatever happens to them.
        let reader = loop {
            if let reader @ Ty::Record(..) = evolve(&case.ty, &mut case.dice, &mut names) {
                break reader;
            }
        };
        let reader = Schema::parse(&reader.json()).unwrap();
        let Ok(read) = resolve::resolve(&case.schema, &reader) else { return Ok(()) };
        let walk = case.walk(Some(&read));
        let mut found = Found::default();
        let result = walk.run(&case.body, &mut found);
        prop_assert_eq!(
            result.is_err(), refused(&case.value, &read),
            "{} as {}: {:?} {:?}", case.schema.json(), reader.json(), case.value, result.map_err(|e| walk.explain(e))
        );
        if result.is_ok() {
            case.check(&found, &case.body)?;
        }
    }

    #[test]
    fn any_bytes_are_accepted_or_refused(seed: u64, depth in 0..4_usize, bytes: Vec<u8>) {
        let case = Case::of(seed, depth);
        let walk = case.walk(None);
        if let Err(error) = walk.run(&bytes, &mut Found::default()) {
            prop_assert!(error.at as usize <= bytes.len());
            prop_assert!(error.fault == Fault::Trailing || walk.path(error).is_some());
        }
    }
}

proptest! {
    #![proptest_config(cases(150))]

    #[test]
    fn whatever_is_accepted_of_broken_bodies_is_what_apache_avro_accepts(seed: u64, depth in 0..4_usize) {
        let case = Case::of(seed, depth);
        let walk = case.walk(None);
        let reader = GenericDatumReader::builder(&case.avro).build().unwrap();
        let mut found = Found::default();
        let mut check = |body: &[u8]| {
            if walk.run(body, &mut found).is_ok() {
                let read = read_value(&reader, body);
                prop_assert!(read.is_ok(), "{:?} of {} as {}", read, case.schema.json(), hex(body));
            }
            Ok(())
        };
        for len in 0..case.body.len() {
            check(&case.body[..len])?;
            let mut body = case.body.clone();
            for bit in 0..8 {
                body[len] = case.body[len] ^ 1 << bit;
                check(&body)?;
            }
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
