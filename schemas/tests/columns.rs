//! Columns hold what the bodies said: against apache-avro for one schema, against a plain
//! reference for pairs of them, and after bodies that were broken.

mod arbitrary;

use std::sync::Arc;

use apache_avro::types::Value as Avro;
use arbitrary::seen::{Seen, cell, rows};
use arbitrary::{Field, Maker, Record, Ty, Val};
use arrow_schema::DataType;
use proptest::prelude::*;
use serde_json::json;
use visitflow_schemas::columns::{
    BodyError, Broken, Columns, ColumnsError, Ids, Program, arrow_schema_of,
};
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::resolve::{identity, resolve};
use visitflow_schemas::schema::Schema;

/// What the module's table promises for a value; `None` where there is no column.
fn seen(val: &Val, ty: &Ty, ids: Ids, keep: bool) -> Option<Seen> {
    let micros = |time: i64, logical: &str| match logical {
        l if l.ends_with("millis") => time * 1000,
        l if l.ends_with("nanos") => (time - time.rem_euclid(1000)) / 1000,
        _ => time,
    };
    Some(match (val, ty) {
        (Val::Null, Ty::Null) => return keep.then_some(Seen::Null),
        (Val::Boolean(b), Ty::Boolean) => Seen::Boolean(*b),
        (Val::Int(i), Ty::Int(None)) => Seen::Int(*i),
        (Val::Int(i), Ty::Int(Some("date"))) => Seen::Date(*i),
        (Val::Int(i), Ty::Int(Some(_))) => Seen::Long(i64::from(*i) * 1000),
        (Val::Long(i), Ty::Long(None | Some("time-micros"))) => Seen::Long(*i),
        (Val::Long(i), Ty::Long(Some(logical))) => match logical.starts_with("local-") {
            true => Seen::Local(micros(*i, logical)),
            false => Seen::Utc(micros(*i, logical)),
        },
        (Val::Float(x), Ty::Float) => Seen::Float(x.to_bits()),
        (Val::Double(x), Ty::Double) => Seen::Double(x.to_bits()),
        (Val::Bytes(bytes), Ty::Bytes(None)) => Seen::Bytes(bytes.clone()),
        (Val::Bytes(bytes), Ty::Bytes(Some((precision, scale)))) => {
            Seen::Decimal(number(bytes), *precision, *scale as i8)
        }
        (Val::Str(text), Ty::Str(_)) => Seen::Text(text.clone()),
        (Val::Bytes(_), Ty::Fixed(f)) if f.size == 0 => return keep.then_some(Seen::Boolean(true)),
        (Val::Bytes(bytes), Ty::Fixed(f)) => match (f.decimal, f.logical, f.size, ids) {
            (Some((precision, scale)), ..) => Seen::Decimal(number(bytes), precision, scale as i8),
            (_, Some("uuid"), _, Ids::Hex) => {
                Seen::Text(uuid_text(bytes.as_slice().try_into().unwrap()))
            }
            (_, _, 16, Ids::Hex) => Seen::Text(bytes.iter().map(|b| format!("{b:02x}")).collect()),
            (_, _, 65.., _) => Seen::Bytes(bytes.clone()),
            _ => Seen::Fixed(bytes.clone()),
        },
        (Val::Enum(symbol), Ty::Enum(_)) => Seen::Symbol(symbol.clone()),
        (Val::Array(items), Ty::Array(ty)) => Seen::List(
            items
                .iter()
                .map(|i| seen(i, ty, ids, true).unwrap())
                .collect(),
        ),
        (Val::Map(entries), Ty::Map(ty)) => {
            let entry = |(k, v): &(String, Val)| (k.clone(), seen(v, ty, ids, true).unwrap());
            Seen::Map(entries.iter().map(entry).collect())
        }
        (Val::Record(values), Ty::Record(record)) => {
            let fields = values
                .iter()
                .zip(&record.fields)
                .filter_map(|(val, field)| {
                    Some((field.name.clone(), seen(val, &field.ty, ids, false)?))
                });
            match fields.collect::<Vec<_>>() {
                none if none.is_empty() => return keep.then_some(Seen::Boolean(true)),
                fields => Seen::Struct(fields),
            }
        }
        (Val::Union(branch, val), Ty::Union(branches)) => {
            let others: Vec<usize> = (0..branches.len())
                .filter(|i| branches[*i] != Ty::Null)
                .collect();
            match others[..] {
                [] => return keep.then_some(Seen::Null),
                _ if branches[*branch] == Ty::Null => Seen::Null,
                [other] => {
                    return seen(val, &branches[other], ids, keep || branches.len() > 1);
                }
                _ => {
                    let field = |i: &usize| {
                        let value = match i == branch {
                            true => seen(val, &branches[*i], ids, true).unwrap(),
                            false => Seen::Null,
                        };
                        (arbitrary::kind(&branches[*i]), value)
                    };
                    Seen::Struct(others.iter().map(field).collect())
                }
            }
        }
        _ => unreachable!("{val:?} of {ty:?}"),
    })
}

