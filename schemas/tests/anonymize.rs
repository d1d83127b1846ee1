//! Anonymized bodies and columns, of random schemas with random privacy, are those of a plain
//! transformation of the values that apache-avro reads; and broken bodies end in errors.

#[allow(dead_code)]
mod arbitrary;

use apache_avro::types::Value as Avro;
use arbitrary::{Field, Fixed, Maker, Record, Rng, Ty};
use proptest::prelude::*;
use visitflow_schemas::anonymize::{AnonymizeError, Anonymizer, Wrong};
use visitflow_schemas::columns::{Columns, Ids};
use visitflow_schemas::pseudonym::{Kind, Salt, hex};
use visitflow_schemas::resolve::identity;
use visitflow_schemas::role::Privacy;
use visitflow_schemas::roles::Overrides;
use visitflow_schemas::schema::Schema;

fn field(name: &str, ty: Ty) -> Field {
    Field {
        name: name.into(),
        aliases: vec![],
        ty,
        default: None,
    }
}

/// A tag's first two fields, and whatever.
fn made(seed: u64, fields: usize) -> (Maker, Record, Schema) {
    let mut maker = Maker::new(seed);
    let mut record = maker.record(fields, 3);
    let id = Fixed {
        name: "visitflow.VisitId".into(),
        size: 16,
        logical: None,
        decimal: None,
    };
    record.fields.insert(0, field("visit_id", Ty::Fixed(id)));
    let time = Ty::Long(Some("timestamp-millis"));
    record.fields.insert(1, field("visit_started", time));
    let schema = Schema::from_json(arbitrary::schema_json(&record)).unwrap();
    (maker, record, schema)
}

/// Says the privacy of some fields, and of all that no field around them says.
fn say(record: &Record, path: &str, inherited: bool, rng: &mut Rng, out: &mut Overrides) {
    for field in &record.fields {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{}", field.name);
        let nested = records(&field.ty, &path);
        let own = match only_records(&field.ty) {
            true => rng.percent(40),
            false => !inherited || rng.percent(50),
        };
        if own {
            let mut words = vec![Privacy::Keep, Privacy::Drop];
            if pseudonymous(&field.ty) {
                words.extend([Privacy::Pseudonymize; 3]);
            }
            if time(&field.ty) {
                words.extend([Privacy::Generalize; 3]);
            }
            let mut word = *rng.of(&words);
            match &path[..] {
                "visit_id" => word = Privacy::Pseudonymize,
                "visit_started" => word = Privacy::Generalize,
                _ => {}
            }
            out.privacy.insert(path.clone(), word);
        }
        for (path, record) in nested {
            say(record, &path, own || inherited, rng, out);
        }
    }
}

fn records<'a>(ty: &'a Ty, path: &str) -> Vec<(String, &'a Record)> {
    match ty {
        Ty::Record(record) if !record.fields.is_empty() => vec![(path.to_owned(), record)],
        Ty::Array(item) => records(item, &format!("{path}[]")),
        Ty::Map(value) => records(value, &format!("{path}{{}}")),
        Ty::Union(branches) => branches.iter().flat_map(|b| records(b, path)).collect(),
        _ => vec![],
    }
}

/// Whether fields of records say all there is.
fn only_records(ty: &Ty) -> bool {
    match ty {
        Ty::Record(record) => !record.fields.is_empty(),
        Ty::Array(item) => only_records(item),
        Ty::Union(branches) => {
            let others: Vec<_> = branches.iter().filter(|b| **b != Ty::Null).collect();
            !others.is_empty() && others.into_iter().all(only_records)
        }
        _ => false,
    }
}

fn pseudonymous(ty: &Ty) -> bool {
    match ty {
        Ty::Int(None) | Ty::Long(None) | Ty::Bytes(None) | Ty::Str(_) | Ty::Null => true,
        Ty::Fixed(f) => f.size > 0 && matches!(f.logical, None | Some("uuid")),
        Ty::Array(inner) | Ty::Map(inner) => pseudonymous(inner),
        Ty::Union(branches) => branches.iter().all(pseudonymous),
        Ty::Record(record) => record.fields.iter().all(|f| pseudonymous(&f.ty)),
        _ => false,
    }
}

fn time(ty: &Ty) -> bool {
    match ty {
        Ty::Int(logical) => *logical == Some("time-millis"),
        Ty::Long(logical) => logical.is_some(),
        Ty::Null => true,
        Ty::Array(inner) => time(inner),
        Ty::Union(branches) => branches.iter().all(time),
        _ => false,
    }
}

/// The plain reference.
struct Reference<'a> {
    said: &'a Overrides,
    salt: &'a Salt,
}

