//! Touches: what on the way to an order made a difference, by name.
//!
//! The *touch path* of a chain is, in this order:
//!
//! 1. the past touches that lie before the visit's first measurement, and at most `look_back`
//!    before the order, by time;
//! 2. `expired`, if the chain ends at a cause that is gone;
//! 3. from the root to the order, the touch of each link that has one ([`of_link`]).
//!
//! Of neighbours with one name the first stands for all: a block of recommendations and the product
//! in it are one touch. If that leaves nothing, the last link's reason is the only touch, even if
//! it is a mere one, or `unknown` if it has none.

use std::borrow::Cow;

use super::chain::{Causes, Chain, End, SHOWN};
use super::{PastTouch, Settings, Way};
use crate::fact::Fact;

/// The touch of a cause that is gone.
pub const EXPIRED: &str = "expired";
/// The touch of a chain of which nothing is known.
pub const UNKNOWN: &str = "unknown";

/// A touch on the way, borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Touch<'a> {
    pub time: i64,
    pub name: Cow<'a, str>,
}

impl<'a> Touch<'a> {
    pub fn new(time: i64, name: impl Into<Cow<'a, str>>) -> Touch<'a> {
        Touch {
            time,
            name: name.into(),
        }
    }

    /// For later.
    pub fn kept(&self) -> PastTouch {
        PastTouch {
            time: self.time,
            touch: super::cut(&self.name),
        }
    }
}

/// A reason's kind and detail, as `campaign:spring`; what follows a second colon is left out, so
/// that names stay few.
#[must_use]
pub fn name_of_reason(reason: &str) -> &str {
    match reason.match_indices(':').nth(1) {
        Some((end, _)) => &reason[..end],
        None => reason,
    }
}

/// The touch of a link in a chain: its reason's kind and detail, unless that is a mere one. Without
/// a reason, a search is `search`, a banner `banner`, and a page with no cause what its addresses
/// say: `campaign:` and its `utm_campaign`; `external-search`; `referral:` and another site's host;
/// `direct` without a referrer.
///
/// ```
/// use visitflow_dataflows::attribution::{Settings, of_link};
/// use visitflow_dataflows::fact::Fact;
/// let settings = Settings::default();
/// let shown = |reason| Fact { effect: "shown", entity: "page", reason, ..Fact::default() };
/// assert_eq!(of_link(&shown(Some("campaign:spring")), &settings).as_deref(), Some("campaign:spring"));
/// assert_eq!(of_link(&shown(Some("navigation")), &settings), None);
/// assert_eq!(of_link(&shown(None), &settings).as_deref(), Some("direct"));
/// ```
#[must_use]
pub fn of_link<'a>(fact: &Fact<'a>, settings: &Settings) -> Option<Cow<'a, str>> {
    if let Some(reason) = fact.reason.filter(|reason| !reason.is_empty()) {
        let name = name_of_reason(reason);
        let mere = settings.mere.iter().any(|mere| **mere == *name);
        return (!mere).then(|| name.into());
    }
    match (fact.effect, fact.entity) {
        ("searched", _) => Some("search".into()),
        (_, "banner") => Some("banner".into()),
        (SHOWN, "page") if fact.cause.is_none() => entry(fact),
        _ => None,
    }
}

/// What a page without cause and reason was come to from, by its addresses: the campaign of a
/// `utm_campaign`, a search engine, another site, or nothing. `None` if from a page of its own
/// site.
fn entry<'a>(fact: &Fact<'a>) -> Option<Cow<'a, str>> {
    let url = fact.url.unwrap_or_default();
    if let Some(campaign) = parameter(url, "utm_campaign") {
        return Some(format!("campaign:{campaign}").into());
    }
    match host(fact.referrer.unwrap_or_default()) {
        None => Some("direct".into()),
        Some(from) if host(url) == Some(from) => None,
        Some(from) if is_search_engine(from) => Some("external-search".into()),
        Some(from) => Some(format!("referral:{from}").into()),
    }
}

/// A parameter of a query, as it stands there.
fn parameter<'a>(url: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = url.split('#').next()?.split_once('?')?;
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.find(|(key, value)| *key == name && !value.is_empty())?;
    Some(value)
}

/// The host of an address; none of a path.
fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit('@').next()?.split(':').next()?;
    (!host.is_empty()).then_some(host)
}

fn is_search_engine(host: &str) -> bool {
    const ENGINES: [&str; 10] = [
        "google",
        "bing",
        "duckduckgo",
        "yahoo",
        "yandex",
        "baidu",
        "ecosia",
        "qwant",
        "startpage",
        "seznam",
    ];
    host.split('.').any(|label| ENGINES.contains(&label))
}

/// The touches along a chain, from its root, without the past: neighbours with one name once.
pub(super) fn along<'f>(
    causes: &Causes<'f>,
    chain: &Chain,
    settings: &Settings,
    path: &mut Vec<Touch<'f>>,
) {
    for at in chain.links.iter().rev() {
        let fact = &causes.facts()[*at as usize];
        if let Some(name) = of_link(fact, settings)
            && path.last().is_none_or(|last| last.name != name)
        {
            path.push(Touch::new(fact.at.time, name));
        }
    }
}

