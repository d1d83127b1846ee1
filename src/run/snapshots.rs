//! Snapshots of a running job: each worker's state as of a cut is gathered, written to a part by a
//! thread, and when all parts are there and all sinks have come so far, the first worker's thread
//! puts the manifest.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::File;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::probe;
use timely::dataflow::operators::{Capability, generic::Operator};
use visitflow_dataflows::complete::saved::Collected;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::Shards;
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::saved::Copied;

use super::{Failure, RunError};
use crate::crash;
use crate::recovery::manifest::{self, Chain, Kept, Part, Parts, Position, Snapshot};
use crate::recovery::{Folder, RecoveryError};
use crate::shelf::ShelfError;
use crate::snapshot::rows::{self, State};
use crate::store::{Runs, Ticket};

/// How often it is looked what the thread has done, and how far the sinks have come, while there is
/// a snapshot on its way.
const LOOK: Duration = Duration::from_millis(5);

/// What a worker has gathered of its state as of a tick.
#[derive(Default)]
struct Gathered {
    visits: Option<Copied>,
    kept: Option<(Collected, Ticket, Vec<u64>)>,
    topics: Option<Vec<Position>>,
    named: BTreeMap<String, Shards>,
    shelf: Option<Syncing>,
}

/// Makes durable what was put on a worker's shelf; done by the thread, before the part counts.
pub type Syncing = Box<dyn FnOnce() -> Result<(), ShelfError> + Send>;

/// A worker's state for the snapshots to come, as its operators hand it over. Clones are the same.
#[derive(Clone)]
pub struct Gathering(Rc<RefCell<Inner>>);

struct Inner {
    worker: usize,
    keeps: bool,
    has_topics: bool,
    has_shelf: bool,
    /// What fragments keep that have asked for it.
    names: BTreeSet<String>,
    gathered: BTreeMap<Tick, Gathered>,
    writing: Option<Arc<Writing>>,
    unsynced: Arc<Mutex<Vec<File>>>,
    tables: Vec<Position>,
}

impl Gathering {
    /// For a worker that keeps measurements, or not, and writes topics, or not. Without a thread
    /// that writes, nothing is gathered.
    pub fn new(
        worker: usize,
        keeps: bool,
        has_topics: bool,
        writing: Option<Arc<Writing>>,
    ) -> Gathering {
        Gathering(Rc::new(RefCell::new(Inner {
            worker,
            keeps,
            has_topics,
            has_shelf: false,
            names: BTreeSet::new(),
            gathered: BTreeMap::new(),
            writing,
            unsynced: Arc::default(),
            tables: Vec::new(),
        })))
    }

    /// Files that must be durable before the next part counts.
    pub fn unsynced(&self) -> Arc<Mutex<Vec<File>>> {
        self.0.borrow().unsynced.clone()
    }

    /// How far tables have come; on the first worker.
    pub fn tables(&self, positions: Vec<Position>) {
        self.0.borrow_mut().tables = positions;
    }

    /// Takes a copy of the open visits.
    pub fn visits(&self, at: Tick, copied: Copied) {
        self.0.borrow_mut().add(at, |all| all.visits = Some(copied));
    }

    /// Takes what is kept of measurements.
    pub fn kept(&self, at: Tick, rows: Collected, ticket: Ticket, segments: Vec<u64>) {
        let kept = (rows, ticket, segments);
        self.0.borrow_mut().add(at, |all| all.kept = Some(kept));
    }

    /// A fragment will keep something under this name at each snapshot.
    pub fn expect(&self, name: &str) {
        self.0.borrow_mut().names.insert(name.to_owned());
    }

    /// Takes what a fragment keeps.
    pub fn named(&self, at: Tick, name: &str, shards: Shards) {
        self.0.borrow_mut().add(at, |all| {
            all.named.insert(name.to_owned(), shards);
        });
    }

    /// The worker has a shelf, which is to be durable at each snapshot.
    pub fn expect_shelf(&self) {
        self.0.borrow_mut().has_shelf = true;
    }

    /// Takes what makes the shelf durable.
    pub fn shelf(&self, at: Tick, syncing: Syncing) {
        self.0.borrow_mut().add(at, |all| all.shelf = Some(syncing));
    }

    /// Takes how far topics have come.
    pub fn topics(&self, at: Tick, positions: Vec<Position>) {
        self.0
            .borrow_mut()
            .add(at, |all| all.topics = Some(positions));
    }
}

