"""Is a run that should observe overdue? Computed when somebody looks; nothing has to watch."""

from dcao_proto import Run
from dcao_proto.run import RunStatus
from dcao_server.runs.readable import readable_about, readable_spec
from dcao_server.store.contract import StoredRun


def status_of(run: StoredRun, now: float, *, factor: float, floor: float) -> RunStatus:
    """The stored status, or stale for an active run that missed observations.

    A run's usual interval is its mean time between decisions so far. It is stale after `factor` of them in silence,
    and never before `floor` seconds.
    """
    if run.status != "active":
        return run.status
    # The first decision comes one interval after the creation, so there are as many intervals as decisions.
    usual = (run.updated_at - run.created_at) / max(run.version, 1)
    return "stale" if now - run.updated_at > max(floor, factor * usual) else "active"


def describe(run: StoredRun, status: RunStatus) -> Run:
    """The run as the wire has it."""
    return Run(
        project=run.key.project,
        run=run.key.run,
        spec=readable_spec(run.spec),
        status=status,
        attempt=run.attempt,
        version=run.version,
        last_step=run.last_step,
        created_at=run.created_at,
        updated_at=run.updated_at,
        decisions=run.decisions,
        reason=run.reason,
        about=readable_about(run.about),
    )
