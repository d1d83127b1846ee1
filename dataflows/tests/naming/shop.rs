//! What arrives, out of order within what a source accepts, some of it twice and told otherwise; and the
//! visits of it, by a plain walk.

use std::collections::BTreeMap;

use proptest::prelude::*;
use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
use visitflow_dataflows::fact::{Agent, Fact, Id};
use visitflow_dataflows::visit::{Position, Rules, Tick, browser_key, visit_id, words_of_bytes};
use visitflow_schemas::encode::{bytes, long, optional};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::shard::Shard;

pub const RULES: Rules = Rules {
    inactivity: 3_000,
    max_length: 9_000,
    max_size: 8,
    max_delay: 4_000,
    max_lag: 1_000,
};

/// The first tick.
pub const BEGIN: Tick = 100_000;

const SCHEMA: &str = r#"{"type": "record", "name": "Seen", "fields": [
    {"name": "who", "type": "string", "role": "browser_id"},
    {"name": "n", "type": "long", "role": "event_id"},
    {"name": "at", "type": "long", "role": "event_time"},
    {"name": "what", "type": "string", "role": "effect"},
    {"name": "kind", "type": "string", "role": "entity"},
    {"name": "customer", "type": ["null", "string"], "role": "customer_id"}
]}"#;

pub fn schema() -> Schema {
    Schema::parse(SCHEMA).expect("the test's schema")
}

/// A measurement that arrives at a tick.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub tick: Tick,
    pub browser: u8,
    pub time: i64,
    pub n: i64,
    pub customer: Option<&'static str>,
}

impl Arrival {
    pub fn browser_id(&self) -> String {
        format!("browser-{}", self.browser)
    }

    pub fn at(&self) -> Position {
        Position {
            time: self.time,
            event: words_of_bytes(&EventKey::of_long(self.n).0),
        }
    }

    pub fn shard(&self) -> u8 {
        Shard::of(self.browser_id().as_bytes()).0
    }

    pub fn agent(&self) -> Agent {
        match (self.browser, self.n % 13) {
            (4, _) | (_, 1) => Agent::Robot,
            _ => Agent::Person,
        }
    }

    pub fn fact(&self) -> Fact<'static> {
        Fact {
            at: self.at(),
            effect: "shown",
            entity: "page",
            customer: self.customer.map(Id::Text),
            agent: self.agent(),
            ..Fact::default()
        }
    }

    pub fn body(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let text = |value: &str, out: &mut Vec<u8>| bytes(value.as_bytes(), out);
        text(&self.browser_id(), &mut body);
        long(self.n, &mut body);
        long(self.time, &mut body);
        text("shown", &mut body);
        text("page", &mut body);
        optional(self.customer, &mut body, text);
        body
    }
}

/// Arrivals as a source sends them.
pub fn batch<'a>(arrivals: impl IntoIterator<Item = &'a Arrival>, schema: u64) -> Batch {
    let mut builder = BatchBuilder::default();
    for arrival in arrivals {
        let id = arrival.browser_id();
        let head = Head {
            browser: browser_key(id.as_bytes()),
            at: arrival.at(),
            tick: arrival.tick,
            schema,
            shard: arrival.shard(),
            ..Head::default()
        };
        let agent = if arrival.agent() == Agent::Robot {
            2
        } else {
            0
        };
        builder.push(head, id.as_bytes(), &arrival.body(), |context| {
            context.extend([0, agent]);
        });
    }
    builder.take()
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
    let browser = prop_oneof![4 => Just(0), 2 => 1..4_u8, 1 => Just(4)];
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
        arrivals.push(Arrival {
            tick,
            browser: next.browser,
            // From the horizon to a little ahead, in coarse steps, so that times repeat.
            time: ((tick as i64 + 1_000 - next.back).max(horizon) + 99) / 100 * 100,
            n: arrivals.len() as i64,
            customer: name(next.customer),
        });
    }
    arrivals
}

type Identity = (u8, Position);

/// Of each identity the one with the least bytes of those that arrived before a tick.
pub fn accepted(arrivals: &[Arrival], before: Tick) -> BTreeMap<Identity, &Arrival> {
    let mut set: BTreeMap<Identity, &Arrival> = BTreeMap::new();
    for arrival in arrivals.iter().filter(|a| a.tick < before) {
        let known = set
            .entry((arrival.browser, arrival.at()))
            .or_insert(arrival);
        if arrival.body() < known.body() {
            *known = arrival;
        }
    }
    set
}

/// A visit.
pub struct Visit<'a> {
    pub id: [u64; 2],
    pub seal: Tick,
    pub members: Vec<&'a Arrival>,
}

/// The visits of a set, by the rule of the design.
pub fn visits<'a>(set: &BTreeMap<Identity, &'a Arrival>) -> Vec<Visit<'a>> {
    let mut runs: Vec<Vec<&Arrival>> = Vec::new();
    for arrival in set.values() {
        match runs.last_mut() {
            Some(run)
                if run[0].browser == arrival.browser
                    && arrival.time - run[run.len() - 1].time <= RULES.inactivity
                    && arrival.time - run[0].time < RULES.max_length
                    && run.len() < RULES.max_size as usize =>
            {
                run.push(arrival);
            }
            _ => runs.push(vec![arrival]),
        }
    }
    let visit = |members: Vec<&'a Arrival>| {
        let (first, last) = (members[0], members[members.len() - 1].time);
        let bound = match members.len() == RULES.max_size as usize {
            true => last,
            false => (last + RULES.inactivity).min(first.time + RULES.max_length - 1),
        };
        // The first whole second at which nothing can come any more that is not after the bound.
        let seal = (bound + 1 + RULES.max_lag + RULES.max_delay) as u64;
        Visit {
            id: visit_id(first.browser_id().as_bytes(), first.at()),
            seal: seal.div_ceil(1_000) * 1_000,
            members,
        }
    };
    runs.into_iter().map(visit).collect()
}
