//! Attribution: for each order of a visit, what led to it, and how its value is shared among the
//! touches on the way. For whoever shows orders while the visitor is still there.
//!
//! Pure functions over all measurements of one visit so far, in order. They are asked again
//! whenever the visit has grown, and a last time when it is sealed; an answer is a function of the
//! measurements, the past touches and the settings alone, so two answers that differ are a
//! correction. Whatever was sent, they end, in time linear in the measurements, and answer within
//! bounds ([`Settings`]). What was amiss is counted ([`Flaws`]).
//!
//! * The *chain* of a measurement: itself, its cause, that one's cause, up to the *root*, which has
//!   none. See [`Order::chain`].
//! * Its *touches*, in order: those that earlier visits of its browser, and of the customer whom it
//!   names, have left ([`Past`]) within `look_back`, before the visit began;
//!   `expired`, if it ends at a cause that is gone; from the root on, the touch of each link that
//!   has one ([`of_link`]), of neighbours with one name the first. If that is nothing, the last
//!   link's reason, or `unknown`.
//! * Its *credits*: the value, shared among the touches by each of four models, exactly to the cent
//!   ([`Model`]). An order of several carts is first split over them by their values, and each
//!   part is shared among the touches of its own chain; a touch has one credit, of all its shares.
//!
//! All but what earlier visits have left follows from the visit alone ([`trace`]); orders are credited
//! once that is known as well ([`Uncredited`]).
//!
//! It decides nothing about visits, and does not follow a cause into another visit: there it is
//! gone, and the touch is `expired`.

mod answer;
mod basket;
mod chain;
mod credits;
mod customers;
mod models;
mod past;
mod pasts;
mod shown;
mod touch;
mod traced;

use std::collections::HashSet;

pub use answer::{Attributed, Cart, ChainKey, Credit, Flaws, Led, Link, Loser, Order, PastTouch};
pub(crate) use basket::is_cart;
pub use basket::is_order;
pub(crate) use chain::SHOWN;
pub(crate) use customers::customer;
pub use models::{Model, split};
pub use past::{KEPT, Past};
pub use pasts::Pasts;
pub(crate) use shown::NESTED;
pub use shown::{chains, chains_by};
pub use touch::{EXPIRED, UNKNOWN, name_of_reason, of_link};
pub use traced::{Traced, Uncredited, Way};

use crate::fact::Fact;
use basket::{Baskets, Part};
use chain::{Causes, Chain, End};

/// The bounds and words of attribution. All times in ms.
///
/// ```
/// use visitflow_dataflows::attribution::Settings;
/// let settings = Settings::default();
/// assert_eq!(settings.look_back, 30 * 24 * 3_600_000);
/// assert!(settings.mere.iter().any(|reason| &**reason == "navigation"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long before an order a touch of an earlier visit may lie.
    pub look_back: i64,
    /// Of how many browsers, on each worker's shards in proportion, past touches are kept.
    pub browsers: usize,
    /// Of how many customers, in the same way.
    pub customers: usize,
    /// The most links of a chain; what lies beyond is not followed.
    pub longest: usize,
    /// The most losers that are named at a link.
    pub losers: usize,
    /// The most orders of a visit, and the most carts, that are answered for.
    pub most: usize,
    /// Reasons that are no touches: they say how one goes about the site, not what led there.
    pub mere: Vec<Box<str>>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            look_back: 30 * 24 * 3_600_000,
            browsers: 1_000_000,
            customers: 1_000_000,
            longest: 256,
            losers: 8,
            most: 1_000,
            mere: ["navigation", "page", "cart", "reload"]
                .map(Box::from)
                .into(),
        }
    }
}

