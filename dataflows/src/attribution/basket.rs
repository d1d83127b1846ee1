//! Baskets: which carts an order took, and how much of its value is due to each.
//!
//! An order took the carts since the order before it, and the cart that its own chain goes over.
//! Its value is split over them by their values, exactly; if none has one, evenly. If its own chain
//! ends at a cause that is gone before any cart, such as a cart of an earlier visit, that chain has
//! what the carts' values leave of the order's. Without carts it has all. What was taken out of a
//! cart again is not known here; the order's value counts.

use super::Settings;
use super::chain::{Causes, Chain, End};
use super::models::split;
use crate::fact::Fact;

/// The most carts of an order that are followed; of more, the last.
const CARTS: usize = 32;

/// A part of an order's value, and what led to it.
pub(super) struct Part {
    /// The cart's place, unless it is the order itself.
    pub cart: Option<usize>,
    pub chain: Chain,
    pub share: i64,
}

/// Whether a measurement is of an order.
#[must_use]
pub fn is_order(fact: &Fact) -> bool {
    fact.effect == "ordered" && fact.entity == "order"
}

/// Whether a measurement is of something that was put into a cart.
pub(crate) fn is_cart(fact: &Fact) -> bool {
    fact.effect == "added_to_cart"
}

/// The places of a visit's orders and carts, in order.
pub(super) struct Baskets {
    pub orders: Vec<usize>,
    pub carts: Vec<usize>,
}

impl Baskets {
    pub fn of(facts: &[Fact]) -> Baskets {
        let places = |is: fn(&Fact) -> bool| {
            let all = facts.iter().enumerate();
            all.filter(|(_, fact)| is(fact)).map(|(at, _)| at).collect()
        };
        Baskets {
            orders: places(is_order),
            carts: places(is_cart),
        }
    }

    /// The carts since the order before that of this number; of many, the last.
    fn since(&self, number: usize) -> &[usize] {
        let place = |at: usize| self.carts.partition_point(|cart| *cart < at);
        let end = place(self.orders[number]);
        let begin = match number {
            0 => 0,
            _ => place(self.orders[number - 1]),
        };
        &self.carts[begin.max(end.saturating_sub(CARTS))..end]
    }

    /// The parts of the order of this number, whose chain is `own`: never none, and their shares
    /// sum to its value.
    pub fn parts(
        &self,
        number: usize,
        own: &Chain,
        causes: &mut Causes,
        settings: &Settings,
    ) -> Vec<Part> {
        let facts = causes.facts();
        let worth = |at: usize| {
            let value = facts[at].value.unwrap_or_default();
            u64::try_from(value).unwrap_or_default()
        };
        let order = self.orders[number];
        let mut links = own.links.iter().map(|at| *at as usize);
        let own_cart = links.find(|at| is_cart(&facts[*at]));
        let since = self.since(number);
        let mut parts: Vec<Part> = Vec::with_capacity(since.len() + 1);
        let mut weights = Vec::with_capacity(since.len() + 1);
        for cart in since.iter().filter(|cart| Some(**cart) != own_cart) {
            let chain = causes.follow(*cart, settings.longest);
            weights.push(worth(*cart));
            parts.push(Part {
                cart: Some(*cart),
                chain,
                share: 0,
            });
        }
        let weight = match own_cart {
            Some(cart) => Some(worth(cart)),
            None if parts.is_empty() => Some(1),
            // What the carts' values leave; nothing is known of it if they have none.
            None if own.end == End::Gone => {
                let known = weights.iter().fold(0_u64, |sum, w| sum.saturating_add(*w));
                Some(if known == 0 {
                    0
                } else {
                    worth(order).saturating_sub(known)
                })
            }
            None => None,
        };
        if let Some(weight) = weight {
            weights.push(weight);
            parts.push(Part {
                cart: own_cart,
                chain: own.clone(),
                share: 0,
            });
        }
        let shares = split(facts[order].value.unwrap_or_default(), &weights);
        for (part, share) in parts.iter_mut().zip(shares) {
            part.share = share;
        }
        parts
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::tests::fact;
    use super::*;

    fn cart(id: u64, value: i64, cause: u64) -> Fact<'static> {
        Fact {
            value: Some(value),
            ..fact(id, "added_to_cart", Some(cause))
        }
    }

