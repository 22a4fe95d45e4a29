"""A record as one flat row, for spreadsheets and data frames: every field in a column of its own, in a fixed order."""

import json
from collections.abc import Callable
from typing import Literal, NamedTuple

from dcao_proto import Hyperparameters, Record

Value = int | float | str | bool | None
Kind = Literal["int", "float", "text", "bool"]


class Column(NamedTuple):
    """Name, type, and how to read it off a record."""

    name: str
    kind: Kind
    read: Callable[[Record], Value]


def _observed(name: str, kind: Kind = "float") -> Column:
    return Column(name, kind, lambda record: getattr(record.observation, name))


def _decided(name: str, kind: Kind = "float") -> Column:
    return Column(name, kind, lambda record: getattr(record.decision, name))


def _of(values: Hyperparameters | None, name: str) -> float | None:
    return None if values is None else getattr(values, name)


def _hyperparameters(prefix: str) -> list[Column]:
    def column(name: str) -> Column:
        return Column(f"{prefix}_{name}", "float", lambda r: _of(getattr(r.observation, prefix), name))

    return [column(name) for name in ("lr", "momentum", "weight_decay")]


def _multiplier(name: str) -> Column:
    return Column(f"multiplier_{name}", "float", lambda r: getattr(r.decision.multipliers, name))


def _probe(name: str, kind: Kind) -> Column:
    return Column(
        f"probe_{name}", kind, lambda r: None if r.observation.probe is None else getattr(r.observation.probe, name)
    )


def _directional(name: str) -> Column:
    return Column(
        f"directional_{name}",
        "float",
        lambda r: None if r.observation.directional is None else getattr(r.observation.directional, name),
    )


def _path(name: str, kind: Kind = "float") -> Column:
    return Column(
        f"path_{name}",
        kind,
        lambda r: None if r.observation.path is None else getattr(r.observation.path, name),
    )


COLUMNS: tuple[Column, ...] = (
    Column("attempt", "int", lambda r: r.attempt),
    Column("step", "int", lambda r: r.step),
    _decided("lr"),
    _decided("momentum"),
    _decided("weight_decay"),
    _multiplier("lr"),
    _multiplier("momentum"),
    _multiplier("weight_decay"),
    _decided("edge_ratio"),
    _decided("regime", "text"),
    Column("reasons", "text", lambda r: ";".join(r.decision.reasons)),
    _decided("action", "text"),
    _decided("next_probe_in", "int"),
    _observed("status", "text"),
    _observed("rho"),
    _observed("gamma"),
    _observed("lambda_min"),
    _observed("batch_sharpness"),
    _observed("grad_norm"),
    _observed("loss"),
    _observed("rho_bound"),
    _observed("gamma_bound"),
    *_hyperparameters("base"),
    *_hyperparameters("applied"),
    _probe("matvecs", "int"),
    _probe("seconds", "float"),
    _probe("overhead", "float"),
    _probe("examples", "int"),
    _probe("fingerprint", "text"),
    _directional("slope"),
    _directional("curvature"),
    _observed("worker", "text"),
    _observed("weight"),
    _decided("policy", "text"),
    _decided("version", "int"),
    Column("recorded_at", "float", lambda r: r.recorded_at),
    Column("origin", "text", lambda r: r.origin),
    Column("deviates", "bool", lambda r: r.deviates),
    _decided("ceiling"),
    _path("distance"),
    _path("gradients"),
    _path("steps", "int"),
    _path("shape"),  # Names differ from run to run, and a row has the same columns in all of them.
    Column("metrics", "text", lambda r: json.dumps(r.observation.metrics) if r.observation.metrics else None),
)
