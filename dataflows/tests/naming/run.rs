//! The dataflow of this test: visits, whole, watched, parted, and profiles.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use timely::Config;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Input, Inspect, Probe, probe};
use visitflow_dataflows::attribution;
use visitflow_dataflows::batch::{Batch, worker_of};
use visitflow_dataflows::complete::{
    Chunks, Measurements, Payloads, Surroundings, complete, saved,
};
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::{Durable, Keeps, Shards};
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::profiles::{Loaded, Model, Shelf, profiles};
use visitflow_dataflows::stories::{Settings, Stories, parted};
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::{self, Open, visits};
use visitflow_schemas::store::MemoryStore;

use super::shop::{Arrival, BEGIN, RULES, batch, schema};

const PARTITIONS: u32 = 8;

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub workers: usize,
    /// By how much the frontier advances, in turn.
    pub pace: Vec<u64>,
    /// A browser of more open measurements is a robot.
    pub robots_over: u32,
    /// How many bytes are held in memory.
    pub memory: usize,
    /// Where the frontier stands at last.
    pub until: Tick,
    /// A snapshot there.
    pub cut: Tick,
}

/// What is durable, as of a tick; and profiles, of all ticks.
#[derive(Clone, Default)]
pub struct Kept {
    tick: Tick,
    visits: Vec<visits::saved::ShardRows>,
    measurements: Vec<saved::ShardRows>,
    chunks: BTreeMap<u64, Vec<u8>>,
    pub named: BTreeMap<String, Shards>,
    disk: Disk,
}

/// A model that workers share, as they share a disk.
#[derive(Clone, Default)]
struct Disk(Arc<Mutex<Model>>);

