"""What can go wrong in the client. None of it reaches a training loop unless the session is strict."""


class DcaoError(Exception):
    """Base of the client's errors."""


class SettingsError(DcaoError, ValueError):
    """A setting or argument does not fit; the message says what was expected and never holds a secret."""


class CheckpointError(DcaoError, ValueError):
    """What was given to `load_state_dict` is not what it takes; the message says what is."""


class UnreachableError(DcaoError):
    """No usable answer: the network, the controller or its store failed. The same request may succeed later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class AnswerError(UnreachableError):
    """An answer came that cannot be believed: unreadable, too large, or not one that the run allows.

    Attributes:
        kind: what was wrong with it, from a short list, so that each is logged once.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class RefusedError(DcaoError):
    """The controller understood and said no. The same request will not succeed later.

    Attributes:
        slug: kind of problem, for example `run-conflict` or `fenced`.
        status: HTTP status.
        newer: the controller does not know a field that we sent: it is older than this client, or is being upgraded.
    """

    def __init__(self, slug: str, status: int, detail: str, *, newer: bool = False) -> None:
        super().__init__(f"{slug}: {detail}")
        self.slug = slug
        self.status = status
        self.newer = newer
