//! The program `visitflow`: arguments in, a command of the library run, an exit code out. Exit code 0 says that all is
//! done, 1 that it failed, 2 that the job file or an option is wrong. Errors go to standard error, each on a line that
//! begins with `error: `, with their causes on the lines below.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use visitflow::cli::{self, Check, Cli, Command};
use visitflow::job::{self, JobErrors, JobFile};
use visitflow::log::{Producer, Topic, WriterOptions};
use visitflow::{demo, generate, import, run, show};

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
        Command::Demo(args) => Ok(demo::demo(&demo::Options {
            workers: args.workers.map(usize::from),
            time: args.seconds.map(Duration::from_secs),
            dir: args.dir,
            rate: args.rate,
            plain: args.plain,
        })?),
        Command::Generate(args) => generate(&args),
        Command::Import(args) => import(args),
        Command::Check(args) => check(&args),
        Command::Run(args) => run(&args),
        Command::Anonymize(args) => anonymize(&args),
        Command::Show(args) => show(args),
        Command::Why(args) => {
            let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
            print(&visitflow::why::why(&job)?)
        }
    }
}

fn run(args: &cli::Run) -> anyhow::Result<()> {
    let file = JobFile::load_to_start(&args.job, &args.overrides())?;
    let mut options = run::Options::of(file.job);
    options.processes = args.processes().map(|p| (p.process, p.hosts));
    let outputs = options.job.outputs.clone();
    let summary = run::run(options, |handle| {
        stop_on_signal(handle.stop.clone());
        run::progress::show(&handle);
    })?;
    println!("{summary}");
    if let Some(files) = outputs.files {
        let [measurements, visits] = summary.versions;
        let dir = run::outputs::identified(&files);
        println!(
            "tables: {} (version {measurements} of measurements, {visits} of visits)",
            dir.display()
        );
    }
    if let Some(log) = outputs.log {
        println!(
            "topics: {} in {}",
            run::outputs::TOPICS.join(", "),
            log.display()
        );
    }
    Ok(())
}

fn anonymize(args: &cli::Anonymize) -> anyhow::Result<()> {
    let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(stop.clone());
    let summary = visitflow::anonymize::anonymize(&job, args.follow, stop)?;
    println!("{summary}");
    if let Some(files) = &job.outputs.files {
        println!(
            "tables: {}",
            visitflow::anonymize::anonymous(files).display()
        );
    }
    if let Some(log) = &job.outputs.log {
        let twins = visitflow::anonymize::TOPICS.map(|(_, twin)| twin);
        println!("topics: {} in {}", twins.join(", "), log.display());
    }
    Ok(())
}

/// The first signal asks to stop; whoever sends a second wants it at once.
fn stop_on_signal(stop: Arc<AtomicBool>) {
    let handler = move || {
        if stop.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
        let _ = writeln!(
            io::stderr(),
            "\nstopping: what is complete is being committed (again to leave at once)"
        );
    };
    // Only a second handler is an error, and there is none.
    let _ = ctrlc::set_handler(handler);
}

fn generate(args: &cli::Generate) -> anyhow::Result<()> {
    let mut settings = generate::Settings {
        events: args.events,
        seed: args.seed,
        ..Default::default()
    };
    settings.partitions = args.partitions;
    settings.start = args.start;
    let options = generate::Options {
        settings,
        truth: Some(args.log.join("truth")),
        tags: false,
        schemas: Some(args.log.join("schemas")),
    };
    let topic = Topic::create(&args.log, "measurements", args.partitions)?;
    let mut producer = Producer::open(&topic, WriterOptions::default())?;
    let events = args.events;
    let mut progress = visitflow::progress::Progress::new();
    let truth = generate::generate(&options, &mut producer, &mut |made| {
        progress.say(|| format!("{} of {} made", run::grouped(made), run::grouped(events)));
    })?;
    producer.close()?;
    progress.end();
    let log = args.log.display();
    println!(
        "{} arrivals, {} visits, in {log}",
        run::grouped(truth.taken),
        run::grouped(truth.visits.len() as u64)
    );
    println!("the right answer: {log}/truth");
    println!("next: visitflow run examples/jobs/log-to-files.toml --set source.log={log}");
    Ok(())
}

fn import(args: cli::Import) -> anyhow::Result<()> {
    let mapping = |kind| match &args.mapping {
        Some(path) => Ok(import::Mapping::read(path, kind)?),
        None => anyhow::bail!("--mapping names the file that says which column is which field"),
    };
    let format = match args.format {
        cli::Format::Combined => import::Format::Combined,
        cli::Format::Csv => import::Format::Csv(mapping(import::Kind::Csv)?),
        cli::Format::Jsonl => import::Format::Jsonl(mapping(import::Kind::Jsonl)?),
    };
    let topic = Topic::open_or_create(&args.log, &args.topic, args.partitions)?;
    let mut producer = Producer::open(&topic, WriterOptions::default())?;
    let mut options = import::Options::new(args.files, format, args.log);
    options.topic = args.topic;
    let summary = import::import(&options, &mut producer, &mut import::Meter::stderr())?;
    producer.close()?;
    print(&format!("{summary}\n"))
}

fn show(args: cli::Show) -> anyhow::Result<()> {
    let cli::Show {
        place,
        limit,
        topic,
        partition,
    } = args;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = show::show(
        &show::Options {
            place,
            limit,
            topic,
            partition,
        },
        &mut out,
    );
    match shown
        .map_err(anyhow::Error::from)
        .and_then(|_| Ok(out.flush()?))
    {
        Err(error) if broken_pipe(&error) => Ok(()),
        other => other,
    }
}

/// A reader that has seen enough (`| head`) is no error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    let pipe = |e: &(dyn std::error::Error + 'static)| {
        e.downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    };
    error.chain().any(pipe)
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
