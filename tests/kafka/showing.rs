//! `visitflow show` of a job's topics: the same lines from Kafka as from the embedded log.

use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use rdkafka::producer::Producer;
use serde_json::{Map, Value};

use crate::broker::{broker, producer, write};

fn visitflow(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_visitflow"))
        .current_dir(dir)
        .args(args)
        .output()
        .unwrap()
}

#[track_caller]
fn well(dir: &Path, args: &[&str]) -> String {
    let output = visitflow(dir, args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The records of a topic of a job.
fn shown(dir: &Path, job: &str, more: &[&str]) -> Vec<Map<String, Value>> {
    let lines = well(dir, &[&["show", job, "--topic"], more].concat());
    let lines = lines.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().unwrap()
}

#[test]
fn a_job_s_topics_in_kafka_are_shown_as_those_in_the_log() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let generate = [
        "generate",
        "--log",
        "log",
        "--events",
        "2000",
        "--partitions",
        "2",
    ];
    well(dir, &generate);
    let job = |name: &str, outputs: &str| {
        let text = format!(
            "name = \"{name}\"\nworkers = 1\n[source]\nlog = \"log\"\n\
             [outputs]\npartitions = 2\n{outputs}\n[state]\ndir = \"{name}\"\n\
             [profiles]\nenabled = true\nretention = \"3660d\"\n"
        );
        let file = format!("{name}.toml");
        std::fs::write(dir.join(&file), text).unwrap();
        well(dir, &["run", &file]);
        file
    };
    let brokers = &connection.properties["bootstrap.servers"];
    let logged = job("logged", "log = \"results\"");
    let shop = job("shop", &format!("kafka = \"{brokers}\""));

    for topic in ["tagged", "lifecycle", "late", "rejected"] {
        let lines = |job: &str| {
            let mut lines: Vec<String> = Vec::new();
            for mut line in shown(dir, job, &[topic]) {
                let time = line.remove("log_time").unwrap();
                assert!(
                    time.as_str().is_some_and(|time| time.ends_with('Z')),
                    "{time}"
                );
                // Ends of transactions have offsets too.
                assert!(line.remove("offset").unwrap().is_u64());
                lines.push(Value::from(line).to_string());
            }
            lines.sort();
            lines
        };
        let (in_log, in_kafka) = (lines(&logged), lines(&shop));
        assert!(topic == "late" || !in_log.is_empty(), "{topic}");
        assert_eq!(in_kafka, in_log, "{topic}");
        let is_named = |line: &String| line.contains("visitflow.CustomerNamed");
        assert_eq!(topic == "lifecycle", in_kafka.iter().any(is_named));
    }
    // What the job reads, by its name.
    assert!(shown(dir, &shop, &["measurements"]).len() > 1_000);

    // A transaction that somebody has left open hides what is in it, and ends nothing.
    let before = shown(dir, &shop, &["shop-tagged", "--partition", "1"]);
    let open = producer(&connection, Some("showing"));
    open.begin_transaction().unwrap();
    write(&open, "shop-tagged", 1, ["never"]);
    let partition = ["shop-tagged", "--partition", "1"];
    assert_eq!(shown(dir, &shop, &partition), before);
    open.abort_transaction(Duration::from_secs(60)).unwrap();
    assert_eq!(shown(dir, &shop, &partition), before);
    let some = [&partition[..], &["--limit", "3"]].concat();
    assert_eq!(shown(dir, &shop, &some), before[..3]);

    // What is no message is shown too, with what it is.
    write(
        &producer(&connection, None),
        "shop-tagged",
        1,
        ["no message"],
    );
    let last = shown(dir, &shop, &partition).pop().unwrap();
    assert_eq!(last["key"], "key");
    assert_eq!(last["bytes"], "6e6f206d657373616765");
    assert!(last.contains_key("problem"), "{last:?}");

    let wrong = visitflow(
        dir,
        &["show", &shop, "--topic", "tagged", "--partition", "7"],
    );
    let said = String::from_utf8_lossy(&wrong.stderr);
    let expected = "error: the topic shop-tagged has the partitions 0 to 1, expected one of them rather than 7";
    assert!(said.starts_with(expected), "{said}");
}
