//! Views, orders and answers are those of plain walks over all that was accepted, at every step,
//! however time advances, on any number of workers, and through a restart.

mod arrivals;
mod reference;
mod run;
#[path = "../shop/mod.rs"]
mod shop;

use std::collections::{BTreeMap, BTreeSet};
use std::slice;
use std::sync::Arc;

use proptest::prelude::*;
use visitflow_dataflows::fact::Agent;
use visitflow_dataflows::profiles::{Part, Profile, by_customer};
use visitflow_dataflows::stories::{Answer, Ask, Credited, Finished, Question, Shown};
use visitflow_dataflows::views::{Field, Of, STEP, Step, Value, View};
use visitflow_dataflows::visit::{Rules, Tick, bytes_of_words, words_of_bytes};

use arrivals::{ROBOTS_OVER, arrivals};
use reference::{Known, Reference, Visit};
use run::{Outcome, Plan, Rows, run};
use shop::arrival::{Arrival, BEGIN, RULES};
use shop::store::Kept;

/// How often views move on: all of them at whole seconds, or some at every step.
const PERIODS: [Tick; 2] = [1_000, STEP];

/// All views, or those that do not say why a visit has ended: for these nothing changes with its seal.
fn some_views(says_why: bool, period: Tick) -> Vec<View> {
    let mut views = all_views(period);
    views.retain(|view| says_why || !view.key.contains(&Field::EndReason));
    views
}

/// One of each kind: of everything that a view can be asked for.
fn all_views(period: Tick) -> Vec<View> {
    let view = |of: Of, key: &[Field], values: &[Value], window: u64, step: u64| View {
        name: String::new(),
        of,
        effects: vec![],
        entities: vec![],
        reasons: vec![],
        people: false,
        key: key.to_vec(),
        values: values.to_vec(),
        window,
        step,
        against: None,
        top: None,
        by_first: false,
        since: 0,
    };
    use Field::{
        Agent, Country, Effect, EndReason, Entity, EntityId, Entry, Exit, Hour, Minute, Prefix,
        Reason, Source, Step as Place, Variant,
    };
    use Value::{Browsers, Count, Measurements, Orders, Revenue, Sum, Usual};
    let count = || Count(None);
    let of = |effect: &str| Some(effect.to_owned());
    let words = |words: &[&str]| {
        words
            .iter()
            .map(|word| String::from(*word))
            .collect::<Vec<_>>()
    };
    let step = |effect: &str, entity: &str| Step {
        effect: effect.into(),
        entity: entity.into(),
    };
    let people = |view| View {
        people: true,
        ..view
    };
    let measured = || Of::Measurements;
    let funnel = Of::Funnel(vec![
        step("shown", "page"),
        step("clicked", ""),
        step("ordered", "order"),
    ]);
    vec![
        view(measured(), &[EntityId], &[count()], 5_000, period),
        people(view(
            measured(),
            &[EntityId, Agent],
            &[count(), Browsers],
            5_000,
            1_000,
        )),
        people(view(
            measured(),
            &[Entity],
            &[
                Count(of("clicked")),
                Sum(None),
                Sum(of("ordered")),
                Browsers,
            ],
            10_000,
            2_000,
        )),
        View {
            effects: words(&["searched", "shown"]),
            entities: words(&["search", "page"]),
            ..view(
                measured(),
                &[Prefix, EntityId],
                &[count(), Browsers],
                8_000,
                4_000,
            )
        },
        View {
            against: Some(20_000),
            top: Some(2),
            ..people(view(
                measured(),
                &[EntityId],
                &[count(), Usual],
                4_000,
                1_000,
            ))
        },
        View {
            against: Some(15_000),
            ..view(
                measured(),
                &[Effect],
                &[count(), Browsers, Usual],
                3_000,
                1_000,
            )
        },
        View {
            top: Some(1),
            by_first: true,
            ..view(measured(), &[Entity, EntityId], &[count()], 6_000, 3_000)
        },
        view(
            measured(),
            &[Hour, Country, Agent],
            &[count(), Browsers],
            30_000,
            1_000,
        ),
        people(view(
            measured(),
            &[Minute, Variant, Reason],
            &[count()],
            7_000,
            7_000,
        )),
        view(measured(), &[], &[Browsers, count()], 5_000, 5_000),
        view(
            Of::Visits,
            &[Country, Agent],
            &[count(), Measurements, Orders, Revenue, Browsers],
            20_000,
            2 * period,
        ),
        people(view(
            Of::Visits,
            &[Entry, Exit, Source, EndReason],
            &[count(), Count(of("clicked"))],
            15_000,
            5_000,
        )),
        View {
            against: Some(30_000),
            top: Some(3),
            ..view(Of::Visits, &[Source], &[count(), Usual], 6_000, 2_000)
        },
        view(Of::Chains, &[Entity, Reason], &[count()], 20_000, 1_000),
        View {
            entities: words(&["banner"]),
            reasons: words(&["campaign:", "recommendation:"]),
            ..people(view(Of::Chains, &[Variant], &[count()], 12_000, 3_000))
        },
        view(Of::Credits, &[Reason], &[count()], 20_000, period),
        people(view(
            Of::Credits,
            &[Country, Reason],
            &[count()],
            9_000,
            1_000,
        )),
        view(funnel, &[Place, Agent], &[count()], 18_000, 2_000),
    ]
}

