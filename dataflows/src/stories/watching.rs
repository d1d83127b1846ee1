//! Who watches: takes each measurement in, follows the visits that grow, and lets be told what has changed
//! at the end of each step; [`telling`](super::telling) says it.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use hashbrown::HashMap;

use super::adding::{Adding, One, rows_of};
use super::browser::{Absent, Browser};
use super::crediting::{OfCustomer, OfOrder};
use super::ended::Ended;
use super::growing::{Growing, OfVisits};
use super::naming::Naming;
use super::news::News;
use super::question::{Answer, Question};
use super::quiet::Quiet;
use super::recent::Recent;
use super::saved::{FORMAT, Kept, Saving};
use crate::attribution::{self, Pasts, is_entry, is_order};
use crate::batch::Record;
use crate::complete::{
    ByBrowser, Complete, Key as BrowserKey, Looked, Measurements, PARTS, Payloads, Slot, Watch,
};
use crate::durable::Durable;
use crate::fact::{Agent, Fact, Reading};
use crate::near;
use crate::profiles::{Named, Part};
use crate::views::{self, Contribution, Entering, Field, Renumbered, STEP, View, step_end};
use crate::visit::{Rules, Tick, browser_key, visit_id};

/// What a browser of more measurements sends twice counts as it came first, until its visit is sealed;
/// and where its visit cannot be followed, it is told of again only when it has an eighth more.
pub(super) const MANY: u32 = 2_000;
/// Where there are no views, visits are told of so often, in ms: only answers ask for them, and those
/// look for themselves.
const SELDOM: Tick = 60_000;
/// So many measurements ahead of the one that is read are begun to be loaded.
const READ_AHEAD: usize = 8;
/// Whoever has no visits is looked at once in so many periods.
const SWEEPS: usize = 64;

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
    /// Whether anybody may ask about visits: then those that were sealed of late are kept for it.
    pub asked: bool,
    /// So many bytes may be kept on each worker of visits to which nothing has been added for a while, so
    /// that they can go on without being read again. The latest stay: whoever goes on, or is sealed, has its
    /// room until its turn.
    pub quiet_room: usize,
}

/// What is said.
#[derive(Clone, Debug)]
pub enum Said {
    /// Something is added to a view, or taken back.
    Contribution(Contribution),
    /// Something about an order, which is to be credited, by the end of the step in which it was found.
    Order(Tick, OfOrder),
    /// Something about a customer, which decides over credits.
    Customer(OfCustomer),
    /// What a sealed visit adds to a customer's profile.
    Part(Box<Part>),
    /// A customer who is named in a visit for the first time.
    Named(Box<Named>),
    /// An answer.
    Answer(Answer),
}

