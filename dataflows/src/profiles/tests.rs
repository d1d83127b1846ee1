//! A profile is small whatever is measured, and what a plain sum says; profiles are the same on any
//! number of workers, and through a restart.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Barrier, Mutex};
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use timely::Config;
use timely::dataflow::operators::generic::operator::empty;
use timely::dataflow::operators::{Input, Inspect, Probe, probe};

use super::*;
use crate::cut::Cut;
use crate::fact::{Fact, Id};
use crate::stories::{Answer, Ask, Question};
use crate::visit::{Position, Tick};

const DAY: i64 = 24 * 3_600_000;

/// A measurement of a day: what happened, to which product, why.
type Seen = (i64, usize, usize, usize, i64);

const EFFECTS: [&str; 4] = ["shown", "clicked", "added_to_cart", "ordered"];
const KINDS: [&str; 3] = ["product", "page", "order"];
const IDS: [&str; 5] = ["lamp", "chair", "table", "sofa", "rug"];

fn seen() -> impl Strategy<Value = Seen> {
    (0..200_i64, 0..4_usize, 0..3_usize, 0..5_usize, -50..500_i64)
}

fn facts(seen: &[Seen]) -> Vec<Fact<'static>> {
    let mut seen = seen.to_vec();
    seen.sort();
    let fact = |(n, (hours, effect, kind, id, value)): (usize, Seen)| Fact {
        at: Position {
            time: hours * DAY / 4,
            event: [0, n as u64],
        },
        effect: EFFECTS[effect],
        entity: KINDS[kind],
        entity_id: Some(Id::Text(IDS[id])),
        reason: Some(IDS[(id + effect) % 5]),
        value: Some(value),
        ..Fact::default()
    };
    seen.into_iter().enumerate().map(fact).collect()
}

fn of(facts: &[Fact<'_>]) -> Profile {
    Profile::of_visit(&facts.iter().collect::<Vec<_>>())
}

/// A customer's visits, each of several measurements on a day or some.
fn visits() -> impl Strategy<Value = Vec<Vec<Fact<'static>>>> {
    vec(vec(seen(), 1..12), 1..9).prop_map(|all| all.iter().map(|seen| facts(seen)).collect())
}

