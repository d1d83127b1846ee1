//! The order of a start. Each step stands where it does because any other place loses or repeats
//! something, see each.

use std::collections::{BTreeMap, BTreeSet};

use visitflow_dataflows::visit::Tick;

use super::claim::{self, Claim, Committed, Found};
use super::journal::{self, Entry};
use super::manifest::{self, Chain, Snapshot};
use super::script::{self, Resume};
use super::{Disk, Journals, RecoveryError};

/// By sink, how far each of its partitions has committed.
pub type Progress = BTreeMap<String, Vec<Committed>>;

/// The sinks, as far as a start has to do with them.
pub trait Sinks {
    /// What goes wrong in them.
    type Error: From<RecoveryError>;
    /// Sees to it that nobody who started before can commit anything any more. `producers` are the
    /// names that earlier starts have used.
    fn fence(&mut self, claim: &Claim, producers: &BTreeSet<String>) -> Result<(), Self::Error>;
    /// How far they have committed.
    fn progress(&mut self) -> Result<Progress, Self::Error>;
}

/// Where a job goes on.
#[derive(Debug)]
pub struct Start {
    /// The claim.
    pub claim: Claim,
    /// The snapshot from which it goes on, if there is one.
    pub snapshot: Option<Snapshot>,
    /// By sink, how far it has committed.
    pub progress: Progress,
    /// Where each partition goes on that the journal knows.
    pub partitions: BTreeMap<u32, Resume>,
    /// Others begin no earlier than this.
    pub floor: Tick,
}

/// Starts a job: on its first process. The others [`join`] it.
///
/// # Errors
/// Each with what is wrong and what to do.
pub fn start<S: Sinks>(
    disk: &impl Disk,
    journals: &impl Journals,
    claim: Claim,
    sinks: &mut S,
    accept_other_rules: bool,
) -> Result<(Start, Chain), S::Error> {
    if !accept_other_rules {
        // Before it is claimed: a start that is given another topic by mistake must neither end the
        // one that runs nor leave a claim that the next would be held against.
        same_topic(&claim::all(disk)?, &claim)?;
    }
    // First, so that whoever still runs learns of it before it is harmed.
    let claim = claim::take(disk, claim)?;
    // Behind it, so that none is missed which was taken meanwhile.
    let mut before = claim::all(disk)?;
    before.retain(|other| other.incarnation < claim.incarnation);
    // Before anything is read: what is read must stay.
    let producers = before
        .iter()
        .flat_map(|claim| claim.producers.iter().cloned())
        .collect();
    sinks.fence(&claim, &producers)?;
    let chain = Chain::fence(disk, claim.incarnation)?;
    // After the sinks, else a tick could be committed whose entry no longer counts.
    let older = last_found(disk, &before)?;
    same_journal(&before, &claim, older.as_ref())?;
    let older = older.as_ref().map(|(n, found)| (*n, &found.journals));
    let cuts = journal::cut(journals, claim.incarnation, older)?;
    let progress = sinks.progress()?;
    let newest = manifest::newest(disk)?;
    let found = Found {
        format: claim::FORMAT,
        journals: cuts,
        manifest: newest.as_ref().map(|(n, _)| *n),
        progress,
    };
    let start = plan(disk, journals, claim, &found)?;
    if !accept_other_rules {
        same_rules(journals, &before, &start, &found)?;
    }
    // Whoever was overtaken must not run: the later one may have looked before this one has fenced.
    claim::still_ours(disk, start.claim.incarnation)?;
    claim::put_found(disk, start.claim.incarnation, &found)?;
    Ok((start, chain))
}

/// What was read is of a topic, not of a name: the offsets of one mean nothing in another.
fn same_topic(before: &[Claim], claim: &Claim) -> Result<(), RecoveryError> {
    let known = before.iter().rev().find(|other| other.topic.is_some());
    let known = known.and_then(|other| Some((other.incarnation, other.topic.as_ref()?)));
    match (known, &claim.topic) {
        (Some((incarnation, was)), Some(is)) if was != is => Err(RecoveryError::OtherTopic {
            incarnation,
            was: was.clone(),
            is: is.clone(),
        }),
        _ => Ok(()),
    }
}

/// Where a job goes on, for a process other than the first.
///
/// # Errors
/// What the disk says; damage.
pub fn join(
    disk: &impl Disk,
    journals: &impl Journals,
    incarnation: u64,
) -> Result<Start, RecoveryError> {
    let missing = |what: &str| RecoveryError::Damaged {
        file: format!("claims/{incarnation}"),
        at: 0,
        found: format!("no {what}"),
        expected: "the first process's; state.dir must be one folder for all processes".to_owned(),
    };
    let claim = claim::all(disk)?
        .into_iter()
        .find(|claim| claim.incarnation == incarnation)
        .ok_or_else(|| missing("claim"))?;
    let found = claim::found(disk, incarnation)?.ok_or_else(|| missing("start"))?;
    plan(disk, journals, claim, &found)
}

/// Where each partition stands is in the journal, so it must be where the last start had it.
fn same_journal(
    before: &[Claim],
    claim: &Claim,
    older: Option<&(u64, Found)>,
) -> Result<(), RecoveryError> {
    let last = older.and_then(|(n, _)| before.iter().find(|before| before.incarnation == *n));
    let words = |journal: &str| match journal {
        "" => "state.dir".to_owned(),
        journal => journal.to_owned(),
    };
    match last {
        Some(last) if last.journal != claim.journal => Err(RecoveryError::OtherJournal {
            incarnation: last.incarnation,
            was: words(&last.journal),
            is: words(&claim.journal),
        }),
        _ => Ok(()),
    }
}

