//! `/visits` and `/profiles`: what the dataflow knows of open visits and of customers, asked at the
//! [desk](super::desk). For who may read who did what.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use axum::response::sse::Event;
use serde_json::{Map, Value, json};

use super::Site;
use super::call::{Call, Said, json};
use super::desk::{Answered, NoAnswer};
use super::problem::Problem;
use super::question::{Answer, OpenVisit, Question, WholeVisit};
use super::sse::{self, event};

/// How many there are in an answer if nothing is said.
const USUAL: usize = 10;
/// How often an open visit is looked at for who follows it.
const LOOK: Duration = Duration::from_secs(1);

async fn ask(site: &Site, question: Question) -> Result<Answered, NoAnswer> {
    site.served.desk.ask(question, site.limits.timeout).await
}

/// Some open visits, or those of a browser.
pub async fn list(call: Call) -> Said {
    let most = call.site.limits.rows;
    let limit = call.limit("limit", USUAL, most)?;
    let (question, limit) = match call.text("browser") {
        Some(browser) => {
            call.only(&["browser"])?;
            (Question::Browser(browser.as_bytes().into()), most)
        }
        None => {
            let agent = call.text("agent").map(str::to_owned);
            let limit32 = u32::try_from(limit).unwrap_or(u32::MAX);
            let question = Question::Newest {
                limit: limit32,
                agent,
            };
            (question, limit)
        }
    };
    let answered = ask(&call.site, question).await?;
    let parts = answered.parts.into_iter();
    let visits = parts.filter_map(|part| match part {
        Answer::Visits(visits) => Some(visits),
        _ => None,
    });
    let mut visits: Vec<OpenVisit> = visits.flatten().collect();
    visits.sort_by(|a, b| {
        let key = |visit: &OpenVisit| Reverse(visit.started);
        (key(a), &a.visit_id).cmp(&(key(b), &b.visit_id))
    });
    visits.truncate(limit);
    json(&json!({"tick": answered.tick, "visits": visits}))
}

/// What is known of a visit.
enum Known {
    Open(Box<WholeVisit>),
    Ended(u64, String),
    Nothing,
}

async fn look(site: &Site, id: u128) -> Result<(u64, Known), NoAnswer> {
    let answered = ask(site, Question::Visit(id.to_be_bytes())).await?;
    let known = answered.parts.into_iter().find_map(|part| match part {
        Answer::Visit(visit) => Some(Known::Open(visit)),
        Answer::Ended { tick, reason } => Some(Known::Ended(tick, reason)),
        _ => None,
    });
    Ok((answered.tick, known.unwrap_or(Known::Nothing)))
}

/// A visit that is open as of a tick, or why it is not.
async fn open(site: &Site, id: u128) -> Result<(u64, Box<WholeVisit>), Problem> {
    match look(site, id).await? {
        (tick, Known::Open(visit)) => Ok((tick, visit)),
        (_, Known::Ended(tick, reason)) => Err(Problem::gone(format!(
            "the visit {id:032x} ended at {tick} ({reason}); it is in the tables"
        ))),
        (tick, Known::Nothing) => Err(Problem::not_found(format!(
            "no visit {id:032x} is open at {tick}; what has ended is in the tables"
        ))),
    }
}

fn object(tick: u64, visit: &WholeVisit) -> Value {
    let mut object = Map::from_iter([("tick".to_owned(), tick.into())]);
    if let Ok(Value::Object(fields)) = serde_json::to_value(&visit.visit) {
        object.extend(fields);
    }
    object.insert("facts".to_owned(), json!(visit.facts));
    Value::Object(object)
}

/// One open visit.
pub async fn read(call: Call) -> Said {
    let id = call.id("visit_id")?;
    let (tick, visit) = open(&call.site, id).await?;
    json(&object(tick, &visit))
}

/// One open visit as it grows, until it ends.
pub async fn changes(call: Call) -> Said {
    let id = call.id("visit_id")?;
    let seat = sse::seat(&call)?;
    let first = open(&call.site, id).await?;
    let following = Following {
        site: call.site.clone(),
        id,
        news: Some(first),
        last: None,
        ended: false,
    };
    sse::tell(seat, following, |mut following| async move {
        let event = following.next().await?;
        Some((event, following))
    })
}

/// One who follows a visit.
struct Following {
    site: Arc<Site>,
    id: u128,
    /// What is to be told.
    news: Option<(u64, Box<WholeVisit>)>,
    /// What was told last.
    last: Option<Box<WholeVisit>>,
    ended: bool,
}

impl Following {
    async fn next(&mut self) -> Option<Event> {
        while !self.ended {
            if let Some((tick, visit)) = self.news.take()
                && self.last.as_ref() != Some(&visit)
            {
                let event = event("visit", Some(tick.to_string()), &object(tick, &visit));
                self.last = Some(visit);
                return Some(event);
            }
            tokio::time::sleep(LOOK).await;
            let (tick, reason) = match look(&self.site, self.id).await {
                Ok((tick, Known::Open(visit))) => {
                    self.news = Some((tick, visit));
                    continue;
                }
                Ok((_, Known::Ended(tick, reason))) => (tick, Some(reason)),
                // It has ended, and nobody knows of it any more.
                Ok((tick, Known::Nothing)) => (tick, None),
                Err(NoAnswer::Closed(_)) => return None,
                // The next look will tell.
                Err(NoAnswer::Busy(_) | NoAnswer::Late(_)) => continue,
            };
            self.ended = true;
            let visit_id = format!("{:032x}", self.id);
            let data = json!({"visit_id": visit_id, "tick": tick, "reason": reason});
            return Some(event("end", Some(tick.to_string()), &data));
        }
        None
    }
}

/// What is known of a customer.
pub async fn profile(call: Call) -> Said {
    let customer = call.part("customer_id");
    let question = Question::Profile(customer.as_bytes().into());
    let answered = ask(&call.site, question).await?;
    let profile = answered.parts.into_iter().find_map(|part| match part {
        Answer::Profile(profile) => serde_json::from_str::<Value>(&profile).ok(),
        _ => None,
    });
    let tick = answered.tick;
    match profile {
        Some(profile) => json(&json!({"tick": tick, "customer_id": customer, "profile": profile})),
        None => Err(Problem::not_found(format!(
            "nothing is known of this customer at {tick}"
        ))),
    }
}
