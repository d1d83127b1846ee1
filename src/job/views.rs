//! The views of a job: each `[[view]]` of its file, key by key, with everything that is wrong said at
//! once and where. For the reader of job files alone; what a view is says
//! [`View`](visitflow_dataflows::views::View).

use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use visitflow_dataflows::views::{Field, Of, STEP, SUMS, Step, Value, View};

use super::error::excerpt;
use super::gather::Lines;
use super::nearest::nearest_word;
use super::quantity::{Milliseconds, parse_duration};
use super::settings::is_name;
use super::{JobError, Place, Problem};

/// The most views of a job.
const MOST: usize = 256;
const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const DAY: u64 = 24 * 60 * MINUTE;

/// The keys of a view, with what each takes and means.
pub const KEYS: [(&str, &str, &str); 14] = [
    ("name", "a name", "what it is asked for by"),
    (
        "of",
        "measurements, visits, chains, credits or funnel",
        "what its rows are sums of",
    ),
    ("effects", "texts", "only measurements of these effects"),
    ("entities", "texts", "only these kinds of entities"),
    (
        "reasons",
        "texts",
        "of chains: only what was there for reasons that begin with one of these",
    ),
    (
        "people",
        "true or false",
        "without robots, and without what nobody knows; false if not written",
    ),
    ("key", "names of fields", "what its rows are keyed by"),
    (
        "values",
        "count, count:EFFECT, sum, sum:EFFECT, browsers, usual; of visits also measurements, orders, revenue",
        "what is summed, at most six; `count` if not written",
    ),
    (
        "steps",
        "texts, each EFFECT ENTITY",
        "of a funnel: the steps in order; `*` is any",
    ),
    (
        "window",
        "a duration from 100ms to 31d",
        "how far back it looks; 1h if not written",
    ),
    (
        "step",
        "a duration from 100ms to 1d",
        "how often it moves on; a sixtieth of the window, of whole seconds, if not written",
    ),
    (
        "against",
        "a duration, longer than the window",
        "the time that `usual` is of",
    ),
    (
        "top",
        "a whole number from 1 to 10,000",
        "only the greatest, by the first value; with `usual`, by how far it is over that",
    ),
    (
        "by_first",
        "true or false",
        "`top` of each first field of the key, not of all",
    ),
];

/// The table of all keys in `docs/views.md`.
#[must_use]
pub fn view_keys_as_markdown() -> String {
    let mut text = String::from("| key | takes | meaning |\n| --- | --- | --- |\n");
    for (key, takes, meaning) in KEYS {
        text.push_str(&format!("| `{key}` | {takes} | {meaning} |\n"));
    }
    text
}

/// Reads the views of a file.
pub(super) fn read(value: &Spanned<DeValue<'_>>, lines: &Lines<'_>, file: &Path) -> Read {
    let mut read = Read {
        views: Vec::new(),
        errors: Vec::new(),
    };
    let place = |span: std::ops::Range<usize>| Place::in_file(file, Some(lines.at(span.start)));
    let Some(tables) = value.get_ref().as_array() else {
        read.errors.push(JobError {
            place: place(value.span()),
            problem: Problem::Value {
                key: "view".to_owned(),
                value: excerpt(lines.text.get(value.span()).unwrap_or_default()),
                expected: "sections [[view]], each with a name and a key".to_owned(),
            },
        });
        return read;
    };
    for table in tables.iter() {
        let mut reader = ViewReader {
            lines,
            file,
            errors: &mut read.errors,
            name: String::new(),
        };
        let view = match table.get_ref() {
            DeValue::Table(keys) => reader.view(keys, &table.span()),
            _ => {
                reader.wrong(
                    "view",
                    table,
                    "sections [[view]], each with a name and a key",
                );
                None
            }
        };
        let Some(view) = view else { continue };
        if read.views.iter().any(|known| known.name == view.name) || read.views.len() == MOST {
            let expected = if read.views.len() == MOST {
                format!("at most {MOST} views")
            } else {
                "a name that no other view has".to_owned()
            };
            read.errors.push(JobError {
                place: place(table.span()),
                problem: Problem::Value {
                    key: "view.name".to_owned(),
                    value: excerpt(&view.name),
                    expected,
                },
            });
            continue;
        }
        read.views.push(view);
    }
    read
}

/// What was read.
pub(super) struct Read {
    pub(super) views: Vec<View>,
    pub(super) errors: Vec<JobError>,
}

struct ViewReader<'a, 'l> {
    lines: &'a Lines<'l>,
    file: &'a Path,
    errors: &'a mut Vec<JobError>,
    name: String,
}

impl ViewReader<'_, '_> {
    fn error(&mut self, span: std::ops::Range<usize>, problem: Problem) {
        let place = Place::in_file(self.file, Some(self.lines.at(span.start)));
        self.errors.push(JobError { place, problem });
    }

