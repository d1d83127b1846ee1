//! What attribution promises of whatever is sent.

use proptest::collection::vec;
use proptest::prelude::*;

use super::chain::tests::fact;
use super::*;
use crate::fact::Id;
use crate::visit::Position;

fn facts() -> impl Strategy<Value = Vec<Fact<'static>>> {
    let what = prop_oneof![
        Just(("shown", "page")),
        Just(("shown", "banner")),
        Just(("clicked", "product")),
        Just(("searched", "search")),
        Just(("added_to_cart", "product")),
        Just(("ordered", "order")),
    ];
    let reason = prop_oneof![
        Just(None),
        Just(Some("navigation")),
        Just(Some("search")),
        Just(Some("campaign:a")),
        Just(Some("recommendation:b:3")),
        Just(Some("")),
    ];
    let value = proptest::option::of(prop_oneof![any::<i64>(), 0_i64..1_000]);
    let cause = proptest::option::weighted(0.9, 0_u64..44);
    let one = (0_u64..40, what, reason, cause, value, 0_i64..3);
    vec(one, 0..80).prop_map(|all| {
        let mut time = 0;
        let facts = all.into_iter();
        facts
            .map(|(id, (effect, entity), reason, cause, value, pause)| {
                time += pause;
                Fact {
                    at: Position {
                        time,
                        event: [0, id],
                    },
                    entity,
                    reason,
                    value,
                    ..fact(id, effect, cause)
                }
            })
            .collect()
    })
}

fn settings(longest: usize, most: usize) -> Settings {
    Settings {
        longest,
        most,
        ..Settings::default()
    }
}

proptest! {
    #[test]
    fn every_order_is_answered_for_within_bounds_and_to_the_cent(
        facts in facts(), longest in 1_usize..30, most in 0_usize..5,
        past in vec((-50_i64..5, 0_u8..4), 0..8),
    ) {
        let past: Vec<PastTouch> = past
            .into_iter()
            .map(|(time, name)| PastTouch { time, touch: format!("p{name}").into() })
            .collect();
        let settings = settings(longest, most);
        let attributed = orders(&facts, &past, &settings);
        let there: Vec<&Fact> = facts.iter().filter(|fact| fact.effect == "ordered").collect();
        let events: Vec<_> = there.iter().take(most).map(|fact| fact.at.event).collect();
        prop_assert_eq!(attributed.orders.iter().map(|o| o.event).collect::<Vec<_>>(), events);
        for (order, fact) in attributed.orders.iter().zip(&there) {
            prop_assert!((1..=longest).contains(&order.chain.len()));
            prop_assert!(order.chain.iter().all(|link| link.losers.len() <= settings.losers));
            prop_assert_eq!(order.value, fact.value);
            let value = i128::from(fact.value.unwrap_or_default());
            let sum = |credit: fn(&Credit) -> i64| {
                order.credits.iter().map(|c| i128::from(credit(c))).sum::<i128>()
            };
            prop_assert_eq!(sum(|c| c.first), value);
            prop_assert_eq!(sum(|c| c.last), value);
            prop_assert_eq!(sum(|c| c.linear), value);
            prop_assert_eq!(sum(|c| c.position), value);
            prop_assert!(!order.credits.is_empty());
        }
        prop_assert!(attributed.touches.len() <= KEPT);
        let carts = facts.iter().filter(|fact| fact.effect == "added_to_cart").count();
        prop_assert_eq!(attributed.carts.len(), carts.min(most));
        let beyond = there.len().saturating_sub(most) + carts.saturating_sub(most);
        prop_assert_eq!(attributed.flaws.beyond as usize, beyond);
    }

    #[test]
    fn what_is_said_of_a_visit_before_it_has_an_order_is_said_of_it_with_one(
        facts in facts(), later in facts(),
    ) {
        // Where causes are there already, what comes later takes nothing back but losers.
        let own = |facts: &mut Vec<Fact>, base: u64| {
            for (at, fact) in facts.iter_mut().enumerate() {
                fact.at = Position { time: (base + at as u64) as i64, event: [base, at as u64] };
                fact.cause = fact.cause.filter(|[_, id]| *id < at as u64).map(|[_, id]| [base, id]);
            }
        };
        let (mut facts, mut later) = (facts, later);
        own(&mut facts, 1);
        own(&mut later, 1_000);
        let before = orders(&facts, &[], &Settings::default());
        facts.extend(later);
        let after = orders(&facts, &[], &Settings::default());
        prop_assert!(before.orders.len() <= after.orders.len());
        for (mut before, mut after) in before.orders.into_iter().zip(after.orders) {
            before.chain.iter_mut().for_each(|link| { link.losers.clear(); link.more = 0; });
            after.chain.iter_mut().for_each(|link| { link.losers.clear(); link.more = 0; });
            prop_assert_eq!(before, after);
        }
    }

    #[test]
    fn what_was_shown_is_counted_and_revenue_is_within_all_orders(facts in facts()) {
        let settings = Settings::default();
        let rows = chains_by(&facts, &settings, |_| Some(()));
        let shown = facts.iter().filter(|fact| fact.effect == "shown").count() as i64;
        let count = |effect| facts.iter().filter(|fact| fact.effect == effect).count() as i64;
        for (_, [all, clicked, carted, ordered, _]) in &rows {
            prop_assert_eq!(*all, shown);
            prop_assert!(*clicked <= count("clicked"));
            prop_assert!(*carted <= count("added_to_cart"));
            prop_assert!(*ordered <= count("ordered"));
        }
        prop_assert_eq!(rows.is_empty(), shown == 0);
        let finest = chains(&facts, &settings);
        prop_assert_eq!(finest.iter().map(|(_, led)| led[0]).sum::<i64>(), shown);
    }
}

