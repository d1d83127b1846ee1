//! A visit that grows: what it adds to views of visits, brought up to date a measurement at a time,
//! where [`rows`](super::contributions::rows) looks at all of them. It says the same.
//!
//! Nearly all that is said of a visit are sums over its measurements, in whatever order they come. What
//! is not, or is rare, is not followed here, as a measurement that begins the visit anew or another one.
//! Then [`Growing::add`] refuses, and
//! the visit is told of from all that is kept of it. So this is a cache, of visits that grow right now;
//! nothing but time is lost with it.

use std::hash::BuildHasher;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use hashbrown::{DefaultHashBuilder, HashTable};
use serde::{Deserialize, Serialize};

use super::contributions::{Fields, Own, Rows, is_step, step_name};
use super::steps::Steps;
use crate::attribution::{
    self, NESTED, PastTouch, SHOWN, customer, entry_touch, is_cart, is_entry, is_order,
};
use crate::fact::{Agent, Fact, Id};
use crate::views::{Field, Key, Of, SUMS, Sums, Value, View};
use crate::visit::{Position, Rules, Visit};

const NONE: u16 = u16::MAX;
/// Of an ID that was looked for and not found: something waits for whoever comes with it.
const MISSED: u16 = u16::MAX - 1;
/// A visit of more measurements is not followed; places and numbers have room for so many, each with a
/// cause of its own.
const MOST: usize = 30_000;
/// There is room for so many at first: a page shows many things at once.
const FIRST: usize = 48;
/// Nor one of more rows of chains.
const MOST_ROWS: usize = 60_000;

/// The views of visits, by what they ask of a visit that grows.
pub struct OfVisits {
    views: Rc<[View]>,
    /// Those of visits and of funnels, whose rows are made anew each time.
    short: Vec<usize>,
    chains: Vec<usize>,
    /// Of each funnel, how its rows name the steps.
    steps: Vec<Vec<String>>,
    /// What counts measurements of an effect: the view, the value, the effect.
    effects: Vec<(usize, usize, String)>,
    /// Fields of the keys of chains that may change while a visit grows.
    changing: Vec<Field>,
    /// What is said of its orders, or is a field of the keys of credits, and may change.
    of_orders: Vec<Field>,
    pages: bool,
    settings: attribution::Settings,
}

impl OfVisits {
    /// Those among these views.
    pub fn new(views: Rc<[View]>, settings: &attribution::Settings) -> OfVisits {
        let those = |is: fn(&Of) -> bool| {
            let of = views.iter().enumerate().filter(|(_, view)| is(&view.of));
            of.map(|(n, _)| n).collect::<Vec<_>>()
        };
        let short = those(|of| matches!(of, Of::Visits | Of::Funnel(_)));
        let chains = those(|of| *of == Of::Chains);
        let mut effects = Vec::new();
        for n in short.iter().filter(|n| views[**n].of == Of::Visits) {
            for (at, value) in views[*n].values.iter().enumerate() {
                if let Value::Count(Some(effect)) = value {
                    effects.push((*n, at, effect.clone()));
                }
            }
        }
        let steps = short.iter().filter_map(|n| match &views[*n].of {
            Of::Funnel(steps) => Some(steps.iter().enumerate()),
            _ => None,
        });
        let steps = steps.map(|steps| steps.map(|(n, step)| step_name(n, step)).collect());
        let steps = steps.collect();
        let changes = [Field::Country, Field::Entry, Field::Exit, Field::Source];
        let by =
            |those: &[usize], field: &Field| those.iter().any(|n| views[*n].key.contains(field));
        let credits = those(|of| *of == Of::Credits);
        let changing = changes.iter().filter(|field| by(&chains, field));
        let of_orders = changes
            .iter()
            .filter(|field| **field == Field::Country || by(&credits, field));
        let of_pages = [Field::Entry, Field::Exit, Field::Source];
        OfVisits {
            pages: of_pages.iter().any(|field| by(&short, field))
                || (changing.clone().chain(of_orders.clone()))
                    .any(|field| of_pages.contains(field)),
            changing: changing.copied().collect(),
            of_orders: of_orders.copied().collect(),
            short,
            steps,
            chains,
            effects,
            settings: settings.clone(),
            views,
        }
    }
}

/// A page of a visit.
#[derive(Debug, Default)]
struct Page {
    at: Position,
    id: Box<str>,
    reason: Option<Box<str>>,
}

impl Page {
    fn of(fact: &Fact<'_>) -> Page {
        Page {
            at: fact.at,
            id: fact
                .entity_id
                .map(|id| id.text())
                .unwrap_or_default()
                .into(),
            reason: fact.reason.map(Box::from),
        }
    }
}

/// A measurement, as far as causes go.
#[derive(Debug)]
struct Link {
    /// How long after the visit's first, in ms.
    after: u32,
    /// The number of its own ID.
    own: u16,
    /// The number of its cause's ID.
    cause: u16,
    is_shown: bool,
}

