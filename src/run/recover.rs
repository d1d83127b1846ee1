//! A process's part in recovery: the start, in its order, and what the workers need of it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use sha2::{Digest, Sha256};
use visitflow_dataflows::views::View;
use visitflow_dataflows::visit::Tick;

use super::journaling::Journaling;
use super::journals::JobJournals;
use super::outputs::identified;
use super::snapshots::Writing;
use super::{Failure, RunError};
use crate::job::Job;
use crate::kafka;
use crate::log::{self, Topic};
use crate::recovery::Folder;
use crate::recovery::claim::{self, Claim, Committed};
use crate::recovery::journal::{Closed, Entry, Journal};
use crate::recovery::manifest::{self, Chain, Kept, Position};
use crate::recovery::script::Resume;
use crate::recovery::start::{Progress, Sinks, Start, join, start};
use crate::sink::SinkError;
use crate::sink::kafka::{SINK, Taken, progress_topic};
use crate::sink::table::TABLES;
use crate::sink::topics::{TOPICS, names};
use crate::snapshot::rows::{self, State};
use crate::store::Runs;
use crate::table::Table;
use crate::wall;

/// What a process knows of where its job goes on.
pub struct Recovery {
    /// The state's folder.
    pub disk: Folder,
    journals: JobJournals,
    /// Ends the waiting for the brokers of the journal.
    give_up: Arc<AtomicBool>,
    /// Where the job goes on.
    pub start: Start,
    /// Where this process's manifests go, until the thread that puts them has it.
    chain: std::sync::Mutex<Option<Chain>>,
    /// All entries of earlier incarnations lie before this tick.
    pub scripts_end: Tick,
    first: bool,
}

/// The transactional IDs of a job's workers.
pub fn producers(job: &Job, workers: usize) -> Vec<String> {
    if job.outputs.kafka.is_none() {
        return Vec::new();
    }
    (0..workers).map(|n| producer(job, n)).collect()
}

/// The transactional ID of a worker.
pub fn producer(job: &Job, worker: usize) -> String {
    format!("{}-{worker}", job.name)
}

/// The sink's name of a table.
pub fn table_sink(table: usize) -> String {
    format!("table {}", TABLES[table])
}

