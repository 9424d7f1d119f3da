"""Runs the loads of the comparison against each peer in turn; called by run.sh, which says what
its arguments are. Writes one JSON a run, and a table in Markdown and as a picture."""

import argparse
import contextlib
import datetime
import json
import math
import os
import pathlib
import platform
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
CORELANE = os.environ["CORELANE"]
PORT = 19192
START_LIMIT_S = 120
STOP_LIMIT_S = 120
# a load that takes so much longer than it should has hung
GRACE_S = 240
REST_S = 40
# not measured: a virtual machine compiles what it runs often, and starts cold; at a rate that no
# disk is filled by
WARM_UP = ["produce", "--batch-bytes", "16384", "--partitions", "16", "--producers", "4",
           "--rate", "50000"]

# what users weigh, and what the picture shows
PROMISE = ("corelane, flushed", "kafka, acked")
OURS = ("corelane, flushed", "corelane, acked")

KIB, MIB = 1 << 10, 1 << 20

# name, arguments of `corelane bench`, what is compared: a way through its JSON and whether less
# is better
CPU = ("CPU-s/GB", ("cost", "machine_without_load_cpu_s_per_gb"), True)
EACH = ("CPU us/request", ("cost", "machine_without_load_cpu_us_each"), True)
RATE = ("records/s", ("results", "acked", "records_per_s"), False)
READ = ("MB/s", ("results", "read", "mb_per_s"), False)
MBS = ("MB/s", ("results", "acked", "mb_per_s"), False)


def latency(side, *quantiles):
    return [(f"{q} ms", ("results", side, "latency_ms", q), True) for q in quantiles]


def produce(batch, partitions, record=KIB, *more):
    return ["produce", "--batch-bytes", str(batch), "--partitions", str(partitions),
            "--record-bytes", str(record), *more]


# those that a peer runs one after the other in one process
LOADS = [
    ("1 KiB records, 16 KiB batches, 16 partitions", produce(16 * KIB, 16), [MBS, CPU]),
    ("1 KiB records, 64 KiB batches, 1 partition", produce(64 * KIB, 1), [MBS, CPU]),
    ("1 KiB records, 64 KiB batches, 16 partitions, 16 producers",
     produce(64 * KIB, 16, KIB, "--producers", "16"), [MBS, CPU]),
    ("1 KiB records, 1 MiB batches, 16 partitions", produce(1_000_000, 16), [MBS, CPU]),
    ("10 KiB records, 64 KiB batches, 16 partitions", produce(64 * KIB, 16, 10 * KIB), [MBS, CPU]),
    ("100 B records, lz4, idempotent, 256 partitions",
     produce(16 * KIB, 256, 100, "--codec", "lz4", "--compressible", "4", "--idempotent",
             "--producers", "4"), [RATE, CPU]),
    ("one 100 B record a request, 64 connections",
     produce(1, 64, 100, "--producers", "64", "--depth", "1"),
     [RATE, *latency("acked", "p50", "p99")]),
    ("137 MB/s of 64 KiB batches, open loop",
     produce(64 * KIB, 16, KIB, "--rate", "133800", "--linger-ms", "5", "--producers", "4"),
     [*latency("acked", "p99", "p99.9"), CPU]),
    ("2,100 requests/s of 64 KiB, open loop",
     produce(1, 16, 65_000, "--rate", "2100", "--producers", "4"),
     latency("acked", "p50", "p99", "p99.9")),
    ("1,000 requests/s of 1 KiB, open loop", produce(1, 1, KIB, "--rate", "1000"),
     latency("acked", "p50", "p99", "p99.9")),
    ("end to end, 1,000/s of 1 KiB", ["e2e", "--batch-bytes", "1", "--rate", "1000"],
     latency("read", "p50", "p99", "p99.9")),
    ("1000 partitions, 20,000 records/s, linger 5 ms",
     produce(16 * KIB, 1000, KIB, "--rate", "20000", "--linger-ms", "5", "--producers", "16"),
     [*latency("acked", "p50", "p99"), ("topic ready, s", ("topic_ready_s",), True)]),
    ("first request of 64 KiB to each of 1000 partitions, 2,000/s",
     produce(1, 1000, 65_000, "--rate", "2000", "--producers", "4", "--warmup", "0.001",
             "--duration", "0.5"),
     latency("acked", "p50", "p99")),
    ("ApiVersions, 64 connections", ["ping"],
     [EACH, *latency("answered", "p50", "p99")]),
    ("fetch 1 MiB at a time", ["consume", "--fill", "500000"], [READ, CPU]),
    ("fetch 16 KiB at a time, 64 connections",
     ["consume", "--fill", "500000", "--batch-bytes", "16384", "--fetch-bytes", "16384",
      "--partitions", "64", "--consumers", "64"],
     [READ, EACH]),
    ("read from the start while writing",
     ["backlog", "--fill", "1000000", "--rate", "50000", "--partitions", "16"],
     [("read MB/s", ("drained", "mb_per_s"), False), *latency("acked", "p99")]),
    ("20,000 records/s, a reader at the end, one with 100 MB/s at the start",
     ["mixed", "--fill", "300000", "--rate", "20000", "--partitions", "16", "--replay-mb-s", "100"],
     latency("read", "p50", "p99")),
]
# a process of its own, for which nothing of what it reads is in memory
COLD = ("fetch 1 MiB at a time from the disk, 4 connections",
        ["consume", "--cold", "--fill", "1500000", "--partitions", "4", "--consumers", "4"],
        [READ, CPU])