fn row(val: &Val, record: &Record, ids: Ids) -> Seen {
    let none = Seen::Struct(vec![]);
    seen(val, &Ty::Record(record.clone()), ids, false).unwrap_or(none)
}

fn number(bytes: &[u8]) -> i128 {
    let start = if bytes.first().is_some_and(|b| *b >= 0x80) {
        -1
    } else {
        0
    };
    bytes
        .iter()
        .fold(start, |sum, b| sum * 256 + i128::from(*b))
}

fn uuid_text(id: [u8; 16]) -> String {
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let (a, b, c, d) = (&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20]);
    format!("{a}-{b}-{c}-{d}-{}", &hex[20..])
}

/// What apache-avro has read, without what it thinks of it.
fn from_avro(value: Avro, ty: &Ty) -> Val {
    match (value, ty) {
        (Avro::Null, _) => Val::Null,
        (Avro::Boolean(b), _) => Val::Boolean(b),
        (Avro::Int(i) | Avro::Date(i) | Avro::TimeMillis(i), _) => Val::Int(i),
        (
            Avro::Long(i)
            | Avro::TimeMicros(i)
            | Avro::TimestampMillis(i)
            | Avro::TimestampMicros(i)
            | Avro::TimestampNanos(i)
            | Avro::LocalTimestampMillis(i)
            | Avro::LocalTimestampMicros(i)
            | Avro::LocalTimestampNanos(i),
            _,
        ) => Val::Long(i),
        (Avro::Float(x), _) => Val::Float(x),
        (Avro::Double(x), _) => Val::Double(x),
        (Avro::Bytes(bytes) | Avro::Fixed(_, bytes), _) => Val::Bytes(bytes),
        (Avro::String(text), _) => Val::Str(text),
        (Avro::Uuid(uuid), Ty::Str(_)) => Val::Str(uuid.to_string()),
        (Avro::Uuid(uuid), _) => Val::Bytes(uuid.as_bytes().to_vec()),
        // One of no bytes is 0: it reads that, but cannot write it again.
        (Avro::Decimal(decimal), _) => Val::Bytes(decimal.try_into().unwrap_or_default()),
        (Avro::Duration(duration), _) => Val::Bytes(<[u8; 12]>::from(duration).to_vec()),
        (Avro::Enum(_, symbol), _) => Val::Enum(symbol),
        (Avro::Array(items), Ty::Array(ty)) => {
            Val::Array(items.into_iter().map(|item| from_avro(item, ty)).collect())
        }
        (Avro::Map(entries), Ty::Map(ty)) => {
            let entry = |(k, v)| (k, from_avro(v, ty));
            let mut entries: Vec<_> = entries.into_iter().map(entry).collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            Val::Map(entries)
        }
        (Avro::Union(branch, val), Ty::Union(branches)) => {
            let val = from_avro(*val, &branches[branch as usize]);
            Val::Union(branch as usize, Box::new(val))
        }
        (Avro::Record(fields), Ty::Record(record)) => {
            let fields = fields.into_iter().zip(&record.fields);
            Val::Record(fields.map(|((_, v), f)| from_avro(v, &f.ty)).collect())
        }
        (value, ty) => unreachable!("{value:?} of {ty:?}"),
    }
}

