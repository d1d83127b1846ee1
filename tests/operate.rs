//! How a running job is looked at and told things, as a user does it: `status`, `stop` and `journal`
//! on jobs that run, have stopped and were killed, in one process and in two; and its metrics, as
//! Prometheus reads them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::observe::metrics::{METRICS, as_markdown};
use visitflow::run::request::Request;
use visitflow::wall;
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::store::{FolderStore, SchemaStore};

const JOB: &str = "workers = 1\n[source]\nlog = 'log'\nfollow = true\n[outputs]\nlog = 'results'\nfiles = 'tables'\n\
                   file_age = '1s'\n[state]\ndir = 'state'\nsnapshots = '200ms'\n[serve]\naddress = '127.0.0.1:0'\n";
const RECORDS: u64 = 3_000;
/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(240);

/// A folder with a log of [`RECORDS`] in two partitions, and a job over it.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Place {
        let place = Place(tempfile::tempdir().unwrap());
        fs::write(place.path("job.toml"), JOB).unwrap();
        let events = RECORDS.to_string();
        let made = [
            "generate",
            "--log",
            "log",
            "--partitions",
            "2",
            "--events",
            &events,
        ];
        assert!(place.run(&made).status.success());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command
            .args(args)
            .current_dir(self.0.path())
            .stdin(Stdio::null());
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Starts the job, or a process of it.
    fn start(&self, args: &[&str]) -> Running {
        let mut command = self.command(&["run", "job.toml"]);
        command
            .args(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Running(Some(command.spawn().unwrap()))
    }

    /// Both processes of the job.
    fn start_two(&self) -> [Running; 2] {
        let hosts = free_hosts();
        let of = ["--of", "2", "--hosts", &hosts];
        ["0", "1"].map(|process| self.start(&[&["--process", process], &of[..]].concat()))
    }

    /// What `status` says, if it can say anything.
    fn status(&self) -> Option<Value> {
        let output = self.run(&["status", "job.toml", "--json"]);
        output
            .status
            .success()
            .then(|| serde_json::from_slice(&output.stdout).unwrap())
    }

    /// Waits until `status` says what is wanted.
    fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        let mut last = None;
        while began.elapsed() < EVER {
            last = self.status();
            if let Some(status) = last.clone().filter(&wanted) {
                return status;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("{what} did not come: {last:?}");
    }

    /// Waits until what is asked for at an address over HTTP is as wanted.
    fn until_says(address: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let answer = get(address, path);
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
            let body = answer.split_once("\r\n\r\n").unwrap().1;
            let said: Value = serde_json::from_str(body).unwrap();
            if wanted(&said) {
                return said;
            }
            assert!(
                began.elapsed() < EVER,
                "{path} of {address} stands at {said}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until all is read and committed by this start.
    fn until_read(&self, incarnation: u64) -> Value {
        self.until("all that is to be read", |status| {
            let tables = status["tables"].as_array().unwrap();
            status["incarnation"] == incarnation
                && status["state"] == "running"
                && is_read(status)
                && tables.len() == 2
                && tables.iter().all(|table| table["tick"].is_i64())
                && status["snapshot"]["at"].is_i64()
        })
    }
}

/// Whether a job has read all that there is in both partitions.
fn is_read(status: &Value) -> bool {
    let is_read = |p: &Value| p["unread"] == 0 && p["held_by"] == "wall";
    let partitions = status["partitions"].as_array().unwrap();
    partitions.len() == 2 && partitions.iter().all(is_read)
}

/// A process that is killed when a test is over.
struct Running(Option<Child>);

impl Running {
    fn end(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }

    fn kill(mut self) -> Output {
        let mut child = self.0.take().unwrap();
        child.kill().unwrap();
        child.wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[track_caller]
fn succeeds(output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{out}{err}");
    out
}

#[track_caller]
fn fails(output: &Output) -> String {
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{out}{err}");
    err
}

#[test]
fn status_adds_up_while_a_job_runs_and_says_that_it_was_stopped_when_it_was() {
    let place = Place::new();
    let running = place.start(&[]);
    let status = place.until_read(1);
    let of = |part: &str, name: &str| status[part][name].as_u64().unwrap();
    let record = |name| of("records", name);
    assert_eq!(record("read"), RECORDS);
    let fates = ["tagged", "late", "rejected", "repeated"].map(record);
    assert_eq!(fates.iter().sum::<u64>(), RECORDS, "{status}");
    assert!(fates[0] > 0 && of("visits", "begun") > 0, "{status}");
    let offsets = status["partitions"].as_array().unwrap().iter();
    let offsets: u64 = offsets.map(|p| p["offset"].as_u64().unwrap()).sum();
    assert_eq!(offsets, RECORDS);
    assert!(status["frontier"].as_i64() < status["now"].as_i64());
    let said = succeeds(&place.run(&["status", "job.toml"]));
    assert!(said.starts_with("job: running, start 1\n"), "{said}");

    let stopped = succeeds(&place.run(&["stop", "job.toml"]));
    assert!(
        stopped.starts_with("job: stopped; all before "),
        "{stopped}"
    );
    let output = running.end();
    let ended = succeeds(&output);
    assert!(
        ended.contains("stopped before the end of the input"),
        "{ended}"
    );
    let told = text(&output.stderr);
    assert!(told.contains("visitflow stop has asked for it"), "{told}");

    let status = place.status().unwrap();
    assert_eq!(status["state"], "stopped");
    assert_eq!(status["snapshot"]["tick"], status["frontier"]);
    let again = fails(&place.run(&["stop", "job.toml"]));
    assert!(again.contains("does not run: it has stopped at"), "{again}");
    let said = succeeds(&place.run(&["journal", "job.toml"]));
    assert!(
        said.contains(", where the job was stopped, by start 1"),
        "{said}"
    );
}

#[test]
fn a_request_stops_those_it_names_and_no_later_start() {
    let place = Place::new();
    let request = place.path("results/.status/job.stop");
    let running = place.start(&[]);
    let first = place.until_read(1);
    // Nobody waits, so it is not stopped in time; but it is asked.
    let late = fails(&place.run(&["stop", "job.toml", "--timeout", "0"]));
    assert!(late.contains("has not stopped within 0 ms"), "{late}");
    succeeds(&running.end());
    let left = Request::read(&request);
    assert_eq!(left.stop.len(), 1);

    let running = place.start(&[]);
    let second = place.until_read(2);
    assert!(second["processes"][0]["began"] != first["processes"][0]["began"]);
    assert!(
        !request.exists(),
        "the request for an earlier start is gone"
    );
    left.put(&request).unwrap();
    let asked = second["processes"][0]["at"].as_i64().unwrap();
    place.until("several words more", |status| {
        assert_eq!(status["state"], "running");
        status["processes"][0]["at"].as_i64().unwrap() > asked + 1_000
    });
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&running.end());
    assert!(!request.exists(), "who has asked takes the request away");
}

#[test]
fn a_job_that_is_killed_is_gone_and_the_next_start_goes_on() {
    let place = Place::new();
    let running = place.start(&[]);
    place.until_read(1);
    running.kill();
    let told = fails(&place.run(&["stop", "job.toml"]));
    assert!(told.contains("process 0 of the job job is gone"), "{told}");
    place.until("that it is gone", |status| status["state"] == "gone");
    let said = succeeds(&place.run(&["journal", "job.toml", "--entries"]));
    assert!(
        said.contains("start 1: ") && !said.contains("start 2: "),
        "{said}"
    );

    let running = place.start(&[]);
    let status = place.until_read(2);
    assert_eq!(status["processes"].as_array().unwrap().len(), 1);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&running.end());
}

/// Addresses that nobody listens at.
fn free_hosts() -> String {
    let free: Vec<_> = (0..2)
        .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
        .collect();
    let hosts = free.iter().map(|l| l.local_addr().unwrap().to_string());
    hosts.collect::<Vec<_>>().join(",")
}

/// Where each process is served, as `status` says.
fn addresses(status: &Value) -> Vec<&str> {
    let processes = status["processes"].as_array().unwrap().iter();
    processes.map(|p| p["address"].as_str().unwrap()).collect()
}

#[test]
fn both_processes_of_a_job_are_seen_and_stopped() {
    let place = Place::new();
    let both = place.start_two();
    let status = place.until_read(1);
    assert_eq!(status["records"]["read"], RECORDS);
    let partitions = status["partitions"].as_array().unwrap();
    let workers: Vec<_> = partitions.iter().map(|p| p["worker"].as_u64()).collect();
    assert_eq!(workers, [Some(0), Some(1)]);
    let addresses = addresses(&status);
    assert!(addresses.len() == 2 && addresses[0] != addresses[1]);
    let read = addresses
        .iter()
        .map(|address| scrape(address)["visitflow_read_records_total"]);
    assert_eq!(read.sum::<f64>(), RECORDS as f64);

    succeeds(&place.run(&["stop", "job.toml"]));
    for process in both {
        succeeds(&process.end());
    }
    let status = place.status().unwrap();
    let states: Vec<_> = status["processes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|p| &p["state"])
        .collect();
    assert_eq!(states, ["stopped", "stopped"]);

    // What lies behind the processes of a later start is not of it.
    let running = place.start(&[]);
    let status = place.until_read(2);
    assert_eq!(status["processes"].as_array().unwrap().len(), 1);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&running.end());
}

#[test]
fn each_process_says_how_far_all_of_them_have_come() {
    let place = Place::new();
    let both = place.start_two();
    let status = place.until_read(1);
    let addresses = addresses(&status);
    let mut reached = status["frontier"].as_u64().unwrap();
    for address in addresses.iter().cycle().take(6) {
        // What the one says is committed, the other knows of too, if perhaps a moment later.
        let progress = Place::until_says(address, "/progress", |progress| {
            progress["committed"].as_u64() >= Some(reached)
        });
        reached = progress["committed"].as_u64().unwrap();
        assert_eq!(progress["frontier"]["tick"], reached, "{progress}");
        let partitions = progress["partitions"].as_array().unwrap().iter();
        let partitions: Vec<_> = partitions
            .map(|p| [&p["partition"], &p["process"]].map(|n| n.as_u64().unwrap()))
            .collect();
        assert_eq!(partitions, [[0, 0], [1, 1]], "{progress}");
        assert_eq!(progress["counts"]["read"], RECORDS, "{progress}");
        let fates = ["tagged", "late", "rejected", "repeated"];
        for fate in fates {
            let of_all = &status["records"][fate];
            assert_eq!(&progress["counts"][fate], of_all, "{fate}: {progress}");
        }
    }
    succeeds(&place.run(&["stop", "job.toml"]));
    for process in both {
        succeeds(&process.end());
    }
}

/// Appends measurements of now to a log: two of each of so many browsers.
fn append_of_now(log: &Path, browsers: usize) {
    let store = FolderStore::open(log.join("schemas")).unwrap();
    store.put(&MEASUREMENT).unwrap();
    let topic = Topic::open(log, "measurements").unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let now = wall::now();
    for n in 0..2 * browsers {
        let browser = format!("now-{}", n % browsers);
        let mut event_id = [0xee; 16];
        event_id[8..].copy_from_slice(&n.to_be_bytes());
        let measurement = Measurement {
            event_id,
            browser_id: &browser,
            event_time: now,
            effect: "shown",
            entity: "page",
            ..Measurement::default()
        };
        let mut value = Vec::new();
        measurement.encode_message(&mut value);
        producer.send(now, browser.as_bytes(), &[], &value).unwrap();
    }
    producer.close().unwrap();
}

#[test]
fn each_process_answers_for_the_open_visits_of_both() {
    const BROWSERS: usize = 12;
    let place = Place::new();
    append_of_now(&place.path("log"), BROWSERS);
    let both = place.start_two();
    let status = place.until_read(1);
    let addresses = addresses(&status);
    let open = |said: &Value| -> BTreeMap<String, String> {
        let visits = said["visits"].as_array().unwrap().iter();
        let text = |visit: &Value, field: &str| visit[field].as_str().unwrap().to_owned();
        let own = visits.map(|visit| (text(visit, "browser_id"), text(visit, "visit_id")));
        own.filter(|(browser, _)| browser.starts_with("now-"))
            .collect()
    };
    let of_each = addresses.iter().map(|address| {
        let is_all = |said: &Value| open(said).len() == BROWSERS;
        open(&Place::until_says(address, "/visits?limit=100", is_all))
    });
    let of_each: Vec<_> = of_each.collect();
    assert_eq!(of_each[0], of_each[1]);
    for (browser, visit) in &of_each[0] {
        for address in &addresses {
            let of_browser = format!("/visits?browser={browser}");
            let said = Place::until_says(address, &of_browser, |_| true);
            assert_eq!(said["visits"][0]["visit_id"], **visit, "{said}");
            let whole = Place::until_says(address, &format!("/visits/{visit}"), |_| true);
            assert_eq!(whole["browser_id"], **browser, "{whole}");
            assert_eq!(whole["facts"].as_array().unwrap().len(), 2, "{whole}");
        }
    }
    succeeds(&place.run(&["stop", "job.toml"]));
    for process in both {
        succeeds(&process.end());
    }
}

/// A view of measurements in the last hour.
fn view_by(key: &str) -> String {
    format!("[[view]]\nname = 'by_{key}'\nkey = ['{key}']\nwindow = '1h'\nstep = '1s'\n")
}

#[test]
fn a_job_that_is_given_another_view_goes_on_with_the_one_that_it_had() {
    const BROWSERS: usize = 12;
    let place = Place::new();
    let views = |keys: &[&str]| keys.iter().map(|key| view_by(key)).collect::<String>();
    let counts = |address: &str, key: &str, count: usize| {
        let is_all = |said: &Value| said["rows"][0]["count"] == count;
        let path = format!("/views/by_{key}");
        Place::until_says(address, &path, is_all)
    };
    append_of_now(&place.path("log"), BROWSERS);
    fs::write(place.path("job.toml"), JOB.to_owned() + &views(&["effect"])).unwrap();
    let first = place.start(&[]);
    let status = place.until_read(1);
    counts(addresses(&status)[0], "effect", 2 * BROWSERS);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&first.end());

    let both = views(&["entity", "effect"]);
    fs::write(place.path("job.toml"), JOB.to_owned() + &both).unwrap();
    let second = place.start(&[]);
    let status = place.until_read(2);
    let address = addresses(&status)[0];
    let said = counts(address, "effect", 2 * BROWSERS);
    assert_eq!(said["rows"][0]["effect"], "shown", "{said}");
    let listed = Place::until_says(address, "/views", |_| true);
    let since = |n: usize| listed["views"][n]["since"].as_i64();
    assert_eq!(since(1), None, "{listed}");
    let new = since(0).expect("a time since when the new one counts");
    let rows = &listed["views"][0]["rows"];
    assert_eq!(*rows, 0, "nothing that was there before is in it");
    while wall::now() <= new {
        std::thread::sleep(Duration::from_millis(20));
    }
    append_of_now(&place.path("log"), BROWSERS);
    counts(address, "effect", 4 * BROWSERS);
    counts(address, "entity", 2 * BROWSERS);
    // A kill makes no view new, and none older.
    let counted = wall::now();
    place.until("a snapshot with all of it", |status| {
        status["snapshot"]["at"].as_i64() > Some(counted)
    });
    let said = text(&second.kill().stderr);
    let since = visitflow::why::time(new);
    let told = format!("view by_entity is new: it counts what is of {since} or later");
    assert!(said.contains(&told), "{said}");
    assert!(!said.contains("view by_effect"), "{said}");
    let third = place.start(&[]);
    let status = place.until_read(3);
    let address = addresses(&status)[0];
    counts(address, "effect", 4 * BROWSERS);
    counts(address, "entity", 2 * BROWSERS);
    let listed = Place::until_says(address, "/views", |_| true);
    assert_eq!(listed["views"][0]["since"], new, "{listed}");
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&third.end());

    // One that is taken away leaves the other as it was.
    fs::write(place.path("job.toml"), JOB.to_owned() + &views(&["entity"])).unwrap();
    let fourth = place.start(&[]);
    let status = place.until_read(4);
    counts(addresses(&status)[0], "entity", 2 * BROWSERS);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&fourth.end());
}

