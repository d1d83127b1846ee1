//! Manifests: which snapshot counts. Each is the next number's file, put if absent; a start puts an
//! empty one, so that whoever ran before cannot put another. A manifest with a snapshot is put once
//! every sink has committed everything before its tick, or has what it has not committed in the
//! snapshot: only then is what lies before it no longer needed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use visitflow_dataflows::visit::Tick;

use super::claim::{self, FORMAT, check_format, json};
use super::{Disk, RecoveryError, number};

/// How many snapshots are kept.
pub const KEPT: usize = 1;

/// A manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this file.
    pub format: u32,
    /// Who put it.
    pub incarnation: u64,
    /// What counts; none for the fence of a start.
    pub snapshot: Option<Snapshot>,
}

/// All state as of a tick: all effects of ticks before it, none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The tick.
    pub tick: Tick,
    /// Whether the job was stopped there.
    pub stopped: bool,
    /// The workers' files.
    pub parts: Vec<String>,
    /// The segments of measurements which those name.
    pub segments: Vec<u64>,
    /// By sink, how far each partition's commits had come when it was made, for the next start to
    /// see that they are still there.
    pub sinks: Vec<Position>,
    /// The time of the latest measurement of an open visit.
    #[serde(default)]
    pub latest: Tick,
    /// What measurements of open visits it has, and views.
    #[serde(flatten)]
    pub kept: Kept,
}

/// What a job keeps beside its visits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kept {
    /// Whether it keeps the measurements of open visits: one without tables, views and readers does not.
    #[serde(default)]
    pub measurements: bool,
    /// Its views, and since when each counts.
    #[serde(default)]
    pub views: BTreeMap<String, Tick>,
}

/// How far a partition of a sink has come at a snapshot's tick.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Which sink.
    pub sink: String,
    /// Which of its partitions.
    pub partition: u32,
    /// The last tick that it has committed.
    pub tick: Tick,
    /// The wrapping sum of the hashes of all it was given; 0 for a sink that keeps none.
    pub sum: u64,
}

/// What a worker has written of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The snapshot's tick.
    pub tick: Tick,
    /// Whether the job stops there.
    pub stop: bool,
    /// The worker.
    pub worker: u32,
    /// Its file.
    pub file: String,
    /// The segments of measurements which it names.
    pub segments: Vec<u64>,
    /// The time of the latest measurement of an open visit.
    pub latest: Tick,
    /// How far the sinks' partitions of this worker have come.
    pub sinks: Vec<Position>,
}

/// The parts of snapshots, brought together.
#[derive(Debug)]
pub struct Parts {
    workers: usize,
    parts: BTreeMap<Tick, Vec<Part>>,
    /// The last snapshot that was ready: an earlier one would take the job back.
    last: Tick,
}

impl Parts {
    /// For so many workers.
    #[must_use]
    pub fn of(workers: usize) -> Parts {
        Parts {
            workers,
            parts: BTreeMap::new(),
            last: 0,
        }
    }

    /// Takes a part, in any order. One of a snapshot before the last that was ready is passed over.
    pub fn add(&mut self, part: Part) {
        if part.tick > self.last {
            self.parts.entry(part.tick).or_default().push(part);
        }
    }

    /// The snapshot that may be put, the latest if there are several: all workers' parts are there,
    /// and all sinks have committed all ticks before `committed`.
    pub fn ready(&mut self, committed: Tick) -> Option<Snapshot> {
        let whole = |(tick, parts): (&Tick, &Vec<Part>)| {
            (parts.len() == self.workers && *tick <= committed).then_some(*tick)
        };
        let tick = self.parts.iter().rev().find_map(whole)?;
        self.last = tick;
        let later = self.parts.split_off(&(tick + 1));
        let parts = std::mem::replace(&mut self.parts, later).remove(&tick)?;
        let mut snapshot = Snapshot {
            tick,
            stopped: parts.iter().any(|part| part.stop),
            ..Snapshot::default()
        };
        for part in parts {
            snapshot.parts.push(part.file);
            snapshot.segments.extend(part.segments);
            snapshot.sinks.extend(part.sinks);
            snapshot.latest = snapshot.latest.max(part.latest);
        }
        snapshot.parts.sort_unstable();
        snapshot.segments.sort_unstable();
        snapshot.segments.dedup();
        Some(snapshot)
    }
}

fn name(n: u64) -> String {
    format!("manifests/{}.json", number(n))
}

/// The numbers of all manifests.
///
/// # Errors
/// What the disk says.
pub fn numbers(disk: &impl Disk) -> Result<Vec<u64>, RecoveryError> {
    let names = disk.list("manifests")?;
    Ok(names
        .iter()
        .filter_map(|name| name.strip_suffix(".json")?.parse().ok())
        .collect())
}