/// A measurement that was led to.
#[derive(Clone, Copy, Debug)]
struct Led {
    at: u16,
    to: To,
    /// So much of what has led to it is counted.
    counted: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Click,
    Cart,
    Order,
}

/// A row of chains: how often it was shown, clicked and carted.
#[derive(Debug)]
struct Row {
    view: u16,
    key: Key,
    now: [u32; 3],
    said: [u32; 3],
    /// The count that has met it last.
    counted: u32,
}

/// What a visit adds to views, as a row says it: the view, the key, whether its browser is counted.
type Line = ((u16, Key, bool), Sums);

/// What a visit leaves for later ones, as far as it is known without following its chains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// The touch of its first page.
    pub entry: Option<PastTouch>,
    /// The customer that it names.
    pub customer: Option<Box<str>>,
    /// Whether it leaves more: by its carts and orders, or to several customers.
    pub more: bool,
}

impl Left {
    /// What a visit of these measurements leaves.
    pub fn of(facts: &[Fact<'_>], settings: &attribution::Settings) -> Left {
        let first = facts.iter().find(|fact| is_entry(fact));
        let mut named = Named::default();
        facts.iter().for_each(|fact| named.take(fact));
        Left {
            entry: first.and_then(|page| entry_touch(page, settings)),
            more: named.several || facts.iter().any(|fact| is_cart(fact) || is_order(fact)),
            customer: named.only(),
        }
    }
}

/// The customer that a visit names, while it names one.
#[derive(Debug, Default)]
struct Named {
    customer: Option<Box<str>>,
    several: bool,
}

impl Named {
    fn take(&mut self, fact: &Fact<'_>) {
        let Some(id) = fact.customer else { return };
        if let (Id::Text(id), Some(known)) = (id, &self.customer)
            && *id == **known
        {
            return;
        }
        match (customer(id), &self.customer) {
            (Some(id), None) => self.customer = Some(id.into()),
            (Some(id), Some(known)) if *id == **known => {}
            // Nobody is another one, too.
            _ => self.several = true,
        }
    }

    fn only(&self) -> Option<Box<str>> {
        self.customer.clone().filter(|_| !self.several)
    }
}

/// A visit that grows, of at most some thousand measurements: some 40 bytes each, and its rows.
pub struct Growing {
    visit: Visit,
    agent: Agent,
    /// Its first measurement that has a country.
    sender: Option<(Position, Box<str>)>,
    first_reason: Option<Box<str>>,
    entry: Option<Page>,
    exit: Option<Page>,
    /// By the effects that views count.
    effects: Vec<i64>,
    /// Of each funnel.
    funnels: Vec<Steps>,
    /// IDs of measurements and of causes, by which they are known by number.
    ids: Vec<[u64; 2]>,
    numbers: HashTable<u16>,
    /// Of each ID, its measurement.
    holders: Vec<u16>,
    /// The number of the last cause.
    cause: u16,
    links: Vec<Link>,
    /// Of each measurement and view of chains, its row.
    of: Vec<u16>,
    /// Clicks, carts and orders that are not counted yet.
    led: Vec<Led>,
    /// Those of which a cause was not there, with its number.
    waiting: Vec<(u16, Led)>,
    carts: usize,
    /// Where its carts and orders are among the links.
    ends: Vec<u16>,
    rows: Vec<Row>,
    places: HashTable<u16>,
    hasher: DefaultHashBuilder,
    counts: u32,
    /// Rows of chains that have changed since they were said.
    changed: Vec<u16>,
    /// What was said beside those.
    lines: Vec<Line>,
    /// How many orders it has, their values, and where the last one is.
    orders: i64,
    revenue: i64,
    ordered: Option<Position>,
    /// What orders add to chains.
    of_orders: Rows,
    /// Whether it is to be told what has led to its orders.
    owes: bool,
    /// The numbers of the causes of what orders came from: what else they have caused is said with them.
    beside: Vec<u16>,
    /// Whether any view of chains takes it.
    in_chains: bool,
    /// Where its first page is, and what that leaves for later visits.
    first_page: Option<(Position, Option<PastTouch>)>,
    named: Named,
}

impl Growing {
    /// The visit of this ID and this kind of agent that begins with this measurement. None if it is not
    /// followed.
    pub fn begin(id: [u64; 2], agent: Agent, fact: &Fact<'_>, of: &OfVisits) -> Option<Growing> {
        if is_order(fact) {
            return None;
        }
        let mut growing = Growing::new(Visit::begin(fact.at, id), agent, fact, of);
        growing.take(fact, of).then_some(growing)
    }

