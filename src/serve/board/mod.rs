//! The board: what this process knows of each view, for those who read views over HTTP. The workers
//! write on it, readers read it as of one tick that is complete: the newest one, or an earlier one of
//! the history that is kept. It knows no dataflow and no HTTP.
//!
//! A writer never waits for a reader: what it applies is only laid down, behind a lock that nobody
//! holds longer than a move takes. Whoever reads puts it in its place first; if nobody reads,
//! [`Board::complete`] does. A reader that is slow costs nothing either: there are no queues, a
//! [`Subscription`] asks for what has changed since it asked last, and gets the sum of it, or the whole
//! view once the history does not reach back that far.
//!
//! A view takes about 150 bytes a row and the bytes of its key; its history at most four times what
//! the view itself takes, or [`LEAST_HISTORY`] changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;
use tokio::sync::watch;
use visitflow_dataflows::views::{Row, View};

/// How many changes of a view are kept in any case, if they are young enough.
pub const LEAST_HISTORY: usize = 65_536;

/// A change of a view: a row that comes (1) or goes (-1).
pub type Diff = (Row, i64);

/// Why a view cannot be read as of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotKept {
    /// No tick is complete.
    #[error("no tick is complete yet; the job has just started")]
    NothingYet,
    /// It is longer ago than what is kept.
    #[error("tick {asked} is not kept any more; expected one from {oldest} to {newest}")]
    Gone {
        /// What was asked for.
        asked: u64,
        /// The oldest that can be read.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
    /// It is still to come.
    #[error("tick {asked} is not complete yet; expected one from {oldest} to {newest}")]
    NotYet {
        /// What was asked for.
        asked: u64,
        /// The oldest that can be read.
        oldest: u64,
        /// The newest.
        newest: u64,
    },
}

/// A whole view as of a tick.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// The tick.
    pub tick: u64,
    /// Its rows, the greatest first value first, then by key.
    pub rows: Arc<[Arc<Row>]>,
}

/// How a view has changed from one tick to a later one.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    /// The later one.
    pub tick: u64,
    /// Rows that are there no more.
    pub gone: Vec<Arc<Row>>,
    /// Rows that were not there before.
    pub rows: Vec<Arc<Row>>,
}

/// What a subscriber is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Update {
    /// The whole view, in place of all that was said before.
    Snapshot(Snapshot),
    /// How it has changed since what was said last.
    Change(Arc<Change>),
}

/// What a process knows of each view.
#[derive(Debug)]
pub struct Board {
    places: Vec<Place>,
    history: u64,
    completed: Mutex<Option<u64>>,
}

/// A view's place on the board.
#[derive(Debug)]
struct Place {
    view: View,
    /// Behind the lock that a worker takes.
    laid: Mutex<Laid>,
    /// Behind the lock that readers take; a worker only tries to.
    hung: Mutex<Hung>,
    /// Wakes who has subscribed: a thousand of them cost a worker too much to be woken for nothing.
    changed: watch::Sender<()>,
}

/// What workers have laid down.
#[derive(Debug, Default)]
struct Laid {
    /// Of ticks that are not complete.
    pending: BTreeMap<u64, Vec<Diff>>,
    /// Of those that are, in order.
    ready: Vec<(u64, Vec<Diff>)>,
    completed: Option<u64>,
}

/// What readers read.
#[derive(Debug, Default)]
struct Hung {
    /// Every row as of `newest`, and how many times it is there; never 0.
    rows: BTreeMap<Ranked, i64>,
    /// Changes, by tick,
    log: VecDeque<(u64, Vec<Logged>)>,
    /// all that there were after this one: `oldest`, or earlier, if nothing had changed until then.
    reaches: u64,
    /// How many changes the log has.
    logged: usize,
    /// The ticks that can be read; `None` before the first.
    kept: Option<(u64, u64)>,
    /// All rows, once somebody has asked for them.
    snapshot: Option<Arc<[Arc<Row>]>>,
    /// What has changed since a tick, once somebody has asked for it.
    change: Option<(u64, Arc<Change>)>,
}

