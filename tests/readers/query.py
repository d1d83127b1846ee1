"""Runs the queries of a file in DuckDB, in the working directory; fails if one fails or finds nothing.

Usage: query.py FILE.sql
"""
import glob
import os
import sys

import duckdb
import duckdb_ext

with open(sys.argv[1], encoding="utf-8") as file:
    queries = [query for query in file.read().split(";") if query.strip()]
connection = duckdb.connect()
for name in ("icu", "delta"):
    pattern = os.path.join(list(duckdb_ext.__path__)[0], "extensions", f"v{duckdb.__version__}", "*", f"{name}.duckdb_extension")
    connection.execute(f"LOAD '{glob.glob(pattern)[0]}'")
for query in queries:
    found = connection.sql(query)
    rows = found.fetchall()
    assert rows, f"no rows: {query}"
    print(*rows, sep="\n")
