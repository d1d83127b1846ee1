//! What a view is, in words: what it is of, by what it is keyed, what it sums, over which window.
//! A job file's `[[view]]` says it; see docs/views.md.

use super::row::Sums;
use super::window::STEP;
use crate::fact::Agent;
use crate::hash::fnv;
use crate::visit::Tick;

/// What a view is of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Of {
    /// Accepted measurements, each for itself, at its event time.
    #[default]
    Measurements,
    /// Visits, open and ended, each at the time of its first measurement.
    Visits,
    /// What was put before people, and what came of it: a banner, a recommendation, an arm of an
    /// experiment, with how often it was shown and clicked, and led to carts and orders. Of visits.
    Chains,
    /// Orders by what led to them: a row for each touch on the way, with its credits by each model,
    /// in the smallest unit of the currency.
    Credits,
    /// How many visits came how far through these steps, in order; each `effect entity`.
    Funnel(Vec<Step>),
}

impl Of {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Of::Measurements => "measurements",
            Of::Visits => "visits",
            Of::Chains => "chains",
            Of::Credits => "credits",
            Of::Funnel(_) => "funnel",
        }
    }
}

/// A step of a funnel: a measurement of this effect on this kind of entity; an empty word is any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// The effect.
    pub effect: String,
    /// The kind of entity.
    pub entity: String,
}

/// A field of a view's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// The effect.
    Effect,
    /// The kind of entity.
    Entity,
    /// Which entity.
    EntityId,
    /// The reason.
    Reason,
    /// The arm of an experiment.
    Variant,
    /// The country of the sender.
    Country,
    /// The kind of agent.
    Agent,
    /// The hour of its time, as `2026-01-31T14`, in UTC.
    Hour,
    /// The minute of its time, as `2026-01-31T14:05`, in UTC.
    Minute,
    /// Each beginning of the entity's ID in lower case, up to [`PREFIX`] characters: a row for each.
    Prefix,
    /// The entity ID of a visit's first page.
    Entry,
    /// The entity ID of a visit's last page so far.
    Exit,
    /// The reason for which a visit's first page was there: what the visit came from.
    Source,
    /// Why a visit ended; `open` until it has.
    EndReason,
    /// How far a visit came through a funnel: the step's number and words.
    Step,
    /// Of credits: the touch's name.
    Touch,
}

/// How long the longest beginning is that [`Field::Prefix`] makes, in characters.
pub const PREFIX: usize = 10;

impl Field {
    /// All there are, with the words for them in job files and rows.
    pub const ALL: &'static [(&'static str, Field)] = &[
        ("effect", Field::Effect),
        ("entity", Field::Entity),
        ("entity_id", Field::EntityId),
        ("reason", Field::Reason),
        ("variant", Field::Variant),
        ("country", Field::Country),
        ("agent", Field::Agent),
        ("hour", Field::Hour),
        ("minute", Field::Minute),
        ("prefix", Field::Prefix),
        ("entry", Field::Entry),
        ("exit", Field::Exit),
        ("source", Field::Source),
        ("end_reason", Field::EndReason),
        ("step", Field::Step),
        ("touch", Field::Touch),
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        let found = Field::ALL.iter().find(|(_, field)| *field == self);
        found.map_or("", |(word, _)| word)
    }
}

/// What a view sums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// How many there are: of measurements, of this effect if it says one.
    Count(Option<String>),
    /// The sum of the values, of measurements of this effect if it says one.
    Sum(Option<String>),
    /// How many browsers there are.
    Browsers,
    /// How many there were in the longer window `against`, for as long a time as the window's own.
    Usual,
    /// Of a visit: how many measurements it has.
    Measurements,
    /// Of a visit: how many orders.
    Orders,
    /// Of a visit: their values.
    Revenue,
}

impl Value {
    /// The word for it in a job file.
    #[must_use]
    pub fn word(&self) -> String {
        match self {
            Value::Count(Some(effect)) => format!("count:{effect}"),
            Value::Sum(Some(effect)) => format!("sum:{effect}"),
            other => other.name(),
        }
    }

    /// Its name in rows.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Value::Count(None) => "count".into(),
            Value::Count(Some(effect)) => effect.clone(),
            Value::Sum(None) => "sum".into(),
            Value::Sum(Some(effect)) => format!("sum_{effect}"),
            Value::Browsers => "browsers".into(),
            Value::Usual => "usual".into(),
            Value::Measurements => "measurements".into(),
            Value::Orders => "orders".into(),
            Value::Revenue => "revenue".into(),
        }
    }
}

