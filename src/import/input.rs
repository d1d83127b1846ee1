//! One input of an import: a file or the standard input, plain or gzip by its first bytes, read
//! through a window of memory and cut into lines. A line over the limit is given with its first
//! part only and the rest is skipped, so memory is bounded by the limit whatever the input is.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use memchr::memchr;
use sha2::{Digest, Sha256};

/// How much is read at once.
const CHUNK: usize = 256 * 1024;
/// How much of the content names the input.
const NAMED_BY: usize = 64 * 1024;

/// Counts what is read of the file itself, before it is unpacked.
struct Counted<R> {
    inner: R,
    count: Rc<Cell<u64>>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(into)?;
        self.count.set(self.count.get() + read as u64);
        Ok(read)
    }
}

/// A line without its end (`\n` or `\r\n`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line<'a> {
    pub bytes: &'a [u8],
    /// How many bytes were left out, because the line is over the limit.
    pub cut: u64,
}

/// An open input.
pub(super) struct Input {
    reader: Box<dyn Read>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    ended: bool,
    /// Bytes of the window that the next call lets go.
    pending: usize,
    /// The place in the content of the window's start.
    offset: u64,
    long: Vec<u8>,
    count: Rc<Cell<u64>>,
    name: [u8; 8],
}

impl Input {
    /// Opens a file, or the standard input for `-`.
    pub fn open(path: &Path) -> io::Result<Input> {
        if path == Path::new("-") {
            Input::new(Box::new(io::stdin().lock()))
        } else {
            Input::new(Box::new(File::open(path)?))
        }
    }

    /// Takes any bytes. Reads the first 64 KiB of content.
    pub fn new(inner: Box<dyn Read>) -> io::Result<Input> {
        let count = Rc::new(Cell::new(0));
        let mut counted = Counted {
            inner,
            count: count.clone(),
        };
        let mut magic = Vec::new();
        (&mut counted).take(2).read_to_end(&mut magic)?;
        let zipped = magic == [0x1F, 0x8B];
        let whole = io::Cursor::new(magic).chain(counted);
        let reader: Box<dyn Read> = if zipped {
            Box::new(flate2::bufread::MultiGzDecoder::new(
                io::BufReader::with_capacity(CHUNK, whole),
            ))
        } else {
            Box::new(whole)
        };
        let mut input = Input {
            reader,
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
            ended: false,
            pending: 0,
            offset: 0,
            long: Vec::new(),
            count,
            name: [0; 8],
        };
        while input.window().len() < NAMED_BY && input.more()? {}
        let first = &input.window()[..input.window().len().min(NAMED_BY)];
        let hash = Sha256::digest(first);
        input.name.copy_from_slice(&hash[..8]);
        if input.window().starts_with(b"\xEF\xBB\xBF") {
            input.pending = 3;
        }
        Ok(input)
    }

