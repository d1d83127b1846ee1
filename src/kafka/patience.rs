//! How long something that needs brokers is tried again, and who is told of it meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::KafkaError;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The stop is looked at so often.
const GLANCE: Duration = Duration::from_millis(50);
/// What is waited for is said again so often.
const REMINDER: Duration = Duration::from_secs(10);

/// Whether to try again, and for how long: until it succeeds, until a stop, until it cannot
/// succeed any more, or until a limit. Cheap to clone.
#[derive(Clone)]
pub struct Patience {
    stop: Arc<AtomicBool>,
    limit: Option<Duration>,
    say: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Patience {
    /// Without a limit, until `stop` is set, silently.
    pub fn until(stop: Arc<AtomicBool>) -> Patience {
        Patience {
            stop,
            limit: None,
            say: Arc::new(|_| ()),
        }
    }

    /// For so long at most; what takes longer ends with its last error.
    pub fn limit(mut self, limit: Duration) -> Patience {
        self.limit = Some(limit);
        self
    }

    /// Tells somebody what is waited for and why: at once, and then every 10 seconds.
    pub fn saying(mut self, say: impl Fn(&str) + Send + Sync + 'static) -> Patience {
        self.say = Arc::new(say);
        self
    }

    /// Whether it was asked to stop.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Fails once it was asked to stop.
    pub(super) fn check(&self) -> Result<(), KafkaError> {
        match self.stopped() {
            true => Err(KafkaError::Stopped),
            false => Ok(()),
        }
    }

    /// Tries until it succeeds or ends with an error that does not pass.
    pub(super) fn retry<T>(
        &self,
        mut attempt: impl FnMut() -> Result<T, KafkaError>,
    ) -> Result<T, KafkaError> {
        let start = Instant::now();
        let mut said: Option<Instant> = None;
        let mut pause = GLANCE;
        loop {
            self.check()?;
            let error = match attempt() {
                Err(error) if error.is_passing() => error,
                done => return done,
            };
            let waited = start.elapsed();
            if self.limit.is_some_and(|limit| waited >= limit) {
                return Err(error);
            }
            if said.is_none_or(|at| at.elapsed() >= REMINDER) {
                said = Some(Instant::now());
                (self.say)(&format!("{error}; trying again for {} s", waited.as_secs()));
            }
            self.sleep(pause)?;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn sleep(&self, pause: Duration) -> Result<(), KafkaError> {
        let end = Instant::now() + pause;
        loop {
            self.check()?;
            let rest = end.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Ok(());
            }
            thread::sleep(rest.min(GLANCE));
        }
    }
}
