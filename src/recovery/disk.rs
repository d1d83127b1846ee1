//! What recovery needs of a disk: small files that are put whole or not at all. The seam at which a
//! simulated disk stands in; [`Folder`] is the real one, and a place for journals too.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Append, Journals, RecoveryError};
use crate::crash;
use crate::disk as durable;

/// A place for files, named by paths relative to it, with `/`.
pub trait Disk {
    /// The names in a folder, sorted; none if there is no such folder.
    fn list(&self, folder: &str) -> Result<Vec<String>, RecoveryError>;
    /// A file's bytes; `None` if there is no such file.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError>;
    /// Puts a file whole and durably, unless it is there; whether it was put. Of any number of
    /// racing calls, one returns true.
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<bool, RecoveryError>;
    /// Removes a file, if it is there.
    fn remove(&self, name: &str) -> Result<(), RecoveryError>;
}

/// A folder of the file system. It keeps some room in reserve, so that a small file can still be put
/// on a full disk: the manifest of a snapshot that has just fitted.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

/// The file that takes up the room in reserve, and its bytes.
const RESERVE: &str = "reserve";
const RESERVED: usize = 1 << 20;

/// A file in a [`Folder`].
#[derive(Debug)]
pub struct FolderFile {
    path: PathBuf,
    file: File,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io {
        action,
        path,
        source,
    }
}

impl Folder {
    /// A folder, made if it is not there.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(path: &Path) -> Result<Folder, RecoveryError> {
        durable::create_dir(path).map_err(failed("create", path))?;
        Ok(Folder(path.to_owned()))
    }

    /// Takes up the room that is kept in reserve, unless it is.
    ///
    /// # Errors
    /// What the file system says.
    pub fn reserve(&self) -> Result<(), RecoveryError> {
        let path = self.path_of(RESERVE);
        if path.is_file() {
            return Ok(());
        }
        durable::put(&self.0, RESERVE, &vec![0; RESERVED]).map_err(failed("reserve room in", &path))
    }

    /// A folder as it is; one that is not there holds nothing.
    pub fn at(path: &Path) -> Folder {
        Folder(path.to_owned())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The whole path of a file in it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The folder that a file is to lie in, made if it is not there.
    fn parent(&self, name: &str) -> Result<PathBuf, RecoveryError> {
        let parent = self.path_of(name).parent().unwrap_or(&self.0).to_owned();
        if !parent.is_dir() {
            durable::create_dir(&parent).map_err(failed("create", &parent))?;
        }
        Ok(parent)
    }
}

impl Disk for Folder {
    fn list(&self, folder: &str) -> Result<Vec<String>, RecoveryError> {
        let path = self.path_of(folder);
        let mut names = durable::list(&path)
            .map_err(failed("list", &path))?
            .unwrap_or_default();
        names.retain(|name| !name.starts_with('.'));
        names.sort_unstable();
        Ok(names)
    }

    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        let path = self.path_of(name);
        durable::read(&path).map_err(failed("read", &path))
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<bool, RecoveryError> {
        let parent = self.parent(name)?;
        let file = name.rsplit('/').next().unwrap_or(name);
        let mut put = durable::put_if_absent(&parent, file, bytes);
        if put
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::StorageFull)
        {
            let reserve = self.path_of(RESERVE);
            fs::remove_file(&reserve).map_err(failed("give up the reserve", &reserve))?;
            put = durable::put_if_absent(&parent, file, bytes);
        }
        put.map_err(failed("put", &self.path_of(name)))
    }

    fn remove(&self, name: &str) -> Result<(), RecoveryError> {
        let path = self.path_of(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

impl Journals for Folder {
    type File = FolderFile;

    fn names(&self) -> Result<Vec<String>, RecoveryError> {
        let names = self.list("journal")?;
        Ok(names.iter().map(|name| format!("journal/{name}")).collect())
    }

    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError> {
        self.read(name)
    }

    fn begin(&self, name: &str) -> Result<FolderFile, RecoveryError> {
        let parent = self.parent(name)?;
        let path = self.path_of(name);
        let file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(failed("create", &path))?;
        durable::sync_dir(&parent).map_err(failed("sync", &parent))?;
        Ok(FolderFile { path, file })
    }

    fn harden(&self, name: &str) -> Result<(), RecoveryError> {
        let path = self.path_of(name);
        match File::open(&path).and_then(|file| file.sync_all()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("sync", &path)(error))
            }
            _ => Ok(()),
        }
    }

    fn forget(&self, name: &str) -> Result<(), RecoveryError> {
        self.remove(name)
    }
}

impl Append for FolderFile {
    fn append(&mut self, bytes: &[u8]) -> Result<(), RecoveryError> {
        crash::torn("torn-entry", bytes, |part| self.file.write_all(part));
        self.file
            .write_all(bytes)
            .map_err(failed("append to", &self.path))
    }

    fn sync(&mut self) -> Result<(), RecoveryError> {
        self.file.sync_data().map_err(failed("sync", &self.path))
    }
}
