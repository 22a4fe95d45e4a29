"""What the writers measure: seeded runs of every kind, and what each would decide if nothing went wrong."""

import math
import random
from collections.abc import Iterator

from dcao_proto import Decision, Hyperparameters, Observation, PolicyChoice, ProbeReport, RunSpec
from dcao_proto.policy import bind

PROJECT = "storm"
POLICIES = ("default", "paper", "linear", "power", "edge")
PER_STEP = 10
"""Optimizer steps from one observation to the next."""
ANSWER = ("lr", "momentum", "weight_decay", "multipliers", "edge_ratio", "regime", "reasons", "next_probe_in", "action",
          "policy", "version")  # fmt: skip
"""Fields of a decision that must be the same wherever and whenever it is seen."""


def run_name(writer: int) -> str:
    """The run of a writer."""
    return f"run-{writer:03d}"


def spec_of(writer: int) -> RunSpec:
    """The specification of a writer's run; the policies take turns."""
    return RunSpec(
        optimizer="sgd" if writer % 2 else "adamw",
        base=Hyperparameters(lr=0.1, momentum=0.9, weight_decay=5e-4),
        policy=PolicyChoice(name=POLICIES[writer % len(POLICIES)]),
        probe_interval=PER_STEP,
    )


def observations(seed: int, writer: int) -> Iterator[Observation]:
    """An endless run: ρ wanders, and now and then there is no spectrum or the run diverges."""
    rng = random.Random(f"{seed}/{writer}")
    log_rho, number = math.log(10), 0
    while True:
        log_rho += rng.gauss(0, 0.1)
        step, number = number * PER_STEP, number + 1
        kind = rng.random()
        if kind < 0.01:
            yield Observation(step=step, status="diverged")
        elif kind < 0.03:
            yield Observation(step=step, status="unavailable", loss=rng.random())
        else:
            rho = math.exp(log_rho)
            yield Observation(
                step=step,
                rho=rho,
                gamma=rho * rng.random(),
                loss=rng.random(),
                base=Hyperparameters(lr=0.1 * (1 + math.cos(step / 1e4)) / 2, momentum=0.9, weight_decay=5e-4),
                probe=ProbeReport(matvecs=8, seconds=rng.random(), fingerprint="storm"),
            )


def answer_of(decision: Decision) -> dict[str, object]:
    """What of a decision must never differ, as plain values; floats bit for bit."""
    values = decision.model_dump(mode="json", include=set(ANSWER))
    return {name: values[name] for name in ANSWER}


def undisturbed(seed: int, writer: int) -> Iterator[Decision]:
    """The decisions of the same run without server, network or clock: the law alone."""
    bound = bind(spec_of(writer))
    token, version = bound.initial_token(), 0
    for observation in observations(seed, writer):
        decision = bound.decide_from_token(observation.model_copy(update={"state": token, "version": version}))
        assert decision.state is not None
        token, version = decision.state, decision.version
        yield decision
