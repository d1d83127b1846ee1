//! Robots by a published list of patterns: crawler-user-agents' JSON.
//!
//! Nearly all of its patterns are plain words, and one automaton looks for them
//! all at once, in time linear in the user agent's length whatever it holds; the
//! few real regular expressions stand beside it. Of several patterns that match,
//! the one that begins first in the user agent names the robot, then the longest,
//! then the earlier in the list: a robot calls itself by its name before it gives
//! the address of its operator.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use regex::{Regex, RegexSet};
use serde_json::Value;

use super::EnrichError;

/// The patterns, compiled. 1,498 of them take 0.4 MB and some milliseconds.
pub(super) struct Robots {
    words: AhoCorasick,
    /// The place in `names` of each word, in the automaton's order.
    word_entries: Vec<usize>,
    expressions: RegexSet,
    /// Each of `expressions`, to say where it matches, and its place in `names`.
    each: Vec<(Regex, usize)>,
    /// What the robots are called, in the list's order.
    names: Vec<Arc<str>>,
}

impl Robots {
    pub(super) fn from_json(json: &[u8]) -> Result<Self, EnrichError> {
        let patterns = patterns(json)?;
        let (mut words, mut word_entries, mut each) = (Vec::new(), Vec::new(), Vec::new());
        for (entry, pattern) in patterns.iter().enumerate() {
            let wrong = |reason: String| EnrichError::RobotEntry {
                entry,
                reason: format!("`pattern` is `{pattern}`: {reason}"),
            };
            if let Some(word) = plain_word(pattern) {
                if word.is_empty() {
                    return Err(wrong("would match every user agent".to_owned()));
                }
                words.push(word);
                word_entries.push(entry);
                continue;
            }
            let expression = Regex::new(pattern)
                .map_err(|error| wrong(format!("expected a regular expression: {error}")))?;
            if expression.is_match("") {
                return Err(wrong("would match every user agent".to_owned()));
            }
            each.push((expression, entry));
        }
        let whole = |error: String| EnrichError::NotARobotList { reason: error };
        let words = AhoCorasick::builder()
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .match_kind(MatchKind::LeftmostLongest)
            .build(&words)
            .map_err(|error| whole(error.to_string()))?;
        let expressions = RegexSet::new(each.iter().map(|(expression, _)| expression.as_str()))
            .map_err(|error| whole(error.to_string()))?;
        let names = patterns.iter().map(|pattern| name_of(pattern)).collect();
        Ok(Self {
            words,
            word_entries,
            expressions,
            each,
            names,
        })
    }

    /// The name of the robot that a user agent belongs to.
    pub(super) fn find(&self, user_agent: &str) -> Option<&Arc<str>> {
        let word = self.words.find(user_agent).map(|found| {
            let entry = self.word_entries[found.pattern().as_usize()];
            (found.start(), found.end(), entry)
        });
        let expressions = self.expressions.matches(user_agent);
        let (_, _, entry) = expressions
            .iter()
            .filter_map(|place| {
                let (expression, entry) = &self.each[place];
                let found = expression.find(user_agent)?;
                Some((found.start(), found.end(), *entry))
            })
            .chain(word)
            .min_by_key(|&(start, end, entry)| (start, usize::MAX - end, entry))?;
        Some(&self.names[entry])
    }
}

fn patterns(json: &[u8]) -> Result<Vec<String>, EnrichError> {
    let whole = |reason: String| EnrichError::NotARobotList { reason };
    let list = serde_json::from_slice(json).map_err(|error| whole(error.to_string()))?;
    let Value::Array(entries) = list else {
        return Err(whole(format!("found {}", kind(&list))));
    };
    if entries.is_empty() {
        return Err(whole("found an empty array".to_owned()));
    }
    let pattern = |(entry, value): (usize, Value)| {
        let reason = match value {
            Value::Object(mut fields) => match fields.remove("pattern") {
                Some(Value::String(pattern)) => return Ok(pattern),
                Some(other) => format!("`pattern` is {}, expected a string", kind(&other)),
                None => "has no `pattern`, expected a string".to_owned(),
            },
            other => format!("is {}, expected an object with a `pattern`", kind(&other)),
        };
        Err(EnrichError::RobotEntry { entry, reason })
    };
    entries.into_iter().enumerate().map(pattern).collect()
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The only string that a pattern matches, if it has no more than one.
fn plain_word(pattern: &str) -> Option<String> {
    let mut word = String::with_capacity(pattern.len());
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                // `\d`, `\b`, `\x41` and their like mean something else.
                Some(escaped) if escaped.is_ascii_punctuation() || escaped == ' ' => {
                    word.push(escaped);
                }
                _ => return None,
            },
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '|' => {
                return None;
            }
            other => word.push(other),
        }
    }
    Some(word)
}

