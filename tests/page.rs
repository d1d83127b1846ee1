//! The live page in a browser: `scripts/page test` looks at it against a made job, which has something of
//! everything, and against a real one that is at work.
//!
//! Where Node, npm or Chromium cannot be had this says SKIPPED, and by what.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A job that is killed when a test is over.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Looks at the page of a made job, or of that at a URL.
fn is_looked_at(what: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/page");
    let mut command = Command::new(script);
    let output = command.arg("test").args(what);
    let output = output.stdin(Stdio::null()).output().unwrap();
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    if output.status.code() == Some(3) {
        eprintln!("SKIPPED: the live page is not looked at:\n{said}");
        return;
    }
    assert!(output.status.success(), "{}: {said}", output.status);
    println!("{said}");
}

#[test]
fn the_live_page_is_what_a_reader_needs() {
    is_looked_at(&[]);
}

#[test]
fn so_is_that_of_a_job_that_is_at_work() {
    let dir = tempfile::tempdir().unwrap();
    let mut demo = Command::new(env!("CARGO_BIN_EXE_visitflow"));
    demo.args(["demo", "--plain", "--dir", "shop", "--rate", "1500"]);
    demo.current_dir(&dir).stdin(Stdio::null());
    let demo = demo.stdout(Stdio::piped()).stderr(Stdio::null());
    let mut demo = Running(demo.spawn().unwrap());
    let mut lines = BufReader::new(demo.0.stdout.take().unwrap()).lines();
    let address = |line: std::io::Result<String>| {
        let line = line.unwrap();
        let address = line.strip_prefix("the page is at ")?;
        Some(address.to_owned())
    };
    let url = lines.find_map(address).expect("it says where its page is");
    // Whoever says more than is heard stands still.
    std::thread::spawn(move || lines.for_each(drop));
    is_looked_at(&["--url", &url]);
}
