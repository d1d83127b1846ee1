//! A browser, as far as its visits are watched: what was said of them, so that it can be taken back, and
//! the one that grows.

use serde::{Deserialize, Serialize};

use super::contributions::Rows;
use super::crediting::{Customer, Place};
use super::growing::{Growing, Left, OfVisits};
use super::news::News;
use crate::complete::Key as BrowserKey;
use crate::fact::Agent;
use crate::near;
use crate::views::{Entering, Key, Present, Renumbered, Sums};
use crate::visit::{Position, Tick, Visit};

/// Of a visit that rests so many places are kept at most, or a fourth of its measurements, whichever is more.
const LEADING: usize = 256;
const LEADING_PART: usize = 4;

/// What was said of a browser's open visits.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Browser {
    pub id: Box<[u8]>,
    pub shard: u8,
    /// How many measurements it had when it was last told of, and since.
    pub known: u32,
    pub added: u32,
    /// Whether it is to be told of at the end of the period.
    pub touched: bool,
    /// Whether it may have other visits now than are known.
    #[serde(skip)]
    pub stale: bool,
    pub robot: bool,
    /// Whether something came once more and may say otherwise than what was told, however many it has.
    pub missed: bool,
    /// What was told of at the end of a step.
    pub visits: Vec<Told>,
    /// Those that it had later, when something was asked within a step.
    #[serde(skip)]
    pub since: Option<Vec<Begun>>,
    /// Its last visit, while all that has changed since it was told of is what this one was given.
    #[serde(skip)]
    pub growing: Option<Box<Growing>>,
    /// When it was told of last, if it was in this run.
    #[serde(skip)]
    pub told: Tick,
    /// In which rows of views that count browsers it is,
    pub present: Present,
    /// and in which more when it is told of.
    #[serde(skip)]
    pub entering: Vec<Entering>,
}

/// A browser without visits that is in rows of views that count browsers.
#[derive(Serialize, Deserialize)]
pub(super) struct Absent {
    pub shard: u8,
    pub present: Present,
}

impl Browser {
    /// One without visits yet, that was in these rows before.
    pub fn new(id: Box<[u8]>, shard: u8, before: Option<Absent>) -> Browser {
        Browser {
            id,
            shard,
            present: before.map(|own| own.present).unwrap_or_default(),
            ..Browser::default()
        }
    }

    /// Brings near what another measurement needs first.
    pub fn bring(&self) {
        near::bring_all(self);
        if let Some(growing) = &self.growing {
            growing.bring_needed();
        }
    }

    /// Brings near what is needed to tell of it.
    pub fn bring_told(&self) {
        near::bring_all(self);
        if let Some(growing) = &self.growing {
            near::bring_all(&**growing);
        }
        self.present.bring();
    }

    /// Brings near what its visit that grows needs of another measurement.
    pub fn bring_growing(&self) {
        near::bring_end(&self.entering);
        if let Some(told) = self.visits.last() {
            near::bring(&told.begun);
        }
        if let Some(growing) = &self.growing {
            growing.bring();
        }
    }

    /// It is to be told of; each is in the list once.
    pub fn touch(&mut self, key: BrowserKey, touched: &mut Vec<BrowserKey>) {
        if !std::mem::replace(&mut self.touched, true) {
            touched.push(key);
        }
    }

    /// What is known of its visits may not hold any more; each is in the list once.
    pub fn go_stale(&mut self, key: BrowserKey, stale: &mut Vec<BrowserKey>) {
        if !std::mem::replace(&mut self.stale, true) {
            stale.push(key);
        }
    }

    /// Whether an order of it was told of: then what an earlier visit leaves may have led to it.
    pub fn has_ordered(&self) -> bool {
        self.visits.iter().any(|told| !told.orders.is_empty())
    }

    /// It is in the rows that it enters from now on; see [`News::settle`].
    pub fn enter(&mut self, now: Tick, news: &mut News) {
        news.settle(now, &mut self.present, &mut self.entering);
    }

    /// What was said of its visits, of views that there are still, by the numbers that they have now.
    pub fn renumber(&mut self, renumbered: &Renumbered) {
        for told in &mut self.visits {
            let rows = decode(&told.rows).into_iter();
            let rows = rows.filter_map(|((view, key, browser, time), sums)| {
                Some(((renumbered.now(view)?, key, browser, time), sums))
            });
            told.rows = encode(&rows.collect());
        }
    }

