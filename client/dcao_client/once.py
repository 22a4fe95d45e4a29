"""What must not go unsaid, but need not be said twice."""

import contextlib
import logging

log = logging.getLogger("dcao")


class Once:
    """Warns of each kind of trouble the first time. Never raises: a broken log handler must not stop training."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def warn(self, kind: str, message: str, *args: object) -> None:
        """Logs a warning unless one of this kind was logged before; kinds are ours, so there are few."""
        if kind not in self._said:
            self._said.add(kind)
            self.always(logging.WARNING, message, *args)

    def again(self, kind: str) -> None:
        """The next one of this kind is news."""
        self._said.discard(kind)

    def always(self, level: int, message: str, *args: object) -> None:
        """Logs at any rate."""
        with contextlib.suppress(Exception):  # there is nowhere left to say it
            # Exceptions as text: a handler that keeps records would keep their frames, and with them whole answers.
            log.log(level, message, *(str(arg) if isinstance(arg, BaseException) else arg for arg in args))
