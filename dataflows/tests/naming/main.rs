//! Each customer of a visit is said once, at the end of the step in which the visit names the customer
//! first, with the profile of that moment: as a plain walk over all that was accepted says it, whatever
//! is revised or sent twice, however time advances, on any number of workers, and through a restart.
//! Several customers share browsers here, and each has several browsers.

mod arrivals;
mod run;
#[path = "../shop/mod.rs"]
mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::*;
use visitflow_dataflows::fact::Agent;
use visitflow_dataflows::profiles::{Loaded, Named, Profile, by_customer};
use visitflow_dataflows::views::STEP;
use visitflow_dataflows::visit::{Tick, bytes_of_words};

use arrivals::{Next, arrivals_of, next, shown};
use run::{Outcome, Plan, run};
use shop::arrival::{Arrival, BEGIN};
use shop::walk::{Walked, accepted, visits};

/// The end of the step of a tick.
fn end_of_step(tick: Tick) -> Tick {
    (tick / STEP + 1) * STEP
}

/// A customer's profile of all visits that were sealed before a tick.
fn profile(visits: &[Walked<'_>], customer: &str, at: Tick) -> Option<Profile> {
    let sealed = |visit: &&Walked<'_>| visit.seal < at && visit.members[0].agent() != Agent::Robot;
    let mut sealed: Vec<&Walked<'_>> = visits.iter().filter(sealed).collect();
    sealed.sort_by_key(|visit| (visit.seal, visit.id));
    let mut sum: Option<Profile> = None;
    for visit in sealed {
        let facts: Vec<_> = visit.members.iter().map(|a| a.fact()).collect();
        if let Some(own) = by_customer(&facts).get(customer) {
            let own = Profile::of_visit(own);
            match &mut sum {
                Some(sum) => sum.add(own),
                None => sum = Some(own),
            }
        }
    }
    sum
}

/// What ought to be said until a tick, by walks over everything at the end of each step.
fn expected(arrivals: &[Arrival], until: Tick) -> Vec<Loaded> {
    let ends: BTreeSet<Tick> = arrivals.iter().map(|a| end_of_step(a.tick)).collect();
    let mut said = BTreeSet::new();
    let mut expected = Vec::new();
    for at in ends.into_iter().filter(|at| *at <= until) {
        let set = accepted(arrivals, at);
        let visits = visits(&set);
        for visit in &visits {
            for member in &visit.members {
                let named = member.customer.filter(|_| member.agent() != Agent::Robot);
                let Some(customer) = named.filter(|id| !id.is_empty() && id.len() <= 200) else {
                    continue;
                };
                if said.insert((visit.id, customer)) {
                    let named = Named {
                        tick: at,
                        shard: member.shard(),
                        browser_id: member.browser_id().into_bytes().into(),
                        visit: bytes_of_words(visit.id),
                        time: member.time,
                        customer: customer.into(),
                    };
                    let profile = profile(&visits, customer, at);
                    expected.push(Loaded { named, profile });
                }
            }
        }
    }
    expected
}

fn in_order(mut loaded: Vec<Loaded>) -> Vec<Loaded> {
    loaded.sort_by(|a, b| {
        let key = |l: &Loaded| (l.named.tick, l.named.visit, l.named.customer.clone());
        key(a).cmp(&key(b))
    });
    loaded
}

/// When everything that arrived has been sealed.
fn end_of(arrivals: &[Arrival]) -> Tick {
    let last = arrivals.last().map_or(BEGIN, |arrival| arrival.tick);
    (last + 30_000) / 1_000 * 1_000
}

fn pace() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        Just(vec![100]),
        Just(vec![1_000]),
        prop::collection::vec(1..5_000_u64, 3..6),
        Just(vec![1_000_000]),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let memory = prop_oneof![Just(usize::MAX), Just(300)];
    (1..4_usize, pace(), memory).prop_map(|(workers, pace, memory)| Plan {
        workers,
        pace,
        memory,
        robots_over: 10_000,
        until: 0,
        cut: 0,
    })
}

