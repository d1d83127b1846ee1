//! What tables promise, seen from outside: versions are whole, one writer wins, damage is named, and other programs
//! read the same rows as we do.

use arrow_array::builder::{
    Float32Builder, Int64Builder, ListBuilder, MapBuilder, MapFieldNames, StringBuilder,
    StructBuilder,
};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, FixedSizeBinaryArray,
    Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, StructArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Barrier, LazyLock};
use visitflow::table::{
    AddFile, Options, Table, TableError, TableWriter, read_file, to_json_lines,
};

fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let values: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_from_iter([("n", values)]).unwrap()
}

fn file(dir: &Path, batch: &RecordBatch) -> AddFile {
    let mut writer = TableWriter::new(dir, "w0", batch.schema(), &Options::default()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap()
}

fn sum(rows: visitflow::table::Rows) -> i64 {
    use arrow_array::cast::AsArray;
    let of = |batch: &RecordBatch| {
        batch
            .column(0)
            .as_primitive::<arrow_array::types::Int64Type>()
            .iter()
            .flatten()
            .sum::<i64>()
    };
    rows.map(|batch| of(&batch.unwrap())).sum()
}

fn version_file(dir: &Path, version: u64) -> PathBuf {
    dir.join("_delta_log").join(format!("{version:020}.json"))
}

/// A table with version 0 and one file in each of the `appends` versions after it, of ticks 10, 20, …
fn table(appends: u64) -> (tempfile::TempDir, Table) {
    let dir = tempfile::tempdir().unwrap();
    let mut table = Table::create(
        dir.path(),
        &numbers([]).schema(),
        &[("visitflow.tick_ms", "100")],
    )
    .unwrap();
    for i in 1..=appends {
        let file = file(dir.path(), &numbers([i as i64]));
        assert_eq!(table.append(&[file], i * 10).unwrap(), i);
    }
    (dir, table)
}

fn visible(dir: &Path) -> BTreeSet<String> {
    let names = fs::read_dir(dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != "_delta_log").collect()
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Replace(Vec<prop::sample::Index>, usize),
    Reopen,
    /// Somebody else's version that changes no row.
    Maintenance,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0..3usize).prop_map(Step::Append),
        2 => (prop::collection::vec(any::<prop::sample::Index>(), 0..3), 0..2usize).prop_map(|(gone, new)| Step::Replace(gone, new)),
        1 => Just(Step::Reopen),
        1 => Just(Step::Maintenance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn any_sequence_of_steps_leaves_what_a_list_of_sets_would(steps in prop::collection::vec(step(), 1..25)) {
        let (dir, mut table) = table(0);
        let mut versions: Vec<(BTreeSet<String>, Option<u64>)> = vec![(BTreeSet::new(), None)];
        for (i, step) in steps.into_iter().enumerate() {
            let tick = i as u64 * 7;
            let (mut live, last) = versions.last().unwrap().clone();
            let make = |count| (0..count).map(|_| file(dir.path(), &numbers([1]))).collect::<Vec<_>>();
            match step {
                Step::Append(count) => {
                    let files = make(count);
                    prop_assert_eq!(table.append(&files, tick).unwrap(), versions.len() as u64);
                    live.extend(files.into_iter().map(|f| f.path));
                    versions.push((live, Some(tick)));
                }
                Step::Replace(gone, count) => {
                    let files = make(count);
                    let gone: BTreeSet<String> = if live.is_empty() {
                        BTreeSet::new()
                    } else {
                        gone.iter().map(|i| live.iter().nth(i.index(live.len())).unwrap().clone()).collect()
                    };
                    let list: Vec<String> = gone.iter().cloned().collect();
                    prop_assert_eq!(table.replace(&list, &files, tick).unwrap(), versions.len() as u64);
                    live.retain(|path| !gone.contains(path));
                    live.extend(files.into_iter().map(|f| f.path));
                    versions.push((live, Some(tick)));
                }
                Step::Reopen => table = Table::open(dir.path()).unwrap(),
                Step::Maintenance => {
                    let line = "{\"commitInfo\":{\"operation\":\"VACUUM START\"}}\n";
                    fs::write(version_file(dir.path(), versions.len() as u64), line).unwrap();
                    versions.push((live, last));
                }
            }
        }
        table.refresh().unwrap();
        for table in [table, Table::open(dir.path()).unwrap()] {
            let (live, last) = versions.last().unwrap();
            prop_assert_eq!(table.version(), versions.len() as u64 - 1);
            prop_assert_eq!(table.last_tick(), *last);
            prop_assert_eq!(&table.files().map(|f| f.path.clone()).collect::<BTreeSet<_>>(), live);
            prop_assert_eq!(sum(table.read()), live.len() as i64);
            for (version, (live, _)) in versions.iter().enumerate() {
                let files = table.files_at(version as u64).unwrap();
                prop_assert_eq!(&files.into_iter().map(|f| f.path).collect::<BTreeSet<_>>(), live);
            }
        }
    }
}

/// A table of three files whose log has a checkpoint; each case damages it and mends it again.
static DAMAGED: LazyLock<(tempfile::TempDir, Table)> = LazyLock::new(|| {
    let (dir, mut table) = table(1);
    every_kind_file(dir.path(), &mut table);
    (3..=101).for_each(|version| assert_eq!(table.append(&[], version * 10).unwrap(), version));
    (dir, table)
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn damaged_bytes_end_in_an_error_or_in_a_table_and_never_in_a_panic(
        which in 0..5usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let (dir, table) = &*DAMAGED;
        let names: Vec<String> = table.files().map(|f| f.path.clone()).collect();
        let path = match which {
            0 => version_file(dir.path(), 0),
            1 => version_file(dir.path(), 101),
            2 => dir.path().join("_delta_log/00000000000000000100.checkpoint.parquet"),
            3 => dir.path().join(&names[0]),
            _ => dir.path().join(&names[1]),
        };
        let sound = fs::read(&path).unwrap();
        let mut bytes = sound.clone();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(at) = cut {
            bytes.truncate(at.index(bytes.len()));
        }
        fs::write(&path, bytes).unwrap();
        for version in [50, 101] {
            let read = Table::open(dir.path()).and_then(|table| table.read_at(version));
            if let Ok(rows) = read {
                rows.for_each(drop);
            }
        }
        fs::write(&path, sound).unwrap();
    }
}

#[test]
fn of_two_that_write_at_once_one_wins_and_the_other_is_told() {
    let (dir, _) = table(0);
    for round in 1..=20 {
        let barrier = Barrier::new(2);
        let write = |name: i64| {
            let mut table = Table::open(dir.path()).unwrap();
            let file = file(dir.path(), &numbers([name]));
            barrier.wait();
            (table.append(&[file], round), table)
        };
        let results = std::thread::scope(|s| {
            let (a, b) = (s.spawn(|| write(1)), s.spawn(|| write(2)));
            [a.join().unwrap(), b.join().unwrap()]
        });
        assert_eq!(
            results
                .iter()
                .filter(|(r, _)| matches!(r, Ok(version) if *version == round))
                .count(),
            1
        );
        for (result, mut table) in results {
            if let Err(e) = result {
                assert!(
                    matches!(e, TableError::Fenced { version, .. } if version == round),
                    "{e}"
                );
                // It has seen the other's tick, and must not go on from it.
                assert!(matches!(
                    table.append(&[], round + 1),
                    Err(TableError::Fenced { .. })
                ));
            }
        }
        let table = Table::open(dir.path()).unwrap();
        assert_eq!(
            (table.version(), table.files().count()),
            (round, round as usize)
        );
    }
}

#[test]
fn what_died_between_file_and_version_is_invisible() {
    let (dir, table) = table(1);
    file(dir.path(), &numbers([100])); // and no version
    let mut unfinished =
        TableWriter::new(dir.path(), "w0", numbers([]).schema(), &Options::default()).unwrap();
    unfinished.write(&numbers([1000])).unwrap();
    std::mem::forget(unfinished); // a kill runs no destructors
    fs::write(
        dir.path()
            .join("_delta_log/.00000000000000000002.json.77.tmp"),
        "{\"add\":",
    )
    .unwrap();

    let again = Table::open(dir.path()).unwrap();
    assert_eq!(
        (again.version(), again.last_tick(), sum(again.read())),
        (1, Some(10), 1)
    );
    drop(table);
}

#[test]
fn an_unfinished_file_is_removed_and_a_finished_one_stays() {
    let (dir, _table) = table(0);
    let mut writer =
        TableWriter::new(dir.path(), "w0", numbers([]).schema(), &Options::default()).unwrap();
    writer.write(&numbers(0..1000)).unwrap();
    assert!(writer.bytes_so_far() > 0);
    assert!(visible(dir.path()).iter().all(|name| name.starts_with('.')));
    drop(writer);
    assert!(visible(dir.path()).is_empty());
    let file = file(dir.path(), &numbers(0..1000));
    assert!(file.path.starts_with("w0-"));
    assert_eq!(visible(dir.path()), BTreeSet::from([file.path]));
}

#[test]
fn every_hundredth_version_is_a_checkpoint_that_is_enough_to_open_the_table() {
    let (dir, mut table) = table(3);
    let gone = table.files().next().unwrap().path.clone();
    table.replace(&[gone], &[], 40).unwrap();
    for version in 5..=205 {
        table.append(&[], version * 10).unwrap();
    }
    let last: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("_delta_log/_last_checkpoint")).unwrap())
            .unwrap();
    assert_eq!(last["version"], 200);
    assert_eq!(table.files_at(1).unwrap().len(), 1);
    assert_eq!(table.files_at(150).unwrap().len(), 2);
    let files: Vec<AddFile> = table.files().cloned().collect();

    for version in 0..=200 {
        fs::remove_file(version_file(dir.path(), version)).unwrap();
    }
    let mut again = Table::open(dir.path()).unwrap();
    assert_eq!((again.version(), again.last_tick()), (205, Some(2050)));
    assert_eq!(
        again
            .files()
            .cloned()
            .map(|f| (f.path, f.size, f.stats))
            .collect::<Vec<_>>(),
        files
            .into_iter()
            .map(|f| (f.path, f.size, f.stats))
            .collect::<Vec<_>>()
    );
    assert_eq!(again.property("visitflow.tick_ms"), Some("100"));
    assert_eq!(again.schema(), table.schema());
    assert!(matches!(
        again.files_at(50),
        Err(TableError::MissingVersion { .. })
    ));
    assert_eq!(again.append(&[], 2060).unwrap(), 206);
}

