"""The probe in TensorFlow beside torch's and JAX's, on the same weights and batches."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch

from dcao_client.spectrum import MicroBatches, ProbeSettings, Spectrum
from dcao_client.spectrum import Probe as TorchProbe
from dcao_client.spectrum.jax.probe import Probe as JaxProbe
from dcao_client.spectrum.tensorflow.probe import Probe
from tests.client.spectrum.array_suite import Suite
from tests.frameworks.jax_regression import batches, params
from tests.frameworks.jax_regression import mse as jax_mse
from tests.frameworks.regression import mse as torch_mse
from tests.frameworks.regression import net

SHARP = ProbeSettings(
    strict=True, rho_tol=1e-6, gamma_tol=1e-5, gamma_floor=1e-6, max_matvecs=60, matvec="double_backward"
)


class TestTensorFlow(Suite):
    """One mathematics over every framework's arrays."""

    @staticmethod
    def made(values: np.ndarray) -> Any:
        return tf.constant(values, tf.float32)


class Net(tf.Module):
    """torch's weights of `regression.net`."""

    def __init__(self) -> None:
        self.p = {name: tf.Variable(np.asarray(value)) for name, value in params().items()}

    def __call__(self, x: Any) -> Any:
        return tf.tanh(x @ self.p["w"] + self.p["b"]) @ self.p["v"] + self.p["c"]


def mse(model: Any, batch: tuple) -> Any:
    return tf.reduce_mean((model(batch[0]) - batch[1]) ** 2)


def agree(ours: Spectrum, others: Spectrum) -> None:
    assert ours.status == others.status == "ok"
    for name in ("rho", "gamma", "loss", "grad_norm", "batch_sharpness", "lambda_min"):
        assert getattr(ours, name) == pytest.approx(getattr(others, name), rel=1e-4), name
    assert ours.examples == others.examples


@pytest.mark.parametrize("size", [8, 64])
def test_sharpness_and_gap_are_torchs_and_jaxs(size: int) -> None:
    """ρ, γ and what comes with them to 1e-4, for as many products."""
    batch = batches(size)[0]
    found = Probe(Net(), mse, settings=SHARP).measure(batch)
    torchs = TorchProbe(net(), torch_mse, settings=SHARP).measure(tuple(map(torch.from_numpy, batch)))
    jaxs = JaxProbe(jax_mse, settings=SHARP).measure(batch, params())
    agree(found, torchs)
    agree(found, jaxs)
    assert found.matvecs == torchs.matvecs == jaxs.matvecs
    assert found.matvec == "double_backward"


def test_a_larger_network_too_and_sharpness_alone() -> None:
    """Cross entropy of 85,000 parameters: a slab of eight rows, several products, warm vectors."""
    rng = np.random.default_rng(0)
    shapes = ((64, 256), (256, 256), (256, 10))
    weights = [rng.standard_normal(shape).astype(np.float32) / np.float32(shape[0] ** 0.5) for shape in shapes]
    x, y = rng.standard_normal((128, 64)).astype(np.float32), rng.integers(0, 10, 128)

    class Wide(tf.Module):
        def __init__(self) -> None:
            self.w = [tf.Variable(w) for w in weights]

    def ours(model: Wide, batch: tuple) -> Any:
        h = tf.tanh(tf.tanh(batch[0] @ model.w[0]) @ model.w[1]) @ model.w[2]
        return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], h))

    def jaxs(p: list[jax.Array], batch: tuple) -> jax.Array:
        h = jnp.tanh(jnp.tanh(batch[0] @ p[0]) @ p[1]) @ p[2]
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(h), batch[1][:, None], 1))

    there = JaxProbe(jaxs, settings=SHARP).measure((x, y), [jnp.asarray(w) for w in weights])
    probe = Probe(Wide(), ours, settings=SHARP)
    found = probe.measure((x, y))
    assert found.rho == pytest.approx(there.rho, rel=1e-4)
    assert found.gamma == pytest.approx(there.gamma, rel=1e-4)
    assert found.matvecs == there.matvecs
    alone = probe.sharpness((x, y))
    assert alone.rho == pytest.approx(there.rho, rel=1e-2)
    assert alone.matvecs <= 3
    assert probe.track((x, y)).rho == pytest.approx(there.rho, rel=1e-2)


def test_micro_batches_are_weighted_by_their_examples() -> None:
    several = MicroBatches([batches(8)[0], batches(16)[1]])
    whole = tuple(np.concatenate(side) for side in zip(*several, strict=True))
    agree(Probe(Net(), mse, settings=SHARP).measure(several), Probe(Net(), mse, settings=SHARP).measure(whole))


def test_products_are_compiled_once_and_beside_a_compiled_step() -> None:
    """Whatever the weights, the batch and the number of probes; arrays of NumPy or tensors."""
    model = Net()
    probe = Probe(model, mse, settings=SHARP)

    @tf.function
    def step(batch: tuple) -> None:
        with tf.GradientTape() as tape:
            value = mse(model, batch)
        for v, g in zip(model.trainable_variables, tape.gradient(value, model.trainable_variables), strict=True):
            v.assign_sub(0.1 * g)

    for batch in batches(8)[:4]:
        before = probe.measure(batch).rho
        probe.sharpness(tuple(map(tf.constant, batch)))
        step(tuple(map(tf.constant, batch)))
        assert probe.measure(batch).rho != before  # at the weights of now
    assert probe.traces == 1
    assert step.experimental_get_tracing_count() == 1


