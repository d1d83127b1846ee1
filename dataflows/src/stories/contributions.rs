//! What a visit adds to the views of visits: rows of its story, at the time at which it began.

use std::borrow::Cow;
use std::collections::BTreeMap;

use differential_dataflow::difference::Semigroup;

use super::story::Story;
use crate::attribution::{Credit, EXPIRED, Settings, beginning, chains_by};
use crate::fact::{Agent, Fact, Id};
use crate::views::{Field, Key, Of, Step, Sums, Value, View, hour, minute};
use crate::visit::EndReason;

/// What a visit adds: by view, row, and whether its browser is counted there; at which time.
pub type Rows = BTreeMap<(u16, Key, bool, i64), Sums>;

/// What a visit adds to all views of visits, but those of credits.
pub fn rows(views: &[View], story: &Story<'_>, settings: &Settings) -> Rows {
    let mut rows = Rows::new();
    let of = Fields::of(story);
    let key = |view: &View, own: &Own<'_>| {
        let mut text = String::new();
        of.write_key(view, own, &mut text);
        Key::of_text(&text)
    };
    for (n, view) in views.iter().enumerate() {
        if !view.counts_agent(story.agent) {
            continue;
        }
        let mut add = |key: Key, browser: bool, sums: Sums| {
            let place = (n as u16, key, browser, story.visit.first.time);
            rows.entry(place).or_default().plus_equals(&sums);
        };
        match &view.of {
            Of::Visits => {
                let key = key(view, &Own::default());
                let mut sums = Sums::default();
                for (n, value) in view.values.iter().enumerate() {
                    sums.0[n] = match value {
                        Value::Count(None) => 1,
                        Value::Count(Some(effect)) => {
                            let is = |fact: &&Fact<'_>| fact.effect == effect;
                            story.facts.iter().filter(is).count() as i64
                        }
                        Value::Measurements => story.facts.len() as i64,
                        Value::Orders => story.orders().count() as i64,
                        Value::Revenue | Value::Sum(_) => {
                            story.orders().filter_map(|order| order.value).sum()
                        }
                        Value::Browsers => {
                            add(key.clone(), true, Sums::one(n, 1));
                            0
                        }
                        Value::Usual => 0,
                    };
                }
                add(key, false, sums);
            }
            Of::Funnel(steps) => {
                let mut facts = story.facts.iter();
                for (n, step) in steps.iter().enumerate() {
                    if !facts.any(|fact| is_step(fact, step)) {
                        break;
                    }
                    let own = Own {
                        step: &step_name(n, step),
                        ..Own::default()
                    };
                    add(key(view, &own), false, Sums::one(0, 1));
                }
            }
            Of::Chains => {
                let led = chains_by(story.facts, settings, |fact| of.chain_key(view, fact));
                for (key, led) in led {
                    let mut sums = Sums::default();
                    sums.0[..led.len()].copy_from_slice(&led);
                    add(key, false, sums);
                }
            }
            // Orders are credited elsewhere.
            Of::Measurements | Of::Credits => {}
        }
    }
    rows
}

/// What a touch of an order adds to a view of credits; `of` are the fields of the order's visit.
pub fn of_credit(view: &View, of: &Fields<'_>, credit: &Credit) -> (Key, Sums) {
    let own = Own {
        reason: &credit.touch,
        ..Own::default()
    };
    let mut key = String::new();
    of.write_key(view, &own, &mut key);
    let mut sums = Sums::one(0, 1);
    sums.0[1..5].copy_from_slice(&[credit.first, credit.last, credit.linear, credit.position]);
    sums.0[5] = i64::from(&*credit.touch == EXPIRED);
    (Key::of_text(&key), sums)
}

/// Whether a measurement is of a funnel's step.
pub fn is_step(fact: &Fact<'_>, step: &Step) -> bool {
    let is = |word: &str, of: &str| of.is_empty() || of == word;
    is(fact.effect, &step.effect) && is(fact.entity, &step.entity)
}

/// How rows name a funnel's step.
pub fn step_name(n: usize, step: &Step) -> String {
    let mut name = (n + 1).to_string();
    for word in [&step.entity, &step.effect] {
        if !word.is_empty() {
            name.extend([" ", word]);
        }
    }
    name
}

/// The fields of a row that are not its visit's.
#[derive(Default)]
pub struct Own<'a> {
    pub entity: &'a str,
    pub entity_id: &'a str,
    pub reason: &'a str,
    pub variant: &'a str,
    pub step: &'a str,
}

/// The fields of a row that are its visit's.
#[derive(Default)]
pub struct Fields<'a> {
    pub country: &'a str,
    pub agent: Agent,
    /// The time of its first measurement.
    pub started: i64,
    pub entry: Cow<'a, str>,
    pub exit: Cow<'a, str>,
    pub source: &'a str,
    pub ended: Option<EndReason>,
}

impl<'a> Fields<'a> {
    /// Those of a story.
    pub fn of(story: &Story<'a>) -> Fields<'a> {
        let page = |fact: Option<&'a Fact<'a>>| {
            let id = fact.and_then(|fact| fact.entity_id);
            id.map(Id::text).unwrap_or_default()
        };
        Fields {
            country: story.country(),
            agent: story.agent,
            started: story.visit.first.time,
            entry: page(story.pages().next()),
            exit: page(story.pages().next_back()),
            source: story.source(),
            ended: story.ended,
        }
    }

    /// The key of what was shown in a view of chains, if the view takes it. By the view's own key: a click
    /// counts once for each, however fine another is.
    pub fn chain_key(&self, view: &View, fact: &Fact<'_>) -> Option<Key> {
        let mut text = String::new();
        self.write_chain_key(view, fact, &mut text)
            .then(|| Key::of_text(&text))
    }

    /// Writes that key; false if there is none.
    pub fn write_chain_key(&self, view: &View, fact: &Fact<'_>, text: &mut String) -> bool {
        let entity = beginning(fact.entity);
        let reason = fact.reason.map(beginning).unwrap_or_default();
        let variant = fact.variant.map(beginning);
        if !view.takes_chain(entity, reason, variant) {
            return false;
        }
        let entity_id = fact.entity_id.map(Id::text).unwrap_or_default();
        let own = Own {
            entity,
            entity_id: beginning(&entity_id),
            reason,
            variant: variant.unwrap_or_default(),
            ..Own::default()
        };
        self.write_key(view, &own, text);
        true
    }

    /// Writes the text of a row's key.
    pub fn write_key(&self, view: &View, own: &Own<'_>, text: &mut String) {
        let mut time = String::new();
        for field in &view.key {
            match field {
                Field::Hour => time = hour(self.started),
                Field::Minute => time = minute(self.started),
                _ => {}
            }
        }
        let field = |field: &Field| match field {
            Field::Country => self.country,
            Field::Agent => self.agent.word(),
            Field::Hour | Field::Minute => &time,
            Field::Entry => &self.entry,
            Field::Exit => &self.exit,
            Field::Source => self.source,
            Field::EndReason => self.ended.map_or("open", |reason| reason.word()),
            Field::Entity => own.entity,
            Field::EntityId => own.entity_id,
            Field::Reason | Field::Touch => own.reason,
            Field::Variant => own.variant,
            Field::Step => own.step,
            Field::Effect | Field::Prefix => "",
        };
        Key::write(view.key.iter().map(field), text);
    }
}
