//! Anonymized twins, from made traffic through the whole job: what they hold, what they do not, and
//! that they are written once.

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow_array::RecordBatch;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, TimestampMicrosecondType};
use visitflow::anonymize::salts::SaltFileError;
use visitflow::anonymize::{AnonymizeError, Summary, TOPICS, anonymize, anonymous, check};
use visitflow::generate;
use visitflow::job::{Job, JobFile, Override};
use visitflow::log::{Producer, Reader, Topic, Writer, WriterOptions, start_offset};
use visitflow::run::{self, RunError, outputs};
use visitflow::table::{Table, to_json_lines};
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::message;
use visitflow_schemas::pseudonym::{Kind, Salt, Salts, hex};
use visitflow_schemas::records::CUSTOMER_NAMED;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore};

/// A job in a folder of its own.
struct Shop {
    dir: tempfile::TempDir,
    job: Job,
}

impl Shop {
    fn new(sets: &[&str]) -> Shop {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let text = format!(
            "workers = 2\n[source]\nlog = '{}'\n[outputs]\nfiles = '{}'\nlog = '{}'\npartitions = 4\n\
             [privacy]\nsalts = '{}'\n",
            at("log"),
            at("tables"),
            at("results"),
            at("salts.toml")
        );
        let sets: Vec<Override> = sets.iter().map(|set| Override::set(set)).collect();
        let job = JobFile::parse(&text, "shop.toml".as_ref(), &sets)
            .unwrap()
            .job;
        Shop { dir, job }
    }

    /// With made traffic, and everything that the job makes of it.
    fn of_made(events: u64, sets: &[&str]) -> Shop {
        let shop = Shop::new(sets);
        let log = shop.job.source.log.as_ref().unwrap();
        let mut settings = generate::Settings {
            events,
            seed: 6,
            ..Default::default()
        };
        settings.partitions = 4;
        let options = generate::Options {
            settings,
            truth: None,
            tags: false,
            schemas: Some(log.join("schemas")),
        };
        let topic = Topic::create(log, "measurements", 4).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
        producer.close().unwrap();
        shop.run();
        shop
    }

    /// With these measurements.
    fn of(measurements: &[Measurement]) -> Shop {
        let shop = Shop::new(&[]);
        let log = shop.job.source.log.as_ref().unwrap();
        fs::create_dir_all(log.join("schemas")).unwrap();
        let store = FolderStore::open(log.join("schemas")).unwrap();
        store.put(&MEASUREMENT).unwrap();
        let topic = Topic::create(log, "measurements", 4).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        for measurement in measurements {
            let mut message = vec![];
            measurement.encode_message(&mut message);
            let key = measurement.browser_id.as_bytes();
            producer
                .send(measurement.event_time, key, &[], &message)
                .unwrap();
        }
        producer.close().unwrap();
        shop.run();
        shop
    }

    fn run(&self) {
        // The role that runs has no salts to read yet.
        run::run(run::Options::of(self.job.clone()), |_| ()).unwrap();
    }

    fn anonymize(&self) -> Result<Summary, AnonymizeError> {
        anonymize(&self.job, false, Arc::default())
    }

    fn salts(&self) -> PathBuf {
        self.dir.path().join("salts.toml")
    }

    fn files(&self) -> &Path {
        self.job.outputs.files.as_deref().unwrap()
    }

    fn log(&self) -> &Path {
        self.job.outputs.log.as_deref().unwrap()
    }

    fn identified(&self, table: &str) -> Table {
        Table::open(&outputs::identified(self.files()).join(table)).unwrap()
    }

    fn anonymous(&self, table: &str) -> Table {
        Table::open(&anonymous(self.files()).join(table)).unwrap()
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::open(self.log(), name).unwrap()
    }
}

fn rows(table: &Table) -> Vec<RecordBatch> {
    table.read().collect::<Result<_, _>>().unwrap()
}

/// The values of a column of texts, null ones too.
fn texts(batches: &[RecordBatch], column: &str) -> Vec<Option<String>> {
    let mut texts = vec![];
    for batch in batches {
        let column = batch.column_by_name(column).unwrap().as_string::<i32>();
        texts.extend(column.iter().map(|text| text.map(str::to_owned)));
    }
    texts
}

