//! What topics are, and making them.

use visitflow::kafka::{KafkaError, Place, Topic, create, describe, offsets};

use crate::broker::{broker, patience, producer, write};

#[test]
fn a_topic_is_created_once_and_described() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let settings = [
        ("message.timestamp.type", "LogAppendTime"),
        ("max.message.bytes", "12345"),
    ];
    let make = |partitions| create(&connection, "created", partitions, &settings, &patience());
    assert_eq!(make(3), Ok(()));
    assert_eq!(make(3), Ok(()));
    assert_eq!(
        make(4).unwrap_err().to_string(),
        "topic \"created\" has 3 partitions: expected 4"
    );
    let described = describe(&connection, "created", &patience()).unwrap();
    let expected = Topic {
        id: described.id.clone(),
        partitions: 3,
        log_append_time: true,
        max_message_bytes: 12345,
    };
    assert_eq!(described, expected);
    create(&connection, "by-create-time", 1, &[], &patience()).unwrap();
    let described = describe(&connection, "by-create-time", &patience()).unwrap();
    assert!(!described.log_append_time);
}

#[test]
fn a_topic_that_is_not_there_is_an_error_of_its_own() {
    let Some(broker) = broker() else { return };
    let described = describe(&broker.connection(), "nowhere", &patience());
    let topic = "nowhere".to_owned();
    assert_eq!(described, Err(KafkaError::NoTopic { topic }));
}

#[test]
fn a_setting_that_brokers_do_not_know_is_refused() {
    let Some(broker) = broker() else { return };
    let settings = [("no.such.setting", "1")];
    let refused = create(&broker.connection(), "refused", 1, &settings, &patience());
    assert!(
        matches!(refused, Err(KafkaError::Refused { .. })),
        "{refused:?}"
    );
}

#[test]
fn places_have_offsets() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let topic = broker.topic("places", 2);
    let from = |place| offsets(&connection, &topic, &[1, 0], place, &patience()).unwrap();
    let producer = producer(&connection, None);
    write(&producer, &topic, 1, ["a", "b", "c"]);
    assert_eq!(from(Place::Earliest), [0, 0]);
    assert_eq!(from(Place::End), [3, 0]);
    assert_eq!(from(Place::At(0)), [0, 0]);
    // The year 2100: nothing is that late.
    assert_eq!(from(Place::At(4_102_444_800_000)), [3, 0]);
    broker.delete_records(&topic, 1, 2);
    assert_eq!(from(Place::Earliest), [2, 0]);
}
