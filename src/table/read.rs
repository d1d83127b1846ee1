//! Reading tables back, for `show` and for the role that anonymizes: whole versions, or single files.

use super::log::{AddFile, State};
use super::{Table, TableError};
use ::parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use arrow_array::cast::AsArray;
use arrow_array::{
    Array, ArrayRef, LargeListArray, ListArray, MapArray, RecordBatch, StructArray, new_null_array,
};
use arrow_schema::{ArrowError, DataType, Field, Fields, Schema};
use std::cell::Cell;
use std::fs::File;
use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Once};

/// Rows of a batch.
const ROWS: usize = 8192;

/// The batches of one file, in the file's own schema (see [`read_file`]).
pub struct Batches {
    inner: Raw,
    dir: PathBuf,
    file: String,
    schema: Arc<Schema>,
}

impl Batches {
    /// The schema of all the batches: the one the file was written with, but for dictionaries.
    pub fn schema(&self) -> &Arc<Schema> {
        &self.schema
    }
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        let problem = match self.inner.next()? {
            Ok(batch) => return Some(Ok(batch)),
            Err(problem) => problem,
        };
        Some(Err(TableError::DataFile {
            dir: self.dir.clone(),
            file: self.file.clone(),
            problem,
        }))
    }
}

/// The rows of one file of the table in `dir`, in the order in which they were written, in batches of up to 8,192.
/// Widths of ids and units of time come back as they were written, dictionaries as their values. Memory: a batch, and a page a column.
///
/// # Errors
/// A file that is missing, has another size than the log says, or is no Parquet file; later, what is torn in it.
pub fn read_file(dir: &Path, file: &AddFile) -> Result<Batches, TableError> {
    let wrong = |problem: String| TableError::DataFile {
        dir: dir.to_owned(),
        file: file.path.clone(),
        problem,
    };
    let path = file.on_disk(dir)?;
    let found = match std::fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(wrong("is missing".to_owned()));
        }
        Err(e) => return Err(super::disk::failed("read", &path, e)),
    };
    if found != file.size {
        return Err(wrong(format!("has {found} bytes; expected {}", file.size)));
    }
    let inner = open(&path).map_err(wrong)?;
    let schema = Arc::clone(&inner.schema);
    Ok(Batches {
        inner,
        dir: dir.to_owned(),
        file: file.path.clone(),
        schema,
    })
}

/// The rows of one version of a table (see [`Table::read`]).
pub struct Rows {
    dir: PathBuf,
    files: std::vec::IntoIter<AddFile>,
    open: Option<Batches>,
    schema: Arc<Schema>,
}

impl Iterator for Rows {
    type Item = Result<RecordBatch, TableError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(open) = &mut self.open {
                match open.next() {
                    Some(Ok(batch)) => {
                        let wrong = |e: ArrowError| TableError::DataFile {
                            dir: self.dir.clone(),
                            file: open.file.clone(),
                            problem: format!("does not fit the table's schema: {e}"),
                        };
                        return Some(conform(&batch, &self.schema).map_err(wrong));
                    }
                    Some(Err(e)) => return Some(Err(e)),
                    None => self.open = None,
                }
            }
            match read_file(&self.dir, &self.files.next()?) {
                Ok(batches) => self.open = Some(batches),
                Err(e) => return Some(Err(e)),
            }
        }
    }
}

impl Table {
    /// The rows of the table at its [`version`](Table::version), file by file in the order of their names, with the
    /// columns of the table: what a file does not have is null. Values keep the width and unit they have in their file.
    ///
    /// # Errors
    /// The iterator's items: a file that is missing, torn, or does not fit. It may be asked on after an error.
    pub fn read(&self) -> Rows {
        rows(self.dir(), self.state())
    }

    /// The rows as of an earlier version.
    ///
    /// # Errors
    /// No such version, or no longer; a log that is torn.
    pub fn read_at(&self, version: u64) -> Result<Rows, TableError> {
        Ok(rows(self.dir(), &self.state_at(version)?))
    }
}

fn rows(dir: &Path, state: &State) -> Rows {
    let files: Vec<_> = state.files.values().cloned().collect();
    Rows {
        dir: dir.to_owned(),
        files: files.into_iter(),
        open: None,
        schema: Arc::new(state.arrow.clone()),
    }
}

/// Batches of a Parquet file, with what is wrong with it as text. The decoder is run behind `catch_unwind`: on torn
/// bytes it may panic, and a damaged file must end in an error like any other.
pub(super) struct Raw {
    reader: Option<ParquetRecordBatchReader>,
    schema: Arc<Schema>,
}

