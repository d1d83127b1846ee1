//! Carts, with time advanced by hand: nothing waits for a clock.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use abandoned_carts::{AbandonedCarts, Cart, PATIENCE};
use timely::dataflow::InputHandle;
use timely::dataflow::operators::{Input, Inspect, Probe, probe};
use visitflow_dataflows::batch::{Batch, BatchBuilder, Head};
use visitflow_dataflows::cut::Cut;
use visitflow_dataflows::durable::{Keeps, Shards};
use visitflow_dataflows::extension::{Extension, Given};
use visitflow_dataflows::fact::Reading;
use visitflow_dataflows::visit::{EndReason, Position, Tick, browser_key, words_of_bytes};
use visitflow_dataflows::visits::{Change, Lifecycle};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::schema::Schema;
use visitflow_schemas::shard::Shard;
use visitflow_schemas::{encode, store::MemoryStore};

const MINUTE: u64 = 60_000;

/// What happens in the shop, in order of ticks.
#[derive(Clone)]
enum Happens {
    /// At a tick, in a browser, an effect, on a thing of a value.
    Measured(Tick, &'static str, &'static str, &'static str, i64),
    /// At a tick a browser's visit is sealed, whose last measurement was at this event time.
    Sealed(Tick, &'static str, i64),
    /// All before this tick has happened, and is kept.
    Kept(Tick),
    /// It is this tick.
    Now(Tick),
}
use Happens::{Kept, Measured, Now, Sealed};

/// What is kept, in memory.
#[derive(Clone, Default)]
struct Memory(Arc<Mutex<BTreeMap<String, Shards>>>);

impl Keeps for Memory {
    fn open(&self, name: &str) -> Shards {
        self.0
            .lock()
            .unwrap()
            .get(name)
            .cloned()
            .unwrap_or_default()
    }
    fn save(&self, name: &str, _: Tick, shards: Shards) {
        self.0.lock().unwrap().insert(name.to_owned(), shards);
    }
}

fn schema() -> Schema {
    Schema::parse(
        r#"{"type": "record", "name": "Seen", "fields": [
        {"name": "who", "type": "string", "role": "browser_id"},
        {"name": "n", "type": "long", "role": "event_id"},
        {"name": "at", "type": "long", "role": "event_time"},
        {"name": "what", "type": "string", "role": "effect"},
        {"name": "kind", "type": "string", "role": "entity"},
        {"name": "thing", "type": "string", "role": "entity_id"},
        {"name": "cents", "type": ["null", "long"], "role": "value"}]}"#,
    )
    .unwrap()
}

fn measured(tick: Tick, browser: &str, effect: &str, thing: &str, value: i64) -> Batch {
    let text = |text: &str, out: &mut Vec<u8>| encode::bytes(text.as_bytes(), out);
    let mut body = Vec::new();
    text(browser, &mut body);
    encode::long(tick as i64, &mut body);
    encode::long(tick as i64, &mut body);
    text(effect, &mut body);
    text("product", &mut body);
    text(thing, &mut body);
    encode::optional(Some(value), &mut body, encode::long);
    let head = Head {
        browser: browser_key(browser.as_bytes()),
        at: Position {
            time: tick as i64,
            event: words_of_bytes(&EventKey::of_long(tick as i64).0),
        },
        schema: schema().fingerprint(),
        shard: Shard::of(browser.as_bytes()).0,
        tick,
        ..Head::default()
    };
    let mut batch = BatchBuilder::default();
    batch.push(head, browser.as_bytes(), &body, |_| ());
    batch.take()
}

/// What is said of all that, as `tick browser thing value`, and the rows of the view as they change.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    messages: Vec<String>,
    rows: Vec<String>,
}

