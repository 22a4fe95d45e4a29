"""The path inside a compiled training step in JAX: r, √G and the steps along them. The mathematics of `hooks/optax.py`.

The law is that of `path_meter.py`, `path_optimizer.py` and `user_path.py`, on lists of arrays; what a decision says is
arrays too (`Said`), so that a new value is no new trace. Sums are in single precision, where they are made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from dcao_client.hooks.path import FIRST_DISTANCE, FIRST_SHARE, stride_of
from dcao_client.hooks.shape import HELD_SHARE, HELD_STEPS
from dcao_client.spectrum.jax.tree import split
from dcao_proto.policy.path import PUSH_AVERAGE, PUSH_WEIGHTS

Metric = Sequence[Array] | None  # P of every array; None for P = 1

BETA2, EPS, AVERAGING = 0.999, 1e-8, 0.9  # as in `schedule_free.py`


class Said(NamedTuple):
    """What was decided, and r/√G before the first step (0 where no curvature says)."""

    push: Any = PUSH_AVERAGE
    ceiling: Any = float("inf")
    momentum: Any = 1.0
    decay: Any = 1.0
    first: Any = 0.0
    decided: Any = 0.0


class Way(NamedTuple):
    """How far a run has come: x₀ (sampled), r, G and the steps in it."""

    origin: list[Array]
    distance: Array
    squares: Array
    steps: Array

    @property
    def level(self) -> Array:
        """r/√G; 0 before both are known."""
        return jnp.where(self.squares > 0, self.distance / jnp.sqrt(jnp.maximum(self.squares, 1e-38)), 0.0)


def numbers(said: Said) -> Said:
    """As arrays of one kind, whatever was given."""
    return Said(*(jnp.asarray(value, jnp.float32) for value in said))


def begin(points: Sequence[Array]) -> Way:
    """A run that stands at its start."""
    zero = jnp.zeros((), jnp.float32)
    return Way([jnp.array(_sketch(p)) for p in points], zero, zero, jnp.zeros((), jnp.int32))


def first_level(rho: float, *, averaged: float) -> float:
    """r/√G before the first step from a curvature: `averaged` is the β of momentum that is a mean, else 0."""
    return FIRST_SHARE / (rho * (1.0 - averaged) * PUSH_WEIGHTS)


def saw(way: Way, gradients: Sequence[Array], metric: Metric) -> Way:
    """Adds a step's gradients to G."""
    squares = [jnp.square(_sketch(g)) for g in gradients]
    inverse = None if metric is None else [1.0 / p for p in metric]
    return way._replace(squares=way.squares + _sum(squares, gradients, inverse), steps=way.steps + 1)


def start(way: Way, first: Array, points: Sequence[Array], metric: Metric) -> Way:
    """r before the first step: such that r/√G is `first`; a small share of the weights' length without one."""
    length = jnp.sqrt(_sum([jnp.square(o) for o in way.origin], points, metric))
    least = jnp.where(first > 0, first * jnp.sqrt(way.squares), FIRST_DISTANCE * (1.0 + length))
    return way._replace(distance=jnp.maximum(way.distance, least))


def came(way: Way, points: Sequence[Array], metric: Metric) -> Way:
    """Takes note of where the run is."""
    gone = [jnp.square(_sketch(p) - o) for p, o in zip(points, way.origin, strict=True)]
    reached = jnp.sqrt(_sum(gone, points, metric))
    return way._replace(distance=jnp.maximum(way.distance, jnp.where(jnp.isfinite(reached), reached, 0.0)))


def adam_metric(second: Sequence[Array], step: Array, beta2: Any, eps: Any) -> list[Array]:
    """√v̂ + ε of a second moment that holds `step` gradients."""
    held = -jnp.expm1(step.astype(jnp.float32) * jnp.log(jnp.asarray(beta2, jnp.float32)))
    return [jnp.sqrt(v.astype(jnp.float32) / held) + eps for v in second]


def _sum(squares: Sequence[Array], like: Sequence[Array], metric: Metric = None) -> Array:
    scaled = squares if metric is None else [s * _sketch(p) for s, p in zip(squares, metric, strict=True)]
    return jnp.sum(jnp.stack([stride_of(a.size) * jnp.sum(s) for a, s in zip(like, scaled, strict=True)]))


def _sketch(array: Array) -> Array:
    return array.ravel()[:: stride_of(array.size)].astype(jnp.float32)


class Averaged(NamedTuple):
    """Schedule-free training: z, the second moment, the path and the averaging weights. The model holds y."""

    count: Array
    z: list[Array]
    v: list[Array]
    way: Way
    largest: Array
    total: Array
    void: Array  # steps that were left out, for a gradient that is not finite
    used: Array  # how far y went along the last update
    said: Said


