//! Past touches: what a browser or a customer has met in earlier visits, bounded and with an end.

use serde::{Deserialize, Serialize};

use super::PastTouch;

/// The most touches that are kept of a browser, or of a customer.
pub const KEPT: usize = 8;

/// The latest touches of earlier visits, at most [`KEPT`], each name once with the last time that
/// it was met; by time, then name. Some 40 bytes a touch.
///
/// Putting two together is commutative, associative and idempotent, and forgetting commutes with
/// it. So it does not matter in which order visits are sealed, nor whether one is added twice.
///
/// ```
/// use visitflow_dataflows::attribution::{Past, PastTouch};
/// let touch = |time, name: &str| PastTouch { time, touch: name.into() };
/// let mut browser = Past::default();
/// browser.add(&[touch(10, "campaign:spring"), touch(20, "search")]);
/// browser.add(&[touch(90, "search")]);
/// let mut customer = Past::default();
/// customer.add(&[touch(50, "direct"), touch(90, "search")]);
/// assert_eq!(
///     browser.merged(&customer).touches(),
///     [touch(10, "campaign:spring"), touch(50, "direct"), touch(90, "search")]
/// );
/// browser.expire(100, 60);
/// assert_eq!(browser.touches(), [touch(90, "search")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    touches: Vec<PastTouch>,
}

impl Past {
    /// What is kept, by time, then name.
    #[must_use]
    pub fn touches(&self) -> &[PastTouch] {
        &self.touches
    }

    /// What is kept, by time, then name.
    #[must_use]
    pub fn into_touches(self) -> Vec<PastTouch> {
        self.touches
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.touches.is_empty()
    }

    /// Adds what a visit leaves when it is sealed, in any order.
    pub fn add(&mut self, touches: &[PastTouch]) {
        self.touches.extend_from_slice(touches);
        // The latest of each name, and then the latest of all.
        self.touches
            .sort_unstable_by(|a, b| (&a.touch, b.time).cmp(&(&b.touch, a.time)));
        self.touches
            .dedup_by(|later, kept| later.touch == kept.touch);
        self.touches.sort_unstable();
        let over = self.touches.len().saturating_sub(KEPT);
        self.touches.drain(..over);
    }

    /// Forgets what lies more than `retention` before `now`, both in ms.
    pub fn expire(&mut self, now: i64, retention: i64) {
        let since = now.saturating_sub(retention);
        self.touches.retain(|touch| touch.time >= since);
    }

    /// The two together, as of a browser and of its customer.
    #[must_use]
    pub fn merged(&self, other: &Past) -> Past {
        let mut merged = self.clone();
        merged.add(&other.touches);
        merged
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn touches() -> impl Strategy<Value = Vec<PastTouch>> {
        let touch = (-50_i64..50, 0_u8..12).prop_map(|(time, name)| PastTouch {
            time,
            touch: format!("t{name}").into(),
        });
        vec(touch, 0..30)
    }

    fn past(touches: &[PastTouch]) -> Past {
        let mut past = Past::default();
        past.add(touches);
        past
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_latest_of_each_name_and_the_latest_of_those(all in touches()) {
            let mut latest = BTreeMap::new();
            for PastTouch { time, touch } in &all {
                let kept = latest.entry(touch.clone()).or_insert(*time);
                *kept = (*kept).max(*time);
            }
            let mut expected: Vec<(i64, Box<str>)> =
                latest.into_iter().map(|(touch, time)| (time, touch)).collect();
            expected.sort();
            let expected = &expected[expected.len().saturating_sub(KEPT)..];
            let past = past(&all);
            let kept = past.touches().iter().map(|t| (t.time, t.touch.clone()));
            prop_assert_eq!(kept.collect::<Vec<_>>(), expected);
        }

        #[test]
        fn the_order_of_visits_does_not_matter(a in touches(), b in touches(), c in touches()) {
            let (a, b, c) = (past(&a), past(&b), past(&c));
            prop_assert_eq!(a.merged(&b), b.merged(&a));
            prop_assert_eq!(a.merged(&b).merged(&c), a.merged(&b.merged(&c)));
            prop_assert_eq!(&a.merged(&a), &a);
        }

        #[test]
        fn it_does_not_matter_when_one_forgets(
            a in touches(), b in touches(), now in -60_i64..60, retention in 0_i64..60,
        ) {
            let mut together = past(&a).merged(&past(&b));
            together.expire(now, retention);
            let (mut a, mut b) = (past(&a), past(&b));
            a.expire(now, retention);
            b.expire(now, retention);
            prop_assert_eq!(together, a.merged(&b));
        }
    }

    #[test]
    fn times_at_the_ends_of_the_range_are_no_trouble() {
        let mut past = past(&[PastTouch {
            time: i64::MIN,
            touch: "a".into(),
        }]);
        past.expire(i64::MIN, i64::MAX);
        assert_eq!(past.touches().len(), 1);
        past.expire(i64::MAX, 0);
        assert!(past.is_empty());
    }
}