# a process of its own with so many topics of so many partitions, each of which has records
MANY = "10,000 partitions"
MANY_TOPICS, MANY_PARTITIONS = 10, 1000
MANY_METRICS = [("MiB resident", ("many_mib",), True), ("clean stop, s", ("stop_s",), True),
                ("start, s", ("start_s",), True),
                ("start after SIGKILL, s", ("restart_s",), True)]
# Kafka's own load
WITNESS = "perf-test"
# of the process, beside the loads
PROCESS = [
    ("start", [("s", ("start_s",), True), ("MiB resident", ("idle_mib",), True)]),
    ("after all loads and a rest", [("MiB resident", ("loaded_mib",), True), ("stop, s", ("stop_s",), True)]),
]


class Peer:
    """A script of peers/, with a class of durability."""

    def __init__(self, name, durability, options):
        self.name, self.durability, self.options = name, durability, options
        self.script = HERE / "peers" / f"{name}.sh"
        self.dir = options.dir / f"{name}-{durability}"
        self.process = None

    def tells(self, command):
        """What its script prints on `about` or `takes`."""
        told = subprocess.run([self.script, command], capture_output=True, text=True, check=True)
        return told.stdout.strip()

    def call(self, command):
        arguments = [self.script, command, self.durability, self.dir, str(PORT)]
        return [str(argument) for argument in arguments]

    def start(self, **environment):
        """Seconds from the start of the process to the first answer."""
        if answers():
            sys.exit(f"something listens on port {PORT} already")
        begun = time.monotonic()
        with open(self.dir / "log", "ab") as log:
            self.process = subprocess.Popen(
                ["taskset", "-c", self.options.broker_cores, *self.call("run")],
                stdout=log, stderr=log, start_new_session=True, env={**os.environ, **environment})
        while not answers():
            if self.process.poll() is not None:
                tail = (self.dir / "log").read_text(errors="replace")[-2000:]
                sys.exit(f"{self.name} ended at its start:\n{tail}")
            if time.monotonic() - begun > START_LIMIT_S:
                sys.exit(f"{self.name} does not answer after {START_LIMIT_S} s")
            time.sleep(0.002)
        took = time.monotonic() - begun
        if self.process.poll() is not None:
            sys.exit(f"{self.name} ended, and something else answers on port {PORT}")
        return took

    def resident_mib(self):
        if self.process.poll() is not None:
            sys.exit(f"{self} ended by itself, with code {self.process.returncode}")
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024

    def stop(self):
        """Seconds that a clean stop takes."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_LIMIT_S)
        took = time.monotonic() - begun
        self.kill()
        return took

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.process = None

    def __str__(self):
        return f"{self.name}, {self.durability}"


def answers():
    """Whether the broker answers an ApiVersions request."""
    request = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", PORT), 5) as connection:
            connection.settimeout(5)
            connection.sendall(struct.pack(">i", len(request)) + request)
            return len(connection.recv(8)) > 0
    except OSError:
        return False


def bench(peer, load, options):
    command = [CORELANE, "bench", *load, "--json",
               "--bootstrap", f"127.0.0.1:{PORT}", "--core", options.load_core,
               "--broker-pid", str(peer.process.pid)]
    if has_ceiling(load):
        command += ["--no-ceiling"]
    if "--duration" not in load:
        command += ["--duration", str(options.seconds),
                    "--warmup", str(max(1.0, options.seconds / 3))]
    ended = run(command, options.seconds)
    if ended.returncode != 0:
        said = ended.stderr.strip()
        print(f"    failed: {said}", flush=True)
        return {"failed": said, "command": ["corelane", *command[1:]]}
    return json.loads(ended.stdout)


def has_ceiling(load):
    """Whether there is a server that answers such a load at once."""
    return load[0] != "ping"


def run(command, seconds=0):
    """Runs a load of so many seconds to its end, or to that of its time."""
    limit = 2 * seconds + GRACE_S
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=limit)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, -1, "", f"no end after {limit:.0f} s")


def perf_test(peer, options):
    """Kafka's own load, as a second witness."""
    jars = os.environ["KAFKA_JARS"]
    if not pathlib.Path(jars).is_dir():
        return {"failed": "Kafka's jars are not installed"}
    seconds = int(options.seconds)
    command = ["taskset", "-c", options.load_core, "java", "-Xmx512m", "-cp", f"{jars}/*",
               "org.apache.kafka.tools.ProducerPerformance", "--topic", "perf-test",
               "--num-records", str(100_000 * seconds), "--record-size", "1024",
               "--throughput", "-1", "--producer-props",
               f"bootstrap.servers=127.0.0.1:{PORT}", "acks=all", "batch.size=65536",
               "linger.ms=5", "buffer.memory=67108864"]
    ended = run(command, 10 * seconds)
    found = re.search(r"([\d.]+) records/sec \(([\d.]+) MB/sec\).*?([\d.]+) ms 99th",
                      ended.stdout.strip().splitlines()[-1] if ended.stdout.strip() else "")
    if ended.returncode != 0 or not found:
        return {"failed": (ended.stderr or ended.stdout)[-500:]}
    rate, mbs, p99 = map(float, found.groups())
    return {"records_per_s": rate, "mib_per_s": mbs, "p99_ms": p99}


