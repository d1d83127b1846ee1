//! What it costs to be exactly once, and to hold more than memory does.
//!
//! `cargo bench --bench exactly_once -- WHAT…`, without a word all but the last three, of
//! - `price`: the whole job with state (journal, snapshots) against the same job without;
//! - `memory`: open visits of ten times `state.memory` against the same in memory;
//! - `snapshot`: how long a worker stands still at once for a snapshot of 500,000 open visits;
//! - `start`: from the start of a job with 1,000,000 open visits to its first new tag;
//! - `kafka`: from Kafka to Kafka and tables, in measurements a second;
//! - `latency`: from the scheduled time of sending to the committed tag, at 20,000 a second;
//! - `flat`, `flat=N`: N million measurements (4) of ever new browsers in bounded memory and disk;
//! - `robot`, `robot=N`: N million measurements (9) of one browser in bounded memory;
//! - `day`, `day=N`: N million (50) of a day of 50, replayed, against how long they took to come.
//!
//! `kafka` and `latency` start a broker (`scripts/kafka`) that shares the machine. The last three
//! want some disk: `flat` and `robot` 1.2 GB a million, `day` 7 GB however many.

mod day;
mod flat;
mod robot;
mod watched;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use visitflow::job::JobFile;
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, Options, Summary, grouped};
use visitflow::wall;
use visitflow_dataflows::batch::{BatchBuilder, Head};
use visitflow_dataflows::complete::saved::Collected;
use visitflow_dataflows::complete::{Measurements, Payloads};
use visitflow_dataflows::step::Steps;
use visitflow_dataflows::visit::{Position, Rules, browser_key};
use visitflow_dataflows::visits::{Open, Said};
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::message;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::shard::Shard;
use visitflow_schemas::store::{FolderStore, SchemaStore};
use visitflow_schemas::walk::{Found, Walk};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PARTITIONS: u32 = 4;

/// When made traffic begins.
const BEGIN: i64 = 1_767_225_600_000;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut asked: Vec<(&str, Option<f64>)> = asked
        .iter()
        .map(|word| match word.split_once('=') {
            Some((what, number)) => (what, Some(number.parse().expect("a number of millions"))),
            None => (&**word, None),
        })
        .collect();
    if asked.is_empty() {
        let all = ["price", "memory", "snapshot", "start", "kafka", "latency"];
        asked = all.map(|what| (what, None)).to_vec();
    }
    for (what, millions) in asked {
        println!("== {what}");
        let dir = tempfile::tempdir().expect("a place for the bench");
        match what {
            "price" => price(dir.path()),
            "memory" => memory(dir.path()),
            "snapshot" => snapshot(),
            "start" => start(dir.path()),
            "kafka" => kafka(dir.path()),
            "latency" => latency(dir.path()),
            "flat" => flat::flat(dir.path(), millions.unwrap_or(4.0)),
            "robot" => robot::robot(dir.path(), millions.unwrap_or(9.0)),
            "day" => day::day(dir.path(), millions.unwrap_or(50.0)),
            _ => panic!("{what}: none of what is measured here"),
        }
    }
}

/// A measurement of 450 bytes.
fn measurement(number: u64, browser: u64, time: i64, out: &mut Vec<u8>) {
    let mut event_id = [0; 16];
    event_id[8..].copy_from_slice(&number.to_be_bytes());
    let browser_id = format!("browser-{browser:016x}");
    let url = format!(
        "https://shop.example/product/{}?from=recommendation",
        number % 5_000
    );
    let m = Measurement {
        event_id,
        browser_id: &browser_id,
        event_time: time,
        effect: "shown",
        entity: "product",
        entity_id: Some("product/471100"),
        reason: Some("recommendation:similar"),
        url: Some(&url),
        referrer: Some(
            "https://shop.example/search?query=a+rather+long+query+of+somebody+who+looks+for+something&sort=price&campaign=newsletter-of-november&page=1&row=5",
        ),
        ip: Some("198.51.100.23"),
        user_agent: Some(
            "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
        ),
        ..Measurement::default()
    };
    out.clear();
    m.encode_message(out);
}

fn schemas(dir: &Path) -> PathBuf {
    let schemas = dir.join("schemas");
    std::fs::create_dir_all(&schemas).expect("a folder");
    FolderStore::open(&schemas)
        .expect("a store")
        .put(&MEASUREMENT)
        .expect("a schema");
    schemas
}

