//! The mapping language: a small TOML file says which column of an export becomes which field of a
//! measurement. Read and checked whole before any data; every error has the file, the line, the
//! key, what was expected and the nearest right name. `docs/import.md` teaches it by example.

use std::borrow::Cow;
use std::ops::Range;
use std::path::{Path, PathBuf};

use jiff::tz::Offset;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};
use visitflow_schemas::measurement::Measurement;

use super::combined;
use super::values::{self, NumberFault, Rounding, TimeFormat};

/// What a mapping is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// CSV or TSV with a header.
    Csv,
    /// One JSON object a line.
    Jsonl,
}

/// Why a mapping file is not one.
#[derive(Debug, Error)]
pub enum MappingError {
    /// The file cannot be read.
    #[error("{}: cannot read the mapping: {source}", file.display())]
    Read {
        /// The mapping file.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It is no TOML.
    #[error("{}:{line}: not TOML: {problem}", file.display())]
    Toml {
        /// The mapping file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What the parser says.
        problem: String,
    },
    /// A key is missing, unknown or has a value that it cannot have.
    #[error("{}:{line}: {key}: {problem}", file.display())]
    Key {
        /// The mapping file.
        file: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The key, with dots.
        key: String,
        /// What is wrong and what was expected.
        problem: String,
    },
}

/// A place where a mapping names a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    /// Of the line around the items, not of the item.
    pub parent: bool,
    /// The column's name, or the path; empty for the whole item.
    pub path: String,
    /// As written in the mapping.
    pub written: String,
    /// Where in the mapping.
    pub line: usize,
    pub key: String,
}

/// The values of a row, one for each of the mapping's columns, missing ones as none.
pub(super) type Values<'a> = Vec<Option<Cow<'a, str>>>;

#[derive(Clone, Debug)]
enum From {
    Constant(String),
    Column(usize),
}

/// Where a text comes from.
#[derive(Clone, Debug)]
struct Text {
    key: String,
    from: From,
    map: Vec<(String, String)>,
    keep_unmapped: bool,
    default: Option<String>,
}

#[derive(Clone, Debug)]
struct Number {
    text: Text,
    scale: i64,
    round: bool,
}

#[derive(Clone, Debug)]
enum Browser {
    Text(Text),
    Hash(Vec<usize>),
}

/// A mapping file, checked.
#[derive(Clone, Debug)]
pub struct Mapping {
    pub(super) file: PathBuf,
    pub(super) kind: Kind,
    pub(super) each: Option<String>,
    pub(super) delimiter: u8,
    pub(super) quote: Option<u8>,
    /// The names of the columns of files without a header.
    pub(super) header: Option<Vec<String>>,
    pub(super) columns: Vec<Column>,
    missing: Vec<String>,
    point: u8,
    browser: Browser,
    time: (Text, TimeFormat),
    effect: Text,
    entity: Text,
    /// In the order of `TEXTS`.
    texts: [Option<Text>; TEXTS.len()],
    event_id: Option<Text>,
    cause: Option<Text>,
    position: Option<Number>,
    quantity: Option<Number>,
    value: Option<Number>,
    attributes: Vec<(String, Text)>,
}

const TEXTS: [&str; 8] = [
    "entity_id",
    "reason",
    "url",
    "referrer",
    "customer_id",
    "ip",
    "user_agent",
    "variant",
];
const REQUIRED: [&str; 4] = ["browser_id", "event_time", "effect", "entity"];
const FILE_KEYS: [&str; 6] = [
    "each",
    "delimiter",
    "quote",
    "columns",
    "missing",
    "decimal",
];
const OTHERS: [&str; 6] = [
    "event_id",
    "cause",
    "position",
    "quantity",
    "value",
    "attributes",
];

/// The name among `names` that is most like `name`, if any is like it.
pub(super) fn nearest<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, other)| *distance <= other.chars().count().max(3) / 3 + 1)
        .min()
        .map(|(_, other)| other)
}

/// `, did you mean "x"?`, or nothing.
pub(super) fn did_you_mean<'a>(name: &str, names: impl Iterator<Item = &'a str>) -> String {
    nearest(name, names).map_or(String::new(), |near| format!(", did you mean {near:?}?"))
}

