//! The records of Visitflow and their form on the wire.
//!
//! A *measurement* comes in as an Avro message that carries only its schema's fingerprint. This
//! crate knows schemas ([`schema`]), where they are found ([`store`]), what their fields mean
//! ([`role`], [`roles`]), the message ([`message`]), the default measurement ([`measurement`]), how
//! a reader sees what a writer wrote ([`resolve`]), how a body is verified and its roles are found
//! ([`walk`], [`key`]), what is put in front of it ([`tag`]) and what is said of visits
//! ([`records`]). There is no dataflow here, no clock and no thread.

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