    /// The visit of these measurements, all that there are.
    pub fn of(visit: Visit, agent: Agent, facts: &[Fact<'_>], of: &OfVisits) -> Option<Growing> {
        let mut growing = Growing::new(visit, agent, facts.first()?, of);
        facts
            .iter()
            .all(|fact| growing.take(fact, of))
            .then_some(growing)
    }

    fn new(visit: Visit, agent: Agent, fact: &Fact<'_>, of: &OfVisits) -> Growing {
        let takes = |n: &usize| !of.views[*n].people || agent == Agent::Person;
        let funnel = |n: &&usize| matches!(of.views[**n].of, Of::Funnel(_));
        Growing {
            visit,
            agent,
            sender: None,
            first_reason: fact.reason.map(Box::from),
            entry: None,
            exit: None,
            effects: vec![0; of.effects.len()],
            funnels: of
                .short
                .iter()
                .filter(funnel)
                .map(|_| Steps::default())
                .collect(),
            ids: Vec::with_capacity(FIRST),
            numbers: HashTable::with_capacity(FIRST),
            holders: Vec::with_capacity(FIRST),
            cause: NONE,
            links: Vec::with_capacity(FIRST),
            of: Vec::with_capacity(FIRST * of.chains.len()),
            led: Vec::new(),
            waiting: Vec::new(),
            carts: 0,
            ends: Vec::new(),
            rows: Vec::new(),
            places: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            counts: 0,
            changed: Vec::new(),
            lines: Vec::new(),
            orders: 0,
            revenue: 0,
            ordered: None,
            of_orders: Rows::new(),
            owes: false,
            beside: Vec::new(),
            in_chains: of.chains.iter().any(takes),
            first_page: None,
            named: Named::default(),
        }
    }

    /// The visit so far.
    pub fn visit(&self) -> Visit {
        self.visit
    }

    /// The kind of agent.
    pub fn agent(&self) -> Agent {
        self.agent
    }

    /// What it leaves for later visits of its browser and its customer, if that is all.
    pub fn leaves(&self) -> Left {
        let first = self.first_page.as_ref();
        Left {
            entry: first.and_then(|(_, touch)| touch.clone()),
            customer: self.named.only(),
            more: self.named.several || self.carts > 0 || self.orders > 0,
        }
    }

    /// Takes another measurement. False if it is not of this visit, or if it cannot be told any more
    /// what the visit adds; what was said of it still holds.
    pub fn add(&mut self, fact: &Fact<'_>, of: &OfVisits, rules: &Rules) -> bool {
        if fact.at <= self.visit.first || !self.visit.takes(fact.at.time, rules) {
            return false;
        }
        let last = self.visit.last;
        self.visit.take(fact.at.time.max(last));
        let takes = self.take(fact, of);
        self.owes |= self.is_beside();
        takes
    }

    /// Whether the last that it took changes what was beside that which an order has come from: that it
    /// is another, or one of them was chosen after all.
    fn is_beside(&self) -> bool {
        let Some(link) = self.links.last().filter(|_| !self.beside.is_empty()) else {
            return false;
        };
        let cause = if link.is_shown {
            Some(link.cause)
        } else {
            let holder = self.holders.get(usize::from(link.cause));
            let chosen = holder.and_then(|at| self.links.get(usize::from(*at)));
            chosen.map(|chosen| chosen.cause)
        };
        cause.is_some_and(|cause| self.beside.contains(&cause))
    }

    fn take(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        for ((.., effect), count) in of.effects.iter().zip(&mut self.effects) {
            *count += i64::from(effect == fact.effect);
        }
        if is_order(fact) {
            self.orders += 1;
            self.revenue = self.revenue.saturating_add(fact.value.unwrap_or(0));
            self.ordered = self.ordered.max(Some(fact.at));
            self.owes = true;
        }
        self.owes |= is_cart(fact) && self.ordered.is_some_and(|order| fact.at < order);
        let is_first = |(at, _): &(Position, _)| fact.at < *at;
        if is_entry(fact) && self.first_page.as_ref().is_none_or(is_first) {
            self.first_page = Some((fact.at, entry_touch(fact, &of.settings)));
        }
        self.named.take(fact);
        self.carts += usize::from(is_cart(fact));
        let fields = self.take_fields(fact, of);
        let funnels = self.take_steps(fact, of);
        // Where nobody asks for chains, what has led to an order is not known here.
        let links = match self.in_chains {
            true => self.take_cause(fact, of),
            false => !is_order(fact),
        };
        fields && funnels && links
    }

    /// What it says of the visit's own fields.
    fn take_fields(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        let mut holds = true;
        let mut change = |fields: &[Field]| {
            let any = |of: &[Field]| fields.iter().any(|field| of.contains(field));
            let in_rows = !self.rows.is_empty() || !self.of_orders.is_empty();
            holds &= !(any(&of.changing) && in_rows);
            self.owes |= any(&of.of_orders) && self.orders > 0;
        };
        if let Some(country) = fact.country
            && self.sender.as_ref().is_none_or(|(at, _)| fact.at < *at)
        {
            self.sender = Some((fact.at, country.into()));
            change(&[Field::Country]);
        }
        if of.pages && fact.entity == "page" {
            if self.entry.as_ref().is_none_or(|page| fact.at < page.at) {
                self.entry = Some(Page::of(fact));
                change(&[Field::Entry, Field::Source]);
            }
            if self.exit.as_ref().is_none_or(|page| fact.at > page.at) {
                self.exit = Some(Page::of(fact));
                change(&[Field::Exit]);
            }
        }
        holds
    }

    /// How far it brings the visit through funnels.
    fn take_steps(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        let funnels = of.short.iter().filter_map(|n| match &of.views[*n].of {
            Of::Funnel(steps) => Some(steps),
            _ => None,
        });
        funnels.zip(&mut self.funnels).all(|(steps, reached)| {
            reached.take(fact.at, steps.len(), |step| is_step(fact, &steps[step]))
        })
    }

    fn number(&mut self, id: [u64; 2]) -> u16 {
        let (ids, hasher) = (&self.ids, &self.hasher);
        let hash = hasher.hash_one(id);
        let same = |n: &u16| ids[usize::from(*n)] == id;
        if let Some(n) = self.numbers.find(hash, same) {
            return *n;
        }
        let n = ids.len() as u16;
        let hash_of = |n: &u16| hasher.hash_one(ids[usize::from(*n)]);
        self.numbers.insert_unique(hash, n, hash_of);
        self.ids.push(id);
        self.holders.push(NONE);
        n
    }

    /// The number of a cause. What a page shows comes together, and all of it has been caused by the page.
    fn number_of_cause(&mut self, id: [u64; 2]) -> u16 {
        if self.ids.get(usize::from(self.cause)) != Some(&id) {
            self.cause = self.number(id);
        }
        self.cause
    }

    fn take_cause(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        if self.links.len() >= MOST || self.rows.len() >= MOST_ROWS {
            return false;
        }
        let place = self.links.len() as u16;
        let after = fact.at.time.saturating_sub(self.visit.first.time);
        let Ok(after) = u32::try_from(after) else {
            return false;
        };
        let own = usize::from(self.number(fact.at.event));
        match self.holders[own] {
            NONE => self.holders[own] = place,
            MISSED => {
                self.holders[own] = place;
                self.owes |= self.orders > 0;
                let waited = |(id, _): &mut (u16, Led)| usize::from(*id) == own;
                let waited = self.waiting.extract_if(.., waited);
                self.led.extend(waited.map(|(_, led)| led));
            }
            // The first that has an ID is meant by it.
            holder if after < self.links[usize::from(holder)].after => return false,
            _ => {}
        }
        let cause = fact.cause.map_or(NONE, |id| self.number_of_cause(id));
        let is_shown = fact.effect == SHOWN;
        self.links.push(Link {
            after,
            own: own as u16,
            cause,
            is_shown,
        });
        let mut key = String::new();
        for n in &of.chains {
            let view = &of.views[*n];
            let row = match is_shown && (!view.people || self.agent == Agent::Person) {
                true => self.row_of(*n, view, fact, &mut key),
                false => NONE,
            };
            self.of.push(row);
            if row != NONE {
                self.count(row, 0);
            }
        }
        let to = if is_order(fact) {
            Some(To::Order)
        } else if is_cart(fact) {
            Some(To::Cart)
        } else {
            (fact.effect == "clicked").then_some(To::Click)
        };
        if matches!(to, Some(To::Cart | To::Order)) {
            self.ends.push(place);
        }
        self.led.extend(to.map(|to| Led {
            at: place,
            to,
            counted: 0,
        }));
        self.carts <= of.settings.most
    }

    /// The row of what was shown.
    fn row_of(&mut self, n: usize, view: &View, fact: &Fact<'_>, key: &mut String) -> u16 {
        if !self.fields().write_chain_key(view, fact, key) {
            return NONE;
        }
        let (rows, hasher) = (&mut self.rows, &self.hasher);
        let hash = hasher.hash_one((n as u16, &**key));
        let same = |at: &u16| {
            let row = &rows[usize::from(*at)];
            usize::from(row.view) == n && row.key.text() == key
        };
        if let Some(at) = self.places.find(hash, same) {
            return *at;
        }
        let at = rows.len() as u16;
        rows.push(Row {
            view: n as u16,
            key: Key::of_text(key),
            now: [0; 3],
            said: [0; 3],
            counted: 0,
        });
        let hash_of = |at: &u16| {
            let row = &rows[usize::from(*at)];
            hasher.hash_one((row.view, row.key.text()))
        };
        self.places.insert_unique(hash, at, hash_of);
        at
    }

    fn count(&mut self, row: u16, place: usize) {
        let own = &mut self.rows[usize::from(row)];
        if own.now == own.said {
            self.changed.push(row);
        }
        own.now[place] += 1;
    }

    /// The fields of rows that are the visit's.
    pub fn fields(&self) -> Fields<'_> {
        let entry = self.entry.as_ref();
        let reason = entry.map_or(&self.first_reason, |page| &page.reason);
        Fields {
            country: self.sender.as_ref().map_or("", |(_, country)| country),
            agent: self.agent,
            started: self.visit.first.time,
            entry: entry.map_or("", |page| &page.id).into(),
            exit: self.exit.as_ref().map_or("", |page| &page.id).into(),
            source: reason.as_deref().unwrap_or("direct"),
            ended: None,
        }
    }

