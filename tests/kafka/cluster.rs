//! Brokers that `scripts/kafka` runs for a test program: where they are, and what is done to them.
//! They end with this, or with the program.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A cluster on loopback.
pub struct Cluster {
    dir: tempfile::TempDir,
    said: BTreeMap<String, String>,
    /// Ends the brokers when it ends, as it does with this program.
    script: Child,
}

impl Cluster {
    /// Starts one with these options of `scripts/kafka start`; none where Kafka cannot be had, which
    /// is said. `last` is the key of the last line that it prints.
    pub fn start(options: &[&str], last: &str) -> Option<Cluster> {
        let dir = tempfile::tempdir().unwrap();
        let mut script = script("start")
            .arg("--foreground")
            .args(options)
            .arg("--dir")
            .arg(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("scripts/kafka can be started");
        let lines = BufReader::new(script.stdout.take().unwrap()).lines();
        let mut said = BTreeMap::new();
        for line in lines.map_while(Result::ok) {
            let (key, value) = line.split_once('=').expect("lines are key=value");
            said.insert(key.to_owned(), value.to_owned());
            if key == last {
                return Some(Cluster { dir, said, script });
            }
        }
        let code = script.wait().unwrap().code();
        assert_eq!(code, Some(3), "scripts/kafka start failed");
        eprintln!("SKIPPED: tests of Kafka, since no Kafka can be had here");
        None
    }

    /// What the script printed under a key.
    pub fn said(&self, key: &str) -> &str {
        &self.said[key]
    }

    /// Whether a command of the script does well.
    pub fn does(&self, command: &str, options: &[&str]) -> bool {
        let mut script = script(command);
        script.args(options).arg("--dir").arg(self.dir.path());
        script.status().is_ok_and(|status| status.success())
    }

    /// Runs a command of the script.
    #[track_caller]
    pub fn run(&self, command: &str, options: &[&str]) {
        assert!(self.does(command, options), "{command} {options:?}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // First, so that nobody writes into the folder any more.
        self.does("kill", &[]);
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

fn script(command: &str) -> Command {
    let mut script = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/kafka"));
    script.arg(command);
    script
}
