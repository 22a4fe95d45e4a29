"""What is given to `load_state_dict` and is no checkpoint of it: one sentence, and nothing taken from it."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dcao_client import DCAO, DcaoError, Session, attach
from dcao_client.errors import CheckpointError
from dcao_client.spectrum import Budget, Probe
from tests.client.test_session import SPEC, observations


def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
    return model(batch).square().mean()


def loaders(tmp: Path) -> dict[str, Any]:
    """Everything of ours that has a `load_state_dict`, after a few steps."""
    torch.manual_seed(0)
    batch = torch.randn(16, 4)
    model, averaged = nn.Linear(4, 3), nn.Linear(4, 3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    control = attach(model, optimizer, loss, trust="auto", run="a", journal_dir=tmp)
    ours = DCAO(averaged, loss, run="b", journal_dir=tmp)
    for _ in range(3):
        control.step(batch)
        for one, steps in ((model, optimizer.step), (averaged, lambda: ours.step(batch=batch))):
            one.zero_grad()
            loss(one, batch).backward()
            steps()
    session = Session(SPEC, run="c", journal_dir=tmp)
    for seen in observations(3):
        session.decide(seen)
    probe = Probe(model, loss)
    probe.measure(batch)
    return {"attachment": control, "DCAO": ours, "session": session, "probe": probe, "budget": Budget()}


NAMES = ["attachment", "DCAO", "session", "probe", "budget"]


def sentence(one: Any, state: Any) -> str:
    with pytest.raises(CheckpointError, match=r"^expected the dict that [^ ]+.*state_dict\(\) gave") as caught:
        one.load_state_dict(state)
    assert isinstance(caught.value, DcaoError)
    assert isinstance(caught.value, ValueError)
    return str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_checkpoint_is_named(name: str, tmp_path: Path) -> None:
    every = loaders(tmp_path)
    one = every[name]
    before = copy.deepcopy(one.state_dict())
    assert "got an empty one, which lacks" in sentence(one, {})
    assert "got NoneType" in sentence(one, None)
    assert "got list" in sentence(one, [1])
    assert "(a torch optimizer's)" in sentence(one, torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=1.0).state_dict())
    for other in (every[n] for n in NAMES if n != name):
        assert "load" in sentence(one, other.state_dict())
    assert repr(one.state_dict()) == repr(before)
    one.load_state_dict(before)


@pytest.mark.parametrize("name", NAMES)
def test_a_checkpoint_that_is_cut_short_is_named(name: str, tmp_path: Path) -> None:
    """Whichever entry is missing, or holds something else."""
    one = loaders(tmp_path)[name]
    whole = one.state_dict()
    optional = {"session": {"base", "last"}, "attachment": {"version"}, "probe": {"of"}}.get(name, set())
    for key in whole.keys() - optional:
        said = sentence(one, {k: v for k, v in copy.deepcopy(whole).items() if k != key})
        assert key in said
        assert "begin afresh" in said
    sentence(one, {**{k: object() for k in whole}, **({"version": 1} if "version" in whole else {})})


@pytest.mark.parametrize("name", ["attachment", "probe"])
def test_a_checkpoint_of_another_version_is_named(name: str, tmp_path: Path) -> None:
    one = loaders(tmp_path)[name]
    assert "got version 9" in sentence(one, {**one.state_dict(), "version": 9})


def test_a_checkpoint_of_another_optimizer_is_named(tmp_path: Path) -> None:
    """Of other parameters, and of an attachment that followed no path."""
    every = loaders(tmp_path)
    other = DCAO(nn.Linear(2, 2), loss, params=None, run="d", journal_dir=tmp_path)
    sentence(other, {**every["DCAO"].state_dict(), "param_groups": []})
    spoilt = copy.deepcopy(every["attachment"].state_dict())
    del spoilt["controlled"]["path"]["meter"]
    assert "it lacks 'meter'" in sentence(every["attachment"], spoilt)
