//! The table of all settings. For everyone who adds one: parsing, defaults, nearest names,
//! `visitflow check --explain`, the table of effective settings and the one in `docs/job-file.md`
//! are all made from this list, and a test holds the page against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use visitflow_schemas::role::{Privacy, Role};

use super::quantity::{Bytes, Count, Milliseconds};
use super::{Clock, Job};

/// One setting of a job.
#[derive(Debug)]
pub struct Setting {
    /// The name: the section, a dot, the key.
    pub name: &'static str,
    /// What values it takes, and where they go.
    pub kind: Kind,
    /// What holds if it is not written.
    pub default: DefaultValue,
    /// What it means, for a user.
    pub meaning: &'static str,
}

/// What holds if a setting is not written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum DefaultValue {
    /// It must be written.
    Required,
    /// As if this text were written.
    Text(&'static str),
    /// Something that is found out or left out, in words.
    Derived(&'static str),
}

/// The place in a job where a setting's value goes.
type Slot<T> = fn(&mut Job) -> &mut T;

/// What values a setting takes (bounds included), and where in a [`Job`] they go.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A time, in ms.
    Duration {
        /// The shortest.
        least: u64,
        /// The longest.
        most: u64,
        /// Its place.
        slot: Slot<u64>,
    },
    /// A number of bytes.
    Size {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
        /// Its place.
        slot: Slot<u64>,
    },
    /// A whole number.
    Count {
        /// The smallest.
        least: u64,
        /// The largest.
        most: u64,
        /// Its place.
        slot: Slot<u64>,
    },
    /// A number of threads.
    Workers {
        /// The most.
        most: usize,
        /// Its place.
        slot: Slot<usize>,
    },
    /// 1, 2, 4, 8, …
    PowerOfTwo {
        /// The largest.
        most: u32,
        /// Its place.
        slot: Slot<u32>,
    },
    /// `true` or `false`.
    Flag {
        /// Its place.
        slot: Slot<bool>,
    },
    /// A name of a job or a topic.
    Name {
        /// Its place.
        slot: Slot<String>,
    },
    /// A clock.
    Clock {
        /// Its place.
        slot: Slot<Clock>,
    },
    /// Brokers, as Kafka's clients take them.
    Brokers {
        /// Its place.
        slot: Slot<Option<String>>,
    },
    /// An address to listen at.
    Address {
        /// Its place.
        slot: Slot<Option<String>>,
    },
    /// A section of its own: properties of Kafka's clients.
    Properties {
        /// Its place.
        slot: Slot<BTreeMap<String, String>>,
    },
    /// A folder.
    Folder {
        /// Its place.
        slot: Slot<Option<PathBuf>>,
    },
    /// A file.
    File {
        /// Its place.
        slot: Slot<Option<PathBuf>>,
    },
    /// A section of its own: a role for each path of a field.
    Roles {
        /// Its place.
        slot: Slot<BTreeMap<String, Role>>,
    },
    /// A section of its own: what becomes of a field in the anonymized twins, for each path of one.
    Privacies {
        /// Its place.
        slot: Slot<BTreeMap<String, Privacy>>,
    },
}

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Kind {
    /// What can stand there, in words that complete "expected …".
    pub fn expected(&self) -> String {
        match self {
            Kind::Duration { least, most, .. } => {
                format!(
                    "a duration from {} to {}",
                    Milliseconds(*least),
                    Milliseconds(*most)
                )
            }
            Kind::Size { least, most, .. } => {
                format!("a size from {} to {}", Bytes(*least), Bytes(*most))
            }
            Kind::Count { least, most, .. } => {
                format!("a whole number from {} to {}", Count(*least), Count(*most))
            }
            Kind::Workers { most, .. } => format!("a whole number from 1 to {most}"),
            Kind::PowerOfTwo { most, .. } => format!("a power of two from 1 to {most}"),
            Kind::Flag { .. } => "true or false".to_owned(),
            Kind::Name { .. } => {
                "a name of letters, digits, `.`, `_` and `-`, at most 200".to_owned()
            }
            Kind::Clock { .. } => format!("one of {}", Clock::ALL.map(Clock::word).join(", ")),
            Kind::Folder { .. } => "the path of a folder".to_owned(),
            Kind::Brokers { .. } => "HOST:PORT, or several with commas between".to_owned(),
            Kind::Address { .. } => "HOST:PORT".to_owned(),
            Kind::Properties { .. } => {
                "a section of librdkafka's properties, each with a text".to_owned()
            }
            Kind::File { .. } => "the path of a file".to_owned(),
            Kind::Roles { .. } => {
                format!(
                    "a section of field paths, each with one of {}",
                    Role::words()
                )
            }
            Kind::Privacies { .. } => {
                format!(
                    "a section of field paths, each with one of {}",
                    Privacy::words()
                )
            }
        }
    }

    /// Whether it is a section of its own, with paths of fields for keys.
    pub fn is_by_path(&self) -> bool {
        matches!(
            self,
            Kind::Roles { .. } | Kind::Privacies { .. } | Kind::Properties { .. }
        )
    }

    /// A value as one writes it in a job file, for errors about the form of a value.
    pub(super) fn example(&self) -> &'static str {
        match self {
            Kind::Duration { .. } => "\"30min\" or \"1h 30m\"",
            Kind::Size { .. } => "\"64MB\" or \"1 GiB\"",
            Kind::Count { .. } => "100_000",
            Kind::Workers { .. } | Kind::PowerOfTwo { .. } => "4",
            Kind::Flag { .. } => "true",
            Kind::Name { .. } => "\"measurements\"",
            Kind::Clock { .. } => "\"log_time\"",
            Kind::Folder { .. } => "\"shop/log\"",
            Kind::Brokers { .. } => "\"broker-1:9092,broker-2:9092\"",
            Kind::Address { .. } => "\"127.0.0.1:8080\"",
            Kind::Properties { .. } => "\"security.protocol\" = \"ssl\"",
            Kind::File { .. } => "\"data/countries.mmdb\"",
            Kind::Roles { .. } => "\"visitor.id\" = \"browser_id\"",
            Kind::Privacies { .. } => "\"visitor.id\" = \"pseudonymize\"",
        }
    }
}

