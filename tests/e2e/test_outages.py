"""Training on real images through `dcao serve` and a real Redis, undisturbed and with kill −9 in the middle.

Digits in the fast suite; Fashion-MNIST with 1,200 steps by `pytest -m slow tests/e2e`.
"""

import csv
import io
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import pytest
import torch
from torch.optim.lr_scheduler import CosineAnnealingLR

from dcao_client import attach
from dcao_client.spectrum import ProbeSettings
from dcao_experiments.data import Images, load_digits, load_fashion_mnist
from dcao_experiments.models import small_cnn
from dcao_experiments.training import batches, cross_entropy, train
from dcao_proto import Decision
from tests.components.controller import Controller
from tests.components.redis_server import RedisServer

DEADLINE = 0.25


@dataclass(frozen=True)
class Workload:
    """A training run on real images."""

    images: Callable[[], Images]
    steps: int
    interval: int


SMALL = Workload(load_digits, steps=120, interval=4)
LARGE = Workload(load_fashion_mnist, steps=1200, interval=10)
WORKLOADS = [pytest.param(SMALL, id="digits"), pytest.param(LARGE, id="fashion-mnist", marks=pytest.mark.slow)]


@dataclass
class Trained:
    """What a run used and decided."""

    used: list[float] = field(default_factory=list)  # η in the optimizer at each step
    decisions: list[Decision] = field(default_factory=list)
    longest_wait: float = 0.0


def run(
    workload: Workload, url: str, name: str, journal: Path, at_step: Callable[[int], None] = lambda step: None
) -> Trained:
    """Trains through the controller; `at_step` is where a test breaks things."""
    torch.manual_seed(0)
    images = workload.images()
    model = small_cnn(images.x.shape[-1], width=4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    scheduler = CosineAnnealingLR(optimizer, 2 * workload.steps)
    control = attach(
        model, optimizer, cross_entropy, url=url, run=name, policy="paper", probe_interval=workload.interval,
        overhead=None, deadline=DEADLINE, journal_dir=journal, probe=ProbeSettings(probe_batch=64),
    )  # fmt: skip
    trained = Trained()
    optimizer.register_step_pre_hook(lambda o, a, k: trained.used.append(o.param_groups[0]["lr"]))
    stream = batches(images, 64, workload.steps, seed=0)
    for report in train(model, optimizer, stream, dcao=control, scheduler=scheduler):
        if report.probed:
            trained.decisions.append(control.decision)
        at_step(report.step)
    assert control.session.flush(60)
    trained.longest_wait = control.session.stats.longest_wait
    control.finish()
    return trained


def exported(url: str, name: str) -> list[dict[str, str]]:
    reply = httpx.get(f"{url}/v1/projects/default/runs/{name}/decisions", params={"format": "csv"}, trust_env=False)
    return list(csv.DictReader(io.StringIO(reply.text)))


def check_history(workload: Workload, trained: Trained, rows: list[dict[str, str]]) -> None:
    """Every decision once, in order, and the exported η is what the optimizer used, bit for bit."""
    steps = list(range(0, workload.steps, workload.interval))
    assert [int(row["step"]) for row in rows] == steps
    assert [float(row["lr"]) for row in rows] == [trained.used[step] for step in steps]
    assert [float(row["lr"]) for row in rows] == [decision.lr for decision in trained.decisions]


def essence(decision: Decision) -> Decision:
    """A decision without how it was delivered."""
    return decision.model_copy(update={"replayed": False, "persisted": False})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Workload], Trained]]:
    """The same run that nobody disturbs, once for each workload."""
    folder = tmp_path_factory.mktemp("undisturbed")
    server = RedisServer(folder / "redis")
    controller = Controller(folder / "controller", redis_url=server.url)
    done: dict[str, Trained] = {}

    def get(workload: Workload) -> Trained:
        name = workload.images.__name__
        if name not in done:
            done[name] = run(workload, controller.url, name, folder / "journal")
            check_history(workload, done[name], exported(controller.url, name))
        return done[name]

    yield get
    controller.kill()
    server.kill()


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_decision_is_in_the_history_once_in_order_and_exact(undisturbed, workload):
    """Through HTTP and Redis and out as CSV: what the optimizer used, bit for bit."""
    trained = undisturbed(workload)
    assert len({decision.multipliers for decision in trained.decisions}) > 5


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("victim", ["controller", "redis"])
def test_kill_9_changes_nothing_and_loses_nothing(
    undisturbed, workload, victim, mortal_redis: RedisServer, mortal_controller: Controller, tmp_path
):
    """Killed at a third, back at two thirds: no wait beyond the deadline, same decisions, complete history."""
    component = mortal_controller if victim == "controller" else mortal_redis
    revivals: list[threading.Thread] = []

    def disturb(step: int) -> None:
        if step == workload.steps // 3:
            component.kill()
        elif step == 2 * workload.steps // 3:
            revivals.append(threading.Thread(target=component.start))
            revivals[0].start()

    trained = run(workload, mortal_controller.url, "killed", tmp_path / "journal", disturb)
    revivals[0].join()
    expected = undisturbed(workload)
    assert [essence(d) for d in trained.decisions] == [essence(d) for d in expected.decisions]
    assert trained.used == expected.used
    # Within the deadline where it is measured, alone on a machine; the fast suite shares its cores.
    assert trained.longest_wait <= DEADLINE + (0.05 if workload is LARGE else 2.0)
    rows = exported(mortal_controller.url, "killed")
    check_history(workload, trained, rows)
    assert not any(row["deviates"] in ("true", "True", "1") for row in rows)
    print(f"{victim} killed: {len(rows)} decisions, longest wait {trained.longest_wait * 1000:.1f} ms")


@pytest.mark.parametrize("workload", [pytest.param(SMALL, id="digits")])
def test_a_trainer_that_is_killed_and_restarted_from_scratch_begins_a_second_attempt(
    workload, mortal_controller: Controller, tmp_path
):
    """The same name again: attempt 2 with the same decisions, attempt 1 kept beside it."""
    first = run(workload, mortal_controller.url, "twice", tmp_path / "a")
    time.sleep(0.05)
    second = run(workload, mortal_controller.url, "twice", tmp_path / "b")
    assert first.used == second.used
    attempts = [(int(r["attempt"]), int(r["step"])) for r in exported(mortal_controller.url, "twice")]
    steps = range(0, workload.steps, workload.interval)
    assert attempts == [(1, s) for s in steps] + [(2, s) for s in steps]
