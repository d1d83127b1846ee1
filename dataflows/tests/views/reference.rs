//! What ought to be said: plain walks over everything that has arrived before a tick, from the
//! beginning, each time anew. The rule of each view stands in [`rows`].

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use visitflow_dataflows::attribution::{self, Attributed, ChainKey, Order, Past, Settings};
use visitflow_dataflows::fact::{Agent, Fact};
use visitflow_dataflows::views::{Field, Of, STEP, Value, View};
use visitflow_dataflows::visit::Tick;

use super::arrivals::ROBOTS_OVER;
use super::shop::arrival::{Arrival, BEGIN};
use super::shop::walk::{Identity, Walked, accepted, visits};

/// A visit, and what is said of it.
#[derive(Clone, Debug)]
pub struct Visit<'a> {
    pub browser: u8,
    pub id: [u64; 2],
    pub seal: Tick,
    pub reason: &'static str,
    pub agent: Agent,
    pub members: Vec<&'a Arrival>,
    /// What the browser's visits have left that were sealed before it.
    pub past: Past,
    /// What those of each customer have left, on whatever browser.
    pub of_customers: BTreeMap<Box<str>, Past>,
}

impl Visit<'_> {
    pub fn facts(&self) -> Vec<Fact<'static>> {
        self.members.iter().map(|arrival| arrival.fact()).collect()
    }

    pub fn started(&self) -> i64 {
        self.members[0].time
    }

    /// The first with a country, or else the first.
    pub fn sender(&self) -> &Arrival {
        let placed = self.members.iter().find(|a| a.country().is_some());
        placed.unwrap_or(&self.members[0])
    }

    pub fn country(&self) -> &'static str {
        self.sender().country().unwrap_or_default()
    }

    pub fn is_sealed(&self, at: Tick) -> bool {
        self.seal < at
    }

    /// An order is credited over what its browser's visits and those of the customer that it names have
    /// left.
    pub fn orders(&self) -> Vec<Order> {
        let mut orders = self.attributed(&self.past).orders;
        for (n, order) in orders.iter_mut().enumerate() {
            let customer = order.customer_id.as_deref();
            if let Some(past) = customer.and_then(|id| self.of_customers.get(id)) {
                *order = self.attributed(&self.past.merged(past)).orders.remove(n);
            }
        }
        orders
    }

    fn attributed(&self, past: &Past) -> Attributed {
        attribution::orders(&self.facts(), past.touches(), &Settings::default())
    }

    fn ordered(&self) -> impl Iterator<Item = &&Arrival> {
        self.members.iter().filter(|a| is_order(a))
    }

    fn pages(&self) -> impl DoubleEndedIterator<Item = &&Arrival> {
        self.members.iter().filter(|a| a.entity == "page")
    }

    fn source(&self) -> &'static str {
        let first = self.pages().next().unwrap_or(&self.members[0]);
        first.reason.unwrap_or("direct")
    }
}

fn is_order(arrival: &Arrival) -> bool {
    (arrival.effect, arrival.entity) == ("ordered", "order")
}

/// The visits of a set.
fn walk<'a>(set: &BTreeMap<Identity, &'a Arrival>) -> Vec<Visit<'a>> {
    let visit = |Walked {
                     id,
                     seal,
                     reason,
                     members,
                 }| {
        let first: &Arrival = members[0];
        Visit {
            browser: first.browser,
            id,
            seal,
            reason,
            agent: first.agent(),
            members,
            past: Past::default(),
            of_customers: BTreeMap::new(),
        }
    };
    visits(set).into_iter().map(visit).collect()
}

/// What is known at a tick.
#[derive(Default)]
pub struct Known<'a> {
    pub accepted: BTreeMap<Identity, &'a Arrival>,
    pub visits: Vec<Visit<'a>>,
    /// Browsers that are robots, by how many measurements they have open.
    pub robots: BTreeSet<u8>,
    /// What robots have measured: views of people do not count it.
    by_robots: BTreeSet<Identity>,
}

