//! The embedded log: topics of partitions in a directory, append-only files of records. It is
//! Visitflow's source and sink wherever no Kafka is at hand, for one host: one writer a
//! partition, any number of readers, in any number of processes. It promises that a commit is
//! seen whole or not at all, that offsets have no gaps, and that damage is an error with file and
//! byte, never wrong or missing records. It is not a broker: no network, no groups, no retention.
//!
//! ```
//! use visitflow::log::{Reader, Topic, Writer, WriterOptions};
//! # let dir = tempfile::tempdir()?;
//! # let dir = dir.path();
//! let topic = Topic::create(dir, "measurements", 4)?;
//! let mut writer = Writer::open(&topic, 0, WriterOptions::default())?;
//! writer.push(1_700_000_000_000, b"browser", &[("kind", b"shown")], b"a page")?;
//! writer.commit(0)?;
//!
//! let mut reader = Reader::open(&topic, 0, 0)?;
//! while let Some(record) = reader.peek()? {
//!     assert_eq!((record.offset, record.value), (0, &b"a page"[..]));
//!     assert_eq!(record.header("kind"), Some(&b"shown"[..]));
//!     reader.advance();
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Files
//!
//! ```text
//! DIR/TOPIC/topic.json                      {"format":1,"partitions":P}, put once, by a hard link
//! DIR/TOPIC/PARTITION/writer.lock           empty; locked by the partition's writer
//! DIR/TOPIC/PARTITION/BASE.seg              a segment; its first record has the offset BASE
//! ```
//! PARTITION is 5 digits, BASE 20. A partition's directory is there once it has had a writer.
//! What is called otherwise is not looked at.
//!
//! # Bytes
//!
//! All numbers are little-endian. A segment is its header and then frames, without gaps:
//!
//! | bytes | segment header |
//! | --- | --- |
//! | 0..8 | `visitlog` |
//! | 8..12 | the format, 1 |
//! | 12..20 | the offset of the first record, as in the name |
//! | 20..28 | the partition's last tick before this segment, 0 if none |
//! | 28..36 | the greatest log time before this segment, ms (i64), the least i64 if none |
//! | 36..40 | CRC-32 of bytes 0..36 |
//!
//! A *frame* is a batch of records. The header's CRC covers the length and the body's CRC, so
//! that a frame can be skipped, and be told from a torn one, by its header alone:
//!
//! | bytes | frame header |
//! | --- | --- |
//! | 0..4 | F5 `V` `F` C1 |
//! | 4..8 | length of the frame, this header included |
//! | 8..16 | the offset of its first record |
//! | 16..24 | the tick that its commit completes, 0 for none and in all but a commit's last frame |
//! | 24..32 | log time that the first record's delta counts from, ms (i64) |
//! | 32..40 | the greatest log time in it, ms (i64) |
//! | 40..44 | number of records, at least 1 |
//! | 44..48 | flags: 1 = the commit goes on with the next frame; all else 0 |
//! | 48..52 | CRC-32 of the body, bytes 56 to the end |
//! | 52..56 | CRC-32 of bytes 0..52 |
//!
//! The body is the records, one after the other. A *varint* has 7 bits a byte, the lowest first,
//! the high bit set in all but the last byte, and at most 64 bits in all:
//!
//! ```text
//! varint  log time less that of the record before it, zig-zag (0, -1, 1, -2 … are 0, 1, 2, 3 …)
//! varint  length of the key,  the key
//! varint  number of headers,  for each: varint length, name (UTF-8), varint length, value
//! varint  length of the value, the value
//! ```
//!
//! # Commits and crashes
//!
//! What a writer commits at once is one frame, or several of about
//! [`frame_bytes`](WriterOptions::frame_bytes) of which all but the last are flagged. A reader
//! shows none of them before the last is there, and gives all their records the tick of the last.
//! A commit never spans segments. The usual commit is one write call.
//!
//! A writer that dies leaves at worst a *torn tail*: at the end of the last segment, something
//! that is no whole frame, with no whole frame anywhere after it, or a commit without its end. To
//! a reader that is nothing yet; the next writer cuts it and says how many bytes it was
//! ([`Writer::torn_bytes`]). Everything else is *damage*, an error ([`LogError::Damaged`]) for
//! readers and writers, and nothing is cut: a bad frame before a whole one, or in a segment that
//! is not the last, a gap between segments, a header of another format. A loss of power can leave
//! damage only behind the last [`sync`](Writer::sync), where the file system may have kept later
//! bytes and lost earlier ones.
//!
//! # Cost
//!
//! Nothing is allocated for a record by either side. For records of 450 bytes, `cargo bench
//! --bench log` measures both sides against plain reads and writes of the same bytes.

mod error;
mod frame;
mod producer;
mod reader;
mod segment;
mod topic;
mod writer;

pub use error::LogError;
pub use frame::Headers;
pub use producer::Producer;
pub use reader::{Reader, Record, end_offset, last_tick, start_offset};
pub use topic::Topic;
pub use writer::{Writer, WriterOptions};

/// The most partitions that a topic can have.
pub const MAX_PARTITIONS: u32 = 10_000;

/// The most bytes that a record can take, with its key and headers: 256 MiB.
pub const MAX_RECORD_BYTES: usize = 256 << 20;
