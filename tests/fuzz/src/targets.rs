//! The targets: one decoder each, what it may allocate, and what it is given first.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use serde_json::json;
use visitflow::generate;
use visitflow::import::{self, BoxError, Format, Kind, Mapping, Out, Silent};
use visitflow::job::JobFile;
use visitflow::log::{Reader, Topic, Writer, WriterOptions};
use visitflow::table::Table;
use visitflow_dataflows::clock::{ClockKind, PartitionClock};
use visitflow_dataflows::enrich::{Agents, Countries, Enrichment};
use visitflow_dataflows::intake::{Arrived, Intake, Outboxes};
use visitflow_dataflows::visit::Rules;
use visitflow_schemas::anonymize::Anonymizer;
use visitflow_schemas::columns::{Columns, Ids, Program};
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC};
use visitflow_schemas::message;
use visitflow_schemas::pseudonym::{Salt, Salts};
use visitflow_schemas::records::{
    self, CustomerNamed, EndReason, Lifecycle, Profile, Rejected, VISIT_REVISED, VisitEnded,
    VisitStarted, Weighed,
};
use visitflow_schemas::resolve::{identity, resolve};
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::MemoryStore;
use visitflow_schemas::tag;
use visitflow_schemas::walk::{Found, Walk};

use crate::arbitrary::{Maker, Record, Ty, schema_json};
use crate::seeds::{bodies, messages, texts};

/// A decoder that is given bytes.
pub struct Target {
    /// As `scripts/fuzz` names it.
    pub name: &'static str,
    /// Decodes; what it makes of the bytes is dropped.
    pub run: fn(&[u8]),
    /// What to begin with.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// So many bytes may live for each byte of input,
    pub factor: usize,
    /// and so many besides: buffers of fixed size.
    pub fixed: usize,
}

const KB: usize = 1 << 10;
const MB: usize = 1 << 20;

/// All of them.
pub const TARGETS: &[Target] = &[
    Target {
        name: "walk",
        run: walk,
        seeds: walk_seeds,
        factor: 256,
        fixed: 64 * KB,
    },
    Target {
        name: "columns",
        run: columns,
        seeds: columns_seeds,
        factor: 256,
        fixed: 64 * KB,
    },
    Target {
        name: "message",
        run: message,
        seeds: messages,
        factor: 64,
        fixed: 256 * KB,
    },
    Target {
        name: "schema",
        run: schema,
        seeds: schema_seeds,
        factor: 1_024,
        fixed: 64 * KB,
    },
    Target {
        name: "anonymize",
        run: anonymize,
        seeds: anonymize_seeds,
        factor: 64,
        fixed: 64 * KB,
    },
    Target {
        name: "records",
        run: decode_records,
        seeds: records_seeds,
        factor: 16,
        fixed: 16 * KB,
    },
    Target {
        name: "log",
        run: log,
        seeds: log_seeds,
        factor: 16,
        fixed: 2 * MB,
    },
    Target {
        name: "delta",
        run: delta,
        seeds: delta_seeds,
        factor: 512,
        fixed: MB,
    },
    Target {
        name: "combined",
        run: combined,
        seeds: combined_seeds,
        factor: 64,
        fixed: 8 * MB,
    },
    Target {
        name: "csv",
        run: csv,
        seeds: csv_seeds,
        factor: 64,
        fixed: 8 * MB,
    },
    Target {
        name: "jsonl",
        run: jsonl,
        seeds: jsonl_seeds,
        factor: 256,
        fixed: 8 * MB,
    },
    Target {
        name: "mapping",
        run: mapping,
        seeds: mapping_seeds,
        factor: 1_024,
        fixed: MB,
    },
    Target {
        name: "job",
        run: job,
        seeds: job_seeds,
        factor: 1_024,
        fixed: 4 * MB,
    },
    Target {
        name: "salts",
        run: salts,
        seeds: salts_seeds,
        factor: 64,
        fixed: 64 * KB,
    },
    Target {
        name: "countries",
        run: countries,
        seeds: countries_seeds,
        factor: 64,
        fixed: MB,
    },
];

/// How many random schemas there are; the first byte of an input chooses.
const SCHEMAS: u64 = 64;

