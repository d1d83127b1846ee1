//! What the anonymizer promises, by example; `tests/anonymize.rs` holds it against apache-avro.

use super::*;
use crate::key::{EventKey, visit_id};
use crate::measurement::{MEASUREMENT, Measurement};
use crate::pseudonym::{Salts, hex, year_of};
use crate::records::{self, EndReason, Visit, VisitRevised, VisitStarted};
use crate::tag::{self, Tag};
use apache_avro::types::Value as Avro;

fn salt() -> Salt {
    Salt::new([3; 32])
}

fn read(schema: &Schema, body: &[u8]) -> Vec<(String, Avro)> {
    let avro = apache_avro::Schema::parse(schema.json()).unwrap();
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build();
    match reader.unwrap().read_value(&mut &body[..]).unwrap() {
        Avro::Record(fields) => fields,
        other => panic!("{other:?}"),
    }
}

fn of<'a>(fields: &'a [(String, Avro)], name: &str) -> &'a Avro {
    let field = fields.iter().find(|(n, _)| n == name);
    match field.map(|(_, value)| value) {
        Some(Avro::Union(_, value)) => value,
        Some(value) => value,
        None => panic!("no field {name}"),
    }
}

fn text(pseudonym: [u8; 16]) -> Avro {
    Avro::String(String::from_utf8(hex(pseudonym).to_vec()).unwrap())
}

fn privacy(said: &[(&str, Privacy)]) -> Overrides {
    Overrides {
        privacy: said
            .iter()
            .map(|(path, p)| ((*path).to_owned(), *p))
            .collect(),
        ..Default::default()
    }
}

