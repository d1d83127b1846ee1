//! How the allocator deals with the memory that is free: a job's operators take much of it at the end of
//! each step and give it back, so that it is wanted again at the next. Left alone, mimalloc returns it to
//! the system within a second, which then clears it anew: with views, a tenth of a job's time.

use std::ffi::{c_int, c_long};

// For the function below to be linked.
use mimalloc as _;

/// The place of `mi_option_purge_delay` in mimalloc's `mi_option_t`.
const PURGE_DELAY: c_int = 15;

/// How long free memory is kept, in ms.
const KEPT: c_long = 10_000;

unsafe extern "C" {
    fn mi_option_set_default(option: c_int, value: c_long);
}

/// Keeps free memory for ten seconds before it is returned to the system, unless `MIMALLOC_PURGE_DELAY`
/// says otherwise. For a program whose allocator is mimalloc, at its start; for another it changes nothing.
pub fn keep_free() {
    // SAFETY: mimalloc takes any value of an option that it has, at any time and on any thread, and an
    // option that it has not is ignored; the function has this signature in its header.
    unsafe { mi_option_set_default(PURGE_DELAY, KEPT) }
}