/// The touches of earlier visits that may have led to an order made at this time, in a visit that `began`
/// then: by time, of neighbours with one name the first.
pub(super) fn before<'p>(
    past: &'p [PastTouch],
    ordered: i64,
    began: i64,
    settings: &Settings,
) -> Vec<&'p PastTouch> {
    let since = ordered.saturating_sub(settings.look_back);
    let mut before: Vec<&PastTouch> = past
        .iter()
        .filter(|touch| (since..began).contains(&touch.time))
        .collect();
    before.sort_unstable();
    before.dedup_by(|later, kept| later.touch == kept.touch);
    before
}

/// What is on a chain's way within its visit.
pub(super) fn way(causes: &Causes<'_>, chain: &Chain, share: i64, settings: &Settings) -> Way {
    let last = &causes.facts()[chain.last()];
    let mut path = Vec::new();
    if chain.end == End::Gone {
        path.push(Touch::new(last.at.time, EXPIRED));
    }
    along(causes, chain, settings, &mut path);
    let is_spare = path.is_empty();
    if is_spare {
        let reason = last.reason.filter(|reason| !reason.is_empty());
        path.push(Touch::new(
            last.at.time,
            reason.map_or(UNKNOWN, name_of_reason),
        ));
    }
    Way {
        share,
        touches: path.iter().map(Touch::kept).collect(),
        is_spare,
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::tests::fact;
    use super::super::traced::path;
    use super::*;

    fn names(facts: &[Fact], past: &[PastTouch]) -> Vec<String> {
        let settings = Settings {
            look_back: 100,
            ..Settings::default()
        };
        let mut causes = Causes::of(facts);
        let chain = causes.follow(facts.len() - 1, 64);
        let [first, order] = [0, facts.len() - 1].map(|at| facts[at].at.time);
        let way = way(&causes, &chain, 0, &settings);
        let path = path(&before(past, order, first, &settings), &way);
        path.into_iter().map(|touch| touch.name.into()).collect()
    }

    fn why(reason: &'static str, fact: Fact<'static>) -> Fact<'static> {
        Fact {
            reason: Some(reason),
            ..fact
        }
    }

    #[test]
    fn a_path_goes_from_the_past_over_the_root_to_the_order() {
        let facts = [
            why("campaign:spring", fact(201, "shown", None)),
            why("recommendation:similar:3", fact(202, "shown", Some(201))),
            why("recommendation:similar", fact(203, "shown", Some(202))),
            fact(204, "clicked", Some(203)),
            why("navigation", fact(205, "shown", Some(204))),
            fact(206, "searched", Some(205)),
            fact(207, "ordered", Some(206)),
        ];
        let past = [
            (150, "search"),
            (10, "too-old"),
            (120, "direct"),
            (201, "now"),
        ]
        .map(|(time, touch)| PastTouch {
            time,
            touch: touch.into(),
        });
        assert_eq!(
            names(&facts, &past),
            [
                "direct",
                "search",
                "campaign:spring",
                "recommendation:similar",
                "search"
            ]
        );
    }

    #[test]
    fn a_cause_that_is_gone_is_expired_and_stands_before_what_is_left() {
        let facts = [
            why("search", fact(1, "shown", Some(99))),
            fact(2, "ordered", Some(1)),
        ];
        assert_eq!(names(&facts, &[]), ["expired", "search"]);
    }

    #[test]
    fn where_nothing_is_known_the_roots_reason_is_better_than_none() {
        let reloaded = [
            why("reload", fact(1, "shown", None)),
            fact(2, "ordered", Some(1)),
        ];
        assert_eq!(names(&reloaded, &[]), ["reload"]);
        assert_eq!(names(&[fact(1, "ordered", None)], &[]), ["unknown"]);
    }

    #[test]
    fn a_page_without_reason_is_come_to_from_where_its_addresses_say() {
        let from = |url, referrer| {
            let page = Fact {
                url: Some(url),
                referrer,
                ..fact(1, "shown", None)
            };
            of_link(&page, &Settings::default()).map(String::from)
        };
        let own = "https://shop.example/a?x=1&utm_campaign=&utm_source=y#utm_campaign=z";
        assert_eq!(from(own, None).as_deref(), Some("direct"));
        assert_eq!(from(own, Some("https://shop.example/b")), None);
        assert_eq!(
            from("/a", Some("https://www.google.co.uk/")).as_deref(),
            Some("external-search")
        );
        assert_eq!(
            from("/a?utm_campaign=spring", Some("https://www.google.com/")).as_deref(),
            Some("campaign:spring")
        );
        assert_eq!(
            from(own, Some("https://me@news.example:8080?q")).as_deref(),
            Some("referral:news.example")
        );
    }
}
