//! Partitions that are added to a topic of Kafka while a job reads it: found within some seconds, and
//! opened by a thread of their own, since that asks brokers.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use super::SourceError;
use crate::kafka::{Consumer, KafkaError, Patience, Reader};

/// Looks for new partitions on behalf of one worker.
pub struct Adopting {
    consumer: Arc<Consumer>,
    /// How many partitions are known.
    known: u32,
    /// Of this many workers, which each have read some from the start, this is one.
    worker: (u32, u32),
    opening: Option<Receiver<Result<Vec<Reader>, KafkaError>>>,
}

impl Adopting {
    /// For a worker of those that read some of the `known` partitions.
    pub fn new(consumer: Arc<Consumer>, known: u32, index: u32, workers: u32) -> Adopting {
        Adopting {
            consumer,
            known,
            worker: (index, workers.min(known).max(1)),
            opening: None,
        }
    }

    /// The partitions that are this worker's and have been opened, from their beginning. Never waits.
    ///
    /// # Errors
    /// One that cannot be read.
    pub fn found(&mut self) -> Result<Vec<Reader>, SourceError> {
        if let Some(opening) = &self.opening {
            return match opening.try_recv() {
                Ok(opened) => {
                    self.opening = None;
                    Ok(opened?)
                }
                Err(TryRecvError::Empty) => Ok(Vec::new()),
                Err(TryRecvError::Disconnected) => {
                    self.opening = None;
                    Ok(Vec::new())
                }
            };
        }
        let now = self.consumer.partitions() as u32;
        let (index, workers) = self.worker;
        let own = (self.known..now).filter(|partition| partition % workers == index);
        let own: Vec<(i32, i64)> = own.map(|partition| (partition as i32, 0)).collect();
        self.known = self.known.max(now);
        if !own.is_empty() {
            let (consumer, (to, from)) = (self.consumer.clone(), channel());
            let open = move || {
                let patience = Patience::until(Arc::default());
                // Whoever does not listen any more has ended.
                let _ = to.send(consumer.add(&own, &patience));
            };
            std::thread::spawn(open);
            self.opening = Some(from);
        }
        Ok(Vec::new())
    }
}
