"""Peers without a rate, each at its authors' defaults: one setting for all workloads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.hooks.batch_norm import BATCHES, retake, with_statistics
from dcao_experiments.methods.method import WARM_UP, Make, Method, Trained
from dcao_experiments.methods.schedules import cosine, scheduled
from dcao_experiments.workloads.small import loss


def averaging_peer(model: nn.Module, optimizer: Any) -> Trained:
    """A peer that trains at one point and is used at another; batch-norm statistics are taken there, as for ours."""
    optimizer.train()
    recent: list[Any] = []

    def step(batch: Any, _: Tensor) -> None:
        optimizer.step()
        recent.append(batch)
        del recent[:-BATCHES]

    def use() -> None:
        optimizer.eval()
        if with_statistics(model):
            retake(model, loss, recent)

    return Trained(optimizer, step, use, optimizer.train)


def schedule_free(model: nn.Module, _: float, steps: int, __: dict[str, Any]) -> Trained:
    """AdamWScheduleFree at its authors' rate .0025, warm-up over 5 %."""
    from schedulefree import AdamWScheduleFree

    optimizer = AdamWScheduleFree(model.parameters(), lr=0.0025, warmup_steps=int(WARM_UP * steps))
    return averaging_peer(model, optimizer)


def prodigy(model: nn.Module, _: float, __: dict[str, Any]) -> Any:
    """Prodigy as it comes, lr 1."""
    from prodigyopt import Prodigy

    return Prodigy(model.parameters(), lr=1.0)


def d_adaptation(model: nn.Module, _: float, __: dict[str, Any]) -> Any:
    """D-Adaptation's Adam as it comes, lr 1, decay decoupled."""
    from dadaptation import DAdaptAdam

    return DAdaptAdam(model.parameters(), lr=1.0)


class DoWG(torch.optim.Optimizer):
    """Distance over weighted gradients: η = r̄²/√Σ r̄²‖g‖², r̄ the largest distance from the start so far.

    Ours, ten lines after algorithm 1 of Khaled et al. 2023: the package of that name steps only with a closure, clips,
    and begins at r̄ = 1. First r̄: 10⁻⁴·(1 + ‖x₀‖), as DoG's authors advise.
    """

    def __init__(self, params: Any) -> None:
        super().__init__(params, {})
        self._all = [p for group in self.param_groups for p in group["params"]]
        self._start = [p.detach().clone() for p in self._all]
        self._squared = 1e-8 * (1 + sum(float(p.square().sum()) for p in self._start) ** 0.5) ** 2
        self._sum = 0.0

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update."""
        moved = [(p, s) for p, s in zip(self._all, self._start, strict=True) if p.grad is not None]
        self._squared = max(self._squared, sum(float((p - s).square().sum()) for p, s in moved))
        self._sum += self._squared * sum(float(p.grad.square().sum()) for p, _ in moved if p.grad is not None)
        for p, _ in moved:
            assert p.grad is not None
            p.sub_(p.grad, alpha=self._squared / (self._sum**0.5 + 1e-12))


def dowg(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
    """DoWG without a schedule, as its paper has it."""
    optimizer = DoWG(model.parameters())
    return Trained(optimizer, lambda _, __: optimizer.step())


def momo(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
    """MoMo-Adam as it comes: its rate .01 is a cap, the step is the loss over the gradient's norm."""
    from momo import MomoAdam

    optimizer = MomoAdam(model.parameters())
    return Trained(optimizer, lambda _, loss: optimizer.step(loss=loss))


def prodigy_schedule_free(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
    """Prodigy's estimate with schedule-free averaging, as it comes."""
    from prodigyplus import ProdigyPlusScheduleFree

    return averaging_peer(model, ProdigyPlusScheduleFree(model.parameters()))


def dog(layered: bool) -> Make:
    """DoG or LDoG with polynomial averaging.

    Their authors' default r_ε is 10⁻⁶; 10⁻⁴ is what they advise where the rate takes too long to rise.
    """

    def make(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
        from dog import DoG, LDoG, PolynomialDecayAverager

        optimizer = (LDoG if layered else DoG)(model.parameters(), reps_rel=1e-4)
        averager = PolynomialDecayAverager(model)
        kept: dict[str, Any] = {}

        def step(_: Any, __: Tensor) -> None:
            optimizer.step()
            averager.step()

        def use() -> None:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})
            model.load_state_dict(averager.averaged_model.state_dict())

        return Trained(optimizer, step, use, lambda: model.load_state_dict(kept))

    return make


METHODS = (
    Method(
        "schedule-free", schedule_free, "AdamWScheduleFree at its authors' rate (Defazio et al. 2024)",
        package="schedulefree", module="schedulefree",
    ),
    Method(
        "prodigy", scheduled(prodigy, cosine), "Prodigy, cosine (Mishchenko & Defazio 2023)",
        package="prodigyopt", module="prodigyopt", revision=2,
    ),
    Method(
        "prodigy-schedule-free", prodigy_schedule_free, "Prodigy's estimate with schedule-free averaging",
        package="prodigy-plus-schedule-free", module="prodigyplus", revision=2,
    ),
    Method("dog", dog(False), "DoG with averaging (Ivgi et al. 2023)", package="dog-optimizer", module="dog"),
    Method("ldog", dog(True), "DoG a layer, with averaging", package="dog-optimizer", module="dog"),
    Method("dowg", dowg, "DoWG (Khaled et al. 2023), our ten lines"),
    Method(
        "d-adaptation", scheduled(d_adaptation, cosine), "D-Adaptation's Adam, cosine (Defazio & Mishchenko 2023)",
        package="dadaptation", module="dadaptation",
    ),
    Method("momo", momo, "MoMo-Adam (Schaipp et al. 2023)", package="momo-opt", module="momo"),
)  # fmt: skip
