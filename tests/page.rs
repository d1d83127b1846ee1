//! The live page in a browser: `scripts/page test` looks at it against a made job.
//!
//! Where Node, npm or Chromium cannot be had this says SKIPPED, and by what.

use std::path::Path;
use std::process::{Command, Stdio};

#[test]
fn the_live_page_is_what_a_reader_needs() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/page");
    let mut command = Command::new(script);
    let output = command.arg("test").stdin(Stdio::null()).output().unwrap();
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
