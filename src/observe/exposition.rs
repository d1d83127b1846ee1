//! A process's metrics as Prometheus reads them: the text that is served.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use visitflow_dataflows::visit::Rules;

use super::metrics::METRICS;
use super::unread;
use crate::job::Job;
use crate::run::Handle;
use crate::run::status::Status;
use crate::sink::table::TABLES;
use crate::source::Hold;

/// The type of the text, for HTTP.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Text in the making.
struct Text(String);

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Text {
    /// Says of a metric what it is, and then each of its values.
    fn say(&mut self, name: &str, values: impl FnOnce(&mut dyn FnMut(Labels<'_>, f64))) {
        let metric = METRICS.iter().find(|metric| metric.name == name);
        let metric = metric.expect("every metric is in the list");
        let (kind, meaning) = (metric.kind, metric.meaning);
        let _ = writeln!(self.0, "# HELP {name} {meaning}\n# TYPE {name} {kind}");
        values(&mut |labels, value| {
            self.0.push_str(name);
            for (n, (label, value)) in labels.iter().enumerate() {
                let value = value
                    .replace('\\', "\\\\")
                    .replace('"', "\\\"")
                    .replace('\n', "\\n");
                let before = if n == 0 { '{' } else { ',' };
                let _ = write!(self.0, "{before}{label}=\"{value}\"");
            }
            let after = if labels.is_empty() { "" } else { "}" };
            let _ = writeln!(self.0, "{after} {value}");
        });
    }

    /// The same for a metric without labels, which may have no value.
    fn one(&mut self, name: &str, value: Option<f64>) {
        self.say(name, |put| {
            if let Some(value) = value {
                put(&[], value);
            }
        });
    }
}

fn seconds(ms: i64) -> f64 {
    ms as f64 / 1_000.0
}

fn load(counter: &AtomicU64) -> f64 {
    counter.load(Ordering::Relaxed) as f64
}

/// What `serde` writes for it, so that `status --json` has the same words.
fn word(hold: Hold) -> &'static str {
    match hold {
        Hold::Wall => "wall",
        Hold::Unread => "unread",
        Hold::Fetching => "fetching",
        Hold::Silent => "silent",
        Hold::Paused => "paused",
        Hold::Closed => "closed",
    }
}

/// What a process serves now. Of a job that reads the embedded log it looks for the ends of its
/// partitions, see [`unread`].
pub fn text(job: &Job, process: usize, handle: &Handle, rules: Rules) -> String {
    let status = Status::of(job, process, handle, rules);
    let mut text = Text(String::with_capacity(16 << 10));
    text.say("visitflow_build_info", |put| {
        let labels = [
            ("name", &*job.name),
            ("process", &process.to_string()),
            ("version", env!("CARGO_PKG_VERSION")),
        ];
        put(&labels, 1.0);
    });
    text.one("visitflow_incarnation", Some(status.incarnation as f64));
    let began = Some(seconds(status.began));
    text.one("visitflow_start_timestamp_seconds", began);
    time(&mut text, &status);
    partitions(&mut text, job, &status);
    traffic(&mut text, handle);
    state(&mut text, job, handle, &status);
    outputs(&mut text, job, handle, &status);
    text.0
}

fn time(text: &mut Text, status: &Status) {
    let frontier = status.committed.filter(|tick| *tick > 0);
    let frontier = frontier.map(|tick| tick as i64);
    let of = |ms: fn(i64, &Status) -> i64| frontier.map(|tick| seconds(ms(tick, status)));
    text.one("visitflow_frontier_timestamp_seconds", of(|tick, _| tick));
    text.one(
        "visitflow_frontier_age_seconds",
        of(|tick, now| now.at - tick),
    );
    text.one(
        "visitflow_frontier_standing_seconds",
        of(|_, now| now.at - now.committed_since),
    );
    text.one(
        "visitflow_horizon_timestamp_seconds",
        of(|tick, now| tick - now.behind[0] - now.behind[1]),
    );
}

fn partitions(text: &mut Text, job: &Job, status: &Status) {
    let mut of = |name: &str, value: &dyn Fn(usize) -> Option<f64>| {
        text.say(name, |put| {
            for (n, partition) in status.partitions.iter().enumerate() {
                if let Some(value) = value(n) {
                    put(&[("partition", &partition.partition.to_string())], value);
                }
            }
        });
    };
    let all = &status.partitions;
    of("visitflow_partition_lag_records", &|n| {
        unread(job, &all[n]).map(|records| records as f64)
    });
    of("visitflow_partition_clock_age_seconds", &|n| {
        all[n].clock.map(|clock| seconds(status.at - clock))
    });
    of("visitflow_partition_tick_age_seconds", &|n| {
        all[n].tick.map(|tick| seconds(status.at - tick as i64))
    });
    of("visitflow_partition_offset", &|n| {
        Some(all[n].offset as f64)
    });
    of("visitflow_partition_silence_seconds", &|n| {
        let (since, _) = all[n].silence.as_ref()?;
        Some(seconds((status.at - since).max(0)))
    });
    text.say("visitflow_partition_held", |put| {
        for partition in all {
            let number = partition.partition.to_string();
            put(&[("partition", &number), ("by", word(partition.hold))], 1.0);
        }
    });
}

fn traffic(text: &mut Text, handle: &Handle) {
    let metrics = &handle.metrics;
    let (records, bytes) = metrics.read();
    text.one("visitflow_read_records_total", Some(records as f64));
    text.one("visitflow_read_bytes_total", Some(bytes as f64));
    text.say("visitflow_records_total", |put| {
        for (fate, counter) in [
            ("tagged", &metrics.tagged),
            ("late", &metrics.late),
            ("rejected", &metrics.rejected),
            ("repeated", &metrics.repeated),
        ] {
            put(&[("fate", fate)], load(counter));
        }
    });
    text.say("visitflow_tag_latency_seconds", |put| {
        // In a replay it says how old the log is, and not even that in the end.
        if let Some((half, most)) = metrics.latency().filter(|(_, most)| *most < u32::MAX) {
            put(&[("quantile", "0.5")], seconds(half.into()));
            put(&[("quantile", "0.99")], seconds(most.into()));
        }
    });
    text.one("visitflow_open_visits", Some(metrics.open_visits() as f64));
    text.one("visitflow_visits_begun_total", Some(load(&metrics.started)));
    text.say("visitflow_visits_ended_total", |put| {
        for (reason, counter) in ["inactivity", "length", "size"].iter().zip(&metrics.ended) {
            put(&[("reason", reason)], load(counter));
        }
    });
    text.one("visitflow_revisions_total", Some(load(&metrics.revised)));
}

fn state(text: &mut Text, job: &Job, handle: &Handle, status: &Status) {
    let metrics = &handle.metrics;
    text.say("visitflow_kept_bytes", |put| {
        let [open, uncommitted] = status.bytes;
        for (kind, bytes) in [
            ("open_visits", open),
            ("uncommitted_rows", uncommitted),
            ("runs", status.runs),
        ] {
            put(&[("kind", kind)], bytes as f64);
        }
    });
    let first = status.process == 0 && job.state.dir.is_some();
    let [tick, at] = status.snapshot;
    let snapshots = first.then(|| load(&metrics.snapshots));
    text.one("visitflow_snapshots_total", snapshots);
    let at = (first && at > 0).then_some(seconds(at as i64));
    text.one("visitflow_snapshot_timestamp_seconds", at);
    let age = (first && tick > 0 && tick < u64::MAX).then(|| seconds(status.at - tick as i64));
    text.one("visitflow_snapshot_tick_age_seconds", age);
    text.say("visitflow_budget_paused", |put| {
        for (local, source) in metrics.sources.iter().enumerate() {
            let source = source.lock();
            let paused = source.unwrap_or_else(std::sync::PoisonError::into_inner);
            let worker = (status.process * job.workers + local).to_string();
            put(&[("worker", &worker)], f64::from(u8::from(paused.paused)));
        }
    });
}

fn outputs(text: &mut Text, job: &Job, handle: &Handle, status: &Status) {
    let tables = if status.process == 0 && job.outputs.files.is_some() {
        &TABLES[..]
    } else {
        &[]
    };
    let tables = || tables.iter().zip(status.versions);
    text.say("visitflow_table_version", |put| {
        for (table, [version, _]) in tables() {
            put(&[("table", table)], version as f64);
        }
    });
    text.say("visitflow_table_tick_age_seconds", |put| {
        for (table, [_, tick]) in tables().filter(|(_, [_, tick])| *tick > 0) {
            put(&[("table", table)], seconds(status.at - tick as i64));
        }
    });
    let sinks = [
        ("topics", &handle.metrics.topics),
        ("tables", &handle.metrics.tables),
    ];
    text.say("visitflow_commits_total", |put| {
        for (sink, commits) in sinks {
            put(&[("sink", sink)], load(&commits.count));
        }
    });
    text.say("visitflow_commit_seconds_total", |put| {
        for (sink, commits) in sinks {
            put(&[("sink", sink)], load(&commits.micros) / 1e6);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text(String::new());
        text.say("visitflow_open_visits", |put| {
            put(&[("a", "x\"y\\z\n"), ("b", "")], 1.5)
        });
        let last = text.0.lines().last().unwrap();
        assert_eq!(last, r#"visitflow_open_visits{a="x\"y\\z\n",b=""} 1.5"#);
    }
}
