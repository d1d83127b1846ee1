//! Runtime.

pub mod log;
pub mod cli;
pub mod job;
pub mod table;
