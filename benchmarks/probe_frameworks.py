"""What a solve costs in JAX and TensorFlow beside torch: the same network, weights and batch, in gradients of each.

    .venv-frameworks/bin/python -m benchmarks.probe_frameworks

CPU time of the whole process, the least of some rounds taken in turn; one thread each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import jax.numpy as jnp
import numpy as np
import tensorflow as tf
import torch

from dcao_client.spectrum import Probe as TorchProbe
from dcao_client.spectrum import ProbeSettings
from dcao_client.spectrum.jax.probe import Probe
from dcao_client.spectrum.tensorflow.probe import Probe as TensorFlowProbe

ROUNDS = 5
WIDTH = 128


def dense(w: list[Any], x: Any, of: Any) -> Any:
    """Tanh layers, 600,000 parameters."""
    for layer in w[:-1]:
        x = of.tanh(x @ layer)
    return x @ w[-1]


def attention(w: list[Any], x: Any, of: Any) -> Any:
    """Three blocks of attention and a tanh layer, 400,000 parameters."""
    x = x @ w[0]
    for q, k, v, o, up, down in zip(*(w[1 + i : -1 : 6] for i in range(6)), strict=True):
        scores = (x @ q) @ of.swapaxes(x @ k, -1, -2) / WIDTH**0.5
        spread = of.exp(scores - 8.0)
        x = x + (spread / of.sum(spread, -1)[..., None]) @ (x @ v) @ o
        x = x + of.tanh(x @ up) @ down
    return x @ w[-1]


SHAPES = {
    "dense": [(64, 512), (512, 512), (512, 512), (512, 10)],
}
SHAPES["attention"] = [(32, WIDTH)]
for _ in range(3):
    SHAPES["attention"] += [(WIDTH, WIDTH)] * 4 + [(WIDTH, 2 * WIDTH), (2 * WIDTH, WIDTH)]
SHAPES["attention"] += [(WIDTH, 10)]
INPUTS = {"dense": (256, 64), "attention": (16, 32, 32)}
NETS: dict[str, Callable[..., Any]] = {"dense": dense, "attention": attention}


class Net(torch.nn.Module):
    """The same weights as parameters."""

    def __init__(self, kind: str, weights: list[np.ndarray]) -> None:
        super().__init__()
        self.kind = kind
        self.w = torch.nn.ParameterList([torch.nn.Parameter(torch.tensor(w)) for w in weights])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return NETS[self.kind](list(self.w), x, torch)


class Module(tf.Module):
    """The same weights as variables."""

    def __init__(self, kind: str, weights: list[np.ndarray]) -> None:
        super().__init__()
        self.kind, self.w = kind, [tf.Variable(w) for w in weights]

    def __call__(self, x: Any) -> Any:
        return NETS[self.kind](list(self.w), x, Tensors)


class Tensors:
    """TensorFlow's functions under the names that the networks use."""

    tanh, exp, sum = tf.tanh, tf.exp, tf.reduce_sum

    @staticmethod
    def swapaxes(x: Any, *_: int) -> Any:
        """Of the last two axes."""
        return tf.linalg.matrix_transpose(x)


def tf_loss(model: Module, batch: tuple[Any, Any]) -> Any:
    """The same cross entropy."""
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(batch[1], model(batch[0])))


def least(calls: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """CPU seconds of each, the least of the rounds."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began = time.process_time()
            call()
            found[name].append(time.process_time() - began)
    return {name: min(times) for name, times in found.items()}


def compare(kind: str) -> None:
    """One line of the table."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s).astype(np.float32) / np.float32(s[0] ** 0.5) for s in SHAPES[kind]]
    x = rng.standard_normal(INPUTS[kind]).astype(np.float32)
    y = rng.integers(0, 10, x.shape[:-1])

    def loss(w: list[jax.Array], batch: tuple[Any, Any]) -> jax.Array:
        logits = jax.nn.log_softmax(NETS[kind](w, batch[0], jnp))
        return -jnp.mean(jnp.take_along_axis(logits, batch[1][..., None], -1))

    def torch_loss(model: Net, batch: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(model(batch[0]).flatten(0, -2), batch[1].flatten())

    net, there, here = Net(kind, weights), (torch.tensor(x), torch.tensor(y)), (jnp.asarray(x), jnp.asarray(y))
    params = [jnp.asarray(w) for w in weights]
    probes = {m: TorchProbe(net, torch_loss, settings=ProbeSettings(matvec=m)) for m in ("auto", "double_backward")}
    probe, gradient = Probe(loss), jax.jit(jax.grad(loss))
    exact, auto = probes["double_backward"].measure(there), probes["auto"].measure(there)
    ours = probe.measure(here, params)
    jax.block_until_ready(gradient(params, here))
    module, tensors = Module(kind, weights), (tf.constant(x), tf.constant(y))
    flow = TensorFlowProbe(module, tf_loss)

    @tf.function
    def slope() -> Any:
        with tf.GradientTape() as tape:
            value = tf_loss(module, tensors)
        return tape.gradient(value, module.trainable_variables)

    found = flow.measure(tensors)
    slope()
    times = least(
        {
            "torch gradient": lambda: [torch.autograd.grad(torch_loss(net, there), list(net.w)) for _ in range(5)],
            "jax gradient": lambda: [jax.block_until_ready(gradient(params, here)) for _ in range(5)],
            "torch exact": lambda: probes["double_backward"].measure(there),
            "torch auto": lambda: probes["auto"].measure(there),
            "jax": lambda: probe.measure(here, params),
            "tensorflow gradient": lambda: [slope()[0].numpy() for _ in range(5)],
            "tensorflow": lambda: flow.measure(tensors),
        }
    )
    torchs, jaxs = times["torch gradient"] / 5, times["jax gradient"] / 5
    size = sum(w.size for w in weights)
    print(f"{kind}: {size:,} parameters; rho {ours.rho:.6g}, torch {exact.rho:.6g}")
    both = f"exact {times['torch exact'] / torchs:.1f} ({exact.matvecs} products)"
    auto_cost = times["torch auto"] / torchs
    print(f"  torch: {torchs * 1e3:.1f} ms a gradient; {both}, {auto.matvec} {auto_cost:.1f} ({auto.matvecs})")
    own, other = times["jax"] / jaxs, times["jax"] / torchs
    print(
        f"  jax: {jaxs * 1e3:.1f} ms a gradient; {own:.1f} of its own ({ours.matvecs}), {other:.1f} of torch's",
        flush=True,
    )
    flows = times["tensorflow gradient"] / 5
    own, other = times["tensorflow"] / flows, times["tensorflow"] / torchs
    costs = f"{own:.1f} of its own ({found.matvecs}), {other:.1f} of torch's"
    print(f"  tensorflow: {flows * 1e3:.1f} ms a gradient; {costs}", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    for name in NETS:
        compare(name)
