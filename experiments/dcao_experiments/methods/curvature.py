"""Others that set the rate from the loss along a line: measured by our probe, decided by policies of the controller.

No code of ADLER, CDAT and Hi-DLR is public: these are reconstructions from what their papers say (`policies.py` has the
rules, and what is ours in them). GeN has code; this is its algorithm without the traps of that code: a trial does not
advance the momentum, decay is not in it, and groups keep their ratios.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.operators import Curvature
from dcao_experiments.methods.method import Make, Method, Trained
from dcao_experiments.policies import ADLER, CDAT, HI_DLR, towards
from dcao_experiments.workloads.small import loss
from dcao_proto import Bounds, Hyperparameters, Observation, RunSpec
from dcao_proto.decision import Decision
from dcao_proto.observation import Directional, GroupDirectional
from dcao_proto.policy.registry import BoundPolicy, Policy
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.token import encode_spec

FIRST_RATE = 1e-3  # SGD's, from which the policies move; theirs are learning-rate-free
MOMENTUM = 0.9
FORWARD = 1 / 3  # of a gradient
WIDE = Bounds(lr=(1e-6, 1e6))


def groups_of(model: nn.Module) -> list[dict[str, Any]]:
    """Hi-DLR's three: vectors (norms and biases), the last matrix (the head), the rest."""
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    parts = {"vectors": vectors, "head": matrices[-1:], "rest": matrices[:-1]}
    return [{"name": name, "params": found} for name, found in parts.items() if found]


def along(operator: Curvature, update: Tensor) -> Directional:
    """Slope −gᵀu and curvature uᵀHu, one product."""
    space = operator.space
    slope, curvature = -space.dot(operator.gradient, update), space.dot(update, operator.product(update))
    return Directional(slope=float(slope), curvature=float(curvature))


class LineSteering:
    """Measures along the update of SGD with momentum, asks a policy, and writes the rate.

    Args:
        every: steps from one measurement to the next.
        curvature: kind of product; ADLER's is Gauss–Newton.
        grouped: measure each group apart as well.
    """

    def __init__(
        self, model: nn.Module, policy: Policy, *, every: int, curvature: str = "auto", grouped: bool = False
    ) -> None:
        settings = ProbeSettings(matvec=curvature)  # type: ignore[arg-type]
        self.optimizer = torch.optim.SGD(groups_of(model), lr=FIRST_RATE, momentum=MOMENTUM)
        self._probe = Probe(model, loss, settings=settings)
        self._every, self._grouped = every, grouped
        self._parameters = list(model.parameters())  # a borrowed model has others in their place
        of = {id(p): str(g["name"]) for g in self.optimizer.param_groups for p in g["params"]}
        self._names = [of[id(p)] for p in self._parameters]
        spec = RunSpec(optimizer="sgd", base=Hyperparameters(lr=FIRST_RATE, momentum=MOMENTUM), bounds=WIDE)
        self._bound = BoundPolicy(policy, policy.params(), spec, encode_spec(spec))
        self._state, self._version, self._step = PolicyState(), 0, 0
        self.spent = 0.0

    def before(self, batch: Any) -> None:
        """Measures and decides where it is time; the model and its gradients stay as they are."""
        if self._step % self._every == 0:
            self._apply(self._decided(batch))
        self._step += 1

    def _decided(self, batch: Any) -> Decision:
        try:
            observation = self._probe.analyse(batch, self._seen)
        except (RuntimeError, ValueError):  # no product on this batch: the policy holds
            observation = Observation(step=self._step, status="unavailable")
        decision, self._state = self._bound.advance(observation, self._state, self._version)
        self._version = decision.version
        return decision

    def _seen(self, operator: Curvature) -> Observation:
        updates = self._updates(operator)
        whole = along(operator, torch.stack(list(updates.values())).sum(0))
        parts = tuple(
            GroupDirectional(name=name, slope=found.slope, curvature=found.curvature)
            for name, found in ((n, along(operator, u)) for n, u in updates.items() if self._grouped)
        )
        gradient = operator.gradient
        squared = float(operator.space.dot(gradient, gradient))
        sharpness = float(operator.space.dot(gradient, operator.product(gradient))) / max(squared, 1e-30)
        self.spent += 1 + 2 * (2 + len(parts))  # a product is two gradients; its own gradient
        return Observation(
            step=self._step, status="unavailable", batch_sharpness=sharpness, directional=whole, groups=parts or None
        )

    def _updates(self, operator: Curvature) -> dict[str, Tensor]:
        """Per group −(βv + g), nought outside of it, flat."""
        pieces: dict[str, list[Tensor]] = {name: [] for name in self._names}
        at = 0
        for p, own in zip(self._parameters, self._names, strict=True):
            flat = operator.gradient[at : at + p.numel()]
            at += p.numel()
            held = self.optimizer.state[p].get("momentum_buffer")
            update = -flat if held is None else -flat - MOMENTUM * held.detach().reshape(-1)
            for name, found in pieces.items():
                found.append(update if name == own else torch.zeros_like(flat))
        return {name: torch.cat(found) for name, found in pieces.items()}

    def _apply(self, decision: Decision) -> None:
        own = {g.name: g.multiplier for g in decision.groups or ()}
        for group in self.optimizer.param_groups:
            group["lr"] = decision.lr * own.get(str(group["name"]), 1.0)


