//! Where journals lie: what recovery needs of a place to which is appended. The seam between the
//! journal's rules ([`super::journal`]) and a folder ([`super::Folder`]), a topic in Kafka
//! ([`super::Topic`]), and the disk of the simulation. One suite holds all real ones to what is said
//! here (`tests/journals`).

use super::RecoveryError;

/// A place for journals: sequences of bytes, each with a name, to which one process appends.
pub trait Journals {
    /// One that is appended to.
    type File: Append;

    /// The names of those that are there, sorted. Once [`begin`](Journals::begin) has been called,
    /// those that others have begun since may be missing.
    fn names(&self) -> Result<Vec<String>, RecoveryError>;
    /// What one holds; `None` if there is none of that name. All that was durable when this place
    /// was last asked for [`names`](Journals::names) is there, perhaps more, never a part of the
    /// middle.
    fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>, RecoveryError>;
    /// Begins one that is not there.
    fn begin(&self, name: &str) -> Result<Self::File, RecoveryError>;
    /// Makes durable what one holds, whoever wrote it, if it is there.
    fn harden(&self, name: &str) -> Result<(), RecoveryError>;
    /// Removes one, if it is there.
    fn forget(&self, name: &str) -> Result<(), RecoveryError>;
}

/// A journal that is appended to.
pub trait Append {
    /// Appends. Not durable, and a crash may leave a part of it.
    fn append(&mut self, bytes: &[u8]) -> Result<(), RecoveryError>;
    /// Makes what was appended durable.
    fn sync(&mut self) -> Result<(), RecoveryError>;
}
