//! The log of versions: what a version's lines say, and what the table is after some of them.

use super::schema::Struct;
use super::{TableError, checkpoint, disk};
use arrow_schema::Schema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The application's name in the log's transactions.
pub(super) const APP: &str = "visitflow";

/// One Parquet file of a table: what the writer of a file hands to whoever commits it, over threads or, by serde in
/// any format, over processes. About 1 KB, most of it statistics.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddFile {
    /// Where, relative to the table's directory, percent-encoded as a URI.
    pub path: String,
    /// Bytes.
    pub size: u64,
    /// Milliseconds since 1970; for people only.
    pub modification_time: i64,
    /// Delta's statistics as JSON: `numRecords`, `minValues`, `maxValues`, `nullCount`.
    pub stats: Option<String>,
    pub(super) tags: Option<BTreeMap<String, Option<String>>>,
    /// The file's own schema as JSON, so that the commit can refuse a file that does not fit; not in the log.
    pub(super) schema: Option<String>,
}

impl AddFile {
    /// The number of rows, if the statistics say so; ours always do.
    pub fn rows(&self) -> Option<u64> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Stats {
            num_records: u64,
        }
        serde_json::from_str::<Stats>(self.stats.as_deref()?)
            .ok()
            .map(|s| s.num_records)
    }

    /// The file on the disk. Refuses paths that lead out of the table.
    pub(super) fn on_disk(&self, dir: &Path) -> Result<PathBuf, TableError> {
        let refuse = |problem: &str| TableError::DataFile {
            dir: dir.to_owned(),
            file: self.path.clone(),
            problem: problem.to_owned(),
        };
        let decoded = decode(&self.path).ok_or_else(|| refuse("is no percent-encoded path"))?;
        let relative = Path::new(&decoded);
        let inside = relative
            .components()
            .all(|c| matches!(c, std::path::Component::Normal(_)));
        if !inside
            || decoded.is_empty()
            || self
                .path
                .split('/')
                .next()
                .is_some_and(|first| first.contains(':'))
        {
            return Err(refuse(
                "lies outside; expected a path below the table's directory",
            ));
        }
        Ok(dir.join(relative))
    }
}

fn decode(path: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte == b'%' {
            let hex = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(hex, 16).ok()?);
            rest = &rest[2..];
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// One line of a version file, or one row of a checkpoint. What we do not know is ignored, as the format demands:
/// whatever must not be ignored raises the protocol's version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Line {
    protocol: Option<Protocol>,
    meta_data: Option<Metadata>,
    txn: Option<Txn>,
    add: Option<Add>,
    remove: Option<Remove>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub format: Format,
    pub schema_string: String,
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: Option<BTreeMap<String, Option<String>>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Add {
    path: String,
    size: u64,
    modification_time: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing)]
    deletion_vector: Option<Value>,
}

