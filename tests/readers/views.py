"""Asks DuckDB for the rows of views, by SQL over the tables of a running job and what is live of it.

Usage: views.py ADDRESS [TAGGED] < QUESTIONS.json, in the folder in which the job runs. A question is {"sql", "window"}, perhaps
with a "tick"; without one it is as of the tick of what is live, which is a whole second, as of which views have rows too.
Prints {"tick", "open"}, where `open` are the visits that are in no table, and for each question a line with its rows.

What SQL can ask for, of a question's window before its tick: `visits`, in the tables and live; `measurements`; and
`members`, all measurements of these visits, `n` the place of each in its visit. Measurements are those of the tables; or,
with TAGGED, the lines that `visitflow show` prints of the topic `tagged`, those that were accepted before the tick.
"""
import json
import pathlib
import sys

import deltalake
import duckdb

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples" / "boundary"))
from count_visits import HoldEnded, Job

TABLES = """
    CREATE TABLE every_visit AS
    SELECT visit_id, browser_id, epoch_ms(started) AS started, measurements, coalesce(country, '') AS country,
        coalesce(end_reason, 'open') AS end_reason, orders, revenue, credits
    FROM (SELECT visit_id, browser_id, started, measurements, country, end_reason, orders, revenue, credits FROM files
        UNION ALL BY NAME SELECT visit_id, browser_id, started, measurements, country, end_reason FROM live);

    CREATE TABLE every_measurement AS
    SELECT visit_id, browser_id, epoch_ms(event_time) AS time, effect, entity, coalesce(entity_id, '') AS entity_id,
        coalesce(reason, 'direct') AS reason, value, coalesce(country, '') AS country, agent,
        row_number() OVER (PARTITION BY visit_id ORDER BY event_time, event_id) AS n
    FROM measured SEMI JOIN files USING (visit_id);

    CREATE VIEW visits AS SELECT * FROM every_visit
    WHERE started >= getvariable('tick') - getvariable('span') AND started < getvariable('tick');

    CREATE VIEW measurements AS SELECT * FROM every_measurement
    WHERE time >= getvariable('tick') - getvariable('span') AND time < getvariable('tick');

    CREATE VIEW members AS SELECT * FROM every_measurement SEMI JOIN visits USING (visit_id);
"""

TAGGED = """
    CREATE TABLE every_tagged AS
    SELECT tick, m->>'browser_id' AS browser_id, epoch_ms((m->>'event_time')::TIMESTAMPTZ) AS time, m->>'effect' AS effect,
        m->>'entity' AS entity, coalesce(m->>'entity_id', '') AS entity_id, coalesce(m->>'reason', 'direct') AS reason,
        (m->>'value')::BIGINT AS value, coalesce(m->>'country', '') AS country, m->>'agent' AS agent
    FROM (SELECT tick, value AS m FROM
        read_json($lines, format = 'newline_delimited', columns = {tick: 'BIGINT', value: 'JSON'}));

    CREATE OR REPLACE VIEW measurements AS SELECT * EXCLUDE tick FROM every_tagged
    WHERE tick < getvariable('tick')
        AND time >= getvariable('tick') - getvariable('span') AND time < getvariable('tick');
"""


def read(job):
    """A database with the tables as of a whole second, the second, and how many visits are in no table."""
    tables = json.loads(job.ask("GET", "/boundary"))["table"]["path"]
    with job.hold(60) as hold:
        files = deltalake.DeltaTable(f"{tables}/visits", version=hold["version"]).to_pyarrow_dataset()
        # All of theirs are there, since measurements get their version first, and some of later visits.
        measured = deltalake.DeltaTable(f"{tables}/measurements").to_pyarrow_dataset()
        live, tick = job.live(hold)
        while tick % 1000:
            live, tick = job.live(hold)
    database = duckdb.connect()
    for name, table in (("files", files), ("measured", measured), ("live", live)):
        database.register(name, table)
    database.execute(TABLES)
    return database, tick, live.num_rows


job = Job(sys.argv[1], None)
while True:
    try:
        database, live_tick, is_open = read(job)
        break
    except HoldEnded:
        pass
if len(sys.argv) > 2:
    create, measurements = TAGGED.split(";\n\n", 1)
    database.execute(create, {"lines": sys.argv[2]})
    database.execute(measurements)
print(json.dumps({"tick": live_tick, "open": is_open}))
for question in json.load(sys.stdin):
    database.execute(f"SET VARIABLE span = {question['window']}")
    database.execute(f"SET VARIABLE tick = {question.get('tick') or live_tick}")
    rows = database.execute(question["sql"])
    names = [column[0] for column in rows.description]
    print(json.dumps([dict(zip(names, row)) for row in rows.fetchall()]))
