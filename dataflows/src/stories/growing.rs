//! A visit that grows: what it adds to views of visits, brought up to date a measurement at a time,
//! where [`rows`](super::contributions::rows) looks at all of them. It says the same.
//!
//! Nearly all that is said of a visit are sums over its measurements, in whatever order they come. What
//! is not, or is rare, is not followed here, as a measurement that begins the visit anew or another one:
//! then [`Growing::add`] refuses, and the visit is told of from all that is kept of it. So this is a
//! cache, of visits that have grown of late; nothing but time is lost with it.

use std::cell::RefCell;
use std::mem::offset_of;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::chains::{Chains, Taken};
use super::contributions::{Fields, Own, Rows, is_step, step_name};
use super::kinds::Kinds;
use super::steps::Steps;
use crate::attribution::{self, PastTouch, customer, entry_touch, is_cart, is_entry, is_order};
use crate::fact::{Agent, Fact, Id};
use crate::near;
use crate::views::{Field, Key, Of, Step, Sums, Value, View};
use crate::visit::{Position, Rules, Visit};

/// A view of chains.
pub(super) struct OfChains {
    pub view: usize,
    /// Whether its rows are by IDs of entities, among others.
    pub by_id: bool,
}

/// A view of visits, or a funnel.
struct Short {
    view: usize,
    /// How the rows of a funnel name its steps.
    steps: Vec<String>,
    /// How many lines it has, if it is no funnel.
    lines: usize,
    /// What its lines follow from, beside what never changes.
    follows: Changes,
}

impl Short {
    fn new(n: usize, view: &View) -> Short {
        let (steps, mut follows): (&[Step], _) = match &view.of {
            Of::Funnel(steps) => (steps, Changes::STEPS),
            _ => (&[], Changes::NONE),
        };
        view.key
            .iter()
            .for_each(|field| follows.add(Changes::of_field(*field)));
        view.values
            .iter()
            .for_each(|value| follows.add(Changes::of_value(value)));
        let steps = steps.iter().enumerate();
        Short {
            view: n,
            steps: steps.map(|(n, step)| step_name(n, step)).collect(),
            lines: 1 + view
                .values
                .iter()
                .filter(|v| **v == Value::Browsers)
                .count(),
            follows,
        }
    }

    /// How many lines say what it has of a visit that has come so far through it.
    fn lines(&self, view: &View, reached: usize) -> usize {
        match view.of {
            Of::Funnel(_) => reached,
            _ => self.lines,
        }
    }
}

/// What changes of a visit, a bit each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Changes(u8);

impl Changes {
    const NONE: Changes = Changes(0);
    const COUNTRY: Changes = Changes(1);
    const ENTRY: Changes = Changes(1 << 1);
    const EXIT: Changes = Changes(1 << 2);
    const SOURCE: Changes = Changes(1 << 3);
    const MEASUREMENTS: Changes = Changes(1 << 4);
    const EFFECTS: Changes = Changes(1 << 5);
    const ORDERS: Changes = Changes(1 << 6);
    const STEPS: Changes = Changes(1 << 7);

    fn add(&mut self, others: Changes) {
        self.0 |= others.0;
    }

    fn has_any(self, of: Changes) -> bool {
        self.0 & of.0 != 0
    }

    fn of_field(field: Field) -> Changes {
        match field {
            Field::Country => Changes::COUNTRY,
            Field::Entry => Changes::ENTRY,
            Field::Exit => Changes::EXIT,
            Field::Source => Changes::SOURCE,
            // Its steps are a funnel's.
            Field::Step => Changes::NONE,
            Field::Agent | Field::Hour | Field::Minute | Field::EndReason => Changes::NONE,
            // Visits have none of these.
            Field::Effect
            | Field::Entity
            | Field::EntityId
            | Field::Reason
            | Field::Variant
            | Field::Prefix
            | Field::Touch => Changes::NONE,
        }
    }

