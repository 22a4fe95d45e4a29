"""`attach`: DCAO in a plain torch training loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.cadence import Cadence
from dcao_client.hooks.observe import to_observation
from dcao_client.hooks.param_groups import ParamGroups, optimizer_name
from dcao_client.hooks.ranks import from_talker, is_talker
from dcao_client.hooks.rollback import LastGood, go_back
from dcao_client.session import Session
from dcao_client.spectrum import Probe, ProbeSettings, Spectrum
from dcao_client.spectrum.batches import count_examples, measured_examples
from dcao_client.spectrum.budget import Action
from dcao_client.spectrum.problem import Collective
from dcao_proto import Bounds, Decision, Hyperparameters, PolicyChoice, RunSpec
from dcao_proto import Path as WayCome
from dcao_proto.policy import get_policy
from dcao_proto.run import Trust

Loss = Callable[[nn.Module, Any], Tensor]


class Controlled(Protocol):
    """What a decision is written into: a user's optimizer through its groups, or one of our own."""

    steps: int
    applied: Hyperparameters | None

    def base(self) -> Hyperparameters:
        """What would be used without us, now."""
        ...

    def path(self) -> WayCome | None:
        """How far the run has come; None where nothing follows it."""
        ...

    def measured(self, rho: float | None) -> None:
        """A curvature was measured, None if it could not be."""
        ...

    def set(self, decision: Decision) -> None:
        """Uses a decision from the next update on."""
        ...

    def remove(self) -> None:
        """Lets go of the optimizer."""
        ...

    def checkpoint(self) -> dict[str, Any]:
        """What a checkpoint needs of it."""
        ...

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        ...


class Attachment:
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
        probe: Probe,
        controlled: Controlled,
        session: Session | None,
        cadence: Cadence,
        probe_data: Any,
        *,
        with_gap: bool = True,
        stretch: bool = False,
        rollback: Callable[[], Any] | None = None,
    ) -> None:
        self.decision: Decision | None = None
        self.spectrum: Spectrum | None = None
        self.tracked: Spectrum | None = None
        self.went_back = False
        self.session = session
        self.probe = probe
        self._controlled = controlled
        self._with_gap = with_gap
        self._stretch = stretch
        self._rollback = rollback
        self._probe_data = probe_data
        self._cadence = cadence
        self._examples = 0  # of the largest batch so far

    @property
    def steps(self) -> int:
        """Optimizer steps taken since the run began, over all restarts."""
        return self._controlled.steps

    @property
    def applied(self) -> Hyperparameters | None:
        """What the last update used; `param_groups` shows the base values between updates."""
        return self._controlled.applied

    def step(self, batch: Any = None) -> Decision | None:
        """Probes and decides if it is time to; otherwise costs a comparison.

        Call it before each `optimizer.step()`, for every micro-batch if gradients are accumulated: steps are counted
        by the optimizer, so only the first micro-batch after an update is measured.

        Args:
            batch: what the loss takes; not needed with `probe_data`.

        Returns:
            The decision made now, or None if it was not time.
        """
        step = self.steps
        action = self._cadence.due(step)
        if action == "none":
            return None
        measured = batch if self._probe_data is None else self._probe_data
        if action == "track":
            self.tracked = self.probe.track(measured)
            self._cadence.probed(step, self.tracked.seconds, action, 1)
            return None
        if self._is_ragged(measured):
            return None
        spectrum = self.probe.measure(measured) if self._with_gap else self.probe.sharpness(measured)
        return self._use(spectrum, step, action)

    def diverged(self, detail: str) -> Decision:
        """Says that training has diverged without measuring it, and does what is decided. A collective of all ranks."""
        return self._use(Spectrum("diverged", detail=detail), self.steps, "measure")

    def _use(self, spectrum: Spectrum, step: int, action: Action) -> Decision:
        self.spectrum = spectrum
        self._controlled.measured(self.spectrum.rho)
        self.decision = from_talker(self._decide(self.spectrum) if self.session is not None else None)
        assert self.decision is not None  # noqa: S101  (rank 0 decides)
        self._controlled.set(self.decision)
        self._cadence.probed(step, self.spectrum.seconds, action, self._next_in(step, self.decision))
        self._keep_or_go_back(step, self.decision)
        return self.decision

    def _keep_or_go_back(self, step: int, decision: Decision) -> None:
        """Does what `rollback` was given for."""
        self.went_back = False
        if self._rollback is not None and decision.action != "continue":
            self.went_back = go_back(self._rollback)
            if self.went_back:
                self._cadence.measure_at(self.steps)
        elif isinstance(self._rollback, LastGood) and decision.regime not in ("held", "pending"):
            self._rollback.healthy(step)

    def _next_in(self, step: int, decision: Decision) -> int:
        """As decided; longer in proportion where a small batch is measured whole and nobody set the interval."""
        wanted = self.probe.settings.probe_batch
        if not self._stretch or step < PATH_INTERVAL or not self._examples:
            return decision.next_probe_in
        share = min(wanted or self._examples, self._examples) / self._examples
        return int(decision.next_probe_in * max(share / SHARPNESS_SHARE, 1.0))

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

    def _is_ragged(self, batch: Any) -> bool:
        """Whether the batch is smaller than those measured so far, as the last of an epoch is.

        Its curvature would carry another fingerprint and start the references anew; the next step's batch will do.
        """
        count = self.probe.settings.examples or count_examples
        examples = sum(count(part) for part in (batch if isinstance(batch, list) else [batch]))
        self._choose_probe_batch(examples)
        wanted = self.probe.settings.probe_batch
        enough = self._examples if wanted is None or isinstance(batch, list) else min(wanted, self._examples)
        self._examples = max(self._examples, examples)
        return from_talker(examples < enough)

    def _choose_probe_batch(self, examples: int) -> None:
        """Where neither data nor size is given: a quarter for the sharpness alone, else what the budget can pay."""
        settings, budget = self.probe.settings, self._cadence.budget
        if settings.probe_batch is not None or self._probe_data is not None:
            return
        share = (1.0 if budget is None else budget.share()) if self._with_gap else SHARPNESS_SHARE
        wanted = measured_examples(self.probe.model, examples, share)
        if wanted is not None:
            self.probe.settings = replace(settings, probe_batch=wanted)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model and the optimizer, so that a resumed run goes on exactly."""
        return {
            "controlled": self._controlled.checkpoint(),
            "cadence": self._cadence.state_dict(),
            "probe_batch": self.probe.settings.probe_batch,
            "examples": self._examples,
            "decision": None if self.decision is None else self.decision.wire(),
            "probe": self.probe.state_dict(),
            "session": None if self.session is None else self.session.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint, in any order with the optimizer's `load_state_dict`.

        Raises:
            DcaoError: the checkpoint is of another run or specification.
        """
        self._controlled.resume(state["controlled"])
        self._cadence.load_state_dict(state["cadence"], self.steps)
        self._examples = state["examples"]
        self.probe.settings = replace(self.probe.settings, probe_batch=state["probe_batch"])
        self.probe.load_state_dict(state["probe"])
        self.decision = None if state["decision"] is None else Decision.model_validate(state["decision"])
        if self.decision is not None:
            self._controlled.set(self.decision)
        if self.session is not None and state["session"] is not None:
            self.session.load_state_dict(state["session"])

    def finish(self, reason: str | None = None) -> None:
        """The run ended well: tells the controller, takes the hooks off."""
        self._controlled.remove()
        if self.session is not None:
            self.session.finish(reason)

    def fail(self, reason: str | None = None) -> None:
        """The run failed: tells the controller, takes the hooks off."""
        self._controlled.remove()
        if self.session is not None:
            self.session.fail(reason)


