//! The source: reads the partitions that are dealt to a worker, in the order of their ticks, and
//! says how far time has come.
//!
//! Each partition has a clock of its own; a record's tick is its partition's when it is read. The
//! partition with the least tick is always read first, and the worker's capability is that tick:
//! no partition can be ahead in the dataflow, however far it is ahead in the log. In a replay the
//! timestamps grow as coarse as speed asks (a *step* of at least [`STEP_RECORDS`] records); live
//! they are single ticks.
//!
//! A new step is begun only while the bytes that were sent and are not committed lie under a
//! budget; one that was begun is always finished, so nothing can wait for itself.
//!
//! With a journal, what lies in a step is written down when it is closed, and the capability is given
//! up only when that is durable. Later steps go out meanwhile, so a slow disk costs latency, not
//! throughput.

mod adopt;
mod growing;
mod partition;
mod reading;

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe;
use timely::dataflow::{Scope, Stream, StreamVec};
use timely::scheduling::{Activator, SyncActivator};
use visitflow_dataflows::batch::Batch;
use visitflow_dataflows::clock::PartitionClock;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::intake::{Intake, Outboxes};
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::store::StoreError;

use crate::kafka::KafkaError;
use crate::log::LogError;
use crate::recovery::RecoveryError;
use crate::recovery::journal::{Closed, Entry};
use crate::recovery::script::Resume;
use crate::run::Failure;
use crate::wall;
pub use adopt::Adopting;
pub use growing::Growing;
pub use partition::{Hold, Partition};
pub use reading::{Reading, Record};

/// A step of a replay has at least this many records, if there are so many.
pub const STEP_RECORDS: usize = 16 << 10;
/// How long a source sleeps that has nothing to read.
const NAP: Duration = Duration::from_millis(5);
/// How long it sleeps when its budget is spent.
const BUDGET_NAP: Duration = Duration::from_micros(500);
/// How often the schema store is asked again for what it did not know, in ms.
const LOOK_AGAIN: i64 = 1_000;
/// How many ticks a stop lies ahead.
const STOP_TICKS: u64 = 5;
/// Cuts lie on multiples of this, in ms.
const CUT_LENGTH: u64 = 1_000;
/// How often it is asked whether it is time for a cut, in ms.
const CUT_ASKED: i64 = 100;

/// What a source tells of itself, for `why`.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// Each partition.
    pub partitions: Vec<PartitionState>,
    /// The worker's capability; `u64::MAX` once it is given up.
    pub tick: Tick,
    /// Whether the budget is spent.
    pub paused: bool,
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// When it last changed its capability, wall time in ms.
    pub since: i64,
}

/// What a source tells of a partition.
#[derive(Clone, Debug)]
pub struct PartitionState {
    /// Its number.
    pub partition: u32,
    /// Its tick; `u64::MAX` once it is closed.
    pub tick: Tick,
    /// What holds it.
    pub hold: Hold,
    /// The offset of what comes next.
    pub offset: u64,
    /// Its clock; `i64::MIN` before the first record.
    pub clock: i64,
    /// When a broker last answered for it, in ms of wall time, and the last error since.
    pub silence: Option<(i64, Option<String>)>,
    /// How many records are known to be unread, if a broker has said so.
    pub unread: Option<u64>,
}

/// What goes wrong in a source; the worker stops with it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The schema store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A replay does not find what was read before.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// A schema is gone that a replay needs.
    #[error(
        "the schema {0:016x} was known when its messages were read for the first time, and has left the schema \
         store; put it back"
    )]
    SchemaGone(u64),
}

/// Where a source writes down what lies in its steps.
pub struct Journaled {
    /// Takes an entry.
    pub write: Box<dyn FnMut(Entry)>,
    /// Up to where entries are durable.
    pub durable: Arc<AtomicU64>,
    /// Is given what wakes the source when that has changed.
    pub wake: Box<dyn FnMut(SyncActivator)>,
}

