//! A place in a body: Avro's primitive forms, read and checked. Never panics and never allocates
//! but for an error; what it lends lies in the body.

use thiserror::Error;

/// Items without a byte of their own (nulls, empty records) that one body may hold. Their number
/// costs a writer nothing, so that a body of ten bytes could ask for 2^62 of them.
pub const MAX_EMPTY_ITEMS: u32 = 1024;

/// Why a body was not taken. Nothing of it is left in the columns.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("at {path}, byte {at} of the body: {what}")]
pub struct BodyError {
    /// Where in the reader's schema, `order.lines[].price`; `#3` is the fourth field of the
    /// writer's record when the reader does not have it.
    pub path: String,
    /// How many bytes of the body had been read.
    pub at: usize,
    /// What is wrong.
    pub what: Broken,
}

/// What is wrong with a body at one place.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Broken {
    /// It ends too early.
    #[error("{left} bytes are left, expected {expected}")]
    Ended {
        /// Bytes left.
        left: usize,
        /// Bytes that were to come.
        expected: u64,
    },
    /// It goes on after its end.
    #[error("{0} bytes follow, expected the end of the body")]
    Trailing(usize),
    /// A varint of more than 64 bits.
    #[error("a number of more than 64 bits")]
    Varint,
    /// An `int` of more than 32 bits.
    #[error("{0} as an int, expected 32 bits")]
    Int(i64),
    /// A negative length.
    #[error("a length of {0}")]
    Length(i64),
    /// A block whose length in bytes is not that of its items.
    #[error("a block of {said} bytes by its own word, its items have {found}")]
    Block {
        /// What stands before the items.
        said: i64,
        /// What the items have.
        found: usize,
    },
    /// Too many items without bytes.
    #[error("more than {MAX_EMPTY_ITEMS} items without a byte of their own")]
    EmptyItems,
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Utf8,
    /// A boolean that is neither.
    #[error("{0} as a boolean, expected 0 or 1")]
    Boolean(u8),
    /// A branch that the writer's union does not have.
    #[error("branch {found} of a union of {branches}")]
    Branch {
        /// The index.
        found: i64,
        /// How many there are.
        branches: usize,
    },
    /// A symbol that the writer's enum does not have.
    #[error("symbol {found} of an enum of {symbols}")]
    Symbol {
        /// The index.
        found: i64,
        /// How many there are.
        symbols: usize,
    },
    /// A symbol that the reader's enum does not have.
    #[error(
        "symbol {0} of the writer's enum, which the reader has not and for which it has no default"
    )]
    UnknownSymbol(usize),
    /// A value for which the reader has no place.
    #[error("{0}")]
    Refused(String),
    /// A time too far from 1970 for 64 bits of microseconds.
    #[error("the time {0}, expected one that fits into 64 bits of microseconds")]
    Time(i64),
    /// A decimal of too many digits.
    #[error("a decimal of more than {0} digits")]
    Decimal(u8),
    /// Not the body's fault: a column holds 2^31 bytes or items. Finish the columns, append again.
    #[error(
        "the columns are full (2^31 bytes or items in one of them), expected to be finished before"
    )]
    Full,
}

/// On the way out of the walk: boxed, so that the good way stays cheap.
pub(super) type Fault = Box<BodyError>;

pub(super) struct Cursor<'a> {
    rest: &'a [u8],
    len: usize,
    empty_items: u32,
}

impl<'a> Cursor<'a> {
    pub fn new(body: &'a [u8]) -> Self {
        Cursor {
            rest: body,
            len: body.len(),
            empty_items: 0,
        }
    }

    pub fn at(&self) -> usize {
        self.len - self.rest.len()
    }

    #[cold]
    pub fn fault(&self, what: Broken) -> Fault {
        Box::new(BodyError {
            path: String::new(),
            at: self.at(),
            what,
        })
    }

    #[cold]
    fn ended(&self, expected: u64) -> Fault {
        self.fault(Broken::Ended {
            left: self.rest.len(),
            expected,
        })
    }

    pub fn end(&self) -> Result<(), Fault> {
        match self.rest.len() {
            0 => Ok(()),
            more => Err(self.fault(Broken::Trailing(more))),
        }
    }

    #[inline]
    pub fn long(&mut self) -> Result<i64, Fault> {
        match self.rest {
            [byte, rest @ ..] if *byte < 0x80 => {
                self.rest = rest;
                Ok(unzigzag((*byte).into()))
            }
            _ => self.longer(),
        }
    }

