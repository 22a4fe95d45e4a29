"""Textbook Lanczos: the plain twin of ``lanczos``, for tests and for showing why it is not enough."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dcao_client.spectrum.lanczos import Matvec


def lanczos_plain(matvec: Matvec, start: Tensor, steps: int, *, reorthogonalise: bool) -> Tensor:
    """Ritz values in descending order after ``steps`` steps of the three-term recurrence.

    With ``reorthogonalise=False`` this is Golub & Van Loan's algorithm 10.1.1 as printed, ghosts and
    all. No bounds, no early stop, no breakdown handling: not for use on a model.
    """
    rows: list[Tensor] = [start / start.norm()]
    alphas: list[float] = []
    betas: list[float] = []
    for step in range(steps):
        w = matvec(rows[-1]).clone()
        alphas.append(float(rows[-1] @ w))
        w -= alphas[-1] * rows[-1]
        if step:
            w -= betas[-1] * rows[-2]
        if reorthogonalise:
            for _ in range(2):
                for row in rows:
                    w -= (row @ w) * row
        beta = float(w.norm())
        if step + 1 == steps or beta == 0.0:
            break
        betas.append(beta)
        rows.append(w / beta)
    k = len(alphas)
    t = np.diag(alphas) + np.diag(betas[: k - 1], 1) + np.diag(betas[: k - 1], -1)
    return torch.from_numpy(np.linalg.eigvalsh(t)[::-1].copy())
