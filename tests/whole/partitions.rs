//! Logs whose partitions have little in common: one is empty, one an hour behind, one jumps a day,
//! and a browser's measurements lie in any of them. Visits are those of the plain walk over what
//! each partition's own clock accepts.

use visitflow::log::{Topic, Writer, WriterOptions};
use visitflow_dataflows::ledger::Entry;
use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
use visitflow_schemas::store::{FolderStore, SchemaStore};

use crate::outputs::{Reading, agree, consume, late, tables};
use crate::place::{Place, run};
use crate::walk::{Cuts, walk, walked};

const START: i64 = 1_750_000_000_000;
const SECOND: i64 = 1_000;
const HOUR: i64 = 3_600 * SECOND;
const DAY: i64 = 24 * HOUR;
const MAX_DELAY: i64 = 120 * SECOND;
const MAX_AHEAD: i64 = 300 * SECOND;
const CUTS: Cuts = Cuts {
    inactivity: 1_800 * SECOND,
    max_length: DAY,
    max_size: 100_000,
};

/// Numbers that look like chance, the same each time.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// What a hand-made log comes to.
pub struct Made {
    accepted: Vec<(String, i64, [u8; 16])>,
    too_late: u64,
    too_early: u64,
}

/// Puts `count` measurements of a few browsers into each partition, at the log times that
/// `log_time` gives for the partition and the number.
pub fn made(place: &Place, counts: &[u64], log_time: impl Fn(usize, u64) -> i64) -> Made {
    let log = place.path("log");
    let topic = Topic::create(&log, "measurements", counts.len() as u32).unwrap();
    std::fs::create_dir(log.join("schemas")).unwrap();
    FolderStore::open(log.join("schemas"))
        .unwrap()
        .put(&MEASUREMENT)
        .unwrap();

    let mut chance = Chance(7);
    let (mut accepted, mut too_late, mut too_early) = (Vec::new(), 0_u64, 0_u64);
    for (partition, count) in counts.iter().enumerate() {
        let mut writer = Writer::open(&topic, partition as u32, WriterOptions::default()).unwrap();
        let mut clock = i64::MIN;
        for number in 0..*count {
            let logged = log_time(partition, number);
            clock = clock.max(logged);
            let event_time = logged
                + match chance.below(20) {
                    0 => -(chance.below(300) as i64) * SECOND,
                    1 => chance.below(400) as i64 * SECOND,
                    _ => -(chance.below(5_000) as i64),
                };
            let browser_id = format!("browser-{}", chance.below(40));
            let mut event_id = [0; 16];
            event_id[..8].copy_from_slice(&chance.below(1 << 30).to_be_bytes());
            event_id[8..].copy_from_slice(&(number * 16 + partition as u64).to_be_bytes());
            match event_time {
                t if t < clock - MAX_DELAY => too_late += 1,
                t if t > clock + MAX_AHEAD => too_early += 1,
                t => accepted.push((browser_id.clone(), t, event_id)),
            }
            let measurement = Measurement {
                event_id,
                browser_id: &browser_id,
                event_time,
                effect: "shown",
                entity: "page",
                ..Measurement::default()
            };
            let mut message = Vec::new();
            measurement.encode_message(&mut message);
            writer
                .push(logged, browser_id.as_bytes(), &[], &message)
                .unwrap();
            if chance.below(50) == 0 {
                writer.commit(0).unwrap();
            }
        }
        writer.commit(0).unwrap();
        writer.close().unwrap();
    }
    Made {
        accepted,
        too_late,
        too_early,
    }
}

/// Runs the job on 1, 2 and 3 workers over such a log.
fn visits_are_those_of_the_plain_walk(counts: &[u64], log_time: impl Fn(usize, u64) -> i64) {
    let place = Place::new();
    let Made {
        accepted,
        too_late,
        too_early,
    } = made(&place, counts, log_time);
    assert!(too_late > 0 && too_early > 0);
    let expected = walk(accepted.iter().cloned(), CUTS);

    for workers in 1..=3 {
        let name = format!("{workers}-");
        let summary = run(place.job(&name, "log-to-files", &[&format!("workers={workers}")]));
        let sums = [
            Entry::In,
            Entry::Tagged,
            Entry::Late,
            Entry::Rejected,
            Entry::Repeated,
        ];
        let sums = sums.map(|entry| summary.ledger.of(entry));
        assert_eq!(
            sums,
            [
                counts.iter().sum(),
                accepted.len() as u64,
                too_late,
                too_early,
                0
            ]
        );
        let topics = place.path(&format!("{name}topics"));
        let consumed = consume(&topics, &Reading::default());
        let tables = tables(&place.path(&format!("{name}files")));
        assert!(walked(&tables.visits) == expected, "{workers} workers");
        agree(&consumed, &tables);
        assert_eq!(late(&topics, &Reading::default()).len() as u64, too_late);
    }
}

/// A measurement every ten seconds or so.
pub fn steady(number: u64) -> i64 {
    START + number as i64 * 10 * SECOND + (number % 7) as i64 * 300
}

#[test]
fn one_partition_is_empty() {
    visits_are_those_of_the_plain_walk(&[1_500, 0, 500], |_, number| steady(number));
}

#[test]
fn one_partition_is_an_hour_behind() {
    visits_are_those_of_the_plain_walk(
        &[1_000, 1_000, 1_000],
        |partition, number| match partition {
            1 => steady(number) - HOUR,
            _ => steady(number),
        },
    );
}

#[test]
fn one_partition_jumps_a_day() {
    visits_are_those_of_the_plain_walk(&[1_000, 1_000, 200], |partition, number| {
        match (partition, number) {
            (0, 400..) => steady(number) + DAY,
            _ => steady(number),
        }
    });
}

#[test]
fn log_times_go_back_in_one_partition() {
    visits_are_those_of_the_plain_walk(&[1_000, 300], |partition, number| {
        match (partition, number % 100) {
            (0, 50..60) => steady(number) - 100 * SECOND,
            _ => steady(number),
        }
    });
}

#[test]
fn one_partition_ends_long_before_the_others() {
    visits_are_those_of_the_plain_walk(&[10, 2_000, 400], |_, number| steady(number));
}
