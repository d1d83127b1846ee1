//! The program `visitflow`: arguments in, a command of the library run, an exit code out. Exit code 0 says that all is
//! done, 1 that it failed, 2 that the job file or an option is wrong. Errors go to standard error, each on a line that
//! begins with `error: `, with their causes on the lines below.

use std::io::{self, Write};
use std::process::ExitCode;

use visitflow::cli::{Check, Cli, Command};
use visitflow::job::{self, JobErrors, JobFile};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match dispatch(Cli::from_args().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error);
            ExitCode::from(if error.is::<JobErrors>() { 2 } else { 1 })
        }
    }
}

fn dispatch(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Demo(_) => anyhow::bail!("demo is not bound"),
        Command::Generate(_) => anyhow::bail!("generate is not bound"),
        Command::Import(_) => anyhow::bail!("import is not bound"),
        Command::Check(args) => check(&args),
        Command::Run(_) => anyhow::bail!("run is not bound"),
        Command::Anonymize(_) => anyhow::bail!("anonymize is not bound"),
        Command::Show(_) => anyhow::bail!("show is not bound"),
        Command::Why(_) => anyhow::bail!("why is not bound"),
    }
}

fn check(args: &Check) -> anyhow::Result<()> {
    let Some(file) = &args.job else {
        return print(&job::explain());
    };
    let file = JobFile::load_to_start(file, &args.settings.overrides())?;
    print(&format!("ok\n\n{}", file.effective()))
}

/// Prints to standard output; a reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// Prints an error, or each of a job's. There is nobody to tell when standard error is closed.
fn report(error: &anyhow::Error) {
    let mut text = String::new();
    if let Some(errors) = error.downcast_ref::<JobErrors>() {
        for error in errors.iter() {
            text.push_str(&format!("error: {error}\n"));
        }
    } else {
        text.push_str(&format!("error: {error}\n"));
        for cause in error.chain().skip(1) {
            text.push_str(&format!("  because {cause}\n"));
        }
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
