//! A customer's profile: a small sum of all visits in which the customer was known, in which older
//! ones count less and less. It never holds a measurement, an address or another customer's ID.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::decay::{UNIT, Weight, day, decayed, hour};
use super::top::Top;
use crate::attribution::is_order;
use crate::fact::Fact;
use crate::visit::Tick;

/// A profile takes no more than this, whatever was measured.
pub const MOST_BYTES: usize = 2_000;

/// The version of its bytes, which they begin with.
const FORMAT: u8 = 1;

/// What is known of a customer. Under a kilobyte mostly, never over [`MOST_BYTES`].
///
/// Adding two profiles is commutative. It is associative but for two things: what lists have no room
/// for is forgotten, and weights are whole numbers, so that which of a decay and a sum comes first
/// may make a difference of some 1/1024. So that a profile is the same in every run, visits are
/// added in the order of their seals and IDs.
///
/// ```
/// use visitflow_dataflows::fact::{Fact, Id};
/// use visitflow_dataflows::profiles::Profile;
/// use visitflow_dataflows::visit::Position;
/// let seen = |day: i64| Fact {
///     at: Position { time: day * 24 * 3_600_000, event: [0, 1] },
///     effect: "shown", entity: "product", entity_id: Some(Id::Text("lamp")),
///     ..Fact::default()
/// };
/// let mut profile = Profile::of_visit(&[&seen(0)]);
/// profile.add(Profile::of_visit(&[&seen(30)]));
/// // Half of the first is left, and all of the second.
/// let shown = profile.shown(profile.last_seen());
/// assert_eq!(serde_json::to_string(&shown.products).unwrap(), r#"[{"name":"lamp","weight":1.5}]"#);
/// assert_eq!(shown.visits, 2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Event times in ms. Weights are as of the day of the last.
    first_seen: i64,
    last_seen: i64,
    visits: u32,
    orders: u32,
    revenue: i64,
    hours: [Weight; 24],
    products: Top<16>,
    kinds: Top<8>,
    reasons: Top<8>,
}

impl Profile {
    /// Of a customer's measurements in one visit, in order. Costs some 100 ns a measurement.
    #[must_use]
    pub fn of_visit(facts: &[&Fact<'_>]) -> Profile {
        let (Some(first), Some(last)) = (facts.first(), facts.last()) else {
            return Profile::default();
        };
        let (mut products, mut kinds, mut reasons) =
            (Sums::default(), Sums::default(), Sums::default());
        let mut hours = [0; 24];
        // An order's page may be loaded again.
        let mut ordered = HashSet::new();
        let (mut orders, mut revenue) = (0_u32, 0_i64);
        for fact in facts {
            let weight = weight_of(fact.effect);
            hours[hour(fact.at.time)] = UNIT;
            kinds.add(fact.entity, weight);
            if let Some(reason) = fact.reason {
                reasons.add(reason, weight);
            }
            if fact.entity == "product"
                && let Some(id) = fact.entity_id
            {
                products.add(&id.text(), weight);
            }
            if is_order(fact) && fact.entity_id.is_none_or(|id| ordered.insert(id)) {
                orders = orders.saturating_add(1);
                revenue = revenue.saturating_add(fact.value.unwrap_or(0));
            }
        }
        Profile {
            first_seen: first.at.time,
            last_seen: last.at.time,
            visits: 1,
            orders,
            revenue,
            hours,
            products: products.top(),
            kinds: kinds.top(),
            reasons: reasons.top(),
        }
    }

    /// Adds another: of a visit, mostly.
    pub fn add(&mut self, other: Profile) {
        if self.visits == 0 || other.visits == 0 {
            if self.visits == 0 {
                *self = other;
            }
            return;
        }
        let today = day(self.last_seen.max(other.last_seen));
        let (a, b) = (std::mem::take(self).aged(today), other.aged(today));
        *self = Profile {
            first_seen: a.first_seen.min(b.first_seen),
            last_seen: a.last_seen.max(b.last_seen),
            visits: a.visits.saturating_add(b.visits),
            orders: a.orders.saturating_add(b.orders),
            revenue: a.revenue.saturating_add(b.revenue),
            hours: std::array::from_fn(|hour| a.hours[hour].saturating_add(b.hours[hour])),
            products: a.products.merged(b.products),
            kinds: a.kinds.merged(b.kinds),
            reasons: a.reasons.merged(b.reasons),
        };
    }

    /// With its weights as of a day.
    fn aged(self, today: i64) -> Profile {
        let days = today.saturating_sub(day(self.last_seen));
        let days = u32::try_from(days.max(0)).unwrap_or(u32::MAX);
        if days == 0 {
            return self;
        }
        Profile {
            hours: self.hours.map(|weight| decayed(weight, days)),
            products: self.products.decayed(days),
            kinds: self.kinds.decayed(days),
            reasons: self.reasons.decayed(days),
            ..self
        }
    }

    /// The event time of the customer's last measurement in a sealed visit, in ms.
    #[must_use]
    pub fn last_seen(&self) -> i64 {
        self.last_seen
    }

    /// Whether nothing has been seen of the customer for longer than `retention`, in ms.
    #[must_use]
    pub fn is_expired(&self, now: Tick, retention: i64) -> bool {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.last_seen < now.saturating_sub(retention)
    }

    /// Its bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let bytes = postcard::to_extend(self, vec![FORMAT]);
        bytes.expect("a profile can be written to memory")
    }

