//! What the whole job costs: from a log to the tagged topic and two tables, on two workers, against
//! a plain copy of the same log in the same run, and with the views of a shop; and where the time goes,
//! stage by stage, on one thread. Each job has a process of its own, as in real life: memory that one has
//! come by must not come cheap to the next. So each waits until the machine has back what was freed, which
//! virtual ones give to their host and are given anew, for seconds of each gigabyte; whoever comes at once
//! is spared that, and who takes it over a longer time is not.
//!
//! `cargo bench --bench job`; `-- warm` for jobs that have filled as much memory as they will need before
//! time is taken, as one that runs for long; `-- quick` for a tenth of the records; `-- profile` runs nothing
//! but the job with views, once, for a profiler to look at, and `-- profile plain` that without.

use std::alloc::{GlobalAlloc, Layout};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use visitflow::generate::{self, Settings};
use visitflow::job::JobFile;
use visitflow::log::{Producer, Reader, Topic, WriterOptions};
use visitflow::run::{self, Options};
use visitflow::table::TableWriter;
use visitflow_dataflows::batch::Batch;
use visitflow_dataflows::clock::{ClockKind, PartitionClock};
use visitflow_dataflows::complete::{Complete, Measurements, NoStore};
use visitflow_dataflows::enrich::{Agents, BUILT_IN_REGEXES, BUILT_IN_ROBOTS, Enrichment};
use visitflow_dataflows::intake::{Arrived, Intake, Outboxes};
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::{Rules, bytes_of_words};
use visitflow_dataflows::visits::{Open, Said};
use visitflow_schemas::columns::{Columns, Ids};
use visitflow_schemas::encode;
use visitflow_schemas::measurement::MEASUREMENT;
use visitflow_schemas::resolve::resolve;
use visitflow_schemas::roles::Overrides;
use visitflow_schemas::store::{FolderStore, SchemaStore};
use visitflow_schemas::tag::{self, Tag};

/// mimalloc, with all bytes that were asked for added up.
struct Counting;

/// A thread's share of the bytes, on a cache line of its own: what is counted must not slow down who
/// works beside.
#[repr(align(128))]
struct Share(AtomicU64);

static ALLOCATED: [Share; 64] = [const { Share(AtomicU64::new(0)) }; 64];

thread_local! {
    static OWN: u8 = const { 0 };
}

fn count(bytes: usize) {
    // Where a thread has its own variables tells it from others, most likely.
    let place = OWN.try_with(|own| std::ptr::from_ref(own).addr() >> 12);
    let share = &ALLOCATED[place.unwrap_or(0) % ALLOCATED.len()];
    share.0.fetch_add(bytes as u64, Ordering::Relaxed);
}

fn allocated() -> u64 {
    let all = ALLOCATED.iter();
    all.map(|share| share.0.load(Ordering::Relaxed)).sum()
}

// SAFETY: everything is passed on to mimalloc as it is; the counter touches no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.saturating_sub(layout.size()));
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const ROUNDS: usize = 3;
/// So long it takes until memory that was freed is the machine's again.
const REST: Duration = Duration::from_secs(12);
/// As much memory a job needs, with some to spare.
const WARM: usize = 2_600_000_000;

fn main() {
    visitflow::memory::keep_free();
    let given = |word: &str| std::env::args().any(|arg| arg == word);
    let quick = given("quick");
    let events = if quick { 200_000 } else { 2_000_000 };
    if let Some(at) = std::env::args().position(|arg| arg == "one") {
        let args: Vec<String> = std::env::args().skip(at + 1).collect();
        let [dir, log, views, memory] = &args[..] else {
            panic!("expected a folder, a log, whether with views, and what memory, got {args:?}");
        };
        let views = if views == "views" { self::views() } else { "" };
        if memory == "warm" {
            // In pieces that are of use to whoever takes them later.
            let filled: Vec<Vec<u8>> = (0..WARM >> 23).map(|_| vec![1; 1 << 23]).collect();
            drop(std::hint::black_box(filled));
        }
        let (took, allocated) = job(Path::new(dir), Path::new(log), views);
        println!("{took} {allocated}");
        return;
    }
    let dir = tempfile::tempdir().expect("a place for the bench");
    let log = dir.path().join("log");
    let topic = make(&log, events);
    let (records, bytes) = size(&topic);
    println!(
        "{records} measurements of {} bytes, {} MB\n",
        bytes / records,
        bytes / 1_000_000
    );

    if given("profile") {
        let views = if given("plain") { "" } else { views() };
        let (took, _) = job(dir.path(), &log, views);
        println!("{took:.2} s");
        return;
    }
    println!(
        "{:>8}  {:>14}  {:>14}  {:>7}  {:>12}  {:>8}  {:>22}",
        "round",
        "copy the log",
        "the whole job",
        "ratio",
        "a second",
        "MB/s",
        "with views, throughput"
    );
    let mut kept = Vec::new();
    for round in 0..ROUNDS {
        let to = dir.path().join(format!("copy-{round}"));
        let copied = copy(&topic, &to);
        std::fs::remove_dir_all(to).expect("a copy");
        let (took, allocated) = alone(dir.path(), &log, "plain", given("warm"));
        let (viewed, _) = alone(dir.path(), &log, "views", given("warm"));
        println!(
            "{round:>8}  {:>12.2} s  {:>12.2} s  {:>7.2}  {:>12}  {:>8.0}  {viewed:>11.2} s {:>6.0} %   \
             {} bytes allocated a measurement",
            copied,
            took,
            took / copied,
            run::grouped((records as f64 / took) as u64),
            bytes as f64 / took / 1e6,
            took / viewed * 100.0,
            allocated / records
        );
        kept.push(took / viewed * 100.0);
    }
    kept.sort_by(f64::total_cmp);
    println!("{:>95.0} %, the median", kept[ROUNDS / 2]);
    println!();
    stages(&log, &topic, dir.path());
}