def ceilings(loads, options):
    """What the load itself reaches, once for each kind of it."""
    found = {}
    for name, load, _ in loads:
        if not has_ceiling(load):
            continue
        command = [CORELANE, "bench", *load, "--json", "--ceiling", "--core", options.load_core]
        ended = run(command)
        if ended.returncode != 0:
            sys.exit(f"the ceiling of {name!r} failed: {ended.stderr.strip()}")
        found[name] = json.loads(ended.stdout)
    return found


@contextlib.contextmanager
def empty(peer):
    """A peer with an empty directory; neither it nor the directory is left."""
    shutil.rmtree(peer.dir, ignore_errors=True)
    peer.dir.mkdir(parents=True)
    subprocess.run(peer.call("prepare"), check=True)
    try:
        yield
    finally:
        peer.kill()
        shutil.rmtree(peer.dir, ignore_errors=True)


def is_chosen(name, options):
    return options.only is None or options.only.search(name) is not None


def run_round(peer, loads, options):
    """Everything once on one peer."""
    results = {}
    takes = peer.tells("takes").split()
    loads = [load for load in loads if load[1][0] in takes]
    chosen = [load for load in loads if load is not COLD]
    if chosen or is_chosen(WITNESS, options):
        with empty(peer):
            results = run_loads(peer, chosen, options)
    if COLD in loads:
        name, load, _ = COLD
        print(f"  {peer}: {name}", flush=True)
        with empty(peer):
            # of a broker's own memory only so much as it cannot do without
            peer.start(LITTLE_MEMORY="yes")
            results[name] = bench(peer, load, options)
    if is_chosen(MANY, options) and str(peer) in PROMISE:
        with empty(peer):
            results[MANY] = many_partitions(peer)
    return results