/// A random schema of so many fields, as both crates know it.
fn made(seed: u64, fields: usize) -> (Maker, Record, Schema) {
    let mut maker = Maker::new(seed);
    let record = maker.record(fields, 3);
    let schema = Schema::from_json(arbitrary::schema_json(&record)).unwrap();
    (maker, record, schema)
}

fn columns(schema: &Schema, ids: Ids) -> (Columns, Program) {
    let columns = Columns::new(schema, ids).unwrap();
    let program = columns.program(&identity(schema)).unwrap();
    (columns, program)
}

proptest! {
    #![proptest_config(ProptestConfig {
        // 2,048, or eight times PROPTEST_CASES.
        cases: ProptestConfig::default().cases * 8,
        failure_persistence: None,
        ..Default::default()
    })]

    #[test]
    fn columns_hold_what_apache_avro_reads(seed: u64, fields in 0..8_usize, count in 0..8_usize, hex: bool) {
        let ids = if hex { Ids::Hex } else { Ids::Binary };
        let (mut maker, record, schema) = made(seed, fields);
        let ty = Ty::Record(record.clone());
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build().unwrap();
        let writer = apache_avro::writer::datum::GenericDatumWriter::builder(&avro).build().unwrap();
        let (mut columns, program) = columns(&schema, ids);
        // Twice, since what is finished must leave nothing behind.
        for _ in 0..2 {
            let mut expected = vec![];
            for _ in 0..count {
                let val = maker.value(&ty);
                let mut body = vec![];
                maker.encode(&val, &ty, &mut body);
                let value = reader.read_value(&mut &body[..]).unwrap();
                columns.append(&program, &body).unwrap();
                // And as apache-avro writes it, but for maps, which it shuffles.
                if !format!("{ty:?}").contains("Map(") {
                    columns.append(&program, &writer.write_value_to_vec(value.clone()).unwrap()).unwrap();
                    expected.push(row(&val, &record, ids));
                }
                prop_assert_eq!(row(&from_avro(value, &ty), &record, ids), row(&val, &record, ids));
                expected.push(row(&val, &record, ids));
            }
            prop_assert_eq!(columns.len(), expected.len());
            let batch = columns.finish();
            let arrow = batch.schema();
            prop_assert_eq!(arrow.as_ref(), &arrow_schema_of(&schema, ids).unwrap());
            prop_assert_eq!(rows(&batch), expected);
            prop_assert!(columns.is_empty());
        }
    }

    #[test]
    fn columns_hold_what_a_later_reader_sees(seed: u64, fields in 0..8_usize, generations in 1..4_usize) {
        let (mut maker, written, writer) = made(seed, fields);
        let mut read = written.clone();
        for _ in 0..generations {
            read = maker.evolve(&read, 2);
        }
        // The library takes no empty default for a fixed of no bytes that is a union's first branch.
        let reader = Schema::from_json(arbitrary::schema_json(&read));
        let Ok(reader) = reader else { return Err(TestCaseError::reject("such a default")) };
        let resolution = resolve(&writer, &reader);
        prop_assert_eq!(resolution.is_ok(), arbitrary::fields_resolve(&written, &read));
        let Ok(resolution) = resolution else { return Ok(()) };
        let mut columns = Columns::new(&reader, Ids::Hex).unwrap();
        let program = columns.program(&resolution).unwrap();
        let mut expected = vec![];
        for _ in 0..8 {
            let val = maker.value(&Ty::Record(written.clone()));
            let mut body = vec![];
            maker.encode(&val, &Ty::Record(written.clone()), &mut body);
            let Val::Record(values) = &val else { unreachable!() };
            let appended = columns.append(&program, &body);
            match arbitrary::view_record(values, &written, &read) {
                Some(view) => {
                    prop_assert_eq!(appended, Ok(()));
                    expected.push(row(&view, &read, Ids::Hex));
                }
                None => prop_assert!(appended.is_err()),
            }
        }
        prop_assert_eq!(rows(&columns.finish()), expected);
    }

    #[test]
    fn broken_bodies_are_refused_and_leave_nothing(seed: u64, fields in 1..8_usize) {
        let (mut maker, record, schema) = made(seed, fields);
        let ty = Ty::Record(record.clone());
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build().unwrap();
        // There the two differ, and both are right: UUIDs are text, maps have no order.
        let comparable = !["Map(", "Str(true)"].iter().any(|p| format!("{ty:?}").contains(p));
        let (mut columns, program) = columns(&schema, Ids::Binary);
        let mut expected = vec![];
        for _ in 0..20 {
            let val = maker.value(&ty);
            let mut body = vec![];
            maker.encode(&val, &ty, &mut body);
            columns.append(&program, &body).unwrap();
            expected.push(Some(row(&val, &record, Ids::Binary)));
            for _ in 0..1 + maker.rng.below(3) {
                let at = maker.rng.below(body.len() + 1);
                match maker.rng.below(4) {
                    0 => body.truncate(at),
                    1 => body.insert(at, maker.rng.next() as u8),
                    2 => body.extend([0xFF; 9]),
                    _ => {
                        if let Some(byte) = body.get_mut(at) {
                            *byte ^= 1 << maker.rng.below(8);
                        }
                    }
                }
            }
            let before = columns.size();
            match columns.append(&program, &body) {
                Err(_) => prop_assert_eq!(columns.size(), before),
                Ok(()) if comparable => {
                    let value = reader.read_value(&mut &body[..]).unwrap();
                    expected.push(Some(row(&from_avro(value, &ty), &record, Ids::Binary)));
                }
                Ok(()) => expected.push(None),
            }
            prop_assert!(columns.size() - before < 4096 + 100 * body.len());
        }
        let rows = rows(&columns.finish());
        prop_assert_eq!(rows.len(), expected.len());
        for (row, expected) in rows.iter().zip(&expected) {
            if let Some(expected) = expected {
                prop_assert_eq!(row, expected);
            }
        }
    }
}