#[test]
fn a_checkpoint_that_cannot_be_written_fails_the_next_commit_and_loses_nothing() {
    let (dir, mut table) = table(0);
    for version in 1..=99 {
        table.append(&[], version).unwrap();
    }
    let in_the_way = dir
        .path()
        .join("_delta_log/00000000000000000100.checkpoint.parquet/x");
    fs::create_dir_all(&in_the_way).unwrap();
    assert_eq!(table.append(&[], 100).unwrap(), 100);
    let error = table.append(&[], 101).unwrap_err().to_string();
    assert!(
        error.contains("00000000000000000100.checkpoint.parquet"),
        "{error}"
    );
    fs::remove_dir_all(in_the_way.parent().unwrap()).unwrap();
    assert_eq!(table.append(&[], 101).unwrap(), 101);
    assert_eq!(Table::open(dir.path()).unwrap().version(), 101);
}

#[test]
fn columns_come_in_the_same_version_as_the_first_file_that_has_them() {
    let (dir, mut table) = table(1);
    let n: ArrayRef = Arc::new(Int64Array::from(vec![5]));
    let country: ArrayRef = Arc::new(StringArray::from(vec![Some("DE")]));
    let wider =
        RecordBatch::try_from_iter_with_nullable([("n", n, false), ("country", country, true)])
            .unwrap();
    let wide = serde_json::to_string(&file(dir.path(), &wider)).unwrap(); // to another process
    let wide: AddFile = serde_json::from_str(&wide).unwrap();
    let refused = table
        .append(std::slice::from_ref(&wide), 20)
        .unwrap_err()
        .to_string();
    assert!(refused.contains("evolve"), "{refused}");
    assert_eq!(table.evolve(&wider.schema(), &[wide], 20).unwrap(), 2);
    assert_eq!(table.schema_at(1).unwrap().fields().len(), 1);
    assert_eq!(table.schema_at(2).unwrap().fields().len(), 2);

    let mut lines = Vec::new();
    Table::open(dir.path())
        .unwrap()
        .read()
        .for_each(|batch| to_json_lines(&batch.unwrap(), &mut lines).unwrap());
    let mut lines: Vec<&str> = std::str::from_utf8(&lines).unwrap().lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["{\"n\":1,\"country\":null}", "{\"n\":5,\"country\":\"DE\"}"]
    );

    let text: ArrayRef = Arc::new(StringArray::from(vec!["1"]));
    let other = RecordBatch::try_from_iter([("n", text)]).unwrap();
    let error = table
        .evolve(&other.schema(), &[], 30)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "column `n`: is long in the table and string here");
    let must = Schema::new(vec![
        Field::new("n", DataType::Int64, false),
        Field::new("m", DataType::Int64, false),
    ]);
    assert!(
        table
            .evolve(&must, &[], 30)
            .unwrap_err()
            .to_string()
            .contains("`m`: is new to the table and not nullable")
    );
}

