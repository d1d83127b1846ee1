//! Causes within a visit: which measurement led to which, and what else was shown beside what was
//! chosen. Built once over a visit's measurements; then a chain costs as many steps as it has
//! links, whatever was sent: IDs that come twice, causes that are nowhere, lie after their effects,
//! or lead in circles.

use hashbrown::HashMap;

use crate::fact::Fact;

pub(crate) const SHOWN: &str = "shown";
const NONE: u32 = u32::MAX;
/// How far to either side of what was chosen losers are looked for.
const BESIDE: usize = 32;

/// How a chain ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// At what has no cause.
    Root,
    /// At a cause that is nowhere in the visit.
    Gone,
    /// Where it would come back to itself.
    Cycle,
    /// At the longest that is followed.
    Long,
}

/// From a measurement to its root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Chain {
    /// Places of measurements, each caused by the next; never empty.
    pub links: Vec<u32>,
    pub end: End,
    /// How many of its causes lie after their effects.
    pub later: u32,
}

impl Chain {
    /// The place of its last link.
    pub fn last(&self) -> usize {
        self.links.last().map_or(0, |at| *at as usize)
    }
}

/// Who caused whom. 21 bytes a measurement, and an entry of a map for each ID.
pub(super) struct Causes<'f> {
    facts: &'f [Fact<'f>],
    /// Of each measurement, the number of its cause's ID.
    cause: Vec<u32>,
    /// Of each ID, its first measurement.
    holder: Vec<u32>,
    /// What was shown, by the ID of its cause: of each ID, where its list ends.
    ends: Vec<u32>,
    shown: Vec<u32>,
    /// Of each ID, how many of its list led to nothing.
    unchosen: Vec<u32>,
    /// Whether something was done with it: anything but being shown had it as its cause.
    chosen: Vec<bool>,
    /// The chain that has met it last.
    met: Vec<u32>,
    followed: u32,
}

