//! The dataflow of this test: visits, whole, watched, parted, and summed in views.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use timely::Config;
use timely::dataflow::operators::{Concat, Input, Inspect, Probe, probe};
use visitflow_dataflows::attribution;
use visitflow_dataflows::batch::{Batch, Record};
use visitflow_dataflows::complete::{Complete, Measurements, Watch, complete};
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::Durable;
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::profiles::Part;
use visitflow_dataflows::stories::{
    Answer, Credited, Finished, Question, Said, Settings, Stories, crediting, finished, parted,
};
use visitflow_dataflows::views::{Changed, STEP, View, views};
use visitflow_dataflows::visit::{Rules, Tick};
use visitflow_dataflows::visits::visits;
use visitflow_schemas::store::MemoryStore;

use super::arrivals::ROBOTS_OVER;
use super::shop::arrival::{Arrival, BEGIN, batch, schema};
use super::shop::store::{Kept, Memory, PARTITIONS, Worker};

/// How a run goes.
#[derive(Clone, Debug)]
pub struct Plan {
    pub rules: Rules,
    pub workers: usize,
    /// By how much the frontier advances, in turn.
    pub pace: Vec<u64>,
    /// Where the frontier stands at last.
    pub until: Tick,
    /// A snapshot there.
    pub cut: Tick,
    /// How many bytes are held in memory.
    pub memory: usize,
    /// How many bytes of quiet visits.
    pub quiet_room: usize,
    /// What was sealed until then is let go of: tables hold it.
    pub released: Tick,
    /// Whether there are profiles, and anybody may ask.
    pub served: bool,
    pub questions: Vec<Question>,
}

/// What was said.
#[derive(Debug, Default)]
pub struct Outcome {
    pub changed: Vec<Changed>,
    pub credited: Vec<Credited>,
    pub answers: Vec<Answer>,
    pub parts: Vec<Part>,
    pub finished: Vec<Finished>,
    pub kept: Kept,
    /// What each worker's stories kept after their last step.
    pub left: BTreeMap<usize, usize>,
}

/// Stories, and how much they keep.
struct Measured {
    stories: Stories,
    left: Rc<Cell<usize>>,
}

impl Watch<Memory> for Measured {
    type Said = Said;
    type Question = Question;

