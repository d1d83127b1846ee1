//! What can be done to a job, and what it has cost.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use visitflow::crash;

use crate::Random;
use crate::disk::Disk;
use crate::job::{Place, Running};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    /// All processes die.
    KillAll,
    /// One of two dies; the other must end by itself.
    KillOne,
    /// A process dies at a named point.
    Crash(&'static str),
    /// A process dies in the middle of a write.
    Torn(&'static str),
    /// There is no room on the disk; it must say so and end, and so must those that are started
    /// before there is room again.
    FullDisk,
    /// It is asked to stop, and must end well.
    Stop,
    /// It sleeps, another is started, and it wakes again.
    Zombie,
    /// The broker dies and comes back.
    BrokerDies,
    /// The broker sleeps longer than a transaction may take.
    BrokerSleeps,
}

impl What {
    /// Something that can be done to so many processes.
    pub fn some(random: &mut Random, processes: usize, kafka: bool) -> What {
        match random.below(if kafka { 18 } else { 16 }) {
            0 | 1 if processes > 1 => What::KillOne,
            0..=2 => What::KillAll,
            3..=9 => What::Crash(random.of(crash::POINTS)),
            10..=12 => What::Torn(random.of(crash::WRITES)),
            13 => What::FullDisk,
            14 => What::Stop,
            15 => What::Zombie,
            16 => What::BrokerDies,
            _ => What::BrokerSleeps,
        }
    }

    /// The crash that a process is started with.
    pub fn crash_point(self, random: &mut Random) -> Option<String> {
        match self {
            What::Crash(point) => {
                // So often does a job come to it within a few seconds.
                let most = match point {
                    "journal-entry" | "journal-sync" => 30,
                    "topics-commit" | "topics-committed" => 30,
                    "version" | "versions-between" => 1,
                    _ => 3,
                };
                Some(format!("{point}:{}", 1 + random.below(most)))
            }
            What::Torn(write) => {
                let most = match write {
                    "torn-entry" | "torn-frame" => 30,
                    "torn-page" => 600,
                    "torn-block" => 2,
                    _ => 10,
                };
                let (n, percent) = (1 + random.below(most), random.below(100));
                Some(format!("{write}:{n}:{percent}"))
            }
            _ => None,
        }
    }

    /// Does it. What was done: a process that does not come to its point is killed.
    ///
    /// # Errors
    /// The job does not do what it must.
    pub fn inflict(
        self,
        place: &Place,
        running: &mut Running,
        pause: Duration,
        random: &mut Random,
    ) -> Result<What, String> {
        let expected = |running: &mut Running| {
            if running.has_died() {
                return Err("a process has died by itself".to_owned());
            }
            Ok(())
        };
        match self {
            What::Crash(_) | What::Torn(_) => {
                // It may die before it has begun, or not at all if nothing comes to the point.
                let mut left = 400;
                while !running.has_died() && left > 0 {
                    std::thread::sleep(Duration::from_millis(10));
                    left -= 1;
                }
                running.signal_all(Signal::KILL);
                let crashed = |said: &String| said.contains("crash: at");
                let ended = running.wait()?;
                let killed = ended.iter().all(|status| !status.success());
                let said = running.said();
                if killed && said.iter().any(crashed) {
                    return Ok(self);
                }
                if killed && left == 0 {
                    return Ok(What::KillAll);
                }
                Err(format!("it has ended by itself: {}", said.join("\n")))
            }
            What::KillAll => {
                std::thread::sleep(pause);
                expected(running)?;
                running.signal_all(Signal::KILL);
                running.wait().map(|_| self)
            }
            What::KillOne => {
                std::thread::sleep(pause);
                expected(running)?;
                running.signal(random.below(2) as usize, Signal::KILL);
                running.wait().map(|_| self)
            }
            What::FullDisk => {
                let disk = place.disk.as_ref().expect("there is one");
                std::thread::sleep(pause);
                expected(running)?;
                let left = random.below(3 << 20);
                full(disk, left, running)?;
                let mut again = Running::start(place, 2, 1, None);
                full(disk, left, &mut again)?;
                disk.clear();
                Ok(self)
            }
            What::Stop => {
                std::thread::sleep(pause);
                expected(running)?;
                running.signal(0, Signal::TERM);
                let ended = running.wait()?;
                if ended.iter().any(|status| !status.success()) {
                    return Err("it was asked to stop, and failed".to_owned());
                }
                Ok(self)
            }
            What::Zombie => {
                std::thread::sleep(pause);
                expected(running)?;
                running.signal_all(Signal::STOP);
                let mut other = Running::start(place, 2, 1, None);
                if place.bootstrap().is_none() {
                    // Partitions of the embedded log are locked by whoever writes them.
                    let ended = other.wait()?;
                    if ended.iter().any(|status| status.success()) {
                        return Err("a second one runs beside the first".to_owned());
                    }
                    running.signal_all(Signal::CONT);
                    running.signal_all(Signal::KILL);
                    return running.wait().map(|_| self);
                }
                if place.profiles {
                    other.wait_for_word("a process that this start has replaced must end first");
                } else {
                    other.wait_for_progress();
                }
                std::thread::sleep(pause);
                let before = other.progress();
                running.signal_all(Signal::CONT);
                // It must notice that it has been replaced, and end.
                let ended = running.wait()?;
                if ended.iter().any(|status| status.success()) {
                    return Err("a zombie has ended as if all were well".to_owned());
                }
                if place.profiles {
                    other.wait_for_progress();
                    if other.progress() <= before {
                        return Err(format!(
                            "who had replaced a zombie does not go on: {}",
                            other.said().join("\n")
                        ));
                    }
                }
                let known = other.has_died();
                other.signal_all(Signal::KILL);
                other.wait()?;
                if known {
                    return Err(format!(
                        "who had replaced a zombie has died of it: {}",
                        other.said().join("\n")
                    ));
                }
                Ok(self)
            }
            What::BrokerDies | What::BrokerSleeps => {
                let broker = place.broker.as_ref().expect("there is one");
                std::thread::sleep(pause);
                if self == What::BrokerDies {
                    broker.run(&["kill"]);
                    std::thread::sleep(pause * 2);
                    broker.run(&["restart"]);
                } else {
                    broker.run(&["pause"]);
                    std::thread::sleep(Duration::from_secs(8));
                    broker.run(&["resume"]);
                }
                let mut left = 4_500;
                let before = running.progress();
                while running.progress() <= before && left > 0 && !running.has_died() {
                    // A transaction that hangs does in each of its partitions, one after the other.
                    left = if running.end_what_hangs() {
                        4_500
                    } else {
                        left - 1
                    };
                    std::thread::sleep(Duration::from_millis(20));
                }
                expected(running)
                    .map_err(|_| format!("it has died: {}", running.said().join("\n")))?;
                if left == 0 {
                    return Err("nothing is committed since the broker is back".to_owned());
                }
                running.signal_all(Signal::KILL);
                running.wait().map(|_| self)
            }
        }
    }
}

/// Fills the disk, and goes on with it as the job gives room back, until it has ended, and has said why.
fn full(disk: &Disk, left: u64, running: &mut Running) -> Result<(), String> {
    let began = Instant::now();
    while !running.has_died() && began.elapsed() < FULL {
        disk.fill(left);
        running.end_what_hangs();
        std::thread::sleep(Duration::from_millis(500));
    }
    let ended = running.wait()?;
    let said = running.said();
    if ended.iter().all(|status| !status.success())
        && said
            .iter()
            .any(|said| said.contains("No space left on device"))
    {
        return Ok(());
    }
    Err(format!("not what a full disk does: {}", said.join("\n")))
}

/// How long a disk is filled again at most; a job writes without end.
const FULL: Duration = Duration::from_secs(60);

/// What was done, how often, and how long it took each time until something new was committed.
#[derive(Debug, Default)]
pub struct Report {
    done: BTreeMap<What, Vec<Duration>>,
}

impl Report {
    /// How often something was done.
    pub fn kills(&self) -> usize {
        self.done.values().map(Vec::len).sum()
    }

    /// Adds one, with the delay until the start before it had committed something new.
    pub fn add(&mut self, what: What, delay: Duration) {
        self.done.entry(what).or_default().push(delay);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<34} {:>5}  {:>22}",
            "what was done", "times", "s until new commits"
        )?;
        writeln!(f, "{:<34} {:>5}  {:>22}", "", "", "median, most")?;
        for (what, delays) in &self.done {
            let name = match what {
                What::KillAll => "all processes killed".to_owned(),
                What::KillOne => "one of two processes killed".to_owned(),
                What::Crash(point) => format!("killed at {point}"),
                What::Torn(write) => format!("killed within a {}", word(write)),
                What::FullDisk => "disk full, twice, and room again".to_owned(),
                What::Stop => "stopped".to_owned(),
                What::Zombie => "slept, replaced, woken".to_owned(),
                What::BrokerDies => "broker killed and restarted".to_owned(),
                What::BrokerSleeps => "broker away over the time-out".to_owned(),
            };
            let mut sorted = delays.clone();
            sorted.sort();
            let median = sorted[sorted.len() / 2].as_secs_f64();
            let most = sorted[sorted.len() - 1].as_secs_f64();
            let times = delays.len();
            writeln!(f, "{name:<34} {times:>5}  {median:>14.2}, {most:>6.2}")?;
        }
        Ok(())
    }
}

/// What is written, in words.
fn word(write: &str) -> &str {
    match write {
        "torn-entry" => "journal entry",
        "torn-frame" => "frame of the log",
        "torn-block" => "block of a run",
        "torn-page" => "page of a snapshot",
        _ => "small file",
    }
}
