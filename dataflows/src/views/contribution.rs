//! What a measurement, or a visit, adds to views: to which key, how much, and from when until when
//! it counts. Adding up and taking back are the same thing with another sign.

use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

use super::presence::Span;
use super::row::{Key, Sums};
use super::spec::{Field, Of, PREFIX, Value, View};
use super::window::step_end;
use crate::fact::Fact;
use crate::visit::Tick;

/// What is added to a row of a view, and the end of the step in which that was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    /// All effects before this tick are in.
    pub at: Tick,
    /// The view, by its place in the job.
    pub view: u16,
    /// The row.
    pub key: Key,
    /// How much, and while it counts: most often of one span. What is [usual](super::Value::Usual) follows
    /// from what is counted.
    pub sums: SmallVec<[(Span, Sums); 1]>,
}

impl View {
    /// What something adds that was found at the tick `found` and is of this `time`; `number` is the
    /// view's among those that it is summed with. `None` if it is too old to count, and to be usual.
    #[must_use]
    pub fn adds(
        &self,
        number: u16,
        (found, time): (Tick, i64),
        key: Key,
        sums: Sums,
    ) -> Option<Contribution> {
        let at = step_end(found);
        let counts = self.counts(self.window, at, time);
        let still_usual = || self.still_usual(at, time, &sums);
        let own = counts.map(|span| (span, sums)).or_else(still_usual)?;
        Some(Contribution {
            at,
            view: number,
            key,
            sums: [own].into(),
        })
    }

    /// From when until when something of this time counts that is found at `at`: a row as of a step
    /// `B` is over times in `[B - window, B)` of what was accepted before `B`, but of none before
    /// [`since`](View::since). `None` if never.
    #[must_use]
    pub fn counts(&self, window: u64, at: Tick, time: i64) -> Option<Span> {
        let time = u64::try_from(time)
            .ok()
            .filter(|time| *time >= self.since)?;
        let enters = at.max(time + 1).next_multiple_of(self.step);
        let leaves = ((time + window) / self.step + 1) * self.step;
        (enters < leaves).then_some((enters, leaves))
    }

    /// What is still usual of sums of this time, found at `at`, that are too old to count in the window:
    /// of those that do, the [`Window`](super::Window) knows how long they are usual.
    pub(crate) fn still_usual(&self, at: Tick, time: i64, sums: &Sums) -> Option<(Span, Sums)> {
        let usual = self.usual_of()?;
        let count = sums.0[usize::from(usual.of)];
        let span = self.counts(self.window.saturating_add(usual.longer), at, time)?;
        (count != 0).then(|| (span, Sums::one(usual.at.into(), count)))
    }

    /// Whether measurements of this kind are in it.
    #[inline]
    #[must_use]
    pub fn takes(&self, effect: &str, entity: &str) -> bool {
        let is = |words: &[String], word: &str| words.is_empty() || words.iter().any(|w| w == word);
        is(&self.effects, effect) && is(&self.entities, entity)
    }

    /// Whether what was put before people is in it: of an experiment's arm, in a view by arms.
    #[must_use]
    pub fn takes_chain(&self, entity: &str, reason: &str, variant: Option<&str>) -> bool {
        let begins = |with: &String| reason.starts_with(with.as_str());
        (self.entities.is_empty() || self.entities.iter().any(|e| e == entity))
            && (self.reasons.is_empty() || self.reasons.iter().any(begins))
            && (variant.is_some() || !self.key.contains(&Field::Variant))
    }

    /// Gives what a measurement adds: a key and sums, and whether its browser is counted, too.
    pub fn of_fact(&self, fact: &Fact<'_>, mut give: impl FnMut(Key, Sums, bool)) {
        let mut text = String::new();
        self.texts_of_fact(fact, &mut text, |text, sums, browser| {
            give(Key::of_text(text), sums, browser);
        });
    }

    /// The same, with the texts of keys; they are written to `text`.
    #[inline]
    pub(crate) fn texts_of_fact(
        &self,
        fact: &Fact<'_>,
        text: &mut String,
        mut give: impl FnMut(&str, Sums, bool),
    ) {
        if self.of != Of::Measurements
            || !self.counts_agent(fact.agent)
            || !self.takes(fact.effect, fact.entity)
        {
            return;
        }
        let mut sums = Sums::default();
        let mut browsers = false;
        let mut any = false;
        for (n, value) in self.values.iter().enumerate() {
            let is = |of: &Option<String>| of.as_ref().is_none_or(|effect| effect == fact.effect);
            let sum = match value {
                Value::Count(of) if is(of) => 1,
                Value::Sum(of) if is(of) => fact.value.unwrap_or(0),
                Value::Browsers => {
                    browsers = true;
                    continue;
                }
                _ => continue,
            };
            sums.0[n] = sum;
            any |= sum != 0;
        }
        if !any && !browsers {
            return;
        }
        let mut give = |key: &str| give(key, sums, browsers);
        if !self.key.contains(&Field::Prefix) {
            self.write_key(fact, "", text);
            give(text);
            return;
        }
        let Some(id) = fact.entity_id else { return };
        let id = id.text().trim().to_lowercase();
        let begin = id.char_indices().skip(1).take(PREFIX);
        let whole = (!id.is_empty() && id.chars().count() <= PREFIX).then_some(id.len());
        for end in begin.map(|(end, _)| end).chain(whole) {
            self.write_key(fact, &id[..end], text);
            give(text);
        }
    }