impl<'f> Causes<'f> {
    /// Of a visit's measurements, in order; of those beyond 2^30 nothing is known.
    pub fn of(facts: &'f [Fact<'f>]) -> Causes<'f> {
        let facts = &facts[..facts.len().min(1 << 30)];
        // Whoever sends chooses the IDs, so the hash must be a keyed one; it is never iterated.
        let mut numbers: HashMap<[u64; 2], u32> = HashMap::with_capacity(facts.len());
        let mut holder = Vec::with_capacity(facts.len());
        let mut number = |id, holder: &mut Vec<u32>| {
            *numbers.entry(id).or_insert_with(|| {
                holder.push(NONE);
                holder.len() as u32 - 1
            })
        };
        let mut cause = Vec::with_capacity(facts.len());
        for (at, fact) in facts.iter().enumerate() {
            let own = number(fact.at.event, &mut holder) as usize;
            if holder[own] == NONE {
                holder[own] = at as u32;
            }
            cause.push(fact.cause.map_or(NONE, |id| number(id, &mut holder)));
        }
        let mut causes = Causes {
            facts,
            cause,
            ends: vec![0; holder.len()],
            shown: Vec::new(),
            unchosen: vec![0; holder.len()],
            chosen: vec![false; facts.len()],
            met: vec![0; facts.len()],
            followed: 0,
            holder,
        };
        causes.choose();
        causes.list();
        causes
    }

    fn choose(&mut self) {
        for (at, fact) in self.facts.iter().enumerate() {
            if fact.effect != SHOWN
                && let Some(cause) = self.cause_of(at)
            {
                self.chosen[cause] = true;
            }
        }
    }

    /// Lists by cause, one behind the other, in order.
    fn list(&mut self) {
        let shown = || {
            let all = self.facts.iter().zip(&self.cause).enumerate();
            all.filter(|(_, (fact, cause))| fact.effect == SHOWN && **cause != NONE)
                .map(|(at, (_, cause))| (at, *cause as usize))
        };
        let mut ends = std::mem::take(&mut self.ends);
        for (at, cause) in shown() {
            ends[cause] += 1;
            self.unchosen[cause] += u32::from(!self.chosen[at]);
        }
        let mut begin = 0;
        for end in &mut ends {
            begin += std::mem::replace(end, begin);
        }
        let mut list = vec![0; begin as usize];
        for (at, cause) in shown() {
            list[ends[cause] as usize] = at as u32;
            ends[cause] += 1;
        }
        (self.ends, self.shown) = (ends, list);
    }

    /// The measurements.
    pub fn facts(&self) -> &'f [Fact<'f>] {
        self.facts
    }

    /// The place of a measurement's cause, if it is in the visit.
    pub fn cause_of(&self, at: usize) -> Option<usize> {
        let id = self.cause[at];
        let place = *self.holder.get(id as usize)?;
        (place != NONE).then_some(place as usize)
    }

    /// From the measurement at this place to its root, at most `longest` links.
    pub fn follow(&mut self, from: usize, longest: usize) -> Chain {
        self.followed += 1;
        let mut chain = Chain {
            links: vec![from as u32],
            end: End::Root,
            later: 0,
        };
        let mut at = from;
        loop {
            self.met[at] = self.followed;
            if self.cause[at] == NONE {
                return chain;
            }
            let next = self.cause_of(at);
            chain.end = match next {
                None => End::Gone,
                Some(next) if self.met[next] == self.followed => End::Cycle,
                Some(_) if chain.links.len() >= longest => End::Long,
                Some(next) => {
                    chain.later += u32::from(next > at);
                    chain.links.push(next as u32);
                    at = next;
                    continue;
                }
            };
            return chain;
        }
    }

    /// What else was shown beside this, which was chosen, and led to nothing: some, in order, and
    /// how many more there were. Those of its kind and reason come first, then those next to it.
    pub fn losers(&self, chosen: usize, most: usize) -> (Vec<u32>, u32) {
        let id = self.cause[chosen] as usize;
        let Some(end) = self.ends.get(id) else {
            return (Vec::new(), 0);
        };
        let begin = if id == 0 { 0 } else { self.ends[id - 1] };
        let list = &self.shown[begin as usize..*end as usize];
        let place = list.partition_point(|at| (*at as usize) < chosen);
        let around = place.saturating_sub(BESIDE)..list.len().min(place + BESIDE + 1);
        let mut losers: Vec<usize> = around
            .filter(|loser| !self.chosen[list[*loser] as usize])
            .collect();
        let kind = |at: u32| {
            (
                self.facts[at as usize].entity,
                self.facts[at as usize].reason,
            )
        };
        let own = kind(chosen as u32);
        // By their places among what was shown beside it: they do not depend on what else was measured.
        losers.sort_by_key(|loser| (kind(list[*loser]) != own, loser.abs_diff(place)));
        losers.truncate(most);
        losers.sort_unstable();
        let more = self.unchosen[id].saturating_sub(losers.len() as u32);
        (losers.into_iter().map(|loser| list[loser]).collect(), more)
    }

    /// Whether the link of this number was chosen: it was shown, and its effect is not another
    /// showing.
    pub fn is_choice(&self, chain: &Chain, link: usize) -> bool {
        let effect = |link: usize| self.facts[chain.links[link] as usize].effect;
        link > 0 && effect(link) == SHOWN && effect(link - 1) != SHOWN
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::visit::Position;

    /// A measurement with this ID, at a time as large, caused by that one.
    pub fn fact(id: u64, effect: &'static str, cause: Option<u64>) -> Fact<'static> {
        Fact {
            at: Position {
                time: id as i64,
                event: [0, id],
            },
            effect,
            entity: "page",
            cause: cause.map(|id| [0, id]),
            ..Fact::default()
        }
    }

    fn facts() -> impl Strategy<Value = Vec<Fact<'static>>> {
        let effect = prop_oneof![Just("shown"), Just("shown"), Just("clicked")];
        let one = (
            0_u64..40,
            effect,
            proptest::option::weighted(0.9, 0_u64..45),
        );
        vec(one, 1..60).prop_map(|all| {
            let facts = all.into_iter().enumerate();
            facts
                .map(|(at, (id, effect, cause))| Fact {
                    at: Position {
                        time: at as i64,
                        event: [0, id],
                    },
                    ..fact(id, effect, cause)
                })
                .collect()
        })
    }

    /// The definition, by searching.
    fn followed(facts: &[Fact], from: usize, longest: usize) -> (Vec<usize>, End) {
        let mut links = vec![from];
        loop {
            let at = links[links.len() - 1];
            let Some(cause) = facts[at].cause else {
                return (links, End::Root);
            };
            match facts.iter().position(|fact| fact.at.event == cause) {
                None => return (links, End::Gone),
                Some(next) if links.contains(&next) => return (links, End::Cycle),
                Some(_) if links.len() == longest => return (links, End::Long),
                Some(next) => links.push(next),
            }
        }
    }

    proptest! {
        #[test]
        fn a_chain_goes_from_cause_to_cause_by_the_first_of_each_id(
            facts in facts(), longest in 1_usize..20,
        ) {
            let mut causes = Causes::of(&facts);
            for from in 0..facts.len() {
                let chain = causes.follow(from, longest);
                let links: Vec<usize> = chain.links.iter().map(|at| *at as usize).collect();
                let later = links.windows(2).filter(|pair| pair[1] > pair[0]).count();
                prop_assert_eq!(chain.later as usize, later);
                prop_assert_eq!((links, chain.end), followed(&facts, from, longest));
            }
        }

        #[test]
        fn losers_have_the_same_cause_and_led_to_nothing(facts in facts(), most in 0_usize..6) {
            let causes = Causes::of(&facts);
            let first = |id| facts.iter().position(|fact| Some(fact.at.event) == id);
            let chosen: BTreeSet<usize> = facts
                .iter()
                .filter(|fact| fact.effect != SHOWN)
                .filter_map(|fact| first(fact.cause))
                .collect();
            for at in &chosen {
                let (losers, more) = causes.losers(*at, most);
                let all: BTreeSet<u32> = (0..facts.len())
                    .filter(|other| facts[*other].effect == SHOWN && !chosen.contains(other))
                    .filter(|other| facts[*at].cause.is_some()
                        && facts[*other].cause == facts[*at].cause)
                    .map(|other| other as u32)
                    .collect();
                prop_assert!(losers.iter().all(|loser| all.contains(loser)));
                prop_assert!(losers.is_sorted());
                prop_assert_eq!(losers.len(), all.len().min(most));
                prop_assert_eq!(losers.len() + more as usize, all.len());
            }
        }
    }

    #[test]
    fn losers_of_the_same_kind_and_reason_come_first() {
        let of = |id, entity, reason| Fact {
            entity,
            reason: Some(reason),
            ..fact(id, "shown", Some(1))
        };
        let facts = [
            fact(1, "shown", None),
            of(2, "link", "navigation"),
            of(3, "banner", "campaign:a"),
            of(4, "banner", "campaign:b"),
            of(5, "product", "search"),
            of(6, "product", "search"),
            of(7, "product", "search"),
            fact(8, "clicked", Some(6)),
        ];
        let mut causes = Causes::of(&facts);
        assert_eq!(causes.losers(5, 2), (vec![4, 6], 3));
        assert_eq!(causes.losers(5, 3), (vec![3, 4, 6], 2));
        let chain = causes.follow(7, 64);
        let choices = (0..3).map(|link| causes.is_choice(&chain, link));
        assert_eq!(choices.collect::<Vec<_>>(), [false, true, false]);
    }

    #[test]
    fn a_measurement_may_say_that_it_caused_itself() {
        let facts = [fact(1, "ordered", Some(1))];
        let chain = Causes::of(&facts).follow(0, 64);
        assert_eq!((chain.links, chain.end), (vec![0], End::Cycle));
    }

    /// If each chain cost all measurements, this would take hours.
    #[test]
    fn a_hundred_thousand_chains_over_a_long_one_end_soon() {
        let facts: Vec<Fact> = (0..100_000_u64)
            .map(|id| fact(id, "clicked", Some((id + 1) % 100_000)))
            .collect();
        let mut causes = Causes::of(&facts);
        for from in 0..facts.len() {
            assert_eq!(causes.follow(from, 64).end, End::Long);
        }
    }
}
