//! Serves a job's metrics over HTTP: `GET /metrics` for Prometheus, `GET /healthz` for whoever asks
//! whether the process lives. One request at a time, each within its time, on a thread of its own. It
//! is no web server: whatever else is asked for is not there.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, ToSocketAddrs};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::{ObserveError, exposition};
use crate::job::Job;
use crate::run::{Handle, rules};

/// How often it is looked whether anybody calls, and whether the run has ended.
const LOOK: Duration = Duration::from_millis(20);
/// How long a caller may take to say what it wants, and to take the answer.
const MANNERS: Duration = Duration::from_secs(2);
/// How long a request may be, in bytes.
const LONGEST: usize = 8 << 10;

/// An address that is taken; nobody is answered yet.
pub struct Listening {
    listener: TcpListener,
    address: SocketAddr,
}

/// The thread that answers.
pub struct Serving(JoinHandle<()>);

/// Takes the address that a job has set, if it has: process 0 the port itself, process `i` the one
/// that is higher by `i`. Port 0 is any free one.
///
/// # Errors
/// No such address on this host, or a port that is taken.
pub fn listen(job: &Job, process: usize) -> Result<Option<Listening>, ObserveError> {
    let Some(setting) = &job.observe.metrics else {
        return Ok(None);
    };
    let wrong = |problem: String| ObserveError::Address {
        address: setting.clone(),
        process,
        problem,
    };
    let found = setting
        .to_socket_addrs()
        .map_err(|error| wrong(error.to_string()))?;
    let addresses = found.map(|mut address| {
        let own = match address.port() {
            0 => 0,
            port => u16::try_from(process).ok()?.checked_add(port)?,
        };
        address.set_port(own);
        Some(address)
    });
    let addresses: Option<Vec<SocketAddr>> = addresses.collect();
    let addresses = addresses.ok_or_else(|| wrong("no port is so high".to_owned()))?;
    let bind = || {
        let listener = TcpListener::bind(&addresses[..])?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Listening { listener, address })
    };
    let bound: io::Result<Listening> = bind();
    bound.map(Some).map_err(|error| wrong(error.to_string()))
}

impl Listening {
    /// Where.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until the run has ended.
    ///
    /// # Errors
    /// No thread can be had.
    pub fn serve(self, job: &Job, process: usize, handle: Handle) -> Result<Serving, ObserveError> {
        let (job, rules) = (job.clone(), rules(job));
        let work = move || {
            let text = || exposition::text(&job, process, &handle, rules);
            answer_all(&self.listener, &text, &|| handle.ended());
        };
        let thread = std::thread::Builder::new().name("metrics".into());
        thread
            .spawn(work)
            .map(Serving)
            .map_err(ObserveError::Thread)
    }
}

impl Serving {
    /// Waits for its end, which comes with the run's.
    pub fn join(self) {
        let _ = self.0.join();
    }
}

fn answer_all(listener: &TcpListener, metrics: &dyn Fn() -> String, ended: &dyn Fn() -> bool) {
    while !ended() {
        match listener.accept() {
            // Whoever calls and goes away, or never says what it wants, harms nobody.
            Ok((stream, _)) => drop(answer(stream, metrics)),
            Err(_) => std::thread::sleep(LOOK),
        }
    }
}

fn answer(mut stream: TcpStream, metrics: &dyn Fn() -> String) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_write_timeout(Some(MANNERS))?;
    let request = hear(&mut stream)?;
    let (status, body) = reply(&request, metrics);
    let kind = if status.starts_with("200") && body.starts_with('#') {
        exposition::CONTENT_TYPE
    } else {
        "text/plain; charset=utf-8"
    };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes())?;
    if !request.starts_with("HEAD ") {
        stream.write_all(body.as_bytes())?;
    }
    stream.flush()
}

/// The first line of a request. What follows is read and not looked at, up to the empty line.
fn hear(stream: &mut TcpStream) -> io::Result<String> {
    let until = Instant::now() + MANNERS;
    let mut bytes = Vec::new();
    let mut buffer = [0; 1_024];
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() || bytes.len() > LONGEST {
            return Err(io::ErrorKind::InvalidData.into());
        }
        stream.set_read_timeout(Some(left))?;
        match stream.read(&mut buffer)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => bytes.extend_from_slice(&buffer[..read]),
        }
    }
    let line = bytes.split(|byte| *byte == b'\r').next();
    Ok(String::from_utf8_lossy(line.unwrap_or_default()).into_owned())
}

/// The status and the body for a request's first line.
fn reply(line: &str, metrics: &dyn Fn() -> String) -> (&'static str, String) {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if !matches!(method, "GET" | "HEAD") {
        return ("405 Method Not Allowed", "only GET and HEAD\n".to_owned());
    }
    match path.split('?').next().unwrap_or("") {
        "/metrics" => ("200 OK", metrics()),
        "/healthz" => ("200 OK", "ok\n".to_owned()),
        _ => ("404 Not Found", "only /metrics and /healthz\n".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// What a server says to each of these requests.
    fn ask(requests: &[&[u8]]) -> Vec<String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let ended = AtomicBool::new(false);
        let metrics = || "# metrics\n".to_owned();
        std::thread::scope(|scope| {
            scope.spawn(|| answer_all(&listener, &metrics, &|| ended.load(Ordering::Relaxed)));
            let ask = |request: &&[u8]| {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.write_all(request).unwrap();
                stream.shutdown(std::net::Shutdown::Write).unwrap();
                let mut answer = String::new();
                // One that is not answered may end with a reset.
                let _ = stream.read_to_string(&mut answer);
                answer
            };
            let answers = requests.iter().map(ask).collect();
            ended.store(true, Ordering::Relaxed);
            answers
        })
    }

    #[test]
    fn metrics_and_health_are_there_and_nothing_else() {
        let answers = ask(&[
            b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n",
            b"GET /metrics?name=x HTTP/1.0\r\n\r\n",
            b"HEAD /metrics HTTP/1.1\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\n\r\n",
            b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        ]);
        let firsts: Vec<&str> = answers.iter().map(|a| a.lines().next().unwrap()).collect();
        let (ok, none) = ("HTTP/1.1 200 OK", "HTTP/1.1 404 Not Found");
        let not = "HTTP/1.1 405 Method Not Allowed";
        assert_eq!(firsts, [ok, ok, ok, ok, none, not]);
        let body = |n: usize| answers[n].split_once("\r\n\r\n").unwrap().1;
        assert_eq!(
            [0, 2, 3].map(body),
            ["# metrics\n", "", "ok\n"],
            "{answers:?}"
        );
        assert!(answers[0].contains("Content-Type: text/plain; version=0.0.4"));
        assert!(answers[2].contains("Content-Length: 10\r\n"));
    }

    #[test]
    fn whoever_asks_for_nothing_is_no_harm_to_the_next() {
        let long = [&b"GET /metrics HTTP/1.1\r\nX: "[..], &[b'x'; 20_000]].concat();
        let answers = ask(&[
            b"",
            b"GET /metr",
            &long,
            b"\xff\xfe\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\n\r\n",
        ]);
        assert_eq!(answers[..2], ["", ""]);
        assert!(answers[3].starts_with("HTTP/1.1 405"), "{answers:?}");
        assert!(answers[4].ends_with("ok\n"), "{answers:?}");
    }
}
