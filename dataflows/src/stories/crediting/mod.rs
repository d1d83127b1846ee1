//! Crediting: gives orders, as stories trace them, their credits over what earlier visits of their
//! browsers *and of their customers* have left. For whoever is told of orders and reads views of credits.
//!
//! An order lies with its browser, a customer's past with the customer, on any worker. So two operators
//! do it: `pasts` keeps what customers' visits have left and says it to whose open orders name them,
//! `orders` keeps open orders and credits them, at the end of the step in which anything about them
//! has changed: that they were found or revised, or that another visit of the customer was sealed. What
//! crosses workers is small, and an order that names nobody crosses none.
//!
//! Visits are sealed one after the other ([`Turn`]): the last word on an order is over what visits have
//! left that were sealed before its own; an open one is over all that were sealed before its step's end.
//! So credits are the same on any number of workers, and through a restart.

mod orders;
mod pasts;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};
use timely::container::CapacityContainerBuilder;
use timely::dataflow::StreamVec;
use timely::dataflow::channels::pact::{Exchange, Pipeline};
use timely::dataflow::operators::generic::OutputBuilder;
use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
use visitflow_schemas::shard::Shard;

use super::question::Answer;
use crate::attribution::{Order, PastTouch, Settings, Uncredited, customer};
use crate::batch::worker_of;
use crate::cut::{Cut, Cuts};
use crate::durable::{Durable, Shards, written};
use crate::fact::{Agent, Id};
use crate::hash::fnv;
use crate::views::{Contribution, View};
use crate::visit::{Position, Tick, browser_key};
use crate::visits::complete_until;
use orders::Orders;
use pasts::CustomersPasts;

/// The form in which both operators keep what they do.
const FORMAT: u32 = 1;
/// So many entries go into a snapshot at once: some ten milliseconds.
const ENTRIES: usize = 8_192;

/// An order and what led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credited {
    /// The end of the step in which it was found: all effects before this tick are in.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// The visit.
    pub visit: [u8; 16],
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// Two letters, or nothing.
    pub country: Box<str>,
    /// The kind of agent.
    pub agent: Agent,
    /// Whether the visit is sealed: then nothing will change any more.
    pub sealed: bool,
    /// The order.
    pub order: Order,
}

/// A customer, as pasts are kept: the shard and a key, both functions of the ID alone.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Customer {
    /// The shard.
    pub shard: u8,
    /// The key.
    pub key: [u64; 2],
}

impl Customer {
    /// Of this ID.
    #[must_use]
    pub fn of(id: &str) -> Customer {
        Customer {
            shard: Shard::of(id.as_bytes()).0,
            key: browser_key(id.as_bytes()),
        }
    }

    /// Whom an order names itself. Who was named before it in its visit may have left by then.
    #[must_use]
    pub fn of_order(order: &Order) -> Option<Customer> {
        let id = order.customer_id.as_deref()?;
        customer(Id::Text(id)).map(|id| Customer::of(&id))
    }
}

/// An order among all: its visit, and its measurement's place.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place {
    /// The visit.
    pub visit: [u64; 2],
    /// Event time.
    pub time: i64,
    /// The key of the measurement's ID.
    pub event: [u64; 2],
}

/// When a visit was sealed among all. Visits are sealed in the order of their ticks; of one tick in the
/// order of their first measurements, as those of one browser lie one behind the other; and then of
/// their IDs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Turn {
    tick: Tick,
    first: (i64, [u64; 2]),
    visit: [u64; 2],
}

impl Turn {
    /// Of a visit that begins there.
    #[must_use]
    pub fn new(tick: Tick, first: Position, visit: [u64; 2]) -> Turn {
        Turn {
            tick,
            first: (first.time, first.event),
            visit,
        }
    }
}

