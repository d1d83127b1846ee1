//! What becomes of long work when a signal asks to end it: sinks that take nothing more, wrapped around any other.
//!
//! What was taken before is whole and is committed as if the work had ended there. Whoever wraps a sink tells the
//! signal handler by [`Interrupt::ask`], and finds [`Interrupted`] among the causes of the error that comes out.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use thiserror::Error;

use crate::generate::{Arrival, ArrivalSink, SinkError};
use crate::import::{BoxError, Out};

const IDLE: u8 = 0;
const BUSY: u8 = 1;
const ASKED: u8 = 2;

/// A signal asked to stop.
#[derive(Clone, Copy, Debug, Error, PartialEq)]
#[error("a signal asked to stop")]
pub struct Interrupted;

impl Interrupted {
    /// Whether it is among the causes of an error.
    pub fn caused(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Interrupted>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// Whether to stop. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicU8>);

/// What an [`Interrupt`] finds when it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Nothing was taken yet, and nothing will be: one may leave at once.
    BeforeAnything,
    /// Something was taken; wait for it to be committed.
    Midway,
    /// It was asked before.
    Again,
}

impl Interrupt {
    /// Asks to stop, and says where this finds the work.
    pub fn ask(&self) -> Asked {
        match self.0.swap(ASKED, Ordering::AcqRel) {
            IDLE => Asked::BeforeAnything,
            BUSY => Asked::Midway,
            _ => Asked::Again,
        }
    }

    /// Wraps a sink: it takes nothing more once this was asked to stop.
    pub fn around<S>(&self, sink: S) -> Interruptible<S> {
        Interruptible {
            sink,
            interrupt: self.clone(),
            taken: 0,
        }
    }

    fn pass(&self) -> Result<(), Interrupted> {
        match self
            .0
            .compare_exchange(IDLE, BUSY, Ordering::AcqRel, Ordering::Acquire)
        {
            Err(ASKED) => Err(Interrupted),
            _ => Ok(()),
        }
    }
}

/// A sink that can be interrupted.
pub struct Interruptible<S> {
    /// The sink itself.
    pub sink: S,
    /// How many records it has taken.
    pub taken: u64,
    interrupt: Interrupt,
}

impl<S: ArrivalSink> ArrivalSink for Interruptible<S> {
    fn send(&mut self, arrival: &Arrival) -> Result<(), SinkError> {
        self.interrupt.pass()?;
        self.sink.send(arrival)?;
        self.taken += 1;
        Ok(())
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.sink.finish()
    }
}

impl<S: Out> Out for Interruptible<S> {
    fn send(&mut self, log_time: i64, key: &[u8], value: &[u8]) -> Result<(), BoxError> {
        self.interrupt.pass()?;
        self.sink.send(log_time, key, value)?;
        self.taken += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), BoxError> {
        self.sink.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generate::{Options, Settings, generate};

    #[test]
    fn what_was_taken_before_stays_and_nothing_is_taken_after() {
        let interrupt = Interrupt::default();
        let mut sink = interrupt.around(Vec::new());
        let settings = Settings {
            events: 20_000,
            ..Settings::default()
        };
        let options = Options {
            settings,
            ..Options::default()
        };
        let mut asked = None;
        let error = generate(&options, &mut sink, &mut |_| {
            asked = asked.or(Some(interrupt.ask()))
        })
        .unwrap_err();
        assert!(Interrupted::caused(&error), "{error}");
        assert_eq!(asked, Some(Asked::Midway));
        assert_eq!((sink.taken, sink.sink.len()), (8_192, 8_192));
        assert_eq!(interrupt.ask(), Asked::Again);
    }

    #[test]
    fn before_anything_was_taken_one_may_leave() {
        let interrupt = Interrupt::default();
        assert_eq!(interrupt.ask(), Asked::BeforeAnything);
        assert_eq!(interrupt.pass(), Err(Interrupted));
    }
}