#[test]
fn maintenance_by_others_is_passed_over_and_their_changes_count() {
    let (dir, mut table) = table(2);
    let gone = table.files().next().unwrap().path.clone();
    let line = format!(
        "{{\"remove\":{{\"path\":\"{gone}\",\"dataChange\":false}}}}\n{{\"txn\":{{\"appId\":\"else\",\"version\":9}}}}\n"
    );
    fs::write(version_file(dir.path(), 3), line).unwrap();
    assert_eq!(
        table
            .append(&[file(dir.path(), &numbers([4]))], 30)
            .unwrap(),
        4
    );
    assert_eq!(table.files().count(), 2);
    fs::write(version_file(dir.path(), 5), "{\"commitInfo\":{}}\n").unwrap();
    let error = table
        .replace(std::slice::from_ref(&gone), &[], 40)
        .unwrap_err();
    assert!(matches!(error, TableError::NotLive { file, version: 4, .. } if file == gone));
}

#[test]
fn ticks_only_grow() {
    let (dir, mut table) = table(2);
    for tick in [0, 19, 20] {
        let error = table.append(&[], tick).unwrap_err().to_string();
        assert!(
            error.contains("up to tick 20") && error.contains(&format!("tick {tick},")),
            "{error}"
        );
    }
    assert!(matches!(
        table.append(&[], u64::MAX),
        Err(TableError::Tick { .. })
    ));
    assert!(matches!(
        table.replace(&[], &[], 19),
        Err(TableError::Tick { .. })
    ));
    assert_eq!(table.replace(&[], &[], 20).unwrap(), 3);
    drop(dir);
}

