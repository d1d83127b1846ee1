//! What a job has kept, as it lies there, for people who look into it: claims, manifests and
//! journals, each by itself, so that one which is damaged hides none of the others. Reads only, and
//! decides nothing.

use super::claim::{self, Claim, Found};
use super::journal::{self, Cuts, Piece};
use super::manifest::{self, Manifest};
use super::{Disk, Journals, RecoveryError};

/// A start: what it has claimed, and what it then found.
#[derive(Debug)]
pub struct Start {
    /// The incarnation.
    pub incarnation: u64,
    /// The claim.
    pub claim: Result<Claim, RecoveryError>,
    /// What it has found; `None` if it did not come so far.
    pub found: Result<Option<Found>, RecoveryError>,
}

/// A journal file.
#[derive(Debug)]
pub struct File {
    /// Its name within the state's folder.
    pub name: String,
    /// Whose it is; `None` if the name does not say so.
    pub incarnation: Option<u64>,
    /// How long it is, in bytes.
    pub bytes: u64,
    /// How much of it counts, if a later start has said so.
    pub counts: Option<u64>,
    /// What lies in it.
    pub pieces: Result<Vec<Piece>, RecoveryError>,
}

/// All starts, in order. What goes away meanwhile is left out, here as below.
///
/// # Errors
/// The folder cannot be listed.
pub fn starts(disk: &impl Disk) -> Result<Vec<Start>, RecoveryError> {
    let start = |incarnation: u64| {
        let claim = claim::read(disk, incarnation).transpose()?;
        Some(Start {
            incarnation,
            claim,
            found: claim::found(disk, incarnation),
        })
    };
    let numbers = claim::incarnations(disk)?;
    Ok(numbers.into_iter().filter_map(start).collect())
}

/// A manifest's number, and what it says.
pub type Numbered = (u64, Result<Manifest, RecoveryError>);

/// All manifests, in order.
///
/// # Errors
/// The folder cannot be listed.
pub fn manifests(disk: &impl Disk) -> Result<Vec<Numbered>, RecoveryError> {
    let numbers = manifest::numbers(disk)?;
    let read = |n: u64| Some((n, manifest::read(disk, n).transpose()?));
    Ok(numbers.into_iter().filter_map(read).collect())
}

/// A journal file; `cuts` are those of the last start that has found any. Holds the whole of it, at
/// most 64 MB and an entry.
///
/// # Errors
/// It cannot be read.
pub fn journal(
    place: &impl Journals,
    name: &str,
    cuts: &Cuts,
) -> Result<Option<File>, RecoveryError> {
    let Some(bytes) = place.bytes(name)? else {
        return Ok(None);
    };
    Ok(Some(File {
        incarnation: journal::incarnation_of(name),
        bytes: bytes.len() as u64,
        counts: cuts.get(name).copied(),
        pieces: journal::pieces(name, &bytes),
        name: name.to_owned(),
    }))
}
