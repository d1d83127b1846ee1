//! Tables: Parquet files in a directory, and a log in Delta Lake's format that says which of them are the table.
//! For the sinks that write complete visits, and for whoever reads them again.
//!
//! Promises: a reader sees whole versions only; a version says up to which tick the table holds everything, in the
//! same atomic step that adds the files; of two writers one wins, and the other is told; DuckDB, Polars, deltalake,
//! Spark and pyarrow read the tables without us (`tests/table.rs` asks those that run here).
//! It is no query engine and no compactor, and it deletes nothing that it has not written itself.
//!
//! The log is written by hand (protocol (1, 2), `delta`) and not by the Delta kernel: the commit protocol must be
//! able to run over a simulated disk, and the kernel brings 170 crates and a TLS stack. All steps that touch the
//! disk are in one small module for that reason.
//!
//! # Ids
//! Write 128-bit ids as 32 hex characters and not as fixed-size binary. Measured with a million measurements of 77,174
//! visits, CPU ms for (group by `visit_id`; look up one; join with the visits), this writer, four readers:
//!
//! | | B a row | write, ns a row | DuckDB `delta_scan` | Polars | deltalake | pyarrow |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | binary | 26.2 | 600 to 670 | 32; 12; 46 | 42; 22; 66 | 60; 25; 70 | 71; 158; 74 |
//! | `visit_id` as hex | 26.3 | 590 to 700 | 27; 10; 66 | 41; 18; 68 | 54; 10; 76 | 86; 157; 113 |
//! | `event_id` too | 27.7 | 690 to 760 | 22; 9; 58 | 41; 17; 69 | 48; 8; 68 | 79; 223; 107 |
//!
//! What decides is not speed: an id pasted as text from another tool finds it. Against a binary column DuckDB, Polars
//! and deltalake answer the same query with no rows and no error.
//!
//! # One day, one browser
//! Polars and deltalake skip files by `event_time`; DuckDB 1.4 skips them by dates, numbers and strings, by nobody's
//! instants, so a `date` column makes "one day" cheap there too. Within a file, row groups of 128 Ki rows, Bloom filters
//! and the page index find one browser (`parquet_bloom_probe`: 7 of 8 row groups skipped).
//!
//! ```
//! use std::sync::Arc;
//! use arrow_array::{ArrayRef, Int64Array, RecordBatch};
//! use visitflow::table::{Options, Table, TableWriter};
//!
//! let dir = tempfile::tempdir()?;
//! let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2, 3])) as ArrayRef)])?;
//! let mut table = Table::open_or_create(dir.path(), &batch.schema(), &[])?;
//! let mut file = TableWriter::new(dir.path(), "worker-0", batch.schema(), &Options::default())?;
//! file.write(&batch)?;
//! assert_eq!(table.append(&[file.finish()?], 1_700)?, 1); // version 1 holds everything up to tick 1700
//! assert_eq!((table.last_tick(), table.files().count()), (Some(1_700), 1));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod checkpoint;
pub mod delta;
mod disk;
mod json;
mod log;
pub mod parquet;
pub mod read;
mod schema;
mod stats;

pub use delta::Table;
pub use json::to_json_lines;
pub use log::AddFile;
pub use parquet::{Options, TableWriter};
pub use read::{Batches, Rows, read_file};

use std::path::PathBuf;

/// What can be wrong with a table. Each names the place and, where there is a choice, what was expected.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TableError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "create", …
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// There is no table.
    #[error("{} is not a table: expected a directory with a version in {}", dir.display(), dir.join("_delta_log").display())]
    NotATable {
        /// The directory that was to be a table.
        dir: PathBuf,
    },
    /// A table was to be created among somebody's files.
    #[error(
        "cannot create a table in {}: it holds {found:?} and no version in _delta_log; expected a new or empty directory",
        dir.display()
    )]
    NotEmpty {
        /// The directory.
        dir: PathBuf,
        /// One of the names found there.
        found: String,
    },
    /// A table was to be created where one is.
    #[error("{} is a table already", dir.display())]
    Exists {
        /// The directory.
        dir: PathBuf,
    },
    /// A file of the log is torn or was never one.
    #[error("{}, line {line}: {problem}", file.display())]
    Garbled {
        /// The version file or checkpoint.
        file: PathBuf,
        /// The line, or the row of a checkpoint, from 1; 0 for the file as a whole.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// The table uses something of Delta Lake that we do not know, so that reading or writing on could be wrong.
    #[error("{} uses {feature}; Visitflow reads and writes Delta protocol (1, 2), without partitions", file.display())]
    Unsupported {
        /// The version file or checkpoint that says so.
        file: PathBuf,
        /// What it uses.
        feature: String,
    },
    /// The log has a hole.
    #[error("{} has no version {missing}, but later ones: expected {missing:020}.json or a later checkpoint", log.display())]
    MissingVersion {
        /// The `_delta_log` directory.
        log: PathBuf,
        /// The first version that is missing.
        missing: u64,
    },
    /// A version was asked for that is not (yet) there.
    #[error("{} has no version {wanted}: the newest is {newest}", dir.display())]
    NoVersion {
        /// The table.
        dir: PathBuf,
        /// The version asked for.
        wanted: u64,
        /// The newest that there is.
        newest: u64,
    },
    /// A file that the log names is not there, or is not the one that was written.
    #[error("{} of the table {} {problem}", file, dir.display())]
    DataFile {
        /// The table.
        dir: PathBuf,
        /// The file, relative to the table.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A schema cannot be a table's, or not this table's.
    #[error("column `{column}`: {problem}")]
    Schema {
        /// The column, nested ones with dots.
        column: String,
        /// What is wrong with it, and what was expected.
        problem: String,
    },
    /// A tick was to be written that the table holds already.
    #[error("{} holds everything up to tick {last}: cannot write tick {tick}, expected a later one", dir.display())]
    Tick {
        /// The table.
        dir: PathBuf,
        /// The tick that was to be written.
        tick: u64,
        /// The table's own.
        last: u64,
    },
    /// Somebody else writes this table as Visitflow. This writer must stop.
    #[error("{}: another Visitflow wrote version {version}; this one must stop", dir.display())]
    Fenced {
        /// The table.
        dir: PathBuf,
        /// The other one's version.
        version: u64,
    },
    /// A file was to be removed that is no part of the table.
    #[error("{}: cannot remove {file:?}, it is no live file of version {version}", dir.display())]
    NotLive {
        /// The table.
        dir: PathBuf,
        /// The file.
        file: String,
        /// The version looked at.
        version: u64,
    },
    /// The table's owner has set `delta.appendOnly`.
    #[error("{}: cannot remove files, delta.appendOnly is set", dir.display())]
    AppendOnly {
        /// The table.
        dir: PathBuf,
    },
}