fn order(id: u64, cause: Option<u64>) -> Fact<'static> {
    Fact {
        entity: "order",
        entity_id: Some(Id::Number(id as i64)),
        value: Some(1_000),
        ..fact(id, "ordered", cause)
    }
}

#[test]
fn what_is_amiss_is_counted() {
    let facts = [
        order(1, Some(99)),
        order(2, Some(2)),
        order(3, Some(4)),
        fact(4, "shown", None),
        fact(5, "clicked", Some(4)),
        fact(6, "shown", Some(5)),
        order(7, Some(6)),
    ];
    let attributed = orders(&facts, &[], &settings(3, 10));
    assert_eq!(
        attributed.flaws,
        Flaws {
            gone: 1,
            cycles: 1,
            long: 1,
            later: 1,
            beyond: 0
        }
    );
    let whole: Vec<bool> = attributed.orders.iter().map(|order| order.whole).collect();
    assert_eq!(whole, [false, false, true, false]);
    assert_eq!(&*attributed.orders[0].credits[0].touch, EXPIRED);
}

#[test]
fn an_order_says_who_lost() {
    let banner = |id, reason| Fact {
        entity: "banner",
        entity_id: Some(Id::Number(id as i64)),
        reason: Some(reason),
        ..fact(id, "shown", Some(1))
    };
    let facts = [
        fact(1, "shown", None),
        banner(2, "campaign:a"),
        banner(3, "campaign:b"),
        banner(4, "campaign:b"),
        fact(5, "clicked", Some(3)),
        order(6, Some(5)),
    ];
    let settings = Settings {
        losers: 1,
        ..Settings::default()
    };
    let attributed = orders(&facts, &[], &settings);
    let chain = &attributed.orders[0].chain;
    let losers: Vec<usize> = chain.iter().map(|link| link.losers.len()).collect();
    assert_eq!(losers, [0, 0, 1, 0]);
    assert_eq!(
        chain[2].losers[0],
        Loser {
            entity: "banner".into(),
            entity_id: Some("4".into()),
            reason: Some("campaign:b".into())
        }
    );
    assert_eq!(chain[2].more, 1);
}

#[test]
fn a_later_order_of_a_cart_from_an_earlier_visit_is_due_to_what_that_visit_left() {
    let spring = Fact {
        reason: Some("campaign:spring"),
        ..fact(1, "shown", None)
    };
    let earlier = [spring, fact(2, "added_to_cart", Some(1))];
    let mut past = Past::default();
    past.add(&orders(&earlier, &[], &Settings::default()).touches);
    let direct = Fact {
        reason: Some("direct"),
        ..fact(101, "shown", None)
    };
    let later = [direct, order(102, Some(2))];
    let attributed = orders(&later, past.touches(), &Settings::default());
    let credits = &attributed.orders[0].credits;
    let rows = credits.iter().map(|c| (&*c.touch, c.first, c.last));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [("campaign:spring", 1_000, 0), ("expired", 0, 1_000)]
    );
    let left: Vec<&str> = attributed.touches.iter().map(|t| &*t.touch).collect();
    assert_eq!(left, ["direct"]);
}

#[test]
fn texts_are_cut_at_whole_characters() {
    let text = "ü".repeat(200);
    assert_eq!(cut(&text).len(), 256);
    assert_eq!(cut(&format!("x{text}")).len(), 255);
    assert_eq!(&*cut("short"), "short");
}

/// A hundred thousand measurements that were made up to be dear: ten thousand orders of ten thousand
/// carts with long chains over pages with very many siblings.
#[test]
fn a_hostile_visit_is_answered_for_soon_and_briefly() {
    let effects = ["shown", "clicked", "added_to_cart", "ordered"];
    let facts: Vec<Fact> = (0..100_000_u64)
        .map(|id| Fact {
            entity: if id % 10 == 9 { "order" } else { "product" },
            reason: Some("campaign:a"),
            value: Some(i64::MAX),
            ..fact(
                id,
                effects[[0, 0, 0, 0, 0, 1, 1, 1, 2, 3][id as usize % 10]],
                match id % 3 {
                    0 => Some(17),
                    _ => id.checked_sub(1),
                },
            )
        })
        .collect();
    let attributed = orders(&facts, &[], &Settings::default());
    assert_eq!(attributed.orders.len(), 1_000);
    assert_eq!(attributed.flaws.beyond, 18_000);
    assert_eq!(
        chains_by(&facts, &Settings::default(), |_| Some(())).len(),
        1
    );
}