def many_partitions(peer):
    """What a broker with many partitions needs, at rest and to stop and start."""
    print(f"  {peer}: {MANY}", flush=True)
    peer.start()
    bootstrap = ["--bootstrap", f"127.0.0.1:{PORT}"]
    for n in range(MANY_TOPICS):
        topic = f"many-{n}"
        for command in (
                ["topic", "create", topic, "--partitions", str(MANY_PARTITIONS), *bootstrap],
                # some records into each
                ["bench", "produce", "--topic", topic, "--no-ceiling", "--batch-bytes", "1",
                 "--rate", str(5 * MANY_PARTITIONS), "--warmup", "0.001", "--duration", "1",
                 *bootstrap]):
            ended = run([CORELANE, *command])
            if ended.returncode != 0:
                return {"failed": ended.stderr.strip()}
    resident = peer.resident_mib()
    stopped = peer.stop()
    started = peer.start()
    peer.kill()
    return {"many_mib": resident, "stop_s": stopped, "start_s": started,
            "restart_s": peer.start()}


def run_loads(peer, loads, options):
    """In one process, from its start to its stop."""
    results = {}
    started = peer.start()
    time.sleep(1)
    results["start"] = {"start_s": started, "idle_mib": peer.resident_mib()}
    print(f"  {peer}: warming up", flush=True)
    seconds = "20" if options.full else "5"
    warm = [CORELANE, "bench", *WARM_UP, "--json", "--no-ceiling", "--core", options.load_core,
            "--bootstrap", f"127.0.0.1:{PORT}", "--duration", seconds]
    run(warm, float(seconds))
    for name, load, _ in loads:
        print(f"  {peer}: {name}", flush=True)
        results[name] = bench(peer, load, options)
    if is_chosen(WITNESS, options):
        print(f"  {peer}: kafka-producer-perf-test", flush=True)
        results[WITNESS] = perf_test(peer, options)
    # memory that a load needed may be kept for the next one, for a while
    time.sleep(REST_S)
    loaded = peer.resident_mib()
    results["after all loads and a rest"] = {"loaded_mib": loaded, "stop_s": peer.stop()}
    return results


def look_up(result, way):
    for step in way:
        if not isinstance(result, dict) or result.get(step) is None:
            return None
        result = result[step]
    return float(result)


def three_digits(value):
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 3 - len(str(int(value))))}f}"


def cell(values, failed, short):
    """The median, with the least and the most of several, how many runs failed, and how many did
    not come so far."""
    told = "-"
    if values:
        told = three_digits(statistics.median(values))
    if len(values) > 1:
        told += f" ({three_digits(min(values))}-{three_digits(max(values))})"
    if failed:
        told += f", {failed} failed"
    if short:
        told += f", {short} not reached"
    return told


def failures(rounds, column, name):
    results = [results[column].get(name) or {} for results in rounds]
    return [result["failed"] for result in results if "failed" in result]


