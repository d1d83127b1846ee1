//! A job: what is read, what a visit is, and where the results go, as a TOML file and options say
//! it. For the commands that start a job or look at one. Promises that a [`Job`] which exists is
//! right in itself: every setting was known, readable, in range and in agreement with the others,
//! and otherwise *all* that is wrong was said at once, each thing with its place. What the disk
//! must hold is a question of its own, which [`JobFile::load_to_start`] asks too.
//!
//! Paths are relative to the working directory, in the file as in options: one rule, the one of
//! every other command.
//!
//! ```
//! use visitflow::job::{JobFile, Override};
//!
//! let text = "[source]\nlog = 'shop/log'\n[outputs]\nfiles = 'shop/tables'\n";
//! let sets = [Override::set("visits.inactivity=45 min")];
//! let job = JobFile::parse(text, "shop.toml".as_ref(), &sets)?.job;
//! assert_eq!(job.name, "shop");
//! assert_eq!(job.visits.inactivity, 45 * 60_000);
//!
//! let wrong = JobFile::parse("[visits]\ninactivty = '1h'\n", "shop.toml".as_ref(), &[]).unwrap_err();
//! assert!(wrong.to_string().starts_with(
//!     "shop.toml:2:1: unknown setting visits.inactivty; did you mean visits.inactivity?"
//! ));
//! # Ok::<(), visitflow::job::JobErrors>(())
//! ```

mod assign;
mod error;
mod gather;
mod nearest;
mod overrides;
mod parse;
mod places;
pub mod quantity;
mod report;
mod rules;
mod settings;
mod views;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use visitflow_dataflows::views::View;
use visitflow_schemas::role::{Privacy as FieldPrivacy, Role};

pub use error::{JobError, JobErrors, Place, Problem};
pub use overrides::Override;
pub use report::{explain, settings_as_markdown, value_text};
pub use settings::{DefaultValue, Kind, SETTINGS, Setting, is_name};
pub use views::view_keys_as_markdown;

/// Everything a run needs to know. Durations are in milliseconds, sizes in bytes, paths as they
/// were written.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Job {
    /// The job's name, in which only letters, digits, `.`, `_` and `-` occur.
    pub name: String,
    /// The threads that work, from 1 to 256.
    pub workers: usize,
    /// What is read.
    pub source: Source,
    /// How a measurement's fields are found.
    pub schemas: Schemas,
    /// What a visit is.
    pub visits: VisitRules,
    /// How time passes.
    pub time: TimeRules,
    /// What is refused.
    pub limits: Limits,
    /// What is found out about a measurement.
    pub enrich: Enrich,
    /// Where results go. At least one of `files`, `log` and `kafka` is there.
    pub outputs: Outputs,
    /// What is kept for a later start.
    pub state: State,
    /// Properties of Kafka's clients.
    pub kafka: BTreeMap<String, String>,
    /// What the anonymized twins need.
    pub privacy: Privacy,
    /// What is written about the run itself.
    pub observe: Observe,
    /// What is known of customers.
    pub profiles: Profiles,
    /// How orders are traced to what led to them.
    pub attribution: Attribution,
    /// The views, in the order of the file.
    pub views: Vec<View>,
    /// What is served over HTTP.
    pub serve: Serve,
}

/// What is known of customers.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Profiles {
    /// Whether anything is.
    pub enabled: bool,
    /// A customer who was not seen for longer is forgotten, in ms.
    pub retention: u64,
    /// The file of customers of whom nothing is kept.
    pub forgotten: Option<PathBuf>,
}

/// What is read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Source {
    /// The folder of the embedded log.
    pub log: Option<PathBuf>,
    /// The brokers of a Kafka, instead of that.
    pub kafka: Option<String>,
    /// The topic.
    pub topic: String,
    /// Whether to wait for more at the end of the topic, rather than to end the job there.
    pub follow: bool,
    /// What moves a partition's clock.
    pub clock: Clock,
}

/// What moves a partition's clock.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Clock {
    /// The times at which the log took the records.
    LogTime,
    /// The times at which it happened, by the measurements themselves.
    EventTime,
}

impl Clock {
    /// All there are.
    pub const ALL: &[Clock; 2] = &[Clock::LogTime, Clock::EventTime];

    /// The word for it in job files.
    pub fn word(self) -> &'static str {
        match self {
            Clock::LogTime => "log_time",
            Clock::EventTime => "event_time",
        }
    }
}

