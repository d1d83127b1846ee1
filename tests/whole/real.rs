//! Real logs of real sites, from their files to tables of visits, against counts and digests that a
//! plain program of others has worked out.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};
use visitflow::import::{self, Format, Kind, Mapping};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow_dataflows::ledger::Entry;

use crate::outputs::{Reading, Tables, agree, consume, hex, tables};
use crate::place::{Place, root, run};

/// A file of the real data, if it is there.
fn data(name: &str) -> Option<PathBuf> {
    let beside = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../shared"));
    let shared = std::env::var_os("VISITFLOW_SHARED").map_or(beside, PathBuf::from);
    let path = shared.join("data").join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "SKIPPED: no {}; VISITFLOW_SHARED may say where",
        path.display()
    );
    None
}

/// The browser as the truth files name it: address and agent as logged, or the ID.
fn browsers(tables: &Tables, by_agent: bool) -> BTreeMap<&str, String> {
    let name = |row: &crate::outputs::Row| match by_agent {
        true => {
            let agent = row.user_agent.as_deref().unwrap_or("-");
            format!("{}\u{1f}{agent}", row.ip.as_deref().unwrap())
        }
        false => row.browser_id.clone(),
    };
    let mut names = BTreeMap::new();
    for row in &tables.measurements {
        let name = name(row);
        let known = names
            .entry(&row.browser_id[..])
            .or_insert_with(|| name.clone());
        assert_eq!(*known, name);
    }
    names
}

fn comes_out_as_the_truth_says(file: &str, partitions: u32, format: impl FnOnce() -> Format) {
    let stem = file.split('.').next().unwrap();
    let (Some(path), Some(truth)) = (data(file), data(&format!("{stem}.truth.json"))) else {
        return;
    };
    let Some(geoip) = data("geoip/GeoLite2-Country-2019-12-24.mmdb") else {
        return;
    };
    let truth: Value = serde_json::from_slice(&std::fs::read(truth).unwrap()).unwrap();
    let number = |key: &str| truth[key].as_u64().unwrap();

    let place = Place::new();
    let log = place.path("log");
    let topic = Topic::create(&log, "measurements", partitions).unwrap();
    let mut producer = Producer::open(&topic, WriterOptions::default()).unwrap();
    let format = format();
    let by_agent = matches!(format, Format::Combined);
    let options = import::Options::new(vec![path], format, &log);
    let imported = import::import(&options, &mut producer, &mut import::Silent).unwrap();
    producer.close().unwrap();
    assert_eq!(imported.measurements, number("events"));

    // By the defaults, 30 min and 24 h.
    let geoip = format!("enrich.geoip={}", geoip.display());
    let summary = run(place.job("", "log-to-files", &["workers=2", &geoip]));
    let sums = Entry::ALL.map(|entry| summary.ledger.of(entry));
    assert_eq!(
        sums,
        [number("events"), number("events"), 0, 0, 0],
        "all are taken, none is late"
    );
    let tables_of = |name: &str| tables(&place.path(&format!("{name}files")));
    let tables = tables_of("");
    agree(
        &consume(&place.path("topics"), &Reading::default()),
        &tables,
    );
    assert_eq!(tables.measurements.len() as u64, number("events"));
    assert_eq!(tables.visits.len() as u64, number("visits_gap30m_max24h"));
    let names = browsers(&tables, by_agent);
    assert_eq!(names.len() as u64, number("browsers"));
    assert_eq!(names.values().collect::<BTreeSet<_>>().len(), names.len());

    let visit = |v: &crate::outputs::VisitRow| {
        (
            names[&v.browser_id[..]].clone(),
            v.started,
            v.last_seen,
            v.measurements,
        )
    };
    let mut visits: Vec<_> = tables.visits.iter().map(visit).collect();
    visits.sort();
    let mut sha = Sha256::new();
    for (browser, started, last_seen, measurements) in &visits {
        sha.update(format!(
            "{browser}\t{started}\t{last_seen}\t{measurements}\n"
        ));
    }
    assert_eq!(
        hex(&sha.finalize()),
        truth["visits_max24h_sha256"].as_str().unwrap()
    );
    let longest = visits
        .iter()
        .map(|(_, started, last_seen, _)| last_seen - started)
        .max();
    assert_eq!(longest, truth["longest_visit_ms"].as_i64());

    if let Some(expected) = truth["events_per_country_geolite2_2019_12_24"].as_object() {
        let mut countries: BTreeMap<&str, u64> = BTreeMap::new();
        for row in &tables.measurements {
            *countries
                .entry(row.country.as_deref().unwrap_or("-"))
                .or_default() += 1;
        }
        let expected = expected
            .iter()
            .map(|(country, count)| (&country[..], count.as_u64().unwrap()));
        assert_eq!(countries, expected.collect());
    }

    // At 12 h the cut by length does bite.
    let settings = ["workers=1", "visits.inactivity=12h"];
    let summary = run(place.job("half-day-", "log-to-files", &settings));
    let half_day = tables_of("half-day-");
    assert_eq!(half_day.visits.len() as u64, number("visits_gap12h_max24h"));
    let cut = half_day
        .visits
        .iter()
        .filter(|visit| visit.end_reason == "length")
        .count();
    assert_eq!(summary.visits[3], cut as u64);
    let without_cut = number("visits_gap12h");
    assert!(number("visits_gap12h_max24h") - without_cut <= cut as u64);
}

#[test]
fn the_access_log_of_a_shop() {
    comes_out_as_the_truth_says("zanbil-2019-01-26.combined.log.gz", 4, || Format::Combined);
}

#[test]
fn the_access_log_of_a_blog_whose_times_are_out_of_order() {
    comes_out_as_the_truth_says("semicomplete-2015-05.combined.log.gz", 16, || {
        Format::Combined
    });
}

#[test]
fn twenty_users_of_a_shop_over_four_weeks() {
    let mapping = || Mapping::read(&root("examples/mappings/otto.toml"), Kind::Jsonl).unwrap();
    comes_out_as_the_truth_says("otto-20-users.jsonl", 8, || Format::Jsonl(mapping()));
}

#[test]
fn the_events_of_a_shop_of_many_categories() {
    let mapping = || Mapping::read(&root("examples/mappings/rees46.toml"), Kind::Csv).unwrap();
    comes_out_as_the_truth_says("rees46-2019-10-01.csv.gz", 1, || Format::Csv(mapping()));
}
