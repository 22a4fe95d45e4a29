"""What `attach` gives back: probing, deciding and applying, step by step."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Self, runtime_checkable

from dcao_client.checkpoint import SessionState, check_keys, check_version, reading
from dcao_client.hooks.batch_part import BatchPart, Probes
from dcao_client.hooks.cadence import Cadence
from dcao_client.hooks.controlled import Controlled
from dcao_client.hooks.curves import Curves, curves
from dcao_client.hooks.go_back import go_back
from dcao_client.hooks.loop_order import LoopOrder
from dcao_client.hooks.observe import to_observation
from dcao_client.hooks.quiet import never_raises
from dcao_client.hooks.ranks import from_talker
from dcao_client.once import Once
from dcao_client.run_context import RunContext
from dcao_client.session import Session
from dcao_client.spectrum import Spectrum
from dcao_client.spectrum.budget import Action
from dcao_proto import Decision, Hyperparameters

log = logging.getLogger("dcao")

Loss = Callable[[Any, Any], Any]  # (model, batch) to the mean loss, a scalar

MADE_BY = "dcao.state_dict()"  # dcao: what `attach` gave back
VERSION = 1  # of a checkpoint


@runtime_checkable
class Keeps(Protocol):
    """A rollback that keeps states of its own."""

    def healthy(self, step: int) -> None: ...


class Attachment(RunContext):
    """A model and an optimizer under control. Made by `attach`; call `step(batch)` before each optimizer step.

    Attributes:
        decision: the newest decision, None before the first.
        spectrum: the newest measurement, None before the first.
        tracked: the newest Rayleigh quotient between measurements, a lower bound of ρ for one product; with a budget.
        applied: what the last update used.
        went_back: whether the last `step` put the run back to an earlier point; the gradients there are void.
        session: the talk with the controller; None on ranks other than 0.
    """

    def __init__(
        self,
        probe: Probes,
        controlled: Controlled,
        session: Session | None,
        cadence: Cadence,
        probe_data: Any,
        *,
        with_gap: bool = True,
        stretch: bool = False,
        rollback: Callable[[], Any] | None = None,
        counted: bool = True,
    ) -> None:
        self.decision: Decision | None = None
        self.spectrum: Spectrum | None = None
        self.tracked: Spectrum | None = None
        self.went_back = False
        self.session = session
        self.probe = probe
        self._controlled = controlled
        self._stretch = stretch
        self._rollback = rollback
        self._probe_data = probe_data
        self._cadence = cadence
        self._curves = Curves()
        self.once = Once()
        self.strict = probe.settings.strict or (session is not None and session.strict)
        self.order = LoopOrder(self.once, counted=counted)
        self._part = BatchPart(probe, cadence.budget, with_gap=with_gap, whole=self.brings_data)

    @property
    def brings_data(self) -> bool:
        """Whether `step` needs no batch, for `probe_data` is measured."""
        return self._probe_data is not None

    @property
    def steps(self) -> int:
        """Optimizer steps taken since the run began, over all restarts."""
        return self._controlled.steps

    @property
    def applied(self) -> Hyperparameters | None:
        """What the last update used; `param_groups` shows the base values between updates."""
        return self._controlled.applied

    @never_raises
    def step(self, batch: Any = None) -> Decision | None:
        """Probes and decides if it is time to; otherwise costs a comparison.

        Call it before each `optimizer.step()`, for every micro-batch if gradients are accumulated: steps are counted
        by the optimizer, so only the first micro-batch after an update is measured.

        Args:
            batch: what the loss takes; not needed with `probe_data`.

        Returns:
            The decision made now, or None if it was not time.
        """
        self.order.asked()
        step = self.steps
        action = self._cadence.due(step)
        if action == "none":
            return None
        measured = batch if self._probe_data is None else self._probe_data
        if action == "track":
            self.tracked = self.probe.track(measured)
            self._cadence.probed(step, self.tracked.seconds, action, 1)
            return None
        if self._part.is_ragged(measured):
            return None
        return self._use(self._part.measured(measured), step, action)

    def measure_over(self, collective: Any) -> None:
        """Measures together with these ranks from now on."""
        self.probe.join(collective)

    def diverged(self, detail: str) -> Decision | None:
        """Says that training has diverged without measuring it, and does what is decided. A collective of all ranks."""
        return self._use(Spectrum("diverged", detail=detail), self.steps, "measure")

    def _use(self, spectrum: Spectrum, step: int, action: Action) -> Decision:
        self.spectrum = spectrum
        self._controlled.measured(self.spectrum.rho)
        self.decision = from_talker(self._decide(self.spectrum) if self.session is not None else None)
        assert self.decision is not None  # noqa: S101  (rank 0 decides)
        self._controlled.set(self.decision)
        self._cadence.probed(step, self.spectrum.seconds, action, self._next_in(step, spectrum))
        self._keep_or_go_back(step, self.decision)
        self._curves.write(curves(spectrum, self.decision), step)
        return self.decision

    @never_raises
    def log(self, values: Mapping[str, Any] | None = None, /, **named: Any) -> None:
        """Numbers of your own, `log(val_accuracy=0.93)` say, kept in the history by rank 0; see `Session.log`."""
        if self.session is not None:
            self.session.log(values, **named)

    def log_to(self, *targets: Any) -> Self:
        """Every measurement and decision goes there too, at its optimizer step, from rank 0.

        Args:
            targets: TensorBoard `SummaryWriter`s, the `mlflow` module, `wandb` runs, `aim.Run`s, Lightning loggers,
                transformers `Trainer`s, or `function(metrics, step)`.

        Raises:
            TypeError: one is none of these.
        """
        self._curves.add(*targets)
        return self

    def log_applied(self) -> None:
        """What the last update used goes there; for loops that log each step, or every tenth."""
        if self.applied is not None:
            self._curves.write({"dcao/lr": self.applied.lr, "dcao/momentum": self.applied.momentum}, self.steps - 1)

    def _keep_or_go_back(self, step: int, decision: Decision) -> None:
        """Does what `rollback` was given for."""
        self.went_back = False
        if self._rollback is not None and decision.action != "continue":
            self.went_back = go_back(self._rollback)
            if self.went_back:
                # A session that did not go back answers a step that it has decided with what it decided then, before
                # the divergence: until the first that is new, the answer with half the push holds.
                due = step + 1 if isinstance(self._rollback, Keeps) else self.steps
                self._cadence.measure_at(due, self.steps)
        elif isinstance(self._rollback, Keeps) and decision.regime not in ("held", "pending"):
            self._rollback.healthy(step)

    def _next_in(self, step: int, spectrum: Spectrum) -> int:
        """As decided; later where a probe is dear and nobody set the interval. Rank 0's answer: batches may differ."""
        assert self.decision is not None  # noqa: S101  (the caller made it)
        wait = self.decision.next_probe_in
        return from_talker(self._part.next_in(step, wait, spectrum.matvecs)) if self._stretch else wait

    def _decide(self, spectrum: Spectrum) -> Decision:
        assert self.session is not None  # noqa: S101  (rank 0 has one)
        observation = to_observation(
            spectrum,
            step=self.steps,
            base=self._controlled.base(),
            applied=self.applied,
            overhead=self._cadence.spent,
            path=self._controlled.path(),
        )
        return self.session.decide(observation)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model and the optimizer, so that a resumed run goes on exactly."""
        return {
            "version": VERSION,
            "controlled": self._controlled.checkpoint(),
            "cadence": self._cadence.state_dict(),
            **self._part.state_dict(),
            "decision": None if self.decision is None else self.decision.wire(),
            "probe": self.probe.state_dict(),
            "session": None if self.session is None else self.session.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint, in any order with the optimizer's `load_state_dict`.

        Raises:
            DcaoError: the checkpoint is of another run or specification.
            CheckpointError: it is none of an attachment, or not whole.
        """
        check_version(state, VERSION, MADE_BY)
        check_keys(state, ("controlled",), MADE_BY)
        off = "cadence" not in state and set(state) <= {"version", "controlled"}
        if not off:
            check_keys(
                state, ("cadence", "probe_batch", "examples", "gradients", "decision", "probe", "session"), MADE_BY
            )
        with reading(MADE_BY, state):
            if state["controlled"] is not None:
                self._controlled.resume(state["controlled"])
            if not off:
                self._resume(state)
        if off:
            log.warning("DCAO: the checkpoint is of a run with DCAO_ENABLED=0; curvature and decisions start afresh")

    def _resume(self, state: dict[str, Any]) -> None:
        decision = None if state["decision"] is None else Decision.model_validate(state["decision"])
        if state["session"] is not None:
            SessionState.read(state["session"])  # before anything is taken
        self._cadence.load_state_dict(state["cadence"], self.steps)
        self._part.load_state_dict(state)
        self.probe.load_state_dict(state["probe"])
        self.decision = decision
        if decision is not None:
            self._controlled.set(decision)
        # One's own state is no restart: Accelerate loads an optimizer's into itself.
        if self.session is not None and state["session"] not in (None, self.session.state_dict()):
            self.session.load_state_dict(state["session"])

    def replaced(self) -> None:
        """Another takes the optimizer over: the hooks come off; the run stays open, for it may be the same."""
        self._controlled.remove()
        if self.session is not None:
            self.session.close()

    def finish(self, reason: str | None = None) -> bool:
        """The run ended well: tells the controller, takes the hooks off.

        Returns:
            Whether the controller has every decision and knows of the end; True without a controller.
        """
        self._controlled.remove()
        if self.session is None:
            return True
        self.order.ended()
        return self.session.finish(reason, step=self.steps)

    def fail(self, reason: str | None = None) -> bool:
        """The run failed: tells the controller, takes the hooks off; otherwise like `finish`."""
        self._controlled.remove()
        return self.session is None or self.session.fail(reason, step=self.steps)
