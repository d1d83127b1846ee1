//! What Visitflow itself says of visits and of messages that it could not take: a plain struct for
//! each output's schema, which borrows its fields, and its bytes. For the dataflows, which make
//! them, and for whoever reads the outputs.
//!
//! The fields are documented in the schemas, `schemas/*.avsc`. The schemas of `tagged` and `late`
//! depend on those of the measurements: see [`tag`](crate::tag).

use std::borrow::Cow;
use std::sync::LazyLock;

use thiserror::Error;

use crate::encode::{array, bytes, long, optional};
use crate::key::EventKey;
use crate::message;
use crate::role::words;
use crate::schema::Schema;
use crate::tag::Context;
use crate::walk::{self, Fault};

mod named;

pub use named::{CustomerNamed, Profile, Weighed};

words! {
    /// Why a visit ended. Where several hold: size, else length, else inactivity.
    EndReason {
        /// Nothing came for longer than `inactivity`.
        Inactivity = "inactivity",
        /// It lasted `max_length`.
        Length = "length",
        /// It has `max_size` measurements.
        Size = "size",
    }
}

words! {
    /// Why a message was rejected.
    RejectReason {
        /// It does not begin as a message does.
        NotAMessage = "not_a_message",
        /// No store knows its schema.
        UnknownSchema = "unknown_schema",
        /// Its schema lacks roles, or cannot be read as the job's.
        UnusableSchema = "unusable_schema",
        /// Its body is not as its schema says, or the job's schema has no place for it.
        Undecodable = "undecodable",
        /// It names no browser.
        NoBrowser = "no_browser",
        /// It has no ID.
        NoEventId = "no_event_id",
        /// It says no time.
        NoEventTime = "no_event_time",
        /// Its time is too far ahead of the clock.
        Future = "future",
        /// It is larger than a record may be.
        Oversize = "oversize",
    }
}

/// Why bytes are not the record that they should be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DecodeError {
    /// Something in the body.
    #[error("{record}: at byte {at} of the body: {}", .fault.words())]
    Body {
        /// The record.
        record: &'static str,
        /// What is wrong.
        fault: Fault,
        /// Where, in bytes.
        at: usize,
    },
    /// Not a message.
    #[error(transparent)]
    Message(#[from] message::MessageError),
    /// A message of another schema.
    #[error(
        "a message of the schema {0:016x}, expected one of visitflow's VisitStarted, VisitEnded, VisitRevised, CustomerNamed"
    )]
    Schema(u64),
}

macro_rules! record {
    ($name:ident, $static:ident, $file:literal) => {
        #[doc = concat!("The schema of [`", stringify!($name), "`]: `schemas/", $file, "`.")]
        pub static $static: LazyLock<Schema> = LazyLock::new(|| {
            Schema::parse(include_str!(concat!("../", $file)))
                .expect(concat!($file, " is a schema, as the tests hold"))
        });

        impl $name<'_> {
            /// Appends the whole message, header and body, to `out`.
            pub fn encode_message(&self, out: &mut Vec<u8>) {
                message::write_header($static.fingerprint(), out);
                self.encode_body(out);
            }
        }
    };
}

record!(VisitStarted, VISIT_STARTED, "visit_started.avsc");
record!(VisitEnded, VISIT_ENDED, "visit_ended.avsc");
record!(VisitRevised, VISIT_REVISED, "visit_revised.avsc");
record!(Rejected, REJECTED, "rejected.avsc");
record!(Visit, VISIT, "visit.avsc");

/// The schema of an order and what led to it: `schemas/attribution.avsc`.
pub static ORDER_ATTRIBUTED: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../attribution.avsc"))
        .expect("attribution.avsc is a schema, as the tests hold")
});

/// The schema of [`CustomerNamed`]: `schemas/customer_named.avsc`.
pub static CUSTOMER_NAMED: LazyLock<Schema> = LazyLock::new(|| {
    Schema::parse(include_str!("../customer_named.avsc"))
        .expect("customer_named.avsc is a schema, as the tests hold")
});