/// What is known at each tick that is asked for.
pub struct Reference<'a> {
    arrivals: &'a [Arrival],
    steps: BTreeMap<Tick, Rc<Known<'a>>>,
    /// The agents of sealed visits: as of their seals.
    sealed: BTreeMap<[u64; 2], Agent>,
}

impl<'a> Reference<'a> {
    /// Of the end of each step until `until`. A browser becomes a robot at the end of a `period`, at the
    /// latest; of a step, if it has ordered something in it.
    pub fn new(arrivals: &'a [Arrival], until: Tick, period: Tick) -> Reference<'a> {
        let mut reference = Reference {
            arrivals,
            steps: BTreeMap::new(),
            sealed: BTreeMap::new(),
        };
        let mut last: Rc<Known<'a>> = Rc::default();
        // Whether anything has come since browsers were looked at.
        let mut unseen = false;
        for at in (BEGIN - STEP..=until).step_by(STEP as usize) {
            let within = |tick: Tick| (at - STEP..at).contains(&tick);
            let came = arrivals.iter().any(|arrival| within(arrival.tick));
            let ends = at.is_multiple_of(period);
            if came || last.visits.iter().any(|visit| within(visit.seal)) || ends && unseen {
                last = Rc::new(reference.next(at, &last, ends));
                unseen = !ends;
            }
            reference.steps.insert(at, last.clone());
        }
        reference
    }

    /// What is known at the end of a step, after what was known at the one before.
    fn next(&mut self, at: Tick, last: &Known<'a>, ends: bool) -> Known<'a> {
        let mut known = self.known_with(at, &last.robots);
        for visit in known.visits.iter().filter(|visit| visit.is_sealed(at)) {
            // A visit that is sealed at a tick is of what its browser was then.
            self.sealed.entry(visit.id).or_insert(visit.agent);
        }
        // What a robot measures while it is known to be one.
        let mut by_robots = last.by_robots.clone();
        let news = known.accepted.iter();
        let news = news.filter(|(identity, _)| !last.accepted.contains_key(*identity));
        let news: Vec<(Identity, &Arrival)> = news.map(|(identity, a)| (*identity, *a)).collect();
        let of_robots = news.iter().filter(|((b, _), _)| last.robots.contains(b));
        by_robots.extend(of_robots.map(|(identity, _)| *identity));
        let mut robots = BTreeSet::new();
        for browser in 0..4 {
            let own = |visit: &&Visit<'_>| visit.browser == browser && !visit.is_sealed(at);
            let open = known.visits.iter().filter(own);
            let open: Vec<&Arrival> = open.flat_map(|visit| visit.members.clone()).collect();
            let ordered = |(_, a): &(Identity, &Arrival)| a.browser == browser && is_order(a);
            let looked_at = ends || news.iter().any(ordered);
            let many = looked_at && open.len() > ROBOTS_OVER as usize;
            let was = last.robots.contains(&browser);
            if many && !was {
                by_robots.extend(open.iter().map(|a| (browser, a.at())));
            }
            if many || was && !open.is_empty() {
                robots.insert(browser);
            }
        }
        let robot = |visit: &&mut Visit<'_>| robots.contains(&visit.browser);
        let open = known.visits.iter_mut().filter(|visit| !visit.is_sealed(at));
        open.filter(robot)
            .for_each(|visit| visit.agent = Agent::Robot);
        Known {
            robots,
            by_robots,
            ..known
        }
    }

    fn known_with(&self, at: Tick, robots: &BTreeSet<u8>) -> Known<'a> {
        let accepted = accepted(self.arrivals, at);
        let mut visits = walk(&accepted);
        for visit in &mut visits {
            if let Some(agent) = self.sealed.get(&visit.id).filter(|_| visit.is_sealed(at)) {
                visit.agent = *agent;
            } else if robots.contains(&visit.browser) {
                visit.agent = Agent::Robot;
            }
        }
        // Visits are sealed one after the other; those that are open come behind all of them.
        let mut in_turn: Vec<&mut Visit<'_>> = visits.iter_mut().collect();
        in_turn.sort_by_key(|visit| (visit.seal, visit.members[0].at(), visit.id));
        in_turn.sort_by_key(|visit| !visit.is_sealed(at));
        let mut of_browsers: BTreeMap<u8, Past> = BTreeMap::new();
        let mut of_customers: BTreeMap<Box<str>, Past> = BTreeMap::new();
        for visit in in_turn {
            let of_browser = of_browsers.entry(visit.browser).or_default();
            visit.past.clone_from(of_browser);
            visit.of_customers.clone_from(&of_customers);
            if visit.is_sealed(at) && visit.agent != Agent::Robot {
                let traced = attribution::trace(&visit.facts(), &Settings::default());
                of_browser.add(&traced.touches);
                for (customer, touches) in traced.of_customers {
                    of_customers.entry(customer).or_default().add(&touches);
                }
            }
        }
        Known {
            accepted,
            visits,
            ..Known::default()
        }
    }

    /// What is known at any tick.
    pub fn known(&self, at: Tick) -> Known<'a> {
        let step = self.step(at);
        self.known_with(at, &step.robots)
    }

