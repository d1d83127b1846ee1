//! What a made shop is made of: user agents, addresses, goods, words, and who comes. A browser's
//! properties follow from the seed and its number alone, so nothing is kept of who is away.

use super::rng::Rng;
use super::settings::Troubles;

/// User agents of people, commonest first.
pub(super) const AGENTS: [&str; 30] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.1.1 Safari/605.1.15",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6_1 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Linux; Android 14; SM-S918B) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/27.0 Chrome/125.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (iPad; CPU OS 17_7 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/17.7 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
    "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 13; SM-A536B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.6723.86 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 14; Pixel 8 Pro) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.81 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 12; M2102J20SG) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36 OPR/115.0.0.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:132.0) Gecko/20100101 Firefox/132.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) CriOS/131.0.6778.73 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_7_10 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/16.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Android 14; Mobile; rv:133.0) Gecko/133.0 Firefox/133.0",
    "Mozilla/5.0 (Windows NT 10.0; WOW64; Trident/7.0; rv:11.0) like Gecko",
    "Mozilla/5.0 (Windows NT 6.1; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/109.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 11; moto g(9) play) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/128.0.0.0 Mobile Safari/537.36",
    "Mozilla/5.0 (Linux; Android 9; SM-T510) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/127.0.0.0 Safari/537.36",
    "Mozilla/5.0 (Linux; Android 13; 22111317G) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Mobile Safari/537.36 EdgA/131.0.0.0",
    "Mozilla/5.0 (Linux; Android 14; SM-G991B; wv) AppleWebKit/537.36 (KHTML, like Gecko) Version/4.0 Chrome/131.0.6778.81 Mobile Safari/537.36",
    "Mozilla/5.0 (SMART-TV; Linux; Tizen 7.0) AppleWebKit/537.36 (KHTML, like Gecko) SamsungBrowser/4.0 Chrome/94.0.4606.31 TV Safari/537.36",
    "Mozilla/5.0 (PlayStation; PlayStation 5/8.20) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.0 Safari/605.1.15",
    "Opera/9.80 (Android; Opera Mini/36.2.2254/191.256; U; en) Presto/2.12.423 Version/12.16",
];

/// A crawler: its user agent, the network it comes from, and how many addresses it uses.
pub(super) struct Crawler {
    pub agent: &'static str,
    pub network: &'static str,
    pub addresses: u64,
}

const fn crawler(agent: &'static str, network: &'static str, addresses: u64) -> Crawler {
    Crawler {
        agent,
        network,
        addresses,
    }
}

