//! From user agents to robots, browsers, operating systems and devices, by two
//! published lists of patterns: crawler-user-agents first, since it finds the
//! robots that uap-core takes for browsers, then uap-core for the names.
//!
//! A user agent is whatever a client likes to say. A robot that lies is a person
//! here; it is found by its behaviour, which is not looked at in this module.
//!
//! Cost: 15 to 30 µs a user agent and, for one made up to be expensive, about
//! 1 ms (measured over the first 1,024 bytes, which is all that is looked at; all
//! patterns run in time linear in it). [`Enrichment`](super::Enrichment) keeps the
//! answers. The built-in lists take 0.15 s to compile and 30 MB, shared by clones.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use ua_parser::{Extractor, ParseError, Regexes, device, os, user_agent};

use super::EnrichError;
use super::robots::Robots;

/// crawler-user-agents' list of robots, as of the program's release.
pub const BUILT_IN_ROBOTS: &[u8] = include_bytes!("../../data/crawler-user-agents.json");

/// uap-core's patterns of browsers, systems and devices, as of the program's release.
pub const BUILT_IN_REGEXES: &[u8] = include_bytes!("../../data/uap-core-regexes.yaml");

/// How much of a user agent is looked at, in bytes; the longest of 4,500 real ones
/// has 711. What comes after never changes an answer.
pub const USER_AGENT_BYTES: usize = 1024;

/// How long a browser's, system's or device's name may get, in bytes. Some patterns
/// take the name out of the user agent, and a client could make it any length; the
/// longest of 2,356 real ones has 60.
pub const NAME_BYTES: usize = 64;

/// What kind of agent sent a measurement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// A browser that uap-core has a name for, and not known to be a robot.
    Person = 0,
    /// A pattern of the robot list matches, or uap-core calls the device `Spider`.
    Robot = 1,
    /// Everything else: no user agent, an empty one or `-` (as access logs write
    /// none), one in which uap-core finds no browser (even if it names a system or
    /// a device, as in `Chef Client/10.18.2 (… linux …)`), or any but a listed robot
    /// if there are no patterns to look for browsers.
    Unknown = 2,
}

impl Class {
    /// The classes' names, in the order of their numbers: the symbols of the Avro
    /// enum `agent`.
    pub const NAMES: [&'static str; 3] = ["person", "robot", "unknown"];

    /// The class's name.
    pub fn as_str(self) -> &'static str {
        Self::NAMES[self as usize]
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a user agent says of itself.
///
/// Names have at most [`NAME_BYTES`] and are never empty. Most come from the lists,
/// but some are taken out of the user agent, so that a rare one may tell a person
/// apart: for privacy treat `browser`, `os` and `device` like the user agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Person, robot or neither.
    pub class: Class,
    /// Which robot; there exactly if `class` is [`Class::Robot`]. A listed one is
    /// called by a name made of its pattern. Else it is what uap-core finds in place
    /// of the browser, or "Spider" where that is the browser it pretends to be.
    pub robot: Option<Arc<str>>,
    /// The browser or program, such as "Chrome Mobile".
    pub browser: Option<Arc<str>>,
    /// The operating system, such as "Android".
    pub os: Option<Arc<str>>,
    /// The device, such as "Samsung SM-G920F" or "iPhone".
    pub device: Option<Arc<str>>,
}

impl Agent {
    /// The answer where there is nothing to go by.
    pub const UNKNOWN: Self = Self {
        class: Class::Unknown,
        robot: None,
        browser: None,
        os: None,
        device: None,
    };
}

/// Tells user agents apart. Cheap to clone: the clones share the patterns.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
}

struct Shared {
    robots: Option<Robots>,
    names: Option<Extractor<'static>>,
    fingerprint: [u8; 32],
}

impl Agents {
    /// Compiles the robot list (the JSON of crawler-user-agents) and the patterns
    /// (`regexes.yaml` of uap-core); [`BUILT_IN_ROBOTS`] and [`BUILT_IN_REGEXES`]
    /// are such. Without the one no robot is found but by uap-core, without the
    /// other there are no names and no persons, without both all is unknown.
    ///
    /// # Errors
    /// Names the list, the entry from 0, its pattern, and what was expected.
    pub fn new(
        robots_json: Option<&[u8]>,
        uap_regexes_yaml: Option<&[u8]>,
    ) -> Result<Self, EnrichError> {
        let mut fingerprint = Sha256::new();
        for list in [robots_json, uap_regexes_yaml] {
            match list {
                Some(list) => fingerprint.update(Sha256::digest(list)),
                None => fingerprint.update([0; 32]),
            }
        }
        Ok(Self {
            shared: Arc::new(Shared {
                robots: robots_json.map(Robots::from_json).transpose()?,
                names: uap_regexes_yaml.map(compile).transpose()?,
                fingerprint: fingerprint.finalize().into(),
            }),
        })
    }

