//! What readers ask of the dataflow, and what it answers: what is too much, or too seldom asked for,
//! to lie on the [board](super::board). Plain data that travels between workers and processes, so
//! nothing here needs a format that describes itself. The asking is done by the [desk](super::desk).

use serde::{Deserialize, Serialize};

/// A question to all workers. It is answered as of one tick that all of them have completed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// The open visit of this ID with all its measurements, [`Answer::Visit`]; [`Answer::Ended`] if it
    /// is known to have ended.
    Visit([u8; 16]),
    /// The open visits of a browser, [`Answer::Visits`].
    Browser(Vec<u8>),
    /// Some open visits, [`Answer::Visits`]; lately begun ones first. Each worker may give as many as
    /// the limit: the reader takes the newest of all.
    Newest {
        /// How many.
        limit: u32,
        /// Only of this kind of agent.
        agent: Option<String>,
    },
    /// What is known of a customer, [`Answer::Profile`].
    Profile(Vec<u8>),
    /// Everything that a version of the tables, which has all that is sealed at or before this tick,
    /// does not have: open visits, and those sealed later. [`Answer::Live`] of each worker.
    Live {
        /// The version's tick.
        after: u64,
    },
    /// From which tick on each worker still has the visits that are sealed, [`Answer::Kept`] of each: so
    /// is a new hold made sure of.
    Kept,
}

/// A part of an answer: what one worker, or one process, has to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing: others have it, or nobody.
    Nothing,
    /// An open visit.
    Visit(Box<WholeVisit>),
    /// The visit has ended.
    Ended {
        /// When, the tick of its seal.
        tick: u64,
        /// Why: `inactivity`, `length` or `size`.
        reason: String,
    },
    /// Open visits.
    Visits(Vec<OpenVisit>),
    /// A customer's profile, as JSON.
    Profile(String),
    /// Visits that a version of the tables does not have.
    Live {
        /// As in [`Answer::Kept`]: unless this is at or before the tick that was asked for, the answer
        /// is not whole.
        kept: u64,
        /// The visits.
        visits: Vec<LiveVisit>,
    },
    /// Every visit of this worker that was sealed after this tick is still there.
    Kept(u64),
}

/// An open visit in short. Times are in ms.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenVisit {
    /// 32 hexadecimal digits.
    pub visit_id: String,
    /// The browser.
    pub browser_id: String,
    /// Its first measurement.
    pub started: i64,
    /// Its last so far.
    pub last_seen: i64,
    /// How many it has.
    pub measurements: u64,
    /// Two capital letters.
    pub country: Option<String>,
    /// What kind of agent.
    pub agent: String,
    /// The customer, if known.
    pub customer_id: Option<String>,
    /// How many orders.
    pub orders: u64,
}

/// An open visit with all its measurements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WholeVisit {
    /// In short.
    pub visit: OpenVisit,
    /// Its measurements, in order.
    pub facts: Vec<VisitFact>,
}

/// A measurement of a visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VisitFact {
    /// Its ID.
    pub event_id: String,
    /// When it happened.
    pub time: i64,
    /// What happened.
    pub effect: String,
    /// To what kind of thing.
    pub entity: String,
    /// Which one.
    pub entity_id: Option<String>,
    /// Why it was there.
    pub reason: Option<String>,
    /// The ID of the measurement that led to it.
    pub cause: Option<String>,
    /// In the smallest unit of the currency.
    pub value: Option<i64>,
}

/// A visit with the columns of the table `visits`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveVisit {
    /// 32 hexadecimal digits.
    pub visit_id: String,
    /// The browser.
    pub browser_id: String,
    /// Its first measurement.
    pub started: i64,
    /// Its last, so far if it is open.
    pub last_seen: i64,
    /// How many it has.
    pub measurements: u64,
    /// Why it has ended; `None` if it is open.
    pub end_reason: Option<String>,
    /// Two capital letters.
    pub country: Option<String>,
    /// What kind of agent.
    pub agent: Option<String>,
    /// The customer, if known.
    pub customer_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_and_answers_travel_as_bytes() {
        let questions = [
            Question::Visit([7; 16]),
            Question::Browser(b"\xff".into()),
            Question::Newest {
                limit: 10,
                agent: Some("person".into()),
            },
            Question::Profile(vec![]),
            Question::Live { after: 9 },
            Question::Kept,
        ];
        for question in questions {
            let bytes = postcard::to_allocvec(&question).unwrap();
            assert_eq!(postcard::from_bytes::<Question>(&bytes).unwrap(), question);
        }
        let answers = [
            Answer::Nothing,
            Answer::Visit(Box::new(WholeVisit {
                facts: vec![VisitFact::default()],
                ..WholeVisit::default()
            })),
            Answer::Ended {
                tick: 3,
                reason: "size".into(),
            },
            Answer::Visits(vec![OpenVisit::default()]),
            Answer::Profile("{}".into()),
            Answer::Live {
                kept: 3,
                visits: vec![LiveVisit::default()],
            },
            Answer::Kept(7),
        ];
        for answer in answers {
            let bytes = postcard::to_allocvec(&answer).unwrap();
            assert_eq!(postcard::from_bytes::<Answer>(&bytes).unwrap(), answer);
        }
    }
}
