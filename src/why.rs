//! `visitflow why`: what a job's time stands on, and since when; while it runs and after it.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use thiserror::Error;

use crate::job::Job;
use crate::run::grouped;
use crate::run::status::{PartitionStatus, Status, file};
use crate::source::Hold;
use crate::wall;

/// A status older than this is one of a process that is gone, in ms.
pub const STALE: i64 = 5_000;

/// Why nothing can be said.
#[derive(Debug, Error)]
pub enum WhyError {
    /// Nobody has written a status.
    #[error("the job {job} has not run here: there is no {}", path.display())]
    NeverRan {
        /// The job.
        job: String,
        /// The file that would be there.
        path: PathBuf,
    },
    /// A status that cannot be read.
    #[error("the status {}: {problem}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

/// What each process of the job last said of itself.
pub fn statuses(job: &Job) -> Result<Vec<Status>, WhyError> {
    let mut found = Vec::new();
    for process in 0.. {
        // What lies behind the last is of a start with more processes.
        let count = found.first().map_or(0, |first: &Status| first.processes);
        let Some(path) = file(job, process).filter(|_| count == 0 || process < count) else {
            break;
        };
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && process > 0 => break,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(WhyError::NeverRan {
                    job: job.name.clone(),
                    path,
                });
            }
            Err(error) => {
                return Err(WhyError::Unreadable {
                    path,
                    problem: error.to_string(),
                });
            }
        };
        let status = serde_json::from_slice(&bytes);
        found.push(status.map_err(|e| WhyError::Unreadable {
            path,
            problem: e.to_string(),
        })?);
    }
    Ok(found)
}

/// Says it, in lines for people.
pub fn why(job: &Job) -> Result<String, WhyError> {
    Ok(explain(&statuses(job)?, wall::now()))
}

/// The same from what was read, at this wall time.
pub fn explain(statuses: &[Status], now: i64) -> String {
    let mut out = String::new();
    let Some(first) = statuses.first() else {
        return out;
    };
    let age = now - first.at;
    let gone = first.state == "running" && age > STALE;
    let state = if gone {
        "gone without a word"
    } else {
        &first.state
    };
    let _ = writeln!(
        out,
        "{}: {state}, as of {} ({} ago)",
        first.job,
        time(first.at),
        duration(age)
    );

    match first.committed {
        None => {
            let _ = writeln!(
                out,
                "frontier: at the end; the source was read to its end and everything is committed"
            );
        }
        Some(0) => {
            let _ = writeln!(out, "frontier: nothing is committed yet");
        }
        Some(tick) => {
            let [lag, delay] = first.behind;
            let _ = writeln!(
                out,
                "frontier: {}, there since {}; all before is committed\nhorizon:  {} (max_lag {}, max_delay {} behind)",
                time(tick as i64),
                time(first.committed_since),
                time(tick as i64 - lag - delay),
                duration(lag),
                duration(delay)
            );
        }
    }
    let all = statuses.iter().flat_map(|s| &s.partitions);
    let least = all
        .clone()
        .filter(|p| p.tick.is_some())
        .min_by_key(|p| (p.tick, p.partition));
    if let Some(p) = least {
        let _ = writeln!(
            out,
            "held by:  partition {}: {}",
            p.partition,
            reason(p, first)
        );
        let sink = first
            .committed
            .zip(p.tick)
            .is_some_and(|(committed, tick)| committed + 1_000 < tick);
        if sink {
            let _ = writeln!(
                out,
                "          and a sink: what was read up to {} is not committed",
                time(p.tick.unwrap_or(0) as i64)
            );
        }
    }
    let _ = writeln!(
        out,
        "\n{:>9}  {:>6}  {:<24}  {:<24}  {:>12}  held by",
        "partition", "worker", "tick", "clock", "offset"
    );
    for p in all {
        let tick = p.tick.map_or("closed".into(), |tick| time(tick as i64));
        let clock = p.clock.map_or("no record yet".into(), time);
        let _ = writeln!(
            out,
            "{:>9}  {:>6}  {tick:<24}  {clock:<24}  {:>12}  {}",
            p.partition,
            p.worker,
            grouped(p.offset),
            word(p.hold)
        );
    }
    let sum = |at: usize| grouped(statuses.iter().map(|s| s.counts[at]).sum());
    let _ = writeln!(
        out,
        "\nread {}; visits: {} begun, {} ended, {} open",
        sum(0),
        sum(2),
        sum(3),
        sum(4)
    );
    for (name, [version, tick]) in ["measurements", "visits"].iter().zip(first.versions) {
        if tick > 0 {
            let _ = writeln!(
                out,
                "table {name}: version {version}, every seal up to {}",
                time(tick as i64)
            );
        }
    }
    out
}

