//! The disk that the job writes to: a file system of its own in a file, so that it can be full
//! while the rest of the machine has room. Its syncs and its commits are those of a real one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// More than a long torture writes; only what is written takes room.
const BYTES: u64 = 12 << 30;

/// What takes up the room of a full disk.
const FILLER: &str = "filler";

/// A file system that can be filled.
pub struct Disk {
    image: PathBuf,
    dir: PathBuf,
}

fn done(command: &mut Command) -> Result<(), String> {
    let ended = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{:?}: {status}", command.get_program())),
        Err(error) => Err(format!("{:?}: {error}", command.get_program())),
    }
}

impl Disk {
    /// Makes one at `dir`, in a file beside it.
    ///
    /// # Errors
    /// This machine or this user cannot.
    pub fn mount(dir: &Path) -> Result<Disk, String> {
        std::fs::create_dir_all(dir).unwrap();
        let image = dir.with_extension("ext4");
        let file = std::fs::File::create(&image).unwrap();
        file.set_len(BYTES).unwrap();
        let disk = Disk {
            image,
            dir: dir.to_owned(),
        };
        let mut make = Command::new("mkfs.ext4");
        done(
            make.args(["-q", "-m", "0", "-N", "200000"])
                .arg(&disk.image),
        )?;
        let mut mount = Command::new("mount");
        mount.args(["-o", "loop,discard"]);
        done(mount.arg(&disk.image).arg(dir))?;
        Ok(disk)
    }

    fn filler(&self) -> PathBuf {
        self.dir.join(FILLER)
    }

    /// Takes up all room but so many bytes, also what has become free since.
    pub fn fill(&self, left: u64) {
        let room = rustix::fs::statvfs(&self.dir).unwrap();
        let bytes = (room.f_bavail * room.f_frsize).saturating_sub(left);
        let mut file = std::fs::OpenOptions::new();
        let file = file.create(true).append(true).open(self.filler()).unwrap();
        let taken = file.metadata().unwrap().len();
        if bytes > 0 {
            let flags = rustix::fs::FallocateFlags::empty();
            // The job may have taken some of it meanwhile.
            let _ = rustix::fs::fallocate(&file, flags, taken, bytes);
        }
    }

    /// Makes room again.
    pub fn clear(&self) {
        std::fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.dir).status();
        let _ = std::fs::remove_file(&self.image);
    }
}