/// How many groups there are of each size.
fn sizes<T: std::hash::Hash + Eq>(values: impl IntoIterator<Item = T>) -> Vec<u64> {
    let mut groups = HashMap::new();
    for value in values {
        *groups.entry(value).or_insert(0_u64) += 1;
    }
    let mut sizes: Vec<u64> = groups.into_values().collect();
    sizes.sort_unstable();
    sizes
}

/// Keys and values of a topic's records, and their log times.
fn records(topic: &Topic) -> Vec<(Vec<u8>, Vec<u8>, i64)> {
    let mut records = vec![];
    for partition in 0..topic.partitions() {
        let start = start_offset(topic, partition).unwrap();
        let mut reader = Reader::open(topic, partition, start).unwrap();
        while let Some(record) = reader.peek().unwrap() {
            records.push((record.key.to_vec(), record.value.to_vec(), record.log_time));
            if topic.name().ends_with("-anonymous") {
                assert_eq!((record.headers().count(), record.tick), (0, 0));
            }
            reader.advance();
        }
    }
    records
}

/// The records of a topic as apache-avro reads them.
fn read(shop: &Shop, topic: &str) -> Vec<serde_json::Value> {
    let store = FolderStore::open(shop.log().join("schemas")).unwrap();
    let all = store.all().unwrap();
    let all = all.iter().map(|schema| {
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        (schema.fingerprint(), avro)
    });
    let schemas: HashMap<u64, apache_avro::Schema> = all.collect();
    let readers = schemas.iter().map(|(fingerprint, schema)| {
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build();
        (*fingerprint, reader.unwrap())
    });
    let readers: HashMap<u64, _> = readers.collect();
    let records = records(&shop.topic(topic));
    let read = records.iter().map(|(_, value, _)| {
        let (fingerprint, mut body) = message::split(value).unwrap();
        json(readers[&fingerprint].read_value(&mut body).unwrap())
    });
    read.collect()
}

fn json(value: apache_avro::types::Value) -> serde_json::Value {
    use apache_avro::types::Value as Avro;
    match value {
        Avro::Record(fields) => fields
            .into_iter()
            .map(|(name, v)| (name, json(v)))
            .collect(),
        Avro::Union(_, value) => json(*value),
        Avro::Fixed(_, bytes) => bytes
            .iter()
            .map(|b| format!("{b:02x}"))
            .collect::<String>()
            .into(),
        Avro::TimestampMillis(time) => time.into(),
        Avro::Long(long) => long.into(),
        Avro::Int(int) => int.into(),
        Avro::String(text) | Avro::Enum(_, text) => text.into(),
        Avro::Null => serde_json::Value::Null,
        other => format!("{other:?}").into(),
    }
}

/// Values of at least eight bytes, to be looked for everywhere in other bytes.
struct Needles {
    by_first: HashMap<u64, BTreeSet<Vec<u8>>>,
    /// One bit for the hash of each first eight bytes: most places are passed by a look at it.
    bits: Vec<u64>,
}

impl Needles {
    fn new() -> Needles {
        Needles {
            by_first: HashMap::new(),
            bits: vec![0; 1 << 18],
        }
    }

    fn bit(first: u64) -> (usize, u64) {
        let hash = first.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        (hash as usize >> 6, 1 << (hash & 63))
    }

    fn add(&mut self, value: &[u8]) {
        if let Some(first) = value.first_chunk::<8>() {
            let first = u64::from_le_bytes(*first);
            let (word, bit) = Needles::bit(first);
            self.bits[word] |= bit;
            self.by_first
                .entry(first)
                .or_default()
                .insert(value.to_vec());
        }
    }

    fn len(&self) -> usize {
        self.by_first.values().map(BTreeSet::len).sum()
    }

