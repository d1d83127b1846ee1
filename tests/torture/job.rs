//! The job under torture: its place, its processes, and what it says of itself.

use std::cell::Cell;
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::broker::Broker;
use crate::disk::Disk;
use crate::hanging::HeldBack;
use crate::lookups::{self, LookUp};
use crate::traffic::{LIMITS, MAX_LAG, PARTITIONS};
use crate::views::{NAMES, STEP, Served, VIEWS};

/// How long a process may take for anything.
const PATIENCE: Duration = Duration::from_secs(90);

/// Where everything lies.
pub struct Place {
    dir: PathBuf,
    keep: Cell<bool>,
    /// How many transactions hung.
    pub hanging: Cell<usize>,
    /// Whether the job keeps profiles.
    pub profiles: bool,
    /// The broker, with Kafka.
    pub broker: Option<Broker>,
    /// What the job writes to, where a disk of its own can be had.
    pub disk: Option<Disk>,
}

impl Place {
    /// Makes one; with Kafka, with a broker, and of an odd seed with the journal there.
    pub fn new(kafka: bool, seed: u64, keep: bool) -> Result<Place, String> {
        let dir = tempfile::tempdir().unwrap().keep();
        let broker = if kafka {
            let broker = Broker::start(&dir.join("kafka"))?;
            let partitions = PARTITIONS.to_string();
            broker.run(&[
                "topic",
                "measurements",
                "--partitions",
                &partitions,
                "--config",
                "message.timestamp.type=LogAppendTime",
                "--config",
                "max.message.bytes=2000000",
            ]);
            Some(broker)
        } else {
            None
        };
        let disk = Disk::mount(&dir.join("disk"));
        let disk = disk.inspect_err(|why| eprintln!("SKIPPED: torture: full disks: {why}"));
        let place = Place {
            dir,
            keep: Cell::new(keep),
            hanging: Cell::new(0),
            profiles: !seed.is_multiple_of(4),
            broker,
            disk: disk.ok(),
        };
        std::fs::write(place.path("job.toml"), place.job(seed % 2 == 1)).unwrap();
        if keep {
            eprintln!("torture: everything is kept in {}", place.dir.display());
        }
        Ok(place)
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where Kafka answers.
    pub fn bootstrap(&self) -> Option<&str> {
        self.broker.as_ref().map(|broker| &*broker.bootstrap)
    }

    fn job(&self, journal: bool) -> String {
        let path = |name: &str| self.path(name).display().to_string();
        let written = |name: &str| path(&format!("disk/{name}"));
        let (source, outputs, journal, kafka) = match self.bootstrap() {
            None => (
                format!("log = '{}'", path("log")),
                format!("log = '{}'", written("topics")),
                String::new(),
                "",
            ),
            Some(bootstrap) => (
                format!("kafka = '{bootstrap}'"),
                format!("kafka = '{bootstrap}'"),
                if journal {
                    format!("kafka = '{bootstrap}'\n")
                } else {
                    String::new()
                },
                "[kafka]\n'transaction.timeout.ms' = '6000'\n",
            ),
        };
        let (schemas, files, state) = (path("schemas"), written("files"), written("state"));
        format!(
            "name = 'shop'\n[source]\n{source}\nfollow = true\n[schemas]\nstore = '{schemas}'\n\
             [visits]\ninactivity = '{} ms'\nmax_length = '{} ms'\nmax_size = {}\nmax_delay = '{} ms'\n\
             [time]\nmax_lag = '{MAX_LAG} ms'\nmax_ahead = '{} ms'\n[limits]\nmax_record = {}\n\
             [outputs]\n{outputs}\npartitions = 4\nfiles = '{files}'\nfile_age = '2s'\n\
             [state]\ndir = '{state}'\n{journal}memory = '3MB'\nsnapshots = '700ms'\n\
             [profiles]\nenabled = {}\n{kafka}{VIEWS}",
            LIMITS.inactivity,
            LIMITS.max_length,
            LIMITS.max_size,
            LIMITS.max_delay,
            LIMITS.max_ahead,
            LIMITS.max_record,
            self.profiles,
        )
    }

    /// Says what processes have said, when something is wrong, and leaves everything where it is.
    pub fn tell(&self, running: &Running) {
        self.keep.set(true);
        for said in running.said() {
            eprintln!("torture: a process said:\n{said}");
        }
        eprintln!("torture: everything is in {}", self.dir.display());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.keep.get() || std::thread::panicking() {
            // Somebody wants to look at it.
            if let Some(disk) = self.disk.take() {
                std::mem::forget(disk);
            }
        } else {
            self.disk = None;
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// The processes of one start.
pub struct Running<'a> {
    place: &'a Place,
    held_back: HeldBack,
    looked: Instant,
    status: PathBuf,
    processes: Vec<(Child, PathBuf)>,
    since: Instant,
    before: u64,
}

fn free() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().to_string()
}

/// What the job says is committed.
fn committed(status: &Path) -> u64 {
    let text = std::fs::read(status).unwrap_or_default();
    let status: serde_json::Value = serde_json::from_slice(&text).unwrap_or_default();
    status["committed"].as_u64().unwrap_or(0)
}

impl<'a> Running<'a> {
    /// Starts it.
    pub fn start(
        place: &'a Place,
        workers: usize,
        processes: usize,
        crash: Option<&str>,
    ) -> Running<'a> {
        let each = workers.div_ceil(processes).min(4 / processes);
        Running::with(place, each, processes, crash, &[])
    }

    fn with(
        place: &'a Place,
        workers: usize,
        processes: usize,
        crash: Option<&str>,
        settings: &[&str],
    ) -> Running<'a> {
        let root = if place.bootstrap().is_some() {
            place.path("disk/files")
        } else {
            place.path("disk/topics")
        };
        let status = root.join(".status/shop-0.json");
        let before = committed(&status);
        let hosts: Vec<String> = (0..processes).map(|_| free()).collect();
        let mut all = Vec::new();
        for process in 0..processes {
            let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
            command.arg("run").arg(place.path("job.toml"));
            command.args(["--workers", &workers.to_string()]);
            for setting in settings {
                command.args(["--set", setting]);
            }
            if processes > 1 {
                let (process, of) = (process.to_string(), processes.to_string());
                command.args([
                    "--process",
                    &process,
                    "--of",
                    &of,
                    "--hosts",
                    &hosts.join(","),
                ]);
            }
            if let (Some(crash), true) = (crash, process == 0) {
                command.env("VISITFLOW_CRASH", crash);
            }
            let said = place.path(&format!("said-{process}-{}.txt", std::process::id()));
            let said = said.with_extension(format!("{}.txt", visitflow::wall::now()));
            let file = std::fs::File::create(&said).unwrap();
            command
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(file);
            all.push((command.spawn().unwrap(), said));
        }
        Running {
            place,
            held_back: HeldBack::default(),
            looked: Instant::now(),
            status,
            processes: all,
            since: Instant::now(),
            before,
        }
    }

