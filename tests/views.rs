//! Views of a job at work are what DuckDB computes by plain SQL over its tables: while it runs, of
//! visits, with those that are live, and of measurements, over the topic `tagged`, which has those of
//! open visits too; once all are sealed, of everything, and second by second while windows move on. What
//! comes is a made shop's traffic, with all that goes wrong in it, and the job is
//! killed on the way.
//!
//! Left out is what SQL cannot say simply, or tables do not know: chains and credits, what is usual, and
//! who is a robot by how much it measures. The properties of `dataflows/tests/views` have these.
//!
//! Where the Python packages cannot be had this says SKIPPED, and by what.

mod served;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use served::{EVER, Job, MAX_LAG, Traffic, python, root};
use visitflow::generate::{self, Limits};
use visitflow::wall;

/// So long that people come to order something in a visit. Nothing is far ahead, so that all visits are
/// sealed soon after the shop has closed.
const LIMITS: Limits = Limits {
    inactivity: 12_000,
    max_length: 40_000,
    max_size: 100,
    max_ahead: 2_000,
    ..served::LIMITS
};
/// Longer than everything takes.
const DAY: u64 = 86_400_000;
/// Shorter than that: at its end it has to let go of what it had.
const SHORT: u64 = 15_000;
/// So long is each half of the job's life looked at, in ms: enough for all kinds of things to happen.
const HALF: u64 = 20_000;

/// A view, and SQL for the same.
struct Pair {
    name: &'static str,
    window: u64,
    view: &'static str,
    sql: &'static str,
}

const ENDS: Pair = Pair {
    name: "ends",
    window: DAY,
    view: "of = 'visits'
           key = ['country', 'end_reason']
           values = ['count', 'measurements', 'browsers']",
    sql: "SELECT country, end_reason, count(*) AS count, sum(measurements) AS measurements,
              count(DISTINCT browser_id) AS browsers
          FROM visits GROUP BY ALL",
};

const BEGUN: Pair = Pair {
    name: "begun",
    window: SHORT,
    view: "of = 'visits'
           key = ['country']
           values = ['count', 'measurements', 'browsers']",
    sql: "SELECT country, count(*) AS count, sum(measurements) AS measurements,
              count(DISTINCT browser_id) AS browsers
          FROM visits GROUP BY ALL",
};

const EFFECTS: Pair = Pair {
    name: "effects",
    window: SHORT,
    view: "key = ['effect', 'agent']
           values = ['count', 'sum', 'browsers']",
    sql: "SELECT effect, agent, count(*) AS count, coalesce(sum(value), 0) AS sum,
              count(DISTINCT browser_id) AS browsers
          FROM measurements GROUP BY ALL",
};

const PRODUCTS: Pair = Pair {
    name: "products",
    window: DAY,
    view: "entities = ['product', 'banner']
           key = ['entity_id']
           values = ['count', 'count:clicked', 'sum', 'sum:added_to_cart', 'browsers']",
    sql: "SELECT entity_id, count(*) AS count, count(*) FILTER (effect = 'clicked') AS clicked,
              coalesce(sum(value), 0) AS sum,
              coalesce(sum(value) FILTER (effect = 'added_to_cart'), 0) AS sum_added_to_cart,
              count(DISTINCT browser_id) AS browsers
          FROM measurements WHERE entity IN ('product', 'banner') GROUP BY ALL",
};

const MINUTES: Pair = Pair {
    name: "minutes",
    window: DAY,
    view: "people = true
           key = ['minute', 'country', 'entity']
           values = ['count', 'sum:ordered', 'browsers']",
    sql:
        "SELECT strftime(make_timestamp(time * 1000), '%Y-%m-%dT%H:%M') AS minute, country, entity,
              count(*) AS count, coalesce(sum(value) FILTER (effect = 'ordered'), 0) AS sum_ordered,
              count(DISTINCT browser_id) AS browsers
          FROM measurements WHERE agent = 'person' GROUP BY ALL",
};

const PAGES: Pair = Pair {
    name: "pages",
    window: DAY,
    view: "effects = ['shown']
           entities = ['page']
           people = true
           key = ['entity_id']
           top = 20",
    sql: "SELECT entity_id, count(*) AS count FROM measurements
          WHERE effect = 'shown' AND entity = 'page' AND agent = 'person'
          GROUP BY ALL ORDER BY count DESC, entity_id LIMIT 20",
};

