//! What librdkafka tells its clients meanwhile: the last thing that went wrong, kept for whoever
//! asks why nothing comes. Nothing is printed.

use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::KafkaError as Native;
use rdkafka::producer::{DeliveryResult, NoCustomPartitioner, ProducerContext};
use rdkafka::types::RDKafkaErrorCode as Code;

/// What a client was told. Cheap to clone; clones tell the same.
#[derive(Clone, Default)]
pub(super) struct Context {
    said: Arc<Mutex<Option<String>>>,
    undelivered: Arc<Mutex<Option<(Code, Refused)>>>,
}

/// A record that was not delivered.
pub(super) type Refused = (String, i32, usize);

impl Context {
    /// The last complaint, if there was one.
    pub(super) fn said(&self) -> Option<String> {
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.clone()
    }

    /// The first record that could not be delivered: its topic, partition and bytes.
    pub(super) fn undelivered(&self) -> Option<(Code, Refused)> {
        let held = self.undelivered.lock();
        held.unwrap_or_else(PoisonError::into_inner).clone()
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
        *said = Some(reason.to_owned());
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