    fn of_value(value: &Value) -> Changes {
        match value {
            Value::Measurements => Changes::MEASUREMENTS,
            Value::Count(Some(_)) => Changes::EFFECTS,
            Value::Orders | Value::Revenue | Value::Sum(_) => Changes::ORDERS,
            // Visits have no usual.
            Value::Count(None) | Value::Browsers | Value::Usual => Changes::NONE,
        }
    }
}

/// The views of visits, by what they ask of a visit that grows.
pub struct OfVisits {
    pub(super) views: Rc<[View]>,
    /// Those of visits and of funnels, whose rows are made anew each time.
    short: Vec<Short>,
    pub(super) chains: Vec<OfChains>,
    /// What counts measurements of an effect: the view, the value, the effect.
    effects: Vec<(usize, usize, String)>,
    /// Fields of the keys of chains that may change while a visit grows.
    changing: Vec<Field>,
    /// What is said of its orders, or is a field of the keys of credits, and may change.
    of_orders: Vec<Field>,
    pages: bool,
    /// What is shown in visits.
    pub(super) kinds: RefCell<Kinds>,
    pub(super) settings: attribution::Settings,
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
        let changes = [Field::Country, Field::Entry, Field::Exit, Field::Source];
        let by =
            |those: &[usize], field: &Field| those.iter().any(|n| views[*n].key.contains(field));
        let credits = those(|of| *of == Of::Credits);
        let changing = changes.iter().filter(|field| by(&chains, field));
        let of_orders = changes
            .iter()
            .filter(|field| **field == Field::Country || by(&credits, field));
        let of_pages = [Field::Entry, Field::Exit, Field::Source];
        let of_short = |view: usize| Short::new(view, &views[view]);
        let of_chains = |view: usize| {
            let by_id = views[view].key.contains(&Field::EntityId);
            OfChains { view, by_id }
        };
        OfVisits {
            pages: of_pages.iter().any(|field| by(&short, field))
                || (changing.clone().chain(of_orders.clone()))
                    .any(|field| of_pages.contains(field)),
            changing: changing.copied().collect(),
            of_orders: of_orders.copied().collect(),
            short: short.into_iter().map(of_short).collect(),
            chains: chains.into_iter().map(of_chains).collect(),
            effects,
            kinds: RefCell::default(),
            settings: settings.clone(),
            views,
        }
    }

    /// Whether any view counts the chains of visits of this kind of agent.
    fn counts_chains(&self, agent: Agent) -> bool {
        let mut views = self.chains.iter().map(|chain| &self.views[chain.view]);
        views.any(|view| view.counts_agent(agent))
    }

    /// The views of visits and the funnels that count visits of this kind of agent.
    fn short(&self, agent: Agent) -> impl Iterator<Item = (&Short, &View)> {
        let all = self.short.iter().map(|own| (own, &self.views[own.view]));
        all.filter(move |(_, view)| view.counts_agent(agent))
    }
}

/// Whether it matters what has led to a measurement, whoever sent it.
fn asks_for_chains(fact: &Fact<'_>) -> bool {
    is_cart(fact) || is_order(fact)
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

/// What a visit is, but for its chains. Up to the first reason lies what each measurement needs.
#[repr(C)]
struct Outline {
    started: i64,
    agent: Agent,
    /// Its first measurement that has a country.
    sender: Option<(Position, Box<str>)>,
    first_reason: Option<Box<str>>,
    entry: Option<Page>,
    exit: Option<Page>,
}

impl Outline {
    /// The fields of rows that are the visit's.
    pub fn fields(&self) -> Fields<'_> {
        let entry = self.entry.as_ref();
        let reason = entry.map_or(&self.first_reason, |page| &page.reason);
        Fields {
            country: self.sender.as_ref().map_or("", |(_, country)| country),
            agent: self.agent,
            started: self.started,
            entry: entry.map_or("", |page| &page.id).into(),
            exit: self.exit.as_ref().map_or("", |page| &page.id).into(),
            source: reason.as_deref().unwrap_or("direct"),
            ended: None,
        }
    }
}

