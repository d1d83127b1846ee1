//! The made shop held to what it promises: the same bytes for the same seed, every trouble, whole
//! chains of causes; and its right answer held to a second, slower one, which reads the messages
//! with apache-avro and keeps everything until the end.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use apache_avro::types::Value;
use sha2::{Digest, Sha256};
use visitflow::generate::{
    Arrival, EndReason, GenerateError, JsonLines, Judge, Limits, Options, Reason, Settings, Shop,
    Trouble, Troubles, Truth, Verdict, generate, schemas, tag_hash,
};

fn shop(events: u64) -> Settings {
    Settings {
        events,
        ..Settings::default()
    }
}

fn arrivals(settings: &Settings) -> Vec<Arrival> {
    Shop::new(settings.clone()).unwrap().collect()
}

fn truth(settings: &Settings) -> Truth {
    let options = Options {
        settings: settings.clone(),
        ..Options::default()
    };
    generate(&options, &mut (), &mut |_| ()).unwrap()
}

fn digest(arrivals: &[Arrival]) -> String {
    let mut sha = Sha256::new();
    for a in arrivals {
        sha.update(a.log_time.to_le_bytes());
        sha.update((a.key.len() as u32).to_le_bytes());
        sha.update(&a.key);
        sha.update((a.value.len() as u32).to_le_bytes());
        sha.update(&a.value);
    }
    sha.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// A message as apache-avro reads it.
#[derive(Clone, Debug)]
struct Read {
    event_id: [u8; 16],
    browser_id: String,
    event_time: i64,
    effect: String,
    entity: String,
    entity_id: Option<String>,
    reason: Option<String>,
    cause: Option<[u8; 16]>,
    customer_id: Option<String>,
    value: Option<i64>,
    fields: usize,
}

struct Reader {
    schemas: HashMap<[u8; 8], apache_avro::Schema>,
}

impl Reader {
    fn new() -> Reader {
        let schemas = schemas()
            .map(|(_, schema)| {
                let avro = apache_avro::Schema::parse(schema.json()).unwrap();
                (schema.fingerprint().to_le_bytes(), avro)
            })
            .collect();
        Reader { schemas }
    }

    /// The message's content, or why it has none.
    fn read(&self, message: &[u8]) -> Result<Read, Reason> {
        if message.len() < 10 || !message.starts_with(&[0xc3, 1]) {
            return Err(Reason::NotAMessage);
        }
        let schema = self
            .schemas
            .get(&message[2..10])
            .ok_or(Reason::UnknownSchema)?;
        let mut body = &message[10..];
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema)
            .build()
            .unwrap();
        let value = reader
            .read_value(&mut body)
            .map_err(|_| Reason::Undecodable)?;
        // apache-avro reads what is cut off as null, so a body counts only if it has the length
        // of what was read.
        let again = apache_avro::writer::datum::GenericDatumWriter::builder(schema)
            .build()
            .unwrap()
            .write_value_to_vec(value.clone())
            .map_err(|_| Reason::Undecodable)?;
        let (Value::Record(fields), true) = (value, again.len() == message.len() - 10) else {
            return Err(Reason::Undecodable);
        };
        let n = fields.len();
        let fields: HashMap<String, Value> = fields.into_iter().collect();
        let get = |name: &str| match &fields[name] {
            Value::Union(_, inner) => (**inner).clone(),
            other => other.clone(),
        };
        let text = |name: &str| match get(name) {
            Value::String(text) => Some(text),
            _ => None,
        };
        let id = |name: &str| match get(name) {
            Value::Fixed(16, bytes) => Some(<[u8; 16]>::try_from(bytes).unwrap()),
            _ => None,
        };
        let number = |name: &str| match get(name) {
            Value::Long(n) | Value::TimestampMillis(n) => Some(n),
            _ => None,
        };
        Ok(Read {
            event_id: id("event_id").unwrap(),
            browser_id: text("browser_id").unwrap(),
            event_time: number("event_time").unwrap(),
            effect: text("effect").unwrap(),
            entity: text("entity").unwrap(),
            entity_id: text("entity_id"),
            reason: text("reason"),
            cause: id("cause"),
            customer_id: text("customer_id"),
            value: number("value"),
            fields: n,
        })
    }
}