def begin_averaged(params: Any, *, form: str) -> Averaged:
    """At the start z, x and y are one."""
    points = split(params)[0]
    zero, wide = jnp.zeros((), jnp.float32), [jnp.array(p, jnp.float32) for p in points]
    v = [jnp.zeros_like(z) for z in wide] if form == "adam" else []
    none = jnp.zeros((), jnp.int32)
    return Averaged(none, wide, v, begin(points), zero, zero, none, zero, numbers(Said()))


def averaged_update(
    gradients: Any, state: Averaged, params: Any = None, *, averaging: float, decay: float, **_: Any
) -> tuple[Any, Averaged]:
    """`averaged_step` on pytrees, as optax calls it."""
    if params is None:
        raise ValueError("expected update(grads, state, params): the averages are of the parameters")
    given, structure = jax.tree.flatten(gradients)
    moves, after = averaged_step(state, split(params)[0], given, b=averaging, decay=decay)
    return jax.tree.unflatten(structure, moves), after


def averaged_step(
    state: Averaged, points: Sequence[Array], gradients: Sequence[Array], *, b: float, decay: float
) -> tuple[list[Array], Averaged]:
    """One step of `schedule_free.py` at the rate of `path_optimizer.py`; what y moves by. Left out if not finite."""
    g = [a.astype(jnp.float32) for a in gradients]
    y = [p.astype(jnp.float32) for p in points]
    count, said = state.count + 1, state.said
    v = [BETA2 * v + (1.0 - BETA2) * a * a for v, a in zip(state.v, g, strict=True)] if state.v else []
    metric = adam_metric(v, count, BETA2, EPS) if v else None
    way = saw(state.way, g, metric)
    way = jax.lax.cond(way.distance > 0, lambda w: w, lambda w: start(w, said.first, y, metric), way)

    def share(c: Array) -> Array:
        return 1.0 - b * (1.0 - c)

    pushed = said.push * way.level
    square = jnp.maximum(state.largest, pushed) ** 2
    expected = share(jnp.where(square > 0, square / jnp.maximum(state.total + square, 1e-38), 1.0))
    used = jnp.minimum(pushed * expected, said.ceiling)
    rate = used / expected
    largest = jnp.maximum(state.largest, rate)
    total = state.total + largest**2
    c = jnp.where(total > 0, largest**2 / jnp.maximum(total, 1e-38), 1.0)
    along = g if metric is None else [a / p for a, p in zip(g, metric, strict=True)]
    along = [a + decay * p for a, p in zip(along, y, strict=True)]
    moves = [c * (z - p) - rate * share(c) * a for z, p, a in zip(state.z, y, along, strict=True)]
    z = [z - rate * a for z, a in zip(state.z, along, strict=True)]
    new_y = [p + m for p, m in zip(y, moves, strict=True)]
    way = came(way, average(new_y, z, b), metric)
    none = jnp.zeros((), jnp.int32)
    stepped = Averaged(count, z, v, way, largest, total, none, used, said)
    fine = jnp.all(jnp.stack([jnp.isfinite(a).all() for a in g]))
    left = state._replace(void=state.void + 1)
    moves = [jnp.where(fine, m, 0.0).astype(p.dtype) for m, p in zip(moves, points, strict=True)]
    return moves, jax.tree.map(lambda new, old: jnp.where(fine, new, old), stepped, left)


def average(y: Sequence[Array], z: Sequence[Array], b: float) -> list[Array]:
    """x = (y − (1−b)·z)/b."""
    return [p + (1.0 - 1.0 / b) * (q - p) for p, q in zip(y, z, strict=True)]


class Shape(NamedTuple):
    """`shape.py` as arrays: the user's schedule over its peak."""

    peak: Array
    steps: Array
    above: Array
    least: Array

    def follow(self, lr: Array) -> tuple[Array, Shape]:
        """The shape at this step."""
        steps, up = self.steps + 1, lr > self.peak
        least = jnp.where(self.above == 0, lr, jnp.minimum(self.least, lr))
        above = jnp.where(up, self.above + 1, 0)
        held = jnp.maximum(HELD_STEPS, HELD_SHARE * steps)
        becomes = up & ((self.peak == 0.0) | (above >= held))
        now = jnp.where(up, 1.0, jnp.where(self.peak > 0, lr / jnp.maximum(self.peak, 1e-38), 0.0))
        peak = jnp.where(becomes, least, self.peak)
        return now, Shape(peak, steps, jnp.where(becomes, 0, above), jnp.where(up, least, self.least))


def level_shape() -> Shape:
    """Before the first step."""
    zero, none = jnp.zeros((), jnp.float32), jnp.zeros((), jnp.int32)
    return Shape(zero, none, none, zero)
