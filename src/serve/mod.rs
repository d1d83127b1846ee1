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

use visitflow_dataflows::views::View;

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

/// The most questions that may wait for their answers.
const QUESTIONS: usize = 256;
/// How many orders are kept for readers.
const ORDERS: usize = 200;

impl Served {
    /// For these views, of which so many ms are kept.
    #[must_use]
    pub fn new(views: Vec<View>, history: u64) -> Served {
        Served {
            board: Arc::new(Board::new(views, history)),
            orders: Arc::new(Orders::new(ORDERS)),
            desk: Arc::new(Desk::new(QUESTIONS)),
            holds: Arc::default(),
        }
    }
}