/// What holds a partition, in a few words.
pub fn word(hold: Hold) -> &'static str {
    match hold {
        Hold::Wall => "the wall clock",
        Hold::Unread => "unread records",
        Hold::Fetching => "records on their way",
        Hold::Silent => "no answer",
        Hold::Paused => "its budget",
        Hold::Closed => "nothing: it is closed",
    }
}

fn reason(p: &PartitionStatus, status: &Status) -> String {
    let since = format!(
        "since {} ({})",
        time(p.since),
        duration(status.at - p.since)
    );
    match p.hold {
        Hold::Wall => {
            format!("everything there is has been read; time goes with the wall clock, {since}")
        }
        Hold::Unread => format!(
            "there is more to read from offset {} on, {since}",
            grouped(p.offset)
        ),
        Hold::Fetching => format!(
            "there is more from offset {} on, which has not come yet, {since}",
            grouped(p.offset)
        ),
        Hold::Silent => {
            let (from, error) = p.silence.clone().unwrap_or((p.since, None));
            format!(
                "no broker has answered since {} ({}){}; so time stands, and no visit ends",
                time(from),
                duration(status.at - from),
                error.map_or(String::new(), |error| format!(": {error}"))
            )
        }
        Hold::Paused => {
            format!("paused: what was read and is not written yet exceeds the budget, {since}")
        }
        Hold::Closed => "it was read to its end".into(),
    }
}

/// A time as text: `2026-01-01T00:00:00.000Z`.
pub fn time(ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(ms) {
        Ok(time) => format!("{time:.3}"),
        Err(_) => format!("{ms} ms"),
    }
}

/// A duration as text, rounded.
pub fn duration(ms: i64) -> String {
    match ms {
        ..1_000 => format!("{ms} ms"),
        1_000..120_000 => format!("{}.{} s", ms / 1_000, ms % 1_000 / 100),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(hold: Hold, tick: u64) -> Status {
        let partition = |partition, tick, hold| PartitionStatus {
            partition,
            worker: 0,
            tick: Some(tick),
            hold,
            offset: 7,
            clock: None,
            since: 1_000,
            silence: None,
            unread: None,
        };
        Status {
            job: "shop".into(),
            state: "running".into(),
            at: 61_000,
            committed: Some(tick),
            partitions: vec![
                partition(0, tick + 500, Hold::Wall),
                partition(1, tick, hold),
            ],
            ..Status::default()
        }
    }

    #[test]
    fn the_partition_with_the_least_tick_is_named_with_what_holds_it() {
        let said = explain(&[status(Hold::Unread, 50_000)], 62_000);
        assert!(
            said.contains("held by:  partition 1: there is more to read from offset 7 on"),
            "{said}"
        );
        assert!(said.contains("shop: running"), "{said}");
    }

    #[test]
    fn a_process_that_has_gone_silent_is_not_called_running() {
        let said = explain(&[status(Hold::Wall, 50_000)], 1_000_000);
        assert!(said.contains("gone without a word"), "{said}");
    }
}