fn record(fields: serde_json::Value) -> Schema {
    Schema::from_json(json!({"type": "record", "name": "R", "fields": fields})).unwrap()
}

fn refused(schema: &Schema, body: &[u8]) -> BodyError {
    let (mut columns, program) = columns(schema, Ids::Hex);
    let error = columns.append(&program, body).unwrap_err();
    assert_eq!(columns.len(), 0);
    error
}

#[test]
fn the_default_measurement_has_a_column_for_each_field() {
    let measurement = Measurement {
        event_id: std::array::from_fn(|i| i as u8),
        browser_id: "b-1",
        event_time: 1_700_000_000_123,
        effect: "ordered",
        entity: "order",
        entity_id: Some("o-7"),
        reason: Some("campaign:spring"),
        cause: Some([0xAB; 16]),
        url: Some("/checkout?step=3"),
        referrer: Some("https://example.org/"),
        customer_id: Some("c-9"),
        ip: Some("192.0.2.1"),
        user_agent: Some("Mozilla/5.0"),
        position: Some(1),
        quantity: Some(-3),
        value: Some(1 << 40),
        variant: Some("button:green"),
        attributes: &[("status", "200"), ("bytes", "17"), ("status", "again")],
    };
    let least = Measurement {
        browser_id: "b-2",
        effect: "shown",
        entity: "page",
        ..Default::default()
    };
    let (mut columns, program) = columns(&MEASUREMENT, Ids::Hex);
    for measurement in [measurement, least] {
        let mut body = vec![];
        measurement.encode_body(&mut body);
        columns.append(&program, &body).unwrap();
    }
    let rows = rows(&columns.finish());
    let text = |text: &str| Seen::Text(text.into());
    let attribute = |k: &str, v| (k.to_owned(), text(v));
    let full = [
        ("event_id", text("000102030405060708090a0b0c0d0e0f")),
        ("browser_id", text("b-1")),
        ("event_time", Seen::Utc(1_700_000_000_123_000)),
        ("effect", text("ordered")),
        ("entity", text("order")),
        ("entity_id", text("o-7")),
        ("reason", text("campaign:spring")),
        ("cause", text(&"ab".repeat(16))),
        ("url", text("/checkout?step=3")),
        ("referrer", text("https://example.org/")),
        ("customer_id", text("c-9")),
        ("ip", text("192.0.2.1")),
        ("user_agent", text("Mozilla/5.0")),
        ("position", Seen::Int(1)),
        ("quantity", Seen::Int(-3)),
        ("value", Seen::Long(1 << 40)),
        ("variant", text("button:green")),
        (
            "attributes",
            Seen::Map(vec![
                attribute("status", "200"),
                attribute("bytes", "17"),
                attribute("status", "again"),
            ]),
        ),
    ];
    let Seen::Struct(cells) = &rows[0] else {
        panic!()
    };
    let full: Vec<_> = full.map(|(k, v)| (k.to_owned(), v)).into();
    assert_eq!(cells, &full);
    let Seen::Struct(cells) = &rows[1] else {
        panic!()
    };
    let nulls = cells.iter().filter(|(_, v)| *v == Seen::Null).count();
    assert_eq!(nulls, 12);
    assert_eq!(cells[17].1, Seen::Map(vec![]));
}

