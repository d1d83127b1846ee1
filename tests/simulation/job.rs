//! A job in one incarnation: its processes and workers, what is on its way between them, and the
//! frontiers that follow from both. It dies as a whole.

use std::collections::VecDeque;
use std::rc::Rc;

use visitflow::recovery::journal::{Entry, Journal};
use visitflow::recovery::manifest::Part;
use visitflow::recovery::{RecoveryError, claim};
use visitflow::snapshot::rows::State;
use visitflow_dataflows::batch::worker_of;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::visit::Tick;

use crate::broker::{Message, OUTPUTS, What};
use crate::disk::SimDisk;
use crate::files::{Done, Files, Versions};
use crate::partition::Taken;
use crate::snapshots::{Gathering, Manifests, positions};
use crate::source::{Sent, Source};
use crate::table::TABLES;
use crate::topics::Topics;
use crate::visits::{Visits, Whole, batch, partition};
use crate::world::{World, shard};

/// How many different things a job does.
const KINDS: usize = 14;

/// Why a job ends.
#[derive(Debug)]
pub enum Stop {
    /// It has been started again.
    Superseded,
    /// It was asked to, and has.
    Stopped,
    /// Something is wrong.
    Fault(String),
}

impl From<RecoveryError> for Stop {
    fn from(error: RecoveryError) -> Stop {
        match error {
            RecoveryError::Superseded { .. } => Stop::Superseded,
            other => Stop::Fault(other.to_string()),
        }
    }
}

impl From<String> for Stop {
    fn from(fault: String) -> Stop {
        Stop::Fault(fault)
    }
}

/// Processes, and workers of each.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub processes: usize,
    pub workers: usize,
}

/// What is on its way between workers.
enum Mail {
    /// Records for a worker, under a timestamp.
    Records(usize, Tick, Vec<Taken>),
    /// A cut for a worker, under a timestamp.
    Cut(usize, Tick, Cut),
    /// Closed files, for the first worker.
    Done(Done),
    /// A part, for the first worker.
    Part(Part),
    /// Up to where tables hold all seals, for a worker.
    Tables(usize, Tick),
    /// A snapshot that counts, for a process.
    Saved(usize, Tick),
}

/// A process.
pub struct Process {
    journal: Journal<SimDisk>,
    /// How far its clock is ahead, in ms.
    skew: i64,
    queue: VecDeque<Entry>,
    /// What was appended and not synced: by worker, up to where.
    appended: Vec<(usize, Tick)>,
    forget: VecDeque<(Tick, bool)>,
}

impl Process {
    pub fn new(journal: Journal<SimDisk>, skew: i64) -> Process {
        Process {
            journal,
            skew,
            queue: VecDeque::new(),
            appended: Vec::new(),
            forget: VecDeque::new(),
        }
    }
}

/// A worker.
pub struct Worker {
    source: Source,
    visits: Visits,
    topics: Topics,
    whole: Whole,
    files: Files,
    pub gathering: Gathering,
}

impl Worker {
    pub fn new(
        world: &Rc<World>,
        who: (u64, usize),
        source: Source,
        state: &State,
        topics: Topics,
        held: [Tick; 2],
    ) -> Worker {
        Worker {
            source,
            visits: Visits::restore(&state.visits),
            topics,
            whole: Whole::restore(world, who, &state.kept, held[0].min(held[1])),
            files: Files::new(held),
            gathering: Gathering::default(),
        }
    }
}

/// A job that runs.
pub struct Job {
    world: Rc<World>,
    disk: SimDisk,
    pub incarnation: u64,
    pub shape: Shape,
    /// All entries of earlier incarnations lie before this tick.
    pub scripts_end: Tick,
    pub paused: bool,
    pub processes: Vec<Process>,
    pub workers: Vec<Worker>,
    mail: Vec<Mail>,
    manifests: Manifests,
    versions: Versions,
    saved: Tick,
    /// Of the different things it does, the one that it seldom comes to.
    slow: usize,
    /// Once in how many times it cuts files, and snapshots.
    cuts: [usize; 2],
}

