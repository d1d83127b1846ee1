//! The specs. Each takes a log of its own.

use std::sync::Arc;
use std::time::Duration;

use visitflow::recovery::script::Resume;
use visitflow::run::Failure;
use visitflow::run::input::{Input, Opened};
use visitflow::sink::topics::Destination;
use visitflow::source::{Adopting, Hold, Partition, Reading};
use visitflow::wall;
use visitflow_dataflows::clock::{ClockKind, PartitionClock};
use visitflow_dataflows::visit::Rules;

use crate::log::{Log, eventually, values};

/// Of the topics of results.
const TAGGED: usize = 0;
const LIFECYCLE: usize = 1;

fn open(input: &Input, partitions: &[(u32, u64)]) -> Result<Opened, String> {
    let opened = input.read(partitions, 64 << 20, &Failure::default(), Arc::new(|| ()));
    opened.map_err(|error| error.to_string())
}

/// The next so many records, as offset and value.
#[track_caller]
fn take(reading: &mut Reading, count: usize) -> Vec<(u64, String)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        let next = eventually("a record", || {
            let record = reading.peek().unwrap()?;
            let value = String::from_utf8(record.value.to_vec()).unwrap();
            Some((record.offset, value))
        });
        taken.push(next);
        reading.advance();
    }
    taken
}

fn numbered(values: Vec<String>, first: u64) -> Vec<(u64, String)> {
    (first..).zip(values).collect()
}

fn partition(reading: Reading) -> (Partition, Rules) {
    let rules = Rules::default();
    let clock = PartitionClock::new(ClockKind::LogTime, rules, 60_000, 100);
    let resume = Resume::default();
    (Partition::new(0, reading, clock, resume, 0), rules)
}

/// Looks at a partition until it is held by something.
#[track_caller]
fn held(partition: &mut Partition, follow: bool, by: Hold) -> u64 {
    eventually("it is held so", || {
        partition.look(follow, wall::now()).unwrap();
        (partition.hold == by).then_some(partition.next)
    })
}

pub fn what_is_appended_is_read_in_order_and_again_from_any_place(log: &impl Log) {
    log.create("in", 2);
    let before = wall::now();
    log.append("in", 0, &values(0..500));
    log.append("in", 1, &values(500..600));
    let input = log.input("in");
    assert_eq!(input.partitions(), 2);
    assert_eq!(input.first_offsets(&[0, 1]).unwrap(), [0, 0]);

    let mut opened = open(&input, &[(0, 0), (1, 0)]).unwrap();
    let [(0, first), (1, second)] = &mut opened.readings[..] else {
        panic!("two partitions")
    };
    assert_eq!(take(second, 100), numbered(values(500..600), 0));
    let time = eventually("a record", || {
        let record = first.peek().unwrap()?;
        assert_eq!((record.offset, record.value), (0, &b"value 0"[..]));
        Some(record.log_time)
    });
    // A broker's clock is this host's.
    assert!((before..=wall::now()).contains(&time), "{time}");
    assert_eq!(first.offset(), 0);
    assert_eq!(take(first, 500), numbered(values(0..500), 0));
    assert_eq!(first.offset(), 500);

    let mut again = open(&input, &[(0, 498)]).unwrap();
    let rest = take(&mut again.readings[0].1, 2);
    assert_eq!(rest, numbered(values(498..500), 498));
}

pub fn growth_is_followed(log: &impl Log) {
    log.create("in", 1);
    let mut opened = open(&log.input("in"), &[(0, 0)]).unwrap();
    let reading = &mut opened.readings[0].1;
    for round in 0..3 {
        eventually("the end", || {
            assert!(reading.peek().unwrap().is_none());
            reading.answered(wall::now())
        });
        let new = round * 10..(round + 1) * 10;
        log.append("in", 0, &values(new.clone()));
        assert_eq!(take(reading, 10), numbered(values(new.clone()), new.start));
    }
}