def table(rows, rounds, columns):
    """Rows of Markdown, and for the picture the ratio of every metric."""
    pairs = [(f"corelane, {c}", f"kafka, {c}") for c in ("flushed", "acked")] + [PROMISE]
    # how far off the least is that a broker can do, and whether that would reach
    pairs += [("corelane, flushed", "floor, flushed"), ("floor, flushed", PROMISE[1])]
    pairs = [pair for pair in pairs if set(pair) <= set(columns)]
    head = ["load", "", *columns, *(f"{a} : {b}" for a, b in pairs)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    drawn = []
    for name, metrics in rows:
        for metric, way, less_is_better in metrics:
            found = {}
            for column in columns:
                values = [look_up(results[column].get(name), way) for results in rounds]
                found[column] = [value for value in values if value is not None]
            failed = {column: len(failures(rounds, column, name)) for column in columns}
            # a run that did not fail and has no figure, as a backlog that was never caught up
            ran = {c: sum(name in results[c] for results in rounds) for c in columns}
            short = {c: ran[c] - failed[c] - len(found[c]) for c in columns}
            spoiled = {c for c in columns
                       if failed[c] or short[c] or any(behind(rounds, c, name))}
            cells = [name, metric, *(cell(found[c], failed[c], short[c]) for c in columns)]
            for ours, theirs in pairs:
                if not all(found[side] and statistics.median(found[side]) for side in (ours, theirs)):
                    cells.append("-")
                    continue
                ratio = statistics.median(found[ours]) / statistics.median(found[theirs])
                apart = (max(found[ours]) < min(found[theirs]) if less_is_better
                         else min(found[ours]) > max(found[theirs]))
                wins = apart and ours in OURS and not spoiled & {ours, theirs}
                cells.append(f"{'**' if wins else ''}{ratio:.2f}{'**' if wins else ''}")
                drawn.append((f"{name}: {metric}", (ours, theirs), ratio, less_is_better))
            lines.append("| " + " | ".join(cells) + " |")
    return lines, drawn


def picture(path, drawn):
    """A bar for each metric of ours flushed against theirs acked: how many times better."""
    drawn = [d for d in drawn if d[1] == PROMISE]
    if not drawn:
        return
    height, left, middle, scale = 22, 470, 640, 90
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{60 + height * len(drawn)}"'
             ' font-family="sans-serif" font-size="12">',
             '<rect width="100%" height="100%" fill="#fff"/>',
             '<text x="12" y="24" font-size="15">Corelane, flushed before the ack, against Kafka, '
             'acked from memory: times better (right) or worse (left), log scale</text>']
    for n, (name, _, ratio, less_is_better) in enumerate(drawn):
        better = 1 / ratio if less_is_better else ratio
        length = max(-1.8, min(3.4, math.log10(better))) * scale
        y = 44 + n * height
        colour = "#2c8c3c" if better >= 1 else "#d65627"
        text = name.replace("&", "&amp;").replace("<", "&lt;")
        lines.append(f'<text x="{left}" y="{y + 12}" text-anchor="end">{text}</text>')
        lines.append(f'<rect x="{middle + min(0, length):.1f}" y="{y}" width="{abs(length):.1f}" '
                     f'height="15" fill="{colour}"/>')
        lines.append(f'<text x="{middle + max(0, length) + 6:.1f}" y="{y + 12}">{better:.2f}x</text>')
    lines.append(f'<line x1="{middle}" y1="36" x2="{middle}" y2="{44 + height * len(drawn)}" stroke="#000"/>')
    lines.append("</svg>")
    path.write_text("\n".join(lines) + "\n")


def behind(rounds, column, name):
    """Rates that were reached and offered, where less than 98 % was reached."""
    for results in rounds:
        result = results[column].get(name) or {}
        offered = result.get("offered_records_per_s")
        reached = look_up(result, ("results", "acked", "records_per_s"))
        if offered and reached is not None and reached < 0.98 * offered:
            yield reached, offered


def machine(options):
    cpu = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), "unknown CPU")
    disk = subprocess.run(["findmnt", "-n", "-o", "SOURCE,FSTYPE,OPTIONS", "-T", options.dir],
                          capture_output=True, text=True).stdout.strip()
    congestion = pathlib.Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return {"kernel": platform.release(), "cpu": cpu, "cores": os.cpu_count(),
            "disk": disk, "congestion_control": congestion,
            "broker_cores": options.broker_cores, "load_core": options.load_core}


