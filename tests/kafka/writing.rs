//! Writing: every batch whole and once, whatever happens meanwhile, and nothing by anybody who
//! has been replaced.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use visitflow::kafka::{
    Batch, Connection, Done, KafkaError, Options, Patience, Progress, Progresses, Transactions,
    fence, read_progress,
};

use crate::broker::{
    Alone, alone, broker, eventually, open, patience, producer, progress_topic, read_all, write,
};

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// A batch that takes shards until a tick, with a record for each value.
fn batch(topic: &Arc<str>, until: u64, shards: &[(u8, u64)], values: &[&str]) -> Batch {
    let mut batch = Batch::default();
    for value in values {
        batch.push(topic, 0, until - 1, b"key", &[value.as_bytes()]);
    }
    batch.progress = Progress {
        until,
        shards: shards.to_vec(),
    };
    batch
}

fn done(found: &Progresses) -> Vec<(u8, u64, u64)> {
    let flat = |(shard, done): (&u8, &Done)| (*shard, done.until, done.sum);
    found.shards.iter().map(flat).collect()
}

/// What a reader of committed records sees in partition 0.
fn seen(connection: &Connection, topic: &str) -> Vec<String> {
    let (_consumer, mut readers) = open(connection, topic, &[(0, 0)], Options::default());
    let values = read_all(&mut readers[0]).into_iter();
    values
        .map(|value| String::from_utf8(value).unwrap())
        .collect()
}

#[test]
fn batches_are_seen_whole_and_once_with_their_ticks_and_progress_is_read_back() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("batches", 2).into();
    let progress = progress_topic(&connection, "batches-progress");
    let mut writer =
        Transactions::open(&connection, "batches-0", &progress, 1, &patience()).unwrap();
    let mut batch = Batch::default();
    for round in 1..=3 {
        batch.clear();
        for partition in [0, 1] {
            for number in 0..1_000 {
                let value = format!("{round} {number}");
                let parts = value.as_bytes().split_at(2);
                batch.push(&topic, partition, round * 100, b"k", &[parts.0, parts.1]);
            }
        }
        batch.progress = Progress {
            until: round * 100 + 1,
            shards: vec![(7, round * 10), (8, round)],
        };
        assert_eq!(writer.commit(&batch), Ok(()));
    }
    let found = read_progress(&connection, &progress, &ids(&["batches-0"]), &patience()).unwrap();
    assert_eq!(done(&found), [(7, 301, 30), (8, 301, 3)]);
    assert_eq!(found.incarnation, 1);

    let expected = (1..=3).flat_map(|round| (0..1_000).map(move |n| (round, n)));
    let expected: Vec<String> = expected.map(|(round, n)| format!("{round} {n}")).collect();
    assert_eq!(seen(&connection, &topic), expected);
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set(
            "bootstrap.servers",
            &connection.properties["bootstrap.servers"],
        )
        .set("group.id", "headers")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(&topic, 1, Offset::Offset(1_001))
        .unwrap();
    consumer.assign(&from).unwrap();
    let message = eventually("a record", || consumer.poll(Duration::from_millis(10)));
    let message = message.unwrap();
    assert_eq!(
        (message.key(), message.payload()),
        (Some(&b"k"[..]), Some(&b"2 0"[..]))
    );
    let header = message.headers().unwrap().get(0);
    assert_eq!((header.key, header.value), ("tick", Some(&b"200"[..])));
}

#[test]
fn who_opens_an_id_again_takes_it_over() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("twice", 1).into();
    let progress = progress_topic(&connection, "twice-progress");
    let open = |incarnation| {
        Transactions::open(&connection, "twice-0", &progress, incarnation, &patience())
    };
    let mut first = open(1).unwrap();
    first
        .commit(&batch(&topic, 10, &[(0, 1)], &["first"]))
        .unwrap();
    let mut second = open(1).unwrap();
    let fenced = first.commit(&batch(&topic, 20, &[(0, 2)], &["never"]));
    let id = "twice-0".to_owned();
    assert_eq!(
        fenced,
        Err(KafkaError::Fenced {
            id: id.clone(),
            incarnation: 1
        })
    );
    second
        .commit(&batch(&topic, 20, &[(0, 2)], &["second"]))
        .unwrap();

    let mut third = open(5).unwrap();
    let superseded = second.commit(&batch(&topic, 30, &[(0, 3)], &["never"]));
    let by = |incarnation| KafkaError::Superseded {
        id: id.clone(),
        incarnation,
        found: 5,
    };
    assert_eq!(superseded, Err(by(1)));
    assert_eq!(open(4).err(), Some(by(4)));
    third
        .commit(&batch(&topic, 30, &[(0, 3)], &["third"]))
        .unwrap();
    assert_eq!(seen(&connection, &topic), ["first", "second", "third"]);
}