/// Watches the open visits of one worker.
///
/// Costs a look-up and a walk to the roles a measurement, and a little more while its visit grows as
/// visits do; what is revised or repeated, or goes on after a pause, another walk over all that its visit
/// has. Keeps some 170 bytes an open visit, and 30 for each row of a view of visits that it is in; of
/// those that have grown within a tenth of the time that ends a visit some 3,000 and 25 for each
/// measurement, of others the same while there is [room](Settings::quiet_room); else, with carts or
/// orders, 24 for each measurement that led there, if not all is asked for; and what
/// [`Present`](crate::views::Present) does for a browser where views count them.
pub struct Stories {
    pub(super) views: Rc<[View]>,
    /// What they are, for snapshots.
    pub(super) identities: Vec<u64>,
    pub(super) settings: Settings,
    pub(super) reading: Reading,
    pub(super) durable: Durable,
    pub(super) browsers: ByBrowser<Browser>,
    /// Those without visits,
    pub(super) absent: ByBrowser<Absent>,
    /// and the part of them that is looked through next for rows that they have left.
    swept: usize,
    /// The browsers of visits that were told of.
    pub(super) of_visits: HashMap<[u64; 2], BrowserKey>,
    pub(super) grown: OfVisits,
    recent: Recent,
    /// What sealed visits have left for later ones.
    pub(super) pasts: Pasts,
    /// Visits that grow, but not now.
    pub(super) quiet: Quiet,
    pub(super) touched: Vec<BrowserKey>,
    /// Browsers that have ordered something in this step.
    pub(super) urgent: Vec<BrowserKey>,
    /// How often visits are told of, in ms: no view moves on more often. Orders are told of each step.
    period: Tick,
    /// The end of the period in which there is something to tell; `u64::MAX` if there is nothing.
    pub(super) due: Tick,
    /// Browsers that may have other visits now than are known.
    pub(super) stale: Vec<BrowserKey>,
    pub(super) sealed: Vec<Complete>,
    /// What is added to views, and not told yet.
    pub(super) news: News,
    /// What is to be added to it.
    adding: Adding,
    /// Where the browsers are of measurements that are looked at together.
    slots: Vec<Option<Slot>>,
    /// For the texts of keys.
    pub(super) text: String,
    /// Whether any view is of measurements.
    pub(super) of_measurements: bool,
    /// Whether any view of visits says why they have ended.
    pub(super) by_reason: bool,
    /// Visits that were sealed of late.
    pub(super) ended: Ended,
    /// Those that were sealed at or before this tick are not asked for any more.
    released: Rc<Cell<Tick>>,
    /// But for what a process holds on to: what was sealed after its tick.
    pub(super) holds: BTreeMap<u32, Tick>,
    /// A snapshot that is being written.
    pub(super) saving: Option<Saving>,
    /// Who is named, if that is to be said.
    pub(super) naming: Option<Naming>,
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
        let identities = views::identities(&views);
        let mut ended = Ended::default();
        let mut browsers: ByBrowser<Browser> = ByBrowser::default();
        let mut absent: ByBrowser<Absent> = ByBrowser::default();
        let mut touched = Vec::new();
        let mut of_visits = HashMap::new();
        let mut news = News::new(views.clone());
        let mut pasts = Pasts::of_browsers(&settings.attribution);
        let mut due = u64::MAX;
        for kept in restored {
            due = due.min(kept.due);
            let (mut open, mut gone) = (kept.browsers, kept.absent);
            let present = open.iter_mut().map(|(_, browser)| &mut browser.present);
            let present = present.chain(gone.iter_mut().map(|(_, own)| &mut own.present));
            let renumbered = Renumbered::of(&kept.views, &identities);
            news.restore_present((&kept.numbers, &renumbered), present);
            for (key, own) in gone {
                absent.insert(key, own);
            }
            let is_same = renumbered.is_same();
            for (key, mut browser) in open {
                if !is_same {
                    browser.renumber(&renumbered);
                }
                if browser.touched {
                    browser.stale = true;
                    touched.push(key);
                }
                of_visits.extend(browser.begun().map(|begun| (begun.visit, key)));
                browsers.insert(key, browser);
            }
            let added = kept.news.iter();
            added.for_each(|added| news.restore(added, &renumbered));
            for (shard, key, past) in kept.pasts {
                pasts.restore(shard, key, past);
            }
            ended.keep_after(kept.ended.kept);
            for (seal, (shard, shown)) in kept.ended.visits {
                ended.add(seal, shard, shown);
            }
        }
        // What a table holds may have been let go of by a worker that kept nothing else.
        if released.get() < u64::MAX {
            ended.keep_after(released.get());
        }
        if !settings.asked {
            ended.release(u64::MAX);
        }
        let period = match views.iter().fold(0, |all, view| gcd(all, view.step)) {
            0 => SELDOM,
            period => period.max(STEP),
        };
        let by_reason = |view: &View| view.key.contains(&Field::EndReason);
        Stories {
            by_reason: views.iter().any(by_reason),
            grown: OfVisits::new(views.clone(), &settings.attribution),
            recent: Recent::new(),
            pasts,
            quiet: Quiet::default(),
            text: String::new(),
            of_measurements: views.iter().any(|view| view.of == views::Of::Measurements),
            of_visits,
            identities,
            views,
            settings,
            reading,
            durable,
            browsers,
            absent,
            swept: 0,
            stale: touched.clone(),
            touched,
            urgent: Vec::new(),
            // With other views it may have been told of at other times.
            due: due.checked_next_multiple_of(period).unwrap_or(u64::MAX),
            period,
            sealed: Vec::new(),
            news,
            adding: Adding::default(),
            slots: Vec::new(),
            ended,
            released,
            holds: BTreeMap::new(),
            saving: None,
            naming: None,
        }
    }

    /// How many entries are kept: browsers, their visits, and visits that were sealed of late. None
    /// are left of browsers whose visits are all sealed and [released](Stories::new), but for how often
    /// they are in rows that count browsers, while the windows of those last.
    #[must_use]
    pub fn len(&self) -> usize {
        let step = self.touched.len() + self.urgent.len() + self.stale.len();
        let step = step + self.sealed.len() + self.news.len();
        let step = step + self.naming.as_ref().map_or(0, Naming::len);
        self.browsers.len() + self.of_visits.len() + self.ended.len() + step
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A measurement, what it says, and what it adds to views of measurements.
    /// Its browser may be in this slot.
    fn measured_one(
        &mut self,
        (record, slot): (Record<'_>, Option<Slot>),
        read: Option<&Fact<'_>>,
        adding: &[One],
    ) {
        let head = record.head;
        self.fall_due(head.tick);
        let absent = &mut self.absent;
        let new = || {
            let before = absent.remove(&head.browser);
            Browser::new(record.browser_id.into(), head.shard, before)
        };
        let browser = self.browsers.or_insert_with(head.browser, slot, new);
        let begins = browser.known + browser.added == 0 && browser.visits.is_empty();
        browser.added += 1;
        browser.touch(head.browser, &mut self.touched);
        let nothing;
        let fact = match read {
            Some(fact) => fact,
            None => {
                nothing = Fact {
                    at: head.at,
                    ..Fact::default()
                };
                &nothing
            }
        };
        if let Some(growing) = &mut browser.growing {
            if !growing.add(fact, &self.grown, &self.settings.rules) {
                browser.settle();
            }
        } else if begins && visit_id(&browser.id, head.at) == head.visit {
            // If the tag names another visit, the browser had one open before anybody watched.
            let id = head.visit;
            let agent = if browser.robot {
                Agent::Robot
            } else {
                fact.agent
            };
            browser.growing = Growing::begin(id, agent, fact, &self.grown).map(Box::new);
        }
        // While those that are known grow, and none is revised, they are those that they were.
        if browser.begun().all(|begun| begun.visit != head.visit) {
            browser.go_stale(head.browser, &mut self.stale);
        }
        if is_order(fact) {
            self.urgent.push(head.browser);
        }
        if let Some(naming) = &mut self.naming {
            naming.measured(head, fact);
        }
        let at = (step_end(head.tick), fact.at.time);
        for one in adding {
            if !(browser.robot && self.views[one.view].people) {
                let of = one.counts_browser.then_some((&mut browser.entering, 1));
                self.news.add(one.row, at, one.sums, of);
            }
        }
    }

    /// Forgets which rows browsers without visits have left, for some of these; all have their turn.
    pub(super) fn sweep(&mut self, at: Tick) {
        for _ in 0..PARTS / SWEEPS {
            self.sweep_part(at, self.swept);
            self.swept = (self.swept + 1) % PARTS;
        }
    }

    pub(super) fn sweep_part(&mut self, at: Tick, part: usize) {
        self.absent.parts_mut()[part].retain(|_, own| {
            self.news.leave(at, &mut own.present);
            !own.present.is_empty()
        });
    }

    /// Something is to be told at the end of the period.
    fn fall_due(&mut self, tick: Tick) {
        // It is already, for nearly all measurements; to find the end takes a division.
        if tick.saturating_add(self.period) >= self.due {
            return;
        }
        let end = step_end(tick).next_multiple_of(self.period);
        self.due = self.due.min(end);
    }
}

impl<P: Payloads> Watch<P> for Stories {
    type Said = Said;
    type Question = Question;

    fn boundary(&self, tick: Tick) -> Tick {
        step_end(tick)
    }

    fn due(&self) -> Tick {
        self.due
    }

    fn measured(&mut self, records: &[Record<'_>]) {
        // Of millions of browsers nothing is near. What one measurement needs is begun to be loaded for
        // all of them, a link at a time, before it is used for any.
        let mut slots = std::mem::take(&mut self.slots);
        let of_browsers = || records.chunk_by(|a, b| a.head.browser == b.head.browser);
        for own in of_browsers() {
            let key = own[0].head.browser;
            let slot = self.browsers.slot(&key);
            if let Some(browser) = slot.and_then(|slot| self.browsers.at(slot, &key)) {
                browser.bring();
            }
            slots.extend(own.iter().map(|_| slot));
            own.iter().for_each(|record| near::bring_list(record.body));
        }
        let reading = &mut self.reading;
        let facts = records.iter().map(|record| {
            let Record {
                head,
                context,
                body,
                ..
            } = *record;
            reading.fact(head.at, head.schema, context, body)
        });
        let facts: Vec<Option<Fact<'_>>> = facts.collect();
        self.recent.add(records);
        let mut rest = &slots[..];
        for own in of_browsers() {
            let (slot, key) = (rest[0], &own[0].head.browser);
            rest = &rest[own.len()..];
            if let Some(browser) = slot.and_then(|slot| self.browsers.at(slot, key)) {
                browser.bring_growing();
            }
        }
        let mut adding = std::mem::take(&mut self.adding);
        if self.of_measurements {
            adding.find(&facts, &self.views, &mut self.news);
        }
        let all = records.iter().copied().zip(slots.drain(..)).zip(&facts);
        for ((record, fact), own) in all.zip(adding.of_each(records.len())) {
            self.measured_one(record, fact.as_ref(), own);
        }
        (self.adding, self.slots) = (adding, slots);
    }

    fn repeated(&mut self, record: Record<'_>, kept: &mut Measurements<P>) -> Result<(), P::Error> {
        let head = record.head;
        // Of two that are alike nothing is told otherwise.
        if self.recent.has(record) {
            return Ok(());
        }
        let Some(browser) = self.browsers.get_mut(&head.browser) else {
            return Ok(());
        };
        if browser.known + browser.added > MANY {
            browser.missed = true;
            return Ok(());
        }
        let looked = kept.look_at(&head.browser, head.at)?;
        let before = looked.iter().flat_map(Looked::measurements).next();
        let Some(before) = before.filter(|b| (record.body, head.schema) < (b.body, b.schema))
        else {
            return Ok(());
        };
        let mut fact = |schema, context, body| {
            let fact = self.reading.fact(head.at, schema, context, body);
            fact.unwrap_or_default()
        };
        let before = fact(before.schema, before.context, before.body);
        let now = fact(head.schema, record.context, record.body);
        if let Some(naming) = &mut self.naming
            && (before.customer, before.agent) != (now.customer, now.agent)
        {
            naming.retold(head.browser);
        }
        if told_alike(before) == told_alike(now) {
            return Ok(());
        }
        // The same, told otherwise: what was said of it is taken back.
        browser.settle();
        browser.missed = true;
        browser.touch(head.browser, &mut self.touched);
        browser.go_stale(head.browser, &mut self.stale);
        let robot = browser.robot;
        let counted = |view: &View| !(robot && view.people);
        for (fact, sign) in [(before, -1), (now, 1)] {
            let of = (step_end(head.tick), &mut browser.entering);
            let (news, text) = (&mut self.news, &mut self.text);
            add_fact(news, &self.views, text, of, (&fact, sign), counted);
        }
        self.fall_due(head.tick);
        Ok(())
    }

    fn revised(&mut self, browser: BrowserKey) {
        if let Some(own) = self.browsers.get_mut(&browser) {
            own.go_stale(browser, &mut self.stale);
        }
        if let Some(naming) = &mut self.naming {
            naming.moved(browser);
        }
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
        self.name_open(at, kept, said)?;
        self.tell_sealed(at, said);
        let held = self.holds.values().copied().min().unwrap_or(u64::MAX);
        self.ended.release(self.released.get().min(held));
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
        self.answer(question, kept, said)
    }

    fn save_some(&mut self, at: Tick, entries: usize) -> bool {
        self.save(at, entries)
    }
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// What is told of a measurement in the end: of one that is no page, not where.
fn told_alike(fact: Fact<'_>) -> Fact<'_> {
    if is_order(&fact) || is_entry(&fact) {
        return fact;
    }
    Fact {
        url: None,
        referrer: None,
        ..fact
    }
}

/// Adds what a measurement adds to the views of measurements that `counted` says, or takes it back.
pub(super) fn add_fact(
    news: &mut News,
    views: &[View],
    text: &mut String,
    (at, entering): (Tick, &mut Vec<Entering>),
    (fact, sign): (&Fact<'_>, i64),
    counted: impl Fn(&View) -> bool,
) {
    rows_of(views, text, fact, |view, key, sums, counts_browser| {
        if counted(&views[view]) {
            let number = news.number(view as u16, key);
            let sums = if sign < 0 { sums.negated() } else { sums };
            let browser = counts_browser.then_some((&mut *entering, sign));
            news.add(number, (at, fact.at.time), sums, browser);
        }
    });
}

/// The facts of measurements. One that cannot be read any more keeps its place.
pub(super) fn read<'a>(
    reading: &mut Reading,
    measurements: impl Iterator<Item = crate::complete::Kept<'a>>,
) -> Vec<Fact<'a>> {
    let all: Vec<_> = measurements.collect();
    let facts = all.iter().enumerate().map(|(n, kept)| {
        if let Some(next) = all.get(n + READ_AHEAD) {
            near::bring_list(next.body);
        }
        let fact = reading.fact(kept.at, kept.schema, kept.context, kept.body);
        fact.unwrap_or(Fact {
            at: kept.at,
            ..Fact::default()
        })
    });
    facts.collect()
}

/// The facts of all that was looked at; none, if there was nothing.
pub(super) fn read_all<'a>(reading: &mut Reading, looked: Option<&'a Looked<'_>>) -> Vec<Fact<'a>> {
    looked.map_or_else(Vec::new, |kept| read(reading, kept.measurements()))
}
