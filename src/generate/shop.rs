//! The made shop itself: an iterator of arrivals in order of log time. It keeps who is there now
//! and what is on its way, never what has been, so its memory does not grow with the number of
//! arrivals.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use super::GenerateError;
use super::net::{Letter, Net, Trouble};
use super::people::{LeftCart, Session, Shopfloor, Tab};
use super::rng::Rng;
use super::robots::{CRAWL, Robot, Server};
use super::settings::{Plan, Settings};
use super::wire::Version;
use super::world::{self, stream};

/// One message as a log takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// When the log took it, in ms since 1970, UTC. Never less than that of the arrival before.
    pub log_time: i64,
    /// The browser's ID; empty if it has none.
    pub key: Arc<[u8]>,
    /// The message, header and body.
    pub value: Vec<u8>,
    /// What the maker did to it.
    pub trouble: Trouble,
    /// Whether the same event arrives another time. Only for these must a judge keep bytes.
    pub copied: bool,
}

/// How many events a person's stay has on average, measured over many.
const EVENTS_A_SESSION: u64 = 135;
/// How many left carts are kept; the oldest browsers' go first.
const CARTS: usize = 50_000;
/// How busy an hour of the day is (UTC), in thousandths of the mean.
const HOURS: [u64; 24] = [
    350, 230, 180, 160, 190, 290, 480, 760, 990, 1_190, 1_250, 1_290, 1_340, 1_300, 1_260, 1_270,
    1_330, 1_380, 1_580, 1_790, 1_880, 1_680, 1_090, 740,
];

enum Actor {
    /// Sends people in.
    People(Rng),
    /// Sends crawlers in.
    Crawlers {
        rng: Rng,
        sent: u64,
    },
    Scrapers {
        comings: u64,
    },
    Tab(Box<Tab>),
    Robot(Box<Robot>),
}

/// A made shop: arrivals, for ever or as many as its settings say. About a microsecond each.
pub struct Shop {
    settings: Settings,
    plan: Plan,
    left: u64,
    net: Net,
    /// When each acts, in which order among equals, and its place in `actors`.
    agenda: BinaryHeap<Reverse<(i64, u64, u32)>>,
    noted: u64,
    actors: Vec<Option<Actor>>,
    free_actors: Vec<u32>,
    sessions: Vec<Option<Session>>,
    free_sessions: Vec<u32>,
    came: u64,
    carts: BTreeMap<u64, LeftCart>,
}

impl Shop {
    /// Opens a shop. An error names the setting that is wrong.
    pub fn new(settings: Settings) -> Result<Shop, GenerateError> {
        let plan = settings.plan()?;
        let seed = settings.seed;
        let mut shop = Shop {
            left: settings.events,
            net: Net::new(seed, settings.troubles, &settings.limits),
            agenda: BinaryHeap::new(),
            noted: 0,
            actors: Vec::new(),
            free_actors: Vec::new(),
            sessions: Vec::new(),
            free_sessions: Vec::new(),
            came: 0,
            carts: BTreeMap::new(),
            plan,
            settings,
        };
        let start = shop.settings.start;
        shop.enter(start, Actor::People(Rng::new(seed, stream::PEOPLE, 0)));
        if shop.plan.crawlers > 0 {
            let rng = Rng::new(seed, stream::CRAWLERS, 0);
            shop.enter(start, Actor::Crawlers { rng, sent: 0 });
        }
        if shop.plan.scraper.pages > 0 {
            let after = shop.plan.scraper.after.max(0);
            shop.enter(start.saturating_add(after), Actor::Scrapers { comings: 0 });
        }
        for number in 0..shop.settings.monitors {
            let at = start + 60_000 * number as i64 / shop.settings.monitors as i64;
            shop.enter(at, Actor::Robot(Box::new(Robot::monitor(seed, number))));
        }
        if shop.settings.clockworks {
            for robot in Robot::clockworks(seed) {
                shop.enter(start, Actor::Robot(Box::new(robot)));
            }
        }
        Ok(shop)
    }

    /// The log time of the next arrival, or the time of the next thing that may lead to one: no
    /// arrival comes before it. For who paces a living shop by a clock of its own.
    pub fn next_time(&self) -> Option<i64> {
        if self.left == 0 {
            return None;
        }
        let acts = self.agenda.peek().map(|Reverse((time, ..))| *time);
        [self.net.next_time(), acts].into_iter().flatten().min()
    }

    fn enter(&mut self, time: i64, actor: Actor) {
        let place = put(&mut self.actors, &mut self.free_actors, actor);
        self.agenda.push(Reverse((time, self.noted, place)));
        self.noted += 1;
    }

    fn again(&mut self, time: i64, place: u32, actor: Actor) {
        self.actors[place as usize] = Some(actor);
        self.agenda.push(Reverse((time, self.noted, place)));
        self.noted += 1;
    }