fn added(visits: &[Vec<Fact<'_>>]) -> Profile {
    let mut profile = Profile::default();
    visits.iter().for_each(|visit| profile.add(of(visit)));
    profile
}

proptest! {
    #[test]
    fn it_is_what_plain_sums_say(visits in visits()) {
        let shown = added(&visits).shown(i64::MIN);
        let all = || visits.iter().flatten();
        let last = all().map(|fact| fact.at.time).max().unwrap();
        prop_assert_eq!(shown.first_seen, all().map(|fact| fact.at.time).min().unwrap());
        prop_assert_eq!(shown.last_seen, last);
        prop_assert_eq!(shown.visits as usize, visits.len());
        // An order counts once a visit, however often its page is loaded.
        let orders = visits.iter().flat_map(|visit| {
            let mut orders = BTreeMap::new();
            let ordered = |fact: &&Fact<'_>| fact.effect == "ordered" && fact.entity == "order";
            for order in visit.iter().filter(ordered) {
                orders.entry(order.entity_id.unwrap().text()).or_insert(order.value.unwrap());
            }
            orders.into_values()
        });
        let orders: Vec<i64> = orders.collect();
        prop_assert_eq!(shown.orders as usize, orders.len());
        prop_assert_eq!(shown.revenue, orders.iter().sum::<i64>());
        // A visit's weights are of the day of its last measurement, and halve in 30.
        let age = |visit: &[Fact<'_>]| (last / DAY - visit.last().unwrap().at.time / DAY) as f64;
        let left = |visit: &[Fact<'_>]| 0.5_f64.powf(age(visit) / 30.0);
        let mut products: BTreeMap<&str, f64> = BTreeMap::new();
        let mut hours = [0.0; 24];
        for visit in &visits {
            for fact in visit.iter().filter(|fact| fact.entity == "product") {
                let weight = match fact.effect {
                    "clicked" => 4.0,
                    "added_to_cart" => 8.0,
                    "ordered" => 32.0,
                    _ => 1.0,
                };
                let Some(Id::Text(id)) = fact.entity_id else { unreachable!() };
                *products.entry(id).or_default() += weight * left(visit);
            }
            let mut seen: Vec<usize> =
                visit.iter().map(|fact| (fact.at.time.rem_euclid(DAY) / 3_600_000) as usize).collect();
            seen.sort_unstable();
            seen.dedup();
            seen.into_iter().for_each(|hour| hours[hour] += left(visit));
        }
        let near = |a: f64, b: f64| (a - b).abs() < 0.05;
        for Weighed { name, weight } in &shown.products {
            prop_assert!(near(products[&**name], *weight), "{}: {} {}", name, products[&**name], weight);
        }
        for (name, weight) in products.iter().filter(|(_, weight)| **weight > 0.05) {
            prop_assert!(shown.products.iter().any(|p| &*p.name == *name), "{} {}", name, weight);
        }
        prop_assert!(hours.iter().zip(shown.hours).all(|(a, b)| near(*a, b)));
    }

    #[test]
    fn of_two_it_does_not_matter_which_is_added_to_the_other(a in visits(), b in visits()) {
        let (a, b) = (added(&a), added(&b));
        let (mut ab, mut ba) = (a.clone(), b.clone());
        ab.add(b);
        ba.add(a);
        prop_assert_eq!(ab, ba);
    }

    #[test]
    fn its_bytes_are_few_and_it_comes_back_from_them(
        visits in vec(vec((any::<i64>(), "[a-zä]{0,60}", ".{0,60}", any::<i64>()), 0..60), 0..12),
    ) {
        let mut profile = Profile::default();
        for visit in &visits {
            let fact = |(time, id, reason, value): &(i64, String, String, i64)| (*time, id.clone(), reason.clone(), *value);
            let owned: Vec<_> = visit.iter().map(fact).collect();
            let facts: Vec<Fact<'_>> = owned.iter().map(|(time, id, reason, value)| Fact {
                at: Position { time: *time, event: [0; 2] },
                effect: "ordered",
                entity: if *value % 2 == 0 { "product" } else { reason },
                entity_id: Some(Id::Text(id)),
                reason: Some(reason),
                value: Some(*value),
                ..Fact::default()
            }).collect();
            profile.add(of(&facts));
            let bytes = profile.to_bytes();
            prop_assert!(bytes.len() <= MOST_BYTES, "{} bytes", bytes.len());
            prop_assert_eq!(&Profile::from_bytes(&bytes).unwrap(), &profile);
        }
    }

    #[test]
    fn bytes_of_something_else_are_an_error(bytes in vec(any::<u8>(), 0..80)) {
        if let Ok(profile) = Profile::from_bytes(&bytes) {
            prop_assert_eq!(bytes[0], 1);
            prop_assert!(profile.to_bytes().len() <= bytes.len());
        }
    }
}

#[test]
fn the_fullest_of_all_is_not_over_the_bound() {
    let name = |n: usize| format!("{n:0>48}");
    let names: Vec<String> = (0..40).map(name).collect();
    let mut profile = Profile::default();
    // So often that every weight is as large as it gets.
    for _ in 0..40 {
        let mut facts = Vec::new();
        for (n, name) in names.iter().enumerate() {
            let fact = Fact {
                at: Position {
                    time: i64::MAX - (n as i64 % 24) * 3_600_000,
                    event: [0; 2],
                },
                effect: "ordered",
                entity: "product",
                entity_id: Some(Id::Text(name)),
                reason: Some(name),
                ..Fact::default()
            };
            facts.extend([fact; 100]);
            facts.push(Fact {
                entity: name,
                ..fact
            });
        }
        profile.add(of(&facts));
        for _ in 0..20 {
            profile.add(profile.clone());
        }
    }
    let bytes = profile.to_bytes().len();
    assert!((1_500..=MOST_BYTES).contains(&bytes), "{bytes} bytes");
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
        let mut model = self.0.lock().unwrap();
        for (customer, profile) in &profiles {
            // What a run before has put is what this one puts.
            let known = model.get(customer, tick + 1)?;
            let earlier = model.get(customer, tick)?;
            assert!(known == earlier || known.as_ref() == Some(profile));
        }
        model.put(tick, profiles)
    }
    fn save(&mut self, _: Tick) {}
    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

const RETENTION: i64 = 40 * DAY;
const NAMES: [&str; 4] = ["ann", "bob", "cy", "dee"];

/// How a run goes: on so many workers, from a tick until another.
struct Plan {
    workers: usize,
    from: Tick,
    until: Tick,
    cut: Tick,
    pace: u64,
}

/// Runs over what was sealed, and asks for all customers at every second step.
fn run(parts: &Arc<Vec<Part>>, plan: Plan, disk: &Disk) -> BTreeMap<(Tick, usize), String> {
    let found: Arc<Mutex<Vec<Answer>>> = Arc::default();
    let (to, parts, disk) = (found.clone(), parts.clone(), disk.clone());
    let together = Barrier::new(plan.workers);
    let workers = timely::execute(Config::process(plan.workers), move |worker| {
        let (index, peers) = (worker.index(), worker.peers());
        let done = probe::Handle::new();
        let dataflow = worker.next_dataflow_index();
        let (to, disk) = (to.clone(), disk.clone());
        let (mut said, mut asked, mut cuts) = worker.dataflow::<u64, _, _>(|scope| {
            let (to_say, said) = scope.new_input::<Vec<Part>>();
            let (to_ask, asked) = scope.new_input::<Vec<Question>>();
            let (to_cut, cuts) = scope.new_input::<Vec<Cut>>();
            let kept = profiles(said, empty(scope), asked, cuts, RETENTION, disk, |error| {
                panic!("{error}")
            });
            kept.answers
                .inspect(move |answer| to.lock().unwrap().push(answer.clone()))
                .probe_with(&done);
            (to_say, to_ask, to_cut)
        });
        let mut at = plan.from;
        said.advance_to(at);
        asked.advance_to(at);
        cuts.advance_to(at);
        while at < plan.until {
            let next = (at + plan.pace).min(plan.until);
            let own = |(n, part): &(usize, &Part)| {
                n % peers == index && (at + 1..=next).contains(&part.at)
            };
            let now = parts.iter().enumerate().filter(own);
            said.send_batch(&mut now.map(|(_, part)| part.clone()).collect());
            if (at + 1..=next).contains(&plan.cut) {
                cuts.send_batch(&mut vec![Cut {
                    tick: plan.cut,
                    snapshot: true,
                    ..Cut::default()
                }]);
            }
            let days = (at..next).step_by(DAY as usize);
            let ticks = days.filter(|at| at.is_multiple_of(2 * DAY as u64));
            let questions = ticks.flat_map(|at| {
                NAMES.iter().enumerate().map(move |(id, name)| Question {
                    at,
                    process: 0,
                    id: id as u64,
                    ask: Ask::Profile((*name).into()),
                })
            });
            asked.send_batch(&mut questions.collect());
            at = next;
            said.advance_to(at);
            asked.advance_to(at);
            cuts.advance_to(at);
            while done.less_than(&at) {
                worker.step_or_park(Some(Duration::from_millis(1)));
            }
        }
        together.wait();
        worker.drop_dataflow(dataflow);
    });
    let workers = workers.expect("workers begin");
    let ended = workers.join();
    let count = ended.len();
    ended
        .into_iter()
        .for_each(|done| done.expect("a worker ends well"));
    let mut shown = BTreeMap::new();
    let mut heard: BTreeMap<(Tick, usize), usize> = BTreeMap::new();
    for answer in std::mem::take(&mut *found.lock().unwrap()) {
        let place = (answer.at, answer.id as usize);
        *heard.entry(place).or_default() += 1;
        if let Some(profile) = answer.profile {
            assert_eq!(
                shown.insert(place, profile.into()),
                None,
                "one worker has it"
            );
        }
    }
    assert!(
        heard.values().all(|answers| *answers == count),
        "every worker answers"
    );
    shown
}

/// What is sealed, each with the end of its step, a day being a step here.
fn sealed() -> impl Strategy<Value = Vec<Part>> {
    let one = (1..60_u64, 0..DAY as u64, 0..4_usize, vec(seen(), 1..6));
    vec(one, 0..40).prop_map(|all| {
        let part = |(n, (day, after, name, seen)): (usize, (u64, u64, usize, Vec<Seen>))| Part {
            at: (day + 1) * DAY as u64,
            tick: day * DAY as u64 + after / 3 * 3,
            visit: (n as u128 * 0x9e37_79b9_7f4a_7c15).to_be_bytes(),
            customer: NAMES[name].into(),
            profile: of(&facts(&seen)),
        };
        all.into_iter().enumerate().map(part).collect()
    })
}

/// A customer's profile by a plain walk over all that was sealed in steps that ended at or before a tick.
fn plainly(parts: &[Part], name: &str, at: Tick) -> Option<String> {
    let mut own: Vec<&Part> = parts
        .iter()
        .filter(|part| &*part.customer == name && part.at <= at)
        .collect();
    own.sort_by_key(|part| (part.tick, part.visit));
    let mut profile = Profile::default();
    for same in own.chunk_by(|a, b| a.tick == b.tick) {
        if profile.is_expired(same[0].tick, RETENTION) {
            profile = Profile::default();
        }
        same.iter()
            .for_each(|part| profile.add(part.profile.clone()));
    }
    let there = !own.is_empty() && !profile.is_expired(at, RETENTION);
    there.then(|| serde_json::to_string(&profile.shown(at as i64)).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn profiles_are_those_of_a_plain_walk_on_any_number_of_workers_and_through_a_restart(
        parts in sealed(),
        (first, second) in (1..4_usize, 1..4_usize),
        (cut, crash) in (1..40_u64, 0..20_u64),
        pace in 1..4_u64,
    ) {
        let parts = Arc::new(parts);
        let day = DAY as u64;
        let (cut, crash, end) = (cut * day, (cut + crash) * day, 64 * day);
        let disk = Disk::default();
        let plan = Plan { workers: first, from: 0, until: crash, cut, pace: pace * day };
        let mut shown = run(&parts, plan, &disk);
        // It goes on from the cut; what was put behind it is there already.
        let plan = Plan { workers: second, from: cut, until: end, cut: 0, pace: day };
        for (place, profile) in run(&parts, plan, &disk) {
            let before = shown.insert(place, profile.clone());
            prop_assert!(before.is_none_or(|before| before == profile));
        }
        for at in (0..end).step_by(2 * DAY as usize) {
            for (id, name) in NAMES.iter().enumerate() {
                prop_assert_eq!(shown.get(&(at, id)).cloned(), plainly(&parts, name, at));
            }
        }
    }
}
