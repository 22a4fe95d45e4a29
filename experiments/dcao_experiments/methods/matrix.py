"""Optimizers that see a layer's weights as a matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from dcao_client.hooks.muon import hidden_matrices
from dcao_experiments.methods.method import ADAM_BETAS, Method, Trained
from dcao_experiments.methods.schedules import cosine, scheduled


def muon(model: nn.Module, rate: float, steps: int, _: dict[str, Any]) -> Trained:
    """torch's Muon on the matrices that ours takes, AdamW on the rest, one rate and one cosine (Liu et al. 2025)."""
    hidden = hidden_matrices(model)
    inner = {id(p) for p in hidden}
    rest = [p for p in model.parameters() if id(p) not in inner]
    flat = [nn.Parameter(p.detach().flatten(1)) for p in hidden]  # torch's takes two dimensions; the storage is shared
    matrices = torch.optim.Muon(flat, lr=rate, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    others = torch.optim.AdamW(rest, lr=rate, betas=ADAM_BETAS, weight_decay=0.0)
    schedules = [CosineAnnealingLR(o, steps) for o in (matrices, others)]

    def step(_: Any, __: Tensor) -> None:
        for p, f in zip(hidden, flat, strict=True):
            assert p.grad is not None
            f.grad = p.grad.flatten(1)
        matrices.step()  # type: ignore[no-untyped-call]
        others.step()
        for schedule in schedules:
            schedule.step()

    return Trained(model, step)


def soap(model: nn.Module, rate: float, _: dict[str, Any]) -> Any:
    """Adam in the eigenbasis of Shampoo's preconditioner, renewed every tenth step."""
    from pytorch_optimizer import SOAP

    return SOAP(model.parameters(), lr=rate, weight_decay=0.0)


METHODS = (
    Method("muon", muon, "Muon on hidden matrices, AdamW on the rest, cosine (Jordan et al. 2024)", tuned=True),
    Method(
        "soap", scheduled(soap, cosine), "SOAP, Shampoo's eigenbasis with Adam in it, cosine (Vyas et al. 2024)",
        tuned=True, package="pytorch-optimizer", module="pytorch_optimizer",
    ),
)  # fmt: skip