/// When everything that arrived has been sealed, and has left all windows.
fn end_of(arrivals: &[Arrival]) -> Tick {
    let last = arrivals.last().map_or(BEGIN, |arrival| arrival.tick);
    (last + 60_000) / 1_000 * 1_000
}

/// All frontiers that a job may show: each tick, each second, odd jumps, everything at once.
fn pace() -> impl Strategy<Value = Vec<u64>> {
    prop_oneof![
        Just(vec![100]),
        Just(vec![1_000]),
        prop::collection::vec(1..5_000_u64, 3..6),
        Just(vec![1_700, 300]),
        Just(vec![1_000_000]),
    ]
}

/// Since when views count that come at a cut: behind all that visits have which are open there.
fn since(kept: &Kept, cut: Tick) -> Tick {
    let latest = kept.visits.iter().map(|rows| rows.latest()).max();
    cut.max(latest.unwrap_or(0) + 1)
}

fn plan() -> impl Strategy<Value = Plan> {
    let memory = prop_oneof![Just(usize::MAX), Just(300)];
    let released = prop_oneof![2 => Just(Tick::MAX), 1 => Just(0), 1 => 0..40_000_u64];
    let quiet_room = prop::sample::select(&[0, 10_000, usize::MAX]);
    let plan = (1..4_usize, pace(), memory, quiet_room, released);
    plan.prop_map(|(workers, pace, memory, quiet_room, released)| Plan {
        rules: RULES,
        workers,
        pace,
        until: 0,
        cut: 0,
        memory,
        quiet_room,
        released: if released < 40_000 && released > 0 {
            BEGIN + released
        } else {
            released
        },
        served: true,
        questions: vec![],
    })
}

/// Until a tick, with a snapshot there, on one worker, at every tick; tables hold what is sealed at once.
fn plain(until: Tick) -> Plan {
    Plan {
        rules: RULES,
        workers: 1,
        pace: vec![100],
        until: until + 1,
        cut: until,
        memory: usize::MAX,
        quiet_room: 0,
        released: Tick::MAX,
        served: true,
        questions: vec![],
    }
}

/// At the end of every step each view has the rows of the reference, and stands still between its own.
fn check_rows(views: &[View], outcome: &Outcome, reference: &Reference<'_>, ticks: [Tick; 2]) {
    let mut rows = Rows::new(&outcome.changed, views.len());
    let mut expected: Vec<_> = views.iter().map(|v| reference.rows(v, ticks[0])).collect();
    for at in (ticks[0]..=ticks[1]).step_by(STEP as usize) {
        for (n, (own, view)) in rows.at(at).into_iter().zip(views).enumerate() {
            if at.is_multiple_of(view.step) {
                expected[n] = reference.rows(view, at);
            }
            assert_eq!(own, expected[n], "view {n} as of {at}");
        }
    }
}

/// At the end of every period the last that was said of each order is what attribution says of its visit
/// now; none waits longer than a step.
fn check_orders(outcome: &[&Outcome], reference: &Reference<'_>, until: Tick, period: Tick) {
    let said = outcome.iter().flat_map(|outcome| &outcome.credited);
    let mut said: Vec<_> = said.collect();
    said.sort_by_key(|said| said.tick);
    let mut said = said.into_iter().peekable();
    let mut last = BTreeMap::new();
    for at in (BEGIN..=until).step_by(STEP as usize) {
        let mut now = BTreeSet::new();
        while let Some(order) = said.next_if(|said| said.tick <= at) {
            assert!(order.tick == at, "nothing is said but at a step's end");
            let key = (
                order.browser_id.clone(),
                order.order.time,
                order.order.event,
            );
            assert!(now.insert(key.clone()), "an order is told of once a step");
            last.insert(key, order);
        }
        let mut expected = BTreeMap::new();
        for visit in &reference.step(at).visits {
            for order in visit.orders() {
                let id: Box<[u8]> = visit.members[0].browser_id().into_bytes().into();
                expected.insert((id, order.time, order.event), (visit, order));
            }
        }
        assert!(last.keys().eq(expected.keys()), "orders as of {at}");
        if !at.is_multiple_of(period) {
            continue;
        }
        for (said, (visit, order)) in last.values().zip(expected.values()) {
            assert_eq!(&said.order, order, "as of {at}");
            assert_eq!(words_of_bytes(&said.visit), visit.id);
            assert_eq!((&*said.country, said.agent), (visit.country(), visit.agent));
            assert_eq!(said.sealed, visit.is_sealed(at), "as of {at}");
            assert_eq!(said.shard, visit.members[0].shard());
        }
    }
}

