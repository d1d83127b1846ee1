//! The crate of a user's own fragment, `examples/fragment`: it builds against this one, its tests
//! hold, the guide shows its code as it is, and its program writes each message of its topic once, also
//! over several processes.

use std::fs;
use std::io::Read;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Map, Value};
use visitflow::generate::{self, Settings};
use visitflow::log::{Producer, Topic, WriterOptions};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(path).unwrap()
}

/// The lines of a text without their indentation.
fn lines(text: &str) -> Vec<&str> {
    text.lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect()
}

#[test]
fn the_guide_shows_the_example_as_it_is() {
    let parts = ["src/lib.rs", "src/main.rs", "tests/by_hand.rs"];
    let code = parts.map(|part| read(&format!("examples/fragment/{part}")));
    let guide = read("docs/fragments.md");
    let blocks = guide.split("```rust\n").skip(1);
    let blocks = blocks.map(|block| block.split("```").next().unwrap());
    let mut shown = 0;
    for block in blocks {
        let block = lines(block);
        let is_there = |code: &String| lines(code).windows(block.len()).any(|part| part == block);
        assert!(
            code.iter().any(is_there),
            "not in the example:\n{}",
            block.join("\n")
        );
        shown += 1;
    }
    assert!(shown >= 6, "{shown} blocks");
}

/// What cargo makes of the example, with the target folder of this build, so that what both need is there.
/// Where that folder is.
fn cargo(command: &str) -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let target = deps.ancestors().nth(3).unwrap();
    let output = Command::new(env!("CARGO"))
        .args([command, "--locked", "--manifest-path"])
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/fragment/Cargo.toml"))
        .env("CARGO_TARGET_DIR", target)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    target.to_owned()
}

#[test]
fn the_example_builds_and_its_tests_hold() {
    cargo("test");
}

/// A log of a shop's hours, and the example's program beside it.
struct Place {
    dir: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        let topic = Topic::create(&log, "measurements", 4).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        let settings = Settings {
            events: 60_000,
            seed: 3,
            ..Settings::default()
        };
        let options = generate::Options {
            settings: settings.per_second(3),
            schemas: Some(log.join("schemas")),
            ..Default::default()
        };
        generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
        producer.close().unwrap();
        let program = cargo("build").join("debug/abandoned-carts");
        Place { dir, program }
    }

    /// A process of a job, which may be told to die somewhere.
    fn start(&self, job: &str, args: &[&str], crash: Option<&str>) -> Running {
        let text = format!(
            "name = '{job}'\n[source]\nlog = 'log'\n[outputs]\nlog = '{job}'\npartitions = 4\n\
             [state]\ndir = '{job}-state'\nsnapshots = '100ms'\n"
        );
        let file = format!("{job}.toml");
        // Another process of the job may read it at this moment.
        let path = self.dir.path().join(&file);
        if !path.exists() {
            fs::write(path, text).unwrap();
        }
        let mut command = Command::new(&self.program);
        command.arg("run").arg(file).args(args);
        command.envs(crash.map(|crash| ("VISITFLOW_CRASH", crash)));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        Running(command.spawn().unwrap())
    }

    /// Both processes of a job, the first of which may be told to die somewhere.
    fn start_two(&self, job: &str, workers: &str, crash: Option<&str>) -> [Running; 2] {
        let free = || TcpListener::bind("127.0.0.1:0").unwrap();
        let hosts = [free(), free()].map(|free| free.local_addr().unwrap().to_string());
        let hosts = hosts.join(",");
        let of = ["--of", "2", "--hosts", &hosts, "--workers", workers];
        let process = |n, crash| self.start(job, &[&["--process", n], &of[..]].concat(), crash);
        [process("0", crash), process("1", None)]
    }

    /// The lines of the job's further topic, in an order of their own: partition, tick, browser and cart.
    fn abandoned(&self, job: &str) -> Vec<String> {
        let mut command = Command::new(&self.program);
        command.args(["show", job, "--topic", "abandoned"]);
        let shown = command.current_dir(self.dir.path()).output().unwrap();
        assert!(shown.status.success(), "{shown:?}");
        let shown = String::from_utf8(shown.stdout).unwrap();
        let line = |line: &str| {
            let mut line: Map<String, Value> = serde_json::from_str(line).unwrap();
            // When it was written, and behind which others.
            line.remove("log_time").unwrap();
            line.remove("offset").unwrap();
            Value::from(line).to_string()
        };
        let mut lines: Vec<String> = shown.lines().map(line).collect();
        lines.sort();
        lines
    }
}

/// A process that is killed when a test is over.
struct Running(Child);

impl Running {
    /// Waits until it has ended; what it has said if that was not well.
    fn end(&mut self) -> Result<(), String> {
        let mut said = String::new();
        self.0
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut said)
            .unwrap();
        let status = self.0.wait().unwrap();
        if status.success() { Ok(()) } else { Err(said) }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_further_topic_has_each_message_once_over_two_processes_through_two_kills() {
    let place = Place::new();
    let mut alone = place.start("alone", &["--workers", "1"], None);
    alone.end().unwrap();
    let expected = place.abandoned("alone");
    assert!(!expected.is_empty());
    assert!(expected.windows(2).all(|two| two[0] != two[1]));

    // How much is written by then depends on the machine.
    let mut before = vec![0];
    for workers in ["1", "2"] {
        let [mut dying, other] = place.start_two("two", workers, Some("topics-committed:1"));
        let said = dying.end().unwrap_err();
        assert!(said.contains("crash: at topics-committed"), "{said}");
        drop(other);
        before.push(place.abandoned("two").len());
    }
    println!("{before:?} of {} when it was killed", expected.len());
    assert!(before.is_sorted(), "{before:?}");
    let mut last = place.start("two", &["--workers", "3"], None);
    last.end().unwrap();
    assert_eq!(place.abandoned("two"), expected);
}
