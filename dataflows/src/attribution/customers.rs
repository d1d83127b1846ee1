//! Customers: whose the touches of a visit are that names several.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::{Past, PastTouch};
use crate::fact::{Fact, Id};
use crate::profiles::CUSTOMER;

/// The customer of an ID, as text; nobody, if it is empty or too long.
pub(crate) fn customer(id: Id<'_>) -> Option<Cow<'_, str>> {
    let id = id.text();
    (!id.is_empty() && id.len() <= CUSTOMER).then_some(id)
}

/// The touches of each customer that a visit names, of all of its own: whoever is named is so from there
/// on, until another is; and the first, whom what came before has led there, from the beginning.
pub(super) fn by_customer(
    facts: &[Fact<'_>],
    touches: &[PastTouch],
) -> Vec<(Box<str>, Vec<PastTouch>)> {
    // Who was named, and from when on.
    let mut named: Vec<(i64, Id<'_>)> = Vec::new();
    for fact in facts {
        if let Some(id) = fact.customer
            && named.last().is_none_or(|(_, last)| *last != id)
        {
            named.push((fact.at.time, id));
        }
    }
    let mut of: BTreeMap<Cow<'_, str>, Vec<PastTouch>> = BTreeMap::new();
    if named.is_empty() {
        return Vec::new();
    }
    for touch in touches {
        let until = named.partition_point(|(from, _)| *from <= touch.time);
        if let Some(customer) = customer(named[until.saturating_sub(1)].1) {
            of.entry(customer).or_default().push(touch.clone());
        }
    }
    let kept = |(customer, touches): (Cow<'_, str>, Vec<PastTouch>)| {
        let mut past = Past::default();
        past.add(&touches);
        (customer.into(), past.into_touches())
    };
    of.into_iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::visit::Position;

    fn at(time: i64, customer: Option<&'static str>) -> Fact<'static> {
        Fact {
            at: Position {
                time,
                event: [0, time as u64],
            },
            customer: customer.map(Id::Text),
            ..Fact::default()
        }
    }

    fn touches(times: &[i64]) -> Vec<PastTouch> {
        let touch = |time: &i64| PastTouch {
            time: *time,
            touch: "search".into(),
        };
        times.iter().map(touch).collect()
    }

    fn of(facts: &[Fact<'_>], times: &[i64]) -> Vec<(String, Vec<i64>)> {
        let all = by_customer(facts, &touches(times)).into_iter();
        let times = |touches: Vec<PastTouch>| touches.iter().map(|touch| touch.time).collect();
        all.map(|(id, touches)| (id.into(), times(touches)))
            .collect()
    }

    #[test]
    fn all_that_a_visit_of_one_customer_has_met_is_the_customers() {
        let visit = [at(1, None), at(2, Some("ann")), at(3, None)];
        assert_eq!(of(&visit, &[1]), [("ann".into(), vec![1])]);
        assert_eq!(of(&visit, &[3]), [("ann".into(), vec![3])]);
        assert_eq!(of(&visit[..1], &[1]), []);
    }

    /// Each has the latest of a name that is the customer's own.
    #[test]
    fn of_two_customers_neither_has_what_is_the_others() {
        let names = [
            None,
            Some("ann"),
            None,
            Some("bob"),
            Some("bob"),
            Some("ann"),
        ];
        let visit: Vec<Fact<'_>> = (1..).zip(names).map(|(time, id)| at(time, id)).collect();
        let both = |ann: i64, bob: i64| [("ann".into(), vec![ann]), ("bob".into(), vec![bob])];
        assert_eq!(of(&visit, &[1, 3, 4]), both(3, 4));
        assert_eq!(of(&visit, &[5, 2]), both(2, 5));
        assert_eq!(of(&visit, &[4, 6]), both(6, 4));
        assert_eq!(of(&visit, &[1]), [("ann".into(), vec![1])]);
    }

    #[test]
    fn who_has_no_proper_id_is_nobody() {
        let long: &'static str = "x".repeat(CUSTOMER + 1).leak();
        for id in ["", long] {
            let visit = [at(1, Some("ann")), at(2, Some(id)), at(3, None)];
            assert_eq!(of(&visit, &[1, 3]), [("ann".into(), vec![1])]);
        }
    }
}