/// A tagged schema of a writer with these fields.
fn tagged(fields: &str) -> Schema {
    let writer = format!(r#"{{"type":"record","name":"shop.Event","fields":[{fields}]}}"#);
    tag::tagged(&Schema::parse(&writer).unwrap()).unwrap()
}

#[test]
fn a_tagged_measurement_keeps_what_is_no_ones() {
    let schema = tag::tagged(&MEASUREMENT).unwrap();
    let twin = Anonymizer::of_tagged(&schema, &Overrides::default()).unwrap();
    assert_eq!(
        twin.anonymous().record().name,
        "visitflow.MeasurementTaggedAnonymous"
    );
    let mut measurement = vec![];
    Measurement {
        event_id: [1; 16],
        browser_id: "b-1",
        event_time: 1_767_225_600_001 + 3_599_998,
        effect: "clicked",
        cause: Some([2; 16]),
        url: Some("https://shop.example/p?q=words#x"),
        referrer: Some("https://ann@mail.example/in?box=1"),
        customer_id: Some("c-1"),
        ip: Some("192.0.2.1"),
        user_agent: Some("Mozilla"),
        value: Some(99),
        ..Default::default()
    }
    .encode_body(&mut measurement);
    let mut body = vec![];
    let tag = Tag {
        visit_id: [9; 16],
        visit_started: 1_767_225_600_001,
    };
    tag.write_body(b"\x02\x04DE\x00\x00\x00\x00\x00", &measurement, &mut body);

    assert_eq!(twin.began(&body), Ok(1_767_225_600_001));
    let mut out = b"before".to_vec();
    twin.run(&salt(), &body, &mut out).unwrap();
    let fields = read(twin.anonymous(), &out[6..]);
    let pseudonym = |kind, value: &[u8]| salt().pseudonym(&kind, value);
    let fixed = |kind, value: &[u8]| Avro::Fixed(16, pseudonym(kind, value).to_vec());
    for (name, value) in [
        ("visit_id", fixed(IdKind::Visit, &[9; 16])),
        ("visit_started", Avro::TimestampMillis(1_767_225_600_000)),
        ("country", Avro::String("DE".into())),
        ("event_id", fixed(IdKind::Event, &[1; 16])),
        ("browser_id", text(pseudonym(IdKind::Browser, b"b-1"))),
        ("event_time", Avro::TimestampMillis(1_767_225_600_000)),
        ("effect", Avro::String("clicked".into())),
        ("cause", fixed(IdKind::Event, &[2; 16])),
        ("url", Avro::String("/p".into())),
        ("referrer", Avro::String("https://mail.example/in".into())),
        ("customer_id", text(pseudonym(IdKind::Customer, b"c-1"))),
        ("value", Avro::Long(99)),
    ] {
        assert_eq!(of(&fields, name), &value, "{name}");
    }
    let gone = ["ip", "user_agent", "attributes"];
    assert!(fields.iter().all(|(name, _)| !gone.contains(&&name[..])));

    // An error leaves nothing behind.
    for end in 0..body.len() {
        let before = out.len();
        assert!(twin.run(&salt(), &body[..end], &mut out).is_err());
        assert_eq!(out.len(), before);
    }
    body.push(0);
    let trailing = twin.run(&salt(), &body, &mut out).unwrap_err();
    assert_eq!(trailing.fault, Fault::Trailing);
}

#[test]
fn ids_of_records_agree_with_those_of_measurements() {
    let visit = visit_id(b"b-1", 5, &EventKey([1; 16]));
    let mut body = vec![];
    VisitRevised {
        browser_id: "b-1",
        from: visit,
        from_started: 3_600_005,
        into: [8; 16],
        into_started: 5,
        first: (3_600_006, EventKey([1; 16])),
        until: Some((3_600_007, EventKey::of_text("e"))),
    }
    .encode_body(&mut body);
    let twin = Anonymizer::of_record(&records::VISIT_REVISED).unwrap();
    assert_eq!(twin.began(&body), Ok(3_600_005));
    let mut out = vec![];
    twin.run(&salt(), &body, &mut out).unwrap();
    let fields = read(twin.anonymous(), &out);
    let fixed = |kind, value: &[u8]| Avro::Fixed(16, salt().pseudonym(&kind, value).to_vec());
    assert_eq!(of(&fields, "from"), &fixed(IdKind::Visit, &visit));
    assert_eq!(of(&fields, "into"), &fixed(IdKind::Visit, &[8; 16]));
    assert_eq!(of(&fields, "first_id"), &fixed(IdKind::Event, &[1; 16]));
    let until = EventKey::of_text("e").0;
    assert_eq!(of(&fields, "until_id"), &fixed(IdKind::Event, &until));
    assert_eq!(of(&fields, "first_time"), &Avro::TimestampMillis(3_600_000));

    // Whatever a schema has for an event, its pseudonym is that of its key.
    let schema = tagged(
        r#"{"name":"id","type":"string","role":"event_id","privacy":"pseudonymize"},
           {"name":"c","type":"long","role":"cause","privacy":"pseudonymize"},
           {"name":"b","type":"bytes","role":"browser_id","privacy":"pseudonymize"}"#,
    );
    let twin = Anonymizer::of_tagged(&schema, &Overrides::default()).unwrap();
    let mut body = vec![];
    Tag::default().write_body(b"\0\0\0\0\0\0", b"\x02e\x0e\x06b-1", &mut body);
    out.clear();
    twin.run(&salt(), &body, &mut out).unwrap();
    let fields = read(twin.anonymous(), &out);
    assert_eq!(
        of(&fields, "id"),
        &text(salt().pseudonym(&IdKind::Event, &until))
    );
    let seven = EventKey::of_long(7).0;
    assert_eq!(
        of(&fields, "c"),
        &text(salt().pseudonym(&IdKind::Event, &seven))
    );
    assert_eq!(
        of(&fields, "b"),
        &text(salt().pseudonym(&IdKind::Browser, b"b-1"))
    );
}

#[test]
fn every_record_about_visits_has_a_twin() {
    for schema in [
        &*records::VISIT,
        &*records::VISIT_STARTED,
        &*records::VISIT_ENDED,
        &*records::VISIT_REVISED,
    ] {
        let twin = Anonymizer::of_record(schema).unwrap();
        let name = format!("{}Anonymous", schema.record().name);
        assert_eq!(twin.anonymous().record().name, name);
        assert!(twin.arrow_schema().is_ok());
    }
    let visit = Anonymizer::of_record(&records::VISIT).unwrap();
    let fields = visit.anonymous().record().fields.iter();
    assert!(fields.clone().all(|f| f.name != "sealed_tick"));
    // What cannot be of a year has no twin.
    let error = Anonymizer::of_record(&records::REJECTED).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("does not say when the visit began"),
        "{error}"
    );
}

