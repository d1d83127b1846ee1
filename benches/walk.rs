//! What it costs to find the roles in a measurement: the walk, against decoding the whole record
//! by serde_avro_fast (into borrowed fields) and by apache-avro (into a tree), over the same 256
//! measurements of the default schema, some 450 bytes each. The walk is timed whole (it
//! verifies every byte), and up to the three roles that a record's routing needs.
//!
//! `cargo bench --bench walk`; the ratios are printed last.

#![allow(missing_docs)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC, Measurement};
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::{Overrides, Roles};
use visitflow_schemas::walk::{Found, Walk};

/// The default measurement as serde sees it, all borrowed.
#[derive(Deserialize)]
#[allow(dead_code)] // Read, not used.
struct Borrowed<'a> {
    event_id: &'a [u8],
    browser_id: &'a str,
    event_time: i64,
    effect: &'a str,
    entity: &'a str,
    entity_id: Option<&'a str>,
    reason: Option<&'a str>,
    #[serde(borrow)]
    cause: Option<&'a [u8]>,
    url: Option<&'a str>,
    referrer: Option<&'a str>,
    customer_id: Option<&'a str>,
    ip: Option<&'a str>,
    user_agent: Option<&'a str>,
    position: Option<i32>,
    quantity: Option<i32>,
    value: Option<i64>,
    variant: Option<&'a str>,
    #[serde(borrow)]
    attributes: Pairs<'a>,
}

/// A map as pairs: cheaper than any map.
struct Pairs<'a>(#[allow(dead_code)] Vec<(&'a str, &'a str)>);

impl<'de: 'a, 'a> Deserialize<'de> for Pairs<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs<'a>, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Vec<(&'de str, &'de str)>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map of strings")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    pairs.push(pair);
                }
                Ok(pairs)
            }
        }
        deserializer.deserialize_map(Each).map(Pairs)
    }
}

/// The three fields that routing needs.
#[derive(Deserialize)]
#[allow(dead_code)] // Read, not used.
struct First<'a> {
    event_id: &'a [u8],
    browser_id: &'a str,
    event_time: i64,
}

/// Measurements as a shop's pages make them: which fields are null differs, lengths differ.
fn bodies() -> Vec<Vec<u8>> {
    let mut seed = 0x9E37_79B9_7F4A_7C15_u64;
    let mut next = |below: u64| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed >> 33) % below
    };
    let agents = [
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.5 Mobile/15E148 Safari/604.1",
        "Mozilla/5.0 (X11; Linux x86_64; rv:127.0) Gecko/20100101 Firefox/127.0",
    ];
    (0..256_u64)
        .map(|i| {
            let id = |a: u64, b: u64| {
                let mut id = [0; 16];
                id[..8].copy_from_slice(&a.to_be_bytes());
                id[8..].copy_from_slice(&b.to_be_bytes());
                id
            };
            let event_id = id(next(u64::MAX), next(u64::MAX));
            let browser_id = format!(
                "{:08x}-{:04x}-{:08x}",
                next(1 << 31),
                next(1 << 16),
                next(1 << 31)
            );
            let words = ["schuhe", "gr%C3%B6%C3%9Fe+42", "winter-jacke", "sale"];
            let word = words[next(4) as usize];
            let url = format!(
                "https://shop.example/{word}/p{}?page={}&sort=price",
                next(1_000_000),
                next(40)
            );
            let referrer = format!(
                "https://shop.example/search?q={word}&page={}&source=navigation&sort=relevance",
                next(40)
            );
            let entity_id = format!("p{}", next(1_000_000));
            let customer = format!("c{}", next(1_000_000));
            let ip = format!("{}.{}.{}.{}", next(256), next(256), next(256), next(256));
            let width = format!("{}", 320 + next(2000));
            // One title of eight is not all ASCII.
            let title = ["Größe 42 für Kinder", "Running shoes for men"][usize::from(next(8) > 0)];
            let ordered = next(10) == 0;
            let mut body = vec![];
            Measurement {
                event_id,
                browser_id: &browser_id,
                event_time: 1_700_000_000_000 + (i * 1_713) as i64,
                effect: ["shown", "clicked", "ordered"][next(3) as usize],
                entity: ["page", "banner", "product", "search"][next(4) as usize],
                entity_id: Some(&entity_id),
                reason: (next(3) > 0).then_some("recommendation:also-bought"),
                cause: (next(4) > 0).then(|| id(next(u64::MAX), next(u64::MAX))),
                url: Some(&url),
                referrer: (next(3) > 0).then_some(&referrer),
                customer_id: (next(3) == 0).then_some(&customer),
                ip: Some(&ip),
                user_agent: Some(agents[next(3) as usize]),
                position: (next(2) == 0).then_some(next(60) as i32),
                quantity: ordered.then_some(1 + next(3) as i32),
                value: ordered.then_some(next(100_000) as i64),
                variant: (next(2) == 0).then_some("checkout-2024:b"),
                attributes: &[
                    ("viewport", &width),
                    ("template", "listing-v3"),
                    ("title", title),
                    ("brand", "Examples & Sons"),
                ],
            }
            .encode_body(&mut body);
            body
        })
        .collect()
}

