"""`with` around a training: the run ends as its block did."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any, Self


class RunContext(ABC):
    """Says at the end of a block whether the run ended well or with an exception, which goes on."""

    @abstractmethod
    def finish(self, reason: str | None = None) -> Any:
        """The run ended well."""

    @abstractmethod
    def fail(self, reason: str | None = None) -> Any:
        """The run failed."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.finish()
        else:
            self.fail(in_words(error))


def in_words(error: BaseException) -> str:
    """An exception of the user's, as the reason of a failure."""
    try:
        return f"{type(error).__name__}: {error}"
    except Exception:  # noqa: BLE001  (it may not know how to say what it is)
        return type(error).__name__
