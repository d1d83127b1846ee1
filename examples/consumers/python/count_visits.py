#!/usr/bin/env python3
"""Counts the visits of a Visitflow job from its topics in Kafka, exactly, and prints a line of JSON.

For readers who want to copy it: `Schemas` finds the schema of a message, `Partition` takes the topics `tagged` and
`lifecycle` together tick by tick, `Visits` applies what they say. It keeps the measurements of open visits in memory,
and its place nowhere: each run begins at the topics' beginning. See README.md beside this file.
"""

import argparse
import hashlib
import io
import json
import pathlib
import sys
import time
import uuid
from collections import Counter, defaultdict, deque

import fastavro
import fastavro.read
import fastavro.schema
from confluent_kafka import OFFSET_BEGINNING, OFFSET_END, Consumer, KafkaError, KafkaException, TopicPartition

# Times stay milliseconds since 1970: they are compared with one another, and a datetime reaches to the year 9999 only.
fastavro.read.LOGICAL_READERS["long-timestamp-millis"] = lambda millis, *_: millis


class Schemas:
    """The schemas in a folder, by the fingerprint with which a message begins."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.known = {}

    def decode(self, message):
        """The name of a message's schema, without its namespace; the names of its fields by role; its content."""
        if message[:2] != b"\xc3\x01":
            raise ValueError(f"a message that begins with {message[:2].hex()}, expected c301")
        fingerprint = message[2:10].hex()
        if fingerprint not in self.known:
            self.read_folder()
        if fingerprint not in self.known:
            raise LookupError(f"no schema in {self.folder} has the fingerprint {fingerprint}")
        name, roles, schema = self.known[fingerprint]
        return name, roles, fastavro.schemaless_reader(io.BytesIO(message[10:]), schema, None)

    def read_folder(self):
        # The job puts a schema here before it commits the first message of it.
        for path in self.folder.glob("*.avsc"):
            schema = json.loads(path.read_text(encoding="utf-8"))
            canonical = fastavro.schema.to_parsing_canonical_form(schema)
            # Hexadecimal, with the least byte first, as in the message. (Other libraries give the number.)
            fingerprint = fastavro.schema.fingerprint(canonical, "CRC-64-AVRO")
            # A measurement's ID and time are those fields that have the role, whatever their names. Visitflow's own
            # fields come first: of `tagged` the first is the visit, even if its name had to give way to another.
            roles = {field["role"]: field["name"] for field in schema["fields"] if "role" in field}
            roles["visit_id"] = schema["fields"][0]["name"]
            self.known[fingerprint] = schema["name"].split(".")[-1], roles, fastavro.parse_schema(schema)


def event_key(event_id):
    """The 16 bytes that stand for an event_id in positions, and sort as it does."""
    if isinstance(event_id, int):
        return (event_id + 2**63).to_bytes(8, "big") + bytes(7) + b"\xff"
    if isinstance(event_id, str):
        try:
            found = uuid.UUID(event_id)
            if str(found) == event_id.lower():
                return found.bytes
        except ValueError:
            pass
        event_id = event_id.encode()
    elif len(event_id) == 16:
        return event_id
    if len(event_id) < 16:
        return event_id.ljust(15, b"\0") + bytes([len(event_id)])
    return hashlib.sha256(event_id).digest()[:16]


class Partition:
    """Partition n of both topics: what has been read of it and not been applied yet."""

    TOPICS = ("tagged", "lifecycle")

    def __init__(self):
        self.waiting = {topic: deque() for topic in self.TOPICS}
        self.last_tick = dict.fromkeys(self.TOPICS, -1)
        # Everything before these offsets has been read.
        self.position = dict.fromkeys(self.TOPICS, 0)
        # Nothing more will come of ticks up to this one.
        self.settled = -1

    def add(self, topic, message):
        tick = int(dict(message.headers())["tick"])
        self.last_tick[topic] = tick
        self.waiting[topic].append((tick, message.value()))

    def complete(self):
        """What both topics say of complete ticks: of each tick all tags, then what became known of visits."""
        # Ticks never go back. So those before the last one are complete, if both topics have come to it.
        before = max(min(self.last_tick.values()), self.settled + 1)
        tags, said = self.waiting["tagged"], self.waiting["lifecycle"]
        while True:
            if tags and tags[0][0] < before and (not said or tags[0][0] <= said[0][0]):
                yield "tagged", tags.popleft()[1]
            elif said and said[0][0] < before:
                yield "lifecycle", said.popleft()[1]
            else:
                return