#[test]
fn the_same_seed_makes_the_same_bytes_and_another_seed_others() {
    let settings = shop(10_000);
    let first = arrivals(&settings);
    assert_eq!(first.len(), 10_000);
    assert_eq!(first, arrivals(&settings));
    assert_ne!(
        digest(&first),
        digest(&arrivals(&Settings {
            seed: 2,
            ..settings
        }))
    );
}

#[test]
fn ten_thousand_arrivals_are_these_on_every_machine() {
    assert_eq!(
        digest(&arrivals(&shop(10_000))),
        "681b1ab3bd718256e4c3e07c90623c7d84353b48e51a7e9c312072c4cf45d8f3"
    );
}

#[test]
fn arrivals_are_in_order_of_log_time_and_never_before_what_was_said() {
    let settings = shop(20_000);
    let mut shop = Shop::new(settings.clone()).unwrap();
    let mut last = settings.start;
    loop {
        let said = shop.next_time();
        let Some(arrival) = shop.next() else { break };
        assert!(arrival.log_time >= last);
        assert!(arrival.log_time >= said.unwrap());
        last = arrival.log_time;
    }
    assert_eq!(shop.next_time(), None);
}

#[test]
fn arrivals_do_not_depend_on_partitions_and_neither_does_the_answer() {
    let settings = shop(20_000);
    let other = Settings {
        partitions: 64,
        ..settings.clone()
    };
    assert_eq!(digest(&arrivals(&settings)), digest(&arrivals(&other)));
    let (one, many) = (truth(&settings), truth(&other));
    // Log times never go back, so every partition's clock is the newest record's log time.
    assert_eq!(one.visits, many.visits);
    assert_eq!((one.late, one.rejected), (many.late, many.rejected));
}

#[test]
fn every_trouble_occurs_in_a_hundred_thousand_events() {
    let mut settings = shop(100_000);
    settings.limits.max_size = 5_000;
    let arrivals = arrivals(&settings);
    let made: BTreeSet<Trouble> = arrivals.iter().map(|arrival| arrival.trouble).collect();
    use Trouble::*;
    for trouble in [
        None,
        Repeat,
        OtherBytes,
        Reused,
        HeldBack,
        WrongClock,
        OnTheLimit,
        Large,
        Oversize,
        WithoutBrowser,
        Noise,
        Text,
        Short,
        UnknownSchema,
        Truncated,
        BadUtf8,
        BadLength,
        Trailing,
    ] {
        assert!(made.contains(&trouble), "{trouble:?}");
    }

    let truth = truth(&settings);
    for reason in Reason::ALL {
        assert!(truth.rejected[reason as usize] > 0, "{reason:?}");
    }
    for reason in EndReason::ALL {
        assert!(truth.ends(reason) > 0, "{reason:?}");
    }
    assert!(
        truth.late > 100 && truth.repeated > 100 && truth.orders.len() > 10,
        "{truth:?}"
    );

    let reader = Reader::new();
    let read: Vec<Read> = arrivals
        .iter()
        .filter_map(|a| reader.read(&a.value).ok())
        .collect();
    let versions: BTreeSet<usize> = read.iter().map(|read| read.fields).collect();
    assert_eq!(versions, BTreeSet::from([16, 18, 19]), "three schemas");

    // Out of order, several customers a browser, several browsers a customer, and people who
    // become known in the middle of a visit.
    let behind = read
        .windows(2)
        .filter(|pair| pair[1].event_time < pair[0].event_time)
        .count();
    assert!(behind > 1_000);
    let mut browsers_of: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut customers_of: BTreeMap<&str, BTreeSet<Option<&str>>> = BTreeMap::new();
    for read in &read {
        let customer = read.customer_id.as_deref();
        customers_of
            .entry(&read.browser_id)
            .or_default()
            .insert(customer);
        if let Some(customer) = customer {
            browsers_of
                .entry(customer)
                .or_default()
                .insert(&read.browser_id);
        }
    }
    assert!(browsers_of.values().any(|browsers| browsers.len() > 2));
    assert!(customers_of.values().any(|customers| customers.len() > 2));
}

