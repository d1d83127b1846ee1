//! Fragments.

pub mod enrich;