const SUGGESTIONS: Pair = Pair {
    name: "suggestions",
    window: DAY,
    view: "effects = ['searched']
           key = ['prefix', 'entity_id']
           top = 3
           by_first = true",
    sql: "SELECT * FROM
              (SELECT left(lower(trim(entity_id)), i) AS prefix, entity_id, count(*) AS count
               FROM measurements, range(1, 11) AS beginnings(i)
               WHERE effect = 'searched' AND i <= length(trim(entity_id)) GROUP BY ALL)
          QUALIFY row_number() OVER (PARTITION BY prefix ORDER BY count DESC, entity_id) <= 3",
};

const COUNTRIES: Pair = Pair {
    name: "countries",
    window: DAY,
    view: "of = 'visits'
           key = ['country', 'agent']
           values = ['count', 'measurements', 'orders', 'revenue', 'count:clicked', 'browsers']",
    sql: "SELECT country, agent, count(*) AS count, sum(measurements) AS measurements,
              sum(own.orders) AS orders, sum(own.revenue) AS revenue, sum(clicked) AS clicked,
              count(DISTINCT browser_id) AS browsers
          FROM visits JOIN
              (SELECT visit_id, arg_min(agent, n) AS agent,
                   count(*) FILTER (effect = 'ordered' AND entity = 'order') AS orders,
                   coalesce(sum(value) FILTER (effect = 'ordered' AND entity = 'order'), 0) AS revenue,
                   count(*) FILTER (effect = 'clicked') AS clicked
               FROM members GROUP BY visit_id) AS own USING (visit_id)
          GROUP BY ALL",
};

const ENTRIES: Pair = Pair {
    name: "entries",
    window: DAY,
    view: "of = 'visits'
           people = true
           key = ['entry', 'exit', 'source']",
    sql: "SELECT entry, exit, source, count(*) AS count FROM
              (SELECT coalesce(arg_min(entity_id, n) FILTER (entity = 'page'), '') AS entry,
                   coalesce(arg_max(entity_id, n) FILTER (entity = 'page'), '') AS exit,
                   coalesce(arg_min(reason, n) FILTER (entity = 'page'), arg_min(reason, n)) AS source
               FROM members GROUP BY visit_id HAVING arg_min(agent, n) = 'person')
          GROUP BY ALL",
};

/// By the columns that the table of visits itself has.
const REVENUE: Pair = Pair {
    name: "revenue",
    window: DAY,
    view: "of = 'visits'
           key = ['country']
           values = ['orders', 'revenue']",
    sql: "SELECT country, sum(orders) AS orders, sum(revenue) AS revenue FROM visits
          GROUP BY ALL HAVING sum(orders) > 0",
};

const CREDITS: Pair = Pair {
    name: "credits",
    window: DAY,
    view: "of = 'credits'
           key = ['country', 'touch']",
    sql: "SELECT country, c.touch AS touch, count(*) AS orders, sum(c['first']) AS \"first\",
              sum(c['last']) AS \"last\", sum(c.linear) AS linear, sum(c.position) AS position,
              count(*) FILTER (c.touch = 'expired') AS expired
          FROM (SELECT country, unnest(credits) AS c FROM visits) GROUP BY ALL",
};

const FUNNEL: Pair = Pair {
    name: "funnel",
    window: DAY,
    view: "of = 'funnel'
           people = true
           steps = ['shown page', 'clicked *', 'added_to_cart product', 'shown *']
           key = ['step']",
    sql: "WITH people AS
              (SELECT visit_id FROM members GROUP BY visit_id HAVING arg_min(agent, n) = 'person'),
          own AS (SELECT * FROM members SEMI JOIN people USING (visit_id)),
          seen AS
              (SELECT visit_id, min(n) AS place FROM own WHERE effect = 'shown' AND entity = 'page'
               GROUP BY visit_id),
          clicked AS
              (SELECT visit_id, min(n) AS place FROM own JOIN seen USING (visit_id)
               WHERE n > place AND effect = 'clicked' GROUP BY visit_id),
          carted AS
              (SELECT visit_id, min(n) AS place FROM own JOIN clicked USING (visit_id)
               WHERE n > place AND effect = 'added_to_cart' AND entity = 'product' GROUP BY visit_id),
          stayed AS
              (SELECT visit_id, min(n) AS place FROM own JOIN carted USING (visit_id)
               WHERE n > place AND effect = 'shown' GROUP BY visit_id)
          SELECT * FROM
              (SELECT '1 page shown' AS step, count(*) AS count FROM seen
               UNION ALL SELECT '2 clicked', count(*) FROM clicked
               UNION ALL SELECT '3 product added_to_cart', count(*) FROM carted
               UNION ALL SELECT '4 shown', count(*) FROM stayed)
          WHERE count > 0",
};

