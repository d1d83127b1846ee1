//! The program `visitflow`, with carts that are left standing: the same commands, and one topic and
//! one view more.

use std::process::ExitCode;
use std::sync::Arc;

use abandoned_carts::AbandonedCarts;

fn main() -> ExitCode {
    visitflow::command::main(vec![Arc::new(AbandonedCarts)])
}