/// An order of a visit as it now is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Placed {
    /// Where.
    pub place: Place,
    /// The browser's shard.
    pub shard: u8,
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// The visit's country, or nothing.
    pub country: Box<str>,
    /// The visit's kind of agent.
    pub agent: Agent,
    /// What the visit came from.
    pub source: Box<str>,
    /// Its turn, once it is sealed.
    pub turn: Option<Turn>,
    /// The order, and what led to it within the visit.
    pub order: Uncredited,
    /// What its browser's earlier visits have left.
    pub past: Vec<PastTouch>,
}

/// An answer about an open visit whose orders name customers.
#[derive(Clone, Debug)]
pub struct Owing {
    /// The answer, with a visit; its orders are credited over the past of their browser alone.
    pub answer: Answer,
    /// The orders that are to be credited anew, in the order of their numbers.
    pub orders: Vec<Owed>,
}

/// An order that an answer owes.
#[derive(Clone, Debug)]
pub struct Owed {
    /// Which one of the visit's.
    pub number: u32,
    /// The order.
    pub order: Uncredited,
    /// What its browser's earlier visits have left.
    pub past: Vec<PastTouch>,
}

/// What is said of orders.
#[derive(Clone, Debug)]
pub enum OfOrder {
    /// It is there, or has changed, or its visit is sealed.
    Placed(Box<Placed>),
    /// It is no more, on this shard: its measurement is another visit's now.
    Gone(u8, Place),
    /// An answer waits for its orders.
    Owing(Box<Owing>),
}

/// What is said of a customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OfCustomer {
    /// The end of the step in which it was found, or the tick as of which it is asked.
    pub at: Tick,
    /// Who.
    pub customer: Customer,
    /// What.
    pub what: What,
}

/// What is said of a customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum What {
    /// An open order names the customer, on a browser of this shard.
    Ordered(u8, Place),
    /// So does an order whose visit is sealed.
    Sealed(u8, Place, Turn),
    /// An order does not any more.
    Gone(u8, Place),
    /// A sealed visit leaves these touches.
    Left(Turn, Vec<PastTouch>),
    /// An answer asks, on this shard.
    Asked(u8, Asking),
}

/// What asks for a customer's past: a question, by its process and number, for an order of this number.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Asking(pub u32, pub u64, pub u32);

/// What a customer's earlier visits have left, as of a tick, for whoever names the customer.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Known {
    at: Tick,
    shard: u8,
    to: To,
    past: Vec<PastTouch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
enum To {
    Order(Place),
    Answer(Asking),
}

/// What is said of orders and of customers, each where it is found.
pub struct ToCredit<'s> {
    /// Of orders, by the end of the step in which it was found, or the tick as of which it was asked.
    pub orders: StreamVec<'s, u64, (Tick, OfOrder)>,
    /// Of customers.
    pub customers: StreamVec<'s, u64, OfCustomer>,
}

/// What is said of credits, on the worker of the browser's shard.
pub struct Crediting<'s> {
    /// Orders and what led to them: for the first time, corrected, and a last time when their visits
    /// are sealed.
    pub credited: StreamVec<'s, u64, Credited>,
    /// What is added to views of credits, and taken back.
    pub contributions: StreamVec<'s, u64, Contribution>,
    /// Answers whose orders are credited.
    pub answers: StreamVec<'s, u64, Answer>,
}

/// Credits orders, step by step. `partitions` are those by which shards are dealt to workers; of the two
/// states the first is that of orders, the second that of customers.
///
/// Costs some µs an order, and as much again for each time that another visit of its customer is sealed
/// while it is open; two look-ups for a sealed visit that names a customer. Keeps open orders, some 150
/// bytes each, and those that name a customer with all that led to them; and what customers' visits have
/// left, of at most [`Settings::customers`].
pub fn crediting<'s>(
    views: Rc<[View]>,
    settings: &Settings,
    said: ToCredit<'s>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    durable: [Durable; 2],
) -> Crediting<'s> {
    let [of_orders, of_customers] = durable;
    let pasts = CustomersPasts::restore(settings, of_customers);
    let known = customers(said.customers, cuts.clone(), partitions, pasts);
    let orders = Orders::restore(views, settings, of_orders);
    credited(said.orders, known, cuts, partitions, orders)
}

