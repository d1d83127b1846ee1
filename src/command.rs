//! The program `visitflow`, for its own `main` and for that of a program with fragments of its own: arguments in, a
//! command of the library run, an exit code out. Exit code 0 says that all is done, 1 that it failed, 2 that the job file
//! or an option is wrong, 130 that a signal ended it midway. Errors go to standard error, each on a line that begins with
//! `error: `, with their causes on the lines below.

use std::io::{self, Write};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use visitflow_dataflows::extension::Extension;

use crate::cli::{self, Check, Cli, Command};
use crate::interrupt::{Asked, Interrupt, Interrupted, Interruptible};
use crate::job::{self, Job, JobErrors, JobFile};
use crate::log::{Producer, Topic, WriterOptions};
use crate::{demo, generate, import, memory, observe, run, show};

/// The exit code of work that a signal has ended, as shells have it.
const INTERRUPTED: u8 = 130;

/// Fragments that join the jobs of this program.
type Extensions = Vec<Arc<dyn Extension>>;

/// Does what the program's arguments say, with these extensions in its jobs. To be called once, by
/// `main`: it ends the process where arguments are wrong, and takes its signals.
#[must_use]
pub fn main(extensions: Extensions) -> ExitCode {
    memory::keep_free();
    match dispatch(Cli::from_args().command, &extensions) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever was interrupted has said so.
        Err(error) if error.is::<Interrupted>() => ExitCode::from(INTERRUPTED),
        Err(error) => {
            report(&error);
            ExitCode::from(if error.is::<JobErrors>() { 2 } else { 1 })
        }
    }
}

fn dispatch(command: Command, extensions: &Extensions) -> anyhow::Result<()> {
    match command {
        Command::Demo(args) => Ok(demo::demo(&demo::Options {
            workers: args.workers.map(usize::from),
            time: args.seconds.map(Duration::from_secs),
            dir: args.dir,
            kafka: args.kafka,
            address: args.address,
            rate: args.rate,
            plain: args.plain,
        })?),
        Command::Generate(args) => generate(&args),
        Command::Import(args) => import(args),
        Command::Check(args) => check(&args, extensions),
        Command::Run(args) => run(&args, extensions),
        Command::Anonymize(args) => anonymize(&args),
        Command::Show(args) => show(args, extensions),
        Command::Why(args) => {
            let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
            print(&crate::why::why(&job)?)
        }
        Command::Status(args) => {
            let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
            let report = observe::report::Report::read(&job)?;
            print(&if args.json {
                report.json()
            } else {
                report.to_string()
            })
        }
        Command::Stop(args) => stop(&args),
        Command::Journal(args) => journal(&args),
    }
}

/// A job, with the topics of the extensions.
fn extended(mut job: Job, extensions: &Extensions) -> anyhow::Result<Job> {
    run::extended(&mut job, extensions)?;
    Ok(job)
}

fn run(args: &cli::Run, extensions: &Extensions) -> anyhow::Result<()> {
    let file = JobFile::load_to_start(&args.job, &args.overrides())?;
    let mut options = run::Options::of(extended(file.job, extensions)?);
    options.extensions = extensions.clone();
    options.accept_other_rules = args.accept_other_rules;
    options.processes = args.processes().map(|p| (p.process, p.hosts));
    let outputs = options.job.outputs.clone();
    let topics = crate::sink::topics::names(&options.job);
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
        println!("topics: {} in {}", topics.join(", "), log.display());
    }
    Ok(())
}

fn stop(args: &cli::Stop) -> anyhow::Result<()> {
    let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
    let mut progress = crate::progress::Progress::new();
    let stopped = observe::stop::stop(&job, args.timeout, |line| progress.say(line));
    progress.end();
    print(&format!("{}: {}\n", job.name, stopped?))
}

fn journal(args: &cli::Journal) -> anyhow::Result<()> {
    let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
    let options = observe::journal::Options {
        entries: args.entries,
        json: args.json,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let printed = observe::journal::journal(&job, options, &mut out);
    unless_broken_pipe(printed.map_err(Into::into).and_then(|()| Ok(out.flush()?)))
}

fn anonymize(args: &cli::Anonymize) -> anyhow::Result<()> {
    let job = JobFile::load(&args.job, &args.settings.overrides())?.job;
    let stop = Arc::new(AtomicBool::new(false));
    stop_on_signal(stop.clone());
    let summary = crate::anonymize::anonymize(&job, args.follow, stop)?;
    println!("{summary}");
    if let Some(files) = &job.outputs.files {
        println!("tables: {}", crate::anonymize::anonymous(files).display());
    }
    if let Some(log) = &job.outputs.log {
        let twins = crate::anonymize::TOPICS.map(|(_, twin)| twin);
        println!("topics: {} in {}", twins.join(", "), log.display());
    }
    if let Some(brokers) = &job.outputs.kafka {
        let twins = crate::anonymize::TOPICS.map(|(_, twin)| job.kafka_topic(twin));
        println!("topics: {} in Kafka at {brokers}", twins.join(", "));
    }
    Ok(())
}

/// The first signal asks to stop; whoever sends a second wants it at once.
fn stop_on_signal(stop: Arc<AtomicBool>) {
    let asked = AtomicBool::new(false);
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        stop.store(true, Ordering::Relaxed);
        let _ = writeln!(
            io::stderr(),
            "\nstopping: what is complete is being committed (again to leave at once)"
        );
    };
    // Only a second handler is an error, and there is none.
    let _ = ctrlc::set_handler(handler);
}