/// Each sealed visit says once, at the end of its step, what it adds to its customers' profiles; a
/// robot's says nothing.
fn check_parts(outcomes: &[&Outcome], reference: &Reference<'_>, until: Tick) {
    let order = |part: &Part| (part.tick, part.visit, part.customer.clone());
    let said = outcomes.iter().flat_map(|outcome| outcome.parts.clone());
    let mut said: Vec<Part> = said.collect();
    said.sort_by_key(order);
    let mut expected = Vec::new();
    for visit in &reference.step(until).visits {
        if !visit.is_sealed(until) || visit.agent == Agent::Robot {
            continue;
        }
        let facts = visit.facts();
        expected.extend(
            by_customer(&facts)
                .into_iter()
                .map(|(customer, facts)| Part {
                    at: (visit.seal / STEP + 1) * STEP,
                    tick: visit.seal,
                    visit: bytes_of_words(visit.id),
                    customer: customer.into(),
                    profile: Profile::of_visit(&facts),
                }),
        );
    }
    expected.sort_by_key(order);
    assert_eq!(said, expected);
}

/// Each visit that was sealed before a tick comes out whole, once, in the order of seals, with its orders.
fn check_finished(finished: &[Finished], workers: usize, reference: &Reference<'_>, until: Tick) {
    let ticks: Vec<Tick> = finished.iter().map(|done| done.visit.tick).collect();
    assert!(workers > 1 || ticks.is_sorted(), "{ticks:?}");
    let row = |done: &Finished| (done.visit.visit, done.visit.len(), done.orders.clone());
    let mut said: Vec<_> = finished.iter().map(row).collect();
    said.sort_by_key(|(visit, ..)| *visit);
    let sealed = reference.step(until).visits.iter();
    let sealed = sealed.filter(|visit| visit.is_sealed(until));
    let row = |visit: &Visit<'_>| {
        let mut orders = visit.orders();
        orders.sort_by_key(|order| (order.time, order.event));
        (bytes_of_words(visit.id), visit.members.len(), Some(orders))
    };
    let mut expected: Vec<_> = sealed.map(row).collect();
    expected.sort_by_key(|(visit, ..)| *visit);
    assert_eq!(said, expected);
}

/// Two runs, the second from what the first has kept at a cut, each with views of its own, say together what
/// one would; at the end of the second, which went by `plan`, all is sealed and has left the windows.
fn check_restart(
    views: [&[View]; 2],
    outcomes: [&Outcome; 2],
    plan: &Plan,
    reference: &Reference<'_>,
    [cut, period]: [Tick; 2],
) {
    let (until, [_, last]) = (plan.cut, outcomes);
    check_rows(views[0], outcomes[0], reference, [BEGIN, cut]);
    check_rows(views[1], last, reference, [cut, until]);
    check_orders(&outcomes, reference, until, period);
    if plan.served {
        check_parts(&outcomes, reference, until);
    }
    // No table held anything: what was sealed before comes once more, with its orders.
    check_finished(&last.finished, plan.workers, reference, until);
    assert!(last.kept.named["views"].is_empty());
    assert!(last.kept.named["credits"].is_empty());
    if plan.released == Tick::MAX {
        assert!(last.left.values().all(|left| *left == 0), "{:?}", last.left);
    }
}

/// A cut of a run, at a whole second between its begin and its end.
fn cut_of(cut: u64, until: Tick) -> Tick {
    BEGIN + 1_000 + cut * 1_000 % (until - BEGIN - 1_000)
}

/// A visit as it is to be shown; with its measurements, if it is asked for by itself. Sealed, and among
/// what is live, it is a row of the table of visits.
fn shown(visit: &Visit<'_>, at: Tick, whole: bool, live: bool) -> Shown {
    let open = !visit.is_sealed(at);
    let last = visit.members[visit.members.len() - 1];
    let facts = visit.facts();
    let customer = facts.iter().find_map(|fact| fact.customer);
    Shown {
        visit: bytes_of_words(visit.id),
        browser_id: last.browser_id(),
        started: visit.started(),
        last_seen: last.time,
        measurements: facts.len() as u32,
        country: visit.country().to_owned(),
        agent: match live || !open {
            true => visit.sender().agent().word().to_owned(),
            false => visit.agent.word().to_owned(),
        },
        customer_id: customer.map(|id| id.text().into_owned()),
        orders: facts
            .iter()
            .filter(|f| (f.effect, f.entity) == ("ordered", "order"))
            .count() as u32,
        ended: visit
            .is_sealed(at)
            .then(|| (visit.seal, visit.reason.to_owned())),
        facts: match whole && open {
            true => facts
                .iter()
                .map(visitflow_dataflows::stories::Facts::of)
                .collect(),
            false => vec![],
        },
        attributed: if whole && open {
            visit.orders()
        } else {
            vec![]
        },
    }
}

