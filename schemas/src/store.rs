//! Where schemas are found by the fingerprint that a message names. For the source, which meets
//! unknown fingerprints, and for the sinks, which put the schemas they write with.
//!
//! A store knows no time: how often a folder is looked at again is for its caller to pace. It is
//! no registry either: it has no versions, no subjects and no compatibility rules.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use thiserror::Error;

use crate::schema::{Schema, SchemaError};

/// Why a store could not do what it was asked.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// A file or folder that cannot be read or written.
    #[error("{path}: cannot be {what}: {error}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// `read` or `written`.
        what: &'static str,
        /// Why, by the operating system.
        error: Arc<io::Error>,
    },
    /// A file in the folder that holds no schema.
    #[error("{path}: {error}", path = path.display())]
    Schema {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        error: SchemaError,
    },
    /// A file with the name of one schema that holds another.
    #[error(
        "{path}: holds the schema {found}, expected the one of the fingerprint in its name",
        path = path.display()
    )]
    Other {
        /// Which.
        path: PathBuf,
        /// The name and fingerprint of what it holds.
        found: String,
    },
}

/// Schemas by fingerprint.
///
/// The law: after `put(s)` has returned `Ok`, `get(f)` gives a schema of the same canonical form
/// as `s` for every fingerprint f of `s` ([`Schema::fingerprint`] and
/// [`Schema::other_fingerprints`]), for ever, in this process and in every one that opens the same
/// place; `put` of what is there changes nothing; `all` has each schema once, sorted by
/// fingerprint. A schema that was put first keeps its place, with its annotations. `get` of what
/// is not there is `None`, never an error.
pub trait SchemaStore: Send + Sync {
    /// The schema that a message with this fingerprint was written with, if it is known.
    fn get(&self, fingerprint: u64) -> Result<Option<Schema>, StoreError>;

    /// Makes a schema known. Durable where the store is.
    fn put(&self, schema: &Schema) -> Result<(), StoreError>;

    /// All schemas, sorted by fingerprint.
    fn all(&self) -> Result<Vec<Schema>, StoreError>;
}

/// Schemas and their fingerprints.
#[derive(Clone, Debug, Default)]
struct Index(HashMap<u64, Schema>);

impl Index {
    /// Whether the schema is new.
    fn add(&mut self, schema: &Schema) -> bool {
        if self.has(schema) {
            return false;
        }
        for other in schema.other_fingerprints() {
            // The specification's fingerprint of one schema goes before another library's of one.
            self.0.entry(*other).or_insert_with(|| schema.clone());
        }
        self.0.insert(schema.fingerprint(), schema.clone());
        true
    }

    fn has(&self, schema: &Schema) -> bool {
        let known = self.0.get(&schema.fingerprint());
        known.is_some_and(|known| known.fingerprint() == schema.fingerprint())
    }

    fn all(&self) -> Vec<Schema> {
        let own = self
            .0
            .iter()
            .filter(|(f, schema)| **f == schema.fingerprint());
        let mut all: Vec<Schema> = own.map(|(_, schema)| schema.clone()).collect();
        all.sort_by_key(Schema::fingerprint);
        all
    }
}

/// Schemas in memory alone: for tests, and for schemas that are built in.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<Index>);

impl MemoryStore {
    /// A store that knows these.
    pub fn of<'a>(schemas: impl IntoIterator<Item = &'a Schema>) -> MemoryStore {
        let mut index = Index::default();
        for schema in schemas {
            index.add(schema);
        }
        MemoryStore(Mutex::new(index))
    }
}

/// The lock's content; an index is whole whatever panicked while it was held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SchemaStore for MemoryStore {
    fn get(&self, fingerprint: u64) -> Result<Option<Schema>, StoreError> {
        Ok(lock(&self.0).0.get(&fingerprint).cloned())
    }

    fn put(&self, schema: &Schema) -> Result<(), StoreError> {
        lock(&self.0).add(schema);
        Ok(())
    }

    fn all(&self) -> Result<Vec<Schema>, StoreError> {
        Ok(lock(&self.0).all())
    }
}

/// A folder of `.avsc` files, one schema each, whatever their names. `put` writes
/// `<record>-<fingerprint>.avsc`, whole or not at all, and never changes a file that is there.
/// Files are read when the store is opened and at each [`rescan`](FolderStore::rescan); `get`
/// looks into memory alone.
#[derive(Debug)]
pub struct FolderStore {
    folder: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    index: Index,
    /// Files read before, which are not read again while their length and time stay.
    files: HashMap<PathBuf, (u64, Option<std::time::SystemTime>)>,
}

