//! Views: sums by key over a window that moves on, which stay right while the past is corrected.

mod row;
mod spec;

pub use row::{Key, Row, SUMS, Sums};
pub use spec::{Field, Of, PREFIX, Step, Value, View};
