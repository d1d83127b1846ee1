//! A job that is at work and served over HTTP, for tests that read it together with its tables: a made
//! shop's traffic, judged as it is appended, and the Python that asks DuckDB.

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
pub const EVER: Duration = Duration::from_secs(240);
const PARTITIONS: u32 = 4;
/// So long had the shop been open when its traffic begins, in ms: people are about to order.
const OPEN_FOR: i64 = 240_000;
/// How far behind its log time a record may become visible without being judged otherwise, in ms.
pub const MAX_LAG: i64 = 6_000;
/// So short that a visit of the first round is in a table before the last.
pub const LIMITS: Limits = Limits {
    inactivity: 2_000,
    max_length: 6_000,
    max_size: 30,
    max_delay: 3_000,
    max_ahead: 300_000,
    max_record: 1_000_000,
};

pub fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The Python with the packages of the examples, if they can be had; else says that this is skipped.
pub fn python(what: &str) -> Option<String> {
    let mut install = Command::new(root("scripts/python-readers"));
    let installed = install.arg(root("target/python")).output().unwrap();
    if !installed.status.success() {
        eprintln!("SKIPPED: {what}: scripts/python-readers cannot install the readers:");
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
pub struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Truth>,
}

impl Traffic {
    pub fn open(log: &Path, seed: u64, limits: Limits) -> Traffic {
        write_schemas(&log.join("schemas")).unwrap();
        let topic = Topic::create(log, "measurements", PARTITIONS).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        let settings = Settings {
            seed,
            events: Settings::ENDLESS,
            start: wall::now() - OPEN_FOR,
            browsers: Some(3_000),
            nights: Some(false),
            scraper: Some(Scraper {
                after: OPEN_FOR + 8_000,
                pages: 1_500,
                every: 15_000,
            }),
            schema_changes: Some([OPEN_FOR + 10_000, OPEN_FOR + 20_000]),
            // Many come while their visit is still open, but not in order: those are revised.
            troubles: Troubles {
                slow: 100_000,
                reused: 100_000,
                ..Troubles::default()
            },
            limits,
            partitions: PARTITIONS,
            ..Settings::default()
        };
        let mut shop = Shop::new(settings.per_second(1_500)).unwrap();
        let mut judge = Judge::new(limits, PARTITIONS);
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            while shop.next_time().is_some_and(|time| time <= wall::now()) {
                shop.next();
            }
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
    pub fn close(self) -> Truth {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().unwrap()
    }
}

/// A job that is served at a port of its own, and is killed when a test is over.
pub struct Job {
    pub dir: PathBuf,
    pub port: u16,
    process: Option<Child>,
}

impl Job {
    /// By these limits, with more in its file.
    pub fn new(dir: &Path, workers: usize, limits: Limits, more: &str) -> Job {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        let geoip = root("dataflows/tests/data/GeoIP2-Country-Test.mmdb");
        let text = format!(
            "name = 'shop'\nworkers = {workers}\n[source]\nlog = 'log'\nfollow = true\n\
             [time]\nmax_lag = '{MAX_LAG}ms'\nmax_ahead = '{}ms'\n[enrich]\ngeoip = {geoip:?}\nrobots_over = 40\n\
             [visits]\ninactivity = '{}ms'\nmax_length = '{}ms'\nmax_size = {}\nmax_delay = '{}ms'\n\
             [outputs]\nfiles = 'tables'\nfile_age = '1s'\n[state]\ndir = 'state'\nsnapshots = '2s'\n\
             [serve]\naddress = '127.0.0.1:{port}'\ntimeout = '60s'\n{more}",
            limits.max_ahead,
            limits.inactivity,
            limits.max_length,
            limits.max_size,
            limits.max_delay,
        );
        fs::write(dir.join("job.toml"), text).unwrap();
        Job {
            dir: dir.into(),
            port,
            process: None,
        }
    }

    /// Starts it, and waits until a version can be held.
    pub fn start(&mut self, more: &[&str]) {
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

    pub fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// The status and the body of an answer, if anybody answers.
    pub fn ask(&self, method: &str, path: &str) -> Option<(u16, String)> {
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
}

impl Drop for Job {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}