impl FolderStore {
    /// Opens the folder, which must exist, and reads all its schemas.
    pub fn open(folder: impl Into<PathBuf>) -> Result<FolderStore, StoreError> {
        let store = FolderStore {
            folder: folder.into(),
            known: Mutex::default(),
        };
        store.rescan()?;
        Ok(store)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Reads the files that came or changed since; how many schemas are new. A file that holds no
    /// schema is an error which names it, after all the others have been read; it is tried again
    /// the next time. Schemas once known stay known when their files go. Costs one look at each
    /// file in the folder.
    pub fn rescan(&self) -> Result<usize, StoreError> {
        let mut known = lock(&self.known);
        let mut new = 0;
        let mut first_error = None;
        let mut paths = vec![];
        for entry in fs::read_dir(&self.folder).map_err(|e| read_error(&self.folder, e))? {
            let path = entry.map_err(|e| read_error(&self.folder, e))?.path();
            if path.extension().is_some_and(|ext| ext == "avsc") {
                paths.push(path);
            }
        }
        // In a fixed order, so that of two files of one schema the same one counts everywhere.
        paths.sort();
        for path in paths {
            match known.read(&path) {
                Ok(is_new) => new += usize::from(is_new),
                Err(error) => {
                    first_error.get_or_insert(error);
                }
            }
        }
        match first_error {
            Some(error) => Err(error),
            None => Ok(new),
        }
    }
}

fn read_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::Io {
        path: path.to_owned(),
        what: "read",
        error: Arc::new(error),
    }
}

impl Known {
    fn read(&mut self, path: &Path) -> Result<bool, StoreError> {
        let file = match fs::metadata(path) {
            Ok(file) => file,
            // Gone since the folder was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(read_error(path, error)),
        };
        let state = (file.len(), file.modified().ok());
        if self.files.get(path) == Some(&state) {
            return Ok(false);
        }
        let text = fs::read_to_string(path).map_err(|e| read_error(path, e))?;
        let schema = Schema::parse(&text).map_err(|error| StoreError::Schema {
            path: path.to_owned(),
            error,
        })?;
        self.files.insert(path.to_owned(), state);
        Ok(self.index.add(&schema))
    }
}

impl SchemaStore for FolderStore {
    fn get(&self, fingerprint: u64) -> Result<Option<Schema>, StoreError> {
        Ok(lock(&self.known).index.0.get(&fingerprint).cloned())
    }

