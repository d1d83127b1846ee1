//! Runs a job: from a log to tagged topics and tables of whole visits.
//!
//! [`run`] checks everything first, then starts the workers and waits. It ends when the source is
//! read to its end (unless it is followed), when it is asked to stop, or when something goes
//! wrong; whatever was committed until then stays and is whole.

mod account;
mod asking;
mod connect;
mod customers;
mod dataflow;
mod failure;
mod fragments;
pub mod input;
mod journaling;
pub mod journals;
mod measurements;
pub mod metrics;
pub mod outputs;
pub mod progress;
mod recover;
pub mod request;
mod showing;
mod snapshots;
pub mod status;
mod timed;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use thiserror::Error;
use timely::communication::Config;
use visitflow_dataflows::batch::worker_of;
use visitflow_dataflows::enrich::{
    Agents, BUILT_IN_REGEXES, BUILT_IN_ROBOTS, Countries, EnrichError, Enrichment,
};
use visitflow_dataflows::extension::Extension;
use visitflow_dataflows::ledger::{Entry, Ledger};
use visitflow_dataflows::profiles::ProfileError;
use visitflow_dataflows::views::STEP;
use visitflow_dataflows::visit::Rules;
use visitflow_schemas::columns::ColumnsError;
use visitflow_schemas::measurement::MEASUREMENT;
use visitflow_schemas::resolve::resolve;
use visitflow_schemas::roles::{Overrides, Roles, RolesError};
use visitflow_schemas::schema::{Schema, SchemaError};
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};

use crate::disk;
use crate::job::Job;
use crate::log::LogError;
use crate::recovery::RecoveryError;
use crate::serve::access::Access;
use crate::serve::{self, ServeError, Served, Site};
use crate::shelf::ShelfError;
use crate::sink::SinkError;
use crate::snapshot::rows::State;
use crate::source::{Growing, STEP_RECORDS, SourceError};
use crate::table::TableError;
use connect::Connections;
pub use connect::{ConnectError, Shape};
pub use failure::Failure;
use input::Input;
use journaling::Journaling;
use metrics::Metrics;
use recover::Recovery;
pub use snapshots::Syncing;
use snapshots::Writing;

/// Why a run did not start, or did not end well.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum RunError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    #[error(transparent)]
    Serve(#[from] ServeError),
    #[error("the profiles of customers: {0}")]
    Shelf(#[from] ShelfError),
    #[error("the profiles of customers: {0}")]
    Profile(#[from] ProfileError),
    #[error(
        "the Kafka topic {topic} takes at most {found} bytes a message; expected {needed} (limits.max_record and \
         what a tag adds): set its max.message.bytes"
    )]
    SmallTopic {
        topic: String,
        found: u64,
        needed: u64,
    },
    #[error(
        "the Kafka topic {topic} has message.timestamp.type=CreateTime: its times are those of whoever sent a record, \
         which say nothing about the log. Set it to LogAppendTime (kafka-configs --alter --topic {topic} --add-config \
         message.timestamp.type=LogAppendTime), or take source.clock=event_time"
    )]
    CreateTime { topic: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the job's schema {path}: {source}")]
    Schema { path: PathBuf, source: SchemaError },
    #[error("the job's schema {name}: {source}")]
    Roles { name: String, source: RolesError },
    #[error("the job's schema cannot become columns: {0}")]
    Columns(ColumnsError),
    #[error("{setting} {}: {source}", path.display())]
    Enrich {
        setting: &'static str,
        path: PathBuf,
        source: EnrichError,
    },
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error(
        "the {what} {} holds results of an earlier run already; name other outputs, or replace \
         them with --set outputs.replace=true",
        path.display()
    )]
    OutputsExist { what: &'static str, path: PathBuf },
    #[error("the topic {} has {found} partitions, expected {expected} (outputs.partitions)", topic.display())]
    Partitions {
        topic: PathBuf,
        found: u32,
        expected: u32,
    },
    #[error(
        "the salts {} can be read by this user; only the role `anonymize` may be able to: run it as \
         another user, who owns the file with mode 0600",
        .0.display()
    )]
    SaltsReadable(PathBuf),
    #[error("privacy.salts is set, but the anonymized twins could not be written: {0}")]
    Twins(#[source] Box<crate::anonymize::AnonymizeError>),
    #[error("{workers} workers in all, expected at most {partitions} (outputs.partitions)")]
    Workers { workers: usize, partitions: u32 },
    #[error("{} is being written by another run: its file {} is locked", dir.display(), lock.display())]
    OutputsHeld { dir: PathBuf, lock: PathBuf },
    #[error(
        "the state in {} has none of the measurements of the visits that are open: the job had neither outputs.files \
         nor views, [serve] or [profiles]; leave it so, or begin anew with a state.dir and outputs of its own",
        dir.display()
    )]
    NothingKept { dir: PathBuf },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("the workers could not be started: {0}")]
    Start(String),
    #[error(
        "the connection with another process of the job is lost, or it has failed; the processes live and \
         die together: see what it says, and start all of them again"
    )]
    Lost,
    #[error("the extension {extension}: {problem}")]
    Extension {
        extension: &'static str,
        problem: String,
    },
    #[error("a worker has panicked: {0}")]
    Panic(String),
    #[error(
        "the ledger does not hold: {in_} in, {out} out, {wrong} ticks wrong; this is a fault of the program"
    )]
    Ledger { in_: u64, out: u64, wrong: u64 },
}