const PAIRS: [&Pair; 12] = [
    &ENDS,
    &BEGUN,
    &EFFECTS,
    &PRODUCTS,
    &MINUTES,
    &PAGES,
    &SUGGESTIONS,
    &COUNTRIES,
    &ENTRIES,
    &REVENUE,
    &CREDITS,
    &FUNNEL,
];

/// The part of a job's file behind what it serves.
fn views() -> String {
    let view = |pair: &&Pair| {
        let (name, window) = (pair.name, pair.window);
        let rest = pair.view;
        format!("[[view]]\nname = '{name}'\nwindow = '{window}ms'\nstep = '1s'\n{rest}\n")
    };
    let views: String = PAIRS.iter().map(view).collect();
    format!("rows = 1_000_000\n{views}")
}

/// Rows, in an order of their own.
type Rows = Vec<BTreeMap<String, Value>>;

fn rows_of(list: Value) -> Rows {
    let mut rows: Rows = serde_json::from_value(list).unwrap();
    rows.sort_by_cached_key(|row| json!(row).to_string());
    rows
}

/// A view as of a tick, once that is complete.
fn served(job: &Job, pair: &Pair, tick: u64) -> Rows {
    let began = Instant::now();
    let path = format!("/views/{}?tick={tick}", pair.name);
    loop {
        let (status, body) = job.ask("GET", &path).unwrap();
        let mut said: Value = serde_json::from_str(&body).unwrap();
        if status == 200 {
            let rows = rows_of(said["rows"].take());
            assert_eq!(said["found"], rows.len(), "no row is cut off");
            return rows;
        }
        // It is expected to be at most the newest that is complete.
        assert!(status == 400 && began.elapsed() < EVER, "{path}: {body}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// What DuckDB says, as of one moment.
struct Moment {
    tick: u64,
    /// How many visits are in no table.
    open: u64,
    rows: Vec<Rows>,
}

impl Moment {
    /// Asks for the rows of these pairs, as of the moment or of the ticks that are said; of measurements
    /// by the tables, or by the lines of `tagged` in a file.
    fn read(
        python: &str,
        job: &Job,
        pairs: &[(&Pair, Option<u64>)],
        tagged: Option<&str>,
    ) -> Moment {
        let question = |(pair, tick): &(&Pair, Option<u64>)| json!({"sql": pair.sql, "window": pair.window, "tick": tick});
        let questions: Vec<Value> = pairs.iter().map(question).collect();
        let mut command = Command::new(python);
        command.arg(root("tests/readers/views.py"));
        command.arg(format!("http://127.0.0.1:{}", job.port));
        command.args(tagged).current_dir(&job.dir);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(json!(questions).to_string().as_bytes())
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "DuckDB was not asked");
        let said = String::from_utf8(output.stdout).unwrap();
        let mut lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let of: Value = lines.next().unwrap();
        Moment {
            tick: of["tick"].as_u64().unwrap(),
            open: of["open"].as_u64().unwrap(),
            rows: lines.map(rows_of).collect(),
        }
    }
}

/// The first rows that only one side has say more than all of both.
fn are_the_same(pair: &Pair, tick: u64, served: &Rows, computed: &Rows) {
    let only = |own: &Rows, other: &Rows| {
        let rows = own.iter().filter(|row| !other.contains(row));
        rows.take(5)
            .map(|row| json!(row).to_string())
            .collect::<Vec<_>>()
    };
    assert!(
        served == computed,
        "{} as of {tick}: {} rows are served, {} computed; only served {:#?}, only computed {:#?}",
        pair.name,
        served.len(),
        computed.len(),
        only(served, computed),
        only(computed, served),
    );
}

/// Those of measurements that hold while the job runs: what they count is in no table yet.
const MEASURED: [&Pair; 3] = [&EFFECTS, &PRODUCTS, &MINUTES];

/// Views of measurements as of the last second that is committed.
fn measurements_hold(python: &str, job: &Job) {
    let (status, progress) = job.ask("GET", "/progress").unwrap();
    assert_eq!(status, 200, "{progress}");
    let progress: Value = serde_json::from_str(&progress).unwrap();
    // It cannot be null: visits have been sealed and held by now.
    let tick = progress["committed"].as_u64().unwrap() / 1_000 * 1_000;
    let lines = job.dir.join("tagged.jsonl");
    let mut show = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    show.args(["show", "results", "--topic", "tagged"]);
    show.current_dir(&job.dir).stdin(Stdio::null());
    let shown = show.stdout(fs::File::create(&lines).unwrap()).status();
    assert!(shown.unwrap().success(), "the topic is not shown");
    let pairs = MEASURED.map(|pair| (pair, Some(tick)));
    let moment = Moment::read(python, job, &pairs, lines.to_str());
    for (pair, computed) in MEASURED.into_iter().zip(&moment.rows) {
        let served = served(job, pair, tick);
        are_the_same(pair, tick, &served, computed);
        assert!(!served.is_empty(), "{}", pair.name);
    }
}

/// Views of visits while visits begin, grow and end.
fn holds_at_moments(python: &str, job: &Job) {
    let mut first = None;
    loop {
        let moment = Moment::read(python, job, &[(&ENDS, None), (&BEGUN, None)], None);
        for (pair, computed) in [&ENDS, &BEGUN].into_iter().zip(&moment.rows) {
            let served = served(job, pair, moment.tick);
            are_the_same(pair, moment.tick, &served, computed);
            assert!(!served.is_empty(), "{}", pair.name);
        }
        assert!(moment.open > 0, "some visits are live");
        measurements_hold(python, job);
        if moment.tick >= *first.get_or_insert(moment.tick) + HALF {
            break;
        }
    }
}

#[test]
fn every_row_is_what_duckdb_computes_over_the_tables() {
    let Some(python) = python("views are not held against DuckDB") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let traffic = Traffic::open(&dir.path().join("log"), 3, LIMITS);
    let mut job = Job::new(dir.path(), 2, LIMITS, &views());
    fs::write(dir.path().join("countries.mmdb"), generate::countries()).unwrap();
    // Tables know no browser to be a robot by how much it measures.
    let settings = [
        "enrich.robots_over=1000000000",
        "enrich.geoip=countries.mmdb",
        "outputs.log=results",
    ];
    let settings = settings.map(|setting| ["--set", setting]).concat();
    job.start(&settings);
    holds_at_moments(&python, &job);
    job.kill();
    job.start(&[&settings[..], &["--workers", "3"]].concat());
    holds_at_moments(&python, &job);

    let truth = traffic.close();
    // Behind this tick nobody has asked the log before it was closed.
    let closed = (wall::now() + MAX_LAG) as u64;
    let began = Instant::now();
    let last = loop {
        let moment = Moment::read(&python, &job, &[], None);
        if moment.open == 0 && moment.tick > closed + SHORT {
            break moment.tick;
        }
        assert!(began.elapsed() < EVER, "time stands at {}", moment.tick);
    };

    let whole = PAIRS.iter().filter(|pair| pair.window == DAY);
    let mut asked: Vec<(&Pair, Option<u64>)> = whole.map(|pair| (*pair, Some(last))).collect();
    let steps = (closed.next_multiple_of(1_000)..=last).step_by(1_000);
    for pair in [&BEGUN, &EFFECTS] {
        asked.extend(steps.clone().map(|tick| (pair, Some(tick))));
    }
    let moment = Moment::read(&python, &job, &asked, None);
    assert_eq!(moment.open, 0);
    for ((pair, tick), computed) in asked.iter().zip(&moment.rows) {
        let tick = tick.unwrap();
        let served = served(&job, pair, tick);
        are_the_same(pair, tick, &served, computed);
        if pair.window == DAY {
            println!("{}: {} rows", pair.name, served.len());
            assert!(!served.is_empty(), "{} is of something", pair.name);
        }
    }
    let rows = |pair: &Pair| -> Vec<&Rows> {
        let of = asked.iter().zip(&moment.rows);
        let of = of.filter(|((other, _), _)| other.name == pair.name);
        of.map(|(_, rows)| rows).collect()
    };
    for pair in [&BEGUN, &EFFECTS] {
        let rows = rows(pair);
        assert!(!rows[0].is_empty(), "{} begins with something", pair.name);
        assert!(rows[rows.len() - 1].is_empty(), "and lets go of it");
    }
    let sum = |pair: &Pair, name: &str| -> u64 {
        let all = rows(pair)[0].iter();
        all.map(|row| row[name].as_u64().unwrap()).sum()
    };
    assert_eq!(sum(&ENDS, "count"), truth.visits.len() as u64);
    assert_eq!(sum(&ENDS, "measurements"), truth.tagged);
    assert_eq!(sum(&COUNTRIES, "orders"), truth.orders.len() as u64);
    for model in ["first", "last", "linear", "position"] {
        let credited = sum(&CREDITS, model);
        assert_eq!(credited, sum(&REVENUE, "revenue"), "all credits of {model}");
    }
    assert!(
        sum(&COUNTRIES, "revenue") > 0,
        "people have bought something"
    );
    for country in ["", "AT", "DE"] {
        let is = |row: &BTreeMap<String, Value>| row["country"] == country;
        assert!(rows(&COUNTRIES)[0].iter().any(is), "{country:?}");
    }
    assert_eq!(rows(&FUNNEL)[0].len(), 4, "some came through all steps");
}
