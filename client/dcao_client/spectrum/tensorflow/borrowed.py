"""What a compiled loss may change, so that it can be put back: batch norm's statistics, seeds, metrics, counters.

The graph says what it takes from outside, whoever made it: no list of layers, no name to know.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import tensorflow as tf

# Operations whose state lies in the kernel, where nobody can read it or put it back.
DRAWS = frozenset(
    {
        "Multinomial", "ParameterizedTruncatedNormal", "RandomGamma", "RandomPoissonV2", "RandomShuffle",
        "RandomStandardNormal", "RandomUniform", "RandomUniformInt", "TruncatedNormal",
    }
)  # fmt: skip


class Borrowed:
    """The values of every variable that a compiled function reaches, but for those that move."""

    def __init__(self, concrete: Any, moving: Sequence[Any]) -> None:
        """Reads them; nothing is copied until they are written.

        Raises:
            ValueError: the loss draws numbers that it cannot be made to draw again.
        """
        drawn = sorted(DRAWS & _operations(concrete.graph.as_graph_def()))
        if drawn:
            raise ValueError(
                f"expected a loss that draws the same numbers at every product; got {', '.join(drawn)}, whose state "
                "cannot be put back; use Keras' layers, tf.random.Generator or tf.random.stateless_*"
            )
        own = {id(v.handle) for v in moving}
        resources = [h for h in concrete.captured_inputs if h.dtype == tf.resource and id(h) not in own]
        self._values = [(h, tf.raw_ops.ReadVariableOp(resource=h, dtype=d)) for h in resources if (d := _dtype(h))]

    def back(self) -> None:
        """Puts them back."""
        for handle, value in self._values:
            tf.raw_ops.AssignVariableOp(resource=handle, value=value)


def _operations(graph: Any) -> set[str]:
    return {node.op for nodes in (graph.node, *(f.node_def for f in graph.library.function)) for node in nodes}


def _dtype(handle: Any) -> Any:
    """Of a variable; None of a table or an iterator."""
    data = getattr(handle, "_handle_data", None)
    if data is None or not data.is_set or not data.shape_and_type:
        return None
    return tf.as_dtype(data.shape_and_type[0].dtype)
