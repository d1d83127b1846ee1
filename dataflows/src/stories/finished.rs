//! Sealed visits with what has led to their orders: what tables say of a visit.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Pipeline;
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;

use super::crediting::Credited;
use crate::attribution::Order;
use crate::complete::Complete;
use crate::cut::{Cut, Cuts};
use crate::durable::Durable;
use crate::views::step_end;
use crate::visit::Tick;
use crate::visits::complete_until;

/// The form in which orders are kept.
const FORMAT: u32 = 1;

/// A sealed visit.
#[derive(Clone, Debug)]
pub struct Finished {
    /// The visit.
    pub visit: Complete,
    /// Its orders, and what has led to them; `None` where nobody looks for that.
    pub orders: Option<Vec<Order>>,
}

/// Puts sealed visits and their orders together: `complete` are visits in the order of their seals, and
/// come out in it; `credited` what is said of their orders. Visits that come once more after a start find
/// their orders again: those are kept until `released`, the tick up to which seals are in a table.
///
/// A visit waits for the end of its step. Costs a look-up for each; keeps the orders of visits that no
/// table holds.
pub fn finished<'s>(
    complete: StreamVec<'s, u64, Complete>,
    credited: StreamVec<'s, u64, Credited>,
    cuts: StreamVec<'s, u64, Cut>,
    released: Rc<Cell<Tick>>,
    mut durable: Durable,
) -> StreamVec<'s, u64, Finished> {
    let mut builder = OperatorBuilder::new("Finished".to_owned(), complete.scope());
    let mut sealed = builder.new_input(complete, Pipeline);
    let mut said = builder.new_input(credited, Pipeline);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = OutputBuilder::<_, CapacityContainerBuilder<Vec<Finished>>>::from(output);
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut orders = Orders::default();
        for entries in durable.restore::<Vec<Entry>>(FORMAT) {
            orders.0.extend(entries);
        }
        let mut waiting: VecDeque<Complete> = VecDeque::new();
        let mut cuts = Cuts::default();
        move |frontiers| {
            sealed.for_each(|_, visits| waiting.extend(visits.drain(..)));
            said.for_each(|_, said| {
                let last = said.drain(..).filter(|order| order.sealed);
                last.for_each(|order| orders.add(order));
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| cuts.add(cut)));
            let Some(held) = cap.as_mut() else { return };
            let until = complete_until(frontiers);
            // Of a step all is said once the frontier is at its end.
            let done = waiting.partition_point(|visit| step_end(visit.tick) <= until);
            if done > 0 {
                let whole = waiting.drain(..done).map(|visit| Finished {
                    orders: Some(orders.of(&visit)),
                    visit,
                });
                output.activate().session(&*held).give_iterator(whole);
            }
            orders.release(released.get().min(until));
            while let Some(cut) = cuts.next(until) {
                if cut.snapshot {
                    durable.save(cut.tick, FORMAT, orders.saved(cut.tick));
                }
            }
            if until == u64::MAX {
                cap = None;
            } else {
                let next = waiting.front().map_or(until, |visit| visit.tick);
                if next > *held.time() {
                    held.downgrade(&next);
                }
            }
        }
    });
    stream
}

/// The end of a visit's step, and its ID.
type Place = (Tick, [u8; 16]);

/// A visit's orders, with its browser's shard.
type Entry = (Place, (u8, Vec<Order>));

/// The orders of visits that no table holds for sure.
#[derive(Default)]
struct Orders(BTreeMap<Place, (u8, Vec<Order>)>);

impl Orders {
    fn add(&mut self, said: Credited) {
        let own = self.0.entry((said.tick, said.visit)).or_default();
        own.0 = said.shard;
        own.1.push(said.order);
    }

    /// Those of a visit, in the order of their time.
    fn of(&self, visit: &Complete) -> Vec<Order> {
        let own = self.0.get(&(step_end(visit.tick), visit.visit));
        let mut orders = own.map_or(Vec::new(), |(_, orders)| orders.clone());
        orders.sort_by_key(|order| (order.time, order.event));
        orders
    }

    /// Lets go of steps that have ended by this tick.
    fn release(&mut self, released: Tick) {
        while let Some(first) = self.0.first_entry() {
            if first.key().0 > released {
                break;
            }
            first.remove();
        }
    }

    /// What was said at or before a cut, by shard.
    fn saved(&self, cut: Tick) -> BTreeMap<u8, Vec<Entry>> {
        let mut shards: BTreeMap<u8, Vec<Entry>> = BTreeMap::new();
        for (place, (shard, orders)) in self.0.iter().filter(|((tick, _), _)| *tick <= cut) {
            let entries = shards.entry(*shard).or_default();
            entries.push((*place, (*shard, orders.clone())));
        }
        shards
    }
}
