//! Enrichment: the country and the kind of agent of a measurement, by its IP
//! address and its user agent, as Avro bytes ready to be put in front of it.
//!
//! Pure functions of the data they were made from: the databases come in as bytes,
//! and their [fingerprint](Enrichment::fingerprint) says which they are. It is not
//! a detector of robots that lie, and no database is looked up over the network.
//!
//! ```
//! use visitflow_dataflows::enrich::{Agents, BUILT_IN_ROBOTS, Class, Enrichment};
//!
//! // Robots alone; with `BUILT_IN_REGEXES` also browsers, systems and devices.
//! let agents = Agents::new(Some(BUILT_IN_ROBOTS), None)?;
//! let mut enrichment = Enrichment::new(None, agents);
//! let mut body = Vec::new();
//! let context = enrichment.context(Some("192.0.2.1"), Some("curl/8.5.0"), &mut body);
//! assert_eq!(context.class, Class::Robot);
//! // No country, agent `robot`, robot "curl"; no browser, system or device.
//! assert_eq!(body, b"\x00\x02\x02\x08curl\x00\x00\x00");
//! # Ok::<(), visitflow_dataflows::enrich::EnrichError>(())
//! ```

mod agent;
mod cache;
mod country;
mod error;
mod robots;

pub use agent::{
    Agent, Agents, BUILT_IN_REGEXES, BUILT_IN_ROBOTS, Class, NAME_BYTES, USER_AGENT_BYTES,
};
pub use country::{Countries, Country};
pub use error::EnrichError;

use cache::Cache;
use sha2::{Digest, Sha256};

/// Answers that a generation of each cache holds, and the bytes they may take.
const CACHED: usize = 64 * 1024;
const CACHED_BYTES: usize = 16 * 1024 * 1024;

/// Longer strings are no addresses, and are not looked up: the longest is
/// `[0000:0000:0000:0000:0000:ffff:255.255.255.255]:65535`.
const ADDRESS_BYTES: usize = 64;

/// Changes with whatever in this module changes an answer to the same data.
const RULES: &[u8] = b"visitflow enrichment 1";

/// What the rest of the flow wants to know of a measurement's sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Where the IP address is, if the database knows.
    pub country: Option<Country>,
    /// Person, robot or neither.
    pub class: Class,
}

/// Adds country and agent to measurements; one a worker.
///
/// Keeps the answers to the strings it saw last (64 Ki to 128 Ki of each kind).
/// Cost: two hash look-ups and a copy of some tens of bytes when both are known
/// (60 ns over the logs of a shop), else see [`Countries::of`] (0.1 µs) and
/// [`Agents::classify`]. Memory, whatever clients send: at most 2 × (16 MiB of
/// strings + 5 MiB of table) for agents and 2 × (4 + 3 MiB) for addresses; a few MB
/// with the traffic of a shop. A clone shares the data and begins with nothing kept.
pub struct Enrichment {
    countries: Option<Countries>,
    agents: Agents,
    by_ip: Cache<Option<Country>>,
    by_user_agent: Cache<Encoded>,
}

/// An agent's class and its fields in Avro.
struct Encoded {
    class: Class,
    bytes: Box<[u8]>,
}

impl Enrichment {
    /// By a country database, if there is one, and the lists of agents.
    pub fn new(countries: Option<Countries>, agents: Agents) -> Self {
        Self {
            countries,
            agents,
            by_ip: Cache::new(CACHED, CACHED_BYTES, |_| 0),
            by_user_agent: Cache::new(CACHED, CACHED_BYTES, |known| known.bytes.len()),
        }
    }

    /// Appends what is known of a sender to `out`, as the Avro bodies of these
    /// fields in this order, and nothing else:
    ///
    /// | field | type |
    /// | --- | --- |
    /// | `country` | `["null", "string"]`, two capital letters |
    /// | `agent` | enum of [`Class::NAMES`] |
    /// | `robot`, `browser`, `os`, `device` | `["null", "string"]`, see [`Agent`] |
    ///
    /// Depends on the arguments and the data alone, never on what was asked before.
    pub fn context(
        &mut self,
        ip: Option<&str>,
        user_agent: Option<&str>,
        out: &mut Vec<u8>,
    ) -> Context {
        let country = self.country(ip);
        match country {
            Some(country) => avro_string(country.as_str(), out),
            None => out.push(0),
        }
        let agents = &self.agents;
        let user_agent = agent::considered(user_agent.unwrap_or_default());
        let agent = self
            .by_user_agent
            .get_or_insert_with(user_agent, || encode(&agents.classify(Some(user_agent))));
        out.extend_from_slice(&agent.bytes);
        Context {
            country,
            class: agent.class,
        }
    }

    fn country(&mut self, ip: Option<&str>) -> Option<Country> {
        let countries = self.countries.as_ref()?;
        let ip = ip.filter(|ip| ip.len() <= ADDRESS_BYTES)?;
        *self.by_ip.get_or_insert_with(ip, || countries.of(ip))
    }

    /// SHA-256 over the data and the rules' version: where it is equal, the same
    /// sender gets the same bytes, in whatever process.
    pub fn fingerprint(&self) -> [u8; 32] {
        let countries = self
            .countries
            .as_ref()
            .map_or([0; 32], Countries::fingerprint);
        let mut all = Sha256::new();
        all.update(RULES);
        all.update(countries);
        all.update(self.agents.fingerprint());
        all.finalize().into()
    }
}

impl Clone for Enrichment {
    fn clone(&self) -> Self {
        Self {
            countries: self.countries.clone(),
            agents: self.agents.clone(),
            by_ip: self.by_ip.emptied(),
            by_user_agent: self.by_user_agent.emptied(),
        }
    }
}

fn encode(agent: &Agent) -> Encoded {
    let mut bytes = vec![(agent.class as u8) << 1];
    for name in [&agent.robot, &agent.browser, &agent.os, &agent.device] {
        match name {
            Some(name) => avro_string(name, &mut bytes),
            None => bytes.push(0),
        }
    }
    Encoded {
        class: agent.class,
        bytes: bytes.into(),
    }
}

/// The second branch of `["null", "string"]`. Lengths and branches are Avro longs:
/// zigzag, seven bits a byte, the low ones first.
fn avro_string(text: &str, out: &mut Vec<u8>) {
    out.push(1 << 1);
    let mut length = (text.len() as u64) << 1;
    while length >= 0x80 {
        out.push(length as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(text.as_bytes());
}
