//! A disk that is full stops a job with a message, and when there is room again it goes on.

use std::path::Path;
use std::process::Command;

use visitflow::generate::Limits;
use visitflow::run::{self, Options};

use crate::outputs::{Reading, agree, consume, tables, visits_sha256};
use crate::place::Place;

/// A file system of its own, of a few bytes.
struct Small<'a>(&'a Path);

impl Small<'_> {
    /// None if this user may not make one.
    fn mount<'a>(dir: &'a Path, size: &str) -> Option<Small<'a>> {
        std::fs::create_dir_all(dir).unwrap();
        let made = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir)
            .stderr(std::process::Stdio::null())
            .status();
        made.is_ok_and(|status| status.success())
            .then_some(Small(dir))
    }

    fn resize(&self, size: &str) {
        let options = format!("remount,size={size}");
        let done = Command::new("mount")
            .args(["-o", &options])
            .arg(self.0)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Small<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_stops_the_job_and_when_there_is_room_it_goes_on() {
    let place = Place::new();
    let state = place.path("state");
    let Some(small) = Small::mount(&state, "6m") else {
        eprintln!("SKIPPED: a full disk: this user may not mount a small file system");
        return;
    };
    let truth = place.shop(150_000, 5, 3, Limits::default());
    let dir = format!("state.dir={}", state.display());
    let settings = [
        &*dir,
        "state.memory=1MB",
        "state.snapshots=100ms",
        "workers=2",
    ];
    let error = run::run(
        Options::of(place.job("", "log-to-files", &settings)),
        |_| (),
    )
    .expect_err("the measurements of open visits do not fit");
    let said = error.to_string();
    assert!(said.contains("No space left on device"), "{said}");

    small.resize("500m");
    let summary = run::run(
        Options::of(place.job("", "log-to-files", &settings)),
        |_| (),
    )
    .unwrap();
    assert!(!summary.stopped);
    let consumed = consume(&place.path("topics"), &Reading::default());
    let tables = tables(&place.path("files"));
    agree(&consumed, &tables);
    assert_eq!(consumed.tags.len() as u64, truth.tagged);
    assert_eq!(visits_sha256(&tables.visits), truth.visits_sha256);
}
