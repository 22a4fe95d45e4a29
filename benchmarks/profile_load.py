"""Where a decision's time goes: a sampling profile of a controller under closed-loop workers, by part.

    python benchmarks/profile_load.py [--clients 8] [--seconds 8]        (needs `pip install py-spy`, and its rights)

py-spy looks at the stack of the controller's main thread 400 times a second while it works; each look is put down to
the innermost part of the program on the stack. What C does for a part (parsing JSON, packing a command) is the part's.
py-spy stops the process for a look, which lands behind the system call it was in, so the kernel's share is taken from
the process's system time, and the looks share out its user time. Both are of the processor time that a decision takes
in the seconds before, so they include what one part costs another in caches.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path

from load import COLUMNS, measure
from processes import controller, redis_server

RATE = 400  # looks per second; more would slow the controller down
REST = "the event loop"
KERNEL = "the kernel: sockets of workers and Redis, and waking them"
LAW = "the law: state and observation to factors and new state"
TOKEN = "the token: written, checked"
HTTP = "HTTP: parsing, the task, headers, the answer"
COUNTS = "metrics and counts"
PARTS = (  # function, file, part; the first that fits a frame
    ("", "dcao_proto/policy/token.py", TOKEN),
    ("", "dcao_server/decisions/basis.py", TOKEN),
    ("", "dcao_proto/policy/compose.py", "composing the decision"),
    ("", "dcao_proto/policy/momentum.py", "composing the decision"),
    ("", "dcao_proto/policy/", LAW),
    ("", "dcao_proto/optimizers.py", LAW),
    ("parse", "dcao_server/decisions/hot_route.py", "observation from JSON"),
    ("", "dcao_proto/observation.py", "observation from JSON"),
    ("wire_json", "dcao_proto/message.py", "decision to JSON"),
    ("", "dcao_server/history/codec.py", "the record for the history"),
    ("", "dcao_server/store/tally.py", COUNTS),
    ("", "dcao_server/store/", "the Redis client and the append"),
    ("", "dcao_server/metrics/", COUNTS),
    ("", "dcao_server/security/", "keys, request ID"),
    ("", "dcao_server/asgi/context.py", "keys, request ID"),
    ("", "dcao_server/asgi/", HTTP),
    ("", "uvicorn/", HTTP),
    ("", "dcao_server/decisions/", "the service between them"),
)


def part_of(stack: list[str]) -> str:
    """The innermost part on a stack whose last frame is the innermost."""
    for frame in reversed(stack):
        for function, file, part in PARTS:
            if file in frame and frame.startswith(function):
                return part
    return REST


def profile(pid: int, seconds: float, folder: Path) -> Counter[str]:
    """How many looks fell on each part."""
    output = folder / "stacks"
    command = ["py-spy", "record", "--pid", str(pid), "--rate", str(RATE), "--duration", f"{seconds:.0f}"]
    done = subprocess.run(
        [*command, "--format", "raw", "--threads", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
    )
    if done.returncode:
        sys.exit(f"expected py-spy to record process {pid}, got: {done.stderr.strip()}")
    looks: Counter[str] = Counter()
    for line in output.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        if "MainThread" in stack:
            looks[part_of(stack.split(";"))] += int(count)
    return looks


def user_and_system(pid: int) -> tuple[int, int]:
    """Ticks in the program and in the kernel so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]), int(fields[12])


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=8.0)
    given = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    first, rest = cores[0], cores[1:] or cores
    os.sched_setaffinity(0, rest)
    looks: Counter[str] = Counter()
    with (
        tempfile.TemporaryDirectory() as folder,
        redis_server(rest) as (port, redis_pid),
        controller(port, [first]) as (url, pid, _),
    ):
        user, system = user_and_system(pid)
        whole = measure("quiet", [(url, pid)], redis_pid, given.clients, given.seconds)
        user, system = (now - before for now, before in zip(user_and_system(pid), (user, system), strict=True))
        watch = threading.Thread(target=lambda: looks.update(profile(pid, given.seconds, Path(folder))))
        watch.start()
        measure("watched", [(url, pid)], redis_pid, given.clients, given.seconds + 1)
        watch.join()
    print(f"{COLUMNS}\n{whole.row('controller')}\n\n{sum(looks.values())} looks")
    shares = {part: count / sum(looks.values()) * user / (user + system) for part, count in looks.items()}
    for part, share in sorted((shares | {KERNEL: system / (user + system)}).items(), key=lambda item: -item[1]):
        print(f"{part:<62}{share:>6.1%}{share * whole.own * 1e6:>8.1f} µs")


if __name__ == "__main__":
    main()
