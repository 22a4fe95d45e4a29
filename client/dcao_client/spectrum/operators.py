"""What every kind of curvature product offers."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from dcao_client.spectrum.arrays import Vector
from dcao_client.spectrum.vectors import Space


class Exact:
    """Of products that can be had no more accurate."""

    rough = False

    def accurately(self) -> AbstractContextManager[None]:
        """As they are."""
        return nullcontext()


class Curvature(Protocol):
    """A symmetric matrix known by its products, at one point of weight space.

    ``loss`` and ``gradient`` (flat, of the mean loss over all micro-batches and ranks) come with building it.
    ``floor`` is the relative error of a product. ``rough`` says that what a solve finds may be worth two dearer
    products, which ``accurately`` gives. ``close`` drops every graph: one used after an in-place update gives wrong
    products without an error.
    """

    kind: str
    loss: float
    gradient: Vector
    floor: float
    space: Space

    @property
    def rough(self) -> bool: ...

    def product(self, vector: Vector) -> Vector:
        """A v, summed over ranks, as a vector the caller may overwrite."""
        ...

    def accurately(self) -> AbstractContextManager[None]:
        """Products are as accurate as they can be within."""
        ...

    def close(self) -> None:
        """Drop what the products need."""
        ...