    /// What a user agent says, worked out anew: see the module for the cost.
    pub fn classify(&self, user_agent: Option<&str>) -> Agent {
        let user_agent = considered(user_agent.unwrap_or_default());
        if matches!(user_agent.trim(), "" | "-") {
            return Agent::UNKNOWN;
        }
        let listed = self.shared.robots.as_ref();
        let listed = listed.and_then(|robots| robots.find(user_agent)).cloned();

        let (mut browser, mut os, mut device) = (None, None, None);
        if let Some(names) = &self.shared.names {
            let (by_browser, by_os, by_device) = names.extract(user_agent);
            browser = by_browser.and_then(|found| name(&found.family));
            os = by_os.and_then(|found| name(&found.os));
            device = by_device.and_then(|found| name(&found.device));
        }
        let spider = device.as_deref() == Some("Spider");
        if spider {
            device = None;
        }
        let robot = match listed {
            Some(listed) => Some(listed),
            None if spider => Some(spider_name(browser.as_ref(), os.is_some())),
            None => None,
        };
        let class = match (&robot, &browser) {
            (Some(_), _) => Class::Robot,
            (None, Some(_)) => Class::Person,
            (None, None) => Class::Unknown,
        };
        Agent {
            class,
            robot,
            browser,
            os,
            device,
        }
    }

    /// SHA-256 over both lists: equal data give equal answers.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.shared.fingerprint
    }
}

impl fmt::Debug for Agents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agents")
            .field("robots", &self.shared.robots.is_some())
            .field("names", &self.shared.names.is_some())
            .finish()
    }
}

/// The part of a user agent that is looked at.
pub(super) fn considered(user_agent: &str) -> &str {
    cut(user_agent, USER_AGENT_BYTES)
}

/// At most the first `bytes` of a text, ending between characters.
fn cut(text: &str, bytes: usize) -> &str {
    if text.len() <= bytes {
        return text;
    }
    let end = (0..=bytes).rev().find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// A name as we give it; uap-core says "Other" where it does not know.
fn name(found: &str) -> Option<Arc<str>> {
    let name = cut(found.trim(), NAME_BYTES).trim_end();
    (!name.is_empty() && name != "Other").then(|| Arc::from(name))
}

/// What a robot is called that only uap-core knows. One that names a system
/// pretends to be a browser there ("Chrome … slurp"), and uap-core may well find
/// the browser; one that does not is found by its own name.
fn spider_name(browser: Option<&Arc<str>>, names_a_system: bool) -> Arc<str> {
    let robotic = |name: &str| {
        let name = name.to_ascii_lowercase();
        ["bot", "spider", "crawl"]
            .iter()
            .any(|word| name.contains(word))
    };
    match browser {
        Some(browser) if !names_a_system || robotic(browser) => browser.clone(),
        _ => Arc::from("Spider"),
    }
}

fn compile(yaml: &[u8]) -> Result<Extractor<'static>, EnrichError> {
    let whole = |reason: String| EnrichError::NotAgentPatterns { reason };
    let lists: Regexes<'static> =
        serde_yaml::from_slice(yaml).map_err(|error| whole(error.to_string()))?;
    if lists.user_agent_parsers.is_empty() {
        return Err(whole("`user_agent_parsers` is empty".to_owned()));
    }

    let mut browsers = user_agent::Builder::new();
    for (entry, parser) in lists.user_agent_parsers.into_iter().enumerate() {
        let pattern = parser.regex.to_string();
        browsers = browsers.push(parser).map_err(|error| {
            let reason = match error {
                ua_parser::Error::ParseError(error) => said(error),
                ua_parser::Error::MissingGroup(group) => {
                    format!("its replacement uses ${group}, expected a group for it")
                }
                other => other.to_string(),
            };
            wrong("user_agent_parsers", entry, pattern, reason)
        })?;
    }
    let mut systems = os::Builder::new();
    for (entry, parser) in lists.os_parsers.into_iter().enumerate() {
        let pattern = parser.regex.to_string();
        systems = systems
            .push(parser)
            .map_err(|error| wrong("os_parsers", entry, pattern, said(error)))?;
    }
    let mut devices = device::Builder::new();
    for (entry, parser) in lists.device_parsers.into_iter().enumerate() {
        let pattern = parser.regex.to_string();
        devices = devices
            .push(parser)
            .map_err(|error| wrong("device_parsers", entry, pattern, said(error)))?;
    }
    Ok(Extractor {
        ua: browsers.build().map_err(|error| whole(error.to_string()))?,
        os: systems.build().map_err(|error| whole(error.to_string()))?,
        dev: devices.build().map_err(|error| whole(error.to_string()))?,
    })
}

