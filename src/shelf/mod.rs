//! Shelves on disk: profiles of customers by group, in LSM trees of [fjall], for a job whose customers
//! are more than fit into memory and whose workers may be of another number at the next start.
//!
//! ```text
//! profiles/0 … 7/     a database for each group of customers, of one worker at a time
//! key                 length of the ID, the ID, the tick's complement: the last version comes first
//! value               the profile's bytes
//! ```
//!
//! It promises what [`Shelf`] asks: a version is durable before the manifest of a snapshot behind it
//! counts. What no start can read any more, and who was not seen for too long, is swept away by and
//! by, a few thousand entries with each snapshot. It is no place for open visits, which come and go
//! at another rate: those lie in [`store`](crate::store).
//!
//! [fjall]: https://docs.rs/fjall

mod sweep;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use thiserror::Error;
use visitflow_dataflows::profiles::{GROUPS, Shelf, group_of};
use visitflow_dataflows::visit::Tick;

use crate::run::Syncing;

/// Memory of a group for blocks that were read of late.
const CACHE: u64 = 8 << 20;
/// Memory of a group for what is not in a table yet.
const MEMTABLE: u64 = 4 << 20;
/// The least that fjall allows for its journal, which lies beside the tables.
const JOURNAL: u64 = 64 << 20;

/// What a shelf on disk meets.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum ShelfError {
    #[error(
        "{} is held by another process: is the job running already?",
        .0.display()
    )]
    Held(PathBuf),
    #[error("cannot {action} {}: {source}", path.display())]
    Storage {
        action: &'static str,
        path: PathBuf,
        source: fjall::Error,
    },
}

impl ShelfError {
    fn on(action: &'static str, path: &Path) -> impl FnOnce(fjall::Error) -> ShelfError {
        move |source| match source {
            fjall::Error::Locked => ShelfError::Held(path.to_owned()),
            source => ShelfError::Storage {
                action,
                path: path.to_owned(),
                source,
            },
        }
    }
}

/// What a shelf needs to know.
pub struct Settings {
    /// The folder of all groups.
    pub dir: PathBuf,
    /// Which worker it is, of how many.
    pub worker: (usize, usize),
    /// Who was not seen for longer, in ms, is swept away.
    pub retention: i64,
    /// The tick of the last snapshot that counts: nobody reads what was before it.
    pub durable: Rc<Cell<Tick>>,
    /// Takes, at a snapshot's tick, what makes all that was put durable.
    pub save: Box<dyn FnMut(Tick, Syncing)>,
    /// Is told which folder another process has, each time that it still has it, and waits a moment;
    /// whether to try again.
    pub wait: Box<dyn FnMut(&Path) -> bool>,
}

/// A worker's shelf on disk.
///
/// Measured once by `tests::a_million_customers`, of 885 bytes each, in a build of opt-level 1 on two
/// cores with a load of five: a look took 22 µs at half, 0.18 ms at 99 %, 4.2 ms at 99.9 %. All but 0.3
/// ms of that, and all but 0.8 ms of any look, was waiting for a core. A version was put in 26 µs; all of
/// it was opened again in 1.3 s.
pub struct OnDisk {
    settings: Settings,
    /// Those that are this worker's.
    groups: [Option<Group>; GROUPS],
}

/// The customers of a group. Clones are the same.
#[derive(Clone)]
struct Group {
    path: PathBuf,
    database: Database,
    profiles: Keyspace,
    /// The key at which sweeping goes on.
    swept: Arc<Mutex<Vec<u8>>>,
}

impl OnDisk {
    /// Opens a worker's groups, once no other process has them.
    ///
    /// # Errors
    /// What the disk says; another process has them, and it is not waited for.
    pub fn open(mut settings: Settings) -> Result<OnDisk, ShelfError> {
        let mut groups = [const { None }; GROUPS];
        let (index, peers) = settings.worker;
        for (n, group) in groups.iter_mut().enumerate() {
            if n % peers == index {
                let path = settings.dir.join(n.to_string());
                *group = Some(Group::open(path, &mut *settings.wait)?);
            }
        }
        Ok(OnDisk { settings, groups })
    }

