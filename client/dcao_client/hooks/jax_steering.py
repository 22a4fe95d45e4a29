"""Another transform's injected hyperparameters, steered inside its compiled step.

Just before the inner update what was decided is written over the user's values; just after it the user's stand there
again. So they, or a schedule, stay in charge of the base (`param_groups.py` does the same in torch).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from dcao_client.hooks.jax_path import (
    Said,
    Shape,
    Way,
    adam_metric,
    begin,
    came,
    level_shape,
    numbers,
    saw,
    start,
)
from dcao_client.hooks.path import GUARDED_GROWTH, LEAST_GROWTH, LEAST_LEVEL
from dcao_client.spectrum.jax.tree import split
from dcao_proto.optimizers import OptimizerName

FIX = "write optax.inject_hyperparams(optax.adamw)(learning_rate=...) for optax.adamw(...)"


@dataclass(frozen=True)
class Steering:
    """What is steered, and how; known when the step is compiled."""

    momentum: str | None  # the name that the transform gives it
    decay: bool
    adam: bool
    path: bool
    guarded: bool
    watched: bool
    most: float  # no momentum is raised above this
    schedule: Callable[[Any], Any] | None


class Steered(NamedTuple):
    """The inner state, whose hyperparameters are the user's between updates, and what follows the run."""

    inner: Any
    count: Array
    way: Way
    shape: Shape
    level: Array
    used: Array  # learning rate, momentum and decay of the last update
    said: Said


def injected(state: Any) -> dict[str, Any]:
    """The injected hyperparameters of a transform's state.

    Raises:
        ValueError: there are none, or something else writes the learning rate; the message says what to write.
    """
    found = _all(state, "learning_rate")
    values = [value for value in found if hasattr(value, "dtype")]
    if len(values) != 1:
        raise ValueError(
            f"expected a transform with one injected learning rate, got {len(values)}; {FIX}, so that it can be steered"
        )
    if len(found) > 1:
        raise ValueError(
            "expected a learning rate that is a number, got a schedule inside inject_hyperparams, which would "
            "overwrite every decision; give the number there and the schedule here: attach(loss, tx, schedule=...)"
        )
    names = ("b1", "b2", "eps", "momentum", "decay", "weight_decay")
    have = {name: _all(state, name) for name in names}
    here = {name: one[0] for name, one in have.items() if len(one) == 1 and hasattr(one[0], "dtype")}
    return {"learning_rate": values[0], **here}


def _all(state: Any, name: str) -> list[Any]:
    return [value for _, value in optax.tree_utils.tree_get_all_with_path(state, name)]


def optimizer_name(state: Any, given: dict[str, Any]) -> OptimizerName:
    """What the protocol calls it; `other` where its stability threshold is not known."""
    kept = {name for name in ("mu", "nu", "trace", "sum_of_squares", "prev_updates") if _all(state, name)}
    if {"mu", "nu"} <= kept and {"b1", "b2", "eps"} <= set(given):
        return "adamw" if "weight_decay" in given else "adam"
    return "sgd" if kept <= {"trace"} and "b1" not in given and "decay" not in given else "other"


def begin_steered(tx: Any, steering: Steering, params: Any) -> Steered:
    """Before the first step."""
    inner = tx.init(params)
    injected(inner)
    zero = jnp.zeros((), jnp.float32)
    way = begin(split(params)[0] if steering.path else [])
    said = numbers(Said(push=1.0))
    return Steered(inner, jnp.zeros((), jnp.int32), way, level_shape(), zero, jnp.zeros(3, jnp.float32), said)