    fn put(&self, schema: &Schema) -> Result<(), StoreError> {
        let mut known = lock(&self.known);
        if known.index.has(schema) {
            return Ok(());
        }
        let name = format!("{}-{:016x}", schema.record().name, schema.fingerprint());
        let path = self.folder.join(format!("{name}.avsc"));
        // Another process may put the same: each has a file of its own until the rename.
        let part = self
            .folder
            .join(format!(".{name}.{}.part", std::process::id()));
        let text = serde_json::to_string_pretty(schema.json()).unwrap_or_default() + "\n";
        let written = write(&part, text.as_bytes()).and_then(|()| {
            // Not a rename: whoever was first keeps the place.
            match fs::hard_link(&part, &path) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
                _ => Ok(()),
            }
        });
        let written = fs::remove_file(&part).and(written);
        let written = written.and_then(|()| fs::File::open(&self.folder)?.sync_all());
        written.map_err(|error| StoreError::Io {
            path: path.clone(),
            what: "written",
            error: Arc::new(error),
        })?;
        // What stands there now, ours or another's of the same fingerprint.
        known.read(&path)?;
        if known.index.has(schema) {
            return Ok(());
        }
        let text = fs::read_to_string(&path).map_err(|e| read_error(&path, e))?;
        let found = Schema::parse(&text)
            .map(|s| format!("{} {:016x}", s.record().name, s.fingerprint()))
            .unwrap_or_default();
        Err(StoreError::Other { path, found })
    }

    fn all(&self) -> Result<Vec<Schema>, StoreError> {
        Ok(lock(&self.known).index.all())
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = fs::File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

/// A bounded memory of fingerprints that no store knows, so that a flood of messages without a
/// schema asks the store once a fingerprint and not once a message. The oldest goes first. Some
/// 20 bytes each.
#[derive(Clone, Debug)]
pub struct Missing {
    most: usize,
    known: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Default for Missing {
    /// Of 4,096 fingerprints.
    fn default() -> Missing {
        Missing::of(4_096)
    }
}

impl Missing {
    /// A memory of at most `most` fingerprints.
    pub fn of(most: usize) -> Missing {
        Missing {
            most,
            known: HashSet::new(),
            order: VecDeque::new(),
        }
    }

    /// Remembers that a fingerprint is missing.
    pub fn add(&mut self, fingerprint: u64) {
        if self.most == 0 || !self.known.insert(fingerprint) {
            return;
        }
        if self.order.len() == self.most
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        self.order.push_back(fingerprint);
    }

    /// Whether it is remembered as missing.
    #[inline]
    pub fn has(&self, fingerprint: u64) -> bool {
        self.known.contains(&fingerprint)
    }

    /// Forgets all: the store has learnt new schemas.
    pub fn clear(&mut self) {
        self.known.clear();
        self.order.clear();
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measurement::{MEASUREMENT, MEASUREMENT_AVSC};

    fn schema(name: &str) -> Schema {
        Schema::parse(&format!(
            r#"{{"type":"record","name":"{name}","fields":[{{"name":"t","type":{{"type":"long","logicalType":"timestamp-millis"}}}}]}}"#
        ))
        .unwrap()
    }

    /// What every store must do; `again` opens the same place once more.
    fn suite(store: &dyn SchemaStore, again: &dyn Fn() -> Box<dyn SchemaStore>) {
        let (a, b) = (schema("A"), schema("shop.B"));
        assert!(store.get(a.fingerprint()).unwrap().is_none());
        assert!(store.all().unwrap().is_empty());
        store.put(&a).unwrap();
        store.put(&a).unwrap();
        store.put(&b).unwrap();
        for store in [store, &*again()] {
            for s in [&a, &b] {
                assert!(!s.other_fingerprints().is_empty());
                for f in s.other_fingerprints().iter().chain([&s.fingerprint()]) {
                    assert_eq!(store.get(*f).unwrap().as_ref(), Some(s));
                }
            }
            assert!(store.get(1).unwrap().is_none());
            let mut both = vec![a.clone(), b.clone()];
            both.sort_by_key(Schema::fingerprint);
            assert_eq!(store.all().unwrap(), both);
        }
        // The same schema with other annotations: the first one stays.
        let noted = a
            .json()
            .to_string()
            .replace(r#""name":"t""#, r#""name":"t","privacy":"keep""#);
        let noted = Schema::parse(&noted).unwrap();
        assert_eq!(noted.fingerprint(), a.fingerprint());
        store.put(&noted).unwrap();
        assert_eq!(store.get(a.fingerprint()).unwrap(), Some(a));
    }

    #[test]
    fn memory_keeps_the_law() {
        let store = MemoryStore::default();
        suite(&store, &|| Box::new(MemoryStore::of(&store.all().unwrap())));
    }

    #[test]
    fn a_folder_keeps_the_law() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        suite(&store, &|| {
            Box::new(FolderStore::open(folder.path()).unwrap())
        });
        // Nothing but the schemas is left there.
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 2, "{names:?}");
        assert!(
            names[0].starts_with("A-") && names[1].starts_with("shop.B-"),
            "{names:?}"
        );
    }

    #[test]
    fn a_folder_takes_files_of_any_name_when_it_is_looked_at_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        fs::write(folder.path().join("ours.avsc"), MEASUREMENT_AVSC).unwrap();
        fs::write(folder.path().join("README.md"), "not a schema").unwrap();
        assert!(store.get(MEASUREMENT.fingerprint()).unwrap().is_none());
        assert_eq!(store.rescan().unwrap(), 1);
        assert_eq!(store.rescan().unwrap(), 0);
        assert!(store.get(MEASUREMENT.fingerprint()).unwrap().is_some());
        // Put by another process in the meantime, and gone: it stays known.
        FolderStore::open(folder.path())
            .unwrap()
            .put(&schema("C"))
            .unwrap();
        assert_eq!(store.rescan().unwrap(), 1);
        fs::remove_file(folder.path().join("ours.avsc")).unwrap();
        assert_eq!(store.rescan().unwrap(), 0);
        assert!(store.get(MEASUREMENT.fingerprint()).unwrap().is_some());
    }

    #[test]
    fn a_broken_file_is_named_and_hides_no_other() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("z.avsc"), schema("Z").json().to_string()).unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        fs::write(
            folder.path().join("a.avsc"),
            r#"{"type":"record","name":"A","fields":[{"name":"x","type":"strin"}]}"#,
        )
        .unwrap();
        fs::write(folder.path().join("b.avsc"), schema("B").json().to_string()).unwrap();
        let error = store.rescan().unwrap_err().to_string();
        assert!(error.ends_with("a.avsc: at x: the type \"strin\", expected a primitive type or one that is defined before"), "{error}");
        assert!(store.get(schema("B").fingerprint()).unwrap().is_some());
        assert!(FolderStore::open(folder.path()).is_err());
        fs::write(folder.path().join("a.avsc"), schema("A").json().to_string()).unwrap();
        assert_eq!(store.rescan().unwrap(), 1);
    }

    #[test]
    fn a_file_that_holds_another_schema_than_its_name_says_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let store = FolderStore::open(folder.path()).unwrap();
        let a = schema("A");
        let name = format!("A-{:016x}.avsc", a.fingerprint());
        fs::write(folder.path().join(name), schema("B").json().to_string()).unwrap();
        let error = store.put(&a).unwrap_err().to_string();
        assert!(error.contains("holds the schema B "), "{error}");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let error = FolderStore::open(folder.path().join("none"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("none: cannot be read: "), "{error}");
        let store = FolderStore::open(folder.path()).unwrap();
        drop(folder);
        let error = store.put(&schema("A")).unwrap_err().to_string();
        assert!(error.contains(".avsc: cannot be written: "), "{error}");
    }

    #[test]
    fn the_memory_of_what_is_missing_is_bounded_and_loses_the_oldest() {
        let mut missing = Missing::of(3);
        for f in [1, 2, 1, 3, 4] {
            missing.add(f);
        }
        assert_eq!(missing.len(), 3);
        assert!(!missing.has(1) && missing.has(2) && missing.has(4));
        missing.clear();
        assert!(missing.is_empty() && !missing.has(4));
        let mut none = Missing::of(0);
        none.add(1);
        assert!(!none.has(1));
    }
}
