"""The grid that judges the law: it goes on where it stopped, and its table says no more than the records do."""

import json
from dataclasses import replace

import pytest
import torch

from dcao_experiments.grid import read, run_all
from dcao_experiments.methods import METHODS
from dcao_experiments.report import tables
from dcao_experiments.run import Run
from dcao_experiments.suites import SUITES
from dcao_experiments.workloads import sources
from dcao_experiments.workloads.minilm import WordPieces, safetensors
from dcao_experiments.workloads.small import WORKLOADS

TINY = {"batch": 8, "steps": 2}


def record(method="dcao", final=0.9, *, workload="mlp", seed=10, rate=0.0, looks=None, **more):
    """What a run of three looks leaves, 30 steps."""
    found = Run(workload, method, seed, rate)
    values = [0.5, 0.7, final] if looks is None else looks
    steps = [[10 * (i + 1), value] for i, value in enumerate(values)]
    return {**vars(found), "key": found.key(), "batch": 128, "steps": 30, "final": values[-1], "looks": steps, **more}


def test_a_grid_goes_on_where_it_was_killed(tmp_path, monkeypatch, capsys):
    """Recorded runs are not trained again; a line that was cut short is, and spoils nothing."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    out = tmp_path / "final.jsonl"
    runs = [Run("resnet", "dcao", 0, **TINY), Run("resnet", "adamw", 0, rate=0.001, **TINY)]
    run_all(runs, out, jobs=1)
    whole = {r["key"]: r["final"] for r in read(out)}
    assert len(whole) == 2
    out.write_text(out.read_text()[:-40])
    assert len(read(out)) == 1

    run_all(runs, out, jobs=1)
    run_all(runs, out, jobs=1)
    assert "1 recorded, 1 to train" in capsys.readouterr().err
    assert {r["key"]: r["final"] for r in read(out)} == whole, "the same seed ends the same"
    ours = next(r for r in read(out) if r["method"] == "dcao")
    assert len(ours["looks"]) == 2
    assert ours["probe_share"] > 0
    assert ours["cpu_share"] > 0
    assert {"commit", "torch", "python", "matvec"} <= set(ours)
    assert "resnet" in tables.final_table(read(out))


def test_a_peer_that_is_not_installed_is_named_and_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(METHODS, "dog", replace(METHODS["dog"], module="no_such_module"))
    run_all([Run("mlp", "dog", 0)], tmp_path / "final.jsonl", jobs=1)
    assert "pip install --no-deps dog-optimizer" in capsys.readouterr().err
    assert read(tmp_path / "final.jsonl") == []


def test_a_failure_that_was_made_good_and_a_method_as_it_was_are_forgotten(tmp_path, monkeypatch):
    good = record()
    failed = {k: v for k, v in good.items() if k not in ("final", "looks")} | {"error": "MemoryError"}
    out = tmp_path / "final.jsonl"
    old = record("adamw")
    out.write_text("".join(json.dumps(r) + "\n" for r in (failed, good, failed, old)))
    monkeypatch.setitem(METHODS, "adamw", replace(METHODS["adamw"], revision=2))
    assert read(out) == [good]
    monkeypatch.setitem(WORKLOADS, "mlp", replace(WORKLOADS["mlp"], revision=WORKLOADS["mlp"].revision + 1))
    assert read(out) == []


def test_no_pixel_is_in_training_and_test_patches(monkeypatch):
    """Pixels that carry their own number show it, also after they were scaled."""
    picture = torch.arange(427 * 640, dtype=torch.float64).view(427, 640, 1).expand(-1, -1, 3).numpy()
    pair = type("Images", (), {"images": [picture]})
    monkeypatch.setattr("sklearn.datasets.load_sample_images", lambda: pair)
    x, y, x_test, y_test = sources.patches.__wrapped__()
    numbers, tested = (torch.unique((t[:, 0] * 0.27 + 0.45).mul(255).round()) for t in (x, x_test))
    assert not torch.isin(tested, numbers).any()
    assert torch.unique(y).tolist() == torch.unique(y_test).tolist() == list(range(8))


def test_those_named_in_advance_train_only_when_they_are_named():
    names = {w.name for w in WORKLOADS.values() if w.named}
    assert names == {"lstm", "mixer"}
    assert {run.workload for run in SUITES["law"].runs(["mixer"], [10])} == {"mixer"}


def test_a_pretrained_network_is_trained_short_and_long_beside_five_rates():
    runs = list(SUITES["finetune"].runs(["mlp"], [10]))
    assert {run.workload for run in runs} == {"minilm"}
    assert [run.steps for run in runs if run.method == "dcao"] == [60, 240, 960]
    assert len({run.rate for run in runs if run.method == "adamw" and run.steps == 960}) == 5


def test_equals_share_their_place():
    """Listed first is not better."""
    assert tables.ranks_of({"dcao": 0.87, "schedule-free": 0.87, "dog": 0.9}, lower=False) == {
        "dcao": 2.5, "schedule-free": 2.5, "dog": 1.0,
    }  # fmt: skip
    assert tables.ranks_of({"dcao": 1.0, "dog": 2.0}, lower=True) == {"dcao": 1, "dog": 2}


def test_a_first_look_above_the_level_is_not_yet_there_for_good():
    ours, cosine = [record(looks=[0.86, 0.8, 0.87])], [record("sgd", looks=[0.1, 0.2, 0.85])]
    assert tables.sooner(ours, cosine, lower=False) == [pytest.approx(2 / 3)]
    assert tables.sooner(ours, cosine, lower=False, for_good=True) == [0.0]
    assert tables.sooner([record(looks=[0.1, 0.2, 0.84])], cosine, lower=False) == [-1.0]
    assert tables.sooner([record(looks=[0.9, 0.9, 0.84])], cosine, lower=False, for_good=True) == [-1.0]


def test_a_rate_at_an_end_of_its_grid_is_marked():
    rates = [record("sgd", final, rate=rate) for rate, final in ((0.1, 0.8), (0.2, 0.85), (0.4, 0.9))]
    assert "at the grid's end" in tables.rated(rates, lower=False)[0]
    assert "at the grid's end" in tables.rated(rates, lower=True)[0]
    assert "grid" not in tables.rated([*rates, record("sgd", 0.1, rate=0.8)], lower=False)[0]


def test_without_a_cosine_nothing_is_said_to_be_sooner():
    said = tables.final_table([record()])
    assert "sooner" in said.splitlines()[0]
    assert "100%" not in said
    assert "±" not in said, "a single seed has no error"


def test_places_among_fewer_do_not_count():
    """A workload where a peer has not run yet would make every other place better."""
    whole = [record(m, f) for m, f in (("dcao", 0.9), ("dog", 0.8), ("prodigy", 0.85))]
    part = [record(m, f, workload="vit") for m, f in (("dcao", 0.7), ("dog", 0.8))]
    assert "Mean rank over 1 workloads: dcao 1.0, prodigy 2.0, dog 3.0." in tables.final_table([*whole, *part])


def test_width_is_that_of_neighbouring_rates():
    rates = {1 / 64: [0.86], 1 / 8: [0.86], 1.0: [0.86], 8.0: [0.5], 64.0: [0.86]}
    assert tables.octaves(rates, 0.85, lower=False) == 6
    assert tables.octaves({k: [0.86] for k in rates}, 0.85, lower=False) == 12
    centre = WORKLOADS["mlp"].sgd
    trusted = [record("sgd-auto", v[0], rate=centre * k) for k, v in rates.items()]
    cosine = [record("sgd", f, rate=centre * s) for s, f in ((0.5, 0.8), (1.0, 0.86), (2.0, 0.8))]
    assert tables.rate_table(trusted, cosine).endswith("| 6 |")


def test_words_become_the_longest_known_pieces():
    pieces = WordPieces(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "##in", ",", "p"])
    assert pieces("Playing, xyz", 8) == [2, 4, 5, 7, 1, 3, 0, 0]
    assert pieces("play play play", 4) == [2, 4, 4, 3]


def test_weights_are_read_from_their_file(tmp_path):
    numbers = torch.tensor([[1.0, -2.0, 0.5]])
    header = json.dumps({"w": {"dtype": "F32", "shape": [1, 3], "data_offsets": [0, 12]}}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + numbers.numpy().tobytes())
    assert torch.equal(safetensors(path)["w"], numbers)