    fn order(id: u64, value: i64, cause: u64) -> Fact<'static> {
        Fact {
            entity: "order",
            value: Some(value),
            ..fact(id, "ordered", Some(cause))
        }
    }

    /// Of the last order: the ID of each part's cart, 0 if none, and the part's share.
    fn parts(facts: &[Fact]) -> Vec<(u64, i64)> {
        let mut causes = Causes::of(facts);
        let baskets = Baskets::of(facts);
        let number = baskets.orders.len() - 1;
        let own = causes.follow(baskets.orders[number], 64);
        let parts = baskets.parts(number, &own, &mut causes, &Settings::default());
        let id = |cart: usize| facts[cart].at.event[1];
        let parts = parts.iter();
        parts.map(|p| (p.cart.map_or(0, id), p.share)).collect()
    }

    #[test]
    fn an_order_is_split_over_the_carts_since_the_order_before_it() {
        let facts = [
            fact(1, "shown", None),
            cart(2, 1_000, 1),
            order(3, 1_000, 2),
            cart(4, 300, 1),
            cart(5, 100, 1),
            order(6, 401, 5),
        ];
        assert_eq!(parts(&facts[..3]), [(2, 1_000)]);
        assert_eq!(parts(&facts), [(4, 301), (5, 100)]);
    }

    #[test]
    fn a_cart_that_was_ordered_twice_is_in_both_orders() {
        let facts = [cart(2, 1_000, 1), order(3, 1_000, 2), order(4, 1_000, 2)];
        assert_eq!(parts(&facts), [(2, 1_000)]);
    }

    #[test]
    fn what_carts_leave_of_the_value_is_due_to_the_cause_that_is_gone() {
        let facts = [cart(2, 300, 1), order(3, 1_000, 99)];
        assert_eq!(parts(&facts), [(2, 300), (0, 700)]);
        assert_eq!(parts(&facts[1..]), [(0, 1_000)]);
        let cheaper = [cart(2, 300, 1), order(3, 200, 99)];
        assert_eq!(parts(&cheaper), [(2, 200), (0, 0)]);
    }

    #[test]
    fn an_order_that_a_page_led_to_is_due_to_its_carts() {
        let facts = [
            fact(1, "shown", None),
            cart(2, 300, 1),
            fact(3, "shown", Some(1)),
            order(4, 250, 3),
        ];
        assert_eq!(parts(&facts), [(2, 250)]);
        assert_eq!(parts(&facts[2..]), [(0, 250)]);
    }

    #[test]
    fn carts_without_values_count_alike_and_negative_orders_are_split_too() {
        let facts = [cart(2, 0, 1), cart(3, -5, 1), order(4, -101, 3)];
        assert_eq!(parts(&facts), [(2, -51), (3, -50)]);
        let extreme = [
            cart(2, i64::MAX, 1),
            cart(3, i64::MAX, 1),
            order(4, i64::MIN, 3),
        ];
        assert_eq!(parts(&extreme), [(2, i64::MIN / 2), (3, i64::MIN / 2)]);
    }

    #[test]
    fn of_very_many_carts_the_last_count() {
        let mut facts: Vec<Fact> = (1..=50).map(|id| cart(id, 1, 99)).collect();
        facts.push(order(51, 64, 50));
        let parts = parts(&facts);
        assert_eq!(parts.len(), CARTS);
        assert_eq!((parts[0], parts[CARTS - 1]), ((19, 2), (50, 2)));
    }
}
