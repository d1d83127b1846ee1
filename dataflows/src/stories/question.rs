//! Questions about open visits, and their answers. Each is put to all workers, as of one tick; each
//! worker answers for the browsers and customers that it has.

use serde::{Deserialize, Serialize};
use visitflow_schemas::records::browser_text;

use super::story::{Story, stories_of};
use super::telling::agent_of;
use super::watching::read_all;
use crate::attribution::Order;
use crate::complete::Looked;
use crate::fact::{Fact, Id, Reading};
use crate::visit::{Rules, Tick, bytes_of_words};

/// A question.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Question {
    /// As of all that was before this tick.
    pub at: Tick,
    /// The process that asks.
    pub process: u32,
    /// By what that process knows it.
    pub id: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Ask {
    /// A visit, with its measurements.
    Visit([u64; 2]),
    /// The open visits of a browser.
    Browser(Box<[u8]>),
    /// Some open visits, those that began last.
    Newest {
        /// How many.
        limit: u32,
        /// Of this kind of agent only.
        agent: Option<Box<str>>,
    },
    /// Everything that tables do not hold which have all visits sealed at or before this tick: open
    /// visits, and those sealed later.
    Live(Tick),
    /// From when on sealed visits are still there.
    Kept,
    /// What is known of a customer. It is [profiles](crate::profiles::profiles) that answer.
    Profile(Box<str>),
    /// Nothing: from now on the process that says so holds on to what was sealed after this tick.
    Hold(Tick),
}

/// What an answer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Of {
    /// Of [`Ask::Visit`].
    Visit,
    /// Of [`Ask::Browser`] and [`Ask::Newest`].
    Visits,
    /// Of [`Ask::Live`].
    Live,
    /// Of [`Ask::Kept`].
    Kept,
    /// Of [`Ask::Profile`].
    Profile,
}

/// A worker's answer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// As of when.
    pub at: Tick,
    /// The process that has asked.
    pub process: u32,
    /// By what it knows the question.
    pub id: u64,
    /// What it is.
    pub of: Of,
    /// The visits of this worker,
    pub visits: Vec<Shown>,
    /// but for one that has still to be [read](Answer::read).
    pub unread: Option<Unread>,
    /// Every visit of this worker that was sealed after this tick is still there.
    pub kept: Tick,
    /// The profile that was asked for, as JSON, if this worker has it.
    pub profile: Option<Box<str>>,
}

impl Answer {
    /// An answer to a question for a profile.
    #[must_use]
    pub fn of_profile(question: &Question, profile: Option<String>) -> Answer {
        Answer {
            at: question.at,
            process: question.process,
            id: question.id,
            of: Of::Profile,
            visits: Vec::new(),
            unread: None,
            kept: 0,
            profile: profile.map(String::into_boxed_str),
        }
    }

    /// Reads what the worker has left to whoever has asked, by the rules and with the schemas of the job:
    /// a worker has more to do, and others wait for it.
    pub fn read(&mut self, reading: &mut Reading, rules: &Rules) {
        let unread = self.unread.take();
        let shown = unread.and_then(|unread| unread.read(reading, rules));
        self.visits.extend(shown);
    }
}

/// All that is kept of a browser's open visits, as bytes, for one of them that has no orders.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Unread {
    pub(super) visit: [u64; 2],
    pub(super) browser_id: Box<[u8]>,
    pub(super) robot: bool,
    pub(super) bytes: Vec<u8>,
}

impl Unread {
    fn read(self, reading: &mut Reading, rules: &Rules) -> Option<Shown> {
        let looked = Looked::of(self.bytes);
        let facts = read_all(reading, Some(&looked));
        let mut visits = stories_of(&self.browser_id, &facts, rules).into_iter();
        let (visit, facts) = visits.find(|(visit, _)| visit.id == self.visit)?;
        let story = Story::new(visit, facts, agent_of(facts, self.robot), None);
        Some(Shown::whole(&self.browser_id, &story, Vec::new()))
    }
}

/// A visit that is open, or was sealed of late.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    /// Its ID.
    pub visit: [u8; 16],
    /// The browser's ID, as text.
    pub browser_id: String,
    /// The event time of its first measurement, in ms.
    pub started: i64,
    /// The event time of its last so far.
    pub last_seen: i64,
    /// How many it has.
    pub measurements: u32,
    /// Two letters, or nothing.
    pub country: String,
    /// The kind of agent; for [`Ask::Live`] that of the table, which knows no browser to be a robot.
    pub agent: String,
    /// The first customer that it names.
    pub customer_id: Option<String>,
    /// How many orders.
    pub orders: u32,
    /// The tick of its seal and why it ended, if it has.
    pub ended: Option<(Tick, String)>,
    /// Its measurements, in order, if they were asked for.
    pub facts: Vec<Facts>,
    /// Its orders and what led to them, if measurements were asked for.
    pub attributed: Vec<Order>,
}

/// A measurement of an open visit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// The key of its ID.
    pub event: [u8; 16],
    /// Event time in ms.
    pub time: i64,
    /// What happened.
    pub effect: String,
    /// The kind of thing it happened to.
    pub entity: String,
    /// Which one.
    pub entity_id: Option<String>,
    /// Why it was there.
    pub reason: Option<String>,
    /// The key of the ID of what led to it.
    pub cause: Option<[u8; 16]>,
    /// In the smallest unit of the currency.
    pub value: Option<i64>,
}

impl Shown {
    /// A visit, without its measurements.
    #[must_use]
    pub fn of(browser_id: &[u8], story: &Story<'_>) -> Shown {
        Shown {
            visit: bytes_of_words(story.visit.id),
            browser_id: browser_text(browser_id).into_owned(),
            started: story.visit.first.time,
            last_seen: story.visit.last,
            measurements: story.visit.count,
            country: story.country().to_owned(),
            agent: story.agent.word().to_owned(),
            customer_id: story.customer().map(|id| match id {
                Id::Bytes(id) => browser_text(id).into_owned(),
                id => id.text().into_owned(),
            }),
            orders: story.orders().count() as u32,
            ended: None,
            facts: Vec::new(),
            attributed: Vec::new(),
        }
    }
}

impl Shown {
    /// A visit with its measurements, and its orders with what led to them.
    pub(super) fn whole(browser_id: &[u8], story: &Story<'_>, attributed: Vec<Order>) -> Shown {
        Shown {
            facts: story.facts.iter().map(Facts::of).collect(),
            attributed,
            ..Shown::of(browser_id, story)
        }
    }
}

impl Facts {
    /// A measurement.
    #[must_use]
    pub fn of(fact: &Fact<'_>) -> Facts {
        Facts {
            event: bytes_of_words(fact.at.event),
            time: fact.at.time,
            effect: fact.effect.to_owned(),
            entity: fact.entity.to_owned(),
            entity_id: fact.entity_id.map(|id| id.text().into_owned()),
            reason: fact.reason.map(str::to_owned),
            cause: fact.cause.map(bytes_of_words),
            value: fact.value,
        }
    }
}
