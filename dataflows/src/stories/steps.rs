//! Steps: how far a visit has come through a funnel, in whatever order its measurements arrive. For a
//! visit that grows; it says what a walk over all of its measurements in order says.

use smallvec::SmallVec;

use crate::visit::Position;

/// Of so many measurements that came before their step it is known at most.
const MOST: usize = 64;

/// Where the steps of a funnel were reached: each at the first measurement of its kind behind that of
/// the step before. Since a measurement that comes late can only let steps be reached earlier, all that
/// is needed beside those places are measurements that would count if the step before were reached
/// before them.
#[derive(Debug, Default)]
pub struct Steps {
    /// In place, where most funnels have no more steps.
    reached: SmallVec<[Position; 6]>,
    /// Measurements and their steps, before where those were reached.
    early: Vec<(Position, u16)>,
    /// Of what lies before this or at it some is forgotten.
    forgotten: Option<Position>,
}

impl Steps {
    /// How many were reached.
    pub fn len(&self) -> usize {
        self.reached.len()
    }

    /// Takes a measurement, for which `is` says whether it is of a kind with the step of this number, of
    /// `count`. False if it cannot be told any more how far the visit has come.
    pub fn take(&mut self, at: Position, count: usize, is: impl Fn(usize) -> bool) -> bool {
        // Whatever comes, all of them stay reached.
        if self.reached.len() == count {
            return true;
        }
        for step in 0..count {
            if self.reached.get(step).is_some_and(|own| *own <= at) || !is(step) {
                continue;
            }
            let before = step.checked_sub(1);
            let follows =
                before.is_none_or(|before| self.reached.get(before).is_some_and(|own| *own < at));
            if !follows {
                self.early.push((at, step as u16));
            } else if !self.reach(step, at, count) {
                return false;
            }
        }
        if self.reached.len() == count {
            self.early = Vec::new();
        } else if self.early.len() > MOST {
            self.forget();
        }
        true
    }

    /// This step is reached there, where nobody knew; and those behind it earlier, maybe.
    fn reach(&mut self, step: usize, at: Position, count: usize) -> bool {
        let (mut step, mut at) = (step, at);
        loop {
            match self.reached.get_mut(step) {
                Some(own) => *own = at,
                None => self.reached.push(at),
            }
            step += 1;
            if step == count {
                return true;
            }
            if self.forgotten.is_some_and(|forgotten| at < forgotten) {
                return false;
            }
            let early = self.early.iter().filter(|(_, of)| usize::from(*of) == step);
            let next = early.map(|(early, _)| *early).filter(|early| *early > at);
            let Some(next) = next.min() else {
                return true;
            };
            if self.reached.get(step).is_some_and(|own| *own <= next) {
                return true;
            }
            at = next;
        }
    }

    /// Forgets what will not count any more; if that is not enough, the first half.
    fn forget(&mut self) {
        let reached = &self.reached;
        let counts = |(at, step): &(Position, u16)| {
            let own = reached.get(usize::from(*step));
            own.is_none_or(|own| at < own)
        };
        self.early.retain(counts);
        if self.early.len() > MOST {
            self.early.sort_unstable();
            let last = self.early.drain(..MOST / 2).next_back();
            self.forgotten = self.forgotten.max(last.map(|(at, _)| at));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition: steps reached by a walk over all measurements in order, each of some kinds.
    fn walked(measurements: &[(Position, Vec<bool>)], count: usize) -> usize {
        let mut all = measurements.to_vec();
        all.sort();
        let reached = |reached, (_, kinds): &(_, Vec<bool>)| {
            reached + usize::from(reached < count && kinds[reached])
        };
        all.iter().fold(0, reached)
    }

    proptest! {
        #[test]
        fn steps_are_reached_as_a_walk_in_order_says(
            arrived in prop::collection::btree_map(0_i64..300, prop::collection::vec(prop::bool::weighted(0.2), 5), 1..200)
                .prop_map(|all| all.into_iter().collect::<Vec<_>>()).prop_shuffle(),
            count in 1_usize..=5,
        ) {
            let at = |time| Position { time, event: [0, 7] };
            let arrived: Vec<_> = arrived.into_iter().map(|(time, kinds)| (at(time), kinds)).collect();
            let mut steps = Steps::default();
            for (n, (at, kinds)) in arrived.iter().enumerate() {
                // It may give up, but not early.
                if !steps.take(*at, count, |step| kinds[step]) {
                    prop_assert!(n > MOST / count);
                    break;
                }
                prop_assert_eq!(steps.len(), walked(&arrived[..=n], count));
                prop_assert!(steps.early.len() <= MOST + count);
            }
        }

        #[test]
        fn in_order_it_never_gives_up(
            kinds in prop::collection::vec(prop::collection::vec(prop::bool::weighted(0.1), 4), 1..400),
        ) {
            let at = |time| Position { time, event: [0, 0] };
            let all: Vec<_> = (0..).zip(kinds).map(|(time, kinds)| (at(time), kinds)).collect();
            let mut steps = Steps::default();
            for (at, kinds) in &all {
                let known = steps.take(*at, 4, |step| kinds[step]);
                prop_assert!(known);
            }
            prop_assert_eq!(steps.len(), walked(&all, 4));
        }
    }
}
