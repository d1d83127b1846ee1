//! The measurements of open visits on disk: *runs*, append-only segment files that each worker
//! writes from its memory, group by group, and reads back when visits end.
//!
//! For an operator whose state is larger than memory. It gathers bytes by browser until it holds as
//! much as it may, gives them away as a group, in which each browser's bytes are a [`Chunk`], and
//! keeps 20 bytes for each. So a byte is written once, in order; a visit's bytes lie in few places;
//! and since visits end about when they began, segments die whole. It is not a database: there is
//! no look-up by key, and nothing is ever changed.
//!
//! What it promises: a chunk reads back as it was written, or there is an error that names the file
//! and the byte. What a durable manifest names is on disk, until another manifest, that does not,
//! has been put. Disk in use stays within a multiple of what lives.
//!
//! A snapshot: [`Runs::write`] what is in memory, [`Runs::seal`], and note the chunks; when the
//! [`Ticket`] is done the manifest may be put; then [`Runs::named`], and by one worker
//! [`Runs::sweep`]. A start: `sweep` with the manifest that was loaded, then [`Runs::adopt`] its
//! chunks. Between them [`Runs::thin`], again and again.
//!
//! ```
//! use visitflow::store::{Options, Runs};
//!
//! # let dir = tempfile::tempdir()?;
//! let mut runs = Runs::open(dir.path(), 1, 0, Options::default())?;
//! let group = vec![([1, 1], b"of one browser".to_vec()), ([2, 2], b"of another".to_vec())];
//! let chunks = runs.write(group)?;
//!
//! let seal = runs.seal()?;
//! let manifest: Vec<u64> = runs.segments().collect();
//! seal.wait()?; // A worker asks `is_done` now and then instead.
//! runs.named(&seal, manifest)?;
//!
//! runs.read(&chunks[1..], &mut |_, bytes| assert_eq!(bytes, b"of another"))?;
//! for chunk in chunks {
//!     runs.free(chunk)?;
//! }
//! assert_eq!(runs.counters().bytes_live, 0);
//! assert_eq!(runs.counters().segments, 1); // The manifest names it.
//! let seal = runs.seal()?;
//! runs.named(&seal, [])?;
//! assert_eq!(runs.counters().segments, 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod block;
mod chunk;
mod error;
mod live;
mod reading;
mod runs;
mod segment;
mod sweep;
#[cfg(test)]
mod tests;
mod thin;
mod writer;

pub use chunk::{Chunk, Key};
pub use error::StoreError;
pub use runs::{Counters, Options, Runs, Ticket};
pub use sweep::Swept;

/// The directory of the runs in a job's directory.
const DIR: &str = "runs";
