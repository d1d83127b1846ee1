//! Recovery: how a job goes on after a crash or a stop, so that nothing is lost and nothing said
//! twice. The protocol, and nothing else: it knows entries, ticks and progress, not visits; it does
//! no input or output but through [`Disk`] and [`Journals`], has no thread and reads no clock, so that it runs over a
//! simulated disk as well (`tests/simulation`).
//!
//! - [`journals`]: where journals lie: in [`Folder`], or for several hosts in a [`Topic`] of Kafka.
//! - [`journal`]: for every step that a source closes, an entry that says what lies in it. A source
//!   gives up its capability only when the entry is durable, so a frontier that has passed a tick
//!   proves that the tick can be replayed exactly.
//! - [`manifest`]: a snapshot of all state as of a tick, put when every sink has committed up to
//!   there or has what is uncommitted in its state. Only then may older things go.
//! - [`claim`]: who runs. Each start claims the next incarnation; whoever finds a higher one than its
//!   own exits.
//! - [`start`]: the order of a start.
//! - [`look`]: all of these as they lie there, for people.
//! - [`script`]: what a partition must read again, and at which ticks.
//!
//! # Files
//!
//! ```text
//! DIR/claims/INCARNATION.json              a claim, put if absent
//! DIR/claims/INCARNATION.start.json        what its start found: where older journals end
//! DIR/journal/INCARNATION-PROCESS-NUMBER.journal   or records with that key in a topic
//! DIR/manifests/NUMBER.json                a snapshot that counts, or the fence of a start
//! DIR/snapshots/TICK-INCARNATION-WORKER.part   one worker's state as of a tick
//! DIR/runs/…                               measurements of open visits
//! ```
//! INCARNATION, PROCESS, WORKER and NUMBER are decimal, with leading zeros.

pub mod claim;
pub mod disk;
pub mod journal;
pub mod journals;
pub mod look;
pub mod manifest;
pub mod script;
pub mod start;
pub mod topic;

pub use disk::{Disk, Folder};
pub use journals::{Append, Journals};
pub use topic::Topic;

use std::path::PathBuf;

use visitflow_dataflows::visit::Tick;

/// What can be wrong with what a job has kept.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what was written.
    #[error("{file}, byte {at}: {found}; expected {expected}")]
    Damaged {
        /// Which, within the state's folder.
        file: String,
        /// Where.
        at: u64,
        /// What is there.
        found: String,
        /// What should be.
        expected: String,
    },
    /// A file is of another version of the program.
    #[error("{file} has the format {found}; this program reads {expected}")]
    Format {
        /// Which, within the state's folder.
        file: String,
        /// Its format.
        found: String,
        /// Those that are known.
        expected: String,
    },
    /// Somebody else has started the job.
    #[error(
        "the job has been started again, as incarnation {found}; this one, incarnation {own}, ends"
    )]
    Superseded {
        /// The other's.
        found: u64,
        /// One's own.
        own: u64,
    },
    /// Something that is not in the log has changed, and ticks would have to be replayed with it.
    #[error(
        "{what} has changed since incarnation {incarnation} ({was}, now {is}), which was not stopped but ended; \
         what it has not committed yet must be replayed as it was. Start it once as it was and stop it \
         (visitflow stop), or say --accept-other-rules: what is replayed may then differ from what was committed"
    )]
    OtherRules {
        /// Which input.
        what: String,
        /// Who ran with the other.
        incarnation: u64,
        /// What it was.
        was: String,
        /// What it is.
        is: String,
    },
    /// The topic that is read is another one, whatever it is called.
    #[error(
        "the source's topic is not the one that incarnation {incarnation} read: its ID is {is}, expected {was}. It was \
         deleted and created anew, or source.kafka names other brokers, and what the job has kept are offsets of the \
         old one. Start with a state.dir and outputs of its own, or, if the same records lie at the same offsets, say \
         --accept-other-rules"
    )]
    OtherTopic {
        /// Who read the old one last.
        incarnation: u64,
        /// The old one's ID.
        was: String,
        /// That of the one that is there.
        is: String,
    },
    /// A sink has lost what it had committed.
    #[error(
        "{sink} has committed up to tick {found}; the snapshot of tick {tick} expects {expected} or more. \
         It was replaced, truncated, or belongs to another job"
    )]
    SinkBehind {
        /// Which.
        sink: String,
        /// What it says.
        found: Tick,
        /// What it said when the snapshot was made.
        expected: Tick,
        /// The snapshot's tick.
        tick: Tick,
    },
    /// A sink has more than was journaled.
    #[error(
        "{sink} has committed up to tick {found}, but the journal ends at tick {journal}: it belongs to another job, \
         or the journal has been cut"
    )]
    SinkAhead {
        /// Which.
        sink: String,
        /// What it says.
        found: Tick,
        /// The end of the journal.
        journal: Tick,
    },
    /// A replay reads something else than was read before.
    #[error(
        "partition {partition}: the records before offset {offset} are not those that were read before \
         ({detail}); the topic was made anew, or has lost or changed records"
    )]
    OtherRecords {
        /// Of the source's topic.
        partition: u32,
        /// Where it was noticed.
        offset: u64,
        /// What differs.
        detail: String,
    },
    /// Kafka, in which the journal lies.
    #[error("the journal: {0}")]
    Kafka(#[from] crate::kafka::KafkaError),
    /// The journal's topic would lose what it has.
    #[error(
        "the journal's topic {topic:?} has {setting}={found}; expected {expected}, since what it holds is removed by \
         the job alone"
    )]
    JournalTopic {
        /// Which.
        topic: String,
        /// The setting.
        setting: &'static str,
        /// What it is.
        found: String,
        /// What it must be.
        expected: &'static str,
    },
    /// The place of journals has some that this state knows nothing of.
    #[error(
        "{place} holds journals of starts that state.dir does not know: name the state.dir that they belong to, give \
         the job another name, or begin anew with outputs.replace=true"
    )]
    OthersJournals {
        /// Which place.
        place: String,
    },
    /// The journal lies elsewhere than before.
    #[error(
        "the journal of incarnation {incarnation} lies in {was}, this start looks for it in {is}: leave state.kafka as \
         it was, since where each partition stands is in the journal"
    )]
    OtherJournal {
        /// Who wrote it.
        incarnation: u64,
        /// Where it lies.
        was: String,
        /// Where it was looked for.
        is: String,
    },
    /// The journal has a hole.
    #[error("the journal of partition {partition} goes on at offset {found}, expected {expected}")]
    Hole {
        /// Of the source's topic.
        partition: u32,
        /// Where it goes on.
        found: u64,
        /// Where it should.
        expected: u64,
    },
}

/// Numbers in file names: sorted as text, they are sorted as numbers.
fn number(value: u64) -> String {
    format!("{value:08}")
}
