//! Reading: every record once, in order, from where it was asked for and from nowhere else; and
//! what is known of the end.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use rdkafka::producer::Producer;
use visitflow::kafka::{Consumer, KafkaError, Options, describe};
use visitflow::wall;

use crate::broker::{
    Alone, alone, broker, eventually, failure, open, patience, producer, read, read_all, write,
};

fn numbers(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| number.to_string())
}

#[test]
fn records_come_in_order_and_stay_until_they_are_passed() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("order", 1);
    let before = wall::now();
    write(&producer(&connection, None), &topic, 0, numbers(5_000));

    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    let reader = &mut readers[0];
    for number in 0..5_000 {
        let value = eventually("a record", || {
            let record = reader.peek().unwrap()?;
            assert_eq!(record.offset, number);
            assert!(record.appended && record.log_time >= before - 1_000);
            assert_eq!(record.key, Some(&b"key"[..]));
            Some(record.value.unwrap().to_vec())
        });
        assert_eq!(value, number.to_string().into_bytes());
        let again = reader.peek().unwrap().unwrap();
        assert_eq!(
            (again.offset, again.value),
            (number, Some(value.as_slice()))
        );
        assert_eq!(reader.offset(), number);
        reader.advance();
        assert_eq!(reader.offset(), number + 1);
    }

    // From the middle, as after a restart.
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 4_998)], Options::default());
    let rest = [(4_998, b"4998".to_vec()), (4_999, b"4999".to_vec())];
    assert_eq!(read(&mut readers[0], 2), rest);
    assert_eq!(readers[0].peek(), Ok(None));
}

#[test]
fn a_partition_that_is_not_read_holds_no_other_up() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("apart", 2);
    let producer = producer(&connection, None);
    let large = vec![b'x'; 10_000];
    for partition in [0, 1] {
        write(&producer, &topic, partition, (0..1_000).map(|_| &large));
    }
    let options = Options {
        queue_bytes_per_partition: 20_000,
        ..Options::default()
    };
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0), (1, 0)], options);
    assert_eq!(read(&mut readers[1], 1_000).len(), 1_000);
    assert_eq!(read(&mut readers[0], 1_000).len(), 1_000);
}

#[test]
fn only_an_answer_of_the_leader_says_that_nothing_more_is_there() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("answers", 2);
    let producer = producer(&connection, None);
    write(&producer, &topic, 0, numbers(3));

    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0), (1, 0)], Options::default());
    let [reader, empty] = &mut readers[..] else {
        panic!()
    };
    assert_eq!((reader.answered(), reader.behind()), (None, Some(3)));
    read(reader, 2);
    assert_eq!((reader.answered(), reader.behind()), (None, Some(1)));
    // The last record is held: it is known, and unread.
    eventually("a record", || reader.peek().unwrap().map(drop));
    assert_eq!((reader.answered(), reader.behind()), (None, Some(1)));
    reader.advance();
    let first = eventually("an answer", || reader.answered());
    assert_eq!(reader.behind(), Some(0));
    // Answers go on, though nothing comes.
    let later = eventually("a later answer", || {
        reader.answered().filter(|sent| *sent > first)
    });
    assert!(later <= wall::now());
    assert!(empty.answered().is_some());
    assert!(reader.silence().since >= first);

    write(&producer, &topic, 0, ["more"]);
    eventually("known to be unread", || {
        reader.answered().is_none().then_some(())
    });
    assert_eq!(read(reader, 1), [(3, b"more".to_vec())]);
    eventually("an answer", || reader.answered());
}

#[test]
fn an_open_transaction_upstream_is_not_the_end() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("upstream", 1);
    let upstream = producer(&connection, Some("upstream"));
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    let reader = &mut readers[0];
    for end in ["commit", "abort", "commit"] {
        let start = reader.offset();
        eventually("the end", || reader.answered());
        upstream.begin_transaction().unwrap();
        write(&upstream, &topic, 0, [end]);
        eventually("known to be unread", || {
            reader.answered().is_none().then_some(())
        });
        // For as long as it is open, whatever the last stable offset says.
        let heard = reader.silence().since;
        eventually("more answers", || {
            assert_eq!(reader.peek(), Ok(None));
            assert_eq!((reader.answered(), reader.behind()), (None, Some(1)));
            (reader.silence().since > heard + 600).then_some(())
        });
        if end == "commit" {
            upstream
                .commit_transaction(Duration::from_secs(60))
                .unwrap();
            assert_eq!(read(reader, 1), [(start, b"commit".to_vec())]);
        } else {
            upstream.abort_transaction(Duration::from_secs(60)).unwrap();
        }
        // The transaction's mark has an offset too.
        eventually("the end behind the mark", || {
            assert_eq!(reader.peek(), Ok(None));
            let answered = reader.answered();
            answered.filter(|_| reader.offset() == start + 2)
        });
    }
}

