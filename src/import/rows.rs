//! Rows of CSV and TSV as RFC 4180 has them: fields in quotes may hold delimiters, doubled quotes
//! and line ends. Every row comes with its bytes as they stood, so that a wrong one can be kept.
//!
//! One quote too many must not swallow the rest of a file. A row over several lines must be strictly
//! of that form and have the header's number of fields; if not, or if it is over the limit or its
//! quote is never closed, it is taken back and its lines are read each for itself. So each byte is
//! read at most three times, and memory is bounded by the limit. Rows of one line may be sloppy.

use std::io;

use csv_core::{ReadRecordResult, Reader, ReaderBuilder, Terminator};
use memchr::{memchr, memchr_iter};

use super::input::Input;

/// A row as it stood.
pub(super) struct Row<'a> {
    /// The line on which it begins, from 1.
    pub line: u64,
    /// Its bytes, without the last line end.
    pub raw: &'a [u8],
    /// Bytes left out of `raw`, for a line over the limit.
    pub cut: u64,
    /// Its fields, or why it has none.
    pub fields: Result<Fields<'a>, String>,
}

/// The fields of a row.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    bytes: &'a [u8],
    ends: &'a [usize],
}

impl<'a> Fields<'a> {
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    pub fn get(&self, i: usize) -> Option<&'a [u8]> {
        let start = if i == 0 { 0 } else { *self.ends.get(i - 1)? };
        self.bytes.get(start..*self.ends.get(i)?)
    }
}

/// Where the scan of one row ended.
enum Scan {
    Row,
    /// A quote is open at the end of what there is.
    Open,
    Long,
}

/// Reads rows from an input.
pub(super) struct Rows {
    core: Reader,
    delimiter: u8,
    quote: Option<u8>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    filled: usize,
    count: usize,
    /// How many fields a row must have, once the first one is read.
    width: Option<usize>,
    line: u64,
    blank: u64,
    /// Up to this place in the content, a row is one line.
    confined: u64,
}

impl Rows {
    pub fn new(delimiter: u8, quote: Option<u8>) -> Rows {
        let mut builder = ReaderBuilder::new();
        // Only `\n` ends a row, so that rows and lines are counted alike; the `\r` is taken off below.
        builder
            .delimiter(delimiter)
            .terminator(Terminator::Any(b'\n'));
        match quote {
            Some(quote) => builder.quote(quote),
            None => builder.quoting(false),
        };
        Rows {
            core: builder.build(),
            delimiter,
            quote,
            bytes: vec![0; 1024],
            ends: vec![0; 32],
            filled: 0,
            count: 0,
            width: None,
            line: 1,
            blank: 0,
            confined: 0,
        }
    }

    /// Says how many fields a row must have; the first row says it otherwise.
    pub fn set_width(&mut self, width: usize) {
        self.width = Some(width);
    }

    /// Blank lines so far.
    pub fn blank(&self) -> u64 {
        self.blank
    }

    /// The line that is read next, from 1.
    pub fn line(&self) -> u64 {
        self.line
    }

    /// The next row, of at most `max` bytes.
    pub fn next<'a>(&'a mut self, input: &'a mut Input, max: usize) -> io::Result<Option<Row<'a>>> {
        loop {
            self.skip_blank(input)?;
            if input.window().is_empty() && !input.more()? {
                return Ok(None);
            }
            if input.offset() < self.confined {
                return self.next_line(input, max).map(Some);
            }
            let (scan, len) = self.scan(input, max)?;
            let raw = &input.window()[..len];
            let lines = memchr_iter(b'\n', raw).count() as u64;
            let several = memchr(b'\n', raw).is_some_and(|first| first + 1 < raw.len());
            let width = self.width.is_none_or(|width| width == self.count);
            let right = !several || (width && strict(raw, self.delimiter, self.quote));
            if !matches!(scan, Scan::Row) || !right {
                self.confined = input.offset() + len.max(1) as u64;
                continue;
            }
            let line = self.line;
            self.line += lines;
            let width = *self.width.get_or_insert(self.count);
            input.consume(len);
            let raw = input.consumed(len);
            let raw = raw.strip_suffix(b"\n").unwrap_or(raw);
            return Ok(Some(Row {
                line,
                raw: raw.strip_suffix(b"\r").unwrap_or(raw),
                cut: 0,
                fields: self.fields(width),
            }));
        }
    }

