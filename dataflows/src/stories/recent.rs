//! What was measured of late, by which a measurement that comes once more with the same bytes is known
//! without a look at all that its browser has.

use std::hash::BuildHasher;

use hashbrown::DefaultHashBuilder;

use crate::batch::Record;
use crate::near;

/// So many are known at most, 1 MB: what comes twice does so soon, most likely.
const MOST: usize = 1 << 17;

/// Hashes of the latest measurements, by those of their identities. A cache: what is not known was
/// there or not.
pub struct Recent {
    hasher: DefaultHashBuilder,
    known: Box<[u64]>,
    /// What is added, while it is looked at.
    added: Vec<(usize, u64)>,
}

impl Recent {
    /// None yet.
    pub fn new() -> Recent {
        Recent {
            hasher: DefaultHashBuilder::default(),
            known: vec![0; MOST].into(),
            added: Vec::new(),
        }
    }

    /// Keeps measurements in mind. Their places are far from each other: all are begun to be loaded before
    /// any is written to, since whatever else is written waits behind that.
    pub fn add(&mut self, records: &[Record<'_>]) {
        let mut added = std::mem::take(&mut self.added);
        added.extend(records.iter().map(|record| {
            let (place, hash) = self.hashes(*record);
            near::bring(&self.known[place]);
            (place, hash)
        }));
        for (place, hash) in added.drain(..) {
            self.known[place] = hash;
        }
        self.added = added;
    }

    /// Whether this measurement was added, with these bytes.
    pub fn has(&self, record: Record<'_>) -> bool {
        let (place, hash) = self.hashes(record);
        self.known[place] == hash
    }

    /// A place by the identity, and a hash of it and the bytes; keyed, since senders choose both.
    fn hashes(&self, record: Record<'_>) -> (usize, u64) {
        let head = record.head;
        let at = self
            .hasher
            .hash_one((head.browser, head.at.time, head.at.event));
        let bytes = self.hasher.hash_one((at, head.schema, record.body));
        (at as usize % MOST, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::Head;

    fn record<'a>(head: &'a Head, body: &'a [u8]) -> Record<'a> {
        Record {
            head,
            browser_id: b"b",
            context: b"",
            body,
        }
    }

    #[test]
    fn only_the_same_bytes_of_the_same_identity_are_known() {
        let mut recent = Recent::new();
        let head = Head::default();
        assert!(!recent.has(record(&head, b"a")));
        recent.add(&[record(&head, b"a")]);
        assert!(recent.has(record(&head, b"a")));
        assert!(!recent.has(record(&head, b"b")));
        let other = Head {
            browser: [0, 1],
            ..head
        };
        assert!(!recent.has(record(&other, b"a")));
        let other = Head { schema: 1, ..head };
        assert!(!recent.has(record(&other, b"a")));
        for n in 0..2 * MOST as u64 {
            let browser = [n, 2];
            recent.add(&[record(&Head { browser, ..head }, b"c")]);
        }
        let known = (0..2 * MOST as u64).filter(|n| {
            let browser = [*n, 2];
            recent.has(record(&Head { browser, ..head }, b"c"))
        });
        assert!((MOST / 4..=MOST).contains(&known.count()));
    }
}