#[test]
fn views_are_refused_where_nothing_is_kept_of_the_visits_that_are_open() {
    let place = Place::new();
    append_of_now(&place.path("log"), 3);
    let job = "workers = 1\n[source]\nlog = 'log'\nfollow = true\n[outputs]\nlog = 'results'\n\
               [state]\ndir = 'state'\nsnapshots = '200ms'\n";
    let file = place.path("job.toml");
    fs::write(&file, job).unwrap();
    let first = place.start(&[]);
    place.until("all that is to be read", is_read);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&first.end());

    fs::write(&file, job.to_owned() + &view_by("effect")).unwrap();
    let told = fails(&place.start(&[]).end());
    let none = "has none of the measurements of the visits that are open";
    assert!(told.contains(none), "{told}");
    // It has taken nothing: as it was the job goes on.
    fs::write(&file, job).unwrap();
    let second = place.start(&[]);
    place.until("its next start", |status| status["incarnation"] == 2);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&second.end());
}

#[test]
fn a_second_start_of_a_job_with_profiles_goes_on_once_the_first_has_ended() {
    let place = Place::new();
    // Partitions of a log would be the first's as long as it runs.
    let job = JOB.replace("log = 'results'\n", "");
    fs::write(place.path("job.toml"), job + "[profiles]\nenabled = true\n").unwrap();
    let first = place.start(&[]);
    place.until_read(1);
    let second = place.start(&[]);
    let told = fails(&first.end());
    let by = "the job has been started again, as incarnation 2";
    assert!(told.contains(by), "{told}");
    place.until_read(2);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&second.end());
}

