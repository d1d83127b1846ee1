//! Writes what one worker has to say, batch after batch, each exactly once. Its calls block, for as
//! long as brokers are away: it wants a thread of its own.
//!
//! There is one answer to every error, of which many leave it open whether the transaction was
//! committed: a new producer of the same ID, which decides that, then a look at the progress
//! record, which was in the transaction, and either the batch is there or it is written again.

use std::collections::BTreeMap;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

use super::batch::Batch;
use super::producer::Producer;
use super::progress::Done;
use super::record::Standing;
use super::settled::Settled;
use super::tail::{self, Extent};
use super::{Connection, KafkaError, Patience};

/// The transactions of one worker, under one transactional ID. A commit costs a round trip to the
/// brokers for the records, one for the decision, and 20 ms that librdkafka waits in the next one
/// if that comes at once; so it should hold all that is there.
///
/// A batch goes to a broker in pieces of the property `batch.size`, 1 MB if it is not set, which
/// must not exceed the `max.message.bytes` of any topic that is written; a single record may be
/// as large as the property `message.max.bytes`.
pub struct Transactions {
    connection: Connection,
    id: String,
    progress_topic: String,
    patience: Patience,
    producer: Option<Producer>,
    /// What the producer may write to.
    settled: Settled,
    standing: Standing,
}

impl Transactions {
    /// Takes over the transactional ID from whoever had it, and says so in the progress topic.
    /// Fails if a later incarnation has written there. The progress topic must have one partition
    /// and `cleanup.policy=compact`.
    pub fn open(
        connection: &Connection,
        id: &str,
        progress_topic: &str,
        incarnation: u64,
        patience: &Patience,
    ) -> Result<Transactions, KafkaError> {
        let mut transactions = Transactions {
            connection: connection.clone(),
            id: id.to_owned(),
            progress_topic: progress_topic.to_owned(),
            patience: patience.clone(),
            producer: None,
            settled: Settled::default(),
            standing: Standing {
                incarnation,
                // Nobody else's; 0 is the fence's.
                session: RandomState::new().build_hasher().finish() | 1,
                ..Standing::default()
            },
        };
        patience.retry(|| {
            let found = transactions.take_over(false)?;
            transactions.standing.shards = found.shards;
            let standing = transactions.standing.clone();
            transactions.send(&Batch::default(), &standing)
        })?;
        Ok(transactions)
    }

    /// What this ID has committed, by shard: nobody else adds to it.
    pub fn committed(&self) -> &BTreeMap<u8, Done> {
        &self.standing.shards
    }

    /// Commits a batch, and returns when that is certain. It never returns for brokers that are
    /// away, unless its patience has a limit; only for what can never succeed: a record that is
    /// too large, a refusal, somebody else who has taken over, a stop. Then this must not be used
    /// any more, and readers may wait for its last transaction until the ID is taken over.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), KafkaError> {
        let standing = self.after(batch)?;
        let patience = self.patience.clone();
        patience.retry(|| {
            if self.producer.is_none() && self.take_over(true)?.sequence == standing.sequence {
                return Ok(());
            }
            self.settled.settle(batch, &self.connection)?;
            self.send(batch, &standing)
        })?;
        self.standing = standing;
        Ok(())
    }

    /// What this ID has committed once a batch is.
    fn after(&self, batch: &Batch) -> Result<Standing, KafkaError> {
        let mut standing = self.standing.clone();
        standing.sequence += 1;
        let until = batch.progress.until;
        for (shard, sum) in &batch.progress.shards {
            let done = Done { until, sum: *sum };
            if let Some(before) = standing.shards.insert(*shard, done)
                && before.until > until
            {
                return Err(KafkaError::ProgressBack {
                    id: self.id.clone(),
                    shard: *shard,
                    until,
                    committed: before.until,
                });
            }
        }
        Ok(standing)
    }

    fn send(&mut self, batch: &Batch, standing: &Standing) -> Result<(), KafkaError> {
        let producer = self.producer.as_ref().expect("it was started");
        let sent = producer.commit(batch, &self.progress_topic, standing, &self.patience);
        if sent.is_err() {
            self.producer = None;
        }
        sent
    }

    /// Starts a producer, and returns what its ID has committed. A transaction that took too
    /// long and one that was fenced look the same; only the progress topic tells them apart. It
    /// is read before too, so as not to disturb somebody who has rightly taken over.
    fn take_over(&mut self, was_ours: bool) -> Result<Standing, KafkaError> {
        self.found(Extent::Decided, was_ours)?;
        let producer = Producer::start(&self.connection, &self.id, &self.patience)?;
        let found = self.found(Extent::Everything, was_ours)?;
        self.producer = Some(producer);
        self.settled = Settled::default();
        Ok(found)
    }

    fn found(&self, extent: Extent, was_ours: bool) -> Result<Standing, KafkaError> {
        let ids = std::slice::from_ref(&self.id);
        let topic = &self.progress_topic;
        let found = tail::read(&self.connection, topic, ids, extent, &self.patience)?;
        found.check(&self.id, self.standing.incarnation)?;
        let standing = found.standing(&self.id).cloned().unwrap_or_default();
        // What is decided may end before our own: others' transactions hold it back.
        let whole = extent == Extent::Everything;
        if was_ours && whole && standing.session != self.standing.session {
            return Err(KafkaError::Fenced {
                id: self.id.clone(),
                incarnation: self.standing.incarnation,
            });
        }
        if was_ours && whole && standing.sequence < self.standing.sequence {
            return Err(KafkaError::ProgressLost {
                id: self.id.clone(),
                expected: self.standing.sequence,
                found: standing.sequence,
            });
        }
        Ok(standing)
    }
}