/// What all workers say together is what a plain look at everything before the question's tick says.
fn check_answer(question: &Question, answers: &[&Answer], known: &Known<'_>, released: Tick) {
    let at = question.at;
    let kept = answers.iter().map(|answer| answer.kept).max().unwrap_or(0);
    assert!(kept <= released, "what is not released is kept");
    let mut said: Vec<Shown> = answers.iter().flat_map(|a| a.visits.clone()).collect();
    let of = |visits: Vec<&Visit<'_>>, whole| -> Vec<Shown> {
        visits
            .into_iter()
            .map(|visit| shown(visit, at, whole, matches!(question.ask, Ask::Live(_))))
            .collect()
    };
    let open = known.visits.iter().filter(|visit| !visit.is_sealed(at));
    let sort = |shown: &mut Vec<Shown>| shown.sort_by_key(|s| (s.started, s.visit));
    let mut expected = match &question.ask {
        Ask::Visit(id) => {
            let own = known.visits.iter().filter(|visit| visit.id == *id);
            // One that is let go of may be there or not.
            let own = own.filter(|v| !v.is_sealed(at) || v.seal > kept || !said.is_empty());
            of(own.collect(), true)
        }
        Ask::Browser(id) => {
            let own = |v: &&Visit<'_>| v.members[0].browser_id().as_bytes() == &**id;
            of(open.filter(own).collect(), false)
        }
        Ask::Newest { limit, agent } => {
            let own = open.filter(|v| agent.as_deref().is_none_or(|agent| agent == v.agent.word()));
            let mut all = of(own.collect(), false);
            sort(&mut all);
            sort(&mut said);
            // Each worker gives its own.
            let limit = *limit as usize;
            assert!(answers.iter().all(|answer| answer.visits.len() <= limit));
            said.drain(..said.len().saturating_sub(limit));
            all.split_off(all.len().saturating_sub(limit))
        }
        Ask::Live(after) => {
            said.retain(|shown| shown.ended.as_ref().is_none_or(|(seal, _)| *seal > kept));
            let live = known
                .visits
                .iter()
                .filter(|v| !v.is_sealed(at) || v.seal > (*after).max(kept));
            of(live.collect(), false)
        }
        Ask::Kept | Ask::Hold(_) | Ask::Profile(_) => vec![],
    };
    sort(&mut said);
    sort(&mut expected);
    assert_eq!(said, expected, "{question:?}");
}

