"""How the store is: said once whenever it changes, and kept for whoever asks."""

import structlog

from dcao_server.store.contract import StoreUnavailableError
from dcao_server.store.trouble import Trouble

_log = structlog.get_logger("dcao.store")
WROTE = frozenset({"ping"})
"""Operations that have written when they succeed. A full or read-only store goes on answering the others: a replica
says that a step is in the history, or that there is no such run."""


class StoreCondition:
    """What is wrong with the store, if anything; the log has a line for each change."""

    def __init__(self) -> None:
        self.trouble: Trouble | None = None

    def failed(self, error: StoreUnavailableError) -> None:
        """A call did not succeed."""
        before, self.trouble = self.trouble, error.trouble
        if before is None or before.kind is not error.trouble.kind:
            kind = error.trouble.kind
            _log.error(
                "the store cannot be used", kind=kind.label, said=error.trouble.said, meaning=kind.meaning, fix=kind.fix
            )

    def answered(self, *, wrote: bool) -> bool:
        """A call succeeded, and something was written by it or maybe not; whether the store is well now."""
        if self.trouble is None:
            return True
        if self.trouble.kind.readable and not wrote:
            return False
        _log.info("the store can be used again", after=self.trouble.kind.label)
        self.trouble = None
        return True
