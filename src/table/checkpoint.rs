//! Checkpoints: a version's whole state as one Parquet file, so that opening a table does not read its whole history.
//! They are for all readers; nothing is lost when one cannot be written.

use super::log::{AddFile, Line, Remove, State};
use super::{TableError, disk, json, read};
use arrow_array::builder::{ListBuilder, MapBuilder, MapFieldNames, StringBuilder};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
};
use arrow_buffer::NullBuffer;
use arrow_schema::Field;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

/// Delta's default: after a week no reader may still count on a removed file.
const KEEP_REMOVED_MS: i64 = 7 * 24 * 60 * 60 * 1000;

/// Keeps a batch's strings far below the 2 GiB that one array can hold.
const ROWS_A_BATCH: usize = 8192;

enum Row<'a> {
    Protocol,
    Metadata,
    Txn(&'a super::log::Txn),
    Add(&'a AddFile),
    Remove(&'a Remove),
}

/// Writes the checkpoint of `state`. About 1 microsecond and 100 bytes a live file.
pub(super) fn write(log: &Path, state: &State) -> Result<(), TableError> {
    // The owner may want removed files kept for longer; reading intervals in words is not worth leaving any out.
    let keep_all = state
        .configured("delta.deletedFileRetentionDuration")
        .is_some();
    let since = disk::now().saturating_sub(KEEP_REMOVED_MS);
    let mut rows = vec![Row::Protocol, Row::Metadata];
    rows.extend(state.txns.values().map(Row::Txn));
    rows.extend(state.files.values().map(Row::Add));
    let kept = |r: &&Remove| keep_all || r.deletion_timestamp.is_some_and(|t| t >= since);
    rows.extend(state.removed.values().filter(kept).map(Row::Remove));

    let name = format!("{:020}.checkpoint.parquet", state.version);
    let path = log.join(&name);
    let data = |e: &dyn std::fmt::Display| TableError::Garbled {
        file: path.clone(),
        line: 0,
        problem: format!("cannot be made: {e}"),
    };
    let level = ZstdLevel::try_new(1).map_err(|e| data(&e))?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_coerce_types(true)
        .build();
    let schema = batch(state, &[]).map_err(|e| data(&e))?.schema();
    let mut writer =
        ArrowWriter::try_new(Vec::new(), schema, Some(properties)).map_err(|e| data(&e))?;
    for part in rows.chunks(ROWS_A_BATCH) {
        writer
            .write(&batch(state, part).map_err(|e| data(&e))?)
            .map_err(|e| data(&e))?;
    }
    let bytes = writer.into_inner().map_err(|e| data(&e))?;
    let last = serde_json::json!({"version": state.version, "size": rows.len(), "sizeInBytes": bytes.len(), "numOfAddFiles": state.files.len()});
    // Two may checkpoint the same version; both files say the same.
    disk::put(log, &name, &bytes)?;
    disk::put(log, "_last_checkpoint", last.to_string().as_bytes())
}

type Map = BTreeMap<String, Option<String>>;

fn maps<'a>(
    values: impl Iterator<Item = Option<&'a Map>>,
) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let names = MapFieldNames {
        entry: "key_value".into(),
        key: "key".into(),
        value: "value".into(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for map in values {
        for (key, value) in map.into_iter().flatten() {
            maps.keys().append_value(key);
            maps.values().append_option(value.as_deref());
        }
        maps.append(map.is_some())?;
    }
    Ok(Arc::new(maps.finish()))
}

fn strings<'a>(values: impl Iterator<Item = Option<&'a str>>) -> ArrayRef {
    Arc::new(values.collect::<StringArray>())
}

fn longs(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<Int64Array>())
}

fn group(
    present: Vec<bool>,
    columns: Vec<(&str, ArrayRef)>,
) -> Result<ArrayRef, arrow_schema::ArrowError> {
    let fields: Vec<Field> = columns
        .iter()
        .map(|(name, a)| Field::new(*name, a.data_type().clone(), true))
        .collect();
    let arrays = columns.into_iter().map(|(_, a)| a).collect();
    Ok(Arc::new(StructArray::try_new(
        fields.into(),
        arrays,
        Some(NullBuffer::from(present)),
    )?))
}