#[test]
fn names_of_lists_maps_and_docs_are_those_that_delta_knows() {
    let schema = record(json!([
        {"name": "l", "type": {"type": "array", "items": "int"}, "doc": "Some numbers."},
        {"name": "m", "type": {"type": "map", "values": ["null", "string"]}}]));
    let schema = arrow_schema_of(&schema, Ids::Hex).unwrap();
    assert_eq!(schema.field(0).metadata()["comment"], "Some numbers.");
    let DataType::List(item) = schema.field(0).data_type() else {
        panic!()
    };
    assert_eq!(
        (item.name().as_str(), item.is_nullable()),
        ("element", false)
    );
    let DataType::Map(entry, false) = schema.field(1).data_type() else {
        panic!()
    };
    let DataType::Struct(entries) = entry.data_type() else {
        panic!()
    };
    assert_eq!(
        (entry.name().as_str(), entry.is_nullable()),
        ("key_value", false)
    );
    assert_eq!(
        (entries[0].name().as_str(), entries[0].is_nullable()),
        ("key", false)
    );
    assert_eq!(
        (entries[1].name().as_str(), entries[1].is_nullable()),
        ("value", true)
    );
}

#[test]
fn branches_of_one_name_are_told_apart() {
    let fixed = |name, size| json!({"type": "fixed", "name": name, "size": size});
    let schema = record(json!([{"name": "u", "type":
        ["string", fixed("a.String", 1), fixed("b.String", 2), fixed("a_String", 3), fixed("c.D", 4), "null"]}]));
    let schema = arrow_schema_of(&schema, Ids::Hex).unwrap();
    let DataType::Struct(branches) = schema.field(0).data_type() else {
        panic!()
    };
    let names: Vec<_> = branches.iter().map(|b| b.name().as_str()).collect();
    assert_eq!(names, ["string", "a_String", "b_String", "a_String_2", "D"]);
    assert!(schema.field(0).is_nullable() && branches.iter().all(|b| b.is_nullable()));
}

#[test]
fn what_has_no_content_has_no_column_but_where_it_says_something() {
    let empty =
        json!({"type": "record", "name": "Empty", "fields": [{"name": "n", "type": "null"}]});
    let schema = record(json!([
        {"name": "nothing", "type": empty},
        {"name": "none", "type": "null"},
        {"name": "maybe", "type": ["null", "Empty"]},
        {"name": "which", "type": ["Empty", "int"]},
        {"name": "many", "type": {"type": "array", "items": "Empty"}}]));
    let (mut columns, program) = columns(&schema, Ids::Hex);
    columns.append(&program, &[2, 0, 4, 0]).unwrap();
    columns.append(&program, &[0, 2, 9, 0]).unwrap();
    let batch = columns.finish();
    let names: Vec<_> = batch
        .schema()
        .fields()
        .iter()
        .map(|f| f.name().clone())
        .collect();
    assert_eq!(names, ["maybe", "which", "many"]);
    let cells: Vec<Vec<Seen>> = (0..2)
        .map(|row| batch.columns().iter().map(|a| cell(a, row)).collect())
        .collect();
    let which = |empty, int| Seen::Struct(vec![("Empty".into(), empty), ("int".into(), int)]);
    let there = Seen::Boolean(true);
    assert_eq!(
        cells[0],
        [
            there.clone(),
            which(there.clone(), Seen::Null),
            Seen::List(vec![there.clone(); 2])
        ]
    );
    assert_eq!(
        cells[1],
        [
            Seen::Null,
            which(Seen::Null, Seen::Int(-5)),
            Seen::List(vec![])
        ]
    );
}