    /// Removes all that is known of a customer, if it is this worker's.
    ///
    /// # Errors
    /// What the disk says.
    pub fn forget(&mut self, customer: &str) -> Result<(), ShelfError> {
        match &self.groups[group_of(customer)] {
            Some(group) => group.forget(customer),
            None => Ok(()),
        }
    }

    fn group(&self, customer: &str) -> &Group {
        let group = self.groups[group_of(customer)].as_ref();
        group.expect("a worker asks for its own customers")
    }
}

impl Group {
    fn open(path: PathBuf, wait: &mut dyn FnMut(&Path) -> bool) -> Result<Group, ShelfError> {
        let open = || {
            let database = Database::builder(&path)
                .cache_size(CACHE)
                .max_journaling_size(JOURNAL)
                .worker_threads(1)
                .open()?;
            let options = || KeyspaceCreateOptions::default().max_memtable_size(MEMTABLE);
            let profiles = database.keyspace("profiles", options)?;
            Ok((database, profiles))
        };
        let (database, profiles) = loop {
            match open() {
                Err(fjall::Error::Locked) if wait(&path) => {}
                opened => break opened.map_err(ShelfError::on("open", &path))?,
            }
        };
        Ok(Group {
            path,
            database,
            profiles,
            swept: Arc::default(),
        })
    }

    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, ShelfError> {
        let Some(last) = before.checked_sub(1) else {
            return Ok(None);
        };
        let mut versions = self.profiles.range(key(customer, last)..=key(customer, 0));
        let version = versions.next().map(|version| version.value()).transpose();
        let version = version.map_err(ShelfError::on("read", &self.path))?;
        Ok(version.map(|profile| profile.to_vec()))
    }

    fn forget(&self, customer: &str) -> Result<(), ShelfError> {
        let forget = || {
            let versions = key(customer, Tick::MAX)..=key(customer, 0);
            for version in self.profiles.range(versions) {
                self.profiles.remove(version.key()?)?;
            }
            Ok(())
        };
        forget().map_err(ShelfError::on("write to", &self.path))
    }

    fn sync(&self) -> Result<(), ShelfError> {
        let synced = self.database.persist(PersistMode::SyncAll);
        synced.map_err(ShelfError::on("sync", &self.path))
    }
}

impl Shelf for OnDisk {
    type Error = ShelfError;

    fn get(&self, customer: &str, before: Tick) -> Result<Option<Vec<u8>>, ShelfError> {
        self.group(customer).get(customer, before)
    }

    fn put(&mut self, tick: Tick, profiles: Vec<(Box<str>, Vec<u8>)>) -> Result<(), ShelfError> {
        for (customer, profile) in profiles {
            let group = self.group(&customer);
            let put = group.profiles.insert(key(&customer, tick), profile);
            put.map_err(ShelfError::on("write to", &group.path))?;
        }
        Ok(())
    }

    fn save(&mut self, at: Tick) {
        let groups: Vec<Group> = self.groups.iter().flatten().cloned().collect();
        let (durable, retention) = (self.settings.durable.get(), self.settings.retention);
        let syncing = move || {
            for group in &groups {
                group.sync()?;
                group.sweep(durable, retention, sweep::PORTION)?;
            }
            Ok(())
        };
        (self.settings.save)(at, Box::new(syncing));
    }

    fn end(&mut self) -> Result<(), ShelfError> {
        self.groups.iter().flatten().try_for_each(Group::sync)
    }
}

/// The key of a version. IDs are of 200 bytes at most, so their length is a byte.
fn key(customer: &str, tick: Tick) -> Vec<u8> {
    let mut key = Vec::with_capacity(9 + customer.len());
    key.push(customer.len() as u8);
    key.extend_from_slice(customer.as_bytes());
    key.extend_from_slice(&(!tick).to_be_bytes());
    key
}
