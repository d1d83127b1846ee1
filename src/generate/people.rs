//! People in the made shop: they come, look, search, click, put things into the cart, log in, order
//! and leave, in several tabs. Every click is caused by what was shown, every page by a click or a
//! search, every cart by a product's page, every order by a cart.

use std::sync::Arc;

use visitflow_schemas::measurement::Measurement;

use super::net::Net;
use super::page::{Line, Link, Page, Painter, Writer, path, product, target};
use super::rng::Rng;
use super::wire::Version;
use super::world::{self, Browser};

/// A pause after which a page is loaded anew, with no cause.
const STALE: i64 = 30 * 60_000;

/// What a person does next.
#[derive(Clone, Copy)]
enum Step {
    /// Comes from outside, or loads the page anew.
    Land {
        page: Page,
        reason: &'static str,
        referrer: Option<&'static str>,
    },
    Click(Link),
    /// A page that a click in another tab opened.
    Opened {
        page: Page,
        click: [u8; 16],
    },
    Search(usize),
    Add,
    LogIn,
    Order,
}

/// A cart that was left, to be ordered on another day.
#[derive(Clone)]
pub(super) struct LeftCart(Vec<Line>);

/// One browser's stay in the shop, shared by its tabs.
pub(super) struct Session {
    pub number: u64,
    pub browser: Browser,
    pub key: Arc<[u8]>,
    /// Whether it says who it is.
    pub known: bool,
    came: i64,
    /// Where it is: at home or on the way.
    pub address: usize,
    customer: Option<bool>,
    pub cart: Vec<Line>,
    /// Open tabs.
    pub tabs: u32,
    /// By how much its script is older than the newest.
    behind: i64,
}

impl Session {
    pub fn new(number: u64, browser: Browser, known: bool, came: i64, rng: &mut Rng) -> Session {
        let key = if known {
            browser.id.as_bytes().into()
        } else {
            Arc::from(&b""[..])
        };
        Session {
            number,
            key,
            known,
            browser,
            came,
            address: 0,
            customer: rng.chance(1, 6).then_some(false),
            cart: Vec::new(),
            tabs: 1,
            behind: rng.between(0, 600_000),
        }
    }

    /// Takes up a cart that was left.
    pub fn resume(&mut self, cart: LeftCart) {
        self.cart = cart.0;
    }

    /// The cart that is left behind, if there is something in it.
    pub fn leave(&self) -> Option<LeftCart> {
        (self.known && !self.cart.is_empty()).then(|| LeftCart(self.cart.clone()))
    }

    pub fn event_time(&self, time: i64) -> i64 {
        let skew = &self.browser.skew;
        time + if time - self.came < skew.turns {
            skew.before
        } else {
            skew.after
        }
    }

    pub fn wrong(&self) -> bool {
        self.browser.skew != world::Skew::default()
    }

    pub fn customer(&self) -> Option<&str> {
        self.customer.map(|other| match other {
            true => self.browser.other.as_str(),
            false => self.browser.customer.as_str(),
        })
    }
}

/// One tab of a browser.
pub(super) struct Tab {
    pub session: u32,
    rng: Rng,
    page: Page,
    page_id: [u8; 16],
    links: Vec<Link>,
    next: Step,
    url: String,
    referrer: Option<String>,
    version: Version,
}

/// What a tab's step leads to.
pub(super) struct Stepped {
    /// When its next step is; none if it is closed.
    pub next: Option<i64>,
    /// A tab that it opened, and when that one loads.
    pub opened: Option<(Tab, i64)>,
}

/// What tabs act on.
pub(super) struct Shopfloor<'a> {
    pub net: &'a mut Net,
    pub session: &'a mut Session,
    /// The script's version at a time.
    pub version: &'a dyn Fn(i64) -> Version,
}

