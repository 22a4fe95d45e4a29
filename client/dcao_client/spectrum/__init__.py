"""The curvature probe: the top of a loss Hessian's spectrum from a few matrix-vector products, leaving no trace."""

from dcao_client.spectrum.probe import Probe
from dcao_client.spectrum.result import Directional, Outcome, Spectrum
from dcao_client.spectrum.settings import ProbeSettings

__all__ = ["Directional", "Outcome", "Probe", "ProbeSettings", "Spectrum"]
