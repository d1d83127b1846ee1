//! Brings memory near before it is used, so that the processor waits for many places at once.

use std::ops::Range;

/// So many bytes come together.
const LINE: usize = 64;

/// Begins to load the line of the cache in which this begins. A hint: it changes nothing but time.
#[inline(always)]
pub fn bring<T>(value: &T) {
    bring_at(value);
}

/// Begins to load all that this is itself, but for what it points to.
#[inline(always)]
pub fn bring_all<T>(value: &T) {
    let (bytes, lines) = (
        std::ptr::from_ref(value).cast::<[u8; LINE]>(),
        size_of::<T>() / LINE,
    );
    for line in 0..=lines {
        bring_at(bytes.wrapping_add(line));
    }
}

/// Begins to load a part of what this is itself: those of its bytes.
#[inline(always)]
pub fn bring_part<T>(value: &T, bytes: Range<usize>) {
    let own = std::ptr::from_ref(value).cast::<u8>();
    let last = bytes.end.saturating_sub(1);
    for byte in bytes.step_by(LINE) {
        bring_at(own.wrapping_add(byte));
    }
    bring_at(own.wrapping_add(last));
}

/// Begins to load where a list ends, behind which more comes.
#[inline(always)]
pub fn bring_end<T>(list: &[T]) {
    bring_at(list.as_ptr_range().end);
}

/// So many bytes of a list are begun to be loaded at most.
const MOST: usize = 512;

/// Begins to load this list, the first lines of it if they are many.
#[inline(always)]
pub fn bring_list<T>(list: &[T]) {
    let first = list.as_ptr().cast::<u8>();
    for byte in (0..size_of_val(list).min(MOST)).step_by(LINE) {
        bring_at(first.wrapping_add(byte));
    }
}

/// Bytes that are gone through from one end to the other, in steps of which nobody knows the next one.
pub struct Ahead<'a> {
    bytes: &'a [u8],
    /// What lies before this is begun to be loaded.
    until: usize,
}

impl<'a> Ahead<'a> {
    /// Of these bytes nothing is near yet.
    pub fn of(bytes: &'a [u8]) -> Ahead<'a> {
        Ahead { bytes, until: 0 }
    }

    /// Begins to load what follows this place.
    #[inline(always)]
    pub fn bring(&mut self, at: usize) {
        const AHEAD: usize = 4096;
        let until = (at + AHEAD).min(self.bytes.len());
        let from = self.until.max(at).min(until);
        for line in self.bytes[from..until].chunks(LINE) {
            bring_at(line.as_ptr());
        }
        self.until = self.until.max(until);
    }
}

#[inline(always)]
fn bring_at<T>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: needs SSE, which every x86-64 has. The instruction reads nothing that the program
        // could see, and faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(at);
}
