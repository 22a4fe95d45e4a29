"""`dcao experiment run --ray`: the grid on a cluster of two workers, its own and one that is there already."""

from pathlib import Path

import pytest
import ray
from ray.cluster_utils import Cluster

from dcao_experiments.grid import read, run_all
from dcao_experiments.run import Run

RUNS = [Run("digits", method, seed, rate=0.05, steps=4) for method in ("sgd", "adamw-linear") for seed in (0, 1)]


def test_a_cluster_of_its_own_trains_what_processes_train(tmp_path: Path) -> None:
    """The same records, and what is recorded is not trained again."""
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    run_all(RUNS, here, 1)
    run_all(RUNS, there, 1, ray="local")
    assert {r["key"]: r["final"] for r in read(there)} == {r["key"]: r["final"] for r in read(here)}
    before = there.read_text()
    run_all(RUNS, there, 1, ray="local")
    assert there.read_text() == before
    assert not ray.is_initialized(), "the cluster is put down"


def test_two_workers_of_a_cluster_that_is_there(tmp_path: Path) -> None:
    """By its address, as of a real one."""
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        run_all(RUNS[:2], tmp_path / "there.jsonl", 1, ray=cluster.address)
    finally:
        cluster.shutdown()
    records = read(tmp_path / "there.jsonl")
    assert sorted(r["seed"] for r in records) == [0, 1]
    assert not [r for r in records if "error" in r]


@pytest.fixture(autouse=True)
def _no_cluster_left() -> object:
    yield
    ray.shutdown()