type Value<'a> = Spanned<DeValue<'a>>;

struct Reader<'a> {
    file: &'a Path,
    text: &'a str,
    kind: Kind,
    unfolds: bool,
    columns: Vec<Column>,
}

impl Reader<'_> {
    fn line(&self, span: &Range<usize>) -> usize {
        let before = &self.text.as_bytes()[..span.start.min(self.text.len())];
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    }

    fn wrong(&self, span: &Range<usize>, key: &str, problem: impl Into<String>) -> MappingError {
        MappingError::Key {
            file: self.file.to_owned(),
            line: self.line(span),
            key: key.to_owned(),
            problem: problem.into(),
        }
    }

    fn expected(&self, value: &Value<'_>, key: &str, expected: &str) -> MappingError {
        let found = match value.get_ref() {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.to_string(),
            DeValue::Float(number) => number.to_string(),
            DeValue::Boolean(flag) => flag.to_string(),
            DeValue::Datetime(time) => time.to_string(),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        self.wrong(
            &value.span(),
            key,
            format!("expected {expected}, found {found}"),
        )
    }

    fn text<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<&'v str, MappingError> {
        let text = value.get_ref().as_str();
        text.ok_or_else(|| self.expected(value, key, "a text in quotes"))
    }

    fn list<'v>(&self, value: &'v Value<'_>, key: &str) -> Result<Vec<&'v str>, MappingError> {
        let expected = || self.expected(value, key, "a list of texts, [\"a\", \"b\"]");
        let items = value.get_ref().as_array().ok_or_else(expected)?;
        let texts = items.iter().map(|item| item.get_ref().as_str());
        texts.collect::<Option<_>>().ok_or_else(expected)
    }

    fn flag(&self, value: &Value<'_>, key: &str) -> Result<bool, MappingError> {
        let flag = value.get_ref().as_bool();
        flag.ok_or_else(|| self.expected(value, key, "true or false"))
    }

    /// One byte that may stand between fields.
    fn byte(&self, value: &Value<'_>, key: &str) -> Result<u8, MappingError> {
        match self.text(value, key)?.as_bytes() {
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(*byte),
            _ => Err(self.expected(value, key, "one ASCII character, such as \",\" or \"\\t\"")),
        }
    }

    fn column(&mut self, written: &str, span: &Range<usize>, key: &str) -> usize {
        let mut parent = false;
        let mut path = written;
        if self.unfolds {
            if let Some(rest) = written.strip_prefix("parent.") {
                (parent, path) = (true, rest);
            } else if written == "item" {
                path = "";
            } else if let Some(rest) = written.strip_prefix("item.") {
                path = rest;
            }
        }
        let known = |column: &Column| column.parent == parent && column.path == path;
        if let Some(slot) = self.columns.iter().position(known) {
            return slot;
        }
        self.columns.push(Column {
            parent,
            path: path.to_owned(),
            written: written.to_owned(),
            line: self.line(span),
            key: key.to_owned(),
        });
        self.columns.len() - 1
    }

    fn unknown(
        &self,
        key: &Spanned<Cow<'_, str>>,
        within: &str,
        known: &[&str],
        what: &str,
    ) -> MappingError {
        let name = key.get_ref();
        let near = did_you_mean(name, known.iter().copied());
        let known = known.join(", ");
        self.wrong(
            &key.span(),
            &format!("{within}{name}"),
            format!("no such {what}{near} (there are {known})"),
        )
    }

    /// A field: a column's name, or a table with some of `extras` (handled by the caller).
    fn field(
        &mut self,
        value: &Value<'_>,
        key: &str,
        extras: &[&str],
    ) -> Result<Text, MappingError> {
        let mut text = Text {
            key: key.to_owned(),
            from: From::Constant(String::new()),
            map: Vec::new(),
            keep_unmapped: false,
            default: None,
        };
        if let DeValue::String(column) = value.get_ref() {
            text.from = From::Column(self.column(column, &value.span(), key));
            return Ok(text);
        }
        let DeValue::Table(table) = value.get_ref() else {
            return Err(self.expected(
                value,
                key,
                "the name of a column, or { from = COLUMN, … }, or { constant = TEXT }",
            ));
        };
        let mut known = vec!["from", "constant", "default", "map", "unmapped"];
        known.extend(extras);
        for (name, _) in table.iter() {
            if !known.contains(&name.get_ref().as_ref()) {
                return Err(self.unknown(name, &format!("{key}."), &known, "key"));
            }
        }
        let sub = |name: &str| format!("{key}.{name}");
        match (table.get("from"), table.get("constant")) {
            (Some(from), None) => {
                let column = self.text(from, &sub("from"))?;
                text.from = From::Column(self.column(column, &from.span(), &sub("from")));
            }
            (None, Some(constant)) => {
                let constant = self.text(constant, &sub("constant"))?;
                text.from = From::Constant(constant.to_owned());
                if let Some((name, _)) = table
                    .iter()
                    .find(|(name, _)| ["default", "map", "unmapped"].contains(&&name.get_ref()[..]))
                {
                    let problem = "says nothing beside a constant; expected it beside `from`";
                    return Err(self.wrong(&name.span(), &sub(name.get_ref()), problem));
                }
            }
            (Some(_), Some(constant)) => {
                let problem = "expected `from` or `constant`, found both";
                return Err(self.wrong(&constant.span(), key, problem));
            }
            (None, None) => {
                let problem = "expected `from = COLUMN` or `constant = TEXT` in it";
                return Err(self.wrong(&value.span(), key, problem));
            }
        }
        if let Some(default) = table.get("default") {
            text.default = Some(self.text(default, &sub("default"))?.to_owned());
        }
        if let Some(map) = table.get("map") {
            let Some(entries) = map.get_ref().as_table() else {
                return Err(self.expected(map, &sub("map"), "a table, { theirs = \"ours\", … }"));
            };
            for (theirs, ours) in entries.iter() {
                let ours = self.text(ours, &format!("{key}.map.{}", theirs.get_ref()))?;
                text.map
                    .push((theirs.get_ref().to_string(), ours.to_owned()));
            }
        }
        if let Some(unmapped) = table.get("unmapped") {
            if self.text(unmapped, &sub("unmapped"))? != "keep" || table.get("map").is_none() {
                return Err(self.expected(
                    unmapped,
                    &sub("unmapped"),
                    "\"keep\", beside a `map` (without it such rows are counted as wrong)",
                ));
            }
            text.keep_unmapped = true;
        }
        Ok(text)
    }

    fn number(
        &mut self,
        value: &Value<'_>,
        key: &str,
        scales: bool,
    ) -> Result<Number, MappingError> {
        let extras: &[&str] = if scales { &["scale", "round"] } else { &[] };
        let text = self.field(value, key, extras)?;
        let mut number = Number {
            text,
            scale: 1,
            round: false,
        };
        if let Some(table) = value.get_ref().as_table() {
            if let Some(scale) = table.get("scale") {
                let given = scale.get_ref().as_integer();
                let given = given.and_then(|number| {
                    i64::from_str_radix(&number.as_str().replace('_', ""), number.radix()).ok()
                });
                number.scale = given
                    .filter(|scale| (1..=1_000_000_000).contains(scale))
                    .ok_or_else(|| {
                        let expected = "a whole number from 1 to 1000000000, such as 100 for cents";
                        self.expected(scale, &format!("{key}.scale"), expected)
                    })?;
            }
            if let Some(round) = table.get("round") {
                number.round = self.flag(round, &format!("{key}.round"))?;
            }
        }
        Ok(number)
    }

    fn time(&mut self, value: &Value<'_>) -> Result<(Text, TimeFormat), MappingError> {
        let key = "event_time";
        let text = self.field(value, key, &["format", "offset"])?;
        let table = value.get_ref().as_table();
        let Some(format) = table.and_then(|table| table.get("format")) else {
            let problem = "expected its format, event_time = { from = COLUMN, format = \"ms\" }: ms, s, us, rfc3339, or a pattern such as \"%Y-%m-%d %H:%M:%S\"";
            return Err(self.wrong(&value.span(), key, problem));
        };
        let mut offset = None;
        if let Some(value) = table.and_then(|table| table.get("offset")) {
            let written = self.text(value, "event_time.offset")?;
            let parsed = jiff::fmt::strtime::BrokenDownTime::parse("%:z", written);
            let parsed = parsed.ok().and_then(|parts| parts.offset());
            offset = Some(parsed.ok_or_else(|| {
                self.expected(value, "event_time.offset", "an offset such as \"+03:30\"")
            })?);
        }
        let written = self.text(format, "event_time.format")?;
        let format = match written {
            "ms" => TimeFormat::Milliseconds,
            "s" => TimeFormat::Seconds,
            "us" => TimeFormat::Microseconds,
            "rfc3339" => TimeFormat::Rfc3339,
            _ if written.contains('%') => {
                TimeFormat::pattern(written, offset.unwrap_or(Offset::UTC)).map_err(|problem| {
                    let problem = format!("{written:?} is no pattern that can be read: {problem}");
                    self.wrong(&format.span(), "event_time.format", problem)
                })?
            }
            _ => {
                let near = did_you_mean(written, TimeFormat::WORDS.into_iter());
                let problem = format!(
                    "expected ms, s, us, rfc3339, or a pattern such as \"%Y-%m-%d %H:%M:%S\", found {written:?}{near}"
                );
                return Err(self.wrong(&format.span(), "event_time.format", problem));
            }
        };
        if offset.is_some() && !matches!(format, TimeFormat::Pattern(..)) {
            let problem = "says nothing beside this format; expected it beside a pattern";
            return Err(self.wrong(&value.span(), "event_time.offset", problem));
        }
        Ok((text, format))
    }

    fn browser(&mut self, value: &Value<'_>) -> Result<Browser, MappingError> {
        let key = "browser_id";
        let table = value.get_ref().as_table();
        let Some(hash) = table.and_then(|table| table.get("hash")) else {
            return Ok(Browser::Text(self.field(value, key, &["hash"])?));
        };
        if table.is_some_and(|table| table.len() > 1) {
            let problem = "expected nothing beside `hash`";
            return Err(self.wrong(&value.span(), key, problem));
        }
        let columns = self.list(hash, "browser_id.hash")?;
        if columns.is_empty() {
            return Err(self.expected(hash, "browser_id.hash", "at least one column"));
        }
        let span = hash.span();
        let slot = |column: &str| self.column(column, &span, "browser_id.hash");
        Ok(Browser::Hash(columns.into_iter().map(slot).collect()))
    }

    fn attributes(&mut self, value: &Value<'_>) -> Result<Vec<(String, Text)>, MappingError> {
        let key = "attributes";
        let mut attributes: Vec<(String, Text)> = Vec::new();
        match value.get_ref() {
            DeValue::Array(_) => {
                for column in self.list(value, key)? {
                    let slot = self.column(column, &value.span(), key);
                    let name = &self.columns[slot].path;
                    let name = if name.is_empty() { column } else { name }.to_owned();
                    if attributes.iter().any(|(other, _)| *other == name) {
                        let problem = format!(
                            "two attributes {name:?}; give them names, attributes = {{ NAME = COLUMN, … }}"
                        );
                        return Err(self.wrong(&value.span(), key, problem));
                    }
                    let text = Text {
                        key: format!("{key}.{name}"),
                        from: From::Column(slot),
                        map: Vec::new(),
                        keep_unmapped: false,
                        default: None,
                    };
                    attributes.push((name, text));
                }
            }
            DeValue::Table(table) => {
                for (name, value) in table.iter() {
                    let text = self.field(value, &format!("{key}.{}", name.get_ref()), &[])?;
                    attributes.push((name.get_ref().to_string(), text));
                }
            }
            _ => {
                let expected = "a list of columns, or a table { NAME = COLUMN, … }";
                return Err(self.expected(value, key, expected));
            }
        }
        Ok(attributes)
    }

    fn mapping(&mut self, table: &DeTable<'_>) -> Result<Mapping, MappingError> {
        let mut known: Vec<&str> = REQUIRED.to_vec();
        known.extend(OTHERS);
        known.extend(TEXTS);
        known.extend(FILE_KEYS);
        for (key, _) in table.iter() {
            let name = &key.get_ref()[..];
            if !known.contains(&name) {
                return Err(self.unknown(key, "", &known, "field or setting"));
            }
            let (only, other) = match self.kind {
                Kind::Csv => (&["each"][..], "JSON lines"),
                Kind::Jsonl => (&["delimiter", "quote", "columns"][..], "CSV"),
            };
            if only.contains(&name) {
                let problem = format!("is for {other} only");
                return Err(self.wrong(&key.span(), name, problem));
            }
        }
        for name in REQUIRED {
            if table.get(name).is_none() {
                let end = self.text.trim_end().len();
                let problem = format!("is missing; expected {name} = COLUMN");
                return Err(self.wrong(&(end..end), name, problem));
            }
        }
        let each = match table.get("each") {
            Some(each) => Some(self.text(each, "each")?.to_owned()),
            None => None,
        };
        self.unfolds = each.is_some();

        let mut delimiter = b',';
        if let Some(value) = table.get("delimiter") {
            delimiter = self.byte(value, "delimiter")?;
        }
        let mut quote = Some(b'"');
        if let Some(value) = table.get("quote") {
            quote = match value.get_ref().as_str() {
                Some("") => None,
                _ => Some(self.byte(value, "quote")?),
            };
            if quote == Some(delimiter) {
                return Err(self.expected(value, "quote", "another character than the delimiter"));
            }
        }
        let mut header = None;
        if let Some(value) = table.get("columns") {
            let names = self.list(value, "columns")?;
            if names.is_empty() {
                return Err(self.expected(value, "columns", "at least one name"));
            }
            header = Some(names.into_iter().map(str::to_owned).collect());
        }
        let mut missing = Vec::new();
        if let Some(value) = table.get("missing") {
            let texts = self.list(value, "missing")?;
            missing = texts.into_iter().map(str::to_owned).collect();
        }
        let mut point = b'.';
        if let Some(value) = table.get("decimal") {
            point = match self.text(value, "decimal")? {
                "." => b'.',
                "," => b',',
                _ => return Err(self.expected(value, "decimal", "\".\" or \",\"")),
            };
        }

        let mut texts = [const { None }; TEXTS.len()];
        for (slot, name) in texts.iter_mut().zip(TEXTS) {
            if let Some(value) = table.get(name) {
                *slot = Some(self.field(value, name, &[])?);
            }
        }
        let mut ids = [const { None }; 2];
        for (slot, name) in ids.iter_mut().zip(["event_id", "cause"]) {
            if let Some(value) = table.get(name) {
                *slot = Some(self.field(value, name, &[])?);
            }
        }
        let [event_id, cause] = ids;
        let mut numbers = [const { None }; 3];
        for (slot, name) in numbers.iter_mut().zip(["position", "quantity", "value"]) {
            if let Some(value) = table.get(name) {
                *slot = Some(self.number(value, name, name == "value")?);
            }
        }
        let [position, quantity, value] = numbers;
        let attributes = match table.get("attributes") {
            Some(value) => self.attributes(value)?,
            None => Vec::new(),
        };
        Ok(Mapping {
            file: self.file.to_owned(),
            kind: self.kind,
            each,
            delimiter,
            quote,
            header,
            missing,
            point,
            browser: self.browser(&table["browser_id"])?,
            time: self.time(&table["event_time"])?,
            effect: self.field(&table["effect"], "effect", &[])?,
            entity: self.field(&table["entity"], "entity", &[])?,
            texts,
            event_id,
            cause,
            position,
            quantity,
            value,
            attributes,
            columns: std::mem::take(&mut self.columns),
        })
    }
}

