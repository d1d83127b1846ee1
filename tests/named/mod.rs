//! Customers who are named in visits, by the table of measurements: what plain sums say of each, and
//! whom the topic `lifecycle` must have named, once a visit. For tests that kill jobs with profiles, on
//! one log or the other.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use visitflow_schemas::records::Lifecycle;

use crate::outputs::{Tables, hex};

/// Of visits: how many, how many orders, and what these were worth.
pub type Sums = [i64; 3];

/// Of a visit that names a customer, or of a part of it: orders by their numbers, each once.
type Orders<'a> = BTreeMap<&'a str, i64>;

/// What the tables say.
pub struct Customers<'a> {
    /// By visit, the tick of its seal.
    sealed: HashMap<&'a str, i64>,
    /// By visit and customer, when people's measurements name the customer.
    named: BTreeMap<(&'a str, &'a str), Vec<i64>>,
    /// By customer and visit.
    orders: BTreeMap<&'a str, BTreeMap<&'a str, Orders<'a>>>,
}

/// What was said on `lifecycle`.
pub struct Told {
    /// Of how many customers in visits.
    pub named: usize,
    /// Of how many of these something was known.
    pub known: usize,
}

impl<'a> Customers<'a> {
    /// Whoever is named has what comes from there on in the visit, until another is.
    pub fn of(tables: &'a Tables) -> Customers<'a> {
        let sealed = tables.visits.iter();
        let sealed = sealed.map(|visit| (&*visit.visit_id, visit.sealed_tick));
        let mut customers = Customers {
            sealed: sealed.collect(),
            named: BTreeMap::new(),
            orders: BTreeMap::new(),
        };
        for rows in tables
            .measurements
            .chunk_by(|a, b| a.visit_id == b.visit_id)
        {
            let visit = &*rows[0].visit_id;
            let mut last = None;
            for row in rows {
                if let Some(customer) = row.customer_id.as_deref() {
                    last = Some(customer);
                    if row.agent != "robot" {
                        let times = customers.named.entry((visit, customer)).or_default();
                        times.push(row.event_time);
                    }
                }
                let Some(customer) = last else { continue };
                let visits = customers.orders.entry(customer).or_default();
                let orders = visits.entry(visit).or_default();
                if row.effect == "ordered" && row.entity == "order" {
                    let order = row.entity_id.as_deref().unwrap_or_default();
                    orders.entry(order).or_insert(row.value.unwrap_or(0));
                }
            }
        }
        customers
    }

    /// All who are named.
    pub fn all(&self) -> impl Iterator<Item = &str> {
        self.orders.keys().copied()
    }

    /// What is known of a customer from the visits that were sealed before a tick.
    pub fn sums(&self, customer: &str, before: i64) -> Sums {
        let visits = self.orders.get(customer).into_iter().flatten();
        let visits = visits.filter(|(visit, _)| self.sealed[*visit] < before);
        visits.fold([0; 3], |[visits, orders, revenue], (_, own)| {
            let worth: i64 = own.values().sum();
            [visits + 1, orders + own.len() as i64, revenue + worth]
        })
    }

    /// Holds the messages of `lifecycle`, those of a partition in their order, to the tables: each
    /// customer of a visit is said once, behind the visit's beginning, with the sums over the visits
    /// that were sealed before; and of others only those of visits that are none any more.
    ///
    /// # Panics
    /// At the first that is otherwise.
    pub fn hold(&self, messages: impl IntoIterator<Item = Vec<u8>>) -> Told {
        let mut begun = BTreeSet::new();
        let mut said = BTreeSet::new();
        let mut known = 0;
        for message in messages {
            let named = match Lifecycle::decode_message(&message).unwrap() {
                Lifecycle::Started(visit) => {
                    begun.insert(visit.visit_id);
                    continue;
                }
                Lifecycle::Revised(revised) => {
                    begun.insert(revised.into);
                    continue;
                }
                Lifecycle::Named(named) => named,
                _ => continue,
            };
            let began = begun.contains(&named.visit_id);
            assert!(began, "{named:?} stands before its visit");
            let sums = self.sums(named.customer_id, named.as_of);
            match &named.profile {
                None => assert_eq!(sums[0], 0, "{named:?}"),
                Some(profile) => {
                    known += 1;
                    let told = [profile.visits, profile.orders, profile.revenue];
                    assert_eq!(told, sums, "{named:?}");
                }
            }
            let visit = hex(&named.visit_id);
            match self.named.get(&(&*visit, named.customer_id)) {
                Some(times) => assert!(times.contains(&named.time), "{named:?}"),
                None => assert!(!self.sealed.contains_key(&*visit), "{named:?}"),
            }
            let is_new = said.insert((visit, named.customer_id.to_owned()));
            assert!(is_new, "{named:?} is said twice");
        }
        let is_said = |(visit, customer): &(&str, &str)| {
            said.contains(&((*visit).to_owned(), (*customer).to_owned()))
        };
        let missing: Vec<_> = self.named.keys().filter(|key| !is_said(key)).collect();
        assert!(missing.is_empty(), "not said: {missing:?}");
        Told {
            named: said.len(),
            known,
        }
    }
}
