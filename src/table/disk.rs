//! Every step of the commit protocol that touches the disk, with errors that name the path.

use super::TableError;
use crate::disk;
pub(super) use crate::disk::fresh;
use std::path::Path;

pub(super) fn failed(action: &'static str, path: &Path, source: std::io::Error) -> TableError {
    TableError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Milliseconds since 1970, for the times that the log's format wants; nothing is decided by them.
pub(super) fn now() -> i64 {
    crate::wall::now()
}

/// The names in a directory, unsorted; `None` if there is no such directory.
pub(super) fn list(dir: &Path) -> Result<Option<Vec<String>>, TableError> {
    disk::list(dir).map_err(|e| failed("list", dir, e))
}

/// The bytes of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TableError> {
    disk::read(path).map_err(|e| failed("read", path, e))
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), TableError> {
    disk::sync_dir(dir).map_err(|e| failed("sync", dir, e))
}

/// Creates `dir` and what is missing above it, durably.
pub(super) fn create_dir(dir: &Path) -> Result<(), TableError> {
    disk::create_dir(dir).map_err(|e| failed("create", dir, e))
}

/// Puts `dir/name` whole and durably unless it is there; whether it was put.
pub(super) fn put_if_absent(dir: &Path, name: &str, bytes: &[u8]) -> Result<bool, TableError> {
    disk::put_if_absent(dir, name, bytes).map_err(|e| failed("put", &dir.join(name), e))
}

/// Puts `dir/name` whole and durably, instead of what is there.
pub(super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), TableError> {
    disk::put(dir, name, bytes).map_err(|e| failed("put", &dir.join(name), e))
}
