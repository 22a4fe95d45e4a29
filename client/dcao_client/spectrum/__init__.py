"""The curvature probe: the top of a loss Hessian's spectrum from a few matrix-vector products, leaving no trace."""

from dcao_client.spectrum.batches import MicroBatches
from dcao_client.spectrum.budget import Budget, Plan
from dcao_client.spectrum.distributed import Ranks
from dcao_client.spectrum.gauss_newton import CrossEntropy
from dcao_client.spectrum.probe import Probe
from dcao_client.spectrum.report import Report, report
from dcao_client.spectrum.result import Directional, Outcome, Spectrum
from dcao_client.spectrum.settings import ProbeSettings

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
