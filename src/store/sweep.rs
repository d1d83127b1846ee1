//! Removes the runs of earlier incarnations that nobody needs: for the one worker that puts
//! manifests, since only it knows what all the others have in them.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::Path;

use super::chunk::{incarnation, segment_of};
use super::error::StoreError;
use super::runs::Runs;
use super::writer::remove;

/// What a sweep has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// How many segments.
    pub segments: u64,
    /// The lengths of their files.
    pub bytes: u64,
}

impl Runs {
    /// Removes every segment of an incarnation before this one that the newest manifest does not
    /// name: `named` must hold what that manifest names, of all workers. To be called at a start,
    /// with the manifest that was loaded, and after each manifest that was put. Costs a look into
    /// the directory.
    ///
    /// # Errors
    /// If the directory cannot be read, or a file not removed. That there is no directory yet is
    /// none.
    pub fn sweep(
        dir: &Path,
        named: &HashSet<u64>,
        older_than_incarnation: u64,
    ) -> Result<Swept, StoreError> {
        let dir = dir.join(super::DIR);
        let mut swept = Swept::default();
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(swept),
            entries => entries.map_err(StoreError::io("list", &dir))?,
        };
        for entry in entries {
            let entry = entry.map_err(StoreError::io("list", &dir))?;
            let Some(segment) = entry.file_name().to_str().and_then(segment_of) else {
                continue;
            };
            if incarnation(segment) >= older_than_incarnation || named.contains(&segment) {
                continue;
            }
            let path = entry.path();
            let length = entry.metadata().map_err(StoreError::io("stat", &path))?;
            remove(&path)?;
            swept.segments += 1;
            swept.bytes += length.len();
        }
        Ok(swept)
    }
}
