//! Who is named: says each customer of a visit once, at the end of the step in which a measurement of the
//! visit names the customer first, for whoever greets the customer while the visit is there.
//!
//! Mostly it follows from the tag of the measurement that names somebody. Where measurements have moved to
//! other visits, and where one was sent twice and told otherwise, the browser is looked at anew, from all
//! that is kept of it; and a visit is looked at once more when it is sealed. So what is said follows from
//! the visits as they are at the end of each step, and of a sealed visit everybody was said whom it names.
//! Of a visit that a revision takes back nothing is taken back. Robots name nobody.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::browser::Browser;
use super::story::stories_of;
use super::watching::{Said, Stories, read_all};
use crate::batch::Head;
use crate::complete::{ByBrowser, Complete, Key as BrowserKey, Measurements, Payloads};
use crate::durable::{Durable, Shards, written};
use crate::fact::{Agent, Fact};
use crate::profiles::{Named, is_id};
use crate::visit::{Position, Tick, bytes_of_words, words_of_bytes};

/// The version of the form in which it is kept.
const FORMAT: u32 = 1;

/// Who was said to be named, and who is to be said. Keeps some 60 bytes and the ID of each customer of an
/// open visit.
pub(super) struct Naming {
    durable: Durable,
    browsers: ByBrowser<Own>,
    /// Who was named in the step at hand, by the tags.
    found: Vec<Found>,
    /// Browsers whose measurements belong to other visits than they did.
    moved: Vec<BrowserKey>,
    /// Browsers whose measurements name others than they did.
    retold: Vec<BrowserKey>,
    /// How many parts of the browsers are in the snapshot that is being written.
    saving: Option<(usize, Shards)>,
    /// The last that was written.
    saved: Tick,
}

/// What was said of a browser's visits, in order.
#[derive(Default, Serialize, Deserialize)]
struct Own {
    shard: u8,
    told: Vec<Told>,
}

/// Who was said to be named in a visit, and by which measurement.
#[derive(Serialize, Deserialize)]
struct Told {
    visit: [u64; 2],
    customer: Box<str>,
    at: (i64, [u64; 2]),
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    browser: BrowserKey,
    at: Position,
    visit: [u64; 2],
    customer: Box<str>,
}

impl Own {
    fn place(&self, visit: [u64; 2], customer: &str) -> Result<usize, usize> {
        let place = |told: &Told| (told.visit, &*told.customer).cmp(&(visit, customer));
        self.told.binary_search_by(place)
    }
}

impl Naming {
    fn new(mut durable: Durable) -> Naming {
        let mut browsers = ByBrowser::default();
        for kept in durable.restore::<Vec<(BrowserKey, Own)>>(FORMAT) {
            for (key, own) in kept {
                browsers.insert(key, own);
            }
        }
        Naming {
            durable,
            browsers,
            found: Vec::new(),
            moved: Vec::new(),
            retold: Vec::new(),
            saving: None,
            saved: 0,
        }
    }

    /// Of how many browsers something is kept.
    pub fn len(&self) -> usize {
        self.browsers.len() + self.found.len() + self.moved.len() + self.retold.len()
    }

    /// A measurement was tagged.
    pub fn measured(&mut self, head: &Head, fact: &Fact<'_>) {
        let Some(customer) = customer_of(fact) else {
            return;
        };
        let own = self.browsers.get(&head.browser);
        if own.is_none_or(|own| own.place(head.visit, &customer).is_err()) {
            self.found.push(Found {
                browser: head.browser,
                at: head.at,
                visit: head.visit,
                customer: customer.into(),
            });
        }
    }

    /// Measurements of a browser belong to other visits than they did.
    pub fn moved(&mut self, browser: BrowserKey) {
        if self.moved.last() != Some(&browser) {
            self.moved.push(browser);
        }
    }

    /// A measurement of a browser names somebody else than it did.
    pub fn retold(&mut self, browser: BrowserKey) {
        self.retold.push(browser);
    }

    /// Says that a customer is named, unless it was said.
    fn say(
        &mut self,
        tick: Tick,
        (key, browser): (BrowserKey, &Browser),
        (visit, at): ([u64; 2], Position),
        customer: &str,
        said: &mut Vec<Said>,
    ) {
        let own = self.browsers.or_insert_with(key, None, || Own {
            shard: browser.shard,
            told: Vec::new(),
        });
        let Err(place) = own.place(visit, customer) else {
            return;
        };
        let told = Told {
            visit,
            customer: customer.into(),
            at: (at.time, at.event),
        };
        own.told.insert(place, told);
        said.push(Said::Named(Box::new(Named {
            tick,
            shard: browser.shard,
            browser_id: browser.id.clone(),
            visit: bytes_of_words(visit),
            time: at.time,
            customer: customer.into(),
        })));
    }

