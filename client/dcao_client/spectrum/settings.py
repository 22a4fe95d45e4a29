"""What a user may choose about a probe; everything here is part of the run's configuration."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, get_args

MatvecKind = Literal["double_backward", "gauss_newton", "finite_difference", "critical"]
StartKind = Literal["random", "gradient", "warm", "combined"]
BasisKind = Literal["auto", "full", "bf16", "cpu", "cpu_bf16"]


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """The numerical choices of a probe.

    Attributes:
        max_matvecs: cap on Hessian-vector products of one measurement, ≥ 2 (the proposal's m = 20).
        rho_tol: stop once λ₁'s error bound is at most this fraction of |λ₁|; in (0, 1).
        gamma_tol: stop once the gap's error bound is at most this fraction of the gap; in (0, 1).
        gamma_floor: gaps are resolved no finer than this fraction of |λ₁|: a bound below it also stops. A gap
            smaller than this reads as "nearly equal eigenvalues", with its bound saying so; 0 insists on
            ``gamma_tol`` whatever the gap.
        start: where Lanczos starts. "auto" is "gradient"; "random" is the proposal's; "warm" is the last Ritz
            vectors, "combined" those and the gradient.
        seed: seeds start vectors and the frozen dropout masks; the global generators are never touched.
        matvec: "auto" (the first kind that works, found by trying), or one kind.
        force: use finite differences on a network with kinks that cannot be held, where the products are wrong by
            a sixth or more.
        graph: "keep" holds the graph of every micro-batch (2.2 gradients per product), "rebuild" one at a time
            (3.3 gradients, the memory of one), "auto" keeps a single batch and rebuilds several.
        preconditioned: measure P^-½HP^-½ when the optimizer has a diagonal second moment.
        raw: measure the raw λ₁ beside the preconditioned one (costs a second, ρ-only, solve).
        basis: where the Krylov basis lives; the bf16 kinds halve its memory. "auto" is "full" up to 16 million
            parameters, with at most ten vectors beyond half a million, and "bf16" with at most six above that.
        max_basis: most Krylov vectors held at once, ≥ 5; beyond it the solver restarts thickly. None: no limit,
            but see ``basis``.
        batch_policy: "current" or "fixed": which batch the caller measures. Only part of the fingerprint.
        probe_batch: measure only the first so many examples of a batch (per micro-batch); None: all.
        examples: counts a batch's examples; None: the leading dimension of its first tensor.
        generators: those that the model or the loss draws from and that are not found by looking at what they hold:
            of torch, numpy or Python. They are frozen in a probe and given back as they were.
        strict: raise what the loss or the model raises, for tests; otherwise it is a status.
        timeout: seconds after which a collective with a missing rank is given up.
    """

    max_matvecs: int = 20
    rho_tol: float = 1e-2
    gamma_tol: float = 5e-2
    gamma_floor: float = 1e-2
    start: StartKind | Literal["auto"] = "auto"
    seed: int = 0
    matvec: MatvecKind | Literal["auto"] = "auto"
    force: bool = False
    graph: Literal["auto", "keep", "rebuild"] = "auto"
    preconditioned: bool = True
    raw: bool = False
    basis: BasisKind = "auto"
    max_basis: int | None = None
    batch_policy: str = "current"
    probe_batch: int | None = None
    examples: Callable[[Any], int] | None = None
    timeout: float = 60.0
    generators: tuple[Any, ...] = ()
    strict: bool = False

    def __post_init__(self) -> None:
        """Raises ValueError naming the first field that is out of range."""
        _require(self.max_matvecs >= 2, "max_matvecs", "at least 2", self.max_matvecs)
        _require(0 < self.rho_tol < 1, "rho_tol", "in (0, 1)", self.rho_tol)
        _require(0 < self.gamma_tol < 1, "gamma_tol", "in (0, 1)", self.gamma_tol)
        _require(0 <= self.gamma_floor < 1, "gamma_floor", "in [0, 1)", self.gamma_floor)
        _require(self.max_basis is None or self.max_basis >= 5, "max_basis", "at least 5 or None", self.max_basis)
        _require(self.probe_batch is None or self.probe_batch >= 1, "probe_batch", "at least 1", self.probe_batch)
        _require(math.isfinite(self.timeout) and self.timeout > 0, "timeout", "positive seconds", self.timeout)
        kinds = (*get_args(MatvecKind), "auto")
        _require(self.matvec in kinds, "matvec", f"one of {', '.join(kinds)}", self.matvec)
        starts = (*get_args(StartKind), "auto")
        _require(self.start in starts, "start", f"one of {', '.join(starts)}", self.start)
        _require(self.basis in get_args(BasisKind), "basis", f"one of {get_args(BasisKind)}", self.basis)
        _require(self.graph in ("auto", "keep", "rebuild"), "graph", "auto, keep or rebuild", self.graph)


def _require(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise ValueError(f"ProbeSettings.{name} must be {expected}; got {got!r}")