/// A name to group by, from the pattern alone, so that a robot has one name however
/// it spells itself: its first run of plain characters with three letters (or else
/// its longest), without the punctuation around it. Of alternatives the first
/// counts; a letter in both cases is a capital where a word begins.
/// `Googlebot\/` is "Googlebot", `[wW]get` "Wget", `Ahrefs(Bot|SiteAudit)` "AhrefsBot".
fn name_of(pattern: &str) -> Arc<str> {
    let mut runs = vec![String::new()];
    let mut characters = pattern.chars().peekable();
    // Open groups, and whether their first alternative is over.
    let mut groups = vec![false];
    while let Some(character) = characters.next() {
        let skipping = groups.contains(&true);
        match character {
            '(' => groups.push(false),
            ')' => {
                groups.pop();
            }
            '|' => {
                if let Some(over) = groups.last_mut() {
                    *over = true;
                }
            }
            '[' => {
                let class: String = characters.by_ref().take_while(|&c| c != ']').collect();
                let run = runs.last_mut().expect("never empty");
                match both_cases(&class) {
                    _ if skipping => {}
                    Some(letter) if run.ends_with(char::is_alphanumeric) => run.push(letter),
                    Some(letter) => run.push(letter.to_ascii_uppercase()),
                    None => runs.push(String::new()),
                }
            }
            '\\' => match characters.next() {
                Some(escaped) if !escaped.is_ascii_alphanumeric() => {
                    if !skipping {
                        runs.last_mut().expect("never empty").push(escaped);
                    }
                }
                _ => runs.push(String::new()),
            },
            '^' | '$' => {}
            '.' | '*' | '+' | '?' | '{' | '}' => runs.push(String::new()),
            other if !skipping => runs.last_mut().expect("never empty").push(other),
            _ => {}
        }
    }
    let runs: Vec<&str> = runs.iter().map(|run| trim(run)).collect();
    let letters = |run: &str| run.chars().filter(|c| c.is_alphabetic()).count();
    let first = runs.iter().find(|run| letters(run) >= 3);
    let longest = || runs.iter().max_by_key(|run| run.len());
    match first.or_else(longest) {
        Some(name) if !name.is_empty() => Arc::from(*name),
        _ => Arc::from(pattern),
    }
}

/// Without white space and punctuation around, but for a bracket that is closed.
fn trim(run: &str) -> &str {
    let around = |c: char| c.is_ascii_punctuation() && c != '!' || c.is_whitespace();
    let run = run.trim_start_matches(around);
    let closes = run.contains('(');
    run.trim_end_matches(|c| around(c) && !(closes && c == ')'))
}

