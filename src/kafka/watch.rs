//! Asks, beside the reading, where partitions end, who leads them and how many there are, and
//! notices what reading alone would not: a topic that is gone, or one that was created anew.
//!
//! librdkafka says once that a partition is at its end, and shows no empty answers after that; so
//! that nothing more has come can only be known by asking. The leader is asked for the high
//! watermark: the last stable offset would hide what an open transaction has already written.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer as _};

use super::admin::leaders;
use super::consumer::{Options, Wake, same_topic};
use super::context::{Context, listen, outcome};
use super::identity::topic_id;
use super::offsets::{ANSWER, ask};
use super::watched::{BELIEVED, Watched};
use super::{KafkaError, Place};
use crate::wall;

/// Leaders and the number of partitions are looked up so often.
const LOOK_UP: Duration = Duration::from_secs(1);

/// The thread that asks. Ends when this is dropped.
pub(super) struct Watch {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    stop: AtomicBool,
    partitions: AtomicUsize,
    watched: Mutex<Vec<Arc<Watched>>>,
}

impl Shared {
    fn watched(&self) -> MutexGuard<'_, Vec<Arc<Watched>>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    pub(super) fn start(
        topic: Arc<str>,
        consumer: Arc<BaseConsumer<Context>>,
        query: Arc<BaseConsumer<Context>>,
        leaders: Vec<Option<i32>>,
        id: Option<String>,
        options: &Options,
    ) -> Watch {
        let shared = Arc::new(Shared {
            stop: AtomicBool::new(false),
            partitions: AtomicUsize::new(leaders.len()),
            watched: Mutex::default(),
        });
        let asker = Asker {
            topic,
            consumer,
            query,
            leaders,
            id,
            looked: Instant::now(),
            missing: 0,
            wake: options.wake.clone(),
            shared: shared.clone(),
        };
        let every = options.ask_every;
        let thread = thread::Builder::new()
            .name("kafka-ends".to_owned())
            .spawn(move || asker.run(every))
            .expect("a thread can be started");
        Watch {
            shared,
            thread: Some(thread),
        }
    }

    pub(super) fn add(&self, watched: Arc<Watched>) {
        self.shared.watched().push(watched);
    }

    pub(super) fn partitions(&self) -> usize {
        self.shared.partitions.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // A panic there has been said already.
            let _ = thread.join();
        }
    }
}

struct Asker {
    topic: Arc<str>,
    consumer: Arc<BaseConsumer<Context>>,
    query: Arc<BaseConsumer<Context>>,
    leaders: Vec<Option<i32>>,
    /// Which topic is read.
    id: Option<String>,
    looked: Instant,
    missing: u32,
    wake: Option<Wake>,
    shared: Arc<Shared>,
}

impl Asker {
    fn run(mut self, every: Duration) {
        while !self.shared.stop.load(Ordering::Relaxed) {
            let start = Instant::now();
            listen(&self.consumer);
            listen(&self.query);
            if self.looked.elapsed() >= LOOK_UP {
                self.look_up();
                self.looked = Instant::now();
            }
            self.ask_all();
            thread::park_timeout(every.saturating_sub(start.elapsed()));
        }
    }

    fn look_up(&mut self) {
        let found = leaders(&self.query, &self.topic, ANSWER).and_then(|found| {
            self.same()?;
            Ok(found)
        });
        match found {
            Ok(found) => {
                self.missing = 0;
                self.shared.partitions.store(found.len(), Ordering::Relaxed);
                self.leaders = found;
            }
            Err(KafkaError::NoTopic { topic }) => {
                self.missing += 1;
                if self.missing >= BELIEVED {
                    for watched in self.shared.watched().iter() {
                        let topic = topic.clone();
                        self.fail(watched, KafkaError::TopicGone { topic });
                    }
                }
            }
            Err(error @ KafkaError::TopicAnew { .. }) => {
                for watched in self.shared.watched().iter() {
                    self.fail(watched, error.clone());
                }
            }
            Err(error) => {
                for watched in self.shared.watched().iter() {
                    watched.complain(error.to_string());
                }
            }
        }
    }

    /// Fails when another topic has taken the name. Whatever it holds at our offsets, it is none of
    /// ours.
    fn same(&self) -> Result<(), KafkaError> {
        let id = topic_id(self.query.client(), &self.topic, ANSWER);
        let id = outcome(&self.query, id)?;
        same_topic(&self.topic, self.id.as_deref(), id.as_deref())
    }

    /// One question to each leader, all at a time.
    fn ask_all(&self) {
        let mut by_leader: BTreeMap<i32, Vec<Arc<Watched>>> = BTreeMap::new();
        for watched in self.shared.watched().iter() {
            match self.leaders.get(watched.partition as usize) {
                Some(Some(leader)) => by_leader.entry(*leader).or_default().push(watched.clone()),
                _ => watched.complain("no broker leads this partition".to_owned()),
            }
        }
        match by_leader.len() {
            0 => {}
            1 => by_leader.values().for_each(|asked| self.ask_leader(asked)),
            _ => thread::scope(|scope| {
                for asked in by_leader.values() {
                    scope.spawn(|| self.ask_leader(asked));
                }
            }),
        }
    }

    fn ask_leader(&self, asked: &[Arc<Watched>]) {
        let start = Instant::now();
        let Err(error) = self.ask_ends(asked) else {
            return;
        };
        // One partition that is not well spoils the answer for all. A leader that does not answer
        // at all would only be waited for once for each.
        if asked.len() > 1 && start.elapsed() < ANSWER / 2 {
            for watched in asked {
                if let Err(error) = self.ask_ends(std::slice::from_ref(watched)) {
                    watched.complain(error.to_string());
                }
            }
        } else {
            for watched in asked {
                watched.complain(error.to_string());
            }
        }
    }

    fn ask_ends(&self, asked: &[Arc<Watched>]) -> Result<(), KafkaError> {
        let partitions: Vec<i32> = asked.iter().map(|watched| watched.partition).collect();
        // Before the question, so that an answer below it takes something back.
        let read: Vec<i64> = asked.iter().map(|watched| watched.read()).collect();
        let sent = wall::now();
        let ends = ask(&self.query, &self.topic, &partitions, Place::End)?;
        for ((watched, end), read) in asked.iter().zip(ends).zip(read) {
            if let Some(error) = watched.answered(sent, end, read) {
                self.fail(watched, error);
            }
            if watched.is_doubted() {
                let earliest = ask(
                    &self.query,
                    &self.topic,
                    &[watched.partition],
                    Place::Earliest,
                )?;
                self.fail(watched, watched.verdict(earliest[0], end));
            }
        }
        Ok(())
    }

    fn fail(&self, watched: &Watched, error: KafkaError) {
        watched.fail(error);
        if let Some(wake) = &self.wake {
            wake();
        }
    }
}