#[test]
fn an_offset_that_is_gone_is_an_error_with_what_is_lost() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("gone", 1);
    let large = vec![b'x'; 10_000];
    write(
        &producer(&connection, None),
        &topic,
        0,
        (0..1_000).map(|_| &large),
    );
    let options = Options {
        queue_bytes_per_partition: 20_000,
        ..Options::default()
    };
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], options.clone());
    read(&mut readers[0], 1);
    broker.delete_records(&topic, 0, 990);

    // While it is read: what had been fetched is still read, and nothing is skipped after it.
    match failure(&mut readers[0]) {
        KafkaError::OffsetGone {
            partition: 0,
            wanted,
            earliest: 990,
            lost,
            ..
        } => {
            assert_eq!(wanted, readers[0].offset());
            assert_eq!(lost as i64, 990 - wanted);
        }
        error => panic!("{error:?}"),
    }
    assert!(readers[0].peek().is_err());

    // And at a start.
    let opened = Consumer::open(&connection, &topic, &[(0, 10)], options, &patience());
    assert_eq!(
        opened.err().unwrap().to_string(),
        "topic \"gone\", partition 0: offset 10 is gone: the earliest is 990, so 980 offsets are lost"
    );
}

#[test]
fn an_offset_beyond_the_end_is_an_error() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("beyond", 1);
    write(&producer(&connection, None), &topic, 0, numbers(3));
    let at = |offset| {
        let options = Options::default();
        Consumer::open(&connection, &topic, &[(0, offset)], options, &patience())
    };
    assert!(at(3).is_ok());
    assert_eq!(
        at(4).err().unwrap().to_string(),
        "topic \"beyond\", partition 0: offset 4 lies beyond the end, 3: was the topic created anew?"
    );
}

#[test]
fn a_topic_or_a_partition_that_is_not_there_is_an_error() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("there", 2);
    let open = |topic: &str, partition| {
        let options = Options::default();
        let opened = Consumer::open(&connection, topic, &[(partition, 0)], options, &patience());
        opened.err().unwrap().to_string()
    };
    assert_eq!(open("not-there", 0), "Kafka has no topic \"not-there\"");
    let no_partition = "topic \"there\" has no partition 2: it has 2";
    assert_eq!(open(&topic, 2), no_partition);
}

#[test]
fn a_topic_that_is_created_anew_is_noticed() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("anew", 1);
    write(&producer(&connection, None), &topic, 0, numbers(100));
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    read(&mut readers[0], 100);
    broker.delete_topic(&topic);
    broker.topic("anew", 1);
    write(&producer(&connection, None), &topic, 0, numbers(10));
    is_noticed(failure(&mut readers[0]));
    assert_eq!(readers[0].offset(), 100);
}

/// Which of these is said first depends on when the topic's ID and when its end are asked for: before it
/// is there again, or after; with too few records, or when it had too few and has more by now.
fn is_noticed(anew: KafkaError) {
    match anew {
        KafkaError::TopicAnew { .. } | KafkaError::TopicGone { .. } => {}
        KafkaError::OffsetBeyond { wanted: 100, .. } => {}
        KafkaError::Diverged { wanted: 100, .. } => {}
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_topic_that_is_created_anew_is_noticed_however_far_it_has_grown() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("grown", 1);
    write(&producer(&connection, None), &topic, 0, numbers(100));
    let was = describe(&connection, &topic, &patience()).unwrap().id;
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    read(&mut readers[0], 100);
    broker.delete_topic(&topic);
    broker.topic("grown", 1);
    write(&producer(&connection, None), &topic, 0, numbers(200));

    // While it is read: it may have been gone for long enough to be missed.
    is_noticed(failure(&mut readers[0]));
    // And at a start.
    let is = describe(&connection, &topic, &patience()).unwrap().id;
    assert!(was.is_some() && is.is_some() && was != is);
    let at_start = |topic_id: &Option<String>| {
        let options = Options {
            topic_id: topic_id.clone(),
            ..Options::default()
        };
        Consumer::open(&connection, &topic, &[(0, 100)], options, &patience())
    };
    let (was, is) = (was.unwrap(), is.unwrap());
    let anew = KafkaError::TopicAnew {
        topic: topic.clone(),
        was: was.clone(),
        is: is.clone(),
    };
    assert_eq!(at_start(&Some(was)).err(), Some(anew));
    assert!(at_start(&Some(is)).is_ok());
}

#[test]
fn a_topic_that_is_deleted_is_noticed() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("deleted", 1);
    write(&producer(&connection, None), &topic, 0, numbers(10));
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    read(&mut readers[0], 10);
    broker.delete_topic(&topic);
    assert_eq!(failure(&mut readers[0]), KafkaError::TopicGone { topic });
}

