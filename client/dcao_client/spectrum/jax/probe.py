"""The probe in JAX: a loss of parameters and a batch, measured where a training stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcao_client.spectrum.arrays import Numbers
from dcao_client.spectrum.jax.operator import Compiled, JvpOfGrad, Loss
from dcao_client.spectrum.jax.tree import split
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.probing import Probing, Scaling, counted
from dcao_client.spectrum.settings import ProbeSettings


class Probe(Probing):
    """Measures the top of a loss's curvature in its parameters.

    >>> probe = Probe(lambda w, x: jnp.mean((x @ w) ** 2))
    >>> s = probe.measure(jnp.diag(jnp.array([2.0, 1.0])), jnp.ones(2))
    >>> s.status, round(s.rho, 2), round(s.gamma, 2)
    ('ok', 4.0, 3.0)
    """

    framework = "jax"

    def __init__(self, loss: Loss, *, settings: ProbeSettings | None = None) -> None:
        """Args: ``loss(params, batch)`` ↦ the mean loss over the batch's examples; the numerical choices.

        ``params`` is any pytree: its arrays of real numbers move, everything else stays (an Equinox model is one; of a
        Flax NNX model give ``nnx.split``'s parameters, and the loss merges them).

        Raises:
            ValueError: a product is asked for that there is none of in JAX.
        """
        super().__init__(settings)
        self.compiled = Compiled(loss)
        self._params: Any = None

    def at(self, params: Any, scaling: Scaling | None = None) -> None:
        """Measures there from now on; ``scaling`` gives P^-½ where the preconditioned curvature is wanted."""
        self._params, self._scaling = params, scaling

    def _operator(self, batches: Sequence[Any], weights: Sequence[float], params: Any) -> tuple[Curvature, str]:
        moving, staying, layout = split(self._params if params is None else params)
        operator = JvpOfGrad(self.compiled, (moving, staying), layout, batches, weights)
        return operator, ",".join(sorted({str(d) for d in layout.dtypes}))

    def _half(self, vector: Any) -> jax.Array:
        return jnp.asarray(vector, jnp.bfloat16)

    def _single(self, vector: jax.Array) -> Numbers:
        return np.asarray(vector.astype(jnp.float32))  # NumPy has no bfloat16

    def _count(self, batch: Any) -> int:
        return count_examples(batch)

    def _take(self, batch: Any, count: int) -> Any:
        return take(batch, count)


def count_examples(batch: Any) -> int:
    """The leading dimension of the first array in a pytree.

    Raises:
        ValueError: there is none; pass ``ProbeSettings(examples=…)``.
    """
    return counted(jax.tree.leaves(batch), batch)


def take(batch: Any, count: int) -> Any:
    """The first ``count`` examples: every array whose leading dimension is the batch's is cut, the rest is kept."""
    total = count_examples(batch)
    if count >= total:
        return batch
    return jax.tree.map(lambda a: a[:count] if getattr(a, "ndim", 0) and a.shape[0] == total else a, batch)
