//! Bring your own schema: deeply nested messages with other names, written by another Avro library
//! in three versions of their schema, run through the whole job with nothing but a job file that
//! says which field is what; and their nested fields arrive nested in the table.

use std::collections::{BTreeMap, HashMap};

use apache_avro::types::Value as Avro;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Uuid};
use serde_json::{Value, json};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run;
use visitflow::table::to_json_lines;
use visitflow::why::time;
use visitflow_dataflows::ledger::Entry;
use visitflow_schemas::message;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use crate::outputs::{Reading, consume, files, hex, late};
use crate::place::{Place, root};
use crate::walk::{Cuts, walk};

const START: i64 = 1_750_000_000_000;
const CUTS: Cuts = Cuts {
    inactivity: 1_800_000,
    max_length: 86_400_000,
    max_size: 100_000,
};

/// Versions of the shop's schema: one from before the job's, the job's, and one from after it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Version {
    /// `happened` was called `action`, there were no flags and no time zone.
    Old,
    Now,
    /// With a channel, and gifts among the lines.
    New,
}

const VERSIONS: [Version; 3] = [Version::Old, Version::Now, Version::New];

fn schema_json(version: Version) -> Value {
    let text = std::fs::read_to_string(root("examples/schemas/shop-event.avsc")).unwrap();
    let mut json: Value = serde_json::from_str(&text).unwrap();
    let fields = json["fields"].as_array_mut().unwrap();
    let at = |fields: &[Value], name: &str| fields.iter().position(|f| f["name"] == name).unwrap();
    match version {
        Version::Now => {}
        Version::Old => {
            fields.retain(|field| field["name"] != "flags");
            let (what, when) = (at(fields, "what"), at(fields, "time"));
            fields[what]["type"]["fields"][2] = json!({"name": "action", "type": "string"});
            fields[when]["type"]["fields"].as_array_mut().unwrap().pop();
        }
        Version::New => {
            let channel = json!({"type": "enum", "name": "Channel", "symbols": ["WEB", "APP"]});
            fields.insert(1, json!({"name": "channel", "type": channel}));
            let basket = at(fields, "basket");
            let lines = fields[basket]["type"]["items"]["fields"]
                .as_array_mut()
                .unwrap();
            lines.insert(0, json!({"name": "gift", "type": "boolean"}));
        }
    }
    json
}

/// One event, and what of it must be in the table.
struct Event {
    browser: i64,
    micros: i64,
    id: Uuid,
    value: Avro,
    row: Value,
}

fn record(fields: Vec<(&str, Avro)>) -> Avro {
    Avro::Record(
        fields
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
    )
}

fn some(value: Avro) -> Avro {
    Avro::Union(1, Box::new(value))
}

fn none() -> Avro {
    Avro::Union(0, Box::new(Avro::Null))
}

fn text(text: &str) -> Avro {
    Avro::String(text.to_owned())
}

