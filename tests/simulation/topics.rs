//! The topics' sink of a worker, as `visitflow::sink::topics` and `visitflow::sink::kafka` are:
//! whole ticks in transactions with the progress they make, one transaction at a time.

use std::collections::BTreeMap;
use std::rc::Rc;

use visitflow::recovery::claim::Committed;
use visitflow::recovery::manifest::Position;
use visitflow_dataflows::cut::Cuts;
use visitflow_dataflows::visit::Tick;

use crate::broker::{Brokers, Message, OUTPUTS, Request, Standing};
use crate::job::Stop;
use crate::world::World;

/// The sink's name.
pub const SINK: &str = "kafka";

/// A worker's transactional ID.
pub fn producer(worker: usize) -> String {
    format!("job-{worker}")
}

/// A worker's topics.
pub struct Topics {
    worker: usize,
    workers: usize,
    /// By partition: the last tick that was committed before the start.
    taken: Vec<Tick>,
    pub held: BTreeMap<Tick, Vec<Message>>,
    pub cuts: Cuts,
    filling: Vec<Message>,
    always: bool,
    given: Tick,
    in_flight: Option<Tick>,
    /// Up to where all is committed: the capability.
    pub committed: Tick,
    thread: Transactions,
}

impl Topics {
    pub fn new(
        (worker, workers): (usize, usize),
        incarnation: u64,
        progress: &[Committed],
    ) -> Topics {
        let taken = |n: u32| progress.get(n as usize).map_or(0, |own| own.tick);
        Topics {
            worker,
            workers,
            taken: (0..OUTPUTS).map(taken).collect(),
            held: BTreeMap::new(),
            cuts: Cuts::default(),
            filling: Vec::new(),
            always: false,
            given: 0,
            in_flight: None,
            committed: 0,
            thread: Transactions::new(producer(worker), incarnation),
        }
    }

    fn own(&self) -> impl Iterator<Item = u32> + use<> {
        let (worker, workers) = (self.worker, self.workers);
        (0..OUTPUTS).filter(move |n| *n as usize % workers == worker)
    }

    /// Takes all that lies before `until`; how far partitions have come, at each snapshot.
    pub fn advance(&mut self, until: Tick) -> Vec<(Tick, Vec<Position>)> {
        let mut saved = Vec::new();
        while let Some(cut) = self.cuts.next(until) {
            if cut.snapshot {
                self.release(cut.tick);
                self.always = true;
                self.given = cut.tick;
                self.send();
                let position = |partition| Position {
                    sink: SINK.to_owned(),
                    partition,
                    tick: cut.tick - 1,
                    sum: 0,
                };
                saved.push((cut.tick, self.own().map(position).collect()));
            }
        }
        if until > self.given {
            self.release(until);
            self.given = until;
            self.send();
        }
        saved
    }

    fn release(&mut self, until: Tick) {
        let later = self.held.split_off(&until);
        for message in std::mem::replace(&mut self.held, later)
            .into_values()
            .flatten()
        {
            assert_eq!(message.partition as usize % self.workers, self.worker);
            if message.tick > self.taken[message.partition as usize] {
                self.filling.push(message);
            }
        }
    }

    fn send(&mut self) {
        if self.in_flight.is_some() || self.given <= self.committed {
            return;
        }
        if self.filling.is_empty() && !self.always {
            self.committed = self.given;
            return;
        }
        self.always = false;
        let given = self.given;
        let taken = &self.taken;
        let ahead = self.own().filter(|n| given > taken[*n as usize] + 1);
        let until = ahead.map(|n| (n, given)).collect();
        self.in_flight = Some(given);
        self.thread.batch = Some((std::mem::take(&mut self.filling), until));
    }

    /// Lets the thread work once that writes transactions.
    pub fn transact(&mut self, world: &Rc<World>) -> Result<(), Stop> {
        if !self.thread.work(world)? {
            return Ok(());
        }
        if let Some(until) = self.in_flight.take() {
            world.say(|| format!("{} has committed {until}", self.thread.id));
            self.committed = until;
        }
        self.send();
        Ok(())
    }
}

/// What a producer does next.
#[derive(Clone, Copy)]
enum Stage {
    /// Looks at progress, before it takes the ID over.
    Look,
    /// Takes it over.
    Init,
    /// Looks again.
    LookAgain(u64),
    /// Writes, in this epoch.
    Write(u64),
    /// Waits for the answer to a request of this number and epoch.
    Wait(u64, u64),
}

/// The thread that writes the transactions of a worker.
struct Transactions {
    id: String,
    standing: Standing,
    stage: Stage,
    /// Whether it has said in the topic of progress that the ID is its own.
    opened: bool,
    batch: Option<(Vec<Message>, BTreeMap<u32, Tick>)>,
}

impl Transactions {
    fn new(id: String, incarnation: u64) -> Transactions {
        Transactions {
            standing: Standing {
                incarnation,
                session: incarnation,
                ..Standing::default()
            },
            id,
            stage: Stage::Look,
            opened: false,
            batch: None,
        }
    }

    /// What the ID has committed, if this is still the one to write.
    fn found(&self, brokers: &Brokers) -> Result<Standing, Stop> {
        let found = brokers.standing(&self.id).cloned().unwrap_or_default();
        let other = self.opened && found.session != self.standing.session;
        if found.incarnation > self.standing.incarnation || other {
            return Err(Stop::Superseded);
        }
        Ok(found)
    }

    /// What it has committed once the batch is.
    fn after(&self) -> Standing {
        let mut standing = self.standing.clone();
        if let Some((_, until)) = &self.batch {
            standing.sequence += 1;
            standing.until.extend(until);
        }
        standing
    }

    /// Works once; whether the batch has been committed by it.
    fn work(&mut self, world: &Rc<World>) -> Result<bool, Stop> {
        let brokers = &mut *world.brokers.borrow_mut();
        if self.opened && self.batch.is_none() {
            return Ok(false);
        }
        match self.stage {
            Stage::Wait(number, epoch) => match brokers.answer(number) {
                Some(true) => return Ok(self.committed(epoch)),
                Some(false) => self.stage = Stage::Look,
                // It may be on its way still, or lost, or its answer is.
                None if world.one_in(12) => self.stage = Stage::Look,
                None => {}
            },
            _ if !brokers.reachable => {}
            Stage::Look => {
                self.found(brokers)?;
                self.stage = Stage::Init;
            }
            Stage::Init => self.stage = Stage::LookAgain(brokers.init(&self.id)),
            Stage::LookAgain(epoch) => {
                let found = self.found(brokers)?;
                self.stage = Stage::Write(epoch);
                if !self.opened {
                    self.standing.until = found.until;
                } else if found.sequence > self.standing.sequence {
                    return Ok(self.committed(epoch));
                }
            }
            Stage::Write(epoch) => {
                let (messages, standing) = match (&self.batch, self.opened) {
                    (Some((messages, _)), true) => (messages.clone(), self.after()),
                    _ => (Vec::new(), self.standing.clone()),
                };
                let id = self.id.clone();
                world.say(|| format!("{id} sends {} and {:?}", messages.len(), standing));
                let number = brokers.send(Request {
                    number: 0,
                    id,
                    epoch,
                    messages,
                    standing,
                });
                self.stage = Stage::Wait(number, epoch);
            }
        }
        Ok(false)
    }

    /// What was sent is committed; whether it was the batch.
    fn committed(&mut self, epoch: u64) -> bool {
        self.stage = Stage::Write(epoch);
        if !self.opened {
            self.opened = true;
            return false;
        }
        self.standing = self.after();
        self.batch.take().is_some()
    }
}
