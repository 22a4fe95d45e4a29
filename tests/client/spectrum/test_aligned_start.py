"""At the edge of stability the gradient lies along the top eigenvector; a solve that starts there must not miss λ₂."""

import pytest
import torch
from torch import Tensor, nn

from dcao_client.spectrum import Probe, ProbeSettings

SIZE = 200


class Quadratic(nn.Module):
    """½wᵀHw with prescribed eigenvalues, at a point off its top eigenvector by a chosen amount."""

    def __init__(self, off: float, dtype: torch.dtype) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        values = torch.linspace(0.1, 5, SIZE, dtype=torch.float64)
        values[-2:] = torch.tensor([12.9, 13.3])
        basis, _ = torch.linalg.qr(torch.randn(SIZE, SIZE, dtype=torch.float64, generator=generator))
        self.register_buffer("hessian", ((basis * values) @ basis.T).to(dtype))
        aside = torch.randn(SIZE, dtype=torch.float64, generator=generator) / SIZE**0.5
        self.w = nn.Parameter((basis[:, -1] + off * aside).to(dtype))

    def forward(self, batch: Tensor) -> Tensor:
        return 0.5 * self.w @ self.hessian @ self.w


@pytest.mark.parametrize("start", ["auto", "warm", "combined"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("off", [0.0, 1e-6, 1e-3, 1e-1])
def test_a_gradient_along_the_top_eigenvector_does_not_hide_the_gap(off, dtype, start):
    """γ is 0.4, cold and warm, to 5 % or within a bound that says so; never ρ itself."""
    probe = Probe(Quadratic(off, dtype), lambda model, batch: model(batch), settings=ProbeSettings(start=start))
    for _ in range(3):
        spectrum = probe.measure(torch.ones(4, 1))
        assert spectrum.rho == pytest.approx(13.3, rel=0.01)
        assert abs(spectrum.gamma - 0.4) <= max(0.05 * 0.4, spectrum.gamma_bound)
        assert spectrum.gamma < 1


@pytest.mark.parametrize("start", ["auto", "combined"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("off", [0.0, 1e-3])
@pytest.mark.parametrize("rank", [0, 40, 120], ids=lambda rank: f"stale at {rank}")
def test_a_stale_second_vector_does_not_close_the_space(rank, off, dtype, start):
    """Started from v₁, v₁ and an eigenvector of the bulk, γ is 0.4, not the distance to the bulk; and ever after."""
    model = Quadratic(off, dtype)
    _, vectors = torch.linalg.eigh(model.hessian.double())
    probe = Probe(model, lambda model, batch: model(batch), settings=ProbeSettings(start=start))
    probe.load_state_dict({**probe.state_dict(), "warm": [vectors[:, -1], vectors[:, rank]]})
    for _ in range(4):
        spectrum = probe.measure(torch.ones(4, 1))
        assert spectrum.rho == pytest.approx(13.3, rel=0.01)
        assert abs(spectrum.gamma - 0.4) <= max(0.01 * 13.3, spectrum.gamma_bound)
        assert spectrum.gamma < 1


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_a_dull_bulk_does_not_pass_for_the_second_eigenvalue(scale):
    """With a bulk whose every product is small beside λ₁, a small residual is no sign of convergence."""
    model = Quadratic(1e-3, torch.float64)
    values, vectors = torch.linalg.eigh(model.hessian)
    values[:-2] *= scale / 5
    model.hessian.copy_((vectors * values) @ vectors.T)
    spectrum = Probe(model, lambda model, batch: model(batch)).measure(torch.ones(4, 1))
    assert abs(spectrum.gamma - 0.4) <= max(0.01 * 13.3, spectrum.gamma_bound)
    assert spectrum.gamma < 1
