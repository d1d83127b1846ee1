//! Where a job's journals lie: in its state's folder, or in a topic of Kafka (`state.kafka`).

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::outputs::with_brokers;
use crate::job::Job;
use crate::kafka::Patience;
use crate::recovery::{Append, Folder, Journals, RecoveryError, Topic};

/// A job's journals.
#[derive(Clone)]
pub enum JobJournals {
    /// Beside the rest of its state.
    Files(Folder),
    /// In Kafka: the topic, and its name.
    Topic(Topic, String),
}

impl JobJournals {
    /// Those of a job whose state is in `dir`. What waits for brokers gives up when `stop` is set.
    pub fn of(job: &Job, dir: &Path, stop: &Arc<AtomicBool>) -> JobJournals {
        let Some(brokers) = &job.state.kafka else {
            return JobJournals::Files(Folder::at(dir));
        };
        let name = job.kafka_topic("journal");
        let patience = Patience::until(stop.clone())
            .saying(|text| eprintln!("waiting for Kafka: the journal: {text}"));
        let topic = Topic::at(with_brokers(job, brokers), name.clone(), patience);
        JobJournals::Topic(topic, name)
    }

    /// Where they lie, as claims have it.
    pub fn place(&self) -> String {
        match self {
            JobJournals::Files(_) => String::new(),
            JobJournals::Topic(_, name) => format!("the topic {name} of Kafka"),
        }
    }

    /// Removes all that are there, for a job that begins anew.
    ///
    /// # Errors
    /// What the place says.
    pub fn clear(&self) -> Result<(), RecoveryError> {
        let names = self.names()?;
        names.iter().try_for_each(|name| self.forget(name))
    }

    /// Makes the place ready for so many processes; a state that was never `claimed` must find none
    /// there.
    ///
    /// # Errors
    /// What the brokers say; a topic that would not keep what it has, or has others' journals.
    pub fn prepare(&self, processes: usize, claimed: bool) -> Result<(), RecoveryError> {
        let JobJournals::Topic(topic, _) = self else {
            return Ok(());
        };
        topic.prepare(processes)?;
        if !claimed && !topic.names()?.is_empty() {
            return Err(RecoveryError::OthersJournals {
                place: self.place(),
            });
        }
        Ok(())
    }
}

/// One that is appended to, wherever it lies.
pub struct JobJournal(Box<dyn Append + Send>);

impl Journals for JobJournals {
    type File = JobJournal;

    fn names(&self) -> Result<Vec<String>, RecoveryError> {
        match self {
            JobJournals::Files(folder) => folder.names(),
            JobJournals::Topic(topic, _) => topic.names(),
        }
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        match self {
            JobJournals::Files(folder) => folder.bytes(name),
            JobJournals::Topic(topic, _) => topic.bytes(name),
        }
    }

    fn begin(&self, name: &str) -> Result<JobJournal, RecoveryError> {
        Ok(JobJournal(match self {
            JobJournals::Files(folder) => Box::new(folder.begin(name)?),
            JobJournals::Topic(topic, _) => Box::new(topic.begin(name)?),
        }))
    }

    fn harden(&self, name: &str) -> Result<(), RecoveryError> {
        match self {
            JobJournals::Files(folder) => folder.harden(name),
            JobJournals::Topic(topic, _) => topic.harden(name),
        }
    }

    fn forget(&self, name: &str) -> Result<(), RecoveryError> {
        match self {
            JobJournals::Files(folder) => folder.forget(name),
            JobJournals::Topic(topic, _) => topic.forget(name),
        }
    }
}

impl Append for JobJournal {
    fn append(&mut self, bytes: &[u8]) -> Result<(), RecoveryError> {
        self.0.append(bytes)
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        self.0.sync()
    }
}
