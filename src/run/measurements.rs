//! The measurements of open visits of a worker: in memory, and beyond its share in runs on disk.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use visitflow_dataflows::complete::saved::{Collected, ShardRows};
use visitflow_dataflows::complete::{Chunks, Key, NoStore, Payloads, Surroundings};
use visitflow_dataflows::visit::Tick;

use super::Failure;
use super::metrics::Metrics;
use super::snapshots::Gathering;
use crate::sink::SinkError;
use crate::store::{Chunk, Runs, StoreError, Ticket};

/// Snapshots that have become durable, for the runs to let go of what no later one names.
#[derive(Clone, Default)]
pub struct Named {
    /// Those that are on their way.
    pending: Rc<RefCell<VecDeque<Pending>>>,
    durable: Rc<Cell<Tick>>,
}

/// A snapshot's tick, the seal of its measurements, and the segments that it names.
type Pending = (Tick, Ticket, Vec<u64>);

impl Named {
    /// The snapshot of this tick counts.
    pub fn durable(&self, at: Tick) {
        self.durable.set(self.durable.get().max(at));
    }

    fn take(&self) -> Option<(Ticket, Vec<u64>)> {
        let mut pending = self.pending.borrow_mut();
        let mut newest = None;
        while pending
            .front()
            .is_some_and(|(tick, ..)| *tick <= self.durable.get())
        {
            newest = pending
                .pop_front()
                .map(|(_, ticket, segments)| (ticket, segments));
        }
        newest
    }
}

/// A worker's runs.
pub struct Store {
    runs: Runs,
    named: Named,
    /// Where their bytes are shown, and as those of which worker of the process.
    shown: (Arc<Metrics>, usize),
}

impl Store {
    /// Over these runs.
    pub fn new(runs: Runs, named: Named, shown: (Arc<Metrics>, usize)) -> Store {
        Store { runs, named, shown }
    }

    fn show(&self) {
        let (metrics, local) = &self.shown;
        let bytes = self.runs.counters().bytes_on_disk;
        metrics.runs_bytes[*local].store(bytes, Ordering::Relaxed);
    }

    /// Takes over chunks of earlier incarnations.
    ///
    /// # Errors
    /// A segment that is not there, or damaged.
    pub fn adopt(&mut self, rows: &[ShardRows]) -> Result<(), StoreError> {
        let chunks = rows.iter().flat_map(|rows| &rows.chunks);
        self.runs
            .adopt(chunks.map(|row| Place::from(row.chunk).chunk()))
    }
}

/// A chunk, as three words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Place([u64; 3]);

impl Place {
    fn of(chunk: Chunk) -> Place {
        let mut words = [0; 3];
        let bytes = bytemuck::bytes_of(&chunk);
        bytemuck::cast_slice_mut(&mut words)[..bytes.len()].copy_from_slice(bytes);
        Place(words)
    }

    fn chunk(self) -> Chunk {
        bytemuck::pod_read_unaligned(&bytemuck::cast_slice(&self.0)[..size_of::<Chunk>()])
    }
}

impl From<[u64; 3]> for Place {
    fn from(words: [u64; 3]) -> Place {
        Place(words)
    }
}

impl From<Place> for [u64; 3] {
    fn from(place: Place) -> [u64; 3] {
        place.0
    }
}

impl Payloads for Store {
    type Chunk = Place;
    type Error = StoreError;

    fn length(chunk: Place) -> usize {
        chunk.chunk().length() as usize
    }

    fn write(&mut self, chunks: Vec<(Key, Vec<u8>)>) -> Result<Vec<Place>, StoreError> {
        let written = self.runs.write(chunks)?;
        self.show();
        Ok(written.into_iter().map(Place::of).collect())
    }

    fn read(
        &mut self,
        chunks: &[Place],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), StoreError> {
        let chunks: Vec<Chunk> = chunks.iter().map(|place| place.chunk()).collect();
        self.runs.read(&chunks, each)
    }

    fn free(&mut self, chunk: Place) -> Result<(), StoreError> {
        self.runs.free(chunk.chunk())
    }

    fn thin(
        &mut self,
        is_live: &dyn Fn(Key, Place) -> bool,
    ) -> Result<Option<Chunks<Place>>, StoreError> {
        if let Some((ticket, segments)) = self.named.take() {
            self.runs.named(&ticket, segments)?;
        }
        let thin = self
            .runs
            .thin(|key, chunk| is_live(key, Place::of(chunk)))?;
        self.show();
        let place = |(key, chunk)| (key, Place::of(chunk));
        Ok(thin.map(|chunks| chunks.into_iter().map(place).collect()))
    }
}

/// What surrounds the fragment `complete` in a worker.
pub struct Around {
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where what goes wrong is left.
    pub failure: Failure,
    /// The last tick whose seals both tables hold.
    pub held: Rc<Cell<Tick>>,
    /// Where the state of snapshots is gathered.
    pub gathering: Gathering,
    /// Snapshots that the runs have to hear of.
    pub named: Named,
}

impl Around {
    fn kept(&self, change: i64) {
        self.metrics
            .kept_bytes
            .fetch_add(change as u64, Ordering::Relaxed);
    }
}

impl Surroundings<Store> for Around {
    fn kept(&mut self, change: i64) {
        Around::kept(self, change);
    }

    fn failed(&mut self, error: StoreError) {
        self.failure.set(SinkError::Runs(error));
    }

    fn save(&mut self, at: Tick, rows: Collected, store: &mut Store) {
        match store.runs.seal() {
            Ok(ticket) => {
                let segments: Vec<u64> = store.runs.segments().collect();
                let pending = (at, ticket.clone(), segments.clone());
                self.named.pending.borrow_mut().push_back(pending);
                self.gathering.kept(at, rows, ticket, segments);
            }
            Err(error) => Surroundings::<Store>::failed(self, error),
        }
    }

    fn committed(&self) -> Tick {
        self.held.get()
    }
}

impl Surroundings<NoStore> for Around {
    fn kept(&mut self, change: i64) {
        Around::kept(self, change);
    }

    fn failed(&mut self, error: std::convert::Infallible) {
        match error {}
    }

    fn save(&mut self, _: Tick, _: Collected, store: &mut NoStore) {
        match *store {}
    }

    fn committed(&self) -> Tick {
        self.held.get()
    }
}
