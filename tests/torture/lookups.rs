//! Profiles after all that was done: what the job answers at last of each customer whom it has named,
//! against sums over the visits of the tables, which are the right answer's.

use std::collections::BTreeSet;

use visitflow_schemas::records::Lifecycle;

use crate::job::Place;
use crate::named::{Customers, Sums};
use crate::{broker, outputs};

/// What was answered of a customer.
pub struct LookUp {
    pub customer: String,
    /// The tick as of which.
    pub tick: u64,
    /// Nothing but zeros if nobody knew the customer.
    pub sums: Sums,
}

/// All that is committed of `lifecycle`, partition by partition.
pub fn lifecycle(place: &Place) -> Vec<Vec<u8>> {
    match place.bootstrap() {
        None => {
            let said = outputs::topic(&place.path("disk/topics"), "lifecycle");
            said.into_iter().map(|said| said.value).collect()
        }
        Some(bootstrap) => {
            let mut said = broker::ticks(bootstrap, "shop-lifecycle");
            said.sort_by_key(|(partition, ..)| *partition);
            said.into_iter().map(|(.., value)| value).collect()
        }
    }
}

/// Who was named so far.
pub fn customers(place: &Place) -> BTreeSet<String> {
    let mut customers = BTreeSet::new();
    for message in lifecycle(place) {
        if let Ok(Lifecycle::Named(named)) = Lifecycle::decode_message(&message) {
            customers.insert(named.customer_id.to_owned());
        }
    }
    customers
}

/// Holds what was answered to the tables.
///
/// # Panics
/// At the first that differs.
pub fn compare(found: &[LookUp], customers: &Customers<'_>) {
    for LookUp {
        customer,
        tick,
        sums,
    } in found
    {
        let expected = customers.sums(customer, *tick as i64);
        assert_eq!(*sums, expected, "the profile of {customer} as of {tick}");
    }
    let known = found.iter().filter(|found| found.sums[0] > 0).count();
    assert!(known > 0, "none of {} customers is known", found.len());
}
