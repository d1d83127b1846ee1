//! The command line: what may be written after `visitflow`, and the help that says so. For `main`
//! and for tests of the help. Promises that what it returns is complete: options that belong
//! together are there together, and none is there that its command would ignore. It runs nothing.

use std::path::PathBuf;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::job::Override;
use crate::job::quantity::parse_duration;

/// The program's arguments.
#[derive(Debug, Parser)]
#[command(
    name = "visitflow",
    version,
    about = "Turns a website's raw measurements into visits, while the visitor is still there",
    after_help = "Begin with:\n  \
                  visitflow demo\n\n\
                  From an access log to tables of visits:\n  \
                  visitflow import combined access.log.gz --log shop/log\n  \
                  visitflow run examples/jobs/log-to-files.toml --set source.log=shop/log\n\n\
                  Settings of a job file: visitflow check --explain",
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a living shop in the terminal: made visitors, real visits
    Demo(Demo),
    /// Make a shop's traffic, the same for the same seed, with the right answer beside it
    Generate(Generate),
    /// Bring access logs and exports into a log, as measurements
    Import(Import),
    /// Check a whole job file, and say what is in force
    Check(Check),
    /// Run a job: from a log to tagged topics and tables of visits
    Run(Run),
    /// Write the anonymized twins of a job's outputs, as the one role that reads the salts
    Anonymize(Anonymize),
    /// Print the records of a log, topic or table, or of a job's topic, as JSON lines
    Show(Show),
    /// Say what a job's time stands on, and since when
    Why(Why),
    /// Say how far a job has come: processes, partitions, records, visits, tables, snapshots
    Status(Status),
    /// Ask a running job to stop, and wait until it has
    Stop(Stop),
    /// Print what a job has kept to go on from: its starts, snapshots, and what it has read
    Journal(Journal),
}

/// `visitflow demo`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow demo\n  \
    visitflow demo --seconds 20 --plain\n  \
    visitflow demo --rate 20000 --workers 2 --dir /tmp/shop\n\n\
    With --kafka the shop's topic and the job's are in Kafka; scripts/kafka start --dir DIR starts one here.\n\
    Its page, whose address it shows first, is best seen in a browser beside it.\n    \
    Leave it with q or Ctrl-C. It then prints where its tables are and a query over them.")]
pub struct Demo {
    /// Threads that work [default: the machine's cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub workers: Option<u16>,
    /// End by itself after so many seconds
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: Option<u64>,
    /// Folder for its log and tables [default: a new one among the temporary files]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Brokers of a Kafka for its topics, in which they stay [default: a log in its folder]
    #[arg(long, value_name = "HOST:PORT,…")]
    pub kafka: Option<String>,
    /// Where its page is served; port 0 is any free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub address: String,
    /// Measurements a second
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Lines instead of a screen, as when the output is not a terminal
    #[arg(long)]
    pub plain: bool,
}

/// `visitflow generate`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow generate --log made/log\n  \
    visitflow generate --log made/log --events 10_000_000 --seed 7 --partitions 4\n\n\
    The same options make the same bytes on every machine.")]
pub struct Generate {
    /// Folder of the log to write; it must not hold the topic yet
    #[arg(long, value_name = "DIR")]
    pub log: PathBuf,
    /// Measurements to make, about
    #[arg(long, value_name = "N", default_value = "1_000_000", value_parser = number)]
    pub events: u64,
    /// What the shop's chance begins with
    #[arg(long, value_name = "S", default_value = "1", value_parser = number)]
    pub seed: u64,
    /// Partitions of the topic: a power of two
    #[arg(long, value_name = "N", default_value = "16", value_parser = partitions)]
    pub partitions: u32,
    /// When the first visitor comes: 2026-01-31 or 2026-01-31T08:30:00Z
    #[arg(long, value_name = "TIME", default_value = "2026-01-01", value_parser = time)]
    pub start: i64,
}

/// What an import reads.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Format {
    /// Access logs in the combined format
    Combined,
    /// Comma or tab separated values, with a mapping
    Csv,
    /// One JSON object a line, with a mapping
    Jsonl,
}

/// `visitflow import`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow import combined access.log access.log.1.gz --log shop/log\n  \
    visitflow import csv events.csv.gz --mapping events.toml --log shop/log\n  \
    visitflow import jsonl events.jsonl --mapping events.toml --log shop/log --topic clicks\n\n\
    Gzipped files are known by their content. What cannot be read is counted and kept.")]
