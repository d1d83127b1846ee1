//! How a simulated job starts: the real [`start`] and [`join`] over the simulated disk, with the
//! sinks fenced as `visitflow::run::recover` and `visitflow::kafka::fence` do. Others may run in
//! front of every step, and the start may die there.

use std::collections::BTreeSet;
use std::rc::Rc;

use visitflow::recovery::claim::{self, Claim, Committed, Found};
use visitflow::recovery::journal::{Closed, Cuts, Entry, Journal};
use visitflow::recovery::manifest::{self, Chain};
use visitflow::recovery::script::Resume;
use visitflow::recovery::start::{Progress, Sinks, Start, join, start};
use visitflow::recovery::{Disk, Journals, RecoveryError, journal};
use visitflow::snapshot::rows::State;
use visitflow_dataflows::batch::worker_of;

use crate::broker::{OUTPUTS, Request, Standing};
use crate::disk::SimDisk;
use crate::files::Versions;
use crate::job::{Job, Process, Shape, Worker};
use crate::partition::Partition;
use crate::snapshots::{Manifests, positions};
use crate::source::Source;
use crate::table::{TABLES, Writer};
use crate::topics::{SINK, Topics, producer};
use crate::world::{SKEW, World};

/// The sinks of a job that starts.
struct JobSinks<'a> {
    world: &'a World,
    disk: &'a SimDisk,
    /// What was found when they were fenced.
    found: Option<Progress>,
    tables: Option<[Writer; 2]>,
}

impl JobSinks<'_> {
    fn topics(&self) -> Vec<Committed> {
        let progress = self.world.brokers.borrow().progress();
        let committed = |until: u64| Committed {
            tick: until.saturating_sub(1),
            sum: 0,
        };
        progress.into_iter().map(committed).collect()
    }

    fn read(&self) -> Progress {
        let mut progress = Progress::from([(SINK.to_owned(), self.topics())]);
        let tables = self.world.tables.borrow();
        for (name, table) in TABLES.iter().zip(tables.iter()) {
            let tick = table.last_tick();
            progress.insert((*name).to_owned(), vec![Committed { tick, sum: 0 }]);
        }
        progress
    }

    /// Takes over all IDs, says so in the topic of progress, and reads what they have committed.
    fn fence_topics(
        &self,
        claim: &Claim,
        ids: &BTreeSet<String>,
    ) -> Result<Vec<Committed>, RecoveryError> {
        loop {
            self.check(claim, ids)?;
            let mut epochs = Vec::new();
            for id in ids {
                self.disk.interrupt()?;
                epochs.push(self.world.brokers.borrow_mut().init(id));
            }
            self.disk.interrupt()?;
            self.check(claim, ids)?;
            let found = self.topics();
            let mut whole = true;
            for (id, epoch) in ids.iter().zip(epochs) {
                self.disk.interrupt()?;
                let mut brokers = self.world.brokers.borrow_mut();
                let before = brokers.standing(id).cloned().unwrap_or_default();
                let standing = Standing {
                    incarnation: claim.incarnation,
                    session: 0,
                    sequence: 0,
                    ..before
                };
                whole &= brokers.commit(Request {
                    number: 0,
                    id: id.clone(),
                    epoch,
                    messages: Vec::new(),
                    standing,
                });
            }
            if whole {
                return Ok(found);
            }
        }
    }

    fn check(&self, claim: &Claim, ids: &BTreeSet<String>) -> Result<(), RecoveryError> {
        let brokers = self.world.brokers.borrow();
        let standings = ids.iter().filter_map(|id| brokers.standing(id));
        let found = standings.map(|standing| standing.incarnation).max();
        match found.filter(|found| *found > claim.incarnation) {
            Some(found) => Err(RecoveryError::Superseded {
                found,
                own: claim.incarnation,
            }),
            None => Ok(()),
        }
    }
}

