//! Profiles through the whole program, over HTTP and on the topic `lifecycle`: each customer's is what a
//! plain sum over the table of measurements says, and each customer of a visit is said once, also if the
//! job was killed on the way and has gone on with other workers.

mod named;

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use named::{
    by_customer, by_visit, each_customer_of_a_visit_is_said_once, json, lifecycle, rows, shop, text,
};
use serde_json::Value;

/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(240);

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
    let visits = shop(&dir.join("log"), 120_000);
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
    let all = each_customer_of_a_visit_is_said_once(
        dir,
        &lifecycle(dir, "results"),
        &by_visit,
        &customers,
    );
    assert!(
        said.iter().all(|said| *said < all),
        "{said:?} of {all} were said before"
    );
}

#[test]
fn of_whoever_is_to_be_forgotten_nothing_is_sent() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    shop(&dir.join("log"), 120_000);
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