/// Keeps customers' pasts, each on the worker of its shard, and says them to their orders.
fn customers<'s>(
    said: StreamVec<'s, u64, OfCustomer>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    mut pasts: CustomersPasts,
) -> StreamVec<'s, u64, Known> {
    let scope = said.scope();
    let peers = scope.peers();
    let to = Exchange::new(move |said: &OfCustomer| {
        worker_of(said.customer.shard, partitions, peers) as u64
    });
    let mut builder = OperatorBuilder::new("Customers".to_owned(), scope);
    let mut input = builder.new_input(said, to);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (output, stream) = builder.new_output();
    let mut output = Output::<Known>::from(output);
    let activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |caps| {
        let mut cap = caps.into_iter().next();
        let mut steps = Steps::default();
        move |frontiers| {
            input.for_each(|_, said| {
                for said in said.drain(..) {
                    steps.add(said.at, said);
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| steps.cuts.add(cut)));
            let Some(held) = cap.as_mut() else { return };
            let until = complete_until(frontiers);
            let mut known = Vec::new();
            let done = steps.go_on(until, &mut pasts, |pasts, at, said| {
                pasts.advance(at, said, &mut known);
            });
            if !known.is_empty() {
                output.activate().session(&*held).give_container(&mut known);
            }
            if !done {
                activator.activate();
            } else if until == u64::MAX {
                cap = None;
            } else if until > *held.time() {
                held.downgrade(&until);
            }
        }
    });
    stream
}

/// Keeps open orders, and credits them.
fn credited<'s>(
    said: StreamVec<'s, u64, (Tick, OfOrder)>,
    known: StreamVec<'s, u64, Known>,
    cuts: StreamVec<'s, u64, Cut>,
    partitions: u32,
    mut orders: Orders,
) -> Crediting<'s> {
    let scope = said.scope();
    let peers = scope.peers();
    let to = Exchange::new(move |known: &Known| worker_of(known.shard, partitions, peers) as u64);
    let mut builder = OperatorBuilder::new("Credited".to_owned(), scope);
    let mut input = builder.new_input(said, Pipeline);
    let mut of_customers = builder.new_input(known, to);
    let mut heard = builder.new_input(cuts, Pipeline);
    let (credited, credited_stream) = builder.new_output();
    let (contributions, contributions_stream) = builder.new_output();
    let (answers, answers_stream) = builder.new_output();
    let mut credited = Output::from(credited);
    let mut contributions = Output::from(contributions);
    let mut answers = Output::from(answers);
    let activator = scope.activator_for(builder.operator_info().address);
    builder.build(move |mut caps| {
        let mut steps = Steps::default();
        move |frontiers| {
            input.for_each(|_, said| {
                for (at, said) in said.drain(..) {
                    steps.add(at, Heard::Order(said));
                }
            });
            of_customers.for_each(|_, known| {
                for known in known.drain(..) {
                    steps.add(known.at, Heard::Customer(known.shard, known.to, known.past));
                }
            });
            heard.for_each(|_, heard| heard.drain(..).for_each(|cut| steps.cuts.add(cut)));
            let [to_orders, to_views, to_readers] = &mut caps[..] else {
                return;
            };
            let until = complete_until(frontiers);
            let mut says = Says::default();
            let done = steps.go_on(until, &mut orders, |orders, at, heard| {
                orders.advance(at, heard, &mut says);
            });
            if !says.credited.is_empty() {
                let mut output = credited.activate();
                output
                    .session(&*to_orders)
                    .give_container(&mut says.credited);
            }
            if !says.contributions.is_empty() {
                let mut output = contributions.activate();
                output
                    .session(&*to_views)
                    .give_container(&mut says.contributions);
            }
            if !says.answers.is_empty() {
                let mut output = answers.activate();
                output
                    .session(&*to_readers)
                    .give_container(&mut says.answers);
            }
            if !done {
                activator.activate();
            } else if until == u64::MAX {
                caps.clear();
            } else {
                for cap in &mut caps {
                    if until > *cap.time() {
                        cap.downgrade(&until);
                    }
                }
            }
        }
    });
    Crediting {
        credited: credited_stream,
        contributions: contributions_stream,
        answers: answers_stream,
    }
}