impl Shelf for Disk {
    type Error = Infallible;

    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, Infallible> {
        self.0.lock().unwrap().get(customer, before)
    }
    fn put(&mut self, tick: Tick, profiles: Vec<(Box<str>, Vec<u8>)>) -> Result<(), Infallible> {
        self.0.lock().unwrap().put(tick, profiles)
    }
    fn save(&mut self, _: Tick) {}
    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

type Shared = Arc<Mutex<(Vec<Loaded>, Kept)>>;

/// A store for measurements: the last place that was taken, and what is there.
#[derive(Clone, Default)]
struct Memory(Rc<RefCell<Places>>);

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
        for (n, chunk) in chunks.iter().enumerate() {
            each(n, &self.0.borrow().1[&chunk[0]]);
        }
        Ok(())
    }
    fn free(&mut self, chunk: [u64; 3]) -> Result<(), Infallible> {
        self.0.borrow_mut().1.remove(&chunk[0]);
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
struct Around(Shared);

impl Surroundings<Memory> for Around {
    fn kept(&mut self, _: i64) {}
    fn failed(&mut self, error: Infallible) {
        match error {}
    }
    fn save(&mut self, _: Tick, rows: saved::Collected, store: &mut Memory) {
        let rows = rows.shards();
        let kept = &mut self.0.lock().unwrap().1;
        let live = &store.0.borrow().1;
        for chunk in rows.iter().flat_map(|rows| &rows.chunks) {
            let bytes = live[&chunk.chunk[0]].clone();
            kept.chunks.insert(chunk.chunk[0], bytes);
        }
        kept.measurements.extend(rows);
    }
    fn committed(&self) -> Tick {
        Tick::MAX
    }
}

/// What a worker's fragments keep.
struct Fragments {
    shared: Shared,
    restored: RefCell<BTreeMap<String, Shards>>,
    own: Rc<dyn Fn(u8) -> bool>,
}

impl Keeps for Fragments {
    fn open(&self, name: &str) -> Shards {
        let mut shards = self.restored.borrow_mut().remove(name).unwrap_or_default();
        shards.retain(|(shard, _)| (self.own)(*shard));
        shards
    }
    fn save(&self, name: &str, at: Tick, shards: Shards) {
        let kept = &mut self.shared.lock().unwrap().1;
        assert_eq!(at, kept.tick);
        assert!(shards.iter().all(|(shard, _)| (self.own)(*shard)));
        let named = kept.named.entry(name.to_owned()).or_default();
        named.extend(shards);
    }
}

/// Runs the dataflow over what arrives; `from` what a run before has kept.
pub fn run(arrivals: &Arc<Vec<Arrival>>, plan: &Plan, from: &Kept) -> (Vec<Loaded>, Kept) {
    let kept = Kept {
        tick: plan.cut,
        disk: from.disk.clone(),
        ..Kept::default()
    };
    let shared: Shared = Arc::new(Mutex::new((Vec::new(), kept)));
    let (arrivals, plan, from, outcome) =
        (arrivals.clone(), plan.clone(), from.clone(), shared.clone());
    let together = Barrier::new(plan.workers);
    let workers = timely::execute(Config::process(plan.workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let own = move |shard: u8| worker_of(shard, PARTITIONS, peers) == index;
        let visits_of = from.visits.iter().filter(|rows| own(rows.shard));
        let visits_of: Vec<_> = visits_of.cloned().collect();
        let kept_of = from.measurements.iter().filter(|rows| own(rows.shard));
        let kept_of: Vec<_> = kept_of.cloned().collect();
        let chunks = kept_of.iter().flat_map(|rows| &rows.chunks);
        let chunks = chunks.map(|row| (row.chunk[0], from.chunks[&row.chunk[0]].clone()));
        // Chunks of several workers have places of their own.
        let first = from.chunks.keys().max().copied().unwrap_or(0) + (index as u64 + 1) * 1_000_000;
        let store = Memory(Rc::new(RefCell::new((first, chunks.collect()))));
        let fragments: Rc<dyn Keeps> = Rc::new(Fragments {
            shared: shared.clone(),
            restored: RefCell::new(from.named.clone()),
            own: Rc::new(own),
        });
        let schema = schema();
        let settings = Settings {
            rules: RULES,
            robots_over: plan.robots_over,
            attribution: attribution::Settings::default(),
            profiles: true,
            asked: false,
        };
        let reading = Reading::new(Arc::new(MemoryStore::of([&schema])), Default::default());
        let durable = Durable::open("stories", &fragments);
        let released = Rc::new(Cell::new(Tick::MAX));
        let watch = Stories::new([].into(), settings, reading, durable, released);
        let watch = watch.naming(Durable::open("named", &fragments));
        let done = probe::Handle::new();
        let dataflow = worker.next_dataflow_index();
        let (mut input, mut cuts) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, accepted) = scope.new_input::<Batch>();
            let (to_cut, cuts) = scope.new_input::<Vec<Cut>>();
            let saves = shared.clone();
            let open = Open::restore(RULES, &visits_of);
            let visits = visits(accepted, cuts.clone(), open, move |_, copied| {
                saves.lock().unwrap().1.visits.extend(copied.shards());
            });
            let measurements = Measurements::restore(store, plan.memory, &kept_of);
            let around = Around(shared.clone());
            let questions = empty(scope);
            let (_, said) = complete(
                &visits,
                cuts.clone(),
                questions,
                measurements,
                watch,
                around,
            );
            let said = parted(said);
            let (disk, to) = (from.disk.clone(), shared.clone());
            let kept = profiles(
                said.parts,
                said.named,
                empty(scope),
                cuts,
                i64::MAX,
                disk,
                |error| panic!("{error}"),
            );
            kept.answers.probe_with(&done);
            kept.loaded
                .inspect(move |loaded| to.lock().unwrap().0.push(loaded.clone()))
                .probe_with(&done);
            (input, to_cut)
        });

        let mut pace = plan.pace.iter().cycle();
        let mut at = from.tick.max(BEGIN);
        input.advance_to(at);
        cuts.advance_to(at);
        while at < plan.until {
            let next = (at + pace.next().copied().unwrap_or(1_000)).min(plan.until);
            let own = |a: &&Arrival| (at..next).contains(&a.tick) && own(a.shard());
            let now: Vec<&Arrival> = arrivals.iter().filter(own).collect();
            // Several batches, as partitions send them.
            let (some, others) = now.split_at(now.len() / 3);
            input.send_batch(&mut batch(others.iter().copied(), schema.fingerprint()));
            input.send_batch(&mut batch(some.iter().copied(), schema.fingerprint()));
            // Said before the frontier has come there.
            if (at + 1..=next).contains(&plan.cut) {
                cuts.send_batch(&mut vec![Cut {
                    tick: plan.cut,
                    snapshot: true,
                    ..Cut::default()
                }]);
            }
            at = next;
            input.advance_to(at);
            cuts.advance_to(at);
            while done.less_than(&at) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
        }
        // Dropped whole, so that the end of input says nothing; and by all, when all are there.
        together.wait();
        worker.drop_dataflow(dataflow);
    });
    let workers = workers.expect("workers begin");
    workers
        .join()
        .into_iter()
        .for_each(|done| done.expect("a worker ends well"));
    let mut outcome = outcome.lock().unwrap();
    (
        std::mem::take(&mut outcome.0),
        std::mem::take(&mut outcome.1),
    )
}
