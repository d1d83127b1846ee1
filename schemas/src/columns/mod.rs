//! Files by columns: Avro bodies decoded straight into Arrow columns, once, for whoever writes
//! tables. [`Columns`] has a reader's schema; each writer's schema gets a [`Program`] that fills
//! the columns from its bodies, without a tree of values between and without allocating for a row.
//! A body that is not as its writer's schema says is an error and leaves nothing behind. This is
//! no writer of files, and it never turns columns back into bodies.
//!
//! # Which column a type becomes
//!
//! Chosen so that Parquet, Delta Lake and their usual readers (Spark, DuckDB, Polars, Arrow) all
//! take it.
//!
//! | Avro | Arrow | |
//! | --- | --- | --- |
//! | boolean, int, long, float, double | the same | |
//! | string, uuid as a string | `Utf8` | |
//! | bytes; fixed of more than 64 | `Binary` | |
//! | fixed | `FixedSizeBinary` | a duration (12), too |
//! | fixed of 16 | by [`Ids`]: `Utf8` of 32 hexadecimal digits, or `FixedSizeBinary(16)` | a uuid as text has its hyphens |
//! | enum | `Dictionary(Int32, Utf8)` | the reader's symbols |
//! | date | `Date32` | |
//! | time-millis, time-micros | `Int64` | microseconds of the day: Delta has no time of day |
//! | timestamp-millis, -micros, -nanos | `Timestamp(Microsecond, "UTC")` | the only unit of Delta; nanoseconds round down |
//! | local-timestamp-… | `Timestamp(Microsecond)` | |
//! | decimal | `Decimal128` | of at most 38 digits, else the logical type is ignored |
//! | array | `List` of `element` | |
//! | map | `Map` of `key_value` {`key`, `value`} | in the writer's order; keys that come twice stay |
//! | record | `Struct` | its field's doc becomes the column's metadata `comment` |
//! | union of null and one type | that type, nullable | |
//! | union of several | `Struct` of one nullable field a branch, null for null | see below |
//!
//! A branch's field is named by its type: `string`, `long`, `array`, the short name of a record, an
//! enum or a fixed; the full name with `_` for dots if a branch before has the same name but for
//! case, and then a number.
//!
//! *What has no content has no column*: a field of type null, a fixed of no bytes, a record none of
//! whose fields has a column (Parquet has no empty structs, Delta no nulls). Where such a value's
//! presence tells something (as an item, a map's value, a branch of a union) it is a `Boolean`,
//! true where it is present; null itself is a `Boolean` that is always null.
//!
//! # What a body must hold to
//!
//! Beyond its schema: text is UTF-8, ints have 32 bits, booleans are 0 or 1, a block of an array
//! is as long as it says, nothing follows the last field; times fit into microseconds, decimals
//! into their digits; at most [`MAX_EMPTY_ITEMS`] items have no byte of their own. What it makes
//! the columns allocate is bounded by its length times the number of columns below it (and by the
//! reader's defaults).

mod cursor;
mod default;
mod layout;
mod program;
mod store;

use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchOptions};
use arrow_schema::SchemaRef;
use thiserror::Error;

pub use cursor::{BodyError, Broken, MAX_EMPTY_ITEMS};
pub use program::Program;

use crate::resolve::Read;
use crate::schema::Schema;
use cursor::Cursor;
use layout::{Layout, Node};
use store::Stores;

/// How many types a reader's schema may hold, counted at every place where they are used: a table
/// of more columns has no reader.
pub const MAX_COLUMNS: usize = 10_000;

/// How many steps a program may have; a type that is used at many places counts at each.
const MAX_OPS: usize = 100_000;

/// How 16-byte IDs stand in the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ids {
    /// As text of 32 hexadecimal digits: what people search for, paste and join by in any tool.
    #[default]
    Hex,
    /// As their 16 bytes: half the size.
    Binary,
}

/// Why a schema cannot be had as columns, or bodies of another not be read into them.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ColumnsError {
    /// Columns that Delta and most readers could not tell apart.
    #[error(
        "at {path}: a field of this name, but for upper and lower case, is there already; expected names that differ otherwise, too"
    )]
    SameName {
        /// The second one.
        path: String,
    },
    /// Too many columns or steps.
    #[error(
        "at {path}: too many types, counted wherever they are used; expected at most {MAX_COLUMNS} columns"
    )]
    TooMany {
        /// Where the limit was reached.
        path: String,
    },
    /// A default that is none.
    #[error("at {path}: the default is {default}, expected a value of {ty}")]
    Default {
        /// The field.
        path: String,
        /// What stands there.
        default: String,
        /// The field's type.
        ty: String,
    },
    /// The resolution has another reader than the columns.
    #[error(
        "at {path:?}: a program for other columns, expected one whose reader is that of the columns"
    )]
    Foreign {
        /// Where they differ.
        path: String,
    },
}

