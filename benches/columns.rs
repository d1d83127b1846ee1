//! What it costs to turn the body of a default measurement into a row of columns, beside
//! apache-avro reading the same body into its tree of values: `cargo bench --bench columns`.
//! The last lines are the nanoseconds a record of both and their ratio.

use std::hint::black_box;
use std::time::{Duration, Instant};

use apache_avro::reader::datum::GenericDatumReader;
use criterion::{Criterion, Throughput};
use visitflow_schemas::columns::{Columns, Ids, Program};
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC, Measurement};
use visitflow_schemas::resolve::identity;

const ROWS: usize = 8192;

/// Bodies as a shop has them: some 410 bytes, a few of the optional fields absent in each.
fn bodies() -> Vec<Vec<u8>> {
    let agents = [
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
        "Mozilla/5.0 (iPhone; CPU iPhone OS 17_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.1 Mobile/15E148 Safari/604.1",
    ];
    let body = |i: usize| {
        let n = (i as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let id = |n: u64| ((u128::from(n) << 64) | u128::from(n.rotate_left(21))).to_be_bytes();
        let entity_id = format!("product-{}", n >> 44);
        let url = format!("/shop/garden/chairs/{}?page={}&sort=price", n >> 50, i % 7);
        let referrer = format!(
            "https://shop.example.org/search?q=garden+chair&n={}",
            n >> 54
        );
        let (customer, ip) = (format!("c-{}", n >> 40), format!("192.0.2.{}", i % 255));
        let (browser, status) = (format!("{:032x}", u128::from(n)), (n >> 55).to_string());
        let attributes = [
            ("status", "200"),
            ("bytes", status.as_str()),
            ("brand", "Adirondack"),
        ];
        let mut body = vec![];
        Measurement {
            event_id: id(n),
            browser_id: &browser,
            event_time: 1_700_000_000_000 + i as i64 * 3,
            effect: ["shown", "clicked", "added_to_cart"][i % 3],
            entity: ["product", "banner"][i % 2],
            entity_id: Some(&entity_id),
            reason: (!i.is_multiple_of(3)).then_some("recommendation:also-bought"),
            cause: (!i.is_multiple_of(4)).then(|| id(n ^ 1)),
            url: Some(&url),
            referrer: Some(&referrer),
            customer_id: i.is_multiple_of(3).then_some(customer.as_str()),
            ip: Some(&ip),
            user_agent: Some(agents[i % 2]),
            position: Some(i as i32 % 40),
            quantity: i.is_multiple_of(5).then_some(2),
            value: i.is_multiple_of(5).then_some(12_900),
            variant: Some("button:green"),
            attributes: &attributes,
        }
        .encode_body(&mut body);
        body
    };
    (0..ROWS).map(body).collect()
}

fn into_columns(columns: &mut Columns, program: &Program, bodies: &[Vec<u8>]) {
    for body in bodies {
        columns
            .append(program, black_box(body))
            .expect("a body as it was written");
    }
    black_box(columns.finish());
}

fn into_values(reader: &GenericDatumReader, bodies: &[Vec<u8>]) {
    for body in bodies {
        black_box(
            reader
                .read_value(&mut black_box(&body[..]))
                .expect("a body as it was written"),
        );
    }
}

fn main() {
    let bodies = bodies();
    let mut columns = Columns::new(&MEASUREMENT, Ids::Hex).expect("the default schema has columns");
    let program = columns
        .program(&identity(&MEASUREMENT))
        .expect("read as itself");
    let avro = apache_avro::Schema::parse_str(MEASUREMENT_AVSC).expect("a schema");
    let reader = GenericDatumReader::builder(&avro)
        .build()
        .expect("a reader");

    let mut criterion = Criterion::default()
        .sample_size(20)
        .measurement_time(Duration::from_secs(3))
        .configure_from_args();
    let mut group = criterion.benchmark_group("measurement");
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("columns", |b| {
        b.iter(|| into_columns(&mut columns, &program, &bodies));
    });
    group.bench_function("apache-avro", |b| b.iter(|| into_values(&reader, &bodies)));
    group.finish();
    criterion.final_summary();

    // Turn about, so that whatever else the machine does meets both.
    let mut times = [vec![], vec![]];
    for _ in 0..21 {
        let start = Instant::now();
        into_columns(&mut columns, &program, &bodies);
        times[0].push(start.elapsed());
        let start = Instant::now();
        into_values(&reader, &bodies);
        times[1].push(start.elapsed());
    }
    let [ours, theirs] = times.map(|mut times| {
        times.sort();
        times[times.len() / 2].as_nanos() as f64 / ROWS as f64
    });
    let bytes: usize = bodies.iter().map(Vec::len).sum();
    println!("bodies of {} bytes on average, 18 fields", bytes / ROWS);
    println!(
        "columns {ours:.0} ns a record, apache-avro {theirs:.0} ns, ratio {:.1}",
        theirs / ours
    );
}
