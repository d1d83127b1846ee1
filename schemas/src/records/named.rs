//! A customer who is named in a visit, and what is known of the customer: for whoever greets customers
//! in Rust. Texts are borrowed from the message; what is in lists is not, so a hostile message takes at
//! most a few times its own bytes.
//!
//! The fields are documented in `schemas/customer_named.avsc`.

use super::{Body, CUSTOMER_NAMED, DecodeError};
use crate::encode::{array, bytes, long, optional};
use crate::message;

/// A customer is named in a visit for the first time. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // Documented field by field in customer_named.avsc.
pub struct CustomerNamed<'a> {
    pub visit_id: [u8; 16],
    pub browser_id: &'a str,
    pub customer_id: &'a str,
    pub time: i64,
    pub as_of: i64,
    /// `None`: nothing is known of the customer.
    pub profile: Option<Profile<'a>>,
}

/// What is known of a customer. Times are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq)]
#[allow(missing_docs)] // Documented field by field in customer_named.avsc.
pub struct Profile<'a> {
    pub first_seen: i64,
    pub last_seen: i64,
    pub visits: i64,
    pub orders: i64,
    pub revenue: i64,
    pub products: Vec<Weighed<'a>>,
    pub kinds: Vec<Weighed<'a>>,
    pub reasons: Vec<Weighed<'a>>,
    pub hours: Vec<f64>,
}

/// A name and what it weighs: 1 for what was shown today.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[allow(missing_docs)] // Documented field by field in customer_named.avsc.
pub struct Weighed<'a> {
    pub name: &'a str,
    pub weight: f64,
}

impl<'a> CustomerNamed<'a> {
    /// Appends the whole message, header and body, to `out`.
    pub fn encode_message(&self, out: &mut Vec<u8>) {
        message::write_header(CUSTOMER_NAMED.fingerprint(), out);
        self.encode_body(out);
    }

    /// Appends the Avro body alone to `out`.
    pub fn encode_body(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.visit_id);
        bytes(self.browser_id.as_bytes(), out);
        bytes(self.customer_id.as_bytes(), out);
        long(self.time, out);
        long(self.as_of, out);
        optional(self.profile.as_ref(), out, Profile::encode_body);
    }

    /// Reads a body.
    pub fn decode_body(body: &'a [u8]) -> Result<CustomerNamed<'a>, DecodeError> {
        let mut from = Body::of("CustomerNamed", body);
        let record = CustomerNamed {
            visit_id: from.sixteen()?,
            browser_id: from.text()?,
            customer_id: from.text()?,
            time: from.long()?,
            as_of: from.long()?,
            profile: if from.some()? {
                Some(Profile::read(&mut from)?)
            } else {
                None
            },
        };
        from.end(record)
    }
}

impl<'a> Profile<'a> {
    fn encode_body(&self, out: &mut Vec<u8>) {
        let numbers = [self.first_seen, self.last_seen, self.visits, self.orders];
        numbers.into_iter().for_each(|number| long(number, out));
        long(self.revenue, out);
        for weighed in [&self.products, &self.kinds, &self.reasons] {
            array(weighed, out, |weighed, out| {
                bytes(weighed.name.as_bytes(), out);
                out.extend_from_slice(&weighed.weight.to_le_bytes());
            });
        }
        array(&self.hours, out, |hour, out| {
            out.extend_from_slice(&hour.to_le_bytes());
        });
    }

