//! Live and files together, as `examples/boundary` reads them while a job is at work: tables roll every
//! second, visits begin, are revised and end, and every answer must have each visit once. What comes is
//! a made shop's traffic, judged as it is appended, so that the right answer is known at the end.
//!
//! Where the Python packages cannot be had this says SKIPPED, and by what.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;
use visitflow::generate::{Judge, Limits, Scraper, Settings, Shop, Troubles, Truth, write_schemas};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::wall;

/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(240);
const PARTITIONS: u32 = 4;
/// How often each job is asked.
const ROUNDS: usize = 15;
/// How far behind its log time a record may become visible without being judged otherwise, in ms.
const MAX_LAG: i64 = 6_000;
/// So short that a visit of the first round is in a table before the last.
const LIMITS: Limits = Limits {
    inactivity: 2_000,
    max_length: 6_000,
    max_size: 30,
    max_delay: 3_000,
    max_ahead: 300_000,
    max_record: 1_000_000,
};

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python with the packages of the example, if they can be had.
fn python() -> Option<String> {
    let mut install = Command::new(root("scripts/python-readers"));
    let installed = install.arg(root("target/python")).output().unwrap();
    if !installed.status.success() {
        eprintln!(
            "SKIPPED: live and files are not read together: scripts/python-readers cannot install the readers:"
        );
        eprintln!("{}", String::from_utf8_lossy(&installed.stderr));
        return None;
    }
    Some(
        String::from_utf8(installed.stdout)
            .unwrap()
            .trim()
            .to_owned(),
    )
}

/// A shop that is open until it is told to close.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Truth>,
}

