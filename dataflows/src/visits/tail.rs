//! The tail: the positions of all measurements that something still to come might precede or
//! repeat, of all browsers in one ring, linked browser by browser from the last backwards.
//!
//! What the horizon has passed leaves at the front in the order of arrival; nobody has to be told,
//! since a link into what has left is seen to be one. 40 bytes a measurement of the last
//! `max_delay`; adding and leaving touch no other memory.

use std::collections::{HashMap, VecDeque};

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
    copying: Option<Copying>,
}

/// A copy that has been begun: of the keys before a place, as they were then.
#[derive(Debug)]
struct Copying {
    until: Seq,
    /// The first that is not copied.
    next: Seq,
    copied: CopiedTail,
    /// Of those that are not copied the ones that have been linked anew since, as they were.
    changed: HashMap<Seq, Key>,
}

/// So many keys of a copy are in one list.
const TOGETHER: usize = if cfg!(test) { 5 } else { 4_096 };

/// A copy of the keys of a ring, as they were at one moment.
#[derive(Debug, Default)]
pub struct CopiedTail {
    base: Seq,
    /// As long as [`TOGETHER`], all but the last: so no memory is asked for at once that is long.
    lists: Vec<Vec<Key>>,
}

impl CopiedTail {
    /// The key at a place, if it was in the ring.
    pub fn get(&self, seq: Seq) -> Option<&Key> {
        let n = usize::try_from(seq.wrapping_sub(self.base)).ok()?;
        self.lists.get(n / TOGETHER)?.get(n % TOGETHER)
    }
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
        let key = self
            .keys
            .get_mut(usize::try_from(seq.wrapping_sub(self.base)).ok()?)?;
        if let Some(copying) = &mut self.copying
            && (copying.next..copying.until).contains(&seq)
        {
            copying.changed.entry(seq).or_insert(*key);
        }
        Some(key)
    }

    /// Lets go of what lies before the horizon, as far as it stands at the front. A measurement
    /// from ahead of its time holds up those that came after it, for `max_ahead` at most; so does one
    /// that has yet to be copied.
    #[inline]
    pub fn settle(&mut self, horizon: i64) {
        let end = self
            .copying
            .as_ref()
            .map_or(Seq::MAX, |copying| copying.next);
        while self.base < end && self.keys.front().is_some_and(|key| key.at.time < horizon) {
            self.keys.pop_front();
            self.base += 1;
        }
        // Returns the memory of a burst, in steps that cost little on average.
        if self.keys.capacity() > 1 << 16 && self.keys.len() < self.keys.capacity() / 8 {
            self.keys.shrink_to(self.keys.len() * 2);
        }
    }

    /// Begins a copy of all keys as they are now, which [`Tail::copy`] then makes.
    pub fn begin_copy(&mut self) {
        self.copying = Some(Copying {
            until: self.next(),
            next: self.base,
            copied: CopiedTail {
                base: self.base,
                lists: Vec::new(),
            },
            changed: HashMap::new(),
        });
    }

    /// Goes on with the copy until it has copied about `bytes` more, of which it takes off what it
    /// has; the copy, when it is whole. None if none is under way.
    pub fn copy(&mut self, bytes: &mut usize) -> Option<CopiedTail> {
        let copying = self.copying.as_mut()?;
        while *bytes > 0 && copying.next < copying.until {
            let lists = &mut copying.copied.lists;
            if lists.last().is_none_or(|list| list.len() == TOGETHER) {
                lists.push(Vec::with_capacity(TOGETHER));
            }
            let list = lists.last_mut()?;
            let rest = (copying.until - copying.next) as usize;
            let some = bytes.div_ceil(size_of::<Key>());
            let some = some.min(TOGETHER - list.len()).min(rest);
            // What has yet to be copied has not left.
            let begin = (copying.next - self.base) as usize;
            list.extend(self.keys.range(begin..begin + some));
            copying.next += some as u64;
            *bytes = bytes.saturating_sub(some * size_of::<Key>());
        }
        if copying.next < copying.until {
            return None;
        }
        let Copying {
            mut copied,
            changed,
            ..
        } = self.copying.take()?;
        for (seq, key) in changed {
            let n = (seq - copied.base) as usize;
            copied.lists[n / TOGETHER][n % TOGETHER] = key;
        }
        Some(copied)
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_copy_is_of_the_moment_at_which_it_was_begun(
            // How many keys are added, how far the horizon moves, which are linked anew, and what
            // is copied.
            changes in prop::collection::vec(
                (0..8_u64, 0..6_i64, prop::collection::vec(0..40_u64, 0..4), 0..300_usize, prop::bool::weighted(0.2)),
                1..60,
            ),
        ) {
            let mut tail = Tail::default();
            let (mut horizon, mut number) = (0, 0);
            let mut begun: Option<(Seq, Vec<[u64; 2]>)> = None;
            let words = |key: &Key| [key.at.event[1], key.link];
            let all = |copied: &CopiedTail| {
                let keys = (copied.base..).map_while(|seq| copied.get(seq));
                (copied.base, keys.map(words).collect::<Vec<_>>())
            };
            for (added, passed, linked, mut bytes, begin) in changes {
                for _ in 0..added {
                    number += 1;
                    let at = Position { time: horizon + (number % 9) as i64, event: [0, number] };
                    tail.push(Key { at, link: NONE, before: 0 });
                }
                horizon += passed;
                tail.settle(horizon);
                let base = tail.base;
                for back in linked {
                    if let Some(key) = tail.get_mut(base + back) {
                        number += 1;
                        key.link = number;
                    }
                }
                if begin {
                    tail.begin_copy();
                    begun = Some((tail.base, tail.keys.iter().map(words).collect()));
                }
                if let Some(copied) = tail.copy(&mut bytes) {
                    prop_assert_eq!(begun.take(), Some(all(&copied)));
                }
            }
            let mut rest = usize::MAX;
            tail.settle(i64::MAX);
            if let Some(copied) = tail.copy(&mut rest) {
                prop_assert_eq!(begun.take(), Some(all(&copied)));
            }
            tail.settle(i64::MAX);
            prop_assert_eq!((begun, tail.len()), (None, 0));
        }
    }
}
