"""An orthonormal set of long vectors, stored in slabs that grow, multiplied as matrices."""

from __future__ import annotations

from dcao_client.spectrum.arrays import Block, Numbers, Vector, arrays
from dcao_client.spectrum.vectors import Space

# Rows per allocation: few enough that neither an early stop nor a restart wastes much.
SLAB = 2


class Basis:
    """Rows v₁…v_k of length n, kept as the ``kind`` says; products come back in the vectors' own precision.

    Rounding rows to bfloat16 leaves them orthogonal to about 2⁻⁹/√n, because the errors of different rows are
    independent, so only the recurrence's residual feels it.
    """

    def __init__(self, like: Vector, *, kind: str = "full", space: Space | None = None, slab: int = SLAB) -> None:
        """Rows of the length of ``like``; ``space`` completes inner products when vectors are sharded over ranks.

        ``slab`` rows are allocated together and multiplied together.
        """
        self.arrays, self.n = arrays(like), like.shape[0]
        self.like = self.arrays.zeros(0, like)
        self.kind, self.slab = kind, slab
        self.space = space if space is not None else Space(self.n)
        self.slabs: list[Vector] = []
        self.count = 0
        self.peak_bytes = 0

    @property
    def eps(self) -> float:
        """The unit roundoff of the products."""
        return self.arrays.eps(self.like)

    def append(self, row: Vector, length: float = 1.0) -> Vector:
        """Store a row over its length and return it as stored (rounded), which is what the caller must go on with."""
        index, slot = divmod(self.count, self.slab)
        if index == len(self.slabs):
            self.slabs.append(self.arrays.slab(self.slab, self.n, self.like, self.kind))
            rows = len(self.slabs) * self.slab
            self.peak_bytes = max(self.peak_bytes, rows * self.n * self.arrays.width(self.slabs[0]))
        self.slabs[index] = self.arrays.write(self.slabs[index], slot, row, length)
        self.count += 1
        return self.row(self.count - 1, row)

    def row(self, index: int, like: Vector) -> Vector:
        """Row ``index`` in the precision of ``like``, and where that is."""
        return self.arrays.cast(self.arrays.row(self.slabs[index // self.slab], index % self.slab), like)

    def inner(self, w: Vector, begin: int = 0) -> Numbers:
        """V w without the first ``begin`` rows, float64 on the host, length ``count − begin``."""
        return self.arrays.host(self.space.reduce_(self.arrays.inner(self._filled(begin), w)))

    def subtract(self, w: Vector, coefficients: Numbers, begin: int = 0) -> Vector:
        """w − Vᵀc without the first ``begin`` rows, in w itself where it can be written."""
        return self.arrays.subtract(w, self._filled(begin), coefficients)

    def combine(self, coefficients: Numbers, like: Vector) -> Vector:
        """Vᵀc as a new vector like ``like``."""
        out = self.arrays.zeros(self.n, self.like)
        return self.arrays.cast(self.subtract(out, -coefficients), like)

    def replace(self, rotation: Numbers) -> None:
        """Replace the rows by those of rotationᵀ V."""
        self.slabs = self.arrays.rotate(self._filled(), rotation, self.like)
        self.count = rotation.shape[1]
        del self.slabs[-(-self.count // self.slab) :]

    def _filled(self, begin: int = 0) -> list[Block]:
        size = self.slab
        return [
            (self.slabs[i], max(begin - i * size, 0), min(self.count - i * size, size))
            for i in range(begin // size, -(-self.count // size))
        ]
