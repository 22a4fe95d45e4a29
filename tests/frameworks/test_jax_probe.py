"""The probe in JAX beside torch's, on the same weights and batches."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx

from dcao_client.spectrum import MicroBatches, ProbeSettings, Spectrum
from dcao_client.spectrum import Probe as TorchProbe
from dcao_client.spectrum.jax.probe import Probe
from tests.client.spectrum.array_suite import Suite
from tests.frameworks.jax_regression import batches, mse, params
from tests.frameworks.regression import mse as torch_mse
from tests.frameworks.regression import net

SHARP = ProbeSettings(
    strict=True, rho_tol=1e-6, gamma_tol=1e-5, gamma_floor=1e-6, max_matvecs=60, matvec="double_backward"
)


class TestJax(Suite):
    """One mathematics over every framework's arrays."""

    @staticmethod
    def made(values: np.ndarray) -> jax.Array:
        return jnp.asarray(values, jnp.float32)


def agree(ours: Spectrum, torchs: Spectrum) -> None:
    assert ours.status == torchs.status == "ok"
    for name in ("rho", "gamma", "loss", "grad_norm", "batch_sharpness", "lambda_min"):
        assert getattr(ours, name) == pytest.approx(getattr(torchs, name), rel=1e-4), name
    assert ours.examples == torchs.examples


@pytest.mark.parametrize("size", [8, 64])
def test_sharpness_and_gap_are_torchs(size: int) -> None:
    """ρ, γ and what comes with them to 1e-4."""
    batch = batches(size)[0]
    found = Probe(mse, settings=SHARP).measure(batch, params())
    there = tuple(map(torch.from_numpy, batch))
    agree(found, TorchProbe(net(), torch_mse, settings=SHARP).measure(there))


def test_micro_batches_are_weighted_by_their_examples() -> None:
    parts = MicroBatches([batches(8)[0], batches(16)[1]])
    found = Probe(mse, settings=SHARP).measure(parts, params())
    whole = tuple(np.concatenate(side) for side in zip(*parts, strict=True))
    agree(found, Probe(mse, settings=SHARP).measure(whole, params()))


def test_a_larger_network_too_and_sharpness_alone() -> None:
    """Cross entropy of 85,000 parameters: a slab of eight rows, several products, warm vectors."""
    rng = np.random.default_rng(0)
    weights = [
        rng.standard_normal((a, b)).astype(np.float32) / np.float32(a**0.5)
        for a, b in ((64, 256), (256, 256), (256, 10))
    ]
    x, y = rng.standard_normal((128, 64)).astype(np.float32), rng.integers(0, 10, 128)

    def ours(p: list[jax.Array], batch: tuple) -> jax.Array:
        h = jnp.tanh(jnp.tanh(batch[0] @ p[0]) @ p[1]) @ p[2]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), batch[1][:, None], 1))

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(w)) for w in weights])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(torch.tanh(x @ self.w[0]) @ self.w[1]) @ self.w[2]

    there = TorchProbe(Net(), lambda m, b: torch.nn.functional.cross_entropy(m(b[0]), b[1]), settings=SHARP).measure(
        (torch.tensor(x), torch.tensor(y))
    )
    probe = Probe(ours, settings=SHARP)
    found = probe.measure((x, y), [jnp.asarray(w) for w in weights])
    assert found.rho == pytest.approx(there.rho, rel=1e-4)
    assert found.gamma == pytest.approx(there.gamma, rel=1e-4)
    alone = probe.sharpness((x, y), [jnp.asarray(w) for w in weights])
    assert alone.rho == pytest.approx(there.rho, rel=1e-2)
    assert alone.matvecs <= 3
    assert probe.track((x, y), [jnp.asarray(w) for w in weights]).rho == pytest.approx(there.rho, rel=1e-2)


def test_products_are_compiled_once() -> None:
    """Whatever the weights, the batch and the number of probes."""
    probe = Probe(mse, settings=SHARP)
    p = params()
    for batch in batches(8)[:4]:
        probe.measure(batch, p)
        probe.sharpness(batch, p)
        p = jax.tree.map(lambda a: a * 0.9, p)
    assert probe.compiled.traces == 1


def test_models_of_equinox_and_of_flax() -> None:
    """Pytrees with functions and whole numbers in them; parameters that are split off a module."""
    batch = batches(8)[0]
    expected = Probe(mse, settings=SHARP).measure(batch, params())
    p = params()
    mlp = eqx.nn.MLP(4, 1, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    where = lambda m: (m.layers[0].weight, m.layers[0].bias, m.layers[1].weight, m.layers[1].bias)  # noqa: E731
    mlp = eqx.tree_at(where, mlp, (p["w"].T, p["b"], p["v"].T, p["c"]))
    loss = lambda m, b: jnp.mean((jax.vmap(m)(b[0]) - b[1]) ** 2)  # noqa: E731
    agree(Probe(loss, settings=SHARP).measure(batch, mlp), expected)

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.one, self.two = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.two(jnp.tanh(self.one(x)))

    model = Net(nnx.Rngs(0))
    model.one.kernel[...], model.one.bias[...] = p["w"], p["b"]
    model.two.kernel[...], model.two.bias[...] = p["v"], p["c"]
    graph, split, rest = nnx.split(model, nnx.Param, ...)
    flax_loss = lambda q, b: jnp.mean((nnx.merge(graph, q, rest)(b[0]) - b[1]) ** 2)  # noqa: E731
    agree(Probe(flax_loss, settings=SHARP).measure(batch, split), expected)


def test_what_goes_wrong_is_a_value() -> None:
    """Named, counted, and raised only where tests ask for it."""
    batch = batches(8)[0]
    probe = Probe(lambda p, b: b[0] @ p["w"])
    found = probe.measure(batch, params())
    assert found.status == "unavailable"
    assert "expected loss(params, batch) to return a scalar" in found.detail
    assert probe.failures == 1
    assert Probe(lambda p, b: jnp.log(-jnp.abs(p["w"]).sum())).measure(batch, params()).status == "diverged"
    assert "at least one array of real numbers" in Probe(mse).measure(batch, {"n": 3}).detail
    assert Probe(mse).track(batch, params()).status == "unavailable"
    with pytest.raises(ValueError, match="products are exact"):
        Probe(mse, settings=ProbeSettings(matvec="finite_difference"))


def test_a_state_goes_on() -> None:
    """The next measurement of a resumed probe is the next measurement, to the bit."""
    settings = ProbeSettings(strict=True, start="combined")
    one, two = Probe(mse, settings=settings), Probe(mse, settings=settings)
    one.measure(batches(8)[0], params())
    two.load_state_dict(one.state_dict())
    a, b = (probe.measure(batches(8)[1], params()) for probe in (one, two))
    assert (a.rho, a.gamma) == (b.rho, b.gamma)


def test_half_precision_parameters_are_measured_in_single() -> None:
    half = jax.tree.map(lambda a: a.astype(jnp.bfloat16), params())
    found = Probe(mse, settings=ProbeSettings(strict=True)).measure(batches(64)[0], half)
    assert found.rho == pytest.approx(Probe(mse).measure(batches(64)[0], params()).rho, rel=0.1)
