//! Who watches: keeps what was said of each open visit, so that it can be taken back, and says what
//! has changed at the end of each step.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::BuildHasherDefault;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::contributions::{Rows, rows};
use super::question::{Answer, Ask, Facts, Of, Question, Shown};
use super::story::{Story, stories_of};
use crate::attribution::{self, Attributed, Order, is_order};
use crate::batch::Record;
use crate::complete::{
    Complete, Key as BrowserKey, KeyHasher, Looked, Measurements, Payloads, Watch,
};
use crate::durable::Durable;
use crate::fact::{Agent, Fact, Reading};
use crate::profiles::{Part, Profile, by_customer};
use crate::views::{self, Contribution, Key, Place, STEP, Sums, Value, View, shard_of};
use crate::visit::{Position, Rules, Tick, Visit, browser_key, bytes_of_words, words_of_bytes};

/// The form in which stories are kept.
const FORMAT: u32 = 1;
/// A browser of more measurements is told of again only when it has an eighth more, or a visit of it is
/// sealed; and what it sends twice counts as it came first, until its visit is sealed.
const MANY: u32 = 2_000;

/// What stories go by.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What a visit is.
    pub rules: Rules,
    /// A browser whose open visits have more measurements than this counts as a robot from then on,
    /// and so does what it measured before.
    pub robots_over: u32,
    /// The bounds of attribution.
    pub attribution: attribution::Settings,
    /// Whether it is said what visits add to profiles of customers.
    pub profiles: bool,
}

/// How an open visit is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum As {
    /// In short.
    Open,
    /// With its measurements.
    Whole,
    /// As a row of the table of visits.
    Row,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Said {
    /// Something is added to a view, or taken back.
    Contribution(Contribution),
    /// An order and what led to it, for the first time or corrected.
    Credited(Box<Credited>),
    /// What a sealed visit adds to a customer's profile.
    Part(Box<Part>),
    /// An answer.
    Answer(Answer),
}

/// An order and what led to it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Credited {
    /// The end of the step in which it was found: all effects before this tick are in.
    pub tick: Tick,
    /// The browser's shard.
    pub shard: u8,
    /// The visit.
    pub visit: [u8; 16],
    /// The browser's ID.
    pub browser_id: Box<[u8]>,
    /// Two letters, or nothing.
    pub country: Box<str>,
    /// The kind of agent.
    pub agent: Agent,
    /// Whether the visit is sealed: then nothing will change any more.
    pub sealed: bool,
    /// The order.
    pub order: Order,
}

/// What was said of a browser's open visits.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Browser {
    id: Box<[u8]>,
    shard: u8,
    /// How many measurements it had when it was last told of, and since.
    known: u32,
    added: u32,
    /// Whether it is to be told of at the end of the period.
    touched: bool,
    /// Whether it may have other visits now than are known.
    #[serde(skip)]
    stale: bool,
    robot: bool,
    /// What was told of at the end of a step.
    visits: Vec<Told>,
    /// Those that it had later, when something was asked within a step.
    #[serde(skip)]
    since: Option<Vec<Begun>>,
}

impl Browser {
    /// It is to be told of; each is in the list once.
    fn touch(&mut self, key: BrowserKey, touched: &mut Vec<BrowserKey>) {
        if !std::mem::replace(&mut self.touched, true) {
            touched.push(key);
        }
    }

    /// What is known of its visits may not hold any more; each is in the list once.
    fn go_stale(&mut self, key: BrowserKey, stale: &mut Vec<BrowserKey>) {
        if !std::mem::replace(&mut self.stale, true) {
            stale.push(key);
        }
    }

    /// Its open visits, as far as they are known.
    fn begun(&self) -> impl Iterator<Item = Begun> {
        let since = self.since.iter().flatten().copied();
        let told = self.since.is_none().then_some(&self.visits);
        since.chain(told.into_iter().flatten().map(|told| told.begun))
    }
}

/// An open visit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Begun {
    visit: [u64; 2],
    started: i64,
    agent: Agent,
}

