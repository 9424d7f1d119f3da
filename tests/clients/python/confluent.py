"""confluent-kafka (librdkafka) as a worker: confluent.py HOST:PORT"""

import sys

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from worker import LIMIT_S, Deadline, say, serve, to_bytes, to_hex

BOOTSTRAP = sys.argv[1]


def produce(job):
    producer = Producer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "compression.type": job["codec"],
            "acks": job["acks"],
            "enable.idempotence": job["idempotent"],
            "linger.ms": 20,
            "message.max.bytes": 4 << 20,
            "message.timeout.ms": LIMIT_S * 500,
        }
    )
    acked = [None] * len(job["records"])
    errors = []

    def report(at):
        def on_delivery(error, message):
            if error is not None:
                errors.append(error)
            else:
                acked[at] = message.offset()

        return on_delivery

    for at, record in enumerate(job["records"]):
        headers = [(name, to_bytes(value)) for name, value in record["headers"]]
        producer.produce(
            job["topic"],
            partition=job["partition"],
            key=to_bytes(record["key"]),
            value=to_bytes(record["value"]),
            headers=headers,
            timestamp=max(record["timestamp"], 0),
            on_delivery=report(at),
        )
        producer.poll(0)
    if producer.flush(LIMIT_S):
        raise TimeoutError("records were not delivered")
    if errors:
        raise KafkaException(errors[0])
    return {"acked": acked}


def consumer(job):
    return Consumer(
        {
            "bootstrap.servers": BOOTSTRAP,
            "group.id": "assigned by hand, never joined",
            "enable.auto.commit": False,
            "auto.offset.reset": "error",
            "fetch.wait.max.ms": job.get("max_wait_ms", 500),
            "max.partition.fetch.bytes": job.get("max_partition_bytes", 1 << 20),
        }
    )


def records(consumer, count):
    deadline = Deadline()
    while count > 0:
        deadline.check(f"{count} records did not come")
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error() is not None:
            raise KafkaException(message.error())
        count -= 1
        yield {
            "offset": message.offset(),
            "timestamp": message.timestamp()[1],
            "key": to_hex(message.key()),
            "value": to_hex(message.value()),
            "headers": [[n, to_hex(v)] for n, v in message.headers() or []],
        }


def consume(job):
    c = consumer(job)
    c.assign([TopicPartition(job["topic"], job["partition"], job["from"])])
    seen = list(records(c, job["count"]))
    c.close()
    return {"records": seen}


def follow(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"])
    of.offset = c.get_watermark_offsets(of, LIMIT_S)[1]
    c.assign([of])
    say({"ready": True})
    for record in records(c, job["count"]):
        say(record)
    c.close()
    return {"done": True}


def offset_for_time(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"], job["time"])
    found = c.offsets_for_times([of], LIMIT_S)[0]
    c.close()
    return {"offset": found.offset}


def bounds(job):
    c = consumer(job)
    first, end = c.get_watermark_offsets(
        TopicPartition(job["topic"], job["partition"]), LIMIT_S
    )
    c.close()
    return {"first": first, "end": end}


serve(
    {
        "produce": produce,
        "consume": consume,
        "follow": follow,
        "offset_for_time": offset_for_time,
        "bounds": bounds,
    }
)