/// Which of so many browsers a measurement is of: one after the other, in no order.
fn one_of(browsers: u64) -> impl Fn(u64) -> u64 {
    move |number| number * 7_919 % browsers
}

/// A log of so many measurements at so many a second, and which browser each is of; the mean of
/// their bytes.
fn log(dir: &Path, count: u64, browser: impl Fn(u64) -> u64, rate: u64, begin: i64) -> f64 {
    let topic = Topic::create(dir.join("log"), "measurements", PARTITIONS).expect("a topic");
    let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
    let (mut value, mut bytes) = (Vec::new(), 0);
    for number in 0..count {
        let time = begin + (number * 1_000 / rate) as i64;
        let browser = browser(number);
        measurement(number, browser, time, &mut value);
        bytes += value.len();
        let key = format!("browser-{browser:016x}");
        producer
            .send(time, key.as_bytes(), &[], &value)
            .expect("a write");
    }
    producer.close().expect("a log");
    bytes as f64 / count as f64
}

fn run_job(text: &str, watch: impl FnOnce(run::Handle) + Send + 'static) -> (Summary, f64) {
    let job = JobFile::parse(text, Path::new("bench.toml"), &[])
        .expect("a job")
        .job;
    let began = Instant::now();
    let summary = run::run(Options::of(job), watch).expect("a run");
    (summary, began.elapsed().as_secs_f64())
}

fn source(dir: &Path) -> String {
    format!(
        "workers = 2\n[source]\nlog = '{}'\n[schemas]\nstore = '{}'\n",
        dir.join("log").display(),
        schemas(dir).display()
    )
}

fn outputs(dir: &Path, name: &str) -> String {
    format!(
        "[outputs]\nlog = '{}'\nfiles = '{}'\n",
        dir.join(format!("{name}-topics")).display(),
        dir.join(format!("{name}-tables")).display()
    )
}

fn state(dir: &Path, name: &str, memory: &str) -> String {
    let dir = dir.join(format!("{name}-state"));
    format!(
        "[state]\ndir = '{}'\nmemory = '{memory}'\nsnapshots = '1s'\n",
        dir.display()
    )
}

fn price(dir: &Path) {
    let count = 2_000_000;
    let bytes = log(dir, count, one_of(200_000), 20_000, BEGIN);
    println!(
        "{} measurements of {bytes:.0} bytes; a snapshot a second",
        grouped(count)
    );
    println!(
        "{:>5}  {:>12}  {:>12}  {:>6}  {:>10}",
        "round", "without", "with state", "ratio", "a second"
    );
    for round in 0..3 {
        let name = format!("without-{round}");
        let (_, without) = run_job(&(source(dir) + &outputs(dir, &name)), |_| ());
        let name = format!("with-{round}");
        let text = source(dir) + &outputs(dir, &name) + &state(dir, &name, "1GB");
        let (_, with) = run_job(&text, |_| ());
        println!(
            "{round:>5}  {without:>10.2} s  {with:>10.2} s  {:>6.2}  {:>10}",
            with / without,
            grouped((count as f64 / with) as u64)
        );
    }
}

fn memory(dir: &Path) {
    // In 200 s no visit ends: all of it is kept.
    let count = 2_000_000;
    log(dir, count, one_of(200_000), 10_000, BEGIN);
    println!(
        "{:>5}  {:>12}  {:>12}  {:>6}  {:>14}",
        "round", "2 GB", "84 MB", "ratio", "kept at most"
    );
    for round in 0..3 {
        let mut took = Vec::new();
        let most = Arc::new(AtomicU64::new(0));
        for memory in ["2GB", "84MB"] {
            let name = format!("{memory}-{round}");
            let text = source(dir) + &outputs(dir, &name) + &state(dir, &name, memory);
            let seen = most.clone();
            let watch = move |handle: run::Handle| {
                while !handle.ended() {
                    let kept = handle.metrics.kept_bytes.load(Ordering::Relaxed);
                    seen.fetch_max(kept, Ordering::Relaxed);
                    std::thread::sleep(Duration::from_millis(20));
                }
            };
            took.push(run_job(&text, watch).1);
        }
        println!(
            "{round:>5}  {:>10.2} s  {:>10.2} s  {:>6.2}  {:>11} MB",
            took[0],
            took[1],
            took[1] / took[0],
            most.load(Ordering::Relaxed) / 1_000_000
        );
    }
}

/// A store that only counts.
struct Nowhere(u64);