/// The Arrow schema of a reader's columns, as [`Columns`] makes them.
pub fn arrow_schema_of(reader: &Schema, ids: Ids) -> Result<arrow_schema::Schema, ColumnsError> {
    let layout = Layout::new(reader.record(), ids)?;
    Ok(layout.schema.as_ref().clone())
}

/// Columns of a reader's schema while they grow.
///
/// ```
/// use visitflow_schemas::columns::{Columns, Ids};
/// use visitflow_schemas::resolve::resolve;
/// use visitflow_schemas::schema::Schema;
///
/// let writer = Schema::parse(r#"{"type": "record", "name": "Click", "fields": [
///     {"name": "url", "type": "string"}, {"name": "position", "type": "int"}]}"#)?;
/// let reader = Schema::parse(r#"{"type": "record", "name": "Click", "fields": [
///     {"name": "position", "type": "long"}, {"name": "reason", "type": ["null", "string"], "default": null}]}"#)?;
/// let mut columns = Columns::new(&reader, Ids::Hex)?;
/// let program = columns.program(&resolve(&writer, &reader)?)?;
/// columns.append(&program, b"\x02/\x0e")?;
/// assert!(columns.append(&program, b"\x02").is_err());
/// let batch = columns.finish();
/// assert_eq!((batch.num_rows(), batch.num_columns()), (1, 2));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Columns {
    layout: Arc<Layout>,
    stores: Stores,
    rows: usize,
}

impl Columns {
    /// Empty columns.
    pub fn new(reader: &Schema, ids: Ids) -> Result<Columns, ColumnsError> {
        let layout = Layout::new(reader.record(), ids)?;
        Ok(Columns {
            stores: layout.stores.clone(),
            layout: Arc::new(layout),
            rows: 0,
        })
    }

    /// The columns' names and types.
    pub fn schema(&self) -> &SchemaRef {
        &self.layout.schema
    }

    /// How to append bodies that `read` reads as the columns' own reader's schema. For these
    /// columns alone; to be kept, as it costs about as much as a thousand rows.
    pub fn program(&self, read: &Read) -> Result<Program, ColumnsError> {
        program::compile(&self.layout, read)
    }

    /// Appends one body as one row. On an error no row, and no part of one, has come.
    ///
    /// # Panics
    /// If the program was made by other columns.
    pub fn append(&mut self, program: &Program, body: &[u8]) -> Result<(), BodyError> {
        assert!(
            Arc::ptr_eq(&self.layout, &program.layout),
            "a program runs on the columns that made it"
        );
        let mut cursor = Cursor::new(body);
        let read = if self.rows < i32::MAX as usize {
            program::run(&mut self.stores, &program.op, &mut cursor)
        } else {
            Err(cursor.fault(Broken::Full))
        };
        match read.and_then(|()| cursor.end()) {
            Ok(()) => {
                self.rows += 1;
                Ok(())
            }
            Err(fault) => {
                self.layout.root.truncate(&mut self.stores, self.rows);
                Err(*fault)
            }
        }
    }

    /// Rows appended since the last [`finish`](Columns::finish).
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Bytes that these rows take in memory. Costs a glance at each column.
    pub fn size(&self) -> usize {
        self.stores.size()
    }

    /// The rows as a batch; the columns are empty then, with room for as much again.
    pub fn finish(&mut self) -> RecordBatch {
        let Node::Struct { fields: nodes, .. } = &self.layout.root else {
            unreachable!("the root is a record")
        };
        let schema = &self.layout.schema;
        let rows = RecordBatchOptions::new().with_row_count(Some(std::mem::take(&mut self.rows)));
        Node::arrays(nodes.iter(), schema.fields(), &mut self.stores)
            .and_then(|arrays| RecordBatch::try_new_with_options(schema.clone(), arrays, &rows))
            .expect("stores and schema come from one layout and grow together")
    }
}

impl std::fmt::Debug for Columns {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Columns({}, {} rows)",
            self.layout.record.name, self.rows
        )
    }
}

impl std::fmt::Debug for Program {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Program(for {})", self.layout.record.name)
    }
}