    /// What is known at the end of the last step.
    pub fn step(&self, at: Tick) -> &Known<'a> {
        &self.steps[&(at / STEP * STEP)]
    }

    /// The rows of a view as of a tick.
    pub fn rows(&self, view: &View, at: Tick) -> BTreeSet<Row> {
        // A view stands still between its steps.
        let at = at / view.step * view.step;
        match self.steps.get(&at) {
            Some(known) => rows(view, known, at as i64),
            None => BTreeSet::new(),
        }
    }
}

/// A key, its fields with bars between them, and its sums.
pub type Row = (String, [i64; 6]);

/// What adds to a row: its key, its sums, its browser, its time.
type Adds = (Vec<String>, [i64; 6], u8, i64);

fn one(n: usize, amount: i64) -> [i64; 6] {
    let mut sums = [0; 6];
    sums[n] = amount;
    sums
}

/// A row of a view as of `at` sums what lies in the window before it, of what is known at `at`.
fn rows(view: &View, known: &Known<'_>, at: i64) -> BTreeSet<Row> {
    let adds: Vec<Adds> = match &view.of {
        Of::Measurements => of_measurements(view, known),
        of => {
            let people = |visit: &&Visit<'_>| !view.people || visit.agent == Agent::Person;
            let visits = known.visits.iter().filter(people);
            visits
                .flat_map(|visit| match of {
                    Of::Funnel(steps) => of_funnel(view, visit, steps, at),
                    Of::Chains => of_chains(view, visit, at),
                    Of::Credits => of_credits(view, visit, at),
                    _ => vec![of_visit(view, visit, at)],
                })
                .collect()
        }
    };
    let within =
        |window: u64, time: i64| time < at && time >= (at - window as i64).max(view.since as i64);
    let has_values = matches!(view.of, Of::Measurements | Of::Visits);
    let counts = |value: &Value| {
        has_values
            .then(|| view.values.iter().position(|v| v == value))
            .flatten()
    };
    let (browsers, usual) = (counts(&Value::Browsers), counts(&Value::Usual));
    let mut sums: BTreeMap<Vec<String>, [i64; 6]> = BTreeMap::new();
    let mut who: BTreeSet<(Vec<String>, u8)> = BTreeSet::new();
    let mut longer: BTreeMap<Vec<String>, i64> = BTreeMap::new();
    for (key, own, browser, time) in adds {
        if within(view.window, time) {
            let row = sums.entry(key.clone()).or_default();
            row.iter_mut().zip(own).for_each(|(sum, n)| *sum += n);
            if browsers.is_some() {
                who.insert((key.clone(), browser));
            }
        }
        if usual.is_some() && view.against.is_some_and(|against| within(against, time)) {
            sums.entry(key.clone()).or_default();
            *longer.entry(key).or_default() += own[0];
        }
    }
    for (key, _) in who {
        sums.entry(key).or_default()[browsers.unwrap_or_default()] += 1;
    }
    for (key, sum) in longer {
        // As many as are usual in a time as long as the window.
        let share = sum * view.window as i64 / view.against.unwrap_or(1) as i64;
        sums.entry(key).or_default()[usual.unwrap_or_default()] = share;
    }
    sums.retain(|_, sums| *sums != [0; 6]);
    let mut rows: Vec<(Vec<String>, [i64; 6])> = sums.into_iter().collect();
    if let Some(top) = view.top {
        let score = |sums: &[i64; 6]| match usual {
            Some(n) => {
                let over = i128::from(sums[0] - sums[n]);
                over * over.abs() * 1_000 / (i128::from(sums[n]) + 1)
            }
            None => i128::from(sums[0]),
        };
        rows.sort_by(|(a, x), (b, y)| score(y).cmp(&score(x)).then(a.cmp(b)));
        let mut of_group: BTreeMap<String, usize> = BTreeMap::new();
        rows.retain(|(key, _)| {
            let group = if view.by_first {
                key[0].clone()
            } else {
                String::new()
            };
            let n = of_group.entry(group).or_default();
            *n += 1;
            *n <= top
        });
    }
    rows.into_iter()
        .map(|(key, sums)| (key.join("|"), sums))
        .collect()
}

