//! A consumer of a job's outputs that knows their schemas and the rule of revisions, and nothing
//! of the job: it reads topics partition by partition, and tables file by file.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{Date32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use sha2::{Digest, Sha256};
use visitflow::log::{Reader, Topic, start_offset};
use visitflow::table::{Table, read_file};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::measurement::MEASUREMENT;
use visitflow_schemas::message;
use visitflow_schemas::records::{self, Lifecycle, RejectReason, VisitEnded};
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::Schema;
use visitflow_schemas::shard::Shard;
use visitflow_schemas::store::{FolderStore, SchemaStore};
use visitflow_schemas::walk::{Found, Walk};

/// A record of an output topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Said {
    pub partition: u32,
    pub tick: u64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// All records of a topic, by partition and in order. Holds them to what every output promises:
/// ticks in order, in the header as in the log time, and each key in its shard's partition.
pub fn topic(log: &Path, name: &str) -> Vec<Said> {
    let topic = Topic::open(log, name).unwrap();
    let mut all = Vec::new();
    for partition in 0..topic.partitions() {
        let mut reader =
            Reader::open(&topic, partition, start_offset(&topic, partition).unwrap()).unwrap();
        let mut before = 0;
        while let Some(record) = reader.peek().unwrap() {
            let header = std::str::from_utf8(record.header("tick").unwrap()).unwrap();
            let tick = header.parse().unwrap();
            assert_eq!(record.log_time as u64, tick);
            assert!(
                before <= tick,
                "{name}/{partition}: tick {tick} after {before}"
            );
            assert!(
                tick <= record.tick,
                "{name}/{partition}: tick {tick} in the commit of {}",
                record.tick
            );
            before = tick;
            if !record.key.is_empty() {
                assert_eq!(
                    Shard::of(record.key).partition(topic.partitions()),
                    partition
                );
            }
            all.push(Said {
                partition,
                tick,
                key: record.key.to_vec(),
                value: record.value.to_vec(),
            });
            reader.advance();
        }
    }
    all
}

/// The Avro long at the beginning of these bytes.
fn long(bytes: &[u8]) -> i64 {
    let mut value = 0_u64;
    for (place, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 127) << (7 * place);
        if byte & 128 == 0 {
            break;
        }
    }
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// How a job reads its measurements.
#[derive(Clone)]
pub struct Reading {
    pub schema: Schema,
    pub overrides: Overrides,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading {
            schema: MEASUREMENT.clone(),
            overrides: Overrides::default(),
        }
    }
}

/// A measurement's place: browser, time, event.
pub type Identity = (String, i64, EventKey);

/// Reads messages by the schemas beside an output log.
pub struct Bodies {
    store: FolderStore,
    reading: Reading,
    walks: HashMap<u64, Walk>,
}

impl Bodies {
    pub fn of(log: &Path, reading: &Reading) -> Bodies {
        let store = FolderStore::open(log.join("schemas")).unwrap();
        Bodies {
            store,
            reading: reading.clone(),
            walks: HashMap::new(),
        }
    }

    /// The identity of a tagged or late measurement, and its body.
    pub fn read<'a>(&mut self, message: &'a [u8]) -> (Identity, &'a [u8]) {
        let (fingerprint, body) = message::split(message).unwrap();
        let walk = self.walks.entry(fingerprint).or_insert_with(|| {
            let schema = self
                .store
                .get(fingerprint)
                .unwrap()
                .expect("the schema is beside the log");
            let overrides = self
                .reading
                .overrides
                .in_writer(&self.reading.schema, &schema);
            let roles = Roles::find(&schema, &overrides).unwrap();
            Walk::compile(&schema, &roles, None).unwrap()
        });
        let mut found = Found::default();
        walk.run(body, &mut found).unwrap();
        let mut browser = Vec::new();
        assert!(visitflow_schemas::key::write_id(
            &found,
            body,
            Role::BrowserId,
            &mut browser
        ));
        let browser = records::browser_text(&browser).into_owned();
        (
            (
                browser,
                found.event_time_ms().unwrap(),
                EventKey::of(&found, body).unwrap(),
            ),
            body,
        )
    }
}

/// What the topics `tagged` and `lifecycle` come to.
#[derive(Debug, Default)]
pub struct Consumed {
    /// Each measurement and its visit, all revisions applied.
    pub tags: BTreeMap<Identity, [u8; 16]>,
    /// Visits that have begun and were not taken apart again, and have not ended.
    pub open: BTreeSet<[u8; 16]>,
    /// Visits that have ended: browser, first, last, measurements, reason, and when it was said.
    pub ended: BTreeMap<[u8; 16], Ended>,
    /// How many revisions there were.
    pub revisions: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub browser: String,
    pub started: i64,
    pub last_seen: i64,
    pub measurements: i64,
    pub reason: &'static str,
    pub tick: u64,
}