/// What was said of an open visit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Told {
    begun: Begun,
    /// What it adds to views, in the form of a snapshot: a tenth of the rows themselves.
    rows: Box<[u8]>,
    /// Its orders, and a hash of what was said of each.
    orders: Vec<([u64; 2], u64)>,
}

/// Watches the open visits of one worker.
///
/// Costs a look-up and a walk to the roles a measurement, and about once a page another walk over
/// all that its visit has, as does each repetition; keeps some 100 bytes an open visit, and 30 for each row of a view of
/// visits that it is in.
pub struct Stories {
    views: Rc<[View]>,
    settings: Settings,
    reading: Reading,
    durable: Durable,
    browsers: HashMap<BrowserKey, Browser, BuildHasherDefault<KeyHasher>>,
    /// The browsers of visits that were told of.
    of_visits: HashMap<[u64; 2], BrowserKey>,
    touched: Vec<BrowserKey>,
    /// Browsers that have ordered something in this step.
    urgent: Vec<BrowserKey>,
    /// How often visits are told of, in ms: no view moves on more often. Orders are told of each step.
    period: Tick,
    /// The end of the period in which there is something to tell; `u64::MAX` if there is nothing.
    due: Tick,
    /// Browsers that may have other visits now than are known.
    stale: Vec<BrowserKey>,
    sealed: Vec<Complete>,
    /// What measurements of this step add.
    news: HashMap<Place, Sums>,
    /// Whether any view is of measurements.
    of_measurements: bool,
    /// Visits that were sealed of late, by the ticks of their seals.
    ended: Ended,
    /// Those that were sealed at or before this tick are not asked for any more.
    released: Rc<Cell<Tick>>,
    /// But for what a process holds on to: what was sealed after its tick.
    holds: BTreeMap<u32, Tick>,
}

/// The tick of a visit's seal, and its ID.
type Seal = (Tick, [u64; 2]);

/// Visits that were sealed of late.
#[derive(Debug, Default)]
struct Ended {
    /// With their browsers' shards.
    visits: BTreeMap<Seal, (u8, Shown)>,
    /// Everything that was sealed after this tick is there.
    kept: Tick,
}

impl Stories {
    /// Watches for these views; goes on from what is durable.
    pub fn new(
        views: Rc<[View]>,
        settings: Settings,
        reading: Reading,
        mut durable: Durable,
        released: Rc<Cell<Tick>>,
    ) -> Stories {
        let restored = durable.restore::<Kept>(FORMAT);
        let mut ended = Ended::default();
        let mut browsers: HashMap<_, Browser, _> = HashMap::default();
        let mut news = HashMap::new();
        let mut due = u64::MAX;
        for kept in restored {
            due = due.min(kept.due);
            browsers.extend(kept.browsers);
            news.extend(kept.news);
            ended.kept = ended.kept.max(kept.ended.kept);
            ended.visits.extend(kept.ended.visits);
        }
        // What a table holds may have been let go of by a worker that kept nothing else.
        if released.get() < u64::MAX {
            ended.kept = ended.kept.max(released.get());
        }
        let touched = browsers.iter_mut().filter(|(_, browser)| browser.touched);
        let touched: Vec<BrowserKey> = touched
            .map(|(key, browser)| {
                browser.stale = true;
                *key
            })
            .collect();
        let visits = browsers
            .iter()
            .flat_map(|(key, browser)| browser.begun().map(|begun| (begun.visit, *key)));
        let period = views.iter().fold(0, |all, view| gcd(all, view.step));
        Stories {
            of_measurements: views.iter().any(|view| view.of == views::Of::Measurements),
            of_visits: visits.collect(),
            views,
            settings,
            reading,
            durable,
            browsers,
            stale: touched.clone(),
            touched,
            urgent: Vec::new(),
            period: period.max(STEP),
            due,
            sealed: Vec::new(),
            news,
            ended,
            released,
            holds: BTreeMap::new(),
        }
    }

