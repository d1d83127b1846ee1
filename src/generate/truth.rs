//! What the judge finds: counts, visits, orders, and the files that hold them beside the log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::GenerateError;
use super::plain::Said;
use super::settings::Limits;

/// Why a record is rejected. Where several hold, the first in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// More bytes than `max_record`.
    Oversize,
    /// Shorter than a header, or does not begin with C3 01.
    NotAMessage,
    /// Nobody has the schema of this fingerprint.
    UnknownSchema,
    /// The body is not exactly what the schema says.
    Undecodable,
    /// The browser's ID is empty.
    WithoutBrowser,
    /// More than `max_ahead` in front of its partition's clock.
    Future,
}

impl Reason {
    /// All there are, in order.
    pub const ALL: [Reason; 6] = [
        Reason::Oversize,
        Reason::NotAMessage,
        Reason::UnknownSchema,
        Reason::Undecodable,
        Reason::WithoutBrowser,
        Reason::Future,
    ];

    /// The word for it in `truth.json`.
    pub fn word(self) -> &'static str {
        match self {
            Reason::Oversize => "oversize",
            Reason::NotAMessage => "not_a_message",
            Reason::UnknownSchema => "unknown_schema",
            Reason::Undecodable => "undecodable",
            Reason::WithoutBrowser => "without_browser",
            Reason::Future => "future",
        }
    }
}

/// What becomes of an arrival, as far as it can be said at once: whether an accepted one is a
/// repeat is known when its browser is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// In a visit, or a repeat of what is.
    Accepted,
    /// More than `max_delay` behind its partition's clock.
    Late,
    /// Never to be in a visit.
    Rejected(Reason),
}

/// Why a visit ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// Nothing came for longer than `inactivity`.
    Inactivity,
    /// `max_length` is reached before `inactivity` would end it.
    Length,
    /// It holds `max_size`.
    Size,
}

impl EndReason {
    /// All there are.
    pub const ALL: [EndReason; 3] = [EndReason::Inactivity, EndReason::Length, EndReason::Size];

    /// The word for it.
    pub fn word(self) -> &'static str {
        match self {
            EndReason::Inactivity => "inactivity",
            EndReason::Length => "length",
            EndReason::Size => "size",
        }
    }
}

/// A visit as it must come out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Visit {
    /// The first 16 bytes of SHA-256 over the length of the browser's ID (4 bytes, least first),
    /// the ID, and of the visit's first measurement the time (8 bytes, least first) and the ID.
    pub visit_id: [u8; 16],
    /// Whose it is.
    pub browser_id: Box<str>,
    /// Event time of its first measurement, ms.
    pub started: i64,
    /// Event time of its last measurement, ms.
    pub last_seen: i64,
    /// How many it holds.
    pub measurements: u64,
    /// Why it ends.
    pub end_reason: EndReason,
    /// The first customer that is named in it, in order of (event time, event ID).
    pub customer_id: Option<Box<str>>,
}

/// An order and what led to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The order's number.
    pub order_id: Box<str>,
    /// Its measurement.
    pub event_id: [u8; 16],
    /// ms.
    pub event_time: i64,
    /// Whose it is.
    pub browser_id: Box<str>,
    /// In which visit it was made.
    pub visit_id: [u8; 16],
    /// The customer that it names.
    pub customer_id: Option<Box<str>>,
    /// In cents.
    pub value: Option<i64>,
    /// The reason of the root cause: why that page was there.
    pub root_reason: Option<Box<str>>,
    /// Whether the last of the chain has no cause; otherwise its cause was late, rejected, or did
    /// not come.
    pub whole: bool,
    /// The measurements from the order to its root cause, each caused by the next.
    pub chain: Vec<[u8; 16]>,
}