/// The first signal asks to stop, or ends the process at once if there is nothing to commit; a second ends it anyway.
fn interrupt_on_signal() -> Interrupt {
    let interrupt = Interrupt::default();
    let asking = interrupt.clone();
    let handler = move || match asking.ask() {
        Asked::Midway => {
            let _ = writeln!(
                io::stderr(),
                "\nstopping: what was taken is being committed (again to leave at once)"
            );
        }
        Asked::BeforeAnything => {
            let _ = writeln!(io::stderr(), "\nstopped: nothing was written to the topic");
            std::process::exit(INTERRUPTED.into());
        }
        Asked::Again => std::process::exit(INTERRUPTED.into()),
    };
    // Only a second handler is an error, and there is none.
    let _ = ctrlc::set_handler(handler);
    interrupt
}

/// Makes what was taken durable, whatever came after, and says how much that is if it is not all.
fn committed<T, E>(
    made: Result<T, E>,
    sink: Interruptible<Producer>,
    place: &str,
) -> anyhow::Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let taken = run::grouped(sink.taken);
    match (made, sink.sink.close()) {
        (Ok(made), closed) => closed.map(|()| made).map_err(Into::into),
        (Err(error), Ok(())) if Interrupted::caused(&error) => {
            let _ = writeln!(io::stderr(), "stopped: {taken} {place}");
            Err(Interrupted.into())
        }
        (Err(error), _) => Err(error.into()),
    }
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
    let interrupt = interrupt_on_signal();
    let mut sink = interrupt.around(Producer::open(&topic, WriterOptions::default())?);
    let events = args.events;
    let mut progress = crate::progress::Progress::new();
    let made = generate::generate(&options, &mut sink, &mut |made| {
        progress.say(|| format!("{} of {} made", run::grouped(made), run::grouped(events)));
    });
    progress.end();
    let log = args.log.display();
    let rest =
        "the right answer beside them is not complete; remove the folder before it is made again";
    let truth = committed(made, sink, &format!("measurements are in {log}; {rest}"))?;
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
    let interrupt = interrupt_on_signal();
    let mut sink = interrupt.around(Producer::open(&topic, WriterOptions::default())?);
    let place = format!(
        "measurements are in {}, topic {}; the rest is not",
        args.log.display(),
        args.topic
    );
    let mut options = import::Options::new(args.files, format, args.log);
    options.topic = args.topic;
    let made = import::import(&options, &mut sink, &mut import::Meter::stderr());
    let summary = committed(made, sink, &place)?;
    print(&format!("{summary}\n"))
}

fn show(args: cli::Show, extensions: &Extensions) -> anyhow::Result<()> {
    let cli::Show {
        place,
        limit,
        topic,
        partition,
        settings,
    } = args;
    let is_job = place.extension().is_some_and(|end| end == "toml") && !place.is_dir();
    let job = match is_job {
        true => {
            let job = JobFile::load(&place, &settings.overrides())?.job;
            Some(extended(job, extensions)?)
        }
        false if settings.set.is_empty() => None,
        false => return Err(show::ShowError::Settings { place }.into()),
    };
    let options = show::Options {
        place,
        limit,
        topic,
        partition,
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let shown = match &job {
        Some(job) => show::show_job(job, &options, &mut out),
        None => show::show(&options, &mut out),
    };
    unless_broken_pipe(shown.map_err(Into::into).and_then(|_| Ok(out.flush()?)))
}

fn unless_broken_pipe(printed: anyhow::Result<()>) -> anyhow::Result<()> {
    match printed {
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

fn check(args: &Check, extensions: &Extensions) -> anyhow::Result<()> {
    let Some(file) = &args.job else {
        return print(&job::explain());
    };
    let file = JobFile::load_to_start(file, &args.settings.overrides())?;
    run::check(&extended(file.job.clone(), extensions)?)?;
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
        let mut said = error.to_string();
        text.push_str(&format!("error: {said}\n"));
        for cause in error.chain().skip(1).map(ToString::to_string) {
            // Most errors have their causes in their own words.
            if !said.contains(&cause) {
                text.push_str(&format!("  because {cause}\n"));
                said.push_str(&cause);
            }
        }
    }
    let _ = io::stderr().lock().write_all(text.as_bytes());
}