/// What reads bodies of one schema.
struct Bodies {
    record: Record,
    walk: Walk,
    columns: Option<(RefCell<Columns>, Program)>,
}

thread_local! {
    static BODIES: Vec<Bodies> = (0..SCHEMAS).filter_map(random).collect();
    static EVOLVED: Vec<(Record, RefCell<Columns>, Program)> = (0..SCHEMAS).filter_map(evolved).collect();
    static FOUND: RefCell<Found> = RefCell::new(Found::default());
}

/// A random record, and what a measurement must have behind it.
fn random(seed: u64) -> Option<Bodies> {
    let record = Maker::new(seed).record(6, 3);
    let mut json = schema_json(&record);
    let fields = json["fields"].as_array_mut()?;
    fields.push(json!({"name": "own_browser", "type": "string", "role": "browser_id"}));
    fields.push(json!({"name": "own_time", "type": "long", "role": "event_time"}));
    fields.push(json!({"name": "own_event", "type": {"type": "fixed", "name": "OwnEvent", "size": 16}, "role": "event_id"}));
    let schema = Schema::parse(&json.to_string()).ok()?;
    let roles = Roles::find(&schema, &Overrides::default()).ok()?;
    let walk = Walk::compile(&schema, &roles, None).ok()?;
    let columns = Columns::new(&schema, Ids::Hex).ok().and_then(|columns| {
        let program = columns.program(&identity(&schema)).ok()?;
        Some((RefCell::new(columns), program))
    });
    Some(Bodies {
        record,
        walk,
        columns,
    })
}

/// Chooses by the first byte; the rest is the body.
fn choose<'a, T>(of: &'a [T], data: &'a [u8]) -> Option<(&'a T, &'a [u8])> {
    let (first, body) = data.split_first()?;
    Some((of.get(usize::from(*first) % of.len().max(1))?, body))
}

/// What the walk accepts, columns can read.
fn walk(data: &[u8]) {
    BODIES.with(|all| {
        let Some((bodies, body)) = choose(all, data) else {
            return;
        };
        let walked = FOUND.with(|found| bodies.walk.run(body, &mut found.borrow_mut()));
        if let Err(error) = walked {
            let _ = (
                bodies.walk.explain(error),
                bodies.walk.path(error).map(str::len),
            );
        }
        if let Some((columns, program)) = &bodies.columns {
            let mut columns = columns.borrow_mut();
            let appended = columns.append(program, body);
            assert!(
                walked.is_err() || appended.is_ok(),
                "walked, but {:?}",
                appended.err()
            );
            assert_eq!(columns.len(), usize::from(appended.is_ok()));
            assert_eq!(columns.finish().num_rows(), usize::from(appended.is_ok()));
        }
    });
}

fn walk_seeds() -> Vec<Vec<u8>> {
    BODIES.with(|all| {
        let seed = |(number, bodies): (usize, &Bodies)| {
            let mut seed = vec![number as u8];
            let ty = Ty::Record(bodies.record.clone());
            let mut maker = Maker::new(number as u64);
            let value = maker.value(&ty);
            maker.encode(&value, &ty, &mut seed);
            seed.extend_from_slice(b"\x06abc\xd0\x0f0123456789abcdef");
            seed
        };
        all.iter().enumerate().map(seed).collect()
    })
}

fn evolved(seed: u64) -> Option<(Record, RefCell<Columns>, Program)> {
    let mut maker = Maker::new(seed);
    let record = maker.record(6, 3);
    let reader = maker.evolve(&record, 3);
    let parse = |record: &Record| Schema::parse(&schema_json(record).to_string()).ok();
    let (writer, reader) = (parse(&record)?, parse(&reader)?);
    let columns = Columns::new(&reader, Ids::Hex).ok()?;
    let program = columns.program(&resolve(&writer, &reader).ok()?).ok()?;
    Some((record, RefCell::new(columns), program))
}

/// A refused body leaves no trace.
fn columns(data: &[u8]) {
    EVOLVED.with(|all| {
        let Some(((_, columns, program), body)) = choose(all, data) else {
            return;
        };
        let mut columns = columns.borrow_mut();
        let rows = usize::from(columns.append(program, body).is_ok())
            + usize::from(columns.append(program, body).is_ok());
        assert_eq!(columns.len(), rows);
        assert_eq!(columns.finish().num_rows(), rows);
    });
}

