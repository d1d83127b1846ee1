//! The newest orders, each with the way that led to it, for those who read them over HTTP: a ring of a
//! bounded number, in which an order that is said again takes the place of what was said before. What
//! is older than the ring is in the topics and tables, not here.
//!
//! As with the [board](super::board), orders of a tick are seen once it is complete, and who subscribes
//! has no queue: it asks what has come since it asked last.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use visitflow_dataflows::attribution::{Credit, Loser};

/// An order and what led to it. Times are in ms, money in the smallest unit of the currency.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Order {
    /// The event ID of its measurement, 32 hexadecimal digits: what an order is known by here.
    pub order_event: String,
    /// The shop's own number of it.
    pub order_id: String,
    /// The visit, 32 hexadecimal digits.
    pub visit_id: String,
    /// The browser.
    pub browser_id: String,
    /// The customer, if known.
    pub customer_id: Option<String>,
    /// The tick at which this became known.
    pub tick: u64,
    /// When it was made.
    pub time: i64,
    /// What it is worth.
    pub value: i64,
    /// Two capital letters.
    pub country: Option<String>,
    /// What kind of agent made it.
    pub agent: String,
    /// Whether nothing can change it any more: its visit has ended.
    pub r#final: bool,
    /// Whether the chain goes back to a root; otherwise a cause of it is not there.
    pub whole: bool,
    /// From the order back to its root.
    pub chain: Vec<Link>,
    /// What each touch on the way is worth, by each model.
    pub credits: Vec<Credit>,
}

/// A measurement on the way to an order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// Its ID in hexadecimal digits.
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
    /// What was shown beside it and was not taken.
    pub losers: Vec<Loser>,
}

/// The newest orders.
#[derive(Debug)]
pub struct Orders {
    most: usize,
    ring: Mutex<Ring>,
    completed: watch::Sender<Option<u64>>,
}

#[derive(Debug, Default)]
struct Ring {
    pending: BTreeMap<u64, Vec<Order>>,
    /// In the order in which they first came, each with the number of what was said of it last.
    orders: VecDeque<(u64, Arc<Order>)>,
    /// The number of what was said last of any.
    said: u64,
}

/// What is told of orders.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// The tick as of which.
    pub tick: u64,
    /// The number of what was said last, to go on from.
    pub said: u64,
    /// Whether this is all there is, in place of what was told before; otherwise it is what has come
    /// since.
    pub whole: bool,
    /// The orders: the newest first if it is all, as they came if it is what has come.
    pub orders: Vec<Arc<Order>>,
}

impl Orders {
    /// That keeps so many.
    pub fn new(most: usize) -> Orders {
        Orders {
            most,
            ring: Mutex::default(),
            completed: watch::Sender::new(None),
        }
    }

    /// Lays down orders of a tick, new ones and corrected ones.
    pub fn apply(&self, tick: u64, orders: Vec<Order>) {
        if !orders.is_empty() {
            self.ring().pending.entry(tick).or_default().extend(orders);
        }
    }

    /// Says that all orders up to this tick have been applied: only now are they seen. Looks for each
    /// of them in the ring.
    pub fn complete(&self, tick: u64) {
        let mut ring = self.ring();
        let tick = match tick {
            u64::MAX => ring.pending.keys().last().copied(),
            tick => Some(tick),
        };
        let (Some(tick), before) = (tick, *self.completed.borrow()) else {
            return;
        };
        if before.is_some_and(|before| before >= tick) && ring.pending.is_empty() {
            return;
        }
        let later = ring.pending.split_off(&tick.saturating_add(1));
        let ready = std::mem::replace(&mut ring.pending, later);
        // Nobody is woken for nothing.
        let wakes = before.is_none() || !ready.is_empty();
        for order in ready.into_values().flatten() {
            ring.put(order, self.most);
        }
        drop(ring);
        self.completed.send_if_modified(|completed| {
            *completed = before.max(Some(tick));
            wakes
        });
    }

    /// The newest so many orders, the newest first; `None` before any tick is complete.
    pub fn newest(&self, limit: usize) -> Option<News> {
        let tick = (*self.completed.borrow())?;
        let ring = self.ring();
        let orders = ring.orders.iter().rev().take(limit);
        Some(News {
            tick,
            said: ring.said,
            whole: true,
            orders: orders.map(|(_, order)| order.clone()).collect(),
        })
    }

    /// Subscribes: what comes first are the newest so many, or, with the number of what was heard last,
    /// what has come since.
    pub fn subscribe(self: &Arc<Orders>, limit: usize, said: Option<u64>) -> Following {
        Following {
            ticks: self.completed.subscribe(),
            orders: self.clone(),
            limit,
            said,
        }
    }

