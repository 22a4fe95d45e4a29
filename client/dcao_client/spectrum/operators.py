"""What every kind of curvature product offers."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from dcao_client.spectrum.vectors import Space


class Curvature(Protocol):
    """A symmetric matrix known by its products, at one point of weight space.

    ``loss`` and ``gradient`` (flat, of the mean loss over all micro-batches and ranks) come with building it.
    ``floor`` is the relative error of a product. ``close`` drops every graph: one used after an in-place
    update gives wrong products without an error.
    """

    kind: str
    loss: float
    gradient: Tensor
    floor: float
    space: Space

    def product(self, vector: Tensor) -> Tensor:
        """A v, summed over ranks, as a tensor the caller may overwrite."""
        ...

    def close(self) -> None:
        """Drop what the products need."""
        ...
