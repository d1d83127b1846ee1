package visits;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.KeyValue;
import org.apache.kafka.streams.processor.PunctuationType;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.processor.api.RecordMetadata;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.KeyValueStore;

/**
 * Joins the topics {@code tagged} and {@code lifecycle} of a job, and says each visit when it has ended.
 *
 * <p>The rule is: of each tick first its tags, then its lifecycle, tick by tick. But the two topics come in any
 * interleaving, and nobody knows here how far the other one is. So each message is taken as it comes, with the same
 * result as if it had come in its place:
 * <ul>
 * <li>a revision is applied to the measurements of its tick and of earlier ones that are there, and kept for those that
 *     still come: these get it, and all later ones, when they are tagged;
 * <li>an end waits until its visit has as many measurements as it says. All revisions up to its tick stood before it in
 *     its topic, so measurements can only be added until then, and none is wrong.
 * </ul>
 *
 * <p>Keys of stores sort by bytes: a visit and what belongs to it are next to each other.
 */
final class JoinVisits implements Processor<byte[], byte[], byte[], Change> {
    /** By visit and position of a measurement: the tick of its tag. */
    static final String MEASUREMENTS = "measurements";
    /** By the visit that loses, tick and offset: the message. */
    static final String REVISIONS = "revisions";
    /** By visit: how many of its measurements are missing, and the message of the end that waits for them. */
    static final String ENDS = "ends";

    private static final int ID = 16;

    private final String tagged;
    private final Messages messages;
    private ProcessorContext<byte[], Change> context;
    private KeyValueStore<Bytes, Long> measurements;
    private KeyValueStore<Bytes, byte[]> revisions;
    private KeyValueStore<Bytes, byte[]> ends;
    private long lastTag = Long.MIN_VALUE;

    JoinVisits(String tagged, Path schemas) {
        this.tagged = tagged;
        this.messages = new Messages(schemas);
    }

    @Override
    public void init(ProcessorContext<byte[], Change> context) {
        this.context = context;
        measurements = context.getStateStore(MEASUREMENTS);
        revisions = context.getStateStore(REVISIONS);
        ends = context.getStateStore(ENDS);
        context.schedule(Duration.ofSeconds(10), PunctuationType.WALL_CLOCK_TIME, now -> forgetRevisions());
    }

    @Override
    public void process(Record<byte[], byte[]> record) {
        RecordMetadata place = context.recordMetadata().orElseThrow();
        long tick = tick(record.headers());
        GenericRecord said = messages.decode(record.value());
        if (place.topic().equals(tagged)) {
            lastTag = tick;
            // Visitflow's own fields come first: of these the first is the visit, whatever its name.
            tag(record, tick, ((GenericFixed) said.get(0)).bytes(), Position.of(said));
            return;
        }
        switch (said.getSchema().getName()) {
            case "VisitStarted" -> context.forward(record.withValue(new Change.Started()));
            case "VisitRevised" -> {
                revisions.put(key(id(said, "from"), tick, place.offset()), record.value());
                revise(said, tick);
                context.forward(record.withValue(new Change.Revised()));
            }
            case "VisitEnded" -> {
                byte[] visit = id(said, "visit_id");
                end(record, visit, (Long) said.get("measurements") - measurementsOf(visit).size(), record.value());
            }
            case "CustomerNamed" -> {
                // It concerns no measurement, and need not wait for any.
                context.forward(record.withValue(new Change.Named(said.get("profile") != null)));
            }
            default -> { } // What later versions may say.
        }
    }

    /** The tick of a message. (The time of a record in Kafka is when it was written.) */
    static long tick(org.apache.kafka.common.header.Headers headers) {
        return Long.parseLong(new String(headers.lastHeader("tick").value(), StandardCharsets.US_ASCII));
    }

    private void tag(Record<byte[], byte[]> record, long tick, byte[] visit, Position at) {
        byte[] now = visit;
        Bytes after = key(now, tick, 0);
        for (Revision next = revision(now, after, at); next != null; next = revision(now, after, at)) {
            now = id(next.said, "into");
            // The same place in the order of revisions, among those of the other visit.
            after = Bytes.wrap(ByteBuffer.wrap(next.key.get().clone()).put(now).array());
        }
        measurements.put(key(now, at), tick);
        byte[] waiting = ends.get(Bytes.wrap(now));
        if (waiting != null) {
            long missing = ByteBuffer.wrap(waiting).getLong() - 1;
            end(record, now, missing, Arrays.copyOfRange(waiting, 8, waiting.length));
        }
    }

    private record Revision(Bytes key, GenericRecord said) {}

