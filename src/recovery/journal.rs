//! The journal: what lies in each step that a source has closed, so that it can be replayed record
//! by record at the same ticks.
//!
//! A process appends the entries of its workers to a file of its own and syncs them, many at a time
//! if they come faster than the disk. An entry counts once it is durable; a torn end is none, a torn
//! middle an error. Files begin with a *base* of every partition, an entry without records, so that
//! any file together with those after it tells where each partition stands.
//!
//! | bytes | file header |
//! | --- | --- |
//! | 0..8 | `visitjnl` |
//! | 8..12 | the format, 1, little-endian |
//!
//! Then entries: `J` `N` `L` C5, length and CRC-32 of the body (u32, little-endian), the body: an
//! [`Entry`] as postcard writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use visitflow_dataflows::clock::ClockState;
use visitflow_dataflows::visit::Tick;

use super::{Append, Journals, RecoveryError, number};

const MAGIC: &[u8; 8] = b"visitjnl";
const FORMAT: u32 = 1;
const FILE_HEADER: usize = 12;
const MARK: [u8; 4] = *b"JNL\xc5";
const ENTRY_HEADER: usize = 12;
/// A file is closed behind this many bytes.
const FILE_BYTES: u64 = 64 << 20;

/// What a worker's source has closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The worker.
    pub worker: u32,
    /// All ticks before it are closed; `u64::MAX` at the end of input.
    pub until: Tick,
    /// What lies in the step, by partition.
    pub partitions: Vec<Closed>,
}

/// A partition's part of a step.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Closed {
    /// Which.
    pub partition: u32,
    /// The offset of the record after the last of the step.
    pub next: u64,
    /// How many records were read at which tick, in order.
    pub ticks: Vec<(Tick, u32)>,
    /// A hash of their offsets and lengths; see [`hash`].
    pub hash: u64,
    /// Its clock behind them.
    pub clock: ClockState,
    /// Whether nothing more will ever be read from it.
    pub closed: bool,
    /// Fingerprints of schemas that were found to be known for the first time, and the offset of the
    /// record which named them. In a base, all that are known.
    pub schemas: Vec<(u64, u64)>,
}

impl Entry {
    /// The tick behind all that it says. Records may lie at `until` already, though the tick goes on
    /// in the next entry.
    #[must_use]
    pub fn behind(&self) -> Tick {
        let ticks = self.partitions.iter().filter_map(|p| p.ticks.last());
        let last = ticks.map(|(tick, _)| tick + 1).max().unwrap_or(0);
        self.until.max(last)
    }
}

/// Goes on with a hash over what was read: records are told apart by offset and length, which costs
/// no look at their bytes.
#[inline]
#[must_use]
pub fn hash(before: u64, offset: u64, length: usize) -> u64 {
    let mixed = before ^ offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (length as u64);
    (mixed ^ (mixed >> 29))
        .wrapping_mul(0xbf58_476d_1ce4_e5b9)
        .rotate_left(31)
}

/// The name of a process's file.
#[must_use]
pub fn file_name(incarnation: u64, process: usize, n: u64) -> String {
    format!(
        "journal/{}-{process:04}-{}.journal",
        number(incarnation),
        number(n)
    )
}

/// The incarnation that a file's name says.
pub(super) fn incarnation_of(name: &str) -> Option<u64> {
    name.rsplit('/').next()?.split('-').next()?.parse().ok()
}

/// A process's journal.
pub struct Journal<J: Journals> {
    place: J,
    incarnation: u64,
    process: usize,
    number: u64,
    file: J::File,
    bytes: u64,
    /// No tick of the open file lies at or behind this.
    until: Tick,
    /// Closed files that are still needed, with the same of each.
    older: Vec<(String, Tick)>,
    /// By worker and partition: where each stands, and up to where it is closed.
    bases: BTreeMap<(u32, u32), (Tick, Closed)>,
}

impl<J: Journals> Journal<J> {
    /// Begins the journal of a process with where its workers' partitions stand, durably.
    ///
    /// # Errors
    /// What the disk says.
    pub fn begin(
        place: J,
        incarnation: u64,
        process: usize,
        bases: Vec<Entry>,
    ) -> Result<Journal<J>, RecoveryError> {
        let name = file_name(incarnation, process, 0);
        let mut journal = Journal {
            file: place.begin(&name)?,
            place,
            incarnation,
            process,
            number: 0,
            bytes: 0,
            until: 0,
            older: Vec::new(),
            bases: BTreeMap::new(),
        };
        for base in &bases {
            journal.keep(base);
        }
        journal.write_bases()?;
        Ok(journal)
    }

