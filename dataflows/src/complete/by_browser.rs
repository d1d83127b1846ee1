//! Things by browser, in parts: what is done to all of them can be done a part at a time, and others have
//! the thread in between.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A browser's key.
pub type Key = [u64; 2];

/// A power of two. Of a million browsers each part has a thousand.
pub const PARTS: usize = 1_024;

/// A part: some of the browsers, and of each its own.
pub type Part<V> = HashMap<Key, V, BuildHasherDefault<KeyHasher>>;

/// Things by browser, parted by the first bits of the browsers' keys.
#[derive(Debug)]
pub struct ByBrowser<V>(Vec<Part<V>>);

impl<V> Default for ByBrowser<V> {
    fn default() -> ByBrowser<V> {
        ByBrowser((0..PARTS).map(|_| Part::default()).collect())
    }
}

impl<V> ByBrowser<V> {
    /// Which part a browser is in. The map places it by other bits.
    fn part(key: &Key) -> usize {
        (key[1] >> (64 - PARTS.ilog2())) as usize
    }

    pub fn get(&self, key: &Key) -> Option<&V> {
        self.0[ByBrowser::<V>::part(key)].get(key)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        self.0[ByBrowser::<V>::part(key)].get_mut(key)
    }

    pub fn remove(&mut self, key: &Key) -> Option<V> {
        self.0[ByBrowser::<V>::part(key)].remove(key)
    }

    pub fn insert(&mut self, key: Key, own: V) {
        self.0[ByBrowser::<V>::part(&key)].insert(key, own);
    }

    /// A browser's own, which is made if there is none.
    pub fn or_insert_with(&mut self, key: Key, new: impl FnOnce() -> V) -> &mut V {
        let part = &mut self.0[ByBrowser::<V>::part(&key)];
        part.entry(key).or_insert_with(new)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(HashMap::len).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.0.iter().flatten()
    }

    pub fn parts(&self) -> &[Part<V>] {
        &self.0
    }

    pub fn parts_mut(&mut self) -> &mut [Part<V>] {
        &mut self.0
    }
}

/// Browser keys are hashes already.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        let word = bytes
            .first_chunk()
            .map_or(0, |word| u64::from_ne_bytes(*word));
        self.0 = self.0.rotate_left(32) ^ word;
    }
    fn write_u64(&mut self, word: u64) {
        self.0 = self.0.rotate_left(32) ^ word;
    }
    fn write_usize(&mut self, _: usize) {}
}
