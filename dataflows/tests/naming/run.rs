//! The dataflow of this test: visits, whole, watched, parted, and profiles.

use std::cell::Cell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use timely::Config;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Input, Inspect, Probe, probe};
use visitflow_dataflows::attribution;
use visitflow_dataflows::batch::Batch;
use visitflow_dataflows::complete::complete;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::Durable;
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::profiles::{Loaded, Model, Shelf, profiles};
use visitflow_dataflows::stories::{Settings, Stories, parted};
use visitflow_dataflows::visit::Tick;
use visitflow_dataflows::visits::visits;
use visitflow_schemas::store::MemoryStore;

use super::shop::arrival::{Arrival, BEGIN, RULES, batch, schema};
use super::shop::store::{Kept, Worker};

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

/// What was said; what is durable, as of a tick; and profiles, of all ticks.
#[derive(Clone, Default)]
pub struct Outcome {
    pub said: Vec<Loaded>,
    pub kept: Kept,
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

/// Runs the dataflow over what arrives; `from` what a run before has kept.
pub fn run(arrivals: &Arc<Vec<Arrival>>, plan: &Plan, from: &Outcome) -> Outcome {
    let said: Arc<Mutex<Vec<Loaded>>> = Arc::default();
    let kept = Kept::at(plan.cut);
    let (disk, told) = (from.disk.clone(), said.clone());
    let (from, to) = (Arc::new(from.kept.clone()), kept.clone());
    let (arrivals, plan, profiles_of) = (arrivals.clone(), plan.clone(), disk.clone());
    let together = Barrier::new(plan.workers);
    let workers = timely::execute(Config::process(plan.workers), move |worker| {
        let durable = Worker {
            index: worker.index(),
            peers: worker.peers(),
            from: from.clone(),
            to: to.clone(),
        };
        let fragments = durable.keeps();
        let schema = schema();
        let settings = Settings {
            rules: RULES,
            robots_over: plan.robots_over,
            quiet_room: 10_000,
            attribution: attribution::Settings::default(),
            profiles: true,
            asked: false,
        };
        let reading = Reading::new(Arc::new(MemoryStore::of([&schema])), Default::default());
        let released = Rc::new(Cell::new(Tick::MAX));
        let stories = Durable::open("stories", &fragments);
        let watch = Stories::new([].into(), settings, reading, stories, released.clone());
        let watch = watch.naming(Durable::open("named", &fragments));
        let done = probe::Handle::new();
        let dataflow = worker.next_dataflow_index();
        let (mut input, mut cuts) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, accepted) = scope.new_input::<Batch>();
            let (to_cut, cuts) = scope.new_input::<Vec<Cut>>();
            let (open, saves) = (durable.open(RULES), durable.clone());
            let visits = visits(accepted, cuts.clone(), open, move |_, copied| {
                saves.save(copied);
            });
            let measurements = durable.measurements(plan.memory);
            let around = durable.around(released);
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
            let (disk, to) = (profiles_of.clone(), told.clone());
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
                .inspect(move |loaded| to.lock().unwrap().push(loaded.clone()))
                .probe_with(&done);
            (input, to_cut)
        });

        let mut pace = plan.pace.iter().cycle();
        let mut at = from.tick.max(BEGIN);
        input.advance_to(at);
        cuts.advance_to(at);
        while at < plan.until {
            let next = (at + pace.next().copied().unwrap_or(1_000)).min(plan.until);
            let own = |a: &&Arrival| (at..next).contains(&a.tick) && durable.has(a.shard());
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
    let said = std::mem::take(&mut *said.lock().unwrap());
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    Outcome { said, kept, disk }
}