    /// How many entries are kept: browsers, their visits, and visits that were sealed of late. None
    /// are left of browsers whose visits are all sealed and [released](Stories::new).
    #[must_use]
    pub fn len(&self) -> usize {
        let step = self.touched.len() + self.urgent.len() + self.stale.len();
        let step = step + self.sealed.len() + self.news.len();
        self.browsers.len() + self.of_visits.len() + self.ended.visits.len() + step
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Says what differs between what was said of a visit and what is to be said.
    fn say_rows(&mut self, at: Tick, browser: BrowserKey, before: &[u8], now: Rows) -> Box<[u8]> {
        let bytes = encode(&now);
        if *bytes == *before {
            return bytes;
        }
        let mut all = now;
        for (place, sums) in decode(before) {
            all.entry(place).or_default().plus_equals(&sums.negated());
        }
        for ((n, key, counts_browser, time), sums) in all {
            let view = &self.views[usize::from(n)];
            let browser = if counts_browser { browser } else { [0; 2] };
            add(
                &mut self.news,
                view,
                usize::from(n),
                at,
                (key, browser, time),
                sums,
            );
        }
        bytes
    }

    /// Tells of a visit, and holds it against what was told.
    fn tell(
        &mut self,
        at: Tick,
        (key, browser): (BrowserKey, &Browser),
        told: Option<Told>,
        story: &Story<'_>,
        said: &mut Vec<Said>,
    ) -> Told {
        let told = told.unwrap_or_default();
        let attributed = match story.orders().next() {
            Some(_) => attribution::orders(story.facts, &[], &self.settings.attribution),
            None => Attributed::default(),
        };
        let rows = rows(&self.views, story, &attributed, &self.settings.attribution);
        let rows = self.say_rows(at, key, &told.rows, rows);
        let mut orders = Vec::with_capacity(attributed.orders.len());
        for order in attributed.orders {
            let hash = hash_of(&order, story);
            orders.push((order.event, hash));
            let known = told.orders.contains(&(order.event, hash));
            if known && story.ended.is_none() {
                continue;
            }
            said.push(Said::Credited(Box::new(Credited {
                tick: at,
                shard: browser.shard,
                visit: bytes_of_words(story.visit.id),
                browser_id: browser.id.clone(),
                country: story.country().into(),
                agent: story.agent,
                sealed: story.ended.is_some(),
                order,
            })));
        }
        Told {
            begun: Begun {
                visit: story.visit.id,
                started: story.visit.first.time,
                agent: story.agent,
            },
            rows,
            orders,
        }
    }

    /// Tells a last time of the visits that were sealed in the step.
    fn tell_sealed(&mut self, at: Tick, said: &mut Vec<Said>) {
        for complete in std::mem::take(&mut self.sealed) {
            let key = browser_key(&complete.browser_id);
            let id = words_of_bytes(&complete.visit);
            let mut browser = self.browsers.remove(&key).unwrap_or_else(|| Browser {
                id: complete.browser_id.clone(),
                shard: complete.shard,
                ..Browser::default()
            });
            let told = browser
                .visits
                .iter()
                .position(|told| told.begun.visit == id);
            let told = told.map(|n| browser.visits.swap_remove(n));
            self.of_visits.remove(&id);
            let facts: Vec<Fact<'_>> = read(&mut self.reading, complete.measurements());
            let story = sealed_story(&complete, &facts, browser.robot);
            self.tell(at, (key, &browser), told, &story, said);
            // What a robot does under a customer's name says nothing of the customer.
            if self.settings.profiles && story.agent != Agent::Robot {
                said.extend(parts(at, &complete, &facts));
            }
            let shown = sealed_shown(&complete, &story);
            let place = (complete.tick, id);
            self.ended.visits.insert(place, (complete.shard, shown));
            let size = browser.known + browser.added;
            browser.known = size.saturating_sub(complete.len() as u32);
            browser.added = 0;
            // What is left of it is another visit, or was told of one that is none any more.
            if browser.known > 0 || !browser.visits.is_empty() {
                browser.touch(key, &mut self.touched);
                self.browsers.insert(key, browser);
            } else {
                self.forget_since(&mut browser);
            }
        }
    }

    /// Forgets which visits a browser had when something was asked.
    fn forget_since(&mut self, browser: &mut Browser) {
        for begun in browser.since.take().into_iter().flatten() {
            self.of_visits.remove(&begun.visit);
        }
    }

    /// Tells of a browser's open visits.
    fn tell_open<P: Payloads>(
        &mut self,
        at: Tick,
        key: BrowserKey,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let Some(mut browser) = self.browsers.remove(&key) else {
            return Ok(());
        };
        if !std::mem::replace(&mut browser.touched, false) {
            self.browsers.insert(key, browser);
            return Ok(());
        }
        if browser.known > MANY && browser.added < browser.known / 8 {
            self.browsers.insert(key, browser);
            return Ok(());
        }
        self.forget_since(&mut browser);
        browser.stale = false;
        let looked = kept.look(&key)?;
        let facts = looked
            .as_ref()
            .map(|kept| read(&mut self.reading, kept.measurements()));
        let facts = facts.unwrap_or_default();
        (browser.known, browser.added) = (facts.len() as u32, 0);
        if !browser.robot && browser.known > self.settings.robots_over {
            browser.robot = true;
            if self.of_measurements {
                let people = |fact: &&Fact<'_>| fact.agent == Agent::Person;
                for fact in facts.iter().filter(people) {
                    add_fact(&mut self.news, &self.views, at, key, fact, -1, |view| {
                        view.people
                    });
                }
            }
        }
        let mut before = std::mem::take(&mut browser.visits);
        for (visit, facts) in stories_of(&browser.id, &facts, &self.settings.rules) {
            let told = before.iter().position(|told| told.begun.visit == visit.id);
            let told = told.map(|n| before.swap_remove(n));
            let story = Story::new(visit, facts, agent_of(facts, browser.robot), None);
            self.of_visits.insert(visit.id, key);
            let told = self.tell(at, (key, &browser), told, &story, said);
            browser.visits.push(told);
        }
        // Visits that are none any more, since others took their measurements.
        for gone in before {
            self.of_visits.remove(&gone.begun.visit);
            self.say_rows(at, key, &gone.rows, Rows::new());
        }
        if !browser.visits.is_empty() {
            self.browsers.insert(key, browser);
        }
        Ok(())
    }

    /// Tells of all browsers that have measured something, and of what has been added to views.
    fn tell_all<P: Payloads>(
        &mut self,
        at: Tick,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        self.urgent.clear();
        self.due = u64::MAX;
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        for key in touched {
            self.tell_open(at, key, kept, said)?;
        }
        for key in std::mem::take(&mut self.stale) {
            if let Some(browser) = self.browsers.get_mut(&key) {
                browser.stale = false;
            }
        }
        let news = self.news.drain().filter(|(_, sums)| !sums.is_zero());
        said.extend(news.map(|(place, sums)| Said::Contribution(Contribution { at, place, sums })));
        Ok(())
    }

    /// A browser's open visits, as answers show them.
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
        let facts = looked
            .as_ref()
            .map(|kept| read(&mut self.reading, kept.measurements()));
        let facts = facts.unwrap_or_default();
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
            if how == As::Whole {
                shown.facts = facts.iter().map(Facts::of).collect();
                let settings = &self.settings.attribution;
                shown.attributed = attribution::orders(facts, &[], settings).orders;
            }
            visits.push(shown);
        }
        Ok(visits)
    }
}

