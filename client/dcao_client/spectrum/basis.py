"""An orthonormal set of long vectors, stored in slabs that grow, multiplied as matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from dcao_client.spectrum.vectors import CHUNK, Space

# Rows per allocation: few enough that neither an early stop nor a restart wastes much.
SLAB = 2
# Columns rotated at once by a restart: small enough to need no second basis, large enough for a matrix
# product.
BLOCK = 1 << 16


class Basis:
    """Rows v₁…v_k of length n, in ``dtype`` on ``device``; products come back in ``work`` precision.

    Rounding rows to bfloat16 leaves them orthogonal to about 2⁻⁹/√n, because the errors of different rows are
    independent, so only the recurrence's residual feels it.
    """

    def __init__(
        self,
        n: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
        work: torch.dtype,
        space: Space | None = None,
    ) -> None:
        """Rows of local length ``n``; ``space`` completes inner products when vectors are sharded over ranks."""
        self.n, self.dtype, self.device, self.work = n, dtype, device, work
        self.space = space if space is not None else Space(n)
        self.slabs: list[Tensor] = []
        self.count = 0
        self.peak_bytes = 0

    def append(self, row: Tensor) -> Tensor:
        """Store a row and return it as stored (rounded), which is what the caller must go on with."""
        if self.count == SLAB * len(self.slabs):
            self.slabs.append(torch.empty((SLAB, self.n), dtype=self.dtype, device=self.device))
            element = self.slabs[0].element_size()
            self.peak_bytes = max(self.peak_bytes, len(self.slabs) * SLAB * self.n * element)
        slot = self.slabs[self.count // SLAB][self.count % SLAB]
        slot.copy_(row)
        self.count += 1
        return slot if slot.dtype == row.dtype and slot.device == row.device else slot.to(row.device, row.dtype)

    def row(self, index: int, like: Tensor) -> Tensor:
        """Row ``index`` in the dtype and on the device of ``like``."""
        return self.slabs[index // SLAB][index % SLAB].to(like.device, like.dtype)

    def inner(self, w: Tensor) -> Tensor:
        """V w, float64 on the CPU, length ``count``."""
        w = w.to(self.device)
        local = torch.cat([_chunked(rows.to(self.work), w) for rows in self._filled()])
        return self.space.reduce_(local).cpu()

    def subtract_(self, w: Tensor, coefficients: Tensor) -> None:
        """w ← w − Vᵀc, in place."""
        c = coefficients.to(self.device, self.work)
        local = w if w.device == self.device else w.to(self.device)
        start = 0
        for rows in self._filled():
            part = c[start : start + len(rows)]
            local.addmv_(rows.to(self.work).t(), part, alpha=-1.0)
            start += len(rows)
        if local is not w:
            w.copy_(local)

    def combine(self, coefficients: Tensor, like: Tensor) -> Tensor:
        """Vᵀc as a new vector like ``like``."""
        out = torch.zeros(self.n, dtype=self.work, device=self.device)
        self.subtract_(out, -coefficients)
        return out.to(like.device, like.dtype)

    def replace(self, rotation: Tensor) -> None:
        """Replace the rows by those of rotationᵀ V, in column blocks, so that no second basis is held."""
        keep = rotation.shape[1]
        for begin in range(0, self.n, BLOCK):
            end = min(begin + BLOCK, self.n)
            block = torch.cat([rows[:, begin:end] for rows in self._filled()]).to(self.work)
            turned = rotation.t().to(self.device, self.work) @ block
            for index in range(keep):
                self.slabs[index // SLAB][index % SLAB, begin:end] = turned[index].to(self.dtype)
        self.count = keep
        del self.slabs[-(-keep // SLAB) :]

    def _filled(self) -> list[Tensor]:
        full, rest = divmod(self.count, SLAB)
        slabs = self.slabs[:full]
        return [*slabs, self.slabs[full][:rest]] if rest else slabs


def _chunked(rows: Tensor, w: Tensor) -> Tensor:
    """rows @ w in float64, as partial sums of CHUNK columns each."""
    if rows.dtype is torch.float64:
        return rows @ w
    k, n = rows.shape
    blocks, tail = divmod(n, CHUNK)
    total = torch.zeros(k, dtype=torch.float64, device=w.device)
    if blocks:
        body = rows[:, : blocks * CHUNK].view(k, blocks, CHUNK).transpose(0, 1)
        parts = torch.bmm(body, w[: blocks * CHUNK].view(blocks, CHUNK, 1))
        total += parts.squeeze(-1).sum(0, dtype=torch.float64)
    if tail:
        total += (rows[:, blocks * CHUNK :] @ w[blocks * CHUNK :]).to(torch.float64)
    return total
