//! Profiles through the whole program, over HTTP and on the topic `lifecycle`: each customer's is what a
//! plain sum over the table of measurements says, and each customer of a visit is said once, also if the
//! job was killed on the way and has gone on with other workers.

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

/// What is summed of a customer: of each visit its orders.
type Sums = BTreeMap<String, BTreeMap<String, i64>>;

/// What a profile says of them.
fn json<'a>(visits: impl Iterator<Item = &'a BTreeMap<String, i64>> + Clone) -> Value {
    let orders = visits.clone().flat_map(BTreeMap::values);
    json!({
        "visits": visits.count(),
        "orders": orders.clone().count(),
        "revenue": orders.sum::<i64>(),
    })
}

fn text(row: &Value, field: &str) -> String {
    row[field].as_str().unwrap_or_default().to_owned()
}

/// The rows of measurements by visit. A visit's are in order, in one file.
fn by_visit(dir: &Path) -> BTreeMap<String, Vec<Value>> {
    let mut visits: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for row in rows(dir, "measurements") {
        visits.entry(text(&row, "visit_id")).or_default().push(row);
    }
    visits
}

/// Each customer by the table of measurements: whoever is named has what comes from there on in the
/// visit, until another is.
fn by_customer(visits: &BTreeMap<String, Vec<Value>>) -> BTreeMap<String, Sums> {
    let mut customers: BTreeMap<String, Sums> = BTreeMap::new();
    for (id, rows) in visits {
        let mut named = String::new();
        for row in rows {
            if !row["customer_id"].is_null() {
                named = text(row, "customer_id");
            }
            if named.is_empty() {
                continue;
            }
            let sums = customers.entry(named.clone()).or_default();
            let orders = sums.entry(id.clone()).or_default();
            if row["effect"] == "ordered" && row["entity"] == "order" {
                let value = row["value"].as_i64().unwrap_or(0);
                orders.entry(text(row, "entity_id")).or_insert(value);
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
    // Killed while it writes to topics; each time it begins again with another number of workers. How much
    // it writes at once, and so how often, depends on the machine.
    let mut said = Vec::new();
    for (workers, crash) in [(2, "topics-commit:12"), (3, "topics-commit:4")] {
        let mut job = Job::start(dir, workers, Some(crash));
        job.until_crash();
        let told = fs::read_to_string(dir.join("told")).unwrap();
        assert!(told.contains("crash: at"), "{told}");
        let is_named = |line: &Value| line["schema"] == "visitflow.CustomerNamed";
        said.push(
            lifecycle(dir, "results")
                .into_iter()
                .filter(is_named)
                .count(),
        );
    }
    let mut job = Job::start(dir, 1, None);
    job.until(dir, "all visits in the table", |_| {
        (rows(dir, "visits").len() == visits).then_some(())
    });
    let by_visit = by_visit(dir);
    let customers = by_customer(&by_visit);
    assert!(customers.len() > 20, "{} customers", customers.len());
    let ordered = customers
        .values()
        .filter(|sums| sums.values().any(|orders| !orders.is_empty()));
    assert!(ordered.count() > 3);
    for (customer, sums) in &customers {
        let expected = json(sums.values());
        let as_expected = |job: &Job| {
            let profile = job.profile(customer)?;
            let own = |field: &String| (field.clone(), profile[field].clone());
            let own: Value = expected.as_object().unwrap().keys().map(own).collect();
            (own == expected).then_some(())
        };
        job.until(dir, &format!("{customer}: {expected}"), as_expected);
    }
    assert_eq!(job.profile("nobody"), None);
    let all = each_customer_of_a_visit_is_said_once(dir, &by_visit, &customers);
    assert!(
        said.iter().all(|said| *said < all),
        "{said:?} of {all} were said before"
    );
}

/// What the topic `lifecycle` has, partition by partition, as the program shows it.
fn lifecycle(dir: &Path, results: &str) -> Vec<Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    command.args(["show", results, "--topic", "lifecycle"]);
    let shown = command.current_dir(dir).output().unwrap();
    assert!(shown.status.success(), "{shown:?}");
    let lines = String::from_utf8(shown.stdout).unwrap();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Each (visit, customer) of the table is said once, behind the visit's beginning, with the profile that
/// a sum over the visits says that were sealed before; and of others only those of visits that are none
/// any more.
fn each_customer_of_a_visit_is_said_once(
    dir: &Path,
    by_visit: &BTreeMap<String, Vec<Value>>,
    customers: &BTreeMap<String, Sums>,
) -> usize {
    let sealed = rows(dir, "visits");
    let sealed = sealed
        .iter()
        .map(|row| (text(row, "visit_id"), text(row, "sealed_tick")));
    let sealed: BTreeMap<String, String> = sealed.collect();
    let mut named: BTreeMap<(String, String), Vec<String>> = BTreeMap::new();
    for (visit, rows) in by_visit {
        let of_people = |row: &&Value| row["agent"] != "robot" && !row["customer_id"].is_null();
        for row in rows.iter().filter(of_people) {
            let times = named.entry((visit.clone(), text(row, "customer_id")));
            times.or_default().push(text(row, "event_time"));
        }
    }
    let mut begun = BTreeSet::new();
    let (mut said, mut known) = (BTreeSet::new(), 0);
    for line in lifecycle(dir, "results") {
        let value = &line["value"];
        let visit = text(value, "visit_id");
        match line["schema"].as_str().unwrap() {
            "visitflow.VisitStarted" => drop(begun.insert(visit)),
            "visitflow.VisitRevised" => drop(begun.insert(text(value, "into"))),
            "visitflow.CustomerNamed" => {
                assert!(begun.contains(&visit), "{line} stands before its visit");
                let (customer, as_of) = (text(value, "customer_id"), text(value, "as_of"));
                let before = |(visit, _): &(&String, _)| {
                    sealed[*visit].len() == as_of.len() && sealed[*visit] < as_of
                };
                let sums = customers.get(&customer).into_iter().flatten();
                let expected = json(sums.filter(before).map(|(_, orders)| orders));
                match &value["profile"] {
                    Value::Null => assert_eq!(expected["visits"], 0, "{line}"),
                    profile => {
                        known += 1;
                        for (field, expected) in expected.as_object().unwrap() {
                            assert_eq!(&profile[field], expected, "{field} of {line}");
                        }
                    }
                }
                let key = (visit, customer);
                match named.get(&key) {
                    Some(times) => assert!(times.contains(&text(value, "time")), "{line}"),
                    None => assert!(!sealed.contains_key(&key.0), "{line}: {key:?}"),
                }
                assert!(said.insert(key), "{line} is said twice");
            }
            _ => {}
        }
    }
    let missing: Vec<_> = named.keys().filter(|key| !said.contains(key)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(known > 20, "{known} of {} are known", said.len());
    said.len()
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
        let mut lines = lifecycle(dir, results);
        lines.retain(|line| line["schema"] == "visitflow.CustomerNamed");
        lines
    };
    let mut all = named("results");
    let forgotten = text(&all[0]["value"], "customer_id");
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
