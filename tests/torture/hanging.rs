//! Transactions that a broker has forgotten to end. Apache Kafka 4.3.1 does so when it is killed while
//! one is decided (KAFKA-20734): it is open for ever, whatever its time-out, and hides all behind it.
//! A job says so and waits; this is who then ends it, as the message asks for.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::broker::Broker;

/// Longer than a time-out and the broker's look for it take together.
const LONG: Duration = Duration::from_secs(20);

/// A partition, and the offset at which what hangs in it begins.
type Begin = (String, u32, u64);

/// What a job has said to be held back, and since when.
#[derive(Default)]
pub struct HeldBack {
    since: BTreeMap<Begin, Instant>,
}

/// Where a line says that an open transaction begins.
fn begin(line: &str) -> Option<Begin> {
    let (place, _) = line.split_once(" are held back by an open transaction")?;
    let (place, offsets) = place.rsplit_once(": offsets ")?;
    let topic = place.split('"').nth(1)?;
    // The topic of progress has one partition, and is said without it.
    let partition = place.rsplit_once("partition ").map_or("0", |(_, n)| n);
    let offset = offsets.split(' ').next()?;
    Some((
        topic.to_owned(),
        partition.parse().ok()?,
        offset.parse().ok()?,
    ))
}

impl HeldBack {
    /// Looks at the last lines of what processes have said, and ends what has been open for long;
    /// how many.
    pub fn end(&mut self, broker: &Broker, said: &[String]) -> usize {
        let last = |said: &String| said.lines().rev().take(3).find_map(begin);
        let now: Vec<Begin> = said.iter().filter_map(last).collect();
        self.since.retain(|begin, _| now.contains(begin));
        for begin in now {
            self.since.entry(begin).or_insert_with(Instant::now);
        }
        let long = |(_, since): &(&Begin, &Instant)| since.elapsed() >= LONG;
        let Some(hanging) = self.since.iter().find(long).map(|(begin, _)| begin.clone()) else {
            return 0;
        };
        let (topic, partition, offset) = &hanging;
        // It may have been decided since it was said.
        let partition = partition.to_string();
        let ended = broker.try_to(&["abort", topic, &partition, &offset.to_string()]);
        if ended {
            eprintln!(
                "torture: a transaction hung in {topic}, partition {partition}, from {offset}"
            );
        }
        self.since.clear();
        ended.into()
    }
}
