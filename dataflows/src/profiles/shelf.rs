//! Shelves: where profiles lie, by customer and tick, so that a restart reads what the first run read.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::convert::Infallible;
use std::fmt::Display;

use super::part::{GROUPS, group_of};
use crate::visit::Tick;

/// Keeps versions of profiles, each put at a tick; one a worker, for the groups of customers that
/// are this worker's.
///
/// Its law: what is read before a tick is what was put last at an earlier one, by this run or one
/// before. So a run that goes on from a snapshot passes over what an earlier run had put behind it,
/// and puts it again, which changes nothing. It may let go of what nobody can read who begins at a
/// snapshot that counts: all versions of a customer but the last one before its tick, and those behind.
pub trait Shelf {
    /// What it meets.
    type Error: Display;

    /// What was put last for a customer before a tick.
    ///
    /// # Errors
    /// What the disk says.
    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, Self::Error>;

    /// Puts profiles at a tick; for each customer at one tick the same bytes, in every run.
    ///
    /// # Errors
    /// What the disk says.
    fn put(&mut self, tick: Tick, profiles: Vec<(Box<str>, Vec<u8>)>) -> Result<(), Self::Error>;

    /// A snapshot is taken as of this tick, which must not count before all that was put before it
    /// is durable.
    fn save(&mut self, at: Tick);

    /// Nothing more is put: all of it is to be durable.
    ///
    /// # Errors
    /// What the disk says.
    fn end(&mut self) -> Result<(), Self::Error>;
}

/// A shelf in memory, for a job without state. It keeps one version a customer, so it can be read
/// before ticks that lie behind the last one at which something was put for the customer; and no
/// more than so many customers of a group: who was put for at the earliest tick goes first. So what
/// it has does not depend on the number of workers. Half a kilobyte a customer.
#[derive(Debug)]
pub struct InMemory {
    most: usize,
    groups: [Group; GROUPS],
}

#[derive(Debug, Default)]
struct Group {
    profiles: HashMap<Box<str>, (Tick, Vec<u8>)>,
    by_tick: BTreeSet<(Tick, Box<str>)>,
}

impl InMemory {
    /// For so many customers, about, over all workers.
    #[must_use]
    pub fn of(customers: usize) -> InMemory {
        InMemory {
            most: customers.div_ceil(GROUPS),
            groups: Default::default(),
        }
    }

    /// How many customers it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.groups.iter().map(|group| group.profiles.len()).sum()
    }

    /// Whether it knows nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Shelf for InMemory {
    type Error = Infallible;

    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, Infallible> {
        let kept = self.groups[group_of(customer)].profiles.get(customer);
        let kept = kept.filter(|(tick, _)| *tick < before);
        Ok(kept.map(|(_, profile)| profile.clone()))
    }

    fn put(&mut self, tick: Tick, profiles: Vec<(Box<str>, Vec<u8>)>) -> Result<(), Infallible> {
        for (customer, profile) in profiles {
            let group = &mut self.groups[group_of(&customer)];
            let before = group.profiles.insert(customer.clone(), (tick, profile));
            if let Some((before, _)) = before {
                group.by_tick.remove(&(before, customer.clone()));
            }
            group.by_tick.insert((tick, customer));
        }
        // Only when all of the tick are there, so that their order does not matter.
        for group in &mut self.groups {
            while group.profiles.len() > self.most
                && let Some((_, first)) = group.by_tick.pop_first()
            {
                group.profiles.remove(&first);
            }
        }
        Ok(())
    }

    fn save(&mut self, _: Tick) {}

    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

/// All versions, in a plain map: what shelves are held against in tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model(BTreeMap<Box<str>, BTreeMap<Tick, Vec<u8>>>);

impl Shelf for Model {
    type Error = Infallible;

    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, Infallible> {
        let versions = self.0.get(customer);
        let last = versions.and_then(|versions| versions.range(..before).next_back());
        Ok(last.map(|(_, profile)| profile.clone()))
    }

    fn put(&mut self, tick: Tick, profiles: Vec<(Box<str>, Vec<u8>)>) -> Result<(), Infallible> {
        for (customer, profile) in profiles {
            self.0.entry(customer).or_default().insert(tick, profile);
        }
        Ok(())
    }

    fn save(&mut self, _: Tick) {}

    fn end(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn in_memory_it_is_the_last_version_of_the_customers_that_were_put_for_of_late(
            puts in vec(vec((0_u16..60, any::<u8>()), 0..6), 0..40),
        ) {
            let (mut shelf, mut model) = (InMemory::of(3 * GROUPS), Model::default());
            for (tick, put) in puts.iter().enumerate() {
                let put = put.iter().map(|(id, byte)| (id.to_string().into(), vec![*byte]));
                let put: Vec<(Box<str>, Vec<u8>)> = put.collect();
                shelf.put(tick as Tick, put.clone()).unwrap();
                model.put(tick as Tick, put).unwrap();
                let latest = |id: &str| model.0.get(id).and_then(|all| all.keys().next_back().copied());
                for id in (0..60_u16).map(|id| id.to_string()) {
                    let others = model.0.keys().filter(|other| group_of(other) == group_of(&id));
                    let later = others.filter(|other| (latest(other), &***other) > (latest(&id), &*id));
                    let stays = later.count() < 3;
                    let expected = model.get(&id, Tick::MAX).unwrap().filter(|_| stays);
                    prop_assert_eq!(shelf.get(&id, Tick::MAX).unwrap(), expected);
                }
                prop_assert!(shelf.len() <= 3 * GROUPS);
            }
        }
    }
}