impl Sinks for JobSinks<'_> {
    type Error = RecoveryError;

    fn fence(&mut self, claim: &Claim, older: &BTreeSet<String>) -> Result<(), RecoveryError> {
        let mistakes = self.world.mistakes;
        if mistakes.no_fence {
            self.tables = Some(self.world.tables.borrow().each_ref().map(|t| t.open()));
            return Ok(());
        }
        let early = mistakes.progress_before_fence.then(|| self.read());
        self.disk.interrupt()?;
        let mut ids = older.clone();
        ids.extend(claim.producers.iter().cloned());
        let topics = self.fence_topics(claim, &ids)?;
        self.disk.interrupt()?;
        let fenced = self.world.tables.borrow_mut().each_mut().map(|t| t.fence());
        self.tables = Some(fenced);
        let found = Progress::from([(SINK.to_owned(), topics)]);
        self.found = Some(early.unwrap_or(found));
        Ok(())
    }

    fn progress(&mut self) -> Result<Progress, RecoveryError> {
        self.disk.interrupt()?;
        let mut progress = self.read();
        progress.extend(self.found.take().unwrap_or_default());
        Ok(progress)
    }
}

/// A start as the mistakes want it, composed of what the real one is made of.
fn mistaken(
    world: &World,
    disk: &SimDisk,
    claim: Claim,
    sinks: &mut JobSinks<'_>,
) -> Result<(Start, Chain), RecoveryError> {
    let mistakes = world.mistakes;
    let claim = claim::take(disk, claim)?;
    let mut before = claim::all(disk)?;
    before.retain(|other| other.incarnation < claim.incarnation);
    let producers = before.iter().flat_map(|claim| claim.producers.clone());
    let producers = producers.collect();
    if !mistakes.cut_before_fence {
        sinks.fence(&claim, &producers)?;
    }
    let mut older = None;
    for claim in before.iter().rev().filter(|_| !mistakes.cuts_forgotten) {
        let found = claim::found(disk, claim.incarnation)?;
        older = older.or(found.map(|found| (claim.incarnation, found)));
    }
    let older = older.as_ref().map(|(n, found)| (*n, &found.journals));
    let mut journals = journal::cut(disk, claim.incarnation, older)?;
    if mistakes.no_cut {
        journals = Cuts::new();
        for name in disk.names()? {
            journals.insert(name, u64::MAX);
        }
    }
    if mistakes.cut_before_fence {
        sinks.fence(&claim, &producers)?;
    }
    let chain = Chain::fence(disk, claim.incarnation)?;
    let found = Found {
        format: claim::FORMAT,
        journals,
        progress: sinks.progress()?,
        manifest: manifest::newest(disk)?.map(|(n, _)| n),
    };
    claim::put_found(disk, claim.incarnation, &found)?;
    Ok((join(disk, disk, claim.incarnation)?, chain))
}

/// Starts a job.
pub fn begin(world: &Rc<World>, shape: Shape) -> Result<Job, RecoveryError> {
    let disk = SimDisk::starting(world);
    let workers = shape.processes * shape.workers;
    let claim = Claim {
        format: claim::FORMAT,
        incarnation: 0,
        job: "job".to_owned(),
        program: String::new(),
        workers,
        processes: shape.processes,
        inputs: Default::default(),
        topic: None,
        journal: String::new(),
        producers: (0..workers).map(producer).collect(),
        at: world.now(),
    };
    let mut sinks = JobSinks {
        world,
        disk: &disk,
        found: None,
        tables: None,
    };
    let mistakes = world.mistakes;
    let recomposed = mistakes.cut_before_fence || mistakes.no_cut || mistakes.cuts_forgotten;
    let (first, chain) = match recomposed {
        true => mistaken(world, &disk, claim, &mut sinks)?,
        false => start(&disk, &disk, claim, &mut sinks, false)?,
    };
    let writers = sinks.tables.expect("a start has fenced the tables");
    let incarnation = first.claim.incarnation;
    world.say(|| {
        let floors = first.partitions.values();
        let floors = floors.map(|r| (r.offset, r.script.left(), r.floor));
        format!(
            "{incarnation} starts with {shape:?}, snapshot {:?}, partitions {:?}, progress {:?}",
            first.snapshot.as_ref().map(|snapshot| snapshot.tick),
            floors.collect::<Vec<_>>(),
            first.progress
        )
    });
    if first.snapshot.is_some() {
        world.count(|seen| &mut seen.from_snapshots);
    }
    if first
        .partitions
        .values()
        .any(|resume| resume.script.left() > 0)
    {
        world.count(|seen| &mut seen.replayed);
    }
    let mut job = Job::new(
        world,
        disk.clone(),
        incarnation,
        shape,
        Manifests::new(chain, incarnation, workers),
        Versions::new(writers, world),
    );
    let mut first = Some(first);
    for process in 0..shape.processes {
        let start = match first.take() {
            Some(first) => first,
            None => join(&disk, &disk, incarnation)?,
        };
        begin_process(world, &disk, &mut job, process, start)?;
    }
    disk.started();
    Ok(job)
}

