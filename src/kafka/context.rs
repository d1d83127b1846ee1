//! What librdkafka tells its clients meanwhile: the last thing that went wrong, kept for whoever
//! asks why nothing comes. Nothing is printed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer as _, ConsumerContext};
use rdkafka::error::KafkaError as Native;
use rdkafka::producer::{DeliveryResult, NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::{KafkaError, tls};

/// So many events are looked at in one go; a poll looks at one.
const EVENTS: usize = 64;

/// What a client was told. Cheap to clone; clones tell the same.
#[derive(Clone, Default)]
pub(super) struct Context {
    said: Arc<Mutex<Option<String>>>,
    undelivered: Arc<Mutex<Option<(Code, Refused)>>>,
}

/// A record that was not delivered.
pub(super) type Refused = (String, i32, usize);

impl Context {
    /// An error's reason, with the last complaint if there was one, which tells more.
    pub(super) fn explain(&self, reason: String) -> String {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        match said.as_ref() {
            Some(said) => format!("{reason} ({said})"),
            None => reason,
        }
    }

    /// All is well again.
    pub(super) fn forget(&self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        *said = None;
    }

    /// The first record that could not be delivered: its topic, partition and bytes.
    pub(super) fn undelivered(&self) -> Option<(Code, Refused)> {
        let held = self.undelivered.lock();
        held.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Lets a client say what it has to say.
pub(super) fn listen(client: &BaseConsumer<Context>) {
    for _ in 0..EVENTS {
        // What is read comes by queues of its own.
        let _ = client.poll(Duration::ZERO);
    }
}

/// What a question came to, with the client's last complaint if it failed.
pub(super) fn outcome<T>(
    client: &BaseConsumer<Context>,
    outcome: Result<T, KafkaError>,
) -> Result<T, KafkaError> {
    match outcome {
        Err(KafkaError::Failed { doing, reason }) => {
            listen(client);
            let reason = client.context().explain(reason);
            Err(KafkaError::Failed { doing, reason })
        }
        done => {
            client.context().forget();
            done
        }
    }
}

impl ClientContext for Context {
    fn log(&self, _: RDKafkaLogLevel, _: &str, _: &str) {}

    fn error(&self, error: Native, reason: &str) {
        // Nobody needs the group: there is nothing to be coordinated.
        if error.rdkafka_error_code() == Some(Code::GroupAuthorizationFailed) {
            return;
        }
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        // It follows what went wrong with each of them, which tells more.
        if error.rdkafka_error_code() == Some(Code::AllBrokersDown) && said.is_some() {
            return;
        }
        *said = Some(match tls::advice(reason) {
            Some(advice) => format!("{reason}; {advice}"),
            None => reason.to_owned(),
        });
    }
}

impl ConsumerContext for Context {}

impl ProducerContext<NoCustomPartitioner> for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, delivered: &DeliveryResult<'_>, _: ()) {
        use rdkafka::message::Message;
        let Err((error, message)) = delivered else {
            return;
        };
        let code = error.rdkafka_error_code().unwrap_or(Code::Fail);
        let bytes = message.key_len() + message.payload_len();
        let record = (message.topic().to_owned(), message.partition(), bytes);
        let held = self.undelivered.lock();
        let mut held = held.unwrap_or_else(PoisonError::into_inner);
        held.get_or_insert((code, record));
    }
}
