//! Things by browser, in parts: what is done to all of them can be done a part at a time, and others have
//! the thread in between.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

/// A browser's key.
pub type Key = [u64; 2];

/// A power of two. Of a million browsers each part has a thousand.
pub const PARTS: usize = 1_024;

/// A part: some of the browsers, and of each its own.
#[derive(Debug)]
pub struct Part<V>(HashTable<(Key, V)>);

impl<V> Part<V> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.0.iter().map(|(key, own)| (key, own))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (&Key, &mut V)> {
        self.0.iter_mut().map(|(key, own)| (&*key, own))
    }

    pub fn retain(&mut self, mut stays: impl FnMut(&Key, &mut V) -> bool) {
        self.0.retain(|(key, own)| stays(key, own));
    }
}

/// Things by browser, parted by the first bits of the browsers' keys.
#[derive(Debug)]
pub struct ByBrowser<V>(Vec<Part<V>>);

/// Where something of a browser was found. A hint: it may have moved, and [`ByBrowser::at`] sees that.
#[derive(Clone, Copy, Debug)]
pub struct Slot {
    part: u32,
    bucket: u32,
}

impl<V> Default for ByBrowser<V> {
    fn default() -> ByBrowser<V> {
        ByBrowser((0..PARTS).map(|_| Part(HashTable::new())).collect())
    }
}

/// Browser keys are hashes already. The table places them by other bits than those that part them.
fn hash(key: &Key) -> u64 {
    key[0]
}

fn part(key: &Key) -> usize {
    (key[1] >> (64 - PARTS.ilog2())) as usize
}

impl<V> ByBrowser<V> {
    pub fn get(&self, key: &Key) -> Option<&V> {
        let own = self.0[part(key)].0.find(hash(key), |(own, _)| own == key);
        own.map(|(_, own)| own)
    }

    pub fn get_mut(&mut self, key: &Key) -> Option<&mut V> {
        let part = &mut self.0[part(key)].0;
        let own = part.find_mut(hash(key), |(own, _)| own == key);
        own.map(|(_, own)| own)
    }

    /// Where a browser's own is, for whoever looks at it again and again.
    pub fn slot(&self, key: &Key) -> Option<Slot> {
        let part = part(key);
        let bucket = self.0[part]
            .0
            .find_bucket_index(hash(key), |(own, _)| own == key)?;
        Some(Slot {
            part: part as u32,
            bucket: u32::try_from(bucket).ok()?,
        })
    }

    /// A browser's own, if it is still there.
    pub fn at(&self, slot: Slot, key: &Key) -> Option<&V> {
        let bucket = self.0[slot.part as usize]
            .0
            .get_bucket(slot.bucket as usize);
        bucket.filter(|(own, _)| own == key).map(|(_, own)| own)
    }

    pub fn remove(&mut self, key: &Key) -> Option<V> {
        let part = &mut self.0[part(key)].0;
        let entry = part.find_entry(hash(key), |(own, _)| own == key).ok()?;
        let ((_, own), _) = entry.remove();
        Some(own)
    }

    pub fn insert(&mut self, key: Key, own: V) {
        match self.entry(key) {
            Entry::Occupied(mut entry) => entry.get_mut().1 = own,
            Entry::Vacant(entry) => {
                entry.insert((key, own));
            }
        }
    }

    /// A browser's own, which is made if there is none; `slot` is where it was, if it was anywhere.
    pub fn or_insert_with(
        &mut self,
        key: Key,
        slot: Option<Slot>,
        new: impl FnOnce() -> V,
    ) -> &mut V {
        if let Some(slot) = slot.filter(|slot| self.at(*slot, &key).is_some()) {
            let part = &mut self.0[slot.part as usize].0;
            let bucket = part.get_bucket_mut(slot.bucket as usize);
            return &mut bucket.expect("it is there").1;
        }
        let entry = self.entry(key).or_insert_with(|| (key, new()));
        &mut entry.into_mut().1
    }

    fn entry(&mut self, key: Key) -> Entry<'_, (Key, V)> {
        let part = &mut self.0[part(&key)].0;
        part.entry(hash(&key), |(own, _)| *own == key, |(own, _)| hash(own))
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(Part::len).sum()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Key, &V)> {
        self.0.iter().flat_map(Part::iter)
    }

    pub fn parts(&self) -> &[Part<V>] {
        &self.0
    }

    pub fn parts_mut(&mut self) -> &mut [Part<V>] {
        &mut self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever has come and gone, a slot that was found gives a browser's own, or nothing.
        #[test]
        fn each_browser_has_its_own(steps in prop::collection::vec((0_u64..60, 0..4), 0..400)) {
            let mut browsers: ByBrowser<u64> = ByBrowser::default();
            let mut all = std::collections::BTreeMap::new();
            let mut slots = std::collections::BTreeMap::new();
            for (n, (name, what)) in (0..).zip(steps) {
                // Of some hashes are alike, and of some parts.
                let key = [name % 7, ((name / 30) << 60) | name];
                match what {
                    0 => {
                        browsers.insert(key, n);
                        all.insert(key, n);
                    }
                    1 => prop_assert_eq!(browsers.remove(&key), all.remove(&key)),
                    2 => {
                        let slot = slots.get(&key).copied();
                        let own = *browsers.or_insert_with(key, slot, || n);
                        prop_assert_eq!(own, *all.entry(key).or_insert(n));
                    }
                    _ => {
                        let slot = browsers.slot(&key);
                        prop_assert_eq!(slot.is_some(), all.contains_key(&key));
                        slots.extend(slot.map(|slot| (key, slot)));
                    }
                }
                prop_assert_eq!(browsers.get(&key), all.get(&key));
                for (key, slot) in &slots {
                    if let Some(own) = browsers.at(*slot, key) {
                        prop_assert_eq!(Some(own), all.get(key));
                    }
                }
                prop_assert_eq!(browsers.len(), all.len());
            }
        }
    }
}
