"""One live run as its metrics show it: the run, its newest record, and the statistics in its state token."""

from dataclasses import dataclass

from dcao_proto import Record
from dcao_proto.optimizers import stability_threshold, stochastic_threshold
from dcao_proto.policy.state import PolicyState
from dcao_proto.policy.token import InvalidTokenError, decode_state, split
from dcao_proto.run import RunSpec
from dcao_server.history.codec import decode
from dcao_server.runs.readable import readable_spec
from dcao_server.store.contract import StoredRecord, StoredRun


@dataclass(frozen=True, slots=True)
class RunSnapshot:
    """What one scrape says of one run. `record` is its newest, None before the first decision of the attempt."""

    stored: StoredRun
    spec: RunSpec
    record: Record | None
    state: PolicyState
    stale: bool

    @property
    def regime(self) -> str:
        """Of the newest decision; `calibrating` before the first."""
        return self.record.decision.regime if self.record is not None else "calibrating"

    @property
    def sharpness_limit(self) -> float | None:
        """The sharpness at which the learning rate in force meets the edge of stability: threshold / η."""
        if self.record is None or self.record.decision.lr <= 0:
            return None
        threshold = stability_threshold(self.spec.optimizer, self.record.decision.momentum)
        return None if threshold is None else threshold / self.record.decision.lr

    @property
    def batch_edge_ratio(self) -> float | None:
        """η·(batch sharpness) / 2(1−β): 1 is where small-batch training becomes unstable."""
        if self.record is None or self.record.observation.batch_sharpness is None:
            return None
        threshold = stochastic_threshold(self.spec.optimizer, self.record.decision.momentum)
        if threshold is None:
            return None
        return self.record.decision.lr * self.record.observation.batch_sharpness / threshold


def snapshot(stored: StoredRun, newest: StoredRecord | None, *, stale: bool) -> RunSnapshot:
    """The run's snapshot. A state that this controller cannot read (a newer one wrote it) leaves its statistics out.

    Raises:
        ValueError: the newest record has another schema than this controller's.
    """
    record = None if newest is None else decode(newest)
    return RunSnapshot(stored, readable_spec(stored.spec), record, _state_of(stored.state), stale)


def _state_of(token: str) -> PolicyState:
    try:
        return decode_state(split(token)[1])
    except InvalidTokenError:
        return PolicyState()
