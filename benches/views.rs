//! What it costs to keep sums and distinct browsers over windows that move on: by `Present` and `views`,
//! and the naive way, in which differential dataflow is given each contribution twice, at the time at which
//! it enters and, taken back, at the later time at which it leaves, and counts the browsers. Both end in the
//! same rows, which is asserted.
//!
//! `cargo bench --bench views`; `-- quick` for a tenth of the contributions; `-- ours` or `-- naive` for
//! one of them.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use differential_dataflow::AsCollection;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::vec::Map;
use timely::dataflow::operators::{Concat, Input, Inspect, Probe, probe};
use timely::dataflow::{Scope, StreamVec};
use visitflow_dataflows::durable::{Durable, Keeps, Nothing};
use visitflow_dataflows::views::{
    Change, Changed, Contribution, Entering, Field, Key, Present, Span, Sums, Value, View, best,
    views,
};

/// mimalloc, with the bytes that are held, and the most that were.
struct Counting;

static HELD: AtomicI64 = AtomicI64::new(0);
static MOST: AtomicI64 = AtomicI64::new(0);

fn hold(bytes: i64) {
    let held = HELD.fetch_add(bytes, Ordering::Relaxed) + bytes;
    if held > MOST.load(Ordering::Relaxed) {
        MOST.fetch_max(held, Ordering::Relaxed);
    }
}

