"""The host's side of a JAX training under control: what a decision is written into, and who measures and asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from dcao_client.hooks.assembly import assemble, probe_settings
from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.disabled import Disabled
from dcao_client.hooks.jax_path import Said
from dcao_client.hooks.quiet import never_raises
from dcao_client.once import Once
from dcao_client.settings import HookSettings
from dcao_client.spectrum.jax.operator import Loss
from dcao_client.spectrum.jax.probe import Probe
from dcao_client.spectrum.settings import ProbeSettings
from dcao_proto import Decision, Hyperparameters, RunSpec
from dcao_proto import Path as WayCome


class Standing(NamedTuple):
    """Where an optimizer's state says that the run stands."""

    steps: int
    base: Hyperparameters
    applied: Hyperparameters | None
    path: WayCome | None


class Steers:
    """Reads a state's arrays when it is time to, and says what is to be written into them.

    Args:
        read: the standing of a state, from the host's copy of its numbers.
        scaling: P^-½ of a state, as a function of the measured operator; None where the raw curvature counts.
        first: r/√G before the first step, from λ₁.
        said: what stands in the state before the first decision.
    """

    def __init__(
        self,
        read: Callable[[Any], Standing],
        scaling: Callable[[Any], Any] | None,
        first: Callable[[float], float],
        said: Said,
    ) -> None:
        self._read, self._scaling, self._first = read, scaling, first
        self._said = said
        self._written: Said | None = said
        self._probe: Probe | None = None
        self._state: Any = None
        self._read_now = True
        self._standing = Standing(0, Hyperparameters(lr=0.0, momentum=0.0, weight_decay=0.0), None, None)
        self.steps = 0
        self.once, self.strict = Once(), False

    def measured_by(self, probe: Probe) -> None:
        """This is who measures at the parameters that `at` is told."""
        self._probe = probe

    @never_raises
    def step(self, control: Attachment, state: Any, params: Any, batch: Any) -> Any:
        """Measures and decides if it is time to; the state to go on with."""
        self.at(state, params)
        try:
            control.step(batch)
            return self.write(state)
        finally:
            self.leave()

    def at(self, state: Any, params: Any) -> None:
        """The run stands here, before an update."""
        self._state, self._read_now = state, False
        if self._probe is not None:
            scaling = None if self._scaling is None else self._scaling(state)
            self._probe.at(params, scaling)

    def leave(self) -> None:
        """Lets go of what would keep the arrays alive."""
        self._state = None
        if self._probe is not None:
            self._probe.at(None)

    def write(self, state: Any) -> Any:
        """The state with what was decided in it; itself where nothing is new. Keeps every array where it was."""
        new = self._said
        if new == self._written:
            return state
        self._written = new
        return state._replace(said=Said(*(_like(a, b) for a, b in zip(state.said, new, strict=True))))

    # -- what an attachment controls ----------------------------------------------------------------------------------

    @property
    def applied(self) -> Hyperparameters | None:
        """What the update before the last look at the state used."""
        return self._stands().applied

    def base(self) -> Hyperparameters:
        """What would be used without us."""
        return self._stands().base

    def path(self) -> WayCome | None:
        """How far the run has come."""
        return self._stands().path

    def _stands(self) -> Standing:
        if self._state is not None and not self._read_now:
            self._standing, self._read_now = self._read(self._state), True
        return self._standing

    def measured(self, rho: float | None) -> None:
        """The first curvature says how far the first step goes."""
        if rho is not None and rho > 0 and self._stands().steps == 0:
            self._said = self._said._replace(first=self._first(rho))

    def set(self, decision: Decision) -> None:
        """Uses a decision from the next update on."""
        by = decision.multipliers
        ceiling = float("inf") if decision.ceiling is None else decision.ceiling
        self._said = Said(by.lr, ceiling, by.momentum, by.weight_decay, self._said.first, 1.0)

    def remove(self) -> None:
        """Nothing: the state goes on with the last decision."""

    def checkpoint(self) -> dict[str, Any]:
        """What is not in the optimizer's state."""
        return {"steps": self.steps, "said": [float(value) for value in self._said]}

    def resume(self, state: dict[str, Any]) -> None:
        """Goes on from a checkpoint."""
        self.steps, self._said = int(state["steps"]), Said(*state["said"])
        self._written = None  # the state that comes next may be of any age


def attachment(
    loss: Loss,
    steers: Steers,
    spec: RunSpec,
    *,
    run: str | None = None,
    project: str | None = None,
    url: str | None = None,
    overhead: float | None = 0.05,
    probe_data: Any = None,
    probe: ProbeSettings | None = None,
    deadline: float | None = None,
    journal_dir: Path | str | None = None,
    strict: bool = False,
    stretch: bool = False,
) -> Attachment:
    """Probe, session and cadence around a state: what `attach` takes beside policy and trust.

    Raises:
        ValueError: there are several processes.
    """
    if not HookSettings.read().enabled:
        return Disabled(steers)
    if jax.process_count() > 1:
        raise ValueError(
            f"expected one process, with as many devices as it has; got {jax.process_count()}, each of which would be "
            "a run of its own; set DCAO_ENABLED=0 on all of them"
        )
    steers.strict = strict
    probing = Probe(loss, settings=probe_settings(probe, probe_data))
    steers.measured_by(probing)
    return assemble(
        probing, steers, spec,
        run=run, project=project, url=url, overhead=overhead, probe_data=probe_data, deadline=deadline,
        journal_dir=journal_dir, strict=strict, stretch=stretch, counted=False,
    )  # fmt: skip


def _like(old: Any, value: float) -> Any:
    """A number where the array was: another place would be compiled for again."""
    new = np.asarray(value, np.float32)
    return jax.device_put(new, old.sharding) if getattr(old, "committed", False) else jnp.asarray(new)
