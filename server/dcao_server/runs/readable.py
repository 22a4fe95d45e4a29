"""The specification of a stored run, whoever declared it: for people, who must see every run, and not for deciding.

The run's policy may be a plug-in of another replica, its parameters may fit another version's schema, and a newer
controller may have added fields. None of that hides the run, or those listed with it.
"""

import base64
import json
from functools import lru_cache
from typing import Any

import structlog
from pydantic import ValidationError

from dcao_proto import Hyperparameters, RunAbout, RunSpec
from dcao_proto.policy.token import InvalidTokenError, decode_spec

_log = structlog.get_logger(__name__)
_LEAST: dict[str, Any] = {"optimizer": "other", "base": {"lr": 0.0}}
ROUNDS = 4


@lru_cache(maxsize=4096)
def readable_about(text: str) -> RunAbout | None:
    """What people wrote about a run; None for nothing, or what this controller cannot read."""
    try:
        return RunAbout.model_validate_json(text) if text else None
    except ValidationError:
        return None


@lru_cache(maxsize=4096)
def readable_spec(segment: str) -> RunSpec:
    """The specification in a segment; fields that this controller does not know, or cannot read, are left out."""
    try:
        return decode_spec(segment)
    except InvalidTokenError as error:
        _log.warning("specification read in part", reason=str(error))
    try:
        document = json.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (ValueError, RecursionError):
        document = {}
    return _fitting(document if isinstance(document, dict) else {})


def _fitting(document: dict[str, Any]) -> RunSpec:
    for _ in range(ROUNDS):
        try:
            return RunSpec.model_validate(document)
        except ValidationError as error:
            for found in error.errors(include_url=False, include_context=False, include_input=False):
                _mend(document, found["loc"])
    return RunSpec(optimizer="other", base=Hyperparameters(lr=0.0))


def _mend(document: dict[str, Any], place: tuple[str | int, ...]) -> None:
    """Takes out what does not fit at a place; puts the least in for what must be there."""
    *path, last = place
    here: Any = document
    for part in path:
        here = here.get(part) if isinstance(here, dict) else None
    if isinstance(here, dict) and last in here:
        del here[last]
    name = str(place[0])
    if name in _LEAST and (len(place) == 1 or not isinstance(here, dict) or name == "base"):
        document[name] = _LEAST[name]
    elif not isinstance(here, dict):
        document.pop(name, None)
