//! Profiles through the whole program, over HTTP: each customer's is what a plain sum over the table of
//! measurements says, also if the job was killed on the way and has gone on with other workers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use visitflow::generate::{self, Settings};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::table::{Table, to_json_lines};

/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(240);

/// A log of a shop's day, and how many visits there are in it.
fn shop(log: &Path) -> usize {
    let topic = Topic::create(log, "measurements", 4).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let settings = Settings {
        events: 40_000,
        seed: 5,
        ..Settings::default()
    };
    let options = generate::Options {
        settings: settings.per_second(50),
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
    fn start(dir: &Path, workers: usize) -> Job {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let text = format!(
            "workers = {workers}\n[source]\nlog = 'log'\nfollow = true\n\
             [outputs]\nfiles = 'tables'\nfile_age = '1s'\n[state]\ndir = 'state'\nsnapshots = '1s'\n\
             [profiles]\nenabled = true\nretention = '3660d'\n[serve]\naddress = '127.0.0.1:{port}'\n",
        );
        fs::write(dir.join("job.toml"), text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command.args(["run", "job.toml"]).current_dir(dir);
        command.stdin(Stdio::null()).stdout(Stdio::null());
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

impl Drop for Job {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The rows of a table.
fn rows(dir: &Path, table: &str) -> Vec<Value> {
    let Ok(table) = Table::open(&dir.join("tables/identified").join(table)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    for batch in table.read() {
        to_json_lines(&batch.unwrap(), &mut lines).unwrap();
    }
    let lines = String::from_utf8(lines).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// What is summed of a customer.
#[derive(Debug, Default)]
struct Sums {
    visits: BTreeSet<String>,
    orders: BTreeMap<(String, String), i64>,
}

impl Sums {
    fn json(&self) -> Value {
        json!({
            "visits": self.visits.len(),
            "orders": self.orders.len(),
            "revenue": self.orders.values().sum::<i64>(),
        })
    }
}

/// Each customer by the table of measurements: whoever is named has what comes from there on in the
/// visit, until another is.
fn by_customer(dir: &Path) -> BTreeMap<String, Sums> {
    let mut visits: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows(dir, "measurements") {
        let id = row["visit_id"].as_str().unwrap().to_owned();
        visits.entry(id).or_default().push(row);
    }
    let mut customers: BTreeMap<String, Sums> = BTreeMap::new();
    // A visit's rows are in order, in one file.
    for (id, rows) in visits {
        let text = |row: &Value, field: &str| row[field].as_str().unwrap_or_default().to_owned();
        let mut named = String::new();
        for row in rows {
            if !row["customer_id"].is_null() {
                named = text(&row, "customer_id");
            }
            if named.is_empty() {
                continue;
            }
            let sums = customers.entry(named.clone()).or_default();
            sums.visits.insert(id.clone());
            if row["effect"] == "ordered" && row["entity"] == "order" {
                let order = (id.clone(), text(&row, "entity_id"));
                sums.orders
                    .entry(order)
                    .or_insert(row["value"].as_i64().unwrap_or(0));
            }
        }
    }
    customers
}

#[test]
fn each_customer_s_profile_is_a_plain_sum_over_the_table_also_after_a_crash() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let visits = shop(&dir.join("log"));
    // Killed as soon as some of it is in a table, and begun again with another number of workers.
    for workers in [2, 3] {
        let mut job = Job::start(dir, workers);
        let some = |_: &Job| (!rows(dir, "visits").is_empty()).then_some(());
        job.until(dir, "a visit in the table", some);
    }
    let mut job = Job::start(dir, 1);
    job.until(dir, "all visits in the table", |_| {
        (rows(dir, "visits").len() == visits).then_some(())
    });
    let expected = by_customer(dir);
    assert!(expected.len() > 20, "{} customers", expected.len());
    let ordered = expected.values().filter(|sums| !sums.orders.is_empty());
    assert!(ordered.count() > 3);
    for (customer, sums) in expected {
        let expected = sums.json();
        let as_expected = |job: &Job| {
            let profile = job.profile(&customer)?;
            let own = |field: &String| (field.clone(), profile[field].clone());
            let own: Value = expected.as_object().unwrap().keys().map(own).collect();
            (own == expected).then_some(())
        };
        job.until(dir, &format!("{customer}: {expected}"), as_expected);
    }
    assert_eq!(job.profile("nobody"), None);
}