def steered_update(
    tx: Any, steering: Steering | None, updates: Any, state: Steered, params: Any = None, **extra: Any
) -> tuple[Any, Steered]:
    """The inner update at the values that were decided; without steering, or watched only, at the user's."""
    tx = optax.with_extra_args_support(tx)
    if steering is None or steering.watched:
        out, inner = tx.update(updates, state.inner, params, **extra)
        return out, state._replace(inner=inner, count=state.count + 1)
    user = injected(state.inner)
    said, count = state.said, state.count + 1
    lr = user["learning_rate"] if steering.schedule is None else steering.schedule(state.count)
    lr = jnp.asarray(lr, jnp.float32)
    beta = jnp.asarray(user[steering.momentum], jnp.float32) if steering.momentum else jnp.zeros(())
    base, followed, metric = lr, state, None
    if steering.path:
        base, followed, metric = _follow(steering, state, user, updates, params, lr, beta)
    pushed = base * said.push
    used = jnp.minimum(pushed, said.ceiling)
    if steering.guarded:  # nothing measured yet is no reason to hold anything back
        used = jnp.where(said.decided > 0, jnp.minimum(used, lr), lr)
    held = jnp.where(said.momentum == 1.0, beta, jnp.minimum(beta * said.momentum, jnp.maximum(steering.most, beta)))
    decay = jnp.asarray(user.get("weight_decay", 0.0), jnp.float32) * said.decay
    values = {"learning_rate": used}
    values |= {steering.momentum: held} if steering.momentum else {}
    values |= {"weight_decay": decay} if steering.decay else {}
    cast = {name: value.astype(user[name].dtype) for name, value in values.items()}
    out, inner = tx.update(updates, optax.tree_utils.tree_set(state.inner, **cast), params, **extra)
    inner = optax.tree_utils.tree_set(inner, **{name: user[name] for name in values})
    way, level = followed.way, followed.level
    if steering.path:
        points = [p + u for p, u in zip(split(params)[0], jax.tree.leaves(out), strict=True)]
        share = jnp.where(pushed > 0, used / jnp.maximum(pushed, 1e-38), 1.0)
        level = jnp.where(share > 0, jnp.maximum(level * share, LEAST_LEVEL * way.level), 0.0)
        way = came(way, points, metric)
    return out, Steered(inner, count, way, followed.shape, level, jnp.stack([used, held, decay]), said)


def _follow(
    steering: Steering, state: Steered, user: dict[str, Any], updates: Any, params: Any, lr: Array, beta: Array
) -> tuple[Array, Steered, list[Array] | None]:
    """The path's base learning rate, as `user_path.py` has it."""
    if params is None:
        raise ValueError("expected update(grads, state, params), to see how far the parameters have come")
    gradients, points = jax.tree.leaves(updates), split(params)[0]
    metric = second_moment(state, user, gradients) if steering.adam else None
    seen = saw(state.way, gradients, metric)
    fine = jnp.isfinite(seen.squares)
    way = state.way._replace(
        squares=jnp.where(fine, seen.squares, state.way.squares), steps=jnp.where(fine, seen.steps, state.way.steps)
    )
    begun = state.level > 0
    way = jax.lax.cond(begun, lambda w: w, lambda w: start(w, state.said.first, points, metric), way)
    least = GUARDED_GROWTH if steering.guarded and steering.adam else LEAST_GROWTH
    growth = 1.0 + jnp.maximum(1.0 - beta, least)
    level = jnp.where(begun, jnp.minimum(way.level, state.level * growth), way.level)
    now, shape = state.shape.follow(lr)
    return now * level, state._replace(way=way, level=level, shape=shape), metric


def second_moment(state: Steered, user: dict[str, Any], gradients: list[Array]) -> list[Array]:
    """√v̂ + ε as the coming update will have it."""
    kept = jax.tree.leaves(optax.tree_utils.tree_get(state.inner, "nu"))
    b2 = jnp.asarray(user["b2"], jnp.float32)
    pairs = [(v.astype(jnp.float32), g.astype(jnp.float32)) for v, g in zip(kept, gradients, strict=True)]
    return adam_metric([b2 * v + (1.0 - b2) * g * g for v, g in pairs], state.count + 1, b2, user["eps"])