#[test]
fn who_was_fenced_never_commits_again() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("fenced", 1).into();
    let progress = progress_topic(&connection, "fenced-progress");
    let names = ids(&["fenced-0", "fenced-1", "fenced-2"]);
    let open = |id| Transactions::open(&connection, id, &progress, 1, &patience()).unwrap();
    let mut writers = [open("fenced-0"), open("fenced-1")];
    writers[0]
        .commit(&batch(&topic, 10, &[(1, 11)], &["a"]))
        .unwrap();
    writers[1]
        .commit(&batch(&topic, 12, &[(2, 22)], &["b"]))
        .unwrap();

    // Not even opened yet, and its IDs are others' for good: what it found is all there is.
    let found = fence(&connection, &names, &progress, 2, &patience()).unwrap();
    assert_eq!(done(&found), [(1, 10, 11), (2, 12, 22)]);
    assert_eq!(found.incarnation, 2);
    for (at, writer) in writers.iter_mut().enumerate() {
        for _ in 0..2 {
            let again = writer.commit(&batch(&topic, 20, &[(at as u8 + 1, 0)], &["never"]));
            let superseded = KafkaError::Superseded {
                id: names[at].clone(),
                incarnation: 1,
                found: 2,
            };
            assert_eq!(again, Err(superseded));
        }
    }
    let superseded = fence(&connection, &names, &progress, 1, &patience());
    assert!(matches!(
        superseded,
        Err(KafkaError::Superseded { found: 2, .. })
    ));

    let mut heir = Transactions::open(&connection, "fenced-0", &progress, 2, &patience()).unwrap();
    heir.commit(&batch(&topic, 20, &[(1, 33)], &["c"])).unwrap();
    assert_eq!(seen(&connection, &topic), ["a", "b", "c"]);
    let found = read_progress(&connection, &progress, &names, &patience()).unwrap();
    assert_eq!(done(&found), [(1, 20, 33), (2, 12, 22)]);
}

#[test]
fn who_dies_between_sending_and_committing_leaves_nothing() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("died", 1);
    let progress = progress_topic(&connection, "died-progress");
    // Its transaction stays open, as if it had been killed, for longer than this test may take.
    let patient = connection.clone().with("transaction.timeout.ms", "900000");
    let died = producer(&patient, Some("died-0"));
    died.begin_transaction().unwrap();
    write(&died, &topic, 0, ["half", "of", "it"]);
    write(&died, &progress, 0, ["and no progress"]);
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    eventually("known to be unread", || {
        (readers[0].behind() == Some(3)).then_some(())
    });

    let found = fence(&connection, &ids(&["died-0"]), &progress, 1, &patience()).unwrap();
    assert_eq!(done(&found), []);
    assert_eq!(read_all(&mut readers[0]), Vec::<Vec<u8>>::new());
    assert!(died.commit_transaction(Duration::from_secs(60)).is_err());
    assert_eq!(read_all(&mut readers[0]), Vec::<Vec<u8>>::new());
}

