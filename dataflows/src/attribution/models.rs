//! Models: how a value in whole cents is shared among touches, so that the shares sum to the value
//! exactly. The one rule is [`split`], by largest remainder; a model is a row of weights.

use std::cmp::Reverse;

/// How an order's value is shared among the touches that led to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Model {
    /// All to the first.
    First,
    /// All to the last.
    Last,
    /// To all alike.
    Linear,
    /// Two fifths each to the first and the last, the rest to those between alike. Of two, half
    /// each; of one, all.
    Position,
}

impl Model {
    /// All there are, in the order of [`Credit`](super::Credit)'s fields.
    pub const ALL: [Model; 4] = [Model::First, Model::Last, Model::Linear, Model::Position];

    /// The weights of so many touches, in time order.
    fn weights(self, touches: usize) -> Vec<u64> {
        let mut weights = match self {
            Model::First | Model::Last => vec![0; touches],
            Model::Linear | Model::Position => vec![1; touches],
        };
        if let (Model::First, [end, ..]) | (Model::Last, [.., end]) = (self, &mut *weights) {
            *end = 1;
        }
        // As 2 to 2 of 5, where all between have 1 of 5 together.
        if let (Model::Position, [first, between @ .., last]) = (self, &mut *weights)
            && !between.is_empty()
        {
            (*first, *last) = (2 * between.len() as u64, 2 * between.len() as u64);
        }
        weights
    }

    /// The shares of so many touches, in time order. They sum to the value, whatever it is; of no
    /// touches there are none. Costs as many steps as there are touches, and the sorting of cents
    /// that are left over.
    ///
    /// ```
    /// use visitflow_dataflows::attribution::Model;
    /// assert_eq!(Model::Linear.shares(100, 3), [34, 33, 33]);
    /// assert_eq!(Model::Position.shares(100, 4), [40, 10, 10, 40]);
    /// assert_eq!(Model::Position.shares(-1, 2), [-1, 0]);
    /// assert_eq!(Model::Last.shares(100, 3), [0, 0, 100]);
    /// ```
    #[must_use]
    pub fn shares(self, value: i64, touches: usize) -> Vec<i64> {
        split(value, &self.weights(touches))
    }
}