    /** The first revision from a place on that takes a measurement away from a visit. */
    private Revision revision(byte[] visit, Bytes from, Position at) {
        try (var found = revisions.range(from, key(visit, Long.MAX_VALUE, Long.MAX_VALUE))) {
            while (found.hasNext()) {
                KeyValue<Bytes, byte[]> next = found.next();
                GenericRecord said = messages.decode(next.value);
                Position until = until(said);
                if (first(said).compareTo(at) <= 0 && (until == null || at.compareTo(until) < 0)) {
                    return new Revision(next.key, said);
                }
            }
            return null;
        }
    }

    private void revise(GenericRecord said, long tick) {
        byte[] from = id(said, "from");
        Position until = until(said);
        Bytes end = until == null ? lastOf(from) : key(from, until);
        List<KeyValue<Bytes, Long>> moved = new ArrayList<>();
        try (var found = measurements.range(key(from, first(said)), end)) {
            while (found.hasNext()) {
                KeyValue<Bytes, Long> next = found.next();
                // `until` is behind the last one, while a range has both of its ends.
                if (next.value <= tick && (until == null || !next.key.equals(end))) {
                    moved.add(next);
                }
            }
        }
        for (KeyValue<Bytes, Long> measurement : moved) {
            measurements.delete(measurement.key);
            byte[] key = measurement.key.get().clone();
            measurements.put(Bytes.wrap(ByteBuffer.wrap(key).put(id(said, "into")).array()), measurement.value);
        }
    }

    /** Lets a visit go if none of its measurements is missing, else waits for them. */
    private void end(Record<byte[], byte[]> record, byte[] visit, long missing, byte[] end) {
        if (missing > 0) {
            byte[] waiting = ByteBuffer.allocate(8 + end.length).putLong(missing).put(end).array();
            ends.put(Bytes.wrap(visit), waiting);
            return;
        }
        List<Bytes> own = measurementsOf(visit);
        own.forEach(measurements::delete);
        ends.delete(Bytes.wrap(visit));
        String reason = messages.decode(end).get("reason").toString();
        List<Position> positions = own.stream().map(JoinVisits::position).toList();
        context.forward(record.withValue(new Change.Ended(visit, reason, positions)));
    }

    /** The keys of a visit's measurements, in order. */
    private List<Bytes> measurementsOf(byte[] visit) {
        List<Bytes> own = new ArrayList<>();
        try (KeyValueIterator<Bytes, Long> all = measurements.range(key(visit, 0, 0), lastOf(visit))) {
            all.forEachRemaining(next -> own.add(next.key));
        }
        return own;
    }

    /** Ticks never go back: what is older than the last tag concerns no tag any more. */
    private void forgetRevisions() {
        List<Bytes> old = new ArrayList<>();
        try (var all = revisions.all()) {
            while (all.hasNext()) {
                Bytes key = all.next().key;
                if (ByteBuffer.wrap(key.get()).getLong(ID) < lastTag) {
                    old.add(key);
                }
            }
        }
        old.forEach(revisions::delete);
    }

    private static byte[] id(GenericRecord said, String field) {
        return ((GenericFixed) said.get(field)).bytes();
    }

    private static Position first(GenericRecord said) {
        return new Position((Long) said.get("first_time"), id(said, "first_id"));
    }

    private static Position until(GenericRecord said) {
        Object time = said.get("until_time");
        return time == null ? null : new Position((Long) time, id(said, "until_id"));
    }

    private static Bytes key(byte[] visit, long tick, long offset) {
        return Bytes.wrap(ByteBuffer.allocate(ID + 16).put(visit).putLong(tick).putLong(offset).array());
    }

    /** The key of a measurement; its time with the sign turned, so that times before 1970 sort first. */
    private static Bytes key(byte[] visit, Position at) {
        ByteBuffer key = ByteBuffer.allocate(ID + 8 + ID).put(visit).putLong(at.time() ^ Long.MIN_VALUE).put(at.key());
        return Bytes.wrap(key.array());
    }

    /** A key behind all measurements of a visit. */
    private static Bytes lastOf(byte[] visit) {
        ByteBuffer key = ByteBuffer.allocate(ID + 8 + ID + 1).put(visit);
        while (key.hasRemaining()) {
            key.put((byte) 0xFF);
        }
        return Bytes.wrap(key.array());
    }

    private static Position position(Bytes key) {
        ByteBuffer from = ByteBuffer.wrap(key.get(), ID, 8 + ID);
        long time = from.getLong() ^ Long.MIN_VALUE;
        byte[] event = new byte[ID];
        from.get(event);
        return new Position(time, event);
    }
}
