//! The clock of a partition, and what it decides over each record: its tick, whether it is late,
//! whether it comes from the future.
//!
//! Everything here is a function of the partition's own records up to this one (its *prefix*) and,
//! for ticks, of the wall clock; so two readers of one topic decide alike, whoever else they read.

use crate::visit::{Rules, Tick};

/// Where a partition's clock takes its time from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockKind {
    /// The time at which the log took the record.
    LogTime,
    /// The event time: for sources without a log time. A jump of more than `max_ahead` counts only
    /// once a record of another browser confirms it.
    EventTime,
}

/// What a partition's clock says of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is one of now.
    Now,
    /// It lies this far, in ms, before the earliest that is still taken.
    Late(i64),
    /// It lies this far, in ms, in front of the latest that is taken.
    Future(i64),
}

/// All that a partition's clock has come to: a function of the partition's prefix and of the ticks at
/// which it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ClockState {
    /// The running maximum; `i64::MIN` before the first record.
    pub now: i64,
    /// The tick at which the last record was read, or later.
    pub tick: Tick,
    /// An event time far ahead, and the browser that claims it.
    pub claim: Option<(i64, [u64; 2])>,
}

impl Default for ClockState {
    fn default() -> ClockState {
        ClockState {
            now: i64::MIN,
            tick: 0,
            claim: None,
        }
    }
}

/// The clock of one partition: the running maximum of its records' times. 64 bytes.
#[derive(Clone, Copy, Debug)]
pub struct PartitionClock {
    kind: ClockKind,
    rules: Rules,
    max_ahead: i64,
    tick_length: u64,
    now: i64,
    tick: Tick,
    /// An event time far ahead, and the browser that claims it.
    claim: Option<(i64, [u64; 2])>,
}

impl PartitionClock {
    /// A clock that has seen nothing. `tick_length` and `max_ahead` in ms.
    pub fn new(kind: ClockKind, rules: Rules, max_ahead: i64, tick_length: u64) -> PartitionClock {
        PartitionClock {
            kind,
            rules,
            max_ahead,
            tick_length,
            now: i64::MIN,
            tick: 0,
            claim: None,
        }
    }

    /// Goes on from where a clock of the same rules stood.
    #[must_use]
    pub fn at(self, state: ClockState) -> PartitionClock {
        PartitionClock {
            now: state.now,
            tick: state.tick,
            claim: state.claim,
            ..self
        }
    }

    /// What it has come to.
    pub fn state(&self) -> ClockState {
        ClockState {
            now: self.now,
            tick: self.tick,
            claim: self.claim,
        }
    }

    /// The running maximum; `i64::MIN` before the first record.
    pub fn now(&self) -> i64 {
        self.now
    }

    /// The tick at which the last record was read, or later if time has gone on without one.
    pub fn tick(&self) -> Tick {
        self.tick
    }

    /// The tick that a record of this log time would be read at, at this wall time. The record's
    /// own event time does not count yet, so that one can be asked for before it is parsed.
    #[inline]
    pub fn tick_of(&self, log_time: i64, wall: i64) -> Tick {
        let known = match self.kind {
            ClockKind::LogTime => self.now.max(log_time),
            ClockKind::EventTime => self.now,
        };
        self.rounded(known.saturating_add(self.rules.max_lag).min(wall))
            .max(self.tick)
    }

    /// The tick of a partition whose source has answered, to a question asked at wall time
    /// `asked`, that there is nothing more.
    #[inline]
    pub fn tick_at_end(&self, asked: i64, wall: i64) -> Tick {
        // Half of max_lag is left for a broker whose clock is behind ours.
        self.rounded((asked + self.rules.max_lag / 2).min(wall))
            .max(self.tick)
    }

    /// Moves on to a tick that was asked for.
    pub fn advance(&mut self, tick: Tick) {
        self.tick = self.tick.max(tick);
    }

