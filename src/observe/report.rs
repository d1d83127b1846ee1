//! How far a job has come, of all its processes together, worked out from what each has said last.

use serde::Serialize;

use super::unread;
use crate::job::Job;
use crate::run::status::{PartitionStatus, Status};
use crate::sink::table::TABLES;
use crate::source::Hold;
use crate::wall;
use crate::why::{STALE, WhyError, statuses};

/// How far a job has come. Times are in ms since 1970, UTC; durations in ms.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The job's name.
    pub job: String,
    /// `running`, `ended`, `stopped`, `failed`, or `gone`: without a word for five seconds.
    pub state: &'static str,
    /// The incarnation; 0 for a job that cannot go on where it was.
    pub incarnation: u64,
    /// Now.
    pub now: i64,
    /// Each process.
    pub processes: Vec<Process>,
    /// Every tick before it is committed; `None` before the first commit, and at the end of input.
    pub frontier: Option<i64>,
    /// Whether the source was read to its end and everything is committed.
    pub ended: bool,
    /// How far the frontier lies behind the wall clock.
    pub frontier_behind: Option<i64>,
    /// Since when it has been there.
    pub frontier_since: i64,
    /// What happened before it is known for good.
    pub horizon: Option<i64>,
    /// Each partition of the source.
    pub partitions: Vec<Partition>,
    /// Records of all processes since their start.
    pub records: Records,
    /// Visits of all processes since their start.
    pub visits: Visits,
    /// Bytes of all processes.
    pub bytes: Kept,
    /// Each table that has a version.
    pub tables: Vec<Table>,
    /// The last snapshot that counts.
    pub snapshot: Option<Snapshot>,
}

/// A process.
#[derive(Clone, Debug, Serialize)]
pub struct Process {
    /// Its number.
    pub process: usize,
    /// As the job's.
    pub state: &'static str,
    /// When it started.
    pub began: i64,
    /// When it said this.
    pub at: i64,
    /// What went wrong, if it has failed.
    pub error: Option<String>,
    /// Where it is served, if it is.
    pub address: Option<String>,
}

/// A partition of the source.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// Its number.
    pub partition: u32,
    /// Its worker.
    pub worker: usize,
    /// The offset of what is read next.
    pub offset: u64,
    /// How many records are not read yet, if that can be said.
    pub unread: Option<u64>,
    /// Its clock; `None` before the first record.
    pub clock: Option<i64>,
    /// How far its clock lies behind the wall clock.
    pub clock_behind: Option<i64>,
    /// Its tick; `None` once it is closed.
    pub tick: Option<i64>,
    /// What holds its tick.
    pub held_by: Hold,
}

/// Records by what became of them.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // The words of the ledger.
pub struct Records {
    pub read: u64,
    pub tagged: u64,
    pub late: u64,
    pub rejected: u64,
    pub repeated: u64,
}

/// Visits.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Visits {
    pub begun: u64,
    pub ended: u64,
    pub open: u64,
}

/// Bytes that are kept.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kept {
    /// Measurements of open visits.
    pub open_visits: u64,
    /// Rows that no version of a table holds.
    pub uncommitted_rows: u64,
    /// Runs of this start on disk.
    pub runs: u64,
}

/// A table.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its name.
    pub table: &'static str,
    /// Its version.
    pub version: u64,
    /// Up to where it holds every seal; `None` before the first.
    pub tick: Option<i64>,
}

/// A snapshot.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// Its tick; `None` for that of the end of input.
    pub tick: Option<i64>,
    /// When it was put; `None` if an earlier start has put it.
    pub at: Option<i64>,
}

/// What a process's status says of its state, at this wall time.
pub fn state(status: &Status, now: i64) -> &'static str {
    match &status.state[..] {
        "running" if now - status.at > STALE => "gone",
        "running" => "running",
        "stopped" => "stopped",
        "ended" => "ended",
        _ => "failed",
    }
}

fn tick(tick: u64) -> i64 {
    i64::try_from(tick).unwrap_or(i64::MAX)
}

impl Report {
    /// What the job has said last.
    ///
    /// # Errors
    /// It has said nothing, or it cannot be read.
    pub fn read(job: &Job) -> Result<Report, WhyError> {
        let statuses = statuses(job)?;
        let report = Report::of(&statuses, wall::now(), &|partition| unread(job, partition));
        Ok(report.expect("the first process is there, or it was an error"))
    }