/// What is wrong with a table of two files, and what the error must say.
#[test]
fn damage_is_named() {
    type Damage = fn(&Path, &Table);
    let log = |name: &str| format!("_delta_log/{name}");
    let v1 = "00000000000000000001.json";
    let cases: Vec<(&str, Damage, Vec<String>)> = vec![
        (
            "no log",
            |d, _| fs::remove_dir_all(d.join("_delta_log")).unwrap(),
            vec!["is not a table".into(), "_delta_log".into()],
        ),
        (
            "a log without versions",
            |d, _| (0..=2).for_each(|v| fs::remove_file(version_file(d, v)).unwrap()),
            vec!["is not a table".into()],
        ),
        (
            "a gap",
            |d, _| fs::remove_file(version_file(d, 1)).unwrap(),
            vec!["has no version 1".into(), v1.into()],
        ),
        (
            "no beginning",
            |d, _| fs::remove_file(version_file(d, 0)).unwrap(),
            vec!["has no version 0".into()],
        ),
        (
            "a torn version",
            |d, _| {
                let bytes = fs::read(version_file(d, 1)).unwrap();
                fs::write(version_file(d, 1), &bytes[..bytes.len() - 20]).unwrap();
            },
            vec![log(v1), "line 3".into(), "expected one action".into()],
        ),
        (
            "an empty version",
            |d, _| fs::write(version_file(d, 1), "").unwrap(),
            vec![log(v1), "is empty".into()],
        ),
        (
            "no JSON",
            |d, _| fs::write(version_file(d, 1), "{}\nhello\n").unwrap(),
            vec![log(v1), "line 2".into()],
        ),
        (
            "a number too great",
            |d, _| {
                fs::write(
                    version_file(d, 1),
                    "{\"add\":{\"path\":\"x\",\"size\":-1,\"modificationTime\":0}}",
                )
                .unwrap()
            },
            vec![log(v1), "line 1".into(), "-1".into()],
        ),
        (
            "a newer protocol",
            |d, _| {
                fs::write(
                    version_file(d, 2),
                    "{\"protocol\":{\"minReaderVersion\":3,\"minWriterVersion\":7}}",
                )
                .unwrap()
            },
            vec![
                log("00000000000000000002.json"),
                "protocol (3, 7)".into(),
                "(1, 2)".into(),
            ],
        ),
        (
            "a deletion vector",
            |d, _| {
                let add = "{\"add\":{\"path\":\"x\",\"size\":1,\"modificationTime\":0,\"deletionVector\":{\"storageType\":\"u\"}}}";
                fs::write(version_file(d, 2), add).unwrap();
            },
            vec![log("00000000000000000002.json"), "deletionVector".into()],
        ),
        (
            "partitions",
            |d, _| {
                let text = fs::read_to_string(version_file(d, 0)).unwrap();
                fs::write(
                    version_file(d, 0),
                    text.replace("\"partitionColumns\":[]", "\"partitionColumns\":[\"n\"]"),
                )
                .unwrap();
            },
            vec![log("00000000000000000000.json"), "partitions by n".into()],
        ),
        (
            "an unknown type",
            |d, _| {
                let text = fs::read_to_string(version_file(d, 0)).unwrap();
                fs::write(
                    version_file(d, 0),
                    text.replace("\\\"long\\\"", "\\\"variant\\\""),
                )
                .unwrap();
            },
            vec![
                log("00000000000000000000.json"),
                "`n`".into(),
                "variant".into(),
            ],
        ),
        (
            "a missing data file",
            |d, t| fs::remove_file(d.join(&t.files().next().unwrap().path)).unwrap(),
            vec!["w0-".into(), "is missing".into()],
        ),
        (
            "a truncated data file",
            |d, t| {
                let path = d.join(&t.files().next().unwrap().path);
                let bytes = fs::read(&path).unwrap();
                fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
            },
            vec!["w0-".into(), "bytes; expected".into()],
        ),
        (
            "a data file overwritten",
            |d, t| {
                let file = t.files().next().unwrap();
                fs::write(d.join(&file.path), vec![7; file.size as usize]).unwrap();
            },
            vec!["w0-".into(), "is no whole Parquet file".into()],
        ),
        (
            "a path that leads out",
            |d, _| {
                let add =
                    "{\"add\":{\"path\":\"%2e%2e/secret\",\"size\":1,\"modificationTime\":0}}";
                fs::write(version_file(d, 2), add).unwrap();
            },
            vec!["%2e%2e/secret".into(), "below the table's directory".into()],
        ),
        (
            "a checkpoint that is none",
            |d, _| {
                fs::write(
                    d.join("_delta_log/00000000000000000001.checkpoint.parquet"),
                    "PAR1",
                )
                .unwrap()
            },
            vec![
                "00000000000000000001.checkpoint.parquet".into(),
                "no whole Parquet file".into(),
            ],
        ),
    ];
    for (what, damage, says) in cases {
        let (dir, table) = table(2);
        damage(dir.path(), &table);
        let error = match Table::open(dir.path()) {
            Err(e) => e,
            Ok(table) => table
                .read()
                .find_map(Result::err)
                .unwrap_or_else(|| panic!("{what} went unnoticed")),
        };
        let error = error.to_string();
        for part in says {
            assert!(
                error.contains(&part),
                "{what}: {part:?} is not in {error:?}"
            );
        }
        assert!(
            error.contains(dir.path().to_str().unwrap()),
            "{what}: {error:?} does not say where"
        );
    }
}

