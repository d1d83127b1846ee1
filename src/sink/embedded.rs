//! Topics in the embedded log. A commit holds whole ticks of one partition, is seen at once or not at
//! all, and says its last tick; so each partition knows by itself what it has taken.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use timely::scheduling::SyncActivator;
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::shard::Shard;

use super::topics::{Destination, decimal};
use super::{Position, SinkError};
use crate::crash;
use crate::log::{LogError, Topic, Writer, WriterOptions};

/// Files that must be durable before a snapshot counts.
pub type Unsynced = Arc<Mutex<Vec<File>>>;

/// The partitions of all topics that a worker writes: those whose number is its own, modulo the
/// number of workers.
pub struct Embedded {
    names: Vec<String>,
    /// By topic and partition: its writer, and the last tick that it had when it was opened.
    topics: Vec<Vec<Option<(Writer, Tick)>>>,
    committed: Tick,
    unsynced: Unsynced,
}

fn failed(topic: &str) -> impl FnOnce(LogError) -> SinkError {
    move |source| SinkError::Topic {
        topic: topic.to_owned(),
        source,
    }
}

impl Embedded {
    /// Opens those of these names. Of each snapshot, `unsynced` is given what must be durable before it counts.
    ///
    /// # Errors
    /// What the log says.
    pub fn open(
        log: &Path,
        names: Vec<String>,
        worker: usize,
        workers: usize,
        unsynced: Unsynced,
    ) -> Result<Embedded, SinkError> {
        let mut topics = Vec::new();
        for name in &names {
            let topic = Topic::open(log, name).map_err(failed(name))?;
            let open = |partition: u32| {
                let own = partition as usize % workers == worker;
                own.then(|| Writer::open(&topic, partition, WriterOptions::default()))
                    .transpose()
                    .map(|writer| {
                        writer.map(|writer| {
                            let last = writer.last_tick();
                            (writer, last)
                        })
                    })
            };
            let partitions = (0..topic.partitions()).map(open).collect::<Result<_, _>>();
            topics.push(partitions.map_err(failed(name))?);
        }
        Ok(Embedded {
            names,
            topics,
            committed: 0,
            unsynced,
        })
    }

    fn writers(&mut self) -> impl Iterator<Item = (&str, u32, &mut Writer)> {
        let topics = self.names.iter().zip(&mut self.topics);
        topics.flat_map(|(name, topic)| {
            let writers = topic.iter_mut().enumerate();
            writers
                .filter_map(move |(p, writer)| Some((&**name, p as u32, &mut writer.as_mut()?.0)))
        })
    }
}

impl Destination for Embedded {
    #[inline]
    fn push(
        &mut self,
        topic: usize,
        tick: Tick,
        shard: u8,
        key: &[u8],
        parts: &[&[u8]],
    ) -> Result<(), SinkError> {
        let partitions = &mut self.topics[topic];
        let partition = Shard(shard).partition(partitions.len() as u32) as usize;
        let (writer, taken) = partitions[partition]
            .as_mut()
            .expect("shards are dealt to workers by partition");
        if tick <= *taken {
            return Ok(());
        }
        let mut digits = [0; 20];
        let headers = [("tick", decimal(tick, &mut digits))];
        let pushed = writer.push_parts(tick as i64, key, &headers, parts);
        pushed.map(drop).map_err(failed(&self.names[topic]))
    }

    fn commit(&mut self, until: Tick, last: Tick, _: bool) -> Result<(), SinkError> {
        let tick = if until == u64::MAX { last } else { until - 1 };
        for (topic, _, writer) in self.writers() {
            // While ticks come again, time lies behind what the partition has.
            if writer.buffered_bytes() > 0 {
                crash::point("topics-commit");
                writer.commit(tick).map_err(failed(topic))?;
            }
        }
        crash::point("topics-committed");
        self.committed = until;
        Ok(())
    }

    fn committed(&mut self) -> Result<Tick, SinkError> {
        Ok(self.committed)
    }

    fn positions(&mut self, _: Tick) -> Result<Vec<Position>, SinkError> {
        let mut positions = Vec::new();
        let mut files = Vec::new();
        for (topic, partition, writer) in self.writers() {
            positions.push(Position {
                sink: topic.to_owned(),
                partition,
                tick: writer.last_tick(),
                sum: 0,
            });
            files.extend(writer.unsynced().map_err(failed(topic))?);
        }
        self.unsynced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(files);
        Ok(positions)
    }

    fn wake(&mut self, _: SyncActivator) {}

    fn close(&mut self) -> Result<(), SinkError> {
        for (name, topic) in self.names.iter().zip(std::mem::take(&mut self.topics)) {
            for (writer, _) in topic.into_iter().flatten() {
                writer.close().map_err(failed(name))?;
            }
        }
        Ok(())
    }
}
