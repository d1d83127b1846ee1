//! A shop for tests of whole dataflows: what arrives of it, the visits of that by a plain walk, and what a
//! run keeps for another to go on from.

pub mod arrival;
pub mod store;
pub mod walk;