fn make(log: &Path, events: u64) -> Topic {
    let topic = Topic::create(log, "measurements", 4).expect("a topic");
    let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
    let settings = Settings {
        events,
        schema_changes: Some([0, i64::MAX]),
        ..Settings::default()
    }
    .per_second(5_000);
    let options = generate::Options {
        settings,
        schemas: Some(log.join("schemas")),
        ..Default::default()
    };
    generate::generate(&options, &mut producer, &mut |_| ()).expect("a shop");
    producer.close().expect("a log");
    topic
}

fn size(topic: &Topic) -> (u64, u64) {
    let (mut records, mut bytes) = (0, 0);
    for partition in 0..topic.partitions() {
        let mut reader = Reader::open(topic, partition, 0).expect("a partition");
        while let Some(record) = reader.peek().expect("a record") {
            records += 1;
            bytes += record.value.len() as u64;
            reader.advance();
        }
    }
    (records, bytes)
}

/// Reads every record and writes it to another log: what no job over this log can go below.
fn copy(topic: &Topic, to: &Path) -> f64 {
    let began = Instant::now();
    let copy = Topic::create(to, "copy", topic.partitions()).expect("a topic");
    let mut producer = Producer::open(&copy, WriterOptions::default()).expect("writers");
    for partition in 0..topic.partitions() {
        let mut reader = Reader::open(topic, partition, 0).expect("a partition");
        while let Some(record) = reader.peek().expect("a record") {
            producer
                .send(record.log_time, record.key, &[], record.value)
                .expect("a write");
            reader.advance();
        }
    }
    producer.close().expect("a log");
    began.elapsed().as_secs_f64()
}

/// The views of `examples/jobs/shop.toml`.
fn views() -> &'static str {
    let text = include_str!("../examples/jobs/shop.toml");
    text.find("[[view]]").map_or("", |at| &text[at..])
}

/// The job in a process of its own.
fn alone(dir: &Path, log: &Path, views: &str, warm: bool) -> (f64, u64) {
    if !warm {
        std::thread::sleep(REST);
    }
    let own = std::env::current_exe().expect("this program");
    let said = Command::new(own)
        .arg("one")
        .args([dir, log])
        .args([views, if warm { "warm" } else { "new" }])
        .output()
        .expect("a job of its own");
    let (out, error) = (&said.stdout, &said.stderr);
    let [out, error] = [out, error].map(|said| String::from_utf8_lossy(said));
    let said: Vec<&str> = out.split_whitespace().collect();
    let [took, allocated] = said[..] else {
        panic!("the job failed: {out}{error}");
    };
    let took = took.parse().expect("seconds");
    (took, allocated.parse().expect("bytes"))
}

fn job(dir: &Path, log: &Path, views: &str) -> (f64, u64) {
    let text = format!(
        "workers = 2\n[source]\nlog = '{}'\n[outputs]\nlog = '{}'\nfiles = '{}'\n{views}",
        log.display(),
        dir.join("topics").display(),
        dir.join("tables").display()
    );
    let job = JobFile::parse(&text, Path::new("bench.toml"), &[])
        .expect("a job")
        .job;
    let before = allocated();
    let began = Instant::now();
    let summary = run::run(Options::of(job), |_| ()).expect("a run");
    let took = began.elapsed().as_secs_f64();
    assert!(summary.ledger.holds());
    // What is gone is not brought to the disk while the next is measured.
    for outputs in ["topics", "tables"] {
        std::fs::remove_dir_all(dir.join(outputs)).expect("what it has written");
    }
    (took, allocated() - before)
}

