//! The topic `attribution`: each order and what led to it, the same however the job was run, and
//! said a last time when its visit is sealed.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use visitflow::generate::Limits;
use visitflow::run::{self, Options, Summary};
use visitflow_dataflows::views::{Of, View};
use visitflow_schemas::message;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use crate::outputs::{Said, topic};
use crate::place::Place;

/// Runs the job with a view of credits; stops it after so many tags, if it says so.
fn run(place: &Place, name: &str, settings: &[&str], stop_after: Option<u64>) -> Summary {
    let mut job = place.job(name, "log-to-files", settings);
    job.views = vec![View {
        name: "credits".to_owned(),
        of: Of::Credits,
        step: 1_000,
        ..View::default()
    }];
    let mut options = Options::of(job);
    // Slowly enough to be stopped midway.
    (options.budget, options.step_records) = (20_000, 50);
    let stop_when = move |handle: run::Handle| {
        let Some(tags) = stop_after else { return };
        while !handle.ended() && handle.metrics.tagged.load(Ordering::Relaxed) < tags {
            std::thread::sleep(Duration::from_millis(1));
        }
        handle.ask();
    };
    run::run(options, stop_when).unwrap()
}

/// What was said, each browser's in its order.
fn said(place: &Place, name: &str) -> Vec<Said> {
    let mut all = topic(&place.path(&format!("{name}topics")), "attribution");
    all.iter_mut().for_each(|said| said.partition = 0);
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

#[test]
fn each_order_is_said_with_what_led_to_it_and_a_last_time_when_its_visit_is_sealed() {
    let place = Place::new();
    let truth = place.shop(20_000, 5, 4, Limits::default());
    run(&place, "one-", &["workers=1"], None);
    let one = said(&place, "one-");

    let store = FolderStore::open(place.path("one-topics/schemas")).unwrap();
    let mut last: BTreeMap<Vec<u8>, Value> = BTreeMap::new();
    for said in &one {
        let (fingerprint, mut body) = message::split(&said.value).unwrap();
        let schema = store.get(fingerprint).unwrap().expect("it is registered");
        let schema = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let order = reader.read_value(&mut body).unwrap();
        let Value::Fixed(16, event) = field(&order, "order_event") else {
            panic!("{order:?}")
        };
        assert_eq!(
            field(&order, "as_of"),
            &Value::TimestampMillis(said.tick as i64 + 1)
        );
        last.insert(event.clone(), order);
    }
    assert!(
        !last.is_empty() && last.len() <= truth.orders.len(),
        "{}",
        last.len()
    );
    for order in last.values() {
        assert_eq!(field(order, "sealed"), &Value::Boolean(true), "{order:?}");
    }

    run(&place, "two-", &["workers=2", "outputs.partitions=4"], None);
    assert!(said(&place, "two-") == one, "two workers");
}

#[test]
fn a_job_that_goes_on_says_the_rest_once() {
    let place = Place::new();
    place.shop(20_000, 6, 4, Limits::default());
    run(&place, "whole-", &["workers=2"], None);
    let state = format!("state.dir={}", place.path("state").display());
    let settings = ["workers=2", &state];
    let summary = run(&place, "parts-", &settings, Some(1));
    assert!(summary.stopped);
    run(&place, "parts-", &settings, None);
    let (whole, parts) = (said(&place, "whole-"), said(&place, "parts-"));
    assert!(
        !whole.is_empty() && whole == parts,
        "{} {}",
        whole.len(),
        parts.len()
    );
}

#[track_caller]
fn field<'a>(record: &'a Value, name: &str) -> &'a Value {
    let Value::Record(fields) = record else {
        panic!("{record:?}")
    };
    &fields.iter().find(|(field, _)| field == name).unwrap().1
}