impl Text {
    /// The text in a row, if it is there.
    fn get<'a>(&'a self, values: &'a Values<'_>) -> Result<Option<&'a str>, String> {
        let found = match &self.from {
            From::Constant(text) => return Ok(Some(text)),
            From::Column(slot) => values.get(*slot).and_then(|value| value.as_deref()),
        };
        let Some(found) = found else {
            return Ok(self.default.as_deref());
        };
        if self.map.is_empty() {
            return Ok(Some(found));
        }
        match self.map.iter().find(|(theirs, _)| theirs == found) {
            Some((_, ours)) => Ok(Some(ours)),
            None if self.keep_unmapped => Ok(Some(found)),
            None => {
                let theirs: Vec<_> = self.map.iter().map(|(theirs, _)| &theirs[..]).collect();
                Err(format!(
                    "{}: expected one of {}, found text of the form `{}`",
                    self.key,
                    theirs.join(", "),
                    values::shape(found)
                ))
            }
        }
    }

    fn required<'a>(&'a self, values: &'a Values<'_>) -> Result<&'a str, String> {
        let text = self.get(values)?.filter(|text| !text.is_empty());
        text.ok_or_else(|| format!("{}: is missing", self.key))
    }

    fn id(&self, values: &Values<'_>) -> Result<Option<[u8; 16]>, String> {
        Ok(self.get(values)?.map(values::id))
    }
}