    fn wrong(&mut self, key: &str, value: &Spanned<DeValue<'_>>, expected: &str) {
        let text = self.lines.text.get(value.span()).unwrap_or_default();
        let problem = Problem::Value {
            key: self.key(key),
            value: excerpt(text),
            expected: expected.to_owned(),
        };
        self.error(value.span(), problem);
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() {
            format!("view.{key}")
        } else {
            format!("view.{}.{key}", self.name)
        }
    }

    fn view(&mut self, keys: &DeTable<'_>, span: &std::ops::Range<usize>) -> Option<View> {
        let before = self.errors.len();
        if let Some(name) = keys.get("name").and_then(|name| name.get_ref().as_str()) {
            if is_name(name) {
                self.name = name.to_owned();
            } else if let Some(value) = keys.get("name") {
                self.wrong("name", value, "a name of letters, digits, `.`, `_` and `-`");
            }
        } else {
            let problem = Problem::Missing {
                key: "view.name".to_owned(),
                expected: "a name that it is asked for by, such as \"trending\"".to_owned(),
            };
            self.error(span.clone(), problem);
        }
        for (key, _) in keys.iter() {
            if !KEYS.iter().any(|(known, ..)| known == key.get_ref()) {
                let known = KEYS.map(|(known, ..)| known);
                let known = match nearest_word(key.get_ref(), &known) {
                    Some(word) => format!("did you mean {word}?"),
                    None => format!("a view has {}", known.join(", ")),
                };
                let key_text = self.key(&excerpt(key.get_ref()));
                self.error(
                    key.span(),
                    Problem::Unknown {
                        key: key_text,
                        known,
                    },
                );
            }
        }
        let steps = self.texts(keys, "steps").unwrap_or_default();
        let steps = steps.iter().map(|text| {
            let mut words = text
                .split_whitespace()
                .map(|word| if word == "*" { "" } else { word });
            Step {
                effect: words.next().unwrap_or_default().to_owned(),
                entity: words.next().unwrap_or_default().to_owned(),
            }
        });
        let steps: Vec<Step> = steps.collect();
        let of = match self.text(keys, "of").as_deref() {
            None | Some("measurements") => Of::Measurements,
            Some("visits") => Of::Visits,
            Some("chains") => Of::Chains,
            Some("credits") => Of::Credits,
            Some("funnel") => Of::Funnel(steps.clone()),
            Some(_) => {
                self.wrong(
                    "of",
                    &keys["of"],
                    "measurements, visits, chains, credits or funnel",
                );
                return None;
            }
        };
        if matches!(of, Of::Funnel(_)) == steps.is_empty() {
            let expected = "the steps of a funnel, such as [\"shown page\", \"ordered order\"]";
            match keys.get("steps") {
                Some(value) if !steps.is_empty() => {
                    self.wrong("steps", value, "a view of = \"funnel\"")
                }
                _ => self.error(
                    span.clone(),
                    Problem::Missing {
                        key: self.key("steps"),
                        expected: expected.to_owned(),
                    },
                ),
            }
        }
        let key = self.fields(keys, &of);
        let values = self.values(keys, &of);
        let window = self
            .duration(keys, "window", STEP, 31 * DAY)
            .unwrap_or(60 * MINUTE);
        let step = self.duration(keys, "step", STEP, DAY);
        // Of whole seconds where the window is: who wants it sooner says so.
        let unit = if window.is_multiple_of(SECOND) {
            SECOND
        } else {
            STEP
        };
        let step = step.unwrap_or((window / 60).next_multiple_of(unit));
        let against = self.duration(keys, "against", window + STEP, 31 * DAY);
        for (word, ms) in [
            ("step", Some(step)),
            ("window", Some(window)),
            ("against", against),
        ] {
            let unit = if word == "step" { STEP } else { step };
            if let Some(ms) = ms.filter(|ms| !ms.is_multiple_of(unit)) {
                let _ = ms;
                let expected = format!("a multiple of {}", Milliseconds(unit));
                match keys.get(word) {
                    Some(value) => self.wrong(word, value, &expected),
                    None => {
                        let problem = Problem::Missing {
                            key: self.key("step"),
                            expected: "a duration that divides the window".to_owned(),
                        };
                        self.error(span.clone(), problem);
                    }
                }
            }
        }
        let usual = values.contains(&Value::Usual);
        if usual != against.is_some() {
            let (key, expected) = if usual {
                (
                    "against",
                    "the longer time that `usual` is of, such as \"24h\"",
                )
            } else {
                ("values", "`usual` among them, since there is an `against`")
            };
            let problem = Problem::Missing {
                key: self.key(key),
                expected: expected.to_owned(),
            };
            self.error(span.clone(), problem);
        }
        let top = keys.get("top").and_then(|value| {
            let number = value
                .get_ref()
                .as_integer()
                .and_then(|n| n.as_str().replace('_', "").parse().ok());
            let number = number.filter(|n| (1..=10_000_usize).contains(n));
            if number.is_none() {
                self.wrong("top", value, "a whole number from 1 to 10,000");
            }
            number
        });
        let view = View {
            name: self.name.clone(),
            of,
            effects: self.texts(keys, "effects").unwrap_or_default(),
            entities: self.texts(keys, "entities").unwrap_or_default(),
            reasons: self.texts(keys, "reasons").unwrap_or_default(),
            people: self.flag(keys, "people"),
            key,
            values,
            window,
            step,
            against,
            top,
            by_first: self.flag(keys, "by_first"),
            since: 0,
        };
        (self.errors.len() == before).then_some(view)
    }

