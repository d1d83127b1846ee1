//! What a job reads: a topic of the embedded log or of Kafka.

use std::sync::Arc;

use super::outputs::{patience, with_brokers};
use super::{Failure, RunError};
use crate::job::{Clock, Job};
use crate::kafka::{self, Connection, Consumer, Options, Patience, Place};
use crate::log::{self, Topic};
use crate::source::{Reading, SourceError};

/// The topic that a job reads.
pub enum Input {
    /// Of the embedded log.
    Embedded(Topic),
    /// Of Kafka.
    Kafka {
        /// How to reach it.
        connection: Connection,
        /// The topic's name.
        topic: String,
        /// Which topic that was when the job was started.
        id: Option<String>,
        /// How many partitions it had when the job was started.
        partitions: u32,
    },
}

/// The partitions of a worker, by number, and what reads them.
pub struct Opened {
    /// By partition.
    pub readings: Vec<(u32, Reading)>,
    /// What fetches them; must outlive them, and knows when there are more.
    pub consumer: Option<Arc<Consumer>>,
}

fn failed(error: kafka::KafkaError) -> RunError {
    SourceError::Kafka(error).into()
}

impl Input {
    /// Finds the topic, and checks that its times are the log's if the clock is.
    ///
    /// # Errors
    /// No such topic, no brokers, times of senders.
    pub fn open(job: &Job) -> Result<Input, RunError> {
        let topic = job.source.topic.clone();
        if let Some(log) = &job.source.log {
            return Ok(Input::Embedded(Topic::open(log, &topic)?));
        }
        let brokers = job.source.kafka.clone().unwrap_or_default();
        let connection = with_brokers(job, &brokers);
        connection.check().map_err(failed)?;
        let found = kafka::describe(&connection, &topic, &patience()).map_err(failed)?;
        if job.source.clock == Clock::LogTime && !found.log_append_time {
            return Err(RunError::CreateTime { topic });
        }
        Ok(Input::Kafka {
            connection,
            topic,
            id: found.id,
            partitions: found.partitions as u32,
        })
    }

    /// How many partitions there are.
    pub fn partitions(&self) -> u32 {
        match self {
            Input::Embedded(topic) => topic.partitions(),
            Input::Kafka { partitions, .. } => *partitions,
        }
    }

    /// The ID of the topic, where the log gives topics IDs.
    pub fn topic_id(&self) -> Option<String> {
        match self {
            Input::Embedded(_) => None,
            Input::Kafka { id, .. } => id.clone(),
        }
    }

    /// The offsets of the first records that are still there, of these partitions.
    ///
    /// # Errors
    /// What the log says.
    pub fn first_offsets(&self, partitions: &[u32]) -> Result<Vec<u64>, RunError> {
        match self {
            Input::Embedded(topic) => {
                let first = |partition: &u32| Ok(log::start_offset(topic, *partition)?);
                partitions.iter().map(first).collect()
            }
            Input::Kafka {
                connection, topic, ..
            } => {
                let partitions: Vec<i32> = partitions.iter().map(|p| *p as i32).collect();
                let place = Place::Earliest;
                let found = kafka::offsets(connection, topic, &partitions, place, &patience());
                Ok(found
                    .map_err(failed)?
                    .into_iter()
                    .map(|offset| offset as u64)
                    .collect())
            }
        }
    }

    /// Opens partitions at these offsets, for one worker. `budget` is for what is fetched ahead of all
    /// of them, in bytes; `wake` is called by other threads when records have come.
    ///
    /// # Errors
    /// What the log says; an offset that is gone says how much is lost.
    pub fn read(
        &self,
        partitions: &[(u32, u64)],
        budget: u64,
        failure: &Failure,
        wake: kafka::Wake,
    ) -> Result<Opened, RunError> {
        match self {
            Input::Embedded(topic) => {
                let open = |(partition, offset): &(u32, u64)| {
                    let reader = log::Reader::open(topic, *partition, *offset)?;
                    Ok((*partition, Reading::Embedded(reader)))
                };
                let readings = partitions
                    .iter()
                    .map(open)
                    .collect::<Result<_, RunError>>()?;
                Ok(Opened {
                    readings,
                    consumer: None,
                })
            }
            Input::Kafka {
                connection,
                topic,
                id,
                ..
            } => {
                if partitions.is_empty() {
                    return Ok(Opened {
                        readings: Vec::new(),
                        consumer: None,
                    });
                }
                let each = (budget / partitions.len() as u64).clamp(64 << 10, 16 << 20);
                let options = Options {
                    queue_bytes_per_partition: each as usize,
                    wake: Some(wake),
                    topic_id: id.clone(),
                    ..Options::default()
                };
                let wanted: Vec<(i32, i64)> = partitions
                    .iter()
                    .map(|(partition, offset)| (*partition as i32, *offset as i64))
                    .collect();
                let failure = failure.clone();
                let patience = Patience::until(Arc::default()).saying(move |text| {
                    if !failure.is_set() {
                        eprintln!("waiting for Kafka: {text}");
                    }
                });
                let opened = Consumer::open(connection, topic, &wanted, options, &patience);
                let (consumer, readers) = opened.map_err(failed)?;
                let reading = |reader: kafka::Reader| {
                    let partition = reader.partition() as u32;
                    (partition, Reading::Kafka(reader))
                };
                Ok(Opened {
                    readings: readers.into_iter().map(reading).collect(),
                    consumer: Some(Arc::new(consumer)),
                })
            }
        }
    }
}