/// Reads both topics side by side, tick by tick, as anyone may who wants each measurement's visit.
/// Holds them to the contract on the way: a visit ends once, after it has begun; nothing said
/// later touches one that has ended; whoever loses all of its measurements is no more.
pub fn consume(log: &Path, reading: &Reading) -> Consumed {
    let mut bodies = Bodies::of(log, reading);
    let mut all = Consumed::default();
    let mut begun: BTreeMap<[u8; 16], u64> = BTreeMap::new();
    let (tagged, lifecycle) = (topic(log, "tagged"), topic(log, "lifecycle"));
    // Of one tick: what ended, what was revised, what was tagged. Stable, so that within each the
    // order of the topic stays.
    let order = |said: &Said, rank: u8| (said.partition, said.tick, rank);
    let mut merged: Vec<((u32, u64, u8), &Said)> = Vec::new();
    merged.extend(lifecycle.iter().map(|said| (order(said, 0), said)));
    merged.extend(tagged.iter().map(|said| (order(said, 1), said)));
    merged.sort_by_key(|(order, _)| *order);
    for ((_, tick, rank), said) in merged {
        if rank == 1 {
            let (identity, body) = bodies.read(&said.value);
            assert_eq!(identity.0.as_bytes(), said.key);
            let visit: [u8; 16] = body[..16].try_into().unwrap();
            let started = long(&body[16..]);
            assert!(started <= identity.1);
            assert!(
                begun.contains_key(&visit),
                "tagged with a visit that has not begun"
            );
            assert!(
                !all.ended.contains_key(&visit),
                "tagged with a visit that has ended"
            );
            assert_eq!(all.tags.insert(identity, visit), None, "tagged twice");
            continue;
        }
        match Lifecycle::decode_message(&said.value).unwrap() {
            Lifecycle::Started(visit) => {
                assert_eq!(visit.browser_id.as_bytes(), said.key);
                // A visit that was taken apart may begin again.
                begun.insert(visit.visit_id, tick);
                assert!(!all.ended.contains_key(&visit.visit_id));
            }
            Lifecycle::Revised(revised) => {
                all.revisions += 1;
                for visit in [revised.from, revised.into] {
                    assert!(
                        !all.ended.contains_key(&visit),
                        "a revision of a visit that has ended"
                    );
                }
                assert!(
                    begun.contains_key(&revised.from),
                    "a revision from a visit that has not begun"
                );
                let browser = revised.browser_id.to_owned();
                let first = (browser.clone(), revised.first.0, revised.first.1);
                let until = revised
                    .until
                    .map_or((browser, i64::MAX, EventKey::MAX), |(time, key)| {
                        (revised.browser_id.to_owned(), time, key)
                    });
                let mut moved = 0;
                for (_, visit) in all.tags.range_mut(first..until) {
                    if *visit == revised.from {
                        *visit = revised.into;
                        moved += 1;
                    }
                }
                assert!(moved > 0, "a revision that moves nothing");
            }
            Lifecycle::Ended(VisitEnded {
                visit_id,
                browser_id,
                started,
                last_seen,
                measurements,
                reason,
            }) => {
                assert!(begun.contains_key(&visit_id), "an end without a beginning");
                let browser = browser_id.to_owned();
                let ended = Ended {
                    browser,
                    started,
                    last_seen,
                    measurements,
                    reason: reason.word(),
                    tick,
                };
                assert_eq!(all.ended.insert(visit_id, ended), None, "ended twice");
            }
            // They are held to the tables.
            Lifecycle::Named(_) => {}
            other => panic!("of a later version: {other:?}"),
        }
    }
    let mut counts: HashMap<[u8; 16], i64> = HashMap::new();
    all.tags
        .values()
        .for_each(|visit| *counts.entry(*visit).or_default() += 1);
    for (visit, ended) in &all.ended {
        assert_eq!(
            counts.get(visit),
            Some(&ended.measurements),
            "what has ended has its measurements"
        );
    }
    all.open = counts
        .keys()
        .filter(|visit| !all.ended.contains_key(*visit))
        .copied()
        .collect();
    assert!(all.open.iter().all(|visit| begun.contains_key(visit)));
    all
}