pub fn time_goes_on_at_the_end_and_never_in_front_of_what_is_there(log: &impl Log) {
    const HOUR: i64 = 3_600_000;
    log.create("in", 1);
    log.append("in", 0, &values(0..3));
    let mut opened = open(&log.input("in"), &[(0, 0)]).unwrap();
    let (_, reading) = opened.readings.remove(0);
    let (mut partition, rules) = partition(reading);

    held(&mut partition, true, Hold::Unread);
    let record = partition.reading.peek().unwrap().unwrap().log_time;
    // However late it is: there is a record that has not been read.
    partition.look(true, wall::now() + HOUR).unwrap();
    assert_eq!(partition.hold, Hold::Unread);
    assert!(partition.next as i64 <= record + rules.max_lag);

    take(&mut partition.reading, 3);
    let end = held(&mut partition, true, Hold::Wall);
    assert!(end as i64 <= wall::now());
    let later = eventually("a later tick", || {
        std::thread::sleep(Duration::from_millis(20));
        partition.look(true, wall::now()).unwrap();
        (partition.hold == Hold::Wall && partition.next > end).then_some(partition.next)
    });

    log.append("in", 0, &values(3..4));
    let read = held(&mut partition, true, Hold::Unread);
    assert!(read >= later);
    assert_eq!(take(&mut partition.reading, 1), numbered(values(3..4), 3));
}

pub fn a_partition_that_is_not_followed_is_closed_at_its_end(log: &impl Log) {
    log.create("in", 1);
    log.append("in", 0, &values(0..3));
    let mut opened = open(&log.input("in"), &[(0, 0)]).unwrap();
    let (_, reading) = opened.readings.remove(0);
    let (mut partition, _) = partition(reading);
    held(&mut partition, false, Hold::Unread);
    take(&mut partition.reading, 3);
    assert_eq!(held(&mut partition, false, Hold::Closed), u64::MAX);
}

pub fn partitions_that_are_added_are_found_where_they_can_be(log: &impl Log) {
    log.create("in", 2);
    let opened = open(&log.input("in"), &[(0, 0), (1, 0)]).unwrap();
    if !log.add_partition("in", 2) {
        assert_eq!(log.input("in").partitions(), 2);
        assert!(opened.consumer.is_none());
        return;
    }
    let consumer = opened.consumer.expect("who may find more");
    let mut adopting = Adopting::new(consumer, 2, 0, 1);
    let found = eventually("a new partition", || adopting.found().unwrap().pop());
    assert_eq!(found.partition(), 2);
    log.append("in", 2, &values(0..3));
    let read = take(&mut Reading::Kafka(found), 3);
    assert_eq!(read, numbered(values(0..3), 0));
}

pub fn an_offset_that_is_gone_is_an_error_that_says_how_much_is_lost(log: &impl Log) {
    log.create("in", 1);
    log.append("in", 0, &values(0..500));
    let earliest = log.forget("in", 0);
    let input = log.input("in");
    assert_eq!(input.first_offsets(&[0]).unwrap(), [earliest]);
    let error = open(&input, &[(0, 3)]).err().unwrap();
    let lost = earliest - 3;
    let expected = format!("offset 3 is gone: the earliest is {earliest}, so {lost} ");
    assert!(error.contains(&expected), "{error}");
    let mut opened = open(&input, &[(0, earliest)]).unwrap();
    let next = take(&mut opened.readings[0].1, 1);
    assert_eq!(next, numbered(values(earliest..earliest + 1), earliest));
}

pub fn an_offset_beyond_the_end_is_an_error(log: &impl Log) {
    log.create("in", 1);
    log.append("in", 0, &values(0..5));
    let input = log.input("in");
    assert!(open(&input, &[(0, 5)]).is_ok());
    let error = open(&input, &[(0, 6)]).err().unwrap();
    let expected = "offset 6 lies beyond the end, 5: was the topic created anew?";
    assert!(error.contains(expected), "{error}");
}

pub fn a_topic_that_is_created_anew_is_noticed(log: &impl Log) {
    log.create("in", 1);
    log.append("in", 0, &values(0..5));
    let input = log.input("in");
    log.create_anew("in", 1);
    log.append("in", 0, &values(0..3));
    let error = open(&input, &[(0, 5)]).err().unwrap();
    assert!(error.contains("created anew"), "{error}");
    // Where it is longer than the old one was, its offsets alone say nothing.
    log.append("in", 0, &values(3..10));
    let opened = open(&input, &[(0, 5)]);
    assert_eq!(opened.is_err(), log.tells_topics_apart());
    if let Err(error) = opened {
        assert!(error.contains("created anew"), "{error}");
    }
}

fn push(results: &mut dyn Destination, topic: usize, tick: u64, shard: u8, value: &str) {
    let (front, back) = value.as_bytes().split_at(value.len() / 2);
    let pushed = results.push(topic, tick, shard, b"browser", &[front, back]);
    pushed.unwrap();
}