    /// The ID of what stands at `place`: eight bytes that name the content, and the place. The same
    /// content gives the same IDs, and IDs of one input sort by place.
    pub fn id(&self, place: u64) -> [u8; 16] {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&self.name);
        id[8..].copy_from_slice(&place.to_be_bytes());
        id
    }

    /// Bytes read of the file, packed as they are.
    pub fn bytes_read(&self) -> u64 {
        self.count.get()
    }

    /// Bytes of content that are done with.
    pub fn offset(&self) -> u64 {
        self.offset + self.pending as u64
    }

    /// Bytes of content that were read, done with or not.
    pub fn unpacked(&self) -> u64 {
        self.offset + (self.end - self.start) as u64
    }

    /// What was read and not yet let go.
    pub fn window(&self) -> &[u8] {
        &self.buffer[self.start + self.pending..self.end]
    }

    /// Lets the first `count` bytes of the window go, at the next read.
    pub fn consume(&mut self, count: usize) {
        self.pending += count;
        debug_assert!(self.start + self.pending <= self.end);
    }

    /// The last `count` bytes that were let go, as long as nothing more is read.
    pub fn consumed(&self, count: usize) -> &[u8] {
        let end = self.start + self.pending;
        &self.buffer[end - count..end]
    }

    /// Reads more behind the window; false at the end of the input.
    pub fn more(&mut self) -> io::Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.start += self.pending;
        self.offset += self.pending as u64;
        self.pending = 0;
        if self.start > 0 && self.buffer.len() - self.end < CHUNK / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        if self.end == self.buffer.len() {
            self.buffer.resize(self.buffer.len() + CHUNK, 0);
        }
        loop {
            match self.reader.read(&mut self.buffer[self.end..]) {
                Ok(0) => {
                    self.ended = true;
                    return Ok(false);
                }
                Ok(read) => {
                    self.end += read;
                    return Ok(true);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next line, of at most `max` bytes.
    pub fn line(&mut self, max: usize) -> io::Result<Option<Line<'_>>> {
        let mut searched = 0;
        let (len, end) = loop {
            let window = self.window();
            if let Some(at) = memchr(b'\n', &window[searched..]) {
                break (searched + at, searched + at + 1);
            }
            searched = window.len();
            // One more for a carriage return, which is not the line's.
            if searched > max + 1 {
                return self.long_line(max).map(Some);
            }
            if !self.more()? {
                if searched == 0 {
                    return Ok(None);
                }
                break (searched, searched);
            }
        };
        let line = &self.window()[..len];
        let len = line.strip_suffix(b"\r").unwrap_or(line).len();
        if len > max {
            return self.long_line(max).map(Some);
        }
        self.consume(end);
        let start = self.start + self.pending - end;
        Ok(Some(Line {
            bytes: &self.buffer[start..start + len],
            cut: 0,
        }))
    }

    fn long_line(&mut self, max: usize) -> io::Result<Line<'_>> {
        self.long.clear();
        let first = &self.buffer[self.start + self.pending..][..max];
        self.long.extend_from_slice(first);
        self.consume(max);
        let mut cut = 0;
        loop {
            let window = self.window();
            let found = memchr(b'\n', window);
            let len = found.unwrap_or(window.len());
            cut += len as u64;
            self.consume(len + usize::from(found.is_some()));
            if found.is_some() || !self.more()? {
                return Ok(Line {
                    bytes: &self.long,
                    cut,
                });
            }
        }
    }
}

/// An input as the user named it, checked before anything is read.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub path: PathBuf,
    /// How it is called in messages.
    pub name: String,
    /// Its size, where that is known before it is read.
    pub size: Option<u64>,
}

