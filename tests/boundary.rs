//! Live and files together, as `examples/boundary` reads them while a job is at work: tables roll every
//! second, visits begin, are revised and end, and every answer must have each visit once. What comes is
//! a made shop's traffic, judged as it is appended, so that the right answer is known at the end.
//!
//! Where the Python packages cannot be had this says SKIPPED, and by what.

mod served;

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::time::Instant;

use serde_json::Value;
use served::{EVER, Job, LIMITS, MAX_LAG, Traffic, python, root};
use visitflow::generate::Truth;
use visitflow::wall;

/// How often each job is asked.
const ROUNDS: usize = 15;

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

/// The newest version of the table of visits.
fn newest(job: &Job) -> u64 {
    let (_, boundary) = job.ask("GET", "/boundary").unwrap();
    let boundary: Value = serde_json::from_str(&boundary).unwrap();
    boundary["table"]["visits"]["version"].as_u64().unwrap()
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
    let Some(python) = python("live and files are not read together") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let traffic = Traffic::open(&dir.path().join("log"), 1, LIMITS);
    let mut job = Job::new(dir.path(), 1, LIMITS, "");
    job.start(&[]);
    let mut seen = Seen::default();
    // Until the files have rolled often, and three times while one who asked was slow: how soon they do
    // depends on the machine.
    let mut overtaken = 0;
    let mut pause = 5;
    let began = Instant::now();
    for round in 0.. {
        if round >= ROUNDS && seen.versions.len() > 5 && overtaken > 0 {
            break;
        }
        assert!(began.elapsed() < EVER, "{:?}, {overtaken}", seen.versions);
        if round % 7 != 6 {
            seen.then(&Moment::read(&python, &job, 0));
            continue;
        }
        let moment = Moment::read(&python, &job, pause);
        seen.then(&moment);
        if newest(&job) >= moment.version + 3 {
            overtaken += 1;
        } else {
            pause *= 2;
        }
    }
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
    let Some(python) = python("live and files are not read together") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let traffic = Traffic::open(&dir.path().join("log"), 2, LIMITS);
    let mut job = Job::new(dir.path(), 2, LIMITS, "");
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
    let began = Instant::now();
    let mut held = rounds(&job, 6);
    let (version, ended) = held[0];
    while held[held.len() - 1].1 == ended {
        assert!(began.elapsed() < EVER, "those that end stay live: {held:?}");
        held.extend(rounds(&job, 1));
    }
    assert!(held.iter().all(|moment| moment.0 == version), "{held:?}");

    job.kill();
    job.start(&[]);
    rounds(&job, ROUNDS - 12);
    ends_with_the_truth(&python, &job, traffic, seen);
}
