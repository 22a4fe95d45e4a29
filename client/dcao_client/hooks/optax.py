"""`dcao(loss)` and `attach(loss, tx)`: DCAO in optax. Needs `pip install 'dcao[optax]'`.

The first has no rate, the second steers any injected transform; both are gradient transformations for a compiled step.
Outside of it, before each, `state = optimizer.step(state, params, batch)` measures and asks when it is time to, and
writes what was decided into arrays of the state: nothing is traced again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax

from dcao_client.hooks.dear_probes import AVERAGED_INTERVAL, PATH_INTERVAL
from dcao_client.hooks.jax_control import Steers, attachment
from dcao_client.hooks.jax_optimizer import Averaging, Optimizer
from dcao_client.hooks.jax_path import AVERAGING, Said, averaged_update, begin_averaged, first_level
from dcao_client.hooks.jax_standing import of_averaged, of_steered, scaling_of_averaged, scaling_of_steered
from dcao_client.hooks.jax_steering import Steering, begin_steered, injected, optimizer_name, steered_update
from dcao_client.hooks.trust import how_far
from dcao_client.settings import HookSettings
from dcao_client.spectrum.jax.operator import Loss
from dcao_proto import Bounds, Hyperparameters, PolicyChoice, RunSpec
from dcao_proto.optimizers import OptimizerName
from dcao_proto.policy import get_policy
from dcao_proto.policy.path import PUSH_AVERAGE
from dcao_proto.run import Trust

KNOWN = "use trust='watch', or one of sgd, adam, adamw; or say what it is like: attach(..., optimizer='adam')"


def dcao(
    loss: Loss,
    *,
    form: Literal["adam", "sgd"] = "adam",
    weight_decay: float = 0.0,
    averaging: float = AVERAGING,
    policy_params: dict[str, Any] | None = None,
    probe_interval: int | None = None,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> Averaging:
    """Trains without a learning rate: schedule-free steps at the path's rate under the curvature's ceiling.

    Args:
        loss: `loss(params, batch)`, the mean loss of a batch; `params` as the transformation gets them.
        form, weight_decay, averaging, policy_params: as of `dcao_client.DCAO`.
        options: run, project, url, overhead, probe_data, probe, deadline, journal_dir, strict, as of `attach`.

    Example:
        >>> loss = lambda w, batch: jnp.mean((batch[0] @ w - batch[1]) ** 2)
        >>> optimizer = dcao(loss, run="doctest", journal_dir="/dev/null/nowhere")
        >>> w, batch = jnp.zeros(2), (jnp.eye(2), jnp.ones(2))
        >>> state, gradient = optimizer.init(w), jax.jit(jax.grad(loss))
        >>> for _ in range(50):
        ...     state = optimizer.step(state, w, batch)
        ...     updates, state = optimizer.update(gradient(w, batch), state, w)
        ...     w = optax.apply_updates(w, updates)
        >>> bool(loss(optimizer.average(state, w), batch) < 0.05)
        True
        >>> optimizer.control.finish()
        True
    """
    steers = Steers(
        functools.partial(of_averaged, averaging=averaging, decay=weight_decay),
        scaling_of_averaged,
        lambda rho: 1.0 / (rho * PUSH_AVERAGE),
        Said(),
    )
    spec = RunSpec(
        optimizer="schedule_free_sgd" if form == "sgd" else "schedule_free_adam",
        base=Hyperparameters(lr=0.0, momentum=averaging, weight_decay=weight_decay),
        policy=PolicyChoice(name="default", params=policy_params or {}),
        scale="path",
        trust="auto",
        probe_interval=AVERAGED_INTERVAL if probe_interval is None else probe_interval,
        labels=labels or {},
    )
    updates = functools.partial(averaged_update, averaging=averaging, decay=weight_decay)
    made = Averaging(functools.partial(begin_averaged, form=form), updates)
    made.steers, made.averaging = steers, averaging
    made.control = attachment(loss, steers, spec, stretch=probe_interval is None, **options)
    return made


def attach(
    loss: Loss,
    tx: optax.GradientTransformation,
    *,
    schedule: Callable[[Any], Any] | None = None,
    optimizer: OptimizerName | None = None,
    trust: Trust | None = None,
    policy: str | PolicyChoice = "default",
    policy_params: dict[str, Any] | None = None,
    bounds: Bounds | None = None,
    probe_interval: int | None = None,
    labels: dict[str, str] | None = None,
    **options: Any,
) -> Optimizer:
    """Steers the hyperparameters that `optax.inject_hyperparams` injects; does nothing where `DCAO_ENABLED=0`.

    Args:
        loss: `loss(params, batch)`, the mean loss of a batch.
        tx: with an injected learning rate, alone or in a chain. What stands in its state between updates is yours.
        schedule: of the base learning rate, by step; absent: what stands in the state.
        optimizer: what the law should take it for, where that cannot be seen.
        trust, policy, policy_params, bounds, probe_interval, labels, options: as of `dcao_client.attach`.

    Raises:
        ValueError: something cannot be steered; the message says what to write.
    """
    seen = jax.eval_shape(tx.init, jnp.zeros(1))
    given = injected(seen)
    name = optimizer or optimizer_name(seen, given)
    switches = HookSettings.read()
    choice = policy if isinstance(policy, PolicyChoice) else PolicyChoice(name=policy, params=policy_params or {})
    follows = get_policy(choice.name).follows_path
    trust = how_far(trust or switches.trust, name, f"this one; {KNOWN}", choice.name, bounds, follows=follows)
    steering = Steering(
        momentum=next((n for n in ("b1", "momentum") if n in given), None),
        decay="weight_decay" in given,
        adam=name in ("adam", "adamw"),
        path=follows and trust in ("guard", "auto"),
        guarded=trust == "guard",
        watched=trust == "watch",
        most=(bounds or Bounds()).max_momentum,
        schedule=schedule,
    )
    values = of_steered(begin_steered(tx, steering, jnp.zeros(1)), steering=steering).base
    declared: dict[str, Any] = {
        "optimizer": name, "base": values, "policy": choice, "scale": "path" if steering.path else "user",
        "trust": trust, "labels": labels or {},
        "probe_interval": (PATH_INTERVAL if follows else 100) if probe_interval is None else probe_interval,
    }  # fmt: skip
    steers = Steers(
        functools.partial(of_steered, steering=steering),
        functools.partial(scaling_of_steered, steering=steering),
        functools.partial(first_level, averaged=values.momentum if steering.adam else 0.0),
        Said(push=1.0),
    )
    updates = functools.partial(steered_update, tx, steering if switches.enabled else None)
    made, made.steers = Optimizer(functools.partial(begin_steered, tx, steering), updates), steers
    spec = RunSpec(**declared) if bounds is None else RunSpec(**declared, bounds=bounds)
    made.control = attachment(loss, steers, spec, stretch=follows and probe_interval is None, **options)
    return made
