//! What was accepted of what has arrived, and the visits of that: by a plain walk.

use std::collections::BTreeMap;

use visitflow_dataflows::visit::{Position, Tick, visit_id};

use super::arrival::{Arrival, RULES};

/// A measurement's identity.
pub type Identity = (u8, Position);

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
pub struct Walked<'a> {
    pub id: [u64; 2],
    pub seal: Tick,
    /// Not every test asks why.
    #[allow(dead_code)]
    pub reason: &'static str,
    pub members: Vec<&'a Arrival>,
}

/// The visits of a set, by the rule of the design.
pub fn visits<'a>(set: &BTreeMap<Identity, &'a Arrival>) -> Vec<Walked<'a>> {
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
        let (inactive, long) = (last + RULES.inactivity, first.time + RULES.max_length);
        let (reason, bound) = if members.len() == RULES.max_size as usize {
            ("size", last)
        } else if long <= inactive {
            ("length", long - 1)
        } else {
            ("inactivity", inactive)
        };
        // The first whole second at which nothing can come any more that is not after the bound.
        let seal = (bound + 1 + RULES.max_lag + RULES.max_delay) as u64;
        Walked {
            id: visit_id(first.browser_id().as_bytes(), first.at()),
            seal: seal.div_ceil(1_000) * 1_000,
            reason,
            members,
        }
    };
    runs.into_iter().map(visit).collect()
}
