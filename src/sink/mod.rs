//! Sinks: where a job's outputs go. Each takes whole ticks and says, by the frontier of its own
//! output, which ticks it has committed.

pub mod attribution;
pub mod embedded;
pub mod kafka;
pub mod naming;
pub mod table;
pub mod topics;

use visitflow_dataflows::visit::{self, bytes_of_words};
use visitflow_dataflows::visits::{Change, Lifecycle};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::records::{EndReason, VisitEnded, VisitRevised, VisitStarted, browser_text};
use visitflow_schemas::store::StoreError;

use crate::log::LogError;
pub use crate::recovery::manifest::Position;
use crate::table::TableError;

/// What goes wrong in a sink; the job stops with it, and everything committed stays.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A topic.
    #[error("the output topic {topic}: {source}")]
    Topic {
        /// Its name.
        topic: String,
        /// What.
        source: LogError,
    },
    /// A table.
    #[error("the table {table}: {source}")]
    Table {
        /// Its name.
        table: &'static str,
        /// What.
        source: TableError,
    },
    /// A schema store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The measurements of open visits on disk.
    #[error("the measurements of open visits: {0}")]
    Runs(#[from] crate::store::StoreError),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] crate::kafka::KafkaError),
    /// What was made again is not what was committed.
    #[error(
        "the output of partition {partition} up to tick {tick}, made again, is not what was committed (sum {again:016x}, \
         expected {committed:016x}): something that is not in the log has changed, or this is a fault of the program"
    )]
    OtherOutput {
        /// Of the output topics.
        partition: usize,
        /// Up to where.
        tick: u64,
        /// The sum that was committed.
        committed: u64,
        /// The sum now.
        again: u64,
    },
    /// A message of a tick that is committed without it.
    #[error(
        "a message for the topic {topic} of tick {tick} came when all before {until} was committed; expected every \
         message before the frontier has passed its tick. This is a fault of the fragment that says it"
    )]
    Behind {
        /// The topic.
        topic: String,
        /// The message's.
        tick: u64,
        /// Up to where all is committed.
        until: u64,
    },
    /// A measurement that was accepted and cannot be read after all.
    #[error("a measurement of schema {schema:016x} was accepted and cannot be written: {detail}")]
    Unreadable {
        /// The fingerprint of its writer's schema.
        schema: u64,
        /// What is wrong.
        detail: String,
    },
}

/// Appends the message of what became known of a visit.
pub fn encode_lifecycle(said: &Lifecycle, out: &mut Vec<u8>) {
    let browser_id = &browser_text(&said.browser_id);
    match said.change {
        Change::Started { visit, started } => {
            VisitStarted {
                visit_id: bytes_of_words(visit),
                browser_id,
                started,
            }
            .encode_message(out);
        }
        Change::Revised {
            from,
            from_started,
            into,
            into_started,
            first,
            until,
        } => VisitRevised {
            browser_id,
            from: bytes_of_words(from),
            from_started,
            into: bytes_of_words(into),
            into_started,
            first: (first.time, EventKey(bytes_of_words(first.event))),
            until: Some((until.time, EventKey(bytes_of_words(until.event)))),
        }
        .encode_message(out),
        Change::Ended {
            visit,
            started,
            last_seen,
            measurements,
            reason,
        } => VisitEnded {
            visit_id: bytes_of_words(visit),
            browser_id,
            started,
            last_seen,
            measurements: measurements.into(),
            reason: end_reason(reason),
        }
        .encode_message(out),
    }
}

/// The reason as outputs have it.
pub fn end_reason(reason: visit::EndReason) -> EndReason {
    match reason {
        visit::EndReason::Inactivity => EndReason::Inactivity,
        visit::EndReason::Length => EndReason::Length,
        visit::EndReason::Size => EndReason::Size,
    }
}
