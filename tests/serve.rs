//! What is served over HTTP, as who asks it sees it: a real server on a port of this machine, with a
//! board, orders and a desk that the test writes on and answers at.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use visitflow::serve::access::Access;
use visitflow::serve::holds::Version;
use visitflow::serve::listen::{Listening, Serving};
use visitflow::serve::openapi::document;
use visitflow::serve::operations::Account;
use visitflow::serve::orders::Order;
use visitflow::serve::progress::Progress;
use visitflow::serve::question::{Answer, LiveVisit, OpenVisit, Question, VisitFact, WholeVisit};
use visitflow::serve::{Limits, Served, Site};
use visitflow_dataflows::views::{Field, Key, Of, Sums, Value as Summed, View};

/// Longer than anyone would wait: nothing is said of how long something takes.
const EVER: Duration = Duration::from_secs(120);
const VISIT: &str = "0000000000000000000000000000002a";

struct Said;

impl Account for Said {
    fn progress(&self) -> Progress {
        Progress {
            job: "shop".into(),
            ..Progress::default()
        }
    }

    fn why(&self) -> String {
        "shop: running\n".into()
    }

    fn metrics(&self) -> String {
        "# metrics\n".into()
    }
}

/// What the dataflow would answer, which a test may change.
struct Dataflow {
    tick: AtomicU64,
    kept: AtomicU64,
    visit: Mutex<Answer>,
}

fn open_visit() -> OpenVisit {
    OpenVisit {
        visit_id: VISIT.into(),
        browser_id: "b1".into(),
        started: 7,
        measurements: 1,
        agent: "person".into(),
        ..OpenVisit::default()
    }
}

fn whole(facts: usize) -> Answer {
    Answer::Visit(Box::new(WholeVisit {
        visit: open_visit(),
        facts: vec![VisitFact::default(); facts],
    }))
}

impl Dataflow {
    /// In two parts, as if by two workers.
    fn answers(&self, question: &Question) -> [Answer; 2] {
        let kept = self.kept.load(Ordering::SeqCst);
        let other = OpenVisit {
            started: 9,
            ..open_visit()
        };
        match question {
            Question::Visit(id) if id[15] == 0x2a => {
                [Answer::Nothing, self.visit.lock().unwrap().clone()]
            }
            Question::Browser(browser) if browser == b"b1" => {
                [Answer::Visits(vec![open_visit()]), Answer::Nothing]
            }
            Question::Newest { .. } => [
                Answer::Visits(vec![open_visit()]),
                Answer::Visits(vec![other]),
            ],
            Question::Profile(customer) if customer == b"c 1" => {
                [Answer::Profile("{\"orders\":2}".into()), Answer::Nothing]
            }
            Question::Kept => [Answer::Kept(0), Answer::Kept(kept)],
            Question::Live { .. } => {
                let visit = |end: Option<&str>| LiveVisit {
                    visit_id: VISIT.into(),
                    end_reason: end.map(str::to_owned),
                    ..LiveVisit::default()
                };
                let live = |visits, kept| Answer::Live { kept, visits };
                [
                    live(vec![visit(None); 1_500], 0),
                    live(vec![visit(Some("size"))], kept),
                ]
            }
            _ => [Answer::Nothing, Answer::Nothing],
        }
    }
}

fn view() -> View {
    View {
        name: "trending".into(),
        of: Of::Measurements,
        effects: vec![],
        entities: vec![],
        reasons: vec![],
        people: false,
        key: vec![Field::EntityId, Field::Country],
        values: vec![Summed::Count(None), Summed::Browsers],
        window: 600_000,
        step: 1_000,
        against: None,
        top: Some(20),
        by_first: false,
        since: 0,
    }
}

fn row(id: &str, count: i64) -> (Key, Sums) {
    (Key::of([id, "NL"]), Sums([count, 1, 0, 0, 0, 0]))
}

fn order(event: u64, value: i64) -> Order {
    Order {
        order_event: format!("{event:032x}"),
        value,
        ..Order::default()
    }
}

/// A server, and both sides of it.
struct Server {
    address: SocketAddr,
    served: Served,
    dataflow: Arc<Dataflow>,
    _serving: Serving,
}

