"""The small problem of `regression.py` in JAX, with the same weights and batches as torch has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Params = dict[str, jax.Array]


def params() -> Params:
    """torch's weights of `regression.net`."""
    from tests.frameworks.regression import net

    one, _, two = net()
    arrays = {"w": one.weight.T, "b": one.bias, "v": two.weight.T, "c": two.bias}
    return {name: jnp.asarray(value.detach().numpy().copy()) for name, value in arrays.items()}


def batches(size: int = 8) -> list[tuple[np.ndarray, np.ndarray]]:
    """torch's batches, in order."""
    from tests.frameworks.regression import loader

    return [(x.numpy(), y.numpy()) for x, y in loader(size)]


def mse(p: Params, batch: tuple[Any, Any]) -> jax.Array:
    """The mean loss of a batch."""
    return jnp.mean((jnp.tanh(batch[0] @ p["w"] + p["b"]) @ p["v"] + p["c"] - batch[1]) ** 2)


class Loop:
    """A compiled training step around a transformation, as a user writes it, and what it did."""

    def __init__(self, optimizer: Any, p: Any = None, loss: Callable[..., Any] = mse) -> None:
        self.optimizer, self.loss = optimizer, loss
        self.params = params() if p is None else p
        self.state = optimizer.init(self.params)
        self.traces = 0
        self.points: list[Any] = []
        self.gradients: list[Any] = []
        self.decisions: list[Any] = []
        self._step = jax.jit(self._compiled)

    def _compiled(self, p: Any, state: Any, batch: Any) -> Any:
        self.traces += 1
        gradients = jax.grad(self.loss)(p, batch)
        updates, state = self.optimizer.update(gradients, state, p)
        return optax.apply_updates(p, updates), state, gradients

    def run(self, batches: list[Any]) -> Loop:
        """One update a batch; under control if the transformation is ours."""
        for batch in batches:
            if hasattr(self.optimizer, "step"):
                self.state = self.optimizer.step(self.state, self.params, batch)
                self.decisions.append(self.optimizer.control.decision)
            self.points.append(self.params)
            self.params, self.state, gradients = self._step(self.params, self.state, batch)
            self.gradients.append(gradients)
        return self

    def rates(self) -> list[float]:
        """What each update of an SGD without momentum used, from weights and gradients alone."""
        found = []
        after = [*self.points[1:], self.params]
        for before, then, gradients in zip(self.points, after, self.gradients, strict=True):
            g, moved = flat(gradients), flat(before) - flat(then)
            found.append(float(moved @ g / (g @ g)))
            np.testing.assert_allclose(moved, found[-1] * g, rtol=1e-2, atol=1e-6)  # along the gradient, nowhere else
        return found


def flat(tree: Any) -> np.ndarray:
    """One vector in double precision."""
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])
