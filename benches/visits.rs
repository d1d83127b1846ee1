//! What exact visits cost: the fragment `visits` on one and on two workers, against a hand-written
//! loop (hash map and timer wheel, no dataflow, no repeats, no re-walks) over the same records in the
//! same run. Also memory an open visit, and how the cost moves with the settings.
//!
//! `cargo bench --bench visits`; `-- quick` for a tenth of the records.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::operators::generic::source;
use timely::dataflow::operators::{Inspect, Probe};
use timely::{CommunicationConfig, Config, WorkerConfig};
use visitflow_dataflows::batch::{Batch, BatchBuilder, Head, by_shard, worker_of};
use visitflow_dataflows::visit::{Position, Rules, browser_key};
use visitflow_dataflows::visits::{Change, visits};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records a step.
const STEP: usize = 16 << 10;
const ROUNDS: usize = 5;

/// A load: so many browsers, each with a measurement every ten minutes on average; a quarter of
/// them up to 5 s out of order, one in 200 sent twice, one in 500 late.
struct Load {
    /// Steps of each partition: the tick from which on, and the batches, each of one worker.
    steps: [Vec<(u64, Vec<Batch>)>; 2],
    /// The step from which on time is taken: before it, browsers open their visits.
    warm: usize,
    /// Records from there to the last step, at whose end all visits end at once.
    records: usize,
}

fn load(browsers: u64, records: usize, rules: Rules, workers: usize) -> Load {
    // After 40 minutes of this, all but one in fifty have a visit open.
    let before_it = 4 * browsers as usize;
    let (mut warm, mut warm_records, mut last_records) = (None, 0, 0);
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let keys: Vec<_> = (0..browsers)
        .map(|n| {
            let id = format!("{n:016x}");
            (
                browser_key(id.as_bytes()),
                id,
                visitflow_schemas::shard::Shard::of(format!("{n:016x}").as_bytes()).0,
            )
        })
        .collect();
    let per_ms = browsers as f64 / 600_000.0;
    let mut builders: [Vec<BatchBuilder>; 2] =
        std::array::from_fn(|_| (0..workers).map(|_| BatchBuilder::default()).collect());
    let (mut batches, mut steps) = ([vec![], vec![]], [vec![], vec![]]);
    let (mut begun, mut before, mut full) = (10_000_000_u64, 0, STEP);
    let mut made = 0;
    let mut last: Option<(usize, Head)> = None;
    while made < before_it + records {
        let tick = 10_000_000 + (made as f64 / per_ms) as u64 / 100 * 100;
        if made >= full && tick > before {
            end_step(begun, &mut builders, &mut batches, &mut steps);
            (begun, full) = (tick, made + STEP);
            if made >= before_it && warm.is_none() {
                (warm, warm_records) = (Some(steps[0].len()), made);
            }
            last_records = made;
        }
        before = tick;
        let (browser, head) = match last {
            Some((browser, head)) if random() % 200 == 0 => (browser, Head { tick, ..head }),
            _ => {
                let browser = (random() % browsers) as usize;
                let back = if random() % 4 == 0 {
                    random() % 5_000
                } else {
                    0
                };
                let time = tick as i64 - rules.max_lag - back as i64;
                let late = random() % 500 == 0;
                let time = if late {
                    time - rules.max_delay - 6_000
                } else {
                    time
                };
                let at = Position {
                    time,
                    event: [random(), random()],
                };
                let (key, _, shard) = keys[browser];
                (
                    browser,
                    Head {
                        browser: key,
                        at,
                        tick,
                        shard,
                        ..Head::default()
                    },
                )
            }
        };
        last = Some((browser, head));
        // The source's decision; both sides skip what it has found late.
        let late = head.at.time < tick as i64 - rules.max_lag - rules.max_delay;
        let partition = usize::from(head.shard / 16 % 2);
        let worker = worker_of(head.shard, 16, workers);
        made += 1;
        if !late {
            let builder = &mut builders[partition][worker];
            builder.push(head, keys[browser].1.as_bytes(), b"", |_| ());
            if builder.is_full() {
                batches[partition].push(builder.take());
            }
        }
    }
    end_step(begun, &mut builders, &mut batches, &mut steps);
    Load {
        steps,
        warm: warm.expect("more records than one step"),
        records: last_records - warm_records,
    }
}