    fn found_in(&self, bytes: &[u8]) -> Option<String> {
        for (at, window) in bytes.windows(8).enumerate() {
            let first = u64::from_le_bytes(window.try_into().unwrap());
            let (word, bit) = Needles::bit(first);
            if self.bits[word] & bit == 0 {
                continue;
            }
            for needle in self.by_first.get(&first).into_iter().flatten() {
                if bytes[at..].starts_with(needle) {
                    return Some(String::from_utf8_lossy(needle).into_owned());
                }
            }
        }
        None
    }
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

/// Everything of the identified data that identifies.
fn identifying(shop: &Shop) -> Needles {
    let mut needles = Needles::new();
    let measurements = rows(&shop.identified("measurements"));
    for column in ["visit_id", "event_id", "cause"] {
        for id in texts(&measurements, column).into_iter().flatten() {
            needles.add(id.as_bytes());
            needles.add(&unhex(&id));
        }
    }
    for column in ["browser_id", "customer_id", "ip", "user_agent"] {
        for value in texts(&measurements, column).into_iter().flatten() {
            needles.add(value.as_bytes());
        }
    }
    for column in ["url", "referrer"] {
        for url in texts(&measurements, column).into_iter().flatten() {
            for part in url
                .split_once('?')
                .into_iter()
                .flat_map(|(_, q)| q.split('&'))
            {
                needles.add(part.as_bytes());
            }
        }
    }
    for batch in &measurements {
        let times = batch.column_by_name("event_time").unwrap();
        for time in times.as_primitive::<TimestampMicrosecondType>().values() {
            if time % 3_600_000_000 != 0 {
                needles.add(&time.to_le_bytes());
                needles.add((time / 1_000).to_string().as_bytes());
                let text = jiff::Timestamp::from_microsecond(*time).unwrap();
                // Without the day, which all have in common.
                needles.add(&format!("{text:.3}").as_bytes()[11..]);
            }
        }
    }
    needles
}

/// All that a reader of the twins can see: rows, times, logs of versions, keys and messages.
fn visible(shop: &Shop) -> Vec<Vec<u8>> {
    let mut seen = vec![];
    for table in ["measurements", "visits"] {
        let table = shop.anonymous(table);
        let mut lines = vec![];
        for batch in rows(&table) {
            to_json_lines(&batch, &mut lines).unwrap();
            for column in batch.columns() {
                let Some(times) = column.as_primitive_opt::<TimestampMicrosecondType>() else {
                    continue;
                };
                assert!(times.values().iter().all(|time| time % 3_600_000_000 == 0));
            }
        }
        seen.push(lines);
        for file in fs::read_dir(table.dir().join("_delta_log")).unwrap() {
            seen.push(fs::read(file.unwrap().path()).unwrap());
        }
        for file in fs::read_dir(table.dir()).unwrap() {
            seen.push(file.unwrap().file_name().into_encoded_bytes());
        }
    }
    for (_, twin) in TOPICS {
        for (key, value, log_time) in records(&shop.topic(twin)) {
            assert_eq!(log_time % 3_600_000, 0);
            seen.push(key);
            seen.push(value);
        }
        for record in read(shop, twin) {
            let Some(fields) = record.as_object() else {
                unreachable!()
            };
            for (name, value) in fields {
                if name.ends_with("_time") || name.ends_with("started") || name == "last_seen" {
                    assert_eq!(value.as_i64().unwrap_or(0) % 3_600_000, 0, "{name}");
                }
            }
        }
    }
    seen
}

#[test]
fn nothing_that_identifies_is_common_to_both_twins_and_groups_have_the_same_sizes() {
    let shop = Shop::of_made(12_000, &[]);
    let summary = shop.anonymize().unwrap();
    assert!(summary.records.unwrap()[0] > 10_000, "{summary}");

    let needles = identifying(&shop);
    assert!(needles.len() > 30_000, "{}", needles.len());
    // What is looked for is found where it is.
    let mut lines = vec![];
    to_json_lines(&rows(&shop.identified("visits"))[0], &mut lines).unwrap();
    assert!(needles.found_in(&lines).is_some());
    for bytes in visible(&shop) {
        assert_eq!(needles.found_in(&bytes), None);
    }

    let [before, after] = [
        shop.identified("measurements"),
        shop.anonymous("measurements"),
    ];
    let [before, after] = [rows(&before), rows(&after)];
    for column in [
        "visit_id",
        "customer_id",
        "browser_id",
        "event_id",
        "cause",
        "country",
    ] {
        assert_eq!(
            sizes(texts(&before, column)),
            sizes(texts(&after, column)),
            "{column}"
        );
    }
    let visits = [shop.identified("visits"), shop.anonymous("visits")].map(|table| rows(&table));
    for column in ["visit_id", "customer_id", "browser_id"] {
        let [before, after] = visits.each_ref().map(|visits| sizes(texts(visits, column)));
        assert_eq!(before, after, "{column}");
    }
    for (topic, twin) in TOPICS {
        let [before, after] = [read(&shop, topic), read(&shop, twin)];
        for column in ["visit_id", "customer_id", "browser_id"] {
            let of = |records: &[serde_json::Value]| {
                sizes(records.iter().map(|record| record[column].to_string()))
            };
            assert_eq!(of(&before), of(&after), "{column} of {topic}");
        }
    }
}

#[test]
fn the_twins_can_be_joined_with_one_another() {
    let shop = Shop::of_made(10_000, &[]);
    shop.anonymize().unwrap();
    let of = |records: &[serde_json::Value], column: &str| {
        let values = records
            .iter()
            .filter_map(|r| r[column].as_str().map(str::to_owned));
        values.collect::<BTreeSet<String>>()
    };
    let measurements = rows(&shop.anonymous("measurements"));
    let visits = rows(&shop.anonymous("visits"));
    let set = |batches: &[RecordBatch], column: &str| {
        texts(batches, column)
            .into_iter()
            .flatten()
            .collect::<BTreeSet<String>>()
    };
    let tagged = read(&shop, "tagged-anonymous");
    for column in ["event_id", "browser_id", "customer_id"] {
        assert_eq!(of(&tagged, column), set(&measurements, column), "{column}");
    }
    assert_eq!(set(&measurements, "visit_id"), set(&visits, "visit_id"));
    let lifecycle = read(&shop, "lifecycle-anonymous");
    let ended: Vec<_> = lifecycle
        .into_iter()
        .filter(|r| r.get("reason").is_some())
        .collect();
    assert_eq!(of(&ended, "visit_id"), set(&visits, "visit_id"));
    // Keys are the browsers, and a browser has one partition.
    let mut partitions: HashMap<Vec<u8>, usize> = HashMap::new();
    let twin = shop.topic("tagged-anonymous");
    for partition in 0..twin.partitions() {
        let mut reader = Reader::open(&twin, partition, 0).unwrap();
        while let Some(record) = reader.peek().unwrap() {
            let of = partitions
                .entry(record.key.to_vec())
                .or_insert(partition as usize);
            assert_eq!(*of, partition as usize);
            reader.advance();
        }
    }
    let keys = partitions
        .into_keys()
        .map(|key| String::from_utf8(key).unwrap());
    assert_eq!(
        keys.collect::<BTreeSet<String>>(),
        of(&tagged, "browser_id")
    );
}

#[test]
fn what_is_known_of_customers_has_no_twin() {
    let shop = Shop::of_made(10_000, &["profiles.enabled=true"]);
    let all = records(&shop.topic("lifecycle"));
    let of_customer = |(_, value, _): &&(Vec<u8>, Vec<u8>, i64)| {
        let (fingerprint, _) = message::split(value).unwrap();
        fingerprint == CUSTOMER_NAMED.fingerprint()
    };
    let named = all.iter().filter(of_customer).count();
    assert!(named > 5, "{named}");
    let written = shop.anonymize().unwrap();
    assert_eq!(written.records.unwrap()[1], (all.len() - named) as u64);
    let twin = read(&shop, "lifecycle-anonymous");
    assert_eq!(twin.len(), all.len() - named);
    let own = |record: &serde_json::Value| {
        record
            .get("profile")
            .or(record.get("customer_id"))
            .is_some()
    };
    assert!(!twin.iter().any(own));
    // Whoever begins again passes over them once more.
    assert_eq!(shop.anonymize().unwrap().records, Some([0, 0]));
}

#[test]
fn each_version_has_its_twin_sorted_by_visit_with_places_in_the_visit() {
    let shop = Shop::of_made(20_000, &["outputs.file_size=100kB"]);
    shop.anonymize().unwrap();
    for table in ["measurements", "visits"] {
        let (from, twin) = (shop.identified(table), shop.anonymous(table));
        assert_eq!(from.version(), twin.version());
        for version in 0..=from.version() {
            let at = |table: &Table| Table::open_at(table.dir(), version).unwrap();
            let (from, twin) = (at(&from), at(&twin));
            assert_eq!(from.last_tick(), twin.last_tick());
            let count = |table: &Table| table.files().filter_map(|f| f.rows()).sum::<u64>();
            assert_eq!(count(&from), count(&twin), "{table} {version}");
        }
        let columns = twin.schema().fields().iter().map(|f| f.name().clone());
        assert!(columns.clone().all(|name| name != "sealed_tick"));
        assert_eq!(
            columns.clone().any(|n| n == "position_in_visit"),
            table == "measurements"
        );
    }
    let twin = shop.anonymous("measurements");
    for file in twin.files() {
        let mut last = (String::new(), 0);
        for batch in visitflow::table::read_file(twin.dir(), file).unwrap() {
            let batch = batch.unwrap();
            let positions = batch.column_by_name("position_in_visit").unwrap();
            let positions = positions.as_primitive::<Int32Type>();
            let visits = texts(std::slice::from_ref(&batch), "visit_id");
            for (visit, position) in visits.into_iter().flatten().zip(positions.values()) {
                if visit == last.0 {
                    assert_eq!(*position, last.1 + 1);
                } else {
                    assert!(visit > last.0 && *position == 1);
                }
                last = (visit, *position);
            }
        }
    }
}

#[test]
fn nothing_is_written_twice_whenever_it_was_stopped() {
    let shop = Shop::of_made(10_000, &[]);
    let first = shop.anonymize().unwrap();
    let before: Vec<_> = TOPICS
        .iter()
        .map(|(_, twin)| records(&shop.topic(twin)))
        .collect();
    let again = shop.anonymize().unwrap();
    assert_eq!(again.records, Some([0, 0]));
    assert_eq!(
        again.tables.unwrap().map(|t| (t.rows, t.versions)),
        [(0, 0); 2]
    );
    assert_eq!(
        again.tables.unwrap()[0].version,
        first.tables.unwrap()[0].version
    );

    // As if it had died when one partition of the last batch was written and another was not.
    let lost = shop.topic("tagged-anonymous").path().join("00002");
    fs::remove_dir_all(&lost).unwrap();
    let finished = shop.anonymize().unwrap();
    assert_eq!(finished.records.unwrap()[1], 0);
    let after: Vec<_> = TOPICS
        .iter()
        .map(|(_, twin)| records(&shop.topic(twin)))
        .collect();
    assert_eq!(after, before);

    // What comes later comes to the twin, once, to whoever follows.
    let topic = shop.topic("tagged");
    let mut reader = Reader::open(&topic, 1, 0).unwrap();
    let record = reader.peek().unwrap().unwrap();
    let mut writer = Writer::open(&topic, 1, WriterOptions::default()).unwrap();
    let tick = writer.last_tick() + 3_600_000;
    let header = tick.to_string();
    for _ in 0..10 {
        let headers = [("tick", header.as_bytes())];
        writer
            .push(tick as i64, record.key, &headers, record.value)
            .unwrap();
    }
    writer.commit(tick).unwrap();
    writer.close().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    std::thread::scope(|scope| {
        let following = scope.spawn(|| anonymize(&shop.job, true, stop.clone()).unwrap());
        while records(&shop.topic("tagged-anonymous")).len() < before[0].len() + 10 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(following.join().unwrap().records, Some([10, 0]));
    });
}

#[test]
fn a_record_that_no_run_has_written_is_told_by_its_place() {
    let known = visitflow_schemas::tag::tagged(&MEASUREMENT)
        .unwrap()
        .fingerprint();
    let mut short = vec![];
    message::write_header(known, &mut short);
    let mut unknown = vec![];
    message::write_header(7, &mut unknown);
    let tick = [("tick", &b"100"[..])];
    type Headers<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Headers, &[u8], &str); 4] = [
        (&[], &short, "no header `tick`"),
        (&tick, b"text", "a message of 4 bytes"),
        (
            &tick,
            &unknown,
            "a message of the schema 0000000000000007, which is not",
        ),
        (&tick, &short, "at byte 0 of the body: the body ends here"),
    ];
    for (headers, value, expected) in cases {
        let shop = Shop::of(&[]);
        let topic = shop.topic("tagged");
        let mut writer = Writer::open(&topic, 3, WriterOptions::default()).unwrap();
        writer.push(0, b"b", headers, value).unwrap();
        writer.commit(100).unwrap();
        writer.close().unwrap();
        let error = shop.anonymize().unwrap_err().to_string();
        let place = format!("{}, partition 3, offset 0: ", topic.path().display());
        assert!(
            error.starts_with(&place) && error.contains(expected),
            "{error}"
        );
    }
}