/// Late measurements and by how much each was too late.
pub fn late(log: &Path, reading: &Reading) -> Vec<(Identity, i64)> {
    let mut bodies = Bodies::of(log, reading);
    let read = |said: Said| {
        let (identity, body) = bodies.read(&said.value);
        (identity, long(body))
    };
    let mut all: Vec<_> = topic(log, "late").into_iter().map(read).collect();
    all.sort();
    all
}

/// How many records were rejected for each reason. Holds each to name its place.
pub fn rejected(log: &Path) -> BTreeMap<&'static str, u64> {
    let mut reasons = BTreeMap::new();
    for said in topic(log, "rejected") {
        let (fingerprint, body) = message::split(&said.value).unwrap();
        assert_eq!(fingerprint, records::REJECTED.fingerprint());
        let rejected = records::Rejected::decode_body(body).unwrap();
        match rejected.message {
            None => assert_eq!(rejected.reason, RejectReason::Oversize),
            Some(message) => assert_eq!(message.len() as i64, rejected.size),
        }
        *reasons.entry(rejected.reason.word()).or_default() += 1;
    }
    reasons
}

/// A row of the table of visits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct VisitRow {
    pub browser_id: String,
    pub started: i64,
    pub last_seen: i64,
    pub measurements: i64,
    pub end_reason: String,
    pub visit_id: String,
    pub customer_id: Option<String>,
    pub sealed_tick: i64,
}

/// A row of the table of measurements, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Row {
    pub browser_id: String,
    pub event_time: i64,
    pub event_id: String,
    pub visit_id: String,
    pub visit_started: i64,
    pub country: Option<String>,
    pub ip: Option<String>,
    pub user_agent: Option<String>,
    pub effect: String,
    pub entity: String,
    pub entity_id: Option<String>,
    pub value: Option<i64>,
    pub customer_id: Option<String>,
    pub agent: String,
}

/// Both tables of a job over the default schema.
#[derive(Debug, PartialEq, Eq)]
pub struct Tables {
    pub visits: Vec<VisitRow>,
    pub measurements: Vec<Row>,
}

/// The text of a column's row.
pub fn text(batch: &RecordBatch, column: &str, row: usize) -> Option<String> {
    let column = batch
        .column_by_name(column)
        .unwrap_or_else(|| panic!("no column {column}"));
    let column = column.as_string::<i32>();
    column.is_valid(row).then(|| column.value(row).to_owned())
}

/// The number of a column's row.
pub fn number(batch: &RecordBatch, column: &str, row: usize) -> Option<i64> {
    let column = batch.column_by_name(column).unwrap();
    let column = column.as_primitive::<Int64Type>();
    column.is_valid(row).then(|| column.value(row))
}

/// The milliseconds of a time.
pub fn millis(batch: &RecordBatch, column: &str, row: usize) -> i64 {
    let micros = batch
        .column_by_name(column)
        .unwrap()
        .as_primitive::<TimestampMicrosecondType>()
        .value(row);
    assert_eq!(micros % 1_000, 0);
    micros / 1_000
}

/// Holds a row to have the day of its visit's beginning, by UTC.
fn check_day(batch: &RecordBatch, row: usize, started: &str) {
    let day = batch
        .column_by_name("visit_day")
        .unwrap()
        .as_primitive::<Date32Type>()
        .value(row);
    let started = millis(batch, started, row);
    assert_eq!(i64::from(day), started.div_euclid(86_400_000));
}

/// The batches of each file of a table at its newest version.
pub fn files(dir: &Path) -> Vec<Vec<RecordBatch>> {
    let table = Table::open(dir).unwrap();
    let read = |file| {
        read_file(dir, file)
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap()
    };
    table.files().map(read).collect()
}