impl Iterator for Raw {
    type Item = Result<RecordBatch, String>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut reader = self.reader.take()?;
        match guarded(|| reader.next().transpose().map_err(|e| e.to_string())) {
            Ok(None) => None,
            Ok(Some(batch)) => {
                self.reader = Some(reader);
                Some(Ok(batch))
            }
            Err(problem) => Some(Err(problem)),
        }
    }
}

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

fn guarded<T>(read: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    // The error says it; the report of a panic beside it would only frighten.
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !GUARDED.get() {
                usual(info);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = panic::catch_unwind(panic::AssertUnwindSafe(read));
    GUARDED.set(before);
    match result {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(problem)) => Err(format!("is no whole Parquet file: {problem}")),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said
                .or_else(|| panic.downcast_ref::<&str>().copied())
                .unwrap_or("no reason");
            Err(format!(
                "is no whole Parquet file: its decoder gave up ({said})"
            ))
        }
    }
}

/// Opens a Parquet file.
pub(super) fn open(path: &Path) -> Result<Raw, String> {
    let file = File::open(path).map_err(|e| format!("cannot be opened: {e}"))?;
    guarded(|| {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|e| e.to_string())?;
        let reader = builder
            .with_batch_size(ROWS)
            .build()
            .map_err(|e| e.to_string())?;
        let schema = arrow_array::RecordBatchReader::schema(&reader);
        Ok(Raw {
            reader: Some(reader),
            schema,
        })
    })
}

/// The batch with the columns of `schema`, in its order, at every depth.
fn conform(batch: &RecordBatch, schema: &Schema) -> Result<RecordBatch, ArrowError> {
    let (arrays, fields) = conform_fields(
        batch.schema_ref().fields(),
        batch.columns(),
        schema.fields(),
        batch.num_rows(),
    )?;
    RecordBatch::try_new(Arc::new(Schema::new(fields)), arrays)
}

fn conform_fields(
    have: &Fields,
    arrays: &[ArrayRef],
    want: &Fields,
    rows: usize,
) -> Result<(Vec<ArrayRef>, Fields), ArrowError> {
    let mut columns = Vec::with_capacity(want.len());
    let mut fields = Vec::with_capacity(want.len());
    for want in want {
        let column = match have.find(want.name()) {
            Some((i, _)) => conform_array(&arrays[i], want.data_type())?,
            None => new_null_array(want.data_type(), rows),
        };
        fields.push(Field::new(
            want.name(),
            column.data_type().clone(),
            want.is_nullable(),
        ));
        columns.push(column);
    }
    Ok((columns, fields.into()))
}

fn conform_array(array: &ArrayRef, want: &DataType) -> Result<ArrayRef, ArrowError> {
    let item = |name: &str, array: &ArrayRef, nullable: bool| {
        Arc::new(Field::new(name, array.data_type().clone(), nullable))
    };
    Ok(match (array.data_type(), want) {
        (DataType::Struct(have), DataType::Struct(want)) => {
            let array = array.as_struct();
            let (columns, fields) = conform_fields(have, array.columns(), want, array.len())?;
            Arc::new(StructArray::try_new_with_length(
                fields,
                columns,
                array.nulls().cloned(),
                array.len(),
            )?)
        }
        (DataType::List(_), DataType::List(want)) => {
            let array = array.as_list::<i32>();
            let values = conform_array(array.values(), want.data_type())?;
            let field = item("element", &values, want.is_nullable());
            Arc::new(ListArray::try_new(
                field,
                array.offsets().clone(),
                values,
                array.nulls().cloned(),
            )?)
        }
        (DataType::LargeList(_), DataType::List(want)) => {
            let array = array.as_list::<i64>();
            let values = conform_array(array.values(), want.data_type())?;
            let field = item("element", &values, want.is_nullable());
            Arc::new(LargeListArray::try_new(
                field,
                array.offsets().clone(),
                values,
                array.nulls().cloned(),
            )?)
        }
        (DataType::Map(_, sorted), DataType::Map(want, _)) => {
            let array = array.as_map();
            let DataType::Struct(want) = want.data_type() else {
                return Ok(Arc::new(array.clone()));
            };
            let keys = conform_array(array.keys(), want[0].data_type())?;
            let values = conform_array(array.values(), want[1].data_type())?;
            let fields: Fields = vec![
                item("key", &keys, false),
                item("value", &values, want[1].is_nullable()),
            ]
            .into();
            let entries = StructArray::try_new(fields, vec![keys, values], None)?;
            let field = Arc::new(Field::new("key_value", entries.data_type().clone(), false));
            Arc::new(MapArray::try_new(
                field,
                array.offsets().clone(),
                entries,
                array.nulls().cloned(),
                *sorted,
            )?)
        }
        _ => Arc::clone(array),
    })
}
