//! The thread that journals: takes the entries of all workers of a process, appends what there is,
//! syncs once, and tells the sources. While the brokers of a journal in Kafka are away it waits, and
//! so does time. It also looks whether the job has been started again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use timely::scheduling::SyncActivator;
use visitflow_dataflows::visit::Tick;

use super::journals::JobJournals;
use super::{Failure, RunError};
use crate::crash;
use crate::recovery::claim;
use crate::recovery::journal::{Entry, Journal};
use crate::recovery::{Folder, RecoveryError};
use crate::source::Journaled;

/// How often it is looked whether the job has been started again.
const LOOK: Duration = Duration::from_millis(500);

enum Message {
    Entry(usize, Entry),
    Forget(Tick, bool),
}

/// Where a worker's entries have come to.
struct Worker {
    durable: Arc<AtomicU64>,
    wake: Mutex<Option<SyncActivator>>,
}

/// A process's journal, as its workers see it.
pub struct Journaling {
    sender: Mutex<Option<Sender<Message>>>,
    workers: Arc<Vec<Worker>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    failure: Failure,
    give_up: Arc<AtomicBool>,
}

impl Journaling {
    /// Starts the thread over a journal that has begun, for so many local workers. `give_up` ends its
    /// waiting for brokers.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn start(
        journal: Journal<JobJournals>,
        disk: Folder,
        incarnation: u64,
        workers: usize,
        failure: Failure,
        give_up: Arc<AtomicBool>,
    ) -> Result<Journaling, RunError> {
        let worker = |_| Worker {
            durable: Arc::default(),
            wake: Mutex::new(None),
        };
        let workers: Arc<Vec<Worker>> = Arc::new((0..workers).map(worker).collect());
        let (sender, receiver) = channel();
        let own = workers.clone();
        let said = failure.clone();
        let work = move || {
            if let Err(error) = journal_all(journal, &disk, incarnation, &receiver, &own) {
                said.set(error);
            }
        };
        let thread = std::thread::Builder::new().name("journal".into());
        let thread = thread.spawn(work);
        let thread = thread.map_err(|error| RunError::Start(error.to_string()))?;
        Ok(Journaling {
            sender: Mutex::new(Some(sender)),
            workers,
            thread: Mutex::new(Some(thread)),
            failure,
            give_up,
        })
    }

    fn sender(&self) -> Option<Sender<Message>> {
        self.sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What a worker's source needs.
    pub fn of(self: &Arc<Self>, local: usize) -> Journaled {
        let sender = self.sender();
        let own = self.clone();
        Journaled {
            // Whoever does not listen any more has said why.
            write: Box::new(move |entry| {
                let _ = sender
                    .as_ref()
                    .map(|to| to.send(Message::Entry(local, entry)));
            }),
            durable: self.workers[local].durable.clone(),
            wake: Box::new(move |activator| {
                let wake = &own.workers[local].wake;
                *wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(activator);
            }),
        }
    }

    /// Forgets what a durable snapshot of that tick makes needless; with `all`, also of earlier
    /// incarnations.
    pub fn forget(&self, at: Tick, all: bool) {
        let _ = self.sender().map(|to| to.send(Message::Forget(at, all)));
    }

    /// Writes what was sent, and ends. After a failure it waits for nobody.
    pub fn finish(&self) {
        if self.failure.is_set() {
            self.give_up.store(true, Ordering::Relaxed);
        }
        drop(
            self.sender
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(thread) = thread {
            let _ = thread.join();
        }
    }
}

fn journal_all(
    mut journal: Journal<JobJournals>,
    disk: &Folder,
    incarnation: u64,
    receiver: &Receiver<Message>,
    workers: &[Worker],
) -> Result<(), RecoveryError> {
    let mut looked = Instant::now();
    loop {
        if looked.elapsed() >= LOOK {
            looked = Instant::now();
            claim::still_ours(disk, incarnation)?;
        }
        let first = match receiver.recv_timeout(LOOK) {
            Ok(first) => first,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        let mut closed = vec![0; workers.len()];
        let mut forget = None;
        for message in std::iter::once(first).chain(receiver.try_iter()) {
            match message {
                Message::Entry(local, entry) => {
                    crash::point("journal-entry");
                    journal.append(&entry)?;
                    closed[local] = entry.until;
                }
                Message::Forget(at, all) => forget = Some((at, all)),
            }
        }
        if closed.iter().any(|until| *until > 0) {
            crash::point("journal-sync");
            journal.sync()?;
            for (worker, until) in workers.iter().zip(closed).filter(|(_, until)| *until > 0) {
                worker.durable.store(until, Ordering::Release);
                let wake = worker.wake.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(wake) = &*wake {
                    let _ = wake.activate();
                }
            }
        }
        if let Some((at, all)) = forget {
            journal.forget(at, all)?;
        }
    }
}