fn limits() -> Limits {
    Limits {
        subscribers: 4,
        rows: 3,
        orders: 100,
        timeout: EVER,
    }
}

impl Server {
    /// Without tokens.
    fn new() -> Server {
        Server::with(Access::default(), limits())
    }

    fn with(access: Access, limits: Limits) -> Server {
        let served = Served::new(vec![view()], 10_000);
        let dataflow = Arc::new(Dataflow {
            tick: AtomicU64::new(1_000),
            kept: AtomicU64::new(0),
            visit: Mutex::new(whole(1)),
        });
        let (desk, own) = (served.desk.clone(), dataflow.clone());
        served.desk.wake_by(move || {
            for (id, question) in desk.take() {
                let tick = own.tick.load(Ordering::SeqCst);
                let [one, two] = own.answers(&question);
                desk.answer(id, tick, || one, 2);
                desk.answer(id, tick, || two, 2);
            }
        });
        let site = Site::new(served.clone(), Arc::new(Said), access, limits, "s1".into());
        let site = site.with_tables(Some("tables/identified".into()));
        let listening = Listening::at("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listening.address();
        Server {
            address,
            served,
            dataflow,
            _serving: listening.serve(site).unwrap(),
        }
    }

    /// With two ticks of a view, an order, and a version of the tables.
    fn filled() -> Server {
        let server = Server::new();
        server.fill();
        server
    }

    fn fill(&self) {
        let board = &self.served.board;
        board.apply(0, 1_000, vec![(row("p1", 5), 1), (row("p2", 9), 1)]);
        self.complete(1_000);
        board.apply(0, 2_000, vec![(row("p1", 5), -1), (row("p1", 12), 1)]);
        self.served
            .orders
            .apply(2_000, vec![order(1, 100), order(2, 200)]);
        self.complete(2_000);
        let version = Version {
            version: 3,
            tick: 900,
        };
        self.served.holds.commit([version, version]);
    }

    fn complete(&self, tick: u64) {
        self.served.board.complete(tick);
        self.served.orders.complete(tick);
    }

    fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Reply {
        let stream = self.send(method, path, headers, body);
        Reply::read(stream)
    }

    fn get(&self, path: &str) -> Reply {
        self.ask("GET", path, &[], "")
    }

    /// HTTP/1.0, so that what is answered ends with the connection.
    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(EVER)).unwrap();
        let mut head = format!("{method} {path} HTTP/1.0\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        // One that is refused before all of it is read may be a reset.
        let _ = write!(stream, "{head}\r\n{body}");
        stream
    }

    fn listen(&self, path: &str, last: Option<&str>) -> Events {
        let last: Vec<_> = last.iter().map(|id| ("Last-Event-ID", *id)).collect();
        let mut events = Events(BufReader::new(self.send("GET", path, &last, "")));
        let head = events.block();
        assert!(head[0].contains(" 200 "), "{head:?}");
        let kind = "content-type: text/event-stream".to_owned();
        assert!(head.contains(&kind), "{head:?}");
        events
    }
}

#[derive(Debug)]
struct Reply {
    status: u16,
    headers: BTreeMap<String, String>,
    body: String,
}

impl Reply {
    fn read(mut stream: TcpStream) -> Reply {
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let headers = lines.filter_map(|line| line.split_once(": "));
        Reply {
            status: first
                .split(' ')
                .nth(1)
                .and_then(|s| s.parse().ok())
                .unwrap_or(0),
            headers: headers.map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
            body: body.to_owned(),
        }
    }

    #[track_caller]
    fn json(&self) -> Value {
        assert!(self.status < 300, "{self:?}");
        serde_json::from_str(&self.body).unwrap()
    }

    /// The detail of a problem of this status.
    #[track_caller]
    fn problem(&self, status: u16) -> String {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], "about:blank");
        assert!(problem["title"].is_string());
        problem["detail"].as_str().unwrap().to_owned()
    }
}

struct Events(BufReader<TcpStream>);

