//! The form in which stories are kept in snapshots.

use serde::{Deserialize, Serialize};

use super::news::{Added, Numbers};
use super::question::Shown;
use super::watching::{Absent, Browser, Seal};
use crate::attribution::Past;
use crate::complete::Key as BrowserKey;
use crate::visit::Tick;

/// Their version.
pub const FORMAT: u32 = 4;

/// What is kept of a shard.
#[derive(Default, Serialize)]
pub struct Keeping<'a> {
    pub due: Tick,
    pub browsers: Vec<(&'a BrowserKey, &'a Browser)>,
    pub news: Vec<Added>,
    pub numbers: Numbers,
    pub absent: Vec<(&'a BrowserKey, &'a Absent)>,
    pub ended: KeepingEnded<'a>,
    pub pasts: Vec<(u8, &'a BrowserKey, &'a (Tick, Past))>,
}

#[derive(Default, Serialize)]
pub struct KeepingEnded<'a> {
    pub visits: Vec<(&'a Seal, &'a (u8, Shown))>,
    pub kept: Tick,
}

/// The same, restored.
#[derive(Deserialize)]
pub struct Kept {
    pub due: Tick,
    pub browsers: Vec<(BrowserKey, Browser)>,
    pub news: Vec<Added>,
    pub numbers: Numbers,
    pub absent: Vec<(BrowserKey, Absent)>,
    pub ended: KeptEnded,
    pub pasts: Vec<(u8, BrowserKey, (Tick, Past))>,
}

#[derive(Deserialize)]
pub struct KeptEnded {
    pub visits: Vec<(Seal, (u8, Shown))>,
    pub kept: Tick,
}
