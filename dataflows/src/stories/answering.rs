//! Answers about open visits, and about those that were sealed of late: from what is known of them, and
//! from all that is kept.

use std::collections::BTreeMap;

use super::browser::Begun;
use super::crediting::{Asking, Customer, OfCustomer, OfOrder, Owed, Owing, What};
use super::growing::Growing;
use super::question::{Answer, Ask, Of, Question, Shown, Unread};
use super::story::{Story, stories_of};
use super::telling::{agent_of, sealed_story};
use super::watching::{Said, Stories, read, read_all};
use crate::complete::{Complete, Key as BrowserKey, Measurements, Payloads};
use crate::fact::Agent;
use crate::visit::{Tick, browser_key, bytes_of_words};

/// How an open visit is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    /// In short.
    Open,
    /// As a row of the table of visits.
    Row,
}

/// A visit that was asked for.
enum Found {
    /// Open, as it is kept.
    Unread(Unread),
    /// As it is shown; with its orders that wait for what other workers know, and its browser's shard.
    Shown(Shown, Option<(u8, Vec<Owed>)>),
}

impl Stories {
    /// Answers a question. Changes nothing but what is known of whom.
    pub(super) fn answer<P: Payloads>(
        &mut self,
        question: Question,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let (mut owing, mut unread) = (None, None);
        let (of, visits) = match question.ask {
            Ask::Hold(tick) => {
                self.holds.insert(question.process, tick);
                return Ok(());
            }
            Ask::Visit(id) => {
                let visits = match self.visit(id, kept)? {
                    None => Vec::new(),
                    Some(Found::Unread(own)) => {
                        unread = Some(own);
                        Vec::new()
                    }
                    Some(Found::Shown(shown, owed)) => {
                        owing = owed;
                        vec![shown]
                    }
                };
                (Of::Visit, visits)
            }
            Ask::Browser(id) => {
                let visits = self.shown(browser_key(&id), None, As::Open, kept)?;
                (Of::Visits, visits)
            }
            Ask::Newest { limit, agent } => {
                let visits = self.newest(limit as usize, agent.as_deref(), kept)?;
                (Of::Visits, visits)
            }
            Ask::Live(after) => (Of::Live, self.live(after, kept)?),
            Ask::Kept => (Of::Kept, Vec::new()),
            // Others know.
            Ask::Profile(_) => return Ok(()),
        };
        let answer = Answer {
            at: question.at,
            process: question.process,
            id: question.id,
            of,
            visits,
            unread,
            kept: self.ended.kept(),
            profile: None,
        };
        match owing {
            None => said.push(Said::Answer(answer)),
            Some((shard, orders)) => {
                for owed in &orders {
                    let asking = Asking(answer.process, answer.id, owed.number);
                    let customer = Customer::of_order(&owed.order.order);
                    said.extend(customer.map(|customer| {
                        Said::Customer(OfCustomer {
                            at: answer.at,
                            customer,
                            what: What::Asked(shard, asking),
                        })
                    }));
                }
                let owing = Owing { answer, orders };
                said.push(Said::Order(question.at, OfOrder::Owing(Box::new(owing))));
            }
        }
        Ok(())
    }

    /// An open visit with its measurements. One that is followed and has no orders is not even read.
    fn whole<P: Payloads>(
        &mut self,
        key: BrowserKey,
        id: [u64; 2],
        kept: &mut Measurements<P>,
    ) -> Result<Option<Found>, P::Error> {
        let Some(browser) = self.browsers.get(&key) else {
            return Ok(None);
        };
        let is_unread = |growing: &Growing| growing.visit().id == id && !growing.has_ordered();
        if browser.growing.as_deref().is_some_and(is_unread) && !browser.missed {
            // If it was sealed in the step at hand, nothing is kept: had anything come behind it, it would
            // not be followed any more.
            let unread = |bytes| {
                Found::Unread(Unread {
                    visit: id,
                    browser_id: browser.id.clone(),
                    robot: browser.robot,
                    bytes,
                })
            };
            return Ok(kept.copy(&key)?.map(unread));
        }
        let looked = kept.look(&key)?;
        let facts = read_all(&mut self.reading, looked.as_ref());
        let visits = stories_of(&browser.id, &facts, &self.settings.rules);
        let own = visits.into_iter().find(|(visit, _)| visit.id == id);
        let Some((visit, facts)) = own else {
            return Ok(None);
        };
        let story = Story::new(visit, facts, agent_of(facts, browser.robot), None);
        let settings = &self.settings.attribution;
        let traced = self.traced(&story);
        let past = self.pasts.of(browser.shard, &key);
        let orders = (0..).zip(&traced.orders);
        let owed = orders.filter(|(_, order)| Customer::of_order(&order.order).is_some());
        let owed = owed.map(|(number, order)| Owed {
            number,
            order: order.clone(),
            past: past.to_vec(),
        });
        let owed: Vec<Owed> = owed.collect();
        let owing = (!owed.is_empty()).then_some((browser.shard, owed));
        let attributed = traced.attributed(past, settings).orders;
        let shown = Shown::whole(&browser.id, &story, attributed);
        Ok(Some(Found::Shown(shown, owing)))
    }

