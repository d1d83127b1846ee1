//! What a visit is.
//!
//! A browser's *visit* is a maximal run of its measurements in which no gap is longer than
//! `inactivity`, which is shorter than `max_length` from first to last, and which holds at most
//! `max_size` of them. Sort the browser's accepted measurements by [`Position`] and walk them:
//! [`Visit::takes`] says whether the next one still belongs. That is all; the rest of this crate
//! computes the same thing incrementally, and its tests hold it against this walk.
//!
//! The walk is a left fold: what a measurement belongs to depends on those before it alone. So
//! once nothing can arrive before a point of time (the *horizon*), everything up to it is settled,
//! and a visit is *sealed* as soon as the horizon has passed [`Visit::bound`].

use bytemuck::{Pod, Zeroable};
use visitflow_schemas::key;

/// Milliseconds since 1970, UTC, at which something is processed; a multiple of the tick length.
pub type Tick = u64;

/// Every seal falls on a whole second, so that the ends of a second travel together.
pub const SEAL_STEP: u64 = 1_000;

/// The rules by which measurements become visits. All times in ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// A gap longer than this ends a visit.
    pub inactivity: i64,
    /// A measurement this long after its visit's first, or longer, starts another.
    pub max_length: i64,
    /// A visit of this many measurements takes no more.
    pub max_size: u32,
    /// How far event time may lie behind the clock.
    pub max_delay: i64,
    /// How far a host's clock, a broker's clock and an unread record may lie apart.
    pub max_lag: i64,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules {
            inactivity: 30 * 60_000,
            max_length: 24 * 3_600_000,
            max_size: 100_000,
            max_delay: 2 * 60_000,
            max_lag: 5_000,
        }
    }
}

impl Rules {
    /// No accepted measurement that is still to come lies before this event time, once all ticks
    /// before `frontier` are complete.
    pub fn horizon(&self, frontier: Tick) -> i64 {
        i64::try_from(frontier)
            .unwrap_or(i64::MAX)
            .saturating_sub(self.max_lag + self.max_delay)
    }

    /// The tick of the seal of a visit with this [`Visit::bound`]: the first whole second at which
    /// the horizon has passed it. Computed, so that it is the same in every run.
    pub fn seal_tick(&self, bound: i64) -> Tick {
        let passed = bound.saturating_add(1 + self.max_lag + self.max_delay);
        u64::try_from(passed).unwrap_or(0).div_ceil(SEAL_STEP) * SEAL_STEP
    }
}

/// A measurement's place in its browser's history: time, then event ID. Two measurements of one
/// browser at one position are the same measurement, sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Pod, Zeroable)]
#[repr(C)]
pub struct Position {
    /// Event time in ms.
    pub time: i64,
    /// The sortable form of the event ID, as two big-endian words.
    pub event: [u64; 2],
}

impl Position {
    /// The least position after this one.
    pub fn next(self) -> Position {
        let [high, low] = self.event;
        match (low.checked_add(1), high.checked_add(1)) {
            (Some(low), _) => Position {
                event: [high, low],
                ..self
            },
            (None, Some(high)) => Position {
                event: [high, 0],
                ..self
            },
            (None, None) => Position {
                time: self.time.saturating_add(1),
                event: [0, 0],
            },
        }
    }
}

/// The ID of the visit which begins with the measurement at this position; see
/// [`visitflow_schemas::key::visit_id`] for how anyone can compute it. About 60 ns with SHA
/// instructions; paid once a visit, not once a measurement.
pub fn visit_id(browser_id: &[u8], first: Position) -> [u64; 2] {
    let event = key::EventKey(bytes_of_words(first.event));
    words_of_bytes(&key::visit_id(browser_id, first.time, &event))
}

/// The key under which state is kept for a browser: 128 bits of a cryptographic hash of its ID,
/// since whoever sends measurements chooses the IDs.
pub fn browser_key(browser_id: &[u8]) -> [u64; 2] {
    key::BrowserKey::of(browser_id).0
}

/// The sixteen bytes of two big-endian words, as IDs are written.
pub fn bytes_of_words(words: [u64; 2]) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&words[0].to_be_bytes());
    bytes[8..].copy_from_slice(&words[1].to_be_bytes());
    bytes
}

/// The two big-endian words of sixteen bytes: their order is that of the bytes.
pub fn words_of_bytes(bytes: &[u8; 16]) -> [u64; 2] {
    let (high, low) = bytes.split_at(8);
    let word = |half: &[u8]| u64::from_be_bytes(half.try_into().expect("eight bytes"));
    [word(high), word(low)]
}