impl Events {
    /// Lines up to an empty one; none at the end.
    fn block(&mut self) -> Vec<String> {
        let mut block = Vec::new();
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).unwrap();
            let line = line.trim_end();
            if line.is_empty() && (read == 0 || !block.is_empty()) {
                return block;
            }
            if !line.is_empty() {
                block.push(line.to_owned());
            }
        }
    }

    /// The next event: its name, its ID, its data.
    fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            let block = self.block();
            if block.is_empty() {
                return None;
            }
            let of = |name: &str| {
                let found = block.iter().find_map(|line| line.strip_prefix(name));
                found.unwrap_or_default().trim().to_owned()
            };
            let data = of("data:");
            if !data.is_empty() {
                return Some((
                    of("event:"),
                    of("id:"),
                    serde_json::from_str(&data).unwrap(),
                ));
            }
        }
    }
}

#[test]
fn what_is_described_is_there_and_nothing_else() {
    let server = Server::filled();
    assert_eq!(server.get("/openapi.json").json(), document());
    let hold = server.ask("POST", "/boundary/holds", &[], "").json();
    let methods = ["GET", "POST", "PUT", "DELETE", "PATCH"];
    for (path, operations) in document()["paths"].as_object().unwrap() {
        let own = path
            .replace("{file}", "page.css")
            .replace("{name}", "trending")
            .replace("{visit_id}", VISIT)
            .replace("{customer_id}", "c%201")
            .replace("{hold}", hold["hold"].as_str().unwrap());
        for method in methods {
            if operations.get(method.to_lowercase()).is_none() {
                let reply = server.ask(method, &own, &[], "");
                let said = reply.problem(405);
                assert!(said.contains(&own), "{said}");
                let allowed = &reply.headers["allow"];
                assert!(!allowed.contains(method), "{path} {allowed}");
            } else if operations["get"]["responses"]["200"]["content"]["text/event-stream"]
                .is_object()
            {
                server.listen(&own, None);
            } else if method != "DELETE" {
                let reply = server.ask(method, &own, &[], "");
                assert!((200..300).contains(&reply.status), "{path}: {reply:?}");
            }
        }
    }
    for path in ["/nothing", "/views/", "/page.map", "/..%2f", "//"] {
        let said = server.get(path).problem(404);
        assert!(
            said.contains("there are /, ") && said.contains("/views/{name}"),
            "{said}"
        );
    }
}

#[test]
fn every_answer_keeps_a_browser_from_taking_anything_from_elsewhere() {
    let server = Server::filled();
    let foreign = [("Host", "example.com")];
    let replies = [
        server.get("/"),
        server.get("/views"),
        server.get("/nothing"),
        server.ask("PATCH", "/views", &[], ""),
        server.ask("GET", "/views", &foreign, ""),
    ];
    for reply in replies {
        let headers = &reply.headers;
        assert!(headers["content-security-policy"].starts_with("default-src 'self';"));
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
    }
    let page = server.get("/");
    assert_eq!(page.headers["content-type"], "text/html; charset=utf-8");
    assert!(!page.body.contains("http://") && !page.body.contains("https://"));
}

#[test]
fn a_view_is_read_as_of_one_tick_from_the_greatest_down() {
    let server = Server::filled();
    let list = server.get("/views").json();
    assert_eq!(
        list,
        json!({"tick": 2_000, "views": [{
            "name": "trending", "of": "measurements", "key": ["entity_id", "country"],
            "values": ["count", "browsers"], "window": 600_000, "step": 1_000, "top": 20, "since": null,
            "rows": 2,
        }]})
    );
    let row = |id: &str, count: i64| {
        json!({
            "entity_id": id, "country": "NL", "count": count, "browsers": 1,
        })
    };
    let newest = server.get("/views/trending").json();
    assert_eq!(
        newest,
        json!({
            "view": "trending", "tick": 2_000, "window": 600_000, "key": ["entity_id", "country"],
            "values": ["count", "browsers"], "found": 2, "rows": [row("p1", 12), row("p2", 9)],
        })
    );
    let earlier = server.get("/views/trending?tick=1000").json();
    assert_eq!(earlier["rows"], json!([row("p2", 9), row("p1", 5)]));
    let chosen = server
        .get("/views/trending?entity_id=p2&country=NL&limit=1")
        .json();
    assert_eq!(chosen["rows"], json!([row("p2", 9)]));
    let cut = server.get("/views/trending?limit=1").json();
    assert_eq!(
        (&cut["found"], cut["rows"].as_array().unwrap().len()),
        (&json!(2), 1)
    );
}

