//! What kind of shop is made: how much traffic, how fast, and how much goes wrong in it; and the
//! limits by which its right answer is worked out.

use super::GenerateError;

const SECOND: i64 = 1_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The rules by which the right answer is worked out; all times in ms. The same as a job's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// A longer pause than this begins a new visit.
    pub inactivity: i64,
    /// A measurement this long after its visit's first begins a new one.
    pub max_length: i64,
    /// The most measurements in a visit.
    pub max_size: u64,
    /// How far behind its partition's clock a measurement may lie.
    pub max_delay: i64,
    /// How far in front of its partition's clock a measurement may lie.
    pub max_ahead: i64,
    /// The most bytes in a message.
    pub max_record: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            inactivity: 30 * MINUTE,
            max_length: DAY,
            max_size: 100_000,
            max_delay: 2 * MINUTE,
            max_ahead: 5 * MINUTE,
            max_record: 1_000_000,
        }
    }
}

/// A robot that takes the whole shop, 5,000 pages a second, from one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scraper {
    /// When it first comes, in ms after the start.
    pub after: i64,
    /// How many pages it takes each time.
    pub pages: u64,
    /// How long after its coming it comes again, in ms.
    pub every: i64,
}

/// How much goes wrong, each in parts of a million. All 0 is a shop without any trouble
/// ([`Troubles::NONE`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Troubles {
    /// Of all messages: sent twice. One in four of them with other bytes.
    pub repeats: u64,
    /// Of all banners shown: measured a second time with the same ID and another time.
    pub reused: u64,
    /// Of all requests: held back by 2 to 20 s.
    pub slow: u64,
    /// Of all requests: held back by 20 to 100 s.
    pub very_slow: u64,
    /// Of all requests: held back by over 2 min to 6 h, as by a telephone in a tunnel.
    pub late: u64,
    /// Of all browsers: a clock that is wrong by seconds, minutes, hours or days.
    pub wrong_clocks: u64,
    /// Of all messages: another one beside it that is no message or does not decode.
    pub undecodable: u64,
    /// Of all people: those who refuse to be known. Their browser's ID is empty.
    pub without_browser: u64,
    /// Of all messages: another one beside it over `max_record`, and one of 100 KB, which is not.
    /// They come at equal distances.
    pub oversize: u64,
}

impl Troubles {
    /// Nothing goes wrong.
    pub const NONE: Troubles = Troubles {
        repeats: 0,
        reused: 0,
        slow: 0,
        very_slow: 0,
        late: 0,
        wrong_clocks: 0,
        undecodable: 0,
        without_browser: 0,
        oversize: 0,
    };
}

impl Default for Troubles {
    fn default() -> Troubles {
        Troubles {
            repeats: 5_000,
            reused: 20_000,
            slow: 15_000,
            very_slow: 3_000,
            late: 2_000,
            wrong_clocks: 40_000,
            undecodable: 500,
            without_browser: 30_000,
            oversize: 20,
        }
    }
}

/// What to make. `Settings::default()` is a shop of 1,000,000 events over three days.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The same seed (and settings) makes the same bytes, on every machine.
    pub seed: u64,
    /// How many arrivals; [`Settings::ENDLESS`] never ends.
    pub events: u64,
    /// The first moment, in ms since 1970, UTC.
    pub start: i64,
    /// Arrivals in 1,000 seconds, on average, the scraper's not counted. `None` spreads `events`
    /// over three days, or at one in three seconds if that is faster; an endless shop has 50 a
    /// second.
    pub per_1000_s: Option<u64>,
    /// How many browsers come and come again. `None`: one in 700 events; 20,000 in an endless shop.
    pub browsers: Option<u64>,
    /// Whether fewer people come at night (UTC). `None`: if the traffic lasts a day or longer.
    pub nights: Option<bool>,
    /// Of 1,000 events, those of crawlers, which load no script.
    pub crawlers: u64,
    /// Robots that look at the front page once a minute, for ever.
    pub monitors: u64,
    /// Whether three clockworks run, whose times lie exactly on the limits.
    pub clockworks: bool,
    /// The scraper. `None`: 11% of the events, at most 110,000, at two fifths of the time; in an
    /// endless shop 110,000 after two minutes and again each hour. None at all: 0 pages.
    pub scraper: Option<Scraper>,
    /// When the site's script changes from the first schema to the second, and from the second to
    /// the third, in ms after the start. `None`: at a third and two thirds of the time; in an
    /// endless shop after 10 and 20 minutes.
    pub schema_changes: Option<[i64; 2]>,
    /// What goes wrong.
    pub troubles: Troubles,
    /// By what the right answer is worked out; some traffic lies exactly on these limits.
    pub limits: Limits,
    /// Partitions of the log that it goes to, 1 to 256. The arrivals do not depend on it.
    pub partitions: u32,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            seed: 1,
            events: 1_000_000,
            start: 1_767_225_600_000, // 2026-01-01T00:00:00Z
            per_1000_s: None,
            browsers: None,
            nights: None,
            crawlers: 60,
            monitors: 2,
            clockworks: true,
            scraper: None,
            schema_changes: None,
            troubles: Troubles::default(),
            limits: Limits::default(),
            partitions: 4,
        }
    }
}