def attach(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    *,
    trust: Trust | None = None,
    run: str | None = None,
    project: str | None = None,
    url: str | None = None,
    policy: str | PolicyChoice = "default",
    policy_params: dict[str, Any] | None = None,
    bounds: Bounds | None = None,
    probe_interval: int | None = None,
    overhead: float | None = 0.05,
    probe_data: Any = None,
    probe: ProbeSettings | None = None,
    collective: Collective | None = None,
    labels: dict[str, str] | None = None,
    deadline: float | None = None,
    journal_dir: Path | str | None = None,
    strict: bool = False,
    rollback: bool | Callable[[], Any] = False,
) -> Attachment:
    """Puts a training loop under control.

    Args:
        model: any module; wrappers of DDP and `torch.compile` are looked through.
        optimizer: any of torch.optim; its hooks are used, its values stay the user's between updates.
        loss: `loss(model, batch)`, the mean loss of a batch as a scalar tensor.
        trust: how far DCAO may go under the policy `default`. "guard", unless set: the learning rate is never above
            what you or your scheduler say, and below it without a floor while the way come and the curvature do not
            support it. "auto": only the shape of your schedule is yours, its scale is found. "watch": nothing is
            changed. Other policies move the values within `bounds`.
        run, project, url, deadline, journal_dir: see `Session`; from the environment if absent.
        policy: name of the law, or name and parameters.
        policy_params: parameters of the law that differ from its defaults.
        bounds: how far the values may be moved from their base; from `trust` if absent.
        probe_interval: T_c, optimizer steps from one probe to the next, or more if the budget says so. Absent: 32 for
            laws that need the sharpness only (the first probes come at steps 0, 1, 2, 4, 8, 16), and more where a probe
            is more than a quarter of the batch; else 100.
        overhead: largest share of wall-clock time that probes may take. It may stretch the interval, and chooses the
            part of a batch that is measured. None keeps interval and batch whatever they cost: which steps are probed
            then does not depend on a clock, and a run repeats bit for bit.
        probe_data: one fixed batch to measure on; this step's batch if absent, as the proposal has it.
        probe: numerical choices of the probe.
        collective: how ranks are summed over; a sharded (FSDP2) model needs `Ranks(group, timeout)`.
        labels: to find the run by.
        strict: raise instead of falling back; for tests.
        rollback: what to do when a decision advises it, because the run has diverged. True: keep a healthy state in
            host memory every 250 steps and put it back; a function: call it, to load a checkpoint of yours.

    Raises:
        ValueError: `trust` and the optimizer do not go together; the message says what does.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> mse = lambda model, batch: torch.nn.functional.mse_loss(model(batch[0]), batch[1])
        >>> dcao = attach(model, optimizer, mse, run="doctest", journal_dir="/dev/null/nowhere")
        >>> batch = torch.ones(4, 2), torch.zeros(4, 1)
        >>> dcao.step(batch).regime
        'flat'
        >>> mse(model, batch).backward(); optimizer.step(); dcao.finish()
    """
    choice = policy if isinstance(policy, PolicyChoice) else PolicyChoice(name=policy, params=policy_params or {})
    follows = get_policy(choice.name).follows_path
    trust = _trust(trust, optimizer, choice.name, bounds, follows=follows)
    groups = ParamGroups(
        optimizer,
        max_momentum=(bounds or Bounds()).max_momentum,
        scale="path" if trust in ("guard", "auto") and follows else "user",
        guarded=trust == "guard",
    )
    interval = probe_interval or (PATH_INTERVAL if follows else 100)
    declared: dict[str, Any] = {
        "optimizer": optimizer_name(optimizer),
        "base": groups.user(),
        "policy": choice,
        "scale": groups.scale,
        "trust": trust,
        "probe_interval": interval,
        "labels": labels or {},
    }
    spec = RunSpec(**declared) if bounds is None else RunSpec(**declared, bounds=bounds)
    return control(
        model, optimizer, loss, groups, spec,
        run=run, project=project, url=url, overhead=overhead, probe_data=probe_data, probe=probe,
        collective=collective, deadline=deadline, journal_dir=journal_dir, strict=strict,
        stretch=follows and probe_interval is None, rollback=rollback,
    )  # fmt: skip


