//! A made shop, with all that goes wrong in one, against the right answer.

use std::collections::BTreeMap;

use visitflow::generate::{EndReason, Limits, Reason, Truth, tag_hash};
use visitflow_dataflows::ledger::Entry;
use visitflow_schemas::key::EventKey;

use crate::outputs::{Reading, agree, consume, late, rejected, tables, visits_sha256};
use crate::place::{Place, run};

/// So small that visits are cut by size and by length.
const SMALL: Limits = Limits {
    inactivity: 30 * 60_000,
    max_length: 2 * 3_600_000,
    max_size: 500,
    max_delay: 30_000,
    max_ahead: 5 * 60_000,
    max_record: 1_000_000,
};
const SETTINGS: [&str; 4] = [
    "visits.max_size=500",
    "visits.max_length=2h",
    "visits.max_delay=30s",
    "workers=2",
];

fn late_by_the_truth(place: &Place) -> Vec<((String, i64, EventKey), i64)> {
    let text = std::fs::read_to_string(place.path("log/truth/late.jsonl")).unwrap();
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let event = u128::from_str_radix(line["event_id"].as_str().unwrap(), 16).unwrap();
        let browser = line["browser_id"].as_str().unwrap().to_owned();
        let identity = (
            browser,
            line["event_time"].as_i64().unwrap(),
            EventKey(event.to_be_bytes()),
        );
        (identity, line["beyond_max_delay"].as_i64().unwrap())
    };
    let mut all: Vec<_> = text.lines().map(line).collect();
    all.sort();
    all
}

fn reasons(truth: &Truth) -> BTreeMap<&'static str, u64> {
    let word = |reason: Reason| match reason {
        Reason::WithoutBrowser => "no_browser",
        other => other.word(),
    };
    let count = |reason: &Reason| (word(*reason), truth.rejected[*reason as usize]);
    Reason::ALL
        .iter()
        .map(count)
        .filter(|(_, count)| *count > 0)
        .collect()
}

fn a_made_shop_comes_out_as_it_must(seed: u64, events: u64, limits: Limits, settings: &[&str]) {
    let place = Place::new();
    let truth = place.shop(events, seed, 4, limits);
    let summary = run(place.job("", "log-to-files", settings));

    let ledger = summary.ledger;
    assert!(ledger.holds());
    let sums = [
        Entry::In,
        Entry::Tagged,
        Entry::Late,
        Entry::Rejected,
        Entry::Repeated,
    ]
    .map(|e| ledger.of(e));
    let expected = [
        truth.taken,
        truth.tagged,
        truth.late,
        truth.rejected.iter().sum(),
        truth.repeated,
    ];
    assert_eq!(sums, expected);
    let ends = [EndReason::Inactivity, EndReason::Length, EndReason::Size]
        .map(|reason| truth.ends(reason));
    assert_eq!(summary.visits[2..5], ends);
    assert_eq!(summary.visits[5], 0, "at the end of a log every visit ends");

    let topics = place.path("topics");
    assert_eq!(rejected(&topics), reasons(&truth));
    assert_eq!(
        late(&topics, &Reading::default()),
        late_by_the_truth(&place)
    );

    let consumed = consume(&topics, &Reading::default());
    let tables = tables(&place.path("files"));
    agree(&consumed, &tables);
    assert_eq!(consumed.revisions as u64, summary.visits[1]);
    assert!(consumed.open.is_empty());
    let terms = consumed
        .tags
        .iter()
        .map(|((_, time, event), visit)| tag_hash(&event.0, *time, visit));
    assert_eq!(terms.fold(0_u128, u128::wrapping_add), truth.tags_sum);
    assert_eq!(visits_sha256(&tables.visits), truth.visits_sha256);
    let customers = tables
        .visits
        .iter()
        .map(|visit| visit.customer_id.as_deref());
    assert!(
        customers.eq(truth
            .visits
            .iter()
            .map(|visit| visit.customer_id.as_deref()))
    );
    println!(
        "seed {seed}: {sums:?}, ends {ends:?}, {} revisions",
        consumed.revisions
    );
}

#[test]
fn a_shop_whose_visits_are_cut_by_size_and_length_comes_out_as_it_must() {
    for seed in [1, 2] {
        a_made_shop_comes_out_as_it_must(seed, 60_000, SMALL, &SETTINGS);
    }
}

#[test]
fn a_shop_by_the_defaults_comes_out_as_it_must() {
    a_made_shop_comes_out_as_it_must(3, 60_000, Limits::default(), &["workers=1"]);
}