impl RunError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
        let path = path.to_owned();
        move |source| RunError::Io { what, path, source }
    }
}

/// How to run.
#[derive(Clone)]
pub struct Options {
    /// What.
    pub job: Job,
    /// This process's number, and the address of each, if there are several.
    pub processes: Option<(usize, Vec<String>)>,
    /// How many bytes each worker may have read and not yet written.
    pub budget: u64,
    /// How many records a step of a replay has at least. Results do not depend on it.
    pub step_records: usize,
    /// How long the processes may take to find each other.
    pub patience: Duration,
    /// Whether to go on although something that is not in the log has changed.
    pub accept_other_rules: bool,
    /// A program's own fragments, which join the job's.
    pub extensions: Vec<Arc<dyn Extension>>,
}

impl Options {
    /// In one process.
    pub fn of(job: Job) -> Options {
        Options {
            job,
            processes: None,
            budget: 64 << 20,
            step_records: STEP_RECORDS,
            patience: Duration::from_secs(60),
            accept_other_rules: false,
            extensions: Vec::new(),
        }
    }
}

/// What a run has come to.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Records in and out; empty on all processes but the first.
    pub ledger: Ledger,
    /// Whether this process keeps the ledger.
    pub first: bool,
    /// Visits begun, revised, ended by inactivity, length, size, and still open.
    pub visits: [u64; 6],
    /// The versions of the tables `measurements` and `visits`.
    pub versions: [u64; 2],
    /// How long it took.
    pub took: Duration,
    /// Whether it was asked to stop before the end of its input.
    pub stopped: bool,
}

impl std::fmt::Display for Summary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let of = |entry| grouped(self.ledger.of(entry));
        if self.first {
            writeln!(
                f,
                "in {} = tagged {} + late {} + rejected {} + repeated {}",
                of(Entry::In),
                of(Entry::Tagged),
                of(Entry::Late),
                of(Entry::Rejected),
                of(Entry::Repeated)
            )?;
        }
        let [begun, revised, inactivity, length, size, open] = self.visits.map(grouped);
        let ended = grouped(self.visits[2..5].iter().sum());
        writeln!(
            f,
            "visits: {begun} begun, {ended} ended (inactivity {inactivity}, length {length}, size {size}), {open} open; {revised} revisions"
        )?;
        let seconds = self.took.as_secs_f64();
        write!(f, "took {seconds:.1} s")?;
        if self.first && seconds > 0.0 {
            write!(
                f,
                ", {} measurements a second",
                grouped((self.ledger.of(Entry::In) as f64 / seconds) as u64)
            )?;
        }
        if self.stopped {
            write!(f, "; stopped before the end of the input")
        } else {
            Ok(())
        }
    }
}

