"""kafka-python (pure Python) as a worker: pure.py HOST:PORT"""

import sys

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from worker import LIMIT_S, Deadline, say, serve, to_bytes, to_hex

BOOTSTRAP = sys.argv[1]


def produce(job):
    acks = job["acks"]
    producer = KafkaProducer(
        bootstrap_servers=BOOTSTRAP,
        compression_type=None if job["codec"] == "none" else job["codec"],
        acks=acks if acks == "all" else int(acks),
        enable_idempotence=job["idempotent"],
        linger_ms=20,
        max_request_size=4 << 20,
        delivery_timeout_ms=LIMIT_S * 500,
        request_timeout_ms=LIMIT_S * 250,
    )
    sent = []
    for record in job["records"]:
        time = record["timestamp"]
        sent.append(
            producer.send(
                job["topic"],
                partition=job["partition"],
                key=to_bytes(record["key"]),
                value=to_bytes(record["value"]),
                headers=[(n, to_bytes(v)) for n, v in record["headers"]],
                timestamp_ms=None if time < 0 else time,
            )
        )
    producer.flush(LIMIT_S)
    acked = [future.get(LIMIT_S).offset for future in sent]
    producer.close()
    return {"acked": acked}


def consumer(job):
    return KafkaConsumer(
        bootstrap_servers=BOOTSTRAP,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        fetch_max_wait_ms=job.get("max_wait_ms", 500),
        request_timeout_ms=LIMIT_S * 1000,
        max_partition_fetch_bytes=job.get("max_partition_bytes", 1 << 20),
    )


def records(consumer, count):
    deadline = Deadline()
    while count > 0:
        deadline.check(f"{count} records did not come")
        for batch in consumer.poll(timeout_ms=200).values():
            for r in batch:
                count -= 1
                yield {
                    "offset": r.offset,
                    "timestamp": r.timestamp,
                    "key": to_hex(r.key),
                    "value": to_hex(r.value),
                    "headers": [[n, to_hex(v)] for n, v in r.headers],
                }


def consume(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"])
    c.assign([of])
    c.seek(of, job["from"])
    seen = list(records(c, job["count"]))
    c.close()
    return {"records": seen}


def follow(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"])
    c.assign([of])
    c.seek(of, c.end_offsets([of])[of])
    say({"ready": True})
    for record in records(c, job["count"]):
        say(record)
    c.close()
    return {"done": True}


def offset_for_time(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"])
    found = c.offsets_for_times({of: job["time"]})[of]
    c.close()
    return {"offset": -1 if found is None else found.offset}


def bounds(job):
    c = consumer(job)
    of = TopicPartition(job["topic"], job["partition"])
    answer = {"first": c.beginning_offsets([of])[of], "end": c.end_offsets([of])[of]}
    c.close()
    return answer


serve(
    {
        "produce": produce,
        "consume": consume,
        "follow": follow,
        "offset_for_time": offset_for_time,
        "bounds": bounds,
    }
)
