//! How to reach Kafka: the properties of librdkafka, as a user writes them. Whatever librdkafka
//! knows can be set, except what exactness depends on. A value may lie in a file or in the
//! environment; what was read there, and whatever may be secret, is never shown.

use std::collections::BTreeMap;
use std::{env, fmt, fs};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError as Native;
use rdkafka::types::RDKafkaConfRes;

use super::KafkaError;
use super::context::Context;
use super::tls;

/// What stands for a value that is not shown.
const HIDDEN: &str = "***";

/// What no property of a user may change, and who sets it.
const OWNED: &[(&str, &str)] = &[
    ("acks", WRITING),
    ("allow.auto.create.topics", READING),
    ("auto.commit.enable", READING),
    ("auto.commit.interval.ms", READING),
    ("auto.offset.reset", READING),
    ("delivery.report.only.error", WRITING),
    ("delivery.timeout.ms", WRITING),
    ("enable.auto.commit", READING),
    ("enable.auto.offset.store", READING),
    ("enable.gapless.guarantee", WRITING),
    ("enable.idempotence", WRITING),
    ("enable.partition.eof", READING),
    ("enabled_events", BOTH),
    ("group.id", READING),
    ("group.instance.id", READING),
    ("group.protocol", READING),
    ("isolation.level", READING),
    ("log.queue", BOTH),
    ("max.in.flight", WRITING),
    ("max.in.flight.requests.per.connection", WRITING),
    ("message.send.max.retries", WRITING),
    ("message.timeout.ms", WRITING),
    ("offset.store.method", READING),
    ("partitioner", WRITING),
    ("queued.max.messages.kbytes", READING),
    ("queuing.strategy", WRITING),
    ("request.required.acks", WRITING),
    ("retries", WRITING),
    ("statistics.interval.ms", BOTH),
    ("transactional.id", WRITING),
];
const READING: &str = "the reader sets it";
const WRITING: &str = "the transactions set it";
const BOTH: &str = "the reader and the transactions set it";

/// What a user may change, but what we take another default of than librdkafka does.
const DEFAULTS: &[(&str, &str)] = &[
    ("client.id", "visitflow"),
    // Its 10 s would be added to every outage.
    ("reconnect.backoff.max.ms", "1000"),
    ("socket.keepalive.enable", "true"),
];

/// How to reach a Kafka: librdkafka's properties, `bootstrap.servers` at least. A value
/// `file:PATH` or `env:NAME` is read from there whenever a client connects, without a trailing
/// line break. [`fmt::Debug`] and [`fmt::Display`] show no secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Connection {
    /// The properties by name.
    pub properties: BTreeMap<String, String>,
}

impl Connection {
    /// A connection without any other property than where the brokers are.
    pub fn to(brokers: impl Into<String>) -> Connection {
        let servers = ("bootstrap.servers".to_owned(), brokers.into());
        Connection {
            properties: BTreeMap::from([servers]),
        }
    }

    /// The same with another property.
    pub fn with(mut self, property: impl Into<String>, value: impl Into<String>) -> Connection {
        self.properties.insert(property.into(), value.into());
        self
    }

    /// Fails when the properties cannot make a client: a name or a value that librdkafka does
    /// not know, one that is not the user's to set, a file that is not there, or TLS in a program
    /// that was built without. Sends nothing to a broker.
    pub fn check(&self) -> Result<(), KafkaError> {
        if !["bootstrap.servers", "metadata.broker.list"]
            .iter()
            .any(|name| self.properties.contains_key(*name))
        {
            return Err(KafkaError::Property {
                property: "bootstrap.servers".to_owned(),
                reason: "is missing: expected HOST:PORT, or several with commas between".to_owned(),
            });
        }
        self.query("read_uncommitted").map(drop)
    }

    /// A client that reads nothing. When it asks for the end of a partition, `read_uncommitted`
    /// gets the high watermark, `read_committed` the last stable offset.
    pub(super) fn query(&self, isolation: &str) -> Result<BaseConsumer<Context>, KafkaError> {
        self.client(
            &[
                ("isolation.level", isolation),
                ("allow.auto.create.topics", "false"),
                ("socket.timeout.ms", "10000"),
            ],
            Context::default(),
        )
    }

    /// A client with properties of our own. Where the user has set one, that stands: those that
    /// must not be his are refused.
    pub(super) fn client<C, T>(&self, ours: &[(&str, &str)], context: C) -> Result<T, KafkaError>
    where
        C: ClientContext,
        T: FromClientConfigAndContext<C>,
    {
        let config = self.config(ours)?;
        let client = config.create_with_context(context);
        client.map_err(|error| self.describe(error))
    }

