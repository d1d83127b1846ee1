//! `visitflow stop`: asks a running job to stop, as Ctrl-C does, and waits until it has. Works from
//! any host that sees the job's folder; see [`request`] for how.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::job::Job;
use crate::run::request::{self, Request};
use crate::run::status::Status;
use crate::wall;
use crate::why::{STALE, WhyError, duration, statuses, time};

/// How often it is looked whether the job has stopped.
const LOOK: Duration = Duration::from_millis(50);
/// How long a process that was long silent already may take to show that it lives.
const LIFE: Duration = Duration::from_millis(2_500);

/// Why a job was not stopped.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum StopError {
    #[error(transparent)]
    Unknown(#[from] WhyError),
    #[error("the job {job} does not run: it has {state} at {at}")]
    NotRunning {
        job: String,
        state: String,
        at: String,
    },
    #[error(
        "process {process} of the job {job} is gone: it has said nothing since {at}. Nothing is lost: the next start \
         goes on where it was, if state.dir is set"
    )]
    Gone {
        job: String,
        process: usize,
        at: String,
    },
    #[error("the job {job} has failed, rather than stopped: {error}")]
    Failed { job: String, error: String },
    #[error(
        "the job {job} has not stopped within {timeout}: it has committed all before {frontier}. It was asked and will \
         stop when it can; visitflow why says what it waits for"
    )]
    NotInTime {
        job: String,
        timeout: String,
        frontier: String,
    },
    #[error("cannot put {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
}

/// A process that is asked.
struct Asked {
    start: String,
    /// What it said last, and since when it has said nothing else.
    at: i64,
    since: Instant,
    patience: Duration,
}

/// Asks the job to stop and waits until it has, no longer than `timeout`; what it has committed
/// then, in words. `say` is told now and then what is waited for.
///
/// # Errors
/// It does not run, fails, or does not stop in time.
pub fn stop(
    job: &Job,
    timeout: Duration,
    mut say: impl FnMut(&dyn Fn() -> String),
) -> Result<String, StopError> {
    let began = Instant::now();
    let path = request::file(job).unwrap_or_default();
    let mut asked: BTreeMap<usize, Asked> = BTreeMap::new();
    let mut incarnation = None;
    loop {
        let all = statuses(job)?;
        let frontier = frontier(&all);
        let before = asked.len();
        for status in all.iter().filter(|status| status.state == "running") {
            // One that belongs to a later start is not meant.
            if *incarnation.get_or_insert(status.incarnation) != status.incarnation {
                continue;
            }
            asked
                .entry(status.process)
                .or_insert_with(|| Asked::of(status));
        }
        if asked.is_empty() {
            return Err(not_running(&all));
        }
        // A start that comes meanwhile may have taken it away.
        let request = Request {
            stop: asked.values().map(|asked| asked.start.clone()).collect(),
        };
        let waits = |status: &&Status| {
            let own = asked.get(&status.process);
            status.state == "running" && own.is_some_and(|own| own.start == status.start)
        };
        let left: Vec<&Status> = all.iter().filter(waits).collect();
        if left.is_empty() {
            let _ = request::withdraw(&path);
            return stopped(&all, &asked, frontier);
        }
        if asked.len() > before || Request::read(&path) != request {
            request.put(&path).map_err(|source| StopError::Io {
                path: path.clone(),
                source,
            })?;
        }
        let left: Vec<(usize, i64)> = left.iter().map(|s| (s.process, s.at)).collect();
        for (process, at) in left {
            let own = asked.get_mut(&process).expect("those that are asked");
            if own.is_gone(at) {
                return Err(StopError::Gone {
                    job: job.name.clone(),
                    process,
                    at: time(at),
                });
            }
        }
        if began.elapsed() >= timeout {
            return Err(StopError::NotInTime {
                job: job.name.clone(),
                timeout: duration(timeout.as_millis() as i64),
                frontier,
            });
        }
        say(&|| {
            let waited = duration(began.elapsed().as_millis() as i64);
            format!(
                "stopping {}: all before {frontier} is committed; {waited}",
                job.name
            )
        });
        std::thread::sleep(LOOK);
    }
}

impl Asked {
    fn of(status: &Status) -> Asked {
        // Clocks of two hosts may differ: only who stands still while one looks is gone.
        let long = wall::now() - status.at > STALE;
        Asked {
            start: status.start.clone(),
            at: status.at,
            since: Instant::now(),
            patience: if long {
                LIFE
            } else {
                Duration::from_millis(STALE as u64)
            },
        }
    }

    fn is_gone(&mut self, at: i64) -> bool {
        if at != self.at {
            *self = Asked {
                start: std::mem::take(&mut self.start),
                at,
                since: Instant::now(),
                patience: Duration::from_millis(STALE as u64),
            };
        }
        self.since.elapsed() >= self.patience
    }
}

fn frontier(all: &[Status]) -> String {
    match all.first().map(|first| first.committed) {
        Some(Some(0)) | None => "the first tick".to_owned(),
        Some(Some(tick)) => time(tick as i64),
        Some(None) => "the end of input".to_owned(),
    }
}

fn not_running(all: &[Status]) -> StopError {
    let first = all.first().cloned().unwrap_or_default();
    StopError::NotRunning {
        job: first.job,
        state: first.state,
        at: time(first.at),
    }
}

fn stopped(
    all: &[Status],
    asked: &BTreeMap<usize, Asked>,
    frontier: String,
) -> Result<String, StopError> {
    // Whoever has been started again since has stopped.
    let own = |status: &&Status| {
        let own = asked.get(&status.process);
        own.is_some_and(|own| own.start == status.start)
    };
    if let Some(failed) = all.iter().filter(own).find(|s| s.state == "failed") {
        return Err(StopError::Failed {
            job: failed.job.clone(),
            error: failed.error.clone().unwrap_or_default(),
        });
    }
    let first = all.iter().find(own);
    let state = first.map_or("stopped", |first| &first.state[..]);
    Ok(format!("{state}; all before {frontier} is committed"))
}
