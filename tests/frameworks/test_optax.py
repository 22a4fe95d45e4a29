"""optax under control: the transformation without a rate, and injected hyperparameters of any other."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch
from flax import nnx

from dcao_client import DCAO
from dcao_client import attach as torch_attach
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.optax import attach, dcao
from dcao_client.spectrum import ProbeSettings
from tests.frameworks.jax_regression import Loop, batches, flat, mse, params
from tests.frameworks.regression import CONTROL, loader, net
from tests.frameworks.regression import mse as torch_mse

LONG = batches() * 3  # 24 steps
EXACT = ProbeSettings(strict=True, matvec="double_backward", probe_batch=8)  # the whole batch, in torch and in JAX


def sgd(lr: Any = 0.1, **more: Any) -> Any:
    return optax.inject_hyperparams(optax.sgd)(learning_rate=lr, **more)


def adamw(lr: Any = 0.1, **more: Any) -> Any:
    return optax.inject_hyperparams(optax.adamw)(learning_rate=lr, **more)


def torchs(model: torch.nn.Module) -> dict[str, np.ndarray]:
    """A torch model's weights under our names."""
    named = {"w": model[0].weight.T, "b": model[0].bias, "v": model[2].weight.T, "c": model[2].bias}
    return {name: value.detach().numpy() for name, value in named.items()}


def test_the_update_uses_what_was_decided_and_nothing_is_traced_again() -> None:
    """From weights and gradients alone; what stands in the state between updates is the user's."""
    loop = Loop(attach(mse, sgd(), run="r", **CONTROL)).run(LONG)
    decided = [decision.lr for decision in loop.decisions]
    assert len(set(decided)) == 24
    assert loop.rates() == pytest.approx(decided, rel=1e-3)
    assert float(loop.state.inner.hyperparams["learning_rate"]) == pytest.approx(0.1)
    assert loop.traces == 1
    assert loop.optimizer.control.session.stats.decisions == 24


@pytest.mark.parametrize("where", ["here", "written"])
def test_a_schedule_stays_in_charge_of_the_base(where: str) -> None:
    """As a function that `attach` is given, or written into the state by the user at each step."""
    schedule = optax.exponential_decay(0.1, 1, 0.9)
    ours = attach(mse, sgd(0.7), run="r", schedule=schedule if where == "here" else None, **CONTROL)
    loop = Loop(ours)
    for step, batch in enumerate(LONG):
        if where == "written":
            loop.state.inner.hyperparams["learning_rate"] = jnp.asarray(schedule(step), jnp.float32)
        loop.run([batch])
    decisions = loop.decisions
    assert [d.lr / d.multipliers.lr for d in decisions] == pytest.approx([0.1 * 0.9**t for t in range(24)], rel=1e-3)
    assert loop.rates() == pytest.approx([d.lr for d in decisions], rel=2e-3)
    assert loop.traces == 1


