//! Rows as JSON lines, for people and for `show`. Written by hand and not with arrow-json, which knows neither this
//! form of times nor exact decimals, and brings five more crates.

use arrow_array::cast::AsArray;
use arrow_array::types::*;
use arrow_array::{Array, ArrowPrimitiveType, OffsetSizeTrait, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use std::fmt::Display;
use std::io::{self, Write};

/// Writes the value of one row of a column, or of what lies in one. Built once a batch, so that types are looked at
/// once and not for every value.
type Cells<'a> = Box<dyn Fn(usize, &mut Vec<u8>) + 'a>;

/// Writes each row as one JSON object and a line end, fields in the batch's order, nulls too. Instants are RFC 3339 in
/// UTC with milliseconds (six digits where there are microseconds), dates `2026-01-31`, bytes lower-case hex, decimals
/// numbers with all their digits, numbers that JSON cannot say the strings "NaN", "Infinity", "-Infinity"; structs and
/// maps are objects, lists arrays, dictionaries their values.
///
/// # Errors
/// What `out` says; `InvalidInput` for a column of a type that no table of ours can have (unions, run-length, …).
pub fn to_json_lines(batch: &RecordBatch, out: &mut impl Write) -> io::Result<()> {
    let mut columns = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
        columns.push((key(field.name()), cells(array.as_ref())?));
    }
    let mut line = Vec::new();
    for row in 0..batch.num_rows() {
        object(&columns, row, &mut line);
        line.push(b'\n');
        if line.len() > 1 << 16 {
            out.write_all(&line)?;
            line.clear();
        }
    }
    out.write_all(&line)
}

fn key(name: &str) -> Vec<u8> {
    let mut key = Vec::new();
    string(name, &mut key);
    key.push(b':');
    key
}

fn object(columns: &[(Vec<u8>, Cells)], row: usize, out: &mut Vec<u8>) {
    out.push(b'{');
    for (i, (key, cells)) in columns.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(key);
        cells(row, out);
    }
    out.push(b'}');
}

fn string(text: &str, out: &mut Vec<u8>) {
    // Writing a str into a Vec cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn text(value: impl Display, out: &mut Vec<u8>) {
    let _ = write!(out, "{value}");
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for byte in bytes {
        out.extend([
            DIGITS[usize::from(byte >> 4)],
            DIGITS[usize::from(byte & 15)],
        ]);
    }
    out.push(b'"');
}

fn float(value: f64, shortest: impl Display, out: &mut Vec<u8>) {
    if value.is_finite() {
        text(shortest, out);
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else {
        text(
            if value > 0.0 {
                "\"Infinity\""
            } else {
                "\"-Infinity\""
            },
            out,
        );
    }
}

/// Year, month and day of a day since 1970-01-01, for every i64 that a millisecond can name
/// (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
fn civil(day: i64) -> (i64, i64, i64) {
    let day = day + 719_468;
    let (era, of_era) = (day.div_euclid(146_097), day.rem_euclid(146_097));
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let d = of_year - (153 * month + 2) / 5 + 1;
    let m = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(m <= 2), m, d)
}

/// `2026-01-31`.
pub(super) fn date(day: i64) -> String {
    let (y, m, d) = civil(day);
    format!("{y:04}-{m:02}-{d:02}")
}

/// `2026-01-31T12:00:00.000Z`, with six digits if microseconds are left.
pub(super) fn instant(ms: i64, us: i64) -> String {
    let (day, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    let (s, ms) = (in_day / 1000, in_day % 1000);
    let micros = if us == 0 {
        String::new()
    } else {
        format!("{us:03}")
    };
    format!(
        "{}T{:02}:{:02}:{:02}.{ms:03}{micros}Z",
        date(day),
        s / 3600,
        s / 60 % 60,
        s % 60
    )
}

/// The digits of `value` / 10^`scale`, all of them.
pub(super) fn decimal(value: i128, scale: i8) -> String {
    let digits = value.unsigned_abs().to_string();
    let sign = if value < 0 { "-" } else { "" };
    let scale = usize::from(scale.max(0).unsigned_abs());
    if scale == 0 {
        return format!("{sign}{digits}");
    }
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

fn primitive<'a, T: ArrowPrimitiveType>(
    array: &'a dyn Array,
    write: impl Fn(T::Native, &mut Vec<u8>) + 'a,
) -> Cells<'a> {
    let array = array.as_primitive::<T>();
    Box::new(move |row, out| write(array.value(row), out))
}

