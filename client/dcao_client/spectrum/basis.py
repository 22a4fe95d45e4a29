"""An orthonormal set of long vectors, stored in slabs that grow, multiplied as matrices."""

from __future__ import annotations

import torch
from torch import Tensor

from dcao_client.spectrum.vectors import Space, partial_inner

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
        slab: int = SLAB,
    ) -> None:
        """Rows of local length ``n``; ``space`` completes inner products when vectors are sharded over ranks.

        ``slab`` rows are allocated together and multiplied together.
        """
        self.n, self.dtype, self.device, self.work = n, dtype, device, work
        self.space = space if space is not None else Space(n)
        self.slab = slab
        self.slabs: list[Tensor] = []
        self.count = 0
        self.peak_bytes = 0

    def append(self, row: Tensor, length: float = 1.0) -> Tensor:
        """Store a row over its length and return it as stored (rounded), which is what the caller must go on with."""
        if self.count == self.slab * len(self.slabs):
            self.slabs.append(torch.empty((self.slab, self.n), dtype=self.dtype, device=self.device))
            element = self.slabs[0].element_size()
            self.peak_bytes = max(self.peak_bytes, len(self.slabs) * self.slab * self.n * element)
        slot = self.slabs[self.count // self.slab][self.count % self.slab]
        if slot.device == row.device:
            torch.div(row, length, out=slot)
        else:
            slot.copy_(row / length)
        self.count += 1
        return slot if slot.dtype == row.dtype and slot.device == row.device else slot.to(row.device, row.dtype)

    def row(self, index: int, like: Tensor) -> Tensor:
        """Row ``index`` in the dtype and on the device of ``like``."""
        return self.slabs[index // self.slab][index % self.slab].to(like.device, like.dtype)

    def inner(self, w: Tensor, begin: int = 0) -> Tensor:
        """V w without the first ``begin`` rows, float64 on the CPU, length ``count − begin``."""
        w = w.to(self.device)
        local = torch.cat([partial_inner(rows.to(self.work), w) for rows in self._filled(begin)])
        return self.space.reduce_(local).cpu()

    def subtract_(self, w: Tensor, coefficients: Tensor, begin: int = 0) -> None:
        """w ← w − Vᵀc, in place, without the first ``begin`` rows."""
        c = coefficients.to(self.device, self.work)
        local = w if w.device == self.device else w.to(self.device)
        start = 0
        for rows in self._filled(begin):
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
                self.slabs[index // self.slab][index % self.slab, begin:end] = turned[index].to(self.dtype)
        self.count = keep
        del self.slabs[-(-keep // self.slab) :]

    def _filled(self, begin: int = 0) -> list[Tensor]:
        first, skipped = divmod(begin, self.slab)
        full, rest = divmod(self.count, self.slab)
        slabs = [*self.slabs[first:full], self.slabs[full][:rest]] if rest else self.slabs[first:full]
        return [slabs[0][skipped:], *slabs[1:]] if skipped else slabs