class Noisy(keras.Model):
    """Batch norm, dropout, an activity regularizer, and a generator and a counter of the user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.one = keras.layers.Dense(16, activity_regularizer="l2")
        self.norm, self.drop, self.two = (
            keras.layers.BatchNormalization(),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(1),
        )
        self.generator, self.calls = tf.random.Generator.from_seed(3), tf.Variable(0, trainable=False)
        self.built_on = self(np.ones((2, 4), np.float32))

    def call(self, x: Any, training: bool = False) -> Any:
        x = self.drop(self.norm(self.one(x), training=training), training=training)
        if training:
            self.calls.assign_add(1)
            x = x + 0.1 * self.generator.normal(tf.shape(x))
        return self.two(x)

    def state(self) -> list[np.ndarray]:
        return [np.asarray(v).copy() for v in (*self.variables, self.generator.state, self.calls)]


def noisy_loss(model: Noisy, batch: tuple) -> Any:
    return tf.reduce_mean((model(batch[0], training=True) - batch[1]) ** 2)


def test_the_probe_leaves_no_trace() -> None:
    """Weights, moving statistics, seeds, the user's generator and counter, the global generators: to the bit."""
    keras.utils.set_random_seed(5)
    model, batch = Noisy(), batches(64)[0]
    probe = Probe(model, noisy_loss, settings=ProbeSettings(strict=True))
    drawn, before = [], model.state()
    for probed in (False, True):
        keras.utils.set_random_seed(9)
        for value, variable in zip(before, (*model.variables, model.generator.state, model.calls), strict=True):
            variable.assign(value)
        if probed:
            assert probe.measure(batch).status == "ok"
            assert probe.sharpness(batch).status == "ok"
            for now, then in zip(model.state(), before, strict=True):
                np.testing.assert_array_equal(now, then)
        value = float(noisy_loss(model, batch))
        drawn.append((value, float(tf.random.normal(())), float(keras.random.normal(())), np.random.rand()))
    assert drawn[0] == drawn[1]
    assert int(model.calls) == int(before[-1]) + 1


def test_every_product_sees_the_same_dropout_mask() -> None:
    """So that the matrix is one: twice the same vector gives twice the same product, and it is symmetric."""
    keras.utils.set_random_seed(5)
    model, batch = Noisy(), batches(64)[0]
    probe = Probe(model, noisy_loss, settings=ProbeSettings(strict=True))
    operator, _ = probe._operator([batch], [1.0], None)
    rng = np.random.default_rng(0)
    a, b = (tf.constant(rng.standard_normal(operator.space.size), tf.float32) for _ in range(2))
    np.testing.assert_array_equal(operator.product(a), operator.product(a))
    assert float(tf.tensordot(a, operator.product(b), 1)) == pytest.approx(
        float(tf.tensordot(b, operator.product(a), 1)), rel=1e-3
    )


def test_a_batch_norm_is_measured_on_whole_batches() -> None:
    assert Probe(Noisy(), noisy_loss).measured_examples(64, 0.25) is None
    assert Probe(Noisy(), noisy_loss).measured_examples(256, 0.25, roughly=True) == 128  # as in torch
    assert Probe(Net(), mse).measured_examples(64, 0.25) == 16


def test_layers_frozen_later_and_embeddings() -> None:
    """What moves is asked at every probe; an embedding's gradient comes in slices."""
    model = keras.Sequential([keras.layers.Embedding(7, 3), keras.layers.Flatten(), keras.layers.Dense(1)])
    batch = np.arange(8).reshape(4, 2) % 7, np.ones((4, 1), np.float32)
    model(batch[0])
    probe = Probe(model, mse, settings=ProbeSettings(strict=True))
    assert probe.measure(batch).status == "ok"
    model.layers[0].trainable = False
    assert probe.measure(batch).status == "ok"
    assert probe._compiled is not None
    assert probe._compiled.layout.size == 7


def test_what_goes_wrong_is_a_value() -> None:
    """Named, counted, and raised only where tests ask for it."""
    batch = batches(8)[0]
    probe = Probe(Net(), lambda model, b: model(b[0]))
    assert "expected loss(model, batch) to return a scalar" in (probe.measure(batch).detail or "")
    assert probe.failures == 1
    assert Probe(Net(), lambda m, b: tf.math.log(-tf.abs(mse(m, b)))).measure(batch).status == "diverged"
    assert "build it first" in (Probe(keras.Sequential([keras.layers.Dense(1)]), mse).measure(batch).detail or "")
    drawing = Probe(Net(), lambda m, b: mse(m, (tf.nn.dropout(b[0], 0.5), b[1])))
    assert "draws the same numbers" in (drawing.measure(batch).detail or "")
    assert Probe(Net(), mse).track(batch).status == "unavailable"
    with pytest.raises(ValueError, match="products are exact"):
        Probe(Net(), mse, settings=ProbeSettings(matvec="finite_difference"))
    inside = Probe(Net(), mse)
    tf.function(lambda: inside.measure(batch) and None)()
    assert inside.failures == 1


def test_a_state_goes_on() -> None:
    """The next measurement of a resumed probe is the next measurement, to the bit."""
    settings = ProbeSettings(strict=True, start="combined")
    one, two = (Probe(Net(), mse, settings=settings) for _ in range(2))
    one.measure(batches(8)[0])
    two.load_state_dict(one.state_dict())
    a, b = (probe.measure(batches(8)[1]) for probe in (one, two))
    assert (a.rho, a.gamma) == (b.rho, b.gamma)
