//! Topics in Kafka: whole ticks in transactions of one producer a worker, with the progress that they
//! make, on a thread of its own. A transaction holds every tick that is complete when the one before
//! is committed, so their size suits itself to the brokers.
//!
//! After a start the ticks that were committed come again. They are not sent, but their sum is made
//! again and must be that of what was committed: if anything hidden decided over them, it shows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};

use timely::scheduling::SyncActivator;
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::shard::Shard;

use super::topics::{self, Destination};
use super::{Position, SinkError};
use crate::crash;
use crate::job::Job;
use crate::kafka::{Batch, Connection, KafkaError, Patience, Transactions};

/// The sink's name, in progress and snapshots.
pub const SINK: &str = "kafka";

/// The topic of a job's progress.
pub fn progress_topic(job: &Job) -> String {
    job.kafka_topic("progress")
}

/// Where a partition stood at the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The last tick that is committed.
    pub tick: Tick,
    /// The sum of all output up to there.
    pub sum: u64,
    /// The sum of the output before the snapshot from which the job goes on.
    pub before: u64,
}

/// How a worker writes.
pub struct Settings {
    /// The brokers.
    pub connection: Connection,
    /// The transactional ID.
    pub id: String,
    /// The topic of progress.
    pub progress_topic: String,
    /// The incarnation.
    pub incarnation: u64,
    /// The topics, as [`Destination::push`] numbers them.
    pub topics: Vec<Arc<str>>,
    /// Where each partition stood; those of other workers too.
    pub taken: Vec<Taken>,
    /// This worker and the number of all.
    pub worker: (usize, usize),
    /// Is told what is waited for.
    pub say: Arc<dyn Fn(&str) + Send + Sync>,
}

/// A partition of all topics.
struct Partition {
    own: bool,
    taken: Taken,
    /// The sum of all output.
    sum: u64,
    /// The sum of that which comes again.
    again: u64,
    /// Whether that was found to be what is committed.
    met: bool,
}

/// A worker's topics in Kafka.
pub struct Kafka {
    topics: Vec<Arc<str>>,
    partitions: Vec<Partition>,
    filling: Batch,
    spare: Option<Batch>,
    /// Whether what is filling is to be sent even if it is empty.
    always: bool,
    /// Up to where ticks have been given.
    given: Tick,
    in_flight: Option<Tick>,
    committed: Tick,
    to: Sender<Batch>,
    from: Receiver<Result<Batch, KafkaError>>,
    wake: Arc<Mutex<Option<SyncActivator>>>,
    stop: Arc<AtomicBool>,
}

