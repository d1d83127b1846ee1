//! What can be wrong with the data that enrichment is given.

/// Why a database or a rule list cannot be used.
///
/// Each says which of the three it is, where in it, and what was expected. The
/// file's name is not known here: whoever has read the file adds it.
#[derive(Debug, thiserror::Error)]
pub enum EnrichError {
    /// The bytes are no MaxMind database at all.
    #[error("country database: expected a MaxMind database (.mmdb): {reason}")]
    NotADatabase {
        /// What the reader says.
        reason: String,
    },
    /// A MaxMind database whose search tree or records cannot be read.
    #[error("country database of type `{kind}`, at {place}: {reason}")]
    BrokenDatabase {
        /// The database's own name for its type, such as `GeoLite2-Country`.
        kind: String,
        /// The network, or the part of the file.
        place: String,
        /// What was found and what was expected.
        reason: String,
    },
    /// A sound MaxMind database, but of something else (networks, domains).
    #[error(
        "country database of type `{kind}`: none of its records has `country.iso_code` or \
         `country_code`; expected a country or city database"
    )]
    NoCountries {
        /// The database's own name for its type, such as `GeoLite2-ASN`.
        kind: String,
    },
    /// The robot list as a whole.
    #[error(
        "robot list: expected a JSON array of objects with a `pattern`, as \
         crawler-user-agents.json: {reason}"
    )]
    NotARobotList {
        /// What was found, with line and column where the JSON is wrong.
        reason: String,
    },
    /// One entry of the robot list.
    #[error("robot list, entry {entry}: {reason}")]
    RobotEntry {
        /// The entry's place in the array, from 0.
        entry: usize,
        /// The pattern where there is one, what was found and what was expected.
        reason: String,
    },
    /// The user agent patterns as a whole.
    #[error(
        "user agent patterns: expected YAML with `user_agent_parsers`, `os_parsers` and \
         `device_parsers`, as uap-core's regexes.yaml: {reason}"
    )]
    NotAgentPatterns {
        /// What was found, with list, entry, line and column where they are known.
        reason: String,
    },
    /// One of the user agent patterns.
    #[error("user agent patterns, {list}[{entry}], `{pattern}`: {reason}")]
    AgentPattern {
        /// `user_agent_parsers`, `os_parsers` or `device_parsers`.
        list: &'static str,
        /// The entry's place in that list, from 0.
        entry: usize,
        /// Its regular expression.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}
