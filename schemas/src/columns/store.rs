//! What columns are made of while they grow: plain vectors of one type each, addressed by number.
//! A null costs four bytes and a value none, as nulls are kept by their positions. Every length
//! follows from the one above it (a struct's from its record, an item's from its list's last
//! offset), so that a row can be taken back without having noted where it began.

use arrow_buffer::{BooleanBuffer, Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};

/// A column cannot take more: its offsets have 31 bits.
#[derive(Debug)]
pub(super) struct Full;

/// Which store: its type and its number among those of the type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum StoreRef {
    Flag(u32),
    Int(u32),
    Long(u32),
    Float(u32),
    Double(u32),
    Decimal(u32),
    Text(u32),
    Fixed(u32),
    List(u32),
    Group(u32),
}

#[derive(Clone, Default)]
pub(super) struct Stores {
    pub flags: Vec<Values<bool>>,
    pub ints: Vec<Values<i32>>,
    pub longs: Vec<Values<i64>>,
    pub floats: Vec<Values<f32>>,
    pub doubles: Vec<Values<f64>>,
    pub decimals: Vec<Values<i128>>,
    pub texts: Vec<Texts>,
    pub fixeds: Vec<Fixeds>,
    pub lists: Vec<Lists>,
    pub groups: Vec<Group>,
}

impl Stores {
    /// One more entry that is not there: null, or anything where a null is above it.
    #[inline]
    pub fn absent(&mut self, store: StoreRef) {
        match store {
            StoreRef::Flag(at) => self.flags[at as usize].absent(),
            StoreRef::Int(at) => self.ints[at as usize].absent(),
            StoreRef::Long(at) => self.longs[at as usize].absent(),
            StoreRef::Float(at) => self.floats[at as usize].absent(),
            StoreRef::Double(at) => self.doubles[at as usize].absent(),
            StoreRef::Decimal(at) => self.decimals[at as usize].absent(),
            StoreRef::Text(at) => self.texts[at as usize].absent(),
            StoreRef::Fixed(at) => self.fixeds[at as usize].absent(),
            StoreRef::List(at) => self.lists[at as usize].absent(),
            StoreRef::Group(at) => self.groups[at as usize].absent(),
        }
    }

    /// One more entry of which nothing can be said but that it is there.
    #[inline]
    pub fn present(&mut self, store: StoreRef) {
        match store {
            StoreRef::Flag(at) => self.flags[at as usize].push(true),
            StoreRef::Group(at) => self.groups[at as usize].len += 1,
            _ => unreachable!("only flags and groups stand for presence"),
        }
    }

    /// Forgets what comes after the first `len` entries.
    pub fn truncate(&mut self, store: StoreRef, len: usize) {
        match store {
            StoreRef::Flag(at) => self.flags[at as usize].truncate(len),
            StoreRef::Int(at) => self.ints[at as usize].truncate(len),
            StoreRef::Long(at) => self.longs[at as usize].truncate(len),
            StoreRef::Float(at) => self.floats[at as usize].truncate(len),
            StoreRef::Double(at) => self.doubles[at as usize].truncate(len),
            StoreRef::Decimal(at) => self.decimals[at as usize].truncate(len),
            StoreRef::Text(at) => self.texts[at as usize].truncate(len),
            StoreRef::Fixed(at) => self.fixeds[at as usize].truncate(len),
            StoreRef::List(at) => self.lists[at as usize].truncate(len),
            StoreRef::Group(at) => self.groups[at as usize].truncate(len),
        }
    }

    /// Bytes held.
    pub fn size(&self) -> usize {
        let flags: usize = self.flags.iter().map(Values::size).sum();
        let ints: usize = self.ints.iter().map(Values::size).sum();
        let longs: usize = self.longs.iter().map(Values::size).sum();
        let floats: usize = self.floats.iter().map(Values::size).sum();
        let doubles: usize = self.doubles.iter().map(Values::size).sum();
        let decimals: usize = self.decimals.iter().map(Values::size).sum();
        let texts: usize = self.texts.iter().map(Texts::size).sum();
        let fixeds: usize = self.fixeds.iter().map(Fixeds::size).sum();
        let lists: usize = self.lists.iter().map(Lists::size).sum();
        let groups: usize = self.groups.iter().map(|g| 4 * g.nulls.at.len()).sum();
        flags + ints + longs + floats + doubles + decimals + texts + fixeds + lists + groups
    }
}

