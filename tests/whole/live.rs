//! A job that follows a log while it is written, by the wall clock. Nothing here depends on how
//! fast the machine is: what is waited for comes at last, and what is held against each other is
//! what the job took.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, Options};
use visitflow::{wall, why};
use visitflow_dataflows::ledger::Entry;
use visitflow_schemas::encode;
use visitflow_schemas::key::EventKey;
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC, Measurement};
use visitflow_schemas::message;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore};

use crate::outputs::{Identity, Reading, agree, consume, late, rejected, tables, topic};
use crate::place::Place;
use crate::walk::{Cuts, walk, walked};

const CUTS: Cuts = Cuts {
    inactivity: 1_000,
    max_length: 86_400_000,
    max_size: 100_000,
};

/// The default schema with a field more in front, as the site's next version has it.
fn next_version() -> Schema {
    let mut json: serde_json::Value = serde_json::from_str(MEASUREMENT_AVSC).unwrap();
    let field = serde_json::json!({"name": "experiment", "type": "string", "privacy": "keep"});
    json["fields"].as_array_mut().unwrap().insert(0, field);
    Schema::from_json(json).unwrap()
}

/// Writes until it is told to end; what it has sent. After the first hundreds a new version of the
/// schema comes into the store, and every second message is of that version.
fn write(
    place: &Place,
    mut producer: Producer,
    end: Arc<AtomicBool>,
) -> std::thread::JoinHandle<BTreeSet<Identity>> {
    let store = FolderStore::open(place.path("log/schemas")).unwrap();
    std::thread::spawn(move || {
        let next = next_version();
        let mut sent = BTreeSet::new();
        for number in 0_u64.. {
            if end.load(Ordering::Relaxed) {
                break;
            }
            if number == 300 {
                store.put(&next).unwrap();
            }
            let now = wall::now();
            // One browser never rests, the others come for half a second in three.
            let browser = match number % 4 {
                0 => 0,
                other => other + (now as u64 / 500) % 6 * 4,
            };
            let browser_id = format!("browser-{browser}");
            let mut event_id = [0; 16];
            event_id[8..].copy_from_slice(&number.to_be_bytes());
            let event_time = now - (number % 5) as i64 * 10;
            let m = Measurement {
                event_id,
                browser_id: &browser_id,
                event_time,
                effect: "shown",
                entity: "page",
                ..Measurement::default()
            };
            let mut value = Vec::new();
            if number > 300 && number.is_multiple_of(2) {
                message::write_header(next.fingerprint(), &mut value);
                encode::bytes(b"checkout:new", &mut value);
                m.encode_body(&mut value);
            } else {
                m.encode_message(&mut value);
            }
            producer
                .send(now, browser_id.as_bytes(), &[], &value)
                .unwrap();
            producer.flush().unwrap();
            sent.insert((browser_id, event_time, EventKey(event_id)));
            std::thread::sleep(Duration::from_millis(3));
        }
        producer.close().unwrap();
        sent
    })
}

/// Waits for what must come at last.
fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(
            began.elapsed() < Duration::from_secs(120),
            "{what} has not come"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn visits_end_while_the_job_runs_and_stopping_ends_none() {
    let place = Place::new();
    let topic_of_source = Topic::create(place.path("log"), "measurements", 3).unwrap();
    std::fs::create_dir(place.path("log/schemas")).unwrap();
    FolderStore::open(place.path("log/schemas"))
        .unwrap()
        .put(&MEASUREMENT)
        .unwrap();
    let producer = Producer::open(&topic_of_source, WriterOptions::default()).unwrap();
    let frontier_log = format!(
        "observe.frontier_log={}",
        place.path("frontier.jsonl").display()
    );
    let state = format!("state.dir={}", place.path("state").display());
    let settings = [
        &state,
        "visits.inactivity=1s",
        "visits.max_delay=300ms",
        "time.max_lag=500ms",
        "outputs.file_age=1s",
        "serve.address=127.0.0.1:0",
        "workers=2",
        &frontier_log,
    ];
    let job = place.job("", "live", &settings);

    let (tell, told) = std::sync::mpsc::channel();
    let own = job.clone();
    let running = std::thread::spawn(move || {
        run::run(Options::of(own), move |handle| tell.send(handle).unwrap())
    });
    let handle = told.recv().unwrap();
    let end = Arc::new(AtomicBool::new(false));
    let writer = write(&place, producer, end.clone());

    let log = place.path("topics");
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    until("a tag", || !topic(&log, "tagged").is_empty());
    until("an end", || {
        handle.metrics.ended.iter().map(count).sum::<u64>() >= 8
    });
    until("a version", || {
        handle
            .metrics
            .versions
            .iter()
            .all(|table| count(&table[0]) >= 2)
    });
    until("a status", || {
        why::statuses(&job).is_ok_and(|all| all[0].counts[3] > 0)
    });
    let status = &why::statuses(&job).unwrap()[0];
    assert_eq!((&status.state[..], status.partitions.len()), ("running", 3));
    assert!(why::why(&job).unwrap().contains("live: running"));
    // Readers see whole versions while it runs.
    let files = place.path("files");
    until("rows", || {
        !crate::outputs::files(&files.join("identified/visits")).is_empty()
    });
    until("both schemas", || {
        let schemas = std::fs::read_dir(log.join("schemas")).unwrap().flatten();
        schemas
            .filter(|file| {
                file.file_name()
                    .to_string_lossy()
                    .contains("MeasurementTagged-")
            })
            .count()
            == 2
    });

    // The writer writes on while the job stops.
    handle.stop.store(true, Ordering::Relaxed);
    let summary = running.join().unwrap().unwrap();
    end.store(true, Ordering::Relaxed);
    let sent = writer.join().unwrap();
    assert!(summary.stopped && handle.ended());
    assert_eq!(why::statuses(&job).unwrap()[0].state, "stopped");

    assert!(summary.ledger.holds());
    let sums = Entry::ALL.map(|entry| summary.ledger.of(entry));
    let consumed = consume(&log, &Reading::default());
    let late = late(&log, &Reading::default());
    assert_eq!(rejected(&log), Default::default());
    assert_eq!(
        sums[1..],
        [consumed.tags.len() as u64, late.len() as u64, 0, 0]
    );
    assert!(
        late.iter()
            .all(|(identity, by)| sent.contains(identity) && *by > 0)
    );
    assert!(consumed.tags.keys().all(|identity| sent.contains(identity)));

    // The tables hold what has ended, and that is right; what is open has not ended.
    let tables = tables(&files);
    agree(&consumed, &tables);
    assert!(tables.visits.len() >= 8);
    let right = walk(
        consumed
            .tags
            .keys()
            .map(|(browser, time, event)| (browser.clone(), *time, event.0)),
        CUTS,
    );
    let ended = walked(&tables.visits);
    assert!(ended.is_subset(&right));
    assert_eq!(right.len() - ended.len(), consumed.open.len());
    assert_eq!(summary.visits[5], consumed.open.len() as u64);
    let moves = std::fs::read_to_string(place.path("frontier.jsonl")).unwrap();
    assert!(moves.lines().count() > 1 && moves.contains(r#""hold":"wall""#));
}
