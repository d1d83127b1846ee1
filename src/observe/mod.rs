//! How a running job is looked at and told things: `visitflow status`, `stop` and `journal`, and its
//! metrics for Prometheus. For people and programs beside the job. Everything but a stop only reads,
//! and works on what the job has written or counted anyway: none of it makes the job wait.

pub mod exposition;
pub mod journal;
pub mod metrics;
pub mod report;
pub mod serve;
mod status;
pub mod stop;

use std::io;

use thiserror::Error;

use crate::job::Job;
use crate::log::{Topic, end_offset};
use crate::run::status::PartitionStatus;

/// Why metrics cannot be served.
#[derive(Debug, Error)]
pub enum ObserveError {
    /// The address.
    #[error("observe.metrics: {address}{}: {problem}; expected a free port of this host", plus(*process))]
    Address {
        /// The setting.
        address: String,
        /// Which process; its port is so much higher.
        process: usize,
        /// What is wrong.
        problem: String,
    },
    /// No thread.
    #[error("observe.metrics: no thread can be had to serve them: {0}")]
    Thread(#[source] io::Error),
}

fn plus(process: usize) -> String {
    match process {
        0 => String::new(),
        process => format!(" and {process} (process {process})"),
    }
}

/// How many records of a partition are not read yet, if that can be said: in Kafka as a broker has
/// said last, in the embedded log as one sees. There it reads the headers of the last segment.
pub fn unread(job: &Job, partition: &PartitionStatus) -> Option<u64> {
    let Some(log) = &job.source.log else {
        return partition.unread;
    };
    let topic = Topic::open(log, &job.source.topic).ok()?;
    let end = end_offset(&topic, partition.partition).ok()?;
    Some(end.saturating_sub(partition.offset))
}
