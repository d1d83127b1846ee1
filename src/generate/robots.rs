//! Robots in the made shop. They load no script: the server measures their pages, and names the
//! browser by address and user agent. Crawlers read a part of the shop, monitors ask for the front
//! page every minute for ever, the scraper takes 5,000 pages a second; and three clockworks, whose
//! times lie exactly on the limits of visits, of delay and of haste.

use std::sync::Arc;

use visitflow_schemas::measurement::Measurement;

use super::net::{Net, Request, Trouble};
use super::page::product;
use super::rng::Rng;
use super::settings::Limits;
use super::wire::Version;
use super::world::{self, stream};

/// One robot at one address.
pub(super) struct Robot {
    key: Arc<[u8]>,
    name: String,
    agent: &'static str,
    ip: String,
    rng: Rng,
    work: Work,
}

enum Work {
    /// So many pages are left to read.
    Crawl {
        left: u64,
        pause: i64,
    },
    Scrape {
        left: u64,
    },
    Monitor,
    Clockwork {
        which: Clockwork,
        beat: u64,
    },
}

#[derive(Clone, Copy)]
enum Clockwork {
    /// Pauses of exactly `inactivity`, and every twentieth longer by a millisecond.
    Gap,
    /// Pauses of exactly `inactivity`, never longer: cut by length alone.
    Length,
    /// Delays of exactly `max_delay` and a millisecond more, haste likewise.
    Edge,
}

/// What robots act on.
pub(super) struct Server<'a> {
    pub net: &'a mut Net,
    pub limits: &'a Limits,
    pub version: Version,
}

impl Robot {
    fn new(name: String, agent: &'static str, ip: String, rng: Rng, work: Work) -> Robot {
        Robot {
            key: name.as_bytes().into(),
            name,
            agent,
            ip,
            rng,
            work,
        }
    }

    /// A crawler's stay, the `number`th.
    pub fn crawler(seed: u64, number: u64) -> Robot {
        let mut rng = Rng::new(seed, stream::CRAWL, number);
        let which = rng.below(world::CRAWLERS.len() as u64).min(rng.below(8));
        let crawler = &world::CRAWLERS[which as usize];
        let host = rng.below(crawler.addresses) + 32;
        let name = server_name(seed, which * 1_000 + host);
        let left = 1 + rng.wait(CRAWL as i64 - 1) as u64;
        let pause = rng.between(500, 12_000);
        let ip = format!("{}{host}", crawler.network);
        Robot::new(name, crawler.agent, ip, rng, Work::Crawl { left, pause })
    }

    /// The scraper, with so many pages before it.
    pub fn scraper(seed: u64, coming: u64, pages: u64) -> Robot {
        let rng = Rng::new(seed, stream::SCRAPER, coming);
        let (agent, ip) = world::SCRAPER;
        Robot::new(
            server_name(seed, 1),
            agent,
            ip.into(),
            rng,
            Work::Scrape { left: pages },
        )
    }

    /// Monitor `number`.
    pub fn monitor(seed: u64, number: u64) -> Robot {
        let (agent, ip) = world::MONITORS[(number % 2) as usize];
        let rng = Rng::new(seed, stream::MONITOR, number);
        Robot::new(
            server_name(seed, 10 + number),
            agent,
            ip.into(),
            rng,
            Work::Monitor,
        )
    }

    /// The three clockworks.
    pub fn clockworks(seed: u64) -> [Robot; 3] {
        [
            ("gap", Clockwork::Gap),
            ("length", Clockwork::Length),
            ("edge", Clockwork::Edge),
        ]
        .map(|(name, which)| {
            let rng = Rng::new(seed, stream::CLOCKWORK, which as u64);
            let work = Work::Clockwork { which, beat: 0 };
            let agent = "clockwork/1.0";
            Robot::new(
                format!("clockwork-{name}"),
                agent,
                "85.0.0.20".into(),
                rng,
                work,
            )
        })
    }

    /// Does what is next, at `time`; when it acts again, if it does.
    pub fn step(&mut self, time: i64, on: &mut Server) -> Option<i64> {
        match &mut self.work {
            Work::Crawl { left, pause } => {
                *left -= 1;
                let next = (*left > 0).then(|| time + 100 + self.rng.wait(*pause));
                self.page(time, on);
                next
            }
            Work::Scrape { left } => {
                let now = 5.min(*left);
                *left -= now;
                let next = (*left > 0).then_some(time + 1);
                for _ in 0..now {
                    self.page(time, on);
                }
                next
            }
            Work::Monitor => {
                self.look(time, on);
                Some(time + 60_000 + self.rng.between(-400, 400))
            }
            Work::Clockwork { which, beat } => {
                *beat += 1;
                let (which, beat) = (*which, *beat);
                Some(self.beat(which, beat, time, on))
            }
        }
    }

    fn beat(&mut self, which: Clockwork, beat: u64, time: i64, on: &mut Server) -> i64 {
        let limits = *on.limits;
        match which {
            Clockwork::Gap => {
                self.measure(time, time + 50, "/", Trouble::OnTheLimit, on);
                time + limits.inactivity + i64::from(beat.is_multiple_of(20))
            }
            Clockwork::Length => {
                self.measure(time, time + 50, "/", Trouble::OnTheLimit, on);
                time + limits.inactivity
            }
            Clockwork::Edge => {
                let (event_time, log_time) = match beat % 4 {
                    0 => (time, time + limits.max_delay),
                    1 => (time, time + limits.max_delay + 1),
                    2 => (time + limits.max_ahead, time),
                    _ => (time + limits.max_ahead + 1, time),
                };
                self.measure(event_time, log_time, "/", Trouble::OnTheLimit, on);
                time + 600_000
            }
        }
    }

    /// A page of the shop.
    fn page(&mut self, time: i64, on: &mut Server) {
        let number = product(&mut self.rng);
        let path = match self.rng.below(10) {
            0 => format!("/category/{}", self.rng.pick(&world::CATEGORIES)),
            _ => format!("/product/{number}"),
        };
        let log_time = time + self.rng.between(1, 20);
        self.measure(time, log_time, &path, Trouble::None, on);
    }

    fn look(&mut self, time: i64, on: &mut Server) {
        let log_time = time + self.rng.between(1, 20);
        self.measure(time, log_time, "/", Trouble::None, on);
    }

    fn measure(
        &mut self,
        event_time: i64,
        log_time: i64,
        path: &str,
        trouble: Trouble,
        on: &mut Server,
    ) {
        let url = format!("https://shop.example{path}");
        let bytes = self.rng.between(8_000, 90_000).to_string();
        let m = Measurement {
            event_id: self.rng.id(),
            browser_id: &self.name,
            event_time,
            effect: "shown",
            entity: "page",
            entity_id: Some(path),
            url: Some(&url),
            ip: Some(&self.ip),
            user_agent: Some(self.agent),
            attributes: &[("status", "200"), ("bytes", &bytes)],
            ..Default::default()
        };
        on.net
            .send(&self.key, on.version, &m, "", Request { log_time, trouble });
    }
}

/// How many pages a crawler reads in a stay, on average.
pub(super) const CRAWL: u64 = 60;

/// How the server names a browser without a cookie.
fn server_name(seed: u64, number: u64) -> String {
    format!(
        "server-{}",
        Rng::new(seed, stream::CRAWLER_NAME, number).name(16)
    )
}