pub struct Import {
    /// What the files are
    #[arg(value_enum)]
    pub format: Format,
    /// The files; together they are one input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Folder of the log to write into
    #[arg(long, value_name = "DIR")]
    pub log: PathBuf,
    /// Topic to write into
    #[arg(long, value_name = "NAME", default_value = "measurements", value_parser = topic)]
    pub topic: String,
    /// Partitions of the topic, if it is made now: a power of two
    #[arg(long, value_name = "N", default_value = "16", value_parser = partitions)]
    pub partitions: u32,
    /// Which column or key is which field of a measurement; for csv and jsonl
    #[arg(long, value_name = "FILE", required_if_eq_any = [("format", "csv"), ("format", "jsonl")])]
    pub mapping: Option<PathBuf>,
}

/// Replaced settings, for every command that reads a job file.
#[derive(Args, Debug)]
pub struct Settings {
    /// Replace a setting of the job file; may be given many times, and the last one counts
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl Settings {
    /// The replaced settings, in their order.
    pub fn overrides(&self) -> Vec<Override> {
        self.set
            .iter()
            .map(|assignment| Override::set(assignment))
            .collect()
    }
}

/// `visitflow check`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow check examples/jobs/log-to-files.toml\n  \
    visitflow check job.toml --set visits.inactivity=1h\n  \
    visitflow check --explain\n\n\
    Exit code: 0 if the job can start, 2 if its file, options or places are wrong.")]
pub struct Check {
    /// The job file
    #[arg(value_name = "JOB.toml", required_unless_present = "explain")]
    pub job: Option<PathBuf>,
    /// Print every setting there is, with its default and meaning
    #[arg(long, conflicts_with_all = ["job", "set"])]
    pub explain: bool,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow run`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow run examples/jobs/log-to-files.toml\n  \
    visitflow run job.toml --workers 2 --set source.log=shop/log --set visits.inactivity=1h\n\n\
    In two processes, each with the same job file and hosts:\n  \
    visitflow run job.toml --process 0 --of 2 --hosts localhost:7101,localhost:7102\n  \
    visitflow run job.toml --process 1 --of 2 --hosts localhost:7101,localhost:7102\n\n\
    Exit code: 0 if all is done, 1 if it failed, 2 if the job file or an option is wrong.")]
pub struct Run {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Threads that work in each process; the setting `workers`
    #[arg(long, value_name = "N")]
    pub workers: Option<String>,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
    /// Go on although settings, lists or the program have changed since a run that was not stopped,
    /// or Kafka's topic is another one: what was not committed may then come out otherwise
    #[arg(long)]
    pub accept_other_rules: bool,
    /// Which of several processes this is, from 0
    #[arg(long, value_name = "I", requires_all = ["of", "hosts"])]
    pub process: Option<usize>,
    /// How many processes there are
    #[arg(long, value_name = "N", requires_all = ["process", "hosts"])]
    pub of: Option<usize>,
    /// Where each of the processes listens, in their order
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',', value_parser = host, requires_all = ["process", "of"])]
    pub hosts: Vec<String>,
}

/// One process among several.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Processes {
    /// Which one this is, from 0.
    pub process: usize,
    /// Where each listens (`host:port`), this one included; its length is their number.
    pub hosts: Vec<String>,
}

impl Run {
    /// All replaced settings: `--workers`, then each `--set` in its order.
    pub fn overrides(&self) -> Vec<Override> {
        let workers = self
            .workers
            .iter()
            .map(|n| Override::option("--workers", "workers", n));
        workers.chain(self.settings.overrides()).collect()
    }

    /// The processes, if there are several.
    pub fn processes(&self) -> Option<Processes> {
        self.process.map(|process| Processes {
            process,
            hosts: self.hosts.clone(),
        })
    }
}

/// `visitflow anonymize`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow anonymize job.toml --set privacy.salts=/etc/visitflow/salts\n  \
    visitflow anonymize job.toml --follow\n\n\
    Run it as a user of its own: the other commands refuse to start when they can read the salts.")]
pub struct Anonymize {
    /// The job file whose outputs get twins
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Wait for more at the end, until it is stopped
    #[arg(long)]
    pub follow: bool,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow show`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow show shop/tables/identified/visits --limit 10\n  \
    visitflow show shop/log --topic measurements --partition 3\n  \
    visitflow show shop/results --topic lifecycle | jq .\n\n\
    A topic of a job, in the log or in Kafka, by the job file:\n  \
    visitflow show job.toml --topic tagged --limit 10")]
pub struct Show {
    /// Folder of a log, of a topic or of a table, or a job file
    #[arg(value_name = "PLACE")]
    pub place: PathBuf,
    /// Print so many records at most
    #[arg(long, value_name = "N", value_parser = number)]
    pub limit: Option<u64>,
    /// Of a log or of a job, only this topic
    #[arg(long, value_name = "NAME", value_parser = topic)]
    pub topic: Option<String>,
    /// Of a log or a topic, only this partition
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow why`
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  \
    visitflow why job.toml\n\n\
    Works while the job runs, and after it.")]
pub struct Why {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow status`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow status job.toml\n  \
    visitflow status job.toml --json | jq .frontier_behind\n\n\
    Works while the job runs, and after it. Times in JSON are in ms since 1970 (UTC), durations in ms.")]
pub struct Status {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// As one JSON document
    #[arg(long)]
    pub json: bool,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow stop`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow stop job.toml\n  \
    visitflow stop job.toml --timeout 10min\n\n\
    The job stops as with Ctrl-C: it commits what is complete and keeps all state; no visit ends by it. All of its \
    processes stop, on whichever hosts they are.\n\n\
    Exit code: 0 if it has stopped, 1 if it does not run or has not stopped in time, 2 if the job file is wrong.")]
pub struct Stop {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "2min", value_parser = duration)]
    pub timeout: Duration,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

/// `visitflow journal`
#[derive(Args, Debug)]
#[command(after_help = "Examples:\n  \
    visitflow journal job.toml\n  \
    visitflow journal job.toml --entries | less\n  \
    visitflow journal job.toml --entries --json | jq .kind\n\n\
    Reads state.dir, also while the job runs, and says where files are torn or damaged.")]
pub struct Journal {
    /// The job file
    #[arg(value_name = "JOB.toml")]
    pub job: PathBuf,
    /// Print each entry of the journals too: what was read at which tick
    #[arg(long)]
    pub entries: bool,
    /// As JSON lines
    #[arg(long)]
    pub json: bool,
    /// Replaced settings.
    #[command(flatten)]
    pub settings: Settings,
}

impl Cli {
    /// Parses the program's arguments; prints help, versions and wrong usage itself, and then ends
    /// the process, with exit code 2 for wrong usage.
    pub fn from_args() -> Cli {
        let cli = Cli::parse();
        cli.check().unwrap_or_else(|error| error.exit());
        cli
    }

    /// Parses arguments, of which the first is the program's name.
    ///
    /// # Errors
    /// Wrong usage, or a wish for help or the version.
    pub fn from_list<'a>(args: impl IntoIterator<Item = &'a str>) -> Result<Cli, clap::Error> {
        let cli = Cli::try_parse_from(args)?;
        cli.check()?;
        Ok(cli)
    }

    /// What clap cannot say about options that belong together.
    fn check(&self) -> Result<(), clap::Error> {
        let wrong = |command: &str, message: String| {
            let mut program = Cli::command();
            program.build();
            match program.find_subcommand_mut(command) {
                Some(command) => command.error(ErrorKind::ValueValidation, message),
                None => program.error(ErrorKind::ValueValidation, message),
            }
        };
        match &self.command {
            Command::Import(import)
                if import.format == Format::Combined && import.mapping.is_some() =>
            {
                let message = "--mapping belongs to csv and jsonl; the combined format has its fields already";
                Err(wrong("import", message.to_owned()))
            }
            Command::Run(Run {
                process: Some(process),
                of: Some(of),
                hosts,
                ..
            }) => {
                if process >= of {
                    let message =
                        format!("--process {process}: expected 0 to one less than --of {of}");
                    Err(wrong("run", message))
                } else if hosts.len() != *of {
                    let message = format!(
                        "--hosts: expected {of} of them, as --of says, but there are {}",
                        hosts.len()
                    );
                    Err(wrong("run", message))
                } else {
                    Ok(())
                }
            }
            _ => Ok(()),
        }
    }
}

/// A whole number, with `_` between digits where one likes.
fn number(text: &str) -> Result<u64, String> {
    let digits = text
        .split('_')
        .all(|group| !group.is_empty() && group.bytes().all(|b| b.is_ascii_digit()));
    let number = if digits {
        text.replace('_', "").parse().ok()
    } else {
        None
    };
    number.ok_or_else(|| "expected a whole number, such as 1_000_000".to_owned())
}

fn partitions(text: &str) -> Result<u32, String> {
    let number = text
        .parse()
        .ok()
        .filter(|n: &u32| n.is_power_of_two() && *n <= 256);
    number.ok_or_else(|| "expected a power of two from 1 to 256".to_owned())
}

fn topic(text: &str) -> Result<String, String> {
    if crate::job::is_name(text) {
        Ok(text.to_owned())
    } else {
        Err("expected a name of letters, digits, `.`, `_` and `-`".to_owned())
    }
}

/// A duration, such as `2min`.
fn duration(text: &str) -> Result<Duration, String> {
    let ms = parse_duration(text)
        .map_err(|error| format!("expected a duration, such as 2min; {error}"))?;
    Ok(Duration::from_millis(ms))
}

/// `host:port`.
fn host(text: &str) -> Result<String, String> {
    let right = text
        .rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    if right {
        Ok(text.to_owned())
    } else {
        Err("expected host:port, such as localhost:7101".to_owned())
    }
}

/// A time as ms since 1970 (UTC): a date, or a date and a time with its distance to UTC.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || "expected a time, such as 2026-01-31 or 2026-01-31T08:30:00Z".to_owned();
    let timestamp = match text.parse::<jiff::Timestamp>() {
        Ok(timestamp) => timestamp,
        Err(_) => format!("{text}T00:00:00Z").parse().map_err(|_| wrong())?,
    };
    Ok(timestamp.as_millisecond())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, String> {
        // What the shell would take: the words up to a pipe, without quotes.
        let words = line.split(" | ").next().unwrap_or("").split_whitespace();
        Cli::from_list(words).map_err(|error| error.to_string())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples_and_all_of_them_are_right() {
        let mut program = Cli::command();
        program.build();
        let helps = program
            .get_subcommands_mut()
            .map(|command| command.render_long_help().to_string());
        let mut helps: Vec<String> = helps
            .filter(|help| !help.contains("of the given subcommand"))
            .collect();
        assert_eq!(helps.len(), 11);
        helps.push(Cli::command().render_long_help().to_string());
        for help in helps {
            let examples = help
                .lines()
                .map(str::trim)
                .filter(|line| line.starts_with("visitflow "));
            let mut seen = 0;
            for example in examples {
                parse(example).unwrap_or_else(|error| panic!("{example}: {error}"));
                seen += 1;
            }
            assert!(seen > 0, "no example in: {help}");
        }
    }

    #[test]
    fn options_that_belong_together() {
        for (line, expected) in [
            (
                "import csv a.csv --log d",
                "required arguments were not provided:\n  --mapping <FILE>",
            ),
            (
                "import combined a.log --log d --mapping m",
                "--mapping belongs to csv and jsonl",
            ),
            (
                "import combined --log d",
                "required arguments were not provided:\n  <FILE>...",
            ),
            ("run j --process 0", "--of <N>"),
            (
                "run j --process 2 --of 2 --hosts a:1,b:2",
                "--process 2: expected 0 to one less than --of 2",
            ),
            (
                "run j --process 1 --of 2 --hosts a:1",
                "--hosts: expected 2 of them, as --of says, but there are 1",
            ),
            (
                "run j --process 1 --of 2 --hosts a:1,b",
                "expected host:port, such as localhost:7101",
            ),
            ("check", "<JOB.toml>"),
            ("check j --explain", "cannot be used with"),
            ("demo --workers 0", "0 is not in 1..=256"),
            (
                "generate --log d --start yesterday",
                "expected a time, such as 2026-01-31",
            ),
            ("show d --topic a/b", "expected a name of letters"),
            ("stop j --timeout soon", "expected a duration, such as 2min"),
        ] {
            let error = parse(&format!("visitflow {line}")).expect_err(line);
            assert!(error.contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn what_was_written_arrives() {
        let Ok(Cli {
            command: Command::Generate(generate),
        }) = parse("visitflow generate --log d --events 1_000 --start 1970-01-02")
        else {
            panic!("expected generate");
        };
        assert_eq!(
            (generate.events, generate.seed, generate.partitions),
            (1_000, 1, 16)
        );
        assert_eq!(generate.start, 86_400_000);
        assert_eq!(time("1970-01-01T01:00:00.5+01:00"), Ok(500));

        let Ok(Cli {
            command: Command::Run(run),
        }) =
            parse("visitflow run j --process 1 --of 2 --hosts a:1,[::1]:2 --workers 3 --set a.b=1")
        else {
            panic!("expected run");
        };
        let hosts = vec!["a:1".to_owned(), "[::1]:2".to_owned()];
        assert_eq!(run.processes(), Some(Processes { process: 1, hosts }));
        assert_eq!(
            run.overrides(),
            [
                Override::option("--workers", "workers", "3"),
                Override::set("a.b=1")
            ]
        );
    }
}
