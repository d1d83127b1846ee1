//! Runtime.
pub mod import;