#[test]
fn new_partitions_are_noticed_and_can_be_read() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("growing", 2);
    let (consumer, _readers) = open(&connection, &topic, &[(0, 0), (1, 0)], Options::default());
    assert_eq!(consumer.partitions(), 2);
    broker.add_partitions(&topic, 3);
    eventually("3 partitions", || {
        (consumer.partitions() == 3).then_some(())
    });
    write(&producer(&connection, None), &topic, 2, ["new"]);
    let mut added = consumer.add(&[(2, 0)], &patience()).unwrap();
    assert_eq!(read(&mut added[0], 1), [(0, b"new".to_vec())]);
    eventually("an answer", || added[0].answered());
}

#[test]
fn whoever_waits_is_woken() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("waking", 1);
    let woken = Arc::new(AtomicUsize::new(0));
    let count = woken.clone();
    let options = Options {
        wake: Some(Arc::new(move || {
            count.fetch_add(1, Ordering::Relaxed);
        })),
        ..Options::default()
    };
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], options);
    read_all(&mut readers[0]);
    let before = woken.load(Ordering::Relaxed);
    write(&producer(&connection, None), &topic, 0, ["a"]);
    eventually("a wake", || {
        (woken.load(Ordering::Relaxed) > before).then_some(())
    });
    read(&mut readers[0], 1);
}

#[test]
fn a_broker_that_is_away_is_silence_and_no_error() {
    let Some(broker) = alone() else { return };
    let connection = broker.connection();
    let topic = broker.topic("away", 1);
    write(&producer(&connection, None), &topic, 0, numbers(10));
    let (_consumer, mut readers) = open(&connection, &topic, &[(0, 0)], Options::default());
    let reader = &mut readers[0];
    assert_eq!(read_all(reader).len(), 10);

    type Outage = (fn(&Alone), fn(&Alone));
    let outages: [Outage; 2] = [(Alone::kill, Alone::restart), (Alone::pause, Alone::resume)];
    for (number, (begin, end)) in outages.into_iter().enumerate() {
        begin(&broker);
        let gone = wall::now();
        let silence = eventually("silence", || {
            assert_eq!(reader.peek(), Ok(None));
            let silence = reader.silence();
            (silence.error.is_some() && wall::now() - silence.since > 4_000).then_some(silence)
        });
        // Of before, or of when it was gone already but an answer was under way.
        assert!(silence.since < gone + 1_000, "{silence:?}");
        // What was said stands, and does not grow.
        let last = reader.answered().unwrap();
        assert!(last <= silence.since);

        end(&broker);
        eventually("an answer", || {
            assert_eq!(reader.peek(), Ok(None));
            reader.answered().filter(|sent| *sent > last)
        });
        assert_eq!(reader.silence().error, None);
        write(&producer(&connection, None), &topic, 0, ["after"]);
        let next = 10 + number as i64;
        assert_eq!(read(reader, 1), [(next, b"after".to_vec())]);
    }
}

#[test]
fn a_broker_that_is_away_at_the_start_is_waited_for() {
    let Some(broker) = alone() else { return };
    let connection = broker.connection();
    let topic = broker.topic("late", 1);
    write(&producer(&connection, None), &topic, 0, numbers(10));
    broker.kill();
    let said = Arc::new(Mutex::new(Vec::new()));
    let heard = said.clone();
    let patience = patience().saying(move |text| heard.lock().unwrap().push(text.to_owned()));
    let opening = thread::spawn(move || {
        let options = Options::default();
        Consumer::open(&connection, &topic, &[(0, 4)], options, &patience)
    });
    eventually("a message", || {
        (!said.lock().unwrap().is_empty()).then_some(())
    });
    broker.restart();
    let (_consumer, mut readers) = opening.join().unwrap().unwrap();
    assert_eq!(read_all(&mut readers[0]).len(), 6);
    let said = said.lock().unwrap();
    assert!(said[0].contains("look up topic \"late\""), "{said:?}");
}