fn listed<'a, O: OffsetSizeTrait>(array: &'a dyn Array) -> io::Result<Cells<'a>> {
    let array = array.as_list::<O>();
    let items = cells(array.values().as_ref())?;
    Ok(Box::new(move |row, out| {
        let (from, to) = (
            array.value_offsets()[row].as_usize(),
            array.value_offsets()[row + 1].as_usize(),
        );
        out.push(b'[');
        for i in from..to {
            if i > from {
                out.push(b',');
            }
            items(i, out);
        }
        out.push(b']');
    }))
}

fn keys<'a, K: ArrowDictionaryKeyType>(array: &'a dyn Array) -> io::Result<Cells<'a>> {
    let array = array.as_dictionary::<K>();
    let values = cells(array.values().as_ref())?;
    Ok(Box::new(move |row, out| match array.key(row) {
        Some(key) => values(key, out),
        None => out.extend_from_slice(b"null"),
    }))
}

fn cells(array: &dyn Array) -> io::Result<Cells<'_>> {
    let write = of_type(array)?;
    Ok(match array.nulls() {
        None => write,
        Some(nulls) => Box::new(move |row, out| {
            if nulls.is_null(row) {
                out.extend_from_slice(b"null")
            } else {
                write(row, out)
            }
        }),
    })
}