fn shop() -> impl Strategy<Value = Vec<Next>> {
    prop::collection::vec(next(), 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn each_customer_of_a_visit_is_said_once_with_the_profile_of_the_moment(
        shop in shop(), plan in plan(),
    ) {
        let arrivals = Arc::new(arrivals_of(shop));
        let end = end_of(&arrivals);
        let plan = Plan { until: end, cut: end, ..plan };
        let Outcome { said, kept, .. } = run(&arrivals, &plan, &Outcome::default());
        prop_assert_eq!(in_order(said), in_order(expected(&arrivals, end)));
        prop_assert_eq!(kept.named.get("named").map_or(0, Vec::len), 0, "nothing is kept of sealed visits");
    }

    #[test]
    fn through_a_restart_with_other_workers_it_is_said_as_without(
        shop in shop(), first in plan(), second in plan(),
        (cut, crash) in (0..400_u64, 0..100_u64),
    ) {
        let arrivals = Arc::new(arrivals_of(shop));
        let end = end_of(&arrivals);
        let cut = (BEGIN + STEP + cut * 100 / STEP * STEP).min(end);
        let crash = (cut + crash * 100).min(end);
        let first = Plan { until: crash, cut, ..first };
        let first = run(&arrivals, &first, &Outcome::default());
        let second = Plan { until: end, cut: end, ..second };
        let after = run(&arrivals, &second, &first).said;
        let before = first.said;
        prop_assert!(after.iter().all(|loaded| loaded.named.tick > cut));
        // What the first has said behind the cut, the second says again.
        let mut all: BTreeMap<_, Loaded> = BTreeMap::new();
        for loaded in before.into_iter().chain(after) {
            let key = (loaded.named.visit, loaded.named.customer.clone());
            let again = loaded.named.tick > cut && loaded.named.tick <= crash;
            if let Some(known) = all.insert(key, loaded.clone()) {
                prop_assert!(again, "{:?} is said twice", loaded);
                prop_assert_eq!(known, loaded);
            }
        }
        let all = all.into_values().collect();
        prop_assert_eq!(in_order(all), in_order(expected(&arrivals, end)));
    }
}

/// A measurement of a second behind the beginning.
fn at(second: u64, browser: u8, n: i64, customer: Option<&'static str>) -> Arrival {
    let tick = BEGIN + second * 1_000;
    shown((tick, tick as i64), browser, n, customer)
}

#[test]
fn one_customer_on_three_devices_is_greeted_on_each_with_what_all_have_said() {
    // A visit on each device after the other, each sealed when the next one begins.
    let arrivals = [0_u64, 20, 40]
        .map(|second| at(second, (second / 20) as u8, second as i64 + 2, Some("ann")));
    let arrivals = Arc::new(arrivals.to_vec());
    let end = end_of(&arrivals);
    let plan = Plan {
        workers: 2,
        pace: vec![100],
        memory: usize::MAX,
        robots_over: 10_000,
        until: end,
        cut: end,
    };
    let said = run(&arrivals, &plan, &Outcome::default()).said;
    let visits = |loaded: &Loaded| {
        let profile = loaded.profile.as_ref()?;
        Some(profile.shown(profile.last_seen()).visits)
    };
    let said: Vec<_> = in_order(said).iter().map(visits).collect();
    assert_eq!(said, [None, Some(1), Some(2)]);
}

#[test]
fn two_customers_on_one_browser_are_each_greeted_with_their_own() {
    let (ann, bob) = (Some("ann"), Some("bob"));
    let mut arrivals = vec![at(0, 0, 2, ann), at(1, 0, 3, bob), at(2, 0, 4, ann)];
    arrivals.extend([at(30, 0, 5, bob), at(60, 0, 6, ann), at(61, 0, 7, bob)]);
    let arrivals = Arc::new(arrivals);
    let end = end_of(&arrivals);
    let plan = Plan {
        workers: 3,
        pace: vec![100],
        memory: usize::MAX,
        robots_over: 10_000,
        until: end,
        cut: end,
    };
    let said = run(&arrivals, &plan, &Outcome::default()).said;
    let said: Vec<(&str, Option<u32>)> = said
        .iter()
        .map(|loaded| {
            let profile = loaded.profile.as_ref();
            let visits = profile.map(|profile| profile.shown(profile.last_seen()).visits);
            (&*loaded.named.customer, visits)
        })
        .collect();
    let of = |name| {
        let own = said.iter().filter(move |(customer, _)| *customer == name);
        own.map(|(_, visits)| *visits).collect::<Vec<_>>()
    };
    assert_eq!(of("ann"), [None, Some(1)]);
    assert_eq!(of("bob"), [None, Some(1), Some(2)]);
}

#[test]
fn who_was_found_to_be_a_robot_is_not_greeted() {
    // Told of as a robot a minute later; greeted before that, not after.
    let mut arrivals: Vec<Arrival> = (0..5).map(|n| at(0, 0, n * 11 + 2, None)).collect();
    arrivals.push(at(1, 0, 80, Some("ann")));
    for second in (3..60).step_by(2) {
        arrivals.push(at(second, 0, 11 * second as i64 + 5, None));
    }
    arrivals.push(at(61, 0, 1_000, Some("bob")));
    let arrivals = Arc::new(arrivals);
    let end = end_of(&arrivals);
    let plan = |robots_over| Plan {
        workers: 1,
        pace: vec![100],
        memory: usize::MAX,
        robots_over,
        until: end,
        cut: end,
    };
    let named = |robots_over| {
        let said = run(&arrivals, &plan(robots_over), &Outcome::default()).said;
        let names = said.iter().map(|loaded| loaded.named.customer.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(named(10_000), ["ann", "bob"]);
    assert_eq!(named(2), ["ann"]);
}
