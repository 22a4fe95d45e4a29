"""A record as bytes: a MessagePack array without names, without the state token, floats bit for bit.

175 bytes with ρ, γ and the loss, 346 with everything that a probe measures; as JSON 575 and 1,166
(`tests/server/test_codec.py`); a cause takes 20, and 10 to 20 for each of its numbers. The attempt and the step are not
in it: they are the record's place in the store.
"""

import operator
from collections.abc import Iterable
from functools import lru_cache
from typing import Annotated, Any

import msgpack
import structlog
from pydantic import ConfigDict, Field, TypeAdapter

from dcao_proto import (
    Decision,
    Directional,
    GroupDirectional,
    Hyperparameters,
    Multipliers,
    Observation,
    ProbeReport,
    Record,
)
from dcao_proto.decision import MAX_CAUSES, Cause, GroupMultiplier
from dcao_proto.message import Message, Real
from dcao_proto.observation import Path
from dcao_server.store.contract import StoredRecord

_log = structlog.get_logger(__name__)
SCHEMA = 1
DEVIATES, BACKFILLED = 1, 2
FEW = 12  # parts of a record without a path or a ceiling
UNREADABLE = (ValueError, TypeError, LookupError, AttributeError)
"""What `decode` raises for a payload that this controller did not make."""

# Of a message's __dict__: attribute by attribute takes twice as long.
_VALUE_NAMES = ("lr", "momentum", "weight_decay")
_VALUES = operator.itemgetter(*_VALUE_NAMES)
_PROBE_NAMES = ("matvecs", "seconds", "overhead", "examples", "fingerprint")
_PROBE = operator.itemgetter(*_PROBE_NAMES)
_PATH = ("distance", "gradients", "steps", "shape")
_path_fields = operator.itemgetter(*_PATH)
_OBSERVATION = (
    "status",
    "rho",
    "gamma",
    "lambda_min",
    "batch_sharpness",
    "grad_norm",
    "loss",
    "rho_bound",
    "gamma_bound",
    "worker",
    "weight",
)
_DECISION = (
    "lr",
    "momentum",
    "weight_decay",
    "edge_ratio",
    "regime",
    "reasons",
    "next_probe_in",
    "action",
    "policy",
    "version",
)


def _tuple(*types: Any) -> Any:
    """The type of a tuple, made of types that a program has found."""
    return tuple.__class_getitem__(types)


def _types(message: type[Message], names: tuple[str, ...]) -> Any:
    """The tuple of a message's fields: what may be in a record is what may be on the wire."""
    return _tuple(*(message.model_fields[name].rebuild_annotation() for name in names))


_STRICT = ConfigDict(strict=True, allow_inf_nan=False)
_Values = _types(Hyperparameters, _VALUE_NAMES)
_PARTS: TypeAdapter[Any] = TypeAdapter(
    _tuple(
        int,
        Real,
        int,
        _types(Observation, _OBSERVATION),
        _Values | None,
        _Values | None,
        _types(ProbeReport, _PROBE_NAMES) | None,
        _types(Directional, ("slope", "curvature")) | None,
        _tuple(_types(GroupDirectional, ("name", "slope", "curvature")), ...) | None,
        _types(Decision, _DECISION),
        _types(Multipliers, _VALUE_NAMES),
        _tuple(_types(GroupMultiplier, ("name", "multiplier")), ...) | None,
    ),
    config=_STRICT,
)
_Causes: Any = Annotated[_tuple(_types(Cause, ("code", "numbers")), ...), Field(max_length=MAX_CAUSES)]
_Metrics = Observation.model_fields["metrics"].rebuild_annotation()
_MORE: TypeAdapter[Any] = TypeAdapter(
    _tuple(_types(Path, _PATH) | None, Real | None, _Causes | None, _Metrics), config=_STRICT
)
_observation_fields = operator.itemgetter(*_OBSERVATION)
_decision_fields = operator.itemgetter(*_DECISION)


def encode(
    observation: Observation,
    decision: Decision,
    recorded_at: float,
    *,
    backfilled: bool = False,
    deviates: bool = False,
) -> bytes:
    """The payload of a record."""
    base, applied, probe, path = observation.base, observation.applied, observation.probe, observation.path
    directional, groups = observation.directional, observation.groups
    payload: bytes = msgpack.packb(
        (
            SCHEMA,
            recorded_at,
            (DEVIATES if deviates else 0) | (BACKFILLED if backfilled else 0),
            _observation_fields(observation.__dict__),
            None if base is None else _VALUES(base.__dict__),
            None if applied is None else _VALUES(applied.__dict__),
            None if probe is None else _PROBE(probe.__dict__),
            None if directional is None else (directional.slope, directional.curvature),
            None if groups is None else [(g.name, g.slope, g.curvature) for g in groups],
            _decision_fields(decision.__dict__),
            _VALUES(decision.multipliers.__dict__),
            None if decision.groups is None else [(g.name, g.multiplier) for g in decision.groups],
            *_more(path, decision.ceiling, decision.causes, observation.metrics),
        )
    )
    return payload


