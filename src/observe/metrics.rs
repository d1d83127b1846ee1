//! The list of all metrics: what is served, the table in `docs/recovery.md` and the examples for
//! Grafana and Prometheus are held against it.

use std::fmt::Write as _;

/// A metric.
#[derive(Clone, Copy, Debug)]
pub struct Metric {
    /// Its name, with its unit.
    pub name: &'static str,
    /// `counter`, `gauge` or `summary`.
    pub kind: &'static str,
    /// By what it is told apart; empty for a single value.
    pub labels: &'static str,
    /// What it is.
    pub meaning: &'static str,
}

const fn gauge(name: &'static str, labels: &'static str, meaning: &'static str) -> Metric {
    Metric {
        name,
        kind: "gauge",
        labels,
        meaning,
    }
}

const fn counter(name: &'static str, labels: &'static str, meaning: &'static str) -> Metric {
    Metric {
        name,
        kind: "counter",
        labels,
        meaning,
    }
}

/// All metrics, in the order in which they are served.
pub static METRICS: &[Metric] = &[
    gauge(
        "visitflow_build_info",
        "name, process, version",
        "Always 1: the job's name, the process, the program's version.",
    ),
    gauge(
        "visitflow_incarnation",
        "",
        "The number of this start; 0 without state.dir.",
    ),
    gauge(
        "visitflow_start_timestamp_seconds",
        "",
        "When this start was.",
    ),
    gauge(
        "visitflow_frontier_timestamp_seconds",
        "",
        "The frontier: every tick before it is committed. Of process 0 alone; none before the first commit and at the \
         end of input, as of the next three.",
    ),
    gauge(
        "visitflow_frontier_age_seconds",
        "",
        "How far the frontier lies behind the wall clock.",
    ),
    gauge(
        "visitflow_frontier_standing_seconds",
        "",
        "How long the frontier has not moved.",
    ),
    gauge(
        "visitflow_horizon_timestamp_seconds",
        "",
        "The horizon, max_lag and max_delay before the frontier: what happened before it is known for good.",
    ),
    gauge(
        "visitflow_partition_lag_records",
        "partition",
        "Records that are not read yet; none if nobody has said so.",
    ),
    gauge(
        "visitflow_partition_clock_age_seconds",
        "partition",
        "How far the newest record that was read lies behind the wall clock.",
    ),
    gauge(
        "visitflow_partition_tick_age_seconds",
        "partition",
        "How far the partition's tick lies behind the wall clock.",
    ),
    gauge(
        "visitflow_partition_offset",
        "partition",
        "The offset of what is read next.",
    ),
    gauge(
        "visitflow_partition_silence_seconds",
        "partition",
        "How long ago a broker last answered for the partition. Only of Kafka.",
    ),
    gauge(
        "visitflow_partition_held",
        "partition, by",
        "1 for what holds the partition's tick: `wall`, `unread`, `fetching`, `silent`, `paused`, `closed`.",
    ),
    counter(
        "visitflow_read_records_total",
        "",
        "Records read, those that are read again after a start among them.",
    ),
    counter("visitflow_read_bytes_total", "", "Their bytes."),
    counter(
        "visitflow_records_total",
        "fate",
        "Records by what became of them: `tagged`, `late`, `rejected`, `repeated`.",
    ),
    Metric {
        name: "visitflow_tag_latency_seconds",
        kind: "summary",
        labels: "quantile",
        meaning: "From the time at which the log took a record until it was tagged, of a sample of the last ten \
                  seconds.",
    },
    gauge("visitflow_open_visits", "", "Open visits."),
    counter("visitflow_visits_begun_total", "", "Visits that began."),
    counter(
        "visitflow_visits_ended_total",
        "reason",
        "Visits that ended, by `inactivity`, `length`, `size`.",
    ),
    counter(
        "visitflow_revisions_total",
        "",
        "Revisions: measurements that later ones moved to another visit.",
    ),
    gauge(
        "visitflow_kept_bytes",
        "kind",
        "What is kept: `open_visits`, their measurements; `uncommitted_rows`, rows that no version of a table holds; \
         `runs`, files of this start in state.dir.",
    ),
    counter(
        "visitflow_snapshots_total",
        "",
        "Snapshots put. Of process 0 alone, as the next two.",
    ),
    gauge(
        "visitflow_snapshot_timestamp_seconds",
        "",
        "When the last snapshot was put; none before the first of this start.",
    ),
    gauge(
        "visitflow_snapshot_tick_age_seconds",
        "",
        "How far the tick of the last snapshot lies behind the wall clock: a start reads again what came since.",
    ),
    gauge(
        "visitflow_budget_paused",
        "worker",
        "1 while a worker reads no more, since too much that it read is not written.",
    ),
    gauge(
        "visitflow_table_version",
        "table",
        "The version of a table. Of process 0 alone, as the next one.",
    ),
    gauge(
        "visitflow_table_tick_age_seconds",
        "table",
        "How far the tick up to which a table holds every seal lies behind the wall clock.",
    ),
    counter(
        "visitflow_commits_total",
        "sink",
        "Commits of `topics` and of versions of `tables`.",
    ),
    counter(
        "visitflow_commit_seconds_total",
        "sink",
        "How long they took in all.",
    ),
];

/// The table of all metrics in `docs/recovery.md`.
pub fn as_markdown() -> String {
    let mut text = String::from("| metric | type | by | meaning |\n| --- | --- | --- | --- |\n");
    for metric in METRICS {
        let Metric {
            name,
            kind,
            labels,
            meaning,
        } = metric;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{name}` | {kind} | {labels} | {meaning} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_those_that_prometheus_wants() {
        let names: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len());
        for metric in METRICS {
            let Metric { name, kind, .. } = metric;
            let rest = name.strip_prefix("visitflow_").expect(name);
            assert!(
                rest.bytes().all(|b| b == b'_' || b.is_ascii_lowercase()),
                "{name}"
            );
            assert_eq!(name.ends_with("_total"), *kind == "counter", "{name}");
            assert!(metric.meaning.ends_with('.'), "{name}");
            assert!(!metric.meaning.contains(['|', '\n', '\\']), "{name}");
        }
    }
}
