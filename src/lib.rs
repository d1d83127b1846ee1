//! Runtime.
pub mod table;