/// What is usual in a view: it is of all that a count is of, but lasts longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usual {
    /// Its place among the values,
    pub at: u8,
    /// and that of the count.
    pub of: u8,
    /// So much longer it lasts, in ms.
    pub longer: u64,
}

/// A view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// Its name.
    pub name: String,
    /// What it is of.
    pub of: Of,
    /// Only of these effects, if there are any.
    pub effects: Vec<String>,
    /// Only of these kinds of entities, if there are any.
    pub entities: Vec<String>,
    /// Of chains: only what was there for reasons that begin with one of these, if there are any.
    pub reasons: Vec<String>,
    /// People only: neither robots nor what nobody knows.
    pub people: bool,
    /// The fields of its key.
    pub key: Vec<Field>,
    /// What it sums, at most [`SUMS`](super::SUMS).
    pub values: Vec<Value>,
    /// How far back it looks, in ms; a multiple of the step.
    pub window: u64,
    /// How often it moves on, in ms; a multiple of the tick's length.
    pub step: u64,
    /// The longer window that [`Value::Usual`] is of, in ms; a multiple of the step.
    pub against: Option<u64>,
    /// Only so many rows, the greatest by the first value (by how far it is over the usual, where
    /// there is one); of each first field of the key, if `by_first`.
    pub top: Option<usize>,
    /// Whether `top` holds for each first field of the key.
    pub by_first: bool,
    /// Only what is of this time or later: of a view that a job has been given while visits were open.
    /// It is not the view's own, and [`View::identity`] does not heed it.
    pub since: Tick,
}

/// How many measurements there were in the last hour, as of each minute.
impl Default for View {
    fn default() -> View {
        View {
            name: String::new(),
            of: Of::default(),
            effects: Vec::new(),
            entities: Vec::new(),
            reasons: Vec::new(),
            people: false,
            key: Vec::new(),
            values: vec![Value::Count(None)],
            window: 3_600_000,
            step: 60_000,
            against: None,
            top: None,
            by_first: false,
            since: 0,
        }
    }
}

impl View {
    /// What tells it from others wherever it stands among them: a hash of all that its definition says, in
    /// the words of a job file, so that it is the same in every version of the program. What it does not
    /// say is left out.
    #[must_use]
    pub fn identity(&self) -> u64 {
        let mut text = format!("name {}\n", self.name);
        let mut say = |what: &str, words: &mut dyn Iterator<Item = String>| {
            for word in words {
                text.extend([what, " ", &word, "\n"]);
            }
        };
        let mut one = |what: &str, word: Option<String>| say(what, &mut word.into_iter());
        one("of", Some(self.of.word().to_owned()));
        one("people", self.people.then(String::new));
        one("window", Some(self.window.to_string()));
        one("step", Some(self.step.to_string()));
        one("against", self.against.map(|against| against.to_string()));
        one("top", self.top.map(|top| top.to_string()));
        one("by_first", self.by_first.then(String::new));
        if let Of::Funnel(steps) = &self.of {
            let step = |step: &Step| format!("{} {}", step.effect, step.entity);
            say("funnel", &mut steps.iter().map(step));
        }
        say("effect", &mut self.effects.iter().cloned());
        say("entity", &mut self.entities.iter().cloned());
        say("reason", &mut self.reasons.iter().cloned());
        say("key", &mut self.key.iter().map(|key| key.word().to_owned()));
        say("value", &mut self.values.iter().map(Value::word));
        fnv(text.as_bytes())
    }

    /// The sums as a row shows them: the usual, which is summed over the longer window, as it is in
    /// a time as long as the window's.
    #[must_use]
    pub fn shown(&self, mut sums: Sums) -> Sums {
        if let (Some(n), Some(against)) = (self.usual(), self.against) {
            let share =
                i128::from(sums.0[n]) * i128::from(self.window) / i128::from(against.max(1));
            sums.0[n] = i64::try_from(share).unwrap_or(i64::MAX);
        }
        sums
    }

    /// The place of the usual among its values.
    #[must_use]
    pub fn usual(&self) -> Option<usize> {
        self.values.iter().position(|value| *value == Value::Usual)
    }

    /// Whether it moves on when time does, and looks back whole steps, as a job file must say: nothing else
    /// can be kept by the step.
    #[must_use]
    pub fn has_whole_steps(&self) -> bool {
        let is_whole = |time: u64| time > 0 && time.is_multiple_of(self.step);
        self.step > 0
            && self.step.is_multiple_of(STEP)
            && is_whole(self.window)
            && self
                .against
                .is_none_or(|against| is_whole(against) && against > self.window)
    }