fn end_step(
    begun: u64,
    builders: &mut [Vec<BatchBuilder>; 2],
    batches: &mut [Vec<Batch>; 2],
    steps: &mut [Vec<(u64, Vec<Batch>)>; 2],
) {
    for ((builders, batches), steps) in builders.iter_mut().zip(batches).zip(steps) {
        batches.extend(builders.iter_mut().map(BatchBuilder::take));
        steps.push((begun, std::mem::take(batches)));
    }
}

#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        self.0 = bytes
            .first_chunk()
            .map_or(0, |word| u64::from_ne_bytes(*word));
    }
    fn write_u64(&mut self, word: u64) {
        self.0 ^= word;
    }
    fn write_usize(&mut self, _: usize) {}
}

/// A visit of the hand-written loop.
struct Open {
    first: i64,
    last: i64,
    count: u32,
    id: [u64; 2],
}

type Browsers = HashMap<[u64; 2], Open, BuildHasherDefault<KeyHasher>>;

/// A timer wheel: browsers by the second at which their visit may be due.
struct Wheel {
    slots: Vec<Vec<[u64; 2]>>,
    second: i64,
    /// From a visit's last measurement to its end, in ms.
    after: i64,
}

impl Wheel {
    fn new(rules: Rules, from: i64) -> Wheel {
        let after = rules.inactivity + rules.max_lag + rules.max_delay;
        Wheel {
            slots: vec![vec![]; after as usize / 1_000 + 16],
            second: from / 1_000,
            after,
        }
    }

    fn set(&mut self, last: i64, key: [u64; 2]) {
        let second = ((last + self.after) / 1_000 + 1).max(self.second);
        let slots = self.slots.len();
        self.slots[second as usize % slots].push(key);
    }

    /// Ends what is due until then; how many that were.
    fn turn(&mut self, until: i64, open: &mut Browsers) -> u64 {
        let mut ended = 0;
        while self.second * 1_000 <= until {
            let slot = self.second as usize % self.slots.len();
            self.second += 1;
            for key in std::mem::take(&mut self.slots[slot]) {
                let Some(visit) = open.get(&key) else {
                    continue;
                };
                if visit.last + self.after <= until {
                    open.remove(&key);
                    ended += 1;
                } else {
                    let last = visit.last;
                    self.set(last, key);
                }
            }
        }
        ended
    }
}

/// The hand-written loop: seconds and ended visits.
fn by_hand(load: &Load, rules: Rules) -> (f64, u64) {
    let (mut began, mut took) = (Instant::now(), 0.0);
    let mut open = Browsers::default();
    let mut wheel = Wheel::new(rules, load.steps[0][0].0 as i64);
    let (mut ended, mut tags) = (0, 0_u64);
    for step in 0..load.steps[0].len() {
        if step == load.warm {
            began = Instant::now();
        }
        if step == load.steps[0].len() - 1 {
            took = began.elapsed().as_secs_f64();
        }
        for partition in &load.steps {
            for batch in &partition[step].1 {
                let mut now = 0;
                for head in batch.heads() {
                    if head.tick > now {
                        now = head.tick;
                        ended += wheel.turn(now as i64, &mut open);
                    }
                    let time = head.at.time;
                    let visit = open.entry(head.browser).or_insert_with(|| {
                        wheel.set(time, head.browser);
                        Open {
                            first: time,
                            last: time,
                            count: 0,
                            id: head.at.event,
                        }
                    });
                    if time - visit.last > rules.inactivity
                        || time - visit.first >= rules.max_length
                    {
                        ended += 1;
                        *visit = Open {
                            first: time,
                            last: time,
                            count: 0,
                            id: head.at.event,
                        };
                    }
                    visit.last = visit.last.max(time);
                    visit.count += 1;
                    tags = tags.wrapping_add(visit.id[0]);
                }
            }
        }
    }
    std::hint::black_box(tags);
    (took, ended + open.len() as u64)
}

