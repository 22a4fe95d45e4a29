"""How far a run has come and what gradients it has seen: r and √G, in the optimizer's own metric.

    r(t)  = max over the steps so far of √Σ P·(x − x₀)²        P = 1 for SGD, √v̂ + ε for the Adam family
    G(t)  = Σ over the steps so far of Σ g²/P

r/√G is a learning rate without a tuned number in it (Ivgi et al. 2023, "DoG", §2; in the metric of the optimizer as in
Mishchenko & Defazio 2023, "Prodigy").

Of large tensors an eighth of the elements or less stands for all (`path.stride_of`): x₀ then costs an eighth of a
vector at most and both sums an eighth of their time, and what matters is their ratio, of which both are the same
sample. The samples of all tensors are one flat vector, and both sums come from the device in one transfer a step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dcao_client.hooks.path import FIRST_DISTANCE, stride_of
from dcao_client.spectrum.torch.sharded import local


class PathMeter:
    """Measures r and √G of parameters, on a sketch of them.

    Args:
        parameters: where the run starts; their values now are x₀. Sharded ones (DTensor) are summed over their mesh.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self.squares = 0.0  # G
        self.steps = 0
        self._distance = 0.0
        self._came: Tensor | None = None  # r² of the last step, still on the device
        self._known: list[int] = []
        self.strides: list[int] = []
        self.sizes: list[int] = []
        self._origin = torch.empty(0)
        self._counts = torch.empty(0)  # elements that each sample stands for
        self._groups: list[tuple[Any, torch.device]] = []
        self._views: dict[str, tuple[list[int], list[Tensor]]] = {}
        self.cover(parameters)

    def cover(self, parameters: Sequence[Tensor]) -> None:
        """Measures these from now on: new ones start where they are, those that are gone no longer count."""
        known = [id(p) for p in parameters]
        if known == self._known or not known:
            return
        kept = torch.split(self._origin, self.sizes) if self._known else ()
        old = dict(zip(self._known, kept, strict=True))
        self._known, self._views = known, {}
        self.strides = [stride_of(local(p).numel()) for p in parameters]
        device = local(parameters[0]).device
        samples = [
            old[id(p)] if id(p) in old else sketch(p.detach(), stride).to(device, torch.float32, copy=True)
            for p, stride in zip(parameters, self.strides, strict=True)
        ]
        self.sizes = [sample.numel() for sample in samples]
        self._origin = torch.cat(samples)
        self._counts = torch.cat(
            [torch.full((size,), float(n), device=device) for size, n in zip(self.sizes, self.strides, strict=True)]
        )
        self._groups = _shard_groups(parameters)

    @torch.no_grad()
    def flat(self, tensors: Sequence[Tensor | None], *, lasting: str | None = None) -> Tensor:
        """The sketches of one tensor a parameter, in their order, as one float32 vector; None counts as zero.

        Args:
            lasting: a name under which the views of tensors that are updated in place are kept from step to step: to
                make them anew takes longer than the sums.
        """
        where = [0 if t is None else local(t).data_ptr() for t in tensors] if lasting else []
        if lasting and self._views.get(lasting, (None,))[0] == where:
            views = self._views[lasting][1]
        else:
            views = [
                self._origin.new_zeros(size) if t is None else sketch(t, stride)
                for t, stride, size in zip(tensors, self.strides, self.sizes, strict=True)
            ]
            if lasting and not any(t is not None and _is_copied(t) for t in tensors):
                self._views[lasting] = where, views
        joined = torch.cat(views)
        return (
            joined
            if joined.dtype == torch.float32 and joined.device == self._origin.device
            else joined.to(self._origin)
        )

    @torch.no_grad()
    def spread(self, numbers: Sequence[Tensor | None]) -> Tensor:
        """One number a parameter, on every element of its sketch; 0 for None."""
        return torch.cat(
            [self._origin.new_zeros(size) if n is None else n.to(self._origin).expand(size)
             for n, size in zip(numbers, self.sizes, strict=True)]
        )  # fmt: skip

    @property
    def distance(self) -> float:
        """r."""
        if self._came is not None:
            (came,) = self._fetch(self._came)
            self._take(came)
        return self._distance

    @property
    def gradients(self) -> float:
        """√G."""
        return math.sqrt(self.squares)

    @property
    def level(self) -> float:
        """r/√G; 0 before both are known."""
        return self.distance / self.gradients if self.squares > 0 else 0.0

    def saw(self, gradients: Tensor, metric: Tensor | None, *, scale: float = 1.0, whole: Tensor | None = None) -> bool:
        """Adds a step's gradients to G.

        Args:
            gradients: as `flat` gives them.
            metric: P, likewise; None for P = 1.
            scale: what the gradients were multiplied with (loss scaling).
            whole: a number on the device that is finite if all gradients are, not only the sketched ones.

        Returns:
            Whether they were finite, on every rank; a step that is not does not count.
        """
        weighted = self._counts * gradients
        found = torch.dot(weighted, gradients if metric is None else gradients / metric)
        asked = [found, found if whole is None else whole, found if self._came is None else self._came]
        squares, checked, came = self._fetch(*asked)
        if self._came is not None:
            self._take(came)
        if not (math.isfinite(squares) and math.isfinite(checked)):
            return False
        self.squares += squares / scale**2
        self.steps += 1
        return True

    def came(self, points: Tensor, metric: Tensor | None) -> None:
        """Takes note of where the run is: the weights, or their average, as `flat` gives them."""
        way = points - self._origin
        self._came = torch.dot(self._counts * way, way if metric is None else way * metric)

    def start(self, rate: float | None, metric: Tensor | None) -> None:
        """r before the first step: such that r/√G is this rate; a small share of the weights' length without one."""
        if rate is not None and self.squares > 0:
            self._distance = max(self._distance, rate * self.gradients)
            return
        x = self._origin
        (length,) = self._fetch(torch.dot(self._counts * x, x if metric is None else x * metric))
        self._distance = max(self._distance, FIRST_DISTANCE * (1.0 + math.sqrt(max(length, 0.0))))

    def _take(self, came: float) -> None:
        self._came = None
        if math.isfinite(came):
            self._distance = max(self._distance, math.sqrt(max(came, 0.0)))

    def _fetch(self, *numbers: Tensor) -> list[float]:
        """Numbers from the device, summed over the ranks that hold parts, in one transfer."""
        stacked = torch.stack([n.reshape(()).float() for n in numbers])
        for group, device in self._groups:
            stacked = stacked.to(device)
            dist.all_reduce(stacked, group=group)
        return [float(n) for n in stacked.tolist()]

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint, per rank when the parameters are sharded."""
        return {
            "distance": self.distance, "squares": self.squares, "steps": self.steps, "origin": self._origin.clone(),
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint.

        Raises:
            ValueError: the checkpoint is of other parameters.
        """
        if state["origin"].numel() != self._origin.numel():
            raise ValueError(
                f"expected the checkpoint of a path over {self._origin.numel()} sampled elements, got one over "
                f"{state['origin'].numel()}: build the optimizer on the model that was saved"
            )
        self._distance, self.squares, self._came = float(state["distance"]), float(state["squares"]), None
        self.steps = int(state["steps"])
        self._origin = state["origin"].to(self._origin, copy=True)


