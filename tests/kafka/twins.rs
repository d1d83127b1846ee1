//! The anonymized twins of topics: in Kafka the same as in the embedded log, each record once,
//! however often whoever writes them dies.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use visitflow::anonymize::{TOPICS, anonymize};
use visitflow::crash::TWIN_POINTS;
use visitflow::generate;
use visitflow::job::{Job, JobFile};
use visitflow::kafka::{KafkaError, Options, Transactions, create, describe, read_progress};
use visitflow::log::{self, Producer, Topic, WriterOptions, start_offset};
use visitflow::{run, wall};
use visitflow_schemas::shard::Shard;

use crate::broker::{Broker, broker, eventually, open, patience, producer, write};

const PARTITIONS: u32 = 4;
/// The signal of a process that a crash point has ended.
const ABORTED: i32 = 6;
const HOUR: i64 = 3_600_000;

/// A job over the log in `dir`, with its outputs where `outputs` says, and the role with the salts.
fn job(dir: &Path, name: &str, outputs: &str) -> (Job, Job) {
    let text = format!(
        "name = '{name}'\nworkers = 2\n[source]\nlog = '{}'\n[outputs]\n{outputs}\npartitions = {PARTITIONS}\n\
         [state]\ndir = '{}'\n",
        dir.join("log").display(),
        dir.join(name).display(),
    );
    let with_salts = format!(
        "{text}[privacy]\nsalts = '{}'\n",
        dir.join("salts").display()
    );
    let parse = |text: &str| JobFile::parse(text, "job.toml".as_ref(), &[]).unwrap().job;
    fs::write(dir.join(format!("{name}.toml")), &with_salts).unwrap();
    (parse(&text), parse(&with_salts))
}

/// A made shop in the log at `dir/log`.
pub fn shop(dir: &Path, events: u64) -> generate::Truth {
    let mut settings = generate::Settings {
        events,
        seed: 9,
        ..Default::default()
    };
    settings.partitions = PARTITIONS;
    let options = generate::Options {
        settings,
        truth: None,
        tags: false,
        schemas: Some(dir.join("log/schemas")),
    };
    let topic = Topic::create(dir.join("log"), "measurements", PARTITIONS).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let truth = generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
    producer.close().unwrap();
    truth
}

/// By browser, its records in their order.
type ByBrowser = BTreeMap<Vec<u8>, Vec<(i64, Vec<u8>)>>;

fn in_log(log: &Path, topic: &str) -> ByBrowser {
    let topic = Topic::open(log, topic).unwrap();
    let mut found = ByBrowser::new();
    for partition in 0..topic.partitions() {
        let from = start_offset(&topic, partition).unwrap();
        let mut reader = log::Reader::open(&topic, partition, from).unwrap();
        while let Some(record) = reader.peek().unwrap() {
            let of = found.entry(record.key.to_vec()).or_default();
            of.push((record.log_time, record.value.to_vec()));
            reader.advance();
        }
    }
    found
}

fn in_kafka(broker: &Broker, topic: &str) -> ByBrowser {
    let partitions: Vec<(i32, i64)> = (0..PARTITIONS as i32).map(|n| (n, 0)).collect();
    let options = Options {
        ticks: true,
        ..Options::default()
    };
    let (_consumer, mut readers) = open(&broker.connection(), topic, &partitions, options);
    let mut found = ByBrowser::new();
    for reader in &mut readers {
        let partition = reader.partition() as u32;
        eventually("the end", || {
            while let Some(record) = reader.peek().unwrap() {
                let key = record.key.unwrap();
                assert_eq!(Shard::of(key).partition(PARTITIONS), partition);
                assert_eq!(record.tick, None, "a tick says a source position");
                assert_eq!(record.log_time % HOUR, 0, "an exact time does");
                assert!(!record.appended);
                let of = found.entry(key.to_vec()).or_default();
                of.push((record.log_time, record.value.unwrap().to_vec()));
                reader.advance();
            }
            reader.answered()
        });
    }
    found
}

fn program() -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    program.stdin(Stdio::null()).stdout(Stdio::null());
    program.stderr(Stdio::null());
    program
}

