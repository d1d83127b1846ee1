//! Kafka: a broker for this program, topics with the test's name for each test.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use visitflow::kafka::{
    Connection, Consumer, Options, Patience, Place, create, describe, fence, offsets,
};
use visitflow::run::input::Input;
use visitflow::sink::SinkError;
use visitflow::sink::kafka::{Kafka as Results, Settings, Taken};
use visitflow::sink::topics::{Destination, TOPICS};

use crate::cluster::Cluster;
use crate::log::{Log, Seen, eventually};

static BROKER: OnceLock<Option<Cluster>> = OnceLock::new();

pub struct Kafka {
    broker: &'static Cluster,
    test: &'static str,
    starts: AtomicU64,
}

impl Kafka {
    /// For a test of this name; none where Kafka cannot be had.
    pub fn new(test: &'static str) -> Option<Kafka> {
        let broker = BROKER.get_or_init(|| Cluster::start(&[], "bootstrap"));
        Some(Kafka {
            broker: broker.as_ref()?,
            test,
            starts: AtomicU64::new(0),
        })
    }

    fn connection(&self) -> Connection {
        Connection::to(self.broker.said("bootstrap"))
    }

    fn name(&self, topic: &str) -> String {
        format!("{}-{topic}", self.test)
    }
}

fn patience() -> Patience {
    Patience::until(Arc::default()).limit(Duration::from_secs(120))
}

fn text(bytes: Option<&[u8]>) -> String {
    String::from_utf8(bytes.unwrap_or_default().to_vec()).unwrap()
}

impl Log for Kafka {
    fn create(&self, topic: &str, partitions: u32) {
        let settings = [("message.timestamp.type", "LogAppendTime")];
        let (name, partitions) = (self.name(topic), partitions as usize);
        create(
            &self.connection(),
            &name,
            partitions,
            &settings,
            &patience(),
        )
        .unwrap();
    }

    fn append(&self, topic: &str, partition: u32, values: &[String]) {
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", self.broker.said("bootstrap"));
        // A topic that was deleted and is there again is another one.
        let producer: BaseProducer = config.create().unwrap();
        let name = self.name(topic);
        for value in values {
            let record = BaseRecord::to(&name).partition(partition as i32);
            let record = record.key("key").payload(value.as_bytes());
            producer.send(record).map_err(|(error, _)| error).unwrap();
        }
        producer.flush(Duration::from_secs(60)).unwrap();
    }

    fn add_partition(&self, topic: &str, partitions: u32) -> bool {
        let more = (partitions + 1).to_string();
        self.broker.run("partitions", &[&self.name(topic), &more]);
        true
    }

    fn forget(&self, topic: &str, partition: u32) -> u64 {
        let (name, partition) = (self.name(topic), partition.to_string());
        self.broker.run("truncate", &[&name, &partition, "7"]);
        7
    }

    fn create_anew(&self, topic: &str, partitions: u32) {
        self.broker.run("delete", &[&self.name(topic)]);
        self.create(topic, partitions);
    }

    fn input(&self, topic: &str) -> Input {
        let (connection, topic) = (self.connection(), self.name(topic));
        let found = describe(&connection, &topic, &patience()).unwrap();
        Input::Kafka {
            connection,
            topic,
            id: found.id,
            partitions: found.partitions as u32,
        }
    }

    fn tells_topics_apart(&self) -> bool {
        true
    }

    fn results(&self) -> Result<Box<dyn Destination>, SinkError> {
        let connection = self.connection();
        let topics = TOPICS.map(|topic| Arc::<str>::from(self.name(topic)));
        for topic in &topics {
            create(&connection, topic, 2, &[], &patience())?;
        }
        let progress_topic = self.name("progress");
        let compact = [("cleanup.policy", "compact")];
        create(&connection, &progress_topic, 1, &compact, &patience())?;
        let incarnation = self.starts.fetch_add(1, Ordering::Relaxed) + 1;
        let ids = [self.name("0")];
        let found = fence(&connection, &ids, &progress_topic, incarnation, &patience())?;
        let taken = |partition| {
            let done = found.shards.get(&partition).copied().unwrap_or_default();
            Taken {
                tick: done.until.saturating_sub(1),
                sum: done.sum,
                before: 0,
            }
        };
        let [id] = ids;
        let results = Results::open(Settings {
            connection,
            id,
            progress_topic,
            incarnation,
            topics: topics.into(),
            taken: [0, 1].map(taken).to_vec(),
            worker: (0, 1),
            say: Arc::new(|_| ()),
        })?;
        Ok(Box::new(results))
    }

    fn seen(&self, topic: usize, partition: u32) -> Vec<Seen> {
        let (connection, name) = (self.connection(), self.name(TOPICS[topic]));
        let partition = partition as i32;
        let end = offsets(
            &connection,
            &name,
            &[partition],
            Place::Decided,
            &patience(),
        );
        let end = end.unwrap()[0];
        let options = Options {
            headers: true,
            ..Options::default()
        };
        let opened = Consumer::open(&connection, &name, &[(partition, 0)], options, &patience());
        let (_consumer, mut readers) = opened.unwrap();
        let reader = &mut readers[0];
        let mut seen = Vec::new();
        eventually("the end", || {
            while let Some(record) = reader.peek().unwrap() {
                let tick = record.headers.iter().find(|(name, _)| name == "tick");
                seen.push(Seen {
                    key: text(record.key),
                    value: text(record.value),
                    tick: text(tick.and_then(|(_, value)| value.as_deref())),
                    log_time: record.log_time,
                });
                reader.advance();
            }
            reader.behind();
            (reader.offset() >= end).then_some(())
        });
        seen
    }
}