    /// One line as a row.
    fn next_line<'a>(&'a mut self, input: &'a mut Input, max: usize) -> io::Result<Row<'a>> {
        let line = self.line;
        self.line += 1;
        let Some(taken) = input.line(max)? else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        self.begin();
        let fields = if taken.cut > 0 {
            Err(format!("a row of over {max} bytes"))
        } else if self.feed(taken.bytes).0 || self.feed(b"\n").0 {
            let width = *self.width.get_or_insert(self.count);
            self.fields(width)
        } else {
            Err("a quote that is not closed".to_owned())
        };
        Ok(Row {
            line,
            raw: taken.bytes,
            cut: taken.cut,
            fields,
        })
    }

    fn fields(&mut self, width: usize) -> Result<Fields<'_>, String> {
        if self.count != width {
            return Err(format!("{} fields, expected {width}", self.count));
        }
        // The carriage return before a line's end, which stands in the last field.
        let last = self.count - 1;
        let start = if last == 0 { 0 } else { self.ends[last - 1] };
        if self.bytes[start..self.ends[last]].ends_with(b"\r") {
            self.ends[last] -= 1;
        }
        Ok(Fields {
            bytes: &self.bytes,
            ends: &self.ends[..self.count],
        })
    }

    fn skip_blank(&mut self, input: &mut Input) -> io::Result<()> {
        loop {
            let end = match input.window() {
                [b'\n', ..] => 1,
                [b'\r', b'\n', ..] => 2,
                [] | [b'\r'] => {
                    if input.more()? {
                        continue;
                    }
                    input.window().len()
                }
                _ => 0,
            };
            if end == 0 {
                return Ok(());
            }
            input.consume(end);
            self.line += 1;
            self.blank += 1;
        }
    }

    fn begin(&mut self) {
        self.core.reset();
        // A blank line, which is no row: a reader that has read nothing yet would take a byte order mark
        // off each row. The input's own is gone already, and any other is a field's bytes.
        self.core.read_record(b"\n", &mut [0], &mut [0]);
        self.filled = 0;
        self.count = 0;
    }

    /// Reads one row from the window; gives its length with its line end.
    fn scan(&mut self, input: &mut Input, max: usize) -> io::Result<(Scan, usize)> {
        self.begin();
        let mut fed = 0;
        loop {
            let (done, read) = self.feed(&input.window()[fed..]);
            fed += read;
            if done {
                // A longer row that came in one piece is as long as one that did not.
                let scan = if fed > max + 2 { Scan::Long } else { Scan::Row };
                return Ok((scan, fed));
            }
            if fed > max + 2 {
                return Ok((Scan::Long, fed));
            }
            if !input.more()? {
                // The last line's end, where there is none; inside of quotes it ends nothing.
                let scan = if self.feed(b"\n").0 {
                    Scan::Row
                } else {
                    Scan::Open
                };
                return Ok((scan, fed));
            }
        }
    }

    /// Reads on; says whether the row is whole, and how many bytes were read.
    fn feed(&mut self, bytes: &[u8]) -> (bool, usize) {
        let mut read = 0;
        while read < bytes.len() {
            let (result, used, filled, count) = self.core.read_record(
                &bytes[read..],
                &mut self.bytes[self.filled..],
                &mut self.ends[self.count..],
            );
            read += used;
            self.filled += filled;
            self.count += count;
            match result {
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::OutputFull => self.bytes.resize(2 * self.bytes.len(), 0),
                ReadRecordResult::OutputEndsFull => self.ends.resize(2 * self.ends.len(), 0),
                ReadRecordResult::Record | ReadRecordResult::End => return (true, read),
            }
        }
        (false, read)
    }
}

