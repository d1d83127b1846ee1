//! Serving: what a running job is asked over HTTP, and what it answers; for pages, programs and
//! Prometheus. Nothing here runs on a worker's thread, and no worker ever waits for who reads. It is
//! no database: what is older than the views' history, and what visits have ended, is in the tables.
//!
//! What workers give to readers goes through four plain structs, together [`Served`]: the [`Board`] of
//! views, the newest [`Orders`], the [`Desk`] for questions, and the [`Holds`] on the tables' versions.
//! Around them stand the table of [`routes`], one file a resource, and the port, [`listen`].

pub mod access;
pub mod board;
mod boundary;
mod call;
pub mod desk;
pub mod holds;
mod http;
pub mod listen;
pub mod openapi;
pub mod operations;
mod ordered;
pub mod orders;
mod page;
mod problem;
pub mod progress;
pub mod question;
pub mod routes;
mod sse;
mod views;
mod visits;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Semaphore;
use visitflow_dataflows::views::View;

use crate::job::Serve;
use access::{Access, TokensError};
pub use board::Board;
pub use desk::Desk;
pub use holds::Holds;
use operations::{Account, Looked};
pub use orders::Orders;

/// How many of the newest orders are kept.
const ORDERS: usize = 1_000;
/// How many questions may wait for their answers.
const QUESTIONS: usize = 1_000;

/// Why nothing can be served.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address.
    #[error("serve.address: {address}{}: {problem}; expected a free port of this host", plus(*process))]
    Address {
        /// The setting.
        address: String,
        /// Which process; its port is so much higher.
        process: usize,
        /// What is wrong.
        problem: String,
    },
    /// The tokens.
    #[error(transparent)]
    Tokens(#[from] TokensError),
    /// No thread.
    #[error("serve.address: no thread can be had to serve it: {0}")]
    Thread(#[source] io::Error),
}

fn plus(process: usize) -> String {
    match process {
        0 => String::new(),
        process => format!(" and {process} (process {process})"),
    }
}

/// What a process's workers give to those who read, and are asked by them.
#[derive(Clone)]
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

impl Served {
    /// Of these views, with a history of so many ms.
    pub fn new(views: Vec<View>, history_ms: u64) -> Served {
        Served {
            board: Arc::new(Board::new(views, history_ms)),
            orders: Arc::new(Orders::new(ORDERS)),
            desk: Arc::new(Desk::new(QUESTIONS)),
            holds: Arc::default(),
        }
    }
}

/// How much is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Subscribers at a time.
    pub subscribers: usize,
    /// Rows of an answer.
    pub rows: usize,
    /// Orders of an answer.
    pub orders: usize,
    /// How long an answer of the dataflow may take.
    pub timeout: Duration,
}

impl Limits {
    /// Of a job.
    pub fn of(serve: &Serve) -> Limits {
        let number = |count: u64| usize::try_from(count).unwrap_or(usize::MAX);
        Limits {
            subscribers: number(serve.subscribers),
            rows: number(serve.rows),
            orders: ORDERS,
            timeout: Duration::from_millis(serve.timeout),
        }
    }
}

/// What is served at a port.
pub struct Site {
    served: Served,
    account: Arc<dyn Account>,
    access: Access,
    limits: Limits,
    /// The folder of the tables, on the process that puts their versions.
    tables: Option<String>,
    /// What no other start of any process has for a name.
    start: Arc<str>,
    /// Places of subscribers.
    seats: Arc<Semaphore>,
    /// The one place of who is given all that is live.
    live: Arc<Semaphore>,
    looked: Looked,
}

impl Site {
    /// Of a process that gives an account of itself, for who has access, within limits. `start` is what no other
    /// start of any process has for a name.
    pub fn new(
        served: Served,
        account: Arc<dyn Account>,
        access: Access,
        limits: Limits,
        start: Arc<str>,
    ) -> Site {
        Site {
            served,
            account,
            access,
            limits,
            tables: None,
            start,
            seats: Arc::new(Semaphore::new(limits.subscribers)),
            live: Arc::new(Semaphore::new(1)),
            looked: Looked::default(),
        }
    }

    /// With the folder of the tables whose versions this process puts.
    #[must_use]
    pub fn with_tables(mut self, path: Option<String>) -> Site {
        self.tables = path;
        self
    }
}