    fn read(from: &mut Body<'a>) -> Result<Profile<'a>, DecodeError> {
        let weighed = |from: &mut Body<'a>| {
            Ok(Weighed {
                name: from.text()?,
                weight: from.double()?,
            })
        };
        Ok(Profile {
            first_seen: from.long()?,
            last_seen: from.long()?,
            visits: from.long()?,
            orders: from.long()?,
            revenue: from.long()?,
            products: from.array(weighed)?,
            kinds: from.array(weighed)?,
            reasons: from.array(weighed)?,
            hours: from.array(Body::double)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Lifecycle;
    use crate::records::tests::{read, values};
    use crate::walk::Fault;
    use apache_avro::types::Value;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn field(name: &str, value: Value) -> (String, Value) {
        (name.to_owned(), value)
    }

    /// As apache-avro has it.
    fn value_of(profile: &Profile<'_>) -> Value {
        let weighed = |weighed: &[Weighed<'_>]| {
            let item = |weighed: &Weighed<'_>| {
                Value::Record(vec![
                    field("name", Value::String(weighed.name.into())),
                    field("weight", Value::Double(weighed.weight)),
                ])
            };
            Value::Array(weighed.iter().map(item).collect())
        };
        let hours = profile.hours.iter().copied().map(Value::Double);
        Value::Record(vec![
            field("first_seen", Value::TimestampMillis(profile.first_seen)),
            field("last_seen", Value::TimestampMillis(profile.last_seen)),
            field("visits", Value::Long(profile.visits)),
            field("orders", Value::Long(profile.orders)),
            field("revenue", Value::Long(profile.revenue)),
            field("products", weighed(&profile.products)),
            field("kinds", weighed(&profile.kinds)),
            field("reasons", weighed(&profile.reasons)),
            field("hours", Value::Array(hours.collect())),
        ])
    }

    /// A record with a profile of one product and one hour.
    fn one() -> CustomerNamed<'static> {
        CustomerNamed {
            browser_id: "b",
            customer_id: "ann",
            profile: Some(Profile {
                products: vec![Weighed {
                    name: "lamp",
                    weight: 4.0,
                }],
                hours: vec![1.0],
                ..Profile::default()
            }),
            ..CustomerNamed::default()
        }
    }

    #[test]
    fn lists_may_come_in_blocks_that_say_their_length() {
        let mut body = Vec::new();
        one().encode_body(&mut body);
        // The list of hours: a block of one of 8 bytes, and the block of none.
        let hours = body.split_off(body.len() - 10);
        assert_eq!(hours[0], 2);
        let sized = |length: u8| {
            let mut body = body.clone();
            for _ in 0..2 {
                body.extend_from_slice(&[1, 2 * length]);
                body.extend_from_slice(&hours[1..9]);
            }
            body.push(0);
            CustomerNamed::decode_body(&body).map(|read| read.profile.unwrap().hours)
        };
        assert_eq!(sized(8), Ok(vec![1.0, 1.0]));
        let fault = |read: Result<_, DecodeError>| match read {
            Err(DecodeError::Body { fault, .. }) => fault,
            other => panic!("{other:?}"),
        };
        assert_eq!(fault(sized(7)), Fault::BlockSize);
        // As many as there can be in no body.
        body.extend_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]);
        let read = CustomerNamed::decode_body(&body);
        assert_eq!(fault(read.map(|_| Vec::new())), Fault::Ends);
    }

    #[test]
    fn a_message_that_ends_early_or_goes_on_is_told() {
        let mut message = Vec::new();
        one().encode_message(&mut message);
        assert_eq!(
            Lifecycle::decode_message(&message),
            Ok(Lifecycle::Named(one()))
        );
        for length in 0..message.len() {
            assert!(Lifecycle::decode_message(&message[..length]).is_err());
        }
        message.push(0);
        assert!(Lifecycle::decode_message(&message).is_err());
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded_and_is_what_apache_avro_reads(
            visit_id: [u8; 16], browser in ".*", customer in ".*", times: [i64; 2],
            known in proptest::option::of((any::<[i64; 5]>(), vec((".*", any::<f64>()), 0..8), vec(any::<f64>(), 0..30))),
        ) {
            let [time, as_of] = times;
            let profile = known.as_ref().map(|(numbers, weighed, hours)| {
                let [first_seen, last_seen, visits, orders, revenue] = *numbers;
                let weighed = weighed.iter().map(|(name, weight)| Weighed { name, weight: *weight });
                let all: Vec<_> = weighed.collect();
                let (products, rest) = all.split_at(all.len() / 2);
                let (kinds, reasons) = rest.split_at(rest.len() / 2);
                let (products, kinds, reasons) = (products.into(), kinds.into(), reasons.into());
                let hours = hours.clone();
                Profile { first_seen, last_seen, visits, orders, revenue, products, kinds, reasons, hours }
            });
            let (browser_id, customer_id) = (&*browser, &*customer);
            let record = CustomerNamed { visit_id, browser_id, customer_id, time, as_of, profile };
            let mut message = Vec::new();
            record.encode_message(&mut message);
            let found = values(read(&CUSTOMER_NAMED, &message));
            let known = match &record.profile {
                None => Value::Union(0, Box::new(Value::Null)),
                Some(profile) => Value::Union(1, Box::new(value_of(profile))),
            };
            prop_assert_eq!(found, vec![
                Value::Fixed(16, visit_id.to_vec()), Value::String(browser.clone()), Value::String(customer.clone()),
                Value::TimestampMillis(time), Value::TimestampMillis(as_of), known,
            ]);
            prop_assert_eq!(Lifecycle::decode_message(&message), Ok(Lifecycle::Named(record)));
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(mut bytes: Vec<u8>, cut: proptest::sample::Index) {
            let _ = CustomerNamed::decode_body(&bytes);
            // Behind what was right so far.
            let mut body = Vec::new();
            one().encode_body(&mut body);
            body.truncate(cut.index(body.len()));
            body.append(&mut bytes);
            let _ = CustomerNamed::decode_body(&body);
        }
    }
}
