//! The pasts of many browsers, or customers: what their earlier visits have left, bounded, and let go of
//! in time.

use std::collections::{BTreeMap, BTreeSet};

use super::{Past, PastTouch, Settings};
use crate::visit::Tick;

/// A browser's key, or a customer's.
type Key = [u64; 2];

/// The past touches of all whose shard this is.
#[derive(Debug, Default)]
struct Shard {
    by_key: BTreeMap<Key, (Tick, Past)>,
    by_seal: BTreeSet<(Tick, Key)>,
}

/// The past touches of browsers, or of customers, by shard: what does not depend on how many workers
/// there are must not depend on which shards are together. Beyond [`Settings::browsers`], or
/// [`Settings::customers`], dealt evenly to shards, those are forgotten whose last visit was sealed
/// first; and all whose last was sealed `look_back` ago.
///
/// A look-up costs two or three cache misses; some 150 bytes each.
///
/// ```
/// use visitflow_dataflows::attribution::{Pasts, PastTouch, Settings};
/// let settings = Settings { look_back: 1_000, ..Settings::default() };
/// let mut pasts = Pasts::of_browsers(&settings);
/// let left = [PastTouch { time: 5, touch: "campaign:spring".into() }];
/// pasts.add(7, [1, 2], 10_000, &left);
/// assert_eq!(pasts.of(7, &[1, 2]), left);
/// pasts.add(7, [3, 4], 11_001, &left);
/// assert!(pasts.of(7, &[1, 2]).is_empty());
/// ```
#[derive(Debug)]
pub struct Pasts {
    shards: Vec<Shard>,
    most: usize,
    look_back: Tick,
}

/// What is kept of one.
pub type Kept<'a> = (&'a Key, &'a (Tick, Past));

impl Pasts {
    /// Of browsers; none yet.
    #[must_use]
    pub fn of_browsers(settings: &Settings) -> Pasts {
        Pasts::new(settings.browsers, settings)
    }

    /// Of customers; none yet.
    #[must_use]
    pub fn of_customers(settings: &Settings) -> Pasts {
        Pasts::new(settings.customers, settings)
    }

    fn new(most: usize, settings: &Settings) -> Pasts {
        Pasts {
            shards: (0..=u8::MAX).map(|_| Shard::default()).collect(),
            most: most.div_ceil(256),
            look_back: u64::try_from(settings.look_back).unwrap_or(0),
        }
    }

    /// What earlier visits have left.
    #[must_use]
    pub fn of(&self, shard: u8, key: &Key) -> &[PastTouch] {
        let past = self.shards[usize::from(shard)].by_key.get(key);
        past.map_or(&[], |(_, past)| past.touches())
    }

    /// Adds what a visit leaves that was sealed at this tick. Ticks must not go backwards.
    pub fn add(&mut self, shard: u8, key: Key, sealed: Tick, left: &[PastTouch]) {
        let (most, look_back) = (self.most, self.look_back);
        let shard = &mut self.shards[usize::from(shard)];
        if !left.is_empty() && most > 0 {
            let (last, past) = shard.by_key.entry(key).or_default();
            shard.by_seal.remove(&(*last, key));
            *last = sealed;
            past.add(left);
            shard.by_seal.insert((sealed, key));
        }
        while let Some((tick, first)) = shard.by_seal.first().copied() {
            if tick.saturating_add(look_back) >= sealed && shard.by_seal.len() <= most {
                break;
            }
            shard.by_seal.pop_first();
            shard.by_key.remove(&first);
        }
    }

    /// How many have a past.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.by_seal.len()).sum()
    }

    /// Whether none has.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All that is kept of a shard.
    pub fn shard(&self, shard: u8) -> impl ExactSizeIterator<Item = Kept<'_>> {
        self.shards[usize::from(shard)].by_key.iter()
    }

    /// Takes what was kept of one.
    pub fn restore(&mut self, shard: u8, key: Key, (sealed, past): (Tick, Past)) {
        let shard = &mut self.shards[usize::from(shard)];
        shard.by_seal.insert((sealed, key));
        shard.by_key.insert(key, (sealed, past));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn touch(time: i64) -> [PastTouch; 1] {
        let touch = format!("t{}", time % 5).into();
        [PastTouch { time, touch }]
    }

    proptest! {
        #[test]
        fn a_browser_has_what_its_visits_have_left_while_it_is_among_the_last(
            seals in prop::collection::vec((0..6_u64, 0..400_u64), 1..60),
        ) {
            let settings = Settings { look_back: 1_500, browsers: 3 * 256, ..Settings::default() };
            let mut pasts = Pasts::of_browsers(&settings);
            let mut now = 10_000;
            let mut expected: BTreeMap<Key, (Tick, Past)> = BTreeMap::new();
            for (browser, later) in seals {
                now += later;
                let key = [0, browser];
                pasts.add(9, key, now, &touch(now as i64));
                let own = expected.entry(key).or_default();
                own.0 = now;
                own.1.add(&touch(now as i64));
                expected.retain(|_, (sealed, _)| *sealed + 1_500 >= now);
                while expected.len() > 3 {
                    let first = expected.iter().map(|(key, (sealed, _))| (*sealed, *key)).min();
                    expected.remove(&first.unwrap().1);
                }
                let mut again = Pasts::of_browsers(&settings);
                for (key, own) in pasts.shard(9) {
                    again.restore(9, *key, own.clone());
                }
                for pasts in [&pasts, &again] {
                    prop_assert_eq!(pasts.len(), expected.len());
                    for browser in 0..6 {
                        let own = expected.get(&[0, browser]);
                        let own = own.map_or(&[][..], |(_, past)| past.touches());
                        prop_assert_eq!(pasts.of(9, &[0, browser]), own);
                    }
                }
            }
        }
    }
}
