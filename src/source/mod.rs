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

use std::cell::Cell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use timely::dataflow::operators::probe;
use timely::dataflow::{Scope, Stream, StreamVec};
use timely::scheduling::Activator;
use visitflow_dataflows::batch::{Batch, Fate};
use visitflow_dataflows::clock::PartitionClock;
use visitflow_dataflows::intake::{Arrived, Intake, Outboxes};
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::{FolderStore, SchemaStore, StoreError};

use crate::log::{LogError, Reader};
use crate::run::Failure;
use crate::wall;

/// A step of a replay has at least this many records, if there are so many.
pub const STEP_RECORDS: usize = 16 << 10;
/// How long a source sleeps that has nothing to read.
const NAP: Duration = Duration::from_millis(5);
/// How long it sleeps when its budget is spent.
const BUDGET_NAP: Duration = Duration::from_micros(500);
/// How often the schema store is asked again for what it did not know, in ms.
const LOOK_AGAIN: i64 = 1_000;
/// How often it is asked whether it is time for a cut, in ms.
const CUT_ASKED: i64 = 100;

/// A folder of schemas that grows while the job runs: what is not known is looked for in the folder.
/// The intake asks for what was missing once a second at most.
pub struct Growing(pub FolderStore);

impl SchemaStore for Growing {
    fn get(&self, fingerprint: u64) -> Result<Option<Schema>, StoreError> {
        if let Some(schema) = self.0.get(fingerprint)? {
            return Ok(Some(schema));
        }
        // A file that is still being written, or holds no schema, hides none of the others and
        // must not end the job.
        let _ = self.0.rescan();
        self.0.get(fingerprint)
    }

    fn put(&self, schema: &Schema) -> Result<(), StoreError> {
        self.0.put(schema)
    }

    fn all(&self) -> Result<Vec<Schema>, StoreError> {
        self.0.all()
    }
}

/// A tick at which every table closes its files and commits them: all seals at ticks before
/// `tick` belong to the version.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize,
)]
pub struct Cut {
    /// The first tick that does not belong.
    pub tick: Tick,
    /// Whether the job stops there.
    pub stop: bool,
}

/// One partition of the source's topic.
pub struct Partition {
    /// Its number.
    pub index: u32,
    reader: Reader,
    clock: PartitionClock,
    /// The tick of what comes next; `u64::MAX` once it is closed.
    next: Tick,
    /// What holds `next` where it is.
    hold: Hold,
}

/// Which term of the minimum holds a partition's tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// The wall clock: everything there is has been read.
    Wall,
    /// Its records' own times: there is more to read.
    Unread,
    /// A budget: what was read and is not written yet is too much.
    Paused,
    /// It was read to its end and is not followed.
    Closed,
}

/// What a source tells of itself, for `why`.
#[derive(Clone, Debug, Default)]
pub struct SourceState {
    /// For each partition: its number, its tick, what holds it, the offset of what comes next and
    /// its clock.
    pub partitions: Vec<(u32, Tick, Hold, u64, i64)>,
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

/// What goes wrong in a source; the worker stops with it.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The schema store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a source needs.
pub struct Settings {
    /// The topic's name, for what is rejected.
    pub topic: String,
    /// The partitions dealt to this worker.
    pub partitions: Vec<(u32, Reader, PartitionClock)>,
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
    /// Asked now and then whether it is time for a cut, and whether it is for this worker to say.
    pub cut_due: Box<dyn FnMut() -> bool>,
    /// What the source tells of itself.
    pub state: Arc<Mutex<SourceState>>,
    /// Where it leaves what went wrong.
    pub failure: Failure,
}

impl Partition {
    /// Looks at what comes next and says at which tick that is.
    /// `asked` is a wall time before which nobody had looked.
    fn look(&mut self, follow: bool, asked: i64) -> Result<(), SourceError> {
        if self.hold == Hold::Closed {
            return Ok(());
        }
        match self.reader.peek()? {
            Some(record) => {
                self.next = self.clock.tick_of(record.log_time, asked);
                self.hold = Hold::Unread;
            }
            None if follow => {
                self.next = self.clock.tick_at_end(asked, asked);
                self.clock.advance(self.next);
                self.hold = Hold::Wall;
            }
            None => {
                self.next = u64::MAX;
                self.hold = Hold::Closed;
            }
        }
        Ok(())
    }
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
            partition.clock.advance(tick);
            while let Some(record) = partition.reader.peek()? {
                partition.next = partition.clock.tick_of(record.log_time, wall);
                if partition.next > tick {
                    break;
                }
                let arrived = Arrived {
                    topic: &settings.topic,
                    partition: partition.index,
                    offset: record.offset,
                    log_time: record.log_time,
                    value: record.value,
                };
                let bytes = record.value.len() as u64;
                let _: Fate =
                    settings
                        .intake
                        .take(arrived, &mut partition.clock, &mut settings.outboxes)?;
                partition.reader.advance();
                self.step_records += 1;
                self.step_bytes += bytes;
                state.records += 1;
                state.bytes += bytes;
                settings.outboxes.ready(false).for_each(&mut *send);
            }
            if partition.next <= tick {
                partition.look(settings.follow, wall)?;
            }
        }
        settings.outboxes.ready(true).for_each(send);
        Ok(())
    }
}