    /// What has been said since, if the ring still has all of it.
    fn since(&self, said: u64) -> Option<News> {
        let tick = (*self.completed.borrow())?;
        let ring = self.ring();
        let mut since: Vec<_> = ring.orders.iter().filter(|(n, _)| *n > said).collect();
        since.sort_by_key(|(n, _)| *n);
        // What was said of an order twice counts once; what has left the ring was said before.
        let missed = ring.said.checked_sub(said)? > self.most as u64;
        (!missed).then(|| News {
            tick,
            said: ring.said,
            whole: false,
            orders: since.into_iter().map(|(_, order)| order.clone()).collect(),
        })
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ring {
    fn put(&mut self, order: Order, most: usize) {
        self.said += 1;
        let known = self.orders.iter_mut().rev();
        let known = { known }.find(|(_, known)| known.order_event == order.order_event);
        match known {
            Some(place) => *place = (self.said, Arc::new(order)),
            None => {
                self.orders.push_back((self.said, Arc::new(order)));
                if self.orders.len() > most {
                    self.orders.pop_front();
                }
            }
        }
    }
}

/// One who reads the newest orders, and then each as it comes or is corrected.
#[derive(Debug)]
pub struct Following {
    orders: Arc<Orders>,
    ticks: watch::Receiver<Option<u64>>,
    limit: usize,
    said: Option<u64>,
}

impl Following {
    /// What is to be told next, when there is something. May be given up while it waits.
    pub async fn next(&mut self) -> News {
        loop {
            self.ticks.borrow_and_update();
            if let Some(news) = self.look() {
                return news;
            }
            if self.ticks.changed().await.is_err() {
                // The orders hold the other end, and this holds the orders.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is to be told now, if there is something.
    pub fn look(&mut self) -> Option<News> {
        let since = self.said.and_then(|said| self.orders.since(said));
        let news = match since {
            Some(news) if news.orders.is_empty() => return None,
            Some(news) => news,
            None => self.orders.newest(self.limit)?,
        };
        self.said = Some(news.said);
        Some(news)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(event: u64, value: i64) -> Order {
        Order {
            order_event: format!("{event:032x}"),
            value,
            ..Order::default()
        }
    }

    fn values(news: &News) -> Vec<i64> {
        news.orders.iter().map(|order| order.value).collect()
    }

    #[test]
    fn the_newest_come_first_and_a_correction_takes_the_place_of_what_it_corrects() {
        let orders = Orders::new(3);
        orders.apply(100, vec![order(1, 10), order(2, 20)]);
        assert_eq!(orders.newest(9), None, "no tick is complete");
        orders.complete(100);
        orders.apply(200, vec![order(1, 11), order(3, 30)]);
        assert_eq!(values(&orders.newest(9).unwrap()), [20, 10]);
        orders.complete(200);
        assert_eq!(values(&orders.newest(9).unwrap()), [30, 20, 11]);
        assert_eq!(values(&orders.newest(1).unwrap()), [30]);
        orders.apply(300, vec![order(4, 40)]);
        orders.complete(300);
        assert_eq!(values(&orders.newest(9).unwrap()), [40, 30, 20]);
    }

    #[test]
    fn a_subscriber_hears_each_order_and_each_correction() {
        let orders = Arc::new(Orders::new(3));
        let mut one = orders.subscribe(2, None);
        assert_eq!(one.look(), None);
        orders.apply(100, vec![order(1, 10), order(2, 20), order(3, 30)]);
        orders.complete(100);
        let first = one.look().unwrap();
        assert_eq!((first.whole, values(&first)), (true, vec![30, 20]));
        orders.complete(150);
        assert_eq!(one.look(), None);
        orders.apply(200, vec![order(1, 11), order(4, 40), order(4, 41)]);
        orders.complete(200);
        let more = one.look().unwrap();
        assert!(!more.whole);
        // The correction of the first came, and then the fourth pushed it out of the ring.
        assert_eq!(values(&more), [41]);
        assert_eq!(
            one.look(),
            None,
            "what a later word replaced is not said any more"
        );
    }

    #[test]
    fn a_subscriber_who_has_missed_more_than_the_ring_holds_gets_all_of_it() {
        let orders = Arc::new(Orders::new(2));
        let mut slow = orders.subscribe(9, None);
        orders.complete(1);
        assert_eq!(slow.look().map(|news| news.orders.len()), Some(0));
        for n in 0..3 {
            orders.apply(n + 2, vec![order(n, n as i64)]);
            orders.complete(n + 2);
        }
        let news = slow.look().unwrap();
        assert_eq!((news.whole, values(&news)), (true, vec![2, 1]));
        let mut ahead = orders.subscribe(9, Some(99));
        assert!(ahead.look().unwrap().whole, "a number of another start");
    }

    #[test]
    fn an_order_travels_between_processes_and_is_what_the_contract_says() {
        let mut whole = order(1, 12_900);
        whole.chain = vec![Link {
            losers: vec![Loser::default()],
            ..Link::default()
        }];
        whole.credits = vec![Credit::default()];
        let bytes = postcard::to_allocvec(&whole).unwrap();
        assert_eq!(postcard::from_bytes::<Order>(&bytes).unwrap(), whole);
        let json = serde_json::to_value(&whole).unwrap();
        assert_eq!(json["final"], false);
        assert!(json["customer_id"].is_null());
        assert!(json["chain"][0]["losers"][0]["reason"].is_null());
    }
}
