//! How far a job has come, for pages and programs: the same as `visitflow status` and `why` say, of all
//! its processes together, as one object.

use serde::Serialize;

use crate::run::status::{PartitionStatus, Status};
use crate::sink::table::TABLES;
use crate::why::word;

/// How far a job has come. Times and ticks are in ms.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// The tick as of which views and orders are read; without any of them, that of `committed`.
    pub tick: Option<u64>,
    /// The job's name.
    pub job: String,
    /// Now, wall time.
    pub wall: i64,
    /// Every tick before it is committed; `None` before the first commit, and at the end of input.
    pub committed: Option<u64>,
    /// What happened before it is known for good.
    pub horizon: Option<i64>,
    /// Open visits.
    pub open: u64,
    /// Records since the start, by what became of them.
    pub counts: Counts,
    /// Visits since the start.
    pub visits: Visits,
    /// Each partition of the source.
    pub partitions: Vec<Partition>,
    /// Where time stands, and on what.
    pub frontier: Frontier,
    /// The versions of the tables, if there are any.
    pub tables: Tables,
}

/// Records by what became of them.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)] // The words of the ledger.
pub struct Counts {
    pub read: u64,
    pub tagged: u64,
    pub late: u64,
    pub rejected: u64,
    pub repeated: u64,
}

/// Visits.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Visits {
    /// Begun.
    pub begun: u64,
    /// Ended, by why.
    pub ended: Ended,
}

/// Ended visits by why.
#[derive(Clone, Debug, Default, Serialize)]
#[allow(missing_docs)]
pub struct Ended {
    pub inactivity: u64,
    pub length: u64,
    pub size: u64,
}

/// A partition of the source.
#[derive(Clone, Debug, Serialize)]
pub struct Partition {
    /// The process that reads it.
    pub process: usize,
    /// Its number.
    pub partition: u32,
    /// Its tick; `None` once it is closed.
    pub tick: Option<u64>,
    /// Its clock; `None` before the first record.
    pub clock: Option<i64>,
    /// What holds its tick, in a few words.
    pub hold: &'static str,
    /// Since when its tick has stood.
    pub since: i64,
    /// How many records are not read yet, if that can be said.
    pub lag: Option<u64>,
}

/// Where time stands.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Frontier {
    /// As `committed`.
    pub tick: Option<u64>,
    /// What holds it, in a few words; `None` at the end of input.
    pub held_by: Option<String>,
    /// Since when it stands.
    pub since: i64,
}

/// A table.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Table {
    /// Its version.
    pub version: u64,
    /// Up to where it has every seal.
    pub tick: u64,
}

/// The tables that have a version.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Tables {
    /// Of measurements.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurements: Option<Table>,
    /// Of visits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub visits: Option<Table>,
}

impl Progress {
    /// From what each process says of itself, the first one first, at this wall time. `shown` is the tick
    /// as of which this process's readers read.
    pub fn of(
        all: &[Status],
        wall: i64,
        shown: Option<u64>,
        unread: &dyn Fn(&PartitionStatus) -> Option<u64>,
    ) -> Progress {
        let Some(first) = all.first() else {
            return Progress::default();
        };
        let sum = |of: &dyn Fn(&Status) -> u64| all.iter().map(of).sum::<u64>();
        let committed = first.committed.filter(|tick| *tick > 0);
        let [lag, delay] = first.behind;
        let partition = |process: usize, p: &PartitionStatus| Partition {
            process,
            partition: p.partition,
            tick: p.tick,
            clock: p.clock,
            hold: word(p.hold),
            since: p.since,
            lag: unread(p),
        };
        let own = |status: &Status| {
            let process = status.process;
            let all = status.partitions.iter();
            all.map(move |p| partition(process, p)).collect::<Vec<_>>()
        };
        let mut partitions: Vec<Partition> = all.iter().flat_map(own).collect();
        partitions.sort_by_key(|p| p.partition);
        let table = |n: usize| {
            let [version, tick] = first.versions[n];
            (tick > 0).then_some(Table { version, tick })
        };
        debug_assert_eq!(TABLES, ["measurements", "visits"]);
        Progress {
            tick: shown.or(committed),
            job: first.job.clone(),
            wall,
            committed,
            horizon: committed.map(|tick| tick as i64 - lag - delay),
            open: sum(&|s| s.counts[4]),
            counts: Counts {
                read: sum(&|s| s.counts[0]),
                tagged: sum(&|s| s.counts[1]),
                late: sum(&|s| s.others[0]),
                rejected: sum(&|s| s.others[1]),
                repeated: sum(&|s| s.others[2]),
            },
            visits: Visits {
                begun: sum(&|s| s.counts[2]),
                ended: Ended {
                    inactivity: sum(&|s| s.ended[0]),
                    length: sum(&|s| s.ended[1]),
                    size: sum(&|s| s.ended[2]),
                },
            },
            frontier: frontier(first, committed, &partitions),
            partitions,
            tables: Tables {
                measurements: table(0),
                visits: table(1),
            },
        }
    }
}