impl Recovery {
    /// Starts the job, on its first process; `topic` is the ID of the topic that it reads.
    ///
    /// # Errors
    /// Whatever is wrong, each with what to do.
    pub fn start(
        job: &Job,
        dir: &Path,
        topic: Option<String>,
        workers: usize,
        processes: usize,
        accept_other_rules: bool,
    ) -> Result<Recovery, RunError> {
        let disk = Folder::open(dir)?;
        let give_up = Arc::default();
        let journals = JobJournals::of(job, dir, &give_up);
        journals.prepare(processes, claim::highest(&disk)? > 0)?;
        let claim = Claim {
            format: claim::FORMAT,
            incarnation: 0,
            job: job.name.clone(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
            workers,
            processes,
            inputs: inputs(job)?,
            topic,
            journal: journals.place(),
            producers: producers(job, workers),
            at: wall::now(),
        };
        if let Some((_, snapshot)) = manifest::newest(&disk)? {
            // All visits have ended, or there is none that is open.
            let nothing = snapshot.tick == u64::MAX || snapshot.latest == 0;
            if job.keeps_measurements() && !snapshot.kept.measurements && !nothing {
                let dir = dir.to_owned();
                return Err(RunError::NothingKept { dir });
            }
        }
        disk.reserve()?;
        let mut sinks = JobSinks {
            job,
            kafka: Progress::new(),
        };
        let (start, chain) = start(&disk, &journals, claim, &mut sinks, accept_other_rules)?;
        Ok(Recovery::of(disk, journals, give_up, start, Some(chain)))
    }

    /// Joins the job that the first process has started.
    ///
    /// # Errors
    /// The state's folder is another one, or damaged.
    pub fn join(job: &Job, dir: &Path, incarnation: u64) -> Result<Recovery, RunError> {
        let disk = Folder::open(dir)?;
        let give_up = Arc::default();
        let journals = JobJournals::of(job, dir, &give_up);
        let start = join(&disk, &journals, incarnation)?;
        Ok(Recovery::of(disk, journals, give_up, start, None))
    }

    fn of(
        disk: Folder,
        journals: JobJournals,
        give_up: Arc<AtomicBool>,
        start: Start,
        chain: Option<Chain>,
    ) -> Recovery {
        let floors = start.partitions.values().map(|resume| resume.floor);
        let first = chain.is_some();
        let last = floors.filter(|floor| *floor < u64::MAX).max();
        let scripts_end = last.map_or(0, |last| last + 1);
        Recovery {
            disk,
            journals,
            give_up,
            start,
            chain: std::sync::Mutex::new(chain),
            scripts_end,
            first,
        }
    }

    /// The incarnation.
    pub fn incarnation(&self) -> u64 {
        self.start.claim.incarnation
    }

    /// The tick of the snapshot from which the job goes on; 0 for none.
    pub fn at(&self) -> Tick {
        let snapshot = self.start.snapshot.as_ref();
        snapshot.map_or(0, |snapshot| snapshot.tick)
    }

    /// Says of views since when they count, where the job has had others before; what a user should hear of
    /// that. One that is new counts what is of a later time than any measurement of an open visit: so nothing
    /// is taken back of it that was never added, and it is what a walk over all from then on says.
    pub fn date(&self, views: &mut [View]) -> Vec<String> {
        let Some(snapshot) = &self.start.snapshot else {
            return Vec::new();
        };
        let mut notes = Vec::new();
        for view in views {
            if let Some(since) = snapshot.kept.views.get(&known_as(view)) {
                view.since = *since;
                continue;
            }
            view.since = snapshot.tick.max(snapshot.latest.saturating_add(1));
            if self.is_first() && self.at() < u64::MAX {
                let since = crate::why::time(view.since as i64);
                let name = &view.name;
                notes.push(format!(
                    "view {name} is new: it counts what is of {since} or later"
                ));
            }
        }
        notes
    }

    /// Where a partition goes on; one that the journal does not know begins at `first`.
    pub fn partition(&self, partition: u32, first: u64) -> Resume {
        let known = self.start.partitions.get(&partition).cloned();
        known.unwrap_or_else(|| Resume {
            offset: first,
            floor: self.start.floor,
            behind: Closed {
                partition,
                next: first,
                ..Closed::default()
            },
            ..Resume::default()
        })
    }

    /// Whether this is the first process, which puts manifests.
    pub fn is_first(&self) -> bool {
        self.first
    }

    /// Removes measurements that the snapshot does not name.
    ///
    /// # Errors
    /// What the disk says.
    pub fn sweep(&self) -> Result<(), RunError> {
        let snapshot = self.start.snapshot.iter();
        let named: HashSet<u64> = snapshot.flat_map(|s| &s.segments).copied().collect();
        let swept = Runs::sweep(self.disk.path(), &named, self.incarnation());
        swept.map_err(SinkError::Runs)?;
        Ok(())
    }

    /// What the snapshot holds of these shards.
    ///
    /// # Errors
    /// A part that is not there, or damaged.
    pub fn state(&self, mine: impl Fn(u8) -> bool + Copy) -> Result<State, RunError> {
        let parts = self
            .start
            .snapshot
            .iter()
            .flat_map(|snapshot| &snapshot.parts);
        let paths: Vec<_> = parts.map(|part| self.disk.path_of(part)).collect();
        Ok(rows::read(paths, mine)?)
    }

    /// What a user should hear of where the job goes on; nothing at its first start.
    pub fn note(&self) -> Option<String> {
        if self.incarnation() == 1 || !self.is_first() {
            return None;
        }
        let incarnation = self.incarnation();
        if self.at() == u64::MAX {
            return Some(format!(
                "start {incarnation}: an earlier one has come to the end of the input; there is nothing left to do"
            ));
        }
        let scripts = self.start.partitions.values();
        let again: u64 = scripts.map(|resume| resume.script.left()).sum();
        let from = match self.at() {
            0 => "from the beginning".to_owned(),
            at => format!("behind the snapshot of {}", crate::why::time(at as i64)),
        };
        Some(format!(
            "start {incarnation}: goes on {from}; {} records are read again",
            super::grouped(again)
        ))
    }

    /// Begins this process's journal, with where the partitions of each of its workers stand.
    ///
    /// # Errors
    /// What the disk says.
    pub fn journal(
        &self,
        process: usize,
        partitions: BTreeMap<usize, Vec<Resume>>,
        failure: Failure,
        workers: usize,
    ) -> Result<Arc<Journaling>, RunError> {
        let mut bases = Vec::new();
        for (worker, resumes) in partitions {
            // One entry for each partition: each has a floor of its own.
            bases.extend(resumes.into_iter().map(|resume| Entry {
                worker: worker as u32,
                until: resume.floor,
                partitions: vec![Closed {
                    closed: resume.closed,
                    ..resume.behind
                }],
            }));
        }
        let journal = Journal::begin(self.journals.clone(), self.incarnation(), process, bases)?;
        let incarnation = self.incarnation();
        let disk = self.disk.clone();
        Ok(Arc::new(Journaling::start(
            journal,
            disk,
            incarnation,
            workers,
            failure,
            self.give_up.clone(),
        )?))
    }

    /// Starts the thread that writes snapshots, of this job.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn writing(&self, job: &Job, failure: Failure) -> Result<Arc<Writing>, RunError> {
        let chain = self
            .chain
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .take();
        let (disk, incarnation) = (self.disk.clone(), self.incarnation());
        let views = job.views.iter().map(|view| (known_as(view), view.since));
        let kept = Kept {
            measurements: job.keeps_measurements(),
            views: views.collect(),
        };
        let writing = Writing::start(disk, incarnation, chain, kept, failure)?;
        Ok(Arc::new(writing))
    }

