"""Whether a forward pass writes weights, and aliases that it may write without a trace.

``max_norm`` of an embedding, a momentum encoder that follows in ``forward``, a clamp: written through an alias that
shares memory they would move the training's own weights, a dozen times in a probe. Memory for a copy of all weights is
not spent where it is not needed: the first probe works on copies and sees whether they were written.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Bytes of weights beyond which the first probe makes no copies either: then only a version that moved tells.
MOST_COPIED = 1 << 30


class Writes:
    """What is known of a model's forward passes; kept from probe to probe.

    >>> writes = Writes()
    >>> weight = nn.Parameter(torch.ones(2))
    >>> alias = writes.alias(weight, requires_grad=True, copied=writes.copies([weight]))
    >>> writes.saw([(weight, alias)]), writes.found
    (True, False)
    """

    def __init__(self) -> None:
        self.found: bool | None = None

    def copies(self, parameters: Sequence[Tensor]) -> bool:
        """Whether to work on copies: where weights are written, or that is not known yet and they are not too large."""
        if self.found is None:
            return sum(p.numel() * p.element_size() for p in parameters) <= MOST_COPIED
        return self.found

    def alias(self, real: nn.Parameter, *, requires_grad: bool, copied: bool) -> nn.Parameter:
        """The same values, with no gradient, hooks or accumulator; the same memory unless copied."""
        values = real.detach().clone() if copied else real.detach()
        return nn.Parameter(values, requires_grad=requires_grad)

    def saw(self, pairs: Sequence[tuple[Tensor, Tensor]]) -> bool:
        """Take note of what became of copies; whether nothing was written."""
        written = any(not torch.equal(real.detach(), alias.detach()) for real, alias in pairs)
        self.found = written
        return not written
