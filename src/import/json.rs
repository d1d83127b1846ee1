//! JSON lines, read as far as a mapping needs: an object's members are found, the rest is only
//! checked. Numbers keep the digits that they were written with. Nesting of any depth is fine.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The members of an object, in the order they are written.
#[derive(Debug, Default)]
pub(super) struct Object<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object<'de>, A::Error> {
                let mut members = Vec::new();
                while let Some((Name(name), value)) = map.next_entry()? {
                    members.push((name, value));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

impl<'a> Object<'a> {
    /// The value at a path of names with dots between; a name that holds a dot itself comes first.
    /// Of equal names the last one counts, as elsewhere.
    pub fn get(&self, path: &str) -> Option<&'a RawValue> {
        if let Some(value) = self.member(path) {
            return Some(value);
        }
        let (first, rest) = path.split_once('.')?;
        get(self.member(first)?, rest)
    }

    fn member(&self, name: &str) -> Option<&'a RawValue> {
        let found = self.0.iter().rev().find(|(key, _)| key == name);
        found.map(|(_, value)| *value)
    }

    /// The members' names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| &name[..])
    }
}

/// The value at a path under a value; a number takes an item of an array, from 0.
pub(super) fn get<'a>(value: &'a RawValue, path: &str) -> Option<&'a RawValue> {
    if let Some(object) = object(value) {
        return object.get(path);
    }
    let (first, rest) = match path.split_once('.') {
        Some((first, rest)) => (first, Some(rest)),
        None => (path, None),
    };
    let item = *array(value)?.get(first.parse::<usize>().ok()?)?;
    match rest {
        Some(rest) => get(item, rest),
        None => Some(item),
    }
}

/// The value as an object.
pub(super) fn object(value: &RawValue) -> Option<Object<'_>> {
    value
        .get()
        .starts_with('{')
        .then(|| serde_json::from_str(value.get()).ok())?
}

/// The value as an array.
pub(super) fn array(value: &RawValue) -> Option<Vec<&RawValue>> {
    value
        .get()
        .starts_with('[')
        .then(|| serde_json::from_str(value.get()).ok())?
}

/// The value as text: a string's content, a number's digits, the JSON of arrays and objects; none
/// for `null`. A string that is no Unicode (half a surrogate pair) is an error.
pub(super) fn text(value: &RawValue) -> Result<Option<Cow<'_, str>>, serde_json::Error> {
    let json = value.get();
    if json == "null" {
        return Ok(None);
    }
    let inside = json.strip_prefix('"').and_then(|t| t.strip_suffix('"'));
    Ok(Some(match inside {
        Some(plain) if !plain.contains('\\') => Cow::Borrowed(plain),
        Some(_) => Cow::Owned(serde_json::from_str(json)?),
        None => Cow::Borrowed(json),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(json: &str, path: &str) -> Option<String> {
        let object: Object = serde_json::from_str(json).unwrap();
        let value = object.get(path)?;
        text(value).unwrap().map(Cow::into_owned)
    }

    #[test]
    fn values_are_found_by_their_paths() {
        let json = r#"{"a": {"b": [1, {"c": "x\u0041\""}]}, "d.e": 2, "n": null, "k\n": 3, "a2": 1, "a2": 2}"#;
        assert_eq!(at(json, "a.b.1.c").as_deref(), Some("xA\""));
        assert_eq!(at(json, "a.b.0").as_deref(), Some("1"));
        assert_eq!(
            at(json, "a.b").as_deref(),
            Some(r#"[1, {"c": "x\u0041\""}]"#)
        );
        assert_eq!(at(json, "d.e").as_deref(), Some("2"));
        assert_eq!(at(json, "k\n").as_deref(), Some("3"));
        assert_eq!(at(json, "a2").as_deref(), Some("2"));
        for missing in ["n", "a.b.2", "a.x", "d", "", ".", "a.b.c", "d.e.f"] {
            assert_eq!(at(json, missing), None, "{missing}");
        }
    }

    #[test]
    fn numbers_keep_their_digits() {
        let json = r#"{"id": 123456789012345678901234567890, "price": 0.10, "t": 1.5e3}"#;
        assert_eq!(at(json, "id").unwrap(), "123456789012345678901234567890");
        assert_eq!(at(json, "price").unwrap(), "0.10");
        assert_eq!(at(json, "t").unwrap(), "1.5e3");
    }

    #[test]
    fn deep_nesting_and_broken_strings_are_no_danger() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        assert!(at(&deep, "a").is_some());
        let object: Object = serde_json::from_str(r#"{"a": "\ud800"}"#).unwrap();
        assert!(text(object.get("a").unwrap()).is_err());
    }
}
