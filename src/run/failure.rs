//! What goes wrong in a worker: said once, seen by all workers of the process, which stop.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::RunError;

/// The first failure of a run, shared by its workers. Cheap to clone.
#[derive(Clone, Default)]
pub struct Failure(Arc<Inner>);

#[derive(Default)]
struct Inner {
    set: AtomicBool,
    error: Mutex<Option<RunError>>,
}

impl Failure {
    /// Says what went wrong; what is said later is not kept.
    pub fn set(&self, error: impl Into<RunError>) {
        let mut first = self.0.error.lock().unwrap_or_else(PoisonError::into_inner);
        first.get_or_insert(error.into());
        self.0.set.store(true, Ordering::Release);
    }

    /// Whether anything went wrong.
    pub fn is_set(&self) -> bool {
        self.0.set.load(Ordering::Acquire)
    }

    /// What went wrong, to be told to the user.
    pub fn take(&self) -> Option<RunError> {
        self.0
            .error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

/// While it lives a worker works: if that ends by a panic the others hear of it, and do not wait for
/// it for ever.
pub struct Working<'a>(pub &'a Failure);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // What it is to be called, who joins it knows.
            self.0.0.set.store(true, Ordering::Release);
        }
    }
}
