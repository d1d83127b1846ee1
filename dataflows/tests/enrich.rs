//! Enrichment against published data: a country database against its source,
//! robots and browsers against their lists' own examples, real logs against counts
//! that another program made, and the Avro bytes against another Avro library.

use std::collections::{BTreeMap, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::types::Value;
use flate2::read::GzDecoder;
use proptest::prelude::*;
use visitflow_dataflows::enrich::{
    Agents, BUILT_IN_REGEXES, BUILT_IN_ROBOTS, Class, Context, Countries, Country, Enrichment,
    USER_AGENT_BYTES,
};

static AGENTS: LazyLock<Agents> = LazyLock::new(|| {
    Agents::new(Some(BUILT_IN_ROBOTS), Some(BUILT_IN_REGEXES)).expect("sound lists")
});

static COUNTRIES: LazyLock<Countries> = LazyLock::new(|| {
    let bytes = std::fs::read(data("GeoIP2-Country-Test.mmdb")).expect("a file of the tests");
    Countries::from_mmdb(bytes).expect("a sound database")
});

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

fn gunzip(path: &Path) -> String {
    let file = std::fs::File::open(path).unwrap_or_else(|error| panic!("{path:?}: {error}"));
    let mut text = String::new();
    GzDecoder::new(file)
        .read_to_string(&mut text)
        .expect("text");
    text
}

/// A file of the real input data, which lies beside the repository; `None`, loudly,
/// where it does not.
fn shared(name: &str) -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared");
    let root = std::env::var_os("VISITFLOW_SHARED").map_or_else(beside, PathBuf::from);
    let path = root.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: {} does not exist (set VISITFLOW_SHARED)",
        path.display()
    );
    None
}

/// The address as 128 bits, IPv4 where databases keep it, and how many bits come
/// before an IPv4 address.
fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96),
        IpAddr::V6(v6) => (u128::from(v6), 0),
    }
}

#[test]
fn the_test_database_says_what_it_was_made_from() {
    let source = gunzip(&data("GeoIP2-Country-Test.json.gz"));
    let source: Vec<BTreeMap<String, serde_json::Value>> =
        serde_json::from_str(&source).expect("a list of networks");
    let networks: Vec<(IpAddr, u128, u32, Option<Country>)> = source
        .iter()
        .flatten()
        .map(|(network, record)| {
            let (address, length) = network.split_once('/').expect("address/length");
            let address: IpAddr = address.parse().expect("an address");
            let (start, offset) = bits(address);
            let code = record["country"]["iso_code"].as_str();
            let length = length.parse::<u32>().expect("a number") + offset;
            (address, start, length, code.and_then(Country::new))
        })
        .collect();
    assert!(networks.len() > 300, "only {} networks", networks.len());

    for (address, start, _, _) in &networks {
        // Of networks inside each other the longest holds.
        let (_, _, _, expected) = networks
            .iter()
            .filter(|(_, other, length, _)| {
                let mask = u128::MAX.checked_shl(128 - length).unwrap_or(0);
                start & mask == other & mask
            })
            .max_by_key(|(_, _, length, _)| *length)
            .expect("itself");
        assert_eq!(COUNTRIES.of(&address.to_string()), *expected, "{address}");
    }
}

/// IP and user agent of a line in the combined format, as they stand there.
fn ip_and_user_agent(line: &str) -> (&str, &str) {
    let (ip, _) = line.split_once(' ').expect("an address");
    let mut quoted = Vec::new();
    let mut from = None;
    let mut escaped = false;
    for (place, byte) in line.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => match from.take() {
                Some(start) => quoted.push(&line[start..place]),
                None => from = Some(place + 1),
            },
            _ => {}
        }
    }
    // One line of the blog's log breaks off in its user agent.
    quoted.extend(from.map(|start| &line[start..]));
    (ip, quoted.get(2).expect("request, referrer, user agent"))
}