    fn text(&mut self, keys: &DeTable<'_>, key: &str) -> Option<String> {
        let value = keys.get(key)?;
        let text = value.get_ref().as_str().map(str::to_owned);
        if text.is_none() {
            self.wrong(key, value, "a text in quotes");
        }
        text
    }

    fn texts(&mut self, keys: &DeTable<'_>, key: &str) -> Option<Vec<String>> {
        let value = keys.get(key)?;
        let texts = value.get_ref().as_array().map(|array| {
            let texts = array
                .iter()
                .map(|text| text.get_ref().as_str().map(str::to_owned));
            texts.collect::<Option<Vec<String>>>()
        });
        let texts = texts.flatten();
        if texts.is_none() {
            self.wrong(
                key,
                value,
                "a list of texts, such as [\"shown\", \"clicked\"]",
            );
        }
        texts
    }

    fn flag(&mut self, keys: &DeTable<'_>, key: &str) -> bool {
        let Some(value) = keys.get(key) else {
            return false;
        };
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            self.wrong(key, value, "true or false");
        }
        flag.unwrap_or(false)
    }

    fn duration(&mut self, keys: &DeTable<'_>, key: &str, least: u64, most: u64) -> Option<u64> {
        let value = keys.get(key)?;
        let ms = value
            .get_ref()
            .as_str()
            .and_then(|text| parse_duration(text).ok());
        let ms = ms.filter(|ms| (least..=most).contains(ms));
        if ms.is_none() {
            let expected = format!(
                "a duration from {} to {}, such as \"10min\"",
                Milliseconds(least),
                Milliseconds(most)
            );
            self.wrong(key, value, &expected);
        }
        ms
    }

    /// The key's fields, each of which must be one that there is in such a view.
    fn fields(&mut self, keys: &DeTable<'_>, of: &Of) -> Vec<Field> {
        let common = ["country", "agent", "hour", "minute"];
        let own: &[&str] = match of {
            Of::Measurements => &[
                "effect",
                "entity",
                "entity_id",
                "reason",
                "variant",
                "prefix",
            ],
            Of::Visits => &["entry", "exit", "source", "end_reason"],
            Of::Chains => &["entity", "entity_id", "reason", "variant", "source"],
            Of::Credits => &["touch", "source"],
            Of::Funnel(_) => &["step", "source"],
        };
        let Some(words) = self.texts(keys, "key") else {
            return match of {
                Of::Funnel(_) => vec![Field::Step],
                Of::Credits => vec![Field::Touch],
                _ => vec![],
            };
        };
        let mut fields = Vec::new();
        for word in words {
            if !own.contains(&&*word) && !common.contains(&&*word) {
                let known: Vec<&str> = own.iter().chain(&common).copied().collect();
                let expected = format!("fields of such a view: {}", known.join(", "));
                self.wrong("key", &keys["key"], &expected);
                continue;
            }
            let found = Field::ALL.iter().find(|(known, _)| known == &word);
            fields.extend(found.map(|(_, field)| *field));
        }
        fields
    }

    fn values(&mut self, keys: &DeTable<'_>, of: &Of) -> Vec<Value> {
        let words = self.texts(keys, "values");
        let fixed = matches!(of, Of::Chains | Of::Credits | Of::Funnel(_));
        if fixed {
            if let Some(value) = keys.get("values") {
                self.wrong("values", value, "none: such a view has its own");
            }
            return vec![Value::Count(None)];
        }
        let Some(words) = words else {
            return vec![Value::Count(None)];
        };
        let mut values = Vec::new();
        for word in &words {
            let (what, effect) = match word.split_once(':') {
                Some((what, effect)) => (what, Some(effect.to_owned())),
                None => (&**word, None),
            };
            let of_visits = matches!(of, Of::Visits);
            values.push(match (what, effect) {
                ("count", effect) => Value::Count(effect),
                ("sum", effect) if !of_visits => Value::Sum(effect),
                ("browsers", None) => Value::Browsers,
                ("usual", None) if !of_visits => Value::Usual,
                ("measurements", None) if of_visits => Value::Measurements,
                ("orders", None) if of_visits => Value::Orders,
                ("revenue", None) if of_visits => Value::Revenue,
                _ => {
                    let expected = if of_visits {
                        "count, count:EFFECT, browsers, measurements, orders or revenue"
                    } else {
                        "count, count:EFFECT, sum, sum:EFFECT, browsers or usual"
                    };
                    self.wrong("values", &keys["values"], expected);
                    continue;
                }
            });
        }
        if values.is_empty() || values.len() > SUMS {
            self.wrong("values", &keys["values"], &format!("one to {SUMS} values"));
        }
        values
    }
}