/// What is printed as JSON lines.
fn lines(place: &Place) -> Vec<Value> {
    let said = succeeds(&place.run(&["journal", "job.toml", "--entries", "--json"]));
    said.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn a_journal_is_printed_entry_by_entry_damaged_or_not() {
    let place = Place::new();
    // No snapshot, so that all entries stay.
    let running = place.start(&["--set", "state.snapshots=24h"]);
    place.until("all records", |status| status["records"]["read"] == RECORDS);
    let whole = place.until("entries", |_| {
        let all = lines(&place);
        let records = all.iter().filter_map(|line| line["records"].as_u64());
        records.sum::<u64>() == RECORDS
    });
    drop(whole);
    running.kill();
    let all = lines(&place);
    let kinds = |kind: &str| all.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!(
        [kinds("start"), kinds("manifest"), kinds("journal")],
        [1, 1, 1]
    );
    let entries: Vec<&Value> = all.iter().filter(|line| line["kind"] == "entry").collect();
    let counts = entries
        .iter()
        .flat_map(|e| e["partitions"].as_array().unwrap());
    let counts = counts.flat_map(|p| p["ticks"].as_array().unwrap());
    let counts: u64 = counts.map(|tick| tick[1].as_u64().unwrap()).sum();
    assert_eq!(counts, RECORDS);

    let folder = place.path("state/journal");
    let name = fs::read_dir(&folder)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    let bytes = fs::read(&name).unwrap();
    let place_of = |n: usize| entries[n]["at"].as_u64().unwrap();
    let problems = |bytes: &[u8]| -> Vec<Value> {
        fs::write(&name, bytes).unwrap();
        let all = lines(&place).into_iter();
        all.filter(|line| ["torn", "damaged"].contains(&line["kind"].as_str().unwrap()))
            .collect()
    };
    assert!(problems(&bytes).is_empty());
    let torn = problems(&bytes[..bytes.len() - 3]);
    let last = place_of(entries.len() - 1);
    assert_eq!((torn.len(), &torn[0]["kind"]), (1, &Value::from("torn")));
    assert_eq!(torn[0]["at"], last);
    let mut damaged = bytes.clone();
    damaged[place_of(1) as usize + 12] ^= 1;
    let damaged = problems(&damaged);
    assert_eq!(
        (damaged.len(), &damaged[0]["kind"]),
        (1, &Value::from("damaged"))
    );
    assert_eq!(damaged[0]["at"], place_of(1));
    assert_eq!(damaged[0]["bytes"], place_of(2) - place_of(1));
    let said = succeeds(&place.run(&["journal", "job.toml"]));
    assert!(
        said.contains("damaged: whole entries come behind it"),
        "{said}"
    );

    fs::write(&name, b"something else").unwrap();
    fs::write(place.path("state/claims/00000001.json"), b"{").unwrap();
    let said = succeeds(&place.run(&["journal", "job.toml"]));
    for part in [
        "start 1: claims/00000001.json, byte 0:",
        "has the format none",
    ] {
        assert!(said.contains(part), "{said}");
    }
}

/// Asks for a path over HTTP; the whole answer.
fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// The values that are served, by name and labels.
fn scrape(address: &str) -> BTreeMap<String, f64> {
    let answer = get(address, "/metrics");
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let body = answer.split_once("\r\n\r\n").unwrap().1;
    let values = body.lines().filter(|line| !line.starts_with('#'));
    let value = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    };
    values.map(value).collect()
}

