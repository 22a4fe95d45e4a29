"""The probe in JAX: a loss of parameters and a batch, measured where a training stands."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dcao_client.checkpoint import check_keys, check_version, reading
from dcao_client.spectrum.batches import part_of, parts, what_failed
from dcao_client.spectrum.fingerprint import fingerprint
from dcao_client.spectrum.jax.operator import Compiled, JvpOfGrad, Loss
from dcao_client.spectrum.jax.tree import split
from dcao_client.spectrum.measure import Answer, Question, measure, track
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.sharpness import sharpness
from dcao_client.spectrum.solve import kept

MADE_BY, VERSION = "Probe.state_dict()", 1
log = logging.getLogger("dcao")

Scaling = Callable[[Curvature], jax.Array]


class Probe:
    """Measures the top of a loss's curvature in its parameters.

    >>> probe = Probe(lambda w, x: jnp.mean((x @ w) ** 2))
    >>> s = probe.measure(jnp.diag(jnp.array([2.0, 1.0])), jnp.ones(2))
    >>> s.status, round(s.rho, 2), round(s.gamma, 2)
    ('ok', 4.0, 3.0)
    """

    def __init__(self, loss: Loss, *, settings: ProbeSettings | None = None) -> None:
        """Args: ``loss(params, batch)`` ↦ the mean loss over the batch's examples; the numerical choices.

        ``params`` is any pytree: its arrays of real numbers move, everything else stays (an Equinox model is one; of a
        Flax NNX model give ``nnx.split``'s parameters, and the loss merges them).

        Raises:
            ValueError: a product is asked for that there is none of in JAX.
        """
        self.settings = settings if settings is not None else ProbeSettings()
        if self.settings.matvec not in ("auto", "double_backward"):
            raise ValueError(f"expected matvec='auto' in JAX, where products are exact; got {self.settings.matvec!r}")
        self.compiled = Compiled(loss)
        self._params: Any = None
        self._scaling: Scaling | None = None
        self._warm: tuple[jax.Array, ...] = ()
        self._probes = self.failures = 0
        self._named: set[str | None] = set()

    def at(self, params: Any, scaling: Scaling | None = None) -> None:
        """Measures there from now on; ``scaling`` gives P^-½ where the preconditioned curvature is wanted."""
        self._params, self._scaling = params, scaling

    def measure(self, batch: Any, params: Any = None) -> Spectrum:
        """λ₁, λ₂ and what comes with them, at ``params`` or where ``at`` was told."""
        found = self._tried(batch, params, measure)
        self._probes += 1
        return found

    def sharpness(self, batch: Any, params: Any = None, *, matvecs: int = 3) -> Spectrum:
        """λ₁ alone, from a few products that go on from the last top vectors."""
        return self._tried(batch, params, functools.partial(sharpness, matvecs=matvecs))

    def track(self, batch: Any, params: Any = None) -> Spectrum:
        """The Rayleigh quotient of the last top vector: one product."""
        if not self._warm:
            return Spectrum("unavailable", detail="there is no vector to track before the first measurement")
        return self._tried(batch, params, lambda operator, question: Answer(track(operator, question)))

    def join(self, collective: Any) -> None:
        """Nothing: arrays over several devices are summed by XLA."""

    def examples(self, batch: Any) -> int:
        """How many the batch holds, or several together."""
        return sum((self.settings.examples or count_examples)(one) for one in parts(batch))

    def measured_examples(self, examples: int, share: float, *, roughly: bool = False) -> int | None:
        """How many of them to measure where ``share`` is enough."""
        return part_of(examples, share, coupled=False)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to measure exactly the same numbers: plain numbers and NumPy's arrays."""
        warm = [np.asarray(v.astype(jnp.float32)) for v in self._warm]  # NumPy has no bfloat16; nothing is lost
        return {"version": VERSION, "probes": self._probes, "warm": warm}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            CheckpointError: the state is of another version, or none of a probe.
        """
        check_version(state, VERSION, MADE_BY)
        check_keys(state, ("version", "probes", "warm"), MADE_BY)
        with reading(MADE_BY, state):
            warm = tuple(jnp.asarray(v, jnp.bfloat16) for v in state["warm"])
            self._probes, self._warm = int(state["probes"]), warm

    def _tried(self, batch: Any, params: Any, ask: Callable[[Curvature, Question], Answer]) -> Spectrum:
        began = time.perf_counter()
        try:
            found = self._measured(batch, self._params if params is None else params, ask)
        except Exception as error:
            if self.settings.strict:
                raise
            found = Spectrum("unavailable", detail=what_failed(error, batch))
            self.failures += 1
            if found.detail not in self._named:
                self._named.add(found.detail)
                log.warning("dcao: no curvature at this probe, training goes on: %s", found.detail)
        return replace(found, seconds=time.perf_counter() - began)

    def _measured(self, batch: Any, params: Any, ask: Callable[[Curvature, Question], Answer]) -> Spectrum:
        moving, staying, layout = split(params)
        count, limit = self.settings.examples or count_examples, self.settings.probe_batch
        batches = [one if limit is None else take(one, limit) for one in parts(batch) if count(one) > 0]
        counts = [count(one) for one in batches]
        if not batches:
            raise ValueError("expected at least one example in the batch; got none")
        if any(v.shape[0] != layout.size for v in self._warm):
            self._warm = ()
        seed = self.settings.seed * 1_000_003 + self._probes
        operator = JvpOfGrad(self.compiled, (moving, staying), layout, batches, [n / sum(counts) for n in counts])
        try:
            answer = ask(operator, Question(self.settings, self._scaling, self._warm, seed))
        finally:
            operator.close()
        vectors = tuple(v.astype(jnp.bfloat16) for v in answer.vectors[: kept(self.settings, layout.size)])
        if vectors:
            self._warm = vectors + self._warm[len(vectors) :]
        named = fingerprint(
            "jax",
            policy=self.settings.batch_policy,
            examples=sum(counts),
            dtype=",".join(sorted({str(d) for d in layout.dtypes})),
            matrix="hessian",
            preconditioned=self._scaling is not None,
        )
        return replace(answer.spectrum, examples=sum(counts), fingerprint=named)


def count_examples(batch: Any) -> int:
    """The leading dimension of the first array in a pytree.

    Raises:
        ValueError: there is none; pass ``ProbeSettings(examples=…)``.
    """
    for leaf in jax.tree.leaves(batch):
        if getattr(leaf, "ndim", 0) > 0:
            return int(leaf.shape[0])
    raise ValueError(
        f"expected a batch with an array whose first dimension counts examples; got {type(batch).__name__}; "
        "pass ProbeSettings(examples=callable)"
    )


def take(batch: Any, count: int) -> Any:
    """The first ``count`` examples: every array whose leading dimension is the batch's is cut, the rest is kept."""
    total = count_examples(batch)
    if count >= total:
        return batch
    return jax.tree.map(lambda a: a[:count] if getattr(a, "ndim", 0) and a.shape[0] == total else a, batch)
