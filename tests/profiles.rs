//! Profiles through the whole program, over HTTP and on the topic `lifecycle`: each customer's is what a
//! plain sum over the table of measurements says, and each customer of a visit is said once, also if the
//! job was killed on the way and has gone on with other workers.

mod named;
#[path = "whole/outputs.rs"]
#[allow(dead_code)]
mod outputs;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use named::Customers;
use outputs::{Said, tables, topic};
use serde_json::{Value, json};
use visitflow::generate::{self, Settings};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::table::Table;
use visitflow_schemas::records::Lifecycle;

/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(240);

/// A log of a shop's half day, and how many visits there are in it.
fn shop(log: &Path) -> usize {
    let topic = Topic::create(log, "measurements", 4).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let settings = Settings {
        events: 120_000,
        seed: 5,
        ..Settings::default()
    };
    let options = generate::Options {
        settings: settings.per_second(3),
        schemas: Some(log.join("schemas")),
        ..Default::default()
    };
    let truth = generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
    producer.close().unwrap();
    truth.visits.len()
}

/// The job, which is served, and killed when the test is over.
struct Job {
    port: u16,
    process: Child,
}

impl Job {
    /// Starts it; it dies at the point `crash`, if there is one.
    fn start(dir: &Path, workers: usize, crash: Option<&str>) -> Job {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = format!(
            "workers = {workers}\n[source]\nlog = 'log'\nfollow = true\n\
             [outputs]\nfiles = 'tables'\nfile_age = '1s'\nfile_size = '10kB'\nlog = 'results'\npartitions = 4\n[state]\ndir = 'state'\nsnapshots = '100ms'\n\
             [profiles]\nenabled = true\nretention = '3660d'\n[serve]\naddress = '127.0.0.1:{port}'\n",
        );
        fs::write(dir.join("job.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command.args(["run", "job.toml"]).current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.envs(crash.map(|crash| ("VISITFLOW_CRASH", crash)));
        let told = fs::File::create(dir.join("told")).unwrap();
        let process = command.stderr(told).spawn().unwrap();
        Job { port, process }
    }

    /// A customer's profile, if anybody answers and knows of one.
    fn profile(&self, customer: &str) -> Option<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(EVER)).unwrap();
        let asked = format!(
            "GET /profiles/{customer} HTTP/1.0\r\nHost: 127.0.0.1:{}\r\n\r\n",
            self.port
        );
        stream.write_all(asked.as_bytes()).ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let (head, body) = text.split_once("\r\n\r\n")?;
        match head.split(' ').nth(1)? {
            "200" => Some(serde_json::from_str::<Value>(body).unwrap()["profile"].take()),
            "404" | "503" => None,
            _ => panic!("{text}"),
        }
    }

    /// Waits until what is asked for is there.
    fn until<T>(&mut self, dir: &Path, what: &str, ask: impl Fn(&Job) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            if let Some(found) = ask(self) {
                return found;
            }
            if let Some(status) = self.process.try_wait().unwrap() {
                let told = fs::read_to_string(dir.join("told")).unwrap();
                panic!("the job has ended, {status}: {told}");
            }
            assert!(began.elapsed() < EVER, "never: {what}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Job {
    /// Waits until it has died where it was to.
    fn until_crash(&mut self) {
        let began = Instant::now();
        while self.process.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < EVER, "it does not die");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn each_customer_s_profile_is_a_plain_sum_over_the_table_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let visits = shop(&dir.join("log"));
    // Killed while it writes to topics, and when a snapshot counts, with which the last goes on; each time
    // it begins again with another number of workers. How much it writes at once, and so how often, depends
    // on the machine.
    let mut said = Vec::new();
    let kills = [
        (2, "topics-commit:12"),
        (3, "topics-commit:4"),
        (2, "manifest-put:1"),
    ];
    for (workers, crash) in kills {
        let mut job = Job::start(dir, workers, Some(crash));
        job.until_crash();
        let told = fs::read_to_string(dir.join("told")).unwrap();
        assert!(told.contains("crash: at"), "{told}");
        said.push(lifecycle(dir).filter(is_named).count());
    }
    let mut job = Job::start(dir, 1, None);
    job.until(dir, "all visits in the table", |_| {
        (sealed(dir) == visits).then_some(())
    });
    let tables = tables(&dir.join("tables"));
    let customers = Customers::of(&tables);
    let (mut all, mut ordered) = (0, 0);
    for customer in customers.all() {
        let [visits, orders, revenue] = customers.sums(customer, i64::MAX);
        let expected = json!({"visits": visits, "orders": orders, "revenue": revenue});
        let as_expected = |job: &Job| {
            let profile = job.profile(customer)?;
            let own = |field: &String| (field.clone(), profile[field].clone());
            let own: Value = expected.as_object().unwrap().keys().map(own).collect();
            (own == expected).then_some(())
        };
        job.until(dir, &format!("{customer}: {expected}"), as_expected);
        (all, ordered) = (all + 1, ordered + usize::from(orders > 0));
    }
    assert!(all > 20 && ordered > 3, "{all}, {ordered}");
    assert_eq!(job.profile("nobody"), None);
    let told = customers.hold(lifecycle(dir).map(|said| said.value));
    assert!(
        told.known > 20,
        "{} of {} are known",
        told.known,
        told.named
    );
    assert!(
        said[..2].iter().all(|said| *said < told.named),
        "{said:?} of {} were said before",
        told.named
    );
}

/// How many visits are in the table.
fn sealed(dir: &Path) -> usize {
    Table::open(&dir.join("tables/identified/visits")).map_or(0, |table| {
        table.read().map(|batch| batch.unwrap().num_rows()).sum()
    })
}

/// What the topic `lifecycle` has, partition by partition.
fn lifecycle(dir: &Path) -> impl Iterator<Item = Said> {
    topic(&dir.join("results"), "lifecycle").into_iter()
}

fn is_named(said: &Said) -> bool {
    let message = Lifecycle::decode_message(&said.value);
    matches!(message, Ok(Lifecycle::Named(_)))
}

#[test]
fn of_whoever_is_to_be_forgotten_nothing_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shop(&dir.join("log"));
    fs::write(dir.join("forgotten"), "").unwrap();
    let named = |results: &str| {
        let text = format!(
            "workers = 2\n[source]\nlog = 'log'\n[outputs]\nlog = '{results}'\n[profiles]\nenabled = true\nforgotten = 'forgotten'\n",
        );
        fs::write(dir.join("job.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        let ran = command.args(["run", "job.toml"]).current_dir(dir).output();
        let ran = ran.unwrap();
        assert!(ran.status.success(), "{ran:?}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command.args(["show", results, "--topic", "lifecycle"]);
        let shown = command.current_dir(dir).output().unwrap();
        assert!(shown.status.success(), "{shown:?}");
        let shown = String::from_utf8(shown.stdout).unwrap();
        let lines = shown
            .lines()
            .map(|line| serde_json::from_str(line).unwrap());
        let is_named = |line: &Value| line["schema"] == "visitflow.CustomerNamed";
        lines.filter(is_named).collect::<Vec<_>>()
    };
    let mut all = named("results");
    let forgotten = all[0]["value"]["customer_id"].as_str().unwrap().to_owned();
    fs::write(dir.join("forgotten"), format!("{forgotten}\r\n")).unwrap();
    let rest = named("others");
    all.retain(|line| line["value"]["customer_id"] != forgotten);
    assert!(!rest.is_empty());
    let values = |lines: &[Value]| {
        let values = lines.iter().map(|line| line["value"].clone());
        values.collect::<Vec<_>>()
    };
    assert_eq!(values(&rest), values(&all));
}
