//! Messages: what a fragment says to a topic by name, encoded, for sinks that write it as it is.

use serde::{Deserialize, Serialize};

use crate::visit::Tick;

/// A message for a topic.
///
/// It must be said before the frontier has passed its tick, since by then the tick may be committed;
/// and it must follow from what was before that tick's end, since after a start it is made again and
/// passed over. It goes to the partition of its shard, whichever worker says it. Those of one tick
/// that one worker says stay in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Message {
    /// The tick of which it is an effect; the header `tick` has it.
    pub tick: Tick,
    /// The shard of what it is about: that of the browser's ID, mostly.
    pub shard: u8,
    /// The key.
    pub key: Box<[u8]>,
    /// The value.
    pub value: Box<[u8]>,
}