    fn write_key(&self, fact: &Fact<'_>, prefix: &str, text: &mut String) {
        let entity_id = fact.entity_id.map(|id| id.text());
        let entity_id = entity_id.as_deref().unwrap_or_default();
        let mut time = String::new();
        for field in &self.key {
            match field {
                Field::Hour => time = hour(fact.at.time),
                Field::Minute => time = minute(fact.at.time),
                _ => {}
            }
        }
        let field = |field: &Field| match field {
            Field::Effect => fact.effect,
            Field::Entity => fact.entity,
            Field::EntityId => entity_id,
            Field::Reason => fact.reason.unwrap_or_default(),
            Field::Variant => fact.variant.unwrap_or_default(),
            Field::Country => fact.country.unwrap_or_default(),
            Field::Agent => fact.agent.word(),
            Field::Hour | Field::Minute => &time,
            Field::Prefix => prefix,
            Field::Entry
            | Field::Exit
            | Field::Source
            | Field::EndReason
            | Field::Step
            | Field::Touch => "",
        };
        Key::write(self.key.iter().map(field), text);
    }
}

/// `2026-01-31T14`, in UTC.
#[must_use]
pub fn hour(time: i64) -> String {
    let (year, month, day) = date(time.div_euclid(86_400_000));
    let hour = time.rem_euclid(86_400_000) / 3_600_000;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}")
}

/// `2026-01-31T14:05`, in UTC.
#[must_use]
pub fn minute(time: i64) -> String {
    format!("{}:{:02}", hour(time), time.rem_euclid(3_600_000) / 60_000)
}

/// The civil date of a day since 1970: years begin in March, so that the leap day is their last
/// (Neri and Schneider, *Euclidean affine functions*, 2023, in its plain form).
fn date(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let era = day.div_euclid(146_097);
    let of_era = day.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    (year, month, of_month)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fact::{Agent, Id};
    use crate::visit::Position;

    fn view() -> View {
        View {
            name: "v".into(),
            of: Of::Measurements,
            effects: vec!["shown".into(), "clicked".into()],
            entities: vec![],
            reasons: vec![],
            people: true,
            key: vec![Field::EntityId],
            values: vec![Value::Count(Some("clicked".into())), Value::Browsers],
            window: 60_000,
            step: 10_000,
            against: None,
            top: None,
            by_first: false,
            since: 0,
        }
    }

    fn given(view: &View, fact: &Fact<'_>) -> Vec<(String, [i64; 2], bool)> {
        let mut all = Vec::new();
        view.of_fact(fact, |key, sums, browser| {
            all.push((key.to_string(), [sums.0[0], sums.0[1]], browser));
        });
        all
    }

    #[test]
    fn a_fact_counts_where_the_view_asks_for_it() {
        let fact = Fact {
            effect: "clicked",
            entity_id: Some(Id::Text("p1")),
            agent: Agent::Person,
            ..Fact::default()
        };
        let p1 = |sums, browser| ("p1".to_owned(), sums, browser);
        assert_eq!(given(&view(), &fact), [p1([1, 0], true)]);
        let shown = Fact {
            effect: "shown",
            ..fact
        };
        assert_eq!(given(&view(), &shown), [p1([0, 0], true)]);
        let other = Fact {
            effect: "ordered",
            ..fact
        };
        assert_eq!(given(&view(), &other), []);
        let robot = Fact {
            agent: Agent::Robot,
            ..fact
        };
        assert_eq!(given(&view(), &robot), []);
    }

    #[test]
    fn beginnings_are_of_whole_characters_and_each_but_once() {
        let view = View {
            key: vec![Field::Prefix, Field::EntityId],
            values: vec![Value::Count(None)],
            people: false,
            ..view()
        };
        let fact = Fact {
            effect: "shown",
            entity_id: Some(Id::Text("Größe")),
            ..Fact::default()
        };
        let keys: Vec<String> = given(&view, &fact)
            .into_iter()
            .map(|(key, ..)| key)
            .collect();
        assert_eq!(
            keys,
            [
                "g Größe",
                "gr Größe",
                "grö Größe",
                "größ Größe",
                "größe Größe"
            ]
        );
        let long = Fact {
            entity_id: Some(Id::Text("winterschoenen")),
            ..fact
        };
        assert_eq!(given(&view, &long).len(), PREFIX);
        let none = Fact {
            entity_id: None,
            at: Position::default(),
            ..fact
        };
        assert_eq!(given(&view, &none), []);
    }

    #[test]
    fn a_row_as_of_a_step_is_over_the_window_before_it() {
        let view = view();
        // Accepted before 20,000 of time 12,345: in as of 20,000, for a minute, out as of 80,000.
        assert_eq!(view.counts(60_000, 13_000, 12_345), Some((20_000, 80_000)));
        // At the bounds: B - window is in, B is not.
        assert_eq!(view.counts(60_000, 20_000, 20_000), Some((30_000, 90_000)));
        assert_eq!(view.counts(60_000, 20_000, 19_999), Some((20_000, 80_000)));
        // Of the past, found now.
        assert_eq!(view.counts(60_000, 75_000, 19_999), None);
        assert_eq!(view.counts(60_000, 70_000, 19_999), Some((70_000, 80_000)));
        assert_eq!(view.counts(60_000, 75_000, -1), None);
    }

    #[test]
    fn hours_are_those_of_the_calendar() {
        assert_eq!(minute(0), "1970-01-01T00:00");
        assert_eq!(hour(951_782_400_000), "2000-02-29T00");
        assert_eq!(hour(1_767_225_599_999), "2025-12-31T23");
        assert_eq!(minute(-1), "1969-12-31T23:59");
    }
}
