//! What is promised of Kafka, against a real one: a broker for this program, a topic or a few for
//! each test. Where none can be had, the tests say SKIPPED. Tests that kill the broker are alone
//! while they do.

#[path = "kafka/broker.rs"]
mod broker;
#[path = "kafka/cluster.rs"]
mod cluster;
#[path = "kafka/connecting.rs"]
mod connecting;
#[path = "kafka/failover.rs"]
mod failover;
#[path = "kafka/journal.rs"]
mod journal;
#[path = "journals/mod.rs"]
mod journals;
#[path = "named/mod.rs"]
#[allow(dead_code)]
mod named;
#[path = "kafka/naming.rs"]
mod naming;
#[path = "whole/outputs.rs"]
#[allow(dead_code)]
mod outputs;
#[path = "kafka/reading.rs"]
mod reading;
#[path = "kafka/showing.rs"]
mod showing;
#[cfg(feature = "tls")]
#[path = "kafka/tls.rs"]
mod tls;
#[cfg(feature = "oauthbearer")]
#[path = "kafka/tokens.rs"]
mod tokens;
#[path = "kafka/topics.rs"]
mod topics;
#[path = "kafka/twins.rs"]
mod twins;
#[path = "kafka/writing.rs"]
mod writing;
