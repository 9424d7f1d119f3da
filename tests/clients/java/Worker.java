// The Java producer and consumer, driven by lines of JSON: one job a line in, one or more lines
// out. Run with Kafka's jars on the class path: java -cp 'jars/*' Worker.java HOST:PORT
// The jobs and their answers are described in tests/clients/worker.rs.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndTimestamp;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Worker {
    static final ObjectMapper JSON = new ObjectMapper();
    static final HexFormat HEX = HexFormat.of();
    static final long LIMIT_MS = 60_000;
    static PrintStream out;
    static String bootstrap;

    public static void main(String[] args) throws Exception {
        bootstrap = args[0];
        out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in =
                new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode job = JSON.readTree(line);
            ObjectNode answer = JSON.createObjectNode();
            try {
                switch (job.get("do").asText()) {
                    case "produce" -> produce(job, answer);
                    case "consume" -> consume(job, answer);
                    case "follow" -> follow(job, answer);
                    case "offset_for_time" -> offsetForTime(job, answer);
                    case "bounds" -> bounds(job, answer);
                    case "describe" -> describe(job, answer);
                    default -> answer.put("error", "unknown job");
                }
            } catch (Exception e) {
                Throwable cause = e.getCause() != null ? e.getCause() : e;
                answer.removeAll();
                answer.put("error", cause.getClass().getSimpleName() + ": " + cause.getMessage());
            }
            say(answer);
        }
    }

    static void say(ObjectNode answer) {
        out.println(answer);
        out.flush();
    }

    static byte[] bytes(JsonNode hex) {
        return hex.isNull() ? null : HEX.parseHex(hex.asText());
    }

    static String hex(byte[] bytes) {
        return bytes == null ? null : HEX.formatHex(bytes);
    }

    static TopicPartition partition(JsonNode job) {
        return new TopicPartition(job.get("topic").asText(), job.get("partition").asInt());
    }

    static void produce(JsonNode job, ObjectNode answer) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("compression.type", job.get("codec").asText());
        config.put("acks", job.get("acks").asText());
        config.put("enable.idempotence", job.get("idempotent").asBoolean());
        config.put("linger.ms", 20);
        config.put("max.request.size", 4 << 20);
        config.put("delivery.timeout.ms", (int) LIMIT_MS / 2);
        config.put("request.timeout.ms", (int) LIMIT_MS / 4);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer())) {
            TopicPartition to = partition(job);
            for (JsonNode record : job.get("records")) {
                long time = record.get("timestamp").asLong();
                ProducerRecord<byte[], byte[]> r =
                        new ProducerRecord<>(
                                to.topic(),
                                to.partition(),
                                time < 0 ? null : time,
                                bytes(record.get("key")),
                                bytes(record.get("value")));
                for (JsonNode header : record.get("headers")) {
                    r.headers().add(header.get(0).asText(), bytes(header.get(1)));
                }
                sent.add(producer.send(r));
            }
            producer.flush();
            ArrayNode acked = answer.putArray("acked");
            for (Future<RecordMetadata> future : sent) {
                acked.add(future.get().offset());
            }
        }
    }

    static KafkaConsumer<byte[], byte[]> consumer(JsonNode job) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("auto.offset.reset", "none");
        config.put("enable.auto.commit", false);
        config.put("fetch.max.wait.ms", job.path("max_wait_ms").asInt(500));
        config.put("max.partition.fetch.bytes", job.path("max_partition_bytes").asInt(1 << 20));
        return new KafkaConsumer<>(
                config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static ObjectNode seen(ConsumerRecord<byte[], byte[]> r) {
        ObjectNode node = JSON.createObjectNode();
        node.put("offset", r.offset());
        node.put("timestamp", r.timestamp());
        node.put("key", hex(r.key()));
        node.put("value", hex(r.value()));
        ArrayNode headers = node.putArray("headers");
        for (Header header : r.headers()) {
            headers.addArray().add(header.key()).add(hex(header.value()));
        }
        return node;
    }

    static void consume(JsonNode job, ObjectNode answer) {
        TopicPartition from = partition(job);
        int count = job.get("count").asInt();
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        ArrayNode records = answer.putArray("records");
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(job)) {
            consumer.assign(List.of(from));
            consumer.seek(from, job.get("from").asLong());
            while (records.size() < count) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException("only " + records.size() + " records came");
                }
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    records.add(seen(r));
                }
            }
        }
    }

    static void follow(JsonNode job, ObjectNode answer) {
        TopicPartition from = partition(job);
        int left = job.get("count").asInt();
        long deadline = System.nanoTime() + LIMIT_MS * 1_000_000;
        KafkaConsumer<byte[], byte[]> consumer = consumer(job);
        try {
            consumer.assign(List.of(from));
            consumer.seek(from, consumer.endOffsets(List.of(from)).get(from));
            say(JSON.createObjectNode().put("ready", true));
            while (left > 0) {
                if (System.nanoTime() > deadline) {
                    throw new IllegalStateException(left + " records did not come");
                }
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(200))) {
                    say(seen(r));
                    left--;
                }
            }
        } finally {
            // a patient close waits for the answer of the fetch in flight
            consumer.close(CloseOptions.timeout(Duration.ZERO));
        }
        answer.put("done", true);
    }

    static void offsetForTime(JsonNode job, ObjectNode answer) {
        TopicPartition of = partition(job);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(job)) {
            OffsetAndTimestamp found =
                    consumer.offsetsForTimes(Map.of(of, job.get("time").asLong())).get(of);
            answer.put("offset", found == null ? -1 : found.offset());
        }
    }

    static void describe(JsonNode job, ObjectNode answer) throws Exception {
        String topic = job.get("topic").asText();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            TopicDescription of =
                    admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            answer.put("partitions", of.partitions().size());
            answer.put("replicas", of.partitions().get(0).replicas().size());
            answer.put("nodes", admin.describeCluster().nodes().get().size());
        }
    }

    static void bounds(JsonNode job, ObjectNode answer) {
        TopicPartition of = partition(job);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(job)) {
            answer.put("first", consumer.beginningOffsets(List.of(of)).get(of));
            answer.put("end", consumer.endOffsets(List.of(of)).get(of));
        }
    }
}
