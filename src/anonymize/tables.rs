//! The twin of a table: version n of version n, with the same tick. Reads the files that a version
//! has added, batch by batch, anonymizes the columns, sorts the rows by visit and writes them to
//! files of its own; keeps nothing between versions.
//!
//! *Once.* The twin's version says which of the table's it is the twin of, so whoever starts goes
//! on with the next. Files of a version that was never put are no part of the table.
//!
//! Memory: the rows of up to 128 MB of columns, and as much again while they are sorted. A version
//! of more becomes several files, each of whole visits.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, Int32Array, RecordBatch};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use arrow_select::interleave::interleave_record_batch;
use visitflow_schemas::anonymize::{Anonymizer, Unlike};
use visitflow_schemas::pseudonym::{Salt, year_of};
use visitflow_schemas::role::Role;
use visitflow_schemas::roles::Roles;

use super::salts::SaltFile;
use super::{AnonymizeError, TableSummary, Tagged};
use crate::table::{AddFile, Options, Table, TableError, TableWriter, read_file};

/// What [`Twin::chunk`] is.
const CHUNK_BYTES: usize = 128 << 20;
/// Rows of a batch that is written.
const BATCH_ROWS: usize = 8_192;
/// The name of the files.
const PREFIX: &str = "anonymous";

/// The twin of one table, and the table.
pub(super) struct Twin {
    from: PathBuf,
    twin: Table,
    anonymizer: Anonymizer,
    /// The column with the visit, of rows and of their twins.
    visit: String,
    /// The column with the place in the visit, if there is one.
    position: Option<String>,
    options: Options,
    /// Its columns.
    schema: Schema,
    /// Rows are sorted and written when they take so many bytes.
    chunk: usize,
    /// Since it was opened.
    pub summary: TableSummary,
}

impl Twin {
    /// Opens the table `from` and its twin `to`, which is created if it is not there. With
    /// `positions` its rows say which of their visit's they are.
    pub fn open(
        from: &Path,
        to: &Path,
        anonymizer: Anonymizer,
        positions: bool,
        tagged: &Tagged,
    ) -> Result<Twin, AnonymizeError> {
        let table = Table::open(from)?;
        let columns = anonymizer
            .arrow_schema()
            .map_err(|source| AnonymizeError::Columns {
                table: from.to_owned(),
                file: "its schema".to_owned(),
                source,
            })?;
        let free = |name: &String| columns.index_of(name).is_err();
        let mut name = "position_in_visit".to_owned();
        while !free(&name) {
            name.insert_str(0, "visitflow_");
        }
        let position = positions.then_some(name);
        let mut fields = columns.fields().to_vec();
        fields.extend(
            position
                .as_deref()
                .map(|name| Arc::new(position_field(name))),
        );
        let mut properties = vec![];
        let tick = table.property("visitflow.tick_ms").map(str::to_owned);
        properties.extend(tick.as_deref().map(|tick| ("visitflow.tick_ms", tick)));
        let schema = Schema::new(fields);
        let twin = Table::open_or_create(to, &schema, &properties)?;

        let version = twin.version();
        let other = |problem: String| AnonymizeError::OtherSource {
            twin: to.to_owned(),
            from: from.to_owned(),
            problem,
        };
        if version > table.version() {
            let problem = format!(
                "it is at version {version}, the table at {}",
                table.version()
            );
            return Err(other(problem));
        }
        if version > 0 && twin.last_tick() != Some(tick_of(&Table::open_at(from, version)?)) {
            return Err(other(format!(
                "version {version} of both has different ticks"
            )));
        }
        let visit = anonymizer.schema().record().fields[0].name.clone();
        Ok(Twin {
            from: from.to_owned(),
            options: options(&anonymizer, tagged, &schema, &visit),
            schema,
            twin,
            anonymizer,
            visit,
            position,
            chunk: CHUNK_BYTES,
            summary: TableSummary {
                version,
                ..TableSummary::default()
            },
        })
    }

