//! What a running job says of itself: into a file beside its outputs, for `visitflow why` and
//! `visitflow status`, and, if the job asks for it, each move of the frontier into a log. The same
//! thread hears whether the job is asked to stop.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use visitflow_dataflows::visit::Rules;

use super::request::{self, Request};
use super::{Handle, RunError};
use crate::job::Job;
use crate::source::Hold;
use crate::wall;

/// How often the file is written.
const EVERY: Duration = Duration::from_millis(1_000);
/// How often it is written while the frontier moves.
const MOVING: Duration = Duration::from_millis(250);
/// How often the frontier is looked at, and whether the job is asked to stop.
const LOOK: Duration = Duration::from_millis(50);

/// What a process of a job says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The job's name.
    pub job: String,
    /// The process, from 0.
    pub process: usize,
    /// `running`, `ended`, `stopped` or `failed`.
    pub state: String,
    /// When this was written, wall time in ms.
    pub at: i64,
    /// How many processes the job has; 0 if nobody has said so.
    #[serde(default)]
    pub processes: usize,
    /// The incarnation; 0 for a job that cannot go on where it was.
    #[serde(default)]
    pub incarnation: u64,
    /// What no other start of any process has for a name.
    #[serde(default)]
    pub start: String,
    /// When it started, wall time in ms.
    #[serde(default)]
    pub began: i64,
    /// What went wrong, if it has failed.
    #[serde(default)]
    pub error: Option<String>,
    /// Where it is served, if it is.
    #[serde(default)]
    pub address: Option<String>,
    /// `max_lag` and `max_delay`, in ms: how far the horizon lies behind the frontier.
    pub behind: [i64; 2],
    /// The frontier of all sinks: every tick before it is committed; 0 on processes other than the
    /// first, which do not know it. `None` at the end.
    pub committed: Option<u64>,
    /// Since when it has been there, wall time in ms.
    pub committed_since: i64,
    /// The partitions that this process reads.
    pub partitions: Vec<PartitionStatus>,
    /// Records read, tagged; visits begun, ended, open.
    pub counts: [u64; 5],
    /// Records that were late, rejected, repeated.
    #[serde(default)]
    pub others: [u64; 3],
    /// Visits that have ended by inactivity, length, size.
    #[serde(default)]
    pub ended: [u64; 3],
    /// Bytes kept for open visits, and bytes of rows that no version holds.
    pub bytes: [u64; 2],
    /// Bytes of runs on disk, of this start.
    #[serde(default)]
    pub runs: u64,
    /// The tick of the last snapshot that counts, and when it was put, wall time in ms; 0 for none,
    /// and for one that an earlier start has put.
    #[serde(default)]
    pub snapshot: [u64; 2],
    /// The version of each table, and the tick up to which it holds every seal.
    pub versions: [[u64; 2]; 2],
}

/// What is said of a partition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Its number.
    pub partition: u32,
    /// Its worker.
    pub worker: usize,
    /// Its tick; `None` once it is closed.
    pub tick: Option<u64>,
    /// Which term of the minimum holds it.
    pub hold: Hold,
    /// The offset of what comes next.
    pub offset: u64,
    /// Its clock: the latest log time that it has seen, in ms.
    pub clock: Option<i64>,
    /// Since when its worker's tick has stood, wall time in ms.
    pub since: i64,
    /// When a broker last answered for it, wall time in ms, and the last error since; `None` for a
    /// log that answers at once.
    #[serde(default)]
    pub silence: Option<(i64, Option<String>)>,
    /// How many records are known to be unread, if a broker has said so.
    #[serde(default)]
    pub unread: Option<u64>,
}

/// The folder in which a job says it: in that of its topics, else of its tables, else of its state.
pub fn folder(job: &Job) -> Option<PathBuf> {
    let outputs = job.outputs.log.as_ref().or(job.outputs.files.as_ref());
    Some(outputs.or(job.state.dir.as_ref())?.join(".status"))
}

/// The file in which a process of this job says it.
pub fn file(job: &Job, process: usize) -> Option<PathBuf> {
    Some(folder(job)?.join(format!("{}-{process}.json", job.name)))
}

