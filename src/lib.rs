//! The runtime: where measurements come from, where results go, and the command line. There is no
//! logic about visits here; that is in `visitflow-dataflows`.

pub mod anonymize;
pub mod cli;
pub mod command;
pub mod crash;
pub mod demo;
pub mod disk;
pub mod generate;
pub mod import;
pub mod interrupt;
pub mod job;
pub mod kafka;
pub mod log;
pub mod memory;
pub mod observe;
pub mod progress;
pub mod recovery;
pub mod run;
pub mod serve;
pub mod shelf;
pub mod show;
pub mod sink;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod table;
pub mod wall;
pub mod why;
