//! What has led to orders within their visits: all that can be said of them before it is known what
//! earlier visits have left. For whoever learns of that later, and elsewhere, than of the visit.

use serde::{Deserialize, Serialize};

use super::touch::{Touch, before};
use super::{Attributed, Cart, Flaws, Order, PastTouch, Settings, credits};

/// What led to each order and cart of a visit, before its orders are credited, and what the visit leaves
/// for later ones.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// Its orders, in order.
    pub orders: Vec<Uncredited>,
    /// What was put into the cart, in order.
    pub carts: Vec<Cart>,
    /// The touches that it leaves for later visits of its browser.
    pub touches: Vec<PastTouch>,
    /// Those that it leaves for later visits of each customer that it names; never none of one. What
    /// lies where a customer is named, or behind that, is the customer's, until another is named; what
    /// lies before the first that is named is that one's. An ID that is empty or too long is nobody's.
    pub of_customers: Vec<(Box<str>, Vec<PastTouch>)>,
    /// What was amiss.
    pub flaws: Flaws,
}

impl Traced {
    /// All of it, with orders credited over these touches of earlier visits.
    #[must_use]
    pub fn attributed(self, past: &[PastTouch], settings: &Settings) -> Attributed {
        let orders = self.orders.iter();
        Attributed {
            orders: orders.map(|order| order.credited(past, settings)).collect(),
            carts: self.carts,
            touches: self.touches,
            flaws: self.flaws,
        }
    }
}

/// An order that is not credited yet.
///
/// ```
/// use visitflow_dataflows::attribution::{PastTouch, Settings, trace};
/// use visitflow_dataflows::fact::Fact;
/// use visitflow_dataflows::visit::Position;
/// let at = Position { time: 5_000, event: [0, 1] };
/// let order = Fact { at, effect: "ordered", entity: "order", value: Some(500), ..Fact::default() };
/// let traced = trace(&[order], &Settings::default());
/// let touches = |past: &[PastTouch]| {
///     let credited = traced.orders[0].credited(past, &Settings::default());
///     credited.credits.into_iter().map(|credit| credit.touch).collect::<Vec<_>>()
/// };
/// assert_eq!(touches(&[]), ["unknown".into()]);
/// let spring = PastTouch { time: 1_000, touch: "campaign:spring".into() };
/// assert_eq!(touches(&[spring]), ["campaign:spring".into()]);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uncredited {
    /// The order, without credits.
    pub order: Order,
    /// When its visit began.
    pub began: i64,
    /// Its parts; never none. Their shares sum to its value.
    pub ways: Vec<Way>,
}

/// What led to a part of an order, within its visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Way {
    /// The part's share of the order's value.
    pub share: i64,
    /// The touches on the way, in order; never none.
    pub touches: Vec<PastTouch>,
    /// Whether the only touch just stands for that there is none: what earlier visits have left is
    /// better.
    pub is_spare: bool,
}

impl Uncredited {
    /// The order, credited over these touches of earlier visits and over its own.
    #[must_use]
    pub fn credited(&self, past: &[PastTouch], settings: &Settings) -> Order {
        let past = before(past, self.order.time, self.began, settings);
        let paths = self.ways.iter().map(|way| (path(&past, way), way.share));
        Order {
            credits: credits::credits(paths),
            ..self.order.clone()
        }
    }
}

/// The touch path of a way behind what earlier visits have left; never empty.
pub(super) fn path<'a>(past: &[&'a PastTouch], way: &'a Way) -> Vec<Touch<'a>> {
    let own = match way.is_spare && !past.is_empty() {
        true => &[],
        false => &way.touches[..],
    };
    // Of neighbours with one name the first.
    let same = |first: &PastTouch| past.last().is_some_and(|last| last.touch == first.touch);
    let skipped = usize::from(own.first().is_some_and(same));
    let all = past.iter().copied().chain(&own[skipped..]);
    all.map(|touch| Touch::new(touch.time, &*touch.touch))
        .collect()
}
