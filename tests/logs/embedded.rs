//! The embedded log, in a folder of its own.

use std::fs;

use visitflow::log::{Reader, Topic, Writer, WriterOptions, start_offset};
use visitflow::run::input::Input;
use visitflow::sink::SinkError;
use visitflow::sink::embedded::Embedded as Results;
use visitflow::sink::topics::{Destination, TOPICS};
use visitflow::wall;

use crate::log::{Log, Seen};

/// So small that some records fill a segment.
const SMALL: WriterOptions = WriterOptions {
    segment_bytes: 4_096,
    frame_bytes: 512,
    buffer_bytes: 1_024,
};

pub struct Embedded(tempfile::TempDir);

impl Embedded {
    pub fn new() -> Embedded {
        Embedded(tempfile::tempdir().unwrap())
    }

    fn topic(&self, name: &str) -> Topic {
        Topic::open(self.0.path(), name).unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

impl Log for Embedded {
    fn create(&self, topic: &str, partitions: u32) {
        Topic::create(self.0.path(), topic, partitions).unwrap();
    }

    fn append(&self, topic: &str, partition: u32, values: &[String]) {
        let mut writer = Writer::open(&self.topic(topic), partition, SMALL).unwrap();
        for value in values {
            let now = wall::now();
            writer.push(now, b"key", &[], value.as_bytes()).unwrap();
            writer.commit(0).unwrap();
        }
        writer.close().unwrap();
    }

    /// The number of its partitions never changes.
    fn add_partition(&self, _: &str, _: u32) -> bool {
        false
    }

    /// It forgets nothing by itself: whoever wants that removes its first segments.
    fn forget(&self, topic: &str, partition: u32) -> u64 {
        let topic = self.topic(topic);
        let entries = fs::read_dir(topic.path().join(format!("{partition:05}"))).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        let is_segment = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "seg");
        let first = paths.filter(is_segment).min().unwrap();
        fs::remove_file(first).unwrap();
        start_offset(&topic, partition).unwrap()
    }

    fn create_anew(&self, topic: &str, partitions: u32) {
        fs::remove_dir_all(self.topic(topic).path()).unwrap();
        self.create(topic, partitions);
    }

    fn input(&self, topic: &str) -> Input {
        Input::Embedded(self.topic(topic))
    }

    fn tells_topics_apart(&self) -> bool {
        false
    }

    fn results(&self) -> Result<Box<dyn Destination>, SinkError> {
        let log = self.0.path().join("results");
        for name in TOPICS {
            Topic::open_or_create(&log, name, 2).unwrap();
        }
        Ok(Box::new(Results::open(
            &log,
            TOPICS.map(String::from).into(),
            0,
            1,
            Default::default(),
        )?))
    }

    fn seen(&self, topic: usize, partition: u32) -> Vec<Seen> {
        let topic = Topic::open(self.0.path().join("results"), TOPICS[topic]).unwrap();
        let mut reader = Reader::open(&topic, partition, 0).unwrap();
        let mut seen = Vec::new();
        while let Some(record) = reader.peek().unwrap() {
            seen.push(Seen {
                key: text(record.key),
                value: text(record.value),
                tick: text(record.header("tick").unwrap_or_default()),
                log_time: record.log_time,
            });
            reader.advance();
        }
        seen
    }
}