impl Settings {
    /// For [`Settings::events`]: the shop never closes.
    pub const ENDLESS: u64 = u64::MAX;

    /// The same at this many arrivals a second.
    pub fn per_second(mut self, arrivals: u64) -> Settings {
        self.per_1000_s = Some(arrivals.saturating_mul(1_000));
        self
    }

    /// Everything that was left open, decided.
    pub(super) fn plan(&self) -> Result<Plan, GenerateError> {
        let wrong = |name, value: String, expected| GenerateError::Setting {
            name,
            value,
            expected,
        };
        let endless = self.events == Settings::ENDLESS;
        let rate = self.per_1000_s.unwrap_or(match endless {
            true => 50_000,
            false => {
                (self.events.saturating_mul(SECOND as u64) / (3 * DAY / SECOND) as u64).max(333)
            }
        });
        if !(1..=1_000_000_000).contains(&rate) {
            return Err(wrong(
                "rate",
                rate.to_string(),
                "1 to 1,000,000,000 in 1,000 s",
            ));
        }
        if !(1..=256).contains(&self.partitions) {
            return Err(wrong("partitions", self.partitions.to_string(), "1 to 256"));
        }
        let browsers = self.browsers.unwrap_or(if endless {
            20_000
        } else {
            self.events / 700 + 100
        });
        if !(1..=1 << 40).contains(&browsers) {
            return Err(wrong("browsers", browsers.to_string(), "1 to 2^40"));
        }
        if !(0..1 << 45).contains(&self.start) {
            return Err(wrong(
                "start",
                self.start.to_string(),
                "ms since 1970, before the year 3084",
            ));
        }
        if self.crawlers > 900 {
            return Err(wrong(
                "crawlers",
                self.crawlers.to_string(),
                "0 to 900 of 1,000",
            ));
        }
        if self.monitors > 10_000 {
            return Err(wrong("monitors", self.monitors.to_string(), "0 to 10,000"));
        }
        let limits = &self.limits;
        for (name, value) in [
            ("inactivity", limits.inactivity),
            ("max_length", limits.max_length),
            ("max_size", limits.max_size.min(i64::MAX as u64) as i64),
        ] {
            if !(1..=1 << 45).contains(&value) {
                return Err(wrong(
                    name,
                    value.to_string(),
                    "1 or more, under 1,000 years",
                ));
            }
        }
        for (name, value) in [
            ("max_delay", limits.max_delay),
            ("max_ahead", limits.max_ahead),
        ] {
            if !(0..=1 << 45).contains(&value) {
                return Err(wrong(
                    name,
                    value.to_string(),
                    "0 or more ms, under 1,000 years",
                ));
            }
        }
        let span = match endless {
            true => HOUR,
            false => (u128::from(self.events) * 1_000_000 / u128::from(rate)).min(1 << 45) as i64,
        };
        let scraper = self.scraper.unwrap_or(match endless {
            true => Scraper {
                after: 2 * MINUTE,
                pages: 110_000,
                every: HOUR,
            },
            false => Scraper {
                after: span / 5 * 2,
                pages: (self.events / 100 * 11).min(110_000),
                every: i64::MAX,
            },
        });
        // What is left for people, in events per 1,000 s.
        let robots = rate * self.crawlers / 1_000 + self.monitors * 1_000 / 60;
        let people = (rate - rate.min(robots)).max(rate / 20).max(1);
        Ok(Plan {
            people,
            crawlers: rate * self.crawlers / 1_000,
            browsers,
            nights: self.nights.unwrap_or(!endless && span >= DAY),
            scraper,
            changes: self.schema_changes.unwrap_or(match endless {
                true => [10 * MINUTE, 20 * MINUTE],
                false => [span / 3, span / 3 * 2],
            }),
        })
    }
}

/// Settings with nothing left open.
pub(super) struct Plan {
    /// People's events in 1,000 s.
    pub people: u64,
    /// Crawlers' events in 1,000 s.
    pub crawlers: u64,
    pub browsers: u64,
    pub nights: bool,
    pub scraper: Scraper,
    /// In ms after the start.
    pub changes: [i64; 2],
}
