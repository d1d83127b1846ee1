//! Profiles of customers in a running job: the shelf of each worker, on disk if the job keeps state
//! and in memory otherwise, and what is asked of it.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Filter;
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::profiles::{self, InMemory, KeepingError, Kept, Named, Part};
use visitflow_dataflows::stories::Question;
use visitflow_dataflows::visit::Tick;

use super::snapshots::Gathering;
use super::{Failure, RunError};
use crate::job::Job;
use crate::shelf::{OnDisk, Settings};

/// So many customers are known without a state, over all workers: 50 to 200 MB.
const IN_MEMORY: usize = 100_000;

/// Until it is looked again whether another process has a shelf.
const STILL_HELD: Duration = Duration::from_millis(50);

/// A worker's shelf.
pub enum Profiles {
    /// Of a job with state.
    OnDisk(OnDisk),
    /// Of one without.
    InMemory(InMemory),
}

/// The customers of whom a job keeps nothing, by the file that it names: one on a line.
///
/// # Errors
/// It cannot be read.
pub fn forgotten(job: &Job) -> Result<BTreeSet<Box<str>>, RunError> {
    let Some(path) = job
        .profiles
        .forgotten
        .as_ref()
        .filter(|_| job.profiles.enabled)
    else {
        return Ok(BTreeSet::new());
    };
    let text = std::fs::read_to_string(path).map_err(RunError::io("read", path))?;
    let ids = text.lines().map(|line| line.trim_end_matches('\r'));
    Ok(ids.filter(|id| !id.is_empty()).map(Box::from).collect())
}

/// Opens a worker's shelf, for a job that keeps profiles, and removes what is known of those who are
/// to be forgotten; `saved` is the tick of the last snapshot that counts. A process that this start has
/// replaced is waited for until it has ended, unless it is not `wanted` any more.
///
/// # Errors
/// What the disk says.
pub fn open(
    job: &Job,
    gathering: &Gathering,
    saved: Option<&Rc<Cell<Tick>>>,
    forgotten: &BTreeSet<Box<str>>,
    (index, peers): (usize, usize),
    wanted: impl Fn() -> bool + 'static,
) -> Result<Option<Profiles>, RunError> {
    if !job.profiles.enabled {
        return Ok(None);
    }
    let (Some(dir), Some(saved)) = (&job.state.dir, saved) else {
        return Ok(Some(Profiles::InMemory(InMemory::of(IN_MEMORY))));
    };
    gathering.expect_shelf();
    let gathering = gathering.clone();
    let mut shelf = OnDisk::open(Settings {
        dir: dir.join("profiles"),
        worker: (index, peers),
        retention: job.profiles.retention as i64,
        durable: saved.clone(),
        save: Box::new(move |at, syncing| gathering.shelf(at, syncing)),
        wait: Box::new({
            let mut told = false;
            move |path| {
                if !std::mem::replace(&mut told, true) {
                    let path = path.display();
                    eprintln!(
                        "waiting for {path}: a process that this start has replaced must end first"
                    );
                }
                std::thread::sleep(STILL_HELD);
                wanted()
            }
        }),
    })?;
    for customer in forgotten {
        // Those of others are theirs to forget.
        shelf.forget(customer)?;
    }
    Ok(Some(Profiles::OnDisk(shelf)))
}

impl Profiles {
    /// Keeps profiles of what sealed visits add to them, but for those who are to be forgotten; loads
    /// those of others who are named, and answers what is asked.
    pub fn kept<'s>(
        self,
        (parts, named): (StreamVec<'s, u64, Part>, StreamVec<'s, u64, Named>),
        questions: StreamVec<'s, u64, Question>,
        cuts: StreamVec<'s, u64, Cut>,
        (retention, forgotten): (u64, BTreeSet<Box<str>>),
        failure: Failure,
    ) -> Kept<'s> {
        let retention = retention as i64;
        let forgotten = Rc::new(forgotten);
        let of = forgotten.clone();
        let parts = parts.filter(move |part| !of.contains(&part.customer));
        let named = named.filter(move |named| !forgotten.contains(&named.customer));
        match self {
            Profiles::OnDisk(shelf) => {
                let failed = move |error| {
                    failure.set(match error {
                        KeepingError::Shelf(error) => RunError::Shelf(error),
                        KeepingError::Profile(error) => RunError::Profile(error),
                    });
                };
                profiles::profiles(parts, named, questions, cuts, retention, shelf, failed)
            }
            Profiles::InMemory(shelf) => {
                let failed = move |error| match error {
                    KeepingError::Shelf(never) => match never {},
                    KeepingError::Profile(error) => failure.set(error),
                };
                profiles::profiles(parts, named, questions, cuts, retention, shelf, failed)
            }
        }
    }
}
