//! An index from browsers' keys to their slots: open addressing with linear probing, eight bytes an
//! entry, so that a look-up mostly touches one line of the cache, and several can be under way at
//! once.
//!
//! Where a key goes depends on a secret, since whoever sends measurements chooses the IDs and could
//! let them all collide. Nothing that is said depends on it.

use std::hash::{BuildHasher, RandomState};

use crate::near;

/// Entries at least; the number is a power of two.
const LEAST: usize = 8;

/// The secret.
#[derive(Clone, Copy, Debug)]
pub struct Secret {
    add: u64,
    multiply: u64,
}

impl Secret {
    /// A new one.
    pub fn random() -> Secret {
        let random = RandomState::new();
        Secret {
            add: random.hash_one(0),
            multiply: random.hash_one(1) | 1,
        }
    }
}

/// The index. Of a key it knows 32 bits of a hash only: whoever asks compares.
#[derive(Debug)]
pub struct Index {
    secret: Secret,
    /// The hash above, the slot and one below; 0 for none. Right behind its home, `hash >> shift`,
    /// with no empty entry between.
    entries: Vec<u64>,
    shift: u32,
    len: usize,
}

impl Index {
    /// An empty one.
    pub fn new(secret: Secret) -> Index {
        Index {
            secret,
            entries: vec![0; LEAST],
            shift: 32 - LEAST.trailing_zeros(),
            len: 0,
        }
    }

    #[inline]
    fn hash(&self, key: [u64; 2]) -> u32 {
        let mixed = (key[0] ^ self.secret.add).wrapping_mul(self.secret.multiply);
        (mixed >> 32) as u32
    }

    /// Brings near where the search for a key begins.
    #[inline]
    pub fn bring(&self, key: [u64; 2]) {
        near::bring(&self.entries[(self.hash(key) >> self.shift) as usize]);
    }

    /// The slots that may be the key's, the likeliest first.
    #[inline]
    pub fn candidates(&self, key: [u64; 2]) -> impl Iterator<Item = u32> + '_ {
        let hash = self.hash(key);
        let mask = self.entries.len() - 1;
        let mut at = (hash >> self.shift) as usize;
        std::iter::from_fn(move || {
            loop {
                let entry = self.entries[at & mask];
                if entry == 0 {
                    return None;
                }
                at += 1;
                if (entry >> 32) as u32 == hash {
                    return Some(entry as u32 - 1);
                }
            }
        })
    }

    /// Adds a key that is not there. A slot is less than `u32::MAX`.
    pub fn add(&mut self, key: [u64; 2], slot: u32) {
        self.len += 1;
        if self.len * 4 > self.entries.len() * 3 {
            self.resize(self.entries.len() * 2);
        }
        let entry = u64::from(self.hash(key)) << 32 | u64::from(slot + 1);
        self.put(entry);
    }

    /// Removes a key that has this slot.
    pub fn remove(&mut self, key: [u64; 2], slot: u32) {
        let hash = self.hash(key);
        let entry = u64::from(hash) << 32 | u64::from(slot + 1);
        let mask = self.entries.len() - 1;
        let mut gap = (hash >> self.shift) as usize;
        while self.entries[gap] != entry {
            if self.entries[gap] == 0 {
                return;
            }
            gap = (gap + 1) & mask;
        }
        // What lies behind moves up, unless that would be before its home (Knuth, 6.4, algorithm R).
        let mut at = gap;
        loop {
            at = (at + 1) & mask;
            let entry = self.entries[at];
            if entry == 0 {
                break;
            }
            let home = (entry >> 32 >> self.shift) as usize;
            if (at.wrapping_sub(home) & mask) >= (at.wrapping_sub(gap) & mask) {
                self.entries[gap] = entry;
                gap = at;
            }
        }
        self.entries[gap] = 0;
        self.len -= 1;
        if self.entries.len() > LEAST && self.len < self.entries.len() / 8 {
            self.resize(self.entries.len() / 2);
        }
    }

    fn put(&mut self, entry: u64) {
        let mask = self.entries.len() - 1;
        let mut at = (entry >> 32 >> self.shift) as usize;
        while self.entries[at] != 0 {
            at = (at + 1) & mask;
        }
        self.entries[at] = entry;
    }

    fn resize(&mut self, entries: usize) {
        let before = std::mem::replace(&mut self.entries, vec![0; entries]);
        self.shift = 32 - entries.trailing_zeros();
        for entry in before.into_iter().filter(|entry| *entry != 0) {
            self.put(entry);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_finds_what_is_there_and_nothing_that_has_gone(
            changes in prop::collection::vec((any::<bool>(), 0..300_u64), 0..2_000),
            // With a poor secret, keys crowd together and wrap around at the end.
            multiply in prop_oneof![Just(1_u64 << 33 | 1), Just(u64::MAX), any::<u64>()],
        ) {
            let mut index = Index::new(Secret { add: 7, multiply: multiply | 1 });
            let mut expected = BTreeMap::new();
            for (slot, (add, key)) in changes.into_iter().enumerate() {
                match (add, expected.get(&key).copied()) {
                    (true, None) => {
                        index.add([key, 0], slot as u32);
                        expected.insert(key, slot as u32);
                    }
                    (false, Some(slot)) => {
                        index.remove([key, 0], slot);
                        expected.remove(&key);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(index.len, expected.len());
            for key in 0..300 {
                let found: Vec<_> = index.candidates([key, 0]).collect();
                match expected.get(&key) {
                    Some(slot) => prop_assert!(found.contains(slot)),
                    None => prop_assert!(found.iter().all(|slot| expected.values().any(|s| s == slot))),
                }
            }
            for (key, slot) in expected {
                index.remove([key, 0], slot);
            }
            prop_assert!(index.entries.iter().all(|entry| *entry == 0));
        }
    }
}
