//! What the suite needs of a log besides what the program does with it: to make topics, and to do to
//! them what other programs and time do.

use std::thread;
use std::time::{Duration, Instant};

use visitflow::run::input::Input;
use visitflow::sink::SinkError;
use visitflow::sink::topics::Destination;

/// A test that takes longer has failed, on any machine.
const LONG: Duration = Duration::from_secs(120);

/// A record as a consumer of results sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub key: String,
    pub value: String,
    /// The header of that name.
    pub tick: String,
    /// In ms since 1970.
    pub log_time: i64,
}

/// A log for one test.
pub trait Log {
    /// Makes a topic to be read.
    fn create(&self, topic: &str, partitions: u32);
    /// Adds a record for each value, committed.
    fn append(&self, topic: &str, partition: u32, values: &[String]);
    /// Gives a topic one more partition; whether that can be.
    fn add_partition(&self, topic: &str, partitions: u32) -> bool;
    /// Lets the oldest records go, as retention does; returns the earliest offset that is left.
    fn forget(&self, topic: &str, partition: u32) -> u64;
    /// Deletes a topic and makes it anew, empty.
    fn create_anew(&self, topic: &str, partitions: u32);
    /// The topic, as a start finds it.
    fn input(&self, topic: &str) -> Input;
    /// Whether a topic is known for another one that was deleted and has grown as far since.
    fn tells_topics_apart(&self) -> bool;
    /// Opens the results, of two partitions each, as a start does: whoever did so before can commit
    /// no more.
    fn results(&self) -> Result<Box<dyn Destination>, SinkError>;
    /// What a consumer sees of a topic of results, which has its place in
    /// [`TOPICS`](visitflow::sink::topics::TOPICS).
    fn seen(&self, topic: usize, partition: u32) -> Vec<Seen>;
}

/// Asks until there is something.
#[track_caller]
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < LONG, "never: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// Numbers as values.
pub fn values(numbers: std::ops::Range<u64>) -> Vec<String> {
    numbers.map(|number| format!("value {number}")).collect()
}