#[test]
fn nothing_is_written_behind_a_transaction_that_hangs() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("hanging", 2).into();
    let progress = progress_topic(&connection, "hanging-progress");
    let patient = connection.clone().with("transaction.timeout.ms", "900000");
    let other = producer(&patient, Some("another"));
    other.begin_transaction().unwrap();
    write(&other, &topic, 0, ["open"]);

    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    let patience = patience().saying(move |text| heard.lock().unwrap().push(text.to_owned()));
    let mut writer = Transactions::open(&connection, "hanging-0", &progress, 1, &patience).unwrap();
    let writing = {
        let topic = topic.clone();
        thread::spawn(move || writer.commit(&batch(&topic, 10, &[], &["mine"])))
    };
    let first = eventually("a message", || said.lock().unwrap().first().cloned());
    let expected = "write to topic \"hanging\", partition 0: offsets 0 to 1 are held back by an open transaction";
    assert!(first.contains(expected), "{first}");
    other.abort_transaction(Duration::from_secs(60)).unwrap();
    assert_eq!(writing.join().unwrap(), Ok(()));
    assert_eq!(seen(&connection, &topic), ["mine"]);
}

#[test]
fn shards_that_move_to_another_id_keep_their_progress() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("moving", 1).into();
    let progress = progress_topic(&connection, "moving-progress");
    let names = ids(&["moving-0", "moving-1"]);
    let open = |id, incarnation| {
        Transactions::open(&connection, id, &progress, incarnation, &patience()).unwrap()
    };
    let mut writer = open("moving-0", 1);
    writer
        .commit(&batch(&topic, 50, &[(1, 1), (2, 2)], &[]))
        .unwrap();
    // Shard 2 goes elsewhere, and its last progress must outlive the compaction of its old ID.
    let mut writer = open("moving-0", 2);
    writer.commit(&batch(&topic, 60, &[(1, 3)], &[])).unwrap();
    let found = read_progress(&connection, &progress, &names[..1], &patience()).unwrap();
    assert_eq!(done(&found), [(1, 60, 3), (2, 50, 2)]);
    let mut other = open("moving-1", 2);
    other.commit(&batch(&topic, 70, &[(2, 4)], &[])).unwrap();
    let found = read_progress(&connection, &progress, &names, &patience()).unwrap();
    assert_eq!(done(&found), [(1, 60, 3), (2, 70, 4)]);

    let back = writer.commit(&batch(&topic, 59, &[(1, 5)], &[]));
    assert_eq!(
        back.unwrap_err().to_string(),
        "transactional ID \"moving-0\": a batch ends at tick 59, but shard 1 is committed up to tick 60"
    );
}

#[test]
fn progress_is_found_however_far_back_it_lies() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("back", 1).into();
    let progress = progress_topic(&connection, "back-progress");
    let open = |id| Transactions::open(&connection, id, &progress, 1, &patience()).unwrap();
    open("back-0")
        .commit(&batch(&topic, 50, &[(1, 1)], &[]))
        .unwrap();
    open("back-1")
        .commit(&batch(&topic, 60, &[(2, 2)], &[]))
        .unwrap();
    let (_consumer, mut readers) =
        crate::broker::open(&connection, &progress, &[(0, 0)], Options::default());
    let last = read_all(&mut readers[0]).pop().unwrap();
    let busy = producer(&connection, Some("back-1"));
    busy.begin_transaction().unwrap();
    for _ in 0..12_000 {
        let record = BaseRecord::to(&progress).key("back-1").payload(&last);
        busy.send(record).map_err(|(error, _)| error).unwrap();
    }
    busy.commit_transaction(Duration::from_secs(60)).unwrap();
    let both = read_progress(
        &connection,
        &progress,
        &ids(&["back-0", "back-1"]),
        &patience(),
    );
    assert_eq!(done(&both.unwrap()), [(1, 50, 1), (2, 60, 2)]);
}

#[test]
fn a_damaged_progress_record_is_an_error_with_its_offset() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let progress = progress_topic(&connection, "damaged-progress");
    write(&producer(&connection, None), &progress, 0, ["no progress"]);
    let found = read_progress(&connection, &progress, &ids(&["damaged-0"]), &patience());
    assert_eq!(
        found.unwrap_err().to_string(),
        "topic \"damaged-progress\", offset 0: not a progress record: its version is not 1; was it written by a later program?"
    );
}

