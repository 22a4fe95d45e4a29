"""`attach`: DCAO in a plain torch training loop."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim import LBFGS, Optimizer

from dcao_client.hooks.assembly import assemble, probe_settings
from dcao_client.hooks.attachment import Attachment, Loss
from dcao_client.hooks.controlled import Controlled
from dcao_client.hooks.dear_probes import PATH_INTERVAL
from dcao_client.hooks.disabled import Disabled
from dcao_client.hooks.given import check_bounds, check_loss, check_model, check_optimizer, read_labels
from dcao_client.hooks.param_groups import ParamGroups, optimizer_name
from dcao_client.hooks.rollback import LastGood
from dcao_client.hooks.trust import how_far
from dcao_client.settings import HookSettings
from dcao_client.spectrum import Probe, ProbeSettings
from dcao_client.spectrum.torch.problem import Collective
from dcao_proto import Bounds, PolicyChoice, RunSpec
from dcao_proto.policy import get_policy
from dcao_proto.run import Trust

log = logging.getLogger("dcao")

ATTACHED = "_dcao_attachment"  # on the optimizer, for the next `attach`; torch neither saves nor copies it


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
    labels: Mapping[str, str | float] | None = None,
    deadline: float | None = None,
    journal_dir: Path | str | None = None,
    strict: bool = False,
    rollback: bool | Callable[[], Any] = False,
) -> Attachment:
    """Puts a training loop under control; does nothing where `DCAO_ENABLED=0`.

    Args:
        model: any module; wrappers of DDP and `torch.compile` are looked through.
        optimizer: any of torch.optim; its hooks are used, its values stay the user's between updates.
        loss: `loss(model, batch)`, the mean loss of a batch as a scalar tensor.
        trust: how far DCAO may go under the policy `default`. "guard", unless set: the learning rate is never above
            what you or your scheduler say, and below it without a floor while the way come and the curvature do not
            support it. "auto": only the shape of your schedule is yours, its scale is found. "watch": nothing is
            changed. Other policies move the values within `bounds`. From `DCAO_TRUST` if absent.
        run, project, url, deadline, journal_dir: see `Session`; from the environment if absent.
        policy: name of the law, or name and parameters.
        policy_params: parameters of the law that differ from its defaults.
        bounds: how far the values may be moved from their base; from `trust` if absent.
        probe_interval: T_c, optimizer steps from one probe to the next, or more if the budget says so. Absent: 32 for
            laws that need the sharpness only (the first probes come at steps 0, 1, 2, 4, 8, 16), and more where a probe
            is more than a quarter of the batch (0, 1, 4, 16, then as 5 % of the gradients pay for it); else 100.
        overhead: largest share of wall-clock time that probes may take. It may stretch the interval, and chooses the
            part of a batch that is measured. None keeps interval and batch whatever they cost: which steps are probed
            then does not depend on a clock, and a run repeats bit for bit.
        probe_data: one fixed batch to measure on; this step's batch if absent, as the proposal has it.
        probe: numerical choices of the probe.
        collective: how ranks are summed over; a sharded (FSDP2) model needs `Ranks(group, timeout)`.
        labels: to find the run by; text or numbers.
        strict: raise instead of falling back; for tests.
        rollback: what to do when a decision advises it, because the run has diverged. True: keep a healthy state in
            host memory every 250 steps and put it back; a function: call it, to load a checkpoint of yours.

    Raises:
        ValueError: `trust` and the optimizer do not go together, or nothing can control it (LBFGS, `DCAO`); the
            message says what does.
        TypeError: `loss`, `bounds` or `labels` have another shape; the message says which is wanted.
        SettingsError: `DCAO_ENABLED`, `DCAO_TRUST` or a setting of the session does not fit.

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
        True
    """
    switches = HookSettings.read()
    if not switches.enabled:
        return Disabled()
    check_model(model)
    check_optimizer(optimizer)
    check_bounds(bounds)
    check_loss(loss)  # before an earlier attachment is let go
    _let_go(optimizer)
    choice = policy if isinstance(policy, PolicyChoice) else PolicyChoice(name=policy, params=policy_params or {})
    follows = get_policy(choice.name).follows_path
    kind = (
        f"{type(optimizer).__name__}; use trust='watch', or one of torch's SGD, Adam, AdamW, NAdam, RAdam, Adamax, "
        "RMSprop, Adagrad"
    )
    trust = how_far(trust or switches.trust, optimizer_name(optimizer), kind, choice.name, bounds, follows=follows)
    groups = ParamGroups(
        optimizer,
        max_momentum=(bounds or Bounds()).max_momentum,
        scale="path" if trust in ("guard", "auto") and follows else "user",
        guarded=trust == "guard",
    )
    default = PATH_INTERVAL if follows else 100
    interval = default if probe_interval is None else probe_interval
    declared: dict[str, Any] = {
        "optimizer": optimizer_name(optimizer),
        "base": groups.user(),
        "policy": choice,
        "scale": groups.scale,
        "trust": trust,
        "probe_interval": interval,
        "labels": read_labels(labels),
    }
    spec = RunSpec(**declared) if bounds is None else RunSpec(**declared, bounds=bounds)
    attachment = control(
        model, optimizer, loss, groups, spec,
        run=run, project=project, url=url, overhead=overhead, probe_data=probe_data, probe=probe,
        collective=collective, deadline=deadline, journal_dir=journal_dir, strict=strict,
        stretch=follows and probe_interval is None, rollback=rollback,
    )  # fmt: skip
    if attachment.session is not None:  # one rank speaks
        groups.after_update = attachment.order.updated
    setattr(optimizer, ATTACHED, attachment)
    return attachment


def _let_go(optimizer: Optimizer) -> None:
    """Refuses what cannot be controlled; takes off what an earlier `attach` put on (a notebook cell run twice)."""
    if isinstance(getattr(optimizer, "control", None), Attachment):
        raise ValueError("expected an optimizer of yours, got DCAO, which controls itself: see its .control")
    if isinstance(optimizer, LBFGS):
        raise ValueError(
            "expected an optimizer that takes one gradient a step, got LBFGS; its line search sets the step"
        )
    earlier: Attachment | None = getattr(optimizer, ATTACHED, None)
    if earlier is not None:
        log.warning("DCAO: this optimizer was attached already; the new attachment takes the place of the earlier one")
        earlier.replaced()


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
    if not HookSettings.read().enabled:
        return Disabled(controlled)
    check_loss(loss)
    probing = Probe(model, loss, optimizer=optimizer, settings=probe_settings(probe, probe_data), collective=collective)
    back = (
        (LastGood(probing.model, optimizer, controlled) if rollback else None)
        if isinstance(rollback, bool)
        else rollback
    )
    return assemble(
        probing, controlled, spec,
        run=run, project=project, url=url, overhead=overhead, probe_data=probe_data, deadline=deadline,
        journal_dir=journal_dir, strict=strict, stretch=stretch, rollback=back,
    )  # fmt: skip
