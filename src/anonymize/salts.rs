//! The file of the salts. For the role that anonymizes, the only one that reads and writes it, and
//! for the other roles, which make sure that they could not.
//!
//! It promises that nobody but its owner may read the file, that a salt is on the disk before it is
//! used, and that of two processes which miss the salt of one year both get the same.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use thiserror::Error;
use visitflow_schemas::pseudonym::{SALT_BYTES, Salt, Salts, SaltsError};

/// What can be wrong with the file of the salts.
#[derive(Debug, Error)]
pub enum SaltFileError {
    /// The operating system refused.
    #[error("the salts {}: cannot be {what}: {source}", path.display())]
    Io {
        /// `read` or `written`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read or write it.
    #[error(
        "the salts {path} have mode {mode:04o}, which lets others than their owner at them; expected 0600: type\n  chmod 600 {path}\nand if others may have read them, move them away: new ones are made, and what is anonymized from then on does not join what was before",
        path = path.display()
    )]
    Mode {
        /// The file.
        path: PathBuf,
        /// Its mode's last nine bits.
        mode: u32,
    },
    /// Something else than a file.
    #[error("the salts {}: expected a file", .0.display())]
    NoFile(PathBuf),
    /// The text is no text of salts.
    #[error("the salts {}: {source}", path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// Where and what.
        source: SaltsError,
    },
}

/// The salts of a file, and the right to add those of further years.
#[derive(Debug)]
pub struct SaltFile {
    path: PathBuf,
    salts: Salts,
}

impl SaltFile {
    /// Reads the salts. A file that is not there has none yet; it is made with the first.
    ///
    /// # Errors
    /// A file that others may read, or that does not read as salts.
    pub fn open(path: &Path) -> Result<SaltFile, SaltFileError> {
        Ok(SaltFile {
            path: path.to_owned(),
            salts: read(path)?.map(|(salts, _)| salts).unwrap_or_default(),
        })
    }

    /// Makes sure that there is a salt for the year, and makes one of the system's chance if there
    /// is none.
    ///
    /// # Errors
    /// Those of [`open`](SaltFile::open); a folder that cannot be written.
    pub fn ensure(&mut self, year: i64) -> Result<(), SaltFileError> {
        if self.salts.get(year).is_some() {
            return Ok(());
        }
        let failed = |what| {
            let path = self.path.clone();
            move |source| SaltFileError::Io { what, path, source }
        };
        // Whoever holds the lock reads, adds and puts the file; it is let go when it is dropped.
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(beside(&self.path, "lock"))
            .map_err(failed("written"))?;
        lock.lock().map_err(failed("written"))?;
        let mut owner = None;
        if let Some((salts, file)) = read(&self.path)? {
            self.salts = salts;
            owner = Some((file.uid(), file.gid()));
        }
        if self.salts.get(year).is_none() {
            let mut bytes = [0; SALT_BYTES];
            File::open("/dev/urandom")
                .and_then(|mut chance| chance.read_exact(&mut bytes))
                .map_err(|source| SaltFileError::Io {
                    what: "read",
                    path: "/dev/urandom".into(),
                    source,
                })?;
            self.salts.add(year, bytes);
            bytes.fill(0);
            put(&self.path, &self.salts.to_text(), owner).map_err(failed("written"))?;
        }
        Ok(())
    }

    /// The salt of a year, if it has been [ensured](SaltFile::ensure).
    pub fn get(&self, year: i64) -> Option<&Salt> {
        self.salts.get(year)
    }

    /// The years that have salts.
    pub fn years(&self) -> impl Iterator<Item = i64> {
        self.salts.years()
    }
}

/// A file's neighbour, hidden.
fn beside(path: &Path, end: &str) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{end}"))
}

