//! The shelf on disk does what the plain map does, through restarts on other numbers of workers, and
//! whatever is swept away nobody misses.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use visitflow_dataflows::fact::{Fact, Id};
use visitflow_dataflows::profiles::{Model, Profile};
use visitflow_dataflows::visit::Position;

use super::*;

const RETENTION: i64 = 40;

/// The shelves of all workers, and what they want to be made durable.
struct Shelves {
    workers: Vec<OnDisk>,
    durable: Rc<Cell<Tick>>,
    syncing: Rc<RefCell<Vec<Syncing>>>,
}

impl Shelves {
    fn open(dir: &Path, peers: usize, durable: Tick) -> Shelves {
        let durable = Rc::new(Cell::new(durable));
        let syncing: Rc<RefCell<Vec<Syncing>>> = Rc::default();
        let open = |index| {
            let syncing = syncing.clone();
            let settings = Settings {
                dir: dir.to_owned(),
                worker: (index, peers),
                retention: RETENTION,
                durable: durable.clone(),
                save: Box::new(move |_, sync| syncing.borrow_mut().push(sync)),
                wait: Box::new(|_| false),
            };
            OnDisk::open(settings).expect("a shelf")
        };
        Shelves {
            workers: (0..peers).map(open).collect(),
            durable,
            syncing,
        }
    }

    fn of(&mut self, customer: &str) -> &mut OnDisk {
        let peers = self.workers.len();
        &mut self.workers[group_of(customer) % peers]
    }

    /// A snapshot that counts.
    fn snapshot(&mut self, at: Tick) {
        self.workers.iter_mut().for_each(|shelf| shelf.save(at));
        for sync in std::mem::take(&mut *self.syncing.borrow_mut()) {
            sync().expect("a disk that works");
        }
        self.durable.set(at);
    }
}

fn profile(seen: i64) -> Vec<u8> {
    let at = Position {
        time: seen,
        event: [0; 2],
    };
    let fact = Fact {
        at,
        ..Fact::default()
    };
    Profile::of_visit(&[&fact]).to_bytes()
}

#[derive(Clone, Debug)]
enum Do {
    Put(usize),
    Pass(Tick),
    Snapshot,
    Restart(usize),
}

fn what() -> impl Strategy<Value = Do> {
    prop_oneof![
        8 => (0..5_usize).prop_map(Do::Put),
        6 => (1..9_u64).prop_map(Do::Pass),
        2 => Just(Do::Snapshot),
        1 => (1..4_usize).prop_map(Do::Restart),
    ]
}

