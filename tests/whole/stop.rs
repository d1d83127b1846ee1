//! A job that is stopped, or killed, at any moment: what was committed is whole.

use std::process::{Command, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use visitflow::generate::Limits;
use visitflow::job::{Job, JobFile, Override};
use visitflow::run::{self, Options};
use visitflow::table::Table;
use visitflow::why;
use visitflow_dataflows::ledger::Entry;

use crate::outputs::{Reading, agree, consume, tables, topic};
use crate::partitions::{made, steady};
use crate::place::{Place, free_hosts, root};
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
    println!("{stopped_midway} of 8 stopped midway");
    assert!(stopped_midway > 0);
}

#[test]
fn a_job_can_be_stopped_when_its_first_worker_has_nothing_left_to_read() {
    let place = Place::new();
    made(&place, &[3, 3_000, 3_000], |_, number| steady(number));
    // It may be at its end before it hears of the stop; not each time.
    let stopped_midway = (0..20).any(|attempt| {
        let name = format!("{attempt}-");
        let settings = ["workers=3", "outputs.file_size=1kB"];
        let mut options = Options::of(place.job(&name, "log-to-files", &settings));
        (options.step_records, options.budget) = (20, 10_000);
        let summary = run::run(options, |handle| {
            // The first worker's partition is closed, the others are far from their ends.
            let read = |worker: usize| handle.metrics.sources[worker].lock().unwrap().clone();
            while !handle.ended() && (read(0).tick != u64::MAX || read(1).records < 300) {
                std::thread::yield_now();
            }
            handle.stop.store(true, Ordering::Relaxed);
        });
        let summary = summary.unwrap();
        let tables = tables(&place.path(&format!("{name}files")));
        let log = place.path(&format!("{name}topics"));
        agree(&consume(&log, &Reading::default()), &tables);
        assert!(summary.stopped || summary.ledger.of(Entry::In) == 6_003);
        summary.stopped && summary.ledger.of(Entry::In) < 6_003
    });
    assert!(stopped_midway);
}

#[test]
fn a_signal_to_one_of_two_processes_stops_both() {
    let place = Place::new();
    place.shop(3_000, 13, 4, Limits::default());
    let hosts = free_hosts();
    let settings = ["workers=1", "source.follow=true"];
    let processes = [0, 1].map(|process| place.process("", &settings, process, &hosts));
    until_all_is_read(&place.job("", "log-to-files", &settings), 3_000);
    let kill = ["-INT", &processes[1].id().to_string()];
    assert!(Command::new("kill").args(kill).status().unwrap().success());
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{text}");
        assert!(
            text.contains("stopped before the end of the input"),
            "{text}"
        );
    }
    let tables = tables(&place.path("files"));
    agree(
        &consume(&place.path("topics"), &Reading::default()),
        &tables,
    );
}

#[test]
fn when_one_of_two_processes_dies_or_fails_the_other_fails_too_and_says_so() {
    for dies in [true, false] {
        let place = Place::new();
        place.shop(3_000, 14, 4, Limits::default());
        let hosts = free_hosts();
        let settings = ["workers=1", "source.follow=true", "outputs.file_age=1s"];
        let first = place.process("", &settings, 0, &hosts);
        // Nobody has made the other folder, so the first file cannot be.
        let elsewhere = format!("outputs.files={}", place.path("elsewhere").display());
        let mut own = settings.to_vec();
        own.extend((!dies).then_some(&elsewhere[..]));
        let mut second = place.process("", &own, 1, &hosts);
        if dies {
            until_all_is_read(&place.job("", "log-to-files", &settings), 3_000);
            second.kill().unwrap();
        }
        let output = first.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains("error: the connection with another process of the job is lost"),
            "{text}"
        );
        let output = second.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(dies || text.contains("error: the table"), "{text}");
        consume(&place.path("topics"), &Reading::default());
    }
}

/// Waits until both processes of a job have said that they have read so much.
fn until_all_is_read(job: &Job, records: u64) {
    let read = || {
        Some(
            why::statuses(job)
                .ok()?
                .iter()
                .map(|status| status.counts[0])
                .sum::<u64>(),
        )
    };
    while read() != Some(records) {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Where the job is that is to be killed.
const TO_BE_KILLED: &str = "VISITFLOW_TEST_JOB_TO_BE_KILLED";

/// Run by the test below, in a process of its own: the job in small steps, so that there is a
/// middle in which to kill it.
#[test]
#[ignore = "is killed by another test"]
fn a_job_to_be_killed() {
    let Ok(settings) = std::env::var(TO_BE_KILLED) else {
        return;
    };
    let overrides: Vec<_> = settings.lines().map(Override::set).collect();
    let file = root("examples/jobs/log-to-files.toml");
    let mut options = Options::of(JobFile::load_to_start(&file, &overrides).unwrap().job);
    (options.step_records, options.budget) = (20, 10_000);
    run::run(options, |_| ()).unwrap();
}

#[test]
fn a_job_that_is_killed_leaves_whole_versions_of_whole_visits_and_whole_ticks() {
    let place = Place::new();
    place.shop(30_000, 12, 4, Limits::default());
    run::run(
        Options::of(place.job("whole-", "log-to-files", &["workers=2"])),
        |_| (),
    )
    .unwrap();
    let whole = outcome(&place, "whole-");

    for (number, versions) in [0, 1, 4].into_iter().enumerate() {
        let name = format!("{number}-");
        let settings = [
            place.settings(&name),
            vec!["workers=2".to_owned(), "outputs.file_size=1kB".to_owned()],
        ];
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["stop::a_job_to_be_killed", "--exact", "--ignored"])
            .env(TO_BE_KILLED, settings.concat().join("\n"))
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
