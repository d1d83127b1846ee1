//! What readers over HTTP are shown of views and orders: on each process all of it, laid down by its
//! first worker, and seen once the tick is complete on all workers.

use std::collections::BTreeMap;
use std::sync::Arc;

use timely::ExchangeData;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::Exchange;
use timely::dataflow::operators::generic::Operator;
use timely::dataflow::operators::vec::Map;
use visitflow_dataflows::stories::Credited;
use visitflow_dataflows::views::{Changed, Row, STEP};
use visitflow_dataflows::visit::{Tick, bytes_of_words};

use super::asking::hex;
use crate::serve::orders::{Link, Order};
use crate::serve::{Board, Orders};

/// Brings each record to the first worker of every process, and gives it those of each complete tick
/// in turn. `tick` says what a record is of, `before` up to which tick all have been said at a frontier;
/// `give` hears of ticks that have records, and at last of the tick up to which all are complete.
fn to_processes<'s, D: ExchangeData + Clone>(
    stream: StreamVec<'s, u64, D>,
    name: &str,
    workers: usize,
    tick: fn(&D) -> Tick,
    before: fn(Tick) -> Tick,
    mut give: impl FnMut(Option<(Tick, Vec<D>)>, Tick) + 'static,
) -> StreamVec<'s, u64, ()> {
    let peers = stream.scope().peers();
    let copies = stream.flat_map(move |record| {
        let firsts = (0..peers).step_by(workers.max(1));
        firsts.map(move |first| (first as u64, record.clone()))
    });
    type Builder = CapacityContainerBuilder<Vec<()>>;
    let to = Exchange::new(|(first, _): &(u64, D)| *first);
    copies.unary_frontier::<Builder, _, _, _>(to, name, move |_, _| {
        let mut pending: BTreeMap<Tick, Vec<D>> = BTreeMap::new();
        let mut told = 0;
        move |(input, frontier), _| {
            input.for_each(|_, records| {
                for (_, record) in records.drain(..) {
                    pending.entry(tick(&record)).or_default().push(record);
                }
            });
            let complete = match frontier.frontier().first() {
                Some(until) => before(*until),
                None => u64::MAX,
            };
            while pending
                .first_key_value()
                .is_some_and(|(tick, _)| *tick <= complete)
            {
                give(pending.pop_first(), 0);
            }
            if complete > told {
                told = complete;
                give(None, complete);
            }
        }
    })
}

/// Shows views on the board of this worker's process, if it has one.
pub fn views<'s>(
    changed: StreamVec<'s, u64, Changed>,
    workers: usize,
    board: Option<Arc<Board>>,
) -> StreamVec<'s, u64, ()> {
    to_processes(
        changed,
        "Show views",
        workers,
        |changed| changed.tick,
        // A view's rows as of a tick are said at that tick, and complete right behind it: the frontier
        // moves on with every tick, not only with steps.
        |until| until.saturating_sub(1) / STEP * STEP,
        move |step, complete| {
            let Some(board) = &board else { return };
            let Some((tick, changes)) = step else {
                board.complete(complete);
                return;
            };
            let mut of_views: BTreeMap<u16, Vec<(Row, i64)>> = BTreeMap::new();
            for Changed {
                view, row, diff, ..
            } in changes
            {
                of_views.entry(view).or_default().push((row, diff.into()));
            }
            for (view, changes) in of_views {
                board.apply(view.into(), tick, changes);
            }
        },
    )
}

/// Shows orders among the newest of this worker's process, if it has a place for them.
pub fn orders<'s>(
    credited: StreamVec<'s, u64, Credited>,
    workers: usize,
    orders: Option<Arc<Orders>>,
) -> StreamVec<'s, u64, ()> {
    to_processes(
        credited,
        "Show orders",
        workers,
        |order| order.tick,
        // Effects before a step's end are said before the frontier is there.
        |until| until / STEP * STEP,
        move |step, complete| {
            let Some(orders) = &orders else { return };
            match step {
                None => orders.complete(complete),
                Some((tick, credited)) => {
                    orders.apply(tick, credited.into_iter().map(order).collect())
                }
            }
        },
    )
}

fn order(credited: Credited) -> Order {
    let text = |text: Option<Box<str>>| text.map(String::from);
    let link = |link: visitflow_dataflows::attribution::Link| Link {
        event_id: hex(bytes_of_words(link.event)),
        time: link.time,
        effect: link.effect.into(),
        entity: link.entity.into(),
        entity_id: text(link.entity_id),
        reason: text(link.reason),
        losers: link.losers,
    };
    let order = credited.order;
    Order {
        order_event: hex(bytes_of_words(order.event)),
        order_id: text(order.order_id).unwrap_or_default(),
        visit_id: hex(credited.visit),
        browser_id: String::from_utf8_lossy(&credited.browser_id).into_owned(),
        customer_id: text(order.customer_id),
        tick: credited.tick,
        time: order.time,
        value: order.value.unwrap_or(0),
        country: (!credited.country.is_empty()).then(|| credited.country.into()),
        agent: credited.agent.word().to_owned(),
        r#final: credited.sealed,
        whole: order.whole,
        chain: order.chain.into_iter().map(link).collect(),
        credits: order.credits,
    }
}
