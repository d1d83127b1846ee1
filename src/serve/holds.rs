//! Holds: who reads a version of the tables and wants the live rest of it, and until when. As long as a
//! hold lives, the dataflow keeps every visit that was sealed after the hold's tick, so that files and
//! live rest are together every visit once. A plain struct to which the time is given; the dataflow
//! knows of it by one number, [`Holds::least`].
//!
//! A hold is a lease: it ends at its time unless it is extended. One that has ended is [`Ended`] for
//! ever, also when what it held is still there by chance. Order is what makes this safe: a hold has ended for
//! its holder before the least held tick rises, so the dataflow lets go only of what nobody reads.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

/// How many holds there may be at a time.
pub const MOST: usize = 100;

/// A version of a table, and the tick up to which it has every visit that is sealed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version {
    /// Its number.
    pub version: u64,
    /// Its tick.
    pub tick: u64,
}

/// A hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What it is known by; cannot be guessed.
    pub id: u128,
    /// The version of the table `visits` that it holds.
    pub version: Version,
    /// Until when, wall time in ms.
    pub until: i64,
}

/// The hold has ended, or there never was one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("there is no such hold: it has ended, or never was; take a new one and read its version")]
pub struct Ended;

/// Why there is no new hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NoHold {
    /// There are no tables yet.
    #[error("no version of the tables is committed yet")]
    NoTables,
    /// There are too many.
    #[error("there are {MOST} holds already; end one, or wait until one ends")]
    TooMany,
}

/// The versions of the tables, and the holds on them.
#[derive(Debug)]
pub struct Holds {
    open: Mutex<Open>,
    least: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct Open {
    /// Of `measurements` and `visits`.
    newest: [Version; 2],
    holds: BTreeMap<u128, Hold>,
}

impl Default for Holds {
    fn default() -> Holds {
        Holds {
            open: Mutex::default(),
            least: Arc::new(AtomicU64::new(u64::MAX)),
        }
    }
}

impl Holds {
    /// The least tick that is held; `u64::MAX` for none. What was sealed after it must be kept.
    pub fn least(&self) -> Arc<AtomicU64> {
        self.least.clone()
    }

    /// Says which versions of the tables `measurements` and `visits` are committed. Both numbers of one
    /// are always seen together.
    pub fn commit(&self, newest: [Version; 2]) {
        self.open().newest = newest;
    }

    /// The newest versions of the tables `measurements` and `visits`.
    pub fn newest(&self) -> [Version; 2] {
        self.open().newest
    }

    /// Takes a hold on the newest version of `visits`, from now on for so long, in ms. Whoever asks must
    /// make sure that all that was sealed after it is still there, since it may have been let go of
    /// just before.
    ///
    /// # Errors
    /// There is no version, or there are too many holds.
    pub fn take(&self, now: i64, for_ms: i64) -> Result<Hold, NoHold> {
        let mut open = self.open();
        self.expire_in(&mut open, now);
        let version = open.newest[1];
        if version.tick == 0 {
            return Err(NoHold::NoTables);
        }
        if open.holds.len() >= MOST {
            return Err(NoHold::TooMany);
        }
        let hold = Hold {
            id: crate::disk::fresh(),
            version,
            until: now.saturating_add(for_ms),
        };
        open.holds.insert(hold.id, hold);
        self.publish(&open);
        Ok(hold)
    }

    /// A hold that lives.
    ///
    /// # Errors
    /// It does not.
    pub fn find(&self, id: u128, now: i64) -> Result<Hold, Ended> {
        let mut open = self.open();
        self.expire_in(&mut open, now);
        open.holds.get(&id).copied().ok_or(Ended)
    }

    /// Lets a hold live from now on for so long, in ms; never shorter than it would.
    ///
    /// # Errors
    /// It has ended.
    pub fn extend(&self, id: u128, now: i64, for_ms: i64) -> Result<Hold, Ended> {
        let mut open = self.open();
        self.expire_in(&mut open, now);
        let hold = open.holds.get_mut(&id).ok_or(Ended)?;
        hold.until = hold.until.max(now.saturating_add(for_ms));
        Ok(*hold)
    }

    /// Ends a hold.
    ///
    /// # Errors
    /// It has ended already.
    pub fn end(&self, id: u128, now: i64) -> Result<(), Ended> {
        let mut open = self.open();
        self.expire_in(&mut open, now);
        open.holds.remove(&id).ok_or(Ended)?;
        self.publish(&open);
        Ok(())
    }

    /// Ends the holds whose time is over. To be called now and then, so that nothing is kept for those
    /// who have gone.
    pub fn expire(&self, now: i64) {
        let mut open = self.open();
        self.expire_in(&mut open, now);
    }

    fn expire_in(&self, open: &mut Open, now: i64) {
        let before = open.holds.len();
        open.holds.retain(|_, hold| hold.until > now);
        if open.holds.len() < before {
            self.publish(open);
        }
    }

