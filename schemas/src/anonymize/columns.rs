//! Anonymized columns from columns, for the tables' twins: the columns that
//! [`columns`](crate::columns) would make of the anonymized bodies, made of those that it made of
//! the bodies, with 16-byte IDs as hexadecimal digits ([`Ids::Hex`]).

use std::sync::Arc;

use arrow_array::builder::StringBuilder;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int64Array, ListArray, MapArray, RecordBatch, StringArray,
    StructArray, TimestampMicrosecondArray, new_null_array,
};
use arrow_buffer::BooleanBuffer;
use arrow_schema::{ArrowError, DataType, Field, FieldRef, Fields, Schema as ArrowSchema};
use thiserror::Error;

use super::plan::Plan;
use super::transcode::{Id, floor, least};
use super::{Anonymizer, address};
use crate::columns::{ColumnsError, Ids, arrow_schema_of};
use crate::key::Digits;
use crate::pseudonym::{Kind as IdKind, Salt, hex};
use crate::schema::{Kind, Logical, Record, Type};

/// Columns that are not those of the schema.
#[derive(Debug, Error)]
pub enum Unlike {
    /// A column that is missing or has another type.
    #[error("the column {path} is {found}, expected {expected}")]
    Column {
        /// Which, nested ones with dots.
        path: String,
        /// Its type, or that there is none.
        found: String,
        /// What was expected.
        expected: String,
    },
    /// The anonymized schema cannot be had as columns.
    #[error(transparent)]
    Columns(#[from] ColumnsError),
    /// What the columns say does not fit together.
    #[error(transparent)]
    Arrow(#[from] ArrowError),
}

impl Anonymizer {
    /// The anonymized columns' names and types.
    pub fn arrow_schema(&self) -> Result<ArrowSchema, Unlike> {
        Ok(arrow_schema_of(&self.anonymous, Ids::Hex)?)
    }

    /// When the visit of each row began, in milliseconds since 1970.
    pub fn began_of_rows(&self, batch: &RecordBatch) -> Result<Vec<i64>, Unlike> {
        let name = &self.schema.record().fields[self.began].name;
        let Some(column) = batch.column_by_name(name) else {
            return Err(unlike(name, None, "a timestamp"));
        };
        let times = column.as_primitive_opt::<TimestampMicrosecondType>();
        let times = times.ok_or_else(|| unlike(name, Some(column), "a timestamp(us)"))?;
        Ok(times.values().iter().map(|t| t.div_euclid(1_000)).collect())
    }

    /// The anonymized rows, in the same order; `salts` has one for each. The batch's columns are
    /// found by name, and keep their types where they are kept.
    pub fn rows(&self, batch: &RecordBatch, salts: &[&Salt]) -> Result<RecordBatch, Unlike> {
        let target = self.arrow_schema()?;
        let rows: Vec<u32> = (0..batch.num_rows() as u32).collect();
        let from = Columns {
            salts,
            path: vec![],
        };
        if salts.len() != batch.num_rows() {
            let found = Err(unlike("the salts", None, "one for each row"));
            return found;
        }
        let (fields, arrays) = from.fields(
            self.schema.record(),
            &self.plans,
            batch.schema_ref().fields(),
            batch.columns(),
            target.fields(),
            &rows,
        )?;
        Ok(RecordBatch::try_new(
            Arc::new(ArrowSchema::new(fields)),
            arrays,
        )?)
    }
}

fn unlike(path: &str, found: Option<&ArrayRef>, expected: &str) -> Unlike {
    Unlike::Column {
        path: path.to_owned(),
        found: found.map_or("missing".to_owned(), |a| a.data_type().to_string()),
        expected: expected.to_owned(),
    }
}

struct Columns<'a> {
    salts: &'a [&'a Salt],
    path: Vec<String>,
}