#[test]
fn pages_have_about_thirty_measurements_and_a_measurement_about_450_bytes() {
    let mut settings = shop(50_000);
    settings.troubles = Troubles::NONE;
    let (mut pages, mut things, mut bytes) = (0, 0, 0);
    let reader = Reader::new();
    for arrival in arrivals(&settings) {
        let read = reader.read(&arrival.value).unwrap();
        if read.browser_id.starts_with("server-") || read.browser_id.starts_with("clockwork-") {
            continue;
        }
        bytes += arrival.value.len();
        things += 1;
        pages += usize::from(read.effect == "shown" && read.entity == "page");
    }
    assert!(
        (27..=33).contains(&(things / pages)),
        "{things} on {pages} pages"
    );
    assert!(
        (380..=480).contains(&(bytes / things)),
        "{} bytes",
        bytes / things
    );
}

#[test]
fn chains_of_causes_are_whole_where_nothing_goes_wrong() {
    let mut settings = shop(100_000);
    settings.troubles = Troubles::NONE;
    let reader = Reader::new();
    let read: Vec<Read> = arrivals(&settings)
        .iter()
        .map(|arrival| reader.read(&arrival.value).unwrap())
        .collect();
    let by_id: HashMap<[u8; 16], &Read> = read.iter().map(|read| (read.event_id, read)).collect();
    let end = read.iter().map(|read| read.event_time).max().unwrap();
    for read in &read {
        let Some(cause) = read.cause else {
            assert!(
                read.effect == "shown" && read.entity == "page",
                "{read:?} has no cause"
            );
            continue;
        };
        let Some(cause) = by_id.get(&cause) else {
            // Its cause was still on its way when the last arrival came.
            assert!(
                read.event_time > end - 10_000,
                "the cause of {read:?} never came"
            );
            continue;
        };
        assert_eq!(cause.browser_id, read.browser_id);
        assert!(cause.event_time <= read.event_time);
        let (from, to) = (
            (&*cause.effect, &*cause.entity),
            (&*read.effect, &*read.entity),
        );
        let right = match to {
            ("shown", "page") => ["clicked", "searched", "ordered"].contains(&from.0),
            ("shown", _) => from.0 == "shown" && ["page", "block"].contains(&from.1),
            ("clicked", clicked) => from == ("shown", clicked),
            ("searched" | "logged_in", _) => from == ("shown", "page"),
            ("added_to_cart", _) => from == ("shown", "page"),
            ("ordered", _) => from == ("added_to_cart", "product"),
            _ => false,
        };
        assert!(right, "{from:?} caused {to:?}");
    }

    let truth = truth(&settings);
    assert!(truth.orders.len() > 20);
    for order in &truth.orders {
        assert!(order.whole, "{order:?}");
        assert!(order.root_reason.is_some() && order.chain.len() >= 3);
    }
    // Some carts are ordered on another day.
    let began = |order: &visitflow::generate::Order| {
        truth
            .visits
            .iter()
            .find(|visit| visit.visit_id == order.visit_id)
            .unwrap()
            .started
    };
    assert!(
        truth
            .orders
            .iter()
            .any(|order| { by_id[order.chain.last().unwrap()].event_time < began(order) })
    );
}

#[test]
fn everything_that_came_is_in_one_count() {
    for seed in 1..4 {
        let truth = truth(&Settings {
            seed,
            ..shop(30_000)
        });
        let rejected: u64 = truth.rejected.iter().sum();
        assert_eq!(truth.taken, 30_000);
        assert_eq!(
            truth.taken,
            truth.tagged + truth.late + rejected + truth.repeated
        );
        let in_visits: u64 = truth.visits.iter().map(|visit| visit.measurements).sum();
        assert_eq!(in_visits, truth.tagged);
    }
}

/// One browser's messages by identity.
type Set<'a> = BTreeMap<(i64, [u8; 16]), Vec<&'a [u8]>>;

