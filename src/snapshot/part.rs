//! A part: one worker's state as of a tick, as a file of sections. Each section is one kind of rows
//! of one shard, behind a checksum; a reader skips what is not its own.
//!
//! | bytes | file header |
//! | --- | --- |
//! | 0..8 | `visitprt` |
//! | 8..16 | the format, 1 (u64) |
//!
//! | bytes | section header |
//! | --- | --- |
//! | 0..4 | which kind of rows |
//! | 4..8 | the version of those rows |
//! | 8..12 | the shard |
//! | 12..16 | CRC-32 of the rest of this header, and of the rows |
//! | 16..24 | the rows' bytes, without what pads them to eight |
//!
//! The last section has the kind 0 and the number of the others in the place of the bytes. All
//! numbers are little-endian; what is not whole to the last section is damage.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bytemuck::Pod;

use super::page;
use crate::crash;
use crate::recovery::RecoveryError;

const MAGIC: &[u8; 8] = b"visitprt";
const FORMAT: u64 = 1;
const END: u32 = 0;
const SECTION: usize = 24;
/// The longest section that is believed: 256 shards of it would hold a billion visits.
const MOST: u64 = 1 << 34;

/// The checksum of a section: its header's words and length, and its bytes.
fn checksum(words: [u32; 3], length: u64, bytes: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    words
        .iter()
        .for_each(|word| crc.update(&word.to_le_bytes()));
    crc.update(&length.to_le_bytes());
    crc.update(bytes);
    crc.finalize()
}

/// Writes a part.
pub struct PartWriter {
    path: std::path::PathBuf,
    out: BufWriter<File>,
    sections: u64,
    scratch: Vec<u8>,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RecoveryError {
    let path = path.to_owned();
    move |source| RecoveryError::Io {
        action,
        path,
        source,
    }
}

impl PartWriter {
    /// Creates the file, which no manifest names yet.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> Result<PartWriter, RecoveryError> {
        if let Some(parent) = path.parent() {
            crate::disk::create_dir(parent).map_err(failed("create", parent))?;
        }
        let file = File::create(path).map_err(failed("create", path))?;
        let mut out = BufWriter::with_capacity(1 << 20, file);
        let header = [*MAGIC, FORMAT.to_le_bytes()].concat();
        out.write_all(&header).map_err(failed("write", path))?;
        Ok(PartWriter {
            path: path.to_owned(),
            out,
            sections: 0,
            scratch: Vec::new(),
        })
    }

    /// Writes rows of a shard; none need no section.
    ///
    /// # Errors
    /// What the file system says.
    pub fn rows<T: Pod>(
        &mut self,
        kind: u32,
        version: u32,
        shard: u8,
        rows: &[T],
    ) -> Result<(), RecoveryError> {
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        page::encode(rows, &mut bytes);
        let written = self.bytes(kind, version, shard, &bytes);
        self.scratch = bytes;
        written
    }

    /// Writes plain bytes of a shard.
    ///
    /// # Errors
    /// What the file system says.
    pub fn bytes(
        &mut self,
        kind: u32,
        version: u32,
        shard: u8,
        bytes: &[u8],
    ) -> Result<(), RecoveryError> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.sections += 1;
        self.section([kind, version, shard.into()], bytes.len() as u64, bytes)
    }

    fn section(&mut self, words: [u32; 3], length: u64, bytes: &[u8]) -> Result<(), RecoveryError> {
        let crc = checksum(words, length, bytes);
        let mut header = Vec::with_capacity(SECTION);
        for word in words.into_iter().chain([crc]) {
            header.extend_from_slice(&word.to_le_bytes());
        }
        header.extend_from_slice(&length.to_le_bytes());
        let padding = &[0; 8][..bytes.len().next_multiple_of(8) - bytes.len()];
        crash::torn("torn-page", bytes, |part| {
            self.out.write_all(&[&header, part].concat())?;
            self.out.flush()
        });
        for piece in [&header, bytes, padding] {
            self.out
                .write_all(piece)
                .map_err(failed("write", &self.path))?;
        }
        Ok(())
    }

    /// Ends the file, durably.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> Result<(), RecoveryError> {
        self.section([END, 0, 0], self.sections, &[])?;
        let file = self
            .out
            .into_inner()
            .map_err(|error| failed("write", &self.path)(error.into_error()))?;
        file.sync_all().map_err(failed("sync", &self.path))?;
        let parent = self.path.parent().unwrap_or(Path::new("."));
        crate::disk::sync_dir(parent).map_err(failed("sync", parent))
    }
}

/// A section that was read.
pub struct Section {
    /// Which kind of rows.
    pub kind: u32,
    /// The version of those rows.
    pub version: u32,
    /// The shard.
    pub shard: u8,
    page: Vec<u64>,
    length: usize,
    place: Place,
}

/// Where a section is, for errors.
struct Place {
    file: String,
    at: u64,
}

impl Place {
    fn damaged(&self, found: impl Into<String>, expected: impl Into<String>) -> RecoveryError {
        RecoveryError::Damaged {
            file: self.file.clone(),
            at: self.at,
            found: found.into(),
            expected: expected.into(),
        }
    }
}

impl Section {
    /// Its rows.
    ///
    /// # Errors
    /// A section that holds no whole number of them.
    pub fn rows<T: Pod>(mut self) -> Result<Vec<T>, RecoveryError> {
        let length = self.length;
        page::decode(&mut self.page[..length / 8])
            .filter(|_| length.is_multiple_of(8))
            .ok_or_else(|| {
                let rows = format!("rows of {} bytes", size_of::<T>());
                self.place.damaged(format!("{length} bytes"), rows)
            })
    }

