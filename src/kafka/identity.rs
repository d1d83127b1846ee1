//! Which topic a name means. Brokers give each topic an ID that no other ever gets, so that a topic
//! which was deleted and created anew is known for another one, whatever offsets it has reached.
//!
//! rdkafka has no call for it: the one of librdkafka is made here, and nowhere else.

use std::ffi::CString;
use std::ptr::NonNull;
use std::time::Duration;

use rdkafka::bindings as native;
use rdkafka::client::{Client, ClientContext};
use rdkafka::types::RDKafkaErrorCode as Code;

use super::KafkaError;

/// What librdkafka has made and wants back.
struct Held<T> {
    made: NonNull<T>,
    give_back: unsafe extern "C" fn(*mut T),
}

impl<T> Held<T> {
    /// `give_back` must be the function that ends a thing like this, which nobody else ends.
    fn new(made: *mut T, give_back: unsafe extern "C" fn(*mut T)) -> Option<Held<T>> {
        NonNull::new(made).map(|made| Held { made, give_back })
    }

    fn as_ptr(&self) -> *mut T {
        self.made.as_ptr()
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        // SAFETY: it came from librdkafka, nobody else ends it, and it is used no more.
        unsafe { (self.give_back)(self.made.as_ptr()) }
    }
}

/// The ID of a topic, as Kafka's own tools write it; none if its brokers are from before 2.8 and
/// give no IDs.
pub(super) fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    answer: Duration,
) -> Result<Option<String>, KafkaError> {
    let doing = || format!("ask for the ID of topic {topic:?}");
    let failed = |code: Code| match code {
        Code::UnknownTopicOrPartition => KafkaError::NoTopic {
            topic: topic.to_owned(),
        },
        code => KafkaError::of_code(doing(), Some(code), code.to_string()),
    };
    let silent = || failed(Code::OperationTimedOut);
    // No topic has such a name.
    let name = CString::new(topic).map_err(|_| failed(Code::UnknownTopicOrPartition))?;
    let wait = i32::try_from(answer.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();

    let mut names = [name.as_ptr()];
    // SAFETY: one name, which ends with a zero; the collection copies it.
    let asked = unsafe { native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), 1) };
    let asked = Held::new(asked, native::rd_kafka_TopicCollection_destroy).ok_or_else(silent)?;
    let kind = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
    // SAFETY: the client lives for as long as it is borrowed, here and below.
    let options = unsafe { native::rd_kafka_AdminOptions_new(rk, kind) };
    let options = Held::new(options, native::rd_kafka_AdminOptions_destroy).ok_or_else(silent)?;
    // SAFETY: without room for a text it writes none. A time that it does not take leaves its own.
    unsafe {
        native::rd_kafka_AdminOptions_set_request_timeout(
            options.as_ptr(),
            wait,
            std::ptr::null_mut(),
            0,
        );
    }
    // SAFETY: as above. An answer that comes when the queue is gone is dropped by librdkafka.
    let queue = unsafe { native::rd_kafka_queue_new(rk) };
    let queue = Held::new(queue, native::rd_kafka_queue_destroy).ok_or_else(silent)?;
    // SAFETY: all four live; what is asked is copied.
    unsafe {
        native::rd_kafka_DescribeTopics(rk, asked.as_ptr(), options.as_ptr(), queue.as_ptr());
    }
    // SAFETY: the queue lives, and nobody else polls it.
    let event = unsafe { native::rd_kafka_queue_poll(queue.as_ptr(), wait) };
    let event = Held::new(event, native::rd_kafka_event_destroy).ok_or_else(silent)?;
    // SAFETY: the event lives.
    let code = unsafe { native::rd_kafka_event_error(event.as_ptr()) };
    if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
        return Err(failed(code.into()));
    }
    // SAFETY: the event lives; it is null if this is not the answer.
    let result = unsafe { native::rd_kafka_event_DescribeTopics_result(event.as_ptr()) };
    if result.is_null() {
        return Err(silent());
    }
    let mut count = 0;
    // SAFETY: the result lives as long as its event.
    let found = unsafe { native::rd_kafka_DescribeTopics_result_topics(result, &mut count) };
    if found.is_null() || count != 1 {
        return Err(silent());
    }
    // SAFETY: there is one, and it lives as long as the event; so does all that it has.
    let found = unsafe { *found };
    // SAFETY: as above; a topic that is well has an error too, whose code says so.
    let error = unsafe { native::rd_kafka_TopicDescription_error(found) };
    if !error.is_null() {
        // SAFETY: as above.
        let code = unsafe { native::rd_kafka_error_code(error) };
        if code != native::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
            return Err(failed(code.into()));
        }
    }
    // SAFETY: as above.
    let id = unsafe { native::rd_kafka_TopicDescription_topic_id(found) };
    if id.is_null() {
        return Ok(None);
    }
    // SAFETY: as above.
    let halves = unsafe {
        [
            native::rd_kafka_Uuid_most_significant_bits(id),
            native::rd_kafka_Uuid_least_significant_bits(id),
        ]
    };
    Ok(written(halves.map(|half| half as u64)))
}

/// An ID in Kafka's base64; none for the one that stands for none.
fn written(halves: [u64; 2]) -> Option<String> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let number = u128::from(halves[0]) << 64 | u128::from(halves[1]);
    // 128 bits are 21 digits of 6 bits, and 2 bits at the front of another.
    let digit = |at: u32| match at {
        21 => (number << 4) & 63,
        at => (number >> (122 - 6 * at)) & 63,
    };
    let text = (0..22).map(|at| char::from(DIGITS[digit(at) as usize]));
    (number != 0).then(|| text.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_written_as_kafka_writes_them() {
        assert_eq!(written([0, 0]), None);
        let id = |halves| written(halves).unwrap();
        assert_eq!(id([0, 1]), "AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(id([u64::MAX, u64::MAX]), "_____________________w");
        let bytes = u128::from_be_bytes(*b"0123456789abcdef");
        let halves = [(bytes >> 64) as u64, bytes as u64];
        assert_eq!(id(halves), "MDEyMzQ1Njc4OWFiY2RlZg");
    }
}
