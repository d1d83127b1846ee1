//! What customers' sealed visits have left, and whose open orders name them.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{ByShard, Customer, FORMAT, Known, OfCustomer, Place, To, Turn, What, bytes_of};
use crate::attribution::{Past, Pasts, Settings};
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
                    known.extend(self.known(at, customer, shard, To::Order(place)));
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
            known.extend(self.known(at, customer, shard, To::Order(place)));
        }
        // An answer waits until it knows.
        known.extend(asked.into_iter().map(|(shard, asking, customer)| {
            let to = To::Answer(asking);
            let known = self.known(at, customer, shard, to);
            known.unwrap_or(Known {
                at,
                shard,
                to,
                past: Vec::new(),
            })
        }));
    }

    /// What a customer's visits have left, if anything.
    fn known(&self, at: Tick, customer: Customer, shard: u8, to: To) -> Option<Known> {
        let past = self.pasts.of(customer.shard, &customer.key);
        (!past.is_empty()).then(|| Known {
            at,
            shard,
            to,
            past: past.to_vec(),
        })
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

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::super::Asking;
    use super::*;
    use crate::attribution::PastTouch;
    use crate::durable::{Keeps, Nothing};
    use crate::visit::Position;

    fn pasts() -> CustomersPasts {
        let nothing: Rc<dyn Keeps> = Rc::new(Nothing);
        CustomersPasts::restore(&Settings::default(), Durable::open("customers", &nothing))
    }

    fn place(event: u64) -> Place {
        Place {
            visit: [0, event],
            time: 9_000,
            event: [0, event],
        }
    }

    fn turn(tick: Tick, first: i64) -> Turn {
        let first = Position {
            time: first,
            event: [0, 1],
        };
        Turn::new(tick, first, [first.time as u64; 2])
    }

    fn left(turn: Turn, name: &str) -> What {
        let touch = PastTouch {
            time: 1_000,
            touch: name.into(),
        };
        What::Left(turn, vec![touch])
    }

    /// What becomes known at a tick, in whatever order it was said.
    fn known(pasts: &mut CustomersPasts, at: Tick, said: &[What]) -> Vec<(To, Vec<String>)> {
        let say = |what: &What| OfCustomer {
            at,
            customer: Customer::of("ann"),
            what: what.clone(),
        };
        let mut known = Vec::new();
        pasts.advance(at, said.iter().rev().map(say).collect(), &mut known);
        let names = |past: Vec<PastTouch>| past.into_iter().map(|touch| touch.touch.into());
        let mut known: Vec<_> = known
            .into_iter()
            .map(|known| (known.to, names(known.past).collect()))
            .collect();
        known.sort();
        known
    }

    #[test]
    fn an_order_knows_what_was_left_before_its_visits_turn_and_an_open_one_all() {
        let mut pasts = pasts();
        let said = [
            left(turn(8_000, 20), "second"),
            left(turn(8_000, 10), "first"),
            What::Sealed(0, place(1), turn(8_000, 15)),
            What::Sealed(0, place(2), turn(8_000, 20)),
            What::Ordered(0, place(3)),
            What::Asked(0, Asking(0, 7, 0)),
        ];
        let one = |names: &[&str]| names.iter().map(|name| String::from(*name)).collect();
        let [first, both]: [Vec<String>; 2] = [one(&["first"]), one(&["first", "second"])];
        assert_eq!(
            known(&mut pasts, 8_100, &said),
            [
                (To::Order(place(1)), first.clone()),
                (To::Order(place(2)), first),
                (To::Order(place(3)), both.clone()),
                (To::Answer(Asking(0, 7, 0)), both),
            ]
        );
    }

    #[test]
    fn who_names_a_customer_hears_more_until_it_is_gone_or_sealed_and_then_nothing_is_left() {
        let mut pasts = pasts();
        // Nothing is known yet; but whoever asks is answered.
        let asked = What::Asked(0, Asking(0, 7, 0));
        let said = [
            What::Ordered(0, place(1)),
            What::Ordered(3, place(2)),
            asked,
        ];
        let nothing = (To::Answer(Asking(0, 7, 0)), vec![]);
        assert_eq!(known(&mut pasts, 8_100, &said), [nothing]);
        let heard = |known: Vec<(To, Vec<String>)>| known.into_iter().map(|(to, _)| to);
        let said = known(&mut pasts, 8_200, &[left(turn(8_100, 10), "search")]);
        let both = [To::Order(place(1)), To::Order(place(2))];
        assert!(heard(said).eq(both));
        let more = [What::Gone(0, place(1)), left(turn(8_200, 10), "direct")];
        let said = known(&mut pasts, 8_300, &more);
        assert!(heard(said).eq([To::Order(place(2))]));
        let last = [What::Sealed(3, place(2), turn(8_400, 5))];
        let said = known(&mut pasts, 8_500, &last);
        assert!(heard(said).eq([To::Order(place(2))]));
        assert!(pasts.orders.iter().all(BTreeMap::is_empty));
        assert_eq!(
            known(&mut pasts, 8_600, &[left(turn(8_500, 10), "search")]),
            []
        );
    }
}