#[test]
fn a_twin_of_another_source_is_told_from_one_of_this() {
    let shop = Shop::of_made(3_000, &[]);
    shop.anonymize().unwrap();
    let replace = |what: &Path| fs::remove_dir_all(what).unwrap();
    replace(shop.log().join("tagged").as_path());
    Topic::create(shop.log(), "tagged", 4).unwrap();
    let error = shop.anonymize().unwrap_err();
    assert!(
        matches!(error, AnonymizeError::OtherSource { .. }),
        "{error}"
    );
    let twin = shop.topic("tagged-anonymous").path();
    let advice = format!("remove {} and anonymize anew", twin.display());
    assert!(error.to_string().contains(&advice), "{error}");
    replace(&twin);

    // A table that has gone back.
    let dir = outputs::identified(shop.files()).join("visits");
    let schema = Table::open(&dir).unwrap().schema().clone();
    replace(&dir);
    Table::create(&dir, &schema, &[]).unwrap();
    let error = shop.anonymize().unwrap_err();
    assert!(
        error
            .to_string()
            .contains("it is at version 1, the table at 0"),
        "{error}"
    );
}

const NEW_YEAR: i64 = 1_767_225_600_000;

#[test]
fn a_visit_over_new_year_has_all_its_ids_under_the_salt_of_the_year_it_began_in() {
    let minute = 60_000;
    let measurement = |browser_id, event: u8, event_time| Measurement {
        event_id: [event; 16],
        browser_id,
        event_time,
        customer_id: Some("customer-1"),
        cause: (event > 1).then_some([1; 16]),
        effect: "shown",
        entity: "page",
        ..Default::default()
    };
    let shop = Shop::of(&[
        measurement("over", 1, NEW_YEAR - 10 * minute),
        measurement("over", 2, NEW_YEAR - 1),
        measurement("over", 3, NEW_YEAR + 5 * minute),
        measurement("after", 4, NEW_YEAR + 6 * minute),
    ]);
    let summary = shop.anonymize().unwrap();
    assert_eq!(summary.years, [2025, 2026]);
    let salts = Salts::parse(&fs::read_to_string(shop.salts()).unwrap()).unwrap();
    let [old, new] = [2025, 2026].map(|year| salts.get(year).unwrap());
    let text = |salt: &Salt, kind, value: &[u8]| {
        String::from_utf8(hex(salt.pseudonym(&kind, value)).to_vec()).unwrap()
    };
    let expected = |salt, browser: &str, event: u8| {
        let cause = (event > 1).then(|| text(salt, Kind::Event, &[1; 16]));
        let ids = [
            Some(text(salt, Kind::Browser, browser.as_bytes())),
            Some(text(salt, Kind::Event, &[event; 16])),
            Some(text(salt, Kind::Customer, b"customer-1")),
            cause,
        ];
        ids.to_vec()
    };
    let all: BTreeSet<Vec<Option<String>>> = [
        expected(old, "over", 1),
        expected(old, "over", 2),
        expected(old, "over", 3),
        expected(new, "after", 4),
    ]
    .into();
    const IDS: [&str; 4] = ["browser_id", "event_id", "customer_id", "cause"];
    let rows = rows(&shop.anonymous("measurements"));
    let columns = IDS.map(|column| texts(&rows, column));
    let row = |row: usize| {
        columns
            .iter()
            .map(|column| column[row].clone())
            .collect::<Vec<_>>()
    };
    assert_eq!((0..4).map(row).collect::<BTreeSet<_>>(), all);
    let records = read(&shop, "tagged-anonymous");
    let id = |record: &serde_json::Value, id: &str| record[id].as_str().map(str::to_owned);
    let record = |record| IDS.iter().map(|name| id(record, name)).collect::<Vec<_>>();
    assert_eq!(records.iter().map(record).collect::<BTreeSet<_>>(), all);
}