/// Questions at any ticks, some of them together.
fn questions(
    arrivals: &[Arrival],
    reference: &Reference<'_>,
    asks: &[(u64, u8, usize)],
) -> Vec<Question> {
    let until = end_of(arrivals);
    let ask = |(id, (at, what, which)): (usize, &(u64, u8, usize))| {
        let at = BEGIN + 100 + at * 100 % (until - BEGIN - 30_000);
        let of = &arrivals[which % arrivals.len()];
        // Of a visit as it was at another time: it may have come to be none.
        let other = reference.step(at + (*which as u64 % 5) * 1_000);
        let other = other.visits.get(which % other.visits.len().max(1));
        let ask = match what % 5 {
            0 => Ask::Visit(other.map_or([0; 2], |visit| visit.id)),
            1 => Ask::Browser(of.browser_id().into_bytes().into()),
            2 => Ask::Newest {
                limit: 1 + *which as u32 % 3,
                agent: [None, Some("person".into()), Some("robot".into())][which % 3].clone(),
            },
            3 => Ask::Live(at - 1_000 * (*which as u64 % 12)),
            _ => Ask::Kept,
        };
        Question {
            at,
            process: 0,
            id: id as u64,
            ask,
        }
    };
    asks.iter().enumerate().map(ask).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn rows_and_orders_are_those_of_plain_sums_at_every_step(
        arrivals in arrivals(),
        plan in plan(),
        [says_why, served] in any::<[bool; 2]>(),
        period in prop::sample::select(&PERIODS),
    ) {
        let views = some_views(says_why, period);
        let until = end_of(&arrivals);
        let plan = Plan { until: until + 1, cut: until, served, ..plan };
        let reference = Reference::new(&arrivals, until, period);
        let outcome = run(&views, &arrivals, &plan, &Kept::default());
        check_rows(&views, &outcome, &reference, [BEGIN, until]);
        check_orders(&[&outcome], &reference, until, period);
        if served {
            check_parts(&[&outcome], &reference, until);
        }
        check_finished(&outcome.finished, plan.workers, &reference, until);
        // Nothing is left of what has been sealed and has left the windows.
        let kept = &outcome.kept;
        prop_assert!(kept.visits.is_empty() && kept.measurements.iter().all(|rows| rows.kept.is_empty()));
        prop_assert!(kept.named["views"].is_empty() && kept.named["credits"].is_empty());
        if plan.released == Tick::MAX {
            // But for the touches that are left for later visits.
            let browsers: BTreeSet<u8> = arrivals.iter().map(|arrival| arrival.browser).collect();
            let bytes = kept.named["stories"].iter().map(|(_, bytes)| bytes.len());
            prop_assert!(bytes.sum::<usize>() < 512 * browsers.len());
            prop_assert!(outcome.left.values().all(|left| *left == 0), "{:?}", outcome.left);
        }
    }

    #[test]
    fn a_restart_at_a_cut_changes_no_row_and_no_order(
        arrivals in arrivals(),
        before in plan(),
        after in plan(),
        cut in 0..60_u64,
        [says_why, served] in any::<[bool; 2]>(),
        period in prop::sample::select(&PERIODS),
    ) {
        let views = some_views(says_why, period);
        let until = end_of(&arrivals);
        let cut = cut_of(cut, until);
        let reference = Reference::new(&arrivals, until, period);
        // It goes on for a while, as a process that is killed does.
        let before = Plan { until: cut + 1_300, cut, released: 0, served, ..before };
        let mut first = run(&views, &arrivals, &before, &Kept::default());
        let kept = first.kept.clone();
        prop_assert_eq!(kept.named.len(), 5, "all keep something");
        let after = Plan { until: until + 1, cut: until, served, ..after };
        let second = run(&views, &arrivals, &after, &kept);
        first.changed.retain(|row| row.tick <= cut);
        first.credited.retain(|order| order.tick <= cut);
        first.parts.retain(|part| part.at <= cut);
        check_restart([&views, &views], [&first, &second], &after, &reference, [cut, period]);
    }

    #[test]
    fn a_start_with_other_views_goes_on_with_those_that_it_still_has(
        arrivals in arrivals(),
        plans in [plan(), plan()],
        cut in 0..60_u64,
        had in prop::collection::vec(any::<bool>(), 18),
        has in prop::collection::vec(any::<bool>(), 18),
        turn in 0..18_usize,
        period in prop::sample::select(&PERIODS),
    ) {
        let all = all_views(period);
        let until = end_of(&arrivals);
        let cut = cut_of(cut, until);
        let reference = Reference::new(&arrivals, until, period);
        // The first is always there, so that orders are told of as often.
        let those = |are: &[bool]| {
            let own = all.iter().enumerate().filter(|(n, _)| *n == 0 || are[*n]);
            own.map(|(_, view)| view.clone()).collect::<Vec<View>>()
        };
        let (before, mut after) = (those(&had), those(&has));
        let [plan, again] = plans;
        let plan = Plan { until: cut + 1, cut, released: 0, ..plan };
        let first = run(&before, &arrivals, &plan, &Kept::default());
        let new = after.iter_mut().filter(|view| !before.contains(view));
        new.for_each(|view| view.since = since(&first.kept, cut));
        let turn = turn % after.len();
        after.rotate_left(turn);
        let again = Plan { until: until + 1, cut: until, ..again };
        let second = run(&after, &arrivals, &again, &first.kept);
        check_restart([&before, &after], [&first, &second], &again, &reference, [cut, period]);
    }

    #[test]
    fn views_may_be_the_first_that_a_job_has_been_given(
        arrivals in arrivals(),
        plans in [plan(), plan()],
        cut in 0..60_u64,
        period in prop::sample::select(&PERIODS),
    ) {
        // Who was a robot before is not known,
        let mut seen = [0; 4];
        let mut arrivals = (*arrivals).clone();
        arrivals.retain(|arrival| {
            let own = &mut seen[usize::from(arrival.browser)];
            *own += 1;
            *own <= ROBOTS_OVER
        });
        let arrivals = Arc::new(arrivals);
        // nor what earlier visits have left for credits.
        let mut views = all_views(period);
        views.retain(|view| view.of != Of::Credits);
        let until = end_of(&arrivals);
        let cut = cut_of(cut, until);
        let reference = Reference::new(&arrivals, until, period);
        let [plan, again] = plans;
        let plan = Plan { until: cut + 1, cut, released: 0, ..plan };
        let mut kept = run(&views, &arrivals, &plan, &Kept::default()).kept;
        kept.named.clear();
        views.iter_mut().for_each(|view| view.since = since(&kept, cut));
        let again = Plan { until: until + 1, cut: until, ..again };
        let outcome = run(&views, &arrivals, &again, &kept);
        // Of visits that were open not everything is known, but nothing is left of that once they are sealed.
        let sealed = until.min(cut + 20_000);
        check_rows(&views, &outcome, &reference, [sealed, until]);
        prop_assert!(outcome.kept.named["views"].is_empty());
        if again.released == Tick::MAX {
            prop_assert!(outcome.left.values().all(|left| *left == 0), "{:?}", outcome.left);
        }
    }

    #[test]
    fn answers_are_those_of_a_plain_look_at_all_that_was_before(
        arrivals in arrivals(),
        plan in plan(),
        asks in prop::collection::vec((0..2_000_u64, any::<u8>(), 0..1_000_usize), 1..40),
        hold in prop::option::of(0..20_000_u64),
        period in prop::sample::select(&PERIODS),
    ) {
        let until = end_of(&arrivals);
        let reference = Reference::new(&arrivals, until, period);
        let mut questions = questions(&arrivals, &reference, &asks);
        let hold = hold.map(|after| BEGIN + after);
        // Said before anything is sealed, so that nothing behind it is let go of.
        questions.extend(hold.map(|after| Question {
            at: BEGIN + 50,
            process: 1,
            id: u64::MAX,
            ask: Ask::Hold(after),
        }));
        let views = all_views(period);
        let plan = Plan { until: until + 1, cut: until, questions, ..plan };
        let outcome = run(&views, &arrivals, &plan, &Kept::default());
        // Whoever asks changes nothing.
        check_rows(&views, &outcome, &reference, [BEGIN, until]);
        check_orders(&[&outcome], &reference, until, period);
        for question in plan.questions.iter().filter(|q| !matches!(q.ask, Ask::Hold(_))) {
            let answers = outcome.answers.iter().filter(|answer| answer.id == question.id);
            let answers: Vec<&Answer> = answers.collect();
            prop_assert_eq!(answers.len(), plan.workers, "each worker answers");
            let released = plan.released.min(hold.unwrap_or(u64::MAX));
            check_answer(question, &answers, &reference.known(question.at), released);
        }
    }
}