fn columns_seeds() -> Vec<Vec<u8>> {
    EVOLVED.with(|all| {
        let seed = |(number, (record, ..)): (usize, &(Record, RefCell<Columns>, Program))| {
            let mut seed = vec![number as u8];
            let ty = Ty::Record(record.clone());
            let mut maker = Maker::new(number as u64);
            let value = maker.value(&ty);
            maker.encode(&value, &ty, &mut seed);
            seed
        };
        all.iter().enumerate().map(seed).collect()
    })
}

/// The way of a message from a source: its fate, whatever it is.
fn message(data: &[u8]) {
    static STORE: LazyLock<Arc<MemoryStore>> = LazyLock::new(|| {
        let schemas: Vec<Schema> = generate::schemas()
            .into_iter()
            .map(|(_, schema)| schema.clone())
            .collect();
        Arc::new(MemoryStore::of(schemas.iter().chain([&*MEASUREMENT])))
    });
    // A new one for each: what an intake remembers of earlier messages does not count for this one.
    let agents = Agents::new(None, None).expect("no lists are right");
    let enrichment = Enrichment::new(None, agents);
    let mut intake = Intake::new(
        STORE.clone(),
        MEASUREMENT.clone(),
        Overrides::default(),
        MB,
        enrichment,
    );
    let log_time = 1_767_225_600_000;
    let mut clock = PartitionClock::new(ClockKind::LogTime, Rules::default(), 300_000, 100);
    let mut outboxes = Outboxes::new(16, 1);
    let arrived = Arrived {
        topic: "measurements",
        partition: 0,
        offset: 0,
        log_time,
        value: data,
    };
    let taken = intake.take(arrived, &mut clock, &mut outboxes);
    assert!(taken.is_ok());
    assert_eq!(outboxes.ready(true).count(), 1);
}

fn schema(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data)
        && let Ok(schema) = Schema::parse(text)
    {
        // Whatever was taken can be written out and taken again.
        let again = Schema::parse(&schema.json().to_string()).expect("a schema's own text");
        assert_eq!(again.fingerprint(), schema.fingerprint());
        let _ = Roles::find(&schema, &Overrides::default()).map_err(|error| error.to_string());
    }
}

fn schema_seeds() -> Vec<Vec<u8>> {
    let random = (0..8).map(|seed| {
        schema_json(&Maker::new(seed).record(3, 2))
            .to_string()
            .into_bytes()
    });
    random
        .chain([MEASUREMENT_AVSC.as_bytes().to_vec()])
        .collect()
}

/// Tagged measurements of the default schema.
fn anonymize(data: &[u8]) {
    static ANONYMIZER: LazyLock<Anonymizer> = LazyLock::new(|| {
        let tagged = tag::tagged(&MEASUREMENT).expect("the default schema");
        Anonymizer::of_tagged(&tagged, &Overrides::default()).expect("the default schema")
    });
    static SALT: LazyLock<Salt> = LazyLock::new(|| Salt::new([7; 32]));
    let mut out = Vec::new();
    let _ = ANONYMIZER.began(data).map_err(|error| error.to_string());
    let _ = ANONYMIZER
        .run(&SALT, data, &mut out)
        .map_err(|error| error.to_string());
}

fn anonymize_seeds() -> Vec<Vec<u8>> {
    let tagged = |body: Vec<u8>| {
        let mut out = Vec::new();
        let tag = tag::Tag {
            visit_id: [3; 16],
            visit_started: 1_767_225_600_000,
        };
        // No country, and no agent, browser, system or device that is known.
        tag.write_body(&[0, 4, 0, 0, 0, 0], &body, &mut out);
        out
    };
    bodies().into_iter().map(tagged).collect()
}

fn decode_records(data: &[u8]) {
    let _ = Lifecycle::decode_message(data).map(|said| said.browser_id().len());
    let _ = Rejected::decode_body(data).map_err(|error| error.to_string());
    let _ = VisitStarted::decode_body(data);
    let _ = VisitEnded::decode_body(data);
    let _ = CustomerNamed::decode_body(data);
}

