//! Telling: what has changed of visits by the end of a step, held against what was told before; and of
//! visits that were sealed the last.

use std::borrow::Cow;

use differential_dataflow::difference::Semigroup;

use super::answering::sealed_shown;
use super::browser::{Absent, Begun, Browser, Told, ToldOrder, decode, encode};
use super::contributions::{Fields, Rows, rows};
use super::crediting::{self, Customer, OfCustomer, OfOrder, Place, Placed, Turn, What};
use super::growing::{Growing, Left};
use super::news::News;
use super::story::{Story, stories_of};
use super::watching::{MANY, Said, Settings, Stories, add_fact, read, read_all};
use crate::attribution::{self, PastTouch, Traced, Uncredited};
use crate::complete::{Complete, Key as BrowserKey, Measurements, Payloads};
use crate::fact::{Agent, Fact};
use crate::profiles::{Part, Profile, by_customer};
use crate::views::{Contribution, Entering, Sums};
use crate::visit::{Position, Tick, Visit, browser_key, words_of_bytes};

/// So many browsers ahead of the one that is told of, what a visit points to is begun to be loaded; and the
/// browser itself twice as far.
const AHEAD: usize = 8;
/// A visit to which nothing was added for this part of the time that ends it is quiet.
const QUIET: i64 = 10;

impl Stories {
    /// Says what differs between what was said of a visit and what is to be said.
    fn say_rows(&mut self, at: Tick, entering: &mut Vec<Entering>, before: &[u8], now: Rows) {
        let mut all = now;
        for (place, sums) in decode(before) {
            all.entry(place).or_default().plus_equals(&sums.negated());
        }
        for ((n, key, counts_browser, time), sums) in all {
            let number = self.news.number(n, key.text());
            let of = counts_browser.then_some(&mut *entering);
            add(&mut self.news, number, (at, time), sums, of);
        }
    }

    /// Says what has been added to a visit that grows.
    fn say_grown(&mut self, at: Tick, entering: &mut Vec<Entering>, growing: &mut Growing) {
        let time = growing.visit().first.time;
        let news = &mut self.news;
        growing.tell(&self.grown, |view, key, counts_browser, sums| {
            let number = news.number(view as u16, key);
            let of = counts_browser.then_some(&mut *entering);
            add(news, number, (at, time), sums, of);
        });
    }

    /// What has led to a visit's orders.
    pub(super) fn traced(&self, story: &Story<'_>) -> Traced {
        if story.orders().next().is_none() {
            return Traced::default();
        }
        attribution::trace(story.facts, &self.settings.attribution)
    }

    /// Says what has led to the orders of a visit that grows; looks only at the measurements that have.
    fn tell_grown_orders<P: Payloads>(
        &mut self,
        at: Tick,
        (key, browser): (BrowserKey, &mut Browser),
        told: &mut Told,
        growing: &mut Growing,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let leading = growing.leading(&self.grown);
        let looked = kept.look_among(&key, &leading)?;
        let facts = read_all(&mut self.reading, looked.as_ref());
        let added = growing.take_orders(&facts, &self.grown);
        self.say_rows(at, &mut browser.entering, &[], added);
        let traced = attribution::trace(&facts, &self.settings.attribution);
        let (of, orders) = ((key, &*browser), (traced.orders, &told.orders[..]));
        let visit = (growing.visit().id, &growing.fields());
        told.orders = self.say_orders(at, of, visit, orders, None, said);
        Ok(())
    }