/// Records, and the cuts of tables, of a worker's partitions.
pub fn source<'s>(
    scope: Scope<'s, u64>,
    settings: Settings,
) -> (Stream<'s, u64, Batch>, StreamVec<'s, u64, Cut>) {
    let mut builder = OperatorBuilder::new("Source".to_owned(), scope);
    let (records, records_stream) = builder.new_output();
    let (cuts, cuts_stream) = builder.new_output();
    let mut records = OutputBuilder::<_, CapacityContainerBuilder<Batch>>::from(records);
    let mut cuts = OutputBuilder::<_, CapacityContainerBuilder<Vec<Cut>>>::from(cuts);
    let activator: Activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |mut caps| {
        let mut settings = settings;
        let partitions = std::mem::take(&mut settings.partitions);
        let partitions = partitions
            .into_iter()
            .map(|(index, reader, clock)| Partition {
                index,
                reader,
                clock,
                next: 0,
                hold: Hold::Wall,
            });
        let mut source = Source {
            partitions: partitions.collect(),
            settings,
            flying: VecDeque::new(),
            flying_bytes: 0,
            step_records: 0,
            step_bytes: 0,
            looked_again: 0,
            cut_asked: 0,
        };
        move |_| {
            let (Some(held), true) = (caps.first(), !source.settings.failure.is_set()) else {
                return;
            };
            let now = *held.time();
            while let Some((tick, bytes)) = source.flying.front().copied() {
                if source.settings.committed.less_equal(&tick) {
                    break;
                }
                source.flying_bytes -= bytes;
                source.flying.pop_front();
            }
            let stopping = source.settings.stop_at.get().is_some_and(|at| now >= at);
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
            if wall - source.looked_again >= LOOK_AGAIN {
                source.looked_again = wall;
                source.settings.intake.look_again();
            }
            let before = source.step_records;
            {
                let mut output = records.activate();
                let mut session = output.session(held);
                let send = &mut |mut batch: Batch| session.give_container(&mut batch);
                if let Err(error) = source.read(now, wall, send) {
                    source.settings.failure.set(error);
                    return;
                }
            }
            let read = source.step_records > before;
            let limit = source.settings.stop_at.get().unwrap_or(u64::MAX);
            let next = source.least().min(limit);

            // A cut lies in front of what this worker may still say, and is said before that. Any
            // worker may: what it has not closed yet holds the frontier of all. Of several stops the
            // earliest counts, and whoever says one goes no further from now on.
            if next != u64::MAX {
                let asks = wall - source.cut_asked >= CUT_ASKED;
                if asks {
                    source.cut_asked = wall;
                }
                let settings = &mut source.settings;
                let stop =
                    settings.stop.load(Ordering::Relaxed) && settings.stop_at.get().is_none();
                if stop || (asks && (settings.cut_due)()) {
                    let tick = next.max(now) + settings.tick_length;
                    cuts.activate().session(&caps[1]).give(Cut { tick, stop });
                    if stop {
                        settings.stop_at.set(Some(tick));
                    }
                }
            }
            if next > now {
                source.flying.push_back((now, source.step_bytes));
                source.flying_bytes += source.step_bytes;
                (source.step_records, source.step_bytes) = (0, 0);
                let mut state = source.tell();
                (state.tick, state.since) = (next, wall);
            }
            let tell = |p: &Partition| (p.index, p.next, p.hold, p.reader.offset(), p.clock.now());
            let told = source.partitions.iter().map(tell).collect();
            source.tell().partitions = told;
            if next == u64::MAX {
                caps.clear();
                return;
            }
            if next > now {
                caps.iter_mut().for_each(|cap| cap.downgrade(&next));
            }
            if read || (next > now && source.partitions.iter().any(|p| p.hold == Hold::Unread)) {
                activator.activate();
            } else {
                activator.activate_after(NAP);
            }
        }
    });
    (records_stream, cuts_stream)
}