    /// The measurement that has caused this one, if it is there.
    fn cause_of(&mut self, at: u16) -> Option<u16> {
        let cause = self.links[usize::from(at)].cause;
        let holder = self.holders.get_mut(usize::from(cause))?;
        if *holder == NONE {
            *holder = MISSED;
        }
        (*holder < MISSED).then_some(*holder)
    }

    /// Counts a click for what it was on, and for what that lay in; a cart for all that led to it. Of an
    /// order finds out what it has come from.
    fn count_led(&mut self, led: Led, of: &OfVisits) {
        self.counts += 1;
        let most = match led.to {
            To::Click => NESTED,
            To::Cart | To::Order => of.settings.longest.saturating_sub(1),
        };
        let mut at = led.at;
        for n in 0..most as u32 {
            let was_shown = self.links[usize::from(at)].is_shown;
            let Some(cause) = self.cause_of(at) else {
                let id = self.links[usize::from(at)].cause;
                let counted = n;
                if id != NONE {
                    self.waiting.push((id, Led { counted, ..led }));
                }
                return;
            };
            at = cause;
            let link = &self.links[usize::from(at)];
            let place = match led.to {
                To::Click if !link.is_shown => return,
                To::Click => 1,
                To::Cart => 2,
                To::Order => {
                    if link.is_shown && !was_shown && link.cause != NONE {
                        self.beside.push(link.cause);
                    }
                    continue;
                }
            };
            let chains = of.chains.len();
            for view in 0..chains {
                let row = self.of[usize::from(at) * chains + view];
                if row != NONE && self.rows[usize::from(row)].counted != self.counts {
                    self.rows[usize::from(row)].counted = self.counts;
                    if n >= led.counted {
                        self.count(row, place);
                    }
                }
            }
        }
    }