/// What a source needs.
pub struct Settings {
    /// The topic's name, for what is rejected.
    pub topic: String,
    /// The partitions dealt to this worker.
    pub partitions: Vec<Partition>,
    /// What decides over records.
    pub intake: Intake,
    /// Where they go.
    pub outboxes: Outboxes,
    /// Whether to wait for more at the end of a partition.
    pub follow: bool,
    /// The tick length in ms.
    pub tick_length: u64,
    /// How many bytes may be sent and not yet committed.
    pub budget: u64,
    /// How many records a step of a replay has at least; [`STEP_RECORDS`], but in tests.
    pub step_records: usize,
    /// What is committed.
    pub committed: probe::Handle<u64>,
    /// Set when the program is asked to stop.
    pub stop: Arc<AtomicBool>,
    /// Filled when it was learnt, or said, at which tick the job stops.
    pub stop_at: Rc<Cell<Option<Tick>>>,
    /// Asked now and then whether it is time for a cut, and whether it is for this worker to say;
    /// of what is returned the tick is set here.
    pub cut_due: Box<dyn FnMut() -> Option<Cut>>,
    /// Finds partitions that are added, where there can be any, and makes clocks for them.
    pub adopting: Option<(Adopting, PartitionClock)>,
    /// Where steps are written down, if a job can go on after a crash.
    pub journal: Option<Journaled>,
    /// The worker.
    pub worker: u32,
    /// What the source tells of itself.
    pub state: Arc<Mutex<SourceState>>,
    /// Where it leaves what went wrong.
    pub failure: Failure,
}

struct Source {
    settings: Settings,
    partitions: Vec<Partition>,
    /// Steps that were sent and are not committed: their first tick and bytes.
    flying: VecDeque<(Tick, u64)>,
    flying_bytes: u64,
    /// Records of the step at hand.
    step_records: usize,
    step_bytes: u64,
    looked_again: i64,
    cut_asked: i64,
    /// The timestamp of the step at hand; the capability may still be an earlier one.
    open: Tick,
    /// Where closed steps end, and whether an entry must be durable before that counts.
    closing: VecDeque<(Tick, bool)>,
    /// For what a restored state holds already.
    discard: Outboxes,
}

impl Source {
    fn tell(&self) -> std::sync::MutexGuard<'_, SourceState> {
        self.settings
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn least(&self) -> Tick {
        self.partitions
            .iter()
            .map(|p| p.next)
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Reads a step's worth of records, the earliest ticks first.
    fn read(
        &mut self,
        now: Tick,
        wall: i64,
        send: &mut impl FnMut(Batch),
    ) -> Result<(), SourceError> {
        let Source {
            settings,
            partitions,
            ..
        } = self;
        for partition in partitions.iter_mut() {
            partition.look(settings.follow, wall)?;
        }
        let mut state = settings
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut last = now;
        loop {
            let tick = partitions.iter().map(|p| p.next).min().unwrap_or(u64::MAX);
            // A step ends between ticks; live, where the tick is the wall clock's, with the tick.
            let enough = self.step_records >= settings.step_records && tick > last;
            let unread = partitions
                .iter()
                .position(|p| p.hold == Hold::Unread && p.next == tick);
            let stopped = tick >= settings.stop_at.get().unwrap_or(u64::MAX);
            let Some(at) = unread.filter(|_| !enough && !stopped) else {
                break;
            };
            last = tick;
            let partition = &mut partitions[at];
            let Settings {
                topic,
                intake,
                outboxes,
                ..
            } = settings;
            let (step_records, step_bytes) = (&mut self.step_records, &mut self.step_bytes);
            let took = |outboxes: &mut Outboxes, length: usize| {
                *step_records += 1;
                *step_bytes += length as u64;
                state.records += 1;
                state.bytes += length as u64;
                outboxes.ready(false).for_each(&mut *send);
            };
            partition.take(tick, wall, topic, intake, outboxes, &mut self.discard, took)?;
            self.discard.ready(true).for_each(drop);
            if partition.next <= tick {
                partition.look(settings.follow, wall)?;
            }
        }
        settings.outboxes.ready(true).for_each(send);
        Ok(())
    }
}

impl Source {
    /// Closes the step at hand, in front of `next`.
    fn close(&mut self, next: Tick) {
        self.flying.push_back((self.open, self.step_bytes));
        self.flying_bytes += self.step_bytes;
        (self.step_records, self.step_bytes) = (0, 0);
        self.open = next;
        let Some(journal) = &mut self.settings.journal else {
            self.closing.push_back((next, false));
            return;
        };
        let partitions: Vec<_> = self
            .partitions
            .iter_mut()
            .filter_map(Partition::close_step)
            .collect();
        // While all follow their scripts the entries are those of before.
        let fresh = !partitions.is_empty();
        if fresh {
            (journal.write)(Entry {
                worker: self.settings.worker,
                until: next,
                partitions,
            });
        }
        self.closing.push_back((next, fresh));
    }