def test_momentum_and_decay_are_used_in_the_update() -> None:
    """AdamW written out in double precision with what was decided, step by step."""
    moderate = {**CONTROL, "policy_params": {"rho_ref": 200.0, "gamma_ref": 100.0}}
    loop = Loop(attach(mse, adamw(0.01, b1=0.5, weight_decay=0.1), run="r", **moderate)).run(LONG)
    theta, m, v = flat(params()), 0.0, 0.0
    for t, (decision, gradients) in enumerate(zip(loop.decisions, loop.gradients, strict=True), 1):
        g, b1 = flat(gradients), decision.momentum
        m, v = b1 * m + (1 - b1) * g, 0.999 * v + 0.001 * g * g
        direction = (m / (1 - b1**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        theta = theta - decision.lr * (direction + decision.weight_decay * theta)
    assert len({d.momentum for d in loop.decisions}) > 3
    assert len({d.weight_decay for d in loop.decisions}) > 3
    np.testing.assert_allclose(flat(loop.params), theta, rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize("trust", ["guard", "auto"])
@pytest.mark.parametrize("kind", ["adamw", "sgd"])
def test_the_law_is_torchs(trust: str, kind: str) -> None:
    """The same weights, batches and schedule under torch's `attach` and ours: rates and weights go together."""
    options = {"trust": trust, "overhead": None, "probe_interval": 4, "probe": EXACT}
    lr, decay = (0.1, 0.0) if kind == "sgd" else (0.02, 1e-4)
    schedule = optax.exponential_decay(lr, 1, 0.97)
    ours = attach(mse, (sgd if kind == "sgd" else adamw)(lr), run="j", schedule=schedule, **options)
    model = net()
    how = torch.optim.SGD if kind == "sgd" else torch.optim.AdamW
    theirs = how(model.parameters(), lr=lr, weight_decay=decay)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(theirs, 0.97)
    control = torch_attach(model, theirs, torch_mse, run="t", **options)
    loop, used = Loop(ours), ([], [])
    for batch in list(loader()) * 3:
        loop.run([tuple(side.numpy() for side in batch)])
        used[0].append(float(loop.state.used[0]))
        control.step(tuple(batch))
        theirs.zero_grad()
        torch_mse(model, batch).backward()
        theirs.step()
        scheduler.step()
        used[1].append(control.applied.lr)
    assert used[0] == pytest.approx(used[1], rel=2e-2)
    for name, value in torchs(model).items():
        np.testing.assert_allclose(np.asarray(loop.params[name]), value, rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("form", ["adam", "sgd"])
def test_dcao_is_torchs(form: str) -> None:
    """The transformation without a rate walks with `DCAO(model, loss)`, rate by rate."""
    options = {"form": form, "overhead": None, "probe_interval": 4, "probe": EXACT, "weight_decay": 0.01}
    model = net()
    theirs = DCAO(model, torch_mse, run="t", **options)
    loop, used = Loop(dcao(mse, run="j", **options)), ([], [])
    for batch in list(loader()) * 3:
        loop.run([tuple(side.numpy() for side in batch)])
        used[0].append(float(loop.state.used))
        theirs.zero_grad()
        torch_mse(model, batch).backward()
        theirs.step(batch=tuple(batch))
        used[1].append(theirs.applied.lr)
    assert used[0] == pytest.approx(used[1], rel=2e-2)
    assert loop.traces == 1
    theirs.eval()
    x = loop.optimizer.average(loop.state, loop.params)
    for name, value in torchs(model).items():
        np.testing.assert_allclose(np.asarray(x[name]), value, rtol=2e-2, atol=5e-3)


def test_dcao_uses_its_rate_in_the_update() -> None:
    """A step of the sgd form from weights and gradients alone: z goes −η·g, y goes c·(z − y) − η·(1 − b(1−c))·g."""
    loop = Loop(dcao(mse, run="r", form="sgd", overhead=None))
    for batch in LONG:
        y, z = flat(loop.params), flat(loop.state.z)
        loop.run([batch])
        g = flat(loop.gradients[-1])
        rate = float((z - flat(loop.state.z)) @ g / (g @ g))
        c = float(loop.state.largest) ** 2 / float(loop.state.total)
        share = 1 - 0.9 * (1 - c)
        np.testing.assert_allclose(flat(loop.params) - y, c * (z - y) - rate * share * g, rtol=2e-2, atol=1e-6)
        assert 0 < rate * share <= loop.optimizer.control.decision.ceiling * 1.01


@pytest.mark.parametrize("kind", ["attach", "dcao"])
def test_a_resumed_run_goes_on_exactly(kind: str) -> None:
    """From parameters, optimizer state and the control's own state, through pickle; to the last bit."""
    options = {"run": "r", "overhead": None, "probe_interval": 4}

    def made() -> Any:
        return dcao(mse, **options) if kind == "dcao" else attach(mse, adamw(), trust="auto", **options)

    whole = Loop(made()).run(LONG[:16])
    control = whole.optimizer.control
    arrays = jax.device_get((whole.params, jax.tree.leaves(whole.state)))
    saved = pickle.dumps((*arrays, control.state_dict()))
    whole.run(LONG[16:])
    resumed = Loop(made())
    p, leaves, ours = pickle.loads(saved)
    resumed.params = jax.tree.map(jnp.asarray, p)
    resumed.state = jax.tree.unflatten(jax.tree.structure(resumed.state), [jnp.asarray(a) for a in leaves])
    resumed.optimizer.control.load_state_dict(ours)
    resumed.run(LONG[16:])
    np.testing.assert_array_equal(flat(resumed.params), flat(whole.params))
    assert resumed.optimizer.control.decision.lr == control.decision.lr
    assert resumed.optimizer.control.steps == 24
    assert resumed.optimizer.control.session.attempt == control.session.attempt + 1


def test_a_probe_that_is_ignored_leaves_the_training_bit_for_bit() -> None:
    plain = Loop(adamw()).run(LONG)
    watched = Loop(attach(mse, adamw(), run="r", trust="watch", overhead=None, probe_interval=2)).run(LONG)
    np.testing.assert_array_equal(flat(plain.params), flat(watched.params))
    assert watched.optimizer.control.session.stats.decisions >= 12


def test_turned_off_it_is_the_training_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DCAO_ENABLED", "0")
    plain, off = Loop(adamw()).run(LONG), Loop(attach(mse, adamw(), run="r", trust="auto")).run(LONG)
    np.testing.assert_array_equal(flat(plain.params), flat(off.params))
    assert np.isfinite(flat(Loop(dcao(mse, run="r")).run(LONG).params)).all()
    assert not list(tmp_path.rglob("*.jsonl"))


@pytest.mark.parametrize("where", ["_use", "step"])
def test_an_exception_of_ours_stops_nothing(where: str, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    """Said once; every step is what it would have been."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("of ours")

    monkeypatch.setattr(Attachment, where, broken)
    loop = Loop(attach(mse, sgd(), run="r", trust="auto", overhead=None, probe_interval=2))
    plain = Loop(attach(mse, sgd(), run="p", trust="watch", overhead=None))
    assert np.isfinite(flat(loop.run(LONG).params)).all()
    assert plain.run(LONG).rates() == pytest.approx([0.1] * 24, rel=1e-3)
    assert sum("of ours" in record.message for record in caplog.records) == 2


def test_a_controller_that_is_away_stops_nothing() -> None:
    loop = Loop(attach(mse, sgd(), run="r", url="http://127.0.0.1:9", **CONTROL)).run(LONG)
    assert loop.optimizer.control.session.stats.in_process == 24
    assert loop.rates() == pytest.approx([d.lr for d in loop.decisions], rel=1e-3)


def test_a_rate_that_was_held_near_nothing_grows_back() -> None:
    """As in torch: from a millionth of the path's level, not from whatever a ceiling of 1e-30 left."""
    options = {"trust": "auto", "overhead": None, "probe_interval": 4, "probe": EXACT}
    loop = Loop(attach(mse, sgd(), run="r", **options)).run(LONG[:4])
    held = loop.state.said._replace(ceiling=jnp.asarray(1e-30, jnp.float32))
    update = jax.jit(loop.optimizer.update)
    gradient = jax.grad(mse)(loop.params, LONG[0])
    _, state = update(gradient, loop.state._replace(said=held), loop.params)
    assert float(state.level) >= 2.0**-20 * float(loop.state.way.level) * 0.5
    nothing = loop.state.said._replace(ceiling=jnp.asarray(0.0, jnp.float32))
    _, state = update(gradient, loop.state._replace(said=nothing), loop.params)
    assert float(state.level) == 0.0


def test_a_gradient_that_is_not_finite_is_left_out() -> None:
    """`dcao` takes no step along it; nothing of it stays."""
    loop = Loop(dcao(mse, run="r", overhead=None)).run(LONG[:9])
    before = flat(loop.params), int(loop.state.count)
    x, y = LONG[0]
    loop.run([(x, np.full_like(y, np.nan))])
    np.testing.assert_array_equal(flat(loop.params), before[0])
    assert (int(loop.state.count), int(loop.state.void)) == (before[1], 1)
    assert np.isfinite(flat(loop.run(LONG[8:]).params)).all()


def test_what_cannot_be_steered_is_refused_with_the_fix() -> None:
    """At `attach`, before a step."""
    with pytest.raises(ValueError, match=r"write optax.inject_hyperparams\(optax.adamw\)\(learning_rate=...\)"):
        attach(mse, optax.adamw(0.1))
    with pytest.raises(ValueError, match=r"attach\(loss, tx, schedule=...\)"):
        attach(mse, adamw(optax.constant_schedule(0.1)))
    with pytest.raises(ValueError, match="one of sgd, adam, adamw"):
        attach(mse, optax.inject_hyperparams(optax.lion)(learning_rate=0.1), trust="auto")
    ours = dcao(mse, run="r")
    with pytest.raises(ValueError, match=r"update\(grads, state, params\)"):
        ours.update(params(), ours.init(params()))


def test_a_chain_is_steered_inside() -> None:
    """Clipping before an injected optimizer."""
    tx = optax.chain(optax.clip_by_global_norm(1e6), sgd())
    loop = Loop(attach(mse, tx, run="r", **CONTROL)).run(LONG)
    assert loop.rates() == pytest.approx([d.lr for d in loop.decisions], rel=1e-3)


def test_models_of_equinox_and_of_flax_train() -> None:
    """Trees with functions in them, and parameters split off a module, as each project's documentation has them."""
    data = LONG * 6
    model = eqx.nn.MLP(4, 1, 8, 1, activation=jnp.tanh, key=jax.random.key(0))
    moving, rest = eqx.partition(model, eqx.is_inexact_array)
    loss = lambda p, b: jnp.mean((jax.vmap(eqx.combine(p, rest))(b[0]) - b[1]) ** 2)  # noqa: E731
    loop, value = Loop(dcao(loss, run="e", overhead=None, probe_interval=8), moving, loss), jax.jit(loss)
    first = np.mean([value(moving, batch) for batch in LONG])
    loop.run(data)
    x = loop.optimizer.average(loop.state, loop.params)
    assert np.mean([value(x, batch) for batch in LONG]) < 0.7 * first

    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.one, self.two = nnx.Linear(4, 8, rngs=rngs), nnx.Linear(8, 1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.two(jnp.tanh(self.one(x)))

    graph, split, other = nnx.split(Net(nnx.Rngs(0)), nnx.Param, ...)
    flax_loss = lambda p, b: jnp.mean((nnx.merge(graph, p, other)(b[0]) - b[1]) ** 2)  # noqa: E731
    value = jax.jit(flax_loss)
    first = np.mean([value(split, batch) for batch in LONG])
    ours = attach(flax_loss, adamw(), run="f", trust="auto", overhead=None, probe_interval=8)
    loop = Loop(ours, split, flax_loss).run(data)
    assert np.mean([value(loop.params, batch) for batch in LONG]) < 0.7 * first
    assert loop.traces == 1


@pytest.mark.timeout(900)  # everything is compiled three times
def test_two_devices_hold_equal_weights(tmp_path: Path) -> None:
    """A sharded batch, replicated parameters, fifty decisions: what one device has, to rounding."""
    program = Path(__file__).with_name("jax_devices.py")
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, timeout=800, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
