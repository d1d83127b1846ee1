//! The readers themselves: subscribers to all views in turn, and connections on which one read follows
//! another, each counted from its scheduled time, whether the one before has been slow or not. One thread, which looks at bytes
//! only as far as it must.

use std::cell::{Cell, RefCell};
use std::io::{BufRead, Read, Write};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until};

use crate::at;
use crate::readers::{READS, SUBSCRIBERS, Seen};

/// What is read at once.
const BUFFER: usize = 256 << 10;
/// How often it is looked whether anything is asked.
const LOOK: Duration = Duration::from_millis(10);

const SETTLE: u8 = 0;
const COUNT: u8 = 1;
const TELL: u8 = 2;

/// What all tasks share.
struct Shared {
    address: SocketAddr,
    buffer: RefCell<Vec<u8>>,
    counts: Cell<bool>,
    /// Subscribers who have heard something.
    heard: Cell<usize>,
    seen: RefCell<Seen>,
    /// How long the reads of each kind took, in µs.
    took: RefCell<[Vec<u64>; 4]>,
}

pub fn client(address: SocketAddr, visits: bool) {
    let views = ask(address, "/views");
    let views = views["views"].as_array().expect("views").iter();
    let views: Vec<String> = views
        .filter_map(|view| view["name"].as_str().map(str::to_owned))
        .collect();
    let state = Arc::new(AtomicU8::new(SETTLE));
    let asked = state.clone();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            let to = if line == "count" { COUNT } else { TELL };
            asked.store(to, Ordering::Relaxed);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()
        .expect("a runtime");
    let kinds = kinds(&views, visits.then(|| open_visits(address)));
    LocalSet::new().block_on(&runtime, all(address, views, kinds, state));
}

/// Reads of a kind: their paths in turn, how many there are a second, and the connections that share
/// them, which are others' for each kind, so that none waits for another's answer.
struct Kind {
    paths: Vec<String>,
    rate: u64,
    connections: u64,
}

/// In the order of [`KINDS`](crate::readers::KINDS).
fn kinds(views: &[String], visits: Option<Vec<String>>) -> [Kind; 4] {
    let view = |name: &String| match &**name {
        "suggestions" => "/views/suggestions?prefix=b&limit=8".to_owned(),
        name => format!("/views/{name}"),
    };
    let of_visits = if visits.is_some() { 300 } else { 0 };
    let kind = |paths, rate, connections| Kind {
        paths,
        rate,
        connections,
    };
    let visit = |id: &String| format!("/visits/{id}");
    [
        kind(
            views.iter().map(view).collect(),
            READS - 300 - of_visits,
            16,
        ),
        kind(visits.iter().flatten().map(visit).collect(), of_visits, 16),
        kind(vec!["/progress".to_owned()], 200, 4),
        kind(vec!["/boundary".to_owned()], 100, 2),
    ]
}

/// Some, as soon as there are any.
fn open_visits(address: SocketAddr) -> Vec<String> {
    loop {
        let visits = ask(address, "/visits?limit=50");
        let visits = visits["visits"].as_array().into_iter().flatten();
        let ids = visits.filter_map(|visit| visit["visit_id"].as_str().map(str::to_owned));
        let ids: Vec<String> = ids.collect();
        if !ids.is_empty() {
            return ids;
        }
        std::thread::sleep(LOOK);
    }
}

fn ask(address: SocketAddr, path: &str) -> Value {
    let mut stream = std::net::TcpStream::connect(address).expect("a job that is served");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    serde_json::from_str(body).unwrap_or_default()
}

async fn all(address: SocketAddr, views: Vec<String>, kinds: [Kind; 4], state: Arc<AtomicU8>) {
    let shared = Rc::new(Shared {
        address,
        buffer: vec![0; BUFFER].into(),
        counts: Cell::default(),
        heard: Cell::default(),
        seen: RefCell::default(),
        took: RefCell::default(),
    });
    for n in 0..SUBSCRIBERS {
        let path = format!("/views/{}/changes", views[n % views.len()]);
        spawn_local(subscribe(shared.clone(), path));
    }
    let (began, kinds) = (Instant::now(), Rc::new(kinds));
    for (kind, of) in kinds.iter().enumerate() {
        for n in 0..if of.rate > 0 { of.connections } else { 0 } {
            spawn_local(read(shared.clone(), kinds.clone(), kind, n, began));
        }
    }
    while shared.heard.get() < SUBSCRIBERS {
        sleep(LOOK).await;
    }
    println!("ready");
    let mut since = Instant::now();
    loop {
        sleep(LOOK).await;
        match state.swap(SETTLE, Ordering::Relaxed) {
            COUNT => {
                since = Instant::now();
                shared.counts.set(true);
            }
            TELL => {
                shared.counts.set(false);
                let mut seen = shared.seen.take();
                seen.seconds = since.elapsed().as_secs_f64();
                for (mut took, seen) in shared.took.take().into_iter().zip(&mut seen.took) {
                    took.sort_unstable();
                    *seen = [0.5, 0.99, 1.0].map(|part| at(&took, part));
                }
                println!("{}", serde_json::to_string(&seen).expect("numbers"));
            }
            _ => (),
        }
    }
}

