//! Claims: who runs. Each start puts the next number's file; whoever finds a higher one than its own
//! has been replaced and exits. A claim also says with what the job runs that is not in the log, and
//! under which names its producers write, so that the next start can fence them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::journal::Cuts;
use super::{Disk, RecoveryError, number};

/// The version of claims that this program writes and reads.
pub const FORMAT: u32 = 1;

/// A start's claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The version of this file.
    pub format: u32,
    /// The number of the start, from 1.
    pub incarnation: u64,
    /// The job's name.
    pub job: String,
    /// The program's version.
    pub program: String,
    /// Workers in all processes.
    pub workers: usize,
    /// Processes.
    pub processes: usize,
    /// What is not in the log, by name: a fingerprint, or the value where it is short.
    pub inputs: BTreeMap<String, String>,
    /// The ID of the topic that is read, where its log gives topics IDs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic: Option<String>,
    /// Where its journal lies, in words; empty for `journal` in the state's folder.
    #[serde(default)]
    pub journal: String,
    /// The transactional IDs of all producers.
    pub producers: Vec<String>,
    /// When, in ms since 1970; for people.
    pub at: i64,
}

/// What a start has found, once all sinks were fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The version of this file.
    pub format: u32,
    /// How much of each older journal file counts.
    pub journals: Cuts,
    /// The manifest from which it goes on.
    pub manifest: Option<u64>,
    /// By sink, how far each of its partitions has committed.
    pub progress: BTreeMap<String, Vec<Committed>>,
}

/// How far a partition of a sink has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Committed {
    /// The last tick; 0 for none.
    pub tick: u64,
    /// The sum of all output up to there; 0 for a sink that keeps none.
    pub sum: u64,
}

fn name(incarnation: u64) -> String {
    format!("claims/{}.json", number(incarnation))
}

fn found_name(incarnation: u64) -> String {
    format!("claims/{}.start.json", number(incarnation))
}

/// All claims, by incarnation.
///
/// # Errors
/// What the disk says; a file that is no claim.
pub fn all(disk: &impl Disk) -> Result<Vec<Claim>, RecoveryError> {
    let numbers = incarnations(disk)?;
    let read = |n: &u64| read(disk, *n).transpose();
    numbers.iter().filter_map(read).collect()
}

/// The claim of an incarnation.
///
/// # Errors
/// What the disk says; damage; another version.
pub fn read(disk: &impl Disk, incarnation: u64) -> Result<Option<Claim>, RecoveryError> {
    let name = name(incarnation);
    let claim: Option<Claim> = json(disk, &name)?;
    claim
        .map(|claim| check_format(claim.format, &name).map(|()| claim))
        .transpose()
}

/// The incarnations that have been claimed, in order.
///
/// # Errors
/// What the disk says.
pub fn incarnations(disk: &impl Disk) -> Result<Vec<u64>, RecoveryError> {
    let names = disk.list("claims")?;
    Ok(names
        .iter()
        .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
        .collect())
}

/// The highest incarnation that has been claimed; 0 for none.
///
/// # Errors
/// What the disk says.
pub fn highest(disk: &impl Disk) -> Result<u64, RecoveryError> {
    Ok(incarnations(disk)?.into_iter().max().unwrap_or(0))
}

/// Claims the next incarnation for what `claim` says otherwise.
///
/// # Errors
/// What the disk says.
pub fn take(disk: &impl Disk, mut claim: Claim) -> Result<Claim, RecoveryError> {
    loop {
        claim.incarnation = highest(disk)? + 1;
        let bytes = serde_json::to_vec_pretty(&claim).expect("a claim is plain JSON");
        if disk.put_if_absent(&name(claim.incarnation), &bytes)? {
            return Ok(claim);
        }
    }
}

/// Says that one's own incarnation has been replaced, if it has.
///
/// # Errors
/// [`RecoveryError::Superseded`]; what the disk says.
pub fn still_ours(disk: &impl Disk, own: u64) -> Result<(), RecoveryError> {
    match highest(disk)? {
        found if found > own => Err(RecoveryError::Superseded { found, own }),
        _ => Ok(()),
    }
}

/// Notes what a start has found.
///
/// # Errors
/// What the disk says; somebody else has done so.
pub fn put_found(disk: &impl Disk, incarnation: u64, found: &Found) -> Result<(), RecoveryError> {
    let bytes = serde_json::to_vec_pretty(found).expect("it is plain JSON");
    if disk.put_if_absent(&found_name(incarnation), &bytes)? {
        return Ok(());
    }
    Err(RecoveryError::Superseded {
        found: incarnation,
        own: incarnation,
    })
}

/// What the start of an incarnation has found; `None` if it did not come so far.
///
/// # Errors
/// What the disk says; a file of another version.
pub fn found(disk: &impl Disk, incarnation: u64) -> Result<Option<Found>, RecoveryError> {
    let name = found_name(incarnation);
    let found: Option<Found> = json(disk, &name)?;
    found
        .map(|found| check_format(found.format, &name).map(|()| found))
        .transpose()
}

pub(super) fn check_format(found: u32, name: &str) -> Result<(), RecoveryError> {
    if found == FORMAT {
        return Ok(());
    }
    Err(RecoveryError::Format {
        file: name.to_owned(),
        found: found.to_string(),
        expected: FORMAT.to_string(),
    })
}

pub(super) fn json<T: serde::de::DeserializeOwned>(
    disk: &impl Disk,
    name: &str,
) -> Result<Option<T>, RecoveryError> {
    let Some(bytes) = disk.read(name)? else {
        return Ok(None);
    };
    let read = serde_json::from_slice(&bytes).map_err(|error| RecoveryError::Damaged {
        file: name.to_owned(),
        at: 0,
        found: error.to_string(),
        expected: "what this program writes there".to_owned(),
    })?;
    Ok(Some(read))
}