/// All schemas of this module.
pub fn all() -> &'static [&'static Schema] {
    static ALL: LazyLock<[&'static Schema; 7]> = LazyLock::new(|| {
        [
            &VISIT_STARTED,
            &VISIT_ENDED,
            &VISIT_REVISED,
            &REJECTED,
            &VISIT,
            &ORDER_ATTRIBUTED,
            &CUSTOMER_NAMED,
        ]
    });
    &*ALL
}

/// The `browser_id` of these records for the canonical bytes of one: themselves where they are
/// UTF-8 (as strings and numbers always are), else in hexadecimal.
pub fn browser_text(canonical: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(canonical) {
        Ok(text) => Cow::Borrowed(text),
        Err(_) => Cow::Owned(canonical.iter().map(|byte| format!("{byte:02x}")).collect()),
    }
}

/// A visit has begun. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in visit_started.avsc.
pub struct VisitStarted<'a> {
    pub visit_id: [u8; 16],
    pub browser_id: &'a str,
    pub started: i64,
}

impl<'a> VisitStarted<'a> {
    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.visit_id);
        bytes(self.browser_id.as_bytes(), out);
        long(self.started, out);
    }

    /// Reads a body.
    pub fn decode_body(body: &'a [u8]) -> Result<VisitStarted<'a>, DecodeError> {
        let mut from = Body::of("VisitStarted", body);
        let record = VisitStarted {
            visit_id: from.sixteen()?,
            browser_id: from.text()?,
            started: from.long()?,
        };
        from.end(record)
    }
}

/// A visit has ended and is sealed. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in visit_ended.avsc.
pub struct VisitEnded<'a> {
    pub visit_id: [u8; 16],
    pub browser_id: &'a str,
    pub started: i64,
    pub last_seen: i64,
    pub measurements: i64,
    pub reason: EndReason,
}

impl<'a> VisitEnded<'a> {
    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.visit_id);
        bytes(self.browser_id.as_bytes(), out);
        long(self.started, out);
        long(self.last_seen, out);
        long(self.measurements, out);
        long(self.reason as i64, out);
    }

    /// Reads a body.
    pub fn decode_body(body: &'a [u8]) -> Result<VisitEnded<'a>, DecodeError> {
        let mut from = Body::of("VisitEnded", body);
        let record = VisitEnded {
            visit_id: from.sixteen()?,
            browser_id: from.text()?,
            started: from.long()?,
            last_seen: from.long()?,
            measurements: from.long()?,
            reason: from.symbol(EndReason::ALL)?,
        };
        from.end(record)
    }
}

/// Measurements belong to another visit than was said before: those of the browser in the visit
/// `from` whose place (event time, event key) is at or after `first` and before `until`, belong to
/// `into`. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in visit_revised.avsc.
pub struct VisitRevised<'a> {
    pub browser_id: &'a str,
    pub from: [u8; 16],
    pub from_started: i64,
    pub into: [u8; 16],
    pub into_started: i64,
    pub first: (i64, EventKey),
    /// `None`: all that follow.
    pub until: Option<(i64, EventKey)>,
}

impl<'a> VisitRevised<'a> {
    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        bytes(self.browser_id.as_bytes(), out);
        out.extend_from_slice(&self.from);
        long(self.from_started, out);
        out.extend_from_slice(&self.into);
        long(self.into_started, out);
        long(self.first.0, out);
        out.extend_from_slice(&self.first.1.0);
        optional(self.until, out, |until, out| long(until.0, out));
        optional(self.until, out, |until, out| {
            out.extend_from_slice(&until.1.0)
        });
    }

    /// Reads a body.
    pub fn decode_body(body: &'a [u8]) -> Result<VisitRevised<'a>, DecodeError> {
        let mut from = Body::of("VisitRevised", body);
        let record = VisitRevised {
            browser_id: from.text()?,
            from: from.sixteen()?,
            from_started: from.long()?,
            into: from.sixteen()?,
            into_started: from.long()?,
            first: (from.long()?, EventKey(from.sixteen()?)),
            until: {
                let time = if from.some()? {
                    Some(from.long()?)
                } else {
                    None
                };
                let at = from.at;
                let key = if from.some()? {
                    Some(from.sixteen()?)
                } else {
                    None
                };
                // One without the other means nothing.
                if time.is_some() != key.is_some() {
                    return Err(from.error(Fault::Branch, at));
                }
                time.zip(key.map(EventKey))
            },
        };
        from.end(record)
    }
}

