//! Abandoned carts: who has put something into the cart, and not ordered within 20 minutes, while the
//! visit is still open. For a shop that wants to say something then, not tomorrow. Each is said
//! once, in the topic `abandoned`, and counted by thing in the view `abandoned_carts`.
//!
//! It is not about visits that have ended: of those the tables tell.

use serde::{Deserialize, Serialize};
use timely::dataflow::operators::vec::Map;
use visitflow_dataflows::each_browser::{EachBrowser, Now};
use visitflow_dataflows::extension::{Extension, Given, Said};
use visitflow_dataflows::fact::Fact;
use visitflow_dataflows::message::Message;
use visitflow_dataflows::views::{Field, Key, Sums, Value, View};

/// How long a cart may stand, in ms.
pub const PATIENCE: u64 = 20 * 60_000;

/// What stands in the cart of a browser.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cart {
    /// The event time of what was put there last, in ms.
    pub time: i64,
    /// What that was.
    pub thing: String,
    /// The value of all, in the smallest unit of the currency.
    pub value: i64,
}

/// Follows the carts.
pub struct Carts;

impl EachBrowser for Carts {
    type State = Cart;
    type Said = Cart;

    fn measured(&self, cart: &mut Option<Cart>, fact: &Fact<'_>, now: &mut Now<Cart>) {
        match fact.effect {
            "added_to_cart" => {
                let before = cart.take().map_or(0, |cart| cart.value);
                *cart = Some(Cart {
                    time: fact.at.time,
                    thing: fact
                        .entity_id
                        .map_or_else(String::new, |id| id.text().into_owned()),
                    value: before + fact.value.unwrap_or(0),
                });
                now.wake_at(now.tick() + PATIENCE);
            }
            "ordered" => *cart = None,
            _ => {}
        }
    }

    fn woken(&self, cart: &mut Option<Cart>, now: &mut Now<Cart>) {
        cart.take().into_iter().for_each(|cart| now.say(cart));
    }

    fn sealed(&self, cart: &mut Option<Cart>, last_seen: i64, _: &mut Now<Cart>) {
        cart.take_if(|cart| cart.time <= last_seen);
    }
}

/// The extension.
pub struct AbandonedCarts;

impl Extension for AbandonedCarts {
    fn name(&self) -> &'static str {
        "abandoned-carts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn topics(&self) -> Vec<&'static str> {
        vec!["abandoned"]
    }

    fn views(&self) -> Vec<View> {
        vec![View {
            name: "abandoned_carts".to_owned(),
            key: vec![Field::EntityId],
            values: vec![Value::Count(None), Value::Sum(None)],
            step: 1_000,
            ..View::default()
        }]
    }

    fn build<'s>(&self, given: Given<'s>) -> Said<'s> {
        let abandoned = given.each_browser("carts", Carts);
        let messages = abandoned.clone().map(|told| Message {
            tick: told.tick,
            shard: told.shard,
            key: told.browser_id,
            value: serde_json::to_vec(&told.what)
                .expect("a cart is JSON")
                .into(),
        });
        let view = self.views().remove(0);
        let added = abandoned.flat_map(move |told| {
            let key = Key::of([told.what.thing.as_str()]);
            let mut sums = Sums::one(0, 1);
            sums.0[1] = told.what.value;
            // It counts from when it was found, whenever the cart was filled.
            view.adds(0, (told.tick, told.tick as i64), key, sums)
        });
        Said {
            topics: vec![messages],
            views: Some(given.rows("rows", self.views(), added)),
        }
    }
}
