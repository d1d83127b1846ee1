//! Runtime.

pub mod log;
