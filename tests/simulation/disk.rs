//! The simulated disk. What is put is durable, what is appended only once it is synced: a power cut
//! takes the rest wholly, partly, or leaves zeros in its place, and may bring back what was removed
//! last. The death of a process takes nothing.
//!
//! In front of each call of a start others may run, and the start itself may die.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::rc::Rc;

use visitflow::recovery::{Append, Disk, Journals, RecoveryError};

use crate::chance::Chance;
use crate::schedule;
use crate::world::World;

/// A file.
#[derive(Default)]
pub struct Content {
    data: Vec<u8>,
    synced: usize,
}

type Shared = Rc<RefCell<Content>>;

/// All files by name.
#[derive(Default)]
pub struct Files {
    files: BTreeMap<String, Shared>,
    /// Removed, and the folder not synced since.
    removed: Vec<(String, Shared)>,
    /// Of the next append only so much is written, by remainder: its process dies in it.
    pub tear: Option<usize>,
}

impl Files {
    /// The names in a folder, which ends in `/`.
    pub fn names(&self, folder: &'static str) -> impl Iterator<Item = &str> {
        let names = self.files.keys();
        names.filter_map(move |name| name.strip_prefix(folder))
    }

    /// Cuts the power.
    pub fn cut_power(&mut self, chance: &mut Chance) {
        for (name, content) in self.removed.drain(..).rev() {
            if chance.one_in(2) {
                break;
            }
            self.files.entry(name).or_insert(content);
        }
        for content in self.files.values() {
            let mut content = content.borrow_mut();
            let unsynced = content.data.len() - content.synced;
            if unsynced > 0 {
                let kept = chance.below(unsynced + 1);
                let length = content.synced + kept;
                content.data.truncate(length);
                if chance.one_in(3) {
                    let zeros = chance.below(unsynced - kept + 1);
                    content.data.resize(length + zeros, 0);
                }
                content.synced = content.data.len();
            }
        }
    }
}

/// The disk, as one job sees it.
#[derive(Clone)]
pub struct SimDisk {
    world: Rc<World>,
    /// How often power had been cut when the job's start began.
    power_cuts: u64,
    /// Whether that is under way: others may run then, and it may die.
    starting: Rc<Cell<bool>>,
}

/// A file that is appended to.
pub struct SimFile {
    world: Rc<World>,
    content: Shared,
}

impl SimDisk {
    /// For a start.
    pub fn starting(world: &Rc<World>) -> SimDisk {
        SimDisk {
            world: world.clone(),
            power_cuts: world.power_cuts(),
            starting: Rc::new(Cell::new(true)),
        }
    }

    /// The start is over.
    pub fn started(&self) {
        self.starting.set(false);
    }

    /// Lets others run while this is a start's disk, which may die by it.
    pub fn interrupt(&self) -> Result<(), RecoveryError> {
        if !self.starting.get() {
            return Ok(());
        }
        let died = schedule::interrupt(&self.world);
        if died || self.world.power_cuts() != self.power_cuts {
            return Err(RecoveryError::Io {
                action: "live on",
                path: PathBuf::new(),
                source: std::io::ErrorKind::Interrupted.into(),
            });
        }
        Ok(())
    }
}

/// Whether an error is a death that was meant.
pub fn is_death(error: &RecoveryError) -> bool {
    matches!(error, RecoveryError::Io { source, .. } if source.kind() == std::io::ErrorKind::Interrupted)
}

impl Disk for SimDisk {
    fn list(&self, folder: &str) -> Result<Vec<String>, RecoveryError> {
        self.interrupt()?;
        let files = self.world.files.borrow();
        let folder = format!("{folder}/");
        let names = files.files.keys();
        let names = names.filter_map(|name| name.strip_prefix(&folder));
        Ok(names.map(str::to_owned).collect())
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        self.interrupt()?;
        let files = self.world.files.borrow();
        let content = files.files.get(name);
        Ok(content.map(|content| content.borrow().data.clone()))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<bool, RecoveryError> {
        self.interrupt()?;
        let mut files = self.world.files.borrow_mut();
        if files.files.contains_key(name) {
            return Ok(false);
        }
        let content = Content {
            data: bytes.to_vec(),
            synced: bytes.len(),
        };
        files.removed.clear();
        files
            .files
            .insert(name.to_owned(), Rc::new(RefCell::new(content)));
        Ok(true)
    }

    fn remove(&self, name: &str) -> Result<(), RecoveryError> {
        self.interrupt()?;
        let mut files = self.world.files.borrow_mut();
        if let Some(content) = files.files.remove(name) {
            files.removed.push((name.to_owned(), content));
        }
        Ok(())
    }
}

impl Journals for SimDisk {
    type File = SimFile;

    fn names(&self) -> Result<Vec<String>, RecoveryError> {
        let names = self.list("journal")?;
        Ok(names.iter().map(|name| format!("journal/{name}")).collect())
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        self.read(name)
    }

    fn begin(&self, name: &str) -> Result<SimFile, RecoveryError> {
        self.interrupt()?;
        let mut files = self.world.files.borrow_mut();
        let content = Shared::default();
        files.removed.clear();
        let before = files.files.insert(name.to_owned(), content.clone());
        assert!(before.is_none(), "{name} is created twice");
        Ok(SimFile {
            world: self.world.clone(),
            content,
        })
    }

    fn harden(&self, name: &str) -> Result<(), RecoveryError> {
        self.interrupt()?;
        if self.world.mistakes.cut_not_durable {
            return Ok(());
        }
        if let Some(content) = self.world.files.borrow().files.get(name) {
            let mut content = content.borrow_mut();
            content.synced = content.data.len();
        }
        Ok(())
    }

    fn forget(&self, name: &str) -> Result<(), RecoveryError> {
        self.remove(name)
    }
}

impl Append for SimFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), RecoveryError> {
        let torn = self.world.files.borrow_mut().tear.take();
        let whole = torn.map_or(bytes.len(), |torn| torn % bytes.len());
        self.content
            .borrow_mut()
            .data
            .extend_from_slice(&bytes[..whole]);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        let mut content = self.content.borrow_mut();
        content.synced = content.data.len();
        Ok(())
    }
}