/// The event of this number, as this version writes it.
fn event(number: i64, version: Version) -> Event {
    let browser = number % 7 - 3;
    // Each browser comes back after an hour, twenty events later.
    let millis = START + number * 2_000 + number / 140 * 3_600_000;
    let micros = millis * 1_000 + number % 1_000;
    let id = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_0000 + number as u128);
    let cause = Uuid::from_u128(number as u128);
    let zone = (version != Version::Old && number % 2 == 0).then_some("Europe/Berlin");

    let mut line_values = Vec::new();
    let mut line_rows = Vec::new();
    for line in 0..number % 3 {
        let cents = (number * 100 + line) as i32 - 500;
        let labels = HashMap::from([("colour".to_owned(), text("rot"))]);
        let mut fields = vec![
            ("sku", text(&format!("sku-{number}-{line}"))),
            ("quantity", Avro::Int(line as i32 + 1)),
            ("price", Avro::Decimal(Decimal::from(cents.to_be_bytes()))),
            ("options", Avro::Array(vec![text("wrapped"); line as usize])),
            ("labels", Avro::Map(labels)),
        ];
        if version == Version::New {
            fields.insert(0, ("gift", Avro::Boolean(true)));
        }
        line_values.push(record(fields));
        line_rows.push(json!({
            "sku": format!("sku-{number}-{line}"), "quantity": line + 1,
            "price": f64::from(cents) / 100.0, "options": vec!["wrapped"; line as usize],
            "labels": {"colour": "rot"},
        }));
    }
    let (payment, payment_row) = match number % 4 {
        0 => (none(), Value::Null),
        1 => {
            let card = record(vec![
                ("network", Avro::Enum(1, "SOUTH".into())),
                ("last_digits", Avro::Fixed(4, b"1234".to_vec())),
            ]);
            let row = json!({"Card": {"network": "SOUTH", "last_digits": "31323334"}, "Invoice": null, "string": null});
            (some(card), row)
        }
        2 => {
            let invoice = record(vec![("days", Avro::Int(14))]);
            let row = json!({"Card": null, "Invoice": {"days": 14}, "string": null});
            (Avro::Union(2, Box::new(invoice)), row)
        }
        _ => (
            Avro::Union(3, Box::new(text("cash"))),
            json!({"Card": null, "Invoice": null, "string": "cash"}),
        ),
    };
    let screen = record(vec![
        ("width", Avro::Int(390)),
        ("height", Avro::Int(844)),
        ("kind", Avro::Enum(1, "HAND".into())),
    ]);
    let mut when = vec![("occurred", Avro::TimestampMicros(micros))];
    if version != Version::Old {
        when.push(("zone", zone.map_or(none(), |zone| some(text(zone)))));
    }
    let happened = if version == Version::Old {
        "action"
    } else {
        "happened"
    };
    let reason = vec![
        ("reason", some(text("campaign:spring"))),
        ("cause", some(Avro::Uuid(cause))),
    ];
    let why = if number % 5 == 0 {
        none()
    } else {
        some(record(reason))
    };
    let why_row = match number % 5 {
        0 => Value::Null,
        _ => json!({"reason": "campaign:spring", "cause": cause.to_string()}),
    };
    let device = vec![
        ("cookie", Avro::Long(browser)),
        ("address", some(text("192.0.2.7"))),
        ("agent", some(text("curl/8.5.0"))),
        ("screen", some(screen)),
    ];
    let account = (number % 10 == 9).then(|| format!("customer-{browser}"));
    let visitor = vec![
        ("device", record(device)),
        (
            "account",
            account.as_deref().map_or(none(), |name| some(text(name))),
        ),
    ];
    let mut fields = vec![
        ("id", Avro::Uuid(id)),
        ("time", record(when)),
        ("visitor", record(visitor)),
        (
            "what",
            record(vec![
                ("kind", text("article")),
                ("key", some(text("42"))),
                (happened, text("seen")),
            ]),
        ),
        ("why", why),
        ("basket", Avro::Array(line_values)),
        ("payment", payment),
    ];
    let flag = |branch, value| Avro::Union(branch, Box::new(value));
    let mut flags = json!({});
    if version != Version::Old {
        let map = HashMap::from([("score".to_owned(), flag(1, Avro::Long(number)))]);
        fields.push(("flags", Avro::Map(map)));
        flags = json!({"score": {"boolean": null, "long": number, "string": null}});
    }
    if version == Version::New {
        fields.insert(1, ("channel", Avro::Enum(1, "APP".into())));
    }
    let occurred = time(millis).replace('Z', &format!("{:03}Z", number % 1_000));
    let row = json!({
        "id": id.to_string(),
        "time": {"occurred": occurred, "zone": zone},
        "visitor": {
            "device": {
                "cookie": browser, "address": "192.0.2.7", "agent": "curl/8.5.0",
                "screen": {"width": 390, "height": 844, "kind": "HAND"},
            },
            "account": account,
        },
        "what": {"kind": "article", "key": "42", "happened": "seen"},
        "why": why_row, "basket": line_rows, "payment": payment_row, "flags": flags,
    });
    Event {
        browser,
        micros,
        id,
        value: record(fields),
        row,
    }
}

/// Times to the millisecond where the microseconds are none.
fn shorten(row: &mut Value) {
    if let Some(text) = row["time"]["occurred"].as_str()
        && let Some(short) = text.strip_suffix("000Z")
        && short
            .rsplit('.')
            .next()
            .is_some_and(|fraction| fraction.len() == 3)
    {
        row["time"]["occurred"] = format!("{short}Z").into();
    }
}