/// A change of a row, as it is kept: the row is the one that is shown.
type Logged = (Arc<Row>, i64);

/// A row in the order in which rows are shown.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ranked(Arc<Row>);

impl Ord for Ranked {
    fn cmp(&self, other: &Ranked) -> std::cmp::Ordering {
        let rank = |row: &Ranked| Reverse(row.0.1.0[0]);
        rank(self)
            .cmp(&rank(other))
            .then_with(|| self.0.cmp(&other.0))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Ranked) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Board {
    /// For these views, with a history of so many ms.
    pub fn new(views: Vec<View>, history_ms: u64) -> Board {
        let place = |view| Place {
            view,
            laid: Mutex::default(),
            hung: Mutex::default(),
            changed: watch::Sender::new(()),
        };
        Board {
            places: views.into_iter().map(place).collect(),
            history: history_ms,
            completed: Mutex::default(),
        }
    }

    /// The views, in the order of their numbers.
    pub fn views(&self) -> impl ExactSizeIterator<Item = &View> {
        self.places.iter().map(|place| &place.view)
    }

    /// The number of the view of this name.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.views().position(|view| view.name == name)
    }

    /// The newest tick that is complete.
    pub fn completed(&self) -> Option<u64> {
        *lock(&self.completed)
    }

    /// Lays down changes of a view at a tick, for readers to see once the tick is complete. Any of the
    /// process's workers may, in any order; what comes for a tick that is complete already counts at
    /// the next. A move, but for several batches of one tick.
    ///
    /// # Panics
    /// There is no such view.
    pub fn apply(&self, view: usize, tick: u64, changes: Vec<Diff>) {
        if changes.is_empty() {
            return;
        }
        let mut laid = lock(&self.places[view].laid);
        let tick = laid
            .completed
            .map_or(tick, |done| tick.max(done.saturating_add(1)));
        let at = laid.pending.entry(tick).or_default();
        if at.is_empty() {
            *at = changes;
        } else {
            at.extend(changes);
        }
    }

    /// Says that all changes up to this tick have been applied, of all views: only now are they seen.
    /// The end of all ticks, `u64::MAX`, stands for the last of which there are changes. Wakes who has
    /// subscribed to a view that has changed, or to any when the first tick is complete. Costs what the
    /// changes cost, if nobody has read them in the meantime.
    pub fn complete(&self, tick: u64) {
        let before = self.completed();
        let tick = match tick {
            u64::MAX => {
                let last = |place: &Place| lock(&place.laid).pending.keys().last().copied();
                let last = self.places.iter().filter_map(last).max();
                last.or(before).unwrap_or(0)
            }
            tick => tick,
        };
        if before.is_some_and(|before| before >= tick) {
            return;
        }
        let mut changed = Vec::new();
        for place in &self.places {
            let mut laid = lock(&place.laid);
            let later = laid.pending.split_off(&tick.saturating_add(1));
            let ready = std::mem::replace(&mut laid.pending, later);
            if before.is_none() || !ready.is_empty() {
                changed.push(&place.changed);
            }
            laid.ready.extend(ready);
            laid.completed = Some(tick);
        }
        *lock(&self.completed) = Some(tick);
        changed.iter().for_each(|changed| {
            changed.send_replace(());
        });
        for place in &self.places {
            // Who reads just now has put it in its place, or the next one will.
            if let Ok(mut hung) = place.hung.try_lock() {
                hung.fold(&place.laid, self.history);
            }
        }
    }

