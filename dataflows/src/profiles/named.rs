//! That a customer is named in a visit, and what is known of the customer by then: for whoever greets
//! a customer while the visit is there. Said of each visit and customer once.

use serde::{Deserialize, Serialize};

use super::profile::Profile;
use crate::visit::Tick;

/// A customer is named in a visit for the first time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The end of the step in which it was found: all effects before this tick are in.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// The visit.
    pub visit: [u8; 16],
    /// The event time of the measurement that names the customer, in ms.
    pub time: i64,
    /// The customer's ID, as text.
    pub customer: Box<str>,
}

/// The same, with what sealed visits have said of the customer before that tick.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loaded {
    /// Who is named where.
    pub named: Named,
    /// `None` if nothing is known of the customer.
    pub profile: Option<Profile>,
}
