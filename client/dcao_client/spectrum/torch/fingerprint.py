"""A name for what was measured. Two numbers with different names must not be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from torch import nn


def fingerprint(
    model: nn.Module,
    *,
    policy: str,
    examples: int,
    dtype: str,
    matrix: str,
    preconditioned: bool,
    parameters: Sequence[int] = (),
) -> str:
    """Sixteen hex digits over train/eval mode of every module, batch policy, size, dtype, matrix and scaling.

    ``parameters``: the sizes of those measured, where they are not all of the model's.
    """
    modes = "".join("t" if module.training else "e" for module in model.modules())
    mode = hashlib.sha256(modes.encode()).hexdigest() if len(set(modes)) > 1 else modes[0]
    said = "|".join((mode, policy, str(examples), dtype, matrix, "P" if preconditioned else "H"))
    if parameters:
        said += "|" + ",".join(map(str, parameters))
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def matrix_of(kind: str) -> str:
    """The matrix that a kind of product stands for: kinds of one may be compared, those of two not."""
    return "hessian" if kind in ("double_backward", "finite_difference") else kind