/// The letter, small, of a class such as `bB`.
fn both_cases(class: &str) -> Option<char> {
    let mut letters = class.chars();
    let (first, second) = (letters.next()?, letters.next()?);
    let same = letters.next().is_none() && first != second && first.eq_ignore_ascii_case(&second);
    same.then(|| first.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn robots(patterns: &[&str]) -> Robots {
        let list: Vec<Value> = patterns
            .iter()
            .map(|pattern| serde_json::json!({ "pattern": pattern }))
            .collect();
        Robots::from_json(Value::from(list).to_string().as_bytes()).expect("sound patterns")
    }

    fn refused(json: &str) -> String {
        match Robots::from_json(json.as_bytes()) {
            Ok(_) => panic!("accepted {json}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn a_plain_word_is_a_pattern_without_choices() {
        assert_eq!(plain_word(r"Googlebot\/").as_deref(), Some("Googlebot/"));
        assert_eq!(plain_word(r"g00g1e\.net").as_deref(), Some("g00g1e.net"));
        assert_eq!(plain_word("Y!J").as_deref(), Some("Y!J"));
        for choice in ["[wW]get", "^curl", "a.b", "a|b", r"\d", "a{2}", "a$", r"a\"] {
            assert_eq!(plain_word(choice), None, "{choice}");
        }
    }

    #[test]
    fn names_are_readable() {
        for (pattern, name) in [
            (r"Googlebot\/", "Googlebot"),
            ("Googlebot-Mobile", "Googlebot-Mobile"),
            (r"Mediapartners \(Googlebot\)", "Mediapartners (Googlebot)"),
            (r"Rigor\)", "Rigor"),
            ("[wW]get", "Wget"),
            ("S[eE][mM]rushBot", "SemrushBot"),
            ("[cC]laude[bB]ot", "Claudebot"),
            ("(sistrix|SISTRIX) [cC]rawler", "sistrix Crawler"),
            ("Ahrefs(Bot|SiteAudit)", "AhrefsBot"),
            ("AdsBot-Google([^-]|$)", "AdsBot-Google"),
            ("(^| )sentry\\/", "sentry"),
            ("^curl", "curl"),
            ("^LCC ", "LCC"),
            (r"BlogTraffic\/\d\.\d+ Feed-Fetcher", "BlogTraffic"),
            (r"ContextualBot[\s\S]*outcomes\.net", "ContextualBot"),
            ("Automaton|Newsify Feed Fetcher", "Automaton"),
            ("Y!J", "Y!J"),
            (r"yandex\.com\/bots", "yandex.com/bots"),
            (r"\d+", r"\d+"),
        ] {
            assert_eq!(&*name_of(pattern), name, "{pattern}");
        }
    }

    #[test]
    fn a_robot_is_called_by_what_it_says_first() {
        let robots = robots(&[
            r"yandex\.com\/bots",
            "Yandex",
            "YandexScreenshotBot",
            "[bB]ots$",
        ]);
        let found = |user_agent| robots.find(user_agent).map(|name| &**name);
        assert_eq!(
            found("Mozilla/5.0 (compatible; YandexScreenshotBot/3.0; +http://yandex.com/bots)"),
            Some("YandexScreenshotBot")
        );
        assert_eq!(found("+http://yandex.com/bots"), Some("yandex.com/bots"));
        assert_eq!(found("many bots"), Some("Bots"));
        assert_eq!(found("bots of many"), None);
        assert_eq!(found(""), None);
    }

    #[test]
    fn a_wrong_list_is_named_with_what_was_expected() {
        assert!(refused("{}").contains("found an object"));
        assert!(refused("[]").contains("empty array"));
        assert!(refused("[{\"pattern\":").contains("line 1 column"));
        assert!(refused("\u{0}").contains("expected a JSON array"));
        assert_eq!(
            refused(r#"[{"pattern":"a"},{"url":"b"}]"#),
            "robot list, entry 1: has no `pattern`, expected a string"
        );
        assert_eq!(
            refused(r#"[{"pattern":7}]"#),
            "robot list, entry 0: `pattern` is a number, expected a string"
        );
        assert_eq!(
            refused(r#"["a"]"#),
            "robot list, entry 0: is a string, expected an object with a `pattern`"
        );
        let error = refused(r#"[{"pattern":"ok"},{"pattern":"a("}]"#);
        assert!(error.starts_with("robot list, entry 1: `pattern` is `a(`: expected a regular"));
    }

    #[test]
    fn a_pattern_that_matches_everyone_is_refused() {
        for pattern in ["", "a*", "^", "x|"] {
            let json = serde_json::json!([{ "pattern": pattern }]).to_string();
            assert!(
                refused(&json).contains("would match every user agent"),
                "{pattern}"
            );
        }
    }
}
