//! Sweeps away versions that nobody can read any more, and customers who were not seen for too long,
//! a portion at a time.

use std::ops::Bound;
use std::sync::PoisonError;

use visitflow_dataflows::profiles::Profile;
use visitflow_dataflows::visit::Tick;

use super::{Group, ShelfError};

/// So many versions of a group are looked at with each snapshot: those of a million customers in
/// about an hour, if there is one a minute.
pub(super) const PORTION: usize = 2_048;

impl Group {
    /// Looks at the next versions. Of those before `durable` nobody reads any but a customer's last,
    /// and that one as nothing if it has expired. So it may be done beside the worker, who only reads and
    /// writes what stays.
    pub(super) fn sweep(
        &self,
        durable: Tick,
        retention: i64,
        portion: usize,
    ) -> Result<(), ShelfError> {
        let sweep = || -> Result<(), fjall::Error> {
            let mut from = self.swept.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = Bound::Excluded(std::mem::take(&mut *from));
            let mut of_customer: Option<Vec<u8>> = None;
            let versions = self.profiles.range((begin, Bound::Unbounded));
            for (n, version) in versions.enumerate() {
                if n == portion {
                    break;
                }
                let (key, profile) = version.into_inner()?;
                if n + 1 == portion {
                    *from = key.to_vec();
                }
                let Some((customer, tick)) = key.split_last_chunk::<8>() else {
                    continue;
                };
                if !Tick::from_be_bytes(*tick) >= durable {
                    continue;
                }
                // The last one before the snapshot; a portion that begins in the middle keeps one more.
                let is_last = of_customer.as_deref() != Some(customer);
                of_customer = Some(customer.to_vec());
                // One that cannot be read is for its reader to complain of.
                let expired = || {
                    let profile = Profile::from_bytes(&profile);
                    profile.is_ok_and(|profile| profile.is_expired(durable, retention))
                };
                if !is_last || expired() {
                    self.profiles.remove(key)?;
                }
            }
            Ok(())
        };
        sweep().map_err(ShelfError::on("sweep", &self.path))
    }
}
