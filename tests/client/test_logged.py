"""Numbers of the user's own: into the history with the next decision, through an outage, and at the end."""

import csv
import io
import logging
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from dcao_client import DCAO, attach
from dcao_client.session import Session
from dcao_proto import Hyperparameters, Observation, RunSpec
from dcao_proto.observation import MAX_METRICS
from tests.components.controller import Controller

SPEC = RunSpec(optimizer="sgd", base=Hyperparameters(lr=0.1, momentum=0.9))


def session(controller: Controller | None, run: str, folder: Path) -> Session:
    url = None if controller is None else controller.url
    return Session(SPEC, run=run, project="logged", url=url, deadline=10.0, journal_dir=folder)


def seen(step: int) -> Observation:
    return Observation(step=step, rho=12.0, gamma=4.0, loss=1.0)


def metrics(controller: Controller, run: str) -> dict[int, dict[str, float]]:
    """By step, where there are any."""
    path = f"{controller.url}/v1/projects/logged/runs/{run}/decisions"
    records = httpx.get(path).raise_for_status().json()["records"]
    return {r["step"]: r["observation"]["metrics"] for r in records if "metrics" in r["observation"]}


def test_what_is_logged_is_in_the_history_once_and_in_every_export(controller: Controller, tmp_path: Path) -> None:
    talk = session(controller, "kept", tmp_path)
    talk.decide(seen(0))
    talk.log(val_accuracy=0.5)
    talk.log({"val/loss": np.float32(0.25)}, val_accuracy=0.75)
    talk.decide(seen(100))
    talk.decide(seen(200))
    assert talk.finish()
    assert metrics(controller, "kept") == {100: {"val_accuracy": 0.75, "val/loss": 0.25}}
    path = f"{controller.url}/v1/projects/logged/runs/kept"
    rows = list(csv.DictReader(io.StringIO(httpx.get(f"{path}/decisions?format=csv").text)))
    assert [row["metrics"] for row in rows] == ["", '{"val_accuracy": 0.75, "val/loss": 0.25}', ""]
    outline = httpx.get(f"{path}/outline").json()
    assert outline["records"][1]["observation"]["metrics"] == {"val_accuracy": 0.75, "val/loss": 0.25}


def test_what_is_logged_after_the_last_decision_is_kept_at_the_end_and_the_list_shows_the_last_values(
    controller: Controller, tmp_path: Path
) -> None:
    talk = session(controller, "ended", tmp_path)
    talk.decide(seen(0))
    talk.decide(seen(100))
    talk.log(test_accuracy=0.9)
    assert talk.finish(step=130)
    assert metrics(controller, "ended") == {130: {"test_accuracy": 0.9}}
    runs = httpx.get(f"{controller.url}/v1/runs?project=logged&text=ended").json()["runs"]
    (run,) = [run for run in runs if run["run"] == "ended"]
    assert (run["status"], run["sharpness"], run["loss"]) == ("finished", 12.0, 1.0)
    assert run["edge_ratio"] > 0


def test_it_waits_in_the_journal_while_the_controller_is_away(mortal_controller: Controller, tmp_path: Path) -> None:
    talk = session(mortal_controller, "outage", tmp_path)
    talk.decide(seen(0))
    mortal_controller.kill()
    talk.log(val_accuracy=0.6)
    talk.decide(seen(100))
    mortal_controller.start()
    assert talk.flush(30.0)
    talk.decide(seen(200))
    talk.close()
    assert metrics(mortal_controller, "outage") == {100: {"val_accuracy": 0.6}}


class Awkward:
    def __float__(self) -> float:
        raise RuntimeError("no")


def test_what_does_not_fit_is_left_out_and_said_once(
    controller: Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    talk = session(controller, "odd", tmp_path)
    with caplog.at_level(logging.WARNING):
        for value in (float("nan"), float("inf"), "high", None, [1, 2], Awkward(), np.zeros(3)):
            talk.log(odd=value)
        for name in ("", "a b", "1st", "x" * 64, "<b>", "näh"):
            talk.log({name: 1.0})
        talk.log({3: 1.0})  # type: ignore[dict-item]
    assert sum("was not logged" in record.getMessage() for record in caplog.records) == 1
    talk.log({f"name{index}": index for index in range(MAX_METRICS + 5)})
    talk.log(name0=7.0)
    talk.decide(seen(0))
    talk.close()
    kept = metrics(controller, "odd")[0]
    assert len(kept) == MAX_METRICS
    assert kept["name0"] == 7.0


@pytest.mark.parametrize(
    "metrics",
    [{f"n{index}": 1.0 for index in range(MAX_METRICS + 1)}, {"a b": 1.0}, {"": 1.0}, {"a": "1"}, {"a": None}, [1.0]],
    ids=["many", "name", "empty", "text", "null", "list"],
)
def test_the_controller_refuses_what_does_not_fit(controller: Controller, metrics: object) -> None:
    run = f"{controller.url}/v1/projects/logged/runs/refused"
    httpx.put(run, json=SPEC.wire()).raise_for_status()
    body = {"step": 0, "rho": 1.0, "gamma": 0.5, "metrics": metrics}
    assert httpx.post(f"{run}/decisions", json=body).status_code == 422


def test_without_a_controller_nothing_is_hurt(tmp_path: Path) -> None:
    talk = session(None, "alone", tmp_path)
    talk.log(val_accuracy=0.5)
    assert talk.decide(seen(0)).lr > 0
    talk.log(val_accuracy=0.6)
    assert talk.finish()


@pytest.mark.parametrize("kind", ["attach", "DCAO", "DCAO with a rate", "switched off"])
def test_a_training_loop_logs_beside_its_decisions(
    controller: Controller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 2)
    batch = torch.randn(32, 4), torch.randint(2, (32,))

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch[0]), batch[1])

    if kind == "switched off":
        monkeypatch.setenv("DCAO_ENABLED", "0")
    run = kind.replace(" ", "-")
    options = {"run": run, "project": "logged", "url": controller.url, "deadline": 10.0, "journal_dir": tmp_path}
    if kind.startswith("DCAO"):
        optimizer: torch.optim.Optimizer = DCAO(model, loss, **({"lr": 0.1} if "rate" in kind else {}), **options)
        control, log = optimizer.control, optimizer.log  # type: ignore[attr-defined]
    else:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        control = attach(model, optimizer, loss, **options)
        log = control.log
    for step in range(3):
        control.step(batch)
        optimizer.zero_grad()
        loss(model, batch).backward()
        optimizer.step()
        log(val_loss=torch.tensor(float(step)))
    control.finish()
    if kind != "switched off":
        kept = metrics(controller, run)
        assert max(kept) == 3, "the last was logged after three steps"
        assert kept[3] == {"val_loss": 2.0}