impl Traffic {
    fn open(log: &Path, seed: u64) -> Traffic {
        write_schemas(&log.join("schemas")).unwrap();
        let topic = Topic::create(log, "measurements", PARTITIONS).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        let settings = Settings {
            seed,
            events: Settings::ENDLESS,
            start: wall::now(),
            browsers: Some(3_000),
            nights: Some(false),
            scraper: Some(Scraper {
                after: 8_000,
                pages: 1_500,
                every: 15_000,
            }),
            schema_changes: Some([10_000, 20_000]),
            // Many come while their visit is still open, but not in order: those are revised.
            troubles: Troubles {
                slow: 100_000,
                reused: 100_000,
                ..Troubles::default()
            },
            limits: LIMITS,
            partitions: PARTITIONS,
            ..Settings::default()
        };
        let mut shop = Shop::new(settings.per_second(1_500)).unwrap();
        let mut judge = Judge::new(LIMITS, PARTITIONS);
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::SeqCst) {
                let now = wall::now();
                while shop.next_time().is_some_and(|time| time <= now) {
                    let Some(arrival) = shop.next() else { break };
                    // The log takes it now, however busy this machine is.
                    let (key, value) = (&arrival.key, &arrival.value);
                    judge.take(now, key, value, arrival.copied).unwrap();
                    producer.send(now, key, &[], value).unwrap();
                }
                producer.flush().unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            producer.close().unwrap();
            judge.finish().unwrap()
        });
        Traffic { stop, thread }
    }

    /// The right answer for all that came.
    fn close(self) -> Truth {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// A job that is served at a port of its own, and is killed when a test is over.
struct Job {
    dir: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Job {
    fn new(dir: &Path, workers: usize) -> Job {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let geoip = root("dataflows/tests/data/GeoIP2-Country-Test.mmdb");
        let text = format!(
            "name = 'shop'\nworkers = {workers}\n[source]\nlog = 'log'\nfollow = true\n\
             [time]\nmax_lag = '{MAX_LAG}ms'\n[enrich]\ngeoip = {geoip:?}\nrobots_over = 40\n\
             [visits]\ninactivity = '{}ms'\nmax_length = '{}ms'\nmax_size = {}\nmax_delay = '{}ms'\n\
             [outputs]\nfiles = 'tables'\nfile_age = '1s'\n[state]\ndir = 'state'\nsnapshots = '2s'\n\
             [serve]\naddress = '127.0.0.1:{port}'\ntimeout = '60s'\n",
            LIMITS.inactivity, LIMITS.max_length, LIMITS.max_size, LIMITS.max_delay,
        );
        fs::write(dir.join("job.toml"), text).unwrap();
        Job {
            dir: dir.into(),
            port,
            process: None,
        }
    }

    /// Starts it, and waits until a version can be held.
    fn start(&mut self, more: &[&str]) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command.args(["run", "job.toml"]).args(more);
        command.current_dir(&self.dir).stdin(Stdio::null());
        let told = fs::File::create(self.dir.join("told")).unwrap();
        command.stdout(Stdio::null()).stderr(told);
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.can_be_held() {
            let process = self.process.as_mut().unwrap();
            if let Some(status) = process.try_wait().unwrap() {
                let told = fs::read_to_string(self.dir.join("told")).unwrap();
                panic!("the job has ended, {status}: {told}");
            }
            assert!(began.elapsed() < EVER, "no version can be held");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn can_be_held(&self) -> bool {
        let Some((201, hold)) = self.ask("POST", "/boundary/holds") else {
            return false;
        };
        let hold: Value = serde_json::from_str(&hold).unwrap();
        let hold = format!("/boundary/holds/{}", hold["hold"].as_str().unwrap());
        self.ask("DELETE", &hold).is_some()
    }

    fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The status and the body of an answer, if anybody answers.
    fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(EVER)).unwrap();
        let host = format!("127.0.0.1:{}", self.port);
        let asked = format!("{method} {path} HTTP/1.0\r\nHost: {host}\r\n\r\n");
        stream.write_all(asked.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some((status, body.to_owned()))
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path).unwrap();
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A visit as it was read: all but its ID.
type Row = serde_json::Map<String, Value>;

/// What the example says of one moment.
struct Moment {
    version: u64,
    live: i64,
    visits: HashMap<String, Row>,
    measurements: u64,
}

impl Moment {
    /// Reads both sides, so many seconds apart. No visit may be there twice.
    fn read(python: &str, job: &Job, pause: u64) -> Moment {
        let mut command = Command::new(python);
        command.arg(root("examples/boundary/count_visits.py"));
        command.args(["--rows", "--job", &format!("http://127.0.0.1:{}", job.port)]);
        command.args(["--pause", &pause.to_string()]);
        let output = command.current_dir(&job.dir).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}{told}");
        assert_eq!(told, "", "a hold that is not over has not ended");
        let mut lines = said.lines();
        let of: Value = serde_json::from_str(lines.next().unwrap()).unwrap();
        assert!(of["live"].as_i64() > of["tick"].as_i64(), "{of}");
        let mut visits = HashMap::new();
        let mut measurements = 0;
        for line in lines {
            let mut row: Row = serde_json::from_str(line).unwrap();
            measurements += row["measurements"].as_u64().unwrap();
            let Some(Value::String(id)) = row.remove("visit_id") else {
                panic!("{line}")
            };
            let twice = visits.insert(id, row);
            assert!(twice.is_none(), "twice, as of {of}: {twice:?} and {line}");
        }
        Moment {
            version: of["version"].as_u64().unwrap(),
            live: of["live"].as_i64().unwrap(),
            visits,
            measurements,
        }
    }
}

/// What has been seen so far.
#[derive(Default)]
struct Seen {
    /// Each with all of its columns.
    ended: HashMap<String, Row>,
    measurements: u64,
    live: i64,
    versions: BTreeMap<u64, usize>,
}

impl Seen {
    /// Nothing is lost from one moment to the next, and what has ended stays as it is.
    fn then(&mut self, moment: &Moment) {
        assert!(moment.live >= self.live, "time goes on");
        assert!(
            moment.measurements >= self.measurements,
            "{} measurements in all visits, after {}",
            moment.measurements,
            self.measurements
        );
        for (id, before) in &self.ended {
            let now = moment.visits.get(id);
            assert_eq!(now, Some(before), "{id}, of version {}", moment.version);
        }
        let ended = moment.visits.iter();
        let ended = ended.filter(|(_, row)| !row["end_reason"].is_null());
        self.ended = ended.map(|(id, row)| (id.clone(), row.clone())).collect();
        self.measurements = moment.measurements;
        self.live = moment.live;
        *self.versions.entry(moment.version).or_default() += 1;
    }
}

/// Nobody but the truth is in there, and all of it.
fn is_the_truth(moment: &Moment, truth: &Truth) {
    assert_eq!(moment.visits.len(), truth.visits.len());
    assert_eq!(moment.measurements, truth.tagged);
    for visit in &truth.visits {
        let id = format!("{:032x}", u128::from_be_bytes(visit.visit_id));
        let Some(row) = moment.visits.get(&id) else {
            panic!("{visit:?} is missing")
        };
        let end = row["end_reason"].as_str();
        assert!(
            end.is_none_or(|end| end == visit.end_reason.word()),
            "{row:?}"
        );
        assert_eq!(row["browser_id"], *visit.browser_id, "{visit:?}");
        assert_eq!(row["started"], visit.started, "{visit:?}");
        assert_eq!(row["last_seen"], visit.last_seen, "{visit:?}");
        assert_eq!(row["measurements"], visit.measurements, "{visit:?}");
        assert_eq!(
            row["customer_id"].as_str(),
            visit.customer_id.as_deref(),
            "{visit:?}"
        );
    }
}

/// Closes the shop, waits until all is read, and compares.
fn ends_with_the_truth(python: &str, job: &Job, traffic: Traffic, mut seen: Seen) {
    let truth = traffic.close();
    // Behind this tick nobody has asked the log before it was closed.
    let closed = wall::now() + MAX_LAG;
    let began = Instant::now();
    let last = loop {
        let moment = Moment::read(python, job, 0);
        seen.then(&moment);
        if moment.live > closed {
            break moment;
        }
        assert!(began.elapsed() < EVER, "time stands at {}", moment.live);
    };
    is_the_truth(&last, &truth);
    let open = last.visits.len() - seen.ended.len();
    let reasons = ["inactivity", "length", "size"].map(|reason| {
        let ended = seen.ended.values();
        ended.filter(|row| row["end_reason"] == reason).count()
    });
    println!(
        "{} visits of {} measurements, {open} of them open, the others by {reasons:?}; versions {:?}",
        last.visits.len(),
        last.measurements,
        seen.versions
    );
    assert!(
        reasons.iter().all(|visits| *visits > 0),
        "every reason occurs"
    );
}

#[test]
fn every_visit_counts_once_while_files_roll_also_for_who_is_slow() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let traffic = Traffic::open(&dir.path().join("log"), 1);
    let mut job = Job::new(dir.path(), 1);
    job.start(&[]);
    let mut seen = Seen::default();
    // On a fast machine the rounds are over before the files have rolled often.
    for round in 0..10 * ROUNDS {
        if round >= ROUNDS && seen.versions.len() > 5 {
            break;
        }
        let pause = if round % 7 == 6 { 5 } else { 0 };
        let moment = Moment::read(&python, &job, pause);
        seen.then(&moment);
        if pause > 0 {
            let newest = job.get("/boundary")["table"]["visits"]["version"].as_u64();
            assert!(newest >= Some(moment.version + 3), "{newest:?}");
        }
    }
    assert!(seen.versions.len() > 5, "{:?}", seen.versions);
    let (_, metrics) = job.ask("GET", "/metrics").unwrap();
    let revised = metrics.lines().filter_map(|line| {
        let count = line.strip_prefix("visitflow_revisions_total ")?;
        count.parse::<f64>().ok()
    });
    assert!(revised.sum::<f64>() > 0.0, "visits are revised");

    let (_, hold) = job.ask("POST", "/boundary/holds").unwrap();
    let hold: Value = serde_json::from_str(&hold).unwrap();
    let hold = format!("/boundary/holds/{}", hold["hold"].as_str().unwrap());
    let live = format!("{hold}/visits");
    assert_eq!(job.ask("GET", &live).unwrap().0, 200);
    assert_eq!(job.ask("DELETE", &hold).unwrap().0, 204);
    assert_eq!(job.ask("GET", &live).unwrap().0, 410);

    ends_with_the_truth(&python, &job, traffic, seen);
}

#[test]
fn a_restart_of_two_workers_loses_nothing_of_what_is_live() {
    let Some(python) = python() else { return };
    let dir = tempfile::tempdir().unwrap();
    let traffic = Traffic::open(&dir.path().join("log"), 2);
    let mut job = Job::new(dir.path(), 2);
    job.start(&[]);
    let mut seen = Seen::default();
    // Their versions, and how many visits had ended.
    let mut rounds = |job: &Job, rounds: usize| {
        let mut moments = Vec::new();
        for _ in 0..rounds {
            let moment = Moment::read(&python, job, 0);
            seen.then(&moment);
            moments.push((moment.version, seen.ended.len()));
        }
        moments
    };
    rounds(&job, 6);

    // No version comes after this start, so that all that has ended since the last one is live.
    job.kill();
    job.start(&["--set", "outputs.file_age=1h"]);
    let held = rounds(&job, 6);
    let (version, ended) = held[0];
    assert!(held.iter().all(|moment| moment.0 == version), "{held:?}");
    assert!(held[5].1 > ended, "those that end stay live: {held:?}");

    job.kill();
    job.start(&[]);
    rounds(&job, ROUNDS - 12);
    ends_with_the_truth(&python, &job, traffic, seen);
}