    fn config(&self, ours: &[(&str, &str)]) -> Result<ClientConfig, KafkaError> {
        let mut config = ClientConfig::new();
        for (name, value) in DEFAULTS.iter().chain(ours) {
            config.set(*name, *value);
        }
        for (property, value) in &self.properties {
            if let Some((_, reason)) = OWNED.iter().find(|(owned, _)| owned == property) {
                return Err(KafkaError::Owned {
                    property: property.clone(),
                    reason,
                });
            }
            config.set(property, resolve(property, value)?);
        }
        Ok(config)
    }

    /// What librdkafka says of a property, without its value if nobody may see that.
    fn describe(&self, error: Native) -> KafkaError {
        match error {
            Native::ClientConfig(_, said, property, _) if is_about_tokens(&property, &said) => {
                KafkaError::NeedsOauthbearer { property }
            }
            Native::ClientConfig(_, said, property, _) if is_about_tls(&said) => {
                KafkaError::NeedsTls { property }
            }
            Native::ClientConfig(RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN, _, property, _) => {
                KafkaError::Property {
                    property,
                    reason: "librdkafka has no such property".to_owned(),
                }
            }
            Native::ClientConfig(_, said, property, _) => {
                let value = self.properties.get(&property).map_or("", String::as_str);
                let hidden = is_secret(&property) || reference(value).is_some();
                let reason = match hidden {
                    true => "librdkafka does not take its value".to_owned(),
                    false => format!("librdkafka does not take {value:?}: {said}"),
                };
                KafkaError::Property { property, reason }
            }
            Native::ClientCreation(said) if is_about_tls(&said) => {
                let asked = ["sasl.mechanism", "sasl.mechanisms", "security.protocol"];
                let set = |name: &&&str| self.properties.contains_key(**name);
                let property = asked.iter().find(set).unwrap_or(&asked[2]);
                let value = self.properties.get(*property).map_or("", String::as_str);
                let property = (*property).to_owned();
                match value.eq_ignore_ascii_case("OAUTHBEARER") {
                    true => KafkaError::NeedsOauthbearer { property },
                    false => KafkaError::NeedsTls { property },
                }
            }
            Native::ClientCreation(reason) => match tls::unloadable(&reason, &self.properties) {
                Some(error) => error,
                None => KafkaError::Client { reason },
            },
            error => KafkaError::Client {
                reason: error.to_string(),
            },
        }
    }
}

fn is_about_tokens(property: &str, said: &str) -> bool {
    property.starts_with("sasl.oauthbearer.") && said.contains("not available at build time")
}

/// A build without OpenSSL says so in several ways.
fn is_about_tls(said: &str) -> bool {
    let about = |text| said.contains(text);
    about("OpenSSL not available")
        || about("OpenSSL >=") && about("not available")
        || about("recompile librdkafka") && about("openssl")
        || about("OAUTHBEARER") && about("not available at build time")
}

/// The place that a value names, if it names one.
fn reference(value: &str) -> Option<(&str, &str)> {
    let (kind, place) = value.split_once(':')?;
    matches!(kind, "file" | "env").then_some((kind, place))
}

fn resolve(property: &str, value: &str) -> Result<String, KafkaError> {
    let read = match reference(value) {
        None => return Ok(value.to_owned()),
        Some(("file", path)) => fs::read_to_string(path).map_err(|error| error.to_string()),
        Some((_, name)) => env::var(name).map_err(|error| error.to_string()),
    };
    let text = read.map_err(|reason| KafkaError::Reference {
        property: property.to_owned(),
        from: value.to_owned(),
        reason,
    })?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

/// Whether the value of a property may be secret, by its name.
fn is_secret(property: &str) -> bool {
    let name = property.to_ascii_lowercase();
    let holds = |text| name.contains(text);
    let harmless = matches!(&*name, "sasl.mechanism" | "sasl.mechanisms");
    !harmless && name.starts_with("sasl.")
        || ["password", "passphrase", "secret", "token", "credential"]
            .into_iter()
            .any(holds)
        || holds("key") && (holds("pem") || holds("ssl_key"))
}

/// A property's value as it may be shown: hidden, if it may be secret.
pub fn shown<'a>(property: &str, value: &'a str) -> &'a str {
    match reference(value) {
        None if is_secret(property) => HIDDEN,
        _ => value,
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value): (&String, &String)| {
            let text = shown(name, value).to_owned();
            (name.clone(), text)
        };
        let properties: BTreeMap<_, _> = self.properties.iter().map(shown).collect();
        f.debug_struct("Connection")
            .field("properties", &properties)
            .finish()
    }
}

impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (name, value)) in self.properties.iter().enumerate() {
            let between = if at > 0 { ", " } else { "" };
            write!(f, "{between}{name}={}", shown(name, value))?;
        }
        Ok(())
    }
}