    /// Whether it is to be told what has led to its orders, or told anew: then it must
    /// [take that in](Growing::take_orders).
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// Where the measurements are, in order, of which [`trace`](attribution::trace) says the same of its
    /// orders as of all: the first, carts and orders, what has led there, what was shown beside that, and
    /// what that has led to. It must have been told of before.
    pub fn leading(&self, of: &OfVisits) -> Vec<Position> {
        let cause_of = |link: &Link| {
            let holder = self.holders.get(usize::from(link.cause)).copied();
            holder.map(usize::from).filter(|at| *at < self.links.len())
        };
        let mut leads = vec![false; self.links.len()];
        let mut beside = vec![false; self.ids.len()];
        for end in &self.ends {
            let mut next = Some(usize::from(*end));
            // The one beyond the longest chain says that there is one.
            for _ in 0..=of.settings.longest {
                let Some(at) = next else { break };
                leads[at] = true;
                let link = &self.links[at];
                if link.is_shown && link.cause != NONE {
                    beside[usize::from(link.cause)] = true;
                }
                next = cause_of(link);
            }
        }
        let is_beside = |link: &Link| {
            link.is_shown
                && beside
                    .get(usize::from(link.cause))
                    .is_some_and(|beside| *beside)
        };
        for (link, leads) in self.links.iter().zip(&mut leads) {
            let on = cause_of(link).filter(|_| !link.is_shown);
            *leads |= is_beside(link) || on.is_some_and(|on| is_beside(&self.links[on]));
        }
        // What has an ID that is another's is known by that one.
        for at in 0..leads.len() {
            if leads[at] {
                leads[usize::from(self.holders[usize::from(self.links[at].own)])] = true;
            }
        }
        let first = self.visit.first;
        let position = |link: &Link| Position {
            time: first.time + i64::from(link.after),
            event: self.ids[usize::from(link.own)],
        };
        let leading = self.links.iter().zip(leads).filter(|(_, leads)| *leads);
        let mut leading: Vec<Position> = leading.map(|(link, _)| position(link)).collect();
        leading.push(first);
        leading.sort_unstable();
        leading.dedup();
        leading
    }

