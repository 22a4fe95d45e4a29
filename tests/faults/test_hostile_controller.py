"""Whatever answers on the controller's port, training goes on: no exception, no update out of bounds, no long wait.

A sample in the fast suite; 10,000 answers by `pytest -m slow tests/faults/test_hostile_controller.py`.
"""

import contextlib
import itertools
import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from torch import nn

from dcao_client import Session, attach, courier, dialogue, patience, transport
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.controller_process import free_port
from dcao_proto import Bounds, Decision, Hyperparameters, Observation, RunSpec

BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)
SPEC = RunSpec(optimizer="sgd", base=BASE, probe_interval=10)
DEADLINE = 0.1
MEMORY = 64  # MiB


@dataclass(frozen=True)
class Size:
    """How many answers, and by how much a call may be late: the fast suite shares its cores."""

    answers: int
    late: float


SIZES = [
    pytest.param(Size(250, 1.0), id="sample"),
    pytest.param(Size(10_000, 0.05), id="proof", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds, or ten thousand answers would take days."""
    monkeypatch.setattr(patience, "FIRST_RETRY", 0.0005)
    monkeypatch.setattr(patience, "LAST_RETRY", 0.002)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(courier, "LONGEST_PAUSE", 0.005)
    monkeypatch.setattr(transport, "MAX_RETRY_AFTER", 0.005)
    monkeypatch.setattr(dialogue, "TIMEOUT", 0.3)


@pytest.fixture(autouse=True)
def unrecorded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What pytest keeps of the log is not the client's memory."""
    monkeypatch.setattr(logging.getLogger("dcao"), "propagate", False)
    monkeypatch.setattr(logging.getLogger("dcao"), "handlers", [logging.NullHandler()])


class HostileController:
    """The server's process."""

    def __init__(self, seed: int) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        port = self.url.rpartition(":")[2]
        self._process = subprocess.Popen([sys.executable, "-m", "tests.faults.hostile", port, str(seed)])
        end = time.monotonic() + 60
        while self.count < 0:
            assert time.monotonic() < end, "the hostile controller did not start"
            time.sleep(0.05)

    @property
    def count(self) -> int:
        """Answers so far; -1 before it listens."""
        try:
            return int(httpx.get(f"{self.url}/count", trust_env=False, timeout=10).text)
        except httpx.TransportError:
            return -1

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture
def hostile(request: pytest.FixtureRequest) -> Iterator[HostileController]:
    server = HostileController(seed=13)
    yield server
    server.kill()


def resident() -> float:
    """MiB of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20


def kept_waiting() -> float:
    """Seconds for which threads of this process were ready to run and the machine ran others; in total, as a clock."""
    waited = 0
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, IndexError):  # a thread that has just ended
            waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e9


def check(decision: Decision) -> None:
    """Within the run's bounds, value by value."""
    assert 0.5 * BASE.lr <= decision.lr <= 2 * BASE.lr * (1 + 1e-8)
    assert 0.5 * (1 - 1e-8) <= decision.multipliers.lr <= 2 * (1 + 1e-8)
    assert decision.ceiling is None or decision.ceiling >= 0.5 * BASE.lr * (1 - 1e-8)
    assert 0.45 * (1 - 1e-8) <= decision.momentum <= 0.99 * (1 + 1e-8)
    assert 0.5 * BASE.weight_decay * (1 - 1e-8) <= decision.weight_decay <= 2 * BASE.weight_decay * (1 + 1e-8)
    assert 1 <= decision.next_probe_in <= 1000
    assert not decision.groups or all(group.multiplier <= 4 for group in decision.groups)


@pytest.mark.parametrize("size", SIZES)
def test_a_session_goes_on_whatever_answers(hostile: HostileController, size: Size, tmp_path: Path) -> None:
    """Sessions of 400 decisions each, some resumed, until so many answers were given."""
    generator = random.Random(5)
    started = peak = 0.0
    waits: list[float] = []
    ours: list[float] = []  # without what the machine gave to others
    used = refused = 0
    for number in itertools.count():
        session = Session(SPEC, run=f"r{number}", url=hostile.url, deadline=DEADLINE, journal_dir=tmp_path)
        saved = session.state_dict()
        for step in range(400):
            seen = Observation(step=10 * step, rho=20 * generator.lognormvariate(0, 0.4), gamma=4 * generator.random())
            stolen, before = kept_waiting(), time.perf_counter()
            decision = session.decide(seen)
            took = time.perf_counter() - before
            waits.append(took)
            ours.append(took - max(kept_waiting() - stolen, 0.0))
            check(decision)
            assert decision.step == seen.step
            if step % 50 == 49:
                session.load_state_dict(saved)
                saved = session.state_dict()
            time.sleep(0.003)  # a training step, in which the courier may get its turn
            peak = max(peak, resident())
            started = started or peak
        used += session.stats.decisions - session.stats.in_process
        refused += session.stats.refused_answers
        session.finish(timeout=0.05)
        if (count := hostile.count) >= size.answers:
            break
    waits.sort()
    print(
        f"{count} answers, {len(waits)} decisions, {used} of the controller's used, {refused} refused; longest call "
        f"{1000 * waits[-1]:.0f} ms, {1000 * max(ours):.0f} ms of it ours, "
        f"99.9 % {1000 * waits[int(len(waits) * 0.999)]:.0f} ms; "
        f"memory +{peak - started:.0f} MiB"
    )
    assert used > 0
    assert refused > 0
    assert max(ours) <= DEADLINE + size.late
    assert peak - started <= MEMORY


# How a run is attached, and between which rates it must stay: `guard` below what the user set, `auto` below a rate at
# which this network would be lost; neither at a rate that is none.
ATTACHED: list[tuple[dict[str, Any], tuple[float, float]]] = [
    ({"bounds": Bounds()}, (0.05, 0.2)),
    ({"trust": "guard"}, (1e-6, 0.1)),
    ({"trust": "auto"}, (1e-6, 100.0)),
]


@pytest.mark.parametrize("size", SIZES)
def test_training_goes_on_whatever_answers(hostile: HostileController, size: Size, tmp_path: Path) -> None:
    """Small networks under `attach`, until so many answers were given: finite weights, every update within bounds."""
    peak = started = 0.0
    for number in itertools.count():
        options, rates = ATTACHED[number % len(ATTACHED)]
        torch.manual_seed(number)
        model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(model.parameters(), **BASE.wire())
        control = attach(
            model, optimizer, lambda net, batch: nn.functional.mse_loss(net(batch[0]), batch[1]), run=f"a{number}",
            url=hostile.url, deadline=DEADLINE, journal_dir=tmp_path, probe_interval=1, overhead=None,
            probe=ProbeSettings(probe_batch=16), **options,
        )  # fmt: skip
        for _ in range(60):
            batch = torch.randn(16, 4), torch.randn(16, 1)
            control.step(batch)
            optimizer.zero_grad()
            nn.functional.mse_loss(model(batch[0]), batch[1]).backward()
            optimizer.step()
            applied = control.applied
            assert rates[0] * (1 - 1e-8) <= applied.lr <= rates[1] * (1 + 1e-8)
            assert 0.45 * (1 - 1e-8) <= applied.momentum <= 0.99 * (1 + 1e-8)
            peak = max(peak, resident())
            started = started or peak
        assert all(p.isfinite().all() for p in model.parameters())
        control.finish()
        if (count := hostile.count) >= size.answers:
            break
    print(f"{count} answers, {60 * (number + 1)} updates; memory +{peak - started:.0f} MiB")
    assert peak - started <= MEMORY
