//! News: what is added to views, summed up by row until it is told, at the end of a period.

use std::hash::BuildHasher;
use std::rc::Rc;

use differential_dataflow::difference::{IsZero, Semigroup};
use hashbrown::{DefaultHashBuilder, HashTable};

use crate::complete::Key as BrowserKey;
use crate::views::{Browsers, Key, Place, Sums, Value, View};
use crate::visit::Tick;

/// So many entries of a row are summed up anew at the least.
const FEW: usize = 64;

/// What is added to views. One look-up an addition; keeps a row of a view once, and of a view that
/// counts browsers each browser of it.
pub struct News {
    views: Rc<[View]>,
    hasher: DefaultHashBuilder,
    rows: HashTable<Row>,
}

/// What is added to a place, as a contribution says it.
pub type Added = (Place, Sums, Browsers);

/// From when until when something counts.
type Span = (Tick, Tick);

/// What is added to a row.
struct Row {
    view: u16,
    key: Key,
    sums: Vec<(Span, Sums)>,
    browsers: Vec<(Span, BrowserKey, i64)>,
    /// How many entries of browsers there were when they were summed up last.
    summed: usize,
}

impl Row {
    fn add(&mut self, span: Span, sums: Sums) {
        // The latest are the likeliest.
        match self.sums.iter_mut().rev().find(|(own, _)| *own == span) {
            Some((_, own)) => own.plus_equals(&sums),
            None => self.sums.push((span, sums)),
        }
    }

    fn add_browser(&mut self, browser: BrowserKey, span: Span, times: i64) {
        self.browsers.push((span, browser, times));
        if self.browsers.len() > FEW.max(2 * self.summed) {
            self.sum_up();
        }
    }

    /// Sums up the entries of each browser.
    fn sum_up(&mut self) {
        self.browsers.sort_unstable();
        self.browsers.dedup_by(|later, first| {
            let same = (later.0, later.1) == (first.0, first.1);
            if same {
                first.2 += later.2;
            }
            same
        });
        self.browsers.retain(|(.., times)| *times != 0);
        self.summed = self.browsers.len();
    }

    /// What is added, in the form of contributions, once browsers are summed up. `value` is the sum that
    /// counts them.
    fn added(&self, value: u8) -> impl Iterator<Item = Added> {
        let sums = self.sums.iter().filter(|(_, sums)| !sums.is_zero());
        let mut all: Vec<(Span, Sums, Browsers)> = sums
            .map(|(span, sums)| (*span, *sums, Browsers::default()))
            .collect();
        for of_span in self.browsers.chunk_by(|a, b| a.0 == b.0) {
            let times = of_span.iter().map(|(_, browser, times)| (*browser, *times));
            let times = times.collect();
            let browsers = Browsers { value, times };
            let span = of_span[0].0;
            match all.iter_mut().find(|(own, ..)| *own == span) {
                Some(own) => own.2 = browsers,
                None => all.push((span, Sums::default(), browsers)),
            }
        }
        all.into_iter().map(|((enters, leaves), sums, browsers)| {
            let place = Place {
                view: self.view,
                key: self.key.clone(),
                enters,
                leaves,
            };
            (place, sums, browsers)
        })
    }
}

impl News {
    /// None yet, of these views.
    pub fn new(views: Rc<[View]>) -> News {
        News {
            views,
            hasher: DefaultHashBuilder::default(),
            rows: HashTable::new(),
        }
    }

    /// How many rows something is added to.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds to a row of the view of this number something that is of this `time` and was found `at`: to its
    /// sums, and how often a browser is in it.
    pub fn add(
        &mut self,
        n: usize,
        (at, time): (Tick, i64),
        key: &str,
        sums: Sums,
        browser: Option<(BrowserKey, i64)>,
    ) {
        let views = self.views.clone();
        let view = &views[n];
        let span = view.counts(view.window, at, time);
        let usual = view.usual().zip(view.against).and_then(|(usual, against)| {
            let is_count = |value: &Value| matches!(value, Value::Count(_));
            let count = sums.0[view.values.iter().position(is_count)?];
            let span = view.counts(against, at, time)?;
            (count != 0).then(|| (span, Sums::one(usual, count)))
        });
        if span.is_none() && usual.is_none() {
            return;
        }
        let row = self.row(n as u16, key);
        if let Some((span, sums)) = usual {
            row.add(span, sums);
        }
        let Some(span) = span else { return };
        if !sums.is_zero() {
            row.add(span, sums);
        }
        if let Some((browser, times)) = browser {
            row.add_browser(browser, span, times);
        }
    }