class Visits:
    """The open visits with the positions of their measurements, and sums over those that have ended."""

    def __init__(self):
        # A visit's ID is made from its browser's, so no two browsers share one.
        self.open = defaultdict(set)
        self.begun = self.revisions = self.named = self.known = self.measurements = self.digest = 0
        self.ended = Counter(inactivity=0, length=0, size=0)

    def apply(self, topic, name, roles, record):
        if topic == "tagged":
            at = record[roles["event_time"]], event_key(record[roles["event_id"]])
            self.open[record[roles["visit_id"]]].add(at)
        elif name == "VisitStarted":
            self.begun += 1
        elif name == "VisitRevised":
            self.revisions += 1
            first, until = (record["first_time"], record["first_id"]), (record["until_time"], record["until_id"])
            own = self.open[record["from"]]
            moved = {at for at in own if first <= at and (until[0] is None or at < until)}
            own -= moved
            self.open[record["into"]] |= moved
            if not own:
                # It is no more; no VisitEnded will come.
                del self.open[record["from"]]
        elif name == "VisitEnded":
            self.end(record, self.open.pop(record["visit_id"], set()))
        elif name == "CustomerNamed":
            self.name(record)
        # Any other is of a later version.

    def name(self, named):
        """A customer is named in a visit for the first time: here a reader of your own greets them by what they like."""
        self.named += 1
        self.known += named["profile"] is not None

    def end(self, ended, own):
        """A visit can no longer change: here a reader of your own does with it what it is for."""
        if len(own) != ended["measurements"]:
            visit = ended["visit_id"].hex()
            raise ValueError(f"visit {visit} ends with {ended['measurements']} measurements, but {len(own)} were read")
        self.ended[ended["reason"]] += 1
        self.measurements += len(own)
        # A sum, so that it is the same in whatever order visits end.
        for at, event in own:
            hashed = hashlib.sha256(event + at.to_bytes(8, "little", signed=True) + ended["visit_id"]).digest()
            self.digest = (self.digest + int.from_bytes(hashed[:16], "little")) % 2**128

    def line(self):
        counts = {"begun": self.begun, "revisions": self.revisions, "named": self.named, "known": self.known}
        ended = {"ended": dict(self.ended), "open": len(self.open), "measurements": self.measurements}
        return json.dumps({**counts, **ended, "digest": f"{self.digest:032x}"})


def partitions_of(consumer, topics):
    """How many partitions the topics have."""
    counts = {}
    for topic in topics:
        found = consumer.list_topics(topic, timeout=30).topics[topic]
        if found.error is not None:
            raise KafkaException(found.error)
        counts[topic] = len(found.partitions)
    if len(set(counts.values())) != 1:
        raise ValueError(f"topics of different numbers of partitions: {counts}; expected those of one job")
    return counts[topics[0]]


def count(options):
    consumer = Consumer({
        "bootstrap.servers": options.bootstrap,
        "group.id": "count-visits",  # must be there; it is not used
        "enable.auto.commit": False,
        "isolation.level": "read_committed",  # the default of this client, but not of all
        "auto.offset.reset": "error",  # what has been deleted cannot be counted
        "enable.partition.eof": True,
    })
    # It reads nothing. (AdminClient.list_offsets of version 2.16 never recovers after a change of a partition's leader.)
    watching = Consumer({
        "bootstrap.servers": options.bootstrap,
        "group.id": "count-visits",
        "isolation.level": "read_uncommitted",  # so that an end is the high watermark
    })
    topic_of = {f"{options.job}-{topic}": topic for topic in Partition.TOPICS}
    partitions = [Partition() for _ in range(partitions_of(consumer, list(topic_of)))]
    places = [TopicPartition(name, n, OFFSET_BEGINNING) for name in topic_of for n in range(len(partitions))]
    consumer.assign(places)
    schemas, visits, printed = Schemas(options.schemas), Visits(), ""

    def high_watermarks(attempts=60):
        """Where each topic ends, with what is written and not committed yet."""
        try:
            ends = watching.offsets_for_times([TopicPartition(at.topic, at.partition, OFFSET_END) for at in places], 10)
            for failed in (end.error for end in ends if end.error):
                raise KafkaException(failed)
            return [(partitions[end.partition], topic_of[end.topic], end.offset) for end in ends]
        except KafkaException:
            # A broker that is away, or a partition with another leader, of which the client hears by this error.
            if attempts == 1:
                raise
            time.sleep(1)
            return high_watermarks(attempts - 1)

    # A tick is written to both topics before it is committed in either. So if we ask for the high watermarks *after* we
    # have seen a tick in one topic, all that the other says of it lies before its own.
    for round_number in range(sys.maxsize):
        seen = [max(partition.last_tick.values()) for partition in partitions]
        ends = high_watermarks()
        while True:
            for message in consumer.consume(5_000, timeout=0.5):
                error = message.error()
                if error and error.code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(error)
                partition, topic = partitions[message.partition()], topic_of[message.topic()]
                # That of an end lies behind the marks of transactions, which are no messages but have offsets.
                partition.position[topic] = message.offset() + (0 if error else 1)
                if not error:
                    partition.add(topic, message)
            passed = all(partition.position[topic] >= end for partition, topic, end in ends)
            for partition, tick in zip(partitions, seen):
                if passed:
                    partition.settled = tick
                for topic, message in partition.complete():
                    visits.apply(topic, *schemas.decode(message))
            if passed:
                break
        # The first round reads up to where the topics ended, the second makes the last ticks of it complete.
        if options.until_end and round_number == 1:
            print(visits.line())
            return
        if not options.until_end and visits.line() != printed:
            printed = visits.line()
            print(printed, flush=True)


def main():
    options = argparse.ArgumentParser(description="Counts the visits of a Visitflow job from its topics in Kafka.")
    options.add_argument("--bootstrap", required=True, help="brokers, HOST:PORT,…")
    options.add_argument("--job", required=True, help="the job's name, with which its topics begin")
    options.add_argument("--schemas", required=True, help="the job's outputs.schemas, or schemas in its state.dir")
    options.add_argument("--until-end", action="store_true", help="stop where the topics end now; else follow them")
    try:
        count(options.parse_args())
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
