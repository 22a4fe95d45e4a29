"""A name for what was measured. Two numbers with different names must not be compared."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence


def fingerprint(
    mode: str,
    *,
    policy: str,
    examples: int,
    dtype: str,
    matrix: str,
    preconditioned: bool,
    parameters: Sequence[str] = (),
) -> str:
    """Sixteen hex digits over the model's mode, batch policy, size, dtype, matrix and scaling.

    ``parameters``: the names of those measured, where they are not all of the model's.
    """
    said = "|".join((mode, policy, str(examples), dtype, matrix, "P" if preconditioned else "H"))
    if parameters:
        said += "|" + ",".join(parameters)
    return hashlib.sha256(said.encode()).hexdigest()[:16]


def matrix_of(kind: str) -> str:
    """The matrix that a kind of product stands for: kinds of one may be compared, those of two not."""
    return "hessian" if kind in ("double_backward", "finite_difference") else kind
