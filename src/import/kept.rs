//! Keeps what could not be read: one text file for each input, `<log>/unparsed/<file>.txt`, each
//! line with its place, the reason and the bytes as they stood, with tabs between
//! (`cut -f3- FILE` gives the lines back). A file is made when its first line comes, and never
//! replaces an earlier one: `access.log.txt`, then `access.log-2.txt`.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// How many are shown at the end.
const SHOWN: usize = 5;

pub(super) struct Kept {
    dir: PathBuf,
    name: String,
    writer: Option<BufWriter<File>>,
    /// The files that were made.
    pub files: Vec<PathBuf>,
    /// How many lines, rows and items were kept.
    pub count: u64,
    /// The places and reasons of the first few.
    pub first: Vec<String>,
}

impl Kept {
    pub fn new(dir: PathBuf) -> Kept {
        Kept {
            dir,
            name: String::new(),
            writer: None,
            files: Vec::new(),
            count: 0,
            first: Vec::new(),
        }
    }

    /// What comes next is of this input.
    pub fn begin(&mut self, path: &Path) -> io::Result<()> {
        self.finish()?;
        self.name = match path.file_name() {
            Some(name) if path != Path::new("-") => name.to_string_lossy().into_owned(),
            _ => "stdin".to_owned(),
        };
        Ok(())
    }

    /// Keeps `raw`, of which `cut` more bytes are left out.
    pub fn keep(&mut self, place: &str, reason: &str, raw: &[u8], cut: u64) -> io::Result<()> {
        self.count += 1;
        if self.first.len() < SHOWN {
            self.first.push(format!("{place}: {reason}"));
        }
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => none.insert(BufWriter::new(create(
                &self.dir,
                &self.name,
                &mut self.files,
            )?)),
        };
        write!(writer, "{place}\t{reason}")?;
        if cut > 0 {
            write!(writer, " ({cut} bytes more are left out)")?;
        }
        writer.write_all(b"\t")?;
        writer.write_all(raw)?;
        writer.write_all(b"\n")
    }

    /// Writes out what is buffered.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.writer.take() {
            Some(mut writer) => writer.flush(),
            None => Ok(()),
        }
    }

    /// The file that is written, or the directory.
    pub fn place(&self) -> &Path {
        self.files.last().unwrap_or(&self.dir)
    }
}

fn create(dir: &Path, name: &str, files: &mut Vec<PathBuf>) -> io::Result<File> {
    fs::create_dir_all(dir)?;
    for n in 1.. {
        let file = match n {
            1 => dir.join(format!("{name}.txt")),
            n => dir.join(format!("{name}-{n}.txt")),
        };
        match File::create_new(&file) {
            Ok(created) => {
                files.push(file);
                return Ok(created);
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stands_there_with_its_place_and_replaces_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("unparsed");
        for _ in 0..2 {
            let mut kept = Kept::new(dir.clone());
            kept.begin(Path::new("logs/a.log")).unwrap();
            kept.keep("logs/a.log:3", "expected x", b"\xFF\ty", 0)
                .unwrap();
            kept.begin(Path::new("-")).unwrap();
            kept.finish().unwrap();
            assert_eq!(kept.first, ["logs/a.log:3: expected x"]);
        }
        for file in ["a.log.txt", "a.log-2.txt"] {
            let bytes = fs::read(dir.join(file)).unwrap();
            assert_eq!(bytes, b"logs/a.log:3\texpected x\t\xFF\ty\n");
        }
        assert_eq!(
            fs::read_dir(&dir).unwrap().count(),
            2,
            "nothing for an input without such lines"
        );
    }
}