async fn send(stream: &TcpStream, request: &[u8]) -> Option<()> {
    let mut rest = request;
    while !rest.is_empty() {
        stream.writable().await.ok()?;
        match stream.try_write(rest) {
            Ok(sent) => rest = &rest[sent..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
    Some(())
}

/// Waits for bytes, and gives them to `take`; `None` at the end.
async fn receive(
    stream: &TcpStream,
    shared: &Shared,
    mut take: impl FnMut(&[u8]),
) -> Option<usize> {
    loop {
        stream.readable().await.ok()?;
        let mut buffer = shared.buffer.borrow_mut();
        match stream.try_read(&mut buffer) {
            Ok(0) => return None,
            Ok(length) => {
                take(&buffer[..length]);
                return Some(length);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => (),
            Err(_) => return None,
        }
    }
}

fn request(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into()
}

/// Listens to a view for as long as it is told anything.
async fn subscribe(shared: Rc<Shared>, path: String) -> Option<()> {
    let stream = TcpStream::connect(shared.address).await.ok()?;
    send(&stream, &request(&path)).await?;
    let (mut new, mut ended) = (true, false);
    loop {
        let mut events = 0;
        let take = |bytes: &[u8]| {
            // An event ends with an empty line, which may lie in two reads.
            events = memchr::memmem::find_iter(bytes, b"\n\n").count() as u64;
            events += u64::from(ended && bytes[0] == b'\n');
            ended = bytes[bytes.len() - 1] == b'\n';
        };
        let length = receive(&stream, &shared, take).await?;
        if new && events > 0 {
            new = false;
            shared.heard.set(shared.heard.get() + 1);
        }
        if shared.counts.get() {
            let mut seen = shared.seen.borrow_mut();
            seen.events += events;
            seen.event_bytes += length as u64;
        }
    }
}

/// Reads one thing of a kind after another at the times of this connection.
async fn read(
    shared: Rc<Shared>,
    kinds: Rc<[Kind; 4]>,
    kind: usize,
    own: u64,
    began: Instant,
) -> Option<()> {
    let Kind {
        paths,
        rate,
        connections,
    } = &kinds[kind];
    let stream = TcpStream::connect(shared.address).await.ok()?;
    let mut answer = Vec::new();
    for n in (own..).step_by(*connections as usize) {
        let scheduled = began + Duration::from_micros(n * 1_000_000 / rate);
        sleep_until(scheduled).await;
        let path = &paths[n as usize % paths.len()];
        send(&stream, &request(path)).await?;
        answer.clear();
        while !whole(&answer) {
            receive(&stream, &shared, |bytes| answer.extend_from_slice(bytes)).await?;
        }
        if shared.counts.get() {
            let mut seen = shared.seen.borrow_mut();
            seen.reads += 1;
            seen.wrong += u64::from(!answer.starts_with(b"HTTP/1.1 200 "));
            seen.read_bytes += answer.len() as u64;
            let took = scheduled.elapsed().as_micros() as u64;
            shared.took.borrow_mut()[kind].push(took);
        }
    }
    Some(())
}

/// Whether an answer is there with all of its body.
fn whole(answer: &[u8]) -> bool {
    let Some(head) = memchr::memmem::find(answer, b"\r\n\r\n") else {
        return false;
    };
    const LENGTH: &[u8] = b"content-length: ";
    let length =
        memchr::memmem::find(&answer[..head], LENGTH).map(|at| &answer[at + LENGTH.len()..]);
    let digits = length
        .into_iter()
        .flatten()
        .take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    answer.len() >= head + 4 + length
}
