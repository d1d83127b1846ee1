//! What customers' sealed visits have left, and whose open orders name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ByShard, Customer, FORMAT, Known, OfCustomer, Place, To, Turn, What, bytes_of};
use crate::attribution::{Past, PastTouch, Pasts, Settings};
use crate::durable::Durable;
use crate::visit::Tick;

/// A customer's key.
type Key = [u64; 2];

/// Open orders that name a customer, each with its browser's shard.
type Orders = BTreeSet<(u8, Place)>;

/// The pasts of the customers of one worker's shards, and their open orders.
pub(super) struct CustomersPasts {
    durable: Durable,
    pasts: Pasts,
    /// By shard.
    orders: Vec<BTreeMap<Key, Orders>>,
}

/// What is kept of a shard.
#[derive(Serialize)]
struct Keeping<'a> {
    shard: u8,
    pasts: Vec<(&'a Key, &'a (Tick, Past))>,
    orders: &'a BTreeMap<Key, Orders>,
}

/// The same, restored.
#[derive(Deserialize)]
struct Kept {
    shard: u8,
    pasts: Vec<(Key, (Tick, Past))>,
    orders: BTreeMap<Key, Orders>,
}

impl CustomersPasts {
    /// What was kept.
    pub fn restore(settings: &Settings, mut durable: Durable) -> CustomersPasts {
        let mut pasts = Pasts::of_customers(settings);
        let mut orders = vec![BTreeMap::new(); 256];
        for kept in durable.restore::<Kept>(FORMAT) {
            for (key, past) in kept.pasts {
                pasts.restore(kept.shard, key, past);
            }
            orders[usize::from(kept.shard)] = kept.orders;
        }
        CustomersPasts {
            durable,
            pasts,
            orders,
        }
    }

    /// Takes what was said in a step, or is asked behind it; says what orders and answers are to know.
    pub fn advance(&mut self, at: Tick, said: Vec<OfCustomer>, known: &mut Vec<Known>) {
        let mut sealed: Vec<(Turn, Customer, What)> = Vec::new();
        let mut asked = Vec::new();
        // Open orders that are to know, since they are there now or their customers know more.
        let mut open: BTreeMap<(u8, Place), Customer> = BTreeMap::new();
        let mut ordered = Vec::new();
        for OfCustomer { customer, what, .. } in said {
            match what {
                What::Gone(shard, place) => self.forget(customer, &(shard, place)),
                What::Sealed(_, _, turn) | What::Left(turn, _) => {
                    sealed.push((turn, customer, what));
                }
                What::Ordered(shard, place) => ordered.push(((shard, place), customer)),
                What::Asked(shard, asking) => asked.push((shard, asking, customer)),
            }
        }
        // Of one visit its orders come first: it is no earlier visit of itself.
        sealed.sort_by_key(|(turn, _, what)| (*turn, matches!(what, What::Left(..))));
        let mut more = BTreeSet::new();
        for (turn, customer, what) in sealed {
            match what {
                What::Sealed(shard, place, _) => {
                    self.forget(customer, &(shard, place));
                    self.say(at, customer, shard, To::Order(place), known);
                }
                What::Left(_, touches) => {
                    let Customer { shard, key } = customer;
                    self.pasts.add(shard, key, turn.tick, &touches);
                    more.insert(customer);
                }
                _ => {}
            }
        }
        for customer in more {
            let own = self.orders[usize::from(customer.shard)].get(&customer.key);
            open.extend(own.into_iter().flatten().map(|order| (*order, customer)));
        }
        for (order, customer) in ordered {
            let own = self.orders[usize::from(customer.shard)].entry(customer.key);
            own.or_default().insert(order);
            open.insert(order, customer);
        }
        for ((shard, place), customer) in open {
            self.say(at, customer, shard, To::Order(place), known);
        }
        for (shard, asking, customer) in asked {
            self.say(at, customer, shard, To::Answer(asking), known);
        }
    }

    /// Says what a customer's visits have left, if anything.
    fn say(&self, at: Tick, customer: Customer, shard: u8, to: To, known: &mut Vec<Known>) {
        let past: &[PastTouch] = self.pasts.of(customer.shard, &customer.key);
        if !past.is_empty() {
            let past = past.to_vec();
            known.push(Known {
                at,
                shard,
                to,
                past,
            });
        }
    }

    fn forget(&mut self, customer: Customer, order: &(u8, Place)) {
        let of_shard = &mut self.orders[usize::from(customer.shard)];
        if let Some(own) = of_shard.get_mut(&customer.key) {
            own.remove(order);
            if own.is_empty() {
                of_shard.remove(&customer.key);
            }
        }
    }
}

impl ByShard for CustomersPasts {
    fn entries(&self, shard: u8) -> usize {
        self.pasts.shard(shard).len() + self.orders[usize::from(shard)].len()
    }

    fn write(&self, shard: u8) -> Option<Vec<u8>> {
        if self.entries(shard) == 0 {
            return None;
        }
        bytes_of(&Keeping {
            shard,
            pasts: self.pasts.shard(shard).collect(),
            orders: &self.orders[usize::from(shard)],
        })
    }

    fn durable(&self) -> &Durable {
        &self.durable
    }
}