#[test]
fn salts_that_others_may_read_are_refused_and_so_is_a_job_without_them() {
    let mut shop = Shop::of(&[]);
    shop.anonymize().unwrap();
    assert!(!shop.salts().exists(), "no year, no salt");
    let text = format!("2026 = \"{}\"\n", "0a".repeat(32));
    fs::write(shop.salts(), text).unwrap();
    fs::set_permissions(shop.salts(), fs::Permissions::from_mode(0o644)).unwrap();
    let error = shop.anonymize().unwrap_err();
    assert!(matches!(
        error,
        AnonymizeError::Salts(SaltFileError::Mode { mode: 0o644, .. })
    ));
    assert!(error.to_string().contains("chmod 600"), "{error}");
    fs::set_permissions(shop.salts(), fs::Permissions::from_mode(0o600)).unwrap();
    shop.anonymize().unwrap();

    shop.job.privacy.salts = None;
    let error = shop.anonymize().unwrap_err();
    assert!(
        error.to_string().starts_with("privacy.salts is not set"),
        "{error}"
    );
}

#[test]
fn a_run_that_could_read_the_salts_is_refused() {
    let shop = Shop::of(&[]);
    let text = format!("2026 = \"{}\"\n", "0a".repeat(32));
    fs::write(shop.salts(), text).unwrap();
    fs::set_permissions(shop.salts(), fs::Permissions::from_mode(0o600)).unwrap();
    let mut job = shop.job.clone();
    job.outputs.replace = true;
    let run = || run::run(run::Options::of(job.clone()), |_| ());
    let error = run().unwrap_err();
    assert!(matches!(error, RunError::SaltsReadable(_)), "{error}");
    assert!(
        error.to_string().contains("run it as another user"),
        "{error}"
    );
    // Root leaves a file to its owner; nobody else could give it away.
    if fs::metadata(shop.salts()).unwrap().uid() != 0 {
        eprintln!("SKIPPED: only root can give a file to another user");
        return;
    }
    std::os::unix::fs::chown(shop.salts(), Some(12_345), Some(12_345)).unwrap();
    run().unwrap();
}

