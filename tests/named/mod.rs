//! A made shop whose people are named, and what is said of them on `lifecycle`, held against plain sums
//! over the table of measurements: for tests that put that topic into one log or the other.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use visitflow::generate::{self, Settings};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::table::{Table, to_json_lines};

/// A log of a shop's hours, and how many visits there are in it.
pub fn shop(log: &Path, events: u64) -> usize {
    let topic = Topic::create(log, "measurements", 4).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let settings = Settings {
        events,
        seed: 5,
        ..Settings::default()
    };
    let options = generate::Options {
        settings: settings.per_second(3),
        schemas: Some(log.join("schemas")),
        ..Default::default()
    };
    let truth = generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
    producer.close().unwrap();
    truth.visits.len()
}

/// The rows of a table.
pub fn rows(dir: &Path, table: &str) -> Vec<Value> {
    let Ok(table) = Table::open(&dir.join("tables/identified").join(table)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for batch in table.read() {
        to_json_lines(&batch.unwrap(), &mut lines).unwrap();
    }
    let lines = String::from_utf8(lines).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is summed of a customer: of each visit its orders.
pub type Sums = BTreeMap<String, BTreeMap<String, i64>>;

/// What a profile says of them.
pub fn json<'a>(visits: impl Iterator<Item = &'a BTreeMap<String, i64>> + Clone) -> Value {
    let orders = visits.clone().flat_map(BTreeMap::values);
    json!({
        "visits": visits.count(),
        "orders": orders.clone().count(),
        "revenue": orders.sum::<i64>(),
    })
}

pub fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

/// The rows of measurements by visit. A visit's are in order, in one file.
pub fn by_visit(dir: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut visits: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows(dir, "measurements") {
        visits.entry(text(&row, "visit_id")).or_default().push(row);
    }
    visits
}

/// Each customer by the table of measurements: whoever is named has what comes from there on in the
/// visit, until another is.
pub fn by_customer(visits: &BTreeMap<String, Vec<Value>>) -> BTreeMap<String, Sums> {
    let mut customers: BTreeMap<String, Sums> = BTreeMap::new();
    for (id, rows) in visits {
        let mut named = String::new();
        for row in rows {
            if !row["customer_id"].is_null() {
                named = text(row, "customer_id");
            }
            if named.is_empty() {
                continue;
            }
            let sums = customers.entry(named.clone()).or_default();
            let orders = sums.entry(id.clone()).or_default();
            if row["effect"] == "ordered" && row["entity"] == "order" {
                let value = row["value"].as_i64().unwrap_or(0);
                orders.entry(text(row, "entity_id")).or_insert(value);
            }
        }
    }
    customers
}

/// What the topic `lifecycle` of a folder of results or of a job has, partition by partition, as the
/// program shows it.
pub fn lifecycle(dir: &Path, of: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    command.args(["show", of, "--topic", "lifecycle"]);
    let shown = command.current_dir(dir).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let lines = String::from_utf8(shown.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Each (visit, customer) of the table is said once, behind the visit's beginning, with the profile that
/// a sum over the visits says that were sealed before; and of others only those of visits that are none
/// any more. How many were said.
pub fn each_customer_of_a_visit_is_said_once(
    dir: &Path,
    lifecycle: &[Value],
    by_visit: &BTreeMap<String, Vec<Value>>,
    customers: &BTreeMap<String, Sums>,
) -> usize {
    let sealed = rows(dir, "visits");
    let sealed = sealed
        .iter()
        .map(|row| (text(row, "visit_id"), text(row, "sealed_tick")));
    let sealed: BTreeMap<String, String> = sealed.collect();
    let mut named: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (visit, rows) in by_visit {
        let of_people = |row: &&Value| row["agent"] != "robot" && !row["customer_id"].is_null();
        for row in rows.iter().filter(of_people) {
            let times = named.entry((visit.clone(), text(row, "customer_id")));
            times.or_default().push(text(row, "event_time"));
        }
    }
    let mut begun = BTreeSet::new();
    let (mut said, mut known) = (BTreeSet::new(), 0);
    for line in lifecycle {
        let value = &line["value"];
        let visit = text(value, "visit_id");
        match line["schema"].as_str().unwrap() {
            "visitflow.VisitStarted" => drop(begun.insert(visit)),
            "visitflow.VisitRevised" => drop(begun.insert(text(value, "into"))),
            "visitflow.CustomerNamed" => {
                assert!(begun.contains(&visit), "{line} stands before its visit");
                let (customer, as_of) = (text(value, "customer_id"), text(value, "as_of"));
                let before = |(visit, _): &(&String, _)| {
                    sealed[*visit].len() == as_of.len() && sealed[*visit] < as_of
                };
                let sums = customers.get(&customer).into_iter().flatten();
                let expected = json(sums.filter(before).map(|(_, orders)| orders));
                match &value["profile"] {
                    Value::Null => assert_eq!(expected["visits"], 0, "{line}"),
                    profile => {
                        known += 1;
                        for (field, expected) in expected.as_object().unwrap() {
                            assert_eq!(&profile[field], expected, "{field} of {line}");
                        }
                    }
                }
                let key = (visit, customer);
                match named.get(&key) {
                    Some(times) => assert!(times.contains(&text(value, "time")), "{line}"),
                    None => assert!(!sealed.contains_key(&key.0), "{line}: {key:?}"),
                }
                assert!(said.insert(key), "{line} is said twice");
            }
            _ => {}
        }
    }
    let missing: Vec<_> = named.keys().filter(|key| !said.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(known > 20, "{known} of {} are known", said.len());
    said.len()
}