#[test]
fn a_file_that_is_not_there_cannot_be_added() {
    let (dir, mut table) = table(1);
    let gone = file(dir.path(), &numbers([1]));
    fs::remove_file(dir.path().join(&gone.path)).unwrap();
    let error = table
        .append(std::slice::from_ref(&gone), 20)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains(&gone.path) && error.contains("is missing"),
        "{error}"
    );
    let twice = file(dir.path(), &numbers([1]));
    assert!(table.append(&[twice.clone(), twice.clone()], 20).is_err());
    table.append(std::slice::from_ref(&twice), 20).unwrap();
    assert!(
        table
            .append(&[twice], 30)
            .unwrap_err()
            .to_string()
            .contains("already")
    );
    assert!(matches!(
        read_file(dir.path(), &gone),
        Err(TableError::DataFile { .. })
    ));
}

#[test]
fn tables_are_created_in_new_and_empty_directories_only() {
    let dir = tempfile::tempdir().unwrap();
    let schema = numbers([]).schema();
    let nested = dir.path().join("a/b/c");
    Table::create(&nested, &schema, &[]).unwrap();
    assert!(matches!(
        Table::create(&nested, &schema, &[]),
        Err(TableError::Exists { .. })
    ));
    Table::open_or_create(&nested, &schema, &[]).unwrap();
    // What a kill between directory and version leaves behind is empty enough.
    fs::create_dir_all(dir.path().join("half/_delta_log")).unwrap();
    Table::open_or_create(&dir.path().join("half"), &schema, &[]).unwrap();

    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("thesis.doc"), "mine").unwrap();
    let error = Table::open_or_create(&full, &schema, &[])
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("thesis.doc") && error.contains("full"),
        "{error}"
    );
    assert_eq!(visible(&full).len(), 1);
    let error = Table::create(&full.join("thesis.doc"), &schema, &[])
        .unwrap_err()
        .to_string();
    assert!(error.contains("thesis.doc"), "{error}");
}

#[test]
fn schemas_that_delta_cannot_have_are_refused_by_column() {
    let dir = tempfile::tempdir().unwrap();
    let cases: Vec<(Field, &str)> = vec![
        (
            Field::new("a b", DataType::Int64, true),
            "`a b`: is no name",
        ),
        (
            Field::new(
                "t",
                DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
                true,
            ),
            "`t`: Timestamp",
        ),
        (
            Field::new("t", DataType::Timestamp(TimeUnit::Millisecond, None), true),
            "in the zone UTC",
        ),
        (
            Field::new("u", DataType::UInt64, true),
            "`u`: UInt64 has no type",
        ),
        (
            Field::new_struct("s", vec![Field::new("x", DataType::Float16, true)], true),
            "`s.x`: Float16",
        ),
        (
            Field::new_struct(
                "s",
                vec![
                    Field::new("x", DataType::Int8, true),
                    Field::new("X", DataType::Int8, true),
                ],
                true,
            ),
            "`s.X`: is there twice",
        ),
        (
            Field::new_struct("s", Fields::empty(), true),
            "`s`: has no columns",
        ),
    ];
    for (field, says) in cases {
        let error = Table::create(dir.path(), &Schema::new(vec![field]), &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains(says), "{error}");
    }
    let error = TableWriter::new(
        dir.path(),
        "w",
        numbers([]).schema(),
        &Options {
            unique: vec!["m".into()],
            bloom: vec![],
        },
    );
    assert_eq!(
        error.err().unwrap().to_string(),
        "column `m`: is no column of the file; expected one of n"
    );
    assert!(
        TableWriter::new(
            dir.path(),
            "../w",
            numbers([]).schema(),
            &Options::default()
        )
        .is_err()
    );
}

