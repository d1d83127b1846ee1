//! A customer's part of a sealed visit: what is added to the profile. Who is named by a measurement
//! is known from there on, until another is named; before the first is named, nobody is.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use visitflow_schemas::shard::Shard;

use super::profile::Profile;
use crate::fact::Fact;
use crate::visit::Tick;

/// The longest ID of a customer, in bytes, as text. Of one with a longer ID there is no profile.
pub const CUSTOMER: usize = 200;

/// In so many groups profiles are kept. It never changes: what is durable is kept by group.
pub const GROUPS: usize = 8;

/// The group of a customer: a function of the ID alone.
#[must_use]
pub fn group_of(customer: &str) -> usize {
    usize::from(Shard::of(customer.as_bytes()).0) % GROUPS
}

/// Whether there can be a profile of a customer of this ID.
#[must_use]
pub fn is_id(customer: &str) -> bool {
    !customer.is_empty() && customer.len() <= CUSTOMER
}

/// What a visit adds to a customer's profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The end of the step in which the visit was sealed.
    pub at: Tick,
    /// The tick of its seal.
    pub tick: Tick,
    /// The visit.
    pub visit: [u8; 16],
    /// The customer's ID, as text.
    pub customer: Box<str>,
    /// Of this visit alone.
    pub profile: Profile,
}

/// The customers of a visit, each with the measurements that are theirs: one that names a customer,
/// and those behind it, until another is named.
///
/// ```
/// use visitflow_dataflows::fact::{Fact, Id};
/// use visitflow_dataflows::profiles::by_customer;
/// let fact = |customer: Option<&'static str>| Fact { customer: customer.map(Id::Text), ..Fact::default() };
/// let visit = [None, Some("ann"), None, Some("bob"), Some("bob"), None, Some("ann")].map(fact);
/// let by = by_customer(&visit);
/// assert_eq!((by.len(), by["ann"].len(), by["bob"].len()), (2, 3, 3));
/// ```
#[must_use]
pub fn by_customer<'f>(facts: &'f [Fact<'f>]) -> BTreeMap<Cow<'f, str>, Vec<&'f Fact<'f>>> {
    let mut all: BTreeMap<Cow<'_, str>, Vec<&Fact<'_>>> = BTreeMap::new();
    let mut facts = facts.iter().peekable();
    let mut known = None;
    while let Some(fact) = facts.peek() {
        known = fact.customer.or(known);
        let mut own = Vec::new();
        // A run of one customer, so that the ID is looked for once.
        while let Some(fact) = facts.next_if(|fact| fact.customer.or(known) == known) {
            own.push(fact);
        }
        let Some(id) = known else { continue };
        let id = id.text();
        if is_id(&id) {
            all.entry(id).or_default().extend(own);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::fact::Id;
    use crate::visit::Position;

    fn facts(named: &[Option<u8>]) -> Vec<Fact<'static>> {
        const IDS: [&str; 3] = ["ann", "bob", "cy"];
        let fact = |(n, named): (usize, &Option<u8>)| Fact {
            at: Position {
                time: n as i64,
                event: [0, n as u64],
            },
            customer: named.map(|n| Id::Text(IDS[usize::from(n)])),
            ..Fact::default()
        };
        named.iter().enumerate().map(fact).collect()
    }

    proptest! {
        #[test]
        fn a_measurement_is_of_who_was_named_last_and_of_nobody_else(
            named in vec(proptest::option::weighted(0.3, 0_u8..3), 0..40),
        ) {
            let facts = facts(&named);
            let by = by_customer(&facts);
            for (n, fact) in facts.iter().enumerate() {
                let last = facts[..=n].iter().rev().find_map(|fact| fact.customer);
                for (id, own) in &by {
                    let has = own.iter().filter(|own| own.at == fact.at).count();
                    prop_assert_eq!(has, usize::from(last.is_some_and(|last| last.text() == *id)));
                }
            }
            for own in by.values() {
                prop_assert!(own.is_sorted_by_key(|fact| fact.at));
            }
        }
    }

    #[test]
    fn an_id_that_is_empty_or_too_long_is_of_nobody_and_ends_who_was_before() {
        let long = "x".repeat(CUSTOMER + 1);
        for id in ["", &long] {
            let named = |id| Fact {
                customer: Some(Id::Text(id)),
                ..Fact::default()
            };
            let visit = [named("ann"), named(id), Fact::default()];
            let by = by_customer(&visit);
            assert_eq!(by.len(), 1);
            assert_eq!(by["ann"].len(), 1);
        }
    }
}