    /// What is there of a view, put in its place.
    fn read(&self, view: usize) -> MutexGuard<'_, Hung> {
        let place = &self.places[view];
        let mut hung = lock(&place.hung);
        hung.fold(&place.laid, self.history);
        hung
    }

    /// How many rows a view has.
    pub fn rows(&self, view: usize) -> usize {
        self.read(view).rows.len()
    }

    /// The oldest and the newest tick as of which a view can be read.
    pub fn kept(&self, view: usize) -> Option<(u64, u64)> {
        self.read(view).kept
    }

    /// A view as of the newest tick, or of the one that is asked for. Of the newest it is made once
    /// for all who ask.
    ///
    /// # Errors
    /// The tick is not kept, or not complete.
    pub fn snapshot(&self, view: usize, tick: Option<u64>) -> Result<Snapshot, NotKept> {
        self.read(view).snapshot(tick)
    }

    /// How a view has changed from this tick to the newest; `None` if it has not.
    ///
    /// # Errors
    /// The tick is not kept, or not complete.
    pub fn since(&self, view: usize, tick: u64) -> Result<(u64, Option<Arc<Change>>), NotKept> {
        self.read(view).since(tick)
    }

    /// Subscribes to a view; what comes first is the whole of it, or, with the tick of what was heard
    /// last by an earlier subscription, what has changed since, if that is kept.
    pub fn subscribe(self: &Arc<Board>, view: usize, last: Option<u64>) -> Subscription {
        Subscription {
            changed: self.places[view].changed.subscribe(),
            board: self.clone(),
            view,
            seen: last,
        }
    }
}

/// One who reads a view, and then what changes of it. Takes no memory while it waits.
#[derive(Debug)]
pub struct Subscription {
    board: Arc<Board>,
    view: usize,
    changed: watch::Receiver<()>,
    /// The tick of what was said last.
    seen: Option<u64>,
}

