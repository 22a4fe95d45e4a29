"""Session, cadence and attachment around what is measured and what is controlled, whatever the framework."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dcao_client.hooks.attachment import Attachment
from dcao_client.hooks.batch_part import Probes
from dcao_client.hooks.cadence import Cadence
from dcao_client.hooks.controlled import Controlled
from dcao_client.hooks.ranks import is_talker
from dcao_client.session import Session
from dcao_client.spectrum.settings import ProbeSettings
from dcao_proto import RunSpec
from dcao_proto.policy import get_policy

WARM_UP_PROBES = 7  # at 0, 1, 2, 4, 8, 16 and 32: lent, or the ceiling would come after the cliff


def probe_settings(chosen: ProbeSettings | None, probe_data: Any) -> ProbeSettings:
    """The numerical choices of a probe, where nobody made them."""
    return chosen or ProbeSettings(batch_policy="current" if probe_data is None else "fixed")


def assemble(
    probing: Probes,
    controlled: Controlled,
    spec: RunSpec,
    *,
    run: str | None,
    project: str | None,
    url: str | None,
    overhead: float | None,
    probe_data: Any,
    deadline: float | None,
    journal_dir: Path | str | None,
    strict: bool,
    stretch: bool,
    rollback: Callable[[], Any] | None = None,
    counted: bool = True,
) -> Attachment:
    """What `attach` gives back; its arguments are described there.

    Args:
        stretch: the interval is ours, so it may follow what a probe costs.
        counted: the attachment is told of each update.

    Raises:
        SettingsError: a setting of the session does not fit.
    """
    session = None
    if is_talker():
        session = Session(
            spec, run=run, project=project, url=url, deadline=deadline, journal_dir=journal_dir, strict=strict
        )
    follows = get_policy(spec.policy.name).follows_path
    cadence = Cadence(spec.probe_interval, overhead, lent=WARM_UP_PROBES if follows else 0)
    return Attachment(
        probing, controlled, session, cadence, probe_data,
        with_gap=not follows, stretch=stretch, rollback=rollback, counted=counted,
    )  # fmt: skip