/// A measurement counts if it is of the view's effects and entities, and, in a view of people, if a
/// person has made it who was not known as a robot while its visit was open.
fn of_measurements(view: &View, known: &Known<'_>) -> Vec<Adds> {
    let is = |words: &[String], word: &str| words.is_empty() || words.iter().any(|w| w == word);
    let mut adds = Vec::new();
    for (identity, a) in &known.accepted {
        let person = a.agent() == Agent::Person && !known.by_robots.contains(identity);
        if view.people && !person || !is(&view.effects, a.effect) || !is(&view.entities, a.entity) {
            continue;
        }
        let mut sums = [0; 6];
        for (sum, value) in sums.iter_mut().zip(&view.values) {
            *sum = match value {
                Value::Count(None) => 1,
                Value::Count(Some(effect)) => i64::from(effect == a.effect),
                Value::Sum(None) => a.value.unwrap_or(0),
                Value::Sum(Some(effect)) if effect == a.effect => a.value.unwrap_or(0),
                _ => 0,
            };
        }
        let id = a.entity_id.unwrap_or_default();
        let mut prefixes = vec![String::new()];
        if view.key.contains(&Field::Prefix) {
            let text = id.to_lowercase();
            let letters: Vec<char> = text.chars().take(10).collect();
            prefixes = (1..=letters.len())
                .map(|n| letters[..n].iter().collect())
                .collect();
        }
        for prefix in prefixes {
            let field = |field: &Field| match field {
                Field::Effect => a.effect.into(),
                Field::Entity => a.entity.into(),
                Field::EntityId => id.into(),
                Field::Reason => a.reason.unwrap_or_default().into(),
                Field::Variant => a.variant.unwrap_or_default().into(),
                Field::Country => a.country().unwrap_or_default().into(),
                Field::Agent => a.agent().word().into(),
                Field::Hour => hour(a.time),
                Field::Minute => minute(a.time),
                Field::Prefix => prefix.clone(),
                _ => String::new(),
            };
            let key = view.key.iter().map(field).collect();
            adds.push((key, sums, a.browser, a.time));
        }
    }
    adds
}

/// The test's times all lie in the first hours of 1970.
fn hour(time: i64) -> String {
    format!("1970-01-01T{:02}", time / 3_600_000)
}

fn minute(time: i64) -> String {
    format!("{}:{:02}", hour(time), time / 60_000 % 60)
}

/// The fields of a visit; `own` says those that are not.
fn key_of_visit(
    view: &View,
    visit: &Visit<'_>,
    at: i64,
    own: impl Fn(Field) -> String,
) -> Vec<String> {
    let id = |page: Option<&&Arrival>| {
        page.and_then(|p| p.entity_id)
            .unwrap_or_default()
            .to_owned()
    };
    let field = |field: &Field| match field {
        Field::Country => visit.country().into(),
        Field::Agent => visit.agent.word().into(),
        Field::Hour => hour(visit.started()),
        Field::Minute => minute(visit.started()),
        Field::Entry => id(visit.pages().next()),
        Field::Exit => id(visit.pages().next_back()),
        Field::Source => visit.source().into(),
        Field::EndReason if visit.is_sealed(at as u64) => visit.reason.into(),
        Field::EndReason => "open".into(),
        other => own(*other),
    };
    view.key.iter().map(field).collect()
}

