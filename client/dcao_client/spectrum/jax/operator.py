"""Hessian-vector products by differentiating the gradient along a vector: H v = d/dt ∇L(w + t·v) at t = 0.

Pearlmutter 1994, by forward over reverse: no graph is held between products. Each function is compiled once for the
shapes that it sees. Nothing is written anywhere, so that there is no trace to remove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from dcao_client.spectrum.jax.tree import Layout
from dcao_client.spectrum.operators import Exact
from dcao_client.spectrum.ritz import FLOORS
from dcao_client.spectrum.vectors import Space

Loss = Callable[[Any, Any], Any]
Point = tuple[list[Array], list[Array]]


class Compiled:
    """A loss's gradient and products as functions of flat vectors; made once for a loss."""

    def __init__(self, loss: Loss) -> None:
        self.loss = loss
        self.traces = 0  # products compiled so far
        self.gradient = jax.jit(self._gradient, static_argnums=2)
        self.product = jax.jit(self._product, static_argnums=3)

    def _value(self, moving: list[Array], staying: list[Array], batch: Any, layout: Layout) -> Array:
        value = jnp.asarray(self.loss(layout.whole(moving, staying), batch))
        if value.size != 1:
            got = value.shape
            raise TypeError(f"expected loss(params, batch) to return a scalar, the batch's mean; got shape {got}")
        return value.reshape(())

    def _gradient(self, point: Point, batch: Any, layout: Layout) -> tuple[Array, Array]:
        value, gradient = jax.value_and_grad(self._value)(*point, batch, layout)
        return value, layout.flat(gradient)

    def _product(self, point: Point, batch: Any, vector: Array, layout: Layout) -> Array:
        self.traces += 1
        moving, staying = point
        slope = jax.grad(self._value)
        _, curved = jax.jvp(lambda m: slope(m, staying, batch, layout), (moving,), (layout.pieces(vector),))
        return layout.flat(curved)


class JvpOfGrad(Exact):
    """The mean loss's Hessian over micro-batches, at one point."""

    kind = "jvp_of_grad"

    def __init__(
        self, compiled: Compiled, point: Point, layout: Layout, batches: Sequence[Any], weights: Sequence[float]
    ) -> None:
        """Evaluates loss and gradient. ``weights`` are each micro-batch's share of all examples."""
        self.compiled, self.point, self.layout = compiled, point, layout
        self.batches, self.weights = batches, weights
        found = [compiled.gradient(point, batch, layout) for batch in batches]
        self.gradient = self._mean([gradient for _, gradient in found])
        self.loss = float(np.dot(weights, [float(value) for value, _ in found]))
        self.space = Space(layout.size)
        self.floor = FLOORS[str(layout.dtype)]

    def product(self, vector: Array) -> Array:
        """A v."""
        return self._mean([self.compiled.product(self.point, batch, vector, self.layout) for batch in self.batches])

    def close(self) -> None:
        """Lets go of the parameters."""
        self.point = ([], [])

    def _mean(self, vectors: Sequence[Array]) -> Array:
        if len(vectors) == 1:
            return vectors[0]
        total: Array = sum(weight * vector for weight, vector in zip(self.weights, vectors, strict=True))  # type: ignore[assignment]
        return total