#[test]
fn a_schema_of_no_columns_still_counts_its_rows() {
    let (mut columns, program) = columns(&record(json!([])), Ids::Hex);
    columns.append(&program, &[]).unwrap();
    columns.append(&program, &[]).unwrap();
    assert_eq!(
        columns.append(&program, &[0]).unwrap_err().what,
        Broken::Trailing(1)
    );
    assert_eq!(columns.finish().num_rows(), 2);
}

#[test]
fn an_error_says_what_and_where() {
    let line = json!({"type": "record", "name": "Line", "fields": [
        {"name": "id", "type": "string"}, {"name": "price", "type": ["null", "int"]}]});
    let schema = record(json!([{"name": "n", "type": "int"},
        {"name": "order", "type": {"type": "record", "name": "Order", "fields": [
            {"name": "lines", "type": {"type": "array", "items": line}}]}}]));
    let error = refused(&schema, &[2, 4, 2, b'a', 0, 2, b'b', 6]);
    assert_eq!(
        error.to_string(),
        "at order.lines[].price, byte 8 of the body: branch 3 of a union of 2"
    );
    let error = refused(&schema, &[2, 2, 3, b'a']);
    assert_eq!(error.path, "order.lines[].id");
    assert_eq!(error.what, Broken::Length(-2));
    let error = refused(&schema, &[2, 2, 20, b'a']);
    assert_eq!(
        error.what,
        Broken::Ended {
            left: 1,
            expected: 10
        }
    );
}

#[test]
fn what_does_not_fit_into_its_column_is_refused() {
    let one = |ty: serde_json::Value| record(json!([{"name": "a", "type": ty}]));
    let mut body = vec![];
    visitflow_schemas::encode::long(i64::MAX / 1000 + 1, &mut body);
    let millis = one(json!({"type": "long", "logicalType": "timestamp-millis"}));
    assert_eq!(
        refused(&millis, &body).what,
        Broken::Time(i64::MAX / 1000 + 1)
    );
    assert_eq!(
        refused(&one(json!("int")), &body).what,
        Broken::Int(i64::MAX / 1000 + 1)
    );
    let decimal = json!({"type": "bytes", "logicalType": "decimal", "precision": 2, "scale": 1});
    assert_eq!(refused(&one(decimal), &[2, 100]).what, Broken::Decimal(2));
    assert_eq!(
        refused(&one(json!("string")), &[2, 0xFF]).what,
        Broken::Utf8
    );
    assert_eq!(
        refused(&one(json!("boolean")), &[2]).what,
        Broken::Boolean(2)
    );
    let symbols = json!({"type": "enum", "name": "E", "symbols": ["X"]});
    let symbol = Broken::Symbol {
        found: 1,
        symbols: 1,
    };
    assert_eq!(refused(&one(symbols), &[2]).what, symbol);
}

#[test]
fn a_body_of_a_few_bytes_cannot_ask_for_many_items() {
    let nulls = record(json!([{"name": "a", "type": {"type": "array", "items": "null"}}]));
    let mut body = vec![];
    visitflow_schemas::encode::long(1 << 62, &mut body);
    body.push(0);
    assert_eq!(refused(&nulls, &body).what, Broken::EmptyItems);
    let skipping = Columns::new(&record(json!([])), Ids::Hex).unwrap();
    let program = resolve(&nulls, &record(json!([]))).unwrap();
    let program = skipping.program(&program).unwrap();
    let mut skipping = skipping;
    let error = skipping.append(&program, &body).unwrap_err();
    assert_eq!(
        (error.path.as_str(), error.what),
        ("#0", Broken::EmptyItems)
    );
}

