"""Carries a schedule out on a cluster, and puts everything right again."""

import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from pathlib import Path

from tests.faults.cluster import Cluster, Process
from tests.faults.link import GOOD, Condition
from tests.faults.schedule import Fault, FaultKind

SAMPLE_SECONDS = 0.25
LOSE_SECONDS = 1.0
"""What `appendfsync everysec` may lose when the machine crashes."""
CONDITIONS: dict[str, Condition] = {
    "delay": Condition(delay=(0.005, 0.4)),
    "swallow": Condition(swallow=True),
    "truncate": Condition(truncate=0.2),
    "refuse": Condition(refuse=True),
}


class Injector:
    """Runs in the calling thread; each fault ends by a timer of its own.

    Counts what it did in `injected`, and the bytes of Redis's log that crashes lost in `lost_bytes`.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._timers: list[threading.Timer] = []
        self._sizes: deque[tuple[float, dict[Path, int]]] = deque(maxlen=16)
        self.injected: Counter[FaultKind] = Counter()
        self.lost_bytes = 0

    def carry_out(self, faults: list[Fault], duration: float) -> None:
        """Injects the faults, each at its time, until `duration` seconds have passed; then restores everything."""
        started = time.monotonic()
        waiting = deque(faults)
        while (now := time.monotonic() - started) < duration:
            self._sizes.append((time.monotonic(), self._cluster.log_sizes()))
            while waiting and waiting[0].at <= now:
                self._inject(waiting.popleft())
            due = waiting[0].at - now if waiting else SAMPLE_SECONDS
            time.sleep(max(0.001, min(SAMPLE_SECONDS, due, duration - now)))
        self.restore()

    def restore(self) -> None:
        """Everything up, every link good."""
        for timer in self._timers:
            timer.cancel()
        for timer in self._timers:
            if timer.ident is not None:
                timer.join()
        cluster = self._cluster
        for link in (cluster.front, *cluster.backs):
            link.condition = GOOD
        for process in (cluster.redis, *cluster.controllers):
            process.signal(signal.SIGCONT)
            process.start()
        cluster.wait_ready()

    def _inject(self, fault: Fault) -> None:
        begin, end = self._actions(fault)
        begin()
        self.injected[fault.kind] += 1
        timer = threading.Timer(fault.seconds, end)
        timer.daemon = True
        self._timers = [t for t in self._timers if t.is_alive()]
        self._timers.append(timer)
        timer.start()

    def _actions(self, fault: Fault) -> tuple[Callable[[], None], Callable[[], None]]:
        what, _, where = fault.kind.partition("-")
        if where in ("front", "back"):
            link = self._cluster.front if where == "front" else self._cluster.backs[fault.target]
            if what == "reset":
                return link.reset, lambda: None
            condition = CONDITIONS[what]
            return (lambda: setattr(link, "condition", condition)), (lambda: setattr(link, "condition", GOOD))
        process = self._cluster.redis if where == "redis" else self._cluster.controllers[fault.target]
        match what:
            case "pause":
                return (lambda: process.signal(signal.SIGSTOP)), (lambda: process.signal(signal.SIGCONT))
            case "stop":
                return (lambda: process.signal(signal.SIGTERM)), (lambda: _restart(process))
            case "crash":
                return self._crash_redis, process.start
            case _:
                return process.kill, process.start

    def _crash_redis(self) -> None:
        self._cluster.redis.kill()
        moment = time.monotonic() - LOSE_SECONDS
        before = [sizes for at, sizes in self._sizes if at <= moment]
        if before:
            self.lost_bytes += self._cluster.lose_last_second(before[-1])


def _restart(process: Process) -> None:
    """Waits for the graceful end that was asked for, then starts it again."""
    if process.process is not None:
        process.process.wait(30)
    process.start()
