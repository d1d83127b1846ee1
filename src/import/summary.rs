//! What an import did, for people: counts, the span of time, the browsers, and what to do next.

use std::collections::BTreeSet;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::path::{Path, PathBuf};

use super::progress::grouped;

/// What an import did.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Lines read (of CSV: rows), without headers and blank lines.
    pub lines: u64,
    /// Measurements written. As many as lines, less the unparsed, except where `each` unfolds lines.
    pub measurements: u64,
    /// Lines, rows and items that could not be read; they lie in `unparsed_files`.
    pub unparsed: u64,
    /// Blank lines, which say nothing.
    pub blank: u64,
    /// The first and the last event, in ms since 1970, if there is any.
    pub span: Option<(i64, i64)>,
    /// How many browsers.
    pub browsers: Browsers,
    /// The places and reasons of the first few that could not be read.
    pub first_unparsed: Vec<String>,
    /// Where they are kept.
    pub unparsed_files: Vec<PathBuf>,
    /// What looks wrong though nothing failed.
    pub warnings: Vec<String>,
    /// The log.
    pub log: PathBuf,
    /// The topic.
    pub topic: String,
}

/// A number of browsers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Browsers {
    /// How many.
    pub count: u64,
    /// False if it is an estimate, within about 1 %.
    pub exact: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} lines: {} measurements, {} unparsed",
            grouped(self.lines),
            grouped(self.measurements),
            grouped(self.unparsed)
        )?;
        for first in &self.first_unparsed {
            writeln!(f, "  {first}")?;
        }
        let shown = self.first_unparsed.len() as u64;
        if self.unparsed > shown {
            writeln!(f, "  and {} more", grouped(self.unparsed - shown))?;
        }
        for file in &self.unparsed_files {
            writeln!(f, "  kept in {}", file.display())?;
        }
        for warning in &self.warnings {
            writeln!(f, "note: {warning}")?;
        }
        if let Some((first, last)) = self.span {
            let about = if self.browsers.exact { "" } else { "about " };
            writeln!(
                f,
                "{} to {}, {about}{} browsers",
                time(first),
                time(last),
                grouped(self.browsers.count)
            )?;
        }
        writeln!(f, "written to {}, topic {}", self.log.display(), self.topic)?;
        if self.measurements > 0 {
            let beside = |what: &str| {
                self.log.with_file_name(match self.log.file_name() {
                    Some(name) => format!("{}-{what}", name.to_string_lossy()),
                    None => what.to_owned(),
                })
            };
            write!(
                f,
                "next: visitflow run examples/jobs/log-to-files.toml --set source.log={} --set outputs.files={} --set outputs.log={}",
                quoted(&self.log),
                quoted(&beside("visits")),
                quoted(&beside("results"))
            )?;
        }
        Ok(())
    }
}

fn time(ms: i64) -> String {
    jiff::Timestamp::from_millisecond(ms).map_or_else(|_| ms.to_string(), |time| time.to_string())
}

/// A path as a shell takes it.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    match !path.is_empty() && path.chars().all(plain) {
        true => path,
        false => format!("'{}'", path.replace('\'', r"'\''")),
    }
}

/// Counts different keys in half a megabyte or so: it keeps the 65,536 least hashes. Up to that
/// many keys it is exact, then the greatest of them says how dense all are, within 0.4 % (one
/// standard deviation).
#[derive(Debug, Default)]
pub(super) struct Distinct {
    least: BTreeSet<u64>,
}

impl Distinct {
    const KEPT: usize = 1 << 16;

    pub fn insert(&mut self, key: &[u8]) {
        let mut hasher = DefaultHasher::new();
        hasher.write(key);
        let hash = hasher.finish();
        if self.least.len() < Self::KEPT {
            self.least.insert(hash);
        } else if self.least.last().is_some_and(|last| hash < *last) && self.least.insert(hash) {
            self.least.pop_last();
        }
    }

    pub fn count(&self) -> Browsers {
        match self.least.last() {
            Some(last) if self.least.len() == Self::KEPT => Browsers {
                count: ((Self::KEPT - 1) as f64 * (u64::MAX as f64 / *last as f64)) as u64,
                exact: false,
            },
            _ => Browsers {
                count: self.least.len() as u64,
                exact: true,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_counted_once_and_estimated_when_there_are_many() {
        let mut distinct = Distinct::default();
        for i in 0..2000_u32 {
            distinct.insert(&(i % 1000).to_le_bytes());
        }
        let exact = Browsers {
            count: 1000,
            exact: true,
        };
        assert_eq!(distinct.count(), exact);
        for i in 0..300_000_u32 {
            distinct.insert(&i.to_le_bytes());
        }
        let Browsers { count, exact } = distinct.count();
        assert!(!exact);
        assert!((294_000..306_000).contains(&count), "{count}");
    }

    #[test]
    fn the_summary_says_what_came_in_and_what_to_type_next() {
        let summary = Summary {
            lines: 100_001,
            measurements: 99_999,
            unparsed: 2,
            blank: 0,
            span: Some((1_548_519_325_000, 1_548_521_953_000)),
            browsers: Browsers {
                count: 3861,
                exact: true,
            },
            first_unparsed: vec!["a.log:7: column 1: expected an address".to_owned()],
            unparsed_files: vec![PathBuf::from("my log/unparsed/a.log.txt")],
            warnings: vec![],
            log: PathBuf::from("my log"),
            topic: "measurements".to_owned(),
        };
        assert_eq!(
            summary.to_string(),
            "100,001 lines: 99,999 measurements, 2 unparsed\n  \
             a.log:7: column 1: expected an address\n  and 1 more\n  \
             kept in my log/unparsed/a.log.txt\n\
             2019-01-26T16:15:25Z to 2019-01-26T16:59:13Z, 3,861 browsers\n\
             written to my log, topic measurements\n\
             next: visitflow run examples/jobs/log-to-files.toml --set source.log='my log' --set outputs.files='my log-visits' --set outputs.log='my log-results'"
        );
    }
}