type Output<D> = OutputBuilder<u64, CapacityContainerBuilder<Vec<D>>>;

/// What an order is credited by.
enum Heard {
    Order(OfOrder),
    Customer(u8, To, Vec<PastTouch>),
}

/// What is said in a step.
#[derive(Default)]
struct Says {
    credited: Vec<Credited>,
    contributions: Vec<Contribution>,
    answers: Vec<Answer>,
}

/// What is kept by shard.
trait ByShard {
    /// How many entries there are of a shard.
    fn entries(&self, shard: u8) -> usize;
    /// What is kept of it, if anything, as it is written.
    fn write(&self, shard: u8) -> Option<Vec<u8>>;
    /// Where it is kept.
    fn durable(&self) -> &Durable;
}

/// What was said, by its step, and what is cut there.
struct Steps<D> {
    said: BTreeMap<Tick, Vec<D>>,
    cuts: Cuts,
    /// A snapshot that is being written: its tick, how many shards are in it, and those.
    saving: Option<(Tick, u16, Shards)>,
}

impl<D> Default for Steps<D> {
    fn default() -> Steps<D> {
        Steps {
            said: BTreeMap::new(),
            cuts: Cuts::default(),
            saving: None,
        }
    }
}

impl<D> Steps<D> {
    fn add(&mut self, at: Tick, said: D) {
        self.said.entry(at).or_default().push(said);
    }

    /// Gives each step up to `until` in turn, and keeps what is kept at each cut. False if it is not done
    /// with that.
    fn go_on<S: ByShard>(
        &mut self,
        until: Tick,
        state: &mut S,
        mut give: impl FnMut(&mut S, Tick, Vec<D>),
    ) -> bool {
        loop {
            if !self.save_some(state) {
                return false;
            }
            let cut = self.cuts.first().filter(|cut| *cut <= until);
            let limit = cut.unwrap_or(until);
            // What was found in the step that ends at a tick is an effect before it.
            while let Some(step) = self.said.first_entry().filter(|step| *step.key() <= limit) {
                let (at, said) = step.remove_entry();
                give(state, at, said);
            }
            match cut.and_then(|cut| self.cuts.next(cut)) {
                Some(cut) if cut.snapshot => self.saving = Some((cut.tick, 0, Shards::new())),
                Some(_) => {}
                None => return true,
            }
        }
    }

    /// Goes on with a snapshot; whether there is none any more.
    fn save_some<S: ByShard>(&mut self, state: &S) -> bool {
        let Some((at, next, shards)) = &mut self.saving else {
            return true;
        };
        let mut some = 0;
        while *next <= u16::from(u8::MAX) && some < ENTRIES {
            let shard = *next as u8;
            some += state.entries(shard);
            shards.extend(state.write(shard).map(|bytes| (shard, bytes)));
            *next += 1;
        }
        if *next <= u16::from(u8::MAX) {
            return false;
        }
        state.durable().save_written(*at, std::mem::take(shards));
        self.saving = None;
        true
    }
}

/// The state of a shard as it is kept.
fn bytes_of<T: Serialize>(state: &T) -> Option<Vec<u8>> {
    written(FORMAT, [(0, state)]).map(|(_, bytes)| bytes).next()
}

/// A hash of all that is said of something.
pub(super) fn hash<T: Serialize>(said: &T) -> u64 {
    let bytes = postcard::to_allocvec(said).expect("what is said can be written to memory");
    // To see a change, which nobody has an interest to hide.
    fnv(&bytes)
}