    /// Appends an entry. It counts once [`sync`](Journal::sync) has returned.
    ///
    /// # Errors
    /// What the disk says; the journal must not be used any more then.
    pub fn append(&mut self, entry: &Entry) -> Result<(), RecoveryError> {
        self.keep(entry);
        self.until = self.until.max(entry.behind());
        let bytes = frame(entry);
        self.bytes += bytes.len() as u64;
        self.file.append(&bytes)
    }

    /// Makes what was appended durable.
    ///
    /// # Errors
    /// What the disk says; the journal must not be used any more then.
    pub fn sync(&mut self) -> Result<(), RecoveryError> {
        self.file.sync()?;
        if self.bytes >= FILE_BYTES {
            self.roll()?;
        }
        Ok(())
    }

    /// Forgets what the snapshot of tick `at`, which is durable, makes needless: this process's
    /// files before it, and with `all` those of earlier incarnations.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget(&mut self, at: Tick, all: bool) -> Result<(), RecoveryError> {
        if self.until > 0 {
            self.roll()?;
        }
        let (gone, kept) = std::mem::take(&mut self.older)
            .into_iter()
            .partition(|(_, until)| *until <= at);
        self.older = kept;
        let gone: Vec<(String, Tick)> = gone;
        for (name, _) in gone {
            self.place.forget(&name)?;
        }
        if all {
            for name in self.place.names()? {
                if incarnation_of(&name).is_some_and(|n| n < self.incarnation) {
                    self.place.forget(&name)?;
                }
            }
        }
        Ok(())
    }

    fn roll(&mut self) -> Result<(), RecoveryError> {
        // What the next file's base repeats must not be lost from this one.
        self.file.sync()?;
        let name = file_name(self.incarnation, self.process, self.number);
        let next = self
            .place
            .begin(&file_name(self.incarnation, self.process, self.number + 1))?;
        self.number += 1;
        self.file = next;
        self.older
            .push((name, std::mem::replace(&mut self.until, 0)));
        self.bytes = 0;
        self.write_bases()
    }

    fn write_bases(&mut self) -> Result<(), RecoveryError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        // One for each partition: those that still follow their scripts are closed up to another tick.
        for ((worker, _), (until, closed)) in &self.bases {
            bytes.extend_from_slice(&frame(&Entry {
                worker: *worker,
                until: *until,
                partitions: vec![closed.clone()],
            }));
        }
        self.file.append(&bytes)?;
        self.file.sync()
    }

    /// Remembers where an entry's partitions stand behind it.
    fn keep(&mut self, entry: &Entry) {
        for closed in &entry.partitions {
            let key = (entry.worker, closed.partition);
            let (until, base) = self.bases.entry(key).or_default();
            *until = entry.until;
            let mut schemas = std::mem::take(&mut base.schemas);
            schemas.extend_from_slice(&closed.schemas);
            *base = Closed {
                ticks: Vec::new(),
                hash: 0,
                schemas,
                ..closed.clone()
            };
        }
    }
}

