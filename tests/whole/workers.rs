//! The same outputs on any number of workers and processes, with any step, any budget, and with
//! shards dealt to workers in any way.

use visitflow::generate::Limits;
use visitflow::run::{self, Options};

use crate::outputs::{Said, Tables, tables, topic};
use crate::place::{Place, free_hosts};

const LIMITS: Limits = Limits {
    inactivity: 20 * 60_000,
    max_length: 2 * 3_600_000,
    max_size: 100,
    max_delay: 30_000,
    max_ahead: 5 * 60_000,
    max_record: 1_000_000,
};
const SETTINGS: [&str; 4] = [
    "visits.inactivity=20min",
    "visits.max_length=2h",
    "visits.max_size=100",
    "visits.max_delay=30s",
];

/// All that a job says, in a form that does not depend on who said it: each browser's messages in
/// their order, each table's rows.
#[derive(PartialEq)]
pub struct Outcome {
    pub topics: Vec<(&'static str, Vec<Said>)>,
    pub tables: Tables,
}

pub fn outcome(place: &Place, name: &str) -> Outcome {
    let log = place.path(&format!("{name}topics"));
    let read = |topic_name: &'static str| {
        let mut all = topic(&log, topic_name);
        all.iter_mut().for_each(|said| said.partition = 0);
        match topic_name {
            // They have no browser, and so no order.
            "rejected" => all.sort(),
            _ => all.sort_by(|a, b| a.key.cmp(&b.key)),
        }
        (topic_name, all)
    };
    let topics = run::outputs::TOPICS.map(read).to_vec();
    Outcome {
        topics,
        tables: tables(&place.path(&format!("{name}files"))),
    }
}

/// Says what differs rather than print all of both.
pub fn same(found: &Outcome, expected: &Outcome, what: &str) {
    for ((name, found), (_, expected)) in found.topics.iter().zip(&expected.topics) {
        let first = found.iter().zip(expected).find(|(a, b)| a != b);
        assert!(first.is_none(), "{what}: {name}: {first:?}");
        assert_eq!(found.len(), expected.len(), "{what}: {name}");
    }
    assert!(found.tables == expected.tables, "{what}: tables");
}

/// Runs a job in two processes of the program.
fn in_two_processes(place: &Place, name: &str, settings: &[&str]) {
    let hosts = free_hosts();
    let processes = [0, 1].map(|process| place.process(name, settings, process, &hosts));
    for process in processes {
        let output = process.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{text}");
    }
}

fn the_outputs_of_a_log_of(partitions: u32) {
    let place = Place::new();
    let truth = place.shop(8_000, partitions.into(), partitions, LIMITS);
    let run = |name: &str, settings: &[&str], change: &dyn Fn(&mut Options)| {
        let settings = [&SETTINGS[..], settings].concat();
        let mut options = Options::of(place.job(name, "log-to-files", &settings));
        change(&mut options);
        run::run(options, |_| ()).unwrap();
        outcome(&place, name)
    };
    let one = run("one-", &["workers=1"], &|_| ());
    assert_eq!(one.tables.visits.len(), truth.visits.len());
    assert_eq!(one.topics[0].1.len() as u64, truth.tagged);

    same(&run("two-", &["workers=2"], &|_| ()), &one, "two workers");
    same(
        &run("three-", &["workers=3"], &|o| o.step_records = 100),
        &one,
        "three workers, steps of 100",
    );
    same(
        &run("tick-", &["workers=2"], &|o| o.step_records = 1),
        &one,
        "every tick a step of its own",
    );
    same(
        &run("all-", &["workers=1"], &|o| o.step_records = usize::MAX),
        &one,
        "all in one step",
    );
    let small = |o: &mut Options| (o.budget, o.step_records) = (20_000, 50);
    same(
        &run("budget-", &["workers=2"], &small),
        &one,
        "a budget of 20 kB",
    );
    same(
        &run("dealt-", &["workers=3", "outputs.partitions=4"], &|_| ()),
        &one,
        "shards dealt otherwise",
    );
    // Many files a table, and many versions.
    same(
        &run("files-", &["workers=2", "outputs.file_size=1kB"], &small),
        &one,
        "files of 1 kB",
    );
    in_two_processes(
        &place,
        "processes-",
        &[&SETTINGS[..], &["workers=1"]].concat(),
    );
    same(&outcome(&place, "processes-"), &one, "two processes");
    in_two_processes(&place, "four-", &[&SETTINGS[..], &["workers=2"]].concat());
    same(
        &outcome(&place, "four-"),
        &one,
        "two processes of two workers",
    );
}

#[test]
fn the_outputs_of_one_partition_are_the_same_however_they_are_made() {
    the_outputs_of_a_log_of(1);
}

#[test]
fn the_outputs_of_three_partitions_are_the_same_however_they_are_made() {
    the_outputs_of_a_log_of(3);
}

#[test]
fn the_outputs_of_four_partitions_are_the_same_however_they_are_made() {
    the_outputs_of_a_log_of(4);
}

#[test]
fn the_outputs_of_eight_partitions_are_the_same_however_they_are_made() {
    the_outputs_of_a_log_of(8);
}
