//! `visitflow demo`: a living shop in one command. Made visitors come, search, buy and leave; the
//! same job that would run in production tags their measurements and writes their visits; a view
//! shows it. Nothing here is simulated but the visitors.

mod facts;
mod traffic;
mod view;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::generate::{self, GenerateError};
use crate::job::{JobErrors, JobFile};
use crate::kafka::{Connection, KafkaError};
use crate::log::LogError;
use crate::run::{self, RunError, Summary, outputs};
use crate::wall;
use traffic::Destination;

/// How much of the past the shop opens with, in ms: visits are under way when the view appears. Not in
/// Kafka, whose brokers set the times of its log: there all of it would be late.
const PAST: i64 = 90_000;

/// Why there is no demo, or no more.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum DemoError {
    #[error("cannot make the folder {}: {source}", dir.display())]
    Folder { dir: PathBuf, source: io::Error },
    #[error("the folder {} holds a demo already; name another, or none", .0.display())]
    Used(PathBuf),
    #[error(transparent)]
    Job(#[from] JobErrors),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    #[error("the shop: {0}")]
    Shop(#[from] GenerateError),
    #[error("the view: {0}")]
    View(#[from] io::Error),
}

/// How to show it.
#[derive(Clone, Debug)]
pub struct Options {
    /// Threads that work; as many as there are cores if `None`.
    pub workers: Option<usize>,
    /// After how long it ends by itself.
    pub time: Option<Duration>,
    /// Where its log and tables go; a new folder among the temporary files if `None`.
    pub dir: Option<PathBuf>,
    /// The brokers of a Kafka for the shop's topic and the job's; the embedded log if `None`.
    pub kafka: Option<String>,
    /// Where its page is served, `HOST:PORT`.
    pub address: String,
    /// Measurements a second, on average.
    pub rate: u32,
    /// Lines instead of a screen.
    pub plain: bool,
}

/// The demo's job: that of `examples/jobs/live.toml`, with visits short enough to be seen ending.
fn job_text(dir: &Path, name: &str, options: &Options) -> String {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    let quoted = |path: PathBuf| text(&path.display().to_string());
    let (source, outputs, state) = match &options.kafka {
        None => (
            format!("log = {}\n", quoted(dir.join("log"))),
            format!("log = {}\n", quoted(dir.join("topics"))),
            String::new(),
        ),
        Some(brokers) => (
            format!("kafka = {}\ntopic = '{}'\n", text(brokers), topic(name)),
            format!("kafka = {}\n", text(brokers)),
            format!("[state]\ndir = {}\n", quoted(dir.join("state"))),
        ),
    };
    let workers = options
        .workers
        .map_or(String::new(), |n| format!("workers = {n}\n"));
    format!(
        "name = '{name}'\n{workers}\
         [source]\n{source}follow = true\n[schemas]\nstore = {}\n\
         [visits]\ninactivity = '30s'\nmax_length = '2min'\nmax_size = 5_000\nmax_delay = '3s'\n\
         [time]\nmax_lag = '1s'\n\
         [outputs]\n{outputs}files = {}\nfile_age = '15s'\n{state}\
         [enrich]\ngeoip = {}\n[serve]\naddress = {}\n{}",
        quoted(schemas(dir)),
        quoted(dir.join("tables")),
        quoted(countries(dir)),
        text(&options.address),
        views(),
    )
}

/// The views of `examples/jobs/shop.toml`, each moving on every two seconds.
fn views() -> String {
    let text = include_str!("../../examples/jobs/shop.toml");
    let views = text.find("[[view]]").map_or("", |at| &text[at..]);
    let step = |line: &str| match line.starts_with("step = ") {
        true => "step = '2s'\n".to_owned(),
        false => format!("{line}\n"),
    };
    views.lines().map(step).collect()
}

/// The schemas of the shop's measurements.
fn schemas(dir: &Path) -> PathBuf {
    dir.join("log/schemas")
}

/// Where the shop's visitors are.
fn countries(dir: &Path) -> PathBuf {
    dir.join("countries.mmdb")
}

/// The shop's topic in Kafka.
fn topic(name: &str) -> String {
    format!("{name}-measurements")
}

/// Shows the demo until it is left; prints where everything is.
pub fn demo(options: &Options) -> Result<(), DemoError> {
    let dir = match &options.dir {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir().join(format!("visitflow-demo-{}", wall::now())),
    };
    if dir.join("log").exists() {
        return Err(DemoError::Used(dir));
    }
    std::fs::create_dir_all(&dir).map_err(|source| DemoError::Folder {
        dir: dir.clone(),
        source,
    })?;
    let stop = Arc::new(AtomicBool::new(false));
    let signalled = stop.clone();
    let _ = ctrlc::set_handler(move || signalled.store(true, Ordering::Relaxed));
    // In Kafka nothing is replaced: each demo has topics of its own.
    let (name, past) = match options.kafka {
        None => ("demo".to_owned(), PAST),
        Some(_) => (format!("demo-{}", wall::now()), 0),
    };
    let to = match &options.kafka {
        None => Destination::log(&dir.join("log"), "measurements")?,
        Some(brokers) => Destination::kafka(&Connection::to(brokers), &topic(&name), &stop)?,
    };
    let traffic = traffic::open(to, &schemas(&dir), options.rate, wall::now() - past)?;
    let text = job_text(&dir, &name, options);
    let path = dir.join("demo.toml");
    let written = std::fs::write(countries(&dir), generate::countries());
    let written = written.and_then(|()| std::fs::write(&path, &text));
    written.map_err(|source| DemoError::Folder {
        dir: dir.clone(),
        source,
    })?;
    let job = JobFile::parse(&text, &path, &[])?.job;
    let rules = run::rules(&job);

    let shop = traffic.start(stop.clone());
    let plain = options.plain || !io::stdout().is_terminal();
    let until = options.time.map(|time| Instant::now() + time);
    let (failed, seen) = std::sync::mpsc::channel();
    let (shown, view_stop) = (job.clone(), stop.clone());
    let topics = match &options.kafka {
        None => dir.join("topics").display().to_string(),
        Some(brokers) => {
            let names = crate::sink::kafka::topics(&job);
            format!(
                "{}, {} in Kafka at {brokers}",
                topic(&name),
                names.join(", ")
            )
        }
    };
    let result = run::run(run::Options::of(job), move |handle| {
        let mut facts = facts::Facts::new(shown, rules, handle.clone(), until);
        let view = if plain {
            view::lines(&mut facts, &view_stop)
        } else {
            view::screen(&mut facts, &view_stop)
        };
        if let Err(error) = view {
            let _ = failed.send(error);
        }
        view_stop.store(true, Ordering::Relaxed);
        handle.stop.store(true, Ordering::Relaxed);
    });
    stop.store(true, Ordering::Relaxed);
    let shop = shop.join();
    let summary = result?;
    if let Ok(made) = shop {
        made?;
    }
    if let Ok(error) = seen.try_recv() {
        return Err(error.into());
    }
    farewell(&dir, &topics, &summary)?;
    Ok(())
}

/// Says where everything is, and what can be asked.
fn farewell(dir: &Path, topics: &str, summary: &Summary) -> io::Result<()> {
    let tables = outputs::identified(&dir.join("tables"));
    let mut out = io::stdout().lock();
    writeln!(out, "{summary}\n")?;
    writeln!(out, "tables: {} (Delta)", tables.display())?;
    writeln!(out, "topics: {topics}")?;
    writeln!(
        out,
        "\nIn DuckDB:\n  \
         SELECT agent, end_reason, count(*) AS visits, round(avg(measurements), 1) AS measurements,\n         \
         round(avg(epoch(last_seen - started)), 1) AS seconds\n  \
         FROM read_parquet('{}/visits/*.parquet') GROUP BY ALL ORDER BY visits DESC;\n",
        tables.display()
    )?;
    writeln!(
        out,
        "Or here:\n  visitflow show {}/visits --limit 3",
        tables.display()
    )
}
