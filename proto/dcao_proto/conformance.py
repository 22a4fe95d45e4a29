"""Conformance vectors: for each policy, observations in order and the decisions they must give.

For clients in other languages: feed the observations of a case one after the other and compare. Floats agree to a
relative 1e-12; everything else agrees exactly. `state` is the policy's memory as plain JSON, for debugging; on the
wire it is inside the opaque token.

`python -m dcao_proto.conformance DIRECTORY` writes one file for each built-in policy.
"""

import json
import math
import pathlib
import sys
from typing import Any

from dcao_proto.hyperparameters import Bounds, Hyperparameters
from dcao_proto.observation import Observation, Path, ProbeReport
from dcao_proto.optimizers import OptimizerName
from dcao_proto.policy import PolicyState, bind
from dcao_proto.policy.presets import BUILT_IN
from dcao_proto.run import PolicyChoice, RunSpec, Trust

BASE = Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4)
ADAM_BASE = Hyperparameters(lr=1e-3, momentum=0.9, weight_decay=0.01)

# The edge law with every steadying stage on.
STEADIED = PolicyChoice(
    name="edge",
    params={
        "reference": "nearest_edge", "target": 0.7, "smoothing": 0.8, "reject_outliers": True, "dead_band": 0.05,
        "slew": 1.25, "momentum_slew": 1.1, "kappa": 0.1, "mu": 0.1,
    },
)  # fmt: skip


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


def on_the_path() -> list[tuple[str, RunSpec, list[Observation]]]:
    """Cases of the laws that take the way come into account: each trust, each form, and what can go wrong."""

    def come(i: int, base: Hyperparameters, **more: Any) -> Observation:
        step = (0, 1, 2, 4, 8, 16, 32, 57, 82, 107, 132, 157)[i % 12] + 200 * (i // 12)
        path = Path(distance=0.01 * 1.5**i, gradients=2.0 * math.sqrt(step), steps=step, shape=1.0 / (1 + step / 100))
        lr = base.lr * path.shape if base.lr else (path.distance / path.gradients if step else 0.0)
        said: dict[str, Any] = {"rho": 40.0 / (1 + i / 3), "gamma": 0.0, "gamma_bound": 40.0, "loss": 2.0}
        return Observation(step=step, path=path, base=base.model_copy(update={"lr": lr}), **{**said, **more})

    def story(base: Hyperparameters) -> list[Observation]:
        absent: dict[str, Any] = {"rho": None, "gamma": None, "gamma_bound": None}
        return [
            *[come(i, base) for i in range(8)],
            come(8, base, rho=4e5),  # absurd, once
            come(9, base),
            come(10, base, rho=-1.0),
            come(11, base, status="unavailable", **absent),
            come(12, base, rho_bound=30.0),
            come(13, base, status="diverged", **absent),
            come(14, base, probe=ProbeReport(fingerprint="first")),
            come(15, base, probe=ProbeReport(fingerprint="second")),
        ]

    found = BASE.model_copy(update={"lr": 0.0})
    optimizers: tuple[OptimizerName, ...] = (
        "schedule_free_adam", "schedule_free_sgd", "schedule_free_muon", "sgd", "adamw",
    )  # fmt: skip
    cases = [
        (f"path, {o}", RunSpec(optimizer=o, base=found, scale="path", trust="auto", probe_interval=25), story(found))
        for o in optimizers
    ]
    still = found.model_copy(update={"momentum": 0.0})
    spec = RunSpec(optimizer="adamw", base=still, scale="path", trust="auto")
    cases.append(("path, adamw without momentum", spec, story(still)))
    trusts: tuple[Trust, ...] = ("guard", "watch")
    cases += [(f"{t}, sgd", RunSpec(optimizer="sgd", base=BASE, trust=t), story(BASE)) for t in trusts]
    given: dict[OptimizerName, Hyperparameters] = {"sgd": BASE, "adamw": ADAM_BASE}
    guarded = [o.model_copy(update={"path": o.path.model_copy(update={"most": 0.02})}) for o in story(found) if o.path]
    cases += [
        (f"guard on the path, {o}", RunSpec(optimizer=o, base=base, scale="path", trust="guard"), guarded)
        for o, base in given.items()
    ]
    chosen = PolicyChoice(name="default", params={"push": 2.0, "margin": 3.0, "rise": 2.0, "fall": 1.5})
    spec = RunSpec(optimizer="adamw", base=ADAM_BASE, trust="guard", policy=chosen)
    return [*cases, ("guard, adamw, everything given", spec, story(ADAM_BASE))]


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
    if policy == "edge":
        cases += [
            _case(f"{name}, {o}, steadied", RunSpec(optimizer=o, base=base, policy=STEADIED), seen)
            for name, seen in scenarios().items()
            for o, base in optimizers.items()
        ]
    if policy == "default":
        cases += [_case(name, spec, seen) for name, spec, seen in on_the_path()]
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


def write(directory: pathlib.Path) -> None:
    """Writes `<policy>.json` for each built-in policy."""
    for policy in BUILT_IN:
        text = json.dumps(vectors(policy.name), indent=1, ensure_ascii=False)
        (directory / f"{policy.name}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    write(pathlib.Path(sys.argv[1]))
