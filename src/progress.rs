//! Progress of long work on standard error: in place on a terminal, a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// How often something is said on a terminal, and elsewhere.
const TERMINAL: Duration = Duration::from_millis(500);
const ELSEWHERE: Duration = Duration::from_secs(10);

/// Says how far some work has come. Costs nothing when it is not yet time to.
pub struct Progress {
    terminal: bool,
    last: Instant,
}

impl Progress {
    /// Says nothing yet.
    pub fn new() -> Progress {
        Progress {
            terminal: io::stderr().is_terminal(),
            last: Instant::now(),
        }
    }

    /// Says it, if it is time to.
    pub fn say(&mut self, line: impl FnOnce() -> String) {
        if self.last.elapsed() < if self.terminal { TERMINAL } else { ELSEWHERE } {
            return;
        }
        self.last = Instant::now();
        let (mut err, line) = (io::stderr().lock(), line());
        let _ = if self.terminal {
            write!(err, "\r\x1b[K{line}")
        } else {
            writeln!(err, "{line}")
        };
        let _ = err.flush();
    }

    /// Clears the line; what is said next stands by itself.
    pub fn end(&mut self) {
        if self.terminal {
            let mut err = io::stderr().lock();
            let _ = write!(err, "\r\x1b[K");
            let _ = err.flush();
        }
    }
}

impl Default for Progress {
    fn default() -> Progress {
        Progress::new()
    }
}