impl Tab {
    /// The tab that a session begins with.
    pub fn new(place: u32, session: &mut Session, mut rng: Rng) -> Tab {
        if rng.chance(1, 4) {
            session.address = 1;
        }
        let next = if !session.cart.is_empty() && rng.chance(2, 3) {
            Step::Land {
                page: Page::Cart,
                reason: "direct",
                referrer: None,
            }
        } else {
            let product = Page::Product(product(&mut rng));
            let category = Page::Category(rng.below(12) as usize);
            match rng.below(100) {
                0..30 => Step::Land {
                    page: Page::Home,
                    reason: "direct",
                    referrer: None,
                },
                30..65 => Step::Land {
                    page: product,
                    reason: "external-search",
                    referrer: Some(rng.pick(&[
                        "https://www.google.com/",
                        "https://www.bing.com/",
                        "https://duckduckgo.com/",
                    ])),
                },
                65..80 => Step::Land {
                    page: category,
                    reason: rng.pick(&world::CAMPAIGNS),
                    referrer: Some("https://news.example/today"),
                },
                80..90 => Step::Land {
                    page: category,
                    reason: "campaign:newsletter",
                    referrer: None,
                },
                _ => Step::Land {
                    page: product,
                    reason: "affiliate",
                    referrer: Some("https://compare.example/lamps?sort=price"),
                },
            }
        };
        Tab::with(place, rng, next)
    }

    fn with(session: u32, rng: Rng, next: Step) -> Tab {
        Tab {
            session,
            rng,
            page: Page::Home,
            page_id: [0; 16],
            links: Vec::new(),
            next,
            url: String::new(),
            referrer: None,
            version: Version::First,
        }
    }

    /// Does what is next, at `time`; all that it sends comes in at `time` or later.
    pub fn step(&mut self, time: i64, on: &mut Shopfloor) -> Stepped {
        match self.next {
            Step::Land {
                page,
                reason,
                referrer,
            } => self.view(time, page, None, reason, referrer, on),
            Step::Opened { page, click } => {
                self.view(time, page, Some(click), "navigation", None, on)
            }
            Step::Click(link) => {
                let click = self.click(time, link, on);
                let loaded = time + self.rng.between(150, 900);
                self.view(loaded, link.goes, Some(click), "navigation", None, on)
            }
            Step::Search(word) => {
                let cause = Some(self.page_id);
                let words = world::WORDS[word];
                let search = self.act(
                    time,
                    on,
                    Measurement {
                        effect: "searched",
                        entity: "search",
                        entity_id: Some(words),
                        cause,
                        ..Default::default()
                    },
                );
                let loaded = time + self.rng.between(150, 900);
                self.view(
                    loaded,
                    Page::Results(word),
                    Some(search),
                    "search",
                    None,
                    on,
                )
            }
            Step::Add => self.add(time, on),
            Step::LogIn => {
                // Some browsers are shared: the account is another's.
                on.session.customer = Some(self.rng.chance(1, 20));
                let cause = Some(self.page_id);
                self.act(
                    time,
                    on,
                    Measurement {
                        effect: "logged_in",
                        entity: "account",
                        cause,
                        ..Default::default()
                    },
                );
                self.page = if self.page == Page::Checkout {
                    Page::Checkout
                } else {
                    Page::Account
                };
                self.decide(time, on)
            }
            Step::Order => self.order(time, on),
        }
    }

    /// Sends one measurement of something done at `time`, in a request of its own.
    fn act(&mut self, time: i64, on: &mut Shopfloor, m: Measurement) -> [u8; 16] {
        let id = self.rng.id();
        let place = (self.url.as_str(), self.referrer.as_deref());
        let mut writer = Writer::new(on.net, on.session, place, self.version, time, &mut self.rng);
        writer.send(time, &mut self.rng, Measurement { event_id: id, ..m });
        id
    }

    fn click(&mut self, time: i64, link: Link, on: &mut Shopfloor) -> [u8; 16] {
        let target = target(link.goes);
        self.act(
            time,
            on,
            Measurement {
                effect: "clicked",
                entity: link.entity,
                entity_id: Some(&target),
                cause: Some(link.id),
                position: Some(link.place),
                ..Default::default()
            },
        )
    }