impl Inner {
    fn add(&mut self, at: Tick, add: impl FnOnce(&mut Gathered)) {
        let Some(writing) = &self.writing else { return };
        let gathered = self.gathered.entry(at).or_default();
        add(gathered);
        let whole = gathered.visits.is_some()
            && gathered.kept.is_some() == self.keeps
            && gathered.topics.is_some() == self.has_topics
            && gathered.shelf.is_some() == self.has_shelf
            && gathered.named.len() == self.names.len();
        if !whole {
            return;
        }
        let Some(gathered) = self.gathered.remove(&at) else {
            return;
        };
        let (kept, ticket, segments) = match gathered.kept {
            Some((kept, ticket, segments)) => (kept, Some(ticket), segments),
            None => Default::default(),
        };
        let mut sinks = gathered.topics.unwrap_or_default();
        sinks.extend(self.tables.iter().cloned());
        let unsynced =
            std::mem::take(&mut *self.unsynced.lock().unwrap_or_else(PoisonError::into_inner));
        writing.send(Work::Part(PartWork {
            tick: at,
            worker: self.worker,
            visits: gathered.visits.unwrap_or_default(),
            kept,
            named: gathered.named,
            shelf: gathered.shelf,
            ticket,
            segments,
            sinks,
            unsynced,
        }));
    }
}

/// A part to be written.
struct PartWork {
    tick: Tick,
    worker: usize,
    visits: Copied,
    kept: Collected,
    named: BTreeMap<String, Shards>,
    shelf: Option<Syncing>,
    ticket: Option<Ticket>,
    segments: Vec<u64>,
    sinks: Vec<Position>,
    unsynced: Vec<File>,
}

enum Work {
    Part(PartWork),
    Manifest(Snapshot),
}

/// What the thread has done.
#[derive(Default)]
struct Done {
    /// By worker.
    parts: BTreeMap<usize, Vec<Part>>,
    manifests: Vec<Tick>,
}

