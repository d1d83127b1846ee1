package visits;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.message.BinaryMessageDecoder;
import org.apache.avro.message.MissingSchemaException;
import org.apache.avro.message.SchemaStore;

/**
 * Decodes messages by the schemas in a folder. A record keeps the schema with which it was written, and all of its
 * fields; times are milliseconds since 1970. For one thread.
 */
final class Messages {
    private final Path folder;
    private final SchemaStore.Cache known = new SchemaStore.Cache();
    private final Map<Long, BinaryMessageDecoder<GenericRecord>> decoders = new HashMap<>();

    /** Messages whose schemas are in this folder: the job's {@code outputs.schemas}. */
    Messages(Path folder) {
        this.folder = folder;
    }

    GenericRecord decode(byte[] message) {
        try {
            // A BinaryMessageDecoder would bring all messages into one schema. Here each is read as it was written.
            return decoders.computeIfAbsent(fingerprint(message), this::decoder).decode(message);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    private static long fingerprint(byte[] message) {
        if (message.length < 10 || message[0] != (byte) 0xC3 || message[1] != 1) {
            throw new IllegalArgumentException("no message in Avro's single-object encoding");
        }
        return ByteBuffer.wrap(message).order(ByteOrder.LITTLE_ENDIAN).getLong(2);
    }

    private BinaryMessageDecoder<GenericRecord> decoder(long fingerprint) {
        Schema schema = known.findByFingerprint(fingerprint);
        if (schema == null) {
            // The job puts a schema there before it commits the first message of it.
            readFolder();
            schema = known.findByFingerprint(fingerprint);
        }
        if (schema == null) {
            throw new MissingSchemaException(
                String.format("no schema in %s has the fingerprint %016x", folder, fingerprint));
        }
        return new BinaryMessageDecoder<>(GenericData.get(), schema);
    }

    private void readFolder() {
        try (DirectoryStream<Path> files = Files.newDirectoryStream(folder, "*.avsc")) {
            for (Path file : files) {
                // One parser a file, as a parser knows each name once.
                known.addSchema(new Schema.Parser().parse(file.toFile()));
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }
}
