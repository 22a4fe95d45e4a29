"""What a probe of any compiled framework has: warm vectors, a count, a state, and failures that are values."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dcao_client.checkpoint import check_keys, check_version, reading
from dcao_client.spectrum.arrays import Numbers, Vector
from dcao_client.spectrum.batches import part_of, parts, what_failed
from dcao_client.spectrum.fingerprint import fingerprint
from dcao_client.spectrum.measure import LOOK_EVERY, Answer, Question, measure, track
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.sharpness import sharpness
from dcao_client.spectrum.solve import kept

MADE_BY, VERSION = "Probe.state_dict()", 1
log = logging.getLogger("dcao")

Scaling = Callable[[Curvature], Vector]


class Probing:
    """Measures the top of a loss's curvature; what makes products is a framework's own (``spectrum.<framework>``).

    Attributes:
        failures: measurements that came to nothing.
    """

    framework: str
    coupled = False  # whether a layer couples a batch's examples, so that no part of it is the same function

    def __init__(self, settings: ProbeSettings | None) -> None:
        """Raises ValueError where products of another kind are asked for than the exact ones that there are."""
        self.settings = settings if settings is not None else ProbeSettings()
        if self.settings.matvec not in ("auto", "double_backward"):
            raise ValueError(
                f"expected matvec='auto' in {self.framework}, where products are exact; got {self.settings.matvec!r}"
            )
        self._scaling: Scaling | None = None
        self._warm: tuple[Vector, ...] = ()
        self._probes = self.failures = 0
        self._multiple = False  # whether the last measurement that looked saw one
        self._named: set[str | None] = set()

    # -- what a framework says ----------------------------------------------------------------------------------------

    def _operator(self, batches: Sequence[Any], weights: Sequence[float], params: Any) -> tuple[Curvature, str]:
        """The mean loss's Hessian over micro-batches, and the precisions of what moves, by name."""
        raise NotImplementedError

    def _half(self, vector: Vector) -> Vector:
        """In bfloat16."""
        raise NotImplementedError

    def _single(self, vector: Vector) -> Numbers:
        """On the host in single precision; nothing of bfloat16 is lost."""
        raise NotImplementedError

    def _why(self, error: Exception, batch: Any) -> str:
        """What failed, in a line."""
        return what_failed(error, batch)

    def _count(self, batch: Any) -> int:
        raise NotImplementedError

    def _take(self, batch: Any, count: int) -> Any:
        raise NotImplementedError

    # -- what is asked ------------------------------------------------------------------------------------------------

    def measure(self, batch: Any, params: Any = None) -> Spectrum:
        """λ₁, λ₂ and what comes with them, at ``params`` or where the training stands."""
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
        """Nothing: what lies on several devices is summed by the framework."""

    def examples(self, batch: Any) -> int:
        """How many the batch holds, or several together."""
        return sum((self.settings.examples or self._count)(one) for one in parts(batch))

    def measured_examples(self, examples: int, share: float, *, roughly: bool = False) -> int | None:
        """How many of them to measure where ``share`` is enough."""
        return part_of(examples, share, coupled=self.coupled, roughly=roughly)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to measure exactly the same numbers: plain numbers and NumPy's arrays."""
        warm = [self._single(v) for v in self._warm]
        return {"version": VERSION, "probes": self._probes, "warm": warm, "multiple": self._multiple}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            CheckpointError: the state is of another version, or none of a probe.
        """
        check_version(state, VERSION, MADE_BY)
        check_keys(state, ("version", "probes", "warm", "multiple"), MADE_BY)
        with reading(MADE_BY, state):
            warm = tuple(self._half(v) for v in state["warm"])
            self._probes, self._warm = int(state["probes"]), warm
            self._multiple = bool(state["multiple"])

    def _tried(self, batch: Any, params: Any, ask: Callable[[Curvature, Question], Answer]) -> Spectrum:
        began = time.perf_counter()
        try:
            found = self._measured(batch, params, ask)
        except Exception as error:
            if self.settings.strict:
                raise
            found = Spectrum("unavailable", detail=self._why(error, batch))
            self.failures += 1
            if found.detail not in self._named:
                self._named.add(found.detail)
                log.warning("dcao: no curvature at this probe, training goes on: %s", found.detail)
        return replace(found, seconds=time.perf_counter() - began)

    def _measured(self, batch: Any, params: Any, ask: Callable[[Curvature, Question], Answer]) -> Spectrum:
        count, limit = self.settings.examples or self._count, self.settings.probe_batch
        batches = [one if limit is None else self._take(one, limit) for one in parts(batch) if count(one) > 0]
        counts = [count(one) for one in batches]
        if not batches:
            raise ValueError("expected at least one example in the batch; got none")
        operator, dtype = self._operator(batches, [n / sum(counts) for n in counts], params)
        try:
            if any(v.shape[0] != operator.space.size for v in self._warm):
                self._warm = ()
            seed = self.settings.seed * 1_000_003 + self._probes
            looks = self._multiple or self._probes % LOOK_EVERY == 0
            answer = ask(operator, Question(self.settings, self._scaling, self._warm, seed, multiples=looks))
        finally:
            operator.close()
        if ask is measure and looks:
            self._multiple = answer.multiple
        vectors = tuple(self._half(v) for v in answer.vectors[: kept(self.settings, operator.space.size)])
        if vectors:
            self._warm = vectors + self._warm[len(vectors) :]
        named = fingerprint(
            self.framework,
            policy=self.settings.batch_policy,
            examples=sum(counts),
            dtype=dtype,
            matrix="hessian",
            preconditioned=self._scaling is not None,
        )
        return replace(answer.spectrum, examples=sum(counts), fingerprint=named)


def counted(leaves: Sequence[Any], batch: Any) -> int:
    """The leading dimension of the first array among a batch's leaves.

    Raises:
        ValueError: there is none; pass ``ProbeSettings(examples=…)``.
    """
    for leaf in leaves:
        if len(getattr(leaf, "shape", ())) > 0:
            return int(np.asarray(leaf.shape[0]))
    raise ValueError(
        f"expected a batch with an array whose first dimension counts examples; got {type(batch).__name__}; "
        "pass ProbeSettings(examples=callable)"
    )