PLAIN = (Tensor, nn.Parameter)


def sketch(tensor: Tensor, stride: int) -> Tensor:
    """Every `stride`-th element, flat; a view where the layout allows one. Of a sharded tensor, of what is here."""
    plain = type(tensor) in PLAIN and tensor.layout is torch.strided and not tensor.is_complex()
    if plain and tensor.is_contiguous():  # one call where there are many
        size = -(-tensor.numel() // stride)
        return torch.as_strided(tensor, (size,), (stride,), tensor.storage_offset())
    here = local(tensor)
    if here.is_sparse:
        here = here.to_dense()
    if torch.is_complex(here):
        here = torch.view_as_real(here)
    return here.reshape(-1)[::stride]


def _is_copied(tensor: Tensor) -> bool:
    """Whether a sketch of it is no view, so that it would not follow an update in place."""
    here = local(tensor)
    return here.is_sparse or here.is_complex() or not here.is_contiguous()


def _shard_groups(parameters: Sequence[Tensor]) -> list[tuple[Any, torch.device]]:
    """The process groups over which sharded parameters are spread: one, or none."""
    for parameter in parameters:
        mesh = getattr(parameter, "device_mesh", None)
        if mesh is not None:
            group = mesh.get_group(mesh.ndim - 1) if mesh.ndim > 1 else mesh.get_group()
            device = torch.device("cpu") if mesh.device_type == "cpu" else torch.device(mesh.device_type)
            return [(group, device)]
    return []
