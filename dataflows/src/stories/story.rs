//! A visit's story: what follows from all of its measurements.

use crate::fact::{Agent, Fact, Id};
use crate::visit::{EndReason, Rules, Visit, visit_id};

/// What a visit's measurements say together.
#[derive(Clone, Debug)]
pub struct Story<'a> {
    /// The visit so far.
    pub visit: Visit,
    /// Its measurements, in order.
    pub facts: &'a [Fact<'a>],
    /// The one that says who sent it, as in the table of visits: the first that has a country, or else
    /// the first.
    pub sender: Option<&'a Fact<'a>>,
    /// The kind of agent: a robot, if it was found out to be one.
    pub agent: Agent,
    /// Why it has ended, if it has.
    pub ended: Option<EndReason>,
}

impl<'a> Story<'a> {
    /// The story of these measurements, which is looked through once for who sent them.
    #[must_use]
    pub fn new(
        visit: Visit,
        facts: &'a [Fact<'a>],
        agent: Agent,
        ended: Option<EndReason>,
    ) -> Story<'a> {
        let placed = facts.iter().find(|fact| fact.country.is_some());
        Story {
            visit,
            facts,
            sender: placed.or(facts.first()),
            agent,
            ended,
        }
    }

    /// The country of its first measurement that has one.
    #[must_use]
    pub fn country(&self) -> &'a str {
        let country = self.sender.and_then(|fact| fact.country);
        country.unwrap_or_default()
    }

    /// The first customer that it names.
    #[must_use]
    pub fn customer(&self) -> Option<Id<'a>> {
        self.facts.iter().find_map(|fact| fact.customer)
    }

    /// Its pages, in order.
    pub fn pages(&self) -> impl DoubleEndedIterator<Item = &'a Fact<'a>> {
        self.facts.iter().filter(|fact| fact.entity == "page")
    }

    /// The reason for which its first page was there; `direct` if it has none.
    #[must_use]
    pub fn source(&self) -> &'a str {
        let first = self.pages().next().or(self.facts.first());
        first.and_then(|fact| fact.reason).unwrap_or("direct")
    }

    /// Its orders.
    pub fn orders(&self) -> impl Iterator<Item = &'a Fact<'a>> {
        let ordered = |fact: &&Fact<'_>| fact.effect == "ordered" && fact.entity == "order";
        self.facts.iter().filter(ordered)
    }
}

/// A browser's open visits, by the walk of [`visit`](crate::visit): each with its measurements. They
/// must begin with the first of a visit, as what is kept of a browser does, and be in order.
pub fn stories_of<'a>(
    browser_id: &[u8],
    facts: &'a [Fact<'a>],
    rules: &Rules,
) -> Vec<(Visit, &'a [Fact<'a>])> {
    let mut visits: Vec<(Visit, &[Fact<'_>])> = Vec::new();
    let mut begun = 0;
    for (n, fact) in facts.iter().enumerate() {
        if let Some((visit, own)) = visits.last_mut()
            && visit.takes(fact.at.time, rules)
        {
            visit.take(fact.at.time);
            *own = &facts[begun..=n];
            continue;
        }
        begun = n;
        let visit = Visit::begin(fact.at, visit_id(browser_id, fact.at));
        visits.push((visit, &facts[n..=n]));
    }
    visits
}