#[test]
fn what_is_wrong_with_a_question_is_named_with_what_was_expected() {
    let server = Server::filled();
    for (path, status, said) in [
        (
            "/views/nope",
            404,
            "there is no view nope; there are trending",
        ),
        ("/views/trending?tick=999", 410, "tick 999 is not kept"),
        (
            "/views/trending?tick=2001",
            400,
            "tick=2001: expected one from 1000 to 2000",
        ),
        ("/views/trending?tick=x", 400, "tick=x: expected a tick"),
        (
            "/views/trending?limit=0",
            400,
            "limit=0: expected a whole number from 1 to 3",
        ),
        (
            "/views/trending?limit=4",
            400,
            "limit=4: expected a whole number from 1 to 3",
        ),
        (
            "/views/trending?agent=x",
            400,
            "agent=x: expected only the parameters tick, limit, entity_id, country",
        ),
        (
            "/views/trending?tick=1000&tick=2000",
            400,
            "tick=2000: expected each parameter once",
        ),
        ("/views?x=%0a", 400, "x=\\n: expected no parameters"),
        (
            "/orders?limit=101",
            400,
            "limit=101: expected a whole number from 1 to 100",
        ),
        (
            "/visits?browser=b&agent=x",
            400,
            "agent=x: expected only the parameters browser",
        ),
        (
            "/visits/zz",
            400,
            "visit_id=zz: expected 32 hexadecimal digits",
        ),
        (
            "/boundary/holds/1/visits",
            400,
            "hold=1: expected 32 hexadecimal digits",
        ),
    ] {
        let detail = server.get(path).problem(status);
        assert!(detail.contains(said), "{path}: {detail}");
    }
    let early = Server::new();
    let said = early.get("/views/trending").problem(503);
    assert!(said.contains("no tick is complete yet"), "{said}");
    early.get("/orders").problem(503);
}

#[test]
fn changes_of_a_view_come_as_they_are_complete_and_go_on_where_they_were_left() {
    let server = Server::filled();
    let board = &server.served.board;
    let row = |id: &str, count: i64| {
        json!({
            "entity_id": id, "country": "NL", "count": count, "browsers": 1,
        })
    };
    let mut all = server.listen("/views/trending/changes", None);
    let (name, id, data) = all.next().unwrap();
    assert_eq!((&*name, &*id), ("snapshot", "2000"));
    let rows = json!([row("p1", 12), row("p2", 9)]);
    assert_eq!(data, json!({"tick": 2_000, "rows": rows}));
    board.apply(0, 3_000, vec![(self::row("p2", 9), -1)]);
    board.complete(3_000);
    let (name, id, data) = all.next().unwrap();
    assert_eq!((&*name, &*id), ("change", "3000"));
    assert_eq!(
        data,
        json!({"tick": 3_000, "gone": [row("p2", 9)], "rows": []})
    );

    let mut again = server.listen("/views/trending/changes", Some("1000"));
    let (name, _, data) = again.next().unwrap();
    assert_eq!(name, "change");
    assert_eq!(data["rows"], json!([row("p1", 12)]));
    assert_eq!(data["gone"], json!([row("p2", 9), row("p1", 5)]));
    board.complete(30_000);
    for last in ["1000", "nonsense", "99999999999999999999"] {
        let mut late = server.listen("/views/trending/changes", Some(last));
        assert_eq!(late.next().unwrap().0, "snapshot", "{last}");
    }
}