/// Whether a quote stands at a field's start and end only, or is doubled.
fn strict(row: &[u8], delimiter: u8, quote: Option<u8>) -> bool {
    let Some(quote) = quote else {
        return true;
    };
    let end = |rest: &[u8]| matches!(rest, [] | [b'\n', ..] | [b'\r', b'\n', ..]);
    let mut rest = row;
    let (mut start, mut open) = (true, false);
    while let [byte, tail @ ..] = rest {
        rest = tail;
        if *byte != quote {
            start = *byte == delimiter;
        } else if !open {
            if !start {
                return false;
            }
            open = true;
        } else if tail.first() == Some(&quote) {
            rest = &tail[1..];
        } else if tail.first() == Some(&delimiter) || end(tail) {
            open = false;
            start = false;
        } else {
            return false;
        }
    }
    !open
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::input::tests::Pieces;
    use super::*;

    fn read(text: &[u8], max: usize) -> Vec<(u64, Result<Vec<String>, String>)> {
        let mut input = Input::new(Box::new(Pieces(text.to_vec(), 0))).unwrap();
        let mut rows = Rows::new(b',', Some(b'"'));
        let mut all = Vec::new();
        while let Some(row) = rows.next(&mut input, max).unwrap() {
            let fields = row.fields.map(|fields| {
                (0..fields.len())
                    .map(|i| String::from_utf8_lossy(fields.get(i).unwrap()).into_owned())
                    .collect()
            });
            all.push((row.line, fields));
        }
        all
    }

    fn good(rows: Vec<(u64, Result<Vec<String>, String>)>) -> Vec<(u64, String)> {
        let join = |fields: Vec<String>| fields.join("|");
        rows.into_iter()
            .map(|(line, fields)| (line, fields.map(join).unwrap_or_else(|e| e)))
            .collect()
    }

    fn expect(rows: &[(u64, &str)]) -> Vec<(u64, String)> {
        rows.iter()
            .map(|(line, row)| (*line, (*row).to_owned()))
            .collect()
    }

    #[test]
    fn rows_are_those_of_rfc_4180() {
        assert_eq!(
            good(read(b"a,b\r\n1,\"x, \"\"y\"\"\nz\"\r\n\r\n,\n\"3\",4", 100)),
            expect(&[(1, "a|b"), (2, "1|x, \"y\"\nz"), (5, "|"), (6, "3|4")])
        );
        assert!(read(b"", 100).is_empty());
        assert!(read(b"\n\r\n\r", 100).is_empty());
    }

    #[test]
    fn only_the_first_byte_order_mark_is_none_of_the_content() {
        assert_eq!(
            good(read("\u{feff}a,b\n\u{feff}1,\u{feff}\n".as_bytes(), 100)),
            expect(&[(1, "a|b"), (2, "\u{feff}1|\u{feff}")])
        );
        assert_eq!(
            good(read("\u{feff}\u{feff}".as_bytes(), 100)),
            expect(&[(1, "\u{feff}")])
        );
    }

    #[test]
    fn a_row_of_another_width_is_wrong() {
        assert_eq!(
            good(read(b"a,b\n1\n1,2,3\n1,2\n", 100)),
            expect(&[
                (1, "a|b"),
                (2, "1 fields, expected 2"),
                (3, "3 fields, expected 2"),
                (4, "1|2")
            ])
        );
    }

    #[test]
    fn a_quote_that_is_not_closed_costs_its_own_line_only() {
        let open = "a quote that is not closed";
        assert_eq!(
            good(read(b"a,b\n1,\"2\n3,4\n5,\"6\"\n7,8", 100)),
            expect(&[(1, "a|b"), (2, open), (3, "3|4"), (4, "5|6"), (5, "7|8")])
        );
        let long = format!("a,b\n1,\"2\n{}", "3,4\n".repeat(100));
        let rows = read(long.as_bytes(), 50);
        assert_eq!(rows.len(), 102);
        assert_eq!(rows.iter().filter(|row| row.1.is_err()).count(), 1);
    }

    #[test]
    fn a_line_over_the_limit_is_wrong_and_the_next_one_is_read() {
        let text = format!("a,b\n1,{}\n3,4\n", "x".repeat(500));
        assert_eq!(
            good(read(text.as_bytes(), 20)),
            expect(&[(1, "a|b"), (2, "a row of over 20 bytes"), (3, "3|4")])
        );
    }

    proptest! {
        #[test]
        fn what_is_written_as_csv_is_read_back(
            rows in proptest::collection::vec(
                proptest::collection::vec("[a\",\n é]{0,5}", 3), 1..10)
        ) {
            let mut text = String::new();
            for row in &rows {
                let fields: Vec<_> =
                    row.iter().map(|field| format!("\"{}\"", field.replace('"', "\"\""))).collect();
                text += &format!("{}\n", fields.join(","));
            }
            let got: Vec<_> = read(text.as_bytes(), 1000).into_iter().map(|r| r.1.unwrap()).collect();
            prop_assert_eq!(got, rows);
        }

        #[test]
        fn no_content_makes_a_panic_and_no_line_is_lost(
            text in "[a\",\n\r\u{feff}]{0,200}", max in 1..50_usize
        ) {
            let mut input = Input::new(Box::new(Pieces(text.clone().into_bytes(), 0))).unwrap();
            let mut rows = Rows::new(b',', Some(b'"'));
            let mut kept = 0;
            while let Some(row) = rows.next(&mut input, max).unwrap() {
                kept += row.raw.len() + row.cut as usize;
            }
            let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
            let ends = text.bytes().filter(|b| matches!(b, b'\n' | b'\r')).count();
            prop_assert!(kept + ends >= text.len(), "{} of {}", kept, text.len());
            prop_assert!(rows.line() >= text.lines().count() as u64);
        }
    }
}
