//! Every step of the commit protocol that touches the disk: the one module to stand in for when the protocol is to
//! run over a simulated disk. What returns has reached the disk; what fails names the path.

use super::TableError;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{ErrorKind, Write};
use std::path::Path;

pub(super) fn failed(action: &'static str, path: &Path, source: std::io::Error) -> TableError {
    TableError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// 128 bits that nobody else has drawn: file names must differ between processes that know nothing of each other.
pub(super) fn fresh() -> u128 {
    let draw = || u128::from(std::hash::RandomState::new().build_hasher().finish());
    let pid = u128::from(std::process::id());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    (draw() << 64 | draw()) ^ (pid << 96) ^ now
}

/// Milliseconds since 1970, for the times that the log's format wants; nothing is decided by them.
pub(super) fn now() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The names in a directory, unsorted; `None` if there is no such directory.
pub(super) fn list(dir: &Path) -> Result<Option<Vec<String>>, TableError> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed("list", dir, e)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| failed("list", dir, e))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(Some(names))
}

/// The bytes of a file; `None` if there is none.
pub(super) fn read(path: &Path) -> Result<Option<Vec<u8>>, TableError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path, e)),
    }
}

/// Makes the names in `dir` durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), TableError> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .map_err(|e| failed("sync", dir, e))
}

/// Creates `dir` and what is missing above it, durably.
pub(super) fn create_dir(dir: &Path) -> Result<(), TableError> {
    fs::create_dir_all(dir).map_err(|e| failed("create", dir, e))?;
    for above in dir
        .ancestors()
        .skip(1)
        .take_while(|above| !above.as_os_str().is_empty())
        .take(2)
    {
        // A directory above that we may not open was not created by us.
        let _ = sync_dir(above);
    }
    Ok(())
}

fn write_beside(dir: &Path, name: &str, bytes: &[u8]) -> Result<std::path::PathBuf, TableError> {
    let path = dir.join(format!(".{name}.{:032x}.tmp", fresh()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| {
        let _ = fs::remove_file(&path); // half written and ours; the error that counts is the first
        failed("write", &path, e)
    })?;
    Ok(path)
}

/// Puts `dir/name` whole and durably unless it is there; whether it was put. The hard link is the one atomic step:
/// of any number of racing calls one returns true.
pub(super) fn put_if_absent(dir: &Path, name: &str, bytes: &[u8]) -> Result<bool, TableError> {
    let target = dir.join(name);
    let beside = write_beside(dir, name, bytes)?;
    let put = fs::hard_link(&beside, &target);
    let _ = fs::remove_file(&beside); // a stray name is harmless, no reader looks at it
    match put {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(failed("put (by hard link)", &target, e)),
    }
}

/// Puts `dir/name` whole and durably, instead of what is there.
pub(super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), TableError> {
    let target = dir.join(name);
    let beside = write_beside(dir, name, bytes)?;
    fs::rename(&beside, &target).map_err(|e| failed("put", &target, e))?;
    sync_dir(dir)
}
