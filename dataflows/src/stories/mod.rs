//! Stories: what all measurements of an open visit say together, told while it is open, corrected
//! when it is revised, and told a last time when it is sealed. Views of visits, orders with what led
//! to them, and answers about open visits come from here.
//!
//! A story is a function of the *set* of a visit's measurements. A browser that has measured anything
//! in a step is told of at the step's end, from all that is kept of it: so what was said before, and
//! where measurements have moved to since, need not be followed. The new story is held against the
//! old one, and what differs is taken back and said anew.

mod contributions;
mod part;
mod question;
mod story;
mod watching;

pub use part::{Parted, parted};
pub use question::{Answer, Ask, Facts, Of, Question, Shown};
pub use story::{Story, stories_of};
pub use watching::{Credited, Said, Settings, Stories};
