// Kafka's own idempotent producer, which sends numbered records until it is killed or its standard
// input ends. Run with Kafka's jars on the class path:
//   java -cp 'jars/*' Producer.java HOST:PORT TOPIC PARTITIONS SEED
// It says in lines what it was told: "acked PARTITION NUMBER OFFSET", "failed WHAT".

import java.io.BufferedWriter;
import java.io.IOException;
import java.io.OutputStreamWriter;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.Properties;
import java.util.Random;
import java.util.concurrent.Semaphore;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public class Producer {
    static final int IN_FLIGHT = 200;
    static final int BURST = 16;
    static final long PAUSE_MS = 8;

    static BufferedWriter out =
            new BufferedWriter(new OutputStreamWriter(System.out, StandardCharsets.UTF_8));

    static synchronized void say(String line) {
        try {
            out.write(line);
            out.newLine();
            out.flush();
        } catch (IOException e) {
            Runtime.getRuntime().halt(1); // whoever started this is gone
        }
    }

    /** The value of a record, as tests/support/history.rs makes and checks it. */
    static byte[] value(long number, int length) {
        ByteBuffer bytes = ByteBuffer.allocate(8 * ((Math.max(length, 8) + 7) / 8));
        bytes.putLong(number);
        long state = number * 0x9e3779b97f4a7c15L | 1;
        while (bytes.hasRemaining()) {
            state ^= state << 13;
            state ^= state >>> 7;
            state ^= state << 17;
            bytes.putLong(state);
        }
        return bytes.array();
    }

    static Properties config(String bootstrap) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("enable.idempotence", true);
        config.put("acks", "all");
        config.put("linger.ms", 2);
        config.put("max.request.size", 4_000_000);
        config.put("compression.type", "lz4");
        config.put("request.timeout.ms", 2_000);
        config.put("delivery.timeout.ms", 120_000);
        config.put("max.block.ms", 120_000);
        config.put("retry.backoff.ms", 20);
        config.put("retry.backoff.max.ms", 100);
        config.put("reconnect.backoff.ms", 20);
        config.put("reconnect.backoff.max.ms", 100);
        return config;
    }

    public static void main(String[] args) throws Exception {
        String topic = args[1];
        int partitions = Integer.parseInt(args[2]);
        Random random = new Random(Long.parseLong(args[3]));
        Thread leash = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {}
            } catch (IOException e) {
                // an end too
            }
            Runtime.getRuntime().halt(0);
        });
        leash.setDaemon(true);
        leash.start();
        KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(
                        config(args[0]), new ByteArraySerializer(), new ByteArraySerializer());
        Semaphore room = new Semaphore(IN_FLIGHT);
        long[] numbers = new long[partitions];
        while (true) {
            for (int i = 0; i < BURST && room.tryAcquire(); i++) {
                int partition = random.nextInt(partitions);
                long number = numbers[partition]++;
                int kind = random.nextInt(1000);
                int length = kind == 0 ? 400_000 : kind < 10 ? 20_000 : 8 + random.nextInt(300);
                producer.send(
                        new ProducerRecord<>(topic, partition, null, value(number, length)),
                        (told, error) -> {
                            room.release();
                            if (error == null) {
                                say("acked " + partition + " " + number + " " + told.offset());
                            } else {
                                say("failed record " + number + ": " + error);
                            }
                        });
            }
            Thread.sleep(PAUSE_MS);
        }
    }
}