fn records_seeds() -> Vec<Vec<u8>> {
    let (mut started, mut ended) = (Vec::new(), Vec::new());
    VisitStarted {
        visit_id: [1; 16],
        browser_id: "b1",
        started: 5,
    }
    .encode_message(&mut started);
    let visit = VisitEnded {
        visit_id: [1; 16],
        browser_id: "b1",
        started: 5,
        last_seen: 9,
        measurements: 2,
        reason: EndReason::Inactivity,
    };
    visit.encode_message(&mut ended);
    let mut revised = Vec::new();
    message::write_header(VISIT_REVISED.fingerprint(), &mut revised);
    revised.extend_from_slice(&[0; 80]);
    let mut named = Vec::new();
    let weighed = Weighed {
        name: "lamp",
        weight: 4.0,
    };
    let profile = Profile {
        visits: 1,
        products: vec![weighed],
        kinds: vec![weighed; 2],
        hours: vec![0.5; 24],
        ..Profile::default()
    };
    CustomerNamed {
        browser_id: "b1",
        customer_id: "ann",
        profile: Some(profile),
        ..CustomerNamed::default()
    }
    .encode_message(&mut named);
    let bodies = [&started, &ended, &named].map(|message| message[10..].to_vec());
    bodies
        .into_iter()
        .chain([started, ended, revised, named])
        .collect()
}

/// A folder in memory, where there is one.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() {
            tempfile::tempdir_in(memory)
        } else {
            tempfile::tempdir()
        };
        Folder(dir.expect("a temporary folder"))
    }

    fn path(&self) -> PathBuf {
        self.0.path().to_owned()
    }
}

const SEGMENT: &str = "00000/00000000000000000000.seg";

/// A segment: read as a reader does, recovered as a writer does, and read again. The first byte says whether the
/// checksums are made right before, since chance would not find them.
fn log(data: &[u8]) {
    thread_local! {
        static LOG: (Folder, Topic) = {
            let folder = Folder::new();
            let topic = Topic::create(folder.path(), "t", 1).expect("a topic");
            (folder, topic)
        };
    }
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    let mut bytes = bytes.to_vec();
    if first & 1 == 1 {
        mend(&mut bytes);
    }
    LOG.with(|(_, topic)| {
        let file = topic.path().join(SEGMENT);
        fs::write(&file, &bytes).expect("a segment");
        let read = |offset| -> Result<u64, String> {
            let mut reader = Reader::open(topic, 0, offset).map_err(|error| error.to_string())?;
            let mut count = 0;
            while let Some(record) = reader.peek().map_err(|error| error.to_string())? {
                let bytes: usize = record
                    .headers()
                    .map(|(name, value)| name.len() + value.len())
                    .sum();
                assert!(bytes + record.key.len() + record.value.len() <= data.len());
                count += 1;
                reader.advance();
            }
            Ok(count)
        };
        let first = visitflow::log::start_offset(topic, 0).unwrap_or(0);
        let before = read(first);
        let opened = Writer::open(topic, 0, WriterOptions::default());
        if let (Ok(before), Ok(_)) = (&before, &opened) {
            // What a reader has seen stays through a recovery.
            assert_eq!(read(first).as_ref(), Ok(before));
        }
        drop(opened);
        for entry in fs::read_dir(topic.path().join("00000"))
            .expect("the partition")
            .flatten()
        {
            if entry.path() != file {
                let _ = fs::remove_file(entry.path());
            }
        }
    });
}

/// Makes the checksums of a segment's header and of its frames right.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < 40 {
        return;
    }
    let crc = crc32fast::hash(&bytes[..36]);
    bytes[36..40].copy_from_slice(&crc.to_le_bytes());
    let mut at = 40;
    while bytes.len() - at >= 56 {
        let frame = &mut bytes[at..];
        let length = u32::from_le_bytes([frame[4], frame[5], frame[6], frame[7]]) as usize;
        if !(56..=frame.len()).contains(&length) {
            return;
        }
        let body = crc32fast::hash(&frame[56..length]);
        frame[48..52].copy_from_slice(&body.to_le_bytes());
        let header = crc32fast::hash(&frame[..52]);
        frame[52..56].copy_from_slice(&header.to_le_bytes());
        at += length;
    }
}

