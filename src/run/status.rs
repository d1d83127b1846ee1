//! What a running job says of itself: once a second into a file beside its outputs, for
//! `visitflow why`, and, if the job asks for it, each move of the frontier into a log.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use visitflow_dataflows::visit::Rules;

use super::{Handle, RunError};
use crate::job::Job;
use crate::source::Hold;
use crate::wall;

/// How often the file is written.
const EVERY: Duration = Duration::from_millis(1_000);
/// How often the frontier is looked at.
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
    /// `max_lag` and `max_delay`, in ms: how far the horizon lies behind the frontier.
    pub behind: [i64; 2],
    /// The frontier of all sinks: every tick before it is committed. `None` at the end.
    pub committed: Option<u64>,
    /// Since when it has been there, wall time in ms.
    pub committed_since: i64,
    /// The partitions that this process reads.
    pub partitions: Vec<PartitionStatus>,
    /// Records read, tagged; visits begun, ended, open.
    pub counts: [u64; 5],
    /// Bytes kept for open visits, and bytes of rows that no version holds.
    pub bytes: [u64; 2],
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
}

/// The file in which a process of this job says it.
pub fn file(job: &Job, process: usize) -> Option<PathBuf> {
    let place = job.outputs.log.as_ref().or(job.outputs.files.as_ref())?;
    Some(
        place
            .join(".status")
            .join(format!("{}-{process}.json", job.name)),
    )
}

impl Status {
    /// What is so now.
    pub fn of(
        job: &Job,
        process: usize,
        handle: &Handle,
        rules: Rules,
        committed_since: i64,
    ) -> Status {
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
                });
            }
        }
        partitions.sort_by_key(|p| p.partition);
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let committed = count(&metrics.committed);
        let (read, _) = metrics.read();
        let ended = metrics.ended.iter().map(count).sum();
        Status {
            job: job.name.clone(),
            process,
            state: "running".into(),
            at: wall::now(),
            behind: [rules.max_lag, rules.max_delay],
            committed: (committed != u64::MAX).then_some(committed),
            committed_since,
            partitions,
            counts: [
                read,
                count(&metrics.tagged),
                count(&metrics.started),
                ended,
                metrics.open_visits(),
            ],
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

/// The thread that writes.
pub struct Writer {
    done: Arc<AtomicBool>,
    failed: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts it.
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
        let mut moves = match &job.observe.frontier_log {
            None => None,
            Some(path) => {
                let open = OpenOptions::new().create(true).append(true).open(path);
                Some(open.map_err(RunError::io("open", path))?)
            }
        };
        let (done, failed) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicBool::new(false)),
        );
        let (own_done, own_failed) = (done.clone(), failed.clone());
        let job = job.clone();
        let thread = std::thread::Builder::new()
            .name("status".into())
            .spawn(move || {
                let (mut last, mut since, mut written) = (0, wall::now(), 0);
                loop {
                    let ends = own_done.load(Ordering::Acquire);
                    let frontier = handle.metrics.committed.load(Ordering::Relaxed);
                    let now = wall::now();
                    let moved = frontier != last;
                    if moved {
                        if let Some(log) = &mut moves {
                            log_move(
                                log,
                                &Status::of(&job, process, &handle, rules, now),
                                last,
                                now - since,
                            );
                        }
                        (last, since) = (frontier, now);
                    }
                    if ends || now - written >= EVERY.as_millis() as i64 {
                        written = now;
                        let mut status = Status::of(&job, process, &handle, rules, since);
                        if ends {
                            let stopped =
                                handle.stop.load(Ordering::Relaxed) && status.committed.is_some();
                            let failed = own_failed.load(Ordering::Relaxed);
                            status.state = if failed {
                                "failed"
                            } else if stopped {
                                "stopped"
                            } else {
                                "ended"
                            }
                            .into();
                        }
                        // A status that cannot be written stops no job: `why` says how old it is.
                        let _ = path.as_ref().map_or(Ok(()), |path| status.write(path));
                    }
                    if ends {
                        return;
                    }
                    std::thread::sleep(LOOK);
                }
            });
        let thread = thread.map_err(RunError::io("start a thread for", Path::new("the status")))?;
        Ok(Writer {
            done,
            failed,
            thread,
        })
    }

    /// Writes the last status.
    pub fn finish(self, failed: bool) {
        self.failed.store(failed, Ordering::Relaxed);
        self.done.store(true, Ordering::Release);
        let _ = self.thread.join();
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