/// The least mean time of a call over all bodies, in nanoseconds, of 200 rounds or more.
fn time(bodies: &[Vec<u8>], mut each: impl FnMut(&[u8])) -> f64 {
    let begun = Instant::now();
    let mut best = f64::MAX;
    let mut rounds = 0;
    while rounds < 200 || begun.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        bodies.iter().for_each(|body| each(body));
        best = best.min(start.elapsed().as_nanos() as f64 / bodies.len() as f64);
        rounds += 1;
    }
    best
}

fn main() {
    let bodies = bodies();
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    let roles = Roles::find(&MEASUREMENT, &Overrides::default()).expect("the default roles");
    let whole = Walk::compile(&MEASUREMENT, &roles, None).expect("a walk");
    let first = Walk::up_to(&MEASUREMENT, &roles, Role::REQUIRED).expect("a walk");
    let fast: serde_avro_fast::Schema = MEASUREMENT_AVSC.parse().expect("the default schema");
    let avro = apache_avro::Schema::parse_str(MEASUREMENT_AVSC).expect("the default schema");
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro)
        .build()
        .expect("a reader");

    let found = std::cell::RefCell::new(Found::default());
    let walk_by = |walk: &Walk, body: &[u8]| {
        let found = &mut *found.borrow_mut();
        walk.run(black_box(body), found).expect("a body");
        black_box(found.event_time_ms());
    };
    let walk_whole = |body: &[u8]| walk_by(&whole, body);
    let walk_first = |body: &[u8]| walk_by(&first, body);
    let fast_whole = |body: &[u8]| {
        let read: Borrowed =
            serde_avro_fast::from_datum_slice(black_box(body), &fast).expect("a body");
        black_box(read.event_time);
    };
    let fast_first = |body: &[u8]| {
        let read: First =
            serde_avro_fast::from_datum_slice(black_box(body), &fast).expect("a body");
        black_box(read.event_time);
    };
    let avro_whole = |body: &[u8]| {
        black_box(reader.read_value(&mut black_box(body)).expect("a body"));
    };

    let mut criterion = Criterion::default()
        .measurement_time(Duration::from_secs(3))
        .warm_up_time(Duration::from_secs(1))
        .configure_from_args();
    let mut group = criterion.benchmark_group("256 measurements");
    group.throughput(Throughput::Elements(bodies.len() as u64));
    let all = |each: &dyn Fn(&[u8])| bodies.iter().for_each(|body| each(body));
    group.bench_function("walk", |b| b.iter(|| all(&walk_whole)));
    group.bench_function("walk, first three", |b| b.iter(|| all(&walk_first)));
    group.bench_function("serde_avro_fast, borrowed", |b| b.iter(|| all(&fast_whole)));
    group.bench_function("serde_avro_fast, first three", |b| {
        b.iter(|| all(&fast_first))
    });
    group.bench_function("apache-avro, Value", |b| b.iter(|| all(&avro_whole)));
    group.finish();

    let base = time(&bodies, walk_whole);
    let base_first = time(&bodies, walk_first);
    let ratio = |name: &str, ns: f64, base: f64| {
        println!("{name:42} {ns:7.1} ns {:6.1} times the walk", ns / base);
    };
    println!(
        "\nbest of the same run, a measurement of {} bytes in the mean:",
        bytes / bodies.len()
    );
    ratio("walk", base, base);
    ratio(
        "serde_avro_fast, whole, borrowed",
        time(&bodies, fast_whole),
        base,
    );
    ratio(
        "apache-avro, whole, into a Value",
        time(&bodies, avro_whole),
        base,
    );
    ratio("walk, first three fields", base_first, base_first);
    ratio(
        "serde_avro_fast, first three fields",
        time(&bodies, fast_first),
        base_first,
    );
}