/// A page, which comes when it was shown.
fn come(browser: u8, tick: Tick, n: i64) -> Arrival {
    page(browser, tick as i64, n, tick)
}

fn page(browser: u8, time: i64, n: i64, tick: Tick) -> Arrival {
    Arrival {
        tick,
        browser,
        time,
        n,
        effect: "shown",
        entity: "page",
        entity_id: Some("tv"),
        reason: None,
        cause: None,
        customer: None,
        value: None,
        variant: None,
    }
}

/// Orders of two customers in one visit, while one of each on another browser is still open, and one of a
/// robot under a customer's name.
#[test]
fn an_order_is_credited_to_what_its_customer_has_met_on_other_browsers() {
    let named = |customer, reason, arrival| Arrival {
        customer: Some(customer),
        reason: Some(reason),
        ..arrival
    };
    let come = |browser, after: u64, n| come(browser, BEGIN + after, n);
    let mut arrivals = vec![
        named("ann", "campaign:spring", come(1, 0, 2)),
        named("bob", "campaign:bob", come(2, 0, 5)),
        named("ann", "campaign:robot", come(3, 0, 3)),
        named("ann", "search", come(0, 2_000, 6)),
    ];
    // The orders come before the other visits are sealed, and theirs goes on after that.
    for (customer, after, n) in [("ann", 4_000, 8), ("bob", 4_000, 9)] {
        arrivals.push(Arrival {
            effect: "ordered",
            entity: "order",
            value: Some(1_000),
            cause: Some(6),
            ..named(customer, "navigation", come(0, after, n))
        });
    }
    for (after, n) in [(6_500, 12), (9_000, 14)] {
        arrivals.push(named("ann", "navigation", come(0, after, n)));
    }
    let arrivals = Arc::new(arrivals);
    let until = end_of(&arrivals);
    let reference = Reference::new(&arrivals, until, STEP);
    let views = all_views(STEP);
    let credits = |outcome: &Outcome, customer: &str| {
        let credits = |said: &Credited| {
            let credits = said.order.credits.iter();
            let credits = credits.map(|credit| (credit.touch.to_string(), credit.linear));
            (said.tick - BEGIN, said.sealed, credits.collect::<Vec<_>>())
        };
        let own = outcome.credited.iter();
        let own = own.filter(|said| said.order.customer_id.as_deref() == Some(customer));
        own.map(credits).collect::<Vec<_>>()
    };
    let search = |linear| ("search".to_owned(), linear);
    let expected = |first: &str| {
        let both = vec![(first.to_owned(), 500), search(500)];
        [
            (4_100, false, vec![search(1_000)]),
            (9_100, false, both.clone()),
            (16_100, true, both),
        ]
    };
    let whose = [("ann", "campaign:spring"), ("bob", "campaign:bob")];
    let of_orders = reference.step(BEGIN + 5_000).visits.iter();
    let of_orders = of_orders.filter(|visit| visit.browser == 0);
    let asked = of_orders.map(|visit| Ask::Visit(visit.id)).next();
    let ask = |at| Question {
        at,
        process: 0,
        id: at,
        ask: asked.clone().expect("there is a visit with orders"),
    };
    let questions: Vec<Question> = (BEGIN + 4_100..BEGIN + 16_000)
        .step_by(700)
        .map(ask)
        .collect();
    for workers in 1..4 {
        let cut = BEGIN + 5_000;
        let plan = Plan {
            workers,
            cut,
            questions: questions.clone(),
            ..plain(until)
        };
        let outcome = run(&views, &arrivals, &plan, &Kept::default());
        for (customer, first) in whose {
            assert_eq!(credits(&outcome, customer), expected(first));
        }
        for question in &questions {
            let answers = outcome.answers.iter().filter(|a| a.id == question.id);
            let answers: Vec<&Answer> = answers.collect();
            assert_eq!(answers.len(), workers, "each worker answers");
            let known = reference.known(question.at);
            check_answer(question, &answers, &known, plan.released);
        }
        check_rows(&views, &outcome, &reference, [BEGIN, until]);
        // A start between the order and what corrects it.
        let again = Plan {
            cut: until,
            workers: 4 - workers,
            questions: vec![],
            ..plan
        };
        let again = run(&views, &arrivals, &again, &outcome.kept);
        for (customer, first) in whose {
            assert_eq!(credits(&again, customer), expected(first)[1..]);
        }
    }
}

