"""Hessian-vector products by nested tapes: H v = ∇(∇L·v) (Pearlmutter 1994), compiled once for the shapes they see.

Every evaluation begins where the first one began: what the loss wrote is put back after each, so that all draw the same
dropout mask, and none leaves a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcao_client.spectrum.operators import Exact
from dcao_client.spectrum.ritz import FLOORS
from dcao_client.spectrum.tensorflow.borrowed import Borrowed
from dcao_client.spectrum.tensorflow.layout import Layout
from dcao_client.spectrum.vectors import Space

Loss = Callable[[Any, Any], Any]  # (model, batch) to the mean loss, a scalar


class Compiled:
    """A loss's gradient and products as functions of flat vectors; made once for a model."""

    def __init__(self, model: Any, loss: Loss) -> None:
        self.model, self.loss, self.layout = model, loss, Layout(model)
        self.traces = 0  # products compiled so far
        self.gradient, self.product = tf.function(self._gradient), tf.function(self._product)

    def _slope(self, batch: Any) -> tuple[Any, list[Any]]:
        variables = self.layout.variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            value = tf.convert_to_tensor(self.loss(self.model, batch))
            if value.shape.num_elements() != 1:
                raise TypeError(
                    f"expected loss(model, batch) to return a scalar, the batch's mean; got shape {value.shape}"
                )
            value = tf.reshape(value, [])
        found = tape.gradient(value, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        return value, [tf.convert_to_tensor(g) for g in found]  # an embedding's comes in slices

    def _gradient(self, batch: Any) -> tuple[Any, Any]:
        value, slope = self._slope(batch)
        return value, self.layout.flat(slope)

    def _product(self, batch: Any, vector: Any) -> Any:
        self.traces += 1
        variables = self.layout.variables
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            _, slope = self._slope(batch)
        curved = tape.gradient(
            slope, variables, self.layout.pieces(vector), unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        return self.layout.flat([tf.convert_to_tensor(c) for c in curved])


class NestedTapes(Exact):
    """The mean loss's Hessian over micro-batches, at one point."""

    kind = "double_backward"

    def __init__(self, compiled: Compiled, batches: Sequence[Any], weights: Sequence[float]) -> None:
        """Evaluates loss and gradient. ``weights`` are each micro-batch's share of all examples.

        Raises:
            ValueError: what the loss does cannot be put back.
        """
        self.compiled, self.layout, self.weights = compiled, compiled.layout, weights
        self.batches = [tf.nest.map_structure(_tensor, batch) for batch in batches]
        self.borrowed = [
            Borrowed(compiled.gradient.get_concrete_function(batch), self.layout.variables) for batch in self.batches
        ]
        found = [self._evaluate(i, compiled.gradient) for i in range(len(batches))]
        self.gradient = self._mean([gradient for _, gradient in found])
        self.loss = float(np.dot(weights, [float(value) for value, _ in found]))
        self.space = Space(self.layout.size)
        self.floor = FLOORS[self.layout.dtype.name]

    def product(self, vector: Any) -> Any:
        """A v."""
        return self._mean([self._evaluate(i, self.compiled.product, vector) for i in range(len(self.batches))])

    def close(self) -> None:
        """Lets go of the batches and of what was borrowed."""
        self.batches, self.borrowed = [], []

    def _evaluate(self, index: int, function: Any, *more: Any) -> Any:
        try:
            return function(self.batches[index], *more)
        finally:
            self.borrowed[index].back()

    def _mean(self, vectors: Sequence[Any]) -> Any:
        if len(vectors) == 1:
            return vectors[0]
        return tf.add_n([weight * vector for weight, vector in zip(self.weights, vectors, strict=True)])


def _tensor(leaf: Any) -> Any:
    """Of an array, once; a Python value would be compiled for each time it is another."""
    return tf.convert_to_tensor(leaf) if isinstance(leaf, np.ndarray | np.generic | int | float) else leaf
