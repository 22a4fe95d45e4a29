"""What would another policy have decided? The recorded observations, in order, under its law.

The curvature that was measured belongs to the values that were used; a replay says what another law would have answered
to it, not how the training would have gone.
"""

from collections.abc import AsyncIterator, Sequence

from dcao_proto import Decision, Record
from dcao_proto.policy import BoundPolicy, PolicyState
from dcao_proto.policy.token import decode_state, split
from dcao_server.history.formats import Batches
from dcao_server.history.thinning import Thinner
from dcao_server.turns import Turn


class Replay:
    """Walks a history under a policy.

    An attempt that went on from a checkpoint goes on from the replayed state of that checkpoint: the version at which
    the attempt began says where.

    Args:
        policy: the other policy, bound to the run's specification.
        starts: versions at which later attempts began; the states there are kept.
    """

    def __init__(self, policy: BoundPolicy, starts: Sequence[int]) -> None:
        self._policy = policy
        self._awaited = set(starts)
        self._kept: dict[int, PolicyState] = {}
        self._state = PolicyState()
        self._version = 0
        self._attempt: int | None = None
        self._keep()

    def decide(self, record: Record) -> Decision:
        """What the policy would have decided at the record's step."""
        if self._attempt is not None and record.attempt != self._attempt:
            self._version = max(record.decision.version - 1, 0)
            self._state = self._kept.get(self._version, self._state)
        self._attempt = record.attempt
        decision = self._policy.decide(record.observation, self._state, self._version)
        assert decision.state is not None  # noqa: S101  (policies always give one)
        self._state = decode_state(split(decision.state)[1])
        self._version = decision.version
        self._keep()
        return decision.model_copy(update={"state": None})

    def _keep(self) -> None:
        if self._version in self._awaited:
            self._kept[self._version] = self._state


async def outlined(replay: Replay, batches: Batches, points: int) -> AsyncIterator[bytes]:
    """At most so many of the decisions, with the extremes of learning rate and edge ratio among them."""
    thinner: Thinner[Decision] = Thinner(points, 2)
    turn = Turn()
    async for batch in batches:
        for record in batch:
            decision = replay.decide(record)
            thinner.add(decision, (decision.lr, decision.edge_ratio))
            await turn.breathe()
    yield b"".join(decision.wire_json() + b"\n" for decision in thinner.items())


async def decisions(replay: Replay, batches: Batches) -> AsyncIterator[bytes]:
    """The decisions, one JSON object a line, in the order of the records."""
    turn = Turn()
    async for batch in batches:
        lines = []
        for record in batch:
            lines.append(replay.decide(record).wire_json() + b"\n")
            await turn.breathe()
        yield b"".join(lines)
