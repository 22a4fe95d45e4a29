"""`attach`: DCAO in a plain torch training loop."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from dcao_client.hooks.observe import to_observation
from dcao_client.hooks.param_groups import ParamGroups, optimizer_name
from dcao_client.hooks.ranks import broadcast, is_talker
from dcao_client.session import Session
from dcao_client.spectrum import Probe, ProbeSettings, Spectrum
from dcao_proto import Bounds, Decision, Hyperparameters, PolicyChoice, RunSpec

Loss = Callable[[nn.Module, Any], Tensor]


class Attachment:
    """A model and an optimizer under control. Made by `attach`; call `step(batch)` before each optimizer step.

    Attributes:
        decision: the newest decision, None before the first.
        spectrum: the newest measurement, None before the first.
        applied: what the last update used.
        session: the talk with the controller; None on ranks other than 0.
    """

    def __init__(
        self, probe: Probe, groups: ParamGroups, session: Session | None, probe_data: Any
    ) -> None:
        self.decision: Decision | None = None
        self.spectrum: Spectrum | None = None
        self.session = session
        self.probe = probe
        self._groups = groups
        self._probe_data = probe_data
        self._next_probe = 0
        self._started = time.perf_counter()
        self._probe_seconds = 0.0

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
        if self.steps < self._next_probe:
            return None
        spectrum = self.probe.measure(batch if self._probe_data is None else self._probe_data)
        self._probe_seconds += spectrum.seconds
        decision = broadcast(self._decide(spectrum) if is_talker() else None)
        self.spectrum = spectrum
        if decision is not None:
            self.decision = decision
            self._groups.set(decision)
            self._next_probe = self.steps + decision.next_probe_in
        return decision

    def _decide(self, spectrum: Spectrum) -> Decision:
        assert self.session is not None  # noqa: S101  (rank 0 has one)
        elapsed = time.perf_counter() - self._started
        observation = to_observation(
            spectrum,
            step=self.steps,
            base=self._groups.base(),
            applied=self.applied,
            overhead=self._probe_seconds / elapsed if elapsed > 0 else None,
        )
        return self.session.decide(observation)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs beside the model and the optimizer, so that a resumed run goes on exactly."""
        return {
            "steps": self.steps,
            "next_probe": self._next_probe,
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
        self._next_probe = state["next_probe"]
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
        probe_interval: T_c, optimizer steps from one probe to the next.
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
    return Attachment(probing, groups, session, probe_data)
