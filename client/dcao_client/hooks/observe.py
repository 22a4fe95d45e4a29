"""From a spectrum to an observation."""

from dcao_client.spectrum import Spectrum
from dcao_proto import Directional, Hyperparameters, Observation, ProbeReport


def to_observation(
    spectrum: Spectrum,
    *,
    step: int,
    base: Hyperparameters | None = None,
    applied: Hyperparameters | None = None,
    overhead: float | None = None,
) -> Observation:
    """The wire's observation of a spectrum measured at an optimizer step."""
    measured = spectrum.status == "ok"
    along = spectrum.directional
    return Observation(
        step=step,
        status=spectrum.status,
        rho=spectrum.rho if measured else None,
        gamma=spectrum.gamma if measured else None,
        rho_bound=spectrum.rho_bound if measured else None,
        gamma_bound=spectrum.gamma_bound if measured else None,
        lambda_min=spectrum.lambda_min,
        batch_sharpness=spectrum.batch_sharpness,
        grad_norm=spectrum.grad_norm,
        loss=spectrum.loss,
        base=base,
        applied=applied,
        probe=ProbeReport(
            matvecs=spectrum.matvecs,
            seconds=spectrum.seconds,
            overhead=overhead,
            examples=spectrum.examples,
            fingerprint=spectrum.fingerprint or None,
        ),
        directional=None if along is None else Directional(slope=along.slope, curvature=along.curvature),
    )