const DAY: i64 = 86_400_000;
const START: i64 = 1_767_225_600_000; // 2026-01-01

/// One column of every kind, as functions of the row's number.
fn every_kind(rows: std::ops::Range<i64>, later: bool) -> RecordBatch {
    let ids = |salt: i64| {
        let id = move |i: i64| {
            ((i + salt) as u128)
                .wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
                .to_be_bytes()
        };
        Arc::new(
            FixedSizeBinaryArray::try_from_iter(
                rows.clone().map(|i| id(if salt == 0 { i / 5 } else { i })),
            )
            .unwrap(),
        ) as ArrayRef
    };
    let time = |i: i64| START + i * 1000 + i % 1000;
    let millis = |values: Vec<Option<i64>>| {
        Arc::new(TimestampMillisecondArray::from(values).with_timezone("UTC")) as ArrayRef
    };
    let words = |words: &'static [&'static str]| {
        rows.clone()
            .map(move |i| (i % 7 != 0).then(|| words[i as usize % words.len()]))
    };
    let url = |i: i64| {
        format!(
            "https://shop.example/ä/{}/{}",
            "x".repeat((i % 50) as usize),
            i
        )
    };

    let page_url: ArrayRef = Arc::new(rows.clone().map(|i| Some(url(i))).collect::<StringArray>());
    let page_size: ArrayRef = Arc::new(
        rows.clone()
            .map(|i| (i % 3 != 0).then_some(i << 33))
            .collect::<Int64Array>(),
    );
    let page_at = millis(
        rows.clone()
            .map(|i| (i % 4 != 0).then(|| time(i) - 1))
            .collect(),
    );
    let page_referrer: ArrayRef = Arc::new(
        rows.clone()
            .map(|i| (i % 2 == 0).then(|| url(i + 1)))
            .collect::<StringArray>(),
    );
    let nullable =
        |name: &str, array: &ArrayRef| Arc::new(Field::new(name, array.data_type().clone(), true));
    let mut page = vec![
        (nullable("url", &page_url), page_url.clone()),
        (nullable("size", &page_size), page_size),
        (nullable("at", &page_at), page_at),
    ];
    if later {
        page.push((nullable("referrer", &page_referrer), page_referrer));
    }
    let (page_fields, page_arrays): (Vec<_>, Vec<_>) = page.into_iter().unzip();
    let page_nulls = rows.clone().map(|i| i % 11 != 0).collect::<Vec<bool>>();
    let page = StructArray::new(page_fields.into(), page_arrays, Some(page_nulls.into()));

    let reason = Fields::from(vec![
        Field::new("kind", DataType::Utf8, true),
        Field::new("weight", DataType::Float32, true),
    ]);
    let mut reasons = ListBuilder::new(StructBuilder::new(
        reason,
        vec![
            Box::new(StringBuilder::new()),
            Box::new(Float32Builder::new()),
        ],
    ));
    let names = MapFieldNames {
        entry: "entries".into(),
        key: "keys".into(),
        value: "values".into(),
    };
    let mut tags = MapBuilder::new(Some(names), StringBuilder::new(), Int64Builder::new());
    for i in rows.clone() {
        for k in 0..i % 3 {
            let one = reasons.values();
            one.field_builder::<StringBuilder>(0)
                .unwrap()
                .append_value(format!("campaign-{k}"));
            one.field_builder::<Float32Builder>(1)
                .unwrap()
                .append_option((k == 1).then_some(0.25));
            one.append(true);
            tags.keys().append_value(format!("k{k}"));
            tags.values().append_option((k == 0).then_some(i));
        }
        reasons.append(i % 5 != 0);
        tags.append(i % 13 != 0).unwrap();
    }

    let mut columns: Vec<(&str, ArrayRef, bool)> = vec![
        ("visit_id", ids(0), false),
        (
            "browser_id",
            Arc::new(
                rows.clone()
                    .map(|i| Some(format!("browser-{}", i / 10)))
                    .collect::<StringArray>(),
            ),
            false,
        ),
        ("event_id", ids(1_000_000), false),
        (
            "event_time",
            millis(rows.clone().map(|i| Some(time(i))).collect()),
            false,
        ),
        (
            "exact_time",
            Arc::new(
                TimestampMicrosecondArray::from_iter_values(
                    rows.clone().map(|i| time(i) * 1000 + i % 1000),
                )
                .with_timezone("UTC"),
            ),
            true,
        ),
        (
            "effect",
            Arc::new(
                words(&["shown", "clicked", "ordered"]).collect::<DictionaryArray<Int32Type>>(),
            ),
            true,
        ),
        (
            "country",
            Arc::new(words(&["DE", "IR", "FR", "JP"]).collect::<StringArray>()),
            true,
        ),
        (
            "position",
            Arc::new(
                rows.clone()
                    .map(|i| (i % 9 != 0).then_some(i as i32 - 50))
                    .collect::<Int32Array>(),
            ),
            true,
        ),
        (
            "price",
            Arc::new(
                rows.clone()
                    .map(|i| (i % 6 != 0).then_some(i128::from(i) * 99 - 500))
                    .collect::<Decimal128Array>()
                    .with_precision_and_scale(12, 2)
                    .unwrap(),
            ),
            true,
        ),
        (
            "ratio",
            Arc::new(
                rows.clone()
                    .map(|i| Some(i as f64 / 8.0))
                    .collect::<Float64Array>(),
            ),
            true,
        ),
        (
            "robot",
            Arc::new(
                rows.clone()
                    .map(|i| (i % 8 != 0).then_some(i % 2 == 0))
                    .collect::<BooleanArray>(),
            ),
            true,
        ),
        (
            "day",
            Arc::new(
                rows.clone()
                    .map(|i| Some((time(i) / DAY) as i32))
                    .collect::<Date32Array>(),
            ),
            true,
        ),
        ("page", Arc::new(page), true),
        ("reasons", Arc::new(reasons.finish()), true),
        ("tags", Arc::new(tags.finish()), true),
    ];
    if later {
        columns.push((
            "campaign",
            Arc::new(
                rows.map(|i| (i % 2 == 1).then(|| format!("c{i}")))
                    .collect::<StringArray>(),
            ),
            true,
        ));
    }
    RecordBatch::try_from_iter_with_nullable(columns).unwrap()
}

