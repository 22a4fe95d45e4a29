"""The probe: what a training loop holds and calls."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dcao_client.spectrum.basis import Basis
from dcao_client.spectrum.batches import count_examples, take
from dcao_client.spectrum.double_backward import DoubleBackward
from dcao_client.spectrum.fingerprint import fingerprint
from dcao_client.spectrum.isolation import isolated, trainable, unwrap
from dcao_client.spectrum.lanczos import Solve, Stop, lanczos
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.precondition import rule, scaling
from dcao_client.spectrum.problem import Alone, Collective, Loss, Problem
from dcao_client.spectrum.result import Directional, Outcome, Spectrum, Status, finite
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.starts import start_vector
from dcao_client.spectrum.vectors import Layout, dot, norm


class Probe:
    """Measures the top of a model's loss curvature and leaves no trace.

    Not thread-safe: call it between optimizer steps, on the thread that trains.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> probe = Probe(net, lambda m, b: (m(b[0]) - b[1]).square().mean())
    >>> x = torch.eye(2) * torch.tensor([2.0, 1.0])
    >>> s = probe.measure((x, torch.zeros(2, 1)))
    >>> s.status, round(s.rho, 4), round(s.gamma, 4)
    ('ok', 4.0, 3.0)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        settings: ProbeSettings | None = None,
    ) -> None:
        """Attach to a model.

        Args:
            model: as trained; DistributedDataParallel and torch.compile wrappers are looked through.
            loss: ``loss(model, batch)`` ↦ the mean loss over the batch's examples, unscaled.
            optimizer: read (never written) for its second moment.
            settings: the numerical choices.
        """
        self.model, self.loss, self.optimizer = unwrap(model), loss, optimizer
        self.settings = settings if settings is not None else ProbeSettings()
        self._collective: Collective = Alone()
        self._probes = 0
        self._warm: tuple[Tensor, ...] = ()

    @property
    def preconditioned(self) -> bool:
        """Whether rho and gamma will be those of P^-½HP^-½."""
        return self.settings.preconditioned and rule(self.optimizer) is not None

    def measure(self, batch: Any, *, direction: Sequence[Tensor] | None = None) -> Spectrum:
        """Measure on one batch, or on a list of micro-batches (a *list*; a tuple is one batch).

        Args:
            batch: what ``loss`` takes.
            direction: an update, one tensor per trainable parameter, along which slope and curvature are wanted.

        Raises:
            TypeError, ValueError: the loss is not a scalar, the batch cannot be counted, nothing is trainable.
            Exception: whatever the user's loss raises, after everything is restored.
        """
        began = time.perf_counter()
        batches = self._batches(batch)
        spectrum = self._measure(batches, direction)
        self._probes += 1
        return _replace(spectrum, seconds=time.perf_counter() - began)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to measure exactly the same numbers."""
        return {"version": 1, "probes": self._probes, "warm": [v.clone() for v in self._warm]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            ValueError: the state is of another version or of another model.
        """
        if state.get("version") != 1:
            raise ValueError(
                f"expected a probe state of version 1; got {state.get('version')!r}; drop it to start cold"
            )
        size = sum(p.numel() for p in trainable(self.model))
        for vector in state["warm"]:
            if vector.numel() != size:
                raise ValueError(
                    f"expected warm vectors of length {size}, the model's trainable parameters; got {vector.numel()}"
                )
        self._probes = int(state["probes"])
        self._warm = tuple(v.clone() for v in state["warm"])

    def _batches(self, batch: Any) -> list[Any]:
        batches = list(batch) if isinstance(batch, list) else [batch]
        if not batches:
            raise ValueError("expected at least one micro-batch; got an empty list")
        limit = self.settings.probe_batch
        return batches if limit is None else [take(one, limit) for one in batches]

    def _measure(self, batches: list[Any], direction: Sequence[Tensor] | None) -> Spectrum:
        real = trainable(self.model)
        layout = Layout(real)
        counter: Callable[[Any], int] = self.settings.examples or count_examples
        counts = [counter(one) for one in batches]
        examples = self._total(sum(counts), layout)
        with isolated(self.model) as aliases:
            problem = Problem(
                self.model,
                self.loss,
                batches,
                [count / examples for count in counts],
                aliases,
                layout,
                self._collective,
                self.settings.seed,
            )
            operator = self._operator(problem)
            try:
                return self._solve(operator, real, layout, direction, examples)
            finally:
                operator.close()

    def _operator(self, problem: Problem) -> Curvature:
        graph = self.settings.graph
        keep = graph == "keep" or (graph == "auto" and len(problem.batches) == 1)
        return DoubleBackward(problem, keep=keep)

    def _solve(
        self,
        operator: Curvature,
        real: Sequence[nn.Parameter],
        layout: Layout,
        direction: Sequence[Tensor] | None,
        examples: int,
    ) -> Spectrum:
        said = {"examples": examples, "matvec": operator.kind, "preconditioned": self.preconditioned}
        said["fingerprint"] = self._fingerprint(operator, layout, examples)
        gradient = operator.gradient
        grad_norm, loss = finite(norm(gradient)), finite(operator.loss)
        if grad_norm is None or loss is None:
            return _ended(Outcome.NON_FINITE, "diverged", loss=loss, grad_norm=grad_norm, **said)
        s = scaling(self.optimizer, real, gradient, layout) if self.preconditioned and self.optimizer else None
        if s is not None and not bool(torch.isfinite(s).all()):
            return _ended(Outcome.NON_FINITE, "diverged", loss=loss, grad_norm=grad_norm, **said)
        solve = self._lanczos(operator, layout, s)
        spent = solve.matvecs
        sharpness, extra = self._batch_sharpness(operator, solve, s, grad_norm)
        along, more = self._directional(operator, layout, direction)
        raw, raw_spent = self._raw(operator, layout, s)
        measured = {
            "loss": loss,
            "grad_norm": grad_norm,
            "batch_sharpness": sharpness,
            "directional": along,
            "raw_rho": raw,
            "matvecs": spent + extra + more + raw_spent,
            "memory": solve.peak_bytes,
            **said,
        }
        if solve.outcome is not Outcome.NON_FINITE:
            self._warm = tuple(v.to(torch.bfloat16) for v in solve.vectors)
        return _spectrum(solve, measured)

    def _lanczos(self, operator: Curvature, layout: Layout, s: Tensor | None) -> Solve:
        generator = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + self._probes)
        kind = self.settings.start
        gradient = operator.gradient if s is None else s * operator.gradient
        start = start_vector("combined" if kind == "auto" else kind, gradient, self._warm, generator)
        stop = Stop(self.settings.rho_tol, self.settings.gamma_tol, self.settings.gamma_floor, floor=operator.floor)
        return lanczos(
            operator.product if s is None else lambda v: operator.product(s * v).mul_(s),
            start,
            max_matvecs=self.settings.max_matvecs,
            stop=stop,
            generator=generator,
            basis=self._basis(layout),
            max_basis=self.settings.max_basis,
        )

    def _basis(self, layout: Layout) -> Basis:
        kind = self.settings.basis
        dtype = torch.bfloat16 if kind.endswith("bf16") else layout.dtype
        device = torch.device("cpu") if kind.startswith("cpu") else layout.device
        return Basis(layout.size, dtype=dtype, device=device, work=layout.dtype)

    def _batch_sharpness(
        self, operator: Curvature, solve: Solve, s: Tensor | None, grad_norm: float
    ) -> tuple[float | None, int]:
        """gᵀHg/gᵀg: the first Rayleigh quotient when the solve started from g, else one product more."""
        if grad_norm == 0.0:
            return None, 0
        cold = self.settings.start in ("auto", "gradient", "combined", "warm") and not self._warm
        if s is None and (self.settings.start == "gradient" or cold):
            return (None if solve.first is None else finite(solve.first)), 0
        unit = operator.gradient / grad_norm
        return finite(dot(unit, operator.product(unit))), 1

    def _directional(
        self, operator: Curvature, layout: Layout, direction: Sequence[Tensor] | None
    ) -> tuple[Directional | None, int]:
        if direction is None:
            return None, 0
        if [d.shape for d in direction] != layout.shapes:
            raise ValueError("expected a direction with one tensor per trainable parameter, in parameters() order")
        u = layout.flatten(list(direction))
        slope, curvature = finite(-dot(operator.gradient, u)), finite(dot(u, operator.product(u)))
        return (None if slope is None or curvature is None else Directional(slope, curvature)), 1

    def _raw(self, operator: Curvature, layout: Layout, s: Tensor | None) -> tuple[float | None, int]:
        if s is None or not self.settings.raw or norm(operator.gradient) == 0.0:
            return None, 0
        generator = torch.Generator().manual_seed(self.settings.seed)
        stop = Stop(self.settings.rho_tol, floor=operator.floor, gap=False)
        solve = lanczos(
            operator.product,
            operator.gradient,
            max_matvecs=self.settings.max_matvecs,
            stop=stop,
            generator=generator,
            basis=self._basis(layout),
            max_basis=self.settings.max_basis,
            want=0,
        )
        value = None if solve.found is None or not solve.found.values.size else finite(float(solve.found.values[0]))
        return value, solve.matvecs

    def _fingerprint(self, operator: Curvature, layout: Layout, examples: int) -> str:
        return fingerprint(
            self.model,
            policy=self.settings.batch_policy,
            examples=examples,
            dtype=",".join(sorted({str(d) for d in layout.dtypes})),
            matvec=operator.kind,
            preconditioned=self.preconditioned,
        )

    def _total(self, count: int, layout: Layout) -> int:
        total = torch.tensor([float(count)], dtype=torch.float64)
        self._collective.sum_(total)
        if total.item() < 1:
            raise ValueError("expected at least one example in the batch; got none")
        return int(total.item())


def _replace(spectrum: Spectrum, **changes: Any) -> Spectrum:
    from dataclasses import replace

    return replace(spectrum, **changes)


def _ended(outcome: Outcome, status: Status, **measured: Any) -> Spectrum:
    return Spectrum(status, outcome, detail=outcome.sentence, **measured)


def _spectrum(solve: Solve, measured: dict[str, Any]) -> Spectrum:
    if solve.outcome is Outcome.NON_FINITE or solve.found is None or solve.error is None:
        return _ended(Outcome.NON_FINITE, "diverged", **measured)
    theta, error = solve.found.values, solve.error
    if len(theta) < 2:
        return _ended(Outcome.BREAKDOWN, "breakdown", rho=float(theta[0]), rho_bound=error.rho, **measured)
    return Spectrum(
        "ok",
        solve.outcome,
        rho=float(theta[0]),
        gamma=float(theta[0] - theta[1]),
        rho_bound=error.rho,
        gamma_bound=error.gamma,
        lambda_min=float(theta[-1]),
        lambda_min_bound=error.minimum,
        **measured,
    )
