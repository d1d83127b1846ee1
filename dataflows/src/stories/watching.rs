//! Who watches: keeps what was said of each open visit, so that it can be taken back, and says what
//! has changed at the end of each step.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::rc::Rc;

use differential_dataflow::difference::Semigroup;
use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use super::answering::sealed_shown;
use super::contributions::{Fields, Rows, rows};
use super::crediting::{self, Customer, OfCustomer, OfOrder, Place, Placed, Turn, What};
use super::growing::{Growing, Left, OfVisits};
use super::naming::Naming;
use super::news::News;
use super::question::{Answer, Question, Shown};
use super::recent::Recent;
use super::saved::{FORMAT, Keeping, Kept};
use super::story::{Story, stories_of};
use crate::attribution::{self, PastTouch, Pasts, Traced, Uncredited, is_entry, is_order};
use crate::batch::Record;
use crate::complete::{
    ByBrowser, Complete, Key as BrowserKey, Looked, Measurements, PARTS, Payloads, Watch,
};
use crate::durable::{Durable, Shards, written};
use crate::fact::{Agent, Fact, Reading};
use crate::near;
use crate::profiles::{Named, Part, Profile, by_customer};
use crate::views::{
    self, Contribution, Entering, Field, Key, Present, STEP, Sums, View, shard_of, step_end,
};
use crate::visit::{Position, Rules, Tick, Visit, browser_key, visit_id, words_of_bytes};

/// What a browser of more measurements sends twice counts as it came first, until its visit is sealed;
/// and where its visit cannot be followed, it is told of again only when it has an eighth more.
const MANY: u32 = 2_000;
/// Where there are no views, visits are told of so often, in ms: only answers ask for them, and those
/// look for themselves.
const SELDOM: Tick = 60_000;
/// So many rows that a browser is in are as much of a snapshot as the browser.
const STAYS: usize = 32;
/// So many browsers ahead of the one that is told of memory is begun to be loaded.
const AHEAD: usize = 8;
/// Whoever has no visits is looked at once in so many periods.
const SWEEPS: usize = 64;
/// A visit to which so long nothing was added is not followed any more, in ms.
const QUIET: Tick = 180_000;

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

/// What was said of a browser's open visits.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Browser {
    pub id: Box<[u8]>,
    pub shard: u8,
    /// How many measurements it had when it was last told of, and since.
    known: u32,
    added: u32,
    /// Whether it is to be told of at the end of the period.
    touched: bool,
    /// Whether it may have other visits now than are known.
    #[serde(skip)]
    pub stale: bool,
    pub robot: bool,
    /// What was told of at the end of a step.
    visits: Vec<Told>,
    /// Those that it had later, when something was asked within a step.
    #[serde(skip)]
    pub since: Option<Vec<Begun>>,
    /// Its last visit, while all that has changed since it was told of is what this one was given.
    #[serde(skip)]
    growing: Option<Box<Growing>>,
    /// When it was told of last, if it was in this run.
    #[serde(skip)]
    told: Tick,
    /// In which rows of views that count browsers it is,
    present: Present,
    /// and in which more when it is told of.
    #[serde(skip)]
    entering: Vec<Entering>,
}

/// A browser without visits that is in rows of views that count browsers.
#[derive(Serialize, Deserialize)]
pub(super) struct Absent {
    shard: u8,
    present: Present,
}

impl Browser {
    /// One without visits yet, that was in these rows before.
    fn new(id: Box<[u8]>, shard: u8, before: Option<Absent>) -> Browser {
        Browser {
            id,
            shard,
            present: before.map(|own| own.present).unwrap_or_default(),
            ..Browser::default()
        }
    }

    /// Brings near what another measurement needs first.
    fn bring(&self) {
        near::bring_all(self);
        if let Some(growing) = &self.growing {
            near::bring_all(&**growing);
        }
    }

    /// Brings near what its visit that grows needs of a measurement with this identity.
    fn bring_growing(&self, at: Position) {
        near::bring_end(&self.entering);
        if let Some(growing) = &self.growing {
            growing.bring(at);
        }
    }

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