/// A manifest.
///
/// # Errors
/// What the disk says; damage; another version.
pub fn read(disk: &impl Disk, n: u64) -> Result<Option<Manifest>, RecoveryError> {
    let manifest: Option<Manifest> = json(disk, &name(n))?;
    manifest
        .map(|manifest| check_format(manifest.format, &name(n)).map(|()| manifest))
        .transpose()
}

/// The newest manifest with a snapshot, and its number.
///
/// # Errors
/// What the disk says; damage; another version.
pub fn newest(disk: &impl Disk) -> Result<Option<(u64, Snapshot)>, RecoveryError> {
    for n in numbers(disk)?.into_iter().rev() {
        if let Some(Manifest {
            snapshot: Some(snapshot),
            ..
        }) = read(disk, n)?
        {
            return Ok(Some((n, snapshot)));
        }
    }
    Ok(None)
}

/// The manifests of an incarnation: it puts one after the other.
#[derive(Debug)]
pub struct Chain {
    incarnation: u64,
    next: u64,
}

impl Chain {
    /// Fences the chain against everybody before `incarnation`.
    ///
    /// # Errors
    /// What the disk says; a later start has been here.
    pub fn fence(disk: &impl Disk, incarnation: u64) -> Result<Chain, RecoveryError> {
        let next = numbers(disk)?.last().map_or(1, |n| n + 1);
        let mut chain = Chain { incarnation, next };
        chain.put_any(disk, None)?;
        Ok(chain)
    }

    /// Puts a snapshot's manifest; its number.
    ///
    /// # Errors
    /// [`RecoveryError::Superseded`] if the job has been started again; what the disk says.
    pub fn put(&mut self, disk: &impl Disk, snapshot: Snapshot) -> Result<u64, RecoveryError> {
        self.put_any(disk, Some(snapshot))
    }

    fn put_any(
        &mut self,
        disk: &impl Disk,
        snapshot: Option<Snapshot>,
    ) -> Result<u64, RecoveryError> {
        let manifest = Manifest {
            format: FORMAT,
            incarnation: self.incarnation,
            snapshot,
        };
        let bytes = serde_json::to_vec_pretty(&manifest).expect("a manifest is plain JSON");
        loop {
            let n = self.next;
            if disk.put_if_absent(&name(n), &bytes)? {
                // A number that was taken is free again once it has been swept. Claims stay: whoever
                // finds none later than its own has put the highest.
                claim::still_ours(disk, self.incarnation)?;
                self.next += 1;
                return Ok(n);
            }
            match read(disk, n)?.map(|other| other.incarnation) {
                Some(found) if found > self.incarnation => {
                    return Err(RecoveryError::Superseded {
                        found,
                        own: self.incarnation,
                    });
                }
                // An earlier start, in our way: it will find our claim.
                Some(_) => self.next += 1,
                None => claim::still_ours(disk, self.incarnation)?,
            }
        }
    }
}

/// Removes manifests and parts that nobody needs: all but the newest [`KEPT`] snapshots', and what
/// no manifest names. Parts of incarnations from `incarnation` on may be unnamed still, and stay.
///
/// # Errors
/// What the disk says.
pub fn sweep(disk: &impl Disk, incarnation: u64) -> Result<(), RecoveryError> {
    let mut kept = Vec::new();
    let mut oldest = u64::MAX;
    let numbers = numbers(disk)?;
    for n in numbers.iter().rev() {
        if let Some(Manifest {
            snapshot: Some(snapshot),
            ..
        }) = read(disk, *n)?
        {
            oldest = *n;
            kept.push(snapshot);
            if kept.len() == KEPT {
                break;
            }
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    for n in numbers.into_iter().filter(|n| *n < oldest) {
        disk.remove(&name(n))?;
    }
    let newest = kept[0].tick;
    for file in disk.list("snapshots")? {
        let file = format!("snapshots/{file}");
        let named = kept.iter().any(|snapshot| snapshot.parts.contains(&file));
        let [tick, by] = numbers_of(&file);
        let pending = by.is_some_and(|by| by >= incarnation) && tick.is_none_or(|t| t > newest);
        if !named && !pending {
            disk.remove(&file)?;
        }
    }
    Ok(())
}

/// The name of a worker's file.
#[must_use]
pub fn part_name(tick: Tick, incarnation: u64, worker: usize) -> String {
    format!(
        "snapshots/{tick:020}-{}-{worker:04}.part",
        number(incarnation)
    )
}

/// The tick and the incarnation in the name of a worker's file.
fn numbers_of(file: &str) -> [Option<u64>; 2] {
    let mut parts = file
        .trim_start_matches("snapshots/")
        .split('-')
        .map(|part| part.parse().ok());
    [parts.next().flatten(), parts.next().flatten()]
}
