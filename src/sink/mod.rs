//! Sinks: where a job's outputs go. Each takes whole ticks and says, by the frontier of its own
//! output, which ticks it has committed.

pub mod table;
pub mod topic;

use crate::log::LogError;
use crate::table::TableError;
use visitflow_schemas::store::StoreError;

/// What goes wrong in a sink; the job stops with it, and everything committed stays.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// A topic.
    #[error("the output topic {topic}: {source}")]
    Topic {
        /// Its name.
        topic: &'static str,
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
    /// A measurement that was accepted and cannot be read after all.
    #[error("a measurement of schema {schema:016x} was accepted and cannot be written: {detail}")]
    Unreadable {
        /// The fingerprint of its writer's schema.
        schema: u64,
        /// What is wrong.
        detail: String,
    },
}