impl Stories {
    /// Learns which visits those browsers have that have changed in the step at hand: at most one more
    /// walk over what a browser has, each time that it has changed and something is asked.
    fn catch_up<P: Payloads>(&mut self, kept: &mut Measurements<P>) -> Result<(), P::Error> {
        for key in std::mem::take(&mut self.stale) {
            let Some(mut browser) = self.browsers.remove(&key) else {
                continue;
            };
            browser.stale = false;
            self.forget_since(&mut browser);
            let looked = kept.look(&key)?;
            let facts = looked
                .as_ref()
                .map(|kept| read(&mut self.reading, kept.measurements()));
            let facts = facts.unwrap_or_default();
            let visits = stories_of(&browser.id, &facts, &self.settings.rules);
            let begun = visits.iter().map(|(visit, facts)| Begun {
                visit: visit.id,
                started: visit.first.time,
                agent: agent_of(facts, browser.robot),
            });
            let begun: Vec<Begun> = begun.collect();
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
    ) -> Result<Vec<Shown>, P::Error> {
        self.catch_up(kept)?;
        if let Some(key) = self.of_visits.get(&id).copied() {
            let open = self.shown(key, Some(id), As::Whole, kept)?;
            if !open.is_empty() {
                return Ok(open);
            }
        }
        let bytes = bytes_of_words(id);
        if let Some(n) = self.sealed.iter().position(|visit| visit.visit == bytes) {
            let complete = self.sealed[n].clone();
            return Ok(vec![self.shown_sealed(&complete)]);
        }
        let mut ended = self.ended.visits.iter();
        let ended = ended.find(|((_, ended), _)| *ended == id);
        Ok(ended
            .map(|(_, (_, shown))| shown.clone())
            .into_iter()
            .collect())
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
        for (key, browser) in &self.browsers {
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
        let keys: Vec<BrowserKey> = self.browsers.keys().copied().collect();
        for key in keys {
            visits.extend(self.shown(key, None, As::Row, kept)?);
        }
        let later = self.ended.visits.range((after.saturating_add(1), [0; 2])..);
        visits.extend(later.map(|(_, (_, shown))| shown.clone()));
        let sealed = std::mem::take(&mut self.sealed);
        for complete in sealed.iter().filter(|visit| visit.tick > after) {
            visits.push(self.shown_sealed(complete));
        }
        self.sealed = sealed;
        Ok(visits)
    }
}

impl<P: Payloads> Watch<P> for Stories {
    type Said = Said;
    type Question = Question;

    fn boundary(&self, tick: Tick) -> Tick {
        boundary(tick)
    }

    fn due(&self) -> Tick {
        self.due
    }

    fn measured(&mut self, record: Record<'_>) {
        let head = record.head;
        let browser = self
            .browsers
            .entry(head.browser)
            .or_insert_with(|| Browser {
                id: record.browser_id.into(),
                shard: head.shard,
                ..Browser::default()
            });
        browser.added += 1;
        self.due = self
            .due
            .min(boundary(head.tick).next_multiple_of(self.period));
        browser.touch(head.browser, &mut self.touched);
        browser.go_stale(head.browser, &mut self.stale);
        let (context, body) = (record.context, record.body);
        if let Some(fact) = self.reading.fact(head.at, head.schema, context, body) {
            if is_order(&fact) {
                self.urgent.push(head.browser);
            }
            let at = boundary(head.tick);
            let counted = |view: &View| !(browser.robot && view.people);
            add_fact(
                &mut self.news,
                &self.views,
                at,
                head.browser,
                &fact,
                1,
                counted,
            );
        }
    }

    fn repeated(&mut self, record: Record<'_>, kept: &mut Measurements<P>) -> Result<(), P::Error> {
        let head = record.head;
        let Some(browser) = self.browsers.get_mut(&head.browser) else {
            return Ok(());
        };
        if browser.known + browser.added > MANY {
            return Ok(());
        }
        let looked = kept.look(&head.browser)?;
        let mut before = looked.iter().flat_map(Looked::measurements);
        let Some(before) = before.find(|before| before.at == head.at) else {
            return Ok(());
        };
        if (record.body, head.schema) >= (before.body, before.schema) {
            return Ok(());
        }
        // The same, told otherwise: what was said of it is taken back.
        self.due = self
            .due
            .min(boundary(head.tick).next_multiple_of(self.period));
        browser.touch(head.browser, &mut self.touched);
        browser.go_stale(head.browser, &mut self.stale);
        let robot = browser.robot;
        if self.of_measurements {
            let at = boundary(head.tick);
            let before = (before.schema, before.context, before.body, -1);
            let now = (head.schema, record.context, record.body, 1);
            for (schema, context, body, sign) in [before, now] {
                if let Some(fact) = self.reading.fact(head.at, schema, context, body) {
                    let counted = |view: &View| !(robot && view.people);
                    let browser = head.browser;
                    add_fact(
                        &mut self.news,
                        &self.views,
                        at,
                        browser,
                        &fact,
                        sign,
                        counted,
                    );
                }
            }
        }
        Ok(())
    }

    fn sealed(&mut self, visit: &Complete) {
        let key = browser_key(&visit.browser_id);
        if let Some(browser) = self.browsers.get_mut(&key) {
            browser.go_stale(key, &mut self.stale);
        }
        self.sealed.push(visit.clone());
    }

    fn stepped(
        &mut self,
        at: Tick,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        if !self.sealed.is_empty() {
            self.due = self.due.min(at.next_multiple_of(self.period));
        }
        self.tell_sealed(at, said);
        while let Some(first) = self.ended.visits.first_entry() {
            let tick = first.key().0;
            let held = self.holds.values().copied().min().unwrap_or(u64::MAX);
            if tick > self.released.get().min(held) {
                break;
            }
            self.ended.kept = self.ended.kept.max(tick);
            first.remove();
        }
        if at.is_multiple_of(self.period) {
            return self.tell_all(at, kept, said);
        }
        let mut urgent = std::mem::take(&mut self.urgent);
        urgent.sort_unstable();
        for key in urgent {
            self.tell_open(at, key, kept, said)?;
        }
        Ok(())
    }

    fn ended(&mut self, kept: &mut Measurements<P>, said: &mut Vec<Said>) -> Result<(), P::Error> {
        if self.due < u64::MAX {
            self.tell_all(self.due, kept, said)?;
        }
        Ok(())
    }

    fn at(question: &Question) -> Tick {
        question.at
    }

    fn asked(
        &mut self,
        question: Question,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let (of, visits) = match question.ask {
            Ask::Hold(tick) => {
                self.holds.insert(question.process, tick);
                return Ok(());
            }
            Ask::Visit(id) => (Of::Visit, self.visit(id, kept)?),
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
        said.push(Said::Answer(Answer {
            at: question.at,
            process: question.process,
            id: question.id,
            of,
            visits,
            kept: self.ended.kept,
            profile: None,
        }));
        Ok(())
    }

    fn save(&mut self, at: Tick) {
        let mut shards: BTreeMap<u8, Keeping<'_>> = BTreeMap::new();
        for (key, browser) in &self.browsers {
            let shard = shards.entry(browser.shard).or_default();
            shard.browsers.push((key, browser));
        }
        for (place, shown) in &self.ended.visits {
            let shard = shards.entry(shown.0).or_default();
            shard.ended.visits.push((place, shown));
        }
        for (place, sums) in &self.news {
            let shard = shards.entry(shard_of(place.view, place.key.bytes()));
            shard.or_default().news.push((place, sums));
        }
        for shard in shards.values_mut() {
            shard.ended.kept = self.ended.kept;
            shard.due = self.due;
        }
        self.durable.save(at, FORMAT, shards);
    }
}

/// What is kept of a shard.
#[derive(Default, Serialize)]
struct Keeping<'a> {
    due: Tick,
    browsers: Vec<(&'a BrowserKey, &'a Browser)>,
    news: Vec<(&'a Place, &'a Sums)>,
    ended: KeepingEnded<'a>,
}

#[derive(Default, Serialize)]
struct KeepingEnded<'a> {
    visits: Vec<(&'a Seal, &'a (u8, Shown))>,
    kept: Tick,
}

/// The same, restored.
#[derive(Deserialize)]
struct Kept {
    due: Tick,
    browsers: Vec<(BrowserKey, Browser)>,
    news: Vec<(Place, Sums)>,
    ended: KeptEnded,
}

#[derive(Deserialize)]
struct KeptEnded {
    visits: Vec<(Seal, (u8, Shown))>,
    kept: Tick,
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn boundary(tick: Tick) -> Tick {
    (tick / STEP + 1).saturating_mul(STEP)
}

/// Adds what a measurement adds to the views of measurements that `counted` says, or takes it back.
fn add_fact(
    news: &mut HashMap<Place, Sums>,
    views: &[View],
    at: Tick,
    browser: BrowserKey,
    fact: &Fact<'_>,
    sign: i64,
    counted: impl Fn(&View) -> bool,
) {
    for (n, view) in views.iter().enumerate().filter(|(_, view)| counted(view)) {
        view.of_fact(fact, |key, sums, counts_browser| {
            let sums = if sign < 0 { sums.negated() } else { sums };
            let browser = if counts_browser { browser } else { [0; 2] };
            add(news, view, n, at, (key, browser, fact.at.time), sums);
        });
    }
}

/// Adds to what a step adds.
fn add(
    news: &mut HashMap<Place, Sums>,
    view: &View,
    n: usize,
    at: Tick,
    (key, browser, time): (Key, [u64; 2], i64),
    sums: Sums,
) {
    let mut put = |window: u64, sums: Sums, key: Key| {
        if let Some((enters, leaves)) = view.counts(window, at, time) {
            let place = Place {
                view: n as u16,
                key,
                browser,
                enters,
                leaves,
            };
            news.entry(place).or_default().plus_equals(&sums);
        }
    };
    if let (Some(usual), Some(against)) = (view.usual(), view.against) {
        let counted = view
            .values
            .iter()
            .position(|value| matches!(value, Value::Count(_)));
        let count = counted.map_or(0, |counted| sums.0[counted]);
        if browser == [0; 2] && count != 0 {
            put(against, Sums::one(usual, count), key.clone());
        }
    }
    put(view.window, sums, key);
}

/// The facts of measurements. One that cannot be read any more keeps its place.
fn read<'a>(
    reading: &mut Reading,
    measurements: impl Iterator<Item = crate::complete::Kept<'a>>,
) -> Vec<Fact<'a>> {
    let fact = |kept: crate::complete::Kept<'a>| {
        let fact = reading.fact(kept.at, kept.schema, kept.context, kept.body);
        fact.unwrap_or(Fact {
            at: kept.at,
            ..Fact::default()
        })
    };
    measurements.map(fact).collect()
}