fn log_seeds() -> Vec<Vec<u8>> {
    let folder = Folder::new();
    let topic = Topic::create(folder.path(), "t", 1).expect("a topic");
    let mut seeds = Vec::new();
    let mut writer = Writer::open(&topic, 0, WriterOptions::default()).expect("a writer");
    for tick in 0..4_u64 {
        for record in 0..tick + 1 {
            let headers: &[(&str, &[u8])] = &[("tick", b"12")];
            let pushed = writer.push(1_700 + record as i64, b"key", headers, &[7; 20]);
            pushed.expect("a record");
        }
        writer.commit(tick).expect("a commit");
        let segment = fs::read(topic.path().join(SEGMENT)).expect("a segment");
        seeds.extend([0_u8, 1].map(|first| [&[first], &segment[..]].concat()));
    }
    seeds
}

/// The second version of a table, or, if the first byte says so, the first.
fn delta(data: &[u8]) {
    thread_local! {
        static TABLE: (Folder, Vec<u8>) = {
            let folder = Folder::new();
            let version = first_version(&folder.path());
            (folder, version)
        };
    }
    let Some((first, bytes)) = data.split_first() else {
        return;
    };
    TABLE.with(|(folder, version)| {
        let log = folder.path().join("_delta_log");
        let put = |number: usize, bytes: &[u8]| {
            fs::write(log.join(format!("{number:020}.json")), bytes).expect("a version");
        };
        let (one, two) = if first & 1 == 0 {
            (&version[..], bytes)
        } else {
            (bytes, &version[..])
        };
        put(0, one);
        put(1, two);
        match Table::open(&folder.path()) {
            Ok(table) => drop((
                table.files().count(),
                table.last_tick(),
                table.schema().fields().len(),
            )),
            Err(error) => drop(error.to_string()),
        }
    });
}

fn first_version(dir: &Path) -> Vec<u8> {
    let columns = visitflow_schemas::columns::arrow_schema_of(&records::VISIT, Ids::Hex)
        .expect("the schema of visits");
    Table::open_or_create(dir, &columns, &[]).expect("a table");
    fs::read(dir.join("_delta_log/00000000000000000000.json")).expect("a version")
}

fn delta_seeds() -> Vec<Vec<u8>> {
    let folder = Folder::new();
    let first = first_version(&folder.path());
    let add = r#"{"txn":{"appId":"visitflow","version":7,"lastUpdated":1700000000000}}
{"add":{"path":"a.parquet","partitionValues":{},"size":10,"modificationTime":1700000000000,"dataChange":true,"stats":"{\"numRecords\":3,\"minValues\":{\"measurements\":1},\"maxValues\":{\"measurements\":9},\"nullCount\":{\"measurements\":0}}"}}
{"remove":{"path":"b.parquet","deletionTimestamp":1700000000000,"dataChange":true}}
{"commitInfo":{"timestamp":1700000000000,"operation":"WRITE"}}
"#;
    vec![[&[1], &first[..]].concat(), [&[0], add.as_bytes()].concat()]
}

/// Takes what an import sends.
struct Sent(usize);

impl Out for Sent {
    fn send(&mut self, _: i64, key: &[u8], value: &[u8]) -> Result<(), BoxError> {
        self.0 += key.len() + value.len();
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        Ok(())
    }
}

fn imported(data: &[u8], format: Format) {
    thread_local! {
        static FOLDER: Folder = Folder::new();
    }
    FOLDER.with(|folder| {
        let (file, log) = (folder.path().join("file"), folder.path().join("log"));
        fs::write(&file, data).expect("a file");
        let mut options = import::Options::new(vec![file], format, log);
        options.memory = MB;
        options.max_line = 4 * KB;
        match import::import(&options, &mut Sent(0), &mut Silent) {
            Ok(summary) => drop(summary.to_string()),
            Err(error) => drop(error.to_string()),
        }
    });
}

fn combined(data: &[u8]) {
    imported(data, Format::Combined);
}

fn combined_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "192.0.2.7 - - [26/Jan/2019:19:45:25 +0330] \"GET /shoes?size=42 HTTP/1.1\" 200 30975 \"https://shop.example/\" \"Mozilla/5.0 (X11)\" \"-\"\n",
        "shop.example:443 2001:db8::1 - anna [01/Feb/2024:00:00:00 +0000] \"\\x16\\x03\" 400 - \"-\" \"a \\\"b\\\" \\\\\"\r\n\n",
        "1.2.3.4 - - [26/Jan/2019:19:45:25 +0330] \"GET / HTTP/1.1\" 200 5\nhalf a li",
    ])
}

