//! What attribution answers: owned, comparable, and in JSON as the HTTP interface says it. In
//! formats that are not for people, such as a snapshot's, IDs of events are two numbers.

use serde::{Deserialize, Serialize};

/// What led to each order and cart of a visit, and what the visit leaves for later ones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributed {
    /// Its orders, in order.
    pub orders: Vec<Order>,
    /// What was put into the cart, in order.
    pub carts: Vec<Cart>,
    /// The touches that an order in a later visit may be credited to: see
    /// [`Past::add`](super::Past::add).
    pub touches: Vec<PastTouch>,
    /// What was amiss.
    pub flaws: Flaws,
}

/// An order and what led to it. Whose it is, and where, stands with its visit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The key of its measurement's ID.
    #[serde(rename = "order_event", with = "hex")]
    pub event: [u64; 2],
    /// The order's number, as text.
    pub order_id: Option<Box<str>>,
    /// The customer that it names, as text.
    pub customer_id: Option<Box<str>>,
    /// Event time in ms.
    pub time: i64,
    /// In the smallest unit of the currency. An order without one is credited as 0.
    pub value: Option<i64>,
    /// Whether its chain goes to a root. Otherwise a cause is gone, or the chain is not to be
    /// followed further.
    pub whole: bool,
    /// From the order to its root, each caused by the next. Never empty.
    pub chain: Vec<Link>,
    /// By touch, in the order in which they were first met. Never empty; by each model they sum to
    /// the value exactly.
    pub credits: Vec<Credit>,
}

impl Order {
    /// Why the last of its chain was there; the root's reason, if it is whole.
    #[must_use]
    pub fn root_reason(&self) -> Option<&str> {
        self.chain.last()?.reason.as_deref()
    }
}

/// A measurement in a chain. Texts are at most 256 bytes long; what is longer is cut.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The key of its ID.
    #[serde(rename = "event_id", with = "hex")]
    pub event: [u64; 2],
    /// Event time in ms.
    pub time: i64,
    /// What happened.
    pub effect: Box<str>,
    /// The kind of thing it happened to.
    pub entity: Box<str>,
    /// Which one.
    pub entity_id: Option<Box<str>>,
    /// Why it was there.
    pub reason: Option<Box<str>>,
    /// What else was shown there, and led to nothing: if this was chosen, some of what has the
    /// same cause, in the order in which it was shown, those of its own kind and reason first.
    pub losers: Vec<Loser>,
    /// How many more losers there were.
    pub more: u32,
}

/// Something that was shown beside what was chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loser {
    /// The kind of thing.
    pub entity: Box<str>,
    /// Which one.
    pub entity_id: Option<Box<str>>,
    /// Why it was there.
    pub reason: Option<Box<str>>,
}

/// A touch's share of an order's value by each model, in the smallest unit of the currency.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credit {
    /// Its name: `campaign:spring`, `search`, `direct`; `expired` for a cause that is gone.
    pub touch: Box<str>,
    /// When it was first met on the way, in ms.
    pub time: i64,
    /// All to the first touch.
    pub first: i64,
    /// All to the last.
    pub last: i64,
    /// To all alike.
    pub linear: i64,
    /// Two fifths each to the first and the last, the rest to those between alike.
    pub position: i64,
}

/// Something put into a cart, and what led to it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cart {
    /// The key of its measurement's ID.
    #[serde(rename = "event_id", with = "hex")]
    pub event: [u64; 2],
    /// Event time in ms.
    pub time: i64,
    /// What was put there.
    pub entity_id: Option<Box<str>>,
    /// In the smallest unit of the currency.
    pub value: Option<i64>,
    /// Whether its chain goes to a root.
    pub whole: bool,
    /// How many links its chain has.
    pub links: u32,
    /// What led to it, in time order.
    pub touches: Vec<PastTouch>,
    /// Whether an order of this visit took it.
    pub ordered: bool,
}

/// A touch: when, and what.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PastTouch {
    /// Event time in ms.
    pub time: i64,
    /// Its name.
    pub touch: Box<str>,
}

/// What was amiss in the chains of a visit's orders and carts. A visit of honest measurements may
/// have `gone` ones, and, where clocks were put right, `later` ones; the rest was made up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flaws {
    /// Chains whose last cause is nowhere in the visit.
    pub gone: u32,
    /// Chains that come back to themselves.
    pub cycles: u32,
    /// Chains longer than [`Settings::longest`](super::Settings::longest).
    pub long: u32,
    /// Links whose cause lies after them. They are followed all the same.
    pub later: u32,
    /// Orders and carts beyond [`Settings::most`](super::Settings::most), which are not answered
    /// for.
    pub beyond: u32,
}

/// Something that was put before people: what views of banners, of recommendations and of
/// experiments are keyed by.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ChainKey {
    /// The kind of thing: `banner`, `block`, `product`.
    pub entity: Box<str>,
    /// Which one, as text.
    pub entity_id: Option<Box<str>>,
    /// Why it was there: `recommendation:also-bought`.
    pub reason: Option<Box<str>>,
    /// The arm of an experiment.
    pub variant: Option<Box<str>>,
}

/// What came of what was shown: how often it was *shown* and *clicked*, to how many *carts* and
/// *orders* it led, and the *revenue* that came by it, in the smallest unit of the currency.
pub type Led = [i64; 5];

/// IDs of events: 32 hexadecimal digits for people, two numbers otherwise.
mod hex {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::visit::{bytes_of_words, words_of_bytes};

    pub fn serialize<S: Serializer>(event: &[u64; 2], to: S) -> Result<S::Ok, S::Error> {
        if !to.is_human_readable() {
            return event.serialize(to);
        }
        let number = u128::from_be_bytes(bytes_of_words(*event));
        to.collect_str(&format_args!("{number:032x}"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u64; 2], D::Error> {
        if !from.is_human_readable() {
            return <[u64; 2]>::deserialize(from);
        }
        let text = String::deserialize(from)?;
        let number = u128::from_str_radix(&text, 16).map_err(D::Error::custom)?;
        Ok(words_of_bytes(&number.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_in_json_as_the_interface_says_it() {
        let order = Order {
            event: [1, 0xabc],
            order_id: Some("o-12".into()),
            time: 7,
            value: Some(12_900),
            whole: true,
            chain: vec![Link {
                event: [1, 0xabc],
                effect: "ordered".into(),
                entity: "order".into(),
                ..Link::default()
            }],
            credits: vec![Credit {
                touch: "campaign:spring".into(),
                first: 12_900,
                ..Credit::default()
            }],
            ..Order::default()
        };
        let json = serde_json::to_value(&order).unwrap();
        assert_eq!(json["order_event"], "00000000000000010000000000000abc");
        assert_eq!(json["customer_id"], serde_json::Value::Null);
        assert_eq!(json["chain"][0]["event_id"], json["order_event"]);
        assert_eq!(json["credits"][0]["first"], 12_900);
        assert_eq!(serde_json::from_value::<Order>(json).unwrap(), order);
    }
}