/// How a measurement's fields are found.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Schemas {
    /// The folder of schemas (`.avsc`); see [`Job::schema_store`].
    pub store: Option<PathBuf>,
    /// The schema whose fields the tables have; without it, the default measurement.
    pub reader: Option<PathBuf>,
    /// Roles of fields, by the fields' paths in the schema, for schemas that do not say them.
    pub roles: BTreeMap<String, Role>,
    /// What becomes of fields in the anonymized twins, by path.
    pub privacy: BTreeMap<String, FieldPrivacy>,
}

/// What a visit is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct VisitRules {
    /// The longest gap within a visit, at most `max_length`, in ms.
    pub inactivity: u64,
    /// The time after a visit's first measurement at which the next visit begins, in ms.
    pub max_length: u64,
    /// The most measurements of one visit.
    pub max_size: u64,
    /// How far event time may lie behind the clock, in ms.
    pub max_delay: u64,
}

/// How time passes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeRules {
    /// The length of a tick in ms, a divisor of a second.
    pub tick: u64,
    /// How far clocks and an unread record may lie apart, at least a tick, in ms.
    pub max_lag: u64,
    /// How far a measurement may lie in front of the clock, in ms.
    pub max_ahead: u64,
}

/// What is refused.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The largest record that is taken, in bytes.
    pub max_record: u64,
}

/// What is found out about a measurement; without a file it is not found out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Enrich {
    /// A MaxMind database, for countries.
    pub geoip: Option<PathBuf>,
    /// Rules for browsers, systems and devices: `regexes.yaml` of uap-core.
    pub user_agents: Option<PathBuf>,
    /// Rules for robots: `crawler-user-agents.json`.
    pub robots: Option<PathBuf>,
    /// A browser whose open visits have more measurements than this counts as a robot.
    pub robots_over: u64,
}

/// Where results go.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Outputs {
    /// The folder of the embedded log with the topics of results.
    pub log: Option<PathBuf>,
    /// The brokers of a Kafka for the topics of results, instead of that.
    pub kafka: Option<String>,
    /// The folder of the schemas of results; see [`Job::output_schemas`].
    pub schemas: Option<PathBuf>,
    /// The partitions of each topic of results, a power of two of at most 256.
    pub partitions: u32,
    /// The folder of the tables.
    pub files: Option<PathBuf>,
    /// The size at which a table's files are closed, in bytes.
    pub file_size: u64,
    /// The age at which a table's files are closed, in ms.
    pub file_age: u64,
    /// Whether results of an earlier run may be removed.
    pub replace: bool,
    /// The names of topics that a program's own fragments write, beside the job's. No setting: the
    /// extensions say them.
    pub further: Vec<String>,
    /// Those extensions, each with its version.
    pub extensions: Vec<String>,
}

/// What is kept for a later start.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct State {
    /// The folder for it; without one a run cannot go on where another was.
    pub dir: Option<PathBuf>,
    /// The brokers of a Kafka for the journal, instead of that folder.
    pub kafka: Option<String>,
    /// How many bytes the measurements of open visits may take in each process's memory.
    pub memory: u64,
    /// How often all state is kept, in ms.
    pub snapshots: u64,
}

/// What the anonymized twins need.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Privacy {
    /// The file of salts, which only the role `anonymize` may be able to read.
    pub salts: Option<PathBuf>,
}

/// What is written about the run itself.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Observe {
    /// The file that is told what moved the frontier and what held it.
    pub frontier_log: Option<PathBuf>,
}

/// How orders are traced to what led to them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attribution {
    /// How far back in earlier visits of a browser or a customer it is looked, in ms.
    pub look_back: u64,
    /// Of how many browsers earlier visits are remembered.
    pub browsers: u64,
    /// Of how many customers.
    pub customers: u64,
}

/// What is served over HTTP.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Serve {
    /// Where, `HOST:PORT`; other processes than the first take higher ports.
    pub address: Option<String>,
    /// The file of tokens, or `env:NAME`.
    pub tokens: Option<PathBuf>,
    /// How long views can be read as of an earlier tick, in ms.
    pub history: u64,
    /// The most subscribers at a time.
    pub subscribers: u64,
    /// The most rows of an answer.
    pub rows: u64,
    /// How long an answer may take, in ms.
    pub timeout: u64,
}