fn wrong(list: &'static str, entry: usize, pattern: String, reason: String) -> EnrichError {
    EnrichError::AgentPattern {
        list,
        entry,
        pattern,
        reason,
    }
}

fn said(error: ParseError) -> String {
    match error {
        ParseError::SyntaxError(error) => format!("expected a regular expression: {error}"),
        ParseError::RegexTooLarge(limit) => {
            format!("expected a regular expression that compiles to less than {limit} bytes")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    static BUILT_IN: LazyLock<Agents> = LazyLock::new(|| {
        Agents::new(Some(BUILT_IN_ROBOTS), Some(BUILT_IN_REGEXES)).expect("sound lists")
    });

    fn refused(robots: Option<&str>, regexes: Option<&str>) -> String {
        Agents::new(robots.map(str::as_bytes), regexes.map(str::as_bytes))
            .expect_err("a wrong list")
            .to_string()
    }

    #[test]
    fn a_browser_is_a_person() {
        let agent = BUILT_IN.classify(Some(
            "Mozilla/5.0 (Linux; Android 7.0; SM-G920F Build/NRD90M) AppleWebKit/537.36 \
             (KHTML, like Gecko) Chrome/71.0.3578.99 Mobile Safari/537.36",
        ));
        assert_eq!(agent.class, Class::Person);
        assert_eq!(agent.robot, None);
        assert_eq!(agent.browser.as_deref(), Some("Chrome Mobile"));
        assert_eq!(agent.os.as_deref(), Some("Android"));
        assert_eq!(agent.device.as_deref(), Some("Samsung SM-G920F"));
    }

    #[test]
    fn a_robot_is_called_by_its_name() {
        for (robot, user_agent) in [
            (
                "Googlebot",
                "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 \
                 (KHTML, like Gecko) Chrome/41.0.2272.96 Mobile Safari/537.36 (compatible; \
                 Googlebot/2.1; +http://www.google.com/bot.html)",
            ),
            (
                "bingbot",
                "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
            ),
            (
                "AhrefsBot",
                "Mozilla/5.0 (compatible; AhrefsBot/6.1; +http://ahrefs.com/robot/)",
            ),
            ("Wget", "Wget/1.12 (linux-gnu)"),
            ("curl", "curl/7.58.0"),
            // Only uap-core knows these.
            (
                "EasouSpider",
                "Mozilla/5.0 (compatible; EasouSpider; +http://www.easou.com/)",
            ),
            (
                "Spider",
                "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) \
                 Chrome/32.0.1700.107 Safari/537.36 slurp",
            ),
        ] {
            let agent = BUILT_IN.classify(Some(user_agent));
            assert_eq!(agent.class, Class::Robot, "{user_agent}");
            assert_eq!(agent.robot.as_deref(), Some(robot), "{user_agent}");
        }
    }

    #[test]
    fn who_says_nothing_is_unknown() {
        for user_agent in [None, Some(""), Some("-"), Some(" "), Some(" - ")] {
            assert_eq!(BUILT_IN.classify(user_agent), Agent::UNKNOWN);
        }
    }

    #[test]
    fn a_system_without_a_browser_is_unknown() {
        let agent = BUILT_IN.classify(Some("Chef Client/10.18.2 (ruby-1.9.3-p327; x86_64-linux)"));
        assert_eq!(agent.class, Class::Unknown);
        assert_eq!(agent.os.as_deref(), Some("Linux"));
        assert_eq!(BUILT_IN.classify(Some("Mozilla/5.0")), Agent::UNKNOWN);
    }

    #[test]
    fn each_list_works_without_the_other() {
        let firefox = "Mozilla/5.0 (Windows NT 6.1; rv:60.0) Gecko/20100101 Firefox/60.0";
        let nothing = Agents::new(None, None).expect("nothing to compile");
        assert_eq!(nothing.classify(Some(firefox)), Agent::UNKNOWN);
        assert_eq!(nothing.classify(Some("Googlebot/2.1")), Agent::UNKNOWN);

        let robots = Agents::new(Some(BUILT_IN_ROBOTS), None).expect("a sound list");
        assert_eq!(robots.classify(Some(firefox)), Agent::UNKNOWN);
        assert_eq!(robots.classify(Some("Googlebot/2.1")).class, Class::Robot);

        let names = Agents::new(None, Some(BUILT_IN_REGEXES)).expect("sound patterns");
        assert_eq!(names.classify(Some(firefox)).class, Class::Person);
        assert_eq!(
            names.classify(Some("Googlebot/2.1")).robot.as_deref(),
            Some("Googlebot")
        );
    }

    #[test]
    fn only_the_first_bytes_count() {
        let mut long = "Mozilla/5.0 Firefox/60.0 ".to_owned();
        long.push_str(&"ä".repeat(USER_AGENT_BYTES));
        let expected = BUILT_IN.classify(Some(considered(&long)));
        long.push_str(" Googlebot/2.1");
        assert_eq!(BUILT_IN.classify(Some(&long)), expected);
        assert_eq!(expected.class, Class::Person);
    }

    #[test]
    fn a_name_has_a_bound() {
        let yaml = "user_agent_parsers: [{regex: '(x.*)'}]\nos_parsers: []\ndevice_parsers: []\n";
        let agents = Agents::new(None, Some(yaml.as_bytes())).expect("sound patterns");
        let browser = agents
            .classify(Some(&"xä".repeat(100)))
            .browser
            .expect("a name");
        assert!(browser.len() <= NAME_BYTES && browser.starts_with("xä"));
    }

    #[test]
    fn a_wrong_list_is_named_with_entry_and_pattern() {
        let error = refused(None, Some("user_agent_parsers: []\n"));
        assert!(
            error.contains("expected YAML with `user_agent_parsers`"),
            "{error}"
        );
        assert!(error.contains("os_parsers"), "{error}");
        let error = refused(None, Some("user_agent_parsers: ["));
        assert!(error.contains("line 2 column"), "{error}");
        let error = refused(
            None,
            Some("user_agent_parsers: [{regex: a}, {rex: b}]\nos_parsers: []\ndevice_parsers: []"),
        );
        assert!(
            error.contains("user_agent_parsers[1]: missing field `regex`"),
            "{error}"
        );
        let error = refused(
            None,
            Some(
                "user_agent_parsers: [{regex: a}]\nos_parsers: []\ndevice_parsers: [{regex: 'b('}]",
            ),
        );
        assert!(
            error.contains("device_parsers[0], `b(`: expected a regular"),
            "{error}"
        );
        let error = refused(
            None,
            Some(
                "user_agent_parsers: [{regex: a, family_replacement: 'x $1'}]\nos_parsers: []\ndevice_parsers: []",
            ),
        );
        assert!(error.contains("user_agent_parsers[0], `a`"), "{error}");
        let error = refused(
            None,
            Some("user_agent_parsers: []\nos_parsers: []\ndevice_parsers: []"),
        );
        assert!(error.contains("is empty"), "{error}");
        assert!(refused(Some("[7]"), None).contains("robot list, entry 0: is a number"));
    }

    #[test]
    fn the_fingerprint_tells_data_apart() {
        let empty = Agents::new(None, None)
            .expect("nothing to compile")
            .fingerprint();
        let one = Agents::new(Some(b"[{\"pattern\":\"a\"}]"), None)
            .expect("a list")
            .fingerprint();
        let same = Agents::new(Some(b"[{\"pattern\":\"a\"}]"), None)
            .expect("a list")
            .fingerprint();
        assert_ne!(empty, one);
        assert_eq!(one, same);
    }

    proptest! {
        #[test]
        fn no_string_panics(
            parts in prop::collection::vec(
                prop_oneof![
                    ".{0,20}",
                    prop::sample::select(vec![
                        "Mozilla/5.0 (", "Linux; Android 4.4.4; ", " Build/", "; ", ") ", "bot/",
                        "Chrome/71.0", "compatible; ", "iPhone", "Spider", "\\x22", "\u{0}", "ä",
                    ]).prop_map(str::to_owned),
                ],
                0..30,
            ),
        ) {
            let user_agent = parts.concat();
            let agent = BUILT_IN.classify(Some(&user_agent));
            prop_assert_eq!(agent.robot.is_some(), agent.class == Class::Robot);
            for name in [&agent.robot, &agent.browser, &agent.os, &agent.device].into_iter().flatten() {
                prop_assert!(!name.is_empty() && name.len() <= NAME_BYTES);
            }
        }
    }
}