    fn longer(&mut self) -> Result<i64, Fault> {
        let mut value = 0;
        for (i, byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && *byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7F) << (7 * i);
            if *byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(unzigzag(value));
            }
        }
        if self.rest.len() < 10 {
            return Err(self.ended(self.rest.len() as u64 + 1));
        }
        Err(self.fault(Broken::Varint))
    }

    #[inline]
    pub fn int(&mut self) -> Result<i32, Fault> {
        let long = self.long()?;
        i32::try_from(long).map_err(|_| self.fault(Broken::Int(long)))
    }

    #[inline]
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Fault> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.ended(len as u64)),
        }
    }

    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<&'a [u8; N], Fault> {
        match self.rest.split_first_chunk() {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => Err(self.ended(N as u64)),
        }
    }

    /// A length, then as many bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], Fault> {
        let len = self.long()?;
        match usize::try_from(len) {
            Ok(len) => self.take(len),
            Err(_) if len < 0 => Err(self.fault(Broken::Length(len))),
            Err(_) => Err(self.ended(len as u64)),
        }
    }

    /// Bytes that are UTF-8.
    #[inline(always)]
    pub fn text(&mut self) -> Result<&'a [u8], Fault> {
        let bytes = self.bytes()?;
        if is_ascii(bytes) || std::str::from_utf8(bytes).is_ok() {
            Ok(bytes)
        } else {
            Err(self.fault(Broken::Utf8))
        }
    }

    #[inline]
    pub fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            [other] => Err(self.fault(Broken::Boolean(*other))),
        }
    }

    /// The blocks of an array or a map; how many items there were. `item` reads one of them.
    #[inline]
    pub fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), Fault>,
    ) -> Result<usize, Fault> {
        let mut items = 0;
        loop {
            let mut count = self.long()?;
            if count == 0 {
                return Ok(items);
            }
            let mut said = None;
            if count < 0 {
                count = count
                    .checked_neg()
                    .ok_or_else(|| self.fault(Broken::Length(count)))?;
                said = Some((self.long()?, self.rest.len()));
            }
            for _ in 0..count {
                let before = self.rest.len();
                item(self)?;
                if self.rest.len() == before {
                    self.empty_items += 1;
                    if self.empty_items > MAX_EMPTY_ITEMS {
                        return Err(self.fault(Broken::EmptyItems));
                    }
                }
                items += 1;
            }
            if let Some((said, before)) = said {
                let found = before - self.rest.len();
                if usize::try_from(said) != Ok(found) {
                    return Err(self.fault(Broken::Block { said, found }));
                }
            }
        }
    }
}

/// Most texts are ASCII and a few words long: for those this is several times faster than asking
/// the standard library, which is made for long ones.
#[inline(always)]
fn is_ascii(bytes: &[u8]) -> bool {
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let bits = if let Some(last) = bytes.last_chunk::<8>() {
        // The last word overlaps the one before it.
        let mut bits = u64::from_ne_bytes(*last);
        let mut rest = bytes;
        while let Some((word, more)) = rest.split_first_chunk::<8>() {
            bits |= u64::from_ne_bytes(*word);
            rest = more;
        }
        bits
    } else if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        u64::from(u32::from_ne_bytes(*first) | u32::from_ne_bytes(*last))
    } else {
        bytes.iter().fold(0, |bits, byte| bits | u64::from(*byte))
    };
    bits & HIGH == 0
}

#[inline]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longs_come_back_as_they_were_written() {
        for value in [0, -1, 1, 63, 64, -64, -65, 1 << 40, i64::MAX, i64::MIN] {
            let mut body = vec![];
            crate::encode::long(value, &mut body);
            let mut cursor = Cursor::new(&body);
            assert_eq!(cursor.long().unwrap(), value);
            assert!(cursor.end().is_ok());
            for cut in 0..body.len() {
                let error = Cursor::new(&body[..cut]).long().unwrap_err();
                assert!(matches!(error.what, Broken::Ended { .. }), "{error}");
            }
        }
    }

    #[test]
    fn a_number_of_more_bits_than_a_long_is_refused() {
        let mut body = [0x80; 11];
        body[9] = 2;
        let what = |body: &[u8]| Cursor::new(body).long().unwrap_err().what;
        assert_eq!(what(&body), Broken::Varint);
        assert_eq!(what(&[0xFF; 10]), Broken::Varint);
        assert_eq!(what(&[0xFF; 30]), Broken::Varint);
    }

    #[test]
    fn ascii_is_told_from_the_rest_at_every_length_and_place() {
        for len in 0..70 {
            let mut bytes = vec![b'a'; len];
            assert!(is_ascii(&bytes));
            for at in 0..len {
                bytes[at] = 0x80;
                assert!(!is_ascii(&bytes), "{len} {at}");
                bytes[at] = 0x7F;
            }
        }
    }

    #[test]
    fn items_of_no_bytes_are_counted_and_bounded() {
        let blocks = |count| {
            let mut body = vec![];
            crate::encode::long(count, &mut body);
            body.push(0);
            Cursor::new(&body).blocks(|_| Ok(())).map_err(|e| e.what)
        };
        assert_eq!(blocks(1024), Ok(1024));
        assert_eq!(blocks(1025), Err(Broken::EmptyItems));
        assert_eq!(blocks(i64::MAX), Err(Broken::EmptyItems));
        assert_eq!(blocks(i64::MIN), Err(Broken::Length(i64::MIN)));
    }

    #[test]
    fn a_block_that_lies_about_its_length_is_refused() {
        let item = |cursor: &mut Cursor| cursor.long().map(|_| ());
        assert_eq!(Cursor::new(&[3, 4, 2, 2, 0]).blocks(item), Ok(2));
        let error = Cursor::new(&[3, 2, 2, 2, 0]).blocks(item).unwrap_err();
        assert_eq!(error.what, Broken::Block { said: 1, found: 2 });
    }
}
