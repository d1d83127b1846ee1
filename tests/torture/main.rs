//! Torture: a job runs on living traffic and is killed again and again, in every way that is known;
//! in the end its outputs must be the right answer, as if nothing had happened.
//!
//! ```console
//! $ scripts/torture --seed 7 --kills 200
//! $ scripts/torture --seed 7 --kills 200 --kafka
//! ```
//! With Kafka and an odd seed the journal is there too, as for processes on several hosts. The job keeps
//! profiles, but of each fourth seed: only without them does one go on that has replaced a sleeping one.
//! Without arguments, as among the tests, a few dozen kills of a fixed seed. What it does follows from
//! the seed; when it happens, from the machine.

#[path = "../named/mod.rs"]
#[allow(dead_code)]
mod named;
#[path = "../whole/outputs.rs"]
#[allow(dead_code)]
mod outputs;

mod answer;
mod broker;
mod disk;
mod hanging;
mod job;
mod lookups;
mod report;
mod traffic;
mod views;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use job::{Place, Running};
use report::{Report, What};

/// What is asked for.
struct Arguments {
    seed: u64,
    kills: usize,
    kafka: bool,
    rate: u64,
    keep: bool,
}

fn arguments() -> Arguments {
    let mut asked = Arguments {
        seed: 1,
        kills: 24,
        kafka: false,
        rate: 2_000,
        keep: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().and_then(|value| value.parse().ok());
            value.unwrap_or_else(|| panic!("{word}: expected a number behind it"))
        };
        match &*word {
            "--seed" => asked.seed = number(),
            "--kills" => asked.kills = number() as usize,
            "--rate" => asked.rate = number(),
            "--kafka" => asked.kafka = true,
            "--keep" => asked.keep = true,
            // What cargo gives to every test.
            "--nocapture" | "--quiet" | "-q" | "--test-threads" => {}
            other => eprintln!("torture: {other} is not known and passed over"),
        }
    }
    asked
}

/// A plain generator of random numbers, so that a seed says what is done.
pub struct Random(u64);

impl Random {
    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// One of some.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn main() -> ExitCode {
    let asked = arguments();
    let mut random = Random(asked.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let place = match Place::new(asked.kafka, asked.seed, asked.keep) {
        Ok(place) => place,
        Err(why) => {
            eprintln!("SKIPPED: torture: {why}");
            return ExitCode::SUCCESS;
        }
    };
    let mut traffic = traffic::start(&place, asked.rate, asked.seed);
    let mut report = Report::default();
    let began = Instant::now();
    while report.kills() < asked.kills {
        let workers = 1 + random.below(3) as usize;
        let processes = if random.below(4) == 0 { 2 } else { 1 };
        let mut what = What::some(&mut random, processes, asked.kafka);
        if what == What::FullDisk && place.disk.is_none() {
            what = What::KillAll;
        }
        let crash = what.crash_point(&mut random);
        let mut running = Running::start(&place, workers, processes, crash.as_deref());
        let delay = running.wait_for_progress();
        let pause = Duration::from_millis(random.below(1_500));
        match what.inflict(&place, &mut running, pause, &mut random) {
            Ok(done) => report.add(done, delay),
            Err(why) => {
                place.tell(&running);
                eprintln!("torture: seed {}: {what:?}: {why}", asked.seed);
                return ExitCode::FAILURE;
            }
        }
        if report.kills() % 20 == 0 {
            eprintln!("torture: {} of {} kills", report.kills(), asked.kills);
        }
    }
    traffic.stop();
    let took = began.elapsed();
    eprintln!("torture: the traffic ends; the job runs to the end of it");
    let served = match job::served_of_all(&place) {
        Ok(served) => served,
        Err(why) => {
            eprintln!(
                "torture: seed {}: the run that is served: {why}",
                asked.seed
            );
            return ExitCode::FAILURE;
        }
    };
    if let Err(why) = job::run_to_end(&place) {
        eprintln!("torture: seed {}: the last run: {why}", asked.seed);
        return ExitCode::FAILURE;
    }
    let answer = answer::compare(&place, traffic::LIMITS, traffic::PARTITIONS, &served);
    println!("{report}");
    if place.hanging.get() > 0 {
        let hanging = place.hanging.get();
        println!("{hanging} transactions that the broker had forgotten to end (KAFKA-20734)");
    }
    println!("{answer}");
    println!(
        "{} kills in {:.0} s, seed {}{}: 0 lost, 0 twice, no sealed visit contradicted",
        report.kills(),
        took.as_secs_f64(),
        asked.seed,
        if asked.kafka { ", with Kafka" } else { "" }
    );
    ExitCode::SUCCESS
}