impl Payloads for Nowhere {
    type Chunk = [u64; 3];
    type Error = std::convert::Infallible;
    fn length(chunk: [u64; 3]) -> usize {
        chunk[1] as usize
    }
    fn write(&mut self, chunks: Vec<([u64; 2], Vec<u8>)>) -> Result<Vec<[u64; 3]>, Self::Error> {
        let place = |(_, bytes): &([u64; 2], Vec<u8>)| [7, bytes.len() as u64, 0];
        self.0 += chunks.len() as u64;
        Ok(chunks.iter().map(place).collect())
    }
    fn read(&mut self, _: &[[u64; 3]], _: &mut dyn FnMut(usize, &[u8])) -> Result<(), Self::Error> {
        Ok(())
    }
    fn free(&mut self, _: [u64; 3]) -> Result<(), Self::Error> {
        Ok(())
    }
    fn thin(
        &mut self,
        _: &dyn Fn([u64; 2], [u64; 3]) -> bool,
    ) -> Result<Option<Vec<([u64; 2], [u64; 3])>>, Self::Error> {
        Ok(None)
    }
}

/// What is copied at once, as the fragments do.
const VISITS_AT_ONCE: usize = 256 << 10;
const MEASUREMENTS_AT_ONCE: usize = 512 << 10;

/// Measurements of so many browsers in turn, ten each ms, and what is kept of them.
struct Live {
    browsers: u64,
    number: u64,
    open: Open,
    kept: Measurements<Nowhere>,
    steps: Steps,
}

impl Live {
    /// Takes a step of the next thousand; how long that took the visits.
    fn step(&mut self) -> Duration {
        let mut batch = BatchBuilder::default();
        for number in self.number..self.number + 1_000 {
            let id = format!("browser-{:016x}", number % self.browsers);
            let time = BEGIN + (number / 10) as i64;
            let head = Head {
                browser: browser_key(id.as_bytes()),
                at: Position {
                    time,
                    event: [0, number],
                },
                tick: time as u64 + 5_000,
                shard: Shard::of(id.as_bytes()).0,
                ..Head::default()
            };
            batch.push(head, id.as_bytes(), &[7; 300], |_| ());
        }
        self.number += 1_000;
        self.steps.push(batch.take());
        let mut step = self.steps.complete(u64::MAX);
        let mut said = Said::default();
        let began = Instant::now();
        self.open.advance(&mut step, &mut said);
        let took = began.elapsed();
        step.in_order().for_each(|record| self.kept.add(record));
        took
    }

    fn tick(&self) -> u64 {
        BEGIN as u64 + self.number / 10 + 5_000
    }
}

fn snapshot() {
    let browsers = 500_000_u64;
    let mut live = Live {
        browsers,
        number: 0,
        open: Open::new(Rules::default()),
        kept: Measurements::new(Some(Nowhere(0)), usize::MAX),
        steps: Steps::default(),
    };
    // Three measurements of each, the last two minutes' in the tail.
    while live.number < 3 * browsers {
        live.step();
    }
    println!(
        "{} open visits, {} measurements in the tail; each longest time at once, and in all",
        grouped(live.open.visits() as u64),
        grouped(live.open.tail() as u64)
    );
    println!(
        "{:>5}  {:>16}  {:>26}  {:>26}  {:>16}  {:>12}",
        "round",
        "visits",
        "step of 1,000 meanwhile",
        "step of 1,000 otherwise",
        "measurements",
        "other thread"
    );
    for round in 0..5 {
        let [mut visits, mut during, mut otherwise, mut measurements] = [Times::default(); 4];
        for _ in 0..100 {
            otherwise.add(live.step());
        }
        // As the operators do: tags go on between two parts.
        let began = Instant::now();
        live.open.begin_copy(live.tick());
        visits.add(began.elapsed());
        let copied = loop {
            let began = Instant::now();
            let copied = live.open.copy_some(VISITS_AT_ONCE);
            visits.add(began.elapsed());
            match copied {
                Some((_, copied)) => break copied,
                None => during.add(live.step()),
            }
        };
        let (mut saving, mut collected) = (None, None);
        while collected.is_none() {
            let began = Instant::now();
            let some = live.kept.save_some(&mut saving, MEASUREMENTS_AT_ONCE);
            collected = some.expect("no store that fails");
            measurements.add(began.elapsed());
        }
        let began = Instant::now();
        let shards = (copied.shards(), collected.map(Collected::shards));
        println!(
            "{round:>5}  {visits:>16}  {during:>26}  {otherwise:>26}  {measurements:>16}  {:>9.0} ms",
            began.elapsed().as_secs_f64() * 1e3
        );
        drop(shards);
    }
}