fn read(path: &Path) -> Result<Option<(Salts, fs::Metadata)>, SaltFileError> {
    let failed = |source| SaltFileError::Io {
        what: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let metadata = file.metadata().map_err(failed)?;
    if !metadata.is_file() {
        return Err(SaltFileError::NoFile(path.to_owned()));
    }
    if metadata.mode() & 0o077 != 0 {
        let (path, mode) = (path.to_owned(), metadata.mode() & 0o777);
        return Err(SaltFileError::Mode { path, mode });
    }
    let mut text = String::new();
    file.read_to_string(&mut text).map_err(failed)?;
    let salts = Salts::parse(&text).map_err(|source| SaltFileError::Text {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some((salts, metadata)))
}

/// Puts the file whole or not at all, with its owner if it had one.
fn put(path: &Path, text: &str, owner: Option<(u32, u32)>) -> io::Result<()> {
    let draft = beside(path, &format!("{}.tmp", std::process::id()));
    let done = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&draft)?;
        if let Some((user, group)) = owner {
            let own = file.metadata()?;
            if (own.uid(), own.gid()) != (user, group) {
                fchown(&file, Some(user), Some(group))?;
            }
        }
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&draft, path)
    })();
    if done.is_err() {
        // Ours and half written; the first error counts.
        let _ = fs::remove_file(&draft);
    }
    done?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Whether this process may read the salts, and so must be no other role than the one that
/// anonymizes.
///
/// It is tried by opening the file. Root can open every file; of root it is asked whether the file
/// is its own, or open to others: a job that runs as root beside a role that runs as a user with a
/// file of its own is as careful as root can be.
pub fn may_read(path: &Path) -> bool {
    let Ok(file) = File::open(path) else {
        return false;
    };
    if !rustix::process::geteuid().is_root() {
        return true;
    }
    let own = |file: fs::Metadata| file.uid() == 0 || file.mode() & 0o077 != 0;
    file.metadata().is_ok_and(own)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use visitflow_schemas::pseudonym::Kind;

    #[test]
    fn a_years_salt_is_made_once_whoever_asks_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("salts.toml");
        let mut one = SaltFile::open(&path).unwrap();
        let mut two = SaltFile::open(&path).unwrap();
        assert!(!path.exists());
        one.ensure(2026).unwrap();
        two.ensure(2026).unwrap();
        two.ensure(2025).unwrap();
        one.ensure(2025).unwrap();
        let pseudonym =
            |file: &SaltFile, year| file.get(year).unwrap().pseudonym(&Kind::Visit, b"v");
        for year in [2025, 2026] {
            assert_eq!(pseudonym(&one, year), pseudonym(&two, year));
        }
        assert_ne!(pseudonym(&one, 2025), pseudonym(&one, 2026));
        let again = SaltFile::open(&path).unwrap();
        assert_eq!(pseudonym(&again, 2025), pseudonym(&one, 2025));
        assert_eq!(again.years().collect::<Vec<_>>(), [2025, 2026]);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_what_to_type() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("salts.toml");
        SaltFile::open(&path).unwrap().ensure(2026).unwrap();
        for mode in [0o644, 0o640, 0o602] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = SaltFile::open(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("have mode {mode:04o}")), "{error}");
            assert!(
                error.contains(&format!("chmod 600 {}", path.display())),
                "{error}"
            );
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "2026 = \"abc\"\n").unwrap();
        let error = SaltFile::open(&path).unwrap_err().to_string();
        assert!(error.contains("salts.toml: line 1: a salt of another length"));
        let folder = SaltFile::open(dir.path()).unwrap_err();
        assert!(matches!(folder, SaltFileError::NoFile(_)), "{folder}");
    }

    #[test]
    fn who_owns_the_file_may_read_it_and_who_does_not_may_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("salts.toml");
        assert!(!may_read(&path));
        SaltFile::open(&path).unwrap().ensure(2026).unwrap();
        assert!(may_read(&path));
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root can give a file to another user");
            return;
        }
        std::os::unix::fs::chown(&path, Some(12_345), None).unwrap();
        assert!(!may_read(&path));
        // Root, which can read it all the same, leaves it to its owner.
        SaltFile::open(&path).unwrap().ensure(2027).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().uid(), 12_345);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(may_read(&path));
    }
}
