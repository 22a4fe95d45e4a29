"""The curvature probe: the top of a loss Hessian's spectrum from a few matrix-vector products, leaving no trace.

Here is what knows no framework; what multiplies by a Hessian is in a package for each (``spectrum.torch``). The probe's
names are torch's, imported when they are asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dcao_client.extras import missing_extra
from dcao_client.spectrum.batches import MicroBatches
from dcao_client.spectrum.budget import Budget, Plan
from dcao_client.spectrum.result import Directional, Outcome, Spectrum
from dcao_client.spectrum.settings import ProbeSettings

if TYPE_CHECKING:
    from dcao_client.spectrum.torch.distributed import Ranks
    from dcao_client.spectrum.torch.gauss_newton import CrossEntropy
    from dcao_client.spectrum.torch.probe import Probe
    from dcao_client.spectrum.torch.report import Report, report

__all__ = [
    "Budget",
    "CrossEntropy",
    "Directional",
    "MicroBatches",
    "Outcome",
    "Plan",
    "Probe",
    "ProbeSettings",
    "Ranks",
    "Report",
    "Spectrum",
    "report",
]

_TORCH = {
    "CrossEntropy": "gauss_newton",
    "Probe": "probe",
    "Ranks": "distributed",
    "Report": "report",
    "report": "report",
}


def __getattr__(name: str) -> Any:
    if name not in _TORCH:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with missing_extra("torch", f"{__name__}.{name}"):
        return getattr(import_module(f"{__name__}.torch.{_TORCH[name]}"), name)