/// Crawlers by their real names.
pub(super) const CRAWLERS: [Crawler; 9] = [
    crawler(
        "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "66.249.66.",
        12,
    ),
    crawler(
        "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.6778.69 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
        "66.249.64.",
        12,
    ),
    crawler(
        "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)",
        "157.55.39.",
        8,
    ),
    crawler(
        "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)",
        "5.255.253.",
        6,
    ),
    crawler(
        "Mozilla/5.0 (compatible; Baiduspider/2.0; +http://www.baidu.com/search/spider.html)",
        "180.76.15.",
        6,
    ),
    crawler(
        "Mozilla/5.0 (compatible; AhrefsBot/7.0; +http://ahrefs.com/robot/)",
        "54.36.148.",
        6,
    ),
    crawler(
        "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
        "185.191.171.",
        4,
    ),
    crawler(
        "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
        "173.252.83.",
        3,
    ),
    crawler(
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/13.1.1 Safari/605.1.15 (Applebot/0.1; +http://www.apple.com/go/applebot)",
        "17.58.101.",
        3,
    ),
];

/// Who asks every minute whether the shop is there.
pub(super) const MONITORS: [(&str, &str); 2] = [
    (
        "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
        "69.162.124.226",
    ),
    (
        "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
        "5.172.196.188",
    ),
];

/// Who takes everything at once.
pub(super) const SCRAPER: (&str, &str) = ("python-requests/2.32.3", "51.15.0.77");

/// Networks of large access providers, all over the world, how many of 100 people come from each,
/// and the country that it is in.
pub(super) const NETWORKS: [(&str, u64, &str); 36] = [
    ("84.130.", 12, "DE"),
    ("79.192.", 9, "DE"),
    ("91.10.", 8, "DE"),
    ("2003:e0:", 6, "DE"),
    ("62.46.", 5, "AT"),
    ("178.190.", 3, "AT"),
    ("85.0.", 4, "CH"),
    ("83.76.", 2, "CH"),
    ("86.128.", 4, "GB"),
    ("81.152.", 3, "GB"),
    ("90.0.", 4, "FR"),
    ("82.64.", 2, "FR"),
    ("84.80.", 3, "NL"),
    ("79.0.", 3, "IT"),
    ("83.32.", 3, "ES"),
    ("83.0.", 3, "PL"),
    ("88.100.", 1, "CZ"),
    ("81.224.", 2, "SE"),
    ("85.164.", 1, "NO"),
    ("80.160.", 1, "DK"),
    ("88.192.", 1, "FI"),
    ("85.96.", 2, "TR"),
    ("95.24.", 1, "RU"),
    ("73.32.", 3, "US"),
    ("98.192.", 2, "US"),
    ("2601:40:", 2, "US"),
    ("70.48.", 1, "CA"),
    ("187.0.", 1, "BR"),
    ("187.128.", 1, "MX"),
    ("1.120.", 1, "AU"),
    ("126.0.", 1, "JP"),
    ("211.192.", 1, "KR"),
    ("59.88.", 2, "IN"),
    ("105.224.", 1, "ZA"),
    ("2a02:8100:", 1, "DE"),
    ("46.224.", 1, "IR"),
];

/// Kinds of goods.
pub(super) const CATEGORIES: [&str; 12] = [
    "shirts",
    "trousers",
    "shoes",
    "jackets",
    "lamps",
    "sofas",
    "kitchen",
    "garden",
    "toys",
    "books",
    "telephones",
    "bicycles",
];
/// Who makes them.
pub(super) const BRANDS: [&str; 10] = [
    "Aldra",
    "Bergmann",
    "Corvo",
    "Dunlin",
    "Ésprit d'hiver",
    "Fjordly",
    "Grün & Söhne",
    "Halden",
    "Iwa",
    "Jura",
];
/// What people look for, in more scripts than one.
pub(super) const WORDS: [&str; 16] = [
    "red shoes",
    "lamp",
    "sofa grey",
    "süße hose",
    "grüner tee",
    "winter jacket",
    "chaise longue",
    "kinderfahrrad 20 zoll",
    "iphone hülle",
    "Кроссовки",
    "ランプ",
    "قبعة",
    "🎁 under 20",
    "100% cotton",
    "table & chairs",
    "o'neill",
];
/// Why a banner is there.
pub(super) const CAMPAIGNS: [&str; 6] = [
    "campaign:new-year",
    "campaign:sale",
    "campaign:spring",
    "campaign:free-delivery",
    "campaign:newsletter",
    "campaign:app",
];
/// Why a block of goods is there.
pub(super) const RECOMMENDATIONS: [&str; 6] = [
    "recommendation:also-bought",
    "recommendation:also-viewed",
    "recommendation:bestsellers",
    "recommendation:similar",
    "recommendation:recently-viewed",
    "recommendation:for-you",
];
/// How many products there are.
pub(super) const PRODUCTS: u64 = 5_000;

/// The price of a product in cents.
pub(super) fn price(product: u64) -> i64 {
    (499 + product.wrapping_mul(7_919) % 29_501) as i64
}

/// By how much a browser's clock is wrong, in ms. Some are put right in the middle of a visit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Skew {
    pub before: i64,
    pub after: i64,
    /// When it is put right, in ms after the first page.
    pub turns: i64,
}

/// One installed browser and whose it is.
pub(super) struct Browser {
    pub id: String,
    pub agent: &'static str,
    /// The addresses at home and on the way.
    pub ips: [String; 2],
    /// Whose it is.
    pub customer: String,
    /// Who else uses it at times.
    pub other: String,
    pub skew: Skew,
    pub variant: &'static str,
    pub experiment: &'static str,
}

