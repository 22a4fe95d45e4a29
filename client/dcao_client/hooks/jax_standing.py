"""What a JAX optimizer's state says to the host, when it is time to ask: where the run stands, and P^-½ there."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from dcao_client.hooks.jax_control import Standing
from dcao_client.hooks.jax_path import BETA2, EPS, Averaged, Way, adam_metric
from dcao_client.hooks.jax_steering import Steered, Steering, injected, second_moment
from dcao_client.spectrum.jax.tree import Layout
from dcao_proto import Hyperparameters, Path
from dcao_proto.policy.compose import MAX_LR


def of_averaged(state: Averaged, *, averaging: float, decay: float) -> Standing:
    """r/√G as a step of y, b and λ."""
    count, way, largest, total, used, push = jax.device_get(
        (state.count, state.way._replace(origin=[]), state.largest, state.total, state.used, state.said.push)
    )
    path = _path(way)
    level = path.distance / path.gradients if path.gradients > 0 else 0.0
    square = max(float(largest), float(push) * level) ** 2
    share = 1.0 - averaging * (1.0 - (square / (float(total) + square) if square > 0 else 1.0))
    base = Hyperparameters(lr=min(level * share, MAX_LR), momentum=averaging, weight_decay=decay)
    return Standing(int(count), base, base.model_copy(update={"lr": min(float(used), MAX_LR)}) if count else None, path)


def of_steered(state: Steered, *, steering: Steering) -> Standing:
    """What the user's values and schedule say now, or the path's base in their shape."""
    given, count, way, level, peak, used = jax.device_get(
        (
            injected(state.inner), state.count, state.way._replace(origin=[]), state.level, state.shape.peak,
            state.used,
        )
    )  # fmt: skip
    lr = float(given["learning_rate"] if steering.schedule is None else steering.schedule(int(count)))
    momentum = float(given[steering.momentum]) if steering.momentum else 0.0
    base = Hyperparameters(lr=lr, momentum=momentum, weight_decay=float(given.get("weight_decay", 0.0)))
    names = ("lr", "momentum", "weight_decay")
    applied = Hyperparameters(**dict(zip(names, map(float, used), strict=True))) if count else None
    applied = base if count and steering.watched else applied
    if not steering.path:
        return Standing(int(count), base, applied, None)
    shape = min(lr / float(peak), 1.0) if peak > 0 else 1.0
    path = _path(way).model_copy(update={"shape": shape, "most": min(lr, MAX_LR) if steering.guarded else None})
    return Standing(int(count), base.model_copy(update={"lr": min(float(level) * shape, MAX_LR)}), applied, path)


def _path(way: Way) -> Path:
    return Path(distance=float(way.distance), gradients=math.sqrt(float(way.squares)), steps=int(way.steps))


def scaling_of_averaged(state: Averaged) -> Callable[[Any], Array] | None:
    """P^-½ with the probe's own gradient folded into the second moment, as the coming step will do it."""
    if not state.v:
        return None
    return lambda operator: _averaged(state.v, state.count, operator.gradient, operator.layout)


@functools.partial(jax.jit, static_argnums=3)
def _averaged(v: list[Array], count: Array, gradient: Array, layout: Layout) -> Array:
    g = layout.pieces(gradient)
    folded = [BETA2 * a + (1.0 - BETA2) * jnp.square(b.astype(jnp.float32)) for a, b in zip(v, g, strict=True)]
    return layout.flat([jax.lax.rsqrt(p) for p in adam_metric(folded, count + 1, BETA2, EPS)])


def scaling_of_steered(state: Steered, *, steering: Steering) -> Callable[[Any], Array] | None:
    """P^-½ of the Adam family, with momentum's bias correction; None for SGD."""
    if not steering.adam:
        return None
    return lambda operator: _steered(state, operator.gradient, operator.layout)


@functools.partial(jax.jit, static_argnums=2)
def _steered(state: Steered, gradient: Array, layout: Layout) -> Array:
    given = injected(state.inner)
    step = (state.count + 1).astype(jnp.float32)
    bias = 1.0 - jnp.asarray(given["b1"], jnp.float32) ** step
    return layout.flat([jax.lax.rsqrt(bias * p) for p in second_moment(state, given, layout.pieces(gradient))])