impl Reference<'_> {
    fn at(&self, path: &str, name: &str, inherited: Option<Privacy>) -> (String, Option<Privacy>) {
        let dot = if path.is_empty() { "" } else { "." };
        let path = format!("{path}{dot}{name}");
        let privacy = self.said.privacy.get(&path).copied().or(inherited);
        (path, privacy)
    }

    fn dropped(&self, ty: &Ty, path: &str, privacy: Option<Privacy>) -> bool {
        match ty {
            Ty::Record(record) if !record.fields.is_empty() => record.fields.iter().all(|f| {
                let (path, privacy) = self.at(path, &f.name, privacy);
                self.dropped(&f.ty, &path, privacy)
            }),
            Ty::Array(item) => self.dropped(item, &format!("{path}[]"), privacy),
            Ty::Map(value) => {
                privacy == Some(Privacy::Drop)
                    || self.dropped(value, &format!("{path}{{}}"), privacy)
            }
            Ty::Union(branches) => {
                let others: Vec<_> = branches.iter().filter(|b| **b != Ty::Null).collect();
                match others.is_empty() {
                    true => privacy == Some(Privacy::Drop),
                    false => others.iter().all(|b| self.dropped(b, path, privacy)),
                }
            }
            _ => privacy == Some(Privacy::Drop),
        }
    }

    fn value(&self, value: Avro, ty: &Ty, path: &str, privacy: Option<Privacy>) -> Avro {
        match (value, ty) {
            (Avro::Record(values), Ty::Record(record)) => {
                let both = values.into_iter().zip(&record.fields);
                let kept = both.filter_map(|((name, value), field)| {
                    let (path, privacy) = self.at(path, &name, privacy);
                    let gone = self.dropped(&field.ty, &path, privacy);
                    (!gone).then(|| (name, self.value(value, &field.ty, &path, privacy)))
                });
                Avro::Record(kept.collect())
            }
            (Avro::Array(items), Ty::Array(ty)) => {
                let path = format!("{path}[]");
                let items = items.into_iter().map(|i| self.value(i, ty, &path, privacy));
                Avro::Array(items.collect())
            }
            (Avro::Map(entries), Ty::Map(ty)) => {
                let inner = format!("{path}{{}}");
                let entries = entries.into_iter().map(|(key, value)| {
                    let key = match privacy {
                        Some(Privacy::Pseudonymize) => self.pseudonym(path, key.as_bytes()),
                        _ => key,
                    };
                    (key, self.value(value, ty, &inner, privacy))
                });
                Avro::Map(entries.collect())
            }
            (Avro::Union(branch, value), Ty::Union(branches)) => {
                let value = self.value(*value, &branches[branch as usize], path, privacy);
                Avro::Union(branch, value.into())
            }
            (value, ty) => match privacy {
                Some(Privacy::Pseudonymize) => self.id(value, ty, path),
                Some(Privacy::Generalize) => hour(value),
                _ => value,
            },
        }
    }

    fn pseudonym(&self, path: &str, value: &[u8]) -> String {
        let kind = Kind::Field(path.trim_end_matches(['[', ']', '{', '}']).into());
        String::from_utf8(hex(self.salt.pseudonym(&kind, value)).to_vec()).unwrap()
    }

    fn id(&self, value: Avro, ty: &Ty, path: &str) -> Avro {
        let bytes = match value {
            Avro::Null | Avro::Record(_) => return value,
            Avro::Int(i) => i.to_string().into_bytes(),
            Avro::Long(i) => i.to_string().into_bytes(),
            Avro::String(text) => text.into_bytes(),
            Avro::Uuid(uuid) if *ty == Ty::Str(true) => uuid.to_string().into_bytes(),
            Avro::Uuid(uuid) => uuid.as_bytes().to_vec(),
            Avro::Bytes(bytes) | Avro::Fixed(_, bytes) => bytes,
            other => panic!("{other:?}"),
        };
        match ty {
            Ty::Fixed(f) if f.size == 16 => {
                let kind = match path {
                    "visit_id" => Kind::Visit,
                    path => Kind::Field(path.trim_end_matches(['[', ']', '{', '}']).into()),
                };
                Avro::Fixed(16, self.salt.pseudonym(&kind, &bytes).to_vec())
            }
            _ => Avro::String(self.pseudonym(path, &bytes)),
        }
    }
}

fn hour(value: Avro) -> Avro {
    let floor = |time: i64, seconds: i64| {
        let hour = 3_600 * i128::from(seconds);
        let floor = i128::from(time).div_euclid(hour) * hour;
        i64::try_from(floor).unwrap_or(i64::MIN)
    };
    match value {
        Avro::TimeMillis(t) => Avro::TimeMillis(floor(t.into(), 1_000).max(i32::MIN.into()) as i32),
        Avro::TimeMicros(t) => Avro::TimeMicros(floor(t, 1_000_000)),
        Avro::TimestampMillis(t) => Avro::TimestampMillis(floor(t, 1_000).max(i64::MIN / 1_000)),
        Avro::TimestampMicros(t) => Avro::TimestampMicros(floor(t, 1_000_000)),
        Avro::TimestampNanos(t) => Avro::TimestampNanos(floor(t, 1_000_000_000)),
        Avro::LocalTimestampMillis(t) => {
            Avro::LocalTimestampMillis(floor(t, 1_000).max(i64::MIN / 1_000))
        }
        Avro::LocalTimestampMicros(t) => Avro::LocalTimestampMicros(floor(t, 1_000_000)),
        Avro::LocalTimestampNanos(t) => Avro::LocalTimestampNanos(floor(t, 1_000_000_000)),
        other => other,
    }
}