/// What is said of visits as they come and go: one message of the output `lifecycle`. Those of
/// customers are there if the job keeps profiles. A later program may say more: whoever reads is to
/// pass over messages of other schemas, as [`DecodeError::Schema`] tells.
///
/// ```
/// use visitflow_schemas::records::{CustomerNamed, DecodeError, Lifecycle};
///
/// /// What a shop says to whoever has just been named.
/// fn greeting(message: &[u8]) -> Result<Option<String>, DecodeError> {
///     Ok(match Lifecycle::decode_message(message) {
///         Ok(Lifecycle::Named(named)) => Some(match named.profile {
///             None => format!("Welcome, {}!", named.customer_id),
///             Some(known) => format!("{}, for the {}th time!", named.customer_id, known.visits + 1),
///         }),
///         Ok(_) | Err(DecodeError::Schema(_)) => None,
///         Err(wrong) => return Err(wrong),
///     })
/// }
///
/// let named = CustomerNamed { customer_id: "Ann", ..CustomerNamed::default() };
/// let mut message = Vec::new();
/// named.encode_message(&mut message);
/// assert_eq!(greeting(&message)?.as_deref(), Some("Welcome, Ann!"));
///
/// // The fingerprint of a schema that this version does not know.
/// message[2..10].fill(7);
/// assert_eq!(greeting(&message)?, None);
/// # Ok::<(), DecodeError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
#[non_exhaustive]
pub enum Lifecycle<'a> {
    Started(VisitStarted<'a>),
    Ended(VisitEnded<'a>),
    Revised(VisitRevised<'a>),
    Named(CustomerNamed<'a>),
}

impl<'a> Lifecycle<'a> {
    /// Appends the whole message, header and body, to `out`.
    pub fn encode_message(&self, out: &mut Vec<u8>) {
        match self {
            Lifecycle::Started(record) => record.encode_message(out),
            Lifecycle::Ended(record) => record.encode_message(out),
            Lifecycle::Revised(record) => record.encode_message(out),
            Lifecycle::Named(record) => record.encode_message(out),
        }
    }

    /// Reads a whole message. One of another schema is [`DecodeError::Schema`].
    pub fn decode_message(message: &'a [u8]) -> Result<Lifecycle<'a>, DecodeError> {
        let (fingerprint, body) = message::split(message)?;
        if fingerprint == VISIT_STARTED.fingerprint() {
            VisitStarted::decode_body(body).map(Lifecycle::Started)
        } else if fingerprint == VISIT_ENDED.fingerprint() {
            VisitEnded::decode_body(body).map(Lifecycle::Ended)
        } else if fingerprint == VISIT_REVISED.fingerprint() {
            VisitRevised::decode_body(body).map(Lifecycle::Revised)
        } else if fingerprint == CUSTOMER_NAMED.fingerprint() {
            CustomerNamed::decode_body(body).map(Lifecycle::Named)
        } else {
            Err(DecodeError::Schema(fingerprint))
        }
    }

    /// The browser that it is about.
    pub fn browser_id(&self) -> &'a str {
        match self {
            Lifecycle::Started(record) => record.browser_id,
            Lifecycle::Ended(record) => record.browser_id,
            Lifecycle::Revised(record) => record.browser_id,
            Lifecycle::Named(record) => record.browser_id,
        }
    }
}

/// A message that could not be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in rejected.avsc.
pub struct Rejected<'a> {
    pub reason: RejectReason,
    pub detail: &'a str,
    pub topic: &'a str,
    pub partition: i32,
    pub offset: i64,
    /// Milliseconds since 1970.
    pub log_time: i64,
    /// `None` when it is too large to be sent on.
    pub message: Option<&'a [u8]>,
    pub size: i64,
}

impl<'a> Rejected<'a> {
    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        long(self.reason as i64, out);
        bytes(self.detail.as_bytes(), out);
        bytes(self.topic.as_bytes(), out);
        long(self.partition.into(), out);
        long(self.offset, out);
        long(self.log_time, out);
        optional(self.message, out, bytes);
        long(self.size, out);
    }

    /// Reads a body.
    pub fn decode_body(body: &'a [u8]) -> Result<Rejected<'a>, DecodeError> {
        let mut from = Body::of("Rejected", body);
        let record = Rejected {
            reason: from.symbol(RejectReason::ALL)?,
            detail: from.text()?,
            topic: from.text()?,
            partition: from.int()?,
            offset: from.long()?,
            log_time: from.long()?,
            message: if from.some()? {
                Some(from.bytes()?)
            } else {
                None
            },
            size: from.long()?,
        };
        from.end(record)
    }
}

/// One sealed visit, a row of the table of visits. Times are milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in visit.avsc.
pub struct Visit<'a> {
    pub visit_id: [u8; 16],
    pub browser_id: &'a str,
    pub started: i64,
    pub last_seen: i64,
    pub measurements: i64,
    pub end_reason: EndReason,
    /// Country to device, as Avro bytes; those of its first measurement.
    pub context: Context<'a>,
    pub customer_id: Option<&'a str>,
    pub sealed_tick: i64,
    pub orders: Option<i64>,
    pub revenue: Option<i64>,
    pub credits: Option<&'a [OrderCredit<'a>]>,
}