impl Job {
    /// The folder of schemas: `schemas.store`, else `schemas` in the source's log.
    pub fn schema_store(&self) -> Option<PathBuf> {
        let beside = self.source.log.as_ref().map(|log| log.join("schemas"));
        self.schemas.store.clone().or(beside)
    }

    /// The folder of the schemas of results, if there are topics of them: `outputs.schemas`, else
    /// `schemas` in the output log or in the state's folder.
    pub fn output_schemas(&self) -> Option<PathBuf> {
        let outputs = &self.outputs;
        let kafka = outputs.kafka.as_ref().and(self.state.dir.as_ref());
        let beside = outputs.log.as_ref().or(kafka)?;
        let own = outputs.schemas.clone();
        Some(own.unwrap_or_else(|| beside.join("schemas")))
    }

    /// Whether anything is said of visits while they are open: views, orders, answers.
    pub fn watched(&self) -> bool {
        !self.views.is_empty() || self.serve.address.is_some() || self.profiles.enabled
    }

    /// Whether the measurements of open visits are kept: for tables, or for what is said of them.
    pub fn keeps_measurements(&self) -> bool {
        self.outputs.files.is_some() || self.watched()
    }

    /// The name of a topic of results in Kafka.
    pub fn kafka_topic(&self, name: &str) -> String {
        format!("{}-{name}", self.name)
    }

    /// A job with what cannot be written down as a default text; it is no right job before the
    /// defaults are set.
    fn blank(file: &Path) -> Job {
        Job {
            name: settings::name_of_file(file),
            workers: settings::cores(),
            source: Source {
                log: None,
                kafka: None,
                topic: String::new(),
                follow: false,
                clock: Clock::LogTime,
            },
            schemas: Schemas {
                store: None,
                reader: None,
                roles: BTreeMap::new(),
                privacy: BTreeMap::new(),
            },
            visits: VisitRules {
                inactivity: 0,
                max_length: 0,
                max_size: 0,
                max_delay: 0,
            },
            time: TimeRules {
                tick: 0,
                max_lag: 0,
                max_ahead: 0,
            },
            limits: Limits { max_record: 0 },
            enrich: Enrich {
                geoip: None,
                user_agents: None,
                robots: None,
                robots_over: 0,
            },
            outputs: Outputs {
                log: None,
                kafka: None,
                schemas: None,
                partitions: 0,
                files: None,
                file_size: 0,
                file_age: 0,
                replace: false,
                further: Vec::new(),
                extensions: Vec::new(),
            },
            state: State {
                dir: None,
                kafka: None,
                memory: 0,
                snapshots: 0,
            },
            kafka: BTreeMap::new(),
            privacy: Privacy { salts: None },
            observe: Observe { frontier_log: None },
            attribution: Attribution {
                look_back: 0,
                browsers: 0,
                customers: 0,
            },
            profiles: Profiles {
                enabled: false,
                retention: 0,
                forgotten: None,
            },
            serve: Serve {
                address: None,
                tokens: None,
                history: 0,
                subscribers: 0,
                rows: 0,
                timeout: 0,
            },
            views: Vec::new(),
        }
    }
}

/// A job together with where each of its settings was written.
#[derive(Clone, Debug)]
pub struct JobFile {
    /// The job.
    pub job: Job,
    file: PathBuf,
    /// By the whole name, which for a section of field paths goes on with the path.
    written: BTreeMap<String, Written>,
}

/// Where a setting was written, and how.
#[derive(Clone, Debug)]
struct Written {
    place: Place,
    value: String,
}

impl JobFile {
    /// Where a setting's value comes from; [`Place::Default`] if it was not written anywhere.
    pub fn place(&self, setting: &str) -> &Place {
        self.written
            .get(setting)
            .map_or(&Place::Default, |written| &written.place)
    }

    /// An error about a setting's value, at the place where it was written.
    fn wrong(&self, setting: &str, expected: String) -> JobError {
        let key = setting.to_owned();
        match self.written.get(setting) {
            Some(Written { place, value }) => JobError {
                place: place.clone(),
                problem: Problem::Value {
                    key,
                    value: value.clone(),
                    expected,
                },
            },
            None => JobError {
                place: Place::File {
                    file: self.file.clone(),
                    at: None,
                },
                problem: Problem::Value {
                    key,
                    value: report::value_text(&self.job, setting),
                    expected,
                },
            },
        }
    }
}
