//! The topics of a job, by its job file: the one that it reads and those that it writes, each in the
//! embedded log or in Kafka.

use std::io::Write;
use std::path::PathBuf;

use super::{Options, ShowError, kafka, show_topic};
use crate::job::Job;
use crate::kafka::Connection;
use crate::run::outputs::{self, with_brokers};
use crate::sink::topics::names;

/// A topic of a job.
struct JobTopic {
    /// Its name in its log.
    name: String,
    /// What the job calls it, if it is one that it writes.
    output: Option<String>,
    at: At,
}

/// Where a topic is.
enum At {
    Log(PathBuf),
    Kafka(Connection),
}

fn topics(job: &Job) -> Vec<JobTopic> {
    let source = |at| JobTopic {
        name: job.source.topic.clone(),
        output: None,
        at,
    };
    let mut topics = Vec::new();
    if let Some(log) = &job.source.log {
        topics.push(source(At::Log(log.clone())));
    }
    if let Some(brokers) = &job.source.kafka {
        topics.push(source(At::Kafka(with_brokers(job, brokers))));
    }
    for output in names(job) {
        let written = |name: String, at| JobTopic {
            name,
            output: Some(output.clone()),
            at,
        };
        if let Some(log) = &job.outputs.log {
            topics.push(written(output.clone(), At::Log(log.clone())));
        }
        if let Some(connection) = outputs::kafka(job) {
            topics.push(written(job.kafka_topic(&output), At::Kafka(connection)));
        }
    }
    topics
}

/// Shows a topic of a job, which [`Options::topic`] names as its log does or as the job does
/// (`tagged`); returns how many records. [`Options::place`] does not matter.
///
/// # Errors
/// No such topic, and what its log says.
pub fn show_job(job: &Job, options: &Options, out: &mut impl Write) -> Result<u64, ShowError> {
    let topics = topics(job);
    let names = || topics.iter().map(|topic| topic.name.clone()).collect();
    let Some(wanted) = &options.topic else {
        return Err(ShowError::JobTopics {
            job: job.name.clone(),
            topics: names(),
        });
    };
    // A name in a log goes before a name in the job, should one be called like the other.
    let by_name = topics.iter().find(|topic| topic.name == *wanted);
    let by_output = || {
        topics
            .iter()
            .find(|topic| topic.output.as_ref() == Some(wanted))
    };
    let Some(topic) = by_name.or_else(by_output) else {
        return Err(ShowError::NoJobTopic {
            job: job.name.clone(),
            topic: wanted.clone(),
            topics: names(),
        });
    };
    let stores = [job.output_schemas(), job.schema_store()];
    let stores = stores.into_iter().flatten().collect();
    match &topic.at {
        At::Log(log) => show_topic(log, &topic.name, Some(stores), options, out),
        At::Kafka(connection) => kafka::show_topic(connection, &topic.name, stores, options, out),
    }
}
