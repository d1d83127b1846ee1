//! What Visitflow does with measurements, as fragments: plain functions from streams to streams.
//!
//! To learn what a visit is, read [`visit`]. [`visits`] assigns measurements to visits, and
//! [`batch`] is how they travel. There is no I/O here, no clock and no thread: time comes in as
//! ticks, and what a fragment says follows from its input alone.

pub mod attribution;
pub mod batch;
pub mod clock;
pub mod complete;
pub mod cut;
pub mod durable;
pub mod each_browser;
pub mod enrich;
pub mod extension;
pub mod fact;
pub mod fates;
mod hash;
pub mod intake;
pub mod ledger;
pub mod message;
mod near;
pub mod profiles;
pub mod step;
pub mod stories;
pub mod views;
pub mod visit;
pub mod visits;
