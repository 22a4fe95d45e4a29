"""`attach`: DCAO in a plain torch training loop."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.cadence import Cadence
from dcao_client.hooks.observe import to_observation
from dcao_client.hooks.param_groups import ParamGroups, optimizer_name
from dcao_client.hooks.ranks import from_talker, is_talker
from dcao_client.session import Session
from dcao_client.spectrum import Probe, ProbeSettings, Spectrum
from dcao_client.spectrum.batches import count_examples
from dcao_proto import Bounds, Decision, Hyperparameters, PolicyChoice, RunSpec

Loss = Callable[[nn.Module, Any], Tensor]


class Attachment:
    """A model and an optimizer under control. Made by `attach`; call `step(batch)` before each optimizer step.

    Attributes:
        decision: the newest decision, None before the first.
        spectrum: the newest measurement, None before the first.
        tracked: the newest Rayleigh quotient between measurements, a lower bound of ρ for one product; with a budget.
        applied: what the last update used.
        session: the talk with the controller; None on ranks other than 0.
    """

    def __init__(
        self, probe: Probe, groups: ParamGroups, session: Session | None, cadence: Cadence, probe_data: Any
    ) -> None:
        self.decision: Decision | None = None
        self.spectrum: Spectrum | None = None
        self.tracked: Spectrum | None = None
        self.session = session
        self.probe = probe
        self._groups = groups
        self._probe_data = probe_data
        self._cadence = cadence
        self._examples = 0  # of the largest batch so far

    @property
    def steps(self) -> int:
        """Optimizer steps taken since the run began, over all restarts."""
        return self._groups.steps

    @property
    def applied(self) -> Hyperparameters | None:
        """What the last update used; `param_groups` shows the base values between updates."""
        return self._groups.applied

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
        self.spectrum = self.probe.measure(measured)
        self.decision = from_talker(self._decide(self.spectrum) if self.session is not None else None)
        assert self.decision is not None  # noqa: S101  (rank 0 decides)
        self._groups.set(self.decision)
        self._cadence.probed(step, self.spectrum.seconds, action, self.decision.next_probe_in)
        return self.decision

    def _decide(self, spectrum: Spectrum) -> Decision:
        assert self.session is not None  # noqa: S101  (rank 0 has one)
        observation = to_observation(
            spectrum, step=self.steps, base=self._groups.base(), applied=self.applied, overhead=self._cadence.spent
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
        """With a budget and neither data nor size given: the part of a batch that can be paid at the interval."""
        settings, budget = self.probe.settings, self._cadence.budget
        if budget is None or settings.probe_batch is not None or self._probe_data is not None:
            return
        self.probe.settings = replace(settings, probe_batch=max(int(examples * budget.share()), 1))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model and the optimizer, so that a resumed run goes on exactly."""
        return {
            "steps": self.steps,
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
        self._groups.steps = state["steps"]
        self._cadence.load_state_dict(state["cadence"], state["steps"])
        self._examples = state["examples"]
        self.probe.settings = replace(self.probe.settings, probe_batch=state["probe_batch"])
        self.probe.load_state_dict(state["probe"])
        self.decision = None if state["decision"] is None else Decision.model_validate(state["decision"])
        if self.decision is not None:
            self._groups.set(self.decision)
        if self.session is not None and state["session"] is not None:
            self.session.load_state_dict(state["session"])

    def finish(self, reason: str | None = None) -> None:
        """The run ended well: tells the controller, takes the hooks off."""
        self._groups.remove()
        if self.session is not None:
            self.session.finish(reason)

    def fail(self, reason: str | None = None) -> None:
        """The run failed: tells the controller, takes the hooks off."""
        self._groups.remove()
        if self.session is not None:
            self.session.fail(reason)


def attach(
    model: nn.Module,
    optimizer: Optimizer,
    loss: Loss,
    *,
    run: str | None = None,
    project: str | None = None,
    url: str | None = None,
    policy: str | PolicyChoice = "default",
    policy_params: dict[str, Any] | None = None,
    bounds: Bounds | None = None,
    probe_interval: int = 100,
    overhead: float | None = 0.05,
    probe_data: Any = None,
    probe: ProbeSettings | None = None,
    labels: dict[str, str] | None = None,
    deadline: float | None = None,
    journal_dir: Path | str | None = None,
    strict: bool = False,
) -> Attachment:
    """Puts a training loop under control.

    Args:
        model: any module; wrappers of DDP and `torch.compile` are looked through.
        optimizer: any of torch.optim; its hooks are used, its values stay the user's between updates.
        loss: `loss(model, batch)`, the mean loss of a batch as a scalar tensor.
        run, project, url, deadline, journal_dir: see `Session`; from the environment if absent.
        policy: name of the law, or name and parameters.
        policy_params: parameters of the law that differ from its defaults.
        bounds: how far the values may be moved from their base.
        probe_interval: T_c, optimizer steps from one probe to the next, or more if the budget says so.
        overhead: largest share of wall-clock time that probes may take. It may stretch the interval, and chooses the
            part of a batch that is measured. None keeps interval and batch whatever they cost: which steps are probed
            then does not depend on a clock, and a run repeats bit for bit.
        probe_data: one fixed batch to measure on; this step's batch if absent, as the proposal has it.
        probe: numerical choices of the probe.
        labels: to find the run by.
        strict: raise instead of falling back; for tests.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(2, 1)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        >>> mse = lambda model, batch: torch.nn.functional.mse_loss(model(batch[0]), batch[1])
        >>> dcao = attach(model, optimizer, mse, run="doctest", journal_dir="/dev/null/nowhere")
        >>> batch = torch.ones(4, 2), torch.zeros(4, 1)
        >>> dcao.step(batch).regime
        'stable'
        >>> mse(model, batch).backward(); optimizer.step(); dcao.finish()
    """
    settings = probe or ProbeSettings(batch_policy="current" if probe_data is None else "fixed")
    bounds = bounds or Bounds()
    groups = ParamGroups(optimizer, max_momentum=bounds.max_momentum)
    spec = RunSpec(
        optimizer=optimizer_name(optimizer),
        base=groups.base(),
        policy=policy if isinstance(policy, PolicyChoice) else PolicyChoice(name=policy, params=policy_params or {}),
        bounds=bounds,
        probe_interval=probe_interval,
        labels=labels or {},
    )
    session = None
    if is_talker():
        session = Session(
            spec, run=run, project=project, url=url, deadline=deadline, journal_dir=journal_dir, strict=strict
        )
    probing = Probe(model, loss, optimizer=optimizer, settings=settings)
    return Attachment(probing, groups, session, Cadence(probe_interval, overhead), probe_data)