/// In words, with the entries of maps in order; two that are equal are so in all their bits.
fn words(value: &Avro) -> String {
    match value {
        Avro::Map(entries) => {
            let mut entries: Vec<_> = entries.iter().map(|(k, v)| (k, words(v))).collect();
            entries.sort();
            format!("{entries:?}")
        }
        Avro::Array(items) => format!("{:?}", items.iter().map(words).collect::<Vec<_>>()),
        Avro::Record(fields) => {
            let fields = fields.iter().map(|(name, value)| (name, words(value)));
            format!("{:?}", fields.collect::<Vec<_>>())
        }
        Avro::Union(branch, value) => format!("{branch}: {}", words(value)),
        Avro::Float(x) => format!("{:x}", x.to_bits()),
        Avro::Double(x) => format!("{:x}", x.to_bits()),
        other => format!("{other:?}"),
    }
}

fn read(schema: &Schema, body: &[u8]) -> Avro {
    let avro = apache_avro::Schema::parse(schema.json()).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build();
    reader.unwrap().read_value(&mut &body[..]).unwrap()
}

/// The twin of a schema, unless it has a union that cannot be anonymized.
fn twin(schema: &Schema, said: &Overrides) -> Option<Anonymizer> {
    match Anonymizer::of_tagged(schema, said) {
        Ok(twin) => Some(twin),
        Err(AnonymizeError::Privacy(error))
            if error
                .problems
                .iter()
                .all(|p| matches!(p.wrong, Wrong::Branch | Wrong::SameBranches)) =>
        {
            None
        }
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn twins_of_bodies_and_of_columns_are_those_of_a_plain_reference(seed: u64, fields in 0..8_usize, count in 0..6_usize) {
        let (mut maker, record, schema) = made(seed, fields);
        let mut said = Overrides::default();
        say(&record, "", false, &mut maker.rng, &mut said);
        let Some(twin) = twin(&schema, &said) else { return Ok(()) };
        let ty = Ty::Record(record.clone());
        let salts = [Salt::new([1; 32]), Salt::new([2; 32])];

        let mut from = Columns::new(&schema, Ids::Hex).unwrap();
        let mut to = Columns::new(twin.anonymous(), Ids::Hex).unwrap();
        let programs = [from.program(&identity(&schema)).unwrap(), to.program(&identity(twin.anonymous())).unwrap()];
        let mut of_rows = vec![];
        for i in 0..count {
            let salt = &salts[i % 2];
            of_rows.push(salt);
            let mut body = vec![];
            let val = maker.value(&ty);
            maker.encode(&val, &ty, &mut body);
            let mut out = vec![];
            twin.run(salt, &body, &mut out).unwrap();
            let reference = Reference { said: &said, salt };
            let expected = reference.value(read(&schema, &body), &ty, "", None);
            prop_assert_eq!(words(&read(twin.anonymous(), &out)), words(&expected));
            from.append(&programs[0], &body).unwrap();
            to.append(&programs[1], &out).unwrap();

            // Whatever becomes of the bytes, there is an answer, and nothing left after an error.
            for _ in 0..4 {
                let at = maker.rng.below(body.len());
                body[at] = maker.rng.next() as u8;
                let mut out = vec![7];
                match twin.run(salt, &body, &mut out) {
                    Ok(()) => prop_assert!(out.len() <= 34 * body.len() + 1),
                    Err(_) => prop_assert_eq!(&out, &[7]),
                }
                let _ = twin.began(&body);
            }
        }
        let rows = from.finish();
        let made = twin.rows(&rows, &of_rows).unwrap();
        let expected = to.finish();
        prop_assert_eq!(&made, &expected);
        // A slice of rows is treated as its rows are.
        if count > 1 {
            let made = twin.rows(&rows.slice(1, count - 1), &of_rows[1..]).unwrap();
            prop_assert_eq!(made, expected.slice(1, count - 1));
        }
    }

    #[test]
    fn a_schema_that_says_too_little_is_refused(seed: u64, fields in 1..8_usize) {
        let (mut maker, record, schema) = made(seed, fields);
        let mut said = Overrides::default();
        say(&record, "", false, &mut maker.rng, &mut said);
        let all = said.privacy.len();
        let top: Vec<String> = said.privacy.keys().filter(|path| !path.contains(['.', '[', '{'])).cloned().collect();
        let gone = maker.rng.of(&top).clone();
        said.privacy.remove(&gone);
        prop_assert!(all > said.privacy.len());
        let field = record.fields.iter().find(|f| f.name == gone).unwrap();
        // Unless all that is in it says it for itself.
        if !only_records(&field.ty) {
            match Anonymizer::of_tagged(&schema, &said) {
                Err(AnonymizeError::Privacy(error)) => {
                    let told = |p: &visitflow_schemas::anonymize::Problem| p.wrong == Wrong::Missing && p.path.starts_with(&gone);
                    prop_assert!(error.problems.iter().any(told), "{}", error);
                }
                other => prop_assert!(false, "{:?}", other),
            }
        }
    }
}
