//! The way from a browser to the log: what is held back, sent twice, broken. Messages wait here
//! until their log time has come.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use visitflow_schemas::measurement::Measurement;
use visitflow_schemas::message::HEADER;

use super::rng::Rng;
use super::settings::{Limits, Troubles};
use super::wire::{Version, encode};
use super::world::stream;

/// What the maker did to an arrival. What becomes of it is another matter: a message that is held
/// back may be late or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    /// Nothing.
    None,
    /// Sent again, byte for byte.
    Repeat,
    /// The same event again, with other bytes.
    OtherBytes,
    /// The same ID with another time.
    Reused,
    /// Its request was held back by over two minutes.
    HeldBack,
    /// Measured by a clock that is wrong.
    WrongClock,
    /// On or just beside a limit, by a clockwork.
    OnTheLimit,
    /// 100 KB, which is allowed.
    Large,
    /// More than `max_record`.
    Oversize,
    /// Nobody's: the browser's ID is empty.
    WithoutBrowser,
    /// Random bytes.
    Noise,
    /// Text, not Avro.
    Text,
    /// Shorter than a header.
    Short,
    /// A schema that nobody has.
    UnknownSchema,
    /// Cut off.
    Truncated,
    /// A string that is not UTF-8.
    BadUtf8,
    /// A string with a negative length, or one far longer than the message.
    BadLength,
    /// Something after the body.
    Trailing,
}

/// A message on its way.
pub(super) struct Letter {
    pub key: Arc<[u8]>,
    pub value: Vec<u8>,
    pub trouble: Trouble,
    pub copied: bool,
}

/// All that is on its way, and the dice of the way.
pub(super) struct Net {
    rng: Rng,
    troubles: Troubles,
    max_record: usize,
    /// Log time, order of sending, place in `letters`.
    waiting: BinaryHeap<Reverse<(i64, u64, u32)>>,
    letters: Vec<Option<Letter>>,
    free: Vec<u32>,
    sent: u64,
    measured: u64,
}

/// One request of a browser, which carries several measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub log_time: i64,
    pub trouble: Trouble,
}

impl Net {
    pub fn new(seed: u64, troubles: Troubles, limits: &Limits) -> Net {
        Net {
            rng: Rng::new(seed, stream::NETWORK, 0),
            troubles,
            max_record: limits.max_record,
            waiting: BinaryHeap::new(),
            letters: Vec::new(),
            free: Vec::new(),
            sent: 0,
            measured: 0,
        }
    }

    /// The log time of the next message, if one is on its way.
    pub fn next_time(&self) -> Option<i64> {
        self.waiting.peek().map(|Reverse((time, ..))| *time)
    }

    /// The next message.
    pub fn take(&mut self) -> Option<(i64, Letter)> {
        let Reverse((time, _, place)) = self.waiting.pop()?;
        let letter = self.letters[place as usize].take()?;
        self.free.push(place);
        Some((time, letter))
    }

    fn post(&mut self, log_time: i64, letter: Letter) {
        let place = match self.free.pop() {
            Some(place) => {
                self.letters[place as usize] = Some(letter);
                place
            }
            None => {
                self.letters.push(Some(letter));
                (self.letters.len() - 1) as u32
            }
        };
        self.waiting.push(Reverse((log_time, self.sent, place)));
        self.sent += 1;
    }

    /// When a request that is sent at `time` comes in.
    pub fn request(&mut self, time: i64) -> Request {
        let place = self.rng.below(1_000_000);
        let Troubles {
            slow,
            very_slow,
            late,
            ..
        } = self.troubles;
        let (delay, trouble) = if place < late {
            let delay = match self.rng.below(3) {
                0 => self.rng.between(120_001, 300_000),
                1 => self.rng.between(300_000, 3_600_000),
                _ => self.rng.between(3_600_000, 21_600_000),
            };
            (delay, Trouble::HeldBack)
        } else if place < late + very_slow {
            (self.rng.between(20_000, 100_000), Trouble::None)
        } else if place < late + very_slow + slow {
            (self.rng.between(2_000, 20_000), Trouble::None)
        } else if self.rng.chance(1, 12) {
            (self.rng.between(200, 2_000), Trouble::None)
        } else {
            (self.rng.between(20, 200), Trouble::None)
        };
        Request {
            log_time: time + delay,
            trouble,
        }
    }

    /// Sends a measurement, which `request` brings, with all that happens on the way.
    pub fn send(
        &mut self,
        key: &Arc<[u8]>,
        version: Version,
        m: &Measurement,
        experiment: &str,
        request: Request,
    ) {
        let mut value = Vec::with_capacity(448);
        encode(version, m, experiment, &mut value);
        let Request { log_time, trouble } = request;
        let copied = self.rng.chance(self.troubles.repeats, 1_000_000);
        if self.rng.chance(self.troubles.undecodable, 1_000_000) {
            let (value, trouble) = self.broken(&value);
            self.post(
                log_time,
                Letter {
                    key: key.clone(),
                    value,
                    trouble,
                    copied: false,
                },
            );
        }
        if let Some(every) = 1_000_000_u64.checked_div(self.troubles.oversize) {
            let every = every.max(2);
            self.measured += 1;
            if self.measured % every == every / 3 {
                self.send_long(
                    key,
                    version,
                    m,
                    log_time,
                    self.max_record + 1,
                    Trouble::Oversize,
                );
            } else if self.measured % every == every / 3 * 2 {
                let bytes = 100_000.min(self.max_record);
                self.send_long(key, version, m, log_time, bytes, Trouble::Large);
            }
        }
        if copied {
            self.send_copy(key, version, m, experiment, log_time, &value);
        }
        if m.entity == "banner" && self.rng.chance(self.troubles.reused, 1_000_000) {
            let later = self.rng.between(1, 5_000);
            let again = Measurement {
                event_time: m.event_time + later,
                ..*m
            };
            let mut value = Vec::with_capacity(448);
            encode(version, &again, experiment, &mut value);
            let letter = Letter {
                key: key.clone(),
                value,
                trouble: Trouble::Reused,
                copied: false,
            };
            self.post(log_time + later, letter);
        }
        self.post(
            log_time,
            Letter {
                key: key.clone(),
                value,
                trouble,
                copied,
            },
        );
    }