/// The job's name if none is written: the file's name without `.toml`, with `-` for what a name
/// cannot hold.
pub(super) fn name_of_file(file: &Path) -> String {
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name: String = stem
        .chars()
        .take(200)
        .map(|c| if is_name_char(c) { c } else { '-' })
        .collect();
    if is_name(&name) {
        name
    } else {
        "job".to_owned()
    }
}

/// The number of threads this machine runs at once, as far as it tells; at most the number of
/// shards.
pub(super) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256))
}

fn is_name_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// Whether a text can be the name of a job or topic: also of a folder, a Kafka topic, a
/// transactional ID.
pub fn is_name(text: &str) -> bool {
    (1..=200).contains(&text.len())
        && text.chars().all(is_name_char)
        && !text.chars().all(|c| c == '.')
}

/// All settings, section by section, in the order in which a reader wants to hear of them.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "name",
        kind: Kind::Name {
            slot: |job| &mut job.name,
        },
        default: DefaultValue::Derived("the job file's name"),
        meaning: "The job's name, by which its runs and its Kafka producers are known.",
    },
    Setting {
        name: "workers",
        kind: Kind::Workers {
            most: 256,
            slot: |job| &mut job.workers,
        },
        default: DefaultValue::Derived("the machine's cores"),
        meaning: "Threads that work in each process. Results do not depend on it, and it may change at any start. \
                  `--workers N` replaces it.",
    },
    Setting {
        name: "kafka",
        kind: Kind::Properties {
            slot: |job| &mut job.kafka,
        },
        default: DefaultValue::Derived("librdkafka's own"),
        meaning: "Properties of librdkafka, for source.kafka, outputs.kafka and state.kafka: `\"security.protocol\" = \"ssl\"`. A \
                  value `file:PATH` or `env:NAME` is read from there, for what is secret.",
    },
    Setting {
        name: "source.log",
        kind: Kind::Folder {
            slot: |job| &mut job.source.log,
        },
        default: DefaultValue::Derived("no log"),
        meaning: "The folder of the log that is read, as `visitflow import` and `visitflow generate` write it. It or \
                  source.kafka must be there.",
    },
    Setting {
        name: "source.kafka",
        kind: Kind::Brokers {
            slot: |job| &mut job.source.kafka,
        },
        default: DefaultValue::Derived("no Kafka"),
        meaning: "Brokers of the Kafka from which is read, instead of source.log. Needs schemas.store.",
    },
    Setting {
        name: "source.topic",
        kind: Kind::Name {
            slot: |job| &mut job.source.topic,
        },
        default: DefaultValue::Text("measurements"),
        meaning: "The topic that is read.",
    },
    Setting {
        name: "source.follow",
        kind: Kind::Flag {
            slot: |job| &mut job.source.follow,
        },
        default: DefaultValue::Text("false"),
        meaning: "false: the job ends with the topic, and so does every visit. true: it waits for more, and visits \
                  end as time passes.",
    },
    Setting {
        name: "source.clock",
        kind: Kind::Clock {
            slot: |job| &mut job.source.clock,
        },
        default: DefaultValue::Text("log_time"),
        meaning: "What moves a partition's clock: the times at which the log took the records (in Kafka a topic with \
                  message.timestamp.type=LogAppendTime), or those at which they happened, for logs whose own times \
                  mean nothing.",
    },
    Setting {
        name: "schemas.store",
        kind: Kind::Folder {
            slot: |job| &mut job.schemas.store,
        },
        default: DefaultValue::Derived("`schemas` in source.log"),
        meaning: "The folder of Avro schemas (`.avsc`) in which those of the records are found.",
    },
    Setting {
        name: "schemas.reader",
        kind: Kind::File {
            slot: |job| &mut job.schemas.reader,
        },
        default: DefaultValue::Derived("the built-in measurement"),
        meaning: "The Avro schema whose fields the tables have as columns.",
    },
    Setting {
        name: "schemas.roles",
        kind: Kind::Roles {
            slot: |job| &mut job.schemas.roles,
        },
        default: DefaultValue::Derived("as the schemas say"),
        meaning: "The roles of fields, for schemas that do not say them: \
                  `\"visitor.id\" = \"browser_id\"`.",
    },
    Setting {
        name: "schemas.privacy",
        kind: Kind::Privacies {
            slot: |job| &mut job.schemas.privacy,
        },
        default: DefaultValue::Derived("as the schemas say"),
        meaning: "How the anonymized twins treat fields, for schemas that do not say it: \
                  `\"visitor.id\" = \"pseudonymize\"`.",
    },
    Setting {
        name: "visits.inactivity",
        kind: Kind::Duration {
            least: 1,
            most: 366 * DAY,
            slot: |job| &mut job.visits.inactivity,
        },
        default: DefaultValue::Text("30min"),
        meaning: "A measurement that comes more than this after the one before it begins a new visit. At most \
                  visits.max_length.",
    },
    Setting {
        name: "visits.max_length",
        kind: Kind::Duration {
            least: 1,
            most: 366 * DAY,
            slot: |job| &mut job.visits.max_length,
        },
        default: DefaultValue::Text("24h"),
        meaning: "A measurement that comes this or more after its visit's first begins a new visit.",
    },
    Setting {
        name: "visits.max_size",
        kind: Kind::Count {
            least: 1,
            most: 10_000_000,
            slot: |job| &mut job.visits.max_size,
        },
        default: DefaultValue::Text("100_000"),
        meaning: "A measurement that would be one more than this in its visit begins a new visit.",
    },
    Setting {
        name: "visits.max_delay",
        kind: Kind::Duration {
            least: 0,
            most: 30 * DAY,
            slot: |job| &mut job.visits.max_delay,
        },
        default: DefaultValue::Text("2min"),
        meaning: "How far a measurement's own time may lie behind the clock before it is late. A larger one delays \
                  the ends of visits, never the tags.",
    },
    Setting {
        name: "time.tick",
        kind: Kind::Duration {
            least: 1,
            most: SECOND,
            slot: |job| &mut job.time.tick,
        },
        default: DefaultValue::Text("100ms"),
        meaning: "The smallest moment of processing. A divisor of a second.",
    },
    Setting {
        name: "time.max_lag",
        kind: Kind::Duration {
            least: 1,
            most: HOUR,
            slot: |job| &mut job.time.max_lag,
        },
        default: DefaultValue::Text("5s"),
        meaning: "How far the clocks of the hosts and an unread record may lie apart. At least time.tick.",
    },
    Setting {
        name: "time.max_ahead",
        kind: Kind::Duration {
            least: 0,
            most: DAY,
            slot: |job| &mut job.time.max_ahead,
        },
        default: DefaultValue::Text("5min"),
        meaning: "How far a measurement's own time may lie in front of the clock before it is rejected as `future`.",
    },
    Setting {
        name: "limits.max_record",
        kind: Kind::Size {
            least: 1_000,
            most: 64_000_000,
            slot: |job| &mut job.limits.max_record,
        },
        default: DefaultValue::Text("1MB"),
        meaning: "The largest record that is taken; larger ones are rejected.",
    },
    Setting {
        name: "enrich.geoip",
        kind: Kind::File {
            slot: |job| &mut job.enrich.geoip,
        },
        default: DefaultValue::Derived("no countries"),
        meaning: "A MaxMind database, from which the country of an IP address is known.",
    },
    Setting {
        name: "enrich.user_agents",
        kind: Kind::File {
            slot: |job| &mut job.enrich.user_agents,
        },
        default: DefaultValue::Derived("the built-in rules"),
        meaning: "The rules by which browser, operating system and device are known: `regexes.yaml` of uap-core.",
    },
    Setting {
        name: "enrich.robots",
        kind: Kind::File {
            slot: |job| &mut job.enrich.robots,
        },
        default: DefaultValue::Derived("the built-in list"),
        meaning: "The rules by which robots are known: `crawler-user-agents.json`.",
    },
    Setting {
        name: "enrich.robots_over",
        kind: Kind::Count {
            least: 1,
            most: 1_000_000_000,
            slot: |job| &mut job.enrich.robots_over,
        },
        default: DefaultValue::Text("2_000"),
        meaning: "A browser whose open visits have more measurements than this counts as a robot in views, \
                  and so does what it measured before in these visits.",
    },
    Setting {
        name: "outputs.log",
        kind: Kind::Folder {
            slot: |job| &mut job.outputs.log,
        },
        default: DefaultValue::Derived("no topics"),
        meaning: "The folder of the log into which the topics `tagged`, `lifecycle`, `late` and \
                  `rejected` are written. It, outputs.kafka or outputs.files must be there.",
    },
    Setting {
        name: "outputs.kafka",
        kind: Kind::Brokers {
            slot: |job| &mut job.outputs.kafka,
        },
        default: DefaultValue::Derived("no Kafka"),
        meaning: "Brokers of the Kafka into which those topics are written, instead of outputs.log, each with the \
                  job's name before its own: `shop-tagged`. Needs state.dir.",
    },
    Setting {
        name: "outputs.schemas",
        kind: Kind::Folder {
            slot: |job| &mut job.outputs.schemas,
        },
        default: DefaultValue::Derived("`schemas` in outputs.log, else in state.dir"),
        meaning: "The folder into which the schemas of the outputs' messages are put.",
    },
    Setting {
        name: "outputs.partitions",
        kind: Kind::PowerOfTwo {
            most: 256,
            slot: |job| &mut job.outputs.partitions,
        },
        default: DefaultValue::Text("16"),
        meaning: "The partitions of each of those topics.",
    },
    Setting {
        name: "outputs.files",
        kind: Kind::Folder {
            slot: |job| &mut job.outputs.files,
        },
        default: DefaultValue::Derived("no tables"),
        meaning: "The folder under which the tables of measurements and visits are written. It, \
                  outputs.log or outputs.kafka must be there.",
    },
    Setting {
        name: "outputs.file_size",
        kind: Kind::Size {
            least: 1_000,
            most: 64_000_000_000,
            slot: |job| &mut job.outputs.file_size,
        },
        default: DefaultValue::Text("256MB"),
        meaning: "The size at which a table's files are closed and become visible.",
    },
    Setting {
        name: "outputs.file_age",
        kind: Kind::Duration {
            least: SECOND,
            most: 7 * DAY,
            slot: |job| &mut job.outputs.file_age,
        },
        default: DefaultValue::Text("5min"),
        meaning: "The age at which they are, if they have not reached that size.",
    },
    Setting {
        name: "outputs.replace",
        kind: Kind::Flag {
            slot: |job| &mut job.outputs.replace,
        },
        default: DefaultValue::Text("false"),
        meaning: "true: what an earlier run left in outputs.log, outputs.files and state.dir is removed first. \
                  false: the job goes on where it was, with state.dir, or does not start when there is any.",
    },
    Setting {
        name: "state.dir",
        kind: Kind::Folder {
            slot: |job| &mut job.state.dir,
        },
        default: DefaultValue::Derived("none: a run cannot go on where another was"),
        meaning: "The folder in which a job keeps what it needs to go on after a stop or a crash: what was read at \
                  which tick, all state once in a while, the measurements of open visits. One folder for all \
                  processes.",
    },
    Setting {
        name: "state.kafka",
        kind: Kind::Brokers {
            slot: |job| &mut job.state.kafka,
        },
        default: DefaultValue::Derived("`journal` in state.dir"),
        meaning: "Brokers of the Kafka in which the journal is kept, what was read at which tick, for processes on \
                  several hosts: in a topic of the job's name and `-journal`. All else stays in state.dir. Not to be \
                  changed between starts.",
    },
    Setting {
        name: "state.memory",
        kind: Kind::Size {
            least: 1_000_000,
            most: 1_000_000_000_000,
            slot: |job| &mut job.state.memory,
        },
        default: DefaultValue::Text("1GB"),
        meaning: "How much memory the measurements of open visits may take in each process; the others lie in \
                  state.dir.",
    },
    Setting {
        name: "state.snapshots",
        kind: Kind::Duration {
            least: 100,
            most: DAY,
            slot: |job| &mut job.state.snapshots,
        },
        default: DefaultValue::Text("1min"),
        meaning: "How often all state is kept. A start reads again what came since.",
    },
    Setting {
        name: "attribution.look_back",
        kind: Kind::Duration {
            least: 0,
            most: 366 * DAY,
            slot: |job| &mut job.attribution.look_back,
        },
        default: DefaultValue::Text("30d"),
        meaning: "How long before an order what its browser, or its customer, met in earlier visits may have led to it.",
    },
    Setting {
        name: "attribution.browsers",
        kind: Kind::Count {
            least: 0,
            most: 1_000_000_000,
            slot: |job| &mut job.attribution.browsers,
        },
        default: DefaultValue::Text("1_000_000"),
        meaning: "Of so many browsers it is kept what they met in earlier visits, some 150 bytes each; of more, those \
                  whose visits ended last.",
    },
    Setting {
        name: "attribution.customers",
        kind: Kind::Count {
            least: 0,
            most: 1_000_000_000,
            slot: |job| &mut job.attribution.customers,
        },
        default: DefaultValue::Text("1_000_000"),
        meaning: "Of so many customers it is kept what they met in earlier visits on whatever browser, some 150 bytes \
                  each; of more, those whose visits ended last.",
    },
    Setting {
        name: "profiles.enabled",
        kind: Kind::Flag {
            slot: |job| &mut job.profiles.enabled,
        },
        default: DefaultValue::Text("false"),
        meaning: "true: a small profile of each customer is kept, in state.dir if there is one, sent on the topic \
                  `lifecycle` when a visit names the customer, and served as `/profiles/CUSTOMER`. It is personal \
                  data: ask your customers first.",
    },
    Setting {
        name: "profiles.retention",
        kind: Kind::Duration {
            least: DAY,
            most: 3_660 * DAY,
            slot: |job| &mut job.profiles.retention,
        },
        default: DefaultValue::Text("365d"),
        meaning: "A customer who was not seen for longer than this is forgotten.",
    },
    Setting {
        name: "profiles.forgotten",
        kind: Kind::File {
            slot: |job| &mut job.profiles.forgotten,
        },
        default: DefaultValue::Derived("nobody"),
        meaning: "A file of customers' IDs, one on a line, of whom nothing is kept and nothing sent; what is known of \
                  them is removed at the start.",
    },
    Setting {
        name: "privacy.salts",
        kind: Kind::File {
            slot: |job| &mut job.privacy.salts,
        },
        default: DefaultValue::Derived("no anonymized twins"),
        meaning: "The file of secret salts. Only `visitflow anonymize` may be able to read it: the other commands \
                  refuse to start when they can.",
    },
    Setting {
        name: "observe.frontier_log",
        kind: Kind::File {
            slot: |job| &mut job.observe.frontier_log,
        },
        default: DefaultValue::Derived("not written"),
        meaning: "A file that is told, as JSON lines, what moved time on and what held it.",
    },
    Setting {
        name: "serve.address",
        kind: Kind::Address {
            slot: |job| &mut job.serve.address,
        },
        default: DefaultValue::Derived("not served"),
        meaning: "Where the job is served over HTTP: its page, views, orders, progress, and metrics for Prometheus. \
                  Of several processes, process I takes the port that is higher by I. Port 0 is any free one; \
                  `visitflow status` says which. Other addresses than loopback ones need serve.tokens.",
    },
    Setting {
        name: "serve.tokens",
        kind: Kind::File {
            slot: |job| &mut job.serve.tokens,
        },
        default: DefaultValue::Derived("none: only this machine is answered"),
        meaning: "The file of tokens, each with what it is good for; or `env:NAME`, a variable that holds the same.",
    },
    Setting {
        name: "serve.history",
        kind: Kind::Duration {
            least: SECOND,
            most: DAY,
            slot: |job| &mut job.serve.history,
        },
        default: DefaultValue::Text("5min"),
        meaning: "How long views can be read as of an earlier tick, and changes be taken up where they were left.",
    },
    Setting {
        name: "serve.subscribers",
        kind: Kind::Count {
            least: 1,
            most: 100_000,
            slot: |job| &mut job.serve.subscribers,
        },
        default: DefaultValue::Text("1_000"),
        meaning: "The most who may listen to changes at a time, of each process.",
    },
    Setting {
        name: "serve.rows",
        kind: Kind::Count {
            least: 1,
            most: 10_000_000,
            slot: |job| &mut job.serve.rows,
        },
        default: DefaultValue::Text("10_000"),
        meaning: "The most rows of an answer.",
    },
    Setting {
        name: "serve.timeout",
        kind: Kind::Duration {
            least: 100,
            most: HOUR,
            slot: |job| &mut job.serve.timeout,
        },
        default: DefaultValue::Text("10s"),
        meaning: "How long an answer of the job's workers may take, about visits and customers.",
    },
];