    /// The usual, and what it follows from.
    pub(super) fn usual_of(&self) -> Option<Usual> {
        let is_count = |value: &Value| matches!(value, Value::Count(_));
        Some(Usual {
            at: self.usual()? as u8,
            of: self.values.iter().position(is_count)? as u8,
            longer: self.against?.saturating_sub(self.window),
        })
    }

    /// The place of browsers among its values; 0 if it counts none.
    pub(crate) fn browsers(&self) -> usize {
        let place = self.values.iter().position(|v| *v == Value::Browsers);
        place.unwrap_or(0)
    }

    /// Whether it counts what is done by this kind of agent.
    pub(crate) fn counts_agent(&self, agent: Agent) -> bool {
        !self.people || agent == Agent::Person
    }

    /// By what the best rows are chosen: the first value; where there is a usual, by how far the first
    /// is over it, in its spread (squared, in thousandths), if it comes by chance.
    #[must_use]
    pub fn score(&self, sums: &Sums) -> i128 {
        let first = i128::from(sums.0[0]);
        match self.usual() {
            Some(n) => {
                let usual = i128::from(sums.0[n]);
                let over = first - usual;
                over * over.abs() * 1_000 / (usual.max(0) + 1)
            }
            None => first,
        }
    }

    /// The names of its rows' values, in order.
    #[must_use]
    pub fn value_names(&self) -> Vec<String> {
        match self.of {
            Of::Chains => ["shown", "clicked", "carted", "ordered", "revenue"]
                .map(String::from)
                .into(),
            Of::Credits => ["orders", "first", "last", "linear", "position", "expired"]
                .map(String::from)
                .into(),
            _ => self.values.iter().map(Value::name).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_by_the_step_looks_back_whole_steps() {
        let whole = |step, window, against| {
            let view = View {
                step,
                window,
                against,
                ..View::default()
            };
            view.has_whole_steps()
        };
        assert!(View::default().has_whole_steps());
        assert!(whole(500, 2_000, None) && whole(500, 2_000, Some(2_500)));
        // Views move on with ticks,
        assert!(!whole(0, 2_000, None) && !whole(50, 2_000, None));
        // and look back whole steps, and longer for what is usual than for what is now.
        assert!(!whole(500, 0, None) && !whole(500, 2_100, None));
        assert!(!whole(500, 2_000, Some(2_600)) && !whole(500, 2_000, Some(2_000)));
    }

    #[test]
    fn an_identity_says_all_of_a_view_and_stays_what_it_is() {
        let funnel = Of::Funnel(vec![Step {
            effect: "shown".into(),
            entity: "page".into(),
        }]);
        let view = View {
            name: "trending".into(),
            effects: vec!["shown".into()],
            values: vec![Value::Count(Some("shown".into())), Value::Browsers],
            key: vec![Field::EntityId],
            ..View::default()
        };
        // Of states that were kept: they must be found again.
        assert_eq!(View::default().identity(), 9_275_357_641_272_782_479);
        assert_eq!(view.identity(), 10_505_299_936_922_575_241);
        let others = [
            View {
                name: "now".into(),
                ..view.clone()
            },
            View {
                of: Of::Visits,
                ..view.clone()
            },
            View {
                of: funnel,
                ..view.clone()
            },
            View {
                of: Of::Funnel(vec![]),
                ..view.clone()
            },
            View {
                effects: vec![],
                ..view.clone()
            },
            View {
                entities: vec!["shown".into()],
                effects: vec![],
                ..view.clone()
            },
            View {
                reasons: vec!["campaign:".into()],
                ..view.clone()
            },
            View {
                people: true,
                ..view.clone()
            },
            View {
                key: vec![],
                ..view.clone()
            },
            View {
                values: vec![Value::Count(None), Value::Browsers],
                ..view.clone()
            },
            View {
                values: vec![Value::Count(Some("shown".into()))],
                ..view.clone()
            },
            View {
                window: 1,
                ..view.clone()
            },
            View {
                step: 1,
                ..view.clone()
            },
            View {
                against: Some(1),
                ..view.clone()
            },
            View {
                top: Some(1),
                ..view.clone()
            },
            View {
                by_first: true,
                ..view.clone()
            },
        ];
        let mut all: Vec<u64> = others.iter().map(View::identity).collect();
        all.push(view.identity());
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), others.len() + 1, "all are told apart");
        assert_eq!(
            View {
                since: 7,
                ..view.clone()
            }
            .identity(),
            view.identity()
        );
    }
}