fn batch(state: &State, rows: &[Row]) -> Result<RecordBatch, arrow_schema::ArrowError> {
    let none = Map::new();
    let protocols = || {
        rows.iter()
            .map(|r| matches!(r, Row::Protocol).then_some(&state.protocol))
    };
    let metadata = || {
        rows.iter()
            .map(|r| matches!(r, Row::Metadata).then_some(&state.metadata))
    };
    let txns = || {
        rows.iter()
            .map(|r| if let Row::Txn(t) = r { Some(*t) } else { None })
    };
    let adds = || {
        rows.iter()
            .map(|r| if let Row::Add(f) = r { Some(*f) } else { None })
    };
    let removes = || {
        rows.iter().map(|r| {
            if let Row::Remove(f) = r {
                Some(*f)
            } else {
                None
            }
        })
    };

    let protocol = group(
        protocols().map(|p| p.is_some()).collect(),
        vec![
            (
                "minReaderVersion",
                Arc::new(
                    protocols()
                        .map(|p| p.map(|p| p.min_reader_version))
                        .collect::<Int32Array>(),
                ) as ArrayRef,
            ),
            (
                "minWriterVersion",
                Arc::new(
                    protocols()
                        .map(|p| p.map(|p| p.min_writer_version))
                        .collect::<Int32Array>(),
                ),
            ),
        ],
    )?;
    let format = group(
        metadata().map(|m| m.is_some()).collect(),
        vec![
            (
                "provider",
                strings(metadata().map(|m| m.map(|m| m.format.provider.as_str()))),
            ),
            (
                "options",
                maps(metadata().map(|m| m.map(|m| m.format.options.as_ref().unwrap_or(&none))))?,
            ),
        ],
    )?;
    let mut partition_columns = ListBuilder::new(StringBuilder::new()).with_field(Field::new(
        "element",
        arrow_schema::DataType::Utf8,
        true,
    ));
    metadata().for_each(|m| partition_columns.append(m.is_some()));
    let metadata_group = group(
        metadata().map(|m| m.is_some()).collect(),
        vec![
            ("id", strings(metadata().map(|m| m.map(|m| m.id.as_str())))),
            (
                "name",
                strings(metadata().map(|m| m.and_then(|m| m.name.as_deref()))),
            ),
            (
                "description",
                strings(metadata().map(|m| m.and_then(|m| m.description.as_deref()))),
            ),
            ("format", format),
            (
                "schemaString",
                strings(metadata().map(|m| m.map(|m| m.schema_string.as_str()))),
            ),
            ("partitionColumns", Arc::new(partition_columns.finish())),
            (
                "configuration",
                maps(metadata().map(|m| m.map(|m| m.configuration.as_ref().unwrap_or(&none))))?,
            ),
            (
                "createdTime",
                longs(metadata().map(|m| m.and_then(|m| m.created_time))),
            ),
        ],
    )?;
    let txn = group(
        txns().map(|t| t.is_some()).collect(),
        vec![
            (
                "appId",
                strings(txns().map(|t| t.map(|t| t.app_id.as_str()))),
            ),
            ("version", longs(txns().map(|t| t.map(|t| t.version)))),
            (
                "lastUpdated",
                longs(txns().map(|t| t.and_then(|t| t.last_updated))),
            ),
        ],
    )?;
    let add = group(
        adds().map(|f| f.is_some()).collect(),
        vec![
            ("path", strings(adds().map(|f| f.map(|f| f.path.as_str())))),
            ("partitionValues", maps(adds().map(|f| f.map(|_| &none)))?),
            (
                "size",
                longs(adds().map(|f| f.and_then(|f| i64::try_from(f.size).ok()))),
            ),
            (
                "modificationTime",
                longs(adds().map(|f| f.map(|f| f.modification_time))),
            ),
            // The format's rule for checkpoints, whatever the version said: they change no data.
            (
                "dataChange",
                Arc::new(adds().map(|f| f.map(|_| false)).collect::<BooleanArray>()),
            ),
            (
                "stats",
                strings(adds().map(|f| f.and_then(|f| f.stats.as_deref()))),
            ),
            (
                "tags",
                maps(adds().map(|f| f.and_then(|f| f.tags.as_ref())))?,
            ),
        ],
    )?;
    let remove = group(
        removes().map(|f| f.is_some()).collect(),
        vec![
            (
                "path",
                strings(removes().map(|f| f.map(|f| f.path.as_str()))),
            ),
            (
                "deletionTimestamp",
                longs(removes().map(|f| f.and_then(|f| f.deletion_timestamp))),
            ),
            (
                "dataChange",
                Arc::new(
                    removes()
                        .map(|f| f.map(|_| false))
                        .collect::<BooleanArray>(),
                ),
            ),
            (
                "extendedFileMetadata",
                Arc::new(removes().map(|f| f.map(|_| true)).collect::<BooleanArray>()),
            ),
            (
                "partitionValues",
                maps(removes().map(|f| f.map(|_| &none)))?,
            ),
            ("size", longs(removes().map(|f| f.and_then(|f| f.size)))),
        ],
    )?;
    RecordBatch::try_from_iter_with_nullable([
        ("protocol", protocol, true),
        ("metaData", metadata_group, true),
        ("txn", txn, true),
        ("add", add, true),
        ("remove", remove, true),
    ])
}

/// Reads a checkpoint, anybody's, row by row: each row is a line of the log, once written as JSON.
pub(super) fn read(
    path: &Path,
    mut each: impl FnMut(Line, usize) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let garbled = |line: usize, problem: String| TableError::Garbled {
        file: path.to_owned(),
        line,
        problem,
    };
    let mut row = 0;
    for batch in read::open(path).map_err(|problem| garbled(0, problem))? {
        let batch = batch.map_err(|problem| garbled(0, problem))?;
        let mut lines = Vec::new();
        json::to_json_lines(&batch, &mut lines).map_err(|e| garbled(row, e.to_string()))?;
        for line in lines.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            row += 1;
            let line = serde_json::from_slice(line)
                .map_err(|e| garbled(row, format!("expected one action of a Delta table: {e}")))?;
            each(line, row)?;
        }
    }
    Ok(())
}
