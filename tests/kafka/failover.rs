//! Three brokers of which one dies: the leader of what is read and written, then the coordinator of
//! the transactions. The others take over, and nobody is to notice but by a pause.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use visitflow::kafka::{
    Batch, Connection, Done, Options, Progress, Reader, Transactions, create, read_progress,
};

use crate::broker::{eventually, open, patience, progress_topic, read_all};
use crate::cluster::Cluster;

const TOPIC: &str = "failover";
const ID: &str = "failover-0";
/// Records of a batch.
const RECORDS: u64 = 3;
/// After so many batches more everything is well again.
const SOME: u64 = 30;

/// What the brokers say of partitions.
struct Cast(BaseConsumer);

impl Cast {
    fn of(connection: &Connection) -> Cast {
        let servers = &connection.properties["bootstrap.servers"];
        let mut config = rdkafka::ClientConfig::new();
        config.set("bootstrap.servers", servers);
        // What a broker that has been away says is old.
        config.set("metadata.max.age.ms", "1000");
        Cast(config.create().unwrap())
    }

    /// The leader of a partition, and those that have all of it.
    fn of_partition(&self, topic: &str, partition: i32) -> (i32, Vec<i32>) {
        eventually("a leader", || {
            let asked = Duration::from_secs(5);
            let found = self.0.fetch_metadata(Some(topic), asked).ok()?;
            let partitions = found.topics().first()?.partitions();
            let found = partitions.iter().find(|found| found.id() == partition)?;
            (found.leader() > 0).then(|| (found.leader(), found.isr().to_vec()))
        })
    }

    /// The coordinator of a transactional ID is the leader of a partition of Kafka's own topic, which
    /// follows from the ID as Java hashes text.
    fn coordinator(&self, id: &str) -> i32 {
        let add = |hash: i32, byte| hash.wrapping_mul(31).wrapping_add(i32::from(byte));
        let hash = id.bytes().fold(0, add) & i32::MAX;
        self.of_partition("__transaction_state", hash % 4).0
    }

    /// Waits until all three brokers have all of a partition.
    fn whole(&self, topic: &str, partition: i32) {
        eventually("three copies", || {
            let copies = self.of_partition(topic, partition).1.len();
            (copies == 3).then_some(())
        });
    }
}

fn batch(number: u64) -> Batch {
    let mut batch = Batch::default();
    for part in 0..RECORDS {
        let value = format!("{number}.{part}");
        batch.push(&TOPIC.into(), 0, number - 1, b"key", &[value.as_bytes()]);
    }
    batch.progress = Progress {
        until: number,
        shards: vec![(0, number)],
    };
    batch
}

/// Reads on up to the end of a batch.
fn read_up_to(reader: &mut Reader, number: u64, seen: &mut Vec<Vec<u8>>) {
    while (seen.len() as u64) < number * RECORDS {
        let value = eventually("a record", || {
            let record = reader.peek().unwrap()?;
            Some(record.value.unwrap_or_default().to_vec())
        });
        seen.push(value);
        reader.advance();
    }
}

#[test]
fn when_a_leader_and_then_a_coordinator_dies_everything_is_read_and_written_once() {
    let Some(cluster) = Cluster::start(&["--brokers", "3"], "bootstrap") else {
        return;
    };
    let connection = Connection::to(cluster.said("bootstrap"));
    let settings = [("message.timestamp.type", "LogAppendTime")];
    create(&connection, TOPIC, 1, &settings, &patience()).unwrap();
    let progress = progress_topic(&connection, "failover-progress");
    let (_consumer, mut readers) = open(&connection, TOPIC, &[(0, 0)], Options::default());
    let reader = &mut readers[0];

    let enough = Arc::new(AtomicBool::new(false));
    let committed = Arc::new(AtomicU64::new(0));
    let writing = {
        let (connection, progress) = (connection.clone(), progress.clone());
        let (enough, committed) = (enough.clone(), committed.clone());
        thread::spawn(move || {
            let mut writer =
                Transactions::open(&connection, ID, &progress, 1, &patience()).unwrap();
            while !enough.load(Ordering::Relaxed) {
                let number = committed.load(Ordering::Relaxed) + 1;
                writer.commit(&batch(number)).unwrap();
                committed.store(number, Ordering::Relaxed);
            }
        })
    };
    let mut seen = Vec::new();
    read_up_to(reader, SOME, &mut seen);
    let cast = Cast::of(&connection);

    for role in ["leader", "coordinator"] {
        let broker = match role {
            "leader" => cast.of_partition(TOPIC, 0).0,
            _ => cast.coordinator(ID),
        };
        let broker = ["--broker", &broker.to_string()];
        cluster.run("kill", &broker);
        let killed = committed.load(Ordering::Relaxed);
        read_up_to(reader, killed + SOME, &mut seen);
        assert!(!writing.is_finished());
        if role == "leader" {
            cluster.run("restart", &broker);
            cast.whole(TOPIC, 0);
            (0..4).for_each(|partition| cast.whole("__transaction_state", partition));
        }
    }
    enough.store(true, Ordering::Relaxed);
    writing.join().unwrap();

    let written = committed.load(Ordering::Relaxed);
    let record = |number| (0..RECORDS).map(move |part| format!("{number}.{part}").into_bytes());
    let expected: Vec<Vec<u8>> = (1..=written).flat_map(record).collect();
    seen.extend(read_all(reader));
    assert!(seen == expected, "what was read meanwhile");
    let (_consumer, mut readers) = open(&connection, TOPIC, &[(0, 0)], Options::default());
    assert!(read_all(&mut readers[0]) == expected, "what is there");
    let found = read_progress(&connection, &progress, &[ID.to_owned()], &patience()).unwrap();
    let done = Done {
        until: written,
        sum: written,
    };
    assert_eq!(found.shards, BTreeMap::from([(0, done)]));
}
