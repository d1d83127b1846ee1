//! Reads one partition: its committed records in their order, each once, and what is known of
//! its end. A reader is polled and never waits. Brokers that are away give no records and no
//! answers; whatever is an error here stays one.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError as Native;
use rdkafka::message::{BorrowedMessage, Header, Headers, Message, Timestamp};
use rdkafka::topic_partition_list::Offset;
use rdkafka::types::RDKafkaErrorCode as Code;

use super::KafkaError;
use super::context::Context;
use super::watched::{Answer, Watched};

/// A record of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Its place in the partition. Offsets rise, with gaps.
    pub offset: i64,
    /// Its time, in milliseconds since 1970; -1 if it has none.
    pub log_time: i64,
    /// Whether a broker has set that time when it took the record.
    pub appended: bool,
    /// The tick that its header `tick` says, if [`Options::ticks`](super::Options::ticks) asks for it.
    pub tick: Option<u64>,
    /// Its key, if it has one.
    pub key: Option<&'a [u8]>,
    /// Its value, if it has one.
    pub value: Option<&'a [u8]>,
    /// Its headers, in their order, if they were [asked for](super::Options::headers).
    pub headers: &'a [RecordHeader],
}

/// A header of a record: its name, and its value if it has one.
pub type RecordHeader = (String, Option<Vec<u8>>);

/// How long nobody has answered for a partition, and what was last said about that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Silence {
    /// When the last answer came, in milliseconds since 1970 by this host's clock.
    pub since: i64,
    /// The last error since then, for people.
    pub error: Option<String>,
}

/// Reads a partition. Each record is copied once, into a buffer that is kept; the rest is what
/// librdkafka holds for it, at most
/// [`queue_bytes_per_partition`](super::Options::queue_bytes_per_partition) and a fetch.
pub struct Reader {
    // In this order: the queue must not outlive its consumer.
    queue: PartitionQueue<Context>,
    consumer: Arc<BaseConsumer<Context>>,
    watched: Arc<Watched>,
    held: Option<Held>,
    bytes: Vec<u8>,
    /// The headers of the record that is held, if anybody wants them.
    headers: Option<Vec<RecordHeader>>,
    /// The offset of what comes next.
    next: i64,
    /// Everything fetched was taken, and what lies behind may be marks of transactions.
    at_end: bool,
    /// Everything that was decided when it last asked was taken.
    drained: bool,
    ticks: bool,
}

/// A record whose bytes are in the buffer, the key first.
struct Held {
    offset: i64,
    time: Timestamp,
    tick: Option<u64>,
    key: Option<usize>,
    value: bool,
}

impl Reader {
    pub(super) fn new(
        queue: PartitionQueue<Context>,
        consumer: Arc<BaseConsumer<Context>>,
        watched: Arc<Watched>,
        headers: bool,
        ticks: bool,
    ) -> Reader {
        let next = watched.read();
        Reader {
            queue,
            consumer,
            watched,
            held: None,
            bytes: Vec::new(),
            headers: headers.then(Vec::new),
            next,
            at_end: false,
            drained: false,
            ticks,
        }
    }

    /// The number of the partition.
    pub fn partition(&self) -> i32 {
        self.watched.partition
    }