// SAFETY: everything is passed on to mimalloc as it is; the counters touch no memory of it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        hold(layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.alloc(layout) }
    }
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        hold(-(layout.size() as i64));
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.dealloc(at, layout) }
    }
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        hold(size as i64 - layout.size() as i64);
        // SAFETY: as the caller promises.
        unsafe { mimalloc::MiMalloc.realloc(at, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const STEP: u64 = 10_000;
const HOUR: u64 = 3_600_000;
/// Long enough that both windows are full for as long as they take to fill.
const HOURS: u64 = 2;
const KEYS: u64 = 2_000;
const PARTITIONS: u32 = 16;
const ROUNDS: usize = 3;

fn main() {
    let given = |word: &str| std::env::args().any(|arg| arg == word);
    let measurements: u64 = if given("quick") { 25_000 } else { 250_000 };
    let steps = Arc::new(load(measurements));
    let contributions: usize = steps.iter().map(Vec::len).sum();
    println!(
        "{contributions} contributions over {KEYS} keys in {HOURS} h, windows of 10 min and 1 h, steps of 10 s, one worker\n"
    );
    println!(
        "{:>6}  {:>10}  {:>10}  {:>6}  {:>12}  {:>12}",
        "round", "views", "naive", "ratio", "views holds", "naive holds"
    );
    for round in 0..ROUNDS {
        if given("ours") || given("naive") {
            let way = if given("ours") { ours } else { naive };
            println!("{round:>6}  {:>8.2} s", run(&steps, way).seconds);
            continue;
        }
        let (ours, naive) = (run(&steps, ours), run(&steps, naive));
        assert_eq!(ours.rows, naive.rows, "both ways end in the same rows");
        println!(
            "{round:>6}  {:>8.2} s  {:>8.2} s  {:>6.1}  {:>9} MB  {:>9} MB",
            ours.seconds,
            naive.seconds,
            naive.seconds / ours.seconds,
            ours.bytes / 1_000_000,
            naive.bytes / 1_000_000
        );
    }
}

/// A view over ten minutes and one over an hour, each of how often a thing was seen and by how many.
fn of() -> Rc<[View]> {
    let view = |window| View {
        key: vec![Field::EntityId],
        values: vec![Value::Count(None), Value::Browsers],
        window,
        step: STEP,
        ..View::default()
    };
    [view(600_000), view(HOUR)].into()
}

/// Something that was seen, and by whom.
#[derive(Clone)]
struct Seen {
    browser: [u64; 2],
    at: u64,
    row: (u16, Key),
    span: Span,
}

/// What each step adds: a browser looks at some ten things, one thing is seen more than another, and some
/// measurements come late.
fn load(measurements: u64) -> Vec<Vec<Seen>> {
    let mut seed = 1_u64;
    // SplitMix64.
    let mut random = move || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    };
    let keys: Vec<Key> = (0..KEYS)
        .map(|n| Key::of([format!("product-{n}").as_str()]))
        .collect();
    let views = of();
    let mut steps = Vec::new();
    steps.resize_with((HOURS * HOUR / STEP) as usize, Vec::new);
    for n in 0..measurements {
        let found = n * HOURS * HOUR / measurements;
        let time = found.saturating_sub(random() % 5_000);
        let key = &keys[(random() % KEYS).min(random() % KEYS) as usize];
        let browser = [1, n / 10 + random() % 50];
        let at = (found / STEP + 1) * STEP;
        for (view, spec) in (0..).zip(views.iter()) {
            let Some(span) = spec.counts(spec.window, at, time as i64) else {
                continue;
            };
            let row = (view, key.clone());
            steps[(found / STEP) as usize].push(Seen {
                browser,
                at,
                row,
                span,
            });
        }
    }
    steps
}

struct Run {
    seconds: f64,
    /// The most that was held while it ran, above what was held before.
    bytes: i64,
    /// All rows that came and went, added up as hashes, and when.
    rows: u64,
}

type Way = for<'s> fn(Scope<'s, u64>, StreamVec<'s, u64, Seen>) -> StreamVec<'s, u64, Changed>;

fn run(steps: &Arc<Vec<Vec<Seen>>>, way: Way) -> Run {
    let steps = steps.clone();
    let before = HELD.load(Ordering::Relaxed);
    MOST.store(before, Ordering::Relaxed);
    let began = Instant::now();
    let rows = timely::execute_directly(move |worker| {
        let rows = Rc::new(Cell::new(0_u64));
        let probe = probe::Handle::new();
        let mut input = worker.dataflow::<u64, _, _>(|scope| {
            let (input, contributions) = scope.new_input::<Vec<Seen>>();
            let rows = rows.clone();
            let hasher = BuildHasherDefault::<DefaultHasher>::default();
            way(scope, contributions)
                .inspect(
                    move |Changed {
                              view,
                              tick,
                              row,
                              diff,
                          }| {
                        let hash = hasher.hash_one((view, tick, row));
                        rows.set(rows.get().wrapping_add(hash.wrapping_mul(*diff as u64)));
                    },
                )
                .probe_with(&probe);
            input
        });
        for (n, step) in steps.iter().enumerate() {
            input.send_batch(&mut step.clone());
            let end = (n as u64 + 1) * STEP;
            input.advance_to(end);
            worker.step_while(|| probe.less_than(&end));
        }
        input.close();
        // What has not left by then would leave for an hour: neither way is asked to.
        worker.step_while(|| !probe.done());
        rows.get()
    });
    Run {
        seconds: began.elapsed().as_secs_f64(),
        bytes: MOST.load(Ordering::Relaxed) - before,
        rows,
    }
}

/// Rows by number, and in which of them each browser is.
#[derive(Default)]
struct Rows {
    numbers: HashMap<(u16, Key), u32>,
    rows: Vec<(u16, Key)>,
    present: HashMap<[u64; 2], Present>,
}

impl Rows {
    fn number(&mut self, row: &(u16, Key)) -> u32 {
        *self.numbers.entry(row.clone()).or_insert_with_key(|row| {
            self.rows.push(row.clone());
            self.rows.len() as u32 - 1
        })
    }

    /// What a step adds, once its browsers are counted.
    fn counted(&mut self, views: &[View], seen: &mut Vec<Seen>) -> Vec<Contribution> {
        seen.sort_by_key(|seen| seen.browser);
        let mut all = Vec::with_capacity(2 * seen.len());
        for of_browser in seen.chunk_by(|a, b| a.browser == b.browser) {
            let at = of_browser[0].at;
            let entering = of_browser.iter().map(|seen| Entering {
                row: self.number(&seen.row),
                span: seen.span,
                times: 1,
            });
            let mut entering: Vec<Entering> = entering.collect();
            let present = self.present.entry(of_browser[0].browser).or_default();
            let window = |row: u32| views[usize::from(self.rows[row as usize].0)].window;
            present.add(at, &mut entering, window, |row, change| {
                if let Change::Counts(span, once) = change {
                    let (view, key) = self.rows[row as usize].clone();
                    let sums = [(span, Sums::one(1, once))].into();
                    all.push(Contribution {
                        at,
                        view,
                        key,
                        sums,
                    });
                }
            });
        }
        all.extend(seen.drain(..).map(|Seen { at, row, span, .. }| {
            let (view, key) = row;
            let sums = [(span, Sums::one(0, 1))].into();
            Contribution {
                at,
                view,
                key,
                sums,
            }
        }));
        all
    }
}

fn ours<'s>(scope: Scope<'s, u64>, seen: StreamVec<'s, u64, Seen>) -> StreamVec<'s, u64, Changed> {
    let nothing: Rc<dyn Keeps> = Rc::new(Nothing);
    let durable = Durable::open("views", &nothing);
    let counted = seen.unary(Pipeline, "Counted", |_, _| {
        let (views, mut rows) = (of(), Rows::default());
        move |input, output| {
            input.for_each(|time, seen| {
                let mut counted = rows.counted(&views, seen);
                output.session(&time).give_container(&mut counted);
            });
        }
    });
    views(of(), counted, empty(scope), PARTITIONS, durable)
}

fn naive<'s>(_: Scope<'s, u64>, seen: StreamVec<'s, u64, Seen>) -> StreamVec<'s, u64, Changed> {
    let counted = seen.flat_map(|seen| {
        let ((view, key), (enters, leaves)) = (seen.row, seen.span);
        let all = [([0; 2], Sums::one(0, 1)), (seen.browser, Sums::one(1, 1))];
        all.into_iter()
            .flat_map(move |(browser, sums)| {
                let row = (view, key.clone(), browser);
                let left = (row.clone(), leaves, sums.negated());
                [(row, enters, sums), left]
            })
            .filter(|(_, time, _)| *time <= HOURS * HOUR)
    });
    let browsers = counted
        .clone()
        .flat_map(|((view, key, browser), time, sums)| {
            (browser != [0; 2]).then_some(((view, key, browser), time, sums.0[1] as isize))
        });
    let browsers = browsers.as_collection().distinct().inner;
    let browsers =
        browsers.map(|((view, key, _), time, one)| ((view, key), time, Sums::one(1, one as i64)));
    let counts = counted.flat_map(|((view, key, browser), time, sums)| {
        (browser == [0; 2]).then_some(((view, key), time, sums))
    });
    let sums = counts.concat(browsers).as_collection();
    let rows = sums.count().map(|((view, key), sums)| (view, (key, sums)));
    best(of(), rows, PARTITIONS)
}
