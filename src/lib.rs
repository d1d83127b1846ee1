//! The runtime: where measurements come from, where results go, and the command line. There is no
//! logic about visits here; that is in `visitflow-dataflows`.

pub mod anonymize;
pub mod cli;
pub mod demo;
pub mod generate;
pub mod import;
pub mod interrupt;
pub mod job;
pub mod kafka;
pub mod log;
pub mod progress;
pub mod run;
pub mod show;
pub mod sink;
pub mod source;
pub mod table;
pub mod wall;
pub mod why;
