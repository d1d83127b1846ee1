package visits;

import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;

/** Sums over all changes of a partition's visits. A topology of your own has here what visits are for. */
final class Totals implements Processor<byte[], Change, Void, Void> {
    /** By name: the sum. */
    static final String STORE = "totals";
    static final Serde<BigInteger> SERDE = Serdes.serdeFrom(
        (topic, value) -> value.toByteArray(), (topic, bytes) -> new BigInteger(bytes));

    private KeyValueStore<String, BigInteger> totals;

    @Override
    public void init(ProcessorContext<Void, Void> context) {
        totals = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<byte[], Change> record) {
        if (record.value() instanceof Change.Ended ended) {
            add(ended.reason(), BigInteger.ONE);
            add("measurements", BigInteger.valueOf(ended.measurements().size()));
            BigInteger digest = BigInteger.ZERO;
            for (Position at : ended.measurements()) {
                digest = digest.add(hash(at, ended.visit()));
            }
            add("digest", digest);
        } else if (record.value() instanceof Change.Named named) {
            add("named", BigInteger.ONE);
            add("known", named.isKnown() ? BigInteger.ONE : BigInteger.ZERO);
        } else {
            add(record.value() instanceof Change.Started ? "begun" : "revisions", BigInteger.ONE);
        }
    }

    private void add(String name, BigInteger amount) {
        BigInteger before = totals.get(name);
        totals.put(name, wrap(before == null ? amount : before.add(amount)));
    }

    /** A sum modulo 2^128. It is the same in whatever order visits end. */
    static BigInteger wrap(BigInteger sum) {
        return sum.mod(BigInteger.ONE.shiftLeft(128));
    }

    private static BigInteger hash(Position at, byte[] visit) {
        byte[] time = ByteBuffer.allocate(8).order(ByteOrder.LITTLE_ENDIAN).putLong(at.time()).array();
        byte[] hash = Position.sha256(at.key(), time, visit);
        byte[] number = new byte[16];
        for (int i = 0; i < 16; i++) {
            number[15 - i] = hash[i];
        }
        return new BigInteger(1, number);
    }
}
