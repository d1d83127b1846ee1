//! How a running job is looked at and told things: `visitflow status`, `stop` and `journal`, and the
//! text of its metrics for Prometheus, which [`serve`](crate::serve) answers. For people and programs beside the job. Everything but a stop only reads,
//! and works on what the job has written or counted anyway: none of it makes the job wait.

pub mod exposition;
pub mod journal;
pub mod metrics;
pub mod report;
mod status;
pub mod stop;

use crate::job::Job;
use crate::log::{Topic, end_offset};
use crate::run::status::PartitionStatus;

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