/// A touch that has led to one of a visit's orders, and what it is credited with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // Documented field by field in visit.avsc.
pub struct OrderCredit<'a> {
    pub order_event: [u8; 16],
    pub order_id: Option<&'a str>,
    pub touch: &'a str,
    pub time: i64,
    pub first: i64,
    pub last: i64,
    pub linear: i64,
    pub position: i64,
}

impl OrderCredit<'_> {
    fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.order_event);
        optional(self.order_id, out, |id, out| bytes(id.as_bytes(), out));
        bytes(self.touch.as_bytes(), out);
        let numbers = [self.time, self.first, self.last, self.linear, self.position];
        numbers.into_iter().for_each(|number| long(number, out));
    }
}

impl Visit<'_> {
    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.visit_id);
        bytes(self.browser_id.as_bytes(), out);
        long(self.started, out);
        long(self.last_seen, out);
        long(self.measurements, out);
        long(self.end_reason as i64, out);
        out.extend_from_slice(self.context);
        optional(self.customer_id, out, |id, out| bytes(id.as_bytes(), out));
        long(self.sealed_tick, out);
        long(crate::tag::day_of(self.started), out);
        optional(self.orders, out, long);
        optional(self.revenue, out, long);
        optional(self.credits, out, |credits, out| {
            array(credits, out, OrderCredit::encode_body);
        });
    }
}

/// A body that is read field by field.
struct Body<'a> {
    record: &'static str,
    body: &'a [u8],
    at: usize,
}