/// The partition with the least tick holds it, unless a sink is behind even that.
fn frontier(first: &Status, tick: Option<u64>, partitions: &[Partition]) -> Frontier {
    let open = partitions.iter().filter(|p| p.tick.is_some());
    let least = open.min_by_key(|p| (p.tick, p.partition));
    let behind = |p: &Partition| {
        let least = p.tick.unwrap_or(0);
        first.committed.is_some_and(|tick| tick + 1_000 < least)
    };
    let held_by = least.map(|p| {
        let sink = if behind(p) { ", and a sink" } else { "" };
        format!("partition {}: {}{sink}", p.partition, p.hold)
    });
    Frontier {
        tick,
        held_by,
        since: first.committed_since,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Hold;

    fn status(process: usize, partition: u32, tick: u64, hold: Hold) -> Status {
        Status {
            job: "shop".into(),
            process,
            behind: [5_000, 120_000],
            committed: Some(if process == 0 { 200_000 } else { 0 }),
            committed_since: 7,
            counts: [10, 6, 3, 2, 1],
            others: [2, 1, 1],
            ended: [1, 1, 0],
            versions: [[4, 100], [4, 90]],
            partitions: vec![PartitionStatus {
                partition,
                worker: process,
                tick: Some(tick),
                hold,
                offset: 5,
                clock: None,
                since: 3,
                silence: None,
                unread: None,
            }],
            ..Status::default()
        }
    }

    #[test]
    fn what_all_processes_say_is_put_together() {
        let all = [
            status(0, 1, 200_500, Hold::Wall),
            status(1, 0, 200_400, Hold::Unread),
        ];
        let progress = Progress::of(&all, 9, None, &|p| Some(p.partition.into()));
        let json = serde_json::to_value(&progress).unwrap();
        for (path, value) in [
            ("/tick", 200_000),
            ("/committed", 200_000),
            ("/horizon", 75_000),
            ("/open", 2),
            ("/counts/read", 20),
            ("/counts/late", 4),
            ("/visits/ended/length", 2),
            ("/partitions/0/process", 1),
            ("/partitions/1/lag", 1),
            ("/frontier/since", 7),
            ("/tables/visits/tick", 90),
        ] {
            assert_eq!(json.pointer(path), Some(&value.into()), "{path}: {json}");
        }
        assert_eq!(
            json["frontier"]["held_by"], "partition 0: unread records",
            "{json}"
        );
    }

    #[test]
    fn a_sink_that_is_behind_all_partitions_is_named() {
        let all = [status(0, 0, 300_000, Hold::Wall)];
        let progress = Progress::of(&all, 9, Some(1), &|_| None);
        assert_eq!(progress.tick, Some(1));
        let held = progress.frontier.held_by.unwrap();
        assert_eq!(held, "partition 0: the wall clock, and a sink");
    }
}