    fn rounded(&self, time: i64) -> Tick {
        u64::try_from(time).unwrap_or(0) / self.tick_length * self.tick_length
    }

    /// Takes a record's log time; to be called for every record of the partition, whatever it is.
    #[inline]
    pub fn log_time(&mut self, log_time: i64) {
        if self.kind == ClockKind::LogTime {
            self.now = self.now.max(log_time);
        }
    }

    /// Takes the event time of a measurement of this browser, and judges it.
    #[inline]
    pub fn judge(&mut self, event_time: i64, browser: [u64; 2]) -> Verdict {
        if self.kind == ClockKind::EventTime {
            let ahead =
                self.now != i64::MIN && event_time.saturating_sub(self.now) > self.max_ahead;
            if !ahead {
                self.now = self.now.max(event_time);
            } else {
                match self.claim {
                    // Two browsers agree that time has jumped: to what the more careful one says.
                    Some((claimed, by)) if by != browser => {
                        self.now = self.now.max(claimed.min(event_time));
                        self.claim = None;
                    }
                    _ => self.claim = Some((event_time, browser)),
                }
            }
        }
        let floor = i64::try_from(self.tick).unwrap_or(i64::MAX) - self.rules.max_lag;
        let earliest = self.now.max(floor).saturating_sub(self.rules.max_delay);
        let latest = self.now.saturating_add(self.max_ahead);
        if event_time < earliest {
            Verdict::Late(earliest.saturating_sub(event_time))
        } else if event_time > latest {
            Verdict::Future(event_time.saturating_sub(latest))
        } else {
            Verdict::Now
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(kind: ClockKind) -> PartitionClock {
        PartitionClock::new(kind, Rules::default(), 300_000, 100)
    }

    #[test]
    fn in_a_replay_time_is_that_of_the_records() {
        let mut clock = clock(ClockKind::LogTime);
        let wall = 1_700_000_000_000;
        assert_eq!(clock.tick_of(1_000_049, wall), 1_005_000);
        clock.log_time(1_000_049);
        clock.advance(clock.tick_of(1_000_049, wall));
        assert_eq!(clock.judge(1_000_049 - 120_000, [1; 2]), Verdict::Now);
        assert_eq!(clock.judge(1_000_048 - 120_000, [1; 2]), Verdict::Late(1));
        assert_eq!(clock.judge(1_000_049 + 300_001, [1; 2]), Verdict::Future(1));
        // A log time that goes back moves nothing.
        clock.log_time(5);
        assert_eq!(clock.now(), 1_000_049);
    }

    #[test]
    fn live_a_tick_is_the_wall_clocks_and_never_goes_back() {
        let mut clock = clock(ClockKind::LogTime);
        clock.advance(clock.tick_at_end(50_000, 50_030));
        assert_eq!(clock.tick(), 50_000);
        assert_eq!(clock.tick_of(50_010, 40_000), 50_000);
        assert_eq!(clock.tick_of(50_010, 50_299), 50_200);
    }

    #[test]
    fn without_an_answer_time_stands() {
        let clock = clock(ClockKind::LogTime);
        let asked = 1_000_000;
        assert_eq!(
            clock.tick_at_end(asked, asked + 3_600_000),
            (asked + 2_500) as u64
        );
    }

    #[test]
    fn a_browser_alone_does_not_move_an_event_time_clock_far() {
        let mut clock = clock(ClockKind::EventTime);
        clock.judge(1_000_000, [1; 2]);
        let day = 86_400_000;
        assert_eq!(
            clock.judge(1_000_000 + day, [2; 2]),
            Verdict::Future(day - 300_000)
        );
        assert_eq!(
            clock.judge(1_000_500 + day, [2; 2]),
            Verdict::Future(day + 500 - 300_000)
        );
        assert_eq!(clock.now(), 1_000_000);
        assert_eq!(clock.judge(1_000_400 + day, [3; 2]), Verdict::Now);
        assert_eq!(clock.now(), 1_000_400 + day);
    }
}