#[test]
fn metrics_are_served_and_say_what_status_says() {
    let place = Place::new();
    let running = place.start(&[]);
    let status = place.until_read(1);
    let address = status["processes"][0]["address"].as_str().unwrap();
    assert!(get(address, "/healthz").ends_with("\r\n\r\nok\n"));
    let served = get(address, "/metrics");
    for metric in METRICS {
        let line = format!("\n# TYPE {} {}\n", metric.name, metric.kind);
        assert!(served.contains(&line), "{line}{served}");
    }
    let values = scrape(address);
    for (name, value) in [
        ("visitflow_incarnation", 1.0),
        ("visitflow_read_records_total", RECORDS as f64),
        ("visitflow_partition_lag_records{partition=\"0\"}", 0.0),
        ("visitflow_partition_lag_records{partition=\"1\"}", 0.0),
        ("visitflow_partition_held{partition=\"1\",by=\"wall\"}", 1.0),
        ("visitflow_budget_paused{worker=\"0\"}", 0.0),
        (
            "visitflow_build_info{name=\"job\",process=\"0\",version=\"0.1.0\"}",
            1.0,
        ),
    ] {
        assert_eq!(values.get(name), Some(&value), "{name}: {served}");
    }
    for fate in ["tagged", "late", "rejected", "repeated"] {
        let name = format!("visitflow_records_total{{fate=\"{fate}\"}}");
        assert_eq!(
            values.get(&name).copied(),
            status["records"][fate].as_f64(),
            "{name}"
        );
    }
    for name in [
        "visitflow_snapshots_total",
        "visitflow_snapshot_timestamp_seconds",
        "visitflow_frontier_timestamp_seconds",
        "visitflow_visits_begun_total",
        "visitflow_table_version{table=\"visits\"}",
        "visitflow_commits_total{sink=\"topics\"}",
        "visitflow_commits_total{sink=\"tables\"}",
    ] {
        assert!(
            values.get(name).is_some_and(|value| *value > 0.0),
            "{name}: {served}"
        );
    }
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&running.end());
    assert!(
        TcpStream::connect(address).is_err(),
        "nobody answers any more"
    );
}

