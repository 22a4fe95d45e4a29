"""The probe in TensorFlow: a loss of a model and a batch, measured where the training stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from dcao_client.spectrum.arrays import Numbers
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.probing import Probing, Scaling, counted
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.tensorflow.operator import Compiled, Loss, NestedTapes


class Probe(Probing):
    """Measures the top of a loss's curvature in a model's trainable variables; leaves every variable as it was.

    >>> class Model(tf.Module):
    ...     def __init__(self):
    ...         self.w = tf.Variable([[2.0, 0.0], [0.0, 1.0]])
    >>> probe = Probe(Model(), lambda model, x: tf.reduce_mean((tf.linalg.matvec(model.w, x)) ** 2))
    >>> s = probe.measure(tf.ones((1, 2)))
    >>> s.status, round(s.rho, 2)
    ('ok', 2.0)
    """

    framework = "tensorflow"

    def __init__(self, model: Any, loss: Loss, *, settings: ProbeSettings | None = None) -> None:
        """Args: what has ``trainable_variables`` (a ``tf.Module``, a Keras model); ``loss(model, batch)`` ↦ the mean
        loss over the batch's examples; the numerical choices. Measure outside of a ``tf.function``: it makes its own.

        Raises:
            ValueError: a product is asked for that there is none of in TensorFlow.
        """
        super().__init__(settings)
        self.model, self.loss = model, loss
        self._compiled: Compiled | None = None

    @property
    def coupled(self) -> bool:  # type: ignore[override]
        """Whether a layer takes statistics over the batch."""
        layers = getattr(self.model, "_flatten_layers", None) or (lambda: getattr(self.model, "submodules", ()))
        return any(type(layer).__name__ == "BatchNormalization" for layer in layers())

    @property
    def traces(self) -> int:
        """Products compiled so far."""
        return 0 if self._compiled is None else self._compiled.traces

    def at(self, scaling: Scaling | None) -> None:
        """P^-½ where the preconditioned curvature is wanted."""
        self._scaling = scaling

    def _operator(self, batches: Sequence[Any], weights: Sequence[float], params: Any) -> tuple[Curvature, str]:
        if tf.inside_function():
            raise RuntimeError("expected a call outside of tf.function, before the compiled step; got one inside")
        known = self._compiled
        if known is None or not known.layout.of(self.model):  # a layer was frozen, or built since
            known = self._compiled = Compiled(self.model, self.loss)
        dtype = ",".join(sorted({v.dtype.name for v in known.layout.variables}))
        return NestedTapes(known, batches, weights), dtype

    def _half(self, vector: Any) -> Any:
        return tf.cast(vector, tf.bfloat16)

    def _single(self, vector: Any) -> Numbers:
        return np.asarray(tf.cast(vector, tf.float32))

    def _why(self, error: Exception, batch: Any) -> str:
        lines = str(error).strip().splitlines()
        if lines and lines[0] == "in user code:":  # AutoGraph puts the way there before what was said
            return lines[-1].strip()[:240]
        return super()._why(error, batch)

    def _count(self, batch: Any) -> int:
        return counted(tf.nest.flatten(batch), batch)

    def _take(self, batch: Any, count: int) -> Any:
        """The first ``count`` examples of every array whose leading dimension is the batch's."""
        total = self._count(batch)
        if count >= total:
            return batch
        cut = lambda a: a[:count] if getattr(a, "shape", ()) and a.shape[0] == total else a  # noqa: E731
        return tf.nest.map_structure(cut, batch)