    /// From its bytes.
    ///
    /// # Errors
    /// They are of another version, or no profile.
    pub fn from_bytes(bytes: &[u8]) -> Result<Profile, ProfileError> {
        match bytes.split_first() {
            Some((&FORMAT, profile)) => Ok(postcard::from_bytes(profile)?),
            Some((found, _)) => Err(ProfileError::Version { found: *found }),
            None => Err(ProfileError::Empty),
        }
    }

    /// As readers see it, as of a time in ms.
    #[must_use]
    pub fn shown(&self, now: i64) -> Shown {
        let now = self.clone().aged(day(now));
        let hours = now.hours.map(in_ones);
        Shown {
            version: FORMAT,
            first_seen: now.first_seen,
            last_seen: now.last_seen,
            visits: now.visits,
            orders: now.orders,
            revenue: now.revenue,
            products: weighed(now.products.entries()),
            kinds: weighed(now.kinds.entries()),
            reasons: weighed(now.reasons.entries()),
            hours,
        }
    }
}

/// A profile's bytes are not what this program can read.
#[derive(Debug, Error)]
#[allow(missing_docs)] // The messages say it.
pub enum ProfileError {
    #[error(
        "a profile is of version {found}, expected {FORMAT}; was it written by a later program?"
    )]
    Version { found: u8 },
    #[error("a profile has no bytes, expected its version")]
    Empty,
    #[error("a profile of version {FORMAT} is damaged: {0}")]
    Damaged(#[from] postcard::Error),
}

/// A profile as readers see it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// The version of this form.
    pub version: u8,
    /// The event time of the customer's first measurement that is known, in ms.
    pub first_seen: i64,
    /// That of the last.
    pub last_seen: i64,
    /// How many visits.
    pub visits: u32,
    /// How many orders.
    pub orders: u32,
    /// What they were worth together, in the smallest unit of the currency.
    pub revenue: i64,
    /// Products, the heaviest first.
    pub products: Vec<Weighed>,
    /// Kinds of things: `page`, `product`, `banner`.
    pub kinds: Vec<Weighed>,
    /// Why they were there.
    pub reasons: Vec<Weighed>,
    /// For each hour of the day, in UTC, in how many visits something was measured in it.
    pub hours: [f64; 24],
}

/// A name and what it weighs: 1 for what was shown today.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Weighed {
    /// The name.
    pub name: Box<str>,
    /// What it weighs.
    pub weight: f64,
}

fn weighed(entries: &[(Box<str>, Weight)]) -> Vec<Weighed> {
    let entries = entries.iter().cloned();
    let weighed = entries.map(|(name, weight)| Weighed {
        name,
        weight: in_ones(weight),
    });
    weighed.collect()
}

/// To a thousandth: what is left of it is rounding.
fn in_ones(weight: Weight) -> f64 {
    (f64::from(weight) * 1_000.0 / f64::from(UNIT)).round() / 1_000.0
}

/// What an effect weighs: to look costs nothing, to buy does.
fn weight_of(effect: &str) -> u64 {
    let times = match effect {
        "clicked" => 4,
        "added_to_cart" => 8,
        "ordered" => 32,
        _ => 1,
    };
    times * u64::from(UNIT)
}

/// What names weigh in a visit.
#[derive(Default)]
struct Sums(BTreeMap<Box<str>, u64>);

impl Sums {
    fn add(&mut self, name: &str, weight: u64) {
        match self.0.get_mut(name) {
            Some(sum) => *sum += weight,
            None => {
                self.0.insert(name.into(), weight);
            }
        }
    }

    fn top<const MOST: usize>(self) -> Top<MOST> {
        let all = self.0.into_iter();
        Top::of(all.map(|(name, sum)| (name, Weight::try_from(sum).unwrap_or(Weight::MAX))))
    }
}