/// Why a visit ended. A function of the visit alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EndReason {
    /// Nothing more came within `inactivity`.
    Inactivity,
    /// It reached `max_length`.
    Length,
    /// It holds `max_size` measurements.
    Size,
}

impl EndReason {
    /// The word for it in outputs.
    pub fn word(self) -> &'static str {
        match self {
            EndReason::Inactivity => "inactivity",
            EndReason::Length => "length",
            EndReason::Size => "size",
        }
    }
}

/// A visit as the walk sees it: the fold's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Its first measurement, which gives it its ID.
    pub first: Position,
    /// The time of its last.
    pub last: i64,
    /// How many it holds.
    pub count: u32,
    /// Its ID.
    pub id: [u64; 2],
}

impl Visit {
    /// The visit that begins with this measurement.
    pub fn begin(first: Position, id: [u64; 2]) -> Visit {
        Visit {
            first,
            last: first.time,
            count: 1,
            id,
        }
    }

    /// Whether the measurement that comes next in its browser's order, at this event time, belongs
    /// to this visit. If not, it begins another.
    ///
    /// ```
    /// use visitflow_dataflows::visit::{Position, Rules, Visit};
    /// let rules = Rules::default();
    /// let visit = Visit::begin(Position { time: 0, event: [0, 1] }, [0, 0]);
    /// assert!(visit.takes(30 * 60_000, &rules)); // A gap of 30 minutes is not over 30 minutes.
    /// assert!(!visit.takes(30 * 60_000 + 1, &rules));
    /// ```
    #[inline]
    pub fn takes(&self, time: i64, rules: &Rules) -> bool {
        time.saturating_sub(self.last) <= rules.inactivity
            && time.saturating_sub(self.first.time) < rules.max_length
            && self.count < rules.max_size
    }

    /// Takes it.
    #[inline]
    pub fn take(&mut self, time: i64) {
        self.last = time;
        self.count += 1;
    }

    /// The last event time at which a measurement could still join, if nothing else came: once the
    /// horizon has passed it, the visit is sealed.
    #[inline]
    pub fn bound(&self, rules: &Rules) -> i64 {
        if self.count >= rules.max_size {
            return self.last;
        }
        let inactive = self.last.saturating_add(rules.inactivity);
        inactive.min(self.first.time.saturating_add(rules.max_length - 1))
    }

    /// Why it ended, once it has.
    pub fn reason(&self, rules: &Rules) -> EndReason {
        if self.count >= rules.max_size {
            EndReason::Size
        } else if self.first.time.saturating_add(rules.max_length)
            <= self.last.saturating_add(rules.inactivity)
        {
            EndReason::Length
        } else {
            EndReason::Inactivity
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(time: i64) -> Position {
        Position {
            time,
            event: [0, time as u64],
        }
    }

    #[test]
    fn size_comes_before_length_and_length_before_inactivity() {
        let rules = Rules {
            inactivity: 10,
            max_length: 25,
            max_size: 3,
            ..Rules::default()
        };
        let mut visit = Visit::begin(at(0), [0; 2]);
        assert_eq!(
            (visit.reason(&rules), visit.bound(&rules)),
            (EndReason::Inactivity, 10)
        );
        visit.take(15);
        assert_eq!(
            (visit.reason(&rules), visit.bound(&rules)),
            (EndReason::Length, 24)
        );
        visit.take(16);
        assert_eq!(
            (visit.reason(&rules), visit.bound(&rules)),
            (EndReason::Size, 16)
        );
        assert!(!visit.takes(16, &rules));
    }

    #[test]
    fn a_seal_is_the_first_whole_second_whose_horizon_has_passed_the_bound() {
        let rules = Rules {
            max_lag: 5_000,
            max_delay: 120_000,
            ..Rules::default()
        };
        for bound in [0, 999, 1_000, 1_234_567, 999_999_999] {
            let tick = rules.seal_tick(bound);
            assert_eq!(tick % SEAL_STEP, 0);
            assert!(rules.horizon(tick) > bound);
            assert!(rules.horizon(tick - SEAL_STEP) <= bound);
        }
    }

    #[test]
    fn the_next_position_is_the_least_greater_one() {
        let p = Position {
            time: 5,
            event: [7, u64::MAX],
        };
        assert_eq!(
            p.next(),
            Position {
                time: 5,
                event: [8, 0]
            }
        );
        let p = Position {
            time: 5,
            event: [u64::MAX, u64::MAX],
        };
        assert_eq!(
            p.next(),
            Position {
                time: 6,
                event: [0, 0]
            }
        );
    }
}
