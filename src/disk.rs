//! Small files that are put whole and durably, or not at all: what tables and recovery stand on.
//! What returns has reached the disk.

use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};

use crate::crash;

/// 128 bits that nobody else has drawn: file names must differ between processes that know nothing of each other.
pub fn fresh() -> u128 {
    let draw = || u128::from(std::hash::RandomState::new().build_hasher().finish());
    let pid = u128::from(std::process::id());
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_nanos());
    (draw() << 64 | draw()) ^ (pid << 96) ^ now
}

/// The names in a directory, unsorted; `None` if there is no such directory.
pub fn list(dir: &Path) -> io::Result<Option<Vec<String>>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let name = |entry: io::Result<fs::DirEntry>| {
        entry.map(|entry| entry.file_name().to_string_lossy().into_owned())
    };
    entries.map(name).collect::<io::Result<_>>().map(Some)
}

/// The bytes of a file; `None` if there is none.
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Makes the names in `dir` durable.
pub fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir).and_then(|d| d.sync_all())
}

/// Creates `dir` and what is missing above it, durably.
pub fn create_dir(dir: &Path) -> io::Result<()> {
    fs::create_dir_all(dir)?;
    let above = dir.ancestors().skip(1);
    for above in above
        .take_while(|above| !above.as_os_str().is_empty())
        .take(2)
    {
        // A directory above that we may not open was not created by us.
        let _ = sync_dir(above);
    }
    Ok(())
}

fn write_beside(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<PathBuf> {
    let path = dir.join(format!(".{name}.{:032x}.tmp", fresh()));
    let write = || {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&path)?;
        crash::torn("torn-file", bytes, |part| file.write_all(part));
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().inspect_err(|_| {
        let _ = fs::remove_file(&path); // half written and ours; the error that counts is the first
    })?;
    Ok(path)
}

/// Puts `dir/name` whole and durably unless it is there; whether it was put. The hard link is the one atomic step:
/// of any number of racing calls one returns true.
pub fn put_if_absent(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<bool> {
    let beside = write_beside(dir, name, bytes)?;
    let put = fs::hard_link(&beside, dir.join(name));
    let _ = fs::remove_file(&beside); // a stray name is harmless, no reader looks at it
    match put {
        Ok(()) => sync_dir(dir).map(|()| true),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Ok(false),
        Err(e) => Err(e),
    }
}

/// Puts `dir/name` whole and durably, instead of what is there.
pub fn put(dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let beside = write_beside(dir, name, bytes)?;
    fs::rename(&beside, dir.join(name))?;
    sync_dir(dir)
}
