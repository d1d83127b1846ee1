package visits;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import java.util.regex.Pattern;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericFixed;
import org.apache.avro.generic.GenericRecord;

/**
 * The place of a measurement among those of its browser: its event time, then its event key, the 16 bytes that stand
 * for its {@code event_id} and sort as it does.
 */
record Position(long time, byte[] key) implements Comparable<Position> {
    private static final Pattern UUID = Pattern.compile("\\p{XDigit}{8}(-\\p{XDigit}{4}){3}-\\p{XDigit}{12}");

    /** Where a tagged measurement is. Its ID and its time are the fields that have the role, whatever their names. */
    static Position of(GenericRecord tagged) {
        return new Position((Long) byRole(tagged, "event_time"), key(byRole(tagged, "event_id")));
    }

    @Override
    public int compareTo(Position other) {
        int byTime = Long.compare(time, other.time);
        return byTime != 0 ? byTime : Arrays.compareUnsigned(key, other.key);
    }

    private static Object byRole(GenericRecord record, String role) {
        for (Schema.Field field : record.getSchema().getFields()) {
            if (role.equals(field.getProp("role"))) {
                return record.get(field.pos());
            }
        }
        throw new IllegalArgumentException("no field of " + record.getSchema().getFullName() + " has the role " + role);
    }

    private static byte[] key(Object id) {
        if (id instanceof Number number) {
            byte[] key = ByteBuffer.allocate(16).putLong(number.longValue() ^ Long.MIN_VALUE).array();
            key[15] = (byte) 0xFF;
            return key;
        }
        byte[] bytes;
        if (id instanceof CharSequence text) {
            if (UUID.matcher(text).matches()) {
                java.util.UUID uuid = java.util.UUID.fromString(text.toString());
                return ByteBuffer.allocate(16)
                    .putLong(uuid.getMostSignificantBits()).putLong(uuid.getLeastSignificantBits()).array();
            }
            bytes = text.toString().getBytes(StandardCharsets.UTF_8);
        } else {
            bytes = id instanceof GenericFixed fixed ? fixed.bytes() : bytesOf((ByteBuffer) id);
            if (bytes.length == 16) {
                return bytes;
            }
        }
        if (bytes.length > 15) {
            return Arrays.copyOf(sha256(bytes), 16);
        }
        byte[] key = Arrays.copyOf(bytes, 16);
        key[15] = (byte) bytes.length;
        return key;
    }

    private static byte[] bytesOf(ByteBuffer buffer) {
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return bytes;
    }

    static byte[] sha256(byte[]... parts) {
        try {
            MessageDigest digest = MessageDigest.getInstance("SHA-256");
            for (byte[] part : parts) {
                digest.update(part);
            }
            return digest.digest();
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException("every Java has SHA-256", error);
        }
    }
}
