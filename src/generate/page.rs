//! A page of the made shop: what is on it, and how what is shown there is written and sent, request
//! by request, as far as its reader scrolls.

use visitflow_schemas::measurement::Measurement;

use super::net::{Net, Request, Trouble};
use super::people::Session;
use super::rng::Rng;
use super::wire::Version;
use super::world;

/// A kind of page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    Home,
    Category(usize),
    Results(usize),
    Product(u64),
    Cart,
    Checkout,
    Thanks,
    Account,
}

/// Something on a page that can be clicked.
#[derive(Clone, Copy)]
pub(super) struct Link {
    pub id: [u8; 16],
    pub entity: &'static str,
    pub place: i32,
    pub goes: Page,
}

/// Something in the cart.
#[derive(Clone, Copy)]
pub(super) struct Line {
    pub product: u64,
    pub quantity: i32,
    /// The measurement that put it there.
    pub added: [u8; 16],
}

/// Writes one page's measurements, request by request.
pub(super) struct Writer<'a> {
    pub net: &'a mut Net,
    pub session: &'a Session,
    pub url: &'a str,
    pub referrer: Option<&'a str>,
    pub version: Version,
    pub request: Request,
    /// When the request is sent; measurements after it go with the next one.
    pub until: i64,
    /// Whether its measurements come in side by side, out of order.
    pub mixed: bool,
}

impl Writer<'_> {
    pub fn new<'a>(
        net: &'a mut Net,
        session: &'a Session,
        (url, referrer): (&'a str, Option<&'a str>),
        version: Version,
        time: i64,
        rng: &mut Rng,
    ) -> Writer<'a> {
        let request = net.request(time);
        let mixed = rng.chance(1, 8);
        Writer {
            net,
            session,
            url,
            referrer,
            version,
            request,
            until: time,
            mixed,
        }
    }

    /// Sends `m`, with all that is the same for every measurement of the tab, as of `time`.
    pub fn send(&mut self, time: i64, rng: &mut Rng, m: Measurement) {
        let session = self.session;
        if !session.known && m.entity != "page" {
            return;
        }
        if time > self.until {
            self.until = time + 800;
            self.request = self.net.request(self.until);
            self.mixed = rng.chance(1, 8);
        }
        let mut request = self.request;
        if self.mixed {
            request.log_time += rng.between(0, 3);
        }
        if request.trouble == Trouble::None {
            if !session.known {
                request.trouble = Trouble::WithoutBrowser;
            } else if session.wrong() {
                request.trouble = Trouble::WrongClock;
            }
        }
        let m = Measurement {
            browser_id: if session.known {
                &session.browser.id
            } else {
                ""
            },
            event_time: session.event_time(time),
            customer_id: session.customer(),
            ip: Some(&session.browser.ips[session.address]),
            user_agent: Some(session.browser.agent),
            url: Some(self.url),
            referrer: self.referrer,
            ..m
        };
        self.net.send(
            &session.key,
            self.version,
            &m,
            session.browser.experiment,
            request,
        );
    }
}

/// Shows what is on a page, from its head to where its reader stops.
pub(super) struct Painter<'a> {
    pub writer: Writer<'a>,
    pub rng: &'a mut Rng,
    pub links: &'a mut Vec<Link>,
    /// When the last thing was shown.
    pub time: i64,
    pub until: i64,
    pub count: u32,
    pub text: String,
    pub page: [u8; 16],
    /// The page as the site's script names it.
    pub view: String,
}

