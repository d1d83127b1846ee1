"""Reads a table with every reader and compares all rows with those that Visitflow reads.

Usage: check.py TABLE EXPECTED.jsonl; prints "READER: ok" for each reader, or fails with the first difference.
"""
import datetime
import decimal
import glob
import json
import os
import shutil
import sys
import tempfile
from urllib.parse import unquote, urlparse

import deltalake
import duckdb
import duckdb_ext
import polars
import pyarrow
import pyarrow.parquet

place, expected_file = sys.argv[1:3]
MAPS = {"tags"}


def plain(value, name=None):
    """A value of any reader in the form of the JSON lines."""
    if value is None or isinstance(value, (bool, int, str, decimal.Decimal)):
        return value
    if isinstance(value, float):
        return decimal.Decimal(value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, datetime.datetime):
        assert value.utcoffset() == datetime.timedelta(0), f"{name} is not in UTC: {value!r}"
        digits = "microseconds" if value.microsecond % 1000 else "milliseconds"
        return value.replace(tzinfo=None).isoformat(timespec=digits) + "Z"
    if isinstance(value, datetime.date):
        return value.isoformat()
    if name in MAPS and not isinstance(value, dict):
        pairs = [(v["key"], v["value"]) if isinstance(v, dict) else v for v in value]
        return {key: plain(v) for key, v in pairs}
    if isinstance(value, dict):
        return {key: plain(v, key) for key, v in value.items()}
    return [plain(v) for v in value]


def rows(dicts):
    return sorted((plain(row) for row in dicts), key=lambda row: row["event_id"])


with open(expected_file, encoding="utf-8") as lines:
    expected = [json.loads(line, parse_float=decimal.Decimal) for line in lines]
expected.sort(key=lambda row: row["event_id"])
assert len(expected) == 1200


def compare(reader, got, want=expected):
    assert len(got) == len(want), f"{reader}: {len(got)} rows, expected {len(want)}"
    for ours, theirs in zip(want, got):
        for name, value in ours.items():
            assert theirs[name] == value, f"{reader}: {name} is {theirs[name]!r}, expected {value!r}"
    print(f"{reader}: ok")


table = deltalake.DeltaTable(place)
files = [unquote(urlparse(uri).path) for uri in table.file_uris()]
visit, browser, day = expected[700]["visit_id"], expected[700]["browser_id"], datetime.date(2026, 1, 2)
of_visit = [row for row in expected if row["visit_id"] == visit]
midnight = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
of_day = [row for row in expected if row["day"] == "2026-01-02"]
assert 0 < len(of_visit) < 6 and len(of_day) == 300

# deltalake, by itself and by its dataset
compare("deltalake dataset", rows(table.to_pyarrow_table().to_pylist()))
query = deltalake.QueryBuilder().register("m", table)
compare("deltalake", rows(pyarrow.table(query.execute("SELECT * FROM m").read_all()).to_pylist()))
assert table.transaction_version("visitflow") is not None

# Polars
lazy = polars.scan_delta(place)
compare("polars", rows(lazy.collect().to_dicts()))
compare("polars by id", rows(lazy.filter(polars.col("visit_id") == bytes.fromhex(visit)).collect().to_dicts()), of_visit)
one_day = lazy.filter(polars.col("event_time") >= midnight, polars.col("event_time") < midnight + datetime.timedelta(days=1))
compare("polars by day", rows(one_day.collect().to_dicts()), of_day)

# DuckDB, by the log and by the files
duck = duckdb.connect()
for name in ("icu", "delta"):
    pattern = os.path.join(list(duckdb_ext.__path__)[0], "extensions", f"v{duckdb.__version__}", "*", f"{name}.duckdb_extension")
    duck.execute(f"LOAD '{glob.glob(pattern)[0]}'")
duck.execute("SET TimeZone = 'UTC'")


def dicts(sql):
    cursor = duck.execute(sql)
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row)) for row in cursor.fetchall()]


scan = f"delta_scan('{place}')"
compare("duckdb delta_scan", rows(dicts(f"SELECT * FROM {scan}")))
compare("duckdb by pasted id", rows(dicts(f"SELECT * FROM {scan} WHERE visit_id = unhex('{visit}')")), of_visit)
compare("duckdb by id as text", rows(dicts(f"SELECT * FROM {scan} WHERE lower(hex(visit_id)) = '{visit}'")), of_visit)
where = "event_time >= TIMESTAMPTZ '2026-01-02 00:00:00Z' AND event_time < TIMESTAMPTZ '2026-01-03 00:00:00Z'"
compare("duckdb by day", rows(dicts(f"SELECT * FROM {scan} WHERE {where}")), of_day)
listed = "read_parquet([" + ", ".join(f"'{file}'" for file in files) + "], union_by_name = true)"
without = [{**row, "page": row["page"] and {k: v for k, v in row["page"].items() if k != "referrer"}} for row in expected]
for row in without:
    row.pop("campaign")
got = rows(dicts(f"SELECT * FROM {listed}"))
for row in got:
    row["page"] = row["page"] and {k: v for k, v in row["page"].items() if k != "referrer"}
compare("duckdb read_parquet", got, without)

# pyarrow, file by file
got = [row for file in files for row in pyarrow.parquet.ParquetFile(file).read().to_pylist()]
for row in got:
    if row["page"]:
        row["page"].pop("referrer", None)
compare("pyarrow", rows(got), without)
for file in files:
    # A dictionary's many parts would make this fail in files of more than one row group.
    assert pyarrow.parquet.read_schema(file).field("effect").type == pyarrow.string()
    group = pyarrow.parquet.ParquetFile(file).metadata.row_group(0)
    assert group.column(0).has_column_index and group.column(0).has_offset_index

# "One day" reads the files of that day only: with all others made unreadable, the answer is the same.
if len(files) > 1:
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(place, copy, dirs_exist_ok=True)
        adds = pyarrow.table(table.get_add_actions(flatten=True)).to_pylist()
        others = [add["path"] for add in adds if not add["min.day"] <= day <= add["max.day"]]
        assert len(others) == len(adds) - 1
        for path in others:
            os.truncate(os.path.join(copy, path), 0)
        of_copy = polars.scan_delta(copy)
        compare("polars skips by time", rows(of_copy.filter(polars.col("event_time") >= midnight, polars.col("event_time") < midnight + datetime.timedelta(days=1)).collect().to_dicts()), of_day)
        query = deltalake.QueryBuilder().register("m", deltalake.DeltaTable(copy))
        sql = "SELECT * FROM m WHERE event_time >= '2026-01-02T00:00:00Z' AND event_time < '2026-01-03T00:00:00Z'"
        compare("deltalake skips by time", rows(pyarrow.table(query.execute(sql).read_all()).to_pylist()), of_day)
        # DuckDB 1.4's extension skips by dates, numbers and strings, but by nobody's instants.
        compare("duckdb skips by day", rows(dicts(f"SELECT * FROM delta_scan('{copy}') WHERE day = DATE '2026-01-02'")), of_day)
        query = deltalake.QueryBuilder().register("m", table)

# All agree on what people ask for.
total = sum(row["position"] or 0 for row in expected)
visits = len({row["visit_id"] for row in expected})
assert duck.execute(f"SELECT sum(position), count(DISTINCT visit_id) FROM {scan}").fetchall() == [(total, visits)]
assert lazy.select(polars.col("position").sum(), polars.col("visit_id").n_unique()).collect().row(0) == (total, visits)
told = query.execute("SELECT sum(position) AS s, count(DISTINCT visit_id) AS v FROM m").read_all()
assert pyarrow.table(told).to_pylist() == [{"s": total, "v": visits}]