    /// Whether an order of it was told of: then what an earlier visit leaves may have led to it.
    fn has_ordered(&self) -> bool {
        self.visits.iter().any(|told| !told.orders.is_empty())
    }

    /// Writes down what was said of its visit that grows, for a snapshot.
    fn write_down(&mut self) {
        if let Some(growing) = &self.growing {
            let id = growing.visit().id;
            if let Some(told) = self.visits.iter_mut().find(|told| told.begun.visit == id) {
                told.rows = encode(&growing.said());
                told.left = growing.leaves();
            }
        }
    }

    /// Follows its visit no more; keeps what was said of it.
    fn settle(&mut self) {
        self.write_down();
        self.growing = None;
    }

    /// Its open visits, if they follow from what was told of and from the one that grows; without those
    /// that were sealed since.
    pub fn followed(&self, is_sealed: impl Fn([u64; 2]) -> bool) -> Option<Vec<Begun>> {
        let growing = self.growing.as_ref()?;
        let visit = growing.visit();
        let mut begun: Vec<Begun> = self.visits.iter().map(|told| told.begun).collect();
        if begun.iter().all(|begun| begun.visit != visit.id) {
            begun.push(Told::of(visit, growing.agent()).begun);
        }
        begun.retain(|begun| !is_sealed(begun.visit));
        Some(begun)
    }

    /// Its open visits, as far as they are known.
    pub fn begun(&self) -> impl Iterator<Item = Begun> {
        let since = self.since.iter().flatten().copied();
        let told = self.since.is_none().then_some(&self.visits);
        since.chain(told.into_iter().flatten().map(|told| told.begun))
    }
}

/// An open visit.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct Begun {
    pub visit: [u64; 2],
    pub started: i64,
    pub agent: Agent,
}

/// What was said of an open visit.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Told {
    begun: Begun,
    /// How many measurements it had.
    count: u32,
    /// What it adds to views, in the form of a snapshot: a tenth of the rows themselves. Of a visit that
    /// grows that one knows.
    rows: Box<[u8]>,
    /// What it leaves for later visits; of a visit that grows that one knows.
    left: Left,
    /// Its orders, and what was said of each.
    orders: Vec<ToldOrder>,
}

/// What was said of an order of an open visit.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct ToldOrder {
    place: Place,
    /// A hash of it all.
    said: u64,
    /// Whom it names.
    customer: Option<Customer>,
}

impl Told {
    /// Of a visit that grows.
    fn of(visit: Visit, agent: Agent) -> Told {
        let begun = Begun {
            visit: visit.id,
            started: visit.first.time,
            agent,
        };
        Told {
            begun,
            count: visit.count,
            ..Told::default()
        }
    }
}

/// Watches the open visits of one worker.
///
/// Costs a look-up and a walk to the roles a measurement, and a little more while its visit grows as
/// visits do; what is revised or repeated, or goes on after a pause, another walk over all that its visit
/// has. Keeps some 100 bytes an open visit, and 30 for each row of a view of visits that it is in; of
/// those that have grown within three minutes some 50 for each measurement.
pub struct Stories {
    views: Rc<[View]>,
    pub(super) settings: Settings,
    pub(super) reading: Reading,
    durable: Durable,
    pub(super) browsers: ByBrowser<Browser>,
    /// Those without visits,
    absent: ByBrowser<Absent>,
    /// and the part of them that is looked through next for rows that they have left.
    swept: usize,
    /// The browsers of visits that were told of.
    pub(super) of_visits: HashMap<[u64; 2], BrowserKey>,
    grown: OfVisits,
    recent: Recent,
    /// What sealed visits have left for later ones.
    pub(super) pasts: Pasts,
    /// Browsers whose visits grow, as they were told of.
    quiet: VecDeque<(Tick, BrowserKey)>,
    touched: Vec<BrowserKey>,
    /// Browsers that have ordered something in this step.
    urgent: Vec<BrowserKey>,
    /// How often visits are told of, in ms: no view moves on more often. Orders are told of each step.
    period: Tick,
    /// The end of the period in which there is something to tell; `u64::MAX` if there is nothing.
    due: Tick,
    /// Browsers that may have other visits now than are known.
    pub(super) stale: Vec<BrowserKey>,
    pub(super) sealed: Vec<Complete>,
    /// What is added to views, and not told yet.
    news: News,
    /// What is to be added to it; a list that is used again.
    adding: Vec<Adding>,
    /// For the texts of keys.
    text: String,
    /// Whether any view is of measurements.
    of_measurements: bool,
    /// Whether any view of visits says why they have ended.
    by_reason: bool,
    /// Visits that were sealed of late, by the ticks of their seals.
    pub(super) ended: Ended,
    /// Those that were sealed at or before this tick are not asked for any more.
    released: Rc<Cell<Tick>>,
    /// But for what a process holds on to: what was sealed after its tick.
    pub(super) holds: BTreeMap<u32, Tick>,
    /// A snapshot that is being written.
    saving: Option<Saving>,
    /// Who is named, if that is to be said.
    pub(super) naming: Option<Naming>,
}