impl Status {
    /// What is so now.
    pub fn of(job: &Job, process: usize, handle: &Handle, rules: Rules) -> Status {
        let metrics = &handle.metrics;
        let mut partitions = Vec::new();
        for (local, source) in metrics.sources.iter().enumerate() {
            let source = source.lock().unwrap_or_else(PoisonError::into_inner);
            for own in &source.partitions {
                let hold = if source.paused && own.hold == Hold::Unread {
                    Hold::Paused
                } else {
                    own.hold
                };
                partitions.push(PartitionStatus {
                    partition: own.partition,
                    worker: process * job.workers + local,
                    tick: (own.tick != u64::MAX).then_some(own.tick),
                    hold,
                    offset: own.offset,
                    clock: (own.clock != i64::MIN).then_some(own.clock),
                    since: source.since,
                    silence: own.silence.clone(),
                    unread: own.unread,
                });
            }
        }
        partitions.sort_by_key(|p| p.partition);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let committed = count(&metrics.committed);
        let (read, _) = metrics.read();
        let ended = [0, 1, 2].map(|reason| count(&metrics.ended[reason]));
        Status {
            job: job.name.clone(),
            process,
            state: "running".into(),
            at: wall::now(),
            processes: handle.processes,
            incarnation: metrics.incarnation,
            start: handle.start.to_string(),
            began: metrics.began,
            error: None,
            address: handle.address.map(|address| address.to_string()),
            behind: [rules.max_lag, rules.max_delay],
            committed: (committed != u64::MAX).then_some(committed),
            committed_since: count(&metrics.committed_since) as i64,
            partitions,
            counts: [
                read,
                count(&metrics.tagged),
                count(&metrics.started),
                ended.iter().sum(),
                metrics.open_visits(),
            ],
            others: [
                count(&metrics.late),
                count(&metrics.rejected),
                count(&metrics.repeated),
            ],
            ended,
            runs: metrics.runs_bytes.iter().map(count).sum(),
            snapshot: [0, 1].map(|n| count(&metrics.snapshot[n])),
            bytes: [
                count(&metrics.kept_bytes),
                count(&metrics.uncommitted_bytes),
            ],
            versions: [0, 1].map(|t| [0, 1].map(|n| count(&metrics.versions[t][n]))),
        }
    }

    /// The partition with the least tick, if one is open.
    pub fn least(&self) -> Option<&PartitionStatus> {
        self.partitions
            .iter()
            .filter(|p| p.tick.is_some())
            .min_by_key(|p| (p.tick, p.partition))
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let beside = path.with_extension("json.new");
        fs::write(&beside, serde_json::to_vec_pretty(self)?)?;
        fs::rename(&beside, path)
    }
}

/// How a run has ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// With its input.
    Ended,
    /// It was asked to.
    Stopped,
    /// By this error.
    Failed(String),
}

/// The thread that writes.
pub struct Writer {
    end: Arc<Mutex<Option<End>>>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it.
    ///
    /// # Errors
    /// The folder, or the log of moves, cannot be made; no thread can be had.
    pub fn start(
        job: &Job,
        process: usize,
        handle: Handle,
        rules: Rules,
    ) -> Result<Writer, RunError> {
        let path = file(job, process);
        if let Some(dir) = path.as_ref().and_then(|path| path.parent()) {
            fs::create_dir_all(dir).map_err(RunError::io("create", dir))?;
        }
        let moves = match &job.observe.frontier_log {
            None => None,
            Some(path) => {
                let open = OpenOptions::new().create(true).append(true).open(path);
                Some(open.map_err(RunError::io("open", path))?)
            }
        };
        let asked = request::file(job);
        if let Some(path) = asked.as_ref().filter(|_| process == 0) {
            // It was meant for an earlier start.
            request::withdraw(path).map_err(RunError::io("remove", path))?;
        }
        let end: Arc<Mutex<Option<End>>> = Arc::default();
        let looks = Looks {
            say: {
                let (job, handle) = (job.clone(), handle.clone());
                Box::new(move || Status::of(&job, process, &handle, rules))
            },
            handle,
            path,
            asked,
            moves,
            end: end.clone(),
        };
        let thread = std::thread::Builder::new().name("status".into());
        let thread = thread.spawn(move || looks.until_the_end());
        let thread = thread.map_err(RunError::io("start a thread for", Path::new("the status")))?;
        Ok(Writer { end, thread })
    }