/// The answer a second time: everything is kept, then judged, sorted and walked at the end, with a
/// naive search for each cause.
fn slowly(arrivals: &[Arrival], limits: &Limits) -> Slow {
    let reader = Reader::new();
    let mut slow = Slow::default();
    let mut sets: BTreeMap<String, Set> = BTreeMap::new();
    for a in arrivals {
        let clock = a.log_time;
        let read = match a.value.len() > limits.max_record {
            true => Err(Reason::Oversize),
            false => reader.read(&a.value),
        };
        let reason = match read {
            Err(reason) => Some(reason),
            Ok(read) if read.browser_id.is_empty() => Some(Reason::WithoutBrowser),
            Ok(read) if read.event_time - clock > limits.max_ahead => Some(Reason::Future),
            Ok(read) if clock - read.event_time > limits.max_delay => {
                slow.late += 1;
                continue;
            }
            Ok(read) => {
                let set = sets.entry(read.browser_id).or_default();
                set.entry((read.event_time, read.event_id))
                    .or_default()
                    .push(&a.value);
                None
            }
        };
        if let Some(reason) = reason {
            slow.rejected[reason as usize] += 1;
        }
    }
    for (browser, set) in &sets {
        let mut chosen = Vec::new();
        for messages in set.values() {
            slow.repeated += messages.len() as u64 - 1;
            let least = messages.iter().min_by_key(|message| {
                (
                    &message[10..],
                    u64::from_le_bytes(message[2..10].try_into().unwrap()),
                )
            });
            chosen.push(reader.read(least.unwrap()).unwrap());
        }
        // First cut into visits by looking from each measurement back to its visit's first.
        let mut firsts: Vec<usize> = Vec::new();
        for at in 0..chosen.len() {
            let cut = match firsts.last() {
                None => true,
                Some(first) => {
                    chosen[at].event_time > chosen[at - 1].event_time + limits.inactivity
                        || chosen[at].event_time >= chosen[*first].event_time + limits.max_length
                        || (at - first) as u64 >= limits.max_size
                }
            };
            if cut {
                firsts.push(at);
            }
        }
        for (place, first) in firsts.iter().enumerate() {
            let until = firsts.get(place + 1).copied().unwrap_or(chosen.len());
            let members = &chosen[*first..until];
            let (head, tail) = (&members[0], &members[members.len() - 1]);
            let mut bytes = (browser.len() as u32).to_le_bytes().to_vec();
            bytes.extend_from_slice(browser.as_bytes());
            bytes.extend_from_slice(&head.event_time.to_le_bytes());
            bytes.extend_from_slice(&head.event_id);
            let visit_id: [u8; 16] = Sha256::digest(&bytes)[..16].try_into().unwrap();
            let reason = if members.len() as u64 == limits.max_size {
                "size"
            } else if head.event_time + limits.max_length <= tail.event_time + limits.inactivity {
                "length"
            } else {
                "inactivity"
            };
            slow.visits.push(format!(
                "{} {browser} {} {} {} {reason} {:?}",
                visit_id.map(|byte| format!("{byte:02x}")).concat(),
                head.event_time,
                tail.event_time,
                members.len(),
                members.iter().find_map(|read| read.customer_id.as_deref()),
            ));
            for read in members {
                slow.tags_sum = slow.tags_sum.wrapping_add(tag_hash(
                    &read.event_id,
                    read.event_time,
                    &visit_id,
                ));
                if (&*read.effect, &*read.entity) != ("ordered", "order") {
                    continue;
                }
                let mut chain = vec![read];
                let mut seen = HashSet::from([read.event_id]);
                let mut whole = false;
                loop {
                    let Some(cause) = chain[chain.len() - 1].cause else {
                        whole = true;
                        break;
                    };
                    match chosen.iter().find(|read| read.event_id == cause) {
                        Some(next) if seen.insert(cause) => chain.push(next),
                        _ => break,
                    }
                }
                slow.orders.push(format!(
                    "{:?} {:?} {} {whole} {:?} {:?}",
                    read.entity_id,
                    read.value,
                    visit_id.map(|byte| format!("{byte:02x}")).concat(),
                    chain[chain.len() - 1].reason,
                    chain.iter().map(|read| read.event_id).collect::<Vec<_>>(),
                ));
            }
        }
    }
    slow
}

#[derive(Default)]
struct Slow {
    late: u64,
    rejected: [u64; 6],
    repeated: u64,
    visits: Vec<String>,
    orders: Vec<String>,
    tags_sum: u128,
}

