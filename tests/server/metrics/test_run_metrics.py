"""What `/metrics/runs` says of live runs, against what the runs were told, on both stores."""

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dcao_server.metrics.run_exposition import HEADERS
from dcao_server.metrics.run_families import FAMILIES
from dcao_server.metrics.run_metrics import RunMetrics
from dcao_server.store.contract import Creation, LiveRun, RunKey, StoredRecord, StoredRun
from dcao_server.store.sqlite_store import SqliteStore
from tests.components.controller import Controller
from tests.components.redis_server import RedisServer
from tests.components.worker import Worker

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(text: str) -> Samples:
    """Every sample, read by the library's own parser, which refuses what is not well formed."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


class Scrape:
    """The run metrics of one moment."""

    def __init__(self, url: str) -> None:
        answer = httpx.get(f"{url}/metrics/runs")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.text = answer.text
        self.samples = samples(answer.text)

    def of(self, worker: Worker, name: str, **labels: str) -> float | None:
        """A run's sample."""
        _, _, _, project, _, run = worker.path.split("/")
        return self.samples.get((name, tuple(sorted({"project": project, "run": run, **labels}.items()))))

    def named(self, name: str) -> dict[tuple[tuple[str, str], ...], float]:
        """All samples of a metric by their labels."""
        return {labels: value for (found, labels), value in self.samples.items() if found == name}


