//! What a view shows, worked out from a run's counters: rates, latencies, the newest tags, and what
//! time stands on.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering;
use std::time::Instant;

use visitflow_dataflows::visit::Rules;
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::tag::AGENT_CLASSES;
use visitflow_schemas::walk::{Found, Walk};

use crate::generate;
use crate::job::Job;
use crate::run::Handle;
use crate::run::metrics::Newest;
use crate::run::status::Status;

/// How many seconds of rates are kept.
pub const SECONDS: usize = 120;

/// Works out what is shown.
pub struct Facts {
    job: Job,
    rules: Rules,
    handle: Handle,
    walks: HashMap<u64, Walk>,
    until: Option<Instant>,
    began: Instant,
    second: Instant,
    before: u64,
    rates: VecDeque<u64>,
}

/// What is shown at one moment.
pub struct Now {
    /// Where the page is.
    pub page: String,
    /// Seconds since the view began.
    pub seconds: u64,
    /// Measurements in the last whole second.
    pub rate: u64,
    /// The same for each of the last [`SECONDS`], the newest last.
    pub rates: Vec<u64>,
    /// Measurements in all.
    pub read: u64,
    /// Visits open, begun, revised.
    pub visits: [u64; 3],
    /// Visits ended by inactivity, length, size.
    pub ended: [u64; 3],
    /// Median and 99th percentile from append to tag, in ms.
    pub latency: Option<(u32, u32)>,
    /// The newest tags, the newest first.
    pub tags: Vec<Tag>,
    /// What time stands on.
    pub status: Status,
}

/// A tag, in words.
pub struct Tag {
    /// Event time in ms.
    pub time: i64,
    /// The first digits of the visit's ID.
    pub visit: String,
    /// What happened.
    pub effect: String,
    /// To what.
    pub entity: String,
    /// Who: the agent's class.
    pub agent: &'static str,
    /// The robot's name, or the browser's and the system's.
    pub sender: String,
}

impl Facts {
    /// Where the page is.
    pub fn page(&self) -> Option<String> {
        let address = self.handle.address?;
        Some(format!("http://{address}/"))
    }

    /// Of a run; the view ends at `until`.
    pub fn new(job: Job, rules: Rules, handle: Handle, until: Option<Instant>) -> Facts {
        let walk = |(_, schema): (&str, &visitflow_schemas::schema::Schema)| {
            let roles = Roles::find(schema, &Overrides::default()).ok()?;
            Some((
                schema.fingerprint(),
                Walk::compile(schema, &roles, None).ok()?,
            ))
        };
        let now = Instant::now();
        Facts {
            job,
            rules,
            handle,
            walks: generate::schemas().filter_map(walk).collect(),
            until,
            began: now,
            second: now,
            before: 0,
            rates: VecDeque::new(),
        }
    }

    /// Whether it is time to leave.
    pub fn over(&self) -> bool {
        self.handle.ended() || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// What is so now.
    pub fn now(&mut self) -> Now {
        let metrics = &self.handle.metrics;
        let (read, _) = metrics.read();
        let passed = self.second.elapsed().as_secs_f64();
        if passed >= 1.0 {
            self.rates
                .push_back(((read - self.before) as f64 / passed) as u64);
            if self.rates.len() > SECONDS {
                self.rates.pop_front();
            }
            (self.second, self.before) = (Instant::now(), read);
        }
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        Now {
            page: self.page().unwrap_or_default(),
            seconds: self.began.elapsed().as_secs(),
            rate: self.rates.back().copied().unwrap_or(0),
            rates: self.rates.iter().copied().collect(),
            read,
            visits: [
                metrics.open_visits(),
                count(&metrics.started),
                count(&metrics.revised),
            ],
            ended: [0, 1, 2].map(|reason| count(&metrics.ended[reason])),
            latency: metrics.latency(),
            tags: metrics
                .newest()
                .iter()
                .rev()
                .map(|newest| self.tag(newest))
                .collect(),
            status: Status::of(&self.job, 0, &self.handle, self.rules),
        }
    }

    fn tag(&self, newest: &Newest) -> Tag {
        let (schema, body) = &newest.body;
        let mut found = Found::default();
        let walked = self
            .walks
            .get(schema)
            .is_some_and(|walk| walk.run(body, &mut found).is_ok());
        let text = |role| {
            found
                .text(body, role)
                .filter(|_| walked)
                .unwrap_or_default()
        };
        let (agent, sender) = sender(&newest.context).unwrap_or(("unknown", String::new()));
        let entity = [text(Role::Entity), text(Role::EntityId)].join(" ");
        Tag {
            time: newest.time,
            visit: newest.visit[..5]
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            effect: text(Role::Effect).to_owned(),
            entity: entity.trim_end().to_owned(),
            agent,
            sender,
        }
    }
}

/// The agent's class in a context, and its names: the robot's, or the browser's and the system's.
fn sender(mut context: &[u8]) -> Option<(&'static str, String)> {
    let _country = text(&mut context)?;
    let (class, rest) = context.split_first()?;
    context = rest;
    let names = [(); 3].map(|()| text(&mut context).flatten());
    let names: Vec<_> = names.into_iter().flatten().collect();
    let class = AGENT_CLASSES.get(usize::from(*class >> 1))?;
    Some((class, names.join(", ")))
}

/// Takes a nullable text off the front of an Avro body; such names are short.
fn text<'a>(body: &mut &'a [u8]) -> Option<Option<&'a str>> {
    let (branch, rest) = body.split_first()?;
    *body = rest;
    if *branch == 0 {
        return Some(None);
    }
    let (length, rest) = body.split_first().filter(|(length, _)| **length < 128)?;
    let (text, rest) = rest.split_at_checked(usize::from(*length >> 1))?;
    *body = rest;
    Some(std::str::from_utf8(text).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sender_is_told_as_enrichment_found_it() {
        let person = b"\x02\x04NL\x00\x00\x02\x0cChrome\x02\x0eWindows\x00";
        let robot = b"\x00\x02\x02\x08curl\x00\x00\x00";
        let told = |context| sender(context).unwrap();
        assert_eq!(told(&person[..]), ("person", "Chrome, Windows".into()));
        assert_eq!(told(&robot[..]), ("robot", "curl".into()));
        assert_eq!(sender(b""), None);
        assert_eq!(sender(b"\x02\xff"), None);
    }
}
