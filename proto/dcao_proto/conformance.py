"""Conformance vectors: for each policy, observations in order and the decisions they must give.

For clients in other languages: feed the observations of a case one after the other and compare. Floats agree to a
relative 1e-12; everything else agrees exactly. `state` is the policy's memory as plain JSON, for debugging; on the
wire it is inside the opaque token.

`python -m dcao_proto.conformance DIRECTORY` writes one file for each built-in policy.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

from dcao_proto.hyperparameters import Bounds, Hyperparameters
from dcao_proto.observation import Observation, ProbeReport
from dcao_proto.optimizers import OptimizerName
from dcao_proto.policy import PolicyState, bind
from dcao_proto.policy.presets import BUILT_IN
from dcao_proto.run import PolicyChoice, RunSpec

BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)
ADAM_BASE = Hyperparameters(lr=1e-3, momentum=0.9, weight_decay=0.01)


def scenarios() -> dict[str, list[Observation]]:
    """Observation sequences that reach every stage."""

    def seen(step: int, rho: float, gamma: float, **more: Any) -> Observation:
        return Observation(step=step, rho=rho, gamma=gamma, loss=2.0 / (1 + step / 100), **more)

    sharpening = [seen(100 * i, 4.0 * 1.3**i, 1.0 + 0.4 * i) for i in range(16)]
    cosine = [
        seen(100 * i, 20.0 / (0.5 + 0.5 * math.cos(math.pi * i / 12) + 0.05), 3.0).model_copy(
            update={"base": BASE.model_copy(update={"lr": 0.05 * (1 + math.cos(math.pi * i / 12))})}
        )
        for i in range(12)
    ]
    trouble = [
        *[seen(100 * i, 10.0 + i, 2.0, probe=ProbeReport(fingerprint="first")) for i in range(7)],
        seen(700, 500.0, 2.0),
        seen(800, 12.0, 2.0, rho_bound=9.0),
        seen(900, 12.0, 2.0, gamma_bound=1.9),
        seen(1000, -3.0, 0.5),
        Observation(step=1100, status="unavailable"),
        Observation(step=1200, status="diverged"),
        Observation(step=1300, status="diverged"),
        seen(1400, 12.0, 2.0, probe=ProbeReport(fingerprint="other")),
        seen(1500, 0.0, 0.0),
        *[seen(1600 + 100 * i, 200.0, 60.0) for i in range(4)],
    ]
    trouble += [seen(2000, 900.0, 60.0), seen(2100, 900.0, 60.0), seen(2200, 900.0, 60.0)]
    trouble += [*[seen(2300 + 100 * i, 30.0, 5.0) for i in range(9)], seen(3200, 30.0, 50.0)]
    noisy = [seen(100 * i, 8.0, 2.0, batch_sharpness=0.5 * 1.2 ** (i % 9)) for i in range(12)]
    noisy += [
        seen(1200, 8.0, 2.0),
        seen(1300, 8.0, 2.0, batch_sharpness=3.0),
        seen(1400, 8.0, 2.0, batch_sharpness=-1.0),
    ]
    return {"noisy": noisy, "sharpening": sharpening, "cosine": cosine, "trouble": trouble}


def vectors(policy: str) -> dict[str, Any]:
    """All cases of one policy."""
    optimizers: dict[OptimizerName, Hyperparameters] = {"sgd": BASE, "nesterov": BASE, "adamw": ADAM_BASE}
    cases = [
        _case(f"{name}, {optimizer}", RunSpec(optimizer=optimizer, base=base, policy=PolicyChoice(name=policy)), seen)
        for name, seen in scenarios().items()
        for optimizer, base in optimizers.items()
    ]
    tight = RunSpec(
        optimizer="sgd",
        base=BASE,
        policy=PolicyChoice(name=policy),
        bounds=Bounds(lr=(0.8, 1.1), momentum=(1.0, 1.0), weight_decay=(0.9, 3.0), max_momentum=0.92),
    )
    cases.append(_case("trouble, tight bounds", tight, scenarios()["trouble"]))
    if policy == "paper":
        given = {"alpha": 0.1, "rho_ref": 20.0, "kappa": 0.2, "gamma_ref": 5.0, "mu": 0.5}
        spec = RunSpec(optimizer="sgd", base=BASE, policy=PolicyChoice(name=policy, params=given))
        cases.append(_case("sharpening, everything given", spec, scenarios()["sharpening"]))
    return {"policy": bind(tight).policy.label, "cases": cases}


def _case(name: str, spec: RunSpec, observations: list[Observation]) -> dict[str, Any]:
    bound, state, steps = bind(spec), PolicyState(), []
    for version, observation in enumerate(observations):
        decision = bound.decide(observation, state, version)
        state = bound.state_of(decision.state or "")
        steps.append(
            {
                "observation": observation.wire(),
                "decision": decision.model_copy(update={"state": None}).wire(),
                "state": state.model_dump(mode="json", exclude_defaults=True),
            }
        )
    return {"name": name, "spec": spec.wire(), "steps": steps}


def write(directory: Path) -> None:
    """Writes `<policy>.json` for each built-in policy."""
    for policy in BUILT_IN:
        text = json.dumps(vectors(policy.name), indent=1, ensure_ascii=False)
        (directory / f"{policy.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