#[test]
fn a_second_slower_answer_is_the_same() {
    let minute = 60_000;
    let usual = Limits {
        max_size: 1_500,
        ..Limits::default()
    };
    // Short limits let the judge walk and forget early and often.
    let short = Limits {
        inactivity: 2 * minute,
        max_length: 20 * minute,
        max_size: 40,
        max_delay: 0,
        ..usual
    };
    let long = Limits {
        max_delay: 120 * minute,
        inactivity: 90 * minute,
        ..usual
    };
    for (seed, limits) in [(1, usual), (2, short), (3, long), (4, usual)] {
        let mut settings = Settings {
            seed,
            limits,
            ..shop(60_000)
        };
        // More of everything that goes wrong.
        settings.troubles.repeats = 50_000;
        settings.troubles.wrong_clocks = 300_000;
        settings.troubles.late = 20_000;
        let arrivals = arrivals(&settings);
        let fast = truth(&settings);
        let slow = slowly(&arrivals, &limits);
        assert_eq!((fast.late, fast.repeated), (slow.late, slow.repeated));
        assert_eq!(fast.rejected, slow.rejected);
        let visits: Vec<String> = fast
            .visits
            .iter()
            .map(|visit| {
                format!(
                    "{} {} {} {} {} {} {:?}",
                    visit.visit_id.map(|byte| format!("{byte:02x}")).concat(),
                    visit.browser_id,
                    visit.started,
                    visit.last_seen,
                    visit.measurements,
                    visit.end_reason.word(),
                    visit.customer_id.as_deref(),
                )
            })
            .collect();
        assert_eq!(visits, slow.visits);
        assert_eq!(fast.tags_sum, slow.tags_sum);
        let orders: Vec<String> = fast
            .orders
            .iter()
            .map(|order| {
                format!(
                    "{:?} {:?} {} {} {:?} {:?}",
                    Some(&order.order_id),
                    order.value,
                    order.visit_id.map(|byte| format!("{byte:02x}")).concat(),
                    order.whole,
                    order.root_reason,
                    order.chain,
                )
            })
            .collect();
        assert!(!orders.is_empty());
        assert_eq!(orders, slow.orders);
    }
}

#[test]
fn what_lies_exactly_on_a_limit_is_within_it() {
    let settings = Settings {
        troubles: Troubles::NONE,
        ..shop(100_000)
    };
    let truth = truth(&settings);
    let of = |name: &str| -> Vec<_> {
        truth
            .visits
            .iter()
            .filter(|visit| &*visit.browser_id == name)
            .collect()
    };
    let limits = settings.limits;
    let gap = of("clockwork-gap");
    assert_eq!(
        gap[0].measurements, 20,
        "20 pauses of exactly 30 min, the last a ms longer"
    );
    assert_eq!(gap[0].last_seen - gap[0].started, 19 * limits.inactivity);
    assert!(truth.late > 0 && truth.rejected[Reason::Future as usize] > 0);
    assert!(
        of("clockwork-edge")
            .iter()
            .map(|visit| visit.measurements)
            .sum::<u64>()
            > 0
    );

    let length = of("clockwork-length");
    assert_eq!(
        length[0].measurements, 48,
        "the 49th lies exactly 24 h after the first"
    );
    assert_eq!(length[1].started - length[0].started, limits.max_length);
    assert_eq!(length[0].end_reason, EndReason::Length);
}

#[test]
fn an_endless_shop_runs_at_its_rate() {
    let settings = Settings {
        events: Settings::ENDLESS,
        scraper: Some(visitflow::generate::Scraper {
            after: 0,
            pages: 0,
            every: 1,
        }),
        ..Settings::default()
    }
    .per_second(200);
    let start = settings.start;
    let hour = 3_600_000;
    // The first hour fills the shop.
    let in_second_hour = Shop::new(settings)
        .unwrap()
        .take_while(|arrival| arrival.log_time < start + 2 * hour)
        .filter(|arrival| arrival.log_time >= start + hour)
        .count();
    assert!(
        (600_000..840_000).contains(&in_second_hour),
        "{in_second_hour} of 720,000"
    );
}

