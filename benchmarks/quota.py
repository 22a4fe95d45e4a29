"""A share of a core, as a container's CPU limit gives it: Linux's completely fair scheduler, control groups 1 or 2."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

PERIOD = 10_000  # µs; the usual 100,000 would show in every latency
V1, V2 = Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup")


def available() -> bool:
    """Whether this process may make control groups with a quota."""
    return _parent() is not None


@contextlib.contextmanager
def limited(pids: list[int], share: float) -> Iterator[None]:
    """Each process with its threads gets at most `share` of a core while the block runs."""
    parent = _parent()
    assert parent is not None, "expected control groups that can be made, see `available`"
    groups = [parent / f"dcao-benchmark-{pid}" for pid in pids]
    try:
        for group, pid in zip(groups, pids, strict=True):
            group.mkdir()
            quota = round(share * PERIOD)
            if (group / "cpu.max").exists():
                (group / "cpu.max").write_text(f"{quota} {PERIOD}")
            else:
                (group / "cpu.cfs_period_us").write_text(str(PERIOD))
                (group / "cpu.cfs_quota_us").write_text(str(quota))
            (group / "cgroup.procs").write_text(str(pid))
        yield
    finally:
        for group, pid in zip(groups, pids, strict=True):
            if group.exists():
                with contextlib.suppress(OSError):  # it has ended
                    (parent / "cgroup.procs").write_text(str(pid))
                group.rmdir()


def _parent() -> Path | None:
    if (V1 / "cpu.cfs_quota_us").exists():
        return V1 if os.access(V1, os.W_OK) else None
    controllers = V2 / "cgroup.subtree_control"
    if controllers.exists() and os.access(V2, os.W_OK) and "cpu" in controllers.read_text().split():
        return V2
    return None
