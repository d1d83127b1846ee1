//! What a visit is, once more, in the plainest way: sort, walk, cut. Shares nothing with the job.

use std::collections::{BTreeMap, BTreeSet};

use crate::outputs::VisitRow;

/// The rules, times in ms.
#[derive(Clone, Copy)]
pub struct Cuts {
    pub inactivity: i64,
    pub max_length: i64,
    pub max_size: usize,
}

/// A visit: browser, first, last, how many, why it ended.
pub type Walked = (String, i64, i64, i64, String);

/// The visits of these measurements: browser, time, event.
pub fn walk(
    measurements: impl IntoIterator<Item = (String, i64, [u8; 16])>,
    cuts: Cuts,
) -> BTreeSet<Walked> {
    let mut browsers: BTreeMap<String, BTreeSet<(i64, [u8; 16])>> = BTreeMap::new();
    for (browser, time, event) in measurements {
        browsers.entry(browser).or_default().insert((time, event));
    }
    let mut visits = BTreeSet::new();
    for (browser, places) in browsers {
        let mut visit: Vec<i64> = Vec::new();
        let mut end = |visit: &mut Vec<i64>| {
            let (Some(first), Some(last)) = (visit.first(), visit.last()) else {
                return;
            };
            let reason = match () {
                () if visit.len() == cuts.max_size => "size",
                () if first + cuts.max_length <= last + cuts.inactivity => "length",
                () => "inactivity",
            };
            visits.insert((
                browser.clone(),
                *first,
                *last,
                visit.len() as i64,
                reason.to_owned(),
            ));
            visit.clear();
        };
        for (time, _) in places {
            let joins = visit
                .first()
                .zip(visit.last())
                .is_some_and(|(first, last)| {
                    time - last <= cuts.inactivity
                        && time - first < cuts.max_length
                        && visit.len() < cuts.max_size
                });
            if !joins {
                end(&mut visit);
            }
            visit.push(time);
        }
        end(&mut visit);
    }
    visits
}

/// The same of a table's rows.
pub fn walked(rows: &[VisitRow]) -> BTreeSet<Walked> {
    let of = |v: &VisitRow| {
        (
            v.browser_id.clone(),
            v.started,
            v.last_seen,
            v.measurements,
            v.end_reason.clone(),
        )
    };
    rows.iter().map(of).collect()
}