/// A number as people read it: `1_234_567`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push('_');
        }
        out.push(digit);
    }
    out
}

/// What a running job can be asked and told from other threads.
#[derive(Clone)]
pub struct Handle {
    /// Its counters.
    pub metrics: Arc<Metrics>,
    /// Set it to stop: no more is read, what is complete is committed, and the run ends.
    pub stop: Arc<AtomicBool>,
    /// What is known when it starts and a user should hear, one thing a line.
    pub notes: Arc<Vec<String>>,
    /// What no other start of any process has for a name.
    pub start: Arc<str>,
    /// How many processes the job has.
    pub processes: usize,
    /// Where it is served, if it is.
    pub address: Option<SocketAddr>,
    /// What its workers give to those who read.
    pub served: Served,
    asked: Arc<AtomicBool>,
    ended: Arc<AtomicBool>,
}

impl Handle {
    /// Whether the run has ended; whoever watches it must return then.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Asks it to stop, as another program does.
    pub fn ask(&self) {
        self.asked.store(true, Ordering::Relaxed);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether another program has asked it to stop.
    pub fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Everything that workers share.
struct Shared {
    job: Job,
    rules: Rules,
    reader: Schema,
    overrides: Overrides,
    input: Input,
    schemas: Arc<dyn SchemaStore>,
    output_schemas: Option<Arc<dyn SchemaStore>>,
    enrichment: Enrichment,
    metrics: Arc<Metrics>,
    failure: Failure,
    stop: Arc<AtomicBool>,
    /// Whether it has stopped before the end of its input.
    stopped: AtomicBool,
    budget: u64,
    step_records: usize,
    /// Whether there are other processes.
    shares: bool,
    /// What the job goes on from, if it can.
    durable: Option<Durable>,
    /// What readers over HTTP are shown, and ask, if there are any.
    served: Option<Served>,
    extensions: Vec<Arc<dyn Extension>>,
}

impl Shared {
    /// Whether anything is said of visits while they are open.
    fn watched(&self) -> bool {
        self.job.watched()
    }
}

/// What workers need to go on where others were, and to let others go on.
struct Durable {
    recovery: Recovery,
    journal: Arc<Journaling>,
    writing: Arc<Writing>,
    /// Where each of this process's workers goes on, by local worker, until it has taken it.
    restored: Mutex<Vec<Option<State>>>,
}

/// The rules of a job, as the dataflow takes them.
pub fn rules(job: &Job) -> Rules {
    Rules {
        inactivity: job.visits.inactivity as i64,
        max_length: job.visits.max_length as i64,
        max_size: job.visits.max_size as u32,
        max_delay: job.visits.max_delay as i64,
        max_lag: job.time.max_lag as i64,
    }
}

/// The reader's schema of a job, and the roles that it says by path.
pub fn reader(job: &Job) -> Result<(Schema, Overrides), RunError> {
    let reader = match &job.schemas.reader {
        None => MEASUREMENT.clone(),
        Some(path) => {
            let text = std::fs::read_to_string(path).map_err(RunError::io("read", path))?;
            Schema::parse(&text).map_err(|source| RunError::Schema {
                path: path.clone(),
                source,
            })?
        }
    };
    let overrides = Overrides {
        roles: job.schemas.roles.clone(),
        privacy: job.schemas.privacy.clone(),
    };
    Roles::find(&reader, &overrides).map_err(|source| RunError::Roles {
        name: reader.record().name.clone(),
        source,
    })?;
    Ok((reader, overrides))
}

/// The enrichment of a job: its own lists, or the built-in ones.
pub fn enrichment(job: &Job) -> Result<Enrichment, RunError> {
    let read = |path: &PathBuf| std::fs::read(path).map_err(RunError::io("read", path));
    let geoip = job.enrich.geoip.as_ref();
    let countries = match geoip {
        None => None,
        Some(path) => {
            Some(
                Countries::from_mmdb(read(path)?).map_err(|source| RunError::Enrich {
                    setting: "enrich.geoip",
                    path: path.clone(),
                    source,
                })?,
            )
        }
    };
    let own = |path: &Option<PathBuf>| path.as_ref().map(read).transpose();
    let (robots, regexes) = (own(&job.enrich.robots)?, own(&job.enrich.user_agents)?);
    let robots_or = robots.as_deref().unwrap_or(BUILT_IN_ROBOTS);
    let agents = Agents::new(
        Some(robots_or),
        Some(regexes.as_deref().unwrap_or(BUILT_IN_REGEXES)),
    );
    let agents = agents.map_err(|source| {
        let (setting, path) = match (&job.enrich.robots, &job.enrich.user_agents) {
            (Some(path), _) if Agents::new(Some(robots_or), None).is_err() => {
                ("enrich.robots", path.clone())
            }
            (_, Some(path)) => ("enrich.user_agents", path.clone()),
            _ => ("enrich", PathBuf::from("built-in lists")),
        };
        RunError::Enrich {
            setting,
            path,
            source,
        }
    })?;
    Ok(Enrichment::new(countries, agents))
}

/// Refuses to go on when this process could read the salts: then a reader of the identified data
/// could undo the anonymized.
pub fn refuse_salts(job: &Job) -> Result<(), RunError> {
    match &job.privacy.salts {
        Some(path) if crate::anonymize::salts::may_read(path) => {
            Err(RunError::SaltsReadable(path.clone()))
        }
        _ => Ok(()),
    }
}

/// Adds the topics of extensions to a job, for whoever runs it or looks at what it has written.
///
/// # Errors
/// A name of one is not its own, or none that a topic can have.
pub fn extended(job: &mut Job, extensions: &[Arc<dyn Extension>]) -> Result<(), RunError> {
    job.outputs.further.clear();
    job.outputs.extensions.clear();
    let mut views: Vec<String> = job.views.iter().map(|view| view.name.clone()).collect();
    for (n, extension) in extensions.iter().enumerate() {
        let failed = |problem: String| RunError::Extension {
            extension: extension.name(),
            problem,
        };
        if extensions[..n]
            .iter()
            .any(|other| other.name() == extension.name())
        {
            return Err(failed(
                "expected a name of its own, but there are two".to_owned(),
            ));
        }
        for topic in extension.topics() {
            let known = crate::sink::topics::names(job);
            if !crate::job::is_name(topic) || known.iter().any(|known| known == topic) {
                let known = known.join(", ");
                return Err(failed(format!(
                    "its topic {topic:?}: expected a name of letters, digits, `.`, `_` and `-` that is none of {known}"
                )));
            }
            job.outputs.further.push(topic.to_owned());
        }
        for view in extension.views() {
            if views.contains(&view.name) {
                let name = view.name;
                return Err(failed(format!(
                    "its view {name}: the job has one of that name already"
                )));
            }
            if !view.has_whole_steps() {
                let name = view.name;
                return Err(failed(format!(
                    "its view {name}: expected a step of whole {STEP} ms, and a window, and a longer time that \
                     its usual is of, of whole steps"
                )));
            }
            views.push(view.name);
        }
        let version = format!("{} {}", extension.name(), extension.version());
        job.outputs.extensions.push(version);
    }
    Ok(())
}

/// What a run needs besides places: the reader's schema, the roles that the job says, enrichment.
fn needs(job: &Job) -> Result<(Schema, Overrides, Enrichment), RunError> {
    let (reader, overrides) = reader(job)?;
    // Who has set the salts wants twins: better to hear at once that they cannot be written.
    if job.privacy.salts.is_some() {
        crate::anonymize::check(job).map_err(|error| RunError::Twins(Box::new(error)))?;
    }
    access(job)?;
    Ok((reader, overrides, enrichment(job)?))
}

/// Checks what a job's files say, as far as a run would refuse them: its schema, the roles and the
/// privacy of its fields, the lists and databases of its enrichment, the properties of its Kafka, its
/// tokens. Creates nothing, and asks no broker.
///
/// # Errors
/// The first that is wrong.
pub fn check(job: &Job) -> Result<(), RunError> {
    let brokers = [&job.source.kafka, &job.outputs.kafka, &job.state.kafka];
    for brokers in brokers.into_iter().flatten() {
        let checked = outputs::with_brokers(job, brokers).check();
        checked.map_err(|error| RunError::Sink(SinkError::Kafka(error)))?;
    }
    customers::forgotten(job)?;
    needs(job).map(drop)
}

/// Starts a job. `watch` is given a handle once everything has been checked, on a thread of its
/// own; the run does not wait for it to return.
///
/// # Errors
/// Everything that is wrong before the start, and whatever goes wrong on the way.
pub fn run(
    options: Options,
    watch: impl FnOnce(Handle) + Send + 'static,
) -> Result<Summary, RunError> {
    let began = Instant::now();
    let Options {
        mut job,
        processes,
        budget,
        step_records,
        patience,
        accept_other_rules,
        extensions,
    } = options;
    extended(&mut job, &extensions)?;
    refuse_salts(&job)?;
    let input = Input::open(&job)?;
    let (reader, overrides, enrichment) = needs(&job)?;
    let store = job.schema_store().unwrap_or_default();
    let schemas: Arc<dyn SchemaStore> = Arc::new(Growing(FolderStore::open(store)?));
    let mut notes = unfit_schemas(&*schemas, &reader, &overrides)?;

    let count = processes.as_ref().map_or(1, |(_, hosts)| hosts.len());
    let process = processes.as_ref().map_or(0, |(process, _)| *process);
    let workers = job.workers * count;
    if workers > job.outputs.partitions as usize {
        return Err(RunError::Workers {
            workers,
            partitions: job.outputs.partitions,
        });
    }
    let access = access(&job)?;
    let listening = serve::listen::listen(&job, process)?;
    let mut connections = match processes {
        Some((process, hosts)) => Some(Connections::find(process, hosts, job.workers, patience)?),
        None => None,
    };
    // Kept until the run has ended.
    let _held = if process == 0 {
        outputs::hold(&job)?
    } else {
        Vec::new()
    };
    let mut recovery = None;
    let mut begin = || -> Result<u64, RunError> {
        outputs::prepare(&job, &reader, true)?;
        let Some(dir) = &job.state.dir else {
            return Ok(0);
        };
        let began = Recovery::start(
            &job,
            dir,
            input.topic_id(),
            workers,
            count,
            accept_other_rules,
        )?;
        let incarnation = began.incarnation();
        recovery = Some(began);
        Ok(incarnation)
    };
    let incarnation = match &mut connections {
        Some(connections) => connections.in_order(begin)?,
        None => begin()?,
    };
    if process > 0 {
        outputs::prepare(&job, &reader, false)?;
        if let Some(dir) = &job.state.dir {
            recovery = Some(Recovery::join(&job, dir, incarnation)?);
        }
    }
    let failure = Failure::default();
    let mut restored = 0;
    if let Some(recovery) = &recovery {
        notes.extend(recovery.note());
        restored = recovery.at();
        notes.extend(recovery.date(&mut job.views));
    }
    let durable = match recovery {
        Some(recovery) => Some(recover(&job, &input, process, count, recovery, &failure)?),
        None => None,
    };
    let output_schemas = match job.output_schemas() {
        Some(dir) => Some(Arc::new(FolderStore::open(dir)?) as Arc<dyn SchemaStore>),
        None => None,
    };

    let (builders, others) = match connections {
        Some(connections) => connections
            .allocators()
            .map_err(|error| RunError::Start(error.to_string()))?,
        None if job.workers == 1 => Config::Thread.try_build().map_err(RunError::Start)?,
        None => Config::Process(job.workers)
            .try_build()
            .map_err(RunError::Start)?,
    };
    let address = listening.as_ref().map(|listening| listening.address());
    notes.extend(address.map(|address| format!("the job is served at http://{address}/")));
    let metrics = Arc::new(Metrics::new(job.workers, incarnation, restored));
    let handle = Handle {
        metrics: metrics.clone(),
        stop: Arc::default(),
        notes: Arc::new(notes),
        start: format!("{:032x}", disk::fresh()).into(),
        processes: count,
        address,
        served: Served::new(
            [
                job.views.clone(),
                extensions.iter().flat_map(|e| e.views()).collect(),
            ]
            .concat(),
            job.serve.history,
        ),
        asked: Arc::default(),
        ended: Arc::default(),
    };
    let shared = Arc::new(Shared {
        rules: rules(&job),
        reader,
        overrides,
        input,
        schemas,
        output_schemas,
        enrichment,
        metrics: metrics.clone(),
        served: job.watched().then(|| handle.served.clone()),
        failure,
        stop: handle.stop.clone(),
        stopped: AtomicBool::new(false),
        budget,
        step_records,
        shares: count > 1,
        durable,
        extensions,
        job,
    });
    let status = status::Writer::start(&shared.job, process, handle.clone(), shared.rules)?;
    let serving = match listening {
        Some(listening) => Some(listening.serve(site(&shared, process, &handle, access))?),
        None => None,
    };
    let watcher = {
        let handle = handle.clone();
        std::thread::Builder::new()
            .name("watch".into())
            .spawn(move || watch(handle))
    };

    let own = shared.clone();
    let work = move |worker: &mut _| dataflow::work(worker, &own);
    let guards =
        timely::execute::execute_from(builders, others, timely::WorkerConfig::default(), work);
    let mut ledger = Ledger::default();
    let mut panicked = None;
    match guards {
        Err(message) => shared.failure.set(RunError::Start(message)),
        // Timely's own threads say by a panic that a process is gone, and whoever joins them panics.
        Ok(guards) => match catch_unwind(AssertUnwindSafe(|| guards.join())) {
            Err(_) => shared.failure.set(RunError::Lost),
            Ok(results) => {
                for result in results {
                    match result {
                        Ok(Some(own)) => ledger = own,
                        Ok(None) => (),
                        Err(message) => panicked = Some(RunError::Panic(message)),
                    }
                }
            }
        },
    }
    let stopped = shared.stopped.load(Ordering::Relaxed);
    let ended = !stopped && panicked.is_none() && !shared.failure.is_set();
    if let Some(durable) = &shared.durable {
        durable.finish(ended);
    }
    handle.ended.store(true, Ordering::Release);
    if let Some(served) = &shared.served {
        served.desk.close("the job has ended");
    }
    let error = shared.failure.take().or(panicked);
    status.finish(match &error {
        Some(error) => status::End::Failed(error.to_string()),
        None if stopped => status::End::Stopped,
        None => status::End::Ended,
    });
    drop(serving);
    if let Ok(watcher) = watcher {
        let _ = watcher.join();
    }
    if let Some(error) = error {
        return Err(error);
    }
    if process == 0 && !ledger.holds() {
        let out = ledger.sums[1..].iter().sum();
        return Err(RunError::Ledger {
            in_: ledger.of(Entry::In),
            out,
            wrong: ledger.wrong_ticks,
        });
    }
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    let [inactivity, length, size] = [0, 1, 2].map(|reason| count(&metrics.ended[reason]));
    Ok(Summary {
        ledger,
        first: process == 0,
        visits: [
            count(&metrics.started),
            count(&metrics.revised),
            inactivity,
            length,
            size,
            metrics.open_visits(),
        ],
        versions: [0, 1].map(|table| count(&metrics.versions[table][0])),
        took: began.elapsed(),
        stopped,
    })
}

/// Who may read what a job serves.
fn access(job: &Job) -> Result<Access, RunError> {
    let tokens = job.serve.tokens.as_deref();
    Ok(Access::of(tokens).map_err(ServeError::from)?)
}

/// What this process serves.
fn site(shared: &Shared, process: usize, handle: &Handle, access: Access) -> Site {
    let job = &shared.job;
    let account = account::Process {
        job: job.clone(),
        process,
        handle: handle.clone(),
        rules: shared.rules,
    };
    let limits = serve::Limits::of(&job.serve);
    let served = handle.served.clone();
    let tables = job.outputs.files.as_ref().filter(|_| process == 0);
    let tables = tables.map(|files| outputs::identified(files).display().to_string());
    Site::new(
        served,
        Arc::new(account),
        access,
        limits,
        handle.start.clone(),
    )
    .with_tables(tables)
}

/// Loads what this process's workers go on from, and begins its journal.
fn recover(
    job: &Job,
    input: &Input,
    process: usize,
    count: usize,
    recovery: Recovery,
    failure: &Failure,
) -> Result<Durable, RunError> {
    let peers = job.workers * count;
    if recovery.is_first() {
        recovery.sweep()?;
    }
    let restored = (0..job.workers).map(|local| {
        let worker = process * job.workers + local;
        let mine = |shard: u8| worker_of(shard, job.outputs.partitions, peers) == worker;
        Ok(Some(recovery.state(mine)?))
    });
    let restored = restored.collect::<Result<Vec<_>, RunError>>()?;
    let mut partitions = BTreeMap::new();
    for local in 0..job.workers {
        let worker = process * job.workers + local;
        let own = partitions_of(input, worker, peers);
        let firsts = input.first_offsets(&own)?;
        let resume = own.iter().zip(firsts);
        let resume = resume.map(|(partition, first)| recovery.partition(*partition, first));
        partitions.insert(worker, resume.collect());
    }
    Ok(Durable {
        journal: recovery.journal(process, partitions, failure.clone(), job.workers)?,
        writing: recovery.writing(job, failure.clone())?,
        restored: Mutex::new(restored),
        recovery,
    })
}

/// The partitions that are dealt to a worker.
fn partitions_of(input: &Input, worker: usize, peers: usize) -> Vec<u32> {
    let own = |partition: &u32| *partition as usize % peers == worker;
    (0..input.partitions()).filter(own).collect()
}

impl Durable {
    /// Ends the threads; at the end of input nothing of the state is needed any more.
    fn finish(&self, ended: bool) {
        if ended {
            self.writing.end();
        }
        self.writing.finish();
        if ended {
            self.journal.forget(u64::MAX, self.recovery.is_first());
        }
        self.journal.finish();
    }
}

/// Says which known schemas the job cannot read; their messages will be rejected.
fn unfit_schemas(
    store: &dyn SchemaStore,
    reader: &Schema,
    overrides: &Overrides,
) -> Result<Vec<String>, RunError> {
    let mut notes = Vec::new();
    for schema in store.all()? {
        let name = &schema.record().name;
        if let Err(error) = resolve(&schema, reader) {
            notes.push(format!(
                "messages of {name} {:016x} will be rejected: {error}",
                schema.fingerprint()
            ));
        } else if let Err(error) = Roles::find(&schema, &overrides.in_writer(reader, &schema)) {
            notes.push(format!(
                "messages of {name} {:016x} will be rejected: {error}",
                schema.fingerprint()
            ));
        }
    }
    Ok(notes)
}
