//! Runtime.

pub mod generate;