impl Columns<'_> {
    fn unlike(&self, found: Option<&ArrayRef>, expected: &str) -> Unlike {
        unlike(&self.path.join("."), found, expected)
    }

    fn below(&self, name: &str) -> Self {
        let mut path = self.path.clone();
        path.push(name.to_owned());
        Columns {
            salts: self.salts,
            path,
        }
    }

    /// `rows`: for each entry of the arrays the row that it belongs to.
    fn fields(
        &self,
        record: &Record,
        plans: &[Plan],
        have: &Fields,
        arrays: &[ArrayRef],
        target: &Fields,
        rows: &[u32],
    ) -> Result<(Vec<FieldRef>, Vec<ArrayRef>), Unlike> {
        let mut fields = vec![];
        let mut made = vec![];
        for (field, plan) in record.fields.iter().zip(plans) {
            // What has no content has no column.
            let Some((_, want)) = target.find(&field.name).filter(|_| *plan != Plan::Drop) else {
                continue;
            };
            let this = self.below(&field.name);
            let Some((at, _)) = have.find(&field.name) else {
                if !want.is_nullable() {
                    return Err(this.unlike(None, &want.data_type().to_string()));
                }
                // Rows of before there was such a column have nothing there.
                let array = new_null_array(want.data_type(), rows.len());
                fields.push(like(want, &array));
                made.push(array);
                continue;
            };
            let array = this.convert(&field.ty, plan, &arrays[at], want.data_type(), rows)?;
            fields.push(like(want, &array));
            made.push(array);
        }
        Ok((fields, made))
    }

    fn convert(
        &self,
        ty: &Type,
        plan: &Plan,
        array: &ArrayRef,
        want: &DataType,
        rows: &[u32],
    ) -> Result<ArrayRef, Unlike> {
        // A union of null and one type is that type, nullable.
        let (ty, plan) = self.only_branch(ty, plan);
        if *plan == Plan::Keep {
            return Ok(array.clone());
        }
        if want == &DataType::Boolean {
            // Something of which nothing is left but that it is there.
            let there = BooleanBuffer::new_set(array.len());
            return Ok(Arc::new(BooleanArray::new(there, array.nulls().cloned())));
        }
        match (plan, &ty.kind) {
            (Plan::Pseudonym(kind), _) => self.pseudonyms(ty, kind, array, rows),
            (Plan::Hour(units), _) => self.hours(ty, *units, array),
            (Plan::Address(address), _) => {
                let texts = array.as_string_opt::<i32>();
                let texts = texts.ok_or_else(|| self.unlike(Some(array), "Utf8"))?;
                let mut left = vec![];
                let texts = texts.iter().map(|text| {
                    text.map(|text| {
                        left.clear();
                        address::generalize(*address, text.as_bytes(), &mut left);
                        String::from_utf8_lossy(&left).into_owned()
                    })
                });
                Ok(Arc::new(texts.collect::<StringArray>()))
            }
            (Plan::Record(plans), Kind::Record(record)) => {
                let (from, DataType::Struct(want)) = (array.as_struct_opt(), want) else {
                    return Err(self.unlike(Some(array), &want.to_string()));
                };
                let from = from.ok_or_else(|| self.unlike(Some(array), "Struct"))?;
                let (fields, arrays) =
                    self.fields(record, plans, from.fields(), from.columns(), want, rows)?;
                let nulls = array.nulls().cloned();
                let made =
                    StructArray::try_new_with_length(fields.into(), arrays, nulls, array.len())?;
                Ok(Arc::new(made))
            }
            (Plan::Array(plan), Kind::Array(item)) => {
                let (Some(from), DataType::List(want)) = (array.as_list_opt::<i32>(), want) else {
                    return Err(self.unlike(Some(array), &want.to_string()));
                };
                let rows = spread(from.value_offsets(), rows, from.values().len());
                let this = self.below("[]");
                let items = this.convert(item, plan, from.values(), want.data_type(), &rows)?;
                let (offsets, nulls) = (from.offsets().clone(), array.nulls().cloned());
                let made = ListArray::try_new(like(want, &items), offsets, items, nulls)?;
                Ok(Arc::new(made))
            }
            (Plan::Map { keys, value: plan }, Kind::Map(value)) => {
                self.map(keys.as_ref(), value, plan, array, want, rows)
            }
            (Plan::Union(plans), Kind::Union(branches)) => {
                let (from, DataType::Struct(want)) = (array.as_struct_opt(), want) else {
                    return Err(self.unlike(Some(array), &want.to_string()));
                };
                let from = from.ok_or_else(|| self.unlike(Some(array), "Struct"))?;
                let others = branches.iter().zip(plans);
                let others: Vec<_> = others.filter(|(b, _)| b.kind != Kind::Null).collect();
                if from.num_columns() != others.len() || want.len() != others.len() {
                    let expected = format!("a column for each of {} types", others.len());
                    return Err(self.unlike(Some(array), &expected));
                }
                let mut fields = vec![];
                let mut arrays = vec![];
                for (((branch, plan), column), want) in others.iter().zip(from.columns()).zip(want)
                {
                    let this = self.below(want.name());
                    let made = this.convert(branch, plan, column, want.data_type(), rows)?;
                    fields.push(like(want, &made));
                    arrays.push(made);
                }
                let nulls = array.nulls().cloned();
                Ok(Arc::new(StructArray::try_new(
                    fields.into(),
                    arrays,
                    nulls,
                )?))
            }
            _ => Err(self.unlike(Some(array), &want.to_string())),
        }
    }

    fn only_branch<'t>(&self, ty: &'t Type, plan: &'t Plan) -> (&'t Type, &'t Plan) {
        if let (Kind::Union(branches), Plan::Union(plans)) = (&ty.kind, plan) {
            let both = branches.iter().zip(plans);
            let mut others = both.filter(|(branch, _)| branch.kind != Kind::Null);
            if let (Some((branch, plan)), None) = (others.next(), others.next()) {
                return (branch, plan);
            }
        }
        (ty, plan)
    }

    fn map(
        &self,
        keys: Option<&IdKind>,
        value: &Type,
        plan: &Plan,
        array: &ArrayRef,
        want: &DataType,
        rows: &[u32],
    ) -> Result<ArrayRef, Unlike> {
        let (Some(from), DataType::Map(entry, _)) = (array.as_map_opt(), want) else {
            return Err(self.unlike(Some(array), &want.to_string()));
        };
        let DataType::Struct(wanted) = entry.data_type() else {
            return Err(self.unlike(Some(array), &want.to_string()));
        };
        let rows = spread(from.value_offsets(), rows, from.entries().len());
        let this = self.below("{}");
        let text = Type {
            kind: Kind::String,
            logical: None,
        };
        let names = match keys {
            Some(kind) => this.pseudonyms(&text, kind, from.keys(), &rows)?,
            None => from.keys().clone(),
        };
        let values = this.convert(value, plan, from.values(), wanted[1].data_type(), &rows)?;
        let fields: Fields = vec![like(&wanted[0], &names), like(&wanted[1], &values)].into();
        let entries = StructArray::try_new(fields, vec![names, values], None)?;
        let entry = Field::new(entry.name(), entries.data_type().clone(), false);
        let (offsets, nulls) = (from.offsets().clone(), array.nulls().cloned());
        let made = MapArray::try_new(Arc::new(entry), offsets, entries, nulls, false)?;
        Ok(Arc::new(made))
    }

    fn pseudonyms(
        &self,
        ty: &Type,
        kind: &IdKind,
        array: &ArrayRef,
        rows: &[u32],
    ) -> Result<ArrayRef, Unlike> {
        let mut scratch = vec![];
        let mut digits = Digits::default();
        let mut made = StringBuilder::with_capacity(array.len(), 32 * array.len());
        // The types are told apart once a value: next to its HMAC that costs nothing.
        for (at, row) in rows.iter().enumerate() {
            if array.is_null(at) {
                made.append_null();
                continue;
            }
            let fixed = matches!(&ty.kind, Kind::Fixed(fixed) if fixed.size == 16);
            let id = match (&ty.kind, array.data_type()) {
                (Kind::Fixed(_), DataType::Utf8) if fixed => {
                    let text = array.as_string::<i32>().value(at);
                    if text.is_empty() {
                        // What lies in a record that is null, which the records in it need not be.
                        made.append_value("");
                        continue;
                    }
                    if !unhex(text, &mut scratch) {
                        let expected = "32 hexadecimal digits in each row";
                        return Err(self.unlike(Some(array), expected));
                    }
                    Id::Bytes(&scratch)
                }
                (Kind::String, DataType::Utf8) => {
                    Id::Text(array.as_string::<i32>().value(at).as_bytes())
                }
                (Kind::Bytes | Kind::Fixed(_), DataType::Binary) => {
                    Id::Bytes(array.as_binary::<i32>().value(at))
                }
                (Kind::Fixed(_), DataType::FixedSizeBinary(_)) => {
                    Id::Bytes(array.as_fixed_size_binary().value(at))
                }
                (Kind::Int, DataType::Int32) => {
                    Id::Long(array.as_primitive::<Int32Type>().value(at).into())
                }
                (Kind::Long, DataType::Int64) => {
                    Id::Long(array.as_primitive::<Int64Type>().value(at))
                }
                _ => return Err(self.unlike(Some(array), &ty.to_string())),
            };
            let salt = self.salts[*row as usize];
            let pseudonym = hex(id.pseudonym(salt, kind, &mut digits));
            // Digits are text.
            made.append_value(std::str::from_utf8(&pseudonym).unwrap_or_default());
        }
        Ok(Arc::new(made.finish()))
    }

    fn hours(&self, ty: &Type, units: i64, array: &ArrayRef) -> Result<ArrayRef, Unlike> {
        // Columns have times in microseconds, but for the plain number that a role makes a time.
        let least = least(ty);
        let (units, least) = match ty.logical {
            Some(Logical::TimestampNanos | Logical::LocalTimestampNanos) => {
                (units / 1_000, least.div_euclid(1_000))
            }
            Some(
                Logical::TimeMillis | Logical::TimestampMillis | Logical::LocalTimestampMillis,
            ) => (units * 1_000, least * 1_000),
            _ => (units, least),
        };
        match array.data_type() {
            DataType::Int64 => {
                let made: Int64Array = array
                    .as_primitive::<Int64Type>()
                    .unary(|time| floor(time, units, least));
                Ok(Arc::new(made))
            }
            DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, zone) => {
                let times = array.as_primitive::<TimestampMicrosecondType>();
                let made: TimestampMicrosecondArray = times.unary(|time| floor(time, units, least));
                Ok(Arc::new(made.with_timezone_opt(zone.clone())))
            }
            _ => Err(self.unlike(Some(array), "a time in microseconds")),
        }
    }
}

/// The field, with the type that its array has: what is kept comes as its file has it.
fn like(want: &FieldRef, array: &ArrayRef) -> FieldRef {
    let field = want.as_ref().clone();
    Arc::new(field.with_data_type(array.data_type().clone()))
}

/// For each item of lists the row that it belongs to.
fn spread(offsets: &[i32], rows: &[u32], items: usize) -> Vec<u32> {
    let mut spread = vec![0; items];
    for (range, row) in offsets.windows(2).zip(rows) {
        spread[range[0] as usize..range[1] as usize].fill(*row);
    }
    spread
}

/// The 16 bytes of 32 hexadecimal digits, between which there may be the hyphens of a UUID.
fn unhex(text: &str, out: &mut Vec<u8>) -> bool {
    out.clear();
    let mut high = None;
    for byte in text.bytes().filter(|b| *b != b'-') {
        let Some(digit) = (byte as char).to_digit(16) else {
            return false;
        };
        match high.take() {
            None => high = Some(digit),
            Some(high) => out.push((high << 4 | digit) as u8),
        }
    }
    high.is_none() && out.len() == 16
}