#[test]
fn a_record_that_no_topic_takes_ends_it() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection().with("message.max.bytes", "5000000");
    let topic: Arc<str> = broker.topic("large", 1).into();
    let progress = progress_topic(&connection, "large-progress");
    let commit = |connection: &Connection, length: usize| {
        let value = noise(length);
        let mut batch = Batch::default();
        batch.push(&topic, 0, 1, b"k", &[&value]);
        let opened = Transactions::open(connection, "large-0", &progress, 1, &patience());
        opened.unwrap().commit(&batch)
    };
    let too_large = KafkaError::TooLarge {
        topic: topic.to_string(),
        partition: 0,
        bytes: 2_000_001,
    };
    // By the topic, and by the producer.
    assert_eq!(commit(&connection, 2_000_000), Err(too_large.clone()));
    assert_eq!(commit(&broker.connection(), 2_000_000), Err(too_large));
    assert_eq!(commit(&connection, 900_000), Ok(()));
}

/// Bytes that no compression makes smaller.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

#[test]
fn a_stop_ends_the_wait_for_brokers() {
    let Some(broker) = alone() else { return };
    let connection = broker.connection();
    let topic: Arc<str> = broker.topic("stopped", 1).into();
    let progress = progress_topic(&connection, "stopped-progress");
    let stop = Arc::new(AtomicBool::new(false));
    let patient = Patience::until(stop.clone());
    let mut writer = Transactions::open(&connection, "stopped-0", &progress, 1, &patient).unwrap();
    broker.kill();
    let waiting = {
        let topic = topic.clone();
        thread::spawn(move || writer.commit(&batch(&topic, 10, &[], &["never"])))
    };
    stop.store(true, Ordering::Relaxed);
    assert_eq!(waiting.join().unwrap(), Err(KafkaError::Stopped));

    // Those who have a limit say what they waited for.
    let limited = Patience::until(Arc::default()).limit(Duration::from_secs(1));
    let names = ids(&["stopped-0"]);
    let failed = read_progress(&connection, &progress, &names, &limited).unwrap_err();
    assert!(matches!(failed, KafkaError::Failed { .. }), "{failed:?}");
}

#[test]
fn through_a_broker_that_dies_and_comes_back_everything_is_written_once() {
    let Some(broker) = alone() else { return };
    outages(&broker, "killed", &broker.connection(), || {
        broker.kill();
        broker.restart();
    });
}

#[test]
fn an_outage_may_outlast_what_a_transaction_may_take() {
    let Some(broker) = alone() else { return };
    let hasty = broker.connection().with("transaction.timeout.ms", "1000");
    outages(&broker, "outlasted", &hasty, || {
        broker.pause();
        thread::sleep(Duration::from_secs(3));
        broker.resume();
    });
}

/// Writes batches through three outages, and looks whether each is there once.
fn outages(broker: &Alone, name: &str, connection: &Connection, outage: impl Fn()) {
    const BATCHES: u64 = 120;
    let topic: Arc<str> = broker.topic(name, 1).into();
    let progress = progress_topic(connection, &format!("{name}-progress"));
    let id = format!("{name}-0");
    let committed = Arc::new(AtomicUsize::new(0));
    let writing = {
        let (connection, topic, progress) = (connection.clone(), topic.clone(), progress.clone());
        let (id, committed) = (id.clone(), committed.clone());
        thread::spawn(move || {
            let mut writer =
                Transactions::open(&connection, &id, &progress, 1, &patience()).unwrap();
            for number in 1..=BATCHES {
                let values = [0, 1, 2].map(|part| format!("{number}.{part}"));
                let values = values.each_ref().map(String::as_str);
                let batch = batch(&topic, number, &[(3, number)], &values);
                writer.commit(&batch).unwrap();
                committed.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    for kill in 1..=3 {
        let some = kill * BATCHES as usize / 4;
        eventually("some batches", || {
            (committed.load(Ordering::Relaxed) >= some || writing.is_finished()).then_some(())
        });
        outage();
    }
    writing.join().unwrap();
    let expected = (1..=BATCHES).flat_map(|n| [0, 1, 2].map(|part| format!("{n}.{part}")));
    assert_eq!(seen(connection, &topic), expected.collect::<Vec<_>>());
    let found = read_progress(connection, &progress, &[id], &patience()).unwrap();
    assert_eq!(
        found.shards,
        BTreeMap::from([(
            3,
            Done {
                until: BATCHES,
                sum: BATCHES
            }
        )])
    );
}
