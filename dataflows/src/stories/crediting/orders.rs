//! Open orders, as they were credited last: so that they can be credited anew, and what they have added
//! to views can be taken back.

use std::collections::BTreeMap;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use serde::{Deserialize, Serialize};

use super::super::contributions::{Fields, of_credit};
use super::{
    Answer, Asking, ByShard, Credited, Customer, FORMAT, Heard, OfOrder, Owing, Place, Placed,
    Says, To, bytes_of,
};
use crate::attribution::{Credit, Past, PastTouch, Settings};
use crate::durable::Durable;
use crate::fact::Agent;
use crate::views::{Key, Of, Sums, View};
use crate::visit::{Tick, bytes_of_words};

/// An answer that waits for what its orders' customers have left: that comes from other workers, and may
/// be here first.
#[derive(Default)]
struct Waiting {
    owing: Option<Owing>,
    /// By the numbers of orders.
    pasts: BTreeMap<u32, Vec<PastTouch>>,
}

/// The open orders of one worker's shards.
pub(super) struct Orders {
    views: Rc<[View]>,
    settings: Settings,
    durable: Durable,
    /// By their browsers' shards.
    open: Vec<BTreeMap<Place, Kept>>,
    /// By their questions.
    waiting: BTreeMap<(u32, u64), Waiting>,
}

/// What is kept of an open order.
#[derive(Serialize, Deserialize)]
struct Kept {
    /// A hash of what was said of it.
    said: u64,
    /// The order with the credits that were said, in the form of a snapshot: a fraction of itself. Of one
    /// that names nobody, and so changes only with its visit, without what led to it.
    order: Box<[u8]>,
}

impl Kept {
    fn placed(&self) -> Placed {
        postcard::from_bytes(&self.order).expect("an order is as it was written, behind a checksum")
    }
}

impl Orders {
    /// What was kept.
    pub fn restore(views: Rc<[View]>, settings: &Settings, mut durable: Durable) -> Orders {
        let mut open: Vec<BTreeMap<Place, Kept>> = (0..256).map(|_| BTreeMap::new()).collect();
        for (shard, orders) in durable.restore::<(u8, BTreeMap<Place, Kept>)>(FORMAT) {
            open[usize::from(shard)] = orders;
        }
        Orders {
            views,
            settings: settings.clone(),
            durable,
            open,
            waiting: BTreeMap::new(),
        }
    }

    /// Takes what was heard of a step, or was asked behind it.
    pub fn advance(&mut self, at: Tick, heard: Vec<Heard>, says: &mut Says) {
        let mut placed = BTreeMap::new();
        let mut gone = Vec::new();
        let mut pasts: BTreeMap<(u8, Place), Vec<PastTouch>> = BTreeMap::new();
        for heard in heard {
            match heard {
                Heard::Order(OfOrder::Placed(order)) => {
                    placed.insert((order.shard, order.place), *order);
                }
                Heard::Order(OfOrder::Gone(shard, place)) => gone.push((shard, place)),
                Heard::Order(OfOrder::Owing(owing)) => {
                    let question = (owing.answer.process, owing.answer.id);
                    self.waiting.entry(question).or_default().owing = Some(*owing);
                    says.answers.extend(self.answer(question));
                }
                Heard::Customer(shard, To::Order(place), past) => {
                    pasts.insert((shard, place), past);
                }
                Heard::Customer(_, To::Answer(Asking(process, id, number)), past) => {
                    let waiting = self.waiting.entry((process, id)).or_default();
                    waiting.pasts.insert(number, past);
                    says.answers.extend(self.answer((process, id)));
                }
            }
        }
        for (shard, place) in gone {
            if let Some(kept) = self.open[usize::from(shard)].remove(&place) {
                let before = kept.placed();
                self.say_rows(at, &before, [Some(&before), None], says);
            }
        }
        for order in placed.into_values() {
            let customers = pasts.remove(&(order.shard, order.place));
            self.credit(at, order, &customers.unwrap_or_default(), says);
        }
        // What is left is of orders that have not changed, but whose customers' visits have left more.
        for ((shard, place), past) in pasts {
            let kept = self.open[usize::from(shard)].get(&place);
            if let Some(order) = kept.map(Kept::placed) {
                self.credit(at, order, &past, says);
            }
        }
    }