    fn add(&mut self, time: i64, on: &mut Shopfloor) -> Stepped {
        let Page::Product(product) = self.page else {
            return self.decide(time, on);
        };
        let quantity = if self.rng.chance(1, 6) {
            self.rng.between(2, 5) as i32
        } else {
            1
        };
        let cause = Some(self.page_id);
        let entity_id = target(self.page);
        let added = self.act(
            time,
            on,
            Measurement {
                effect: "added_to_cart",
                entity: "product",
                entity_id: Some(&entity_id),
                cause,
                quantity: Some(quantity),
                value: Some(world::price(product) * i64::from(quantity)),
                ..Default::default()
            },
        );
        on.session.cart.push(Line {
            product,
            quantity,
            added,
        });
        self.decide(time, on)
    }

    fn order(&mut self, time: i64, on: &mut Shopfloor) -> Stepped {
        // Another tab may have been faster.
        let Some(last) = on.session.cart.last().copied() else {
            return self.decide(time, on);
        };
        let value = on
            .session
            .cart
            .iter()
            .map(|l| world::price(l.product) * i64::from(l.quantity));
        let (value, quantity) = (
            value.sum(),
            on.session.cart.iter().map(|l| l.quantity).sum::<i32>(),
        );
        let number = format!("order-{:012}", self.rng.below(1_000_000_000_000));
        let order = self.act(
            time,
            on,
            Measurement {
                effect: "ordered",
                entity: "order",
                entity_id: Some(&number),
                cause: Some(last.added),
                quantity: Some(quantity),
                value: Some(value),
                ..Default::default()
            },
        );
        on.session.cart.clear();
        let loaded = time + self.rng.between(300, 1_500);
        self.view(loaded, Page::Thanks, Some(order), "navigation", None, on)
    }

    /// Shows a page, and decides what is done there.
    fn view(
        &mut self,
        time: i64,
        page: Page,
        cause: Option<[u8; 16]>,
        reason: &'static str,
        referrer: Option<&'static str>,
        on: &mut Shopfloor,
    ) -> Stepped {
        self.page = page;
        self.page_id = self.rng.id();
        self.version = (on.version)(time - on.session.behind);
        if self.rng.chance(1, 100) {
            on.session.address ^= 1;
        }
        let mut url = std::mem::take(&mut self.url);
        self.referrer = match cause {
            Some(_) if !url.is_empty() => Some(url.clone()),
            _ => referrer.map(String::from),
        };
        url.clear();
        url.push_str("https://shop.example");
        path(page, &mut url);
        if let Some(campaign) = reason.strip_prefix("campaign:") {
            url.push_str("?utm_campaign=");
            url.push_str(campaign);
        }
        let stay = self.think();
        let name = target(page);
        let place = (url.as_str(), self.referrer.as_deref());
        let mut writer = Writer::new(on.net, on.session, place, self.version, time, &mut self.rng);
        writer.send(
            time,
            &mut self.rng,
            Measurement {
                event_id: self.page_id,
                effect: "shown",
                entity: "page",
                entity_id: Some(&name),
                reason: Some(reason),
                cause,
                attributes: &[
                    ("title", &name),
                    ("viewport", "1280x720"),
                    ("language", "de-AT"),
                ],
                ..Default::default()
            },
        );
        let view = self.rng.name(32);
        let mut painter = Painter {
            writer,
            view,
            rng: &mut self.rng,
            links: &mut self.links,
            time,
            until: time + stay,
            count: 0,
            text: String::new(),
            page: self.page_id,
        };
        painter.links.clear();
        painter.page(page, on.session);
        self.url = url;
        if stay >= STALE {
            self.next = Step::Land {
                page,
                reason: "reload",
                referrer: None,
            };
            return Stepped {
                next: Some(time + stay),
                opened: None,
            };
        }
        self.decide_after(time, stay, on)
    }