def report(out, options, peers, loads, rounds, found_ceilings):
    columns = [str(peer) for peer in peers]
    rows = [(name, metrics) for name, _, metrics in loads]
    if any(load is not COLD for load in loads) or is_chosen(WITNESS, options):
        rows += PROCESS
    if is_chosen(MANY, options):
        rows.append((MANY, MANY_METRICS))
    if is_chosen(WITNESS, options):
        rows.append((WITNESS, [("records/s", ("records_per_s",), False),
                               ("p99 ms", ("p99_ms",), True)]))
    lines, drawn = table(rows, rounds, columns)
    about = machine(options)
    text = [f"# Corelane beside {', '.join(n.capitalize() for n in options.peers if n != 'corelane')}", "",
            f"`benches/compare/run.sh {' '.join(sys.argv[3:])}`, {datetime.date.today()}; "
            f"{len(rounds)} round{'s' if len(rounds) > 1 else ''} of {options.seconds:g} s a run.", "",
            *(f"- {peers[n].tells('about')}" for n in range(0, len(peers), 2)),
            f"- {about['cpu']}, {about['cores']} cores, Linux {about['kernel']}; brokers on core "
            f"{about['broker_cores']}, load on core {about['load_core']}, "
            f"{about['congestion_control']}",
            f"- disk: {about['disk']}", "",
            "Medians, with the least and the most; ratios of medians, in bold where Corelane is "
            "better in every round. CPU is that of the whole machine without the load's process. *flushed*: an "
            "ack waits for stable storage; *acked*: it does not.", "", *lines, "",
            "![ratios](ratios.svg)", "", "## What the load itself could do", "",
            "| load | records/s | MB/s | p99 ms |", "|---|---|---|---|"]
    for name, ceiling in found_ceilings.items():
        if ceiling:
            p99 = ceiling["p99_ms"]
            text.append(f"| {name} | {ceiling['records_per_s']:,.0f} | {ceiling['mb_per_s']:,.0f} "
                        f"| {'-' if p99 is None else three_digits(p99)} |")
    failed = [f"- {column}, {name}: {said}" for name, _ in rows for column in columns
              for said in failures(rounds, column, name)]
    short = [f"- {column}, {name}: {reached:,.0f} of {offered:,.0f} records/s"
             for name, _ in rows for column in columns
             for reached, offered in behind(rounds, column, name)]
    if failed or short:
        text += ["", "## What failed, and what fell behind its rate", "", *failed, *short]
    (out / "README.md").write_text("\n".join(text) + "\n")
    raw = {"machine": about, "ceilings": found_ceilings, "rounds": rounds}
    (out / "raw.json").write_text(json.dumps(raw, indent=1) + "\n")
    picture(out / "ratios.svg", drawn)


def pattern(text):
    try:
        return re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from error


def arguments():
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--only", type=pattern)
    parser.add_argument("--peers", type=lambda text: text.split(","), default=["corelane", "kafka"])
    parser.add_argument("--broker-cores", default="0")
    parser.add_argument("--load-core", default="1")
    parser.add_argument("--out", type=pathlib.Path)
    options = parser.parse_args()
    options.rounds = options.rounds or (5 if options.full else 1)
    options.seconds = options.seconds or (10 if options.full else 4)
    for name in options.peers:
        if not (HERE / "peers" / f"{name}.sh").exists():
            parser.error(f"--peers: there is no benches/compare/peers/{name}.sh")
    return options


def main():
    options = arguments()
    # so that brokers are stopped then too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    loads = [load for load in [*LOADS, COLD] if is_chosen(load[0], options)]
    if not loads and not any(is_chosen(name, options) for name in (MANY, WITNESS)):
        sys.exit(f"--only: {options.only.pattern!r} is in no load's name")
    peers = [Peer(name, durability, options)
             for name in options.peers for durability in ("flushed", "acked")]
    # A B A B: peers in turn, class by class
    order = [peer for durability in ("flushed", "acked")
             for peer in peers if peer.durability == durability]
    out = options.out or ROOT / "benches/results" / f"{datetime.date.today()}-kafka"
    out.mkdir(parents=True, exist_ok=True)
    print("what the load itself can do", flush=True)
    found_ceilings = ceilings(loads, options)
    rounds = []
    for n in range(options.rounds):
        print(f"round {n + 1} of {options.rounds}", flush=True)
        rounds.append({str(peer): run_round(peer, loads, options) for peer in order})
        # what is there is kept, should a later round fail
        report(out, options, peers, loads, rounds, found_ceilings)
    print((out / "README.md").read_text())
    print(f"written to {out}")
    if any("failed" in result for results in rounds
           for results in results.values() for result in results.values()):
        sys.exit(1)


if __name__ == "__main__":
    main()