    fn publish(&self, open: &Open) {
        let least = open.holds.values().map(|hold| hold.version.tick).min();
        self.least
            .store(least.unwrap_or(u64::MAX), Ordering::SeqCst);
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn version(n: u64) -> Version {
        Version {
            version: n,
            tick: n * 100,
        }
    }

    fn at(n: u64) -> Holds {
        let holds = Holds::default();
        holds.commit([version(n), version(n)]);
        holds
    }

    #[test]
    fn a_hold_is_on_the_newest_version_and_lives_until_its_time() {
        let holds = at(3);
        let least = holds.least();
        assert_eq!(least.load(Ordering::SeqCst), u64::MAX);
        let hold = holds.take(1_000, 60_000).unwrap();
        assert_eq!((hold.version, hold.until), (version(3), 61_000));
        holds.commit([version(4), version(4)]);
        assert_eq!(least.load(Ordering::SeqCst), 300);
        assert_eq!(holds.find(hold.id, 60_999), Ok(hold));
        assert_eq!(holds.find(hold.id, 61_000), Err(Ended));
        assert_eq!(least.load(Ordering::SeqCst), u64::MAX);
        assert_eq!(
            holds.extend(hold.id, 1_001, 60_000),
            Err(Ended),
            "ended is for ever"
        );
    }

    #[test]
    fn there_is_no_hold_without_tables_and_no_more_than_so_many() {
        assert_eq!(Holds::default().take(0, 1), Err(NoHold::NoTables));
        let holds = at(1);
        for _ in 0..MOST {
            holds.take(0, 10).unwrap();
        }
        assert_eq!(holds.take(9, 10), Err(NoHold::TooMany));
        assert!(holds.take(10, 10).is_ok(), "the others have ended");
    }

    #[test]
    fn extending_never_shortens() {
        let holds = at(1);
        let hold = holds.take(0, 60_000).unwrap();
        assert_eq!(holds.extend(hold.id, 10, 1).unwrap().until, 60_000);
        assert_eq!(holds.extend(hold.id, 10, 60_000).unwrap().until, 60_010);
        holds.end(hold.id, 20).unwrap();
        assert_eq!(holds.end(hold.id, 20), Err(Ended));
    }

    #[derive(Clone, Debug)]
    enum Step {
        Commit,
        Wait(i64),
        Take(i64),
        Extend(usize, i64),
        End(usize),
        Find(usize),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            Just(Step::Commit),
            (1..30_i64).prop_map(Step::Wait),
            (1..60_i64).prop_map(Step::Take),
            (0..8_usize, 1..60_i64).prop_map(|(n, ms)| Step::Extend(n, ms)),
            (0..8_usize).prop_map(Step::End),
            (0..8_usize).prop_map(Step::Find),
        ];
        prop::collection::vec(step, 1..50)
    }

    proptest! {
        /// What the dataflow may let go of is never what a living hold needs, and what has ended
        /// stays so.
        #[test]
        fn who_holds_is_never_robbed_and_who_has_ended_is_always_told(steps in steps()) {
            let holds = at(1);
            let least = holds.least();
            let (mut now, mut newest) = (0, 1);
            // Each hold that was ever taken, with its end as far as one can tell from outside.
            let mut taken: Vec<(Hold, i64)> = Vec::new();
            for step in steps {
                match step {
                    Step::Commit => {
                        newest += 1;
                        holds.commit([version(newest), version(newest)]);
                    }
                    Step::Wait(ms) => {
                        now += ms;
                        holds.expire(now);
                    }
                    Step::Take(ms) => {
                        let hold = holds.take(now, ms).unwrap();
                        prop_assert_eq!(hold.version, version(newest));
                        taken.push((hold, now + ms));
                    }
                    Step::Extend(n, ms) => if let Some((hold, until)) = taken.get_mut(n) {
                        let lives = *until > now;
                        prop_assert_eq!(holds.extend(hold.id, now, ms).is_ok(), lives);
                        if lives {
                            *until = (*until).max(now + ms);
                        }
                    },
                    Step::End(n) => if let Some((hold, until)) = taken.get_mut(n) {
                        prop_assert_eq!(holds.end(hold.id, now).is_ok(), *until > now);
                        *until = now.min(*until);
                    },
                    Step::Find(n) => if let Some((hold, until)) = taken.get(n) {
                        match holds.find(hold.id, now) {
                            Ok(found) => {
                                prop_assert!(*until > now);
                                prop_assert_eq!(found.version, hold.version);
                            }
                            Err(Ended) => prop_assert!(*until <= now),
                        }
                    },
                }
                let held = taken.iter().filter(|(_, until)| *until > now).map(|(hold, _)| hold.version.tick);
                prop_assert_eq!(least.load(Ordering::SeqCst), held.min().unwrap_or(u64::MAX));
            }
        }
    }
}
