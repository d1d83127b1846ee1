//! Views after all that was done: what the job serves of them at last against sums over the visits of
//! the tables, which are the right answer's, and over its orders.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde_json::Value;
use visitflow::generate::Truth;
use visitflow_dataflows::views::minute;

use crate::outputs::{Tables, VisitRow, hex};

/// Something of every kind, so that views' state is in each snapshot and read by each start. The windows
/// of a day hold all that has come, so that what is lost or counted twice at any death is seen at last.
pub const VIEWS: &str = "
[[view]]
name = 'visits'
of = 'visits'
key = ['minute', 'end_reason']
values = ['count', 'measurements', 'orders', 'revenue', 'browsers']
window = '1d'
step = '1s'
[[view]]
name = 'lately'
of = 'visits'
key = ['end_reason']
values = ['count', 'measurements', 'orders', 'revenue', 'browsers']
window = '30s'
step = '2s'
[[view]]
name = 'clicked'
effects = ['clicked']
key = ['entity_id']
values = ['count', 'browsers']
window = '1d'
step = '1s'
[[view]]
name = 'ordered'
effects = ['ordered']
entities = ['order']
key = ['minute']
values = ['count', 'sum', 'browsers']
window = '1d'
step = '2s'
[[view]]
name = 'credits'
of = 'credits'
key = ['touch']
window = '1d'
step = '5s'
[[view]]
name = 'products'
entities = ['product']
people = true
key = ['entity_id']
values = ['count', 'usual', 'browsers']
window = '1min'
step = '1s'
against = '10min'
top = 10
";
/// Those that are judged.
pub const NAMES: [&str; 5] = ["visits", "lately", "clicked", "ordered", "credits"];
/// All of them move on at its multiples.
pub const STEP: u64 = 10_000;

/// What was served of all views, as of one tick.
pub struct Served {
    pub tick: u64,
    pub views: HashMap<String, Value>,
}

/// Rows by their keys.
type Rows = BTreeMap<Vec<String>, Vec<i64>>;

impl Served {
    fn rows(&self, name: &str) -> Rows {
        let view = &self.views[name];
        let names =
            |list: &str| -> Vec<String> { serde_json::from_value(view[list].clone()).unwrap() };
        let (key, values) = (names("key"), names("values"));
        let rows = view["rows"].as_array().unwrap().iter();
        let rows = rows.map(|row| {
            let text = |field: &String| row[field].as_str().unwrap().to_owned();
            let number = |value: &String| row[value].as_i64().unwrap();
            (
                key.iter().map(text).collect(),
                values.iter().map(number).collect(),
            )
        });
        rows.collect()
    }

    /// Whether something of this time is in a window of so many ms.
    fn within(&self, window: i64, time: i64) -> bool {
        let tick = self.tick as i64;
        time >= tick - window && time < tick
    }

    fn end_reason(&self, visit: &VisitRow) -> String {
        let ended = visit.sealed_tick < self.tick as i64;
        if ended {
            visit.end_reason.clone()
        } else {
            "open".to_owned()
        }
    }
}

/// Sums by key; the last value of each is how many browsers there are.
fn sums(adds: impl Iterator<Item = (Vec<String>, Vec<i64>, String)>) -> Rows {
    let mut rows: BTreeMap<Vec<String>, (Vec<i64>, BTreeSet<String>)> = BTreeMap::new();
    for (key, amounts, browser) in adds {
        let (sums, browsers) = rows
            .entry(key)
            .or_insert_with(|| (vec![0; amounts.len()], BTreeSet::new()));
        sums.iter_mut()
            .zip(amounts)
            .for_each(|(sum, amount)| *sum += amount);
        browsers.insert(browser);
    }
    let row = |(key, (mut sums, browsers)): (_, (Vec<i64>, BTreeSet<String>))| {
        sums.push(browsers.len() as i64);
        (key, sums)
    };
    rows.into_iter().map(row).collect()
}

/// Compares what was served with what must be; how many rows that were.
///
/// # Panics
/// At the first view that differs.
pub fn compare(served: &Served, tables: &Tables, truth: &Truth) -> usize {
    const DAY: i64 = 86_400_000;
    let mut orders: HashMap<String, (i64, i64)> = HashMap::new();
    for order in &truth.orders {
        let (count, revenue) = orders.entry(hex(&order.visit_id)).or_default();
        *count += 1;
        *revenue += order.value.unwrap_or(0);
    }
    let visits = |window, key: &dyn Fn(&VisitRow) -> Vec<String>| {
        let all = tables.visits.iter();
        let within = all.filter(|visit| served.within(window, visit.started));
        sums(within.map(|visit| {
            let (count, revenue) = orders.get(&visit.visit_id).copied().unwrap_or_default();
            let amounts = vec![1, visit.measurements, count, revenue];
            (key(visit), amounts, visit.browser_id.clone())
        }))
    };
    let of_day = visits(DAY, &|visit| {
        vec![minute(visit.started), served.end_reason(visit)]
    });
    let lately = visits(30_000, &|visit| vec![served.end_reason(visit)]);
    let clicked = tables.measurements.iter();
    let clicked =
        clicked.filter(|row| row.effect == "clicked" && served.within(DAY, row.event_time));
    let clicked = sums(clicked.map(|row| {
        let key = vec![row.entity_id.clone().unwrap_or_default()];
        (key, vec![1], row.browser_id.clone())
    }));
    let ordered = truth.orders.iter();
    let ordered = ordered.filter(|order| served.within(DAY, order.event_time));
    let ordered = sums(ordered.map(|order| {
        let key = vec![minute(order.event_time)];
        let amounts = vec![1, order.value.unwrap_or(0)];
        (key, amounts, order.browser_id.to_string())
    }));
    let mut rows = 0;
    for (name, expected) in [
        ("visits", of_day),
        ("lately", lately),
        ("clicked", clicked),
        ("ordered", ordered),
    ] {
        let found = served.rows(name);
        // Thousands of rows that are the same would hide those that differ.
        let only = |own: &Rows, other: &Rows| {
            let rows = own
                .iter()
                .filter(|(key, sums)| other.get(*key) != Some(sums));
            rows.take(10)
                .map(|row| format!("{row:?}"))
                .collect::<Vec<_>>()
        };
        assert!(
            found == expected,
            "the view {name} as of {}: served {:#?}, expected {:#?}",
            served.tick,
            only(&found, &expected),
            only(&expected, &found),
        );
        rows += expected.len();
    }
    // However orders are shared among what led to them, it is the whole of them.
    let within = tables
        .visits
        .iter()
        .filter(|visit| served.within(DAY, visit.started));
    let revenue: i64 = within
        .filter_map(|visit| orders.get(&visit.visit_id))
        .map(|(_, revenue)| revenue)
        .sum();
    let credits = served.rows("credits");
    for model in 1..=4 {
        let shared: i64 = credits.values().map(|credits| credits[model]).sum();
        assert_eq!(
            shared, revenue,
            "credits by model {model} as of {}",
            served.tick
        );
    }
    rows + credits.len()
}