    /// Lets the next actor act. None are left only if there are none at all.
    fn act(&mut self) -> Option<()> {
        let Reverse((time, _, place)) = self.agenda.pop()?;
        let actor = self.actors[place as usize].take()?;
        let mut gone = false;
        match actor {
            Actor::People(mut rng) => {
                self.person(time, &mut rng);
                let next = time + self.pause(time, self.plan.people, EVENTS_A_SESSION, &mut rng);
                self.again(next, place, Actor::People(rng));
            }
            Actor::Crawlers { mut rng, sent } => {
                let robot = Robot::crawler(self.settings.seed, sent);
                self.enter(time, Actor::Robot(Box::new(robot)));
                let mean = (CRAWL * 1_000_000 / self.plan.crawlers) as i64;
                let next = time + rng.wait(mean);
                self.again(
                    next,
                    place,
                    Actor::Crawlers {
                        rng,
                        sent: sent + 1,
                    },
                );
            }
            Actor::Scrapers { comings } => {
                let scraper = self.plan.scraper;
                let robot = Robot::scraper(self.settings.seed, comings, scraper.pages);
                self.enter(time, Actor::Robot(Box::new(robot)));
                let next = time.saturating_add(scraper.every.max(1));
                self.again(
                    next,
                    place,
                    Actor::Scrapers {
                        comings: comings + 1,
                    },
                );
            }
            Actor::Robot(mut robot) => {
                let version = version(&self.plan.changes, self.settings.start, time);
                let mut server = Server {
                    net: &mut self.net,
                    limits: &self.settings.limits,
                    version,
                };
                match robot.step(time, &mut server) {
                    Some(next) => self.again(next, place, Actor::Robot(robot)),
                    None => gone = true,
                }
            }
            Actor::Tab(tab) => gone = self.tab(time, place, tab),
        }
        if gone {
            self.free_actors.push(place);
        }
        Some(())
    }

    /// How long until the next comes, who makes `each` events of `rate` in 1,000 s.
    fn pause(&self, time: i64, rate: u64, each: u64, rng: &mut Rng) -> i64 {
        let mut mean = (each * 1_000_000 / rate) as i64;
        if self.plan.nights {
            let hour = time.rem_euclid(86_400_000) / 3_600_000;
            mean = mean * 1_000 / HOURS[hour as usize] as i64;
        }
        rng.wait(mean)
    }

    fn person(&mut self, time: i64, rng: &mut Rng) {
        let settings = &self.settings;
        // The least of two: some come often, many once.
        let number = rng
            .below(self.plan.browsers)
            .min(rng.below(self.plan.browsers));
        let known = !rng.chance(settings.troubles.without_browser, 1_000_000);
        let browser = world::browser(settings.seed, number, &settings.troubles);
        let mut own = Rng::new(settings.seed, stream::SESSION, self.came);
        self.came += 1;
        let mut session = Session::new(number, browser, known, time, &mut own);
        if known && let Some(cart) = self.carts.remove(&number) {
            session.resume(cart);
        }
        let place = put(&mut self.sessions, &mut self.free_sessions, session);
        if let Some(session) = &mut self.sessions[place as usize] {
            let tab = Tab::new(place, session, own);
            self.enter(time, Actor::Tab(Box::new(tab)));
        }
    }

    /// Lets a tab act; whether it is closed.
    fn tab(&mut self, time: i64, place: u32, mut tab: Box<Tab>) -> bool {
        let at = tab.session;
        let Some(session) = &mut self.sessions[at as usize] else {
            return true;
        };
        let (changes, start) = (self.plan.changes, self.settings.start);
        let version = move |time| version(&changes, start, time);
        let mut floor = Shopfloor {
            net: &mut self.net,
            session,
            version: &version,
        };
        let stepped = tab.step(time, &mut floor);
        let closed = stepped.next.is_none();
        if closed {
            session.tabs -= 1;
            if session.tabs == 0 {
                if let Some(cart) = session.leave() {
                    self.carts.insert(session.number, cart);
                    if self.carts.len() > CARTS {
                        self.carts.pop_first();
                    }
                }
                self.sessions[at as usize] = None;
                self.free_sessions.push(at);
            }
        }
        if let Some((opened, when)) = stepped.opened {
            self.enter(when, Actor::Tab(Box::new(opened)));
        }
        if let Some(next) = stepped.next {
            self.again(next, place, Actor::Tab(tab));
        }
        closed
    }
}

impl Iterator for Shop {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        if self.left == 0 {
            return None;
        }
        loop {
            let acts = self.agenda.peek().map(|Reverse((time, ..))| *time);
            // Whoever acts at a time sends nothing that comes in before it.
            match (self.net.next_time(), acts) {
                (Some(comes), Some(acts)) if comes > acts => self.act()?,
                (None, Some(_)) => self.act()?,
                (Some(_), _) => {
                    let (log_time, letter) = self.net.take()?;
                    let Letter {
                        key,
                        value,
                        trouble,
                        copied,
                    } = letter;
                    if self.left != Settings::ENDLESS {
                        self.left -= 1;
                    }
                    return Some(Arrival {
                        log_time,
                        key,
                        value,
                        trouble,
                        copied,
                    });
                }
                (None, None) => return None,
            }
        }
    }
}

fn version(changes: &[i64; 2], start: i64, time: i64) -> Version {
    match time - start {
        after if after < changes[0] => Version::First,
        after if after < changes[1] => Version::Second,
        _ => Version::Third,
    }
}

fn put<T>(into: &mut Vec<Option<T>>, free: &mut Vec<u32>, item: T) -> u32 {
    match free.pop() {
        Some(place) => {
            into[place as usize] = Some(item);
            place
        }
        None => {
            into.push(Some(item));
            (into.len() - 1) as u32
        }
    }
}
