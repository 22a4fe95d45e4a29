"""Textbook Lanczos: the plain twin of ``lanczos``, for tests and for showing why it is not enough."""

from __future__ import annotations

import numpy as np

from dcao_client.spectrum.arrays import Vector
from dcao_client.spectrum.lanczos import Matvec
from dcao_client.spectrum.ritz import Array


def lanczos_plain(matvec: Matvec, start: Vector, steps: int, *, reorthogonalise: bool) -> Array:
    """Ritz values in descending order after ``steps`` steps of the three-term recurrence.

    With ``reorthogonalise=False`` this is Golub & Van Loan's algorithm 10.1.1 as printed, ghosts and
    all. No bounds, no early stop, no breakdown handling: not for use on a model.
    """
    rows: list[Vector] = [start / float(start @ start) ** 0.5]
    alphas: list[float] = []
    betas: list[float] = []
    for step in range(steps):
        w = matvec(rows[-1])
        alphas.append(float(rows[-1] @ w))
        w = w - alphas[-1] * rows[-1]
        if step:
            w = w - betas[-1] * rows[-2]
        if reorthogonalise:
            for _ in range(2):
                for row in rows:
                    w = w - float(row @ w) * row
        beta = float(w @ w) ** 0.5
        if step + 1 == steps or beta == 0.0:
            break
        betas.append(beta)
        rows.append(w / beta)
    k = len(alphas)
    t = np.diag(alphas) + np.diag(betas[: k - 1], 1) + np.diag(betas[: k - 1], -1)
    return np.linalg.eigvalsh(t)[::-1].copy()