/// The right answer. `taken = tagged + late + rejected + repeated`.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// By what it was worked out.
    pub limits: Limits,
    /// For how many partitions.
    pub partitions: u32,
    /// Arrivals.
    pub taken: u64,
    /// Measurements in visits.
    pub tagged: u64,
    /// Too late for one.
    pub late: u64,
    /// By reason, in the order of [`Reason::ALL`].
    pub rejected: [u64; 6],
    /// Accepted events that were there already.
    pub repeated: u64,
    /// All visits, by browser ID and in order.
    pub visits: Vec<Visit>,
    /// All orders, by browser ID and in order.
    pub orders: Vec<Order>,
    /// SHA-256 over the lines `visit_id TAB browser_id TAB started TAB last_seen TAB measurements
    /// TAB end_reason LF` of all visits, sorted by browser ID (as bytes) and in each in order; the
    /// visit's ID in hex, times in ms.
    pub visits_sha256: [u8; 32],
    /// The sum (mod 2^128) over all tagged measurements of the first 16 bytes (least first) of
    /// SHA-256 over event ID, event time (8 bytes, least first) and visit ID. In any order.
    pub tags_sum: u128,
}

impl Truth {
    /// How many visits end for this reason.
    pub fn ends(&self, reason: EndReason) -> u64 {
        self.visits
            .iter()
            .filter(|visit| visit.end_reason == reason)
            .count() as u64
    }

    pub(super) fn add_tag(&mut self, event: &[u8; 16], time: i64, visit: &[u8; 16]) {
        self.tagged += 1;
        self.tags_sum = self.tags_sum.wrapping_add(tag_hash(event, time, visit));
    }

    pub(super) fn digest_visits(&mut self) {
        let mut sha = Sha256::new();
        for v in &self.visits {
            sha.update(format!(
                "{}\t{}\t{}\t{}\t{}\t{}\n",
                hex(&v.visit_id),
                v.browser_id,
                v.started,
                v.last_seen,
                v.measurements,
                v.end_reason.word()
            ));
        }
        self.visits_sha256.copy_from_slice(&sha.finalize());
    }

    /// All but the lists: what stands in `truth.json`.
    pub fn json(&self) -> Value {
        let rejected: Map<String, Value> = Reason::ALL
            .iter()
            .map(|reason| (reason.word().into(), self.rejected[*reason as usize].into()))
            .collect();
        let ends: Map<String, Value> = EndReason::ALL
            .iter()
            .map(|reason| (reason.word().into(), self.ends(*reason).into()))
            .collect();
        json!({
            "in": self.taken,
            "tagged": self.tagged,
            "late": self.late,
            "rejected": rejected,
            "repeated": self.repeated,
            "visits": self.visits.len(),
            "ends": ends,
            "orders": self.orders.len(),
            "orders_with_whole_chain": self.orders.iter().filter(|order| order.whole).count(),
            "visits_sha256": hex(&self.visits_sha256),
            "visits_sha256_of": "lines \"visit_id TAB browser_id TAB started TAB last_seen TAB \
                measurements TAB end_reason LF\", sorted by browser_id (as bytes) and by place in \
                the browser's history; IDs in hex, times in ms",
            "tags_sum": format!("{:032x}", self.tags_sum),
            "tags_sum_of": "sum mod 2^128, over the tagged measurements, of the first 16 bytes \
                (least first) of SHA-256(event_id, event_time as 8 bytes least first, visit_id)",
            "partitions": self.partitions,
            "limits": {
                "inactivity": self.limits.inactivity,
                "max_length": self.limits.max_length,
                "max_size": self.limits.max_size,
                "max_delay": self.limits.max_delay,
                "max_ahead": self.limits.max_ahead,
                "max_record": self.limits.max_record,
            },
        })
    }
}

/// One term of [`Truth::tags_sum`].
pub fn tag_hash(event_id: &[u8; 16], event_time: i64, visit_id: &[u8; 16]) -> u128 {
    let digest = Sha256::new()
        .chain_update(event_id)
        .chain_update(event_time.to_le_bytes())
        .chain_update(visit_id)
        .finalize();
    let mut term = [0; 16];
    term.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(term)
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    bytes
        .iter()
        .flat_map(|byte| {
            [
                DIGITS[usize::from(byte >> 4)],
                DIGITS[usize::from(byte & 15)],
            ]
        })
        .map(char::from)
        .collect()
}

/// A file of lines.
struct Lines {
    path: PathBuf,
    to: BufWriter<File>,
}