#[test]
fn a_visit_that_begins_in_one_year_has_all_its_ids_under_that_years_salt() {
    let mut salts = Salts::default();
    salts.add(2025, [5; 32]);
    salts.add(2026, [6; 32]);
    let twin = Anonymizer::of_record(&records::VISIT_STARTED).unwrap();
    let pseudonyms = |started| {
        let mut body = vec![];
        VisitStarted {
            visit_id: [1; 16],
            browser_id: "b",
            started,
        }
        .encode_body(&mut body);
        let year = year_of(twin.began(&body).unwrap());
        let mut out = vec![];
        twin.run(salts.get(year).unwrap(), &body, &mut out).unwrap();
        let fields = read(twin.anonymous(), &out);
        (
            of(&fields, "visit_id").clone(),
            of(&fields, "browser_id").clone(),
        )
    };
    const NEW_YEAR: i64 = 1_767_225_600_000;
    let of_year = |year| {
        let salt = salts.get(year).unwrap();
        let visit = salt.pseudonym(&IdKind::Visit, &[1; 16]).to_vec();
        (
            Avro::Fixed(16, visit),
            text(salt.pseudonym(&IdKind::Browser, b"b")),
        )
    };
    assert_eq!(pseudonyms(NEW_YEAR - 1), of_year(2025));
    assert_eq!(pseudonyms(NEW_YEAR), of_year(2026));
}

#[test]
fn fields_without_privacy_are_told_all_at_once_beside_the_tree() {
    let schema = tagged(
        r#"{"name":"b","type":"string","role":"browser_id","privacy":"keep"},
           {"name":"user","type":{"type":"record","name":"User","fields":[
               {"name":"name","type":"string"},{"name":"age","type":"int","privacy":"drop"}]}},
           {"name":"labels","type":{"type":"map","values":"string"}},
           {"name":"price","type":"double","privacy":"pseudonymize"},
           {"name":"when","type":"string","privacy":"generalize"}"#,
    );
    let error = Anonymizer::of_tagged(&schema, &Overrides::default()).unwrap_err();
    let expected = "\
the schema shop.EventTagged cannot be anonymized:
  b  would let out the browser_id, expected pseudonymize or drop
  user.name  has no privacy, expected keep, pseudonymize, generalize, drop
  labels  has no privacy, expected keep, pseudonymize, generalize, drop
  price  is to be pseudonymized, but is double, expected string, bytes, fixed, int or long
  when  is to be generalized, but is string, expected a time, the role url, referrer, entity_id, ip or user_agent, or a text with such a name
  the schema shop.EventTagged:
";
    let error = error.to_string();
    assert!(error.starts_with(expected), "{error}");
    assert!(
        error.contains("    labels         map of string"),
        "{error}"
    );
}

#[test]
fn the_nearest_word_on_privacy_counts_and_the_job_files_goes_first() {
    let fields = r#"{"name":"user","privacy":"keep","type":{"type":"record","name":"User","fields":[
            {"name":"name","type":"string","privacy":"drop"},{"name":"age","type":"int"},
            {"name":"id","type":"int"}]}},
        {"name":"same","type":["null","User"],"privacy":"drop"},
        {"name":"lines","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
            {"name":"sku","type":"string"},{"name":"coupon","type":["null","string"]}]}}},
        {"name":"labels","type":{"type":"map","values":"string"},"privacy":"pseudonymize"}"#;
    let said = privacy(&[
        ("user.id", Privacy::Pseudonymize),
        ("same.age", Privacy::Keep),
        ("lines[].sku", Privacy::Keep),
        ("lines[].coupon", Privacy::Pseudonymize),
    ]);
    let twin = Anonymizer::of_tagged(&tagged(fields), &said).unwrap();
    let names = |ty: &crate::schema::Type| match &roles::nullable(ty).kind {
        Kind::Record(record) => {
            let fields = record
                .fields
                .iter()
                .map(|f| (f.name.clone(), f.ty.to_string()));
            (record.name.clone(), fields.collect::<Vec<_>>())
        }
        other => panic!("{other:?}"),
    };
    let fields = &twin.anonymous().record().fields[8..];
    let pair = |name: &str, ty: &str| (name.to_owned(), ty.to_owned());
    assert_eq!(
        names(&fields[0].ty),
        (
            "shop.User".into(),
            vec![pair("age", "int"), pair("id", "string")]
        )
    );
    // The same type, treated otherwise, is another type.
    assert_eq!(
        names(&fields[1].ty),
        ("shop.User2".into(), vec![pair("age", "int")])
    );
    let body = b"\x04me\x02\x04\x02\x04me\x02\x04\x02\x06sku\x02\x02c\x00\x02\x02k\x02v\x00";
    let mut whole = vec![];
    Tag::default().write_body(b"\0\0\0\0\0\0", body, &mut whole);
    let mut out = vec![];
    twin.run(&salt(), &whole, &mut out).unwrap();
    let fields = read(twin.anonymous(), &out);
    let field =
        |path: &str, value: &[u8]| text(salt().pseudonym(&IdKind::Field(path.into()), value));
    let user = vec![
        ("age".into(), Avro::Int(1)),
        ("id".into(), field("user.id", b"2")),
    ];
    assert_eq!(of(&fields, "user"), &Avro::Record(user));
    let coupon = Avro::Union(1, field("lines[].coupon", b"c").into());
    let line = vec![
        ("sku".into(), Avro::String("sku".into())),
        ("coupon".into(), coupon),
    ];
    assert_eq!(of(&fields, "lines"), &Avro::Array(vec![Avro::Record(line)]));
    let (Avro::String(key), value) = (field("labels", b"k"), field("labels", b"v")) else {
        unreachable!()
    };
    assert_eq!(of(&fields, "labels"), &Avro::Map([(key, value)].into()));
}

