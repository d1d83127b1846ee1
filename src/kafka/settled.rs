//! Whether partitions are free of transactions before one writes to them.
//!
//! Brokers may forget to end a transaction in a partition: Apache Kafka 4.3.1 does when it is
//! decided while the partition has no leader, as after a broker was killed (KAFKA-20734). Such a
//! transaction hangs: its records are hidden, and all after them. The next transaction of the same
//! ID in that partition would be taken for its rest, and its commit would show records that were
//! given up and have been written again since. So nothing is written behind what hangs.

use std::collections::BTreeSet;

use super::batch::Batch;
use super::offsets::ask;
use super::{Connection, KafkaError, Place};

/// The partitions that a producer may write to, by topic and number.
#[derive(Default)]
pub(super) struct Settled(BTreeSet<(String, i32)>);

impl Settled {
    /// Fails, with what may pass, while another transaction is open in a partition of the batch
    /// that was not settled before. Costs a look at every record, and a few round trips for new
    /// partitions.
    pub(super) fn settle(
        &mut self,
        batch: &Batch,
        connection: &Connection,
    ) -> Result<(), KafkaError> {
        let mut new: Vec<(&str, Vec<i32>)> = Vec::new();
        for (topic, partitions) in batch.partitions() {
            let is_new = |partition: &i32| !self.0.contains(&(topic.to_owned(), *partition));
            let partitions: Vec<i32> = partitions.into_iter().filter(is_new).collect();
            if !partitions.is_empty() {
                new.push((topic, partitions));
            }
        }
        if new.is_empty() {
            return Ok(());
        }
        let everything = connection.query("read_uncommitted")?;
        let decided = connection.query("read_committed")?;
        for (topic, partitions) in new {
            // In this order, so that whatever comes between does no harm.
            let ends = ask(&everything, topic, &partitions, Place::End)?;
            // Where the first transaction begins that is still open, or the end.
            let stable = ask(&decided, topic, &partitions, Place::End)?;
            for ((partition, end), stable) in partitions.into_iter().zip(ends).zip(stable) {
                if stable < end {
                    return Err(KafkaError::Failed {
                        doing: format!("write to topic {topic:?}, partition {partition}"),
                        reason: held_back(stable, end),
                    });
                }
                self.0.insert((topic.to_owned(), partition));
            }
        }
        Ok(())
    }
}

/// Why offsets cannot be read, for people.
pub(super) fn held_back(stable: i64, end: i64) -> String {
    format!(
        "offsets {stable} to {end} are held back by an open transaction; if they are for longer than its transaction.timeout.ms, it hangs, and Kafka's `kafka-transactions.sh find-hanging` knows more"
    )
}