impl Job {
    pub fn new(
        world: &Rc<World>,
        disk: SimDisk,
        incarnation: u64,
        shape: Shape,
        manifests: Manifests,
        versions: Versions,
    ) -> Job {
        Job {
            slow: world.below(2 * KINDS),
            cuts: [2, 2].map(|least| least << (2 * world.below(3))),
            world: world.clone(),
            disk,
            incarnation,
            shape,
            scripts_end: 0,
            paused: false,
            processes: Vec::new(),
            workers: Vec::new(),
            mail: Vec::new(),
            manifests,
            versions,
            saved: 0,
        }
    }

    /// The frontier of records and cuts.
    fn frontier(&self) -> Tick {
        let held = self.workers.iter().map(|worker| worker.source.held);
        let sent = self.mail.iter().filter_map(|mail| match mail {
            Mail::Records(_, time, _) | Mail::Cut(_, time, _) => Some(*time),
            _ => None,
        });
        held.chain(sent).min().unwrap_or(u64::MAX)
    }

    fn least(&self, of: impl Fn(&Worker) -> Tick) -> Tick {
        self.workers.iter().map(of).min().unwrap_or(u64::MAX)
    }

    /// Up to where all topics are committed.
    pub fn committed(&self) -> Tick {
        self.least(|worker| worker.topics.committed)
    }

    /// Whether every visit that was sealed is in the tables.
    pub fn is_written(&self) -> bool {
        let done = |mail: &Mail| matches!(mail, Mail::Done(_));
        let held = |worker: &Worker| worker.files.has_some() || !worker.whole.ends.is_empty();
        let all = self.least(|worker| worker.files.done) >= self.committed();
        all && !self.workers.iter().any(held)
            && !self.mail.iter().any(done)
            && !self.versions.has_some()
    }

    /// Asks it to stop.
    pub fn stop(&mut self) {
        self.workers[0].source.stop = true;
    }

    /// Dies: sometimes while a process appends to its journal.
    pub fn die(mut self) {
        let mut chance = self.world.chance();
        let n = chance.below(self.processes.len());
        let torn = chance.one_in(2).then(|| chance.below(1 << 20));
        drop(chance);
        let process = &mut self.processes[n];
        if let (Some(entry), Some(torn)) = (process.queue.pop_front(), torn) {
            self.world.files.borrow_mut().tear = Some(torn);
            let _ = process.journal.append(&entry);
        }
    }

    /// How many things it may do.
    pub fn actions(&self) -> usize {
        self.workers.len() * 7 + self.processes.len() * 3 + 5
    }

    /// Does one of them; in a storm, what is slow seldom.
    pub fn act(&mut self, action: usize) -> Result<(), Stop> {
        let (workers, processes) = (self.workers.len(), self.processes.len());
        let rest = action.checked_sub(workers * 7);
        let last = rest.and_then(|rest| rest.checked_sub(processes * 3));
        let kind = match (rest, last) {
            (None, _) => action / workers,
            (Some(rest), None) => 7 + rest / processes,
            (_, Some(last)) => 10 + last.saturating_sub(1),
        };
        if kind == self.slow && !self.world.calm.get() && !self.world.one_in(12) {
            return Ok(());
        }
        let (worker, process) = (action % workers, rest.unwrap_or(0) % processes);
        match kind {
            0 => self.fetch(worker),
            1 => self.read(worker),
            2 => self.visit(worker),
            3 => self.write_topics(worker),
            4 => self.workers[worker].topics.transact(&self.world),
            5 => self.complete(worker),
            6 => self.write_files(worker),
            7 => self.append(process),
            8 => self.sync(process),
            9 => self.write_part(process),
            10 => self.deliver(),
            11 => self.put_versions(),
            12 => self.put_manifests(),
            _ => self.look(),
        }
    }

    fn wall(&self, worker: usize) -> i64 {
        self.world.now() + self.processes[worker / self.shape.workers].skew
    }

    fn fetch(&mut self, worker: usize) -> Result<(), Stop> {
        let wall = self.wall(worker);
        let brokers = self.world.brokers.borrow();
        let partitions = self.workers[worker].source.partitions.iter_mut();
        partitions.for_each(|partition| partition.fetch(&brokers, wall));
        Ok(())
    }