/// The longest of several times, and their sum.
#[derive(Clone, Copy, Default)]
struct Times {
    longest: Duration,
    all: Duration,
}

impl Times {
    fn add(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
        self.all += took;
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [longest, all] = [self.longest, self.all].map(|time| time.as_secs_f64() * 1e3);
        f.pad(&format!("{longest:.1} of {all:.0} ms"))
    }
}

fn start(dir: &Path) {
    let browsers = 1_000_000;
    let begin = wall::now() - 120_000;
    log(dir, browsers, one_of(browsers), 10_000, begin);
    let job = source(dir).replace("[schemas]", "follow = true\n[schemas]")
        + &outputs(dir, "start")
        + &state(dir, "start", "1GB");
    let (summary, _) = run_job(&job, move |handle| {
        while handle.metrics.open_visits() < browsers && !handle.ended() {
            std::thread::sleep(Duration::from_millis(50));
        }
        std::thread::sleep(Duration::from_secs(2));
        handle.stop.store(true, Ordering::Relaxed);
    });
    println!("stopped with {} open visits", grouped(summary.visits[5]));
    let topic = Topic::open(dir.join("log"), "measurements").expect("the topic");
    let mut producer = Producer::open(&topic, WriterOptions::default()).expect("writers");
    let mut value = Vec::new();
    measurement(u64::MAX, 1, wall::now(), &mut value);
    producer
        .send(wall::now(), b"browser-0000000000000001", &[], &value)
        .expect("a write");
    producer.close().expect("a log");
    let began = Instant::now();
    run_job(&job, move |handle| {
        while handle.metrics.tagged.load(Ordering::Relaxed) == 0 && !handle.ended() {
            std::thread::sleep(Duration::from_millis(1));
        }
        println!(
            "{:.2} s to the first new tag",
            began.elapsed().as_secs_f64()
        );
        handle.stop.store(true, Ordering::Relaxed);
    });
}

/// A broker, for as long as it lives.
struct Broker {
    child: Child,
    bootstrap: String,
}

impl Broker {
    fn start(dir: &Path) -> Broker {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka");
        let mut child = Command::new(&script)
            .args(["start", "--foreground", "--dir"])
            .arg(dir)
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/kafka");
        let out = child.stdout.take().expect("asked for");
        let mut lines = BufReader::new(out).lines().map_while(Result::ok);
        let bootstrap = lines.find_map(|line| line.strip_prefix("bootstrap=").map(str::to_owned));
        let bootstrap = bootstrap.expect("a broker");
        let topic = Command::new(&script)
            .args(["topic", "--dir"])
            .arg(dir)
            .args(["measurements", "--partitions", "4"])
            .args(["--config", "message.timestamp.type=LogAppendTime"])
            .stdout(Stdio::null())
            .status();
        assert!(topic.expect("scripts/kafka").success());
        Broker { child, bootstrap }
    }

    fn producer(&self) -> BaseProducer {
        ClientConfig::new()
            .set("bootstrap.servers", &self.bootstrap)
            .set("linger.ms", "5")
            .set("compression.type", "lz4")
            .set("queue.buffering.max.messages", "500000")
            .create()
            .expect("a producer")
    }