/// One is another's beginning, one is long.
fn names() -> [String; 5] {
    ["a", "ab", "b", "ä\0", &"x".repeat(200)].map(str::to_owned)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn it_is_the_plain_map_to_everyone_who_reads_behind_the_last_snapshot(all in vec(what(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::default();
        let (mut shelves, mut tick, mut durable) = (Shelves::open(dir.path(), 1, 0), 1, 0);
        for what in all {
            match what {
                Do::Put(n) => {
                    let put = vec![(names()[n].clone().into(), profile(tick as i64))];
                    shelves.of(&names()[n]).put(tick, put.clone()).unwrap();
                    model.put(tick, put).unwrap();
                }
                Do::Pass(ticks) => tick += ticks,
                Do::Snapshot => {
                    tick += 1;
                    shelves.snapshot(tick);
                    durable = tick;
                }
                Do::Restart(workers) => {
                    drop(shelves);
                    shelves = Shelves::open(dir.path(), workers, durable);
                }
            }
            for name in names() {
                for before in durable..=tick + 1 {
                    let there = |bytes: Vec<u8>| {
                        let profile = Profile::from_bytes(&bytes).unwrap();
                        (!profile.is_expired(before, RETENTION)).then_some(bytes)
                    };
                    let expected = model.get(&name, before).unwrap().and_then(there);
                    let found = shelves.of(&name).get(&name, before).unwrap().and_then(there);
                    prop_assert_eq!(found, expected, "{} before {}", name, before);
                }
            }
        }
    }
}

#[test]
fn what_nobody_reads_any_more_is_swept_away() {
    let dir = tempfile::tempdir().unwrap();
    let mut shelves = Shelves::open(dir.path(), 2, 0);
    let left = |shelves: &Shelves| -> usize {
        let groups = shelves
            .workers
            .iter()
            .flat_map(|shelf| shelf.groups.iter().flatten());
        groups.map(|group| group.profiles.len().unwrap()).sum()
    };
    for tick in 1..=10 {
        for name in ["ann", "bob"] {
            let put = vec![(name.into(), profile(tick as i64))];
            shelves.of(name).put(tick, put).unwrap();
        }
    }
    assert_eq!(left(&shelves), 20);
    shelves.snapshot(8);
    // It was not known to count yet.
    assert_eq!(left(&shelves), 20);
    shelves.snapshot(11);
    // At ticks 7 to 10.
    assert_eq!(left(&shelves), 8);
    shelves.snapshot(12);
    assert_eq!(left(&shelves), 2);
    shelves.snapshot(60);
    shelves.snapshot(61);
    assert_eq!(left(&shelves), 0);
}

#[test]
fn of_who_is_forgotten_no_version_is_left_and_of_others_all() {
    let dir = tempfile::tempdir().unwrap();
    let mut shelves = Shelves::open(dir.path(), 1, 0);
    for tick in 1..5 {
        for name in names() {
            let put = vec![(name.clone().into(), profile(tick as i64))];
            shelves.of(&name).put(tick, put).unwrap();
        }
    }
    shelves.of("ab").forget("ab").unwrap();
    shelves.of("nobody").forget("nobody").unwrap();
    for before in 2..6 {
        for name in names() {
            let found = shelves.of(&name).get(&name, before).unwrap();
            assert_eq!(found.is_some(), name != "ab", "{name} before {before}");
        }
    }
}

#[test]
fn a_shelf_that_another_has_is_waited_for_or_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut held = Some(Shelves::open(dir.path(), 1, 0));
    let open = |wait: Box<dyn FnMut(&Path) -> bool>| {
        OnDisk::open(Settings {
            dir: dir.path().to_owned(),
            worker: (0, 1),
            retention: RETENTION,
            durable: Rc::default(),
            save: Box::new(|_, _| ()),
            wait,
        })
    };
    let error = open(Box::new(|_| false)).err().expect("an error");
    let error = error.to_string();
    assert!(error.contains("held by another process"), "{error}");

    let mut asked = 0;
    let opened = open(Box::new(move |_| {
        asked += 1;
        if asked == 3 {
            drop(held.take());
        }
        true
    }));
    opened.expect("a shelf");
}

/// Prints what a look costs.
#[test]
#[ignore = "a measurement, of a minute or some"]
fn a_million_customers() {
    const CUSTOMERS: u64 = 1_000_000;
    let names: Vec<String> = (0..24).map(|n| format!("product-{n:0>24}")).collect();
    let fact = |name| Fact {
        effect: "shown",
        entity: "product",
        entity_id: Some(Id::Text(name)),
        reason: Some(name),
        ..Fact::default()
    };
    let facts: Vec<Fact<'_>> = names.iter().map(|name| fact(name)).collect();
    let bytes = Profile::of_visit(&facts.iter().collect::<Vec<_>>()).to_bytes();
    let dir = tempfile::tempdir().unwrap();
    let mut shelves = Shelves::open(dir.path(), 1, 0);
    let customer = |n: u64| format!("customer-{:016x}", n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let began = Instant::now();
    for n in 0..CUSTOMERS {
        let customer = customer(n);
        let put = vec![(customer.clone().into(), bytes.clone())];
        shelves.of(&customer).put(1 + n / 1_000, put).unwrap();
    }
    shelves.snapshot(CUSTOMERS);
    let put = began.elapsed();
    drop(shelves);
    let began = Instant::now();
    let mut shelves = Shelves::open(dir.path(), 1, 0);
    println!(
        "{CUSTOMERS} of {} bytes: put in {put:.1?}, opened again in {:.1?}",
        bytes.len(),
        began.elapsed()
    );
    let (mut looks, mut running) = (Vec::new(), Vec::new());
    for n in 0..20_000_u64 {
        let customer = customer(n.wrapping_mul(7_919) % CUSTOMERS);
        let (waited, began) = (waited(), Instant::now());
        assert!(
            shelves
                .of(&customer)
                .get(&customer, Tick::MAX)
                .unwrap()
                .is_some()
        );
        let look = began.elapsed();
        looks.push(look);
        running.push(look.saturating_sub(self::waited() - waited));
    }
    for (what, mut looks) in [("a look", looks), ("without waiting for a core", running)] {
        looks.sort_unstable();
        let at = |share: f64| looks[(looks.len() as f64 * share) as usize];
        println!(
            "{what}: {:.1?} at half, {:.1?} at 99 %, {:.1?} at 99.9 %, {:.1?} at most",
            at(0.5),
            at(0.99),
            at(0.999),
            looks[looks.len() - 1]
        );
    }
}

/// For how long this thread was ready and had no core, as Linux says it.
fn waited() -> Duration {
    let said = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = said.split(' ').nth(1).and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}