#[test]
fn a_running_job_says_how_far_it_has_come_and_where_its_tables_are() {
    let place = Place::new();
    let running = place.start(&[]);
    let status = place.until_read(1);
    let address = status["processes"][0]["address"].as_str().unwrap();
    let body = |path: &str| {
        let answer = get(address, path);
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    };
    let json = |path: &str| -> Value { serde_json::from_str(&body(path)).unwrap() };
    let progress = json("/progress");
    assert_eq!(progress["counts"]["read"], RECORDS);
    assert_eq!(progress["partitions"].as_array().unwrap().len(), 2);
    assert_eq!(progress["partitions"][1]["lag"], 0);
    assert!(progress["committed"].as_i64() > progress["horizon"].as_i64());
    assert!(progress["frontier"]["held_by"].is_string(), "{progress}");
    let boundary = json("/boundary");
    assert_eq!(boundary["table"]["path"], "tables/identified");
    assert!(boundary["table"]["visits"]["version"].as_u64() > Some(0));
    assert!(boundary["tick"].as_u64() > Some(0), "{boundary}");
    assert!(body("/why").starts_with("job: running, as of "));
    assert!(body("/").starts_with("<!doctype html>"));
    assert_eq!(json("/views")["views"], Value::Array(Vec::new()));
    let visits = json("/visits?limit=2");
    assert!(visits["tick"].as_u64() > Some(0), "{visits}");
    assert!(visits["visits"].as_array().unwrap().len() <= 2);
    succeeds(&place.run(&["stop", "job.toml"]));
    succeeds(&running.end());
}