/// The last start that came so far, and what it has found.
fn last_found(disk: &impl Disk, claims: &[Claim]) -> Result<Option<(u64, Found)>, RecoveryError> {
    for claim in claims.iter().rev() {
        if let Some(found) = claim::found(disk, claim.incarnation)? {
            return Ok(Some((claim.incarnation, found)));
        }
    }
    Ok(None)
}

/// Where to go on, and whether everything fits together.
fn plan(
    disk: &impl Disk,
    journals: &impl Journals,
    claim: Claim,
    found: &Found,
) -> Result<Start, RecoveryError> {
    let snapshot = match found.manifest {
        Some(n) => {
            let manifest = manifest::read(disk, n)?.and_then(|manifest| manifest.snapshot);
            // Only a later start's snapshot makes it needless.
            Some(manifest.ok_or_else(|| RecoveryError::Damaged {
                file: format!("manifests/{n}"),
                at: 0,
                found: "none, or none with a snapshot".to_owned(),
                expected:
                    "the one that this start has found; was the job started again?".to_owned(),
            })?)
        }
        None => None,
    };
    let at = snapshot.as_ref().map_or(0, |snapshot| snapshot.tick);
    for expected in snapshot.iter().flat_map(|snapshot| &snapshot.sinks) {
        let own = found.progress.get(&expected.sink);
        let own = own.and_then(|ticks| ticks.get(expected.partition as usize));
        let own = own.map_or(0, |own| own.tick);
        if own < expected.tick {
            return Err(RecoveryError::SinkBehind {
                sink: format!("{}, partition {},", expected.sink, expected.partition),
                found: own,
                expected: expected.tick,
                tick: at,
            });
        }
    }
    let entries = journal::read(journals, &found.journals)?;
    let partitions = script::resume(&entries, at)?;
    let ends = partitions.values().map(|resume| resume.floor);
    let journal = ends.min().unwrap_or(0);
    let mut last = 0;
    for (sink, partitions) in &found.progress {
        let own = partitions.iter().map(|own| own.tick).max().unwrap_or(0);
        if own > 0 && own >= journal {
            return Err(RecoveryError::SinkAhead {
                sink: sink.clone(),
                found: own,
                journal,
            });
        }
        last = last.max(own);
    }
    Ok(Start {
        claim,
        snapshot,
        progress: found.progress.clone(),
        partitions,
        floor: at.max(last + 1),
    })
}

/// What is not in the log must be as it was for whatever is replayed.
fn same_rules(
    place: &impl Journals,
    before: &[Claim],
    start: &Start,
    found: &Found,
) -> Result<(), RecoveryError> {
    let at = start.snapshot.as_ref().map_or(0, |snapshot| snapshot.tick);
    for claim in before {
        let own = format!("journal/{}-", super::number(claim.incarnation));
        let own = found
            .journals
            .iter()
            .filter(|(name, _)| name.starts_with(&own));
        let own = own.map(|(name, length)| (name.clone(), *length)).collect();
        let replays = |entry: &Entry| {
            let mut ticks = entry.partitions.iter().flat_map(|closed| &closed.ticks);
            ticks.any(|(tick, _)| *tick >= at)
        };
        if !journal::read(place, &own)?.iter().any(replays) {
            continue;
        }
        let names: BTreeSet<&String> = claim
            .inputs
            .keys()
            .chain(start.claim.inputs.keys())
            .collect();
        for name in names {
            let of = |claim: &Claim| claim.inputs.get(name).cloned().unwrap_or_default();
            if of(claim) != of(&start.claim) {
                return Err(RecoveryError::OtherRules {
                    what: name.clone(),
                    incarnation: claim.incarnation,
                    was: of(claim),
                    is: of(&start.claim),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recovery::Folder;

    /// A job without sinks.
    struct Nothing;

    impl Sinks for Nothing {
        type Error = RecoveryError;

        fn fence(&mut self, _: &Claim, _: &BTreeSet<String>) -> Result<(), RecoveryError> {
            Ok(())
        }

        fn progress(&mut self) -> Result<Progress, RecoveryError> {
            Ok(Progress::new())
        }
    }

    #[test]
    fn a_job_goes_on_with_the_topic_that_it_has_read_and_with_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Folder::open(dir.path()).unwrap();
        let begin = |topic: Option<&str>, accept| {
            let claim = Claim {
                format: claim::FORMAT,
                incarnation: 0,
                job: "job".to_owned(),
                program: String::new(),
                workers: 1,
                processes: 1,
                inputs: BTreeMap::new(),
                topic: topic.map(str::to_owned),
                journal: String::new(),
                producers: Vec::new(),
                at: 0,
            };
            start(&disk, &disk, claim, &mut Nothing, accept)
                .map(|(start, _)| start.claim.incarnation)
        };
        assert_eq!(begin(Some("one"), false).unwrap(), 1);
        // A log without IDs, or a start of before there were any, says nothing.
        assert_eq!(begin(None, false).unwrap(), 2);
        let error = begin(Some("other"), false).unwrap_err().to_string();
        let expected = "the source's topic is not the one that incarnation 1 read: its ID is other, expected one.";
        assert!(error.starts_with(expected), "{error}");
        // Nothing was claimed by it: whoever runs goes on.
        assert_eq!(claim::highest(&disk).unwrap(), 2);
        assert_eq!(begin(Some("one"), false).unwrap(), 3);
        assert_eq!(begin(Some("other"), true).unwrap(), 4);
        assert_eq!(begin(Some("other"), false).unwrap(), 5);
    }
}
