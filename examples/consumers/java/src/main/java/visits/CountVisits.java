package visits;

import java.math.BigInteger;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ListOffsetsOptions;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.IsolationLevel;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.utils.Bytes;
import org.apache.kafka.streams.AutoOffsetReset;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.QueryableStoreTypes;
import org.apache.kafka.streams.state.ReadOnlyKeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/** Counts the visits of a Visitflow job from its topics in Kafka, exactly, and prints a line of JSON. */
public final class CountVisits {
    private static final String USAGE = """
        Counts the visits of a Visitflow job from its topics in Kafka.

          --bootstrap HOST:PORT,…   brokers
          --job NAME                the job's name, with which its topics begin
          --schemas DIR             the job's outputs.schemas (default: schemas in its state.dir)
          --application ID          Kafka Streams' application.id (default: NAME-count-visits); one that was there
                                    goes on where it was
          --until-end               stop where the topics end now; else follow them
        """;

    private final String bootstrap;
    private final String application;
    private final List<String> topics;
    private final Path schemas;

    private CountVisits(Map<String, String> options) {
        String job = options.get("--job");
        bootstrap = options.get("--bootstrap");
        application = options.getOrDefault("--application", job + "-count-visits");
        topics = List.of(job + "-tagged", job + "-lifecycle");
        schemas = Path.of(options.get("--schemas"));
    }

    /** Runs. */
    public static void main(String[] args) throws Exception {
        Map<String, String> options = new HashMap<>();
        for (int i = 0; i < args.length; i++) {
            boolean flag = args[i].equals("--until-end");
            options.put(args[i], flag ? "" : i + 1 < args.length ? args[++i] : null);
        }
        Set<String> known =
            new HashSet<>(List.of("--bootstrap", "--job", "--schemas", "--application", "--until-end"));
        if (!known.containsAll(options.keySet()) || options.containsValue(null)
            || !options.keySet().containsAll(List.of("--bootstrap", "--job", "--schemas"))) {
            System.err.print(USAGE);
            System.exit(2);
        }
        System.exit(new CountVisits(options).run(options.containsKey("--until-end")) ? 0 : 1);
    }

    /**
     * Both topics have as many partitions, and a browser has the same number in both. So each task of Streams has
     * partition n of both, and all that is said of its browsers.
     */
    Topology topology() {
        Topology topology = new Topology();
        var bytes = new ByteArrayDeserializer();
        String[] sources = topics.toArray(String[]::new);
        for (String topic : sources) {
            topology.addSource(AutoOffsetReset.earliest(), topic,
                (record, last) -> JoinVisits.tick(record.headers()), bytes, bytes, topic);
        }
        topology.addProcessor("visits", () -> new JoinVisits(topics.get(0), schemas), sources);
        topology.addProcessor("totals", Totals::new, "visits");
        topology.addStateStore(store(JoinVisits.MEASUREMENTS, Serdes.Bytes(), Serdes.Long()), "visits");
        topology.addStateStore(store(JoinVisits.REVISIONS, Serdes.Bytes(), Serdes.ByteArray()), "visits");
        topology.addStateStore(store(JoinVisits.ENDS, Serdes.Bytes(), Serdes.ByteArray()), "visits");
        topology.addStateStore(store(Totals.STORE, Serdes.String(), Totals.SERDE), "totals");
        return topology;
    }

    /** For more open visits than fit into memory: {@code Stores.persistentKeyValueStore(name)}. */
    private static <K, V> StoreBuilder<KeyValueStore<K, V>> store(String name, Serde<K> keys, Serde<V> values) {
        return Stores.keyValueStoreBuilder(Stores.inMemoryKeyValueStore(name), keys, values);
    }