/// The setting of a name, and for a name within a section of field paths the path.
pub(super) fn find(name: &str) -> Option<(&'static Setting, Option<&str>)> {
    SETTINGS.iter().find_map(
        |setting| match (name.strip_prefix(setting.name)?, &setting.kind) {
            ("", _) => Some((setting, None)),
            (rest, kind) if kind.is_by_path() => Some((setting, Some(rest.strip_prefix('.')?))),
            _ => None,
        },
    )
}

/// Whether settings or sections lie below a name.
pub(super) fn is_section(name: &str) -> bool {
    SETTINGS.iter().any(|setting| {
        setting
            .name
            .strip_prefix(name)
            .is_some_and(|rest| rest.starts_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_no_setting_is_a_section() {
        let names: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.name).collect();
        assert_eq!(names.len(), SETTINGS.len());
        for name in names {
            assert!(!is_section(name), "{name}");
        }
    }

    #[test]
    fn sections_are_written_together() {
        let mut seen = Vec::new();
        for setting in SETTINGS {
            let section = setting
                .name
                .split_once('.')
                .map_or("", |(section, _)| section);
            if seen.last() != Some(&section) {
                assert!(!seen.contains(&section), "{section} stands in two places");
                seen.push(section);
            }
        }
    }

    #[test]
    fn meanings_are_sentences() {
        for setting in SETTINGS {
            assert!(setting.meaning.ends_with('.'), "{}", setting.name);
            assert!(!setting.meaning.contains("  "), "{}", setting.name);
            assert!(
                !setting.meaning.contains('|'),
                "{} would break the table in docs/job-file.md",
                setting.name
            );
        }
    }

    #[test]
    fn any_file_name_gives_a_name() {
        for (file, name) in [
            ("jobs/shop.toml", "shop"),
            ("my shop.toml", "my-shop"),
            ("/", "job"),
            ("..", "job"),
            ("läden.toml", "l-den"),
        ] {
            assert_eq!(name_of_file(Path::new(file)), name, "{file}");
            assert!(is_name(name));
        }
    }
}