/// The positions of nulls, ascending.
#[derive(Clone, Default)]
pub(super) struct Nulls {
    allowed: bool,
    at: Vec<u32>,
}

impl Nulls {
    pub fn new(allowed: bool) -> Self {
        Nulls {
            allowed,
            at: vec![],
        }
    }

    #[inline]
    fn push(&mut self, at: usize) {
        if self.allowed {
            self.at.push(at as u32);
        }
    }

    fn truncate(&mut self, len: usize) {
        while self.at.last().is_some_and(|at| *at as usize >= len) {
            self.at.pop();
        }
    }

    fn finish(&mut self, len: usize) -> Option<NullBuffer> {
        if self.at.is_empty() {
            return None;
        }
        let mut bits = vec![0xFF_u8; len.div_ceil(8)];
        for at in &self.at {
            bits[*at as usize / 8] &= !(1 << (at % 8));
        }
        let nulls = NullBuffer::new(BooleanBuffer::new(Buffer::from_vec(bits), 0, len));
        self.at.clear();
        Some(nulls)
    }
}

/// Values of one size.
#[derive(Clone, Default)]
pub(super) struct Values<T> {
    values: Vec<T>,
    nulls: Nulls,
}

impl<T: Copy + Default> Values<T> {
    pub fn new(nullable: bool) -> Self {
        Values {
            values: vec![],
            nulls: Nulls::new(nullable),
        }
    }

    #[inline]
    pub fn push(&mut self, value: T) {
        self.values.push(value);
    }

    #[inline]
    fn absent(&mut self) {
        self.nulls.push(self.values.len());
        self.values.push(T::default());
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.nulls.truncate(len);
    }

    fn size(&self) -> usize {
        size_of_val(&self.values[..]) + 4 * self.nulls.at.len()
    }

    /// All of them; the next ones find as much room as these took.
    pub fn finish(&mut self) -> (Vec<T>, Option<NullBuffer>) {
        let nulls = self.nulls.finish(self.values.len());
        (renew(&mut self.values), nulls)
    }
}

/// Texts or bytes, one after another.
#[derive(Clone)]
pub(super) struct Texts {
    offsets: Vec<i32>,
    values: Vec<u8>,
    nulls: Nulls,
}

impl Texts {
    pub fn new(nullable: bool) -> Self {
        Texts {
            offsets: vec![0],
            values: vec![],
            nulls: Nulls::new(nullable),
        }
    }

    #[inline]
    pub fn push(&mut self, value: &[u8]) -> Result<(), Full> {
        let end = i32::try_from(self.values.len() + value.len()).map_err(|_| Full)?;
        self.values.extend_from_slice(value);
        self.offsets.push(end);
        Ok(())
    }

    #[inline]
    pub fn absent(&mut self) {
        self.nulls.push(self.offsets.len() - 1);
        self.offsets.push(self.values.len() as i32);
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.values.truncate(last(&self.offsets) as usize);
        self.nulls.truncate(len);
    }

    fn size(&self) -> usize {
        self.values.len() + 4 * (self.offsets.len() + self.nulls.at.len())
    }

    pub fn finish(&mut self) -> (OffsetBuffer<i32>, Buffer, Option<NullBuffer>) {
        let nulls = self.nulls.finish(self.offsets.len() - 1);
        let values = renew(&mut self.values);
        (offsets(&mut self.offsets), Buffer::from_vec(values), nulls)
    }
}

/// Byte strings of one length, which is not 0.
#[derive(Clone)]
pub(super) struct Fixeds {
    size: usize,
    values: Vec<u8>,
    nulls: Nulls,
}

impl Fixeds {
    pub fn new(size: usize, nullable: bool) -> Self {
        Fixeds {
            size,
            values: vec![],
            nulls: Nulls::new(nullable),
        }
    }

