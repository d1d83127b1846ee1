//! Customers who are named, on the topic `lifecycle` in Kafka: each (visit, customer) is said once in
//! what is committed, with what the tables say of the customer, although the job was killed while it
//! wrote and has gone on with other workers.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use visitflow::kafka::Options;
use visitflow_schemas::records::Lifecycle;

use crate::broker::{Broker, broker, read_all};
use crate::named::Customers;
use crate::outputs::tables;
use crate::twins::shop;

/// The signal of a process that a crash point has ended.
const ABORTED: i32 = 6;

/// What is committed of the topic, partition by partition.
fn lifecycle(broker: &Broker) -> Vec<Vec<u8>> {
    let partitions: Vec<(i32, i64)> = (0..4).map(|n| (n, 0)).collect();
    let connection = broker.connection();
    let options = Options::default();
    let (_consumer, mut readers) =
        crate::broker::open(&connection, "named-lifecycle", &partitions, options);
    readers.iter_mut().flat_map(read_all).collect()
}

#[test]
fn customers_are_named_once_through_two_kills() {
    let Some(broker) = broker() else { return };
    let bootstrap = broker.connection().properties["bootstrap.servers"].clone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let truth = shop(dir, 120_000);
    let text = format!(
        "name = 'named'\n[source]\nlog = 'log'\n\
         [outputs]\nfiles = 'tables'\nfile_size = '10kB'\nkafka = '{bootstrap}'\npartitions = 4\n\
         [state]\ndir = 'state'\nsnapshots = '100ms'\n\
         [profiles]\nenabled = true\nretention = '3660d'\n",
    );
    fs::write(dir.join("job.toml"), text).unwrap();
    let run = |workers: &str, crash: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command.args(["run", "job.toml", "--workers", workers]);
        command.envs(crash.map(|crash| ("VISITFLOW_CRASH", crash)));
        command.current_dir(dir).stdin(Stdio::null());
        command.output().unwrap()
    };
    let said = || {
        let is_named = |message: &Vec<u8>| {
            matches!(Lifecycle::decode_message(message), Ok(Lifecycle::Named(_)))
        };
        lifecycle(&broker)
            .iter()
            .filter(|message| is_named(message))
            .count()
    };
    // How much is in a transaction depends on the machine; but each worker has one at least.
    let mut before = Vec::new();
    for (workers, crash) in [("2", "topics-commit:2"), ("3", "topics-committed:2")] {
        let died = run(workers, Some(crash));
        assert_eq!(died.status.signal(), Some(ABORTED), "{died:?}");
        before.push(said());
    }
    let ended = run("1", None);
    assert!(ended.status.success(), "{ended:?}");
    let tables = tables(&dir.join("tables"));
    assert_eq!(tables.visits.len(), truth.visits.len());
    let told = Customers::of(&tables).hold(lifecycle(&broker));
    let all = told.named;
    assert!(
        0 < told.known && told.known < all,
        "{} of {all}",
        told.known
    );
    assert!(before.is_sorted() && before[1] <= all, "{before:?}, {all}");
    println!("{before:?} of {all} were named when the job was killed");
}