#[test]
fn columns_that_only_differ_in_case_are_refused() {
    let schema =
        record(json!([{"name": "url", "type": "string"}, {"name": "URL", "type": "string"}]));
    let error = Columns::new(&schema, Ids::Hex).unwrap_err();
    assert_eq!(error, ColumnsError::SameName { path: "URL".into() });
}

#[test]
fn a_default_that_is_none_is_named_when_the_program_is_made() {
    let time = json!({"type": "long", "logicalType": "timestamp-millis"});
    let reader = record(json!([{"name": "a", "type": time, "default": i64::MAX}]));
    let columns = Columns::new(&reader, Ids::Hex).unwrap();
    let error = columns
        .program(&resolve(&record(json!([])), &reader).unwrap())
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "at a: the default is 9223372036854775807, expected a value of long (timestamp-millis)"
    );
}

#[test]
fn a_schema_that_unfolds_without_end_is_refused() {
    // Each record holds the one before twice: 2^14 columns out of 14 lines.
    let mut ty = json!("int");
    for i in 0..14 {
        let again = match i {
            0 => json!("int"),
            i => json!(format!("R{}", i - 1)),
        };
        ty = json!({"type": "record", "name": format!("R{i}"), "fields": [
            {"name": "a", "type": ty}, {"name": "b", "type": again}]});
    }
    let schema = record(json!([{"name": "a", "type": ty}]));
    assert!(matches!(
        Columns::new(&schema, Ids::Hex),
        Err(ColumnsError::TooMany { .. })
    ));
}

#[test]
fn a_program_of_other_columns_is_refused() {
    let fields = |ty| record(json!([{"name": "a", "type": ty}]));
    let columns = Columns::new(&fields("int"), Ids::Hex).unwrap();
    let error = columns.program(&identity(&fields("long"))).unwrap_err();
    assert!(matches!(error, ColumnsError::Foreign { .. }));
}

#[test]
fn defaults_of_every_form_fill_what_a_writer_lacks() {
    let mut maker = Maker::new(7);
    let written = maker.record(0, 0);
    let ty = Ty::Array(Box::new(Ty::Union(vec![Ty::Long(None), Ty::Null])));
    let default = Val::Array(vec![Val::Union(0, Box::new(Val::Long(5)))]);
    let field = |name: &str, ty: Ty, default| Field {
        name: name.into(),
        aliases: vec![],
        ty,
        default: Some(default),
    };
    let read = Record {
        fields: vec![
            field("list", ty, default),
            field("bytes", Ty::Bytes(None), Val::Bytes(vec![0xFF, 0])),
            field(
                "none",
                Ty::Union(vec![Ty::Null, Ty::Str(false)]),
                Val::Union(0, Box::new(Val::Null)),
            ),
        ],
        ..written.clone()
    };
    let schema = |r| Schema::from_json(arbitrary::schema_json(r)).unwrap();
    let mut columns = Columns::new(&schema(&read), Ids::Hex).unwrap();
    let program = resolve(&schema(&written), &schema(&read)).unwrap();
    let program = columns.program(&program).unwrap();
    columns.append(&program, &[]).unwrap();
    let rows = rows(&columns.finish());
    let cells = [
        ("list", Seen::List(vec![Seen::Long(5)])),
        ("bytes", Seen::Bytes(vec![0xFF, 0])),
        ("none", Seen::Null),
    ];
    let cells = cells.map(|(k, v)| (k.to_owned(), v));
    assert_eq!(rows, [Seen::Struct(cells.into())]);
}

#[test]
fn batches_of_one_schema_share_its_arc() {
    let (mut columns, program) = columns(&MEASUREMENT, Ids::Binary);
    let mut body = vec![];
    Measurement::default().encode_body(&mut body);
    columns.append(&program, &body).unwrap();
    assert!(Arc::ptr_eq(
        &columns.finish().schema(),
        &columns.finish().schema()
    ));
}
