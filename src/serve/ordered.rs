//! `/orders`: the newest orders with what led to them, and each as it comes. For who may read who did
//! what.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::response::sse::Event;
use serde_json::json;

use super::call::{Call, Said, json};
use super::orders::Following;
use super::problem::Problem;
use super::sse::{self, event};

/// How many there are in an answer if nothing is said.
const USUAL: usize = 20;

/// The newest.
pub async fn read(call: Call) -> Said {
    let limit = call.limit("limit", USUAL, call.site.limits.orders)?;
    let news = call.site.served.orders.newest(limit);
    let news = news.ok_or_else(|| Problem::unavailable("no tick is complete yet"))?;
    let orders: Vec<_> = news.orders.iter().map(|order| &**order).collect();
    json(&json!({"tick": news.tick, "orders": orders}))
}

/// The newest, and then each.
pub async fn changes(call: Call) -> Said {
    let limit = call.limit("limit", USUAL, call.site.limits.orders)?;
    let seat = sse::seat(&call)?;
    let start = call.site.start.clone();
    // Numbers are of one start of the process; another's say nothing here.
    let said = call.last_event().and_then(|id| {
        let (of, said) = id.split_once('-')?;
        said.parse().ok().filter(|_| *of == *start)
    });
    let following = call.site.served.orders.subscribe(limit, said);
    let telling = Telling {
        following,
        start,
        rest: VecDeque::new(),
    };
    sse::tell(seat, telling, |mut telling| async move {
        Some((telling.next().await, telling))
    })
}

struct Telling {
    following: Following,
    start: Arc<str>,
    rest: VecDeque<Event>,
}

impl Telling {
    async fn next(&mut self) -> Event {
        loop {
            if let Some(event) = self.rest.pop_front() {
                return event;
            }
            let news = self.following.next().await;
            let id = Some(format!("{}-{}", self.start, news.said));
            if news.whole {
                let orders: Vec<_> = news.orders.iter().map(|order| &**order).collect();
                let data = json!({"tick": news.tick, "orders": orders});
                return event("snapshot", id, &data);
            }
            // Only with the last of them has who listens heard all up to there.
            let last = news.orders.len().saturating_sub(1);
            let orders = news.orders.iter().enumerate();
            let events = orders.map(|(n, order)| {
                let id = id.clone().filter(|_| n == last);
                event("order", id, &**order)
            });
            self.rest.extend(events);
        }
    }
}