    /// Writes the last status.
    pub fn finish(self, end: End) {
        *self.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        let _ = self.thread.join();
    }
}

/// What the thread looks at, and where it writes.
struct Looks {
    say: Box<dyn Fn() -> Status + Send>,
    handle: Handle,
    path: Option<PathBuf>,
    asked: Option<PathBuf>,
    moves: Option<File>,
    end: Arc<Mutex<Option<End>>>,
}

impl Looks {
    fn until_the_end(mut self) {
        let (mut last, mut written) = (0, (0, 0));
        let mut since = wall::now();
        loop {
            let end = self
                .end
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            let frontier = self.handle.metrics.committed.load(Ordering::Relaxed);
            let now = wall::now();
            if frontier != last {
                if let Some(log) = &mut self.moves {
                    log_move(log, &(self.say)(), last, now - since);
                }
                (last, since) = (frontier, now);
            }
            self.hear();
            let (frontier_then, then) = written;
            let every = if frontier == frontier_then {
                EVERY
            } else {
                MOVING
            };
            if end.is_some() || now - then >= every.as_millis() as i64 {
                written = (frontier, now);
                self.write(end.as_ref());
            }
            if end.is_some() {
                return;
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Obeys who asks to stop.
    fn hear(&self) {
        let asks = |path: &PathBuf| Request::read(path).asks(&self.handle.start);
        if !self.handle.is_asked() && self.asked.as_ref().is_some_and(asks) {
            self.handle.ask();
        }
    }

    fn write(&self, end: Option<&End>) {
        let Some(path) = &self.path else { return };
        let mut status = (self.say)();
        status.state = match end {
            None => "running",
            Some(End::Ended) => "ended",
            Some(End::Stopped) => "stopped",
            Some(End::Failed(error)) => {
                status.error = Some(error.clone());
                "failed"
            }
        }
        .into();
        // A status that cannot be written stops no job: `why` says how old it is.
        let _ = status.write(path);
    }
}

/// One line: where the frontier went, how long it had stood, and what held it.
fn log_move(log: &mut File, status: &Status, from: u64, stood: i64) {
    let holder = status
        .least()
        .map(|p| serde_json::json!({"partition": p.partition, "tick": p.tick, "hold": p.hold}));
    let line = serde_json::json!({
        "at": status.at, "from": from, "to": status.committed, "stood_ms": stood, "held_by": holder,
    });
    let _ = writeln!(log, "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::JobFile;

    #[test]
    fn a_job_with_nothing_but_kafka_and_a_state_says_it_beside_the_state() {
        let text = "name = 'shop'\n[source]\nkafka = 'b:9092'\n[schemas]\nstore = 's'\n[outputs]\nkafka = 'b:9092'\n\
                    [state]\ndir = 'state'\n";
        let of = |more: &str| {
            let text = text.replace("[state]", &format!("{more}[state]"));
            let job = JobFile::parse(&text, "shop.toml".as_ref(), &[])
                .unwrap()
                .job;
            file(&job, 1).unwrap()
        };
        assert_eq!(of(""), Path::new("state/.status/shop-1.json"));
        let tables = Path::new("tables/.status/shop-1.json");
        assert_eq!(of("files = 'tables'\n"), tables);
    }

    #[test]
    fn what_an_older_program_has_written_can_be_read() {
        let text = r#"{"job": "shop", "process": 0, "state": "ended", "at": 1, "behind": [1, 2], "committed": null,
            "committed_since": 1, "partitions": [], "counts": [1, 1, 1, 1, 0], "bytes": [0, 0],
            "versions": [[0, 0], [0, 0]]}"#;
        let status: Status = serde_json::from_str(text).unwrap();
        assert_eq!((status.processes, status.others), (0, [0; 3]));
    }
}