    fn job(&self, dir: &Path, follow: bool) -> String {
        format!(
            "name = 'bench'\nworkers = 2\n[source]\nkafka = '{b}'\nfollow = {follow}\n[schemas]\nstore = '{s}'\n\
             [outputs]\nkafka = '{b}'\npartitions = 4\nfiles = '{f}'\n{st}",
            b = self.bootstrap,
            s = schemas(dir).display(),
            f = dir.join("tables").display(),
            st = state(dir, "kafka", "1GB").replace("1s", "10s"),
        )
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

fn send(producer: &BaseProducer, browser: u64, value: &[u8]) {
    let key = format!("browser-{browser:016x}");
    let partition = Shard::of(key.as_bytes()).partition(PARTITIONS) as i32;
    loop {
        let record = BaseRecord::<[u8], [u8]>::to("measurements")
            .partition(partition)
            .key(key.as_bytes())
            .payload(value);
        if producer.send(record).is_ok() {
            return;
        }
        producer.poll(Duration::from_millis(1));
    }
}

fn kafka(dir: &Path) {
    let broker = Broker::start(&dir.join("kafka"));
    let producer = broker.producer();
    let count = 3_000_000;
    let mut value = Vec::new();
    let mut bytes = 0;
    for number in 0..count {
        let browser = number * 7_919 % 200_000;
        measurement(number, browser, wall::now(), &mut value);
        bytes += value.len();
        send(&producer, browser, &value);
    }
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    let (summary, took) = run_job(&broker.job(dir, false), |_| ());
    println!(
        "{} measurements of {} bytes in {took:.1} s: {} a second ({} of them tagged)",
        grouped(count),
        bytes as u64 / count,
        grouped((count as f64 / took) as u64),
        grouped(
            summary
                .ledger
                .of(visitflow_dataflows::ledger::Entry::Tagged)
        )
    );
}

fn latency(dir: &Path) {
    let rate = 20_000_u64;
    let seconds = 30;
    let broker = Broker::start(&dir.join("kafka"));
    let text = broker.job(dir, true);
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let running = std::thread::spawn(move || {
        run_job(&text, move |handle| {
            while !stopped.load(Ordering::Relaxed) && !handle.ended() {
                std::thread::sleep(Duration::from_millis(20));
            }
            handle.stop.store(true, Ordering::Relaxed);
        })
    });
    let read = consume(
        broker.bootstrap.clone(),
        dir.join("kafka-state/schemas"),
        stop.clone(),
    );
    std::thread::sleep(Duration::from_secs(5));
    let producer = broker.producer();
    let began = wall::now();
    let mut value = Vec::new();
    for number in 0..rate * seconds {
        // When it was to be sent, whenever it is: nobody is spared who had to wait.
        let scheduled = began + (number * 1_000 / rate) as i64;
        while wall::now() < scheduled {
            producer.poll(Duration::ZERO);
            std::thread::sleep(Duration::from_micros(500));
        }
        measurement(number, number * 7_919 % 200_000, scheduled, &mut value);
        send(&producer, number * 7_919 % 200_000, &value);
    }
    while producer.in_flight_count() > 0 {
        producer.poll(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_secs(3));
    stop.store(true, Ordering::Relaxed);
    let mut seen = read.join().expect("a consumer");
    running.join().expect("a job");
    // The first seconds warm everything up.
    seen.retain(|(scheduled, _)| *scheduled >= began + 5_000);
    let mut times: Vec<i64> = seen
        .into_iter()
        .map(|(scheduled, at)| at - scheduled)
        .collect();
    times.sort_unstable();
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{} of {} seen; from the scheduled time to the committed tag: p50 {} ms, p90 {} ms, p99 {} ms, most {} ms",
        grouped(times.len() as u64),
        grouped(rate * (seconds - 5)),
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    );
}

/// Reads tags as they are committed: when each was to be sent, and when it was seen.
fn consume(
    bootstrap: String,
    schemas: PathBuf,
    stop: Arc<AtomicBool>,
) -> std::thread::JoinHandle<Vec<(i64, i64)>> {
    std::thread::spawn(move || {
        let consumer: BaseConsumer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("group.id", "bench")
            .set("isolation.level", "read_committed")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", "10")
            .set("topic.metadata.refresh.interval.ms", "500")
            .create()
            .expect("a consumer");
        consumer.subscribe(&["bench-tagged"]).expect("a topic");
        let mut walk: Option<(u64, Walk)> = None;
        let mut found = Found::default();
        let mut seen = Vec::new();
        while !stop.load(Ordering::Relaxed) {
            let Some(Ok(record)) = consumer.poll(Duration::from_millis(20)) else {
                continue;
            };
            let at = wall::now();
            let (fingerprint, body) =
                message::split(record.payload().expect("a message")).expect("a message");
            if walk.as_ref().is_none_or(|(known, _)| *known != fingerprint) {
                let store = FolderStore::open(&schemas).expect("a store");
                let schema = store.get(fingerprint).expect("a store").expect("a schema");
                let roles = Roles::find(&schema, &Overrides::default()).expect("roles");
                walk = Some((
                    fingerprint,
                    Walk::compile(&schema, &roles, None).expect("a walk"),
                ));
            }
            let (_, walk) = walk.as_ref().expect("compiled above");
            walk.run(body, &mut found).expect("a measurement");
            seen.push((found.event_time_ms().expect("a time"), at));
        }
        seen
    })
}
