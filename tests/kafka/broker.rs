//! The broker of these tests, and what only tests do to one.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use visitflow::kafka::{Connection, Consumer, KafkaError, Options, Patience, Reader, create};
use visitflow::wall;

use crate::cluster::Cluster;

/// A test that takes longer has failed, on any machine.
const LONG: Duration = Duration::from_secs(300);

/// Transactions that took too long are looked for so often.
const QUICK_ABORTS: &str = "transaction.abort.timed.out.transaction.cleanup.interval.ms=200";

static BROKER: OnceLock<Option<Cluster>> = OnceLock::new();
/// Held by all who need the broker, alone by those who kill it.
static IN_USE: RwLock<()> = RwLock::new(());

/// A broker that stays up as long as this lives.
pub struct Broker {
    running: &'static Cluster,
    _up: RwLockReadGuard<'static, ()>,
}

/// A broker that nobody else needs as long as this lives.
pub struct Alone {
    broker: &'static Cluster,
    _alone: RwLockWriteGuard<'static, ()>,
}

/// The broker, if there can be one.
pub fn broker() -> Option<Broker> {
    let running = running()?;
    let up = IN_USE.read().unwrap_or_else(PoisonError::into_inner);
    Some(Broker { running, _up: up })
}

/// The broker, to be killed, if there can be one.
pub fn alone() -> Option<Alone> {
    let broker = running()?;
    let alone = IN_USE.write().unwrap_or_else(PoisonError::into_inner);
    Some(Alone {
        broker,
        _alone: alone,
    })
}

fn running() -> Option<&'static Cluster> {
    let start = || Cluster::start(&["--set", QUICK_ABORTS], "bootstrap");
    BROKER.get_or_init(start).as_ref()
}

impl Broker {
    pub fn connection(&self) -> Connection {
        Connection::to(self.running.said("bootstrap"))
    }

    /// A topic for one test.
    pub fn topic(&self, name: &str, partitions: usize) -> String {
        make(&self.connection(), name, partitions)
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        config(&self.connection()).create().unwrap()
    }

    pub fn delete_topic(&self, topic: &str) {
        let options = AdminOptions::new();
        wait(self.admin().delete_topics(&[topic], &options)).unwrap();
    }

    pub fn add_partitions(&self, topic: &str, count: usize) {
        let options = AdminOptions::new();
        let wanted = [&NewPartitions::new(topic, count)];
        let done = wait(self.admin().create_partitions(wanted, &options)).unwrap();
        assert!(done.iter().all(Result::is_ok), "{done:?}");
    }

    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before))
            .unwrap();
        wait(self.admin().delete_records(&list, &AdminOptions::new())).unwrap();
    }
}

impl Alone {
    pub fn connection(&self) -> Connection {
        Connection::to(self.broker.said("bootstrap"))
    }

    pub fn topic(&self, name: &str, partitions: usize) -> String {
        make(&self.connection(), name, partitions)
    }

    pub fn kill(&self) {
        self.broker.run("kill", &[]);
    }

    /// Starts the broker again; returns when it answers.
    pub fn restart(&self) {
        self.broker.run("restart", &[]);
    }

    /// Stops the broker as it is: connections stay, and nobody answers.
    pub fn pause(&self) {
        self.broker.run("pause", &[]);
    }

    pub fn resume(&self) {
        self.broker.run("resume", &[]);
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        // Others need it. A second panic would end them all.
        let restarted = self.broker.does("restart", &[]);
        assert!(thread::panicking() || restarted);
    }
}

fn make(connection: &Connection, name: &str, partitions: usize) -> String {
    let settings = [("message.timestamp.type", "LogAppendTime")];
    create(connection, name, partitions, &settings, &patience()).unwrap();
    name.to_owned()
}

/// A topic for progress.
pub fn progress_topic(connection: &Connection, name: &str) -> String {
    let settings = [("cleanup.policy", "compact")];
    create(connection, name, 1, &settings, &patience()).unwrap();
    name.to_owned()
}

/// Waits for brokers as long as a test may take.
pub fn patience() -> Patience {
    Patience::until(Arc::new(AtomicBool::new(false))).limit(LONG)
}

fn config(connection: &Connection) -> ClientConfig {
    let mut config = ClientConfig::new();
    for (name, value) in &connection.properties {
        config.set(name, value);
    }
    config
}

/// Another program's producer, transactional if it has an ID.
pub fn producer(connection: &Connection, id: Option<&str>) -> BaseProducer {
    let mut config = config(connection);
    if let Some(id) = id {
        config.set("transactional.id", id);
    }
    let producer: BaseProducer = config.create().unwrap();
    if id.is_some() {
        producer.init_transactions(LONG).unwrap();
    }
    producer
}

/// Writes values to a partition, and waits until the broker has them.
pub fn write<V: AsRef<[u8]>>(
    producer: &BaseProducer,
    topic: &str,
    partition: i32,
    values: impl IntoIterator<Item = V>,
) {
    for value in values {
        let record = BaseRecord::to(topic)
            .partition(partition)
            .key("key")
            .payload(value.as_ref());
        producer.send(record).map_err(|(error, _)| error).unwrap();
    }
    producer.flush(LONG).unwrap();
}

/// Reads partitions from offsets.
pub fn open(
    connection: &Connection,
    topic: &str,
    partitions: &[(i32, i64)],
    options: Options,
) -> (Consumer, Vec<Reader>) {
    Consumer::open(connection, topic, partitions, options, &patience()).unwrap()
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

/// Reads the next so many records, as offset and value.
#[track_caller]
pub fn read(reader: &mut Reader, count: usize) -> Vec<(i64, Vec<u8>)> {
    let mut read = Vec::with_capacity(count);
    while read.len() < count {
        let next = eventually("a record", || {
            let record = reader.peek().unwrap()?;
            Some((record.offset, record.value.unwrap_or_default().to_vec()))
        });
        reader.advance();
        read.push(next);
    }
    read
}

/// Reads all that is there and committed, until the leader, asked from now on, says that nothing more
/// is: what it said before may be older than what was written since.
#[track_caller]
pub fn read_all(reader: &mut Reader) -> Vec<Vec<u8>> {
    let began = wall::now();
    let mut read = Vec::new();
    eventually("the end", || {
        while let Some(record) = reader.peek().unwrap() {
            read.push(record.value.unwrap_or_default().to_vec());
            reader.advance();
        }
        reader.answered().filter(|sent| *sent > began)
    });
    read
}

/// Reads on until that fails.
#[track_caller]
pub fn failure(reader: &mut Reader) -> KafkaError {
    eventually("an error", || match reader.peek() {
        Ok(record) => {
            if record.is_some() {
                reader.advance();
            }
            None
        }
        Err(error) => Some(error),
    })
}

/// Waits by looking again and again.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    eventually("an answer", || match future.as_mut().poll(&mut context) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    })
}