    /// The cuts that a worker is to say: of files the first of each process, of snapshots the first.
    fn due(&self, worker: usize) -> Option<Cut> {
        let [files, snapshots] = match self.world.calm.get() {
            true => [6, 6],
            false => self.cuts,
        };
        let files = worker.is_multiple_of(self.shape.workers) && self.world.one_in(files);
        let snapshot = worker == 0 && self.world.one_in(snapshots);
        (files || snapshot).then_some(Cut {
            tick: 0,
            files,
            snapshot,
            stop: false,
        })
    }

    fn read(&mut self, worker: usize) -> Result<(), Stop> {
        let (wall, due) = (self.wall(worker), self.due(worker));
        let source = &mut self.workers[worker].source;
        let Sent {
            open,
            records,
            entry,
            cut,
        } = source.act(&self.world, wall, due)?;
        let all = self.workers.len();
        if let Some((time, cut)) = cut {
            self.world
                .say(|| format!("{}.{worker} says {cut:?}", self.incarnation));
            self.mail
                .extend((0..all).map(|to| Mail::Cut(to, time, cut)));
        }
        let mut boxes: Vec<Vec<Taken>> = (0..all).map(|_| Vec::new()).collect();
        for taken in records {
            let Taken {
                record,
                offset,
                tick,
                late,
            } = &taken;
            self.world.say(|| {
                format!(
                    "{}.{worker} reads {record:?} at {offset}, tick {tick}, late: {late}",
                    self.incarnation
                )
            });
            let to = worker_of(shard(taken.record.browser), OUTPUTS, all);
            boxes[to].push(taken);
        }
        let filled = boxes.into_iter().enumerate();
        let filled = filled.filter(|(_, records)| !records.is_empty());
        self.mail
            .extend(filled.map(|(to, records)| Mail::Records(to, open, records)));
        if let Some(entry) = entry {
            self.world
                .say(|| format!("{}.{worker} closes {}", self.incarnation, entry.until));
            self.processes[worker / self.shape.workers]
                .queue
                .push_back(entry);
        }
        Ok(())
    }

    fn append(&mut self, process: usize) -> Result<(), Stop> {
        let own = &mut self.processes[process];
        if let Some(entry) = own.queue.pop_front() {
            own.journal.append(&entry)?;
            own.appended.push((entry.worker as usize, entry.until));
        } else if own.appended.is_empty()
            && let Some((at, all)) = own.forget.pop_front()
        {
            self.world.say(|| {
                format!(
                    "{}: process {process} forgets before {at}, {all}",
                    self.incarnation
                )
            });
            own.journal.forget(at, all)?;
        }
        Ok(())
    }

    fn sync(&mut self, process: usize) -> Result<(), Stop> {
        let own = &mut self.processes[process];
        if !own.appended.is_empty() {
            own.journal.sync()?;
            for (worker, until) in own.appended.drain(..) {
                self.workers[worker].source.durable = until;
                self.workers[worker].source.give_up(&self.world);
            }
        }
        Ok(())
    }

    fn deliver(&mut self) -> Result<(), Stop> {
        if self.mail.is_empty() {
            return Ok(());
        }
        let n = self.world.below(self.mail.len());
        match self.mail.swap_remove(n) {
            Mail::Records(to, _, records) => {
                let worker = &mut self.workers[to];
                let (late, accepted): (Vec<_>, Vec<_>) =
                    records.into_iter().partition(|taken| taken.late);
                worker.visits.hold(batch(&accepted));
                for taken in late {
                    let input = taken.record.source;
                    let messages = worker.topics.held.entry(taken.tick).or_default();
                    messages.push(Message {
                        tick: taken.tick,
                        partition: partition(shard(taken.record.browser)),
                        what: What::Late {
                            partition: input,
                            offset: taken.offset,
                        },
                    });
                }
            }
            Mail::Cut(to, _, cut) => {
                let worker = &mut self.workers[to];
                worker.visits.cuts.add(cut);
                worker.topics.cuts.add(cut);
                worker.whole.cuts.add(cut);
                if cut.files {
                    worker.files.at.insert(cut.tick);
                }
                if cut.stop {
                    let at = &mut worker.source.stop_at;
                    *at = Some(at.map_or(cut.tick, |at| at.min(cut.tick)));
                }
            }
            Mail::Done(done) => self.versions.hold(done),
            Mail::Part(part) => self.manifests.add(part),
            Mail::Tables(to, tick) => {
                let whole = &mut self.workers[to].whole;
                whole.committed = whole.committed.max(tick);
            }
            Mail::Saved(to, tick) => {
                let all = to == 0 && tick >= self.scripts_end;
                self.processes[to].forget.push_back((tick, all));
                self.saved = self.saved.max(tick);
            }
        }
        Ok(())
    }