    /// Forgets what was said because of measurements up to this one: their visits are sealed. Those of a
    /// visit that is none any more go when the last of what named somebody in it does.
    fn forget(&mut self, key: BrowserKey, last: Position) {
        let Some(own) = self.browsers.get_mut(&key) else {
            return;
        };
        own.told.retain(|told| told.at > (last.time, last.event));
        if own.told.is_empty() {
            self.browsers.remove(&key);
        }
    }

    /// Goes on with a snapshot, by about so many browsers; whether it is whole.
    pub fn save_some(&mut self, at: Tick, entries: usize) -> bool {
        if self.saved == at {
            return true;
        }
        let (mut done, mut shards) = self.saving.take().unwrap_or_default();
        let mut own: BTreeMap<u8, Vec<(&BrowserKey, &Own)>> = BTreeMap::new();
        let mut some = 0;
        let parts = self.browsers.parts();
        for part in &parts[done..] {
            if some >= entries {
                break;
            }
            done += 1;
            some += part.len();
            for (key, kept) in part.iter() {
                own.entry(kept.shard).or_default().push((key, kept));
            }
        }
        let is_whole = done == parts.len();
        shards.extend(written(FORMAT, own));
        if is_whole {
            self.durable.save_written(at, shards);
            self.saved = at;
        } else {
            self.saving = Some((done, shards));
        }
        is_whole
    }
}

impl Stories {
    /// Says too which customers are named in visits, and goes on from what is durable. Its
    /// [`Settings`](super::Settings) must say that there are profiles.
    #[must_use]
    pub fn naming(mut self, durable: Durable) -> Stories {
        self.naming = Some(Naming::new(durable));
        self
    }

    /// Says who was named in open visits in the step that ends.
    pub(super) fn name_open<P: Payloads>(
        &mut self,
        tick: Tick,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let Some(naming) = &mut self.naming else {
            return Ok(());
        };
        let mut found = std::mem::take(&mut naming.found);
        let mut moved = std::mem::take(&mut naming.moved);
        found.sort_unstable();
        // Where nobody was named before and nobody is now, nobody is named elsewhere.
        moved.retain(|key| {
            let is_found = found.binary_search_by(|found| found.browser.cmp(key));
            is_found.is_ok() || naming.browsers.get(key).is_some()
        });
        moved.append(&mut naming.retold);
        moved.sort_unstable();
        moved.dedup();
        let people = |browser: &&Browser| !browser.robot;
        for found in found {
            let key = found.browser;
            let browser = self.browsers.get(&key).filter(people);
            // Tags of this step may be those of visits that are none any more.
            if let Some(browser) = browser.filter(|_| moved.binary_search(&key).is_err()) {
                let place = (found.visit, found.at);
                naming.say(tick, (key, browser), place, &found.customer, said);
            }
        }
        for key in moved {
            let Some(browser) = self.browsers.get(&key).filter(people) else {
                continue;
            };
            let looked = kept.look(&key)?;
            let facts = read_all(&mut self.reading, looked.as_ref());
            for (visit, facts) in stories_of(&browser.id, &facts, &self.settings.rules) {
                for fact in facts {
                    if let Some(customer) = customer_of(fact) {
                        let place = (visit.id, fact.at);
                        naming.say(tick, (key, browser), place, &customer, said);
                    }
                }
            }
        }
        Ok(())
    }

    /// Says whoever is named in a sealed visit and was not said before, and lets go of it.
    pub(super) fn name_sealed(
        &mut self,
        tick: Tick,
        complete: &Complete,
        (key, browser): (BrowserKey, &Browser),
        facts: &[Fact<'_>],
        said: &mut Vec<Said>,
    ) {
        let Some(naming) = &mut self.naming else {
            return;
        };
        let visit = words_of_bytes(&complete.visit);
        for fact in facts.iter().filter(|_| !browser.robot) {
            if let Some(customer) = customer_of(fact) {
                naming.say(tick, (key, browser), (visit, fact.at), &customer, said);
            }
        }
        if let Some(last) = facts.last() {
            naming.forget(key, last.at);
        }
    }
}

/// Whom a measurement names, if it is of no robot.
fn customer_of<'a>(fact: &Fact<'a>) -> Option<Cow<'a, str>> {
    let customer = fact.customer.filter(|_| fact.agent != Agent::Robot)?;
    Some(customer.text()).filter(|id| is_id(id))
}