    /// Says what has led to a visit's orders, where it was not told so before, and a last time when it is
    /// sealed; and which of them are no more.
    fn say_orders(
        &self,
        at: Tick,
        (key, browser): (BrowserKey, &Browser),
        (visit, fields): ([u64; 2], &Fields<'_>),
        (orders, told): (Vec<Uncredited>, &[ToldOrder]),
        turn: Option<Turn>,
        said: &mut Vec<Said>,
    ) -> Vec<ToldOrder> {
        let past = self.pasts.of(browser.shard, &key);
        let mut now = Vec::with_capacity(orders.len());
        for order in orders {
            let placed = Placed {
                place: Place {
                    visit,
                    time: order.order.time,
                    event: order.order.event,
                },
                shard: browser.shard,
                browser_id: browser.id.clone(),
                country: fields.country.into(),
                agent: fields.agent,
                source: fields.source.into(),
                turn,
                order,
                past: past.to_vec(),
            };
            let one = ToldOrder {
                place: placed.place,
                said: crediting::hash(&placed),
                customer: Customer::of_order(&placed.order.order),
            };
            now.push(one);
            let same = |told: &ToldOrder| (told.place, told.said) == (one.place, one.said);
            if told.iter().any(same) && turn.is_none() {
                continue;
            }
            if let Some(customer) = one.customer {
                let (shard, place) = (browser.shard, one.place);
                let what = match turn {
                    Some(turn) => What::Sealed(shard, place, turn),
                    None => What::Ordered(shard, place),
                };
                said.push(Said::Customer(OfCustomer { at, customer, what }));
            }
            said.push(Said::Order(at, OfOrder::Placed(Box::new(placed))));
        }
        for told in told {
            let own = now.iter().find(|now| now.place == told.place);
            say_gone(at, browser.shard, told, own, said);
        }
        now
    }

    /// Tells of a visit, and holds it against what was told. `grown` follows it from now on.
    fn tell(
        &mut self,
        at: Tick,
        (key, browser): (BrowserKey, &mut Browser),
        told: &Told,
        (story, traced, turn): (&Story<'_>, Traced, Option<Turn>),
        grown: &mut Option<Growing>,
        said: &mut Vec<Said>,
    ) -> Told {
        let bytes = match grown {
            Some(growing) => {
                growing.tell(&self.grown, |_, _, _, _| ());
                if growing.owes() {
                    growing.take_orders(story.facts, &self.grown);
                }
                self.say_rows(at, &mut browser.entering, &told.rows, growing.said());
                Box::default()
            }
            None => {
                let rows = rows(&self.views, story, &self.settings.attribution);
                let bytes = encode(&rows);
                if bytes != told.rows {
                    self.say_rows(at, &mut browser.entering, &told.rows, rows);
                }
                bytes
            }
        };
        let orders = (traced.orders, &told.orders[..]);
        let visit = (story.visit.id, &Fields::of(story));
        let orders = self.say_orders(at, (key, &*browser), visit, orders, turn, said);
        Told {
            begun: Begun {
                visit: story.visit.id,
                started: story.visit.first.time,
                agent: story.agent,
            },
            count: story.visit.count,
            rows: bytes,
            left: Left::of(story.facts, &self.settings.attribution),
            orders,
            leading: None,
        }
    }

    /// Tells a last time of the visits that were sealed in the step.
    pub(super) fn tell_sealed(&mut self, at: Tick, said: &mut Vec<Said>) {
        for complete in std::mem::take(&mut self.sealed) {
            let key = browser_key(&complete.browser_id);
            let id = words_of_bytes(&complete.visit);
            let mut browser = self.browsers.remove(&key).unwrap_or_else(|| {
                let (id, shard) = (complete.browser_id.clone(), complete.shard);
                Browser::new(id, shard, self.absent.remove(&key))
            });
            self.of_visits.remove(&id);
            let told = browser
                .visits
                .iter()
                .position(|told| told.begun.visit == id);
            let mut told = told.map(|n| browser.visits.swap_remove(n));
            // Nothing has changed since it was told of but what it was given while it grew.
            let mut is_told = browser.growing.is_some() || !browser.touched;
            is_told &= !browser.missed;
            let mut growing = browser.growing.take_if(|growing| growing.visit().id == id);
            let size = complete.len() as u32;
            // One more may have taken the place of its last.
            is_told &= size < self.settings.rules.max_size && !self.by_reason;
            if let Some(growing) = &mut growing {
                self.say_grown(at, &mut browser.entering, growing);
                let new = || Told::of(growing.visit(), growing.agent());
                let told = told.get_or_insert_with(new);
                told.count = growing.visit().count;
                told.left = growing.leaves();
                is_told &= told.count == size && !growing.owes();
                if !is_told {
                    told.rows = encode(&growing.said());
                }
            }
            is_told &= told.as_ref().is_some_and(|told| told.count == size);
            let is_new = told.is_none();
            let has_orders = told.as_ref().is_some_and(|told| !told.orders.is_empty());
            let leaves_more = told.as_ref().is_none_or(|told| told.left.more);
            let looks = !is_told || has_orders || leaves_more;
            let first = complete.measurements().next();
            let first = first.map_or(Position::default(), |first| first.at);
            let turn = Turn::new(complete.tick, first, id);
            let (mut leaves, mut told) = (Leaves::of(told.as_ref()), told.unwrap_or_default());
            let is_all_asked = self.asks_for_all();
            if looks || is_all_asked {
                let leading = match growing {
                    _ if !is_told || is_all_asked => None,
                    Some(mut growing) => growing.saying_last(&self.grown),
                    None => told.leading.take(),
                };
                let own = (key, &mut browser);
                let last = (&complete, turn, leading.as_deref());
                leaves = self.seal(at, own, (&told, is_told), last, leaves, said);
            }
            // What a robot met leads nobody.
            if leaves.agent != Agent::Robot {
                self.pasts
                    .add(complete.shard, key, complete.tick, &leaves.touches);
                let of_customers = leaves.of_customers.into_iter();
                let left = of_customers.filter(|(_, touches)| !touches.is_empty());
                said.extend(left.map(|(id, touches)| {
                    Said::Customer(OfCustomer {
                        at,
                        customer: Customer::of(&id),
                        what: What::Left(turn, touches),
                    })
                }));
            }
            if browser.has_ordered() {
                browser.settle();
            }
            if !self.settings.asked {
                self.ended.keep_after(complete.tick);
            }
            let left = browser.known + browser.added;
            // Of one that was not told of, and may have been open before anybody watched, nobody knows how much
            // was counted: what is left is looked at, as if it were one measurement at least.
            let is_guess = is_new && left > 0;
            let rest = left.saturating_sub(size).max(u32::from(is_guess));
            // Now there are few enough to look at what was missed.
            if is_guess || browser.missed && rest <= MANY {
                browser.settle();
            }
            // Of which nothing was told it is told now, however many there are.
            (browser.known, browser.added) = match browser.visits.is_empty() {
                true => (0, rest),
                false => (rest, 0),
            };
            browser.enter(at, &mut self.news);
            // What is left of it is another visit, or was told of one that is none any more.
            let is_open = rest > 0 || !browser.visits.is_empty();
            if is_open {
                browser.touch(key, &mut self.touched);
            } else {
                self.forget_since(&mut browser);
            }
            self.put_back(key, browser, is_open);
        }
    }

    /// Whether more is asked of a sealed visit than what was to be said while it was open.
    fn asks_for_all(&self) -> bool {
        let Settings {
            profiles, asked, ..
        } = self.settings;
        profiles || asked || self.by_reason || self.naming.is_some()
    }

    /// Says the last of a sealed visit, and whatever is asked of it. Looks at all of its measurements, or at
    /// those that are known to lead to what is to be said. Gives what it leaves.
    fn seal(
        &mut self,
        at: Tick,
        (key, browser): (BrowserKey, &mut Browser),
        (told, is_told): (&Told, bool),
        (complete, turn, leading): (&Complete, Turn, Option<&[Position]>),
        known: Leaves,
        said: &mut Vec<Said>,
    ) -> Leaves {
        let facts: Vec<Fact<'_>> = match leading {
            Some(those) => read(&mut self.reading, complete.among(those)),
            None => read(&mut self.reading, complete.measurements()),
        };
        let story = sealed_story(complete, &facts, browser.robot);
        let mut traced = attribution::trace(&facts, &self.settings.attribution);
        let touches = std::mem::take(&mut traced.touches);
        let leaves = match leading {
            Some(_) => known.all(touches),
            None => Leaves {
                agent: story.agent,
                touches,
                of_customers: std::mem::take(&mut traced.of_customers),
            },
        };
        let sealed = if is_told {
            let (own, orders) = ((key, &*browser), (traced.orders, &told.orders[..]));
            let visit = (story.visit.id, &Fields::of(&story));
            self.say_orders(at, own, visit, orders, Some(turn), said)
        } else {
            let (own, last) = ((key, &mut *browser), (&story, traced, Some(turn)));
            self.tell(at, own, told, last, &mut None, said).orders
        };
        say_moved(at, browser, &sealed, said);
        // What a robot does under a customer's name says nothing of the customer.
        if self.settings.profiles && story.agent != Agent::Robot {
            said.extend(parts(at, complete, &facts));
        }
        self.name_sealed(at, complete, (key, browser), &facts, said);
        if self.settings.asked {
            let shown = sealed_shown(complete, &story);
            let place = (complete.tick, story.visit.id);
            self.ended.add(place, complete.shard, shown);
        }
        leaves
    }

    /// Forgets which visits a browser had when something was asked.
    pub(super) fn forget_since(&mut self, browser: &mut Browser) {
        for begun in browser.since.take().into_iter().flatten() {
            self.of_visits.remove(&begun.visit);
        }
    }

    /// Tells of a browser's open visits.
    pub(super) fn tell_open<P: Payloads>(
        &mut self,
        at: Tick,
        key: BrowserKey,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        let Some(own) = self.browsers.get_mut(&key) else {
            return Ok(());
        };
        let mut browser = std::mem::take(own);
        let mut told = Ok(());
        if std::mem::replace(&mut browser.touched, false) {
            let is_many = browser.growing.is_none() && browser.known > MANY;
            if !(is_many && browser.added < browser.known / 8) {
                told = self.tell_browser(at, (key, &mut browser), kept, said);
            }
            browser.enter(at, &mut self.news);
        }
        let is_open = browser.known + browser.added > 0 || !browser.visits.is_empty();
        if !is_open {
            self.browsers.remove(&key);
        }
        self.put_back(key, browser, is_open);
        told
    }

    /// Keeps a browser, or that it is in rows after its visits are sealed.
    fn put_back(&mut self, key: BrowserKey, browser: Browser, is_open: bool) {
        if is_open {
            self.browsers.insert(key, browser);
        } else if !browser.present.is_empty() {
            let (shard, present) = (browser.shard, browser.present);
            self.absent.insert(key, Absent { shard, present });
        }
    }

    /// Tells of the open visits of a browser that has measured something.
    fn tell_browser<P: Payloads>(
        &mut self,
        at: Tick,
        (key, browser): (BrowserKey, &mut Browser),
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        self.forget_since(browser);
        browser.stale = false;
        browser.told = at;
        let size = browser.known + browser.added;
        let is_found = !browser.robot && size > self.settings.robots_over;
        if let Some(mut growing) = browser.growing.take_if(|_| !is_found) {
            self.say_grown(at, &mut browser.entering, &mut growing);
            let (visit, agent) = (growing.visit(), growing.agent());
            let mut own = browser.visits.iter();
            let own = own.rposition(|told| told.begun.visit == visit.id);
            let mut told = match own {
                Some(n) => std::mem::take(&mut browser.visits[n]),
                None => Told::of(visit, agent),
            };
            told.count = visit.count;
            if growing.owes() {
                let of = (key, &mut *browser);
                self.tell_grown_orders(at, of, &mut told, &mut growing, kept, said)?;
            }
            match own {
                Some(n) => browser.visits[n] = told,
                None => browser.visits.push(told),
            }
            (browser.known, browser.added) = (size, 0);
            // Its others, too: what was known of them within the step has just been forgotten.
            let visits = browser.visits.iter().map(|told| told.begun.visit);
            self.of_visits.extend(visits.map(|visit| (visit, key)));
            browser.growing = Some(growing);
            self.quiet.told(at, key);
            return Ok(());
        }
        browser.settle();
        let looked = kept.look(&key)?;
        let facts = read_all(&mut self.reading, looked.as_ref());
        (browser.known, browser.added) = (facts.len() as u32, 0);
        browser.missed = false;
        if !browser.robot && browser.known > self.settings.robots_over {
            browser.robot = true;
            if self.of_measurements {
                let people = |fact: &&Fact<'_>| fact.agent == Agent::Person;
                for fact in facts.iter().filter(people) {
                    let (news, text) = (&mut self.news, &mut self.text);
                    let of = (at, &mut browser.entering);
                    add_fact(news, &self.views, text, of, (fact, -1), |view| view.people);
                }
            }
        }
        let mut before = std::mem::take(&mut browser.visits);
        let mut visits = stories_of(&browser.id, &facts, &self.settings.rules).into_iter();
        while let Some((visit, facts)) = visits.next() {
            let told = before.iter().position(|told| told.begun.visit == visit.id);
            let told = told.map(|n| before.swap_remove(n));
            let story = Story::new(visit, facts, agent_of(facts, browser.robot), None);
            self.of_visits.insert(visit.id, key);
            // What comes next is of the last, most likely.
            let mut grown = match visits.len() {
                0 => Growing::of(visit, story.agent, facts, &self.grown),
                _ => None,
            };
            let (told, traced) = (told.unwrap_or_default(), self.traced(&story));
            let story = (&story, traced, None);
            let own = (key, &mut *browser);
            let told = self.tell(at, own, &told, story, &mut grown, said);
            browser.visits.push(told);
            browser.growing = grown.map(Box::new);
        }
        if browser.growing.is_some() {
            self.quiet.told(at, key);
        }
        // Visits that are none any more, since others took their measurements.
        for gone in before {
            self.of_visits.remove(&gone.begun.visit);
            self.say_rows(at, &mut browser.entering, &gone.rows, Rows::new());
            for told in &gone.orders {
                say_gone(at, browser.shard, told, None, said);
            }
        }
        Ok(())
    }

    /// Follows quiet visits no more, where there is no room for them.
    fn rest_quiet(&mut self, at: Tick) {
        let asks_for_all = self.asks_for_all();
        let (browsers, quiet) = (&mut self.browsers, &mut self.quiet);
        let since = at.saturating_sub((self.settings.rules.inactivity / QUIET) as Tick);
        while let Some((told, key)) = quiet.told_by(since) {
            let browser = browsers.get(&key).filter(|own| own.told == told);
            if let Some(growing) = browser.and_then(|own| own.growing.as_ref()) {
                quiet.rest(told, key, growing.bytes());
            }
        }
        while let Some((told, key)) = quiet.over(self.settings.quiet_room) {
            if let Some(browser) = browsers.get_mut(&key).filter(|own| own.told == told) {
                browser.rest((!asks_for_all).then_some(&self.grown));
            }
        }
    }

    /// Tells of all browsers that have measured something, and of what has been added to views.
    pub(super) fn tell_all<P: Payloads>(
        &mut self,
        at: Tick,
        kept: &mut Measurements<P>,
        said: &mut Vec<Said>,
    ) -> Result<(), P::Error> {
        self.urgent.clear();
        self.due = u64::MAX;
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        for (n, key) in touched.iter().enumerate() {
            let next = |ahead: usize| self.browsers.get(touched.get(n + ahead)?);
            if let Some(browser) = next(2 * AHEAD) {
                browser.bring_told();
            }
            if let Some(growing) = next(AHEAD).and_then(|browser| browser.growing.as_ref()) {
                growing.bring_told();
            }
            self.tell_open(at, *key, kept, said)?;
        }
        for key in std::mem::take(&mut self.stale) {
            if let Some(browser) = self.browsers.get_mut(&key) {
                browser.stale = false;
            }
        }
        self.rest_quiet(at);
        self.sweep(at);
        self.news.take(|view, key, sums| {
            said.push(Said::Contribution(Contribution {
                at,
                view,
                key: key.clone(),
                sums,
            }));
        });
        Ok(())
    }
}

/// What a sealed visit leaves for later ones of its browser and of the customers that it names.
#[derive(Default)]
struct Leaves {
    agent: Agent,
    touches: Vec<PastTouch>,
    of_customers: Vec<(Box<str>, Vec<PastTouch>)>,
}

impl Leaves {
    /// Of a visit of which this was told, the touch of its first page.
    fn of(told: Option<&Told>) -> Leaves {
        let Some(told) = told else {
            return Leaves::default();
        };
        let customer = told.left.customer.iter();
        let leaves = Leaves {
            agent: told.begun.agent,
            of_customers: customer.map(|id| (id.clone(), Vec::new())).collect(),
            ..Leaves::default()
        };
        leaves.all(told.left.entry.iter().cloned().collect())
    }

