//! Records.

pub mod shard;