#[test]
fn orders_come_newest_first_and_each_as_it_comes_or_is_corrected() {
    let server = Server::filled();
    let orders = server.get("/orders?limit=1").json();
    assert_eq!(orders["tick"], 2_000);
    let values = |orders: &Value| -> Vec<i64> {
        let orders = orders["orders"].as_array().unwrap().iter();
        orders.map(|o| o["value"].as_i64().unwrap()).collect()
    };
    assert_eq!(values(&orders), [200]);
    let mut all = server.listen("/orders/changes", None);
    let (name, id, data) = all.next().unwrap();
    assert_eq!((&*name, &*id), ("snapshot", "s1-2"));
    assert_eq!(values(&data), [200, 100]);
    let more = vec![order(1, 101), order(3, 300)];
    server.served.orders.apply(3_000, more);
    server.complete(3_000);
    let mut two = [all.next().unwrap(), all.next().unwrap()];
    two.sort_by_key(|(.., data)| data["value"].as_i64());
    let told = two
        .iter()
        .map(|(name, id, data)| (&**name, &**id, data["value"].as_i64().unwrap()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [("order", "", 101), ("order", "s1-4", 300)]
    );

    let mut again = server.listen("/orders/changes", Some("s1-3"));
    let (name, _, data) = again.next().unwrap();
    assert_eq!((&*name, &data["value"]), ("order", &json!(300)));
    let mut other = server.listen("/orders/changes", Some("s0-3"));
    assert_eq!(other.next().unwrap().0, "snapshot", "of another start");
}

#[test]
fn open_visits_and_profiles_are_asked_of_the_dataflow() {
    let server = Server::filled();
    let newest = server.get("/visits").json();
    assert_eq!(newest["tick"], 1_000);
    let started = newest["visits"].as_array().unwrap().iter();
    let started: Vec<_> = started.map(|v| v["started"].as_i64().unwrap()).collect();
    assert_eq!(started, [9, 7], "lately begun first, of all workers");
    let one = server.get("/visits?limit=1").json();
    assert_eq!(one["visits"].as_array().unwrap().len(), 1);
    let own = server.get("/visits?browser=b1").json();
    assert_eq!(own["visits"][0]["browser_id"], "b1");
    let none = server.get("/visits?browser=b2").json();
    assert_eq!(none["visits"], json!([]));
    let visit = server.get(&format!("/visits/{VISIT}")).json();
    assert_eq!(
        (&visit["visit_id"], &visit["tick"]),
        (&json!(VISIT), &json!(1_000))
    );
    assert_eq!(visit["facts"].as_array().unwrap().len(), 1);
    let said = server.get(&format!("/visits/{VISIT:0>32}").replace('a', "b"));
    assert!(said.problem(404).contains("is open at 1000"));
    let profile = server.get("/profiles/c%201").json();
    assert_eq!(profile["profile"], json!({"orders": 2}));
    server.get("/profiles/c2").problem(404);

    *server.dataflow.visit.lock().unwrap() = Answer::Ended {
        tick: 900,
        reason: "inactivity".into(),
    };
    let said = server.get(&format!("/visits/{VISIT}")).problem(410);
    assert!(said.contains("ended at 900 (inactivity)"), "{said}");
    let path = format!("/visits/{VISIT}/changes");
    server.get(&path).problem(410);
}

#[test]
fn a_visit_is_told_whenever_it_has_grown_until_its_end() {
    let server = Server::filled();
    let mut events = server.listen(&format!("/visits/{VISIT}/changes"), None);
    let mut next = |facts: usize| {
        let (name, _, data) = events.next().unwrap();
        assert_eq!(name, "visit");
        assert_eq!(data["facts"].as_array().unwrap().len(), facts);
    };
    next(1);
    *server.dataflow.visit.lock().unwrap() = whole(3);
    next(3);
    *server.dataflow.visit.lock().unwrap() = Answer::Ended {
        tick: 1_700,
        reason: "length".into(),
    };
    let (name, _, data) = events.next().unwrap();
    assert_eq!(name, "end");
    assert_eq!(
        data,
        json!({"visit_id": VISIT, "tick": 1_700, "reason": "length"})
    );
    assert_eq!(events.next(), None);
}

#[test]
fn who_is_not_answered_hears_why() {
    let short = Limits {
        timeout: Duration::from_millis(1),
        ..limits()
    };
    let server = Server::with(Access::default(), short);
    server.served.desk.wake_by(|| ());
    let said = server.get("/visits").problem(504);
    assert!(said.contains("no answer within 1 ms"), "{said}");
    server.served.desk.close("the job has ended");
    let reply = server.get("/visits");
    assert_eq!(reply.problem(503), "the job has ended");
    assert_eq!(reply.headers["retry-after"], "1");
}

#[test]
fn a_hold_gives_the_live_rest_of_its_version_until_it_ends() {
    let server = Server::filled();
    let boundary = server.get("/boundary").json();
    let version = json!({"version": 3, "tick": 900});
    assert_eq!(
        boundary,
        json!({
            "table": {"path": "tables/identified", "measurements": version, "visits": version}, "tick": 900,
        })
    );
    let reply = server.ask("POST", "/boundary/holds", &[], "");
    assert_eq!(reply.status, 201);
    let hold = reply.json();
    assert_eq!((&hold["version"], &hold["tick"]), (&json!(3), &json!(900)));
    let path = format!("/boundary/holds/{}", hold["hold"].as_str().unwrap());
    assert_eq!(reply.headers["location"], path);
    assert_eq!(server.served.holds.least().load(Ordering::SeqCst), 900);

    let reply = server.get(&format!("{path}/visits"));
    assert_eq!(reply.headers["content-type"], "application/x-ndjson");
    let lines: Vec<Value> = reply
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[0], json!({"tick": 1_000}));
    assert_eq!(lines.len(), 1 + 1_501);
    assert_eq!(lines[1]["end_reason"], json!(null));
    assert_eq!(lines[1_501]["end_reason"], "size");

    let json = [("Content-Type", "application/json")];
    let longer = server.ask("PUT", &path, &json, "{\"seconds\": 600}").json();
    assert!(longer["until"].as_i64() > hold["until"].as_i64());
    let ended = server.ask("DELETE", &path, &[], "");
    assert_eq!((ended.status, &*ended.body), (204, ""));
    assert_eq!(server.served.holds.least().load(Ordering::SeqCst), u64::MAX);
    for (method, path) in [
        ("GET", &*format!("{path}/visits")),
        ("PUT", &path),
        ("DELETE", &path),
    ] {
        let said = server.ask(method, path, &[], "").problem(410);
        assert!(said.contains("take a new one"), "{said}");
    }
}