fn of_type(array: &dyn Array) -> io::Result<Cells<'_>> {
    Ok(match array.data_type() {
        DataType::Null => Box::new(|_, out| out.extend_from_slice(b"null")),
        DataType::Boolean => {
            let array = array.as_boolean();
            Box::new(move |row, out| text(array.value(row), out))
        }
        DataType::Int8 => primitive::<Int8Type>(array, text),
        DataType::Int16 => primitive::<Int16Type>(array, text),
        DataType::Int32 => primitive::<Int32Type>(array, text),
        DataType::Int64 => primitive::<Int64Type>(array, text),
        DataType::UInt8 => primitive::<UInt8Type>(array, text),
        DataType::UInt16 => primitive::<UInt16Type>(array, text),
        DataType::UInt32 => primitive::<UInt32Type>(array, text),
        DataType::UInt64 => primitive::<UInt64Type>(array, text),
        DataType::Float32 => primitive::<Float32Type>(array, |v, out| float(v.into(), v, out)),
        DataType::Float64 => primitive::<Float64Type>(array, |v, out| float(v, v, out)),
        DataType::Decimal128(_, scale) => {
            let scale = *scale;
            primitive::<Decimal128Type>(array, move |v, out| text(decimal(v, scale), out))
        }
        DataType::Date32 => primitive::<Date32Type>(array, |v, out| {
            text(format_args!("\"{}\"", date(v.into())), out)
        }),
        DataType::Timestamp(TimeUnit::Second, _) => {
            primitive::<TimestampSecondType>(array, |v, out| {
                text(
                    format_args!("\"{}\"", instant(v.saturating_mul(1000), 0)),
                    out,
                )
            })
        }
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            primitive::<TimestampMillisecondType>(array, |v, out| {
                text(format_args!("\"{}\"", instant(v, 0)), out)
            })
        }
        DataType::Timestamp(TimeUnit::Microsecond, _) => {
            primitive::<TimestampMicrosecondType>(array, |v, out| {
                text(
                    format_args!("\"{}\"", instant(v.div_euclid(1000), v.rem_euclid(1000))),
                    out,
                );
            })
        }
        DataType::Timestamp(TimeUnit::Nanosecond, _) => {
            primitive::<TimestampNanosecondType>(array, |v, out| {
                text(
                    format_args!(
                        "\"{}\"",
                        instant(v.div_euclid(1_000_000), v.rem_euclid(1_000_000) / 1000)
                    ),
                    out,
                );
            })
        }
        DataType::Utf8 => {
            let array = array.as_string::<i32>();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::LargeUtf8 => {
            let array = array.as_string::<i64>();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::Utf8View => {
            let array = array.as_string_view();
            Box::new(move |row, out| string(array.value(row), out))
        }
        DataType::Binary => {
            let array = array.as_binary::<i32>();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::LargeBinary => {
            let array = array.as_binary::<i64>();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::BinaryView => {
            let array = array.as_binary_view();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::FixedSizeBinary(_) => {
            let array = array.as_fixed_size_binary();
            Box::new(move |row, out| hex(array.value(row), out))
        }
        DataType::Struct(fields) => {
            let array = array.as_struct();
            let mut columns = Vec::with_capacity(fields.len());
            for (field, column) in fields.iter().zip(array.columns()) {
                columns.push((key(field.name()), cells(column.as_ref())?));
            }
            Box::new(move |row, out| object(&columns, row, out))
        }
        DataType::List(_) => listed::<i32>(array)?,
        DataType::LargeList(_) => listed::<i64>(array)?,
        DataType::Map(..) => {
            let array = array.as_map();
            let (keys, values) = (
                cells(array.keys().as_ref())?,
                cells(array.values().as_ref())?,
            );
            Box::new(move |row, out| {
                let (from, to) = (
                    array.value_offsets()[row] as usize,
                    array.value_offsets()[row + 1] as usize,
                );
                out.push(b'{');
                let mut key = Vec::new();
                for i in from..to {
                    if i > from {
                        out.push(b',');
                    }
                    key.clear();
                    keys(i, &mut key);
                    match key.first() {
                        Some(b'"') => out.extend_from_slice(&key),
                        // Names in JSON are strings: a key that is something else goes in as its own JSON text.
                        _ => string(&String::from_utf8_lossy(&key), out),
                    }
                    out.push(b':');
                    values(i, out);
                }
                out.push(b'}');
            })
        }
        DataType::Dictionary(key, _) => match **key {
            DataType::Int8 => keys::<Int8Type>(array)?,
            DataType::Int16 => keys::<Int16Type>(array)?,
            DataType::Int32 => keys::<Int32Type>(array)?,
            DataType::Int64 => keys::<Int64Type>(array)?,
            DataType::UInt8 => keys::<UInt8Type>(array)?,
            DataType::UInt16 => keys::<UInt16Type>(array)?,
            DataType::UInt32 => keys::<UInt32Type>(array)?,
            _ => keys::<UInt64Type>(array)?,
        },
        other => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("columns of type {other} cannot be written as JSON"),
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::*;
    use proptest::prelude::*;
    use std::sync::Arc;

    fn of(array: impl Array + 'static) -> Vec<String> {
        let batch =
            RecordBatch::try_from_iter_with_nullable([("x", Arc::new(array) as ArrayRef, true)])
                .unwrap();
        let mut out = Vec::new();
        to_json_lines(&batch, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        text.lines()
            .map(|l| {
                l.strip_prefix("{\"x\":")
                    .unwrap()
                    .strip_suffix('}')
                    .unwrap()
                    .to_owned()
            })
            .collect()
    }

    #[test]
    fn each_type_has_one_form() {
        assert_eq!(
            of(Int64Array::from(vec![Some(i64::MIN), None])),
            ["-9223372036854775808", "null"]
        );
        assert_eq!(
            of(UInt64Array::from(vec![u64::MAX])),
            ["18446744073709551615"]
        );
        assert_eq!(
            of(Float64Array::from(vec![
                0.1,
                f64::NAN,
                f64::INFINITY,
                f64::NEG_INFINITY
            ])),
            ["0.1", "\"NaN\"", "\"Infinity\"", "\"-Infinity\""]
        );
        assert_eq!(of(Float32Array::from(vec![0.1])), ["0.1"]);
        assert_eq!(
            of(StringArray::from(vec!["a\"\n\u{1}ä"])),
            ["\"a\\\"\\n\\u0001ä\""]
        );
        assert_eq!(
            of(BinaryArray::from(vec![&[0u8, 0xab][..], &[]])),
            ["\"00ab\"", "\"\""]
        );
        assert_eq!(
            of(FixedSizeBinaryArray::try_from_iter([[0xfeu8, 1]].iter()).unwrap()),
            ["\"fe01\""]
        );
        assert_eq!(of(BooleanArray::from(vec![true])), ["true"]);
        assert_eq!(
            of(Date32Array::from(vec![-1, 20_484])),
            ["\"1969-12-31\"", "\"2026-01-31\""]
        );
        let decimals = Decimal128Array::from(vec![-5, 12_345, 0])
            .with_precision_and_scale(10, 2)
            .unwrap();
        assert_eq!(of(decimals), ["-0.05", "123.45", "0.00"]);
        let instants =
            TimestampMillisecondArray::from(vec![0, -1, 1_767_225_600_123]).with_timezone("UTC");
        assert_eq!(
            of(instants),
            [
                "\"1970-01-01T00:00:00.000Z\"",
                "\"1969-12-31T23:59:59.999Z\"",
                "\"2026-01-01T00:00:00.123Z\""
            ]
        );
        assert_eq!(
            of(TimestampMicrosecondArray::from(vec![1_000, 1_001])),
            [
                "\"1970-01-01T00:00:00.001Z\"",
                "\"1970-01-01T00:00:00.001001Z\""
            ]
        );
        let words: DictionaryArray<Int32Type> = [Some("b"), None, Some("b")].into_iter().collect();
        assert_eq!(of(words), ["\"b\"", "null", "\"b\""]);
        let lists = ListArray::from_iter_primitive::<Int32Type, _, _>([
            Some(vec![Some(1), None]),
            None,
            Some(vec![]),
        ]);
        assert_eq!(of(lists), ["[1,null]", "null", "[]"]);
        assert_eq!(of(NullArray::new(1)), ["null"]);
        let slice = StringArray::from(vec!["a", "b", "c"]).slice(1, 2);
        assert_eq!(of(slice), ["\"b\"", "\"c\""]);
    }

    #[test]
    fn keys_of_maps_that_are_no_strings_become_strings() {
        let mut maps = builder::MapBuilder::new(
            None,
            builder::Int32Builder::new(),
            builder::StringBuilder::new(),
        );
        maps.keys().append_value(7);
        maps.values().append_value("x");
        maps.append(true).unwrap();
        assert_eq!(of(maps.finish()), ["{\"7\":\"x\"}"]);
    }

    #[test]
    fn a_type_that_no_table_has_is_an_error() {
        let batch = RecordBatch::try_from_iter([(
            "x",
            Arc::new(Time32SecondArray::from(vec![1])) as ArrayRef,
        )])
        .unwrap();
        assert_eq!(
            to_json_lines(&batch, &mut Vec::new()).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    proptest! {
        #[test]
        fn instants_are_those_of_the_calendar(ms in -377_705_023_200_000i64..253_402_207_200_000) {
            let parsed: jiff::Timestamp = instant(ms.max(-62_135_596_800_000), 0).parse().unwrap();
            prop_assert_eq!(parsed.as_millisecond(), ms.max(-62_135_596_800_000));
        }

        #[test]
        fn no_instant_overflows(ms in any::<i64>(), us in 0..1000i64) {
            instant(ms, us);
        }
    }
}