impl Lines {
    fn create(dir: &Path, name: &str) -> Result<Lines, GenerateError> {
        let path = dir.join(name);
        match File::create(&path) {
            Ok(file) => Ok(Lines {
                path,
                to: BufWriter::with_capacity(1 << 16, file),
            }),
            Err(source) => Err(GenerateError::Write { path, source }),
        }
    }

    fn line(&mut self, value: &Value) -> Result<(), GenerateError> {
        writeln!(self.to, "{value}").map_err(|source| self.failed(source))
    }

    fn failed(&self, source: std::io::Error) -> GenerateError {
        GenerateError::Write {
            path: self.path.clone(),
            source,
        }
    }

    fn finish(mut self) -> Result<(), GenerateError> {
        self.to.flush().map_err(|source| self.failed(source))
    }
}

/// The files of a truth; none by default.
#[derive(Default)]
pub(super) struct Outputs(Option<Open>);

struct Open {
    dir: PathBuf,
    made: Value,
    late: Lines,
    tags: Option<Lines>,
}

impl Outputs {
    /// Files in `dir`, which is made if it is not there. `made` is what was made, for `truth.json`.
    pub fn in_dir(dir: &Path, tags: bool, made: Value) -> Result<Outputs, GenerateError> {
        std::fs::create_dir_all(dir).map_err(|source| GenerateError::Write {
            path: dir.into(),
            source,
        })?;
        Ok(Outputs(Some(Open {
            dir: dir.into(),
            made,
            late: Lines::create(dir, "late.jsonl")?,
            tags: if tags {
                Some(Lines::create(dir, "tags.jsonl")?)
            } else {
                None
            },
        })))
    }

    pub fn late(&mut self, said: &Said, clock: i64, max_delay: i64) -> Result<(), GenerateError> {
        let Some(open) = &mut self.0 else {
            return Ok(());
        };
        open.late.line(&json!({
            "event_id": hex(&said.event_id),
            "event_time": said.event_time,
            "browser_id": said.browser_id,
            "clock": clock,
            "behind_clock": clock.saturating_sub(said.event_time),
            "beyond_max_delay": clock.saturating_sub(said.event_time).saturating_sub(max_delay),
        }))
    }

    pub fn tag(
        &mut self,
        event: &[u8; 16],
        time: i64,
        browser: &str,
        visit: &[u8; 16],
    ) -> Result<(), GenerateError> {
        let Some(Open {
            tags: Some(tags), ..
        }) = &mut self.0
        else {
            return Ok(());
        };
        tags.line(&json!({
            "event_id": hex(event),
            "event_time": time,
            "browser_id": browser,
            "visit_id": hex(visit),
        }))
    }

    /// Writes what is known only at the end; `truth.json` last, so that where it is all else is.
    pub fn finish(self, truth: &Truth) -> Result<(), GenerateError> {
        let Some(open) = self.0 else { return Ok(()) };
        open.late.finish()?;
        if let Some(tags) = open.tags {
            tags.finish()?;
        }
        let mut visits = Lines::create(&open.dir, "visits.jsonl")?;
        for v in &truth.visits {
            visits.line(&json!({
                "visit_id": hex(&v.visit_id),
                "browser_id": v.browser_id,
                "started": v.started,
                "last_seen": v.last_seen,
                "measurements": v.measurements,
                "end_reason": v.end_reason.word(),
                "customer_id": v.customer_id,
            }))?;
        }
        visits.finish()?;
        let mut orders = Lines::create(&open.dir, "orders.jsonl")?;
        for o in &truth.orders {
            orders.line(&json!({
                "order_id": o.order_id,
                "event_id": hex(&o.event_id),
                "event_time": o.event_time,
                "browser_id": o.browser_id,
                "visit_id": hex(&o.visit_id),
                "customer_id": o.customer_id,
                "value": o.value,
                "root_event_id": hex(o.chain.last().unwrap_or(&o.event_id)),
                "root_reason": o.root_reason,
                "whole": o.whole,
                "chain": o.chain.iter().map(|id| hex(id)).collect::<Vec<_>>(),
            }))?;
        }
        orders.finish()?;
        let mut all = truth.json();
        all["made"] = open.made;
        let mut file = Lines::create(&open.dir, "truth.json")?;
        writeln!(file.to, "{all:#}").map_err(|source| file.failed(source))?;
        file.finish()
    }
}
