//! What surrounds the jobs: time, chance, disk, brokers, tables, and a list of what happened.

use std::cell::{Cell, RefCell, RefMut};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::LazyLock;

use visitflow::snapshot::rows::State;
use visitflow_dataflows::visit::{Rules, browser_key};

use crate::broker::Brokers;
use crate::chance::Chance;
use crate::disk::Files;
use crate::job::Job;
use crate::mistakes::Mistakes;
use crate::table::Table;

/// The rules of all simulated jobs: visits of seconds.
pub const RULES: Rules = Rules {
    inactivity: 1_500,
    max_length: 5_000,
    max_size: 4,
    max_delay: 1_000,
    max_lag: 600,
};
/// The tick length, in ms.
pub const TICK: u64 = 100;
/// How many browsers there are.
pub const BROWSERS: u8 = 5;
/// How far any clock may lie from the true time, in ms: two of them less than half of `max_lag`.
pub const SKEW: i64 = 140;
/// So many of the last steps are shown.
const SHOWN: usize = 120;

/// How often things were seen that make a schedule worth its time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    pub starts: usize,
    pub from_snapshots: usize,
    pub replayed: usize,
    pub replaced: usize,
    pub manifests: usize,
    pub versions: usize,
    pub transactions: usize,
    pub records: usize,
    pub late: usize,
    pub visits: usize,
}

impl Seen {
    /// Adds what another schedule has seen.
    pub fn add(&mut self, other: Seen) {
        self.starts += other.starts;
        self.from_snapshots += other.from_snapshots;
        self.replayed += other.replayed;
        self.replaced += other.replaced;
        self.manifests += other.manifests;
        self.versions += other.versions;
        self.transactions += other.transactions;
        self.records += other.records;
        self.late += other.late;
        self.visits += other.visits;
    }

    /// Whether everything was seen.
    pub fn is_lively(&self) -> bool {
        let all = [
            self.starts,
            self.from_snapshots,
            self.replayed,
            self.replaced,
            self.manifests,
            self.versions,
            self.transactions,
            self.records,
            self.late,
            self.visits,
        ];
        all.iter().all(|seen| *seen > 0)
    }
}

/// What surrounds the jobs.
pub struct World {
    pub mistakes: Mistakes,
    chance: RefCell<Chance>,
    now: Cell<i64>,
    pub broker_skew: i64,
    pub files: RefCell<Files>,
    pub brokers: RefCell<Brokers>,
    pub tables: RefCell<[Table; 2]>,
    /// What lies in the files of snapshots.
    pub parts: RefCell<BTreeMap<String, Rc<State>>>,
    /// Measurements of open visits.
    pub chunks: RefCell<BTreeMap<u64, Vec<u8>>>,
    /// All jobs; a place is empty while its job has its turn, and once it is dead.
    pub jobs: RefCell<Vec<Option<Job>>>,
    /// How many starts are under way, one within the other.
    pub starting: Cell<usize>,
    /// Whether nothing goes wrong any more.
    pub calm: Cell<bool>,
    power_cuts: Cell<u64>,
    trace: Option<RefCell<VecDeque<String>>>,
    failure: RefCell<Option<String>>,
    seen: RefCell<Seen>,
}

impl World {
    /// Begins a world.
    pub fn new(seed: u64, mistakes: Mistakes, traced: bool) -> World {
        let mut chance = Chance::new(seed);
        let partitions = 2 + chance.below(3);
        World {
            mistakes,
            now: Cell::new(20_000 + chance.between(0, 999)),
            broker_skew: chance.between(-SKEW, SKEW),
            chance: RefCell::new(chance),
            files: RefCell::default(),
            brokers: RefCell::new(Brokers::new(partitions)),
            tables: RefCell::default(),
            parts: RefCell::default(),
            chunks: RefCell::default(),
            jobs: RefCell::default(),
            starting: Cell::new(0),
            calm: Cell::new(false),
            power_cuts: Cell::new(0),
            trace: traced.then(RefCell::default),
            failure: RefCell::new(None),
            seen: RefCell::default(),
        }
    }

    /// The true time, in ms.
    pub fn now(&self) -> i64 {
        self.now.get()
    }

    /// Lets time pass.
    pub fn pass(&self, ms: i64) {
        self.now.set(self.now.get() + ms);
    }

    /// Chance.
    pub fn chance(&self) -> RefMut<'_, Chance> {
        self.chance.borrow_mut()
    }

    /// A number below `end`.
    pub fn below(&self, end: usize) -> usize {
        self.chance().below(end)
    }

    /// True once in so many times.
    pub fn one_in(&self, times: usize) -> bool {
        self.chance().one_in(times)
    }

    /// A number from `first` to `last`.
    pub fn between(&self, first: i64, last: i64) -> i64 {
        self.chance().between(first, last)
    }

    /// How often power was cut.
    pub fn power_cuts(&self) -> u64 {
        self.power_cuts.get()
    }

    /// Cuts the power: all jobs die.
    pub fn cut_power(&self) {
        self.say(|| "power is cut".to_owned());
        self.power_cuts.set(self.power_cuts.get() + 1);
        self.jobs
            .borrow_mut()
            .iter_mut()
            .for_each(|job| *job = None);
        self.files.borrow_mut().cut_power(&mut self.chance());
    }

    /// Notes what happens, if anybody wants to know.
    pub fn say(&self, what: impl FnOnce() -> String) {
        if let Some(trace) = &self.trace {
            let mut trace = trace.borrow_mut();
            if trace.len() == SHOWN {
                trace.pop_front();
            }
            trace.push_back(format!("{:>6} {}", self.now(), what()));
        }
    }

    /// Notes what must not happen; the first counts.
    pub fn fail(&self, what: String) {
        self.say(|| format!("FAILED: {what}"));
        self.failure.borrow_mut().get_or_insert(what);
    }

    /// Counts something.
    pub fn count(&self, what: impl FnOnce(&mut Seen) -> &mut usize) {
        *what(&mut self.seen.borrow_mut()) += 1;
    }

    /// Counts many things.
    pub fn seen_all(&self, count: impl FnOnce(&mut Seen)) {
        count(&mut self.seen.borrow_mut());
    }

    /// What was counted.
    pub fn seen(&self) -> Seen {
        *self.seen.borrow()
    }

    /// What has gone wrong.
    pub fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    /// What happened last.
    pub fn trace(&self) -> Vec<String> {
        let trace = self.trace.as_ref();
        trace.map_or(vec![], |trace| trace.borrow().iter().cloned().collect())
    }
}

/// A browser's ID.
pub fn browser_id(browser: u8) -> [u8; 2] {
    [b'b', b'0' + browser]
}

/// The browser of an ID.
pub fn browser_of(id: &[u8]) -> u8 {
    id[1] - b'0'
}

/// A browser's key.
pub fn key(browser: u8) -> [u64; 2] {
    static KEYS: LazyLock<[[u64; 2]; BROWSERS as usize]> =
        LazyLock::new(|| std::array::from_fn(|browser| browser_key(&browser_id(browser as u8))));
    KEYS[usize::from(browser)]
}

/// A browser's shard: some share one, and some a partition.
pub fn shard(browser: u8) -> u8 {
    [3, 7, 12, 12, 201][usize::from(browser)]
}
