//! What fragments keep across a restart: bytes by name and shard, as of a snapshot's tick.
//!
//! A fragment opens its [`Durable`] by a name that is its own and stays the same, takes what was
//! kept of the shards that are now this worker's, and gives what it keeps at every snapshot's cut:
//! all effects of the ticks before it, none of those at or behind it. How many workers there were
//! before does not matter.

use std::rc::Rc;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::visit::Tick;

/// Bytes by shard. A shard may be there several times, each with a part of its state.
pub type Shards = Vec<(u8, Vec<u8>)>;

/// Where a job keeps what its fragments give.
pub trait Keeps {
    /// What was kept under a name of the shards that are this worker's. Once asked for, a name's
    /// bytes are expected at every snapshot.
    fn open(&self, name: &str) -> Shards;
    /// What is kept under a name as of a tick.
    fn save(&self, name: &str, at: Tick, shards: Shards);
}

/// What one fragment keeps, on one worker.
pub struct Durable {
    name: String,
    kept: Rc<dyn Keeps>,
    shards: Shards,
}

impl Durable {
    /// What is kept under this name.
    pub fn open(name: &str, kept: &Rc<dyn Keeps>) -> Durable {
        Durable {
            name: name.to_owned(),
            kept: kept.clone(),
            shards: kept.open(name),
        }
    }

    /// Each state as it was saved, if it is of this version of its form.
    ///
    /// # Panics
    /// If it is of another one: then the fragment has changed, and must be given another name.
    pub fn restore<T: DeserializeOwned>(&mut self, version: u32) -> Vec<T> {
        let mut states = Vec::new();
        for (shard, bytes) in std::mem::take(&mut self.shards) {
            let (found, state) = bytes.split_at_checked(4).unwrap_or_default();
            assert!(
                found == version.to_le_bytes(),
                "the state of {} in shard {shard} is of another version than {version}",
                self.name
            );
            match postcard::from_bytes(state) {
                Ok(state) => states.push(state),
                Err(error) => panic!("the state of {} in shard {shard}: {error}", self.name),
            }
        }
        states
    }

    /// Keeps the state of shards, which must have something in them, as of a tick.
    pub fn save<T: Serialize>(
        &self,
        at: Tick,
        version: u32,
        states: impl IntoIterator<Item = (u8, T)>,
    ) {
        self.save_written(at, written(version, states).collect());
    }

    /// Keeps what was [written], as of a tick.
    pub fn save_written(&self, at: Tick, shards: Shards) {
        self.kept.save(&self.name, at, shards);
    }
}

/// The state of shards, or a part of it, in the form in which it is kept: what is large is written a part
/// at a time.
pub fn written<T: Serialize>(
    version: u32,
    states: impl IntoIterator<Item = (u8, T)>,
) -> impl Iterator<Item = (u8, Vec<u8>)> {
    // Lists that grow with each state would take twice the memory, all of it new to the process.
    let mut all = Vec::new();
    states.into_iter().map(move |(shard, state)| {
        all.clear();
        all.extend_from_slice(&version.to_le_bytes());
        all = postcard::to_extend(&state, std::mem::take(&mut all))
            .expect("what is kept can be written to memory");
        (shard, all.as_slice().to_vec())
    })
}

/// Nothing is kept: for jobs without state, and for tests.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Keeps for Nothing {
    fn open(&self, _: &str) -> Shards {
        Shards::new()
    }
    fn save(&self, _: &str, _: Tick, _: Shards) {}
}