impl<'a> Body<'a> {
    fn of(record: &'static str, body: &'a [u8]) -> Body<'a> {
        Body {
            record,
            body,
            at: 0,
        }
    }

    fn error(&self, fault: Fault, at: usize) -> DecodeError {
        DecodeError::Body {
            record: self.record,
            fault,
            at,
        }
    }

    fn take<T>(&mut self, read: Result<(T, usize), Fault>) -> Result<T, DecodeError> {
        let (value, end) = read.map_err(|fault| self.error(fault, self.at))?;
        self.at = end;
        Ok(value)
    }

    fn long(&mut self) -> Result<i64, DecodeError> {
        self.take(walk::long(self.body, self.at))
    }

    fn int(&mut self) -> Result<i32, DecodeError> {
        let at = self.at;
        let value = self.long()?;
        i32::try_from(value).map_err(|_| self.error(Fault::Int, at))
    }

    fn text(&mut self) -> Result<&'a str, DecodeError> {
        let at = self.at;
        let bytes = self.bytes()?;
        std::str::from_utf8(bytes).map_err(|_| self.error(Fault::Utf8, at))
    }

    fn double(&mut self) -> Result<f64, DecodeError> {
        let bytes = self.body[self.at..].first_chunk::<8>().copied();
        let double = bytes.map(|bytes| (f64::from_le_bytes(bytes), self.at + 8));
        self.take(double.ok_or(Fault::Ends))
    }

    /// The items of all blocks. No item may be without bytes, so that there are no more of them than
    /// there are bytes.
    fn array<T>(
        &mut self,
        item: impl Fn(&mut Body<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut items = Vec::new();
        loop {
            let at = self.at;
            let block = walk::block(self.body, at).map_err(|fault| self.error(fault, at))?;
            self.at = block.start;
            if block.count == 0 {
                return Ok(items);
            }
            for _ in 0..block.count {
                items.push(item(self)?);
            }
            block.ends(self.at).map_err(|fault| self.error(fault, at))?;
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let read = walk::length(self.body, self.at);
        let start = self.take(read)?;
        Ok(&self.body[start..self.at])
    }

    fn sixteen(&mut self) -> Result<[u8; 16], DecodeError> {
        let bytes = self.body[self.at..].first_chunk::<16>().copied();
        self.take(bytes.map(|bytes| (bytes, self.at + 16)).ok_or(Fault::Ends))
    }

    /// Whether a union of null and another type has the other one.
    fn some(&mut self) -> Result<bool, DecodeError> {
        let some = walk::some(self.body, self.at, 0);
        self.take(some.map(|some| (some, self.at + 1)))
    }

    fn symbol<T: Copy>(&mut self, all: &[T]) -> Result<T, DecodeError> {
        let at = self.at;
        let index = self.int()?;
        let symbol = usize::try_from(index).ok().and_then(|i| all.get(i));
        symbol.copied().ok_or_else(|| self.error(Fault::Symbol, at))
    }

    fn end<T>(&self, record: T) -> Result<T, DecodeError> {
        if self.at < self.body.len() {
            return Err(self.error(Fault::Trailing, self.at));
        }
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Kind;
    use crate::tag::AGENT_CLASSES;
    use apache_avro::types::Value;
    use proptest::prelude::*;

    /// What apache-avro reads in a message of this schema, field by field.
    pub(super) fn read(schema: &Schema, message: &[u8]) -> Vec<(String, Value)> {
        let (fingerprint, mut body) = message::split(message).unwrap();
        assert_eq!(fingerprint, schema.fingerprint());
        let avro = apache_avro::Schema::parse(schema.json()).unwrap();
        let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro)
            .build()
            .unwrap();
        let value = reader.read_value(&mut body).unwrap();
        assert!(body.is_empty(), "{} bytes are left", body.len());
        let Value::Record(fields) = value else {
            panic!("{value:?}")
        };
        fields
    }

    fn some(value: Value) -> Value {
        Value::Union(1, Box::new(value))
    }

    fn null() -> Value {
        Value::Union(0, Box::new(Value::Null))
    }

    pub(super) fn values(fields: Vec<(String, Value)>) -> Vec<Value> {
        fields.into_iter().map(|(_, value)| value).collect()
    }

    #[test]
    fn every_field_of_every_record_is_documented_and_says_its_privacy() {
        for schema in all() {
            assert!(schema.record().doc.is_some(), "{schema:?}");
            for field in &schema.record().fields {
                assert!(
                    field.doc.is_some() && field.privacy.is_some(),
                    "{schema:?} {}",
                    field.name
                );
            }
        }
    }

    #[test]
    fn enums_have_the_symbols_of_their_schemas() {
        let symbols = |schema: &Schema, field: &str| {
            let field = schema
                .record()
                .fields
                .iter()
                .find(|f| f.name == field)
                .unwrap();
            match &field.ty.kind {
                Kind::Enum(e) => e.symbols.clone(),
                other => panic!("{other:?}"),
            }
        };
        let reasons: Vec<_> = EndReason::ALL.iter().map(|r| r.word()).collect();
        assert_eq!(symbols(&VISIT_ENDED, "reason"), reasons);
        assert_eq!(symbols(&VISIT, "end_reason"), reasons);
        let reasons: Vec<_> = RejectReason::ALL.iter().map(|r| r.word()).collect();
        assert_eq!(symbols(&REJECTED, "reason"), reasons);
        assert_eq!(symbols(&VISIT, "agent"), AGENT_CLASSES);
        assert_eq!(symbols(&ORDER_ATTRIBUTED, "agent"), AGENT_CLASSES);
    }

    #[test]
    fn a_visit_is_what_apache_avro_reads() {
        let mut message = vec![];
        let credit = OrderCredit {
            order_event: [2; 16],
            order_id: Some("o-1"),
            touch: "campaign:spring",
            time: 5,
            first: 1_290,
            last: 0,
            linear: 645,
            position: 646,
        };
        Visit {
            visit_id: [1; 16],
            browser_id: "b",
            started: 5,
            last_seen: 6,
            measurements: 7,
            end_reason: EndReason::Size,
            context: b"\x02\x04DE\x04\x00\x02\x02F\x00\x00",
            customer_id: Some("c"),
            sealed_tick: 8_000,
            orders: Some(1),
            revenue: Some(1_290),
            credits: Some(&[credit]),
        }
        .encode_message(&mut message);
        let field = |name: &str, value| (name.to_owned(), value);
        let credits = vec![
            field("order_event", Value::Fixed(16, vec![2; 16])),
            field("order_id", some(Value::String("o-1".into()))),
            field("touch", Value::String("campaign:spring".into())),
            field("time", Value::TimestampMillis(5)),
            field("first", Value::Long(1_290)),
            field("last", Value::Long(0)),
            field("linear", Value::Long(645)),
            field("position", Value::Long(646)),
        ];
        assert_eq!(
            values(read(&VISIT, &message)),
            [
                Value::Fixed(16, vec![1; 16]),
                Value::String("b".into()),
                Value::TimestampMillis(5),
                Value::TimestampMillis(6),
                Value::Long(7),
                Value::Enum(2, "size".into()),
                some(Value::String("DE".into())),
                Value::Enum(2, "unknown".into()),
                null(),
                some(Value::String("F".into())),
                null(),
                null(),
                some(Value::String("c".into())),
                Value::TimestampMillis(8_000),
                Value::Date(0),
                some(Value::Long(1)),
                some(Value::Long(1_290)),
                some(Value::Array(vec![Value::Record(credits)])),
            ]
        );
    }

    #[test]
    fn what_is_no_lifecycle_is_told() {
        let mut message = vec![];
        VisitStarted {
            browser_id: "b",
            ..Default::default()
        }
        .encode_message(&mut message);
        for len in 0..message.len() {
            assert!(Lifecycle::decode_message(&message[..len]).is_err());
        }
        message.push(0);
        assert_eq!(
            Lifecycle::decode_message(&message).unwrap_err().to_string(),
            "VisitStarted: at byte 19 of the body: bytes after the end of the record"
        );
        message[2] ^= 1;
        assert!(matches!(
            Lifecycle::decode_message(&message),
            Err(DecodeError::Schema(_))
        ));
        let mut body = vec![];
        let revised = VisitRevised {
            until: Some((1, EventKey::MIN)),
            ..Default::default()
        };
        revised.encode_body(&mut body);
        body.truncate(body.len() - 17);
        body.push(0);
        assert!(matches!(
            VisitRevised::decode_body(&body),
            Err(DecodeError::Body {
                fault: Fault::Branch,
                ..
            })
        ));
    }

    #[test]
    fn a_browser_id_of_any_bytes_has_a_text() {
        assert_eq!(browser_text("größe".as_bytes()), "größe");
        assert_eq!(browser_text(&[0xFF, 0x0A]), "ff0a");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_is_what_apache_avro_reads(
            visit_id: [u8; 16], other: [u8; 16], browser in ".*", times: [i64; 6],
            reason in 0..3_usize, until: Option<(i64, [u8; 16])>, text in ".*",
            rejected in 0..9_usize, partition: i32, bytes: Option<Vec<u8>>,
        ) {
            let browser_id = &browser[..];
            let [started, last_seen, measurements, offset, log_time, size] = times;
            let millis = Value::TimestampMillis;
            let id = |id: [u8; 16]| Value::Fixed(16, id.to_vec());
            let of_browser = Value::String(browser.clone());

            let mut message = vec![];
            let record = Lifecycle::Started(VisitStarted { visit_id, browser_id, started });
            record.encode_message(&mut message);
            prop_assert_eq!(Lifecycle::decode_message(&message), Ok(record));
            let expected = vec![id(visit_id), of_browser.clone(), millis(started)];
            prop_assert_eq!(values(read(&VISIT_STARTED, &message)), expected);

            message.clear();
            let reason = EndReason::ALL[reason];
            let record = Lifecycle::Ended(VisitEnded { visit_id, browser_id, started, last_seen, measurements, reason });
            record.encode_message(&mut message);
            prop_assert_eq!(Lifecycle::decode_message(&message), Ok(record));
            let expected = vec![
                id(visit_id), of_browser.clone(), millis(started), millis(last_seen), Value::Long(measurements),
                Value::Enum(reason as u32, reason.word().into()),
            ];
            prop_assert_eq!(values(read(&VISIT_ENDED, &message)), expected);

            message.clear();
            let record = Lifecycle::Revised(VisitRevised {
                browser_id,
                from: visit_id,
                from_started: started,
                into: other,
                into_started: last_seen,
                first: (measurements, EventKey(other)),
                until: until.map(|(time, id)| (time, EventKey(id))),
            });
            record.encode_message(&mut message);
            prop_assert_eq!(Lifecycle::decode_message(&message), Ok(record));
            let expected = vec![
                of_browser, id(visit_id), millis(started), id(other), millis(last_seen), millis(measurements), id(other),
                until.map_or(null(), |(time, _)| some(millis(time))),
                until.map_or(null(), |(_, key)| some(id(key))),
            ];
            prop_assert_eq!(values(read(&VISIT_REVISED, &message)), expected);

            message.clear();
            let reason = RejectReason::ALL[rejected];
            let record = Rejected {
                reason, detail: &text, topic: &text, partition, offset, log_time, message: bytes.as_deref(), size,
            };
            record.encode_message(&mut message);
            prop_assert_eq!(Rejected::decode_body(&message[message::HEADER..]), Ok(record));
            let expected = vec![
                Value::Enum(reason as u32, reason.word().into()), Value::String(text.clone()), Value::String(text.clone()),
                Value::Int(partition), Value::Long(offset), millis(log_time),
                bytes.clone().map_or(null(), |bytes| some(Value::Bytes(bytes))), Value::Long(size),
            ];
            prop_assert_eq!(values(read(&REJECTED, &message)), expected);
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
            let _ = VisitStarted::decode_body(&bytes);
            let _ = VisitEnded::decode_body(&bytes);
            let _ = VisitRevised::decode_body(&bytes);
            let _ = Rejected::decode_body(&bytes);
            let _ = Lifecycle::decode_message(&bytes);
        }
    }
}
