//! Decay: weights that halve every 30 days, in whole numbers, so that they are the same on every
//! machine. A weight that is added today counts as much as two that are 30 days old.

/// A weight, in units of 1/[`UNIT`]; it stays at its largest value once it is there.
pub type Weight = u32;

/// What one thing weighs that has happened today.
pub const UNIT: Weight = 1 << 10;

/// In so many days a weight halves.
pub const HALF_LIFE: u32 = 30;

const DAY: i64 = 24 * 3_600_000;

/// What is left of a weight after so many days; nothing after enough of them. After whole half-lives
/// it is exactly its half, its quarter, …; otherwise it is less by less than a unit.
///
/// ```
/// use visitflow_dataflows::profiles::{UNIT, decayed};
/// assert_eq!(decayed(UNIT, 0), 1_024);
/// assert_eq!(decayed(UNIT, 15), 724);
/// assert_eq!(decayed(UNIT, 30), 512);
/// assert_eq!(decayed(UNIT, 36_500), 0);
/// ```
#[must_use]
pub fn decayed(weight: Weight, days: u32) -> Weight {
    let halved = weight.checked_shr(days / HALF_LIFE).unwrap_or(0);
    let left = u64::from(halved) * LEFT[(days % HALF_LIFE) as usize];
    (left >> 32) as Weight
}

/// The day of a time in ms, counted from 1970, in UTC.
#[must_use]
pub fn day(time: i64) -> i64 {
    time.div_euclid(DAY)
}

/// The hour of the day of a time in ms, in UTC.
#[must_use]
pub fn hour(time: i64) -> usize {
    (time.rem_euclid(DAY) / 3_600_000) as usize
}

/// 2^(-days/30), as 2^32 times that.
const LEFT: [u64; HALF_LIFE as usize] = {
    // 2^(-1/30), as 2^63 times that.
    const ONE_DAY: u128 = 9_012_709_928_390_319_547;
    let mut left = [0; HALF_LIFE as usize];
    let mut now: u128 = 1 << 63;
    let mut days = 0;
    while days < left.len() {
        left[days] = (now >> 31) as u64;
        now = (now * ONE_DAY) >> 63;
        days += 1;
    }
    left
};

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_left_is_that_of_an_exponential_and_never_more(weight: u32, days in 0_u32..1_200) {
            let exact = f64::from(weight) * 2_f64.powf(-f64::from(days) / f64::from(HALF_LIFE));
            let left = f64::from(decayed(weight, days));
            prop_assert!(left <= exact + 0.001 && exact - left < 2.001, "{} is not {}", left, exact);
        }

        #[test]
        fn to_decay_twice_is_to_decay_once_but_for_what_is_rounded_away(
            weight: u32, a in 0_u32..500, b in 0_u32..500,
        ) {
            let (twice, once) = (decayed(decayed(weight, a), b), decayed(weight, a + b));
            prop_assert!(twice.abs_diff(once) <= 2, "{} and {}", twice, once);
        }
    }

    #[test]
    fn days_and_hours_before_1970_are_days_and_hours_too() {
        assert_eq!((day(-1), hour(-1)), (-1, 23));
        assert_eq!((day(DAY), hour(DAY + 3_600_000)), (1, 1));
        assert_eq!(hour(i64::MIN), 16);
    }
}
