//! What a run keeps, so that another can go on from it: rows of visits, of measurements with their
//! chunks, and what fragments keep by name; in memory, and by worker while it runs.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use visitflow_dataflows::batch::worker_of;
use visitflow_dataflows::complete::{Chunks, Measurements, Payloads, Surroundings, saved};
use visitflow_dataflows::durable::{Keeps, Shards};
use visitflow_dataflows::visit::{Rules, Tick};
use visitflow_dataflows::visits::saved::Copied;
use visitflow_dataflows::visits::{self, Open};

/// Partitions of the output.
pub const PARTITIONS: u32 = 8;

/// What is durable, as of a tick.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    pub tick: Tick,
    pub visits: Vec<visits::saved::ShardRows>,
    pub measurements: Vec<saved::ShardRows>,
    /// The chunks of measurements.
    chunks: BTreeMap<u64, Vec<u8>>,
    pub named: BTreeMap<String, Shards>,
}

impl Kept {
    /// Nothing yet, of a snapshot at a tick.
    pub fn at(tick: Tick) -> Shared {
        Arc::new(Mutex::new(Kept {
            tick,
            ..Kept::default()
        }))
    }
}

/// What all workers of a run keep.
pub type Shared = Arc<Mutex<Kept>>;

/// A worker of a run, which goes on from what another run has kept.
#[derive(Clone)]
pub struct Worker {
    pub index: usize,
    pub peers: usize,
    pub from: Arc<Kept>,
    pub to: Shared,
}

impl Worker {
    /// Whether a shard is this worker's.
    pub fn has(&self, shard: u8) -> bool {
        worker_of(shard, PARTITIONS, self.peers) == self.index
    }

    /// Its open visits.
    pub fn open(&self, rules: Rules) -> Open {
        let own = self.from.visits.iter().filter(|rows| self.has(rows.shard));
        let own: Vec<_> = own.cloned().collect();
        Open::restore(rules, &own)
    }

    /// Takes the visits of a snapshot.
    pub fn save(&self, copied: Copied) {
        self.to.lock().unwrap().visits.extend(copied.shards());
    }

    /// Its measurements, of which so many bytes are held in memory.
    pub fn measurements(&self, memory: usize) -> Measurements<Memory> {
        let own = self.from.measurements.iter();
        let own: Vec<_> = own.filter(|rows| self.has(rows.shard)).cloned().collect();
        let chunks = own.iter().flat_map(|rows| &rows.chunks);
        let chunks = chunks.map(|row| row.chunk[0]);
        let chunks = chunks.map(|place| (place, self.from.chunks[&place].clone()));
        // Chunks of several workers have places of their own.
        let last = self.from.chunks.keys().max().copied().unwrap_or(0);
        let first = last + (self.index as u64 + 1) * 1_000_000;
        let store = Memory(Rc::new(RefCell::new((first, chunks.collect()))));
        Measurements::restore(store, memory, &own)
    }

    /// What surrounds them; all that was sealed before `released` is in tables.
    pub fn around(&self, released: Rc<Cell<Tick>>) -> Around {
        Around {
            to: self.to.clone(),
            held: 0,
            released,
        }
    }

    /// What its fragments keep.
    pub fn keeps(&self) -> Rc<dyn Keeps> {
        Rc::new(Named {
            worker: self.clone(),
            restored: RefCell::new(self.from.named.clone()),
        })
    }
}

/// A store for measurements: the last place that was taken, and what is there.
#[derive(Clone, Default)]
pub struct Memory(Rc<RefCell<Places>>);

type Places = (u64, BTreeMap<u64, Vec<u8>>);

impl Payloads for Memory {
    type Chunk = [u64; 3];
    type Error = Infallible;

    fn length(chunk: [u64; 3]) -> usize {
        chunk[1] as usize
    }
    fn write(&mut self, chunks: Chunks<Vec<u8>>) -> Result<Vec<[u64; 3]>, Infallible> {
        let (next, live) = &mut *self.0.borrow_mut();
        let mut places = Vec::new();
        for (_, bytes) in chunks {
            *next += 1;
            places.push([*next, bytes.len() as u64, 0]);
            live.insert(*next, bytes);
        }
        Ok(places)
    }
    fn read(
        &mut self,
        chunks: &[[u64; 3]],
        each: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), Infallible> {
        // In another order than they were asked for.
        for (n, chunk) in chunks.iter().enumerate().rev() {
            each(n, &self.0.borrow().1[&chunk[0]]);
        }
        Ok(())
    }
    fn free(&mut self, chunk: [u64; 3]) -> Result<(), Infallible> {
        let freed = self.0.borrow_mut().1.remove(&chunk[0]);
        freed.expect("freed once");
        Ok(())
    }
    fn thin(
        &mut self,
        _: &dyn Fn([u64; 2], [u64; 3]) -> bool,
    ) -> Result<Option<Chunks<[u64; 3]>>, Infallible> {
        Ok(None)
    }
}

/// What surrounds a worker's measurements.
pub struct Around {
    to: Shared,
    held: i64,
    released: Rc<Cell<Tick>>,
}

impl Surroundings<Memory> for Around {
    fn kept(&mut self, change: i64) {
        self.held += change;
        assert!(self.held >= 0, "less than nothing is kept");
    }
    fn failed(&mut self, error: Infallible) {
        match error {}
    }
    fn save(&mut self, _: Tick, rows: saved::Collected, store: &mut Memory) {
        let rows = rows.shards();
        let mut kept = self.to.lock().unwrap();
        let live = &store.0.borrow().1;
        for chunk in rows.iter().flat_map(|rows| &rows.chunks) {
            let known = kept
                .chunks
                .insert(chunk.chunk[0], live[&chunk.chunk[0]].clone());
            assert_eq!(known, None, "a chunk is one worker's");
        }
        kept.measurements.extend(rows);
    }
    fn committed(&self) -> Tick {
        self.released.get()
    }
}

/// What a worker's fragments keep.
struct Named {
    worker: Worker,
    restored: RefCell<BTreeMap<String, Shards>>,
}

impl Keeps for Named {
    fn open(&self, name: &str) -> Shards {
        let mut shards = self.restored.borrow_mut().remove(name).unwrap_or_default();
        shards.retain(|(shard, _)| self.worker.has(*shard));
        shards
    }
    fn save(&self, name: &str, at: Tick, shards: Shards) {
        let mut kept = self.worker.to.lock().unwrap();
        assert_eq!(at, kept.tick);
        assert!(shards.iter().all(|(shard, _)| self.worker.has(*shard)));
        let named = kept.named.entry(name.to_owned()).or_default();
        named.extend(shards);
    }
}
