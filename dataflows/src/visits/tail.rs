//! The tail: the positions of all measurements that something still to come might precede or
//! repeat, of all browsers in one ring, linked browser by browser from the last backwards.
//!
//! What the horizon has passed leaves at the front in the order of arrival; nobody has to be told,
//! since a link into what has left is seen to be one. 40 bytes a measurement of the last
//! `max_delay`; adding and leaving touch no other memory.

use std::collections::VecDeque;

use crate::visit::Position;

/// Where in the ring: counted from the first measurement ever.
pub type Seq = u64;

/// No place in the ring.
pub const NONE: Seq = u64::MAX;

/// A measurement of the tail.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its position.
    pub at: Position,
    /// The place of its predecessor in its browser's order, if that is in the ring still.
    pub link: Seq,
    /// The event time of that predecessor, which outlives it; `i64::MIN` for none.
    pub before: i64,
}

/// The ring.
#[derive(Debug, Default)]
pub struct Tail {
    keys: VecDeque<Key>,
    base: Seq,
}

impl Tail {
    /// The place that the next key will get.
    pub fn next(&self) -> Seq {
        self.base + self.keys.len() as u64
    }

    /// Adds a key.
    #[inline]
    pub fn push(&mut self, key: Key) -> Seq {
        let seq = self.next();
        self.keys.push_back(key);
        seq
    }

    /// The key at a place, unless it has left.
    #[inline]
    pub fn get(&self, seq: Seq) -> Option<&Key> {
        self.keys
            .get(usize::try_from(seq.wrapping_sub(self.base)).ok()?)
    }

    /// The same, to be linked anew.
    pub fn get_mut(&mut self, seq: Seq) -> Option<&mut Key> {
        self.keys
            .get_mut(usize::try_from(seq.wrapping_sub(self.base)).ok()?)
    }

    /// Lets go of what lies before the horizon, as far as it stands at the front. A measurement
    /// from ahead of its time holds up those that came after it, for `max_ahead` at most.
    #[inline]
    pub fn settle(&mut self, horizon: i64) {
        while self.keys.front().is_some_and(|key| key.at.time < horizon) {
            self.keys.pop_front();
            self.base += 1;
        }
        // Returns the memory of a burst, in steps that cost little on average.
        if self.keys.capacity() > 1 << 16 && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
    }

    /// A copy of all keys, and the place of the first.
    pub fn copy(&self) -> (Seq, Vec<Key>) {
        let (front, back) = self.keys.as_slices();
        let mut keys = Vec::with_capacity(self.keys.len());
        keys.extend_from_slice(front);
        keys.extend_from_slice(back);
        (self.base, keys)
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}
