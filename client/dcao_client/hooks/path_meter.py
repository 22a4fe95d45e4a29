"""How far a run has come and what gradients it has seen: r and √G, in the optimizer's own metric.

    r(t)  = max over the steps so far of √Σ P·(x − x₀)²        P = 1 for SGD, √v̂ + ε for the Adam family
    G(t)  = Σ over the steps so far of Σ g²/P

r/√G is a learning rate without a tuned number in it (Ivgi et al. 2023, "DoG", §2; in the metric of the optimizer as in
Mishchenko & Defazio 2023, "Prodigy").

Of large tensors every eighth element stands for all (Prodigy takes every eleventh): x₀ then costs an eighth of a vector
and both sums an eighth of their time, and what matters is their ratio, of which both are the same sample.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from dcao_client.spectrum.sharded import local

STRIDE = 8
WHOLE = 1 << 14  # elements up to which a tensor is measured whole
FIRST_DISTANCE = 1e-4  # of 1 + ‖x₀‖, where no curvature says how far the first step may go (DoG's own choice)


class PathMeter:
    """Measures r and √G of parameters, on a sketch of them.

    Args:
        parameters: where the run starts; their values now are x₀. Sharded ones (DTensor) are summed over their mesh.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.distance = 0.0
        self.squares = 0.0  # G
        self.steps = 0
        self._known: list[int] = []
        self.strides: list[int] = []
        self.origin: list[Tensor] = []
        self._groups: list[tuple[Any, torch.device]] = []
        self.cover(parameters)

    def cover(self, parameters: Sequence[Tensor]) -> None:
        """Measures these from now on: new ones start where they are, those that are gone no longer count."""
        if [id(p) for p in parameters] == self._known:
            return
        old = dict(zip(self._known, self.origin, strict=True))
        self._known = [id(p) for p in parameters]
        self.strides = [1 if local(p).numel() <= WHOLE else STRIDE for p in parameters]
        self.origin = [
            old[id(p)] if id(p) in old else sketch(p, stride).clone()
            for p, stride in zip(parameters, self.strides, strict=True)
        ]
        self._groups = _shard_groups(parameters)

    def sketches(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Of one tensor a parameter, in their order."""
        return [sketch(t, stride) for t, stride in zip(tensors, self.strides, strict=True)]

    @property
    def gradients(self) -> float:
        """√G."""
        return math.sqrt(self.squares)

    @property
    def level(self) -> float:
        """r/√G; 0 before both are known."""
        return self.distance / self.gradients if self.squares > 0 else 0.0

    def saw(self, gradients: Sequence[Tensor | None], metric: Sequence[Tensor] | None, scale: float = 1.0) -> None:
        """Adds a step's gradients to G; a step with a gradient that is not finite does not count.

        Args:
            gradients: sketches, as `sketch` gives them; None where a parameter had none.
            metric: sketches of P; None for P = 1.
            scale: what the gradients were multiplied with (loss scaling).
        """
        terms = []
        for i, (g, stride) in enumerate(zip(gradients, self.strides, strict=True)):
            if g is not None:
                g = g.float()
                terms.append(stride * (torch.dot(g, g) if metric is None else torch.dot(g, g / metric[i])))
        found = self._sum(terms) / scale**2
        if math.isfinite(found):
            self.squares += found
            self.steps += 1

    def came(self, points: Sequence[Tensor], metric: Sequence[Tensor] | None) -> None:
        """Takes note of where the run is: sketches of the weights, or of their average."""
        terms = []
        for i, (x, x0, stride) in enumerate(zip(points, self.origin, self.strides, strict=True)):
            way = x.float() - x0.float()
            terms.append(stride * torch.dot(way, way if metric is None else way * metric[i]))
        found = self._sum(terms)
        if math.isfinite(found):
            self.distance = max(self.distance, math.sqrt(max(found, 0.0)))

    def start(self, rate: float | None, metric: Sequence[Tensor] | None) -> None:
        """r before the first step: such that r/√G is this rate; a small share of the weights' length without one."""
        if rate is not None and self.squares > 0:
            self.distance = max(self.distance, rate * self.gradients)
            return
        lengths = [
            stride * torch.dot(x.float(), x.float() if metric is None else x.float() * metric[i])
            for i, (x, stride) in enumerate(zip(self.origin, self.strides, strict=True))
        ]
        self.distance = max(self.distance, FIRST_DISTANCE * (1.0 + math.sqrt(self._sum(lengths))))

    def _sum(self, terms: Sequence[Tensor]) -> float:
        """One number out of all, in float64, and one transfer from the device."""
        if not terms:
            return 0.0
        total = torch.stack([t.reshape(()).to(terms[0].device) for t in terms]).cpu().double().sum()
        for group, device in self._groups:
            moved = total.to(device)
            dist.all_reduce(moved, group=group)
            total = moved.cpu()
        return float(total)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, per rank when the parameters are sharded."""
        return {
            "distance": self.distance,
            "squares": self.squares,
            "steps": self.steps,
            "origin": [x.clone() for x in self.origin],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: the checkpoint is of other parameters.
        """
        lengths = [x.numel() for x in state["origin"]]
        if lengths != [x.numel() for x in self.origin]:
            raise ValueError(
                "expected the checkpoint of a path over the same parameters; got other sizes: build the optimizer on "
                "the model that was saved, or start a new path by leaving the checkpoint's out"
            )
        self.distance, self.squares = float(state["distance"]), float(state["squares"])
        self.steps = int(state["steps"])
        self.origin = [saved.to(x) for saved, x in zip(state["origin"], self.origin, strict=True)]


def sketch(tensor: Tensor, stride: int) -> Tensor:
    """Every `stride`-th element, flat; a view where the layout allows one. Of a sharded tensor, of what is here."""
    here = local(tensor.detach())
    if here.is_sparse:
        here = here.to_dense()
    return here.reshape(-1)[::stride]


def everywhere(holds: bool, parameters: Sequence[Tensor]) -> bool:
    """Whether it holds on every rank that has a part of these parameters."""
    for group, device in _shard_groups(parameters):
        told = torch.tensor(float(holds), device=device)
        dist.all_reduce(told, op=dist.ReduceOp.MIN, group=group)
        holds = bool(told.item())
    return holds


def _shard_groups(parameters: Sequence[Tensor]) -> list[tuple[Any, torch.device]]:
    """The process groups over which sharded parameters are spread: one, or none."""
    for parameter in parameters:
        mesh = getattr(parameter, "device_mesh", None)
        if mesh is not None:
            group = mesh.get_group(mesh.ndim - 1) if mesh.ndim > 1 else mesh.get_group()
            device = torch.device("cpu") if mesh.device_type == "cpu" else torch.device(mesh.device_type)
            return [(group, device)]
    return []