    /// The same, with all touches of it, which are those of the one customer that it names.
    fn all(mut self, touches: Vec<PastTouch>) -> Leaves {
        for (_, own) in &mut self.of_customers {
            own.clone_from(&touches);
        }
        self.touches = touches;
        self
    }
}

/// Says of orders that another visit of the browser had before they came to the one that is sealed that
/// they are there no more.
fn say_moved(at: Tick, browser: &mut Browser, sealed: &[ToldOrder], said: &mut Vec<Said>) {
    let of = |told: &ToldOrder| (told.place.time, told.place.event);
    let is_sealed = |told: &mut ToldOrder| sealed.iter().any(|sealed| of(sealed) == of(told));
    for other in &mut browser.visits {
        for told in other.orders.extract_if(.., is_sealed) {
            say_gone(at, browser.shard, &told, None, said);
        }
    }
}

/// Says what is no more of an order that was told of: itself, or that it names a customer. `now` is what is
/// told of it instead.
fn say_gone(at: Tick, shard: u8, told: &ToldOrder, now: Option<&ToldOrder>, said: &mut Vec<Said>) {
    if now.is_none() {
        said.push(Said::Order(at, OfOrder::Gone(shard, told.place)));
    }
    let others = told
        .customer
        .filter(|_| now.and_then(|now| now.customer) != told.customer);
    if let Some(customer) = others {
        let what = What::Gone(shard, told.place);
        said.push(Said::Customer(OfCustomer { at, customer, what }));
    }
}

/// Adds to the sums of a row; where they are of a browser, how often that is in it.
fn add(news: &mut News, number: u32, at: (Tick, i64), sums: Sums, of: Option<&mut Vec<Entering>>) {
    match of {
        Some(entering) => {
            let times = sums.0.iter().sum();
            news.add(number, at, Sums::default(), Some((entering, times)));
        }
        None => news.add(number, at, sums, None),
    }
}

/// The story of a sealed visit.
pub(super) fn sealed_story<'a>(
    complete: &Complete,
    facts: &'a [Fact<'a>],
    robot: bool,
) -> Story<'a> {
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

pub(super) fn agent_of(facts: &[Fact<'_>], robot: bool) -> Agent {
    if robot {
        return Agent::Robot;
    }
    facts.first().map_or(Agent::Unknown, |fact| fact.agent)
}