impl Kafka {
    /// Starts the thread, which takes the transactional ID over before its first transaction.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn open(settings: Settings) -> Result<Kafka, SinkError> {
        let (worker, workers) = settings.worker;
        let partition = |(n, taken): (usize, &Taken)| Partition {
            own: n % workers == worker,
            taken: *taken,
            sum: taken.before,
            again: taken.before,
            met: false,
        };
        let partitions = settings.taken.iter().enumerate().map(partition).collect();
        let (to, batches) = channel::<Batch>();
        let (done, from) = channel();
        let wake: Arc<Mutex<Option<SyncActivator>>> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let say = settings.say;
        let patience = Patience::until(stop.clone()).saying(move |text| say(text));
        let (connection, id, progress) =
            (settings.connection, settings.id, settings.progress_topic);
        let (incarnation, waking) = (settings.incarnation, wake.clone());
        let work = move || {
            let tell = |result| {
                let told = done.send(result).is_ok();
                let wake = waking.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(wake) = &*wake {
                    let _ = wake.activate();
                }
                told
            };
            let opened = Transactions::open(&connection, &id, &progress, incarnation, &patience);
            let mut transactions = match opened {
                Ok(transactions) => transactions,
                Err(error) => {
                    tell(Err(error));
                    return;
                }
            };
            for batch in batches {
                crash::point("topics-commit");
                let committed = transactions.commit(&batch).map(|()| batch);
                crash::point("topics-committed");
                let ended = committed.is_err();
                if !tell(committed) || ended {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("kafka".into()).spawn(work);
        thread.map_err(|error| {
            SinkError::Kafka(KafkaError::Client {
                reason: error.to_string(),
            })
        })?;
        Ok(Kafka {
            topics: settings.topics,
            partitions,
            filling: Batch::default(),
            spare: None,
            always: false,
            given: 0,
            in_flight: None,
            committed: 0,
            to,
            from,
            wake,
            stop,
        })
    }

    /// Sends what has been given, unless something is on its way.
    fn send(&mut self) {
        if self.in_flight.is_some() || self.given <= self.committed {
            return;
        }
        if self.filling.is_empty() && !self.always {
            // Nothing was said: nothing needs a transaction.
            self.committed = self.given;
            return;
        }
        self.always = false;
        let progress = &mut self.filling.progress;
        progress.until = self.given;
        progress.shards.clear();
        for (n, partition) in self.partitions.iter().enumerate() {
            if partition.own && self.given > partition.taken.tick + 1 {
                progress.shards.push((n as u8, partition.sum));
            }
        }
        let next = self.spare.take().unwrap_or_default();
        let full = std::mem::replace(&mut self.filling, next);
        self.in_flight = Some(self.given);
        // A thread that has ended has said why.
        let _ = self.to.send(full);
    }
}

impl Partition {
    /// Checks that what was made again is what was committed.
    fn meet(&mut self, number: usize) -> Result<(), SinkError> {
        self.met = true;
        if self.taken.tick > 0 && self.again != self.taken.sum {
            return Err(SinkError::OtherOutput {
                partition: number,
                tick: self.taken.tick,
                committed: self.taken.sum,
                again: self.again,
            });
        }
        Ok(())
    }
}

/// A hash of a message, whose sum says whether two outputs are the same, in whatever order.
fn hash(topic: usize, key: &[u8], parts: &[&[u8]]) -> u64 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    parts.iter().for_each(|part| crc.update(part));
    let length: usize = parts.iter().map(|part| part.len()).sum();
    // The number of a topic is mixed in from the top, where the length has nothing.
    let topic = (topic as u64).rotate_right(2);
    let mixed = (u64::from(crc.finalize()) | (length as u64) << 32) ^ topic;
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl Destination for Kafka {
    fn push(
        &mut self,
        topic: usize,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError> {
        let number = Shard(shard).partition(self.partitions.len() as u32) as usize;
        let partition = &mut self.partitions[number];
        let hash = hash(topic, key, parts);
        partition.sum = partition.sum.wrapping_add(hash);
        if tick > partition.taken.tick {
            let topic = &self.topics[topic];
            self.filling.push(topic, number as i32, tick, key, parts);
        } else {
            partition.again = partition.again.wrapping_add(hash);
        }
        Ok(())
    }

    fn commit(&mut self, until: Tick, _: Tick, always: bool) -> Result<(), SinkError> {
        // Topics are given one after the other: only now is all there that comes again.
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            if partition.own && !partition.met && until > partition.taken.tick {
                partition.meet(number)?;
            }
        }
        self.given = until;
        self.always |= always;
        self.send();
        Ok(())
    }

    fn committed(&mut self) -> Result<Tick, SinkError> {
        while let Ok(done) = self.from.try_recv() {
            let mut batch = done?;
            batch.clear();
            self.spare = Some(batch);
            if let Some(until) = self.in_flight.take() {
                self.committed = until;
            }
            self.send();
        }
        Ok(self.committed)
    }

    fn positions(&mut self, at: Tick) -> Result<Vec<Position>, SinkError> {
        let own = self.partitions.iter().enumerate();
        let position = |(n, partition): (usize, &Partition)| Position {
            sink: SINK.to_owned(),
            partition: n as u32,
            tick: at - 1,
            sum: partition.sum,
        };
        Ok(own
            .filter(|(_, partition)| partition.own)
            .map(position)
            .collect())
    }

    fn wake(&mut self, activator: SyncActivator) {
        *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(activator);
    }

    fn close(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// The names of a job's topics, in the order of [`topics::names`].
pub fn topics(job: &Job) -> Vec<Arc<str>> {
    let names = topics::names(job).into_iter();
    names.map(|name| job.kafka_topic(&name).into()).collect()
}
