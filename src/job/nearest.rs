//! The right name for one that is slightly wrong. For errors only: nothing is ever guessed and then
//! used.

use strsim::normalized_damerau_levenshtein as likeness;

use super::settings::SETTINGS;

/// What can be said to somebody who wrote a setting's name that does not exist: the nearest right
/// one, else all that can stand there.
pub(super) fn suggestion(name: &str) -> String {
    if let Some(right) = nearest(name) {
        return format!("did you mean {right}?");
    }
    let (section, _) = split(name);
    let names = SETTINGS.iter().map(|setting| split(setting.name));
    let keys: Vec<&str> = names
        .clone()
        .filter(|(of, _)| *of == section)
        .map(|(_, key)| key)
        .collect();
    if !section.is_empty() && !keys.is_empty() {
        return format!("[{section}] has {}", keys.join(", "));
    }
    let mut sections: Vec<&str> = Vec::new();
    for (section, _) in names {
        let top = section.split_once('.').map_or(section, |(top, _)| top);
        if !top.is_empty() && !sections.contains(&top) {
            sections.push(top);
        }
    }
    format!("the sections are {}", sections.join(", "))
}

/// The setting whose key is like the one written; of several, the one whose section is too.
fn nearest(name: &str) -> Option<&'static str> {
    // Likeness costs the product of the lengths, and no long text is like a setting's name.
    if name.len() > 100 {
        return None;
    }
    let (section, key) = split(name);
    let mut best: Option<(f64, &'static str)> = None;
    for setting in SETTINGS {
        let (right_section, right_key) = split(setting.name);
        let alike = likeness(key, right_key);
        let score = alike - 0.25 * (1.0 - likeness(section, right_section));
        if alike >= 0.6 && score >= 0.55 && best.is_none_or(|(most, _)| score > most) {
            best = Some((score, setting.name));
        }
    }
    best.map(|(_, name)| name)
}

/// The word that is like the one written, if one is.
pub(super) fn nearest_word<'a>(word: &str, words: &[&'a str]) -> Option<&'a str> {
    let word: String = word.chars().take(100).collect::<String>().to_lowercase();
    let scored = words.iter().map(|right| (likeness(&word, right), *right));
    scored
        .filter(|(alike, _)| *alike >= 0.6)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, right)| right)
}

/// Section and key.
fn split(name: &str) -> (&str, &str) {
    name.rsplit_once('.').unwrap_or(("", name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_pen_find_their_setting() {
        for (wrong, right) in [
            ("visits.inactivty", "visits.inactivity"),
            ("visits.max-length", "visits.max_length"),
            ("visits.max_len", "visits.max_length"),
            ("visit.inactivity", "visits.inactivity"),
            ("inactivity", "visits.inactivity"),
            ("output.log", "outputs.log"),
            ("sources.log", "source.log"),
            ("outputs.file", "outputs.files"),
            ("outputs.filesize", "outputs.file_size"),
            ("limits.geoip", "enrich.geoip"),
            ("worker", "workers"),
            ("schema.roles", "schemas.roles"),
        ] {
            assert_eq!(
                suggestion(wrong),
                format!("did you mean {right}?"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn what_is_like_nothing_gets_the_choice() {
        assert_eq!(
            suggestion("visits.gap"),
            "[visits] has inactivity, max_length, max_size, max_delay"
        );
        let sections = "the sections are source, schemas, visits, time, limits, enrich, outputs, state, attribution, profiles, privacy, observe, serve";
        // Not `workers`, which is like it in no more than letters.
        assert_eq!(suggestion("quux.quuz"), sections);
        assert_eq!(suggestion(&"x".repeat(1_000_000)), sections);
    }
}
