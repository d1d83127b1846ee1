//! Imports from outside: real files against their truth, every order and packing of the same
//! lines, and files that are broken in every way.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use visitflow::import::{
    BoxError, Format, ImportError, Kind, Mapping, Options, Out, Phase, Progress, Silent, State,
    Summary, import,
};
use visitflow_schemas::measurement::{MEASUREMENT, MEASUREMENT_AVSC};
use visitflow_schemas::message;

/// What was sent, in order.
#[derive(Debug, Default)]
struct Sent {
    messages: Vec<(i64, Vec<u8>, Vec<u8>)>,
    flushed: usize,
}

impl Out for Sent {
    fn send(&mut self, log_time: i64, key: &[u8], value: &[u8]) -> Result<(), BoxError> {
        self.messages.push((log_time, key.to_vec(), value.to_vec()));
        Ok(())
    }
    fn flush(&mut self) -> Result<(), BoxError> {
        self.flushed = self.messages.len();
        Ok(())
    }
}

/// A measurement as another Avro implementation reads it.
#[derive(Clone, Debug, PartialEq)]
struct Read {
    event_id: [u8; 16],
    browser_id: String,
    event_time: i64,
    texts: BTreeMap<String, String>,
    value: Option<i64>,
    attributes: BTreeMap<String, String>,
}

impl Read {
    fn text(&self, name: &str) -> Option<&str> {
        self.texts.get(name).map(|text| &text[..])
    }
}

fn decode(sent: &Sent) -> Vec<Read> {
    let schema = apache_avro::Schema::parse_str(MEASUREMENT_AVSC).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let decode = |(log_time, key, message): &(i64, Vec<u8>, Vec<u8>)| {
        let (fingerprint, mut body) = message::split(message).unwrap();
        assert_eq!(fingerprint, MEASUREMENT.fingerprint());
        let Value::Record(fields) = reader.read_value(&mut body).unwrap() else {
            panic!("no record");
        };
        assert!(body.is_empty());
        let mut read = Read {
            event_id: [0; 16],
            browser_id: String::new(),
            event_time: 0,
            texts: BTreeMap::new(),
            value: None,
            attributes: BTreeMap::new(),
        };
        for (name, value) in fields {
            let value = match value {
                Value::Union(_, value) => *value,
                value => value,
            };
            match (&name[..], value) {
                ("event_id", Value::Fixed(_, bytes)) => read.event_id.copy_from_slice(&bytes),
                ("browser_id", Value::String(text)) => read.browser_id = text,
                ("event_time", Value::TimestampMillis(time)) => read.event_time = time,
                ("value", Value::Long(value)) => read.value = Some(value),
                ("attributes", Value::Map(map)) => {
                    for (key, value) in map {
                        let Value::String(value) = value else {
                            panic!("{key}");
                        };
                        read.attributes.insert(key, value);
                    }
                }
                (_, Value::String(text)) => {
                    read.texts.insert(name, text);
                }
                (_, Value::Null) => {}
                (name, value) => panic!("{name}: {value:?}"),
            }
        }
        assert_eq!(
            (read.browser_id.as_bytes(), read.event_time),
            (&key[..], *log_time)
        );
        read
    };
    sent.messages.iter().map(decode).collect()
}

fn run(options: &Options) -> Result<(Summary, Sent), ImportError> {
    let mut sent = Sent::default();
    let summary = import(options, &mut sent, &mut Silent)?;
    assert_eq!(sent.flushed, sent.messages.len());
    assert_eq!(summary.measurements as usize, sent.messages.len());
    assert!(sent.messages.is_sorted_by_key(|message| message.0));
    Ok((summary, sent))
}

/// A directory with files in it.
fn files(contents: &[(&str, &[u8])]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let write = |(name, bytes): &(&str, &[u8])| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let paths = contents.iter().map(write).collect();
    (dir, paths)
}

fn options(dir: &tempfile::TempDir, files: Vec<PathBuf>, format: Format) -> Options {
    Options::new(files, format, dir.path().join("log"))
}

fn import_bytes(bytes: &[u8], format: Format) -> Result<(Summary, Sent), ImportError> {
    let (dir, paths) = files(&[("in", bytes)]);
    run(&options(&dir, paths, format))
}

fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    zip.write_all(bytes).unwrap();
    zip.finish().unwrap()
}