impl Subscription {
    /// What is to be said next, when there is something. Changes of several ticks come as one when they
    /// were not asked for in between. May be given up while it waits, and called again.
    pub async fn next(&mut self) -> Update {
        loop {
            self.changed.borrow_and_update();
            if let Some(update) = self.look() {
                return update;
            }
            if self.changed.changed().await.is_err() {
                // The board holds the other end, and this holds the board.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is to be said now, if there is something.
    pub fn look(&mut self) -> Option<Update> {
        if let Some(seen) = self.seen {
            match self.board.since(self.view, seen) {
                Ok((tick, change)) => {
                    self.seen = Some(tick);
                    return change.map(Update::Change);
                }
                Err(NotKept::NothingYet) => return None,
                Err(_) => (),
            }
        }
        let snapshot = self.board.snapshot(self.view, None).ok()?;
        self.seen = Some(snapshot.tick);
        Some(Update::Snapshot(snapshot))
    }
}

impl Hung {
    /// Puts in its place what has been laid down for ticks that are complete.
    fn fold(&mut self, laid: &Mutex<Laid>, history: u64) {
        let (ready, completed) = {
            let mut laid = lock(laid);
            (std::mem::take(&mut laid.ready), laid.completed)
        };
        let Some(newest) = completed else { return };
        if self.kept.is_some_and(|(_, known)| known == newest) {
            return;
        }
        self.change = None;
        // Before the first complete tick nobody could read, so there is no history of it.
        let first = self.kept.is_none();
        let oldest = self.kept.map_or(newest, |(oldest, _)| oldest);
        for (tick, diffs) in ready {
            let changes = self.put(diffs);
            if !changes.is_empty() && !first {
                self.logged += changes.len();
                self.log.push_back((tick, changes));
            }
        }
        if first {
            self.reaches = newest;
        }
        self.kept = Some((oldest, newest));
        self.forget(newest.saturating_sub(history));
    }

    /// Changes the rows; what has changed of each row in all.
    fn put(&mut self, diffs: Vec<Diff>) -> Vec<Logged> {
        let mut sums: BTreeMap<Row, i64> = BTreeMap::new();
        for (row, diff) in diffs {
            *sums.entry(row).or_default() += diff;
        }
        sums.retain(|_, diff| *diff != 0);
        let mut changes = Vec::with_capacity(sums.len());
        for (row, diff) in sums {
            let row = Ranked(Arc::new(row));
            let (row, count) = match self.rows.get_key_value(&row) {
                Some((known, count)) => (known.clone(), count + diff),
                None => (row, diff),
            };
            changes.push((row.0.clone(), diff));
            if count == 0 {
                self.rows.remove(&row);
            } else {
                self.rows.insert(row, count);
            }
        }
        if !changes.is_empty() {
            self.snapshot = None;
        }
        changes
    }

    /// Forgets the history before this tick, and what of it is too much.
    fn forget(&mut self, before: u64) {
        let Some((oldest, _)) = &mut self.kept else {
            return;
        };
        *oldest = before.max(*oldest);
        let most = LEAST_HISTORY.max(4 * self.rows.len());
        while let Some((tick, changes)) = self.log.front() {
            if *tick > *oldest && self.logged <= most {
                break;
            }
            *oldest = (*oldest).max(*tick);
            self.reaches = *tick;
            self.logged -= changes.len();
            self.log.pop_front();
        }
    }

    /// The newest tick, if the one that is asked for can be read.
    fn newest(&self, asked: Option<u64>) -> Result<u64, NotKept> {
        let (oldest, newest) = self.kept.ok_or(NotKept::NothingYet)?;
        match asked {
            Some(asked) if asked < oldest => Err(NotKept::Gone {
                asked,
                oldest,
                newest,
            }),
            Some(asked) if asked > newest => Err(NotKept::NotYet {
                asked,
                oldest,
                newest,
            }),
            _ => Ok(newest),
        }
    }

    fn snapshot(&mut self, tick: Option<u64>) -> Result<Snapshot, NotKept> {
        let newest = self.newest(tick)?;
        let tick = tick.unwrap_or(newest);
        let after = self.after(tick);
        if !after.is_empty() {
            let mut rows = self.rows.clone();
            for (row, diff) in after {
                *rows.entry(row).or_default() -= diff;
            }
            let rows = present(&rows);
            return Ok(Snapshot { tick, rows });
        }
        let rows = self.snapshot.get_or_insert_with(|| present(&self.rows));
        let rows = rows.clone();
        Ok(Snapshot { tick, rows })
    }

    fn since(&mut self, seen: u64) -> Result<(u64, Option<Arc<Change>>), NotKept> {
        // Whoever has heard the last change has heard all, however long ago that was.
        let oldest = self.kept.map_or(seen, |(oldest, _)| oldest);
        let heard = if seen >= self.reaches {
            seen.max(oldest)
        } else {
            seen
        };
        let tick = self.newest(Some(heard))?;
        if let Some((_, change)) = self.change.as_ref().filter(|(since, _)| *since == seen) {
            return Ok((tick, Some(change.clone())));
        }
        let (mut gone, mut rows) = (Vec::new(), Vec::new());
        for (row, diff) in self.after(seen) {
            let now = self.rows.get(&row).copied().unwrap_or(0);
            match (now - diff > 0, now > 0) {
                (true, false) => gone.push(row.0),
                (false, true) => rows.push(row.0),
                _ => (),
            }
        }
        if gone.is_empty() && rows.is_empty() {
            return Ok((tick, None));
        }
        let change = Arc::new(Change { tick, gone, rows });
        self.change = Some((seen, change.clone()));
        Ok((tick, Some(change)))
    }

    /// What has changed in all after a tick that is kept.
    fn after(&self, tick: u64) -> BTreeMap<Ranked, i64> {
        let mut sums = BTreeMap::new();
        let later = self.log.iter().rev().take_while(|(at, _)| *at > tick);
        for (row, diff) in later.flat_map(|(_, changes)| changes) {
            *sums.entry(Ranked(row.clone())).or_default() += diff;
        }
        sums.retain(|_, diff| *diff != 0);
        sums
    }
}

fn present(rows: &BTreeMap<Ranked, i64>) -> Arc<[Arc<Row>]> {
    let there = rows.iter().filter(|(_, count)| **count > 0);
    there.map(|(row, _)| row.0.clone()).collect()
}

/// Who has panicked with it has left it whole: each change is one statement of a map.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
