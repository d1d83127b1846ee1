//! Profiles: what is known of a customer from all sealed visits in which the customer was named, on
//! whatever browser, in two kilobytes at most. For whoever wants to greet a customer with what the
//! customer likes, and asks for it while a page is being made.
//!
//! A visit says what it adds to whom when it is sealed ([`Part`]), so a profile is never taken back.
//! It is loaded when a visit first names its customer ([`Named`]), for whoever is told of visits as they
//! come and go. It is personal data: a job makes profiles only if it says so, and nothing of them goes to
//! anonymized outputs. It is not a history: what a customer did when cannot be read from it, and what is
//! not seen again decays ([`decayed`]).

mod decay;
mod keeping;
mod named;
mod part;
mod profile;
mod shelf;
#[cfg(test)]
mod tests;
mod top;

pub use decay::{HALF_LIFE, UNIT, Weight, decayed};
pub use keeping::{KeepingError, Kept, profiles};
pub use named::{Loaded, Named};
pub use part::{CUSTOMER, GROUPS, Part, by_customer, group_of, is_id};
pub use profile::{MOST_BYTES, Profile, ProfileError, Shown, Weighed};
pub use shelf::{InMemory, Model, Shelf};
pub use top::{NAME, Top};