/// Lets it happen, from what is kept on.
fn tell(happens: &[Happens], memory: &Memory) -> Told {
    let (happens, memory) = (happens.to_vec(), memory.clone());
    timely::execute_directly(move |worker| {
        let told: Rc<RefCell<Told>> = Rc::default();
        let mut tagged = InputHandle::<u64, _>::new();
        let mut lifecycle = InputHandle::<u64, _>::new();
        let mut cuts = InputHandle::<u64, _>::new();
        let done = probe::Handle::new();
        worker.dataflow(|scope| {
            let given = Given {
                tagged: scope.input_from(&mut tagged),
                lifecycle: scope.input_from(&mut lifecycle),
                cuts: scope.input_from(&mut cuts),
                keeps: Rc::new(memory),
                reading: Reading::new(Arc::new(MemoryStore::of([&schema()])), Default::default()),
                partitions: 1,
            };
            let mut said = AbandonedCarts.build(given);
            let to = told.clone();
            let messages = said.topics.remove(0).inspect(move |message| {
                let cart: Cart = serde_json::from_slice(&message.value).unwrap();
                let browser = String::from_utf8_lossy(&message.key);
                let line = format!("{} {browser} {} {}", message.tick, cart.thing, cart.value);
                to.borrow_mut().messages.push(line);
            });
            messages.probe_with(&done);
            let to = told.clone();
            let rows = said.views.unwrap().inspect(move |row| {
                let sums = &row.row.1.0[..2];
                let line = format!("{} {} {sums:?} {:+}", row.tick, row.row.0, row.diff);
                to.borrow_mut().rows.push(line);
            });
            rows.probe_with(&done);
        });
        let mut last = 0;
        for happens in happens {
            match happens {
                Measured(tick, browser, effect, thing, value) => {
                    tagged.send_batch(&mut measured(tick, browser, effect, thing, value));
                }
                Sealed(tick, browser, last_seen) => lifecycle.send(Lifecycle {
                    tick,
                    shard: Shard::of(browser.as_bytes()).0,
                    browser: browser_key(browser.as_bytes()),
                    browser_id: browser.as_bytes().into(),
                    change: Change::Ended {
                        visit: [0; 2],
                        started: 0,
                        last_seen,
                        measurements: 1,
                        reason: EndReason::Inactivity,
                    },
                }),
                Kept(tick) => cuts.send(Cut {
                    tick,
                    snapshot: true,
                    ..Cut::default()
                }),
                Now(tick) => last = tick,
            }
            tagged.advance_to(last);
            lifecycle.advance_to(last);
            cuts.advance_to(last);
            while done.less_than(&last) {
                worker.step();
            }
        }
        told.borrow().clone()
    })
}

#[test]
fn a_cart_is_abandoned_20_minutes_after_the_last_thing_was_put_into_it() {
    let told = tell(
        &[
            Measured(1_000, "a", "added_to_cart", "tv", 900),
            Measured(61_000, "a", "added_to_cart", "radio", 90),
            Now(61_000 + PATIENCE),
            Now(63_000 + PATIENCE),
        ],
        &Memory::default(),
    );
    assert_eq!(told.messages, ["1261000 a radio 990"]);
    assert_eq!(told.rows, ["1262000 radio [1, 990] +1"]);
}

#[test]
fn who_orders_or_leaves_has_not_abandoned_it() {
    let told = tell(
        &[
            Measured(1_000, "orders", "added_to_cart", "tv", 900),
            Measured(2_000, "leaves", "added_to_cart", "tv", 900),
            Measured(3_000, "orders", "ordered", "o-1", 900),
            Sealed(10 * MINUTE, "leaves", 2_000),
            Now(60 * MINUTE),
        ],
        &Memory::default(),
    );
    assert_eq!(told, Told::default());
}

#[test]
fn a_cart_of_the_next_visit_does_not_go_with_the_visit_that_has_ended() {
    let told = tell(
        &[
            Measured(1_000, "a", "added_to_cart", "tv", 900),
            Sealed(2_000, "a", 500),
            Now(30 * MINUTE),
        ],
        &Memory::default(),
    );
    assert_eq!(told.messages, ["1201000 a tv 900"]);
}

#[test]
fn a_restart_changes_nothing() {
    let before = [
        Measured(1_000, "a", "added_to_cart", "tv", 900),
        Measured(2_000, "b", "added_to_cart", "radio", 90),
    ];
    let after = [
        Measured(15 * MINUTE, "b", "ordered", "o-1", 90),
        Now(90 * MINUTE),
    ];
    let whole = tell(&[&before[..], &after].concat(), &Memory::default());
    assert_eq!(whole.messages, ["1201000 a tv 900"]);
    // The tv enters the view, and leaves it an hour later.
    assert_eq!(whole.rows.len(), 2);

    let memory = Memory::default();
    let kept = [Kept(10 * MINUTE), Now(10 * MINUTE)];
    assert_eq!(
        tell(&[&before[..], &kept].concat(), &memory),
        Told::default()
    );
    assert_eq!(tell(&after, &memory), whole);
}