/// Views come at `cut` to a job that has told of no visits before; from `right` on they are right.
fn check_first_views(cut: Tick, arrivals: Vec<Arrival>, right: Tick) {
    let arrivals = Arc::new(arrivals);
    let until = end_of(&arrivals);
    let reference = Reference::new(&arrivals, until, STEP);
    let mut views = all_views(STEP);
    let mut plan = Plan {
        released: 0,
        ..plain(cut)
    };
    let mut kept = run(&views, &arrivals, &plan, &Kept::default()).kept;
    kept.named.clear();
    views
        .iter_mut()
        .for_each(|view| view.since = since(&kept, cut));
    (plan.until, plan.cut) = (until + 1, until);
    let outcome = run(&views, &arrivals, &plan, &kept);
    check_rows(&views, &outcome, &reference, [right, until]);
}

#[test]
fn a_visit_that_was_open_before_there_were_views_does_not_begin_with_what_comes_next() {
    let cut = BEGIN + 2_000;
    let arrivals = [(cut - 500, 0), (cut + 1_500, 1)];
    let arrivals = arrivals.map(|(tick, n)| come(0, tick, n));
    check_first_views(cut, arrivals.into(), cut);
}

/// In one step. The one that is sealed has more measurements than have come since there are views.
#[test]
fn a_visit_that_begins_as_one_from_before_there_were_views_is_sealed_is_told_of() {
    let cut = BEGIN + 2_000;
    let seal = BEGIN + 10_000;
    let arrivals = [(cut - 600, 0), (cut - 500, 1), (seal + 50, 2)];
    let arrivals = arrivals.map(|(tick, n)| come(0, tick, n));
    check_first_views(cut, arrivals.into(), seal + STEP);
}

#[test]
fn a_start_with_fewer_views_tells_when_those_move_on() {
    let cut = BEGIN + 2_300;
    let arrivals = Arc::new(vec![page(0, cut as i64 - 200, 0, cut - 200)]);
    let until = end_of(&arrivals);
    let reference = Reference::new(&arrivals, until, STEP);
    let view = |step: u64| View {
        of: Of::Visits,
        key: vec![Field::Agent],
        window: 10 * step,
        step,
        ..View::default()
    };
    let mut plan = Plan {
        released: 0,
        ..plain(cut)
    };
    // With both it is told of at the end of a second; what is left moves on every seven.
    let before = [view(1_000), view(7_000)];
    let kept = run(&before, &arrivals, &plan, &Kept::default()).kept;
    (plan.until, plan.cut) = (until + 1, until);
    let outcome = run(&before[1..], &arrivals, &plan, &kept);
    check_rows(&before[1..], &outcome, &reference, [cut, until]);
}

/// Visits that tables hold, and those that live shows beside them, are all there are, each once.
#[test]
fn a_visit_is_in_a_table_or_live_and_never_in_both() {
    let arrivals: Vec<Arrival> = (0..12)
        .map(|n| come((n % 3) as u8, BEGIN + n as u64 * 2_100, n))
        .collect();
    let arrivals = Arc::new(arrivals);
    let until = end_of(&arrivals);
    let reference = Reference::new(&arrivals, until, STEP);
    // A table holds what was sealed at or before each `after`, as of many ticks, also within seconds.
    let mut questions = Vec::new();
    for at in (BEGIN + 500..BEGIN + 45_000).step_by(500) {
        for after in (BEGIN..=at).step_by(3_000) {
            questions.push(Question {
                at,
                process: 0,
                id: questions.len() as u64,
                ask: Ask::Live(after),
            });
        }
    }
    let plan = Plan {
        workers: 2,
        pace: vec![700],
        memory: 300,
        released: 0,
        questions,
        ..plain(until)
    };
    let outcome = run(&all_views(STEP), &arrivals, &plan, &Kept::default());
    for question in &plan.questions {
        let Ask::Live(after) = question.ask else {
            unreachable!()
        };
        let known = reference.known(question.at);
        let table = known
            .visits
            .iter()
            .filter(|v| v.is_sealed(question.at) && v.seal <= after);
        let mut all: Vec<[u8; 16]> = table.map(|visit| bytes_of_words(visit.id)).collect();
        let live = outcome
            .answers
            .iter()
            .filter(|answer| answer.id == question.id);
        all.extend(
            live.flat_map(|answer| &answer.visits)
                .map(|shown| shown.visit),
        );
        all.sort_unstable();
        let mut expected: Vec<_> = known.visits.iter().map(|v| bytes_of_words(v.id)).collect();
        expected.sort_unstable();
        assert_eq!(all, expected, "{question:?}");
    }
}

/// One each millisecond.
fn one_a_milli(count: i64) -> Vec<Arrival> {
    (0..count).map(|n| come(0, BEGIN + n as u64, n)).collect()
}

/// How many visits begin with which page, by the kind of agent, at these ticks: of visits that may have
/// thousands of measurements. Nothing is left in the end.
fn entries_of_thousands<const N: usize>(
    arrivals: Vec<Arrival>,
    ticks: [Tick; N],
) -> [Vec<(String, [i64; 2])>; N] {
    entries_of_thousands_since(None, arrivals, ticks)
}

