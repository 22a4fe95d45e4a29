"""How a workload is trained: ours, tuned schedules, peers at their authors' defaults, ours with a part taken out."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from benchmarks.law.workloads import loss
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from dcao_client import DCAO, Attachment, attach
from dcao_client.hooks.batch_norm import BATCHES, retake, with_statistics
from dcao_client.hooks.muon import hidden_matrices

NOWHERE = "/dev/null/nowhere"  # no journal
WARM_UP = 0.05  # share of the steps, where a peer's authors ask for one


@dataclass
class Trained:
    """What a method made for one run.

    Attributes:
        step: one update after the backward pass, given the batch.
        use, go_on: put the weights to be used into the model, and those to be trained back.
        before: called with the batch before the backward pass.
        control: ours, for what the probes cost.
    """

    optimizer: Any
    step: Callable[[Any], None]
    use: Callable[[], None] = field(default=lambda: None)
    go_on: Callable[[], None] = field(default=lambda: None)
    before: Callable[[Any], None] = field(default=lambda _: None)
    control: Attachment | None = None


@dataclass(frozen=True)
class Method:
    """How a name trains.

    Attributes:
        make: (model, rate, steps, options) → what trains.
        tuned: it needs a rate.
        package, module: what it is installed and imported as; None: nothing beside torch and ours.
        revision: raised when `make` changes what a run ends at, so that a file goes on with what is now.
    """

    name: str
    make: Callable[[nn.Module, float, int, dict[str, Any]], Trained]
    tuned: bool = False
    package: str | None = None
    module: str | None = None
    revision: int = 1

    def installed(self) -> bool:
        """Whether it can run here."""
        return self.module is None or importlib.util.find_spec(self.module) is not None


def ours(form: str, **fixed: Any) -> Callable[[nn.Module, float, int, dict[str, Any]], Trained]:
    """`DCAO(model, loss)`. The interval is kept whatever it costs, so that a run repeats."""

    def make(model: nn.Module, _: float, __: int, options: dict[str, Any]) -> Trained:
        extra = {"averaging": options["b"]} if "b" in options else {}
        optimizer = DCAO(model, loss, form=form, overhead=None, journal_dir=NOWHERE, **fixed, **extra)  # type: ignore[arg-type]
        return Trained(
            optimizer, lambda batch: optimizer.step(batch=batch) and None, optimizer.eval, optimizer.train,
            control=optimizer.control,
        )  # fmt: skip

    return make


def muon(model: nn.Module, rate: float, steps: int, _: dict[str, Any]) -> Trained:
    """torch's Muon on the matrices that ours takes, AdamW on the rest, one rate and one cosine (Liu et al. 2025)."""
    hidden = hidden_matrices(model)
    inner = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in inner]
    flat = [nn.Parameter(p.detach().flatten(1)) for p in hidden]  # torch's takes two dimensions; the storage is shared
    matrices = torch.optim.Muon(flat, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    others = torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=0.0)
    schedules = [CosineAnnealingLR(o, steps) for o in (matrices, others)]

    def step(_: Any) -> None:
        for p, f in zip(hidden, flat, strict=True):
            assert p.grad is not None
            f.grad = p.grad.flatten(1)
        matrices.step()
        others.step()
        for schedule in schedules:
            schedule.step()

    return Trained(model, step)


def share_of_the_edge(model: nn.Module, _: float, steps: int, __: dict[str, Any]) -> Trained:
    """Curvature without the path: schedule-free Adam at half the edge of stability, whatever the way come."""
    return ours("adam", policy_params={"push": 16.0, "margin": 0.5})(model, 0.0, steps, {})


def cosine(kind: str, trust: str | None = None) -> Callable[[nn.Module, float, int, dict[str, Any]], Trained]:
    """A user's SGD or AdamW under a cosine schedule, alone or in our hands."""

    def make(model: nn.Module, rate: float, steps: int, options: dict[str, Any]) -> Trained:
        beta = options.get("beta", 0.9)
        optimizer: torch.optim.Optimizer
        if kind == "sgd":
            optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=beta)
        else:
            optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(beta, 0.99), weight_decay=0.0)
        schedule = CosineAnnealingLR(optimizer, steps)
        control = None
        if trust is not None:
            control = attach(model, optimizer, loss, trust=trust, overhead=None, journal_dir=NOWHERE)  # type: ignore[arg-type]

        def step(_: Any) -> None:
            optimizer.step()
            schedule.step()

        before = (lambda _: None) if control is None else (lambda batch: control.step(batch) and None)
        return Trained(optimizer, step, before=before, control=control)

    return make