impl Add {
    pub fn of(file: &AddFile) -> Add {
        Add {
            path: file.path.clone(),
            size: file.size,
            modification_time: file.modification_time,
            stats: file.stats.clone(),
            tags: file.tags.clone(),
            deletion_vector: None,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Remove {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(default, skip_serializing)]
    deletion_vector: Option<Value>,
}

impl Remove {
    pub fn of(file: &AddFile, now: i64) -> Remove {
        Remove {
            path: file.path.clone(),
            deletion_timestamp: Some(now),
            data_change: true,
            size: i64::try_from(file.size).ok(),
            deletion_vector: None,
        }
    }
}

/// What the table is at one version. About 1 KB a live file.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub version: u64,
    pub protocol: Protocol,
    pub metadata: Metadata,
    pub schema: Struct,
    pub arrow: Schema,
    pub txns: BTreeMap<String, Txn>,
    pub files: BTreeMap<String, AddFile>,
    pub removed: BTreeMap<String, Remove>,
}

/// A state while lines are being applied to it; whole only at the end of a version.
#[derive(Default)]
struct Replay {
    protocol: Option<Protocol>,
    metadata: Option<(Metadata, Struct, Schema)>,
    txns: BTreeMap<String, Txn>,
    files: BTreeMap<String, AddFile>,
    removed: BTreeMap<String, Remove>,
    /// Whether a line since the last call of `finish` is a transaction of ours.
    ours: bool,
}

impl Replay {
    fn apply(&mut self, line: Line, file: &Path, number: usize) -> Result<(), TableError> {
        let unsupported = |feature: String| TableError::Unsupported {
            file: file.to_owned(),
            feature,
        };
        let garbled = |problem: String| TableError::Garbled {
            file: file.to_owned(),
            line: number,
            problem,
        };
        if let Some(p) = line.protocol {
            if p.min_reader_version > 1 || p.min_writer_version > 2 {
                return Err(unsupported(format!(
                    "protocol ({}, {})",
                    p.min_reader_version, p.min_writer_version
                )));
            }
            self.protocol = Some(p);
        }
        if let Some(m) = line.meta_data {
            if !m.partition_columns.is_empty() {
                return Err(unsupported(format!(
                    "partitions by {}",
                    m.partition_columns.join(", ")
                )));
            }
            if m.format.provider != "parquet" {
                return Err(unsupported(format!(
                    "files of the format {:?}",
                    m.format.provider
                )));
            }
            let schema: Struct = serde_json::from_str(&m.schema_string)
                .map_err(|e| garbled(format!("schemaString is no schema: {e}")))?;
            let arrow = schema
                .to_arrow()
                .map_err(|e| unsupported(format!("a schema whose {e}")))?;
            self.metadata = Some((m, schema, arrow));
        }
        if let Some(t) = line.txn {
            self.ours |= t.app_id == APP;
            self.txns.insert(t.app_id.clone(), t);
        }
        if let Some(r) = line.remove {
            if r.deletion_vector.is_some() {
                return Err(unsupported("a deletionVector".to_owned()));
            }
            self.files.remove(&r.path);
            self.removed.insert(r.path.clone(), r);
        }
        if let Some(a) = line.add {
            if a.deletion_vector.is_some() {
                return Err(unsupported("a deletionVector".to_owned()));
            }
            let Add {
                path,
                size,
                modification_time,
                stats,
                tags,
                ..
            } = a;
            self.removed.remove(&path);
            let file = AddFile {
                path: path.clone(),
                size,
                modification_time,
                stats,
                tags,
                schema: None,
            };
            self.files.insert(path, file);
        }
        Ok(())
    }

    fn apply_version(&mut self, bytes: &[u8], path: &Path) -> Result<(), TableError> {
        let mut empty = true;
        for (i, line) in bytes.split(|b| *b == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let garbled = |e: serde_json::Error| TableError::Garbled {
                file: path.to_owned(),
                line: i + 1,
                problem: format!("expected one action of a Delta table as JSON: {e}"),
            };
            self.apply(serde_json::from_slice(line).map_err(garbled)?, path, i + 1)?;
            empty = false;
        }
        if empty {
            return Err(TableError::Garbled {
                file: path.to_owned(),
                line: 0,
                problem: "is empty; expected the actions of a version".to_owned(),
            });
        }
        Ok(())
    }

