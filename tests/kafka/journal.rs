//! Journals in a topic: all that those in a folder promise, and what only a topic can do wrong.

use visitflow::kafka::{Place, create, describe, offsets};
use visitflow::recovery::{Append, Journals, Topic, journal::file_name};

use crate::broker::{alone, broker, patience};
use crate::journals;

#[test]
fn a_topic_is_a_place_for_journals() {
    let Some(broker) = broker() else { return };
    let place = || Topic::at(broker.connection(), "journals".to_owned(), patience());
    assert!(
        place().names().unwrap().is_empty(),
        "no topic holds nothing"
    );
    place().prepare(1).unwrap();
    // Another start has more processes.
    place().prepare(2).unwrap();
    place().prepare(1).unwrap();
    let found = describe(&broker.connection(), "journals", &patience()).unwrap();
    assert_eq!(found.partitions, 2);
    journals::holds(place);
    // What is forgotten is deleted.
    let from = |at| offsets(&broker.connection(), "journals", &[0], at, &patience()).unwrap()[0];
    let left = from(Place::End) - from(Place::Earliest);
    assert!(left < 8, "{left} records are left");
}

#[test]
fn a_topic_that_would_lose_journals_is_refused() {
    let Some(broker) = broker() else { return };
    let connection = broker.connection();
    let settings = [("cleanup.policy", "compact"), ("retention.ms", "-1")];
    create(&connection, "compacted", 1, &settings, &patience()).unwrap();
    let place = Topic::at(connection, "compacted".to_owned(), patience());
    let error = place.prepare(1).unwrap_err().to_string();
    assert!(
        error.contains("\"compacted\" has cleanup.policy=compact; expected delete"),
        "{error}"
    );
}

#[test]
fn an_outage_only_delays_what_is_durable() {
    let Some(broker) = alone() else { return };
    let place = || Topic::at(broker.connection(), "outage".to_owned(), patience());
    place().prepare(1).unwrap();
    let name = file_name(1, 0, 0);
    let mut journal = place().begin(&name).unwrap();
    journal.append(b"before ").unwrap();
    journal.sync().unwrap();
    broker.kill();
    journal.append(b"during ").unwrap();
    std::thread::scope(|scope| {
        let synced = scope.spawn(|| journal.sync());
        std::thread::sleep(std::time::Duration::from_millis(500));
        assert!(!synced.is_finished(), "nobody has it");
        broker.restart();
        synced.join().unwrap().unwrap();
    });
    journal.append(b"after").unwrap();
    journal.sync().unwrap();
    assert_eq!(
        place().bytes(&name).unwrap().unwrap(),
        b"before during after"
    );
}
