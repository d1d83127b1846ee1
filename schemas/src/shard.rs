//! Which of the 256 shards a browser belongs to, for everything that deals work or data out by
//! browser. It promises Kafka's own hash (`murmur2`, made positive), so that a topic whose number
//! of partitions divides 256 is co-partitioned with what Java's default partitioner makes of the
//! same keys. It is not a hash for tables: it is weak against chosen keys.

use std::fmt;

/// How many shards there are. It never changes: durable state is kept by shard.
pub const SHARDS: u32 = 256;

/// Kafka's `Utils.murmur2` of `key`, bit for bit (there it is an `int`). Costs about a
/// nanosecond for each 4 bytes.
///
/// ```
/// use visitflow_schemas::shard::murmur2;
/// assert_eq!(murmur2(b"foobar") as i32, -790332482);
/// ```
#[must_use]
pub fn murmur2(key: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    // Kafka hashes a length that fits an `int`; a longer key cannot reach it.
    let mut h = 0x9747_b28c ^ (key.len() as u32);
    let (words, tail) = key.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (i, &byte) in tail.iter().enumerate() {
            h ^= u32::from(byte) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// One of the [`SHARDS`] that browsers are dealt to. A function of the browser's ID alone, so it
/// is the same in every process, on every machine and in every version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u8);

impl Shard {
    /// The shard of a browser's ID, or of any other key: `toPositive(murmur2(key)) mod 256`.
    ///
    /// ```
    /// use visitflow_schemas::shard::Shard;
    /// assert_eq!(Shard::of(b"abc"), Shard::of(b"abc"));
    /// ```
    #[must_use]
    pub fn of(key: &[u8]) -> Shard {
        // The sign bit that Kafka's `toPositive` clears is not among the lowest eight.
        Shard(murmur2(key) as u8)
    }

    /// The partition, of `partitions` in all, that holds this shard: `shard mod partitions`. It
    /// is the one that Kafka's default partitioner chooses whenever `partitions` divides 256;
    /// over 256, the partitions from 256 on stay empty.
    ///
    /// # Panics
    /// When `partitions` is 0: no topic is without partitions.
    #[must_use]
    pub fn partition(self, partitions: u32) -> u32 {
        u32::from(self.0) % partitions
    }
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn murmur2_gives_the_values_of_kafkas_own_test() {
        // UtilsTest.testMurmur2 in Apache Kafka.
        for (key, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (
                "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8",
                -58_897_971,
            ),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()) as i32, hash, "{key}");
        }
    }

    proptest! {
        #[test]
        fn partitions_that_divide_the_shards_are_kafkas(key: Vec<u8>, power in 0u32..=8) {
            let partitions = 1 << power;
            let kafka = (murmur2(&key) & 0x7fff_ffff) % partitions;
            prop_assert_eq!(Shard::of(&key).partition(partitions), kafka);
        }

        #[test]
        fn a_partition_is_always_there(key: Vec<u8>, partitions in 1u32..1000) {
            prop_assert!(Shard::of(&key).partition(partitions) < partitions);
        }
    }
}
