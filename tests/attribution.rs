//! Attribution held to a made shop's right answer: of each order, the chain to its root, whether it
//! is whole, why the root was there, the value. The right answer follows causes over all that a
//! browser has sent, attribution within a visit; up to where a chain leaves the visit both must say
//! the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use visitflow::generate::{
    Arrival, Judge, Options, Settings, Shop, Troubles, Truth, Verdict, generate, schemas,
};
use visitflow_dataflows::attribution::{self, Attributed};
use visitflow_dataflows::fact::{Fact, Reading};
use visitflow_dataflows::visit::{Position, bytes_of_words, words_of_bytes};
use visitflow_schemas::key::EventKey;
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::schema::Schema;
use visitflow_schemas::store::MemoryStore;
use visitflow_schemas::walk::{Found, Walk};

/// A made shop's visits, each its messages by position, and the right answer.
struct Made {
    visits: BTreeMap<[u8; 16], BTreeMap<Position, Vec<u8>>>,
    truth: Truth,
}

fn bytes(hex: &serde_json::Value) -> [u8; 16] {
    let number = u128::from_str_radix(hex.as_str().unwrap(), 16).unwrap();
    number.to_be_bytes()
}

/// Finds out who sent an accepted message and when.
struct Heads(HashMap<u64, Walk>);

impl Heads {
    fn new() -> Heads {
        let walk = |schema: &Schema| {
            let roles = Roles::find(schema, &Overrides::default()).unwrap();
            let asked = [Role::EventId, Role::EventTime, Role::BrowserId];
            Walk::up_to(schema, &roles, &asked).unwrap()
        };
        Heads(
            schemas()
                .map(|(_, schema)| (schema.fingerprint(), walk(schema)))
                .collect(),
        )
    }

    fn head<'a>(&self, message: &'a [u8]) -> (Position, &'a str) {
        let (schema, body) = visitflow_schemas::message::split(message).unwrap();
        let mut found = Found::default();
        self.0[&schema].run(body, &mut found).unwrap();
        let at = Position {
            time: found.event_time_ms().unwrap(),
            event: words_of_bytes(&EventKey::of(&found, body).unwrap().0),
        };
        (at, found.text(body, Role::BrowserId).unwrap())
    }
}

/// Makes a shop, and puts its messages into visits as the right answer says.
fn make(settings: &Settings) -> Made {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        settings: settings.clone(),
        truth: Some(dir.path().into()),
        tags: true,
        ..Options::default()
    };
    let truth = generate(&options, &mut (), &mut |_| ()).unwrap();
    let mut visit_of = HashMap::new();
    let tags = std::fs::read_to_string(dir.path().join("tags.jsonl")).unwrap();
    for line in tags.lines() {
        let tag: serde_json::Value = serde_json::from_str(line).unwrap();
        let at = Position {
            time: tag["event_time"].as_i64().unwrap(),
            event: words_of_bytes(&bytes(&tag["event_id"])),
        };
        let browser = tag["browser_id"].as_str().unwrap().to_owned();
        visit_of.insert((at, browser), bytes(&tag["visit_id"]));
    }
    let heads = Heads::new();
    let mut visits: BTreeMap<_, BTreeMap<Position, Vec<u8>>> = BTreeMap::new();
    let mut judge = Judge::new(settings.limits, settings.partitions);
    for arrival in Shop::new(settings.clone()).unwrap() {
        let Arrival {
            log_time,
            key,
            value,
            copied,
            ..
        } = arrival;
        let verdict = judge.take(log_time, &key, &value, copied).unwrap();
        if verdict != Verdict::Accepted {
            continue;
        }
        let (at, browser) = heads.head(&value);
        let visit = visit_of[&(at, browser.to_owned())];
        let order = |message: &[u8]| (message[10..].to_vec(), message[2..10].to_vec());
        let kept = visits.entry(visit).or_default().entry(at);
        let kept = kept.or_insert_with(|| value.clone());
        // Of what was sent twice with other bytes, the lesser stays.
        if order(&value) < order(kept) {
            *kept = value;
        }
    }
    Made { visits, truth }
}

/// What attribution says of a visit, and the facts that it says it of.
fn attributed<R>(
    messages: &BTreeMap<Position, Vec<u8>>,
    reading: &mut Reading,
    then: impl FnOnce(&[Fact], Attributed) -> R,
) -> R {
    let facts: Vec<Fact> = messages
        .iter()
        .map(|(at, message)| {
            let (schema, body) = visitflow_schemas::message::split(message).unwrap();
            reading.fact(*at, schema, b"", body).unwrap()
        })
        .collect();
    let said = attribution::orders(&facts, &[], &attribution::Settings::default());
    then(&facts, said)
}

fn reading() -> Reading {
    let store = MemoryStore::of(schemas().map(|(_, schema)| schema));
    Reading::new(Arc::new(store), Overrides::default())
}

/// An answer is kept in state and sent to people; either way it comes back the same.
fn comes_back(said: &Attributed) {
    let kept = postcard::to_stdvec(said).unwrap();
    assert_eq!(&postcard::from_bytes::<Attributed>(&kept).unwrap(), said);
    let json = serde_json::to_string(said).unwrap();
    assert_eq!(&serde_json::from_str::<Attributed>(&json).unwrap(), said);
}