    /// Writes the twin of the next version; whether there was one. When it is told to stop on the
    /// way, nothing of that version is seen.
    pub fn step(
        &mut self,
        salts: &mut SaltFile,
        stop: &impl Fn() -> bool,
    ) -> Result<bool, AnonymizeError> {
        let version = self.twin.version() + 1;
        let after = match Table::open_at(&self.from, version) {
            Ok(table) => table,
            Err(TableError::NoVersion { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let before = Table::open_at(&self.from, version - 1)?;
        let has = |table: &Table, file: &AddFile| table.files().any(|f| f.path == file.path);
        if before.files().any(|file| !has(&after, file)) {
            let table = self.from.clone();
            return Err(AnonymizeError::Removes { table, version });
        }
        let mut rows = Rows::new(self);
        for file in after.files().filter(|file| !has(&before, file)) {
            let wrong = |source| AnonymizeError::Columns {
                table: self.from.clone(),
                file: file.path.clone(),
                source,
            };
            for batch in read_file(&self.from, file)? {
                if stop() {
                    return Ok(false);
                }
                rows.add(&batch?, salts, &wrong)?;
            }
            rows.end_of_file();
        }
        let (files, count) = rows.finish()?;
        let tick = tick_of(&after);
        // A version without a later tick is of somebody who keeps the table in order.
        let put = match self.twin.last_tick() {
            Some(last) if last >= tick => self.twin.replace(&[], &files, last)?,
            _ => self.twin.evolve(&self.schema, &files, tick)?,
        };
        if put != version {
            let dir = self.twin.dir().to_owned();
            return Err(TableError::Fenced { dir, version: put }.into());
        }
        self.summary.rows += count;
        self.summary.versions += 1;
        self.summary.version = version;
        Ok(true)
    }
}

/// The tick of the version that a table was opened at; 0 before the first.
fn tick_of(table: &Table) -> u64 {
    table.last_tick().unwrap_or(0)
}

fn position_field(name: &str) -> Field {
    let comment = "Which of its visit's measurements it is, from 1, in the order of time.";
    let field = Field::new(name, DataType::Int32, false);
    field.with_metadata(HashMap::from([("comment".to_owned(), comment.to_owned())]))
}

/// Parquet settings of the columns that are left.
fn options(anonymizer: &Anonymizer, tagged: &Tagged, schema: &Schema, visit: &str) -> Options {
    let roles = Roles::find(anonymizer.schema(), &tagged.overrides).ok();
    let place = |role| Some(roles.as_ref()?.place(role)?.path.clone());
    let left = |path: &String| {
        let mut fields = schema.fields();
        let mut found = false;
        for step in path.split('.') {
            let Some((_, field)) = fields.find(step) else {
                return false;
            };
            found = !field.data_type().is_nested();
            if let DataType::Struct(below) = field.data_type() {
                fields = below;
            }
        }
        found
    };
    let named = |roles: &[Role]| {
        roles
            .iter()
            .filter_map(|r| place(*r))
            .filter(left)
            .collect()
    };
    let mut options = Options {
        unique: named(&[Role::EventId, Role::Cause]),
        bloom: named(&[Role::BrowserId]),
    };
    if roles.is_none() {
        // The table of visits is no measurement; its columns are known.
        let known = ["browser_id", "customer_id"].map(str::to_owned);
        options.bloom = known.into_iter().filter(left).collect();
        options.unique = vec![visit.to_owned()];
    }
    options.bloom.push(visit.to_owned());
    options
}

/// The rows of a version on their way: anonymized, then sorted, then in a file.
struct Rows<'a> {
    twin: &'a Twin,
    batches: Vec<RecordBatch>,
    /// The visit's pseudonym, the batch and the row in it.
    order: Vec<([u8; 32], usize, usize)>,
    bytes: usize,
    /// The visit of the last row, as the table has it, and the row's place in it.
    last: Option<(String, i32)>,
    files: Vec<AddFile>,
    count: u64,
}

impl<'a> Rows<'a> {
    fn new(twin: &'a Twin) -> Rows<'a> {
        Rows {
            twin,
            batches: vec![],
            order: vec![],
            bytes: 0,
            last: None,
            files: vec![],
            count: 0,
        }
    }

    /// A visit never spans files.
    fn end_of_file(&mut self) {
        self.last = None;
    }

    fn add(
        &mut self,
        batch: &RecordBatch,
        salts: &mut SaltFile,
        wrong: &impl Fn(Unlike) -> AnonymizeError,
    ) -> Result<(), AnonymizeError> {
        let began = self.twin.anonymizer.began_of_rows(batch).map_err(wrong)?;
        let years: Vec<i64> = began.into_iter().map(year_of).collect();
        years.iter().try_for_each(|year| salts.ensure(*year))?;
        let of_rows: Option<Vec<&Salt>> = years.iter().map(|year| salts.get(*year)).collect();
        let of_rows = of_rows.expect("ensured above");
        let made = self.twin.anonymizer.rows(batch, &of_rows).map_err(wrong)?;
        let visits = texts(batch, &self.twin.visit).map_err(wrong)?;
        let mut starts = vec![];
        let mut positions = Vec::with_capacity(batch.num_rows());
        for row in 0..batch.num_rows() {
            let visit = visits.value(row);
            match &mut self.last {
                Some((last, position)) if last == visit => *position += 1,
                last => {
                    starts.push(row);
                    *last = Some((visit.to_owned(), 1));
                }
            }
            positions.extend(self.last.as_ref().map(|(_, position)| *position));
        }
        let made = match &self.twin.position {
            Some(name) => with_positions(&made, name, positions),
            None => Ok(made),
        };
        let made = made.map_err(|error| wrong(error.into()))?;

        // Where rows are many, they are written at the next visit's beginning.
        if self.bytes >= self.twin.chunk
            || self
                .batches
                .first()
                .is_some_and(|b| b.schema() != made.schema())
        {
            let at = starts.first().copied().unwrap_or(batch.num_rows());
            self.keep(made.slice(0, at)).map_err(wrong)?;
            if at < batch.num_rows() {
                self.write()?;
                self.keep(made.slice(at, batch.num_rows() - at))
                    .map_err(wrong)?;
            }
            return Ok(());
        }
        self.keep(made).map_err(wrong)
    }

    fn keep(&mut self, batch: RecordBatch) -> Result<(), Unlike> {
        let visits = texts(&batch, &self.twin.visit)?;
        for row in 0..batch.num_rows() {
            let pseudonym = visits.value(row).as_bytes().try_into();
            let pseudonym = pseudonym.map_err(|_| Unlike::Column {
                path: self.twin.visit.clone(),
                found: "another text".to_owned(),
                expected: "a pseudonym in each row".to_owned(),
            })?;
            self.order.push((pseudonym, self.batches.len(), row));
        }
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
        Ok(())
    }

    /// Sorts the rows at hand and writes them to a file.
    fn write(&mut self) -> Result<(), TableError> {
        let mut order = std::mem::take(&mut self.order);
        let batches = std::mem::take(&mut self.batches);
        self.bytes = 0;
        let Some(first) = batches.first().filter(|_| !order.is_empty()) else {
            return Ok(());
        };
        // Rows of a visit keep their order.
        order.sort_by_key(|(visit, _, _)| *visit);
        let dir = self.twin.twin.dir();
        let mut file = TableWriter::new(dir, PREFIX, first.schema(), &self.twin.options)?;
        let batches: Vec<&RecordBatch> = batches.iter().collect();
        for rows in order.chunks(BATCH_ROWS) {
            let rows: Vec<(usize, usize)> = rows.iter().map(|(_, b, row)| (*b, *row)).collect();
            let sorted = interleave_record_batch(&batches, &rows);
            let sorted = sorted.map_err(|error| TableError::Schema {
                column: String::new(),
                problem: error.to_string(),
            })?;
            file.write(&sorted)?;
        }
        self.count += order.len() as u64;
        self.files.push(file.finish()?);
        Ok(())
    }

    fn finish(mut self) -> Result<(Vec<AddFile>, u64), TableError> {
        self.write()?;
        Ok((self.files, self.count))
    }
}

fn texts<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a arrow_array::StringArray, Unlike> {
    let column = batch.column_by_name(name);
    let texts = column.and_then(|column| column.as_string_opt::<i32>());
    texts
        .filter(|texts| texts.null_count() == 0)
        .ok_or_else(|| Unlike::Column {
            path: name.to_owned(),
            found: column.map_or("missing".to_owned(), |c| c.data_type().to_string()),
            expected: "Utf8 without nulls".to_owned(),
        })
}

fn with_positions(
    batch: &RecordBatch,
    name: &str,
    positions: Vec<i32>,
) -> Result<RecordBatch, ArrowError> {
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    fields.push(Arc::new(position_field(name)));
    columns.push(Arc::new(Int32Array::from(positions)));
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use visitflow_schemas::columns::{Columns, Ids};
    use visitflow_schemas::measurement::{MEASUREMENT, Measurement};
    use visitflow_schemas::resolve::identity;
    use visitflow_schemas::roles::Overrides;
    use visitflow_schemas::tag::{self, Tag};

    struct Tables {
        dir: tempfile::TempDir,
        table: Table,
        rows: Columns,
        schema: visitflow_schemas::schema::Schema,
    }

    impl Tables {
        fn new() -> Tables {
            let dir = tempfile::tempdir().unwrap();
            let schema = tag::rows(&MEASUREMENT).unwrap();
            let rows = Columns::new(&schema, Ids::Hex).unwrap();
            let at = dir.path().join("identified");
            let table = Table::create(&at, rows.schema(), &[("visitflow.tick_ms", "100")]).unwrap();
            Tables {
                dir,
                table,
                rows,
                schema,
            }
        }

        /// A file with these visits, of three measurements each.
        fn file(&mut self, visits: std::ops::Range<u32>) -> AddFile {
            let program = self.rows.program(&identity(&self.schema)).unwrap();
            let mut body = vec![];
            for visit in visits {
                for event in 0..3 {
                    let mut measurement = vec![];
                    let id = (u128::from(visit) << 8 | event).to_be_bytes();
                    let browser_id = &format!("browser-{visit}");
                    Measurement {
                        event_id: id,
                        browser_id,
                        ..Default::default()
                    }
                    .encode_body(&mut measurement);
                    body.clear();
                    let visit_id = u128::from(visit).to_be_bytes();
                    let tag = Tag {
                        visit_id,
                        visit_started: 0,
                    };
                    tag.write_body(b"\0\0\0\0\0\0", &measurement, &mut body);
                    // The day.
                    body.push(0);
                    self.rows.append(&program, &body).unwrap();
                }
            }
            let batch = self.rows.finish();
            let dir = self.table.dir();
            let mut file =
                TableWriter::new(dir, "w0", batch.schema(), &Options::default()).unwrap();
            file.write(&batch).unwrap();
            file.finish().unwrap()
        }

        fn twin(&self) -> Result<Twin, AnonymizeError> {
            let tagged = Tagged {
                overrides: Overrides::default(),
                known: HashMap::new(),
                reader: self.schema.clone(),
            };
            let anonymizer = tagged.anonymizer(&self.schema)?;
            let to = self.dir.path().join("anonymous");
            Twin::open(self.table.dir(), &to, anonymizer, true, &tagged)
        }

        fn salts(&self) -> SaltFile {
            SaltFile::open(&self.dir.path().join("salts")).unwrap()
        }
    }

    #[test]
    fn many_rows_become_several_files_of_whole_visits() {
        let mut tables = Tables::new();
        let files = [tables.file(0..5_000), tables.file(5_000..9_000)];
        tables.table.append(&files, 700).unwrap();
        let mut twin = tables.twin().unwrap();
        // A batch of rows at a time.
        twin.chunk = 1;
        assert!(twin.step(&mut tables.salts(), &|| false).unwrap());
        assert!(!twin.step(&mut tables.salts(), &|| false).unwrap());
        assert_eq!((twin.summary.rows, twin.summary.version), (27_000, 1));
        assert_eq!(twin.twin.last_tick(), Some(700));
        assert!(twin.twin.files().count() > 2);
        let mut seen = HashSet::new();
        for file in twin.twin.files() {
            let mut last = (String::new(), 3);
            for batch in read_file(twin.twin.dir(), file).unwrap() {
                let batch = batch.unwrap();
                let visits = texts(&batch, "visit_id").unwrap();
                let positions = batch.column_by_name("position_in_visit").unwrap();
                let positions = positions.as_primitive::<arrow_array::types::Int32Type>();
                for (visit, position) in visits.iter().flatten().zip(positions.values()) {
                    if last.1 == 3 {
                        // The visits before it were whole, in this file and in others.
                        assert!(visit > &last.0[..] && *position == 1);
                        assert!(seen.insert(visit.to_owned()));
                    } else {
                        assert_eq!((visit, *position), (&last.0[..], last.1 + 1));
                    }
                    last = (visit.to_owned(), *position);
                }
            }
            assert_eq!(last.1, 3);
        }
        assert_eq!(seen.len(), 9_000);
    }

    #[test]
    fn whoever_starts_goes_on_with_the_next_version() {
        let mut tables = Tables::new();
        let mut salts = tables.salts();
        for (version, visits) in [(1, 0..2), (2, 2..2), (3, 2..5)] {
            let files = match visits.is_empty() {
                true => vec![],
                false => vec![tables.file(visits)],
            };
            tables.table.append(&files, 100 * version).unwrap();
            let mut twin = tables.twin().unwrap();
            // Told to stop on the way, it leaves nothing that is seen.
            if !files.is_empty() {
                assert!(!twin.step(&mut salts, &|| true).unwrap());
            }
            let mut twin = tables.twin().unwrap();
            assert_eq!(twin.twin.version(), version - 1);
            assert!(twin.step(&mut salts, &|| false).unwrap());
            assert_eq!(twin.twin.last_tick(), Some(100 * version));
            assert_eq!(
                twin.twin.files_at(version).unwrap().len(),
                version.div_ceil(2) as usize
            );
        }
        // Somebody who keeps the table in order puts versions without a later tick.
        tables.table.replace(&[], &[], 300).unwrap();
        let mut twin = tables.twin().unwrap();
        assert!(twin.step(&mut salts, &|| false).unwrap());
        assert_eq!((twin.summary.version, twin.summary.rows), (4, 0));
        // What is taken out cannot be followed.
        let gone = tables.table.files().next().unwrap().path.clone();
        tables.table.replace(&[gone], &[], 300).unwrap();
        let error = tables
            .twin()
            .unwrap()
            .step(&mut salts, &|| false)
            .unwrap_err();
        assert!(
            error.to_string().contains("version 5 takes files out"),
            "{error}"
        );
    }

    #[test]
    fn what_lies_in_a_null_record_of_a_file_comes_through() {
        let writer = r#"{"type": "record", "name": "shop.Event", "fields": [
            {"name": "user", "default": null, "type": ["null", {"type": "record", "name": "User",
             "fields": [{"name": "seen", "type": {"type": "record", "name": "Seen", "fields": [
                {"name": "id", "privacy": "pseudonymize",
                 "type": {"type": "fixed", "name": "Id", "size": 16}},
                {"name": "name", "type": "string", "privacy": "pseudonymize"},
                {"name": "at", "privacy": "generalize",
                 "type": {"type": "long", "logicalType": "timestamp-millis"}},
                {"name": "link_url", "type": "string", "privacy": "generalize"},
                {"name": "words", "privacy": "pseudonymize",
                 "type": {"type": "array", "items": "string"}},
                {"name": "age", "type": "int", "privacy": "keep"},
                {"name": "mail", "type": "string", "privacy": "drop"}]}}]}]}]}"#;
        let writer = visitflow_schemas::schema::Schema::parse(writer).unwrap();
        let schema = tag::rows(&writer).unwrap();
        let twin = Anonymizer::of_tagged(&schema, &Overrides::default()).unwrap();
        let mut columns = [&schema, twin.anonymous()].map(|s| Columns::new(s, Ids::Hex).unwrap());
        let salt = Salt::new([1; 32]);
        let there = [
            &b"\x02"[..],
            &[7; 16],
            b"\x02n\x02\x0c/p?q=x\x02\x02w\x00\x04\x02m",
        ]
        .concat();
        for user in [&b"\0"[..], &there, b"\0"] {
            let mut body = vec![];
            Tag::default().write_body(b"\0\0\0\0\0\0", user, &mut body);
            body.push(0);
            let mut anonymous = vec![];
            twin.run(&salt, &body, &mut anonymous).unwrap();
            let bodies = [(&schema, &body), (twin.anonymous(), &anonymous)];
            for (columns, (schema, body)) in columns.iter_mut().zip(bodies) {
                let program = columns.program(&identity(schema)).unwrap();
                columns.append(&program, body).unwrap();
            }
        }
        let [rows, expected] = columns.map(|mut columns| columns.finish());
        let dir = tempfile::tempdir().unwrap();
        let mut file =
            TableWriter::new(dir.path(), "w0", rows.schema(), &Options::default()).unwrap();
        file.write(&rows).unwrap();
        let file = file.finish().unwrap();
        let json = |batch: &RecordBatch| {
            let mut lines = vec![];
            crate::table::to_json_lines(batch, &mut lines).unwrap();
            String::from_utf8(lines).unwrap()
        };
        for batch in read_file(dir.path(), &file).unwrap() {
            let made = twin.rows(&batch.unwrap(), &[&salt; 3]).unwrap();
            assert_eq!(json(&made), json(&expected));
            // And into a file again.
            let mut file =
                TableWriter::new(dir.path(), "w1", made.schema(), &Options::default()).unwrap();
            file.write(&made).unwrap();
            file.finish().unwrap();
        }
    }
}