#[test]
fn an_address_that_cannot_be_had_is_an_error_at_the_start_which_names_the_setting() {
    let place = Place::new();
    fs::write(place.path("tokens"), "operations 0123456789abcdef\n").unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap();
    for (address, process, said) in [
        (&*taken.to_string(), "0", "Address already in use"),
        ("192.0.2.1:8080", "0", "annot assign requested address"),
        ("127.0.0.1:65535", "1", "no port is so high"),
    ] {
        let set = format!("serve.address={address}");
        let tokens = "serve.tokens=tokens";
        let mut args = vec!["run", "job.toml", "--set", &set, "--set", tokens];
        if process == "1" {
            args.extend([
                "--process",
                "1",
                "--of",
                "2",
                "--hosts",
                "127.0.0.1:1,127.0.0.1:2",
            ]);
        }
        let told = fails(&place.run(&args));
        assert!(
            told.contains(&format!("error: serve.address: {address}")),
            "{told}"
        );
        assert!(told.contains(said), "{told}");
    }
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_examples_name_only_metrics_that_are_served() {
    let word = |c: char| c == '_' || c.is_ascii_lowercase();
    for file in [
        "examples/grafana/visitflow.json",
        "examples/prometheus/alerts.yaml",
    ] {
        let text = fs::read_to_string(root(file)).unwrap();
        let named = text.split(|c: char| !word(c));
        let named: Vec<&str> = named
            .filter(|name| name.starts_with("visitflow_"))
            .collect();
        assert!(named.len() >= 5, "{file}");
        for name in named {
            assert!(
                METRICS.iter().any(|metric| metric.name == name),
                "{file}: {name}"
            );
        }
    }
    let dashboard = fs::read(root("examples/grafana/visitflow.json")).unwrap();
    let dashboard: Value = serde_json::from_slice(&dashboard).unwrap();
    let panels = dashboard["panels"].as_array().unwrap().iter();
    let rows: Vec<_> = panels
        .filter(|panel| panel["type"] == "row")
        .map(|row| row["title"].as_str().unwrap())
        .collect();
    assert_eq!(rows, ["Time", "Traffic", "Visits", "State", "Outputs"]);
}

#[test]
fn the_page_has_the_table_of_all_metrics() {
    let path = root("docs/recovery.md");
    let page = fs::read_to_string(&path).unwrap();
    let (before, rest) = page.split_once("<!-- metrics: ").unwrap();
    let (comment, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once("<!-- end of metrics -->").unwrap();
    let table = as_markdown();
    let right =
        format!("{before}<!-- metrics: {comment}-->\n{table}<!-- end of metrics -->{after}");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, right).unwrap();
    } else {
        assert!(
            page == right,
            "UPDATE_DOCS=1 cargo test --test operate writes it"
        );
    }
}