/// Kinds of streams of dice.
pub(super) mod stream {
    pub const BROWSER: u64 = 1;
    pub const SESSION: u64 = 2;
    pub const PEOPLE: u64 = 3;
    pub const CRAWLERS: u64 = 4;
    pub const CRAWL: u64 = 5;
    pub const SCRAPER: u64 = 6;
    pub const MONITOR: u64 = 7;
    pub const CLOCKWORK: u64 = 8;
    pub const NETWORK: u64 = 9;
    pub const CRAWLER_NAME: u64 = 10;
}

/// Browser `number` of the shop with this seed.
pub(super) fn browser(seed: u64, number: u64, troubles: &Troubles) -> Browser {
    let mut rng = Rng::new(seed, stream::BROWSER, number);
    // The least of two: a few agents have most of the people.
    let agent = rng.below(30).min(rng.below(30));
    // Four browsers in a row belong to one to four customers.
    let owner = match (number / 4 % 3, number % 4) {
        (1, place) => number / 4 * 4 + [0, 0, 1, 2][place as usize],
        (2, place) => number / 4 * 4 + [0, 0, 0, 1][place as usize],
        _ => number,
    };
    Browser {
        id: rng.name(22),
        agent: AGENTS[agent as usize],
        ips: [address(&mut rng), address(&mut rng)],
        customer: customer(owner),
        other: customer(owner / 4 * 4 + 3),
        skew: skew(&mut rng, troubles),
        variant: rng.pick(&["ranking:a", "ranking:b"]),
        experiment: rng.pick(&["checkout:old", "checkout:new", "checkout:new,images:large"]),
    }
}

fn customer(number: u64) -> String {
    format!(
        "customer-{:010}",
        number.wrapping_mul(6_364_136_223_846_793_005) % 10_000_000_000
    )
}

fn address(rng: &mut Rng) -> String {
    let sum: u64 = NETWORKS.iter().map(|(_, share, _)| share).sum();
    let mut place = rng.below(sum);
    let mut network = NETWORKS[0].0;
    for (prefix, share, _) in NETWORKS {
        if place < share {
            network = prefix;
            break;
        }
        place -= share;
    }
    match network.ends_with(':') {
        true => format!(
            "{network}{:x}::{:x}",
            rng.below(0xffff) + 1,
            rng.below(0xffff) + 1
        ),
        false => format!("{network}{}.{}", rng.below(256), rng.below(254) + 1),
    }
}

fn skew(rng: &mut Rng, troubles: &Troubles) -> Skew {
    if !rng.chance(troubles.wrong_clocks, 1_000_000) {
        return Skew::default();
    }
    let sign = rng.pick(&[-1, 1]);
    let before = sign
        * match rng.below(10) {
            // Wrong, but within the limits for the most part.
            0..3 => rng.between(2_000, 110_000),
            3..6 => rng.between(120_000, 900_000),
            // The time of another zone.
            6..8 => rng.between(1, 11) * 3_600_000,
            _ => rng.between(1, 400) * 86_400_000 + rng.between(0, 86_399_999),
        };
    match rng.chance(1, 3) {
        true => Skew {
            before,
            after: 0,
            turns: rng.between(10_000, 300_000),
        },
        false => Skew {
            before,
            after: before,
            turns: 0,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn customers_have_several_browsers_and_browsers_have_one_id() {
        let mut of: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for number in 0..1_200 {
            let browser = browser(1, number, &Troubles::default());
            of.entry(browser.customer).or_default().push(browser.id);
        }
        let with = |n: usize| of.values().filter(|ids| ids.len() == n).count();
        assert_eq!(
            [with(1), with(2), with(3), with(4)],
            [400 + 200 + 100, 100, 100, 0]
        );
        let ids: std::collections::BTreeSet<&String> = of.values().flatten().collect();
        assert_eq!(ids.len(), 1_200);
    }

    #[test]
    fn addresses_are_addresses() {
        let mut rng = Rng::new(1, 0, 0);
        for _ in 0..1_000 {
            let text = address(&mut rng);
            assert!(text.parse::<std::net::IpAddr>().is_ok(), "{text}");
        }
    }
}
