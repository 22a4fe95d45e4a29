"""How the store is: said once whenever it changes, and kept for whoever asks."""

import structlog

from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import Trouble, TroubleKind

_log = structlog.get_logger("dcao.store")
WROTE = frozenset({"ping"})
"""Operations that have written when they succeed. A full or read-only store goes on answering the others: a replica
says that a step is in the history, or that there is no such run."""


MOST_SAID = 100
"""Troubles with single keys that are told apart in the log; further ones are in the metric only."""


class StoreCondition:
    """What is wrong with the store, if anything; the log has a line for each change."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None
        self._said: set[str] = set()

    def failed(self, error: StoreUnavailableError) -> bool:
        """A call did not succeed; whether the store as a whole is the trouble, and not one key."""
        if error.trouble.kind is TroubleKind.FOREIGN:
            self._foreign(error.trouble)
            return False
        before, self.trouble = self.trouble, error.trouble
        if before is None or before.kind is not error.trouble.kind:
            kind = error.trouble.kind
            _log.error(
                "the store cannot be used", kind=kind.label, said=error.trouble.said, meaning=kind.meaning, fix=kind.fix
            )
        return True

    def _foreign(self, trouble: Trouble) -> None:
        """Once for each key or operation: a worker comes again every few seconds, and the other runs are well."""
        if trouble.said not in self._said and len(self._said) < MOST_SAID:
            self._said.add(trouble.said)
            kind = trouble.kind
            _log.error("a key cannot be used", kind=kind.label, said=trouble.said, meaning=kind.meaning, fix=kind.fix)

    def answered(self, *, wrote: bool) -> bool:
        """A call succeeded, and something was written by it or maybe not; whether the store is well now."""
        if self.trouble is None:
            return True
        if self.trouble.kind.readable and not wrote:
            return False
        _log.info("the store can be used again", after=self.trouble.kind.label)
        self.trouble = None
        return True