    private Properties properties(Path state) {
        Properties properties = new Properties();
        properties.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, bootstrap);
        properties.put(StreamsConfig.APPLICATION_ID_CONFIG, application);
        properties.put(StreamsConfig.STATE_DIR_CONFIG, state.toString());
        // Reads only what is committed, and counts each message once, even after a crash.
        properties.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        // So that an instance that went away without a word is soon replaced.
        properties.put(StreamsConfig.consumerPrefix(ConsumerConfig.SESSION_TIMEOUT_MS_CONFIG), 10_000);
        return properties;
    }

    private boolean run(boolean untilEnd) throws Exception {
        Path state = Files.createTempDirectory("count-visits");
        CountDownLatch stopped = new CountDownLatch(1);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
            KafkaStreams streams = new KafkaStreams(topology(), properties(state))) {
            streams.setUncaughtExceptionHandler(error -> {
                error.printStackTrace();
                stopped.countDown();
                return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
            });
            Map<TopicPartition, Long> ends = ends(admin);
            Runtime.getRuntime().addShutdownHook(new Thread(streams::close));
            streams.start();
            String printed = "";
            while (!stopped.await(200, TimeUnit.MILLISECONDS)) {
                if (streams.state() != KafkaStreams.State.RUNNING) {
                    continue;
                }
                if (!untilEnd) {
                    String line = line(streams);
                    if (!line.equals(printed)) {
                        System.out.println(line);
                        printed = line;
                    }
                } else if (isPast(admin, ends)) {
                    System.out.println(line(streams));
                    return true;
                }
            }
            return false;
        } finally {
            try (var files = Files.walk(state)) {
                files.sorted(java.util.Comparator.reverseOrder()).forEach(file -> file.toFile().delete());
            }
        }
    }

    /** Where the topics end, with what is written and not committed yet. */
    private Map<TopicPartition, Long> ends(Admin admin) throws ExecutionException, InterruptedException {
        Map<TopicPartition, OffsetSpec> asked = new HashMap<>();
        for (TopicDescription topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            topic.partitions().forEach(
                part -> asked.put(new TopicPartition(topic.name(), part.partition()), OffsetSpec.latest()));
        }
        Map<TopicPartition, Long> ends = new HashMap<>();
        admin.listOffsets(asked, new ListOffsetsOptions(IsolationLevel.READ_UNCOMMITTED)).all().get()
            .forEach((partition, end) -> ends.put(partition, end.offset()));
        return ends;
    }

    /** Whether all that lies before these offsets has been processed. */
    private boolean isPast(Admin admin, Map<TopicPartition, Long> ends)
        throws ExecutionException, InterruptedException {
        Map<TopicPartition, OffsetAndMetadata> committed =
            admin.listConsumerGroupOffsets(application).partitionsToOffsetAndMetadata().get();
        return ends.entrySet().stream().allMatch(end -> {
            OffsetAndMetadata at = committed.get(end.getKey());
            return end.getValue() == 0 || at != null && at.offset() >= end.getValue();
        });
    }

    /** The sums over the partitions of this instance. */
    private static String line(KafkaStreams streams) {
        Map<String, BigInteger> sums = new HashMap<>();
        try (var all = CountVisits.<String, BigInteger>query(streams, Totals.STORE).all()) {
            all.forEachRemaining(total -> sums.merge(total.key, total.value, (a, b) -> Totals.wrap(a.add(b))));
        }
        Set<Bytes> open = new HashSet<>();
        try (var all = CountVisits.<Bytes, Long>query(streams, JoinVisits.MEASUREMENTS).all()) {
            all.forEachRemaining(next -> open.add(Bytes.wrap(Arrays.copyOf(next.key.get(), 16))));
        }
        sums.put("open", BigInteger.valueOf(open.size()));
        Object[] counts = List.of("begun", "revisions", "named", "known", "inactivity", "length", "size", "open",
            "measurements", "digest").stream().map(name -> sums.getOrDefault(name, BigInteger.ZERO)).toArray();
        return String.format(Locale.ROOT,
            "{\"begun\": %d, \"revisions\": %d, \"named\": %d, \"known\": %d, "
                + "\"ended\": {\"inactivity\": %d, \"length\": %d, \"size\": %d}, "
                + "\"open\": %d, \"measurements\": %d, \"digest\": \"%032x\"}", counts);
    }

    private static <K, V> ReadOnlyKeyValueStore<K, V> query(KafkaStreams streams, String store) {
        return streams.store(StoreQueryParameters.fromNameAndType(store, QueryableStoreTypes.keyValueStore()));
    }
}