impl Painter<'_> {
    pub fn page(&mut self, page: Page, session: &Session) {
        let cause = self.page;
        self.link("link", "navigation", cause, 1, Page::Cart);
        self.link("link", "navigation", cause, 2, Page::Account);
        match page {
            Page::Home => {
                self.categories(6);
                self.banners(3);
                for _ in 0..3 {
                    self.block(8);
                }
            }
            Page::Category(_) | Page::Results(_) => {
                self.categories(3);
                self.banners(1);
                let reason = match page {
                    Page::Results(_) => "search",
                    _ => "category",
                };
                for place in 1..=24 {
                    let product = product(self.rng);
                    self.link("product", reason, cause, place, Page::Product(product));
                }
                self.block(6);
            }
            Page::Product(number) => {
                for place in 1..=4 {
                    self.thing("image", number * 10 + place as u64, cause, place);
                }
                self.thing("description", number, cause, 1);
                self.block(8);
                for place in 1..=4 {
                    self.thing("review", number * 100 + place as u64, cause, place);
                }
                self.banners(1);
                self.block(8);
            }
            Page::Cart => {
                self.link("button", "navigation", cause, 1, Page::Checkout);
                for (place, line) in (1..).zip(session.cart.iter().take(20)) {
                    self.link("product", "cart", cause, place, Page::Product(line.product));
                }
                self.banners(1);
                self.block(8);
                self.block(8);
            }
            Page::Checkout => {
                for place in 1..=8 {
                    self.thing("form", place as u64, cause, place);
                }
                self.link("button", "navigation", cause, 1, Page::Cart);
            }
            Page::Thanks | Page::Account => {
                self.thing("text", 1, cause, 1);
                self.banners(2);
                self.block(8);
                self.block(8);
            }
        }
    }

    fn categories(&mut self, n: i32) {
        let first = self.rng.below(12) as usize;
        for place in 0..n {
            let page = Page::Category((first + place as usize) % 12);
            self.link("link", "navigation", self.page, place + 3, page);
        }
    }

    fn banners(&mut self, n: i32) {
        for place in 1..=n {
            let reason = self.rng.pick(&world::CAMPAIGNS);
            let page = Page::Category(self.rng.below(12) as usize);
            self.link("banner", reason, self.page, place, page);
        }
    }

    /// A block of goods: the block is caused by the page, the goods by the block.
    fn block(&mut self, goods: i32) {
        let reason = self.rng.pick(&world::RECOMMENDATIONS);
        let number = self.rng.below(40);
        let block = self.show("block", reason, self.page, 0, None, number);
        let Some(block) = block else { return };
        for place in 1..=goods {
            let product = product(self.rng);
            self.link("product", reason, block, place, Page::Product(product));
        }
    }

    fn thing(&mut self, entity: &'static str, number: u64, cause: [u8; 16], place: i32) {
        self.show(entity, "page", cause, place, None, number);
    }

    fn link(
        &mut self,
        entity: &'static str,
        reason: &'static str,
        cause: [u8; 16],
        place: i32,
        goes: Page,
    ) {
        if let Some(id) = self.show(entity, reason, cause, place, Some(goes), 0) {
            self.links.push(Link {
                id,
                entity,
                place,
                goes,
            });
        }
    }

    /// Shows one thing, unless its reader stopped before.
    fn show(
        &mut self,
        entity: &'static str,
        reason: &'static str,
        cause: [u8; 16],
        place: i32,
        goes: Option<Page>,
        number: u64,
    ) -> Option<[u8; 16]> {
        // The first screen comes at once, the rest as one scrolls.
        self.time += match self.count {
            0..14 => self.rng.between(0, 40),
            _ => self.rng.wait(300),
        };
        if self.time >= self.until {
            return None;
        }
        self.count += 1;
        self.text.clear();
        let brand;
        let mut attributes: &[(&str, &str)] = &[
            ("template", "teaser-wide"),
            ("layout", "stage"),
            ("viewport", "1280x720"),
        ];
        match goes {
            Some(page) => {
                path(page, &mut self.text);
                if let Page::Product(number) = page {
                    self.text.drain(..1);
                    brand = [
                        ("brand", world::BRANDS[(number % 10) as usize]),
                        ("stock", if number % 7 == 0 { "few" } else { "plenty" }),
                        ("template", "teaser-small"),
                        ("layout", "grid-4-wide"),
                        ("assortment", "shop.example/at/2026-01"),
                        ("view", &self.view),
                    ];
                    attributes = &brand;
                }
            }
            None => {
                self.text.push_str(entity);
                self.text.push('-');
                push_number(number, &mut self.text);
            }
        }
        let id = self.rng.id();
        let ranked = matches!(reason, "search" | "category");
        let variant = ranked.then_some(self.writer.session.browser.variant);
        let m = Measurement {
            event_id: id,
            effect: "shown",
            entity,
            entity_id: Some(&self.text),
            reason: Some(reason),
            cause: Some(cause),
            position: (place > 0).then_some(place),
            variant,
            attributes,
            ..Default::default()
        };
        self.writer.send(self.time, self.rng, m);
        Some(id)
    }
}

/// A product; few of them are looked at most.
pub(super) fn product(rng: &mut Rng) -> u64 {
    1 + rng
        .below(world::PRODUCTS)
        .min(rng.below(world::PRODUCTS))
        .min(rng.below(world::PRODUCTS))
}

/// A page's name, as entity.
pub(super) fn target(page: Page) -> String {
    let mut text = String::new();
    path(page, &mut text);
    text
}

pub(super) fn path(page: Page, out: &mut String) {
    match page {
        Page::Home => out.push('/'),
        Page::Category(kind) => {
            out.push_str("/category/");
            out.push_str(world::CATEGORIES[kind]);
        }
        Page::Results(word) => {
            out.push_str("/search?q=");
            query(world::WORDS[word], out);
        }
        Page::Product(number) => {
            out.push_str("/product/");
            push_number(number, out);
        }
        Page::Cart => out.push_str("/cart"),
        Page::Checkout => out.push_str("/checkout"),
        Page::Thanks => out.push_str("/checkout/thanks"),
        Page::Account => out.push_str("/account"),
    }
}

/// Percent-encoding of what stands after `q=`.
fn query(words: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in words.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(char::from(byte)),
            _ => {
                out.push('%');
                out.push(char::from(HEX[usize::from(byte >> 4)]));
                out.push(char::from(HEX[usize::from(byte & 15)]));
            }
        }
    }
}

fn push_number(number: u64, out: &mut String) {
    if number >= 10 {
        push_number(number / 10, out);
    }
    out.push(char::from(b'0' + (number % 10) as u8));
}