/// What a visit adds to views, as a row says it.
struct Line {
    /// The view, the key, whether its browser is counted.
    place: (u16, Key, bool),
    sums: Sums,
}

impl Line {
    fn new(view: usize, key: &str, browser: bool, sums: Sums) -> Line {
        let place = (view as u16, Key::of_text(key), browser);
        Line { place, sums }
    }

    fn is(&self, view: usize, key: &str, browser: bool) -> bool {
        let (own, text, of) = &self.place;
        usize::from(*own) == view && *of == browser && text.text() == key
    }

    /// Gives that it is no more.
    fn take_back(&self, give: &mut impl FnMut(usize, &str, bool, Sums)) {
        let (view, key, browser) = &self.place;
        give(
            usize::from(*view),
            key.text(),
            *browser,
            self.sums.negated(),
        );
    }
}

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
    /// In place, if it is of 23 bytes at most.
    customer: Option<SmolStr>,
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
        let customer = self.customer.as_ref().filter(|_| !self.several);
        customer.map(|id| id.as_str().into())
    }
}

/// A visit that grows: some 25 bytes a measurement, of which it has at most 30,000, and its rows. One of
/// which nobody asks what has led to what, as of most robots, may have any number, for nothing.
///
/// It takes a dozen lines of memory, of which each measurement needs half: these come first here, and those
/// of its chains.
#[repr(C)]
pub struct Growing {
    visit: Visit,
    named: Named,
    /// By the effects that views count.
    effects: Vec<i64>,
    /// Of each funnel.
    funnels: Vec<Steps>,
    carts: usize,
    orders: i64,
    /// Whether it is to be told what has led to its orders.
    owes: bool,
    /// What has changed since it was told.
    changed: Changes,
    own: Outline,
    /// What has led to what, if anybody asks.
    chains: Option<Chains>,
    /// What was said beside chains.
    lines: Vec<Line>,
    /// The values of its orders, and where the last one is.
    revenue: i64,
    ordered: Option<Position>,
    /// What orders add to chains.
    of_orders: Rows,
    /// Where its first page is, and what that leaves for later visits.
    first_page: Option<(Position, Option<PastTouch>)>,
    is_written: bool,
}

impl Growing {
    /// The visit of this ID and this kind of agent that begins with this measurement. None if it is not
    /// followed.
    pub fn begin(id: [u64; 2], agent: Agent, fact: &Fact<'_>, of: &OfVisits) -> Option<Growing> {
        if is_order(fact) {
            return None;
        }
        let visit = Visit::begin(fact.at, id);
        Growing::of(visit, agent, std::slice::from_ref(fact), of)
    }