    /// A browser's open visits, as answers show them in short.
    fn shown<P: Payloads>(
        &mut self,
        key: BrowserKey,
        only: Option<[u64; 2]>,
        how: As,
        kept: &mut Measurements<P>,
    ) -> Result<Vec<Shown>, P::Error> {
        let Some(browser) = self.browsers.get(&key) else {
            return Ok(Vec::new());
        };
        let looked = kept.look(&key)?;
        let facts = read_all(&mut self.reading, looked.as_ref());
        let mut visits = Vec::new();
        for (visit, facts) in stories_of(&browser.id, &facts, &self.settings.rules) {
            if only.is_some_and(|id| id != visit.id) {
                continue;
            }
            let agent = agent_of(facts, browser.robot);
            let story = Story::new(visit, facts, agent, None);
            let mut shown = Shown::of(&browser.id, &story);
            if how == As::Row {
                shown.agent = sender_agent(&story);
            }
            visits.push(shown);
        }
        Ok(visits)
    }

    /// Learns which visits those browsers have that have changed in the step at hand: at most one more
    /// walk over what a browser has, each time that it has changed and something is asked.
    fn catch_up<P: Payloads>(&mut self, kept: &mut Measurements<P>) -> Result<(), P::Error> {
        for key in std::mem::take(&mut self.stale) {
            let Some(mut browser) = self.browsers.remove(&key) else {
                continue;
            };
            browser.stale = false;
            self.forget_since(&mut browser);
            let sealed = |id| {
                self.sealed
                    .iter()
                    .any(|visit| visit.visit == bytes_of_words(id))
            };
            let begun = match browser.followed(sealed) {
                Some(begun) => begun,
                None => {
                    let looked = kept.look(&key)?;
                    let facts = read_all(&mut self.reading, looked.as_ref());
                    let visits = stories_of(&browser.id, &facts, &self.settings.rules);
                    let begun = visits.iter().map(|(visit, facts)| Begun {
                        visit: visit.id,
                        started: visit.first.time,
                        agent: agent_of(facts, browser.robot),
                    });
                    begun.collect()
                }
            };
            self.of_visits
                .extend(begun.iter().map(|begun| (begun.visit, key)));
            browser.since = Some(begun);
            self.browsers.insert(key, browser);
        }
        Ok(())
    }

    /// A visit that was sealed in the step at hand and is to be told of at its end.
    fn shown_sealed(&mut self, complete: &Complete) -> Shown {
        let browser = self.browsers.get(&browser_key(&complete.browser_id));
        let robot = browser.is_some_and(|browser| browser.robot);
        let facts = read(&mut self.reading, complete.measurements());
        sealed_shown(complete, &sealed_story(complete, &facts, robot))
    }

    /// A visit, open or sealed of late.
    fn visit<P: Payloads>(
        &mut self,
        id: [u64; 2],
        kept: &mut Measurements<P>,
    ) -> Result<Option<Found>, P::Error> {
        // One that is known is looked for where it is; only for another all that is new must be.
        for known in [true, false] {
            if !known {
                self.catch_up(kept)?;
            }
            if let Some(key) = self.of_visits.get(&id).copied()
                && let Some(open) = self.whole(key, id, kept)?
            {
                return Ok(Some(open));
            }
        }
        let bytes = bytes_of_words(id);
        let sealed = self.sealed.iter().find(|visit| visit.visit == bytes);
        let sealed = sealed.cloned().map(|complete| self.shown_sealed(&complete));
        let shown = sealed.or_else(|| self.ended.find(id).cloned());
        Ok(shown.map(|shown| Found::Shown(shown, None)))
    }

    /// The open visits that began last. Looks at what is known of all; of those of many measurements
    /// it may know less.
    fn newest<P: Payloads>(
        &mut self,
        limit: usize,
        agent: Option<&str>,
        kept: &mut Measurements<P>,
    ) -> Result<Vec<Shown>, P::Error> {
        self.catch_up(kept)?;
        let mut newest: BTreeMap<(i64, [u64; 2]), BrowserKey> = BTreeMap::new();
        for (key, browser) in self.browsers.iter() {
            for begun in browser.begun() {
                if agent.is_none_or(|agent| agent == begun.agent.word()) {
                    newest.insert((begun.started, begun.visit), *key);
                }
                if newest.len() > limit {
                    newest.pop_first();
                }
            }
        }
        let mut visits = Vec::new();
        for ((_, id), key) in newest.into_iter().rev() {
            visits.extend(self.shown(key, Some(id), As::Open, kept)?);
        }
        Ok(visits)
    }

    /// All open visits, and those that were sealed after this tick.
    fn live<P: Payloads>(
        &mut self,
        after: Tick,
        kept: &mut Measurements<P>,
    ) -> Result<Vec<Shown>, P::Error> {
        let mut visits = Vec::new();
        let keys: Vec<BrowserKey> = self.browsers.iter().map(|(key, _)| *key).collect();
        for key in keys {
            visits.extend(self.shown(key, None, As::Row, kept)?);
        }
        visits.extend(self.ended.later(after).cloned());
        let sealed = std::mem::take(&mut self.sealed);
        for complete in sealed.iter().filter(|visit| visit.tick > after) {
            visits.push(self.shown_sealed(complete));
        }
        self.sealed = sealed;
        Ok(visits)
    }
}

/// How a sealed visit is shown: as a row of the table of visits.
pub(super) fn sealed_shown(complete: &Complete, story: &Story<'_>) -> Shown {
    Shown {
        ended: Some((complete.tick, complete.reason.word().to_owned())),
        agent: sender_agent(story),
        ..Shown::of(&complete.browser_id, story)
    }
}

/// The agent as the table of visits has it.
fn sender_agent(story: &Story<'_>) -> String {
    let agent = story.sender.map_or(Agent::Unknown, |fact| fact.agent);
    agent.word().to_owned()
}
