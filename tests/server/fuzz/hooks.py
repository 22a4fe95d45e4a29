"""Leads generated requests to runs that exist and tokens that are valid; random ones never get past the first check.

schemathesis loads it by `SCHEMATHESIS_HOOKS`; `DCAO_FUZZ_WORLD` names the file of runs and tokens.
"""

import json
import os
import random
from pathlib import Path
from typing import Any

import schemathesis

WORLD = json.loads(Path(os.environ["DCAO_FUZZ_WORLD"]).read_text())
_rng = random.Random(WORLD["seed"])


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Changes positive cases only: what is made wrong on purpose stays wrong."""
    meta = case.meta
    if meta is None or not meta.generation.mode.is_positive or _rng.random() < 0.2:
        return
    parameters = case.path_parameters or {}
    if "run" in parameters:
        parameters["project"], parameters["run"] = WORLD["project"], _rng.choice(WORLD["runs"])
    observation = _observation_of(case.body)
    if observation is not None and observation.get("state") is not None and _rng.random() < 0.8:
        observation["state"], observation["version"] = _rng.choice(WORLD["tokens"])


def _observation_of(body: Any) -> dict[str, Any] | None:
    if not isinstance(body, dict):
        return None
    inner = body.get("observation")
    if isinstance(inner, dict):
        return inner
    return body if "state" in body else None