    /// Adds what was kept.
    pub fn restore(&mut self, (place, sums, browsers): &Added) {
        let row = self.row(place.view, place.key.text());
        let span = (place.enters, place.leaves);
        row.add(span, *sums);
        for (browser, times) in &browsers.times {
            row.add_browser(*browser, span, *times);
        }
    }

    fn row(&mut self, view: u16, key: &str) -> &mut Row {
        let hasher = &self.hasher;
        let hash = hasher.hash_one((view, key));
        let same = |row: &Row| row.view == view && row.key.text() == key;
        let entry = self.rows.entry(hash, same, |row| {
            hasher.hash_one((row.view, row.key.text()))
        });
        let new = || Row {
            view,
            key: Key::of_text(key),
            sums: Vec::new(),
            browsers: Vec::new(),
            summed: 0,
        };
        entry.or_insert_with(new).into_mut()
    }

    /// All that is added.
    pub fn added(&mut self) -> impl Iterator<Item = Added> {
        self.rows.iter_mut().for_each(Row::sum_up);
        let value = |row: &Row| self.views[usize::from(row.view)].browsers() as u8;
        self.rows.iter().flat_map(move |row| row.added(value(row)))
    }

    /// Gives all that is added; nothing is left.
    pub fn take(&mut self, mut give: impl FnMut(Added)) {
        let views = self.views.clone();
        for mut row in self.rows.drain() {
            row.sum_up();
            let value = views[usize::from(row.view)].browsers() as u8;
            row.added(value).for_each(&mut give);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn views() -> Rc<[View]> {
        let counts = View {
            values: vec![Value::Count(None), Value::Usual, Value::Browsers],
            window: 2_000,
            step: 1_000,
            against: Some(5_000),
            ..View::default()
        };
        let others = View {
            values: vec![Value::Count(None)],
            against: None,
            ..counts.clone()
        };
        [counts, others].into()
    }

    proptest! {
        #[test]
        fn news_are_the_sums_of_what_was_added_by_place(
            added in prop::collection::vec((0..2_usize, 0..3_u8, 0..4_u64, 0..9_000_i64, -2..3_i64), 0..400),
        ) {
            let views = views();
            let mut news = News::new(views.clone());
            let mut expected: HashMap<(Place, u64), Sums> = HashMap::new();
            for (n, key, browser, time, amount) in added {
                let text = key.to_string();
                let browser = if n == 0 { browser } else { 0 };
                let sums = Sums::one(if browser > 0 { 2 } else { 0 }, amount);
                match browser {
                    0 => news.add(n, (8_000, time), &text, sums, None),
                    _ => {
                        let browser = Some(([browser, 0], amount));
                        news.add(n, (8_000, time), &text, Sums::default(), browser);
                    }
                }
                let mut put = |window, sums: Sums| {
                    if let Some((enters, leaves)) = views[n].counts(window, 8_000, time) {
                        let key = Key::of_text(&text);
                        let place = Place { view: n as u16, key, enters, leaves };
                        expected.entry((place, browser)).or_default().plus_equals(&sums);
                    }
                };
                put(2_000, sums);
                if n == 0 && browser == 0 {
                    put(5_000, Sums::one(1, amount));
                }
            }
            expected.retain(|_, sums| !sums.is_zero());
            let mut again = News::new(views);
            news.added().for_each(|added| again.restore(&added));
            for mut news in [news, again] {
                let mut given: HashMap<(Place, u64), Sums> = HashMap::new();
                news.take(|(place, sums, browsers)| {
                    for (browser, times) in browsers.times {
                        let sums = Sums::one(browsers.value.into(), times);
                        assert!(given.insert((place.clone(), browser[0]), sums).is_none());
                    }
                    if !sums.is_zero() {
                        assert!(given.insert((place, 0), sums).is_none());
                    }
                });
                prop_assert_eq!(&given, &expected);
                prop_assert_eq!(news.len(), 0);
            }
        }
    }
}
