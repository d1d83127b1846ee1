//! A map that forgets, for answers that can always be worked out again.
//!
//! Two generations: answers go into the young one; when that is full it becomes
//! the old one, and what was old is forgotten. What is asked for in between
//! moves to the young one and so survives. Thus the keys in steady use stay, at
//! the price of one comparison a look-up, without a list or a clock. A flood of
//! new keys costs their answers, never more memory.

use hashbrown::HashMap;
use hashbrown::hash_map::EntryRef;

/// Answers by string, at most two generations of them.
///
/// A generation is full at `max_entries`, or when its keys and answers take
/// `max_bytes`. Memory is therefore at most twice (`max_bytes` + one answer + a
/// table of `max_entries`). Hashing is keyed by a random seed of the process.
pub(super) struct Cache<V> {
    young: HashMap<Box<str>, V>,
    old: HashMap<Box<str>, V>,
    /// Bytes that the young generation's keys and answers take on the heap.
    bytes: usize,
    max_entries: usize,
    max_bytes: usize,
    /// Bytes that an answer takes outside of itself.
    weight: fn(&V) -> usize,
}

impl<V> Cache<V> {
    pub(super) fn new(max_entries: usize, max_bytes: usize, weight: fn(&V) -> usize) -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
            bytes: 0,
            max_entries,
            max_bytes,
            weight,
        }
    }

    /// An empty cache of the same size.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.max_entries, self.max_bytes, self.weight)
    }

    /// The answer to `key`, by `answer` if it is not known.
    pub(super) fn get_or_insert_with(&mut self, key: &str, answer: impl FnOnce() -> V) -> &V {
        if self.young.len() >= self.max_entries || self.bytes >= self.max_bytes {
            std::mem::swap(&mut self.young, &mut self.old);
            self.young.clear();
            self.bytes = 0;
        }
        match self.young.entry_ref(key) {
            EntryRef::Occupied(known) => known.into_mut(),
            EntryRef::Vacant(place) => {
                let value = self.old.remove(key).unwrap_or_else(answer);
                self.bytes += key.len() + (self.weight)(&value);
                place.insert_with_key(key.into(), value)
            }
        }
    }

    /// How many answers are held.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_known_answer_is_not_worked_out_again() {
        let mut cache = Cache::new(4, 1000, |_| 0);
        assert_eq!(*cache.get_or_insert_with("a", || 1), 1);
        assert_eq!(*cache.get_or_insert_with("a", || panic!("known")), 1);
    }

    #[test]
    fn what_is_in_use_survives_any_flood() {
        let mut cache = Cache::new(4, 1000, |_| 0);
        cache.get_or_insert_with("a", || 0);
        for flood in 1..100 {
            cache.get_or_insert_with(&flood.to_string(), || flood);
            cache.get_or_insert_with("a", || panic!("forgotten at {flood}"));
        }
        assert!(cache.len() <= 8);
    }

    #[test]
    fn long_keys_fill_a_generation_before_many_do() {
        let mut cache = Cache::new(1000, 100, |_| 0);
        for flood in 0..100 {
            cache.get_or_insert_with(&format!("{flood:0>60}"), || flood);
        }
        assert!(cache.len() <= 4);
    }

    proptest! {
        #[test]
        fn forgetting_never_changes_an_answer(
            keys in prop::collection::vec("[a-d]{0,3}", 0..200),
            max_entries in 1..6usize,
            max_bytes in 0..20usize,
        ) {
            let answer = |key: &str| key.chars().rev().collect::<String>();
            let mut cache = Cache::new(max_entries, max_bytes, String::len);
            for key in &keys {
                prop_assert_eq!(cache.get_or_insert_with(key, || answer(key)), &answer(key));
                prop_assert!(cache.len() <= 2 * max_entries);
            }
        }
    }
}