#[test]
fn what_cannot_be_one_type_afterwards_is_refused() {
    let wrong = |fields: &str| {
        let error = Anonymizer::of_tagged(&tagged(fields), &Overrides::default()).unwrap_err();
        match error {
            AnonymizeError::Privacy(error) => error.problems[0].wrong.clone(),
            other => panic!("{other}"),
        }
    };
    let both = r#"{"name":"x","type":["null","bytes","string"],"privacy":"pseudonymize"}"#;
    assert_eq!(wrong(both), Wrong::SameBranches);
    let one = r#"{"name":"x","type":["int",{"type":"record","name":"A","fields":[
        {"name":"a","type":"int","privacy":"drop"}]}],"privacy":"keep"}"#;
    assert_eq!(wrong(one), Wrong::Branch);
    let keys = r#"{"name":"x","type":{"type":"map","values":{"type":"record","name":"A","fields":[
        {"name":"a","type":"int","privacy":"keep"}]}},"privacy":"generalize"}"#;
    assert_eq!(wrong(keys), Wrong::Keys);
    let time = r#"{"name":"t","type":"long","role":"event_time","privacy":"keep"}"#;
    assert_eq!(wrong(time), Wrong::Exposed(Role::EventTime));
}

#[test]
fn columns_of_visits_are_those_of_their_twins() {
    use crate::columns::{Columns, Ids};
    use crate::resolve::identity;
    let twin = Anonymizer::of_record(&records::VISIT).unwrap();
    let (salt, mut bodies) = (salt(), vec![]);
    let mut columns =
        [&*records::VISIT, twin.anonymous()].map(|s| Columns::new(s, Ids::Hex).unwrap());
    for customer_id in [None, Some("c-1")] {
        let mut body = vec![];
        Visit {
            visit_id: [7; 16],
            browser_id: "b",
            started: 1_767_225_600_001,
            last_seen: 1_767_229_200_001,
            measurements: 3,
            end_reason: EndReason::Inactivity,
            context: b"\x02\x04DE\x00\x00\x00\x00\x00",
            customer_id,
            sealed_tick: 8,
            orders: Some(2),
            revenue: Some(3_980),
            credits: Some(&[]),
        }
        .encode_body(&mut body);
        let mut other = vec![];
        twin.run(&salt, &body, &mut other).unwrap();
        bodies.push([body, other]);
    }
    for body in &bodies {
        for (columns, (schema, body)) in columns
            .iter_mut()
            .zip([&*records::VISIT, twin.anonymous()].into_iter().zip(body))
        {
            let program = columns.program(&identity(schema)).unwrap();
            columns.append(&program, body).unwrap();
        }
    }
    let [from, expected] = columns.map(|mut columns| columns.finish());
    assert_eq!(twin.began_of_rows(&from).unwrap(), [1_767_225_600_001; 2]);
    assert_eq!(twin.rows(&from, &[&salt, &salt]).unwrap(), expected);
    // Other columns are refused by name.
    let less = from.project(&[0, 1, 2, 3]).unwrap();
    let error = twin.rows(&less, &[&salt, &salt]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the column measurements is missing, expected Int64"
    );
}