/// A visit counts once, at the time of its first measurement.
fn of_visit(view: &View, visit: &Visit<'_>, at: i64) -> Adds {
    let mut sums = [0; 6];
    for (sum, value) in sums.iter_mut().zip(&view.values) {
        *sum = match value {
            Value::Count(None) => 1,
            Value::Count(Some(effect)) => {
                visit.members.iter().filter(|a| a.effect == effect).count() as i64
            }
            Value::Measurements => visit.members.len() as i64,
            Value::Orders => visit.ordered().count() as i64,
            Value::Revenue | Value::Sum(_) => visit.ordered().filter_map(|a| a.value).sum(),
            Value::Browsers | Value::Usual => 0,
        };
    }
    let key = key_of_visit(view, visit, at, |_| String::new());
    (key, sums, visit.browser, visit.started())
}

/// A visit counts at each step that it has come to, one after the other.
fn of_funnel(
    view: &View,
    visit: &Visit<'_>,
    steps: &[visitflow_dataflows::views::Step],
    at: i64,
) -> Vec<Adds> {
    let mut adds = Vec::new();
    let mut rest = &visit.members[..];
    for (n, step) in steps.iter().enumerate() {
        let is = |a: &&Arrival| {
            (step.effect.is_empty() || step.effect == a.effect)
                && (step.entity.is_empty() || step.entity == a.entity)
        };
        let Some(place) = rest.iter().position(is) else {
            break;
        };
        rest = &rest[place + 1..];
        let number = (n + 1).to_string();
        let mut words = vec![&number, &step.entity, &step.effect];
        words.retain(|word| !word.is_empty());
        let key = key_of_visit(view, visit, at, |field| match field {
            Field::Step => words
                .iter()
                .map(|word| word.as_str())
                .collect::<Vec<_>>()
                .join(" "),
            _ => String::new(),
        });
        adds.push((key, one(0, 1), visit.browser, visit.started()));
    }
    adds
}

/// What was shown in a visit, by the view's key, and what came of it.
fn of_chains(view: &View, visit: &Visit<'_>, at: i64) -> Vec<Adds> {
    let key = |fact: &Fact<'_>| {
        let of = ChainKey::of(fact);
        let text = |text: &Option<Box<str>>| text.as_deref().unwrap_or_default().to_owned();
        let reason = text(&of.reason);
        if !view.entities.is_empty() && !view.entities.iter().any(|e| *e == *of.entity)
            || !view.reasons.is_empty() && !view.reasons.iter().any(|r| reason.starts_with(r))
            || view.key.contains(&Field::Variant) && of.variant.is_none()
        {
            return None;
        }
        Some(key_of_visit(view, visit, at, |field| match field {
            Field::Entity => of.entity.to_string(),
            Field::EntityId => text(&of.entity_id),
            Field::Reason => reason.clone(),
            Field::Variant => text(&of.variant),
            _ => String::new(),
        }))
    };
    let settings = Settings::default();
    let all = attribution::chains_by(&visit.facts(), &settings, key);
    let adds = all.into_iter().map(|(key, led)| {
        let mut sums = [0; 6];
        sums[..5].copy_from_slice(&led);
        (key, sums, visit.browser, visit.started())
    });
    adds.collect()
}

/// Each touch of each order, with its credits.
fn of_credits(view: &View, visit: &Visit<'_>, at: i64) -> Vec<Adds> {
    let orders = visit.orders();
    let credits = orders.iter().flat_map(|order| &order.credits);
    let adds = credits.map(|c| {
        let expired = i64::from(&*c.touch == "expired");
        let key = key_of_visit(view, visit, at, |field| match field {
            Field::Reason => c.touch.to_string(),
            _ => String::new(),
        });
        let sums = [1, c.first, c.last, c.linear, c.position, expired];
        (key, sums, visit.browser, visit.started())
    });
    adds.collect()
}