fn begin_process(
    world: &Rc<World>,
    disk: &SimDisk,
    job: &mut Job,
    process: usize,
    start: Start,
) -> Result<(), RecoveryError> {
    let shape = job.shape;
    let workers = shape.processes * shape.workers;
    let incarnation = job.incarnation;
    let at = start.snapshot.as_ref().map_or(0, |snapshot| snapshot.tick);
    let floors = start.partitions.values().map(|resume| resume.floor);
    let largest = floors.max().unwrap_or(0);
    job.scripts_end = largest;
    let held = [0, 1].map(|table: usize| {
        let progress = start.progress.get(TABLES[table]);
        progress.map_or(0, |progress| progress[0].tick)
    });
    let mut bases = Vec::new();
    for worker in process * shape.workers..(process + 1) * shape.workers {
        let mut partitions = Vec::new();
        let all = world.brokers.borrow().input.len();
        for index in (0..all as u32).filter(|p| *p as usize % workers == worker) {
            let known = start.partitions.get(&index).cloned();
            let mut resume = known.unwrap_or_else(|| Resume {
                floor: start.floor,
                behind: Closed {
                    partition: index,
                    ..Closed::default()
                },
                ..Resume::default()
            });
            if world.mistakes.above_largest {
                resume.floor = largest;
            }
            bases.push(Entry {
                worker: worker as u32,
                until: resume.floor,
                partitions: vec![resume.behind.clone()],
            });
            if world.mistakes.not_above_own {
                (resume.floor, resume.clock.tick) = (0, 0);
            }
            partitions.push(Partition::new(index, resume, at));
        }
        let state = restore(world, disk, &start, |shard| {
            worker_of(shard, OUTPUTS, workers) == worker
        })?;
        let source = Source::new(worker, partitions, 1 + world.below(4));
        let topics = start.progress.get(SINK).map_or(&[][..], Vec::as_slice);
        let topics = Topics::new((worker, workers), incarnation, topics);
        job.workers.push(Worker::new(
            world,
            (incarnation, worker),
            source,
            &state,
            topics,
            held,
        ));
    }
    if process == 0 {
        job.workers[0].gathering.tables = positions(held);
    }
    // A clock that is far behind only makes time stand.
    let skew = match world.one_in(6) {
        true => world.between(-2_500, -SKEW),
        false => world.between(-SKEW, SKEW),
    };
    let journal = Journal::begin(disk.clone(), incarnation, process, bases)?;
    job.processes.push(Process::new(journal, skew));
    Ok(())
}

/// What the snapshot holds of these shards.
fn restore(
    world: &World,
    disk: &SimDisk,
    start: &Start,
    own: impl Fn(u8) -> bool,
) -> Result<State, RecoveryError> {
    let mut state = State::default();
    for file in start.snapshot.iter().flat_map(|snapshot| &snapshot.parts) {
        if disk.read(file)?.is_none() {
            return Err(RecoveryError::Damaged {
                file: file.clone(),
                at: 0,
                found: "it is gone".to_owned(),
                expected: "a part that the newest manifest names".to_owned(),
            });
        }
        let parts = world.parts.borrow();
        let part = &parts[file];
        let visits = part.visits.iter().filter(|rows| own(rows.shard));
        state.visits.extend(visits.cloned());
        let kept = part.kept.iter().filter(|rows| own(rows.shard));
        state.kept.extend(kept.cloned());
    }
    Ok(state)
}