    fn send_copy(
        &mut self,
        key: &Arc<[u8]>,
        version: Version,
        m: &Measurement,
        experiment: &str,
        log_time: i64,
        value: &[u8],
    ) {
        // A browser that had no answer asks again at once, or much later.
        let pause = match self.rng.below(20) {
            0 => self.rng.between(100_000, 4_000_000),
            1..5 => self.rng.between(1_000, 100_000),
            _ => self.rng.between(0, 1_000),
        };
        let mut copy = Vec::with_capacity(value.len());
        let trouble = if self.rng.chance(1, 4) {
            match self.rng.below(3) {
                0 => {
                    let other = match version {
                        Version::Third => Version::Second,
                        _ => Version::Third,
                    };
                    encode(other, m, experiment, &mut copy);
                }
                1 => {
                    let customer_id = match m.customer_id {
                        Some(_) => None,
                        None => Some("customer-0000000000"),
                    };
                    encode(
                        version,
                        &Measurement { customer_id, ..*m },
                        experiment,
                        &mut copy,
                    );
                }
                _ => {
                    let position = Some(m.position.unwrap_or(0) + 1);
                    encode(
                        version,
                        &Measurement { position, ..*m },
                        experiment,
                        &mut copy,
                    );
                }
            }
            Trouble::OtherBytes
        } else {
            copy.extend_from_slice(value);
            Trouble::Repeat
        };
        self.post(
            log_time + pause,
            Letter {
                key: key.clone(),
                value: copy,
                trouble,
                copied: true,
            },
        );
    }

    /// A report of a broken script, with far too much in it: `bytes` in all.
    fn send_long(
        &mut self,
        key: &Arc<[u8]>,
        version: Version,
        m: &Measurement,
        log_time: i64,
        bytes: usize,
        trouble: Trouble,
    ) {
        let report = Measurement {
            event_id: self.rng.id(),
            effect: "failed",
            entity: "script",
            entity_id: None,
            reason: None,
            cause: None,
            position: None,
            quantity: None,
            value: None,
            url: Some(""),
            ..*m
        };
        let mut value = Vec::new();
        encode(version, &report, "", &mut value);
        let mut url = String::from("https://shop.example/?stack=");
        while value.len() + url.len() + 4 < bytes {
            url.push_str("at+Object.render+(app.js:1:77231)+");
        }
        url.push_str(&"x".repeat(34));
        loop {
            value.clear();
            encode(
                version,
                &Measurement {
                    url: Some(&url),
                    ..report
                },
                "",
                &mut value,
            );
            let over = value.len().saturating_sub(bytes).min(url.len());
            if over == 0 {
                break;
            }
            url.truncate(url.len() - over);
        }
        self.post(
            log_time,
            Letter {
                key: key.clone(),
                value,
                trouble,
                copied: false,
            },
        );
    }

    /// Something that was a message once.
    fn broken(&mut self, message: &[u8]) -> (Vec<u8>, Trouble) {
        let mut value = message.to_vec();
        // The browser's ID follows the header, in the third version an experiment, and the ID.
        let after_event_id = |body_at: usize| body_at + 16;
        let trouble = match self.rng.below(9) {
            0 => {
                let length = 10 + self.rng.below(300) as usize;
                value = (0..length).map(|_| self.rng.bits() as u8).collect();
                value[0] = 0;
                Trouble::Noise
            }
            1 => {
                value = b"{\"event\":\"page_view\",\"browser\":\"unknown\"}".to_vec();
                Trouble::Text
            }
            2 => {
                value.truncate(self.rng.below(HEADER as u64) as usize);
                Trouble::Short
            }
            3 => {
                value[2..HEADER].copy_from_slice(&self.rng.bits().to_le_bytes());
                Trouble::UnknownSchema
            }
            4 | 5 => {
                let length = HEADER as u64 + self.rng.below((message.len() - HEADER) as u64);
                value.truncate(length as usize);
                Trouble::Truncated
            }
            6 => {
                // "example" stands in every address of the shop.
                match value.windows(7).position(|w| w == b"example") {
                    Some(at) => {
                        value[at] = 0xff;
                        Trouble::BadUtf8
                    }
                    None => {
                        value.pop();
                        Trouble::Truncated
                    }
                }
            }
            7 => {
                // In every version the first length lies within this range, or is cut short by it.
                value.truncate(HEADER);
                encode_empty_experiment(message, &mut value);
                let at = after_event_id(value.len());
                value.resize(at, 7);
                match self.rng.chance(1, 2) {
                    true => value.push(1),
                    false => value.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]),
                }
                value.extend_from_slice(&message[message.len() / 2..]);
                Trouble::BadLength
            }
            _ => {
                value.extend_from_slice(b"\0\0");
                Trouble::Trailing
            }
        };
        (value, trouble)
    }
}

/// A null experiment, if the message's schema begins with one.
fn encode_empty_experiment(message: &[u8], out: &mut Vec<u8>) {
    let third = super::wire::schemas()
        .last()
        .map(|(_, schema)| schema.fingerprint());
    if third.is_some_and(|third| message[2..HEADER] == third.to_le_bytes()) {
        out.push(0);
    }
}