/// The stages of the job one after another, each over all records, on this thread.
fn stages(log: &Path, topic: &Topic, dir: &Path) {
    let store: Arc<dyn SchemaStore> =
        Arc::new(FolderStore::open(log.join("schemas")).expect("schemas"));
    let rules = Rules::default();
    let agents =
        Agents::new(Some(BUILT_IN_ROBOTS), Some(BUILT_IN_REGEXES)).expect("the built-in lists");
    let enrichment = Enrichment::new(None, agents);
    let reader_schema = MEASUREMENT.clone();
    let mut intake = Intake::new(
        store.clone(),
        reader_schema.clone(),
        Overrides::default(),
        1_000_000,
        enrichment,
    );
    let mut outboxes = Outboxes::new(16, 2);
    let mut times: Vec<(&str, f64, u64)> = Vec::new();
    let mut stage = |name, work: &mut dyn FnMut()| {
        let (before, began) = (allocated(), Instant::now());
        work();
        times.push((name, began.elapsed().as_secs_f64(), allocated() - before));
    };

    stage("read the log", &mut || {
        size(topic);
    });
    let mut batches: Vec<Batch> = Vec::new();
    stage("read, walk, judge, enrich, pack", &mut || {
        for partition in 0..topic.partitions() {
            let mut reader = Reader::open(topic, partition, 0).expect("a partition");
            let mut clock = PartitionClock::new(ClockKind::LogTime, rules, 300_000, 100);
            while let Some(record) = reader.peek().expect("a record") {
                clock.advance(clock.tick_of(record.log_time, i64::MAX));
                let arrived = Arrived {
                    topic: "measurements",
                    partition,
                    offset: record.offset,
                    log_time: record.log_time,
                    value: record.value,
                };
                intake
                    .take(arrived, &mut clock, &mut outboxes)
                    .expect("schemas");
                reader.advance();
                batches.extend(outboxes.ready(false));
            }
        }
        batches.extend(outboxes.ready(true));
    });
    let records: u64 = batches.iter().map(|batch| batch.heads().len() as u64).sum();
    stage("exchange between processes, if there were two", &mut || {
        use timely::dataflow::channels::ContainerBytes;
        let mut bytes = Vec::new();
        for batch in &batches {
            bytes.clear();
            batch.into_bytes(&mut bytes);
            std::hint::black_box(&bytes);
        }
    });
    let mut steps = Steps::default();
    for mut batch in batches.drain(..) {
        batch.heads_mut().retain(|head| head.fate == 0);
        steps.push(batch);
    }
    let mut said = Said::default();
    let mut tagged = Vec::new();
    stage("visits: order by tick, assign, seal", &mut || {
        let mut step = steps.complete(u64::MAX);
        let mut open = Open::new(rules);
        open.advance(&mut step, &mut said);
        while open.seal_before(u64::MAX, &mut said) {}
        (tagged, _) = step.into_batches(&mut said.repeated);
    });
    stage("tag: write the tagged topic", &mut || {
        let topic = Topic::create(dir.join("stages"), "tagged", 16).expect("a topic");
        let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
        let mut message = Vec::new();
        for record in tagged.iter().flat_map(Batch::records) {
            message.clear();
            let tag = Tag {
                visit_id: bytes_of_words(record.head.visit),
                visit_started: record.head.extra,
            };
            tag.write_message(1, record.context, record.body, &mut message);
            producer
                .send(record.head.tick as i64, record.browser_id, &[], &message)
                .expect("a write");
        }
        producer.close().expect("a log");
    });
    let mut visits: Vec<Complete> = Vec::new();
    stage("keep, and give out whole visits", &mut || {
        let mut kept = Measurements::<NoStore>::default();
        tagged
            .iter()
            .flat_map(Batch::records)
            .for_each(|record| kept.add(record));
        visits = kept.complete(&said.lifecycle).expect("no store that fails");
    });
    drop(tagged);
    let rows = tag::rows(&reader_schema).expect("rows");
    let mut columns = Columns::new(&rows, Ids::Hex).expect("columns");
    let mut batches = Vec::new();
    stage("columns", &mut || {
        let mut programs = std::collections::HashMap::new();
        let mut row = Vec::new();
        for visit in &visits {
            for measurement in visit.measurements() {
                let program = programs.entry(measurement.schema).or_insert_with(|| {
                    let writer = store
                        .get(measurement.schema)
                        .expect("a store")
                        .expect("a schema");
                    let read =
                        resolve(&tag::rows(&writer).expect("rows"), &rows).expect("readable");
                    columns.program(&read).expect("a program")
                });
                row.clear();
                let tag = Tag {
                    visit_id: visit.visit,
                    visit_started: visit.started,
                };
                tag.write_body(measurement.context, measurement.body, &mut row);
                encode::long(tag::day_of(visit.started), &mut row);
                columns.append(program, &row).expect("a row");
                if columns.len() == 8_192 {
                    batches.push(columns.finish());
                }
            }
        }
        batches.push(columns.finish());
    });
    stage("Parquet", &mut || {
        let options = visitflow::table::Options {
            unique: vec!["event_id".into(), "cause".into()],
            bloom: vec!["browser_id".into(), "visit_id".into()],
        };
        let mut writer =
            TableWriter::new(dir, "stages", batches[0].schema(), &options).expect("a file");
        batches
            .iter()
            .for_each(|batch| writer.write(batch).expect("rows"));
        writer.finish().expect("a file");
    });
    println!(
        "{:<48}  {:>10}  {:>16}",
        "stage, one thread", "ns", "bytes allocated"
    );
    for (name, seconds, allocated) in times {
        println!(
            "{name:<48}  {:>10.0}  {:>16}",
            seconds * 1e9 / records as f64,
            allocated / records
        );
    }
}