    /// Of these statuses, at this wall time; `None` of none. `unread` says how many records of a
    /// partition are not read yet.
    pub fn of(
        statuses: &[Status],
        now: i64,
        unread: &dyn Fn(&PartitionStatus) -> Option<u64>,
    ) -> Option<Report> {
        let first = statuses.first()?;
        let frontier = first.committed.filter(|at| *at > 0).map(tick);
        let process = |status: &Status| Process {
            process: status.process,
            state: state(status, now),
            began: status.began,
            at: status.at,
            error: status.error.clone(),
            address: status.address.clone(),
        };
        let processes: Vec<Process> = statuses.iter().map(process).collect();
        let states = || processes.iter().map(|process| process.state);
        let mut worst = ["failed", "gone", "running"].into_iter();
        let worst = worst.find(|bad| states().any(|state| state == *bad));
        let partition = |p: &PartitionStatus| Partition {
            partition: p.partition,
            worker: p.worker,
            offset: p.offset,
            unread: unread(p),
            clock: p.clock,
            clock_behind: p.clock.map(|clock| now - clock),
            tick: p.tick.map(tick),
            held_by: p.hold,
        };
        let all = statuses.iter().flat_map(|status| &status.partitions);
        let mut partitions: Vec<Partition> = all.map(partition).collect();
        partitions.sort_by_key(|p| p.partition);
        let sum = |of: &dyn Fn(&Status) -> u64| statuses.iter().map(of).sum::<u64>();
        let tables = TABLES.into_iter().zip(first.versions);
        let tables = tables.filter(|(_, [version, _])| *version > 0);
        let [kept, kept_at] = first.snapshot;
        Some(Report {
            job: first.job.clone(),
            state: worst.or(states().next()).unwrap_or("gone"),
            incarnation: first.incarnation,
            now,
            frontier,
            ended: first.committed.is_none(),
            frontier_behind: frontier.map(|at| now - at),
            frontier_since: first.committed_since,
            horizon: frontier.map(|at| at - first.behind[0] - first.behind[1]),
            partitions,
            records: Records {
                read: sum(&|s| s.counts[0]),
                tagged: sum(&|s| s.counts[1]),
                late: sum(&|s| s.others[0]),
                rejected: sum(&|s| s.others[1]),
                repeated: sum(&|s| s.others[2]),
            },
            visits: Visits {
                begun: sum(&|s| s.counts[2]),
                ended: sum(&|s| s.counts[3]),
                open: sum(&|s| s.counts[4]),
            },
            bytes: Kept {
                open_visits: sum(&|s| s.bytes[0]),
                uncommitted_rows: sum(&|s| s.bytes[1]),
                runs: sum(&|s| s.runs),
            },
            tables: tables
                .map(|(table, [version, at])| Table {
                    table,
                    version,
                    tick: (at > 0).then_some(tick(at)),
                })
                .collect(),
            snapshot: (kept > 0).then_some(Snapshot {
                tick: (kept < u64::MAX).then_some(tick(kept)),
                at: (kept_at > 0).then_some(tick(kept_at)),
            }),
            processes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn running(process: usize, at: i64) -> Status {
        Status {
            job: "shop".into(),
            process,
            state: "running".into(),
            at,
            processes: 2,
            incarnation: 3,
            committed: Some(if process == 0 { 50_000 } else { 0 }),
            behind: [5_000, 20_000],
            partitions: vec![PartitionStatus {
                partition: 1 - process as u32,
                worker: process,
                tick: Some(51_000),
                hold: Hold::Wall,
                offset: 7,
                clock: Some(40_000),
                since: 0,
                silence: None,
                unread: None,
            }],
            counts: [10, 6, 3, 2, 1],
            others: [2, 1, 1],
            snapshot: [48_000, 59_000],
            ..Status::default()
        }
    }

    #[test]
    fn processes_are_summed_and_the_frontier_is_the_firsts() {
        let all = [running(0, 59_900), running(1, 59_800)];
        let report = Report::of(&all, 60_000, &|p| Some(u64::from(p.partition))).unwrap();
        assert_eq!((report.state, report.incarnation), ("running", 3));
        assert_eq!(report.frontier_behind, Some(10_000));
        assert_eq!(report.horizon, Some(25_000));
        let partitions: Vec<_> = report
            .partitions
            .iter()
            .map(|p| (p.partition, p.worker, p.unread, p.clock_behind))
            .collect();
        let expected = [(0, 1, Some(0), Some(20_000)), (1, 0, Some(1), Some(20_000))];
        assert_eq!(partitions, expected);
        let text = report.to_string();
        for line in [
            "shop: running, start 3\n",
            "records:  20 read; 12 tagged, 4 late, 2 rejected, 2 repeated\n",
            "visits:   6 begun, 4 ended, 2 open\n",
            "snapshot: of 1970-01-01T00:00:48.000Z, put 1.0 s ago\n",
        ] {
            assert!(text.contains(line), "{line}{text}");
        }
    }

    #[test]
    fn the_worst_state_is_the_jobs() {
        let state = |change: &dyn Fn(&mut [Status; 2])| {
            let mut all = [running(0, 59_900), running(1, 59_800)];
            change(&mut all);
            Report::of(&all, 60_000, &|_| None).unwrap().state
        };
        assert_eq!(state(&|all| all[1].at = 54_999), "gone");
        assert_eq!(state(&|all| all[1].state = "failed".into()), "failed");
        assert_eq!(state(&|all| all[0].state = "stopped".into()), "running");
        let stopped = |all: &mut [Status; 2]| {
            all.iter_mut().for_each(|s| s.state = "stopped".into());
        };
        assert_eq!(state(&stopped), "stopped");
    }
}