    /// Its bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        let bytes: &[u8] = bytemuck::cast_slice(&self.page);
        bytes[..self.length].to_vec()
    }

    /// Refuses another version of its rows than this one.
    ///
    /// # Errors
    /// It is another.
    pub fn expect_version(&self, what: &str, version: u32) -> Result<(), RecoveryError> {
        if self.version == version {
            return Ok(());
        }
        Err(RecoveryError::Format {
            file: format!("{}, {what}", self.place.file),
            found: self.version.to_string(),
            expected: version.to_string(),
        })
    }
}

/// Reads the sections of those shards that are `wanted`.
///
/// # Errors
/// What the file system says; damage; another format; what `each` says.
pub fn read(
    path: &Path,
    wanted: impl Fn(u8) -> bool,
    mut each: impl FnMut(Section) -> Result<(), RecoveryError>,
) -> Result<(), RecoveryError> {
    let mut file = File::open(path).map_err(failed("open", path))?;
    let mut at = 0;
    let name = path.display().to_string();
    let place = |at| Place {
        file: name.clone(),
        at,
    };
    let exact = |file: &mut File, bytes: &mut [u8], at: u64| {
        file.read_exact(bytes).map_err(|error| {
            if error.kind() == io::ErrorKind::UnexpectedEof {
                place(at).damaged("the end of the file", "more")
            } else {
                failed("read", path)(error)
            }
        })
    };
    let mut header = [0; 16];
    exact(&mut file, &mut header, at)?;
    let format = u64::from_le_bytes(header[8..].try_into().expect("eight bytes"));
    if header[..8] != MAGIC[..] || format != FORMAT {
        return Err(RecoveryError::Format {
            file: name.clone(),
            found: if header[..8] == MAGIC[..] {
                format.to_string()
            } else {
                "none".to_owned()
            },
            expected: FORMAT.to_string(),
        });
    }
    at += 16;
    let mut sections = 0;
    loop {
        let mut header = [0; SECTION];
        exact(&mut file, &mut header, at)?;
        let word =
            |n: usize| u32::from_le_bytes(header[4 * n..4 * n + 4].try_into().expect("four bytes"));
        let length = u64::from_le_bytes(header[16..].try_into().expect("eight bytes"));
        let [kind, version, shard, crc] = [0, 1, 2, 3].map(word);
        if kind == END {
            if length == sections && crc == checksum([kind, version, shard], length, &[]) {
                return Ok(());
            }
            return Err(place(at).damaged(
                format!("an end behind {length} sections"),
                format!("{sections}"),
            ));
        }
        let words = [kind, version, shard];
        let shard = u8::try_from(shard)
            .map_err(|_| place(at).damaged(format!("shard {shard}"), "at most 255"))?;
        if length > MOST {
            return Err(place(at).damaged(format!("{length} bytes"), format!("at most {MOST}")));
        }
        at += SECTION as u64;
        sections += 1;
        let padded = length.next_multiple_of(8);
        if wanted(shard) {
            let mut page = vec![0_u64; padded as usize / 8];
            exact(&mut file, bytemuck::cast_slice_mut(&mut page), at)?;
            let bytes: &[u8] = bytemuck::cast_slice(&page);
            if checksum(words, length, &bytes[..length as usize]) != crc {
                return Err(place(at).damaged("other bytes", "those of the checksum"));
            }
            each(Section {
                kind,
                version,
                shard,
                page,
                length: length as usize,
                place: place(at),
            })?;
        } else {
            file.seek(SeekFrom::Current(padded as i64))
                .map_err(failed("read", path))?;
        }
        at += padded;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("snapshots/a.part");
        let mut part = PartWriter::create(&path).unwrap();
        part.rows(1, 7, 3, &[[1_u64, 2], [3, 4]]).unwrap();
        part.bytes(2, 1, 4, b"hello").unwrap();
        part.rows::<u64>(1, 7, 5, &[]).unwrap();
        part.finish().unwrap();
        path
    }

    #[test]
    fn sections_come_back_and_those_of_other_shards_are_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let mut seen = Vec::new();
        read(
            &path,
            |_| true,
            |section| {
                seen.push((section.kind, section.version, section.shard));
                if section.kind == 1 {
                    assert_eq!(section.rows::<[u64; 2]>()?, [[1, 2], [3, 4]]);
                } else {
                    assert_eq!(section.into_bytes(), b"hello");
                }
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, [(1, 7, 3), (2, 1, 4)]);
        let mut seen = Vec::new();
        let one = |section: Section| {
            seen.push(section.shard);
            Ok(())
        };
        read(&path, |shard| shard == 4, one).unwrap();
        assert_eq!(seen, [4]);
    }

    #[test]
    fn any_changed_or_missing_byte_is_damage() {
        let dir = tempfile::tempdir().unwrap();
        let path = written(dir.path());
        let bytes = std::fs::read(&path).unwrap();
        let whole = |bytes: &[u8]| {
            let other = dir.path().join("other.part");
            std::fs::write(&other, bytes).unwrap();
            let mut count = 0;
            let each = |section: Section| {
                count += 1;
                section.expect_version("rows", if section.kind == 1 { 7 } else { 1 })?;
                if section.kind == 1 {
                    section.rows::<[u64; 2]>()?;
                }
                Ok(())
            };
            read(&other, |_| true, each).map(|()| count)
        };
        assert_eq!(whole(&bytes).unwrap(), 2);
        for length in 0..bytes.len() {
            assert!(whole(&bytes[..length]).is_err(), "{length} bytes");
        }
        let padding = bytes.len() - SECTION - 3..bytes.len() - SECTION;
        for at in (0..bytes.len()).filter(|at| !padding.contains(at)) {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(whole(&other).is_err(), "byte {at}");
        }
    }
}