def steered(policy: Policy, *, every: int, curvature: str = "auto", grouped: bool = False) -> Make:
    """SGD with momentum under a policy that measures along its update."""

    def make(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
        steering = LineSteering(model, policy, every=every, curvature=curvature, grouped=grouped)
        return Trained(
            steering.optimizer, lambda _, __: steering.optimizer.step(), before=steering.before,
            extra=lambda: steering.spent,
        )  # fmt: skip

    return make


def parabola(losses: Sequence[float], rate: float) -> float | None:
    """The minimum of the parabola through the losses at −η, 0, η along the update; None where there is none ahead."""
    before, here, ahead = losses
    slope, bend = (before - ahead) / (2 * rate), (before - 2 * here + ahead) / rate**2
    return slope / bend if slope > 0 and bend > 0 else None


def gen(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
    """GeN on AdamW: every fourth step a parabola through three losses along the update (Bu & Xu 2025, algorithm 1).

    The average (a tenth of the new) and the bound (twice or half) are those of its released code.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=FIRST_RATE, weight_decay=0.0)
    parameters = list(model.parameters())
    state = {"step": 0, "spent": 0.0}

    @torch.no_grad()
    def step(batch: Any, _: Tensor) -> None:
        rate = optimizer.param_groups[0]["lr"]
        before, buffers = [p.clone() for p in parameters], [b.clone() for b in model.buffers()]
        optimizer.step()
        if state["step"] % 4 == 0:
            after = [p.clone() for p in parameters]
            losses = [_at(model, parameters, before, after, place, batch) for place in (-1.0, 0.0, 1.0)]
            _put(parameters, after)
            _put(list(model.buffers()), buffers)
            state["spent"] += 3 * FORWARD
            best = parabola(losses, rate)
            if best is not None:
                optimizer.param_groups[0]["lr"] = towards(rate, best, 0.1)
        state["step"] += 1

    return Trained(optimizer, step, extra=lambda: state["spent"])


def _at(
    model: nn.Module, parameters: list[nn.Parameter], a: list[Tensor], b: list[Tensor], place: float, batch: Any
) -> float:
    """The loss at a + place·(b − a)."""
    _put(parameters, [x + place * (y - x) for x, y in zip(a, b, strict=True)])
    return float(loss(model, batch))


def _put(tensors: Sequence[Tensor], values: list[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


METHODS = (
    Method("adler", steered(ADLER, every=1, curvature="gauss_newton"), "ADLER (Balboni & Bacciu 2023), reconstructed"),
    Method("cdat", steered(CDAT, every=1), "CDAT, σ = 2 (Roulet et al. 2024), reconstructed"),
    Method("hi-dlr", steered(HI_DLR, every=8, grouped=True), "Hi-DLR (Xu et al. 2025), reconstructed"),
    Method("gen", gen, "GeN on AdamW (Bu & Xu 2025)"),
)
