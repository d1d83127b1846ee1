//! A real Apache Kafka, and what the torture does in it: sends measurements, and takes out what is
//! committed.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use visitflow::kafka::{Connection, Consumer, Options, Patience, Place, describe, offsets};
use visitflow_schemas::shard::Shard;

/// A broker of the torture's own.
pub struct Broker {
    dir: PathBuf,
    child: Child,
    /// Where it answers.
    pub bootstrap: String,
}

fn script(dir: &Path, words: &[&str]) -> Command {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(root.join("scripts/kafka"));
    command
        .arg(words[0])
        .arg("--dir")
        .arg(dir)
        .args(&words[1..]);
    command.stdin(Stdio::null());
    command
}

impl Broker {
    /// Starts one in a folder.
    ///
    /// # Errors
    /// Why there can be none here.
    pub fn start(dir: &Path) -> Result<Broker, String> {
        let mut child = script(dir, &["start", "--foreground"])
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| error.to_string())?;
        let out = child.stdout.take().expect("it was asked for");
        let mut bootstrap = None;
        for line in BufReader::new(out).lines() {
            let line = line.map_err(|error| error.to_string())?;
            if let Some(at) = line.strip_prefix("bootstrap=") {
                bootstrap = Some(at.to_owned());
                break;
            }
        }
        let Some(bootstrap) = bootstrap else {
            let status = child.wait().map_err(|error| error.to_string())?;
            return Err(format!("no Kafka can be had here ({status})"));
        };
        Ok(Broker {
            dir: dir.to_owned(),
            child,
            bootstrap,
        })
    }

    /// Runs a command of the script.
    pub fn run(&self, words: &[&str]) {
        assert!(self.try_to(words), "scripts/kafka {words:?} failed");
    }

    /// Runs a command that may fail; whether it did well.
    pub fn try_to(&self, words: &[&str]) -> bool {
        let status = script(&self.dir, words).stdout(Stdio::null()).status();
        status.is_ok_and(|status| status.success())
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.child.wait();
    }
}

/// Sends measurements, in order, however long the broker is away.
pub struct Sender {
    producer: BaseProducer,
    topic: String,
    partitions: u32,
}

impl Sender {
    /// To a topic that is there.
    pub fn new(bootstrap: &str, topic: &str, partitions: u32) -> Sender {
        let producer = ClientConfig::new()
            .set("bootstrap.servers", bootstrap)
            .set("enable.idempotence", "true")
            .set("linger.ms", "5")
            .set("message.timeout.ms", "0")
            .set("message.max.bytes", "2000000")
            .set("queue.buffering.max.messages", "1000000")
            .create()
            .unwrap();
        Sender {
            producer,
            topic: topic.to_owned(),
            partitions,
        }
    }

    /// Sends one.
    pub fn send(&self, key: &[u8], value: &[u8]) {
        let partition = Shard::of(key).partition(self.partitions) as i32;
        let mut record = BaseRecord::<[u8], [u8]>::to(&self.topic)
            .partition(partition)
            .key(key)
            .payload(value);
        loop {
            match self.producer.send(record) {
                Ok(()) => return,
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), again)) => {
                    record = again;
                    self.producer.poll(Duration::from_millis(10));
                }
                Err((error, _)) => panic!("{error}"),
            }
        }
    }

    /// Lets go of what was delivered.
    pub fn poll(&self) {
        self.producer.poll(Duration::ZERO);
    }

    /// Waits until everything is delivered.
    pub fn close(self) {
        while self.producer.in_flight_count() > 0 {
            self.producer.poll(Duration::from_millis(5));
        }
    }
}

/// A record that is committed.
pub struct Taken {
    pub log_time: i64,
    pub key: Vec<u8>,
    pub value: Vec<u8>,
}

/// All committed records of a topic, partition by partition.
pub fn take_out(bootstrap: &str, topic: &str) -> Vec<Taken> {
    let connection = Connection::to(bootstrap);
    let patience = Patience::until(Arc::default());
    let partitions = describe(&connection, topic, &patience).unwrap().partitions as i32;
    let all: Vec<i32> = (0..partitions).collect();
    let first = offsets(&connection, topic, &all, Place::Earliest, &patience).unwrap();
    let from: Vec<(i32, i64)> = all.into_iter().zip(first).collect();
    let opened = Consumer::open(&connection, topic, &from, Options::default(), &patience);
    let (_consumer, readers) = opened.unwrap();
    let mut taken = Vec::new();
    for mut reader in readers {
        loop {
            let Some(record) = reader.peek().unwrap() else {
                if reader.answered().is_some() {
                    break;
                }
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            taken.push(Taken {
                log_time: record.log_time,
                key: record.key.unwrap_or_default().to_vec(),
                value: record.value.unwrap_or_default().to_vec(),
            });
            reader.advance();
        }
    }
    taken
}

/// The committed ticks of an output topic, by the header of each record.
pub fn ticks(bootstrap: &str, topic: &str) -> Vec<(u32, u64, Vec<u8>, Vec<u8>)> {
    use rdkafka::consumer::{BaseConsumer, Consumer as _};
    use rdkafka::message::{Headers, Message};
    use rdkafka::{Offset, TopicPartitionList};
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", "torture")
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "earliest")
        .create()
        .unwrap();
    let metadata = consumer
        .fetch_metadata(Some(topic), Duration::from_secs(30))
        .unwrap();
    let partitions = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition as i32, Offset::Beginning)
            .unwrap();
    }
    consumer.assign(&list).unwrap();
    let mut all = Vec::new();
    let mut ended = std::collections::BTreeSet::new();
    while ended.len() < partitions {
        match consumer.poll(Duration::from_secs(30)) {
            Some(Ok(message)) => {
                let headers = message.headers().expect("every record has the header tick");
                let header = headers.get(0);
                assert_eq!(header.key, "tick");
                let tick = std::str::from_utf8(header.value.unwrap()).unwrap();
                all.push((
                    message.partition() as u32,
                    tick.parse().unwrap(),
                    message.key().unwrap_or_default().to_vec(),
                    message.payload().unwrap_or_default().to_vec(),
                ));
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                ended.insert(partition);
            }
            Some(Err(error)) => panic!("{topic}: {error}"),
            None => panic!("{topic}: no end in 30 s"),
        }
    }
    all
}