    /// Waits until more is committed than before it was started, or it has died; how long that took.
    pub fn wait_for_progress(&mut self) -> Duration {
        while committed(&self.status) <= self.before
            && self.since.elapsed() < PATIENCE
            && !self.has_died()
        {
            self.end_what_hangs();
            std::thread::sleep(Duration::from_millis(10));
        }
        self.since.elapsed()
    }

    /// Waits until one of them has said this, or has died.
    pub fn wait_for_word(&mut self, word: &str) {
        while !self.said().iter().any(|said| said.contains(word))
            && self.since.elapsed() < PATIENCE
            && !self.has_died()
        {
            self.end_what_hangs();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the job says is committed.
    pub fn progress(&self) -> u64 {
        committed(&self.status)
    }

    /// Whether any process has ended.
    pub fn has_died(&mut self) -> bool {
        let ended = |(child, _): &mut (Child, PathBuf)| child.try_wait().unwrap().is_some();
        self.processes.iter_mut().any(ended)
    }

    /// Sends a signal to a process.
    pub fn signal(&self, process: usize, signal: Signal) {
        let child = &self.processes[process % self.processes.len()].0;
        let _ = kill_process(Pid::from_child(child), signal);
    }

    /// Sends a signal to all.
    pub fn signal_all(&self, signal: Signal) {
        (0..self.processes.len()).for_each(|process| self.signal(process, signal));
    }

    /// Waits until all have ended.
    ///
    /// # Errors
    /// One that does not end.
    pub fn wait(&mut self) -> Result<Vec<ExitStatus>, String> {
        let began = Instant::now();
        loop {
            let ended = |(child, _): &mut (Child, PathBuf)| child.try_wait().unwrap();
            let ended: Vec<_> = self.processes.iter_mut().filter_map(ended).collect();
            if ended.len() == self.processes.len() {
                return Ok(ended);
            }
            if began.elapsed() > PATIENCE {
                self.signal_all(Signal::KILL);
                return Err("a process has not ended".to_owned());
            }
            self.end_what_hangs();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends transactions that a broker has forgotten to end; whether there were any.
    pub fn end_what_hangs(&mut self) -> bool {
        let Some(broker) = &self.place.broker else {
            return false;
        };
        if self.looked.elapsed() < Duration::from_secs(1) {
            return false;
        }
        self.looked = Instant::now();
        let hung = self.held_back.end(broker, &self.said());
        self.place.hanging.set(self.place.hanging.get() + hung);
        hung > 0
    }

    /// What they have said on standard error.
    pub fn said(&self) -> Vec<String> {
        let read = |(_, said): &(Child, PathBuf)| {
            let mut text = String::new();
            let file = std::fs::File::open(said);
            let _ = file.and_then(|mut file| file.read_to_string(&mut text));
            text
        };
        self.processes.iter().map(read).collect()
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.signal_all(Signal::CONT);
        self.signal_all(Signal::KILL);
        for (child, said) in &mut self.processes {
            let _ = child.wait();
            let _ = std::fs::remove_file(said);
        }
    }
}

/// The status and the JSON of the answer to a question, if there is one.
fn ask(address: &str, path: &str) -> Option<(u16, serde_json::Value)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let asked = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n");
    stream.write_all(asked.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

/// Asks until something is made of the answer.
fn until<T>(
    running: &mut Running,
    address: &str,
    path: &str,
    wanted: impl Fn(u16, serde_json::Value) -> Option<T>,
) -> Result<T, String> {
    loop {
        let answer = ask(address, path);
        if let Some(found) = answer.and_then(|(status, said)| wanted(status, said)) {
            return Ok(found);
        }
        if running.has_died() || running.since.elapsed() > PATIENCE {
            let said = running.said().join("\n");
            return Err(format!("{path} is not served: {said}"));
        }
        running.end_what_hangs();
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Runs the job until all that has come before this moment is in its views, and gives those, and
/// what is known then of the customers who were named.
///
/// # Errors
/// It fails, or does not come so far.
pub fn served_of_all(place: &Place) -> Result<(Served, Vec<LookUp>), String> {
    let least = (visitflow::wall::now() + MAX_LAG) as u64;
    let tick = (least + 1).next_multiple_of(STEP);
    let address = free();
    let setting = format!("serve.address={address}");
    let mut running = Running::with(place, 2, 1, None, &[&setting, "serve.rows=1000000"]);
    let mut views = HashMap::new();
    for name in NAMES {
        let path = format!("/views/{name}?tick={tick}");
        let is_there = |status, view| (status == 200).then_some(view);
        let view = until(&mut running, &address, &path, is_there)?;
        views.insert(name.to_owned(), view);
    }
    let mut known = Vec::new();
    for customer in lookups::customers(place) {
        let path = format!("/profiles/{customer}");
        let found = until(&mut running, &address, &path, |status, said| {
            let customer = customer.clone();
            match status {
                200 => {
                    let sum = |field: &str| said["profile"][field].as_i64();
                    Some(LookUp {
                        customer,
                        tick: said["tick"].as_u64()?,
                        sums: [sum("visits")?, sum("orders")?, sum("revenue")?],
                    })
                }
                // "nothing is known of this customer at" the tick.
                404 => Some(LookUp {
                    customer,
                    tick: said["detail"].as_str()?.rsplit(' ').next()?.parse().ok()?,
                    sums: [0; 3],
                }),
                _ => None,
            }
        })?;
        known.push(found);
    }
    running.signal(0, Signal::TERM);
    if running.wait()?.iter().all(ExitStatus::success) {
        return Ok((Served { tick, views }, known));
    }
    Err(running.said().join("\n"))
}

/// Runs the job to the end of its input, which ends every visit.
///
/// # Errors
/// It fails, or does not end.
pub fn run_to_end(place: &Place) -> Result<(), String> {
    let mut running = Running::with(place, 2, 1, None, &["source.follow=false"]);
    let ended = running.wait()?;
    if ended.iter().all(ExitStatus::success) {
        return Ok(());
    }
    Err(running.said().join("\n"))
}