/// Splits a value by weights, in whole units: the parts sum to the value, each is less than one
/// unit away from its exact share, and none has another sign than the value. What is left over
/// goes to the largest remainders, among equals to the greatest weight, then to the first. If all weights are 0, all count
/// alike; without weights there are no parts.
///
/// ```
/// use visitflow_dataflows::attribution::split;
/// assert_eq!(split(100, &[1, 1, 1]), [34, 33, 33]);
/// assert_eq!(split(-7, &[0, 3, 1]), [0, -5, -2]);
/// assert_eq!(split(i64::MIN, &[0, 0]), [i64::MIN / 2, i64::MIN / 2]);
/// ```
#[must_use]
pub fn split(value: i64, weights: &[u64]) -> Vec<i64> {
    let total: u128 = weights.iter().map(|weight| u128::from(*weight)).sum();
    if total == 0 {
        return match weights {
            [] => Vec::new(),
            _ => split(value, &vec![1; weights.len()]),
        };
    }
    // Magnitude and sign apart: so rounding is the same on both sides of 0. At most 2^63 times
    // 2^64, which fits.
    let magnitude = u128::from(value.unsigned_abs());
    let mut left = magnitude;
    let mut parts = Vec::with_capacity(weights.len());
    let mut remainders = Vec::with_capacity(weights.len());
    for (at, weight) in weights.iter().enumerate() {
        let exact = magnitude * u128::from(*weight);
        left -= exact / total;
        parts.push((exact / total) as u64);
        // Of two alike the greater weight comes first: where it stands decides among equals only.
        remainders.push((Reverse(exact % total), Reverse(*weight), at));
    }
    // Fewer units are left than there are remainders above 0.
    remainders.sort_unstable();
    for (.., at) in remainders.iter().take(left as usize) {
        parts[*at] += 1;
    }
    let signed = |part: u64| match value < 0 {
        true => 0_i64.wrapping_sub_unsigned(part),
        false => part as i64,
    };
    parts.into_iter().map(signed).collect()
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn values() -> impl Strategy<Value = i64> {
        prop_oneof![
            any::<i64>(),
            -1_000_i64..1_000,
            Just(i64::MIN),
            Just(i64::MAX),
            Just(0),
        ]
    }

    fn weights() -> impl Strategy<Value = Vec<u64>> {
        let weight = prop_oneof![any::<u64>(), 0_u64..10, Just(0), Just(u64::MAX)];
        vec(weight, 1..40)
    }

    fn sum(parts: &[i64]) -> i128 {
        parts.iter().map(|part| i128::from(*part)).sum()
    }

    proptest! {
        #[test]
        fn parts_sum_to_the_value_and_have_its_sign(value in values(), weights in weights()) {
            let parts = split(value, &weights);
            prop_assert_eq!(parts.len(), weights.len());
            prop_assert_eq!(sum(&parts), i128::from(value));
            prop_assert!(parts.iter().all(|part| part.signum() * value.signum() >= 0));
        }

        #[test]
        fn a_part_is_less_than_a_unit_away_from_its_exact_share(
            value in -1_000_000_i64..1_000_000, weights in vec(0_u64..1_000, 1..20),
        ) {
            let total: i128 = weights.iter().map(|w| i128::from(*w)).sum();
            prop_assume!(total > 0);
            for (part, weight) in split(value, &weights).into_iter().zip(weights) {
                let off = i128::from(part) * total - i128::from(value) * i128::from(weight);
                prop_assert!(off.abs() < total, "{part} of {value} by {weight} in {total}");
            }
        }

        #[test]
        fn no_weight_no_part_unless_there_are_none(value in values(), weights in weights()) {
            prop_assume!(weights.iter().any(|weight| *weight > 0));
            let parts = split(value, &weights);
            prop_assert!(parts.iter().zip(weights).all(|(part, weight)| weight > 0 || *part == 0));
        }

        #[test]
        fn the_opposite_value_has_the_opposite_parts(
            value in -i64::MAX..=i64::MAX, weights in weights(),
        ) {
            let opposite: Vec<i64> = split(value, &weights).iter().map(|part| -part).collect();
            prop_assert_eq!(split(-value, &weights), opposite);
        }

        /// Who gets the unit that is left over depends on the order among equals alone: in another
        /// order of the weights the same parts come out, each with its weight.
        #[test]
        fn another_order_of_weights_has_the_same_parts_in_that_order(
            value in values(), weights in weights(), turn in 0_usize..40,
        ) {
            let paired = |weights: &[u64]| {
                let parts = split(value, weights);
                let mut pairs: Vec<(u64, i64)> = weights.iter().copied().zip(parts).collect();
                pairs.sort_unstable();
                pairs
            };
            let mut turned = weights.clone();
            turned.rotate_left(turn % weights.len());
            prop_assert_eq!(paired(&weights), paired(&turned));
        }

        #[test]
        fn every_model_shares_all_of_it(value in values(), touches in 1_usize..80) {
            for model in Model::ALL {
                prop_assert_eq!(sum(&model.shares(value, touches)), i128::from(value));
            }
        }

        #[test]
        fn what_comes_first_backwards_comes_last(value in values(), touches in 1_usize..80) {
            let mut backwards = Model::First.shares(value, touches);
            backwards.reverse();
            prop_assert_eq!(backwards, Model::Last.shares(value, touches));
        }

        /// Between the ends a model does not look at what stands where: touches may change places
        /// for a unit at most.
        #[test]
        fn touches_between_the_ends_are_alike(value in values(), touches in 4_usize..80) {
            for model in Model::ALL {
                let shares = model.shares(value, touches);
                let between = &shares[1..touches - 1];
                let range = between.iter().max().zip(between.iter().min());
                prop_assert!(range.is_some_and(|(most, least)| most.abs_diff(*least) <= 1));
            }
        }
    }

    #[test]
    fn two_fifths_go_to_each_end() {
        assert_eq!(Model::Position.shares(1_000, 1), [1_000]);
        assert_eq!(Model::Position.shares(1_000, 2), [500, 500]);
        assert_eq!(Model::Position.shares(1_000, 3), [400, 200, 400]);
        assert_eq!(Model::Position.shares(1_000, 6), [400, 50, 50, 50, 50, 400]);
    }

    #[test]
    fn of_no_touches_there_are_no_shares() {
        for model in Model::ALL {
            assert!(model.shares(5, 0).is_empty());
        }
    }
}
