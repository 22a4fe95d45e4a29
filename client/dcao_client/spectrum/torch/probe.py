"""The probe: what a training loop holds and calls."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dcao_client.checkpoint import check_keys, check_version, reading
from dcao_client.spectrum.batches import parts, what_failed
from dcao_client.spectrum.fingerprint import fingerprint, matrix_of
from dcao_client.spectrum.measure import LOOK_EVERY, Question, measure, track
from dcao_client.spectrum.operators import Curvature
from dcao_client.spectrum.result import Spectrum
from dcao_client.spectrum.settings import ProbeSettings
from dcao_client.spectrum.sharpness import sharpness
from dcao_client.spectrum.solve import kept
from dcao_client.spectrum.torch.along import Along, of_moved
from dcao_client.spectrum.torch.ask import Ask, answered, asked, operator_for, question
from dcao_client.spectrum.torch.batches import count_examples, measured_examples, with_examples
from dcao_client.spectrum.torch.choose import Choice, UnavailableError, keep_graph
from dcao_client.spectrum.torch.critical import critical, critical_along_gradient
from dcao_client.spectrum.torch.distributed import Ranks, RanksLostError
from dcao_client.spectrum.torch.double_backward import DoubleBackward
from dcao_client.spectrum.torch.generators import own_modules, reached
from dcao_client.spectrum.torch.isolation import is_lazy, isolated, mode_of, moved, names_of, trainable, unwrap
from dcao_client.spectrum.torch.layout import Layout
from dcao_client.spectrum.torch.precondition import rule
from dcao_client.spectrum.torch.problem import Alone, Collective, Loss, Problem, total_examples
from dcao_client.spectrum.torch.sharded import UnevenRanksError, is_sharded, local, need_all
from dcao_client.spectrum.torch.writes import Writes

T = TypeVar("T")
MADE_BY, VERSION = "Probe.state_dict()", 1
log = logging.getLogger("dcao")


class Probe:
    """Measures the top of a model's loss curvature and leaves no trace.

    Not thread-safe: call it between optimizer steps, on the thread that trains. With several ranks every
    rank calls it, at the same step; all get the same numbers.

    >>> net = nn.Linear(2, 1, bias=False)
    >>> probe = Probe(net, lambda m, b: (m(b[0]) - b[1]).square().mean())
    >>> x = torch.eye(2) * torch.tensor([2.0, 1.0])
    >>> s = probe.measure((x, torch.zeros(2, 1)))
    >>> s.status, round(s.rho, 2), round(s.gamma, 2)
    ('ok', 4.0, 3.0)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Loss,
        *,
        optimizer: torch.optim.Optimizer | None = None,
        settings: ProbeSettings | None = None,
        collective: Collective | None = None,
    ) -> None:
        """Attach to a model.

        Args:
            model: as trained; DistributedDataParallel and torch.compile wrappers are looked through. With
                DistributedDataParallel this is a collective call: it makes a process group for the probe.
            loss: ``loss(model, batch)`` ↦ the mean loss over the batch's examples, unscaled.
            optimizer: read (never written) for its second moment.
            settings: the numerical choices.
            collective: how ranks are summed over; found from the model when absent. ``Ranks(group, timeout)`` is what
                a sharded model needs.
        """
        self.settings = settings if settings is not None else ProbeSettings()
        self._collective: Collective = collective or Ranks.like(model, self.settings.timeout) or Alone()
        self.model, self.loss, self.optimizer = unwrap(model), loss, optimizer
        self.choice = Choice()
        self._probes = 0
        self._multiple = False  # whether the last measurement that looked saw one
        self._warm: tuple[Tensor, ...] = ()
        self._of: tuple[str, ...] | None = None  # the names of what the last vectors are of
        self._guess: float | None = None
        self._writes = Writes()
        self.failures = 0
        self._named: set[str | None] = set()

    def join(self, collective: Collective) -> None:
        """Measures together with these ranks from now on: for a model that was wrapped after the probe was made."""
        self._collective = collective

    @property
    def preconditioned(self) -> bool:
        """Whether rho and gamma will be those of P^-½HP^-½."""
        return self.settings.preconditioned and rule(self.optimizer) is not None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """What the curvature is of: the parameters that the optimizer moves now, all trainable ones without it."""
        return moved(self.model, self.optimizer, own_modules(self.model, reached(self.model, self.loss)))

    def examples(self, batch: Any) -> int:
        """How many the batch holds, or several together."""
        return sum((self.settings.examples or count_examples)(one) for one in parts(batch))

    def measured_examples(self, examples: int, share: float, *, roughly: bool = False) -> int | None:
        """How many of them to measure where ``share`` is enough, or λ₁ to a factor of 1.5; None: all."""
        return measured_examples(self.model, examples, share, roughly=roughly)

    def measure(self, batch: Any, *, direction: Sequence[Tensor] | None = None, groups: bool = False) -> Spectrum:
        """Measure on one batch, or on several together (``MicroBatches``; a plain list is one batch).

        Whatever the loss or the model raises is the status "unavailable", named in ``detail`` and counted in
        ``failures``, after everything is restored; with ``ProbeSettings(strict=True)`` it is raised.

        Args:
            batch: what ``loss`` takes.
            direction: an update, one tensor per trainable parameter, along which slope and curvature are wanted.
            groups: the same also per parameter group of the optimizer (one product each).
        """
        every = trainable(self.model)

        def ask(problem: Problem, real: Sequence[nn.Parameter]) -> Spectrum:
            along = None if direction is None else Along(of_moved(real, every, direction), groups, self.optimizer)
            return self._measured(problem, self._question(real, along), measure)

        found = self._tried(batch, ask)
        self._probes += 1
        return found

    def sharpness(self, batch: Any, *, matvecs: int = 3) -> Spectrum:
        """λ₁ alone, from ``matvecs`` products that go on from the last top vectors; there is no ``gamma``.

        Four gradients with differences instead of ten for a solve, and a few percent below λ₁ along a training. Up to
        eight products where there is no vector yet, or where its residual shows that it is no start any more.

        Raises:
            ValueError: ``matvecs`` is not positive.
        """
        if matvecs < 1:
            raise ValueError(f"expected at least one product; got matvecs={matvecs}")
        ask: Ask = functools.partial(sharpness, matvecs=matvecs)
        return self._tried(batch, lambda problem, real: self._measured(problem, self._question(real), ask))

    def track(self, batch: Any) -> Spectrum:
        """One product: the Rayleigh quotient of the last top vector, a lower bound of λ₁ on this batch.

        Two to four gradients instead of a solve. Only ``rho`` (no gamma, no bound), loss and grad_norm are
        filled; status is "unavailable" before the first ``measure``.
        """
        return self._tried(batch, self._tracked)

    @property
    def top_vector(self) -> Tensor | None:
        """The last top eigenvector, bfloat16, of unit length; in the scaled coordinates when preconditioned."""
        return self._warm[0] if self._warm else None

    def analyse(self, batch: Any, use: Callable[[Curvature], T]) -> T:
        """Hand the raw curvature operator of a batch to ``use``: for offline questions (trace, density).

        The operator must not be kept: its graph is dropped on return.
        """
        found: list[T] = []

        def with_operator(problem: Problem, _: Sequence[nn.Parameter]) -> Spectrum:
            operator = operator_for(problem, self.settings, self.choice)
            try:
                found.append(use(operator))
            finally:
                operator.close()
            return Spectrum("ok")

        self._with_problem(batch, with_operator)
        return found[0]

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to measure exactly the same numbers (per rank when the model is sharded)."""
        return {
            "version": VERSION,
            "probes": self._probes,
            "warm": [v.clone() for v in self._warm],
            "choice": self.choice.state_dict(),
            "guess": self._guess,
            "of": self._of,
            "multiple": self._multiple,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state_dict()``.

        Raises:
            CheckpointError: the state is of another version or of another model, or none of a probe.
        """
        check_version(state, VERSION, MADE_BY)
        check_keys(state, ("version", "probes", "warm"), MADE_BY)
        with reading(MADE_BY, state):
            self._load(state)

    def _load(self, state: dict[str, Any]) -> None:
        # With an optimizer a group may still be added; vectors that do not fit then are dropped.
        known = self.optimizer is None and not is_lazy(self.model)
        size = Layout([local(p) for p in self.parameters]).size if known else None
        other = [v.numel() for v in state["warm"] if size not in (None, v.numel())]
        if other:
            raise ValueError(f"expected warm vectors of length {size}, the trainable parameters; got {other[0]}")
        choice = Choice.from_state(state["choice"])
        self._warm = tuple(v.clone() for v in state["warm"])
        self._probes, self.choice, self._guess = int(state["probes"]), choice, state["guess"]
        self._multiple = bool(state["multiple"])
        self._of = None if state.get("of") is None else tuple(state["of"])

    def _tried(self, batch: Any, use: Callable[[Problem, Sequence[nn.Parameter]], Spectrum]) -> Spectrum:
        """The spectrum, or what was in its way as a value."""
        began = time.perf_counter()
        try:
            found = self._with_problem(batch, use)
        except (UnavailableError, RanksLostError, UnevenRanksError) as error:
            found = Spectrum("unavailable", detail=str(error))
        except Exception as error:
            if self.settings.strict:
                raise
            found = Spectrum("unavailable", detail=what_failed(error, batch))
        if found.status == "unavailable":
            self.failures += 1
            if found.detail not in self._named:
                self._named.add(found.detail)
                log.warning("dcao: no curvature at this probe, training goes on: %s", found.detail)
        return replace(found, seconds=time.perf_counter() - began)

    def _with_problem(self, batch: Any, use: Callable[[Problem, Sequence[nn.Parameter]], Spectrum]) -> Spectrum:
        """Borrow the model, pose the problem, use it, give the model back."""
        batches = with_examples(batch, self.settings.examples or count_examples, self.settings.probe_batch)
        if is_lazy(self.model):
            raise UnavailableError("a lazy layer of the model has no shape before the model's first forward")
        found = reached(self.model, self.loss)
        others = own_modules(self.model, found)
        real = moved(self.model, self.optimizer, others)
        sharded, names = is_sharded(real), names_of(self.model, real, others)
        layout = Layout([local(p) for p in real])
        self._fit(names, layout.size)
        counter: Callable[[Any], int] = self.settings.examples or count_examples
        counts = [counter(one) for one in batches]
        examples = total_examples(sum(counts), layout, self._collective)
        need_all(len(batches), layout.device, self._collective, sharded=sharded)
        generators = [*(g for g in found if not isinstance(g, nn.Module)), *self.settings.generators]
        own: dict[str, Any] = {"generators": generators, "others": others, "writes": self._writes}
        with isolated(self.model, aliases=not sharded, parameters=real, **own) as aliases:
            weights = [count / examples for count in counts]
            told = (aliases, layout, self._collective, self.settings.seed, generators)
            problem = Problem(self.model, self.loss, batches, weights, *told)
            answer = use(problem, real)
            named = self._fingerprint(layout, examples, names)
            return replace(answer, examples=examples, fingerprint=named)

    def _fit(self, names: tuple[str, ...], size: int) -> None:
        """Forget vectors and step lengths of other parameters: a group was added, a layer frozen or replaced."""
        if self._of not in (None, names) or any(vector.numel() != size for vector in self._warm):
            self._warm, self.choice = (), Choice()
        self._of = names

    def _measured(self, problem: Problem, question: Question, ask: Ask) -> Spectrum:
        if self.settings.matvec == "critical":
            found = critical_along_gradient(problem, self._guess)
            self._guess = self._guess if found is None or found[2].step is None else found[2].step
            return critical(found)
        answer = answered(problem, question, ask, self.choice)
        if answer is None:
            # The loss became too rough for differences since they were tried: measure exactly, try again next time.
            self.choice = Choice()
            answer = asked(DoubleBackward(problem, keep=keep_graph(problem, self.settings)), question, ask)
        if ask is measure and question.multiples:
            self._multiple = answer.multiple
        vectors = tuple(v.to(torch.bfloat16) for v in answer.vectors[: kept(self.settings, problem.layout.size)])
        if vectors:
            self._warm = vectors + self._warm[len(vectors) :]
        return answer.spectrum

    def _question(self, real: Sequence[nn.Parameter], along: Along | None = None) -> Question:
        seed = self.settings.seed * 1_000_003 + self._probes
        optimizer = self.optimizer if self.preconditioned else None
        told = question(self.settings, real, optimizer, self._warm, seed, self._collective, along)
        return replace(told, multiples=self._multiple or self._probes % LOOK_EVERY == 0)

    def _tracked(self, problem: Problem, real: Sequence[nn.Parameter]) -> Spectrum:
        if not self._warm:
            return Spectrum("unavailable", detail="there is no vector to track before the first measurement")
        operator = operator_for(problem, self.settings, self.choice)
        try:
            return track(operator, self._question(real))
        finally:
            operator.close()

    def _fingerprint(self, layout: Layout, examples: int, names: tuple[str, ...]) -> str:
        kind = self.settings.matvec if self.settings.matvec != "auto" else self.choice.kind
        return fingerprint(
            mode_of(self.model),
            policy=self.settings.batch_policy,
            examples=examples,
            dtype=",".join(sorted({str(d) for d in layout.dtypes})),
            matrix=matrix_of(kind or "double_backward"),
            preconditioned=self.preconditioned,
            parameters=names,
        )
