//! What can go wrong with the measurements of open visits on disk. Each error names the file, the
//! place and what was expected there.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of the store of runs. It can be cloned, since what went wrong in the writing thread is
/// said by every later call.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused something.
    #[error("{}: cannot {doing}: {source}", path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// With which file or directory.
        path: PathBuf,
        /// Why not.
        source: Arc<io::Error>,
    },
    /// A write did not succeed, as on a full disk. What was durable before is whole; no ticket of
    /// a seal that was to hold these bytes is ever done.
    #[error("{}: cannot write {bytes} bytes at byte {at}: {source}", file.display())]
    Write {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// How much was to be written there.
        bytes: u64,
        /// Why it was not.
        source: Arc<io::Error>,
    },
    /// The writing thread has ended before it did what was asked of it.
    #[error("{}: the thread that writes runs has ended; expected it to outlive every write and seal", dir.display())]
    Ended {
        /// The directory of the runs.
        dir: PathBuf,
    },
    /// A segment does not hold what was written to it.
    #[error("{}: damaged at byte {at}: {found}; expected {expected}", file.display())]
    Damaged {
        /// The segment.
        file: PathBuf,
        /// Where in it.
        at: u64,
        /// What is there.
        found: String,
        /// What should be there.
        expected: String,
    },
    /// A number that the ID of a segment has no room for.
    #[error("{what} {value} is out of range: expected at most {most}")]
    Range {
        /// Which of the ID's parts.
        what: &'static str,
        /// What was asked for.
        value: u64,
        /// The greatest that can be.
        most: u64,
    },
    /// Bytes that no segment can hold.
    #[error("{}: a chunk of {bytes} bytes: expected at most {most}", dir.display())]
    TooLarge {
        /// The directory of the runs.
        dir: PathBuf,
        /// How many there are.
        bytes: u64,
        /// How many there may be.
        most: u64,
    },
    /// More was freed of a segment than lives in it.
    #[error("{}: cannot free {bytes} bytes at byte {at}: {live} bytes of it live; expected a chunk that was written or adopted, and is freed once", file.display())]
    NotLive {
        /// The segment.
        file: PathBuf,
        /// Where the chunk begins.
        at: u64,
        /// How long it is, with its entry in the segment's directory.
        bytes: u64,
        /// How many bytes of the segment live.
        live: u64,
    },
    /// A chunk was adopted that this very incarnation has written, or a later one.
    #[error("{}: a run of incarnation {found} cannot be adopted: expected one before {own}", file.display())]
    NotEarlier {
        /// The segment.
        file: PathBuf,
        /// The incarnation that wrote it.
        found: u64,
        /// The incarnation that would adopt it.
        own: u64,
    },
}

impl StoreError {
    /// Turns an I/O error into one that names what was tried and where.
    pub(super) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io {
            doing,
            path,
            source: Arc::new(source),
        }
    }
}