impl Number {
    fn get(&self, values: &Values<'_>, point: u8) -> Result<Option<i64>, String> {
        let Some(text) = self.text.get(values)? else {
            return Ok(None);
        };
        let rounding = match self.round {
            true => Rounding::Half,
            false => Rounding::Exact,
        };
        match values::scaled(text, self.scale, point, rounding) {
            Ok(number) => Ok(Some(number)),
            Err(fault) => {
                let problem = match fault {
                    NumberFault::NotANumber => "expected a number".to_owned(),
                    NumberFault::TooLarge => "expected a number of at most 18 digits".to_owned(),
                    NumberFault::TooFine => format!(
                        "expected a whole number of 1/{} (`round = true` rounds)",
                        self.scale
                    ),
                };
                Err(format!(
                    "{}: {problem}, found text of the form `{}`",
                    self.text.key,
                    values::shape(text)
                ))
            }
        }
    }

    fn int(&self, values: &Values<'_>, point: u8) -> Result<Option<i32>, String> {
        let Some(number) = self.get(values, point)? else {
            return Ok(None);
        };
        let int = i32::try_from(number);
        int.map(Some)
            .map_err(|_| format!("{}: expected a number of 32 bits", self.text.key))
    }
}

impl Mapping {
    /// Reads and checks a mapping file.
    pub fn read(file: &Path, kind: Kind) -> Result<Mapping, MappingError> {
        let text = std::fs::read_to_string(file).map_err(|source| MappingError::Read {
            file: file.to_owned(),
            source,
        })?;
        Mapping::parse(file, &text, kind)
    }