/// The story of a sealed visit.
fn sealed_story<'a>(complete: &Complete, facts: &'a [Fact<'a>], robot: bool) -> Story<'a> {
    let visit = Visit {
        first: facts.first().map_or(Position::default(), |fact| fact.at),
        last: complete.last_seen,
        count: complete.len() as u32,
        id: words_of_bytes(&complete.visit),
    };
    let agent = agent_of(facts, robot);
    Story::new(visit, facts, agent, Some(complete.reason))
}

/// What a sealed visit adds to profiles.
fn parts<'f>(
    at: Tick,
    complete: &'f Complete,
    facts: &'f [Fact<'f>],
) -> impl Iterator<Item = Said> {
    let part = move |(customer, facts): (Cow<'f, str>, Vec<&Fact<'_>>)| {
        Said::Part(Box::new(Part {
            at,
            tick: complete.tick,
            visit: complete.visit,
            customer: customer.into(),
            profile: Profile::of_visit(&facts),
        }))
    };
    by_customer(facts).into_iter().map(part)
}

/// How a sealed visit is shown: as a row of the table of visits.
fn sealed_shown(complete: &Complete, story: &Story<'_>) -> Shown {
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

fn agent_of(facts: &[Fact<'_>], robot: bool) -> Agent {
    if robot {
        return Agent::Robot;
    }
    facts.first().map_or(Agent::Unknown, |fact| fact.agent)
}

/// A hash of all that is said of an order.
fn hash_of(order: &Order, story: &Story<'_>) -> u64 {
    let said = (order, story.country(), story.agent);
    let bytes = postcard::to_allocvec(&said).expect("an order can be written to memory");
    // FNV-1a: to see a change, which nobody has an interest to hide.
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step)
}

fn encode(rows: &Rows) -> Box<[u8]> {
    if rows.is_empty() {
        return Box::default();
    }
    let rows: Vec<_> = rows.iter().collect();
    postcard::to_allocvec(&rows)
        .expect("rows can be written to memory")
        .into()
}

fn decode(bytes: &[u8]) -> Vec<((u16, Key, bool, i64), Sums)> {
    if bytes.is_empty() {
        return Vec::new();
    }
    postcard::from_bytes(bytes).expect("rows are as they were written, behind a checksum")
}