    /// The visit of these measurements, all that there are.
    pub fn of(visit: Visit, agent: Agent, facts: &[Fact<'_>], of: &OfVisits) -> Option<Growing> {
        let mut growing = Growing::new(visit, agent, facts.first()?, of);
        if of.counts_chains(agent) || facts.iter().any(asks_for_chains) {
            growing.chains = Some(Chains::new());
        }
        facts
            .iter()
            .all(|fact| growing.take(fact, of))
            .then_some(growing)
    }

    fn new(visit: Visit, agent: Agent, fact: &Fact<'_>, of: &OfVisits) -> Growing {
        let is_funnel = |(_, view): &(&Short, &View)| matches!(view.of, Of::Funnel(_));
        Growing {
            visit,
            own: Outline {
                agent,
                started: visit.first.time,
                sender: None,
                first_reason: fact.reason.map(Box::from),
                entry: None,
                exit: None,
            },
            effects: vec![0; of.effects.len()],
            funnels: of
                .short(agent)
                .filter(is_funnel)
                .map(|_| Steps::default())
                .collect(),
            chains: None,
            carts: 0,
            lines: Vec::new(),
            orders: 0,
            revenue: 0,
            ordered: None,
            of_orders: Rows::new(),
            owes: false,
            changed: Changes::NONE,
            first_page: None,
            is_written: false,
            named: Named::default(),
        }
    }

    /// Brings near what another measurement needs of it,
    pub fn bring_needed(&self) {
        let own = offset_of!(Growing, own) + offset_of!(Outline, first_reason);
        near::bring_part(self, 0..own);
        let chains = offset_of!(Growing, chains);
        near::bring_part(self, chains..chains + Chains::NEEDED);
    }

    /// and of what it points to.
    pub fn bring(&self) {
        self.funnels.iter().for_each(near::bring_all);
        if let Some(chains) = &self.chains {
            chains.bring();
        }
    }

    /// Brings near what it points to that is needed to tell of it.
    pub fn bring_told(&self) {
        near::bring_list(&self.lines);
        let pages = [&self.own.entry, &self.own.exit];
        for page in pages.into_iter().flatten() {
            near::bring_list(page.id.as_bytes());
        }
        if let Some(chains) = &self.chains {
            chains.bring_told();
        }
    }

    /// What was said of it has been written down, for a snapshot.
    pub fn note_written(&mut self) {
        self.is_written = true;
    }

    /// Whether nothing was said of it since that was written down, and nothing is to be said.
    pub fn is_written(&self) -> bool {
        self.is_written && self.changed == Changes::NONE
    }

    /// Some bytes more or less that are kept of it.
    pub fn bytes(&self) -> usize {
        let lines = self.lines.capacity() * size_of::<Line>();
        size_of::<Growing>() + lines + self.chains.as_ref().map_or(0, Chains::bytes)
    }

    /// The visit so far.
    pub fn visit(&self) -> Visit {
        self.visit
    }

    /// The kind of agent.
    pub fn agent(&self) -> Agent {
        self.own.agent
    }

    /// Whether it has orders.
    pub fn has_ordered(&self) -> bool {
        self.orders > 0
    }

    /// What it leaves for later visits of its browser and its customer, if that is all.
    pub fn leaves(&self) -> Left {
        let first = self.first_page.as_ref();
        Left {
            entry: first.and_then(|(_, touch)| touch.clone()),
            customer: self.named.only(),
            more: self.leaves_more(),
        }
    }

    /// Whether it leaves more than the touch of its first page, to one customer.
    pub fn leaves_more(&self) -> bool {
        self.named.several || self.carts > 0 || self.orders > 0
    }

    /// Takes another measurement. False if it is not of this visit, or if it cannot be told any more
    /// what the visit adds; what was said of it still holds.
    pub fn add(&mut self, fact: &Fact<'_>, of: &OfVisits, rules: &Rules) -> bool {
        if fact.at <= self.visit.first || !self.visit.takes(fact.at.time, rules) {
            return false;
        }
        let last = self.visit.last;
        self.visit.take(fact.at.time.max(last));
        self.take(fact, of)
    }

    fn take(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        for ((.., effect), count) in of.effects.iter().zip(&mut self.effects) {
            if effect == fact.effect {
                *count += 1;
                self.changed.add(Changes::EFFECTS);
            }
        }
        self.changed.add(Changes::MEASUREMENTS);
        if is_order(fact) {
            self.changed.add(Changes::ORDERS);
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
        let taken = match &mut self.chains {
            Some(chains) => chains.take(fact, self.own.started, || self.own.fields(), of),
            None => (!asks_for_chains(fact)).then_some(Taken::Grows),
        };
        self.owes |= taken == Some(Taken::Meets) && self.orders > 0;
        fields && funnels && taken.is_some() && self.carts <= of.settings.most
    }

    /// What it says of the visit's own fields.
    fn take_fields(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        let mut holds = true;
        let mut change = |fields: &[Field]| {
            for field in fields {
                self.changed.add(Changes::of_field(*field));
            }
            let any = |of: &[Field]| fields.iter().any(|field| of.contains(field));
            let of_chains = self
                .chains
                .as_ref()
                .is_some_and(|chains| !chains.is_empty());
            let in_rows = of_chains || !self.of_orders.is_empty();
            holds &= !(any(&of.changing) && in_rows);
            self.owes |= any(&of.of_orders) && self.orders > 0;
        };
        if let Some(country) = fact.country
            && self.own.sender.as_ref().is_none_or(|(at, _)| fact.at < *at)
        {
            self.own.sender = Some((fact.at, country.into()));
            change(&[Field::Country]);
        }
        if of.pages && fact.entity == "page" {
            if self.own.entry.as_ref().is_none_or(|page| fact.at < page.at) {
                self.own.entry = Some(Page::of(fact));
                change(&[Field::Entry, Field::Source]);
            }
            if self.own.exit.as_ref().is_none_or(|page| fact.at > page.at) {
                self.own.exit = Some(Page::of(fact));
                change(&[Field::Exit]);
            }
        }
        holds
    }

    /// How far it brings the visit through funnels.
    fn take_steps(&mut self, fact: &Fact<'_>, of: &OfVisits) -> bool {
        let funnels = of
            .short(self.own.agent)
            .filter_map(|(_, view)| match &view.of {
                Of::Funnel(steps) => Some(steps),
                _ => None,
            });
        funnels.zip(&mut self.funnels).all(|(steps, reached)| {
            let before = reached.len();
            let holds = reached.take(fact.at, steps.len(), |step| is_step(fact, &steps[step]));
            if reached.len() != before {
                self.changed.add(Changes::STEPS);
            }
            holds
        })
    }

    /// The fields of rows that are the visit's.
    pub fn fields(&self) -> Fields<'_> {
        self.own.fields()
    }

    /// Whether it is to be told what has led to its orders, or told anew: then it must
    /// [take that in](Growing::take_orders).
    pub fn owes(&self) -> bool {
        self.owes
    }

    /// Where the measurements are, in order, that say [what has led](Chains::leading) to its orders and carts,
    /// the fields that these have, and the touches that it leaves.
    pub fn leading(&mut self, of: &OfVisits) -> Vec<Position> {
        let mut leading = vec![self.visit.first];
        leading.extend(self.own.sender.as_ref().map(|(at, _)| *at));
        leading.extend(self.own.entry.as_ref().map(|page| page.at));
        leading.extend(self.first_page.as_ref().map(|(at, _)| *at));
        if let Some(chains) = &mut self.chains {
            let visit = (self.visit.first.time, self.orders > 0);
            chains.leading(&mut leading, visit, of.settings.longest);
        }
        leading.sort_unstable();
        leading.dedup();
        leading
    }

    /// The same, if all that is to be said of it when it is sealed follows from them, but for its rows: not
    /// if what it leaves may be of several customers.
    pub fn saying_last(&mut self, of: &OfVisits) -> Option<Box<[Position]>> {
        (!self.named.several).then(|| self.leading(of).into())
    }

    /// Takes in what its orders add to chains, as all of its measurements say, or those that
    /// [lead](Growing::leading) there; gives what is added to what they added before.
    pub fn take_orders(&mut self, facts: &[Fact<'_>], of: &OfVisits) -> Rows {
        self.owes = false;
        self.is_written = false;
        let mut now = Rows::new();
        let fields = self.fields();
        for chain in &of.chains {
            let view = &of.views[chain.view];
            if !view.counts_agent(self.own.agent) {
                continue;
            }
            let led =
                attribution::chains_by(facts, &of.settings, |fact| fields.chain_key(view, fact));
            for (key, [.., ordered, revenue]) in led {
                let mut sums = Sums::default();
                sums.0[3..5].copy_from_slice(&[ordered, revenue]);
                if !sums.is_zero() {
                    let place = (chain.view as u16, key, false, self.visit.first.time);
                    now.insert(place, sums);
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
        self.is_written = false;
        if let Some(chains) = &mut self.chains {
            chains.tell(of, |n, key, sums| give(n, key, false, sums));
        }
        let mut lines = std::mem::take(&mut self.lines);
        let mut told = 0;
        let changed = std::mem::replace(&mut self.changed, Changes::NONE);
        let mut skips = !lines.is_empty();
        let fields = self.fields();
        let mut text = String::new();
        let mut funnels = self.funnels.iter();
        for (short, view) in of.short(self.own.agent) {
            let reached = match view.of {
                Of::Funnel(_) => funnels.next().map_or(0, Steps::len),
                _ => 0,
            };
            if skips && !changed.has_any(short.follows) {
                told += short.lines(view, reached);
                continue;
            }
            // A funnel may have more lines than it had: then all behind them lie elsewhere.
            skips &= !short.follows.has_any(Changes::STEPS);
            let behind = told + short.lines(view, reached);
            let of_short = (short, view, reached);
            self.each_line(of, of_short, &fields, &mut text, |key, browser, sums| {
                let n = short.view;
                match lines.get_mut(told) {
                    Some(line) if line.is(n, key, browser) => {
                        let before = std::mem::replace(&mut line.sums, sums);
                        if sums != before {
                            let mut added = before.negated();
                            added.plus_equals(&sums);
                            give(n, key, browser, added);
                        }
                    }
                    other => {
                        let new = Line::new(n, key, browser, sums);
                        match other {
                            Some(line) => std::mem::replace(line, new).take_back(&mut give),
                            None => lines.push(new),
                        }
                        give(n, key, browser, sums);
                    }
                }
                told += 1;
            });
            debug_assert_eq!(told, behind, "view {}", short.view);
        }
        lines
            .drain(told..)
            .for_each(|line| line.take_back(&mut give));
        self.lines = lines;
    }

    /// Gives what it adds to a view of visits, or to a funnel in which it has reached so many steps, always
    /// in the same order. The texts of keys are written to `text`.
    fn each_line(
        &self,
        of: &OfVisits,
        (short, view, reached): (&Short, &View, usize),
        fields: &Fields<'_>,
        text: &mut String,
        mut give: impl FnMut(&str, bool, Sums),
    ) {
        if matches!(view.of, Of::Funnel(_)) {
            for step in short.steps.iter().take(reached) {
                let own = Own {
                    step,
                    ..Own::default()
                };
                fields.write_key(view, &own, text);
                give(text, false, Sums::one(0, 1));
            }
            return;
        }
        fields.write_key(view, &Own::default(), text);
        let mut sums = Sums::default();
        for (at, value) in view.values.iter().enumerate() {
            match value {
                Value::Count(None) => sums.0[at] = 1,
                Value::Measurements => sums.0[at] = i64::from(self.visit.count),
                Value::Orders => sums.0[at] = self.orders,
                Value::Revenue | Value::Sum(_) => sums.0[at] = self.revenue,
                Value::Browsers => give(text, true, Sums::one(at, 1)),
                _ => {}
            }
        }
        for ((view, at, _), count) in of.effects.iter().zip(&self.effects) {
            if *view == short.view {
                sums.0[*at] = *count;
            }
        }
        give(text, false, sums);
    }

    /// All that was said of it.
    pub fn said(&self) -> Rows {
        let started = self.visit.first.time;
        let mut said = self.of_orders.clone();
        let mut add = |place, sums: Sums| said.entry(place).or_default().plus_equals(&sums);
        for line in &self.lines {
            let (n, key, browser) = line.place.clone();
            add((n, key, browser, started), line.sums);
        }
        if let Some(chains) = &self.chains {
            chains.said(|n, key, sums| add((n, key.clone(), false, started), sums));
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
            // Of which nothing ever changes, behind what does.
            view(&Of::Visits, &[Field::Agent], &count),
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
            proptest::option::of(0_u8..3),
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
                    variant: word.map(|word| ["a", "b", ""][usize::from(word)]),
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
            chains in prop::bool::weighted(0.8),
        ) {
            let settings = Settings { longest, ..Settings::default() };
            let views = views().iter().filter(|view| chains || view.of != Of::Chains).cloned().collect::<Rc<[View]>>();
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
                    said.entry(place).or_default().plus_equals(&sums);
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
                    // What is said of it in the end follows from the measurements that lead there.
                    if let Some(leading) = own.saying_last(&of) {
                        let leading = facts.iter().filter(|fact| leading.contains(&fact.at));
                        let leading: Vec<_> = leading.copied().collect();
                        let last = |facts: &[Fact<'_>]| {
                            let story = Story::new(visit, facts, facts[0].agent, None);
                            let traced = attribution::trace(facts, &settings);
                            let fields = Fields::of(&story);
                            let fields = (fields.country.to_owned(), fields.agent, fields.source.to_owned());
                            (fields, traced.orders, traced.touches)
                        };
                        let (fields, orders, touches) = last(&leading);
                        // All of it is the one customer's.
                        let customer = own.leaves().customer.filter(|_| !touches.is_empty());
                        let of_customers: Vec<_> = customer.map(|id| (id, touches.clone())).into_iter().collect();
                        prop_assert_eq!(of_customers, attribution::trace(facts, &settings).of_customers);
                        prop_assert_eq!((fields, orders, touches), last(facts));
                    }
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
    fn where_a_chain_is_cut_an_id_that_comes_twice_is_still_that_of_the_first() {
        let settings = Settings {
            longest: 2,
            ..Settings::default()
        };
        let of = OfVisits::new(views(), &settings);
        let facts = [
            (1, "shown", "page", None),
            (7, "shown", "page", None),
            // Led on by the first that has this ID, but no chain goes on to that.
            (2, "clicked", "page", Some(7)),
            (3, "shown", "banner", Some(2)),
            // Lost against the one before: nothing was done with it.
            (7, "shown", "banner", Some(2)),
            (6, "ordered", "order", Some(3)),
        ];
        let fact = |(time, (id, effect, entity, cause)): (i64, (u64, _, _, Option<u64>))| Fact {
            at: Position {
                time,
                event: [0, id],
            },
            effect,
            entity,
            entity_id: Some(Id::Number(time)),
            cause: cause.map(|id| [0, id]),
            value: Some(100),
            ..Fact::default()
        };
        let facts: Vec<Fact<'_>> = (1..).zip(facts).map(fact).collect();
        let rules = Rules::default();
        let mut growing = Growing::begin([0, 1], Agent::Person, &facts[0], &of).unwrap();
        for fact in &facts[1..] {
            assert!(growing.add(fact, &of, &rules));
        }
        growing.tell(&of, |_, _, _, _| ());
        let leading = growing.leading(&of);
        let leading = facts.iter().filter(|fact| leading.contains(&fact.at));
        let leading: Vec<Fact<'_>> = leading.copied().collect();
        let orders = |facts: &[Fact<'_>]| attribution::orders(facts, &[], &settings).orders;
        assert_eq!(orders(&leading), orders(&facts));
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
        // An ID that comes twice is that of the first; which one that is must not change once it was asked.
        let twice = |time| Fact {
            at: Position {
                time,
                event: [0, 7],
            },
            ..fact(time, "shown", None)
        };
        let mut growing = begun();
        assert!(growing.add(&twice(9), &of, &rules));
        assert!(growing.add(&twice(11), &of, &rules));
        assert!(growing.add(&twice(8), &of, &rules));
        assert!(growing.add(&fact(12, "clicked", Some(7)), &of, &rules));
        growing.tell(&of, |_, _, _, _| ());
        assert!(growing.add(&twice(10), &of, &rules));
        assert!(!growing.add(&twice(7), &of, &rules));
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
            if of.views[n].key == [Field::Reason] {
                shown_and_clicked.push((key.to_owned(), sums.0[..2].to_vec()));
            }
        });
        assert_eq!(shown_and_clicked, [("campaign:a".to_owned(), vec![1, 1])]);
    }
}