    /// Checks a mapping in `text`; `file` names it in errors.
    pub fn parse(file: &Path, text: &str, kind: Kind) -> Result<Mapping, MappingError> {
        let mut reader = Reader {
            file,
            text,
            kind,
            unfolds: false,
            columns: Vec::new(),
        };
        let table = DeTable::parse(text).map_err(|error| MappingError::Toml {
            file: file.to_owned(),
            line: reader.line(&error.span().unwrap_or(0..0)),
            problem: error.message().to_owned(),
        })?;
        reader.mapping(table.get_ref())
    }

    /// The text, if it means anything.
    pub(super) fn present<'a>(&self, text: Cow<'a, str>) -> Option<Cow<'a, str>> {
        (!text.is_empty() && !self.missing.iter().any(|missing| *missing == *text)).then_some(text)
    }

    /// Hands the measurement of a row to `take`; or says why the row is wrong. `event_id` is for
    /// rows whose mapping has none.
    pub(super) fn measurement<R>(
        &self,
        values: &Values<'_>,
        event_id: [u8; 16],
        take: impl FnOnce(&Measurement<'_>) -> R,
    ) -> Result<R, String> {
        let hashed;
        let browser_id = match &self.browser {
            Browser::Text(text) => text.required(values)?,
            Browser::Hash(slots) => {
                let part = |slot: &usize| values.get(*slot).and_then(|v| v.as_deref());
                hashed = combined::browser_id(slots.iter().map(|slot| part(slot).unwrap_or("-")));
                &hashed
            }
        };
        let (time, format) = &self.time;
        let text = time.required(values)?;
        let event_time = format.read(text).ok_or_else(|| {
            let form = match format {
                TimeFormat::Seconds => "seconds since 1970",
                TimeFormat::Milliseconds => "milliseconds since 1970",
                TimeFormat::Microseconds => "microseconds since 1970",
                TimeFormat::Rfc3339 => "RFC 3339",
                TimeFormat::Pattern(pattern, _) => pattern,
            };
            format!(
                "event_time: expected {form} in the years 1990 to 2099, found text of the form `{}`",
                values::shape(text)
            )
        })?;
        let mut texts = [None; TEXTS.len()];
        for (slot, text) in texts.iter_mut().zip(&self.texts) {
            if let Some(text) = text {
                *slot = text.get(values)?;
            }
        }
        let [
            entity_id,
            reason,
            url,
            referrer,
            customer_id,
            ip,
            user_agent,
            variant,
        ] = texts;
        let id = |text: &Option<Text>| match text {
            Some(text) => text.id(values),
            None => Ok(None),
        };
        let int = |number: &Option<Number>| match number {
            Some(number) => number.int(values, self.point),
            None => Ok(None),
        };
        let value = match &self.value {
            Some(number) => number.get(values, self.point)?,
            None => None,
        };
        let mut attributes = Vec::with_capacity(self.attributes.len());
        for (name, text) in &self.attributes {
            if let Some(text) = text.get(values)? {
                attributes.push((&name[..], text));
            }
        }
        Ok(take(&Measurement {
            event_id: id(&self.event_id)?.unwrap_or(event_id),
            browser_id,
            event_time,
            effect: self.effect.required(values)?,
            entity: self.entity.required(values)?,
            entity_id,
            reason,
            cause: id(&self.cause)?,
            url,
            referrer,
            customer_id,
            ip,
            user_agent,
            position: int(&self.position)?,
            quantity: int(&self.quantity)?,
            value,
            variant,
            attributes: &attributes,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "browser_id = \"user\"\nevent_time = { from = \"t\", format = \"ms\" }\neffect = { constant = \"shown\" }\nentity = { constant = \"page\" }\n";

    fn wrong(text: &str, kind: Kind) -> String {
        Mapping::parse(Path::new("m.toml"), text, kind)
            .unwrap_err()
            .to_string()
    }

    fn with(line: &str) -> String {
        wrong(&format!("{GOOD}{line}"), Kind::Csv)
    }

    #[test]
    fn each_error_names_line_key_and_the_nearest_name() {
        assert_eq!(
            with("entity_di = \"x\""),
            "m.toml:5: entity_di: no such field or setting, did you mean \"entity_id\"? (there are browser_id, event_time, effect, entity, event_id, cause, position, quantity, value, attributes, entity_id, reason, url, referrer, customer_id, ip, user_agent, variant, each, delimiter, quote, columns, missing, decimal)"
        );
        assert_eq!(
            with("ip = { form = \"x\" }"),
            "m.toml:5: ip.form: no such key, did you mean \"from\"? (there are from, constant, default, map, unmapped)"
        );
        assert_eq!(
            with("value = { from = \"price\", scale = 0 }"),
            "m.toml:5: value.scale: expected a whole number from 1 to 1000000000, such as 100 for cents, found 0"
        );
        assert_eq!(
            wrong("browser_id = \"x\"\n\n", Kind::Csv),
            "m.toml:1: event_time: is missing; expected event_time = COLUMN"
        );
        assert_eq!(
            with("each = \"events\""),
            "m.toml:5: each: is for JSON lines only"
        );
        assert_eq!(
            wrong(&format!("{GOOD}delimiter = \";\""), Kind::Jsonl),
            "m.toml:5: delimiter: is for CSV only"
        );
        assert!(
            with("ip = ").starts_with("m.toml:5: not TOML: "),
            "{}",
            with("ip = ")
        );
        assert!(with("ip = 3").contains("ip: expected the name of a column"));
        assert!(with("ip = { }").contains("ip: expected `from = COLUMN` or `constant"));
        assert!(with("ip = { from = \"a\", constant = \"b\" }").contains("found both"));
        assert!(with("ip = { constant = \"b\", map = {} }").contains("ip.map: says nothing"));
        assert!(with("ip = { from = \"a\", unmapped = \"drop\" }").contains("expected \"keep\""));
        assert!(with("attributes = [\"a\", \"a\"]").contains("two attributes \"a\""));
        assert!(with("attributes = 3").contains("expected a list of columns"));
        assert!(with("delimiter = \"ab\"").contains("expected one ASCII character"));
        assert!(with("quote = \",\"").contains("another character than the delimiter"));
        assert!(with("columns = []").contains("at least one name"));
        assert!(with("decimal = \";\"").contains("expected \".\" or \",\""));
    }

    #[test]
    fn formats_of_times_are_checked() {
        let time = |time: &str| {
            let lines = GOOD.lines().filter(|line| !line.starts_with("event_time"));
            let rest: Vec<_> = lines.collect();
            wrong(
                &format!("event_time = {time}\n{}", rest.join("\n")),
                Kind::Csv,
            )
        };
        assert!(time("\"t\"").contains("m.toml:1: event_time: expected its format"));
        assert!(time("{ from = \"t\", format = \"mss\" }").contains("did you mean \"ms\"?"));
        assert!(
            time("{ from = \"t\", format = \"%H:%M\" }").contains("no pattern that can be read")
        );
        assert!(
            time("{ from = \"t\", format = \"%Y-%m-%d\", offset = \"3\" }")
                .contains("an offset such as")
        );
        assert!(
            time("{ from = \"t\", format = \"ms\", offset = \"+03:30\" }").contains("says nothing")
        );
        assert!(
            time("{ from = \"t\", formt = \"ms\" }").contains("did you mean \"format\"?"),
            "{}",
            time("{ from = \"t\", formt = \"ms\" }")
        );
    }

    #[test]
    fn a_row_becomes_a_measurement_by_its_mapping() {
        let text = r#"
            browser_id = { hash = ["ip", "ua"] }
            event_id = "id"
            event_time = { from = "t", format = "%d.%m.%Y %H:%M", offset = "+03:30" }
            effect = { from = "kind", map = { view = "shown" }, unmapped = "keep" }
            entity = { from = "what", default = "page" }
            ip = "ip"
            quantity = "n"
            value = { from = "price", scale = 100, round = true }
            decimal = ","
            missing = ["-"]
            attributes = { brand = "b", shop = { constant = "de" } }
        "#;
        let mapping = Mapping::parse(Path::new("m"), text, Kind::Csv).unwrap();
        let row = |change: (&str, &str)| -> Vec<(String, String)> {
            [
                ("ip", "192.0.2.1"),
                ("ua", "-"),
                ("id", "00000000000000000000000000000005"),
                ("t", "26.01.2019 19:45"),
                ("kind", "view"),
                ("what", ""),
                ("n", "2"),
                ("price", "3,995"),
                ("b", "-"),
            ]
            .map(|(name, value)| match name == change.0 {
                true => (name.to_owned(), change.1.to_owned()),
                false => (name.to_owned(), value.to_owned()),
            })
            .into()
        };
        let measure = |row: &[(String, String)]| {
            let values: Values = mapping
                .columns
                .iter()
                .map(|column| {
                    let value = row.iter().find(|(name, _)| *name == column.path)?;
                    mapping.present(Cow::Borrowed(&value.1))
                })
                .collect();
            mapping.measurement(&values, [9; 16], |m| {
                (
                    m.event_id[15],
                    m.browser_id.to_owned(),
                    m.event_time,
                    m.effect.to_owned(),
                    m.entity.to_owned(),
                    m.quantity,
                    m.value,
                    m.attributes
                        .iter()
                        .map(|(k, v)| format!("{k}={v}"))
                        .collect::<Vec<_>>(),
                )
            })
        };
        assert_eq!(
            measure(&row(("", ""))).unwrap(),
            (
                5,
                combined::browser_id(["192.0.2.1", "-"]),
                1_548_519_300_000,
                "shown".to_owned(),
                "page".to_owned(),
                Some(2),
                Some(400),
                vec!["shop=de".to_owned()]
            )
        );
        assert_eq!(measure(&row(("id", ""))).unwrap().0, 9);
        assert_eq!(measure(&row(("kind", "buy"))).unwrap().3, "buy");
        assert_eq!(
            measure(&row(("t", "32.01.2019 19:45"))).unwrap_err(),
            "event_time: expected %d.%m.%Y %H:%M in the years 1990 to 2099, found text of the form `99.99.9999 99:99`"
        );
        assert!(
            measure(&row(("n", "many")))
                .unwrap_err()
                .contains("quantity: expected a number, found text of the form `aaaa`")
        );
        assert!(
            measure(&row(("n", "3000000000")))
                .unwrap_err()
                .contains("32 bits")
        );
        assert_eq!(
            measure(&row(("kind", ""))).unwrap_err(),
            "effect: is missing"
        );
    }
}