/// Adds a file of every kind of column to a table of another schema, whose `n` it lacks.
fn every_kind_file(dir: &Path, table: &mut Table) {
    let batch = every_kind(0..400, true);
    let nullable = Schema::new(
        batch
            .schema()
            .fields()
            .iter()
            .map(|f| f.as_ref().clone().with_nullable(true))
            .collect::<Vec<_>>(),
    );
    let n: ArrayRef = Arc::new(Int64Array::from_iter_values(0..400));
    let mut columns = vec![n];
    columns.extend(batch.columns().iter().cloned());
    let mut fields = vec![Field::new("n", DataType::Int64, false)];
    fields.extend(nullable.fields().iter().map(|f| f.as_ref().clone()));
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
    table
        .evolve(&batch.schema(), &[file(dir, &batch)], 20)
        .unwrap();
}

/// A table of three days with everything that happens to tables: columns that come later, a file replaced.
fn every_kind_table(dir: &Path) -> Table {
    let options = Options {
        unique: vec!["event_id".into()],
        bloom: vec!["visit_id".into(), "browser_id".into()],
    };
    let put = |rows: std::ops::Range<i64>, later| {
        let batch = every_kind(rows, later);
        let mut writer = TableWriter::new(dir, "worker-0", batch.schema(), &options).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap()
    };
    let a_day = 86_400;
    let mut table = Table::create(dir, &every_kind(0..1, false).schema(), &[]).unwrap();
    table
        .append(&[put(0..400, false), put(a_day..a_day + 300, false)], 10)
        .unwrap();
    let wrong = put(5..6, false);
    table.append(std::slice::from_ref(&wrong), 20).unwrap();
    table
        .evolve(
            &every_kind(0..1, true).schema(),
            &[put(2 * a_day..2 * a_day + 500, true)],
            30,
        )
        .unwrap();
    table.replace(&[wrong.path], &[], 30).unwrap();
    table
}