    /// The last tick whose seals a table holds.
    pub fn table(&self, table: usize) -> Tick {
        self.progress(&table_sink(table), 0).tick
    }

    /// How far a partition of a sink has committed.
    pub fn progress(&self, sink: &str, partition: usize) -> Committed {
        let partitions = self.start.progress.get(sink);
        let own = partitions.and_then(|partitions| partitions.get(partition));
        own.copied().unwrap_or_default()
    }

    /// Where each partition of the topics in Kafka stood.
    pub fn kafka(&self, partitions: u32) -> Vec<Taken> {
        let snapshot = self.start.snapshot.as_ref();
        let before = |partition: u32| {
            let sinks = snapshot.map_or(&[][..], |snapshot| &snapshot.sinks);
            let own = |at: &&Position| at.sink == SINK && at.partition == partition;
            sinks.iter().find(own).map_or(0, |at| at.sum)
        };
        let taken = |partition: u32| {
            let Committed { tick, sum } = self.progress(SINK, partition as usize);
            // At the end of input nothing comes again.
            let before = if self.at() == u64::MAX {
                sum
            } else {
                before(partition)
            };
            Taken { tick, sum, before }
        };
        (0..partitions).map(taken).collect()
    }
}

/// The sinks of a job, for its start.
struct JobSinks<'a> {
    job: &'a Job,
    /// What was found in Kafka when it was fenced.
    kafka: Progress,
}

