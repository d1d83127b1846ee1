//! A whole job's protocol, simulated: in one thread, without timely, from a seed. Processes die and
//! sleep, power is cut, brokers are away, answers are lost, and the job is started again in the
//! middle of all that, with any number of processes and workers; and yet every record that came is
//! to be found exactly once in what was committed.
//!
//! The protocol is the real one ([`visitflow::recovery`]), and so is the logic (`Open`,
//! `Measurements`, `PartitionClock`). What stands between them is written down once more, as plain
//! as can be: the source, the sinks, snapshots, and timely's frontiers. Disk, brokers and tables are
//! simulated.
//!
//! `SIMULATION_SEEDS=N` runs that many seeds, `SIMULATION_SEED=N` one, whose last steps it shows
//! when it fails. To show that it would find a fault, each rule of the protocol is broken in turn
//! ([`Mistakes`]), and the simulation must fail.

mod broker;
mod chance;
mod disk;
mod files;
mod job;
mod judge;
mod mistakes;
mod partition;
mod schedule;
mod snapshots;
mod source;
mod start;
mod table;
mod topics;
mod visits;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use mistakes::Mistakes;
use world::Seen;

/// How many seeds are run.
const SEEDS: u64 = 3_000;

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(
        value
            .parse()
            .unwrap_or_else(|_| panic!("{name}={value} is no number")),
    )
}

/// Runs the schedule of a seed; what was seen, or what is wrong.
fn run(seed: u64, mistakes: Mistakes) -> Result<Seen, String> {
    let run = || schedule::run(seed, mistakes, false);
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(done) => done.map_err(|(wrong, _)| wrong),
        Err(_) => Err("a panic".to_owned()),
    }
}

#[test]
fn nothing_is_lost_and_nothing_is_said_twice() {
    let one = number("SIMULATION_SEED");
    let seeds = match one {
        Some(seed) => seed..seed + 1,
        None => 0..number("SIMULATION_SEEDS").unwrap_or(SEEDS),
    };
    let mut all = Seen::default();
    for seed in seeds {
        let wrong = match run(seed, Mistakes::default()) {
            Ok(seen) => {
                all.add(seen);
                continue;
            }
            Err(wrong) => wrong,
        };
        if let Err((_, trace)) = schedule::run(seed, Mistakes::default(), true) {
            trace.iter().for_each(|line| println!("{line}"));
        }
        panic!(
            "seed {seed}: {wrong}\nto see it again: SIMULATION_SEED={seed} cargo test --test simulation \
             nothing_is_lost"
        );
    }
    println!("{all:?}");
    // A storm in which nothing happens shows nothing.
    assert!(one.is_some() || all.is_lively(), "{all:?}");
}

/// The first seed that shows a mistake, which must be one of the first `within`. Without the mistake
/// all is well there.
fn found(mistakes: Mistakes, within: u64) {
    let seed = (0..within).find_map(|seed| Some((seed, run(seed, mistakes).err()?)));
    let Some((seed, found)) = seed else {
        panic!("no seed below {within} shows {mistakes:?}");
    };
    println!("seed {seed}: {found}");
    let sound = run(seed, Mistakes::default());
    assert!(sound.is_ok(), "seed {seed}: {sound:?}");
}

/// One test for each mistake.
macro_rules! mistakes {
    ($($mistake:ident within $within:literal,)*) => {
        /// Of how many seeds in a thousand each mistake shows; for whoever changes the simulation.
        #[test]
        #[ignore = "takes minutes, and only tells"]
        fn how_often_mistakes_show() {
            $(
                let mistakes = Mistakes {
                    $mistake: true,
                    ..Mistakes::default()
                };
                let shown = (0..1_000).filter(|seed| run(*seed, mistakes).is_err()).count();
                println!("{:>4} {}", shown, stringify!($mistake));
            )*
        }

        mod a_mistake_shows {
            $(
                #[test]
                fn $mistake() {
                    let mistakes = super::Mistakes {
                        $mistake: true,
                        ..super::Mistakes::default()
                    };
                    super::found(mistakes, $within);
                }
            )*
        }
    };
}

mistakes! {
    manifest_before_sinks within 1000,
    progress_before_fence within 1000,
    no_fence within 1000,
    capability_before_journal within 1000,
    above_largest within 1000,
    not_above_own within 1000,
    tick_by_worker within 1000,
    seal_when_noticed within 1000,
    cut_before_fence within 1000,
    no_cut within 1000,
    sealed_not_saved within 1000,
    table_opened_late within 1000,
    time_without_answer within 1000,
    cuts_forgotten within 1000,
    cut_not_durable within 1000,
}
