"""A model's curvature in one page: what ``dcao probe`` prints."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dcao_client.spectrum.hutchinson1989 import Trace, trace
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.torch.probe import Probe
from dcao_client.spectrum.torch.problem import Loss
from dcao_client.spectrum.torch.shares import shares
from dcao_client.spectrum.ubaru2017slq import Density, density

# Steps and random vectors of the density: enough that the picture no longer changes to the eye.
STEPS, SAMPLES = 30, 3


@dataclass(frozen=True, slots=True)
class Report:
    """Spectrum, stability, shares per tensor; trace and density when asked for."""

    spectrum: Spectrum
    parameters: int
    lr: float | None = None
    threshold: float | None = None
    edge_ratio: float | None = None
    shares: dict[str, float] = field(default_factory=dict)
    trace: Trace | None = None
    density: Density | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; the density as lists."""
        said = asdict(self)
        if self.density is not None:
            said["density"] = {"nodes": self.density.nodes.tolist(), "weights": self.density.weights.tolist()}
        return said

    def plot(self, path: Path) -> None:
        """Write the density as a picture: logarithmic, with λ₁ and, where known, the edge marked.

        Raises:
            ValueError: the report holds no density.
            ModuleNotFoundError: matplotlib is not installed.
        """
        if self.density is None:
            raise ValueError("expected a report with a density; call report(…, density=True)")
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ModuleNotFoundError("the picture needs matplotlib: pip install 'dcao[demo]'") from error
        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axes = figure.subplots()
        grid, height = self.density.curve()
        axes.semilogy(grid, height.clip(min=1e-8), lw=1.2)
        axes.set_ylim(bottom=1e-7)
        if self.spectrum.rho is not None:
            axes.axvline(self.spectrum.rho, color="tab:red", lw=1, label=f"ρ = {self.spectrum.rho:.4g}")
        if self.threshold is not None and self.lr:
            edge = self.threshold / self.lr
            if edge <= 3 * grid[-1]:
                axes.axvline(edge, color="black", ls="--", lw=1, label=f"edge = {edge:.4g}")
        axes.set_xlabel("eigenvalue")
        axes.set_ylabel("density")
        axes.legend()
        figure.savefig(path, dpi=150)


def report(
    model: nn.Module,
    loss: Loss,
    batch: Any,
    *,
    optimizer: torch.optim.Optimizer | None = None,
    lr: float | None = None,
    threshold: float | None = None,
    settings: ProbeSettings | None = None,
    traces: int = 0,
    with_density: bool = False,
) -> Report:
    """Measure a model and say where it stands.

    Args:
        model, loss, batch, optimizer, settings: as for Probe.
        lr: the learning rate to judge ρ by.
        threshold: η·ρ at the edge of stability (2 for plain gradient descent; see dcao_proto.optimizers).
        traces: random vectors for the trace; 0 leaves it out.
        with_density: estimate the spectral density (90 products).
    """
    probe = Probe(model, loss, optimizer=optimizer, settings=settings)
    spectrum = probe.measure(batch)
    vector = probe.top_vector
    extra: dict[str, Any] = {}
    if spectrum.status == "ok" and (traces or with_density):
        extra = probe.analyse(batch, _further(traces, with_density, probe.settings.seed))
    edge = None
    if spectrum.rho is not None and lr is not None and threshold:
        edge = lr * spectrum.rho / threshold
    return Report(
        spectrum,
        sum(p.numel() for p in model.parameters() if p.requires_grad),
        lr,
        threshold,
        edge,
        {} if vector is None else shares(vector, probe.model, optimizer),
        extra.get("trace"),
        extra.get("density"),
    )


def _further(traces: int, with_density: bool, seed: int) -> Callable[[Curvature], dict[str, Any]]:
    def use(operator: Curvature) -> dict[str, Any]:
        like, space = operator.gradient, operator.space
        generator = torch.Generator().manual_seed(seed)
        found: dict[str, Any] = {}
        if traces:
            found["trace"] = trace(operator.product, like, traces, generator, space)
        if with_density:
            found["density"] = density(
                operator.product, like, steps=STEPS, samples=SAMPLES, generator=generator, space=space
            )
        return found

    return use