#[test]
fn a_wrong_setting_is_named() {
    for (settings, words) in [
        (
            Settings {
                partitions: 0,
                ..shop(10)
            },
            "partitions is 0: expected 1 to 256",
        ),
        (
            Settings {
                per_1000_s: Some(0),
                ..shop(10)
            },
            "rate is 0",
        ),
        (
            Settings {
                browsers: Some(0),
                ..shop(10)
            },
            "browsers is 0",
        ),
        (
            Settings {
                start: -1,
                ..shop(10)
            },
            "start is -1",
        ),
        (
            Settings {
                crawlers: 1_000,
                ..shop(10)
            },
            "crawlers is 1000",
        ),
        (
            Settings {
                limits: Limits {
                    inactivity: 0,
                    ..Limits::default()
                },
                ..shop(10)
            },
            "inactivity is 0",
        ),
        (shop(Settings::ENDLESS), "events is endless"),
    ] {
        let options = Options {
            settings,
            ..Options::default()
        };
        let error = generate(&options, &mut (), &mut |_| ())
            .unwrap_err()
            .to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn a_repeat_that_was_not_announced_is_an_error_not_a_guess() {
    let settings = Settings {
        troubles: Troubles::NONE,
        ..shop(1)
    };
    let one = &arrivals(&settings)[0];
    let mut judge = Judge::new(settings.limits, 1);
    for _ in 0..2 {
        let verdict = judge
            .take(one.log_time, &one.key, &one.value, false)
            .unwrap();
        assert_eq!(verdict, Verdict::Accepted);
    }
    assert!(matches!(
        judge.finish(),
        Err(GenerateError::NotMarked { .. })
    ));
}

#[test]
fn the_files_say_what_the_answer_says() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        settings: shop(20_000),
        truth: Some(dir.path().join("truth")),
        tags: true,
        schemas: Some(dir.path().join("schemas")),
    };
    let mut heard = Vec::new();
    let mut lines = JsonLines(Vec::new());
    let truth = generate(&options, &mut lines, &mut |n| heard.push(n)).unwrap();
    assert_eq!(heard, [8_192, 16_384, 20_000]);
    assert_eq!(
        lines.0.iter().filter(|byte| **byte == b'\n').count(),
        20_000
    );

    let text = |name: &str| std::fs::read_to_string(dir.path().join(name)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&text("truth/truth.json")).unwrap();
    assert_eq!(json["in"], 20_000);
    assert_eq!(json["made"]["seed"], 1);
    assert_eq!(json["visits"], truth.visits.len());
    let values = |name: &str| -> Vec<serde_json::Value> {
        text(name)
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    assert_eq!(values("truth/visits.jsonl").len(), truth.visits.len());
    assert_eq!(values("truth/orders.jsonl").len(), truth.orders.len());
    assert_eq!(values("truth/late.jsonl").len() as u64, truth.late);
    assert!(
        values("truth/late.jsonl")
            .iter()
            .all(|l| l["beyond_max_delay"].as_i64() > Some(0))
    );
    let tags = values("truth/tags.jsonl");
    let mut of: BTreeMap<&str, u64> = BTreeMap::new();
    for tag in &tags {
        *of.entry(tag["visit_id"].as_str().unwrap()).or_default() += 1;
    }
    for visit in values("truth/visits.jsonl") {
        assert_eq!(
            of[visit["visit_id"].as_str().unwrap()],
            visit["measurements"].as_u64().unwrap()
        );
    }
    for (name, schema) in schemas() {
        let read = visitflow_schemas::schema::Schema::parse(&text(&format!("schemas/{name}")));
        assert_eq!(read.unwrap().fingerprint(), schema.fingerprint());
    }
}

#[test]
fn a_place_that_cannot_be_written_and_a_sink_that_fails_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let options = Options {
        settings: shop(10),
        truth: Some(file.join("truth")),
        ..Options::default()
    };
    let error = generate(&options, &mut (), &mut |_| ())
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot write") && error.contains("file/truth"),
        "{error}"
    );

    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("no room"))
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let options = Options {
        settings: shop(10),
        ..Options::default()
    };
    let error = generate(&options, &mut JsonLines(Full), &mut |_| ())
        .unwrap_err()
        .to_string();
    assert_eq!(error, "arrival 1 was not taken: no room");
}