#[test]
fn orders_have_the_chains_that_led_to_them() {
    let (mut orders, mut cut, mut with_losers, mut longest) = (0, 0, 0, 0);
    for seed in 1..4 {
        let settings = Settings {
            seed,
            events: 150_000,
            ..Settings::default()
        };
        let Made { visits, truth } = make(&settings);
        let mut reading = reading();
        let mut expected: BTreeMap<[u8; 16], Vec<_>> = BTreeMap::new();
        for order in &truth.orders {
            expected.entry(order.visit_id).or_default().push(order);
        }
        for (visit, messages) in &visits {
            let said = attributed(messages, &mut reading, |_, said| said);
            let expected = expected.remove(visit).unwrap_or_default();
            assert_eq!(said.orders.len(), expected.len());
            if !said.orders.is_empty() {
                comes_back(&said);
            }
            let there: HashSet<[u8; 16]> =
                messages.keys().map(|at| bytes_of_words(at.event)).collect();
            for (said, expected) in said.orders.iter().zip(expected) {
                orders += 1;
                let chain: Vec<[u8; 16]> = expected
                    .chain
                    .iter()
                    .copied()
                    .take_while(|id| there.contains(id))
                    .collect();
                let stays = chain.len() == expected.chain.len();
                cut += usize::from(!stays);
                longest = longest.max(chain.len());
                let links = said.chain.iter().map(|link| bytes_of_words(link.event));
                assert_eq!(links.collect::<Vec<_>>(), chain, "{expected:?}");
                assert_eq!(said.whole, expected.whole && stays);
                if stays {
                    assert_eq!(said.root_reason(), expected.root_reason.as_deref());
                }
                assert_eq!(bytes_of_words(said.event), expected.event_id);
                assert_eq!(said.time, expected.event_time);
                assert_eq!(said.value, expected.value);
                assert_eq!(said.order_id.as_deref(), Some(&*expected.order_id));
                assert_eq!(said.customer_id, expected.customer_id);
                let linear: i64 = said.credits.iter().map(|credit| credit.linear).sum();
                assert_eq!(Some(linear), expected.value);
                let expired = said
                    .credits
                    .iter()
                    .any(|credit| &*credit.touch == "expired");
                assert!(said.whole || expired);
                with_losers += usize::from(said.chain.iter().any(|link| !link.losers.is_empty()));
            }
        }
        assert!(expected.is_empty());
    }
    println!(
        "{orders} orders, {cut} with a chain into an earlier visit, {with_losers} with losers, \
         {longest} links at most"
    );
    assert!(orders > 100 && cut > 0 && with_losers > 50);
}

/// In a shop without trouble an order's value is that of all that its browser put into the cart since
/// the order before, most of it in the same visit or left there in earlier ones.
#[test]
fn orders_take_the_carts_since_the_order_before() {
    let settings = Settings {
        events: 150_000,
        troubles: Troubles::NONE,
        ..Settings::default()
    };
    let Made { visits, truth } = make(&settings);
    let mut reading = reading();
    let (mut orders, mut alone, mut exact) = (0, 0, 0);
    // Of each browser, what it has left in the cart.
    let mut left: HashMap<&str, i64> = HashMap::new();
    for visit in &truth.visits {
        let said = attributed(&visits[&visit.visit_id], &mut reading, |_, said| said);
        assert_eq!(said.flaws.cycles + said.flaws.later + said.flaws.long, 0);
        let left = left.entry(&visit.browser_id).or_default();
        let mut carts = said.carts.iter().peekable();
        for order in &said.orders {
            let mut worth = 0;
            while let Some(cart) = carts.next_if(|cart| cart.time <= order.time) {
                assert!(cart.ordered);
                worth += cart.value.unwrap();
            }
            orders += 1;
            alone += usize::from(*left == 0);
            exact += usize::from(order.value == Some(*left + worth));
            *left = 0;
        }
        for cart in carts {
            assert!(!cart.ordered);
            *left += cart.value.unwrap();
        }
    }
    println!("{orders} orders, {alone} of carts of their visit, {exact} worth what is in the cart");
    // Two who use one browser at once have two carts.
    assert!(orders > 30 && alone > 20 && exact * 10 > orders * 9);
}

/// A block's goods are caused by the block, so clicks on them are clicks on it.
#[test]
fn blocks_banners_and_arms_of_experiments_lead_to_orders() {
    let settings = Settings {
        events: 150_000,
        ..Settings::default()
    };
    let Made { visits, .. } = make(&settings);
    let mut reading = reading();
    let mut sums: BTreeMap<&str, [i64; 5]> = BTreeMap::new();
    for messages in visits.values() {
        let rows = attributed(messages, &mut reading, |facts, _| {
            attribution::chains_by(facts, &attribution::Settings::default(), |fact| match fact
                .entity
            {
                "block" => Some("block"),
                "banner" => Some("banner"),
                _ => fact.variant.map(|_| "variant"),
            })
        });
        for (key, led) in rows {
            let sums = sums.entry(key).or_default();
            std::iter::zip(sums, led).for_each(|(sum, led)| *sum += led);
        }
    }
    println!("{sums:?}");
    for [shown, clicked, carted, ordered, revenue] in sums.values() {
        assert!(shown > clicked && *clicked > 0 && clicked > ordered);
        assert!(*carted > 0 && *ordered > 0 && *revenue > 0);
    }
    assert_eq!(sums.len(), 3);
}
