//! A job that is stopped, or killed, at any moment: what was committed is whole.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use visitflow::generate::Limits;
use visitflow::run::{self, Options};
use visitflow::table::Table;
use visitflow::why;

use crate::outputs::{Reading, agree, consume, topic};
use crate::place::{Place, root};
use crate::workers::{Outcome, outcome, same};

const EVENTS: u64 = 12_000;

/// What of an outcome lies before a tick.
fn before(all: &Outcome, tick: u64) -> Outcome {
    let topics = all.topics.iter().map(|(name, said)| {
        (
            *name,
            said.iter()
                .filter(|said| said.tick < tick)
                .cloned()
                .collect(),
        )
    });
    let visits = all
        .tables
        .visits
        .iter()
        .filter(|visit| (visit.sealed_tick as u64) < tick);
    let visits: Vec<_> = visits.cloned().collect();
    let ids: std::collections::HashSet<&str> =
        visits.iter().map(|visit| &visit.visit_id[..]).collect();
    let rows = all
        .tables
        .measurements
        .iter()
        .filter(|row| ids.contains(&row.visit_id[..]));
    let measurements = rows.cloned().collect();
    Outcome {
        topics: topics.collect(),
        tables: crate::outputs::Tables {
            visits,
            measurements,
        },
    }
}

#[test]
fn a_job_that_is_stopped_has_committed_all_before_one_tick_and_nothing_after_it() {
    let place = Place::new();
    place.shop(EVENTS, 11, 4, Limits::default());
    run::run(
        Options::of(place.job("whole-", "log-to-files", &["workers=2"])),
        |_| (),
    )
    .unwrap();
    let whole = outcome(&place, "whole-");

    let mut stopped_midway = 0;
    for (number, part) in [0, 3, 20, 35, 50, 65, 80, 97].into_iter().enumerate() {
        let name = format!("{number}-");
        let workers = format!("workers={}", 1 + number % 3);
        let job = place.job(&name, "log-to-files", &[&workers, "outputs.file_size=1kB"]);
        let mut options = Options::of(job.clone());
        (options.step_records, options.budget) = (200, 200_000);
        let summary = run::run(options, move |handle| {
            while !handle.ended() && handle.metrics.read().0 < EVENTS * part / 100 {
                std::thread::sleep(Duration::from_micros(200));
            }
            handle.stop.store(true, Ordering::Relaxed);
        });
        let summary = summary.unwrap();
        assert!(summary.ledger.holds());
        let status = &why::statuses(&job).unwrap()[0];
        let tick = status.committed.unwrap_or(u64::MAX);
        assert_eq!(
            status.state,
            if tick == u64::MAX { "ended" } else { "stopped" }
        );
        assert_eq!(summary.stopped, tick != u64::MAX);
        stopped_midway += usize::from(summary.stopped);
        let found = outcome(&place, &name);
        same(&found, &before(&whole, tick), &format!("stopped at {tick}"));
        let consumed = consume(&place.path(&format!("{name}topics")), &Reading::default());
        agree(&consumed, &found.tables);
        assert_eq!(consumed.open.len() as u64, summary.visits[5]);
    }
    assert!(stopped_midway > 0);
}

#[test]
fn a_job_that_is_killed_leaves_whole_versions_of_whole_visits_and_whole_ticks() {
    let place = Place::new();
    place.shop(60_000, 12, 4, Limits::default());
    run::run(
        Options::of(place.job("whole-", "log-to-files", &["workers=2"])),
        |_| (),
    )
    .unwrap();
    let whole = outcome(&place, "whole-");

    for (number, versions) in [0, 1, 3].into_iter().enumerate() {
        let name = format!("{number}-");
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command
            .arg("run")
            .arg(root("examples/jobs/log-to-files.toml"));
        for setting in place
            .settings(&name)
            .iter()
            .map(|s| &s[..])
            .chain(["workers=2", "outputs.file_size=1kB"])
        {
            command.args(["--set", setting]);
        }
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let table = place
            .path(&format!("{name}files"))
            .join("identified/visits");
        let other = place
            .path(&format!("{name}files"))
            .join("identified/measurements");
        // Both tables are there, and as many versions.
        while child.try_wait().unwrap().is_none() {
            let version = Table::open(&table)
                .and_then(|visits| Ok(visits.version().min(Table::open(&other)?.version())));
            if version.is_ok_and(|version| version >= versions) {
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = child.kill();
        child.wait().unwrap();

        let log = place.path(&format!("{name}topics"));
        for (topic_name, expected) in &whole.topics {
            // Of each partition, all up to some tick.
            let found = topic(&log, topic_name);
            for said in found.chunk_by(|a, b| a.partition == b.partition) {
                let last = said[said.len() - 1].tick;
                let of = |key: &[u8]| {
                    visitflow_schemas::shard::Shard::of(key).partition(16) == said[0].partition
                };
                let due = expected
                    .iter()
                    .filter(|s| s.tick <= last && *topic_name != "rejected" && of(&s.key));
                let mut due: Vec<_> = due.map(|s| (s.tick, &s.key, &s.value)).collect();
                let mut said: Vec<_> = said.iter().map(|s| (s.tick, &s.key, &s.value)).collect();
                due.sort();
                said.sort();
                assert!(*topic_name == "rejected" || due == said, "{topic_name}");
            }
        }
        // The two tables are two commits: a kill may come between them, so each is looked at alone.
        let visits = crate::outputs::files(&table);
        let rows: usize = visits
            .iter()
            .flatten()
            .map(arrow_array::RecordBatch::num_rows)
            .sum();
        let mut seen = std::collections::BTreeMap::<String, usize>::new();
        for batch in crate::outputs::files(&other).iter().flatten() {
            for row in 0..batch.num_rows() {
                *seen
                    .entry(crate::outputs::text(batch, "visit_id", row).unwrap())
                    .or_default() += 1;
            }
        }
        assert!(seen.len() >= rows, "measurements are committed first");
        for visit in &whole.tables.visits {
            if let Some(count) = seen.remove(&visit.visit_id) {
                assert_eq!(count as i64, visit.measurements, "a whole visit");
            }
        }
        assert!(seen.is_empty(), "no visit that is not the truth's");
        println!("killed with {rows} visits of {}", whole.tables.visits.len());
    }
}
