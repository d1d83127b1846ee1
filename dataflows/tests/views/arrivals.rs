//! What arrives: a shop's measurements, out of order within what a source accepts, some of them twice,
//! some of those told otherwise.

use std::sync::Arc;

use proptest::prelude::*;

use super::shop::arrival::{Arrival, BEGIN, RULES};

/// A browser of more open measurements is a robot.
pub const ROBOTS_OVER: u32 = 5;

/// What a person, or a robot, does next.
#[derive(Clone, Debug)]
struct Next {
    gap: u64,
    browser: u8,
    back: i64,
    what: usize,
    which: usize,
    why: usize,
    cause: usize,
    value: i64,
    again: u8,
}

fn next() -> impl Strategy<Value = Next> {
    let gap = prop_oneof![8 => 0..4_u64, 2 => 4..15_u64, 1 => 15..60_u64];
    let browser = prop_oneof![3 => Just(0), 1 => 1..4_u8];
    let back = prop_oneof![4 => 0..1_000_i64, 2 => 0..4_000_i64, 1 => 3_900..6_500_i64];
    let words = (0..7_usize, 0..4_usize, 0..4_usize, 0..5_usize, 0..3_i64);
    (gap, browser, back, words, 0..12_u8).prop_map(
        |(gap, browser, back, (what, which, why, cause, value), again)| Next {
            gap,
            browser,
            back,
            what,
            which,
            why,
            cause,
            value,
            again,
        },
    )
}

const WHAT: [(&str, &str); 7] = [
    ("shown", "page"),
    ("shown", "banner"),
    ("shown", "banner"),
    ("clicked", "banner"),
    ("searched", "search"),
    ("added_to_cart", "product"),
    ("ordered", "order"),
];
const WHICH: [Option<&str>; 4] = [Some("tv"), Some("Größe 44 extra"), Some("te"), None];
const WHY: [Option<&str>; 4] = [
    None,
    Some("campaign:spring"),
    Some("recommendation:also-bought"),
    Some("navigation"),
];

/// Ann, mostly; who has no name is nobody.
fn customer(n: i64) -> Option<&'static str> {
    match n % 15 {
        1 | 4 | 7 | 10 => Some("ann"),
        2 | 12 => Some("bob"),
        14 => Some(""),
        _ => None,
    }
}

/// Arrivals that a source would accept: none lies before its tick's horizon.
pub fn arrivals() -> impl Strategy<Value = Arc<Vec<Arrival>>> {
    prop::collection::vec(next(), 1..90).prop_map(|all| Arc::new(arrivals_of(all)))
}

fn arrivals_of(all: Vec<Next>) -> Vec<Arrival> {
    let mut tick = BEGIN;
    let mut arrivals: Vec<Arrival> = Vec::new();
    for next in all {
        tick += next.gap * 100;
        let horizon = tick as i64 - RULES.max_lag - RULES.max_delay;
        let own = arrivals.iter().rev().filter(|a| a.browser == next.browser);
        let before = own.clone().nth(next.cause);
        // Once more, the same or told otherwise, as long as it is not late.
        if let Some(before) = own.clone().nth(next.which)
            && next.again < 3
            && before.time >= horizon
        {
            let mut again = Arrival {
                tick,
                ..before.clone()
            };
            if next.again < 2 {
                again.value = Some(next.value * 100);
                again.customer = customer(next.which as i64);
                again.entity_id = WHICH[next.why];
            }
            arrivals.push(again);
            continue;
        }
        let (effect, entity) = WHAT[next.what];
        let n = arrivals.len() as i64;
        let value = matches!(entity, "order" | "product").then_some(next.value * 1_000 - 500);
        arrivals.push(Arrival {
            tick,
            browser: next.browser,
            // From the horizon to a little ahead, in coarse steps, so that times repeat.
            time: ((tick as i64 + 1_000 - next.back).max(horizon) + 99) / 100 * 100,
            n,
            effect,
            entity,
            entity_id: WHICH[next.which],
            reason: WHY[next.why],
            cause: before.map(|before| before.n).filter(|_| next.cause < 4),
            customer: customer(n),
            value: value.filter(|_| n % 5 > 0),
            variant: [None, Some("test:a"), Some("test:b")][(n % 3) as usize]
                .filter(|_| entity == "banner"),
        });
    }
    arrivals
}
