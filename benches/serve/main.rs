//! What it costs a running job that many look at it, and how soon they see what has changed.
//!
//! `cargo bench --bench serve -- WHAT…`, without a word all of
//! - `load`: a job at a living shop's pace, without readers and with 1,000 subscribers and 2,000 reads
//!   a second in turn: the CPU time of its workers, and how far they are behind;
//! - `peak`: the same at 50,000 measurements a second;
//! - `replay`: the same job over a log that is there, as fast as it goes: its throughput;
//! - `visible`: from the scheduled time of sending to a subscriber who sees it in a view.
//!
//! Readers are a process of their own, one thread, that this program starts from itself; it shares the
//! machine's processors with the job, so the workers' own time says more than their throughput.

mod client;
mod feed;
mod load;
mod readers;
mod replay;
mod threads;
mod visible;

use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use feed::Pace;
use visitflow::job::JobFile;
use visitflow::run::{self, Handle, Options, Summary};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| !a.starts_with('-'))
        .collect();
    let mut asked: Vec<&str> = asked.iter().map(|word| &**word).collect();
    if let ["client", address, visits] = asked[..] {
        client::client(address.parse().expect("an address"), visits == "true");
        return;
    }
    if asked.is_empty() {
        asked = vec!["load", "peak", "replay", "visible"];
    }
    for what in asked {
        println!("== {what}");
        let dir = tempfile::tempdir().expect("a place for the bench");
        match what {
            "load" => load::load(dir.path(), Pace::Usual),
            "peak" => load::load(dir.path(), Pace::Peak),
            "replay" => replay::replay(dir.path()),
            "visible" => visible::visible(dir.path()),
            _ => panic!("{what}: none of what is measured here"),
        }
    }
}

/// The views of `examples/jobs/shop.toml`.
fn views() -> &'static str {
    let text = include_str!("../../examples/jobs/shop.toml");
    text.find("[[view]]").map_or("", |at| &text[at..])
}

/// A job from the log in this folder to topics and tables, two workers, served.
fn served(dir: &Path, name: &str, source: &str, views: &str) -> String {
    format!(
        "workers = 2\n[source]\nlog = '{}'\n{source}[outputs]\nlog = '{}'\nfiles = '{}'\n\
         [serve]\naddress = '127.0.0.1:0'\n{views}",
        dir.join("log").display(),
        dir.join(format!("{name}-topics")).display(),
        dir.join(format!("{name}-tables")).display(),
    )
}

/// For a job that follows its log, with state.
fn living(dir: &Path, views: &str) -> String {
    let state = dir.join("state");
    let state = format!(
        "[state]\ndir = '{}'\nsnapshots = '10s'\n{views}",
        state.display()
    );
    served(dir, "living", "follow = true\n", &state)
}

/// Starts a job on a thread of its own.
fn start(text: &str) -> (Handle, JoinHandle<Summary>) {
    let job = JobFile::parse(text, Path::new("bench.toml"), &[])
        .expect("a job")
        .job;
    let (tell, told) = mpsc::channel();
    let running = std::thread::spawn(move || {
        let watch = move |handle| {
            let _ = tell.send(handle);
        };
        run::run(Options::of(job), watch).expect("a run")
    });
    (told.recv().expect("a job that starts"), running)
}

/// What of all these lies at a part of the way from the least to the most.
fn at<T: Copy + Default>(sorted: &[T], part: f64) -> T {
    let last = sorted.len().saturating_sub(1);
    let found = sorted.get((last as f64 * part) as usize);
    found.copied().unwrap_or_default()
}