def decode(stored: StoredRecord) -> Record:
    """The record of a payload that `encode` made.

    Raises:
        one of `UNREADABLE`: a newer controller made it, or somebody else did.
    """
    attempt, step, payload = stored
    unpacked = msgpack.unpackb(payload, use_list=False)
    if unpacked[0] != SCHEMA:
        raise ValueError(f"expected a record of schema {SCHEMA}, got {unpacked[0]!r}; a newer controller wrote it")
    _PARTS.validate_python(unpacked[:FEW])
    _, recorded_at, flags, seen, base, applied, probe, directional, groups, decided, multipliers, factors = unpacked[
        :FEW
    ]
    more = path, ceiling, causes, metrics = (*unpacked[FEW:], None, None, None, None)[
        :4
    ]  # a later version's parts come after them
    _MORE.validate_python(more)
    if not (seen[0] == "ok") == (seen[1] is not None) == (seen[2] is not None):
        raise ValueError("expected a spectrum with status ok and none without, got otherwise")
    observation = Observation.model_construct(
        attempt=attempt,
        step=step,
        base=_values(base),
        applied=_values(applied),
        probe=None if probe is None else _probe(probe),
        directional=None
        if directional is None
        else Directional.model_construct(slope=directional[0], curvature=directional[1]),
        groups=None
        if groups is None
        else tuple(GroupDirectional.model_construct(name=n, slope=s, curvature=c) for n, s, c in groups),
        metrics=metrics,
        path=None if path is None else Path.model_construct(**dict(zip(_PATH, path, strict=True))),
        **dict(zip(_OBSERVATION, seen, strict=True)),
    )
    decision = Decision.model_construct(
        attempt=attempt,
        step=step,
        multipliers=Multipliers.model_construct(
            lr=multipliers[0], momentum=multipliers[1], weight_decay=multipliers[2]
        ),
        groups=None
        if factors is None
        else tuple(GroupMultiplier.model_construct(name=n, multiplier=m) for n, m in factors),
        ceiling=ceiling,
        causes=None
        if causes is None
        else tuple(Cause.model_construct(code=code, numbers=numbers) for code, numbers in causes),
        replayed=False,
        persisted=True,
        **dict(zip(_DECISION, decided, strict=True)),
    )
    return Record.model_construct(
        attempt=attempt,
        step=step,
        observation=observation,
        decision=decision,
        recorded_at=recorded_at,
        origin="backfill" if flags & BACKFILLED else "online",
        deviates=bool(flags & DEVIATES),
    )


def _more(
    path: Path | None, ceiling: float | None, causes: tuple[Cause, ...] | None, metrics: dict[str, float] | None
) -> tuple[Any, ...]:
    """What records may lack costs nothing at their end: parts of laws that set the rate, why, and what a user logs."""
    parts = [_path(path), ceiling, None if causes is None else [(c.code, c.numbers) for c in causes], metrics or None]
    while parts and parts[-1] is None:
        parts.pop()
    return tuple(parts)


OUTLINED = 3


def logged(payload: bytes) -> bool:
    """Whether the user logged something with a payload."""
    try:
        return bool(msgpack.unpackb(payload, use_list=False)[FEW + 3])
    except UNREADABLE:
        return False


def outlined(payload: bytes) -> tuple[float | None, ...]:
    """Edge ratio, sharpness and loss of a payload, a twentieth of the time of `decode`; None for what is not there."""
    try:
        unpacked = msgpack.unpackb(payload, use_list=False)
        found = (unpacked[9][3], unpacked[3][1], unpacked[3][6])
    except UNREADABLE:
        return (None,) * OUTLINED
    return tuple(value if isinstance(value, float) else None for value in found)


def _path(path: Path | None) -> tuple[Any, ...] | None:
    return None if path is None else _path_fields(path.__dict__)


def _values(values: tuple[float, float, float] | None) -> Hyperparameters | None:
    if values is None:
        return None
    return Hyperparameters.model_construct(lr=values[0], momentum=values[1], weight_decay=values[2])


def _probe(values: tuple[Any, ...]) -> ProbeReport:
    matvecs, seconds, overhead, examples, fingerprint = values
    return ProbeReport.model_construct(
        matvecs=matvecs, seconds=seconds, overhead=overhead, examples=examples, fingerprint=fingerprint
    )


def decoded(stored: Iterable[StoredRecord]) -> list[Record]:
    """The records that this controller can read; others are left out and named in the log: one must not hide the rest.

    A newer controller wrote them, in a rolling update or before a rollback.
    """
    records = []
    for one in stored:
        try:
            records.append(decode(one))
        except UNREADABLE as error:
            _say(one.attempt, one.step, str(error)[:200])
    return records


@lru_cache(maxsize=1000)
def _say(attempt: int, step: int, reason: str) -> None:
    """Once: a page that is open reads again and again."""
    _log.warning("record left out", attempt=attempt, step=step, reason=reason)