#[test]
fn statistics_say_what_is_in_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let table = every_kind_table(dir.path());
    let batch = every_kind(0..400, false);
    let first = table.files().find(|f| f.rows() == Some(400)).unwrap();
    let stats: serde_json::Value = serde_json::from_str(first.stats.as_ref().unwrap()).unwrap();
    let (min, max, nulls) = (
        &stats["minValues"],
        &stats["maxValues"],
        &stats["nullCount"],
    );
    assert_eq!(
        (min["event_time"].as_str(), max["event_time"].as_str()),
        (
            Some("2026-01-01T00:00:00.000Z"),
            Some("2026-01-01T00:06:39.399Z")
        )
    );
    assert_eq!(max["exact_time"], "2026-01-01T00:06:39.400Z"); // .399399 rounded up
    assert_eq!(
        (min["effect"].as_str(), max["effect"].as_str()),
        (Some("clicked"), Some("shown"))
    );
    assert_eq!(
        (&min["position"], &max["position"], &nulls["position"]),
        (&(-49).into(), &349.into(), &45.into())
    );
    assert_eq!(
        (&min["price"], &max["price"]),
        (&(-4.01).into(), &390.01.into())
    );
    assert_eq!(
        (&min["ratio"], &max["ratio"]),
        (&0.0.into(), &49.875.into())
    );
    assert_eq!(
        (&min["day"], &max["day"]),
        (&"2026-01-01".into(), &"2026-01-01".into())
    );
    assert_eq!(min["page"]["url"], "https://shop.example/ä//100");
    assert_eq!(max["page"]["url"], "https://shop.example/ä/xxxxxxxxy");
    assert_eq!(
        nulls["page"]["size"],
        (0..400).filter(|i| i % 3 == 0 || i % 11 == 0).count()
    );
    assert!(
        min.get("visit_id").is_none() && min.get("reasons").is_none() && min.get("tags").is_none()
    );
    assert_eq!((&nulls["visit_id"], batch.num_rows()), (&0.into(), 400));
}

#[test]
fn single_files_come_back_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let table = every_kind_table(dir.path());
    let first = table.files().find(|f| f.rows() == Some(400)).unwrap();
    let back = read_file(dir.path(), first)
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    let json = |batch: &RecordBatch| {
        let mut lines = Vec::new();
        to_json_lines(batch, &mut lines).unwrap();
        String::from_utf8(lines).unwrap()
    };
    let wrote = every_kind(0..400, false);
    assert_eq!(json(&back), json(&wrote));
    for name in ["visit_id", "event_time", "exact_time", "price"] {
        assert_eq!(back.column_by_name(name), wrote.column_by_name(name));
    }
    // What `create` was told is what `schema` says, but for the dictionary and the names of items.
    let told = table.schema();
    assert_eq!(
        told.field_with_name("visit_id").unwrap(),
        wrote.schema().field_with_name("visit_id").unwrap()
    );
    assert_eq!(
        told.field_with_name("event_time").unwrap(),
        wrote.schema().field_with_name("event_time").unwrap()
    );
    assert_eq!(
        told.field_with_name("effect").unwrap().data_type(),
        &DataType::Utf8
    );
}

#[test]
fn other_programs_read_the_same_rows_and_skip_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let environment = root.join("target/python");
    let installed = Command::new(root.join("scripts/python-readers"))
        .arg(&environment)
        .output()
        .unwrap();
    if !installed.status.success() {
        eprintln!(
            "SKIPPED: other programs read the same rows: the readers cannot be installed by scripts/python-readers:"
        );
        eprintln!("{}", String::from_utf8_lossy(&installed.stderr));
        return;
    }
    let python = String::from_utf8(installed.stdout).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("measurements");
    let mut table = every_kind_table(&place);
    let check = |table: &Table| {
        let expected = dir.path().join("expected.jsonl");
        let mut lines = Vec::new();
        table
            .read()
            .for_each(|batch| to_json_lines(&batch.unwrap(), &mut lines).unwrap());
        fs::write(&expected, lines).unwrap();
        let output = Command::new(python.trim())
            .arg(root.join("tests/readers/check.py"))
            .args([&place, &expected])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "{said}\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
        for reader in [
            "deltalake",
            "polars",
            "duckdb delta_scan",
            "duckdb read_parquet",
            "pyarrow",
        ] {
            assert!(
                said.contains(&format!("{reader}: ok")),
                "{reader} is missing in {said}"
            );
        }
    };
    check(&table);
    for tick in 1_000..1_100 {
        table.append(&[], tick).unwrap();
    }
    check(&table); // by the checkpoint now

    // deltalake compacts, vacuums and checkpoints the table; both sides go on.
    let output = Command::new(python.trim())
        .arg(root.join("tests/readers/maintain.py"))
        .arg(&place)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let version = table.append(&[], 2_000).unwrap();
    assert!(version > 105);
    assert_eq!(table.files().filter_map(AddFile::rows).sum::<u64>(), 1_200);
    check(&table);
    assert_eq!(Table::open(&place).unwrap().version(), version);
}
