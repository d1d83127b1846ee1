//! The bytes of a progress record. Each one says *all* that its transactional ID has ever
//! committed, not only what its transaction adds: so the last record of an ID is enough, whatever
//! compaction has removed and however shards were dealt to workers before.
//!
//! | bytes | |
//! | --- | --- |
//! | 0 | the version, 1 |
//! | 1..9 | incarnation |
//! | 9..17 | session: who wrote it, within the incarnation; 0 for a fence |
//! | 17..25 | sequence: which of the session's batches |
//! | 25..27 | number of shards |
//! | then for each, by shard, 17 bytes | shard (1), tick until which it is committed (8), sum of its output (8) |
//! | the last 4 | CRC-32 of all before |
//!
//! Numbers are little-endian.

use std::collections::BTreeMap;

use super::progress::Done;

const VERSION: u8 = 1;
const HEADER: usize = 27;
const SHARD: usize = 17;
const CHECKSUM: usize = 4;

/// What a transactional ID has committed, and who wrote that last.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) incarnation: u64,
    pub(super) session: u64,
    pub(super) sequence: u64,
    pub(super) shards: BTreeMap<u8, Done>,
}

impl Standing {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.shards.len() * SHARD + CHECKSUM);
        bytes.push(VERSION);
        for number in [self.incarnation, self.session, self.sequence] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend((self.shards.len() as u16).to_le_bytes());
        for (shard, done) in &self.shards {
            bytes.push(*shard);
            bytes.extend(done.until.to_le_bytes());
            bytes.extend(done.sum.to_le_bytes());
        }
        bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
        bytes
    }

    /// Fails with what is wrong with the bytes.
    pub(super) fn decode(bytes: &[u8]) -> Result<Standing, &'static str> {
        match bytes.first() {
            None => return Err("it is empty"),
            Some(&VERSION) => {}
            Some(_) => return Err("its version is not 1; was it written by a later program?"),
        }
        let (body, checksum) = bytes
            .split_last_chunk::<CHECKSUM>()
            .ok_or("it is too short")?;
        if crc32fast::hash(body) != u32::from_le_bytes(*checksum) {
            return Err("its checksum does not match");
        }
        let (header, shards) = body.split_at_checked(HEADER).ok_or("it is too short")?;
        let number = |at: usize| {
            let bytes = header[at..at + 8].try_into();
            u64::from_le_bytes(bytes.expect("8 bytes"))
        };
        let count = u16::from_le_bytes([header[25], header[26]]);
        if shards.len() != usize::from(count) * SHARD {
            return Err("its length does not match its number of shards");
        }
        let mut standing = Standing {
            incarnation: number(1),
            session: number(9),
            sequence: number(17),
            shards: BTreeMap::new(),
        };
        for shard in shards.chunks_exact(SHARD) {
            let number = |at: usize| {
                let bytes = shard[at..at + 8].try_into();
                u64::from_le_bytes(bytes.expect("8 bytes"))
            };
            let done = Done {
                until: number(1),
                sum: number(9),
            };
            let last = standing.shards.last_key_value();
            if last.is_some_and(|(last, _)| *last >= shard[0]) {
                return Err("its shards are not in order");
            }
            standing.shards.insert(shard[0], done);
        }
        Ok(standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn standings() -> impl Strategy<Value = Standing> {
        let done = any::<(u64, u64)>().prop_map(|(until, sum)| Done { until, sum });
        let shards = proptest::collection::btree_map(any::<u8>(), done, 0..=256);
        (any::<[u64; 3]>(), shards).prop_map(|([incarnation, session, sequence], shards)| {
            Standing {
                incarnation,
                session,
                sequence,
                shards,
            }
        })
    }

    proptest! {
        #[test]
        fn what_is_decoded_is_what_was_encoded(standing in standings()) {
            prop_assert_eq!(Standing::decode(&standing.encode()), Ok(standing));
        }

        #[test]
        fn a_changed_byte_is_noticed(standing in standings(), at: prop::sample::Index, by in 1..=255u8) {
            let mut bytes = standing.encode();
            let at = at.index(bytes.len());
            bytes[at] ^= by;
            prop_assert!(Standing::decode(&bytes).is_err());
        }

        #[test]
        fn a_cut_is_noticed(standing in standings(), at: prop::sample::Index) {
            let bytes = standing.encode();
            prop_assert!(Standing::decode(&bytes[..at.index(bytes.len())]).is_err());
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes: Vec<u8>) {
            let _ = Standing::decode(&bytes);
        }

        #[test]
        fn any_bytes_with_a_checksum_decode_to_what_encodes_to_them(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
            if let Ok(standing) = Standing::decode(&bytes) {
                prop_assert_eq!(standing.encode(), bytes);
            }
        }
    }
}
