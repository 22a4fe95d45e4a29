"""`DCAO_ENABLED` and `DCAO_TRUST`: the hooks are turned off, or held to watching, from outside."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dcao_client import DCAO, attach
from dcao_client.errors import SettingsError
from dcao_client.settings import HookSettings
from dcao_experiments.training import batches, cross_entropy, train
from tests.client.test_attach import DATA, cnn, same, sgd, weights

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(
    r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
)


def trained(tmp_path: Path, *, enabled: bool, steps: int = 40) -> tuple:
    model = cnn()
    optimizer = sgd(model, lr=0.5)
    dcao = attach(model, optimizer, cross_entropy, overhead=None, run="r", journal_dir=tmp_path) if enabled else None
    for _ in train(model, optimizer, batches(DATA, 64, steps, seed=1), dcao=dcao):
        pass
    return model, optimizer, dcao


@pytest.mark.parametrize("off", ["0", "false", "OFF", "no"])
def test_turned_off_the_run_is_the_one_without_us(tmp_path, monkeypatch, off, caplog):
    """Weights, hooks of the optimizer, files: nothing of ours; said once."""
    plain, _, _ = trained(tmp_path, enabled=False)
    monkeypatch.setattr("dcao_client.hooks.disabled._said", set())
    monkeypatch.setenv("DCAO_ENABLED", off)
    model, optimizer, dcao = trained(tmp_path, enabled=True)
    assert same(weights(plain), weights(model))
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks
    assert not list(tmp_path.iterdir())
    with attach(model, optimizer, cross_entropy) as again:
        assert again.step(next(batches(DATA, 64, 1, seed=1))) is None
    assert (dcao.decision, dcao.spectrum, dcao.session, dcao.applied, dcao.went_back) == (None, None, None, None, False)
    assert [r.message for r in caplog.records if "DCAO_ENABLED=0" in r.message] == [
        "DCAO_ENABLED=0: nothing is measured, no controller is asked, and no value is changed"
    ]
    dcao.finish()


def test_turned_on_the_same_run_is_another(tmp_path, monkeypatch):
    """What the test above would not see if `attach` did nothing anyway."""
    monkeypatch.setenv("DCAO_ENABLED", "1")
    model, _, dcao = trained(tmp_path, enabled=True)
    assert dcao.session.stats.decisions == 4  # at 0, 1, 4 and 16: it has batch norm
    assert not same(weights(trained(tmp_path, enabled=False)[0]), weights(model))
    dcao.finish()


def test_dcao_trains_on_when_turned_off(tmp_path, monkeypatch, caplog):
    """It is the optimizer: the loss falls at the path's rate; nothing is probed, nobody asked."""
    monkeypatch.setattr("dcao_client.hooks.disabled._said", set())
    monkeypatch.setenv("DCAO_ENABLED", "0")
    model = cnn()
    optimizer = DCAO(model, cross_entropy, run="r", journal_dir=tmp_path)
    losses = []
    for batch in batches(DATA, 64, 60, seed=1):
        optimizer.zero_grad()
        loss = cross_entropy(model, batch)
        loss.backward()
        optimizer.step(batch=batch)
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert optimizer.control.decision is None
    assert (optimizer.control.steps, optimizer.control.applied) == (60, optimizer.applied)
    assert not list(tmp_path.iterdir())
    assert sum("DCAO trains at the path's rate" in r.message for r in caplog.records) == 1
    optimizer.eval()
    optimizer.control.finish()


@pytest.mark.parametrize("learning_rate", [None, 0.05])
@pytest.mark.parametrize("first", ["0", "1"])
def test_a_checkpoint_goes_from_on_to_off_and_back(tmp_path, monkeypatch, learning_rate, first):
    """Turning it off for one night loses no run; what curvature said is asked anew."""
    stream = list(batches(DATA, 64, 30, seed=1))

    def going(switch: str, saved: dict | None, weights: dict | None, data: list) -> tuple[dict, dict, DCAO]:
        monkeypatch.setenv("DCAO_ENABLED", switch)
        model = cnn()
        optimizer = DCAO(model, cross_entropy, lr=learning_rate, run="r", journal_dir=tmp_path) if learning_rate else \
            DCAO(model, cross_entropy, run="r", journal_dir=tmp_path)  # fmt: skip
        if saved is not None:
            model.load_state_dict(weights)
            optimizer.load_state_dict(saved)
            if learning_rate:
                optimizer.control.load_state_dict(saved["attached"])
        for batch in data:
            optimizer.zero_grad()
            cross_entropy(model, batch).backward()
            optimizer.step(batch=batch)
        state = copy.deepcopy(optimizer.state_dict())
        if learning_rate:
            state["attached"] = optimizer.control.state_dict()
        optimizer.control.finish()
        return state, copy.deepcopy(model.state_dict()), optimizer

    saved, held, _ = going(first, None, None, stream[:10])
    _, after, optimizer = going(str(1 - int(first)), saved, held, stream[10:])
    assert all(torch.isfinite(value).all() for value in after.values())
    assert not same(held, after)
    if learning_rate is None:
        assert optimizer.steps == 30
    assert (optimizer.control.decision is None) == (first == "1")


def test_the_environment_says_how_far_to_go(tmp_path, monkeypatch):
    """`DCAO_TRUST` where the code says nothing; what the code says goes first."""
    monkeypatch.setenv("DCAO_TRUST", " Watch\n")
    model = cnn()
    with attach(model, sgd(model), cross_entropy, run="r", journal_dir=tmp_path) as dcao:
        assert (dcao.session.spec.trust, dcao.session.spec.scale) == ("watch", "user")
    with attach(model, sgd(model), cross_entropy, trust="auto", run="s", journal_dir=tmp_path) as dcao:
        assert dcao.session.spec.trust == "auto"
    monkeypatch.setenv("DCAO_TRUST", "")
    with attach(model, sgd(model), cross_entropy, run="t", journal_dir=tmp_path) as dcao:
        assert dcao.session.spec.trust == "guard"


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("DCAO_ENABLED", "nope", "DCAO_ENABLED: expected 1 or 0"),
        ("DCAO_TRUST", "wacht", "DCAO_TRUST: expected watch, guard or auto"),
    ],
)
@pytest.mark.parametrize("how", ["attach", "DCAO"])
def test_a_mistyped_switch_is_one_line_at_attach(tmp_path, monkeypatch, variable, value, says, how):
    """Not a run that is controlled although it should not be."""
    monkeypatch.setenv(variable, value)
    model = cnn()
    with pytest.raises(SettingsError, match=says) as refusal:
        attach(model, sgd(model), cross_entropy) if how == "attach" else DCAO(model, cross_entropy)
    assert "\n" not in str(refusal.value)


def test_the_documentation_has_the_switches():
    """Name, default and meaning, as in the code."""
    page = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")
    for name, field in HookSettings.model_fields.items():
        default = "" if field.default is None else f"`{field.default}`"
        assert f"| `DCAO_{name.upper()}` | {default} | {field.description} |" in page


HOOKED = [text for text in SNIPPETS if "Session(" not in text and "from dcao_client.hooks." not in text]


@pytest.mark.parametrize("number", range(len(HOOKED)))
def test_the_readme_runs_turned_off(number, tmp_path):
    """Without a change of code, as it says."""
    environment = {**os.environ, "DCAO_ENABLED": "0", "DCAO_URL": ""}
    command = [sys.executable, "-c", HOOKED[number]]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    assert not list(tmp_path.rglob("*.jsonl"))
