//! Kafka, as plain structs that know no dataflow: the topic that measurements are read from, the
//! topics that results are written to, and the topic that says how far they are written.
//!
//! [`Consumer`] reads partitions from offsets that its caller chose, never from any other, and
//! says of each partition when a broker last answered that nothing more is there. [`Transactions`]
//! writes whole batches, each exactly once, through crashes and outages of any length; [`fence`]
//! keeps everybody who came before from writing any more, and says what they have committed.
//! [`Appender`] writes without transactions.
//! It is not a consumer group: nobody but the caller deals out partitions or stores offsets.
//!
//! Brokers may be away for any time. That is never an error by itself: what reads has no records
//! and no answers, what writes waits, and [`Patience`] says what is waited for.

mod admin;
mod appender;
mod batch;
mod config;
mod consumer;
mod context;
mod error;
mod fence;
mod identity;
mod offsets;
mod patience;
mod producer;
mod progress;
mod reader;
mod record;
mod settled;
mod tail;
mod tls;
mod transactions;
mod watch;
mod watched;

pub use admin::{Topic, create, delete_records, describe, grow, settings_of};
pub use appender::Appender;
pub use batch::{Batch, Progress};
pub use config::{Connection, shown};
pub use consumer::{Consumer, Options, Wake};
pub use error::KafkaError;
pub use fence::fence;
pub use offsets::{Place, decided, offsets};
pub use patience::Patience;
pub use progress::{Done, Progresses, read_progress};
pub use reader::{Reader, Record, RecordHeader, Silence};
pub use transactions::Transactions;
