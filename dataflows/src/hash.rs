//! A hash that is the same in every program and on every machine, for what is kept and for whose shard
//! something is. Whoever sends can choose what has the same one: nothing may depend on that it differs.

/// FNV-1a.
#[must_use]
pub fn fnv(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}