def control(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    controlled: Controlled,
    spec: RunSpec,
    *,
    run: str | None = None,
    project: str | None = None,
    url: str | None = None,
    overhead: float | None = 0.05,
    probe_data: Any = None,
    probe: ProbeSettings | None = None,
    collective: Collective | None = None,
    deadline: float | None = None,
    journal_dir: Path | str | None = None,
    strict: bool = False,
    stretch: bool = False,
    rollback: bool | Callable[[], Any] = False,
) -> Attachment:
    """Probe, session and cadence around what is controlled: the part that `attach` and our own optimizers share."""
    session = None
    if is_talker():
        session = Session(
            spec, run=run, project=project, url=url, deadline=deadline, journal_dir=journal_dir, strict=strict
        )
    settings = probe or ProbeSettings(batch_policy="current" if probe_data is None else "fixed")
    probing = Probe(model, loss, optimizer=optimizer, settings=settings, collective=collective)
    follows = get_policy(spec.policy.name).follows_path
    cadence = Cadence(spec.probe_interval, overhead, lent=WARM_UP_PROBES if follows else 0)
    back = (
        (LastGood(probing.model, optimizer, controlled) if rollback else None)
        if isinstance(rollback, bool)
        else rollback
    )
    return Attachment(
        probing, controlled, session, cadence, probe_data, with_gap=not follows, stretch=stretch, rollback=back
    )


SHARPNESS_SHARE = 0.25  # the full batch moves no result of a law that needs the sharpness only (docs/policies.md)
PATH_INTERVAL = 32  # with a quarter of the batch and three products a probe is about one gradient: 3 %
WARM_UP_PROBES = 7  # at 0, 1, 2, 4, 8, 16 and 32: lent, or the ceiling would come after the cliff


def _trust(
    wanted: Trust | None, optimizer: Optimizer, policy: str, bounds: Bounds | None, *, follows: bool
) -> Trust | None:
    """How far to go: as asked for, `guard` by default, None where a law moves within bounds of its own."""
    if wanted not in (None, "watch", "guard", "auto"):
        raise ValueError(f"expected trust 'watch', 'guard' or 'auto', got {wanted!r}")
    if not follows:
        if wanted == "auto":
            raise ValueError(
                f"expected trust 'auto' with the policy default, got it with '{policy}', which moves the learning rate "
                "within bounds of yours; leave trust out, or the policy"
            )
        return wanted
    if wanted == "auto" and optimizer_name(optimizer) == "other":
        raise ValueError(
            f"expected an optimizer whose edge of stability is known for trust 'auto', got {type(optimizer).__name__}; "
            "use trust='watch', or one of torch's SGD, Adam, AdamW, NAdam, RAdam, Adamax, RMSprop, Adagrad"
        )
    return wanted or ("guard" if bounds is None else None)
