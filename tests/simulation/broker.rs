//! The simulated brokers: the topic that is read, the topics that are written in transactions, and
//! the topic of progress. A commit is a request on its way: it may come late, even after its sender
//! has died, and its answer may be lost. What counts is whether its epoch is still its ID's.

use std::collections::BTreeMap;

use visitflow_dataflows::visit::{Position, Tick};
use visitflow_dataflows::visits::Lifecycle;

use crate::chance::Chance;

/// Partitions of the outputs.
pub const OUTPUTS: u32 = 4;

/// A record of the topic that is read.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// The partition.
    pub source: u32,
    pub browser: u8,
    pub at: Position,
    pub body: u8,
    pub log_time: i64,
}

/// A message of an output topic.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    pub tick: Tick,
    pub partition: u32,
    pub what: What,
}

/// What it says.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    Tagged {
        browser: u8,
        at: Position,
        visit: [u64; 2],
    },
    Lifecycle(Lifecycle),
    Late {
        partition: u32,
        offset: u64,
    },
}

/// What a transactional ID has committed, as its progress record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    pub incarnation: u64,
    /// Who wrote it; 0 for a fence.
    pub session: u64,
    /// Which of its batches.
    pub sequence: u64,
    /// By partition: up to where all is committed.
    pub until: BTreeMap<u32, Tick>,
}

/// A transaction to be committed.
#[derive(Clone, Debug)]
pub struct Request {
    pub number: u64,
    pub id: String,
    pub epoch: u64,
    pub messages: Vec<Message>,
    pub standing: Standing,
}

/// The brokers.
pub struct Brokers {
    pub reachable: bool,
    /// The topic that is read, by partition.
    pub input: Vec<Vec<Record>>,
    epochs: BTreeMap<String, u64>,
    progress: BTreeMap<String, Standing>,
    /// What is committed, a transaction at a time.
    pub committed: Vec<Vec<Message>>,
    pub requests: Vec<Request>,
    answers: BTreeMap<u64, bool>,
    numbers: u64,
}

impl Brokers {
    /// With a topic of so many partitions.
    pub fn new(partitions: usize) -> Brokers {
        Brokers {
            reachable: true,
            input: vec![Vec::new(); partitions],
            epochs: BTreeMap::new(),
            progress: BTreeMap::new(),
            committed: Vec::new(),
            requests: Vec::new(),
            answers: BTreeMap::new(),
            numbers: 0,
        }
    }

    /// Takes an ID over; the epoch in which its transactions count from now on.
    pub fn init(&mut self, id: &str) -> u64 {
        let epoch = self.epochs.entry(id.to_owned()).or_default();
        *epoch += 1;
        *epoch
    }

    /// What an ID has committed.
    pub fn standing(&self, id: &str) -> Option<&Standing> {
        self.progress.get(id)
    }

    /// By partition: the most that any ID has committed up to, 0 for nothing.
    pub fn progress(&self) -> [Tick; OUTPUTS as usize] {
        let mut most = [0; OUTPUTS as usize];
        for (partition, until) in self.progress.values().flat_map(|own| &own.until) {
            let most = &mut most[*partition as usize];
            *most = (*most).max(*until);
        }
        most
    }

    /// Sends a request on its way; its number.
    pub fn send(&mut self, mut request: Request) -> u64 {
        self.numbers += 1;
        request.number = self.numbers;
        self.requests.push(request);
        self.numbers
    }

    /// Whether a request was committed, if it was answered.
    pub fn answer(&mut self, number: u64) -> Option<bool> {
        self.answers.remove(&number)
    }

    /// Commits at once, if the epoch counts; whether it did.
    pub fn commit(&mut self, request: Request) -> bool {
        let counts = self.epochs.get(&request.id) == Some(&request.epoch);
        if counts {
            self.progress.insert(request.id, request.standing);
            if !request.messages.is_empty() {
                self.committed.push(request.messages);
            }
        }
        counts
    }

    /// Takes one of the requests that are on their way, or loses it.
    pub fn take(&mut self, chance: &mut Chance) {
        if self.requests.is_empty() {
            return;
        }
        let at = chance.below(self.requests.len());
        let request = self.requests.swap_remove(at);
        if chance.one_in(12) {
            return;
        }
        let number = request.number;
        let counts = self.commit(request);
        if !chance.one_in(8) {
            self.answers.insert(number, counts);
        }
    }
}
