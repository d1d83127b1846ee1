//! The program `visitflow`: its commands, with no fragments but the job's own.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    visitflow::command::main(Vec::new())
}