fn frame(entry: &Entry) -> Vec<u8> {
    let body = postcard::to_stdvec(entry).expect("an entry is plain numbers");
    let mut bytes = Vec::with_capacity(ENTRY_HEADER + body.len());
    bytes.extend_from_slice(&MARK);
    bytes.extend_from_slice(&(body.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    bytes.extend_from_slice(&body);
    bytes
}

/// The entry at the beginning of `bytes` and its length; `None` if there is no whole one.
fn unframe(bytes: &[u8]) -> Option<(Entry, usize)> {
    let header = bytes.get(..ENTRY_HEADER)?;
    let word = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    if header[..4] != MARK {
        return None;
    }
    let body = bytes.get(ENTRY_HEADER..ENTRY_HEADER.checked_add(word(4) as usize)?)?;
    if crc32fast::hash(body) != word(8) {
        return None;
    }
    let entry = postcard::from_bytes(body).ok()?;
    Some((entry, ENTRY_HEADER + body.len()))
}

/// What lies in a journal file behind its header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole entry, which begins at this byte.
    Entry(u64, Entry),
    /// Bytes from one to another that are no whole entry: at the end of the file they are torn, before
    /// it damaged.
    Broken(u64, u64),
}

/// What lies in a file, whole or not.
///
/// # Errors
/// Another format.
pub fn pieces(name: &str, bytes: &[u8]) -> Result<Vec<Piece>, RecoveryError> {
    if bytes.len() < FILE_HEADER {
        let broken = Piece::Broken(0, bytes.len() as u64);
        return Ok(Vec::from_iter((!bytes.is_empty()).then_some(broken)));
    }
    let format = u32::from_le_bytes(bytes[8..12].try_into().expect("four bytes"));
    if bytes[..8] != MAGIC[..] || format != FORMAT {
        return Err(RecoveryError::Format {
            file: name.to_owned(),
            found: if bytes[..8] == MAGIC[..] {
                format.to_string()
            } else {
                "none".to_owned()
            },
            expected: FORMAT.to_string(),
        });
    }
    let mut pieces = Vec::new();
    let mut at = FILE_HEADER;
    while at < bytes.len() {
        match unframe(&bytes[at..]) {
            Some((entry, length)) => {
                pieces.push(Piece::Entry(at as u64, entry));
                at += length;
            }
            None => {
                let later = (at + 1..bytes.len()).find(|at| unframe(&bytes[*at..]).is_some());
                let end = later.unwrap_or(bytes.len());
                pieces.push(Piece::Broken(at as u64, end as u64));
                at = end;
            }
        }
    }
    Ok(pieces)
}

/// The entries of a file, of which the first `length` bytes count.
///
/// # Errors
/// Another format; a torn middle.
pub fn entries(name: &str, bytes: &[u8], length: u64) -> Result<Vec<Entry>, RecoveryError> {
    let bytes = &bytes[..bytes
        .len()
        .min(usize::try_from(length).unwrap_or(usize::MAX))];
    let mut entries = Vec::new();
    for piece in pieces(name, bytes)? {
        match piece {
            Piece::Entry(_, entry) => entries.push(entry),
            // Torn: nothing whole comes behind it.
            Piece::Broken(_, end) if end == bytes.len() as u64 => {}
            Piece::Broken(at, later) => {
                return Err(RecoveryError::Damaged {
                    file: name.to_owned(),
                    at,
                    found: format!("no whole entry, and one at byte {later}"),
                    expected: "whole entries up to the end".to_owned(),
                });
            }
        }
    }
    Ok(entries)
}

/// Where the journal files of earlier incarnations end: what lies behind was written by somebody who
/// did not know that it had been replaced.
pub type Cuts = BTreeMap<String, u64>;

/// Notes where all journal files of incarnations before `incarnation` end now, durably. What `older`
/// has noted, the last of these incarnations that has come so far, stands: of the incarnations
/// before it a file that it does not name was begun by somebody who had been replaced.
///
/// # Errors
/// What the disk says.
pub fn cut(
    place: &impl Journals,
    incarnation: u64,
    older: Option<(u64, &Cuts)>,
) -> Result<Cuts, RecoveryError> {
    let mut cuts = Cuts::new();
    for name in place.names()? {
        let Some(by) = incarnation_of(&name).filter(|n| *n < incarnation) else {
            continue;
        };
        let noted = older.filter(|(older, _)| by < *older);
        let length = match noted {
            Some((_, cuts)) => cuts.get(&name).copied(),
            None => {
                let length = place.bytes(&name)?.map(|bytes| bytes.len() as u64);
                // Whoever wrote it may have died before it did so; what counts from now on must stay.
                place.harden(&name)?;
                length
            }
        };
        if let Some(length) = length {
            cuts.insert(name, length);
        }
    }
    Ok(cuts)
}

/// All entries that count, in order.
///
/// # Errors
/// What the disk says; damage. A file that is gone since the cut: whoever was replaced has begun
/// another one, which does not count, and removed this one.
pub fn read(place: &impl Journals, cuts: &Cuts) -> Result<Vec<Entry>, RecoveryError> {
    let mut all = Vec::new();
    for (name, length) in cuts {
        let bytes = place.bytes(name)?.ok_or_else(|| RecoveryError::Damaged {
            file: name.clone(),
            at: 0,
            found: "it is gone since this start has looked".to_owned(),
            expected: "nobody to remove it; has whoever ran before ended? Start again".to_owned(),
        })?;
        all.extend(entries(name, &bytes, *length)?);
    }
    Ok(all)
}

/// The fingerprints that a base names.
#[must_use]
pub fn known(schemas: &[(u64, u64)]) -> Arc<BTreeSet<u64>> {
    Arc::new(
        schemas
            .iter()
            .map(|(fingerprint, _)| *fingerprint)
            .collect(),
    )
}
