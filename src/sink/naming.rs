//! The messages of `lifecycle` that say which customer is named in a visit, and what is known of the
//! customer, for whoever greets customers while they are there. The fields are documented in
//! `schemas/customer_named.avsc`. It is for the identified topic only: there is no twin of it.
//!
//! A message's tick is the last of its step: what is said at a step's end is an effect before it, and
//! belongs to a snapshot that is taken there.

use visitflow_dataflows::profiles::{self, Loaded, Shown};
use visitflow_dataflows::visit::Tick;
use visitflow_schemas::records::{CustomerNamed, Profile, Weighed, browser_text};

/// The tick of which a message is an effect.
pub fn tick_of(loaded: &Loaded) -> Tick {
    loaded.named.tick.saturating_sub(1)
}

/// Appends the whole message.
pub fn encode_named(loaded: &Loaded, out: &mut Vec<u8>) {
    let named = &loaded.named;
    let as_of = i64::try_from(named.tick).unwrap_or(i64::MAX);
    let shown = loaded.profile.as_ref().map(|known| known.shown(as_of));
    CustomerNamed {
        visit_id: named.visit,
        browser_id: &browser_text(&named.browser_id),
        customer_id: &named.customer,
        time: named.time,
        as_of,
        profile: shown.as_ref().map(profile),
    }
    .encode_message(out);
}

fn profile(shown: &Shown) -> Profile<'_> {
    Profile {
        first_seen: shown.first_seen,
        last_seen: shown.last_seen,
        visits: shown.visits.into(),
        orders: shown.orders.into(),
        revenue: shown.revenue,
        products: weighed(&shown.products),
        kinds: weighed(&shown.kinds),
        reasons: weighed(&shown.reasons),
        hours: shown.hours.into(),
    }
}

fn weighed(shown: &[profiles::Weighed]) -> Vec<Weighed<'_>> {
    let weighed = shown.iter().map(|shown| Weighed {
        name: &shown.name,
        weight: shown.weight,
    });
    weighed.collect()
}

#[cfg(test)]
mod tests {
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use visitflow_dataflows::fact::{Fact, Id};
    use visitflow_dataflows::profiles::{Named, Profile};
    use visitflow_dataflows::visit::Position;
    use visitflow_schemas::message;
    use visitflow_schemas::records::CUSTOMER_NAMED;

    use super::*;

    /// What apache-avro reads in it, by field.
    fn read(loaded: &Loaded) -> Vec<(String, Value)> {
        let mut message = Vec::new();
        encode_named(loaded, &mut message);
        let (fingerprint, mut body) = message::split(&message).unwrap();
        assert_eq!(fingerprint, CUSTOMER_NAMED.fingerprint());
        let schema = apache_avro::Schema::parse(CUSTOMER_NAMED.json()).unwrap();
        let reader = GenericDatumReader::builder(&schema).build().unwrap();
        let value = reader.read_value(&mut body).unwrap();
        assert!(body.is_empty());
        match value {
            Value::Record(fields) => fields,
            other => panic!("{other:?}"),
        }
    }

    fn of(fields: &[(String, Value)], name: &str) -> Value {
        let field = fields.iter().find(|(field, _)| field == name);
        field.unwrap().1.clone()
    }

    #[test]
    fn what_is_said_of_a_customer_is_what_apache_avro_reads() {
        let fact = |entity, id| Fact {
            at: Position {
                time: 3_600_000,
                event: [0; 2],
            },
            effect: "clicked",
            entity,
            entity_id: Some(Id::Text(id)),
            ..Fact::default()
        };
        let (lamp, page) = (fact("product", "lamp"), fact("page", "/"));
        let mut loaded = Loaded {
            named: Named {
                tick: 7_200_000,
                shard: 3,
                browser_id: (*b"b").into(),
                visit: [1; 16],
                time: 7_000_000,
                customer: "ann".into(),
            },
            profile: None,
        };
        assert_eq!(tick_of(&loaded), 7_199_999);
        let fields = read(&loaded);
        assert_eq!(of(&fields, "visit_id"), Value::Fixed(16, vec![1; 16]));
        assert_eq!(of(&fields, "customer_id"), Value::String("ann".into()));
        assert_eq!(of(&fields, "time"), Value::TimestampMillis(7_000_000));
        assert_eq!(of(&fields, "as_of"), Value::TimestampMillis(7_200_000));
        let null = Value::Union(0, Box::new(Value::Null));
        assert_eq!(of(&fields, "profile"), null);

        loaded.profile = Some(Profile::of_visit(&[&lamp, &page]));
        let Value::Union(1, profile) = of(&read(&loaded), "profile") else {
            panic!("a profile")
        };
        let Value::Record(profile) = *profile else {
            panic!("a record")
        };
        assert_eq!(of(&profile, "visits"), Value::Long(1));
        let weighed = |name: &str| {
            let fields = [
                ("name", Value::String(name.into())),
                ("weight", Value::Double(4.0)),
            ];
            Value::Record(
                fields
                    .map(|(field, value)| (field.to_owned(), value))
                    .into(),
            )
        };
        assert_eq!(
            of(&profile, "products"),
            Value::Array(vec![weighed("lamp")])
        );
        let kinds = vec![weighed("page"), weighed("product")];
        assert_eq!(of(&profile, "kinds"), Value::Array(kinds));
        assert_eq!(of(&profile, "reasons"), Value::Array(vec![]));
        let Value::Array(hours) = of(&profile, "hours") else {
            panic!("an array")
        };
        assert_eq!((hours.len(), &hours[1]), (24, &Value::Double(1.0)));
    }
}
