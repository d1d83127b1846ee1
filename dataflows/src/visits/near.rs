//! Brings memory near before it is used, so that the processor waits for many places at once.

/// Begins to load the line of the cache in which this begins. A hint: it changes nothing but time.
#[inline(always)]
pub fn bring<T>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: needs SSE, which every x86-64 has. The instruction reads nothing that the program
        // could see, and faults at no address; this one is of a live value besides.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(value).cast()) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    std::hint::black_box(value);
}