#[test]
fn a_schema_that_says_too_little_is_refused_with_all_its_fields_before_anything_is_written() {
    let fields = r#"
        {"name": "id", "type": "long", "role": "event_id", "privacy": "pseudonymize"},
        {"name": "at", "type": "long", "role": "event_time"},
        {"name": "who", "type": {"type": "record", "name": "Who", "fields": [
            {"name": "cookie", "type": "string", "role": "browser_id"},
            {"name": "mail", "type": ["null", "string"], "default": null}]}},
        {"name": "words", "type": {"type": "array", "items": "string"}}"#;
    let text = format!(r#"{{"type": "record", "name": "shop.Event", "fields": [{fields}]}}"#);
    let mut shop = Shop::new(&[]);
    let reader = shop.dir.path().join("event.avsc");
    fs::write(&reader, &text).unwrap();
    let log = shop.job.source.log.clone().unwrap();
    fs::create_dir_all(log.join("schemas")).unwrap();
    fs::write(log.join("schemas/event.avsc"), &text).unwrap();
    shop.job.schemas.reader = Some(reader);
    let topic = Topic::create(&log, "measurements", 4).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let schema = Schema::parse(&text).unwrap();
    let mut message = vec![];
    message::write_header(schema.fingerprint(), &mut message);
    message.extend_from_slice(b"\x02\x04\x06b-1\x02\x06a@b\x02\x06tea\x00");
    producer.send(2, b"b-1", &[], &message).unwrap();
    producer.close().unwrap();

    // Who has set the salts hears it before the run; without them there is nothing to say.
    let refused = run::run(run::Options::of(shop.job.clone()), |_| ()).unwrap_err();
    assert!(!shop.files().exists() && !shop.log().exists());
    let salts = shop.job.privacy.salts.take();
    shop.run();
    shop.job.privacy.salts = salts;

    let error = shop.anonymize().unwrap_err().to_string();
    for field in ["at", "who.cookie", "who.mail", "words"] {
        let told = format!("\n  {field}  has no privacy, expected keep");
        assert!(error.contains(&told), "{field}: {error}");
    }
    assert!(
        error.contains("      mail         union of null and string"),
        "{error}"
    );
    assert!(!anonymous(shop.files()).exists() && !shop.log().join("tagged-anonymous").exists());
    assert_eq!(check(&shop.job).unwrap_err().to_string(), error);
    assert!(refused.to_string().ends_with(&error), "{refused}");

    // The job file can say it, for what has been written before, too.
    let said = [
        ("at", "generalize"),
        ("who", "drop"),
        ("who.cookie", "pseudonymize"),
        ("words", "keep"),
    ];
    for (path, privacy) in said {
        shop.job
            .schemas
            .privacy
            .insert(path.into(), privacy.parse().unwrap());
    }
    let summary = shop.anonymize().unwrap();
    assert_eq!(summary.records, Some([1, 2]));
    let record = &read(&shop, "tagged-anonymous")[0];
    assert_eq!(record["at"], 0);
    assert!(record["who"].get("mail").is_none());
    let row = &rows(&shop.anonymous("measurements"))[0];
    let who = row.column_by_name("who").unwrap().as_struct();
    let cookie = who.column_by_name("cookie").unwrap().as_string::<i32>();
    assert_eq!(record["who"]["cookie"], cookie.value(0));
}
