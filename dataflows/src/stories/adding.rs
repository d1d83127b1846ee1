//! What measurements that are looked at together add to rows of views of measurements.
//!
//! Of tens of thousands of rows nothing is near, and each is found by what another place says. So all
//! rows are looked for together, a place at a time: the processor waits for many of them at once.

use std::ops::Range;

use super::news::News;
use crate::fact::Fact;
use crate::views::{Sums, View};

/// What is added by each of some measurements; lists that are used again.
#[derive(Default)]
pub struct Adding {
    all: Vec<One>,
    /// The keys of the rows.
    keys: String,
    key: String,
}

/// What a measurement adds to a row.
pub struct One {
    /// Which of the measurements.
    of: usize,
    pub view: usize,
    key: Range<usize>,
    hash: u64,
    pub row: u32,
    pub sums: Sums,
    pub counts_browser: bool,
}

impl Adding {
    /// Finds what these measurements add, and the rows to which they do.
    pub fn find(&mut self, facts: &[Option<Fact<'_>>], views: &[View], news: &mut News) {
        let Adding { all, keys, key } = self;
        all.clear();
        keys.clear();
        for (of, fact) in facts.iter().enumerate() {
            let Some(fact) = fact else { continue };
            rows_of(views, key, fact, |view, key, sums, counts_browser| {
                let begins = keys.len();
                keys.push_str(key);
                all.push(One {
                    of,
                    view,
                    key: begins..keys.len(),
                    hash: news.hash(view as u16, key),
                    row: 0,
                    sums,
                    counts_browser,
                });
            });
        }
        all.iter().for_each(|one| news.bring_name(one.hash));
        for one in &mut *all {
            one.row = news.number_of(one.hash, one.view as u16, &keys[one.key.clone()]);
            news.bring(one.row);
        }
        all.iter().for_each(|one| news.bring_sums(one.row));
    }

    /// What each of so many measurements adds, in order.
    pub fn of_each(&self, measurements: usize) -> impl Iterator<Item = &[One]> {
        let mut rest = &self.all[..];
        (0..measurements).map(move |n| {
            let (own, others) = rest.split_at(rest.partition_point(|one| one.of == n));
            rest = others;
            own
        })
    }
}

/// Gives the rows to which a measurement adds, by view and the text of their keys; how much; and whether
/// its browser is counted there. The text is written to `text`.
pub fn rows_of(
    views: &[View],
    text: &mut String,
    fact: &Fact<'_>,
    mut give: impl FnMut(usize, &str, Sums, bool),
) {
    for (view, spec) in views.iter().enumerate() {
        spec.texts_of_fact(fact, text, |key, sums, counts_browser| {
            give(view, key, sums, counts_browser);
        });
    }
}
