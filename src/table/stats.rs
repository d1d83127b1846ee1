//! What a version's log says of a file's columns, so that readers skip files: Delta's statistics, from the metadata
//! that the Parquet writer returns. Bounds may be wider than the truth, never narrower; where that cannot be said in
//! JSON there is none.

use super::json;
use super::schema::{Column, Nested, Struct, Type, decimal};
use parquet::basic::{LogicalType, TimeUnit};
use parquet::file::metadata::ParquetMetaData;
use parquet::file::statistics::Statistics;
use serde_json::{Map, Number, Value};
use std::collections::HashMap;

/// Delta's own default. Columns are counted in the schema's order, so what is searched for should stand in front.
const COLUMNS: usize = 32;

/// Characters of a string bound, as other writers of Delta do.
const CHARACTERS: usize = 32;

/// The statistics of a file as JSON. About 20 microseconds.
pub(super) fn of(file: &ParquetMetaData, schema: &Struct) -> String {
    let leaves = file
        .file_metadata()
        .schema_descr()
        .columns()
        .iter()
        .enumerate();
    let leaves: HashMap<Vec<String>, usize> = leaves
        .map(|(i, leaf)| (leaf.path().parts().to_vec(), i))
        .collect();
    let mut walk = Walk {
        file,
        leaves,
        left: COLUMNS,
        path: Vec::new(),
    };
    let [min, max, nulls] = walk.columns(&schema.fields);
    let rows = file.file_metadata().num_rows();
    serde_json::json!({"numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls})
        .to_string()
}

struct Walk<'a> {
    file: &'a ParquetMetaData,
    leaves: HashMap<Vec<String>, usize>,
    left: usize,
    path: Vec<String>,
}

impl Walk<'_> {
    fn columns(&mut self, columns: &[Column]) -> [Map<String, Value>; 3] {
        let mut all: [Map<String, Value>; 3] = Default::default();
        for column in columns {
            if self.left == 0 {
                break;
            }
            self.path.push(column.name.clone());
            match &column.ty {
                Type::Nested(nested) => match &**nested {
                    Nested::Struct { fields } => {
                        for (all, below) in all.iter_mut().zip(self.columns(fields)) {
                            if !below.is_empty() {
                                all.insert(column.name.clone(), Value::Object(below));
                            }
                        }
                    }
                    // Parquet's metadata speak of the items; how many lists are null they do not say.
                    Nested::Array { .. } | Nested::Map { .. } => self.left -= 1,
                },
                Type::Plain(ty) => {
                    self.left -= 1;
                    if let Some(&leaf) = self.leaves.get(&self.path) {
                        for (all, value) in all.iter_mut().zip(self.leaf(leaf, ty)) {
                            if let Some(value) = value {
                                all.insert(column.name.clone(), value);
                            }
                        }
                    }
                }
            }
            self.path.pop();
        }
        all
    }

    fn leaf(&self, leaf: usize, ty: &str) -> [Option<Value>; 3] {
        let unit = match self
            .file
            .file_metadata()
            .schema_descr()
            .column(leaf)
            .logical_type_ref()
        {
            Some(LogicalType::Timestamp(t)) => t.unit,
            _ => TimeUnit::MICROS,
        };
        let (mut low, mut high, mut nulls) = (None, None, Some(0));
        let mut bounded = true;
        for group in self.file.row_groups() {
            let chunk = group.column(leaf);
            let Some(statistics) = chunk.statistics() else {
                return [None, None, None];
            };
            nulls = nulls.zip(statistics.null_count_opt()).map(|(a, b)| a + b);
            if u64::try_from(chunk.num_values()).ok() == statistics.null_count_opt() {
                continue;
            }
            match bounds(statistics, ty) {
                Some((a, b)) => {
                    low = Some(match low {
                        Some(low) => Bound::least(low, a),
                        None => a,
                    });
                    high = Some(match high {
                        Some(high) => Bound::greatest(high, b),
                        None => b,
                    });
                }
                None => bounded = false,
            }
        }
        if !bounded {
            (low, high) = (None, None);
        }
        [
            low.and_then(|low| low.json(ty, unit, false)),
            high.and_then(|high| high.json(ty, unit, true)),
            nulls.map(Value::from),
        ]
    }
}

#[derive(Clone, Debug, PartialEq, PartialOrd)]
enum Bound {
    Whole(i64),
    Float(f64),
    Text(String),
}

