"""Several ranks measure the spectrum of the whole batch, and none waits for ever."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from dcao_client.spectrum import Probe, ProbeSettings


def _load() -> ModuleType:
    """The workers' module, importable by name in the spawned processes too."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.find_spec("ranks")
    assert spec is not None
    return importlib.import_module("ranks")


ranks = _load()


def _run(worker: Any, size: int, folder: Path, *arguments: Any) -> list[dict[str, Any]]:
    mp.spawn(worker, args=(size, str(folder), *arguments), nprocs=size, join=True)
    return [torch.load(path, weights_only=False) for path in sorted(folder.glob("rank*.pt"))]


@pytest.mark.parametrize(("size", "ragged"), [(2, True), (4, False)])
def test_replicated_ranks_equal_one_process_with_one_reduction_per_product(
    size: int, ragged: bool, tmp_path: Path
) -> None:
    alone = Probe(ranks.net(), ranks.loss, settings=ranks.EXACT).measure(ranks.data())
    found = _run(ranks.replicated, size, tmp_path, ragged)
    assert len(found) == size
    for one in found:
        assert one["rho"] == pytest.approx(alone.rho, rel=1e-6)
        assert one["gamma"] == pytest.approx(alone.gamma, rel=1e-6)
        assert one["examples"] == 24
        # The count of examples, the gradient, the product that chose the kind, both starts; then one per product.
        assert one["reductions"] == one["matvecs"] + 5
        assert torch.equal(one["w"], found[0]["w"])


def test_sharded_ranks_equal_one_process_within_the_tolerance_of_differences(tmp_path: Path) -> None:
    exact = ProbeSettings(matvec="double_backward", rho_tol=1e-4, gamma_tol=1e-2, gamma_floor=0.0)
    alone = Probe(ranks.net(torch.float32, width=8), ranks.loss, settings=exact).measure(ranks.data(24, torch.float32))
    for one in _run(ranks.sharded, 2, tmp_path):
        assert one["status"] == "ok", one["detail"]
        assert one["same"]
        assert one["rho"] == pytest.approx(alone.rho, rel=1e-2)
        assert abs(one["gamma"] - alone.gamma) <= one["gamma_bound"] + alone.gamma_bound


@pytest.mark.parametrize("how", ["dies", "stalls"])
def test_a_rank_that_dies_or_stalls_does_not_hang_the_others(how: str, tmp_path: Path) -> None:
    found = _run(ranks.one_missing, 3, tmp_path, how)
    waiting = [one for one in found if one["status"] != "late"]
    assert len(waiting) == 2
    for one in waiting:
        assert one["status"] == "unavailable"
        assert "expected every rank within 3 s" in one["detail"]
        assert one["seconds"] < 7
        assert one["again"] == "unavailable"


@pytest.mark.parametrize("kind", ["auto", "double_backward", "finite_difference"])
def test_a_rank_whose_loss_raises_alone_hangs_nobody(kind: str, tmp_path: Path) -> None:
    """The rank itself says why at once; the others wait once for it, and training goes on together."""
    found = _run(ranks.one_raises, 2, tmp_path, kind)
    assert len(found) == 2
    for one in found:
        assert one["first"] == "ok"
        assert [status for status, _ in one["said"]] == ["unavailable"] * 3
        assert sum(one["seconds"]) < 9
        assert torch.equal(one["w"], found[0]["w"])
    assert "expected every rank within 3 s" in found[0]["said"][0][1]
    assert found[1]["said"][0][1] == "ValueError: no loss of this batch"


@pytest.mark.parametrize("kind", ["auto", "double_backward", "finite_difference"])
def test_a_rank_without_examples_adds_nothing(kind: str, tmp_path: Path) -> None:
    alone = Probe(ranks.net(), ranks.loss, settings=ranks.EXACT).measure(ranks.data())
    for one in _run(ranks.one_without_examples, 2, tmp_path, kind):
        assert one["status"] == "ok", one["detail"]
        assert one["examples"] == 24
        assert one["rho"] == pytest.approx(alone.rho, rel=1e-3)
        assert one["gamma"] == pytest.approx(alone.gamma, rel=1e-2)


@pytest.mark.parametrize("missing", ["all", "one of two"])
def test_a_rank_of_a_sharded_model_without_examples_hangs_nobody(missing: str, tmp_path: Path) -> None:
    """Every forward pass needs every rank's shards: all say so at once, and the next batch is measured."""
    alone = Probe(ranks.net(torch.float32, width=8), ranks.loss).measure(ranks.data(24, torch.float32))
    for one in _run(ranks.one_without_examples_of_a_shard, 2, tmp_path, missing):
        assert (one["status"], one["again"]) == ("unavailable", "ok")
        assert "no examples in this batch" in one["detail"]
        assert one["seconds"] < 10
        assert one["same"]
        assert one["rho"] == pytest.approx(alone.rho, rel=0.02)
