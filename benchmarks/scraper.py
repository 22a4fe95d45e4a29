"""Scrapes one address at an interval, in a process of its own as Prometheus is, and says how long each scrape took."""

import contextlib
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

LOW_PRIORITY = 19


@contextlib.contextmanager
def scraping(url: str, every: float | None) -> Iterator[list[float]]:
    """Seconds of each scrape while the block runs, filled in at its end; none when `every` is None.

    The process has the lowest priority: in use it has a machine of its own, here it must not push the others aside.
    """
    seconds: list[float] = []
    if every is None:
        yield seconds
        return
    command = [sys.executable, __file__, url, str(every)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has begun
        try:
            yield seconds
        finally:
            process.terminate()
            seconds += [float(line) for line in process.stdout.read().splitlines()]


def main(url: str, every: float) -> None:
    """Until it is terminated; the first scrape after a third of the interval."""
    os.nice(LOW_PRIORITY)
    print("begun", flush=True)
    due = time.monotonic() + every / 3
    while True:
        time.sleep(max(0.0, due - time.monotonic()))
        due += every
        started = time.perf_counter()
        with urllib.request.urlopen(f"{url}/metrics/runs", timeout=30) as answer:
            while answer.read(1 << 16):
                pass
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
