"""One training on one device and on two; `test_optax.py` starts it, for devices are counted when JAX is imported."""

import os
import sys

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import jax
import numpy as np
import optax
from jax.sharding import NamedSharding, PartitionSpec

from dcao_client.hooks.optax import attach, dcao
from tests.frameworks.jax_regression import Loop, flat, mse

OPTIONS = {"overhead": None, "probe_interval": 1}


def main() -> None:
    """Raises where one device and two differ."""
    os.chdir(sys.argv[1])
    mesh = jax.make_mesh((2,), ("data",))
    whole, split = NamedSharding(mesh, PartitionSpec()), NamedSharding(mesh, PartitionSpec("data"))
    rng = np.random.default_rng(0)
    data = [(x := rng.standard_normal((8, 4), np.float32), np.sin(x.sum(1, keepdims=True))) for _ in range(8)]
    data = (data * 7)[:50]
    shapes = {"w": (4, 8), "b": (8,), "v": (8, 1), "c": (1,)}
    start = {name: jax.numpy.asarray(rng.standard_normal(s, np.float32) / 2) for name, s in shapes.items()}
    tx = optax.inject_hyperparams(optax.adamw)(learning_rate=0.1)
    for name, made in (
        ("dcao", lambda run: dcao(mse, run=run, **OPTIONS)),
        ("attach", lambda run: attach(mse, tx, run=run, trust="auto", **OPTIONS)),
    ):
        one = Loop(made(f"{name}-1"), start).run(data)
        two = Loop(made(f"{name}-2"), jax.device_put(start, whole))
        two.state = jax.device_put(two.state, whole)
        two.run([jax.device_put(batch, split) for batch in data])
        assert two.optimizer.control.session.stats.decisions == 50
        assert two.traces == 1, two.traces
        for leaf in jax.tree.leaves((two.params, two.state)):
            shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
            assert len(shards) == 2
            np.testing.assert_array_equal(shards[0], shards[1])
        np.testing.assert_allclose(flat(two.params), flat(one.params), rtol=2e-2, atol=2e-3)


if __name__ == "__main__":
    main()
