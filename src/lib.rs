//! Runtime.

pub mod log;
pub mod cli;
pub mod job;
