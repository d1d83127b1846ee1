//! Credits: an order's value, shared among all touches on the way by each model.

use std::collections::HashMap;

use super::Credit;
use super::models::Model;
use super::touch::Touch;

/// The credits of an order in parts: of each part the touches on the way, never none, in order, and
/// its share of the value. A touch that is met more than once has one credit, of all its shares.
/// By each model they sum to the sum of the shares, exactly.
pub(super) fn credits<'a>(parts: impl IntoIterator<Item = (Vec<Touch<'a>>, i64)>) -> Vec<Credit> {
    let mut credits: Vec<Credit> = Vec::new();
    let mut places: HashMap<Box<str>, usize> = HashMap::new();
    for (path, share) in parts {
        let shares = Model::ALL.map(|model| model.shares(share, path.len()));
        for (at, touch) in path.iter().enumerate() {
            let name = super::cut(&touch.name);
            let place = *places.entry(name).or_insert_with_key(|name| {
                credits.push(Credit {
                    touch: name.clone(),
                    time: touch.time,
                    ..Credit::default()
                });
                credits.len() - 1
            });
            let credit = &mut credits[place];
            credit.time = credit.time.min(touch.time);
            // All have the value's sign and sum to it: nothing overflows.
            let [first, last, linear, position] = &shares;
            credit.first += first[at];
            credit.last += last[at];
            credit.linear += linear[at];
            credit.position += position[at];
        }
    }
    // Stable: of one time, in the order in which they were met.
    credits.sort_by_key(|credit| credit.time);
    credits
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::models::split;
    use super::*;

    fn path(names: &[u8]) -> Vec<Touch<'static>> {
        let touch = |(time, name): (usize, &u8)| Touch {
            time: time as i64,
            name: format!("t{name}").into(),
        };
        names.iter().enumerate().map(touch).collect()
    }

    fn of(credit: &Credit) -> [i64; 4] {
        let Credit {
            first,
            last,
            linear,
            position,
            ..
        } = credit;
        [*first, *last, *linear, *position]
    }

    proptest! {
        #[test]
        fn by_each_model_they_sum_to_the_value(
            value in any::<i64>(),
            paths in vec((vec(0_u8..6, 1..20), 0_u64..5), 1..6),
        ) {
            let weights: Vec<u64> = paths.iter().map(|(_, weight)| *weight).collect();
            let shares = split(value, &weights);
            let paths = paths.iter().map(|(names, _)| path(names));
            let credits = credits(paths.zip(shares));
            for model in 0..4 {
                let sum: i128 = credits.iter().map(|c| i128::from(of(c)[model])).sum();
                prop_assert_eq!(sum, i128::from(value));
            }
            let mut names: Vec<&str> = credits.iter().map(|c| &*c.touch).collect();
            names.sort_unstable();
            let all = names.len();
            names.dedup();
            prop_assert_eq!(names.len(), all);
        }

        /// What a part is credited does not depend on the others.
        #[test]
        fn parts_add_up(
            a in vec(0_u8..4, 1..8), b in vec(0_u8..4, 1..8), values in [-999_i64..999, -999..999],
        ) {
            let both = credits([(path(&a), values[0]), (path(&b), values[1])]);
            let alone = [
                credits([(path(&a), values[0])]), credits([(path(&b), values[1])]),
            ];
            for credit in both {
                let same = alone.iter().flatten().filter(|c| c.touch == credit.touch);
                let sum = same.map(of).fold([0; 4], |sum, c| {
                    std::array::from_fn(|model| sum[model] + c[model])
                });
                prop_assert_eq!(of(&credit), sum);
            }
        }
    }

    #[test]
    fn a_touch_that_is_met_twice_has_one_credit() {
        let credits = credits([(path(&[1, 2, 1]), 1_000)]);
        let rows = credits.iter().map(|c| (&*c.touch, c.time, of(c)));
        assert_eq!(
            rows.collect::<Vec<_>>(),
            [
                ("t1", 0, [1_000, 1_000, 667, 800]),
                ("t2", 1, [0, 0, 333, 200])
            ]
        );
    }
}
