//! The readers, seen from the job's side: a process that is started, told when it counts, and asked
//! what it has seen.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde::{Deserialize, Serialize};

/// How many listen.
pub const SUBSCRIBERS: usize = 1_000;
/// How many reads there are a second.
pub const READS: u64 = 2_000;

/// What is read.
pub const KINDS: [&str; 4] = ["views", "visits", "progress", "boundary"];

/// What readers have seen while it counted.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    /// For how long it counted, in seconds.
    pub seconds: f64,
    /// Reads that were answered, and not with 200.
    pub reads: u64,
    pub wrong: u64,
    /// From the scheduled time of a read to its whole answer, in µs: median, 99th percentile, most of
    /// each kind.
    pub took: [[u64; 3]; 4],
    /// Bytes of the answers.
    pub read_bytes: u64,
    /// What subscribers were told, in events, comments among them, and in bytes.
    pub events: u64,
    pub event_bytes: u64,
}

/// The process.
pub struct Readers {
    child: Child,
    say: ChildStdin,
    hear: BufReader<ChildStdout>,
}

impl Readers {
    /// Starts them, and waits until all who listen have heard something. With visits, 300 of the reads
    /// a second are of open visits, which the workers must look for.
    pub fn start(address: SocketAddr, visits: bool) -> Readers {
        let own = std::env::current_exe().expect("this program");
        let mut child = Command::new(own)
            .args(["client", &address.to_string(), &visits.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("readers");
        let say = child.stdin.take().expect("asked for");
        let hear = BufReader::new(child.stdout.take().expect("asked for"));
        let mut readers = Readers { child, say, hear };
        assert_eq!(readers.line(), "ready");
        readers
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.hear.read_line(&mut line).expect("readers that live");
        line.trim_end().to_owned()
    }

    /// The number of their process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// From now on it counts.
    pub fn count(&mut self) {
        self.say.write_all(b"count\n").expect("readers that live");
    }

    /// What they have seen since; they go on until this is dropped.
    pub fn seen(&mut self) -> Seen {
        self.say.write_all(b"tell\n").expect("readers that live");
        serde_json::from_str(&self.line()).expect("what they have seen")
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
