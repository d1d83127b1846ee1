#!/usr/bin/env python3
"""Counts the visits of a running Visitflow job, each once: those in its table and those that are live.

For readers who want to copy it: `Job.hold` keeps a version of the table and what is live together, `read` gives both to
DuckDB as one view `visits`, and COUNT is the query. It reads the table's files itself, so it runs where they are. See
README.md beside this file.
"""

import argparse
import contextlib
import datetime
import json
import sys
import time
import urllib.error
import urllib.request

import deltalake
import duckdb
import pyarrow

COUNT = """
    SELECT country, agent, coalesce(end_reason, 'open') AS end_reason, count(*) AS visits,
        sum(measurements)::BIGINT AS measurements
    FROM visits GROUP BY ALL ORDER BY ALL
"""
# The same columns in both. Of an open visit end_reason is null, and so is nothing else that a table would have.
VISITS = """
    CREATE VIEW visits AS
    SELECT visit_id, browser_id, started, last_seen, measurements, end_reason, country, agent, customer_id FROM files
    UNION ALL BY NAME
    SELECT * FROM live
"""
ROWS = "SELECT * REPLACE (epoch_ms(started) AS started, epoch_ms(last_seen) AS last_seen) FROM visits"
TIME = pyarrow.timestamp("ms", tz="UTC")
LIVE = pyarrow.schema({
    "visit_id": pyarrow.string(), "browser_id": pyarrow.string(), "started": TIME, "last_seen": TIME,
    "measurements": pyarrow.int64(), "end_reason": pyarrow.string(), "country": pyarrow.string(),
    "agent": pyarrow.string(), "customer_id": pyarrow.string(),
})


class HoldEnded(Exception):
    """What the version lacks is not kept any more."""


class Job:
    """A running job, at the address where it is served."""

    def __init__(self, address, token, patience=60):
        self.address = address.rstrip("/")
        self.token = token
        self.patience = patience

    def ask(self, method, path, body=None):
        """The bytes that are answered. While the job says that it can answer later, it is asked again."""
        headers = {"Content-Type": "application/json"} if body else {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        data = json.dumps(body).encode() if body else None
        until = time.monotonic() + self.patience
        while True:
            request = urllib.request.Request(self.address + path, data, headers, method=method)
            try:
                with urllib.request.urlopen(request, timeout=self.patience) as answer:
                    return answer.read()
            except urllib.error.HTTPError as problem:
                said = problem.read().decode()
                if problem.code == 410:
                    raise HoldEnded(said) from problem
                if problem.code not in (429, 503, 504) or time.monotonic() > until:
                    raise SystemExit(f"{method} {path}: {said}") from problem
                time.sleep(int(problem.headers.get("Retry-After", 1)))
            except urllib.error.URLError as problem:
                raise SystemExit(f"{method} {self.address}{path}: {problem.reason}") from problem

    @contextlib.contextmanager
    def hold(self, seconds):
        """A hold on the newest version of the table, until it is left; it ends by itself if this program does."""
        hold = json.loads(self.ask("POST", "/boundary/holds", {"seconds": seconds}))
        try:
            yield hold
        finally:
            with contextlib.suppress(HoldEnded):
                self.ask("DELETE", f"/boundary/holds/{hold['hold']}")

    def live(self, hold):
        """Every visit that the hold's version lacks, and the tick as of which that is."""
        first, *lines = self.ask("GET", f"/boundary/holds/{hold['hold']}/visits").splitlines()
        rows = [json.loads(line) for line in lines]
        return pyarrow.Table.from_pylist(rows, schema=LIVE), json.loads(first)["tick"]


def read(job, tables, pause):
    """A database with the view `visits`, and the version and ticks that it is of."""
    if tables is None:
        tables = json.loads(job.ask("GET", "/boundary"))["table"]["path"]
    with job.hold(min(60 + pause, 600)) as hold:
        version = deltalake.DeltaTable(f"{tables}/visits", version=hold["version"])
        files = version.to_pyarrow_dataset()
        # However long this takes: what the version lacks is kept as long as the hold lives. The version's own files
        # stay, so they are read by the query, and only those columns and rows of them that it asks for.
        time.sleep(pause)
        live, tick = job.live(hold)
    database = duckdb.connect()
    database.register("files", files)
    database.register("live", live)
    database.execute(VISITS)
    return database, {"version": hold["version"], "tick": hold["tick"], "live": tick}


def clock(tick):
    return datetime.datetime.fromtimestamp(tick / 1000, datetime.timezone.utc).strftime("%H:%M:%S")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--job", default="http://127.0.0.1:8080", help="where the job is served (default: %(default)s)")
    parser.add_argument("--token", help="one that is good for `identified`, if the job has tokens")
    parser.add_argument("--tables", help="the folder `identified` of its outputs.files; by default where the job says")
    parser.add_argument("--pause", type=int, default=0, help="wait so many seconds between files and live")
    parser.add_argument("--rows", action="store_true", help="print every visit as a line of JSON instead of counting")
    args = parser.parse_args()
    job = Job(args.job, args.token)
    while True:
        try:
            database, of = read(job, args.tables, args.pause)
            break
        except HoldEnded as ended:
            print(f"begins again: {ended}", file=sys.stderr)
    if args.rows:
        print(json.dumps(of))
        rows = database.execute(ROWS)
        names = [column[0] for column in rows.description]
        for row in rows.fetchall():
            print(json.dumps(dict(zip(names, row))))
        return
    print(f"version {of['version']}, up to {clock(of['tick'])}; live as of {clock(of['live'])} UTC")
    print(database.sql(COUNT))


if __name__ == "__main__":
    main()
