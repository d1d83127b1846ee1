//! What the rows of a part are: the state of the fragments `visits` and `complete`, and what other
//! fragments keep by name.

use std::collections::BTreeMap;
use std::path::Path;

use visitflow_dataflows::durable::Shards;
use visitflow_dataflows::{complete, visits};

use super::part::{self, PartWriter, Section};
use crate::recovery::RecoveryError;

const BROWSERS: u32 = 1;
const OLDER: u32 = 2;
const TAIL: u32 = 3;
const IDS: u32 = 4;
const KEPT: u32 = 5;
const SEALED: u32 = 6;
const CHUNKS: u32 = 7;
const SEALED_IDS: u32 = 8;
const NAMED: u32 = 9;
/// The version of what is kept by name, which has one of its own inside.
const NAMED_VERSION: u32 = 1;

/// The state of some shards.
#[derive(Debug, Default, PartialEq)]
pub struct State {
    /// Open visits.
    pub visits: Vec<visits::saved::ShardRows>,
    /// What is kept of measurements.
    pub kept: Vec<complete::saved::ShardRows>,
    /// What fragments keep, by name.
    pub named: BTreeMap<String, Shards>,
}

/// Writes a part, durably.
///
/// # Errors
/// What the file system says.
pub fn write(path: &Path, state: &State) -> Result<(), RecoveryError> {
    let mut part = PartWriter::create(path)?;
    let version = visits::saved::FORMAT;
    for rows in &state.visits {
        part.rows(BROWSERS, version, rows.shard, &rows.browsers)?;
        part.rows(OLDER, version, rows.shard, &rows.older)?;
        part.rows(TAIL, version, rows.shard, &rows.tail)?;
        part.bytes(IDS, version, rows.shard, &rows.ids)?;
    }
    let version = complete::saved::FORMAT;
    for rows in &state.kept {
        part.rows(KEPT, version, rows.shard, &rows.kept)?;
        part.rows(SEALED, version, rows.shard, &rows.sealed)?;
        part.rows(CHUNKS, version, rows.shard, &rows.chunks)?;
        part.bytes(SEALED_IDS, version, rows.shard, &rows.ids)?;
    }
    for (name, shards) in &state.named {
        for (shard, bytes) in shards {
            // The name's length, the name, and then what is kept.
            let mut named = vec![name.len() as u8];
            named.extend_from_slice(name.as_bytes());
            named.extend_from_slice(bytes);
            part.bytes(NAMED, NAMED_VERSION, *shard, &named)?;
        }
    }
    part.finish()
}

/// Reads what parts hold of the shards that are `wanted`.
///
/// # Errors
/// What the file system says; damage; rows of another version or of a kind that is not known.
pub fn read(
    parts: impl IntoIterator<Item = impl AsRef<Path>>,
    wanted: impl Fn(u8) -> bool + Copy,
) -> Result<State, RecoveryError> {
    let mut visits: BTreeMap<u8, visits::saved::ShardRows> = BTreeMap::new();
    let mut kept: BTreeMap<u8, complete::saved::ShardRows> = BTreeMap::new();
    let mut named: BTreeMap<String, Shards> = BTreeMap::new();
    for path in parts {
        part::read(path.as_ref(), wanted, |section: Section| {
            let (kind, shard) = (section.kind, section.shard);
            match kind {
                BROWSERS..=IDS => {
                    section.expect_version("open visits", visits::saved::FORMAT)?;
                    let rows = visits.entry(shard).or_default();
                    rows.shard = shard;
                    match kind {
                        BROWSERS => rows.browsers = section.rows()?,
                        OLDER => rows.older = section.rows()?,
                        TAIL => rows.tail = section.rows()?,
                        _ => rows.ids = section.into_bytes(),
                    }
                }
                KEPT..=SEALED_IDS => {
                    section.expect_version("measurements", complete::saved::FORMAT)?;
                    let rows = kept.entry(shard).or_default();
                    rows.shard = shard;
                    match kind {
                        KEPT => rows.kept = section.rows()?,
                        SEALED => rows.sealed = section.rows()?,
                        CHUNKS => rows.chunks = section.rows()?,
                        _ => rows.ids = section.into_bytes(),
                    }
                }
                NAMED => {
                    section.expect_version("what fragments keep", NAMED_VERSION)?;
                    let bytes = section.into_bytes();
                    let length = bytes.first().copied().unwrap_or(0);
                    let (name, kept) = bytes[1..].split_at(length.into());
                    let name = String::from_utf8_lossy(name).into_owned();
                    named.entry(name).or_default().push((shard, kept.to_vec()));
                }
                _ => {
                    return Err(RecoveryError::Format {
                        file: path.as_ref().display().to_string(),
                        found: format!("rows of kind {kind}"),
                        expected: format!("{BROWSERS} to {NAMED}"),
                    });
                }
            }
            Ok(())
        })?;
    }
    Ok(State {
        visits: visits.into_values().collect(),
        kept: kept.into_values().collect(),
        named,
    })
}
