"""Curves in real loggers, read back."""

import json
import struct
from pathlib import Path

import pytest
import torch

from dcao_client import DCAO, attach
from tests.frameworks.regression import CONTROL, loader, mse, net


def trained(*targets: object) -> list[tuple[int, dict[str, float]]]:
    """What was decided, by step, of a run of eight steps that logs to the targets."""
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    said = []
    dcao = attach(model, optimizer, mse, run="r", **{**CONTROL, "probe_interval": 3})
    dcao.log_to(*targets, lambda metrics, step: said.append((step, metrics)))
    for batch in loader():
        decision = dcao.step(tuple(batch))
        if decision is not None:
            assert said[-1][0] == decision.step
            assert said[-1][1]["dcao/lr"] == decision.lr
            assert said[-1][1]["dcao/rho"] == dcao.spectrum.rho
        optimizer.zero_grad()
        mse(model, batch).backward()
        optimizer.step()
    dcao.finish()
    assert [step for step, _ in said] == [0, 3, 6]
    return said


def test_tensorboard():
    """Scalars at their steps."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("runs") as writer:
        said = trained(writer)
    events = EventAccumulator("runs")
    events.Reload()
    assert {"dcao/rho", "dcao/gamma", "dcao/lr", "dcao/edge_ratio"} <= set(events.Tags()["scalars"])
    read = [(e.step, e.value) for e in events.Scalars("dcao/rho")]
    assert [step for step, _ in read] == [0, 3, 6]
    assert [value for _, value in read] == pytest.approx([metrics["dcao/rho"] for _, metrics in said], rel=1e-6)


def test_mlflow():
    """Metrics of the active run."""
    import mlflow

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    with mlflow.start_run() as run:
        said = trained(mlflow)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "dcao/rho")
    assert [(m.step, m.value) for m in history] == [(step, metrics["dcao/rho"]) for step, metrics in said]


def records(log: bytes) -> list[bytes]:
    """What an offline file of Weights & Biases holds: LevelDB's log format after a header of seven bytes."""
    found, at, parts = [], 7, b""
    while at + 7 <= len(log):
        if (left := -at % 32768) and left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", log[at : at + 7])
        parts += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(parts)
            parts = b""
    return found


def test_wandb_offline():
    """History rows on an axis of our own, beside the user's own steps."""
    import wandb
    from wandb.proto import wandb_internal_pb2

    run = wandb.init(project="p", mode="offline", dir=".")
    run.log({"mine": 1.0}, step=100)
    said = trained(run)
    run.finish()
    rows = []
    for data in records(next(Path("wandb").rglob("run-*.wandb")).read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "history":
            items = {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in record.history.item}
            if "dcao/step" in items:
                rows.append((items["dcao/step"], items["dcao/rho"]))
    assert rows == [(step, pytest.approx(metrics["dcao/rho"])) for step, metrics in said]


def test_aim():
    """Sequences of the run."""
    import aim
    from aim.storage.context import Context

    run = aim.Run(repo=".", system_tracking_interval=None, log_system_params=False)
    said = trained(run)
    steps, (values, *_) = run.get_metric("dcao/rho", Context({})).data.items_list()
    assert list(zip(steps, values, strict=True)) == [(step, metrics["dcao/rho"]) for step, metrics in said]
    run.close()


def test_a_dcao_logs_too_and_a_broken_logger_stops_nothing(caplog):
    """Named once; the other goes on."""
    said = []

    def full(metrics: dict, step: int) -> None:
        raise OSError("No space left on device")

    model = net()
    optimizer = DCAO(model, mse, run="r", overhead=None, probe_interval=2)
    optimizer.control.log_to(full, lambda metrics, step: said.append(step))
    for batch in loader():
        optimizer.zero_grad()
        mse(model, batch).backward()
        optimizer.step(batch=tuple(batch))
    assert len(said) >= 4
    assert sum("No space left" in r.message for r in caplog.records) == 1
    with pytest.raises(TypeError, match="SummaryWriter"):
        optimizer.control.log_to(3)