#[test]
fn rows_that_are_not_kept_any_more_are_never_given() {
    let server = Server::filled();
    let hold = server.ask("POST", "/boundary/holds", &[], "").json();
    let path = format!("/boundary/holds/{}/visits", hold["hold"].as_str().unwrap());
    server.dataflow.kept.store(901, Ordering::SeqCst);
    server.get(&path).problem(410);
    server.dataflow.kept.store(0, Ordering::SeqCst);
    server.get(&path).problem(410);
    // A version that was let go of before it could be held.
    server.dataflow.kept.store(901, Ordering::SeqCst);
    let said = server.ask("POST", "/boundary/holds", &[], "").problem(503);
    assert!(said.contains("faster than one can be held"), "{said}");
    assert_eq!(server.served.holds.least().load(Ordering::SeqCst), u64::MAX);
    // What is live must be of later than what is held: as of a tick, what was sealed at it is open.
    server.dataflow.kept.store(0, Ordering::SeqCst);
    let hold = server.ask("POST", "/boundary/holds", &[], "").json();
    let path = format!("/boundary/holds/{}/visits", hold["hold"].as_str().unwrap());
    server.dataflow.tick.store(900, Ordering::SeqCst);
    server.get(&path).problem(503);
}

#[test]
fn a_body_is_small_json_that_says_seconds() {
    let server = Server::filled();
    let post = |kind: &str, body: &str| {
        server.ask("POST", "/boundary/holds", &[("Content-Type", kind)], body)
    };
    let json = "application/json; charset=utf-8";
    assert_eq!(post(json, "{}").status, 201);
    assert_eq!(post(json, "{\"seconds\": 1}").status, 201);
    for body in [
        "{\"seconds\": 0}",
        "{\"seconds\": 601}",
        "{\"seconds\": -1}",
        "{\"minutes\": 1}",
        "[",
    ] {
        let said = post(json, body).problem(400);
        assert!(
            said.contains("expected {\"seconds\": N} with N a whole number from 1 to 600"),
            "{said}"
        );
    }
    let said = post("text/plain", "{}").problem(415);
    assert!(said.contains("expected application/json"), "{said}");
    let long = format!("{{\"seconds\": {}}}", " ".repeat(5_000));
    let said = post(json, &long).problem(413);
    assert!(said.contains("at most 4096 bytes"), "{said}");
}

const TOKENS: &str =
    "identified 0123456789abcdef-i\nanonymous 0123456789abcdef-a\noperations 0123456789abcdef-o\n";

