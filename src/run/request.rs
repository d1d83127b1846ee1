//! A wish that a running job may stop, as a file beside its statuses: `visitflow stop` puts it, and
//! each process for which it is meant obeys. It names starts, which no two processes share, so that
//! one that was left behind stops nobody who starts later. Needs no more than a folder that both
//! see: no process ID, no port, no signal.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::status;
use crate::disk;
use crate::job::Job;

/// Who is asked to stop.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The starts that are asked to, as their statuses name them.
    pub stop: Vec<String>,
}

/// The file in which a job is asked.
pub fn file(job: &Job) -> Option<PathBuf> {
    Some(status::folder(job)?.join(format!("{}.stop", job.name)))
}

impl Request {
    /// What is asked; nothing if there is no such file, or one that nobody has put.
    pub fn read(path: &Path) -> Request {
        let bytes = disk::read(path).ok().flatten();
        let request = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        request.unwrap_or_default()
    }

    /// Asks.
    ///
    /// # Errors
    /// What the file system says.
    pub fn put(&self, path: &Path) -> io::Result<()> {
        let bytes = serde_json::to_vec(self)?;
        let dir = path.parent().unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        disk::put(dir, &name, &bytes)
    }

    /// Whether this start is asked.
    pub fn asks(&self, start: &str) -> bool {
        self.stop.iter().any(|asked| asked == start)
    }
}

/// Asks nobody any more.
///
/// # Errors
/// What the file system says.
pub fn withdraw(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_who_are_named_are_asked() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.stop");
        assert!(!Request::read(&path).asks("a"));
        let request = Request {
            stop: vec!["a".to_owned(), "b".to_owned()],
        };
        request.put(&path).unwrap();
        let read = Request::read(&path);
        assert!(read.asks("a") && read.asks("b") && !read.asks("c"));
        withdraw(&path).unwrap();
        withdraw(&path).unwrap();
        assert_eq!(Request::read(&path), Request::default());
        fs::write(&path, b"{\"stop\": 7}").unwrap();
        assert!(!Request::read(&path).asks("a"));
    }
}
