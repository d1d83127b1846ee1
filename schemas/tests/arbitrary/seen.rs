//! Arrow's arrays read cell by cell, so that what lies under a null is not compared.

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Float32Type, Float64Type, Int32Type, Int64Type,
    TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, TimeUnit};

/// What a cell holds, and as what.
#[derive(Clone, Debug, PartialEq)]
pub enum Seen {
    Null,
    Boolean(bool),
    Int(i32),
    Long(i64),
    Float(u32),
    Double(u64),
    Text(String),
    Bytes(Vec<u8>),
    Fixed(Vec<u8>),
    Symbol(String),
    Date(i32),
    Utc(i64),
    Local(i64),
    Decimal(i128, u8, i8),
    List(Vec<Seen>),
    Map(Vec<(String, Seen)>),
    Struct(Vec<(String, Seen)>),
}

/// What an array holds in a row.
pub fn cell(array: &dyn Array, row: usize) -> Seen {
    if array.is_null(row) {
        return Seen::Null;
    }
    match array.data_type() {
        DataType::Boolean => Seen::Boolean(array.as_boolean().value(row)),
        DataType::Int32 => Seen::Int(array.as_primitive::<Int32Type>().value(row)),
        DataType::Int64 => Seen::Long(array.as_primitive::<Int64Type>().value(row)),
        DataType::Float32 => Seen::Float(array.as_primitive::<Float32Type>().value(row).to_bits()),
        DataType::Float64 => Seen::Double(array.as_primitive::<Float64Type>().value(row).to_bits()),
        DataType::Utf8 => Seen::Text(array.as_string::<i32>().value(row).to_owned()),
        DataType::Binary => Seen::Bytes(array.as_binary::<i32>().value(row).to_vec()),
        DataType::FixedSizeBinary(_) => {
            Seen::Fixed(array.as_fixed_size_binary().value(row).to_vec())
        }
        DataType::Dictionary(..) => {
            let symbols = array.as_dictionary::<Int32Type>();
            let index = symbols.keys().value(row) as usize;
            Seen::Symbol(symbols.values().as_string::<i32>().value(index).to_owned())
        }
        DataType::Date32 => Seen::Date(array.as_primitive::<Date32Type>().value(row)),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => {
            let time = array.as_primitive::<TimestampMicrosecondType>().value(row);
            match zone.as_deref() {
                Some("UTC") => Seen::Utc(time),
                None => Seen::Local(time),
                other => panic!("{other:?}"),
            }
        }
        DataType::Decimal128(precision, scale) => {
            let value = array.as_primitive::<Decimal128Type>().value(row);
            Seen::Decimal(value, *precision, *scale)
        }
        DataType::List(_) => {
            let items = array.as_list::<i32>().value(row);
            Seen::List((0..items.len()).map(|i| cell(&items, i)).collect())
        }
        DataType::Map(..) => {
            let entries = array.as_map().value(row);
            let (keys, values) = (entries.column(0).as_string::<i32>(), entries.column(1));
            let entry = |i| (keys.value(i).to_owned(), cell(values, i));
            Seen::Map((0..entries.len()).map(entry).collect())
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let fields = fields.iter().zip(array.columns());
            Seen::Struct(
                fields
                    .map(|(f, a)| (f.name().clone(), cell(a, row)))
                    .collect(),
            )
        }
        other => panic!("{other} is no column of ours"),
    }
}

/// What a batch holds.
pub fn rows(batch: &RecordBatch) -> Vec<Seen> {
    let schema = batch.schema();
    let row = |row| {
        let columns = schema.fields().iter().zip(batch.columns());
        let cells = columns.map(|(f, a)| (f.name().clone(), cell(a, row)));
        Seen::Struct(cells.collect())
    };
    (0..batch.num_rows()).map(row).collect()
}
