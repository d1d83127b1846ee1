//! The right answer: what plain sequential code makes of what the log has taken, against the topics
//! and tables, and the views that are served at last.

use std::collections::BTreeMap;
use std::path::Path;

use visitflow::generate::{Judge, Limits, Reason, Truth, tag_hash};
use visitflow::log::{Reader, Topic, Writer, WriterOptions};
use visitflow::sink::topics::TOPICS;

use crate::broker;
use crate::job::Place;
use crate::lookups::{self, LookUp};
use crate::named::Customers;
use crate::outputs::{Reading, agree, consume, late, rejected, tables, topic, visits_sha256};
use crate::views::{self, Served};

/// What was compared.
pub struct Answer {
    truth: Truth,
    revisions: usize,
    /// How many rows of views.
    views: usize,
    /// How many customers were named in visits.
    named: usize,
    /// Of how many the profile was looked up.
    known: usize,
}

impl std::fmt::Display for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{} arrivals = {} tagged + {} late + {} rejected + {} repeated; {} visits, {} orders, {} revisions, {} rows of views, {} customers named, {} looked up: all as they must be",
            self.truth.taken,
            self.truth.tagged,
            self.truth.late,
            self.truth.rejected.iter().sum::<u64>(),
            self.truth.repeated,
            self.truth.visits.len(),
            self.truth.orders.len(),
            self.revisions,
            self.views,
            self.named,
            self.known,
        )
    }
}

/// Judges what the log has taken, partition by partition.
fn judge(place: &Place, limits: Limits, partitions: u32) -> Truth {
    let mut judge = Judge::new(limits, partitions);
    match place.bootstrap() {
        None => {
            let topic = Topic::open(place.path("log"), "measurements").unwrap();
            for partition in 0..topic.partitions() {
                let mut reader = Reader::open(&topic, partition, 0).unwrap();
                while let Some(record) = reader.peek().unwrap() {
                    judge
                        .take(record.log_time, record.key, record.value, true)
                        .unwrap();
                    reader.advance();
                }
            }
        }
        Some(bootstrap) => {
            for taken in broker::take_out(bootstrap, "measurements") {
                judge
                    .take(taken.log_time, &taken.key, &taken.value, true)
                    .unwrap();
            }
        }
    }
    judge.finish().unwrap()
}

/// Brings the committed records of the output topics into an embedded log, where they can be read
/// like any other.
fn bring(place: &Place, bootstrap: &str, to: &Path) {
    for name in TOPICS {
        let topic = Topic::create(to, name, 4).unwrap();
        let mut partitions: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for record in broker::ticks(bootstrap, &format!("shop-{name}")) {
            partitions.entry(record.0).or_default().push(record);
        }
        for (partition, records) in partitions {
            let mut writer = Writer::open(&topic, partition, WriterOptions::default()).unwrap();
            for (_, tick, key, value) in records {
                let digits = tick.to_string();
                writer
                    .push(tick as i64, &key, &[("tick", digits.as_bytes())], &value)
                    .unwrap();
                writer.commit(tick).unwrap();
            }
            writer.close().unwrap();
        }
    }
    let copy = |entry: std::fs::DirEntry| {
        std::fs::copy(entry.path(), to.join("schemas").join(entry.file_name())).unwrap();
    };
    std::fs::create_dir_all(to.join("schemas")).unwrap();
    std::fs::read_dir(place.path("disk/state/schemas"))
        .unwrap()
        .map(Result::unwrap)
        .for_each(copy);
}

/// Compares all that came out with what must.
///
/// # Panics
/// At the first that differs.
pub fn compare(
    place: &Place,
    limits: Limits,
    partitions: u32,
    (served, known): &(Served, Vec<LookUp>),
) -> Answer {
    let truth = judge(place, limits, partitions);
    let topics = match place.bootstrap() {
        None => place.path("disk/topics"),
        Some(bootstrap) => {
            let to = place.path("brought");
            bring(place, bootstrap, &to);
            to
        }
    };
    let reading = Reading::default();
    let consumed = consume(&topics, &reading);
    let tables = tables(&place.path("disk/files"));
    agree(&consumed, &tables);
    assert!(consumed.open.is_empty(), "every visit has ended");
    assert_eq!(late(&topics, &reading).len() as u64, truth.late, "late");
    let reasons: BTreeMap<&str, u64> = Reason::ALL
        .iter()
        .filter(|reason| truth.rejected[**reason as usize] > 0)
        .map(|reason| {
            let word = match reason {
                Reason::WithoutBrowser => "no_browser",
                other => other.word(),
            };
            (word, truth.rejected[*reason as usize])
        })
        .collect();
    assert_eq!(rejected(&topics), reasons, "rejected");
    assert_eq!(consumed.tags.len() as u64, truth.tagged, "tagged");
    let terms = consumed
        .tags
        .iter()
        .map(|((_, time, event), visit)| tag_hash(&event.0, *time, visit));
    assert_eq!(
        terms.fold(0_u128, u128::wrapping_add),
        truth.tags_sum,
        "the sum of all tags' hashes"
    );
    assert_eq!(
        visits_sha256(&tables.visits),
        truth.visits_sha256,
        "the digest of all visits"
    );
    let mut named = 0;
    if place.profiles {
        let customers = Customers::of(&tables);
        let said = topic(&topics, "lifecycle").into_iter();
        let told = customers.hold(said.map(|said| said.value));
        assert!(told.known > 0, "nobody is known of {}", told.named);
        lookups::compare(known, &customers);
        named = told.named;
    }
    Answer {
        named,
        known: known.len(),
        views: views::compare(served, &tables, &truth),
        truth,
        revisions: consumed.revisions,
    }
}
