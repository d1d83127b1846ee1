//! Where a test's log and outputs are, and its job.

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use visitflow::generate::{self, Limits, Settings, Truth};
use visitflow::job::{Job, JobFile, Override};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::run::{self, Options, Summary};

/// A folder with `log`, `topics` and `files`, gone when it is dropped.
pub struct Place(tempfile::TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The settings of a job that reads `log`, as `--set` takes them; outputs have `name` in front.
    pub fn settings(&self, name: &str) -> Vec<String> {
        let place = |setting: &str, dir: &str| format!("{setting}={}", self.path(dir).display());
        vec![
            place("source.log", "log"),
            place("outputs.log", &format!("{name}topics")),
            place("outputs.files", &format!("{name}files")),
        ]
    }

    /// A job by an example's file, and these settings.
    pub fn job(&self, name: &str, example: &str, settings: &[&str]) -> Job {
        let mut all = self.settings(name);
        all.extend(settings.iter().map(|setting| (*setting).to_owned()));
        let overrides: Vec<Override> = all.iter().map(|setting| Override::set(setting)).collect();
        let file = root(&format!("examples/jobs/{example}.toml"));
        JobFile::load_to_start(&file, &overrides)
            .unwrap_or_else(|errors| panic!("{errors}"))
            .job
    }

    /// One of two processes of the program that run `log-to-files`.
    pub fn process(&self, name: &str, settings: &[&str], process: usize, hosts: &str) -> Child {
        let mut command = Command::new(env!("CARGO_BIN_EXE_visitflow"));
        command
            .arg("run")
            .arg(root("examples/jobs/log-to-files.toml"));
        let own = self.settings(name);
        for setting in own.iter().map(|s| &s[..]).chain(settings.iter().copied()) {
            command.args(["--set", setting]);
        }
        command.args([
            "--process",
            &process.to_string(),
            "--of",
            "2",
            "--hosts",
            hosts,
        ]);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// A made shop in `log`.
    pub fn shop(&self, events: u64, seed: u64, partitions: u32, limits: Limits) -> Truth {
        let settings = Settings {
            events,
            seed,
            partitions,
            limits,
            ..Settings::default()
        };
        let options = generate::Options {
            settings,
            truth: Some(self.path("log/truth")),
            tags: false,
            schemas: Some(self.path("log/schemas")),
        };
        let topic = Topic::create(self.path("log"), "measurements", partitions).unwrap();
        let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
        let truth = generate::generate(&options, &mut producer, &mut |_| ()).unwrap();
        producer.close().unwrap();
        truth
    }
}

/// Addresses for two processes, whose ports were free a moment ago.
pub fn free_hosts() -> String {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let hosts = [free(), free()].map(|listener| listener.local_addr().unwrap().to_string());
    hosts.join(",")
}

/// A path of the repository.
pub fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a job to its end.
pub fn run(job: Job) -> Summary {
    run::run(Options::of(job), |_| ()).unwrap()
}
