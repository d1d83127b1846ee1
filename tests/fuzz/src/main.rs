//! Fuzzes every decoder with libFuzzer, guided by coverage: hostile bytes never panic, end in an error value, and
//! never make us allocate beyond a constant times their size. For CI, by `scripts/fuzz`; it needs no nightly compiler,
//! since the passes that count coverage can be asked for on a stable one too.
//!
//! One program for all targets, of which the environment names one: `VISITFLOW_FUZZ=walk`. With `VISITFLOW_SEEDS=DIR` it
//! first writes real encodings there, for the fuzzer to begin with. Debug assertions and overflow checks are on.
//! It is not a proof: what a minute does not reach, it does not find.
#![no_main]

mod count;
mod seeds;
mod targets;

#[path = "../../../schemas/tests/arbitrary/mod.rs"]
#[allow(dead_code, missing_docs)]
mod arbitrary;

use std::sync::OnceLock;

use targets::{TARGETS, Target};

#[global_allocator]
static ALLOCATOR: count::Counting = count::Counting;

static TARGET: OnceLock<&Target> = OnceLock::new();

/// Finds the target and makes its seeds.
fn begin() {
    let wanted = std::env::var("VISITFLOW_FUZZ").unwrap_or_default();
    let names: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let Some(target) = TARGETS.iter().find(|target| target.name == wanted) else {
        // What scripts/fuzz asks for to fuzz them all.
        println!("{}", names.join("\n"));
        std::process::exit(if wanted == "list" { 0 } else { 1 });
    };
    let seeds = (target.seeds)();
    // What is made once and kept must not count for the first input that asks for it.
    (target.run)(&[]);
    seeds.iter().for_each(|seed| (target.run)(seed));
    if let Some(dir) = std::env::var_os("VISITFLOW_SEEDS") {
        for (number, seed) in seeds.into_iter().enumerate() {
            let file = std::path::Path::new(&dir).join(format!("seed-{number:04}"));
            std::fs::write(file, seed).expect("the folder of seeds can be written");
        }
    }
    TARGET.get_or_init(|| target);
}

libfuzzer_sys::fuzz_target!(init: { begin() }, |data: &[u8]| {
    let target = TARGET.get().expect("found at the beginning");
    let most = target.fixed + target.factor * data.len();
    let used = count::peak_of(|| (target.run)(data));
    assert!(used <= most, "{} bytes were allocated for {} bytes; expected at most {most}", used, data.len());
});