#[test]
fn twins_in_kafka_are_those_in_a_log_whenever_their_writer_was_killed() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shop(dir, 120_000);
    let log = dir.join("results");
    let (plain, plain_salts) = job(dir, "plain", &format!("log = '{}'", log.display()));
    run::run(run::Options::of(plain), |_| ()).unwrap();
    anonymize(&plain_salts, false, Arc::default()).unwrap();

    let bootstrap = broker.connection().properties["bootstrap.servers"].clone();
    let (kafka, kafka_salts) = job(dir, "twinned", &format!("kafka = '{bootstrap}'"));
    let running = thread::spawn(move || run::run(run::Options::of(kafka), |_| ()).unwrap());
    eventually("the job's topics", || {
        describe(&broker.connection(), "twinned-progress", &patience()).ok()
    });
    let mut crashed = 0;
    // While the job runs and behind it: at each point of a batch, and at any other moment.
    for round in 1..=6_usize {
        let mut child = program();
        child.args(["anonymize", "--follow"]);
        child.arg(dir.join("twinned.toml"));
        if round % 3 > 0 {
            let crash = format!("{}:{}", TWIN_POINTS[round % 3 - 1], 1 + round / 3);
            child.env("VISITFLOW_CRASH", crash);
        }
        let mut child = child.spawn().unwrap();
        // To come to a point takes as long as it takes.
        let patient = if round % 3 > 0 { 400 } else { 10 * round };
        for _ in 0..patient {
            if child.try_wait().unwrap().is_some() {
                break;
            }
            thread::sleep(Duration::from_millis(50));
        }
        // It may be gone.
        let _ = child.kill();
        crashed += usize::from(child.wait().unwrap().signal() == Some(ABORTED));
    }
    assert!(crashed >= 2, "{crashed}");
    running.join().unwrap();
    anonymize(&kafka_salts, false, Arc::default()).unwrap();
    for (_, twin) in TOPICS {
        let found = in_kafka(&broker, &format!("twinned-{twin}"));
        let expected = in_log(&log, twin);
        assert!(!expected.is_empty());
        assert_eq!(found.len(), expected.len(), "{twin}");
        for (browser, records) in &expected {
            assert_eq!(found.get(browser), Some(records), "{twin}");
        }
    }
    let again = anonymize(&kafka_salts, false, Arc::default()).unwrap();
    assert_eq!(again.records, Some([0, 0]));
}

#[test]
fn who_begins_a_twin_anew_replaces_whoever_writes_it() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shop(dir, 2_000);
    let bootstrap = broker.connection().properties["bootstrap.servers"].clone();
    let (run, salts) = job(dir, "replaced", &format!("kafka = '{bootstrap}'"));
    run::run(run::Options::of(run), |_| ()).unwrap();
    let following = {
        let salts = salts.clone();
        thread::spawn(move || anonymize(&salts, true, Arc::new(AtomicBool::new(false))))
    };
    let ids = TOPICS.map(|(_, twin)| format!("replaced-{twin}"));
    let connection = broker.connection();
    let progress = "replaced-progress-anonymous";
    eventually("all is written", || {
        describe(&connection, progress, &patience()).ok()?;
        let found = read_progress(&connection, progress, &ids, &patience()).unwrap();
        found
            .shards
            .values()
            .all(|done| done.until > 1)
            .then_some(())?;
        (!found.shards.is_empty()).then_some(())
    });
    let again = anonymize(&salts, false, Arc::default()).unwrap();
    assert_eq!(again.records, Some([0, 0]));
    // The first one learns of it when it has something to write.
    let (_, mut readers) = open(
        &connection,
        "replaced-tagged",
        &[(0, 0)],
        Options::default(),
    );
    let (key, value) = eventually("a record", || {
        let record = readers[0].peek().unwrap()?;
        Some((record.key?.to_vec(), record.value?.to_vec()))
    });
    let topic: Arc<str> = "replaced-tagged".into();
    let mut batch = visitflow::kafka::Batch::default();
    batch.push(&topic, 0, wall::now() as u64, &key, &[&value]);
    create(
        &connection,
        "another",
        1,
        &[("cleanup.policy", "compact")],
        &patience(),
    )
    .unwrap();
    let another = Transactions::open(&connection, "another", "another", 1, &patience());
    another.unwrap().commit(&batch).unwrap();
    let ended = following.join().unwrap().unwrap_err().to_string();
    let superseded = KafkaError::Superseded {
        id: ids[0].clone(),
        incarnation: 1,
        found: 2,
    };
    assert_eq!(ended, superseded.to_string());
    let last = anonymize(&salts, false, Arc::default()).unwrap();
    assert_eq!(last.records, Some([1, 0]));
}

#[test]
fn a_twin_that_could_say_too_much_or_has_another_source_is_refused() {
    let Some(broker) = broker() else { return };
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shop(dir, 1_000);
    let connection = broker.connection();
    let bootstrap = connection.properties["bootstrap.servers"].clone();
    let (run, salts) = job(dir, "refused-twin", &format!("kafka = '{bootstrap}'"));
    run::run(run::Options::of(run), |_| ()).unwrap();
    let twin = broker.topic("refused-twin-tagged-anonymous", PARTITIONS as usize);
    let error = anonymize(&salts, false, Arc::default()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("expected CreateTime, since they must say no more than the hour"),
        "{error}"
    );
    broker.delete_topic(&twin);
    eventually("it is gone", || {
        describe(&connection, &twin, &patience())
            .is_err()
            .then_some(())
    });
    create(&connection, &twin, PARTITIONS as usize, &[], &patience()).unwrap();
    write(&producer(&connection, None), &twin, 0, ["another's"]);
    let error = anonymize(&salts, false, Arc::default())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with(&format!("{twin}: it has records, but no progress;")),
        "{error}"
    );
}