#[test]
fn a_token_opens_what_its_scope_says_and_nothing_else() {
    let access = Access::parse(TOKENS, "tokens").unwrap();
    let server = Server::with(access, limits());
    server.fill();
    for (path, open) in [
        ("/", "iao-"),
        ("/openapi.json", "iao-"),
        ("/healthz", "iao-"),
        ("/metrics", "o"),
        ("/progress", "iao"),
        ("/why", "iao"),
        ("/views", "ia"),
        ("/views/trending", "ia"),
        ("/boundary", "ia"),
        ("/orders", "i"),
        ("/visits", "i"),
        (&format!("/visits/{VISIT}"), "i"),
        ("/profiles/c%201", "i"),
        (
            "/boundary/holds/0000000000000000000000000000002a/visits",
            "i",
        ),
    ] {
        for who in ["i", "a", "o", "x", "-"] {
            let token = format!("0123456789abcdef-{who}");
            let bearer = format!("Bearer {token}");
            let header = [("Authorization", &*bearer), ("Host", "shop.example.com")];
            let headers = if who == "-" {
                &header[1..]
            } else {
                &header[..]
            };
            let reply = server.ask("GET", path, headers, "");
            let public = open.contains('-');
            match who {
                _ if public || open.contains(who) => {
                    assert!(
                        [200, 410].contains(&reply.status),
                        "{path} {who}: {reply:?}"
                    );
                }
                "x" | "-" => {
                    reply.problem(401);
                    assert!(reply.headers["www-authenticate"].starts_with("Bearer"));
                }
                _ => drop(reply.problem(403)),
            }
            assert!(!reply.body.contains(&token), "a token is never said");
            if who != "-" {
                let same = server.get(&format!("{path}?token={token}"));
                assert_eq!(same.status, reply.status, "{path} {who}");
            }
        }
    }
    for wrong in ["Basic 0123456789abcdef-i", "Bearer", "0123456789abcdef-i"] {
        let header = [("Authorization", wrong)];
        server.ask("GET", "/views", &header, "").problem(401);
    }
}

#[test]
fn without_tokens_only_this_machine_is_answered_by_a_name_of_its_own() {
    let server = Server::filled();
    for host in ["localhost", "127.0.0.1:8080", "[::1]:1"] {
        let reply = server.ask("GET", "/views", &[("Host", host)], "");
        assert_eq!(reply.status, 200, "{host}");
    }
    for host in ["example.com", "127.0.0.1.example.com", "192.0.2.1"] {
        let reply = server.ask("GET", "/views", &[("Host", host)], "");
        assert!(reply.problem(403).contains("localhost"));
    }
}

#[test]
fn so_many_listen_at_a_time_and_a_place_that_is_left_is_free() {
    let server = Server::filled();
    let mut all: Vec<Events> = (0..4)
        .map(|_| server.listen("/views/trending/changes", None))
        .collect();
    let said = server.get("/orders/changes").problem(503);
    assert_eq!(said, "4 subscribers listen already (serve.subscribers)");
    all.pop();
    let began = Instant::now();
    // Who has gone is seen when something is to be said, or when the connection ends.
    while server
        .ask("HEAD", "/views/trending/changes", &[], "")
        .status
        != 200
    {
        assert!(began.elapsed() < EVER);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn progress_is_told_at_once_and_then_each_second() {
    let server = Server::filled();
    assert_eq!(server.get("/progress").json()["job"], "shop");
    let mut events = server.listen("/progress/changes", None);
    for _ in 0..2 {
        let (name, _, data) = events.next().unwrap();
        assert_eq!((&*name, &data["job"]), ("progress", &json!("shop")));
    }
    assert_eq!(server.get("/why").body, "shop: running\n");
    assert_eq!(server.get("/metrics").body, "# metrics\n");
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    assert_eq!(server.get("/metrics").headers["content-type"], kind);
}

#[test]
fn whoever_asks_for_nothing_is_no_harm_to_the_next() {
    let server = Server::filled();
    let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'x'; 1 << 20]].concat();
    let mut idle = Vec::new();
    for bytes in [
        &b""[..],
        b"GET /metr",
        b"\xff\xfe\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\n",
        &long,
    ] {
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(bytes);
        idle.push(stream);
    }
    assert_eq!(server.get("/healthz").body, "ok\n");
}