/// The bounds of one column chunk; none when it has none that can be trusted.
fn bounds(statistics: &Statistics, ty: &str) -> Option<(Bound, Bound)> {
    Some(match statistics {
        Statistics::Int32(s) => (
            Bound::Whole((*s.min_opt()?).into()),
            Bound::Whole((*s.max_opt()?).into()),
        ),
        Statistics::Int64(s) => (Bound::Whole(*s.min_opt()?), Bound::Whole(*s.max_opt()?)),
        // Parquet's bounds leave NaN out, yet some readers hold it to be greater than everything.
        Statistics::Float(s) if s.nan_count_opt() == Some(0) => (
            Bound::Float((*s.min_opt()?).into()),
            Bound::Float((*s.max_opt()?).into()),
        ),
        Statistics::Double(s) if s.nan_count_opt() == Some(0) => {
            (Bound::Float(*s.min_opt()?), Bound::Float(*s.max_opt()?))
        }
        Statistics::ByteArray(s) if ty == "string" => {
            // A bound that Parquet has truncated is still one, and cut between characters.
            let text = |bytes: &[u8]| {
                std::str::from_utf8(bytes)
                    .ok()
                    .map(|s| Bound::Text(s.to_owned()))
            };
            (text(s.min_opt()?.data())?, text(s.max_opt()?.data())?)
        }
        _ => return None,
    })
}

impl Bound {
    fn least(self, other: Bound) -> Bound {
        if other < self { other } else { self }
    }

    fn greatest(self, other: Bound) -> Bound {
        if other > self { other } else { self }
    }

    fn json(self, ty: &str, unit: TimeUnit, upper: bool) -> Option<Value> {
        Some(match (self, ty) {
            (Bound::Whole(v), "byte" | "short" | "integer" | "long") => v.into(),
            (Bound::Whole(day), "date") => in_calendar(day).then(|| json::date(day))?.into(),
            (Bound::Whole(v), "timestamp") => {
                // Other readers take these for milliseconds: the upper one must not lie below a microsecond of the file.
                let per = match unit {
                    TimeUnit::MILLIS => 1,
                    TimeUnit::MICROS => 1000,
                    TimeUnit::NANOS => 1_000_000,
                };
                let ms = v.div_euclid(per) + i64::from(upper && v.rem_euclid(per) != 0);
                in_calendar(ms.div_euclid(86_400_000))
                    .then(|| json::instant(ms, 0))?
                    .into()
            }
            // Readers may take a JSON number for a double, which is exact up to 15 digits.
            (Bound::Whole(v), ty) => match decimal(ty)? {
                (p, s) if p <= 15 => {
                    Number::from_f64(json::decimal(v.into(), s).parse().ok()?)?.into()
                }
                _ => return None,
            },
            (Bound::Float(v), _) => Number::from_f64(v)?.into(),
            (Bound::Text(text), _) if upper => above(&text)?.into(),
            (Bound::Text(text), _) => text.chars().take(CHARACTERS).collect::<String>().into(),
        })
    }
}

/// Years 1 to 9999: what every reader can parse.
fn in_calendar(day: i64) -> bool {
    (-719_162..2_932_897).contains(&day)
}

/// A short string that is not less than `text`; none if there is no such.
fn above(text: &str) -> Option<String> {
    let mut short: Vec<char> = text.chars().take(CHARACTERS).collect();
    if text.chars().nth(CHARACTERS).is_none() {
        return Some(text.to_owned());
    }
    // The last character that has a next one, taken one up; UTF-8 sorts as code points do.
    while let Some(last) = short.pop() {
        let next = if last == '\u{d7ff}' {
            Some('\u{e000}')
        } else {
            char::from_u32(last as u32 + 1)
        };
        if let Some(next) = next {
            short.push(next);
            return Some(short.into_iter().collect());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_shortened_upper_bound_is_not_below_the_text(text in "[a-z\u{d7ff}\u{10ffff}é]{0,80}") {
            match above(&text) {
                Some(bound) => {
                    prop_assert!(bound >= text);
                    prop_assert!(bound.chars().count() <= CHARACTERS);
                }
                None => prop_assert!(text.chars().take(CHARACTERS).all(|c| c == char::MAX)),
            }
        }
    }

    #[test]
    fn an_upper_instant_is_rounded_up_and_a_lower_one_down() {
        let bound = |us, upper| Bound::Whole(us).json("timestamp", TimeUnit::MICROS, upper);
        assert_eq!(bound(1_001, false), Some("1970-01-01T00:00:00.001Z".into()));
        assert_eq!(bound(1_001, true), Some("1970-01-01T00:00:00.002Z".into()));
        assert_eq!(bound(-1, false), Some("1969-12-31T23:59:59.999Z".into()));
        assert_eq!(bound(-1, true), Some("1970-01-01T00:00:00.000Z".into()));
        assert_eq!(bound(i64::MAX, true), None);
    }
}