fn parsed(text: &str, kind: Kind) -> Mapping {
    Mapping::parse(Path::new("mapping.toml"), text, kind).expect("a mapping")
}

const MAPPING: &str = "browser_id = 'user'\nevent_time = { from = 'at', format = 'ms' }\neffect = { from = 'type', map = { view = 'shown' }, unmapped = 'keep' }\nentity = { constant = 'product' }\nvalue = { from = 'price', scale = 100, round = true }\nattributes = ['brand']\n";

fn csv(data: &[u8]) {
    static MAPPED: LazyLock<Mapping> = LazyLock::new(|| parsed(MAPPING, Kind::Csv));
    imported(data, Format::Csv(MAPPED.clone()));
}

fn csv_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "user,at,type,price,brand\nb1,1700000000000,view,1.23,x\n\"b\"\"2\",1700000000001,cart,,\"a\nb\"\n",
        "user,at,type,price,brand\nb1,17,view\n\n,,,,\n",
    ])
}

fn jsonl(data: &[u8]) {
    static MAPPED: LazyLock<Mapping> = LazyLock::new(|| parsed(MAPPING, Kind::Jsonl));
    imported(data, Format::Jsonl(MAPPED.clone()));
}

fn jsonl_seeds() -> Vec<Vec<u8>> {
    texts(&[
        "{\"user\":\"b1\",\"at\":1700000000000,\"type\":\"view\",\"price\":1.23,\"brand\":{\"a\":[1,null]}}\n",
        "{\"user\":7,\"at\":\"1700000000001\",\"type\":\"c\\u00e4rt\"}\n[]\n{\"user\":\n",
    ])
}

fn mapping(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    for kind in [Kind::Csv, Kind::Jsonl] {
        let _ = Mapping::parse(Path::new("m.toml"), text, kind).map_err(|error| error.to_string());
    }
}

fn mapping_seeds() -> Vec<Vec<u8>> {
    texts(&[
        MAPPING,
        include_str!("../../../examples/mappings/otto.toml"),
        include_str!("../../../examples/mappings/rees46.toml"),
        include_str!("../../../examples/mappings/nginx-json.toml"),
    ])
}

fn job(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match JobFile::parse(text, Path::new("job.toml"), &[]) {
        Ok(file) => drop(file.effective()),
        Err(errors) => drop(errors.to_string()),
    }
}

fn job_seeds() -> Vec<Vec<u8>> {
    texts(&[
        include_str!("../../../examples/jobs/log-to-files.toml"),
        include_str!("../../../examples/jobs/live.toml"),
        include_str!("../../../examples/jobs/own-schema.toml"),
    ])
}

fn salts(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(salts) = Salts::parse(text) {
        let again = Salts::parse(&salts.to_text()).expect("its own text");
        assert!(again.years().eq(salts.years()));
    }
}

fn salts_seeds() -> Vec<Vec<u8>> {
    let salt = "07".repeat(32);
    vec![format!("# by year\n2025 = \"{salt}\"\n2026 = \"{salt}\"\n").into_bytes()]
}

/// A country database, and some addresses.
fn countries(data: &[u8]) {
    match Countries::from_mmdb(data.to_vec()) {
        Ok(countries) => {
            for address in ["1.2.3.4", "2001:db8::1", "::ffff:192.0.2.7", "81.2.69.160"] {
                let _ = countries.of(address);
            }
        }
        Err(error) => drop(error.to_string()),
    }
}

fn countries_seeds() -> Vec<Vec<u8>> {
    vec![
        include_bytes!("../../../dataflows/tests/data/GeoIP2-Country-Test.mmdb").to_vec(),
        include_bytes!("../../../dataflows/tests/data/MaxMind-DB-test-broken-pointers-24.mmdb")
            .to_vec(),
        include_bytes!("../../../dataflows/tests/data/MaxMind-DB-test-broken-search-tree-24.mmdb")
            .to_vec(),
    ]
}
