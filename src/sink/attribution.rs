//! The messages of the topic `attribution`: orders and what led to them, for whoever gives credit
//! while the visitor is still there. The fields are documented in `schemas/attribution.avsc`.
//!
//! A message's tick is the last of its step: what is said at a step's end is an effect before it,
//! and belongs to a snapshot that is taken there.

use timely::dataflow::StreamVec;
use timely::dataflow::operators::vec::Map;
use visitflow_dataflows::attribution::{Credit, Link, Loser};
use visitflow_dataflows::message::Message;
use visitflow_dataflows::stories::Credited;
use visitflow_dataflows::visit::bytes_of_words;
use visitflow_schemas::encode::{array, bytes, long, optional};
use visitflow_schemas::message::write_header;
use visitflow_schemas::records::{ORDER_ATTRIBUTED, browser_text};

/// Makes messages of orders. Keeps nothing.
pub fn attributed<'s>(credited: StreamVec<'s, u64, Credited>) -> StreamVec<'s, u64, Message> {
    credited.map(|order| {
        let mut value = Vec::new();
        write_header(ORDER_ATTRIBUTED.fingerprint(), &mut value);
        encode(&order, &mut value);
        Message {
            tick: order.tick.saturating_sub(1),
            shard: order.shard,
            key: order.browser_id,
            value: value.into(),
        }
    })
}

/// Appends the Avro body.
fn encode(said: &Credited, out: &mut Vec<u8>) {
    let order = &said.order;
    out.extend_from_slice(&said.visit);
    text(&browser_text(&said.browser_id), out);
    long(said.tick as i64, out);
    out.push(said.sealed.into());
    let country = (!said.country.is_empty()).then_some(&*said.country);
    optional(country, out, text);
    long(said.agent as i64, out);
    out.extend_from_slice(&bytes_of_words(order.event));
    optional(order.order_id.as_deref(), out, text);
    optional(order.customer_id.as_deref(), out, text);
    long(order.time, out);
    optional(order.value, out, long);
    out.push(order.whole.into());
    array(&order.chain, out, link);
    array(&order.credits, out, credit);
}

fn text(value: &str, out: &mut Vec<u8>) {
    bytes(value.as_bytes(), out);
}

fn link(link: &Link, out: &mut Vec<u8>) {
    out.extend_from_slice(&bytes_of_words(link.event));
    long(link.time, out);
    text(&link.effect, out);
    text(&link.entity, out);
    optional(link.entity_id.as_deref(), out, text);
    optional(link.reason.as_deref(), out, text);
    array(&link.losers, out, loser);
    long(link.more.into(), out);
}

fn loser(loser: &Loser, out: &mut Vec<u8>) {
    text(&loser.entity, out);
    optional(loser.entity_id.as_deref(), out, text);
    optional(loser.reason.as_deref(), out, text);
}

fn credit(credit: &Credit, out: &mut Vec<u8>) {
    text(&credit.touch, out);
    let Credit {
        time,
        first,
        last,
        linear,
        position,
        ..
    } = *credit;
    for number in [time, first, last, linear, position] {
        long(number, out);
    }
}

#[cfg(test)]
mod tests {
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use visitflow_dataflows::attribution::Order;
    use visitflow_dataflows::fact::Agent;

    use super::*;

    #[test]
    fn an_order_is_what_apache_avro_reads() {
        let link = |event, losers| Link {
            event: [0, event],
            time: 5_000,
            effect: "shown".into(),
            entity: "page".into(),
            entity_id: Some("/tv".into()),
            reason: None,
            losers,
            more: 3,
        };
        let loser = Loser {
            entity: "banner".into(),
            entity_id: None,
            reason: Some("campaign:x".into()),
        };
        let said = Credited {
            tick: 7_000,
            shard: 9,
            visit: [1; 16],
            browser_id: (*b"b").into(),
            country: "NL".into(),
            agent: Agent::Robot,
            sealed: true,
            order: Order {
                event: [1, 2],
                order_id: Some("o-12".into()),
                customer_id: None,
                time: 6_000,
                value: Some(-1_290),
                whole: true,
                chain: vec![link(2, vec![loser]), link(1, vec![])],
                credits: vec![Credit {
                    touch: "direct".into(),
                    time: 5_000,
                    first: 1,
                    last: 2,
                    linear: 3,
                    position: 4,
                }],
            },
        };
        let mut body = Vec::new();
        encode(&said, &mut body);
        let schema = apache_avro::Schema::parse(ORDER_ATTRIBUTED.json()).unwrap();
        let mut rest = &body[..];
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let read = reader.read_value(&mut rest).unwrap();
        assert!(rest.is_empty());
        let Value::Record(fields) = read else {
            panic!("a record")
        };
        let of = |name: &str| &fields.iter().find(|(field, _)| field == name).unwrap().1;
        let some = |value| Value::Union(1, Box::new(value));
        assert_eq!(*of("as_of"), Value::TimestampMillis(7_000));
        assert_eq!(*of("sealed"), Value::Boolean(true));
        assert_eq!(*of("country"), some(Value::String("NL".into())));
        assert_eq!(*of("agent"), Value::Enum(1, "robot".into()));
        assert_eq!(*of("value"), some(Value::Long(-1_290)));
        let Value::Array(chain) = of("chain") else {
            panic!("an array")
        };
        assert_eq!(chain.len(), 2);
        let Value::Record(first) = &chain[0] else {
            panic!("a record")
        };
        assert!(matches!(&first[6].1, Value::Array(losers) if losers.len() == 1));
        assert_eq!(first[7].1, Value::Int(3));
        let Value::Array(credits) = of("credits") else {
            panic!("an array")
        };
        let Value::Record(credit) = &credits[0] else {
            panic!("a record")
        };
        assert_eq!(credit[5].1, Value::Long(4));
    }
}