/// The same, of a run that has begun anew at this tick.
fn entries_of_thousands_since<const N: usize>(
    cut: Option<Tick>,
    arrivals: Vec<Arrival>,
    ticks: [Tick; N],
) -> [Vec<(String, [i64; 2])>; N] {
    let arrivals = Arc::new(arrivals);
    let view = View {
        of: Of::Visits,
        key: vec![Field::Country, Field::Agent, Field::Entry],
        values: vec![Value::Count(None), Value::Measurements],
        window: 60_000,
        step: 1_000,
        ..View::default()
    };
    let plan = Plan {
        rules: Rules {
            max_size: 10_000,
            ..RULES
        },
        pace: vec![1_000],
        ..plain(end_of(&arrivals))
    };
    let before = cut.map(|cut| {
        let plan = Plan {
            until: cut + 1,
            cut,
            released: 0,
            ..plan.clone()
        };
        run(slice::from_ref(&view), &arrivals, &plan, &Kept::default()).kept
    });
    let outcome = run(&[view], &arrivals, &plan, &before.unwrap_or_default());
    assert!(
        outcome.left.values().all(|left| *left == 0),
        "{:?}",
        outcome.left
    );
    let mut rows = Rows::new(&outcome.changed, 1);
    ticks.map(|tick| {
        let [rows] = &rows.at(tick)[..] else {
            unreachable!("of one view")
        };
        let row = |(key, sums): &(String, [i64; 6])| (key.clone(), [sums[0], sums[1]]);
        rows.iter().map(row).collect()
    })
}

/// A visit of thousands is told of less often, so what was told of it may be another visit's when it is
/// sealed. It counts once all the same, and nothing is left of the other.
#[test]
fn a_visit_of_thousands_counts_once_though_its_first_came_late() {
    let begin = BEGIN as i64;
    let mut arrivals = one_a_milli(2_500);
    arrivals.push(page(0, begin - 500, 2_500, BEGIN + 4_000));
    // Before it is sealed what was told stands; then one visit of all.
    let said = entries_of_thousands(arrivals, [BEGIN + 6_000, BEGIN + 20_000]);
    let row = |key: &str, count| vec![(key.to_owned(), [1, count])];
    assert_eq!(said, [row("NL|robot|tv", 2_500), row("DE|robot|tv", 2_501)]);
}

/// While a browser has thousands of measurements, of two that are one the first to come counts. That ends
/// with the visit that has most of them, for the one that is still open, too.
#[test]
fn what_is_told_otherwise_counts_once_a_visit_of_thousands_beside_it_is_sealed() {
    let mut arrivals = one_a_milli(1_998);
    let mut after = |after: u64, n| {
        arrivals.push(come(0, BEGIN + after, n));
        come(0, BEGIN + after, n)
    };
    let first = after(6_000, 1_998);
    (1_999..2_010).for_each(|n| _ = after(6_100 + n as u64 % 50, n));
    arrivals.push(Arrival {
        tick: BEGIN + 7_100,
        entity_id: Some("te"),
        ..first
    });
    let said = entries_of_thousands(arrivals, [BEGIN + 8_000, BEGIN + 12_000]);
    let row = |key: &str, sums| (key.to_owned(), sums);
    let robot = |visit: &str| format!("NL|robot|{visit}");
    assert_eq!(said[0], [row(&robot("tv"), [2, 2_010])]);
    let now = [row(&robot("te"), [1, 12]), row(&robot("tv"), [1, 1_998])];
    assert_eq!(said[1], now);
}

/// Of a visit of thousands, too, what was told otherwise counts in the end, though nobody looked before; after
/// a restart as well.
#[test]
fn what_is_told_otherwise_of_a_visit_of_thousands_counts_once_it_is_sealed() {
    for cut in [None, Some(BEGIN + 4_000)] {
        let mut arrivals = one_a_milli(2_500);
        arrivals.push(Arrival {
            tick: BEGIN + 3_000,
            entity_id: Some("te"),
            ..come(0, BEGIN, 0)
        });
        let ticks = [BEGIN + 5_000, BEGIN + 20_000];
        let said = entries_of_thousands_since(cut, arrivals, ticks);
        let row = |key: &str| vec![(key.to_owned(), [1, 2_500])];
        assert_eq!(said, [row("NL|robot|tv"), row("NL|robot|te")], "{cut:?}");
    }
}

/// Of visits that nobody was told of yet all is told when another is sealed, though they have thousands.
#[test]
fn a_visit_of_thousands_that_was_not_told_of_is_told_of_when_another_is_sealed() {
    let late = BEGIN + 10_000;
    let mut arrivals = vec![come(0, BEGIN + 1_000, 0)];
    arrivals.extend((1..=2_500).map(|n| come(0, late + n as u64 / 30, n)));
    let said = entries_of_thousands(arrivals, [BEGIN + 9_000, BEGIN + 11_000]);
    let row = |key: &str, count| (key.to_owned(), [1, count]);
    assert_eq!(said[0], [row("NL|unknown|tv", 1)]);
    assert_eq!(
        said[1],
        [row("DE|robot|tv", 2_500), row("NL|unknown|tv", 1)]
    );
}
