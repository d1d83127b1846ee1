//! Snapshots on disk: each worker's state as of a tick, in one file, by shard, so that a later start
//! with another number of workers finds what belongs to each.
//!
//! [`part`] is the file, [`page`] the rows in it, [`rows`] what the rows are.

pub mod page;
pub mod part;
pub mod rows;