    fn finish(self, version: u64, path: &Path) -> Result<State, TableError> {
        let missing = |what: &str| TableError::Garbled {
            file: path.to_owned(),
            line: 0,
            problem: format!("the table has no {what} up to here"),
        };
        let protocol = self.protocol.ok_or_else(|| missing("protocol"))?;
        let (metadata, schema, arrow) = self.metadata.ok_or_else(|| missing("metaData"))?;
        Ok(State {
            version,
            protocol,
            metadata,
            schema,
            arrow,
            txns: self.txns,
            files: self.files,
            removed: self.removed,
        })
    }
}

pub(super) fn version_name(version: u64) -> String {
    format!("{version:020}.json")
}

/// What a `_delta_log` holds: the versions, and the whole checkpoints with their files.
struct Listing {
    versions: Vec<u64>,
    checkpoints: BTreeMap<u64, Vec<String>>,
}

fn listing(dir: &Path, log: &Path) -> Result<Listing, TableError> {
    let no_table = || TableError::NotATable {
        dir: dir.to_owned(),
    };
    let mut names = disk::list(log)?.ok_or_else(no_table)?;
    names.sort_unstable();
    let mut versions = Vec::new();
    let mut parts: BTreeMap<(u64, u32), Vec<String>> = BTreeMap::new();
    for name in names {
        let Some(version) = name
            .get(..20)
            .filter(|v| v.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|v| v.parse().ok())
        else {
            continue;
        };
        match name[20..].split('.').collect::<Vec<_>>()[..] {
            ["", "json"] => versions.push(version),
            ["", "checkpoint", "parquet"] => parts.entry((version, 1)).or_default().push(name),
            ["", "checkpoint", _, of, "parquet"] => {
                if let Ok(of) = of.parse() {
                    parts.entry((version, of)).or_default().push(name);
                }
            }
            _ => {}
        }
    }
    let whole = parts
        .into_iter()
        .filter(|((_, of), names)| names.len() == *of as usize);
    let checkpoints: BTreeMap<_, _> = whole
        .map(|((version, _), names)| (version, names))
        .collect();
    if versions.is_empty() && checkpoints.is_empty() {
        return Err(no_table());
    }
    Ok(Listing {
        versions,
        checkpoints,
    })
}

/// The table at `wanted`, or at its newest version, and the version of the newest checkpoint that there is.
/// Reads the checkpoint before it and the versions since. The listing alone is trusted to say which these are:
/// `_last_checkpoint` is a hint for those to whom listing is dear, and may lag behind.
pub(super) fn load(
    dir: &Path,
    log: &Path,
    wanted: Option<u64>,
) -> Result<(State, u64), TableError> {
    let Listing {
        versions,
        checkpoints,
    } = listing(dir, log)?;
    let newest = versions
        .last()
        .copied()
        .max(checkpoints.last_key_value().map(|(v, _)| *v))
        .unwrap_or(0);
    let target = wanted.unwrap_or(newest);
    if target > newest {
        return Err(TableError::NoVersion {
            dir: dir.to_owned(),
            wanted: target,
            newest,
        });
    }
    let mut replay = Replay::default();
    let mut next = 0;
    let mut last_file = log.to_owned();
    if let Some((version, names)) = checkpoints.range(..=target).next_back() {
        for name in names {
            last_file = log.join(name);
            checkpoint::read(&last_file, |line, row| replay.apply(line, &last_file, row))?;
        }
        next = version + 1;
    }
    let first = versions.partition_point(|v| *v < next);
    for version in versions[first..]
        .iter()
        .copied()
        .take_while(|v| *v <= target)
    {
        if version != next {
            return Err(TableError::MissingVersion {
                log: log.to_owned(),
                missing: next,
            });
        }
        last_file = log.join(version_name(version));
        let bytes = disk::read(&last_file)?.ok_or_else(|| TableError::MissingVersion {
            log: log.to_owned(),
            missing: version,
        })?;
        replay.apply_version(&bytes, &last_file)?;
        next += 1;
    }
    if next != target + 1 {
        return Err(TableError::MissingVersion {
            log: log.to_owned(),
            missing: next,
        });
    }
    let newest_checkpoint = checkpoints.last_key_value().map_or(0, |(v, _)| *v);
    Ok((replay.finish(target, &last_file)?, newest_checkpoint))
}

impl State {
    /// Applies the versions that others have put since; the first of them, if any, that has a transaction of ours.
    /// On an error the state is as it was.
    pub fn catch_up(&mut self, log: &Path) -> Result<Option<u64>, TableError> {
        let mut first_of_ours = None;
        loop {
            let version = self.version + 1;
            let path = log.join(version_name(version));
            let Some(bytes) = disk::read(&path)? else {
                return Ok(first_of_ours);
            };
            if self.apply(&bytes, version, &path)? && first_of_ours.is_none() {
                first_of_ours = Some(version);
            }
        }
    }

    /// Applies one version; whether it has a transaction of ours.
    pub fn apply(&mut self, bytes: &[u8], version: u64, path: &Path) -> Result<bool, TableError> {
        // Checked on its own first, so that nothing of a garbled version reaches the state.
        let mut delta = Replay::default();
        delta.apply_version(bytes, path)?;
        let ours = delta.ours;
        self.version = version;
        if let Some(protocol) = delta.protocol {
            self.protocol = protocol;
        }
        if let Some((metadata, schema, arrow)) = delta.metadata {
            (self.metadata, self.schema, self.arrow) = (metadata, schema, arrow);
        }
        self.txns.extend(delta.txns);
        for (path, remove) in delta.removed {
            self.files.remove(&path);
            self.removed.insert(path, remove);
        }
        for (path, file) in delta.files {
            self.removed.remove(&path);
            self.files.insert(path, file);
        }
        Ok(ours)
    }

    pub fn last_tick(&self) -> Option<u64> {
        self.txns
            .get(APP)
            .and_then(|t| u64::try_from(t.version).ok())
    }

    pub fn configured(&self, key: &str) -> Option<&str> {
        self.metadata.configuration.as_ref()?.get(key)?.as_deref()
    }
}
