//! Brings memory near before it is used, so that the processor waits for many places at once.

/// Begins to load the line of the cache in which this begins. A hint: it changes nothing but time.
#[inline(always)]
pub fn bring<T>(value: &T) {
    bring_at(value);
}

/// Begins to load all that this is itself, but for what it points to.
#[inline(always)]
pub fn bring_all<T>(value: &T) {
    const LINE: usize = 64;
    let (bytes, lines) = (
        std::ptr::from_ref(value).cast::<[u8; LINE]>(),
        size_of::<T>() / LINE,
    );
    for line in 0..=lines {
        bring_at(bytes.wrapping_add(line));
    }
}

/// Begins to load where a list ends, behind which more comes.
#[inline(always)]
pub fn bring_end<T>(list: &[T]) {
    bring_at(list.as_ptr_range().end);
}

/// Begins to load these bytes, the first lines of them if they are many.
#[inline(always)]
pub fn bring_bytes(bytes: &[u8]) {
    const MOST: usize = 512;
    for line in bytes[..bytes.len().min(MOST)].chunks(64) {
        bring_at(line.as_ptr());
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
