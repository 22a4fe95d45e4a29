"""From a spectrum to an observation."""

from dcao_client.spectrum import Spectrum
from dcao_proto import Directional, Hyperparameters, Observation, Path, ProbeReport


def to_observation(
    spectrum: Spectrum,
    *,
    step: int,
    base: Hyperparameters | None = None,
    applied: Hyperparameters | None = None,
    overhead: float | None = None,
    path: Path | None = None,
) -> Observation:
    """The wire's observation of a spectrum measured at an optimizer step.

    A measurement without a second eigenvalue (the forward-only one) says of the gap that it lies between 0 and ρ: the
    learning rate may follow, the momentum holds.
    """
    measured = spectrum.status == "ok" and spectrum.rho is not None
    gamma, gamma_bound = spectrum.gamma, spectrum.gamma_bound
    if measured and gamma is None:
        gamma, gamma_bound = 0.0, abs(spectrum.rho or 0.0)
    along = spectrum.directional
    return Observation(
        step=step,
        status=spectrum.status,
        rho=spectrum.rho if measured else None,
        gamma=gamma if measured else None,
        rho_bound=spectrum.rho_bound if measured else None,
        gamma_bound=gamma_bound if measured else None,
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
        path=path,
    )
