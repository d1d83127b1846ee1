//! Stories: what all measurements of an open visit say together, told while it is open, corrected
//! when it is revised, and told a last time when it is sealed. Views of visits, orders with what led
//! to them, and answers about open visits come from here.
//!
//! A story is a function of the *set* of a visit's measurements. A visit that grows as visits do is
//! followed a measurement at a time. Wherever that does not do, a browser that has measured anything is
//! told of from all that is kept of it: so where measurements have moved to need not be followed. The
//! new story is held against the old one, and what differs is taken back and said anew.
//!
//! What led to an order is followed within its visit; what earlier visits have left comes to it behind,
//! in [`crediting`](mod@crediting), since those of its customer were on any browser.
//!
//! ```
//! use std::{cell::Cell, convert::Infallible, rc::Rc, sync::Arc};
//! use timely::dataflow::operators::generic::operator::empty;
//! use timely::dataflow::operators::{Capture, Input, capture::Extract, vec::Map};
//! use visitflow_dataflows::attribution;
//! use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
//! use visitflow_dataflows::complete::{NoStore, Surroundings, complete, saved::Collected};
//! use visitflow_dataflows::durable::{Durable, Keeps, Nothing};
//! use visitflow_dataflows::fact::Reading;
//! use visitflow_dataflows::stories::{self, Settings, Stories, crediting, parted};
//! use visitflow_dataflows::visit::{Position, Rules, browser_key};
//! use visitflow_dataflows::visits::{Open, visits};
//! use visitflow_schemas::{encode, schema::Schema, store::MemoryStore};
//!
//! struct Alone;
//! impl Surroundings<NoStore> for Alone {
//!     fn kept(&mut self, _: i64) {}
//!     fn failed(&mut self, error: Infallible) { match error {} }
//!     fn save(&mut self, _: u64, _: Collected, _: &mut NoStore) {}
//!     fn committed(&self) -> u64 { u64::MAX }
//! }
//!
//! let schema = Schema::parse(r#"{"type": "record", "name": "Seen", "fields": [
//!     {"name": "who", "type": "string", "role": "browser_id"},
//!     {"name": "n", "type": "long", "role": "event_id"},
//!     {"name": "at", "type": "long", "role": "event_time"},
//!     {"name": "what", "type": "string", "role": "effect"},
//!     {"name": "kind", "type": "string", "role": "entity"},
//!     {"name": "why", "type": ["null", "string"], "role": "reason"},
//!     {"name": "after", "type": ["null", "long"], "role": "cause"},
//!     {"name": "cents", "type": ["null", "long"], "role": "value"}]}"#).unwrap();
//! let said = timely::example(move |scope| {
//!     // A page that a campaign has brought, and five seconds later an order.
//!     let mut batch = BatchBuilder::default();
//!     for (time, what) in [(0, ["shown", "page"]), (5_000, ["ordered", "order"])] {
//!         let text = |text: &str, out: &mut Vec<u8>| encode::bytes(text.as_bytes(), out);
//!         let (event, is_order) = (time / 5_000, time > 0);
//!         let mut body = Vec::new();
//!         text("b", &mut body);
//!         encode::long(event, &mut body);
//!         encode::long(time, &mut body);
//!         what.iter().for_each(|word| text(word, &mut body));
//!         encode::optional((!is_order).then_some("campaign:spring"), &mut body, text);
//!         encode::optional(is_order.then_some(0), &mut body, encode::long);
//!         encode::optional(is_order.then_some(1_290), &mut body, encode::long);
//!         let key = visitflow_schemas::key::EventKey::of_long(event).0;
//!         let at = Position { time, event: visitflow_dataflows::visit::words_of_bytes(&key) };
//!         let (browser, schema) = (browser_key(b"b"), schema.fingerprint());
//!         let head = Head { browser, at, schema, tick: time as u64, ..Head::default() };
//!         batch.push(head, b"b", &body, |_| ());
//!     }
//!     let rules = Rules::default();
//!     let settings = Settings { rules, robots_over: 10_000, quiet_room: 32 << 20, attribution: attribution::Settings::default(),
//!         profiles: false, asked: false };
//!     let reading = Reading::new(Arc::new(MemoryStore::of([&schema])), Default::default());
//!     let nothing: Rc<dyn Keeps> = Rc::new(Nothing);
//!     let durable = Durable::open("stories", &nothing);
//!     // Nobody asks, no table holds anything, and there are no views.
//!     let stories = Stories::new([].into(), settings, reading, durable, Rc::new(Cell::new(0)));
//!     let (mut input, accepted) = scope.new_input::<Batch>();
//!     let visits = visits(accepted, empty(scope), Open::new(rules), |_, _| ());
//!     let kept = Default::default();
//!     let (_, said) = complete(&visits, empty(scope), empty(scope), kept, stories, Alone);
//!     let row = |said: stories::Credited| (said.tick, said.sealed, format!("{:?}", said.order.root_reason()));
//!     let settings = attribution::Settings::default();
//!     let durable = ["credits", "customers"].map(|name| Durable::open(name, &nothing));
//!     let to_credit = parted(said).to_credit;
//!     let orders = crediting([].into(), &settings, to_credit, empty(scope), 8, durable);
//!     let orders = orders.credited.map(row).capture();
//!     input.send_batch(&mut batch.take());
//!     orders
//! });
//! // Told of at the end of its step, and once more when its visit is sealed.
//! let orders: Vec<_> = said.extract().into_iter().flat_map(|(_, orders)| orders).collect();
//! let why = String::from(r#"Some("campaign:spring")"#);
//! assert_eq!(orders, [(5_100, false, why.clone()), (1_931_100, true, why)]);
//! ```

mod adding;
mod answering;
mod browser;
mod chains;
mod contributions;
pub mod crediting;
mod ended;
mod finished;
mod growing;
mod kinds;
mod naming;
mod news;
mod part;
mod question;
mod quiet;
mod recent;
mod saved;
mod steps;
mod story;
mod telling;
mod watching;

pub use crediting::{Credited, crediting};
pub use finished::{Finished, finished};
pub use part::{Parted, parted};
pub use question::{Answer, Ask, Facts, Of, Question, Shown, Unread};
pub use story::{Story, stories_of};
pub use watching::{Said, Settings, Stories};
