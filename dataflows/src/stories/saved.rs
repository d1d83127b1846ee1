//! Stories in snapshots: the form in which they are kept, and how that is written a part at a time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::browser::{Absent, Browser};
use super::ended::Seal;
use super::news::{Added, Numbers};
use super::question::Shown;
use super::watching::Stories;
use crate::attribution::Past;
use crate::complete::{Key as BrowserKey, PARTS};
use crate::durable::{Shards, written};
use crate::views::shard_of;
use crate::visit::Tick;

/// Their version.
pub const FORMAT: u32 = 6;

/// What is kept of a shard.
#[derive(Default, Serialize)]
pub struct Keeping<'a> {
    pub due: Tick,
    pub views: &'a [u64],
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
    pub views: Vec<u64>,
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

/// So many rows that a browser is in are as much of a snapshot as the browser.
const STAYS: usize = 32;

/// A snapshot that is being written.
#[derive(Default)]
pub(super) struct Saving {
    /// So many parts of the browsers without visits are in it,
    absent: usize,
    /// so many of the others,
    parts: usize,
    /// the visits that have ended up to this one,
    ended: Option<Seal>,
    /// and the pasts of so many shards.
    pasts: u16,
    written: Shards,
}

impl Stories {
    /// Goes on with a snapshot as of this tick, by about so many entries; whether those were the last.
    pub(super) fn save(&mut self, at: Tick, entries: usize) -> bool {
        if let Some(naming) = &mut self.naming
            && !naming.save_some(at, entries)
        {
            return false;
        }
        let mut saving = self.saving.take().unwrap_or_default();
        let mut some = 0;
        let first = saving.absent;
        while saving.absent < PARTS && some < entries {
            self.sweep_part(at, saving.absent);
            let part = self.absent.parts()[saving.absent].iter();
            some += part
                .map(|(_, own)| 1 + own.present.len() / STAYS)
                .sum::<usize>();
            saving.absent += 1;
        }
        let mut shards: BTreeMap<u8, Keeping<'_>> = BTreeMap::new();
        for part in &self.absent.parts()[first..saving.absent] {
            for (key, own) in part.iter() {
                let shard = shards.entry(own.shard).or_default();
                shard.absent.push((key, own));
            }
        }
        for part in self.browsers.parts_mut().iter_mut().skip(saving.parts) {
            if some >= entries {
                break;
            }
            saving.parts += 1;
            for (_, browser) in part.iter_mut() {
                some += 1 + browser.present.len() / STAYS;
                browser.write_down();
                browser.enter(at, &mut self.news);
            }
            for (key, browser) in part.iter() {
                let shard = shards.entry(browser.shard).or_default();
                shard.browsers.push((key, browser));
            }
        }
        let ended = self.ended.after(saving.ended);
        for (place, shown) in ended.take(entries.saturating_sub(some)) {
            some += 1;
            saving.ended = Some(*place);
            let shard = shards.entry(shown.0).or_default();
            shard.ended.visits.push((place, shown));
        }
        while saving.pasts < 256 && some < entries {
            let number = saving.pasts as u8;
            let pasts = self.pasts.shard(number);
            some += pasts.len();
            if pasts.len() > 0 {
                let pasts = pasts.map(|(key, past)| (number, key, past));
                shards.entry(number).or_default().pasts.extend(pasts);
            }
            saving.pasts += 1;
        }
        for shard in shards.values_mut() {
            let present = shard.browsers.iter().map(|(_, browser)| &browser.present);
            let absent = shard.absent.iter().map(|(_, own)| &own.present);
            shard.numbers = self.news.numbers(present.chain(absent));
        }
        let is_last = some < entries;
        if is_last {
            for added in self.news.added() {
                let shard = shards.entry(shard_of(added.key.bytes()));
                shard.or_default().news.push(added);
            }
        }
        for shard in shards.values_mut() {
            shard.ended.kept = self.ended.kept();
            shard.due = self.due;
            shard.views = &self.identities;
        }
        saving.written.extend(written(FORMAT, shards));
        if is_last {
            self.durable.save_written(at, saving.written);
        } else {
            self.saving = Some(saving);
        }
        is_last
    }
}