/// The thread that writes parts and manifests, as the workers of a process see it.
pub struct Writing {
    sender: Mutex<Option<Sender<Work>>>,
    done: Arc<Mutex<Done>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writing {
    /// Starts it. Manifests go to `chain`, on the first process; in them is what the job keeps.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        disk: Folder,
        incarnation: u64,
        chain: Option<Chain>,
        kept: Kept,
        failure: Failure,
    ) -> Result<Writing, RunError> {
        let (sender, receiver) = channel();
        let done: Arc<Mutex<Done>> = Arc::default();
        let own = done.clone();
        let work = move || {
            let to = chain.map(|chain| (chain, kept));
            if let Err(error) = write_all(&disk, incarnation, to, &receiver, &own) {
                failure.set(error);
            }
        };
        let thread = std::thread::Builder::new().name("snapshots".into());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| RunError::Start(error.to_string()))?;
        Ok(Writing {
            sender: Mutex::new(Some(sender)),
            done,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Says that the input has ended, and everything is committed: nothing of the state is needed.
    pub fn end(&self) {
        self.send(Work::Manifest(Snapshot {
            tick: u64::MAX,
            ..Snapshot::default()
        }));
    }

    fn send(&self, work: Work) {
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever does not listen any more has said why.
        let _ = sender.as_ref().map(|to| to.send(work));
    }

    fn done(&self) -> std::sync::MutexGuard<'_, Done> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what was sent, and ends.
    pub fn finish(&self) {
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn write_all(
    disk: &Folder,
    incarnation: u64,
    mut to: Option<(Chain, Kept)>,
    receiver: &Receiver<Work>,
    done: &Mutex<Done>,
) -> Result<(), RunError> {
    for work in receiver {
        match work {
            Work::Part(part) => {
                let worker = part.worker;
                let part = write_part(disk, incarnation, part)?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.parts.entry(worker).or_default().push(part);
            }
            Work::Manifest(mut snapshot) => {
                let Some((chain, kept)) = to.as_mut() else {
                    continue;
                };
                snapshot.kept.clone_from(kept);
                let tick = snapshot.tick;
                let named: HashSet<u64> = snapshot.segments.iter().copied().collect();
                crash::point("manifest");
                chain.put(disk, snapshot)?;
                crash::point("manifest-put");
                manifest::sweep(disk, incarnation)?;
                // At the end of input not even our own are needed.
                let older = incarnation + u64::from(tick == u64::MAX);
                Runs::sweep(disk.path(), &named, older).map_err(crate::sink::SinkError::from)?;
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.manifests.push(tick);
            }
        }
    }
    Ok(())
}

fn write_part(disk: &Folder, incarnation: u64, part: PartWork) -> Result<Part, RunError> {
    let file = manifest::part_name(part.tick, incarnation, part.worker);
    let state = State {
        visits: part.visits.shards(),
        kept: part.kept.shards(),
        named: part.named,
    };
    let latest = state.visits.iter().map(|rows| rows.latest()).max();
    let latest = latest.unwrap_or(0);
    crash::point("snapshot-part");
    rows::write(&disk.path_of(&file), &state)?;
    if let Some(ticket) = part.ticket {
        ticket.wait().map_err(crate::sink::SinkError::from)?;
    }
    if let Some(sync) = part.shelf {
        sync()?;
    }
    for file in part.unsynced {
        file.sync_all().map_err(|source| RecoveryError::Io {
            action: "sync",
            path: "a topic's segment".into(),
            source,
        })?;
    }
    Ok(Part {
        tick: part.tick,
        stop: false,
        worker: part.worker as u32,
        file,
        segments: part.segments,
        latest,
        sinks: part.sinks,
    })
}

/// Sends the parts of a worker to the first, when they are written.
pub fn parts<'s>(
    cuts: StreamVec<'s, u64, Cut>,
    worker: usize,
    writing: Arc<Writing>,
) -> StreamVec<'s, u64, Part> {
    let scope = cuts.scope();
    cuts.unary_frontier::<CapacityContainerBuilder<Vec<Part>>, _, _, _>(
        Pipeline,
        "Parts",
        move |_, info| {
            let activator = scope.activator_for(info.address);
            let mut held: BTreeMap<Tick, (Cut, Capability<u64>)> = BTreeMap::new();
            move |(input, _), output| {
                input.for_each(|cap, cuts| {
                    for cut in cuts.drain(..).filter(|cut| cut.snapshot) {
                        let Some(own) = cap.retain_least(0) else {
                            continue;
                        };
                        // One of the clock's may lie where the job stops.
                        let due = (cut, own.delayed(&cut.tick));
                        held.entry(cut.tick).or_insert(due).0.stop |= cut.stop;
                    }
                });
                let parts = writing.done().parts.remove(&worker).unwrap_or_default();
                for mut part in parts {
                    if let Some((cut, cap)) = held.remove(&part.tick) {
                        part.stop = cut.stop;
                        output.session(&cap).give(part);
                    }
                }
                if !held.is_empty() {
                    activator.activate_after(LOOK);
                }
            }
        },
    )
}

/// Puts manifests, on the first worker, once all parts are there and `committed` has come so far.
/// The stream that comes back says which snapshots count.
pub fn manifests<'s>(
    parts: StreamVec<'s, u64, Part>,
    committed: probe::Handle<u64>,
    writing: Arc<Writing>,
) -> StreamVec<'s, u64, Tick> {
    let scope = parts.scope();
    let (workers, first) = (scope.peers(), scope.index() == 0);
    parts.unary_frontier::<CapacityContainerBuilder<Vec<Tick>>, _, _, _>(
        Exchange::new(|_: &Part| 0),
        "Manifests",
        move |_, info| {
            let activator = scope.activator_for(info.address);
            let mut gathered = Parts::of(workers);
            let mut held: BTreeMap<Tick, Capability<u64>> = BTreeMap::new();
            move |(input, _), output| {
                input.for_each(|cap, parts| {
                    for part in parts.drain(..) {
                        if let Some(cap) = cap.retain_least(0) {
                            held.entry(part.tick).or_insert(cap);
                        }
                        gathered.add(part);
                    }
                });
                let come = committed.with_frontier(|f| f.first().copied().unwrap_or(u64::MAX));
                if let Some(snapshot) = gathered.ready(come) {
                    writing.send(Work::Manifest(snapshot));
                }
                // The other workers of the process share what is done, and must leave it to the first.
                let put = match first {
                    true => std::mem::take(&mut writing.done().manifests),
                    false => Vec::new(),
                };
                for tick in put {
                    if let Some(cap) = held.get(&tick) {
                        output.session(cap).give(tick);
                    }
                    // Of those before it nothing will be put.
                    held = held.split_off(&(tick + 1));
                }
                if !held.is_empty() {
                    activator.activate_after(LOOK);
                }
            }
        },
    )
}