    /// Takes over partitions that were added. Their ticks lie at or behind the step at hand.
    fn adopt(&mut self) -> Result<(), SourceError> {
        let Some((adopting, clock)) = &mut self.settings.adopting else {
            return Ok(());
        };
        for reader in adopting.found()? {
            let partition = reader.partition() as u32;
            let base = Closed {
                partition,
                next: reader.offset() as u64,
                ..Closed::default()
            };
            if let Some(journal) = &mut self.settings.journal {
                (journal.write)(Entry {
                    worker: self.settings.worker,
                    until: self.open,
                    partitions: vec![base],
                });
            }
            let resume = Resume {
                floor: self.open,
                ..Resume::default()
            };
            let reading = Reading::Kafka(reader);
            let own = Partition::new(partition, reading, *clock, resume, 0);
            self.partitions.push(own);
        }
        Ok(())
    }

    /// Up to where the capability may be given up.
    fn durable(&mut self, held: Tick) -> Tick {
        let durable = match &self.settings.journal {
            Some(journal) => journal.durable.load(Ordering::Acquire),
            None => u64::MAX,
        };
        let mut until = held;
        while let Some((next, entry)) = self.closing.front().copied() {
            if entry && next > durable {
                break;
            }
            until = until.max(next);
            self.closing.pop_front();
        }
        until
    }

    fn take_back_committed(&mut self) {
        while let Some((tick, bytes)) = self.flying.front().copied() {
            if self.settings.committed.less_equal(&tick) {
                break;
            }
            self.flying_bytes -= bytes;
            self.flying.pop_front();
        }
    }

