//! The records of Visitflow and their form on the wire.
//!
//! A *measurement* comes in as an Avro message that carries only its schema's fingerprint. This
//! crate knows schemas ([`schema`]), what their fields mean ([`role`]), the message ([`message`]),
//! the default measurement ([`measurement`]) and how a reader sees what a writer wrote
//! ([`resolve`]). There is no dataflow here, no clock and no thread.

pub mod anonymize;
pub mod columns;
pub mod encode;
pub mod key;
pub mod measurement;
pub mod message;
pub mod pseudonym;
pub mod records;
pub mod resolve;
pub mod role;
pub mod roles;
pub mod schema;
pub mod shard;
pub mod store;
pub mod tag;
pub mod walk;