    /// How long someone looks at a page.
    fn think(&mut self) -> i64 {
        match self.rng.below(1_000) {
            0..840 => 1_500 + self.rng.wait(22_000).min(300_000),
            840..970 => 5_000 + self.rng.wait(80_000).min(600_000),
            970..995 => self.rng.between(300_000, 1_500_000),
            _ => self.rng.between(STALE, 6 * STALE),
        }
    }

    fn decide(&mut self, time: i64, on: &mut Shopfloor) -> Stepped {
        let stay = 1_000 + self.rng.wait(8_000).min(120_000);
        self.decide_after(time, stay, on)
    }

    /// Decides what is done `stay` after `time`.
    fn decide_after(&mut self, time: i64, stay: i64, on: &mut Shopfloor) -> Stepped {
        let place = self.rng.below(100);
        let next = match self.page {
            Page::Home => match place {
                0..25 => self.search(),
                25..85 => self.any_link(),
                _ => None,
            },
            Page::Category(_) | Page::Results(_) => match place {
                0..10 => self.search(),
                10..86 => self.any_link(),
                _ => None,
            },
            Page::Product(_) => match place {
                0..20 => Some(Step::Add),
                20..30 if !on.session.cart.is_empty() => self.link_to(Page::Cart),
                20..35 => self.search(),
                35..38 if on.session.customer.is_none() => self.link_to(Page::Account),
                35..78 => self.any_link(),
                _ => None,
            },
            Page::Cart => match place {
                0..60 if !on.session.cart.is_empty() => self.link_to(Page::Checkout),
                0..75 => self.any_link(),
                _ => None,
            },
            Page::Checkout => match place {
                0..80 if on.session.customer.is_none() => Some(Step::LogIn),
                0..80 => Some(Step::Order),
                _ => None,
            },
            Page::Thanks => (place < 25).then(|| self.any_link()).flatten(),
            Page::Account => match place {
                0..50 if on.session.customer.is_none() => Some(Step::LogIn),
                0..75 => self.any_link(),
                _ => None,
            },
        };
        let Some(next) = next else {
            return Stepped {
                next: None,
                opened: None,
            };
        };
        self.next = next;
        let stays = time + stay;
        // A product looked at in a tab of its own, while this one stays open.
        let lists = matches!(self.page, Page::Category(_) | Page::Results(_));
        let mut opened = None;
        if let Step::Click(link) = next
            && lists
            && matches!(link.goes, Page::Product(_))
            && on.session.tabs < 4
            && self.rng.chance(1, 5)
        {
            let click = self.click(stays, link, on);
            let seed = self.rng.bits();
            let rng = Rng::new(seed, 0, 0);
            let mut tab = Tab::with(
                self.session,
                rng,
                Step::Opened {
                    page: link.goes,
                    click,
                },
            );
            tab.url = self.url.clone();
            on.session.tabs += 1;
            opened = Some((tab, stays + self.rng.between(200, 2_000)));
            let again = stays + 1_000 + self.rng.wait(10_000).min(60_000);
            match self.any_link() {
                Some(step) => self.next = step,
                None => return Stepped { next: None, opened },
            }
            return Stepped {
                next: Some(again),
                opened,
            };
        }
        Stepped {
            next: Some(stays),
            opened,
        }
    }

    fn search(&mut self) -> Option<Step> {
        Some(Step::Search(
            self.rng.below(world::WORDS.len() as u64) as usize
        ))
    }

    fn link_to(&mut self, page: Page) -> Option<Step> {
        self.links
            .iter()
            .find(|link| link.goes == page)
            .map(|link| Step::Click(*link))
    }

    /// A link of the page, but for those of its head: what was seen first is clicked most.
    fn any_link(&mut self) -> Option<Step> {
        let links = self.links.get(2..)?;
        if links.is_empty() {
            return None;
        }
        let n = links.len() as u64;
        let at = self.rng.below(n).min(self.rng.below(n));
        Some(Step::Click(links[at as usize]))
    }
}