/// What led to each order and cart of a visit so far, and what the visit leaves for later ones.
/// `past` are touches of earlier visits, of its browser and its customer ([`Past::merged`]).
///
/// Costs two looks at each measurement if there is neither an order nor a cart; otherwise some
/// 100 ns for each more, and as many steps as the chains of orders and carts have links.
///
/// ```
/// use visitflow_dataflows::attribution::{Settings, orders};
/// use visitflow_dataflows::fact::{Fact, Id};
/// use visitflow_dataflows::visit::Position;
/// let at = |id| Position { time: 1_000 * id as i64, event: [0, id] };
/// let page = Fact {
///     at: at(1), effect: "shown", entity: "page", reason: Some("campaign:spring"),
///     ..Fact::default()
/// };
/// let cart = Fact {
///     at: at(2), effect: "added_to_cart", entity: "product", cause: Some([0, 1]),
///     ..Fact::default()
/// };
/// let order = Fact {
///     at: at(3), effect: "ordered", entity: "order", entity_id: Some(Id::Text("o-12")),
///     cause: Some([0, 2]), value: Some(12_900),
///     ..Fact::default()
/// };
/// let attributed = orders(&[page, cart, order], &[], &Settings::default());
/// let order = &attributed.orders[0];
/// assert!(order.whole);
/// assert_eq!(order.chain.len(), 3);
/// assert_eq!(order.root_reason(), Some("campaign:spring"));
/// assert_eq!((&*order.credits[0].touch, order.credits[0].linear), ("campaign:spring", 12_900));
/// assert!(attributed.carts[0].ordered);
/// ```
#[must_use]
pub fn orders(facts: &[Fact<'_>], past: &[PastTouch], settings: &Settings) -> Attributed {
    trace(facts, settings).attributed(past, settings)
}

/// What led to each order and cart of a visit so far, and what the visit leaves for later ones, before
/// orders are credited. Costs what [`orders`] does.
#[must_use]
pub fn trace(facts: &[Fact<'_>], settings: &Settings) -> Traced {
    let mut traced = Traced::default();
    let mut left = Vec::new();
    if let Some(page) = facts.iter().find(|fact| is_entry(fact)) {
        left.extend(entry_touch(page, settings));
    }
    let baskets = Baskets::of(facts);
    if !baskets.orders.is_empty() || !baskets.carts.is_empty() {
        let work = Work {
            causes: Causes::of(facts),
            settings,
            flaws: Flaws::default(),
            left,
        };
        (traced, left) = work.all(&baskets);
    }
    traced.of_customers = customers::by_customer(facts, &left);
    let mut kept = Past::default();
    kept.add(&left);
    traced.touches = kept.into_touches();
    traced
}

/// Whether a measurement is of a page that was shown: a visit's first leaves a touch.
pub(crate) fn is_entry(fact: &Fact<'_>) -> bool {
    fact.effect == SHOWN && fact.entity == "page"
}

/// The touch that a visit leaves whose first page this is.
pub(crate) fn entry_touch(page: &Fact<'_>, settings: &Settings) -> Option<PastTouch> {
    of_link(page, settings).map(|name| PastTouch {
        time: page.at.time,
        touch: cut(&name),
    })
}

/// What is at hand while a visit's orders and carts are looked at.
struct Work<'f> {
    causes: Causes<'f>,
    settings: &'f Settings,
    flaws: Flaws,
    /// The touches that the visit leaves.
    left: Vec<PastTouch>,
}

impl<'f> Work<'f> {
    fn all(mut self, baskets: &Baskets) -> (Traced, Vec<PastTouch>) {
        let most = self.settings.most;
        let mut ordered = HashSet::new();
        let numbers = 0..baskets.orders.len().min(most);
        let orders = numbers
            .map(|number| self.order(baskets, number, &mut ordered))
            .collect();
        let carts = baskets.carts.iter().take(most);
        let carts = carts
            .map(|at| self.cart(*at, ordered.contains(at)))
            .collect();
        let beyond = |all: &[usize]| all.len().saturating_sub(most) as u32;
        self.flaws.beyond = beyond(&baskets.orders) + beyond(&baskets.carts);
        let traced = Traced {
            orders,
            carts,
            flaws: self.flaws,
            ..Traced::default()
        };
        (traced, self.left)
    }

    /// The chain of an order or a cart that is answered for.
    fn chain(&mut self, at: usize) -> Chain {
        let chain = self.causes.follow(at, self.settings.longest);
        self.flaws.later += chain.later;
        match chain.end {
            End::Root => {}
            End::Gone => self.flaws.gone += 1,
            End::Cycle => self.flaws.cycles += 1,
            End::Long => self.flaws.long += 1,
        }
        chain
    }

    fn order(
        &mut self,
        baskets: &Baskets,
        number: usize,
        ordered: &mut HashSet<usize>,
    ) -> Uncredited {
        let at = baskets.orders[number];
        let chain = self.chain(at);
        let parts = baskets.parts(number, &chain, &mut self.causes, self.settings);
        ordered.extend(parts.iter().filter_map(|part| part.cart));
        let ways = parts.iter().map(|Part { chain, share, .. }| {
            touch::way(&self.causes, chain, *share, self.settings)
        });
        let ways = ways.collect();
        self.leave(&chain);
        let links = (0..chain.links.len()).map(|link| self.link(&chain, link));
        let fact = &self.causes.facts()[at];
        let order = Order {
            event: fact.at.event,
            order_id: id(fact),
            customer_id: fact.customer.map(|id| cut(&id.text())),
            time: fact.at.time,
            value: fact.value,
            whole: chain.end == End::Root,
            chain: links.collect(),
            credits: Vec::new(),
        };
        Uncredited {
            order,
            began: self.causes.facts()[0].at.time,
            ways,
        }
    }

    fn cart(&mut self, at: usize, ordered: bool) -> Cart {
        let chain = self.chain(at);
        let touches = self.leave(&chain);
        let fact = &self.causes.facts()[at];
        Cart {
            event: fact.at.event,
            time: fact.at.time,
            entity_id: id(fact),
            value: fact.value,
            whole: chain.end == End::Root,
            links: chain.links.len() as u32,
            touches,
            ordered,
        }
    }

    /// The touches of a chain, which are left for later too.
    fn leave(&mut self, chain: &Chain) -> Vec<PastTouch> {
        let mut touches = Vec::new();
        touch::along(&self.causes, chain, self.settings, &mut touches);
        let touches: Vec<PastTouch> = touches.iter().map(touch::Touch::kept).collect();
        // The last are the latest, unless clocks were put right; no more than these are kept.
        let last = touches.len().saturating_sub(2 * KEPT);
        self.left.extend_from_slice(&touches[last..]);
        touches
    }

    fn link(&self, chain: &Chain, link: usize) -> Link {
        let facts = self.causes.facts();
        let at = chain.links[link] as usize;
        let (losers, more) = match self.causes.is_choice(chain, link) {
            true => self.causes.losers(at, self.settings.losers),
            false => (Vec::new(), 0),
        };
        let loser = |at: &u32| {
            let fact = &facts[*at as usize];
            Loser {
                entity: cut(fact.entity),
                entity_id: id(fact),
                reason: fact.reason.map(cut),
            }
        };
        let fact = &facts[at];
        Link {
            event: fact.at.event,
            time: fact.at.time,
            effect: cut(fact.effect),
            entity: cut(fact.entity),
            entity_id: id(fact),
            reason: fact.reason.map(cut),
            losers: losers.iter().map(loser).collect(),
            more,
        }
    }
}

/// Which one a measurement is of.
fn id(fact: &Fact) -> Option<Box<str>> {
    fact.entity_id.map(|id| cut(&id.text()))
}

/// A text, cut to 256 bytes at most: whoever sends chooses it, and an answer has many.
fn cut(text: &str) -> Box<str> {
    beginning(text).into()
}

/// The first 256 bytes of a text.
pub(crate) fn beginning(text: &str) -> &str {
    const BYTES: usize = 256;
    let mut end = text.len().min(BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests;