    /// Takes in what its orders add to chains, as all of its measurements say, or those that
    /// [lead](Growing::leading) there; gives what is added to what they added before.
    pub fn take_orders(&mut self, facts: &[Fact<'_>], of: &OfVisits) -> Rows {
        self.owes = false;
        let mut now = Rows::new();
        let fields = self.fields();
        for n in &of.chains {
            let view = &of.views[*n];
            if view.people && self.agent != Agent::Person {
                continue;
            }
            let led =
                attribution::chains_by(facts, &of.settings, |fact| fields.chain_key(view, fact));
            for (key, [.., ordered, revenue]) in led {
                let mut sums = Sums::default();
                sums.0[3..5].copy_from_slice(&[ordered, revenue]);
                if !sums.is_zero() {
                    now.insert((*n as u16, key, false, self.visit.first.time), sums);
                }
            }
        }
        let mut added = now.clone();
        for (place, sums) in std::mem::replace(&mut self.of_orders, now) {
            added.entry(place).or_default().plus_equals(&sums.negated());
        }
        added.retain(|_, sums| !sums.is_zero());
        added
    }

    /// Gives what has changed since it was last asked: the view's number, the key, whether the browser is
    /// counted, and how much is added.
    pub fn tell(&mut self, of: &OfVisits, mut give: impl FnMut(usize, &str, bool, Sums)) {
        for led in std::mem::take(&mut self.led) {
            self.count_led(led, of);
        }
        for at in self.changed.drain(..) {
            let row = &mut self.rows[usize::from(at)];
            let mut sums = Sums::default();
            for (n, sum) in sums.0[..3].iter_mut().enumerate() {
                *sum = i64::from(row.now[n]) - i64::from(row.said[n]);
            }
            row.said = row.now;
            give(usize::from(row.view), row.key.text(), false, sums);
        }
        let lines = self.lines(of);
        if lines == self.lines {
            return;
        }
        let before = std::mem::replace(&mut self.lines, lines);
        let mut before = before.into_iter();
        for line in &self.lines {
            let old = before.next();
            if old.as_ref() == Some(line) {
                continue;
            }
            if let Some(((n, key, browser), sums)) = old {
                give(usize::from(n), key.text(), browser, sums.negated());
            }
            let ((n, key, browser), sums) = line;
            give(usize::from(*n), key.text(), *browser, *sums);
        }
        for ((n, key, browser), sums) in before {
            give(usize::from(n), key.text(), browser, sums.negated());
        }
    }

    /// What it adds beside the rows of chains.
    fn lines(&self, of: &OfVisits) -> Vec<Line> {
        let fields = self.fields();
        let mut text = String::new();
        let mut lines: Vec<Line> = Vec::with_capacity(self.lines.len().max(of.short.len()));
        // Most keys stay what they were.
        let key_of = |lines: &[Line], n: usize, text: &str| {
            let before = self.lines.get(lines.len());
            let same =
                before.filter(|((view, key, _), _)| usize::from(*view) == n && key.text() == text);
            same.map_or_else(|| Key::of_text(text), |((_, key, _), _)| key.clone())
        };
        let mut funnels = self.funnels.iter().zip(&of.steps);
        for n in &of.short {
            let view = &of.views[*n];
            let taken = !view.people || self.agent == Agent::Person;
            if matches!(view.of, Of::Funnel(_)) {
                let Some((reached, steps)) = funnels.next() else {
                    continue;
                };
                for step in steps.iter().take(reached.len()).filter(|_| taken) {
                    let own = Own {
                        step,
                        ..Own::default()
                    };
                    fields.write_key(view, &own, &mut text);
                    let key = key_of(&lines, *n, &text);
                    lines.push(((*n as u16, key, false), Sums::one(0, 1)));
                }
            } else if taken {
                fields.write_key(view, &Own::default(), &mut text);
                let key = key_of(&lines, *n, &text);
                let mut sums = Sums::default();
                for (at, value) in view.values.iter().enumerate() {
                    match value {
                        Value::Count(None) => sums.0[at] = 1,
                        Value::Measurements => sums.0[at] = i64::from(self.visit.count),
                        Value::Orders => sums.0[at] = self.orders,
                        Value::Revenue | Value::Sum(_) => sums.0[at] = self.revenue,
                        Value::Browsers => {
                            lines.push(((*n as u16, key.clone(), true), Sums::one(at, 1)));
                        }
                        _ => {}
                    }
                }
                for ((view, at, _), count) in of.effects.iter().zip(&self.effects) {
                    if view == n {
                        sums.0[*at] = *count;
                    }
                }
                lines.push(((*n as u16, key, false), sums));
            }
        }
        lines
    }

    /// All that was said of it.
    pub fn said(&self) -> Rows {
        let started = self.visit.first.time;
        let mut said = self.of_orders.clone();
        let mut add = |place, sums: Sums| said.entry(place).or_default().plus_equals(&sums);
        for ((n, key, browser), sums) in &self.lines {
            add((*n, key.clone(), *browser, started), *sums);
        }
        for row in &self.rows {
            let mut sums = [0; SUMS];
            for (sum, said) in sums.iter_mut().zip(row.said) {
                *sum = i64::from(said);
            }
            if !Sums(sums).is_zero() {
                add((row.view, row.key.clone(), false, started), Sums(sums));
            }
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::super::contributions::rows;
    use super::super::story::{Story, stories_of};
    use super::*;
    use crate::attribution::Settings;
    use crate::views::Step;
    use crate::visit::visit_id;

    fn views() -> Rc<[View]> {
        let view = |of: &Of, key: &[Field], values: &[Value]| View {
            of: of.clone(),
            key: key.to_vec(),
            values: values.to_vec(),
            ..View::default()
        };
        let step = |effect: &str, entity: &str| Step {
            effect: effect.into(),
            entity: entity.into(),
        };
        let steps = vec![
            step("shown", "page"),
            step("clicked", ""),
            step("added_to_cart", ""),
        ];
        let clicks = [
            Value::Count(Some("clicked".into())),
            Value::Measurements,
            Value::Orders,
        ];
        let count = [Value::Count(None), Value::Browsers];
        [
            view(&Of::Visits, &[Field::Country, Field::Minute], &count),
            view(
                &Of::Visits,
                &[Field::Entry, Field::Exit, Field::EndReason],
                &clicks,
            ),
            view(&Of::Visits, &[Field::Source, Field::Agent], &count),
            view(&Of::Funnel(steps.clone()), &[Field::Step], &count),
            View {
                people: true,
                ..view(&Of::Funnel(steps), &[Field::Step, Field::Country], &count)
            },
            View {
                people: true,
                entities: vec!["banner".into()],
                ..view(&Of::Chains, &[Field::EntityId], &count)
            },
            view(&Of::Chains, &[Field::Reason], &count),
            view(&Of::Chains, &[Field::Variant, Field::Country], &count),
            view(&Of::Measurements, &[Field::Entity], &count),
            view(&Of::Credits, &[Field::Touch], &count),
        ]
        .into()
    }

    /// Measurements as they arrive, most of them one behind the other.
    fn facts() -> impl Strategy<Value = Vec<Fact<'static>>> {
        let effect = prop_oneof![
            6 => Just("shown"), 3 => Just("clicked"), 1 => Just("added_to_cart"),
        ];
        let effect =
            (effect, 0_u32..60).prop_map(|(effect, n)| if n == 0 { "ordered" } else { effect });
        let entity = prop_oneof![Just("page"), Just("banner"), Just("product"), Just("order")];
        let reason = prop_oneof![
            Just(None),
            Just(Some("campaign:a")),
            Just(Some("recommendation:b"))
        ];
        let one = (
            effect,
            entity,
            reason,
            proptest::option::weighted(0.8, 1_u64..20),
            prop_oneof![30 => 1_u64..5, 1 => Just(60_u64)],
            prop_oneof![8 => Just(0_u64), 1 => 1_u64..12],
            proptest::option::of(0_u8..2),
            prop_oneof![20 => Just(None), 9 => Just(Some("ann")), 1 => Just(Some("bob")), 1 => Just(Some(""))],
        );
        let agent = prop_oneof![Just(Agent::Person), Just(Agent::Robot)];
        (vec(one, 1..60), agent).prop_map(|(all, agent)| {
            let mut time = 1_000;
            let mut facts = Vec::new();
            for (n, one) in (0_u64..).zip(all) {
                let (effect, entity, reason, back, gap, early, word, who) = one;
                time += gap;
                facts.push(Fact {
                    at: Position {
                        time: (time - early) as i64,
                        event: [
                            0,
                            match early {
                                11 => 1,
                                8..=10 => n.saturating_sub(early),
                                _ => n,
                            },
                        ],
                    },
                    effect,
                    entity: if effect == "ordered" { "order" } else { entity },
                    entity_id: Some(Id::Number(n as i64 % 3)),
                    reason,
                    cause: back.map(|back| [0, (n + 2).saturating_sub(back)]),
                    value: Some(n as i64 * 10),
                    variant: word.map(|word| ["a", "b"][usize::from(word)]),
                    country: (n > 0).then_some(if n < 50 { "NL" } else { "BE" }),
                    agent,
                    customer: who.map(Id::Text),
                    ..Fact::default()
                });
            }
            // Of two of one identity only one is kept.
            let mut known = BTreeSet::new();
            facts.retain(|fact: &Fact<'_>| known.insert(fact.at));
            facts
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1_000))]
        #[test]
        fn a_visit_that_grows_says_what_all_of_its_measurements_say(
            arrived in facts(), asks in vec(any::<bool>(), 60), longest in prop_oneof![1_usize..6, Just(256)],
        ) {
            let settings = Settings { longest, ..Settings::default() };
            let views = views();
            let rules = Rules { inactivity: 50, ..Rules::default() };
            let of = OfVisits::new(views.clone(), &settings);
            let mut growing = None;
            let mut said: Rows = BTreeMap::new();
            let mut orders = Vec::new();
            for n in 1..=arrived.len() {
                let last = &arrived[n - 1];
                growing = match growing {
                    None if n == 1 => {
                        Growing::begin(visit_id(b"b", last.at), last.agent, last, &of)
                    }
                    growing => growing.and_then(|mut own: Growing| {
                        own.add(last, &of, &rules).then_some(own)
                    }),
                };
                if !asks[n - 1] {
                    continue;
                }
                let mut facts = arrived[..n].to_vec();
                facts.sort_by_key(|fact| fact.at);
                let visits = stories_of(b"b", &facts, &rules);
                let (visit, facts) = visits[visits.len() - 1];
                let story = Story::new(visit, facts, facts[0].agent, None);
                let attributed = attribution::orders(facts, &[], &settings);
                let mut expected = rows(&views, &story, &settings);
                expected.retain(|_, sums| !sums.is_zero());
                let mut add = |place, sums: Sums| {
                    said.entry(place).or_insert_with(Sums::default).plus_equals(&sums);
                };
                if let Some(own) = &mut growing {
                    prop_assert_eq!(own.visit(), visit);
                    own.tell(&of, |n, key, browser, sums| {
                        add((n as u16, Key::of_text(key), browser, visit.first.time), sums);
                    });
                    if own.owes() {
                        let leading = own.leading(&of);
                        let leads = |fact: &Fact<'_>| leading.contains(&fact.at);
                        let leading: Vec<_> = facts.iter().copied().filter(leads).collect();
                        own.take_orders(&leading, &of).into_iter().for_each(|(place, sums)| add(place, sums));
                        orders = attribution::orders(&leading, &[], &settings).orders;
                    }
                    said.retain(|_, sums| !sums.is_zero());
                    prop_assert_eq!(&said, &expected);
                    prop_assert_eq!(&orders, &attributed.orders);
                    prop_assert_eq!(own.leaves(), Left::of(facts, &settings));
                } else {
                    // From all at once.
                    growing = Growing::of(visit, facts[0].agent, facts, &of);
                    if let Some(own) = &mut growing {
                        own.tell(&of, |_, _, _, _| ());
                        own.take_orders(facts, &of);
                    }
                    said.clone_from(&expected);
                    orders = attributed.orders;
                }
                if let Some(own) = &growing {
                    let mut own = own.said();
                    own.retain(|_, sums| !sums.is_zero());
                    prop_assert_eq!(&own, &expected);
                }
            }
        }
    }

    #[test]
    fn what_cannot_be_followed_is_refused() {
        let of = OfVisits::new(views(), &Settings::default());
        let rules = Rules::default();
        let fact = |time: i64, effect: &'static str, cause: Option<u64>| Fact {
            at: Position {
                time,
                event: [0, time as u64],
            },
            effect,
            entity: if effect == "ordered" {
                "order"
            } else {
                "banner"
            },
            cause: cause.map(|id| [0, id]),
            ..Fact::default()
        };
        let person = Agent::Person;
        let begun = || Growing::begin([0, 1], person, &fact(5, "shown", None), &of).unwrap();
        assert!(begun().add(&fact(6, "shown", None), &of, &rules));
        assert!(!begun().add(&fact(4, "shown", None), &of, &rules));
        let mut growing = begun();
        assert!(growing.add(&fact(6, "ordered", None), &of, &rules) && growing.owes());
        assert!(!begun().add(&fact(5 + 31 * 60_000, "shown", None), &of, &rules));
        assert!(Growing::begin([0, 1], person, &fact(5, "ordered", None), &of).is_none());
        // An ID that comes twice is that of the first.
        let twice = |time| Fact {
            at: Position {
                time,
                event: [0, 7],
            },
            ..fact(time, "shown", None)
        };
        let mut growing = begun();
        assert!(growing.add(&twice(9), &of, &rules));
        assert!(growing.add(&twice(10), &of, &rules));
        assert!(!growing.add(&twice(8), &of, &rules));
        // Causes that come late were waited for.
        let mut growing = begun();
        assert!(growing.add(&fact(9, "clicked", Some(8)), &of, &rules));
        assert!(growing.add(&fact(8, "shown", Some(7)), &of, &rules));
        growing.tell(&of, |_, _, _, _| ());
        let reason = Some("campaign:a");
        let root = Fact {
            reason,
            ..fact(7, "shown", None)
        };
        assert!(growing.add(&root, &of, &rules));
        let mut shown_and_clicked = Vec::new();
        growing.tell(&of, |n, key, _, sums| {
            if n == 6 {
                shown_and_clicked.push((key.to_owned(), sums.0[..2].to_vec()));
            }
        });
        assert_eq!(shown_and_clicked, [("campaign:a".to_owned(), vec![1, 1])]);
    }
}
