//! What was put before people, and what came of it: a banner, a block of recommendations, an arm of
//! an experiment. For views of these; of one visit, whose counts add up over visits.

use std::collections::HashMap;
use std::hash::Hash;

use super::basket::Baskets;
use super::chain::{Causes, Chain, SHOWN};
use super::{ChainKey, Led, Settings};
use crate::fact::Fact;

/// How deep a thing may lie in other things: a product in a block on a page.
pub(crate) const NESTED: usize = 8;
const NONE: u32 = u32::MAX;

impl ChainKey {
    /// What was shown.
    #[must_use]
    pub fn of(fact: &Fact) -> ChainKey {
        ChainKey {
            entity: super::cut(fact.entity),
            entity_id: fact.entity_id.map(|id| super::cut(&id.text())),
            reason: fact.reason.map(super::cut),
            variant: fact.variant.map(super::cut),
        }
    }
}

/// What was put before people in a visit, by the whole key, and what came of it; by key. See
/// [`chains_by`].
#[must_use]
pub fn chains(facts: &[Fact<'_>], settings: &Settings) -> Vec<(ChainKey, Led)> {
    chains_by(facts, settings, |fact| Some(ChainKey::of(fact)))
}

/// What was put before people in a visit, by a key of the caller's, and what came of it; by key.
///
/// * *shown*: measurements of the effect `shown` that have the key; those for which it is `None`
///   are not looked at.
/// * *clicked*: clicks on it, or on what lay in it. A click is on its cause, and on what that one
///   was shown in: cause after cause, as long as those were `shown`.
/// * *carted*, *ordered*: carts and orders whose chains go over it.
/// * *revenue*: of the orders' values those parts whose chains go over it; see `basket.rs` for how
///   an order is split.
///
/// Each click, cart and order counts once a key, however often its chain goes over such things, so
/// a coarser key must be asked for, rather than summed up from finer ones. One order counts for
/// each of the keys on its way: revenues of several keys do not sum to that of the shop.
///
/// Costs a few look-ups a measurement, and as many steps as there are links in the chains of its
/// carts and orders; of those, the first [`Settings::most`] of either are looked at.
///
/// ```
/// use visitflow_dataflows::attribution::{Settings, chains_by};
/// use visitflow_dataflows::fact::Fact;
/// use visitflow_dataflows::visit::Position;
/// let at = |id| Position { time: id as i64, event: [0, id] };
/// let banner = Fact {
///     at: at(1), effect: "shown", entity: "banner", reason: Some("campaign:spring"),
///     ..Fact::default()
/// };
/// let click = Fact { at: at(2), effect: "clicked", cause: Some([0, 1]), ..Fact::default() };
/// let cart = Fact { at: at(3), effect: "added_to_cart", cause: Some([0, 2]), ..Fact::default() };
/// let order = Fact {
///     at: at(4), effect: "ordered", entity: "order", cause: Some([0, 3]), value: Some(1_290),
///     ..Fact::default()
/// };
/// let facts = [banner, click, cart, order];
/// let campaigns = chains_by(&facts, &Settings::default(), |fact| {
///     fact.reason.filter(|_| fact.entity == "banner").map(String::from)
/// });
/// assert_eq!(campaigns, [("campaign:spring".to_string(), [1, 1, 1, 1, 1_290])]);
/// ```
pub fn chains_by<K: Clone + Ord + Hash>(
    facts: &[Fact<'_>],
    settings: &Settings,
    mut key: impl FnMut(&Fact<'_>) -> Option<K>,
) -> Vec<(K, Led)> {
    let mut of = vec![NONE; facts.len()];
    let mut rows: Vec<(K, Led)> = Vec::new();
    let mut places: HashMap<K, u32> = HashMap::new();
    for (fact, of) in facts.iter().zip(&mut of) {
        let Some(key) = Some(fact).filter(|f| f.effect == SHOWN).and_then(&mut key) else {
            continue;
        };
        *of = *places.entry(key).or_insert_with_key(|key| {
            rows.push((key.clone(), Led::default()));
            rows.len() as u32 - 1
        });
        rows[*of as usize].1[0] += 1;
    }
    if !rows.is_empty() {
        let mut tally = Tally {
            causes: Causes::of(facts),
            counted: vec![0; rows.len()],
            counts: 0,
            of,
            rows,
        };
        tally.clicks();
        tally.baskets(settings);
        rows = tally.rows;
    }
    rows.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    rows
}

/// Counts what is on chains, each key once a count.
struct Tally<'f, K> {
    causes: Causes<'f>,
    /// Of each measurement, its row.
    of: Vec<u32>,
    rows: Vec<(K, Led)>,
    /// Of each row, the count in which it was met last.
    counted: Vec<u32>,
    counts: u32,
}

impl<K> Tally<'_, K> {
    /// Begins another count.
    fn count(&mut self) {
        self.counts += 1;
    }

    /// Adds to the row of this measurement, if it has one that this count has not met.
    fn add(&mut self, at: usize, amounts: &[(usize, i64)]) {
        let row = self.of[at] as usize;
        let Some(counted) = self.counted.get_mut(row) else {
            return;
        };
        if std::mem::replace(counted, self.counts) != self.counts {
            for (place, amount) in amounts {
                let sum = &mut self.rows[row].1[*place];
                *sum = sum.saturating_add(*amount);
            }
        }
    }

    fn clicks(&mut self) {
        for at in 0..self.causes.facts().len() {
            if self.causes.facts()[at].effect != "clicked" {
                continue;
            }
            self.count();
            let mut on = self.causes.cause_of(at);
            for _ in 0..NESTED {
                let Some(shown) = on.filter(|on| self.causes.facts()[*on].effect == SHOWN) else {
                    break;
                };
                self.add(shown, &[(1, 1)]);
                on = self.causes.cause_of(shown);
            }
        }
    }

    fn baskets(&mut self, settings: &Settings) {
        let baskets = Baskets::of(self.causes.facts());
        for cart in baskets.carts.iter().take(settings.most) {
            let chain = self.causes.follow(*cart, settings.longest);
            self.count();
            self.along(&chain, &[(2, 1)]);
        }
        for number in 0..baskets.orders.len().min(settings.most) {
            let own = self.causes.follow(baskets.orders[number], settings.longest);
            let parts = baskets.parts(number, &own, &mut self.causes, settings);
            self.count();
            for part in &parts {
                self.along(&part.chain, &[(3, 1)]);
            }
            for part in &parts {
                self.count();
                self.along(&part.chain, &[(4, part.share)]);
            }
        }
    }

    fn along(&mut self, chain: &Chain, amounts: &[(usize, i64)]) {
        for at in &chain.links {
            self.add(*at as usize, amounts);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::tests::fact;
    use super::*;

    fn shown(
        id: u64,
        entity: &'static str,
        reason: &'static str,
        cause: Option<u64>,
    ) -> Fact<'static> {
        Fact {
            entity,
            reason: Some(reason),
            ..fact(id, "shown", cause)
        }
    }

    fn valued(value: i64, fact: Fact<'static>) -> Fact<'static> {
        Fact {
            value: Some(value),
            entity: if fact.effect == "ordered" {
                "order"
            } else {
                "product"
            },
            ..fact
        }
    }

    /// A page with a block of two products, of which one is clicked and ordered together with
    /// something else.
    fn visit() -> Vec<Fact<'static>> {
        vec![
            shown(1, "page", "direct", None),
            shown(2, "block", "recommendation:similar", Some(1)),
            shown(3, "product", "recommendation:similar", Some(2)),
            shown(4, "product", "recommendation:similar", Some(2)),
            fact(5, "clicked", Some(4)),
            shown(6, "page", "navigation", Some(5)),
            valued(300, fact(7, "added_to_cart", Some(6))),
            shown(8, "page", "direct", None),
            valued(100, fact(9, "added_to_cart", Some(8))),
            valued(400, fact(10, "ordered", Some(9))),
        ]
    }

    fn by(name: impl Fn(&Fact) -> Option<&'static str>) -> Vec<(&'static str, Led)> {
        chains_by(&visit(), &Settings::default(), |fact| name(fact))
    }

    #[test]
    fn a_click_is_on_what_was_clicked_and_on_what_it_lay_in() {
        let entities = by(|fact| match fact.entity {
            "block" => Some("block"),
            "product" => Some("product"),
            _ => None,
        });
        assert_eq!(
            entities,
            [("block", [1, 1, 1, 1, 300]), ("product", [2, 1, 1, 1, 300])]
        );
    }

    #[test]
    fn an_order_counts_once_for_a_key_and_its_parts_by_their_chains() {
        // Both carts' chains go over pages; the first goes over two.
        let pages = by(|fact| (fact.entity == "page").then_some("page"));
        assert_eq!(pages, [("page", [3, 1, 2, 1, 400])]);
    }

    #[test]
    fn rows_are_by_key_and_have_all_that_was_shown() {
        let rows = chains(&visit(), &Settings::default());
        assert!(rows.is_sorted());
        assert_eq!(rows.iter().map(|(_, led)| led[0]).sum::<i64>(), 6);
        assert!(chains(&[], &Settings::default()).is_empty());
    }
}