/// The fragment on so many workers: seconds and ended visits.
fn by_fragment(load: &Arc<Load>, rules: Rules, workers: usize) -> (f64, u64) {
    let ended = Arc::new(AtomicU64::new(0));
    let communication = if workers == 1 {
        CommunicationConfig::Thread
    } else {
        CommunicationConfig::Process(workers)
    };
    let config = Config {
        communication,
        worker: WorkerConfig::default(),
    };
    let (load, count) = (load.clone(), ended.clone());
    // Whoever reads records makes their batches; here they are made before.
    let made = Arc::new(Mutex::new(load.steps.clone()));
    let (began, until) = (Arc::new(OnceLock::new()), Arc::new(OnceLock::new()));
    let times = (began.clone(), until.clone());
    let guards = timely::execute(config, move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let (load, made, count) = (load.clone(), made.clone(), count.clone());
        let (began, until) = times.clone();
        let last = load.steps[0].last().expect("steps").0;
        let probe = worker.dataflow::<u64, _, _>(|scope| {
            let done = timely::dataflow::operators::probe::Handle::new();
            let taken = done.clone();
            let records = source::<_, CapacityContainerBuilder<Batch>, _, _>(
                scope,
                "Load",
                move |cap, info| {
                    let activator = scope.activator_for(info.address);
                    let mut cap = Some(cap);
                    let mut step = 0;
                    move |output| {
                        let Some(held) = cap.as_mut() else { return };
                        activator.activate();
                        // Two steps in flight, as a budget would have it.
                        if step >= 2 && taken.less_than(&load.steps[0][step - 2].0) {
                            return;
                        }
                        let Some((from, _)) = load.steps[0].get(step) else {
                            cap = None;
                            return;
                        };
                        if *from > *held.time() {
                            held.downgrade(from);
                        }
                        for partition in (index..2).step_by(peers) {
                            let batches = {
                                let mut made = made.lock().expect("nobody panics with it");
                                std::mem::take(&mut made[partition][step].1)
                            };
                            for mut batch in batches.into_iter().filter(|b| !b.is_empty()) {
                                output.session(&*held).give_container(&mut batch);
                            }
                        }
                        if step == load.warm {
                            began.get_or_init(Instant::now);
                        }
                        step += 1;
                    }
                },
            );
            let exchanged = timely::dataflow::operators::generic::Operator::unary::<
                CapacityContainerBuilder<Batch>,
                _,
                _,
                _,
            >(records, by_shard(16), "Exchange", |_, _| {
                |input, output| {
                    input.for_each(|cap, batch| output.session(&cap).give_container(batch))
                }
            });
            let cuts = timely::dataflow::operators::generic::operator::empty(scope);
            let visits = visits(
                exchanged,
                cuts,
                visitflow_dataflows::visits::Open::new(rules),
                |_, _| (),
            );
            let counted = visits.lifecycle.inspect(move |said| {
                if matches!(said.change, Change::Ended { .. }) {
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
            visits.tagged.probe_with(&done);
            counted.probe_with(&done);
            done
        });
        while !probe.done() {
            worker.step();
            if !probe.less_than(&last) {
                until.get_or_init(Instant::now);
            }
        }
    });
    drop(guards.expect("workers start"));
    let at = |time: &OnceLock<Instant>| *time.get().expect("every step was taken");
    let took = at(&until) - at(&began);
    (took.as_secs_f64(), ended.load(Ordering::Relaxed))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    statm
        .split(' ')
        .nth(1)
        .and_then(|pages| pages.parse::<u64>().ok())
        .unwrap_or(0)
        * 4_096
}

/// Bytes an open visit: what the state of so many has grown the process by.
fn memory(browsers: u64) {
    use visitflow_dataflows::step::Steps;
    use visitflow_dataflows::visits::{self, Said};
    let rules = Rules::default();
    let load = load(browsers, 4 * browsers as usize, rules, 1);
    let before = resident();
    let mut open = visits::Open::new(rules);
    let mut said = Said::default();
    for number in 0..load.steps[0].len() {
        let mut steps = Steps::default();
        for partition in &load.steps {
            partition[number]
                .1
                .iter()
                .for_each(|batch| steps.push(batch.clone()));
        }
        let mut step = steps.complete(u64::MAX);
        let until = step.runs.last().map_or(0, |run| run.tick + 1);
        open.advance(&mut step, &mut said);
        while open.seal_before(until, &mut said) {}
        said = Said::default();
    }
    let tail = 40 * open.tail() as u64;
    let grown = resident().saturating_sub(before);
    println!(
        "memory: {} open visits, {} bytes each, and {} MB for the tail of {} keys",
        open.visits(),
        grown.saturating_sub(tail) / open.visits() as u64,
        tail / 1_000_000,
        open.tail()
    );
}

fn main() {
    let quick = std::env::args().any(|arg| arg == "quick");
    let scale = if quick { 10 } else { 1 };
    println!(
        "{:>12}  {:>12}  {:>8}  {:>9}  {:>9}  {:>7}  {:>7}",
        "open visits", "records", "by hand", "1 worker", "2 workers", "1/hand", "2/1"
    );
    for browsers in [200_000, 1_000_000] {
        let rules = Rules::default();
        let one = Arc::new(load(browsers / scale, 4_000_000 / scale as usize, rules, 1));
        let two = Arc::new(load(browsers / scale, 4_000_000 / scale as usize, rules, 2));
        let mut figures = [vec![], vec![], vec![]];
        let mut ends = (0, 0, 0);
        for _ in 0..ROUNDS {
            let (hand, a) = by_hand(&one, rules);
            let (single, b) = by_fragment(&one, rules, 1);
            let (double, c) = by_fragment(&two, rules, 2);
            ends = (a, b, c);
            for (list, value) in figures.iter_mut().zip([hand, single, double]) {
                list.push(value);
            }
        }
        assert_eq!(ends.1, ends.2, "one worker and two end the same visits");
        let ratios = |a: usize, b: usize| {
            median(
                figures[a]
                    .iter()
                    .zip(&figures[b])
                    .map(|(a, b)| a / b)
                    .collect(),
            )
        };
        let ns = |at: usize| median(figures[at].clone()) * 1e9 / one.records as f64;
        println!(
            "{browsers:>12}  {:>12}  {:>5.0} ns  {:>6.0} ns  {:>6.0} ns  {:>7.2}  {:>7.2}   ended {} / {}",
            one.records,
            ns(0),
            ns(1),
            ns(2),
            ratios(1, 0),
            ratios(2, 1),
            ends.0,
            ends.1
        );
    }
    println!("\nthe same cost whatever the settings (one worker, against the loop by hand):");
    let usual = Rules::default();
    let settings = [
        ("as above, 100,000 browsers", 100_000, usual),
        (
            "inactivity 5 min",
            100_000,
            Rules {
                inactivity: 5 * 60_000,
                ..usual
            },
        ),
        (
            "inactivity 2 h",
            100_000,
            Rules {
                inactivity: 2 * 3_600_000,
                ..usual
            },
        ),
        (
            "max_delay 10 s",
            100_000,
            Rules {
                max_delay: 10_000,
                ..usual
            },
        ),
        (
            "max_delay 20 min",
            100_000,
            Rules {
                max_delay: 20 * 60_000,
                ..usual
            },
        ),
        ("10,000 browsers", 10_000, usual),
        ("1,000,000 browsers", 1_000_000, usual),
    ];
    for (name, browsers, rules) in settings {
        let load = Arc::new(load(browsers / scale, 2_000_000 / scale as usize, rules, 1));
        let mut ratios = vec![];
        let mut ns = vec![];
        for _ in 0..3 {
            let (hand, _) = by_hand(&load, rules);
            let (single, _) = by_fragment(&load, rules, 1);
            ratios.push(single / hand);
            ns.push(single * 1e9 / load.records as f64);
        }
        println!(
            "{name:<28}  {:>5.0} ns  {:>5.2}",
            median(ns),
            median(ratios)
        );
    }
    println!();
    memory(1_000_000 / scale);
}
