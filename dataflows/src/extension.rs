//! The place where a user's own fragments join a job: what they are given, and what they may say. For
//! crates outside of this one, which need to know nothing of the runtime: it writes their topics
//! with the job's own, exactly once, shows their views, and keeps their state in its snapshots.
//!
//! `docs/fragments.md` is the guide.

use std::rc::Rc;

use timely::dataflow::{Stream, StreamVec};

use crate::batch::Batch;
use crate::cut::Cut;
use crate::durable::{Durable, Keeps, Shards};
use crate::each_browser::{EachBrowser, Told, each_browser};
use crate::fact::Reading;
use crate::message::Message;
use crate::views::{Changed, Contribution, View, views};
use crate::visit::Tick;
use crate::visits::Lifecycle;

/// The version of this place: raised by every change of [`Extension`], [`Given`], [`Said`] or what they name
/// that a crate written for it must follow. 2: a [`Contribution`] says all that is added to its row.
/// 3: but for what is usual, which follows; views have whole steps.
pub const VERSION: u32 = 3;

/// Fragments of a user. The same on each worker; it is built once on every one of them.
pub trait Extension: Send + Sync + 'static {
    /// Its name, which is its own and stays: its state is kept under it.
    fn name(&self) -> &'static str;
    /// The version of what it says. A job whose extensions have changed goes on only after a clean
    /// stop.
    fn version(&self) -> u32;
    /// The topics that it writes, by names that the job has not: in Kafka the job's name stands in
    /// front.
    fn topics(&self) -> Vec<&'static str>;
    /// The views that it shows.
    fn views(&self) -> Vec<View>;
    /// Wires its fragments.
    fn build<'s>(&self, given: Given<'s>) -> Said<'s>;
}

/// What an extension is given. Streams are of one worker: they have the shards that are its own.
pub struct Given<'s> {
    /// Accepted measurements, with their visits.
    pub tagged: Stream<'s, u64, Batch>,
    /// Beginnings, revisions and ends of visits.
    pub lifecycle: StreamVec<'s, u64, Lifecycle>,
    /// All cuts: at those that want a snapshot, state is kept.
    pub cuts: StreamVec<'s, u64, Cut>,
    /// Where state is kept, under names of the extension's own.
    pub keeps: Rc<dyn Keeps>,
    /// Reads facts of measurements.
    pub reading: Reading,
    /// By which shards are dealt to workers.
    pub partitions: u32,
}

/// What an extension says: a stream for each of its topics, and for each of its views, in the order in
/// which it has named them.
#[derive(Default)]
pub struct Said<'s> {
    /// Messages. Those of a tick must be said before the frontier has passed it.
    pub topics: Vec<StreamVec<'s, u64, Message>>,
    /// How the rows of its views change; `view` counts them from 0.
    pub views: Option<StreamVec<'s, u64, Changed>>,
}

impl<'s> Given<'s> {
    /// Follows each browser with a fragment, whose state is kept under this name.
    pub fn each_browser<E: EachBrowser>(
        &self,
        name: &str,
        fragment: E,
    ) -> StreamVec<'s, u64, Told<E::Said>> {
        each_browser(
            self.tagged.clone(),
            self.lifecycle.clone(),
            self.cuts.clone(),
            self.reading.again(),
            Durable::open(name, &self.keeps),
            fragment,
        )
    }

    /// Sums what is added to views over their windows, which are kept under this name.
    pub fn rows(
        &self,
        name: &str,
        of: Vec<View>,
        added: StreamVec<'s, u64, Contribution>,
    ) -> StreamVec<'s, u64, Changed> {
        let durable = Durable::open(name, &self.keeps);
        views(
            of.into(),
            added,
            self.cuts.clone(),
            self.partitions,
            durable,
        )
    }
}

/// Keeps things under names within an extension's own, so that two never meet.
pub struct Within {
    name: String,
    keeps: Rc<dyn Keeps>,
}

impl Within {
    /// Within the name of an extension.
    pub fn new(name: &str, keeps: Rc<dyn Keeps>) -> Within {
        let name = name.to_owned();
        Within { name, keeps }
    }

    fn name_of(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }
}

impl Keeps for Within {
    fn open(&self, name: &str) -> Shards {
        self.keeps.open(&self.name_of(name))
    }

    fn save(&self, name: &str, at: Tick, shards: Shards) {
        self.keeps.save(&self.name_of(name), at, shards);
    }
}