    /// `value` has the store's size.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        debug_assert_eq!(value.len(), self.size);
        self.values.extend_from_slice(value);
    }

    #[inline]
    fn absent(&mut self) {
        self.nulls.push(self.values.len() / self.size);
        self.values.resize(self.values.len() + self.size, 0);
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len * self.size);
        self.nulls.truncate(len);
    }

    fn size(&self) -> usize {
        self.values.len() + 4 * self.nulls.at.len()
    }

    pub fn finish(&mut self) -> (Buffer, Option<NullBuffer>) {
        let nulls = self.nulls.finish(self.values.len() / self.size);
        (Buffer::from_vec(renew(&mut self.values)), nulls)
    }
}

/// Where lists and maps end among their items.
#[derive(Clone)]
pub(super) struct Lists {
    offsets: Vec<i32>,
    nulls: Nulls,
}

impl Lists {
    pub fn new(nullable: bool) -> Self {
        Lists {
            offsets: vec![0],
            nulls: Nulls::new(nullable),
        }
    }

    #[inline]
    pub fn push(&mut self, items: usize) -> Result<(), Full> {
        let end = i32::try_from(last(&self.offsets) as usize + items).map_err(|_| Full)?;
        self.offsets.push(end);
        Ok(())
    }

    #[inline]
    fn absent(&mut self) {
        self.nulls.push(self.offsets.len() - 1);
        self.offsets.push(last(&self.offsets));
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.nulls.truncate(len);
    }

    /// How many items the lists hold together.
    pub fn items(&self) -> usize {
        last(&self.offsets) as usize
    }

    fn size(&self) -> usize {
        4 * (self.offsets.len() + self.nulls.at.len())
    }

    pub fn finish(&mut self) -> (OffsetBuffer<i32>, Option<NullBuffer>) {
        let nulls = self.nulls.finish(self.offsets.len() - 1);
        (offsets(&mut self.offsets), nulls)
    }
}

/// Which of a row of structs are there.
#[derive(Clone, Default)]
pub(super) struct Group {
    len: usize,
    nulls: Nulls,
}

impl Group {
    pub fn new() -> Self {
        Group {
            len: 0,
            nulls: Nulls::new(true),
        }
    }

    fn absent(&mut self) {
        self.nulls.push(self.len);
        self.len += 1;
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.nulls.truncate(len);
    }

    pub fn finish(&mut self) -> Option<NullBuffer> {
        let len = std::mem::take(&mut self.len);
        self.nulls.finish(len)
    }
}

/// Offsets always begin with 0.
#[inline]
fn last(offsets: &[i32]) -> i32 {
    offsets.last().copied().unwrap_or(0)
}

fn renew<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

fn offsets(offsets: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let full = renew(offsets);
    offsets.push(0);
    OffsetBuffer::new(ScalarBuffer::from(full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_are_where_they_were_put_and_nowhere_else() {
        let mut ints = Values::<i32>::new(true);
        for i in 0..20 {
            if i % 7 == 3 {
                ints.absent()
            } else {
                ints.push(i)
            }
        }
        ints.truncate(17);
        let (values, nulls) = ints.finish();
        let nulls = nulls.unwrap();
        assert_eq!((values.len(), nulls.len(), nulls.null_count()), (17, 17, 2));
        assert!(nulls.is_null(3) && nulls.is_null(10) && nulls.is_valid(16));
        ints.push(1);
        assert!(ints.finish().1.is_none());
    }

    #[test]
    fn texts_are_taken_back_with_their_bytes() {
        let mut texts = Texts::new(true);
        texts.push(b"one").unwrap();
        texts.absent();
        texts.push(b"three").unwrap();
        texts.truncate(2);
        texts.push(b"3").unwrap();
        let (offsets, values, nulls) = texts.finish();
        assert_eq!(&offsets[..], [0, 3, 3, 4]);
        assert_eq!(values.as_slice(), b"one3");
        assert!(nulls.unwrap().is_null(1));
    }
}