def averaging_peer(model: nn.Module, optimizer: Any) -> Trained:
    """A peer that trains at one point and is used at another; batch-norm statistics are taken there, as for ours."""
    optimizer.train()
    recent: list[Any] = []

    def step(batch: Any) -> None:
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


def prodigy(model: nn.Module, _: float, steps: int, __: dict[str, Any]) -> Trained:
    """Prodigy as it comes, lr 1, under a cosine, as its authors advise."""
    from prodigyopt import Prodigy

    optimizer = Prodigy(model.parameters(), lr=1.0)
    schedule = CosineAnnealingLR(optimizer, steps)

    def step(_: Any) -> None:
        optimizer.step()
        schedule.step()

    return Trained(optimizer, step)


def prodigy_schedule_free(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
    """Prodigy's estimate with schedule-free averaging, as it comes."""
    from prodigyplus import ProdigyPlusScheduleFree

    return averaging_peer(model, ProdigyPlusScheduleFree(model.parameters()))


def dog(layered: bool) -> Callable[[nn.Module, float, int, dict[str, Any]], Trained]:
    """DoG or LDoG with polynomial averaging.

    Their authors' default r_ε is 10⁻⁶; 10⁻⁴ is what they advise where the rate takes too long to rise.
    """

    def make(model: nn.Module, _: float, __: int, ___: dict[str, Any]) -> Trained:
        from dog import DoG, LDoG, PolynomialDecayAverager

        optimizer = (LDoG if layered else DoG)(model.parameters(), reps_rel=1e-4)
        averager = PolynomialDecayAverager(model)
        kept: dict[str, Any] = {}

        def step(_: Any) -> None:
            optimizer.step()
            averager.step()

        def use() -> None:
            kept.update({name: value.clone() for name, value in model.state_dict().items()})
            model.load_state_dict(averager.averaged_model.state_dict())

        return Trained(optimizer, step, use, lambda: model.load_state_dict(kept) and None)

    return make


def warm_up_and_clip(kind: str) -> Callable[[nn.Module, float, int, dict[str, Any]], Trained]:
    """A cosine with warm-up over 5 % and clipping at 1: what people add by hand."""

    def make(model: nn.Module, rate: float, steps: int, options: dict[str, Any]) -> Trained:
        made = cosine(kind)(model, rate, steps, options)
        optimizer = made.optimizer
        warm = max(int(WARM_UP * steps), 1)

        def shape(t: int) -> float:
            return min((t + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(t / steps, 1.0))))

        schedule = LambdaLR(optimizer, shape)

        def step(_: Any) -> None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()

        return Trained(optimizer, step)

    return make


METHODS = {
    m.name: m
    for m in (
        Method("dcao", ours("adam")),
        Method("dcao-sgd", ours("sgd")),
        Method("dcao-muon", ours("muon")),
        Method("muon", muon, tuned=True),
        Method("path-alone", ours("adam", policy_params={"margin": 1e9})),
        Method("curvature-alone", share_of_the_edge),
        Method("sgd", cosine("sgd"), tuned=True),
        Method("adamw", cosine("adamw"), tuned=True),
        Method("adamw-warm-clip", warm_up_and_clip("adamw"), tuned=True),
        Method("sgd-auto", cosine("sgd", "auto"), tuned=True),
        Method("adamw-auto", cosine("adamw", "auto"), tuned=True),
        Method("sgd-guard", cosine("sgd", "guard"), tuned=True),
        Method("adamw-guard", cosine("adamw", "guard"), tuned=True),
        Method("schedule-free", schedule_free, package="schedulefree", module="schedulefree"),
        Method("prodigy", prodigy, package="prodigyopt", module="prodigyopt", revision=2),
        Method(
            "prodigy-schedule-free",
            prodigy_schedule_free,
            package="prodigy-plus-schedule-free",
            module="prodigyplus",
            revision=2,
        ),
        Method("dog", dog(False), package="dog-optimizer", module="dog"),
        Method("ldog", dog(True), package="dog-optimizer", module="dog"),
    )
}
