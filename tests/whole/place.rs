//! Where a test's log and outputs are, and its job.

use std::path::PathBuf;

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

/// A path of the repository.
pub fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Runs a job to its end.
pub fn run(job: Job) -> Summary {
    run::run(Options::of(job), |_| ()).unwrap()
}