fn rows(dir: &std::path::Path) -> Vec<Value> {
    let mut lines = Vec::new();
    for batch in files(dir).into_iter().flatten() {
        to_json_lines(&batch, &mut lines).unwrap();
    }
    String::from_utf8(lines)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_nested_schema_of_a_shops_own_runs_through_the_whole_job() {
    let place = Place::new();
    let log = place.path("log");
    let topic = Topic::create(&log, "events", 2).unwrap();
    std::fs::create_dir(place.path("schemas")).unwrap();
    let store = FolderStore::open(place.path("schemas")).unwrap();
    let schemas = VERSIONS.map(|version| Schema::from_json(schema_json(version)).unwrap());
    schemas.iter().for_each(|schema| store.put(schema).unwrap());
    let avro = VERSIONS.map(|version| apache_avro::Schema::parse(&schema_json(version)).unwrap());

    // The schema changes twice on the way, and for a while two versions write side by side.
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let mut events = Vec::new();
    for number in 0..600 {
        let version = match number {
            0..200 => 0,
            200..300 => number as usize % 2,
            300..400 => 1,
            _ => 2,
        };
        let event = event(number, VERSIONS[version]);
        let mut message = Vec::new();
        message::write_header(schemas[version].fingerprint(), &mut message);
        let writer = GenericDatumWriter::builder(&avro[version]).build().unwrap();
        message.extend(writer.write_value_to_vec(event.value.clone()).unwrap());
        let key = event.browser.to_string();
        producer
            .send(event.micros / 1_000 + 5, key.as_bytes(), &[], &message)
            .unwrap();
        events.push(event);
    }
    producer.close().unwrap();

    let reader = root("examples/schemas/shop-event.avsc");
    let settings = [
        &format!("schemas.store={}", store.folder().display()),
        &format!("schemas.reader={}", reader.display()),
        "workers=2",
    ];
    let job = place.job("", "own-schema", &settings);
    let (schema, overrides) = run::reader(&job).unwrap();
    let reading = Reading { schema, overrides };
    let summary = crate::place::run(job);
    let sums = Entry::ALL.map(|entry| summary.ledger.of(entry));
    assert_eq!(sums, [600, 600, 0, 0, 0]);

    let consumed = consume(&place.path("topics"), &reading);
    assert_eq!(consumed.tags.len(), 600);
    assert_eq!(late(&place.path("topics"), &reading), []);
    let identity = |e: &Event| {
        (
            e.browser.to_string(),
            e.micros.div_euclid(1_000),
            e.id.into_bytes(),
        )
    };
    let expected = walk(events.iter().map(identity), CUTS);
    let ended = consumed.ended.values();
    let ended = ended.map(|e| {
        (
            e.browser.clone(),
            e.started,
            e.last_seen,
            e.measurements,
            e.reason.to_owned(),
        )
    });
    assert_eq!(ended.collect::<std::collections::BTreeSet<_>>(), expected);

    // Every row has its event as the job's schema has it, nested as it was, and its visit.
    let found = rows(&place.path("files/identified/measurements"));
    assert_eq!(found.len(), 600);
    let mut by_id: BTreeMap<String, Value> = BTreeMap::new();
    for mut row in found {
        let object = row.as_object_mut().unwrap();
        for (name, expected) in [
            ("agent", json!("robot")),
            ("robot", json!("curl")),
            ("country", Value::Null),
        ] {
            assert_eq!(object.remove(name), Some(expected));
        }
        for name in ["browser", "os", "device"] {
            assert!(object.remove(name).is_some());
        }
        by_id.insert(row["id"].as_str().unwrap().to_owned(), row);
    }
    for mut event in events {
        let mut row = by_id.remove(&event.id.to_string()).unwrap();
        let object = row.as_object_mut().unwrap();
        let identity = (
            event.browser.to_string(),
            event.micros.div_euclid(1_000),
            visitflow_schemas::key::EventKey(event.id.into_bytes()),
        );
        let visit = consumed.tags[&identity];
        assert_eq!(object.remove("visit_id"), Some(hex(&visit).into()));
        assert_eq!(
            object.remove("visit_started"),
            Some(time(consumed.ended[&visit].started).into())
        );
        let day = &time(consumed.ended[&visit].started)[..10];
        assert_eq!(object.remove("visit_day"), Some(day.into()));
        shorten(&mut event.row);
        assert_eq!(row, event.row);
    }

    // Visits name browser and customer as the shop does.
    let visits = rows(&place.path("files/identified/visits"));
    assert_eq!(visits.len(), expected.len());
    for visit in visits {
        let browser = visit["browser_id"].as_str().unwrap();
        assert!(expected.iter().any(|(known, ..)| known == browser));
        assert_eq!(visit["agent"], "robot");
        if let Some(customer) = visit["customer_id"].as_str() {
            assert_eq!(customer, format!("customer-{browser}"));
        }
    }
}