    /// The next record, the same one until [`advance`](Reader::advance); none when none has come
    /// yet. Whoever wants to know whether more is there asks [`answered`](Reader::answered).
    #[inline]
    pub fn peek(&mut self) -> Result<Option<Record<'_>>, KafkaError> {
        if self.held.is_none() {
            self.poll()?;
        }
        let bytes = &self.bytes;
        let headers = self.headers.as_deref().unwrap_or_default();
        Ok(self.held.as_ref().map(|held| {
            let (key, value) = bytes.split_at(held.key.unwrap_or(0));
            Record {
                offset: held.offset,
                log_time: held.time.to_millis().unwrap_or(-1),
                appended: matches!(held.time, Timestamp::LogAppendTime(_)),
                tick: held.tick,
                key: held.key.map(|_| key),
                value: held.value.then_some(value),
                headers,
            }
        }))
    }

    /// Goes on behind the record that [`peek`](Reader::peek) showed.
    #[inline]
    pub fn advance(&mut self) {
        if let Some(held) = self.held.take() {
            self.move_to(held.offset + 1);
        }
    }

    /// The offset of what comes next: where to start again so as to miss nothing and repeat
    /// nothing. It passes marks of transactions, which are no records.
    pub fn offset(&self) -> i64 {
        self.next
    }

    /// Whether [`peek`](Reader::peek), when it last had nothing, was at the end of what was decided
    /// then. In a partition whose transactions follow one another, whatever was read up to there is
    /// whole transactions: no part of one is still to come.
    pub fn drained(&self) -> bool {
        self.drained && self.held.is_none()
    }

    /// When the last question was *sent*, in milliseconds since 1970 by this host's clock, to
    /// which the leader answered that nothing lies at or after [`offset`](Reader::offset): no
    /// record, and nothing of a transaction that is still open. None while more is known to be
    /// unread, or is held by [`peek`](Reader::peek).
    pub fn answered(&mut self) -> Option<i64> {
        self.pass_marks();
        match self.watched.answer() {
            Some(answer) if self.held.is_none() && answer.end <= self.next => Some(answer.sent),
            _ => None,
        }
    }

    /// How many offsets are known to be unread, as of the last answer; 0 at the end.
    pub fn behind(&mut self) -> Option<u64> {
        self.pass_marks();
        let answer = self.watched.answer()?;
        let known = answer.end.saturating_sub(self.next).max(0) as u64;
        Some(known.max(u64::from(self.held.is_some())))
    }

    /// Since when no broker has answered for this partition; a moment ago if all is well.
    pub fn silence(&self) -> Silence {
        self.watched.silence()
    }

    /// Takes the next record from the queue, if there is one.
    fn poll(&mut self) -> Result<(), KafkaError> {
        loop {
            match self.queue.poll(Duration::ZERO) {
                Some(Ok(message)) => {
                    let offset = message.offset();
                    // A fetch starts with the batch that holds the offset.
                    if offset < self.next {
                        continue;
                    }
                    (self.at_end, self.drained) = (false, false);
                    self.bytes.clear();
                    let key = message.key().inspect(|key| self.bytes.extend(*key));
                    let value = message.payload();
                    self.bytes.extend(value.unwrap_or_default());
                    if let Some(headers) = &mut self.headers {
                        headers.clear();
                        let found = message
                            .headers()
                            .into_iter()
                            .flat_map(|headers| headers.iter());
                        let own = |header: Header<'_, &[u8]>| {
                            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
                        };
                        headers.extend(found.map(own));
                    }
                    self.held = Some(Held {
                        offset,
                        time: message.timestamp(),
                        tick: self.ticks.then(|| tick_of(&message)).flatten(),
                        key: key.map(<[u8]>::len),
                        value: value.is_some(),
                    });
                    return Ok(());
                }
                Some(Err(Native::PartitionEOF(_))) => (self.at_end, self.drained) = (true, true),
                Some(Err(error)) => self.take_error(&error),
                None => {
                    self.pass_marks();
                    return self.watched.failure();
                }
            }
        }
    }

    /// Marks of transactions take offsets at which there is no record. librdkafka passes them
    /// silently; without this, a partition that ends in one would never be at its end.
    fn pass_marks(&mut self) {
        if !self.at_end || self.held.is_some() {
            return;
        }
        let ends_beyond = |answer: Answer| answer.end > self.next;
        if !self.watched.answer().is_some_and(ends_beyond) {
            return;
        }
        self.at_end = false;
        let Ok(positions) = self.consumer.position() else {
            return;
        };
        let of_this = positions
            .elements()
            .iter()
            .find(|element| element.partition() == self.watched.partition)
            .map(|element| element.offset());
        if let Some(Offset::Offset(position)) = of_this
            && position > self.next
        {
            self.move_to(position);
        }
    }

    fn move_to(&mut self, offset: i64) {
        self.next = offset;
        self.watched.set_read(offset);
    }

    /// What librdkafka says in the place of a record.
    fn take_error(&mut self, error: &Native) {
        let code = error.rdkafka_error_code();
        match code {
            // Whether it is gone or beyond the end, the brokers have to say.
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange | Code::LogTruncation) => {
                self.watched.doubt();
            }
            // What cannot be read must not be skipped.
            Some(
                Code::BadMessage
                | Code::BadCompression
                | Code::NotImplemented
                | Code::InvalidMessage
                | Code::InvalidMessageSize
                | Code::MessageSizeTooLarge
                | Code::UnsupportedCompressionType,
            ) => self.watched.fail(KafkaError::Unreadable {
                topic: self.watched.topic.to_string(),
                partition: self.watched.partition,
                offset: self.next,
                reason: code.map_or(String::new(), |code| code.to_string()),
            }),
            _ => {
                let doing = format!("read topic {:?}", self.watched.topic);
                match KafkaError::of(doing, error) {
                    KafkaError::Failed { reason, .. } => self.watched.complain(reason),
                    refused => self.watched.fail(refused),
                }
            }
        }
    }
}

/// What the header `tick` says, if there is one that says a tick.
fn tick_of(message: &BorrowedMessage<'_>) -> Option<u64> {
    let headers = message.headers()?;
    let mut all = headers.iter();
    let digits = all.find(|header| header.key == "tick")?.value?;
    str::from_utf8(digits).ok()?.parse().ok()
}
