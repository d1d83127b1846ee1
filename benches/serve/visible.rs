//! From the scheduled time of sending to a subscriber who sees it in a view.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::Value;
use visitflow::run::grouped;
use visitflow::wall;
use visitflow_dataflows::views::STEP;

use crate::feed::{Feed, Pace};
use crate::{at, living, start, views};

/// How long the job runs before anything counts, and how long it counts.
const WARM: Duration = Duration::from_secs(12);
const COUNTED: Duration = Duration::from_secs(40);
/// How long the last may take.
const REST: Duration = Duration::from_secs(3);

pub fn visible(dir: &Path) {
    let feed = Feed::start(dir, Pace::Usual, true);
    // With the least step that a view can have.
    let own = format!(
        "\n[[view]]\nname = \"markers\"\nentities = [\"marker\"]\nkey = [\"entity_id\"]\nwindow = \"10s\"\n\
         step = \"{STEP}ms\"\n"
    );
    let (handle, running) = start(&living(dir, &(views().to_owned() + &own)));
    std::thread::sleep(WARM);
    let address = handle.address.expect("a job that is served");
    let listening = std::thread::spawn(move || listen(address));
    let (from, began) = (wall::now(), Instant::now());
    feed.late();
    let (sent, mut tags) = (feed.sent(), Vec::new());
    while began.elapsed() < COUNTED {
        std::thread::sleep(Duration::from_secs(1));
        tags.extend(handle.metrics.latency());
    }
    let sent = feed.sent() - sent;
    let until = wall::now();
    let late = feed.late();
    std::thread::sleep(REST);
    feed.stop();
    handle.stop.store(true, Ordering::Relaxed);
    running.join().expect("a job that ends");
    let mut seen = listening.join().expect("who listens");
    seen.retain(|scheduled, _| (from..until).contains(scheduled));
    println!(
        "{} measurements a second, at worst {late} ms late; {} markers seen in a view with a step of {STEP} ms",
        grouped((sent as f64 / COUNTED.as_secs_f64()) as u64),
        seen.len(),
    );
    println!(
        "{:<64}  {:>6}  {:>6}  {:>6}  {:>6}",
        "ms", "p50", "p90", "p99", "most"
    );
    let row = |what: &str, mut times: Vec<i64>| {
        times.sort_unstable();
        let [a, b, c, d] = [0.5, 0.9, 0.99, 1.0].map(|part| at(&times, part));
        println!("{what:<64}  {a:>6}  {b:>6}  {c:>6}  {d:>6}");
    };
    let step = STEP as i64;
    let end = |scheduled: i64| (scheduled / step + 1) * step;
    let all = || seen.iter();
    row(
        "from the scheduled time to the end of its step",
        all().map(|(s, _)| end(*s) - s).collect(),
    );
    row(
        "from there until a subscriber sees it",
        all().map(|(s, seen)| seen - end(*s)).collect(),
    );
    row(
        "from the scheduled time until a subscriber sees it",
        all().map(|(s, seen)| seen - s).collect(),
    );
    let (middle, last): (Vec<u32>, Vec<u32>) = tags.into_iter().unzip();
    let mean = |of: &[u32]| of.iter().sum::<u32>() / (of.len() as u32).max(1);
    println!(
        "from the log to the tag: p50 {} ms, p99 {} ms",
        mean(&middle),
        mean(&last)
    );
}

/// When each marker was first seen, by its scheduled time, until the job ends.
fn listen(address: SocketAddr) -> BTreeMap<i64, i64> {
    let mut stream = TcpStream::connect(address).expect("a job that is served");
    // By this version of HTTP events are not cut into chunks.
    write!(stream, "GET /views/markers/changes HTTP/1.0\r\n\r\n").expect("a request");
    let mut seen = BTreeMap::new();
    for line in BufReader::new(stream).lines().map_while(Result::ok) {
        let Some(data) = line.strip_prefix("data: ") else {
            continue;
        };
        let now = wall::now();
        let data: Value = serde_json::from_str(data).expect("an event");
        for row in data["rows"].as_array().into_iter().flatten() {
            let scheduled = row["entity_id"].as_str().and_then(|id| id.parse().ok());
            seen.entry(scheduled.expect("a marker")).or_insert(now);
        }
    }
    seen
}