fn mapping(name: &str, kind: Kind) -> Mapping {
    let file = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("examples/mappings")
        .join(name);
    Mapping::read(&file, kind).unwrap()
}

fn parsed(text: &str, kind: Kind) -> Mapping {
    Mapping::parse(Path::new("m.toml"), text, kind).unwrap()
}

// ---- Real files ----------------------------------------------------------------------------

fn data(name: &str) -> Option<PathBuf> {
    let shared = match std::env::var_os("VISITFLOW_SHARED") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared")),
    };
    let file = shared.join("data").join(name);
    if file.exists() {
        return Some(file);
    }
    eprintln!("SKIPPED: {} is not there", file.display());
    None
}

/// Walks events in order; gives lines `browser TAB start TAB end TAB count`, and how many.
fn visits(events: &[(String, i64)], gap: i64, length: i64) -> Vec<(String, i64, i64, u64)> {
    let mut open: HashMap<&str, (i64, i64, u64)> = HashMap::new();
    let mut visits = Vec::new();
    for (browser, time) in events {
        match open.get_mut(&browser[..]) {
            Some((start, last, count)) if time - *last <= gap && time - *start < length => {
                *last = *time;
                *count += 1;
            }
            other => {
                if let Some(&mut (start, last, count)) = other {
                    visits.push((browser.clone(), start, last, count));
                }
                open.insert(browser, (*time, *time, 1));
            }
        }
    }
    visits.extend(
        open.iter()
            .map(|(b, (s, e, c))| (b.to_string(), *s, *e, *c)),
    );
    visits.sort();
    visits
}