/// Reads both tables, sorted by browser and time. Holds them to each other: every visit is there
/// once; its measurements lie together in one file, in order, and are as many, from as when to as
/// when as its row says.
pub fn tables(files_dir: &Path) -> Tables {
    let dir = files_dir.join("identified");
    let mut visits = Vec::new();
    for batch in files(&dir.join("visits")).into_iter().flatten() {
        (0..batch.num_rows()).for_each(|row| check_day(&batch, row, "started"));
        visits.extend((0..batch.num_rows()).map(|row| VisitRow {
            browser_id: text(&batch, "browser_id", row).unwrap(),
            started: millis(&batch, "started", row),
            last_seen: millis(&batch, "last_seen", row),
            measurements: number(&batch, "measurements", row).unwrap(),
            end_reason: text(&batch, "end_reason", row).unwrap(),
            visit_id: text(&batch, "visit_id", row).unwrap(),
            customer_id: text(&batch, "customer_id", row),
            sealed_tick: millis(&batch, "sealed_tick", row),
        }));
    }
    visits.sort();
    let of: HashMap<&str, &VisitRow> = visits
        .iter()
        .map(|visit| (&visit.visit_id[..], visit))
        .collect();
    assert_eq!(of.len(), visits.len(), "a visit is there once");

    let mut measurements = Vec::new();
    let mut seen = BTreeSet::new();
    for file in files(&dir.join("measurements")) {
        let mut rows = Vec::new();
        for batch in file {
            (0..batch.num_rows()).for_each(|row| check_day(&batch, row, "visit_started"));
            rows.extend((0..batch.num_rows()).map(|row| Row {
                browser_id: text(&batch, "browser_id", row).unwrap(),
                event_time: millis(&batch, "event_time", row),
                event_id: text(&batch, "event_id", row).unwrap(),
                visit_id: text(&batch, "visit_id", row).unwrap(),
                visit_started: millis(&batch, "visit_started", row),
                country: text(&batch, "country", row),
                ip: text(&batch, "ip", row),
                user_agent: text(&batch, "user_agent", row),
                effect: text(&batch, "effect", row).unwrap(),
                entity: text(&batch, "entity", row).unwrap(),
                entity_id: text(&batch, "entity_id", row),
                value: number(&batch, "value", row),
                customer_id: text(&batch, "customer_id", row),
                agent: text(&batch, "agent", row).unwrap(),
            }));
        }
        for rows in rows.chunk_by(|a, b| a.visit_id == b.visit_id) {
            let visit = of
                .get(&rows[0].visit_id[..])
                .expect("each measurement's visit has a row");
            assert!(
                seen.insert(rows[0].visit_id.clone()),
                "a visit's rows lie together in one file"
            );
            let is = |row: &Row| {
                (&row.browser_id, row.visit_started) == (&visit.browser_id, visit.started)
            };
            assert!(rows.iter().all(is));
            assert!(
                rows.is_sorted_by(|a, b| (a.event_time, &a.event_id) < (b.event_time, &b.event_id))
            );
            let (first, last) = (rows[0].event_time, rows[rows.len() - 1].event_time);
            assert_eq!(
                (first, last, rows.len() as i64),
                (visit.started, visit.last_seen, visit.measurements)
            );
        }
        measurements.append(&mut rows);
    }
    assert_eq!(
        seen.len(),
        visits.len(),
        "each visit's measurements are there"
    );
    measurements.sort();
    Tables {
        visits,
        measurements,
    }
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Holds the topics and the tables of a finished or stopped job over the default schema to each
/// other: tags plus revisions are the rows of the measurements that are in a visit that has ended,
/// and what has ended are the rows of the visits.
pub fn agree(consumed: &Consumed, tables: &Tables) {
    let ended = consumed.ended.iter().map(|(id, e)| {
        (
            hex(id),
            e.browser.clone(),
            e.started,
            e.last_seen,
            e.measurements,
            e.reason.to_owned(),
            e.tick as i64,
        )
    });
    let ended: BTreeSet<_> = ended.collect();
    let rows = tables.visits.iter().map(|v| {
        let v = v.clone();
        (
            v.visit_id,
            v.browser_id,
            v.started,
            v.last_seen,
            v.measurements,
            v.end_reason,
            v.sealed_tick,
        )
    });
    assert!(
        ended == rows.collect(),
        "the visits that have ended are the table of visits"
    );

    let sealed = consumed
        .tags
        .iter()
        .filter(|(_, visit)| consumed.ended.contains_key(*visit));
    let tagged: Vec<_> = sealed
        .map(|((b, time, event), visit)| (b.clone(), *time, hex(&event.0), hex(visit)))
        .collect();
    let rows = tables.measurements.iter();
    let rows: Vec<_> = rows
        .map(|r| {
            (
                r.browser_id.clone(),
                r.event_time,
                r.event_id.clone(),
                r.visit_id.clone(),
            )
        })
        .collect();
    assert_eq!(tagged.len(), rows.len());
    assert!(
        tagged == rows,
        "tags and revisions are the table of measurements"
    );
}

/// The digest of the rows of the visits, in the form of [`visitflow::generate::Truth`].
pub fn visits_sha256(visits: &[VisitRow]) -> [u8; 32] {
    let mut sha = Sha256::new();
    for v in visits {
        let line = format!(
            "{}\t{}\t{}\t{}\t{}\t{}\n",
            v.visit_id, v.browser_id, v.started, v.last_seen, v.measurements, v.end_reason
        );
        sha.update(line);
    }
    sha.finalize().into()
}