    fn visit(&mut self, worker: usize) -> Result<(), Stop> {
        let until = self.frontier();
        let worker = &mut self.workers[worker];
        let mut known = worker.visits.advance(&self.world, until);
        for message in known.messages.drain(..) {
            let messages = worker.topics.held.entry(message.tick).or_default();
            messages.push(message);
        }
        for (at, rows) in known.copies.drain(..) {
            worker.gathering.visits(at, rows);
        }
        worker.whole.hold(&mut known);
        Ok(())
    }

    fn write_topics(&mut self, worker: usize) -> Result<(), Stop> {
        let until = self.least(|worker| worker.visits.done);
        let worker = &mut self.workers[worker];
        for (at, positions) in worker.topics.advance(until) {
            worker.gathering.topics(at, positions);
        }
        Ok(())
    }

    fn complete(&mut self, worker: usize) -> Result<(), Stop> {
        let until = self.least(|worker| worker.visits.done);
        let worker = &mut self.workers[worker];
        let (visits, saved) = worker.whole.advance(&self.world, until)?;
        worker.files.hold(visits);
        for (at, rows) in saved {
            worker.gathering.kept(at, rows);
        }
        Ok(())
    }

    fn write_files(&mut self, worker: usize) -> Result<(), Stop> {
        let (until, known) = (self.least(|worker| worker.whole.done), self.frontier());
        let done = self.workers[worker].files.advance(until, known);
        self.mail.extend(done.into_iter().map(Mail::Done));
        Ok(())
    }

    fn put_versions(&mut self) -> Result<(), Stop> {
        let sent = self.mail.iter().filter_map(|mail| match mail {
            Mail::Done(done) => Some(done.time),
            _ => None,
        });
        let until = sent.min().unwrap_or(u64::MAX);
        let until = until.min(self.least(|worker| worker.files.done));
        if let Some(tick) = self.versions.advance(&self.world, until)? {
            let ticks = self.world.tables.borrow().each_ref().map(|t| t.last_tick());
            debug_assert_eq!(ticks.len(), TABLES.len());
            self.workers[0].gathering.tables = positions(ticks);
            let all = 0..self.workers.len();
            self.mail.extend(all.map(|to| Mail::Tables(to, tick)));
        }
        Ok(())
    }

    fn write_part(&mut self, process: usize) -> Result<(), Stop> {
        let own = self.shape.workers;
        for worker in process * own..(process + 1) * own {
            let who = (self.incarnation, worker);
            let Worker {
                gathering, source, ..
            } = &mut self.workers[worker];
            let part = gathering.write(&self.world, &self.disk, who, source.stop_at)?;
            self.mail.extend(part.map(Mail::Part));
        }
        Ok(())
    }

    fn put_manifests(&mut self) -> Result<(), Stop> {
        let committed = self.committed();
        let put = self.manifests.act(&self.world, &self.disk, committed)?;
        if let Some(tick) = put {
            let all = 0..self.processes.len();
            self.mail.extend(all.map(|to| Mail::Saved(to, tick)));
        }
        let stop_at = self.workers[0].source.stop_at;
        match stop_at.filter(|at| self.saved >= *at && committed >= *at) {
            Some(_) => Err(Stop::Stopped),
            None => Ok(()),
        }
    }

    /// Looks whether the job has been started again.
    fn look(&mut self) -> Result<(), Stop> {
        if self.world.one_in(30) {
            claim::still_ours(&self.disk, self.incarnation)?;
        }
        Ok(())
    }
}
