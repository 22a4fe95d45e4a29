"""Trainable variables as one flat vector."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf


class Layout:
    """How variables lie in a flat vector: in order, each contiguous; in single precision, or double where all are."""

    def __init__(self, model: Any) -> None:
        """Of ``model.trainable_variables``: a ``tf.Module``'s or a Keras model's.

        Raises:
            ValueError: there is none yet, one is complex, or they are mirrored over several replicas.
        """
        self.variables = [plain(v) for v in model.trainable_variables]
        if not self.variables:
            raise ValueError(
                "expected a model with trainable variables; got none: build it first (call it once on a batch)"
            )
        if any(v.dtype.is_complex for v in self.variables):
            raise ValueError("expected variables that are real; got complex ones: give their real and imaginary parts")
        if any(isinstance(v, tf.distribute.DistributedValues) for v in self.variables):
            raise ValueError("expected variables of one replica; got mirrored ones: measure outside of the strategy")
        self.shapes = [tuple(v.shape) for v in self.variables]
        self.ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        self.dtype = tf.float64 if all(v.dtype == tf.float64 for v in self.variables) else tf.float32

    @property
    def size(self) -> int:
        """The vector's length."""
        return int(self.ends[-1])

    def of(self, model: Any) -> bool:
        """Whether they are the model's still."""
        now = [plain(v) for v in model.trainable_variables]
        return len(now) == len(self.variables) and all(a is b for a, b in zip(now, self.variables, strict=True))

    def flat(self, tensors: Sequence[Any]) -> Any:
        """One vector."""
        return tf.concat([tf.reshape(tf.cast(t, self.dtype), [-1]) for t in tensors], 0)

    def pieces(self, vector: Any) -> list[Any]:
        """The vector as tensors of the variables' shapes and precisions."""
        parts = tf.split(vector, np.diff(self.ends, prepend=0))
        return [tf.cast(tf.reshape(p, s), v.dtype) for p, s, v in zip(parts, self.shapes, self.variables, strict=True)]


def plain(variable: Any) -> Any:
    """TensorFlow's own variable of a Keras one."""
    return variable if isinstance(variable, tf.Variable) else variable.value