/// What a measurement, one of some that are looked at together, adds to a row.
struct Adding {
    of: usize,
    view: u16,
    number: u32,
    sums: Sums,
    counts_browser: bool,
}

/// The tick of a visit's seal, and its ID.
pub(super) type Seal = (Tick, [u64; 2]);

/// Visits that were sealed of late.
#[derive(Debug, Default)]
pub(super) struct Ended {
    /// With their browsers' shards.
    pub visits: BTreeMap<Seal, (u8, Shown)>,
    /// Everything that was sealed after this tick is there.
    pub kept: Tick,
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
            news.restore_present(&kept.numbers, present);
            for (key, own) in gone {
                absent.insert(key, own);
            }
            for (key, mut browser) in open {
                if browser.touched {
                    browser.stale = true;
                    touched.push(key);
                }
                of_visits.extend(browser.begun().map(|begun| (begun.visit, key)));
                browsers.insert(key, browser);
            }
            kept.news.iter().for_each(|added| news.restore(added));
            for (shard, key, past) in kept.pasts {
                pasts.restore(shard, key, past);
            }
            ended.kept = ended.kept.max(kept.ended.kept);
            ended.visits.extend(kept.ended.visits);
        }
        // What a table holds may have been let go of by a worker that kept nothing else.
        if released.get() < u64::MAX {
            ended.kept = ended.kept.max(released.get());
        }
        if !settings.asked
            && let Some(((tick, _), _)) = ended.visits.pop_last()
        {
            ended.kept = ended.kept.max(tick);
            ended.visits.clear();
        }
        let period = views.iter().fold(0, |all, view| gcd(all, view.step));
        let by_reason = |view: &View| view.key.contains(&Field::EndReason);
        Stories {
            by_reason: views.iter().any(by_reason),
            grown: OfVisits::new(views.clone(), &settings.attribution),
            recent: Recent::new(),
            pasts,
            quiet: VecDeque::new(),
            text: String::new(),
            of_measurements: views.iter().any(|view| view.of == views::Of::Measurements),
            of_visits,
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
            period: if period == 0 {
                SELDOM
            } else {
                period.max(STEP)
            },
            due,
            sealed: Vec::new(),
            news,
            adding: Vec::new(),
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
        self.browsers.len() + self.of_visits.len() + self.ended.visits.len() + step
    }

    /// Whether nothing is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

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
    fn traced(&self, story: &Story<'_>) -> Traced {
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
        }
    }

    /// Tells a last time of the visits that were sealed in the step.
    fn tell_sealed(&mut self, at: Tick, said: &mut Vec<Said>) {
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
            self.of_visits.remove(&id);
            // Nothing has changed since it was told of but what it was given while it grew.
            let mut is_told = browser.growing.is_some() || !browser.touched;
            // Of many, what was sent twice was not held against it.
            is_told &= browser.known + browser.added <= MANY;
            let growing = browser.growing.take_if(|growing| growing.visit().id == id);
            let size = complete.len() as u32;
            // One more may have taken the place of its last.
            is_told &= size < self.settings.rules.max_size && !self.by_reason;
            if let Some(mut growing) = growing {
                self.say_grown(at, &mut browser.entering, &mut growing);
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
            let has_orders = told.as_ref().is_some_and(|told| !told.orders.is_empty());
            let leaves_more = told.as_ref().is_none_or(|told| told.left.more);
            let looks = !is_told || has_orders || leaves_more;
            let known = told
                .as_ref()
                .map(|told| (told.begun.agent, told.left.clone()));
            let (mut agent, known) = known.unwrap_or_default();
            let mut left: Vec<PastTouch> = known.entry.into_iter().collect();
            let customer = known.customer.filter(|_| !left.is_empty());
            let mut of_customers: Vec<(Box<str>, Vec<PastTouch>)> =
                customer.map(|id| (id, left.clone())).into_iter().collect();
            let first = complete.measurements().next();
            let first = first.map_or(Position::default(), |first| first.at);
            let turn = Turn::new(complete.tick, first, id);
            if looks || self.settings.profiles || self.settings.asked {
                let facts: Vec<Fact<'_>> = read(&mut self.reading, complete.measurements());
                let story = sealed_story(&complete, &facts, browser.robot);
                let mut traced = attribution::trace(&facts, &self.settings.attribution);
                (agent, left) = (story.agent, std::mem::take(&mut traced.touches));
                of_customers = std::mem::take(&mut traced.of_customers);
                let told = told.unwrap_or_default();
                let sealed = if !is_told {
                    let story = (&story, traced, Some(turn));
                    let own = (key, &mut browser);
                    let told = self.tell(at, own, &told, story, &mut None, said);
                    told.orders
                } else {
                    let (own, orders) = ((key, &browser), (traced.orders, &told.orders[..]));
                    let visit = (story.visit.id, &Fields::of(&story));
                    self.say_orders(at, own, visit, orders, Some(turn), said)
                };
                // Another visit may have had them before they came to this one.
                let is_sealed = |told: &ToldOrder| {
                    let of = |told: &ToldOrder| (told.place.time, told.place.event);
                    sealed.iter().any(|sealed| of(sealed) == of(told))
                };
                for other in &mut browser.visits {
                    for told in other.orders.extract_if(.., |told| is_sealed(told)) {
                        say_gone(at, browser.shard, &told, None, said);
                    }
                }
                // What a robot does under a customer's name says nothing of the customer.
                if self.settings.profiles && agent != Agent::Robot {
                    said.extend(parts(at, &complete, &facts));
                }
                self.name_sealed(at, &complete, (key, &browser), &facts, said);
                if self.settings.asked {
                    let shown = sealed_shown(&complete, &story);
                    let place = (complete.tick, id);
                    self.ended.visits.insert(place, (complete.shard, shown));
                }
            }
            // What a robot met leads nobody.
            if agent != Agent::Robot {
                self.pasts.add(complete.shard, key, complete.tick, &left);
                said.extend(of_customers.into_iter().map(|(id, touches)| {
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
                self.ended.kept = self.ended.kept.max(complete.tick);
            }
            let left = browser.known + browser.added;
            browser.known = left.saturating_sub(size);
            browser.added = 0;
            let (present, entering) = (&mut browser.present, &mut browser.entering);
            self.news.settle(at, present, entering);
            // What is left of it is another visit, or was told of one that is none any more.
            let is_open = browser.known > 0 || !browser.visits.is_empty();
            if is_open {
                browser.touch(key, &mut self.touched);
            } else {
                self.forget_since(&mut browser);
            }
            self.put_back(key, browser, is_open);
        }
    }

    /// Forgets which visits a browser had when something was asked.
    pub(super) fn forget_since(&mut self, browser: &mut Browser) {
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
        if std::mem::replace(&mut browser.touched, false) {
            let is_many = browser.growing.is_none() && browser.known > MANY;
            if !(is_many && browser.added < browser.known / 8) {
                self.tell_browser(at, (key, &mut browser), kept, said)?;
            }
            let (present, entering) = (&mut browser.present, &mut browser.entering);
            self.news.settle(at, present, entering);
        }
        let is_open = browser.known + browser.added > 0 || !browser.visits.is_empty();
        self.put_back(key, browser, is_open);
        Ok(())
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
            self.quiet.push_back((at, key));
            return Ok(());
        }
        browser.settle();
        let looked = kept.look(&key)?;
        let facts = read_all(&mut self.reading, looked.as_ref());
        (browser.known, browser.added) = (facts.len() as u32, 0);
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
            self.quiet.push_back((at, key));
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
        for (n, key) in touched.iter().enumerate() {
            if let Some(next) = touched.get(n + AHEAD)
                && let Some(browser) = self.browsers.get(next)
            {
                browser.bring();
                browser.present.bring();
            }
            self.tell_open(at, *key, kept, said)?;
        }
        for key in std::mem::take(&mut self.stale) {
            if let Some(browser) = self.browsers.get_mut(&key) {
                browser.stale = false;
            }
        }
        while let Some((told, key)) = self.quiet.front().copied() {
            if told + QUIET > at {
                break;
            }
            self.quiet.pop_front();
            if let Some(browser) = self.browsers.get_mut(&key)
                && browser.told + QUIET <= at
            {
                browser.settle();
            }
        }
        self.sweep(at);
        self.news.take(|place, sums| {
            said.push(Said::Contribution(Contribution { at, place, sums }));
        });
        Ok(())
    }

    /// A measurement, what it says, and what it adds to views of measurements.
    fn measured_one(&mut self, record: Record<'_>, read: Option<&Fact<'_>>, adding: &[Adding]) {
        let head = record.head;
        self.recent.add(record);
        self.fall_due(head.tick);
        let absent = &mut self.absent;
        let new = || {
            let before = absent.remove(&head.browser);
            Browser::new(record.browser_id.into(), head.shard, before)
        };
        let browser = self.browsers.or_insert_with(head.browser, new);
        let begins = browser.known + browser.added == 0 && browser.visits.is_empty();
        browser.added += 1;
        browser.touch(head.browser, &mut self.touched);
        let nothing = Fact {
            at: head.at,
            ..Fact::default()
        };
        let fact = read.unwrap_or(&nothing);
        let mut grows = None;
        if let Some(growing) = &mut browser.growing {
            if growing.add(fact, &self.grown, &self.settings.rules) {
                grows = Some(growing.visit().id);
            } else {
                browser.settle();
            }
        } else if begins {
            let id = visit_id(&browser.id, head.at);
            let agent = if browser.robot {
                Agent::Robot
            } else {
                fact.agent
            };
            browser.growing = Growing::begin(id, agent, fact, &self.grown).map(Box::new);
        }
        // While a visit that is known grows, they are those that they were.
        if grows.is_none_or(|visit| browser.begun().all(|begun| begun.visit != visit)) {
            browser.go_stale(head.browser, &mut self.stale);
        }
        if is_order(fact) {
            self.urgent.push(head.browser);
        }
        if let Some(naming) = &mut self.naming {
            naming.measured(head, fact);
        }
        let at = (step_end(head.tick), fact.at.time);
        for adding in adding {
            if !(browser.robot && self.views[usize::from(adding.view)].people) {
                let of = adding.counts_browser.then_some((&mut browser.entering, 1));
                self.news.add(adding.number, at, adding.sums, of);
            }
        }
    }

    /// Forgets which rows browsers without visits have left, for some of these; all have their turn.
    fn sweep(&mut self, at: Tick) {
        for _ in 0..PARTS / SWEEPS {
            self.sweep_part(at, self.swept);
            self.swept = (self.swept + 1) % PARTS;
        }
    }

    fn sweep_part(&mut self, at: Tick, part: usize) {
        self.absent.parts_mut()[part].retain(|_, own| {
            self.news.leave(at, &mut own.present);
            !own.present.is_empty()
        });
    }

    /// Something is to be told at the end of the period.
    fn fall_due(&mut self, tick: Tick) {
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
        for record in records {
            if let Some(browser) = self.browsers.get(&record.head.browser) {
                browser.bring();
            }
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
        for record in records {
            if let Some(browser) = self.browsers.get(&record.head.browser) {
                browser.bring_growing(record.head.at);
            }
        }
        let mut adding = std::mem::take(&mut self.adding);
        if self.of_measurements {
            for (of, fact) in facts.iter().enumerate() {
                let Some(fact) = fact else { continue };
                for (view, spec) in (0..).zip(self.views.iter()) {
                    spec.texts_of_fact(fact, &mut self.text, |key, sums, counts_browser| {
                        let number = self.news.number(view, key);
                        self.news.bring(number);
                        adding.push(Adding {
                            of,
                            view,
                            number,
                            sums,
                            counts_browser,
                        });
                    });
                }
            }
        }
        let mut rest = &adding[..];
        for (n, (record, fact)) in records.iter().zip(&facts).enumerate() {
            let of = rest.partition_point(|adding| adding.of == n);
            let (own, others) = rest.split_at(of);
            rest = others;
            self.measured_one(*record, fact.as_ref(), own);
        }
        adding.clear();
        self.adding = adding;
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
        self.answer(question, kept, said)
    }

    fn save_some(&mut self, at: Tick, entries: usize) -> bool {
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
            let part = self.absent.parts()[saving.absent].values();
            some += part.map(|own| 1 + own.present.len() / STAYS).sum::<usize>();
            saving.absent += 1;
        }
        let mut shards: BTreeMap<u8, Keeping<'_>> = BTreeMap::new();
        for part in &self.absent.parts()[first..saving.absent] {
            for (key, own) in part {
                let shard = shards.entry(own.shard).or_default();
                shard.absent.push((key, own));
            }
        }
        for part in self.browsers.parts_mut().iter_mut().skip(saving.parts) {
            if some >= entries {
                break;
            }
            saving.parts += 1;
            for browser in part.values_mut() {
                some += 1 + browser.present.len() / STAYS;
                browser.write_down();
                let (present, entering) = (&mut browser.present, &mut browser.entering);
                self.news.settle(at, present, entering);
            }
            for (key, browser) in &*part {
                let shard = shards.entry(browser.shard).or_default();
                shard.browsers.push((key, browser));
            }
        }
        let after = saving.ended.map_or(Bound::Unbounded, Bound::Excluded);
        let ended = self.ended.visits.range((after, Bound::Unbounded));
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
                let place = &added.0;
                let shard = shards.entry(shard_of(place.view, place.key.bytes()));
                shard.or_default().news.push(added);
            }
        }
        for shard in shards.values_mut() {
            shard.ended.kept = self.ended.kept;
            shard.due = self.due;
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

/// A snapshot that is being written.
#[derive(Default)]
struct Saving {
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

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
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

/// Adds what a measurement adds to the views of measurements that `counted` says, or takes it back.
fn add_fact(
    news: &mut News,
    views: &[View],
    text: &mut String,
    (at, entering): (Tick, &mut Vec<Entering>),
    (fact, sign): (&Fact<'_>, i64),
    counted: impl Fn(&View) -> bool,
) {
    for (n, view) in views.iter().enumerate().filter(|(_, view)| counted(view)) {
        view.texts_of_fact(fact, text, |key, sums, counts_browser| {
            let sums = if sign < 0 { sums.negated() } else { sums };
            let browser = counts_browser.then_some((&mut *entering, sign));
            let number = news.number(n as u16, key);
            news.add(number, (at, fact.at.time), sums, browser);
        });
    }
}

/// The facts of measurements. One that cannot be read any more keeps its place.
pub(super) fn read<'a>(
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

/// The facts of all that was looked at; none, if there was nothing.
pub(super) fn read_all<'a>(reading: &mut Reading, looked: Option<&'a Looked<'_>>) -> Vec<Fact<'a>> {
    looked.map_or_else(Vec::new, |kept| read(reading, kept.measurements()))
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
