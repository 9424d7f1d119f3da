"""What the Python clients' workers share: jobs are lines of JSON on standard input, answers lines
of JSON on standard output. The jobs are described in tests/clients/worker.rs."""

import json
import sys
import time

LIMIT_S = 60


class Deadline:
    def __init__(self):
        self.end = time.monotonic() + LIMIT_S

    def check(self, what):
        if time.monotonic() > self.end:
            raise TimeoutError(what)


def to_bytes(text):
    return None if text is None else bytes.fromhex(text)


def to_hex(data):
    return None if data is None else bytes(data).hex()


def say(answer):
    print(json.dumps(answer), flush=True)


def serve(jobs):
    """Runs each job with the function of `jobs` that has its name, until the input ends."""
    for line in sys.stdin:
        job = json.loads(line)
        try:
            say(jobs[job["do"]](job))
        except Exception as e:  # whatever a client throws is the answer
            say({"error": f"{type(e).__name__}: {e}"})
