//! What can go wrong with the embedded log. Each error names the thing, the place and what was
//! expected there.

use std::io;
use std::path::{Path, PathBuf};

use super::{MAX_PARTITIONS, MAX_RECORD_BYTES};

/// An error of the embedded log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The operating system refused something.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A write did not succeed, as on a full disk. Nothing of it is left in the log, and what was
    /// to be written is still held: the commit can be tried again.
    #[error("{}: cannot write {bytes} bytes at byte {at}: {source}", file.display())]
    Write {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// How much was to be written.
        bytes: u64,
        /// Why it was not.
        source: io::Error,
    },
    /// A topic cannot have this name.
    #[error(
        "a topic cannot be called {name:?}: expected 1 to 200 of the characters A-Z, a-z, 0-9, '.', '_' and '-', and neither \".\" nor \"..\""
    )]
    TopicName {
        /// The name.
        name: String,
    },
    /// A topic cannot have this many partitions.
    #[error("topic {name:?} cannot have {partitions} partitions: expected 1 to {MAX_PARTITIONS}")]
    Partitions {
        /// The topic.
        name: String,
        /// How many were asked for.
        partitions: u32,
    },
    /// There is no such topic.
    #[error("{}: there is no topic {name:?} here; {there}", dir.display())]
    NoTopic {
        /// The log.
        dir: PathBuf,
        /// The topic that was asked for.
        name: String,
        /// What is there instead, the nearest name first, for a person.
        there: String,
    },
    /// The topic that was to be created is there already.
    #[error("{}: topic {name:?} is there already", dir.display())]
    TopicExists {
        /// The log.
        dir: PathBuf,
        /// The topic.
        name: String,
    },
    /// A topic is there, but with another number of partitions.
    #[error("{}: topic {name:?} has {there} partitions, expected {wanted}", dir.display())]
    OtherPartitions {
        /// The log.
        dir: PathBuf,
        /// The topic.
        name: String,
        /// How many it has.
        there: u32,
        /// How many were expected.
        wanted: u32,
    },
    /// A topic's description does not read.
    #[error("{}: {found}; expected {{\"format\": 1, \"partitions\": 1 to {MAX_PARTITIONS}}}", file.display())]
    TopicFile {
        /// The description.
        file: PathBuf,
        /// What is wrong with it.
        found: String,
    },
    /// A topic has no such partition.
    #[error("{}: there is no partition {partition}: expected 0 to {}", topic.display(), partitions - 1)]
    NoPartition {
        /// The topic's directory.
        topic: PathBuf,
        /// The partition that was asked for.
        partition: u32,
        /// How many the topic has.
        partitions: u32,
    },
    /// A topic's directory lacks one of its partitions.
    #[error("{}: the directory of a partition is missing; expected one for each of the topic's {partitions}", dir.display())]
    PartitionGone {
        /// The partition's directory.
        dir: PathBuf,
        /// How many the topic has.
        partitions: u32,
    },
    /// Another writer, of this process or of another, has the partition.
    #[error("{}: another writer has this partition; expected to be its only one", partition.display())]
    Locked {
        /// The partition's directory.
        partition: PathBuf,
    },
    /// Records that are still to be read are no longer there.
    #[error(
        "{}: offset {offset} is gone: the earliest is {earliest}, so {} records are lost", partition.display(), earliest - offset
    )]
    OffsetGone {
        /// The partition's directory.
        partition: PathBuf,
        /// The offset that was asked for.
        offset: u64,
        /// The earliest that is there.
        earliest: u64,
    },
    /// A partition ends before what was already read: another topic has taken its name.
    #[error(
        "{}: offset {offset} lies beyond the end, {end}: was the topic created anew?", partition.display()
    )]
    OffsetBeyond {
        /// The partition's directory.
        partition: PathBuf,
        /// The offset that was asked for.
        offset: u64,
        /// The one that comes after the last.
        end: u64,
    },
    /// A file is damaged in a place where no crash of a writer can have damaged it.
    #[error("{}: damaged at byte {at}: {found}; expected {expected}", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// Where in it the whole part ends.
        at: u64,
        /// What is there, and why it is no torn tail.
        found: String,
        /// What should have been there.
        expected: String,
    },
    /// A record is too large to be appended.
    #[error("a record of {bytes} bytes for {}: expected at most {MAX_RECORD_BYTES}", partition.display())]
    RecordTooLarge {
        /// The partition's directory.
        partition: PathBuf,
        /// The record's size.
        bytes: u64,
    },
    /// A commit's tick lies before that of an earlier commit.
    #[error("{}: cannot commit tick {tick}: expected {last} or later", partition.display())]
    TickBackwards {
        /// The partition's directory.
        partition: PathBuf,
        /// The tick that was to be committed.
        tick: u64,
        /// The last one that is.
        last: u64,
    },
}

impl LogError {
    /// Turns an I/O error into one that names what was tried and where.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> LogError {
        let path = path.to_owned();
        move |source| LogError::Io {
            doing,
            path,
            source,
        }
    }
}
