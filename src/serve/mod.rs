//! Serving: what a running job is asked over HTTP, and what it answers; for pages, programs and
//! Prometheus. Nothing here runs on a worker's thread, and no worker ever waits for who reads.
//!
//! What workers give to readers goes through four plain structs, together [`Served`]: the [`Board`] of
//! views, the newest [`Orders`], the [`Desk`] for questions, and the [`Holds`] on the tables' versions.

pub mod board;
pub mod desk;
pub mod holds;
pub mod orders;
pub mod question;

use std::sync::Arc;

pub use board::Board;
pub use desk::Desk;
pub use holds::Holds;
pub use orders::Orders;

/// What a process's workers give to those who read, and are asked by them.
pub struct Served {
    /// Views.
    pub board: Arc<Board>,
    /// The newest orders.
    pub orders: Arc<Orders>,
    /// Questions.
    pub desk: Arc<Desk>,
    /// The versions of the tables, and who holds on to which.
    pub holds: Arc<Holds>,
}
