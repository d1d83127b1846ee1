//! What arrives: pages that are shown, out of order within what a source accepts, to browsers that name
//! customers, some of it twice and told otherwise.

use proptest::prelude::*;
use visitflow_dataflows::visit::Tick;

use super::shop::arrival::{Arrival, BEGIN, RULES};

/// A page is shown, whose measurement arrives at a tick and is of a time.
pub fn shown(
    (tick, time): (Tick, i64),
    browser: u8,
    n: i64,
    customer: Option<&'static str>,
) -> Arrival {
    Arrival {
        tick,
        browser,
        time,
        n,
        effect: "shown",
        entity: "page",
        entity_id: None,
        reason: None,
        cause: None,
        customer,
        value: None,
        variant: None,
    }
}

/// What happens next.
#[derive(Clone, Debug)]
pub struct Next {
    gap: u64,
    browser: u8,
    back: i64,
    customer: usize,
    /// Which of the browser's last is sent again, if any is.
    again: usize,
}

pub fn next() -> impl Strategy<Value = Next> {
    let gap = prop_oneof![8 => 0..4_u64, 2 => 4..15_u64, 1 => 15..90_u64];
    // The third is a robot.
    let browser = prop_oneof![4 => Just(0), 1 => 1..3_u8, 1 => Just(4), 1 => Just(3)];
    let back = prop_oneof![4 => 0..1_000_i64, 2 => 0..4_000_i64, 1 => 3_900..6_500_i64];
    (gap, browser, back, 0..10_usize, 0..20_usize).prop_map(
        |(gap, browser, back, customer, again)| Next {
            gap,
            browser,
            back,
            customer,
            again,
        },
    )
}

/// Names, most often none; two that are nobody's.
fn name(customer: usize) -> Option<&'static str> {
    const LONG: &str = match std::str::from_utf8(&[b'x'; 201]) {
        Ok(text) => text,
        Err(_) => "",
    };
    let names = [
        Some("ann"),
        Some("ann"),
        Some("bob"),
        Some("cy"),
        Some(""),
        Some(LONG),
    ];
    names.get(customer).copied().flatten()
}

/// Arrivals that a source would accept: none lies before its tick's horizon.
pub fn arrivals_of(all: Vec<Next>) -> Vec<Arrival> {
    let mut tick = BEGIN;
    let mut arrivals: Vec<Arrival> = Vec::new();
    for next in all {
        tick += next.gap * 100;
        let horizon = tick as i64 - RULES.max_lag - RULES.max_delay;
        let mut own = arrivals.iter().rev().filter(|a| a.browser == next.browser);
        if let Some(before) = own.nth(next.again)
            && next.again < 4
            && before.time >= horizon
        {
            // Told otherwise: of two that name somebody the one of the least bytes stays.
            let customer = name(next.customer);
            arrivals.push(Arrival {
                tick,
                customer,
                ..before.clone()
            });
            continue;
        }
        // From the horizon to a little ahead, in coarse steps, so that times repeat.
        let time = ((tick as i64 + 1_000 - next.back).max(horizon) + 99) / 100 * 100;
        let n = arrivals.len() as i64;
        arrivals.push(shown((tick, time), next.browser, n, name(next.customer)));
    }
    arrivals
}
