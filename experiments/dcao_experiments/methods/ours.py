"""Ours: without a rate, under a user's optimizer and cosine, with a part taken out, and as it was proposed."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from dcao_client import DCAO, attach
from dcao_experiments.methods.method import ADAM_BETAS, Make, Method, Trained
from dcao_experiments.workloads.small import loss


def ours(form: str, **fixed: Any) -> Make:
    """`DCAO(model, loss)`. The interval is kept whatever it costs, so that a run repeats."""

    def make(model: nn.Module, _: float, __: int, options: dict[str, Any]) -> Trained:
        extra = {"averaging": options["b"]} if "b" in options else {}
        optimizer = DCAO(model, loss, form=form, overhead=None, **fixed, **extra)  # type: ignore[arg-type]
        return Trained(
            optimizer, lambda batch, _: optimizer.step(batch=batch), optimizer.eval, optimizer.train,
            control=optimizer.control,
        )  # fmt: skip

    return make


def curvature_alone(model: nn.Module, _: float, steps: int, __: dict[str, Any]) -> Trained:
    """Curvature without the path: schedule-free Adam at half the edge of stability, whatever the way come."""
    return ours("adam", policy_params={"push": 16.0, "margin": 0.5})(model, 0.0, steps, {})


def user_optimizer(kind: str, model: nn.Module, rate: float, options: dict[str, Any]) -> torch.optim.Optimizer:
    """SGD with momentum or AdamW, as a user makes it; `beta` among the options."""
    beta = options.get("beta", ADAM_BETAS[0])
    if kind == "sgd":
        return torch.optim.SGD(model.parameters(), lr=rate, momentum=beta, weight_decay=options.get("decay", 0.0))
    return torch.optim.AdamW(
        model.parameters(), lr=rate, betas=(beta, ADAM_BETAS[1]), weight_decay=options.get("decay", 0.0)
    )


def attached(kind: str, policy: str = "default", params: dict[str, Any] | None = None, **fixed: Any) -> Make:
    """A user's optimizer and cosine in our hands, under any law."""

    def make(model: nn.Module, rate: float, steps: int, options: dict[str, Any]) -> Trained:
        optimizer = user_optimizer(kind, model, rate, options)
        schedule = CosineAnnealingLR(optimizer, steps)
        settings = {"overhead": None, "policy": policy, **fixed}
        more = {k: options[k] for k in ("probe_interval", "max_steps") if k in options}
        control = attach(model, optimizer, loss, policy_params=params or {}, **settings, **more)

        def step(_: Any, __: Any) -> None:
            optimizer.step()
            schedule.step()

        return Trained(optimizer, step, before=control.step, control=control)

    return make


METHODS = (
    Method("dcao", ours("adam"), "DCAO(model, loss), the Adam form: no rate, no schedule"),
    Method("dcao-sgd", ours("sgd"), "DCAO(model, loss, form='sgd')"),
    Method("dcao-muon", ours("muon"), "DCAO(model, loss, form='muon')"),
    Method("path-alone", ours("adam", policy_params={"margin": 1e9}), "ours without the ceiling from curvature"),
    Method("curvature-alone", curvature_alone, "ours without the path: half the edge of stability"),
    Method("sgd-auto", attached("sgd", trust="auto"), "SGD + cosine, its scale found", tuned=True, sgd=True),
    Method("adamw-auto", attached("adamw", trust="auto"), "AdamW + cosine, its scale found", tuned=True),
    Method("sgd-guard", attached("sgd", trust="guard"), "SGD + cosine, guarded", tuned=True, sgd=True),
    Method("adamw-guard", attached("adamw", trust="guard"), "AdamW + cosine, guarded", tuned=True),
)