    /// A cut, if it is time for one. It lies in front of what this worker may still say. Any worker
    /// may say one: what it has not closed yet holds the frontier of all. Of several stops the
    /// earliest counts, and whoever says one goes no further from now on.
    fn cut(&mut self, next: Tick, wall: i64) -> Option<Cut> {
        if next == u64::MAX {
            return None;
        }
        let settings = &mut self.settings;
        let stop = settings.stop.load(Ordering::Relaxed) && settings.stop_at.get().is_none();
        let asks = wall - self.cut_asked >= CUT_ASKED;
        if asks {
            self.cut_asked = wall;
        }
        let due = if asks { (settings.cut_due)() } else { None };
        if !stop && due.is_none() {
            return None;
        }
        // Others may be ahead a little; a stop behind all of them leaves nothing to be replayed.
        let ahead = if stop { STOP_TICKS } else { 1 };
        let tick = next.max(self.open) + ahead * settings.tick_length;
        // What watches visits has no state within a step of its own.
        let tick = tick.next_multiple_of(CUT_LENGTH);
        if stop {
            settings.stop_at.set(Some(tick));
        }
        Some(Cut {
            tick,
            stop,
            files: stop || due.is_some_and(|cut| cut.files),
            snapshot: stop || due.is_some_and(|cut| cut.snapshot),
        })
    }
}

/// Records, and cuts, of a worker's partitions.
pub fn source<'s>(
    scope: Scope<'s, u64>,
    settings: Settings,
) -> (Stream<'s, u64, Batch>, StreamVec<'s, u64, Cut>) {
    let mut builder = OperatorBuilder::new("Source".to_owned(), scope);
    let (records, records_stream) = builder.new_output();
    let (cuts, cuts_stream) = builder.new_output();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(records);
    let mut cuts = OutputBuilder::<_, CapacityContainerBuilder<Vec<Cut>>>::from(cuts);
    let address = builder.operator_info().address;
    let wake = scope.worker().sync_activator_for(address.to_vec());
    let activator: Activator = scope.activator_for(address);
    builder.build(move |mut caps| {
        let mut settings = settings;
        if let Some(journal) = &mut settings.journal {
            (journal.wake)(wake);
        }
        let partitions = std::mem::take(&mut settings.partitions);
        let mut source = Source {
            partitions,
            discard: settings.outboxes.like(),
            settings,
            flying: VecDeque::new(),
            flying_bytes: 0,
            step_records: 0,
            step_bytes: 0,
            looked_again: 0,
            cut_asked: 0,
            open: 0,
            closing: VecDeque::new(),
        };
        move |_| {
            if caps.is_empty() || source.settings.failure.is_set() {
                return;
            }
            let held = *caps[0].time();
            let durable = source.durable(held);
            if durable == u64::MAX {
                caps.clear();
                source.tell().tick = u64::MAX;
                return;
            }
            if durable > held {
                caps.iter_mut().for_each(|cap| cap.downgrade(&durable));
            }
            if source.open == u64::MAX {
                // All is read; the journal wakes us when it is durable.
                return;
            }
            source.take_back_committed();
            let stop_at = source.settings.stop_at.get();
            let stopping = stop_at.is_some_and(|at| source.open >= at);
            let paused = source.step_records == 0 && source.flying_bytes >= source.settings.budget;
            source.tell().paused = paused;
            if stopping {
                return;
            }
            if paused {
                activator.activate_after(BUDGET_NAP);
                return;
            }
            let wall = wall::now();
            // Between steps only: what is known must not change within an entry.
            if source.step_records == 0 && wall - source.looked_again >= LOOK_AGAIN {
                source.looked_again = wall;
                source.settings.intake.look_again();
                if let Err(error) = source.adopt() {
                    source.settings.failure.set(error);
                    return;
                }
            }
            let (before, open) = (source.step_records, source.open);
            {
                let cap = caps[0].delayed(&open);
                let mut output = records.activate();
                let mut session = output.session(&cap);
                let send = &mut |mut batch: Batch| session.give_container(&mut batch);
                if let Err(error) = source.read(open, wall, send) {
                    source.settings.failure.set(error);
                    return;
                }
            }
            let read = source.step_records > before;
            let limit = source.settings.stop_at.get().unwrap_or(u64::MAX);
            let next = source.least().min(limit);
            if let Some(cut) = source.cut(next, wall) {
                cuts.activate().session(&caps[1]).give(cut);
            }
            if next > open {
                source.close(next);
                let mut state = source.tell();
                (state.tick, state.since) = (next, wall);
            }
            let tell = |p: &mut Partition| PartitionState {
                partition: p.index,
                tick: p.next,
                hold: p.hold,
                offset: p.reading.offset(),
                clock: p.clock.now(),
                silence: p.reading.silence(),
                unread: p.reading.unread(),
            };
            let told = source.partitions.iter_mut().map(tell).collect();
            source.tell().partitions = told;
            let unread = source.partitions.iter().any(|p| p.hold == Hold::Unread);
            if source.settings.journal.is_none() && next > open || read || (next > open && unread) {
                activator.activate();
            } else {
                activator.activate_after(NAP);
            }
        }
    });
    (records_stream, cuts_stream)
}
