//! Customers who are named, on the topic `lifecycle` in Kafka: each (visit, customer) is said once in
//! what is committed, with what the tables say of the customer, although the job was killed while it
//! wrote and has gone on with other workers.

use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};

use crate::broker::broker;
use crate::named::{
    by_customer, by_visit, each_customer_of_a_visit_is_said_once, lifecycle, rows, shop,
};

/// The signal of a process that a crash point has ended.
const ABORTED: i32 = 6;

#[test]
fn customers_are_named_once_through_two_kills() {
    let Some(broker) = broker() else { return };
    let bootstrap = broker.connection().properties["bootstrap.servers"].clone();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let visits = shop(&dir.join("log"), 120_000);
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
        let mut lines = lifecycle(dir, "job.toml");
        lines.retain(|line| line["schema"] == "visitflow.CustomerNamed");
        lines.len()
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
    assert_eq!(rows(dir, "visits").len(), visits);
    let by_visit = by_visit(dir);
    let all = each_customer_of_a_visit_is_said_once(
        dir,
        &lifecycle(dir, "job.toml"),
        &by_visit,
        &by_customer(&by_visit),
    );
    assert_eq!(all, said());
    assert!(before.is_sorted() && before[1] <= all, "{before:?}, {all}");
    println!("{before:?} of {all} were named when the job was killed");
}
