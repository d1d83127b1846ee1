//! How far an import is: what it reports, and the meter that shows it to people, in place on a
//! terminal and as a line now and then elsewhere.

use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// What an import is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It reads lines and sorts what it made of them.
    Reading,
    /// It writes measurements, in order.
    Writing,
    /// It is done.
    Done,
}

/// How far an import is.
#[derive(Clone, Copy, Debug)]
pub struct State<'a> {
    /// What it is doing.
    pub phase: Phase,
    /// The input that is read.
    pub file: &'a str,
    /// Bytes read of all inputs, packed as they are.
    pub bytes: u64,
    /// Bytes of all inputs, if that is known.
    pub total: Option<u64>,
    /// Lines read.
    pub lines: u64,
    /// Measurements made of them.
    pub measurements: u64,
    /// Measurements written.
    pub written: u64,
    /// Lines that could not be read.
    pub unparsed: u64,
}

/// Is told how far an import is, a few hundred times a second; it chooses what to show.
pub trait Progress {
    /// Takes the state at this moment. Must be quick.
    fn report(&mut self, state: &State<'_>);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _: &State<'_>) {}
}

/// Shows progress as text.
#[derive(Debug)]
pub struct Meter<W: Write> {
    out: W,
    in_place: bool,
    every: Duration,
    started: Instant,
    shown: Option<Instant>,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    dirty: bool,
}

impl Meter<io::Stderr> {
    /// On stderr: twice a second in place if that is a terminal, else a line every five seconds.
    pub fn stderr() -> Meter<io::Stderr> {
        let out = io::stderr();
        let in_place = out.is_terminal();
        let every = Duration::from_millis(if in_place { 500 } else { 5000 });
        Meter::new(out, in_place, every)
    }
}

impl<W: Write> Meter<W> {
    /// Writes to `out`, at most once in `every`; `in_place` over its last line.
    pub fn new(out: W, in_place: bool, every: Duration) -> Meter<W> {
        let now = Instant::now();
        Meter {
            out,
            in_place,
            every,
            started: now,
            shown: None,
            phase: Phase::Reading,
            since: now,
            dirty: false,
        }
    }

    fn show(&mut self, text: &str) -> io::Result<()> {
        if self.in_place {
            write!(self.out, "\r{text}\x1b[K")?;
            self.dirty = !text.is_empty();
        } else {
            writeln!(self.out, "{text}")?;
        }
        self.out.flush()
    }
}

impl<W: Write> Progress for Meter<W> {
    fn report(&mut self, state: &State<'_>) {
        let now = Instant::now();
        if state.phase != self.phase {
            self.phase = state.phase;
            self.since = now;
        }
        if state.phase == Phase::Done {
            if self.dirty {
                let _ = self.show("");
            }
            return;
        }
        let last = self.shown.unwrap_or(self.started);
        if now - last < self.every {
            return;
        }
        self.shown = Some(now);
        // A meter that cannot be shown is no reason to stop an import.
        let _ = self.show(&line(state, (now - self.since).as_secs_f64()));
    }
}

fn line(state: &State<'_>, seconds: f64) -> String {
    let rate = |count: u64| grouped((count as f64 / seconds.max(0.001)) as u64);
    if state.phase == Phase::Writing {
        return format!(
            "writing {} of {} measurements ({}/s)",
            grouped(state.written),
            grouped(state.measurements),
            rate(state.written)
        );
    }
    let of = match state.total {
        Some(total) => format!(
            "{:.0} % of {}",
            100.0 * (state.bytes as f64 / total.max(1) as f64).min(1.0),
            size(total)
        ),
        None => size(state.bytes),
    };
    let unparsed = match state.unparsed {
        0 => String::new(),
        count => format!(", {} unparsed", grouped(count)),
    };
    format!(
        "reading {}: {of}, {} lines ({}/s){unparsed}",
        state.file,
        grouped(state.lines),
        rate(state.lines)
    )
}

/// A number as people read it: `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A size as people read it: `2.7 MB`.
fn size(bytes: u64) -> String {
    let units = [(1e9, "GB"), (1e6, "MB"), (1e3, "kB")];
    match units.iter().find(|(unit, _)| bytes as f64 >= *unit) {
        Some((unit, name)) => format!("{:.1} {name}", bytes as f64 / unit),
        None => format!("{bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: State<'_> = State {
        phase: Phase::Reading,
        file: "a.log",
        bytes: 1_350_000,
        total: Some(2_700_000),
        lines: 50_000,
        measurements: 49_999,
        written: 10,
        unparsed: 1,
    };

    #[test]
    fn progress_says_how_much_of_what_and_how_fast() {
        assert_eq!(
            line(&STATE, 2.0),
            "reading a.log: 50 % of 2.7 MB, 50,000 lines (25,000/s), 1 unparsed"
        );
        let pipe = State {
            total: None,
            unparsed: 0,
            ..STATE
        };
        assert_eq!(
            line(&pipe, 2.0),
            "reading a.log: 1.4 MB, 50,000 lines (25,000/s)"
        );
        let writing = State {
            phase: Phase::Writing,
            ..STATE
        };
        assert_eq!(
            line(&writing, 2.0),
            "writing 10 of 49,999 measurements (5/s)"
        );
    }

    #[test]
    fn a_terminal_has_one_line_that_is_wiped_at_the_end() {
        let mut meter = Meter::new(Vec::new(), true, Duration::ZERO);
        meter.report(&STATE);
        meter.report(&State {
            phase: Phase::Done,
            ..STATE
        });
        let text = String::from_utf8(meter.out).unwrap();
        assert!(text.starts_with("\rreading a.log"), "{text:?}");
        assert!(text.ends_with("\r\x1b[K"), "{text:?}");
        assert!(!text.contains('\n'));

        let mut meter = Meter::new(Vec::new(), false, Duration::from_secs(1000));
        meter.report(&STATE);
        assert!(meter.out.is_empty(), "not before its time");
    }
}
