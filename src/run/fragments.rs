//! What fragments keep, in the snapshots of a job: by name, of the shards of one worker.

use std::cell::RefCell;
use std::collections::BTreeMap;

use visitflow_dataflows::durable::{Keeps, Shards};
use visitflow_dataflows::visit::Tick;

use super::snapshots::Gathering;

/// What the fragments of a worker keep.
pub struct Fragments {
    gathering: Gathering,
    restored: RefCell<BTreeMap<String, Shards>>,
}

impl Fragments {
    /// Goes on from what was kept before; what is to be kept is gathered with the rest.
    pub fn new(gathering: Gathering, restored: BTreeMap<String, Shards>) -> Fragments {
        Fragments {
            gathering,
            restored: RefCell::new(restored),
        }
    }
}

impl Keeps for Fragments {
    fn open(&self, name: &str) -> Shards {
        self.gathering.expect(name);
        self.restored.borrow_mut().remove(name).unwrap_or_default()
    }

    fn save(&self, name: &str, at: Tick, shards: Shards) {
        self.gathering.named(at, name, shards);
    }
}
