//! Runtime.
pub mod cli;
pub mod job;