    /// Writes down what was said of its visit that grows, for a snapshot.
    pub fn write_down(&mut self) {
        let growing = self.growing.as_mut();
        if let Some(growing) = growing.filter(|growing| !growing.is_written()) {
            let id = growing.visit().id;
            if let Some(told) = self.visits.iter_mut().find(|told| told.begun.visit == id) {
                told.rows = encode(&growing.said());
                told.left = growing.leaves();
                growing.note_written();
            }
        }
    }

    /// Follows its visit no more, of which all was told; keeps what was said of it, and where those of its
    /// measurements are that say the last, if those are to be found by these views and there is more to say.
    pub fn rest(&mut self, of: Option<&OfVisits>) {
        let growing = self.growing.as_mut().zip(of);
        let growing = growing.filter(|(growing, _)| growing.leaves_more());
        let leading =
            growing.and_then(|(growing, of)| Some((growing.visit(), growing.saying_last(of)?)));
        self.settle();
        let Some((visit, leading)) = leading else {
            return;
        };
        if leading.len() > LEADING.max(visit.count as usize / LEADING_PART) {
            return;
        }
        let mut visits = self.visits.iter_mut();
        if let Some(told) = visits.find(|told| told.begun.visit == visit.id) {
            told.leading = Some(leading);
        }
    }

    /// Follows its visit no more; keeps what was said of it.
    pub fn settle(&mut self) {
        self.write_down();
        self.growing = None;
    }

    /// Its open visits, if they follow from what was told of and from the one that grows; without those
    /// that were sealed since.
    pub fn followed(&self, is_sealed: impl Fn([u64; 2]) -> bool) -> Option<Vec<Begun>> {
        let growing = self.growing.as_ref()?;
        let visit = growing.visit();
        let mut begun: Vec<Begun> = self.visits.iter().map(|told| told.begun).collect();
        if begun.iter().all(|begun| begun.visit != visit.id) {
            begun.push(Told::of(visit, growing.agent()).begun);
        }
        begun.retain(|begun| !is_sealed(begun.visit));
        Some(begun)
    }

    /// Its open visits, as far as they are known.
    pub fn begun(&self) -> impl Iterator<Item = Begun> {
        let since = self.since.iter().flatten().copied();
        let told = self.since.is_none().then_some(&self.visits);
        since.chain(told.into_iter().flatten().map(|told| told.begun))
    }
}

/// An open visit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Begun {
    pub visit: [u64; 2],
    pub started: i64,
    pub agent: Agent,
}

/// What was said of an open visit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Told {
    pub begun: Begun,
    /// How many measurements it had.
    pub count: u32,
    /// What it adds to views, in the form of a snapshot: a tenth of the rows themselves. Of a visit that
    /// grows that one knows.
    pub rows: Box<[u8]>,
    /// What it leaves for later visits; of a visit that grows that one knows.
    pub left: Left,
    /// Its orders, and what was said of each.
    pub orders: Vec<ToldOrder>,
    /// Where those of its measurements are that say the last of it, if that is known in this run.
    #[serde(skip)]
    pub leading: Option<Box<[Position]>>,
}

/// What was said of an order of an open visit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(super) struct ToldOrder {
    pub place: Place,
    /// A hash of it all.
    pub said: u64,
    /// Whom it names.
    pub customer: Option<Customer>,
}

impl Told {
    /// Of a visit that grows.
    pub fn of(visit: Visit, agent: Agent) -> Told {
        let begun = Begun {
            visit: visit.id,
            started: visit.first.time,
            agent,
        };
        Told {
            begun,
            count: visit.count,
            ..Told::default()
        }
    }
}

/// Rows in the form of a snapshot.
pub(super) fn encode(rows: &Rows) -> Box<[u8]> {
    if rows.is_empty() {
        return Box::default();
    }
    let rows: Vec<_> = rows.iter().collect();
    postcard::to_allocvec(&rows)
        .expect("rows can be written to memory")
        .into()
}

/// The same, read.
pub(super) fn decode(bytes: &[u8]) -> Vec<((u16, Key, bool, i64), Sums)> {
    if bytes.is_empty() {
        return Vec::new();
    }
    postcard::from_bytes(bytes).expect("rows are as they were written, behind a checksum")
}
