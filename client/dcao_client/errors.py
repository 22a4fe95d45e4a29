"""What can go wrong in the client. None of it reaches a training loop unless the session is strict."""


class DcaoError(Exception):
    """Base of the client's errors."""


class UnreachableError(DcaoError):
    """No usable answer: the network, the controller or its store failed. The same request may succeed later."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(DcaoError):
    """The controller understood and said no. The same request will not succeed later.

    Attributes:
        slug: kind of problem, for example `run-conflict` or `fenced`.
        status: HTTP status.
    """

    def __init__(self, slug: str, status: int, detail: str) -> None:
        super().__init__(f"{slug}: {detail}")
        self.slug = slug
        self.status = status