@pytest.fixture(scope="module", params=["sqlite", "redis"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    redis_url = None
    if request.param == "redis":
        server = request.getfixturevalue("redis_server")
        assert isinstance(server, RedisServer)
        redis_url = server.url
        with server.client() as client:
            client.flushall()  # other files' runs may have the same names
    controller = Controller(tmp_path_factory.mktemp("runs"), redis_url=redis_url)
    yield controller.url
    controller.kill()


def scrape(url: str) -> Scrape:
    """A scrape that no cached answer stands in for."""
    time.sleep(1.05)
    return Scrape(url)


def test_a_live_run_shows_what_was_observed_and_decided(url: str) -> None:
    worker = Worker(url, "vision", "resnet", optimizer="nesterov")
    for _ in range(12):
        decision = worker.observe()
    seen = scrape(url)
    expected = {
        "sharpness": worker.rho,
        "spectral_gap": 0.3 * worker.rho,
        "lambda_min": -0.08 * worker.rho,
        "batch_sharpness": 0.6 * worker.rho,
        "edge_ratio": decision["edge_ratio"],
        "learning_rate": decision["lr"],
        "momentum": decision["momentum"],
        "weight_decay": decision["weight_decay"],
        "base_learning_rate": 0.1,
        "learning_rate_multiplier": decision["multipliers"]["lr"],
        "momentum_multiplier": decision["multipliers"]["momentum"],
        "weight_decay_multiplier": decision["multipliers"]["weight_decay"],
        "step": 600,
        "attempt": 1,
        "gradient_norm": 0.5,
        "probe_duration_seconds": 0.3,
        "probe_products": 8,
        "probe_overhead_ratio": 0.03,
        "stale": 0,
        "diverged": 0,
    }
    found = {name: seen.of(worker, f"dcao_run_{name}") for name in expected}
    assert found == expected
    limit = seen.of(worker, "dcao_run_sharpness_limit")
    assert limit == pytest.approx(worker.rho / decision["edge_ratio"], rel=1e-12)
    batch_edge = decision["lr"] * 0.6 * worker.rho / (2 * (1 - decision["momentum"]))
    assert seen.of(worker, "dcao_run_batch_edge_ratio") == pytest.approx(batch_edge, rel=1e-12)
    last = seen.of(worker, "dcao_run_last_observation_timestamp_seconds")
    assert last == pytest.approx(time.time(), abs=30)
    info = seen.of(
        worker, "dcao_run_info", attempt="1", optimizer="nesterov", policy=decision["policy"], status="active"
    )
    assert info == 1


def test_the_rolling_variances_are_those_of_the_policys_state(url: str) -> None:
    worker = Worker(url, "vision", "variance")
    worker.observe(loss=1.0)
    worker.observe(loss=1.0)
    assert scrape(url).of(worker, "dcao_run_loss_variance") == 0
    worker.observe(loss=3.0)
    seen = scrape(url)
    assert (seen.of(worker, "dcao_run_loss_variance") or 0) > 0.01
    assert (seen.of(worker, "dcao_run_sharpness_variance") or 0) > 0


def test_decisions_are_counted_by_outcome_and_reason(url: str) -> None:
    worker = Worker(url, "vision", "counted", policy={"name": "paper"})
    reasons: dict[str, int] = {}
    for _ in range(6):
        for reason in worker.observe()["reasons"]:
            reasons[reason] = reasons.get(reason, 0) + 1
    again = {**worker.observation(), "step": worker.step}
    worker.client.post(f"{worker.path}/decisions", json=again).raise_for_status()
    entry = {
        "observation": {**worker.observation(), "step": worker.step + 50},
        "decision": {**worker.decision, "step": worker.step + 50, "version": 7, "persisted": False, "reasons": []},
    }
    backfilled = worker.client.post(f"{worker.path}/decisions:backfill", json={"entries": [entry]})
    assert backfilled.json()["stored"] == 1, backfilled.text
    worker.restart(back_to=4)
    old = {**worker.observation(), "attempt": 1}
    assert worker.client.post(f"{worker.path}/decisions", json=old).status_code == 409
    seen = scrape(url)
    outcomes = {o: seen.of(worker, "dcao_run_decisions_total", outcome=o) for o in ("decided", "replayed")}
    assert outcomes == {"decided": 6, "replayed": 1}
    assert seen.of(worker, "dcao_run_decisions_total", outcome="backfilled") == 1
    assert seen.of(worker, "dcao_run_decisions_total", outcome="fenced") == 1
    assert reasons
    found = {code: seen.of(worker, "dcao_run_decision_reasons_total", reason=code) for code in reasons}
    assert found == reasons
    assert seen.of(worker, "dcao_run_attempt") == 2


def test_time_at_a_bound_is_counted(url: str) -> None:
    policy = {"name": "paper", "params": {"alpha": 0.1, "rho_ref": 20.0}}
    worker = Worker(url, "vision", "pinned", policy=policy)
    for _ in range(14):
        decision = worker.observe(rho=0.01, gamma=0.001, rho_bound=0.0, gamma_bound=0.0)
    assert decision["multipliers"]["lr"] == 2
    seen = scrape(url)
    in_a_row = seen.of(worker, "dcao_run_decisions_at_bound_in_a_row")
    assert in_a_row is not None
    assert in_a_row >= 10
    assert (seen.of(worker, "dcao_run_decisions_at_bound_total") or 0) >= in_a_row


def test_what_was_not_observed_is_absent_and_not_zero(url: str) -> None:
    worker = Worker(url, "vision", "blind")
    worker.observe()
    absent = ("rho", "gamma", "lambda_min", "batch_sharpness", "rho_bound", "gamma_bound", "probe", "grad_norm")
    worker.observe(status="unavailable", **dict.fromkeys(absent))
    seen = scrape(url)
    for name in ("sharpness", "spectral_gap", "lambda_min", "edge_ratio", "probe_duration_seconds", "gradient_norm"):
        assert seen.of(worker, f"dcao_run_{name}") is None, name
    assert seen.of(worker, "dcao_run_learning_rate") is not None


def test_a_diverged_run_says_so(url: str) -> None:
    worker = Worker(url, "vision", "diverged")
    worker.observe()
    absent = ("rho", "gamma", "lambda_min", "batch_sharpness", "rho_bound", "gamma_bound", "loss", "grad_norm")
    worker.observe(status="diverged", **dict.fromkeys(absent))
    seen = scrape(url)
    assert seen.of(worker, "dcao_run_diverged") == 1
    assert seen.named("dcao_live_runs")[(("regime", "diverged"),)] >= 1


def test_a_run_that_ends_leaves_at_the_next_scrape(url: str) -> None:
    worker = Worker(url, "vision", "ending")
    worker.observe()
    assert scrape(url).of(worker, "dcao_run_step") == 50
    worker.finish()
    assert scrape(url).of(worker, "dcao_run_step") is None


def test_runs_are_told_apart_by_project_and_run_and_by_nothing_else(url: str) -> None:
    for project in ("vision", "language"):
        Worker(url, project, "same-name").observe()
    seen = scrape(url)
    for family in FAMILIES:
        for labels in seen.named(family.name):
            assert [name for name, _ in labels] == ["project", "run"], family.name
    assert len({labels for labels in seen.named("dcao_run_step") if ("run", "same-name") in labels}) == 2


def test_the_text_is_clean_by_promtool(url: str) -> None:
    Worker(url, "vision", "linted").observe()
    text = scrape(url).text
    linted = subprocess.run(["promtool", "check", "metrics"], input=text.encode(), capture_output=True, check=False)
    assert (linted.returncode, linted.stderr) == (0, b"")
    for header in HEADERS:
        assert text.count(header) <= 1, header


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore(tmp_path / "history.sqlite", max_records=1000)
    await opened.open()
    yield opened
    await opened.close()


class Recorded:
    """Live runs that a real controller wrote, counted when they are read."""

    def __init__(self, runs: list[LiveRun]) -> None:
        self.runs = runs
        self.reads = 0

    async def live(self, since: float, limit: int) -> AsyncIterator[LiveRun]:
        self.reads += 1
        for run in self.runs[:limit]:
            yield run

    async def count_live(self, since: float) -> int:
        return len(self.runs)


@pytest.fixture
async def recorded(url: str, tmp_path: Path) -> Recorded:
    from dcao_proto import RunSpec
    from dcao_proto.policy import bind

    policy = bind(RunSpec.model_validate({"optimizer": "sgd", "base": {"lr": 0.1}}))
    token = policy.initial_token()
    runs = []
    for i in range(30):
        run = StoredRun(
            RunKey("p", f"r{i}"), policy.spec_segment, "d", "active", 1, 0, token, None, 0.0, float(i), 0, None, (), {}
        )
        runs.append((run, None))
    return Recorded(runs)


async def test_runs_beyond_the_cap_are_left_out_and_counted(recorded: Recorded) -> None:
    metrics = RunMetrics(recorded, lambda run, now: False, max_runs=20)
    found = samples((await metrics.text()).decode())
    assert len([1 for name, _ in found if name == "dcao_run_info"]) == 20
    assert found[("dcao_live_runs_dropped", ())] == 10


async def test_scrapes_that_come_together_read_the_store_once(recorded: Recorded) -> None:
    metrics = RunMetrics(recorded, lambda run, now: False, cache_seconds=60)
    bodies = await asyncio.gather(*(metrics.text() for _ in range(8)))
    assert len(set(bodies)) == 1
    assert recorded.reads == 1


async def test_an_overdue_run_is_stale_in_its_gauge_and_its_status(recorded: Recorded) -> None:
    metrics = RunMetrics(recorded, lambda run, now: run.key.run == "r7", cache_seconds=0)
    found = samples((await metrics.text()).decode())
    assert found[("dcao_run_stale", (("project", "p"), ("run", "r7")))] == 1
    assert found[("dcao_run_stale", (("project", "p"), ("run", "r8")))] == 0
    stale = [labels for name, labels in found if name == "dcao_run_info" and ("status", "stale") in labels]
    assert [dict(labels)["run"] for labels in stale] == ["r7"]


async def test_a_run_that_changed_is_rendered_anew_and_one_that_ended_is_forgotten(recorded: Recorded) -> None:
    metrics = RunMetrics(recorded, lambda run, now: False, cache_seconds=0)
    await metrics.text()
    changed = recorded.runs[3][0]._replace(counts={"decided": 5}, attempt=2)
    recorded.runs[3] = (changed, None)
    del recorded.runs[0]
    found = samples((await metrics.text()).decode())
    assert found[("dcao_run_attempt", (("project", "p"), ("run", "r3")))] == 2
    assert found[("dcao_run_decisions_total", (("outcome", "decided"), ("project", "p"), ("run", "r3")))] == 5
    assert ("dcao_run_attempt", (("project", "p"), ("run", "r0"))) not in found


async def test_a_run_that_a_newer_controller_wrote_is_left_out_and_counted(recorded: Recorded) -> None:
    run, _ = recorded.runs[0]
    recorded.runs[0] = (run, StoredRecord(1, 50, b"\x91\xcd\x27\x0f"))  # schema 9999
    metrics = RunMetrics(recorded, lambda run, now: False)
    found = samples((await metrics.text()).decode())
    assert found[("dcao_live_runs_unreadable", ())] == 1
    assert ("dcao_run_info", ()) not in found
    assert ("dcao_run_attempt", (("project", "p"), ("run", "r1"))) in found


async def test_a_run_in_the_store_that_has_observed_nothing_is_not_live(store: SqliteStore) -> None:
    await store.create(RunKey("p", "idle"), Creation("spec", "digest", "state", time.time()))
    assert [run async for run in store.live(0, 10)] == []
    assert await store.count_live(0) == 0