fn digest(visits: &[(String, i64, i64, u64)]) -> String {
    let mut hash = Sha256::new();
    for (browser, start, end, count) in visits {
        hash.update(format!("{browser}\t{start}\t{end}\t{count}\n"));
    }
    hash.finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Holds an import against the truth beside the data. `browser` gives the truth's name of it.
fn holds(file: &Path, truth: &str, format: Format, browser: fn(&Read) -> String) -> Vec<Read> {
    let truth = fs::read_to_string(file.with_file_name(truth)).unwrap();
    let truth: serde_json::Value = serde_json::from_str(&truth).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let options = Options {
        // Small, so that the sort goes over files.
        memory: 1 << 20,
        ..options(&dir, vec![file.to_owned()], format)
    };
    let (summary, sent) = run(&options).unwrap();
    assert_eq!(summary.measurements, truth["events"].as_u64().unwrap());
    assert_eq!(summary.unparsed, 0);
    assert_eq!(summary.warnings, [""; 0]);
    assert_eq!(summary.browsers.count, truth["browsers"].as_u64().unwrap());
    assert!(summary.browsers.exact);
    let time = |name: &str| truth[name].as_i64().unwrap();
    assert_eq!(
        summary.span,
        Some((time("first_event_ms"), time("last_event_ms")))
    );
    assert!(!options.log.join("unparsed").exists());
    let schema = fs::read_to_string(options.log.join("schemas/measurement.avsc")).unwrap();
    assert_eq!(schema, MEASUREMENT_AVSC);

    let read = decode(&sent);
    let ids: HashSet<_> = read.iter().map(|m| m.event_id).collect();
    assert_eq!(ids.len(), read.len());
    let by_id = |a: &Read, b: &Read| (a.event_time, a.event_id) < (b.event_time, b.event_id);
    assert!(
        read.is_sorted_by(by_id),
        "order of IDs is order of the file"
    );

    let mut pages: HashMap<&str, u64> = HashMap::new();
    for m in &read {
        *pages
            .entry(m.text("entity_id").unwrap_or_default())
            .or_default() += 1;
    }
    let mut pages: Vec<_> = pages.into_iter().collect();
    pages.sort_by_key(|(page, count)| (std::cmp::Reverse(*count), *page));
    let top: Vec<_> = pages.iter().take(5).collect();
    assert_eq!(serde_json::to_value(top).unwrap(), truth["top5_pages"]);

    let events: Vec<_> = read.iter().map(|m| (browser(m), m.event_time)).collect();
    let (minutes, hours, never) = (60_000, 3_600_000, i64::MAX);
    let counts = |gap, length| visits(&events, gap, length).len() as u64;
    assert_eq!(counts(30 * minutes, never), truth["visits_gap30m"]);
    assert_eq!(counts(12 * hours, never), truth["visits_gap12h"]);
    assert_eq!(
        counts(12 * hours, 24 * hours),
        truth["visits_gap12h_max24h"]
    );
    let whole = visits(&events, 30 * minutes, 24 * hours);
    assert_eq!(whole.len() as u64, truth["visits_gap30m_max24h"]);
    assert_eq!(digest(&whole), truth["visits_max24h_sha256"]);
    read
}

fn as_logged(m: &Read) -> String {
    format!(
        "{}\x1f{}",
        m.text("ip").unwrap(),
        m.text("user_agent").unwrap_or("-")
    )
}

#[test]
fn a_webshops_access_log_comes_in_as_its_truth_says() {
    let Some(file) = data("zanbil-2019-01-26.combined.log.gz") else {
        return;
    };
    let read = holds(
        &file,
        "zanbil-2019-01-26.truth.json",
        Format::Combined,
        as_logged,
    );
    let first = &read[0];
    assert_eq!(first.text("referrer"), Some("https://www.zanbil.ir/"));
    assert_eq!(first.text("effect"), Some("shown"));
    assert_eq!(first.attributes["bytes"], "30975");
    assert!(!first.attributes.contains_key("extra"));
}

#[test]
fn a_blogs_access_log_comes_in_as_its_truth_says() {
    let Some(file) = data("semicomplete-2015-05.combined.log.gz") else {
        return;
    };
    holds(
        &file,
        "semicomplete-2015-05.truth.json",
        Format::Combined,
        as_logged,
    );
}

#[test]
fn otto_comes_in_as_its_truth_says() {
    let Some(file) = data("otto-20-users.jsonl") else {
        return;
    };
    let format = Format::Jsonl(mapping("otto.toml", Kind::Jsonl));
    let read = holds(&file, "otto-20-users.truth.json", format, |m| {
        m.browser_id.clone()
    });
    let ordered = read.iter().filter(|m| m.text("effect") == Some("ordered"));
    assert_eq!(ordered.count(), 10);
}

#[test]
fn rees46_comes_in_as_its_truth_says() {
    let Some(file) = data("rees46-2019-10-01.csv.gz") else {
        return;
    };
    let format = Format::Csv(mapping("rees46.toml", Kind::Csv));
    let read = holds(&file, "rees46-2019-10-01.truth.json", format, |m| {
        m.browser_id.clone()
    });
    assert_eq!(read[0].value, Some(25174));
    assert_eq!(read[0].attributes["brand"], "lenovo");
    let empty = read
        .iter()
        .find(|m| m.text("entity_id") == Some("31500053"))
        .unwrap();
    assert!(!empty.attributes.contains_key("category_code"));
}

// ---- Any lines ------------------------------------------------------------------------------

fn log_line(second: u32, ip: u8, path: &str) -> String {
    let time = 1_700_000_000 + i64::from(second);
    let time = jiff::Timestamp::from_second(time).unwrap();
    let time = jiff::fmt::strtime::format("%d/%b/%Y:%H:%M:%S +0000", time).unwrap();
    format!("10.0.0.{ip} - - [{time}] \"GET /{path} HTTP/1.1\" 200 5 \"-\" \"agent\"")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_lines_comes_in_sorted_with_ids_of_their_lines(
        seconds in proptest::collection::vec(0..50_u32, 1..200), memory in 1..20_000_usize, packed: bool
    ) {
        let line = |(i, second): (usize, &u32)| log_line(*second, (i % 5) as u8, &i.to_string());
        let text: Vec<_> = seconds.iter().enumerate().map(line).collect();
        let text = text.join("\n");
        let bytes = if packed { zip(text.as_bytes()) } else { text.into_bytes() };
        let (dir, paths) = files(&[("access.log", &bytes)]);
        let options = Options { memory, ..options(&dir, paths, Format::Combined) };
        let (_, sent) = run(&options).unwrap();
        let mut expected: Vec<_> = seconds.iter().copied().zip(0_u64..).collect();
        expected.sort();
        let read = decode(&sent);
        prop_assert_eq!(read.len(), expected.len());
        for (m, (second, i)) in read.iter().zip(expected) {
            prop_assert_eq!(m.event_time, (1_700_000_000 + i64::from(second)) * 1000);
            prop_assert_eq!(m.text("url"), Some(&format!("/{i}")[..]));
            prop_assert_eq!(&m.event_id[8..], (i + 1).to_be_bytes());
            prop_assert_eq!(m.event_id[..8].to_vec(), read[0].event_id[..8].to_vec());
        }
    }

    #[test]
    fn every_line_comes_in_or_is_kept(
        lines in proptest::collection::vec(
            prop_oneof![
                (0..50_u32).prop_map(|second| log_line(second, 1, "p").into_bytes()),
                "[^\n\r]{1,80}".prop_map(String::into_bytes),
                proptest::collection::vec(
                    any::<u8>().prop_filter("a line", |b| !matches!(b, b'\n' | b'\r')), 1..80),
                Just(vec![b'x'; 3000]),
            ], 1..20),
        ends in prop_oneof![Just("\n"), Just("\r\n")],
    ) {
        let good = lines.iter().filter(|line| line.starts_with(b"10.0.0.1 - - [")).count() as u64;
        let first = &lines[0];
        prop_assume!(good > 0 && !first.starts_with(&[0x1F, 0x8B]));
        prop_assume!(!first.starts_with(b"\xEF\xBB\xBF"));
        let text: Vec<u8> = lines.join(ends.as_bytes());
        let (dir, paths) = files(&[("a.log", &text)]);
        let options = Options { max_line: 2000, ..options(&dir, paths, Format::Combined) };
        let (summary, _) = run(&options).unwrap();
        prop_assert_eq!(summary.lines, lines.len() as u64);
        prop_assert_eq!(summary.measurements + summary.unparsed, summary.lines);
        prop_assert!(summary.measurements >= good);
        let kept = fs::read(options.log.join("unparsed/a.log.txt")).unwrap_or_default();
        let kept: Vec<_> = kept.split(|byte| *byte == b'\n').collect();
        prop_assert_eq!(kept.len() as u64 - 1, summary.unparsed);
        for entry in &kept[..kept.len() - 1] {
            let mut parts = entry.splitn(3, |byte| *byte == b'\t');
            let place = String::from_utf8(parts.next().unwrap().to_vec()).unwrap();
            let number: usize = place.rsplit(':').next().unwrap().parse().unwrap();
            let raw = parts.nth(1).unwrap();
            let expected = &lines[number - 1];
            prop_assert_eq!(raw, &expected[..expected.len().min(2000)]);
        }
    }

    #[test]
    fn any_bytes_as_csv_or_json_come_in_or_are_kept(text in "[a1,\"\n{}:\\[\\]]{0,120}") {
        let columns = "columns = [\"a\", \"b\"]\n";
        let fields = "browser_id = \"a\"\nevent_time = { from = \"b\", format = \"ms\" }\neffect = { constant = \"shown\" }\nentity = { constant = \"page\" }\n";
        let csv = parsed(&format!("{columns}{fields}"), Kind::Csv);
        let json = parsed(&format!("each = \"a\"\n{fields}"), Kind::Jsonl);
        for format in [Format::Csv(csv), Format::Jsonl(json)] {
            match import_bytes(text.as_bytes(), format) {
                Ok((summary, _)) => prop_assert_eq!(summary.unparsed, 0),
                Err(ImportError::NothingParsed { lines, .. }) => prop_assert!(lines > 0),
                Err(error) => prop_assert!(false, "{}", error),
            }
        }
    }
}

#[test]
fn several_files_are_one_input() {
    let a = format!("{}\n{}\n", log_line(1, 1, "a1"), log_line(5, 1, "a5"));
    let b = zip(format!("{}\n{}\n", log_line(0, 1, "b0"), log_line(5, 1, "b5")).as_bytes());
    let (dir, paths) = files(&[("a.log", a.as_bytes()), ("b.log", &b)]);
    let (summary, sent) = run(&options(&dir, paths, Format::Combined)).unwrap();
    let read = decode(&sent);
    let urls: Vec<_> = read.iter().map(|m| m.text("url").unwrap()).collect();
    assert_eq!(urls, ["/b0", "/a1", "/a5", "/b5"]);
    assert_eq!(summary.lines, 4);
}

#[test]
fn the_same_file_gives_the_same_ids_also_packed_and_also_when_it_has_grown() {
    let lines: String = (0..2000).map(|i| log_line(i, 1, "x") + "\n").collect();
    let grown = format!("{lines}{}\n", log_line(3000, 1, "y"));
    let ids = |bytes: &[u8]| {
        let (_, sent) = import_bytes(bytes, Format::Combined).unwrap();
        let ids = decode(&sent).into_iter().map(|m| m.event_id);
        ids.collect::<Vec<_>>()
    };
    let once = ids(lines.as_bytes());
    assert_eq!(once, ids(&zip(lines.as_bytes())));
    assert_eq!(once, ids(grown.as_bytes())[..2000]);
}

#[test]
fn bytes_that_are_not_utf8_stand_there_escaped() {
    let line = log_line(1, 1, "caf\u{e9}").replace("agent", "A\u{e9}");
    let bytes: Vec<u8> = line.chars().map(|c| c as u8).collect();
    let (_, sent) = import_bytes(&bytes, Format::Combined).unwrap();
    let read = &decode(&sent)[0];
    assert_eq!(read.text("user_agent"), Some("A\\xe9"));
    assert_eq!(read.text("entity_id"), Some("/caf\\xe9"));
    let hash = Sha256::digest(as_logged(read));
    let hex: String = hash[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(read.browser_id, hex);

    let text = "browser_id = \"a\"\nevent_time = { from = \"b\", format = \"ms\" }\neffect = { constant = \"shown\" }\nentity = { constant = \"page\" }\nurl = \"c\"";
    let json = b"{\"a\": 1, \"b\": 1700000000000, \"c\": \"caf\xe9\"}";
    let csv = b"a,b,c\n1,1700000000000,caf\xe9";
    for (bytes, format) in [
        (&json[..], Format::Jsonl(parsed(text, Kind::Jsonl))),
        (&csv[..], Format::Csv(parsed(text, Kind::Csv))),
    ] {
        let (_, sent) = import_bytes(bytes, format).unwrap();
        assert_eq!(decode(&sent)[0].text("url"), Some("caf\\xe9"));
    }
}

#[test]
fn an_nginx_log_in_json_has_the_browsers_of_the_combined_one() {
    let json = r#"{"time": "1700000001.250", "addr": "10.0.0.1", "method": "GET", "uri": "/x", "status": "200", "bytes": "5", "referrer": "", "agent": "agent"}"#;
    let format = Format::Jsonl(mapping("nginx-json.toml", Kind::Jsonl));
    let (_, json) = import_bytes(json.as_bytes(), format).unwrap();
    let (_, combined) = import_bytes(log_line(1, 1, "x").as_bytes(), Format::Combined).unwrap();
    let (json, combined) = (decode(&json).remove(0), decode(&combined).remove(0));
    assert_eq!(json.browser_id, combined.browser_id);
    assert_eq!(json.event_time, combined.event_time + 250);
    assert_eq!(json.text("referrer"), None);
}

// ---- Wrong rows and items -------------------------------------------------------------------

#[test]
fn wrong_items_are_kept_and_the_others_of_their_line_come_in() {
    let text = concat!(
        r#"{"session": 7, "events": [{"aid": 1, "ts": 1700000000000, "type": "clicks"}, {"aid": 2, "ts": 1, "type": "clicks"}, {"aid": 3, "ts": 1700000000000, "type": "buys"}]}"#,
        "\n\n",
        r#"{"session": 8, "events": {}}"#,
        "\n[1]\n{\"session\": 8\n",
    );
    let (dir, paths) = files(&[("otto.jsonl", text.as_bytes())]);
    let format = Format::Jsonl(mapping("otto.toml", Kind::Jsonl));
    let options = options(&dir, paths, format);
    let (summary, sent) = run(&options).unwrap();
    assert_eq!(
        (
            summary.lines,
            summary.measurements,
            summary.unparsed,
            summary.blank
        ),
        (4, 1, 5, 1)
    );
    let id = decode(&sent)[0].event_id;
    assert_eq!(id[8..], [0, 0, 0, 0, 1, 0, 0, 1], "line 1, item 1");
    let reasons: Vec<_> = summary
        .first_unparsed
        .iter()
        .map(|first| first.rsplit_once("otto.jsonl:").unwrap().1)
        .collect();
    assert_eq!(
        reasons,
        [
            "1, item 2: event_time: expected milliseconds since 1970 in the years 1990 to 2099, found text of the form `9`",
            "1, item 3: effect: expected one of carts, clicks, orders, found text of the form `aaaa`",
            "3: events: expected an array",
            "4: expected a JSON object",
            "5: no JSON at column 13",
        ]
    );
    let kept = fs::read_to_string(options.log.join("unparsed/otto.jsonl.txt")).unwrap();
    assert!(
        kept.contains("\t{\"aid\": 2, \"ts\": 1, \"type\": \"clicks\"}\n"),
        "{kept}"
    );
}

#[test]
fn wrong_rows_are_kept_as_they_stood() {
    let text = "event_time,event_type,product_id,category_id,category_code,brand,price,user_id,user_session\n\
        2019-10-01 00:00:01 UTC,view,1,2,,x,1.50,9,s\n\
        2019-10-01 00:00:02 UTC,view,1,2,,\"x\"\"y\",1.505,9,s\n\
        2019-10-01 00:00:03 UTC,view,1\n";
    let (dir, paths) = files(&[("r.csv", text.as_bytes())]);
    let options = options(&dir, paths, Format::Csv(mapping("rees46.toml", Kind::Csv)));
    let (summary, sent) = run(&options).unwrap();
    assert_eq!((summary.measurements, summary.unparsed), (1, 2));
    assert_eq!(decode(&sent)[0].value, Some(150));
    let kept = fs::read_to_string(options.log.join("unparsed/r.csv.txt")).unwrap();
    assert!(kept.contains("r.csv:3\tvalue: expected a whole number of 1/100 (`round = true` rounds), found text of the form `9.999`\t2019-10-01 00:00:02 UTC,view,1,2,,\"x\"\"y\",1.505,9,s\n"), "{kept}");
    assert!(
        kept.contains("r.csv:4\t3 fields, expected 9\t2019"),
        "{kept}"
    );
    assert_eq!(
        summary.warnings.len(),
        1,
        "no row has a category_code: {:?}",
        summary.warnings
    );
}

#[test]
fn a_name_that_no_line_has_is_told_with_the_nearest() {
    let text = "browser_id = \"user\"\nevent_time = { from = \"t\", format = \"ms\" }\neffect = { constant = \"shown\" }\nentity = { constant = \"page\" }\nurl = \"adress\"";
    let json = br#"{"user": "u", "t": 1700000000000, "address": "/"}"#;
    let (summary, _) = import_bytes(json, Format::Jsonl(parsed(text, Kind::Jsonl))).unwrap();
    assert_eq!(
        summary.warnings,
        ["m.toml:5: url: no line has a value for \"adress\", did you mean \"address\"?"]
    );
    let error = import_bytes(b"user,t,address\n", Format::Csv(parsed(text, Kind::Csv)));
    let error = error.unwrap_err().to_string();
    assert!(error.starts_with("m.toml:5: url: "), "{error}");
    assert!(
        error.ends_with(
            "has no column \"adress\", did you mean \"address\"? (it has user, t, address)"
        ),
        "{error}"
    );
}

#[test]
fn a_line_that_unfolds_without_measure_is_bounded() {
    let text = "each = \"e\"\nbrowser_id = \"parent.long\"\nevent_time = { from = \"t\", format = \"ms\" }\neffect = { constant = \"shown\" }\nentity = { constant = \"page\" }";
    let items = vec![r#"{"t":1700000000000}"#; 400].join(",");
    let json = format!("{{\"long\": \"{}\", \"e\": [{items}]}}", "x".repeat(3000));
    let (dir, paths) = files(&[("in", json.as_bytes())]);
    let format = Format::Jsonl(parsed(text, Kind::Jsonl));
    let options = Options {
        max_line: 12_000,
        ..options(&dir, paths, format)
    };
    let (summary, sent) = run(&options).unwrap();
    let bytes: usize = sent.messages.iter().map(|message| message.2.len()).sum();
    assert!(bytes < 65 * 12_000);
    assert_eq!(summary.unparsed, 1);
    assert!(
        summary.first_unparsed[0].contains("and later"),
        "{:?}",
        summary.first_unparsed
    );
}

#[test]
fn every_line_of_the_guide_to_mappings_is_one() {
    let guide = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/import.md")).unwrap();
    let needed = [
        ("browser_id", "\"user\""),
        ("event_time", "{ from = \"t\", format = \"ms\" }"),
        ("effect", "{ constant = \"shown\" }"),
        ("entity", "{ constant = \"page\" }"),
    ];
    let mut count = 0;
    for block in guide.split("```toml\n").skip(1) {
        let block = block.split("```").next().unwrap();
        for line in block.lines().filter(|line| !line.starts_with('#')) {
            let key = line.split_once(" = ").unwrap().0;
            let rest = needed.iter().filter(|(name, _)| *name != key);
            let rest: String = rest
                .map(|(name, value)| format!("{name} = {value}\n"))
                .collect();
            let kind = if key == "each" {
                Kind::Jsonl
            } else {
                Kind::Csv
            };
            parsed(&format!("{rest}{line}"), kind);
            count += 1;
        }
    }
    assert!(count > 10, "{count} lines");
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_read_once() {
    let (dir, paths) = files(&[]);
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo")
        .arg(&pipe)
        .status()
        .unwrap();
    assert!(made.success() && paths.is_empty());
    let writer = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::write(pipe, zip(log_line(1, 1, "x").as_bytes())).unwrap()
    });
    let (summary, _) = run(&options(&dir, vec![pipe], Format::Combined)).unwrap();
    writer.join().unwrap();
    assert_eq!(summary.measurements, 1);
}

// ---- Files that are no input ----------------------------------------------------------------

fn failure(bytes: &[u8], format: Format) -> (String, bool) {
    let (dir, paths) = files(&[("in", bytes)]);
    let mut sent = Sent::default();
    let options = options(&dir, paths, format);
    let error = import(&options, &mut sent, &mut Silent).unwrap_err();
    (error.to_string(), sent.messages.is_empty())
}

#[test]
fn a_torn_gzip_names_the_file_and_how_far_it_came_and_writes_nothing() {
    let lines: String = (0..20_000)
        .map(|i| log_line(i, 1, &format!("{}", i * i)) + "\n")
        .collect();
    let mut bytes = zip(lines.as_bytes());
    bytes.truncate(bytes.len() / 2);
    let (error, nothing) = failure(&bytes, Format::Combined);
    assert!(nothing);
    assert!(error.contains("in: cannot read on after "), "{error}");
    let line: u32 = error
        .split("in line ")
        .nth(1)
        .unwrap()
        .split(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    assert!((5_000..15_000).contains(&line), "{error}");
    let (error, _) = failure(&bytes[..12], Format::Combined);
    assert!(error.contains("in line 1: "), "{error}");
}

#[test]
fn garbage_is_kept_and_said_to_be_the_wrong_format() {
    let mut state = 1_u32;
    let garbage: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(3 << 20)
    .collect();
    let otto = || mapping("otto.toml", Kind::Jsonl);
    for format in [Format::Combined, Format::Jsonl(otto())] {
        let (error, nothing) = failure(&garbage, format);
        assert!(nothing);
        assert!(
            error.contains("lines could be read; the first: "),
            "{error}"
        );
    }
    let (error, _) = failure(&garbage, Format::Csv(mapping("rees46.toml", Kind::Csv)));
    assert!(
        error.contains("no column") || error.contains("no header"),
        "{error}"
    );
    let (error, _) = failure(&vec![b'x'; 3 << 20], Format::Combined);
    assert!(error.contains("a line of over 1048576 bytes"), "{error}");
}

#[test]
fn an_empty_file_is_no_error_and_has_nothing() {
    for format in [
        Format::Combined,
        Format::Csv(mapping("rees46.toml", Kind::Csv)),
        Format::Jsonl(mapping("otto.toml", Kind::Jsonl)),
    ] {
        for bytes in [&b""[..], b"\n\n", &zip(b"")] {
            let (summary, _) = import_bytes(bytes, format.clone()).unwrap();
            assert_eq!(
                (summary.lines, summary.measurements, summary.span),
                (0, 0, None)
            );
        }
    }
}

#[test]
fn files_that_cannot_be_read_are_named_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let error = |paths: Vec<PathBuf>| {
        let error = run(&options(&dir, paths, Format::Combined)).err().unwrap();
        assert!(!dir.path().join("log").exists());
        error.to_string()
    };
    let missing = error(vec![PathBuf::from("no/such.log")]);
    assert!(
        missing.starts_with("cannot read no/such.log: No such file"),
        "{missing}"
    );
    let folder = error(vec![dir.path().to_owned()]);
    assert!(folder.ends_with("a directory, expected a file"), "{folder}");
    assert!(error(vec![]).starts_with("nothing to import"));
    assert!(error(vec!["-".into(), "-".into()]).starts_with("- stands twice"));
    let file = dir.path().join("m");
    fs::write(&file, "").unwrap();
    let format = Format::Jsonl(mapping("rees46.toml", Kind::Csv));
    let kind = run(&options(&dir, vec![file], format))
        .err()
        .unwrap()
        .to_string();
    assert!(
        kind.ends_with("a mapping for Csv, used for Jsonl"),
        "{kind}"
    );
}

#[test]
fn a_log_that_is_a_file_is_an_error_with_its_path() {
    let (dir, paths) = files(&[("in", b""), ("log", b"")]);
    let error = run(&options(&dir, paths, Format::Combined))
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.starts_with("cannot write ") && error.contains("log/schemas"),
        "{error}"
    );
}

#[test]
fn a_topic_that_cannot_be_written_stops_the_import() {
    struct Full(u64);
    impl Out for Full {
        fn send(&mut self, _: i64, _: &[u8], _: &[u8]) -> Result<(), BoxError> {
            self.0 += 1;
            if self.0 > 1 {
                Err("no space left".into())
            } else {
                Ok(())
            }
        }
        fn flush(&mut self) -> Result<(), BoxError> {
            Ok(())
        }
    }
    let text = format!("{}\n{}\n", log_line(1, 1, "a"), log_line(2, 1, "b"));
    let (dir, paths) = files(&[("in", text.as_bytes())]);
    let error = import(
        &options(&dir, paths, Format::Combined),
        &mut Full(0),
        &mut Silent,
    );
    let error = error.unwrap_err().to_string();
    assert!(
        error.ends_with("topic measurements, after 1 measurements: no space left"),
        "{error}"
    );
}

#[test]
fn another_schema_of_the_same_name_stays() {
    let (dir, paths) = files(&[("in", log_line(1, 1, "a").as_bytes())]);
    let options = options(&dir, paths, Format::Combined);
    let schemas = options.log.join("schemas");
    fs::create_dir_all(&schemas).unwrap();
    fs::write(schemas.join("measurement.avsc"), "\"string\"").unwrap();
    for _ in 0..2 {
        run(&options).unwrap();
    }
    assert_eq!(
        fs::read_to_string(schemas.join("measurement.avsc")).unwrap(),
        "\"string\""
    );
    let own = schemas.join(format!(
        "measurement-{:016x}.avsc",
        MEASUREMENT.fingerprint()
    ));
    assert_eq!(fs::read_to_string(own).unwrap(), MEASUREMENT_AVSC);
    assert_eq!(fs::read_dir(&schemas).unwrap().count(), 2);
}

#[test]
fn progress_comes_to_the_total_and_ends() {
    #[derive(Default)]
    struct Seen(Vec<(Phase, u64, u64)>);
    impl Progress for Seen {
        fn report(&mut self, state: &State<'_>) {
            self.0
                .push((state.phase, state.bytes, state.total.unwrap()));
        }
    }
    let text: String = (0..20_000).map(|i| log_line(i, 1, "a") + "\n").collect();
    let (dir, paths) = files(&[("a", text.as_bytes()), ("b", &zip(text.as_bytes()))]);
    let total: u64 = paths
        .iter()
        .map(|path| fs::metadata(path).unwrap().len())
        .sum();
    let mut seen = Seen::default();
    import(
        &options(&dir, paths, Format::Combined),
        &mut Sent::default(),
        &mut seen,
    )
    .unwrap();
    assert!(seen.0.len() > 10);
    assert!(seen.0.is_sorted_by_key(|state| state.1) && seen.0.iter().all(|s| s.2 == total));
    assert_eq!(*seen.0.last().unwrap(), (Phase::Done, total, total));
    assert!(seen.0.iter().any(|state| state.0 == Phase::Writing));
}
