//! The heaviest names of a kind, and no more than so many: what a customer looks at most.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::decay::{Weight, decayed};

/// The longest name, in bytes. A longer one is left out, since two that were cut might become one.
pub const NAME: usize = 48;

/// At most `MOST` names, each with what it weighs: the heaviest first, of the same weight by name.
/// Some 60 bytes a name.
///
/// A name that does not stay among the heaviest is forgotten, and begins with nothing when it comes
/// again. What weighs much decays, so a new favourite always gets its place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Top<const MOST: usize>(Vec<(Box<str>, Weight)>);

impl<const MOST: usize> Top<MOST> {
    /// The heaviest of what weighs something.
    pub fn of(all: impl IntoIterator<Item = (Box<str>, Weight)>) -> Top<MOST> {
        let fits = |(name, weight): &(Box<str>, Weight)| {
            *weight > 0 && !name.is_empty() && name.len() <= NAME
        };
        let mut all: Vec<_> = all.into_iter().filter(fits).collect();
        all.sort_unstable_by(|(a, x), (b, y)| (y, a).cmp(&(x, b)));
        all.truncate(MOST);
        Top(all)
    }

    /// The names and what they weigh, the heaviest first.
    #[must_use]
    pub fn entries(&self) -> &[(Box<str>, Weight)] {
        &self.0
    }

    /// What is left of it after so many days.
    #[must_use]
    pub fn decayed(self, days: u32) -> Top<MOST> {
        let left = self.0.into_iter();
        Top::of(left.map(|(name, weight)| (name, decayed(weight, days))))
    }

    /// The two together.
    #[must_use]
    pub fn merged(self, other: Top<MOST>) -> Top<MOST> {
        let mut all: BTreeMap<Box<str>, Weight> = BTreeMap::new();
        for (name, weight) in self.0.into_iter().chain(other.0) {
            let sum = all.entry(name).or_default();
            *sum = sum.saturating_add(weight);
        }
        Top::of(all)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn top(all: &[(u8, Weight)]) -> Top<4> {
        let one = |(name, weight): &(u8, Weight)| Top::of([(name.to_string().into(), *weight)]);
        all.iter()
            .map(one)
            .fold(Top::default(), |all, one| all.merged(one))
    }

    proptest! {
        #[test]
        fn as_long_as_there_is_room_it_is_a_plain_sum(all in vec((0_u8..4, 1_u32..100), 0..30)) {
            let mut sums: BTreeMap<String, Weight> = BTreeMap::new();
            for (name, weight) in &all {
                *sums.entry(name.to_string()).or_default() += weight;
            }
            let top = top(&all);
            let entries = top.entries().iter().map(|(name, weight)| (name.to_string(), *weight));
            prop_assert_eq!(entries.collect::<BTreeMap<_, _>>(), sums);
        }

        #[test]
        fn it_does_not_matter_which_of_two_is_added_to_the_other(
            a in vec((0_u8..9, 1_u32..9), 0..9), b in vec((0_u8..9, 1_u32..9), 0..9),
        ) {
            let (a, b) = (top(&a), top(&b));
            prop_assert_eq!(a.clone().merged(b.clone()), b.merged(a));
        }

        #[test]
        fn the_heaviest_come_first_and_no_more_than_so_many(all in vec((0_u8..20, 0_u32..9), 0..40)) {
            let top = top(&all);
            prop_assert!(top.entries().len() <= 4);
            prop_assert!(top.entries().is_sorted_by(|(a, x), (b, y)| (y, a) < (x, b)));
            prop_assert!(top.entries().iter().all(|(_, weight)| *weight > 0));
        }
    }

    #[test]
    fn a_name_that_is_too_long_or_none_at_all_is_left_out() {
        let names = ["", "a", &"x".repeat(NAME), &"x".repeat(NAME + 1)].map(Box::from);
        let top: Top<4> = Top::of(names.map(|name| (name, 1)));
        assert_eq!(top.entries().len(), 2);
    }
}