fn countries_of_a_log_are_as_counted(name: &str) {
    let (Some(log), Some(truth), Some(database)) = (
        shared(&format!("{name}.combined.log.gz")),
        shared(&format!("{name}.truth.json")),
        shared("geoip/GeoLite2-Country-2019-12-24.mmdb"),
    ) else {
        return;
    };
    let truth = std::fs::read(truth).expect("readable");
    let truth: serde_json::Value = serde_json::from_slice(&truth).expect("JSON");
    let expected: BTreeMap<String, u64> =
        serde_json::from_value(truth["events_per_country_geolite2_2019_12_24"].clone())
            .expect("counts");

    let countries =
        Countries::from_mmdb(std::fs::read(database).expect("readable")).expect("a sound database");
    let mut enrichment = Enrichment::new(Some(countries), AGENTS.clone());
    let mut counts = BTreeMap::<String, u64>::new();
    let mut classes = HashMap::<Class, u64>::new();
    let mut out = Vec::new();
    for line in gunzip(&log).lines() {
        let (ip, user_agent) = ip_and_user_agent(line);
        out.clear();
        let context = enrichment.context(Some(ip), Some(user_agent), &mut out);
        let country = context
            .country
            .map_or("-".to_owned(), |country| country.to_string());
        *counts.entry(country).or_default() += 1;
        *classes.entry(context.class).or_default() += 1;
    }
    assert_eq!(counts, expected);
    assert_eq!(Some(counts.values().sum()), truth["events"].as_u64());
    eprintln!("{name}: {classes:?}");
}

#[test]
fn countries_of_the_shop_s_log_are_as_counted() {
    countries_of_a_log_are_as_counted("zanbil-2019-01-26");
}

#[test]
fn countries_of_the_blog_s_log_are_as_counted() {
    countries_of_a_log_are_as_counted("semicomplete-2015-05");
}

#[test]
fn every_known_crawler_is_a_robot() {
    let list: Vec<serde_json::Value> =
        serde_json::from_slice(BUILT_IN_ROBOTS).expect("the built-in list");
    let examples: Vec<&str> = list
        .iter()
        .flat_map(|entry| entry["instances"].as_array().expect("examples"))
        .map(|example| example.as_str().expect("a string"))
        .collect();
    assert_eq!((list.len(), examples.len()), (1_498, 2_116));
    for example in examples {
        assert!(example.len() <= USER_AGENT_BYTES, "{example}");
        let agent = AGENTS.classify(Some(example));
        assert_eq!(agent.class, Class::Robot, "{example}");
        assert!(agent.robot.is_some(), "{example}");
    }
}

#[test]
fn every_published_browser_is_recognized() {
    let cases = gunzip(&data("uap-core-test_ua.yaml.gz"));
    let cases: serde_yaml::Value = serde_yaml::from_str(&cases).expect("YAML");
    let cases = cases["test_cases"].as_sequence().expect("a list");
    assert_eq!(cases.len(), 1_601);
    for case in cases {
        let user_agent = case["user_agent_string"].as_str().expect("a string");
        let family = case["family"].as_str().expect("a string");
        let browser = AGENTS.classify(Some(user_agent)).browser;
        assert_eq!(
            browser.as_deref().unwrap_or("Other"),
            family,
            "{user_agent}"
        );
    }
}