    /// Credits an order, and holds it against what was said.
    fn credit(&mut self, at: Tick, mut now: Placed, customers: &[PastTouch], says: &mut Says) {
        let open = &mut self.open[usize::from(now.shard)];
        let before = open.remove(&now.place);
        let order = now
            .order
            .credited(&merged(&now.past, customers), &self.settings);
        now.order.order.credits.clone_from(&order.credits);
        let credited = Credited {
            tick: at,
            shard: now.shard,
            visit: bytes_of_words(now.place.visit),
            browser_id: now.browser_id.clone(),
            country: now.country.clone(),
            agent: now.agent,
            sealed: now.turn.is_some(),
            order,
        };
        let said = hash_of(&credited);
        let rows = before.as_ref().map(Kept::placed);
        self.say_rows(at, &now, [rows.as_ref(), Some(&now)], says);
        let names = Customer::of_order(&credited.order).is_some();
        if credited.sealed || before.is_none_or(|before| before.said != said) {
            says.credited.push(credited);
        }
        if now.turn.is_none() {
            let (shard, place) = (usize::from(now.shard), now.place);
            if !names {
                now.order.ways.clear();
                now.order.order.chain.clear();
                now.past.clear();
            }
            let order = postcard::to_allocvec(&now);
            let order = order.expect("an order can be written to memory").into();
            self.open[shard].insert(place, Kept { said, order });
        }
    }

    /// The answer to a question with its orders credited, once all is known that it waits for.
    fn answer(&mut self, question: (u32, u64)) -> Option<Answer> {
        let waiting = self.waiting.get(&question)?;
        let owed = waiting.owing.as_ref()?.orders.len();
        if waiting.pasts.len() < owed {
            return None;
        }
        let Waiting { owing, pasts } = self.waiting.remove(&question)?;
        let Owing { mut answer, orders } = owing?;
        for (owed, customers) in orders.iter().zip(pasts.values()) {
            let past = merged(&owed.past, customers);
            let own = answer.visits.first_mut();
            let own = own.and_then(|visit| visit.attributed.get_mut(owed.number as usize));
            if let Some(order) = own {
                *order = owed.order.credited(&past, &self.settings);
            }
        }
        Some(answer)
    }

    /// Says how what an order adds to views of credits has changed.
    fn say_rows(
        &self,
        at: Tick,
        of: &Placed,
        [before, now]: [Option<&Placed>; 2],
        says: &mut Says,
    ) {
        let mut all: BTreeMap<(usize, Key), Sums> = BTreeMap::new();
        for (placed, sign) in [(before, -1), (now, 1)] {
            let Some(placed) = placed else { continue };
            self.rows(placed, |n, key, sums| {
                let sums = if sign < 0 { sums.negated() } else { sums };
                all.entry((n, key)).or_default().plus_equals(&sums);
            });
        }
        for ((n, key), sums) in all {
            if !sums.is_zero() {
                let found = (at.saturating_sub(1), of.order.began);
                let added = self.views[n].adds(n as u16, found, key, sums);
                says.contributions.extend(added);
            }
        }
    }

    /// What an order adds to views of credits.
    fn rows(&self, placed: &Placed, mut give: impl FnMut(usize, Key, Sums)) {
        let fields = Fields {
            country: &placed.country,
            agent: placed.agent,
            started: placed.order.began,
            source: &placed.source,
            ..Fields::default()
        };
        let credits: &[Credit] = &placed.order.order.credits;
        for (n, view) in self.views.iter().enumerate() {
            if view.of == Of::Credits && (!view.people || placed.agent == Agent::Person) {
                for credit in credits {
                    let (key, sums) = of_credit(view, &fields, credit);
                    give(n, key, sums);
                }
            }
        }
    }
}

impl ByShard for Orders {
    fn entries(&self, shard: u8) -> usize {
        self.open[usize::from(shard)].len()
    }

    fn write(&self, shard: u8) -> Option<Vec<u8>> {
        let open = &self.open[usize::from(shard)];
        (!open.is_empty()).then(|| bytes_of(&(shard, open)))?
    }

    fn durable(&self) -> &Durable {
        &self.durable
    }
}

/// What a browser's visits and a customer's have left, together.
fn merged(browser: &[PastTouch], customer: &[PastTouch]) -> Vec<PastTouch> {
    if customer.is_empty() {
        return browser.to_vec();
    }
    let mut past = Past::default();
    past.add(browser);
    past.add(customer);
    past.into_touches()
}

/// A hash of all that is said of an order.
fn hash_of(credited: &Credited) -> u64 {
    let said = (&credited.order, &credited.country, credited.agent);
    super::hash(&said)
}