/// Commits the ticks up to and with `last`.
#[track_caller]
fn commit(results: &mut dyn Destination, last: u64) {
    results.commit(last + 1, last, true).unwrap();
    eventually("a commit", || {
        (results.committed().unwrap() > last).then_some(())
    });
}

/// The ticks and values that a consumer sees of a partition of `tagged`.
fn tagged(log: &impl Log, partition: u32) -> Vec<(String, String)> {
    let seen = log.seen(TAGGED, partition).into_iter();
    seen.map(|seen| (seen.tick, seen.value)).collect()
}

fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = |(tick, value): &(&str, &str)| ((*tick).to_owned(), (*value).to_owned());
    expected.iter().map(own).collect()
}

pub fn what_is_written_is_seen_in_the_order_of_its_partition_with_key_tick_and_time(
    log: &impl Log,
) {
    let mut results = log.results().unwrap();
    for (tick, shard, value) in [(100, 0, "a"), (100, 2, "b"), (200, 1, "c"), (200, 0, "d")] {
        push(&mut *results, TAGGED, tick, shard, value);
    }
    push(&mut *results, LIFECYCLE, 200, 1, "e");
    commit(&mut *results, 200);
    push(&mut *results, TAGGED, 300, 0, "f");
    commit(&mut *results, 300);

    let expected = pairs(&[("100", "a"), ("100", "b"), ("200", "d"), ("300", "f")]);
    assert_eq!(tagged(log, 0), expected);
    assert_eq!(tagged(log, 1), pairs(&[("200", "c")]));
    let [seen] = &log.seen(LIFECYCLE, 1)[..] else {
        panic!("one record")
    };
    assert_eq!((&*seen.key, &*seen.value), ("browser", "e"));
    let times: Vec<i64> = log
        .seen(TAGGED, 0)
        .iter()
        .map(|seen| seen.log_time)
        .collect();
    assert!(times.is_sorted() && times[0] > 0, "{times:?}");
}

pub fn what_is_not_committed_is_not_seen(log: &impl Log) {
    let mut results = log.results().unwrap();
    push(&mut *results, TAGGED, 100, 0, "a");
    commit(&mut *results, 100);
    push(&mut *results, TAGGED, 200, 0, "b");
    assert_eq!(tagged(log, 0), pairs(&[("100", "a")]));
    drop(results);
    assert_eq!(tagged(log, 0), pairs(&[("100", "a")]));
}

pub fn what_is_committed_is_not_written_again_after_a_start(log: &impl Log) {
    let mut results = log.results().unwrap();
    push(&mut *results, TAGGED, 100, 0, "a");
    push(&mut *results, TAGGED, 100, 1, "b");
    commit(&mut *results, 100);
    push(&mut *results, TAGGED, 200, 0, "c");
    drop(results);

    // Twice, as a start may end early too.
    for last in [200, 300] {
        let mut results = log.results().unwrap();
        push(&mut *results, TAGGED, 100, 0, "a");
        push(&mut *results, TAGGED, 100, 1, "b");
        push(&mut *results, TAGGED, 200, 0, "c");
        if last == 300 {
            push(&mut *results, TAGGED, 300, 1, "d");
        }
        commit(&mut *results, last);
    }
    assert_eq!(tagged(log, 0), pairs(&[("100", "a"), ("200", "c")]));
    assert_eq!(tagged(log, 1), pairs(&[("100", "b"), ("300", "d")]));
}

pub fn of_two_that_write_only_one_is_heard(log: &impl Log) {
    let mut first = log.results().unwrap();
    push(&mut *first, TAGGED, 100, 0, "a");
    commit(&mut *first, 100);
    match log.results() {
        // Who comes later has taken over.
        Ok(mut second) => {
            push(&mut *first, TAGGED, 200, 0, "of the first");
            first.commit(201, 200, true).unwrap();
            let error = eventually("an error", || first.committed().err());
            assert!(error.to_string().contains("has taken over"), "{error}");
            push(&mut *second, TAGGED, 100, 0, "a");
            push(&mut *second, TAGGED, 200, 0, "of the second");
            commit(&mut *second, 200);
            let expected = pairs(&[("100", "a"), ("200", "of the second")]);
            assert_eq!(tagged(log, 0), expected);
        }
        // Who came first is still there.
        Err(error) => {
            assert!(error.to_string().contains("another writer"), "{error}");
            push(&mut *first, TAGGED, 200, 0, "of the first");
            commit(&mut *first, 200);
            let expected = pairs(&[("100", "a"), ("200", "of the first")]);
            assert_eq!(tagged(log, 0), expected);
        }
    }
}