impl Sinks for JobSinks<'_> {
    type Error = RunError;

    /// The embedded log's partitions are locked by whoever writes them, tables and Kafka are fenced.
    fn fence(&mut self, claim: &Claim, older: &BTreeSet<String>) -> Result<(), RunError> {
        if let Some(connection) = super::outputs::kafka(self.job) {
            let mut ids = older.clone();
            ids.extend(claim.producers.iter().cloned());
            let ids: Vec<String> = ids.into_iter().collect();
            let patience = super::outputs::patience();
            let topic = progress_topic(self.job);
            let incarnation = claim.incarnation;
            let found = kafka::fence(&connection, &ids, &topic, incarnation, &patience);
            let found = found.map_err(SinkError::Kafka)?;
            let mut committed = vec![Committed::default(); self.job.outputs.partitions as usize];
            for (shard, done) in &found.shards {
                if let Some(own) = committed.get_mut(usize::from(*shard)) {
                    own.tick = done.until.saturating_sub(1);
                    own.sum = done.sum;
                }
            }
            self.kafka.insert(SINK.to_owned(), committed);
        }
        if let Some(files) = &self.job.outputs.files {
            for name in TABLES {
                Table::open(&identified(files).join(name))?.fence()?;
            }
        }
        Ok(())
    }

    fn progress(&mut self) -> Result<Progress, RunError> {
        let mut progress = std::mem::take(&mut self.kafka);
        let of = |tick| Committed { tick, sum: 0 };
        if let Some(log) = &self.job.outputs.log {
            for name in names(self.job) {
                let topic = Topic::open(log, &name)?;
                let last = |partition| Ok(of(log::last_tick(&topic, partition)?));
                let ticks = (0..topic.partitions()).map(last);
                progress.insert(name, ticks.collect::<Result<_, RunError>>()?);
            }
        }
        if let Some(files) = &self.job.outputs.files {
            for (n, name) in TABLES.iter().enumerate() {
                let table = Table::open(&identified(files).join(name))?;
                progress.insert(table_sink(n), vec![of(table.last_tick().unwrap_or(0))]);
            }
        }
        Ok(progress)
    }
}

/// What decides over results and is not in the log: values where they are short, else fingerprints.
fn inputs(job: &Job) -> Result<BTreeMap<String, String>, RunError> {
    let mut inputs = BTreeMap::new();
    let mut add = |name: &str, value: String| {
        inputs.insert(name.to_owned(), value);
    };
    add("the program", env!("CARGO_PKG_VERSION").to_owned());
    for name in [
        "source.topic",
        "source.clock",
        "visits.inactivity",
        "visits.max_length",
        "visits.max_size",
        "visits.max_delay",
        "time.tick",
        "time.max_lag",
        "time.max_ahead",
        "limits.max_record",
        "enrich.robots_over",
        "outputs.partitions",
    ] {
        add(name, crate::job::value_text(job, name));
    }
    let files = [
        ("schemas.reader", &job.schemas.reader),
        ("enrich.geoip", &job.enrich.geoip),
        ("enrich.user_agents", &job.enrich.user_agents),
        ("enrich.robots", &job.enrich.robots),
    ];
    for (name, path) in files {
        let text = match path {
            None => "none".to_owned(),
            Some(path) => {
                let bytes = std::fs::read(path).map_err(RunError::io("read", path))?;
                fingerprint(&bytes)
            }
        };
        add(name, text);
    }
    // A job without profiles stays what it was before there were any.
    if job.profiles.enabled {
        for name in ["profiles.enabled", "profiles.retention"] {
            add(name, crate::job::value_text(job, name));
        }
        // What was sent of a customer would not be made again of one who is forgotten since.
        let forgotten = match &job.profiles.forgotten {
            None => "nobody".to_owned(),
            Some(path) => fingerprint(&std::fs::read(path).map_err(RunError::io("read", path))?),
        };
        add("profiles.forgotten", forgotten);
    }
    if job.watched() {
        for name in [
            "attribution.look_back",
            "attribution.browsers",
            "attribution.customers",
        ] {
            add(name, crate::job::value_text(job, name));
        }
    }
    let by_path = format!("{:?} {:?}", job.schemas.roles, job.schemas.privacy);
    if !job.views.is_empty() {
        let all: Vec<String> = job.views.iter().map(known_as).collect();
        add("the views", fingerprint(all.join("\n").as_bytes()));
    }
    // What more is written is more to be made again.
    let further = &names(job)[TOPICS.len()..];
    if !further.is_empty() {
        add("the further topics", further.join(", "));
    }
    if !job.outputs.extensions.is_empty() {
        add("the extensions", job.outputs.extensions.join(", "));
    }
    add(
        "schemas.roles and schemas.privacy",
        fingerprint(by_path.as_bytes()),
    );
    Ok(inputs)
}

/// What a manifest calls a view: for people by its name, too.
fn known_as(view: &View) -> String {
    format!("{} {:016x}", view.name, view.identity())
}

fn fingerprint(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    hash.iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