#[test]
fn avro_reads_what_was_appended() {
    let optional = serde_json::json!(["null", "string"]);
    let agent = serde_json::json!({"type": "enum", "name": "agent", "symbols": Class::NAMES});
    let fields: Vec<_> = ["country", "agent", "robot", "browser", "os", "device"]
        .into_iter()
        .map(|name| {
            let schema = if name == "agent" { &agent } else { &optional };
            serde_json::json!({"name": name, "type": schema})
        })
        .collect();
    let schema = serde_json::json!({"type": "record", "name": "context", "fields": fields});
    let schema = Schema::parse(&schema).expect("a schema");

    let long = format!("{}/1.0", "x".repeat(500));
    let mut enrichment = Enrichment::new(Some(COUNTRIES.clone()), AGENTS.clone());
    for (ip, user_agent) in [
        (None, None),
        (Some("2.125.160.216"), Some("curl/7.58.0")),
        (
            Some("2001:218::1"),
            Some("Mozilla/5.0 (iPhone; CPU iPhone OS 12_1 like Mac OS X) Safari/604.1"),
        ),
        (
            Some("10.0.0.1"),
            Some("Mozilla/5.0 (compatible; EasouSpider)"),
        ),
        (Some("nonsense"), Some(long.as_str())),
    ] {
        let mut out = b"before".to_vec();
        let context = enrichment.context(ip, user_agent, &mut out);
        let mut rest = &out[b"before".len()..];
        let read = apache_avro::reader::datum::GenericDatumReader::builder(&schema)
            .build()
            .and_then(|reader| reader.read_value(&mut rest))
            .expect("a record");
        assert!(rest.is_empty(), "bytes left for {user_agent:?}");

        let expected = AGENTS.classify(user_agent);
        let country = ip.and_then(|ip| COUNTRIES.of(ip));
        assert_eq!(
            context,
            Context {
                country,
                class: expected.class
            }
        );
        let optional = |text: Option<String>| match text {
            Some(text) => Value::Union(1, Box::new(Value::String(text))),
            None => Value::Union(0, Box::new(Value::Null)),
        };
        let name = |name: Option<std::sync::Arc<str>>| optional(name.map(|name| name.to_string()));
        let class = expected.class;
        let fields = [
            (
                "country",
                optional(country.map(|country| country.to_string())),
            ),
            ("agent", Value::Enum(class as u32, class.to_string())),
            ("robot", name(expected.robot)),
            ("browser", name(expected.browser)),
            ("os", name(expected.os)),
            ("device", name(expected.device)),
        ];
        let fields = fields
            .map(|(field, value)| (field.to_owned(), value))
            .to_vec();
        assert_eq!(read, Value::Record(fields));
    }
}

#[test]
fn the_fingerprint_follows_the_data() {
    let whole = Enrichment::new(Some(COUNTRIES.clone()), AGENTS.clone());
    let same = Enrichment::new(Some(COUNTRIES.clone()), AGENTS.clone());
    assert_eq!(whole.fingerprint(), same.fingerprint());
    assert_eq!(whole.fingerprint(), whole.clone().fingerprint());
    let without = Enrichment::new(None, AGENTS.clone());
    assert_ne!(whole.fingerprint(), without.fingerprint());
    let nothing = Agents::new(None, None).expect("nothing to compile");
    let nothing = Enrichment::new(Some(COUNTRIES.clone()), nothing);
    assert_ne!(whole.fingerprint(), nothing.fingerprint());
}

fn a_sender() -> impl Strategy<Value = (Option<String>, Option<String>)> {
    let ip = prop_oneof![
        "2\\.125\\.160\\.2[0-9]{2}",
        "81\\.2\\.69\\.1[0-9]{2}(:80)?",
        "2001:2[0-9]8::1",
        ".{0,80}",
    ];
    let user_agent = prop_oneof![
        "(Googlebot|curl|Wget)/[0-9]",
        "Mozilla/5\\.0 \\((X11; Linux|iPhone|Windows NT 6\\.[0-9])\\) (Firefox|Safari)/[0-9]{2}",
        ".{0,80}",
        "[-ä ]{0,3}",
    ];
    (prop::option::of(ip), prop::option::of(user_agent))
}

proptest! {
    // Without a file of failures: integration tests have no lib.rs beside them.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn what_was_asked_before_never_changes_an_answer(
        senders in prop::collection::vec(a_sender(), 1..12),
        asked in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
    ) {
        let fresh = Enrichment::new(Some(COUNTRIES.clone()), AGENTS.clone());
        let mut used = fresh.clone();
        for asked in asked {
            let (ip, user_agent) = &senders[asked.index(senders.len())];
            let (mut first, mut again) = (Vec::new(), Vec::new());
            let (ip, user_agent) = (ip.as_deref(), user_agent.as_deref());
            let by_fresh = fresh.clone().context(ip, user_agent, &mut first);
            let by_used = used.context(ip, user_agent, &mut again);
            prop_assert_eq!(by_fresh, by_used);
            prop_assert_eq!(first, again);
        }
    }
}