impl Source {
    pub fn new(path: &Path) -> io::Result<Source> {
        if path == Path::new("-") {
            return Ok(Source {
                path: path.to_owned(),
                name: "standard input".to_owned(),
                size: None,
            });
        }
        let metadata = std::fs::metadata(path)?;
        if metadata.is_file() {
            // A pipe must not be opened before it is read: its writer would lose its reader.
            File::open(path)?;
        }
        if metadata.is_dir() {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                "a directory, expected a file",
            ));
        }
        Ok(Source {
            path: path.to_owned(),
            name: path.display().to_string(),
            size: metadata.is_file().then_some(metadata.len()),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Gives its bytes in small pieces of changing length, as pipes do.
    pub(in crate::import) struct Pieces(pub Vec<u8>, pub usize);

    impl Read for Pieces {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 7 + 1;
            let len = self.1.min(self.0.len()).min(into.len());
            into[..len].copy_from_slice(&self.0[..len]);
            self.0.drain(..len);
            Ok(len)
        }
    }

    fn lines(bytes: &[u8], max: usize) -> Vec<(Vec<u8>, u64)> {
        let mut input = Input::new(Box::new(Pieces(bytes.to_vec(), 0))).unwrap();
        let mut lines = Vec::new();
        while let Some(line) = input.line(max).unwrap() {
            lines.push((line.bytes.to_vec(), line.cut));
        }
        lines
    }

    fn zip(bytes: &[u8]) -> Vec<u8> {
        let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zip.write_all(bytes).unwrap();
        zip.finish().unwrap()
    }

    #[test]
    fn lines_end_in_any_way() {
        let expected: Vec<_> = [&b"a"[..], b"", b"b\rc", b"d"]
            .map(|l| (l.to_vec(), 0))
            .into();
        assert_eq!(lines(b"a\r\n\nb\rc\nd", 10), expected);
        assert_eq!(lines(b"a\n\r\nb\rc\nd\r\n", 10), expected);
        assert_eq!(
            lines(b"\xEF\xBB\xBFa\n\nb\rc\nd", 10),
            expected,
            "a byte order mark"
        );
        assert_eq!(lines(b"", 10), []);
    }

    #[test]
    fn a_long_line_is_cut_and_the_next_one_is_whole() {
        assert_eq!(
            lines(b"abcdef\nxyz\n123456789", 4),
            [
                (b"abcd".to_vec(), 2),
                (b"xyz".to_vec(), 0),
                (b"1234".to_vec(), 5)
            ]
        );
        assert_eq!(lines(b"abcd\r\n", 4), [(b"abcd".to_vec(), 0)]);
        let mut input = Input::new(Box::new(io::repeat(b'x').take(50 << 20))).unwrap();
        assert_eq!(input.line(1000).unwrap().unwrap().cut, (50 << 20) - 1000);
        assert!(input.buffer.len() <= 2 * CHUNK);
    }

    #[test]
    fn gzip_is_told_by_its_content_also_of_several_members() {
        let mut bytes = zip(b"one\ntw");
        bytes.extend(zip(b"o\n"));
        assert_eq!(
            lines(&bytes, 10),
            [(b"one".to_vec(), 0), (b"two".to_vec(), 0)]
        );
        let plain = Input::new(Box::new(&b"one\ntwo\n"[..])).unwrap();
        let zipped = Input::new(Box::new(io::Cursor::new(bytes))).unwrap();
        assert_eq!(plain.id(7), zipped.id(7), "the content names it");
        assert_eq!(plain.id(7)[8..], [0, 0, 0, 0, 0, 0, 0, 7]);
    }

    #[test]
    fn a_torn_gzip_is_an_error_after_what_came_before() {
        let text: String = (0..200_000_u64)
            .map(|i| format!("line {}\n", i * i))
            .collect();
        let mut bytes = zip(text.as_bytes());
        bytes.truncate(bytes.len() - 100);
        let mut input = Input::new(Box::new(io::Cursor::new(bytes))).unwrap();
        let mut count = 0;
        let error = loop {
            match input.line(100) {
                Ok(line) => count += line.map(|_| 1).unwrap(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        assert!(count > 100_000, "{count} lines before the tear");
        assert!(input.unpacked() > 1_000_000);
    }

    proptest! {
        #[test]
        fn lines_are_those_of_the_content(
            content in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            max in 1..20_usize,
        ) {
            prop_assume!(!content.starts_with(&[0x1F, 0x8B]) && !content.starts_with(b"\xEF"));
            let mut expected: Vec<&[u8]> = content.split(|byte| *byte == b'\n').collect();
            if expected.last().is_some_and(|line| line.is_empty()) {
                expected.pop();
            }
            let got = lines(&content, max);
            prop_assert_eq!(got.len(), expected.len());
            for ((bytes, cut), expected) in got.iter().zip(expected) {
                if *cut == 0 {
                    prop_assert_eq!(&bytes[..], expected.strip_suffix(b"\r").unwrap_or(expected));
                } else {
                    prop_assert_eq!(&bytes[..], &expected[..max]);
                    prop_assert_eq!(max + *cut as usize, expected.len());
                }
            }
        }
    }
}
