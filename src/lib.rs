//! The runtime: where measurements come from, where results go, and the command line. There is no
//! logic about visits here; that is in `visitflow-dataflows`.

pub mod cli;
pub mod job;
pub mod log;
pub mod table;
//! Runtime.

pub mod generate;