    fn boundary(&self, tick: Tick) -> Tick {
        Watch::<Memory>::boundary(&self.stories, tick)
    }
    fn due(&self) -> Tick {
        Watch::<Memory>::due(&self.stories)
    }
    fn measured(&mut self, records: &[Record<'_>]) {
        Watch::<Memory>::measured(&mut self.stories, records);
    }
    fn repeated(
        &mut self,
        record: Record<'_>,
        kept: &mut Measurements<Memory>,
    ) -> Result<(), Infallible> {
        self.stories.repeated(record, kept)
    }
    fn revised(&mut self, browser: [u64; 2]) {
        Watch::<Memory>::revised(&mut self.stories, browser);
    }
    fn sealed(&mut self, visit: &Complete) {
        Watch::<Memory>::sealed(&mut self.stories, visit);
    }
    fn stepped(
        &mut self,
        at: Tick,
        kept: &mut Measurements<Memory>,
        said: &mut Vec<Said>,
    ) -> Result<(), Infallible> {
        self.stories.stepped(at, kept, said)?;
        self.left.set(self.stories.len());
        Ok(())
    }
    fn ended(
        &mut self,
        kept: &mut Measurements<Memory>,
        said: &mut Vec<Said>,
    ) -> Result<(), Infallible> {
        self.stories.ended(kept, said)?;
        self.left.set(self.stories.len());
        Ok(())
    }
    fn at(question: &Question) -> Tick {
        <Stories as Watch<Memory>>::at(question)
    }
    fn asked(
        &mut self,
        question: Question,
        kept: &mut Measurements<Memory>,
        said: &mut Vec<Said>,
    ) -> Result<(), Infallible> {
        self.stories.asked(question, kept, said)
    }
    fn save_some(&mut self, at: Tick, _: usize) -> bool {
        // In parts as small as can be.
        Watch::<Memory>::save_some(&mut self.stories, at, 1)
    }
}

/// Runs the dataflow over what arrives; `from` what a run before has kept.
pub fn run(specs: &[View], arrivals: &Arc<Vec<Arrival>>, plan: &Plan, from: &Kept) -> Outcome {
    let shared: Arc<Mutex<Outcome>> = Arc::default();
    let kept = Kept::at(plan.cut);
    let (from, to) = (Arc::new(from.clone()), kept.clone());
    let (specs, arrivals) = (specs.to_vec(), arrivals.clone());
    let (plan, outcome) = (plan.clone(), shared.clone());
    let together = Barrier::new(plan.workers);
    let workers = timely::execute(Config::process(plan.workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let durable = Worker {
            index,
            peers,
            from: from.clone(),
            to: to.clone(),
        };
        let named = durable.keeps();
        let schema = schema();
        let left = Rc::new(Cell::new(0));
        let released = Rc::new(Cell::new(0));
        let specs: Rc<[View]> = specs.clone().into();
        let reading = Reading::new(Arc::new(MemoryStore::of([&schema])), Default::default());
        let (mut unread, rules) = (reading.again(), plan.rules);
        let watch = Measured {
            left: left.clone(),
            stories: Stories::new(
                specs.clone(),
                Settings {
                    rules: plan.rules,
                    robots_over: ROBOTS_OVER,
                    quiet_room: plan.quiet_room,
                    attribution: attribution::Settings::default(),
                    profiles: plan.served,
                    asked: plan.served,
                },
                reading,
                Durable::open("stories", &named),
                released.clone(),
            ),
        };
        let held = released.clone();
        let (done, out) = (probe::Handle::new(), probe::Handle::new());
        let dataflow = worker.next_dataflow_index();
        let (mut input, mut cuts, mut asked) = worker.dataflow::<u64, _, _>(|scope| {
            let (input, accepted) = scope.new_input::<Batch>();
            let (to_cut, cuts) = scope.new_input::<Vec<Cut>>();
            let (to_ask, asked) = scope.new_input::<Vec<Question>>();
            let (open, saves) = (durable.open(plan.rules), durable.clone());
            let visits = visits(accepted, cuts.clone(), open, move |_, copied| {
                saves.save(copied);
            });
            let measurements = durable.measurements(plan.memory);
            let around = durable.around(released.clone());
            let (whole, said) = complete(&visits, cuts.clone(), asked, measurements, watch, around);
            let said = parted(said);
            let durable = ["credits", "customers"].map(|name| Durable::open(name, &named));
            let settings = attribution::Settings::default();
            let (of_orders, cut) = (said.to_credit, cuts.clone());
            let orders = crediting(
                specs.clone(),
                &settings,
                of_orders,
                cut,
                PARTITIONS,
                durable,
            );
            let durable = Durable::open("finished", &named);
            let (credited, to) = (orders.credited.clone(), shared.clone());
            finished(whole, credited, cuts.clone(), released, durable)
                .inspect(move |visit| to.lock().unwrap().finished.push(visit.clone()))
                .probe_with(&out);
            let durable = Durable::open("views", &named);
            let to = shared.clone();
            let added = said.contributions.concat(orders.contributions);
            views(specs, added, cuts, PARTITIONS, durable)
                .inspect(move |row| to.lock().unwrap().changed.push(row.clone()))
                .probe_with(&done);
            let to = shared.clone();
            orders
                .credited
                .inspect(move |order| to.lock().unwrap().credited.push(order.clone()))
                .probe_with(&done);
            let to = shared.clone();
            said.answers
                .concat(orders.answers)
                .inspect(move |answer| {
                    let mut answer = answer.clone();
                    answer.read(&mut unread, &rules);
                    to.lock().unwrap().answers.push(answer);
                })
                .probe_with(&done);
            let to = shared.clone();
            said.parts
                .inspect(move |part| to.lock().unwrap().parts.push(part.clone()))
                .probe_with(&done);
            (input, to_cut, to_ask)
        });

        let begin = from.tick.max(BEGIN);
        let mut pace = plan.pace.iter().cycle();
        let mut at = begin;
        input.advance_to(at);
        cuts.advance_to(at);
        asked.advance_to(at);
        while at < plan.until {
            // First what comes out again.
            let pace = if at == begin {
                Some(&STEP)
            } else {
                pace.next()
            };
            let next = (at + pace.copied().unwrap_or(1_000)).min(plan.until);
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
            let questions = plan.questions.iter().filter(|q| (at..next).contains(&q.at));
            asked.send_batch(&mut questions.cloned().collect());
            at = next;
            input.advance_to(at);
            cuts.advance_to(at);
            asked.advance_to(at);
            // A visit that is sealed in a step comes out at its end.
            while done.less_than(&at) || out.less_than(&(at / STEP * STEP)) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
            // Nothing was when it began: no table holds what has not come out.
            if held.replace(plan.released) != plan.released {
                // What is let go of is so with a step, and there may be none any more.
                left.set(0);
            }
        }
        shared.lock().unwrap().left.insert(index, left.get());
        // Dropped whole, so that the end of input says nothing; and by all, when all are there.
        together.wait();
        worker.drop_dataflow(dataflow);
    });
    let workers = workers.expect("workers begin");
    workers
        .join()
        .into_iter()
        .for_each(|done| done.expect("a worker ends well"));
    let mut outcome = std::mem::take(&mut *outcome.lock().unwrap());
    outcome.kept = std::mem::take(&mut *kept.lock().unwrap());
    outcome
}

/// The rows of each view at ticks, from how they change.
pub struct Rows<'a> {
    changed: Vec<&'a Changed>,
    rows: Vec<BTreeMap<(String, [i64; 6]), i64>>,
    seen: usize,
}

impl<'a> Rows<'a> {
    pub fn new(changed: &'a [Changed], views: usize) -> Rows<'a> {
        let mut changed: Vec<&Changed> = changed.iter().collect();
        changed.sort_by_key(|changed| changed.tick);
        Rows {
            changed,
            rows: vec![BTreeMap::new(); views],
            seen: 0,
        }
    }

    /// As of a tick, which does not lie before the last one.
    pub fn at(&mut self, tick: Tick) -> Vec<BTreeSet<(String, [i64; 6])>> {
        while let Some(changed) = self.changed.get(self.seen).filter(|c| c.tick <= tick) {
            let key: Vec<&str> = changed.row.0.fields().collect();
            let row = (key.join("|"), changed.row.1.0);
            *self.rows[usize::from(changed.view)].entry(row).or_default() +=
                i64::from(changed.diff);
            self.seen += 1;
        }
        let rows = self.rows.iter_mut().map(|rows| {
            rows.retain(|_, times| *times != 0);
            assert!(
                rows.values().all(|times| *times == 1),
                "a row is there once: {rows:?}"
            );
            rows.keys().cloned().collect()
        });
        rows.collect()
    }
}
